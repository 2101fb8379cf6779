/* Kernels of BEATs: fast against reference on odd sizes, gradients of the references by differences in double, properties. TIMEOUT
 * 60 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels_beats.h"
#include "earshot/kernels_crnn.h"
#include "unit/crnn_test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- attention with a position bias */
static const struct {
    int64_t B, T, H, d, ld;
    double drop;
} attentions[] = {{1, 1, 1, 1, 1, 0},      {2, 3, 2, 7, 20, 0},    {1, 31, 3, 5, 15, 0.5},
                  {2, 97, 2, 31, 62, 0.1}, {1, 156, 1, 70, 70, 0}, {1, 250, 2, 64, 384, 0.1},
                  {3, 33, 4, 8, 32, 0.3},  {1, 193, 1, 16, 16, 0}};

struct attention {
    struct es_k_attention s;
    int64_t nq, no, ng, nb;
};

static struct attention attention(int i) {
    struct attention a = {.s = {attentions[i].B, attentions[i].T, attentions[i].H, attentions[i].d,
                                attentions[i].ld, attentions[i].drop, es_rng_make(3, ES_RNG_BENCH, 0, 0, 9)}};
    int64_t rows = a.s.B * a.s.T;
    a.nq = rows * a.s.ld;
    a.no = rows * a.s.H * a.s.d;
    a.ng = rows * a.s.H;
    a.nb = a.s.H * (2 * a.s.T - 1);
    return a;
}

static void attention_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(attentions); i++)
        for (int positions = 0; positions < 2; positions++) {
            struct attention a = attention(i);
            float *q = kt_random(a.nq, -2, 2, NULL), *k = kt_random(a.nq, -2, 2, NULL),
                  *v = kt_random(a.nq, -1, 1, NULL), *dout = kt_random(a.no, -1, 1, NULL);
            float *gate = positions ? kt_random(a.ng, -1, 3, NULL) : NULL,
                  *bias = positions ? kt_random(a.nb, -2, 2, NULL) : NULL;
            float *out = kt_new(a.no), *lse = kt_new(a.ng), *want = kt_new(a.no), *want_lse = kt_new(a.ng);
            void *ws = kt_scratch(es_k_attention_rel_ws(&a.s));
            es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, out, NULL, ws);
            es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, out, lse, ws);
            es_k_attention_rel_fwd_ref_f32(&a.s, q, k, v, gate, bias, want, want_lse, NULL);
            kt_close("attention", a.no, out, want, 1, 1e-5);
            kt_close("lse", a.ng, lse, want_lse, 1, 1e-5);
            for (int add = 0; add < 2; add++) {
                float *g[5], *w[5];
                const int64_t n[5] = {a.nq, a.nq, a.nq, positions ? a.ng : 0, positions ? a.nb : 0};
                static const char *const name[5] = {"dq", "dk", "dv", "dgate", "dbias"};
                for (int x = 0; x < 5; x++) {
                    g[x] = n[x] ? kt_random(n[x], -1, 1, NULL) : NULL;
                    w[x] = n[x] ? kt_copy(n[x], g[x]) : NULL;
                }
                es_k_attention_rel_bwd_fast(&a.s, q, k, v, gate, bias, want, want_lse, dout, g[0], add, g[1],
                                            add, g[2], add, g[3], add, g[4], add, ws);
                es_k_attention_rel_bwd_ref_f32(&a.s, q, k, v, gate, bias, want, want_lse, dout, w[0], add,
                                               w[1], add, w[2], add, w[3], add, w[4], add, NULL);
                for (int x = 0; x < 5; x++)
                    if (n[x]) kt_close(name[x], n[x], g[x], w[x], 1, 3e-5);
            }
            kt_done();
        }
}

/* Equal rows of bias for any T: adding one number to all positions changes nothing; a gate of 0 switches the bias off. */
static void attention_properties(void **state) {
    (void)state;
    struct attention a = attention(3);
    a.s.drop = 0;
    float *q = kt_random(a.nq, -2, 2, NULL), *k = kt_random(a.nq, -2, 2, NULL),
          *v = kt_random(a.nq, -1, 1, NULL);
    float *gate = kt_random(a.ng, 1, 3, NULL), *bias = kt_random(a.nb, -2, 2, NULL);
    float *x = kt_new(a.no), *y = kt_new(a.no);
    void *ws = kt_scratch(es_k_attention_rel_ws(&a.s));
    es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, x, NULL, ws);
    for (int64_t i = 0; i < a.nb; i++) bias[i] += 0.75f;
    es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, y, NULL, ws);
    kt_close("shifted bias", a.no, y, x, 1, 2e-6);
    for (int64_t i = 0; i < a.ng; i++) gate[i] = 0;
    es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, x, NULL, ws);
    es_k_attention_rel_fwd_fast(&a.s, q, k, v, NULL, NULL, y, NULL, ws);
    assert_memory_equal(x, y, (size_t)a.no * sizeof *x);
    /* values all 1: out is the sum of the kept probabilities, 1 on average */
    a.s.drop = 0.3;
    for (int64_t i = 0; i < a.nq; i++) v[i] = 1;
    es_k_attention_rel_fwd_fast(&a.s, q, k, v, gate, bias, x, NULL, ws);
    double mean = 0;
    for (int64_t i = 0; i < a.no; i++) mean += (double)x[i] / (double)a.no;
    assert_true(fabs(mean - 1) < 0.1);
    assert_true(fabsf(x[0] - 1) > 1e-4f);
    kt_done();
}

struct attention_case {
    struct attention a;
    double *q, *k, *v, *gate, *bias, *r, *out;
};
static double attention_loss(void *ctx) {
    struct attention_case *c = ctx;
    es_k_attention_rel_fwd_ref_f64(&c->a.s, c->q, c->k, c->v, c->gate, c->bias, c->out, NULL, NULL);
    return kt_dot(c->a.no, c->out, c->r);
}

static void attention_gradients(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(attentions); i++) {
        struct attention_case c = {.a = attention(i)};
        struct attention *a = &c.a;
        if (a->s.T > 40) continue;
        kt_random(a->nq, -1, 1, &c.q);
        kt_random(a->nq, -1, 1, &c.k);
        kt_random(a->nq, -1, 1, &c.v);
        kt_random(a->ng, -1, 3, &c.gate);
        kt_random(a->nb, -1, 1, &c.bias);
        kt_random(a->no, -1, 1, &c.r);
        c.out = kt_newd(a->no);
        double *lse = kt_newd(a->ng), *g[5];
        const int64_t n[5] = {a->nq, a->nq, a->nq, a->ng, a->nb};
        double *const at[5] = {c.q, c.k, c.v, c.gate, c.bias};
        static const char *const name[5] = {"dq", "dk", "dv", "dgate", "dbias"};
        for (int x = 0; x < 5; x++) {
            g[x] = kt_newd(n[x]);
            memset(g[x], 0, (size_t)n[x] * sizeof(double)); /* columns between rows stay 0 */
        }
        es_k_attention_rel_fwd_ref_f64(&a->s, c.q, c.k, c.v, c.gate, c.bias, c.out, lse, NULL);
        es_k_attention_rel_bwd_ref_f64(&a->s, c.q, c.k, c.v, c.gate, c.bias, c.out, lse, c.r, g[0], false,
                                       g[1], false, g[2], false, g[3], false, g[4], false, NULL);
        for (int x = 0; x < 5; x++) kt_gradient(name[x], attention_loss, &c, at[x], n[x], g[x], 1e-5, 1e-7);
        kt_done();
    }
}

/* ---- gate */
static const struct es_k_rel_gate gates[] = {
    {1, 1, 1}, {6, 3, 7}, {130, 2, 64}, {5000, 4, 24}, {341, 11, 33}};

static void gate_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(gates); i++) {
        struct es_k_rel_gate s = gates[i];
        int64_t n = s.rows * s.d;
        float *q = kt_random(n, -1, 1, NULL), *w = kt_random(8 * s.d, -0.3, 0.3, NULL),
              *b = kt_random(8, -1, 1, NULL), *a = kt_random(s.H, 0.5, 1.5, NULL),
              *dy = kt_random(s.rows, -1, 1, NULL), *y = kt_new(s.rows), *want = kt_new(s.rows);
        void *ws = kt_scratch(es_k_rel_gate_ws(&s));
        es_k_rel_gate_fwd_fast(&s, q, w, b, a, y, ws);
        es_k_rel_gate_fwd_ref_f32(&s, q, w, b, a, want, NULL);
        kt_close("gate", s.rows, y, want, 1, 2e-6);
        for (int add = 0; add < 2; add++) {
            float *dq = kt_random(n, -1, 1, NULL), *dw = kt_random(8 * s.d, -1, 1, NULL),
                  *db = kt_random(8, -1, 1, NULL), *da = kt_random(s.H, -1, 1, NULL);
            float *dq2 = kt_copy(n, dq), *dw2 = kt_copy(8 * s.d, dw), *db2 = kt_copy(8, db),
                  *da2 = kt_copy(s.H, da);
            es_k_rel_gate_bwd_fast(&s, q, w, b, a, dy, dq, add, dw, add, db, add, da, add, ws);
            es_k_rel_gate_bwd_ref_f32(&s, q, w, b, a, dy, dq2, add, dw2, add, db2, add, da2, add, NULL);
            kt_close("gate dq", n, dq, dq2, 1, 3e-6);
            kt_close("gate dw", 8 * s.d, dw, dw2, 1, 3e-6);
            kt_close("gate db", 8, db, db2, 1, 3e-6);
            kt_close("gate da", s.H, da, da2, 1, 3e-6);
        }
        kt_done();
    }
}

struct gate_case {
    struct es_k_rel_gate s;
    double *q, *w, *b, *a, *r, *y;
};
static double gate_loss(void *ctx) {
    struct gate_case *c = ctx;
    es_k_rel_gate_fwd_ref_f64(&c->s, c->q, c->w, c->b, c->a, c->y, NULL);
    return kt_dot(c->s.rows, c->y, c->r);
}

static void gate_gradients(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(gates); i++) {
        struct gate_case c = {.s = gates[i]};
        int64_t n = c.s.rows * c.s.d;
        if (n > 10000) continue;
        kt_random(n, -1, 1, &c.q);
        kt_random(8 * c.s.d, -0.5, 0.5, &c.w);
        kt_random(8, -1, 1, &c.b);
        kt_random(c.s.H, 0.5, 1.5, &c.a);
        kt_random(c.s.rows, -1, 1, &c.r);
        c.y = kt_newd(c.s.rows);
        double *dq = kt_newd(n), *dw = kt_newd(8 * c.s.d), *db = kt_newd(8), *da = kt_newd(c.s.H);
        es_k_rel_gate_bwd_ref_f64(&c.s, c.q, c.w, c.b, c.a, c.r, dq, false, dw, false, db, false, da, false,
                                  NULL);
        kt_gradient("gate dq", gate_loss, &c, c.q, n, dq, 1e-5, 1e-7);
        kt_gradient("gate dw", gate_loss, &c, c.w, 8 * c.s.d, dw, 1e-5, 1e-7);
        kt_gradient("gate db", gate_loss, &c, c.b, 8, db, 1e-5, 1e-7);
        kt_gradient("gate da", gate_loss, &c, c.a, c.s.H, da, 1e-5, 1e-7);
        kt_done();
    }
}

/* ---- convolution */
static const struct es_k_conv1d convs[] = {{1, 1, 1, 1, 1},     {2, 7, 6, 3, 4},    {1, 31, 40, 2, 5},
                                           {3, 50, 24, 1, 128}, {2, 13, 34, 2, 16}, {1, 100, 48, 1, 33},
                                           {2, 9, 12, 12, 8}};

static void conv_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(convs); i++) {
        struct es_k_conv1d s = convs[i];
        int64_t n = s.B * s.T * s.D, nw = s.D * (s.D / s.groups) * s.taps;
        float *x = kt_random(n, -1, 1, NULL), *w = kt_random(nw, -1, 1, NULL),
              *b = kt_random(s.D, -1, 1, NULL), *dy = kt_random(n, -1, 1, NULL), *y = kt_new(n),
              *want = kt_new(n);
        void *ws = kt_scratch(es_k_conv1d_ws(&s));
        es_k_conv1d_fwd_fast(&s, x, w, b, y, ws);
        es_k_conv1d_fwd_ref_f32(&s, x, w, b, want, NULL);
        kt_close("conv1d", n, y, want, 1, 2e-6);
        for (int add = 0; add < 2; add++) {
            float *dx = kt_random(n, -1, 1, NULL), *dx2 = kt_copy(n, dx), *dw = kt_random(nw, -1, 1, NULL),
                  *dw2 = kt_copy(nw, dw);
            es_k_conv1d_dx_fast(&s, w, dy, dx, add, ws);
            es_k_conv1d_dx_ref_f32(&s, w, dy, dx2, add, NULL);
            kt_close("conv1d dx", n, dx, dx2, 1, 2e-6);
            es_k_conv1d_dw_fast(&s, x, dy, dw, add, ws);
            es_k_conv1d_dw_ref_f32(&s, x, dy, dw2, add, NULL);
            kt_close("conv1d dw", nw, dw, dw2, 1, 2e-6);
        }
        kt_done();
    }
}

struct conv_case {
    struct es_k_conv1d s;
    double *x, *w, *b, *r, *y;
};
static double conv_loss(void *ctx) {
    struct conv_case *c = ctx;
    es_k_conv1d_fwd_ref_f64(&c->s, c->x, c->w, c->b, c->y, NULL);
    return kt_dot(c->s.B * c->s.T * c->s.D, c->y, c->r);
}

static void conv_gradients(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(convs); i++) {
        struct conv_case c = {.s = convs[i]};
        int64_t n = c.s.B * c.s.T * c.s.D, nw = c.s.D * (c.s.D / c.s.groups) * c.s.taps;
        if (n > 1000) continue;
        kt_random(n, -1, 1, &c.x);
        kt_random(nw, -1, 1, &c.w);
        kt_random(c.s.D, -1, 1, &c.b);
        kt_random(n, -1, 1, &c.r);
        c.y = kt_newd(n);
        double *dx = kt_newd(n), *dw = kt_newd(nw);
        es_k_conv1d_dx_ref_f64(&c.s, c.w, c.r, dx, false, NULL);
        es_k_conv1d_dw_ref_f64(&c.s, c.x, c.r, dw, false, NULL);
        kt_gradient("conv1d dx", conv_loss, &c, c.x, n, dx, 1e-4, 1e-7);
        kt_gradient("conv1d dw", conv_loss, &c, c.w, nw, dw, 1e-4, 1e-7);
        kt_done();
    }
}

/* An impulse at tap k moves the signal: as many frames come out as went in, the tap of weight taps/2 is the frame itself. */
static void conv_shifts(void **state) {
    (void)state;
    struct es_k_conv1d s = {1, 40, 2, 2, 128};
    float *x = kt_random(80, -1, 1, NULL), *w = kt_new(2 * 128), *b = kt_new(2), *y = kt_new(80);
    void *ws = kt_scratch(es_k_conv1d_ws(&s));
    for (int shift = -3; shift <= 3; shift++) {
        memset(w, 0, 2 * 128 * sizeof *w);
        memset(b, 0, 2 * sizeof *b);
        w[64 + shift] = w[128 + 64 + shift] = 1;
        es_k_conv1d_fwd_fast(&s, x, w, b, y, ws);
        for (int i = 0; i < 80; i++) {
            int t = i / 2 + shift;
            assert_true(y[i] == (t < 0 || t >= 40 ? 0 : x[2 * t + i % 2]));
        }
    }
    kt_done();
}

/* ---- weight norm */
static const int64_t norms[][2] = {{1, 1}, {3, 7}, {31, 16}, {50, 33}, {600, 128}};

static void weight_norm_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(norms); i++) {
        int64_t rows = norms[i][0], cols = norms[i][1], n = rows * cols;
        float *v = kt_random(n, 0.1, 1, NULL), *g = kt_random(cols, 0.5, 2, NULL),
              *dw = kt_random(n, -1, 1, NULL), *w = kt_new(n), *want = kt_new(n);
        es_k_weight_norm_fwd_fast(rows, cols, v, g, w);
        es_k_weight_norm_fwd_ref_f32(rows, cols, v, g, want);
        kt_close("weight norm", n, w, want, 0, 3e-7);
        for (int64_t k = 0; k < cols; k++) {
            double s = 0;
            for (int64_t r = 0; r < rows; r++) s += (double)w[r * cols + k] * (double)w[r * cols + k];
            assert_true(fabs(sqrt(s) - (double)g[k]) < 1e-6 * (double)g[k]);
        }
        for (int add = 0; add < 2; add++) {
            float *dv = kt_random(n, -1, 1, NULL), *dv2 = kt_copy(n, dv), *dg = kt_random(cols, -1, 1, NULL),
                  *dg2 = kt_copy(cols, dg);
            es_k_weight_norm_bwd_fast(rows, cols, v, g, dw, dv, add, dg, add);
            es_k_weight_norm_bwd_ref_f32(rows, cols, v, g, dw, dv2, add, dg2, add);
            kt_close("weight norm dv", n, dv, dv2, 1, 1e-6);
            kt_close("weight norm dg", cols, dg, dg2, 1, 1e-6);
        }
        kt_done();
    }
}

struct norm_case {
    int64_t rows, cols;
    double *v, *g, *r, *w;
};
static double norm_loss(void *ctx) {
    struct norm_case *c = ctx;
    es_k_weight_norm_fwd_ref_f64(c->rows, c->cols, c->v, c->g, c->w);
    return kt_dot(c->rows * c->cols, c->w, c->r);
}

static void weight_norm_gradients(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct norm_case c = {.rows = norms[i][0], .cols = norms[i][1]};
        int64_t n = c.rows * c.cols;
        kt_random(n, 0.2, 1, &c.v);
        kt_random(c.cols, 0.5, 2, &c.g);
        kt_random(n, -1, 1, &c.r);
        c.w = kt_newd(n);
        double *dv = kt_newd(n), *dg = kt_newd(c.cols);
        es_k_weight_norm_bwd_ref_f64(c.rows, c.cols, c.v, c.g, c.r, dv, false, dg, false);
        kt_gradient("weight norm dv", norm_loss, &c, c.v, n, dv, 1e-5, 1e-7);
        kt_gradient("weight norm dg", norm_loss, &c, c.g, c.cols, dg, 1e-5, 1e-7);
        kt_done();
    }
}

/* ---- buckets: the samples of spec/models.md section 2.3; every position's gradient lands in its bucket */
static void buckets(void **state) {
    (void)state;
    static const int samples[][2] = {{-80, 80}, {-81, 80},  {-100, 87}, {-495, 143}, {1, 161},      {80, 240},
                                     {83, 241}, {495, 303}, {0, 0},     {-1, 1},     {-100000, 159}};
    for (int i = 0; i < COUNT(samples); i++)
        assert_int_equal(es_k_rel_bucket(samples[i][0], 320, 800), samples[i][1]);
    enum { T = 61, H = 3, N = 32 };
    float *table = kt_random(N * H, -1, 1, NULL), *bias = kt_new(H * (2 * T - 1)), *d = kt_new(N * H),
          *dbias = kt_random(H * (2 * T - 1), -1, 1, NULL);
    double want[N * H];
    es_k_rel_bias_fwd(T, H, N, 40, table, bias);
    for (int add = 0; add < 2; add++) {
        for (int i = 0; i < N * H; i++) want[i] = add ? (double)d[i] : 0;
        for (int r = -(T - 1); r < T; r++)
            for (int h = 0; h < H; h++) {
                int at = es_k_rel_bucket(r, N, 40) * H + h;
                assert_true(bias[h * (2 * T - 1) + T - 1 + r] == table[at]);
                want[at] += (double)dbias[h * (2 * T - 1) + T - 1 + r];
            }
        es_k_rel_bias_bwd(T, H, N, 40, dbias, d, add);
        for (int i = 0; i < N * H; i++) assert_true(fabs((double)d[i] - want[i]) < 1e-6);
    }
    kt_done();
}

/* ---- threads do not change bits; the mask of attention is es_k_dropout's */
static void same_on_any_number_of_threads(void **state) {
    (void)state;
    struct es_k_attention s = {2, 130, 4, 16, 64, 0.1, es_rng_make(1, ES_RNG_BENCH, 0, 0, 1)};
    struct es_k_conv1d c = {2, 130, 64, 4, 16};
    struct es_k_rel_gate g = {2 * 130 * 4, 4, 16};
    enum {
        NQ = 2 * 130 * 64,
        NG = 2 * 130 * 4,
        NB = 4 * 259,
        NW = 64 * 16 * 16,
        ALL = 5 * NQ + 2 * NG + NB + 2 * NW
    };
    float *q = kt_random(NQ, -1, 1, NULL), *gate = kt_random(NG, -1, 1, NULL),
          *bias = kt_random(NB, -1, 1, NULL), *w = kt_random(NW, -1, 1, NULL),
          *v = kt_random(NW, -1, 1, NULL), *first = NULL;
    int before = es_kernel_threads();
    for (int threads = 1; threads <= 3; threads++) {
        es_kernel_set_threads(threads);
        float *y = kt_new(ALL), *out = y, *lse = out + NQ, *dq = lse + NG, *dk = dq + NQ, *dv = dk + NQ,
              *dgate = dv + NQ, *dbias = dgate + NG, *dx = dbias + NB, *dw = dx + NQ, *dw2 = dw + NW;
        void *ws = kt_scratch(es_k_attention_rel_ws(&s) + es_k_conv1d_ws(&c) + es_k_rel_gate_ws(&g));
        es_k_attention_rel_fwd_fast(&s, q, q, q, gate, bias, out, lse, ws);
        es_k_attention_rel_bwd_fast(&s, q, q, q, gate, bias, out, lse, q, dq, false, dk, false, dv, false,
                                    dgate, false, dbias, false, ws);
        es_k_conv1d_dx_fast(&c, w, q, dx, false, ws);
        es_k_conv1d_dw_fast(&c, q, out, dw, false, ws);
        es_k_weight_norm_bwd_fast(64 * 16, 16, v, w, v, dw2, false, NULL, false);
        es_k_rel_gate_bwd_fast(&g, q, w, v, w, gate, dx, true, dw, true, NULL, false, NULL, false, ws);
        if (first)
            assert_memory_equal(y, first, ALL * sizeof *y);
        else
            first = y;
    }
    es_kernel_set_threads(before);
    kt_done();
}

static void mask_is_that_of_dropout(void **state) {
    (void)state;
    struct es_k_attention s = {1, 33, 2, 33, 66, 0.4, es_rng_make(1, ES_RNG_BENCH, 0, 0, 2)};
    enum { T = 33, S = 64, N = 33 * 66 };
    float *q = kt_new(N), *v = kt_new(N), *out = kt_new(N), *one = kt_new(2 * T * S),
          *mask = kt_new(2 * T * S);
    void *ws = kt_scratch(es_k_attention_rel_ws(&s));
    for (int i = 0; i < N; i++) {
        q[i] = 0; /* every probability 1/T */
        v[i] = i % 66 % 33 == i / 66;
    }
    for (int i = 0; i < 2 * T * S; i++) one[i] = 1;
    es_k_dropout_ref_f32(2 * T * S, &s.rng, 0.4, one, mask, false);
    es_k_attention_rel_fwd_fast(&s, q, q, v, NULL, NULL, out, NULL, ws);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < T; i++)
            for (int j = 0; j < T; j++)
                assert_true(fabsf(out[i * 66 + h * 33 + j] - mask[(h * T + i) * S + j] / T) < 1e-6f);
    kt_done();
}

int main(void) {
    kt_seed();
    const struct CMUnitTest tests[] = {cmocka_unit_test(attention_fast_is_reference),
                                       cmocka_unit_test(attention_properties),
                                       cmocka_unit_test(attention_gradients),
                                       cmocka_unit_test(gate_fast_is_reference),
                                       cmocka_unit_test(gate_gradients),
                                       cmocka_unit_test(conv_fast_is_reference),
                                       cmocka_unit_test(conv_gradients),
                                       cmocka_unit_test(conv_shifts),
                                       cmocka_unit_test(weight_norm_fast_is_reference),
                                       cmocka_unit_test(weight_norm_gradients),
                                       cmocka_unit_test(buckets),
                                       cmocka_unit_test(same_on_any_number_of_threads),
                                       cmocka_unit_test(mask_is_that_of_dropout)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
