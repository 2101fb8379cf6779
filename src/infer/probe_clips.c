/* Which clips of stores are fitted on, validated with and tested with; their labels; scores. */
#include <math.h>
#include <string.h>

#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "probe_impl.h"

enum { MAX_EVENTS = 2048, HOLD_OUT = 10 };

/* The part a clip belongs to, or -1. i_train: how many of as_train came before. */
static int part_of(enum es_subset subset, int split, int64_t i_train, int *family) {
    *family = subset == ES_SUBSET_MAESTRO || subset == ES_SUBSET_MAESTRO_TEST ? MAESTRO : DESED;
    switch (subset) {
    case ES_SUBSET_STRONG_REAL:
    case ES_SUBSET_SYNTH:
        return ES_PROBE_FIT;
    case ES_SUBSET_MAESTRO:
        return split == 0 ? ES_PROBE_FIT : ES_PROBE_VALIDATION;
    case ES_SUBSET_SYNTH_VALIDATION:
        return ES_PROBE_VALIDATION;
    case ES_SUBSET_VALIDATION:
    case ES_SUBSET_MAESTRO_TEST:
    case ES_SUBSET_AS_EVAL:
        return ES_PROBE_TEST;
    case ES_SUBSET_AS_TRAIN:
        return i_train % HOLD_OUT == HOLD_OUT - 1 ? ES_PROBE_VALIDATION : ES_PROBE_FIT;
    default:
        return -1;
    }
}

static void thin_out(struct probe_list *l, int64_t most) {
    if (most == 0 || l->n <= most) return;
    for (int64_t i = 0; i < most; i++) l->ref[i] = l->ref[i * l->n / most];
    l->n = most;
}

static int check_stores(const struct probe_clips *c, struct es_err *err) {
    const struct es_store *a = c->store[0];
    for (int s = 1; s < c->n_stores; s++) {
        const struct es_store *b = c->store[s];
        bool same = es_store_n_classes(a) == es_store_n_classes(b);
        for (int k = 0; same && k < c->K; k++)
            same = strcmp(es_store_classes(a)[k], es_store_classes(b)[k]) == 0;
        if (!same)
            return es_err_set(err, ES_EDATA, "%s: /classes differ from those of %s; want stores of one phase",
                              es_store_path(b), es_store_path(a));
    }
    if (!c->audioset && c->K != ES_N_CLASSES)
        return es_err_set(err, ES_EDATA, "%s: %d classes, want %d", es_store_path(a), c->K, ES_N_CLASSES);
    return 0;
}

int probe_clips_new(struct probe_clips *c, int n_stores, struct es_store *const *store, int64_t max_clips,
                    struct es_err *err) {
    int64_t total = 0, i_train = 0;
    *c = (struct probe_clips){.n_stores = n_stores, .store = store, .K = es_store_n_classes(store[0])};
    c->audioset =
        es_store_count(store[0], ES_SUBSET_AS_TRAIN, -1) + es_store_count(store[0], ES_SUBSET_AS_EVAL, -1) >
        0;
    ES_TRY(check_stores(c, err));
    for (int s = 0; s < n_stores; s++) total += es_store_n_clips(store[s]);
    for (int part = 0; part < ES_PROBE_PARTS; part++)
        for (int f = 0; f < FAMILIES; f++) {
            c->part[part][f].ref = es_alloc((size_t)total, sizeof(struct probe_ref), err);
            if (!c->part[part][f].ref) return -ES_EIO;
        }
    for (int s = 0; s < n_stores; s++)
        for (int64_t i = 0; i < es_store_n_clips(store[s]); i++) {
            const enum es_subset subset = es_store_subset(store[s], i);
            int family, part = part_of(subset, es_store_split(store[s], i), i_train, &family);
            i_train += subset == ES_SUBSET_AS_TRAIN;
            if (part < 0) continue;
            struct probe_list *l = &c->part[part][family];
            l->ref[l->n++] = (struct probe_ref){s, i};
        }
    for (int part = 0; part < ES_PROBE_PARTS; part++)
        for (int f = 0; f < FAMILIES; f++) thin_out(&c->part[part][f], max_clips);
    return 0;
}

void probe_clips_free(struct probe_clips *c) {
    for (int part = 0; part < ES_PROBE_PARTS; part++)
        for (int f = 0; f < FAMILIES; f++) es_free(&c->part[part][f].ref);
}

bool probe_fits(const struct probe_clips *c, int family, int k) {
    if (c->audioset) return family == DESED;
    return es_labels_mask(family == MAESTRO ? ES_SUBSET_MAESTRO : ES_SUBSET_SYNTH, 0) >> k & 1;
}

bool probe_judges(const struct probe_clips *c, int family, int k) {
    return c->audioset ? family == DESED : (k >= ES_N_DESED_CLASSES) == (family == MAESTRO);
}

int probe_labels(const struct probe_clips *c, const struct es_label_grid *grid, const struct probe_ref *r,
                 float *y, struct es_err *err) {
    const struct es_store *s = c->store[r->store];
    struct es_event event[MAX_EVENTS];
    int n;
    const struct es_event *in = es_store_events(s, r->id, &n);
    if (n > MAX_EVENTS / 2)
        return es_err_set(err, ES_EDATA, "%s: clip %s has %d events, want at most %d", es_store_path(s),
                          es_store_name(s, r->id), n, MAX_EVENTS / 2);
    if (!c->audioset) {
        n = es_labels_alias(es_store_subset(s, r->id), es_store_split(s, r->id), in, n, event);
        in = event;
    }
    n = es_labels_process(in, n, 0, grid->clip_s, event);
    es_labels_encode(event, n, grid, c->K, y, c->K, 1);
    return 0;
}

static int mpauc(const struct es_scores *scores, const struct es_truth *truth, bool maestro, double *value,
                 struct es_err *err) {
    struct es_truth *clips = NULL;
    struct es_evalset *set = NULL;
    struct es_auroc *auroc = NULL;
    struct es_evalset_params ep = {.subset = maestro};
    struct es_auroc_params ap = es_mpauc_params();
    int rc = 0;
    if (maestro) ES_GO(es_maestro_clips(&clips, truth, err));
    ES_GO(es_evalset_new(&set, scores, maestro ? clips : truth, &ep, err));
    ES_GO(es_auroc_new(&auroc, set, &ap, err));
    *value = auroc->linear;
done:
    es_auroc_free(&auroc);
    es_evalset_free(&set);
    es_truth_free(&clips);
    return rc;
}

int probe_score(const struct probe_clips *c, const struct probe_list *l, int frames, const float *outputs,
                const char *what, double *value, struct es_err *err) {
    const bool maestro =
        l->ref == c->part[ES_PROBE_VALIDATION][MAESTRO].ref || l->ref == c->part[ES_PROBE_TEST][MAESTRO].ref;
    const struct es_label_grid *grid =
        frames == es_grid_audioset.n_frames ? &es_grid_audioset : &es_grid_task4;
    const char **names = es_alloc((size_t)l->n, sizeof *names, err);
    double *edges = es_alloc((size_t)frames + 1, sizeof *edges, err);
    struct es_truth *truth = NULL;
    struct es_scores *scores = NULL;
    struct es_err why = {0};
    int rc = names && edges ? 0 : -ES_EIO;
    for (int64_t i = 0; rc == 0 && i < l->n; i++) {
        const struct es_store *s = c->store[l->ref[i].store];
        names[i] = es_store_name(s, l->ref[i].id);
        rc = es_truth_from_store(&truth, s, &l->ref[i].id, 1, !maestro, 0, err);
    }
    if (rc < 0) goto done;
    for (int t = 0; t <= frames; t++) edges[t] = es_labels_time(grid, t);
    *value = (double)NAN;
    ES_GO(es_scores_from_array(&scores, l->n, names, frames, edges, c->K, es_store_classes(c->store[0]),
                               outputs, what, err));
    if (mpauc(scores, truth, maestro, value, &why) < 0)
        es_log(ES_LOG_WARN, "%s not scored: %s", what, why.msg);
done:
    es_scores_free(&scores);
    es_truth_free(&truth);
    es_free(&edges);
    es_free(&names);
    return rc;
}
