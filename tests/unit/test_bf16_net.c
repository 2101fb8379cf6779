/* Small transformers on bf16 tapes: gradients beside those of an fp32 tape, memory as planned, values given back early but never too
 * early, packed weights that follow their masters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels_bf16.h"
#include "earshot/nn.h"
#include "earshot/ops.h"

#include "kernel_test.h"

enum { B = 3, MELS = 16, FRAMES = 49, K = 5, N_KINDS = 3 };

static const enum es_arch archs[] = {ES_ARCH_ATST, ES_ARCH_FPASST, ES_ARCH_BEATS};
static const enum es_bf16_kind kinds[N_KINDS] = {ES_BF16_NONE, ES_BF16_EMULATED, ES_BF16_ONEDNN_FP32};

struct model {
    struct es_params *p;
    struct es_net *net;
    struct es_bf16 *e;
    float *x, *target;
    int64_t n_target;
};

struct result {
    float *grads, *logits;
    float loss;
    size_t peak[3];
};

static struct model model_new(enum es_arch arch, enum es_bf16_kind kind, double grad_decay) {
    struct model m = {0};
    struct es_net_config c;
    es_net_config_published(&c, arch);
    c.transformer.dim = 24;
    c.transformer.depth = 3;
    c.transformer.heads = 3;
    c.transformer.mlp = 48;
    c.transformer.n_mels = MELS;
    c.transformer.n_mel_frames = 60;
    c.transformer.beats = (struct es_beats_config){.patch_embed = 10,
                                                   .conv_taps = 6,
                                                   .conv_groups = 3,
                                                   .buckets = 8,
                                                   .max_distance = 5,
                                                   .dropout_input = 0.1,
                                                   .dropout = 0.1,
                                                   .attention_dropout = 0.1,
                                                   .activation_dropout = 0.1,
                                                   .grad_decay = grad_decay};
    c.pretrain = true;
    c.pretrain_seq = ES_SEQ_NONE;
    c.pretrain_classes = K;
    c.pretrain_frames = es_net_tokens(&c, FRAMES);
    assert_int_equal(es_params_new(&m.p, NULL), 0);
    assert_int_equal(es_net_new(&m.net, &c, m.p, NULL), 0);
    es_net_freeze(m.net, m.p, false);
    assert_int_equal(es_params_layout(m.p, NULL), 0);
    es_params_init(m.p, test_seed());
    /* a small one's start is nearly linear: larger weights */
    for (int i = 0; i < es_params_count(m.p); i++) {
        struct es_param *q = es_params_at(m.p, i);
        for (int64_t k = 0; arch != ES_ARCH_BEATS && q->bf16 && k < q->n; k++) es_params_data(m.p, i)[k] *= 5;
    }
    if (kind != ES_BF16_NONE) {
        assert_int_equal(es_bf16_new(&m.e, kind, NULL), 0);
        assert_int_equal(es_params_packed_new(m.p, m.e, NULL), 0);
    }
    m.n_target = (int64_t)B * K * c.pretrain_frames;
    m.x = guarded_random(B * MELS * FRAMES, 1, 1);
    m.target = guarded(m.n_target);
    for (int64_t i = 0; i < m.n_target; i++) m.target[i] = (float)(i % 3 == 0);
    return m;
}

static void model_free(struct model *m) {
    guarded_free(m->n_target, m->target);
    guarded_free(B * MELS * FRAMES, m->x);
    es_net_free(&m->net);
    es_params_free(&m->p);
    es_bf16_free(&m->e);
}

/* bytes 0: dry. */
static void pass(const struct model *m, const size_t bytes[3], bool record, struct result *r) {
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *t;
    assert_int_equal(es_arena_new(&leaf, "leaf", bytes[0], NULL), 0);
    assert_int_equal(es_arena_new(&scratch, "scratch", bytes[1], NULL), 0);
    assert_int_equal(es_pool_new(&pool, "pool", bytes[2], NULL), 0);
    struct es_tape_params tp = {m->p, leaf, scratch, pool, record, true, 1, ES_RNG_STUDENT_DROPOUT, m->e};
    assert_int_equal(es_tape_new(&t, &tp, NULL), 0);
    for (int round = 0; round < 2; round++) { /* a reset gives everything back */
        es_tape_reset(t, 0, 0);
        struct es_tensor *x = es_tape_input(t, "features", 4, (int64_t[]){B, 1, MELS, FRAMES}, m->x, false);
        struct es_tensor *y = es_net_pretrain(m->net, t, x);
        struct es_loss_rows rows = {0, B, 1.0, (double)y->n, NULL};
        struct es_tensor *loss = es_op_bce_logits(t, y, m->target, &rows);
        assert_int_equal(y->n, m->n_target);
        if (!es_tape_dry(t)) {
            memcpy(r->logits, y->data, (size_t)y->n * sizeof(float));
            r->loss = loss->data[0];
        }
        if (record) {
            es_tape_add_loss(t, loss);
            es_tape_backward(t, r->grads, NULL);
        } else {
            es_tape_drop(t, y);
            es_tape_drop(t, loss);
            assert_int_equal(es_pool_live(pool), 0);
        }
    }
    es_tape_reset(t, 0, 0);
    assert_int_equal(es_pool_live(pool), 0);
    r->peak[0] = es_arena_peak(leaf);
    r->peak[1] = es_arena_peak(scratch);
    r->peak[2] = es_pool_peak(pool);
    es_tape_free(&t);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&leaf);
}

/* Planned by a dry pass, then run in exactly that much. */
static struct result run(const struct model *m, bool record) {
    static const size_t none[3] = {0, 0, 0};
    struct result dry = {0}, r = {.grads = es_alloc((size_t)es_params_n_trainable(m->p), sizeof(float), NULL),
                                  .logits = es_alloc((size_t)m->n_target, sizeof(float), NULL)};
    size_t bytes[3];
    pass(m, none, record, &dry);
    for (int i = 0; i < 3; i++) bytes[i] = dry.peak[i] > 0 ? dry.peak[i] : 64;
    pass(m, bytes, record, &r);
    assert_memory_equal(dry.peak, r.peak, sizeof r.peak);
    return r;
}

static void result_free(struct result *r) {
    es_free(&r->grads);
    es_free(&r->logits);
}

/* Largest relative distance of a parameter's gradient. Biases of keys have none but rounding. */
static double worst_gradient(const struct model *m, const struct result *a, const struct result *b) {
    double worst = 0;
    for (int i = 0; i < es_params_count(m->p); i++) {
        const struct es_param *q = es_params_at(m->p, i);
        if (!q->trainable || strstr(q->name, "k_proj.bias")) continue;
        bool qkv = strstr(q->name, "qkv.bias");
        const int64_t part = qkv ? q->n / 3 : q->n;
        for (int64_t at = q->offset; at < q->offset + q->n; at += part) {
            if (qkv && at == q->offset + part) continue;
            double d = distance(part, a->grads + at, b->grads + at);
            if (!(d <= worst)) worst = d;
        }
    }
    return worst;
}

static void gradients_agree(void **state) {
    (void)state;
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
        struct result r[N_KINDS];
        for (int k = 0; k < N_KINDS; k++) {
            struct model m = model_new(archs[a], kinds[k], 0.7);
            r[k] = run(&m, true);
            struct result plain = run(&m, false); /* not recording: the same bits */
            assert_memory_equal(plain.logits, r[k].logits, (size_t)m.n_target * sizeof(float));
            result_free(&plain);
            if (k == 0) {
                model_free(&m);
                continue;
            }
            double out = distance(m.n_target, r[k].logits, r[0].logits),
                   grad = worst_gradient(&m, &r[k], &r[0]);
            printf("%s %s: logits %.2g, gradients %.2g\n", es_arch_name(archs[a]),
                   es_bf16_kind_name(kinds[k]), out, grad);
            /* the same arithmetic, other order of sums; 8 bits, and gradients that nearly cancel */
            const bool rounds = kinds[k] == ES_BF16_EMULATED;
            assert_true(out < (rounds ? 3e-2 : 2e-6) && grad < (rounds ? 0.1 : 1e-4));
            assert_true(!rounds || (out > 1e-4 && grad > 1e-3));
            const size_t *now = r[k].peak, *then = r[0].peak;
            printf("  memory %zu + %zu, fp32 %zu + %zu\n", now[0], now[2], then[0], then[2]);
            assert_true(!rounds || archs[a] == ES_ARCH_FPASST || /* a tiny one is all stem */
                        (double)(now[0] + now[2]) < 0.85 * (double)(then[0] + then[2]));
            model_free(&m);
        }
        for (int k = 0; k < N_KINDS; k++) result_free(&r[k]);
    }
}

/* The derivative of the loss along the gradient, by differences of the bf16 loss itself, with steps that are large beside its
 * rounding. */
static void gradient_is_that_of_the_loss(void **state) {
    (void)state;
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++) {
        struct model m = model_new(archs[a], ES_BF16_EMULATED, 1);
        struct result g = run(&m, true);
        const int64_t n = es_params_n_trainable(m.p);
        float *x = es_params_values(m.p), *start = guarded_copy(n, x);
        double gg = 0, loss[2];
        for (int64_t i = 0; i < n; i++) gg += (double)g.grads[i] * (double)g.grads[i];
        const double h = 0.007 / gg; /* the loss moves by that */
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < n; i++)
                x[i] = (float)((double)start[i] + (side ? -h : h) * (double)g.grads[i]);
            es_params_changed(m.p);
            struct result r = run(&m, false);
            loss[side] = (double)r.loss;
            result_free(&r);
        }
        const double along = (loss[0] - loss[1]) / (2 * h);
        printf("%s: derivative along the gradient %.5g, its square %.5g\n", es_arch_name(archs[a]), along,
               gg);
        assert_true(fabs(along - gg) < 0.05 * gg);
        guarded_free(n, start);
        result_free(&g);
        model_free(&m);
    }
}

/* Masters change: nothing happens before packing; frozen ones wait for `all`. */
static void packing_follows_masters(void **state) {
    (void)state;
    for (int k = 1; k < N_KINDS; k++) {
        struct model m = model_new(ES_ARCH_ATST, kinds[k], 1);
        int i = 0;
        while (!es_params_at(m.p, i)->bf16) i++;
        struct result r[4];
        for (int step = 0; step < 4; step++) {
            if (step == 1) es_params_data(m.p, i)[0] += 1;
            es_params_at(m.p, i)->trainable = step != 2;
            if (step >= 2) es_params_changed(m.p);
            r[step] = run(&m, false);
        }
        assert_true(r[0].loss == r[1].loss && r[0].loss == r[2].loss && r[0].loss != r[3].loss);
        for (int step = 0; step < 4; step++) result_free(&r[step]);
        assert_true(es_params_packed_bytes(m.p, m.e) > 0);
        model_free(&m);
    }
}

static int all_freed(void **state) {
    (void)state;
    return es_mem_live_blocks() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(gradients_agree, all_freed),
        cmocka_unit_test_teardown(gradient_is_that_of_the_loss, all_freed),
        cmocka_unit_test_teardown(packing_follows_masters, all_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
