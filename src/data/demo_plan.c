/* Which sound happens when: draws of classes, counts, durations, onsets and levels with the statistics of real label files.
 * A plan is a pure function of the parameters; every rank makes all of it (microseconds a clip). */
#include "demo_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "event_stats.h"

enum { MAX_CLASSES = 4, MAX_EVENTS = 32, MIN_EVENT_MS = 250, GAP_MS = 150 };

const char *const demo_scenes[DEMO_SCENES] = {"cafe_restaurant", "city_center", "grocery_store",
                                              "metro_station", "residential_area"};

/* Inverse of the distribution whose quantiles are at 0.05 0.1 0.25 0.5 0.75 0.9 0.95: linear between, flat outside. */
static double quantile(const double q[ES_STATS_QUANTILES], double u) {
    static const double level[ES_STATS_QUANTILES] = {0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95};
    if (u <= level[0]) return q[0];
    for (int i = 1; i < ES_STATS_QUANTILES; i++)
        if (u < level[i])
            return q[i - 1] + (q[i] - q[i - 1]) * (u - level[i - 1]) / (level[i] - level[i - 1]);
    return q[ES_STATS_QUANTILES - 1];
}

static int pick(struct es_rng *r, const double *weight, int n) { /* some weight must be positive */
    double sum = 0;
    for (int i = 0; i < n; i++) sum += weight[i];
    double u = es_rng_uniform(r) * sum;
    for (int i = 0; i < n - 1; i++)
        if ((u -= weight[i]) < 0) return i;
    return n - 1;
}

static int by_onset(const void *a, const void *b) {
    const struct es_demo_event *x = a, *y = b;
    if (x->onset_ms != y->onset_ms) return x->onset_ms < y->onset_ms ? -1 : 1;
    return x->sound != y->sound ? (x->sound < y->sound ? -1 : 1)
                                : (x->offset_ms > y->offset_ms) - (x->offset_ms < y->offset_ms);
}

static bool is_free(const struct es_demo_event *e, int n, int sound, int onset_ms, int offset_ms) {
    for (int i = 0; i < n; i++)
        if (e[i].sound == sound && onset_ms < e[i].offset_ms + GAP_MS && offset_ms + GAP_MS > e[i].onset_ms)
            return false;
    return true;
}

/* Adds the events of one class of a 10-s clip; durations and onsets are those of DESED class `like`. Durations are kept; an
 * onset that leaves no room is drawn again, at last uniformly. A sustained sound that lasts long has begun early: its
 * onset's rank is opposite to its duration's, which keeps both distributions. */
static int place(const struct es_demo *d, struct es_rng *r, const struct es_event_stats *st, int sound,
                 int like, struct es_demo_event *e, int n) {
    const double mean =
        1 + 1.2 * ((double)st->class_events[like] / st->class_files[like] - 1); /* some find no room */
    int count = 1;                                                              /* geometric from 1 */
    while (count < 12 && es_rng_uniform(r) > 1 / mean) count++;
    for (int k = 0; k < count && n < MAX_EVENTS; k++) {
        const double u = es_rng_uniform(r), snr_db = es_rng_range(r, d->p.snr_min_db, d->p.snr_max_db);
        const int len = (int)fmax(MIN_EVENT_MS, round(1000 * quantile(st->duration_s[like], u)));
        for (int try = 0; try < 16; try++) {
            double v = es_rng_uniform(r);
            if (!es_sound(like)->burst && try < 4) v = 1 - u + 0.2 * (v - 0.5);
            int at = (int)lround(1000 * quantile(st->onset_s[like], v));
            if (try >= 8) at = (int)es_rng_below(r, (uint64_t)(DEMO_CLIP_MS - len + 1));
            if (at + len > DEMO_CLIP_MS || !is_free(e, n, sound, at, at + len)) continue;
            e[n++] = (struct es_demo_event){sound, at, at + len, (float)snr_db, (uint32_t)sound};
            break;
        }
    }
    return n;
}

/* How many files hold exactly these classes. The label files tell how many hold a class, a pair, and how many hold three:
 * triples are shared out by the product of their pairs, then pairs and single classes are what remains. */
enum { D = ES_SOUND_DESED };
struct joint {
    double single[D], pair[D * D], triple[D * D * D];
};

static void fit_joint(struct joint *j, const struct es_event_stats *st) {
    double sum = 0;
    *j = (struct joint){{0}, {0}, {0}};
    for (int a = 0; a < D; a++)
        for (int b = a + 1; b < D; b++)
            for (int c = b + 1; c < D; c++)
                sum += j->triple[(a * D + b) * D + c] =
                    (double)st->both[a][b] * st->both[a][c] * st->both[b][c];
    for (int a = 0; a < D; a++) j->single[a] = st->class_files[a];
    for (int a = 0; a < D; a++)
        for (int b = a + 1; b < D; b++) j->pair[a * D + b] = st->both[a][b];
    for (int a = 0; a < D; a++)
        for (int b = a + 1; b < D; b++)
            for (int c = b + 1; c < D; c++) {
                const double n = j->triple[(a * D + b) * D + c] *=
                    (st->files_with_classes[2] + st->files_with_classes[3]) / sum;
                j->pair[a * D + b] -= n;
                j->pair[a * D + c] -= n;
                j->pair[b * D + c] -= n;
                j->single[a] -= n;
                j->single[b] -= n;
                j->single[c] -= n;
            }
    for (int a = 0; a < D; a++)
        for (int b = a + 1; b < D; b++) {
            double *n = &j->pair[a * D + b];
            *n = fmax(*n, 0);
            j->single[a] -= *n;
            j->single[b] -= *n;
        }
    for (int a = 0; a < D; a++) j->single[a] = fmax(j->single[a], 0.02 * st->class_files[a]);
}

/* Classes of a DESED-like clip; weak: class weights of the weak set instead. */
static int draw_classes(struct es_rng *r, const struct es_event_stats *st, const struct es_weak_stats *weak,
                        int *chosen) {
    struct joint j;
    double w[MAX_CLASSES], tilt[D];
    fit_joint(&j, st);
    for (int c = 0; c < D; c++)
        tilt[c] = weak == NULL ? 1 : (double)weak->class_files[c] / st->class_files[c];
    for (int k = 0; k < MAX_CLASSES; k++)
        w[k] = weak == NULL ? st->files_with_classes[k] : weak->files_with_labels[k];
    const int n = 1 + pick(r, w, MAX_CLASSES);
    for (int i = 0; i < D; i++) j.single[i] *= tilt[i];
    for (int i = 0; i < D * D; i++) j.pair[i] *= tilt[i / D] * tilt[i % D];
    for (int i = 0; i < D * D * D; i++) j.triple[i] *= tilt[i / D / D] * tilt[i / D % D] * tilt[i % D];
    if (n == 1) {
        chosen[0] = pick(r, j.single, D);
    } else if (n == 2) {
        const int i = pick(r, j.pair, D * D);
        chosen[0] = i / D;
        chosen[1] = i % D;
    } else {
        const int i = pick(r, j.triple, D * D * D);
        chosen[0] = i / D / D;
        chosen[1] = i / D % D;
        chosen[2] = i % D;
        if (n == 4) { /* a handful of files */
            double fourth[D];
            for (int c = 0; c < D; c++)
                fourth[c] = c == chosen[0] || c == chosen[1] || c == chosen[2] ? 0 : st->class_files[c];
            chosen[3] = pick(r, fourth, D);
        }
    }
    return n;
}

/* AudioSet-strong-like: numbers of classes as in its files of the DESED classes; every second clip holds speech. */
static int draw_audioset(struct es_rng *r, const struct es_event_stats *st, int *chosen) {
    double w[ES_SOUND_COUNT];
    for (int k = 0; k < MAX_CLASSES; k++) w[k] = st->files_with_classes[k];
    const int n = 1 + pick(r, w, MAX_CLASSES);
    for (int k = 0; k < n; k++) {
        for (int c = 0; c < ES_SOUND_COUNT; c++) {
            w[c] = es_sound(c)->as_name == NULL ? 0 : c == 8 ? (k == 1 ? 30 : 2) : 1;
            for (int j = 0; j < k; j++)
                if (chosen[j] == c) w[c] = 0;
        }
        chosen[k] = pick(r, w, ES_SOUND_COUNT);
    }
    return n;
}

static int plan_clip(const struct es_demo *d, enum es_demo_set set, int index, struct es_demo_event *e) {
    const bool audioset = set == ES_DEMO_AS_TRAIN || set == ES_DEMO_AS_EVAL;
    const struct es_event_stats *st =
        audioset || set == ES_DEMO_REAL ? &es_stats_audioset_desed : &es_stats_desed_validation;
    struct es_rng r = demo_rng(d, set, index, OP_PLAN);
    int chosen[MAX_CLASSES], n = 0, n_classes = 0, with_events = 0;
    for (int k = 0; k < MAX_CLASSES; k++) with_events += st->files_with_classes[k];
    if (set == ES_DEMO_VALIDATION && es_rng_uniform(&r) * st->files >= with_events) return 0;
    if (audioset)
        n_classes = draw_audioset(&r, st, chosen);
    else if (set == ES_DEMO_WEAK)
        n_classes = draw_classes(&r, st, &es_stats_weak, chosen);
    else
        n_classes = draw_classes(&r, st, NULL, chosen);
    for (int k = 0; k < n_classes; k++) n = place(d, &r, st, chosen[k], es_sound(chosen[k])->like, e, n);
    qsort(e, (size_t)n, sizeof *e, by_onset);
    return n;
}

/* ---- MAESTRO: for each scene and split one timeline of all its recordings; each class alternates runs and silences, so
 * that its share of time is the real one exactly. Six classes never reach an agreement above 0.5 in the real corpus and have
 * no statistics: their scenes and shares here are assumptions. */
static const struct {
    int sound, scene;
    double share;
} assumed[] = {{14, 0, 0.08}, {11, 0, 0.03}, {24, 0, 0.02}, {19, 2, 0.10},
               {21, 2, 0.08}, {20, 2, 0.04}, {20, 3, 0.08}, {24, 3, 0.04}};
static const double assumed_run_s[ES_STATS_QUANTILES] = {1, 1, 2, 3, 5, 8, 10};

static double share_of(int scene, int sound) {
    double share =
        (double)es_stats_maestro.active_s[scene][sound - ES_SOUND_DESED] / es_stats_maestro.scene_s[scene];
    for (size_t i = 0; i < sizeof assumed / sizeof *assumed; i++)
        if (assumed[i].scene == scene && assumed[i].sound == sound) share = assumed[i].share;
    return share;
}

struct planned {
    int clip;
    struct es_demo_event e;
};

struct plan { /* events of all clips as they are drawn */
    struct planned *at;
    int n, capacity;
};

static int add(struct plan *p, int clip, const struct es_demo_event *e, struct es_err *err) {
    if (p->n == p->capacity) {
        const int capacity = p->capacity ? 2 * p->capacity : 1024;
        struct planned *at = es_alloc((size_t)capacity, sizeof *at, err);
        if (at == NULL) return -ES_EIO;
        if (p->n) memcpy(at, p->at, (size_t)p->n * sizeof *at);
        es_free(&p->at);
        p->at = at;
        p->capacity = capacity;
    }
    p->at[p->n++] = (struct planned){clip, *e};
    return 0;
}

static int by_clip(const void *a, const void *b) {
    const struct planned *x = a, *y = b;
    return x->clip != y->clip ? (x->clip < y->clip ? -1 : 1) : by_onset(&x->e, &y->e);
}

static int run_ms(struct es_rng *r, int sound) {
    const double *q = es_stats_maestro.run_s[sound - ES_SOUND_DESED];
    const int whole_s = (int)lround(quantile(q[0] > 0 ? q : assumed_run_s, es_rng_uniform(r)));
    return 1000 * whole_s +
           (int)es_rng_range(r, -300, 300); /* hard labels are whole seconds, sounds are not */
}

/* A run is one active stretch of labels; it is filled by several sources, each for about so long. */
static double piece_s(int sound) {
    static const struct {
        int sound;
        double s;
    } length[] = {{12, 6},  {15, 8},  {16, 9},  {17, 20}, {18, 2},  {19, 8},
                  {20, 10}, {22, 60}, {23, 60}, {24, 2},  {25, 12}, {26, 6}};
    for (size_t i = 0; i < sizeof length / sizeof *length; i++)
        if (length[i].sound == sound) return length[i].s;
    return 4;
}

/* One class over the recordings of one scene and split (indices scene, scene + 5, ... of the set), as one timeline. */
static int plan_runs(const struct es_demo *d, enum es_demo_set set, int scene, int sound, struct plan *p,
                     struct es_err *err) {
    enum { MIN_MS = 700, FLOOR_MS = 6000 };
    const double share = share_of(scene, sound);
    const struct es_demo_clip *clip = d->clip + d->first[set];
    struct es_rng r = demo_rng(d, set, scene, OP_RUNS + (uint32_t)sound);
    double whole = 0, active = 0, gaps = 0;
    int rc = 0, n = 0, rec = scene, source = 0;
    for (int i = scene; i < d->count[set]; i += DEMO_SCENES) whole += clip[i].n_samples / (DEMO_RATE / 1000);
    const double target =
        fmin(0.95 * whole, fmax(share * whole, FLOOR_MS)); /* even tiny sets hold every class */
    const int most = (int)(target / MIN_MS) + 1;
    int *run = NULL;
    double *gap = NULL;
    if (share <= 0 || whole <= 0) return 0;
    if ((run = es_alloc((size_t)most, sizeof *run, err)) == NULL) return -ES_EIO;
    if ((gap = es_alloc((size_t)most + 1, sizeof *gap, err)) == NULL) {
        rc = -ES_EIO;
        goto done;
    }
    while (active < target && n < most) {
        run[n] = run_ms(&r, sound);
        if (active + run[n] > target) run[n] = (int)fmax(MIN_MS, target - active);
        active += run[n++];
    }
    for (int i = 0; i <= n; i++) gaps += gap[i] = -log(1 - es_rng_uniform(&r));
    double start = 0; /* of recording rec, on the timeline */
    double t = 0;
    for (int i = 0; i < n; i++) {
        t += gap[i] / gaps * fmax(0, whole - active);
        for (double left = run[i]; left > 0 && rec < d->count[set];) {
            const int len = clip[rec].n_samples / (DEMO_RATE / 1000);
            if (t >= start + len) {
                start += len;
                rec += DEMO_SCENES;
                continue;
            }
            const int piece = (int)fmin(left, 1000 * es_rng_range(&r, 0.6, 1.4) * piece_s(sound));
            const int on = (int)(t - start),
                      off = (int)fmin(len, on + (left - piece < MIN_MS ? left : piece));
            const double snr_db = es_rng_range(&r, d->p.snr_min_db, d->p.snr_max_db);
            const struct es_demo_event e = {sound, on, off, (float)snr_db,
                                            (uint32_t)(1000 * sound + ++source)};
            if (off - on >= MIN_MS) ES_GO(add(p, d->first[set] + rec, &e, err));
            const int step = off - on > 0 ? off - on : 1;
            t += step;
            left -= step;
        }
    }
done:
    es_free(&gap);
    es_free(&run);
    return rc;
}

/* ---- names and lengths */

static void name_clip(const struct es_demo *d, struct es_demo_clip *c) {
    static const char letter[ES_DEMO_SETS] = "AER-WUV-";
    struct es_rng r = demo_rng(d, c->set, c->index, OP_NAME);
    const int begin_s = 10 * (int)es_rng_below(&r, 30);
    c->scene = -1;
    c->n_samples = DEMO_CLIP_MS * (DEMO_RATE / 1000);
    switch (c->set) {
    case ES_DEMO_AS_TRAIN:
    case ES_DEMO_AS_EVAL:
        snprintf(c->name, sizeof c->name, "Ydemo%c%06d", letter[c->set], c->index);
        break;
    case ES_DEMO_SYNTH:
    case ES_DEMO_SYNTH_VALIDATION: /* numbers go on, so that stems are unique over both sets */
        snprintf(c->name, sizeof c->name, "%d",
                 c->index + (c->set == ES_DEMO_SYNTH ? 0 : d->count[ES_DEMO_SYNTH]));
        break;
    case ES_DEMO_MAESTRO_TRAIN:
    case ES_DEMO_MAESTRO_VALIDATION: {
        const int before = c->set == ES_DEMO_MAESTRO_TRAIN
                               ? 0
                               : (d->count[ES_DEMO_MAESTRO_TRAIN] + DEMO_SCENES - 1) / DEMO_SCENES;
        c->scene = c->index % DEMO_SCENES;
        snprintf(c->name, sizeof c->name, "%s_%02d", demo_scenes[c->scene], before + c->index / DEMO_SCENES);
        c->n_samples = (int)(1000 * d->p.maestro_seconds + 1000 * es_rng_uniform(&r)) * (DEMO_RATE / 1000);
        break;
    }
    default:
        snprintf(c->name, sizeof c->name, "Ydemo%c%06d_%d.000_%d.000", letter[c->set], c->index, begin_s,
                 begin_s + 10);
    }
}

int demo_plan(struct es_demo *d, struct es_err *err) {
    int rc = 0;
    d->longest = 1;
    struct plan p = {0};
    for (int set = 0; set < ES_DEMO_SETS; set++) {
        d->first[set] = d->n_clips;
        d->n_clips += d->count[set];
    }
    if ((d->clip = es_alloc((size_t)d->n_clips, sizeof *d->clip, err)) == NULL) return -ES_EIO;
    for (int set = 0; set < ES_DEMO_SETS; set++)
        for (int i = 0; i < d->count[set]; i++) {
            struct es_demo_clip *c = d->clip + d->first[set] + i;
            struct es_demo_event e[MAX_EVENTS];
            c->set = (enum es_demo_set)set;
            c->index = i;
            name_clip(d, c);
            if (c->n_samples > d->longest) d->longest = c->n_samples;
            const int n = c->scene >= 0 ? 0 : plan_clip(d, c->set, i, e);
            for (int k = 0; k < n; k++) ES_GO(add(&p, d->first[set] + i, &e[k], err));
        }
    for (int set = ES_DEMO_MAESTRO_TRAIN; set <= ES_DEMO_MAESTRO_VALIDATION; set++)
        for (int scene = 0; scene < DEMO_SCENES; scene++)
            for (int sound = ES_SOUND_DESED; sound < ES_SOUND_TASK; sound++)
                ES_GO(plan_runs(d, (enum es_demo_set)set, scene, sound, &p, err));
    if (p.n) qsort(p.at, (size_t)p.n, sizeof *p.at, by_clip);
    d->n_events = p.n;
    if ((d->event = es_alloc((size_t)p.n + 1, sizeof *d->event, err)) == NULL) ES_GO(-ES_EIO);
    if ((d->work = es_alloc(2 * (size_t)d->longest, sizeof *d->work, err)) == NULL) ES_GO(-ES_EIO);
    const size_t n_raw = (size_t)ceil((double)d->longest * exp2(d->p.pitch_semitones / 12)) + 2;
    if ((d->raw = es_alloc(n_raw, sizeof *d->raw, err)) == NULL) ES_GO(-ES_EIO);
    for (int i = 0; i < p.n; i++) d->event[i] = p.at[i].e;
    for (int i = 0, c = 0; c < d->n_clips; c++) {
        d->clip[c].event = d->event + i;
        while (i < p.n && p.at[i].clip == c) i++, d->clip[c].n_events++;
    }
done:
    es_free(&p.at);
    return rc;
}

double es_demo_soft_label(const struct es_demo *d, const struct es_demo_clip *c, int sound, int second) {
    enum { ANNOTATORS = 5 };
    const int whole_ms = c->n_samples / (DEMO_RATE / 1000);
    double covered[3] = {0}; /* share of the segment before, of this one, of the one after */
    if (c->scene < 0 || sound < ES_SOUND_DESED || sound >= ES_SOUND_TASK || share_of(c->scene, sound) <= 0)
        return 0;
    bool known = false;
    for (size_t i = 0; i < sizeof assumed / sizeof *assumed; i++) known |= assumed[i].sound == sound;
    for (int i = 0; i < c->n_events; i++) {
        if (c->event[i].sound != sound) continue;
        for (int k = 0; k < 3; k++) {
            const int from = 1000 * (second - 1 + k), to = from + 1000 < whole_ms ? from + 1000 : whole_ms;
            const int on = c->event[i].onset_ms, off = c->event[i].offset_ms;
            const int overlap = (off < to ? off : to) - (on > from ? on : from);
            if (overlap > 0) covered[k] += (double)overlap / (to - from);
        }
    }
    const double heard = (0.1 * covered[0] + 0.8 * covered[1] + 0.1 * covered[2]) * (known ? 0.4 : 1);
    struct es_rng bias = demo_rng(d, c->set, c->index, OP_LABEL);
    struct es_rng r =
        demo_rng(d, c->set, c->index, OP_ANNOTATOR + (uint32_t)sound * 65536 + (uint32_t)second);
    int yes = 0;
    for (int k = 0; k < ANNOTATORS; k++) {
        const double threshold = es_rng_range(&bias, 0.2, 0.7), noise = 0.1 * es_rng_normal(&r);
        const double slip = es_rng_uniform(&r); /* overlooked or imagined */
        const bool hears = heard > 0 && heard + noise > threshold;
        yes += hears ? slip > 0.06 : slip > 0.985;
    }
    return yes / (double)ANNOTATORS;
}
