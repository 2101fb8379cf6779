/* Attention in bf16: by instructions where the processor has them, by AVX2, and the instructions' 16-lane code with a vector made of
 * two halves; against the references on the rounded operands, which round nothing more. Bits do not depend on threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ES_EMULATE
#define ES_PAIRS
#define ES_VL 16
#define ES_NAME(name) name##_two_halves
#include "../../src/kernels/impl.h"
size_t es_attention_bytes_two_halves(int64_t T, int64_t d);
void es_attention_fwd_two_halves(const struct es_attention *a, float *ws);
void es_attention_bwd_two_halves(const struct es_attention *a, float *ws);
#include "../../src/kernels/attention_fast.inc"

#include "kernel_test.h"

enum { PAIRS, TWO_HALVES, INSTRUCTIONS, N_VARIANTS };
static const char *const variant_name[N_VARIANTS] = {"pairs", "two halves", "instructions"};
static const struct {
    size_t (*bytes)(int64_t T, int64_t d);
    void (*fwd)(const struct es_attention *a, float *ws), (*bwd)(const struct es_attention *a, float *ws);
} variant[N_VARIANTS] = {
    {es_attention_bytes_pairs, es_attention_fwd_pairs, es_attention_bwd_pairs},
    {es_attention_bytes_two_halves, es_attention_fwd_two_halves, es_attention_bwd_two_halves},
    {es_attention_bytes_bf16, es_attention_fwd_bf16, es_attention_bwd_bf16},
};

static int n_variants(void) {
    return es_bf16_instructions() ? N_VARIANTS : INSTRUCTIONS;
}

/* One attention with all its arrays; halves and the same numbers in fp32. */
struct task {
    struct es_k_attention s;
    bool position;
    int64_t n, n_out, n_lse, n_bias;
    uint16_t *q, *k, *v, *out;
    float *qf, *kf, *vf, *outf, *gate, *bias, *lse, *dout;
};

enum { Y, LSE, DQ, DK, DV, DGATE, DBIAS, N_RESULTS };
static const char *const result_name[N_RESULTS] = {"y", "lse", "dq", "dk", "dv", "dgate", "dbias"};
struct results {
    int64_t n[N_RESULTS];
    float *x[N_RESULTS];
};

static uint16_t *rounded(int64_t n, float *x) {
    uint16_t *y = es_alloc((size_t)n, sizeof *y, NULL);
    assert_non_null(y);
    es_k_bf16_round(n, x, y);
    es_k_bf16_widen(n, y, x);
    return y;
}

static struct task task_new(int64_t B, int64_t T, int64_t H, int64_t d, bool position, double drop) {
    const int64_t ld = 3 * H * d + 5; /* heads of rows that nothing aligns */
    struct task t = {.s = {B, T, H, d, ld, drop, es_rng_make(1, ES_RNG_BENCH, 0, 0, 1)},
                     .position = position,
                     .n = (B * T - 1) * ld + H * d,
                     .n_out = B * T * H * d,
                     .n_lse = B * T * H,
                     .n_bias = H * (2 * T - 1)};
    t.qf = guarded_random(t.n, 1, 1);
    t.kf = guarded_random(t.n, 2, 1);
    t.vf = guarded_random(t.n, 3, 1);
    t.dout = guarded_random(t.n_out, 4, 1);
    t.outf = guarded(t.n_out);
    t.lse = guarded(t.n_lse);
    t.q = rounded(t.n, t.qf);
    t.k = rounded(t.n, t.kf);
    t.v = rounded(t.n, t.vf);
    if (position) {
        t.gate = guarded_random(t.n_lse, 5, 1);
        t.bias = guarded_random(t.n_bias, 6, 1);
    }
    es_k_attention_rel_fwd_ref_f32(&t.s, t.qf, t.kf, t.vf, t.gate, t.bias, t.outf, t.lse, NULL);
    t.out = rounded(t.n_out, t.outf);
    return t;
}

static void task_free(struct task *t) {
    float *all[] = {t->qf, t->kf, t->vf, t->outf, t->dout, t->lse, t->gate, t->bias};
    const int64_t n[] = {t->n, t->n, t->n, t->n_out, t->n_out, t->n_lse, t->n_lse, t->n_bias};
    for (int i = 0; i < 8; i++)
        if (all[i]) guarded_free(n[i], all[i]);
    es_free(&t->q);
    es_free(&t->k);
    es_free(&t->v);
    es_free(&t->out);
}

/* Results start as something that beta 1 adds to. */
static struct results results_new(const struct task *t) {
    struct results r = {.n = {t->n_out, t->n_lse, t->n, t->n, t->n, t->n_lse, t->n_bias}};
    for (int i = 0; i < N_RESULTS; i++) r.x[i] = guarded_random(r.n[i], (uint32_t)(20 + i), 1);
    return r;
}

static void results_free(struct results *r) {
    for (int i = 0; i < N_RESULTS; i++) guarded_free(r->n[i], r->x[i]);
}

static void reference(const struct task *t, bool add, struct results *r) {
    float **x = r->x;
    es_k_attention_rel_fwd_ref_f32(&t->s, t->qf, t->kf, t->vf, t->gate, t->bias, x[Y], x[LSE], NULL);
    es_k_attention_rel_bwd_ref_f32(&t->s, t->qf, t->kf, t->vf, t->gate, t->bias, t->outf, t->lse, t->dout,
                                   x[DQ], add, x[DK], add, x[DV], add, t->position ? x[DGATE] : NULL, add,
                                   t->position ? x[DBIAS] : NULL, add, NULL);
}

static void run(const struct task *t, int which, bool add, struct results *r) {
    const size_t bytes = variant[which].bytes(t->s.T, t->s.d);
    float **x = r->x, *ws = es_alloc(es_attention_ws(&t->s, bytes), 1, NULL);
    assert_non_null(ws);
    memset(ws, 0xff, es_attention_ws(&t->s, bytes)); /* NaN */
    struct es_attention a = es_attention_of(&t->s, t->q, t->k, t->v, t->gate, t->bias);
    a.y = x[Y];
    a.y_lse = x[LSE];
    variant[which].fwd(&a, ws);
    memset(ws, 0xff, es_attention_ws(&t->s, bytes));
    a.out = t->out;
    a.lse = t->lse;
    a.dout = t->dout;
    es_attention_gradients(
        &a, bytes, variant[which].bwd,
        (float *const[]){x[DQ], x[DK], x[DV], t->position ? x[DGATE] : NULL, t->position ? x[DBIAS] : NULL},
        (const bool[]){add, add, add, add, add}, ws);
    es_free(&ws);
}

static const struct {
    int64_t B, T, H, d;
    bool position;
    double drop;
} cases[] = {{1, 1, 1, 1, false, 0},    {2, 7, 2, 31, false, 0},   {1, 97, 2, 33, true, 0.1},
             {1, 250, 1, 64, false, 0}, {2, 193, 1, 64, true, 0},  {1, 192, 2, 16, true, 0.2},
             {1, 40, 1, 200, true, 0},  {1, 95, 3, 8, false, 0.1}, {1, 2, 1, 2, true, 0}};
enum { N_CASES = sizeof cases / sizeof *cases };

/* bf16 rounds by 2^-9 at most; a product of sums has a few of these. Gradients of the scores of few keys nearly cancel. */
static void like_reference(void **state) {
    (void)state;
    for (int c = 0; c < N_CASES; c++)
        for (int w = 0; w < n_variants(); w++)
            for (int add = 0; add < 2; add++) {
                struct task t = task_new(cases[c].B, cases[c].T, cases[c].H, cases[c].d, cases[c].position,
                                         cases[c].drop);
                struct results want = results_new(&t), got = results_new(&t);
                reference(&t, add, &want);
                run(&t, w, add, &got);
                for (int i = 0; i < N_RESULTS; i++) {
                    if (i >= DGATE && !t.position) continue;
                    double e = distance(want.n[i], got.x[i], want.x[i]);
                    if (!(e < (cases[c].T < 40 ? 2e-2 : 6e-3)) && cases[c].T > 1)
                        fail_msg("case %d, %s, add %d: %s is %.3g off", c, variant_name[w], add,
                                 result_name[i], e);
                    if (cases[c].T > 1) continue;
                    /* one key: its probability is 1, and no score matters */
                    for (int64_t j = 0; j < want.n[i]; j++)
                        assert_true(fabsf(got.x[i][j] - want.x[i][j]) <= 0.02f);
                }
                if (cases[c].T >= 95) { /* the rounding is really there */
                    assert_true(distance(want.n[Y], got.x[Y], want.x[Y]) > 1e-4);
                    assert_true(distance(want.n[DK], got.x[DK], want.x[DK]) > 1e-4);
                }
                results_free(&got);
                results_free(&want);
                task_free(&t);
            }
}

static void bits_do_not_depend_on_threads(void **state) {
    (void)state;
    struct task t = task_new(2, 97, 3, 33, true, 0.1);
    for (int w = 0; w < n_variants(); w++) {
        struct results one = results_new(&t), three = results_new(&t);
        run(&t, w, true, &one);
        es_kernel_set_threads(3);
        run(&t, w, true, &three);
        es_kernel_set_threads(1);
        for (int i = 0; i < N_RESULTS; i++)
            assert_memory_equal(one.x[i], three.x[i], (size_t)one.n[i] * sizeof(float));
        results_free(&three);
        results_free(&one);
    }
    task_free(&t);
}

/* Through the interface: kinds, and ES_KERNELS. */
static struct results through(const struct task *t, enum es_bf16_kind kind) {
    struct results r = results_new(t);
    struct es_bf16 *e = NULL;
    assert_int_equal(es_bf16_new(&e, kind, NULL), 0);
    const bool full = kind == ES_BF16_ONEDNN_FP32;
    void *ws = es_alloc(es_bf16_attention_workspace(e, &t->s), 1, NULL);
    const void *q = full ? (const void *)t->qf : t->q, *k = full ? (const void *)t->kf : t->k,
               *v = full ? (const void *)t->vf : t->v, *out = full ? (const void *)t->outf : t->out;
    es_bf16_attention_fwd(e, &t->s, q, k, v, t->gate, t->bias, r.x[Y], r.x[LSE], ws);
    es_bf16_attention_bwd(e, &t->s, q, k, v, t->gate, t->bias, out, t->lse, t->dout,
                          (float *const[]){r.x[DQ], r.x[DK], r.x[DV], r.x[DGATE], r.x[DBIAS]},
                          (const bool[]){true, true, true, true, true}, ws);
    es_free(&ws);
    es_bf16_free(&e);
    return r;
}

static void kinds_and_modes(void **state) {
    (void)state;
    struct task t = task_new(2, 50, 2, 24, true, 0.1);
    struct results want = results_new(&t), got;
    reference(&t, true, &want);
    es_kernel_set_mode(ES_KERNELS_REF);
    got = through(&t, ES_BF16_EMULATED);
    for (int i = 0; i < N_RESULTS; i++)
        assert_memory_equal(got.x[i], want.x[i], (size_t)want.n[i] * sizeof(float));
    results_free(&got);
    es_kernel_set_mode(ES_KERNELS_CHECK); /* ends the test where the bounds do not hold */
    for (int kind = ES_BF16_ONEDNN; kind <= ES_BF16_ONEDNN_FP32; kind++) {
        if (kind == ES_BF16_ONEDNN && !es_bf16_instructions()) continue;
        got = through(&t, (enum es_bf16_kind)kind);
        for (int i = 0; i < N_RESULTS; i++)
            assert_true(distance(want.n[i], got.x[i], want.x[i]) <
                        (kind == ES_BF16_ONEDNN_FP32 ? 1e-5 : 6e-3));
        results_free(&got);
    }
    es_kernel_set_mode(ES_KERNELS_FAST);
    results_free(&want);
    task_free(&t);
}

static int all_freed(void **state) {
    (void)state;
    return es_mem_live_blocks() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(like_reference, all_freed),
        cmocka_unit_test_teardown(bits_do_not_depend_on_threads, all_freed),
        cmocka_unit_test_teardown(kinds_and_modes, all_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
