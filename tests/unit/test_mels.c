/* The order in which a leaf's mels and targets are augmented, and who is: spec/training.md 3.1, call by call, for each phase. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "earshot/augment.h"
#include "earshot/rng.h"

#include "../src/train/train_impl.h"

enum { B = 7, K = 5, T = 10, CF = 16, CT = 41, F = 12, FT = 53 };

static const int first[ES_N_SETS + 1] = {0, 1, 3, 4, 6, 7};

struct leaf {
    float crnn[B * CF * CT], features[B * F * FT], labels[B * K * T], pseudo[B * K * T], weak[B * K];
    uint8_t mask[B * K];
};

static void fill(float *x, int n, uint32_t op) {
    struct es_rng r = es_rng_make(3, ES_RNG_BENCH, 0, 0, op);
    for (int i = 0; i < n; i++) x[i] = (float)es_rng_range(&r, 0.1, 1);
}

static void fill_leaf(struct leaf *l) {
    fill(l->crnn, B * CF * CT, 1);
    fill(l->features, B * F * FT, 2);
    fill(l->labels, B * K * T, 3);
    fill(l->pseudo, B * K * T, 4);
    memset(l->mask, 1, sizeof l->mask);
}

static struct es_plan *new_plan(enum es_phase phase) {
    bool pretrain = phase == ES_PHASE_PRETRAIN, stage1 = phase == ES_PHASE_STAGE1;
    struct es_plan *p = NULL;
    struct es_plan_params pp = {.seed = 8, .n_sets = pretrain ? 1 : ES_N_SETS, .leaves = 1, .mixup_p = 1};
    for (int s = 0; s < pp.n_sets; s++) pp.size[s] = pretrain ? B : first[s + 1] - first[s];
    for (int s = 0; s < pp.n_sets; s++) pp.n_clips[s] = 100;
    pp.mixup_alpha = 0.5;
    pp.augment = (struct es_augment_params){.shift = true,
                                            .mask = true,
                                            .mask_set = {pretrain, true, true},
                                            .mask_min = 0.1,
                                            .mask_max = 0.6,
                                            .style_p = 1,
                                            .style_alpha = 0.3,
                                            .warp_p = stage1 ? 0 : 1,
                                            .warp_min = 0.6,
                                            .filter_p = 1,
                                            .filter_db = 6,
                                            .bands_min = 3,
                                            .bands_max = 3,
                                            .band_width = 2,
                                            .teacher_filter = stage1,
                                            .feature_filter = !stage1,
                                            .label_frames = T,
                                            .crnn_mels = pretrain ? 0 : CF,
                                            .feature_mels = F};
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    return p;
}

/* ---- the spec's steps, on a leaf of its own */

static float scratch[B * CF * CT];

static void shift(struct leaf *x, const struct es_augment_plan *a, bool pretrain) {
    for (int i = 0; i < B; i++) {
        int frames = pretrain ? FT : CT;
        struct es_shift s = es_augment_shift(a->shift_sigma[i] * (int)(frames * 0.3), 4, frames, FT);
        assert_true(!pretrain || s.mel == s.features);
        es_augment_roll(x->features + i * F * FT, F, FT, 1, s.features, scratch);
        if (!pretrain) es_augment_roll(x->crnn + i * CF * CT, CF, CT, 1, s.mel, scratch);
        es_augment_roll(x->labels + i * K * T, pretrain ? 1 : K, T, pretrain ? K : 1, s.labels, scratch);
        es_augment_roll(x->pseudo + i * K * T, pretrain ? 1 : K, T, pretrain ? K : 1, s.labels, scratch);
    }
}

static void mask(struct leaf *x, const struct es_augment_plan *a, bool pretrain) {
    int from = pretrain ? 0 : 1, n = pretrain ? B : 3, low = a->mask_low, width = a->mask_width;
    struct es_span all = {low, low + width}, mel = es_augment_mask_mel(low, width, 4, pretrain ? FT : CT);
    if (pretrain) {
        es_augment_silence(x->features, B * F, FT, 1, mel);
        es_augment_silence(x->labels, B, T, K, all);
        return;
    }
    es_augment_silence(x->crnn + from * CF * CT, n * CF, CT, 1, mel);
    es_augment_silence(x->features + from * F * FT, n * F, FT, 1,
                       es_augment_mask_features(low, width, T, FT));
    es_augment_silence(x->labels + from * K * T, n * K, T, 1, all);
}

static void mixup(struct leaf *x, const struct es_leaf_plan *p, bool pretrain) {
    for (int m = 0; m < p->n_mix; m++) {
        if (!pretrain) es_mix_rows(&p->mix[m], x->crnn, CF * CT, scratch);
        es_mix_rows(&p->mix[m], x->features, F * FT, scratch);
    }
}

static void style(struct leaf *x, const struct es_augment_plan *a, bool pretrain) {
    assert_true(a->n_style > 0);
    for (int k = 0; k < a->n_style; k++) {
        if (!pretrain) es_augment_mixstyle(&a->style[ES_MEL_CRNN][k], x->crnn, CF, CT, scratch);
        es_augment_mixstyle(&a->style[ES_MEL_FEATURES][k], x->features, F, FT, scratch);
    }
}

static void warp(struct leaf *x, const struct es_augment_plan *a) {
    assert_true(a->n_warp > 0);
    for (int k = 0; k < a->n_warp; k++) es_augment_warp(&a->warp[k], x->features, F, FT, scratch);
}

static void filter(struct leaf *x, const struct es_augment_plan *a) {
    assert_int_equal(a->filter[ES_FILTER_FEATURES].n, B);
    es_augment_filter(&a->filter[ES_FILTER_FEATURES], x->features, x->features, F, FT);
}

static void same(const struct leaf *got, const struct leaf *want) {
    assert_memory_equal(got->crnn, want->crnn, sizeof got->crnn);
    assert_memory_equal(got->features, want->features, sizeof got->features);
    assert_memory_equal(got->labels, want->labels, sizeof got->labels);
    assert_memory_equal(got->pseudo, want->pseudo, sizeof got->pseudo);
}

static void filtered(const struct es_trainer_params *tp, const struct es_leaf_input *in, int which) {
    static float want[B * CF * CT];
    const struct es_filter_call *call = &in->augment->filter[which];
    assert_int_equal(call->n, B);
    es_augment_filter(call, in->crnn, want, CF, CT);
    const float *got = train_augment_filtered(tp, in, which, scratch);
    assert_memory_equal(got, want, sizeof want);
}

static void order(void **state) {
    (void)state;
    static struct leaf got, want;
    static struct es_leaf_plan plan;
    for (int phase = 0; phase < 3; phase++) {
        bool pretrain = phase == ES_PHASE_PRETRAIN, stage2 = phase == ES_PHASE_STAGE2;
        struct es_plan *p = new_plan((enum es_phase)phase);
        struct es_trainer_params tp = {
            .phase = (enum es_phase)phase, .crnn_frames = CT, .feature_frames = FT, .shift_range = 0.3};
        tp.net.crnn_mels = CF;
        tp.net.transformer.n_mels = F;
        for (int64_t step = 0; step < 5; step++) {
            es_plan_leaf(p, step, 0, &plan);
            fill_leaf(&got);
            fill_leaf(&want);
            struct es_leaf_input in = {
                .crnn = pretrain ? NULL : got.crnn, .features = got.features, .augment = &plan.augment};
            in.targets = (struct es_targets){.n = B,
                                             .n_classes = K,
                                             .n_frames = T,
                                             .labels = got.labels,
                                             .weak = got.weak,
                                             .mask = got.mask,
                                             .pseudo = got.pseudo,
                                             .mixup = plan.mixup,
                                             .n_mix = plan.n_mix,
                                             .mix = plan.mix};
            const struct es_augment_plan *a = &plan.augment;
            assert_true(plan.n_mix == (pretrain ? 1 : 4));
            train_augment_before(&tp, &in, scratch);
            shift(&want, a, pretrain);
            if (stage2) mask(&want, a, false);
            same(&got, &want); /* what stage 2's teacher sees */
            train_augment_after(&tp, &in, scratch);
            mixup(&want, &plan, pretrain);
            style(&want, a, pretrain);
            if (!stage2) mask(&want, a, pretrain);
            if (stage2) warp(&want, a);
            if (phase != ES_PHASE_STAGE1) filter(&want, a);
            if (pretrain) warp(&want, a);
            same(&got, &want);
            if (pretrain) continue;
            filtered(&tp, &in, ES_FILTER_CRNN);
            if (!stage2) filtered(&tp, &in, ES_FILTER_TEACHER);
            struct es_leaf_input plain = {.crnn = got.crnn, .features = got.features, .targets = {.n = B}};
            train_augment_before(&tp, &plain, scratch); /* no augmentations: nothing */
            train_augment_after(&tp, &plain, scratch);
            same(&got, &want);
            assert_ptr_equal(train_augment_filtered(&tp, &plain, ES_FILTER_CRNN, scratch), got.crnn);
        }
        es_plan_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
