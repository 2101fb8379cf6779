#include "earshot/evaluate_bench.h"

#include <stdio.h>

#include "earshot/csebb.h"
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/psds.h"
#include "earshot/rng.h"
#include "earshot/timer.h"

enum { FRAMES = 156, EVENTS = 3, SEED = 5 };

struct event {
    int i_class;
    double onset_s, offset_s;
};

/* Events of a clip. The first one goes round the classes, so that all have some; no two of a class, of three classes or more. */
static void make_events(int64_t clip, int n_classes, struct event e[EVENTS]) {
    struct es_rng r = es_rng_make(SEED, ES_RNG_BENCH, (uint32_t)clip, 1, 0);
    for (int i = 0; i < EVENTS; i++) {
        const double length_s = 0.3 + 3 * es_rng_range(&r, 0, 1),
                     onset_s = es_rng_range(&r, 0, 9.9 - length_s);
        e[i].i_class = (int)((clip + i) % n_classes);
        e[i].onset_s = onset_s;
        e[i].offset_s = onset_s + length_s;
    }
}

/* A smooth random walk in 0..1, raised over events of the class. */
static void generate(const void *ctx, int64_t clip, int column, double *out) {
    const int n_classes = *(const int *)ctx;
    struct event e[EVENTS];
    struct es_rng r = es_rng_make(SEED, ES_RNG_BENCH, (uint32_t)clip, 2, (uint32_t)column);
    double x = es_rng_range(&r, 0, 0.4);
    make_events(clip, n_classes, e);
    for (int i = 0; i < FRAMES; i++) {
        double goal = 0.25;
        for (int j = 0; j < EVENTS; j++)
            if (e[j].i_class == column && e[j].onset_s < 0.064 * (i + 1) && e[j].offset_s > 0.064 * i)
                goal = 0.75;
        x += 0.3 * (goal - x) + es_rng_range(&r, -0.12, 0.12);
        out[i] = (double)(float)(x < 0 ? 0 : x > 1 ? 1 : x);
    }
}

struct data {
    struct es_scores *scores;
    struct es_truth *truth;
    float *values;
    int n_classes;
};

static void data_free(struct data *d) {
    es_scores_free(&d->scores);
    es_truth_free(&d->truth);
    es_free(&d->values);
}

static int make_truth(struct data *d, int64_t n_clips, const char *const *ids, const char *const *names,
                      struct es_err *err) {
    ES_TRY(es_truth_new(&d->truth, "bench", "bench", err));
    for (int64_t i = 0; i < n_clips; i++) {
        struct event e[EVENTS];
        make_events(i, d->n_classes, e);
        ES_TRY(es_truth_duration(d->truth, ids[i], 10, err));
        for (int j = 0; j < EVENTS; j++) {
            if (j > 0 && e[j].i_class == e[0].i_class) continue;
            ES_TRY(es_truth_event(d->truth, ids[i], names[e[j].i_class], e[j].onset_s, e[j].offset_s, 1, i,
                                  err));
        }
    }
    return 0;
}

static int data_new(struct data *d, int64_t n_clips, int n_classes, bool streamed, struct es_err *err) {
    char(*text)[16] = es_alloc((size_t)n_clips + (size_t)n_classes, sizeof *text, err);
    const char **ids = es_alloc((size_t)n_clips, sizeof *ids, err),
               **names = es_alloc((size_t)n_classes, sizeof *names, err);
    double edges[FRAMES + 1];
    int rc = text && ids && names ? 0 : -ES_EIO;
    *d = (struct data){.n_classes = n_classes};
    for (int64_t i = 0; i < n_clips && rc == 0; i++) {
        snprintf(text[i], sizeof *text, "c%lld", (long long)i);
        ids[i] = text[i];
    }
    for (int k = 0; k < n_classes && rc == 0; k++) {
        snprintf(text[n_clips + k], sizeof *text, "class%03d", k);
        names[k] = text[n_clips + k];
    }
    for (int i = 0; i <= FRAMES; i++) edges[i] = es_labels_time(&es_grid_task4, i);
    if (rc == 0 && !streamed) {
        d->values = es_alloc((size_t)n_clips * FRAMES, (size_t)n_classes * sizeof(float), err);
        if (!d->values) rc = -ES_EIO;
    }
    if (rc == 0)
        rc = es_scores_from_array(&d->scores, n_clips, ids, FRAMES, edges, n_classes, names, d->values,
                                  "bench", err);
    if (rc == 0) rc = make_truth(d, n_clips, ids, names, err);
    if (rc == 0 && streamed) {
        for (int64_t i = 0; i < n_clips; i++) d->scores->clips[i].values = NULL;
        d->scores->generate = generate;
        d->scores->generate_ctx = &d->n_classes;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < (rc == 0 && !streamed ? n_clips : 0); i++) {
        double column[FRAMES];
        for (int k = 0; k < n_classes; k++) {
            generate(&n_classes, i, k, column);
            for (int j = 0; j < FRAMES; j++) d->values[(i * FRAMES + j) * n_classes + k] = (float)column[j];
        }
    }
    es_free(&names);
    es_free(&ids);
    es_free(&text);
    if (rc < 0) data_free(d);
    return rc;
}

static int time_psds(double *seconds, double *value, const struct es_evalset *set, struct es_psds_params p,
                     int repeats, struct es_err *err) {
    int rc = 0, n = 0;
    double *s = es_alloc((size_t)repeats, sizeof *s, err);
    if (!s) return -ES_EIO;
    /* one warm-up, unless it would double a long run */
    for (int i = repeats > 1 ? -1 : 0; i < repeats; i++) {
        struct es_psds *psds = NULL;
        const double begin_s = es_now_s();
        ES_GO(es_psds_new(&psds, set, &p, err));
        if (i >= 0) s[n++] = es_now_s() - begin_s;
        *value = psds->value;
        es_psds_free(&psds);
    }
    *seconds = es_median(s, n);
done:
    es_free(&s);
    return rc;
}

int es_bench_evaluate(struct es_bench_evaluate *b, int64_t n_clips, int n_classes, int n_repeats,
                      struct es_err *err) {
    struct data d;
    struct es_evalset *set = NULL;
    *b = (struct es_bench_evaluate){.n_clips = n_clips, .n_classes = n_classes, .n_repeats = n_repeats};
    b->streamed = (double)n_clips * FRAMES * n_classes * (double)sizeof(float) > 2e9;
    ES_TRY(data_new(&d, n_clips, n_classes, b->streamed, err));
    const double begin_s = es_now_s();
    int rc = es_evalset_new(&set, d.scores, d.truth, &(struct es_evalset_params){0}, err);
    b->match_s = es_now_s() - begin_s;
    if (rc == 0) rc = time_psds(&b->psds1_s, &b->psds1, set, es_psds1_params(), n_repeats, err);
    if (rc == 0) rc = time_psds(&b->psds2_s, &b->psds2, set, es_psds2_params(), n_repeats, err);
    b->peak_rss_bytes = es_mem_peak_rss();
    es_evalset_free(&set);
    data_free(&d);
    return rc;
}

int es_bench_tune(double *seconds, int64_t n_clips, int n_classes, struct es_err *err) {
    struct data d;
    struct es_evalset *set = NULL;
    struct es_tuning *t = NULL;
    const struct es_csebb_grid grid = es_csebb_grid_published();
    ES_TRY(data_new(&d, n_clips, n_classes, false, err));
    int rc = es_evalset_new(&set, d.scores, d.truth, &(struct es_evalset_params){0}, err);
    const double begin_s = es_now_s();
    if (rc == 0) rc = es_tune_csebb_all(&t, set, NULL, &grid, ES_TUNE_PSDS, true, err);
    *seconds = es_now_s() - begin_s;
    es_tuning_free(&t);
    es_evalset_free(&set);
    data_free(&d);
    return rc;
}
