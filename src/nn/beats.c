/* BEATs (spec/models.md section 2.3): patches of 16 frames x 16 mels, a grouped convolution over the tokens, post-LN blocks with
 * deep-norm residuals, and attention with a gated bias by relative position from one table that all blocks share. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn_impl.h"

enum { PATCH = 16, GATE_ROWS = 8 };
#define INIT_STD 0.02

struct beats_layer {
    int grep_a;
    struct linear k, v, q, out, grep, attention_norm, fc1, fc2, final_norm;
};

struct beats {
    struct linear project, patch, input_norm, token_norm;
    int conv_bias, conv_g, conv_v, rel_table;
    struct beats_layer layer[MAX_BLOCKS];
};

static int beats_tokens(const struct es_transformer_config *c, int n_mel_frames) {
    return n_mel_frames / PATCH * (c->n_mels / PATCH);
}

static int beats_check(const struct es_transformer_config *c, struct es_err *err) {
    const struct es_beats_config *b = &c->beats;
    if (c->n_mels < PATCH || c->n_mel_frames < PATCH)
        return es_err_set(err, ES_EUSAGE, "beats: got features of %d mels x %d frames, want at least 16 x 16",
                          c->n_mels, c->n_mel_frames);
    if (b->conv_groups < 1 || c->dim % b->conv_groups != 0)
        return es_err_set(err, ES_EUSAGE, "beats.conv_groups: got %d, want a divisor of model.dim %d",
                          b->conv_groups, c->dim);
    if (b->buckets < 4 || b->buckets % 4 != 0)
        return es_err_set(err, ES_EUSAGE, "beats.buckets: got %d, want a multiple of 4", b->buckets);
    if (b->max_distance <= b->buckets / 4)
        return es_err_set(err, ES_EUSAGE,
                          "beats.max_distance: got %d, want more than a quarter of %d buckets",
                          b->max_distance, b->buckets);
    return 0;
}

/* Xavier's normal distribution times gain. */
static struct linear xavier(struct es_params *p, const char *prefix, const char *name, int64_t in,
                            int64_t out, double gain) {
    double std = gain * sqrt(2.0 / (double)(in + out));
    return nn_bf16(p, nn_linear(p, prefix, name, in, out, true, ES_INIT_NORMAL, std));
}

static void layer_add(struct beats *m, int l, struct es_params *p, const char *prefix,
                      const struct es_transformer_config *c) {
    struct beats_layer *y = &m->layer[l];
    int64_t D = c->dim, H = c->heads;
    double gain = pow(8.0 * c->depth, -0.25);
    char block[160], name[160];
    snprintf(block, sizeof block, "%sencoder.layers.%d.", prefix, l);
    y->grep_a = nn_param(p, block, "self_attn.grep_a", ES_INIT_ONE, 0, 4, (int64_t[]){1, H, 1, 1});
    snprintf(name, sizeof name, "%sself_attn.relative_attention_bias.weight", block);
    if (l == 0)
        m->rel_table = nn_param(p, "", name, ES_INIT_NORMAL, INIT_STD, 2, (int64_t[]){c->beats.buckets, H});
    else
        es_params_alias(p, name, m->rel_table);
    y->k = xavier(p, block, "self_attn.k_proj", D, D, 1);
    y->v = xavier(p, block, "self_attn.v_proj", D, D, gain);
    y->q = xavier(p, block, "self_attn.q_proj", D, D, 1);
    y->out = xavier(p, block, "self_attn.out_proj", D, D, gain);
    y->grep = nn_linear(p, block, "self_attn.grep_linear", D / H, GATE_ROWS, true, ES_INIT_NORMAL, INIT_STD);
    y->attention_norm = nn_norm(p, block, "self_attn_layer_norm", D);
    y->fc1 = xavier(p, block, "fc1", D, c->mlp, gain);
    y->fc2 = xavier(p, block, "fc2", c->mlp, D, gain);
    y->final_norm = nn_norm(p, block, "final_layer_norm", D);
}

static void beats_add(void *indices, struct es_params *p, const char *prefix,
                      const struct es_transformer_config *c) {
    static const char *const conv = "encoder.pos_conv.0.";
    struct beats *m = indices;
    const struct es_beats_config *b = &c->beats;
    int64_t D = c->dim, E = b->patch_embed, K = b->conv_taps;
    char name[160];
    m->project = nn_bf16(
        p, nn_linear(p, prefix, "post_extract_proj", E, D, true, ES_INIT_UNIFORM, 1 / sqrt((double)E)));
    m->patch.w = nn_param(p, prefix, "patch_embedding.weight", ES_INIT_UNIFORM, 1.0 / PATCH, 4,
                          (int64_t[]){E, 1, PATCH, PATCH});
    m->patch.b = -1;
    nn_bf16(p, m->patch);
    snprintf(name, sizeof name, "%s%s", prefix, conv);
    m->conv_bias = nn_param(p, name, "bias", ES_INIT_ZERO, 0, 1, &D);
    m->conv_g = nn_param(p, name, "parametrizations.weight.original0", ES_INIT_NORM_OF_NEXT, 0, 3,
                         (int64_t[]){1, 1, K});
    m->conv_v = nn_param(p, name, "parametrizations.weight.original1", ES_INIT_NORMAL,
                         sqrt(4.0 / (double)(K * D)), 3, (int64_t[]){D, D / b->conv_groups, K});
    for (int l = 0; l < c->depth; l++) layer_add(m, l, p, prefix, c);
    m->token_norm = nn_norm(p, prefix, "encoder.layer_norm", D);
    m->input_norm = nn_norm(p, prefix, "layer_norm", E);
}

/* LN(alpha x + f); gives both back. */
static struct es_tensor *add_and_norm(struct es_tape *t, const struct es_transformer_config *c,
                                      struct linear norm, struct es_tensor *x, struct es_tensor *f) {
    f = nn_next(t, f, es_op_dropout(t, f, c->beats.dropout));
    struct es_tensor *y = es_op_scale_add(t, pow(2.0 * c->depth, 0.25), x, f);
    es_tape_drop(t, x);
    es_tape_drop(t, f);
    return nn_next(t, y, nn_apply_norm(t, norm, y, c->ln_eps));
}

static struct es_tensor *layer_forward(const struct beats_layer *y, const struct es_transformer_config *c,
                                       struct es_tape *t, struct es_tensor *x, struct es_tensor *bias) {
    struct es_tensor *q = nn_apply(t, y->q, x), *k = nn_apply(t, y->k, x), *v = nn_apply(t, y->v, x);
    struct es_tensor *gate = es_op_rel_gate(t, q, es_tape_param(t, y->grep.w), es_tape_param(t, y->grep.b),
                                            es_tape_param(t, y->grep_a));
    struct es_tensor *h = es_op_attention_rel(t, q, k, v, gate, bias, c->heads, c->beats.attention_dropout);
    struct es_tensor *used[] = {q, k, v, gate};
    for (int i = 0; i < 4; i++) es_tape_drop(t, used[i]);
    h = nn_next(t, h, nn_apply(t, y->out, h));
    x = add_and_norm(t, c, y->attention_norm, x, h);
    h = nn_apply(t, y->fc1, x);
    h = nn_next(t, h, es_op_gelu(t, h));
    h = nn_next(t, h, es_op_dropout(t, h, c->beats.activation_dropout));
    h = nn_next(t, h, nn_apply(t, y->fc2, h));
    return add_and_norm(t, c, y->final_norm, x, h);
}

/* x + GELU(grouped convolution with weight norm). */
static struct es_tensor *add_positions(const struct beats *m, struct es_tape *t, struct es_tensor *x) {
    struct es_tensor *w = es_op_weight_norm(t, es_tape_param(t, m->conv_v), es_tape_param(t, m->conv_g));
    struct es_tensor *h = es_op_conv1d(t, x, w, es_tape_param(t, m->conv_bias));
    es_tape_drop(t, w);
    h = nn_next(t, h, es_op_gelu(t, h));
    es_tape_point(t, "pos_conv", -1, h);
    struct es_tensor *y = es_op_add(t, x, h);
    es_tape_drop(t, x);
    es_tape_drop(t, h);
    return y;
}

/* In training a layer is left out with probability layerdrop, for all clips of the leaf; a dry run plans for all layers. */
static bool left_out(struct es_tape *t, double layerdrop) {
    if (!es_tape_train(t) || layerdrop == 0) return false;
    struct es_rng r = es_tape_dropout_stream(t);
    return es_rng_uniform(&r) <= layerdrop && !es_tape_dry(t);
}

static struct es_tensor *beats_forward(const void *indices, const struct es_transformer_config *c,
                                       struct es_tape *t, struct es_tensor *features) {
    const struct beats *m = indices;
    const struct es_beats_config *b = &c->beats;
    struct es_tensor *x = features;
    ES_ASSERT(x->ndim == 4 && x->shape[1] == 1 && x->shape[2] == c->n_mels);
    x = es_op_reshape(t, x, 3, (int64_t[]){x->shape[0], x->shape[2], x->shape[3]});
    x = nn_next(t, x, es_op_patch2d(t, x, PATCH)); /* the kernel's first axis is time */
    x = nn_next(t, x, nn_apply(t, m->patch, x));
    es_tape_point(t, "patch_embedding", -1, x);
    x = nn_next(t, x, nn_apply_norm(t, m->input_norm, x, c->ln_eps));
    es_tape_point(t, "layer_norm", -1, x);
    x = nn_next(t, x, nn_apply(t, m->project, x));
    es_tape_point(t, "post_extract_proj", -1, x);
    x = nn_next(t, x, es_op_dropout(t, x, b->dropout_input));
    x = add_positions(m, t, x);
    x = nn_next(t, x, nn_apply_norm(t, m->token_norm, x, c->ln_eps));
    es_tape_point(t, "encoder_layer_norm", -1, x);
    x = nn_next(t, x, es_op_dropout(t, x, b->dropout));
    struct es_tensor *bias = es_op_rel_bias(t, es_tape_param(t, m->rel_table), x->shape[1], b->max_distance);
    es_tape_point(t, "position_bias", -1, bias);
    for (int l = 0; l < c->depth; l++) {
        x = es_op_grad_scale(t, x, b->grad_decay);
        if (!left_out(t, b->layerdrop)) x = layer_forward(&m->layer[l], c, t, x, bias);
        es_tape_point(t, "block", l, x);
    }
    es_tape_drop(t, bias);
    return x;
}

static int beats_depth_index(const struct es_transformer_config *c, const char *rest) {
    int layer = 0;
    return sscanf(rest, "encoder.layers.%d.", &layer) == 1 ? c->depth - layer : c->depth + 1;
}

static double beats_flops(const struct es_transformer_config *c, int n_mel_frames) {
    double T = beats_tokens(c, n_mel_frames), D = c->dim, E = c->beats.patch_embed;
    double gates = c->depth * nn_linear_flops(T * c->heads, D / c->heads, GATE_ROWS);
    return nn_linear_flops(T, PATCH * PATCH, E) + nn_linear_flops(T, E, D) +
           nn_linear_flops(T, D / c->beats.conv_groups * c->beats.conv_taps, D) + gates + vit_flops(c, T);
}

const struct nn_arch nn_arch_beats = {
    .stage_prefix = "model.",
    .pretrain_prefix = "beats.",
    .n_mels = 128,
    .n_mel_frames = 998,
    .ln_eps = 1e-5,
    .wrapper = false,
    .embed_pool = ES_POOL_NEAREST_EXACT,
    .size = sizeof(struct beats),
    .check = beats_check,
    .add = beats_add,
    .forward = beats_forward,
    .depth_index = beats_depth_index,
    .tokens = beats_tokens,
    .flops = beats_flops,
};
