/* Transformer-side operations on the tape: a small network with every one of them. Gradients of input and parameters against
 * differences of the loss along random directions; a dry run's memory peaks against a real run's; recording and not recording
 * give the same bits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/ops.h"

#include "kernel_test.h"

enum { B = 3, F = 5, W = 30, P = 4, T = W / P, D = 12, H = 3, M = 20 };
enum { PATCH_W, PATCH_B, POS, LN_W, LN_B, QKV, SAME_W, SAME_B, UP_W, UP_B, DOWN_W, FROZEN, UNUSED, N_PARAMS };
static const struct {
    const char *name;
    int ndim;
    int64_t shape[3];
    bool trainable;
} table[N_PARAMS] = {
    [PATCH_W] = {"patch.weight", 2, {D, F *P, 0}, true},
    [PATCH_B] = {"patch.bias", 1, {D, 0, 0}, true},
    [POS] = {"pos", 3, {1, T + 4, D}, true},
    [LN_W] = {"ln.weight", 1, {D, 0, 0}, true},
    [LN_B] = {"ln.bias", 1, {D, 0, 0}, true},
    [QKV] = {"qkv.weight", 2, {3 * D, D, 0}, true},
    [SAME_W] = {"same.weight", 2, {D, D, 0}, true},
    [SAME_B] = {"same.bias", 1, {D, 0, 0}, true},
    [UP_W] = {"up.weight", 2, {M, D, 0}, true},
    [UP_B] = {"up.bias", 1, {M, 0, 0}, true},
    [DOWN_W] = {"down.weight", 2, {D, M, 0}, true},
    [FROZEN] = {"frozen.weight", 2, {D, D, 0}, false},
    [UNUSED] = {"unused.weight", 2, {D, 3, 0}, true},
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
    if (!dy || es_tape_dry(t)) return;
    for (int64_t i = 0; i < s->y->n; i++) dy[i] = s->R[i] + (beta == 0.0f ? 0.0f : dy[i]);
}

static struct weigh *weigh(struct es_tape *t, struct es_tensor *y, const float *R) {
    struct weigh *s = es_tape_node(t, sizeof *s);
    int64_t one = 1;
    *s = (struct weigh){.y = y, .R = R, .loss = es_tape_output(t, "weigh", 1, &one)};
    for (int64_t i = 0; !es_tape_dry(t) && i < y->n; i++) s->value += (double)y->data[i] * (double)R[i];
    if (!es_tape_dry(t)) s->loss->data[0] = (float)s->value;
    es_tape_push(t, weigh_backward, s, s->loss, NULL, 1, &y);
    es_tape_add_loss(t, s->loss);
    return s;
}

struct net {
    struct es_params *params;
    float *x, *R; /* [B,F,W], [B,T,2D] */
};

static struct es_tensor *next(struct es_tape *t, struct es_tensor *old, struct es_tensor *y) {
    es_tape_drop(t, old);
    return y;
}

/* Shared weights (SAME, LN twice), tensors with several users (residuals, concat), a frozen layer, an unused parameter. */
static struct es_tensor *forward(struct es_tape *t, const struct net *net, struct es_tensor **input) {
#define PARAM(i) es_tape_param(t, i)
    struct es_tensor *x = es_tape_input(t, "x", 3, (int64_t[]){B, F, W}, net->x, true), *h, *y, *z;
    *input = x;
    h = es_op_patchify(t, x, P);
    h = next(t, h, es_op_linear(t, h, PARAM(PATCH_W), PARAM(PATCH_B)));
    x = next(t, h, es_op_add_rows(t, h, PARAM(POS), 1));
    h = es_op_layernorm(t, x, PARAM(LN_W), PARAM(LN_B), 1e-5);
    h = next(t, h, es_op_linear(t, h, PARAM(QKV), NULL));
    h = next(t, h, es_op_attention(t, h, H));
    h = next(t, h, es_op_linear(t, h, PARAM(SAME_W), PARAM(SAME_B)));
    y = es_op_add(t, x, h);
    es_tape_drop(t, h);
    h = es_op_layernorm(t, y, PARAM(LN_W), PARAM(LN_B), 1e-5);
    h = next(t, h, es_op_linear(t, h, PARAM(UP_W), PARAM(UP_B)));
    h = next(t, h, es_op_gelu(t, h));
    h = next(t, h, es_op_linear(t, h, PARAM(DOWN_W), NULL));
    h = next(t, h, es_op_linear(t, h, PARAM(SAME_W), PARAM(SAME_B)));
    z = es_op_add(t, y, h);
    es_tape_drop(t, y);
    es_tape_drop(t, h);
    h = es_op_linear(t, z, PARAM(FROZEN), NULL);
    h = next(t, h, es_op_add(t, h, h));
    y = es_op_concat(t, h, x);
    es_tape_drop(t, x);
    es_tape_drop(t, z);
    es_tape_drop(t, h);
    return es_op_reshape(t, y, 2, (int64_t[]){B * T, 2 * D});
#undef PARAM
}

struct machine {
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *tape;
};

static struct machine machine(struct es_params *params, bool record, const size_t bytes[3]) {
    struct machine m = {0};
    assert_int_equal(es_arena_new(&m.leaf, "leaf", bytes[0], NULL), 0);
    assert_int_equal(es_arena_new(&m.scratch, "scratch", bytes[1], NULL), 0);
    assert_int_equal(es_pool_new(&m.pool, "pool", bytes[2], NULL), 0);
    struct es_tape_params tp = {
        .params = params, .leaf = m.leaf, .scratch = m.scratch, .pool = m.pool, .record = record};
    assert_int_equal(es_tape_new(&m.tape, &tp, NULL), 0);
    return m;
}

static void machine_free(struct machine *m) {
    es_tape_free(&m->tape);
    es_pool_free(&m->pool);
    es_arena_free(&m->scratch);
    es_arena_free(&m->leaf);
}

static struct net net_new(void) {
    struct net net;
    assert_int_equal(es_params_new(&net.params, NULL), 0);
    for (int i = 0; i < N_PARAMS; i++) {
        es_params_add(net.params, table[i].name, ES_PARAM_WEIGHT, ES_INIT_NORMAL, i == LN_W ? 0.5 : 0.3,
                      table[i].ndim, table[i].shape);
        es_params_at(net.params, i)->trainable = table[i].trainable;
    }
    assert_int_equal(es_params_layout(net.params, NULL), 0);
    es_params_init(net.params, test_seed());
    net.x = guarded_random(B * F * W, 1, 1);
    net.R = guarded_random(B * T * 2 * D, 2, 1);
    return net;
}

static void net_free(struct net *net) {
    guarded_free(B * F * W, net->x);
    guarded_free(B * T * 2 * D, net->R);
    es_params_free(&net->params);
}

/* Peaks of a run; a dry one when bytes are 0. grads may be NULL when dry. */
static double run(struct machine *m, const struct net *net, float *grads, size_t peak[3], float *input_grad) {
    struct es_tensor *input;
    es_tape_reset(m->tape, 0, 0);
    struct es_tensor *y = forward(m->tape, net, &input);
    double value = weigh(m->tape, y, net->R)->value;
    if (es_tape_record(m->tape)) {
        es_tape_backward(m->tape, grads, NULL);
        const float *g = es_tape_input_grad(m->tape, input);
        if (input_grad) memcpy(input_grad, g, B * F * W * sizeof *g);
    }
    if (peak) {
        peak[0] = es_arena_peak(m->leaf);
        peak[1] = es_arena_peak(m->scratch);
        peak[2] = es_pool_peak(m->pool);
    }
    return value;
}

static double loss_at(struct machine *m, const struct net *net, float *x, int64_t n, const float *start,
                      const float *v, double step) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)((double)start[i] + step * (double)v[i]);
    return run(m, net, NULL, NULL, NULL);
}

/* The loss along a random direction v of x: derivative against <gradient, v>. Float forward: tolerance 1e-3 of |gradient| |v|. */
static void check_direction(const char *what, struct machine *m, const struct net *net, float *x, int64_t n,
                            const float *g) {
    float *start = guarded_copy(n, x), *v = guarded_random(n, 77, 1);
    double along = 0, gg = 0, vv = 0;
    for (int64_t i = 0; i < n; i++) {
        along += (double)g[i] * (double)v[i];
        gg += (double)g[i] * (double)g[i];
        vv += (double)v[i] * (double)v[i];
    }
    double h = 4e-3 / sqrt(vv);
    double up = loss_at(m, net, x, n, start, v, h), down = loss_at(m, net, x, n, start, v, -h);
    double fd = (up - down) / (2 * h), allowed = 1e-3 * sqrt(gg * vv) + 1e-6;
    memcpy(x, start, (size_t)n * sizeof *x);
    if (!(fabs(fd - along) <= allowed))
        fail_msg("%s: derivative along v: gradient gives %.8g, difference %.8g, allowed %.3g", what, along,
                 fd, allowed);
    assert_true(gg > 0);
    guarded_free(n, start);
    guarded_free(n, v);
}

static const size_t dry[3] = {0, 0, 0}, plenty[3] = {1 << 22, 1 << 24, 1 << 22};

static void gradients_and_memory(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks();
    struct net net = net_new();
    int64_t n = es_params_n_trainable(net.params);
    float *grads = guarded(n), dx[B * F * W];
    size_t plan[3], used[3];
    struct machine m = machine(net.params, true, dry);
    run(&m, &net, grads, plan, NULL);
    machine_free(&m);
    m = machine(net.params, true, plan);            /* exactly enough, or a bug in the arena ends the test */
    for (int64_t i = 0; i < n; i++) grads[i] = NAN; /* must be overwritten */
    double first = run(&m, &net, grads, used, dx);
    for (int i = 0; i < 3; i++) assert_int_equal(used[i], plan[i]);
    assert_int_equal(es_pool_live(m.pool), 1); /* the input's gradient */
    float *again = guarded(n);
    assert_true(run(&m, &net, again, NULL, NULL) == first);
    struct machine plain = machine(net.params, false, plenty);
    assert_true(run(&plain, &net, NULL, NULL, NULL) == first); /* same bits without recording */
    check_direction("input", &plain, &net, net.x, B * F * W, dx);
    for (int i = 0; i < N_PARAMS; i++) {
        struct es_param *p = es_params_at(net.params, i);
        if (!p->trainable) continue;
        assert_memory_equal(grads + p->offset, again + p->offset, (size_t)p->n * sizeof *grads);
        if (i == UNUSED)
            for (int64_t j = 0; j < p->n; j++) assert_true(grads[p->offset + j] == 0.0f);
        else
            check_direction(p->name, &plain, &net, es_params_data(net.params, i), p->n, grads + p->offset);
    }
    const struct es_param *pos = es_params_at(net.params, POS); /* rows that no frame used */
    for (int64_t j = 0; j < pos->n; j++)
        if (j / D < 1 || j / D > T) assert_true(grads[pos->offset + j] == 0.0f);
    machine_free(&plain);
    machine_free(&m);
    guarded_free(n, again);
    guarded_free(n, grads);
    net_free(&net);
    assert_int_equal(es_mem_live_blocks(), before);
}

/* Without recording every activation goes back to the pool but the result; the plan of a dry run is exact there too. */
static void not_recording_gives_memory_back(void **state) {
    (void)state;
    struct net net = net_new();
    size_t plan[3], used[3];
    struct machine m = machine(net.params, false, dry);
    run(&m, &net, NULL, plan, NULL);
    machine_free(&m);
    assert_int_equal(plan[0], 0);
    m = machine(net.params, false, (const size_t[]){64, plan[1], plan[2]});
    run(&m, &net, NULL, used, NULL);
    assert_int_equal(used[1], plan[1]);
    assert_int_equal(used[2], plan[2]);
    assert_int_equal(es_pool_live(m.pool), 2); /* logits and loss */
    machine_free(&m);
    net_free(&net);
}

/* Every kernel of the network agrees with its reference. */
static void check_mode(void **state) {
    es_kernel_set_mode(ES_KERNELS_CHECK);
    gradients_and_memory(state);
    es_kernel_set_mode(ES_KERNELS_FAST);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_and_memory),
                                       cmocka_unit_test(not_recording_gives_memory_back),
                                       cmocka_unit_test(check_mode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
