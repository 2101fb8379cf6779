#include "earshot/mpauc.h"

#include <math.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct es_auroc_params es_mpauc_params(void) {
    return (struct es_auroc_params){.segment_s = 1, .fpr_max = 0.1};
}

/* Areas over the points (fp, tp) / (negatives, positives) from (0, 0) on, as far as fpr_max. */
static void areas(struct es_auroc_class *out, const struct stat_ws *ws, double fpr_max) {
    const double positives = (double)out->n_positive, negatives = (double)(out->n_segments - out->n_positive);
    double x0 = 0, y0 = 0;
    out->linear = out->staircase = 0;
    for (int64_t i = 0; i < ws->n_levels; i++) {
        const double x1 = ws->fp[i] / negatives, y1 = ws->tp[i] / positives;
        if (x1 > fpr_max) {
            const double y_cut = y0 + (fpr_max - x0) / (x1 - x0) * (y1 - y0);
            out->linear += (fpr_max - x0) * (y0 + y_cut) / 2;
            out->staircase += (fpr_max - x0) * y0;
            break;
        }
        out->linear += (x1 - x0) * (y0 + y1) / 2;
        out->staircase += (x1 - x0) * y0;
        x0 = x1;
        y0 = y1;
    }
    out->linear /= fpr_max;
    out->staircase /= fpr_max;
}

struct auroc_job {
    struct es_auroc *auroc;
    const struct es_auroc_params *params;
};

static int auroc_class(struct stat_ws *ws, const struct es_evalset *set, int i_class, void *ctx,
                       struct es_err *err) {
    const struct auroc_job *job = ctx;
    struct es_auroc_class *c = &job->auroc->classes[i_class];
    ES_TRY(segments_class(ws, set, i_class, job->params->segment_s, err));
    const int64_t last = ws->n_levels - 1; /* all segments are active there */
    c->n_positive = last < 0 ? 0 : ws->tp[last];
    c->n_segments = last < 0 ? 0 : c->n_positive + ws->fp[last];
    const bool defined = c->n_positive > 0 && c->n_positive < c->n_segments;
    if (!defined && set->is_sample) {
        c->linear = c->staircase = (double)NAN;
        return 0;
    }
    if (!defined)
        return es_err_set(
            err, ES_EDATA,
            "class '%s': got %lld positive of %lld segments; want positive and negative ones for an area "
            "under the ROC",
            set->class_name[i_class], (long long)c->n_positive, (long long)c->n_segments);
    areas(c, ws, job->params->fpr_max);
    return 0;
}

int es_auroc_new(struct es_auroc **out, const struct es_evalset *set, const struct es_auroc_params *params,
                 struct es_err *err) {
    *out = NULL;
    if (!(params->segment_s > 0 && isfinite(params->segment_s) && params->fpr_max > 0 &&
          params->fpr_max <= 1))
        return es_err_set(
            err, ES_EUSAGE,
            "area under the ROC: got segments of %g s, fpr up to %g; want more than 0, and 0..1",
            params->segment_s, params->fpr_max);
    int rc = -ES_EIO;
    const int K = set->n_classes;
    struct es_auroc *a = *out = es_alloc(1, sizeof *a, err);
    if (a) {
        a->n_classes = K;
        a->classes = es_alloc((size_t)K, sizeof *a->classes, err);
        if (a->classes) rc = evalset_copy_names(&a->class_name, set, err);
    }
    ES_GO(stat_agree(set, rc, err));
    struct auroc_job job = {.auroc = a, .params = params};
    ES_GO(stat_each_class(set, segments_count(set, params->segment_s), auroc_class, &job, err));
    ES_GO(stat_gather(set, a->classes, sizeof *a->classes, err));
    int n = 0;
    for (int k = 0; k < K; k++) {
        if (isnan(a->classes[k].linear)) continue; /* in a sample */
        a->linear += a->classes[k].linear;
        a->staircase += a->classes[k].staircase;
        n++;
    }
    a->linear = n > 0 ? a->linear / n : (double)NAN;
    a->staircase = n > 0 ? a->staircase / n : (double)NAN;
done:
    if (rc < 0) es_auroc_free(out);
    return rc;
}

void es_auroc_free(struct es_auroc **a) {
    if (!*a) return;
    evalset_free_names(&(*a)->class_name, (*a)->n_classes);
    es_free(&(*a)->classes);
    es_free(a);
}
