/* Kernels: one function per computation, pointers, sizes and scratch only; no allocation, MPI, files, log or
 * configuration.
 *
 * Every kernel es_k_<op>(...) has a reference es_k_<op>_ref_f32 / _ref_f64 (kernels_ref.h: plain loops, double
 * accumulators: the definition; the double one for gradient checks) and a fast version; ES_KERNELS=fast|ref|check
 * picks at start-up (check runs both and is a bug when they differ by more than a bound computed from the data;
 * only check allocates).
 *
 * Determinism: the same shapes, thread count and instruction set give the same bits. Which thread computes a
 * piece may vary (static schedules, or pieces handed out in turn); a sum is one thread's, in an order that the sizes fix: no
 * atomics and no reduction(+) on floats. Everything in this header but es_k_gemm goes further: the bits do not depend on the
 * number of threads, and a row's result not on how many rows there are.
 *
 * ws is the caller's scratch of the stated number of bytes, 64-byte aligned; it holds nothing between calls. Sizes
 * depend on es_kernel_threads(): set the threads first. Outputs must not overlap inputs unless said. beta scales
 * what is in the output already; with 0 the output is not read (it may hold NaN).
 *
 * Letters: B clips, T frames, H heads, d width of a head, D width. Row-major, float32. Collectivity: none.
 * CRNN-side kernels and losses: kernels_crnn.h.
 */
#ifndef EARSHOT_KERNELS_H
#define EARSHOT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

/* ---- choice and threads (src/kernels/mode.c) */
enum es_kernel_mode { ES_KERNELS_FAST, ES_KERNELS_REF, ES_KERNELS_CHECK };
/* At start-up: ES_EUSAGE when ES_KERNELS or ES_ISA holds another word, or the CPU has no AVX2 and FMA. */
int es_kernel_init(struct es_err *err);
enum es_kernel_mode es_kernel_mode(void); /* from ES_KERNELS, read once; an unknown word is a bug by then */
void es_kernel_set_mode(enum es_kernel_mode mode); /* for tests and benchmarks */
int es_kernel_threads(void);                       /* OpenMP threads in use */
void es_kernel_set_threads(int n);                 /* OpenMP and BLAS */
/* "avx512" or "avx2": what the register kernels use; ES_ISA=avx2 forbids more */
const char *es_kernel_isa(void);

/* Fused multiply-adds on registers alone, fp32: flops a second of all threads together, in GFLOP/s. Runs for about
 * wall_s seconds. What the CPU gives, not what es_kernel_isa() allows. */
double es_k_peak_gflops(int threads, double wall_s);

/* ---- matrix products (src/kernels/gemm*.c, linear*.c) */
/* C [m,n] = alpha op(A) op(B) + beta C, op(A) [m,k], op(B) [k,n]; op transposes when trans_ is set. ld: distance of rows
 * as stored. BLAS underneath: equal bits run to run for the same shapes and threads, nothing more. Inside an OpenMP
 * parallel region it runs on the calling thread. */
void es_k_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
               int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* Linear layer. x [rows,in], w [out,in], b [out] or NULL, y and dy [rows,out]. One ws serves all three. */
size_t es_k_linear_workspace(int64_t rows, int64_t in, int64_t out);
/* y = x w' + b */
void es_k_linear_fwd(int64_t rows, int64_t in, int64_t out, const float *x, const float *w, const float *b,
                     float *y, void *ws);
/* dx = dy w + beta dx */
void es_k_linear_dx(int64_t rows, int64_t in, int64_t out, const float *dy, const float *w, float beta,
                    float *dx, void *ws);
/* dw = dy' x + beta dw. The sum over rows runs in blocks that depend on rows alone. */
void es_k_linear_dw(int64_t rows, int64_t in, int64_t out, const float *dy, const float *x, float beta,
                    float *dw, void *ws);
/* sum[j] = sum over rows of x[i,j] + beta sum[j]: db of a linear layer. Blocks of 64 rows in float, blocks in double. */
void es_k_colsum(int64_t rows, int64_t cols, const float *x, float beta, float *sum);

/* ---- element-wise (src/kernels/gelu*.c) */
/* y = x Phi(x), Phi(x) = (1 + erf(x/sqrt 2))/2. Absolute error <= 5e-7 for |x| <= 8, one rounding of x beyond.
 * In place allowed. Source of the approximation: Abramowitz and Stegun 7.1.26. */
void es_k_gelu_fwd(int64_t n, const float *x, float *y);
/* dx = dy (Phi(x) + x phi(x)) + beta dx. dx may be dy when beta is 0. */
void es_k_gelu_bwd(int64_t n, const float *x, const float *dy, float beta, float *dx);

/* ---- layer norm over the last axis (src/kernels/layernorm*.c) */
/* y = (x - mean) rstd w + b, rstd = 1 / sqrt(biased variance + eps). x, y [rows,D]; w, b [D]; mean, rstd [rows] out, both
 * or neither NULL. In place allowed. */
void es_k_layernorm_fwd(int64_t rows, int64_t D, const float *x, const float *w, const float *b, double eps,
                        float *y, float *mean, float *rstd);
size_t es_k_layernorm_bwd_workspace(int64_t rows, int64_t D);
/* dx, dw, db may be NULL; each has its own beta, in this order. */
void es_k_layernorm_bwd(int64_t rows, int64_t D, const float *x, const float *w, const float *mean,
                        const float *rstd, const float *dy, const float beta[3], float *dx, float *dw,
                        float *db, void *ws);

/* ---- attention (src/kernels/attention*.c) */
/* out = softmax(Q K' / sqrt d) V for each clip and head. qkv [B,T,3*H*d], rows Q | K | V, head h owns columns
 * h*d..(h+1)*d-1 of each; out [B,T,H*d]; lse [B,H,T] = log sum exp of the scaled scores, or NULL. */
size_t es_k_attention_workspace(int64_t T, int64_t d);
void es_k_attention_fwd(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv, float *out, float *lse,
                        void *ws);
/* dqkv = gradient + beta dqkv. The probabilities are computed again from qkv and lse; out is the forward result. */
void es_k_attention_bwd(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv, const float *out,
                        const float *lse, const float *dout, float beta, float *dqkv, void *ws);

/* ---- exact data movement and element-wise sums (src/kernels/copy.c): one implementation, no rounding choices */
/* out = a + b; out may be a or b. */
void es_k_add(int64_t n, const float *a, const float *b, float *out);
/* y = alpha x + b (product rounded, then sum); b may be NULL (0) or y, y may be x. */
void es_k_scale_add(int64_t n, float alpha, const float *x, const float *b, float *y);
/* dst = src + beta dst for rows of cols words, rows ld apart; beta 0 or 1. Concatenation, slices, gradients of both. */
void es_k_copy2d(int64_t rows, int64_t cols, const float *src, int64_t ld_src, float beta, float *dst,
                 int64_t ld_dst);
/* y[b,t,:] = x[b,t,:] + table[t,:] */
void es_k_add_rows(int64_t B, int64_t T, int64_t D, const float *x, const float *table, float *y);
/* x [B,F,W] -> y [B,W/p,F*p], y[b,i,f*p+j] = x[b,f,i*p+j]; bwd: dx = that, turned round, + beta dx (0 or 1); frames beyond
 * (W/p)*p get gradient 0. */
void es_k_patchify_fwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *x, float *y);
void es_k_patchify_bwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *dy, float beta, float *dx);
/* Square patches of a spectrogram, time-major: x [B,F,W] -> y [B,(W/p)*(F/p),p*p], with F/p = bands
 * y[b, t*bands + f, i*p+j] = x[b, f*p+j, t*p+i]: the first index inside a patch is time. The rest is dropped; bwd as above. */
void es_k_patch2d_fwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *x, float *y);
void es_k_patch2d_bwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *dy, float beta, float *dx);
/* Taps of a convolution over time, side by side: x [B,F,T] -> y [B,T,F*k], y[b,t,f*k+j] = x[b,f,t+j], 0 beyond the last frame;
 * bwd: dx = the same turned round, summed over taps in order, + beta dx (0 or 1). */
void es_k_taps_fwd(int64_t B, int64_t F, int64_t T, int64_t k, const float *x, float *y);
void es_k_taps_bwd(int64_t B, int64_t F, int64_t T, int64_t k, const float *dy, float beta, float *dx);

/* ---- optimiser and sums (src/kernels/adamw*.c, sums*.c) */
struct es_adamw {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;      /* 1 for the first update */
    bool decoupled;    /* AdamW: p *= 1 - lr wd; else Adam: g += wd p */
    double grad_scale; /* every gradient is multiplied by this first (clipping, 1/L) */
};
/* One update, in PyTorch 1.13's order of operations in fp32 (torch/optim/adamw.py, _single_tensor_adamw); powers and
 * quotients of the scalars in double. p, m, v in and out [n], g in. With g = 0 and m = v = 0 only the decay acts. */
void es_k_adamw(int64_t n, float *p, const float *g, float *m, float *v, const struct es_adamw *a);
/* teacher = alpha teacher + (1 - alpha) student, rounded after each product and the sum (Tensor.mul_, add_). */
void es_k_ema(int64_t n, float *teacher, const float *student, double alpha);
/* Sum of squares. Blocks of 4096 elements, each summed in double: lane l of 16 takes elements l, l+16, ... in order, lanes are
 * halved (l + (l+8), 4, 2, 1). Block sums are added in a perfect binary tree over block indices (a missing block is 0).
 * So the sum over a vector is the sum of those over its two halves whenever the first half is 4096 2^k >= n/2 long. */
#define ES_SUMSQ_BLOCK 4096
double es_k_sumsq(int64_t n, const float *x);

#endif
