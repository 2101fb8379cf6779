/* One leaf forward: teacher, frozen transformer, student, losses. */
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/kernels_crnn.h"
#include "trainer_impl.h"

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

void trainer_help_frozen(struct es_trainer *t) {
    train_frozen_receive(t->frozen);
    trainer_lap(t, ES_TIME_INPUT);
    es_tape_reset(t->ws.student, 0, 0); /* its memory is the frozen transformer's too */
    es_tape_reset(t->ws.teacher, 0, 0);
    train_frozen_help(t->frozen, t->ws.frozen, t->reducer);
    trainer_lap(t, ES_TIME_FORWARD);
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
        trainer_lap(t, ES_TIME_AUGMENT);
        if (t->frozen) train_frozen_run(t->frozen, w->frozen, in->features);
        trainer_lap(t, ES_TIME_FORWARD);
        run_teacher(t, w, in, frozen_input(t, w->teacher));
        trainer_lap(t, ES_TIME_TEACHER);
        z = frozen_input(t, w->student);
    } else {
        trainer_lap(t, ES_TIME_AUGMENT);
        run_teacher(t, w, in, NULL);
        trainer_lap(t, ES_TIME_TEACHER);
        if (!dry) train_augment_after(tp, in, t->mix_scratch);
        trainer_lap(t, ES_TIME_AUGMENT);
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
    trainer_lap(t, ES_TIME_FORWARD);
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
    trainer_lap(t, ES_TIME_AUGMENT);
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
    trainer_lap(t, ES_TIME_FORWARD);
}

void trainer_run_leaf(struct es_trainer *t, struct workspace *w, struct es_leaf_input *in, int64_t step,
                      int leaf, struct es_objective_terms *terms) {
    es_tape_reset(w->student, (uint32_t)step, (uint32_t)leaf);
    if (w->teacher) es_tape_reset(w->teacher, (uint32_t)step, (uint32_t)leaf);
    if (t->tp.phase == ES_PHASE_PRETRAIN)
        run_pretrain(t, w, in, terms);
    else
        run_stage(t, w, in, step, terms);
}
