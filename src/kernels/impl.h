/* Shared by the kernels of this folder: the fast versions, and what check mode needs. */
#ifndef EARSHOT_KERNELS_IMPL_H
#define EARSHOT_KERNELS_IMPL_H

#include "earshot/kernels.h"
#include "earshot/kernels_ref.h"
#include "earshot/rng.h"

#define ES_EPS 5.9604644775390625e-8 /* unit roundoff of float */

static inline int64_t es_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

bool es_kernel_avx512(void); /* the 512-bit register kernels are to be used */
/* Threads for a call of about n scalar operations: 1 when a parallel region would cost more than it saves. */
int es_kernel_team(int64_t n);

/* Check mode (check.c). begin: a copy of out[0..n) for the reference to work on, NULL in the other modes. end: a bug unless
 * |got - want| <= tol * (bound ? bound[i] : 1) everywhere (or equal, or both NaN); frees *want. */
float *es_check_begin(int64_t n, const float *out);
void es_check_end(const char *what, int64_t n, const float *got, float **want, double tol,
                  const float *bound);
float *es_check_abs(int64_t n, const float *x); /* |x|, check mode only; free with es_check_free */
void es_check_free(float **x);
double es_check_max(int64_t n, const float *x); /* largest |x|, 0 for n = 0 or NULL */

/* Register kernels under linear_fast.c and attention_fast.c, compiled for 8 and for 16 lanes. C [m,n] = A B + beta C (+ bias per
 * column, with beta 0). Element (i,k) of A is a[i*ars + k*acs], of B b[k*brs + j*bcs]. */
struct es_product {
    int64_t m, n, k;
    const float *a;
    int64_t ars, acs;
    const float *b;
    int64_t brs, bcs;
    float beta;
    const float *bias;
    float *c;
    int64_t ldc;
};
size_t es_product_bytes_avx2(int64_t n, int64_t k);
size_t es_product_bytes_avx512(int64_t n, int64_t k);
void es_product_avx2(const struct es_product *p, float *ws);
void es_product_avx512(const struct es_product *p, float *ws);

struct es_attention {         /* kernels.h and kernels_beats.h */
    int64_t B, T, H, d, ld;   /* ld: distance of rows of q, k, v and of their gradients */
    const void *q, *k, *v;    /* float; with out bf16 in attention_pairs_*.c */
    const float *gate, *bias; /* NULL without */
    double drop;
    const struct es_rng *rng; /* drop > 0 only */
    float *y, *y_lse;         /* forward */
    const void *out;
    const float *lse, *dout;
    float beta[4], *dq, *dk, *dv, *dgate; /* backward; NULL: not wanted */
    float *dbias;                         /* of each clip: [B,H,2T-1], written */
};
struct es_k_attention;
struct es_attention es_attention_of(const struct es_k_attention *s, const void *q, const void *k,
                                    const void *v, const float *gate, const float *bias);
/* Memory of a kernel that asks for `bytes`, and sums of dbias a clip. */
size_t es_attention_ws(const struct es_k_attention *s, size_t bytes);
/* grad, add: of q, k, v, gate and bias; NULL: not wanted. */
void es_attention_gradients(const struct es_attention *a, size_t bytes,
                            void (*run)(const struct es_attention *a, float *ws), float *const grad[5],
                            const bool add[5], float *ws);
size_t es_attention_bytes_avx2(int64_t T, int64_t d);
size_t es_attention_bytes_avx512(int64_t T, int64_t d);
void es_attention_fwd_avx2(const struct es_attention *a, float *ws);
void es_attention_fwd_avx512(const struct es_attention *a, float *ws);
void es_attention_bwd_avx2(const struct es_attention *a, float *ws);
void es_attention_bwd_avx512(const struct es_attention *a, float *ws);
/* attention_pairs_*.c: products of bf16 numbers, by instructions and by AVX2. */
size_t es_attention_bytes_bf16(int64_t T, int64_t d);
size_t es_attention_bytes_pairs(int64_t T, int64_t d);
void es_attention_fwd_bf16(const struct es_attention *a, float *ws);
void es_attention_fwd_pairs(const struct es_attention *a, float *ws);
void es_attention_bwd_bf16(const struct es_attention *a, float *ws);
void es_attention_bwd_pairs(const struct es_attention *a, float *ws);

/* The grouped convolution of kernels_beats.h. turned: dx from dy (w turned round, no bias). */
struct es_conv1d {
    int64_t B, T, D, groups, taps;
    const float *x, *w, *bias, *dy;
    float *y; /* y, dx or dw */
    bool turned, add;
};
size_t es_conv1d_bytes_avx2(const struct es_conv1d *a);
size_t es_conv1d_bytes_avx512(const struct es_conv1d *a);
void es_conv1d_rows_avx2(const struct es_conv1d *a, float *ws);
void es_conv1d_rows_avx512(const struct es_conv1d *a, float *ws);
void es_conv1d_dw_avx2(const struct es_conv1d *a, float *ws);
void es_conv1d_dw_avx512(const struct es_conv1d *a, float *ws);

/* factor[i] = 1/(1-p) where element first + i of es_k_dropout is kept, else 0. first: a multiple of 4. */
void es_dropout_factors(const struct es_rng *rng, int64_t first, int64_t n, double p, float *factor);

void es_k_colsum_fast(int64_t rows, int64_t cols, const float *x, float beta, float *sum);
void es_k_gelu_fwd_fast(int64_t n, const float *x, float *y);
void es_k_gelu_bwd_fast(int64_t n, const float *x, const float *dy, float beta, float *dx);
void es_k_layernorm_fwd_fast(int64_t rows, int64_t D, const float *x, const float *w, const float *b,
                             double eps, float *y, float *mean, float *rstd);
void es_k_layernorm_bwd_fast(int64_t rows, int64_t D, const float *x, const float *w, const float *mean,
                             const float *rstd, const float *dy, const float beta[3], float *dx, float *dw,
                             float *db, float *ws);
void es_k_adamw_fast(int64_t n, float *p, const float *g, float *m, float *v, const struct es_adamw *a);
void es_k_ema_fast(int64_t n, float *teacher, const float *student, double alpha);
double es_k_sumsq_fast(int64_t n, const float *x);
double es_peak_run_avx2(double wall_s);
double es_peak_run_avx512(double wall_s);

#endif
