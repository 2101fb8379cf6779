/* BCE at 0, 1 and denormals, element by element, and log-mel scaling, against PyTorch
 * (../shared/golden/models: losses.h5, frontends.h5). Tolerances: tolerances.tsv. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "earshot/kernels_crnn.h"
#include "golden/h5.h"

#include "golden/golden_model.h"

static char losses_file[600], frontends_file[512];

static float *read_f32(const char *file, const char *path, int64_t shape[4]) {
    float *x = es_test_h5_read_f32(file, path, shape, NULL);
    assert_non_null(x);
    return x;
}

/* rel <= 2e-6 + 1e-30 */
static void check_element(const char *what, float p, float y, double got, double want) {
    if (!(fabs(got - want) <= 2e-6 * fabs(want) + 1e-30))
        fail_msg("%s at p %.9g, target %g: got %.9g, want %.9g", what, (double)p, (double)y, got, want);
}

static void bce_edge(void **state) {
    (void)state;
    int64_t shape[4];
    float *p = read_f32(losses_file, "bce_edge/p", shape),
          *y = read_f32(losses_file, "bce_edge/target", NULL);
    float *loss = read_f32(losses_file, "bce_edge/loss_fp32", NULL),
          *grad = read_f32(losses_file, "bce_edge/grad_fp32", NULL);
    for (int64_t i = 0; i < shape[0]; i++) {
        struct es_k_loss s = {ES_LOSS_BCE, 1, 1, 1, NULL};
        double sum;
        float d;
        es_k_loss_fwd_fast(&s, p + i, y + i, &sum);
        check_element("loss", p[i], y[i], sum, (double)loss[i]);
        es_k_loss_fwd_ref_f32(&s, p + i, y + i, &sum);
        check_element("reference loss", p[i], y[i], sum, (double)loss[i]);
        es_k_loss_bwd_fast(&s, p + i, y + i, 1.0, &d, false);
        check_element("gradient", p[i], y[i], (double)d, (double)grad[i]);
        es_k_loss_bwd_ref_f32(&s, p + i, y + i, 1.0, &d, false);
        check_element("reference gradient", p[i], y[i], (double)d, (double)grad[i]);
    }
    es_free(&p);
    es_free(&y);
    es_free(&loss);
    es_free(&grad);
}

/* crnn_mel -> crnn_scaled, transposed: real 3e-5; synth and short p99.9 2e-4, all 1e-3 (their magnitudes are
 * fp32 noise in the reference's transform; from the stored magnitudes the difference is rounding alone, so
 * 3e-5 is asked of all). */
static void log_scaling(const char *group, bool reference) {
    char path[64];
    int64_t shape[4];
    snprintf(path, sizeof path, "%s/crnn_mel", group);
    float *mel = read_f32(frontends_file, path, shape);
    snprintf(path, sizeof path, "%s/crnn_scaled", group);
    float *want = read_f32(frontends_file, path, NULL);
    int64_t B = shape[0], F = shape[2], T = shape[3];
    float *y = es_alloc((size_t)(B * F * T), sizeof *y, NULL);
    assert_non_null(y);
    (reference ? es_k_crnn_log_ref_f32 : es_k_crnn_log_fast)(B, F, T, mel, y);
    double worst = 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t f = 0; f < F; f++)
            for (int64_t t = 0; t < T; t++)
                worst = fmax(worst, fabs((double)y[(b * T + t) * F + f] - (double)want[(b * F + f) * T + t]));
    printf("%s, %s: largest difference %.2g\n", group, reference ? "reference" : "fast", worst);
    assert_true(worst <= 3e-5);
    es_free(&y);
    es_free(&want);
    es_free(&mel);
}

static void crnn_scaled(void **state) {
    (void)state;
    if (!es_test_shared("golden/models/frontends.h5", frontends_file, sizeof frontends_file)) skip();
    for (int reference = 0; reference < 2; reference++) {
        log_scaling("real", reference);
        log_scaling("synth", reference);
        log_scaling("short", reference);
    }
}

int main(void) {
    char dir[500];
    bool shared;
    snprintf(losses_file, sizeof losses_file, "%s/losses.h5", golden_models(dir, sizeof dir, &shared));
    const struct CMUnitTest tests[] = {cmocka_unit_test(bce_edge), cmocka_unit_test(crnn_scaled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
