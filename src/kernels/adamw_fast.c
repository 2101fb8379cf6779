/* Optimiser updates, vectorised by the compiler; every operation rounded as PyTorch rounds it. */
#include <math.h>

#include "impl.h"

/* No contraction here (-ffp-contract=off): products and sums round separately but where fmaf is written; PyTorch's add with alpha
 * is a fused multiply-add in its vector code. */
void es_k_adamw_fast(int64_t n, float *p, const float *g, float *m, float *v, const struct es_adamw *a) {
    double c1 = 1.0 - pow(a->beta1, (double)a->step), c2 = 1.0 - pow(a->beta2, (double)a->step);
    const float keep = (float)(1.0 - a->lr * a->weight_decay), decay = (float)a->weight_decay;
    const float b1 = (float)a->beta1, b2 = (float)a->beta2, d1 = (float)(1.0 - a->beta1),
                d2 = (float)(1.0 - a->beta2);
    const float root = (float)sqrt(c2), eps = (float)a->eps, step = (float)(-a->lr / c1),
                scale = (float)a->grad_scale;
    if (a->decoupled) {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) {
            float gi = g[i] * scale;
            m[i] = __builtin_fmaf(gi, d1, m[i] * b1);
            v[i] = v[i] * b2 + d2 * gi * gi;
            p[i] = p[i] * keep + step * m[i] / (sqrtf(v[i]) / root + eps);
        }
    } else {
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
        for (int64_t i = 0; i < n; i++) {
            float gi = __builtin_fmaf(p[i], decay, g[i] * scale);
            m[i] = __builtin_fmaf(gi, d1, m[i] * b1);
            v[i] = v[i] * b2 + d2 * gi * gi;
            p[i] = p[i] + step * m[i] / (sqrtf(v[i]) / root + eps);
        }
    }
}

void es_k_ema_fast(int64_t n, float *teacher, const float *student, double alpha) {
    const float keep = (float)alpha, take = (float)(1.0 - alpha);
#pragma omp parallel for simd schedule(static) num_threads(es_kernel_team(n))
    for (int64_t i = 0; i < n; i++) teacher[i] = __builtin_fmaf(student[i], take, teacher[i] * keep);
}
