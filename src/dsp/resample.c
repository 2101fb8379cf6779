#include "earshot/resample.h"

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
