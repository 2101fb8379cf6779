/* The bidirectional GRU against PyTorch (tests/data/golden_models/bigru.h5; ../shared/golden/models/README.md): outputs,
 * loss, gradients of weights and of the input, through the operations on the tape. Tolerances:
 * tolerances.tsv, rows of bigru.h5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/ops.h"
#include "golden/generate.h"
#include "golden/h5.h"

#define FILE_NAME ES_TEST_DATA "/golden_models/bigru.h5"

static float *read_f32(const char *group, const char *name, int64_t shape[4]) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", group, name);
    float *x = es_test_h5_read_f32(FILE_NAME, path, shape, NULL);
    assert_non_null(x);
    return x;
}

/* rel_l2 <= 3e-6 */
static void check_near(const char *group, const char *name, int64_t n, const float *got) {
    int64_t shape[4];
    float *want = read_f32(group, name, shape);
    assert_int_equal(shape[0] * shape[1] * shape[2] * shape[3], n);
    double d = 0, r = 0;
    for (int64_t i = 0; i < n; i++) {
        d += pow((double)got[i] - (double)want[i], 2);
        r += pow((double)want[i], 2);
    }
    if (!(sqrt(d) <= 3e-6 * sqrt(r))) fail_msg("%s/%s: relative distance %.3g", group, name, sqrt(d / r));
    es_free(&want);
}

/* sum of y r as the loss of the tape: its gradient is r. */
struct projection {
    struct es_tensor *y;
    const float *r;
};
static void projection_backward(struct es_tape *t, void *saved) {
    struct projection *p = saved;
    float beta, *dy = es_tape_grad(t, p->y, &beta);
    assert_true(beta == 0.0f);
    memcpy(dy, p->r, (size_t)p->y->n * sizeof *dy);
}
static double project(struct es_tape *t, struct es_tensor *y, const float *r) {
    struct projection *p = es_tape_node(t, sizeof *p);
    *p = (struct projection){y, r};
    struct es_tensor *loss = es_tape_output(t, "projection", 1, (int64_t[]){1});
    double sum = 0;
    for (int64_t i = 0; i < y->n; i++) sum += (double)y->data[i] * (double)r[i];
    loss->data[0] = (float)sum;
    es_tape_push(t, projection_backward, p, loss, NULL, 1, &y);
    es_tape_add_loss(t, loss);
    return sum;
}

static const char *const parts[4] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};

/* Parameters rnn.<part>_l<layer>[_reverse] in PyTorch's order, filled by the rule. Returns the index of the
 * first. */
static struct es_params *parameters(int layers, int64_t in, int64_t hidden) {
    struct es_params *p = NULL;
    assert_int_equal(es_params_new(&p, NULL), 0);
    for (int i = 0; i < 8 * layers; i++) {
        int64_t width = i / 8 == 0 ? in : 2 * hidden, shape[2] = {3 * hidden, i % 4 == 0 ? width : hidden};
        char name[64];
        snprintf(name, sizeof name, "rnn.%s_l%d%s", parts[i % 4], i / 8, i % 8 < 4 ? "" : "_reverse");
        assert_int_equal(es_params_add(p, name, ES_PARAM_WEIGHT, ES_INIT_ZERO, 0, i % 4 < 2 ? 2 : 1, shape),
                         i);
        es_params_at(p, i)->trainable = true;
    }
    assert_int_equal(es_params_layout(p, NULL), 0);
    for (int i = 0; i < 8 * layers; i++) {
        const struct es_param *e = es_params_at(p, i);
        double offset, scale;
        assert_true(es_gen_rule(e->name, e->ndim, e->shape, &offset, &scale));
        es_gen_fill(e->name, ES_GEN_SEED, offset, scale, e->n, es_params_data(p, i));
    }
    return p;
}

static void run_case(const char *group, int layers, int64_t hidden) {
    int64_t shape[4], before = es_mem_live_blocks();
    float *x = read_f32(group, "in/x", shape);
    struct es_params *params = parameters(layers, shape[2], hidden);
    struct es_arena *leaf = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *t = NULL;
    float *grads = es_alloc((size_t)es_params_n_trainable(params), sizeof *grads, NULL);
    assert_int_equal(es_arena_new(&leaf, "leaf", 1 << 20, NULL), 0);
    assert_int_equal(es_arena_new(&scratch, "scratch", 1 << 23, NULL), 0);
    assert_int_equal(es_pool_new(&pool, "pool", 1 << 20, NULL), 0);
    struct es_tape_params tp = {
        .params = params, .leaf = leaf, .scratch = scratch, .pool = pool, .record = true};
    assert_int_equal(es_tape_new(&t, &tp, NULL), 0);
    es_tape_reset(t, 0, 0);
    struct es_tensor *in = es_tape_input(t, "x", 3, shape, x, true), *y = in;
    for (int l = 0; l < layers; l++) {
        struct es_tensor *w[8];
        for (int i = 0; i < 8; i++) w[i] = es_tape_param(t, 8 * l + i);
        y = es_op_bigru(t, y, w);
    }
    check_near(group, "out/y", y->n, y->data);
    float *r = es_alloc((size_t)y->n, sizeof *r, NULL), *r8 = read_f32(group, "R8/y", NULL);
    es_gen_fill("R/bigru/y", ES_GEN_SEED, 0, 1, y->n, r);
    assert_memory_equal(r, r8, 8 * sizeof *r);
    double loss = project(t, y, r), norm = 0;
    for (int64_t i = 0; i < y->n; i++) norm += pow((double)y->data[i], 2);
    float *want = read_f32(group, "loss", NULL);
    assert_true(fabs(loss - (double)want[0]) <= 4 * 3e-6 * sqrt(norm));
    es_tape_backward(t, grads, NULL);
    check_near(group, "gradin/x", in->n, es_tape_input_grad(t, in));
    double top = 0;
    for (int i = 0; i < 8 * layers; i++) {
        const struct es_param *e = es_params_at(params, i);
        for (int64_t k = 0; k < e->n; k++) top = fmax(top, fabs((double)grads[e->offset + k]));
    }
    for (int i = 0; i < 8 * layers; i++) {
        const struct es_param *e = es_params_at(params, i);
        char name[160];
        snprintf(name, sizeof name, "grad/%s", e->name);
        if (shape[1] > 1 || i % 4 != 1) check_near(group, name, e->n, grads + e->offset);
        for (int64_t k = 0; shape[1] == 1 && i % 4 == 1 && k < e->n; k++) /* one frame: no state before it */
            assert_true(fabs((double)grads[e->offset + k]) <= 1e-6 * top);
    }
    es_tape_free(&t);
    assert_int_equal(es_pool_live(pool), 0);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&leaf);
    es_free(&want);
    es_free(&r8);
    es_free(&r);
    es_free(&grads);
    es_params_free(&params);
    es_free(&x);
    assert_int_equal(es_mem_live_blocks(), before);
}

static void in_mode(enum es_kernel_mode mode) {
    es_kernel_set_mode(mode);
    run_case("one_layer", 1, 6);
    run_case("two_layers", 2, 9);
    es_kernel_set_mode(ES_KERNELS_FAST);
}

static void fast(void **state) {
    (void)state;
    in_mode(ES_KERNELS_FAST);
}
static void reference(void **state) {
    (void)state;
    in_mode(ES_KERNELS_REF);
}
static void check(void **state) {
    (void)state;
    in_mode(ES_KERNELS_CHECK);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fast), cmocka_unit_test(reference),
                                       cmocka_unit_test(check)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
