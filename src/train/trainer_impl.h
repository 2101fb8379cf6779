/* The trainer from inside: trainer.c makes and plans it, leaf.c runs a leaf forward, step.c a step. */
#ifndef EARSHOT_TRAINER_IMPL_H
#define EARSHOT_TRAINER_IMPL_H

#include "earshot/leafgather.h"
#include "train_impl.h"

/* Memory and tapes of one leaf; made twice: dry to measure, then real. */
struct workspace {
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *student, *teacher, *frozen;
};

struct rank_header { /* what every rank adds to the record exchange */
    double time[ES_N_TIMES];
};

struct es_trainer {
    struct es_trainer_params tp;
    int tree_leaves; /* of reducer and records: more than tp.leaves when there are more ranks (stage 1) */
    struct es_comm *comm;
    struct es_net *net;
    struct es_params *student, *teacher;
    struct es_bf16 *bf16; /* NULL: fp32 */
    bool settled;         /* the student's parameters are the last step's on this rank */
    struct workspace ws;
    struct es_reducer *reducer;
    struct es_optim *optim;
    struct es_leafgather *gather;
    int record_n;
    float *grads; /* of the current leaf */
    float *crnn_log, *mix_scratch;
    struct train_frozen *frozen; /* stage 1 with a transformer */
    float *teacher_strong, *teacher_weak;
    float *clip_labels; /* pre-training with clip outputs [n,K] */
    int64_t leaves_done;
    double time[ES_N_TIMES], mark_s;
    double optimizer_s; /* of the step before: it ends after the exchange of times */
    size_t planned[3];
};

/* Adds the time since the last mark to a phase. */
void trainer_lap(struct es_trainer *t, enum es_step_phase phase);

/* Forward passes and losses of one leaf; dry or real, as the tapes are. */
void trainer_run_leaf(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in, int64_t step,
                      int leaf, struct es_objective_terms *terms);
/* Computes blocks of another rank's leaf. */
void trainer_help_frozen(struct es_trainer *t);
/* For es_tape_on_param of the student. */
void trainer_on_param(void *ctx, int param);

#endif
