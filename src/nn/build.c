/* From a configuration to a net: parameters in the order of the public state_dict, forward paths, parts for
 * the optimiser. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "nn_impl.h"

void es_net_config_default(struct es_net_config *c) {
    *c = (struct es_net_config){
        .wrapper = true,
        .wrapper_frames = 250,
        .audioset_classes = 527,
        .n_cnn = 7,
        .filters = {16, 32, 64, 128, 128, 128, 128},
        .pool_time = {2, 2, 1, 1, 1, 1, 1},
        .pool_freq = {2, 2, 2, 2, 2, 2, 2},
        .rnn_cells = 256,
        .rnn_layers = 2,
        .n_classes = 27,
        .n_frames = 156,
        .crnn_mels = 128,
        .dropout = 0.3,
        .bn_eps = 1e-3,
        .pretrain_rnn_cells = 2048,
        .pretrain_rnn_layers = 2,
        .pretrain_frames = 250,
        .pretrain_classes = 447,
    };
    es_transformer_config_default(&c->transformer, ES_ARCH_ATST);
}

void nn_transformer_prefix(const struct es_net *net, char *prefix, size_t size) {
    snprintf(prefix, size, "%s%s",
             net->c.pretrain  ? "model."
             : net->c.wrapper ? "as_model.model."
                              : "as_model.",
             net->c.pretrain ? net->arch->pretrain_prefix : net->arch->stage_prefix);
}

static int check(const struct es_net_config *c, struct es_err *err) {
    const struct es_transformer_config *tc = &c->transformer;
    const struct nn_arch *arch = nn_arch(tc->arch);
    if (!arch)
        return es_err_set(err, ES_EUSAGE,
                          "model.arch: %s is not available in this version; want atst or fpasst",
                          es_arch_name(tc->arch));
    if (tc->depth < 1 || tc->depth > MAX_BLOCKS)
        return es_err_set(err, ES_EUSAGE, "model.depth: got %d, want 1..%d", tc->depth, MAX_BLOCKS);
    if (tc->heads < 1 || tc->dim % tc->heads != 0)
        return es_err_set(err, ES_EUSAGE, "model.heads: got %d, want a divisor of model.dim %d", tc->heads,
                          tc->dim);
    if (arch->check) ES_TRY(arch->check(tc, err));
    if (c->pretrain) return 0;
    if (c->n_cnn < 1 || c->n_cnn > ES_MAX_CNN)
        return es_err_set(err, ES_EUSAGE, "crnn.filters: got %d layers, want 1..%d", c->n_cnn, ES_MAX_CNN);
    int mels = c->crnn_mels;
    for (int i = 0; i < c->n_cnn; i++) mels /= c->pool_freq[i];
    if (mels != 1)
        return es_err_set(err, ES_EUSAGE, "crnn.pool_freq: %d mels are pooled to %d, want 1", c->crnn_mels,
                          mels);
    if (c->rnn_layers < 1 || c->rnn_layers > MAX_RNN_LAYERS)
        return es_err_set(err, ES_EUSAGE, "crnn.rnn_layers: got %d, want 1..%d", c->rnn_layers,
                          MAX_RNN_LAYERS);
    return 0;
}

int es_net_embed_width(const struct es_net *net) {
    return net->c.wrapper ? net->c.audioset_classes : net->c.transformer.dim;
}

int es_net_new(struct es_net **net, const struct es_net_config *c, struct es_params *p, struct es_err *err) {
    *net = NULL;
    ES_TRY(check(c, err));
    struct es_net *n = *net = es_alloc(1, sizeof **net, err);
    if (!n) return -ES_EIO;
    n->c = *c;
    n->arch = nn_arch(c->transformer.arch);
    n->transformer = es_alloc(1, n->arch->size, err);
    if (!n->transformer) {
        es_net_free(net);
        return -ES_EIO;
    }
    const struct es_transformer_config *tc = &c->transformer;
    char prefix[64];
    nn_transformer_prefix(n, prefix, sizeof prefix);
    double default_scale = 1.0 / sqrt((double)tc->dim);
    if (c->pretrain) {
        n->arch->add(n->transformer, p, prefix, tc);
        int64_t width = tc->dim;
        if (c->pretrain_rnn) {
            nn_gru(p, "seq_model.rnn.", c->pretrain_rnn_layers, width, c->pretrain_rnn_cells, n->seq);
            width = 2 * (int64_t)c->pretrain_rnn_cells;
        }
        n->strong = nn_linear(p, "", "strong_head", width, c->pretrain_classes, true, ES_INIT_UNIFORM,
                              1.0 / sqrt((double)width));
        return 0;
    }
    crnn_new(&n->crnn, p, c);
    n->arch->add(n->transformer, p, prefix, tc);
    if (c->wrapper)
        n->head = nn_linear(p, "as_model.", "head_linear_layer", tc->dim, c->audioset_classes, true,
                            ES_INIT_UNIFORM, default_scale);
    int64_t in = c->filters[c->n_cnn - 1] + (int64_t)es_net_embed_width(n);
    n->crnn.fuse =
        nn_linear(p, "", "cat_tf", in, c->rnn_cells, true, ES_INIT_UNIFORM, 1.0 / sqrt((double)in));
    return 0;
}

void es_net_free(struct es_net **net) {
    if (!*net) return;
    es_free(&(*net)->transformer);
    es_free(net);
}
const struct es_net_config *es_net_config(const struct es_net *net) {
    return &net->c;
}

void es_net_freeze(const struct es_net *net, struct es_params *p, bool frozen_transformer) {
    for (int i = 0; i < es_params_count(p); i++) {
        struct es_param *e = es_params_at(p, i);
        if (e->kind != ES_PARAM_WEIGHT) continue;
        enum es_param_part part = es_net_part(net, e->name);
        /* spec/models.md P4 and P20: the wrapper's head is detached for ever, some parameters are never used */
        bool unused = part == ES_PART_TRANSFORMER && net->arch->unused && strstr(e->name, net->arch->unused);
        e->no_grad = part == ES_PART_HEAD || unused;
        e->trainable = !e->no_grad && !(frozen_transformer && part == ES_PART_TRANSFORMER);
    }
}

enum es_param_part es_net_part(const struct es_net *net, const char *name) {
    if (strncmp(name, "as_model.head_linear_layer", 26) == 0) return ES_PART_HEAD;
    char prefix[64];
    nn_transformer_prefix(net, prefix, sizeof prefix);
    if (strncmp(name, prefix, strlen(prefix)) == 0) return ES_PART_TRANSFORMER;
    return strncmp(name, "cnn.", 4) == 0 ? ES_PART_CNN : ES_PART_RNN;
}

int es_net_depth_index(const struct es_net *net, const char *name) {
    char prefix[64];
    nn_transformer_prefix(net, prefix, sizeof prefix);
    return net->arch->depth_index(&net->c.transformer, name + strlen(prefix));
}

struct es_tensor *es_net_transformer(const struct es_net *net, struct es_tape *t,
                                     struct es_tensor *features) {
    return net->arch->forward(net->transformer, &net->c.transformer, t, features);
}

static struct es_tensor *to_frames(struct es_tape *t, struct es_tensor *x, int64_t n) {
    if (x->shape[1] == n) return x;
    return nn_next(t, x, es_op_time_pool(t, x, n));
}

struct es_tensor *es_net_resample(const struct es_net *net, struct es_tape *t, struct es_tensor *e) {
    const struct es_net_config *c = &net->c;
    if (c->wrapper) {
        e = to_frames(t, e, c->wrapper_frames);
        e = nn_next(t, e, nn_apply(t, net->head, e));
    }
    if (c->embed_pool == ES_POOL_AAP) return nn_next(t, e, es_op_time_pool(t, e, c->n_frames));
    return nn_next(t, e, es_op_time_nearest(t, e, c->n_frames, c->embed_pool == ES_POOL_NEAREST_EXACT));
}

struct es_tensor *es_net_embed(const struct es_net *net, struct es_tape *t, struct es_tensor *features) {
    return es_net_resample(net, t, es_net_transformer(net, t, features));
}

struct es_tensor *es_net_pretrain(const struct es_net *net, struct es_tape *t, struct es_tensor *features) {
    const struct es_net_config *c = &net->c;
    struct es_tensor *x = to_frames(t, es_net_transformer(net, t, features), c->pretrain_frames);
    if (c->pretrain_rnn) x = nn_apply_gru(t, c->pretrain_rnn_layers, net->seq, x);
    return nn_next(t, x, nn_apply(t, net->strong, x));
}
