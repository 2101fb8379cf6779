/* Undoes mixup. The public training step mixes labels and pseudo-labels in place, so that losses.h5 holds under in/labels and
 * in/pseudo_strong_btc of cases with mixup what came out of it: in/labels equals mixed/labels to rounding, with soft values
 * where labels are 0 or 1. A test that wants to mix has to start from what was there before: v = A^-1 w, A = diag(c) +
 * diag(1-c) P, well conditioned since c >= 1/2. That it is right can be seen: labels of DESED clips come out as 0 and 1, no
 * class outside a clip's mask is left, weak labels and merged masks made from them are the stored ones. */
#ifndef EARSHOT_TEST_DEMIX_H
#define EARSHOT_TEST_DEMIX_H

#include <math.h>
#include <string.h>

#include "earshot/plan.h"

#define ES_DEMIX_MAX 64

/* A x = b for each of m columns of b [n,m], in place; elimination with pivots. */
static inline void demix_solve(int n, double a[ES_DEMIX_MAX][ES_DEMIX_MAX], double *b, int64_t m) {
    for (int i = 0; i < n; i++) {
        int p = i;
        for (int r = i + 1; r < n; r++)
            if (fabs(a[r][i]) > fabs(a[p][i])) p = r;
        for (int k = 0; k < n && p != i; k++) {
            double v = a[i][k];
            a[i][k] = a[p][k];
            a[p][k] = v;
        }
        for (int64_t k = 0; k < m && p != i; k++) {
            double v = b[i * m + k];
            b[i * m + k] = b[p * m + k];
            b[p * m + k] = v;
        }
        for (int r = 0; r < n; r++) {
            double f = r == i ? 0 : a[r][i] / a[i][i];
            for (int k = i; k < n && f != 0; k++) a[r][k] -= f * a[i][k];
            for (int64_t k = 0; k < m && f != 0; k++) b[r * m + k] -= f * b[i * m + k];
        }
    }
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < m; k++) b[i * m + k] /= a[i][i];
}

/* x: rows of row_n floats, mixed by the call; afterwards what was mixed. hard: values within 1e-5 of 0 and 1 are these.
 * scratch: n * row_n doubles. */
static inline void demix_rows(const struct es_mix_call *call, float *x, int64_t row_n, bool hard,
                              double *scratch) {
    double a[ES_DEMIX_MAX][ES_DEMIX_MAX] = {{0}};
    for (int i = 0; i < call->n; i++) {
        a[i][i] += (double)call->c[i];
        a[i][call->perm[i]] += 1 - (double)call->c[i];
    }
    for (int64_t k = 0; k < call->n * row_n; k++) scratch[k] = (double)x[call->first * row_n + k];
    demix_solve(call->n, a, scratch, row_n);
    for (int64_t k = 0; k < call->n * row_n; k++) {
        double v = scratch[k];
        x[call->first * row_n + k] = (float)(v < (hard ? 1e-5 : 0) ? 0 : v > (hard ? 1 - 1e-5 : 1) ? 1 : v);
    }
}

#endif
