/* Layout, resampling over time and log-mel scaling; planes, clips or frames are shared among threads. */
#include <string.h>

#include "crnn_impl.h"
#include "crnn_simd.h"

/* Eight rows of src (stride ld), of which `rows` are there, columns `cols` <= 8. */
ES_INLINE void load8(__m256 v[8], const float *src, int64_t ld, int64_t rows, int64_t cols) {
    ES_UNROLL
    for (int i = 0; i < 8; i++) v[i] = i < rows ? load_upto(src + i * ld, cols) : _mm256_setzero_ps();
}

void es_k_transpose_fast(int64_t B, int64_t rows, int64_t cols, const float *x, float *y, bool add_y) {
    int64_t strips = (cols + 7) / 8;
#pragma omp parallel for schedule(static) if (B * rows * cols > 1 << 15)
    for (int64_t item = 0; item < B * strips; item++) {
        int64_t b = item / strips, c = item % strips * 8, n = least(8, cols - c);
        for (int64_t r = 0; r < rows; r += 8) {
            __m256 v[8];
            load8(v, x + (b * rows + r) * cols + c, cols, rows - r, n);
            transpose8(v);
            for (int64_t i = 0; i < n; i++) {
                float *to = y + (b * cols + c + i) * rows + r;
                store_upto(to, rows - r, add_y ? _mm256_add_ps(v[i], load_upto(to, rows - r)) : v[i]);
            }
        }
    }
}

void es_k_time_fwd_fast(const struct es_k_time *s, const float *x, float *y) {
#pragma omp parallel for schedule(static) if (s->B * s->T * s->D > 1 << 15)
    for (int64_t item = 0; item < s->B * s->n; item++) {
        struct es_time_window w = es_k_time_window(s, item % s->n);
        const float *from = x + (item / s->n * s->T + w.s0) * s->D;
        float *to = y + item * s->D, first = (float)w.first, rest = (float)w.rest;
        if (w.count == 1) {
            memcpy(to, from, (size_t)s->D * sizeof *to);
            continue;
        }
#pragma omp simd
        for (int64_t d = 0; d < s->D; d++) to[d] = first * from[d];
        for (int64_t k = 1; k < w.count; k++)
#pragma omp simd
            for (int64_t d = 0; d < s->D; d++) to[d] += rest * from[k * s->D + d];
    }
}

void es_k_time_bwd_fast(const struct es_k_time *s, const float *dy, float *dx, bool add_dx) {
#pragma omp parallel for schedule(static) if (s->B * s->T * s->D > 1 << 15)
    for (int64_t b = 0; b < s->B; b++) {
        float *clip = dx + b * s->T * s->D;
        if (!add_dx) memset(clip, 0, (size_t)(s->T * s->D) * sizeof *clip);
        for (int64_t i = 0; i < s->n; i++) {
            struct es_time_window w = es_k_time_window(s, i);
            const float *from = dy + (b * s->n + i) * s->D;
            for (int64_t k = 0; k < w.count; k++) {
                float *to = clip + (w.s0 + k) * s->D, weight = (float)(k == 0 ? w.first : w.rest);
#pragma omp simd
                for (int64_t d = 0; d < s->D; d++) to[d] += weight * from[d];
            }
        }
    }
}

ES_INLINE __m256 decibel8(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(1e-5f), x); /* in this order a NaN stays one */
    __m256 d = _mm256_mul_ps(log8(x), _mm256_set1_ps(8.68588963806503655f)); /* 20/ln 10 */
    return _mm256_min_ps(_mm256_set1_ps(80.0f), _mm256_max_ps(_mm256_set1_ps(-50.0f), d));
}

/* Smallest and largest of n values, n >= 1. */
static void range(int64_t n, const float *x, float *lo, float *hi) {
    float a = x[0], b = x[0];
#pragma omp simd reduction(min : a) reduction(max : b)
    for (int64_t i = 0; i < n; i++) {
        a = x[i] < a ? x[i] : a;
        b = x[i] > b ? x[i] : b;
    }
    *lo = a;
    *hi = b;
}

void es_k_crnn_log_fast(int64_t B, int64_t F, int64_t T, const float *x, float *y) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < B; b++) {
        const float *m = x + b * F * T;
        float lo, hi;
        range(F * T, m, &lo, &hi); /* decibels grow with magnitudes: their range is that of the magnitudes */
        float d_lo = _mm256_cvtss_f32(decibel8(_mm256_set1_ps(lo))),
              d_hi = _mm256_cvtss_f32(decibel8(_mm256_set1_ps(hi)));
        __m256 low = _mm256_set1_ps(d_lo), one = _mm256_set1_ps(1.0f);
        __m256 scale = _mm256_set1_ps((float)(2.0 / ((double)d_hi - (double)d_lo + 1e-8)));
        for (int64_t t = 0; t < T; t += 8)
            for (int64_t f = 0; f < F; f += 8) {
                __m256 v[8];
                load8(v, m + f * T + t, T, F - f, T - t);
                for (int i = 0; i < 8; i++)
                    v[i] = _mm256_fmsub_ps(_mm256_sub_ps(decibel8(v[i]), low), scale, one);
                transpose8(v);
                for (int64_t i = 0; i < 8 && t + i < T; i++)
                    store_upto(y + (b * T + t + i) * F + f, F - f, v[i]);
            }
    }
}
