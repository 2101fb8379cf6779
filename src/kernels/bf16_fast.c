/* Rounding to bf16 and back; the loops vectorise. */
#include "bf16_impl.h"

void es_k_bf16_round(int64_t n, const float *x, uint16_t *y) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) y[i] = (uint16_t)(es_bf16_bits(x[i]) >> 16);
}

void es_k_bf16_widen(int64_t n, const uint16_t *x, float *y) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) y[i] = es_bf16_value(x[i]);
}
