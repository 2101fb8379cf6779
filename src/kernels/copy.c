/* Data movement and single element-wise sums: nothing to choose, so one implementation serves all modes. */
#include <string.h>

#include "impl.h"

void es_k_add(int64_t n, const float *a, const float *b, float *out) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

void es_k_scale_add(int64_t n, float alpha, const float *x, const float *b, float *y) {
    if (b) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i] + b[i];
    } else {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];
    }
}

void es_k_copy2d(int64_t rows, int64_t cols, const float *src, int64_t ld_src, float beta, float *dst,
                 int64_t ld_dst) {
    ES_ASSERT(beta == 0.0f || beta == 1.0f);
    const int64_t piece = 4096,
                  pieces = (cols + piece - 1) / piece; /* of a row: one long row has work for all threads */
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(rows *cols))
    for (int64_t i = 0; i < rows * pieces; i++) {
        int64_t at = i % pieces * piece, n = es_min64(piece, cols - at);
        const float *s = src + i / pieces * ld_src + at;
        float *d = dst + i / pieces * ld_dst + at;
        if (beta == 0.0f)
            memcpy(d, s, (size_t)n * sizeof *d);
        else
            for (int64_t j = 0; j < n; j++) d[j] += s[j];
    }
}

void es_k_add_rows(int64_t B, int64_t T, int64_t D, const float *x, const float *table, float *y) {
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *T *D))
    for (int64_t r = 0; r < B * T; r++) {
        const float *row = table + r % T * D;
        for (int64_t j = 0; j < D; j++) y[r * D + j] = x[r * D + j] + row[j];
    }
}

void es_k_patchify_fwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *x, float *y) {
    int64_t N = W / p;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *W))
    for (int64_t r = 0; r < B * N; r++) {
        const float *from = x + r / N * F * W + r % N * p;
        for (int64_t f = 0; f < F; f++)
            for (int64_t j = 0; j < p; j++) y[(r * F + f) * p + j] = from[f * W + j];
    }
}

void es_k_patchify_bwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *dy, float beta, float *dx) {
    ES_ASSERT(beta == 0.0f || beta == 1.0f);
    int64_t N = W / p;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *W))
    for (int64_t r = 0; r < B * F; r++) {
        const float *from = dy + (r / F * N * F + r % F) * p;
        for (int64_t t = 0; t < W; t++) {
            float g = t < N * p ? from[t / p * F * p + t % p] : 0.0f;
            dx[r * W + t] = beta == 0.0f ? g : dx[r * W + t] + g;
        }
    }
}

void es_k_patch2d_fwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *x, float *y) {
    int64_t bands = F / p, N = W / p * bands;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *W))
    for (int64_t r = 0; r < B * N; r++) {
        const float *from = x + r / N * F * W + r % bands * p * W + r % N / bands * p;
        for (int64_t i = 0; i < p; i++)
            for (int64_t j = 0; j < p; j++) y[(r * p + i) * p + j] = from[j * W + i];
    }
}

void es_k_patch2d_bwd(int64_t B, int64_t F, int64_t W, int64_t p, const float *dy, float beta, float *dx) {
    ES_ASSERT(beta == 0.0f || beta == 1.0f);
    int64_t bands = F / p, times = W / p;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *W))
    for (int64_t r = 0; r < B * F; r++) {
        int64_t b = r / F, f = r % F;
        for (int64_t t = 0; t < W; t++) {
            bool inside = t < times * p && f < bands * p;
            int64_t token = (b * times + t / p) * bands + f / p;
            float g = inside ? dy[(token * p + t % p) * p + f % p] : 0.0f;
            dx[r * W + t] = beta == 0.0f ? g : dx[r * W + t] + g;
        }
    }
}

/* Channels at a time: their rows of x stay in the first cache while y is written by lines. The common k is a constant of its own
 * copy of the loop. */
#define TAP_ROWS 16

static inline void taps_fwd_rows(int64_t F, int64_t T, int64_t k, int64_t f0, int64_t f1, const float *x,
                                 float *y) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t f = f0; f < f1; f++)
            for (int64_t j = 0; j < k; j++) y[(t * F + f) * k + j] = t + j < T ? x[f * T + t + j] : 0.0f;
}

static inline void taps_bwd_rows(int64_t F, int64_t T, int64_t k, int64_t f0, int64_t f1, const float *dy,
                                 float beta, float *dx) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t f = f0; f < f1; f++) {
            float g = beta == 0.0f ? 0.0f : dx[f * T + t];
            for (int64_t j = 0; j < k && j <= t; j++) g += dy[((t - j) * F + f) * k + j];
            dx[f * T + t] = g;
        }
}

void es_k_taps_fwd(int64_t B, int64_t F, int64_t T, int64_t k, const float *x, float *y) {
    int64_t blocks = (F + TAP_ROWS - 1) / TAP_ROWS;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *T *k))
    for (int64_t i = 0; i < B * blocks; i++) {
        int64_t f0 = i % blocks * TAP_ROWS, f1 = es_min64(f0 + TAP_ROWS, F);
        const float *from = x + i / blocks * F * T;
        float *to = y + i / blocks * F * T * k;
        if (k == 2)
            taps_fwd_rows(F, T, 2, f0, f1, from, to);
        else
            taps_fwd_rows(F, T, k, f0, f1, from, to);
    }
}

void es_k_taps_bwd(int64_t B, int64_t F, int64_t T, int64_t k, const float *dy, float beta, float *dx) {
    ES_ASSERT(beta == 0.0f || beta == 1.0f);
    int64_t blocks = (F + TAP_ROWS - 1) / TAP_ROWS;
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(B *F *T *k))
    for (int64_t i = 0; i < B * blocks; i++) {
        int64_t f0 = i % blocks * TAP_ROWS, f1 = es_min64(f0 + TAP_ROWS, F);
        const float *from = dy + i / blocks * F * T * k;
        float *to = dx + i / blocks * F * T;
        if (k == 2)
            taps_bwd_rows(F, T, 2, f0, f1, from, beta, to);
        else
            taps_bwd_rows(F, T, k, f0, f1, from, beta, to);
    }
}
