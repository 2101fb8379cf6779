/* Augmentations against the public functions with the public draws (golden/models/augment.h5), at the tolerances of its
 * tolerances.tsv; mixup and wavmix through what training and dataset call. Hard labels of mixup (unused in the recipe) do not exist
 * here: that case's other outputs are compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/augment.h"
#include "earshot/convolve.h"
#include "earshot/objective.h"
#include "earshot/resample.h"

#include "golden/h5.h"

#include "golden/golden_model.h"

#define POOLING 4

static char file[600];
static bool shared;
static int64_t shape[4]; /* of the dataset read last */

static const char *path_of(const char *group, const char *name) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", group, name);
    return path;
}

static float *read_f32(const char *group, const char *name) {
    float *x = es_test_h5_read_f32(file, path_of(group, name), shape, NULL);
    assert_non_null(x);
    return x;
}

static double *read_f64(const char *group, const char *name) {
    double *x = es_test_h5_read_f64(file, path_of(group, name), shape, NULL);
    assert_non_null(x);
    return x;
}

static int64_t elements(void) {
    return shape[0] * shape[1] * shape[2] * shape[3];
}

/* The small copy in tests/data leaves groups out; the shared file has them all. */
static bool there(const char *group) {
    if (shared || es_test_h5_has(file, path_of(group, "in/x")) ||
        es_test_h5_has(file, path_of(group, "in/features")) ||
        es_test_h5_has(file, path_of(group, "in/wave1")))
        return true;
    print_message("%s: skipped: not in %s\n", group, file);
    return false;
}

static double number(const char *group, const char *name) {
    double *x = read_f64(group, name), v = x[0];
    es_free(&x);
    return v;
}

/* max abs(d) <= limit * max abs(r); limit 0: the same values. */
static void near(const char *group, const char *name, const float *a, double limit) {
    float *r = read_f32(group, name);
    double worst = 0, max = golden_max(r, elements());
    for (int64_t i = 0; i < elements(); i++) worst = fmax(worst, fabs((double)a[i] - (double)r[i]));
    print_message("%s/%s: %.1e of %.1e\n", group, name, worst, max);
    if (!(worst <= limit * max))
        fail_msg("%s/%s: difference %.3e, want %.1e", group, name, worst, limit * max);
    es_free(&r);
}

/* ---- along time */

static void frame_shift(void **state) {
    (void)state;
    const char *g = "frame_shift";
    double *gauss = read_f64(g, "draw/gauss");
    float *mel = read_f32(g, "in/features");
    int64_t n = shape[0], F = shape[2], T = shape[3];
    float *features = read_f32(g, "in/embeddings");
    int64_t F2 = shape[2], T2 = shape[3];
    float *labels = read_f32(g, "in/labels");
    int64_t K = shape[1], frames = shape[2];
    float *pseudo = read_f32(g, "in/pseudo_labels"), scratch[1000];
    for (int i = 0; i < n; i++) {
        struct es_shift s = es_augment_shift(gauss[i], POOLING, (int)T, (int)T2);
        es_augment_roll(mel + i * F * T, F, (int)T, 1, s.mel, scratch);
        es_augment_roll(features + i * F2 * T2, F2, (int)T2, 1, s.features, scratch);
        es_augment_roll(labels + i * K * frames, K, (int)frames, 1, s.labels, scratch);
        es_augment_roll(pseudo + i * K * frames, K, (int)frames, 1, s.labels, scratch);
    }
    near(g, "out/features", mel, 0);
    near(g, "out/embeddings", features, 0);
    near(g, "out/labels", labels, 0);
    near(g, "out/pseudo_labels", pseudo, 0);
    es_free(&pseudo);
    es_free(&labels);
    es_free(&features);
    es_free(&mel);
    es_free(&gauss);
}

/* The layout of pre-training, [T,K], is the transpose. */
static void roll_width(void **state) {
    (void)state;
    float x[2 * 5 * 3], y[2 * 3 * 5], scratch[15];
    for (int shift = -12; shift <= 12; shift++) {
        for (int r = 0; r < 2; r++)
            for (int t = 0; t < 5; t++)
                for (int k = 0; k < 3; k++)
                    x[(r * 5 + t) * 3 + k] = y[(r * 3 + k) * 5 + t] = (float)(100 * r + 10 * t + k);
        es_augment_roll(x, 2, 5, 3, shift, scratch);
        es_augment_roll(y, 6, 5, 1, shift, scratch);
        for (int r = 0; r < 2; r++)
            for (int t = 0; t < 5; t++)
                for (int k = 0; k < 3; k++) {
                    int from = ((t - shift) % 5 + 5) % 5;
                    assert_true(x[(r * 5 + t) * 3 + k] == (float)(100 * r + 10 * from + k));
                    assert_true(y[(r * 3 + k) * 5 + t] == (float)(100 * r + 10 * from + k));
                }
    }
}

static void time_mask(void **state) {
    (void)state;
    static const char *const groups[] = {"time_mask_a", "time_mask_b"};
    for (int c = 0; c < 2; c++) {
        const char *g = groups[c];
        if (!there(g)) continue;
        int low = (int)number(g, "draw/t_low"), width = (int)number(g, "draw/t_width");
        float *labels = read_f32(g, "in/labels");
        int64_t rows = shape[0] * shape[1], frames = shape[2];
        struct es_span span = {low, low + width};
        es_augment_silence(labels, rows, (int)frames, 1, span);
        near(g, "out/labels", labels, 0);
        float *x = read_f32(g, "in/features");
        span = es_augment_mask_mel(low, width, POOLING, (int)shape[3]);
        es_augment_silence(x, shape[0] * shape[2], (int)shape[3], 1, span);
        near(g, "out/features", x, 0);
        es_free(&x);
        x = read_f32(g, "in/embeddings");
        span = es_augment_mask_features(low, width, (int)frames, (int)shape[3]);
        es_augment_silence(x, shape[0] * shape[2], (int)shape[3], 1, span);
        near(g, "out/embeddings", x, 0);
        es_free(&x);
        x = read_f32(g, "in/pseudo_labels"); /* QUIRK: as they were */
        near(g, "out/pseudo_labels", x, 0);
        es_free(&x);
        es_free(&labels);
    }
    /* pre-training's layout: the same frames of every class */
    float x[2 * 6 * 3];
    for (int i = 0; i < 36; i++) x[i] = 1;
    es_augment_silence(x, 2, 6, 3, (struct es_span){2, 5});
    for (int i = 0; i < 36; i++) assert_true((x[i] == 0) == (i / 3 % 6 >= 2 && i / 3 % 6 < 5));
    assert_int_equal(es_augment_mask_mel(150, 7, 4, 626).end, 626); /* never beyond the clip */
}

/* ---- mels */

static void mixstyle(void **state) {
    (void)state;
    static const char *const groups[] = {"mixstyle_mel", "mixstyle_pt"};
    for (int c = 0; c < 2; c++) {
        const char *g = groups[c];
        if (!there(g)) continue;
        struct es_mix_call call = {0};
        double *beta = read_f64(g, "draw/beta"), *perm = read_f64(g, "draw/perm");
        float *x = read_f32(g, "in/x"), scratch[2 * 5 * 128];
        call.n = (int)shape[0];
        assert_true(2 * call.n * shape[2] <= 2 * 5 * 128);
        for (int i = 0; i < call.n; i++) {
            call.c[i] = fmaxf((float)beta[i], 1 - (float)beta[i]);
            call.perm[i] = (int)perm[i];
        }
        es_augment_mixstyle(&call, x, (int)shape[2], (int)shape[3], scratch);
        near(g, "out/x", x, 2e-6);
        es_free(&x);
        es_free(&perm);
        es_free(&beta);
    }
}

static void filter(void **state) {
    (void)state;
    static const char *const groups[] = {"filt_aug_3bands", "filt_aug_4bands", "filt_aug_5bands_touching",
                                         "filt_aug_narrow"};
    for (int c = 0; c < 4; c++) {
        const char *g = groups[c];
        if (!there(g)) continue;
        struct es_filter_call call = {.n_bands = (int)number(g, "draw/n_band")};
        double *raw = read_f64(g, "draw/boundaries_raw");
        int draw[ES_AUGMENT_BANDS];
        assert_int_equal(elements(), call.n_bands - 1);
        for (int b = 0; b < call.n_bands - 1; b++) draw[b] = (int)raw[b];
        float *u = read_f32(g, "draw/factors_u01"), *x = read_f32(g, "in/x"), *y = NULL;
        int F = (int)shape[2], T = (int)shape[3];
        call.n = (int)shape[0];
        es_augment_band_edges(F, call.n_bands, 6, draw, call.edge);
        for (int i = 0; i < call.n; i++)
            for (int b = 0; b <= call.n_bands; b++)
                call.gain_db[i][b] = u[i * (call.n_bands + 1) + b] * 12 - 6;
        y = es_alloc((size_t)elements(), sizeof *y, NULL);
        assert_non_null(y);
        es_augment_filter(&call, x, y, F, T);
        near(g, "out/x", y, 2e-6);
        es_augment_filter(&call, x, x, F, T); /* in place: the same */
        assert_memory_equal(x, y, (size_t)call.n * (size_t)F * (size_t)T * sizeof *y);
        es_free(&y);
        es_free(&x);
        es_free(&u);
        es_free(&raw);
    }
    assert_int_equal(es_augment_band_width(22, 5, 6), 4);
    assert_int_equal(es_augment_band_width(128, 5, 6), 6);
    assert_int_equal(es_augment_band_width(3, 5, 6), 0);
}

static void freq_warp(void **state) {
    (void)state;
    static const char *const groups[] = {"freq_warp_a", "freq_warp_b", "freq_warp_min", "freq_warp_none"};
    for (int c = 0; c < 4; c++) {
        const char *g = groups[c];
        if (!there(g)) continue;
        struct es_warp_call call = {.low = (int)number(g, "draw/i"), .height = (int)number(g, "draw/h")};
        float *x = read_f32(g, "in/x"), *scratch;
        call.n = (int)shape[0];
        scratch = es_alloc((size_t)elements(), sizeof *x, NULL);
        assert_non_null(scratch);
        es_augment_warp(&call, x, (int)shape[1], (int)shape[2], scratch);
        int F = (int)shape[1];
        near(g, "out/x", x, 1e-4);
        assert_int_equal(es_augment_warp_height(number(g, "draw/u_freq"), F), call.height);
        es_free(&scratch);
        es_free(&x);
    }
    assert_int_equal(es_augment_warp_height(0.001, 64), 1);
}

/* ---- mixup: features by es_mix_rows, targets and masks by es_objective_mix_targets */

static void read_mix(const char *g, struct es_mix_call *call) {
    bool largest = number(g, "cfg/max_coef") != 0;
    double *beta = read_f64(g, "draw/beta"), *perm = read_f64(g, "draw/perm");
    *call = (struct es_mix_call){.n = (int)shape[0]};
    for (int i = 0; i < call->n; i++) {
        call->c[i] = (float)(largest ? fmax(beta[i], 1 - beta[i]) : beta[i]);
        call->perm[i] = (int)perm[i];
    }
    es_free(&perm);
    es_free(&beta);
}

static void mix_features(const char *g, const struct es_mix_call *call, const char *in, const char *out) {
    float *x = read_f32(g, in), *scratch = es_alloc((size_t)elements(), sizeof *x, NULL);
    assert_non_null(scratch);
    es_mix_rows(call, x, elements() / call->n, scratch);
    near(g, out, x, 2e-6);
    es_free(&scratch);
    es_free(&x);
}

/* The joint call of the strong sets: labels, merged class masks, pseudo-labels. Training goes on to set labels of invalid classes
 * to 0, which the public function leaves to its caller. */
static void mixup_strong(const char *g, const struct es_mix_call *call, bool soft) {
    struct es_objective_params op = {.stage = 2};
    float *labels = read_f32(g, "in/targets"), *mask = read_f32(g, "in/valid_class_mask"),
          *pseudo = read_f32(g, "in/pseudo_strong");
    int K = (int)shape[1], T = (int)shape[2], n = call->n;
    uint8_t valid[5 * 32];
    float weak[5 * 32] = {0}, *scratch = es_alloc((size_t)(n * K * T), sizeof *labels, NULL);
    assert_non_null(scratch);
    for (int i = 0; i < n * K; i++) valid[i] = mask[i] != 0;
    struct es_targets x = {.n = n,
                           .first = {0, 2, 4, n, n, n},
                           .n_classes = K,
                           .n_frames = T,
                           .labels = labels,
                           .weak = weak,
                           .mask = valid,
                           .pseudo = pseudo,
                           .mixup = true,
                           .n_mix = 1,
                           .mix = call};
    es_objective_mix_targets(&op, &x, scratch);
    near(g, "out/pseudo_strong", pseudo, 2e-6);
    for (int i = 0; i < n * K; i++) mask[i] = valid[i];
    near(g, "out/valid_class_mask", mask, 0);
    float *want = read_f32(g, "out/targets");
    for (int i = 0; soft && i < n * K * T; i++) {
        double r = valid[i / T] ? (double)want[i] : 0;
        assert_true(fabs((double)labels[i] - r) <= 2e-6);
    }
    es_free(&want);
    es_free(&scratch);
    es_free(&pseudo);
    es_free(&mask);
    es_free(&labels);
}

static void mixup_weak(const char *g, const struct es_mix_call *call) {
    struct es_objective_params op = {.stage = 2};
    float *weak = read_f32(g, "in/targets"), *pseudo = read_f32(g, "in/pseudo_strong");
    int K = (int)shape[1], T = (int)shape[2], n = call->n;
    uint8_t valid[5 * 32];
    memset(valid, 1, sizeof valid);
    float *labels = es_alloc((size_t)(n * K * T), sizeof *weak, NULL),
          *scratch = es_alloc((size_t)(n * K * T), sizeof *weak, NULL);
    assert_true(labels && scratch);
    struct es_targets x = {.n = n,
                           .first = {0, 0, 0, 0, n, n},
                           .n_classes = K,
                           .n_frames = T,
                           .labels = labels,
                           .weak = weak,
                           .mask = valid,
                           .pseudo = pseudo,
                           .mixup = true,
                           .n_mix = 1,
                           .mix = call};
    es_objective_mix_targets(&op, &x, scratch);
    near(g, "out/targets", weak, 2e-6);
    near(g, "out/pseudo_strong", pseudo, 2e-6);
    es_free(&scratch);
    es_free(&labels);
    es_free(&pseudo);
    es_free(&weak);
}

static void mixup(void **state) {
    (void)state;
    static const char *const groups[] = {"mixup_strong", "mixup_strong_no_max_coef", "mixup_hard_labels",
                                         "mixup_weak"};
    for (int c = 0; c < 4; c++) {
        struct es_mix_call call;
        if (!there(groups[c])) continue;
        read_mix(groups[c], &call);
        mix_features(groups[c], &call, "in/features", "out/features");
        mix_features(groups[c], &call, "in/embeddings", "out/embeddings");
        if (c < 3)
            mixup_strong(groups[c], &call, c < 2);
        else
            mixup_weak(groups[c], &call);
    }
}

/* ---- waveforms */

static void wavmix(void **state) {
    (void)state;
    static const char *const groups[] = {"wavmix_a", "wavmix_b", "wavmix_self"};
    for (int c = 0; c < 3; c++) {
        const char *g = groups[c];
        if (!there(g)) continue;
        double beta = number(g, "draw/beta");
        float weight = (float)fmax(beta, 1 - beta);
        float *x = read_f32(g, "in/wave1"), *y = read_f32(g, "in/wave2");
        es_augment_wavmix(x, y, elements(), weight);
        near(g, "out/wave", x, 2e-6);
        es_free(&y);
        es_free(&x);
        static const char *const names[][3] = {{"in/labels1", "in/labels2", "out/labels"},
                                               {"in/pseudo1", "in/pseudo2", "out/pseudo"}};
        for (int i = 0; i < 2; i++) {
            x = read_f32(g, names[i][0]);
            y = read_f32(g, names[i][1]);
            es_augment_blend(x, y, elements(), weight);
            near(g, names[i][2], x, 2e-6);
            es_free(&y);
            es_free(&x);
        }
        x = read_f32(g, "in/mask1"); /* partners share it: never mixed */
        y = read_f32(g, "in/mask2");
        assert_memory_equal(x, y, (size_t)elements() * sizeof *x);
        near(g, "out/mask", x, 2e-6);
        es_free(&y);
        es_free(&x);
    }
}

static void gain(void **state) {
    (void)state;
    double *draw = read_f64("gain", "draw/randint14");
    float *x = read_f32("gain", "in/x");
    for (int i = 0; i < shape[0]; i++) es_augment_gain(x + i * shape[1], shape[1], (int)draw[i] - 7);
    near("gain", "out/x", x, 2e-6);
    es_free(&x);
    es_free(&draw);
}

static void impulse_response(void **state) {
    (void)state;
    static const char *const groups[] = {"dir_even", "dir_odd"};
    for (int c = 0; c < 2; c++) {
        struct es_convolve *conv = NULL;
        float *h = read_f32(groups[c], "in/ir");
        int64_t n_h = elements();
        float *x = read_f32(groups[c], "in/wave");
        int64_t n = elements(), offset = es_augment_dir_offset(n_h);
        double *want = es_alloc((size_t)n, sizeof *want, NULL);
        float *y = es_alloc((size_t)n, sizeof *y, NULL);
        assert_true(want && y);
        es_convolve_ref(x, n, h, n_h, offset, want);
        for (int64_t i = 0; i < n; i++) y[i] = (float)want[i];
        near(groups[c], "out/wave", y, 2e-5);
        for (int64_t max_h = n_h; max_h < 2000; max_h += 777) { /* longer responses may stand beside it */
            assert_int_equal(es_convolve_new(&conv, n, max_h, NULL), 0);
            float *scratch = es_alloc(es_convolve_scratch(conv), sizeof *scratch, NULL);
            assert_non_null(scratch);
            es_convolve_run(conv, x, h, n_h, offset, y, scratch);
            near(groups[c], "out/wave", y, 2e-5);
            memcpy(y, x, (size_t)n * sizeof *y);
            es_convolve_run(conv, y, h, n_h, offset, y, scratch); /* in place */
            near(groups[c], "out/wave", y, 2e-5);
            es_free(&scratch);
            es_convolve_free(&conv);
        }
        es_free(&y);
        es_free(&want);
        es_free(&x);
        es_free(&h);
    }
}

static void impulse_response_load(void **state) {
    (void)state;
    static const char *const groups[] = {"dir_load_32000", "dir_load_44100"};
    for (int c = 0; c < 2; c++) {
        int rate_hz = (int)number(groups[c], "in/sample_rate");
        float *x = read_f32(groups[c], "in/signal"), *y = NULL;
        int64_t n = shape[1], channels = shape[0], n_out;
        for (int64_t i = 0; channels == 2 && i < n; i++) x[i] = (x[i] + x[n + i]) / 2; /* as es_audio_read */
        assert_int_equal(es_resample_kaiser(x, n, rate_hz, 16000, &y, &n_out, NULL), 0);
        near(groups[c], "out/ir", y, 2e-5);
        assert_int_equal(n_out, elements());
        es_free(&y);
        es_free(&x);
    }
}

int main(void) {
    char dir[512];
    snprintf(file, sizeof file, "%s/augment.h5", golden_models(dir, sizeof dir, &shared));
    const struct CMUnitTest tests[] = {cmocka_unit_test(frame_shift),
                                       cmocka_unit_test(roll_width),
                                       cmocka_unit_test(time_mask),
                                       cmocka_unit_test(mixstyle),
                                       cmocka_unit_test(filter),
                                       cmocka_unit_test(freq_warp),
                                       cmocka_unit_test(mixup),
                                       cmocka_unit_test(wavmix),
                                       cmocka_unit_test(gain),
                                       cmocka_unit_test(impulse_response),
                                       cmocka_unit_test(impulse_response_load)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
