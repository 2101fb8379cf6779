/* Attention pooling over classes, losses, log-mel scaling, and check mode: fast against reference, gradients.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels_crnn.h"
#include "unit/crnn_test.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- attention pooling */
static const struct es_k_class_pool pools[] = {{1, 1, 1, -1e30},  {2, 7, 3, -1e4},    {3, 156, 27, -1e30},
                                               {2, 9, 16, -1e30}, {1, 31, 447, -1e4}, {35, 3, 5, -1e30}};

static uint8_t *random_mask(const struct es_k_class_pool *s) {
    uint8_t *m = kt_block((size_t)(s->B * s->K), 3);
    for (int64_t i = 0; i < s->B * s->K; i++) m[i] = i % s->K == 0 || kt_uniform(0, 1) < 0.6;
    return m;
}

static void class_pool_fast_is_reference(void **state) {
    (void)state;
    for (int i = 0; i < 2 * COUNT(pools); i++) {
        struct es_k_class_pool s = pools[i / 2];
        int64_t n = s.B * s.T * s.K, nw = s.B * s.K;
        /* wide logits: some weights fall below the clamp */
        float *z = kt_random(n, -6, 6, NULL), *a = kt_random(n, -12, 12, NULL);
        uint8_t *mask = i % 2 ? random_mask(&s) : NULL;
        float *strong = kt_new(n), *weak = kt_new(nw), *soft = kt_new(n), *strong2 = kt_new(n),
              *weak2 = kt_new(nw), *soft2 = kt_new(n);
        void *ws = kt_scratch(es_k_class_pool_ws(&s));
        es_k_class_pool_fwd_fast(&s, z, a, mask, strong, weak, soft, ws);
        es_k_class_pool_fwd_ref_f32(&s, z, a, mask, strong2, weak2, soft2, NULL);
        kt_close("strong", n, strong, strong2, 0, 5e-7);
        kt_close("weak", nw, weak, weak2, 0, 2e-6);
        kt_close("soft", n, soft, soft2, 0, 3e-6);
        for (int64_t k = 0; mask && k < nw; k++)
            if (!mask[k]) assert_true(weak[k] == 0 && strong[k * s.T] == 0);
        float *ds = kt_random(n, -1, 1, NULL), *dw = kt_random(nw, -1, 1, NULL);
        for (int flows = 1; flows < 4; flows++)
            for (int add = 0; add < 2; add++) {
                float *dz = kt_random(n, -1, 1, NULL), *dz2 = kt_copy(n, dz), *da = kt_random(n, -1, 1, NULL),
                      *da2 = kt_copy(n, da);
                const float *p = flows & 1 ? ds : NULL, *q = flows & 2 ? dw : NULL;
                es_k_class_pool_bwd_fast(&s, mask, strong2, weak2, soft2, p, q, dz, add, da, add, ws);
                es_k_class_pool_bwd_ref_f32(&s, mask, strong2, weak2, soft2, p, q, dz2, add, da2, add, ws);
                kt_close("class_pool dz", n, dz, dz2, add ? 1 : 1e-6, 2e-6);
                kt_close("class_pool da", n, da, da2, add ? 1 : 1e-6, 2e-6);
                es_k_class_pool_bwd_fast(&s, mask, strong2, weak2, soft2, p, q, NULL, add, NULL, add, ws);
            }
        kt_done();
    }
}

struct pool_case {
    struct es_k_class_pool s;
    const uint8_t *mask;
    double *z, *a, *strong, *weak, *soft, *rs, *rw;
};
static double pool_loss(void *ctx) {
    struct pool_case *c = ctx;
    es_k_class_pool_fwd_ref_f64(&c->s, c->z, c->a, c->mask, c->strong, c->weak, c->soft, NULL);
    return kt_dot(c->s.B * c->s.T * c->s.K, c->strong, c->rs) + kt_dot(c->s.B * c->s.K, c->weak, c->rw);
}

static void class_pool_gradients(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct pool_case c = {.s = pools[i / 2]};
        if (i >= 4) c.s.T = 5;
        int64_t n = c.s.B * c.s.T * c.s.K, nw = c.s.B * c.s.K;
        c.mask = i % 2 ? random_mask(&c.s) : NULL;
        kt_random(n, -2, 2, &c.z);
        kt_random(n, -2, 2, &c.a); /* away from the kinks of the clamp */
        kt_random(n, -1, 1, &c.rs);
        kt_random(nw, -1, 1, &c.rw);
        c.strong = kt_newd(n);
        c.weak = kt_newd(nw);
        c.soft = kt_newd(n);
        double *dz = kt_newd(n), *da = kt_newd(n), *ws = kt_newd(c.s.K);
        pool_loss(&c);
        es_k_class_pool_bwd_ref_f64(&c.s, c.mask, c.strong, c.weak, c.soft, c.rs, c.rw, dz, false, da, false,
                                    ws);
        kt_gradient("class_pool z", pool_loss, &c, c.z, n, dz, 1e-5, 1e-7);
        kt_gradient("class_pool a", pool_loss, &c, c.a, n, da, 1e-5, 1e-7);
        kt_done();
    }
}

/* The order of classes and that of frames do not matter. */
static void class_pool_permutation(void **state) {
    (void)state;
    struct es_k_class_pool s = {1, 12, 27, -1e30};
    int64_t n = s.T * s.K, perm[27];
    float *z = kt_random(n, -3, 3, NULL), *a = kt_random(n, -3, 3, NULL), *z2 = kt_new(n), *a2 = kt_new(n);
    float *strong = kt_new(n), *weak = kt_new(s.K), *soft = kt_new(n), *strong2 = kt_new(n),
          *weak2 = kt_new(s.K);
    es_rng_permutation(&kt.rng, s.K, perm);
    for (int64_t t = 0; t < s.T; t++)
        for (int64_t k = 0; k < s.K; k++) {
            z2[t * s.K + k] = z[(s.T - 1 - t) * s.K + perm[k]];
            a2[t * s.K + k] = a[(s.T - 1 - t) * s.K + perm[k]];
        }
    void *ws = kt_scratch(es_k_class_pool_ws(&s));
    es_k_class_pool_fwd_fast(&s, z, a, NULL, strong, weak, soft, ws);
    es_k_class_pool_fwd_fast(&s, z2, a2, NULL, strong2, weak2, soft, ws);
    for (int64_t k = 0; k < s.K; k++) {
        assert_true(fabsf(weak2[k] - weak[perm[k]]) < 1e-6f);
        for (int64_t t = 0; t < s.T; t++)
            assert_true(strong2[k * s.T + t] == strong[perm[k] * s.T + s.T - 1 - t]);
    }
    kt_done();
}

/* ---- losses */
struct loss_case {
    struct es_k_loss s;
    double *p, *y;
};
static double loss_sum(void *ctx) {
    struct loss_case *c = ctx;
    double sum = 0, row[8];
    es_k_loss_fwd_ref_f64(&c->s, c->p, c->y, row);
    for (int64_t r = 0; r < c->s.rows; r++) sum += row[r];
    return 0.7 * sum;
}

static void losses(void **state) {
    (void)state;
    static const uint8_t some[] = {1, 0, 1, 1, 0};
    static const int64_t inner[] = {1, 3, 31, 156};
    for (int i = 0; i < 24; i++) {
        enum es_loss_kind kind = (enum es_loss_kind)(i % 3);
        struct loss_case c = {.s = {kind, 1 + i % 4, 5, inner[i / 3 % 4], i >= 12 ? some : NULL}};
        int64_t n = c.s.rows * 5 * c.s.inner;
        bool logits = kind == ES_LOSS_BCE_LOGITS;
        float *p = kt_random(n, logits ? -9 : 0.02, logits ? 9 : 0.98, &c.p), *y = kt_random(n, 0, 1, &c.y);
        double row[4], want[4];
        es_k_loss_fwd_fast(&c.s, p, y, row);
        es_k_loss_fwd_ref_f32(&c.s, p, y, want);
        for (int64_t r = 0; r < c.s.rows; r++) assert_true(fabs(row[r] - want[r]) <= 5e-7 * want[r]);
        for (int add = 0; add < 2; add++) {
            float *d = kt_random(n, -1, 1, NULL), *d2 = kt_copy(n, d);
            es_k_loss_bwd_fast(&c.s, p, y, 0.7, d, add);
            es_k_loss_bwd_ref_f32(&c.s, p, y, 0.7, d2, add);
            kt_close("loss gradient", n, d, d2, 0, 1e-6);
        }
        double *d = kt_newd(n);
        es_k_loss_bwd_ref_f64(&c.s, c.p, c.y, 0.7, d, false);
        kt_gradient("loss", loss_sum, &c, c.p, n, d, 1e-5, 2e-7);
        kt_done();
    }
}

/* Values where logarithms end: every element alone, fast and reference. */
static void losses_at_the_edges(void **state) {
    (void)state;
    static const float edge[] = {0.0f, 1.0f, 1e-45f, 1e-38f, 1e-30f, 1e-8f, 6e-8f, 0.5f, 0.99999994f};
    for (int i = 0; i < COUNT(edge); i++)
        for (int k = 0; k < 5; k++) {
            struct es_k_loss s = {ES_LOSS_BCE, 1, 1, 1, NULL};
            float p = edge[i], y = 0.25f * (float)k, d, d2;
            double got, want;
            es_k_loss_fwd_fast(&s, &p, &y, &got);
            es_k_loss_fwd_ref_f32(&s, &p, &y, &want);
            if (fabs(got - want) > 1e-6 * fabs(want) + 1e-30)
                fail_msg("p %g y %g: loss %.9g, want %.9g", (double)p, (double)y, got, want);
            es_k_loss_bwd_fast(&s, &p, &y, 1, &d, false);
            es_k_loss_bwd_ref_f32(&s, &p, &y, 1, &d2, false);
            if (fabsf(d - d2) > 1e-6f * fabsf(d2))
                fail_msg("p %g y %g: gradient %.9g, want %.9g", (double)p, (double)y, (double)d, (double)d2);
        }
    static const float logit[] = {-1e4f, -100, -50, -20, -1e-3f, 0, 1e-3f, 20, 50, 100, 1e4f};
    for (int i = 0; i < COUNT(logit); i++)
        for (int k = 0; k < 3; k++) {
            struct es_k_loss s = {ES_LOSS_BCE_LOGITS, 1, 1, 1, NULL};
            float x = logit[i], y = 0.5f * (float)k;
            double got, want;
            es_k_loss_fwd_fast(&s, &x, &y, &got);
            es_k_loss_fwd_ref_f32(&s, &x, &y, &want);
            if (fabs(got - want) > 1e-6 * fabs(want) + 1e-37)
                fail_msg("x %g y %g: loss %.9g, want %.9g", (double)x, (double)y, got, want);
        }
}

/* A NaN anywhere must reach the loss: the trainer looks for it there. */
static void losses_pass_nan_on(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        struct es_k_loss s = {(enum es_loss_kind)kind, 1, 3, 7, NULL};
        float *p = kt_random(21, 0.1, 0.9, NULL), *y = kt_random(21, 0, 1, NULL), *d = kt_new(21);
        double row;
        p[19] = NAN;
        es_k_loss_fwd_fast(&s, p, y, &row);
        assert_true(isnan(row));
        es_k_loss_bwd_fast(&s, p, y, 1, d, false);
        assert_true(isnan(d[19]) && !isnan(d[18]));
        kt_done();
    }
}

/* ---- log-mel scaling */
static void crnn_log_is_reference(void **state) {
    (void)state;
    static const int64_t shapes[][3] = {{1, 1, 1}, {2, 3, 7}, {2, 128, 626}, {3, 9, 31}};
    for (int i = 0; i < COUNT(shapes); i++) {
        int64_t B = shapes[i][0], F = shapes[i][1], T = shapes[i][2], n = B * F * T;
        float *x = kt_new(n), *y = kt_new(n), *want = kt_new(n);
        for (int64_t k = 0; k < n; k++) x[k] = (float)pow(10, kt_uniform(-6, 3));
        x[0] = 0;
        es_k_crnn_log_fast(B, F, T, x, y);
        es_k_crnn_log_ref_f32(B, F, T, x, want);
        kt_close("crnn_log", n, y, want, 1, 1e-6);
        kt_done();
    }
    float silence[4] = {0}, y[4]; /* a constant clip becomes -1 */
    es_k_crnn_log_fast(1, 2, 2, silence, y);
    for (int k = 0; k < 4; k++) assert_true(y[k] == -1);
}

/* ---- accuracy of the logarithm behind them, through BCE: -ln p */
static void logarithm_is_accurate(void **state) {
    (void)state;
    double worst = 0;
    for (int i = 0; i < 100000; i++) {
        float p = i % 2 ? (float)kt_uniform(0, 1) : (float)exp(kt_uniform(-90, 0)), y = 1;
        struct es_k_loss s = {ES_LOSS_BCE, 1, 1, 1, NULL};
        double got, want = fmin(-log((double)p), 100);
        es_k_loss_fwd_fast(&s, &p, &y, &got);
        if (p < 1) worst = fmax(worst, fabs(got - want) / want);
    }
    printf("ln: largest relative error %.2g\n", worst);
    assert_true(worst < 3e-7);
}

int main(void) {
    kt_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_pool_fast_is_reference), cmocka_unit_test(class_pool_gradients),
        cmocka_unit_test(class_pool_permutation),       cmocka_unit_test(losses),
        cmocka_unit_test(losses_at_the_edges),          cmocka_unit_test(losses_pass_nan_on),
        cmocka_unit_test(crnn_log_is_reference),        cmocka_unit_test(logarithm_is_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
