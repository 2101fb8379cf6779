#include "earshot/nn.h"

/* As many filters as the list holds; the pooling lists must be as long (checked by es_net_new: the mels would not reach 1). */
static int copy(int to[ES_MAX_CNN], const struct es_config *cfg, const char *key) {
    int n;
    const int *from = es_config_ints(cfg, key, &n);
    for (int i = 0; i < ES_MAX_CNN; i++) to[i] = i < n ? from[i] : 1;
    return n;
}

void es_net_config_from(struct es_net_config *c, const struct es_config *cfg, int pretrain_classes) {
    es_net_config_default(c);
    struct es_transformer_config *t = &c->transformer;
    es_transformer_config_default(t, (enum es_arch)es_arch_from_name(es_config_string(cfg, "model.arch")));
    t->fpasst_groups_fixed = es_config_is(cfg, "quirks.fpasst_groups", "fixed");
    t->dim = es_config_int(cfg, "model.dim");
    t->depth = es_config_int(cfg, "model.depth");
    t->heads = es_config_int(cfg, "model.heads");
    t->mlp = es_config_int(cfg, "model.mlp");
    c->pretrain = es_config_is(cfg, "phase", "pretrain");
    if (c->pretrain) {
        c->pretrain_rnn = es_config_is(cfg, "pretrain.head", "rnn");
        c->pretrain_rnn_cells = es_config_int(cfg, "pretrain.rnn_cells");
        c->pretrain_rnn_layers = es_config_int(cfg, "pretrain.rnn_layers");
        c->pretrain_frames = es_config_int(cfg, "pretrain.frames");
        c->pretrain_classes = pretrain_classes;
        return;
    }
    c->wrapper = es_config_bool(cfg, "model.wrapper");
    c->audioset_classes = es_config_int(cfg, "model.audioset_classes");
    c->n_frames = es_config_int(cfg, "model.n_frames");
    c->n_cnn = copy(c->filters, cfg, "crnn.filters");
    copy(c->pool_time, cfg, "crnn.pool_time");
    copy(c->pool_freq, cfg, "crnn.pool_freq");
    c->rnn_cells = es_config_int(cfg, "crnn.rnn_cells");
    c->rnn_layers = es_config_int(cfg, "crnn.rnn_layers");
    c->dropout = es_config_double(cfg, "crnn.dropout");
    c->bn_eps = es_config_double(cfg, "crnn.bn_eps");
    c->glu = es_config_is(cfg, "crnn.activation", "glu");
    c->embed_pool = es_config_is(cfg, "crnn.embed_pool", "aap")       ? ES_POOL_AAP
                    : es_config_is(cfg, "crnn.embed_pool", "nearest") ? ES_POOL_NEAREST
                                                                      : ES_POOL_NEAREST_EXACT;
}
