/* Put in front of every source of the program that simulate.c runs (-include): MPI as SimGrid has it.
 *
 * - SMPI knows one thread a rank; the program asks for MPI_THREAD_FUNNELED.
 * - An element of the reducer stands for SIM_SCALE floats: messages are longer by that, and come from memory that nobody touches, so
 *   that 1,024 ranks fit into one machine. Buckets are smaller by the same factor: as many, at the same moments, with the same partners.
 * - The adding of what came in takes time that SimGrid does not see (real time is not simulated): charged where messages complete.
 */
#ifndef EARSHOT_SCALING_SMPI_H
#define EARSHOT_SCALING_SMPI_H

#include <mpi.h>

#define SIM_SCALE 1024

int sim_init_thread(int *argc, char ***argv, int required, int *provided);
int sim_isend(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request);
int sim_irecv(void *data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request);
int sim_testsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status);
int sim_waitsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status);

#undef MPI_Init_thread
#undef MPI_Isend
#undef MPI_Irecv
#undef MPI_Testsome
#undef MPI_Waitsome
#define MPI_Init_thread sim_init_thread
#define MPI_Isend sim_isend
#define MPI_Irecv sim_irecv
#define MPI_Testsome sim_testsome
#define MPI_Waitsome sim_waitsome

#endif
