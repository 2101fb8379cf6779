/* Shared by the files of src/nn only. */
#ifndef EARSHOT_NN_IMPL_H
#define EARSHOT_NN_IMPL_H

#include "earshot/nn.h"

#define MAX_BLOCKS 32
#define MAX_RNN_LAYERS 8

struct linear {
    int w, b; /* b = -1: none */
};

struct vit_block { /* pre-LN block, spec/models.md section 2.0 */
    struct linear norm1, qkv, proj, norm2, fc1, fc2;
};

/* One transformer. Each has a file of its own that defines its row; arch.c lists the rows. `indices` is the architecture's
 * own struct of parameter indices, of `size` bytes and zeroed; `rest` is a parameter's name behind the prefix. */
struct nn_arch {
    /* in front of its parameters: below as_model.[model.], below model. */
    const char *stage_prefix, *pretrain_prefix;
    int n_mels, n_mel_frames; /* its frontend's output for 10 s */
    double ln_eps;
    bool wrapper;                  /* published: with the frozen 768 -> 527 head, and how */
    enum es_embed_pool embed_pool; /* tokens become label frames */
    const char *unused;            /* part of the names of parameters that never get a gradient, or NULL */
    size_t size;
    /* sizes it cannot take; may be NULL */
    int (*check)(const struct es_transformer_config *c, struct es_err *err);
    void (*add)(void *indices, struct es_params *p, const char *prefix,
                const struct es_transformer_config *c);
    /* features [B,1,F,T] -> [B,tokens,dim] */
    struct es_tensor *(*forward)(const void *indices, const struct es_transformer_config *c,
                                 struct es_tape *t, struct es_tensor *features);
    int (*depth_index)(const struct es_transformer_config *c, const char *rest); /* es_net_depth_index */
    int (*tokens)(const struct es_transformer_config *c, int n_mel_frames);
    /* of the products, one clip forward */
    double (*flops)(const struct es_transformer_config *c, int n_mel_frames);
};
extern const struct nn_arch nn_arch_atst, nn_arch_fpasst, nn_arch_beats;
const struct nn_arch *nn_arch(enum es_arch arch);

struct cnn_block {
    struct linear conv, norm, gate;
    int mean, var, count;
};

struct crnn {
    struct cnn_block block[ES_MAX_CNN];
    int rnn[MAX_RNN_LAYERS][8];
    struct linear dense, softmax, fuse;
};

struct head { /* of pre-training */
    struct linear wrap, embedding, strong, weak;
    int seq[MAX_RNN_LAYERS][8];
};

struct es_net {
    struct es_net_config c;
    const struct nn_arch *arch;
    void *transformer;  /* its indices */
    struct linear wrap; /* as_model.head_linear_layer */
    struct crnn crnn;
    struct head pretrain;
};

/* "as_model.model.atst." */
void nn_transformer_prefix(const struct es_net *net, char *prefix, size_t size);

/* Adds parameters "<prefix><name>.weight" and ".bias". */
struct linear nn_linear(struct es_params *p, const char *prefix, const char *name, int64_t in, int64_t out,
                        bool bias, enum es_init init, double scale);
/* Convolution [out,in,kh,kw] with PyTorch's default start. */
struct linear nn_conv(struct es_params *p, const char *prefix, const char *name, int64_t in, int64_t out,
                      int64_t kh, int64_t kw);
/* Multiplied in bf16 on bf16 tapes: the linear layers of transformers. */
struct linear nn_bf16(struct es_params *p, struct linear l);
struct linear nn_norm(struct es_params *p, const char *prefix, const char *name, int64_t n);
int nn_param(struct es_params *p, const char *prefix, const char *name, enum es_init init, double scale,
             int ndim, const int64_t *shape);
/* Bidirectional layers; lstm: else GRU. */
void nn_rnn(struct es_params *p, const char *prefix, bool lstm, int layers, int64_t in, int64_t hidden,
            int (*index)[8]);

struct es_tensor *nn_apply(struct es_tape *t, struct linear l, struct es_tensor *x);
struct es_tensor *nn_apply_norm(struct es_tape *t, struct linear l, struct es_tensor *x, double eps);
struct es_tensor *nn_apply_rnn(struct es_tape *t, bool lstm, int layers, const int (*index)[8],
                               struct es_tensor *x);
/* After y was made from x: gives x back unless y is x. Returns y. */
struct es_tensor *nn_next(struct es_tape *t, struct es_tensor *x, struct es_tensor *y);

void vit_block_new(struct vit_block *b, struct es_params *p, const char *prefix,
                   const struct es_transformer_config *c, bool qkv_bias);
struct es_tensor *vit_block_forward(const struct vit_block *b, struct es_tape *t, struct es_tensor *x,
                                    int heads, double eps);
double vit_flops(const struct es_transformer_config *c, double tokens); /* of all blocks */
double nn_linear_flops(double rows, double in, double out);

void crnn_new(struct crnn *r, struct es_params *p, const struct es_net_config *c);

void nn_head_new(struct head *h, struct es_params *p, const struct es_net_config *c);
int nn_head_check(const struct es_net_config *c, struct es_err *err);
bool nn_head_wraps(const struct es_net_config *c); /* the AudioSet map is below the GRU */
/* The AudioSet wrapper without its attention: x pooled to `frames`, mapped. */
struct es_tensor *nn_wrap(struct es_tape *t, struct linear map, int frames, struct es_tensor *x);

#endif
