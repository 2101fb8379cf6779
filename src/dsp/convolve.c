#include "earshot/convolve.h"

#include <string.h>

#include <fftw3.h>

#include "earshot/mem.h"

struct es_convolve {
    int64_t n_x, max_h, n_fft, row; /* row: floats of a spectrum in place */
    fftwf_plan forward, inverse;
};

/* The least even number >= n that has no prime factor above 5. */
static int64_t good_length(int64_t n) {
    for (n += n % 2;; n += 2) {
        int64_t rest = n;
        for (int64_t p = 2; p <= 5; p++)
            while (rest % p == 0) rest /= p;
        if (rest == 1) return n;
    }
}

int es_convolve_new(struct es_convolve **out, int64_t n_x, int64_t max_h, struct es_err *err) {
    ES_ASSERT(n_x >= 1 && max_h >= 1);
    struct es_convolve *c = *out = es_alloc(1, sizeof *c, err);
    if (!c) return -ES_EIO;
    c->n_x = n_x;
    c->max_h = max_h;
    c->n_fft = good_length(n_x + max_h - 1);
    c->row = (c->n_fft + 2 + 15) / 16 * 16;
    float *x = es_alloc((size_t)c->row, sizeof *x, err); /* aligned like scratch of later calls */
    if (x) {
        c->forward = fftwf_plan_dft_r2c_1d((int)c->n_fft, x, (fftwf_complex *)x, FFTW_ESTIMATE);
        c->inverse = fftwf_plan_dft_c2r_1d((int)c->n_fft, (fftwf_complex *)x, x, FFTW_ESTIMATE);
    }
    int rc = 0;
    if (!x)
        rc = -ES_EIO;
    else if (!c->forward || !c->inverse)
        rc = es_err_set(err, ES_EIO, "convolution: no plan for %lld samples; out of memory?",
                        (long long)c->n_fft);
    es_free(&x);
    if (rc < 0) es_convolve_free(out);
    return rc;
}

void es_convolve_free(struct es_convolve **c) {
    if (!*c) return;
    if ((*c)->inverse) fftwf_destroy_plan((*c)->inverse);
    if ((*c)->forward) fftwf_destroy_plan((*c)->forward);
    es_free(c);
}

int64_t es_convolve_signal(const struct es_convolve *c) {
    return c->n_x;
}

size_t es_convolve_scratch(const struct es_convolve *c) {
    return 2 * (size_t)c->row;
}

static void transform(const struct es_convolve *c, const float *x, int64_t n, float *spec) {
    memcpy(spec, x, (size_t)n * sizeof *x);
    memset(spec + n, 0, (size_t)(c->row - n) * sizeof *x);
    fftwf_execute_dft_r2c(c->forward, spec, (fftwf_complex *)spec);
}

void es_convolve_run(const struct es_convolve *c, const float *x, const float *h, int64_t n_h, int64_t offset,
                     float *y, float *scratch) {
    ES_ASSERT(n_h >= 1 && n_h <= c->max_h && offset >= 0 && offset < n_h && (uintptr_t)scratch % 64 == 0);
    float *a = scratch, *b = scratch + c->row, scale = 1.0f / (float)c->n_fft;
    transform(c, x, c->n_x, a);
    transform(c, h, n_h, b);
    for (int64_t k = 0; k <= c->n_fft; k += 2) {
        float re = a[k] * b[k] - a[k + 1] * b[k + 1], im = a[k] * b[k + 1] + a[k + 1] * b[k];
        a[k] = re * scale;
        a[k + 1] = im * scale;
    }
    fftwf_execute_dft_c2r(c->inverse, (fftwf_complex *)a, a);
    memcpy(y, a + offset, (size_t)c->n_x * sizeof *y);
}

void es_convolve_ref(const float *x, int64_t n_x, const float *h, int64_t n_h, int64_t offset, double *y) {
    for (int64_t i = 0; i < n_x; i++) {
        double sum = 0;
        for (int64_t k = 0; k < n_h; k++) {
            int64_t at = i + offset - k;
            if (at >= 0 && at < n_x) sum += (double)h[k] * (double)x[at];
        }
        y[i] = sum;
    }
}
