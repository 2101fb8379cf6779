/* Operations of the transformer side of ops.h: linear, norms, attention, element-wise, positions, patches. */
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/ops.h"

#define F(n) ((size_t)(n) * sizeof(float))

/* Most records need no more than inputs and output. */
struct node {
    struct es_tensor *x, *w, *b, *y;
    float *kept;
    int64_t rows, in, out;
    int n;
};

static struct node *node_new(struct es_tape *t, struct es_tensor *x, struct es_tensor *y) {
    struct node *s = es_tape_node(t, sizeof *s);
    s->x = x;
    s->y = y;
    return s;
}

static void push(struct es_tape *t, es_backward_fn backward, struct node *s) {
    struct es_tensor *in[3] = {s->x, s->w, s->b};
    es_tape_push(t, backward, s, s->y, NULL, 3, in);
}

static struct es_tensor *like(struct es_tape *t, const char *name, const struct es_tensor *x) {
    return es_tape_output(t, name, x->ndim, x->shape);
}

/* ---- linear */

static void linear_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
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

struct es_tensor *es_op_linear(struct es_tape *t, struct es_tensor *x, struct es_tensor *w, struct es_tensor *b) {
    int64_t shape[ES_MAX_DIM];
    ES_ASSERT(x->ndim >= 1 && w->ndim == 2 && x->shape[x->ndim - 1] == w->shape[1] && (!b || b->n == w->shape[0]));
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = w->shape[0];
    struct es_tensor *y = es_tape_output(t, "linear", x->ndim, shape);
    struct node *s = node_new(t, x, y);
    s->w = w;
    s->b = b;
    s->in = w->shape[1];
    s->out = w->shape[0];
    s->rows = x->n / s->in;
    void *ws = es_tape_scratch(t, es_k_linear_workspace(s->rows, s->in, s->out));
    if (!es_tape_dry(t)) es_k_linear_fwd(s->rows, s->in, s->out, x->data, w->data, b ? b->data : NULL, y->data, ws);
    push(t, linear_backward, s);
    return y;
}

/* ---- sums */

/* dx = dy + beta dx, for all of x */
static void pass(struct es_tape *t, struct es_tensor *x, const float *dy) {
    float beta, *dx = es_tape_grad(t, x, &beta);
    if (dx && !es_tape_dry(t)) es_k_copy2d(1, x->n, dy, x->n, beta, dx, x->n);
}

static void add_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    pass(t, s->x, es_tape_grad_out(t, s->y));
    pass(t, s->w, es_tape_grad_out(t, s->y));
}

struct es_tensor *es_op_add(struct es_tape *t, struct es_tensor *a, struct es_tensor *b) {
    ES_ASSERT(a->n == b->n);
    struct es_tensor *y = like(t, "add", a);
    struct node *s = node_new(t, a, y);
    s->w = b;
    if (!es_tape_dry(t)) es_k_add(a->n, a->data, b->data, y->data);
    push(t, add_backward, s);
    return y;
}

static void add_rows_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    const float *dy = es_tape_grad_out(t, s->y);
    float beta, *dw = es_tape_grad(t, s->w, &beta);
    int64_t B = s->x->shape[0], n = s->x->n / B, D = s->x->shape[2];
    if (dw && !es_tape_dry(t)) {
        if (beta == 0.0f) memset(dw, 0, F(s->w->n));
        es_k_colsum(B, n, dy, beta, dw + s->in * D); /* rows of the table that no frame uses keep their gradient (0) */
    }
    pass(t, s->x, dy);
}

struct es_tensor *es_op_add_rows(struct es_tape *t, struct es_tensor *x, struct es_tensor *table, int64_t row0) {
    ES_ASSERT(x->ndim == 3 && table->n / x->shape[2] >= row0 + x->shape[1]);
    struct es_tensor *y = like(t, "add_rows", x);
    struct node *s = node_new(t, x, y);
    s->w = table;
    s->in = row0;
    if (!es_tape_dry(t))
        es_k_add_rows(x->shape[0], x->shape[1], x->shape[2], x->data, table->data + row0 * x->shape[2], y->data);
    push(t, add_rows_backward, s);
    return y;
}

/* ---- element-wise */

static void gelu_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_gelu_bwd(s->x->n, s->x->data, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_gelu(struct es_tape *t, struct es_tensor *x) {
    struct es_tensor *y = like(t, "gelu", x);
    if (!es_tape_dry(t)) es_k_gelu_fwd(x->n, x->data, y->data);
    push(t, gelu_backward, node_new(t, x, y));
    return y;
}

static void sigmoid_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_sigmoid_bwd(s->x->n, s->y->data, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_sigmoid(struct es_tape *t, struct es_tensor *x) {
    struct es_tensor *y = like(t, "sigmoid", x);
    if (!es_tape_dry(t)) es_k_sigmoid_fwd(x->n, x->data, y->data);
    push(t, sigmoid_backward, node_new(t, x, y));
    return y;
}

/* ---- layer norm */

static void layernorm_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    float beta[3] = {0, 0, 0};
    float *dx = es_tape_grad(t, s->x, &beta[0]), *dw = es_tape_grad(t, s->w, &beta[1]), *db = es_tape_grad(t, s->b, &beta[2]);
    void *ws = es_tape_scratch(t, es_k_layernorm_bwd_workspace(s->rows, s->in));
    if (es_tape_dry(t)) return;
    es_k_layernorm_bwd(s->rows, s->in, s->x->data, s->w->data, s->kept, s->kept + s->rows, es_tape_grad_out(t, s->y), beta, dx, dw,
                       db, ws);
}

struct es_tensor *es_op_layernorm(struct es_tape *t, struct es_tensor *x, struct es_tensor *w, struct es_tensor *b, double eps) {
    ES_ASSERT(w->n == x->shape[x->ndim - 1] && b->n == w->n);
    struct es_tensor *y = like(t, "layernorm", x);
    struct node *s = node_new(t, x, y);
    s->w = w;
    s->b = b;
    s->in = w->n;
    s->rows = x->n / w->n;
    s->kept = es_tape_keep(t, F(2 * s->rows)); /* mean, 1/std */
    if (!es_tape_dry(t))
        es_k_layernorm_fwd(s->rows, s->in, x->data, w->data, b->data, eps, y->data, s->kept, s->kept ? s->kept + s->rows : NULL);
    push(t, layernorm_backward, s);
    return y;
}

/* ---- attention */

static void attention_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    int64_t B = s->y->shape[0], T = s->y->shape[1], d = s->y->shape[2] / s->n;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    void *ws = es_tape_scratch(t, es_k_attention_workspace(T, d));
    if (dx && !es_tape_dry(t))
        es_k_attention_bwd(B, T, s->n, d, s->x->data, s->y->data, s->kept, es_tape_grad_out(t, s->y), beta, dx, ws);
}

struct es_tensor *es_op_attention(struct es_tape *t, struct es_tensor *qkv, int heads) {
    int64_t B = qkv->shape[0], T = qkv->shape[1], D = qkv->shape[2] / 3;
    ES_ASSERT(qkv->ndim == 3 && qkv->shape[2] % 3 == 0 && D % heads == 0);
    struct es_tensor *y = es_tape_output(t, "attention", 3, (int64_t[]){B, T, D});
    struct node *s = node_new(t, qkv, y);
    s->n = heads;
    s->kept = es_tape_keep(t, F(B * heads * T)); /* log sum exp */
    void *ws = es_tape_scratch(t, es_k_attention_workspace(T, D / heads));
    if (!es_tape_dry(t)) es_k_attention_fwd(B, T, heads, D / heads, qkv->data, y->data, s->kept, ws);
    push(t, attention_backward, s);
    return y;
}

/* ---- patches and concatenation */

static void patchify_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t))
        es_k_patchify_bwd(s->x->shape[0], s->x->shape[1], s->x->shape[2], s->n, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_patchify(struct es_tape *t, struct es_tensor *x, int p) {
    ES_ASSERT(x->ndim == 3 && x->shape[2] >= p);
    struct es_tensor *y = es_tape_output(t, "patchify", 3, (int64_t[]){x->shape[0], x->shape[2] / p, x->shape[1] * p});
    struct node *s = node_new(t, x, y);
    s->n = p;
    if (!es_tape_dry(t)) es_k_patchify_fwd(x->shape[0], x->shape[1], x->shape[2], p, x->data, y->data);
    push(t, patchify_backward, s);
    return y;
}

static void concat_backward(struct es_tape *t, void *saved) {
    struct node *s = saved;
    const float *dy = es_tape_grad_out(t, s->y);
    float beta, *da = es_tape_grad(t, s->x, &beta);
    if (da && !es_tape_dry(t)) es_k_copy2d(s->rows, s->in, dy, s->in + s->out, beta, da, s->in);
    float *db = es_tape_grad(t, s->w, &beta);
    if (db && !es_tape_dry(t)) es_k_copy2d(s->rows, s->out, dy + s->in, s->in + s->out, beta, db, s->out);
}

struct es_tensor *es_op_concat(struct es_tape *t, struct es_tensor *a, struct es_tensor *b) {
    int64_t shape[ES_MAX_DIM], A = a->shape[a->ndim - 1], B = b->shape[b->ndim - 1];
    ES_ASSERT(a->ndim == b->ndim && a->n / A == b->n / B);
    memcpy(shape, a->shape, sizeof shape);
    shape[a->ndim - 1] = A + B;
    struct es_tensor *y = es_tape_output(t, "concat", a->ndim, shape);
    struct node *s = node_new(t, a, y);
    s->w = b;
    s->rows = a->n / A;
    s->in = A;
    s->out = B;
    if (!es_tape_dry(t)) {
        es_k_copy2d(s->rows, A, a->data, A, 0, y->data, A + B);
        es_k_copy2d(s->rows, B, b->data, B, 0, y->data + A, A + B);
    }
    push(t, concat_backward, s);
    return y;
}
