/* Real Fourier transforms in single precision: one length, a fixed number of rows a call.
 *
 *   struct es_fft *fft = NULL;
 *   ES_TRY(es_fft_new(&fft, 1024, 8, err));
 *   float *x = es_alloc(8 * es_fft_row(fft), sizeof(float), err);             rows of samples
 *   float *spec = es_alloc(8 * es_fft_spec_row(fft), sizeof(float), err);     rows of (re, im) pairs
 *   es_fft_forward(fft, x, spec);
 *   es_fft_free(&fft);
 *
 * An object holds one FFTW plan of its length and number of rows, made at creation with FFTW_ESTIMATE:
 * nothing is timed, so the same machine always computes the same bits. A caller with fewer rows leaves the
 * others as they are.
 *
 * Threads: creation and es_fft_free are not thread-safe (FFTW's planner is one for the process);
 * es_fft_forward is, on one object from any number of threads, with buffers of their own. Collectivity: none.
 * The reference is the textbook sum, es_dft_ref.
 */
#ifndef EARSHOT_FFT_H
#define EARSHOT_FFT_H

#include "earshot/err.h"

struct es_fft;

/* n >= 1 samples a row, n_rows >= 1 rows a call. Errors: memory (ES_EIO). */
int es_fft_new(struct es_fft **fft, int n, int n_rows, struct es_err *err);
void es_fft_free(struct es_fft **fft);

/* Floats from one row to the next: of samples (n rounded up), of spectrum (2 (n/2 + 1) rounded up); multiples
 * of 16, so that every row starts on 64 bytes. */
int es_fft_row(const struct es_fft *fft);
int es_fft_spec_row(const struct es_fft *fft);

/* spec[r][2k], spec[r][2k+1] = real and imaginary part of sum_i x[r][i] exp(-2 pi i k / n), k = 0..n/2;
 * unscaled. x     [n_rows, es_fft_row] in, kept     spec  [n_rows, es_fft_spec_row] out; padding at row ends
 * is not written Both are 64-byte aligned (es_alloc, arenas) and do not overlap: anything else is a bug. */
void es_fft_forward(const struct es_fft *fft, const float *x, float *spec);

/* The definition, O(n^2), in double: x [n] in, spec [n/2 + 1] pairs out. */
void es_dft_ref(int n, const double *x, double *spec);

#endif
