/* Change-detection based sound event bounding boxes, cSEBBs (spec/evaluation.md section 13): from frame scores to events with one
 * confidence each, and the choice of their parameters on a labelled set.
 *
 *     struct es_csebb_params p[K];                          one a class; es_csebb_params_default()
 *     es_tune_csebb_all(&tuning, set, NULL, &grid, ES_TUNE_PSDS, true, err);   or tuned, then tuning->csebb[k]
 *     es_csebb_boxes(&boxes, scores, p, err);               a table of events (events.h), confidence = score
 *     es_scores_from_events(&table, boxes, scores, durations, -INFINITY, err);   scored as any other scores
 *
 * A step filter of length F runs over the scores; its maxima are onsets, its minima offsets. Segments alternate gap, event, gap ..;
 * gaps that are too shallow (absolute and relative) are merged away. A box's confidence is its mean score.
 *
 * Source: Ebbers et al., "Sound event bounding boxes", Interspeech 2024; written from the spec alone (the package is AGPL).
 * Collectivity: none but where a name ends in _all. Same digits for any number of threads and ranks.
 */
#ifndef EARSHOT_CSEBB_H
#define EARSHOT_CSEBB_H

#include <stdbool.h>

#include "earshot/comm.h"
#include "earshot/evaluate.h"
#include "earshot/scores.h"

struct es_csebb_params {
    double step_filter_s;
    double merge_abs, merge_rel; /* INFINITY: this criterion is off */
};
/* 0.5 s, 1.0, 2.0: the package's predictor without tuning. */
struct es_csebb_params es_csebb_params_default(void);

/* ---- one clip, one class */

struct es_csebb_segments { /* n events: 2 n + 1 segments gap, event, .. gap; first and last may be empty */
    int n_events;
    double *bound;            /* [2 n + 2] seconds */
    double *mean, *min, *max; /* [2 n + 1] */
    double *points;           /* scratch of es_csebb_detect */
    int frames_max;
};
/* Room for clips of up to frames_max frames. */
int es_csebb_segments_init(struct es_csebb_segments *s, int frames_max, struct es_err *err);
void es_csebb_segments_fini(struct es_csebb_segments *s);
/* Change detection (13.1). t [n+1] edges of the frames, from 0 on; s [n] their scores, finite; g out. */
void es_csebb_detect(struct es_csebb_segments *g, int n, const double *t, const double *s, double filter_s);

struct es_csebb_box {
    double onset_s, offset_s, confidence;
};
/* Merging (13.2): boxes out, room for n_events; returns their number. g stays as it is. */
int es_csebb_merge(struct es_csebb_segments *g, double merge_abs, double merge_rel, struct es_csebb_box *box);

/* ---- tables */

/* Boxes of every clip, class by class. p [n_classes of scores]; step_filter_s 0: no boxes of this class. ES_EDATA: scores that are
 * not finite, times that do not start at 0. */
int es_csebb_boxes(struct es_truth **boxes, const struct es_scores *scores, const struct es_csebb_params *p,
                   struct es_err *err);
/* Adds a box for every second of every clip of scores and each of the n columns: mean of the frame scores in it, weighted by time; the
 * last one ends with the clip (13.6: classes that are scored by segments). */
int es_boxes_add_seconds(struct es_truth *boxes, const struct es_scores *scores, const int *column, int n,
                         struct es_err *err);
/* Boxes as scores (13.3): clips and classes of `like`. Frames lie between consecutive onsets and offsets, from 0 and, where durations
 * are given (may be NULL), to the clip's duration; score: the box's confidence, the largest where boxes of a class overlap, else
 * fill. */
int es_scores_from_events(struct es_scores **out, const struct es_truth *boxes, const struct es_scores *like,
                          const struct es_truth *durations, double fill, struct es_err *err);

/* ---- tuning (13.4) */

enum es_tune_by { ES_TUNE_PSDS, ES_TUNE_COLLAR_F1 };

/* Settings: for every filter all abs with rel = INFINITY, then all rel with abs = INFINITY. */
struct es_csebb_grid {
    int n_filters, n_abs, n_rel;
    const double *step_filter_s, *merge_abs, *merge_rel;
};
struct es_csebb_grid es_csebb_grid_published(void); /* cpjku's eval_predictions: 8 x (8 + 8) settings */
struct es_csebb_grid es_csebb_grid_package(void);   /* the package's default: 3 x (3 + 3) */

struct es_tuning {
    int n_classes, n_settings;
    char **class_name;
    bool by_class;
    double *value;                   /* [n_settings, K] PSDS of the class (0.7 0.7), or its best collar F1 */
    double *at;                      /* [n_settings, K] threshold of that F1; NAN for PSDS */
    int *best;                       /* [K] the setting chosen */
    double *best_value;              /* [K] of the class, or the mean over classes */
    double *threshold;               /* [K] of the setting chosen; NAN for PSDS */
    struct es_csebb_params *setting; /* [n_settings]; median filters: NULL */
    struct es_csebb_params *csebb;   /* [K] chosen; median filters: NULL */
    double *length_s;                /* [K] chosen, median filters; cSEBB: NULL */
};
/* by_class: every class keeps its own first best setting; otherwise the mean over classes decides. The set's classes are tuned. comm:
 * ranks that share the work, all with the same set; NULL: alone. */
int es_tune_csebb_all(struct es_tuning **t, const struct es_evalset *set, const struct es_comm *comm,
                      const struct es_csebb_grid *grid, enum es_tune_by by, bool by_class,
                      struct es_err *err);
/* Lengths of the continuous median filter (median.h), seconds; the package tries 0, 0.2 .. 2. */
int es_tune_median_all(struct es_tuning **t, const struct es_evalset *set, const struct es_comm *comm,
                       const double *length_s, int n, enum es_tune_by by, bool by_class, struct es_err *err);
void es_tuning_free(struct es_tuning **t);

#endif
