/* ES_KERNELS=check: the reference beside the fast kernel. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "impl.h"

#include "earshot/mem.h"

float *es_check_begin(int64_t n, const float *out) {
    if (es_kernel_mode() != ES_KERNELS_CHECK || !out) return NULL;
    float *copy = es_alloc((size_t)n, sizeof *copy, NULL);
    ES_ASSERT(copy);
    memcpy(copy, out, (size_t)n * sizeof *copy);
    return copy;
}

float *es_check_abs(int64_t n, const float *x) {
    float *copy = es_check_begin(n, x);
    for (int64_t i = 0; copy && i < n; i++) copy[i] = fabsf(copy[i]);
    return copy;
}

void es_check_free(float **x) {
    es_free(x);
}

double es_check_max(int64_t n, const float *x) {
    double max = 0;
    for (int64_t i = 0; x && i < n; i++) max = fmax(max, fabs((double)x[i]));
    return max;
}

void es_check_end(const char *what, int64_t n, const float *got, float **want, double tol,
                  const float *bound) {
    for (int64_t i = 0; *want && i < n; i++) {
        double g = (double)got[i], w = (double)(*want)[i], limit = tol * (bound ? (double)bound[i] : 1.0);
        if (fabs(g - w) <= limit || g == w || (isnan(g) && isnan(w))) continue;
        char text[256];
        snprintf(text, sizeof text, "kernel %s, element %lld: |fast %.9g - reference %.9g| <= %.3g", what,
                 (long long)i, g, w, limit);
        es_bug(__FILE__, __LINE__, text);
    }
    es_free(want);
}
