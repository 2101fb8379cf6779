/* The sampler plan: epochs visit each clip once, short windows, draws are pure functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/model.h"
#include "earshot/plan.h"

static struct es_plan_params params(void) {
    return (struct es_plan_params){.seed = 11,
                                   .n_sets = 5,
                                   .size = {2, 1, 1, 2, 2},
                                   .n_clips = {40, 30, 25, 23, 60},
                                   .leaves = 4,
                                   .wavmix_p = 0.5,
                                   .wavmix_alpha = 0.2,
                                   .wavmix_set = {true, true, true},
                                   .mixup_p = 0.5,
                                   .mixup_alpha = 0.2,
                                   .mixup_joint = true};
}

static void epochs_and_windows(void **state) {
    (void)state;
    struct es_plan_params pp = params();
    struct es_plan *p = NULL;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    assert_int_equal(es_plan_epoch_micro_batches(p), 11); /* weak: 23 / 2 */
    assert_int_equal(es_plan_epoch_steps(p), 3);
    assert_int_equal(es_plan_n_active(p, 0), 4);
    assert_int_equal(es_plan_n_active(p, 5), 3);
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        int seen[23] = {0}, mixed = 0, wavmixed = 0;
        for (int64_t s = 3 * epoch; s < 3 * epoch + 3; s++)
            for (int j = 0; j < es_plan_n_active(p, s); j++) {
                struct es_leaf_plan leaf;
                es_plan_leaf(p, s, j, &leaf);
                assert_int_equal(leaf.n, 8);
                for (int i = leaf.first[ES_SET_W]; i < leaf.first[ES_SET_U]; i++) seen[leaf.clip[i]]++;
                for (int i = 0; i < leaf.n; i++) {
                    assert_true(leaf.partner[i] < 0 || (i < leaf.first[ES_SET_W] && leaf.weight[i] >= 0.5f));
                    wavmixed += leaf.partner[i] >= 0;
                }
                assert_true(leaf.mixup ? leaf.n_mix == 3 : leaf.n_mix == 0);
                mixed += leaf.mixup;
                for (int m = 0; m < leaf.n_mix; m++)
                    for (int i = 0; i < leaf.mix[m].n; i++)
                        assert_true(leaf.mix[m].c[i] >= 0.5f && leaf.mix[m].perm[i] < leaf.mix[m].n);
            }
        for (int i = 0; i < 23; i++) assert_true(seen[i] <= 1);
        assert_true(mixed > 0 && mixed < 11 && wavmixed > 0);
    }
    es_plan_free(&p);
}

static void pure_function(void **state) {
    (void)state;
    struct es_plan_params pp = params();
    struct es_plan *a = NULL, *b = NULL;
    assert_int_equal(es_plan_new(&a, &pp, NULL), 0);
    assert_int_equal(es_plan_new(&b, &pp, NULL), 0);
    struct es_leaf_plan x, y;
    es_plan_leaf(a, 7, 1, &x);
    for (int64_t s = 0; s < 3; s++) es_plan_leaf(b, s, 0, &y);
    es_plan_leaf(b, 7, 1, &y);
    assert_memory_equal(&x, &y, sizeof x);
    es_plan_leaf(b, 7, 2, &y);
    assert_memory_not_equal(x.clip, y.clip, 8 * sizeof x.clip[0]);
    es_plan_free(&a);
    es_plan_free(&b);
    pp.n_clips[ES_SET_W] = 1;
    struct es_err err = {0};
    assert_int_equal(es_plan_new(&a, &pp, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "weak"));
}

/* fPaSST's band: one draw a leaf, uniform below the ranges, no other draw moved by it; none when off. */
static void bands(void **state) {
    (void)state;
    struct es_plan_params pp = params();
    struct es_plan *off = NULL, *on = NULL;
    assert_int_equal(es_plan_new(&off, &pp, NULL), 0);
    pp.fmin_range = 10;
    pp.fmax_range = 2000;
    assert_int_equal(es_plan_new(&on, &pp, NULL), 0);
    int count_min[10] = {0}, count_max[4] = {0}, n = 0;
    for (int64_t s = 0; s < 300; s++)
        for (int j = 0; j < es_plan_n_active(on, s); j++, n++) {
            struct es_leaf_plan a, b;
            es_plan_leaf(off, s, j, &a);
            es_plan_leaf(on, s, j, &b);
            assert_true(a.band_min == 0 && a.band_max == 0);
            assert_true(b.band_min >= 0 && b.band_min < 10 && b.band_max >= 0 && b.band_max < 2000);
            count_min[b.band_min]++;
            count_max[b.band_max / 500]++;
            b.band_min = b.band_max = 0;
            assert_memory_equal(&a, &b, sizeof a);
        }
    for (int i = 0; i < 10; i++) assert_true(count_min[i] > n / 20 && count_min[i] < n / 5);
    for (int i = 0; i < 4; i++) assert_true(count_max[i] > n / 5 && count_max[i] < n / 3);
    es_plan_free(&on);
    es_plan_free(&off);
}

/* The frontend of an evaluation follows from the configuration: the public 7000, 7500 and 8000 Hz. */
static void evaluation_band(void **state) {
    (void)state;
    static const struct {
        const char *range;
        double fmax_hz;
    } cases[] = {{"2000", 7000}, {"1000", 7500}, {"1", 8000}};
    for (int i = 0; i < 3; i++) {
        struct es_config *cfg = NULL;
        char text[100];
        snprintf(text, sizeof text, "model: {arch: fpasst}\nfrontend: {fmin_range: 10, fmax_range: %s}\n",
                 cases[i].range);
        assert_int_equal(es_config_new(&cfg, NULL), 0);
        assert_int_equal(es_config_load_text(cfg, "x.yaml", text, NULL), 0);
        assert_int_equal(es_config_finish(cfg, NULL), 0);
        struct es_frontend_params p = es_model_frontend(cfg);
        assert_true(p.kind == ES_FRONTEND_FPASST_MEL && p.fmin_hz == 0 && p.fmax_hz == cases[i].fmax_hz);
        es_config_free(&cfg);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(epochs_and_windows), cmocka_unit_test(pure_function),
                                       cmocka_unit_test(bands), cmocka_unit_test(evaluation_band)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
