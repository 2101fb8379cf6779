/* TIMEOUT 180
 * Post-processing against golden/evaluation: the continuous median filter and cSEBBs with their tuning, cases 01, 06 and 09. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/csebb.h"
#include "earshot/events.h"
#include "earshot/labels.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "evaluation_compare.h"

#define DIR01 "01_real_tsv_folder/"
#define DIR06 "06_dcase2024_pipeline_27_classes/"
#define DIR09 "09_filters_and_change_detection/"
enum { CLASSES_MAX = 32 };

static int numbers(struct js *list, double *out) {
    int n = 0;
    for (struct js *v = list->first; v; v = v->next) out[n++] = v->num;
    return n;
}

/* A parameter for class k: a number, a list, or an object by name. */
static double of_class(struct js *v, int k, const char *name) {
    if (v->type == JS_OBJECT) return js_number(v, name, (double)NAN);
    if (v->type != JS_ARRAY) return v->num;
    struct js *x = v->first;
    for (int i = 0; i < k; i++) x = x->next;
    return x->num;
}

static void set_tolerance(enum quantity q, struct tally *t, const char *what, double got, double want,
                          double tol) {
    if (fabs(got - want) <= tol) want = got; /* times have tolerances of their own */
    compare(t, q, what, "time", got, want);
}

/* ---- 09 */
static struct es_scores *table_of(struct js *c, const char *key) {
    struct es_err err = {0};
    struct es_scores *s = NULL;
    char name[CLASSES_MAX][8];
    const char *classes[CLASSES_MAX], *id = "clip";
    struct js *times = js_get(c, "timestamps"), *rows = js_get(c, key);
    for (int k = 0; k < rows->n; k++) {
        snprintf(name[k], sizeof name[k], "%d", k);
        classes[k] = name[k];
    }
    must(es_scores_new(&s, 1, &id, (int)rows->n, classes, true, "scores", &err), &err);
    s->own_clips = true;
    double *edges = es_alloc((size_t)times->n, sizeof *edges, NULL),
           *values = es_alloc((size_t)(times->n * rows->n), sizeof *values, NULL);
    s->clips[0] = (struct es_scores_clip){
        .id = s->clips[0].id, .n_frames = numbers(times, edges) - 1, .edges_s = edges, .values = values};
    int k = 0;
    for (struct js *row = rows->first; row; row = row->next, k++) {
        int i = 0;
        for (struct js *v = row->first; v; v = v->next, i++) values[i * rows->n + k] = v->num;
    }
    return s;
}

static void compare_table(struct tally *t, const char *name, const struct es_scores *got, int64_t i_clip,
                          struct js *times, struct js *rows) {
    const struct es_scores_clip *c = &got->clips[i_clip];
    compare(t, COUNT, name, "frames", c->n_frames + 1, (double)times->n);
    if (c->n_frames + 1 != times->n) return;
    int i = 0;
    for (struct js *v = times->first; v; v = v->next, i++)
        set_tolerance(VALUE, t, name, c->edges_s[i], v->num, 2e-6);
    double *column = es_alloc((size_t)c->n_frames, sizeof *column, NULL);
    int k = 0;
    for (struct js *row = rows->first; row; row = row->next, k++) {
        es_scores_column(got, i_clip, row->key ? es_scores_class(got, row->key) : k, column);
        compare_list(t, FILTERED, name, row->key ? row->key : "", row, column, c->n_frames);
    }
    es_free(&column);
}

static void continuous_median(void **state) {
    (void)state;
    char path[1200];
    struct js_doc doc;
    struct tally t = {.name = "09 (continuous median)"};
    if (!have_shared()) skip();
    struct js *root = js_open(&doc, golden_path(path, DIR09 "median_filters.json.gz"));
    for (struct js *c = js_get(root, "continuous")->first; c; c = c->next) {
        struct es_err err = {0};
        struct es_scores *in = table_of(c, "input"), *out = NULL;
        double length_s[CLASSES_MAX];
        for (int k = 0; k < in->n_classes; k++)
            length_s[k] = of_class(js_get(c, "filter_length_in_sec"), k, "");
        must(es_scores_median_time(&out, in, length_s, &err), &err);
        compare_table(&t, js_get(c, "name")->str, out, 0, js_get(c, "output_timestamps"),
                      js_get(c, "output"));
        all_used(&t, c, js_get(c, "name")->str);
        es_scores_free(&in);
        es_scores_free(&out);
    }
    js_close(&doc);
    finish(&t);
}

static void compare_boxes(struct tally *t, const char *name, const struct es_csebb_box *box, int n,
                          struct js *want) {
    double x[2048];
    const int m = numbers(js_get(want, "onsets"), x);
    compare(t, COUNT, name, "boxes", n, m);
    if (n != m) return;
    for (int b = 0; b < n; b++) set_tolerance(VALUE, t, name, box[b].onset_s, x[b], 1e-6);
    numbers(js_get(want, "offsets"), x);
    for (int b = 0; b < n; b++) set_tolerance(VALUE, t, name, box[b].offset_s, x[b], 1e-6);
    numbers(js_get(want, "confidences"), x);
    for (int b = 0; b < n; b++) compare(t, VALUE, name, "confidence", box[b].confidence, x[b]);
}

static void change_detection(void **state) {
    (void)state;
    char path[1200];
    struct js_doc doc;
    struct tally t = {.name = "09 (change detection)"};
    if (!have_shared()) skip();
    struct js *root = js_open(&doc, golden_path(path, DIR09 "change_detection.json.gz"));
    for (struct js *c = js_get(root, "cases")->first; c; c = c->next) {
        struct es_err err = {0};
        struct es_scores *in = table_of(c, "scores");
        struct es_csebb_segments g;
        const int frames = in->clips[0].n_frames;
        const char *name = js_get(c, "name")->str;
        struct es_csebb_box *box = es_alloc(3 * (size_t)frames + 6, sizeof *box, NULL);
        double *column = es_alloc((size_t)frames, sizeof *column, NULL);
        must(es_csebb_segments_init(&g, frames, &err), &err);
        int k = 0;
        for (struct js *w = js_get(c, "change_detection")->first; w; w = w->next, k++) {
            es_scores_column(in, 0, k, column);
            es_csebb_detect(&g, frames, in->clips[0].edges_s, column,
                            of_class(js_get(c, "step_filter_length"), k, ""));
            struct js *bounds = js_get(w, "segment_bounds");
            compare(&t, COUNT, name, "bounds", 2 * g.n_events + 2, (double)bounds->n);
            if (2 * g.n_events + 2 != bounds->n) continue;
            int i = 0;
            for (struct js *v = bounds->first; v; v = v->next)
                set_tolerance(VALUE, &t, name, g.bound[i++], v->num, 1e-6);
            compare_list(&t, VALUE, name, "mean", js_get(w, "mean_scores"), g.mean, 2 * g.n_events + 1);
            compare_list(&t, VALUE, name, "min", js_get(w, "min_scores"), g.min, 2 * g.n_events + 1);
            compare_list(&t, VALUE, name, "max", js_get(w, "max_scores"), g.max, 2 * g.n_events + 1);
            all_used(&t, w, name);
            for (struct js *m = js_get(c, "merged") ? js_get(c, "merged")->first : NULL; m; m = m->next) {
                const int n = es_csebb_merge(&g, js_number(m, "merge_threshold_abs", (double)NAN),
                                             js_number(m, "merge_threshold_rel", (double)NAN), box);
                struct js *want = js_get(m, "per_class")->first;
                for (int j = 0; j < k; j++) want = want->next;
                compare_boxes(&t, name, box, n, want);
            }
        }
        js_get(c, "merged"), js_get(c, "robust"); /* those that rounding decides agree, too */
        all_used(&t, c, name);
        es_csebb_segments_fini(&g);
        es_free(&column);
        es_free(&box);
        es_scores_free(&in);
    }
    js_close(&doc);
    finish(&t);
}

/* ---- 01 */
static void compare_events(struct tally *t, const struct es_truth *boxes, struct js *clips,
                           struct js *counts) {
    for (struct js *c = clips->first; c; c = c->next) {
        const int64_t i_clip = es_names_find(boxes->clips, c->key);
        int64_t i = 0;
        for (struct js *e = c->first; e; e = e->next, i++) {
            while (i < boxes->n_events && boxes->events[i].clip != i_clip) i++;
            if (i == boxes->n_events) fail_msg("%s: boxes missing", c->key);
            const struct es_truth_event *got = &boxes->events[i];
            struct js *off = e->first->next, *label = off->next;
            set_tolerance(VALUE, t, c->key, got->onset_s, e->first->num, 1e-6);
            set_tolerance(VALUE, t, c->key, got->offset_s, off->num, 1e-6);
            assert_string_equal(es_names_get(boxes->labels, got->label), label->str);
            compare(t, VALUE, c->key, "confidence", got->confidence, label->next->num);
        }
    }
    for (struct js *c = counts->first; c; c = c->next) {
        const int64_t i_clip = es_names_find(boxes->clips, c->key);
        int64_t n = 0;
        for (int64_t i = 0; i < boxes->n_events; i++) n += boxes->events[i].clip == i_clip;
        compare(t, COUNT, c->key, "num_boxes", (double)n, c->num);
    }
}

/* PSDS etc. of boxes. */
static void compare_scored(struct tally *t, const struct file_case *c, const struct es_truth *boxes,
                           double fill, bool durations, struct js *block, const char *key) {
    struct es_err err = {0};
    struct es_scores *table = NULL;
    struct es_evalset *set = NULL;
    if (!block) return;
    must(es_scores_from_events(&table, boxes, c->scores, durations ? c->truth : NULL, fill, &err), &err);
    must(es_evalset_new(&set, table, c->truth, &(struct es_evalset_params){.keep_empty = true}, &err), &err);
    if (block->type == JS_NUMBER) {
        struct es_psds *psds = NULL;
        const struct es_psds_params p = es_psds1_params();
        must(es_psds_new(&psds, set, &p, &err), &err);
        compare(t, VALUE, key, "", psds->value, block->num);
        es_psds_free(&psds);
    } else if (strncmp(key, "psds", 4) == 0) {
        compare_psds(t, set, block);
    } else {
        compare_f1(t, set, block, ES_F1_COLLAR);
    }
    es_evalset_free(&set);
    es_scores_free(&table);
}

static void params_of(struct es_csebb_params *p, const struct es_scores *s, struct js *from) {
    for (int k = 0; k < s->n_classes; k++)
        p[k] = (struct es_csebb_params){
            .step_filter_s = of_class(js_get(from, "step_filter_length"), k, s->classes[k]),
            .merge_abs = of_class(js_get(from, "merge_threshold_abs"), k, s->classes[k]),
            .merge_rel = of_class(js_get(from, "merge_threshold_rel"), k, s->classes[k])};
}

static void compare_params(struct tally *t, struct file_case *c, struct js *want) {
    struct es_err err = {0};
    struct es_csebb_params p[CLASSES_MAX];
    struct es_truth *boxes = NULL;
    params_of(p, c->scores, want);
    must(es_csebb_boxes(&boxes, c->scores, p, &err), &err);
    compare_events(t, boxes, js_get(want, "boxes"), js_get(want, "num_boxes"));
    compare_scored(t, c, boxes, -HUGE_VAL, false, js_get(want, "psds1"), "psds1");
    compare_scored(t, c, boxes, -HUGE_VAL, true, js_get(want, "psds1_with_audio_duration"),
                   "psds1 with duration");
    compare_scored(t, c, boxes, 0, false, js_get(want, "psds1_fill_zero"), "psds1 fill zero");
    compare_scored(t, c, boxes, -HUGE_VAL, false, js_get(want, "psds2"), "psds2");
    compare_scored(t, c, boxes, -HUGE_VAL, false, js_get(want, "collar_f1"), "collar_f1");
    all_used(t, want, want->key);
    es_truth_free(&boxes);
}

static void compare_selected(struct tally *t, const struct es_tuning *got, struct js *want) {
    struct js *sel = js_get(want, "selected"), *th = js_get(sel, "detection_threshold");
    for (int k = 0; k < got->n_classes; k++) {
        const char *name = got->class_name[k];
        const struct {
            const char *key;
            double v;
        } row[3] = {{"step_filter_length", got->csebb[k].step_filter_s},
                    {"merge_threshold_abs", got->csebb[k].merge_abs},
                    {"merge_threshold_rel", got->csebb[k].merge_rel}};
        for (int i = 0; i < 3; i++)
            compare(t, VALUE, row[i].key, name, row[i].v,
                    js_number(js_get(sel, row[i].key), name, (double)NAN));
        compare(t, VALUE, "best_values", name, got->best_value[k],
                js_number(js_get(want, "best_values"), name, (double)NAN));
        if (th && th->type == JS_OBJECT)
            compare(t, LEVEL, "detection_threshold", name, got->threshold[k],
                    js_number(th, name, (double)NAN));
    }
    all_used(t, sel, "selected");
}

static struct es_csebb_grid grid_of(struct js *g, double numbers_of[3][16]) {
    struct es_csebb_grid grid = {
        .step_filter_s = numbers_of[0], .merge_abs = numbers_of[1], .merge_rel = numbers_of[2]};
    grid.n_filters = numbers(js_get(g, "step_filter_lengths"), numbers_of[0]);
    grid.n_abs = numbers(js_get(g, "merge_thresholds_abs"), numbers_of[1]);
    grid.n_rel = numbers(js_get(g, "merge_thresholds_rel"), numbers_of[2]);
    return grid;
}

static void compare_f_at(struct tally *t, const struct es_evalset *set, const double *thresholds,
                         struct js *want) {
    struct es_err err = {0};
    struct es_f1 *f1 = NULL;
    struct es_f1_params p = es_f1_params_default();
    p.class_threshold = thresholds;
    must(es_f1_new(&f1, set, ES_F1_COLLAR, &p, 0.5, &err), &err);
    for (struct js *v = want->first; v; v = v->next) {
        const double got = strcmp(v->key, "macro_average") == 0   ? f1->fixed_macro.f
                           : strcmp(v->key, "micro_average") == 0 ? f1->fixed_micro.f
                                                                  : f1->fixed[class_index(set, v->key)].f;
        compare(t, VALUE, "f at thresholds", v->key, got, v->num);
    }
    es_f1_free(&f1);
}

static void compare_tuned(struct tally *t, const struct file_case *c, const struct es_evalset *set,
                          struct js *want) {
    struct es_err err = {0};
    double buffer[3][16];
    struct es_csebb_grid grid = grid_of(js_get(want, "grid"), buffer);
    struct es_tuning *got = NULL;
    struct es_truth *boxes = NULL;
    must(es_tune_csebb_all(&got, set, NULL, &grid,
                           strncmp(want->key, "cbf", 3) == 0 ? ES_TUNE_COLLAR_F1 : ES_TUNE_PSDS,
                           strstr(want->key, "classwise") != NULL, &err),
         &err);
    compare_selected(t, got, want);
    must(es_csebb_boxes(&boxes, c->scores, got->csebb, &err), &err);
    compare_scored(t, c, boxes, -HUGE_VAL, false, js_get(want, "psds1_after"), "psds1_after");
    struct js *f = js_get(want, "collar_f1_at_selected_thresholds");
    if (f) {
        struct es_scores *table = NULL;
        struct es_evalset *after = NULL;
        must(es_scores_from_events(&table, boxes, c->scores, NULL, -HUGE_VAL, &err), &err);
        must(es_evalset_new(&after, table, c->truth, &(struct es_evalset_params){.keep_empty = true}, &err),
             &err);
        compare_f_at(t, after, got->threshold, f);
        es_evalset_free(&after);
        es_scores_free(&table);
    }
    all_used(t, want, want->key);
    es_truth_free(&boxes);
    es_tuning_free(&got);
}

static void real_csebbs(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    struct es_tuning *tuning[2] = {NULL, NULL};
    struct tally t = {.name = "01 (cSEBBs)"};
    file_open(&c, DIR01 "scores", DIR01 "ground_truth.tsv", DIR01 "audio_durations.tsv",
              DIR01 "expected_csebbs.json.gz");
    must(es_evalset_new(&set, c.scores, c.truth, &(struct es_evalset_params){.keep_empty = true}, &err),
         &err);
    const struct es_csebb_grid grid = es_csebb_grid_package();
    for (int by = 0; by < 2; by++)
        must(es_tune_csebb_all(&tuning[by], set, NULL, &grid, (enum es_tune_by)by, true, &err), &err);
    for (struct js *b = c.expected->first; b; b = b->next) {
        if (strcmp(js_get(c.expected, b->key)->key, "tuned") == 0) {
            for (struct js *w = b->first; w; w = w->next) compare_tuned(&t, &c, set, w);
        } else if (strcmp(b->key, "grid_table") == 0) {
            int s = 0;
            compare(&t, COUNT, "grid", "settings", tuning[0]->n_settings, (double)b->n);
            for (struct js *g = b->first; g; g = g->next, s++) {
                const struct es_csebb_params *p = &tuning[0]->setting[s];
                double macro = 0;
                compare(&t, VALUE, "grid", "F", p->step_filter_s,
                        js_number(g, "step_filter_length", (double)NAN));
                compare(&t, VALUE, "grid", "A", p->merge_abs,
                        js_number(g, "merge_threshold_abs", (double)NAN));
                compare(&t, VALUE, "grid", "B", p->merge_rel,
                        js_number(g, "merge_threshold_rel", (double)NAN));
                for (int k = 0; k < tuning[0]->n_classes; k++) {
                    const char *name = tuning[0]->class_name[k];
                    const double f = tuning[1]->value[s * tuning[0]->n_classes + k];
                    compare(&t, VALUE, "grid", name, tuning[0]->value[s * tuning[0]->n_classes + k],
                            js_number(js_get(g, "single_class_psds1"), name, (double)NAN));
                    compare(&t, VALUE, "grid", name, f,
                            js_number(js_get(g, "best_collar_f1"), name, (double)NAN));
                    macro += f / tuning[0]->n_classes;
                }
                compare(&t, VALUE, "grid", "macro", macro, js_number(g, "macro_best_collar_f1", (double)NAN));
                all_used(&t, g, "grid_table");
            }
        } else {
            compare_params(&t, &c, b);
        }
    }
    for (int by = 0; by < 2; by++) es_tuning_free(&tuning[by]);
    es_evalset_free(&set);
    file_close(&c);
    finish(&t);
}

static void compare_filter(struct tally *t, const struct file_case *c, struct js *want) {
    struct es_err err = {0};
    struct es_scores *out = NULL;
    struct es_evalset *set = NULL;
    double length_s[CLASSES_MAX];
    for (int k = 0; k < c->scores->n_classes; k++)
        length_s[k] = of_class(js_get(want, "filter_length_in_sec"), k, c->scores->classes[k]);
    must(es_scores_median_time(&out, c->scores, length_s, &err), &err);
    for (struct js *clip = js_get(want, "filtered_clips")->first; clip; clip = clip->next)
        for (int64_t i = 0; i < out->n_clips; i++)
            if (strcmp(out->clips[i].id, clip->key) == 0)
                compare_table(t, clip->key, out, i, js_get(clip, "timestamps"), js_get(clip, "scores"));
    for (struct js *n = js_get(want, "num_output_frames")->first; n; n = n->next)
        for (int64_t i = 0; i < out->n_clips; i++)
            if (strcmp(out->clips[i].id, n->key) == 0)
                compare(t, COUNT, n->key, "frames", out->clips[i].n_frames, n->num);
    must(es_evalset_new(&set, out, c->truth, &(struct es_evalset_params){.keep_empty = true}, &err), &err);
    assert_int_equal(compare_blocks(t, set, want), 4);
    es_evalset_free(&set);
    es_scores_free(&out);
}

static void compare_tuned_filter(struct tally *t, const struct file_case *c, struct js *want,
                                 enum es_tune_by by) {
    struct es_err err = {0};
    struct es_scores *out = NULL;
    struct es_evalset *set = NULL;
    struct es_tuning *got = NULL;
    double length_s[16];
    const int n = numbers(js_get(want, "grid"), length_s);
    must(es_evalset_new(&set, c->scores, c->truth, &(struct es_evalset_params){.keep_empty = true}, &err),
         &err);
    must(es_tune_median_all(&got, set, NULL, length_s, n, by, true, &err), &err);
    es_evalset_free(&set);
    struct js *at = js_get(want, "detection_threshold");
    for (int k = 0; k < got->n_classes; k++) {
        const char *name = got->class_name[k];
        compare(t, VALUE, "length", name, got->length_s[k],
                js_number(js_get(want, "selected_filter_length"), name, (double)NAN));
        compare(t, VALUE, "best", name, got->best_value[k],
                js_number(js_get(want, "best_values"), name, (double)NAN));
        if (at) compare(t, LEVEL, "threshold", name, got->threshold[k], js_number(at, name, (double)NAN));
    }
    must(es_scores_median_time(&out, c->scores, got->length_s, &err), &err);
    must(es_evalset_new(&set, out, c->truth, &(struct es_evalset_params){.keep_empty = true}, &err), &err);
    struct js *psds = js_get(want, "psds1"), *f = js_get(want, "f_at_selected");
    if (psds) compare_psds(t, set, psds);
    if (f) compare_f_at(t, set, got->threshold, f);
    all_used(t, want, want->key);
    es_evalset_free(&set);
    es_scores_free(&out);
    es_tuning_free(&got);
}

static void real_median_filter(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct tally t = {.name = "01 (continuous median)", .filtered_tol = 1e-12};
    file_open(&c, DIR01 "scores", DIR01 "ground_truth.tsv", DIR01 "audio_durations.tsv",
              DIR01 "expected_median_filter.json.gz");
    for (struct js *b = c.expected->first; b; b = b->next) {
        if (b->type != JS_OBJECT) continue; /* a note */
        if (strncmp(b->key, "tuned", 5) == 0)
            compare_tuned_filter(&t, &c, b, strstr(b->key, "psds") ? ES_TUNE_PSDS : ES_TUNE_COLLAR_F1);
        else
            compare_filter(&t, &c, b);
    }
    file_close(&c);
    finish(&t);
}

/* ---- 06 */
static void compare_grid(struct tally *t, const struct file_case *c, const struct es_truth *soft,
                         struct js *want) {
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    struct es_tuning *got = NULL;
    struct es_scores *tables[2] = {NULL, NULL}, *joined = NULL;
    struct es_truth *boxes = NULL, *hard = NULL;
    struct es_csebb_params p[ES_N_CLASSES];
    double buffer[3][16];
    int maestro[ES_N_CLASSES], n_maestro = 0;
    const struct es_evalset_params subset = {.subset = true};
    const struct es_csebb_grid grid = grid_of(js_get(want, "grid"), buffer);
    must(es_evalset_new(&set, c->scores, c->truth, &subset, &err), &err);
    must(es_tune_csebb_all(&got, set, NULL, &grid, ES_TUNE_PSDS, js_number(want, "classwise", 0) != 0, &err),
         &err);
    es_evalset_free(&set);
    compare_selected(t, got, want);
    /* all clips: boxes of the DESED classes, seconds of the others */
    for (int k = 0; k < c->scores->n_classes; k++) p[k] = es_csebb_params_default();
    for (int k = 0; k < got->n_classes; k++)
        p[es_scores_class(c->scores, got->class_name[k])] = got->csebb[k];
    must(es_csebb_boxes(&boxes, c->scores, p, &err), &err);
    int64_t n = 0; /* only those of tuned classes */
    for (int64_t i = 0; i < boxes->n_events; i++) {
        const char *label = es_names_get(boxes->labels, boxes->events[i].label);
        bool tuned = false;
        for (int k = 0; k < got->n_classes; k++) tuned = tuned || strcmp(got->class_name[k], label) == 0;
        if (tuned) boxes->events[n++] = boxes->events[i];
    }
    boxes->n_events = n;
    compare_events(t, boxes, js_get(want, "boxes_first_clips"), js_get(want, "num_boxes"));
    must(es_scores_from_events(&tables[0], boxes, c->scores, NULL, -HUGE_VAL, &err), &err);
    for (int k = 0; k < c->scores->n_classes; k++)
        if (k >= got->n_classes) maestro[n_maestro++] = k;
    must(es_boxes_add_seconds(boxes, c->scores, maestro, n_maestro, &err), &err);
    must(es_scores_from_events(&tables[1], boxes, c->scores, NULL, 0, &err), &err);
    struct js *first = js_get(want, "csebbs_score_table_first_clip");
    for (int64_t i = 0; i < tables[1]->n_clips; i++) {
        const struct es_scores_clip *clip = &tables[1]->clips[i];
        if (strcmp(clip->id, js_get(first, "clip")->str) != 0) continue;
        struct js *times = js_get(first, "timestamps");
        compare(t, COUNT, "table", "edges", clip->n_frames + 1, (double)times->n);
        int j = 0;
        for (struct js *v = times->first; v; v = v->next)
            set_tolerance(VALUE, t, "table", clip->edges_s[j++], v->num, 1e-6);
        j = 0;
        for (struct js *row = js_get(first, "scores")->first; row; row = row->next, j++)
            compare_list(t, VALUE, "table", "row", row,
                         (const double *)clip->values + (int64_t)j * tables[1]->n_classes,
                         tables[1]->n_classes);
        js_get(first, "classes");
        all_used(t, first, "table");
    }
    static const char *const key[2] = {"psds1_boxes_minus_inf", "psds1_fill_zero_with_segment_scores"};
    for (int i = 0; i < 2; i++) {
        must(es_evalset_new(&set, tables[i], c->truth, &subset, &err), &err);
        compare_psds(t, set, js_get(want, key[i]));
        es_evalset_free(&set);
    }
    must(es_maestro_join(&joined, &hard, tables[1], soft, &(struct es_maestro_params){.subset = true}, &err),
         &err);
    must(es_evalset_new(&set, joined, hard, &(struct es_evalset_params){0}, &err), &err);
    compare_auroc(t, set, js_get(want, "maestro_auroc_from_csebbs_tables"));
    es_evalset_free(&set);
    all_used(t, want, want->key);
    es_truth_free(&hard);
    es_scores_free(&joined);
    es_scores_free(&tables[0]);
    es_scores_free(&tables[1]);
    es_truth_free(&boxes);
    es_tuning_free(&got);
}

static void dcase2024_csebbs(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_truth *soft = NULL;
    struct tally t = {.name = "06 (cSEBBs)"};
    char path[1200], unpacked[200];
    file_open(&c, DIR06 "scores_unprocessed.h5", DIR06 "desed_ground_truth.tsv",
              DIR06 "desed_audio_durations.tsv", DIR06 "expected_csebbs.json.gz");
    unpack(unpacked, DIR06 "maestro_clip_soft_labels.tsv.gz", "06_soft_labels.tsv");
    must(es_truth_load(&soft, unpacked, golden_path(path, DIR06 "maestro_file_durations.tsv"), &err), &err);
    for (struct js *b = c.expected->first; b; b = b->next) compare_grid(&t, &c, soft, b);
    es_truth_free(&soft);
    remove(unpacked);
    file_close(&c);
    finish(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(continuous_median),
                                       cmocka_unit_test(change_detection), cmocka_unit_test(real_csebbs),
                                       cmocka_unit_test(real_median_filter),
                                       cmocka_unit_test(dcase2024_csebbs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
