/* CRNN operations and losses on the tape: gradients of a whole small network by finite differences along
 * them, memory plans, statistics, dropout, row ranges of losses. Kernels run in check mode: fast against
 * reference at every call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/ops.h"
#include "unit/crnn_test.h"

/* ---- a parameter table, a tape and its memory, planned by a dry run */
struct world {
    struct es_params *params;
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *tape;
    bool record, train;
    float *grads;
};

typedef void (*graph_fn)(struct es_tape *t, void *ctx);

static void close_tape(struct world *w) {
    es_tape_free(&w->tape);
    if (w->pool) assert_int_equal(es_pool_live(w->pool), 0);
    es_pool_free(&w->pool);
    es_arena_free(&w->leaf);
    es_arena_free(&w->scratch);
}

static void open_tape(struct world *w, size_t leaf, size_t scratch, size_t pool) {
    assert_int_equal(es_arena_new(&w->leaf, "leaf", leaf, NULL), 0);
    assert_int_equal(es_arena_new(&w->scratch, "scratch", scratch, NULL), 0);
    assert_int_equal(es_pool_new(&w->pool, "pool", pool, NULL), 0);
    struct es_tape_params tp = {.params = w->params,
                                .leaf = w->leaf,
                                .scratch = w->scratch,
                                .pool = w->pool,
                                .record = w->record,
                                .train = w->train,
                                .seed = 5,
                                .dropout_purpose = ES_RNG_STUDENT_DROPOUT};
    assert_int_equal(es_tape_new(&w->tape, &tp, NULL), 0);
    es_tape_reset(w->tape, 3, 1);
}

/* Runs the graph dry, then gives the world a tape with exactly the memory that took. */
static void plan(struct world *w, graph_fn graph, void *ctx) {
    open_tape(w, 0, 0, 0);
    graph(w->tape, ctx);
    if (w->record) es_tape_backward(w->tape, w->grads, NULL);
    size_t leaf = es_arena_peak(w->leaf), scratch = es_arena_peak(w->scratch), pool = es_pool_peak(w->pool);
    close_tape(w);
    leaf = leaf ? leaf : 64, scratch = scratch ? scratch : 64, pool = pool ? pool : 64;
    open_tape(w, leaf, scratch, pool);
    memset(es_arena_alloc(w->leaf, leaf), 0xff, leaf); /* NaN: nothing may be read before it is written */
    memset(es_arena_alloc(w->scratch, scratch), 0xff, scratch);
    es_arena_reset(w->leaf, 0);
    es_arena_reset(w->scratch, 0);
    void *block = es_pool_get(w->pool, pool);
    memset(block, 0xff, pool);
    es_pool_put(w->pool, block);
}

static void world_end(struct world *w) {
    close_tape(w);
    es_free(&w->grads);
    es_params_free(&w->params);
}

/* ---- the network */
enum {
    CONV0_W,
    CONV0_B,
    BN0_W,
    BN0_B,
    BN0_MEAN,
    BN0_VAR,
    GATE0_W,
    GATE0_B,
    CONV1_W,
    CONV1_B,
    BN1_W,
    BN1_B,
    BN1_MEAN,
    BN1_VAR,
    GATE1_W,
    GATE1_B,
    RNN0,
    RNN1 = RNN0 + 8,
    N_PARAMS = RNN1 + 8
};

static const struct {
    const char *name;
    int ndim;
    int64_t shape[4];
} table[N_PARAMS] = {
    {"conv0.weight", 4, {4, 1, 3, 3}},
    {"conv0.bias", 1, {4}},
    {"bn0.weight", 1, {4}},
    {"bn0.bias", 1, {4}},
    {"bn0.mean", 1, {4}},
    {"bn0.var", 1, {4}},
    {"gate0.weight", 2, {4, 4}},
    {"gate0.bias", 1, {4}},
    {"conv1.weight", 4, {5, 4, 3, 3}},
    {"conv1.bias", 1, {5}},
    {"bn1.weight", 1, {5}},
    {"bn1.bias", 1, {5}},
    {"bn1.mean", 1, {5}},
    {"bn1.var", 1, {5}},
    {"gate1.weight", 2, {5, 5}},
    {"gate1.bias", 1, {5}},
    {"rnn0.weight_ih", 2, {9, 5}},
    {"rnn0.weight_hh", 2, {9, 3}},
    {"rnn0.bias_ih", 1, {9}},
    {"rnn0.bias_hh", 1, {9}},
    {"rnn0.weight_ih_r", 2, {9, 5}},
    {"rnn0.weight_hh_r", 2, {9, 3}},
    {"rnn0.bias_ih_r", 1, {9}},
    {"rnn0.bias_hh_r", 1, {9}},
    {"rnn1.weight_ih", 2, {9, 5}},
    {"rnn1.weight_hh", 2, {9, 3}},
    {"rnn1.bias_ih", 1, {9}},
    {"rnn1.bias_hh", 1, {9}},
    {"rnn1.weight_ih_r", 2, {9, 5}},
    {"rnn1.weight_hh_r", 2, {9, 3}},
    {"rnn1.bias_ih_r", 1, {9}},
    {"rnn1.bias_hh_r", 1, {9}},
};

static bool is_buffer(int i) {
    return i == BN0_MEAN || i == BN0_VAR || i == BN1_MEAN || i == BN1_VAR;
}

static struct world world_begin(bool record, bool train) {
    struct world w = {.record = record, .train = train};
    assert_int_equal(es_params_new(&w.params, NULL), 0);
    for (int i = 0; i < N_PARAMS; i++) {
        int id = es_params_add(w.params, table[i].name, is_buffer(i) ? ES_PARAM_BUFFER : ES_PARAM_WEIGHT,
                               ES_INIT_ZERO, 0, table[i].ndim, table[i].shape);
        assert_int_equal(id, i);
        es_params_at(w.params, id)->trainable = !is_buffer(i);
    }
    assert_int_equal(es_params_layout(w.params, NULL), 0);
    for (int i = 0; i < N_PARAMS; i++) {
        float *v = es_params_data(w.params, i);
        bool positive = i == BN0_VAR || i == BN1_VAR || i == BN0_W || i == BN1_W;
        for (int64_t k = 0; k < es_params_at(w.params, i)->n; k++)
            v[k] = (float)kt_uniform(positive ? 0.5 : -0.6, positive ? 1.5 : 0.6);
    }
    w.grads = es_alloc((size_t)es_params_n_trainable(w.params), sizeof *w.grads, NULL);
    assert_non_null(w.grads);
    return w;
}

#define B 3
#define K 6
#define LOSSES 6
struct net {
    int variant; /* which resampling over time */
    float *x, *target;
    uint8_t mask[B * K];
    struct es_tensor *in, *dropped, *loss[LOSSES];
};

static void network(struct es_tape *t, void *ctx) {
    struct net *n = ctx;
    struct es_tensor *p[N_PARAMS];
    for (int i = 0; i < N_PARAMS; i++) p[i] = es_tape_param(t, i);
    struct es_tensor *x = n->in = es_tape_input(t, "x", 4, (int64_t[]){B, 1, 21, 8}, n->x, es_tape_record(t));
    x = es_op_conv2d(t, x, p[CONV0_W], p[CONV0_B], 1);
    struct es_cnn_tail tail = {
        .w = {p[BN0_W], p[BN0_B], p[GATE0_W], p[GATE0_B]}, BN0_MEAN, BN0_VAR, 1e-3, 0.3, false, 2, 2};
    x = n->dropped = es_op_cnn_tail(t, x, &tail);
    x = es_op_conv2d(t, x, p[CONV1_W], p[CONV1_B], 1);
    tail = (struct es_cnn_tail){
        .w = {p[BN1_W], p[BN1_B], p[GATE1_W], p[GATE1_B]}, BN1_MEAN, BN1_VAR, 1e-3, 0, true, 1, 4};
    x = es_op_cnn_tail(t, x, &tail);
    x = es_op_channels_last(t, x); /* [B,10,5] */
    switch (n->variant) {
    case 0:
        x = es_op_time_pool(t, x, 7);
        break;
    case 1:
        x = es_op_time_nearest(t, x, 7, false);
        break;
    case 2:
        x = es_op_time_nearest(t, x, 13, true);
        break;
    default:
        x = es_op_time_linear(t, x, 13);
        break;
    }
    struct es_tensor *z = es_op_bigru(t, x, p + RNN0), *a = es_op_bigru(t, x, p + RNN1), *strong,
                     *weak; /* x is used twice */
    es_op_class_pool(t, z, a, n->mask, -1e30, &strong, &weak);
    struct es_tensor *mean = es_op_time_mean(t, a);
    static const uint8_t columns[K] = {1, 0, 1, 1, 0, 1};
    n->loss[0] = es_op_bce(t, strong, n->target, &(struct es_loss_rows){0, 2, 1.5, 40, NULL});
    n->loss[1] =
        es_op_mse(t, strong, n->target, &(struct es_loss_rows){1, 2, 30, 40, NULL}); /* row 1 counts twice */
    n->loss[2] = es_op_bce(t, weak, n->target, &(struct es_loss_rows){2, 1, 1, 5, NULL});
    n->loss[3] = es_op_mse(t, weak, n->target, &(struct es_loss_rows){0, 3, 20, 12, columns});
    n->loss[4] = es_op_bce_logits(t, mean, n->target, &(struct es_loss_rows){0, 3, 1, 9, columns});
    n->loss[5] =
        es_op_mse(t, z, n->target, &(struct es_loss_rows){0, 3, 5, 20, NULL}); /* z is used twice, too */
    for (int i = 0; i < LOSSES; i++) es_tape_add_loss(t, n->loss[i]);
}

static struct net net_begin(int variant) {
    struct net n = {.variant = variant};
    n.x = kt_random(B * 21 * 8, -1, 1, NULL);
    n.target = kt_random(B * K * 13, 0, 1, NULL);
    for (int i = 0; i < B * K; i++) n.mask[i] = i % 4 != 1;
    return n;
}

static double total(struct world *w, struct net *n) {
    es_tape_reset(w->tape, 3, 1); /* the same masks again */
    network(w->tape, n);
    double sum = 0;
    for (int i = 0; i < LOSSES; i++) sum += (double)n->loss[i]->data[0];
    return sum;
}

/* Slope of the loss along the gradient of v itself: its norm. */
static void check_slope(struct world *w, struct net *n, const char *name, float *v, int64_t len,
                        const float *grad, double top) {
    double norm = 0, step = 2e-2;
    for (int64_t i = 0; i < len; i++) norm += (double)grad[i] * (double)grad[i];
    norm = sqrt(norm);
    if (norm < 1e-5 * top) return; /* bias before batch normalisation */
    float *keep = kt_copy(len, v);
    double side[2];
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < len; i++)
            v[i] = keep[i] + (float)((s ? -step : step) * (double)grad[i] / norm);
        side[s] = total(w, n);
    }
    memcpy(v, keep, (size_t)len * sizeof *v);
    double slope = (side[0] - side[1]) / (2 * step);
    double rounding = 4 * side[0] * 0x1p-24 / step; /* the losses are floats */
    if (fabs(slope - norm) > 5e-3 * norm + rounding)
        fail_msg("%s: gradient's norm %.6g, slope along it %.6g", name, norm, slope);
}

static void gradients_of_the_network(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct world w = world_begin(true, i < 4);
        struct net n = net_begin(i % 4);
        plan(&w, network, &n);
        memset(w.grads, 0xff,
               (size_t)es_params_n_trainable(w.params) * sizeof *w.grads); /* NaN: all must be written */
        total(&w, &n);
        es_tape_backward(w.tape, w.grads, NULL);
        float *dx = kt_copy(n.in->n, es_tape_input_grad(w.tape, n.in));
        double top = 0;
        for (int k = 0; k < N_PARAMS; k++) {
            const struct es_param *p = es_params_at(w.params, k);
            for (int64_t e = 0; p->trainable && e < p->n; e++) {
                assert_true(!isnan(w.grads[p->offset + e]));
                top = fmax(top, fabs((double)w.grads[p->offset + e]));
            }
        }
        assert_true(top > 0.01);
        for (int k = 0; k < N_PARAMS; k++) {
            const struct es_param *p = es_params_at(w.params, k);
            if (!is_buffer(k))
                check_slope(&w, &n, p->name, es_params_data(w.params, k), p->n, w.grads + p->offset, top);
        }
        check_slope(&w, &n, "x", n.x, n.in->n, dx, top);
        world_end(&w);
        kt_done();
    }
}

/* The same bits from a tape that records, one that does not, and with either kind of memory. */
static void recording_changes_no_value(void **state) {
    (void)state;
    struct world w = world_begin(true, true);
    struct net n = net_begin(0);
    plan(&w, network, &n);
    total(&w, &n);
    float want[LOSSES], got[LOSSES];
    for (int i = 0; i < LOSSES; i++) want[i] = n.loss[i]->data[0];
    assert_int_equal(es_tape_n_stats(w.tape), 2);
    struct es_tape_stats s = es_tape_stats_at(w.tape, 1);
    assert_true(s.mean_param == BN1_MEAN && s.var_param == BN1_VAR && s.n == 5);
    float stats[10];
    memcpy(stats, s.mean, sizeof stats / 2);
    memcpy(stats + 5, s.var, sizeof(float) * 5);
    close_tape(&w);
    w.record = false;
    open_tape(&w, 64, 1 << 20, 1 << 22);
    total(&w, &n);
    for (int i = 0; i < LOSSES; i++) got[i] = n.loss[i]->data[0];
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(es_tape_n_stats(w.tape), 2); /* a teacher in training mode has statistics, too */
    s = es_tape_stats_at(w.tape, 1);
    assert_memory_equal(s.mean, stats, sizeof(float) * 5);
    assert_memory_equal(s.var, stats + 5, sizeof(float) * 5);
    es_pool_free(&w.pool); /* nothing was dropped: blocks are out */
    world_end(&w);
    kt_done();
}

struct little { /* one operation */
    float *x;
    struct es_tensor *in, *out, *again;
};
static void dropout_twice(struct es_tape *t, void *ctx) {
    struct little *l = ctx;
    l->in = es_tape_input(t, "x", 2, (int64_t[]){10, 100}, l->x, true);
    l->out = es_op_dropout(t, l->in, 0.5);
    l->again = es_op_dropout(t, l->in, 0.5);
    assert_ptr_equal(es_op_dropout(t, l->in, 0), l->in);
    es_tape_add_loss(t, es_op_mse(t, l->out, l->x, &(struct es_loss_rows){0, 10, 1, 2, NULL}));
}

static void dropout_streams(void **state) {
    (void)state;
    struct world w = world_begin(true, true);
    struct little l = {.x = kt_random(1000, 1, 2, NULL)};
    plan(&w, dropout_twice, &l);
    es_tape_reset(w.tape, 3, 1);
    dropout_twice(w.tape, &l);
    int equal = 0, zeros = 0;
    float *first = kt_copy(1000, l.out->data);
    for (int i = 0; i < 1000; i++) {
        zeros += first[i] == 0;
        equal += (first[i] == 0) == (l.again->data[i] == 0);
    }
    assert_true(zeros > 400 && zeros < 600 && equal > 400 && equal < 600); /* each call has its own stream */
    es_tape_backward(w.tape, w.grads, NULL);
    const float *g = es_tape_input_grad(w.tape, l.in);
    /* d/dx of (2x - x)^2 / 2 through y = 2x: 2 (y - x); a dropped one gives none */
    for (int i = 0; i < 1000; i++) {
        if (first[i] == 0) assert_true(g[i] == 0);
        if (first[i] != 0) assert_true(fabsf(g[i] - 2 * (first[i] - l.x[i])) < 1e-5f);
    }
    es_tape_reset(w.tape, 3, 2); /* another leaf, other masks; the same leaf, the same */
    dropout_twice(w.tape, &l);
    assert_memory_not_equal(l.out->data, first, 1000 * sizeof *first);
    es_tape_reset(w.tape, 3, 1);
    dropout_twice(w.tape, &l);
    assert_memory_equal(l.out->data, first, 1000 * sizeof *first);
    world_end(&w);
    struct world eval = world_begin(true, false);
    open_tape(&eval, 1 << 16, 1 << 16, 1 << 16);
    struct es_tensor *x = es_tape_input(eval.tape, "x", 2, (int64_t[]){10, 100}, l.x, true);
    assert_ptr_equal(es_op_dropout(eval.tape, x, 0.5), x);
    world_end(&eval);
    kt_done();
}

static void batchnorm_leaves_buffers_alone(void **state) {
    (void)state;
    struct world w = world_begin(true, true);
    struct net n = net_begin(0);
    float *mean = es_params_data(w.params, BN0_MEAN), before[4];
    memcpy(before, mean, sizeof before);
    plan(&w, network, &n);
    total(&w, &n);
    assert_memory_equal(mean, before, sizeof before);
    close_tape(&w);
    w.train = false; /* evaluation reads them */
    plan(&w, network, &n);
    double a = total(&w, &n);
    assert_int_equal(es_tape_n_stats(w.tape), 0);
    mean[0] += 1;
    assert_true(fabs(total(&w, &n) - a) > 1e-4);
    world_end(&w);
    kt_done();
}

/* ---- rows and columns of losses, by hand */
struct rows_case {
    float *p;
    const float *target;
    const struct es_loss_rows *rows;
    struct es_tensor *in, *loss;
};
static void one_loss(struct es_tape *t, void *ctx) {
    struct rows_case *c = ctx;
    c->in = es_tape_input(t, "p", 3, (int64_t[]){4, 3, 5}, c->p, true);
    c->loss = es_op_mse(t, c->in, c->target, c->rows);
    es_tape_add_loss(t, c->loss);
}

static void loss_rows_and_columns(void **state) {
    (void)state;
    static const uint8_t columns[3] = {0, 1, 1};
    struct es_loss_rows rows = {1, 2, 3.0, 7.0, columns};
    struct world w = world_begin(true, true);
    struct rows_case c = {.p = kt_random(60, 0, 1, NULL), .target = kt_random(60, 0, 1, NULL), .rows = &rows};
    plan(&w, one_loss, &c);
    es_tape_reset(w.tape, 0, 0);
    one_loss(w.tape, &c);
    es_tape_backward(w.tape, w.grads, NULL);
    const float *g = es_tape_input_grad(w.tape, c.in);
    double want = 0;
    for (int i = 0; i < 60; i++) {
        bool in = i / 15 >= 1 && i / 15 < 3 && columns[i / 5 % 3];
        double d = (double)c.p[i] - (double)c.target[i];
        want += in ? d * d : 0;
        assert_true(fabs((double)g[i] - (in ? 2 * d * 3.0 / 7.0 : 0)) < 1e-6);
    }
    assert_true(fabs((double)c.loss->data[0] - 3.0 / 7.0 * want) < 1e-6 * want);
    world_end(&w);
    kt_done();
}

static int no_leak(void **state) {
    (void)state;
    return es_mem_live_blocks() == 0 ? 0 : -1;
}

int main(void) {
    kt_seed();
    es_kernel_set_mode(ES_KERNELS_CHECK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_the_network), cmocka_unit_test(recording_changes_no_value),
        cmocka_unit_test(dropout_streams),          cmocka_unit_test(batchnorm_leaves_buffers_alone),
        cmocka_unit_test(loss_rows_and_columns),
    };
    return cmocka_run_group_tests(tests, NULL, no_leak);
}
