/* Shared by the files of src/train only. */
#ifndef EARSHOT_TRAIN_IMPL_H
#define EARSHOT_TRAIN_IMPL_H

#include "earshot/config.h"
#include "earshot/dataset.h"
#include "earshot/frontend.h"
#include "earshot/plan.h"
#include "earshot/trainer.h"

/* settings.c: from the configuration */
/* The note that bf16 was asked for (by `key`) and fp32 is what there is. */
void train_tell_no_bf16(const char *key);
enum es_phase train_phase(const struct es_config *cfg);
void train_plan_params(struct es_plan_params *pp, const struct es_config *cfg, const int64_t *n_clips);
int train_plan_new(struct es_plan **p, const struct es_config *cfg, struct es_dataset *d, struct es_err *err);
void train_trainer_params(struct es_trainer_params *tp, const struct es_config *cfg,
                          const struct es_plan *plan, int pretrain_classes);
int train_open_dataset_all(struct es_dataset **d, const struct es_comm *c, const struct es_config *cfg,
                           bool pseudo, bool stage, struct es_err *err);

/* overlaps.c: logs them; with strict a clip that trains and is scored is ES_EDATA. */
int train_overlaps_all(const struct es_comm *c, const struct es_config *cfg, const struct es_dataset *d,
                       bool strict, struct es_overlaps *out, struct es_err *err);

/* mels.c: before the teacher of stage 2 sees the leaf (in other phases: before anything else), and after; both change it in
 * place. scratch: as many floats as the leaf's larger mel, in all three. */
void train_augment_before(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch);
void train_augment_after(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch);
/* The CRNN's mel through ES_FILTER_CRNN or ES_FILTER_TEACHER: in scratch, or the mel itself. */
const float *train_augment_filtered(const struct es_trainer_params *tp, const struct es_leaf_input *in,
                                    int filter, float *scratch);

/* leaf.c: features [n,1,F,T] on a tape */
struct es_tensor *train_feature_input(const struct es_trainer_params *tp, struct es_tape *tape,
                                      float *features, int64_t n);

/* frozen.c: the frozen transformer of stage 1, in fixed blocks of clips, so that the shapes of its GEMMs depend neither on
 * the leaf nor on who computes. In every round (the i-th leaf of every rank) owners call _run, which gives blocks away, computes
 * the rest and collects; ranks without a leaf in this round call _receive and _help. tp, c and net must outlive it. */
struct train_frozen;
int train_frozen_new(struct train_frozen **f, const struct es_trainer_params *tp, const struct es_comm *c,
                     const struct es_net *net, int tree_leaves, struct es_err *err);
void train_frozen_free(struct train_frozen **f);
/* Who owns, who helps in round `round` of a step. false: nobody has a leaf left. */
bool train_frozen_round(struct train_frozen *f, int n_active, int round);
/* features [leaf_clips,1,F,T]; NULL: the leaf could not be read, and the helpers, who do not know, get what lies in memory. */
void train_frozen_run(struct train_frozen *f, struct es_tape *tape, float *features);
void train_frozen_receive(struct train_frozen *f);
void train_frozen_help(struct train_frozen *f, struct es_tape *tape, struct es_reducer *reducer);
/* The embeddings that _run left [leaf_clips, n_frames, width]. */
struct es_tensor *train_frozen_input(const struct train_frozen *f, struct es_tape *tape);

/* input.c: leaves for the trainer */
struct train_input {
    const struct es_trainer_params *tp;
    struct es_frontend *mel, *crnn_mel; /* crnn_mel: NULL in pre-training */
    float *features, *crnn;
    void *scratch;
    struct es_loader *loader;
    const struct es_plan *plan;
    struct es_trainer *trainer;
    int64_t first_step, end_step, next_step;
    int next_index;
    double wait_s, frontend_s; /* of the last leaf: until the loader had it; frontends */
};
int train_input_shapes(struct es_trainer_params *tp, struct es_err *err); /* frames of the mels of 10 s */
int train_input_new(struct train_input *in, const struct es_trainer_params *tp, const struct es_config *cfg,
                    struct es_err *err);
void train_input_free(struct train_input *in);
/* The sequence must be asked for completely: es_trainer_step_all for steps first_step .. end_step - 1. */
int train_input_start(struct train_input *in, struct es_dataset *d, const struct es_plan *plan,
                      struct es_trainer *t, int64_t first_step, int64_t end_step, struct es_err *err);
/* An es_leaf_fn. */
int train_input_leaf(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err);

#endif
