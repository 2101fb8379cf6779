/* Metrics by name: from a set to rows. */
#include "earshot/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/events.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/operating.h"
#include "earshot/psds.h"
#include "earshot/sedeval.h"
#include "evaluate_impl.h"

/* One name makes up to two rows. */
struct wanted;
struct metric {
    const char *name, *second;
    int (*compute)(struct es_evaluation_row row[2], const struct es_evalset *set, const struct wanted *w,
                   struct es_err *err);
    enum es_f1_kind kind;
    double fpr_max;
    bool events; /* row_error: events, else segments */
    struct es_psds_params (*psds)(void);
};

struct wanted {
    const struct metric *metric;
    char name[80];
    struct es_psds_params psds;
};
enum { WANTED_MAX = 32 };

static int row_psds(struct es_evaluation_row row[2], const struct es_evalset *set, const struct wanted *w,
                    struct es_err *err) {
    ES_TRY(es_psds_new(&row[0].psds, set, &w->psds, err));
    row[0].value = row[0].psds->value;
    row[0].extra_name = "macro";
    row[0].extra = row[0].psds->macro;
    memcpy(row[0].class_value, row[0].psds->class_value, (size_t)set->n_classes * sizeof(double));
    return 0;
}

static int row_auroc(struct es_evaluation_row row[2], const struct es_evalset *set, const struct wanted *w,
                     struct es_err *err) {
    const struct es_auroc_params p = {.segment_s = 1, .fpr_max = w->metric->fpr_max};
    struct es_auroc *a = NULL;
    ES_TRY(es_auroc_new(&a, set, &p, err));
    row[0].value = a->linear;
    row[1].value = a->staircase;
    for (int k = 0; k < set->n_classes; k++) {
        row[0].class_value[k] = a->classes[k].linear;
        row[1].class_value[k] = a->classes[k].staircase;
    }
    es_auroc_free(&a);
    return 0;
}

static int row_f1(struct es_evaluation_row row[2], const struct es_evalset *set, const struct wanted *w,
                  struct es_err *err) {
    const struct es_f1_params p = es_f1_params_default();
    struct es_f1 *f1 = NULL;
    ES_TRY(es_f1_new(&f1, set, w->metric->kind, &p, 0.5, err));
    row[0].extra_name = row[1].extra_name = "micro";
    row[0].value = f1->fixed_macro.f;
    row[0].extra = f1->fixed_micro.f;
    row[1].value = f1->best_macro.f;
    row[1].extra = f1->best_micro.f;
    for (int k = 0; k < set->n_classes; k++) {
        row[0].class_value[k] = f1->fixed[k].f;
        row[1].class_value[k] = f1->best[k].f;
    }
    es_f1_free(&f1);
    return 0;
}

/* ---- metrics on tables of events */

/* Clips of a set by number: a sample holds some more than once. */
static const char *clip_name(int64_t i, char name[24]) {
    snprintf(name, 24, "%lld", (long long)i);
    return name;
}

static int set_truth(struct es_truth **out, const struct es_evalset *set, struct es_err *err) {
    char name[24];
    int rc = es_truth_new(out, set->scores->source, set->scores->source, err);
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        const struct eval_clip *c = &set->clips[i];
        rc = es_truth_clip(*out, clip_name(i, name), err);
        if (rc == 0) rc = es_truth_duration(*out, name, c->dur_s, err);
        for (int64_t e = c->ev_begin; e < c->ev_end && rc == 0; e++) {
            const struct eval_event *ev = &set->events[e];
            rc = es_truth_event(*out, name, set->class_name[ev->i_class], ev->onset_s, ev->offset_s, 1,
                                ev->row, err);
        }
    }
    return rc;
}

/* Runs of frames above a threshold, compared in the type of the scores (spec 6.4). */
static int set_events(struct es_truth **out, const struct es_evalset *set, double threshold,
                      struct es_err *err) {
    const double th = set->scores->is_double ? threshold : (double)(float)threshold;
    double *column = es_alloc((size_t)set->n_frames_max, sizeof *column, err);
    char name[24];
    int rc = column ? es_truth_new(out, set->scores->source, "", err) : -ES_EIO;
    for (int64_t i = 0; i < set->n_clips && rc == 0; i++) {
        const struct eval_clip *c = &set->clips[i];
        clip_name(i, name);
        for (int k = 0; k < set->n_classes && rc == 0; k++) {
            es_scores_column(set->scores, c->source, set->column[k], column);
            for (int a = 0, b; a < c->n_frames && rc == 0; a = b + 1) {
                for (b = a; b < c->n_frames && column[b] > th; b++) {
                }
                if (b > a)
                    rc = es_truth_event(*out, name, set->class_name[k], c->edges_s[a], c->edges_s[b], 1, a,
                                        err);
            }
        }
    }
    es_free(&column);
    return rc;
}

static int row_error(struct es_evaluation_row row[2], const struct es_evalset *set, const struct wanted *w,
                     struct es_err *err) {
    const struct es_sedeval_params p = es_sedeval_params_default();
    struct es_truth *truth = NULL, *events = NULL;
    struct es_sedeval *v = NULL;
    int rc = set_truth(&truth, set, err);
    if (rc == 0) rc = set_events(&events, set, 0.5, err);
    if (rc == 0)
        rc = (w->metric->events ? es_sedeval_events : es_sedeval_segments)(&v, truth, events, &p, err);
    if (rc == 0 && v) {
        row[0].value = v->overall.error_rate;
        row[0].extra_name = "f1";
        row[0].extra = v->overall.f;
        for (int k = 0; k < set->n_classes; k++) {
            row[0].class_value[k] = (double)NAN;
            for (int j = 0; j < v->n_classes; j++)
                if (strcmp(v->class_name[j], set->class_name[k]) == 0)
                    row[0].class_value[k] = v->classes[j].error_rate;
        }
    }
    es_sedeval_free(&v);
    es_truth_free(&events);
    es_truth_free(&truth);
    return rc;
}

static int row_operating(struct es_evaluation_row row[2], const struct es_evalset *set,
                         const struct wanted *w, struct es_err *err) {
    struct es_truth *truth = NULL, *events = NULL;
    struct es_operating *o[2] = {NULL, NULL};
    struct es_psds *old = NULL;
    int rc = set_truth(&truth, set, err);
    for (int v = 0; v < 2 && rc == 0; v++) {
        const struct es_operating_params p = {.dtc = w->psds.dtc,
                                              .gtc = w->psds.gtc,
                                              .cttc = isnan(w->psds.cttc) ? 0.3 : w->psds.cttc,
                                              .version = (enum es_operating_version)v};
        rc = es_operating_new(&o[v], truth, &p, err);
    }
    for (int i = 0; i < 50 && rc == 0; i++) {
        rc = set_events(&events, set, (2 * i + 1) / 100.0, err);
        for (int v = 0; v < 2 && rc >= 0 && events->n_events > 0; v++)
            rc = es_operating_add(o[v], events, i, err);
        if (rc > 0) rc = 0; /* the same as at another threshold */
        es_truth_free(&events);
    }
    if (rc == 0)
        rc = es_operating_psds(&row[0].psds, o[1], w->psds.alpha_ct, w->psds.alpha_st, w->psds.efpr_max, err);
    if (rc == 0)
        rc = es_operating_psds(&old, o[0], w->psds.alpha_ct, w->psds.alpha_st, w->psds.efpr_max, err);
    if (rc == 0) {
        row[0].value = row[0].psds->value;
        row[0].extra_name = "v030";
        row[0].extra = old->value;
        for (int k = 0; k < set->n_classes; k++) /* a class that a sample lacks has 0 */
            for (int j = 0; j < o[1]->n_classes; j++)
                if (strcmp(o[1]->class_name[j], set->class_name[k]) == 0)
                    row[0].class_value[k] = row[0].psds->class_value[j];
    }
    es_psds_free(&old);
    es_operating_free(&o[0]);
    es_operating_free(&o[1]);
    es_truth_free(&truth);
    return rc;
}

/* ---- names */

static const struct metric metrics[] = {
    {.name = "psds1", .compute = row_psds, .psds = es_psds1_params},
    {.name = "psds2", .compute = row_psds, .psds = es_psds2_params},
    {.name = "psds1_op", .compute = row_operating, .psds = es_psds1_params},
    {.name = "psds2_op", .compute = row_operating, .psds = es_psds2_params},
    {.name = "mpauc", .second = "mpauc_staircase", .compute = row_auroc, .fpr_max = 0.1},
    {.name = "mauc", .second = "mauc_staircase", .compute = row_auroc, .fpr_max = 1},
    {.name = "collar_f1", .second = "collar_f1_best", .compute = row_f1, .kind = ES_F1_COLLAR},
    {.name = "intersection_f1",
     .second = "intersection_f1_best",
     .compute = row_f1,
     .kind = ES_F1_INTERSECTION},
    {.name = "segment_f1", .second = "segment_f1_best", .compute = row_f1, .kind = ES_F1_SEGMENT},
    {.name = "clip_f1", .second = "clip_f1_best", .compute = row_f1, .kind = ES_F1_CLIP},
    {.name = "event_error", .compute = row_error, .events = true},
    {.name = "segment_error", .compute = row_error},
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };
static const struct metric any_psds = {.name = "psds", .compute = row_psds};

/* psds:DTC:GTC:CTTC:ALPHA_CT:ALPHA_ST:EFPR_MAX */
static bool parse_psds(struct es_psds_params *p, const char *name) {
    double *const field[6] = {&p->dtc, &p->gtc, &p->cttc, &p->alpha_ct, &p->alpha_st, &p->efpr_max};
    char text[80], *at = text;
    *p = es_psds1_params();
    snprintf(text, sizeof text, "%s", name);
    if (strncmp(at, "psds:", 5) != 0) return false;
    at += 5;
    for (int i = 0; i < 6; i++) {
        char *end = strchr(at, ':');
        if ((end == NULL) != (i == 5)) return false;
        if (end) *end = 0;
        if (strcmp(at, "-") == 0 && i == 2)
            p->cttc = (double)NAN;
        else if (!es_number_from_text(at, field[i]))
            return false;
        if (end) at = end + 1;
    }
    return true;
}

/* Metrics of a comma-separated list, every one once; either of a metric's names will do. */
static int parse_names(struct wanted wanted[WANTED_MAX], int *n, const char *names, struct es_err *err) {
    *n = 0;
    for (const char *p = names, *end; p; p = end ? end + 1 : NULL) {
        end = strchr(p, ',');
        const size_t len = end ? (size_t)(end - p) : strlen(p);
        struct wanted w = {.metric = NULL};
        if (len < sizeof w.name) memcpy(w.name, p, len);
        for (int i = 0; i < N_METRICS; i++)
            if (strcmp(w.name, metrics[i].name) == 0 ||
                (metrics[i].second && strcmp(w.name, metrics[i].second) == 0))
                w.metric = &metrics[i];
        if (w.metric) {
            snprintf(w.name, sizeof w.name, "%s", w.metric->name);
            if (w.metric->psds) w.psds = w.metric->psds();
        } else if (parse_psds(&w.psds, w.name)) {
            w.metric = &any_psds;
        } else {
            return es_err_set(
                err, ES_EUSAGE,
                "metrics: got '%.*s', want some of psds1, psds2, psds:DTC:GTC:CTTC:CT:ST:MAX, psds1_op, "
                "psds2_op, mpauc, mauc, collar_f1, intersection_f1, segment_f1, clip_f1, event_error, "
                "segment_error",
                (int)(len < 80 ? len : 80), p);
        }
        int i = 0;
        while (i < *n && strcmp(wanted[i].name, w.name) != 0) i++;
        if (i < *n) continue;
        if (*n == WANTED_MAX) return es_err_set(err, ES_EUSAGE, "metrics: got more than %d", WANTED_MAX);
        wanted[(*n)++] = w;
    }
    return 0;
}

int es_evaluation_check_names(const char *names, struct es_err *err) {
    struct wanted wanted[WANTED_MAX];
    int n;
    return parse_names(wanted, &n, names, err);
}

/* ---- rows */

static struct es_evaluation_row *add_row(struct es_evaluation *e, const char *name, struct es_err *err) {
    struct es_evaluation_row *row = &e->rows[e->n_rows++];
    row->name = es_strdup(name, err);
    row->class_value = es_alloc((size_t)e->n_classes, sizeof *row->class_value, err);
    return row->name && row->class_value ? row : NULL;
}

int es_evaluation_new(struct es_evaluation **out, const struct es_evalset *set, const char *names,
                      struct es_err *err) {
    struct wanted wanted[WANTED_MAX];
    int rc = -ES_EIO, n = 0;
    *out = NULL;
    ES_TRY(parse_names(wanted, &n, names ? names : "psds1,psds2,collar_f1,intersection_f1", err));
    struct es_evaluation *e = *out = es_alloc(1, sizeof *e, err);
    if (!e) goto done;
    e->n_clips = set->n_clips;
    e->n_clips_scored = set->scores->n_clips;
    e->dur_s = set->dur_s;
    e->n_classes = set->n_classes;
    e->rows = es_alloc(2 * (size_t)n, sizeof *e->rows, err);
    if (!e->rows) goto done;
    rc = evalset_copy_names(&e->class_name, set, err);
    for (int i = 0; i < n; i++) {
        const struct metric *m = wanted[i].metric;
        struct es_evaluation_row *row = rc == 0 ? add_row(e, wanted[i].name, err) : NULL;
        if (rc == 0 && (!row || (m->second && !add_row(e, m->second, err)))) rc = -ES_EIO;
        if (set->comm) rc = es_err_agree_all(set->comm, rc, err);
        if (rc == 0) rc = m->compute(row, set, &wanted[i], err);
        if (set->comm) rc = es_err_agree_all(set->comm, rc, err);
        if (rc < 0) break;
    }
done:
    if (rc < 0) es_evaluation_free(out);
    return rc;
}

void es_evaluation_free(struct es_evaluation **e) {
    if (!*e) return;
    for (int i = 0; i < (*e)->n_rows; i++) {
        es_free(&(*e)->rows[i].class_value);
        es_free(&(*e)->rows[i].name);
        es_psds_free(&(*e)->rows[i].psds);
    }
    es_free(&(*e)->rows);
    evalset_free_names(&(*e)->class_name, (*e)->n_classes);
    es_free(e);
}

/* ---- curves */

static void add_number(struct es_text *t, const char *before, double v) {
    char digits[32];
    es_text_from_double(v, digits);
    es_text_add(t, "%s%s", before, digits);
}

static void add_curve(struct es_text *t, const char *metric, const char *class_name,
                      const struct es_roc *roc) {
    for (int64_t i = 0; i < roc->n; i++) {
        es_text_add(t, "%s\t%s", metric, class_name);
        add_number(t, "\t", roc->x[i]);
        add_number(t, "\t", roc->y[i]);
        if (roc->score)
            add_number(t, "\t", roc->score[i]);
        else
            es_text_add(t, "\t");
        es_text_add(t, "\n");
    }
}

int es_evaluation_save_roc(const struct es_evaluation *e, const char *path, struct es_err *err) {
    struct es_text t = {0};
    int rc = 0, n = 0;
    es_text_add(&t, "metric\tclass\tefpr\ttpr\tscore\n");
    for (int r = 0; r < e->n_rows; r++) {
        const struct es_psds *p = e->rows[r].psds;
        if (!p) continue;
        n++;
        add_curve(&t, e->rows[r].name, "", &p->roc);
        for (int k = 0; k < p->n_classes; k++)
            add_curve(&t, e->rows[r].name, p->class_name[k], &p->class_roc[k]);
    }
    if (n == 0) rc = es_err_set(err, ES_EUSAGE, "--roc: got metrics without a PSD-ROC curve, want some psds");
    if (rc == 0) rc = es_text_check(&t, err);
    if (rc == 0) rc = es_text_save(path, t.s, t.n, err);
    es_text_free(&t);
    return rc;
}
