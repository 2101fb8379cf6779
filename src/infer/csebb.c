#include "earshot/csebb.h"

#include <math.h>
#include <string.h>

#include "earshot/mem.h"

struct es_csebb_params es_csebb_params_default(void) {
    return (struct es_csebb_params){.step_filter_s = 0.5, .merge_abs = 1, .merge_rel = 2};
}

int es_csebb_segments_init(struct es_csebb_segments *s, int frames_max, struct es_err *err) {
    const size_t n = 3 * ((size_t)frames_max + 1) + 4; /* bounds: at most one a break point, and both ends */
    *s = (struct es_csebb_segments){.frames_max = frames_max};
    s->bound = es_alloc(n, sizeof *s->bound, err);
    s->mean = es_alloc(n, sizeof *s->mean, err);
    s->min = es_alloc(n, sizeof *s->min, err);
    s->max = es_alloc(n, sizeof *s->max, err);
    s->points = es_alloc(n, sizeof *s->points, err);
    if (s->bound && s->mean && s->min && s->max && s->points) return 0;
    es_csebb_segments_fini(s);
    return -ES_EIO;
}

void es_csebb_segments_fini(struct es_csebb_segments *s) {
    es_free(&s->points);
    es_free(&s->max);
    es_free(&s->min);
    es_free(&s->mean);
    es_free(&s->bound);
}

static double round8(double x) {
    return rint(x * 1e8) / 1e8;
}

/* All t, t + half, t - half, rounded, in order. */
static int merge_points(double *out, int n, const double *t, double half) {
    int at[3] = {0}, total = 0;
    const double shift[3] = {-half, 0, half};
    double next[3];
    for (int j = 0; j < 3; j++) next[j] = round8(t[0] + shift[j]);
    while (total < 3 * (n + 1)) {
        const int j = next[0] <= next[1] ? (next[0] <= next[2] ? 0 : 2) : next[1] <= next[2] ? 1 : 2;
        out[total++] = next[j];
        at[j]++;
        next[j] = at[j] <= n ? round8(t[at[j]] + shift[j]) : HUGE_VAL;
    }
    return total;
}

struct walker { /* one of the three points of the step filter: its frame; -1 before the clip, n behind */
    int frame;
    double value, end_s;
};

static void enter(struct walker *w, int frame, int n, const double *t, const double *s) {
    w->frame = frame;
    w->value = frame >= 0 && frame < n ? s[frame] : 0;
    w->end_s = frame < n ? t[frame + 1] : HUGE_VAL;
}

static void advance(struct walker *w, double position_s, int n, const double *t, const double *s) {
    if (w->end_s - position_s < 1e-7) enter(w, w->frame + 1, n, t, s);
}

/* Segment q ends at bound: its mean; the next one begins. */
static void close_segment(struct es_csebb_segments *g, int q, double bound, bool has_step) {
    g->bound[q + 1] = bound;
    g->mean[q] /= fmax(bound - g->bound[q], 1e-7);
    if (!has_step || q == 0) g->min[q] = 0;
    g->mean[q + 1] = g->max[q + 1] = 0;
    g->min[q + 1] = HUGE_VAL;
}

/* The operations and their order are part of the definition: on saturated scores D has plateaus that rounding decides (13.5). */
void es_csebb_detect(struct es_csebb_segments *g, int n, const double *t, const double *s, double filter_s) {
    ES_ASSERT(n >= 1 && n <= g->frames_max && t[0] == 0);
    const double half = filter_s / 2, T = t[n];
    double *points = g->points;
    const int n_points = merge_points(points, n, t, half);
    struct walker first, centre, last;
    double left = 0, right = 0, position = 0;
    int f = 0;
    while (f < n && t[f + 1] - half < 1e-7) {
        right += (t[f + 1] - t[f]) * s[f];
        f++;
    }
    if (f < n) right += (half - t[f]) * s[f];
    enter(&first, -1, n, t, s);
    enter(&centre, 0, n, t, s);
    enter(&last, f, n, t, s);
    double before = 0, previous = 2 * (right - left) / filter_s; /* D two break points and one ago */
    bool has_before = false, has_step = false;
    int q = 0; /* the segment; odd ones are events */
    g->bound[0] = g->mean[0] = g->max[0] = 0;
    g->min[0] = HUGE_VAL;
    for (int i = 1; i < n_points && points[i] <= T; i++) {
        const double x = points[i], dt = x - points[i - 1];
        if (x < 1e-7 || dt < 1e-7) continue;
        position += dt;
        left -= dt * first.value;
        left += dt * centre.value;
        right -= dt * centre.value;
        right += dt * last.value;
        const double D = 2 * (right - left) / filter_s;
        const bool bound = q % 2 == 0 ? D <= previous && (!has_before || previous > before)
                                      : D > previous && has_before && previous <= before;
        if (bound) {
            close_segment(g, q++, points[i - 1], has_step);
            has_step = false;
        }
        g->mean[q] += dt * centre.value;
        if (centre.value > g->max[q]) g->max[q] = centre.value;
        if (centre.value < g->min[q]) g->min[q] = centre.value;
        has_step = true;
        before = previous;
        previous = D;
        has_before = true;
        advance(&first, position - half, n, t, s);
        advance(&centre, position, n, t, s);
        advance(&last, position + half, n, t, s);
    }
    if (q % 2 == 1) {
        close_segment(g, q++, T, has_step);
        has_step = false;
    }
    close_segment(g, q, T, has_step);
    g->min[q] = 0;
    g->n_events = q / 2;
}

int es_csebb_merge(struct es_csebb_segments *g, double merge_abs, double merge_rel,
                   struct es_csebb_box *box) {
    const int n = g->n_events;
    int n_boxes = 0;
    if (n == 1) box[n_boxes++] = (struct es_csebb_box){g->bound[1], g->bound[2], g->mean[1]};
    if (n < 2) return n_boxes;
    for (int i = 0, j; i < n; i = j) { /* events i..j-1 make one box */
        double length = 0, sum = 0;
        for (j = i;;) {
            const int event = 2 * j + 1, gap = event + 1;
            const double event_s = g->bound[event + 1] - g->bound[event];
            length += event_s;
            sum += event_s * g->mean[event];
            j++;
            if (j == n) break;
            const double low = g->min[gap] + 0.001, a = g->max[event] + 0.001, b = g->max[gap + 1] + 0.001;
            if (!(a / low < merge_rel && b / low < merge_rel && a - low < merge_abs && b - low < merge_abs))
                break;
            const double gap_s = g->bound[gap + 1] - g->bound[gap];
            length += gap_s;
            sum += gap_s * g->mean[gap];
        }
        box[n_boxes++] = (struct es_csebb_box){.onset_s = g->bound[2 * i + 1],
                                               .offset_s = g->bound[2 * j],
                                               .confidence = length > 0 ? sum / (length + 1e-6) : 0};
    }
    return n_boxes;
}
