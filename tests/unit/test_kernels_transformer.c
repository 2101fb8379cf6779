/* Transformer-side kernels: fast against reference on odd sizes, unaligned and guarded; reference gradients against finite
 * differences; properties; equal bits for any number of threads and rows.
 * TIMEOUT 120
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels.h"
#include "earshot/kernels_ref.h"

#include "kernel_test.h"

#include "../../src/kernels/impl.h"

static const int64_t odd[] = {1, 3, 7, 31, 156, 250, 527};
enum { N_ODD = sizeof odd / sizeof odd[0] };

/* ---- matrix products */
struct product_case {
    int64_t rows, in, out;
};
/* the last: more than one packed group of k blocks; a tail of one row and one column everywhere */
static const struct product_case products[] = {
    {1, 1, 1},      {3, 7, 31},     {7, 3, 1},    {31, 156, 3},  {156, 31, 250},  {250, 527, 7},
    {527, 250, 31}, {13, 1283, 17}, {8, 641, 27}, {49, 65, 129}, {6, 3073, 1041}, {3073, 1041, 6}};

static void check_product(const char *what, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                          int64_t lda, const float *b, int64_t ldb, float beta, const float *old,
                          const float *bias, const float *got) {
    float *want = guarded_copy(m * n, old), *bound = guarded_copy(m * n, old), *aa = guarded_copy(m * k, a),
          *bb = guarded_copy(n * k, b);
    for (int64_t i = 0; i < m * k; i++) aa[i] = fabsf(aa[i]);
    for (int64_t i = 0; i < n * k; i++) bb[i] = fabsf(bb[i]);
    for (int64_t i = 0; i < m * n; i++) bound[i] = fabsf(bound[i]);
    es_k_gemm_ref_f32(ta, tb, m, n, k, 1.0, a, lda, b, ldb, (double)beta, want, n);
    es_k_gemm_ref_f32(ta, tb, m, n, k, 1.0, aa, lda, bb, ldb, (double)beta, bound, n);
    for (int64_t i = 0; bias && i < m * n; i++) {
        want[i] += bias[i % n];
        bound[i] += fabsf(bias[i % n]);
    }
    check_close(what, m * n, got, want, ((double)k + 8) * EPS, bound);
    guarded_free(m * n, want);
    guarded_free(m * n, bound);
    guarded_free(m * k, aa);
    guarded_free(n * k, bb);
}

static void linear_like_reference(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof products / sizeof products[0]; c++) {
        int64_t r = products[c].rows, in = products[c].in, out = products[c].out;
        float *x = guarded_random(r * in, 1, 1), *w = guarded_random(out * in, 2, 1),
              *b = guarded_random(out, 3, 1);
        float *dy = guarded_random(r * out, 4, 1);
        char *ws = es_alloc(es_k_linear_workspace(r, in, out), 1, NULL);
        for (int i_beta = 0; i_beta < (r * in * out > 1000000 ? 1 : 3); i_beta++) {
            const float beta = (const float[]){0.0f, 1.0f, 0.5f}[i_beta];
            float *y = guarded(r * out), *dx = guarded_random(r * in, 5, 1),
                  *dw = guarded_random(out * in, 6, 1);
            float *old_x = guarded_copy(r * in, dx), *old_w = guarded_copy(out * in, dw);
            for (int64_t i = 0; i < r * out; i++) y[i] = NAN;
            for (int64_t i = 0; beta == 0.0f && i < r * in; i++) dx[i] = NAN; /* must not be read */
            for (int64_t i = 0; beta == 0.0f && i < out * in; i++) dw[i] = NAN;
            float *none = guarded_copy(r * out, dy);
            es_k_linear_fwd(r, in, out, x, w, i_beta == 1 ? NULL : b, y, ws);
            check_product("fwd", false, true, r, out, in, x, in, w, in, 0.0f, none, i_beta == 1 ? NULL : b,
                          y);
            es_k_linear_dx(r, in, out, dy, w, beta, dx, ws);
            check_product("dx", false, false, r, in, out, dy, out, w, in, beta, old_x, NULL, dx);
            es_k_linear_dw(r, in, out, dy, x, beta, dw, ws);
            check_product("dw", true, false, out, in, r, dy, out, x, in, beta, old_w, NULL, dw);
            guarded_free(r * out, y);
            guarded_free(r * out, none);
            guarded_free(r * in, dx);
            guarded_free(r * in, old_x);
            guarded_free(out * in, dw);
            guarded_free(out * in, old_w);
        }
        es_free(&ws);
        guarded_free(r * in, x);
        guarded_free(out * in, w);
        guarded_free(out, b);
        guarded_free(r * out, dy);
    }
}

static void gemm_like_reference(void **state) {
    (void)state;
    for (int c = 0; c < 4 * 6; c++) {
        bool ta = c & 1, tb = c & 2;
        int64_t m = products[c / 4].rows, n = products[c / 4].out, k = products[c / 4].in;
        float beta = c % 3 == 0 ? 0.0f : 0.25f;
        float *a = guarded_random(m * k, 11, 1), *b = guarded_random(n * k, 12, 1),
              *got = guarded_random(m * n, 13, 1);
        float *old = guarded_copy(m * n, got);
        es_k_gemm(ta, tb, m, n, k, 1.0f, a, ta ? m : k, b, tb ? k : n, beta, got, n);
        check_product("gemm", ta, tb, m, n, k, a, ta ? m : k, b, tb ? k : n, beta, old, NULL, got);
        guarded_free(m * k, a);
        guarded_free(n * k, b);
        guarded_free(m * n, got);
        guarded_free(m * n, old);
    }
}

static void colsum_like_reference(void **state) {
    (void)state;
    for (int i = 0; i < N_ODD; i++) {
        int64_t rows = odd[N_ODD - 1 - i], cols = odd[i];
        float *x = guarded_random(rows * cols, 21, 1), *got = guarded_random(cols, 22, 1);
        float *want = guarded_copy(cols, got);
        es_k_colsum_ref_f32(rows, cols, x, 0.5, want);
        es_k_colsum(rows, cols, x, 0.5f, got);
        check_close("colsum", cols, got, want, (double)rows * 66 * EPS * max_abs(rows * cols, x), NULL);
        guarded_free(rows * cols, x);
        guarded_free(cols, got);
        guarded_free(cols, want);
    }
}

/* ---- element-wise */
static void gelu_accuracy(void **state) {
    (void)state;
    enum { N = 160001 };
    float *x = guarded(N), *y = guarded(N), *want = guarded(N), *dy = guarded(N);
    for (int i = 0; i < N; i++) {
        x[i] = -8.0f + 1e-4f * (float)i;
        dy[i] = 1.0f;
    }
    es_k_gelu_fwd(N, x, y);
    es_k_gelu_fwd_ref_f32(N, x, want);
    check_close("gelu", N, y, want, 5e-7, NULL);
    es_k_gelu_bwd(N, x, dy, 0.0f, y);
    es_k_gelu_bwd_ref_f32(N, x, dy, 0.0, want);
    check_close("gelu slope", N, y, want, 5e-7, NULL);
    for (int i = 0; i < N; i++) x[i] *= 1e4f; /* far out: x or 0 */
    es_k_gelu_fwd(N, x, y);
    for (int i = 0; i < N; i++) assert_true(fabsf(x[i]) < 20.0f || y[i] == (x[i] > 0 ? x[i] : 0.0f));
    x[0] = NAN;
    es_k_gelu_fwd(1, x, y);
    assert_true(isnan(y[0]));
    guarded_free(N, x);
    guarded_free(N, y);
    guarded_free(N, want);
    guarded_free(N, dy);
}

static void elementwise_like_reference(void **state) {
    (void)state;
    for (int i = 0; i < N_ODD; i++) {
        int64_t n = odd[i];
        float *x = guarded_random(n, 31, 2), *g = guarded_random(n, 32, 1), *y = guarded(n),
              *want = guarded(n);
        float *dx = guarded_random(n, 33, 1), *wx = guarded_copy(n, dx);
        es_k_gelu_bwd_ref_f32(n, x, g, 1.0, wx);
        es_k_gelu_bwd(n, x, g, 1.0f, dx);
        check_close("gelu bwd", n, dx, wx, 4e-6, NULL);
        es_k_gelu_fwd(n, x, want);
        memcpy(y, x, (size_t)n * sizeof *y);
        es_k_gelu_fwd(n, y, y); /* in place */
        assert_memory_equal(y, want, (size_t)n * sizeof *y);
        es_k_add(n, x, g, y);
        for (int64_t j = 0; j < n; j++) assert_true(y[j] == x[j] + g[j]);
        guarded_free(n, x);
        guarded_free(n, g);
        guarded_free(n, y);
        guarded_free(n, want);
        guarded_free(n, dx);
        guarded_free(n, wx);
    }
}

static void data_movement(void **state) {
    (void)state;
    enum { B = 2, F = 5, W = 11, P = 4, N = W / P };
    float *x = guarded_random(B * F * W, 41, 1), *y = guarded(B * N * F * P),
          *dx = guarded_random(B * F * W, 42, 1);
    float *old = guarded_copy(B * F * W, dx);
    es_k_patchify_fwd(B, F, W, P, x, y);
    for (int b = 0; b < B; b++)
        for (int i = 0; i < N; i++)
            for (int f = 0; f < F; f++)
                for (int j = 0; j < P; j++)
                    assert_true(y[((b * N + i) * F + f) * P + j] == x[(b * F + f) * W + i * P + j]);
    es_k_patchify_bwd(B, F, W, P, y, 1.0f, dx); /* the way back: x where it was taken, 0 elsewhere */
    for (int i = 0; i < B * F * W; i++) assert_true(dx[i] == (i % W < N * P ? old[i] + x[i] : old[i]));
    es_k_patchify_bwd(B, F, W, P, y, 0.0f, dx);
    for (int i = 0; i < B * F * W; i++) assert_true(dx[i] == (i % W < N * P ? x[i] : 0.0f));
    float *t = guarded_random(F * W, 43, 1), *s = guarded(B * F * W);
    es_k_add_rows(B, F, W, x, t, s);
    for (int i = 0; i < B * F * W; i++) assert_true(s[i] == x[i] + t[i % (F * W)]);
    es_k_copy2d(B * F, 3, x + 1, W, 0.0f, s + 2, W); /* columns 1..3 to columns 2..4 */
    for (int r = 0; r < B * F; r++)
        for (int c = 0; c < W; c++)
            assert_true(s[r * W + c] ==
                        (c >= 2 && c < 5 ? x[r * W + c - 1] : x[r * W + c] + t[(r * W + c) % (F * W)]));
    es_k_copy2d(B * F, W, x, W, 1.0f, dx, W);
    for (int i = 0; i < B * F * W; i++) assert_true(dx[i] == (i % W < N * P ? x[i] + x[i] : x[i]));
    guarded_free(B * F * W, x);
    guarded_free(B * N * F * P, y);
    guarded_free(B * F * W, dx);
    guarded_free(B * F * W, old);
    guarded_free(F * W, t);
    guarded_free(B * F * W, s);
}

/* ---- layer norm */
static void layernorm_like_reference(void **state) {
    (void)state;
    for (int i = 0; i < N_ODD; i++) {
        int64_t rows = odd[N_ODD - 1 - i], D = odd[i];
        float *x = guarded_random(rows * D, 51, 1), *w = guarded_random(D, 52, 1),
              *b = guarded_random(D, 53, 1);
        float *y = guarded(rows * D), *want = guarded(rows * D), *mean = guarded(rows), *rstd = guarded(rows);
        es_k_layernorm_fwd(rows, D, x, w, b, 1e-3, y, mean, rstd);
        es_k_layernorm_fwd_ref_f32(rows, D, x, w, b, 1e-3, want, NULL, NULL);
        /* D = 1 divides x - mean = 0 by sqrt eps; otherwise rows have unit spread */
        check_close("layernorm", rows * D, y, want, 2e-6 * (1 + sqrt((double)D)), NULL);
        float *dy = guarded_random(rows * D, 54, 1), *dx = guarded_random(rows * D, 55, 1);
        float *dw = guarded_random(D, 56, 1), *db = guarded_random(D, 57, 1);
        float *wx = guarded_copy(rows * D, dx), *ww = guarded_copy(D, dw), *wb = guarded_copy(D, db);
        const float beta[3] = {0.5f, 1.0f, 0.25f};
        char *ws = es_alloc(es_k_layernorm_bwd_workspace(rows, D), 1, NULL);
        es_k_layernorm_bwd(rows, D, x, w, mean, rstd, dy, beta, dx, dw, db, ws);
        es_k_layernorm_bwd_ref_f32(rows, D, x, w, mean, rstd, dy, beta, wx, ww, wb);
        double big = max_abs(rows, rstd) * max_abs(D, w) * max_abs(rows * D, dy);
        check_close("layernorm dx", rows * D, dx, wx, 4e-6 * (1 + big), NULL);
        check_close("layernorm dw", D, dw, ww, 4e-6 * (1 + (double)rows), NULL);
        check_close("layernorm db", D, db, wb, 1e-6 * (1 + (double)rows), NULL);
        const float zero[3] = {0, 0, 0};
        es_k_layernorm_bwd(rows, D, x, w, mean, rstd, dy, zero, NULL, dw, NULL, ws);
        es_k_layernorm_bwd_ref_f32(rows, D, x, w, mean, rstd, dy, zero, NULL, ww, NULL);
        check_close("layernorm dw alone", D, dw, ww, 4e-6 * (1 + (double)rows), NULL);
        for (int64_t j = 0; j < rows * D; j++)
            x[j] = x[j] * 4.0f + 64.0f; /* exact scale; shift rounds to 2^-18 */
        es_k_layernorm_fwd(rows, D, x, w, b, 16e-3, want, NULL, NULL);
        check_close("layernorm of 4 x + 64", rows * D, want, y,
                    D == 1 ? 1e-6 : 2e-4 * (1 + max_abs(rows, rstd)), NULL);
        es_free(&ws);
        guarded_free(rows * D, x);
        guarded_free(D, w);
        guarded_free(D, b);
        guarded_free(rows * D, y);
        guarded_free(rows * D, want);
        guarded_free(rows, mean);
        guarded_free(rows, rstd);
        guarded_free(rows * D, dy);
        guarded_free(rows * D, dx);
        guarded_free(D, dw);
        guarded_free(D, db);
        guarded_free(rows * D, wx);
        guarded_free(D, ww);
        guarded_free(D, wb);
    }
}

/* ---- attention */
struct attention_case {
    int64_t B, T, H, d;
};
static const struct attention_case attentions[] = {{1, 1, 1, 1},    {2, 3, 2, 7},    {1, 7, 3, 1},
                                                   {1, 31, 1, 156}, {2, 97, 2, 31},  {1, 156, 1, 3},
                                                   {1, 250, 2, 64}, {1, 192, 1, 16}, {1, 511, 1, 8}};

static void attention_like_reference(void **state) {
    (void)state;
    for (size_t c = 0; c < sizeof attentions / sizeof attentions[0]; c++) {
        int64_t B = attentions[c].B, T = attentions[c].T, H = attentions[c].H, d = attentions[c].d,
                n = B * T * H * d;
        float *qkv = guarded_random(3 * n, 61, 1), *out = guarded(n), *lse = guarded(B * H * T);
        float *want = guarded(n), *want_lse = guarded(B * H * T);
        char *ws = es_alloc(es_k_attention_workspace(T, d), 1, NULL);
        for (size_t i = 0; i < es_k_attention_workspace(T, d) / sizeof(float); i++)
            ((float *)(void *)ws)[i] = NAN;
        es_k_attention_fwd(B, T, H, d, qkv, out, lse, ws);
        es_k_attention_fwd_ref_f32(B, T, H, d, qkv, want, want_lse);
        check_close("attention", n, out, want, 1e-5, NULL);
        check_close("attention lse", B * H * T, lse, want_lse, 1e-5, NULL);
        float *dout = guarded_random(n, 62, 1), *dqkv = guarded_random(3 * n, 63, 1),
              *wq = guarded_copy(3 * n, dqkv);
        float *first = guarded(3 * n);
        es_k_attention_bwd(B, T, H, d, qkv, out, lse, dout, 0.5f, dqkv, ws);
        es_k_attention_bwd_ref_f32(B, T, H, d, qkv, out, lse, dout, 0.5, wq);
        check_close("attention bwd", 3 * n, dqkv, wq, 2e-5 * (1 + max_abs(3 * n, wq)), NULL);
        for (int64_t i = 0; i < 3 * n; i++) first[i] = NAN;
        es_k_attention_bwd(B, T, H, d, qkv, out, lse, dout, 0.0f, first, ws);
        es_k_attention_bwd_ref_f32(B, T, H, d, qkv, out, lse, dout, 0.0, wq);
        check_close("attention bwd", 3 * n, first, wq, 2e-5 * (1 + max_abs(3 * n, wq)), NULL);
        es_free(&ws);
        guarded_free(3 * n, qkv);
        guarded_free(n, out);
        guarded_free(B * H * T, lse);
        guarded_free(n, want);
        guarded_free(B * H * T, want_lse);
        guarded_free(n, dout);
        guarded_free(3 * n, dqkv);
        guarded_free(3 * n, wq);
        guarded_free(3 * n, first);
    }
}

/* Permuting keys and values together changes nothing; values of one come out as one; huge scores pick one value. */
static void attention_properties(void **state) {
    (void)state;
    enum { T = 156, d = 31, LD = 3 * d };
    float *qkv = guarded_random(T * LD, 71, 1), *turned = guarded(T * LD), *a = guarded(T * d),
          *b = guarded(T * d);
    char *ws = es_alloc(es_k_attention_workspace(T, d), 1, NULL);
    int64_t perm[T];
    struct es_rng r = test_stream(72);
    es_rng_permutation(&r, T, perm);
    for (int i = 0; i < T; i++) {
        memcpy(turned + i * LD, qkv + i * LD, d * sizeof(float));
        memcpy(turned + i * LD + d, qkv + perm[i] * LD + d, 2 * d * sizeof(float));
    }
    es_k_attention_fwd(1, T, 1, d, qkv, a, NULL, ws);
    es_k_attention_fwd(1, T, 1, d, turned, b, NULL, ws);
    check_close("permuted keys", T * d, b, a, 2e-6, NULL);
    for (int i = 0; i < T; i++)
        for (int c = 0; c < d; c++) turned[i * LD + 2 * d + c] = 1.0f;
    es_k_attention_fwd(1, T, 1, d, turned, b, NULL, ws);
    for (int i = 0; i < T * d; i++) assert_true(fabsf(b[i] - 1.0f) < 1e-5f);
    for (int i = 0; i < T; i++) /* score 1e4 against key 5, else 0 */
        for (int c = 0; c < d; c++) {
            qkv[i * LD + c] = 100.0f;
            qkv[i * LD + d + c] = i == 5 ? 100.0f / sqrtf(d) : 0.0f;
        }
    es_k_attention_fwd(1, T, 1, d, qkv, a, NULL, ws);
    for (int i = 0; i < T * d; i++) assert_true(fabsf(a[i] - qkv[5 * LD + 2 * d + i % d]) < 1e-6f);
    es_free(&ws);
    guarded_free(T * LD, qkv);
    guarded_free(T * LD, turned);
    guarded_free(T * d, a);
    guarded_free(T * d, b);
}

/* ---- reference gradients against finite differences, in double. Loss: sum out * R. */
enum { GR = 3, GI = 4, GO = 5, GT = 5, GH = 2, GD = 3 };
struct gradient {
    double R[GR * GO * 16], w[64], b[16];
};

static double weigh(int64_t n, const double *y, const double *R) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += y[i] * R[i];
    return s;
}
static double loss_linear(const double *x, const void *c) { /* x, w, b in one vector */
    double y[GR * GO];
    es_k_linear_fwd_ref_f64(GR, GI, GO, x, x + GR * GI, x + GR * GI + GO * GI, y);
    return weigh(GR * GO, y, ((const struct gradient *)c)->R);
}
static double loss_gelu(const double *x, const void *c) {
    double y[GR * GO];
    es_k_gelu_fwd_ref_f64(GR * GO, x, y);
    return weigh(GR * GO, y, ((const struct gradient *)c)->R);
}
static double loss_layernorm(const double *x, const void *c) {
    double y[GR * GO];
    es_k_layernorm_fwd_ref_f64(GR, GO, x, x + GR * GO, x + GR * GO + GO, 1e-5, y, NULL, NULL);
    return weigh(GR * GO, y, ((const struct gradient *)c)->R);
}
static double loss_attention(const double *x, const void *c) {
    double y[GT * GH * GD];
    es_k_attention_fwd_ref_f64(1, GT, GH, GD, x, y, NULL);
    return weigh(GT * GH * GD, y, ((const struct gradient *)c)->R);
}

static void reference_gradients(void **state) {
    (void)state;
    struct gradient c;
    double x[128], g[128], y[64], lse[GH * GT], mean[GR], rstd[GR];
    const float zero[3] = {0, 0, 0};
    random_f64(sizeof c.R / sizeof c.R[0], 81, 1, c.R);
    random_f64(128, 82, 1, x);

    es_k_linear_dx_ref_f64(GR, GI, GO, c.R, x + GR * GI, 0, g);
    es_k_linear_dw_ref_f64(GR, GI, GO, c.R, x, 0, g + GR * GI);
    es_k_colsum_ref_f64(GR, GO, c.R, 0, g + GR * GI + GO * GI);
    check_gradient("linear", GR * GI + GO * GI + GO, x, g, loss_linear, &c, 1e-5, 1e-8);

    es_k_gelu_bwd_ref_f64(GR * GO, x, c.R, 0, g);
    check_gradient("gelu", GR * GO, x, g, loss_gelu, &c, 1e-5, 1e-8);

    es_k_layernorm_fwd_ref_f64(GR, GO, x, x + GR * GO, x + GR * GO + GO, 1e-5, y, mean, rstd);
    es_k_layernorm_bwd_ref_f64(GR, GO, x, x + GR * GO, mean, rstd, c.R, zero, g, g + GR * GO,
                               g + GR * GO + GO);
    check_gradient("layernorm", GR * GO + 2 * GO, x, g, loss_layernorm, &c, 1e-5, 1e-7);

    es_k_attention_fwd_ref_f64(1, GT, GH, GD, x, y, lse);
    es_k_attention_bwd_ref_f64(1, GT, GH, GD, x, y, lse, c.R, 0, g);
    check_gradient("attention", 3 * GT * GH * GD, x, g, loss_attention, &c, 1e-5, 1e-7);
}

/* ---- optimiser and sums */
static void optimiser_steps(void **state) {
    (void)state;
    for (int i = 0; i < N_ODD * 2; i++) {
        int64_t n = odd[i / 2];
        float *p = guarded_random(n, 91, 1), *g = guarded_random(n, 92, 0.1), *m = guarded(n),
              *v = guarded(n);
        float *wp = guarded_copy(n, p), *wm = guarded(n), *wv = guarded(n), *p0 = guarded_copy(n, p);
        struct es_adamw a = {.lr = 1e-2,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .weight_decay = 1e-2,
                             .decoupled = i % 2,
                             .grad_scale = 0.5};
        for (a.step = 1; a.step <= 5; a.step++) {
            es_k_adamw(n, p, g, m, v, &a);
            es_k_adamw_ref_f32(n, wp, g, wm, wv, &a);
            check_close("adam p", n, p, wp, (double)a.step * 1e-6, NULL);
            check_close("adam m", n, m, wm, (double)a.step * 1e-7, NULL);
            check_close("adam v", n, v, wv, (double)a.step * 1e-7, NULL);
        }
        /* zero gradient, zero moments: decay alone, or nothing */
        for (int64_t j = 0; j < n; j++) g[j] = m[j] = v[j] = 0.0f;
        memcpy(p, p0, (size_t)n * sizeof *p);
        a.step = 1;
        a.weight_decay = a.decoupled ? a.weight_decay : 0.0;
        es_k_adamw(n, p, g, m, v, &a);
        for (int64_t j = 0; j < n; j++)
            assert_true(p[j] == (a.decoupled ? p0[j] * (float)(1.0 - 1e-4) : p0[j]));
        /* teacher: alpha 0 copies the student, alpha 1 stays */
        es_k_ema(n, p, wp, 1.0);
        for (int64_t j = 0; j < n; j++)
            assert_true(p[j] == (a.decoupled ? p0[j] * (float)(1.0 - 1e-4) : p0[j]));
        es_k_ema(n, p, wp, 0.0);
        assert_memory_equal(p, wp, (size_t)n * sizeof *p);
        es_k_ema(n, p, p0, 0.75);
        es_k_ema_ref_f32(n, wp, p0, 0.75);
        check_close("ema", n, p, wp, 1e-6, NULL);
        guarded_free(n, p);
        guarded_free(n, g);
        guarded_free(n, m);
        guarded_free(n, v);
        guarded_free(n, wp);
        guarded_free(n, wm);
        guarded_free(n, wv);
        guarded_free(n, p0);
    }
}

static void sums_of_squares_are_trees(void **state) {
    (void)state;
    const int64_t n = 3 * ES_SUMSQ_BLOCK * 1024 + 17 * ES_SUMSQ_BLOCK + 5;
    float *x = guarded_random(n, 101, 1);
    double all = es_k_sumsq(n, x);
    assert_true(fabs(all - es_k_sumsq_ref_f32(n, x)) <= 1e-12 * all);
    for (int64_t half = ES_SUMSQ_BLOCK; half < n; half *= 2) { /* any subtree and its sibling */
        int64_t both = 2 * half < n ? 2 * half : n;
        assert_true(es_k_sumsq(both, x) == es_k_sumsq(half, x) + es_k_sumsq(both - half, x + half));
    }
    assert_true(es_k_sumsq(0, x) == 0.0);
    for (int i = 0; i < N_ODD; i++) {
        double s = es_k_sumsq_ref_f32(odd[i], x);
        assert_true(fabs(es_k_sumsq(odd[i], x) - s) <= 1e-14 * s);
    }
    guarded_free(n, x);
}

/* ---- bits */
enum { IR = 157, II = 331, IO = 67, IT = 101, IH = 3, ID = 21 };
struct results {
    float y[IR * IO], dx[IR * II], dw[IO * II], db[IO], gelu[IR * II], ln[IR * II], mean[IR], rstd[IR];
    float lx[IR * II], lw[II], lb[II], out[IT * IH * ID], lse[IH * IT], dqkv[3 * IT * IH * ID];
    double sum;
};

static void compute(int threads, struct results *r) {
    es_kernel_set_threads(threads);
    float *x = guarded_random(IR * II, 111, 1), *w = guarded_random(IO * II, 112, 1),
          *b = guarded_random(II, 113, 1);
    float *dy = guarded_random(IR * IO, 114, 1), *qkv = guarded_random(3 * IT * IH * ID, 115, 1);
    const float zero[3] = {0, 0, 0};
    size_t need[3] = {es_k_linear_workspace(IR, II, IO), es_k_layernorm_bwd_workspace(IR, II),
                      es_k_attention_workspace(IT, ID)};
    for (int i = 0; i < 3; i++) {
        char *ws = es_alloc(need[i], 1, NULL);
        if (i == 0) {
            es_k_linear_fwd(IR, II, IO, x, w, b, r->y, ws);
            es_k_linear_dx(IR, II, IO, dy, w, 0.0f, r->dx, ws);
            es_k_linear_dw(IR, II, IO, dy, x, 0.0f, r->dw, ws);
            es_k_colsum(IR, IO, dy, 0.0f, r->db);
            es_k_gelu_fwd(IR * II, x, r->gelu);
        } else if (i == 1) {
            es_k_layernorm_fwd(IR, II, x, b, b, 1e-5, r->ln, r->mean, r->rstd);
            es_k_layernorm_bwd(IR, II, x, b, r->mean, r->rstd, r->dx, zero, r->lx, r->lw, r->lb, ws);
        } else {
            es_k_attention_fwd(1, IT, IH, ID, qkv, r->out, r->lse, ws);
            es_k_attention_bwd(1, IT, IH, ID, qkv, r->out, r->lse, qkv, 0.0f, r->dqkv, ws);
        }
        es_free(&ws);
    }
    r->sum = es_k_sumsq(IR * II, x);
    guarded_free(IR * II, x);
    guarded_free(IO * II, w);
    guarded_free(II, b);
    guarded_free(IR * IO, dy);
    guarded_free(3 * IT * IH * ID, qkv);
}

static void bits_do_not_depend_on_threads(void **state) {
    (void)state;
    int before = es_kernel_threads();
    struct results *one = es_alloc(1, sizeof *one, NULL), *other = es_alloc(1, sizeof *other, NULL);
    compute(1, one);
    for (int threads = 2; threads <= 5; threads++) {
        memset(other, 0xff, sizeof *other);
        compute(threads, other);
        assert_memory_equal(one, other, sizeof *one);
    }
    es_kernel_set_threads(before);
    es_free(&one);
    es_free(&other);
}

static void bits_do_not_depend_on_rows(void **state) {
    (void)state;
    enum { ALL = 101, FROM = 40, ROWS = 33 };
    float *x = guarded_random(ALL * II, 121, 1), *w = guarded_random(IO * II, 122, 1),
          *dy = guarded_random(ALL * IO, 123, 1);
    float *y = guarded(ALL * IO), *part = guarded(ROWS * IO), *dx = guarded(ALL * II),
          *dpart = guarded(ROWS * II);
    char *ws = es_alloc(es_k_linear_workspace(ALL, II, IO), 1, NULL);
    es_k_linear_fwd(ALL, II, IO, x, w, NULL, y, ws);
    es_k_linear_fwd(ROWS, II, IO, x + FROM * II, w, NULL, part, ws);
    assert_memory_equal(part, y + FROM * IO, ROWS * IO * sizeof(float));
    es_k_linear_dx(ALL, II, IO, dy, w, 0.0f, dx, ws);
    es_k_linear_dx(ROWS, II, IO, dy + FROM * IO, w, 0.0f, dpart, ws);
    assert_memory_equal(dpart, dx + FROM * II, ROWS * II * sizeof(float));
    es_free(&ws);
    guarded_free(ALL * II, x);
    guarded_free(IO * II, w);
    guarded_free(ALL * IO, dy);
    guarded_free(ALL * IO, y);
    guarded_free(ROWS * IO, part);
    guarded_free(ALL * II, dx);
    guarded_free(ROWS * II, dpart);
}

/* ---- modes */
static jmp_buf caught;
static void catch_bug(int code) {
    longjmp(caught, code);
}

/* All kernels pass their own check, and a wrong result does not. */
static void check_mode(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks();
    es_kernel_set_mode(ES_KERNELS_CHECK);
    struct results *r = es_alloc(1, sizeof *r, NULL);
    compute(1, r);
    elementwise_like_reference(NULL);
    gemm_like_reference(NULL);
    optimiser_steps(NULL);
    es_free(&r);
    assert_int_equal(es_mem_live_blocks(), before);
    float right[3] = {1, 2, 3}, wrong[3] = {1, 2, 3.001f};
    es_fatal_handler(catch_bug);
    float *want = es_check_begin(3, right);
    int code = setjmp(caught);
    if (code == 0) {
        es_check_end("test", 3, wrong, &want, 0.9e-3, NULL);
        fail_msg("check mode let a wrong result pass");
    }
    assert_int_equal(code, ES_EBUG);
    es_check_free(&want);
    es_kernel_set_mode(ES_KERNELS_REF);
    assert_null(es_check_begin(3, right));
    elementwise_like_reference(NULL);
    es_kernel_set_mode(ES_KERNELS_FAST);
    es_fatal_handler(NULL);
}

static void choices_and_peak(void **state) {
    (void)state;
    struct es_err err = {0};
    assert_int_equal(es_kernel_init(&err), 0);
    setenv("ES_KERNELS", "quick", 1);
    assert_int_equal(es_kernel_init(&err), -ES_EUSAGE);
    assert_non_null(strstr(err.msg, "quick"));
    setenv("ES_KERNELS", "fast", 1);
    setenv("ES_ISA", "sse", 1);
    assert_int_equal(es_kernel_init(&err), -ES_EUSAGE);
    unsetenv("ES_ISA");
    assert_int_equal(es_kernel_init(&err), 0);
    double gflops = es_k_peak_gflops(1, 0.01);
    print_message("peak of one thread: %.1f GFLOP/s, kernels %s\n", gflops, es_kernel_isa());
    assert_true(gflops > 1 && gflops < 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_like_reference),
        cmocka_unit_test(gemm_like_reference),
        cmocka_unit_test(colsum_like_reference),
        cmocka_unit_test(gelu_accuracy),
        cmocka_unit_test(elementwise_like_reference),
        cmocka_unit_test(data_movement),
        cmocka_unit_test(layernorm_like_reference),
        cmocka_unit_test(attention_like_reference),
        cmocka_unit_test(attention_properties),
        cmocka_unit_test(reference_gradients),
        cmocka_unit_test(optimiser_steps),
        cmocka_unit_test(sums_of_squares_are_trees),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(bits_do_not_depend_on_rows),
        cmocka_unit_test(check_mode),
        cmocka_unit_test(choices_and_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
