/* spec/models.md section 1.3. */
#include "frontend_impl.h"

/* QUIRK: the public code divides by twice the standard deviation (cpjku_dcase24
 * models/beats/BEATs_wrapper.py). */
static void log_scale(float *v, int n) {
    const double mean = 15.41663, std = 6.55582;
    es_tile_log(v, n, 1.1920928955078125e-7f, (float)(1 / (2 * std)), (float)(-mean / (2 * std)));
}

const struct es_frontend_spec es_frontend_beats_fbank = {
    .name = "beats",
    .stft = {.n_fft = 512,
             .win_samples = 400,
             .hop_samples = 160,
             .window = ES_WINDOW_POVEY,
             .centred = false,
             .power = 2,
             .frame = es_frame_kaldi},
    .mel = ES_MEL_KALDI,
    .n_mels = 128,
    .fmin_hz = 20,
    .fmax_hz = 8000,
    .tile = log_scale,
};
