/* Sums gradients over leaves and ranks in one fixed binary tree, so that the result has the same bits for
 * every number of ranks (ARCHITECTURE.md section 5).
 *
 * S = n_leaves rounded up to a power of two; leaf j sits in slot bitreverse(j, log2 S); rank r owns slots
 * r*S/P .. (r+1)*S/P - 1. Within a rank partial sums merge like a binary counter; across ranks level k
 * exchanges with rank XOR 2^k, the nearest first: each keeps one half of its segment and adds (lower rank's
 * value + upper rank's value). Empty slots are empty nodes: the sibling moves up by copy, no zero is added.
 * The vector is cut into buckets of bucket_elements (last one zero-padded), each travelling alone, in any
 * order, while backward goes on.
 *
 * A step:   es_reducer_begin(r, n_active)         leaves 0..n_active-1 are there; the rest of a short step is empty
 *           for each of my leaves in slot order:  es_reducer_n_mine, es_reducer_leaf
 *               g = es_reducer_leaf_begin(r, i)   not zeroed: the leaf overwrites every element it ever writes
 *               ... backward ...
 *               es_reducer_ready(r, offset, n)    this range is final (counts on the last leaf, ignored before)
 *               es_reducer_poll(r)                between tape operations: moves messages, never blocks
 *               es_reducer_leaf_end(r, i)         everything is final
 *           es_reducer_finish_all(r)              the sums of my segments are in es_reducer_segment(...).sum
 *           ... change my segments of the parameters ...
 *           es_reducer_gather_all(r, values)      all segments of values to all ranks (copies)
 *
 * More ranks than leaves (stage 1): pass n_leaves = max(L, P). Leaves L.. are then never active, and doubling
 * S changes neither the tree nor, therefore, a bit of the sums.
 *
 * Collectivity: new, finish, norm2, gather, free are collective; the others are local. P must be a power of
 * two and <= S. Memory: log2(S/P)+1 vectors of the gradient, half a vector more when every rank has one slot
 * (P = S > 1): received halves land in memory of leaves already merged, or there. No allocation after
 * es_reducer_new_all.
 */
#ifndef EARSHOT_REDUCER_H
#define EARSHOT_REDUCER_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"

struct es_reducer;

struct es_segment {    /* a range of the vector that this rank owns after the exchange */
    int64_t offset, n; /* n may be 0: a part of the padding */
    float *sum;        /* [n] valid between finish and the next begin */
};

/* All arguments same on all ranks. n_elements >= 1: length of the gradient vector; n_leaves >= 1: leaves of a
 * full step; bucket_elements: a multiple of 1024 up to 2^22, or 0: chosen from n_elements, at most 2^22, all
 * about full.
 * ES_EUSAGE when P is not a power of two or exceeds S (the message names the numbers that would do) or for
 * another bad argument. */
int es_reducer_new_all(struct es_reducer **r, const struct es_comm *c, int64_t n_elements, int n_leaves,
                       int64_t bucket_elements, struct es_err *err);
/* Also in the middle of a step, when all ranks leave together. */
void es_reducer_free_all(struct es_reducer **r);

int es_reducer_n_slots(const struct es_reducer *r);
int es_reducer_slot_of_leaf(int n_leaves, int leaf);              /* bit reversal; pure */
int es_reducer_rank_of_leaf(int n_leaves, int n_ranks, int leaf); /* pure; any n_ranks: slot * n_ranks / S */

void es_reducer_begin(struct es_reducer *r, int n_active); /* 1 <= n_active <= n_leaves, same on all ranks */
int es_reducer_n_mine(const struct es_reducer *r);         /* leaves of this rank in this step */
int es_reducer_leaf(const struct es_reducer *r, int i);    /* leaf index of my i-th leaf, in slot order */
/* Gradient vector [n_elements] of my i-th leaf; i = 0, 1, .. in order. It holds zeros at first, later what
 * earlier leaves and sums left there: write everything, or never write an element at all (gaps between
 * parameters stay zero). */
float *es_reducer_leaf_begin(struct es_reducer *r, int i);
/* This range of the current leaf's vector will not change any more. Ranges of a leaf do not overlap (a bug)
 * and come in any order; include gaps between parameters, else their bucket waits for es_reducer_leaf_end. */
void es_reducer_ready(struct es_reducer *r, int64_t offset, int64_t n);
void es_reducer_poll(struct es_reducer *r);
void es_reducer_leaf_end(struct es_reducer *r, int i);
/* This rank cannot compute its remaining leaves (a read failed): it takes part in the exchange with whatever
 * is in memory, so that nobody waits. The sums are meaningless on all ranks; an error flag must drop the
 * step. Then es_reducer_finish_all. */
void es_reducer_abandon(struct es_reducer *r);
int es_reducer_finish_all(struct es_reducer *r, struct es_err *err);

/* My segments, one a bucket, by increasing offset; those of all ranks cover the vector exactly. The same in
 * every step. */
int es_reducer_n_segments(const struct es_reducer *r);
struct es_segment es_reducer_segment(struct es_reducer *r, int i);
/* values [n_elements]: each rank's segments are right on entry; all of it is on return. */
int es_reducer_gather_all(struct es_reducer *r, float *values, struct es_err *err);

/* Sum of squares of the summed gradient, after finish: the same bits on any number of ranks. Fixed tree:
 * every bucket has 1024 blocks of bucket_elements / 1024 elements (4096 for the largest bucket); a block is
 * summed in double in eight interleaved chains, blocks of a bucket in a perfect binary tree (a segment is a
 * whole subtree for P up to 1024), buckets in order. Collective (one allgather of one double per bucket). */
double es_reducer_norm2_all(struct es_reducer *r);

double es_reducer_exposed_s(const struct es_reducer *r); /* waiting in the last finish and gather */
/* This rank's, of gradients in the last step and parameters in its gather: about 2 (1 - 1/P) of the vector. */
int64_t es_reducer_sent_bytes(const struct es_reducer *r);
int64_t es_reducer_bytes(const struct es_reducer *r); /* memory held */

#endif
