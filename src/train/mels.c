/* The augmentations of a leaf's mels and targets in the published order (spec/training.md 3.1). Stage 1: shift, mixup, mixstyle,
 * time mask, filters (the trainer's, of student and teacher apart). Stage 2: shift, time mask; the teacher looks; mixup, mixstyle,
 * warp, filters. Pre-training: as stage 1, then filter and warp. Pre-training has no crnn mel, the CRNN alone no features. */
#include "earshot/augment.h"

#include "train_impl.h"

#define POOLING 4 /* mel frames of a label frame */

/* Rows of a clip's targets along time: [K,T] in the stages, [T,K] in pre-training. */
struct target_shape {
    int64_t rows, width;
};

static struct target_shape target_shape(const struct es_trainer_params *tp, const struct es_targets *x) {
    bool pretrain = tp->phase == ES_PHASE_PRETRAIN;
    return (struct target_shape){pretrain ? 1 : x->n_classes, pretrain ? x->n_classes : 1};
}

static void shift(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    struct es_targets *x = &in->targets;
    struct target_shape s = target_shape(tp, x);
    int64_t F = tp->net.transformer.n_mels, T = x->n_frames, target = T * x->n_classes;
    int mel_frames = in->crnn ? tp->crnn_frames : tp->feature_frames;
    int sigma = (int)(mel_frames * tp->shift_range);
    for (int i = 0; i < x->n; i++) {
        struct es_shift by =
            es_augment_shift(in->augment->shift_sigma[i] * sigma, POOLING, mel_frames, tp->feature_frames);
        if (in->features)
            es_augment_roll(in->features + i * F * tp->feature_frames, F, tp->feature_frames, 1, by.features,
                            scratch);
        if (in->crnn)
            es_augment_roll(in->crnn + (int64_t)i * tp->net.crnn_mels * tp->crnn_frames, tp->net.crnn_mels,
                            tp->crnn_frames, 1, by.mel, scratch);
        es_augment_roll(x->labels + i * target, s.rows, (int)T, s.width, by.labels, scratch);
        if (x->pseudo) es_augment_roll(x->pseudo + i * target, s.rows, (int)T, s.width, by.labels, scratch);
    }
}

/* QUIRK: pseudo-labels keep what the mask hides. */
static void mask(const struct es_trainer_params *tp, struct es_leaf_input *in) {
    const struct es_augment_plan *a = in->augment;
    struct es_targets *x = &in->targets;
    struct target_shape s = target_shape(tp, x);
    int64_t first = a->mask_first, n = a->mask_n, F = tp->net.transformer.n_mels;
    struct es_span labels = {a->mask_low, a->mask_low + a->mask_width};
    struct es_span features =
        es_augment_mask_features(a->mask_low, a->mask_width, x->n_frames, tp->feature_frames);
    if (n == 0) return;
    if (in->crnn) {
        int64_t rows = tp->net.crnn_mels;
        es_augment_silence(in->crnn + first * rows * tp->crnn_frames, n * rows, tp->crnn_frames, 1,
                           es_augment_mask_mel(a->mask_low, a->mask_width, POOLING, tp->crnn_frames));
    } else { /* the features are the mel of the public code */
        features = es_augment_mask_mel(a->mask_low, a->mask_width, POOLING, tp->feature_frames);
    }
    if (in->features)
        es_augment_silence(in->features + first * F * tp->feature_frames, n * F, tp->feature_frames, 1,
                           features);
    es_augment_silence(x->labels + first * x->n_classes * x->n_frames, n * s.rows, x->n_frames, s.width,
                       labels);
}

void train_augment_before(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    if (!in->augment) return;
    if (in->augment->shift) shift(tp, in, scratch);
    if (tp->phase == ES_PHASE_STAGE2) mask(tp, in);
}

static void warp(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    for (int k = 0; in->features && k < in->augment->n_warp; k++)
        es_augment_warp(&in->augment->warp[k], in->features, tp->net.transformer.n_mels, tp->feature_frames,
                        scratch);
}

static void mixup(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    for (int m = 0; in->targets.mixup && m < in->targets.n_mix; m++) {
        const struct es_mix_call *call = &in->targets.mix[m];
        if (in->crnn) es_mix_rows(call, in->crnn, (int64_t)tp->net.crnn_mels * tp->crnn_frames, scratch);
        if (in->features)
            es_mix_rows(call, in->features, (int64_t)tp->net.transformer.n_mels * tp->feature_frames,
                        scratch);
    }
}

void train_augment_after(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    const struct es_augment_plan *a = in->augment;
    int F = tp->net.transformer.n_mels, T = tp->feature_frames;
    mixup(tp, in, scratch);
    if (!a) return;
    for (int k = 0; k < a->n_style; k++) {
        if (in->crnn)
            es_augment_mixstyle(&a->style[ES_MEL_CRNN][k], in->crnn, tp->net.crnn_mels, tp->crnn_frames,
                                scratch);
        if (in->features) es_augment_mixstyle(&a->style[ES_MEL_FEATURES][k], in->features, F, T, scratch);
    }
    if (tp->phase == ES_PHASE_STAGE2)
        warp(tp, in, scratch);
    else
        mask(tp, in);
    if (in->features) es_augment_filter(&a->filter[ES_FILTER_FEATURES], in->features, in->features, F, T);
    if (tp->phase == ES_PHASE_PRETRAIN) warp(tp, in, scratch);
}

const float *train_augment_filtered(const struct es_trainer_params *tp, const struct es_leaf_input *in,
                                    int filter, float *scratch) {
    const struct es_filter_call *call = in->augment ? &in->augment->filter[filter] : NULL;
    if (!call || call->n == 0) return in->crnn;
    es_augment_filter(call, in->crnn, scratch, tp->net.crnn_mels, tp->crnn_frames);
    return scratch;
}
