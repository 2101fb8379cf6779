/* PSDS from operating points, as psds_eval computes it (spec/evaluation.md section 6): the older way, and the challenge's own
 * ranking. Two versions that differ in PSDS2 (6.3).
 *
 *     struct es_operating *o = NULL;
 *     es_operating_new(&o, truth, &params, err);             ground truth with durations
 *     es_operating_add(o, detections, 0.01, err);            one table of detections (events.h) a threshold
 *     es_operating_psds(&psds, o, alpha_ct, alpha_st, 100, err);
 *     es_operating_f1(o, 0, class_f, &macro);
 *
 * No rounding of times or sums. Detections of classes that the truth does not have are ignored. Collectivity: none.
 */
#ifndef EARSHOT_OPERATING_H
#define EARSHOT_OPERATING_H

#include "earshot/psds.h"
#include "earshot/scores.h"

enum es_operating_version {
    ES_OPERATING_030, /* psds_eval 0.3.0: touching meets; cross triggers over K */
    ES_OPERATING_05 /* newer: touching does not meet; events of length 0 dropped; overlaps refused; over K - 1 */
};

struct es_operating_params {
    double dtc, gtc, cttc;
    enum es_operating_version version;
};

struct es_operating_point {
    double threshold;
    /* [K + 1, K + 1], row: detected class, column: class of events; last of both: the world. Diagonal: true
     * positives; last column: false positives; the others: cross triggers */
    int64_t *counts;
    double *tp_ratio; /* [K] */
    double *fp_rate;  /* [K] an hour */
    uint64_t digest;  /* of the detections */
};

struct es_operating {
    struct es_operating_params params;
    int n_classes;
    char **class_name; /* in order of the alphabet */
    int64_t *n_ref;    /* [K] events */
    double *t_ref_s;   /* [K] their length */
    double dur_s;      /* of all clips in the table of durations */
    int n_points, cap_points;
    struct es_operating_point *points;
    struct es_operating_data *data; /* private */
};

/* ES_EDATA: no event; with ES_OPERATING_05 events of a class that overlap (identical rows may). */
int es_operating_new(struct es_operating **o, const struct es_truth *truth,
                     const struct es_operating_params *params, struct es_err *err);
void es_operating_free(struct es_operating **o);
/* Returns 1, and adds nothing, when the table is one that was added before. */
int es_operating_add(struct es_operating *o, const struct es_truth *detections, double threshold,
                     struct es_err *err);
/* One point for every threshold of a TSV with a column `threshold`. */
int es_operating_load(struct es_operating *o, const char *path, struct es_err *err);
/* The points of scores at n thresholds (default 50: 0.01, 0.03 .. 0.99), compared in float32. NULL: the default. */
int es_operating_add_scores(struct es_operating *o, const struct es_scores *scores, const double *thresholds,
                            int n, struct es_err *err);
/* class_value is the area below a class's curve, as single_class of psds.h. */
int es_operating_psds(struct es_psds **psds, const struct es_operating *o, double alpha_ct, double alpha_st,
                      double efpr_max, struct es_err *err);
/* 2 TP / (2 TP + FN + FP) at point i; NAN for classes without a true positive, which the mean leaves out (6.5). class_f [K]. Mean of
 * nothing: 0. */
void es_operating_f1(const struct es_operating *o, int i, double *class_f, double *macro);

#endif
