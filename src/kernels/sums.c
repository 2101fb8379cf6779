/* Sum of squares: choice and check. */
#include <math.h>

#include "impl.h"

double es_k_sumsq(int64_t n, const float *x) {
    if (es_kernel_mode() == ES_KERNELS_REF) return es_k_sumsq_ref_f32(n, x);
    double s = es_k_sumsq_fast(n, x);
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        double want = es_k_sumsq_ref_f32(n, x);
        ES_ASSERT(fabs(s - want) <= 1.2e-16 * (double)(n + 16) * want || (isnan(s) && isnan(want)) ||
                  s == want);
    }
    return s;
}
