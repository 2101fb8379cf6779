/* Curves of counts, and F1 from them (spec section 7.2, 7.3). */
#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct es_f1_params es_f1_params_default(void) {
    return (struct es_f1_params){.dtc = 0.5,
                                 .gtc = 0.5,
                                 .cttc = (double)NAN,
                                 .onset_collar_s = 0.2,
                                 .offset_collar_s = 0.2,
                                 .offset_collar_rate = 0.2,
                                 .segment_s = 1};
}

/* The whole clip is a segment without end. */
static double segment_of(enum es_f1_kind kind, const struct es_f1_params *params) {
    return kind == ES_F1_CLIP ? HUGE_VAL : params->segment_s;
}

static bool is_segments(enum es_f1_kind kind) {
    return kind == ES_F1_SEGMENT || kind == ES_F1_CLIP;
}

int64_t stat_capacity(const struct es_evalset *set, enum es_f1_kind kind, const struct es_f1_params *params) {
    return is_segments(kind) ? segments_count(set, segment_of(kind, params)) : set->n_frames;
}

int stat_curve(struct stat_ws *ws, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
               const struct es_f1_params *params, struct es_err *err) {
    if (is_segments(kind)) return segments_class(ws, set, i_class, segment_of(kind, params), err);
    return stat_class(ws, set, i_class, kind == ES_F1_COLLAR ? &stat_collar : &stat_intersection, params,
                      err);
}

static int check_params(const struct es_f1_params *p, struct es_err *err) {
    if (p->dtc >= 0 && p->dtc <= 1 && p->gtc >= 0 && p->gtc <= 1 && p->onset_collar_s >= 0 &&
        p->offset_collar_s >= 0 && p->offset_collar_rate >= 0 && p->segment_s > 0 && isfinite(p->segment_s))
        return 0;
    return es_err_set(
        err, ES_EUSAGE,
        "F1: got dtc %g, gtc %g, collars %g %g s, rate %g, segments of %g s; want dtc and gtc in "
        "0..1, collars >= 0, segments > 0",
        p->dtc, p->gtc, p->onset_collar_s, p->offset_collar_s, p->offset_collar_rate, p->segment_s);
}

void es_curve_free(struct es_curve **c) {
    if (!*c) return;
    es_free(&(*c)->score);
    es_free(&(*c)->tp);
    es_free(&(*c)->fp);
    es_free(&(*c)->ct);
    es_free(c);
}

/* What a finished workspace holds, as a curve that borrows from it. */
static struct es_curve view(const struct stat_ws *ws, const struct es_evalset *set, int i_class,
                            enum es_f1_kind kind) {
    struct es_curve c = {
        .n = ws->n_levels, .score = ws->score, .tp = ws->tp, .fp = ws->fp, .n_ct = ws->n_ct, .ct = ws->ct};
    c.n_ref = set->n_ref[i_class];
    if (is_segments(kind)) { /* the lowest level has all segments */
        c.n_ref = c.n ? c.tp[c.n - 1] : 0;
        c.n_all = c.n ? c.n_ref + c.fp[c.n - 1] : 0;
    }
    return c;
}

static void *copy(const void *from, int64_t n, size_t bytes, struct es_err *err) {
    void *to = es_alloc((size_t)n, bytes, err);
    if (to && n) memcpy(to, from, (size_t)n * bytes);
    return to;
}

int es_curve_new(struct es_curve **out, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
                 const struct es_f1_params *params, struct es_err *err) {
    ES_TRY(check_params(params, err));
    struct stat_ws ws;
    *out = NULL;
    ES_TRY(stat_ws_init(&ws, set, stat_capacity(set, kind, params), err));
    int rc = 0;
    ES_GO(stat_curve(&ws, set, i_class, kind, params, err));
    rc = -ES_EIO;
    struct es_curve *c = *out = es_alloc(1, sizeof *c, err);
    if (!c) goto done;
    *c = view(&ws, set, i_class, kind);
    c->score = copy(ws.score, c->n, sizeof *c->score, err);
    c->tp = copy(ws.tp, c->n, sizeof *c->tp, err);
    c->fp = copy(ws.fp, c->n, sizeof *c->fp, err);
    c->ct = copy(ws.ct, c->n_ct, sizeof *c->ct, err);
    if (c->score && c->tp && c->fp && c->ct) rc = 0;
done:
    if (rc < 0) es_curve_free(out);
    stat_ws_fini(&ws);
    return rc;
}

int64_t es_curve_at(const struct es_curve *c, double threshold) {
    int64_t lo = 0, hi = c->n; /* levels above the threshold: 0..lo-1 */
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        if (c->score[mid] > threshold)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo - 1;
}

static double f_of(double precision, double recall) {
    double sum = precision + recall;
    return 2 * precision * recall / (sum > 1e-15 ? sum : 1e-15);
}

/* F, precision, recall from counts; precision is `undetected` where nothing is detected. */
static struct es_f1_value value_of(int64_t tp, int64_t fp, int64_t n_ref, double undetected) {
    struct es_f1_value v = {.tp = tp, .fp = fp, .n_ref = n_ref};
    v.precision = tp + fp > 0 ? (double)tp / (double)(tp + fp) : undetected;
    v.recall = (double)tp / (double)(n_ref > 1 ? n_ref : 1);
    v.f = f_of(v.precision, v.recall);
    return v;
}

static struct es_f1_value value_at(const struct es_curve *c, int64_t level, double threshold) {
    struct es_f1_value v = value_of(level < 0 ? 0 : c->tp[level], level < 0 ? 0 : c->fp[level], c->n_ref, 1);
    v.n_all = c->n_all;
    v.threshold = threshold;
    return v;
}

static struct es_f1_value best_of(const struct es_curve *c) {
    int64_t best = -1;
    double best_f = 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (c->tp[i] == 0 || c->score[i] == -HUGE_VAL)
            continue; /* F is 0; nothing is an operating point at -inf */
        double f = value_of(c->tp[i], c->fp[i], c->n_ref, 1).f;
        if (f > best_f) {
            best_f = f;
            best = i;
        }
    }
    double threshold = HUGE_VAL;
    if (best >= 0) threshold = best + 1 < c->n ? (c->score[best] + c->score[best + 1]) / 2 : -HUGE_VAL;
    return value_at(c, best, threshold);
}

static void average(const struct es_f1_value *v, int n, struct es_f1_value *macro,
                    struct es_f1_value *micro) {
    int64_t tp = 0, fp = 0, n_ref = 0;
    *macro = (struct es_f1_value){.threshold = (double)NAN};
    for (int k = 0; k < n; k++) {
        macro->f += v[k].f / n;
        macro->precision += v[k].precision / n;
        macro->recall += v[k].recall / n;
        tp += v[k].tp;
        fp += v[k].fp;
        n_ref += v[k].n_ref;
    }
    *micro = value_of(tp, fp, n_ref, 0);
    micro->threshold = (double)NAN;
}

struct f1_job {
    struct es_f1 *f1;
    enum es_f1_kind kind;
    const struct es_f1_params *params;
    double threshold;
};

static int f1_class(struct stat_ws *ws, const struct es_evalset *set, int i_class, void *ctx,
                    struct es_err *err) {
    const struct f1_job *job = ctx;
    ES_TRY(stat_curve(ws, set, i_class, job->kind, job->params, err));
    const struct es_curve c = view(ws, set, i_class, job->kind);
    const double th = job->params->class_threshold ? job->params->class_threshold[i_class] : job->threshold;
    job->f1->fixed[i_class] = value_at(&c, es_curve_at(&c, th), th);
    job->f1->best[i_class] = best_of(&c);
    return 0;
}

int f1_class_best(struct stat_ws *ws, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
                  const struct es_f1_params *params, struct es_f1_value *best, struct es_err *err) {
    ES_TRY(stat_curve(ws, set, i_class, kind, params, err));
    const struct es_curve c = view(ws, set, i_class, kind);
    *best = best_of(&c);
    return 0;
}

int es_f1_new(struct es_f1 **out, const struct es_evalset *set, enum es_f1_kind kind,
              const struct es_f1_params *params, double threshold, struct es_err *err) {
    *out = NULL;
    ES_TRY(check_params(params, err));
    const int K = set->n_classes;
    int rc = -ES_EIO;
    struct es_f1 *f1 = *out = es_alloc(1, sizeof *f1, err);
    if (f1) {
        f1->n_classes = K;
        f1->fixed = es_alloc((size_t)K, sizeof *f1->fixed, err);
        f1->best = es_alloc((size_t)K, sizeof *f1->best, err);
        if (f1->fixed && f1->best) rc = evalset_copy_names(&f1->class_name, set, err);
    }
    ES_GO(stat_agree(set, rc, err));
    struct f1_job job = {.f1 = f1, .kind = kind, .params = params, .threshold = threshold};
    ES_GO(stat_each_class(set, stat_capacity(set, kind, params), f1_class, &job, err));
    ES_GO(stat_gather(set, f1->fixed, sizeof *f1->fixed, err));
    ES_GO(stat_gather(set, f1->best, sizeof *f1->best, err));
    average(f1->fixed, K, &f1->fixed_macro, &f1->fixed_micro);
    average(f1->best, K, &f1->best_macro, &f1->best_micro);
done:
    if (rc < 0) es_f1_free(out);
    return rc;
}

void es_f1_free(struct es_f1 **f1) {
    if (!*f1) return;
    evalset_free_names(&(*f1)->class_name, (*f1)->n_classes);
    es_free(&(*f1)->fixed);
    es_free(&(*f1)->best);
    es_free(f1);
}
