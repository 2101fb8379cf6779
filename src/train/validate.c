#include "earshot/validate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/kernels_crnn.h"
#include "earshot/labels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"

enum how { /* clips become scored items */
           HOW_CLIPS,
           HOW_WEAK,       /* outputs for the clip; the macro average counts all classes */
           HOW_AUDIOSET,   /* logits, 40 ms frames */
           HOW_CPJKU,      /* probabilities, 40 ms frames, every clip 10 s long */
           HOW_MAESTRO,    /* each clip by itself */
           HOW_RECORDINGS, /* clips with an event, joined */
};

#define LOSS "loss"
#define WEAK_F1 "weak_f1"

struct metric {
    const char *row; /* of es_evaluation_new; LOSS: the mean BCE of frames or clips; WEAK_F1 */
    const char *name;
    bool objective, macro; /* counts in the objective; the row's other average */
};

struct part { /* one set of clips and what is measured on it */
    enum es_validation_kind kind;
    enum es_subset subset;
    int split;
    enum how how;
    struct metric metric[6];
};

/* The order of names in a result. */
static const struct part parts[] = {
    {ES_VALID_STAGES,
     ES_SUBSET_SYNTH_VALIDATION,
     -1,
     HOW_CLIPS,
     {{"psds1", "psds1", true, false},
      {"intersection_f1", "intersection_f1", false, false},
      {"collar_f1", "collar_f1", false, false},
      {LOSS, "loss_strong", false, false}}},
    {ES_VALID_STAGES,
     ES_SUBSET_STRONG_REAL,
     1,
     HOW_CLIPS,
     {{"psds1", "psds1_external", true, false},
      {"intersection_f1", "intersection_f1_external", false, false},
      {"collar_f1", "collar_f1_external", false, false},
      {LOSS, "loss_external", false, false}}},
    {ES_VALID_STAGES,
     ES_SUBSET_WEAK,
     1,
     HOW_WEAK,
     {{WEAK_F1, "weak_f1", false, false}, {LOSS, "loss_weak", false, false}}},
    {ES_VALID_STAGES,
     ES_SUBSET_MAESTRO,
     1,
     HOW_MAESTRO,
     {{"mpauc", "mpauc", true, false},
      {"mauc", "mauc", false, false},
      {"segment_f1_best", "segment_f1_best", false, false},
      {LOSS, "loss_maestro", false, false}}},
    {ES_VALID_TEST,
     ES_SUBSET_VALIDATION,
     -1,
     HOW_CLIPS,
     {{"psds1", "psds1", true, false},
      {"psds2", "psds2", false, false},
      {"psds1_op", "psds1_op", false, false},
      {"psds2_op", "psds2_op", false, false},
      {"intersection_f1", "intersection_f1", false, false},
      {"collar_f1", "collar_f1", false, false}}},
    {ES_VALID_TEST, ES_SUBSET_STRONG_REAL, 1, HOW_CLIPS, {{"psds1", "psds1_external", false, false}}},
    {ES_VALID_TEST,
     ES_SUBSET_MAESTRO_TEST,
     -1,
     HOW_RECORDINGS,
     {{"mpauc", "mpauc", true, false},
      {"mauc", "mauc", false, false},
      {"segment_f1_best", "segment_f1_best", false, false}}},
    {ES_VALID_PRETRAINEDSED,
     ES_SUBSET_AS_EVAL,
     -1,
     HOW_AUDIOSET,
     {{"psds1", "psds1", true, true}, {"mpauc", "mpauc", false, false}, {LOSS, "loss", false, false}}},
    {ES_VALID_CPJKU,
     ES_SUBSET_AS_EVAL,
     -1,
     HOW_CPJKU,
     {{"psds1", "psds1", true, false}, {"mpauc", "mpauc", true, false}, {LOSS, "loss", false, false}}},
};
enum { N_PARTS = sizeof parts / sizeof *parts, MAX_METRICS = sizeof parts->metric / sizeof *parts->metric };

static bool is_maestro(enum how how) {
    return how == HOW_MAESTRO || how == HOW_RECORDINGS;
}

/* Begin of a window <recording>-<start>-<end>, named in 1/100 s; es_maestro_join refuses other names. */
static double window_begin_s(const char *name) {
    const char *end = strrchr(name, '-'), *start = end;
    while (start && start > name && *--start != '-') {
    }
    return start && *start == '-' ? strtod(start + 1, NULL) / 100.0 : 0.0;
}

/* A recording is as long as its last window reaches. The windows of one stand next to each other in a store. */
static int add_recordings(struct es_truth *t, const struct es_store *s, const int64_t *ids, int64_t n,
                          struct es_err *err) {
    double end_s = 0;
    for (int64_t i = 0; i < n; i++) {
        const char *recording = es_store_recording(s, ids[i]);
        double e = window_begin_s(es_store_name(s, ids[i])) + es_store_duration(s, ids[i]);
        if (e > end_s) end_s = e;
        if (i + 1 < n && strcmp(es_store_recording(s, ids[i + 1]), recording) == 0) continue;
        ES_TRY(es_truth_duration(t, recording, end_s, err));
        end_s = 0;
    }
    return 0;
}

/* es_maestro_clips and es_maestro_join merge MAESTRO's events themselves. */
static int make_truth(struct es_truth **t, const struct es_store *s, const int64_t *ids, int64_t n,
                      enum how how, struct es_err *err) {
    double dur_s = how == HOW_CPJKU ? es_grid_audioset.clip_s : how == HOW_RECORDINGS ? -1 : 0;
    ES_TRY(es_truth_from_store(t, s, ids, n, !is_maestro(how), dur_s, err));
    if (how == HOW_RECORDINGS) ES_TRY(add_recordings(*t, s, ids, n, err));
    return 0;
}

/* values [metrics]: NAN where one cannot be computed, with a warning; a small validation set must not end a run. */
static int score(const struct es_scores *scores, const struct es_truth *truth, const struct part *p,
                 double *value, struct es_err *err) {
    struct es_truth *other = NULL;
    struct es_scores *joined = NULL;
    struct es_evalset *set = NULL;
    struct es_maestro_params mp = {.positive_only = true};
    struct es_evalset_params ep = {.subset = p->how == HOW_MAESTRO};
    int rc = 0;
    if (p->how == HOW_MAESTRO) ES_GO(es_maestro_clips(&other, truth, err));
    if (p->how == HOW_RECORDINGS) ES_GO(es_maestro_join(&joined, &other, scores, truth, &mp, err));
    ES_GO(es_evalset_new(&set, joined ? joined : scores, other ? other : truth, &ep, err));
    for (int m = 0; m < MAX_METRICS && p->metric[m].row; m++) {
        if (strcmp(p->metric[m].row, LOSS) == 0) continue; /* measure has it */
        struct es_evaluation *e = NULL;
        struct es_err why = {0};
        char wanted[32]; /* "segment_f1" makes the row segment_f1_best, too */
        snprintf(wanted, sizeof wanted, "%s", p->metric[m].row);
        char *best = strstr(wanted, "_best");
        if (best) *best = 0;
        if (es_evaluation_new(&e, set, wanted, &why) < 0) {
            es_log(p->metric[m].objective ? ES_LOG_WARN : ES_LOG_INFO, "validation %s: %s", p->metric[m].name,
                   why.msg);
            continue;
        }
        for (int r = 0; r < e->n_rows; r++)
            if (strcmp(e->rows[r].name, p->metric[m].row) == 0)
                value[m] = p->metric[m].macro ? e->rows[r].extra : e->rows[r].value;
        es_evaluation_free(&e);
    }
done:
    es_evalset_free(&set);
    es_scores_free(&joined);
    es_truth_free(&other);
    return rc;
}

static void put(const struct part *p, const char *row, double x, double *value) {
    for (int m = 0; m < MAX_METRICS && p->metric[m].row; m++)
        if (strcmp(p->metric[m].row, row) == 0) value[m] = x;
}

/* Classes that clips of a part have labels for; all of AudioSet's. */
static void valid_classes(const struct part *p, int K, uint8_t *valid) {
    bool all = p->subset == ES_SUBSET_AS_EVAL;
    uint32_t mask = all ? 0 : es_labels_mask(p->subset, p->split == 1);
    for (int k = 0; k < K; k++) valid[k] = all || (k < ES_N_CLASSES && (mask >> k & 1));
}

/* Mean binary cross-entropy of all frames and classes of a set, as training has it: classes without labels count as 0. scores
 * [n,T,K] as in `how`. */
static int frame_loss(const struct es_store *s, const int64_t *ids, int64_t n, const struct part *p,
                      const struct es_label_grid *g, int n_frames, const float *scores, double *value,
                      struct es_err *err) {
    int K = es_store_n_classes(s), rc = 0;
    int64_t row = (int64_t)n_frames * K;
    float *labels = es_alloc((size_t)row, sizeof *labels, err);
    double *sum = es_alloc((size_t)n_frames, sizeof *sum, err), total = 0.0;
    uint8_t *valid = es_alloc((size_t)K, 1, err);
    struct es_event *events = NULL;
    struct es_k_loss loss = {p->how == HOW_AUDIOSET ? ES_LOSS_BCE_LOGITS : ES_LOSS_BCE, n_frames, K, 1,
                             valid};
    ES_GO(labels && sum && valid ? 0 : -ES_EIO);
    valid_classes(p, K, valid);
    for (int64_t i = 0; i < n; i++) {
        int n_events;
        const struct es_event *in = es_store_events(s, ids[i], &n_events);
        events = es_alloc((size_t)n_events + 1, sizeof *events, err);
        ES_GO(events ? 0 : -ES_EIO);
        n_events = es_labels_process(in, n_events, 0.0, g->clip_s, events);
        es_labels_encode(events, n_events, g, K, labels, K, 1);
        es_k_loss_fwd(&loss, scores + i * row, labels, sum);
        for (int t = 0; t < n_frames; t++) total += sum[t];
        es_free(&events);
    }
    put(p, LOSS, total / ((double)n * (double)row), value);
done:
    es_free(&events);
    es_free(&valid);
    es_free(&sum);
    es_free(&labels);
    return rc;
}

/* Clip outputs by attention, their loss, and the F1 at 0.5: mean over all classes, 0 for one without labels (spec/training.md 8.1;
 * torchmetrics' MultilabelF1Score). */
static int measure_weak(const struct es_store *s, const int64_t *ids, int64_t n, const struct part *p,
                        const struct es_forward *f, const float *logits, const float *attention,
                        double *value, struct es_err *err) {
    int K = es_store_n_classes(s), T = es_forward_frames(f), rc = 0;
    int64_t row = (int64_t)T * K;
    struct es_k_class_pool pool = {1, T, K, es_forward_config(f)->mask_fill};
    struct es_k_loss loss = {ES_LOSS_BCE, 1, K, 1, NULL};
    float *strong = es_alloc((size_t)(2 * row + 2 * K), sizeof *strong, err);
    int64_t *count = es_alloc((size_t)(3 * K), sizeof *count, err); /* [K][both, said, is] */
    uint8_t *valid = es_alloc((size_t)K, 1, err);
    void *ws = es_alloc(1, es_k_class_pool_ws(&pool), err);
    double total = 0.0, f1 = 0.0;
    ES_GO(strong && count && valid && ws ? 0 : -ES_EIO);
    float *soft = strong + row, *weak = soft + row, *target = weak + K;
    valid_classes(p, K, valid);
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *label = es_store_weak(s, ids[i]);
        double sum;
        es_k_class_pool_fwd(&pool, logits + i * row, attention + i * row, valid, strong, weak, soft, ws);
        for (int k = 0; k < K; k++) {
            bool said = weak[k] > 0.5f, is = label[k] > 0;
            target[k] = is;
            count[3 * k] += said && is;
            count[3 * k + 1] += said;
            count[3 * k + 2] += is;
        }
        es_k_loss_fwd(&loss, weak, target, &sum);
        total += sum;
    }
    for (int k = 0; k < K; k++)
        if (count[3 * k + 1] + count[3 * k + 2] > 0)
            f1 += 2.0 * (double)count[3 * k] / (double)(count[3 * k + 1] + count[3 * k + 2]);
    put(p, LOSS, total / ((double)n * K), value);
    put(p, WEAK_F1, f1 / K, value);
done:
    es_free(&ws);
    es_free(&valid);
    es_free(&count);
    es_free(&strong);
    return rc;
}

/* On rank 0: loss, filter, truth, metrics. A set that cannot be scored at all is a warning. */
static int measure(const struct es_store *s, const int64_t *ids, int64_t n, const struct part *p,
                   int n_frames, float *logits, const int *median_frames, double *value, struct es_err *err) {
    int K = es_store_n_classes(s), rc = 0;
    const char **names = es_alloc((size_t)n, sizeof *names, err);
    struct es_scores *scores = NULL, *filtered = NULL;
    struct es_truth *truth = NULL;
    double edges[512];
    bool audioset = p->how == HOW_AUDIOSET || p->how == HOW_CPJKU;
    const struct es_label_grid *g = audioset ? &es_grid_audioset : &es_grid_task4;
    ES_ASSERT(n_frames < 511);
    if (!names) return -ES_EIO;
    for (int64_t i = 0; i < n; i++) names[i] = es_store_name(s, ids[i]);
    if (p->how != HOW_AUDIOSET) es_sigmoid_f32(n * n_frames * K, logits);
    ES_GO(frame_loss(s, ids, n, p, g, n_frames, logits, value, err));
    for (int i = 0; i <= n_frames; i++) edges[i] = es_labels_time(g, i);
    ES_GO(es_scores_from_array(&scores, n, names, n_frames, edges, K, es_store_classes(s), logits,
                               es_store_path(s), err));
    ES_GO(es_scores_median(&filtered, scores, median_frames, err));
    ES_GO(make_truth(&truth, s, ids, n, p->how, err));
    struct es_err why = {0};
    if (score(filtered, truth, p, value, &why) < 0)
        es_log(ES_LOG_WARN, "validation %s not scored: %s", es_subset_name(p->subset), why.msg);
done:
    es_truth_free(&truth);
    es_scores_free(&filtered);
    es_scores_free(&scores);
    es_free(&names);
    return rc;
}

static int run_part(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                    const struct part *p, const int *median_frames, double *value, int64_t *n_clips,
                    struct es_err *err) {
    int64_t *ids = NULL, n = 0;
    float *logits = NULL, *attention = NULL;
    bool weak = p->how == HOW_WEAK;
    int rc = es_predict_list(s, (int)p->subset, p->split, &ids, &n, err);
    if (rc == 0 && n > 0) {
        size_t size = (size_t)n * (size_t)es_forward_frames(f) * (size_t)es_forward_classes(f);
        logits = es_alloc(size, sizeof(float), err);
        if (weak) attention = es_alloc(size, sizeof(float), err);
        if (!logits || (weak && !attention)) rc = -ES_EIO;
    }
    ES_GO(es_err_agree_all(c, rc, err));
    if (n == 0) goto done;
    ES_GO(es_predict_clips_all(c, f, s, ids, n, logits, attention, err));
    if (es_comm_rank(c) == 0)
        rc = weak ? measure_weak(s, ids, n, p, f, logits, attention, value, err)
                  : measure(s, ids, n, p, es_forward_frames(f), logits, median_frames, value, err);
    ES_GO(es_err_agree_all(c, rc, err));
    es_comm_bcast_all(c, value, MAX_METRICS * sizeof *value, 0);
    *n_clips += n;
done:
    es_free(&attention);
    es_free(&logits);
    es_free(&ids);
    return rc;
}

void es_validation_init(struct es_validation *v, enum es_validation_kind kind) {
    *v = (struct es_validation){.kind = kind, .objective = (double)NAN};
    for (int i = 0; i < N_PARTS; i++)
        for (int m = 0; parts[i].kind == kind && m < MAX_METRICS && parts[i].metric[m].row; m++) {
            ES_ASSERT(v->n < ES_VALID_MAX);
            v->value[v->n] = (double)NAN;
            v->name[v->n++] = parts[i].metric[m].name;
        }
}

double es_validation_get(const struct es_validation *v, const char *name) {
    for (int i = 0; i < v->n; i++)
        if (strcmp(v->name[i], name) == 0) return v->value[i];
    return (double)NAN;
}

void es_validation_write(const struct es_validation *v, struct es_json *json) {
    for (int i = 0; i < v->n; i++) es_json_put_number(json, v->name[i], v->value[i]);
    es_json_put_number(json, v->kind == ES_VALID_TEST ? "rank_score" : "objective", v->objective);
}

int64_t es_validation_clips(const struct es_store *s, enum es_validation_kind kind) {
    int64_t n = 0;
    for (int i = 0; i < N_PARTS; i++)
        if (parts[i].kind == kind) n += es_store_count(s, parts[i].subset, parts[i].split);
    return n;
}

int es_validate_all(const struct es_comm *c, struct es_forward *f, struct es_store *const *stores,
                    int n_stores, enum es_validation_kind kind, const int *median_frames,
                    struct es_validation *out, struct es_err *err) {
    es_validation_init(out, kind);
    int at = 0;
    for (int i = 0; i < N_PARTS; i++) {
        if (parts[i].kind != kind) continue;
        double value[MAX_METRICS];
        for (int m = 0; m < MAX_METRICS; m++) value[m] = (double)NAN;
        for (int s = 0; s < n_stores; s++)
            ES_TRY(run_part(c, f, stores[s], &parts[i], median_frames, value, &out->n_clips, err));
        for (int m = 0; m < MAX_METRICS && parts[i].metric[m].row; m++, at++) {
            out->value[at] = value[m];
            if (!parts[i].metric[m].objective || isnan(value[m])) continue;
            out->objective = isnan(out->objective) ? value[m] : out->objective + value[m];
        }
    }
    return 0;
}
