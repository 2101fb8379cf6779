/* Cases whose input are detections: operating points (psds_eval), sed_eval, HEAR's decoding. */
#include "earshot/events.h"
#include "earshot/h5.h"
#include "earshot/median.h"
#include "earshot/operating.h"
#include "earshot/sedeval.h"

#include "eval.h"

enum { MAX_CLASSES = 256 };
static const char *const version_name[2] = {"psds_eval_0.3.0", "psds_eval_0.5_algorithm"};

static void free_truth(struct es_truth **t) {
    if (*t) es_truth_free(t);
}

/* ---- psds_eval */
static int class_of(const struct es_operating *o, const char *name) {
    if (strcmp(name, "WORLD") == 0) return o->n_classes;
    for (int k = 0; k < o->n_classes; k++)
        if (strcmp(o->class_name[k], name) == 0) return k;
    return -1;
}

static int point_at(const struct es_operating *o, double threshold) {
    for (int i = 0; i < o->n_points; i++)
        if (o->points[i].threshold == threshold) return i;
    return -1;
}

static void point(struct ev *e, const struct es_operating *o, struct js *want, const int *order, int n) {
    const int i = point_at(o, strtod(want->key, NULL));
    if (i < 0) return;
    const struct es_operating_point *p = &o->points[i];
    struct js *tp = js_get(want, "tp_ratio"), *fp = js_get(want, "fp_rate_per_hour"),
              *counts = js_get(want, "counts");
    for (struct js *v = tp ? tp->first : NULL; v; v = v->next)
        if (class_of(o, v->key) >= 0) ev_put(e, v, EV_VALUE, p->tp_ratio[class_of(o, v->key)]);
    for (struct js *v = fp ? fp->first : NULL; v; v = v->next)
        if (class_of(o, v->key) >= 0) ev_put(e, v, EV_EFPR, p->fp_rate[class_of(o, v->key)]);
    int r = 0;
    for (struct js *row = counts ? counts->first : NULL; row && r < n; row = row->next, r++) {
        int c = 0;
        for (struct js *v = row->first; v && c < n; v = v->next, c++)
            ev_put(e, v, EV_COUNT, (double)p->counts[(int64_t)order[r] * (o->n_classes + 1) + order[c]]);
    }
}

static void alone(struct ev *e, const struct es_operating *o, struct js *v, double ct, double st) {
    struct es_psds *psds = NULL;
    struct es_err err = {0};
    if (!v || ev_error(e, v, es_operating_psds(&psds, o, ct, st, 100, &err), &err)) return;
    ev_put(e, v, EV_VALUE, psds->value);
    es_psds_free(&psds);
}

static void operating_psds(struct ev *e, const struct es_operating *o, struct js *block) {
    struct es_err err = {0};
    struct js *jp = js_get(block, "params"), *stats = js_get(block, "operating_point_statistics");
    struct es_psds *psds = NULL;
    const double st = js_number(jp, "alpha_st", (double)NAN), ct = js_number(jp, "alpha_ct", (double)NAN);
    ev_input(jp);
    if (ev_error(e, block, es_operating_psds(&psds, o, ct, st, js_number(jp, "max_efpr", (double)NAN), &err),
                 &err))
        return;
    ev_put(e, js_get(block, "psds"), EV_VALUE, psds->value);
    ev_put(e, js_get(block, "num_operating_points"), EV_COUNT, o->n_points);
    struct js *names = js_get(block, "classes");
    int k = 0;
    for (struct js *v = names ? names->first : NULL; v; v = v->next, k++)
        ev_put_same(e, v, k < o->n_classes && strcmp(o->class_name[k], v->str) == 0);
    struct js *at = js_get(block, "effective_roc_at"), *xs = js_get(at, "efpr"), *ys = js_get(at, "etpr");
    ev_input(xs);
    for (struct js *x = xs ? xs->first : NULL, *y = ys ? ys->first : NULL; x && y; x = x->next, y = y->next)
        ev_put(e, y, EV_VALUE, ev_staircase(&psds->roc, x->num));
    struct js *curves = js_get(block, "single_class_roc_at"), *areas = js_get(block, "single_class_area");
    for (struct js *c = curves ? curves->first : NULL; c; c = c->next)
        for (struct js *x = xs ? xs->first : NULL, *y = c->first; x && y && class_of(o, c->key) >= 0;
             x = x->next, y = y->next)
            ev_put(e, y, EV_VALUE, ev_staircase(&psds->class_roc[class_of(o, c->key)], x->num));
    for (struct js *v = areas ? areas->first : NULL; v; v = v->next)
        if (class_of(o, v->key) >= 0) ev_put(e, v, EV_VALUE, psds->class_value[class_of(o, v->key)]);
    es_psds_free(&psds);
    alone(e, o, js_get(block, "psds_alpha_ct_1"), 1, 0);
    alone(e, o, js_get(block, "psds_alpha_st_1"), 0, 1);
    if (!stats) return;
    int order[MAX_CLASSES], n = 0;
    struct js *rows = js_get(stats, "class_order_rows"), *ops = js_get(stats, "ops");
    for (struct js *v = rows ? rows->first : NULL; v && n < MAX_CLASSES; v = v->next) {
        order[n] = class_of(o, v->str);
        if (order[n++] < 0) return;
    }
    ev_input(rows);
    for (struct js *p = ops ? ops->first : NULL; p; p = p->next) point(e, o, p, order, n);
}

static void macro_f1(struct ev *e, const struct es_operating *o, double threshold, struct js *want) {
    double f[MAX_CLASSES], macro;
    const int i = point_at(o, threshold);
    struct js *classes = js_get(want, "per_class");
    if (i < 0 || o->n_classes > MAX_CLASSES) return;
    es_operating_f1(o, i, f, &macro);
    ev_put(e, js_get(want, "macro"), EV_VALUE, macro);
    for (struct js *v = classes ? classes->first : NULL; v; v = v->next)
        if (class_of(o, v->key) >= 0) ev_put(e, v, EV_VALUE, f[class_of(o, v->key)]);
}

struct points {                     /* where operating points come from */
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
        struct es_truth *none = NULL;
        if (point_at(o, v->num) >= 0) continue;
        ES_TRY(es_truth_new(&none, "none", "", err));
        const int rc = es_operating_add(o, none, v->num, err);
        es_truth_free(&none);
        ES_TRY(rc);
    }
    return 0;
}

/* Blocks of both versions: PSDS with their parameters, macro F1 by name or with its threshold. */
static void versions(struct ev *e, const struct es_truth *truth, const struct points *from,
                     struct js *above) {
    for (int version = 0; version < 2; version++) {
        struct js *blocks = js_get(above, version_name[version]);
        for (struct js *b = blocks ? blocks->first : NULL; b; b = b->next) {
            struct es_err err = {0};
            struct js *jp = js_get(b, "params"), *refuse = js_get(b, "expect_error");
            struct es_operating_params p = {.dtc = js_number(jp, "dtc_threshold", 0.5),
                                            .gtc = js_number(jp, "gtc_threshold", 0.5),
                                            .cttc = js_number(jp, "cttc_threshold", 0.3),
                                            .version = (enum es_operating_version)version};
            const bool named = strncmp(b->key, "intersection_macro_f1_at_", 25) == 0;
            const double at = js_number(b, "threshold", named ? strtod(b->key + 25, NULL) : 0);
            struct es_operating *o = NULL;
            int rc = es_operating_new(&o, truth, &p, &err);
            if (rc == 0) rc = add_points(o, from, at == 0.5, &err);
            ev_input(js_get(b, "threshold"));
            if (refuse) {
                ev_input(js_get(b, "message_kind"));
                ev_put(e, refuse, EV_COUNT, rc == -ES_EDATA);
            } else if (!ev_error(e, b, rc < 0 ? rc : 0, &err)) {
                if (jp)
                    operating_psds(e, o, b);
                else
                    macro_f1(e, o, at, b);
            }
            es_operating_free(&o);
        }
    }
}

/* ---- sed_eval */
static void rates(struct ev *e, const struct es_sedeval_value *v, struct js *want) {
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
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        ev_put(e, js_get(js_get(want, row[i].part), row[i].key),
               strcmp(row[i].part, "count") == 0 ? EV_COUNT : EV_VALUE, row[i].got);
}

static void sedeval(struct ev *e, const struct es_sedeval *v, struct js *want) {
    struct js *classes = js_get(want, "class_wise");
    rates(e, &v->overall, js_get(want, "overall"));
    rates(e, &v->average, js_get(want, "class_wise_average"));
    for (struct js *c = classes ? classes->first : NULL; c; c = c->next) {
        int k = 0;
        while (k < v->n_classes && strcmp(v->class_name[k], c->key) != 0) k++;
        if (k < v->n_classes) rates(e, &v->classes[k], c);
    }
}

static void both_sedeval(struct ev *e, const struct es_truth *truth, const struct es_truth *events,
                         struct js *above) {
    struct es_err err = {0};
    struct es_sedeval *v = NULL;
    const struct es_sedeval_params p = es_sedeval_params_default();
    struct js *want = js_get(above, "sed_eval_event_based_at_0.5");
    if (want && !ev_error(e, want, es_sedeval_events(&v, truth, events, &p, &err), &err)) {
        sedeval(e, v, want);
        es_sedeval_free(&v);
    }
    want = js_get(above, "sed_eval_segment_based_at_0.5");
    if (want && !ev_error(e, want, es_sedeval_segments(&v, truth, events, &p, &err), &err)) {
        sedeval(e, v, want);
        es_sedeval_free(&v);
    }
}

/* ---- cases */
void ev_case_operating_points(struct rn *run, const char *folder) {
    struct ev e;
    char p[4][1200];
    struct es_err err = {0};
    struct es_truth *truth = NULL, *events = NULL;
    if (!ev_open(&e, run, folder, "expected.json")) return;
    int rc = es_truth_load(&truth, ev_path(run, folder, "ground_truth.tsv", p[0]),
                           ev_path(run, folder, "audio_durations.tsv", p[1]), &err);
    if (rc == 0) rc = es_events_load(&events, ev_path(run, folder, "detections_th0.5.tsv.gz", p[2]), &err);
    if (!ev_error(&e, e.root, rc, &err)) {
        const struct points from = {
            .path = ev_path(run, folder, "detections_at_operating_points.tsv.gz", p[3]), .at_half = events};
        struct es_operating *o = NULL;
        const struct es_operating_params any = {0.5, 0.5, 0.3, ES_OPERATING_030};
        versions(&e, truth, &from, e.root);
        ev_put(&e, js_get(e.root, "num_clips"), EV_COUNT, (double)es_names_count(truth->clips));
        if (es_operating_new(&o, truth, &any, &err) == 0 && add_points(o, &from, false, &err) == 0)
            ev_put(&e, js_get(e.root, "num_operating_points"), EV_COUNT, o->n_points);
        es_operating_free(&o);
        both_sedeval(&e, truth, events, e.root);
    }
    ev_input(js_get(e.root, "case"));
    ev_input(js_get(e.root, "system"));
    free_truth(&events);
    free_truth(&truth);
    ev_close(&e);
}

static void small_tables(struct ev *e, struct js *small) {
    for (struct js *c = small ? small->first : NULL; c; c = c->next) {
        struct es_err err = {0};
        struct es_truth *truth = NULL, *events = NULL;
        char p[3][1200], name[2][200];
        snprintf(name[0], sizeof name[0], "%s.gt.tsv", c->key);
        snprintf(name[1], sizeof name[1], "%s.det.tsv", c->key);
        int rc = es_truth_load(&truth, ev_path(e->run, e->folder, name[0], p[0]),
                               ev_path(e->run, e->folder, "small.metadata.tsv", p[1]), &err);
        if (rc == 0) rc = es_events_load(&events, ev_path(e->run, e->folder, name[1], p[2]), &err);
        for (int v = 0; v < 2 && !ev_error(e, c, rc, &err); v++) {
            struct js *b = js_get(c, version_name[v]);
            const struct es_operating_params params = {0.5, 0.5, 0.3, (enum es_operating_version)v};
            struct es_operating *o = NULL;
            rc = es_operating_new(&o, truth, &params, &err);
            if (rc == 0) rc = es_operating_add(o, events, 0.5, &err);
            if (b && rc >= 0) {
                operating_psds(e, o, b);
                macro_f1(e, o, 0.5, js_get(b, "macro_f1"));
            }
            es_operating_free(&o);
        }
        free_truth(&events);
        free_truth(&truth);
    }
}

void ev_case_psds_eval_data(struct rn *run, const char *folder) {
    struct ev e;
    char p[4][1200];
    if (!ev_open(&e, run, folder, "expected.json")) return;
    small_tables(&e, js_get(e.root, "small"));
    const struct points from = {.path = ev_path(run, folder, "detections_at_operating_points.tsv.gz", p[0]),
                                .thresholds = js_get(e.root, "thresholds")};
    ev_path(run, folder, "audio_durations.tsv.gz", p[1]);
    for (int merged = 0; merged < 2; merged++) {
        struct es_err err = {0};
        struct es_truth *truth = NULL;
        struct js *blocks = js_get(e.root, merged ? "full_merged_ground_truth" : "full");
        ev_path(run, folder, merged ? "ground_truth_merged.tsv.gz" : "ground_truth.tsv.gz", p[2]);
        if (blocks && !ev_error(&e, blocks, es_truth_load(&truth, p[2], p[1], &err), &err))
            versions(&e, truth, &from, blocks);
        free_truth(&truth);
    }
    ev_input(js_get(e.root, "case"));
    ev_input(js_get(e.root, "thresholds"));
    ev_close(&e);
}

/* The part of the synthetic case that goes through DCASE's frame median and decoding. */
void ev_dcase_filtered(struct ev *e, struct js *want, const struct es_scores *scores,
                       const struct es_truth *truth) {
    struct es_err err = {0};
    struct es_scores *filtered = NULL;
    struct es_truth *at_half = NULL;
    struct js *windows = js_get(want, "median_window_frames"), *thresholds = js_get(want, "thresholds");
    struct js *numbers = js_get(want, "num_detections");
    int window[MAX_CLASSES], k = 0;
    double level[MAX_CLASSES];
    for (struct js *w = windows ? windows->first : NULL; w && k < MAX_CLASSES; w = w->next)
        window[k++] = (int)w->num;
    ev_input(windows);
    ev_input(thresholds);
    if (k != scores->n_classes || ev_error(e, want, es_scores_median(&filtered, scores, window, &err), &err))
        return;
    for (int i = 0; i < k; i++) level[i] = 0.5;
    if (!ev_error(e, want, es_events_decode(&at_half, filtered, level, true, &err), &err)) {
        const struct points from = {.scores = filtered, .at_half = at_half};
        versions(e, truth, &from, want);
        both_sedeval(e, truth, at_half, want);
        ev_events(e, at_half, js_get(want, "events_at_0.5_first_clips"), EV_VALUE);
        ev_set(e, filtered, truth, &(struct es_evalset_params){0}, js_get(want, "sed_scores_eval"));
    }
    for (struct js *th = thresholds ? thresholds->first : NULL, *n = numbers ? numbers->first : NULL; th && n;
         th = th->next, n = n->next) {
        struct es_truth *events = NULL;
        for (int i = 0; i < k; i++) level[i] = th->num;
        if (ev_error(e, n, es_events_decode(&events, filtered, level, true, &err), &err)) continue;
        ev_put(e, n, EV_COUNT, (double)events->n_events);
        es_truth_free(&events);
    }
    free_truth(&at_half);
    es_scores_free(&filtered);
}

/* ---- HEAR's DCASE 2016 task 2 */
struct hear {
    struct es_h5 *file;
    struct es_h5_names label;
    int n_frames;
    double *time_ms;
};

static int hear_decode(struct hear *h, const char *clip, double threshold, double filter_ms, double dur_ms,
                       struct es_truth *events, struct es_err *err) {
    char path[300], id[200];
    const int n = h->n_frames, K = (int)h->label.n,
              w = es_events_hear_window(filter_ms, n > 1 ? h->time_ms[1] - h->time_ms[0] : 1);
    float *scores = es_alloc((size_t)n * (size_t)K, sizeof *scores, NULL);
    double *x = es_alloc(4 * (size_t)n + (size_t)w + 8, sizeof *x, NULL), *y = x + n, *on = y + n,
           *off = on + n / 2 + 1, *ws = off + n / 2 + 1;
    ES_ASSERT(scores && x);
    snprintf(path, sizeof path, "/scores/%s", clip);
    const char *dot = strrchr(clip, '.');
    snprintf(id, sizeof id, "%.*s", (int)(dot ? dot - clip : (long)strlen(clip)), clip);
    int rc = es_h5_read(h->file, path, ES_H5_F32, (int64_t)n * K, scores, err);
    if (rc == 0) rc = es_truth_clip(events, id, err);
    for (int k = 0; k < K && rc == 0; k++) {
        for (int i = 0; i < n; i++) x[i] = (double)scores[(int64_t)i * K + k];
        if (filter_ms > 0) es_median_filter(n, w, x, y, ws);
        const int m = es_events_decode_hear(n, h->time_ms, filter_ms > 0 ? y : x, threshold, dur_ms, on, off);
        for (int i = 0; i < m && rc == 0; i++)
            rc = es_truth_event(events, id, h->label.name[k], on[i] / 1000, off[i] / 1000, 1, 0, err);
    }
    es_free(&x);
    es_free(&scores);
    return rc;
}

/* Events of one clip, in any order: each wanted one takes a found one of its own. */
static void hear_events(struct ev *e, const struct es_truth *events, const char *file, struct js *want) {
    char id[200];
    const char *dot = strrchr(file, '.');
    snprintf(id, sizeof id, "%.*s", (int)(dot ? dot - file : (long)strlen(file)), file);
    const int64_t clip = es_names_find(events->clips, id);
    for (struct js *v = want ? want->first : NULL; v; v = v->next) {
        struct js *start = js_get(v, "start"), *end = js_get(v, "end"), *label = js_get(v, "label");
        int64_t best = -1;
        for (int64_t i = 0; i < events->n_events; i++) {
            const struct es_truth_event *x = &events->events[i];
            if (x->clip != clip || strcmp(es_names_get(events->labels, x->label), label->str) != 0) continue;
            if (best < 0 ||
                fabs(x->onset_s * 1000 - start->num) < fabs(events->events[best].onset_s * 1000 - start->num))
                best = i;
        }
        ev_put(e, start, EV_TIME, best < 0 ? (double)NAN : events->events[best].onset_s * 1000);
        ev_put(e, end, EV_TIME, best < 0 ? (double)NAN : events->events[best].offset_s * 1000);
        ev_put_same(e, label, best >= 0);
    }
}

static int hear_truth(struct rn *run, const char *folder, struct es_truth **truth, struct es_err *err) {
    static const char *const columns[] = {"filename", "start_ms", "end_ms", "event_label"};
    char p[1200];
    struct es_tsv *tsv = NULL;
    int rc = 0;
    ES_GO(es_truth_new(truth, "truth", "", err));
    ES_GO(es_tsv_open(&tsv, ev_path(run, folder, "dcase2016_ground_truth_ms.tsv", p), columns, 4, 0, err));
    for (int64_t row = 0; row < es_tsv_rows(tsv); row++) {
        double on, off;
        char id[200];
        snprintf(id, sizeof id, "%s", es_tsv_text(tsv, row, 0));
        if (strrchr(id, '.')) *strrchr(id, '.') = 0;
        ES_GO(es_tsv_times(tsv, row, 1, 2, &on, &off, err));
        ES_GO(es_truth_event(*truth, id, es_tsv_text(tsv, row, 3), on / 1000, off / 1000, 1, row, err));
    }
done:
    es_tsv_close(&tsv);
    return rc;
}

static void hear_result(struct ev *e, struct hear *h, const struct es_truth *truth, struct js *r) {
    struct es_err err = {0};
    struct js *pp = js_get(r, "post_processing"), *numbers = js_get(r, "num_events"),
              *scores = js_get(r, "scores");
    struct es_truth *events = NULL;
    struct es_sedeval *v = NULL;
    int rc = es_truth_new(&events, "events", "", &err);
    for (struct js *f = numbers ? numbers->first : NULL; f && rc == 0; f = f->next) {
        const int64_t before = events->n_events;
        rc = hear_decode(h, f->key, js_number(r, "threshold", 0.5), js_number(pp, "median_filter_ms", 0),
                         js_number(pp, "min_duration", 0), events, &err);
        ev_put(e, f, EV_COUNT, (double)(events->n_events - before));
    }
    ev_input(pp);
    ev_input(js_get(r, "threshold"));
    if (numbers && numbers->first && rc == 0)
        hear_events(e, events, numbers->first->key, js_get(r, "events_first_file"));
    for (struct js *f = scores ? scores->first : NULL; f && rc == 0; f = f->next) {
        int ms = 200;
        double length = 1;
        if (sscanf(f->key, "event_onset_%dms", &ms) == 1) {
            const struct es_sedeval_params p = {
                .collar_s = ms / 1000.0, .length_rate = 0.2, .onset_only = true, .segment_s = 1};
            rc = es_sedeval_events(&v, truth, events, &p, &err);
            if (rc == 0) {
                ev_put(e, js_get(f, "f_measure"), EV_VALUE, v->overall.f);
                ev_put(e, js_get(f, "precision"), EV_VALUE, v->overall.precision);
                ev_put(e, js_get(f, "recall"), EV_VALUE, v->overall.recall);
            }
        } else if (sscanf(f->key, "segment_%lfs", &length) == 1) {
            const struct es_sedeval_params p = {
                .collar_s = 0.2, .length_rate = 0.2, .onset_only = true, .segment_s = length};
            rc = es_sedeval_segments(&v, truth, events, &p, &err);
            if (rc == 0) ev_put(e, js_get(f, "error_rate"), EV_VALUE, v->overall.error_rate);
        }
        es_sedeval_free(&v);
    }
    ev_error(e, r, rc, &err);
    free_truth(&events);
}

static void audioset_strong(struct ev *e, struct js *want) {
    struct es_err err = {0};
    struct es_scores *scores = NULL, *filtered = NULL;
    struct es_truth *truth = NULL;
    struct es_evalset *set = NULL;
    const char *classes[MAX_CLASSES];
    int n = 0, window[MAX_CLASSES];
    struct js *used = js_get(want, "classes_used");
    if (!want || !ev_load(e, "audioset_strong_like_scores.h5", "audioset_strong_like_ground_truth.tsv",
                          "audioset_strong_like_durations.tsv", &scores, &truth))
        return;
    for (struct js *v = used ? used->first : NULL; v && n < MAX_CLASSES; v = v->next) classes[n++] = v->str;
    for (int k = 0; k < scores->n_classes && k < MAX_CLASSES; k++)
        window[k] = (int)js_number(want, "median_window_frames", 1);
    ev_input(used);
    ev_input(js_get(want, "median_window_frames"));
    const struct es_evalset_params p = {.n_classes = n, .classes = classes, .allow_missing = true};
    ev_set(e, scores, truth, &p, js_get(want, "unprocessed"));
    if (!ev_error(e, want, es_scores_median(&filtered, scores, window, &err), &err))
        ev_set(e, filtered, truth, &p, js_get(want, "median_filtered"));
    if (!ev_error(e, want, es_evalset_new(&set, scores, truth, &p, &err), &err)) {
        ev_put(e, js_get(want, "num_clips_used"), EV_COUNT, (double)es_evalset_clips(set));
        ev_put(e, js_get(want, "num_clips_all"), EV_COUNT, (double)scores->n_clips);
    }
    es_evalset_free(&set);
    es_scores_free(&filtered);
    es_truth_free(&truth);
    es_scores_free(&scores);
}

void ev_case_hear(struct rn *run, const char *folder) {
    struct ev e;
    struct es_err err = {0};
    struct hear h = {0};
    struct es_h5_info info;
    struct es_truth *truth = NULL;
    char p[1200];
    if (!ev_open(&e, run, folder, "expected.json")) return;
    struct js *results = js_get(e.root, "results"), *labels = js_get(e.root, "labels");
    int rc = es_h5_open(&h.file, ev_path(run, folder, "dcase2016_scores.h5", p), NULL, 0, &err);
    if (rc == 0) rc = es_h5_read_strings(h.file, "/classes", &h.label, &err);
    if (rc == 0) rc = es_h5_info(h.file, "/timestamps_ms", &info, &err);
    if (rc == 0) {
        h.n_frames = (int)info.n;
        h.time_ms = es_alloc((size_t)info.n, sizeof(double), NULL);
        rc = es_h5_read(h.file, "/timestamps_ms", ES_H5_F64, info.n, h.time_ms, &err);
    }
    if (rc == 0) rc = hear_truth(run, folder, &truth, &err);
    if (!ev_error(&e, results, rc, &err)) {
        int k = 0;
        for (struct js *v = labels ? labels->first : NULL; v; v = v->next, k++)
            ev_put_same(&e, v, k < h.label.n && strcmp(h.label.name[k], v->str) == 0);
        for (struct js *r = results ? results->first : NULL; r; r = r->next) hear_result(&e, &h, truth, r);
    }
    ev_input(js_get(e.root, "case"));
    ev_input(js_get(e.root, "frame_times_ms"));
    audioset_strong(&e, js_get(e.root, "audioset_strong_like"));
    free_truth(&truth);
    es_h5_names_free(&h.label);
    es_free(&h.time_ms);
    es_h5_close(&h.file);
    ev_close(&e);
}
