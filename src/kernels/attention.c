/* Attention: choice and check. */
#include <math.h>

#include "impl.h"

size_t es_k_attention_workspace(int64_t T, int64_t d) {
    return es_kernel_avx512() ? es_attention_bytes_avx512(T, d) : es_attention_bytes_avx2(T, d);
}

/* Relative error of a probability: the score's absolute error. A score is a sum of d products. */
static double score_error(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv) {
    double most[2] = {0, 0};
    int64_t D = H * d;
    for (int64_t r = 0; r < B * T; r++)
        for (int64_t h = 0; h < H; h++)
            for (int which = 0; which < 2; which++) {
                double s = 0;
                const float *x = qkv + r * 3 * D + which * D + h * d;
                for (int64_t c = 0; c < d; c++) s += (double)x[c] * (double)x[c];
                most[which] = fmax(most[which], sqrt(s));
            }
    return ((double)d + 8) * ES_EPS * most[0] * most[1] / sqrt((double)d) + 1e-6;
}

static struct es_attention of_qkv(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv) {
    int64_t D = H * d;
    return (struct es_attention){
        .B = B, .T = T, .H = H, .d = d, .ld = 3 * D, .q = qkv, .k = qkv + D, .v = qkv + 2 * D};
}

void es_k_attention_fwd(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv, float *out, float *lse,
                        void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_attention_fwd_ref_f32(B, T, H, d, qkv, out, lse);
        return;
    }
    int64_t n = B * T * H * d;
    float *want = es_check_begin(n, out), *want_lse = es_check_begin(B * H * T, lse);
    double e = 0, vmax = 0;
    if (want) {
        e = score_error(B, T, H, d, qkv);
        vmax = es_check_max(3 * n, qkv);
        es_k_attention_fwd_ref_f32(B, T, H, d, qkv, want, want_lse);
    }
    struct es_attention a = of_qkv(B, T, H, d, qkv);
    a.y = out;
    a.y_lse = lse;
    (es_kernel_avx512() ? es_attention_fwd_avx512 : es_attention_fwd_avx2)(&a, ws);
    /* weights e off each way in numerator and sum; T roundings in each sum */
    double tol = (2 * e + 2 * (double)(T + 8) * ES_EPS) * vmax;
    es_check_end("attention_fwd out", n, out, &want, tol, NULL);
    es_check_end("attention_fwd lse", B * H * T, lse, &want_lse,
                 e + (double)(T + 8) * ES_EPS * (1 + es_check_max(want_lse ? B * H * T : 0, want_lse)), NULL);
}

void es_k_attention_bwd(int64_t B, int64_t T, int64_t H, int64_t d, const float *qkv, const float *out,
                        const float *lse, const float *dout, float beta, float *dqkv, void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_attention_bwd_ref_f32(B, T, H, d, qkv, out, lse, dout, (double)beta, dqkv);
        return;
    }
    int64_t n = B * T * H * d;
    float *want = es_check_begin(3 * n, dqkv);
    double tol = 0;
    if (want) {
        /* ds = p (dp - r): p is e off, dp and r are sums of d products; dq sums T of them with weights that add to 1, dk and dv
         * sum T with weights up to 1 each */
        double e = score_error(B, T, H, d, qkv) + 2 * ES_EPS * es_check_max(B * H * T, lse);
        double g = es_check_max(n, dout), v = es_check_max(3 * n, qkv), dp = 2 * (double)d * g * v;
        double ds = dp * (e + ((double)d + 4) * ES_EPS);
        tol = (double)T * (ds * v / sqrt((double)d) + g * e) +
              (double)(T + 8) * (double)T * ES_EPS * (dp * v / sqrt((double)d) + g) +
              4 * ES_EPS * (double)fabsf(beta) * es_check_max(3 * n, want);
        es_k_attention_bwd_ref_f32(B, T, H, d, qkv, out, lse, dout, (double)beta, want);
    }
    struct es_attention a = of_qkv(B, T, H, d, qkv);
    a.out = out;
    a.lse = lse;
    a.dout = dout;
    for (int i = 0; i < 3; i++) a.beta[i] = beta;
    a.dq = dqkv;
    a.dk = dqkv + H * d;
    a.dv = dqkv + 2 * H * d;
    (es_kernel_avx512() ? es_attention_bwd_avx512 : es_attention_bwd_avx2)(&a, ws);
    es_check_end("attention_bwd", 3 * n, dqkv, &want, tol, NULL);
}
