/* Attention pooling over classes: a thread takes whole clips, frame by frame; sums over time in double. */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"

/* A thread's scratch: three rows of doubles (sums over time) and three of floats (one frame). */
struct rows {
    double *num, *den, *weight;
    float *p, *ds, *mask; /* mask: all ones or 0 */
};

static int64_t width(const struct es_k_class_pool *s) {
    return round_up(s->K, 8);
}

size_t es_k_class_pool_ws(const struct es_k_class_pool *s) {
    return (size_t)(es_kernel_threads() * width(s)) * (3 * sizeof(double) + 4 * sizeof(float));
}

static struct rows rows_of(const struct es_k_class_pool *s, void *ws, const uint8_t *mask) {
    int64_t k = width(s);
    double *d = (double *)ws + omp_get_thread_num() * 5 * k;
    float *f = (float *)(void *)(d + 3 * k);
    struct rows r = {d, d + k, d + 2 * k, f, f + k, f + 2 * k};
    memset(d, 0, (size_t)(3 * k) * sizeof *d);
    for (int64_t i = 0; i < k; i++) {
        int32_t bits = i < s->K && (!mask || mask[i]) ? -1 : 0;
        memcpy(r.mask + i, &bits, sizeof bits);
    }
    return r;
}

ES_INLINE __m256 clamp8(__m256 s) {
    return _mm256_min_ps(_mm256_set1_ps(1.0f), _mm256_max_ps(_mm256_set1_ps(1e-7f), s));
}
ES_INLINE void add4d(double *to, __m256 v) {
    _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), low4d(v)));
    _mm256_storeu_pd(to + 4, _mm256_add_pd(_mm256_loadu_pd(to + 4), high4d(v)));
}
ES_INLINE float sum8(__m256 v) {
    return (float)sum4d(_mm256_add_pd(low4d(v), high4d(v)));
}
ES_INLINE float max8(__m256 v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

/* Lanes beyond K: -inf, so that they take no part. */
ES_INLINE __m256 attention8(const struct es_k_class_pool *s, const float *a, const float *mask, int64_t k) {
    __m256i there = lanes_below(s->K - k);
    __m256 v = _mm256_blendv_ps(_mm256_set1_ps((float)s->fill), _mm256_maskload_ps(a + k, there),
                                _mm256_loadu_ps(mask + k));
    return _mm256_blendv_ps(_mm256_set1_ps(-HUGE_VALF), v, _mm256_castsi256_ps(there));
}

static void softmax_row(const struct es_k_class_pool *s, const float *a, const float *mask, float *soft) {
    __m256 top = _mm256_set1_ps(-HUGE_VALF), sum = _mm256_setzero_ps();
    for (int64_t k = 0; k < s->K; k += 8) top = _mm256_max_ps(top, attention8(s, a, mask, k));
    top = _mm256_set1_ps(max8(top));
    for (int64_t k = 0; k < s->K; k += 8) {
        __m256 e = exp8(_mm256_sub_ps(attention8(s, a, mask, k), top));
        sum = _mm256_add_ps(sum, e);
        store_upto(soft + k, s->K - k, e);
    }
    __m256 total = _mm256_set1_ps(sum8(sum));
    for (int64_t k = 0; k < s->K; k += 8) {
        store_upto(soft + k, s->K - k, _mm256_div_ps(load_upto(soft + k, s->K - k), total));
    }
}

void es_k_class_pool_fwd_fast(const struct es_k_class_pool *s, const float *z, const float *a,
                              const uint8_t *mask, float *strong, float *weak, float *soft, void *ws) {
    int64_t T = s->T, K = s->K;
#pragma omp parallel for schedule(static) if (s->B * T * K > 1 << 14)
    for (int64_t b = 0; b < s->B; b++) {
        struct rows r = rows_of(s, ws, mask ? mask + b * K : NULL);
        for (int64_t t = 0; t < T; t++) {
            int64_t row = (b * T + t) * K;
            softmax_row(s, a + row, r.mask, soft + row);
            for (int64_t k = 0; k < K; k += 8) {
                __m256 p = sigmoid8(load_upto(z + row + k, K - k)), on = _mm256_loadu_ps(r.mask + k);
                __m256 w = clamp8(load_upto(soft + row + k, K - k));
                add4d(r.num + k, _mm256_mul_ps(p, w));
                add4d(r.den + k, w);
                _mm256_storeu_ps(r.p + k, _mm256_and_ps(p, on));
            }
            for (int64_t k = 0; k < K; k++) strong[(b * K + k) * T + t] = r.p[k];
        }
        for (int64_t k = 0; k < K; k++) {
            bool on = !mask || mask[b * K + k];
            weak[b * K + k] = on ? (float)(r.num[k] / r.den[k]) : 0.0f;
        }
    }
}

void es_k_class_pool_bwd_fast(const struct es_k_class_pool *s, const uint8_t *mask, const float *strong,
                              const float *weak, const float *soft, const float *dstrong, const float *dweak,
                              float *dz, bool add_dz, float *da, bool add_da, void *ws) {
    int64_t T = s->T, K = s->K;
    __m256 one = _mm256_set1_ps(1.0f), least_weight = _mm256_set1_ps(1e-7f);
#pragma omp parallel for schedule(static) if (s->B * T * K > 1 << 14)
    for (int64_t b = 0; b < s->B; b++) {
        struct rows r = rows_of(s, ws, mask ? mask + b * K : NULL);
        for (int64_t t = 0; t < T && dweak; t++)
            for (int64_t k = 0; k < K; k += 8)
                add4d(r.den + k, clamp8(load_upto(soft + (b * T + t) * K + k, K - k)));
        for (int64_t k = 0; k < K; k++) { /* gradient of a weighted sum, as floats over the doubles of num */
            bool on = dweak && (!mask || mask[b * K + k]);
            ((float *)(void *)r.num)[k] = on ? (float)((double)dweak[b * K + k] / r.den[k]) : 0.0f;
        }
        const float *dw = (const float *)(const void *)r.num;
        for (int64_t t = 0; t < T; t++) {
            int64_t row = (b * T + t) * K;
            __m256 dot = _mm256_setzero_ps();
            for (int64_t k = 0; k < K; k++) {
                r.p[k] = strong[(b * K + k) * T + t];
                r.ds[k] = dstrong ? dstrong[(b * K + k) * T + t] : 0.0f;
            }
            for (int64_t k = 0; k < K; k += 8) {
                __m256 p = load_upto(r.p + k, K - k), w = load_upto(soft + row + k, K - k);
                __m256 g = load_upto(dw + k, K - k), on = _mm256_loadu_ps(r.mask + k);
                __m256 dp = _mm256_fmadd_ps(g, clamp8(w), _mm256_and_ps(on, load_upto(r.ds + k, K - k)));
                __m256 d = _mm256_mul_ps(_mm256_mul_ps(dp, p), _mm256_sub_ps(one, p));
                if (dz) {
                    float *to = dz + row + k;
                    store_upto(to, K - k, add_dz ? _mm256_add_ps(d, load_upto(to, K - k)) : d);
                }
                __m256 pass = _mm256_and_ps(_mm256_cmp_ps(w, least_weight, _CMP_GE_OQ),
                                            _mm256_cmp_ps(w, one, _CMP_LE_OQ));
                __m256 away = _mm256_sub_ps(p, k + 8 <= K ? _mm256_loadu_ps(weak + b * K + k)
                                                          : load_upto(weak + b * K + k, K - k));
                __m256 ds = _mm256_and_ps(pass, _mm256_mul_ps(g, away));
                _mm256_storeu_ps(r.ds + k, ds);
                dot = _mm256_fmadd_ps(ds, w, dot);
            }
            dot = _mm256_set1_ps(sum8(dot));
            for (int64_t k = 0; k < K && da; k += 8) {
                __m256 w = load_upto(soft + row + k, K - k), ds = _mm256_loadu_ps(r.ds + k);
                __m256 d =
                    _mm256_and_ps(_mm256_loadu_ps(r.mask + k), _mm256_mul_ps(w, _mm256_sub_ps(ds, dot)));
                float *to = da + row + k;
                store_upto(to, K - k, add_da ? _mm256_add_ps(d, load_upto(to, K - k)) : d);
            }
        }
    }
}
