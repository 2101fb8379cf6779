/* ATST-Frame (spec/models.md section 2.2): patches of 64 mels x 4 frames, learned positions from slot 1,
 * pre-LN blocks without qkv bias, final norm. */
#include <stdio.h>
#include <string.h>

#include "nn_impl.h"

#define PATCH_FRAMES 4

struct atst {
    int mask_embed, pos_embed;
    struct linear patch, norm;
    struct vit_block block[MAX_BLOCKS];
};

static int atst_tokens(const struct es_transformer_config *c, int n_mel_frames) {
    (void)c;
    return n_mel_frames / PATCH_FRAMES;
}

static void atst_add(void *indices, struct es_params *p, const char *prefix,
                     const struct es_transformer_config *c) {
    struct atst *a = indices;
    int64_t tokens = atst_tokens(c, c->n_mel_frames), patch = (int64_t)c->n_mels * PATCH_FRAMES;
    a->mask_embed = nn_param(p, prefix, "mask_embed", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, 1, c->dim});
    a->pos_embed =
        nn_param(p, prefix, "pos_embed", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, tokens + 1, c->dim});
    a->patch = nn_bf16(
        p, nn_linear(p, prefix, "patch_embed.patch_embed", patch, c->dim, true, ES_INIT_NORMAL, 0.02));
    for (int i = 0; i < c->depth; i++) {
        char block[160];
        snprintf(block, sizeof block, "%sblocks.%d.", prefix, i);
        vit_block_new(&a->block[i], p, block, c, false);
    }
    a->norm = nn_norm(p, prefix, "norm_frame", c->dim);
}

static struct es_tensor *atst_forward(const void *indices, const struct es_transformer_config *c,
                                      struct es_tape *t, struct es_tensor *features) {
    const struct atst *a = indices;
    ES_ASSERT(features->ndim == 4 && features->shape[1] == 1 && features->shape[2] == c->n_mels);
    struct es_tensor *x =
        es_op_reshape(t, features, 3, (int64_t[]){features->shape[0], c->n_mels, features->shape[3]});
    x = nn_next(t, x, es_op_patchify(t, x, PATCH_FRAMES));
    x = nn_next(t, x, nn_apply(t, a->patch, x));
    es_tape_point(t, "patch_embed", -1, x);
    x = nn_next(t, x, es_op_add_rows(t, x, es_tape_param(t, a->pos_embed), 1));
    es_tape_point(t, "tokens_in", -1, x);
    for (int i = 0; i < c->depth; i++) {
        x = vit_block_forward(&a->block[i], t, x, c->heads, c->ln_eps);
        es_tape_point(t, "block", i, x);
    }
    x = nn_next(t, x, nn_apply_norm(t, a->norm, x, c->ln_eps));
    es_tape_point(t, "norm_frame", -1, x);
    return x;
}

static int atst_depth_index(const struct es_transformer_config *c, const char *rest) {
    int block = 0;
    if (strncmp(rest, "norm_frame", 10) == 0) return 0;
    return sscanf(rest, "blocks.%d.", &block) == 1 ? c->depth - block : c->depth + 1;
}

static double atst_flops(const struct es_transformer_config *c, int n_mel_frames) {
    double tokens = atst_tokens(c, n_mel_frames);
    return nn_linear_flops(tokens, PATCH_FRAMES * c->n_mels, c->dim) + vit_flops(c, tokens);
}

const struct nn_arch nn_arch_atst = {
    .stage_prefix = "atst.",
    .pretrain_prefix = "atst.",
    .n_mels = 64,
    .n_mel_frames = 1001,
    .ln_eps = 1e-6,
    .wrapper = true,
    .embed_pool = ES_POOL_AAP,
    .unused = "mask_embed",
    .size = sizeof(struct atst),
    .add = atst_add,
    .forward = atst_forward,
    .depth_index = atst_depth_index,
    .tokens = atst_tokens,
    .flops = atst_flops,
};
