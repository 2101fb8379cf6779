/* Layer norm: choice and check. */
#include <math.h>

#include "impl.h"

void es_k_layernorm_fwd(int64_t rows, int64_t D, const float *x, const float *w, const float *b, double eps,
                        float *y, float *mean, float *rstd) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_layernorm_fwd_ref_f32(rows, D, x, w, b, eps, y, mean, rstd);
        return;
    }
    float *want = es_check_begin(rows * D, y);
    double tol = 0;
    if (want) {
        es_k_layernorm_fwd_ref_f32(rows, D, x, w, b, eps, want, NULL, NULL);
        /* x - mean loses eps |x|, times rstd; lanes sum D/16 terms */
        double xmax = es_check_max(rows * D, x), least = HUGE_VAL;
        for (int64_t i = 0; i < rows; i++) {
            double s = 0, q = 0;
            for (int64_t j = 0; j < D; j++) s += (double)x[i * D + j];
            for (int64_t j = 0; j < D; j++) q += pow((double)x[i * D + j] - s / (double)D, 2);
            least = fmin(least, sqrt(q / (double)D + eps));
        }
        tol = (8 + (double)D / 8) * ES_EPS *
              ((1 + xmax / least) * es_check_max(D, w) * sqrt((double)D) + es_check_max(D, b));
    }
    es_k_layernorm_fwd_fast(rows, D, x, w, b, eps, y, mean, rstd);
    es_check_end("layernorm_fwd", rows * D, y, &want, tol, NULL);
}

void es_k_layernorm_bwd(int64_t rows, int64_t D, const float *x, const float *w, const float *mean,
                        const float *rstd, const float *dy, const float beta[3], float *dx, float *dw,
                        float *db, void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_layernorm_bwd_ref_f32(rows, D, x, w, mean, rstd, dy, beta, dx, dw, db);
        return;
    }
    float *wx = es_check_begin(rows * D, dx), *ww = es_check_begin(D, dw), *wb = es_check_begin(D, db);
    double tx = 0, tw = 0, tb = 0;
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        /* h = (x - mean) rstd: its size and what rounding x costs */
        double h = 0, g = es_check_max(rows * D, dy), r = es_check_max(rows, rstd);
        for (int64_t i = 0; i < rows * D; i++)
            h = fmax(h, fabs(((double)x[i] - (double)mean[i / D]) * (double)rstd[i / D]));
        double dh = 4 * ES_EPS * (1 + h + r * es_check_max(rows * D, x)), gw = g * es_check_max(D, w);
        double lanes = 8 + (double)D / 8;
        tx = r * gw * (lanes * ES_EPS * (1 + h * h) + dh * (1 + h)) +
             2 * ES_EPS * (double)fabsf(beta[0]) * es_check_max(rows * D, wx);
        tw = (double)rows * g * (dh + 34 * ES_EPS * h) +
             2 * ES_EPS * (double)fabsf(beta[1]) * es_check_max(D, ww);
        tb = (double)rows * g * 34 * ES_EPS + 2 * ES_EPS * (double)fabsf(beta[2]) * es_check_max(D, wb);
        es_k_layernorm_bwd_ref_f32(rows, D, x, w, mean, rstd, dy, beta, wx, ww, wb);
    }
    es_k_layernorm_bwd_fast(rows, D, x, w, mean, rstd, dy, beta, dx, dw, db, ws);
    es_check_end("layernorm_bwd dx", rows * D, dx, &wx, tx, NULL);
    es_check_end("layernorm_bwd dw", D, dw, &ww, tw, NULL);
    es_check_end("layernorm_bwd db", D, db, &wb, tb, NULL);
}
