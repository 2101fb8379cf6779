/* The one small exchange of a training step: every leaf leaves a record of doubles (losses, BatchNorm
 * statistics), every rank a header (times of phases, digests) and a vote (its error, its wish to stop);
 * afterwards every rank holds all of them.
 *
 * A step:   es_leafgather_begin(g, n_active)            forgets the last step; my block is zeroed
 *           es_leafgather_record(g, leaf)[..] = ..      for each of my leaves, as the reducer hands them out
 *           es_leafgather_header(g)                     my header, any struct without pointers
 *           rc = es_leafgather_all(g, rc, stop, err)    the exchange, which is also es_err_agree_all
 *           es_leafgather_leaf(g, leaf)                 any leaf 0..n_active-1, in leaf order
 *           es_leafgather_rank_header(g, rank)          any rank's header
 *
 * Leaves belong to ranks as in reducer.h (es_reducer_rank_of_leaf); here any number of ranks will do, ranks
 * without a leaf included. One allgather of equal blocks, copies only: the same bits for every number of
 * ranks. Collectivity: new, all, free are collective; the others are local. No allocation after
 * es_leafgather_new_all.
 */
#ifndef EARSHOT_LEAFGATHER_H
#define EARSHOT_LEAFGATHER_H

#include <stdbool.h>
#include <stddef.h>

#include "earshot/comm.h"

struct es_leafgather;

/* All arguments same on all ranks. n_leaves >= 1: leaves of a full step; record_doubles >= 0 a leaf;
 * header_bytes >= 0 a rank. */
int es_leafgather_new_all(struct es_leafgather **g, const struct es_comm *c, int n_leaves, int record_doubles,
                          size_t header_bytes, struct es_err *err);
void es_leafgather_free_all(struct es_leafgather **g);

/* 1 <= n_active <= n_leaves, same on all ranks. */
void es_leafgather_begin(struct es_leafgather *g, int n_active);
/* [record_doubles] to fill; a leaf of another rank is a bug. */
double *es_leafgather_record(struct es_leafgather *g, int leaf);
/* [header_bytes] to fill, 16-byte aligned. */
void *es_leafgather_header(struct es_leafgather *g);

/* rc, err: as in es_err_agree_all, whose result it returns (err not NULL). stop: this rank wishes to stop.
 * After an error the records are there all the same, some of them not filled. */
int es_leafgather_all(struct es_leafgather *g, int rc, bool stop, struct es_err *err);
/* Some rank wished to stop: the same answer on all ranks. */
bool es_leafgather_stop(const struct es_leafgather *g);

/* Valid until the next begin. Records of all leaves lie one after the other: that of leaf 0 begins the array.
 */
const double *es_leafgather_leaf(const struct es_leafgather *g, int leaf);
const void *es_leafgather_rank_header(const struct es_leafgather *g, int rank);

#endif
