/* Operations of the CRNN on the tape: shapes, memory and gradients around the kernels of kernels_crnn.h. A
 * dry tape asks for the same memory and runs no kernel. */
#include "earshot/kernels.h"
#include "earshot/kernels_crnn.h"

#include "ops_impl.h"

static struct es_tensor *output(struct es_tape *t, const char *name, int ndim, int64_t a, int64_t b,
                                int64_t c, int64_t d) {
    int64_t shape[ES_MAX_DIM] = {a, b, c, d};
    return es_tape_output(t, name, ndim, shape);
}

/* ---- convolution */
struct conv2d {
    struct es_k_conv2d s;
    struct es_tensor *x, *w, *b, *y;
};

static void conv2d_backward(struct es_tape *t, void *saved) {
    struct conv2d *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x), dw = grad_of(t, o->w), db = grad_of(t, o->b);
    void *ws = es_tape_scratch(t, es_k_conv2d_ws(&o->s));
    if (es_tape_dry(t)) return;
    if (dw.p || db.p) es_k_conv2d_dw(&o->s, o->x->data, dy, dw.p, dw.add, db.p, db.add, ws);
    if (dx.p) es_k_conv2d_dx(&o->s, o->w->data, dy, dx.p, dx.add, ws);
}

struct es_tensor *es_op_conv2d(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b, int pad) {
    return es_op_conv2d_strided(t, x, w, b, 1, pad);
}

struct es_tensor *es_op_conv2d_strided(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                                       struct es_tensor *b, int stride, int pad) {
    ES_ASSERT(x->ndim == 4 && w->ndim == 4 && w->shape[1] == x->shape[1] && pad >= 0 && stride >= 1);
    ES_ASSERT((!b || b->n == w->shape[0]) && x->shape[2] + 2 * pad >= w->shape[2] &&
              x->shape[3] + 2 * pad >= w->shape[3]);
    struct conv2d *o = es_tape_node(t, sizeof *o);
    *o = (struct conv2d){.s = {.B = x->shape[0],
                               .C = x->shape[1],
                               .H = x->shape[2],
                               .W = x->shape[3],
                               .O = w->shape[0],
                               .kh = w->shape[2],
                               .kw = w->shape[3],
                               .pad_h = pad,
                               .pad_w = pad,
                               .stride_h = stride,
                               .stride_w = stride},
                         .x = x,
                         .w = w,
                         .b = b};
    o->y = output(t, "conv2d", 4, o->s.B, o->s.O, es_k_conv2d_out_h(&o->s), es_k_conv2d_out_w(&o->s));
    void *ws = es_tape_scratch(t, es_k_conv2d_ws(&o->s));
    if (!es_tape_dry(t)) es_k_conv2d_fwd(&o->s, x->data, w->data, b ? b->data : NULL, o->y->data, ws);
    es_tape_push(t, conv2d_backward, o, o->y, NULL, 3, (struct es_tensor *[]){x, w, b});
    return o->y;
}

/* ---- dropout */
struct dropout {
    struct es_rng rng;
    double p;
    struct es_tensor *x, *y;
};

static void dropout_backward(struct es_tape *t, void *saved) {
    struct dropout *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x);
    if (dx.p && !es_tape_dry(t)) es_k_dropout(o->x->n, &o->rng, o->p, dy, dx.p, dx.add);
}

struct es_tensor *es_op_dropout(struct es_tape *t, struct es_tensor *x, double p) {
    if (!es_tape_train(t) || p == 0.0) return x;
    struct dropout *o = es_tape_node(t, sizeof *o);
    *o = (struct dropout){es_tape_dropout_stream(t), p, x, es_tape_output(t, "dropout", x->ndim, x->shape)};
    if (!es_tape_dry(t)) es_k_dropout(x->n, &o->rng, p, x->data, o->y->data, false);
    es_tape_push_reading(t, dropout_backward, o, o->y, NULL, 1, &x, 0, NULL);
    return o->y;
}

/* Weights, their gradients, and which are added to, as kernels with several of them want. */
static void weights_of(struct es_tape *t, int n, struct es_tensor *const *in, const float **w, float **dw,
                       bool *add) {
    for (int i = 0; i < n; i++) {
        struct grad g = grad_of(t, in[i]);
        w[i] = in[i]->data;
        dw[i] = g.p;
        add[i] = g.add;
    }
}

/* ---- normalisation, gate, dropout and pooling behind a convolution */
struct cnn_tail {
    struct es_k_tail s;
    struct es_tensor *x, *w[4], *y;
    float *keep;                   /* like x */
    float *mean, *rstd, *unbiased; /* [C], in a node: they outlast the operation */
};

static size_t tail_scratch(const struct es_k_tail *s) {
    size_t fast = es_k_tail_ws(s), ref = (size_t)es_k_tail_ref_values(s) * sizeof(float);
    return es_kernel_mode() == ES_KERNELS_FAST || fast > ref ? fast : ref;
}

static void cnn_tail_backward(struct es_tape *t, void *saved) {
    struct cnn_tail *o = saved;
    const float *dy = es_tape_grad_out(t, o->y), *w[4];
    struct grad dx = grad_of(t, o->x);
    float *dw[4];
    bool add[4];
    weights_of(t, 4, o->w, w, dw, add);
    ES_ASSERT(!dx.add);
    float *d = dx.p ? dx.p : es_tape_scratch(t, (size_t)o->x->n * sizeof(float));
    void *ws = es_tape_scratch(t, tail_scratch(&o->s));
    if (es_tape_dry(t)) return;
    es_k_tail_bwd(&o->s, o->x->data, w, o->mean, o->rstd, o->keep, dy, d, dw, add, ws);
}

struct es_tensor *es_op_cnn_tail(struct es_tape *t, struct es_tensor *x, const struct es_cnn_tail *p) {
    int64_t C = x->shape[1];
    bool train = es_tape_train(t);
    ES_ASSERT(x->ndim == 4 && p->w[0]->n == C && p->w[1]->n == C && p->w[3]->n == C);
    ES_ASSERT(p->w[2]->ndim == 2 && p->w[2]->shape[0] == C && p->w[2]->shape[1] == C);
    ES_ASSERT(p->pool_h > 0 && p->pool_w > 0 && x->shape[2] >= p->pool_h && x->shape[3] >= p->pool_w);
    struct cnn_tail *o = es_tape_node(t, sizeof *o);
    *o = (struct cnn_tail){.s = {.B = x->shape[0],
                                 .C = C,
                                 .H = x->shape[2],
                                 .W = x->shape[3],
                                 .kh = p->pool_h,
                                 .kw = p->pool_w,
                                 .eps = p->eps,
                                 .train = train,
                                 .glu = p->glu},
                           .x = x};
    if (train && p->dropout > 0) {
        o->s.p = p->dropout;
        o->s.rng = es_tape_dropout_stream(t);
    }
    o->mean = es_tape_node(t, 3 * (size_t)C * sizeof(float));
    o->rstd = o->mean + C;
    o->unbiased = o->rstd + C;
    o->y = output(t, "cnn_tail", 4, o->s.B, C, o->s.H / o->s.kh, o->s.W / o->s.kw);
    o->keep = es_tape_keep(t, (size_t)x->n * sizeof(float));
    void *ws = es_tape_scratch(t, tail_scratch(&o->s));
    const struct es_tensor *mean = es_tape_param(t, p->mean_param), *var = es_tape_param(t, p->var_param);
    const float *running[2] = {mean->data, var->data}, *w[4];
    struct es_tensor *in[5] = {x, p->w[2], p->w[0], p->w[1], p->w[3]};
    ES_ASSERT(mean->n == C && var->n == C && (!train || o->s.B * o->s.H * o->s.W > 1));
    for (int i = 0; i < 4; i++) {
        o->w[i] = p->w[i];
        w[i] = p->w[i]->data;
    }
    if (!es_tape_dry(t))
        es_k_tail_fwd(&o->s, x->data, w, running, o->mean, o->rstd, o->unbiased, o->y->data, o->keep, ws);
    if (train) es_tape_add_stats(t, p->mean_param, p->var_param, es_int_from_i64(C), o->mean, o->unbiased);
    es_tape_push(t, cnn_tail_backward, o, o->y, NULL, 5, in);
    return o->y;
}

/* ---- layout and time */
struct channels_last {
    struct es_tensor *x, *y;
};

static void channels_last_backward(struct es_tape *t, void *saved) {
    struct channels_last *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x);
    const int64_t *d = o->y->shape;
    if (dx.p && !es_tape_dry(t)) es_k_transpose(d[0], d[1], d[2], dy, dx.p, dx.add);
}

struct es_tensor *es_op_channels_last(struct es_tape *t, struct es_tensor *x) {
    const int64_t *d = x->shape;
    ES_ASSERT(x->ndim == 4 && d[3] == 1);
    struct channels_last *o = es_tape_node(t, sizeof *o);
    *o = (struct channels_last){x, output(t, "channels_last", 3, d[0], d[2], d[1], 1)};
    if (!es_tape_dry(t)) es_k_transpose(d[0], d[1], d[2], x->data, o->y->data, false);
    es_tape_push(t, channels_last_backward, o, o->y, NULL, 1, &x);
    return o->y;
}

struct time_op {
    struct es_k_time s;
    struct es_tensor *x, *y;
};

static void time_backward(struct es_tape *t, void *saved) {
    struct time_op *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x);
    if (dx.p && !es_tape_dry(t)) es_k_time_bwd(&o->s, dy, dx.p, dx.add);
}

/* ndim 2: n is 1 and its dimension goes. */
static struct es_tensor *time_op(struct es_tape *t, struct es_tensor *x, enum es_time_mode mode, int64_t n,
                                 int ndim, const char *name) {
    ES_ASSERT(x->ndim == 3 && n > 0);
    struct time_op *o = es_tape_node(t, sizeof *o);
    *o = (struct time_op){.s = {mode, x->shape[0], x->shape[1], x->shape[2], n}, .x = x};
    o->y = ndim == 3 ? output(t, name, 3, o->s.B, n, o->s.D, 1) : output(t, name, 2, o->s.B, o->s.D, 1, 1);
    if (!es_tape_dry(t)) es_k_time_fwd(&o->s, x->data, o->y->data);
    es_tape_push(t, time_backward, o, o->y, NULL, 1, &x);
    return o->y;
}

struct es_tensor *es_op_time_pool(struct es_tape *t, struct es_tensor *x, int64_t n) {
    return time_op(t, x, ES_TIME_POOL, n, 3, "time_pool");
}
struct es_tensor *es_op_time_nearest(struct es_tape *t, struct es_tensor *x, int64_t n, bool exact) {
    return time_op(t, x, exact ? ES_TIME_NEAREST_EXACT : ES_TIME_NEAREST, n, 3, "time_nearest");
}
struct es_tensor *es_op_time_linear(struct es_tape *t, struct es_tensor *x, int64_t n) {
    return time_op(t, x, ES_TIME_LINEAR, n, 3, "time_linear");
}
struct es_tensor *es_op_time_mean(struct es_tape *t, struct es_tensor *x) {
    return time_op(t, x, ES_TIME_POOL, 1, 2, "time_mean");
}

/* ---- GRU and LSTM */
struct birnn {
    struct es_k_birnn s;
    struct es_tensor *x, *w[8], *y;
    float *gates;
};

static void birnn_backward(struct es_tape *t, void *saved) {
    struct birnn *o = saved;
    const float *dy = es_tape_grad_out(t, o->y), *w[8];
    struct grad dx = grad_of(t, o->x);
    float *dw[8];
    bool add[8];
    weights_of(t, 8, o->w, w, dw, add);
    void *ws = es_tape_scratch(t, es_k_birnn_bwd_ws(&o->s));
    if (es_tape_dry(t)) return;
    es_k_birnn_bwd(&o->s, o->x->data, w, o->y->data, o->gates, dy, dx.p, dx.add, dw, add, ws);
}

static struct es_tensor *birnn(struct es_tape *t, struct es_tensor *x, struct es_tensor *const w[8],
                               enum es_rnn_cell cell, const char *name) {
    int64_t H = w[1]->shape[1], D = x->shape[2];
    ES_ASSERT(x->ndim == 3);
    struct birnn *o = es_tape_node(t, sizeof *o);
    *o = (struct birnn){.s = {x->shape[0], x->shape[1], D, H, cell}, .x = x};
    int64_t rows = es_k_birnn_rows(&o->s);
    for (int i = 0; i < 8; i += 4) {
        ES_ASSERT(w[i]->ndim == 2 && w[i]->shape[0] == rows && w[i]->shape[1] == D);
        ES_ASSERT(w[i + 1]->ndim == 2 && w[i + 1]->shape[0] == rows && w[i + 1]->shape[1] == H);
        ES_ASSERT(w[i + 2]->n == rows && w[i + 3]->n == rows);
    }
    o->y = output(t, name, 3, o->s.B, o->s.T, 2 * H, 1);
    size_t bytes = (size_t)es_k_birnn_kept(&o->s) * sizeof(float);
    o->gates = es_tape_record(t) ? es_tape_keep(t, bytes) : es_tape_scratch(t, bytes);
    void *ws = es_tape_scratch(t, es_k_birnn_fwd_ws(&o->s));
    const float *data[8];
    struct es_tensor *in[9] = {x};
    for (int i = 0; i < 8; i++) {
        o->w[i] = in[i + 1] = w[i];
        data[i] = w[i]->data;
    }
    if (!es_tape_dry(t)) es_k_birnn_fwd(&o->s, x->data, data, o->y->data, o->gates, ws);
    es_tape_push(t, birnn_backward, o, o->y, NULL, 9, in);
    return o->y;
}

struct es_tensor *es_op_bigru(struct es_tape *t, struct es_tensor *x, struct es_tensor *const w[8]) {
    return birnn(t, x, w, ES_CELL_GRU, "bigru");
}
struct es_tensor *es_op_bilstm(struct es_tape *t, struct es_tensor *x, struct es_tensor *const w[8]) {
    return birnn(t, x, w, ES_CELL_LSTM, "bilstm");
}

/* ---- attention pooling */
struct class_pool {
    struct es_k_class_pool s;
    struct es_tensor *z, *a, *strong, *weak;
    const uint8_t *mask;
    float *soft;
};

static void class_pool_backward(struct es_tape *t, void *saved) {
    struct class_pool *o = saved;
    const float *ds = es_tape_grad_out(t, o->strong), *dw = es_tape_grad_out(t, o->weak);
    struct grad dz = grad_of(t, o->z), da = grad_of(t, o->a);
    void *ws = es_tape_scratch(t, es_k_class_pool_ws(&o->s));
    if (es_tape_dry(t)) return;
    es_k_class_pool_bwd(&o->s, o->mask, o->strong->data, o->weak->data, o->soft, ds, dw, dz.p, dz.add, da.p,
                        da.add, ws);
}

void es_op_class_pool(struct es_tape *t, struct es_tensor *z, struct es_tensor *a, const uint8_t *mask,
                      double fill, struct es_tensor **strong, struct es_tensor **weak) {
    ES_ASSERT(z->ndim == 3 && a->ndim == 3 && z->n == a->n && z->shape[1] == a->shape[1] &&
              z->shape[2] == a->shape[2]);
    int64_t B = z->shape[0], T = z->shape[1], K = z->shape[2];
    struct class_pool *o = es_tape_node(t, sizeof *o);
    *o = (struct class_pool){.s = {B, T, K, fill}, .z = z, .a = a};
    if (mask && !es_tape_dry(t)) { /* a copy: the caller's may change before backward */
        uint8_t *copy = es_tape_node(t, (size_t)(B * K));
        for (int64_t i = 0; i < B * K; i++) copy[i] = mask[i];
        o->mask = copy;
    }
    o->strong = output(t, "strong", 3, B, K, T, 1);
    o->weak = output(t, "weak", 2, B, K, 1, 1);
    size_t bytes = (size_t)z->n * sizeof(float);
    o->soft = es_tape_record(t) ? es_tape_keep(t, bytes) : es_tape_scratch(t, bytes);
    void *ws = es_tape_scratch(t, es_k_class_pool_ws(&o->s));
    if (!es_tape_dry(t))
        es_k_class_pool_fwd(&o->s, z->data, a->data, o->mask, o->strong->data, o->weak->data, o->soft, ws);
    es_tape_push(t, class_pool_backward, o, o->strong, o->weak, 2, (struct es_tensor *[]){z, a});
    *strong = o->strong;
    *weak = o->weak;
}
