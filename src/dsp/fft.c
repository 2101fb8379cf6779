#include "earshot/fft.h"

#include <stdint.h>

#include <fftw3.h>

#include "earshot/mem.h"

struct es_fft {
    int row, spec_row; /* floats */
    fftwf_plan plan;
};

static int round_up_16(int n) {
    return (n + 15) & ~15;
}

int es_fft_new(struct es_fft **fft, int n, int n_rows, struct es_err *err) {
    ES_ASSERT(n >= 1 && n_rows >= 1);
    float *x = NULL, *spec = NULL;
    int rc = -ES_EIO;
    struct es_fft *f = *fft = es_alloc(1, sizeof *f, err);
    if (!f) return rc;
    f->row = round_up_16(n);
    f->spec_row = round_up_16(2 * (n / 2 + 1));
    /* Plans are made on buffers aligned like those of later calls (FFTW: new-array execute functions). */
    x = es_alloc((size_t)n_rows * (size_t)f->row, sizeof *x, err);
    if (!x) goto done;
    spec = es_alloc((size_t)n_rows * (size_t)f->spec_row, sizeof *spec, err);
    if (!spec) goto done;
    f->plan = fftwf_plan_many_dft_r2c(1, &n, n_rows, x, NULL, 1, f->row, (fftwf_complex *)spec, NULL, 1,
                                      f->spec_row / 2, FFTW_ESTIMATE | FFTW_PRESERVE_INPUT);
    if (f->plan)
        rc = 0;
    else
        es_err_set(err, ES_EIO, "fft: no plan for %d rows of %d samples; out of memory?", n_rows, n);
done:
    es_free(&spec);
    es_free(&x);
    if (rc < 0) es_fft_free(fft);
    return rc;
}

void es_fft_free(struct es_fft **fft) {
    if (!*fft) return;
    if ((*fft)->plan) fftwf_destroy_plan((*fft)->plan);
    es_free(fft);
}

int es_fft_row(const struct es_fft *fft) {
    return fft->row;
}
int es_fft_spec_row(const struct es_fft *fft) {
    return fft->spec_row;
}

void es_fft_forward(const struct es_fft *fft, const float *x, float *spec) {
    ES_ASSERT((uintptr_t)x % 64 == 0 && (uintptr_t)spec % 64 == 0);
    union { /* FFTW's prototype lacks const; FFTW_PRESERVE_INPUT keeps the promise */
        const float *in;
        float *out;
    } u = {.in = x};
    fftwf_execute_dft_r2c(fft->plan, u.out, (fftwf_complex *)spec);
}
