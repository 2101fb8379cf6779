/* Helpers of the kernel tests: seeded data, guarded buffers, comparison with bounds, finite differences.
 * Include after <cmocka.h>.
 */
#ifndef EARSHOT_KERNEL_TEST_H
#define EARSHOT_KERNEL_TEST_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/rng.h"

#define EPS 5.9604644775390625e-8 /* unit roundoff of float */
#define GUARD 37                  /* words before and after; odd, so that buffers are unaligned */
#define SENTINEL 1.2345678e33f

static inline uint64_t test_seed(void) {
    static uint64_t seed; /* of this test program */
    if (!seed) {
        const char *s = getenv("ES_TEST_SEED");
        seed = s && *s ? strtoull(s, NULL, 10) : 20240601;
        printf("ES_TEST_SEED=%llu\n", (unsigned long long)seed);
    }
    return seed;
}

static inline struct es_rng test_stream(uint32_t item) {
    return es_rng_make(test_seed(), ES_RNG_BENCH, 0, item, 0);
}

/* n floats, unaligned, sentinels around; free with guarded_free, which checks them. */
static inline float *guarded(int64_t n) {
    float *p = es_alloc((size_t)n + 2 * GUARD, sizeof *p, NULL);
    assert_non_null(p);
    for (int i = 0; i < GUARD; i++) p[i] = p[GUARD + n + i] = SENTINEL;
    return p + GUARD;
}

/* Mean 0, standard deviation scale, within 2.45 of it: the sum of two uniforms (fast). */
static inline float *guarded_random(int64_t n, uint32_t item, double scale) {
    float *p = guarded(n);
    struct es_rng r = test_stream(item);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(scale * 2.449489742783178 *
                       (((double)es_rng_u32(&r) + (double)es_rng_u32(&r)) * 0x1p-32 - 1.0));
    return p;
}

static inline float *guarded_copy(int64_t n, const float *x) {
    float *p = guarded(n);
    for (int64_t i = 0; i < n; i++) p[i] = x[i];
    return p;
}

static inline void guarded_free(int64_t n, float *p) {
    for (int i = 0; i < GUARD; i++) assert_true(p[-1 - i] == SENTINEL && p[n + i] == SENTINEL);
    float *base = p - GUARD;
    es_free(&base);
}

/* |a - b| over |b|, Euclidean; |a| where b is 0. */
static inline double distance(int64_t n, const float *a, const float *b) {
    double d2 = 0, b2 = 0;
    for (int64_t i = 0; i < n; i++) {
        d2 += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        b2 += (double)b[i] * (double)b[i];
    }
    return b2 > 0 ? sqrt(d2 / b2) : sqrt(d2);
}

/* |got - want| <= tol * (bound ? bound[i] : 1); prints the worst element when not. */
static inline void check_close(const char *what, int64_t n, const float *got, const float *want, double tol,
                               const float *bound) {
    double worst = -1;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]) - tol * (bound ? (double)bound[i] : 1.0);
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
        if (isnan(d)) break;
    }
    if (worst <= 0) return;
    fail_msg("%s: element %lld of %lld: got %.9g, want %.9g, allowed %.3g", what, (long long)at, (long long)n,
             (double)got[at], (double)want[at], tol * (bound ? (double)bound[at] : 1.0));
}

/* Largest |x|. */
static inline double max_abs(int64_t n, const float *x) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) m = fmax(m, fabs((double)x[i]));
    return m;
}

/* Compares the gradient of f at x with central differences: |got - fd| <= tol * (1 + |fd|). */
typedef double (*scalar_fn)(const double *x, const void *ctx);
static inline void check_gradient(const char *what, int64_t n, double *x, const double *gradient, scalar_fn f,
                                  const void *ctx, double step, double tol) {
    for (int64_t i = 0; i < n; i++) {
        double old = x[i];
        x[i] = old + step;
        double up = f(x, ctx);
        x[i] = old - step;
        double down = f(x, ctx);
        x[i] = old;
        double fd = (up - down) / (2 * step);
        if (!(fabs(gradient[i] - fd) <= tol * (1 + fabs(fd))))
            fail_msg("%s: element %lld: gradient %.12g, finite difference %.12g", what, (long long)i,
                     gradient[i], fd);
    }
}

static inline void random_f64(int64_t n, uint32_t item, double scale, double *x) {
    struct es_rng r = test_stream(item);
    for (int64_t i = 0; i < n; i++) x[i] = scale * es_rng_normal(&r);
}

#endif
