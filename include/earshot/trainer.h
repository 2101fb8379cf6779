/* One training step: leaves through the networks, gradients through the reducer, optimiser, teacher
 * (ARCHITECTURE.md section 4).
 *
 * The trainer knows features and targets, not files: the caller hands it leaves (loader.h in a run, golden
 * data in tests).
 *
 * Order of calls: es_trainer_new_all; es_trainer_student / _teacher to load values; es_trainer_step_all for every step,
 * es_trainer_settle_all before the student is read; es_trainer_free_all.
 *
 * Precision: with a kind of bf16 the transformers' linear layers multiply in bf16 (kernels_bf16.h), by copies of the weights that are
 * packed again in every step; parameters, gradients and everything else stay fp32. Loading values needs no care. The kind must
 * be the same on all ranks.
 *
 * Memory: planned by a dry run of one leaf; es_trainer_report prints the table. No allocation after the first
 * step.
 */
#ifndef EARSHOT_TRAINER_H
#define EARSHOT_TRAINER_H

#include "earshot/kernels_bf16.h"
#include "earshot/nn.h"
#include "earshot/objective.h"
#include "earshot/optim.h"

enum es_phase { ES_PHASE_PRETRAIN, ES_PHASE_STAGE1, ES_PHASE_STAGE2 };
extern const char *const es_phase_names[3];

struct es_trainer_params {
    enum es_phase phase;
    enum es_bf16_kind bf16; /* ES_BF16_NONE: all in fp32 */
    struct es_net_config net;
    struct es_objective_params objective; /* stages */
    double pretrain_lambda;               /* share of the pseudo-label loss in pre-training */
    double pretrain_weak;                 /* weight of the clip outputs' loss; net.pretrain_weak: > 0 */
    struct es_optim_params optim;
    enum es_schedule schedule;
    int64_t warmup_steps, total_steps;
    double ema_decay, bn_momentum, clip_norm; /* clip_norm 0: off */
    int leaves, leaf_clips, first[ES_N_SETS + 1];
    int crnn_frames, feature_frames; /* time frames of the two mels of a clip (626, 1001) */
    int frozen_block;
    bool pseudo;        /* targets hold pseudo-labels */
    double shift_range; /* standard deviation of the frame shift, share of a clip's frames */
    double loss_limit;  /* a larger loss of a leaf makes the step a bad one; 0: only one that is not finite */
    uint64_t seed;
};

struct es_leaf_input {                     /* one leaf; the trainer mixes in place */
    float *crnn;                           /* [n,1,F,T] linear mel magnitudes; NULL in pre-training */
    float *features;                       /* [n,1,F,T] of the transformer */
    const struct es_augment_plan *augment; /* beside mixup; NULL: none */
    struct es_targets targets; /* pre-training: labels and pseudo are [n,T,K], weak and mask unused */
};
/* Fills *out for leaf `leaf` of `step`. May fail on this rank alone. */
typedef int (*es_leaf_fn)(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err);

enum es_step_phase {
    ES_TIME_INPUT,
    ES_TIME_AUGMENT,
    ES_TIME_TEACHER,
    ES_TIME_FORWARD,
    ES_TIME_BACKWARD,
    ES_TIME_REDUCE,
    ES_TIME_OPTIMIZER,
    ES_TIME_STEP,
    ES_N_TIMES
};
extern const char *const es_time_names[ES_N_TIMES];

struct es_step_report { /* the same on all ranks */
    int n_active;
    const double *leaf; /* leaf j's terms are leaf[j * leaf_stride + term] */
    int leaf_stride;
    double mean[ES_N_TERMS]; /* over active leaves, of the terms as published (total: sum over leaves /
                                leaves) */
    double gradient_norm, lr_factor;
    uint64_t digest; /* of the student's weights and buffers as the step found them; 0 when not asked for */
    double time_min[ES_N_TIMES], time_mean[ES_N_TIMES], time_max[ES_N_TIMES];
    int time_slowest[ES_N_TIMES];
    bool stop; /* some rank was signalled */
    /* a loss (of bad_leaf, the first; else -1) or the gradient's norm is not as it should be: nothing was changed */
    bool bad;
    int bad_leaf;
};
bool es_trainer_bad_loss(const struct es_trainer_params *tp, double loss);

struct es_trainer;
int es_trainer_new_all(struct es_trainer **t, const struct es_comm *c, const struct es_trainer_params *tp,
                       struct es_err *err);
void es_trainer_free_all(struct es_trainer **t);
void es_trainer_report(const struct es_trainer *t); /* the memory plan, to the log */
int64_t es_trainer_bytes(const struct es_trainer *t);
/* What a trainer would be: nothing big is allocated, no other rank is needed. bytes of a rank: parameters (student, teacher),
 * gradients and moments at P = 1 << i ranks, activations of a leaf; input buffers are not in it. */
struct es_trainer_size {
    int64_t parameters, trainable;   /* elements of one network */
    int64_t fixed_bytes, leaf_bytes; /* values of both networks, packed; activations, pools, scratch */
    int64_t gradient_bytes[16], moment_bytes[16]; /* at 1 << i ranks */
};
int es_trainer_size(const struct es_trainer_params *tp, struct es_trainer_size *out, struct es_err *err);
/* Matrix-product operations of one leaf: forward 1, backward 2, teacher 1. *frozen: the part that ranks share in stage 1. */
double es_trainer_leaf_flops(const struct es_trainer_params *tp, double *frozen);

const struct es_net *es_trainer_net(const struct es_trainer *t);
struct es_params *
es_trainer_student(struct es_trainer *t); /* behind a step: not before es_trainer_settle_all */
struct es_params *es_trainer_teacher(struct es_trainer *t); /* NULL in pre-training */
struct es_optim *es_trainer_optim(struct es_trainer *t);
struct es_reducer *es_trainer_reducer(struct es_trainer *t);
/* For es_tape_profile; NULL where the phase has none. */
enum es_tape_role { ES_TAPE_STUDENT, ES_TAPE_TEACHER, ES_TAPE_FROZEN };
struct es_tape *es_trainer_tape(struct es_trainer *t, enum es_tape_role role);

int es_trainer_step_all(struct es_trainer *t, int64_t step, int n_active, es_leaf_fn leaf, void *ctx,
                        bool digest, struct es_step_report *report, struct es_err *err);
/* Parameters of a step travel from their owners to the other ranks while the next step's forward pass goes on, each waited for where
 * it is first read. Ends that: before somebody else reads the student. Cheap when there is nothing to end. */
void es_trainer_settle_all(struct es_trainer *t);
/* Leaves this rank computed since creation (each leaf is computed once, by its owner). */
int64_t es_trainer_leaves_done(const struct es_trainer *t);
/* Of the last step, this rank: bytes of gradients and parameters sent; seconds of waiting for them that nothing hid. */
int64_t es_trainer_sent_bytes(const struct es_trainer *t);
double es_trainer_exposed_s(const struct es_trainer *t);
/* The i-th leaf that this rank computes in a step with n_active leaves: for loaders that read ahead. -1
 * beyond the last. */
int es_trainer_my_leaf(struct es_trainer *t, int n_active, int i);

#endif
