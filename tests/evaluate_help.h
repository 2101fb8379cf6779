/* Small random evaluation sets for the unit tests. */
#ifndef EARSHOT_TESTS_EVALUATE_HELP_H
#define EARSHOT_TESTS_EVALUATE_HELP_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/evaluate.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

enum { EH_CLIPS = 6, EH_CLASSES = 4, EH_FRAMES = 40 };

struct eh_event {
    int i_class;
    double onset_s, offset_s;
};

struct eh_set {
    int n_clips, n_classes;
    int n_frames[EH_CLIPS], n_events[EH_CLIPS];
    double edges_s[EH_CLIPS][EH_FRAMES + 1], dur_s[EH_CLIPS];
    double v[EH_CLIPS][EH_FRAMES][EH_CLASSES];
    struct eh_event events[EH_CLIPS][64]; /* by class, then onset */
    struct es_scores *scores;
    struct es_truth *truth;
    struct es_evalset *set;
};

static const char *const eh_class_name[EH_CLASSES] = {"a", "b/c", "d e", "f"};
static const char *const eh_clip_name[EH_CLIPS] = {"c0", "c1.5", "c2", "c3", "c4", "c5"};

static inline uint64_t eh_seed(void) {
    const char *s = getenv("ES_TEST_SEED");
    uint64_t seed = s ? strtoull(s, NULL, 10) : 20241;
    printf("ES_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static inline double eh_uniform(struct es_rng *r) {
    return es_rng_u32(r) * 0x1p-32;
}

/* Builds scores, truth and set from the plain arrays. as_float: scores are stored as floats. */
static inline int eh_build(struct eh_set *s, bool as_float, struct es_err *err) {
    int rc = es_scores_new(&s->scores, s->n_clips, eh_clip_name, s->n_classes, eh_class_name, !as_float,
                           "scores", err);
    if (rc < 0) return rc;
    s->scores->own_clips = true;
    for (int c = 0; c < s->n_clips; c++) {
        struct es_scores_clip *clip = &s->scores->clips[c];
        const size_t n = (size_t)s->n_frames[c], K = (size_t)s->n_classes;
        clip->n_frames = s->n_frames[c];
        double *edges = es_alloc(n + 1, sizeof *edges, err);
        clip->edges_s = edges;
        void *values = es_alloc(n * K, as_float ? sizeof(float) : sizeof(double), err);
        clip->values = values;
        if (!edges || !values) return -ES_EIO;
        memcpy(edges, s->edges_s[c], (n + 1) * sizeof *edges);
        for (size_t i = 0; i < n * K; i++) {
            if (as_float)
                ((float *)values)[i] = (float)s->v[c][i / K][i % K];
            else
                ((double *)values)[i] = s->v[c][i / K][i % K];
        }
    }
    ES_TRY(es_truth_new(&s->truth, "truth", "durations", err));
    int64_t row = 2;
    for (int c = 0; c < s->n_clips; c++) {
        ES_TRY(es_truth_clip(s->truth, eh_clip_name[c], err));
        ES_TRY(es_truth_duration(s->truth, eh_clip_name[c], s->dur_s[c], err));
        for (int i = 0; i < s->n_events[c]; i++) {
            const struct eh_event *e = &s->events[c][i];
            ES_TRY(es_truth_event(s->truth, eh_clip_name[c], eh_class_name[e->i_class], e->onset_s,
                                  e->offset_s, 1, row++, err));
        }
    }
    const struct es_evalset_params p = {
        .keep_empty = true, .n_classes = s->n_classes, .classes = eh_class_name};
    return es_evalset_new(&s->set, s->scores, s->truth, &p, err);
}

static inline void eh_free(struct eh_set *s) {
    es_evalset_free(&s->set);
    es_truth_free(&s->truth);
    es_scores_free(&s->scores);
}

/* Random content: ragged frames, scores with ties, -inf now and then, events that often lie on frame borders; every class has an
 * event. */
static inline void eh_random(struct eh_set *s, struct es_rng *r) {
    *s = (struct eh_set){.n_clips = 1 + (int)es_rng_below(r, EH_CLIPS),
                         .n_classes = 2 + (int)es_rng_below(r, EH_CLASSES - 1)};
    const uint64_t kinds = 2 + es_rng_below(r, 60);
    const bool regular = es_rng_below(r, 2), holes = es_rng_below(r, 3) == 0;
    for (int c = 0; c < s->n_clips; c++) {
        const int n = s->n_frames[c] = 2 + (int)es_rng_below(r, EH_FRAMES - 1);
        for (int i = 0; i < n; i++) {
            const double step = regular ? 0.064 : 0.001 * (1 + (int)es_rng_below(r, 200));
            s->edges_s[c][i + 1] = regular ? (i + 1) * step : s->edges_s[c][i] + step;
            for (int k = 0; k < s->n_classes; k++) {
                s->v[c][i][k] = (double)((float)es_rng_below(r, kinds) / (float)kinds);
                if (holes && es_rng_below(r, 4) == 0) s->v[c][i][k] = -HUGE_VAL;
            }
        }
        const double end = s->edges_s[c][n];
        s->dur_s[c] = end + (es_rng_below(r, 2) ? 0 : 0.3 * eh_uniform(r));
        for (int k = 0; k < s->n_classes; k++) {
            double t = 0;
            while (s->n_events[c] < 60 && (es_rng_below(r, 2) || (c == 0 && t == 0))) {
                double onset = t + 0.4 * end * eh_uniform(r),
                       offset = onset + 0.002 + 0.5 * end * eh_uniform(r);
                onset = round(onset * 1000) / 1000; /* rows have milliseconds */
                offset = round(offset * 1000) / 1000;
                if (es_rng_below(r, 3) == 0) { /* on frame borders */
                    onset = s->edges_s[c][es_rng_below(r, (uint32_t)n)];
                    offset = s->edges_s[c][n];
                }
                if (onset <= t && t > 0) break;
                if (onset >= offset) break;
                s->events[c][s->n_events[c]++] = (struct eh_event){k, onset, offset};
                t = offset + 0.001;
                if (t >= end) break;
            }
        }
    }
    for (int k = 0; k < s->n_classes; k++) { /* at least one event a class */
        bool found = false;
        for (int c = 0; c < s->n_clips; c++)
            for (int i = 0; i < s->n_events[c]; i++) found |= s->events[c][i].i_class == k;
        if (!found) s->events[0][s->n_events[0]++] = (struct eh_event){k, 0.01, 0.02};
    }
}

#endif
