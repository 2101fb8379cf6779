/* spec/models.md section 1.4, step 1. */
#include "frontend_impl.h"

const struct es_frontend_spec es_frontend_crnn_mel = {
    .name = "crnn",
    .stft = {.n_fft = 2048,
             .win_samples = 2048,
             .hop_samples = 256,
             .window = ES_WINDOW_HAMMING,
             .centred = true,
             .power = 1},
    .mel = ES_MEL_HTK,
    .n_mels = 128,
    .fmin_hz = 0,
    .fmax_hz = 8000,
};
