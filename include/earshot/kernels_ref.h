/* The reference kernels: the definitions of kernels.h as plain loops, for float and for double storage; all sums in double.
 * For tests (fast against reference; finite differences in double) and for ES_KERNELS=ref and check. Arguments as in
 * kernels.h, without scratch.
 */
#ifndef EARSHOT_KERNELS_REF_H
#define EARSHOT_KERNELS_REF_H

#include "earshot/kernels.h"

#define ES_K_REFERENCES_(R, S)                                                                               \
    void es_k_gemm_ref_##S(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, double alpha,        \
                           const R *a, int64_t lda, const R *b, int64_t ldb, double beta, R *c,              \
                           int64_t ldc);                                                                     \
    void es_k_linear_fwd_ref_##S(int64_t rows, int64_t in, int64_t out, const R *x, const R *w, const R *b,  \
                                 R *y);                                                                      \
    void es_k_linear_dx_ref_##S(int64_t rows, int64_t in, int64_t out, const R *dy, const R *w, double beta, \
                                R *dx);                                                                      \
    void es_k_linear_dw_ref_##S(int64_t rows, int64_t in, int64_t out, const R *dy, const R *x, double beta, \
                                R *dw);                                                                      \
    void es_k_colsum_ref_##S(int64_t rows, int64_t cols, const R *x, double beta, R *sum);                   \
    void es_k_gelu_fwd_ref_##S(int64_t n, const R *x, R *y);                                                 \
    void es_k_gelu_bwd_ref_##S(int64_t n, const R *x, const R *dy, double beta, R *dx);                      \
    void es_k_layernorm_fwd_ref_##S(int64_t rows, int64_t D, const R *x, const R *w, const R *b, double eps, \
                                    R *y, R *mean, R *rstd);                                                 \
    void es_k_layernorm_bwd_ref_##S(int64_t rows, int64_t D, const R *x, const R *w, const R *mean,          \
                                    const R *rstd, const R *dy, const float beta[3], R *dx, R *dw, R *db);   \
    void es_k_attention_fwd_ref_##S(int64_t B, int64_t T, int64_t H, int64_t d, const R *qkv, R *out,        \
                                    R *lse);                                                                 \
    void es_k_attention_bwd_ref_##S(int64_t B, int64_t T, int64_t H, int64_t d, const R *qkv, const R *out,  \
                                    const R *lse, const R *dout, double beta, R *dqkv);                      \
    void es_k_adamw_ref_##S(int64_t n, R *p, const R *g, R *m, R *v, const struct es_adamw *a);              \
    void es_k_ema_ref_##S(int64_t n, R *teacher, const R *student, double alpha);                            \
    double es_k_sumsq_ref_##S(int64_t n, const R *x);

ES_K_REFERENCES_(float, f32)
ES_K_REFERENCES_(double, f64)

#endif
