/* Metrics of sound event detection (spec/evaluation.md): one matched set of scores and ground truth, and what
 * is computed on it.
 *
 *     struct es_evalset *set = NULL;                       scores + truth, compared and checked
 *     ES_GO(es_evalset_new(&set, scores, truth, &(struct es_evalset_params){0}, err));
 *     ES_GO(es_psds_new(&psds, set, &params, err));         psds.h
 *     ES_GO(es_f1_new(&f1, set, ES_F1_COLLAR, &params, err));   below
 *     ES_GO(es_auroc_new(&auroc, set, &params, err));       mpauc.h
 *     es_evalset_free(&set);
 *
 * Everything is exact: no grid of thresholds. Counts are integers; classes are processed independently, in
 * parallel (OpenMP), and combined in class order, so every digit is the same for any number of threads.
 *
 * Collectivity: none, unless es_evalset_share made a set shared.
 */
#ifndef EARSHOT_EVALUATE_H
#define EARSHOT_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"
#include "earshot/scores.h"
#include "earshot/text.h"

struct es_evalset; /* opaque */

struct es_evalset_params { /* {0}: what DCASE code does */
    bool keep_empty;    /* keep clips without an event of an evaluated class; default: dropped, their duration
                        too */
    bool subset;        /* leave out scores of clips the truth does not list, instead of refusing them */
    bool allow_missing; /* leave out what one side lacks, and count it, instead of refusing it */
    int n_classes;      /* classes to evaluate, in this order; events of other classes are ignored */
    const char *const *classes; /* NULL: those with an event, in order of the score columns */
};

/* Compares scores and truth; both are borrowed until es_evalset_free. ES_EDATA: a label without score column,
 * a class without event, clips that are not the same in scores, truth and durations, edges that do not
 * ascend, scores that are not numbers (NaN, +inf), events with offset <= onset or onset < 0, overlapping or
 * touching events of one class in a clip. */
int es_evalset_new(struct es_evalset **set, const struct es_scores *scores, const struct es_truth *truth,
                   const struct es_evalset_params *params, struct es_err *err);
void es_evalset_free(struct es_evalset **set);

/* Shares the classes of a set out to the ranks of comm (borrowed), all of which hold the same set: from here on es_psds_new, es_f1_new,
 * es_auroc_new and es_evaluation_new on it are collective, with the same result everywhere. Samples of it are not shared. */
void es_evalset_share(struct es_evalset *set, const struct es_comm *comm);

/* What params.allow_missing left out. */
struct es_evalset_missing {
    int64_t labels, label_events; /* labels without a score column, and their events */
    int64_t classes;              /* listed classes without column or event */
    int64_t clips_without_scores; /* of truth, with their events */
    int64_t clips_without_truth;  /* of scores */
    int64_t clips_without_duration;
    int64_t empty_events;  /* of length 0 */
    int64_t joined_events; /* that overlapped or touched an earlier one of their class */
};
struct es_evalset_missing es_evalset_missing(const struct es_evalset *set);

/* Clips index[0..n) of the set, any number of times each: a bootstrap sample. Clips drawn twice count twice. Classes without an
 * event have ratios of 0. The parent must outlive it. */
int es_evalset_resample(struct es_evalset **out, const struct es_evalset *set, const int64_t *index,
                        int64_t n, struct es_err *err);
const char *es_evalset_clip_id(const struct es_evalset *set, int64_t i);
int es_evalset_classes(const struct es_evalset *set);
const char *es_evalset_class_name(const struct es_evalset *set, int i_class);
int64_t es_evalset_clips(const struct es_evalset *set);
double es_evalset_dur_s(const struct es_evalset *set);
int64_t es_evalset_events(const struct es_evalset *set, int i_class);
double es_evalset_events_dur_s(const struct es_evalset *set, int i_class);

/* ---- counts of one class at every decision level */

struct es_curve_ct { /* the number of cross triggers toward a class changes by delta at a level */
    uint32_t level;
    int32_t i_class, delta;
};
/* Levels from the highest down; score >= level is active. Above the first level all counts are 0. Counts at a
 * threshold th (active: score > th) are those of the last level with score > th. */
struct es_curve {
    int64_t n;
    double *score;
    int32_t *tp, *fp;
    int64_t n_ct;
    struct es_curve_ct *ct; /* by level */
    int64_t n_ref;          /* events, or positive segments */
    int64_t n_all;          /* segments, positive or not; 0 for the others */
};
void es_curve_free(struct es_curve **c);
/* Index of the level for a threshold; -1: nothing is detected. */
int64_t es_curve_at(const struct es_curve *c, double threshold);

/* ES_F1_CLIP: the whole clip is one segment, its score the largest of its frames (tagging). */
enum es_f1_kind { ES_F1_COLLAR, ES_F1_INTERSECTION, ES_F1_SEGMENT, ES_F1_CLIP };

struct es_f1_params {
    double dtc, gtc; /* intersection */
    double cttc;     /* curves only; NAN: cross triggers are not counted */
    double onset_collar_s, offset_collar_s, offset_collar_rate; /* collar: rate times the event's length */
    double segment_s;                                           /* segment */
    const double *class_threshold; /* [n_classes], for `fixed` in place of one threshold; NULL: none */
};
/* Challenge values: 0.5, 0.5, no cttc; 0.2 s, 0.2 s, 0.2; 1 s. */
struct es_f1_params es_f1_params_default(void);

/* Curve of one class (spec sections 3, 4, 7.1, 9.1, 9.2). */
int es_curve_new(struct es_curve **c, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
                 const struct es_f1_params *params, struct es_err *err);

/* ---- F1 (spec sections 7, 8, 9.2) */
struct es_f1_value {
    double f, precision, recall;
    double threshold; /* best: mid point to the next lower level; fixed: as given */
    int64_t tp, fp, n_ref, n_all;
};
struct es_f1 {
    int n_classes;
    char **class_name;
    struct es_f1_value *fixed, *best; /* [n_classes] */
    struct es_f1_value fixed_macro, fixed_micro, best_macro, best_micro;
};
/* threshold: for `fixed`, the same for all classes. */
int es_f1_new(struct es_f1 **f1, const struct es_evalset *set, enum es_f1_kind kind,
              const struct es_f1_params *params, double threshold, struct es_err *err);
void es_f1_free(struct es_f1 **f1);

/* ---- metrics by name, for a job's table and JSON */

/* Names, separated by commas:
 *   psds1 psds2         PSDS of the challenge; psds:DTC:GTC:CTTC:ALPHA_CT:ALPHA_ST:EFPR_MAX any other (CTTC "-": none)
 *   psds1_op psds2_op   from 50 operating points, as psds_eval (operating.h): newer version; extra v030: 0.3.0
 *   mpauc mauc          partial and full ROC area over segments of 1 s; rows *_staircase beside them
 *   collar_f1 intersection_f1 segment_f1 clip_f1    macro average at threshold 0.5; rows *_best: best threshold of each class
 *   event_error segment_error    error rates of sed_eval at threshold 0.5, over all classes; extra f1: micro F1 */
struct es_psds;
struct es_evaluation_row {
    char *name;
    double value;
    const char *extra_name; /* of another average: "macro" of psds, "micro" of f1; NULL: none */
    double extra;
    double *class_value;  /* [n_classes] */
    struct es_psds *psds; /* its curves; NULL for other metrics */
};
struct es_evaluation {
    int64_t n_clips, n_clips_scored; /* evaluated; in the score table (after joining recordings) */
    double dur_s;
    int n_classes;
    char **class_name;
    int n_rows;
    struct es_evaluation_row *rows;
};
/* names NULL: psds1,psds2,collar_f1,intersection_f1. ES_EUSAGE: a name that is not one. */
int es_evaluation_new(struct es_evaluation **e, const struct es_evalset *set, const char *names,
                      struct es_err *err);
/* ES_EUSAGE as above, without computing anything. */
int es_evaluation_check_names(const char *names, struct es_err *err);
void es_evaluation_free(struct es_evaluation **e);
/* A table: a line for all classes, then one a class. */
void es_evaluation_print(const struct es_evaluation *e, struct es_text *text);
/* PSD-ROC curves as TSV: metric, class (empty: the effective curve), efpr, tpr, score: frames with this score or more are active
 * (inf: nothing is; empty for the effective curve). */
int es_evaluation_save_roc(const struct es_evaluation *e, const char *path, struct es_err *err);

#endif
