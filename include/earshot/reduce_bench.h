/* `earshot bench reduce`: seconds to sum one gradient vector over all ranks and have the sum everywhere, by
 * the reducer and by MPI's own collectives, on the same buffers in the same run.
 *
 * for (int i = 0; (name = es_reducer_bench_algorithm(i)); i++) es_reducer_bench_all(c, bytes, name, 5,
 * &seconds, err);
 */
#ifndef EARSHOT_REDUCE_BENCH_H
#define EARSHOT_REDUCE_BENCH_H

#include <stdint.h>

#include "earshot/comm.h"

/* "earshot", "mpi_allreduce", "mpi_reduce_scatter_allgather"; NULL after the last. */
const char *es_reducer_bench_algorithm(int i);

/* One warm-up, then the median over n_repeats (>= 1) of the slowest rank's time. bytes: of the float vector
 * (rounded up to whole floats for every rank). Every repeat's result is compared with the known sum: a wrong
 * one is a bug. "earshot" wants a power of two of ranks (ES_EUSAGE otherwise, on all ranks). Collective;
 * arguments and result same on all ranks. */
int es_reducer_bench_all(const struct es_comm *c, int64_t bytes, const char *algorithm, int n_repeats,
                         double *seconds, struct es_err *err);

#endif
