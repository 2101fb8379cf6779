/* The losses of stages 1 and 2 on given predictions: mixed targets, every term, the gradient of each prediction. */
#include "earshot/kernels_crnn.h"
#include "earshot/objective.h"

#include "../demix.h"
#include "losses.h"

struct loss_case {
    struct rn_case *c;
    struct es_objective_params op;
    int first[ES_N_SETS + 1], n, K, T;
    int64_t nkt;
    bool mixup, joint;
    int64_t step;
    float *labels, *pseudo, *weak;
    uint8_t *mask;
    struct es_mix_call mix[4];
    int n_mix;
};

static bool read_mix(struct rn_case *c, const char *prefix, const char *subset, int from, int end,
                     struct es_mix_call *m) {
    char name[100];
    int64_t shape[4];
    snprintf(name, sizeof name, "%sdraw/%s_beta", prefix, subset);
    const double *beta = rn_own64(c, name, shape);
    snprintf(name, sizeof name, "%sdraw/%s_perm", prefix, subset);
    const double *perm = rn_own64(c, name, NULL);
    m->first = from;
    m->n = end - from;
    if (!beta || !perm || shape[0] != m->n || m->n > ES_DEMIX_MAX) return false;
    for (int i = 0; i < m->n; i++) {
        m->c[i] = (float)(rn_num(c, "mixup_max_coef", 1) != 0 ? fmax(beta[i], 1 - beta[i]) : beta[i]);
        m->perm[i] = (int)perm[i];
    }
    return true;
}

bool rn_mix_calls(struct rn_case *c, const char *prefix, const int *f, struct es_mix_call mix[4], int *n) {
    const bool joint = rn_num(c, "mixup_joint", 1) != 0;
    *n = joint ? 3 : 4;
    return read_mix(c, prefix, "weak", f[ES_SET_W], f[ES_SET_U], &mix[0]) &&
           (joint ? read_mix(c, prefix, "strong_all", f[ES_SET_M], f[ES_SET_W], &mix[1])
                  : read_mix(c, prefix, "desed_strong", f[ES_SET_R], f[ES_SET_W], &mix[1]) &&
                        read_mix(c, prefix, "maestro", f[ES_SET_M], f[ES_SET_R], &mix[2])) &&
           read_mix(c, prefix, "unlabeled", f[ES_SET_U], f[ES_N_SETS], &mix[*n - 1]);
}

const char *rn_loss_unsupported(struct rn_case *c) {
    if (rn_num(c, "include_maestro_ssl", 1) == 0 && rn_num(c, "only_maestro_ssl", 0) != 0)
        return "agreement is for no clip at all";
    if (!rn_is(c, "mixup_label_type", "soft")) return "labels can be traced back through soft mixup only";
    if (rn_num(c, "harden_labels_maestro_p", 0) != 0 || rn_num(c, "harden_pseudo_labels_p", 0) != 0)
        return "hardening of labels is not an option";
    if (!rn_is(c, "other_augmentations", "off")) return "other augmentations are not given by the case";
    return NULL;
}

static enum es_measure measure(struct rn_case *c, const char *key) {
    static const char *const names[ES_N_MEASURES] = {"BCELoss", "MSELoss", "both"};
    int i = 0;
    while (i < ES_N_MEASURES && !rn_is(c, key, names[i])) i++;
    return (enum es_measure)i;
}

bool rn_objective(struct rn_case *c, struct es_objective_params *op, int first[ES_N_SETS + 1]) {
    double sizes[ES_N_SETS];
    const double all = rn_num(c, "pseudo_strong_no_class_mask", -1); /* -1: the key is absent, not masked */
    *op = (struct es_objective_params){.stage = rn_int(c, "stage", 0),
                                       .ssl_warmup_steps = rn_num(c, "ssl_loss_warmup_steps", 0),
                                       .ssl_scale_max = rn_num(c, "ssl_scale_max", 1),
                                       .ssl_no_class_mask = rn_num(c, "ssl_no_class_mask", 0) != 0,
                                       .exclude_maestro_weak_ssl =
                                           rn_num(c, "exclude_maestro_weak_ssl", 0) != 0,
                                       .ict = rn_num(c, "use_ict_loss", 0) != 0,
                                       .maestro_type = measure(c, "maestro_type"),
                                       .ssl_type = measure(c, "selfsup_type"),
                                       .pseudo_type = measure(c, "pseudo_type"),
                                       .ssl_clips = rn_num(c, "only_maestro_ssl", 0) != 0 ? ES_SSL_MAESTRO
                                                    : rn_num(c, "include_maestro_ssl", 1) == 0 ? ES_SSL_DESED
                                                                                               : ES_SSL_ALL,
                                       .pseudo_classes = all < 0    ? ES_PSEUDO_PUBLISHED
                                                         : all == 0 ? ES_PSEUDO_MASKED
                                                                    : ES_PSEUDO_ALL,
                                       .no_desed_alias = rn_num(c, "use_desed_maestro_alias", 1) == 0,
                                       .leaves = 1};
    op->loss_scale = op->stage == 1 ? 5 : 1;
    first[0] = 0;
    bool ok = op->maestro_type < ES_N_MEASURES && op->ssl_type < ES_N_MEASURES &&
              op->pseudo_type < ES_N_MEASURES &&
              rn_is(c, "batch_order", "maestro,real_strong,synthetic,weak,unlabelled") &&
              rn_list(c, "batch_sizes", sizes, ES_N_SETS) == ES_N_SETS &&
              rn_list(c, "loss_weights", op->lambda, 6) == 6;
    for (int s = 0; ok && s < ES_N_SETS; s++) first[s + 1] = first[s] + (int)sizes[s];
    return ok;
}

/* The calls of mixup, and the targets as they were before it (demix.h). Frame labels of weak clips are never mixed. */
static bool unmix(struct loss_case *q) {
    const int *f = q->first, row = q->K * q->T;
    double *scratch = rn_hold(q->c, (size_t)q->nkt, sizeof *scratch);
    bool ok = rn_mix_calls(q->c, "", f, q->mix, &q->n_mix);
    for (int m = 0; ok && m < q->n_mix; m++) {
        const struct es_mix_call *call = &q->mix[m];
        demix_rows(call, q->pseudo, row, false, scratch);
        if (call->first < f[ES_SET_W]) demix_rows(call, q->labels, row, true, scratch);
    }
    return ok;
}

static bool open_case(struct loss_case *q, struct rn_case *c) {
    int64_t shape[4];
    *q = (struct loss_case){.c = c, .K = rn_int(c, "nclass", 0), .T = rn_int(c, "frames", 0)};
    if (!rn_objective(c, &q->op, q->first)) return false;
    q->n = q->first[ES_N_SETS];
    q->nkt = (int64_t)q->n * q->K * q->T;
    q->mixup = rn_num(c, "mixup", 0) != 0;
    q->joint = rn_num(c, "mixup_joint", 1) != 0;
    q->step = (int64_t)rn_num(c, "global_step", 0);
    const float *mask = rn_input(c, "valid_class_mask", 0, shape),
                *btk = rn_input(c, "pseudo_strong_btc", 0, shape);
    if (!mask || !btk || rn_size(shape) != q->nkt) return false;
    q->labels = rn_input(c, "labels", 0, shape);
    if (!q->labels || rn_size(shape) != q->nkt) return false;
    const size_t nk = (size_t)q->n * (size_t)q->K;
    q->mask = rn_hold(c, nk, 1);
    q->pseudo = rn_hold(c, (size_t)q->nkt, sizeof *q->pseudo);
    q->weak = rn_hold(c, nk, sizeof *q->weak);
    for (size_t i = 0; i < nk; i++) q->mask[i] = mask[i] != 0;
    es_k_transpose(q->n, q->T, q->K, btk, q->pseudo, false);
    if (q->mixup && !unmix(q)) return false;
    for (int64_t i = 0; i < q->nkt; i++)
        if (q->labels[i] > 0) q->weak[i / q->T] = 1;
    return true;
}

static void put_term(struct loss_case *q, const char *name, double v) {
    char rel[100];
    snprintf(rel, sizeof rel, "term/%s", name);
    rn_put(q->c, rel, &v, 1);
}

/* The objective whose weights are all 1: what it gives are means, those of terms that weigh nothing in the case, too. */
static struct es_objective_params all_ones(const struct es_objective_params *op) {
    struct es_objective_params one = *op;
    for (int i = 0; i < 6; i++) one.lambda[i] = 1;
    one.loss_scale = one.ssl_scale_max = 1;
    one.ssl_warmup_steps = 0;
    return one;
}

/* Mean of the i-th part of a term; share: its weight in all_ones. NAN: no such part. */
static double part(const struct es_objective_terms *ones, int term, enum es_measure type, int i,
                   double share) {
    const int pieces = type == ES_MEASURE_BOTH ? 2 : 1; /* MSE and BCE are parts of their own */
    double sum = 0;
    int at = 0;
    for (int k = 0; k < ones->n; k++)
        if (ones->term[k] == term && at++ / pieces == i) sum += (double)ones->part[k]->data[0] / share;
    return at < (i + 1) * pieces ? (double)NAN : sum;
}

static void put_ict(struct loss_case *q, const struct es_objective_terms *ones) {
    static const char *const name[2][4] = {
        {"loss_ict_weak", "loss_ict_strong", "loss_ict_maestro", "loss_ict_unlabeled"},
        {"loss_ict_weak", "loss_ict_strong", "loss_ict_unlabeled", NULL}};
    const enum es_measure type = q->op.ssl_type;
    int at = 0;
    for (int m = 0; m < q->n_mix; m++) { /* strong + weak / 2 of each call */
        const double share = 1.0 / 32 * (q->joint && m == 1 ? 2 : 1);
        double value = part(ones, ES_TERM_SSL, type, at++, share);
        if (q->joint || m != 2 || !q->op.exclude_maestro_weak_ssl)
            value += part(ones, ES_TERM_SSL, type, at++, share);
        put_term(q, name[q->joint][m], value);
        if (q->joint && m == 1) put_term(q, "loss_ict_maestro", value);
    }
}

/* x: terms of the case; ones: of all_ones. */
static void put_terms(struct loss_case *q, const double *x, const struct es_objective_terms *ones) {
    const struct es_objective_params op = all_ones(&q->op);
    const double *l = q->op.lambda;
    const bool two = q->op.stage == 2;
    double v[ES_N_TERMS];
    es_objective_read(&op, ones, v);
    put_term(q, "tot_loss", x[ES_TERM_TOTAL]);
    put_term(q, "loss_maestro", v[ES_TERM_MAESTRO]);
    put_term(q, "loss_desed_real_strong", v[ES_TERM_REAL]);
    put_term(q, "loss_desed_synth", v[ES_TERM_SYNTHETIC]);
    put_term(q, "loss_weak", v[ES_TERM_WEAK]);
    put_term(q, "tot_self_loss", x[ES_TERM_SSL]);
    put_term(q, "ssl_weight", x[ES_TERM_SSL_WEIGHT]);
    put_term(q, two ? "pseudo_label_loss" : "pseudo_strong_loss", x[ES_TERM_PSEUDO]);
    put_term(q, "strong_loss",
             (l[0] * v[ES_TERM_MAESTRO] + l[1] * v[ES_TERM_REAL] + l[2] * v[ES_TERM_SYNTHETIC]) /
                 (two ? 3 : 1));
    put_term(q, "weak_loss", l[3] * v[ES_TERM_WEAK] / (two ? 2 : 1));
    put_term(q, "tot_loss_supervised",
             x[ES_TERM_TOTAL] / q->op.loss_scale - x[ES_TERM_SSL] - x[ES_TERM_PSEUDO]);
    if (two && q->mixup && q->op.ict) {
        put_ict(q, ones);
        put_term(q, "loss_ict", v[ES_TERM_SSL] * 4);
    } else {
        put_term(q, "strong_self_sup_loss", part(ones, ES_TERM_SSL, q->op.ssl_type, 0, 1));
        put_term(q, "weak_self_sup_loss", part(ones, ES_TERM_SSL, q->op.ssl_type, 1, two ? 0.5 : 1));
    }
    put_term(q, "loss_pseudo_desed",
             part(ones, ES_TERM_PSEUDO, q->op.pseudo_type, 0, 3) * (l[1] + l[2] + l[3]));
    put_term(q, "loss_pseudo_maestro", part(ones, ES_TERM_PSEUDO, q->op.pseudo_type, 1, 1) * l[0]);
}

static void run_tape(struct loss_case *q, const struct es_targets *x) {
    static const char *const names[4] = {"student_strong", "student_weak", "student_strong_all",
                                         "student_weak_all"};
    struct es_params *p = NULL;
    struct es_arena *arena = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *t = NULL;
    float none[16];
    const size_t bytes = ((size_t)1 << 20) + 64 * (size_t)q->nkt * sizeof(float);
    int64_t shape[4];
    float *data[4],
        *teacher[2] = {rn_input(q->c, "teacher_strong", 0, shape), rn_input(q->c, "teacher_weak", 0, shape)};
    struct es_tensor *s[4];
    for (int i = 0; i < 4; i++) data[i] = rn_input(q->c, names[i], 0, shape);
    if (!teacher[0] || !teacher[1] || !data[0] || !data[1] || !data[2] || !data[3]) {
        rn_skip(q->c, "a prediction is not there");
        return;
    }
    ES_ASSERT(es_params_new(&p, NULL) == 0 && es_params_layout(p, NULL) == 0);
    ES_ASSERT(es_arena_new(&arena, "leaf", bytes, NULL) == 0 &&
              es_arena_new(&scratch, "scratch", bytes, NULL) == 0);
    ES_ASSERT(es_pool_new(&pool, "pool", bytes, NULL) == 0);
    struct es_tape_params tp = {p, arena, scratch, pool, true, true, 1, ES_RNG_STUDENT_DROPOUT, NULL};
    ES_ASSERT(es_tape_new(&t, &tp, NULL) == 0);
    const struct es_objective_params op[2] = {all_ones(&q->op), q->op};
    struct es_predictions_data given = {teacher[0], teacher[1]};
    struct es_objective_terms out[2];
    double terms[ES_N_TERMS];
    es_tape_reset(t, 0, 0);
    for (int k = 0; k < 2; k++) { /* both on one tape, each with inputs of its own: s stays with the case's */
        for (int i = 0; i < 4; i++)
            s[i] = es_tape_input(t, names[i], i % 2 ? 2 : 3, (int64_t[]){q->n, q->K, q->T}, data[i], true);
        struct es_predictions_tape student = {s[0], s[1], s[2], s[3]};
        es_objective_build(&op[k], t, x, q->step, &student, &given, &out[k]);
    }
    es_objective_read(&op[1], &out[1], terms);
    put_terms(q, terms, &out[0]);
    es_tape_backward(t, none, NULL);
    float *zero = rn_hold(q->c, (size_t)q->nkt, sizeof *zero);
    for (int i = 0; i < 4; i++) {
        char rel[64];
        const float *g = es_tape_input_grad(t, s[i]);
        snprintf(rel, sizeof rel, "grad/%s", names[i]);
        rn_put_f32(q->c, rel, g ? g : zero, s[i]->n);
    }
    es_tape_free(&t);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&arena);
    es_params_free(&p);
}

void rn_case_losses(struct rn_case *c) {
    struct loss_case q;
    const char *why = rn_loss_unsupported(c);
    if (why || !open_case(&q, c)) {
        rn_skip(c, "%s", why ? why : "an input of the case is not there, or not as cases.tsv says");
        return;
    }
    float *scratch = rn_hold(c, (size_t)q.nkt, sizeof *scratch),
          *mask = rn_hold(c, (size_t)(q.n * q.K), sizeof *mask);
    struct es_targets x = {.n = q.n,
                           .n_classes = q.K,
                           .n_frames = q.T,
                           .labels = q.labels,
                           .weak = q.weak,
                           .mask = q.mask,
                           .pseudo = q.pseudo,
                           .mixup = q.mixup,
                           .n_mix = q.n_mix,
                           .mix = q.mix};
    memcpy(x.first, q.first, sizeof q.first);
    es_objective_mix_targets(&q.op, &x, scratch);
    const int w = q.first[ES_SET_W];
    rn_put_f32(c, "mixed/labels", x.labels, q.nkt);
    rn_put_f32(c, "mixed/labels_weak", x.weak + w * q.K, (int64_t)(q.first[ES_SET_U] - w) * q.K);
    rn_put_f32(c, "mixed/pseudo_strong", x.pseudo, q.nkt);
    for (int i = 0; i < q.n * q.K; i++) mask[i] = x.mask[i];
    rn_put_f32(c, "mixed/valid_class_mask", mask, (int64_t)q.n * q.K);
    run_tape(&q, &x);
}

/* BCE at 0, 1 and denormals, element by element. */
void rn_case_bce_edge(struct rn_case *c) {
    int64_t shape[4];
    const float *p = rn_input(c, "p", 0, shape), *y = rn_input(c, "target", 0, shape);
    if (!p || !y) {
        rn_skip(c, "an input of the case is not there");
        return;
    }
    const int64_t n = rn_size(shape);
    double *loss = rn_hold(c, (size_t)n, sizeof *loss);
    float *grad = rn_hold(c, (size_t)n, sizeof *grad);
    for (int64_t i = 0; i < n; i++) {
        struct es_k_loss s = {ES_LOSS_BCE, 1, 1, 1, NULL};
        es_k_loss_fwd(&s, p + i, y + i, &loss[i]);
        es_k_loss_bwd(&s, p + i, y + i, 1.0, &grad[i], false);
    }
    rn_put(c, "loss_fp32", loss, n);
    rn_put_f32(c, "grad_fp32", grad, n);
}
