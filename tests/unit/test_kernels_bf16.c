/* Linear layers in bf16: the rounding bit by bit; the products of every kind that runs here against sums in double of the same
 * (rounded) operands; bits do not depend on threads; nothing is allocated after the first call of a shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/fault.h"
#include "earshot/kernels_bf16.h"
#include "earshot/kernels_ref.h"

#include "kernel_test.h"

static const enum es_bf16_kind kinds[] = {ES_BF16_EMULATED, ES_BF16_ONEDNN_FP32, ES_BF16_ONEDNN};

static bool runs_here(enum es_bf16_kind kind) {
    return kind != ES_BF16_ONEDNN || es_bf16_instructions();
}

static float float_of(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static uint16_t rounded(uint32_t u) {
    float x = float_of(u);
    uint16_t y;
    es_k_bf16_round(1, &x, &y);
    return y;
}

static void rounding_by_hand(void **state) {
    (void)state;
    static const struct {
        uint32_t x;
        uint16_t y;
    } cases[] = {
        {0x00000000, 0x0000}, {0x80000000, 0x8000},                       /* zeros keep their sign */
        {0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808001, 0x3f81}, /* below and above a tie */
        {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82}, /* ties to even */
        {0x3fff8000, 0x4000},                                             /* a carry into the exponent */
        {0x7f7f7fff, 0x7f7f}, {0x7f7f8000, 0x7f80}, {0xff7fffff, 0xff80}, /* the largest, and too large */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80},                       /* infinities */
        {0x00000001, 0x0000}, {0x00008000, 0x0000}, {0x00008001, 0x0001}, /* denormals */
        {0x00018000, 0x0002}, {0x007fffff, 0x0080}, {0x80018000, 0x8002},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (rounded(cases[i].x) != cases[i].y)
            fail_msg("%08x: got %04x, want %04x", cases[i].x, rounded(cases[i].x), cases[i].y);
    /* also one whose payload is in the low half alone */
    static const uint32_t nans[] = {0x7fc00000, 0x7f800001, 0xff800001, 0xffffffff, 0x7f80ffff};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        uint16_t y = rounded(nans[i]);
        assert_true((y & 0x7fff) > 0x7f80 && (y & 0x40) && y >> 15 == nans[i] >> 31);
    }
}

/* |x - y| is at most that to both neighbours of y; on a tie y is even. All halves, random rest. */
static void rounding_is_nearest(void **state) {
    (void)state;
    enum { N = 65536 };
    struct es_rng r = test_stream(1);
    float *x = guarded(N), *z = guarded(N);
    uint16_t *y = es_alloc(N, sizeof *y, NULL);
    for (uint32_t h = 0; h < N; h++) x[h] = float_of(h << 16 | (es_rng_u32(&r) & 0xffff));
    es_k_bf16_round(N, x, y);
    for (uint32_t h = 0; h < N; h++) {
        if ((h & 0x7fff) >= 0x7f7f) continue; /* by hand */
        double v = fabs((double)x[h]), d = fabs(v - (double)float_of((uint32_t)(y[h] & 0x7fff) << 16));
        double below = (y[h] & 0x7fff) ? v - (double)float_of((uint32_t)((y[h] & 0x7fff) - 1) << 16) : 1;
        double above = (double)float_of((uint32_t)((y[h] & 0x7fff) + 1) << 16) - v;
        assert_true(y[h] >> 15 == h >> 15 && d <= below && d <= above);
        if (d == below || d == above) assert_true(y[h] % 2 == 0);
    }
    for (uint32_t h = 0; h < N; h++) y[h] = (uint16_t)h; /* every bf16 number comes back from fp32 */
    es_k_bf16_widen(N, y, z);
    es_k_bf16_round(N, z, y);
    for (uint32_t h = 0; h < N; h++) {
        uint32_t u;
        memcpy(&u, &z[h], sizeof u);
        assert_true(u == h << 16);
        assert_true(y[h] == h || ((h & 0x7fff) > 0x7f80 && y[h] == (h | 0x40)));
    }
    es_free(&y);
    guarded_free(N, z);
    guarded_free(N, x);
}

/* ---- products */

struct layer {
    int64_t rows, in, out;
    struct es_bf16 *e;
    struct es_bf16_weight *weight;
    float *x, *w, *b, *dy; /* masters */
    void *xp, *dyp, *ws;   /* packed */
    float *xr, *wr, *dyr;  /* what the products see */
    float *y, *dx, *dw;    /* results */
    float *y0, *dx0, *dw0; /* what was there before */
};

static void *packed(const struct es_bf16 *e, int64_t n, const float *x, float *seen) {
    void *p = es_alloc((size_t)n, es_bf16_size(e), NULL);
    assert_non_null(p);
    es_bf16_from(e, n, x, p);
    es_bf16_to(e, n, p, seen);
    return p;
}

static struct layer layer_new(enum es_bf16_kind kind, int64_t rows, int64_t in, int64_t out) {
    struct layer l = {rows,
                      in,
                      out,
                      .x = guarded_random(rows * in, 1, 1),
                      .w = guarded_random(in * out, 2, 1),
                      .b = guarded_random(out, 3, 1),
                      .dy = guarded_random(rows * out, 4, 1)};
    assert_int_equal(es_bf16_new(&l.e, kind, NULL), 0);
    assert_int_equal(es_bf16_weight_new(&l.weight, l.e, in, out, NULL), 0);
    es_bf16_weight_set(l.weight, l.w);
    l.xr = guarded(rows * in);
    l.wr = guarded(in * out);
    l.dyr = guarded(rows * out);
    l.xp = packed(l.e, rows * in, l.x, l.xr);
    l.dyp = packed(l.e, rows * out, l.dy, l.dyr);
    void *wp = packed(l.e, in * out, l.w, l.wr);
    es_free(&wp);
    l.y0 = guarded_random(rows * out, 5, 1);
    l.dx0 = guarded_random(rows * in, 6, 1);
    l.dw0 = guarded_random(in * out, 7, 1);
    l.y = guarded(rows * out);
    l.dx = guarded(rows * in);
    l.dw = guarded(in * out);
    l.ws = es_alloc(1, es_bf16_linear_workspace(l.e, rows, in, out), NULL);
    assert_non_null(l.ws);
    return l;
}

static void layer_free(struct layer *l) {
    const int64_t nx = l->rows * l->in, ny = l->rows * l->out, nw = l->in * l->out;
    float *all[] = {l->x, l->xr, l->dx0, l->dx, l->dy, l->dyr, l->y0, l->y, l->w, l->wr, l->dw0, l->dw};
    const int64_t n[] = {nx, nx, nx, nx, ny, ny, ny, ny, nw, nw, nw, nw};
    for (int i = 0; i < 12; i++) guarded_free(n[i], all[i]);
    guarded_free(l->out, l->b);
    es_free(&l->xp);
    es_free(&l->dyp);
    es_free(&l->ws);
    es_bf16_weight_free(&l->weight);
    es_bf16_free(&l->e);
}

static void layer_run(struct layer *l, bool bias, float beta) {
    memcpy(l->dx, l->dx0, (size_t)(l->rows * l->in) * sizeof(float));
    memcpy(l->dw, l->dw0, (size_t)(l->in * l->out) * sizeof(float));
    if (beta == 0.0f) l->dx[0] = l->dw[0] = (float)NAN; /* must not be read */
    es_bf16_linear_fwd(l->weight, l->rows, l->xp, bias ? l->b : NULL, l->y, l->ws);
    es_bf16_linear_dx(l->weight, l->rows, l->dyp, beta, l->dx, l->ws);
    es_bf16_linear_dw(l->e, l->rows, l->in, l->out, l->dyp, l->xp, beta, l->dw, l->ws);
}

static float *magnitudes(int64_t n, const float *x) {
    float *y = guarded(n);
    for (int64_t i = 0; i < n; i++) y[i] = fabsf(x[i]);
    return y;
}

/* C = op(A) op(B) + beta C against the sum in double; one rounding a term. */
static void check_product(const char *what, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                          const float *b, float beta, const float *before, const float *bias,
                          const float *got) {
    float *want = guarded_copy(m * n, before), *bound = magnitudes(m * n, before), *aa = magnitudes(m * k, a),
          *bb = magnitudes(k * n, b);
    es_k_gemm_ref_f32(ta, tb, m, n, k, 1.0, a, ta ? m : k, b, tb ? k : n, (double)beta, want, n);
    es_k_gemm_ref_f32(ta, tb, m, n, k, 1.0, aa, ta ? m : k, bb, tb ? k : n, (double)beta, bound, n);
    for (int64_t i = 0; bias && i < m * n; i++) {
        want[i] += bias[i % n];
        bound[i] += fabsf(bias[i % n]);
    }
    check_close(what, m * n, got, want, 1.1 * ((double)k + 8) * EPS, bound);
    guarded_free(k * n, bb);
    guarded_free(m * k, aa);
    guarded_free(m * n, bound);
    guarded_free(m * n, want);
}

/* Rows beyond one block and not a multiple of it, tiles of dw beyond one both ways. */
static const int64_t sizes[][3] = {{1, 1, 1},     {3, 7, 5},     {31, 24, 72},   {156, 33, 17},
                                   {257, 64, 96}, {600, 20, 30}, {40, 800, 400}, {250, 96, 288}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void products_match(void **state) {
    (void)state;
    for (size_t q = 0; q < sizeof kinds / sizeof *kinds; q++) {
        if (!runs_here(kinds[q])) continue;
        for (int s = 0; s < N_SIZES; s++) {
            const int64_t r = sizes[s][0], in = sizes[s][1], out = sizes[s][2];
            struct layer l = layer_new(kinds[q], r, in, out);
            for (int beta = 0; beta <= 1; beta++) {
                const bool bias = beta == 0;
                layer_run(&l, bias, (float)beta);
                check_product("fwd", false, true, r, out, in, l.xr, l.wr, 0, l.y0, bias ? l.b : NULL, l.y);
                check_product("dx", false, false, r, in, out, l.dyr, l.wr, (float)beta, l.dx0, NULL, l.dx);
                check_product("dw", true, false, out, in, r, l.dyr, l.xr, (float)beta, l.dw0, NULL, l.dw);
            }
            /* a new master: new products */
            for (int64_t i = 0; i < in * out; i++) l.wr[i] = -2 * l.wr[i];
            es_bf16_weight_set(l.weight, l.wr);
            layer_run(&l, true, 0);
            check_product("fwd again", false, true, r, out, in, l.xr, l.wr, 0, l.y0, l.b, l.y);
            check_product("dx again", false, false, r, in, out, l.dyr, l.wr, 0, l.dx0, NULL, l.dx);
            layer_free(&l);
        }
    }
}

/* A product that refuses the packed layout takes weights in its own. */
static void refused_layouts_are_packed_again(void **state) {
    (void)state;
    enum { LAST_PRODUCT = 8 };
    for (int n = 1; n <= LAST_PRODUCT + 1; n++) {
        char spec[32];
        snprintf(spec, sizeof spec, "onednn-layout:%d", n);
        es_fault_init(spec, 0);
        struct layer l =
            layer_new(ES_BF16_ONEDNN_FP32, 257, 64, 96); /* blocks of 129 and 128 rows: eight products */
        for (int beta = 0; beta <= 1; beta++) {
            layer_run(&l, beta == 0, (float)beta);
            check_product("fwd", false, true, l.rows, l.out, l.in, l.xr, l.wr, 0, l.y0, beta ? NULL : l.b,
                          l.y);
            check_product("dx", false, false, l.rows, l.in, l.out, l.dyr, l.wr, (float)beta, l.dx0, NULL,
                          l.dx);
        }
        es_fault_init(NULL, 0);
        layer_free(&l);
    }
}

/* The rounding is really there: dropping it from the reference breaks the bound. */
static void emulation_rounds(void **state) {
    (void)state;
    struct layer l = layer_new(ES_BF16_EMULATED, 31, 24, 72);
    layer_run(&l, false, 0);
    double worst = 0;
    for (int64_t i = 0; i < l.rows; i++)
        for (int64_t o = 0; o < l.out; o++) {
            double sum = 0;
            for (int64_t k = 0; k < l.in; k++) sum += (double)l.x[i * l.in + k] * (double)l.w[o * l.in + k];
            worst = fmax(worst, fabs(sum - (double)l.y[i * l.out + o]));
        }
    assert_true(worst > 1e-3 && worst < 0.3);
    layer_free(&l);
}

static void bits_do_not_depend_on_threads(void **state) {
    (void)state;
    const int threads = es_kernel_threads();
    for (size_t q = 0; q < sizeof kinds / sizeof *kinds; q++) {
        if (!runs_here(kinds[q])) continue;
        float *first[3] = {NULL, NULL, NULL};
        for (int n = 3; n >= 1; n--) {
            es_kernel_set_threads(n);
            struct layer l = layer_new(kinds[q], 700, 96, 800);
            const size_t bytes[3] = {(size_t)(700 * 800) * 4, (size_t)(700 * 96) * 4, (size_t)(96 * 800) * 4};
            float *got[3] = {l.y, l.dx, l.dw};
            int64_t calls = es_mem_allocations();
            layer_run(&l, true, 1);
            assert_int_equal(es_mem_allocations(), calls);
            if (n == 3) es_kernel_set_threads(1); /* fewer than at the start are welcome, too */
            for (int i = 0; i < 3; i++) {
                if (!first[i]) {
                    first[i] = es_alloc(1, bytes[i], NULL);
                    memcpy(first[i], got[i], bytes[i]);
                }
                assert_memory_equal(first[i], got[i], bytes[i]);
            }
            layer_run(&l, true, 1);
            for (int i = 0; i < 3; i++) assert_memory_equal(first[i], got[i], bytes[i]);
            layer_free(&l);
        }
        for (int i = 0; i < 3; i++) es_free(&first[i]);
    }
    es_kernel_set_threads(threads);
}

static void words_of_the_environment(void **state) {
    (void)state;
    struct es_err err = {0};
    const char *before = getenv("ES_BF16");
    char kept[32];
    snprintf(kept, sizeof kept, "%s", before ? before : "");
    static const char *const good[] = {"", "emulate", "onednn-fp32", "off"};
    for (int i = 0; i < 4; i++) {
        setenv("ES_BF16", good[i], 1);
        assert_int_equal(es_kernel_init(&err), 0);
    }
    setenv("ES_BF16", "on", 1);
    assert_int_equal(es_kernel_init(&err), -ES_EUSAGE);
    assert_string_equal(err.msg, "environment: ES_BF16: got \"on\", want emulate, onednn-fp32 or off");
    setenv("ES_BF16", kept, 1);
}

static void peak_where_there_is_one(void **state) {
    (void)state;
    double peak = es_k_peak_bf16_gflops(1, 0.01);
    assert_true(es_bf16_instructions() ? peak > 1 : isnan(peak));
}

static int all_freed(void **state) {
    (void)state;
    return es_mem_live_blocks() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(rounding_by_hand, all_freed),
        cmocka_unit_test_teardown(rounding_is_nearest, all_freed),
        cmocka_unit_test_teardown(products_match, all_freed),
        cmocka_unit_test_teardown(refused_layouts_are_packed_again, all_freed),
        cmocka_unit_test_teardown(emulation_rounds, all_freed),
        cmocka_unit_test_teardown(bits_do_not_depend_on_threads, all_freed),
        cmocka_unit_test_teardown(words_of_the_environment, all_freed),
        cmocka_unit_test_teardown(peak_where_there_is_one, all_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
