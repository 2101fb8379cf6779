/* Augmentations where golden vectors (earshot-golden, augment.h5) say nothing: pre-training's layout, borders, in place, hard
 * labels, convolution against its definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "earshot/augment.h"
#include "earshot/convolve.h"
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/objective.h"
#include "earshot/rng.h"

static void fill(float *x, int64_t n, uint32_t stream) {
    struct es_rng r = es_rng_make(7, ES_RNG_INIT, stream, 0, 0);
    for (int64_t i = 0; i < n; i++) x[i] = (float)es_rng_range(&r, -1, 1);
}

/* The layout of pre-training, [T,K], is the transpose of the stages'. */
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
    float x[2 * 6 * 3];
    for (int i = 0; i < 36; i++) x[i] = 1;
    es_augment_silence(x, 2, 6, 3, (struct es_span){2, 5});
    for (int i = 0; i < 36; i++) assert_true((x[i] == 0) == (i / 3 % 6 >= 2 && i / 3 % 6 < 5));
    assert_int_equal(es_augment_mask_mel(150, 7, 4, 626).end, 626); /* never beyond the clip */
}

static void filter(void **state) {
    (void)state;
    struct es_filter_call call = {.n = 3, .n_bands = 3, .edge = {0, 4, 9, 22}};
    float x[3 * 22 * 5], y[3 * 22 * 5];
    fill(x, 3 * 22 * 5, 1);
    for (int i = 0; i < 3; i++) fill(call.gain_db[i], 4, 2 + (uint32_t)i);
    es_augment_filter(&call, x, y, 22, 5);
    assert_true(memcmp(x, y, sizeof x) != 0);
    es_augment_filter(&call, x, x, 22, 5); /* in place: the same */
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(es_augment_band_width(22, 5, 6), 4);
    assert_int_equal(es_augment_band_width(128, 5, 6), 6);
    assert_int_equal(es_augment_band_width(3, 5, 6), 0);
    assert_int_equal(es_augment_warp_height(0.001, 64), 1);
}

/* Any response up to the longest that the plan was made for; in place. */
static void convolution(void **state) {
    (void)state;
    enum { N = 4000, MOST = 301 };
    float x[N], h[MOST], y[N], place[N];
    double want[N], top = 0;
    struct es_convolve *conv = NULL;
    fill(x, N, 8);
    fill(h, MOST, 9);
    for (int64_t n_h = 1; n_h <= MOST; n_h += 100) {
        const int64_t offset = es_augment_dir_offset(n_h);
        es_convolve_ref(x, N, h, n_h, offset, want);
        for (int i = 0; i < N; i++) top = fmax(top, fabs(want[i]));
        for (int64_t most = n_h; most < 2000; most += 777) {
            assert_int_equal(es_convolve_new(&conv, N, most, NULL), 0);
            float *scratch = es_alloc(es_convolve_scratch(conv), sizeof *scratch, NULL);
            assert_non_null(scratch);
            es_convolve_run(conv, x, h, n_h, offset, y, scratch);
            memcpy(place, x, sizeof x);
            es_convolve_run(conv, place, h, n_h, offset, place, scratch);
            for (int i = 0; i < N; i++) assert_true(fabs((double)y[i] - want[i]) <= 2e-6 * top);
            assert_memory_equal(place, y, sizeof y);
            es_free(&scratch);
            es_convolve_free(&conv);
        }
    }
}

/* Labels of both clips in full, at most 1; other targets are weighed as ever, invalid classes stay 0. */
static void hard_labels(void **state) {
    (void)state;
    const struct es_mix_call call = {.n = 2, .c = {0.75f, 0.5f}, .perm = {1, 0}};
    const struct es_objective_params op = {.stage = 2, .mixup_hard = true};
    float labels[] = {1, 0.5f, 0, 0.25f, 1, 0.75f, 0, 0, 1, 1, 0, 1}, weak[6] = {0}, scratch[12],
          pseudo[] = {1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0};
    uint8_t mask[] = {1, 1, 0, 1, 1, 0};
    struct es_targets x = {.n = 2,
                           .first = {0, 0, 2, 2, 2, 2},
                           .n_classes = 3,
                           .n_frames = 2,
                           .labels = labels,
                           .weak = weak,
                           .mask = mask,
                           .pseudo = pseudo,
                           .mixup = true,
                           .n_mix = 1,
                           .mix = &call};
    es_objective_mix_targets(&op, &x, scratch);
    const float want[] = {1, 0.5f, 1, 1, 0, 0, 1, 0.5f, 1, 1, 0, 0};
    for (int i = 0; i < 12; i++) assert_true(labels[i] == want[i]);
    for (int i = 0; i < 12; i++) assert_true(pseudo[i] == (i < 6 ? 0.75f : 0.5f));
}

static void weak_labels(void **state) {
    (void)state;
    float y[4];
    es_labels_encode_weak((int32_t[]){2, 0, 2, 9, -1}, 5, 4, y);
    assert_true(y[0] == 1 && y[1] == 0 && y[2] == 1 && y[3] == 0);
    es_labels_encode_weak(NULL, -1, 4, y); /* nobody labelled it */
    for (int k = 0; k < 4; k++) assert_true(y[k] == -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(roll_width),  cmocka_unit_test(time_mask),
                                       cmocka_unit_test(filter),      cmocka_unit_test(convolution),
                                       cmocka_unit_test(hard_labels), cmocka_unit_test(weak_labels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
