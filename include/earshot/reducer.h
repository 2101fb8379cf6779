/* Sums gradients over leaves and ranks in one fixed binary tree, so that the result has the same bits for
 * every number of ranks (ARCHITECTURE.md section 5).
 *
 * S = n_leaves rounded up to a power of two; leaf j sits in slot bitreverse(j, log2 S); rank r owns slots
 * r*S/P .. (r+1)*S/P - 1. Within a rank partial sums merge like a binary counter; across ranks level k
 * exchanges with rank XOR 2^k, the nearest first: each keeps one half of its segment and adds (lower rank's
 * value + upper rank's value). Empty slots are empty nodes: the sibling moves up by copy. The vector is cut
 * into buckets of bucket_elements (last one zero-padded), each travelling alone while backward goes on.
 *
 * A step:   es_reducer_begin(r, n_active)                      leaves 0..n_active-1 are there, the rest of a
 * short window is empty for each of my leaves in slot order:               (es_reducer_n_mine,
 * es_reducer_leaf) g = es_reducer_leaf_begin(r, i)                zeroed? no: the leaf overwrites every
 * element it declared backward ... es_reducer_ready(r, offset, n)    on the last leaf only: this range is
 * final es_reducer_poll(r)                             between tape operations: moves messages, never blocks
 *               es_reducer_leaf_end(r, i)
 *           es_reducer_finish_all(r)                           the sums of my segments are in
 * es_reducer_segment(...).sum
 *           ... change my segments of the parameters ...
 *           es_reducer_gather_all(r, values)                   all segments of values to all ranks (copies)
 *
 * Collectivity: new, finish, gather, free are collective; the others are local. P must be a power of two and
 * <= S. Memory: log2(S/P)+1 vectors of the gradient, one bucket of receive space per level.
 */
#ifndef EARSHOT_REDUCER_H
#define EARSHOT_REDUCER_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"

struct es_reducer;

struct es_segment { /* a range of the vector that this rank owns after the exchange */
    int64_t offset, n;
    float *sum; /* [n] valid between finish and the next begin */
};

/* n_elements: length of the gradient vector; bucket_elements: a multiple of 1024 (0: 2^22). ES_EUSAGE when P
 * is not a power of two or exceeds S; the message names the numbers that would do. */
int es_reducer_new_all(struct es_reducer **r, const struct es_comm *c, int64_t n_elements, int n_leaves,
                       int64_t bucket_elements, struct es_err *err);
void es_reducer_free_all(struct es_reducer **r);

int es_reducer_n_slots(const struct es_reducer *r);
int es_reducer_slot_of_leaf(int n_leaves, int leaf); /* bit reversal; pure */
int es_reducer_rank_of_leaf(int n_leaves, int n_ranks, int leaf);

void es_reducer_begin(struct es_reducer *r, int n_active);
int es_reducer_n_mine(const struct es_reducer *r);      /* leaves of this rank in this step */
int es_reducer_leaf(const struct es_reducer *r, int i); /* leaf index of my i-th leaf, in slot order */
float *es_reducer_leaf_begin(struct es_reducer *r,
                             int i); /* gradient vector [n_elements] of this leaf, zeroed */
void es_reducer_ready(struct es_reducer *r, int64_t offset, int64_t n);
void es_reducer_poll(struct es_reducer *r);
void es_reducer_leaf_end(struct es_reducer *r, int i);
int es_reducer_finish_all(struct es_reducer *r, struct es_err *err);
int es_reducer_n_segments(const struct es_reducer *r);
struct es_segment es_reducer_segment(struct es_reducer *r, int i);
int es_reducer_gather_all(struct es_reducer *r, float *values, struct es_err *err);

/* Sum of squares of my segments in blocks of 4096 elements, summed in double in a perfect binary tree over
 * the whole vector's blocks: the same bits on any number of ranks. Collective (one allgather of one double
 * per bucket piece). */
double es_reducer_norm2_all(struct es_reducer *r);

double
es_reducer_exposed_s(const struct es_reducer *r); /* seconds spent waiting in the last finish and gather */
int64_t es_reducer_bytes(const struct es_reducer *r); /* memory held */

#endif
