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

#include "earshot/err.h"

void es_median_filter(int n, int window, const double *in, double *out, double *ws);

/* The exact median over a window of length_s seconds, at every time (spec 12.2): the scores are a step function, -inf outside the
 * clip; the result is one too, on its own times. It keeps its value as long as that lies between the smallest and the largest valid
 * median (hysteresis), so ties have one answer. edges_s [n+1] ascending, in [n], length_s > 0. Changes: from change_s[i] on the value
 * is value[i]; the last one is -inf. Returns their number, of which the first cap are stored; 0: never anything but -inf. 4 n + 12
 * are enough unless frames differ wildly in length. ws: 2 n + 2.
 * Cost n * frames in a window. */
int es_median_time(int n, const double *edges_s, const double *in, double length_s, int cap, double *change_s,
                   double *value, double *ws);

struct es_scores;
/* A copy of scores filtered so, a length per class (0: the class as it is); all 0: unchanged. The frames of a clip lie between the
 * changes of all its classes. */
int es_scores_median_time(struct es_scores **out, const struct es_scores *in, const double *length_s,
                          struct es_err *err);

#endif
