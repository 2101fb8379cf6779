/* Short-time spectra of a signal: windows, frames, magnitude or power. The phase is not kept.
 *
 *   struct es_stft *stft = NULL;
 *   ES_TRY(es_stft_new(&stft, &(struct es_stft_params){.n_fft = 1024, .win_samples = 1024, .hop_samples =
 * 160, .window = ES_WINDOW_HANN_PERIODIC, .centred = true, .power = 2}, err)); ES_TRY(es_stft_frames(stft,
 * n_samples, &n_frames, err)); for (int64_t t = 0; t < n_frames; t += ES_STFT_ROWS) es_stft_tile(stft, x,
 * n_samples, t, tile, scratch);
 *
 * Frames come in tiles of ES_STFT_ROWS: a tile is [n_bins, ES_STFT_ROWS], frames innermost, so that
 * everything after the transform runs over frames in vector registers and no sum depends on the position in a
 * register.
 *
 * Centred frames (torch.stft, center=True, pad_mode="reflect"): frame t is centred on sample t * hop, the
 * signal is reflected at both ends without repeating the edge sample, 1 + n / hop frames, and n must exceed
 * n_fft / 2. Other frames start at t * hop and lie inside the signal: 1 + (n - win) / hop of them (Kaldi's
 * snip edges). A window shorter than n_fft is centred in a centred frame, and padded at its end otherwise.
 *
 * Threads: creation as in fft.h; es_stft_tile is thread-safe with a scratch of each thread's own.
 * Collectivity: none. Source: spec/models.md section 1.0.
 */
#ifndef EARSHOT_STFT_H
#define EARSHOT_STFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

#define ES_STFT_ROWS 8

enum es_window {
    ES_WINDOW_HANN_PERIODIC, /* 0.5 - 0.5 cos(2 pi i / n) */
    ES_WINDOW_HANN,          /* 0.5 - 0.5 cos(2 pi i / (n - 1)) */
    ES_WINDOW_HAMMING,       /* 0.54 - 0.46 cos(2 pi i / (n - 1)) */
    ES_WINDOW_POVEY,         /* Hann^0.85, Kaldi's */
};
/* w [n] out, computed in double, rounded once; n >= 2. */
void es_window_fill(enum es_window kind, int n, float *w);

/* Makes one frame: out[i] = window[i] * (sample start + i of the signal x of n samples), i = 0..win-1. start
 * may be negative, and start + win beyond n, for centred frames. */
typedef void (*es_frame_fn)(const float *x, int64_t n, int64_t start, const float *window, int win,
                            float *out);
void es_frame_reflect(const float *x, int64_t n, int64_t start, const float *window, int win, float *out);

struct es_stft_params {
    int n_fft, win_samples, hop_samples; /* 2 <= win <= n_fft, even n_fft */
    enum es_window window;
    bool centred;
    int power;         /* 1 magnitude, 2 power */
    es_frame_fn frame; /* NULL: es_frame_reflect */
};

struct es_stft;
int es_stft_new(struct es_stft **stft, const struct es_stft_params *p, struct es_err *err);
void es_stft_free(struct es_stft **stft);

int es_stft_bins(const struct es_stft *stft); /* n_fft / 2 + 1 */
/* Errors: ES_EDATA when the signal is too short for reflection, or for one frame. */
int es_stft_frames(const struct es_stft *stft, int64_t n_samples, int64_t *n_frames, struct es_err *err);

/* Frames t0 .. t0 + ES_STFT_ROWS - 1; those from n_frames on are 0.
 * x  [n_samples] in     tile  [n_bins, ES_STFT_ROWS] out     scratch  es_stft_scratch bytes
 * tile and scratch are 64-byte aligned. A signal es_stft_frames refuses is a bug. */
void es_stft_tile(const struct es_stft *stft, const float *x, int64_t n_samples, int64_t t0, float *tile,
                  void *scratch);
size_t es_stft_scratch(const struct es_stft *stft);

/* The definition of one frame, in double from the same float window: spec [n_bins] out, work [3 n_fft + 2].
 */
void es_stft_frame_ref(const struct es_stft *stft, const float *x, int64_t n_samples, int64_t t, double *spec,
                       double *work);

#endif
