/* Floating point operations of matrix products: 2 m n k of linear layers, convolutions, GRU projections and attention. The
 * measure of `earshot bench step` (interfaces.md section 4); softmax, norms and the like are not counted. */
#include "nn_impl.h"

double nn_linear_flops(double rows, double in, double out) {
    return 2.0 * rows * in * out;
}

double vit_flops(const struct es_transformer_config *c, double T) {
    double D = c->dim;
    double block = nn_linear_flops(T, D, 3 * D) + nn_linear_flops(T, D, D) +
                   2 * nn_linear_flops(T, D, c->mlp) + 2 * nn_linear_flops(T, T, D);
    return c->depth * block;
}

static double gru(double rows, int layers, double in, double hidden) {
    double n = 0;
    for (int l = 0; l < layers; l++)
        n += 2.0 * (nn_linear_flops(rows, l ? 2 * hidden : in, 3 * hidden) +
                    nn_linear_flops(rows, hidden, 3 * hidden));
    return n;
}

double es_net_flops_transformer(const struct es_net_config *c, int n_mel_frames) {
    const struct es_transformer_config *t = &c->transformer;
    double n = nn_arch(t->arch)->flops(t, n_mel_frames);
    if (!c->pretrain && c->wrapper) n += nn_linear_flops(c->wrapper_frames, t->dim, c->audioset_classes);
    return n;
}

double es_net_flops_head(const struct es_net_config *c, int crnn_frames) {
    if (c->pretrain) {
        double in = c->transformer.dim, n = 0;
        if (c->pretrain_rnn) {
            n = gru(c->pretrain_frames, c->pretrain_rnn_layers, in, c->pretrain_rnn_cells);
            in = 2.0 * c->pretrain_rnn_cells;
        }
        return n + nn_linear_flops(c->pretrain_frames, in, c->pretrain_classes);
    }
    double n = 0, in = 1, T = crnn_frames, F = c->crnn_mels;
    for (int i = 0; i < c->n_cnn; i++) {
        n += nn_linear_flops(T * F, 9 * in, c->filters[i]) +
             nn_linear_flops(T * F, c->filters[i], c->filters[i]);
        in = c->filters[i];
        T = (int)T / c->pool_time[i];
        F = (int)F / c->pool_freq[i];
    }
    in += c->wrapper ? c->audioset_classes : c->transformer.dim;
    n += nn_linear_flops(T, in, c->rnn_cells) + gru(T, c->rnn_layers, c->rnn_cells, c->rnn_cells);
    return n + 2 * nn_linear_flops(T, 2.0 * c->rnn_cells, c->n_classes);
}
