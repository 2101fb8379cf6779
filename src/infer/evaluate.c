/* Metrics by name: from a set to rows, from files to a set. */
#include "earshot/evaluate.h"

#include <math.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"
#include "earshot/tsv.h"
#include "evaluate_impl.h"

/* ---- rows */

/* One name makes up to two rows. */
struct metric {
    const char *name, *second;
    int (*compute)(struct es_evaluation_row row[2], const struct es_evalset *set, const struct metric *m,
                   struct es_err *err);
    enum es_f1_kind kind;
    double fpr_max;
};

static int row_psds(struct es_evaluation_row row[2], const struct es_evalset *set, const struct metric *m,
                    struct es_err *err) {
    const struct es_psds_params p = strcmp(m->name, "psds1") == 0 ? es_psds1_params() : es_psds2_params();
    struct es_psds *psds = NULL;
    ES_TRY(es_psds_new(&psds, set, &p, err));
    row[0].value = psds->value;
    row[0].extra_name = "macro";
    row[0].extra = psds->macro;
    memcpy(row[0].class_value, psds->class_value, (size_t)set->n_classes * sizeof(double));
    es_psds_free(&psds);
    return 0;
}

static int row_auroc(struct es_evaluation_row row[2], const struct es_evalset *set, const struct metric *m,
                     struct es_err *err) {
    const struct es_auroc_params p = {.segment_s = 1, .fpr_max = m->fpr_max};
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

static int row_f1(struct es_evaluation_row row[2], const struct es_evalset *set, const struct metric *m,
                  struct es_err *err) {
    const struct es_f1_params p = es_f1_params_default();
    struct es_f1 *f1 = NULL;
    ES_TRY(es_f1_new(&f1, set, m->kind, &p, 0.5, err));
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

static const struct metric metrics[] = {
    {.name = "psds1", .compute = row_psds},
    {.name = "psds2", .compute = row_psds},
    {.name = "mpauc", .second = "mpauc_staircase", .compute = row_auroc, .fpr_max = 0.1},
    {.name = "mauc", .second = "mauc_staircase", .compute = row_auroc, .fpr_max = 1},
    {.name = "collar_f1", .second = "collar_f1_best", .compute = row_f1, .kind = ES_F1_COLLAR},
    {.name = "intersection_f1",
     .second = "intersection_f1_best",
     .compute = row_f1,
     .kind = ES_F1_INTERSECTION},
    {.name = "segment_f1", .second = "segment_f1_best", .compute = row_f1, .kind = ES_F1_SEGMENT},
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };

/* Metrics of a comma-separated list into wanted[N_METRICS]; either of a metric's names will do. */
static int parse_names(bool wanted[N_METRICS], const char *names, struct es_err *err) {
    for (const char *p = names, *end; p; p = end ? end + 1 : NULL) {
        end = strchr(p, ',');
        const size_t n = end ? (size_t)(end - p) : strlen(p);
        char name[64] = {0};
        if (n < sizeof name) memcpy(name, p, n);
        int i = 0;
        while (i < N_METRICS && strcmp(name, metrics[i].name) != 0 &&
               !(metrics[i].second && strcmp(name, metrics[i].second) == 0))
            i++;
        if (i == N_METRICS)
            return es_err_set(err, ES_EUSAGE,
                              "metrics: got '%.*s', want some of psds1, psds2, mpauc, mauc, collar_f1, "
                              "intersection_f1, segment_f1",
                              (int)(n < 80 ? n : 80), p);
        wanted[i] = true;
    }
    return 0;
}

static struct es_evaluation_row *add_row(struct es_evaluation *e, const char *name, struct es_err *err) {
    struct es_evaluation_row *row = &e->rows[e->n_rows];
    row->name = name;
    row->class_value = es_alloc((size_t)e->n_classes, sizeof *row->class_value, err);
    if (!row->class_value) return NULL;
    e->n_rows++;
    return row;
}

int es_evaluation_new(struct es_evaluation **out, const struct es_evalset *set, const char *names,
                      struct es_err *err) {
    bool wanted[N_METRICS] = {false};
    int rc = -ES_EIO;
    *out = NULL;
    ES_TRY(parse_names(wanted, names ? names : "psds1,psds2,collar_f1,intersection_f1", err));
    struct es_evaluation *e = *out = es_alloc(1, sizeof *e, err);
    if (!e) return rc;
    e->n_clips = set->n_clips;
    e->n_clips_scored = set->scores->n_clips;
    e->dur_s = set->dur_s;
    e->n_classes = set->n_classes;
    e->rows = es_alloc(2 * N_METRICS, sizeof *e->rows, err);
    if (!e->rows) goto done;
    ES_GO(evalset_copy_names(&e->class_name, set, err));
    for (int i = 0; i < N_METRICS; i++) {
        if (!wanted[i]) continue;
        struct es_evaluation_row *row = add_row(e, metrics[i].name, err);
        rc = row && (!metrics[i].second || add_row(e, metrics[i].second, err)) ? 0 : -ES_EIO;
        if (rc < 0) goto done;
        ES_GO(metrics[i].compute(row, set, &metrics[i], err));
    }
    rc = 0;
done:
    if (rc < 0) es_evaluation_free(out);
    return rc;
}

void es_evaluation_free(struct es_evaluation **e) {
    if (!*e) return;
    for (int i = 0; i < (*e)->n_rows; i++) es_free(&(*e)->rows[i].class_value);
    es_free(&(*e)->rows);
    evalset_free_names(&(*e)->class_name, (*e)->n_classes);
    es_free(e);
}

double es_evaluation_value(const struct es_evaluation *e, const char *name) {
    for (int i = 0; i < e->n_rows; i++)
        if (strcmp(e->rows[i].name, name) == 0) return e->rows[i].value;
    return (double)NAN;
}

void es_evaluation_write(const struct es_evaluation *e, struct es_json *json) {
    for (int i = 0; i < e->n_rows; i++) {
        const struct es_evaluation_row *row = &e->rows[i];
        es_json_key(json, row->name);
        es_json_begin_object(json);
        es_json_put_number(json, "value", row->value);
        if (row->extra_name) es_json_put_number(json, row->extra_name, row->extra);
        es_json_key(json, "classes");
        es_json_begin_object(json);
        for (int k = 0; k < e->n_classes; k++)
            es_json_put_number(json, e->class_name[k], row->class_value[k]);
        es_json_end_object(json);
        es_json_end_object(json);
    }
}

void es_evaluation_print(const struct es_evaluation *e, struct es_text *text) {
    int name_width = (int)strlen("all classes");
    for (int k = 0; k < e->n_classes; k++)
        if ((int)strlen(e->class_name[k]) > name_width) name_width = (int)strlen(e->class_name[k]);
    es_text_add(text, "%-*s", name_width, "");
    for (int i = 0; i < e->n_rows; i++) es_text_add(text, "  %7s", e->rows[i].name);
    for (int k = -1; k < e->n_classes; k++) {
        es_text_add(text, "\n%-*s", name_width, k < 0 ? "all classes" : e->class_name[k]);
        for (int i = 0; i < e->n_rows; i++) {
            const struct es_evaluation_row *row = &e->rows[i];
            const int width = (int)strlen(row->name);
            es_text_add(text, "  %*.4f", width > 7 ? width : 7, k < 0 ? row->value : row->class_value[k]);
        }
    }
    es_text_add(text, "\n%lld of %lld clips, %.1f s\n", (long long)e->n_clips, (long long)e->n_clips_scored,
                e->dur_s);
}

/* ---- files */

/* One name a line. */
static int read_classes(struct es_names **names, const char *path, struct es_err *err) {
    static const char *const columns[] = {"class"};
    struct es_tsv *t = NULL;
    int rc = es_names_new(names, err);
    if (rc < 0) goto done;
    ES_GO(es_tsv_open(&t, path, columns, 1, ES_TSV_NO_HEADER, err));
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        const int64_t i = es_names_add(*names, es_tsv_text(t, row, 0), err);
        rc = i < 0 ? (int)i : i < row ? es_tsv_wrong(t, row, 0, "every class once", err) : 0;
        if (rc < 0) goto done;
    }
    if (es_tsv_rows(t) == 0) rc = es_err_set(err, ES_EDATA, "%s: got no class", path);
done:
    es_tsv_close(&t);
    return rc;
}

static int filter(struct es_scores **scores, struct es_err *err) {
    struct es_scores *s = *scores, *filtered = NULL;
    int rc = -ES_EIO;
    int *window = es_alloc((size_t)s->n_classes, sizeof *window, err);
    if (!window) return rc;
    for (int k = 0; k < s->n_classes; k++) {
        const int known = es_class_find(s->classes[k]);
        if (known < 0) {
            rc = es_err_set(
                err, ES_EUSAGE,
                "postprocess median: class '%s': got no window for it; want the 27 classes of the recipe",
                s->classes[k]);
            goto done;
        }
        window[k] = es_classes[known].median_frames;
    }
    ES_GO(es_scores_median(&filtered, s, window, err));
    es_scores_free(scores);
    *scores = filtered;
done:
    es_free(&window);
    return rc;
}

static int load(struct es_scores **scores, const struct es_evaluate_input *in, const struct es_truth *truth,
                struct es_err *err) {
    if (!in->predictions + !in->scores + !in->detections != 2)
        return es_err_set(err, ES_EUSAGE, "evaluate: want one of --predictions, --scores, --detections");
    if (in->detections) {
        if (in->median || truth->has_confidence)
            return es_err_set(err, ES_EUSAGE, "evaluate: --detections: got %s; want scores for that",
                              in->median ? "--postprocess median" : "soft labels (a column confidence)");
        return es_scores_load_detections(scores, in->detections, truth, err);
    }
    ES_TRY(in->scores ? es_scores_load(scores, in->scores, err)
                      : es_scores_load_predictions(scores, in->predictions, err));
    return in->median ? filter(scores, err) : 0;
}

/* MAESTRO: recordings take the place of clips. */
static int join(struct es_scores **scores, struct es_truth **truth, const struct es_evaluate_input *in,
                struct es_err *err) {
    struct es_scores *joined = NULL;
    struct es_truth *hard = NULL;
    const struct es_maestro_params p = {.positive_only = in->positive_only, .subset = true};
    ES_TRY(es_maestro_join(&joined, &hard, *scores, *truth, &p, err));
    es_scores_free(scores);
    es_truth_free(truth);
    *scores = joined;
    *truth = hard;
    return 0;
}

int es_evaluate_files(struct es_evaluation **out, const struct es_evaluate_input *in, struct es_err *err) {
    int rc = 0;
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    struct es_names *names = NULL;
    const char **class_list = NULL;
    struct es_evalset *set = NULL;
    struct es_evalset_params p = {.keep_empty = in->keep_empty, .subset = in->predictions || !in->keep_empty};
    const char *wanted = in->metrics;
    bool checked[N_METRICS];
    *out = NULL;
    if (wanted) ES_GO(parse_names(checked, wanted, err)); /* before the long part */
    if (in->classes) {
        ES_GO(read_classes(&names, in->classes, err));
        p.n_classes = (int)es_names_count(names);
        p.classes = class_list = es_alloc((size_t)p.n_classes, sizeof *class_list, err);
        rc = class_list ? 0 : -ES_EIO;
        if (rc < 0) goto done;
        for (int k = 0; k < p.n_classes; k++) class_list[k] = es_names_get(names, k);
    }
    ES_GO(es_truth_load(&truth, in->ground_truth, in->durations, err));
    ES_GO(load(&scores, in, truth, err));
    if (truth->has_confidence) {
        ES_GO(join(&scores, &truth, in, err));
        p.subset = false;
        if (!wanted) wanted = "mpauc,segment_f1";
    }
    ES_GO(es_evalset_new(&set, scores, truth, &p, err));
    if (!in->check) ES_GO(es_evaluation_new(out, set, wanted, err));
done:
    es_evalset_free(&set);
    es_free(&class_list);
    es_names_free(&names);
    es_truth_free(&truth);
    es_scores_free(&scores);
    return rc;
}
