/* spec/models.md section 1.1. */
#include <math.h>

#include "frontend_impl.h"

/* dB of power: 10 log10(max(P, 1e-10)). */
static void decibel(float *v, int n) {
    es_tile_log(v, n, 1e-10f, (float)(10 / log(10)), 0);
}

/* The 80 dB below the loudest value, then [-50, 80] dB, then the public code's constants to about [-1, 1]. */
static void scale(float *v, int64_t n, float largest) {
    const double min_db = -79.6482, max_db = 50.6842, gain = 2 / (max_db - min_db);
    es_clip_affine(v, n, fminf(fmaxf(largest - 80, -50), 80), 80, (float)gain, (float)(-min_db * gain - 1));
}

const struct es_frontend_spec es_frontend_atst_mel = {
    .name = "atst",
    .stft = {.n_fft = 1024,
             .win_samples = 1024,
             .hop_samples = 160,
             .window = ES_WINDOW_HANN_PERIODIC,
             .centred = true,
             .power = 2},
    .mel = ES_MEL_HTK,
    .n_mels = 64,
    .fmin_hz = 60,
    .fmax_hz = 7800,
    .tile = decibel,
    .clip = scale,
};
