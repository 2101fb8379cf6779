/* Prototypes of kernels_crnn.h, written once: ES_K(op) makes the name, ES_R is float or double. Without them:
 * empty. */
#ifdef ES_K

/* y[b,o,h,w] = b[o] + sum_{c,i,j} w[o,c,i,j] x[b,c,h stride_h+i-pad_h,w stride_w+j-pad_w]. x [B,C,H,W], y
 * [B,O,H',W'], b may be NULL. */
void ES_K(conv2d_fwd)(const struct es_k_conv2d *s, const ES_R *x, const ES_R *w, const ES_R *b, ES_R *y,
                      void *ws);
/* Gradient of x: with stride 1 the correlation of dy with w turned around, padding k-1-pad. */
void ES_K(conv2d_dx)(const struct es_k_conv2d *s, const ES_R *w, const ES_R *dy, ES_R *dx, bool add_dx,
                     void *ws);
/* Gradients of w and b: sums over clips in groups of fixed size, then over groups in order, in double. */
void ES_K(conv2d_dw)(const struct es_k_conv2d *s, const ES_R *x, const ES_R *dy, ES_R *dw, bool add_dw,
                     ES_R *db, bool add_db, void *ws);

/* Forward and backward alike: y[i] = x[i] / (1-p) where element i is kept, else 0; 0 <= p < 1. Element i
 * belongs to word i%4 of the stream's block i/4 and is kept when (word >> 8) 2^-24 >= p. *rng must be fresh
 * (no word read). */
void ES_K(dropout)(int64_t n, const struct es_rng *rng, double p, const ES_R *x, ES_R *y, bool add_y);

/* Batch normalisation, gate, dropout and average pooling in a row, see ES_K_STEPS. x [B,C,H,W] -> y [B,C,H/kh,W/kw]. w: weight
 * and bias of the normalisation, of the gate. mean, rstd, unbiased [C] and keep [B,C,H,W] (or NULL) out; without train the
 * statistics are running[2]: mean and variance. Rows that no window holds may stay unwritten in keep. ws: es_k_tail_ws, the
 * references want es_k_tail_ref_values values. */
void ES_K(tail_fwd)(const struct es_k_tail *s, const ES_R *x, const ES_R *const w[4],
                    const ES_R *const running[2], ES_R *mean, ES_R *rstd, ES_R *unbiased, ES_R *y, ES_R *keep,
                    void *ws);
/* dx is overwritten. dw[4] in the order of w, each may be NULL. */
void ES_K(tail_bwd)(const struct es_k_tail *s, const ES_R *x, const ES_R *const w[4], const ES_R *mean,
                    const ES_R *rstd, const ES_R *keep, const ES_R *dy, ES_R *dx, ES_R *const dw[4],
                    const bool add_dw[4], void *ws);

/* y[b,c,r] = x[b,r,c]. x [B,rows,cols] */
void ES_K(transpose)(int64_t B, int64_t rows, int64_t cols, const ES_R *x, ES_R *y, bool add_y);

/* Resampling over time, see enum es_time_mode. */
void ES_K(time_fwd)(const struct es_k_time *s, const ES_R *x, ES_R *y);
void ES_K(time_bwd)(const struct es_k_time *s, const ES_R *dy, ES_R *dx, bool add_dx);

/* sigmoid and tanh of n values, as the cells compute them (fast: absolute error below 3e-7). */
void ES_K(activations)(int64_t n, const ES_R *x, ES_R *sigmoid, ES_R *tanh_x);

/* gates [2][B*T][(G+1)H] out, of each direction, clip and frame, for backward: r | z | n | W_hn h + b_hn, or i | f | g
 * | o | c. */
void ES_K(birnn_fwd)(const struct es_k_birnn *s, const ES_R *x, const ES_R *const w[8], ES_R *y, ES_R *gates,
                     void *ws);
/* gates are consumed: undefined afterwards. dw[8] in the order of w, each may be NULL. */
void ES_K(birnn_bwd)(const struct es_k_birnn *s, const ES_R *x, const ES_R *const w[8], const ES_R *y,
                     ES_R *gates, const ES_R *dy, ES_R *dx, bool add_dx, ES_R *const dw[8],
                     const bool add_dw[8], void *ws);

/* p = sigmoid(z); a = fill where mask is 0; soft = softmax of a over classes; s = soft clamped to [1e-7,1];
 * weak = sum_t p s / sum_t s; then p and weak of masked classes are 0. z, a [B,T,K]; mask [B,K] or NULL;
 * strong [B,K,T]; weak [B,K]; soft [B,T,K] out, before the clamp. */
void ES_K(class_pool_fwd)(const struct es_k_class_pool *s, const ES_R *z, const ES_R *a, const uint8_t *mask,
                          ES_R *strong, ES_R *weak, ES_R *soft, void *ws);
/* dstrong [B,K,T] or dweak [B,K] may be NULL (nothing flowed into it). The clamp passes gradients inside and
 * on its bounds. */
void ES_K(class_pool_bwd)(const struct es_k_class_pool *s, const uint8_t *mask, const ES_R *strong,
                          const ES_R *weak, const ES_R *soft, const ES_R *dstrong, const ES_R *dweak,
                          ES_R *dz, bool add_dz, ES_R *da, bool add_da, void *ws);

/* spec/models.md 1.4, steps 2 and 3, and the CNN's layout: d = 20 log10(max(x,1e-5)) clamped to [-50,80]; per
 * clip y = 2 (d - min)/(max - min + 1e-8) - 1. x [B,F,T] mel magnitude, y [B,T,F] */
void ES_K(crnn_log)(int64_t B, int64_t F, int64_t T, const ES_R *x, ES_R *y);

/* row_sum [rows] out: sum of the elements' losses of each row, in double and in order.
 * BCE: -(y max(ln p, -100) + (1-y) max(ln(1-p), -100)), 1-p rounded to ES_R as PyTorch does; gradient
 * (p-y)/max(p(1-p), 1e-12). BCE on logits: max(x,0) - x y + ln(1 + exp(-|x|)); gradient sigmoid(x) - y. MSE:
 * (p-y)^2; gradient 2 (p-y). */
void ES_K(loss_fwd)(const struct es_k_loss *s, const ES_R *p, const ES_R *target, double *row_sum);
/* dp = g times the gradient of an element; columns left out get 0. */
void ES_K(loss_bwd)(const struct es_k_loss *s, const ES_R *p, const ES_R *target, double g, ES_R *dp,
                    bool add_dp);

#ifdef ES_K_STEPS /* references only: what tail_fwd and tail_bwd are made of */
/* y = (x - mean) rstd w + b with mean and biased variance over (B,N) per channel, rstd = 1/sqrt(var + eps);
 * sums in double, clip by clip. mean, rstd [C] out, for backward; unbiased [C] out: variance times n/(n-1), n
 * = B N > 1. */
void ES_K(batchnorm_train)(const struct es_k_batchnorm *s, const ES_R *x, const ES_R *w, const ES_R *b,
                           ES_R *y, ES_R *mean, ES_R *rstd, ES_R *unbiased, void *ws);
/* The same with running statistics, which are copied into mean and rstd for backward. */
void ES_K(batchnorm_eval)(const struct es_k_batchnorm *s, const ES_R *x, const ES_R *w, const ES_R *b,
                          const ES_R *running_mean, const ES_R *running_var, ES_R *y, ES_R *mean, ES_R *rstd);
/* With u = (x - mean) rstd: db = sum dy, dw = sum dy u; dx = w rstd (dy - db/n - u dw/n) in training, w rstd
 * dy otherwise. */
void ES_K(batchnorm_bwd)(const struct es_k_batchnorm *s, const ES_R *x, const ES_R *w, const ES_R *mean,
                         const ES_R *rstd, const ES_R *dy, ES_R *dx, bool add_dx, ES_R *dw, bool add_dw,
                         ES_R *db, bool add_db, void *ws);

/* l = W x + b over channels at each position; cg: y = x sigmoid(l), glu: y = l sigmoid(x). w [C,C], b [C].
 * keep [B,C,N] out or NULL: sigmoid(l) (cg) or l (glu), all that backward needs besides x. */
void ES_K(gate_fwd)(const struct es_k_gate *s, const ES_R *x, const ES_R *w, const ES_R *b, ES_R *y,
                    ES_R *keep, void *ws);
void ES_K(gate_bwd)(const struct es_k_gate *s, const ES_R *x, const ES_R *w, const ES_R *keep, const ES_R *dy,
                    ES_R *dx, bool add_dx, ES_R *dw, bool add_dw, ES_R *db, bool add_db, void *ws);

/* Mean over windows. */
void ES_K(avgpool2d_fwd)(const struct es_k_avgpool2d *s, const ES_R *x, ES_R *y);
void ES_K(avgpool2d_bwd)(const struct es_k_avgpool2d *s, const ES_R *dy, ES_R *dx, bool add_dx);
#endif

#endif
