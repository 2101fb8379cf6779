/* From a resolved configuration to the parameters of plan and trainer. */
#include <string.h>

#include "earshot/log.h"
#include "earshot/train.h"
#include "train_impl.h"

static const char *const phases[3] = {"pretrain", "stage1", "stage2"};

void train_tell_no_bf16(const char *key) {
    es_log(ES_LOG_WARN, "%s: bf16: this processor has no bf16 instructions; computing in fp32", key);
}

enum es_phase train_phase(const struct es_config *cfg) {
    for (int i = 0; i < 3; i++)
        if (es_config_is(cfg, "phase", phases[i])) return (enum es_phase)i;
    return ES_PHASE_STAGE1;
}

static void augmentations(struct es_augment_params *a, const struct es_config *cfg, enum es_phase phase) {
    struct es_net_config net;
    bool pretrain = phase == ES_PHASE_PRETRAIN;
    es_net_config_from(&net, cfg, 0);
    const int *bands = es_config_ints(cfg, "augment.filter_bands", &(int){0});
    *a = (struct es_augment_params){.dir_p = es_config_double(cfg, "augment.dir"),
                                    .gain_db = es_config_int(cfg, "augment.gain_db"),
                                    .shift = es_config_double(cfg, "augment.frame_shift") > 0,
                                    .mask = es_config_bool(cfg, "augment.time_mask"),
                                    .mask_min = es_config_double(cfg, "augment.time_mask_min"),
                                    .mask_max = es_config_double(cfg, "augment.time_mask_max"),
                                    .style_p = es_config_double(cfg, "augment.mixstyle"),
                                    .style_alpha = es_config_double(cfg, "augment.mixstyle_alpha"),
                                    .filter_p = es_config_double(cfg, "augment.filter"),
                                    .filter_db = es_config_double(cfg, "augment.filter_db"),
                                    .bands_min = bands[0],
                                    .bands_max = bands[1],
                                    .band_width = es_config_int(cfg, "augment.filter_width"),
                                    .teacher_filter = phase == ES_PHASE_STAGE1,
                                    .feature_filter = phase != ES_PHASE_STAGE1,
                                    .label_frames = pretrain ? net.pretrain_frames : net.n_frames,
                                    .crnn_mels = pretrain ? 0 : net.crnn_mels,
                                    .feature_mels = net.transformer.n_mels};
    if (phase != ES_PHASE_STAGE1) { /* its transformer learns nothing */
        a->warp_p = es_config_double(cfg, "augment.freq_warp");
        a->warp_min = es_config_double(cfg, "augment.freq_warp_min");
    }
    if (pretrain) {
        a->mask_set[0] = true;
        return;
    }
    a->mask_set[ES_SET_R] = a->mask_set[ES_SET_S] = true; /* published target "desed_strong" */
    a->style_joint = es_config_bool(cfg, "augment.mixstyle_joint");
    a->warp_maestro = phase == ES_PHASE_STAGE2 && es_config_bool(cfg, "augment.freq_warp_maestro");
}

/* n_clips [ES_N_SETS]: what the stores hold. Without the impulse responses and weights that train_plan_new asks the dataset for. */
void train_plan_params(struct es_plan_params *pp, const struct es_config *cfg, const int64_t *n_clips) {
    bool pretrain = train_phase(cfg) == ES_PHASE_PRETRAIN;
    *pp = (struct es_plan_params){.seed = (uint64_t)es_config_i64(cfg, "run.seed"),
                                  .n_sets = pretrain ? 1 : ES_N_SETS,
                                  .leaves = es_config_int(cfg, "train.leaves"),
                                  .epoch_steps = es_config_i64(cfg, "data.epoch_steps"),
                                  .wavmix_p = es_config_double(cfg, "augment.wavmix"),
                                  .wavmix_alpha = es_config_double(cfg, "augment.wavmix_alpha"),
                                  .mixup_p = es_config_double(cfg, "augment.mixup"),
                                  .mixup_alpha = es_config_double(cfg, "augment.mixup_alpha")};
    memcpy(pp->n_clips, n_clips, sizeof pp->n_clips);
    augmentations(&pp->augment, cfg, train_phase(cfg));
    /* stage 1 holds the frontend in evaluation mode, too */
    if (es_config_is(cfg, "model.arch", "fpasst") && train_phase(cfg) != ES_PHASE_STAGE1) {
        pp->fmin_range = es_config_int(cfg, "frontend.fmin_range");
        pp->fmax_range = es_config_int(cfg, "frontend.fmax_range");
    }
    if (pretrain) {
        pp->size[0] = es_config_int(cfg, "pretrain.batch");
        pp->wavmix_set[0] = true;
        pp->epoch_leaves = (es_config_i64(cfg, "pretrain.epoch_clips") + pp->size[0] - 1) / pp->size[0];
        return;
    }
    int n;
    const int *size = es_config_ints(cfg, "data.subset_sizes", &n);
    for (int s = 0; s < ES_N_SETS; s++) pp->size[s] = size[s];
    pp->wavmix_set[ES_SET_M] = pp->wavmix_set[ES_SET_R] = pp->wavmix_set[ES_SET_S] =
        true; /* targets "strong" */
    pp->mixup_joint = es_config_bool(cfg, "augment.mixup_joint");
}

/* Index of a choice: `choices` in the order of its enum. */
static int choice(const struct es_config *cfg, const char *key, const char *const *choices, int n) {
    int i = 0;
    while (i < n - 1 && !es_config_is(cfg, key, choices[i])) i++;
    return i;
}

static void objective(struct es_objective_params *o, const struct es_config *cfg, enum es_phase phase) {
    static const char *const lambda[6] = {"loss.maestro", "loss.real", "loss.synthetic",
                                          "loss.weak",    "loss.ssl",  "loss.pseudo"};
    static const char *const types[ES_N_MEASURES] = {"bce", "mse", "both"};
    static const char *const clips[ES_N_SSL_CLIPS] = {"all", "desed", "maestro"};
    static const char *const classes[ES_N_PSEUDO_CLASSES] = {"published", "masked", "all"};
    *o = (struct es_objective_params){.leaves = es_config_int(cfg, "train.leaves"), .loss_scale = 1.0};
    if (phase == ES_PHASE_PRETRAIN) return;
    o->stage = phase == ES_PHASE_STAGE1 ? 1 : 2;
    for (int i = 0; i < 6; i++) o->lambda[i] = es_config_double(cfg, lambda[i]);
    o->ssl_warmup_steps = (double)es_config_i64(cfg, "loss.ssl_warmup_steps");
    o->ssl_scale_max = es_config_double(cfg, "loss.ssl_scale_max");
    o->maestro_type = (enum es_measure)choice(cfg, "loss.maestro_type", types, ES_N_MEASURES);
    o->ssl_type = (enum es_measure)choice(cfg, "loss.ssl_type", types, ES_N_MEASURES);
    o->pseudo_type = (enum es_measure)choice(cfg, "loss.pseudo_type", types, ES_N_MEASURES);
    o->ssl_clips = (enum es_ssl_clips)choice(cfg, "loss.ssl_clips", clips, ES_N_SSL_CLIPS);
    o->pseudo_classes =
        (enum es_pseudo_classes)choice(cfg, "loss.pseudo_classes", classes, ES_N_PSEUDO_CLASSES);
    o->mixup_hard = es_config_is(cfg, "augment.mixup_labels", "hard");
    o->no_desed_alias = !es_config_bool(cfg, "data.desed_alias");
    o->ssl_no_class_mask = es_config_bool(cfg, "loss.ssl_no_class_mask");
    o->exclude_maestro_weak_ssl = es_config_bool(cfg, "loss.exclude_maestro_weak_ssl");
    o->ict = phase == ES_PHASE_STAGE2 && es_config_bool(cfg, "loss.ict");
    o->loss_scale = es_config_double(cfg, "loss.scale");
    if (o->loss_scale == 0.0) o->loss_scale = phase == ES_PHASE_STAGE1 ? 5.0 : 1.0;
}

/* Groups: stage 1 has one; stage 2 and pre-training: 0 CNN, 1 RNN and heads, 2.. transformer from output to input. */
static void optimizer(struct es_optim_params *o, const struct es_config *cfg, enum es_phase phase) {
    *o = (struct es_optim_params){.decoupled = es_config_is(cfg, "optimizer.kind", "adamw"),
                                  .beta1 = es_config_double(cfg, "optimizer.beta1"),
                                  .beta2 = es_config_double(cfg, "optimizer.beta2"),
                                  .eps = es_config_double(cfg, "optimizer.eps")};
    if (o->decoupled) o->weight_decay = es_config_double(cfg, "optimizer.weight_decay");
    if (phase == ES_PHASE_STAGE1) {
        o->n_groups = 1;
        o->lr[0] = es_config_double(cfg, "optimizer.crnn_lr");
        return;
    }
    bool pretrain = phase == ES_PHASE_PRETRAIN;
    o->lr[0] = pretrain ? 0.0 : es_config_double(cfg, "optimizer.cnn_lr");
    o->lr[1] = es_config_double(cfg, pretrain ? "optimizer.head_lr" : "optimizer.rnn_lr");
    if (pretrain) {
        o->apart_1d = o->decoupled;
        if (o->apart_1d) o->weight_decay_1d = es_config_is(cfg, "quirks.adamw_1d", "published") ? 0.01 : 0.0;
        o->line_group = 1;
        o->line_steps = es_config_i64(cfg, "schedule.head_steps");
        o->line_end_lr = es_config_double(cfg, "schedule.head_end_lr");
    }
    o->n_groups = 2 + es_config_int(cfg, "model.depth") + 2;
    double lr = es_config_double(cfg, "optimizer.transformer_lr"),
           decay = es_config_double(cfg, "optimizer.layer_decay");
    for (int i = 2; i < o->n_groups; i++, lr *= decay) o->lr[i] = lr;
}

/* plan: for leaf composition and epoch length. pretrain_classes: of the stores, 0 in the stages. */
void train_trainer_params(struct es_trainer_params *tp, const struct es_config *cfg,
                          const struct es_plan *plan, int pretrain_classes) {
    enum es_phase phase = train_phase(cfg);
    const struct es_plan_params *pp = es_plan_get_params(plan);
    *tp = (struct es_trainer_params){.phase = phase,
                                     .warmup_steps = es_config_i64(cfg, "optimizer.warmup_steps"),
                                     .total_steps =
                                         es_config_i64(cfg, "train.epochs") * es_plan_epoch_steps(plan),
                                     .clip_norm = es_config_double(cfg, "train.clip_norm"),
                                     .loss_limit = es_config_double(cfg, "train.loss_limit"),
                                     .leaves = pp->leaves,
                                     .frozen_block = 1,
                                     .shift_range = es_config_double(cfg, "augment.frame_shift"),
                                     .seed = pp->seed};
    if (es_config_is(cfg, "train.precision", "bf16")) tp->bf16 = es_bf16_kind();
    es_net_config_from(&tp->net, cfg, pretrain_classes);
    objective(&tp->objective, cfg, phase);
    optimizer(&tp->optim, cfg, phase);
    tp->schedule = es_config_is(cfg, "schedule.kind", "cosine") ? ES_SCHEDULE_COSINE : ES_SCHEDULE_CONSTANT;
    for (int s = 0; s < pp->n_sets; s++) tp->first[s + 1] = tp->first[s] + pp->size[s];
    for (int s = pp->n_sets; s < ES_N_SETS; s++) tp->first[s + 1] = tp->first[s];
    tp->leaf_clips = tp->first[ES_N_SETS];
    if (phase == ES_PHASE_PRETRAIN) {
        tp->pretrain_lambda = es_config_double(cfg, "pretrain.lambda");
        tp->pretrain_weak = es_config_double(cfg, "pretrain.weak");
        tp->pseudo = tp->pretrain_lambda > 0.0;
        return;
    }
    tp->ema_decay = es_config_double(cfg, "ema.decay");
    tp->bn_momentum = es_config_double(cfg, "crnn.bn_momentum");
    tp->pseudo = tp->objective.lambda[5] > 0.0;
    if (phase == ES_PHASE_STAGE1) tp->frozen_block = es_config_int(cfg, "train.frozen_block");
}

/* Everything that only reads: the stores of a run (stage: from copies in data.stage_dir), with pseudo-labels where it learns from
 * them. */
int train_open_dataset_all(struct es_dataset **d, const struct es_comm *c, const struct es_config *cfg,
                           bool pseudo, bool stage, struct es_err *err) {
    bool pretrain = train_phase(cfg) == ES_PHASE_PRETRAIN;
    struct es_dataset_params dp = {.pretrain = pretrain,
                                   .no_desed_alias = !pretrain && !es_config_bool(cfg, "data.desed_alias"),
                                   .seed = (uint64_t)es_config_i64(cfg, "run.seed")};
    if (pretrain && es_config_is(cfg, "model.arch", "none"))
        return es_err_set(err, ES_EUSAGE,
                          "%s: model.arch: got none, want a transformer to pre-train: atst, fpasst or beats",
                          es_config_where(cfg, "model.arch"));
    ES_TRY(es_config_require(cfg, "data.stores", err));
    dp.store = es_config_strings(cfg, "data.stores", &dp.n_stores);
    dp.exclude = es_config_strings(cfg, "data.exclude", &dp.n_exclude);
    if (stage) dp.stage_dir = es_config_string(cfg, "data.stage_dir");
    dp.n_frames = es_config_int(cfg, pretrain ? "pretrain.frames" : "model.n_frames");
    const char *teacher = pretrain ? es_config_string(cfg, "pretrain.pseudo") : "";
    bool distil = !pseudo    ? false
                  : pretrain ? es_config_double(cfg, "pretrain.lambda") > 0
                             : es_config_double(cfg, "loss.pseudo") > 0;
    if (distil && pretrain) {
        ES_TRY(es_config_require(cfg, "pretrain.pseudo", err));
        dp.pseudo = &teacher;
        dp.n_pseudo = 1;
    } else if (distil) {
        ES_TRY(es_config_require(cfg, "data.pseudo", err));
        dp.pseudo = es_config_strings(cfg, "data.pseudo", &dp.n_pseudo);
    }
    if (es_config_double(cfg, "augment.dir") > 0) {
        ES_TRY(es_config_require(cfg, "augment.dir_files", err));
        dp.dir = es_config_strings(cfg, "augment.dir_files", &dp.n_dir);
    }
    ES_TRY(es_dataset_open_all(d, c, &dp, err));
    int classes = pretrain ? es_config_int(cfg, "pretrain.classes") : 0;
    if (classes == 0 || classes == es_dataset_classes(*d)) return 0;
    int rc = es_err_set(
        err, ES_EDATA,
        "%s: /classes: got %d, want the %d of pretrain.classes; prepare with the list of that many",
        dp.store[0], es_dataset_classes(*d), classes);
    es_dataset_close(d);
    return rc;
}

int train_plan_new(struct es_plan **p, const struct es_config *cfg, struct es_dataset *d,
                   struct es_err *err) {
    struct es_plan_params pp;
    train_plan_params(&pp, cfg, es_dataset_counts(d));
    pp.augment.n_dir = es_dataset_responses(d);
    if (train_phase(cfg) == ES_PHASE_PRETRAIN && es_config_is(cfg, "pretrain.sampler", "balanced"))
        ES_TRY(es_dataset_balance(d, &pp.weight, err));
    return es_plan_new(p, &pp, err);
}

int es_train_plan_open_all(struct es_train_plan *p, const struct es_comm *c, const struct es_config *cfg,
                           struct es_err *err) {
    *p = (struct es_train_plan){0};
    ES_TRY(train_open_dataset_all(&p->data, c, cfg, false, false, err));
    int rc = es_err_agree_all(c, train_plan_new(&p->plan, cfg, p->data, err), err);
    if (rc < 0) {
        es_train_plan_close(p);
        return rc;
    }
    p->leaves = es_plan_get_params(p->plan)->leaves;
    p->total_steps = es_config_i64(cfg, "train.epochs") * es_plan_epoch_steps(p->plan);
    return 0;
}

void es_train_plan_close(struct es_train_plan *p) {
    es_plan_free(&p->plan);
    es_dataset_close(&p->data);
}
