/* The 16-lane register kernels (AVX-512) on any CPU: the same sources, with a vector made of two halves. Against the references,
 * and the product's bits against any number of threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ES_EMULATE
#define ES_VL 16
#define ES_NAME(name) name##_emulated
#include "../../src/kernels/impl.h"
size_t es_product_bytes_emulated(int64_t n, int64_t k);
void es_product_emulated(const struct es_product *p, float *ws);
size_t es_attention_bytes_emulated(int64_t T, int64_t d);
void es_attention_fwd_emulated(const struct es_attention *a, float *ws);
void es_attention_bwd_emulated(const struct es_attention *a, float *ws);
#include "../../src/kernels/product_fast.inc"

#include "../../src/kernels/attention_fast.inc"

size_t es_conv1d_bytes_emulated(const struct es_conv1d *a);
void es_conv1d_rows_emulated(const struct es_conv1d *a, float *ws);
void es_conv1d_dw_emulated(const struct es_conv1d *a, float *ws);
#include "../../src/kernels/conv1d_fast.inc"

#include "earshot/kernels_beats.h"

#include "kernel_test.h"

static void product_like_reference(void **state) {
    (void)state;
    static const int64_t sizes_mnk[][3] = {{1, 1, 1},      {13, 33, 7},   {31, 156, 330},
                                           {50, 67, 1283}, {12, 32, 641}, {7, 1041, 3073}};
    for (size_t c = 0; c < sizeof sizes_mnk / sizeof sizes_mnk[0]; c++)
        for (int kind = 0; kind < 3; kind++) { /* as forward (with bias), dx, dw */
            int64_t m = sizes_mnk[c][0], n = sizes_mnk[c][1], k = sizes_mnk[c][2];
            bool ta = kind == 2, tb = kind == 0;
            if (kind > 0 && m * n * k > 1000000) continue;
            float *a = guarded_random(m * k, 1, 1), *b = guarded_random(n * k, 2, 1),
                  *bias = guarded_random(n, 3, 1);
            float *got = guarded_random(m * n, 4, 1), *want = guarded_copy(m * n, got),
                  *one = guarded_copy(m * n, got);
            float beta = (const float[]){0.0f, 1.0f, 0.5f}[kind];
            float *ws = es_alloc(es_product_bytes_emulated(n, k), 1, NULL);
            struct es_product p = {.m = m,
                                   .n = n,
                                   .k = k,
                                   .a = a,
                                   .ars = ta ? 1 : k,
                                   .acs = ta ? m : 1,
                                   .b = b,
                                   .brs = tb ? 1 : n,
                                   .bcs = tb ? k : 1,
                                   .beta = beta,
                                   .bias = tb ? bias : NULL,
                                   .c = one,
                                   .ldc = n};
            es_product_emulated(&p, ws);
            es_k_gemm_ref_f32(ta, tb, m, n, k, 1.0, a, ta ? m : k, b, tb ? k : n, (double)beta, want, n);
            for (int64_t i = 0; tb && i < m * n; i++) want[i] += bias[i % n];
            check_close("product", m * n, one, want, 1e-6 * (8 + (double)k), NULL);
            es_free(&ws);
            es_kernel_set_threads(3);
            ws = es_alloc(es_product_bytes_emulated(n, k), 1, NULL);
            p.c = got;
            es_product_emulated(&p, ws);
            assert_memory_equal(got, one, (size_t)(m * n) * sizeof *got);
            es_kernel_set_threads(1);
            es_free(&ws);
            guarded_free(m * k, a);
            guarded_free(n * k, b);
            guarded_free(n, bias);
            guarded_free(m * n, got);
            guarded_free(m * n, one);
            guarded_free(m * n, want);
        }
}

static void attention_like_reference(void **state) {
    (void)state;
    static const int64_t cases[][4] = {{1, 1, 1, 1}, {2, 7, 2, 31}, {1, 97, 2, 33}, {1, 250, 1, 64}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int64_t B = cases[c][0], T = cases[c][1], H = cases[c][2], d = cases[c][3], n = B * T * H * d;
        float *qkv = guarded_random(3 * n, 11, 1), *out = guarded(n), *lse = guarded(B * H * T),
              *dout = guarded_random(n, 12, 1);
        float *want = guarded(3 * n), *want_lse = guarded(B * H * T), *dqkv = guarded(3 * n);
        float *ws = es_alloc(es_attention_bytes_emulated(T, d), 1, NULL);
        struct es_attention a = {.B = B,
                                 .T = T,
                                 .H = H,
                                 .d = d,
                                 .ld = 3 * H * d,
                                 .q = qkv,
                                 .k = qkv + H * d,
                                 .v = qkv + 2 * H * d,
                                 .y = out,
                                 .y_lse = lse};
        es_attention_fwd_emulated(&a, ws);
        es_k_attention_fwd_ref_f32(B, T, H, d, qkv, want, want_lse);
        check_close("attention", n, out, want, 1e-5, NULL);
        check_close("lse", B * H * T, lse, want_lse, 1e-5, NULL);
        a.out = out, a.lse = lse, a.dout = dout;
        a.dq = dqkv, a.dk = dqkv + H * d, a.dv = dqkv + 2 * H * d;
        es_attention_bwd_emulated(&a, ws);
        es_k_attention_bwd_ref_f32(B, T, H, d, qkv, out, lse, dout, 0.0, want);
        check_close("attention bwd", 3 * n, dqkv, want, 2e-5 * (1 + max_abs(3 * n, want)), NULL);
        es_free(&ws);
        guarded_free(3 * n, qkv);
        guarded_free(n, out);
        guarded_free(B * H * T, lse);
        guarded_free(n, dout);
        guarded_free(3 * n, want);
        guarded_free(B * H * T, want_lse);
        guarded_free(3 * n, dqkv);
    }
}

static void attention_with_positions(void **state) {
    (void)state;
    enum { B = 2, T = 97, H = 2, d = 33, N = B * T * H * d, G = B * T * H, P = 2 * T - 1 };
    struct es_k_attention s = {B, T, H, d, H * d, 0.1, es_rng_make(1, ES_RNG_BENCH, 0, 0, 1)};
    float *q = guarded_random(N, 1, 1), *k = guarded_random(N, 2, 1), *v = guarded_random(N, 3, 1),
          *dout = guarded_random(N, 4, 1), *gate = guarded_random(G, 5, 1),
          *bias = guarded_random(H * P, 6, 1);
    float *got = guarded(4 * N), *want = guarded(4 * N), *lse = guarded(G), *dgate = guarded(G),
          *want_dgate = guarded(G), *part = guarded(B * H * P), *want_dbias = guarded(H * P);
    float *ws = es_alloc(es_attention_bytes_emulated(T, d), 1, NULL);
    struct es_attention a = {.B = B,
                             .T = T,
                             .H = H,
                             .d = d,
                             .ld = H * d,
                             .q = q,
                             .k = k,
                             .v = v,
                             .gate = gate,
                             .bias = bias,
                             .drop = s.drop,
                             .rng = &s.rng,
                             .y = got,
                             .y_lse = lse};
    es_attention_fwd_emulated(&a, ws);
    es_k_attention_rel_fwd_ref_f32(&s, q, k, v, gate, bias, want, NULL, NULL);
    check_close("attention", N, got, want, 1e-5, NULL);
    a.out = got, a.lse = lse, a.dout = dout, a.dgate = dgate, a.dbias = part;
    a.dq = got + N, a.dk = got + 2 * N, a.dv = got + 3 * N;
    es_attention_bwd_emulated(&a, ws);
    es_k_attention_rel_bwd_ref_f32(&s, q, k, v, gate, bias, got, lse, dout, want + N, false, want + 2 * N,
                                   false, want + 3 * N, false, want_dgate, false, want_dbias, false, NULL);
    check_close("dq, dk, dv", 3 * N, got + N, want + N, 2e-5 * (1 + max_abs(3 * N, want + N)), NULL);
    check_close("dgate", G, dgate, want_dgate, 2e-5 * (1 + max_abs(G, want_dgate)), NULL);
    for (int i = 0; i < H * P; i++) part[i] += part[H * P + i];
    check_close("dbias", H * P, part, want_dbias, 2e-5 * (1 + max_abs(H * P, want_dbias)), NULL);
    es_free(&ws);
    float *all[] = {q, k, v, dout};
    for (int i = 0; i < 4; i++) guarded_free(N, all[i]);
    guarded_free(G, gate);
    guarded_free(H * P, bias);
    guarded_free(4 * N, got);
    guarded_free(4 * N, want);
    guarded_free(G, lse);
    guarded_free(G, dgate);
    guarded_free(G, want_dgate);
    guarded_free(B * H * P, part);
    guarded_free(H * P, want_dbias);
}

static void conv1d_like_reference(void **state) {
    (void)state;
    enum { B = 2, T = 31, D = 72, GROUPS = 2, TAPS = 40, N = B * T * D, W = D * D / GROUPS * TAPS };
    struct es_k_conv1d s = {B, T, D, GROUPS, TAPS};
    float *x = guarded_random(N, 1, 1), *w = guarded_random(W, 2, 1), *b = guarded_random(D, 3, 1),
          *dy = guarded_random(N, 4, 1), *got = guarded(N), *want = guarded(N), *dw = guarded(W),
          *want_dw = guarded(W);
    struct es_conv1d a = {.B = B,
                          .T = T,
                          .D = D,
                          .groups = GROUPS,
                          .taps = TAPS,
                          .x = x,
                          .w = w,
                          .bias = b,
                          .dy = dy,
                          .y = got};
    float *ws = es_alloc(es_conv1d_bytes_emulated(&a), 1, NULL);
    es_conv1d_rows_emulated(&a, ws);
    es_k_conv1d_fwd_ref_f32(&s, x, w, b, want, NULL);
    check_close("conv1d", N, got, want, 1e-6 * max_abs(N, want), NULL);
    a.y = dw;
    es_conv1d_dw_emulated(&a, ws);
    es_k_conv1d_dw_ref_f32(&s, x, dy, want_dw, false, NULL);
    check_close("conv1d dw", W, dw, want_dw, 1e-6 * max_abs(W, want_dw), NULL);
    a.y = got, a.x = dy, a.turned = true, a.bias = NULL;
    es_conv1d_rows_emulated(&a, ws);
    es_k_conv1d_dx_ref_f32(&s, w, dy, want, false, NULL);
    check_close("conv1d dx", N, got, want, 1e-6 * max_abs(N, want), NULL);
    es_free(&ws);
    float *all[] = {x, dy, got, want};
    for (int i = 0; i < 4; i++) guarded_free(N, all[i]);
    guarded_free(W, w);
    guarded_free(D, b);
    guarded_free(W, dw);
    guarded_free(W, want_dw);
}

int main(void) {
    es_kernel_set_threads(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(product_like_reference), cmocka_unit_test(attention_like_reference),
        cmocka_unit_test(attention_with_positions), cmocka_unit_test(conv1d_like_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
