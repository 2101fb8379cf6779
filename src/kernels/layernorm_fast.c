/* Layer norm, a row at a time; sums over a row in 16 float lanes, lanes added pairwise in double. Gradients of w and b: chunks
 * of ROWS rows, each summed by one thread into its part of ws, parts added in order in double. */
#include <math.h>

#include "impl.h"

#define ROWS 32
#define LANES 16

static inline double add_lanes(const float *s) {
    double t[LANES];
    for (int l = 0; l < LANES; l++) t[l] = (double)s[l];
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int l = 0; l < w; l++) t[l] += t[l + w];
    return t[0];
}

void es_k_layernorm_fwd_fast(int64_t rows, int64_t D, const float *x, const float *w, const float *b,
                             double eps, float *y, float *mean, float *rstd) {
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(rows *D))
    for (int64_t i = 0; i < rows; i++) {
        const float *xi = x + i * D;
        float *yi = y + i * D, s[LANES] = {0}, q[LANES] = {0};
        int64_t j = 0;
        for (; j + LANES <= D; j += LANES)
            for (int l = 0; l < LANES; l++) s[l] += xi[j + l];
        for (; j < D; j++) s[j % LANES] += xi[j];
        float mu = (float)(add_lanes(s) / (double)D);
        for (j = 0; j + LANES <= D; j += LANES)
            for (int l = 0; l < LANES; l++) {
                float c = xi[j + l] - mu;
                q[l] = __builtin_fmaf(c, c, q[l]);
            }
        for (; j < D; j++) q[j % LANES] += (xi[j] - mu) * (xi[j] - mu);
        float r = (float)(1.0 / sqrt(add_lanes(q) / (double)D + eps));
#pragma omp simd
        for (int64_t k = 0; k < D; k++) yi[k] = __builtin_fmaf((xi[k] - mu) * r, w[k], b[k]);
        if (mean) mean[i] = mu;
        if (rstd) rstd[i] = r;
    }
}

size_t es_k_layernorm_bwd_workspace(int64_t rows, int64_t D) {
    return (size_t)((rows + ROWS - 1) / ROWS * 2 * D) * sizeof(float);
}

static void row_dx(int64_t D, const float *x, const float *w, float mu, float r, const float *dy, float beta,
                   float *dx) {
    float s[LANES] = {0}, q[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= D; j += LANES)
        for (int l = 0; l < LANES; l++) {
            float g = dy[j + l] * w[j + l];
            s[l] += g;
            q[l] = __builtin_fmaf(g, (x[j + l] - mu) * r, q[l]);
        }
    for (; j < D; j++) {
        s[j % LANES] += dy[j] * w[j];
        q[j % LANES] += dy[j] * w[j] * ((x[j] - mu) * r);
    }
    float g1 = (float)(add_lanes(s) / (double)D), g2 = (float)(add_lanes(q) / (double)D);
    if (beta == 0.0f) {
#pragma omp simd
        for (int64_t k = 0; k < D; k++) dx[k] = r * (dy[k] * w[k] - g1 - (x[k] - mu) * r * g2);
    } else {
#pragma omp simd
        for (int64_t k = 0; k < D; k++)
            dx[k] = __builtin_fmaf(r, dy[k] * w[k] - g1 - (x[k] - mu) * r * g2, beta * dx[k]);
    }
}

void es_k_layernorm_bwd_fast(int64_t rows, int64_t D, const float *x, const float *w, const float *mean,
                             const float *rstd, const float *dy, const float beta[3], float *dx, float *dw,
                             float *db, float *ws) {
    int64_t chunks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel num_threads(es_kernel_team(rows *D))
    {
#pragma omp for schedule(static)
        for (int64_t c = 0; c < chunks; c++) {
            float *pw = ws + c * 2 * D, *pb = pw + D;
            for (int64_t j = 0; j < 2 * D; j++) pw[j] = 0.0f;
            for (int64_t i = c * ROWS; i < es_min64(rows, (c + 1) * ROWS); i++) {
                const float *xi = x + i * D, *gi = dy + i * D;
                float mu = mean[i], r = rstd[i];
                /* sums first: dx may be dy */
#pragma omp simd
                for (int64_t j = 0; j < D; j++) {
                    pw[j] = __builtin_fmaf(gi[j], (xi[j] - mu) * r, pw[j]);
                    pb[j] += gi[j];
                }
                if (dx) row_dx(D, xi, w, mu, r, gi, beta[0], dx + i * D);
            }
        }
#pragma omp for schedule(static)
        for (int64_t j = 0; j < D; j++) {
            double sw = dw && beta[1] != 0.0f ? (double)beta[1] * (double)dw[j] : 0.0;
            double sb = db && beta[2] != 0.0f ? (double)beta[2] * (double)db[j] : 0.0;
            for (int64_t c = 0; c < chunks; c++) {
                sw += (double)ws[c * 2 * D + j];
                sb += (double)ws[c * 2 * D + D + j];
            }
            if (dw) dw[j] = (float)sw;
            if (db) db[j] = (float)sb;
        }
    }
}
