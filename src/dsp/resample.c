#include "earshot/resample.h"

#include <math.h>
#include <string.h>

#include <soxr.h>

#include "earshot/mem.h"

int64_t es_resample_length(int64_t n, int rate_in_hz, int rate_out_hz) {
    return (n * rate_out_hz + rate_in_hz - 1) / rate_in_hz;
}

int es_resample(const float *x, int64_t n, int rate_in_hz, int rate_out_hz, float **y, int64_t *n_out,
                struct es_err *err) {
    ES_ASSERT(n >= 0 && rate_in_hz > 0 && rate_out_hz > 0);
    *n_out = es_resample_length(n, rate_in_hz, rate_out_hz);
    *y = es_alloc((size_t)*n_out, sizeof **y, err); /* zeroed: soxr rounds its length, ours is the ceiling */
    if (!*y) return -ES_EIO;
    if (rate_in_hz == rate_out_hz) {
        memcpy(*y, x, (size_t)n * sizeof *x);
        return 0;
    }
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    soxr_io_spec_t io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    soxr_runtime_spec_t runtime = soxr_runtime_spec(1);
    size_t used = 0, made = 0;
    soxr_error_t e = soxr_oneshot(rate_in_hz, rate_out_hz, 1, x, (size_t)n, &used, *y, (size_t)*n_out, &made,
                                  &io, &quality, &runtime);
    if (e) {
        es_free(y);
        return es_err_set(err, ES_EIO, "resampling from %d to %d Hz: %s", rate_in_hz, rate_out_hz, e);
    }
    return 0;
}

/* Modified Bessel function of order 0 (series; arguments up to 15 here). */
static double bessel_i0(double x) {
    double sum = 1, term = 1;
    for (int k = 1; term > 1e-17 * sum; k++) {
        term *= x * x / (4.0 * k * k);
        sum += term;
    }
    return sum;
}

static int greatest_divisor(int a, int b) {
    return b == 0 ? a : greatest_divisor(b, a % b);
}

/* Filters of torchaudio.functional.resample: filter j of `out` makes every out-th output sample; taps at the distances
 * t = (k - width) / in - j / out (in seconds of the reduced rates) times the cut-off. kernel [out, taps]. */
static void kaiser_kernel(int in, int out, int width, int taps, double *kernel) {
    const double lobes = 6, rolloff = 0.99, beta = 14.769656459379492, pi = 3.14159265358979323846;
    double cut = (in < out ? in : out) * rolloff;
    for (int j = 0; j < out; j++)
        for (int k = 0; k < taps; k++) {
            double t = ((double)(k - width) / in - (double)j / out) * cut;
            t = fmin(fmax(t, -lobes), lobes);
            double window = bessel_i0(beta * sqrt(1 - t / lobes * (t / lobes))) / bessel_i0(beta);
            double sinc = fabs(t) > 0 ? sin(pi * t) / (pi * t) : 1.0;
            kernel[j * taps + k] = sinc * window * cut / in;
        }
}

int es_resample_kaiser(const float *x, int64_t n, int rate_in_hz, int rate_out_hz, float **y, int64_t *n_out,
                       struct es_err *err) {
    ES_ASSERT(n >= 0 && rate_in_hz > 0 && rate_out_hz > 0);
    int divisor = greatest_divisor(rate_in_hz, rate_out_hz), in = rate_in_hz / divisor,
        out = rate_out_hz / divisor;
    int width = (int)ceil(6.0 * in / ((in < out ? in : out) * 0.99)), taps = 2 * width + in;
    *n_out = es_resample_length(n, rate_in_hz, rate_out_hz);
    *y = es_alloc((size_t)*n_out, sizeof **y, err);
    double *kernel = es_alloc((size_t)out * (size_t)taps, sizeof *kernel, err);
    if (!*y || !kernel) {
        es_free(y);
        es_free(&kernel);
        return -ES_EIO;
    }
    if (in == out) {
        memcpy(*y, x, (size_t)n * sizeof *x);
    } else {
        kaiser_kernel(in, out, width, taps, kernel);
        /* output i: filter i mod out, input from (i / out) in - width on */
        for (int64_t i = 0; i < *n_out; i++) {
            const double *h = kernel + i % out * taps;
            int64_t from = i / out * in - width, first = from < 0 ? -from : 0,
                    end = n - from < taps ? n - from : taps;
            double sum = 0;
            for (int64_t k = first; k < end; k++) sum += h[k] * (double)x[from + k];
            (*y)[i] = (float)sum;
        }
    }
    es_free(&kernel);
    return 0;
}
