/* Tools of the tests of CRNN kernels and losses: seeded data, unaligned arrays between sentinels,
 * comparisons, finite differences. Include it after <cmocka.h>. Arrays live until kt_done, which checks that
 * no sentinel was overwritten. */
#ifndef EARSHOT_CRNN_TEST_H
#define EARSHOT_CRNN_TEST_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

#define KT_GUARD 24
#define KT_MAX 256

static struct {
    struct es_rng rng;
    int n;
    char *block[KT_MAX];
    size_t bytes[KT_MAX]; /* of the array */
    size_t offset[KT_MAX];
} kt;

static inline void kt_seed(void) {
    const char *s = getenv("ES_TEST_SEED");
    uint64_t seed = s ? strtoull(s, NULL, 10) : 1;
    printf("seed %llu (ES_TEST_SEED)\n", (unsigned long long)seed);
    kt.rng = es_rng_make(seed, ES_RNG_BENCH, 0, 0, 0);
}

static inline double kt_uniform(double lo, double hi) {
    return es_rng_range(&kt.rng, lo, hi);
}

/* Bytes between guards, all bytes 0xa5; starts `skew` bytes after a 64-byte boundary. */
static inline void *kt_block(size_t bytes, size_t skew) {
    assert_true(kt.n < KT_MAX);
    size_t at = 64 + skew;
    char *p = es_alloc(1, at + bytes + 64, NULL);
    assert_non_null(p);
    memset(p, 0xa5, at + bytes + 64);
    kt.block[kt.n] = p;
    kt.bytes[kt.n] = bytes;
    kt.offset[kt.n++] = at;
    return p + at;
}

static inline float *kt_new(int64_t n) { /* unaligned on purpose */
    return kt_block((size_t)n * sizeof(float), 4u * (1 + (size_t)(kt.n % 7)));
}
static inline double *kt_newd(int64_t n) {
    return kt_block((size_t)n * sizeof(double), 0);
}
static inline void *kt_scratch(size_t bytes) {
    return kt_block(bytes, 0);
}

/* Uniform values in f32; d, when given, holds the same numbers. */
static inline float *kt_random(int64_t n, double lo, double hi, double **d) {
    float *x = kt_new(n);
    for (int64_t i = 0; i < n; i++) x[i] = (float)kt_uniform(lo, hi);
    if (d) *d = kt_newd(n);
    for (int64_t i = 0; d && i < n; i++) (*d)[i] = (double)x[i];
    return x;
}

static inline float *kt_copy(int64_t n, const float *x) {
    float *y = kt_new(n);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

static inline void kt_done(void) {
    while (kt.n > 0) {
        char *p = kt.block[--kt.n];
        size_t from = kt.offset[kt.n], to = from + kt.bytes[kt.n];
        for (size_t i = 0; i < to + 64; i++)
            if ((i < from || i >= to) && (unsigned char)p[i] != 0xa5)
                fail_msg("array %d of %zu bytes: byte %lld was overwritten", kt.n, kt.bytes[kt.n],
                         (long long)i - (long long)from);
        es_free(&kt.block[kt.n]);
    }
}

/* Largest difference over the largest reference value (or over scale, when that is larger). */
static inline void kt_close(const char *what, int64_t n, const float *got, const float *want, double scale,
                            double tol) {
    double top = scale, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        top = fmax(top, fabs((double)want[i]));
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
    }
    if (!(worst <= tol * top))
        fail_msg("%s: element %lld of %lld: got %.9g, want %.9g, error %.3g of %.3g", what, (long long)at,
                 (long long)n, (double)got[at], (double)want[at], worst, tol * top);
}

/* Gradient of loss(ctx) with respect to v by central differences, at up to 60 places. */
typedef double (*kt_loss_fn)(void *ctx);
static inline void kt_gradient(const char *what, kt_loss_fn loss, void *ctx, double *v, int64_t n,
                               const double *grad, double step, double tol) {
    double top = 1e-3;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(grad[i]));
    for (int64_t k = 0; k < (n < 60 ? n : 60); k++) {
        int64_t i = n < 60 ? k : (int64_t)es_rng_below(&kt.rng, (uint64_t)n);
        double keep = v[i];
        v[i] = keep + step;
        double up = loss(ctx);
        v[i] = keep - step;
        double down = loss(ctx);
        v[i] = keep;
        double want = (up - down) / (2 * step);
        if (!(fabs(want - grad[i]) <= tol * top))
            fail_msg("%s: element %lld of %lld: gradient %.9g, by differences %.9g", what, (long long)i,
                     (long long)n, grad[i], want);
    }
}

static inline double kt_dot(int64_t n, const double *a, const double *b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

#endif
