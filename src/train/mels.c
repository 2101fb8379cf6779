/* The augmentations of a leaf's mels and targets in the published order (spec/training.md 3.1). Stage 1: shift, mixup, mixstyle,
 * time mask, filters (the trainer's, of student and teacher apart). Stage 2: shift, time mask; the teacher looks; mixup, mixstyle,
 * warp, filters. Pre-training: as stage 1, then filter and warp. */
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

/* The mels of a leaf, clip by clip [rows, frames]. Pre-training has no crnn mel, the CRNN alone no features. */
struct mel {
    float *x; /* NULL: the leaf has none */
    int rows, frames;
};

static struct mel crnn_mel(const struct es_trainer_params *tp, const struct es_leaf_input *in) {
    return (struct mel){in->crnn, tp->net.crnn_mels, tp->crnn_frames};
}
static struct mel feature_mel(const struct es_trainer_params *tp, const struct es_leaf_input *in) {
    return (struct mel){in->features, tp->net.transformer.n_mels, tp->feature_frames};
}

static float *clip_of(const struct mel *m, int64_t i) {
    return m->x + i * m->rows * m->frames;
}

static void roll(const struct mel *m, int64_t i, int by, float *scratch) {
    if (m->x) es_augment_roll(clip_of(m, i), m->rows, m->frames, 1, by, scratch);
}

static void silence(const struct mel *m, int64_t first, int64_t n, struct es_span frames) {
    if (m->x) es_augment_silence(clip_of(m, first), n * m->rows, m->frames, 1, frames);
}

static void shift(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    struct es_targets *x = &in->targets;
    struct target_shape s = target_shape(tp, x);
    struct mel crnn = crnn_mel(tp, in), features = feature_mel(tp, in);
    int64_t T = x->n_frames, target = T * x->n_classes;
    int mel_frames = crnn.x ? crnn.frames : features.frames;
    int sigma = (int)(mel_frames * tp->shift_range);
    for (int i = 0; i < x->n; i++) {
        struct es_shift by =
            es_augment_shift(in->augment->shift_sigma[i] * sigma, POOLING, mel_frames, tp->feature_frames);
        roll(&features, i, by.features, scratch);
        roll(&crnn, i, by.mel, scratch);
        es_augment_roll(x->labels + i * target, s.rows, (int)T, s.width, by.labels, scratch);
        if (x->pseudo) es_augment_roll(x->pseudo + i * target, s.rows, (int)T, s.width, by.labels, scratch);
    }
}

/* QUIRK: pseudo-labels keep what the mask hides. In pre-training the features are the mel of the public code. */
static void mask(const struct es_trainer_params *tp, struct es_leaf_input *in) {
    const struct es_augment_plan *a = in->augment;
    struct es_targets *x = &in->targets;
    struct target_shape s = target_shape(tp, x);
    struct mel crnn = crnn_mel(tp, in), features = feature_mel(tp, in);
    int64_t first = a->mask_first, n = a->mask_n;
    if (n == 0) return;
    struct es_span labels = {a->mask_low, a->mask_low + a->mask_width};
    silence(&crnn, first, n, es_augment_mask_mel(a->mask_low, a->mask_width, POOLING, crnn.frames));
    silence(&features, first, n,
            crnn.x ? es_augment_mask_features(a->mask_low, a->mask_width, x->n_frames, features.frames)
                   : es_augment_mask_mel(a->mask_low, a->mask_width, POOLING, features.frames));
    es_augment_silence(x->labels + first * x->n_classes * x->n_frames, n * s.rows, x->n_frames, s.width,
                       labels);
}

void train_augment_before(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    if (!in->augment) return;
    if (in->augment->shift) shift(tp, in, scratch);
    if (tp->phase == ES_PHASE_STAGE2) mask(tp, in);
}

/* Of features. */
static void warp(const struct es_augment_plan *a, const struct mel *m, float *scratch) {
    for (int k = 0; m->x && k < a->n_warp; k++)
        es_augment_warp(&a->warp[k], m->x, m->rows, m->frames, scratch);
}

static void mixup(const struct es_targets *x, const struct mel *m, float *scratch) {
    for (int k = 0; m->x && x->mixup && k < x->n_mix; k++)
        es_mix_rows(&x->mix[k], m->x, (int64_t)m->rows * m->frames, scratch);
}

static void mixstyle(const struct es_augment_plan *a, int which, const struct mel *m, float *scratch) {
    for (int k = 0; m->x && k < a->n_style; k++)
        es_augment_mixstyle(&a->style[which][k], m->x, m->rows, m->frames, scratch);
}

void train_augment_after(const struct es_trainer_params *tp, struct es_leaf_input *in, float *scratch) {
    const struct es_augment_plan *a = in->augment;
    struct mel crnn = crnn_mel(tp, in), features = feature_mel(tp, in);
    mixup(&in->targets, &crnn, scratch);
    mixup(&in->targets, &features, scratch);
    if (!a) return;
    mixstyle(a, ES_MEL_CRNN, &crnn, scratch);
    mixstyle(a, ES_MEL_FEATURES, &features, scratch);
    if (tp->phase == ES_PHASE_STAGE2)
        warp(a, &features, scratch);
    else
        mask(tp, in);
    if (features.x)
        es_augment_filter(&a->filter[ES_FILTER_FEATURES], features.x, features.x, features.rows,
                          features.frames);
    if (tp->phase == ES_PHASE_PRETRAIN) warp(a, &features, scratch);
}

const float *train_augment_filtered(const struct es_trainer_params *tp, const struct es_leaf_input *in,
                                    int filter, float *scratch) {
    const struct es_filter_call *call = in->augment ? &in->augment->filter[filter] : NULL;
    if (!call || call->n == 0) return in->crnn;
    es_augment_filter(call, in->crnn, scratch, tp->net.crnn_mels, tp->crnn_frames);
    return scratch;
}
