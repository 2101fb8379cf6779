/* fPaSST (spec/models.md section 2.1): a stem of three convolutions, whose channels and bands are viewed anew as 16 channels of
 * n_mels bands; patches as tall as these and two frames wide; a class and a distillation token in front; positions; pre-LN blocks
 * with qkv bias; the two tokens are dropped at the end. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn_impl.h"

enum { CHANNELS = 16, TAPS = 2, PREFIX = 2 };
static const int stem_out[3] = {16, 32, 64}, stem_stride[3] = {2, 1, 2};

struct fpasst {
    int cls, dist, prefix, freq, time;
    struct linear conv[3], patch, norm;
    struct vit_block block[MAX_BLOCKS];
};

static int halved(int n) { /* what a stride of 2 leaves: 3 taps, padding 1 */
    return (n - 1) / 2 + 1;
}

static int fpasst_tokens(const struct es_transformer_config *c, int n_mel_frames) {
    (void)c;
    return halved(halved(n_mel_frames));
}

static int fpasst_check(const struct es_transformer_config *c, struct es_err *err) {
    if (c->n_mels > 0 && c->n_mels % 4 == 0) return 0;
    return es_err_set(err, ES_EUSAGE, "fpasst: got %d mel bands, want a multiple of 4", c->n_mels);
}

static void fpasst_add(void *indices, struct es_params *p, const char *prefix,
                       const struct es_transformer_config *c) {
    struct fpasst *f = indices;
    int64_t D = c->dim, T = fpasst_tokens(c, c->n_mel_frames);
    f->cls = nn_param(p, prefix, "cls_token", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, 1, D});
    f->dist = nn_param(p, prefix, "dist_token", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, 1, D});
    f->prefix = nn_param(p, prefix, "new_pos_embed", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, PREFIX, D});
    f->freq = nn_param(p, prefix, "freq_new_pos_embed", ES_INIT_NORMAL, 0.02, 4, (int64_t[]){1, D, 1, 1});
    f->time = nn_param(p, prefix, "time_new_pos_embed", ES_INIT_NORMAL, 0.02, 4, (int64_t[]){1, D, 1, T});
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "conv_in_%d", i + 1);
        f->conv[i] = nn_conv(p, prefix, name, i == 0 ? 1 : stem_out[i - 1], stem_out[i], 3, 3);
    }
    f->patch = nn_bf16(p, nn_conv(p, prefix, "patch_embed.proj", CHANNELS, D, c->n_mels, TAPS));
    for (int i = 0; i < c->depth; i++) {
        char block[160];
        snprintf(block, sizeof block, "%sblocks.%d.", prefix, i);
        vit_block_new(&f->block[i], p, block, c, true);
    }
    f->norm = nn_norm(p, prefix, "norm", c->dim);
}

/* In training, clips shorter than the table get its rows from a random place on, the same for all of a leaf. */
static int64_t time_offset(const struct fpasst *f, struct es_tape *t, int64_t tokens) {
    const struct es_tensor *time = es_tape_param(t, f->time);
    int64_t room = time->shape[3] - tokens;
    if (!es_tape_train(t) || room <= 0) return 0;
    struct es_rng r = es_tape_dropout_stream(t);
    return (int64_t)es_rng_below(&r, (uint64_t)room + 1);
}

static struct es_tensor *fpasst_forward(const void *indices, const struct es_transformer_config *c,
                                        struct es_tape *t, struct es_tensor *features) {
    static const char *const point[3] = {"conv_in_1", "conv_in_2", "conv_in_3"};
    const struct fpasst *f = indices;
    struct es_tensor *x = features;
    ES_ASSERT(x->ndim == 4 && x->shape[1] == 1 && x->shape[2] == c->n_mels);
    for (int i = 0; i < 3; i++) {
        struct es_tensor *w = es_tape_param(t, f->conv[i].w), *b = es_tape_param(t, f->conv[i].b);
        x = nn_next(t, x, es_op_conv2d_strided(t, x, w, b, stem_stride[i], 1));
        es_tape_point(t, point[i], -1, x);
        x = nn_next(t, x, es_op_gelu(t, x));
    }
    /* QUIRK (models/fpasst): channel c, band f of the stem becomes row 32 c + f of [16, 128]: the same memory. The patch
     * convolution pads one frame on both sides and drops its first output: frame t meets t and t+1. */
    x = es_op_reshape(t, x, 3, (int64_t[]){x->shape[0], x->shape[1] * x->shape[2], x->shape[3]});
    x = nn_next(t, x, es_op_taps(t, x, TAPS));
    x = nn_next(t, x, nn_apply(t, f->patch, x));
    es_tape_point(t, "patch_embed", -1, x);
    struct es_token_params p = {es_tape_param(t, f->cls), es_tape_param(t, f->dist),
                                es_tape_param(t, f->prefix), es_tape_param(t, f->freq),
                                es_tape_param(t, f->time)};
    x = nn_next(t, x, es_op_tokens(t, x, &p, time_offset(f, t, x->shape[1])));
    es_tape_point(t, "tokens_in", -1, x);
    for (int i = 0; i < c->depth; i++) {
        x = vit_block_forward(&f->block[i], t, x, c->heads, c->ln_eps);
        es_tape_point(t, "block", i, x);
    }
    x = nn_next(t, x, nn_apply_norm(t, f->norm, x, c->ln_eps));
    es_tape_point(t, "norm", -1, x);
    return nn_next(t, x, es_op_skip_rows(t, x, PREFIX));
}

/* QUIRK (helpers of ex_stage2.py): groups take blocks by the beginning of their names, so "blocks.1" takes 10 and 11, too. */
static int fpasst_depth_index(const struct es_transformer_config *c, const char *rest) {
    int block = 0;
    if (strncmp(rest, "norm.", 5) == 0) return 0;
    if (sscanf(rest, "blocks.%d.", &block) != 1) return c->depth + 1;
    while (!c->fpasst_groups_fixed && block >= 10) block /= 10;
    return c->depth - block;
}

static double fpasst_flops(const struct es_transformer_config *c, int n_mel_frames) {
    double F = halved(c->n_mels), W = halved(n_mel_frames), T = fpasst_tokens(c, n_mel_frames);
    double stem = nn_linear_flops(F * W, 9, stem_out[0]) +
                  nn_linear_flops(F * W, 9 * stem_out[0], stem_out[1]) +
                  nn_linear_flops(halved((int)F) * T, 9 * stem_out[1], stem_out[2]);
    return stem + nn_linear_flops(T, CHANNELS * c->n_mels * TAPS, c->dim) + vit_flops(c, T + PREFIX);
}

const struct nn_arch nn_arch_fpasst = {
    .stage_prefix = "",
    .pretrain_prefix = "fpasst.",
    .n_mels = 128,
    .n_mel_frames = 1000,
    .ln_eps = 1e-6,
    .wrapper = true,
    .embed_pool = ES_POOL_NEAREST_EXACT,
    .size = sizeof(struct fpasst),
    .check = fpasst_check,
    .add = fpasst_add,
    .forward = fpasst_forward,
    .depth_index = fpasst_depth_index,
    .tokens = fpasst_tokens,
    .flops = fpasst_flops,
};
