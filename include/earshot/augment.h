/* The augmentations of the recipe as plain functions of data and draws (spec/training.md 3.2; cpjku_dcase24
 * helpers/augment.py). Who is augmented, when and with which draws: plan.h. The order within a step: src/train/mels.c.
 *
 * Each function is its own definition: plain loops in a fixed order, one thread, the same bits everywhere, no allocation.
 * Shapes: clips [n,F,T] with time last unless said otherwise; all in place unless said otherwise. Collectivity: none.
 */
#ifndef EARSHOT_AUGMENT_H
#define EARSHOT_AUGMENT_H

#include "earshot/plan.h"

/* ---- waveforms */

/* wavmix: x <- c x + (1 - c) y, both and the result without their means. x [n] in/out, y [n] in, its mean removed. */
void es_augment_wavmix(float *x, float *y, int64_t n, float c);
/* x <- c x + (1 - c) y: labels and pseudo-labels of wavmix. */
void es_augment_blend(float *x, const float *y, int64_t n, float c);
/* x <- 10^(gain_db / 20) x */
void es_augment_gain(float *x, int64_t n, int gain_db);
/* Impulse responses: es_convolve (convolve.h) with offset es_augment_dir_offset: response_n - 1 - response_n / 2. */
int64_t es_augment_dir_offset(int64_t response_n);

/* ---- along time */

/* Frame shift of one clip: gauss is the draw N(0, trunc(share of the frames)); mel: truncated towards 0; the others are rounded,
 * halves to even. pooling: mel frames of a label frame. feature_frames 0: no transformer mel beside. */
struct es_shift {
    int mel, labels, features;
};
struct es_shift es_augment_shift(double gauss, int pooling, int mel_frames, int feature_frames);
/* Frame t of every row goes to (t + shift) mod n_frames. x [n_rows, n_frames, width]; scratch: n_frames * width floats. */
void es_augment_roll(float *x, int64_t n_rows, int n_frames, int64_t width, int shift, float *scratch);

/* Time mask: label frames low..low+width-1 of label_frames are these frames first..end-1 of a mel. Of the CRNN's (pooling mel
 * frames a label frame) and of the transformer's (proportional, in single precision, halves to even: QUIRK of the public code). */
struct es_span {
    int first, end;
};
struct es_span es_augment_mask_mel(int low, int width, int pooling, int mel_frames);
struct es_span es_augment_mask_features(int low, int width, int label_frames, int feature_frames);
/* Frames first..end-1 of every row become 0. x [n_rows, n_frames, width]. */
void es_augment_silence(float *x, int64_t n_rows, int n_frames, int64_t width, struct es_span span);

/* ---- mels */

/* Mixstyle: each bin of clip i takes a mean and deviation over time between its own and those of clip perm[i]:
 * (x - mu) / s * (c s + (1-c) s') + (c mu + (1-c) mu'), s = sqrt(unbiased variance + 1e-6), sums in double. x [>= first+n, F, T];
 * scratch: 2 call->n F floats. */
void es_augment_mixstyle(const struct es_mix_call *call, float *x, int F, int T, float *scratch);

/* Frequency warp: bins low..low+height-1 stretched to all F by cubic interpolation (Keys, a = -0.75; corners aligned; the border
 * bins of the crop repeat). scratch: F T floats. */
void es_augment_warp(const struct es_warp_call *call, float *x, int F, int T, float *scratch);

/* Bins of a crop, and of all F: the draw is scale, uniform in warp_min..1. trunc(scale F), in 1..F */
int es_augment_warp_height(double scale, int F);

/* Filter augment: y[i] = x[i] * 10^(gain / 20), gain linear in dB from one end of a band to the other, both included. x, y
 * [call->n, F, T], y may be x. On the CRNN's linear mel a filter; on the transformer's log-mel a factor, as published. */
void es_augment_filter(const struct es_filter_call *call, const float *x, float *y, int F, int T);
/* Least width of a band that n_bands bands of F bins can have: band_width, or less where they do not fit. */
int es_augment_band_width(int F, int n_bands, int band_width);
/* edge [n_bands + 1] out. draw [n_bands - 1] in, sorted on return: integers 0 .. F - n_bands * es_augment_band_width. */
void es_augment_band_edges(int F, int n_bands, int band_width, int *draw, int *edge);

/* ---- draws */

/* mixup, dir, gain_db and augment of a leaf; out->n and out->first are set. A pure function of (seed, step, out->leaf,
 * parameters), each augmentation with a stream of its own. */
void es_augment_draw(const struct es_plan_params *pp, int64_t step, struct es_leaf_plan *out);

#endif
