/* Heads of pre-training and the CRNN alone against PyTorch (golden/models: heads_cpjku, heads_pretrainedsed,
 * crnn_alone), outputs and gradients, at the tolerances of tolerances.tsv. TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden_net.h"

struct head_case {
    const char *group, *params;
    enum es_head head;
    enum es_seq_model seq;
    int classes, weak;
};

/* The head on given embeddings, every output and gradient. Returns the gradients compared. */
static int run_head(const char *file, const char *r_prefix, const struct head_case *q,
                    const struct es_net_config *base, double out_rel, double grad_x) {
    struct es_net_config c = *base;
    struct model m;
    int64_t s[4], dims[4];
    float *x = load(file, q->group, "in/x", s);
    assert_non_null(x);
    c.pretrain = c.alone = true;
    c.pretrain_head = q->head;
    c.pretrain_seq = q->seq;
    c.pretrain_frames = 25;
    c.pretrain_rnn_layers = 2;
    c.pretrain_classes = q->classes;
    c.pretrain_weak_classes = q->weak;
    c.transformer.dim = (int)s[2];
    model_new_sized(&m, &c, q->params, false, (size_t)1 << 20);
    struct es_tensor *in = es_tape_input(m.t, "x", 3, s, x, true);
    struct es_head_out o;
    es_net_head(m.net, m.t, in, q->weak > 0, &o);
    /* as upstream gives them: strong [B,K,T], logits and frames [B,T,K] */
    struct es_tensor *out[2] = {o.logits, o.weak};
    const char *names[2] = {q->head == ES_HEAD_NONE ? "seq" : "logits", "weak"};
    if (o.strong) out[0] = o.strong;
    if (!o.strong && q->head == ES_HEAD_LINEAR) {
        memcpy(dims, o.logits->shape, sizeof dims);
        out[0] = es_op_channels_last(
            m.t, es_op_reshape(m.t, o.logits, 4, (int64_t[]){dims[0], dims[1], dims[2], 1}));
    }
    if (o.strong || q->head == ES_HEAD_LINEAR) names[0] = "strong";
    float *r[2] = {NULL, NULL};
    for (int k = 0; k < 2; k++) {
        assert_int_equal(out[k] != NULL, k == 0 || q->weak > 0);
        if (!out[k]) continue;
        compare_out(file, q->group, names[k], out[k]->data, out[k]->n, 0, out_rel);
        r[k] = es_alloc((size_t)out[k]->n, sizeof(float), NULL);
        add_projection(m.t, out[k], r_prefix, names[k], r[k]);
    }
    es_tape_backward(m.t, m.grads, NULL);
    int n = compare_grads_within(&m, file, q->group, "", grad_x, 0, false);
    assert_int_equal(n, es_params_count(m.p));
    float *g = load(file, q->group, "gradin/x", s);
    assert_non_null(g);
    double max_abs;
    golden_rel_l2(es_tape_input_grad(m.t, in), g, in->n, &max_abs);
    assert_true(max_abs <= grad_x * golden_max(g, in->n));
    es_free(&g);
    for (int k = 0; k < 2; k++) es_free(&r[k]);
    es_free(&x);
    model_free(&m);
    return n;
}

static void cpjku(void **state) {
    (void)state;
    const char *file = "heads_cpjku.h5", *const where[] = {"same", "down", "up"};
    static const struct head_case cases[] = {
        {"audioset_attention", "params_heads_audioset_wrapper.tsv", ES_HEAD_AUDIOSET, ES_SEQ_NONE, 13, 13},
        {"audioset_logits", "params_heads_audioset_wrapper.tsv", ES_HEAD_AUDIOSET, ES_SEQ_NONE, 13, 0},
        {"task4rnn", "params_heads_task4rnn.tsv", ES_HEAD_TASK4RNN, ES_SEQ_GRU, 7, 7}};
    if (!exists(file)) skip();
    int n = 0;
    struct es_net_config c;
    es_net_config_default(&c);
    c.audioset_classes = 13;
    c.pretrain_rnn_cells = 8;
    for (int i = 0; i < 9; i++) {
        char group[64];
        struct head_case q = cases[i / 3];
        snprintf(group, sizeof group, "%s_%s", q.group, where[i % 3]);
        q.group = group;
        if (!has(file, group, "in/x", true)) continue;
        run_head(file, "R/heads", &q, &c, 5e-6, 1e-4);
        n++;
    }
    assert_int_equal(n, shared ? 9 : 3);
}

static void pretrainedsed(void **state) {
    (void)state;
    const char *file = "heads_pretrainedsed.h5";
    static const struct head_case cases[] = {
        {"linear_same", "linear_same", ES_HEAD_LINEAR, ES_SEQ_NONE, 9, 5},
        {"linear_pool_down", "linear_pool_down", ES_HEAD_LINEAR, ES_SEQ_NONE, 9, 5},
        {"linear_interp_up", "linear_interp_up", ES_HEAD_LINEAR, ES_SEQ_NONE, 9, 5},
        {"attention_same", "attention_same", ES_HEAD_ATTENTION, ES_SEQ_NONE, 9, 9},
        {"attention_bigru_pool_down", "attention_bigru_pool_down", ES_HEAD_ATTENTION, ES_SEQ_GRU, 9, 9},
        {"linear_bigru", "linear_bigru", ES_HEAD_LINEAR, ES_SEQ_GRU, 9, 9},
        {"linear_bilstm", "linear_bilstm", ES_HEAD_LINEAR, ES_SEQ_LSTM, 9, 9},
        {"nohead_interp_up", NULL, ES_HEAD_NONE, ES_SEQ_NONE, 0, 0}};
    if (!exists(file)) skip();
    int n = 0;
    struct es_net_config c;
    es_net_config_default(&c);
    c.pretrain_rnn_cells = 7;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct head_case q = cases[i];
        char params[96];
        snprintf(params, sizeof params, "params_heads_pred_%s.tsv", q.params ? q.params : "");
        q.params = q.params ? params : NULL;
        if (!has(file, q.group, "in/x", true)) continue;
        run_head(file, "R/pred", &q, &c, 1e-5, 5e-5);
        n++;
    }
    assert_int_equal(n, shared ? 8 : 4);
}

/* (1-lambda) BCE(logits, labels) + lambda BCE(logits, pseudo): as run_pretrain of the trainer builds it */
static void as_strong_loss(void **state) {
    (void)state;
    const char *file = "heads_pretrainedsed.h5";
    if (!exists(file)) skip();
    struct model m;
    struct es_net_config c;
    es_net_config_default(&c);
    c.pretrain = c.alone = true;
    c.pretrain_head = ES_HEAD_NONE;
    for (int i = 0; i < 2; i++) {
        char group[32], path[700], dataset[64];
        int64_t s[4];
        snprintf(group, sizeof group, "as_strong_loss_%d", i);
        if (!has(file, group, "in/logits", true)) continue;
        model_new_sized(&m, &c, NULL, false, (size_t)1 << 16);
        float *x = load(file, group, "in/logits", s), *y[2], *g = load(file, group, "gradin/logits", NULL);
        y[0] = load(file, group, "in/labels", NULL);
        y[1] = load(file, group, "in/pseudo", NULL);
        snprintf(path, sizeof path, "%s/%s", dir, file);
        snprintf(dataset, sizeof dataset, "%s/in/lambda", group);
        double *lambda = es_test_h5_read_f64(path, dataset, NULL, NULL);
        snprintf(dataset, sizeof dataset, "%s/out/supervised_distill_total", group);
        double *want = es_test_h5_read_f64(path, dataset, NULL, NULL), total = 0;
        assert_true(x && g && y[0] && y[1] && lambda && want);
        struct es_tensor *in = es_tape_input(m.t, "logits", 3, s, x, true);
        for (int k = 0; k < 2; k++) {
            double share = k ? *lambda : 1 - *lambda;
            struct es_loss_rows plain = {0, s[0], 1, (double)in->n, NULL}, part = plain;
            double value = (double)es_op_bce_logits(m.t, in, y[k], &plain)->data[0];
            assert_true(fabs(value - want[k]) <= 1e-5 * fabs(want[k]));
            part.scale = share;
            struct es_tensor *loss = es_op_bce_logits(m.t, in, y[k], &part);
            es_tape_add_loss(m.t, loss);
            total += (double)loss->data[0];
        }
        assert_true(fabs(total - want[2]) <= 1e-5 * fabs(want[2]));
        es_tape_backward(m.t, m.grads, NULL);
        double max_abs;
        golden_rel_l2(es_tape_input_grad(m.t, in), g, in->n, &max_abs);
        assert_true(max_abs <= 5e-5 * golden_max(g, in->n));
        es_free(&want);
        es_free(&lambda);
        es_free(&y[1]);
        es_free(&y[0]);
        es_free(&g);
        es_free(&x);
        model_free(&m);
    }
}

/* Running statistics of the model <- the group's buf, or compares them after the update 0.01 old + 0.99 batch. */
static void load_statistics(struct model *m, const char *file, const char *group) {
    for (int i = 0; i < es_params_count(m->p); i++) {
        const struct es_param *e = es_params_at(m->p, i);
        char dataset[200];
        if (!strstr(e->name, "running_")) continue;
        snprintf(dataset, sizeof dataset, "buf/%s", e->name);
        float *b = load(file, group, dataset, NULL);
        assert_non_null(b);
        memcpy(es_params_data(m->p, i), b, (size_t)e->n * sizeof(float));
        es_free(&b);
    }
}

static void compare_statistics(struct model *m, const char *file, const char *group, double rel) {
    assert_int_equal(es_tape_n_stats(m->t), 7);
    for (int i = 0; i < 14; i++) {
        struct es_tape_stats s = es_tape_stats_at(m->t, i / 2);
        int index = i % 2 ? s.var_param : s.mean_param;
        const float *old = es_params_data(m->p, index), *batch = i % 2 ? s.var : s.mean;
        char dataset[200];
        float got[128];
        snprintf(dataset, sizeof dataset, "buf/%s", es_params_at(m->p, index)->name);
        float *want = load(file, group, dataset, NULL);
        assert_non_null(want);
        for (int k = 0; k < s.n; k++) got[k] = (1.0f - 0.99f) * old[k] + 0.99f * batch[k];
        assert_true(golden_rel_l2(got, want, s.n, NULL) <= rel);
        es_free(&want);
    }
}

static void crnn_alone(void **state) {
    (void)state;
    const char *file = "crnn_alone.h5", *const names[] = {"strong", "weak", "strong_all", "weak_all"};
    if (!shared || !exists(file)) skip();
    struct es_net_config c;
    es_net_config_default(&c);
    c.alone = c.glu = true;
    c.dropout = 0;
    c.rnn_cells = 128;
    c.mask_fill = -1e4;
    for (int eval = 0; eval < 2; eval++) {
        const char *group = eval ? "eval" : "train";
        double grad_x = eval ? 2e-4 : 1e-3, rel = eval ? 5e-6 : 1e-4;
        struct model m;
        int64_t s[4];
        float *x = load(file, group, "in/x", s), *mask_f = load(file, group, "in/mask", NULL), *r[4] = {0};
        assert_true(x && mask_f);
        int64_t B = s[0], F = s[2], T = s[3];
        float *xt = es_alloc((size_t)(B * F * T), sizeof(float), NULL);
        uint8_t mask[2 * 27];
        assert_int_equal(B, 2);
        for (int i = 0; i < 2 * 27; i++) mask[i] = mask_f[i] != 0;
        for (int64_t b = 0; b < B; b++)
            for (int64_t f = 0; f < F; f++)
                for (int64_t t = 0; t < T; t++) xt[(b * T + t) * F + f] = x[(b * F + f) * T + t];
        model_new_sized(&m, &c, "params_crnn_alone.tsv", !eval, (size_t)3 << 27);
        if (eval) load_statistics(&m, file, "train");
        struct es_tensor *in = es_tape_input(m.t, "crnn", 4, (int64_t[]){B, 1, T, F}, xt, true), *logits,
                         *att, *out[4];
        es_net_sed(m.net, m.t, in, NULL, &logits, &att);
        es_op_class_pool(m.t, logits, att, mask, c.mask_fill, &out[0], &out[1]);
        if (eval) es_op_class_pool(m.t, logits, att, NULL, c.mask_fill, &out[2], &out[3]);
        for (int k = 0; k < (eval ? 4 : 2); k++) {
            compare_out(file, group, names[k], out[k]->data, out[k]->n, 0, rel);
            r[k] = es_alloc((size_t)out[k]->n, sizeof(float), NULL);
            add_projection(m.t, out[k], "R/crnn", names[k], r[k]);
        }
        if (!eval) compare_statistics(&m, file, group, 1e-3);
        es_tape_backward(m.t, m.grads, NULL);
        int n = compare_grads(&m, file, group, "", grad_x, false);
        print_message("crnn_alone %s: %d gradients\n", group, n);
        assert_int_equal(n, 7 * 6 + 2 * 8 + 4);
        if (!eval) {
            float *g = load(file, group, "gradin/x", NULL);
            const float *a = es_tape_input_grad(m.t, in);
            double worst = 0;
            assert_non_null(g);
            for (int64_t b = 0; b < B; b++)
                for (int64_t f = 0; f < F; f++)
                    for (int64_t t = 0; t < T; t++)
                        worst = fmax(worst,
                                     fabs((double)a[(b * T + t) * F + f] - (double)g[(b * F + f) * T + t]));
            assert_true(worst <= grad_x * golden_max(g, B * F * T));
            es_free(&g);
        }
        for (int k = 0; k < 4; k++) es_free(&r[k]);
        es_free(&xt);
        es_free(&mask_f);
        es_free(&x);
        model_free(&m);
    }
}

int main(void) {
    golden_models(dir, sizeof dir, &shared);
    if (!shared) print_message("no shared data: the small copies of tests/data only, without crnn_alone\n");
    const struct CMUnitTest tests[] = {cmocka_unit_test(cpjku), cmocka_unit_test(pretrainedsed),
                                       cmocka_unit_test(as_strong_loss), cmocka_unit_test(crnn_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
