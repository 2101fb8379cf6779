/* Losses, eight elements at a time; sums in double, lane by lane, rows shared among threads. */
#include "crnn_impl.h"
#include "crnn_simd.h"

ES_INLINE __m256 loss8(enum es_loss_kind kind, __m256 p, __m256 y) {
    __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps(),
           sign = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN));
    if (kind == ES_LOSS_BCE) { /* max(floor, x) in this order keeps a NaN */
        __m256 floor = _mm256_set1_ps(-100.0f);
        __m256 lp = _mm256_max_ps(floor, log8(p)), lq = _mm256_max_ps(floor, log8(_mm256_sub_ps(one, p)));
        return _mm256_sub_ps(zero, _mm256_fmadd_ps(y, lp, _mm256_mul_ps(_mm256_sub_ps(one, y), lq)));
    }
    if (kind == ES_LOSS_BCE_LOGITS) {
        __m256 e = exp8(_mm256_or_ps(p, sign)), u = _mm256_add_ps(one, e), d = _mm256_sub_ps(u, one);
        /* ln(1+e) = ln(u) e/(u-1), exact in first order; e where u rounds to 1 */
        __m256 l = _mm256_mul_ps(log8(u), _mm256_div_ps(e, d));
        l = _mm256_blendv_ps(l, e, _mm256_cmp_ps(d, zero, _CMP_EQ_OQ));
        return _mm256_add_ps(_mm256_fnmadd_ps(p, y, _mm256_max_ps(zero, p)), l);
    }
    __m256 d = _mm256_sub_ps(p, y);
    return _mm256_mul_ps(d, d);
}

ES_INLINE __m256 slope8(enum es_loss_kind kind, __m256 p, __m256 y) {
    __m256 one = _mm256_set1_ps(1.0f);
    if (kind == ES_LOSS_BCE) {
        __m256 pq = _mm256_mul_ps(_mm256_sub_ps(one, p), p);
        return _mm256_div_ps(_mm256_sub_ps(p, y), _mm256_max_ps(_mm256_set1_ps(1e-12f), pq));
    }
    if (kind == ES_LOSS_BCE_LOGITS) return _mm256_sub_ps(sigmoid8(p), y);
    return _mm256_mul_ps(_mm256_set1_ps(2.0f), _mm256_sub_ps(p, y));
}

ES_INLINE void add_losses(enum es_loss_kind kind, int64_t n, const float *p, const float *y, __m256d sum[2]) {
    for (int64_t i = 0; i < n; i += 8) {
        __m256i mask = lanes_below(n - i);
        __m256 v = loss8(kind, load_upto(p + i, n - i), load_upto(y + i, n - i));
        v = _mm256_and_ps(v, _mm256_castsi256_ps(mask));
        sum[0] = _mm256_add_pd(sum[0], low4d(v));
        sum[1] = _mm256_add_pd(sum[1], high4d(v));
    }
}

static double row_loss(const struct es_k_loss *s, const float *p, const float *y) {
    __m256d sum[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    int64_t pieces = s->columns ? s->K : 1, n = s->K * s->inner / pieces;
    for (int64_t k = 0; k < pieces; k++) {
        if (s->columns && !s->columns[k]) continue;
        switch (s->kind) {
        case ES_LOSS_BCE:
            add_losses(ES_LOSS_BCE, n, p + k * n, y + k * n, sum);
            break;
        case ES_LOSS_BCE_LOGITS:
            add_losses(ES_LOSS_BCE_LOGITS, n, p + k * n, y + k * n, sum);
            break;
        case ES_LOSS_MSE:
            add_losses(ES_LOSS_MSE, n, p + k * n, y + k * n, sum);
            break;
        }
    }
    return sum4d(_mm256_add_pd(sum[0], sum[1]));
}

void es_k_loss_fwd_fast(const struct es_k_loss *s, const float *p, const float *target, double *row_sum) {
    int64_t n = s->K * s->inner;
#pragma omp parallel for schedule(static) if (s->rows * n > 1 << 14)
    for (int64_t r = 0; r < s->rows; r++) row_sum[r] = row_loss(s, p + r * n, target + r * n);
}

ES_INLINE void put_slopes(enum es_loss_kind kind, int64_t n, const float *p, const float *y, float g,
                          float *dp, bool add) {
    __m256 scale = _mm256_set1_ps(g);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = slope8(kind, load_upto(p + i, n - i), load_upto(y + i, n - i));
        v = _mm256_mul_ps(v, scale);
        if (add) v = _mm256_add_ps(v, load_upto(dp + i, n - i));
        store_upto(dp + i, n - i, v);
    }
}

void es_k_loss_bwd_fast(const struct es_k_loss *s, const float *p, const float *target, double g, float *dp,
                        bool add_dp) {
    int64_t pieces = s->columns ? s->K : 1, n = s->K * s->inner / pieces;
#pragma omp parallel for schedule(static) if (s->rows * n * pieces > 1 << 14)
    for (int64_t item = 0; item < s->rows * pieces; item++) {
        int64_t at = item * n;
        if (s->columns && !s->columns[item % pieces]) {
            for (int64_t i = 0; i < n && !add_dp; i++) dp[at + i] = 0.0f;
            continue;
        }
        switch (s->kind) {
        case ES_LOSS_BCE:
            put_slopes(ES_LOSS_BCE, n, p + at, target + at, (float)g, dp + at, add_dp);
            break;
        case ES_LOSS_BCE_LOGITS:
            put_slopes(ES_LOSS_BCE_LOGITS, n, p + at, target + at, (float)g, dp + at, add_dp);
            break;
        case ES_LOSS_MSE:
            put_slopes(ES_LOSS_MSE, n, p + at, target + at, (float)g, dp + at, add_dp);
            break;
        }
    }
}
