/* Networks: the transformer, the CRNN with fused embeddings (cpjku's Task4CRNNEmbeddingsWrapper,
 * spec/models.md section 3.4) and the pre-training heads (sections 3.1 to 3.3). A
 * net holds indices into a parameter table; student and teacher are two tables of the same layout, chosen by
 * the tape.
 *
 * Order of calls: es_net_new adds the parameters to an empty table; the caller marks what is trainable
 * (es_net_freeze), lays the table out, initialises or loads it; then forward calls on any tape made on a
 * table of that layout.
 *
 *   SED:       z = es_net_embed(net, tape, features)      transformer -> (768 -> 527 head) -> 156 frames
 *              es_net_sed(net, tape, crnn, z, ...)        CNN, fusion, GRU, heads
 *   alone:     es_net_sed(net, tape, crnn, NULL, ...)     the same without transformer and fusion (the DESED baseline)
 *   pretrain:  es_net_pretrain(net, tape, features)       transformer -> 250 frames -> (GRU, LSTM) -> class logits
 *              es_net_head(net, tape, e, ...)             the same from given embeddings, with outputs for the clip
 *
 * Collectivity: none. Errors: shapes that do not fit are bugs; the configuration was checked before
 * (es_net_config_check).
 */
#ifndef EARSHOT_NN_H
#define EARSHOT_NN_H

#include "earshot/config.h"
#include "earshot/ops.h"

enum es_arch { ES_ARCH_ATST, ES_ARCH_FPASST, ES_ARCH_BEATS, ES_N_ARCHS };
enum es_embed_pool { ES_POOL_AAP, ES_POOL_NEAREST, ES_POOL_NEAREST_EXACT };
/* Heads of pre-training. Weak: logits from the mean frame (linear), or probabilities by attention: strong * s summed
 * over time by the sum of s, s the softmax of further logits over the classes (P2). */
enum es_head {
    ES_HEAD_LINEAR,    /* PretrainedSED: strong_head, weak_head */
    ES_HEAD_ATTENTION, /* PretrainedSED: the same, with attention */
    ES_HEAD_AUDIOSET,  /* cpjku's AudiosetWrapper: head_linear_layer, att_linear_layer */
    ES_HEAD_TASK4RNN,  /* cpjku's Task4RNNWrapper: (head_linear_layer,) GRU, sigmoid_dense, softmax_dense */
    ES_HEAD_NONE,      /* the frames themselves */
};
enum es_seq_model { ES_SEQ_NONE, ES_SEQ_GRU, ES_SEQ_LSTM /* and a linear layer behind it */ };
#define ES_MAX_CNN 8

struct es_beats_config { /* ES_ARCH_BEATS only; full size: 512, 128, 16, 320, 800, nothing dropped, 1 */
    int patch_embed, conv_taps, conv_groups, buckets, max_distance;
    double dropout_input, dropout, attention_dropout, activation_dropout, layerdrop; /* in training */
    double grad_decay; /* of the gradient that flows down, at every layer */
};

struct es_transformer_config { /* full size: 768, 12, 12, 3072 */
    enum es_arch arch;
    int dim, depth, heads, mlp;
    int n_mels, n_mel_frames; /* of the longest clip: size of the position table (64, 1001) */
    double ln_eps;
    bool fpasst_groups_fixed; /* quirks.fpasst_groups */
    struct es_beats_config beats;
};

struct es_net_config {
    struct es_transformer_config transformer;
    bool pretrain; /* pre-training head instead of the CRNN */
    bool alone;    /* no transformer: the CRNN alone, or a head on given embeddings [B,T,transformer.dim] */
    /* CRNN */
    bool wrapper; /* AudioSet head between transformer and fusion; ES_HEAD_TASK4RNN: below the GRU */
    int wrapper_frames, audioset_classes;
    int n_cnn, filters[ES_MAX_CNN], pool_time[ES_MAX_CNN], pool_freq[ES_MAX_CNN];
    int rnn_cells, rnn_layers, n_classes, n_frames, crnn_mels;
    double dropout, bn_eps, mask_fill; /* mask_fill: attention logit of masked classes, -1e30 or -1e4 (P27) */
    bool glu;
    enum es_embed_pool embed_pool;
    /* pre-training */
    enum es_head pretrain_head;
    enum es_seq_model pretrain_seq;
    int pretrain_rnn_cells, pretrain_rnn_layers, pretrain_frames, pretrain_classes;
    int pretrain_weak_classes; /* of the clip's outputs; 0: none; with attention: pretrain_classes */
    bool pretrain_weak;        /* they are trained: es_net_freeze */
};
/* "atst": as in model.arch; its frontend has the same name (frontend.h). */
const char *es_arch_name(enum es_arch arch);
int es_arch_from_name(const char *name);                                                /* -1 when unknown */
void es_transformer_config_default(struct es_transformer_config *c, enum es_arch arch); /* full size */
void es_net_config_default(struct es_net_config *c); /* full-size ATST with the published CRNN */
/* The same with another transformer, and its published wrapper and pooling. */
void es_net_config_published(struct es_net_config *c, enum es_arch arch);

/* From the keys model.*, crnn.* and pretrain.* of a run or of the /config text of a checkpoint. pretrain_classes: of the store;
 * used in phase pretrain only. */
void es_net_config_from(struct es_net_config *c, const struct es_config *cfg, int pretrain_classes);

struct es_net;
int es_net_new(struct es_net **net, const struct es_net_config *c, struct es_params *p, struct es_err *err);
void es_net_free(struct es_net **net);
const struct es_net_config *es_net_config(const struct es_net *net);

/* Marks parameters: the frozen 768 -> 527 head, mask_embed and clip outputs without a loss never train; with
 * frozen_transformer nothing of as_model does. */
void es_net_freeze(const struct es_net *net, struct es_params *p, bool frozen_transformer);

/* Layer of a parameter for layer-wise rates and groups, by name. */
enum es_param_part { ES_PART_CNN, ES_PART_RNN, ES_PART_TRANSFORMER, ES_PART_HEAD };
enum es_param_part es_net_part(const struct es_net *net, const char *name);
/* 0 final norm, 1..depth block depth-1..0, depth+1 rest. */
int es_net_depth_index(const struct es_net *net, const char *name);

/* Names under which files of other phases and public checkpoints hold the transformer's parameter `name`: i = 0, 1, ... until
 * false. */
bool es_net_other_name(const struct es_net *net, const char *name, int i, char *other, size_t size);

/* T' for so many frames of the transformer's mel */
int es_net_tokens(const struct es_net_config *c, int n_mel_frames);
/* features [B,1,F,T] -> [B,T',D] */
struct es_tensor *es_net_transformer(const struct es_net *net, struct es_tape *t, struct es_tensor *features);
/* e [B,T',D] -> wrapper head when configured -> resampled to n_frames: [B,n_frames,E] */
struct es_tensor *es_net_resample(const struct es_net *net, struct es_tape *t, struct es_tensor *e);
/* Both in one: features -> [B,n_frames,E] */
struct es_tensor *es_net_embed(const struct es_net *net, struct es_tape *t, struct es_tensor *features);
int es_net_embed_width(const struct es_net *net);

/* crnn [B,1,Tm,F] (scaled log-mel, time before mel), z [B,n_frames,E], NULL when alone
 * -> *logits, *attention [B,n_frames,K]: inputs of es_op_class_pool */
void es_net_sed(const struct es_net *net, struct es_tape *t, struct es_tensor *crnn, struct es_tensor *z,
                struct es_tensor **logits, struct es_tensor **attention);
/* Matrix-product operations of one forward pass of one clip: transformer (with the wrapper's head), and everything behind it. */
double es_net_flops_transformer(const struct es_net_config *c, int n_mel_frames);
double es_net_flops_head(const struct es_net_config *c, int crnn_frames);
/* features [B,1,F,T] -> logits [B,frames,K] */
struct es_tensor *es_net_pretrain(const struct es_net *net, struct es_tape *t, struct es_tensor *features);
/* e [B,T,D] -> outputs. clip: strong and weak, too. */
struct es_head_out {
    struct es_tensor *logits; /* [B,frames,K]; ES_HEAD_NONE: the frames */
    struct es_tensor *strong; /* [B,K,frames] probabilities; heads with attention only */
    /* [B,K'] logits of ES_HEAD_LINEAR, probabilities of heads with attention; or NULL */
    struct es_tensor *weak;
};
void es_net_head(const struct es_net *net, struct es_tape *t, struct es_tensor *e, bool clip,
                 struct es_head_out *out);
const char *es_head_strong_name(enum es_head head); /* of the layer of frame logits; NULL: none */

#endif
