/* Weights of an ensemble, learned class by class on the validation clips of labelled stores (probe.h says which) and judged on the test
 * clips beside the plain mean.
 *
 * Per class: non-negative least squares of y - 1/2 on sigmoid(logit) - 1/2 of the M models, divided by the sum; the ensemble is the
 * mean of logits with these weights. With context c >= 0 also: ridge (gram.h, lambda = 0.01 of the mean of the diagonal) on the same
 * quantities of all models and classes in the frames t-c .. t+c (beyond the ends: the last one) and a constant; then the
 * ensemble's logit is 8 times the fit. Classes without validation rows keep equal weights.
 *
 * File (kind "stack"): classes text [K], files text [M], fitted u8 [K], weights f64 [K,M], context f32 [K,F] with F = M K (2c+1) + 1 in
 * the order model, class, frame; attribute context_frames (-1: none).
 */
#ifndef EARSHOT_STACK_H
#define EARSHOT_STACK_H

#include "earshot/comm.h"
#include "earshot/err.h"
#include "earshot/gram.h"
#include "earshot/store.h"

enum { ES_STACK_VERSION = 1 };

struct es_stack {
    int n_models, n_classes, context;
    int64_t n_features;
    uint8_t *fitted; /* [K] */
    double *weight;  /* [K, M] */
    float *w;        /* [K, F]; NULL without context */
};
void es_stack_free(struct es_stack **s);
int es_stack_load(struct es_stack **s, const char *path, int n_models, int n_classes,
                  const char *const *class_name, struct es_err *err);
int es_stack_save_all(const struct es_stack *s, const struct es_comm *c, const char *path,
                      const char *const *file, const char *const *class_name, struct es_err *err);
/* One clip: z[m] [T,K] logits of model m -> out [T,K]. row: scratch of n_features floats. Local. */
void es_stack_run(const struct es_stack *s, int T, const float *const *z, float *out, float *row);

struct es_stack_params {
    int n_files, n_stores;
    const char *const *file; /* predictions of all validation and test clips of the stores */
    struct es_store *const *store;
    int context;                /* frames on either side, -1: none */
    struct es_gram_params gram; /* as in probe.h */
    bool check;
};
enum { ES_STACK_MAX_SCORES = 72 };
struct es_stack_report { /* mpauc of test clips */
    int n;
    char name[ES_STACK_MAX_SCORES][96];   /* the files, "mean", "weights", "context" */
    double score[ES_STACK_MAX_SCORES][2]; /* DESED or AudioSet, MAESTRO; NAN: none */
    int64_t n_fit, n_test;
};
/* Collective; the result is on all ranks, the report on rank 0. */
int es_stack_fit_all(struct es_stack **s, struct es_stack_report *report, const struct es_comm *c,
                     const struct es_stack_params *p, struct es_err *err);

#endif
