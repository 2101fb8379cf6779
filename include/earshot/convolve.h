/* Convolution of a long signal with a shorter one, by one Fourier transform of both.
 *
 *   struct es_convolve *c = NULL;
 *   ES_TRY(es_convolve_new(&c, 160000, 4000, err));
 *   float *scratch = es_alloc(es_convolve_scratch(c), sizeof(float), err);
 *   es_convolve_run(c, x, h, n_h, n_h - 1, y, scratch);
 *   es_convolve_free(&c);
 *
 * Single precision; the plans are made with FFTW_ESTIMATE, so the same machine always computes the same bits. Threads: creation and
 * es_convolve_free are not thread-safe (FFTW's planner); es_convolve_run is, with scratch of its own. Collectivity: none.
 * The reference is the sum itself, es_convolve_ref.
 */
#ifndef EARSHOT_CONVOLVE_H
#define EARSHOT_CONVOLVE_H

#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_convolve;

/* Signals of n_x samples, filters of 1..max_h. Errors: memory (ES_EIO). */
int es_convolve_new(struct es_convolve **c, int64_t n_x, int64_t max_h, struct es_err *err);
void es_convolve_free(struct es_convolve **c);
int64_t es_convolve_signal(const struct es_convolve *c); /* n_x */
size_t es_convolve_scratch(const struct es_convolve *c); /* floats, 64-byte aligned (es_alloc) */

/* y[i] = sum over k of h[k] x[i + offset - k], i = 0..n_x-1, x = 0 outside. x, y [n_x] (y may be x), h [n_h]; offset in 0..n_h-1. */
void es_convolve_run(const struct es_convolve *c, const float *x, const float *h, int64_t n_h, int64_t offset,
                     float *y, float *scratch);
/* The definition, in double. */
void es_convolve_ref(const float *x, int64_t n_x, const float *h, int64_t n_h, int64_t offset, double *y);

#endif
