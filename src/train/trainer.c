#include "earshot/trainer.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/kernels.h"
#include "earshot/kernels_crnn.h"
#include "earshot/leafgather.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"
#include "train_impl.h"

const char *const es_phase_names[3] = {"pretrain", "stage1", "stage2"};
const char *const es_time_names[ES_N_TIMES] = {"input",    "augment",        "teacher",   "forward",
                                               "backward", "reduce_exposed", "optimizer", "step"};

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
    bool packed;          /* frozen weights were, in an earlier step */
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
    double time[ES_N_TIMES], mark_s,
        optimizer_s; /* optimizer_s: of the step before, it ends after the exchange of times */
    size_t planned[3];
};

/* ---- timers: es_lap adds the time since the last mark to a phase */
static void lap(struct es_trainer *t, enum es_step_phase phase) {
    double now = es_now_s();
    t->time[phase] += now - t->mark_s;
    t->mark_s = now;
}

/* ---- one leaf */

struct outputs {
    struct es_predictions_tape p;
    struct es_tensor *logits, *attention;
};

static void heads(struct es_tape *tape, struct outputs *o, double fill, const uint8_t *mask, bool masked,
                  bool unmasked) {
    if (masked) es_op_class_pool(tape, o->logits, o->attention, mask, fill, &o->p.strong, &o->p.weak);
    if (unmasked)
        es_op_class_pool(tape, o->logits, o->attention, NULL, fill, &o->p.strong_all, &o->p.weak_all);
}

/* filter: ES_FILTER_CRNN, ES_FILTER_TEACHER, or -1 */
static struct es_tensor *crnn_input(struct es_trainer *t, struct es_tape *tape,
                                    const struct es_leaf_input *in, int filter) {
    const struct es_trainer_params *tp = &t->tp;
    int64_t F = tp->net.crnn_mels, T = tp->crnn_frames;
    if (!es_tape_dry(tape)) {
        const float *mel = filter < 0 ? in->crnn : train_augment_filtered(tp, in, filter, t->mix_scratch);
        es_k_crnn_log(in->targets.n, F, T, mel, t->crnn_log);
    }
    return es_tape_input(tape, "crnn_log", 4, (int64_t[]){in->targets.n, 1, T, F}, t->crnn_log, false);
}

struct es_tensor *train_feature_input(const struct es_trainer_params *tp, struct es_tape *tape,
                                      float *features, int64_t n) {
    int64_t shape[4] = {n, 1, tp->net.transformer.n_mels, tp->feature_frames};
    return es_tape_input(tape, "features", 4, shape, features, false);
}

/* Teacher's predictions, copied out of its tape. */
static void run_teacher(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in,
                        struct es_tensor *z) {
    struct es_tape *tape = w->teacher;
    bool all = t->tp.objective.ssl_no_class_mask, dry = es_tape_dry(tape);
    struct es_tensor *x = crnn_input(t, tape, in, t->tp.phase == ES_PHASE_STAGE1 ? ES_FILTER_TEACHER : -1);
    if (!z && !t->tp.net.alone)
        z = es_net_embed(t->net, tape, train_feature_input(&t->tp, tape, in->features, in->targets.n));
    struct outputs o = {0};
    es_net_sed(t->net, tape, x, z, &o.logits, &o.attention);
    if (z) es_tape_drop(tape, z);
    heads(tape, &o, t->tp.net.mask_fill, in->targets.mask, !all, all);
    struct es_tensor *strong = all ? o.p.strong_all : o.p.strong, *weak = all ? o.p.weak_all : o.p.weak;
    if (!dry) {
        memcpy(t->teacher_strong, strong->data, (size_t)strong->n * sizeof(float));
        memcpy(t->teacher_weak, weak->data, (size_t)weak->n * sizeof(float));
    }
    es_tape_drop(tape, strong);
    es_tape_drop(tape, weak);
    es_tape_drop(tape, o.logits);
    es_tape_drop(tape, o.attention);
}

/* Computes blocks of another rank's leaf. */
static void help_frozen(struct es_trainer *t) {
    train_frozen_receive(t->frozen);
    lap(t, ES_TIME_INPUT);
    es_tape_reset(t->ws.student, 0, 0); /* its memory is the frozen transformer's too */
    es_tape_reset(t->ws.teacher, 0, 0);
    train_frozen_help(t->frozen, t->ws.frozen, t->reducer);
    lap(t, ES_TIME_FORWARD);
}

/* What the frozen transformer left, NULL without one. */
static struct es_tensor *frozen_input(struct es_trainer *t, struct es_tape *tape) {
    return t->frozen ? train_frozen_input(t->frozen, tape) : NULL;
}

static void run_stage(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in, int64_t step,
                      struct es_objective_terms *terms) {
    const struct es_trainer_params *tp = &t->tp;
    const struct es_objective_params *op = &tp->objective;
    bool dry = es_tape_dry(w->student);
    struct es_tensor *z = NULL;
    if (!dry) {
        train_augment_before(tp, in, t->mix_scratch);
        es_objective_mix_targets(op, &in->targets, t->mix_scratch);
    }
    if (tp->phase == ES_PHASE_STAGE1) {
        if (!dry) train_augment_after(tp, in, t->mix_scratch);
        lap(t, ES_TIME_AUGMENT);
        if (t->frozen) train_frozen_run(t->frozen, w->frozen, in->features);
        lap(t, ES_TIME_FORWARD);
        run_teacher(t, w, in, frozen_input(t, w->teacher));
        lap(t, ES_TIME_TEACHER);
        z = frozen_input(t, w->student);
    } else {
        lap(t, ES_TIME_AUGMENT);
        run_teacher(t, w, in, NULL);
        lap(t, ES_TIME_TEACHER);
        if (!dry) train_augment_after(tp, in, t->mix_scratch);
        lap(t, ES_TIME_AUGMENT);
    }
    struct es_tensor *x = crnn_input(t, w->student, in, ES_FILTER_CRNN);
    if (!z && !tp->net.alone)
        z = es_net_embed(t->net, w->student,
                         train_feature_input(&t->tp, w->student, in->features, in->targets.n));
    struct outputs o = {0};
    es_net_sed(t->net, w->student, x, z, &o.logits, &o.attention);
    heads(w->student, &o, tp->net.mask_fill, in->targets.mask, true, es_objective_all_classes(op));
    struct es_predictions_data q = {t->teacher_strong, t->teacher_weak};
    es_objective_build(op, w->student, &in->targets, step, &o.p, &q, terms);
    lap(t, ES_TIME_FORWARD);
}

/* Adds scale * (mean BCE to target) of logits, or of probabilities, to the losses. */
static void add_bce(struct es_tape *tape, struct es_objective_terms *terms, enum es_term term,
                    struct es_tensor *x, bool logits, const float *target, double scale) {
    struct es_loss_rows rows = {0, x->shape[0], scale, (double)x->n, NULL};
    struct es_tensor *loss = (logits ? es_op_bce_logits : es_op_bce)(tape, x, target, &rows);
    es_tape_add_loss(tape, loss);
    terms->part[terms->n] = loss;
    terms->term[terms->n] = (int)term;
    terms->scale[terms->n++] = scale;
}

/* Labels [n,T,K] and pseudo-labels mixed; clip_labels [n,K]: the largest of all frames, then mixed. */
static void pretrain_targets(struct es_trainer *t, struct es_targets *x) {
    int64_t T = t->tp.net.pretrain_frames, K = t->tp.net.pretrain_classes;
    for (int64_t i = 0; t->clip_labels && i < x->n * K; i++) {
        const float *y = x->labels + i / K * T * K + i % K;
        t->clip_labels[i] = y[0];
        for (int64_t f = 1; f < T; f++)
            if (y[f * K] > t->clip_labels[i]) t->clip_labels[i] = y[f * K];
    }
    for (int m = 0; x->mixup && m < x->n_mix; m++) {
        es_mix_rows(&x->mix[m], x->labels, T * K, t->mix_scratch);
        if (x->pseudo) es_mix_rows(&x->mix[m], x->pseudo, T * K, t->mix_scratch);
        if (t->clip_labels) es_mix_rows(&x->mix[m], t->clip_labels, K, t->mix_scratch);
    }
}

/* Pre-training: BCE of frames, (1 - lambda) labels + lambda pseudo-labels, and of the clip's outputs. */
static void run_pretrain(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in,
                         struct es_objective_terms *terms) {
    const struct es_trainer_params *tp = &t->tp;
    bool dry = es_tape_dry(w->student), clip = tp->pretrain_weak > 0.0;
    double lambda = tp->pretrain_lambda;
    if (!dry) {
        train_augment_before(tp, in, t->mix_scratch);
        pretrain_targets(t, &in->targets);
        train_augment_after(tp, in, t->mix_scratch);
    }
    lap(t, ES_TIME_AUGMENT);
    struct es_head_out o;
    struct es_tensor *x = train_feature_input(&t->tp, w->student, in->features, in->targets.n);
    es_net_head(t->net, w->student, es_net_transformer(t->net, w->student, x), clip, &o);
    *terms = (struct es_objective_terms){0};
    if (lambda < 1.0)
        add_bce(w->student, terms, ES_TERM_REAL, o.logits, true, in->targets.labels,
                (1.0 - lambda) / tp->leaves);
    if (lambda > 0.0)
        add_bce(w->student, terms, ES_TERM_PSEUDO, o.logits, true, in->targets.pseudo, lambda / tp->leaves);
    if (clip)
        add_bce(w->student, terms, ES_TERM_WEAK, o.weak, !o.strong, t->clip_labels,
                tp->pretrain_weak / tp->leaves);
    lap(t, ES_TIME_FORWARD);
}

static void run_leaf(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in, int64_t step,
                     int leaf, struct es_objective_terms *terms) {
    es_tape_reset(w->student, (uint32_t)step, (uint32_t)leaf);
    if (w->teacher) es_tape_reset(w->teacher, (uint32_t)step, (uint32_t)leaf);
    if (t->tp.phase == ES_PHASE_PRETRAIN)
        run_pretrain(t, w, in, terms);
    else
        run_stage(t, w, in, step, terms);
}

/* ---- workspace */

static void workspace_free(struct workspace *w) {
    es_tape_free(&w->frozen);
    es_tape_free(&w->teacher);
    es_tape_free(&w->student);
    es_pool_free(&w->pool);
    es_arena_free(&w->scratch);
    es_arena_free(&w->leaf);
}

static int workspace_new(struct workspace *w, struct es_trainer *t, const size_t bytes[3],
                         struct es_err *err) {
    int rc = 0;
    ES_GO(es_arena_new(&w->leaf, "leaf", bytes[0], err));
    ES_GO(es_arena_new(&w->scratch, "scratch", bytes[1], err));
    ES_GO(es_pool_new(&w->pool, "pool", bytes[2], err));
    struct es_tape_params p = {
        t->student, w->leaf, w->scratch, w->pool, true, true, t->tp.seed, ES_RNG_STUDENT_DROPOUT, t->bf16};
    ES_GO(es_tape_new(&w->student, &p, err));
    if (t->tp.phase == ES_PHASE_PRETRAIN) return 0;
    p.record = p.train = false;
    ES_GO(es_tape_new(&w->frozen, &p, err));
    p.train = true;
    p.params = t->teacher;
    p.dropout_purpose = ES_RNG_TEACHER_DROPOUT;
    ES_GO(es_tape_new(&w->teacher, &p, err));
done:
    if (rc < 0) workspace_free(w);
    return rc;
}

/* Runs one leaf dry and keeps the peaks. */
static int plan_memory(struct es_trainer *t, struct es_err *err) {
    struct workspace dry = {0};
    size_t none[3] = {0, 0, 0};
    ES_TRY(workspace_new(&dry, t, none, err));
    struct es_leaf_input in = {.targets = {.n = t->tp.leaf_clips,
                                           .n_classes = t->tp.net.n_classes,
                                           .n_frames = t->tp.net.n_frames,
                                           .n_mix = 0}};
    memcpy(in.targets.first, t->tp.first, sizeof in.targets.first);
    float pseudo = 0.0f;
    in.targets.pseudo = t->tp.pseudo ? &pseudo : NULL;
    /* the larger of both branches: ICT keeps the mixed targets. Weights > 0 so that every term is there. */
    struct es_objective_params saved = t->tp.objective;
    if (saved.ict) in.targets.mixup = true;
    struct es_objective_terms terms;
    run_leaf(t, &dry, &in, INT32_MAX, 0, &terms);
    static float gradient_stand_in; /* never touched: the tape is dry */
    es_tape_backward(dry.student, &gradient_stand_in, NULL);
    if (saved.ict) {
        in.targets.mixup = false;
        run_leaf(t, &dry, &in, INT32_MAX, 0, &terms);
        es_tape_backward(dry.student, &gradient_stand_in, NULL);
    }
    size_t kept = saved.ict ? (size_t)t->tp.leaf_clips * (size_t)t->tp.net.n_classes *
                                      ((size_t)t->tp.net.n_frames + 1) * 4 +
                                  256
                            : 0;
    t->planned[0] = es_arena_peak(dry.leaf) + kept;
    t->planned[1] = es_arena_peak(dry.scratch) + kept + 64;
    t->planned[2] = es_pool_peak(dry.pool) + 64;
    workspace_free(&dry);
    return 0;
}

static float *new_floats(int64_t n, struct es_err *err) {
    return es_alloc((size_t)(n > 0 ? n : 1), sizeof(float), err);
}

static int allocate(struct es_trainer *t, struct es_err *err) {
    const struct es_trainer_params *tp = &t->tp;
    int64_t n = tp->leaf_clips, crnn_row = (int64_t)tp->net.crnn_mels * tp->crnn_frames;
    int64_t feature_row = (int64_t)tp->net.transformer.n_mels * tp->feature_frames;
    int64_t target_row = tp->phase == ES_PHASE_PRETRAIN
                             ? (int64_t)tp->net.pretrain_classes * tp->net.pretrain_frames
                             : (int64_t)tp->net.n_classes * tp->net.n_frames;
    int64_t widest = feature_row > target_row ? feature_row : target_row;
    if (tp->phase != ES_PHASE_PRETRAIN && crnn_row > widest) widest = crnn_row;
    t->mix_scratch = new_floats(n * widest, err);
    if (!t->mix_scratch) return -ES_EIO;
    if (tp->phase == ES_PHASE_PRETRAIN) {
        if (tp->pretrain_weak == 0.0) return 0;
        t->clip_labels = new_floats(n * tp->net.pretrain_classes, err);
        return t->clip_labels ? 0 : -ES_EIO;
    }
    t->crnn_log = new_floats(n * crnn_row, err);
    t->teacher_strong = new_floats(n * tp->net.n_classes * tp->net.n_frames, err);
    t->teacher_weak = new_floats(n * tp->net.n_classes, err);
    if (!t->crnn_log || !t->teacher_strong || !t->teacher_weak) return -ES_EIO;
    if (tp->phase != ES_PHASE_STAGE1 || tp->net.alone) return 0;
    return train_frozen_new(&t->frozen, tp, t->comm, t->net, t->tree_leaves, err);
}

/* Whose transformer runs: not the teacher's in stage 1. */
static struct es_params *packed_teacher(const struct es_trainer *t) {
    return t->tp.phase == ES_PHASE_STAGE2 ? t->teacher : NULL;
}

static int set_up_bf16(struct es_trainer *t, struct es_err *err) {
    if (t->tp.bf16 == ES_BF16_NONE || t->tp.net.alone) return 0;
    ES_TRY(es_bf16_new(&t->bf16, t->tp.bf16, err));
    ES_TRY(es_params_packed_new(t->student, t->bf16, err));
    return packed_teacher(t) ? es_params_packed_new(packed_teacher(t), t->bf16, err) : 0;
}

/* Frozen values come from a checkpoint or import before the first step and stay. */
static void weights_changed(struct es_trainer *t) {
    if (!t->bf16) return;
    es_params_changed(t->student, !t->packed);
    if (packed_teacher(t)) es_params_changed(packed_teacher(t), !t->packed);
    t->packed = true;
}

/* The student's forward pass is about to read a parameter: what other ranks changed of it must be there. */
static void on_param(void *ctx, int param) {
    struct es_trainer *t = ctx;
    const struct es_param *p = es_params_at(t->student, param);
    if (!p->trainable) return;
    if (!t->settled) es_reducer_gather_wait(t->reducer, p->offset, p->n);
}

static int64_t packed_bytes(const struct es_trainer *t) {
    if (!t->bf16) return 0;
    return es_params_packed_bytes(t->student, t->bf16) * (packed_teacher(t) ? 2 : 1);
}

/* Everything of es_trainer_new_all that one rank may fail at alone. */
static int set_up(struct es_trainer *t, struct es_err *err) {
    ES_ASSERT(t->tp.phase != ES_PHASE_PRETRAIN || t->tp.net.pretrain_weak == (t->tp.pretrain_weak > 0.0));
    ES_TRY(es_params_new(&t->student, err));
    ES_TRY(es_net_new(&t->net, &t->tp.net, t->student, err));
    es_net_freeze(t->net, t->student, t->tp.phase == ES_PHASE_STAGE1);
    for (int i = 0; i < es_params_count(t->student); i++) {
        struct es_param *p = es_params_at(t->student, i);
        p->group = 0;
    }
    ES_TRY(es_params_layout(t->student, err));
    es_params_init(t->student, t->tp.seed);
    if (t->tp.phase != ES_PHASE_PRETRAIN) ES_TRY(es_params_clone(&t->teacher, t->student, err));
    ES_TRY(set_up_bf16(t, err));
    ES_TRY(allocate(t, err));
    ES_TRY(plan_memory(t, err));
    return workspace_new(&t->ws, t, t->planned, err);
}

/* Learning-rate groups: spec/training.md section 5. Stage 1: one. Stage 2: CNN, rest of the CRNN, then
 * transformer from output to input. Pre-training: head, transformer parts. */
static void set_groups(struct es_trainer *t) {
    for (int i = 0; i < es_params_count(t->student); i++) {
        struct es_param *p = es_params_at(t->student, i);
        if (!p->trainable || t->tp.phase == ES_PHASE_STAGE1) continue;
        enum es_param_part part = es_net_part(t->net, p->name);
        p->group = part == ES_PART_CNN           ? 0
                   : part == ES_PART_TRANSFORMER ? 2 + es_net_depth_index(t->net, p->name)
                                                 : 1;
    }
}

/* Stage 1 shares its frozen transformer, so that ranks beyond the leaves have work: their slots of the tree stay empty. */
static int count_leaves(struct es_trainer *t, int size, struct es_err *err) {
    int leaves = t->tp.leaves, below = 1;
    while (2 * below <= size) below *= 2;
    t->tree_leaves = leaves;
    if (t->tp.phase != ES_PHASE_STAGE1 || size <= leaves) return 0;
    if (below != size)
        return es_err_set(err, ES_EUSAGE, "ranks: got %d, want a power of two; run with %d or %d", size,
                          below, 2 * below);
    t->tree_leaves = size;
    return 0;
}

int es_trainer_new_all(struct es_trainer **out, const struct es_comm *c, const struct es_trainer_params *tp,
                       struct es_err *err) {
    *out = es_alloc(1, sizeof **out, err);
    int rc = *out ? 0 : -ES_EIO;
    ES_GO(es_err_agree_all(c, rc, err));
    struct es_trainer *t = *out;
    t->tp = *tp;
    ES_GO(count_leaves(t, es_comm_size(c), err));
    ES_GO(es_comm_dup_all(&t->comm, c, err));
    ES_GO(es_err_agree_all(c, set_up(t, err), err));
    es_tape_on_param(t->ws.student, on_param, t);
    t->settled = true;
    set_groups(t);
    ES_GO(
        es_reducer_new_all(&t->reducer, t->comm, es_params_n_trainable(t->student), t->tree_leaves, 0, err));
    rc = es_optim_new(&t->optim, &tp->optim, t->student, t->reducer, err);
    t->record_n = ES_N_TERMS;
    for (int i = 0; i < es_params_count(t->student); i++) {
        const struct es_param *p = es_params_at(t->student, i);
        if (strstr(p->name, ".running_")) t->record_n += 2 * (int)p->n;
    }
    ES_GO(es_err_agree_all(c, rc, err));
    ES_GO(es_leafgather_new_all(&t->gather, t->comm, t->tree_leaves, t->record_n, sizeof(struct rank_header),
                                err));
done:
    if (rc < 0) es_trainer_free_all(out);
    return rc;
}

void es_trainer_free_all(struct es_trainer **out) {
    if (!*out) return;
    struct es_trainer *t = *out;
    if (t->gather) es_leafgather_free_all(&t->gather);
    es_optim_free(&t->optim);
    if (t->reducer) es_reducer_free_all(&t->reducer);
    workspace_free(&t->ws);
    train_frozen_free(&t->frozen);
    es_free(&t->teacher_weak);
    es_free(&t->teacher_strong);
    es_free(&t->crnn_log);
    es_free(&t->clip_labels);
    es_free(&t->mix_scratch);
    es_params_free(&t->teacher);
    es_params_free(&t->student);
    es_bf16_free(&t->bf16);
    es_net_free(&t->net);
    if (t->comm) es_comm_free_all(&t->comm);
    es_free(out);
}

static double gib(int64_t bytes) {
    return (double)bytes / (1024.0 * 1024.0 * 1024.0);
}

int64_t es_trainer_bytes(const struct es_trainer *t) {
    int64_t values = es_params_n_values(t->student) * 4;
    return values * (t->teacher ? 2 : 1) + packed_bytes(t) + es_reducer_bytes(t->reducer) +
           8 * es_optim_elements(t->optim) + (int64_t)(t->planned[0] + t->planned[1] + t->planned[2]);
}

int es_trainer_size(const struct es_trainer_params *tp, struct es_trainer_size *out, struct es_err *err) {
    struct es_trainer t = {.tp = *tp};
    int rc = 0;
    *out = (struct es_trainer_size){0};
    ES_GO(es_params_new(&t.student, err));
    ES_GO(es_net_new(&t.net, &t.tp.net, t.student, err));
    es_net_freeze(t.net, t.student, tp->phase == ES_PHASE_STAGE1);
    ES_GO(es_params_layout(t.student, err));
    if (tp->phase != ES_PHASE_PRETRAIN) t.teacher = t.student; /* of one layout; a dry run touches no value */
    if (tp->bf16 != ES_BF16_NONE && !tp->net.alone) ES_GO(es_bf16_new(&t.bf16, tp->bf16, err));
    ES_GO(plan_memory(&t, err));
    int64_t n = es_params_n_trainable(t.student), values = es_params_n_values(t.student) * 4;
    out->parameters = es_params_elements(t.student, false);
    out->trainable = es_params_elements(t.student, true);
    out->fixed_bytes = values * (t.teacher ? 2 : 1) + packed_bytes(&t);
    out->leaf_bytes = (int64_t)(t.planned[0] + t.planned[1] + t.planned[2]);
    int slots = 1;
    while (slots < tp->leaves) slots *= 2;
    for (int i = 0; i < 16;
         i++) { /* a rank's vectors of the binary counter, or half of one for the exchange */
        int64_t ranks = (int64_t)1 << i, depth = 0;
        while (ranks << depth < slots) depth++;
        out->gradient_bytes[i] = 4 * n * (depth + 1) + (depth == 0 && ranks > 1 ? 2 * n : 0);
        out->moment_bytes[i] = (8 * n + ranks - 1) / ranks;
    }
done:
    es_net_free(&t.net);
    es_params_free(&t.student);
    es_bf16_free(&t.bf16);
    return rc;
}

double es_trainer_leaf_flops(const struct es_trainer_params *tp, double *frozen) {
    double transformer = es_net_flops_transformer(&tp->net, tp->feature_frames);
    double head = es_net_flops_head(&tp->net, tp->crnn_frames), n = tp->leaf_clips;
    *frozen = tp->phase == ES_PHASE_STAGE1 ? n * transformer : 0;
    if (tp->phase == ES_PHASE_PRETRAIN) return n * 3 * (transformer + head);
    if (tp->phase == ES_PHASE_STAGE1) return n * (transformer + 4 * head); /* teacher 1, student 3 */
    return n * 4 * (transformer + head);
}

void es_trainer_report(const struct es_trainer *t) {
    int64_t values = es_params_n_values(t->student) * 4;
    es_log(ES_LOG_INFO,
           "memory_plan rank=0 parameters_gib=%.3f teacher_gib=%.3f packed_gib=%.3f gradients_gib=%.3f "
           "moments_gib=%.3f "
           "leaf_gib=%.3f pool_gib=%.3f "
           "scratch_gib=%.3f total_gib=%.3f",
           gib(values), t->teacher ? gib(values) : 0.0, gib(packed_bytes(t)),
           gib(es_reducer_bytes(t->reducer)), gib(8 * es_optim_elements(t->optim)),
           gib((int64_t)t->planned[0]), gib((int64_t)t->planned[2]), gib((int64_t)t->planned[1]),
           gib(es_trainer_bytes(t)));
    es_log(ES_LOG_INFO, "model parameters=%lld trainable=%lld",
           (long long)es_params_elements(t->student, false), (long long)es_params_elements(t->student, true));
}

const struct es_net *es_trainer_net(const struct es_trainer *t) {
    return t->net;
}
struct es_params *es_trainer_student(struct es_trainer *t) {
    ES_ASSERT(t->settled);
    return t->student;
}
struct es_params *es_trainer_teacher(struct es_trainer *t) {
    return t->teacher;
}
struct es_optim *es_trainer_optim(struct es_trainer *t) {
    return t->optim;
}
struct es_reducer *es_trainer_reducer(struct es_trainer *t) {
    return t->reducer;
}
struct es_tape *es_trainer_tape(struct es_trainer *t, enum es_tape_role role) {
    return role == ES_TAPE_STUDENT ? t->ws.student : role == ES_TAPE_TEACHER ? t->ws.teacher : t->ws.frozen;
}
int64_t es_trainer_leaves_done(const struct es_trainer *t) {
    return t->leaves_done;
}

int es_trainer_my_leaf(struct es_trainer *t, int n_active, int i) {
    for (int slot = 0, seen = 0; slot < es_reducer_n_slots(t->reducer); slot++)
        for (int leaf = 0; leaf < n_active; leaf++)
            if (es_reducer_slot_of_leaf(t->tree_leaves, leaf) == slot &&
                es_reducer_rank_of_leaf(t->tree_leaves, es_comm_size(t->comm), leaf) ==
                    es_comm_rank(t->comm) &&
                seen++ == i)
                return leaf;
    return -1;
}

/* ---- the step */

static void on_grad(void *ctx, int param) {
    struct es_trainer *t = ctx;
    const struct es_param *p = es_params_at(t->student, param);
    int64_t padded = (p->n + 15) / 16 * 16;
    for (int64_t k = p->n; k < padded; k++) t->grads[p->offset + k] = 0.0f; /* padding counts in the norm */
    if (es_fault_hit("nan")) t->grads[p->offset] = (float)NAN;
    es_reducer_ready(t->reducer, p->offset, padded);
}

static void between(void *ctx) {
    es_reducer_poll(((struct es_trainer *)ctx)->reducer);
}

/* Batch statistics of both models behind the loss terms of a leaf's record. */
static void write_stats(const struct es_tape *tape, double **at) {
    for (int i = 0; i < es_tape_n_stats(tape); i++) {
        struct es_tape_stats s = es_tape_stats_at(tape, i);
        for (int k = 0; k < s.n; k++) *(*at)++ = (double)s.mean[k];
        for (int k = 0; k < s.n; k++) *(*at)++ = (double)s.var[k];
    }
}

static const double *replay_stats(struct es_params *params, const double *at, double momentum) {
    for (int i = 0; i < es_params_count(params); i++) {
        const struct es_param *p = es_params_at(params, i);
        float *x = es_params_data(params, i), m = (float)momentum;
        if (strstr(p->name, ".running_"))
            for (int64_t k = 0; k < p->n; k++) x[k] = (1.0f - m) * x[k] + m * (float)*at++;
        else if (strstr(p->name, "num_batches_tracked"))
            x[0] += 1.0f;
    }
    return at;
}

/* For tests: a rank that dies or hangs in its n-th leaf. */
static void misbehave(void) {
    if (es_fault_hit("kill")) raise(SIGKILL);
    if (es_fault_hit("stall"))
        for (;;) pause();
    es_fault_here("step");
}

static int my_leaves(struct es_trainer *t, int64_t step, int n_active, es_leaf_fn get, void *ctx,
                     struct es_err *err) {
    int rc = 0, n_mine = es_reducer_n_mine(t->reducer);
    for (int i = 0; i < n_mine; i++) {
        int leaf = es_reducer_leaf(t->reducer, i);
        double *record = es_leafgather_record(t->gather, leaf);
        struct es_leaf_input in = {0};
        memset(record, 0, (size_t)t->record_n * sizeof *record);
        if (rc == 0) rc = get(ctx, step, leaf, &in, err);
        lap(t, ES_TIME_INPUT);
        t->grads = es_reducer_leaf_begin(t->reducer, i);
        if (t->frozen) train_frozen_round(t->frozen, n_active, i);
        if (rc < 0 && t->frozen) train_frozen_run(t->frozen, t->ws.frozen, NULL);
        if (rc == 0) {
            struct es_objective_terms terms;
            struct es_tape_hooks hooks = {i == n_mine - 1 ? on_grad : NULL, i == n_mine - 1 ? between : NULL,
                                          t};
            run_leaf(t, &t->ws, &in, step, leaf, &terms);
            es_objective_read(&t->tp.objective, &terms, record);
            double *at = record + ES_N_TERMS;
            if (t->teacher) write_stats(t->ws.student, &at);
            if (t->teacher) write_stats(t->ws.teacher, &at);
            if (es_fault_hit("nan-loss")) record[ES_TERM_TOTAL] = (double)NAN;
            misbehave();
            es_tape_backward(t->ws.student, t->grads, &hooks);
            lap(t, ES_TIME_BACKWARD);
            t->leaves_done++;
        }
        es_reducer_leaf_end(t->reducer, i);
    }
    /* rounds of ranks with more leaves than this one */
    for (int i = n_mine; t->frozen && train_frozen_round(t->frozen, n_active, i); i++) help_frozen(t);
    return rc;
}

bool es_trainer_bad_loss(const struct es_trainer_params *tp, double loss) {
    return !isfinite(loss) || (tp->loss_limit > 0.0 && loss > tp->loss_limit);
}

static void read_headers(const struct es_trainer *t, struct es_step_report *report) {
    int size = es_comm_size(t->comm);
    for (int r = 0; r < size; r++) {
        const struct rank_header *h = es_leafgather_rank_header(t->gather, r);
        for (int k = 0; k < ES_N_TIMES; k++) {
            if (r == 0 || h->time[k] < report->time_min[k]) report->time_min[k] = h->time[k];
            if (r == 0 || h->time[k] > report->time_max[k]) {
                report->time_max[k] = h->time[k];
                report->time_slowest[k] = r;
            }
            report->time_mean[k] += h->time[k] / size;
        }
    }
}

int64_t es_trainer_sent_bytes(const struct es_trainer *t) {
    return es_reducer_sent_bytes(t->reducer);
}
double es_trainer_exposed_s(const struct es_trainer *t) {
    return es_reducer_exposed_s(t->reducer);
}

void es_trainer_settle_all(struct es_trainer *t) {
    if (!t->settled) es_reducer_gather_wait(t->reducer, 0, es_params_n_trainable(t->student));
    t->settled = true;
}

int es_trainer_step_all(struct es_trainer *t, int64_t step, int n_active, es_leaf_fn leaf, void *ctx,
                        bool digest, struct es_step_report *report, struct es_err *err) {
    const struct es_trainer_params *tp = &t->tp;
    double begin_s = es_now_s();
    memset(report, 0, sizeof *report);
    memset(t->time, 0, sizeof t->time);
    t->mark_s = begin_s;
    es_reducer_begin(t->reducer, n_active);
    es_leafgather_begin(t->gather, n_active);
    weights_changed(t);
    int rc = my_leaves(t, step, n_active, leaf, ctx, err);
    int finished = es_reducer_finish_all(t->reducer, rc == 0 ? err : NULL);
    if (rc == 0) rc = finished;
    t->settled = true;
    lap(t, ES_TIME_REDUCE);
    if (digest) report->digest = es_params_digest(t->student);

    struct rank_header *h = es_leafgather_header(t->gather);
    memcpy(h->time, t->time, sizeof h->time);
    h->time[ES_TIME_OPTIMIZER] = t->optimizer_s;
    h->time[ES_TIME_STEP] = es_now_s() - begin_s + t->optimizer_s;
    ES_TRY(es_leafgather_all(t->gather, rc, es_stop_requested(), err));
    report->stop = es_leafgather_stop(t->gather);
    read_headers(t, report);

    report->gradient_norm = sqrt(es_reducer_norm2_all(t->reducer)); /* the same on all ranks */
    report->n_active = n_active;
    report->leaf = es_leafgather_leaf(t->gather, 0);
    report->leaf_stride = t->record_n;
    report->bad_leaf = -1;
    for (int j = 0; j < n_active; j++) {
        const double *record = es_leafgather_leaf(t->gather, j);
        for (int k = 0; k < ES_N_TERMS; k++) report->mean[k] += record[k] / n_active;
        if (report->bad_leaf < 0 && es_trainer_bad_loss(tp, record[ES_TERM_TOTAL])) report->bad_leaf = j;
    }
    report->bad = report->bad_leaf >= 0 || !isfinite(report->gradient_norm);
    if (report->bad) return 0; /* before anything changes */
    for (int j = 0; j < n_active; j++) {
        const double *record = es_leafgather_leaf(t->gather, j);
        const double *at = record + ES_N_TERMS;
        if (t->teacher) at = replay_stats(t->student, at, tp->bn_momentum);
        if (t->teacher) replay_stats(t->teacher, at, tp->bn_momentum);
    }
    double scale = 1.0;
    if (tp->clip_norm > 0.0 && report->gradient_norm > tp->clip_norm)
        scale = tp->clip_norm / (report->gradient_norm + 1e-6);
    report->lr_factor = es_schedule_factor(tp->schedule, step, tp->warmup_steps, tp->total_steps);
    if (t->teacher) es_ema_update(t->teacher, t->student, es_ema_alpha(step, tp->ema_decay));
    es_optim_step(t->optim, t->student, t->reducer, step, report->lr_factor, scale);
    es_reducer_gather_begin(t->reducer, es_params_values(t->student));
    t->settled = false;
    if (t->frozen)
        es_trainer_settle_all(t); /* its exchanges would hold up other ranks' waits; the CRNN is small */
    lap(t, ES_TIME_OPTIMIZER);
    t->optimizer_s = t->time[ES_TIME_OPTIMIZER];
    return 0;
}
