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

/* ---- augmentations */

static struct es_plan_params augmented(void) {
    struct es_plan_params pp = params();
    pp.leaves = 1;
    pp.augment = (struct es_augment_params){.n_dir = 3,
                                            .dir_p = 0.5,
                                            .gain_db = 7,
                                            .shift = true,
                                            .mask = true,
                                            .mask_set = {false, true, true},
                                            .mask_min = 0.05,
                                            .mask_max = 0.3,
                                            .style_p = 0.5,
                                            .style_alpha = 0.3,
                                            .style_joint = true,
                                            .warp_p = 0.5,
                                            .warp_min = 0.6,
                                            .warp_maestro = true,
                                            .filter_p = 0.8,
                                            .filter_db = 6,
                                            .bands_min = 3,
                                            .bands_max = 5,
                                            .band_width = 6,
                                            .teacher_filter = true,
                                            .feature_filter = true,
                                            .label_frames = 156,
                                            .crnn_mels = 128,
                                            .feature_mels = 64};
    return pp;
}

static void check_filter(const struct es_filter_call *f, const struct es_leaf_plan *leaf, int F) {
    assert_true(f->n == leaf->n && f->n_bands >= 3 && f->n_bands <= 5);
    assert_true(f->edge[0] == 0 && f->edge[f->n_bands] == F);
    for (int b = 0; b < f->n_bands; b++) assert_true(f->edge[b + 1] - f->edge[b] >= 6);
    for (int i = 0; i < f->n; i++)
        for (int b = 0; b <= f->n_bands; b++) assert_true(f->gain_db[i][b] >= -6 && f->gain_db[i][b] <= 6);
}

struct seen { /* how often, and the extremes */
    int n, dir[4], gain[14], styles, warps, filters, bands[6];
    int width_min, width_max, low_max, end_max, height_min, height_max;
    double shift, shift2;
};

static void look(const struct es_leaf_plan *leaf, struct seen *s) {
    const struct es_augment_plan *a = &leaf->augment;
    const int *f = leaf->first;
    s->n++;
    for (int i = 0; i < leaf->n; i++) {
        s->dir[leaf->dir[i] + 1]++;
        assert_true(leaf->gain_db[i] >= -7 && leaf->gain_db[i] <= 6);
        s->gain[leaf->gain_db[i] + 7]++;
        s->shift += a->shift_sigma[i];
        s->shift2 += a->shift_sigma[i] * a->shift_sigma[i];
    }
    assert_true(a->shift && a->mask_first == f[ES_SET_R] && a->mask_n == f[ES_SET_W] - f[ES_SET_R]);
    assert_true(a->mask_low >= 0 && a->mask_low + a->mask_width < 156); /* never the last frame */
    if (a->mask_width < s->width_min) s->width_min = a->mask_width;
    if (a->mask_width > s->width_max) s->width_max = a->mask_width;
    if (a->mask_low + a->mask_width > s->end_max) s->end_max = a->mask_low + a->mask_width;
    assert_true(a->n_style == 0 || a->n_style == 3); /* weak; M, R and S; unlabelled */
    s->styles += a->n_style > 0;
    for (int k = 0; k < a->n_style; k++)
        for (int mel = 0; mel < ES_N_MELS; mel++) {
            static const int first[3] = {ES_SET_W, ES_SET_M, ES_SET_U},
                             end[3] = {ES_SET_U, ES_SET_W, ES_N_SETS};
            const struct es_mix_call *c = &a->style[mel][k];
            assert_true(c->first == f[first[k]] && c->first + c->n == f[end[k]]);
            for (int i = 0; i < c->n; i++) assert_true(c->c[i] >= 0.5f && c->c[i] <= 1 && c->perm[i] < c->n);
        }
    if (a->n_style > 0) /* the two mels have draws of their own */
        assert_memory_not_equal(a->style[0][1].c, a->style[1][1].c, (size_t)a->style[0][1].n * sizeof(float));
    assert_true(a->n_warp == 0 || a->n_warp == 4);
    s->warps += a->n_warp > 0;
    for (int k = 0; k < a->n_warp; k++) {
        const struct es_warp_call *w = &a->warp[k];
        assert_true(w->n > 0 && w->low >= 0 && w->low + w->height <= 64);
        if (w->height < s->height_min) s->height_min = w->height;
        if (w->height > s->height_max) s->height_max = w->height;
    }
    s->filters += a->filter[ES_FILTER_CRNN].n > 0;
    for (int k = 0; k < ES_N_FILTERS && a->filter[ES_FILTER_CRNN].n > 0; k++) {
        check_filter(&a->filter[k], leaf, k == ES_FILTER_FEATURES ? 64 : 128);
        s->bands[a->filter[k].n_bands]++;
    }
}

static void augment_draws(void **state) {
    (void)state;
    struct es_plan_params pp = augmented();
    struct es_plan *p = NULL;
    struct es_leaf_plan leaf;
    struct seen s = {.width_min = 1000, .height_min = 1000};
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    for (int64_t step = 0; step < 2000; step++) {
        es_plan_leaf(p, step, 0, &leaf);
        look(&leaf, &s);
    }
    int clips = s.n * 8;
    assert_true(s.dir[0] > clips * 0.47 && s.dir[0] < clips * 0.53);
    for (int i = 1; i < 4; i++) assert_true(s.dir[i] > clips * 0.15 && s.dir[i] < clips * 0.19);
    for (int i = 0; i < 14; i++) assert_true(s.gain[i] > clips / 14 * 0.85 && s.gain[i] < clips / 14 * 1.15);
    assert_true(s.width_min == 7 && s.width_max == 45 && s.end_max == 155);
    assert_true(s.height_min == 38 && s.height_max == 63); /* trunc(64 * 0.6 ..< 1) */
    assert_true(s.styles > 900 && s.styles < 1100 && s.warps > 900 && s.warps < 1100);
    assert_true(s.filters > 1520 && s.filters < 1680);
    for (int b = 3; b <= 5; b++) assert_true(s.bands[b] > s.filters * 0.9 && s.bands[b] < s.filters * 1.1);
    double mean = s.shift / clips, variance = s.shift2 / clips - mean * mean;
    assert_true(mean > -0.03 && mean < 0.03 && variance > 0.96 && variance < 1.04);
    es_plan_free(&p);
}

/* Every augmentation has a stream of its own: switching one off moves no draw of another; and all off: nothing. */
static void augment_streams(void **state) {
    (void)state;
    for (int off = 0; off < 7; off++) {
        struct es_plan_params pp = augmented(), less = augmented();
        struct es_plan *a = NULL, *b = NULL;
        struct es_leaf_plan x, y;
        struct es_augment_params *ap = &less.augment;
        switch (off) {
        case 0:
            ap->n_dir = 0;
            break;
        case 1:
            ap->gain_db = 0;
            break;
        case 2:
            ap->shift = false;
            break;
        case 3:
            ap->mask = false;
            break;
        case 4:
            ap->style_p = 0;
            break;
        case 5:
            ap->warp_p = 0;
            break;
        default:
            ap->filter_p = 0;
        }
        assert_int_equal(es_plan_new(&a, &pp, NULL), 0);
        assert_int_equal(es_plan_new(&b, &less, NULL), 0);
        int differ = 0;
        for (int64_t step = 0; step < 20; step++) {
            es_plan_leaf(a, step, 0, &x);
            es_plan_leaf(b, step, 0, &y);
            differ += memcmp(&x, &y, sizeof x) != 0;
            struct es_augment_plan *xa = &x.augment, *ya = &y.augment;
            if (off == 0) memcpy(y.dir, x.dir, sizeof x.dir);
            if (off == 1) memcpy(y.gain_db, x.gain_db, sizeof x.gain_db);
            if (off == 2) {
                ya->shift = true;
                memcpy(ya->shift_sigma, xa->shift_sigma, sizeof xa->shift_sigma);
            }
            if (off == 3) {
                ya->mask_first = xa->mask_first;
                ya->mask_n = xa->mask_n;
                ya->mask_low = xa->mask_low;
                ya->mask_width = xa->mask_width;
            }
            if (off == 4) {
                ya->n_style = xa->n_style;
                memcpy(ya->style, xa->style, sizeof xa->style);
            }
            if (off == 5) {
                ya->n_warp = xa->n_warp;
                memcpy(ya->warp, xa->warp, sizeof xa->warp);
            }
            if (off == 6) memcpy(ya->filter, xa->filter, sizeof xa->filter);
            assert_memory_equal(&x, &y, sizeof x);
        }
        assert_true(differ >= 5);
        es_plan_free(&a);
        es_plan_free(&b);
    }
}

/* One set: one call over all its clips, masks of all. */
static void augment_pretraining(void **state) {
    (void)state;
    struct es_plan_params pp = augmented();
    pp.n_sets = 1;
    pp.size[0] = 6;
    pp.augment.mask_set[0] = true;
    pp.augment.crnn_mels = 0;
    pp.augment.teacher_filter = false;
    pp.augment.style_p = pp.augment.warp_p = pp.augment.filter_p = 1;
    struct es_plan *p = NULL;
    struct es_leaf_plan leaf;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    es_plan_leaf(p, 3, 0, &leaf);
    const struct es_augment_plan *a = &leaf.augment;
    assert_true(a->mask_first == 0 && a->mask_n == 6 && a->n_style == 1 && a->n_warp == 1);
    assert_true(a->style[ES_MEL_FEATURES][0].n == 6 && a->warp[0].n == 6);
    assert_true(a->filter[ES_FILTER_CRNN].n == 0 && a->filter[ES_FILTER_TEACHER].n == 0);
    assert_int_equal(a->filter[ES_FILTER_FEATURES].n, 6);
    es_plan_free(&p);
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

/* Weighted drawing without replacement: every clip once, heavy ones first as often as their share says, weight 0 last. */
static void weighted(void **state) {
    (void)state;
    enum { CLIPS = 10, EPOCHS = 4000 };
    double weight[CLIPS] = {5, 1, 1, 1, 1, 1, 0, 0, 3, 2}, first[CLIPS] = {0}, sum = 15;
    struct es_plan_params pp = params();
    struct es_plan *p = NULL;
    pp.n_sets = 1;
    pp.size[0] = 1;
    pp.n_clips[0] = CLIPS;
    pp.leaves = CLIPS;
    pp.weight = weight;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    for (int64_t step = 0; step < EPOCHS; step++) {
        int seen[CLIPS] = {0};
        for (int j = 0; j < CLIPS; j++) {
            struct es_leaf_plan leaf;
            es_plan_leaf(p, step, j, &leaf);
            seen[leaf.clip[0]]++;
            if (j == 0) first[leaf.clip[0]]++;
            assert_true((j >= 8) == (weight[leaf.clip[0]] == 0));
        }
        for (int i = 0; i < CLIPS; i++) assert_int_equal(seen[i], 1);
    }
    for (int i = 0; i < CLIPS; i++) { /* five standard deviations of the binomial */
        double want = EPOCHS * weight[i] / sum, off = first[i] - want;
        if (off * off > 25 * want * (1 - weight[i] / sum))
            fail_msg("clip %d: %g times first, want %g", i, first[i], want);
    }
    es_plan_free(&p);
    pp.epoch_leaves = 7; /* of a set: the last window is short */
    pp.leaves = 4;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    assert_int_equal(es_plan_epoch_micro_batches(p), 7);
    assert_int_equal(es_plan_epoch_steps(p), 2);
    assert_int_equal(es_plan_n_active(p, 1), 3);
    es_plan_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs_and_windows),  cmocka_unit_test(weighted),
        cmocka_unit_test(pure_function),       cmocka_unit_test(bands),
        cmocka_unit_test(augment_draws),       cmocka_unit_test(augment_streams),
        cmocka_unit_test(augment_pretraining), cmocka_unit_test(evaluation_band)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
