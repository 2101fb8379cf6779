/* Optimiser: Adam and AdamW on the shard of the parameters that this rank owns (ZeRO-1), learning-rate groups
 * and schedules, the teacher's moving average. spec/training.md section 5.
 *
 * The vector of trainable parameters is cut into segments by the reducer; moments exist for them alone: 1/P
 * of the whole. Collectivity: none; the sums come from es_reducer_finish_all, the new values go out with
 * es_reducer_gather_begin.
 */
#ifndef EARSHOT_OPTIM_H
#define EARSHOT_OPTIM_H

#include "earshot/reducer.h"
#include "earshot/tensor.h"

#define ES_MAX_GROUPS 40

struct es_optim_params {
    bool decoupled; /* AdamW; else Adam with the decay in the gradient */
    double beta1, beta2, eps, weight_decay;
    bool apart_1d; /* parameters with at most one dimension have a decay of their own */
    double weight_decay_1d;
    int n_groups;
    double lr[ES_MAX_GROUPS]; /* peak rate of es_param.group */
    int line_group; /* its rate does not follow the factor but goes from lr to line_end_lr in line_steps */
    int64_t line_steps; /* 0: no such group */
    double line_end_lr;
};

enum es_schedule { ES_SCHEDULE_COSINE, ES_SCHEDULE_CONSTANT };
/* Factor of optimiser step s (0-based): s/max(1,warmup), then half a cosine to 0 at total, or 1. */
double es_schedule_factor(enum es_schedule kind, int64_t step, int64_t warmup, int64_t total);
/* Rate of a group in step t (0-based). */
double es_optim_lr(const struct es_optim_params *op, int group, int64_t t, double factor);
/* min(1 - 1/(step+1), decay): step 0 copies the student. */
double es_ema_alpha(int64_t step, double decay);

struct es_optim;
int es_optim_new(struct es_optim **o, const struct es_optim_params *op, struct es_params *params,
                 struct es_reducer *r, struct es_err *err);
void es_optim_free(struct es_optim **o);
/* One step: t = number of steps completed before; every gradient is multiplied by grad_scale (clipping). */
void es_optim_step(struct es_optim *o, struct es_params *params, struct es_reducer *r, int64_t t,
                   double factor, double grad_scale);
int64_t es_optim_elements(const struct es_optim *o); /* moments held by this rank, of each kind */
float *es_optim_m(struct es_optim *o, int segment);  /* [segment n] for checkpoints */
float *es_optim_v(struct es_optim *o, int segment);

/* teacher <- alpha teacher + (1-alpha) student over trainable entries; frozen weights are copied while alpha
 * is 0 and never averaged; buffers are left alone. */
void es_ema_update(struct es_params *teacher, struct es_params *student, double alpha);

#endif
