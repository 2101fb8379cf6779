/* Post-processing: median filters, change detection, bounding boxes (cSEBB) and the choice of their settings. */
#include "earshot/csebb.h"
#include "earshot/events.h"
#include "earshot/labels.h"
#include "earshot/median.h"
#include "earshot/mpauc.h"

#include "eval.h"

enum { MAX_CLASSES = 256, MAX_GRID = 64 };

/* A parameter for class k: a number, a list, or an object by name. */
static double of_class(struct js *v, int k, const char *name) {
    if (!v) return (double)NAN;
    if (v->type == JS_OBJECT) return js_number(v, name, (double)NAN);
    if (v->type != JS_ARRAY) return v->num;
    struct js *x = v->first;
    for (int i = 0; i < k && x; i++) x = x->next;
    return x ? x->num : (double)NAN;
}

/* ---- single filters and change detection */

/* timestamps and rows [class][frame] of a case. */
static int table_of(struct js *c, const char *key, struct es_scores **s, struct es_err *err) {
    char name[MAX_CLASSES][8];
    const char *classes[MAX_CLASSES], *id = "clip";
    struct js *times = js_get(c, "timestamps"), *rows = js_get(c, key);
    const int K = (int)rows->n < MAX_CLASSES ? (int)rows->n : MAX_CLASSES;
    for (int k = 0; k < K; k++) {
        snprintf(name[k], sizeof name[k], "%d", k);
        classes[k] = name[k];
    }
    ES_TRY(es_scores_new(s, 1, &id, K, classes, true, "scores", err));
    (*s)->own_clips = true;
    double *edges = es_alloc((size_t)times->n, sizeof *edges, NULL),
           *values = es_alloc((size_t)(times->n * K), sizeof *values, NULL);
    ES_ASSERT(edges && values);
    (*s)->clips[0] = (struct es_scores_clip){.id = (*s)->clips[0].id,
                                             .n_frames = ev_numbers(times, edges, (int)times->n) - 1,
                                             .edges_s = edges,
                                             .values = values};
    int k = 0;
    for (struct js *row = rows->first; row && k < K; row = row->next, k++) {
        int i = 0;
        for (struct js *v = row->first; v && i < times->n; v = v->next, i++) values[i * K + k] = v->num;
    }
    return 0;
}

static void put_table(struct ev *e, const struct es_scores *got, int64_t i_clip, struct js *times,
                      struct js *rows, enum ev_kind kind) {
    const struct es_scores_clip *c = &got->clips[i_clip];
    double *column = es_alloc((size_t)c->n_frames + 1, sizeof *column, NULL);
    ES_ASSERT(column);
    ev_put_list(e, times, EV_FILTER_TIME, c->edges_s, c->n_frames + 1);
    int k = 0;
    for (struct js *row = rows ? rows->first : NULL; row; row = row->next, k++) {
        const int column_i = row->key ? es_scores_class(got, row->key) : k;
        if (column_i < 0) continue;
        es_scores_column(got, i_clip, column_i, column);
        ev_put_list(e, row, kind, column, c->n_frames);
    }
    es_free(&column);
}

static void discrete(struct ev *e, struct js *c) {
    struct js *w = js_get(c, "window_frames"), *in = js_get(c, "input"), *out = js_get(c, "output");
    struct js *o = out ? out->first : NULL, *ww = w ? w->first : NULL;
    for (struct js *x = in ? in->first : NULL; x && o && ww; x = x->next, o = o->next, ww = ww->next) {
        const int n = (int)x->n, window = (int)ww->num;
        double *a = es_alloc((size_t)n + 1, sizeof *a, NULL), *b = es_alloc((size_t)n + 1, sizeof *b, NULL),
               *ws = es_alloc((size_t)window + 1, sizeof *ws, NULL);
        ES_ASSERT(a && b && ws);
        ev_numbers(x, a, n);
        es_median_filter(n, window, a, b, ws);
        ev_put_list(e, o, EV_EXACT, b, n);
        es_free(&ws);
        es_free(&b);
        es_free(&a);
    }
    ev_input(w);
    ev_input(in);
    ev_input(js_get(c, "name"));
}

static void continuous(struct ev *e, struct js *c) {
    struct es_err err = {0};
    struct es_scores *in = NULL, *out = NULL;
    double length_s[MAX_CLASSES];
    int rc = table_of(c, "input", &in, &err);
    for (int k = 0; rc == 0 && k < in->n_classes; k++)
        length_s[k] = of_class(js_get(c, "filter_length_in_sec"), k, "");
    if (rc == 0) rc = es_scores_median_time(&out, in, length_s, &err);
    if (!ev_error(e, c, rc, &err))
        put_table(e, out, 0, js_get(c, "output_timestamps"), js_get(c, "output"), EV_EXACT);
    static const char *const inputs[] = {"name", "filter_length_in_sec", "timestamps", "input"};
    for (int i = 0; i < 4; i++) ev_input(js_get(c, inputs[i]));
    es_scores_free(&in);
    es_scores_free(&out);
}

static void put_boxes(struct ev *e, struct js *want, const struct es_csebb_box *box, int n) {
    double *x = es_alloc(3 * (size_t)n + 3, sizeof *x, NULL);
    ES_ASSERT(x);
    for (int b = 0; b < n; b++) {
        x[b] = box[b].onset_s;
        x[n + b] = box[b].offset_s;
        x[2 * n + b] = box[b].confidence;
    }
    ev_put_list(e, js_get(want, "onsets"), EV_TIME, x, n);
    ev_put_list(e, js_get(want, "offsets"), EV_TIME, x + n, n);
    ev_put_list(e, js_get(want, "confidences"), EV_VALUE, x + 2 * n, n);
    es_free(&x);
}

static void detection(struct ev *e, struct js *c) {
    struct es_err err = {0};
    struct es_scores *in = NULL;
    struct es_csebb_segments g = {0};
    if (ev_error(e, c, table_of(c, "scores", &in, &err), &err)) return;
    const int frames = in->clips[0].n_frames;
    struct es_csebb_box *box = es_alloc(3 * (size_t)frames + 6, sizeof *box, NULL);
    double *column = es_alloc((size_t)frames + 1, sizeof *column, NULL);
    ES_ASSERT(box && column);
    int rc = es_csebb_segments_init(&g, frames, &err), k = 0;
    struct js *per_class = js_get(c, "change_detection"), *merged = js_get(c, "merged");
    for (struct js *w = per_class ? per_class->first : NULL; w && !ev_error(e, c, rc, &err);
         w = w->next, k++) {
        es_scores_column(in, 0, k, column);
        es_csebb_detect(&g, frames, in->clips[0].edges_s, column,
                        of_class(js_get(c, "step_filter_length"), k, ""));
        ev_put_list(e, js_get(w, "segment_bounds"), EV_TIME, g.bound, 2 * g.n_events + 2);
        ev_put_list(e, js_get(w, "mean_scores"), EV_VALUE, g.mean, 2 * g.n_events + 1);
        ev_put_list(e, js_get(w, "min_scores"), EV_VALUE, g.min, 2 * g.n_events + 1);
        ev_put_list(e, js_get(w, "max_scores"), EV_VALUE, g.max, 2 * g.n_events + 1);
        for (struct js *m = merged ? merged->first : NULL; m; m = m->next) {
            const int n = es_csebb_merge(&g, js_number(m, "merge_threshold_abs", (double)NAN),
                                         js_number(m, "merge_threshold_rel", (double)NAN), box);
            struct js *list = js_get(m, "per_class"), *want = list ? list->first : NULL;
            for (int j = 0; j < k && want; j++) want = want->next;
            if (want) put_boxes(e, want, box, n);
            ev_input(js_get(m, "merge_threshold_abs"));
            ev_input(js_get(m, "merge_threshold_rel"));
        }
    }
    static const char *const inputs[] = {"name", "step_filter_length", "timestamps", "scores", "robust",
                                         "about"};
    for (int i = 0; i < 6; i++) ev_input(js_get(c, inputs[i]));
    es_csebb_segments_fini(&g);
    es_free(&column);
    es_free(&box);
    es_scores_free(&in);
}

void ev_case_filters(struct rn *run, const char *folder) {
    struct ev e;
    if (ev_open(&e, run, folder, "median_filters.json.gz")) {
        struct js *d = js_get(e.root, "discrete"), *c = js_get(e.root, "continuous");
        for (struct js *v = d ? d->first : NULL; v; v = v->next) discrete(&e, v);
        for (struct js *v = c ? c->first : NULL; v; v = v->next) continuous(&e, v);
        ev_close(&e);
    }
    if (ev_open(&e, run, folder, "change_detection.json.gz")) {
        struct js *cases = js_get(e.root, "cases");
        for (struct js *v = cases ? cases->first : NULL; v; v = v->next) detection(&e, v);
        ev_close(&e);
    }
}

/* ---- boxes of real scores */
struct folder {
    struct ev e;
    struct es_scores *scores;
    struct es_truth *truth;
};

static const struct es_evalset_params whole = {.keep_empty = true};

/* PSDS (a number: PSDS1) or collar F1 of boxes as scores. */
static void put_scored(struct folder *f, const struct es_truth *boxes, double fill, bool durations,
                       struct js *block) {
    struct es_err err = {0};
    struct es_scores *table = NULL;
    struct es_evalset *set = NULL;
    if (!block) return;
    int rc = es_scores_from_events(&table, boxes, f->scores, durations ? f->truth : NULL, fill, &err);
    if (rc == 0) rc = es_evalset_new(&set, table, f->truth, &whole, &err);
    if (!ev_error(&f->e, block, rc, &err)) {
        struct es_psds *psds = NULL;
        const struct es_psds_params p = es_psds1_params();
        if (block->type != JS_NUMBER && strncmp(block->key, "psds", 4) == 0)
            ev_psds(&f->e, set, block);
        else if (block->type != JS_NUMBER)
            ev_f1(&f->e, set, block, ES_F1_COLLAR);
        else if (!ev_error(&f->e, block, es_psds_new(&psds, set, &p, &err), &err))
            ev_put(&f->e, block, EV_VALUE, psds->value);
        es_psds_free(&psds);
    }
    es_evalset_free(&set);
    es_scores_free(&table);
}

static void put_box_counts(struct ev *e, const struct es_truth *boxes, struct js *counts) {
    for (struct js *c = counts ? counts->first : NULL; c; c = c->next) {
        const int64_t clip = es_names_find(boxes->clips, c->key);
        int64_t n = 0;
        for (int64_t i = 0; i < boxes->n_events; i++) n += boxes->events[i].clip == clip;
        ev_put(e, c, EV_COUNT, (double)n);
    }
}

static void given_params(struct folder *f, struct js *want) {
    static const char *const inputs[] = {"step_filter_length", "merge_threshold_abs", "merge_threshold_rel"};
    struct es_err err = {0};
    struct es_csebb_params p[MAX_CLASSES];
    struct es_truth *boxes = NULL;
    for (int k = 0; k < f->scores->n_classes && k < MAX_CLASSES; k++) {
        const char *name = f->scores->classes[k];
        p[k] = (struct es_csebb_params){of_class(js_get(want, inputs[0]), k, name),
                                        of_class(js_get(want, inputs[1]), k, name),
                                        of_class(js_get(want, inputs[2]), k, name)};
    }
    if (ev_error(&f->e, want, es_csebb_boxes(&boxes, f->scores, p, &err), &err)) return;
    ev_events(&f->e, boxes, js_get(want, "boxes"), EV_TIME);
    put_box_counts(&f->e, boxes, js_get(want, "num_boxes"));
    put_scored(f, boxes, -HUGE_VAL, false, js_get(want, "psds1"));
    put_scored(f, boxes, -HUGE_VAL, true, js_get(want, "psds1_with_audio_duration"));
    put_scored(f, boxes, 0, false, js_get(want, "psds1_fill_zero"));
    put_scored(f, boxes, -HUGE_VAL, false, js_get(want, "psds2"));
    put_scored(f, boxes, -HUGE_VAL, false, js_get(want, "collar_f1"));
    for (int i = 0; i < 3; i++) ev_input(js_get(want, inputs[i]));
    es_truth_free(&boxes);
}

/* ---- tuning */

/* One value for all classes is a number, else an object by class. */
static void put_choice(struct ev *e, struct js *want, const char *name, enum ev_kind kind, double got) {
    if (want && want->type == JS_OBJECT)
        ev_put(e, js_get(want, name), kind, got);
    else if (want && want->type != JS_ARRAY)
        ev_put(e, want, kind, got);
}

static void put_selected(struct ev *e, const struct es_tuning *got, struct js *want) {
    struct js *sel = js_get(want, "selected"), *best = js_get(want, "best_values"),
              *th = js_get(sel, "detection_threshold");
    for (int k = 0; k < got->n_classes; k++) {
        const char *name = got->class_name[k];
        put_choice(e, js_get(sel, "step_filter_length"), name, EV_COUNT, got->csebb[k].step_filter_s);
        put_choice(e, js_get(sel, "merge_threshold_abs"), name, EV_COUNT, got->csebb[k].merge_abs);
        put_choice(e, js_get(sel, "merge_threshold_rel"), name, EV_COUNT, got->csebb[k].merge_rel);
        put_choice(e, best, name, EV_VALUE, got->best_value[k]);
        if (th && th->type == JS_OBJECT) ev_put(e, js_get(th, name), EV_LEVEL, got->threshold[k]);
    }
    if (th && th->type != JS_OBJECT) ev_input(th); /* a fixed one, not tuned */
}

struct grid_numbers {
    double v[3][MAX_GRID];
};

static struct es_csebb_grid grid_of(struct js *g, struct grid_numbers *x) {
    struct es_csebb_grid grid = {.step_filter_s = x->v[0], .merge_abs = x->v[1], .merge_rel = x->v[2]};
    grid.n_filters = ev_numbers(js_get(g, "step_filter_lengths"), x->v[0], MAX_GRID);
    grid.n_abs = ev_numbers(js_get(g, "merge_thresholds_abs"), x->v[1], MAX_GRID);
    grid.n_rel = ev_numbers(js_get(g, "merge_thresholds_rel"), x->v[2], MAX_GRID);
    ev_input(g);
    return grid;
}

static void put_f_at(struct ev *e, const struct es_evalset *set, const double *thresholds, struct js *want) {
    struct es_err err = {0};
    struct es_f1 *f1 = NULL;
    struct es_f1_params p = es_f1_params_default();
    p.class_threshold = thresholds;
    if (!want || ev_error(e, want, es_f1_new(&f1, set, ES_F1_COLLAR, &p, 0.5, &err), &err)) return;
    for (struct js *v = want->first; v; v = v->next) {
        const int k = ev_class(set, v->key);
        if (strcmp(v->key, "macro_average") == 0)
            ev_put(e, v, EV_VALUE, f1->fixed_macro.f);
        else if (strcmp(v->key, "micro_average") == 0)
            ev_put(e, v, EV_VALUE, f1->fixed_micro.f);
        else if (k >= 0)
            ev_put(e, v, EV_VALUE, f1->fixed[k].f);
    }
    es_f1_free(&f1);
}

static void tuned_boxes(struct folder *f, const struct es_evalset *set, struct js *want) {
    struct es_err err = {0};
    struct grid_numbers x;
    const struct es_csebb_grid grid = grid_of(js_get(want, "grid"), &x);
    struct es_tuning *got = NULL;
    struct es_truth *boxes = NULL;
    const enum es_tune_by by = strncmp(want->key, "cbf", 3) == 0 ? ES_TUNE_COLLAR_F1 : ES_TUNE_PSDS;
    int rc = es_tune_csebb_all(&got, set, NULL, &grid, by, strstr(want->key, "classwise") != NULL, &err);
    if (rc == 0) rc = es_csebb_boxes(&boxes, f->scores, got->csebb, &err);
    if (!ev_error(&f->e, want, rc, &err)) {
        struct es_scores *table = NULL;
        struct es_evalset *after = NULL;
        put_selected(&f->e, got, want);
        put_scored(f, boxes, -HUGE_VAL, false, js_get(want, "psds1_after"));
        rc = es_scores_from_events(&table, boxes, f->scores, NULL, -HUGE_VAL, &err);
        if (rc == 0) rc = es_evalset_new(&after, table, f->truth, &whole, &err);
        if (!ev_error(&f->e, want, rc, &err))
            put_f_at(&f->e, after, got->threshold, js_get(want, "collar_f1_at_selected_thresholds"));
        es_evalset_free(&after);
        es_scores_free(&table);
    }
    if (boxes) es_truth_free(&boxes);
    es_tuning_free(&got);
}

/* Every setting of the package's grid. */
static void grid_table(struct folder *f, const struct es_evalset *set, struct js *list) {
    struct es_err err = {0};
    struct es_tuning *by[2] = {NULL, NULL};
    const struct es_csebb_grid grid = es_csebb_grid_package();
    int rc = 0, s = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = es_tune_csebb_all(&by[i], set, NULL, &grid, i ? ES_TUNE_COLLAR_F1 : ES_TUNE_PSDS, true, &err);
    if (!ev_error(&f->e, list, rc, &err))
        for (struct js *g = list->first; g && s < by[0]->n_settings; g = g->next, s++) {
            const struct es_csebb_params *p = &by[0]->setting[s];
            const int K = by[0]->n_classes;
            double macro = 0;
            ev_put(&f->e, js_get(g, "step_filter_length"), EV_COUNT, p->step_filter_s);
            ev_put(&f->e, js_get(g, "merge_threshold_abs"), EV_COUNT, p->merge_abs);
            ev_put(&f->e, js_get(g, "merge_threshold_rel"), EV_COUNT, p->merge_rel);
            for (int k = 0; k < K; k++) {
                ev_put(&f->e, js_get(js_get(g, "single_class_psds1"), by[0]->class_name[k]), EV_VALUE,
                       by[0]->value[s * K + k]);
                ev_put(&f->e, js_get(js_get(g, "best_collar_f1"), by[0]->class_name[k]), EV_VALUE,
                       by[1]->value[s * K + k]);
                macro += by[1]->value[s * K + k] / K;
            }
            ev_put(&f->e, js_get(g, "macro_best_collar_f1"), EV_VALUE, macro);
        }
    for (int i = 0; i < 2; i++) es_tuning_free(&by[i]);
}

static void given_filter(struct folder *f, struct js *want) {
    struct es_err err = {0};
    struct es_scores *out = NULL;
    double length_s[MAX_CLASSES];
    struct js *length = js_get(want, "filter_length_in_sec"), *clips = js_get(want, "filtered_clips"),
              *frames = js_get(want, "num_output_frames");
    for (int k = 0; k < f->scores->n_classes && k < MAX_CLASSES; k++)
        length_s[k] = of_class(length, k, f->scores->classes[k]);
    ev_input(length);
    if (ev_error(&f->e, want, es_scores_median_time(&out, f->scores, length_s, &err), &err)) return;
    for (int64_t i = 0; i < out->n_clips; i++) {
        struct js *clip = js_get(clips, out->clips[i].id);
        if (clip) put_table(&f->e, out, i, js_get(clip, "timestamps"), js_get(clip, "scores"), EV_NEAR);
        ev_put(&f->e, js_get(frames, out->clips[i].id), EV_COUNT, out->clips[i].n_frames);
    }
    ev_set(&f->e, out, f->truth, &whole, want);
    es_scores_free(&out);
}

static void tuned_filter(struct folder *f, const struct es_evalset *set, struct js *want) {
    struct es_err err = {0};
    struct es_scores *out = NULL;
    struct es_evalset *after = NULL;
    struct es_tuning *got = NULL;
    double length_s[MAX_GRID];
    const int n = ev_numbers(js_get(want, "grid"), length_s, MAX_GRID);
    const enum es_tune_by by = strstr(want->key, "psds") ? ES_TUNE_PSDS : ES_TUNE_COLLAR_F1;
    ev_input(js_get(want, "grid"));
    int rc = es_tune_median_all(&got, set, NULL, length_s, n, by, true, &err);
    if (rc == 0) rc = es_scores_median_time(&out, f->scores, got->length_s, &err);
    if (rc == 0) rc = es_evalset_new(&after, out, f->truth, &whole, &err);
    if (!ev_error(&f->e, want, rc, &err)) {
        for (int k = 0; k < got->n_classes; k++) {
            const char *name = got->class_name[k];
            put_choice(&f->e, js_get(want, "selected_filter_length"), name, EV_COUNT, got->length_s[k]);
            put_choice(&f->e, js_get(want, "best_values"), name, EV_VALUE, got->best_value[k]);
            put_choice(&f->e, js_get(want, "detection_threshold"), name, EV_LEVEL, got->threshold[k]);
        }
        if (js_get(want, "psds1")) ev_psds(&f->e, after, js_get(want, "psds1"));
        put_f_at(&f->e, after, got->threshold, js_get(want, "f_at_selected"));
    }
    es_evalset_free(&after);
    es_scores_free(&out);
    es_tuning_free(&got);
}

void ev_real_boxes(struct rn *run, const char *folder) {
    static const char *const files[2] = {"expected_csebbs.json.gz", "expected_median_filter.json.gz"};
    for (int i = 0; i < 2; i++) {
        struct folder f = {0};
        struct es_err err = {0};
        struct es_evalset *set = NULL;
        if (!ev_open(&f.e, run, folder, files[i])) continue;
        if (ev_load(&f.e, "scores", "ground_truth.tsv", "audio_durations.tsv", &f.scores, &f.truth) &&
            !ev_error(&f.e, f.e.root, es_evalset_new(&set, f.scores, f.truth, &whole, &err), &err))
            for (struct js *b = f.e.root->first; b; b = b->next) {
                if (b->type == JS_STRING) /* a note */
                    ev_input(b);
                else if (i == 1 && strncmp(b->key, "tuned", 5) == 0)
                    tuned_filter(&f, set, b);
                else if (i == 1)
                    given_filter(&f, b);
                else if (strcmp(b->key, "grid_table") == 0)
                    grid_table(&f, set, b);
                else if (strcmp(b->key, "tuned") == 0)
                    for (struct js *w = b->first; w; w = w->next) tuned_boxes(&f, set, w);
                else
                    given_params(&f, b);
            }
        es_evalset_free(&set);
        if (f.truth) es_truth_free(&f.truth);
        es_scores_free(&f.scores);
        ev_close(&f.e);
    }
}

/* ---- the pipeline: boxes of the DESED classes, seconds of the others */
static void pipeline_scored(struct ev *e, const struct es_scores *table, const struct es_truth *truth,
                            struct js *block) {
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    if (!block ||
        ev_error(e, block,
                 es_evalset_new(&set, table, truth, &(struct es_evalset_params){.subset = true}, &err), &err))
        return;
    ev_psds(e, set, block);
    es_evalset_free(&set);
}

static void pipeline_table(struct ev *e, const struct es_scores *table, struct js *want) {
    struct js *rows = js_get(want, "scores"), *id = js_get(want, "clip"), *classes = js_get(want, "classes");
    int k = 0;
    for (struct js *v = classes ? classes->first : NULL; v; v = v->next, k++)
        ev_put_same(e, v, k < table->n_classes && strcmp(table->classes[k], v->str) == 0);
    for (int64_t i = 0; i < table->n_clips; i++) {
        const struct es_scores_clip *clip = &table->clips[i];
        if (!id || strcmp(clip->id, id->str) != 0) continue;
        int frame = 0;
        ev_input(id);
        ev_put_list(e, js_get(want, "timestamps"), EV_TIME, clip->edges_s, clip->n_frames + 1);
        for (struct js *row = rows ? rows->first : NULL; row && frame < clip->n_frames;
             row = row->next, frame++)
            ev_put_list(e, row, EV_VALUE, (const double *)clip->values + (int64_t)frame * table->n_classes,
                        table->n_classes);
    }
}

static int pipeline_grid(struct folder *f, const struct es_truth *soft, struct js *want,
                         struct es_tuning **got, struct es_truth **boxes, struct es_scores *tables[2],
                         struct es_err *err) {
    struct es_evalset *set = NULL;
    struct es_csebb_params p[MAX_CLASSES];
    struct grid_numbers x;
    int other[MAX_CLASSES], n_other = 0;
    int64_t n = 0;
    (void)soft;
    const struct es_csebb_grid grid = grid_of(js_get(want, "grid"), &x);
    ES_TRY(es_evalset_new(&set, f->scores, f->truth, &(struct es_evalset_params){.subset = true}, err));
    const int rc =
        es_tune_csebb_all(got, set, NULL, &grid, ES_TUNE_PSDS, js_number(want, "classwise", 0) != 0, err);
    es_evalset_free(&set);
    ES_TRY(rc);
    bool tuned[MAX_CLASSES] = {false};
    for (int k = 0; k < f->scores->n_classes && k < MAX_CLASSES; k++) p[k] = es_csebb_params_default();
    for (int k = 0; k < (*got)->n_classes; k++) {
        const int column = es_scores_class(f->scores, (*got)->class_name[k]);
        p[column] = (*got)->csebb[k];
        tuned[column] = true;
    }
    ES_TRY(es_csebb_boxes(boxes, f->scores, p, err));
    for (int64_t i = 0; i < (*boxes)->n_events; i++) /* only those of tuned classes */
        if (tuned[es_scores_class(f->scores, es_names_get((*boxes)->labels, (*boxes)->events[i].label))])
            (*boxes)->events[n++] = (*boxes)->events[i];
    (*boxes)->n_events = n;
    ev_events(&f->e, *boxes, js_get(want, "boxes_first_clips"), EV_TIME);
    put_box_counts(&f->e, *boxes, js_get(want, "num_boxes"));
    ES_TRY(es_scores_from_events(&tables[0], *boxes, f->scores, NULL, -HUGE_VAL, err));
    for (int k = 0; k < f->scores->n_classes; k++)
        if (!tuned[k]) other[n_other++] = k;
    ES_TRY(es_boxes_add_seconds(*boxes, f->scores, other, n_other, err));
    return es_scores_from_events(&tables[1], *boxes, f->scores, NULL, 0, err);
}

static void pipeline_case(struct folder *f, const struct es_truth *soft, struct js *want) {
    struct es_err err = {0};
    struct es_tuning *got = NULL;
    struct es_truth *boxes = NULL, *hard = NULL;
    struct es_scores *tables[2] = {NULL, NULL}, *joined = NULL;
    struct es_evalset *set = NULL;
    int rc = pipeline_grid(f, soft, want, &got, &boxes, tables, &err);
    ev_input(js_get(want, "classwise"));
    if (!ev_error(&f->e, want, rc, &err)) {
        struct js *auroc = js_get(want, "maestro_auroc_from_csebbs_tables");
        put_selected(&f->e, got, want);
        pipeline_table(&f->e, tables[1], js_get(want, "csebbs_score_table_first_clip"));
        pipeline_scored(&f->e, tables[0], f->truth, js_get(want, "psds1_boxes_minus_inf"));
        pipeline_scored(&f->e, tables[1], f->truth, js_get(want, "psds1_fill_zero_with_segment_scores"));
        rc = es_maestro_join(&joined, &hard, tables[1], soft, &(struct es_maestro_params){.subset = true},
                             &err);
        if (rc == 0) rc = es_evalset_new(&set, joined, hard, &(struct es_evalset_params){0}, &err);
        if (auroc && !ev_error(&f->e, auroc, rc, &err)) ev_auroc(&f->e, set, auroc);
    }
    es_evalset_free(&set);
    if (hard) es_truth_free(&hard);
    es_scores_free(&joined);
    for (int i = 0; i < 2; i++) es_scores_free(&tables[i]);
    if (boxes) es_truth_free(&boxes);
    es_tuning_free(&got);
}

void ev_pipeline_boxes(struct rn *run, const char *folder) {
    struct folder f = {0};
    struct es_err err = {0};
    struct es_truth *soft = NULL;
    char p[2][1200];
    if (!ev_open(&f.e, run, folder, "expected_csebbs.json.gz")) return;
    if (ev_load(&f.e, "scores_unprocessed.h5", "desed_ground_truth.tsv", "desed_audio_durations.tsv",
                &f.scores, &f.truth)) {
        int rc = es_truth_load(&soft, ev_path(run, folder, "maestro_clip_soft_labels.tsv.gz", p[0]),
                               ev_path(run, folder, "maestro_file_durations.tsv", p[1]), &err);
        if (!ev_error(&f.e, f.e.root, rc, &err))
            for (struct js *b = f.e.root->first; b; b = b->next)
                if (b->type == JS_OBJECT) pipeline_case(&f, soft, b);
    }
    if (soft) es_truth_free(&soft);
    if (f.truth) es_truth_free(&f.truth);
    es_scores_free(&f.scores);
    ev_close(&f.e);
}
