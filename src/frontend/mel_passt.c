/* spec/models.md section 1.2. */
#include "frontend_impl.h"

static void log_scale(float *v, int n) {
    es_tile_log(v, n, 1e-7f, 1 / 5.0f, 4.5f / 5);
}

const struct es_frontend_spec es_frontend_fpasst_mel = {
    .name = "fpasst",
    .stft = {.n_fft = 512,
             .win_samples = 400,
             .hop_samples = 160,
             .window = ES_WINDOW_HANN_PERIODIC,
             .centred = true,
             .power = 2,
             .frame = es_frame_preemphasis},
    .mel = ES_MEL_KALDI,
    .n_mels = 128,
    .fmin_hz = 0,
    .fmax_hz = 8000,
    .n_lost = 1,
    .tile = log_scale,
};

struct es_band es_frontend_fpasst_band_eval(int fmax_range) {
    ES_ASSERT(fmax_range >= 1);
    return (struct es_band){0, ES_FRONTEND_RATE_HZ / 2 - fmax_range / 2};
}

struct es_band es_frontend_fpasst_band_train(int fmax_range, int draw_min, int draw_max) {
    ES_ASSERT(draw_min >= 0 && draw_max >= 0 && draw_max < fmax_range);
    struct es_band eval = es_frontend_fpasst_band_eval(fmax_range);
    return (struct es_band){draw_min, eval.fmax_hz + fmax_range / 2 - draw_max};
}
