/* Building blocks: linear layers, norms, GRU and LSTM stacks, the pre-LN transformer block. */
#include <math.h>
#include <stdio.h>

#include "nn_impl.h"

int nn_param(struct es_params *p, const char *prefix, const char *name, enum es_init init, double scale,
             int ndim, const int64_t *shape) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return es_params_add(p, full, ES_PARAM_WEIGHT, init, scale, ndim, shape);
}

struct linear nn_linear(struct es_params *p, const char *prefix, const char *name, int64_t in, int64_t out,
                        bool bias, enum es_init init, double scale) {
    char full[160];
    struct linear l = {-1, -1};
    snprintf(full, sizeof full, "%s.weight", name);
    l.w = nn_param(p, prefix, full, init, scale, 2, (int64_t[]){out, in});
    if (!bias) return l;
    snprintf(full, sizeof full, "%s.bias", name);
    /* PyTorch's default draws the bias from the weight's range; a transformer's linear layers start with bias
     * 0 */
    l.b = nn_param(p, prefix, full, init == ES_INIT_UNIFORM ? ES_INIT_UNIFORM : ES_INIT_ZERO, scale, 1, &out);
    return l;
}

struct linear nn_conv(struct es_params *p, const char *prefix, const char *name, int64_t in, int64_t out,
                      int64_t kh, int64_t kw) {
    double scale = 1.0 / sqrt((double)(in * kh * kw));
    char full[160];
    struct linear l;
    snprintf(full, sizeof full, "%s.weight", name);
    l.w = nn_param(p, prefix, full, ES_INIT_UNIFORM, scale, 4, (int64_t[]){out, in, kh, kw});
    snprintf(full, sizeof full, "%s.bias", name);
    l.b = nn_param(p, prefix, full, ES_INIT_UNIFORM, scale, 1, &out);
    return l;
}

struct linear nn_bf16(struct es_params *p, struct linear l) {
    es_params_at(p, l.w)->bf16 = true;
    return l;
}

struct linear nn_norm(struct es_params *p, const char *prefix, const char *name, int64_t n) {
    char full[160];
    struct linear l;
    snprintf(full, sizeof full, "%s.weight", name);
    l.w = nn_param(p, prefix, full, ES_INIT_ONE, 0, 1, &n);
    snprintf(full, sizeof full, "%s.bias", name);
    l.b = nn_param(p, prefix, full, ES_INIT_ZERO, 0, 1, &n);
    return l;
}

void nn_rnn(struct es_params *p, const char *prefix, bool lstm, int layers, int64_t in, int64_t hidden,
            int (*index)[8]) {
    static const char *const suffix[2] = {"", "_reverse"};
    double scale = 1.0 / sqrt((double)hidden);
    for (int l = 0; l < layers; l++) {
        int64_t wide = l == 0 ? in : 2 * hidden, gates = (lstm ? 4 : 3) * hidden;
        for (int d = 0; d < 2; d++) {
            char name[64];
            snprintf(name, sizeof name, "weight_ih_l%d%s", l, suffix[d]);
            index[l][4 * d] = nn_param(p, prefix, name, ES_INIT_UNIFORM, scale, 2, (int64_t[]){gates, wide});
            snprintf(name, sizeof name, "weight_hh_l%d%s", l, suffix[d]);
            index[l][4 * d + 1] =
                nn_param(p, prefix, name, ES_INIT_UNIFORM, scale, 2, (int64_t[]){gates, hidden});
            snprintf(name, sizeof name, "bias_ih_l%d%s", l, suffix[d]);
            index[l][4 * d + 2] = nn_param(p, prefix, name, ES_INIT_UNIFORM, scale, 1, &gates);
            snprintf(name, sizeof name, "bias_hh_l%d%s", l, suffix[d]);
            index[l][4 * d + 3] = nn_param(p, prefix, name, ES_INIT_UNIFORM, scale, 1, &gates);
        }
    }
}

struct es_tensor *nn_next(struct es_tape *t, struct es_tensor *x, struct es_tensor *y) {
    if (y != x) es_tape_drop(t, x);
    return y;
}

struct es_tensor *nn_apply(struct es_tape *t, struct linear l, struct es_tensor *x) {
    return es_op_linear(t, x, es_tape_param(t, l.w), l.b >= 0 ? es_tape_param(t, l.b) : NULL);
}

struct es_tensor *nn_apply_norm(struct es_tape *t, struct linear l, struct es_tensor *x, double eps) {
    return es_op_layernorm(t, x, es_tape_param(t, l.w), es_tape_param(t, l.b), eps);
}

struct es_tensor *nn_apply_rnn(struct es_tape *t, bool lstm, int layers, const int (*index)[8],
                               struct es_tensor *x) {
    for (int l = 0; l < layers; l++) {
        struct es_tensor *w[8];
        for (int i = 0; i < 8; i++) w[i] = es_tape_param(t, index[l][i]);
        x = nn_next(t, x, lstm ? es_op_bilstm(t, x, w) : es_op_bigru(t, x, w));
    }
    return x;
}

static struct linear block_linear(struct es_params *p, const char *prefix, const char *name, int64_t in,
                                  int64_t out, bool bias) {
    return nn_bf16(p, nn_linear(p, prefix, name, in, out, bias, ES_INIT_NORMAL, 0.02));
}

void vit_block_new(struct vit_block *b, struct es_params *p, const char *prefix,
                   const struct es_transformer_config *c, bool qkv_bias) {
    b->norm1 = nn_norm(p, prefix, "norm1", c->dim);
    b->qkv = block_linear(p, prefix, "attn.qkv", c->dim, 3 * c->dim, qkv_bias);
    b->proj = block_linear(p, prefix, "attn.proj", c->dim, c->dim, true);
    b->norm2 = nn_norm(p, prefix, "norm2", c->dim);
    b->fc1 = block_linear(p, prefix, "mlp.fc1", c->dim, c->mlp, true);
    b->fc2 = block_linear(p, prefix, "mlp.fc2", c->mlp, c->dim, true);
}

/* x + attention(LN1 x), then + MLP(LN2 .). Gives x back. */
struct es_tensor *vit_block_forward(const struct vit_block *b, struct es_tape *t, struct es_tensor *x,
                                    int heads, double eps) {
    struct es_tensor *h = nn_apply_norm(t, b->norm1, x, eps);
    h = nn_next(t, h, nn_apply(t, b->qkv, h));
    h = nn_next(t, h, es_op_attention(t, h, heads));
    h = nn_next(t, h, nn_apply(t, b->proj, h));
    struct es_tensor *y = es_op_add(t, x, h);
    es_tape_drop(t, x);
    es_tape_drop(t, h);
    h = nn_apply_norm(t, b->norm2, y, eps);
    h = nn_next(t, h, nn_apply(t, b->fc1, h));
    h = nn_next(t, h, es_op_gelu(t, h));
    h = nn_next(t, h, nn_apply(t, b->fc2, h));
    struct es_tensor *z = es_op_add(t, y, h);
    es_tape_drop(t, y);
    es_tape_drop(t, h);
    return z;
}
