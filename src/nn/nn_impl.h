/* Shared by the files of src/nn only. */
#ifndef EARSHOT_NN_IMPL_H
#define EARSHOT_NN_IMPL_H

#include "earshot/nn.h"

#define MAX_BLOCKS 32
#define MAX_RNN_LAYERS 4

struct linear {
    int w, b; /* b = -1: none */
};

struct vit_block { /* pre-LN block, spec/models.md section 2.0 */
    struct linear norm1, qkv, proj, norm2, fc1, fc2;
};

struct atst {
    int mask_embed, pos_embed;
    struct linear patch, norm;
    struct vit_block block[MAX_BLOCKS];
};

struct cnn_block {
    struct linear conv, norm, gate;
    int mean, var, count;
};

struct crnn {
    struct cnn_block block[ES_MAX_CNN];
    int rnn[MAX_RNN_LAYERS][8];
    struct linear dense, softmax, fuse;
};

struct es_net {
    struct es_net_config c;
    struct atst atst;
    struct linear head; /* as_model.head_linear_layer */
    struct crnn crnn;
    int seq[MAX_RNN_LAYERS][8];
    struct linear strong;
};

/* Adds parameters "<prefix><name>.weight" and ".bias". */
struct linear nn_linear(struct es_params *p, const char *prefix, const char *name, int64_t in, int64_t out,
                        bool bias, enum es_init init, double scale);
struct linear nn_norm(struct es_params *p, const char *prefix, const char *name, int64_t n);
int nn_param(struct es_params *p, const char *prefix, const char *name, enum es_init init, double scale,
             int ndim, const int64_t *shape);
void nn_gru(struct es_params *p, const char *prefix, int layers, int64_t in, int64_t hidden, int (*index)[8]);

struct es_tensor *nn_apply(struct es_tape *t, struct linear l, struct es_tensor *x);
struct es_tensor *nn_apply_norm(struct es_tape *t, struct linear l, struct es_tensor *x, double eps);
struct es_tensor *nn_apply_gru(struct es_tape *t, int layers, const int (*index)[8], struct es_tensor *x);
/* After y was made from x: gives x back unless y is x. Returns y. */
struct es_tensor *nn_next(struct es_tape *t, struct es_tensor *x, struct es_tensor *y);

void vit_block_new(struct vit_block *b, struct es_params *p, const char *prefix,
                   const struct es_transformer_config *c, bool qkv_bias);
struct es_tensor *vit_block_forward(const struct vit_block *b, struct es_tape *t, struct es_tensor *x,
                                    int heads, double eps);

void atst_new(struct atst *a, struct es_params *p, const char *prefix, const struct es_transformer_config *c);
struct es_tensor *atst_forward(const struct atst *a, const struct es_transformer_config *c, struct es_tape *t,
                               struct es_tensor *features);
void crnn_new(struct crnn *r, struct es_params *p, const struct es_net_config *c);

#endif
