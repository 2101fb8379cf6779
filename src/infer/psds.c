#include "earshot/psds.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct es_psds_params es_psds1_params(void) {
    return (struct es_psds_params){
        .dtc = 0.7, .gtc = 0.7, .cttc = (double)NAN, .alpha_st = 1, .efpr_max = 100, .unit_s = 3600};
}

struct es_psds_params es_psds2_params(void) {
    return (struct es_psds_params){
        .dtc = 0.1, .gtc = 0.1, .cttc = 0.3, .alpha_ct = 0.5, .alpha_st = 1, .efpr_max = 100, .unit_s = 3600};
}

static int check_params(const struct es_psds_params *p, int n_classes, struct es_err *err) {
    if (!(p->dtc >= 0 && p->dtc <= 1 && p->gtc >= 0 && p->gtc <= 1 &&
          (isnan(p->cttc) || (p->cttc >= 0 && p->cttc <= 1))))
        return es_err_set(err, ES_EUSAGE, "PSDS: got dtc %g, gtc %g, cttc %g; want 0..1", p->dtc, p->gtc,
                          p->cttc);
    if (!(p->alpha_ct >= 0 && p->alpha_st >= 0 && p->efpr_max > 0 && isfinite(p->efpr_max) && p->unit_s > 0))
        return es_err_set(
            err, ES_EUSAGE,
            "PSDS: got alpha_ct %g, alpha_st %g, limit %g, unit %g s; want no negative weight, a limit "
            "and a unit above 0",
            p->alpha_ct, p->alpha_st, p->efpr_max, p->unit_s);
    if ((p->alpha_ct > 0) == isnan(p->cttc))
        return es_err_set(err, ES_EUSAGE, "PSDS: got alpha_ct %g %s cttc; want both or none", p->alpha_ct,
                          isnan(p->cttc) ? "without" : "with");
    if (p->alpha_ct > 0 && n_classes < 2)
        return es_err_set(err, ES_EUSAGE,
                          "PSDS: got one class and alpha_ct %g; want another class for cross triggers",
                          p->alpha_ct);
    return 0;
}

static int roc_alloc(struct es_roc *r, int64_t n, bool scores, struct es_err *err) {
    r->x = es_alloc((size_t)n, sizeof *r->x, err);
    r->y = es_alloc((size_t)n, sizeof *r->y, err);
    if (scores) r->score = es_alloc((size_t)n, sizeof *r->score, err);
    return r->x && r->y && (!scores || r->score) ? 0 : -ES_EIO;
}

static void roc_free(struct es_roc *r) {
    es_free(&r->score);
    es_free(&r->y);
    es_free(&r->x);
}

/* Area below the staircase up to x_max. */
static double area(const struct es_roc *r, double x_max) {
    double sum = 0;
    for (int64_t i = 0; i < r->n; i++) sum += r->y[i] * ((i + 1 < r->n ? r->x[i + 1] : x_max) - r->x[i]);
    return sum;
}

struct point { /* operating point */
    double efpr;
    int32_t tp;
    uint32_t order; /* 0: nothing detected; then the levels from the highest */
};
_Static_assert(sizeof(struct point) <= sizeof(struct stat_item), "points are kept in the space of items");

static int compare_points(const void *x, const void *y) {
    const struct point *a = x, *b = y;
    if (a->efpr != b->efpr) return a->efpr < b->efpr ? -1 : 1;
    if (a->tp != b->tp) return a->tp < b->tp ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

struct psds_job {
    struct es_roc *roc; /* [n_classes] */
    const struct es_psds_params *params;
};

/* Operating points with efpr <= efpr_max into *point; all of them, or only those no earlier one stands in for
 * (oracle). */
static int64_t operating_points(const struct stat_ws *ws, const struct es_evalset *set, int i_class,
                                const struct es_psds_params *p, int64_t *n_ct, struct point *point) {
    int64_t n = 0, ct = 0;
    const double fp_most = p->efpr_max / p->unit_s * set->dur_s + 1; /* more is surely too many */
    double ct_rate = 0; /* mean over the other classes, per second of their sound */
    bool ct_stale = false;
    for (int64_t i = -1; i < ws->n_levels; i++) {
        if (i >= 0 && ws->score[i] == -HUGE_VAL) break; /* no threshold lies below: not an operating point */
        const int32_t tp = i < 0 ? 0 : ws->tp[i], fp = i < 0 ? 0 : ws->fp[i];
        for (; ct < ws->n_ct && (int64_t)ws->ct[ct].level == i; ct++, ct_stale = true)
            n_ct[ws->ct[ct].i_class] += ws->ct[ct].delta;
        if (fp > fp_most) continue;
        const double fpr = fp / set->dur_s;
        if (ct_stale) {
            ct_rate = 0;
            for (int k = 0; k < set->n_classes; k++)
                if (k != i_class) ct_rate += (double)n_ct[k] / fmax(set->t_ref_s[k], 1e-12);
            ct_rate /= set->n_classes - 1;
            ct_stale = false;
        }
        const double efpr = (fpr + p->alpha_ct * ct_rate) * p->unit_s;
        if (efpr > p->efpr_max) continue;
        if (!p->non_oracle && n > 0 && point[n - 1].efpr <= efpr && point[n - 1].tp >= tp) continue;
        point[n] = (struct point){.efpr = efpr, .tp = tp, .order = (uint32_t)(i + 1)};
        n++;
    }
    return n;
}

static int class_roc(struct stat_ws *ws, const struct es_evalset *set, int i_class,
                     const struct es_psds_params *p, struct es_roc *roc, struct es_err *err) {
    struct es_f1_params counting = es_f1_params_default();
    counting.dtc = p->dtc;
    counting.gtc = p->gtc;
    counting.cttc = p->cttc;
    int rc = -ES_EIO;
    int64_t *n_ct = es_alloc((size_t)set->n_classes, sizeof *n_ct, err);
    if (!n_ct) goto done;
    ES_GO(stat_curve(ws, set, i_class, ES_F1_INTERSECTION, &counting, err));
    struct point *point = (void *)ws->spare; /* cap + 1 of them */
    const int64_t n = operating_points(ws, set, i_class, p, n_ct, point);
    qsort(point, (size_t)n, sizeof *point, compare_points);
    ES_GO(roc_alloc(roc, n, true, err));
    int32_t highest = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!p->non_oracle && point[i].tp <= highest) continue;
        highest = point[i].tp;
        if (roc->n > 0 && roc->x[roc->n - 1] == point[i].efpr) roc->n--; /* of one efpr the last */
        roc->x[roc->n] = point[i].efpr;
        roc->y[roc->n] = point[i].tp / fmax((double)set->n_ref[i_class], 1);
        roc->score[roc->n++] = point[i].order == 0 ? HUGE_VAL : ws->score[point[i].order - 1];
    }
done:
    es_free(&n_ct);
    return rc;
}

static int psds_class(struct stat_ws *ws, const struct es_evalset *set, int i_class, void *ctx,
                      struct es_err *err) {
    const struct psds_job *job = ctx;
    return class_roc(ws, set, i_class, job->params, &job->roc[i_class], err);
}

int psds_class_value(struct stat_ws *ws, const struct es_evalset *set, int i_class,
                     const struct es_psds_params *p, double *value, struct es_err *err) {
    struct es_roc roc = {0};
    const int rc = class_roc(ws, set, i_class, p, &roc, err);
    *value = rc == 0 ? area(&roc, p->efpr_max) / p->efpr_max : 0;
    roc_free(&roc);
    return rc;
}

static int compare_doubles(const void *x, const void *y) {
    const double *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* Mean less alpha_st standard deviations of all class curves, at every efpr where one of them steps. */
static int effective_roc(struct es_psds *psds, double alpha_st, double efpr_max, struct es_err *err) {
    const int K = psds->n_classes;
    struct es_roc *roc = &psds->roc;
    int64_t n = 0;
    for (int k = 0; k < K; k++) n += psds->class_roc[k].n;
    int rc = -ES_EIO;
    int64_t *at = es_alloc((size_t)K, sizeof *at, err); /* points of each class passed */
    if (!at) goto done;
    ES_GO(roc_alloc(roc, n + 1, false, err));
    for (int k = 0; k < K; k++) {
        memcpy(roc->x + roc->n, psds->class_roc[k].x, (size_t)psds->class_roc[k].n * sizeof *roc->x);
        roc->n += psds->class_roc[k].n;
    }
    qsort(roc->x, (size_t)roc->n, sizeof *roc->x, compare_doubles);
    n = roc->n;
    roc->n = 0;
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || roc->x[i] != roc->x[i - 1]) roc->x[roc->n++] = roc->x[i];
    for (int64_t i = 0; i < roc->n; i++) {
        double mean = 0, variance = 0;
        for (int k = 0; k < K; k++) { /* every class starts at efpr 0, so at[k] > 0 */
            const struct es_roc *c = &psds->class_roc[k];
            while (at[k] < c->n && c->x[at[k]] <= roc->x[i]) at[k]++;
            mean += c->y[at[k] - 1];
        }
        mean /= K;
        for (int k = 0; k < K; k++) {
            double d = psds->class_roc[k].y[at[k] - 1] - mean;
            variance += d * d;
        }
        roc->y[i] = fmax(0, mean - alpha_st * sqrt(variance / K));
    }
    roc->x[roc->n] = efpr_max;
    roc->y[roc->n] = roc->y[roc->n - 1];
    roc->n++;
    rc = 0;
done:
    es_free(&at);
    return rc;
}

/* From the class curves to everything else. */
int psds_finish(struct es_psds *psds, double alpha_st, double efpr_max, struct es_err *err) {
    psds->macro = 0;
    for (int k = 0; k < psds->n_classes; k++) {
        psds->class_value[k] = area(&psds->class_roc[k], efpr_max) / efpr_max;
        psds->macro += psds->class_value[k];
    }
    psds->macro /= psds->n_classes;
    ES_TRY(effective_roc(psds, alpha_st, efpr_max, err));
    psds->value = area(&psds->roc, efpr_max) / efpr_max;
    return 0;
}

/* Class curves to all ranks. */
static int gather_rocs(struct es_psds *psds, const struct es_evalset *set, struct es_err *err) {
    const int K = set->n_classes;
    if (!set->comm || es_comm_size(set->comm) == 1) return 0;
    int64_t *n = es_alloc((size_t)K, sizeof *n, err);
    int rc = es_err_agree_all(set->comm, n ? 0 : -ES_EIO, err);
    if (rc < 0) goto done;
    for (int k = 0; k < K; k++) n[k] = psds->class_roc[k].n;
    ES_GO(stat_gather(set, n, sizeof *n, err));
    for (int k = 0; k < K && rc == 0; k++)
        if (stat_owner(set, k) != es_comm_rank(set->comm)) {
            rc = roc_alloc(&psds->class_roc[k], n[k], true, err);
            psds->class_roc[k].n = n[k];
        }
    ES_GO(es_err_agree_all(set->comm, rc, err));
    for (int k = 0; k < K; k++) {
        struct es_roc *roc = &psds->class_roc[k];
        double *part[3] = {roc->x, roc->y, roc->score};
        for (int i = 0; i < 3; i++)
            es_comm_bcast_all(set->comm, part[i], (size_t)n[k] * sizeof(double), stat_owner(set, k));
    }
done:
    es_free(&n);
    return rc;
}

int es_psds_new(struct es_psds **out, const struct es_evalset *set, const struct es_psds_params *params,
                struct es_err *err) {
    *out = NULL;
    ES_TRY(check_params(params, set->n_classes, err));
    int rc = -ES_EIO;
    struct es_psds *psds = *out = es_alloc(1, sizeof *psds, err);
    if (psds) {
        psds->n_classes = set->n_classes;
        psds->class_value = es_alloc((size_t)set->n_classes, sizeof *psds->class_value, err);
        psds->class_roc = es_alloc((size_t)set->n_classes, sizeof *psds->class_roc, err);
        if (psds->class_value && psds->class_roc) rc = evalset_copy_names(&psds->class_name, set, err);
    }
    ES_GO(stat_agree(set, rc, err));
    struct psds_job job = {.roc = psds->class_roc, .params = params};
    ES_GO(stat_each_class(set, set->n_frames, psds_class, &job, err));
    ES_GO(gather_rocs(psds, set, err));
    ES_GO(psds_finish(psds, params->alpha_st, params->efpr_max, err));
done:
    if (rc < 0) es_psds_free(out);
    return rc;
}

void es_psds_free(struct es_psds **psds) {
    if (!*psds) return;
    evalset_free_names(&(*psds)->class_name, (*psds)->n_classes);
    for (int k = 0; k < (*psds)->n_classes && (*psds)->class_roc; k++) roc_free(&(*psds)->class_roc[k]);
    roc_free(&(*psds)->roc);
    es_free(&(*psds)->class_roc);
    es_free(&(*psds)->class_value);
    es_free(psds);
}
