/* fPaSST's operations: values by definition, gradients (the chain is linear in each of its inputs, so a difference with a large
 * step is exact but for rounding), dry runs, a table of positions longer than the clip. And the network's random offset into that
 * table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/nn.h"

#include "kernel_test.h"

enum { B = 3, F = 10, T = 7, K = 2, D = 6, N = T + 4, OFFSET = 3 };
enum { PATCH_W, PATCH_B, CLS, DIST, PREFIX, FREQ, TIME, N_PARAMS };
static const struct {
    const char *name;
    int ndim;
    int64_t shape[4];
} table[N_PARAMS] = {
    [PATCH_W] = {"patch.weight", 4, {D, F / 2, 2, K}},
    [PATCH_B] = {"patch.bias", 1, {D}},
    [CLS] = {"cls", 3, {1, 1, D}},
    [DIST] = {"dist", 3, {1, 1, D}},
    [PREFIX] = {"prefix", 3, {1, 2, D}},
    [FREQ] = {"freq", 4, {1, D, 1, 1}},
    [TIME] = {"time", 4, {1, D, 1, N}},
};

struct dot { /* test-only: loss = sum y R */
    struct es_tensor *y, *loss;
    const float *R;
};

static void dot_backward(struct es_tape *t, void *saved) {
    struct dot *s = saved;
    float beta, *dy = es_tape_grad(t, s->y, &beta);
    if (es_tape_dry(t)) return;
    for (int64_t i = 0; i < s->y->n; i++) dy[i] = s->R[i] + (beta == 0.0f ? 0.0f : dy[i]);
}

struct rig {
    struct es_params *params;
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *tape;
    float *x, *R, *dx;
};

static void tape_new(struct rig *r, bool train, const size_t bytes[3]) {
    assert_int_equal(es_arena_new(&r->leaf, "leaf", bytes[0], NULL), 0);
    assert_int_equal(es_arena_new(&r->scratch, "scratch", bytes[1], NULL), 0);
    assert_int_equal(es_pool_new(&r->pool, "pool", bytes[2], NULL), 0);
    struct es_tape_params tp = {.params = r->params,
                                .leaf = r->leaf,
                                .scratch = r->scratch,
                                .pool = r->pool,
                                .record = true,
                                .train = train,
                                .seed = 5,
                                .dropout_purpose = ES_RNG_STUDENT_DROPOUT};
    assert_int_equal(es_tape_new(&r->tape, &tp, NULL), 0);
}

static void tape_free(struct rig *r) {
    es_tape_free(&r->tape);
    es_pool_free(&r->pool);
    es_arena_free(&r->scratch);
    es_arena_free(&r->leaf);
}

/* x [B,F,T] -> taps -> linear -> tokens -> without the first token: [B,T+1,D] */
static double run(struct rig *r, float *grads, float *y_out, int64_t offset) {
    struct es_tape *t = r->tape;
    struct es_tensor *p[N_PARAMS];
    es_tape_reset(t, 0, 0);
    for (int i = 0; i < N_PARAMS; i++) p[i] = es_tape_param(t, i);
    struct es_tensor *x = es_tape_input(t, "x", 3, (int64_t[]){B, F, T}, r->x, true);
    struct es_tensor *y = es_op_linear(t, es_op_taps(t, x, K), p[PATCH_W], p[PATCH_B]);
    struct es_token_params tokens = {p[CLS], p[DIST], p[PREFIX], p[FREQ], p[TIME]};
    y = es_op_skip_rows(t, es_op_tokens(t, y, &tokens, offset), 1);
    struct dot *s = es_tape_node(t, sizeof *s);
    *s = (struct dot){y, es_tape_output(t, "dot", 1, (int64_t[]){1}), r->R};
    double value = 0;
    for (int64_t i = 0; !es_tape_dry(t) && i < y->n; i++) value += (double)y->data[i] * (double)r->R[i];
    if (!es_tape_dry(t)) s->loss->data[0] = (float)value;
    es_tape_push(t, dot_backward, s, s->loss, NULL, 1, &y);
    es_tape_add_loss(t, s->loss);
    if (grads) es_tape_backward(t, grads, NULL);
    if (grads && !es_tape_dry(t)) memcpy(r->dx, es_tape_input_grad(t, x), B * F * T * sizeof(float));
    if (y_out) memcpy(y_out, y->data, (size_t)y->n * sizeof *y_out);
    return value;
}

static struct rig rig_new(void) {
    struct rig r = {0};
    assert_int_equal(es_params_new(&r.params, NULL), 0);
    for (int i = 0; i < N_PARAMS; i++)
        es_params_add(r.params, table[i].name, ES_PARAM_WEIGHT, ES_INIT_NORMAL, 0.5, table[i].ndim,
                      table[i].shape);
    assert_int_equal(es_params_layout(r.params, NULL), 0);
    es_params_init(r.params, test_seed());
    r.x = guarded_random(B * F * T, 1, 1);
    r.R = guarded_random(B * (T + 1) * D, 2, 1);
    r.dx = guarded(B * F * T);
    return r;
}

static void rig_free(struct rig *r) {
    guarded_free(B * F * T, r->dx);
    guarded_free(B * (T + 1) * D, r->R);
    guarded_free(B * F * T, r->x);
    es_params_free(&r->params);
}

static const size_t dry[3] = {0, 0, 0};

static void values_by_definition(void **state) {
    (void)state;
    struct rig r = rig_new();
    float y[B * (T + 1) * D];
    const float *p[N_PARAMS];
    for (int i = 0; i < N_PARAMS; i++) p[i] = es_params_data(r.params, i);
    tape_new(&r, false, (const size_t[]){1 << 20, 1 << 20, 1 << 20});
    run(&r, NULL, y, OFFSET);
    for (int b = 0; b < B; b++)
        for (int t = 0; t <= T; t++)
            for (int d = 0; d < D; d++) {
                double want = t == 0 ? (double)p[DIST][d] + (double)p[PREFIX][D + d] : (double)p[PATCH_B][d];
                int frame = t - 1;
                if (t > 0) want += (double)p[TIME][d * N + OFFSET + frame] + (double)p[FREQ][d];
                for (int f = 0; t > 0 && f < F; f++)
                    for (int k = 0; k < K && frame + k < T; k++)
                        want += (double)p[PATCH_W][(d * F + f) * K + k] *
                                (double)r.x[(b * F + f) * T + frame + k];
                assert_true(fabs((double)y[(b * (T + 1) + t) * D + d] - want) < 1e-5);
            }
    tape_free(&r);
    rig_free(&r);
}

static void check_direction(const char *what, struct rig *r, float *x, int64_t n, const float *g) {
    float *start = guarded_copy(n, x), *v = guarded_random(n, 77, 1);
    double along = 0, size = 0, loss[2];
    for (int64_t i = 0; i < n; i++) {
        along += (double)g[i] * (double)v[i];
        size += fabs((double)g[i] * (double)v[i]);
    }
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++) x[i] = side ? start[i] + v[i] : start[i] - v[i];
        loss[side] = run(r, NULL, NULL, OFFSET);
    }
    memcpy(x, start, (size_t)n * sizeof *x);
    double fd = (loss[1] - loss[0]) / 2;
    if (!(fabs(fd - along) <= 1e-5 * (size + 10)))
        fail_msg("%s: gradient gives %.8g, difference %.8g", what, along, fd);
    guarded_free(n, start);
    guarded_free(n, v);
}

static void gradients_and_memory(void **state) {
    (void)state;
    struct rig r = rig_new();
    int64_t n = es_params_n_trainable(r.params);
    float *grads = guarded(n);
    tape_new(&r, true, dry);
    run(&r, grads, NULL, OFFSET);
    size_t plan[3] = {es_arena_peak(r.leaf), es_arena_peak(r.scratch), es_pool_peak(r.pool)};
    tape_free(&r);
    tape_new(&r, true, plan);
    for (int64_t i = 0; i < n; i++) grads[i] = NAN;
    run(&r, grads, NULL, OFFSET);
    assert_int_equal(es_arena_peak(r.leaf), plan[0]);
    assert_int_equal(es_arena_peak(r.scratch), plan[1]);
    assert_int_equal(es_pool_peak(r.pool), plan[2]);
    check_direction("x", &r, r.x, B * F * T, r.dx);
    for (int i = 0; i < N_PARAMS; i++) {
        const struct es_param *p = es_params_at(r.params, i);
        check_direction(p->name, &r, es_params_data(r.params, i), p->n, grads + p->offset);
    }
    const struct es_param *time = es_params_at(r.params, TIME), *cls = es_params_at(r.params, CLS);
    for (int64_t i = 0; i < time->n; i++) { /* positions that no frame used */
        bool used = i % N >= OFFSET && i % N < OFFSET + T;
        assert_true(used ? grads[time->offset + i] != 0.0f : grads[time->offset + i] == 0.0f);
    }
    for (int64_t i = 0; i < D; i++) assert_true(grads[cls->offset + i] == 0.0f); /* its token was dropped */
    tape_free(&r);
    guarded_free(n, grads);
    rig_free(&r);
}

/* Clips of 5 tokens in a table of 8: in training every one of the 4 offsets comes up, by leaf and alike for equal leaves; in
 * evaluation it is 0. The network's positions alone, all else 0, show which. */
static void offset_is_drawn_in_training(void **state) {
    (void)state;
    struct es_net_config c;
    struct es_net *net = NULL;
    struct rig r = {0};
    enum { LEAVES = 64, TOKENS = 5, TABLE = 8 };
    int count[TABLE - TOKENS + 1] = {0}, again[LEAVES];
    es_net_config_published(&c, ES_ARCH_FPASST);
    c.pretrain = true;
    c.transformer.dim = c.transformer.mlp = c.transformer.heads = 4;
    c.transformer.depth = 1;
    c.transformer.n_mels = 8;
    c.transformer.n_mel_frames = 4 * TABLE;
    assert_int_equal(es_net_tokens(&c, 4 * TOKENS), TOKENS);
    assert_int_equal(es_params_new(&r.params, NULL), 0);
    assert_int_equal(es_net_new(&net, &c, r.params, NULL), 0);
    assert_int_equal(es_params_layout(r.params, NULL), 0); /* all 0 */
    int norm = es_params_find(r.params, "model.fpasst.norm.weight"), time;
    for (int d = 0; d < 4; d++) es_params_data(r.params, norm)[d] = 1;
    time = es_params_find(r.params, "model.fpasst.time_new_pos_embed");
    /* small beside the norm's epsilon, so that the norm keeps them apart */
    for (int i = 0; i < TABLE; i++) es_params_data(r.params, time)[i] = 1e-4f * (float)(1 + i);
    float x[8 * 4 * TOKENS] = {0};
    for (int pass = 0; pass < 3; pass++) {
        tape_new(&r, pass < 2, (const size_t[]){1 << 22, 1 << 22, 1 << 22});
        for (int leaf = 0; leaf < LEAVES; leaf++) {
            es_tape_reset(r.tape, 3, (uint32_t)leaf);
            struct es_tensor *in = es_tape_input(r.tape, "x", 4, (int64_t[]){1, 1, 8, 4 * TOKENS}, x, false);
            const struct es_tensor *y = es_net_transformer(net, r.tape, in);
            assert_int_equal(y->shape[1], TOKENS);
            int offset = -1;
            for (int o = 0; o <= TABLE - TOKENS; o++) {
                double v = 1e-4 * (1 + o), mean = v / 4, var = 3 * mean * mean;
                double want = (v - mean) / sqrt(var + 1e-6); /* channel 0 of the first token */
                if (fabs((double)y->data[0] - want) < 1e-4) offset = o;
            }
            assert_true(offset >= 0);
            if (pass == 0) {
                count[offset]++;
                again[leaf] = offset;
            }
            if (pass == 1) assert_int_equal(offset, again[leaf]);
            if (pass == 2) assert_int_equal(offset, 0);
        }
        tape_free(&r);
    }
    for (int o = 0; o <= TABLE - TOKENS; o++) assert_true(count[o] >= LEAVES / 4 / 3);
    es_net_free(&net);
    es_params_free(&r.params);
}

static void check_mode(void **state) {
    es_kernel_set_mode(ES_KERNELS_CHECK);
    gradients_and_memory(state);
    offset_is_drawn_in_training(state);
    es_kernel_set_mode(ES_KERNELS_FAST);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_by_definition), cmocka_unit_test(gradients_and_memory),
        cmocka_unit_test(offset_is_drawn_in_training), cmocka_unit_test(check_mode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
