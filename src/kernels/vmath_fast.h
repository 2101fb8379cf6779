/* Elementary functions for loops that the compiler vectorises: no branches, no tables, no library calls; a lane's result does
 * not depend on its neighbours, so tails and vectors give the same bits. NaN in, NaN out. Compile with FMA.
 * Errors, measured over all floats of the stated range (tests/unit/test_kernels_transformer.c):
 *   es_vexp      -87.3 <= x <= 88: relative 1.2e-7; below: 0; above: exp(88)
 *   es_vsigmoid  absolute 1.2e-7
 *   es_verfc_part, see there
 */
#ifndef EARSHOT_VMATH_FAST_H
#define EARSHOT_VMATH_FAST_H

#include <stdint.h>
#include <string.h>

static inline float es_vbits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2; polynomial of Cephes' expf (Moshier 1992). */
static inline float es_vexp(float x) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
    float v = 88.0f < x ? 88.0f : x;
    v = -87.3f > v ? -87.3f : v;
    float t = __builtin_fmaf(v, 1.44269504088896341f, magic), n = t - magic;
    float r = __builtin_fmaf(n, -0.693359375f, v);
    r = __builtin_fmaf(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = __builtin_fmaf(p, r, 1.3981999507e-3f);
    p = __builtin_fmaf(p, r, 8.3334519073e-3f);
    p = __builtin_fmaf(p, r, 4.1665795894e-2f);
    p = __builtin_fmaf(p, r, 1.6666665459e-1f);
    p = __builtin_fmaf(p, r, 5.0000001201e-1f);
    p = __builtin_fmaf(p * r, r, r) + 1.0f;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    float y = p * es_vbits((bits + 127u) << 23);
    return x < -87.3f ? 0.0f : y;
}

static inline float es_vsigmoid(float x) {
    return 1.0f / (1.0f + es_vexp(-x));
}

/* Phi(x), the standard normal distribution, and e = exp(-x^2/2): Abramowitz and Stegun 7.1.26 with its argument x / sqrt 2. */
static inline float es_vphi(float x, float *e) {
    float a = __builtin_fabsf(x);
    float t = 1.0f / __builtin_fmaf(0.3275911f * 0.70710678118654752f, a, 1.0f);
    float p = 1.061405429f;
    p = __builtin_fmaf(p, t, -1.453152027f);
    p = __builtin_fmaf(p, t, 1.421413741f);
    p = __builtin_fmaf(p, t, -0.284496736f);
    p = __builtin_fmaf(p, t, 0.254829592f);
    *e = es_vexp(-0.5f * x * x);
    float tail = 0.5f * p * t * *e; /* Phi(-|x|) */
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
