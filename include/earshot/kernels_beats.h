/* Kernels of BEATs (spec/models.md section 2.3): attention with a gated relative position bias, its gate and its table of
 * buckets, the grouped convolution over tokens and its weight norm.
 *
 * Functions and contract as in kernels_crnn.h: es_k_<op>, _fast, _ref_f32, _ref_f64; kernels_beats_proto.h holds the prototypes.
 * The position bias is never a [T,T] matrix: row i of head h reads bias[h, T-1-i .. 2T-2-i]. Results do not depend on the number
 * of threads.
 */
#ifndef EARSHOT_KERNELS_BEATS_H
#define EARSHOT_KERNELS_BEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/rng.h"

/* Dropout of probabilities: element (b,h,i,j) is number ((b H + h) T + i) S + j of the stream, S = T rounded up to 32, and is kept
 * and scaled as es_k_dropout does. drop 0: rng unused. */
struct es_k_attention {
    int64_t B, T, H, d, ld;
    double drop;
    struct es_rng rng; /* fresh */
};
size_t es_k_attention_rel_ws(const struct es_k_attention *s);

struct es_k_rel_gate {
    int64_t rows, H, d;
};
size_t es_k_rel_gate_ws(const struct es_k_rel_gate *s);

struct es_k_conv1d {
    int64_t B, T, D, groups, taps;
};
size_t es_k_conv1d_ws(const struct es_k_conv1d *s); /* enough for forward, dx and dw */

/* Bucket of the relative position r = key - query, in fp32 as upstream: half of the buckets for r > 0; distances below a quarter of
 * n_buckets one by one, then logarithmic up to max_distance. n_buckets is a multiple of 4. */
int es_k_rel_bucket(int64_t r, int n_buckets, int max_distance);
/* bias[h, T-1 + r] = table[bucket(r), h] for r = -(T-1)..T-1. table [n_buckets,H], bias [H,2T-1]. Exact. */
void es_k_rel_bias_fwd(int64_t T, int64_t H, int n_buckets, int max_distance, const float *table,
                       float *bias);
/* Sums in double, in order of r. */
void es_k_rel_bias_bwd(int64_t T, int64_t H, int n_buckets, int max_distance, const float *dbias,
                       float *dtable, bool add_dtable);

#define ES_R float
#define ES_K(op) es_k_##op
#include "earshot/kernels_beats_proto.h"
#undef ES_K
#define ES_K(op) es_k_##op##_fast
#include "earshot/kernels_beats_proto.h"
#undef ES_K
#define ES_K(op) es_k_##op##_ref_f32
#include "earshot/kernels_beats_proto.h"
#undef ES_K
#undef ES_R
#define ES_R double
#define ES_K(op) es_k_##op##_ref_f64
#include "earshot/kernels_beats_proto.h"
#undef ES_K
#undef ES_R

#endif
