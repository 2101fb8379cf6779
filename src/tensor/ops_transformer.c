/* Operations of the transformers: shapes, memory, records. The arithmetic is in kernels.h.
 *
 * A dry tape asks for the same memory in the same order and computes nothing. What backward needs beside inputs and outputs (which
 * stay in the leaf arena): layer norm keeps mean and rstd, attention log-sum-exp; on a bf16 tape linear layers and GELU keep their
 * inputs in bf16.
 */
#include "earshot/ops.h"

#include "earshot/kernels.h"
#include "earshot/kernels_bf16.h"

static bool same_shape(const struct es_tensor *a, const struct es_tensor *b) {
    bool same = a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++) same = a->shape[i] == b->shape[i];
    return same;
}

/* Output shaped like x but for its last dimension. */
static struct es_tensor *output_like(struct es_tape *t, const char *name, const struct es_tensor *x,
                                     int64_t last) {
    int64_t shape[ES_MAX_DIM];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = last;
    return es_tape_output(t, name, x->ndim, shape);
}

static int64_t last_dim(const struct es_tensor *x) {
    ES_ASSERT(x->ndim > 0);
    return x->shape[x->ndim - 1];
}

/* ---- linear */
struct linear {
    struct es_tensor *x, *w, *b, *y;
    int64_t rows, in, out;
};

static void linear_backward(struct es_tape *t, void *saved) {
    struct linear *s = saved;
    float beta;
    const float *dy = es_tape_grad_out(t, s->y);
    void *ws = es_tape_scratch(t, es_k_linear_workspace(s->rows, s->in, s->out));
    float *dw = es_tape_grad(t, s->w, &beta);
    if (dw && !es_tape_dry(t)) es_k_linear_dw(s->rows, s->in, s->out, dy, s->x->data, beta, dw, ws);
    float *db = es_tape_grad(t, s->b, &beta);
    if (db && !es_tape_dry(t)) es_k_colsum(s->rows, s->out, dy, beta, db);
    float *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_linear_dx(s->rows, s->in, s->out, dy, s->w->data, beta, dx, ws);
}

/* dy is rounded once for both products. */
static void linear_bf16_backward(struct es_tape *t, void *saved) {
    struct linear *s = saved;
    struct es_bf16 *e = es_tape_bf16(t, s->w);
    float beta;
    const float *dy = es_tape_grad_out(t, s->y);
    void *half = es_tape_scratch(t, (size_t)s->y->n * es_bf16_size(e));
    void *ws = es_tape_scratch(t, es_bf16_linear_workspace(e, s->rows, s->in, s->out));
    if (!es_tape_dry(t)) es_bf16_from(e, s->y->n, dy, half);
    float *dw = es_tape_grad(t, s->w, &beta);
    if (dw && !es_tape_dry(t)) es_bf16_linear_dw(e, s->rows, s->in, s->out, half, s->x->half, beta, dw, ws);
    float *db = es_tape_grad(t, s->b, &beta);
    if (db && !es_tape_dry(t)) es_k_colsum(s->rows, s->out, dy, beta, db);
    float *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_bf16_linear_dx(es_tape_packed(t, s->w), s->rows, half, beta, dx, ws);
}

static void linear_bf16(struct es_tape *t, struct linear *s) {
    struct es_bf16 *e = es_tape_bf16(t, s->w);
    const void *half = es_tape_half(t, s->x);
    void *ws = es_tape_scratch(t, es_bf16_linear_workspace(e, s->rows, s->in, s->out));
    if (!es_tape_dry(t))
        es_bf16_linear_fwd(es_tape_packed(t, s->w), s->rows, half, s->b ? s->b->data : NULL, s->y->data, ws);
    es_tape_push_reading(t, linear_bf16_backward, s, s->y, NULL, 3, (struct es_tensor *[]){s->x, s->w, s->b},
                         0, NULL);
}

struct es_tensor *es_op_linear(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b) {
    ES_ASSERT(w->ndim >= 2 && last_dim(x) * w->shape[0] == w->n && (!b || b->n == w->shape[0]));
    struct linear *s = es_tape_node(t, sizeof *s);
    int64_t out = w->shape[0], in = w->n / out;
    *s = (struct linear){x, w, b, output_like(t, "linear", x, out), x->n / in, in, out};
    if (es_tape_bf16(t, w)) {
        linear_bf16(t, s);
        return s->y;
    }
    void *ws = es_tape_scratch(t, es_k_linear_workspace(s->rows, in, out));
    if (!es_tape_dry(t))
        es_k_linear_fwd(s->rows, in, out, x->data, w->data, b ? b->data : NULL, s->y->data, ws);
    es_tape_push(t, linear_backward, s, s->y, NULL, 3, (struct es_tensor *[]){x, w, b});
    return s->y;
}

/* ---- add, add_rows */
struct add {
    struct es_tensor *a, *b, *y;
    int64_t row0, T, D; /* add_rows: b is the table */
};

static void pass_on(struct es_tape *t, struct es_tensor *x, const float *dy) {
    int64_t D = last_dim(x);
    float beta, *dx = es_tape_grad(t, x, &beta);
    if (dx && !es_tape_dry(t)) es_k_copy2d(x->n / D, D, dy, D, beta, dx, D);
}

static void add_backward(struct es_tape *t, void *saved) {
    struct add *s = saved;
    const float *dy = es_tape_grad_out(t, s->y);
    pass_on(t, s->a, dy);
    pass_on(t, s->b, dy);
}

struct es_tensor *es_op_add(struct es_tape *t, struct es_tensor *a, struct es_tensor *b) {
    ES_ASSERT(same_shape(a, b));
    struct add *s = es_tape_node(t, sizeof *s);
    *s = (struct add){.a = a, .b = b, .y = es_tape_output(t, "add", a->ndim, a->shape)};
    if (!es_tape_dry(t)) es_k_add(a->n, a->data, b->data, s->y->data);
    es_tape_push_reading(t, add_backward, s, s->y, NULL, 2, (struct es_tensor *[]){a, b}, 0, NULL);
    return s->y;
}

/* The table's gradient: sum over clips; rows that no frame used get 0. */
static void add_rows_backward(struct es_tape *t, void *saved) {
    struct add *s = saved;
    const float *dy = es_tape_grad_out(t, s->y);
    pass_on(t, s->a, dy);
    float beta, *dtable = es_tape_grad(t, s->b, &beta);
    if (!dtable || es_tape_dry(t)) return;
    int64_t used = s->T * s->D, first = s->row0 * s->D;
    for (int64_t i = 0; beta == 0.0f && i < s->b->n; i++)
        if (i < first || i >= first + used) dtable[i] = 0.0f;
    es_k_colsum(s->y->n / used, used, dy, beta, dtable + first);
}

struct es_tensor *es_op_add_rows(struct es_tape *t, struct es_tensor *x, struct es_tensor *table,
                                 int64_t row0) {
    ES_ASSERT(x->ndim == 3 && table->ndim >= 2 && last_dim(table) == x->shape[2]);
    int64_t T = x->shape[1], D = x->shape[2];
    ES_ASSERT(row0 >= 0 && row0 + T <= table->n / D);
    struct add *s = es_tape_node(t, sizeof *s);
    *s = (struct add){x, table, es_tape_output(t, "add_rows", 3, x->shape), row0, T, D};
    if (!es_tape_dry(t)) es_k_add_rows(x->shape[0], T, D, x->data, table->data + row0 * D, s->y->data);
    es_tape_push_reading(t, add_rows_backward, s, s->y, NULL, 2, (struct es_tensor *[]){x, table}, 0, NULL);
    return s->y;
}

/* ---- GELU: a bf16 step that is recorded keeps x as bf16 */
struct gelu {
    struct es_tensor *x, *y;
};

static void gelu_backward(struct es_tape *t, void *saved) {
    struct gelu *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_gelu_bwd(s->x->n, s->x->data, es_tape_grad_out(t, s->y), beta, dx);
}

static void gelu_bf16_backward(struct es_tape *t, void *saved) {
    struct gelu *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta), *x = es_tape_scratch(t, (size_t)s->x->n * sizeof *x);
    if (!dx || es_tape_dry(t)) return;
    es_bf16_to(es_tape_engine(t), s->x->n, s->x->half, x);
    es_k_gelu_bwd(s->x->n, x, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_gelu(struct es_tape *t, struct es_tensor *x) {
    struct gelu *s = es_tape_node(t, sizeof *s);
    bool half = es_tape_engine(t) && es_tape_record(t);
    *s = (struct gelu){x, es_tape_output(t, "gelu", x->ndim, x->shape)};
    if (half) es_tape_half(t, x);
    if (!es_tape_dry(t)) es_k_gelu_fwd(x->n, x->data, s->y->data);
    if (half)
        es_tape_push_reading(t, gelu_bf16_backward, s, s->y, NULL, 1, &x, 0, NULL);
    else
        es_tape_push(t, gelu_backward, s, s->y, NULL, 1, &x);
    return s->y;
}

/* ---- layer norm */
struct layernorm {
    struct es_tensor *x, *w, *b, *y;
    float *mean, *rstd;
};

static void layernorm_backward(struct es_tape *t, void *saved) {
    struct layernorm *s = saved;
    int64_t D = s->w->n, rows = s->x->n / D;
    float beta[3] = {0, 0, 0};
    void *ws = es_tape_scratch(t, es_k_layernorm_bwd_workspace(rows, D));
    float *dx = es_tape_grad(t, s->x, &beta[0]);
    float *dw = es_tape_grad(t, s->w, &beta[1]), *db = es_tape_grad(t, s->b, &beta[2]);
    if (es_tape_dry(t)) return;
    es_k_layernorm_bwd(rows, D, s->x->data, s->w->data, s->mean, s->rstd, es_tape_grad_out(t, s->y), beta, dx,
                       dw, db, ws);
}

struct es_tensor *es_op_layernorm(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                                  struct es_tensor *b, double eps) {
    ES_ASSERT(w->n == last_dim(x) && b->n == last_dim(x));
    struct layernorm *s = es_tape_node(t, sizeof *s);
    int64_t D = w->n, rows = x->n / D;
    *s = (struct layernorm){.x = x, .w = w, .b = b, .y = es_tape_output(t, "layernorm", x->ndim, x->shape)};
    s->mean = es_tape_keep(t, (size_t)rows * sizeof *s->mean);
    s->rstd = es_tape_keep(t, (size_t)rows * sizeof *s->rstd);
    if (!es_tape_dry(t))
        es_k_layernorm_fwd(rows, D, x->data, w->data, b->data, eps, s->y->data, s->mean, s->rstd);
    es_tape_push_reading(t, layernorm_backward, s, s->y, NULL, 3, (struct es_tensor *[]){x, w, b}, 1, &x);
    return s->y;
}

/* ---- attention */
struct attention {
    struct es_tensor *qkv, *y;
    int64_t B, T, H, d;
    float *lse;
};

static void attention_backward(struct es_tape *t, void *saved) {
    struct attention *s = saved;
    void *ws = es_tape_scratch(t, es_k_attention_workspace(s->T, s->d));
    float beta, *dqkv = es_tape_grad(t, s->qkv, &beta);
    if (dqkv && !es_tape_dry(t))
        es_k_attention_bwd(s->B, s->T, s->H, s->d, s->qkv->data, s->y->data, s->lse,
                           es_tape_grad_out(t, s->y), beta, dqkv, ws);
}

/* bf16: q, k, v and the output are kept packed. */
static struct es_k_attention shape_of(const struct attention *s) {
    return (struct es_k_attention){.B = s->B, .T = s->T, .H = s->H, .d = s->d, .ld = 3 * s->H * s->d};
}

static void attention_bf16_backward(struct es_tape *t, void *saved) {
    struct attention *s = saved;
    struct es_bf16 *e = es_tape_engine(t);
    const struct es_k_attention shape = shape_of(s);
    const int64_t D = s->H * s->d;
    const char *qkv = s->qkv->half;
    const size_t part = (size_t)D * es_bf16_size(e);
    void *ws = es_tape_scratch(t, es_bf16_attention_workspace(e, &shape));
    float beta, *dqkv = es_tape_grad(t, s->qkv, &beta);
    const bool add = beta == 1.0f;
    if (dqkv && !es_tape_dry(t))
        es_bf16_attention_bwd(e, &shape, qkv, qkv + part, qkv + 2 * part, NULL, NULL, s->y->half, s->lse,
                              es_tape_grad_out(t, s->y),
                              (float *const[]){dqkv, dqkv + D, dqkv + 2 * D, NULL, NULL},
                              (const bool[]){add, add, add, false, false}, ws);
}

static void attention_bf16(struct es_tape *t, struct attention *s) {
    struct es_bf16 *e = es_tape_engine(t);
    const struct es_k_attention shape = shape_of(s);
    const char *qkv = es_tape_half(t, s->qkv);
    const size_t part = (size_t)(s->H * s->d) * es_bf16_size(e);
    void *ws = es_tape_scratch(t, es_bf16_attention_workspace(e, &shape));
    if (!es_tape_dry(t))
        es_bf16_attention_fwd(e, &shape, qkv, qkv + part, qkv + 2 * part, NULL, NULL, s->y->data, s->lse, ws);
    if (es_tape_record(t)) es_tape_half(t, s->y);
    es_tape_push_reading(t, attention_bf16_backward, s, s->y, NULL, 1, &s->qkv, 0, NULL);
}

struct es_tensor *es_op_attention(struct es_tape *t, struct es_tensor *qkv, int heads) {
    ES_ASSERT(qkv->ndim == 3 && heads > 0 && qkv->shape[2] % (3 * heads) == 0);
    struct attention *s = es_tape_node(t, sizeof *s);
    *s = (struct attention){
        .qkv = qkv, .B = qkv->shape[0], .T = qkv->shape[1], .H = heads, .d = qkv->shape[2] / (3 * heads)};
    s->y = output_like(t, "attention", qkv, s->H * s->d);
    s->lse = es_tape_keep(t, (size_t)(s->B * s->H * s->T) * sizeof *s->lse);
    if (es_tape_engine(t)) {
        attention_bf16(t, s);
        return s->y;
    }
    void *ws = es_tape_scratch(t, es_k_attention_workspace(s->T, s->d));
    if (!es_tape_dry(t)) es_k_attention_fwd(s->B, s->T, s->H, s->d, qkv->data, s->y->data, s->lse, ws);
    es_tape_push(t, attention_backward, s, s->y, NULL, 1, &qkv);
    return s->y;
}

/* ---- patchify, concat */
struct patchify {
    struct es_tensor *x, *y;
    int64_t p;
};

static void patchify_backward(struct es_tape *t, void *saved) {
    struct patchify *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    const int64_t *shape = s->x->shape;
    if (dx && !es_tape_dry(t))
        es_k_patchify_bwd(shape[0], shape[1], shape[2], s->p, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_patchify(struct es_tape *t, struct es_tensor *x, int p) {
    ES_ASSERT(x->ndim == 3 && p > 0 && x->shape[2] >= p);
    struct patchify *s = es_tape_node(t, sizeof *s);
    const int64_t *from = x->shape, shape[3] = {from[0], from[2] / p, from[1] * p};
    *s = (struct patchify){x, es_tape_output(t, "patchify", 3, shape), p};
    if (!es_tape_dry(t)) es_k_patchify_fwd(from[0], from[1], from[2], p, x->data, s->y->data);
    es_tape_push_reading(t, patchify_backward, s, s->y, NULL, 1, &x, 0, NULL);
    return s->y;
}

struct concat {
    struct es_tensor *a, *b, *y;
};

static void concat_backward(struct es_tape *t, void *saved) {
    struct concat *s = saved;
    int64_t A = last_dim(s->a), B = last_dim(s->b), rows = s->a->n / A;
    const float *dy = es_tape_grad_out(t, s->y);
    float beta, *da = es_tape_grad(t, s->a, &beta);
    if (da && !es_tape_dry(t)) es_k_copy2d(rows, A, dy, A + B, beta, da, A);
    float *db = es_tape_grad(t, s->b, &beta);
    if (db && !es_tape_dry(t)) es_k_copy2d(rows, B, dy + A, A + B, beta, db, B);
}

struct es_tensor *es_op_concat(struct es_tape *t, struct es_tensor *a, struct es_tensor *b) {
    int64_t A = last_dim(a), B = last_dim(b), rows = a->n / A;
    ES_ASSERT(a->ndim == b->ndim && b->n / B == rows);
    for (int i = 0; i < a->ndim - 1; i++) ES_ASSERT(a->shape[i] == b->shape[i]);
    struct concat *s = es_tape_node(t, sizeof *s);
    *s = (struct concat){a, b, output_like(t, "concat", a, A + B)};
    if (!es_tape_dry(t)) {
        es_k_copy2d(rows, A, a->data, A, 0.0f, s->y->data, A + B);
        es_k_copy2d(rows, B, b->data, B, 0.0f, s->y->data + A, A + B);
    }
    es_tape_push(t, concat_backward, s, s->y, NULL, 2, (struct es_tensor *[]){a, b});
    return s->y;
}
