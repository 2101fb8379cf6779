/* Median filter along frames, as scipy.ndimage.median_filter does it (spec/evaluation.md 12.1).
 *
 * Window of output i: inputs i - floor(w/2) .. i - floor(w/2) + w - 1 (an even w reaches one further back).
 * Outside the clip the signal is mirrored with the edge repeated (d c b a | a b c d | d c b a), periodically
 * when w is larger than the clip. Output: the element of rank floor(w/2) from below, counted from 0 (even w:
 * the upper median). w = 1 is the identity. No arithmetic, so results are exact. Values must be ordered (no
 * NaN); -inf is fine.
 *
 * n frames, in [n], out [n] (not in), ws [window] scratch. Cost n * window at worst. Collectivity: none.
 */
#ifndef EARSHOT_MEDIAN_H
#define EARSHOT_MEDIAN_H

void es_median_filter(int n, int window, const double *in, double *out, double *ws);

#endif
