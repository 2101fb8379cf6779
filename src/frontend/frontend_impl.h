/* Shared by the files of src/frontend only: one description per kind of frontend, run by frontend.c. */
#ifndef EARSHOT_FRONTEND_IMPL_H
#define EARSHOT_FRONTEND_IMPL_H

#include "earshot/frontend.h"
#include "earshot/mel.h"
#include "earshot/stft.h"

#define ES_FRONTEND_RATE_HZ 16000

struct es_frontend_spec {
    const char *name;
    struct es_stft_params stft;
    enum es_mel_kind mel;
    int n_mels;
    double fmin_hz, fmax_hz;
    int n_lost; /* samples by which the signal that frames see is shorter than the clip */
    /* After the bank, in place: a tile of n values; may be NULL. */
    void (*tile)(float *v, int n);
    /* After the last tile, in place: a clip, given the largest value of clip or batch; may be NULL. */
    void (*clip)(float *v, int64_t n, float largest);
};

extern const struct es_frontend_spec es_frontend_crnn_mel, es_frontend_atst_mel, es_frontend_fpasst_mel,
    es_frontend_beats_fbank;

/* Frames (es_frame_fn). Pre-emphasis of the whole signal: n is the length after it, one less than that of x.
 */
void es_frame_preemphasis(const float *x, int64_t n, int64_t start, const float *window, int win, float *out);
/* Kaldi's: times 2^15, minus the frame's mean, pre-emphasis inside the frame. */
void es_frame_kaldi(const float *x, int64_t n, int64_t start, const float *window, int win, float *out);

/* v = a * log(max(v, least)) + b, natural logarithm; least > 0 is normal. */
void es_tile_log(float *v, int n, float least, float a, float b);

/* v = a * clamp(v, low, high) + b */
void es_clip_affine(float *v, int64_t n, float low, float high, float a, float b);
float es_clip_largest(const float *v, int64_t n);

#endif
