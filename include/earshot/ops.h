/* Operations on the tape. Each runs forward now and records its backward. Shapes are checked (a mismatch is a
 * bug: model code is wrong); memory comes from the tape. Kernels behind them: include/earshot/kernels.h. "x
 * [..., D]" means any leading dimensions. All tensors float32, row-major.
 */
#ifndef EARSHOT_OPS_H
#define EARSHOT_OPS_H

#include "earshot/tape.h"

/* ---- transformer side (src/tensor/ops_transformer.c) */
/* y = x W' + b. x [..., I], w [O, ...] with I elements a row, b [O] or NULL. -> [..., O] */
struct es_tensor *es_op_linear(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b);
struct es_tensor *es_op_add(struct es_tape *t, struct es_tensor *a, struct es_tensor *b);
/* y[b,t,:] = x[b,t,:] + table[row0 + t,:]. x [B,T,D], table [..., N, D] with N >= row0 + T (positions). */
struct es_tensor *es_op_add_rows(struct es_tape *t, struct es_tensor *x, struct es_tensor *table,
                                 int64_t row0);
/* GELU, erf form. */
struct es_tensor *es_op_gelu(struct es_tape *t, struct es_tensor *x);
/* Over the last axis, biased variance. w, b [D] */
struct es_tensor *es_op_layernorm(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                                  struct es_tensor *b, double eps);
/* softmax(Q K' / sqrt(D/H)) V per head. qkv [B,T,3D], rows Q | K | V, head h owns columns h*D/H... ->
 * [B,T,D]. Saves log-sum-exp only. */
struct es_tensor *es_op_attention(struct es_tape *t, struct es_tensor *qkv, int heads);
/* x [B,F,W] -> [B, W/p, F*p], element [b,i,f*p+j] = x[b,f,i*p+j]; frames beyond (W/p)*p are dropped (ATST: p
 * = 4). */
struct es_tensor *es_op_patchify(struct es_tape *t, struct es_tensor *x, int p);
/* [..., A] and [..., B] -> [..., A+B] */
struct es_tensor *es_op_concat(struct es_tape *t, struct es_tensor *a, struct es_tensor *b);
/* Same data, other shape (no copy). */
struct es_tensor *es_op_reshape(struct es_tape *t, struct es_tensor *x, int ndim, const int64_t *shape);

/* ---- BEATs (src/tensor/ops_beats.c) */
/* alpha x + y, the product rounded (deep norm). Same shapes. */
struct es_tensor *es_op_scale_add(struct es_tape *t, double alpha, struct es_tensor *x, struct es_tensor *y);
/* Forward x itself (no copy); the gradient that flows down is multiplied by scale. scale 1: the same tensor. */
struct es_tensor *es_op_grad_scale(struct es_tape *t, struct es_tensor *x, double scale);
/* x [B,F,W] -> [B, (W/p)*(F/p), p*p], time-major: element [b, t*(F/p) + f, i*p+j] = x[b, f*p+j, t*p+i]; the rest is dropped. */
struct es_tensor *es_op_patch2d(struct es_tape *t, struct es_tensor *x, int p);
/* table [buckets,H] -> [H,2T-1]: by relative position key - query, -(T-1)..T-1 (kernels_beats.h). */
struct es_tensor *es_op_rel_bias(struct es_tape *t, struct es_tensor *table, int64_t T, int max_distance);
/* q [B,T,H*d], w [8,d], b [8], a [..] of H elements -> [B,T,H] (kernels_beats.h). */
struct es_tensor *es_op_rel_gate(struct es_tape *t, struct es_tensor *q, struct es_tensor *w,
                                 struct es_tensor *b, struct es_tensor *a);
/* Attention with the score's term gate[b,i,h] bias[h, T-1 + j-i]; gate and bias both NULL: without. q, k, v [B,T,D] -> [B,T,D].
 * drop: dropout of probabilities, in training only. Keeps log-sum-exp only. */
struct es_tensor *es_op_attention_rel(struct es_tape *t, struct es_tensor *q, struct es_tensor *k,
                                      struct es_tensor *v, struct es_tensor *gate, struct es_tensor *bias,
                                      int heads, double drop);
/* w = g v / |v|, the norm over all axes but the last. v [..., K], g of K elements. */
struct es_tensor *es_op_weight_norm(struct es_tape *t, struct es_tensor *v, struct es_tensor *g);
/* Correlation over T in groups, zeros outside, taps/2 of them before the first frame; as many frames out as in. x [B,T,D],
 * w [D, D/groups, taps], b [D]. */
struct es_tensor *es_op_conv1d(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b);

/* ---- fPaSST's patch embedding (src/tensor/ops_fpasst.c) */
/* x [B,F,T] -> [B,T,F*k], element [b,t,f*k+j] = x[b,f,t+j], 0 beyond the last frame: with a linear layer behind, a convolution
 * as tall as F and k frames wide. */
struct es_tensor *es_op_taps(struct es_tape *t, struct es_tensor *x, int k);
struct es_token_params {
    struct es_tensor *cls, *dist, *prefix, *freq, *time; /* D, D, 2 D, D elements; time [..., D, ..., N] */
};
/* x [B,T,D] -> [B,T+2,D]: rows cls + prefix[0] and dist + prefix[1], then x + time[:, offset + t] + freq. */
struct es_tensor *es_op_tokens(struct es_tape *t, struct es_tensor *x, const struct es_token_params *p,
                               int64_t offset);
/* [B,T,D] -> [B,T-n,D]: without the first n rows of every clip. */
struct es_tensor *es_op_skip_rows(struct es_tape *t, struct es_tensor *x, int64_t n);

/* ---- CRNN side (src/tensor/ops_crnn.c) */
/* Cross-correlation, stride 1, zero padding pad on both sides. x [B,C,H,W], w [O,C,kh,kw], b [O]. ->
 * [B,O,H',W'] */
struct es_tensor *es_op_conv2d(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b, int pad);
/* Output size (H + 2 pad - kh) / stride + 1, rounded down; b may be NULL. */
struct es_tensor *es_op_conv2d_strided(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                                       struct es_tensor *b, int stride, int pad);
/* What a block of the CNN has behind its convolution, in one operation; x [B,C,H,W] must have no other reader.
 * Batch normalisation: training tape: batch statistics over (B,H,W), biased for the output, and the pair (mean, unbiased variance)
 * added to the tape's statistics; otherwise running statistics; mean_param, var_param index the parameter table.
 * Gate: y = x * sigmoid(W x + b) over channels at each (h,w) ("cg"); glu: y = (W x + b) * sigmoid(x); W [C,C], b [C].
 * Dropout as es_op_dropout, average pooling with kernel = stride = (pool_h,pool_w), floor. w: weight and bias of the
 * normalisation, then of the gate. */
struct es_cnn_tail {
    struct es_tensor *w[4];
    int mean_param, var_param;
    double eps, dropout;
    bool glu;
    int pool_h, pool_w;
};
struct es_tensor *es_op_cnn_tail(struct es_tape *t, struct es_tensor *x, const struct es_cnn_tail *p);
/* Element-wise with probability p, kept values times 1/(1-p); identity (same tensor) when not training or p =
 * 0. The mask is drawn again in backward, never stored. */
struct es_tensor *es_op_dropout(struct es_tape *t, struct es_tensor *x, double p);
/* [B,C,T,1] -> [B,T,C] */
struct es_tensor *es_op_channels_last(struct es_tape *t, struct es_tensor *x);
/* Adaptive average pooling over time: out[i] = mean of x[floor(iT/n)] .. x[ceil((i+1)T/n)-1]. x [B,T,D] ->
 * [B,n,D] */
struct es_tensor *es_op_time_pool(struct es_tape *t, struct es_tensor *x, int64_t n);
/* Nearest: floor(iT/n); exact: floor((2i+1)T/(2n)). */
struct es_tensor *es_op_time_nearest(struct es_tape *t, struct es_tensor *x, int64_t n, bool exact);
/* Linear interpolation over time, align_corners off. */
struct es_tensor *es_op_time_linear(struct es_tape *t, struct es_tensor *x, int64_t n);
/* Mean over time: [B,T,D] -> [B,D] */
struct es_tensor *es_op_time_mean(struct es_tape *t, struct es_tensor *x);
/* One bidirectional GRU layer, PyTorch's cell and gate order r,z,n. x [B,T,I]; w[8] = weight_ih, weight_hh,
 * bias_ih, bias_hh and the same with _reverse. -> [B,T,2H], forward | backward */
struct es_tensor *es_op_bigru(struct es_tape *t, struct es_tensor *x, struct es_tensor *const w[8]);
/* The same with an LSTM, gate order i,f,g,o. */
struct es_tensor *es_op_bilstm(struct es_tape *t, struct es_tensor *x, struct es_tensor *const w[8]);
/* Class-masked attention pooling (spec/models.md 3.4): p = sigmoid(z); a masked with fill where mask is 0; s
 * = softmax of a over classes, clamped to [1e-7, 1]; weak = sum_t p s / sum_t s; then p and weak of masked
 * classes are 0. z, a [B,T,K]; mask [B,K] (0 or 1) or NULL. *strong [B,K,T], *weak [B,K]. fill: -1e30 (cpjku)
 * or -1e4 (baseline). */
void es_op_class_pool(struct es_tape *t, struct es_tensor *z, struct es_tensor *a, const uint8_t *mask,
                      double fill, struct es_tensor **strong, struct es_tensor **weak);

/* ---- losses (src/tensor/ops_loss.c): scalars [1], double sums in fixed order, cast at the end
 * rows: the first dimension of p is cut to rows row0..row0+n_rows-1. The value is scale * sum / denominator.
 */
struct es_loss_rows {
    int64_t row0, n_rows;
    double scale, denominator;
    /* [K] or NULL: only these columns of dimension 1 count (exclude_maestro_weak_ssl) */
    const uint8_t *columns;
};
/* Binary cross entropy on probabilities, logarithms floored at -100 (PyTorch's BCELoss). p [B,...], target
 * same shape (data). */
struct es_tensor *es_op_bce(struct es_tape *t, struct es_tensor *p, const float *target,
                            const struct es_loss_rows *rows);
/* On logits: max(x,0) - x y + log(1 + exp(-|x|)). */
struct es_tensor *es_op_bce_logits(struct es_tape *t, struct es_tensor *x, const float *target,
                                   const struct es_loss_rows *rows);
struct es_tensor *es_op_mse(struct es_tape *t, struct es_tensor *p, const float *target,
                            const struct es_loss_rows *rows);

#endif
