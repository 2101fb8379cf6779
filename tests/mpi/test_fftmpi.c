/* RANKS 1 2 3 4
 * TIMEOUT 180
 * Distributed resampling and convolution against serial FFTW of the same algorithm, against libsoxr below 7 kHz, against the sum;
 * shares of memory; failures of one rank. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fftw3.h>

#include "earshot/audio.h"
#include "earshot/convolve.h"
#include "earshot/fault.h"
#include "earshot/fftmpi.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/rng.h"

#define PI 3.14159265358979323846

struct signal {
    int64_t n;
    float *x;
    int fail; /* rank-local: the reader fails */
};

static int part(void *ctx, int64_t first, int64_t n, double *x, struct es_err *err) {
    const struct signal *s = ctx;
    ES_ASSERT(first >= 0 && n >= 0 && first + n <= s->n);
    if (s->fail) return es_err_set(err, ES_EDATA, "long.wav: cannot read");
    for (int64_t i = 0; i < n; i++) x[i] = (double)s->x[first + i];
    return 0;
}

static struct signal noise(int64_t n) {
    struct es_rng r = es_rng_make(3, ES_RNG_INIT, 0, 0, 0);
    struct signal s = {.n = n, .x = es_alloc((size_t)n, sizeof(float), NULL)};
    for (int64_t i = 0; i < n; i++) s.x[i] = (float)(0.8 * es_rng_uniform(&r) - 0.4);
    return s;
}

static int64_t divisor(int64_t a, int64_t b) {
    return b ? divisor(b, a % b) : a;
}

/* The algorithm of fftmpi.h on one process, by plain FFTW. */
static double *serial(const struct signal *s, int in_hz, int out_hz, int64_t *n_out) {
    int64_t g = divisor(in_hz, out_hz), in = in_hz / g, out = out_hz / g,
            units = (s->n + in_hz + in - 1) / in;
    for (units = (units + 23) / 24 * 24;; units += 24) {
        int64_t rest = units;
        for (int p = 2; p <= 5; p++)
            while (rest % p == 0) rest /= p;
        if (rest == 1) break;
    }
    int64_t N = units * in, M = units * out, half = (N < M ? N : M) / 2;
    fftw_complex *a = es_alloc((size_t)N, sizeof *a, NULL), *b = es_alloc((size_t)M, sizeof *b, NULL);
    fftw_plan forward = fftw_plan_dft_1d((int)N, a, a, FFTW_FORWARD, FFTW_ESTIMATE),
              back = fftw_plan_dft_1d((int)M, b, b, FFTW_BACKWARD, FFTW_ESTIMATE);
    for (int64_t i = 0; i < s->n; i++) a[i][0] = (double)s->x[i];
    fftw_execute(forward);
    for (int64_t k = -half; k <= half; k++) {
        double share = k == half || k == -half ? 0.5 : 1;
        b[(k + M) % M][0] += share * a[(k + N) % N][0];
        b[(k + M) % M][1] += share * a[(k + N) % N][1];
    }
    fftw_execute(back);
    *n_out = es_resample_length(s->n, in_hz, out_hz);
    double *y = es_alloc((size_t)*n_out, sizeof *y, NULL);
    for (int64_t i = 0; i < *n_out; i++) y[i] = b[i][0] / (double)N;
    fftw_destroy_plan(forward);
    fftw_destroy_plan(back);
    es_free(&a);
    es_free(&b);
    return y;
}

/* Everything on every rank. */
static double *whole(const struct es_spread *s, const struct es_comm *c) {
    double *y = es_alloc((size_t)s->total, sizeof *y, NULL);
    for (int r = 0; r < es_comm_size(c); r++) es_spread_collect_all(s, c, 0, s->total, r, y);
    return y;
}

static int16_t stored(double v) {
    float x = (float)v;
    int16_t pcm;
    es_pcm_from_float(&x, 1, &pcm);
    return pcm;
}

static void rates(const struct es_comm *c) {
    static const int rate[][2] = {
        {44100, 16000}, {48000, 16000}, {22050, 16000}, {8000, 16000}, {96000, 16000}};
    for (size_t i = 0; i < sizeof rate / sizeof *rate; i++) {
        struct signal s = noise(2 * rate[i][0] + 4321);
        struct es_spread y;
        struct es_err err = {0};
        int64_t n;
        ES_ASSERT(es_fftmpi_resample_all(&y, c, s.n, rate[i][0], rate[i][1], part, &s, &err) == 0);
        double *want = serial(&s, rate[i][0], rate[i][1], &n), *got = whole(&y, c), most = 0;
        ES_ASSERT(y.total == n);
        for (int64_t k = 0; k < n; k++) {
            most = fmax(most, fabs(got[k] - want[k]));
            ES_ASSERT(abs(stored(got[k]) - stored(want[k])) <= 1);
        }
        ES_ASSERT(most < 1e-6);
        if (es_comm_rank(c) == 0)
            printf("%d Hz -> %d Hz: %.1e from serial FFTW\n", rate[i][0], rate[i][1], most);
        int64_t share = es_comm_max_all(c, y.n);
        ES_ASSERT(es_comm_sum_all(c, y.n) == y.total);
        ES_ASSERT((double)share <=
                  1.35 * (double)(y.total + 16000) / es_comm_size(c)); /* with the silence behind */
        double piece[1000] = {0};                                      /* a piece to the last rank */
        int last = es_comm_size(c) - 1;
        es_spread_collect_all(&y, c, n / 2 - 500, 1000, last, piece);
        if (es_comm_rank(c) == last) ES_ASSERT(memcmp(piece, got + n / 2 - 500, sizeof piece) == 0);
        es_free(&want);
        es_free(&got);
        es_free(&s.x);
        es_spread_free(&y);
    }
}

static double level_db(const double *y, int64_t n, double hz, double rate) {
    double re = 0, im = 0; /* whole seconds, Hann */
    for (int64_t i = 0; i < n; i++) {
        double w = 1 - cos(2 * PI * (double)i / (double)n);
        re += w * y[i] * cos(2 * PI * hz * (double)i / rate);
        im += w * y[i] * sin(2 * PI * hz * (double)i / rate);
    }
    return 20 * log10(hypot(re, im) * 2 / (double)n);
}

static void against_soxr(const struct es_comm *c) {
    static const double hz[] = {50, 440, 1000, 3333, 5000, 6000, 6999};
    const int n_hz = sizeof hz / sizeof *hz, rate = 44100;
    struct signal s = {.n = 4 * rate, .x = es_alloc(4 * (size_t)rate, sizeof(float), NULL)};
    for (int64_t i = 0; i < s.n; i++) {
        double sum = 0;
        for (int k = 0; k < n_hz; k++) sum += 0.1 * sin(2 * PI * hz[k] * (double)i / rate + k);
        s.x[i] = (float)sum;
    }
    struct es_spread y;
    struct es_err err = {0};
    float *soxr = NULL;
    int64_t n;
    ES_ASSERT(es_fftmpi_resample_all(&y, c, s.n, rate, 16000, part, &s, &err) == 0);
    ES_ASSERT(es_resample(s.x, s.n, rate, 16000, &soxr, &n, &err) == 0 && n == y.total);
    double *ours = whole(&y, c), *theirs = es_alloc((size_t)n, sizeof *theirs, NULL), most = 0;
    for (int64_t i = 0; i < n; i++) theirs[i] = (double)soxr[i];
    for (int k = 0; k < n_hz; k++) {
        double a = level_db(ours + 16000, 32000, hz[k], 16000),
               b = level_db(theirs + 16000, 32000, hz[k], 16000);
        ES_ASSERT(fabs(a + 20) < 0.01); /* amplitude 0.1 */
        most = fmax(most, fabs(a - b));
    }
    if (es_comm_rank(c) == 0) printf("below 7 kHz: %.4f dB from soxr HQ\n", most);
    ES_ASSERT(most < 0.01);
    es_free(&theirs);
    es_free(&ours);
    es_free(&soxr);
    es_free(&s.x);
    es_spread_free(&y);
}

static void convolution(const struct es_comm *c) {
    static const int64_t sizes[][3] = {
        {20000, 1, 0}, {20000, 3000, 0}, {20000, 3000, 1500}, {777, 2000, 1999}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const int64_t n = sizes[i][0], n_h = sizes[i][1], offset = sizes[i][2], rank = es_comm_rank(c),
                      size = es_comm_size(c);
        struct signal s = noise(n + n_h);
        double *h = es_alloc((size_t)n_h, sizeof *h, NULL), *want = es_alloc((size_t)n, sizeof *want, NULL),
               most = 0;
        for (int64_t k = 0; k < n_h; k++) h[k] = (double)s.x[n + k];
        struct es_spread y = {
            .total = n, .first = n * rank / size, .n = n * (rank + 1) / size - n * rank / size};
        struct es_err err = {0};
        y.x = es_alloc((size_t)y.n, sizeof *y.x, NULL);
        for (int64_t k = 0; k < y.n; k++) y.x[k] = (double)s.x[y.first + k];
        ES_ASSERT(es_fftmpi_convolve_all(&y, c, h, n_h, offset, &err) == 0 && y.total == n);
        es_convolve_ref(s.x, n, s.x + n, n_h, offset, want);
        double *got = whole(&y, c);
        for (int64_t k = 0; k < n; k++) most = fmax(most, fabs(got[k] - want[k]));
        if (es_comm_rank(c) == 0) printf("convolution %d * %d: %.1e from the sum\n", (int)n, (int)n_h, most);
        ES_ASSERT(most < 1e-10);
        es_free(&got);
        es_free(&want);
        es_free(&h);
        es_free(&s.x);
        es_spread_free(&y);
    }
}

static void failures(const struct es_comm *c) {
    struct signal s = noise(100000); /* every rank has a part */
    struct es_spread y;
    struct es_err err = {0};
    int rank = es_comm_rank(c), rc = -1;
    int64_t before = es_mem_live_blocks();
    s.fail = rank == es_comm_size(c) / 2;
    ES_ASSERT(es_fftmpi_resample_all(&y, c, s.n, 44100, 16000, part, &s, &err) == -ES_EDATA && !y.x);
    ES_ASSERT(strstr(err.msg, "long.wav: cannot read"));
    s.fail = 0;
    for (int n = 1; rc < 0; n++) {
        char spec[64];
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, es_comm_size(c) / 2);
        es_fault_init(spec, rank);
        rc = es_fftmpi_resample_all(&y, c, s.n, 44100, 16000, part, &s, &err);
        es_fault_init(NULL, rank);
        ES_ASSERT(es_comm_min_all(c, rc) == es_comm_max_all(c, rc) && n < 20);
        ES_ASSERT(rc == 0 || (rc == -ES_EIO && es_mem_live_blocks() == before));
        ES_ASSERT(rc < 0 || n > 5);
    }
    es_spread_free(&y);
    es_free(&s.x);
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return err.code;
    rates(c);
    against_soxr(c);
    convolution(c);
    failures(c);
    es_comm_fini_all(&c);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
