/* Kernels of the CRNN side and of the losses: convolution, batch normalisation, gates, dropout, pooling,
 * resampling over time, bidirectional GRU and LSTM, attention pooling over classes, log-mel scaling, BCE and MSE.
 *
 * Four functions per kernel, with the same arguments; kernels_crnn_proto.h holds each prototype and its
 * description once:
 *   es_k_<op>           what operations call: runs one of the others, as ES_KERNELS says (kernels.h)
 *   es_k_<op>_fast      AVX2 and FMA, OpenMP
 *   es_k_<op>_ref_f32   plain loops, sums in double: the definition
 *   es_k_<op>_ref_f64   the same on doubles, for gradient checks
 *
 * Contract of all: row-major contiguous arrays, any alignment; inputs and outputs do not overlap; `ws` is the
 * caller's scratch of es_k_<op>_ws() bytes, 64-byte aligned (0 bytes: may be NULL), whose size depends on
 * es_kernel_threads(). A gradient pointer may be NULL: not wanted. `add_*` true: adds into the gradient,
 * false: overwrites. Results do not depend on the number of threads: work is cut by clips, channels or fixed
 * groups, and partial sums are added in a fixed order.
 * Errors: none; wrong shapes are bugs. Collectivity: none.
 */
#ifndef EARSHOT_KERNELS_CRNN_H
#define EARSHOT_KERNELS_CRNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/rng.h"

/* Zero padding. Output H' = (H + 2 pad_h - kh) / stride_h + 1, rounded down, W' likewise. */
struct es_k_conv2d {
    int64_t B, C, H, W; /* input [B,C,H,W] */
    int64_t O, kh, kw;  /* weights [O,C,kh,kw] */
    int64_t pad_h, pad_w;
    int64_t stride_h, stride_w; /* >= 1 */
};
static inline int64_t es_k_conv2d_out_h(const struct es_k_conv2d *s) {
    return (s->H + 2 * s->pad_h - s->kh) / s->stride_h + 1;
}
static inline int64_t es_k_conv2d_out_w(const struct es_k_conv2d *s) {
    return (s->W + 2 * s->pad_w - s->kw) / s->stride_w + 1;
}
size_t es_k_conv2d_ws(const struct es_k_conv2d *s); /* enough for forward, dx and dw */

struct es_k_batchnorm {
    int64_t B, C, N; /* x [B,C,N], N = H*W */
    double eps;
    bool train; /* backward: statistics depended on x */
};

struct es_k_gate {
    int64_t B, C, N; /* x [B,C,N] */
    bool glu;
};

struct es_k_avgpool2d {
    int64_t planes, H, W; /* x [planes,H,W] */
    int64_t kh, kw;       /* = stride; output [planes, H/kh, W/kw], rest dropped */
};

struct es_k_tail { /* what a block of the CNN has behind its convolution */
    int64_t B, C, H, W;
    int64_t kh, kw; /* pooling, as above */
    double eps;
    bool train; /* statistics from x */
    bool glu;
    double p;          /* dropout; 0: none */
    struct es_rng rng; /* fresh */
};
size_t es_k_tail_ws(const struct es_k_tail *s);
int64_t es_k_tail_ref_values(const struct es_k_tail *s);

/* out[i] = sum of weighted frames s0 .. s0 + count - 1 (es_k_time_window) */
enum es_time_mode {
    ES_TIME_POOL,          /* adaptive average: floor(iT/n) .. ceil((i+1)T/n) - 1; n = 1: mean over time */
    ES_TIME_NEAREST,       /* floor(iT/n) */
    ES_TIME_NEAREST_EXACT, /* floor((2i+1)T/(2n)) */
    ES_TIME_LINEAR,        /* align_corners off: source (i+0.5)T/n - 0.5, at least 0 */
};
struct es_k_time {
    enum es_time_mode mode;
    int64_t B, T, D; /* x [B,T,D] */
    int64_t n;       /* output [B,n,D] */
};
struct es_time_window {
    int64_t s0, count;
    double first, rest; /* weight of frame s0, and of each other one */
};
struct es_time_window es_k_time_window(const struct es_k_time *s, int64_t i);

/* One bidirectional layer, PyTorch's cells. GRU (spec/models.md 3.4), rows r|z|n of the matrices:
 *   r = sigmoid(W_ir x + b_ir + W_hr h + b_hr), z likewise
 *   n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = (1-z) n + z h
 * LSTM (spec/models.md 3.3), rows i|f|g|o:
 *   i = sigmoid(W_ii x + b_ii + W_hi h + b_hi), f and o likewise, g likewise with tanh
 *   c' = f c + i g, h' = o tanh c'
 * w[8]: weight_ih [G*H,D], weight_hh [G*H,H], bias_ih [G*H], bias_hh [G*H], G = 3 or 4, then the same of the
 * other direction. */
enum es_rnn_cell { ES_CELL_GRU, ES_CELL_LSTM };
struct es_k_birnn {
    int64_t B, T, D, H; /* x [B,T,D], y [B,T,2H] forward | backward */
    enum es_rnn_cell cell;
};
int64_t es_k_birnn_rows(const struct es_k_birnn *s); /* G*H */
int64_t es_k_birnn_kept(const struct es_k_birnn *s); /* elements of `gates` */
size_t es_k_birnn_fwd_ws(const struct es_k_birnn *s);
size_t es_k_birnn_bwd_ws(const struct es_k_birnn *s);

struct es_k_class_pool {
    int64_t B, T, K;
    double fill; /* attention logit of masked classes */
};
size_t es_k_class_pool_ws(const struct es_k_class_pool *s);

enum es_loss_kind { ES_LOSS_BCE, ES_LOSS_BCE_LOGITS, ES_LOSS_MSE };
struct es_k_loss {
    enum es_loss_kind kind;
    int64_t rows, K, inner; /* p, target [rows,K,inner] */
    const uint8_t *columns; /* [K], 0: left out; NULL: all count */
};

#define ES_R float
#define ES_K(op) es_k_##op
#include "earshot/kernels_crnn_proto.h"
#undef ES_K
#define ES_K(op) es_k_##op##_fast
#include "earshot/kernels_crnn_proto.h"
#undef ES_K
#define ES_K_STEPS
#define ES_K(op) es_k_##op##_ref_f32
#include "earshot/kernels_crnn_proto.h"
#undef ES_K
#undef ES_R
#define ES_R double
#define ES_K(op) es_k_##op##_ref_f64
#include "earshot/kernels_crnn_proto.h"
#undef ES_K
#undef ES_R
#undef ES_K_STEPS

#endif
