/* Operations of BEATs on the tape: shapes, memory and gradients around the kernels of kernels_beats.h. A dry tape asks for the same
 * memory and runs no kernel. */
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/kernels_beats.h"
#include "earshot/kernels_bf16.h"

#include "ops_impl.h"

/* ---- sums and scales */
struct scale_add {
    float alpha;
    struct es_tensor *x, *b, *y;
};

static void scale_add_backward(struct es_tape *t, void *saved) {
    struct scale_add *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x);
    if (dx.p && !es_tape_dry(t)) es_k_scale_add(o->y->n, o->alpha, dy, dx.add ? dx.p : NULL, dx.p);
    struct grad db = grad_of(t, o->b);
    if (db.p && !es_tape_dry(t)) es_k_copy2d(1, o->y->n, dy, o->y->n, db.add ? 1.0f : 0.0f, db.p, o->y->n);
}

struct es_tensor *es_op_scale_add(struct es_tape *t, double alpha, struct es_tensor *x, struct es_tensor *y) {
    ES_ASSERT(x->ndim == y->ndim && x->n == y->n);
    struct scale_add *o = es_tape_node(t, sizeof *o);
    *o = (struct scale_add){(float)alpha, x, y, es_tape_output(t, "scale_add", x->ndim, x->shape)};
    if (!es_tape_dry(t)) es_k_scale_add(x->n, o->alpha, x->data, y->data, o->y->data);
    es_tape_push_reading(t, scale_add_backward, o, o->y, NULL, 2, (struct es_tensor *[]){x, y}, 0, NULL);
    return o->y;
}

static void grad_scale_backward(struct es_tape *t, void *saved) {
    struct scale_add *o = saved;
    struct grad dx = grad_of(t, o->x);
    if (dx.p && !es_tape_dry(t))
        es_k_scale_add(o->y->n, o->alpha, es_tape_grad_out(t, o->y), dx.add ? dx.p : NULL, dx.p);
}

struct es_tensor *es_op_grad_scale(struct es_tape *t, struct es_tensor *x, double scale) {
    if (scale == 1.0 || !es_tape_record(t)) return x;
    struct scale_add *o = es_tape_node(t, sizeof *o);
    struct es_tensor *y = es_tape_view(t, x, x->ndim, x->shape);
    *o = (struct scale_add){.alpha = (float)scale, .x = x, .y = y};
    es_tape_push_reading(t, grad_scale_backward, o, y, NULL, 1, &x, 0, NULL);
    return y;
}

/* ---- patches */
struct patch2d {
    struct es_tensor *x, *y;
    int64_t p;
};

static void patch2d_backward(struct es_tape *t, void *saved) {
    struct patch2d *o = saved;
    const int64_t *s = o->x->shape;
    struct grad dx = grad_of(t, o->x);
    if (dx.p && !es_tape_dry(t))
        es_k_patch2d_bwd(s[0], s[1], s[2], o->p, es_tape_grad_out(t, o->y), dx.add ? 1.0f : 0.0f, dx.p);
}

struct es_tensor *es_op_patch2d(struct es_tape *t, struct es_tensor *x, int p) {
    ES_ASSERT(x->ndim == 3 && p > 0 && x->shape[1] >= p && x->shape[2] >= p);
    const int64_t *s = x->shape;
    struct patch2d *o = es_tape_node(t, sizeof *o);
    int64_t shape[3] = {s[0], s[1] / p * (s[2] / p), (int64_t)p * p};
    *o = (struct patch2d){x, es_tape_output(t, "patch2d", 3, shape), p};
    if (!es_tape_dry(t)) es_k_patch2d_fwd(s[0], s[1], s[2], p, x->data, o->y->data);
    es_tape_push_reading(t, patch2d_backward, o, o->y, NULL, 1, &x, 0, NULL);
    return o->y;
}

/* ---- position bias and gate */
struct rel_bias {
    int64_t T, H;
    int n_buckets, max_distance;
    struct es_tensor *table, *y;
};

static void rel_bias_backward(struct es_tape *t, void *saved) {
    struct rel_bias *o = saved;
    struct grad d = grad_of(t, o->table);
    if (d.p && !es_tape_dry(t))
        es_k_rel_bias_bwd(o->T, o->H, o->n_buckets, o->max_distance, es_tape_grad_out(t, o->y), d.p, d.add);
}

struct es_tensor *es_op_rel_bias(struct es_tape *t, struct es_tensor *table, int64_t T, int max_distance) {
    ES_ASSERT(table->ndim == 2 && T > 0);
    struct rel_bias *o = es_tape_node(t, sizeof *o);
    *o = (struct rel_bias){T, table->shape[1], es_int_from_i64(table->shape[0]), max_distance, table, NULL};
    o->y = es_tape_output(t, "rel_bias", 2, (int64_t[]){o->H, 2 * T - 1});
    if (!es_tape_dry(t)) es_k_rel_bias_fwd(T, o->H, o->n_buckets, max_distance, table->data, o->y->data);
    es_tape_push(t, rel_bias_backward, o, o->y, NULL, 1, &table);
    return o->y;
}

struct rel_gate {
    struct es_k_rel_gate s;
    struct es_tensor *q, *w, *b, *a, *y;
};

static void rel_gate_backward(struct es_tape *t, void *saved) {
    struct rel_gate *o = saved;
    struct grad dq = grad_of(t, o->q), dw = grad_of(t, o->w), db = grad_of(t, o->b), da = grad_of(t, o->a);
    void *ws = es_tape_scratch(t, es_k_rel_gate_ws(&o->s));
    if (es_tape_dry(t)) return;
    es_k_rel_gate_bwd(&o->s, o->q->data, o->w->data, o->b->data, o->a->data, es_tape_grad_out(t, o->y), dq.p,
                      dq.add, dw.p, dw.add, db.p, db.add, da.p, da.add, ws);
}

struct es_tensor *es_op_rel_gate(struct es_tape *t, struct es_tensor *q, struct es_tensor *w,
                                 struct es_tensor *b, struct es_tensor *a) {
    int64_t d = w->shape[1], H = a->n;
    ES_ASSERT(q->ndim == 3 && w->ndim == 2 && w->shape[0] == 8 && b->n == 8 && q->shape[2] == H * d);
    struct rel_gate *o = es_tape_node(t, sizeof *o);
    *o = (struct rel_gate){{q->n / d, H, d}, q, w, b, a, NULL};
    o->y = es_tape_output(t, "rel_gate", 3, (int64_t[]){q->shape[0], q->shape[1], H});
    void *ws = es_tape_scratch(t, es_k_rel_gate_ws(&o->s));
    if (!es_tape_dry(t)) es_k_rel_gate_fwd(&o->s, q->data, w->data, b->data, a->data, o->y->data, ws);
    es_tape_push(t, rel_gate_backward, o, o->y, NULL, 4, (struct es_tensor *[]){q, w, b, a});
    return o->y;
}

/* ---- attention */
struct attention_rel {
    struct es_k_attention s;
    struct es_tensor *q, *k, *v, *gate, *bias, *y;
    float *lse;
};

static const float *data_of(const struct es_tensor *x) {
    return x ? x->data : NULL;
}

static void attention_rel_backward(struct es_tape *t, void *saved) {
    struct attention_rel *o = saved;
    struct es_tensor *in[5] = {o->q, o->k, o->v, o->gate, o->bias};
    struct grad g[5];
    for (int i = 0; i < 5; i++) g[i] = grad_of(t, in[i]);
    void *ws = es_tape_scratch(t, es_k_attention_rel_ws(&o->s));
    if (es_tape_dry(t)) return;
    es_k_attention_rel_bwd(&o->s, o->q->data, o->k->data, o->v->data, data_of(o->gate), data_of(o->bias),
                           o->y->data, o->lse, es_tape_grad_out(t, o->y), g[0].p, g[0].add, g[1].p, g[1].add,
                           g[2].p, g[2].add, g[3].p, g[3].add, g[4].p, g[4].add, ws);
}

/* bf16: q, k, v and the output are kept packed. */
static void attention_rel_bf16_backward(struct es_tape *t, void *saved) {
    struct attention_rel *o = saved;
    struct es_bf16 *e = es_tape_engine(t);
    struct es_tensor *in[5] = {o->q, o->k, o->v, o->gate, o->bias};
    float *grad[5];
    bool add[5];
    for (int i = 0; i < 5; i++) {
        struct grad g = grad_of(t, in[i]);
        grad[i] = g.p;
        add[i] = g.add;
    }
    void *ws = es_tape_scratch(t, es_bf16_attention_workspace(e, &o->s));
    if (!es_tape_dry(t))
        es_bf16_attention_bwd(e, &o->s, o->q->half, o->k->half, o->v->half, data_of(o->gate),
                              data_of(o->bias), o->y->half, o->lse, es_tape_grad_out(t, o->y), grad, add, ws);
}

static void attention_rel_bf16(struct es_tape *t, struct attention_rel *o) {
    struct es_bf16 *e = es_tape_engine(t);
    const void *q = es_tape_half(t, o->q), *k = es_tape_half(t, o->k), *v = es_tape_half(t, o->v);
    void *ws = es_tape_scratch(t, es_bf16_attention_workspace(e, &o->s));
    if (!es_tape_dry(t))
        es_bf16_attention_fwd(e, &o->s, q, k, v, data_of(o->gate), data_of(o->bias), o->y->data, o->lse, ws);
    if (es_tape_record(t)) es_tape_half(t, o->y);
    struct es_tensor *read[2] = {o->gate, o->bias};
    es_tape_push_reading(t, attention_rel_bf16_backward, o, o->y, NULL, 5,
                         (struct es_tensor *[]){o->q, o->k, o->v, o->gate, o->bias}, o->gate ? 2 : 0, read);
}

struct es_tensor *es_op_attention_rel(struct es_tape *t, struct es_tensor *q, struct es_tensor *k,
                                      struct es_tensor *v, struct es_tensor *gate, struct es_tensor *bias,
                                      int heads, double drop) {
    int64_t B = q->shape[0], T = q->shape[1], D = q->shape[2], H = heads;
    ES_ASSERT(q->ndim == 3 && H > 0 && D % H == 0 && k->n == q->n && v->n == q->n && k->shape[1] == T);
    ES_ASSERT(!gate == !bias && (!gate || (gate->n == B * T * H && bias->n == H * (2 * T - 1))));
    struct attention_rel *o = es_tape_node(t, sizeof *o);
    *o = (struct attention_rel){
        {.B = B, .T = T, .H = H, .d = D / H, .ld = D}, q, k, v, gate, bias, NULL, NULL};
    if (es_tape_train(t) && drop > 0) {
        o->s.drop = drop;
        o->s.rng = es_tape_dropout_stream(t);
    }
    o->y = es_tape_output(t, "attention", 3, q->shape);
    o->lse = es_tape_keep(t, (size_t)(B * H * T) * sizeof *o->lse);
    if (es_tape_engine(t)) {
        attention_rel_bf16(t, o);
        return o->y;
    }
    void *ws = es_tape_scratch(t, es_k_attention_rel_ws(&o->s));
    if (!es_tape_dry(t))
        es_k_attention_rel_fwd(&o->s, q->data, k->data, v->data, data_of(gate), data_of(bias), o->y->data,
                               o->lse, ws);
    es_tape_push(t, attention_rel_backward, o, o->y, NULL, 5, (struct es_tensor *[]){q, k, v, gate, bias});
    return o->y;
}

/* ---- convolution over time with weight norm */
struct weight_norm {
    int64_t rows, cols;
    struct es_tensor *v, *g, *y;
};

static void weight_norm_backward(struct es_tape *t, void *saved) {
    struct weight_norm *o = saved;
    struct grad dv = grad_of(t, o->v), dg = grad_of(t, o->g);
    if (!es_tape_dry(t))
        es_k_weight_norm_bwd(o->rows, o->cols, o->v->data, o->g->data, es_tape_grad_out(t, o->y), dv.p,
                             dv.add, dg.p, dg.add);
}

struct es_tensor *es_op_weight_norm(struct es_tape *t, struct es_tensor *v, struct es_tensor *g) {
    ES_ASSERT(v->ndim > 0 && v->shape[v->ndim - 1] == g->n);
    struct weight_norm *o = es_tape_node(t, sizeof *o);
    *o = (struct weight_norm){v->n / g->n, g->n, v, g, es_tape_output(t, "weight_norm", v->ndim, v->shape)};
    if (!es_tape_dry(t)) es_k_weight_norm_fwd(o->rows, o->cols, v->data, g->data, o->y->data);
    es_tape_push(t, weight_norm_backward, o, o->y, NULL, 2, (struct es_tensor *[]){v, g});
    return o->y;
}

struct conv1d {
    struct es_k_conv1d s;
    struct es_tensor *x, *w, *b, *y;
};

static void conv1d_backward(struct es_tape *t, void *saved) {
    struct conv1d *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    struct grad dx = grad_of(t, o->x), dw = grad_of(t, o->w), db = grad_of(t, o->b);
    void *ws = es_tape_scratch(t, es_k_conv1d_ws(&o->s));
    if (es_tape_dry(t)) return;
    if (dw.p) es_k_conv1d_dw(&o->s, o->x->data, dy, dw.p, dw.add, ws);
    if (db.p) es_k_colsum(o->s.B * o->s.T, o->s.D, dy, db.add ? 1.0f : 0.0f, db.p);
    if (dx.p) es_k_conv1d_dx(&o->s, o->w->data, dy, dx.p, dx.add, ws);
}

struct es_tensor *es_op_conv1d(struct es_tape *t, struct es_tensor *x, struct es_tensor *w,
                               struct es_tensor *b) {
    int64_t D = x->shape[2];
    ES_ASSERT(x->ndim == 3 && w->ndim == 3 && w->shape[0] == D && D % w->shape[1] == 0 && b->n == D);
    struct conv1d *o = es_tape_node(t, sizeof *o);
    *o = (struct conv1d){{x->shape[0], x->shape[1], D, D / w->shape[1], w->shape[2]}, x, w, b, NULL};
    o->y = es_tape_output(t, "conv1d", 3, x->shape);
    void *ws = es_tape_scratch(t, es_k_conv1d_ws(&o->s));
    if (!es_tape_dry(t)) es_k_conv1d_fwd(&o->s, x->data, w->data, b->data, o->y->data, ws);
    es_tape_push(t, conv1d_backward, o, o->y, NULL, 3, (struct es_tensor *[]){x, w, b});
    return o->y;
}
