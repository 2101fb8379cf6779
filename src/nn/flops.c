/* Floating point operations of matrix products: 2 m n k of linear layers, convolutions, GRU projections and attention. The
 * measure of `earshot bench step` (interfaces.md section 4); softmax, norms and the like are not counted. */
#include "earshot/nn.h"

static double linear(double rows, double in, double out) {
    return 2.0 * rows * in * out;
}

static double gru(double rows, int layers, double in, double hidden) {
    double n = 0;
    for (int l = 0; l < layers; l++)
        n += 2.0 * (linear(rows, l ? 2 * hidden : in, 3 * hidden) + linear(rows, hidden, 3 * hidden));
    return n;
}

double es_net_flops_transformer(const struct es_net_config *c, int n_mel_frames) {
    const struct es_transformer_config *t = &c->transformer;
    double T = n_mel_frames / 4, D = t->dim;
    double block = linear(T, D, 3 * D) + linear(T, D, D) + 2 * linear(T, D, t->mlp) + 2 * linear(T, T, D);
    double n = linear(T, 4.0 * t->n_mels, D) + t->depth * block;
    if (!c->pretrain && c->wrapper) n += linear(c->wrapper_frames, D, c->audioset_classes);
    return n;
}

double es_net_flops_head(const struct es_net_config *c, int crnn_frames) {
    if (c->pretrain) {
        double in = c->transformer.dim, n = 0;
        if (c->pretrain_rnn) {
            n = gru(c->pretrain_frames, c->pretrain_rnn_layers, in, c->pretrain_rnn_cells);
            in = 2.0 * c->pretrain_rnn_cells;
        }
        return n + linear(c->pretrain_frames, in, c->pretrain_classes);
    }
    double n = 0, in = 1, T = crnn_frames, F = c->crnn_mels;
    for (int i = 0; i < c->n_cnn; i++) {
        n += linear(T * F, 9 * in, c->filters[i]) + linear(T * F, c->filters[i], c->filters[i]);
        in = c->filters[i];
        T = (int)T / c->pool_time[i];
        F = (int)F / c->pool_freq[i];
    }
    in += c->wrapper ? c->audioset_classes : c->transformer.dim;
    n += linear(T, in, c->rnn_cells) + gru(T, c->rnn_layers, c->rnn_cells, c->rnn_cells);
    return n + 2 * linear(T, 2.0 * c->rnn_cells, c->n_classes);
}
