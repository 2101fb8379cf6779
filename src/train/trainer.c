/* Making, planning and freeing a trainer. */
#include "earshot/trainer.h"

#include <string.h>

#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"
#include "trainer_impl.h"

const char *const es_phase_names[3] = {"pretrain", "stage1", "stage2"};
const char *const es_time_names[ES_N_TIMES] = {"input",    "augment",        "teacher",   "forward",
                                               "backward", "reduce_exposed", "optimizer", "step"};

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
    trainer_run_leaf(t, &dry, &in, INT32_MAX, 0, &terms);
    static float gradient_stand_in; /* never touched: the tape is dry */
    es_tape_backward(dry.student, &gradient_stand_in, NULL);
    if (saved.ict) {
        in.targets.mixup = false;
        trainer_run_leaf(t, &dry, &in, INT32_MAX, 0, &terms);
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
    es_tape_on_param(t->ws.student, trainer_on_param, t);
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
