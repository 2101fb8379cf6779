/* Resampling by libsoxr, quality HQ (as librosa's default in the public recipe; spec/training.md 1.9).
 * Collectivity: none; thread-safe; one thread. */
#ifndef EARSHOT_RESAMPLE_H
#define EARSHOT_RESAMPLE_H

#include <stdint.h>

#include "earshot/err.h"

/* ceil(n * rate_out / rate_in) */
int64_t es_resample_length(int64_t n, int rate_in_hz, int rate_out_hz);

/* x [n] at rate_in_hz -> *y, a new block (es_free) of es_resample_length samples. Equal rates copy. */
int es_resample(const float *x, int64_t n, int rate_in_hz, int rate_out_hz, float **y, int64_t *n_out,
                struct es_err *err);

/* The same by torchaudio's windowed sinc, "sinc_interp_kaiser" with lowpass_filter_width 6, rolloff 0.99, beta
 * 14.769656459379492: AudioSet clips and impulse responses in the public recipe (spec/training.md 1.11). Rates are reduced by
 * their greatest common divisor; sums in double. */
int es_resample_kaiser(const float *x, int64_t n, int rate_in_hz, int rate_out_hz, float **y, int64_t *n_out,
                       struct es_err *err);

#endif
