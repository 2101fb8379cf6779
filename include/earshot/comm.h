/* Ranks: a duplicated communicator, agreement on errors, small exchanges, signals and the watchdog.
 *
 * A module that communicates duplicates the communicator it is given (es_comm_dup_all) and frees its copy.
 * The suffix _all marks collective calls: every rank reaches them, in the same order. MPI is initialised with
 * MPI_THREAD_FUNNELED: only the main thread calls. Reductions over floating point numbers are not offered
 * here: sums that must not depend on the number of ranks go through reducer.h.
 *
 * Between a local failure and the next collective there is always es_err_agree_all.
 *
 * A failing MPI call cannot be repaired (MPI 3 does not survive a lost rank): one line on stderr, all ranks
 * end with 74. An ES_ASSERT that does not hold ends all ranks with 70. Byte counts are size_t everywhere;
 * what is too large for MPI's int counts travels in pieces.
 */
#ifndef EARSHOT_COMM_H
#define EARSHOT_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_comm;

/* MPI_Init_thread, the world communicator duplicated, the fatal handler installed (a bug ends all ranks with
 * its code). argc and argv as in main. On error *c is NULL and es_comm_fini_all still to be called. */
int es_comm_init_all(struct es_comm **c, int *argc, char ***argv, struct es_err *err);
/* Frees c and calls MPI_Finalize; reached exactly once on every path. */
void es_comm_fini_all(struct es_comm **c);
int es_comm_dup_all(struct es_comm **out, const struct es_comm *c, struct es_err *err);
/* One communicator per color (>= 0), ranks in the order of c. */
int es_comm_split_all(struct es_comm **out, const struct es_comm *c, int color, struct es_err *err);
/* One communicator per node (ranks that can share memory), ranks in the order of c. */
int es_comm_split_node_all(struct es_comm **out, const struct es_comm *c, struct es_err *err);
void es_comm_free_all(struct es_comm **c);
int es_comm_rank(const struct es_comm *c);
int es_comm_size(const struct es_comm *c);
/* The MPI_Comm, as a pointer to it, for the few libraries that want one (io, linalg, fftmpi). */
const void *es_comm_mpi(const struct es_comm *c);

/* Makes one result of every rank's rc. Some rank failed (rc < 0): the code, message and hint of the lowest
 * failing rank, on all ranks, the message prefixed with "rank N" when size > 1 (once: an error agreed on
 * before keeps its first prefix). No rank failed: the largest rc, so 0 when all are 0. err must not be NULL.
 * One small reduction; a broadcast after failure. */
int es_err_agree_all(const struct es_comm *c, int rc, struct es_err *err);

void es_comm_barrier_all(const struct es_comm *c);
void es_comm_bcast_all(const struct es_comm *c, void *data, size_t bytes, int root);
/* bytes (same on all ranks) from every rank, in rank order, to every rank. out: size * bytes; in may be its
 * own part of out. */
void es_comm_allgather_all(const struct es_comm *c, const void *in, size_t bytes, void *out);
/* As above with one count (bytes) a rank, same on all ranks; out packed in rank order. */
void es_comm_allgatherv_all(const struct es_comm *c, const void *in, const size_t *bytes, void *out);
int64_t es_comm_max_all(const struct es_comm *c, int64_t v);
int64_t es_comm_min_all(const struct es_comm *c, int64_t v);
int64_t es_comm_sum_all(const struct es_comm *c, int64_t v);
double es_comm_slowest_s_all(const struct es_comm *c, double seconds); /* the largest, in whole nanoseconds */
/* Debug help: a bug unless v is the same on all ranks. */
void es_comm_assert_same_all(const struct es_comm *c, uint64_t v);
/* Point to point, blocking, for whole blocks (embeddings of the frozen transformer). */
void es_comm_send(const struct es_comm *c, const void *data, size_t bytes, int to, int tag);
void es_comm_recv(const struct es_comm *c, void *data, size_t bytes, int from, int tag);
/* Sends to one rank and receives from another at once, each of any size. */
void es_comm_exchange(const struct es_comm *c, const void *out, size_t out_bytes, int to, void *in,
                      size_t in_bytes, int from, int tag);

/* Signals: SIGUSR1, SIGUSR2, SIGTERM and SIGINT set a flag, nothing else. The flag rides in exchanges that are made
 * anyway (the vote of leafgather.h). Local. */
void es_stop_install(void);
bool es_stop_requested(void);

/* Watchdog: a thread that ends the process with 74 when no es_watchdog_kick came for timeout_s; first it
 * prints "rank R: no progress for N s in phase X, step S", then waits a moment so that every stuck rank can
 * do so: the rank that holds up the others is the one with another phase or an older step. timeout_s <= 0:
 * off. Time in which the process was suspended does not count. phase: a string literal. The thread calls
 * neither MPI nor HDF5. Local; the launcher ends the other ranks. */
int es_watchdog_begin(double timeout_s, int rank, struct es_err *err);
void es_watchdog_kick(const char *phase, int64_t step);
void es_watchdog_end(void);

#endif
