/* Kernels of the CNN and of pooling over time: fast against reference, gradients of the references,
 * properties. TIMEOUT 60 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels_crnn.h"
#include "unit/crnn_test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- convolution */
static const struct es_k_conv2d convs[] = {
    {1, 1, 1, 1, 1, 3, 3, 1, 1, 1, 1},
    {2, 3, 7, 5, 4, 3, 3, 1, 1, 1, 1},
    {3, 1, 31, 40, 16, 3, 3, 1, 1, 1, 1},
    {2, 5, 156, 2, 7, 3, 3, 1, 1, 1, 1},
    {1, 17, 13, 1, 3, 3, 3, 1, 1, 1, 1},
    {2, 40, 5, 7, 19, 3, 3, 1, 1, 1, 1},
    {2, 3, 9, 11, 5, 5, 3, 2, 1, 1, 1},
    {2, 2, 6, 8, 3, 3, 3, 0, 0, 1, 1},
    {1, 2, 5, 5, 3, 2, 2, 1, 1, 1, 1},
    {1, 4, 6, 6, 5, 1, 1, 0, 0, 1, 1},
    {1, 2, 4, 4, 3, 1, 1, 1, 1, 1, 1},
    {35, 2, 3, 3, 2, 3, 3, 1, 1, 1, 1},
    {2, 8, 30, 32, 16, 3, 3, 1, 1, 1, 1},
    {1, 3, 27, 16, 33, 3, 7, 1, 3, 1, 1},
    /* by Winograd: every width, odd heights, ends of blocks */
    {2, 8, 31, 64, 16, 3, 3, 1, 1, 1, 1},
    {1, 9, 33, 32, 17, 3, 3, 1, 1, 1, 1},
    {2, 16, 65, 16, 8, 3, 3, 1, 1, 1, 1},
    {2, 13, 63, 8, 30, 3, 3, 1, 1, 1, 1},
    {3, 64, 156, 4, 64, 3, 3, 1, 1, 1, 1},
    {2, 32, 20, 2, 12, 3, 3, 1, 1, 1, 1},
    {1, 8, 16, 18, 8, 3, 3, 1, 1, 1, 1},
    /* strides: fPaSST's stem, BEATs' patches, taps that meet nothing, odd ends, kernels smaller than the stride */
    {2, 1, 14, 20, 16, 3, 3, 1, 1, 2, 2},
    {2, 3, 16, 10, 4, 3, 3, 1, 1, 2, 2},
    {1, 2, 7, 31, 5, 3, 3, 1, 1, 2, 2},
    {2, 1, 19, 16, 6, 8, 8, 0, 0, 8, 8},
    {1, 2, 9, 8, 3, 2, 3, 0, 2, 3, 1},
    {1, 3, 8, 11, 2, 1, 2, 0, 0, 3, 4},
    {1, 2, 5, 6, 3, 5, 1, 2, 0, 1, 5},
    {1, 1, 1, 1, 2, 3, 3, 1, 1, 2, 2},
    {2, 32, 16, 50, 64, 3, 3, 1, 1, 2, 2},
    {2, 1, 32, 50, 16, 3, 3, 1, 1, 2, 2},
};

static int64_t conv_out(const struct es_k_conv2d *s) {
    return es_k_conv2d_out_h(s) * es_k_conv2d_out_w(s);
}

static void conv_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(convs); i++) {
        struct es_k_conv2d s = convs[i];
        int64_t nx = s.B * s.C * s.H * s.W, ny = s.B * s.O * conv_out(&s), nw = s.O * s.C * s.kh * s.kw;
        float *x = kt_random(nx, -1, 1, NULL), *w = kt_random(nw, -1, 1, NULL),
              *b = kt_random(s.O, -1, 1, NULL);
        float *dy = kt_random(ny, -1, 1, NULL), *y = kt_new(ny), *want = kt_new(ny);
        void *ws = kt_scratch(es_k_conv2d_ws(&s));
        es_k_conv2d_fwd_fast(&s, x, w, b, y, ws);
        es_k_conv2d_fwd_ref_f32(&s, x, w, b, want, NULL);
        kt_close("conv2d_fwd", ny, y, want, 1, 1e-6);
        es_k_conv2d_fwd_fast(&s, x, w, NULL, y, ws);
        es_k_conv2d_fwd_ref_f32(&s, x, w, NULL, want, NULL);
        kt_close("conv2d_fwd without bias", ny, y, want, 1, 1e-6);
        for (int add = 0; add < 2; add++) {
            float *dx = kt_random(nx, -1, 1, NULL), *dx2 = kt_copy(nx, dx), *dw = kt_random(nw, -1, 1, NULL),
                  *dw2 = kt_copy(nw, dw);
            float *db = kt_random(s.O, -1, 1, NULL), *db2 = kt_copy(s.O, db);
            es_k_conv2d_dx_fast(&s, w, dy, dx, add, ws);
            es_k_conv2d_dx_ref_f32(&s, w, dy, dx2, add, NULL);
            kt_close("conv2d_dx", nx, dx, dx2, 1, 1e-6);
            es_k_conv2d_dw_fast(&s, x, dy, dw, add, db, add, ws);
            es_k_conv2d_dw_ref_f32(&s, x, dy, dw2, add, db2, add, NULL);
            kt_close("conv2d_dw", nw, dw, dw2, 1, 2e-6);
            kt_close("conv2d_db", s.O, db, db2, 1, 1e-6);
            es_k_conv2d_dw_fast(&s, x, dy, NULL, add, db, add, ws); /* either may be missing */
            es_k_conv2d_dw_fast(&s, x, dy, dw, add, NULL, add, ws);
        }
        kt_done();
    }
}

struct conv_case {
    struct es_k_conv2d s;
    double *x, *w, *b, *r, *y;
    int64_t ny;
};
static double conv_loss(void *ctx) {
    struct conv_case *c = ctx;
    es_k_conv2d_fwd_ref_f64(&c->s, c->x, c->w, c->b, c->y, NULL);
    return kt_dot(c->ny, c->y, c->r);
}

static void conv_gradients(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(convs); i++) {
        struct conv_case c = {.s = convs[i]};
        struct es_k_conv2d *s = &c.s;
        if (s->B * s->C * s->H * s->W > 700) continue;
        int64_t nx = s->B * s->C * s->H * s->W, nw = s->O * s->C * s->kh * s->kw;
        c.ny = s->B * s->O * conv_out(s);
        kt_random(nx, -1, 1, &c.x);
        kt_random(nw, -1, 1, &c.w);
        kt_random(s->O, -1, 1, &c.b);
        kt_random(c.ny, -1, 1, &c.r);
        c.y = kt_newd(c.ny);
        double *dx = kt_newd(nx), *dw = kt_newd(nw), *db = kt_newd(s->O);
        es_k_conv2d_dx_ref_f64(s, c.w, c.r, dx, false, NULL);
        es_k_conv2d_dw_ref_f64(s, c.x, c.r, dw, false, db, false, NULL);
        kt_gradient("conv2d x", conv_loss, &c, c.x, nx, dx, 1e-3, 1e-9); /* linear: no error of the step */
        kt_gradient("conv2d w", conv_loss, &c, c.w, nw, dw, 1e-3, 1e-9);
        kt_gradient("conv2d b", conv_loss, &c, c.b, s->O, db, 1e-3, 1e-9);
        kt_done();
    }
}

/* ---- gates */
static const struct es_k_gate gates[] = {{1, 1, 1, false},    {1, 1, 1, true},     {2, 3, 7, false},
                                         {2, 3, 7, true},     {3, 16, 250, false}, {3, 17, 31, true},
                                         {2, 33, 156, false}, {40, 5, 3, true}};

struct gate_case {
    struct es_k_gate s;
    double *x, *w, *b, *r, *y, *keep;
};
static double gate_loss(void *ctx) {
    struct gate_case *c = ctx;
    es_k_gate_fwd_ref_f64(&c->s, c->x, c->w, c->b, c->y, c->keep, NULL);
    return kt_dot(c->s.B * c->s.C * c->s.N, c->y, c->r);
}

static void gate_gradients(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct gate_case c = {.s = gates[i]};
        int64_t n = c.s.B * c.s.C * c.s.N, nw = c.s.C * c.s.C;
        kt_random(n, -2, 2, &c.x);
        kt_random(nw, -1, 1, &c.w);
        kt_random(c.s.C, -1, 1, &c.b);
        kt_random(n, -1, 1, &c.r);
        c.y = kt_newd(n);
        c.keep = kt_newd(n);
        double *dx = kt_newd(n), *dw = kt_newd(nw), *db = kt_newd(c.s.C);
        gate_loss(&c);
        double *keep = kt_newd(n);
        memcpy(keep, c.keep, (size_t)n * sizeof *keep);
        es_k_gate_bwd_ref_f64(&c.s, c.x, c.w, keep, c.r, dx, false, dw, false, db, false, NULL);
        kt_gradient("gate x", gate_loss, &c, c.x, n, dx, 1e-5, 1e-8);
        kt_gradient("gate w", gate_loss, &c, c.w, nw, dw, 1e-5, 1e-8);
        kt_gradient("gate b", gate_loss, &c, c.b, c.s.C, db, 1e-5, 1e-8);
        kt_done();
    }
}

/* ---- batch normalisation */
static const struct es_k_batchnorm norms[] = {{2, 1, 1, 1e-3, true},
                                              {2, 3, 7, 1e-3, true},
                                              {3, 16, 31, 1e-3, true},
                                              {1, 5, 250, 1e-5, true},
                                              {35, 2, 9, 1e-3, true}};

struct norm_case {
    struct es_k_batchnorm s;
    double *x, *w, *b, *r, *y, *mean, *rstd, *var, *running;
};
static double norm_loss(void *ctx) {
    struct norm_case *c = ctx;
    if (c->s.train)
        es_k_batchnorm_train_ref_f64(&c->s, c->x, c->w, c->b, c->y, c->mean, c->rstd, c->var, NULL);
    else
        es_k_batchnorm_eval_ref_f64(&c->s, c->x, c->w, c->b, c->running, c->running, c->y, c->mean, c->rstd);
    return kt_dot(c->s.B * c->s.C * c->s.N, c->y, c->r);
}

static void batchnorm_gradients(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct norm_case c = {.s = norms[i % 3]};
        c.s.train = i < 3;
        int64_t C = c.s.C, n = c.s.B * C * c.s.N;
        kt_random(n, -1, 1, &c.x);
        kt_random(C, -1, 1, &c.w);
        kt_random(C, -1, 1, &c.b);
        kt_random(n, -1, 1, &c.r);
        kt_random(C, 0.5, 1, &c.running);
        c.y = kt_newd(n);
        c.mean = kt_newd(C);
        c.rstd = kt_newd(C);
        c.var = kt_newd(C);
        norm_loss(&c);
        double *dx = kt_newd(n), *dw = kt_newd(C), *db = kt_newd(C);
        es_k_batchnorm_bwd_ref_f64(&c.s, c.x, c.w, c.mean, c.rstd, c.r, dx, false, dw, false, db, false,
                                   NULL);
        kt_gradient("batchnorm x", norm_loss, &c, c.x, n, dx, 1e-5, 1e-6);
        kt_gradient("batchnorm w", norm_loss, &c, c.w, C, dw, 1e-5, 1e-8);
        kt_gradient("batchnorm b", norm_loss, &c, c.b, C, db, 1e-5, 1e-8);
        kt_done();
    }
}

/* y does not change when x is scaled and shifted per channel (eps apart); the statistics follow. */
static void batchnorm_scale_invariance(void **state) {
    (void)state;
    struct es_k_batchnorm s = {4, 6, 50, 1e-9, true};
    int64_t n = s.B * s.C * s.N;
    float *x = kt_random(n, -1, 1, NULL), *x2 = kt_new(n), *w = kt_random(s.C, 0.5, 2, NULL),
          *b = kt_random(s.C, -1, 1, NULL);
    float *y = kt_new(n), *y2 = kt_new(n), *m = kt_new(s.C), *r = kt_new(s.C), *v = kt_new(s.C),
          *m2 = kt_new(s.C), *v2 = kt_new(s.C);
    for (int64_t i = 0; i < n; i++) x2[i] = 3.0f * x[i] + (float)(i / s.N % s.C);
    es_k_batchnorm_train_ref_f32(&s, x, w, b, y, m, r, v, NULL);
    es_k_batchnorm_train_ref_f32(&s, x2, w, b, y2, m2, r, v2, NULL);
    kt_close("batchnorm of scaled x", n, y2, y, 1, 3e-6);
    for (int64_t c = 0; c < s.C; c++) {
        assert_true(fabsf(m2[c] - (3.0f * m[c] + (float)c)) < 1e-5f);
        assert_true(fabsf(v2[c] - 9.0f * v[c]) < 1e-4f * v2[c]);
    }
    kt_done();
}

/* ---- the four in a row */
static const struct es_k_tail tails[] = {
    /* B, C, H, W, kh, kw, eps, train, glu, p */
    {2, 1, 1, 1, 1, 1, 1e-3, true, false, 0, {.left = 0}},
    {2, 3, 7, 5, 2, 2, 1e-3, true, false, 0.3, {.left = 0}},
    {3, 5, 9, 8, 1, 2, 1e-3, true, true, 0.5, {.left = 0}},
    {2, 17, 31, 16, 1, 2, 1e-3, true, false, 0.2, {.left = 0}},
    {35, 2, 5, 3, 3, 1, 1e-3, true, true, 0.1, {.left = 0}},
    {2, 64, 39, 2, 1, 2, 1e-3, true, false, 0.2, {.left = 0}},
    {2, 8, 21, 128, 2, 2, 1e-3, true, false, 0.2, {.left = 0}},
    {1, 130, 13, 4, 1, 4, 1e-3, true, true, 0, {.left = 0}},
};

static void tail_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < 2 * COUNT(tails); i++) {
        struct es_k_tail s = tails[i / 2];
        s.train = i % 2 == 0;
        s.rng = es_rng_make(kt.rng.ctr[3], ES_RNG_STUDENT_DROPOUT, 5, (uint32_t)i, 2);
        int64_t C = s.C, n = s.B * C * s.H * s.W, out = s.B * C * (s.H / s.kh) * (s.W / s.kw);
        const int64_t sizes[4] = {C, C, C * C, C};
        float *x = kt_random(n, 0, 3, NULL), *dy = kt_random(out, -1, 1, NULL),
              *mu = kt_random(C, -1, 1, NULL), *var = kt_random(C, 0.1, 2, NULL);
        float *y = kt_new(out), *want = kt_new(out), *keep = kt_new(n), *keep2 = kt_new(n), *dx = kt_new(n),
              *dx2 = kt_new(n), *stat[3], *stat2[3], *w[4], *dw[4], *dw2[4];
        const float *const running[2] = {mu, var};
        for (int k = 0; k < 3; k++) {
            stat[k] = kt_new(C);
            stat2[k] = kt_new(C);
        }
        for (int k = 0; k < 4; k++) w[k] = kt_random(sizes[k], -1, 1, NULL);
        const float *const cw[4] = {w[0], w[1], w[2], w[3]};
        void *ws = kt_scratch(es_k_tail_ws(&s)), *ws2 = kt_scratch((size_t)es_k_tail_ref_values(&s) * 4);
        es_k_tail_fwd_fast(&s, x, cw, running, stat[0], stat[1], stat[2], y, NULL, ws);
        es_k_tail_fwd_ref_f32(&s, x, cw, running, stat2[0], stat2[1], stat2[2], want, keep2, ws2);
        kt_close("tail y", out, y, want, 0.1, 3e-6);
        es_k_tail_fwd_fast(&s, x, cw, running, stat[0], stat[1], stat[2], y, keep, ws);
        kt_close("tail y", out, y, want, 0.1, 3e-6);
        for (int k = 0; k < (s.train ? 3 : 2); k++)
            kt_close("tail statistics", C, stat[k], stat2[k], 0, 1e-6);
        for (int64_t plane = 0; plane < s.B * C; plane++)
            kt_close("tail keep", s.H / s.kh * s.kh * s.W, keep + plane * s.H * s.W,
                     keep2 + plane * s.H * s.W, 0.1, 3e-6);
        for (int add = 0; add < 2; add++) {
            const bool adds[4] = {add, add, add, add};
            float *none[4] = {NULL, NULL, NULL, NULL};
            for (int k = 0; k < 4; k++) {
                dw[k] = kt_random(sizes[k], -1, 1, NULL);
                dw2[k] = kt_copy(sizes[k], dw[k]);
            }
            es_k_tail_bwd_fast(&s, x, cw, stat2[0], stat2[1], keep2, dy, dx, dw, adds, ws);
            es_k_tail_bwd_ref_f32(&s, x, cw, stat2[0], stat2[1], keep2, dy, dx2, dw2, adds, ws2);
            kt_close("tail dx", n, dx, dx2, 0.1, 5e-6);
            for (int k = 0; k < 4; k++) kt_close("tail dw", sizes[k], dw[k], dw2[k], 0.1, 5e-6);
            es_k_tail_bwd_fast(&s, x, cw, stat2[0], stat2[1], keep2, dy, dx, none, adds, ws);
            kt_close("tail dx alone", n, dx, dx2, 0.1, 5e-6);
        }
        kt_done();
    }
}

/* ---- dropout */
static void dropout_masks(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 3, 4, 7, 31, 32, 33, 250, 1000, 70001};
    static const double ps[] = {0, 0.1, 0.3, 0.5, 0.999};
    for (int i = 0; i < COUNT(sizes); i++)
        for (int k = 0; k < COUNT(ps); k++) {
            int64_t n = sizes[i];
            struct es_rng rng = es_rng_make(kt.rng.ctr[3], ES_RNG_STUDENT_DROPOUT, 5, (uint32_t)i, 2);
            float *x = kt_random(n, 1, 2, NULL), *y = kt_new(n), *want = kt_new(n),
                  *g = kt_random(n, 1, 2, NULL), *d = kt_copy(n, g);
            es_k_dropout_fast(n, &rng, ps[k], x, y, false);
            es_k_dropout_ref_f32(n, &rng, ps[k], x, want, false);
            assert_memory_equal(y, want, (size_t)n * sizeof *y);
            es_k_dropout_fast(n, &rng, ps[k], x, d, true); /* backward: the same mask, added */
            float scale = (float)(1 / (1 - ps[k]));
            double kept = 0;
            for (int64_t e = 0; e < n; e++) {
                assert_true(y[e] == 0 || y[e] == x[e] * scale);
                assert_true(d[e] == g[e] + y[e]);
                kept += y[e] != 0;
            }
            if (n > 50000)
                assert_true(fabs(kept / (double)n - (1 - ps[k])) <
                            5 * sqrt(ps[k] * (1 - ps[k]) / (double)n) + 1e-12);
            kt_done();
        }
}

/* Kept when the draw equals p, dropped when p is the next number. */
static void dropout_at_the_border(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        struct es_rng rng = es_rng_make(kt.rng.ctr[3], ES_RNG_STUDENT_DROPOUT, i, 0, 0), copy = rng;
        uint32_t draw = es_rng_u32(&copy) >> 8;
        float x = 1, kept, dropped;
        es_k_dropout_fast(1, &rng, (double)draw * 0x1p-24, &x, &kept, false);
        es_k_dropout_fast(1, &rng, fmin((double)draw + 1, 0xffffff) * 0x1p-24, &x, &dropped, false);
        assert_true(kept >= 1 && (dropped == 0 || draw == 0xffffff));
    }
}

static void dropout_keeps_the_mean(void **state) {
    (void)state;
    int64_t n = 1 << 18;
    struct es_rng rng = es_rng_make(kt.rng.ctr[3], ES_RNG_TEACHER_DROPOUT, 1, 2, 3);
    float *x = kt_random(n, 1, 1, NULL), *y = kt_new(n);
    es_k_dropout_fast(n, &rng, 0.5, x, y, false);
    double sum = 0, neighbours = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)y[i];
    for (int64_t i = 1; i < n; i++) neighbours += (double)(y[i] - 1) * (double)(y[i - 1] - 1);
    assert_true(fabs(sum / (double)n - 1) < 5 / sqrt((double)n));
    assert_true(fabs(neighbours / (double)n) < 5 / sqrt((double)n));
    kt_done();
}

/* ---- pooling, layout, time: linear maps, so backward is checked as the transpose of forward */
static const struct es_k_avgpool2d pools[] = {{1, 1, 1, 1, 1},   {2, 7, 5, 2, 2},   {3, 6, 8, 2, 2},
                                              {4, 13, 16, 1, 2}, {2, 156, 2, 1, 2}, {2, 9, 7, 1, 2},
                                              {2, 31, 11, 3, 4}, {3, 5, 3, 2, 1}};

static void avgpool_backward_is_its_transpose(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(pools); i++) {
        struct es_k_avgpool2d s = pools[i];
        int64_t nx = s.planes * s.H * s.W, ny = s.planes * (s.H / s.kh) * (s.W / s.kw);
        double *dxd = kt_newd(nx), *yd = kt_newd(ny), *xd, *rd;
        kt_random(nx, -1, 1, &xd);
        kt_random(ny, -1, 1, &rd);
        es_k_avgpool2d_fwd_ref_f64(&s, xd, yd);
        es_k_avgpool2d_bwd_ref_f64(&s, rd, dxd, false);
        assert_true(fabs(kt_dot(ny, yd, rd) - kt_dot(nx, xd, dxd)) < 1e-12 * (double)nx);
        kt_done();
    }
}

static void transpose_is_exact(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {2, 3, 7}, {3, 128, 156}, {1, 9, 250}, {2, 31, 8}};
    for (int i = 0; i < COUNT(shapes); i++) {
        int64_t B = shapes[i][0], r = shapes[i][1], c = shapes[i][2], n = B * r * c;
        float *x = kt_random(n, -1, 1, NULL), *y = kt_new(n), *want = kt_new(n),
              *back = kt_random(n, 0, 0, NULL);
        es_k_transpose_fast(B, r, c, x, y, false);
        es_k_transpose_ref_f32(B, r, c, x, want, false);
        assert_memory_equal(y, want, (size_t)n * sizeof *y);
        es_k_transpose_fast(B, c, r, y, back, true);
        assert_memory_equal(back, x, (size_t)n * sizeof *x);
        kt_done();
    }
}

static const struct es_k_time times[] = {
    {ES_TIME_POOL, 2, 250, 5, 156},
    {ES_TIME_POOL, 1, 496, 3, 156},
    {ES_TIME_POOL, 2, 7, 9, 1},
    {ES_TIME_POOL, 1, 3, 4, 7},
    {ES_TIME_NEAREST, 2, 250, 3, 156},
    {ES_TIME_NEAREST_EXACT, 2, 496, 31, 156},
    {ES_TIME_NEAREST_EXACT, 1, 19, 8, 25},
    {ES_TIME_LINEAR, 2, 19, 7, 25},
    {ES_TIME_LINEAR, 1, 40, 3, 25},
    {ES_TIME_LINEAR, 2, 1, 5, 4},
    {ES_TIME_NEAREST, 1, 1, 1, 1},
    {ES_TIME_LINEAR, 1, 250, 33, 156},
};

static void time_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < COUNT(times); i++) {
        struct es_k_time s = times[i];
        int64_t nx = s.B * s.T * s.D, ny = s.B * s.n * s.D;
        double *dxd = kt_newd(nx), *yd = kt_newd(ny), *xd, *rd;
        float *x = kt_random(nx, -1, 1, &xd), *r = kt_random(ny, -1, 1, &rd), *y = kt_new(ny),
              *want = kt_new(ny);
        es_k_time_fwd_fast(&s, x, y);
        es_k_time_fwd_ref_f32(&s, x, want);
        kt_close("time_fwd", ny, y, want, 1, 5e-7);
        for (int add = 0; add < 2; add++) {
            float *dx = kt_random(nx, -1, 1, NULL), *dx2 = kt_copy(nx, dx);
            es_k_time_bwd_fast(&s, r, dx, add);
            es_k_time_bwd_ref_f32(&s, r, dx2, add);
            kt_close("time_bwd", nx, dx, dx2, 1, 5e-7);
        }
        es_k_time_fwd_ref_f64(&s, xd, yd);
        es_k_time_bwd_ref_f64(&s, rd, dxd, false);
        assert_true(fabs(kt_dot(ny, yd, rd) - kt_dot(nx, xd, dxd)) < 1e-12 * (double)(nx + ny));
        for (int64_t k = 0; k < s.n; k++) { /* weights sum to one, windows lie inside */
            struct es_time_window w = es_k_time_window(&s, k);
            assert_true(w.s0 >= 0 && w.count >= 1 && w.s0 + w.count <= s.T);
            assert_true(fabs(w.first + (double)(w.count - 1) * w.rest - 1) < 1e-12);
        }
        kt_done();
    }
}

/* spec/models.md: the tie of T = 496, i = 19 goes to 62; 250 -> 156 averages windows of 2 or 3. */
static void time_windows_of_the_recipe(void **state) {
    (void)state;
    struct es_k_time exact = {ES_TIME_NEAREST_EXACT, 1, 496, 1, 156}, pool = {ES_TIME_POOL, 1, 250, 1, 156};
    assert_int_equal(es_k_time_window(&exact, 19).s0, 62);
    assert_int_equal(es_k_time_window(&exact, 155).s0, 494);
    for (int64_t i = 0; i < 156; i++) {
        struct es_time_window w = es_k_time_window(&pool, i);
        assert_true(w.count == 2 || w.count == 3);
    }
}

/* ---- GRU and LSTM: both cells at every shape */
static const struct es_k_birnn rnns[] = {{1, 1, 1, 1, ES_CELL_GRU},   {1, 1, 5, 6, ES_CELL_GRU},
                                         {2, 20, 12, 9, ES_CELL_GRU}, {7, 31, 3, 16, ES_CELL_GRU},
                                         {3, 9, 17, 33, ES_CELL_GRU}, {13, 5, 40, 64, ES_CELL_GRU},
                                         {1, 156, 7, 31, ES_CELL_GRU}};

struct rnn_data { /* everything twice: float and double */
    float *x, *w[8], *dy;
    double *xd, *wd[8], *dyd;
    int64_t n_w[8], nx, ny, ng;
};

static struct rnn_data rnn_data(const struct es_k_birnn *s) {
    struct rnn_data d;
    int64_t H = s->H, rows = es_k_birnn_rows(s), n[4] = {rows * s->D, rows * H, rows, rows};
    d.nx = s->B * s->T * s->D;
    d.ny = s->B * s->T * 2 * H;
    d.ng = es_k_birnn_kept(s);
    d.x = kt_random(d.nx, -1, 1, &d.xd);
    d.dy = kt_random(d.ny, -1, 1, &d.dyd);
    double scale = 1.5 / sqrt((double)H);
    for (int i = 0; i < 8; i++) {
        d.n_w[i] = n[i % 4];
        d.w[i] = kt_random(n[i % 4], -scale, scale, &d.wd[i]);
    }
    return d;
}

static void rnn_fast_is_reference(void **state) {
    (void)state;
    static const char *names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    for (int i = 0; i < 2 * COUNT(rnns); i++) {
        struct es_k_birnn s = rnns[i / 2];
        s.cell = i % 2 ? ES_CELL_LSTM : ES_CELL_GRU;
        struct rnn_data d = rnn_data(&s);
        const float *w[8];
        for (int k = 0; k < 8; k++) w[k] = d.w[k];
        float *y = kt_new(d.ny), *y2 = kt_new(d.ny), *g = kt_new(d.ng), *g2 = kt_new(d.ng);
        void *ws = kt_scratch(es_k_birnn_fwd_ws(&s)), *ws2 = kt_scratch(es_k_birnn_bwd_ws(&s));
        es_k_birnn_fwd_fast(&s, d.x, w, y, g, ws);
        es_k_birnn_fwd_ref_f32(&s, d.x, w, y2, g2, NULL);
        kt_close("rnn y", d.ny, y, y2, 1, 2e-6);
        kt_close("rnn gates", d.ng, g, g2, 1, 2e-6);
        for (int add = 0; add < 2; add++) {
            float *dx = kt_random(d.nx, -1, 1, NULL), *dx2 = kt_copy(d.nx, dx), *dw[8], *dw2[8],
                  *a = kt_copy(d.ng, g2), *b = kt_copy(d.ng, g2);
            bool adds[8];
            for (int k = 0; k < 8; k++) {
                dw[k] = kt_random(d.n_w[k], -1, 1, NULL);
                dw2[k] = kt_copy(d.n_w[k], dw[k]);
                adds[k] = add;
            }
            es_k_birnn_bwd_fast(&s, d.x, w, y2, a, d.dy, dx, add, dw, adds, ws2);
            es_k_birnn_bwd_ref_f32(&s, d.x, w, y2, b, d.dy, dx2, add, dw2, adds, ws2);
            kt_close("rnn dx", d.nx, dx, dx2, 1, 3e-6);
            for (int k = 0; k < 8; k++) kt_close(names[k % 4], d.n_w[k], dw[k], dw2[k], 1, 3e-6);
            float *none[8] = {0};
            memcpy(a, g2, (size_t)d.ng * sizeof *a);
            es_k_birnn_bwd_fast(&s, d.x, w, y2, a, d.dy, NULL, add, none, adds, ws2);
        }
        kt_done();
    }
}

struct rnn_case {
    struct es_k_birnn s;
    struct rnn_data d;
    double *y, *gates;
};
static double rnn_loss(void *ctx) {
    struct rnn_case *c = ctx;
    const double *w[8];
    for (int k = 0; k < 8; k++) w[k] = c->d.wd[k];
    es_k_birnn_fwd_ref_f64(&c->s, c->d.xd, w, c->y, c->gates, NULL);
    return kt_dot(c->d.ny, c->y, c->d.dyd);
}

static void rnn_gradients(void **state) {
    (void)state;
    static const struct es_k_birnn shapes[] = {
        {1, 1, 1, 1, ES_CELL_GRU}, {2, 4, 3, 5, ES_CELL_GRU}, {1, 7, 2, 3, ES_CELL_GRU}};
    for (int i = 0; i < 2 * COUNT(shapes); i++) {
        struct rnn_case c = {.s = shapes[i / 2]};
        c.s.cell = i % 2 ? ES_CELL_LSTM : ES_CELL_GRU;
        c.d = rnn_data(&c.s);
        c.y = kt_newd(c.d.ny);
        c.gates = kt_newd(c.d.ng);
        double *y = kt_newd(c.d.ny), *gates_kept = kt_newd(c.d.ng), *dx = kt_newd(c.d.nx), *dw[8],
               *ws = kt_newd(2 * c.s.H);
        const double *w[8];
        bool add[8] = {false};
        for (int k = 0; k < 8; k++) {
            dw[k] = kt_newd(c.d.n_w[k]);
            w[k] = c.d.wd[k];
        }
        rnn_loss(&c);
        memcpy(y, c.y, (size_t)c.d.ny * sizeof *y);
        memcpy(gates_kept, c.gates, (size_t)c.d.ng * sizeof *gates_kept);
        es_k_birnn_bwd_ref_f64(&c.s, c.d.xd, w, y, gates_kept, c.d.dyd, dx, false, dw, add, ws);
        kt_gradient("rnn x", rnn_loss, &c, c.d.xd, c.d.nx, dx, 1e-5, 1e-7);
        for (int k = 0; k < 8; k++)
            kt_gradient("rnn w", rnn_loss, &c, c.d.wd[k], c.d.n_w[k], dw[k], 1e-5, 1e-7);
        kt_done();
    }
}

/* Time turned around and the directions' weights exchanged: the output is turned around, its halves
 * exchanged; same bits. */
static void rnn_time_reversal(void **state) {
    (void)state;
    for (int cell = ES_CELL_GRU; cell <= ES_CELL_LSTM; cell++) {
        struct es_k_birnn s = {3, 17, 6, 20, (enum es_rnn_cell)cell};
        struct rnn_data d = rnn_data(&s);
        const float *w[8], *v[8];
        float *x = kt_new(d.nx), *y = kt_new(d.ny), *z = kt_new(d.ny), *g = kt_new(d.ng);
        void *ws = kt_scratch(es_k_birnn_fwd_ws(&s));
        for (int k = 0; k < 8; k++) {
            w[k] = d.w[k];
            v[k] = d.w[(k + 4) % 8];
        }
        for (int64_t b = 0; b < s.B; b++)
            for (int64_t t = 0; t < s.T; t++)
                memcpy(x + (b * s.T + t) * s.D, d.x + (b * s.T + s.T - 1 - t) * s.D, (size_t)s.D * sizeof *x);
        es_k_birnn_fwd_fast(&s, d.x, w, y, g, ws);
        es_k_birnn_fwd_fast(&s, x, v, z, g, ws);
        for (int64_t b = 0; b < s.B; b++)
            for (int64_t t = 0; t < s.T; t++)
                for (int half = 0; half < 2; half++) {
                    const float *p = y + (b * s.T + t) * 2 * s.H + half * s.H;
                    const float *q = z + (b * s.T + s.T - 1 - t) * 2 * s.H + (1 - half) * s.H;
                    assert_memory_equal(p, q, (size_t)s.H * sizeof *p);
                }
        kt_done();
    }
}

static void activations_are_accurate(void **state) {
    (void)state;
    int64_t n = 200001;
    float *x = kt_new(n), *s = kt_new(n), *t = kt_new(n);
    for (int64_t i = 0; i < n; i++) x[i] = (float)((double)(i - n / 2) * (i % 3 ? 1e-4 : 2e-3));
    x[0] = -HUGE_VALF;
    x[1] = HUGE_VALF;
    x[2] = 0;
    x[3] = 1e-30f;
    es_k_activations_fast(n, x, s, t);
    double worst = 0;
    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)s[i] - 1 / (1 + exp(-(double)x[i]))));
        worst = fmax(worst, fabs((double)t[i] - tanh((double)x[i])));
    }
    printf("sigmoid, tanh: largest error %.2g\n", worst);
    assert_true(worst <= 3e-7);
    assert_true(t[3] == 1e-30f); /* relative accuracy near 0 */
    x[0] = NAN;
    es_k_activations_fast(1, x, s, t);
    assert_true(isnan(s[0]) && isnan(t[0]));
    kt_done();
}

/* ---- the same bits for 1, 2, 3 and 7 threads */
struct run_all { /* results of one pass over the kernels that run in parallel */
    float *out[12];
    int64_t n[12];
};

static void threads_change_nothing(void **state) {
    (void)state;
    int threads_before = es_kernel_threads();
    struct es_k_conv2d c = {9, 8, 40, 16, 16, 3, 3, 1, 1, 1, 1},
                       two = c; /* two clips: channels are shared, too */
    two.B = 2;
    struct es_k_conv2d deep = {9, 16, 40, 16, 16, 3, 3, 1, 1, 1, 1}; /* by Winograd */
    struct es_k_tail g = {
        .B = 9, .C = 16, .H = 40, .W = 16, .kh = 1, .kw = 2, .eps = 1e-3, .train = true, .p = 0.3};
    g.rng = es_rng_make(1, ES_RNG_STUDENT_DROPOUT, 1, 2, 3);
    struct es_k_birnn r = {7, 12, 16, 48, ES_CELL_GRU}, l = {7, 12, 16, 48, ES_CELL_LSTM};
    struct rnn_data d = rnn_data(&r), e = rnn_data(&l);
    int64_t nx = 9 * 8 * 640, ny = 9 * 16 * 640, nw = 16 * 8 * 9;
    float *x = kt_random(nx, -1, 1, NULL), *w = kt_random(nw, -1, 1, NULL), *b = kt_random(16, -1, 1, NULL);
    float *w2 = kt_random(256, -1, 1, NULL), *w3 = kt_random(16 * 144, -1, 1, NULL),
          *dy = kt_random(ny, -1, 1, NULL);
    struct run_all first = {0};
    static const int threads[] = {1, 2, 3, 7};
    for (int i = 0; i < COUNT(threads); i++) {
        es_kernel_set_threads(threads[i]);
        struct run_all a = {.n = {ny, ny / 2, nx, nw, ny, 256, d.ny, d.nx, nw, e.ny, e.nx, ny}};
        for (int k = 0; k < 12; k++) a.out[k] = kt_new(a.n[k]);
        float *keep = kt_new(ny), *db = kt_new(16), *mean = kt_new(16), *rstd = kt_new(16), *var = kt_new(16),
              *gates_kept = kt_new(d.ng > e.ng ? d.ng : e.ng);
        float *dw[8] = {0};
        const float *v[8];
        bool add[8] = {false};
        for (int k = 0; k < 8; k++) v[k] = d.w[k];
        es_k_conv2d_fwd_fast(&c, x, w, b, a.out[0], kt_scratch(es_k_conv2d_ws(&c)));
        es_k_conv2d_dx_fast(&c, w, dy, a.out[2], false, kt_scratch(es_k_conv2d_ws(&c)));
        es_k_conv2d_dw_fast(&c, x, dy, a.out[3], false, db, false, kt_scratch(es_k_conv2d_ws(&c)));
        es_k_conv2d_dw_fast(&two, x, dy, a.out[8], false, db, false, kt_scratch(es_k_conv2d_ws(&two)));
        const float *const tail[4] = {b, b, w2, b};
        float *dtail[4] = {NULL, NULL, a.out[5], db};
        void *ws = kt_scratch(es_k_tail_ws(&g));
        es_k_tail_fwd_fast(&g, a.out[0], tail, NULL, mean, rstd, var, a.out[1], keep, ws);
        es_k_tail_bwd_fast(&g, a.out[0], tail, mean, rstd, keep, dy, a.out[4], dtail, add, ws);
        es_k_conv2d_fwd_fast(&deep, a.out[0], w3, b, a.out[11], kt_scratch(es_k_conv2d_ws(&deep)));
        es_k_birnn_fwd_fast(&r, d.x, v, a.out[6], gates_kept, kt_scratch(es_k_birnn_fwd_ws(&r)));
        es_k_birnn_bwd_fast(&r, d.x, v, a.out[6], gates_kept, d.dy, a.out[7], false, dw, add,
                            kt_scratch(es_k_birnn_bwd_ws(&r)));
        for (int k = 0; k < 8; k++) v[k] = e.w[k];
        es_k_birnn_fwd_fast(&l, e.x, v, a.out[9], gates_kept, kt_scratch(es_k_birnn_fwd_ws(&l)));
        es_k_birnn_bwd_fast(&l, e.x, v, a.out[9], gates_kept, e.dy, a.out[10], false, dw, add,
                            kt_scratch(es_k_birnn_bwd_ws(&l)));
        if (i == 0) first = a;
        for (int k = 0; k < 12; k++)
            assert_memory_equal(a.out[k], first.out[k], (size_t)a.n[k] * sizeof(float));
    }
    es_kernel_set_threads(threads_before);
    kt_done();
}

int main(void) {
    kt_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_fast_is_reference),
        cmocka_unit_test(conv_gradients),
        cmocka_unit_test(gate_gradients),
        cmocka_unit_test(tail_fast_is_reference),
        cmocka_unit_test(batchnorm_gradients),
        cmocka_unit_test(batchnorm_scale_invariance),
        cmocka_unit_test(dropout_masks),
        cmocka_unit_test(dropout_at_the_border),
        cmocka_unit_test(dropout_keeps_the_mean),
        cmocka_unit_test(avgpool_backward_is_its_transpose),
        cmocka_unit_test(transpose_is_exact),
        cmocka_unit_test(time_fast_is_reference),
        cmocka_unit_test(time_windows_of_the_recipe),
        cmocka_unit_test(rnn_fast_is_reference),
        cmocka_unit_test(rnn_gradients),
        cmocka_unit_test(rnn_time_reversal),
        cmocka_unit_test(activations_are_accurate),
        cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
