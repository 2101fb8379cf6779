/* Frontends: from a batch of waveforms to the input of the CRNN or of a transformer.
 *
 *   struct es_frontend *f = NULL;
 *   ES_TRY(es_frontend_new(&f, es_frontend_params_default(ES_FRONTEND_ATST_MEL), err));
 *   ES_TRY(es_frontend_shape(f, 160000, &n_mels, &n_frames, err));              64 x 1001
 *   float *out = ... n_clips * n_mels * n_frames floats; void *scratch = ... es_frontend_scratch(f) bytes;
 *   ES_TRY(es_frontend_run(f, n_clips, 160000, wave, out, scratch, err));
 *   es_frontend_free(&f);
 *
 * Waves are mono, 16 kHz, in [-1, 1]. Output is [B, 1, F, T], mel bins before time, for all kinds:
 *
 *   kind         model   window / hop        F    T of 10 s  values
 *   CRNN_MEL     CRNN    Hamming 2048 / 256  128  626        linear magnitude; dB and scaling follow
 * augmentation ATST_MEL     ATST-F  Hann 1024 / 160      64  1001       dB with a floor, mapped to about [-1,
 * 1] FPASST_MEL   fPaSST  Hann 400 / 160      128  1000       log mel, normalised BEATS_FBANK  BEATs   Povey
 * 400 / 160     128  998        log mel, normalised
 *
 * The same clip gives the same bits at any place of any batch and for any number of threads; only ATST's
 * floor may couple the clips of a batch (floor_per_batch).
 *
 * Threads: es_frontend_new, _free and _set_band as in fft.h, by one thread while nobody runs the object;
 * es_frontend_run is thread-safe with scratch of each caller's own, and itself spreads clips over OpenMP
 * threads. Collectivity: none. Source: spec/models.md sections 1.1 to 1.4 (public code: cpjku_dcase24
 * models/preprocess.py, models/atst, models/fpasst, models/beats).
 */
#ifndef EARSHOT_FRONTEND_H
#define EARSHOT_FRONTEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

enum es_frontend_kind {
    ES_FRONTEND_CRNN_MEL,
    ES_FRONTEND_ATST_MEL,
    ES_FRONTEND_FPASST_MEL,
    ES_FRONTEND_BEATS_FBANK,
    ES_FRONTEND_N_KINDS
};

/* "crnn", "atst", "fpasst", "beats": as in model.arch; kind from name: -1 when unknown. */
const char *es_frontend_name(enum es_frontend_kind kind);
int es_frontend_kind_from_name(const char *name);

struct es_frontend_params {
    enum es_frontend_kind kind;
    double fmin_hz, fmax_hz; /* of the mel bank */
    /* QUIRK (ATST only): the 80 dB floor hangs from the loudest value of the whole batch, as upstream, not of the
     * clip: quirks.atst_floor */
    bool floor_per_batch;
    int n_threads; /* at most this many for clips; 0: omp_get_max_threads() when the object is made */
};
struct es_frontend_params es_frontend_params_default(enum es_frontend_kind kind);

struct es_frontend;
int es_frontend_new(struct es_frontend **f, struct es_frontend_params p, struct es_err *err);
void es_frontend_free(struct es_frontend **f);

/* Errors: ES_EDATA when a clip of n_samples is too short for the window. */
int es_frontend_shape(const struct es_frontend *f, int64_t n_samples, int *n_mels, int *n_frames,
                      struct es_err *err);

/* wave  [n_clips, n_samples] in      out  [n_clips, 1, F, T] out      scratch  es_frontend_scratch bytes,
 * 64-byte aligned (es_alloc, arenas), content irrelevant before and after. n_clips >= 0. Errors: as
 * es_frontend_shape. */
int es_frontend_run(const struct es_frontend *f, int n_clips, int64_t n_samples, const float *wave,
                    float *out, void *scratch, struct es_err *err);
size_t es_frontend_scratch(const struct es_frontend *f);

/* Another mel band from now on (fPaSST's augmentation draws one per batch); no allocation.
 * Errors: ES_EUSAGE unless 0 <= fmin_hz < fmax_hz <= 8000; the object is unchanged then. */
int es_frontend_set_band(struct es_frontend *f, double fmin_hz, double fmax_hz, struct es_err *err);

/* fPaSST's band. fmin_range, fmax_range >= 1: the public settings fmin_aug_range and fmax_aug_range (1: off).
 * Evaluation: 0 to 8000 - fmax_range / 2 (QUIRK: not 8000, as in cpjku_dcase24 models/fpasst/preprocess.py).
 * Training: draws uniform in 0..range-1; fmin = draw_min, fmax = evaluation's fmax + fmax_range / 2 -
 * draw_max. */
struct es_band {
    double fmin_hz, fmax_hz;
};
struct es_band es_frontend_fpasst_band_eval(int fmax_range);
struct es_band es_frontend_fpasst_band_train(int fmax_range, int draw_min, int draw_max);

/* What the CRNN does with its mel after augmentation, in plain loops (the definition; the network has a
 * kernel of its own): db = clamp(20 log10(max(mel, 1e-5)), -50, 80); scaled = 2 (db - min) / (max - min +
 * 1e-8) - 1 over each clip. mel [n_clips, n] in, db and scaled [n_clips, n] out (may be NULL); n values a
 * clip. */
void es_frontend_crnn_log_ref(const float *mel, int n_clips, int64_t n, float *db, float *scaled);

/* Clips a second, one thread: median over runs of one clip for about `budget_s` seconds after one warm-up. wave: n_samples
 * of it; NULL: 10 s of noise. */
int es_frontend_bench(enum es_frontend_kind kind, const float *wave, int n_samples, double budget_s,
                      double *clips_per_s, struct es_err *err);

#endif
