/* CNN, fusion with the transformer's frames, BiGRU, strong and attention heads (spec/models.md section 3.4).
 */
#include <math.h>
#include <stdio.h>

#include "nn_impl.h"

void crnn_new(struct crnn *r, struct es_params *p, const struct es_net_config *c) {
    int64_t in = 1;
    for (int i = 0; i < c->n_cnn; i++) {
        struct cnn_block *b = &r->block[i];
        int64_t out = c->filters[i];
        char name[64];
        snprintf(name, sizeof name, "cnn.cnn.conv%d", i);
        b->conv = nn_conv(p, "", name, in, out, 3, 3);
        snprintf(name, sizeof name, "cnn.cnn.batchnorm%d", i);
        b->norm = nn_norm(p, "", name, out);
        snprintf(name, sizeof name, "cnn.cnn.batchnorm%d.running_mean", i);
        b->mean = es_params_add(p, name, ES_PARAM_BUFFER, ES_INIT_ZERO, 0, 1, &out);
        snprintf(name, sizeof name, "cnn.cnn.batchnorm%d.running_var", i);
        b->var = es_params_add(p, name, ES_PARAM_BUFFER, ES_INIT_ONE, 0, 1, &out);
        snprintf(name, sizeof name, "cnn.cnn.batchnorm%d.num_batches_tracked", i);
        b->count = es_params_add(p, name, ES_PARAM_BUFFER, ES_INIT_ZERO, 0, 0, NULL);
        snprintf(name, sizeof name, "cnn.cnn.%s%d.linear", c->glu ? "glu" : "cg", i);
        b->gate = nn_linear(p, "", name, out, out, true, ES_INIT_UNIFORM, 1.0 / sqrt((double)out));
        in = out;
    }
    nn_rnn(p, "rnn.rnn.", false, c->rnn_layers, c->alone ? in : c->rnn_cells, c->rnn_cells, r->rnn);
    int64_t wide = 2 * (int64_t)c->rnn_cells;
    double scale = 1.0 / sqrt((double)wide);
    r->dense = nn_linear(p, "", "dense", wide, c->n_classes, true, ES_INIT_UNIFORM, scale);
    r->softmax = nn_linear(p, "", "dense_softmax", wide, c->n_classes, true, ES_INIT_UNIFORM, scale);
}

static struct es_tensor *cnn_forward(const struct es_net *net, struct es_tape *t, struct es_tensor *x) {
    const struct es_net_config *c = &net->c;
    for (int i = 0; i < c->n_cnn; i++) {
        const struct cnn_block *b = &net->crnn.block[i];
        x = nn_next(t, x, es_op_conv2d(t, x, es_tape_param(t, b->conv.w), es_tape_param(t, b->conv.b), 1));
        struct es_cnn_tail tail = {.w = {es_tape_param(t, b->norm.w), es_tape_param(t, b->norm.b),
                                         es_tape_param(t, b->gate.w), es_tape_param(t, b->gate.b)},
                                   .mean_param = b->mean,
                                   .var_param = b->var,
                                   .eps = c->bn_eps,
                                   .dropout = c->dropout,
                                   .glu = c->glu,
                                   .pool_h = c->pool_time[i],
                                   .pool_w = c->pool_freq[i]};
        x = nn_next(t, x, es_op_cnn_tail(t, x, &tail));
    }
    return nn_next(t, x, es_op_channels_last(t, x));
}

void es_net_sed(const struct es_net *net, struct es_tape *t, struct es_tensor *crnn, struct es_tensor *z,
                struct es_tensor **logits, struct es_tensor **attention) {
    const struct es_net_config *c = &net->c;
    const struct crnn *r = &net->crnn;
    struct es_tensor *x = cnn_forward(net, t, crnn);
    ES_ASSERT(c->alone ? !z : x->shape[1] == z->shape[1]);
    struct es_tensor *h = x;
    if (z) {
        h = nn_next(t, x, es_op_concat(t, x, z));
        h = nn_next(t, h, es_op_dropout(t, h, c->dropout));
        h = nn_next(t, h, nn_apply(t, r->fuse, h));
    }
    h = nn_apply_rnn(t, false, c->rnn_layers, r->rnn, h);
    h = nn_next(t, h, es_op_dropout(t, h, c->dropout));
    es_tape_point(t, "head_in", -1, h);
    *logits = nn_apply(t, r->dense, h);
    *attention = nn_apply(t, r->softmax, h);
    es_tape_drop(t, h);
}
