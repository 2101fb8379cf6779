/* The losses of stages 1 and 2 of one leaf (spec/training.md section 4; cpjku_dcase24 ex_stage1.py,
 * ex_stage2.py).
 *
 * Order of calls for a leaf: es_objective_mix_targets (labels, weak targets, class masks, pseudo-labels:
 * mixup and masking), forward of teacher and student, es_objective_build (terms on the student's tape). The
 * same mixing of features is es_mix_rows. Rows of a leaf: M, R, S, W, U blocks as in plan.h. K classes, T
 * frames. Collectivity: none.
 */
#ifndef EARSHOT_OBJECTIVE_H
#define EARSHOT_OBJECTIVE_H

#include "earshot/ops.h"
#include "earshot/plan.h"

/* What /leaf of the metrics file records, per leaf. */
enum es_term {
    ES_TERM_TOTAL,
    ES_TERM_MAESTRO,
    ES_TERM_REAL,
    ES_TERM_SYNTHETIC,
    ES_TERM_WEAK,
    ES_TERM_SSL, /* weighted, before loss_scale */
    ES_TERM_SSL_WEIGHT,
    ES_TERM_PSEUDO, /* weighted, before loss_scale */
    ES_N_TERMS
};
extern const char *const es_term_names[ES_N_TERMS];

/* Of how far predictions are from targets. */
enum es_measure {
    ES_MEASURE_BCE,
    ES_MEASURE_MSE,
    ES_MEASURE_BOTH, /* (4 MSE + BCE) / 2 */
    ES_N_MEASURES
};
/* Clips whose predictions have to agree with the teacher's in steps without interpolation consistency */
enum es_ssl_clips { ES_SSL_ALL, ES_SSL_DESED, ES_SSL_MAESTRO, ES_N_SSL_CLIPS };
/* Pseudo-labels of classes that a clip's class mask rules out: 0, or as they are, and then stage 1 compares them with
 * predictions without class mask. Published: 0 in stage 1, as they are in stage 2. */
enum es_pseudo_classes { ES_PSEUDO_PUBLISHED, ES_PSEUDO_MASKED, ES_PSEUDO_ALL, ES_N_PSEUDO_CLASSES };

struct es_objective_params {
    int stage;        /* 1 or 2 */
    double lambda[6]; /* M, R, S, W, SSL, pseudo */
    double ssl_warmup_steps, ssl_scale_max;
    enum es_measure maestro_type, ssl_type, pseudo_type; /* published: BCE, MSE, BCE */
    enum es_ssl_clips ssl_clips;
    enum es_pseudo_classes pseudo_classes;
    bool ssl_no_class_mask, exclude_maestro_weak_ssl, ict;
    bool mixup_hard;     /* mixup adds labels up (at most 1) instead of weighing them */
    bool no_desed_alias; /* DESED clips are not labelled with MAESTRO's names of their classes */
    double loss_scale;   /* 5 in stage 1, 1 in stage 2 */
    int leaves;          /* gradients and losses are divided by this */
};

struct es_targets {
    int n, first[ES_N_SETS + 1];
    int n_classes, n_frames;
    float *labels; /* [n,K,T] in/out */
    float *weak;   /* [n,K] clip-level targets, used and mixed in the weak set's rows, in/out */
    uint8_t *mask; /* [n,K] valid classes, in/out */
    float *pseudo; /* [n,K,T] probabilities in/out, or NULL */
    bool mixup;
    int n_mix;
    const struct es_mix_call *mix;
};

/* v[first+i] <- c[i] v[first+i] + (1-c[i]) v[first+perm[i]] for rows of row_n floats; scratch: call->n *
 * row_n floats. */
void es_mix_rows(const struct es_mix_call *call, float *x, int64_t row_n, float *scratch);

/* Mixes and masks the targets in place. The joint call (the one that holds MAESTRO and real strong) adds the
 * partner's active classes to the mask. scratch: n*K*T floats. */
void es_objective_mix_targets(const struct es_objective_params *op, struct es_targets *x, float *scratch);

struct es_predictions_tape { /* of the student: tensors of the tape; _all: without class mask */
    struct es_tensor *strong, *weak, *strong_all, *weak_all; /* [n,K,T], [n,K] */
};
struct es_predictions_data { /* of the teacher, masked unless ssl_no_class_mask */
    const float *strong, *weak;
};

/* Whether a term needs the student's predictions without class mask. */
bool es_objective_all_classes(const struct es_objective_params *op);

double es_objective_ssl_weight(const struct es_objective_params *op, int64_t step);

/* Adds all terms as losses of the tape; terms[ES_N_TERMS] gives tensors whose data hold the values
 * (es_objective_read). Teacher targets of ICT are made in kept memory. */
struct es_objective_terms {
    struct es_tensor *part[32];
    int term[32];
    double scale[32]; /* value = data / scale is the plain mean; 0: weighted sums */
    int n;
    double ssl_weight;
};
void es_objective_build(const struct es_objective_params *op, struct es_tape *t, const struct es_targets *x,
                        int64_t step, const struct es_predictions_tape *s,
                        const struct es_predictions_data *teacher, struct es_objective_terms *out);
/* terms [ES_N_TERMS] of this leaf (not divided by the number of leaves). */
void es_objective_read(const struct es_objective_params *op, const struct es_objective_terms *x,
                       double *terms);

#endif
