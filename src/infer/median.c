#include "earshot/median.h"

#include <string.h>

#include "earshot/err.h"

/* Input at any position of the mirrored, periodic signal. */
static double mirrored(const double *in, int n, int i) {
    int m = i % (2 * n);
    if (m < 0) m += 2 * n;
    return in[m < n ? m : 2 * n - 1 - m];
}

/* First position in sorted[0..w) whose value is not below v. */
static int lower_bound(const double *sorted, int w, double v) {
    int lo = 0, hi = w;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (sorted[mid] < v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

void es_median_filter(int n, int window, const double *in, double *out, double *ws) {
    ES_ASSERT(window >= 1);
    const int half = window / 2;
    int count = 0;
    for (int i = -half; n > 0 && i < window - half; i++, count++) { /* the window of output 0, sorted */
        double v = mirrored(in, n, i);
        int at = lower_bound(ws, count, v);
        memmove(ws + at + 1, ws + at, (size_t)(count - at) * sizeof *ws);
        ws[at] = v;
    }
    for (int i = 0; i < n; i++) {
        out[i] = ws[half];
        double gone = mirrored(in, n, i - half), next = mirrored(in, n, i - half + window);
        int from = lower_bound(ws, window, gone), to = lower_bound(ws, window, next);
        if (to > from) { /* close the gap from the left, the new value lands before position `to` */
            memmove(ws + from, ws + from + 1, (size_t)(to - 1 - from) * sizeof *ws);
            ws[to - 1] = next;
        } else {
            memmove(ws + to + 1, ws + to, (size_t)(from - to) * sizeof *ws);
            ws[to] = next;
        }
    }
}
