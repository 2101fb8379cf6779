/* Confidence intervals by resampling clips (spec/evaluation.md section 15), and two systems side by side.
 *
 * N clips in order of their names, repeated n times, shuffled once as a whole (NumPy's legacy generator) and cut into n samples of N:
 * over all samples every clip occurs exactly n times; a clip drawn twice counts twice. Every metric is computed on every sample. The
 * interval holds the middle `confidence` of the values, linear between order statistics (NumPy's default percentile). Classes without
 * an event in a sample have ratios of 0; where a class's ROC area is undefined in a sample it is left out of that sample's mean,
 * and the interval is that of the samples that have a value.
 *
 * comm: ranks that share the samples, all with the same set; NULL: alone. Same digits for any number of ranks and threads.
 */
#ifndef EARSHOT_BOOTSTRAP_H
#define EARSHOT_BOOTSTRAP_H

#include "earshot/comm.h"
#include "earshot/evaluate.h"

/* index [n_samples * n_clips] out: clips of every sample, numbered in order of their names. */
void es_bootstrap_indices(int64_t *index, int64_t n_clips, int n_samples, uint32_t seed);

struct es_interval { /* of the values that are numbers; NAN without any */
    double mean, low, high;
};
/* values [n] is reordered. */
struct es_interval es_interval_of(double *values, int n, double confidence);

struct es_bootstrap_row {
    char *name;
    double *value;                                /* [n_samples] */
    double *class_value;                          /* [n_samples, K] */
    struct es_interval interval, *class_interval; /* [K] */
    double better; /* comparison: share of samples in which B is above A, ties half */
};
struct es_bootstrap {
    int n_samples, n_classes, n_rows;
    double confidence;
    char **class_name;
    struct es_bootstrap_row *rows; /* as es_evaluation_new makes them of the same names */
};
struct es_bootstrap_params {
    int n_samples;     /* 100 */
    uint32_t seed;     /* 0 */
    double confidence; /* 0.9 */
};
struct es_bootstrap_params es_bootstrap_params_default(void);

int es_bootstrap_all(struct es_bootstrap **b, const struct es_evalset *set, const struct es_comm *comm,
                     const char *names, const struct es_bootstrap_params *params, struct es_err *err);
/* Values of B minus those of A on the same samples. ES_EDATA: other clips or classes. */
int es_bootstrap_compare_all(struct es_bootstrap **b, const struct es_evalset *set_a,
                             const struct es_evalset *set_b, const struct es_comm *comm, const char *names,
                             const struct es_bootstrap_params *params, struct es_err *err);
void es_bootstrap_free(struct es_bootstrap **b);

#endif
