/* Optimiser updates: choice and check. */
#include <math.h>

#include "impl.h"

void es_k_adamw(int64_t n, float *p, const float *g, float *m, float *v, const struct es_adamw *a) {
    ES_ASSERT(a->step >= 1);
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_adamw_ref_f32(n, p, g, m, v, a);
        return;
    }
    float *wp = es_check_begin(n, p), *wm = es_check_begin(n, m), *wv = es_check_begin(n, v);
    double tp = 0, tm = 0, tv = 0;
    if (wp) {
        double gmax = es_check_max(n, g) * fabs(a->grad_scale) +
                      (a->decoupled ? 0.0 : a->weight_decay * es_check_max(n, p));
        tm = 8 * ES_EPS * (es_check_max(n, m) + gmax);
        tv = 8 * ES_EPS * (es_check_max(n, v) + gmax * gmax);
        double c1 = 1.0 - pow(a->beta1, (double)a->step), c2 = 1.0 - pow(a->beta2, (double)a->step);
        /* the step's size is lr m / (sqrt v + eps); its error, that of m over the denominator and that of sqrt v, is taken per
         * element and the largest kept */
        double worst = 0;
        es_k_adamw_ref_f32(n, wp, g, wm, wv, a);
        for (int64_t i = 0; i < n; i++) {
            double root = sqrt((double)wv[i] / c2), den = root + a->eps,
                   gi = fabs((double)g[i] * a->grad_scale);
            double mi = fabs((double)wm[i]) + gi; /* m may cancel */
            worst = fmax(worst, (8 * mi + 8 * fabs((double)wm[i])) * ES_EPS / den);
        }
        tp = 4 * ES_EPS * es_check_max(n, p) + a->lr / c1 * worst * (a->decoupled ? 1.0 : 64.0);
    }
    es_k_adamw_fast(n, p, g, m, v, a);
    es_check_end("adamw m", n, m, &wm, tm, NULL);
    es_check_end("adamw v", n, v, &wv, tv, NULL);
    es_check_end("adamw p", n, p, &wp, tp, NULL);
}

void es_k_ema(int64_t n, float *teacher, const float *student, double alpha) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_ema_ref_f32(n, teacher, student, alpha);
        return;
    }
    float *want = es_check_begin(n, teacher);
    double tol = want ? 4 * ES_EPS * (es_check_max(n, teacher) + es_check_max(n, student)) : 0.0;
    if (want) es_k_ema_ref_f32(n, want, student, alpha);
    es_k_ema_fast(n, teacher, student, alpha);
    es_check_end("ema", n, teacher, &want, tol, NULL);
}
