/* Heads of pre-training behind the transformer's frames (spec/models.md 3.1 to 3.3): resampling, the AudioSet map, a
 * sequence model, frame logits and what they say about the clip. One table row a head. */
#include <math.h>
#include <stdio.h>

#include "nn_impl.h"

static const struct layout {
    const char *seq;           /* in front of the sequence model's parameters; NULL: no sequence model */
    const char *strong, *weak; /* logits of frames; of the clip, or weights of its attention */
    bool attention;   /* the clip's probabilities by attention; else its logits from the mean frame */
    bool interpolate; /* fewer frames than wanted: linear interpolation; else adaptive pooling */
} layouts[] = {
    [ES_HEAD_LINEAR] = {"seq_model.", "strong_head", "weak_head", false, true},
    [ES_HEAD_ATTENTION] = {"seq_model.", "strong_head", "weak_head", true, true},
    [ES_HEAD_AUDIOSET] = {NULL, "head_linear_layer", "att_linear_layer", true, false},
    [ES_HEAD_TASK4RNN] = {"rnn.", "sigmoid_dense", "softmax_dense", true, false},
    [ES_HEAD_NONE] = {"seq_model.", NULL, NULL, false, true},
};

bool nn_head_wraps(const struct es_net_config *c) {
    return c->pretrain_head == ES_HEAD_TASK4RNN && c->wrapper;
}

const char *es_head_strong_name(enum es_head head) {
    return layouts[head].strong;
}

int nn_head_check(const struct es_net_config *c, struct es_err *err) {
    const struct layout *l = &layouts[c->pretrain_head];
    if (!l->seq && c->pretrain_seq != ES_SEQ_NONE)
        return es_err_set(err, ES_EUSAGE, "pretrain.head: audioset takes no sequence model");
    if (c->pretrain_seq != ES_SEQ_NONE &&
        (c->pretrain_rnn_layers < 1 || c->pretrain_rnn_layers > MAX_RNN_LAYERS))
        return es_err_set(err, ES_EUSAGE, "pretrain.rnn_layers: got %d, want 1..%d", c->pretrain_rnn_layers,
                          MAX_RNN_LAYERS);
    ES_ASSERT(!l->attention || !c->pretrain_weak_classes || c->pretrain_weak_classes == c->pretrain_classes);
    return 0;
}

static struct linear default_linear(struct es_params *p, const char *name, int64_t in, int64_t out) {
    return nn_linear(p, "", name, in, out, true, ES_INIT_UNIFORM, 1.0 / sqrt((double)in));
}

void nn_head_new(struct head *h, struct es_params *p, const struct es_net_config *c) {
    const struct layout *l = &layouts[c->pretrain_head];
    int64_t width = c->transformer.dim;
    if (nn_head_wraps(c)) {
        h->wrap = default_linear(p, "model.head_linear_layer", width, c->audioset_classes);
        width = c->audioset_classes;
    }
    if (c->pretrain_seq != ES_SEQ_NONE) {
        char name[64];
        snprintf(name, sizeof name, "%srnn.", l->seq);
        nn_rnn(p, name, c->pretrain_seq == ES_SEQ_LSTM, c->pretrain_rnn_layers, width, c->pretrain_rnn_cells,
               h->seq);
        width = 2 * (int64_t)c->pretrain_rnn_cells;
        snprintf(name, sizeof name, "%sembedding", l->seq);
        if (c->pretrain_seq == ES_SEQ_LSTM) h->embedding = default_linear(p, name, width, width);
    }
    if (l->strong) h->strong = default_linear(p, l->strong, width, c->pretrain_classes);
    if (l->weak && c->pretrain_weak_classes)
        h->weak = default_linear(p, l->weak, width, c->pretrain_weak_classes);
}

static struct es_tensor *to_frames(struct es_tape *t, struct es_tensor *x, int64_t n, bool interpolate) {
    if (x->shape[1] == n) return x;
    if (interpolate && x->shape[1] < n) return nn_next(t, x, es_op_time_linear(t, x, n));
    return nn_next(t, x, es_op_time_pool(t, x, n));
}

struct es_tensor *nn_wrap(struct es_tape *t, struct linear map, int frames, struct es_tensor *x) {
    x = to_frames(t, x, frames, false);
    return nn_next(t, x, nn_apply(t, map, x));
}

void es_net_head(const struct es_net *net, struct es_tape *t, struct es_tensor *e, bool clip,
                 struct es_head_out *out) {
    const struct es_net_config *c = &net->c;
    const struct layout *l = &layouts[c->pretrain_head];
    const struct head *h = &net->pretrain;
    struct es_tensor *x = to_frames(t, e, c->pretrain_frames, l->interpolate);
    if (nn_head_wraps(c)) x = nn_next(t, x, nn_apply(t, h->wrap, x));
    if (c->pretrain_seq != ES_SEQ_NONE)
        x = nn_apply_rnn(t, c->pretrain_seq == ES_SEQ_LSTM, c->pretrain_rnn_layers, h->seq, x);
    if (c->pretrain_seq == ES_SEQ_LSTM) x = nn_next(t, x, nn_apply(t, h->embedding, x));
    *out = (struct es_head_out){.logits = x};
    if (!l->strong) return;
    es_tape_point(t, "head_in", -1, x);
    struct es_tensor *y = out->logits = nn_apply(t, h->strong, x);
    if (clip && l->attention) {
        ES_ASSERT(c->pretrain_weak_classes);
        struct es_tensor *a = nn_apply(t, h->weak, x);
        es_op_class_pool(t, y, a, NULL, -1e30, &out->strong, &out->weak);
        es_tape_drop(t, a);
    } else if (clip && c->pretrain_weak_classes) {
        struct es_tensor *mean = es_op_time_mean(t, x);
        out->weak = nn_next(t, mean, nn_apply(t, h->weak, mean));
    }
    es_tape_drop(t, x);
}

struct es_tensor *es_net_pretrain(const struct es_net *net, struct es_tape *t, struct es_tensor *features) {
    struct es_head_out out;
    es_net_head(net, t, es_net_transformer(net, t, features), false, &out);
    return out.logits;
}
