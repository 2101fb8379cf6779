/* Adam, AdamW, gradient clipping and the teacher's average against PyTorch (golden/models/optim.h5; README.md there). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/kernels.h"

#include "golden/h5.h"

#define TOLERANCE 3e-6 /* golden README: parameters and moments */

static char optim[512];

static float *__attribute__((format(printf, 2, 3))) read_one(int64_t *n, const char *fmt, ...) {
    char path[64];
    int64_t shape[4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(path, sizeof path, fmt, ap);
    va_end(ap);
    float *x = es_test_h5_read_f32(optim, path, shape, NULL);
    assert_non_null(x);
    *n = shape[0] * shape[1] * shape[2] * shape[3];
    return x;
}

static void compare(int64_t n, const float *got, float *want) {
    for (int64_t i = 0; i < n; i++) assert_true(fabs((double)got[i] - (double)want[i]) <= TOLERANCE);
    es_free(&want);
}

static void adam_six_steps(void **state) {
    (void)state;
    static const char *const variants[] = {"adam", "adamw", "adamw_wd1e-3"};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) { /* parameter i is optimiser group i */
            char path[64];
            int64_t n, same;
            snprintf(path, sizeof path, "%s/lr_used", variants[k]);
            double *lr = es_test_h5_read_f64(optim, path, NULL, NULL);
            snprintf(path, sizeof path, "%s/weight_decay", variants[k]);
            double *decay = es_test_h5_read_f64(optim, path, NULL, NULL);
            assert_true(lr && decay);
            float *p = read_one(&n, "adam_in/p%d", i);
            float *m = es_alloc((size_t)n, sizeof *m, NULL), *v = es_alloc((size_t)n, sizeof *v, NULL);
            for (int step = 0; step < 6; step++) {
                float *g = read_one(&same, "adam_in/grad_step%d_p%d", step, i);
                struct es_adamw a = {.lr = lr[step * 3 + i],
                                     .beta1 = 0.9,
                                     .beta2 = 0.999,
                                     .eps = 1e-8,
                                     .weight_decay = decay[0],
                                     .step = step + 1,
                                     .decoupled = k > 0,
                                     .grad_scale = 1.0};
                es_k_adamw(n, p, g, m, v, &a);
                compare(n, p, read_one(&same, "%s/step%d_p%d", variants[k], step, i));
                es_free(&g);
            }
            compare(n, m, read_one(&same, "%s/exp_avg_p%d", variants[k], i));
            compare(n, v, read_one(&same, "%s/exp_avg_sq_p%d", variants[k], i));
            es_free(&p);
            es_free(&m);
            es_free(&v);
            es_free(&lr);
            es_free(&decay);
        }
}

/* torch.nn.utils.clip_grad_norm_(., 0.5): factor 0.5 / (norm + 1e-6), at most 1. */
static void clipping(void **state) {
    (void)state;
    static const char *const cases[] = {"clip_active", "clip_inactive"};
    for (int k = 0; k < 2; k++) {
        int64_t n[2], same;
        float *g[2], *norm = read_one(&same, "%s/total_norm", cases[k]);
        double sum = 0;
        for (int i = 0; i < 2; i++) {
            g[i] = read_one(&n[i], "%s/in_g%d", cases[k], i);
            sum += es_k_sumsq(n[i], g[i]);
        }
        double factor = fmin(1.0, 0.5 / (sqrt(sum) + 1e-6));
        assert_true(fabs(sqrt(sum) - (double)norm[0]) <= 1e-6 * sqrt(sum));
        assert_true(k == 0 ? factor < 1.0 : factor == 1.0);
        for (int i = 0; i < 2; i++) {
            /* the optimiser's grad_scale is where the factor goes: Adam's first moment shows it */
            float *p = es_alloc((size_t)n[i], sizeof *p, NULL), *m = es_alloc((size_t)n[i], sizeof *m, NULL);
            float *v = es_alloc((size_t)n[i], sizeof *v, NULL),
                  *want = read_one(&same, "%s/out_g%d", cases[k], i);
            struct es_adamw a = {
                .lr = 1.0, .beta1 = 0.0, .beta2 = 0.999, .eps = 1e-8, .step = 1, .grad_scale = factor};
            es_k_adamw(n[i], p, g[i], m, v, &a);
            compare(n[i], m, want);
            es_free(&p);
            es_free(&m);
            es_free(&v);
            es_free(&g[i]);
        }
        es_free(&norm);
    }
}

static void teacher_average(void **state) {
    (void)state;
    double *alpha = es_test_h5_read_f64(optim, "ema/alpha", NULL, NULL);
    int32_t *global_step = es_test_h5_read_i32(optim, "ema/global_step", NULL, NULL);
    assert_true(alpha && global_step);
    for (int i = 0; i < 3; i++) {
        int64_t n, same;
        float *teacher = read_one(&n, "ema/teacher0_p%d", i);
        for (int k = 0; k < 7; k++) {
            float *student = read_one(&same, "ema/student_%d_p%d", k, i);
            assert_true(fabs(alpha[k] - fmin(1.0 - 1.0 / ((double)global_step[k] + 1.0), 0.999)) < 1e-12);
            es_k_ema(n, teacher, student, alpha[k]);
            compare(n, teacher, read_one(&same, "ema/teacher_%d_p%d", k, i));
            es_free(&student);
        }
        es_free(&teacher);
    }
    es_free(&alpha);
    es_free(&global_step);
}

int main(void) {
    if (!es_test_shared("golden/models/optim.h5", optim, sizeof optim)) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(adam_six_steps), cmocka_unit_test(clipping),
                                       cmocka_unit_test(teacher_average)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
