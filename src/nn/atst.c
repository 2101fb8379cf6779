/* ATST-Frame (spec/models.md section 2.2): patches of 64 mels x 4 frames, learned positions from slot 1,
 * pre-LN blocks without qkv bias, final norm. */
#include <stdio.h>

#include "nn_impl.h"

#define PATCH_FRAMES 4

void atst_new(struct atst *a, struct es_params *p, const char *prefix,
              const struct es_transformer_config *c) {
    int64_t tokens = c->n_mel_frames / PATCH_FRAMES, patch = (int64_t)c->n_mels * PATCH_FRAMES;
    a->mask_embed = nn_param(p, prefix, "mask_embed", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, 1, c->dim});
    a->pos_embed =
        nn_param(p, prefix, "pos_embed", ES_INIT_NORMAL, 0.02, 3, (int64_t[]){1, tokens + 1, c->dim});
    a->patch = nn_linear(p, prefix, "patch_embed.patch_embed", patch, c->dim, true, ES_INIT_NORMAL, 0.02);
    for (int i = 0; i < c->depth; i++) {
        char block[160];
        snprintf(block, sizeof block, "%sblocks.%d.", prefix, i);
        vit_block_new(&a->block[i], p, block, c, false);
    }
    a->norm = nn_norm(p, prefix, "norm_frame", c->dim);
}

struct es_tensor *atst_forward(const struct atst *a, const struct es_transformer_config *c, struct es_tape *t,
                               struct es_tensor *features) {
    ES_ASSERT(features->ndim == 4 && features->shape[1] == 1 && features->shape[2] == c->n_mels);
    struct es_tensor *x =
        es_op_reshape(t, features, 3, (int64_t[]){features->shape[0], c->n_mels, features->shape[3]});
    x = nn_next(t, x, es_op_patchify(t, x, PATCH_FRAMES));
    x = nn_next(t, x, nn_apply(t, a->patch, x));
    x = nn_next(t, x, es_op_add_rows(t, x, es_tape_param(t, a->pos_embed), 1));
    for (int i = 0; i < c->depth; i++) x = vit_block_forward(&a->block[i], t, x, c->heads, c->ln_eps);
    return nn_next(t, x, nn_apply_norm(t, a->norm, x, c->ln_eps));
}
