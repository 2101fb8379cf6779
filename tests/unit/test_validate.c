/* What validation logs beside the scores that tests/e2e/test_validation.sh compares: losses of frames and clips, F1 of the weak set;
 * against the formulas of spec/training.md sections 4 and 8.1 in double. TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/validate.h"

#include "io_help.h"

#include "row_store.h"

enum { K = ES_N_CLASSES, T = 156, N = 9, DISHES = 3, DOG = 4, SPEECH = 8, CUTLERY = 10, STEPS = 15 };

static struct es_comm *comm;
static char dir[256];

#define CLIP 160000
static const struct row rows[N] = {
    {"s-0", ES_SUBSET_SYNTH_VALIDATION, 1, CLIP, {{0.65, 3, DOG, 1}, {5, 5.1, SPEECH, 1}}, 2, 0},
    {"s-1", ES_SUBSET_SYNTH_VALIDATION, 1, CLIP, {{9.5, 12, DISHES, 1}}, 1, 0}, /* behind the clip's end */
    {"w-0", ES_SUBSET_WEAK, 1, CLIP, {{0, 0, 0, 0}}, 0, 1u << DOG | 1u << SPEECH},
    {"w-1", ES_SUBSET_WEAK, 1, CLIP, {{0, 0, 0, 0}}, 0, 1u << DOG},
    {"w-2", ES_SUBSET_WEAK, 1, CLIP, {{0, 0, 0, 0}}, 0, 1u << DISHES | 1u},
    {"w-3", ES_SUBSET_WEAK, 1, CLIP, {{0, 0, 0, 0}}, 0, 1u << 7 | 1u << 9},
    {"r-0", ES_SUBSET_STRONG_REAL, 1, CLIP, {{0, 10, SPEECH, 1}}, 1, 0},
    {"cafe_01-000-1000", ES_SUBSET_MAESTRO, 1, CLIP, {{0, 4, CUTLERY, 0.7f}, {2, 3, STEPS, 0.25f}}, 2, 0},
    {"cafe_01-100-1100", ES_SUBSET_MAESTRO, 1, CLIP, {{0, 3, CUTLERY, 0.9f}}, 1, 0},
};

/* A tone that comes and goes, a little noise. */
static int16_t sample(int64_t clip, int64_t s) {
    return (int16_t)(6000.0 * sin(0.02 * (double)(s * (clip + 1))) * (double)((s >> (13 + clip % 3)) & 1) +
                     (double)((s * 7919 + clip * 31) % 401 - 200));
}

static double bce(double p, double y) {
    return -(y * fmax(log(p), -100.0) + (1.0 - y) * fmax(log1p(-p), -100.0));
}

/* Mean of frames and all classes; only `valid` ones add. */
static double want_frame_loss(struct es_forward *f, const float *logits, int first, int end, uint32_t valid) {
    double sum = 0.0;
    assert_int_equal(es_forward_frames(f), T);
    for (int i = first; i < end; i++)
        for (int t = 0; t < T; t++)
            for (int k = 0; k < K; k++) {
                double y = 0.0, p = 1.0 / (1.0 + exp(-(double)logits[(i * T + t) * K + k]));
                for (int e = 0; e < rows[i].n_events; e++) /* frames that an event touches */
                    if (rows[i].event[e].label == k && rows[i].event[e].onset_s < 0.064 * (t + 1) - 1e-9 &&
                        rows[i].event[e].offset_s > 0.064 * t + 1e-9)
                        y = (double)rows[i].event[e].confidence;
                if (valid >> k & 1) sum += bce(p, y);
            }
    return sum / (double)((end - first) * T * K);
}

/* Attention over the valid classes of a frame, clamped, normalised over time. */
static void want_weak(const float *z, const float *a, uint32_t valid, double fill, double *weak) {
    double num[K] = {0}, den[K] = {0};
    for (int t = 0; t < T; t++) {
        double soft[K], sum = 0.0, top = -1e300;
        for (int k = 0; k < K; k++) soft[k] = valid >> k & 1 ? (double)a[t * K + k] : fill;
        for (int k = 0; k < K; k++) top = fmax(top, soft[k]);
        for (int k = 0; k < K; k++) sum += soft[k] = exp(soft[k] - top);
        for (int k = 0; k < K; k++) {
            double s = fmin(1.0, fmax(1e-7, soft[k] / sum));
            num[k] += s / (1.0 + exp(-(double)z[t * K + k]));
            den[k] += s;
        }
    }
    for (int k = 0; k < K; k++) weak[k] = valid >> k & 1 ? num[k] / den[k] : 0.0;
}

static void test_losses_and_weak_f1(void **state) {
    (void)state;
    char path[300];
    struct es_err err = {0};
    struct es_store *s = NULL;
    struct es_params *params = NULL;
    struct es_net *net = NULL;
    struct es_forward *f = NULL;
    struct es_frontend_params mel = es_frontend_params_default(ES_FRONTEND_ATST_MEL);
    struct es_net_config c;
    int64_t ids[N];
    int frames[K];
    snprintf(path, sizeof path, "%s/store.h5", dir);
    write_rows(comm, path, rows, N, sample);
    assert_int_equal(es_store_open_all(&s, comm, path, &err), 0);
    es_net_config_default(&c);
    c.alone = true;
    c.wrapper = false;
    c.rnn_cells = 16;
    assert_int_equal(es_params_new(&params, &err), 0);
    assert_int_equal(es_net_new(&net, &c, params, &err), 0);
    assert_int_equal(es_params_layout(params, &err), 0);
    es_params_init(params, 5);
    assert_int_equal(es_forward_new(&f, net, params, 4, &mel, &err), 0);

    float *logits = es_alloc(N * T * K, sizeof *logits, NULL), *att = es_alloc(N * T * K, sizeof *att, NULL);
    assert_true(logits && att);
    for (int i = 0; i < N; i++) ids[i] = i;
    assert_int_equal(es_predict_clips_all(comm, f, s, ids, N, logits, att, &err), 0);
    for (int k = 0; k < K; k++) frames[k] = es_classes[k].median_frames;
    struct es_validation v;
    assert_int_equal(es_validate_all(comm, f, &s, 1, ES_VALID_STAGES, frames, &v, &err), 0);
    assert_int_equal(v.n_clips, N);

    uint32_t desed = 0x3ff, maestro = 0x7ffffff & ~(0x3ffu & ~(1u << DISHES | 1u << SPEECH));
    assert_float_equal(es_validation_get(&v, "loss_strong"), want_frame_loss(f, logits, 0, 2, desed), 1e-6);
    assert_float_equal(es_validation_get(&v, "loss_external"), want_frame_loss(f, logits, 6, 7, desed), 1e-6);
    assert_float_equal(es_validation_get(&v, "loss_maestro"), want_frame_loss(f, logits, 7, 9, maestro),
                       1e-6);

    double loss = 0.0, f1 = 0.0, hit[K] = {0}, said[K] = {0}, is[K] = {0};
    for (int i = 2; i < 6; i++) {
        double weak[K];
        want_weak(logits + i * T * K, att + i * T * K, desed, c.mask_fill, weak);
        for (int k = 0; k < K; k++) {
            bool y = rows[i].weak >> k & 1, p = weak[k] > 0.5;
            assert_true(fabs(weak[k] - 0.5) > 1e-5); /* nothing at the threshold */
            loss += bce(weak[k], y);
            hit[k] += y && p;
            said[k] += p;
            is[k] += y;
        }
    }
    for (int k = 0; k < K; k++)
        if (said[k] + is[k] > 0) f1 += 2 * hit[k] / (said[k] + is[k]);
    assert_true(f1 > 0);
    assert_float_equal(es_validation_get(&v, "loss_weak"), loss / (4 * K), 1e-6);
    assert_float_equal(es_validation_get(&v, "weak_f1"), f1 / K, 1e-7);

    es_free(&att);
    es_free(&logits);
    es_forward_free(&f);
    es_net_free(&net);
    es_params_free(&params);
    es_store_close(&s);
}

int main(int argc, char **argv) {
    struct es_err err = {0};
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    help_dir(NULL, "validate", dir);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses_and_weak_f1)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(NULL, dir);
    es_comm_fini_all(&comm);
    return failed;
}
