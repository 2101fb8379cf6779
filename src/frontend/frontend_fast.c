/* The elementwise loops of the frontends (compiled with AVX2). They call no function of libm: an element has
 * the same bits in a vector register and in a remainder, with any compiler and C library. */
#include <math.h>
#include <string.h>

#include "frontend_impl.h"

/* ln x for normal x > 0, to about 1 ulp: x = 2^e m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m
 * - 1) / (m + 1); the series' next term is below 2e-9. ln 2 in two parts, the first with 12 bits, so that its
 * multiples are exact. */
static inline float ln(float x) {
    const uint32_t sqrt_half = 0x3f3504f3;
    const float ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8e7bcd5ep-15f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t e = (int32_t)(bits - sqrt_half) >> 23;
    bits -= (uint32_t)e << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    float s = (m - 1) / (m + 1), z = s * s, n = (float)e;
    float series = z * (1 / 3.0f + z * (1 / 5.0f + z * (1 / 7.0f + z * (1 / 9.0f))));
    return n * ln2_high + (n * ln2_low + 2 * s * series + 2 * s);
}

void es_tile_log(float *v, int n, float least, float a, float b) {
#pragma omp simd
    for (int i = 0; i < n; i++) v[i] = a * ln(v[i] > least ? v[i] : least) + b;
}

void es_clip_affine(float *v, int64_t n, float low, float high, float a, float b) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = v[i] > low ? v[i] : low;
        v[i] = a * (x < high ? x : high) + b;
    }
}

float es_clip_largest(const float *v, int64_t n) {
    float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < n; i++) largest = v[i] > largest ? v[i] : largest;
    return largest;
}

void es_frame_preemphasis(const float *x, int64_t n, int64_t start, const float *window, int win,
                          float *out) {
    if (start >= 0 && start + win <= n) {
        const float *s = x + start;
#pragma omp simd
        for (int i = 0; i < win; i++) out[i] = window[i] * (s[i + 1] - 0.97f * s[i]);
        return;
    }
    for (int i = 0; i < win; i++) {
        int64_t j = start + i;
        if (j < 0) j = -j;
        if (j >= n) j = 2 * (n - 1) - j;
        out[i] = window[i] * (x[j + 1] - 0.97f * x[j]);
    }
}

void es_frame_kaldi(const float *x, int64_t n, int64_t start, const float *window, int win, float *out) {
    enum { PARTS = 8 }; /* partial sums: a fixed order of addition that suits vector registers */
    ES_ASSERT(start >= 0 && start + win <= n);
    const float *s = x + start;
    double part[PARTS] = {0}, sum = 0;
    int whole = win - win % PARTS;
    for (int i = 0; i < whole; i += PARTS)
#pragma omp simd
        for (int k = 0; k < PARTS; k++) part[k] += (double)s[i + k];
    for (int k = 0; k < PARTS; k++) sum += part[k];
    for (int i = whole; i < win; i++) sum += (double)s[i];
    const float gain = 32768, mean = (float)(sum / win);
    /* The gain is a power of two: it may come last without changing a bit. */
    out[0] = gain * window[0] * (s[0] - mean - 0.97f * (s[0] - mean));
#pragma omp simd
    for (int i = 1; i < win; i++) out[i] = gain * window[i] * (s[i] - mean - 0.97f * (s[i - 1] - mean));
}
