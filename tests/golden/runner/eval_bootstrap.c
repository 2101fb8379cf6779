/* Bootstrap: drawn clips, metrics of every sample, intervals; and the generator behind the draws. */
#include "earshot/bootstrap.h"
#include "earshot/labels.h"

#include "eval.h"

static const struct {
    const char *key, *row;
} rows[] = {{"psds1", "psds1"},
            {"psds2", "psds2"},
            {"collar_f1_at_0.5", "collar_f1"},
            {"collar_best_f1", "collar_f1_best"},
            {"mpauc_fpr0.1_linear_stable", "mpauc"}};

static int class_of(const struct es_bootstrap *b, const char *name) {
    for (int k = 0; k < b->n_classes; k++)
        if (strcmp(b->class_name[k], name) == 0) return k;
    return -1;
}

/* Micro averages and thresholds of a sample are not rows of the bootstrap: they come from the samples themselves, below. */
static bool elsewhere(const char *key) {
    return strcmp(key, "micro_average") == 0;
}

/* An object by class, with an average under one of several names. */
static void put_sample(struct ev *e, const struct es_bootstrap *b, const struct es_bootstrap_row *row, int s,
                       struct js *want) {
    for (struct js *v = want->first; v; v = v->next) {
        const int k = class_of(b, v->key);
        if (k >= 0)
            ev_put(e, v, EV_VALUE, row->class_value[s * b->n_classes + k]);
        else if (!elsewhere(v->key))
            ev_put(e, v, EV_VALUE, row->value[s]);
    }
}

static void put_interval(struct ev *e, struct js *want, struct es_interval x) {
    ev_put_list(e, want, EV_VALUE, (double[]){x.mean, x.low, x.high}, 3);
}

static void put_row(struct ev *e, const struct es_bootstrap *b, const struct es_bootstrap_row *row,
                    struct js *want) {
    struct js *values = js_get(want, "values"), *single = js_get(want, "single_class_values");
    struct js *ci = js_get(want, "confidence_interval_90"),
              *single_ci = js_get(want, "single_class_confidence_interval_90");
    int s = 0;
    for (struct js *v = values ? values->first : NULL; v && s < b->n_samples; v = v->next, s++) {
        if (v->type == JS_OBJECT)
            put_sample(e, b, row, s, v);
        else
            ev_put(e, v, EV_VALUE, row->value[s]);
    }
    s = 0;
    for (struct js *v = single ? single->first : NULL; v; v = v->next, s++) {
        if (v->type == JS_OBJECT) {
            if (s < b->n_samples) put_sample(e, b, row, s, v);
            continue;
        }
        const int k = class_of(b, v->key); /* by class: a value a sample */
        int i = 0;
        for (struct js *x = v->first; x && k >= 0 && i < b->n_samples; x = x->next, i++)
            ev_put(e, x, EV_VALUE, row->class_value[i * b->n_classes + k]);
    }
    if (ci && ci->type == JS_ARRAY) put_interval(e, ci, row->interval);
    struct js *by_class = ci && ci->type == JS_OBJECT ? ci : single_ci;
    for (struct js *v = by_class ? by_class->first : NULL; v; v = v->next) {
        const int k = class_of(b, v->key);
        if (k >= 0)
            put_interval(e, v, row->class_interval[k]);
        else if (!elsewhere(v->key))
            put_interval(e, v, row->interval);
    }
}

/* i-th element of a list under a key; NULL when there is none. */
static struct js *at(struct js *block, const char *key, int i) {
    struct js *list = js_get(block, key), *v = list ? list->first : NULL;
    for (; v && i > 0; i--) v = v->next;
    return v;
}

static void micro_and_thresholds(struct ev *e, const struct es_evalset *set, const int64_t *index,
                                 int n_samples) {
    struct js *fixed = js_get(e->root, "collar_f1_at_0.5"), *best = js_get(e->root, "collar_best_f1");
    const int64_t n = es_evalset_clips(set);
    double *micro[2] = {es_alloc((size_t)n_samples + 1, sizeof(double), NULL),
                        es_alloc((size_t)n_samples + 1, sizeof(double), NULL)};
    ES_ASSERT(micro[0] && micro[1]);
    for (int s = 0; s < n_samples; s++) {
        struct es_err err = {0};
        struct es_evalset *sample = NULL;
        struct es_f1 *f1 = NULL;
        const struct es_f1_params p = es_f1_params_default();
        struct js *th = at(best, "thresholds", s);
        int rc = es_evalset_resample(&sample, set, index + s * n, n, &err);
        if (rc == 0) rc = es_f1_new(&f1, sample, ES_F1_COLLAR, &p, 0.5, &err);
        if (!ev_error(e, e->root, rc, &err)) {
            micro[0][s] = f1->fixed_micro.f;
            micro[1][s] = f1->best_micro.f;
            ev_put(e, js_get(at(fixed, "values", s), "micro_average"), EV_VALUE, micro[0][s]);
            ev_put(e, js_get(at(best, "values", s), "micro_average"), EV_VALUE, micro[1][s]);
            for (struct js *x = th ? th->first : NULL; x; x = x->next)
                if (ev_class(sample, x->key) >= 0)
                    ev_put(e, x, EV_LEVEL, f1->best[ev_class(sample, x->key)].threshold);
        }
        es_f1_free(&f1);
        es_evalset_free(&sample);
    }
    for (int i = 0; i < 2; i++) {
        struct js *ci = js_get(js_get(i ? best : fixed, "confidence_interval_90"), "micro_average");
        const struct es_interval x = es_interval_of(micro[i], n_samples, 0.9);
        if (ci) put_interval(e, ci, x);
        es_free(&micro[i]);
    }
}

/* The legacy generator: first draws, and shuffles of 0..n-1. */
static void generator(struct ev *e) {
    struct es_mt19937 mt;
    for (struct js *v = e->root->first; v; v = v->next) {
        unsigned seed = 0;
        if (sscanf(v->key, "mt19937_seed%u_first", &seed) == 1) {
            es_mt_seed(&mt, seed);
            for (struct js *x = v->first; x; x = x->next) ev_put(e, x, EV_COUNT, (double)es_mt_u32(&mt));
        } else if (sscanf(v->key, "shuffle_seed%u_of", &seed) == 1) {
            int64_t *a = es_alloc((size_t)v->n + 1, sizeof *a, NULL), i = 0;
            ES_ASSERT(a);
            for (int64_t k = 0; k < v->n; k++) a[k] = k;
            es_mt_seed(&mt, seed);
            es_mt_shuffle(&mt, v->n, a);
            for (struct js *x = v->first; x; x = x->next) ev_put(e, x, EV_COUNT, (double)a[i++]);
            es_free(&a);
        }
    }
}

static void samples(struct ev *e, const struct es_evalset *set) {
    struct es_err err = {0};
    struct es_bootstrap *b = NULL;
    struct es_bootstrap_params p = es_bootstrap_params_default();
    p.n_samples = (int)js_number(e->root, "n_bootstrap_samples", p.n_samples);
    const int64_t n = es_evalset_clips(set);
    int64_t *index = es_alloc((size_t)(n * p.n_samples) + 1, sizeof *index, NULL), i = 0;
    ES_ASSERT(index);
    es_bootstrap_indices(index, n, p.n_samples, p.seed);
    struct js *drawn = js_get(e->root, "sample_clip_indices"), *ids = js_get(e->root, "clip_ids_sorted");
    for (struct js *s = drawn ? drawn->first : NULL; s; s = s->next)
        for (struct js *v = s->first; v; v = v->next, i++)
            ev_put(e, v, EV_COUNT, i < n * p.n_samples ? (double)index[i] : (double)NAN);
    i = 0;
    for (struct js *v = ids ? ids->first : NULL; v; v = v->next, i++)
        ev_put_same(e, v, i < n && strcmp(v->str, es_evalset_clip_id(set, i)) == 0);
    if (!ev_error(e, e->root, es_bootstrap_all(&b, set, NULL, "psds1,psds2,collar_f1,mpauc", &p, &err),
                  &err)) {
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            for (int k = 0; k < b->n_rows; k++)
                if (strcmp(b->rows[k].name, rows[r].row) == 0 && js_get(e->root, rows[r].key))
                    put_row(e, b, &b->rows[k], js_get(e->root, rows[r].key));
        micro_and_thresholds(e, set, index, p.n_samples);
    }
    es_bootstrap_free(&b);
    es_free(&index);
}

void ev_case_bootstrap(struct rn *run, const char *folder) {
    static const char *const inputs[] = {"case", "about", "n_bootstrap_samples", "percentile_definition"};
    struct ev e;
    char p[3][1200], from[300];
    struct es_err err = {0};
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    struct es_evalset *set = NULL;
    const char *other =
        ev_folder(run, "*synthetic*"); /* scores, ground truth and durations are those of case 05 */
    if (!ev_open(&e, run, folder, "expected.json.gz")) return;
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) ev_input(js_get(e.root, inputs[i]));
    generator(&e);
    if (!other) {
        ev_skip(&e, e.root, "the scores are in the folder of the synthetic case, which is not there");
    } else {
        snprintf(from, sizeof from, "%s", other);
        int rc = es_scores_load(&scores, ev_path(run, from, "scores.h5", p[0]), &err);
        if (rc == 0)
            rc = es_truth_load(&truth, ev_path(run, from, "ground_truth.tsv", p[1]),
                               ev_path(run, from, "audio_durations.tsv", p[2]), &err);
        if (rc == 0) rc = es_evalset_new(&set, scores, truth, &(struct es_evalset_params){0}, &err);
        if (!ev_error(&e, e.root, rc, &err)) samples(&e, set);
    }
    es_evalset_free(&set);
    if (truth) es_truth_free(&truth);
    es_scores_free(&scores);
    ev_close(&e);
}
