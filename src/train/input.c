/* From the loader's waveforms to a leaf's features: frontends on the main thread, reading ahead on the loader's. */
#include <string.h>

#include "earshot/mem.h"
#include "earshot/model.h"
#include "earshot/timer.h"
#include "train_impl.h"

int train_input_shapes(struct es_trainer_params *tp, struct es_err *err) {
    for (int i = 0; i < 2; i++) {
        struct es_frontend *f = NULL;
        int mels, frames = 0;
        if (i == 1 ? tp->phase == ES_PHASE_PRETRAIN : tp->net.alone) continue;
        int kind = i ? (int)ES_FRONTEND_CRNN_MEL
                     : es_frontend_kind_from_name(es_arch_name(tp->net.transformer.arch));
        ES_TRY(es_frontend_new(&f, es_frontend_params_default((enum es_frontend_kind)kind), err));
        int rc = es_frontend_shape(f, ES_DATASET_SAMPLES, &mels, &frames, err);
        es_frontend_free(&f);
        ES_TRY(rc);
        *(i ? &tp->crnn_frames : &tp->feature_frames) = frames;
    }
    return 0;
}

int train_input_new(struct train_input *in, const struct es_trainer_params *tp, const struct es_config *cfg,
                    struct es_err *err) {
    size_t n = (size_t)tp->leaf_clips, scratch = 0;
    *in = (struct train_input){.tp = tp};
    if (!tp->net.alone) {
        ES_TRY(es_frontend_new(&in->mel, es_model_frontend(cfg), err));
        scratch = es_frontend_scratch(in->mel);
        in->features =
            es_alloc(n * (size_t)tp->net.transformer.n_mels * (size_t)tp->feature_frames, sizeof(float), err);
        if (!in->features) return -ES_EIO;
    }
    if (tp->phase != ES_PHASE_PRETRAIN) {
        ES_TRY(es_frontend_new(&in->crnn_mel, es_frontend_params_default(ES_FRONTEND_CRNN_MEL), err));
        if (es_frontend_scratch(in->crnn_mel) > scratch) scratch = es_frontend_scratch(in->crnn_mel);
        in->crnn = es_alloc(n * (size_t)tp->net.crnn_mels * (size_t)tp->crnn_frames, sizeof(float), err);
        if (!in->crnn) return -ES_EIO;
    }
    in->scratch = es_alloc(1, scratch, err);
    return in->scratch ? 0 : -ES_EIO;
}

void train_input_free(struct train_input *in) {
    es_loader_free(&in->loader);
    es_free(&in->scratch);
    es_free(&in->crnn);
    es_free(&in->features);
    es_frontend_free(&in->crnn_mel);
    es_frontend_free(&in->mel);
}

/* The leaves of this rank from in->first_step on, in the order in which the trainer asks for them. Runs in the loader's thread. */
static bool next_leaf(void *ctx, int64_t i, int64_t *step, int *leaf) {
    struct train_input *in = ctx;
    if (i == 0) {
        in->next_step = in->first_step;
        in->next_index = 0;
    }
    while (in->next_step < in->end_step) {
        int n_active = es_plan_n_active(in->plan, in->next_step);
        *leaf = es_trainer_my_leaf(in->trainer, n_active, in->next_index);
        *step = in->next_step;
        if (*leaf >= 0) {
            in->next_index++;
            return true;
        }
        in->next_step++;
        in->next_index = 0;
    }
    return false;
}

int train_input_start(struct train_input *in, struct es_dataset *d, const struct es_plan *plan,
                      struct es_trainer *t, int64_t first_step, int64_t end_step, struct es_err *err) {
    in->plan = plan;
    in->trainer = t;
    in->first_step = first_step;
    in->end_step = end_step;
    return es_loader_new(&in->loader, d, es_plan_get_params(plan), next_leaf, in, err);
}

int train_input_leaf(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err) {
    struct train_input *in = ctx;
    const struct es_trainer_params *tp = in->tp;
    const struct es_leaf_plan *plan;
    struct es_dataset_leaf *data;
    double begin_s = es_now_s();
    ES_TRY(es_loader_get(in->loader, &plan, &data, err));
    double loaded_s = es_now_s();
    in->wait_s = loaded_s - begin_s;
    ES_ASSERT(plan->leaf == leaf && plan->n == tp->leaf_clips);
    (void)step;
    const struct es_plan_params *pp = es_plan_get_params(in->plan);
    if (pp->fmin_range > 1 || pp->fmax_range > 1) {
        struct es_band band = es_frontend_fpasst_band_train(pp->fmax_range, plan->band_min, plan->band_max);
        ES_TRY(es_frontend_set_band(in->mel, band.fmin_hz, band.fmax_hz, err));
    }
    if (in->mel)
        ES_TRY(es_frontend_run(in->mel, plan->n, ES_DATASET_SAMPLES, data->wave, in->features, in->scratch,
                               err));
    if (in->crnn_mel)
        ES_TRY(es_frontend_run(in->crnn_mel, plan->n, ES_DATASET_SAMPLES, data->wave, in->crnn, in->scratch,
                               err));
    in->frontend_s = es_now_s() - loaded_s;
    bool pretrain = tp->phase == ES_PHASE_PRETRAIN;
    *out = (struct es_leaf_input){.crnn = in->crnn, .features = in->features, .augment = &plan->augment};
    out->targets = (struct es_targets){.n = plan->n,
                                       .n_classes = pretrain ? tp->net.pretrain_classes : tp->net.n_classes,
                                       .n_frames = pretrain ? tp->net.pretrain_frames : tp->net.n_frames,
                                       .labels = data->labels,
                                       .weak = data->weak,
                                       .mask = data->mask,
                                       .pseudo = tp->pseudo ? data->pseudo : NULL,
                                       .mixup = plan->mixup,
                                       .n_mix = plan->n_mix,
                                       .mix = plan->mix};
    memcpy(out->targets.first, plan->first, sizeof plan->first);
    return 0;
}
