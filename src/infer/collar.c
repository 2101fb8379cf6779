/* Collar based counting (spec section 7.1): tp is the size of a maximum matching of runs and events, fp the
 * other runs.
 *
 * The matching is kept maximum while runs come and go: a new run looks for an augmenting path; when a matched
 * run goes, one path from the runs left over may take its place. Only runs that hit some event are looked at.
 */
#include <math.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct state {
    int *hits; /* first frames of runs that hit an event; at most one a frame */
    int n_hits;
    int *event_of; /* by first frame: the event it is matched to, -1 */
    int *run_of;   /* by event: first frame of its run, -1 */
    bool *seen;    /* by event */
    int n_runs, n_matched;
};

static int open_state(struct stat_sweep *s, struct es_err *err) {
    const size_t events = (size_t)s->set->n_clip_events_max + 1, frames = (size_t)s->set->n_frames_max;
    struct state *st = s->state = es_alloc(1, sizeof *st, err);
    if (!st) return -ES_EIO;
    st->hits = es_alloc(frames, sizeof *st->hits, err);
    st->event_of = es_alloc(frames, sizeof *st->event_of, err);
    st->run_of = es_alloc(events, sizeof *st->run_of, err);
    st->seen = es_alloc(events, sizeof *st->seen, err);
    return st->hits && st->event_of && st->run_of && st->seen ? 0 : -ES_EIO;
}

static void close_state(struct stat_sweep *s) {
    struct state *st = s->state;
    if (!st) return;
    es_free(&st->seen);
    es_free(&st->run_of);
    es_free(&st->event_of);
    es_free(&st->hits);
    es_free(&s->state);
}

static bool only_runs(const struct stat_sweep *s) {
    return s->n_own == 0;
}

static void begin(struct stat_sweep *s) {
    struct state *st = s->state;
    st->n_hits = st->n_runs = st->n_matched = 0;
    for (int g = 0; g < s->n_own; g++) st->run_of[g] = -1;
}

static bool hit(const struct stat_sweep *s, int first, int last, int g) {
    const struct eval_event *ev = &s->own[g];
    const struct es_f1_params *p = s->params;
    const double onset_s = s->clip->edges_s[first], offset_s = s->clip->edges_s[last + 1];
    if (eval_micro(fabs(onset_s - ev->onset_s) - p->onset_collar_s) > 0) return false;
    double collar_s = p->offset_collar_rate * (ev->offset_s - ev->onset_s);
    if (collar_s < p->offset_collar_s) collar_s = p->offset_collar_s;
    return eval_micro(fabs(offset_s - ev->offset_s) - collar_s) <= 0;
}

/* Gives the run an event, moving other runs to other events where that helps (Kuhn). Deep as there are events
 * to move. */
static bool augment(struct stat_sweep *s, int first) {
    struct state *st = s->state;
    for (int g = 0; g < s->n_own; g++) {
        if (st->seen[g] || !hit(s, first, s->ws->other_end[first], g)) continue;
        st->seen[g] = true;
        if (st->run_of[g] >= 0 && !augment(s, st->run_of[g])) continue;
        st->run_of[g] = first;
        st->event_of[first] = g;
        return true;
    }
    return false;
}

static bool augment_fresh(struct stat_sweep *s, int first) {
    struct state *st = s->state;
    for (int g = 0; g < s->n_own; g++) st->seen[g] = false;
    bool found = augment(s, first);
    st->n_matched += found;
    return found;
}

static void add(struct stat_sweep *s, int first, int last) {
    struct state *st = s->state;
    st->n_runs++;
    st->event_of[first] = -1;
    int g = 0;
    while (g < s->n_own && !hit(s, first, last, g)) g++;
    if (g == s->n_own) return;
    st->hits[st->n_hits++] = first;
    augment_fresh(s, first);
}

static void remove_run(struct stat_sweep *s, int first, int last) {
    (void)last;
    struct state *st = s->state;
    st->n_runs--;
    int h = 0;
    while (h < st->n_hits && st->hits[h] != first) h++;
    if (h == st->n_hits) return;
    st->hits[h] = st->hits[--st->n_hits];
    if (st->event_of[first] < 0) return;
    st->run_of[st->event_of[first]] = -1;
    st->n_matched--;
    for (h = 0; h < st->n_hits; h++)
        if (st->event_of[st->hits[h]] < 0 && augment_fresh(s, st->hits[h])) break;
}

static int level(struct stat_sweep *s, uint32_t i_level, struct es_err *err) {
    (void)i_level, (void)err;
    struct state *st = s->state;
    s->tp = st->n_matched;
    s->fp = st->n_runs - st->n_matched;
    return 0;
}

static const struct stat_runs runs = {.begin = begin, .add = add, .remove = remove_run, .level = level};

static int sweep(struct stat_sweep *s, const struct stat_frame *frames, struct es_err *err) {
    return stat_sweep_clip(s, &runs, frames, err);
}

const struct stat_counter stat_collar = {
    .open = open_state, .close = close_state, .only_runs = only_runs, .sweep = sweep};
