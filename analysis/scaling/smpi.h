/* Put in front of every source of the program that simulate.c runs (-include): MPI as SimGrid has it.
 *
 * - SMPI knows one thread a rank; the program asks for MPI_THREAD_FUNNELED.
 * - The adding of what came in takes time that SimGrid does not see (real time is not simulated): charged where messages complete.
 */
#ifndef EARSHOT_SCALING_SMPI_H
#define EARSHOT_SCALING_SMPI_H

#include <mpi.h>

int sim_init_thread(int *argc, char ***argv, int required, int *provided);
int sim_testsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status);
int sim_waitsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status);

#ifndef ES_SIM_MAIN
#undef MPI_Init_thread
#undef MPI_Testsome
#undef MPI_Waitsome
#define MPI_Init_thread sim_init_thread
#define MPI_Testsome sim_testsome
#define MPI_Waitsome sim_waitsome
#endif

#endif
