/* GELU: choice and check. */
#include <math.h>

#include "impl.h"

/* Both are smooth with values and slopes of order 1: 1e-6 of the largest factor. */
void es_k_gelu_fwd(int64_t n, const float *x, float *y) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_gelu_fwd_ref_f32(n, x, y);
        return;
    }
    float *want = es_check_begin(n, y);
    double tol = want ? 1e-6 * fmax(1.0, es_check_max(n, x)) : 0.0;
    if (want) es_k_gelu_fwd_ref_f32(n, x, want);
    es_k_gelu_fwd_fast(n, x, y);
    es_check_end("gelu_fwd", n, y, &want, tol, NULL);
}

void es_k_gelu_bwd(int64_t n, const float *x, const float *dy, float beta, float *dx) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_gelu_bwd_ref_f32(n, x, dy, (double)beta, dx);
        return;
    }
    float *want = es_check_begin(n, dx);
    double tol = want ? 2e-6 * (es_check_max(n, dy) + (beta == 0.0f ? 0.0 : es_check_max(n, dx))) : 0.0;
    if (want) es_k_gelu_bwd_ref_f32(n, x, dy, (double)beta, want);
    es_k_gelu_bwd_fast(n, x, dy, beta, dx);
    es_check_end("gelu_bwd", n, dx, &want, tol, NULL);
}
