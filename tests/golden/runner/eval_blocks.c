/* Result blocks (golden/evaluation/README.md): PSDS, F1, AUROC, and lists of events. */
#include "eval.h"

#include "earshot/mpauc.h"

int ev_class(const struct es_evalset *set, const char *name) {
    for (int k = 0; k < es_evalset_classes(set); k++)
        if (strcmp(es_evalset_class_name(set, k), name) == 0) return k;
    return -1;
}

int ev_numbers(struct js *list, double *out, int max) {
    int n = 0;
    for (struct js *v = list ? list->first : NULL; v && n < max; v = v->next) out[n++] = v->num;
    return n;
}

double ev_staircase(const struct es_roc *roc, double x) {
    double y = 0;
    for (int64_t i = 0; i < roc->n && roc->x[i] <= x; i++) y = roc->y[i];
    return y;
}

static void statistics(struct ev *e, const struct es_evalset *set, struct js *stats,
                       const struct es_f1_params *p) {
    struct es_err err = {0};
    struct js *thresholds = js_get(stats, "thresholds");
    ev_input(thresholds);
    for (struct js *c = js_get(stats, "per_class")->first; c; c = c->next) {
        const int k = ev_class(set, c->key);
        struct es_curve *curve = NULL;
        if (k < 0 || ev_error(e, c, es_curve_new(&curve, set, k, ES_F1_INTERSECTION, p, &err), &err))
            continue;
        ev_put(e, js_get(c, "n_ref"), EV_COUNT, (double)curve->n_ref);
        ev_put(e, js_get(c, "t_ref"), EV_VALUE, es_evalset_events_dur_s(set, k));
        struct js *tp = js_get(c, "tps")->first, *fp = js_get(c, "fps")->first, *cts = js_get(c, "cts");
        int64_t i = 0;
        for (struct js *th = thresholds->first; th && tp && fp;
             th = th->next, tp = tp->next, fp = fp->next, i++) {
            const int64_t at = es_curve_at(curve, th->num);
            ev_put(e, tp, EV_COUNT, at < 0 ? 0 : curve->tp[at]);
            ev_put(e, fp, EV_COUNT, at < 0 ? 0 : curve->fp[at]);
            for (struct js *o = cts ? cts->first : NULL; o; o = o->next) {
                const int other = ev_class(set, o->key);
                double sum = 0;
                for (int64_t q = 0; q < curve->n_ct && (int64_t)curve->ct[q].level <= at; q++)
                    if (curve->ct[q].i_class == other) sum += curve->ct[q].delta;
                struct js *want = o->first;
                for (int64_t q = 0; q < i && want; q++) want = want->next;
                ev_put(e, want, EV_COUNT, sum);
            }
        }
        es_curve_free(&curve);
    }
}

void ev_psds(struct ev *e, const struct es_evalset *set, struct js *block) {
    struct es_err err = {0};
    struct js *jp = js_get(block, "params"), *unit_of = js_get(jp, "unit_of_time");
    const char *unit = unit_of ? unit_of->str : "hour";
    struct es_psds_params p = {.dtc = js_number(jp, "dtc_threshold", (double)NAN),
                               .gtc = js_number(jp, "gtc_threshold", (double)NAN),
                               .cttc = js_number(jp, "cttc_threshold", (double)NAN),
                               .alpha_ct = js_number(jp, "alpha_ct", (double)NAN),
                               .alpha_st = js_number(jp, "alpha_st", (double)NAN),
                               .efpr_max = js_number(jp, "max_efpr", (double)NAN),
                               .unit_s = strcmp(unit, "hour") == 0     ? 3600
                                         : strcmp(unit, "minute") == 0 ? 60
                                                                       : 1,
                               .non_oracle = js_number(jp, "non_oracle", 0) != 0};
    struct es_psds *psds = NULL;
    ev_input(jp);
    if (ev_error(e, block, es_psds_new(&psds, set, &p, &err), &err)) return;
    ev_put(e, js_get(block, "psds"), EV_VALUE, psds->value);
    ev_put(e, js_get(block, "macro_average_of_single_class"), EV_VALUE, psds->macro);
    struct js *single = js_get(block, "single_class_psds"), *at = js_get(block, "effective_roc_at");
    for (struct js *v = single ? single->first : NULL; v; v = v->next)
        if (ev_class(set, v->key) >= 0) ev_put(e, v, EV_VALUE, psds->class_value[ev_class(set, v->key)]);
    struct js *xs = js_get(at, "efpr"), *ys = js_get(at, "etpr");
    ev_input(xs);
    for (struct js *x = xs ? xs->first : NULL, *y = ys ? ys->first : NULL; x && y; x = x->next, y = y->next)
        ev_put(e, y, EV_VALUE, ev_staircase(&psds->roc, x->num));
    ev_put(e, js_get(block, "effective_roc_num_points"), EV_COUNT, (double)psds->roc.n);
    struct js *classes = js_get(block, "single_class_roc_at");
    for (struct js *c = classes ? classes->first : NULL; c; c = c->next) {
        if (ev_class(set, c->key) < 0) continue;
        const struct es_roc *roc = &psds->class_roc[ev_class(set, c->key)];
        struct js *tpr = js_get(c, "tpr");
        ev_put(e, js_get(c, "num_points"), EV_COUNT, (double)roc->n);
        for (struct js *x = xs ? xs->first : NULL, *y = tpr ? tpr->first : NULL; x && y;
             x = x->next, y = y->next)
            ev_put(e, y, EV_VALUE, ev_staircase(roc, x->num));
    }
    struct js *roc = js_get(block, "effective_roc"), *rocs = js_get(block, "single_class_roc");
    ev_put_list(e, js_get(roc, "efpr"), EV_EFPR, psds->roc.x, psds->roc.n);
    ev_put_list(e, js_get(roc, "etpr"), EV_VALUE, psds->roc.y, psds->roc.n);
    for (struct js *c = rocs ? rocs->first : NULL; c; c = c->next) {
        if (ev_class(set, c->key) < 0) continue;
        const struct es_roc *r = &psds->class_roc[ev_class(set, c->key)];
        ev_put_list(e, js_get(c, "efpr"), EV_EFPR, r->x, r->n);
        ev_put_list(e, js_get(c, "tpr"), EV_VALUE, r->y, r->n);
        ev_put_list(e, js_get(c, "score"), EV_LEVEL, r->score, r->n);
    }
    struct es_f1_params counting = es_f1_params_default();
    counting.dtc = p.dtc;
    counting.gtc = p.gtc;
    counting.cttc = p.cttc;
    if (js_get(block, "intermediate_statistics"))
        statistics(e, set, js_get(block, "intermediate_statistics"), &counting);
    es_psds_free(&psds);
}

static void f1_value(struct ev *e, const struct es_f1_value *v, struct js *side, const char *key) {
    ev_put(e, js_get(js_get(side, "f"), key), EV_VALUE, v->f);
    ev_put(e, js_get(js_get(side, "precision"), key), EV_VALUE, v->precision);
    ev_put(e, js_get(js_get(side, "recall"), key), EV_VALUE, v->recall);
}

void ev_f1(struct ev *e, const struct es_evalset *set, struct js *block, enum es_f1_kind kind) {
    struct es_err err = {0};
    static const char *const side_name[2] = {"fixed", "best"};
    struct js *jp = js_get(js_get(block, "fixed"), "params");
    struct es_f1_params p = es_f1_params_default();
    p.dtc = js_number(jp, "dtc_threshold", p.dtc);
    p.gtc = js_number(jp, "gtc_threshold", p.gtc);
    p.onset_collar_s = js_number(jp, "onset_collar", p.onset_collar_s);
    p.offset_collar_s = js_number(jp, "offset_collar", p.offset_collar_s);
    p.offset_collar_rate = js_number(jp, "offset_collar_rate", p.offset_collar_rate);
    p.segment_s = js_number(jp, "segment_length", p.segment_s);
    struct es_f1 *f1 = NULL;
    if (ev_error(e, block, es_f1_new(&f1, set, kind, &p, js_number(jp, "threshold", (double)NAN), &err),
                 &err))
        return;
    for (int s = 0; s < 2; s++) {
        struct js *side = js_get(block, side_name[s]), *counts = js_get(side, "counts");
        const struct es_f1_value *v = s == 0 ? f1->fixed : f1->best;
        ev_input(js_get(side, "params"));
        for (struct js *c = counts ? counts->first : NULL; c; c = c->next) {
            if (ev_class(set, c->key) < 0) continue;
            const struct es_f1_value *x = &v[ev_class(set, c->key)];
            f1_value(e, x, side, c->key);
            ev_put(e, js_get(c, "tps"), EV_COUNT, (double)x->tp);
            ev_put(e, js_get(c, "fps"), EV_COUNT, (double)x->fp);
            ev_put(e, js_get(c, "n_ref"), EV_COUNT, (double)x->n_ref);
            ev_put(e, js_get(c, "n_sys"), EV_COUNT, (double)(x->tp + x->fp));
            ev_put(e, js_get(c, "tns"), EV_COUNT, (double)(x->n_all - x->n_ref - x->fp));
            if (s == 1) ev_put(e, js_get(js_get(side, "threshold"), c->key), EV_LEVEL, x->threshold);
        }
        f1_value(e, s == 0 ? &f1->fixed_macro : &f1->best_macro, side, "macro_average");
        f1_value(e, s == 0 ? &f1->fixed_micro : &f1->best_micro, side, "micro_average");
    }
    es_f1_free(&f1);
}

void ev_auroc(struct ev *e, const struct es_evalset *set, struct js *block) {
    static const char *const kind[4] = {"linear", "staircase", "full_linear", "full_staircase"};
    struct es_err err = {0};
    struct js *jp = js_get(block, "params"), *want = js_get(block, "expected"),
              *segments = js_get(block, "num_segments");
    struct es_auroc_params p = {.segment_s = js_number(jp, "segment_length", 1),
                                .fpr_max = js_number(jp, "max_fpr", 0.1)};
    struct es_auroc *part = NULL, *full = NULL;
    if (js_get(block, "expect_error")) {
        ev_put(e, js_get(block, "expect_error"), EV_COUNT, es_auroc_new(&part, set, &p, &err) == -ES_EDATA);
        ev_input(block);
        es_auroc_free(&part);
        return;
    }
    ev_input(jp);
    ev_input(js_get(block, "library_as_run_unstable_sort")); /* for information only (spec 9.3) */
    ev_input(js_get(block, "max_abs_deviation_of_unstable_sort"));
    ev_input(js_get(want, "linear_mcclish")); /* for checks against other tools */
    if (ev_error(e, block, es_auroc_new(&part, set, &p, &err), &err)) return;
    p.fpr_max = 1;
    if (ev_error(e, block, es_auroc_new(&full, set, &p, &err), &err)) return;
    for (int i = 0; i < 4; i++) {
        const struct es_auroc *a = i < 2 ? part : full;
        struct js *list = js_get(want, kind[i]);
        for (struct js *v = list ? list->first : NULL; v; v = v->next) {
            const int k = ev_class(set, v->key);
            const bool mean = strcmp(v->key, "mean") == 0;
            if (k < 0 && !mean) continue;
            const struct es_auroc_class *c = mean ? NULL : &a->classes[k];
            ev_put(e, v, EV_VALUE,
                   c ? (i % 2 ? c->staircase : c->linear) : (i % 2 ? a->staircase : a->linear));
        }
    }
    for (struct js *c = segments ? segments->first : NULL; c; c = c->next) {
        if (ev_class(set, c->key) < 0) continue;
        const struct es_auroc_class *a = &part->classes[ev_class(set, c->key)];
        ev_put(e, js_get(c, "total"), EV_COUNT, (double)a->n_segments);
        ev_put(e, js_get(c, "positive"), EV_COUNT, (double)a->n_positive);
    }
    es_auroc_free(&part);
    es_auroc_free(&full);
}

void ev_blocks(struct ev *e, const struct es_evalset *set, struct js *blocks) {
    for (struct js *b = blocks->first; b; b = b->next) {
        if (b->type != JS_OBJECT) continue;
        if (js_get(b, "psds"))
            ev_psds(e, set, b);
        else if (strncmp(b->key, "collar_f1", 9) == 0)
            ev_f1(e, set, b, ES_F1_COLLAR);
        else if (strncmp(b->key, "intersection_f1", 15) == 0)
            ev_f1(e, set, b, ES_F1_INTERSECTION);
        else if (strncmp(b->key, "segment_f1", 10) == 0)
            ev_f1(e, set, b, ES_F1_SEGMENT);
        else if (strstr(b->key, "auroc"))
            ev_auroc(e, set, b);
    }
}

void ev_set(struct ev *e, const struct es_scores *scores, const struct es_truth *truth,
            const struct es_evalset_params *p, struct js *blocks) {
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    if (!blocks || ev_error(e, blocks, es_evalset_new(&set, scores, truth, p, &err), &err)) return;
    ev_put(e, js_get(blocks, "num_clips"), EV_COUNT, (double)es_evalset_clips(set));
    ev_put(e, js_get(blocks, "dataset_duration"), EV_VALUE, es_evalset_dur_s(set));
    ev_blocks(e, set, blocks);
    es_evalset_free(&set);
}

bool ev_load(struct ev *e, const char *scores, const char *truth, const char *durations, struct es_scores **s,
             struct es_truth **t) {
    char p[3][1200];
    struct es_err err = {0};
    *s = NULL;
    *t = NULL;
    int rc = es_scores_load(s, ev_path(e->run, e->folder, scores, p[0]), &err);
    if (rc == 0 && truth)
        rc = es_truth_load(t, ev_path(e->run, e->folder, truth, p[1]),
                           ev_path(e->run, e->folder, durations, p[2]), &err);
    return !ev_error(e, e->root, rc, &err);
}

void ev_events(struct ev *e, const struct es_truth *events, struct js *clips, enum ev_kind times) {
    for (struct js *c = clips ? clips->first : NULL; c; c = c->next) {
        const int64_t clip = es_names_find(events->clips, c->key);
        int64_t i = 0, more = 0;
        for (struct js *v = c->first; v; v = v->next, i++) {
            while (i < events->n_events && events->events[i].clip != clip) i++;
            const struct es_truth_event *got = i < events->n_events ? &events->events[i] : NULL;
            struct js *on = v->first, *off = on->next, *label = off->next;
            ev_put(e, on, times, got ? got->onset_s : (double)NAN);
            ev_put(e, off, times, got ? got->offset_s : (double)NAN);
            if (label->next) ev_put(e, label->next, EV_VALUE, got ? got->confidence : (double)NAN);
            ev_put_same(e, label, got && strcmp(es_names_get(events->labels, got->label), label->str) == 0);
        }
        for (; i < events->n_events; i++) more += events->events[i].clip == clip;
        if (more > 0) ev_put_same(e, c, false);
        if (!c->first) ev_put_same(e, c, more == 0);
    }
}
