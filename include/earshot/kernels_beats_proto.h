/* Prototypes of kernels_beats.h, written once: ES_K(op) makes the name, ES_R is float or double. Without them: empty. */
#ifdef ES_K

/* out = (m .* softmax(Q K' / sqrt d + gate[b,i,h] bias[h, T-1 + j-i])) V for each clip and head; m is 1, or with drop > 0
 * the mask of struct es_k_attention. q, k, v [B,T,H*d], rows ld apart, head h owns columns h*d..(h+1)*d-1; gate [B,T,H] and bias
 * [H,2T-1], or both NULL; out [B,T,H*d]; lse [B,H,T] = log sum exp of the scores, or NULL. */
void ES_K(attention_rel_fwd)(const struct es_k_attention *s, const ES_R *q, const ES_R *k, const ES_R *v,
                             const ES_R *gate, const ES_R *bias, ES_R *out, ES_R *lse, void *ws);
/* Probabilities are computed again from q, k and lse, masks drawn again; out is the forward result. dq, dk, dv: rows ld apart. */
void ES_K(attention_rel_bwd)(const struct es_k_attention *s, const ES_R *q, const ES_R *k, const ES_R *v,
                             const ES_R *gate, const ES_R *bias, const ES_R *out, const ES_R *lse,
                             const ES_R *dout, ES_R *dq, bool add_dq, ES_R *dk, bool add_dk, ES_R *dv,
                             bool add_dv, ES_R *dgate, bool add_dgate, ES_R *dbias, bool add_dbias, void *ws);

/* For each row u of q, of head r % H: p = w u + b, A = sigmoid(p0+p1+p2+p3), C = sigmoid(p4+p5+p6+p7),
 * gate[r] = A (C a[r % H] - 1) + 2. q [rows,d], rows = B*T*H; w [8,d], b [8], a [H]. */
void ES_K(rel_gate_fwd)(const struct es_k_rel_gate *s, const ES_R *q, const ES_R *w, const ES_R *b,
                        const ES_R *a, ES_R *gate, void *ws);
void ES_K(rel_gate_bwd)(const struct es_k_rel_gate *s, const ES_R *q, const ES_R *w, const ES_R *b,
                        const ES_R *a, const ES_R *dgate, ES_R *dq, bool add_dq, ES_R *dw, bool add_dw,
                        ES_R *db, bool add_db, ES_R *da, bool add_da, void *ws);

/* Cross-correlation over time in groups: c = D/groups channels in and out of each,
 *   y[b,t,o] = bias[o] + sum over i < c, k < taps of w[o,i,k] x[b, t+k-taps/2, c floor(o/c) + i], x 0 outside.
 * As many frames out as in. x, y [B,T,D], w [D,c,taps], bias [D]. */
void ES_K(conv1d_fwd)(const struct es_k_conv1d *s, const ES_R *x, const ES_R *w, const ES_R *bias, ES_R *y,
                      void *ws);
void ES_K(conv1d_dx)(const struct es_k_conv1d *s, const ES_R *w, const ES_R *dy, ES_R *dx, bool add_dx,
                     void *ws);
void ES_K(conv1d_dw)(const struct es_k_conv1d *s, const ES_R *x, const ES_R *dy, ES_R *dw, bool add_dw,
                     void *ws);

/* w[r,k] = g[k] v[r,k] / |v[:,k]|: one magnitude per column. v, w [rows,cols], g [cols]. Norms in double. */
void ES_K(weight_norm_fwd)(int64_t rows, int64_t cols, const ES_R *v, const ES_R *g, ES_R *w);
void ES_K(weight_norm_bwd)(int64_t rows, int64_t cols, const ES_R *v, const ES_R *g, const ES_R *dw, ES_R *dv,
                           bool add_dv, ES_R *dg, bool add_dg);

#endif
