#include "earshot/forward.h"

#include <string.h>

#include "earshot/kernels_crnn.h"
#include "earshot/mem.h"

struct es_forward {
    const struct es_net *net;
    int block, frames, classes, feature_frames, crnn_frames;
    struct es_frontend *transformer_mel, *crnn_mel; /* NULL: not needed */
    float *waves, *features, *mel, *mel_log;
    void *scratch_mel;
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *tape;
};

static struct es_tensor *graph(struct es_forward *f, struct es_tape *t, struct es_tensor **attention) {
    const struct es_net_config *c = es_net_config(f->net);
    es_tape_reset(t, 0, 0);
    struct es_tensor *x = NULL, *z = NULL, *logits;
    if (!c->alone)
        x = es_tape_input(t, "features", 4,
                          (int64_t[]){f->block, 1, c->transformer.n_mels, f->feature_frames}, f->features,
                          false);
    *attention = NULL;
    if (c->pretrain) return es_net_pretrain(f->net, t, x);
    if (x) z = es_net_embed(f->net, t, x);
    struct es_tensor *m = es_tape_input(
        t, "crnn_log", 4, (int64_t[]){f->block, 1, f->crnn_frames, c->crnn_mels}, f->mel_log, false);
    es_net_sed(f->net, t, m, z, &logits, attention);
    if (z) es_tape_drop(t, z);
    return logits;
}

/* scratch = pool = 0: dry. The leaf arena stays empty: this tape does not record. */
static int new_tape(struct es_forward *f, struct es_params *params, size_t scratch, size_t pool,
                    struct es_err *err) {
    ES_TRY(es_arena_new(&f->leaf, "leaf", scratch > 0 ? 64 : 0, err));
    ES_TRY(es_arena_new(&f->scratch, "scratch", scratch, err));
    ES_TRY(es_pool_new(&f->pool, "pool", pool, err));
    struct es_tape_params tp = {params, f->leaf, f->scratch, f->pool, false, false, 0, ES_RNG_STUDENT_DROPOUT,
                                NULL};
    return es_tape_new(&f->tape, &tp, err);
}

static void free_tape(struct es_forward *f) {
    es_tape_free(&f->tape);
    es_pool_free(&f->pool);
    es_arena_free(&f->scratch);
    es_arena_free(&f->leaf);
}

static int set_up(struct es_forward *f, struct es_params *params, const struct es_frontend_params *mel,
                  struct es_err *err) {
    const struct es_net_config *c = es_net_config(f->net);
    int mels = 0;
    size_t scratch = 0;
    f->waves = es_alloc((size_t)f->block * ES_CLIP_SAMPLES, sizeof(float), err);
    if (!f->waves) return -ES_EIO;
    if (!c->alone) {
        ES_TRY(es_frontend_new(&f->transformer_mel, *mel, err));
        ES_TRY(es_frontend_shape(f->transformer_mel, ES_CLIP_SAMPLES, &mels, &f->feature_frames, err));
        f->features =
            es_alloc((size_t)f->block * (size_t)mels * (size_t)f->feature_frames, sizeof(float), err);
        if (!f->features) return -ES_EIO;
        scratch = es_frontend_scratch(f->transformer_mel);
    }
    if (!c->pretrain) {
        ES_TRY(es_frontend_new(&f->crnn_mel, es_frontend_params_default(ES_FRONTEND_CRNN_MEL), err));
        ES_TRY(es_frontend_shape(f->crnn_mel, ES_CLIP_SAMPLES, &mels, &f->crnn_frames, err));
        size_t n = (size_t)f->block * (size_t)mels * (size_t)f->crnn_frames;
        f->mel = es_alloc(n, sizeof(float), err);
        f->mel_log = es_alloc(n, sizeof(float), err);
        if (!f->mel || !f->mel_log) return -ES_EIO;
        if (es_frontend_scratch(f->crnn_mel) > scratch) scratch = es_frontend_scratch(f->crnn_mel);
    }
    f->scratch_mel = es_alloc(1, scratch, err);
    if (!f->scratch_mel) return -ES_EIO;
    ES_TRY(new_tape(f, params, 0, 0, err)); /* dry: measure */
    struct es_tensor *attention, *logits = graph(f, f->tape, &attention);
    f->frames = (int)logits->shape[1];
    f->classes = (int)logits->shape[2];
    size_t need_scratch = es_arena_peak(f->scratch) + 64, need_pool = es_pool_peak(f->pool) + 64;
    free_tape(f);
    return new_tape(f, params, need_scratch, need_pool, err);
}

int es_forward_new(struct es_forward **f, const struct es_net *net, struct es_params *params, int block,
                   const struct es_frontend_params *mel, struct es_err *err) {
    *f = es_alloc(1, sizeof **f, err);
    if (!*f) return -ES_EIO;
    (*f)->net = net;
    (*f)->block = block;
    int rc = set_up(*f, params, mel, err);
    if (rc < 0) es_forward_free(f);
    return rc;
}

void es_forward_free(struct es_forward **f) {
    if (!*f) return;
    free_tape(*f);
    es_free(&(*f)->scratch_mel);
    es_free(&(*f)->mel_log);
    es_free(&(*f)->mel);
    es_free(&(*f)->features);
    es_free(&(*f)->waves);
    es_frontend_free(&(*f)->crnn_mel);
    es_frontend_free(&(*f)->transformer_mel);
    es_free(f);
}

const struct es_net_config *es_forward_config(const struct es_forward *f) {
    return es_net_config(f->net);
}
int es_forward_block(const struct es_forward *f) {
    return f->block;
}
int es_forward_frames(const struct es_forward *f) {
    return f->frames;
}
int es_forward_classes(const struct es_forward *f) {
    return f->classes;
}
int es_forward_tokens(const struct es_forward *f) {
    return f->transformer_mel ? es_net_tokens(es_net_config(f->net), f->feature_frames) : 0;
}
void es_forward_watch(struct es_forward *f, es_watch_fn watch, void *ctx) {
    es_tape_watch(f->tape, watch, ctx);
}
float *es_forward_waves(struct es_forward *f) {
    return f->waves;
}

int es_forward_run(struct es_forward *f, int n, float *logits, float *attention, struct es_err *err) {
    const struct es_net_config *c = es_net_config(f->net);
    ES_ASSERT(n >= 1 && n <= f->block);
    memset(f->waves + (size_t)n * ES_CLIP_SAMPLES, 0,
           (size_t)(f->block - n) * ES_CLIP_SAMPLES * sizeof(float));
    if (f->transformer_mel)
        ES_TRY(es_frontend_run(f->transformer_mel, f->block, ES_CLIP_SAMPLES, f->waves, f->features,
                               f->scratch_mel, err));
    if (f->crnn_mel) {
        ES_TRY(
            es_frontend_run(f->crnn_mel, f->block, ES_CLIP_SAMPLES, f->waves, f->mel, f->scratch_mel, err));
        es_k_crnn_log(f->block, c->crnn_mels, f->crnn_frames, f->mel, f->mel_log);
    }
    struct es_tensor *att, *out = graph(f, f->tape, &att);
    size_t bytes = (size_t)n * (size_t)f->frames * (size_t)f->classes * sizeof(float);
    memcpy(logits, out->data, bytes);
    if (attention && att) memcpy(attention, att->data, bytes);
    es_tape_drop(f->tape, out);
    if (att) es_tape_drop(f->tape, att);
    return 0;
}
