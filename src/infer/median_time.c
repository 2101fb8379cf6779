/* The continuous-time median filter. Between two break points t_i - L/2, t_i + L/2 one frame leaves the window and one enters, so
 * that the time spent above and below the current value changes linearly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/scores.h"

#define EPS 1e-7 /* of times and of measures, from the reference */

struct window {
    const double *t, *s;
    int n;
    double half;
    /* between two break points */
    double from;     /* the first of them */
    int first, last; /* frames first..last are touched; -1 and n stand for the time outside */
    int leaving, entering;
};

static double value_of(const struct window *w, int frame) {
    return frame >= 0 && frame < w->n ? w->s[frame] : -HUGE_VAL;
}

/* Time that a frame has in the window d after `from`. */
static double measure(const struct window *w, int frame, double d) {
    const double lo = w->from - w->half, hi = w->from + w->half;
    const double begin = frame < 0 ? -HUGE_VAL : w->t[frame],
                 end = frame >= w->n ? HUGE_VAL : w->t[frame + 1];
    double m = fmin(end, hi) - fmax(begin, lo);
    if (m < 0) m = 0;
    if (frame == w->leaving) m -= d;
    if (frame == w->entering) m += d;
    return m;
}

/* Time above (sign 1) or below (-1) a value. */
static double beyond(const struct window *w, double v, int sign, double d) {
    double sum = 0;
    for (int f = w->first; f <= w->last; f++)
        if (sign * (value_of(w, f) > v) - sign * (value_of(w, f) < v) > 0) sum += measure(w, f, d);
    return sum;
}

/* The next value above (below) v that has a part in the window after d. */
static double next_value(const struct window *w, double v, int sign, double d) {
    double best = sign * HUGE_VAL;
    bool found = false;
    for (int f = w->first; f <= w->last; f++) {
        const double x = value_of(w, f);
        if (!(sign > 0 ? x > v : x < v) || (f != w->entering && measure(w, f, d) <= EPS)) continue;
        if (!found || (sign > 0 ? x < best : x > best)) best = x;
        found = true;
    }
    return found ? best : v;
}

int es_median_time(int n, const double *t, const double *s, double length_s, int cap, double *change_s,
                   double *value, double *ws) {
    struct window w = {.t = t, .s = s, .n = n, .half = length_s / 2, .first = -1, .last = -1};
    int n_points = 0, n_changes = 0;
    for (int i = 0, j = 0; i <= n || j <= n;) { /* both rising: merge */
        const double a = i <= n ? rint((t[i] - w.half) * 1e8) / 1e8 : HUGE_VAL,
                     b = j <= n ? rint((t[j] + w.half) * 1e8) / 1e8 : HUGE_VAL;
        const double x = a <= b ? a : b;
        if (a <= b)
            i++;
        else
            j++;
        if (n_points == 0 || x - ws[n_points - 1] >= EPS) ws[n_points++] = x;
    }
    double v = -HUGE_VAL, at_s = 0;
    for (int p = 0; p + 1 < n_points; p++) {
        const double dt = ws[p + 1] - ws[p], middle = ws[p] + dt / 2;
        w.from = ws[p];
        while (w.first < n && (w.first + 1 <= n ? t[w.first + 1] : HUGE_VAL) <= middle - w.half) w.first++;
        while (w.last < n && t[w.last + 1] <= middle + w.half) w.last++;
        w.leaving = w.first;
        w.entering = w.last;
        const double leaves = value_of(&w, w.leaving), enters = value_of(&w, w.entering);
        for (double d = 0;;) { /* changes in this interval, after d */
            int sign = 0;
            double at = dt;
            for (int way = -1; way <= 1; way += 2) {
                const double rate =
                    (double)(way > 0 ? enters > v : enters < v) - (way > 0 ? leaves > v : leaves < v);
                const double now = beyond(&w, v, way, d), end = now + rate * (dt - d);
                if (end <= w.half + EPS && now <= w.half + EPS) continue;
                const double cross = rate > 0 ? d + fmax(0, w.half - now) : d;
                if (sign == 0 || cross < at) {
                    at = cross;
                    sign = way;
                }
            }
            if (sign == 0) break;
            const double next = next_value(&w, v, sign, at);
            if (next == v) break;
            v = next;
            d = at;
            if (n_changes == 0 || ws[p] + at - at_s >= EPS) n_changes++; /* several at one time: the last */
            at_s = ws[p] + at;
            if (n_changes > cap) continue;
            change_s[n_changes - 1] = at_s;
            value[n_changes - 1] = v;
        }
    }
    return n_changes;
}

/* ---- score tables */

struct clip_ws {
    double *column, *ws;
    double *change_s, *value; /* [n_classes][cap] */
    int *n;                   /* [n_classes] */
    double *edges;
    int cap;
};

static void ws_free(struct clip_ws *w) {
    es_free(&w->edges);
    es_free(&w->n);
    es_free(&w->value);
    es_free(&w->change_s);
    es_free(&w->ws);
    es_free(&w->column);
}

static int ws_new(struct clip_ws *w, int frames_max, int K, int cap, struct es_err *err) {
    w->cap = cap;
    const size_t n = (size_t)w->cap * (size_t)K;
    w->column = es_alloc((size_t)frames_max, sizeof(double), err);
    w->ws = es_alloc(6 * (size_t)frames_max + 12, sizeof(double), err);
    w->change_s = es_alloc(n, sizeof(double), err);
    w->value = es_alloc(n, sizeof(double), err);
    w->n = es_alloc((size_t)K, sizeof(int), err);
    w->edges = es_alloc(n, sizeof(double), err);
    return w->column && w->ws && w->change_s && w->value && w->n && w->edges ? 0 : -ES_EIO;
}

static int compare_times(const void *x, const void *y) {
    const double *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* A positive result: room for so many changes is needed. */
static int filter_clip(struct es_scores *out, const struct es_scores *in, int64_t i, const double *length_s,
                       struct clip_ws *w, struct es_err *err) {
    const struct es_scores_clip *c = &in->clips[i];
    struct es_scores_clip *to = &out->clips[i];
    const int K = in->n_classes, n = c->n_frames;
    int n_edges = 0;
    for (int k = 0; k < K; k++) {
        double *change_s = w->change_s + (int64_t)k * w->cap, *value = w->value + (int64_t)k * w->cap;
        es_scores_column(in, i, k, w->column);
        for (int j = 0; j < n; j++)
            if (isnan(w->column[j]) || !(c->edges_s[j + 1] > c->edges_s[j]))
                return es_err_set(err, ES_EDATA,
                                  "%s: clip '%s', frame %d, class '%s': got %g at %g s; want scores at "
                                  "ascending times",
                                  in->source, c->id, j, in->classes[k], w->column[j], c->edges_s[j]);
        if (length_s[k] > 0) {
            w->n[k] = es_median_time(n, c->edges_s, w->column, length_s[k], w->cap, change_s, value, w->ws);
            if (w->n[k] > w->cap) return w->n[k];
        } else {
            memcpy(change_s, c->edges_s, ((size_t)n + 1) * sizeof *change_s);
            memcpy(value, w->column, (size_t)n * sizeof *value);
            value[n] = -HUGE_VAL;
            w->n[k] = n + 1;
        }
        for (int j = 0; j < w->n[k]; j++) {
            change_s[j] = rint(change_s[j] * 1e6) / 1e6;
            w->edges[n_edges++] = change_s[j];
        }
    }
    qsort(w->edges, (size_t)n_edges, sizeof *w->edges, compare_times);
    int frames = 0;
    for (int j = 1; j < n_edges; j++)
        if (w->edges[j] - w->edges[frames] >= EPS) w->edges[++frames] = w->edges[j];
    if (frames == 0) { /* nothing left: one frame */
        w->edges[0] = c->edges_s[0];
        w->edges[1] = c->edges_s[n];
        frames = 1;
    }
    double *edges = es_alloc((size_t)frames + 1, sizeof *edges, err);
    void *values = es_alloc((size_t)frames * (size_t)K, in->is_double ? sizeof(double) : sizeof(float), err);
    to->edges_s = edges;
    to->values = values;
    if (!edges || !values) return -ES_EIO;
    to->n_frames = frames;
    memcpy(edges, w->edges, ((size_t)frames + 1) * sizeof *edges);
    for (int k = 0; k < K; k++) {
        const double *change_s = w->change_s + (int64_t)k * w->cap, *value = w->value + (int64_t)k * w->cap;
        for (int j = 0, at = 0; j < frames; j++) {
            const double middle = (edges[j] + edges[j + 1]) / 2;
            while (at < w->n[k] && change_s[at] <= middle) at++;
            const double v = at > 0 ? value[at - 1] : -HUGE_VAL;
            if (in->is_double)
                ((double *)values)[(int64_t)j * K + k] = v;
            else
                ((float *)values)[(int64_t)j * K + k] = (float)v;
        }
    }
    return 0;
}

int es_scores_median_time(struct es_scores **out, const struct es_scores *in, const double *length_s,
                          struct es_err *err) {
    int rc = -ES_EIO, frames_max = 1;
    int64_t failed = in->n_clips; /* the clip rc belongs to */
    bool any = false;
    *out = NULL;
    for (int k = 0; k < in->n_classes; k++) {
        any = any || length_s[k] > 0;
        if (!(length_s[k] >= 0 && isfinite(length_s[k])))
            return es_err_set(err, ES_EUSAGE,
                              "median filter: class '%s': got a length of %g s; want 0 or more",
                              in->classes[k], length_s[k]);
    }
    if (!any) { /* unchanged; the frame filter of width 1 copies */
        int *one = es_alloc((size_t)in->n_classes, sizeof *one, err);
        if (!one) return rc;
        for (int k = 0; k < in->n_classes; k++) one[k] = 1;
        rc = es_scores_median(out, in, one, err);
        es_free(&one);
        return rc;
    }
    const char **ids = es_alloc((size_t)in->n_clips, sizeof *ids, err);
    if (!ids) return rc;
    for (int64_t i = 0; i < in->n_clips; i++) {
        ids[i] = in->clips[i].id;
        if (in->clips[i].n_frames > frames_max) frames_max = in->clips[i].n_frames;
    }
    ES_GO(es_scores_new(out, in->n_clips, ids, in->n_classes, (const char *const *)in->classes, in->is_double,
                        in->source, err));
    struct es_scores *s = *out;
    s->own_clips = true;
#pragma omp parallel
    {
        struct es_err mine = {0};
        struct clip_ws w = {0};
        int ws_rc = ws_new(&w, frames_max, in->n_classes, 4 * frames_max + 12, &mine);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < in->n_clips; i++) {
            int my_rc = ws_rc;
            while (my_rc == 0 && (my_rc = filter_clip(s, in, i, length_s, &w, &mine)) > 0) {
                const int cap = 2 * my_rc;
                ws_free(&w);
                my_rc = ws_rc = ws_new(&w, frames_max, in->n_classes, cap, &mine);
            }
            if (my_rc >= 0) continue;
#pragma omp critical(es_scores_median_time)
            if (i < failed) {
                failed = i;
                rc = es_err_set(err, (enum es_code) - my_rc, "%s", mine.msg);
            }
        }
        ws_free(&w);
    }
done:
    if (rc < 0) es_scores_free(out);
    es_free(&ids);
    return rc;
}
