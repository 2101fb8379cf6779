/* Mel filter banks: triangles over the bins of a spectrum, kept as bands of non-zero weights.
 *
 *   struct es_mel *mel = NULL;
 *   ES_TRY(es_mel_new(&mel, 128, 2048, 16000, err));
 *   ES_TRY(es_mel_fill(mel, ES_MEL_HTK, 0, 8000, err));       may be repeated: no allocation
 *   es_mel_apply(mel, spectrum_tile, mel_tile);               tiles of stft.h
 *
 * ES_MEL_HTK    torchaudio.functional.melscale_fbanks(mel_scale="htk", norm=None): m(f) = 2595 log10(1 + f /
 * 700), corners equally spaced in mel, triangles linear in Hz, peak 1. ES_MEL_KALDI
 * torchaudio.compliance.kaldi.get_mel_banks (no warp): m(f) = 1127 ln(1 + f / 700), triangles linear in mel;
 * the last bin (half the rate) has weight 0 in every filter. Weights are computed in double and rounded once.
 * No area normalisation. Filters narrower than a bin may be empty.
 *
 * Threads: es_mel_apply is thread-safe, es_mel_fill must not run beside it. Collectivity: none.
 * Source: spec/models.md section 1.0.
 */
#ifndef EARSHOT_MEL_H
#define EARSHOT_MEL_H

#include "earshot/err.h"

enum es_mel_kind { ES_MEL_HTK, ES_MEL_KALDI };

struct es_mel_band { /* filter: sum over i < count of weight[at + i] * spectrum[first + i] */
    int first, count, at;
};

struct es_mel { /* plain; read it, do not write it */
    int n_mels, n_fft, rate_hz, n_bins;
    struct es_mel_band *band; /* [n_mels] */
    float *weight;            /* all bands, one after the other; at most 2 n_bins */
};

int es_mel_new(struct es_mel **mel, int n_mels, int n_fft, int rate_hz, struct es_err *err);
void es_mel_free(struct es_mel **mel);

/* Errors: ES_EUSAGE unless 0 <= fmin_hz < fmax_hz <= rate / 2. */
int es_mel_fill(struct es_mel *mel, enum es_mel_kind kind, double fmin_hz, double fmax_hz,
                struct es_err *err);

/* spec [n_bins, ES_STFT_ROWS] in, out [n_mels, ES_STFT_ROWS] out, 64-byte aligned; sums run upwards over
 * bins. */
void es_mel_apply(const struct es_mel *mel, const float *spec, float *out);

/* The definition, in double, for one frame: spec [n_bins] in, out [n_mels] out. */
void es_mel_apply_ref(const struct es_mel *mel, const double *spec, double *out);

#endif
