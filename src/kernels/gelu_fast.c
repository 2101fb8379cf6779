/* Element-wise functions, vectorised by the compiler from vmath_fast.h. Memory bound on more than one core. */
#include "impl.h"
#include "vmath_fast.h"

#define PHI_SCALE 0.39894228040143267794f /* 1 / sqrt(2 pi) */

void es_k_gelu_fwd_fast(int64_t n, const float *x, float *y) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) {
        float e;
        y[i] = x[i] * es_vphi(x[i], &e);
    }
}

static inline float gelu_slope(float x) {
    float e, phi = es_vphi(x, &e);
    return __builtin_fmaf(x * PHI_SCALE, e, phi);
}

void es_k_gelu_bwd_fast(int64_t n, const float *x, const float *dy, float beta, float *dx) {
    if (beta == 0.0f) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * gelu_slope(x[i]);
    } else {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) dx[i] = __builtin_fmaf(dy[i], gelu_slope(x[i]), beta * dx[i]);
    }
}
