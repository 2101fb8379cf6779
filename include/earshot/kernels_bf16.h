/* Linear layers and attention in bf16: both operands of every product are bf16, sums are fp32. Weights stay fp32 masters: each layer
 * has a packed copy, made again when the master changed.
 *
 * Order of calls: es_kernel_init; es_bf16_new with a kind that es_bf16_kind() gives; es_bf16_weight_new per layer, es_bf16_weight_set
 * after every change of the master; then the products, as often as wanted; frees in reverse order. The threads are those of
 * es_kernel_threads() at es_bf16_new, later at most as many.
 *
 * Kinds:
 *   ES_BF16_ONEDNN       the processor's bf16 instructions, through oneDNN and our own attention. They take denormals as zero.
 *   ES_BF16_EMULATED     operands rounded to bf16, multiplied by the fp32 kernels (attention: by AVX2): products of two bf16 numbers are
 *                        exact in fp32, so nothing but the order of the sums differs from the instructions. For tests; slower than fp32.
 *   ES_BF16_ONEDNN_FP32  the code of ES_BF16_ONEDNN with operands left in fp32: tests it where bf16 instructions are missing.
 * ES_BF16=emulate|onednn-fp32|off in the environment replaces the choice by what the processor has.
 *
 * Operands other than weights are arrays of es_bf16_size() bytes an element, made by es_bf16_from; 64-byte alignment is not needed.
 *
 * Determinism: work is cut by shapes alone and each piece is computed by one thread, so bits do not depend on the number of threads.
 * Between kinds, and between processors, bits differ.
 *
 * Objects own memory of their own. es_bf16_linear_workspace makes what a shape needs on its first call, the products allocate nothing
 * here (oneDNN itself may). Collectivity: none. One thread calls; OpenMP inside.
 */
#ifndef EARSHOT_KERNELS_BF16_H
#define EARSHOT_KERNELS_BF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"
#include "earshot/kernels_beats.h"

enum es_bf16_kind {
    ES_BF16_NONE, /* no bf16 instructions (or ES_ISA=avx2): train in fp32 */
    ES_BF16_ONEDNN,
    ES_BF16_EMULATED,
    ES_BF16_ONEDNN_FP32,
};
/* What this process uses for bf16: from the environment and the processor, read once. */
enum es_bf16_kind es_bf16_kind(void);
const char *es_bf16_kind_name(enum es_bf16_kind kind); /* "none", "onednn", "emulate", "onednn-fp32" */
/* The processor's vdpbf16ps and oneDNN's use of it. */
bool es_bf16_instructions(void);

/* Round to nearest, ties to even; infinities stay, NaN stays NaN (quiet), denormals are rounded like all others. */
void es_k_bf16_round(int64_t n, const float *x, uint16_t *y);
void es_k_bf16_widen(int64_t n, const uint16_t *x, float *y); /* exact */

struct es_bf16;
int es_bf16_new(struct es_bf16 **e, enum es_bf16_kind kind, struct es_err *err);
void es_bf16_free(struct es_bf16 **e);
size_t es_bf16_size(const struct es_bf16 *e);
void es_bf16_from(const struct es_bf16 *e, int64_t n, const float *x, void *y);
void es_bf16_to(const struct es_bf16 *e, int64_t n, const void *x, float *y); /* exact */

/* Packed copies of a layer's weights w [out,in]. */
struct es_bf16_weight;
int es_bf16_weight_new(struct es_bf16_weight **w, struct es_bf16 *e, int64_t in, int64_t out,
                       struct es_err *err);
void es_bf16_weight_free(struct es_bf16_weight **w);
void es_bf16_weight_set(struct es_bf16_weight *w, const float *master);
int64_t es_bf16_weight_bytes(struct es_bf16 *e, int64_t in, int64_t out);

/* Caller's scratch of the three products, 64-byte aligned. */
size_t es_bf16_linear_workspace(struct es_bf16 *e, int64_t rows, int64_t in, int64_t out);
/* y = x w' + b. x [rows,in] packed, b [out] or NULL, y [rows,out]. */
void es_bf16_linear_fwd(const struct es_bf16_weight *w, int64_t rows, const void *x, const float *b, float *y,
                        void *ws);
/* dx = dy w + beta dx, beta 0 or 1. dy [rows,out] packed. */
void es_bf16_linear_dx(const struct es_bf16_weight *w, int64_t rows, const void *dy, float beta, float *dx,
                       void *ws);
/* dw = dy' x + beta dw, beta 0 or 1. dy [rows,out], x [rows,in] packed. */
void es_bf16_linear_dw(struct es_bf16 *e, int64_t rows, int64_t in, int64_t out, const void *dy,
                       const void *x, float beta, float *dw, void *ws);

/* Attention of kernels_beats.h (es_k_attention_rel_fwd, _bwd). q, k, v (rows s->ld numbers apart) and out are packed; gate, bias,
 * y [B,T,H*d], lse, dout and the gradients fp32. Scores, position term, softmax and masks are fp32; probabilities, q / sqrt d, dout
 * and the gradients of the scores are rounded for their products. grad, add: of q, k, v, gate and bias; NULL: not wanted. */
size_t es_bf16_attention_workspace(const struct es_bf16 *e, const struct es_k_attention *s);
void es_bf16_attention_fwd(const struct es_bf16 *e, const struct es_k_attention *s, const void *q,
                           const void *k, const void *v, const float *gate, const float *bias, float *y,
                           float *lse, void *ws);
void es_bf16_attention_bwd(const struct es_bf16 *e, const struct es_k_attention *s, const void *q,
                           const void *k, const void *v, const float *gate, const float *bias,
                           const void *out, const float *lse, const float *dout, float *const grad[5],
                           const bool add[5], void *ws);

/* vdpbf16ps on registers alone, as es_k_peak_gflops; NAN where the processor does not have it. */
double es_k_peak_bf16_gflops(int threads, double wall_s);

#endif
