/* Intersection based counting (spec section 4): detection and ground truth tolerance, cross triggers.
 *
 * What a run contributes depends on the run alone: whether it is relevant, and toward which classes it is a
 * cross trigger. Both are worked out when it appears and remembered until it goes. The sum of intersections
 * of an event with relevant runs is kept in two doubles, so that a run that goes leaves no rounding error
 * behind. */
#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct sum { /* of the relevant intersections of an event */
    double hi, lo;
    double need; /* micro-rounded */
    bool found, dirty;
};

struct block {               /* events of another class in the clip */
    int i_class, begin, end; /* in set->events, relative to the clip */
    int change;              /* of the number of cross triggers, at this level */
};

struct state {
    struct sum *sums; /* by event of the class */
    int *dirty;
    int n_dirty;
    struct block *blocks;
    int n_blocks, words;
    bool *relevant; /* by first frame of a run */
    uint64_t *mask; /* words a run: blocks it is a cross trigger toward */
};

static int open_state(struct stat_sweep *s, struct es_err *err) {
    const size_t events = (size_t)s->set->n_clip_events_max + 1, frames = (size_t)s->set->n_frames_max;
    struct state *st = s->state = es_alloc(1, sizeof *st, err);
    if (!st) return -ES_EIO;
    int n_blocks_max = s->set->n_classes < (int)events ? s->set->n_classes : (int)events;
    st->words = (n_blocks_max + 63) / 64;
    st->sums = es_alloc(events, sizeof *st->sums, err);
    st->dirty = es_alloc(events, sizeof *st->dirty, err);
    st->blocks = es_alloc(events, sizeof *st->blocks, err);
    st->relevant = es_alloc(frames, sizeof *st->relevant, err);
    st->mask = es_alloc(frames * (size_t)st->words, sizeof *st->mask, err);
    return st->sums && st->dirty && st->blocks && st->relevant && st->mask ? 0 : -ES_EIO;
}

static void close_state(struct stat_sweep *s) {
    struct state *st = s->state;
    if (!st) return;
    es_free(&st->mask);
    es_free(&st->relevant);
    es_free(&st->blocks);
    es_free(&st->dirty);
    es_free(&st->sums);
    es_free(&s->state);
}

/* Without events nothing is relevant as long as a single frame asks for some intersection. */
static bool only_runs(const struct stat_sweep *s) {
    bool others = !isnan(s->params->cttc) && s->clip->ev_end - s->clip->ev_begin > s->n_own;
    return s->n_own == 0 && !others && eval_micro(s->params->dtc * s->clip->frame_min_s) > 0;
}

static void begin(struct stat_sweep *s) {
    struct state *st = s->state;
    st->n_blocks = 0;
    st->n_dirty = 0;
    for (int g = 0; g < s->n_own; g++) { /* an event that asks for nothing is found with the first level */
        double need = eval_micro(s->params->gtc * (s->own[g].offset_s - s->own[g].onset_s));
        st->sums[g] = (struct sum){.need = need, .dirty = true};
        st->dirty[st->n_dirty++] = g;
    }
    if (isnan(s->params->cttc)) return;
    const struct eval_event *ev = s->set->events + s->clip->ev_begin;
    const int n = (int)(s->clip->ev_end - s->clip->ev_begin);
    for (int i = 0, j = 0; i < n; i = j) {
        while (j < n && ev[j].i_class == ev[i].i_class) j++;
        if (ev[i].i_class == s->i_class) continue;
        st->blocks[st->n_blocks++] = (struct block){.i_class = ev[i].i_class, .begin = i, .end = j};
    }
}

static inline double overlap(const struct eval_event *ev, double onset_s, double offset_s) {
    const double from = ev->onset_s > onset_s ? ev->onset_s : onset_s;
    const double to = ev->offset_s < offset_s ? ev->offset_s : offset_s;
    const double length = to - from;
    return length > 0 ? length : 0;
}

/* Sum over events in order of their onset; no branch, they are few. */
static inline double overlaps(const struct eval_event *ev, int n, double onset_s, double offset_s) {
    double sum = 0;
    for (int g = 0; g < n; g++) sum += overlap(&ev[g], onset_s, offset_s);
    return sum;
}

/* Adds sign times the intersections of a relevant run to the sums of its events. */
static void change_sums(struct stat_sweep *s, double onset_s, double offset_s, double sign) {
    struct state *st = s->state;
    for (int g = 0; g < s->n_own && s->own[g].onset_s < offset_s; g++) {
        double x = sign * overlap(&s->own[g], onset_s, offset_s);
        if (x == 0) continue;
        struct sum *sum = &st->sums[g];
        double hi = sum->hi + x, part = hi - sum->hi; /* Knuth's two-sum */
        sum->lo += (sum->hi - (hi - part)) + (x - part);
        sum->hi = hi;
        if (sum->dirty) continue;
        sum->dirty = true;
        st->dirty[st->n_dirty++] = g;
    }
}

static inline void change_ct(struct state *st, const uint64_t *mask, int by) {
    for (int b = 0; b < st->n_blocks; b++) st->blocks[b].change += by * (int)((mask[b / 64] >> (b % 64)) & 1);
}

static void add(struct stat_sweep *s, int first, int last) {
    struct state *st = s->state;
    const double onset_s = s->clip->edges_s[first], offset_s = s->clip->edges_s[last + 1],
                 length_s = offset_s - onset_s;
    const double sum = overlaps(s->own, s->n_own, onset_s, offset_s);
    st->relevant[first] = eval_micro(sum) >= eval_micro(s->params->dtc * length_s);
    if (st->relevant[first]) {
        change_sums(s, onset_s, offset_s, 1);
        return;
    }
    s->fp++;
    if (st->n_blocks == 0) return;
    uint64_t *mask = &st->mask[(int64_t)first * st->words];
    const struct eval_event *ev = s->set->events + s->clip->ev_begin;
    const double need = eval_micro(s->params->cttc * length_s);
    memset(mask, 0, (size_t)st->words * sizeof *mask);
    for (int b = 0; b < st->n_blocks; b++) {
        const struct block *o = &st->blocks[b];
        const double shared = eval_micro(overlaps(ev + o->begin, o->end - o->begin, onset_s, offset_s));
        mask[b / 64] |= (uint64_t)(shared >= need) << (b % 64);
    }
    change_ct(st, mask, 1);
}

static void remove_run(struct stat_sweep *s, int first, int last) {
    struct state *st = s->state;
    if (st->relevant[first]) {
        change_sums(s, s->clip->edges_s[first], s->clip->edges_s[last + 1], -1);
        return;
    }
    s->fp--;
    change_ct(st, &st->mask[(int64_t)first * st->words], -1);
}

static int level(struct stat_sweep *s, uint32_t i_level, struct es_err *err) {
    struct state *st = s->state;
    for (int i = 0; i < st->n_dirty; i++) {
        struct sum *sum = &st->sums[st->dirty[i]];
        bool found = eval_micro(sum->hi + sum->lo) >= sum->need;
        s->tp += found - sum->found;
        sum->found = found;
        sum->dirty = false;
    }
    st->n_dirty = 0;
    if (st->n_blocks == 0) return 0;
    ES_TRY(stat_reserve_ct(s->ws, st->n_blocks, err));
    int64_t n = s->ws->n_ct;
    for (int b = 0; b < st->n_blocks; b++) { /* written always, counted when it is a change */
        const int change = st->blocks[b].change;
        s->ws->ct[n] =
            (struct es_curve_ct){.level = i_level, .i_class = st->blocks[b].i_class, .delta = change};
        n += change != 0;
        st->blocks[b].change = 0;
    }
    s->ct_changed = n > s->ws->n_ct;
    s->ws->n_ct = n;
    return 0;
}

static const struct stat_runs runs = {.begin = begin, .add = add, .remove = remove_run, .level = level};

static int sweep(struct stat_sweep *s, const struct stat_frame *frames, struct es_err *err) {
    return stat_sweep_clip(s, &runs, frames, err);
}

const struct stat_counter stat_intersection = {
    .open = open_state, .close = close_state, .only_runs = only_runs, .sweep = sweep};
