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
        struct es_attention a = {.B = B, .T = T, .H = H, .d = d, .qkv = qkv, .y = out, .y_lse = lse};
        es_attention_fwd_emulated(&a, ws);
        es_k_attention_fwd_ref_f32(B, T, H, d, qkv, want, want_lse);
        check_close("attention", n, out, want, 1e-5, NULL);
        check_close("lse", B * H * T, lse, want_lse, 1e-5, NULL);
        a.out = out, a.lse = lse, a.dout = dout, a.y = dqkv;
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

int main(void) {
    es_kernel_set_threads(1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(product_like_reference),
                                       cmocka_unit_test(attention_like_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
