/* Rounding to bf16 and back; the loops vectorise. */
#include "bf16_impl.h"

#include <string.h>

static inline uint32_t bits_of(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

void es_k_bf16_round(int64_t n, const float *x, uint16_t *y) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = bits_of(x[i]), nan = (u & 0x7fffffffu) > 0x7f800000u;
        uint32_t rounded = u + 0x7fffu + (u >> 16 & 1u); /* the tie goes up from an odd number */
        y[i] = (uint16_t)((nan ? u | 0x400000u : rounded) >> 16);
    }
}

void es_k_bf16_widen(int64_t n, const uint16_t *x, float *y) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)x[i] << 16;
        memcpy(&y[i], &u, sizeof u);
    }
}
