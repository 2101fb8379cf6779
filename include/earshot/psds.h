/* Polyphonic sound detection score, threshold independent (spec/evaluation.md section 5).
 *
 * Per class: all operating points (every distinct score is one) give a staircase of true positive ratio over
 * effective false positive rate. Over classes: mean - alpha_st * population standard deviation, not below 0.
 * PSDS is the area up to efpr_max, divided by it.
 *
 * Source: Bilen et al., ICASSP 2020; Ebbers et al., ICASSP
 * 2022 (sed_scores_eval). Exact, incremental: lowering the level by one score touches only the runs that this
 * frame starts, extends or joins.
 *
 * Collectivity: none. Same digits for any number of threads.
 */
#ifndef EARSHOT_PSDS_H
#define EARSHOT_PSDS_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/evaluate.h"

struct es_psds_params {
    double dtc, gtc;
    double cttc; /* NAN: no cross triggers; then alpha_ct must be 0, otherwise it must not */
    double alpha_ct, alpha_st;
    double efpr_max; /* per unit of time */
    double unit_s;   /* unit of time of the rates: 3600 an hour */
    bool non_oracle; /* keep every operating point of the curve, also where it falls */
};
struct es_psds_params es_psds1_params(void); /* 0.7 0.7 -   0   1 100 */
struct es_psds_params es_psds2_params(void); /* 0.1 0.1 0.3 0.5 1 100 */

struct es_roc { /* staircase: y of the last point with x' <= x */
    int64_t n;
    double *x, *y;
    double *score; /* level of each point, +inf for "nothing detected"; NULL in the effective curve */
};

struct es_psds {
    double value;
    double macro; /* mean of class_value */
    int n_classes;
    char **class_name;
    double *class_value;
    struct es_roc *class_roc; /* [n_classes] */
    struct es_roc roc;        /* effective curve, ends at efpr_max */
};

/* ES_EUSAGE: parameters out of range or contradictory; one class only with alpha_ct > 0. */
int es_psds_new(struct es_psds **psds, const struct es_evalset *set, const struct es_psds_params *params,
                struct es_err *err);
void es_psds_free(struct es_psds **psds);

#endif
