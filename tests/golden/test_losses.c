/* Losses of stages 1 and 2 against the public training step (golden/models/losses.h5): mixed targets, every term, the gradient
 * with respect to each prediction, at the tolerances of tolerances.tsv. Cases and terms that the recipe cannot be configured to
 * are named with their reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/objective.h"

#include "golden/demix.h"
#include "golden/h5.h"

#include "golden/golden_model.h"

#define N 14
#define K 27
#define T 9
#define NKT (N * K * T)

static const int first[ES_N_SETS + 1] = {0, 3, 5, 7, 10, 14};

/* ---- reading a case */

struct loss_case {
    const char *name;
    struct es_objective_params op;
    bool mixup, joint;
    int maestro_type, ssl_type, pseudo_type; /* 0 BCE, 1 MSE, 2 (4 MSE + BCE) / 2 */
    int64_t step;
    float *labels, *pseudo, *weak;
    uint8_t mask[N * K];
    struct es_mix_call mix[4];
    int n_mix;
};

static char file[600];
static bool shared;

static float *read_f32(const struct loss_case *c, const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", c->name, name);
    float *x = es_test_h5_read_f32(file, path, NULL, NULL);
    assert_non_null(x);
    return x;
}

static double number(const struct loss_case *c, const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", c->name, name);
    double *x = es_test_h5_read_f64(file, path, NULL, NULL), v = x ? x[0] : (double)NAN;
    assert_non_null(x);
    es_free(&x);
    return v;
}

static bool has(const struct loss_case *c, const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", c->name, name);
    return es_test_h5_has(file, path);
}

static void read_mix(struct loss_case *c, const char *subset, int from, int end) {
    char name[64];
    struct es_mix_call *m = &c->mix[c->n_mix++];
    snprintf(name, sizeof name, "draw/%s_beta", subset);
    char path[200];
    snprintf(path, sizeof path, "%s/%s", c->name, name);
    double *beta = es_test_h5_read_f64(file, path, NULL, NULL);
    snprintf(name, sizeof name, "draw/%s_perm", subset);
    float *perm = read_f32(c, name);
    assert_non_null(beta);
    m->first = from;
    m->n = end - from;
    for (int i = 0; i < m->n; i++) {
        m->c[i] = (float)fmax(beta[i], 1 - beta[i]);
        m->perm[i] = (int)perm[i];
    }
    es_free(&perm);
    es_free(&beta);
}

/* Why the program cannot be set to this case; NULL: it can. */
static const char *unsupported(const struct loss_case *c) {
    if (c->maestro_type != 0) return "MAESTRO's loss is BCE only";
    if (c->ssl_type != 1) return "the agreement with the teacher is MSE only";
    if (c->pseudo_type != 0) return "the pseudo-label loss is BCE only";
    if (number(c, "cfg/include_maestro_ssl") == 0) return "agreement without MAESTRO is not an option";
    if (number(c, "cfg/only_maestro_ssl") != 0) return "agreement for MAESTRO alone is not an option";
    if (number(c, "cfg/use_desed_maestro_alias") == 0) return "classes are always aliased";
    if (c->op.stage == 2 && number(c, "cfg/pseudo_strong_no_class_mask") == 0)
        return "stage 2 never masks pseudo-labels";
    return NULL;
}

/* The calls of mixup, and the targets as they were before it (demix.h). Frame labels of weak clips are never mixed. */
static void unmix(struct loss_case *c) {
    double scratch[7 * K * T];
    read_mix(c, "weak", first[ES_SET_W], first[ES_SET_U]);
    if (c->joint) {
        read_mix(c, "strong_all", first[ES_SET_M], first[ES_SET_W]);
    } else {
        read_mix(c, "desed_strong", first[ES_SET_R], first[ES_SET_W]);
        read_mix(c, "maestro", first[ES_SET_M], first[ES_SET_R]);
    }
    read_mix(c, "unlabeled", first[ES_SET_U], N);
    for (int m = 0; m < c->n_mix; m++) {
        const struct es_mix_call *call = &c->mix[m];
        demix_rows(call, c->pseudo, K * T, false, scratch);
        if (call->first >= first[ES_SET_W]) continue;
        demix_rows(call, c->labels, K * T, true, scratch);
        for (int i = call->first; i < call->first + call->n; i++)
            for (int k = 0; k < K * T; k++) {
                float v = c->labels[i * K * T + k];
                assert_true((v == 0 || c->mask[i * K + k / T]));
                assert_true(i < first[ES_SET_R] || v == 0 || v == 1); /* DESED's are hard */
            }
    }
}

static void open_case(struct loss_case *c, const char *name) {
    *c = (struct loss_case){.name = name};
    float *weight;
    c->op = (struct es_objective_params){
        .stage = (int)number(c, "cfg/stage"),
        .ssl_warmup_steps = number(c, "cfg/ssl_loss_warmup_steps"),
        .ssl_scale_max = number(c, "cfg/ssl_scale_max"),
        .ssl_no_class_mask = number(c, "cfg/ssl_no_class_mask") != 0,
        .exclude_maestro_weak_ssl = number(c, "cfg/exclude_maestro_weak_ssl") != 0,
        .ict = number(c, "cfg/use_ict_loss") != 0,
        .pseudo_no_class_mask = number(c, "cfg/pseudo_strong_no_class_mask") > 0,
        .leaves = 1};
    c->op.loss_scale = c->op.stage == 1 ? 5 : 1;
    char path[200];
    snprintf(path, sizeof path, "%s/cfg/loss_weights", name);
    double *lambda = es_test_h5_read_f64(file, path, NULL, NULL);
    assert_non_null(lambda);
    memcpy(c->op.lambda, lambda, sizeof c->op.lambda);
    es_free(&lambda);
    c->maestro_type = (int)number(c, "cfg/maestro_loss_type");
    c->ssl_type = (int)number(c, "cfg/selfsup_loss_type");
    c->pseudo_type = (int)number(c, "cfg/pseudo_loss_type");
    c->mixup = number(c, "cfg/mixup") != 0;
    c->joint = number(c, "cfg/mixup_desed_maestro_joint") != 0;
    c->step = (int64_t)number(c, "in/global_step");
    c->labels = read_f32(c, "in/labels");
    weight = read_f32(c, "in/valid_class_mask");
    for (int i = 0; i < N * K; i++) c->mask[i] = weight[i] != 0;
    es_free(&weight);
    float *btk = read_f32(c, "in/pseudo_strong_btc");
    c->pseudo = es_alloc(NKT, sizeof(float), NULL);
    c->weak = es_alloc(N * K, sizeof(float), NULL);
    assert_true(c->pseudo && c->weak);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            for (int t = 0; t < T; t++) c->pseudo[(n * K + k) * T + t] = btk[(n * T + t) * K + k];
    es_free(&btk);
    if (c->mixup) unmix(c);
    for (int i = 0; i < NKT; i++)
        if (c->labels[i] > 0) c->weak[i / T] = 1;
}

static void close_case(struct loss_case *c) {
    es_free(&c->weak);
    es_free(&c->pseudo);
    es_free(&c->labels);
}

/* ---- comparison */

static void near_abs(const struct loss_case *c, const char *name, const float *a, int n, double limit) {
    float *r = read_f32(c, name);
    double worst = 0;
    for (int i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)r[i]));
    if (!(worst <= limit))
        fail_msg("%s/%s: largest difference %.3e, want <= %.1e", c->name, name, worst, limit);
    es_free(&r);
}

/* abs(d) <= 2e-6 max abs(r); no gradient flowed: all zeros */
static double near_grad(const struct loss_case *c, const char *name, const float *a, int n) {
    float *r = read_f32(c, name);
    double worst = 0, max = 0;
    for (int i = 0; i < n; i++) {
        worst = fmax(worst, fabs((a ? (double)a[i] : 0) - (double)r[i]));
        max = fmax(max, fabs((double)r[i]));
    }
    if (!(worst <= 2e-6 * max))
        fail_msg("%s/%s: difference %.3e of %.3e, want 2e-6", c->name, name, worst, max);
    es_free(&r);
    return max > 0 ? worst / max : 0;
}

struct counts {
    int compared, skipped;
    double worst_term, worst_grad;
};

static void near_term(const struct loss_case *c, const char *name, double a, struct counts *n) {
    char path[100];
    snprintf(path, sizeof path, "term/%s", name);
    double r = number(c, path), d = fabs(a - r);
    if (!(d <= 2e-6 * fabs(r) + 1e-12)) fail_msg("%s/%s: got %.10g, want %.10g", c->name, path, a, r);
    n->worst_term = fmax(n->worst_term, r != 0 ? d / fabs(r) : 0);
    n->compared++;
}

/* Mean of the i-th part of a term; share: its weight beside the term's own. NAN: no such part (its weight is 0). */
static double part(const struct loss_case *c, const struct es_objective_terms *x, int term, int i,
                   double share) {
    for (int k = 0; k < x->n; k++)
        if (x->term[k] == term && i-- == 0) return (double)x->part[k]->data[0] / c->op.loss_scale / share;
    return (double)NAN;
}

static void terms(const struct loss_case *c, const struct es_objective_terms *x, struct counts *n) {
    const double *l = c->op.lambda, w = x->ssl_weight;
    double v[ES_N_TERMS];
    bool two = c->op.stage == 2, ict = two && c->mixup && c->op.ict;
    es_objective_read(&c->op, x, v);
    near_term(c, "tot_loss", v[ES_TERM_TOTAL], n);
    near_term(c, "loss_maestro", v[ES_TERM_MAESTRO], n);
    near_term(c, "loss_desed_real_strong", v[ES_TERM_REAL], n);
    near_term(c, "loss_desed_synth", v[ES_TERM_SYNTHETIC], n);
    near_term(c, "loss_weak", v[ES_TERM_WEAK], n);
    near_term(c, "tot_self_loss", v[ES_TERM_SSL], n);
    near_term(c, "ssl_weight", v[ES_TERM_SSL_WEIGHT], n);
    near_term(c, two ? "pseudo_label_loss" : "pseudo_strong_loss", v[ES_TERM_PSEUDO], n);
    double strong =
        (l[0] * v[ES_TERM_MAESTRO] + l[1] * v[ES_TERM_REAL] + l[2] * v[ES_TERM_SYNTHETIC]) / (two ? 3 : 1);
    near_term(c, "strong_loss", strong, n);
    near_term(c, "weak_loss", l[3] * v[ES_TERM_WEAK] / (two ? 2 : 1), n);
    near_term(c, "tot_loss_supervised",
              v[ES_TERM_TOTAL] / c->op.loss_scale - v[ES_TERM_SSL] - v[ES_TERM_PSEUDO], n);
    struct {
        const char *name;
        double value;
    } parts[8] = {{NULL, 0}};
    int n_parts = 0;
    if (!ict) {
        parts[n_parts++].name = "strong_self_sup_loss";
        parts[0].value = part(c, x, ES_TERM_SSL, 0, w);
        parts[n_parts++].name = "weak_self_sup_loss";
        parts[1].value = part(c, x, ES_TERM_SSL, 1, two ? w / 2 : w);
    } else { /* strong + weak / 2 of each call */
        static const char *const name[2][4] = {
            {"loss_ict_weak", "loss_ict_strong", "loss_ict_maestro", "loss_ict_unlabeled"},
            {"loss_ict_weak", "loss_ict_strong", "loss_ict_unlabeled", NULL}};
        int at = 0;
        for (int m = 0; m < c->n_mix; m++) {
            double share = w / 32 * (c->joint && m == 1 ? 2 : 1),
                   value = part(c, x, ES_TERM_SSL, at++, share);
            if (c->joint || m != 2 || !c->op.exclude_maestro_weak_ssl)
                value += part(c, x, ES_TERM_SSL, at++, share);
            parts[n_parts].name = name[c->joint][m];
            parts[n_parts++].value = value;
            if (c->joint && m == 1) {
                parts[n_parts].name = "loss_ict_maestro";
                parts[n_parts++].value = value;
            }
        }
        parts[n_parts].name = "loss_ict";
        parts[n_parts++].value = v[ES_TERM_SSL] * 4 / w;
        assert_true(isnan(part(c, x, ES_TERM_SSL, at, 1))); /* and no more */
    }
    if (has(c, "term/loss_pseudo_desed")) {
        /* stage 1 records them with the weights of the subsets, stage 2 too */
        parts[n_parts].name = "loss_pseudo_desed";
        parts[n_parts++].value = part(c, x, ES_TERM_PSEUDO, 0, l[5]);
        parts[n_parts].name = "loss_pseudo_maestro";
        parts[n_parts++].value = part(c, x, ES_TERM_PSEUDO, 1, l[5]);
    }
    for (int i = 0; i < n_parts; i++) {
        if (isnan(parts[i].value)) {
            print_message("%s/term/%s: skipped: its weight is 0, it is not computed\n", c->name,
                          parts[i].name);
            n->skipped++;
        } else {
            near_term(c, parts[i].name, parts[i].value, n);
        }
    }
}

/* ---- one case */

static void run_case(struct loss_case *c, struct counts *n) {
    struct es_params *p = NULL;
    struct es_arena *arena = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *t = NULL;
    float none[16], mix_scratch[NKT];
    struct es_targets x = {.n = N,
                           .n_classes = K,
                           .n_frames = T,
                           .labels = c->labels,
                           .weak = c->weak,
                           .mask = c->mask,
                           .pseudo = c->pseudo,
                           .mixup = c->mixup,
                           .n_mix = c->n_mix,
                           .mix = c->mix};
    memcpy(x.first, first, sizeof first);
    es_objective_mix_targets(&c->op, &x, mix_scratch);
    near_abs(c, "mixed/labels", x.labels, NKT, 1e-6);
    near_abs(c, "mixed/labels_weak", x.weak + first[ES_SET_W] * K, 3 * K, 1e-6);
    near_abs(c, "mixed/pseudo_strong", x.pseudo, NKT, 1e-6);
    float mask[N * K];
    for (int i = 0; i < N * K; i++) mask[i] = x.mask[i];
    near_abs(c, "mixed/valid_class_mask", mask, N * K, 0);
    n->compared += 4;

    assert_int_equal(es_params_new(&p, NULL), 0);
    assert_int_equal(es_params_layout(p, NULL), 0);
    assert_int_equal(es_arena_new(&arena, "leaf", (size_t)1 << 20, NULL), 0);
    assert_int_equal(es_arena_new(&scratch, "scratch", (size_t)1 << 20, NULL), 0);
    assert_int_equal(es_pool_new(&pool, "pool", (size_t)1 << 20, NULL), 0);
    struct es_tape_params tp = {p, arena, scratch, pool, true, true, 1, ES_RNG_STUDENT_DROPOUT};
    assert_int_equal(es_tape_new(&t, &tp, NULL), 0);
    es_tape_reset(t, 0, 0);
    static const char *const names[4] = {"student_strong", "student_weak", "student_strong_all",
                                         "student_weak_all"};
    float *data[4], *teacher[2] = {read_f32(c, "in/teacher_strong"), read_f32(c, "in/teacher_weak")};
    struct es_tensor *s[4];
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "in/%s", names[i]);
        data[i] = read_f32(c, name);
        s[i] = es_tape_input(t, names[i], i % 2 ? 2 : 3, (int64_t[]){N, K, T}, data[i], true);
    }
    struct es_predictions_tape student = {s[0], s[1], s[2], s[3]};
    struct es_predictions_data q = {teacher[0], teacher[1]};
    struct es_objective_terms out;
    es_objective_build(&c->op, t, &x, c->step, &student, &q, &out);
    assert_true(es_objective_ssl_weight(&c->op, c->step) == out.ssl_weight);
    terms(c, &out, n);
    es_tape_backward(t, none, NULL);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "grad/%s", names[i]);
        n->worst_grad =
            fmax(n->worst_grad, near_grad(c, name, es_tape_input_grad(t, s[i]), i % 2 ? N * K : NKT));
        n->compared++;
    }
    for (int i = 0; i < 4; i++) es_free(&data[i]);
    es_free(&teacher[1]);
    es_free(&teacher[0]);
    es_tape_free(&t);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&arena);
    es_params_free(&p);
}

static const char *const cases[] = {"s1_default_step0",
                                    "s1_default_step3500_mixup",
                                    "s1_default_step40000_mixup_separate",
                                    "s1_exclude_maestro_weak",
                                    "s1_no_maestro_ssl",
                                    "s1_only_maestro_ssl",
                                    "s1_paper_mask_ssl",
                                    "s1_paper_nomask_ssl",
                                    "s1_pseudo_no_class_mask",
                                    "s1_types_bce_both_mse",
                                    "s1_types_both_mse",
                                    "s2_ict_joint",
                                    "s2_ict_joint_exclude_maestro_weak",
                                    "s2_ict_joint_exclude_noalias",
                                    "s2_ict_joint_nomask",
                                    "s2_ict_joint_nomask_exclude",
                                    "s2_ict_separate",
                                    "s2_ict_separate_exclude_maestro_weak",
                                    "s2_mt_default_step0",
                                    "s2_mt_default_step100",
                                    "s2_mt_exclude_maestro_weak",
                                    "s2_mt_no_maestro_ssl",
                                    "s2_mt_noict_mixup",
                                    "s2_mt_nomask",
                                    "s2_mt_paper_step1000",
                                    "s2_mt_types_bce",
                                    "s2_pseudo_masked_labels",
                                    "s2_pseudo_nomask"};

static void golden_losses(void **state) {
    (void)state;
    struct counts n = {0};
    int run = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct loss_case c = {.name = cases[i]};
        if (!has(&c, "cfg/stage")) {
            print_message("%s: skipped: not in %s\n", cases[i], file);
            continue;
        }
        open_case(&c, cases[i]);
        const char *why = unsupported(&c);
        if (why) {
            print_message("%s: skipped: %s\n", cases[i], why);
        } else {
            run_case(&c, &n);
            run++;
        }
        close_case(&c);
    }
    print_message("%d of %zu cases: %d quantities compared, %d skipped; worst term %.1e, worst gradient %.1e "
                  "of its largest\n",
                  run, sizeof cases / sizeof *cases, n.compared, n.skipped, n.worst_term, n.worst_grad);
    assert_int_equal(run, shared ? 20 : 3);
}

int main(void) {
    char dir[512];
    snprintf(file, sizeof file, "%s/losses.h5", golden_models(dir, sizeof dir, &shared));
    const struct CMUnitTest tests[] = {cmocka_unit_test(golden_losses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
