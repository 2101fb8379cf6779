/* Tuning of post-processing on a labelled set (spec section 13.4). A task is one class with one filter: its candidates are score
 * tables of that class alone, counted like any other scores. Tasks go round the ranks, and on a rank to its threads. */
#include <math.h>
#include <string.h>

#include "earshot/csebb.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/psds.h"
#include "evaluate_impl.h"

struct es_csebb_grid es_csebb_grid_published(void) {
    static const double f[] = {0.38, 0.42, 0.46, 0.5, 0.54, 0.58, 0.62, 0.66},
                        a[] = {0.15, 0.175, 0.2, 0.225, 0.25, 0.275, 0.3, 0.325},
                        r[] = {1.5, 1.75, 2, 2.25, 2.5, 2.75, 3, 3.25};
    return (struct es_csebb_grid){8, 8, 8, f, a, r};
}

struct es_csebb_grid es_csebb_grid_package(void) {
    static const double f[] = {0.32, 0.48, 0.64}, a[] = {0.15, 0.2, 0.3}, r[] = {1.5, 2, 3};
    return (struct es_csebb_grid){3, 3, 3, f, a, r};
}

struct tuner {
    const struct es_evalset *set;
    struct es_tuning *result;
    const struct es_csebb_grid *grid; /* or */
    const double *length_s;
    int n_filters, n_merges; /* settings a filter */
    enum es_tune_by by;
};

/* ---- one class as a set of its own */

struct table { /* scores of one class for the clips of a set */
    struct es_scores scores;
    struct es_evalset view;
    int *columns; /* all 0 */
};

static void table_free(struct table *t) {
    /* edges and values of a clip are one block */
    for (int64_t i = 0; t->scores.clips && i < t->view.n_clips; i++) {
        void *block;
        memcpy(&block, &t->scores.clips[i].edges_s, sizeof block);
        es_free(&block);
    }
    es_free(&t->scores.clips);
    es_free(&t->view.clips);
    es_free(&t->columns);
}

static int table_new(struct table *t, const struct es_evalset *set, struct es_err *err) {
    t->scores = (struct es_scores){.n_classes = 1, .is_double = true, .frame_stride = 1, .class_stride = 1};
    t->view = *set;
    t->view.scores = &t->scores;
    t->scores.n_clips = set->n_clips;
    t->scores.clips = es_alloc((size_t)set->n_clips, sizeof *t->scores.clips, err);
    t->view.clips = es_alloc((size_t)set->n_clips, sizeof *t->view.clips, err);
    t->view.column = t->columns = es_alloc((size_t)set->n_classes, sizeof *t->columns, err);
    if (!t->scores.clips || !t->view.clips || !t->columns) return -ES_EIO;
    for (int64_t i = 0; i < set->n_clips; i++) {
        t->view.clips[i] = set->clips[i];
        t->view.clips[i].source = i;
    }
    t->view.n_frames = t->view.n_frames_max = 0;
    return 0;
}

/* Room for `cap` frames of clip i. */
static int table_reserve(struct table *t, int64_t i, int cap, struct es_err *err) {
    void *block;
    memcpy(&block, &t->scores.clips[i].edges_s, sizeof block);
    es_free(&block);
    double *both = es_alloc(2 * (size_t)cap + 1, sizeof *both, err);
    t->scores.clips[i].edges_s = both;
    t->scores.clips[i].values = both ? both + cap + 1 : NULL;
    return both ? 0 : -ES_EIO;
}

/* What clip i consists of now; edges and values are in the room of table_reserve. */
static double *room(struct table *t, int64_t i) {
    double *p;
    memcpy(&p, &t->scores.clips[i].edges_s, sizeof p);
    return p;
}

static void table_set(struct table *t, int64_t i, int n) {
    struct eval_clip *c = &t->view.clips[i];
    t->view.n_frames += n - (c->edges_s == t->scores.clips[i].edges_s ? c->n_frames : 0);
    t->scores.clips[i].n_frames = c->n_frames = n;
    c->edges_s = t->scores.clips[i].edges_s;
    c->frame_min_s = HUGE_VAL;
    for (int j = 0; j < n; j++) c->frame_min_s = fmin(c->frame_min_s, c->edges_s[j + 1] - c->edges_s[j]);
    if (n > t->view.n_frames_max) t->view.n_frames_max = n;
}

static int judge(struct tuner *u, struct stat_ws *ws, const struct table *t, int k, int setting,
                 struct es_err *err) {
    const size_t at = (size_t)setting * (size_t)u->set->n_classes + (size_t)k;
    if (u->by == ES_TUNE_PSDS) {
        const struct es_psds_params p = es_psds1_params();
        u->result->at[at] = (double)NAN;
        return psds_class_value(ws, &t->view, k, &p, &u->result->value[at], err);
    }
    const struct es_f1_params p = es_f1_params_default();
    struct es_f1_value best;
    ES_TRY(f1_class_best(ws, &t->view, k, ES_F1_COLLAR, &p, &best, err));
    u->result->value[at] = best.f;
    u->result->at[at] = best.threshold;
    return 0;
}

/* ---- cSEBBs */

/* Boxes of clip i as frames: gaps are -inf. */
static void fill_boxes(struct table *t, int64_t i, const struct es_csebb_box *box, int n) {
    double *edges = room(t, i), *values;
    int frames = 0;
    memcpy(&values, &t->scores.clips[i].values, sizeof values);
    edges[0] = 0;
    for (int b = 0; b < n; b++) {
        if (box[b].onset_s > edges[frames]) {
            values[frames] = -HUGE_VAL;
            edges[++frames] = box[b].onset_s;
        }
        if (!(box[b].offset_s > edges[frames])) continue;
        values[frames] = box[b].confidence;
        edges[++frames] = box[b].offset_s;
    }
    if (frames == 0) {
        values[0] = -HUGE_VAL;
        edges[++frames] = 0.001;
    }
    table_set(t, i, frames);
}

struct csebb_ws {
    struct es_csebb_segments *segments; /* [n_clips], exactly as large as they are */
    double *numbers;                    /* what they point into */
    struct es_csebb_box *box;
};

/* Segments of all clips of class k, packed. */
static int detect_all(struct csebb_ws *w, const struct tuner *u, int k, double filter_s, struct table *t,
                      struct es_err *err) {
    const struct es_evalset *set = u->set;
    struct es_csebb_segments g = {0};
    int64_t used = 0, cap = 0;
    int boxes_max = 1;
    double *column = es_alloc((size_t)set->n_frames_max, sizeof *column, err);
    int rc = column ? es_csebb_segments_init(&g, set->n_frames_max, err) : -ES_EIO;
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        const struct eval_clip *c = &set->clips[i];
        es_scores_column(set->scores, c->source, set->column[k], column);
        for (int j = 0; j < c->n_frames && rc == 0; j++)
            if (!isfinite(column[j]) || c->edges_s[0] != 0)
                rc = es_err_set(err, ES_EDATA,
                                "%s: clip '%s': got a score of %g, times from %g s on; want finite scores, "
                                "times from 0 on for cSEBBs",
                                set->scores->source, set->scores->clips[c->source].id, column[j],
                                c->edges_s[0]);
        if (rc < 0) break;
        es_csebb_detect(&g, c->n_frames, c->edges_s, column, filter_s);
        const int n = 2 * g.n_events + 1;
        if (used + 4 * n + 1 > cap) {
            cap = 2 * (used + 4 * n + 1);
            double *more = es_alloc((size_t)cap, sizeof *more, err);
            rc = more ? 0 : -ES_EIO;
            if (rc < 0) break;
            if (used) memcpy(more, w->numbers, (size_t)used * sizeof *more);
            es_free(&w->numbers);
            w->numbers = more;
        }
        double *to = w->numbers + used;
        memcpy(to, g.bound, ((size_t)n + 1) * sizeof *to);
        memcpy(to + n + 1, g.mean, (size_t)n * sizeof *to);
        memcpy(to + 2 * n + 1, g.min, (size_t)n * sizeof *to);
        memcpy(to + 3 * n + 1, g.max, (size_t)n * sizeof *to);
        w->segments[i].n_events = g.n_events;
        used += 4 * n + 1;
        if (g.n_events > boxes_max) boxes_max = g.n_events;
        rc = table_reserve(t, i, n + 1, err);
    }
    double *from = w->numbers;
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        struct es_csebb_segments *s = &w->segments[i];
        const int n = 2 * s->n_events + 1;
        s->bound = from;
        s->mean = from + n + 1;
        s->min = s->mean + n;
        s->max = s->min + n;
        from += 4 * n + 1;
    }
    if (rc == 0) {
        es_free(&w->box);
        w->box = es_alloc((size_t)boxes_max, sizeof *w->box, err);
        if (!w->box) rc = -ES_EIO;
    }
    es_csebb_segments_fini(&g);
    es_free(&column);
    return rc;
}

static int task_csebb(struct tuner *u, int k, int filter, struct es_err *err) {
    const struct es_evalset *set = u->set;
    struct csebb_ws w = {0};
    struct stat_ws ws = {0};
    struct table t = {0};
    int rc = table_new(&t, set, err);
    if (rc < 0) goto done;
    w.segments = es_alloc((size_t)set->n_clips, sizeof *w.segments, err);
    rc = w.segments ? 0 : -ES_EIO;
    if (rc == 0) rc = detect_all(&w, u, k, u->grid->step_filter_s[filter], &t, err);
    int64_t cap = 0;
    int frames_max = 1;
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        const int frames = 2 * w.segments[i].n_events + 2;
        cap += frames;
        if (frames > frames_max) frames_max = frames;
    }
    if (rc == 0) {
        struct es_evalset size = t.view;
        size.n_frames_max = frames_max;
        rc = stat_ws_init(&ws, &size, cap, err);
    }
    for (int m = 0; m < u->n_merges && rc == 0; m++) {
        const int setting = filter * u->n_merges + m;
        const struct es_csebb_params *p = &u->result->setting[setting];
        for (int64_t i = 0; i < set->n_clips; i++)
            fill_boxes(&t, i, w.box, es_csebb_merge(&w.segments[i], p->merge_abs, p->merge_rel, w.box));
        rc = judge(u, &ws, &t, k, setting, err);
    }
done:
    stat_ws_fini(&ws);
    table_free(&t);
    es_free(&w.box);
    es_free(&w.numbers);
    es_free(&w.segments);
    return rc;
}

/* ---- median filters */

static int task_median(struct tuner *u, int k, int filter, struct es_err *err) {
    const struct es_evalset *set = u->set;
    const double length_s = u->length_s[filter];
    struct stat_ws ws = {0};
    struct table t = {0};
    int cap = 4 * set->n_frames_max + 12;
    double *change_s = NULL, *value = NULL, *scratch = NULL,
           *column = es_alloc((size_t)set->n_frames_max, sizeof *column, err);
    int rc = column ? table_new(&t, set, err) : -ES_EIO;
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        const struct eval_clip *c = &set->clips[i];
        es_scores_column(set->scores, c->source, set->column[k], column);
        int n = c->n_frames, room_n = 0;
        while (rc == 0 && length_s > 0 && (!change_s || n > cap || room_n == 0)) {
            if (!change_s || n > cap) {
                if (n > cap) cap = 2 * n;
                es_free(&change_s), es_free(&value), es_free(&scratch);
                change_s = es_alloc((size_t)cap, sizeof *change_s, err);
                value = es_alloc((size_t)cap, sizeof *value, err);
                scratch = es_alloc(2 * (size_t)set->n_frames_max + 4, sizeof *scratch, err);
                if (!change_s || !value || !scratch) rc = -ES_EIO;
                if (rc < 0) break;
            }
            n = es_median_time(c->n_frames, c->edges_s, column, length_s, cap, change_s, value, scratch);
            room_n = 1;
        }
        if (rc == 0) rc = table_reserve(&t, i, (n > c->n_frames ? n : c->n_frames) + 1, err);
        if (rc < 0) break;
        double *edges = room(&t, i), *values;
        memcpy(&values, &t.scores.clips[i].values, sizeof values);
        int frames = 0;
        if (length_s == 0) {
            memcpy(edges, c->edges_s, ((size_t)c->n_frames + 1) * sizeof *edges);
            memcpy(values, column, (size_t)c->n_frames * sizeof *values);
            frames = c->n_frames;
        }
        for (int j = 0; length_s > 0 && j < n; j++) {
            const double at = rint(change_s[j] * 1e6) / 1e6;
            if (j > 0 && at - edges[frames] >= 1e-7) frames++;
            edges[frames] = at;
            values[frames] = value[j];
        }
        if (frames == 0) {
            edges[0] = c->edges_s[0];
            edges[1] = c->edges_s[c->n_frames];
            values[0] = -HUGE_VAL;
            frames = 1;
        }
        table_set(&t, i, frames);
    }
    if (rc == 0) rc = stat_ws_init(&ws, &t.view, t.view.n_frames, err);
    if (rc == 0) rc = judge(u, &ws, &t, k, filter, err);
    stat_ws_fini(&ws);
    table_free(&t);
    es_free(&scratch);
    es_free(&value);
    es_free(&change_s);
    es_free(&column);
    return rc;
}

/* ---- all tasks, then the choice */

static int run_tasks(struct tuner *u, const struct es_comm *comm, struct es_err *err) {
    const int n = u->n_filters * u->set->n_classes, size = comm ? es_comm_size(comm) : 1,
              rank = comm ? es_comm_rank(comm) : 0;
    int rc = 0, failed = n;
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = rank; i < n; i += size) {
        struct es_err mine = {0};
        const int k = i / u->n_filters, filter = i % u->n_filters;
        const int my_rc = u->grid ? task_csebb(u, k, filter, &mine) : task_median(u, k, filter, &mine);
        if (my_rc >= 0) continue;
#pragma omp critical(es_tune)
        if (i < failed) {
            failed = i;
            rc = es_err_set(err, (enum es_code) - my_rc, "%s", mine.msg);
        }
    }
    return rc;
}

/* Every rank's part of an array [n_settings, K] to all of them. */
static int share(struct tuner *u, const struct es_comm *comm, double *array, struct es_err *err) {
    const size_t n = (size_t)u->result->n_settings * (size_t)u->result->n_classes;
    const int size = es_comm_size(comm), K = u->result->n_classes;
    double *all = es_alloc(n * (size_t)size, sizeof *all, err);
    ES_TRY(es_err_agree_all(comm, all ? 0 : -ES_EIO, err));
    es_comm_allgather_all(comm, array, n * sizeof *all, all);
    for (int s = 0; s < u->result->n_settings; s++)
        for (int k = 0; k < K; k++) {
            const int owner = (k * u->n_filters + s / u->n_merges) % size;
            array[(int64_t)s * K + k] = all[(size_t)owner * n + (size_t)s * (size_t)K + (size_t)k];
        }
    es_free(&all);
    return 0;
}

static void choose(struct tuner *u) {
    struct es_tuning *t = u->result;
    const int K = t->n_classes;
    for (int k = 0; k < K; k++) t->best_value[k] = -HUGE_VAL;
    for (int s = 0; s < t->n_settings; s++) {
        const double *v = t->value + (int64_t)s * K;
        double mean = 0;
        for (int k = 0; k < K; k++) mean += v[k] / K;
        for (int k = 0; k < K; k++) {
            const double here = t->by_class ? v[k] : mean;
            if (here <= t->best_value[k]) continue;
            t->best_value[k] = here;
            t->best[k] = s;
        }
    }
    for (int k = 0; k < K; k++) {
        t->threshold[k] = t->at[(int64_t)t->best[k] * K + k];
        if (t->csebb) t->csebb[k] = t->setting[t->best[k]];
        if (t->length_s) t->length_s[k] = u->length_s[t->best[k]];
    }
}

static int tune_all(struct es_tuning **out, struct tuner *u, const struct es_comm *comm, bool by_class,
                    struct es_err *err) {
    const size_t K = (size_t)u->set->n_classes, n = (size_t)u->n_filters * (size_t)u->n_merges;
    int rc = -ES_EIO;
    struct es_tuning *t = u->result = *out = es_alloc(1, sizeof *t, err);
    if (!t) goto agree;
    t->n_settings = (int)n;
    t->by_class = by_class;
    t->value = es_alloc(n * K, sizeof *t->value, err);
    t->at = es_alloc(n * K, sizeof *t->at, err);
    t->best = es_alloc(K, sizeof *t->best, err);
    t->best_value = es_alloc(K, sizeof *t->best_value, err);
    t->threshold = es_alloc(K, sizeof *t->threshold, err);
    if (!t->value || !t->at || !t->best || !t->best_value || !t->threshold) goto agree;
    if (u->grid) {
        t->setting = es_alloc(n, sizeof *t->setting, err);
        t->csebb = es_alloc(K, sizeof *t->csebb, err);
        if (!t->setting || !t->csebb) goto agree;
        for (size_t s = 0; s < n; s++) {
            const int m = (int)s % u->n_merges, a = u->grid->n_abs;
            t->setting[s] =
                (struct es_csebb_params){.step_filter_s = u->grid->step_filter_s[(int)s / u->n_merges],
                                         .merge_abs = m < a ? u->grid->merge_abs[m] : HUGE_VAL,
                                         .merge_rel = m < a ? HUGE_VAL : u->grid->merge_rel[m - a]};
        }
    } else {
        t->length_s = es_alloc(K, sizeof *t->length_s, err);
        if (!t->length_s) goto agree;
    }
    rc = evalset_copy_names(&t->class_name, u->set, err);
    t->n_classes = (int)K;
    if (rc == 0) rc = run_tasks(u, comm, err);
agree:
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc == 0 && comm && es_comm_size(comm) > 1) {
        rc = share(u, comm, t->value, err);
        if (rc == 0) rc = share(u, comm, t->at, err);
    }
    if (rc == 0) choose(u);
    if (rc < 0) es_tuning_free(out);
    return rc;
}

int es_tune_csebb_all(struct es_tuning **t, const struct es_evalset *set, const struct es_comm *comm,
                      const struct es_csebb_grid *grid, enum es_tune_by by, bool by_class,
                      struct es_err *err) {
    struct tuner u = {.set = set,
                      .grid = grid,
                      .n_filters = grid->n_filters,
                      .n_merges = grid->n_abs + grid->n_rel,
                      .by = by};
    *t = NULL;
    for (int f = 0; f < grid->n_filters; f++)
        if (!(grid->step_filter_s[f] > 0 && isfinite(grid->step_filter_s[f])))
            return es_err_set(err, ES_EUSAGE, "cSEBBs: got a step filter of %g s, want more than 0",
                              grid->step_filter_s[f]);
    if (grid->n_filters < 1 || u.n_merges < 1) return es_err_set(err, ES_EUSAGE, "cSEBBs: got an empty grid");
    return tune_all(t, &u, comm, by_class, err);
}

int es_tune_median_all(struct es_tuning **t, const struct es_evalset *set, const struct es_comm *comm,
                       const double *length_s, int n, enum es_tune_by by, bool by_class, struct es_err *err) {
    struct tuner u = {.set = set, .length_s = length_s, .n_filters = n, .n_merges = 1, .by = by};
    *t = NULL;
    for (int i = 0; i < n; i++)
        if (!(length_s[i] >= 0 && isfinite(length_s[i])))
            return es_err_set(err, ES_EUSAGE, "median filter: got a length of %g s, want 0 or more",
                              length_s[i]);
    if (n < 1) return es_err_set(err, ES_EUSAGE, "median filter: got no length to try");
    return tune_all(t, &u, comm, by_class, err);
}

void es_tuning_free(struct es_tuning **t) {
    if (!*t) return;
    evalset_free_names(&(*t)->class_name, (*t)->n_classes);
    es_free(&(*t)->value);
    es_free(&(*t)->at);
    es_free(&(*t)->best);
    es_free(&(*t)->best_value);
    es_free(&(*t)->threshold);
    es_free(&(*t)->setting);
    es_free(&(*t)->csebb);
    es_free(&(*t)->length_s);
    es_free(t);
}
