/* Recordings too long for one rank: resampling and convolution by distributed transforms (FFTW-MPI, double).
 *
 * A signal is spread over the ranks in consecutive parts. The caller's function delivers any part of the input, so no rank ever holds
 * the whole; per rank about 48 bytes a sample of its share are in use.
 *
 *     es_fftmpi_resample_all(&y, comm, n, 44100, 16000, read, ctx, err)
 *     es_fftmpi_convolve_all(&y, comm, h, n_h, offset, err)                                 in place
 *     es_spread_collect_all(&y, comm, first, count, root, part)                             pieces to whoever writes them
 *     es_spread_free(&y)
 *
 * Resampling: N in samples (the signal and at least a second of silence) with N rate_out / rate_in whole and both lengths products
 * of small primes; the spectrum is cut at the lower of the two Nyquist frequencies (half of that bin), or filled with zeros, and
 * transformed back. Lengths do not depend on the number of ranks; results of other numbers differ by rounding (1e-15).
 *
 * Collective over comm, errors agreed. Other samples than finite ones come out as they went in: everywhere.
 */
#ifndef EARSHOT_FFTMPI_H
#define EARSHOT_FFTMPI_H

#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"

struct es_spread { /* plain; total is the same on all ranks, the rest this rank's part */
    int64_t total, first, n;
    double *x; /* [n] */
};
void es_spread_free(struct es_spread *s);

/* Samples first .. first+n-1 of the input to x. Rank-local. */
typedef int (*es_part_fn)(void *ctx, int64_t first, int64_t n, double *x, struct es_err *err);

/* The signal as it is. */
int es_spread_read_all(struct es_spread *s, const struct es_comm *c, int64_t n, es_part_fn read, void *ctx,
                       struct es_err *err);
/* n samples at rate_in_hz -> es_resample_length samples at rate_out_hz. */
int es_fftmpi_resample_all(struct es_spread *y, const struct es_comm *c, int64_t n, int rate_in_hz,
                           int rate_out_hz, es_part_fn read, void *ctx, struct es_err *err);
/* y[i] = sum over k of h[k] x[i + offset - k], i = 0 .. n-1 (as convolve.h). h [n_h] same on all ranks; replaces x by y. */
int es_fftmpi_convolve_all(struct es_spread *x, const struct es_comm *c, const double *h, int64_t n_h,
                           int64_t offset, struct es_err *err);
/* Samples first .. first+n-1 to out [n] of one rank. */
void es_spread_collect_all(const struct es_spread *s, const struct es_comm *c, int64_t first, int64_t n,
                           int root, double *out);

#endif
