/* BEATs as a network: gradients along random directions with every dropout active, memory plans, the table of positions that all
 * blocks share, blocks left out, the decay of the gradient from block to block, initialisation. Check mode: every fast kernel
 * beside its reference. TIMEOUT 60 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/nn.h"
#include "unit/crnn_test.h"

enum { B = 2, MELS = 35, FRAMES = 70, TOKENS = 8, D = 12, DEPTH = 3, STEP = 3 };

struct world {
    struct es_params *params;
    struct es_net *net;
    float *x, *R, *grads, dx[B * MELS * FRAMES];
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *tape;
    bool train;
};

/* Test-only operation: loss = sum y R, in double. */
struct weigh {
    struct es_tensor *y, *loss;
    const float *R;
    double value;
};

static void weigh_backward(struct es_tape *t, void *saved) {
    struct weigh *s = saved;
    float beta, *dy = es_tape_grad(t, s->y, &beta);
    for (int64_t i = 0; dy && !es_tape_dry(t) && i < s->y->n; i++) dy[i] = s->R[i];
}

static struct weigh *weigh(struct es_tape *t, struct es_tensor *y, const float *R) {
    struct weigh *s = es_tape_node(t, sizeof *s);
    *s = (struct weigh){.y = y, .R = R, .loss = es_tape_output(t, "weigh", 1, (int64_t[]){1})};
    for (int64_t i = 0; !es_tape_dry(t) && i < y->n; i++) s->value += (double)y->data[i] * (double)R[i];
    if (!es_tape_dry(t)) s->loss->data[0] = (float)s->value;
    es_tape_push(t, weigh_backward, s, s->loss, NULL, 1, &y);
    es_tape_add_loss(t, s->loss);
    return s;
}

static struct es_net_config config(double dropout, double layerdrop, double grad_decay) {
    struct es_net_config c;
    es_net_config_published(&c, ES_ARCH_BEATS);
    struct es_transformer_config *t = &c.transformer;
    c.pretrain = true;
    c.pretrain_classes = 2;
    t->dim = D;
    t->depth = DEPTH;
    t->heads = 3;
    t->mlp = 20;
    t->n_mels = MELS;
    t->n_mel_frames = FRAMES;
    t->beats = (struct es_beats_config){.patch_embed = 10,
                                        .conv_taps = 6,
                                        .conv_groups = 2,
                                        .buckets = 8,
                                        .max_distance = 5,
                                        .dropout_input = dropout,
                                        .dropout = dropout,
                                        .attention_dropout = dropout,
                                        .activation_dropout = dropout,
                                        .layerdrop = layerdrop,
                                        .grad_decay = grad_decay};
    return c;
}

static void open_tape(struct world *w, bool record, const size_t bytes[3]) {
    assert_int_equal(es_arena_new(&w->leaf, "leaf", bytes[0], NULL), 0);
    assert_int_equal(es_arena_new(&w->scratch, "scratch", bytes[1], NULL), 0);
    assert_int_equal(es_pool_new(&w->pool, "pool", bytes[2], NULL), 0);
    struct es_tape_params tp = {.params = w->params,
                                .leaf = w->leaf,
                                .scratch = w->scratch,
                                .pool = w->pool,
                                .record = record,
                                .train = w->train,
                                .seed = 5,
                                .dropout_purpose = ES_RNG_STUDENT_DROPOUT};
    assert_int_equal(es_tape_new(&w->tape, &tp, NULL), 0);
}

static void close_tape(struct world *w) {
    es_tape_free(&w->tape);
    es_pool_free(&w->pool);
    es_arena_free(&w->scratch);
    es_arena_free(&w->leaf);
}

static void world_new(struct world *w, const struct es_net_config *c, bool train) {
    *w = (struct world){.train = train};
    assert_int_equal(es_params_new(&w->params, NULL), 0);
    assert_int_equal(es_net_new(&w->net, c, w->params, NULL), 0);
    for (int i = 0; i < es_params_count(w->params); i++) {
        struct es_param *p = es_params_at(w->params, i);
        p->trainable = strncmp(p->name, "strong_head", 11) != 0;
        if (strstr(p->name, "relative") || strstr(p->name, "grep_linear")) p->init_scale = 0.5;
    }
    assert_int_equal(es_params_layout(w->params, NULL), 0);
    es_params_init(w->params, 7);
    w->x = kt_random(B * MELS * FRAMES, -1, 1, NULL);
    w->R = kt_random(B * TOKENS * D, -1, 1, NULL);
    w->grads = kt_new(es_params_n_trainable(w->params));
}

static void world_free(struct world *w) {
    close_tape(w);
    es_net_free(&w->net);
    es_params_free(&w->params);
    kt_done();
}

static double run(struct world *w, uint32_t leaf) {
    es_tape_reset(w->tape, STEP, leaf);
    struct es_tensor *in =
        es_tape_input(w->tape, "x", 4, (int64_t[]){B, 1, MELS, FRAMES}, w->x, es_tape_record(w->tape));
    struct es_tensor *y = es_net_transformer(w->net, w->tape, in);
    assert_true(y->shape[1] == TOKENS && y->shape[2] == D);
    struct weigh *s = weigh(w->tape, y, w->R);
    double value = s->value;
    if (es_tape_record(w->tape)) {
        es_tape_backward(w->tape, w->grads, NULL);
        if (!es_tape_dry(w->tape)) memcpy(w->dx, es_tape_input_grad(w->tape, in), sizeof w->dx);
    }
    es_tape_drop(w->tape, y);
    es_tape_drop(w->tape, s->loss);
    return value;
}

/* Makes a tape of exactly the memory that a dry run asks for. */
static void plan(struct world *w, bool record) {
    size_t bytes[3] = {0, 0, 0};
    open_tape(w, record, bytes);
    run(w, 1);
    bytes[0] = record ? es_arena_peak(w->leaf) : 64;
    bytes[1] = es_arena_peak(w->scratch);
    bytes[2] = es_pool_peak(w->pool);
    close_tape(w);
    open_tape(w, record, bytes);
}

static void check_direction(const char *what, struct world *w, uint32_t leaf, float *x, int64_t n,
                            const float *g) {
    float *start = es_alloc((size_t)n, sizeof *start, NULL), *v = es_alloc((size_t)n, sizeof *v, NULL);
    assert_true(start && v);
    memcpy(start, x, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) v[i] = (float)kt_uniform(-1, 1);
    double along = 0, gg = 0, vv = 0, loss[2];
    for (int64_t i = 0; i < n; i++) {
        along += (double)g[i] * (double)v[i];
        gg += (double)g[i] * (double)g[i];
        vv += (double)v[i] * (double)v[i];
    }
    double h = 4e-3 / sqrt(vv);
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < n; i++) x[i] = (float)((double)start[i] + (s ? -h : h) * (double)v[i]);
        loss[s] = run(w, leaf);
    }
    memcpy(x, start, (size_t)n * sizeof *x);
    double fd = (loss[0] - loss[1]) / (2 * h), allowed = 2e-3 * sqrt(gg * vv) + 1e-3 * sqrt(vv);
    if (!(fabs(fd - along) <= allowed))
        fail_msg("%s: along v: gradient gives %.8g, difference %.8g, allowed %.3g", what, along, fd, allowed);
    es_free(&v);
    es_free(&start);
}

static bool belongs(const char *name, int layer) {
    char part[32];
    snprintf(part, sizeof part, "layers.%d.", layer);
    return strstr(name, part) && !strstr(name, "relative_attention_bias");
}

static double magnitude(const struct world *w, int i) {
    const struct es_param *p = es_params_at(w->params, i);
    double s = 0;
    for (int64_t k = 0; k < p->n; k++) s += fabs((double)w->grads[p->offset + k]);
    return s;
}

/* Some leaf leaves a block out, some does not. */
static void gradients_and_memory(void **state) {
    (void)state;
    for (int drops = 0; drops < 2; drops++) {
        struct world w, plain;
        struct es_net_config c = config(drops ? 0.2 : 0, drops ? 0.4 : 0, 1);
        int left_out = 0, whole = 0;
        world_new(&w, &c, true);
        plan(&w, true);
        for (uint32_t leaf = 0; leaf < (drops ? 6u : 1u); leaf++) {
            int64_t n = es_params_n_trainable(w.params);
            for (int64_t i = 0; i < n; i++) w.grads[i] = NAN; /* must be overwritten */
            double first = run(&w, leaf);
            int out = 0;
            for (int l = 0; l < DEPTH; l++) {
                double sum = 0;
                for (int i = 0; i < es_params_count(w.params); i++)
                    if (belongs(es_params_at(w.params, i)->name, l)) sum += magnitude(&w, i);
                out += sum == 0;
            }
            left_out += out > 0;
            whole += out == 0;
            plain = w;
            plain.leaf = plain.scratch = NULL;
            plain.pool = NULL;
            plain.tape = NULL;
            plan(&plain, false);
            assert_true(run(&plain, leaf) == first); /* same bits and masks without recording */
            assert_int_equal(es_pool_live(plain.pool), 0);
            check_direction("input", &plain, leaf, w.x, B * MELS * FRAMES, w.dx);
            for (int i = 0; i < es_params_count(w.params); i++) {
                const struct es_param *p = es_params_at(w.params, i);
                if (p->trainable)
                    check_direction(p->name, &plain, leaf, es_params_data(w.params, i), p->n,
                                    w.grads + p->offset);
            }
            close_tape(&plain);
        }
        assert_true(drops ? left_out > 0 && whole > 0 : left_out == 0);
        world_free(&w);
    }
}

static void check_mode(void **state) {
    (void)state;
    struct world w;
    struct es_net_config c = config(0.2, 0, 0.5);
    world_new(&w, &c, true);
    plan(&w, true);
    es_kernel_set_mode(ES_KERNELS_CHECK);
    double value = run(&w, 1);
    es_kernel_set_mode(ES_KERNELS_REF);
    double reference = run(&w, 1);
    es_kernel_set_mode(ES_KERNELS_FAST);
    assert_true(run(&w, 1) == value);
    assert_true(fabs(value - reference) < 1e-4);
    world_free(&w);
}

/* A factor of 1/2 is exact: the last block is the same, the one before half of it, all below the stack an eighth. The table adds
 * up its uses, each of which sees the factors above it only. */
static void gradient_decay(void **state) {
    (void)state;
    struct world w[2];
    for (int k = 0; k < 2; k++) {
        struct es_net_config c = config(0, 0, k ? 0.5 : 1);
        kt_seed();
        world_new(&w[k], &c, true);
        plan(&w[k], true);
        run(&w[k], 0);
    }
    for (int i = 0; i < es_params_count(w[0].params); i++) {
        const struct es_param *p = es_params_at(w[0].params, i);
        float factor = 0.125f;
        for (int l = 0; l < DEPTH; l++)
            if (belongs(p->name, l)) factor = ldexpf(1, l - (DEPTH - 1));
        bool table = strstr(p->name, "relative_attention_bias"), same = true;
        for (int64_t j = p->offset; p->trainable && j < p->offset + p->n; j++)
            same &= w[1].grads[j] == factor * w[0].grads[j];
        assert_true(same == !table);
    }
    close_tape(&w[0]);
    es_net_free(&w[0].net);
    es_params_free(&w[0].params);
    world_free(&w[1]);
}

/* One tensor, DEPTH names; it counts once. */
#define TABLE "model.beats.encoder.layers.%d.self_attn.relative_attention_bias.weight"
static void shared_table(void **state) {
    (void)state;
    struct world w;
    struct es_net_config c = config(0, 0, 1);
    world_new(&w, &c, false);
    char name[120];
    snprintf(name, sizeof name, TABLE, 0);
    int first = es_params_find(w.params, name), entry, seen = 0;
    assert_true(first >= 0);
    assert_string_equal(es_params_at(w.params, first)->name, name);
    for (int l = 1; l < DEPTH; l++) {
        snprintf(name, sizeof name, TABLE, l);
        assert_int_equal(es_params_find(w.params, name), first);
    }
    assert_int_equal(es_params_n_aliases(w.params), DEPTH - 1);
    for (int i = 0; i < DEPTH - 1; i++) {
        snprintf(name, sizeof name, TABLE, i + 1);
        assert_string_equal(es_params_alias_at(w.params, i, &entry), name);
        assert_int_equal(entry, first);
    }
    for (int i = 0; i < es_params_count(w.params); i++)
        seen += strstr(es_params_at(w.params, i)->name, "relative_attention_bias") != NULL;
    assert_int_equal(seen, 1);
    struct es_params *copy = NULL;
    assert_int_equal(es_params_clone(&copy, w.params, NULL), 0);
    assert_int_equal(es_params_find(copy, name), first);
    es_params_free(&copy);
    world_free(&w);
}

/* spec/models.md section 2.3, "Init from scratch": variances, and magnitudes that equal the norms of their directions. */
static void initialisation(void **state) {
    (void)state;
    struct es_net_config c;
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    es_net_config_published(&c, ES_ARCH_BEATS);
    c.transformer.depth = 1;
    c.pretrain = true;
    assert_int_equal(es_params_new(&p, NULL), 0);
    assert_int_equal(es_net_new(&net, &c, p, NULL), 0);
    assert_int_equal(es_params_layout(p, NULL), 0);
    es_params_init(p, 3);
    const double gain = pow(8.0, -0.25), wide = sqrt(2.0 / (768 + 3072)), square = sqrt(2.0 / (768 + 768));
    const struct {
        const char *name;
        double std;
    } want[] = {{"encoder.layers.0.self_attn.q_proj.weight", square},
                {"encoder.layers.0.self_attn.k_proj.weight", square},
                {"encoder.layers.0.self_attn.v_proj.weight", gain * square},
                {"encoder.layers.0.self_attn.out_proj.weight", gain * square},
                {"encoder.layers.0.fc1.weight", gain * wide},
                {"encoder.layers.0.fc2.weight", gain * wide},
                {"encoder.layers.0.self_attn.relative_attention_bias.weight", 0.02},
                {"encoder.pos_conv.0.parametrizations.weight.original1", sqrt(4.0 / (128 * 768))},
                {"post_extract_proj.weight", 1 / sqrt(3.0 * 512)},
                {"patch_embedding.weight", 1 / sqrt(3.0 * 256)},
                {"encoder.layers.0.self_attn.q_proj.bias", 0},
                {"encoder.pos_conv.0.bias", 0}};
    char name[160];
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        snprintf(name, sizeof name, "model.beats.%s", want[i].name);
        int at = es_params_find(p, name);
        assert_true(at >= 0);
        const struct es_param *e = es_params_at(p, at);
        double ss = 0;
        for (int64_t k = 0; k < e->n; k++)
            ss += (double)es_params_data(p, at)[k] * (double)es_params_data(p, at)[k];
        assert_true(fabs(sqrt(ss / (double)e->n) - want[i].std) <= 0.05 * want[i].std);
    }
    int v = es_params_find(p, "model.beats.encoder.pos_conv.0.parametrizations.weight.original1");
    const float *g = es_params_data(p, v - 1), *x = es_params_data(p, v);
    assert_string_equal(es_params_at(p, v - 1)->name,
                        "model.beats.encoder.pos_conv.0.parametrizations.weight.original0");
    for (int k = 0; k < 128; k++) {
        double ss = 0;
        for (int r = 0; r < 768 * 48; r++) ss += (double)x[r * 128 + k] * (double)x[r * 128 + k];
        assert_true(fabs(sqrt(ss) - (double)g[k]) < 1e-6 * (double)g[k]);
    }
    int grep = es_params_find(p, "model.beats.encoder.layers.0.self_attn.grep_a");
    for (int h = 0; h < 12; h++) assert_true(es_params_data(p, grep)[h] == 1);
    es_net_free(&net);
    es_params_free(&p);
}

static void bad_sizes(void **state) {
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct es_net_config c = config(0, 0, 1);
        struct es_params *p = NULL;
        struct es_net *net = NULL;
        struct es_err err = {0};
        static const char *const says[4] = {"beats.conv_groups: got 5", "beats.buckets: got 6",
                                            "beats.max_distance: got 2", "got features of 15 mels"};
        if (k == 0) c.transformer.beats.conv_groups = 5;
        if (k == 1) c.transformer.beats.buckets = 6;
        if (k == 2) c.transformer.beats.max_distance = 2;
        if (k == 3) c.transformer.n_mels = 15;
        assert_int_equal(es_params_new(&p, NULL), 0);
        assert_int_equal(es_net_new(&net, &c, p, &err), -ES_EUSAGE);
        assert_non_null(strstr(err.msg, says[k]));
        es_params_free(&p);
    }
}

int main(void) {
    kt_seed();
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_and_memory), cmocka_unit_test(check_mode),
                                       cmocka_unit_test(gradient_decay),       cmocka_unit_test(shared_table),
                                       cmocka_unit_test(initialisation),       cmocka_unit_test(bad_sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
