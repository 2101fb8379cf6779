/* TIMEOUT 120
 * Metrics on detections against golden/evaluation: operating points (psds_eval) and sed_eval in cases 02, 04 and 05, HEAR's DCASE
 * 2016 decoding and the AudioSet-strong validation of case 11. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/events.h"
#include "earshot/h5.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/operating.h"
#include "earshot/sedeval.h"
#include "evaluation_compare.h"

#define DIR02 "02_real_operating_points/"
#define DIR04 "04_psds_eval_data/"
#define DIR05 "05_synthetic_10_classes/"
#define DIR11 "11_hear_dcase2016_and_audioset_strong/"

/* ---- psds_eval */
static int operating_class(const struct es_operating *o, const char *name) {
    if (strcmp(name, "WORLD") == 0) return o->n_classes;
    for (int k = 0; k < o->n_classes; k++)
        if (strcmp(o->class_name[k], name) == 0) return k;
    fail_msg("no class %s", name);
    return -1;
}

static void compare_point(struct tally *t, const struct es_operating *o, struct js *want, const int *order) {
    const double threshold = strtod(want->key, NULL);
    int i = 0;
    while (i < o->n_points && o->points[i].threshold != threshold) i++;
    if (i == o->n_points) fail_msg("no operating point %s", want->key);
    const struct es_operating_point *p = &o->points[i];
    for (struct js *v = js_get(want, "tp_ratio")->first; v; v = v->next)
        compare(t, VALUE, "tp_ratio", v->key, p->tp_ratio[operating_class(o, v->key)], v->num);
    for (struct js *v = js_get(want, "fp_rate_per_hour")->first; v; v = v->next)
        compare(t, EFPR, "fp_rate", v->key, p->fp_rate[operating_class(o, v->key)], v->num);
    int r = 0;
    for (struct js *row = js_get(want, "counts")->first; row; row = row->next, r++) {
        int c = 0;
        for (struct js *v = row->first; v; v = v->next, c++)
            compare(t, COUNT, "counts", want->key,
                    (double)p->counts[(int64_t)order[r] * (o->n_classes + 1) + order[c]], v->num);
    }
    all_used(t, want, "operating point");
}

static void compare_operating(struct tally *t, struct es_operating *o, struct js *block) {
    struct es_err err = {0};
    struct js *jp = js_get(block, "params");
    const double st = js_number(jp, "alpha_st", (double)NAN), ct = js_number(jp, "alpha_ct", (double)NAN);
    struct es_psds *psds = NULL;
    must(es_operating_psds(&psds, o, ct, st, js_number(jp, "max_efpr", (double)NAN), &err), &err);
    compare(t, VALUE, "psds", "", psds->value, js_number(block, "psds", (double)NAN));
    compare(t, COUNT, "points", "", o->n_points, js_number(block, "num_operating_points", (double)NAN));
    struct js *at = js_get(block, "effective_roc_at");
    for (struct js *x = js_get(at, "efpr")->first, *y = js_get(at, "etpr")->first; x;
         x = x->next, y = y->next)
        compare(t, VALUE, "effective_roc_at", "", staircase(&psds->roc, x->num), y->num);
    for (struct js *c = js_get(block, "single_class_roc_at")->first; c; c = c->next) {
        struct js *x = js_get(at, "efpr")->first;
        for (struct js *y = c->first; y; x = x->next, y = y->next)
            compare(t, VALUE, c->key, "tpr", staircase(&psds->class_roc[operating_class(o, c->key)], x->num),
                    y->num);
    }
    for (struct js *v = js_get(block, "single_class_area")->first; v; v = v->next)
        compare(t, VALUE, "area", v->key, psds->class_value[operating_class(o, v->key)], v->num);
    es_psds_free(&psds);
    struct js *alone = js_get(block, "psds_alpha_ct_1");
    if (alone) {
        must(es_operating_psds(&psds, o, 1, 0, 100, &err), &err);
        compare(t, VALUE, "psds_alpha_ct_1", "", psds->value, alone->num);
        es_psds_free(&psds);
    }
    if ((alone = js_get(block, "psds_alpha_st_1"))) {
        must(es_operating_psds(&psds, o, 0, 1, 100, &err), &err);
        compare(t, VALUE, "psds_alpha_st_1", "", psds->value, alone->num);
        es_psds_free(&psds);
    }
    struct js *stats = js_get(block, "operating_point_statistics");
    if (stats) {
        int order[64], n = 0;
        for (struct js *v = js_get(stats, "class_order_rows")->first; v; v = v->next)
            order[n++] = operating_class(o, v->str);
        for (struct js *p = js_get(stats, "ops")->first; p; p = p->next) compare_point(t, o, p, order);
    }
    js_get(block, "classes");
    js_get(block, "macro_f1");
    js_get(jp, "dtc_threshold"), js_get(jp, "gtc_threshold"), js_get(jp, "cttc_threshold");
    all_used(t, jp, "params");
    all_used(t, block, "psds_eval");
}

static void compare_macro_f1(struct tally *t, const struct es_operating *o, double threshold,
                             struct js *want) {
    double f[64], macro;
    int i = 0;
    while (i < o->n_points && o->points[i].threshold != threshold) i++;
    assert_true(i < o->n_points);
    es_operating_f1(o, i, f, &macro);
    compare(t, VALUE, "macro f1", "", macro, js_number(want, "macro", (double)NAN));
    for (struct js *v = js_get(want, "per_class")->first; v; v = v->next)
        compare(t, VALUE, "macro f1", v->key, f[operating_class(o, v->key)], v->num);
}

/* Where operating points come from. */
struct points {
    const char *path;               /* TSV with thresholds */
    struct js *thresholds;          /* all of them; those without a row have no detections */
    const struct es_scores *scores; /* or scores, at the 50 thresholds */
    const struct es_truth *at_half; /* detections at 0.5, which is none of those */
};

static int add_points(struct es_operating *o, const struct points *from, bool half, struct es_err *err) {
    if (half) return es_operating_add(o, from->at_half, 0.5, err);
    if (from->scores) return es_operating_add_scores(o, from->scores, NULL, 0, err);
    ES_TRY(es_operating_load(o, from->path, err));
    for (struct js *v = from->thresholds ? from->thresholds->first : NULL; v; v = v->next) {
        int i = 0;
        struct es_truth *none = NULL;
        while (i < o->n_points && o->points[i].threshold != v->num) i++;
        if (i < o->n_points) continue;
        ES_TRY(es_truth_new(&none, "none", "", err));
        const int rc = es_operating_add(o, none, v->num, err);
        es_truth_free(&none);
        ES_TRY(rc);
    }
    return 0;
}

static const char *const version_name[2] = {"psds_eval_0.3.0", "psds_eval_0.5_algorithm"};

/* Blocks of one version: psds with their parameters, macro F1 by name or with its threshold. */
static int compare_version(struct tally *t, const struct es_truth *truth, enum es_operating_version version,
                           const struct points *from, struct js *blocks) {
    int n = 0;
    for (struct js *b = blocks->first; b; b = b->next, n++) {
        struct es_err err = {0};
        struct js *jp = js_get(b, "params");
        struct es_operating_params p = {.dtc = js_number(jp, "dtc_threshold", 0.5),
                                        .gtc = js_number(jp, "gtc_threshold", 0.5),
                                        .cttc = js_number(jp, "cttc_threshold", 0.3),
                                        .version = version};
        const double at =
            js_number(b, "threshold",
                      strncmp(b->key, "intersection_macro_f1_at_", 25) == 0 ? strtod(b->key + 25, NULL) : 0);
        struct es_operating *o = NULL;
        int rc = es_operating_new(&o, truth, &p, &err);
        if (rc == 0) rc = add_points(o, from, at == 0.5, &err);
        if (js_get(b, "expect_error")) {
            js_get(b, "message_kind");
            compare(t, COUNT, "refused", b->key, rc, -ES_EDATA);
        } else {
            must(rc, &err);
            if (jp)
                compare_operating(t, o, b);
            else
                compare_macro_f1(t, o, at, b);
        }
        all_used(t, b, b->key);
        es_operating_free(&o);
    }
    return n;
}

/* ---- sed_eval */
static void compare_rates(struct tally *t, const struct es_sedeval_value *v, struct js *want) {
    const struct {
        const char *part, *key;
        double got;
    } row[] = {{"f_measure", "f_measure", v->f},
               {"f_measure", "precision", v->precision},
               {"f_measure", "recall", v->recall},
               {"error_rate", "error_rate", v->error_rate},
               {"error_rate", "substitution_rate", v->substitution_rate},
               {"error_rate", "deletion_rate", v->deletion_rate},
               {"error_rate", "insertion_rate", v->insertion_rate},
               {"count", "Nref", (double)v->n_ref},
               {"count", "Nsys", (double)v->n_sys}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct js *part = js_get(want, row[i].part), *x = part ? js_get(part, row[i].key) : NULL;
        if (x) compare(t, VALUE, row[i].part, row[i].key, row[i].got, x->num);
    }
    for (struct js *part = want->first; part; part = part->next) all_used(t, part, part->key);
    all_used(t, want, want->key);
}

static void compare_sedeval(struct tally *t, const struct es_sedeval *v, struct js *want) {
    compare_rates(t, &v->overall, js_get(want, "overall"));
    compare_rates(t, &v->average, js_get(want, "class_wise_average"));
    for (struct js *c = js_get(want, "class_wise")->first; c; c = c->next) {
        int k = 0;
        while (k < v->n_classes && strcmp(v->class_name[k], c->key) != 0) k++;
        assert_true(k < v->n_classes);
        compare_rates(t, &v->classes[k], c);
    }
    all_used(t, want, "sed_eval");
}

static void compare_both_sedeval(struct tally *t, const struct es_truth *truth, const struct es_truth *events,
                                 struct js *want) {
    struct es_err err = {0};
    struct es_sedeval *v = NULL;
    const struct es_sedeval_params p = es_sedeval_params_default();
    must(es_sedeval_events(&v, truth, events, &p, &err), &err);
    compare_sedeval(t, v, js_get(want, "sed_eval_event_based_at_0.5"));
    es_sedeval_free(&v);
    must(es_sedeval_segments(&v, truth, events, &p, &err), &err);
    compare_sedeval(t, v, js_get(want, "sed_eval_segment_based_at_0.5"));
    es_sedeval_free(&v);
}

/* ---- cases */
static void real_operating_points(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct tally t = {.name = "02"};
    struct es_err err = {0};
    struct js_doc doc;
    struct es_truth *truth = NULL, *events = NULL;
    char p[2][1200], file[2][200];
    const int64_t live = es_mem_live_blocks();
    must(es_truth_load(&truth, golden_path(p[0], DIR02 "ground_truth.tsv"),
                       golden_path(p[1], DIR02 "audio_durations.tsv"), &err),
         &err);
    struct js *want = js_open(&doc, golden_path(p[0], DIR02 "expected.json"));
    unpack(file[0], DIR02 "detections_at_operating_points.tsv.gz", "points.tsv");
    unpack(file[1], DIR02 "detections_th0.5.tsv.gz", "th05.tsv");
    must(es_events_load(&events, file[1], &err), &err);
    const struct points from = {.path = file[0], .at_half = events};
    for (int v = 0; v < 2; v++)
        assert_int_equal(
            compare_version(&t, truth, (enum es_operating_version)v, &from, js_get(want, version_name[v])),
            7);
    compare(&t, COUNT, "num_clips", "", (double)es_names_count(truth->clips),
            js_number(want, "num_clips", 0));
    compare_both_sedeval(&t, truth, events, want);
    js_get(want, "case"), js_get(want, "system"), js_get(want, "num_operating_points");
    all_used(&t, want, "02");
    es_truth_free(&events);
    es_truth_free(&truth);
    js_close(&doc);
    for (int i = 0; i < 2; i++) remove(file[i]);
    assert_int_equal(es_mem_live_blocks(), live);
    finish(&t);
}

static void psds_eval_small(struct tally *t, struct js *small) {
    for (struct js *c = small->first; c; c = c->next) {
        struct es_err err = {0};
        struct es_truth *truth = NULL, *events = NULL;
        char p[2][1200], name[64];
        snprintf(name, sizeof name, DIR04 "%s.gt.tsv", c->key);
        must(es_truth_load(&truth, golden_path(p[0], name), golden_path(p[1], DIR04 "small.metadata.tsv"),
                           &err),
             &err);
        snprintf(name, sizeof name, DIR04 "%s.det.tsv", c->key);
        must(es_events_load(&events, golden_path(p[0], name), &err), &err);
        for (int v = 0; v < 2; v++) {
            struct js *b = js_get(c, version_name[v]);
            const struct es_operating_params params = {0.5, 0.5, 0.3, (enum es_operating_version)v};
            struct es_operating *o = NULL;
            must(es_operating_new(&o, truth, &params, &err), &err);
            must(es_operating_add(o, events, 0.5, &err), &err);
            compare_operating(t, o, b);
            compare_macro_f1(t, o, 0.5, js_get(b, "macro_f1"));
            es_operating_free(&o);
        }
        es_truth_free(&events);
        es_truth_free(&truth);
    }
}

static void psds_eval_data(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct tally t = {.name = "04"};
    struct es_err err = {0};
    struct js_doc doc;
    char p[1200], file[4][200];
    const int64_t live = es_mem_live_blocks();
    struct js *want = js_open(&doc, golden_path(p, DIR04 "expected.json"));
    psds_eval_small(&t, js_get(want, "small"));
    unpack(file[0], DIR04 "detections_at_operating_points.tsv.gz", "04_points.tsv");
    unpack(file[1], DIR04 "audio_durations.tsv.gz", "04_durations.tsv");
    unpack(file[2], DIR04 "ground_truth.tsv.gz", "04_truth.tsv");
    unpack(file[3], DIR04 "ground_truth_merged.tsv.gz", "04_merged.tsv");
    const struct points from = {.path = file[0], .thresholds = js_get(want, "thresholds")};
    for (int merged = 0; merged < 2; merged++) {
        struct es_truth *truth = NULL;
        must(es_truth_load(&truth, file[2 + merged], file[1], &err), &err);
        struct js *blocks = js_get(want, merged ? "full_merged_ground_truth" : "full");
        for (int v = 0; v < 2; v++)
            assert_int_equal(compare_version(&t, truth, (enum es_operating_version)v, &from,
                                             js_get(blocks, version_name[v])),
                             merged ? 3 : 6);
        es_truth_free(&truth);
    }
    js_get(want, "case");
    all_used(&t, want, "04");
    js_close(&doc);
    for (int i = 0; i < 4; i++) remove(file[i]);
    assert_int_equal(es_mem_live_blocks(), live);
    finish(&t);
}

static void synthetic_detections(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_scores *filtered = NULL;
    struct es_truth *events = NULL, *at_half = NULL;
    struct tally t = {.name = "05 (detections)"};
    file_open(&c, DIR05 "scores.h5", DIR05 "ground_truth.tsv", DIR05 "audio_durations.tsv",
              DIR05 "expected.json.gz");
    struct js *want = js_get(c.expected, "dcase_median_filtered");
    int window[10], k = 0;
    for (struct js *w = js_get(want, "median_window_frames")->first; w; w = w->next)
        window[k++] = (int)w->num;
    must(es_scores_median(&filtered, c.scores, window, &err), &err);
    const double half[10] = {.5, .5, .5, .5, .5, .5, .5, .5, .5, .5};
    must(es_events_decode(&at_half, filtered, half, true, &err), &err);
    const struct points from = {.scores = filtered, .at_half = at_half};
    for (int v = 0; v < 2; v++)
        assert_int_equal(
            compare_version(&t, c.truth, (enum es_operating_version)v, &from, js_get(want, version_name[v])),
            3);
    struct js *numbers = js_get(want, "num_detections");
    for (struct js *th = js_get(want, "thresholds")->first, *n = numbers->first; th;
         th = th->next, n = n->next) {
        double thresholds[10];
        for (int i = 0; i < 10; i++) thresholds[i] = th->num;
        must(es_events_decode(&events, filtered, thresholds, true, &err), &err);
        compare(&t, COUNT, "detections", n->key, (double)events->n_events, n->num);
        es_truth_free(&events);
    }
    events = at_half;
    compare_both_sedeval(&t, c.truth, events, want);
    for (struct js *clip = js_get(want, "events_at_0.5_first_clips")->first; clip; clip = clip->next) {
        const int64_t i_clip = es_names_find(events->clips, clip->key);
        int64_t i = 0;
        for (struct js *e = clip->first; e; e = e->next, i++) {
            while (i < events->n_events && events->events[i].clip != i_clip) i++;
            assert_true(i < events->n_events);
            const struct es_truth_event *got = &events->events[i];
            compare(&t, VALUE, clip->key, "onset", got->onset_s, e->first->num);
            compare(&t, VALUE, clip->key, "offset", got->offset_s, e->first->next->num);
            assert_string_equal(es_names_get(events->labels, got->label), e->first->next->next->str);
        }
        while (i < events->n_events && events->events[i].clip != i_clip) i++;
        compare(&t, COUNT, clip->key, "no more events", (double)i, (double)events->n_events);
    }
    js_get(want, "sed_scores_eval"); /* test_evaluation */
    all_used(&t, want, "dcase_median_filtered");
    es_truth_free(&events);
    es_scores_free(&filtered);
    file_close(&c);
    finish(&t);
}

/* ---- HEAR's DCASE 2016 task 2 */
struct hear {
    struct es_h5 *file;
    struct es_h5_names label;
    int64_t n_frames;
    double *time_ms;
};

static void hear_decode(struct hear *h, const char *clip, double filter_ms, double dur_ms,
                        struct es_truth *events) {
    struct es_err err = {0};
    char path[200];
    const int n = (int)h->n_frames, K = (int)h->label.n, w = es_events_hear_window(filter_ms, h->time_ms[1]);
    double x[1024], y[1024], ws[1024], on[512], off[512];
    float *scores = es_alloc((size_t)n * (size_t)K, sizeof *scores, NULL);
    snprintf(path, sizeof path, "/scores/%s", clip);
    must(es_h5_read(h->file, path, ES_H5_F32, (int64_t)n * K, scores, &err), &err);
    const char *dot = strrchr(clip, '.');
    char id[200];
    snprintf(id, sizeof id, "%.*s", (int)(dot ? dot - clip : (long)strlen(clip)), clip);
    must(es_truth_clip(events, id, &err), &err);
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < n; i++) x[i] = (double)scores[(int64_t)i * K + k];
        if (filter_ms > 0) es_median_filter(n, w, x, y, ws);
        const int m = es_events_decode_hear(n, h->time_ms, filter_ms > 0 ? y : x, 0.5, dur_ms, on, off);
        for (int i = 0; i < m; i++)
            must(es_truth_event(events, id, h->label.name[k], on[i] / 1000, off[i] / 1000, 1, 0, &err), &err);
    }
    es_free(&scores);
}

static void compare_hear_events(struct tally *t, const struct es_truth *events, const char *clip,
                                struct js *want) {
    const int64_t i_clip = es_names_find(events->clips, clip);
    int64_t n = 0;
    for (int64_t i = 0; i < events->n_events; i++) n += events->events[i].clip == i_clip;
    compare(t, COUNT, "events", clip, (double)n, (double)want->n);
    for (struct js *e = want->first; e; e = e->next) {
        int64_t i = 0;
        const double on = js_number(e, "start", 0) / 1000, off = js_number(e, "end", 0) / 1000;
        while (i < events->n_events &&
               (events->events[i].clip != i_clip || events->events[i].onset_s != on ||
                events->events[i].offset_s != off ||
                strcmp(es_names_get(events->labels, events->events[i].label), js_get(e, "label")->str) != 0))
            i++;
        compare(t, COUNT, clip, "event", i < events->n_events, 1);
    }
}

static struct es_truth *hear_truth(void) {
    struct es_err err = {0};
    char p[1200];
    static const char *const columns[] = {"filename", "start_ms", "end_ms", "event_label"};
    struct es_tsv *tsv = NULL;
    struct es_truth *truth = NULL;
    must(es_truth_new(&truth, "truth", "", &err), &err);
    must(es_tsv_open(&tsv, golden_path(p, DIR11 "dcase2016_ground_truth_ms.tsv"), columns, 4, 0, &err), &err);
    for (int64_t row = 0; row < es_tsv_rows(tsv); row++) {
        double on, off;
        char id[200];
        snprintf(id, sizeof id, "%s", es_tsv_text(tsv, row, 0));
        *strrchr(id, '.') = 0;
        must(es_tsv_times(tsv, row, 1, 2, &on, &off, &err), &err);
        must(es_truth_event(truth, id, es_tsv_text(tsv, row, 3), on / 1000, off / 1000, 1, row, &err), &err);
    }
    es_tsv_close(&tsv);
    return truth;
}

static void hear_dcase2016(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct tally t = {.name = "11 (HEAR)"};
    struct es_err err = {0};
    struct js_doc doc;
    struct hear h = {0};
    struct es_h5_info info;
    char p[1200];
    struct js *want = js_open(&doc, golden_path(p, DIR11 "expected.json"));
    must(es_h5_open(&h.file, golden_path(p, DIR11 "dcase2016_scores.h5"), NULL, 0, &err), &err);
    must(es_h5_read_strings(h.file, "/classes", &h.label, &err), &err);
    must(es_h5_info(h.file, "/timestamps_ms", &info, &err), &err);
    h.n_frames = info.n;
    h.time_ms = es_alloc((size_t)h.n_frames, sizeof(double), NULL);
    must(es_h5_read(h.file, "/timestamps_ms", ES_H5_F64, h.n_frames, h.time_ms, &err), &err);
    struct es_truth *truth = hear_truth();
    for (struct js *r = js_get(want, "results")->first; r; r = r->next) {
        struct js *pp = js_get(r, "post_processing"), *numbers = js_get(r, "num_events"),
                  *scores = js_get(r, "scores");
        struct es_truth *events = NULL;
        must(es_truth_new(&events, "events", "", &err), &err);
        for (struct js *f = numbers->first; f; f = f->next) {
            const int64_t before = events->n_events;
            hear_decode(&h, f->key, js_number(pp, "median_filter_ms", 0), js_number(pp, "min_duration", 0),
                        events);
            compare(&t, COUNT, r->key, f->key, (double)(events->n_events - before), f->num);
        }
        compare_hear_events(&t, events, "f1", js_get(r, "events_first_file"));
        for (int i = 0; i < 2; i++) {
            struct es_sedeval *v = NULL;
            struct es_sedeval_params params = {
                .collar_s = i ? 0.05 : 0.2, .length_rate = 0.2, .onset_only = true, .segment_s = 1};
            must(es_sedeval_events(&v, truth, events, &params, &err), &err);
            struct js *f = js_get(scores, i ? "event_onset_50ms" : "event_onset_200ms");
            compare(&t, VALUE, "f", r->key, v->overall.f, js_number(f, "f_measure", (double)NAN));
            compare(&t, VALUE, "precision", r->key, v->overall.precision,
                    js_number(f, "precision", (double)NAN));
            compare(&t, VALUE, "recall", r->key, v->overall.recall, js_number(f, "recall", (double)NAN));
            all_used(&t, f, r->key);
            es_sedeval_free(&v);
            if (i) continue;
            must(es_sedeval_segments(&v, truth, events, &params, &err), &err);
            compare(&t, VALUE, "error rate", r->key, v->overall.error_rate,
                    js_number(js_get(scores, "segment_1s_error_rate"), "error_rate", (double)NAN));
            es_sedeval_free(&v);
        }
        all_used(&t, scores, r->key);
        es_truth_free(&events);
    }
    es_truth_free(&truth);
    es_h5_names_free(&h.label);
    es_free(&h.time_ms);
    es_h5_close(&h.file);
    js_close(&doc);
    finish(&t);
}

static void audioset_strong_like(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_scores *filtered = NULL;
    struct tally t = {.name = "11 (AudioSet-strong)"};
    file_open(&c, DIR11 "audioset_strong_like_scores.h5", DIR11 "audioset_strong_like_ground_truth.tsv",
              DIR11 "audioset_strong_like_durations.tsv", DIR11 "expected.json");
    struct js *want = js_get(c.expected, "audioset_strong_like"), *used = js_get(want, "classes_used");
    const char *classes[64];
    int n = 0, window[64];
    for (struct js *v = used->first; v; v = v->next) classes[n++] = v->str;
    for (int k = 0; k < c.scores->n_classes; k++) window[k] = (int)js_number(want, "median_window_frames", 0);
    const struct es_evalset_params p = {.n_classes = n, .classes = classes, .allow_missing = true};
    must(es_scores_median(&filtered, c.scores, window, &err), &err);
    assert_int_equal(compare_set(&t, c.scores, c.truth, &p, js_get(want, "unprocessed")), 2);
    assert_int_equal(compare_set(&t, filtered, c.truth, &p, js_get(want, "median_filtered")), 2);
    struct es_evalset *set = NULL;
    must(es_evalset_new(&set, c.scores, c.truth, &p, &err), &err);
    compare(&t, COUNT, "num_clips_used", "", (double)es_evalset_clips(set),
            js_number(want, "num_clips_used", 0));
    compare(&t, COUNT, "num_clips_all", "", (double)c.scores->n_clips, js_number(want, "num_clips_all", 0));
    all_used(&t, want, "audioset_strong_like");
    es_evalset_free(&set);
    es_scores_free(&filtered);
    file_close(&c);
    finish(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_operating_points), cmocka_unit_test(psds_eval_data),
        cmocka_unit_test(synthetic_detections), cmocka_unit_test(hear_dcase2016),
        cmocka_unit_test(audioset_strong_like)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
