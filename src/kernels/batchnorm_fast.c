/* Batch normalisation: planes of (clip, channel) are shared among threads; a plane's sums are doubles, and a
 * channel's are added clip by clip. One pass for mean and variance: sums of floats and of their squares
 * (exact products) in double lose nothing that matters while mean/deviation stays below 1e6. */
#include "crnn_impl.h"
#include "crnn_simd.h"

size_t es_k_batchnorm_ws(const struct es_k_batchnorm *s) {
    return (size_t)(2 * s->B * s->C) * sizeof(double);
}

/* sums[0] = sum of a, sums[1] = sum of a (b - shift), over n. */
static void plane_sums(int64_t n, const float *a, const float *b, float shift, double sums[2]) {
    __m256d s[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()},
            q[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    __m256d m = _mm256_set1_pd((double)shift);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 u = load_upto(a + i, n - i), v = load_upto(b + i, n - i);
        __m256d u0 = low4d(u), u1 = high4d(u);
        s[0] = _mm256_add_pd(s[0], u0);
        s[1] = _mm256_add_pd(s[1], u1);
        q[0] = _mm256_fmadd_pd(u0, _mm256_sub_pd(low4d(v), m), q[0]);
        q[1] = _mm256_fmadd_pd(u1, _mm256_sub_pd(high4d(v), m), q[1]);
    }
    sums[0] = sum4d(_mm256_add_pd(s[0], s[1]));
    sums[1] = sum4d(_mm256_add_pd(q[0], q[1]));
}

/* total[2] of channel c, clips in order */
static void channel_sums(const struct es_k_batchnorm *s, const double *sums, int64_t c, double total[2]) {
    total[0] = total[1] = 0;
    for (int64_t b = 0; b < s->B; b++)
        for (int k = 0; k < 2; k++) total[k] += sums[2 * (b * s->C + c) + k];
}

static void normalise(const struct es_k_batchnorm *s, const float *x, const float *w, const float *b,
                      const float *mean, const float *rstd, float *y) {
#pragma omp parallel for schedule(static) if (s->B * s->C * s->N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++) {
        int64_t c = plane % s->C;
        float m = mean[c], scale = rstd[c] * w[c], shift = b[c];
        const float *from = x + plane * s->N;
        float *to = y + plane * s->N;
#pragma omp simd
        for (int64_t i = 0; i < s->N; i++) to[i] = (from[i] - m) * scale + shift;
    }
}

void es_k_batchnorm_train_fast(const struct es_k_batchnorm *s, const float *x, const float *w, const float *b,
                               float *y, float *mean, float *rstd, float *unbiased, void *ws) {
    double *sums = ws, n = (double)(s->B * s->N);
#pragma omp parallel for schedule(static) if (s->B * s->C * s->N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++)
        plane_sums(s->N, x + plane * s->N, x + plane * s->N, 0.0f, sums + 2 * plane);
    for (int64_t c = 0; c < s->C; c++) {
        double total[2];
        channel_sums(s, sums, c, total);
        double m = total[0] / n, sq = total[1] - total[0] * m;
        if (sq < 0) sq = 0;
        mean[c] = (float)m;
        rstd[c] = (float)(1.0 / sqrt(sq / n + s->eps));
        unbiased[c] = (float)(sq / (n - 1.0));
    }
    normalise(s, x, w, b, mean, rstd, y);
}

void es_k_batchnorm_eval_fast(const struct es_k_batchnorm *s, const float *x, const float *w, const float *b,
                              const float *running_mean, const float *running_var, float *y, float *mean,
                              float *rstd) {
    for (int64_t c = 0; c < s->C; c++) {
        mean[c] = running_mean[c];
        rstd[c] = (float)(1.0 / sqrt((double)running_var[c] + s->eps));
    }
    normalise(s, x, w, b, mean, rstd, y);
}

void es_k_batchnorm_bwd_fast(const struct es_k_batchnorm *s, const float *x, const float *w,
                             const float *mean, const float *rstd, const float *dy, float *dx, bool add_dx,
                             float *dw, bool add_dw, float *db, bool add_db, void *ws) {
    double *sums = ws, n = (double)(s->B * s->N);
#pragma omp parallel for schedule(static) if (s->B * s->C * s->N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++)
        plane_sums(s->N, dy + plane * s->N, x + plane * s->N, mean[plane % s->C], sums + 2 * plane);
    for (int64_t c = 0; c < s->C; c++) { /* a channel's totals replace those of its plane of clip 0 */
        double total[2], r = (double)rstd[c];
        channel_sums(s, sums, c, total);
        if (db) db[c] = (float)(total[0] + (add_db ? (double)db[c] : 0.0));
        if (dw) dw[c] = (float)(total[1] * r + (add_dw ? (double)dw[c] : 0.0));
        sums[2 * c] = s->train ? total[0] / n : 0.0;
        sums[2 * c + 1] = s->train ? total[1] * r * r / n : 0.0;
    }
    if (!dx) return;
#pragma omp parallel for schedule(static) if (s->B * s->C * s->N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++) {
        int64_t c = plane % s->C;
        float m = mean[c], scale = rstd[c] * w[c], level = (float)sums[2 * c], slope = (float)sums[2 * c + 1];
        const float *v = x + plane * s->N, *g = dy + plane * s->N;
        float *d = dx + plane * s->N;
        if (add_dx) {
#pragma omp simd
            for (int64_t i = 0; i < s->N; i++) d[i] += (g[i] - level - (v[i] - m) * slope) * scale;
        } else {
#pragma omp simd
            for (int64_t i = 0; i < s->N; i++) d[i] = (g[i] - level - (v[i] - m) * slope) * scale;
        }
    }
}
