#include "earshot/optim.h"

#include <math.h>
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/mem.h"

struct piece { /* of one parameter inside one segment */
    int segment, group;
    bool flat;                     /* at most one dimension */
    int64_t in_segment, offset, n; /* offset in the parameter vector */
};

struct es_optim {
    struct es_optim_params op;
    int n_segments, n_pieces;
    int64_t n;
    int64_t *first; /* [n_segments] start of a segment's moments */
    float *m, *v;
    struct piece *piece;
};

double es_schedule_factor(enum es_schedule kind, int64_t step, int64_t warmup, int64_t total) {
    if (step < warmup) return (double)step / (double)(warmup > 1 ? warmup : 1);
    if (kind == ES_SCHEDULE_CONSTANT) return 1.0;
    int64_t rest = total - warmup;
    double progress = (double)(step - warmup) / (double)(rest > 1 ? rest : 1);
    double f = 0.5 * (1.0 + cos(3.14159265358979323846 * progress));
    return f > 0.0 ? f : 0.0;
}

double es_optim_lr(const struct es_optim_params *op, int group, int64_t t, double factor) {
    if (op->line_steps == 0 || group != op->line_group) return op->lr[group] * factor;
    double part = t < op->line_steps ? (double)t / (double)op->line_steps : 1.0;
    return op->lr[group] + (op->line_end_lr - op->lr[group]) * part;
}

double es_ema_alpha(int64_t step, double decay) {
    double alpha = 1.0 - 1.0 / ((double)step + 1.0);
    return alpha < decay ? alpha : decay;
}

int es_optim_new(struct es_optim **o, const struct es_optim_params *op, struct es_params *params,
                 struct es_reducer *r, struct es_err *err) {
    int n_params = es_params_count(params), n_segments = es_reducer_n_segments(r);
    *o = es_alloc(1, sizeof **o, err);
    if (!*o) return -ES_EIO;
    (*o)->op = *op;
    (*o)->n_segments = n_segments;
    (*o)->first = es_alloc((size_t)n_segments, sizeof(int64_t), err);
    (*o)->piece = es_alloc((size_t)(n_params + n_segments), sizeof(struct piece), err);
    if (!(*o)->first || !(*o)->piece) goto failed;
    for (int s = 0; s < n_segments; s++) {
        struct es_segment seg = es_reducer_segment(r, s);
        (*o)->first[s] = (*o)->n;
        (*o)->n += seg.n;
        for (int i = n_params - 1; i >= 0; i--) { /* offsets rise with falling index */
            const struct es_param *p = es_params_at(params, i);
            if (!p->trainable) continue;
            int64_t lo = p->offset > seg.offset ? p->offset : seg.offset;
            int64_t p_end = p->offset + p->n, s_end = seg.offset + seg.n, hi = p_end < s_end ? p_end : s_end;
            if (lo >= hi) continue;
            ES_ASSERT(p->group >= 0 && p->group < op->n_groups && (*o)->n_pieces < n_params + n_segments);
            (*o)->piece[(*o)->n_pieces++] =
                (struct piece){s, p->group, p->ndim <= 1, lo - seg.offset, lo, hi - lo};
        }
    }
    (*o)->m = es_alloc((size_t)(*o)->n, sizeof(float), err);
    (*o)->v = es_alloc((size_t)(*o)->n, sizeof(float), err);
    if ((*o)->m && (*o)->v) return 0;
failed:
    es_optim_free(o);
    return -ES_EIO;
}

void es_optim_free(struct es_optim **o) {
    if (!*o) return;
    es_free(&(*o)->v);
    es_free(&(*o)->m);
    es_free(&(*o)->piece);
    es_free(&(*o)->first);
    es_free(o);
}

void es_optim_step(struct es_optim *o, struct es_params *params, struct es_reducer *r, int64_t t,
                   double factor, double grad_scale) {
    float *values = es_params_values(params);
    for (int i = 0; i < o->n_pieces; i++) {
        const struct piece *q = &o->piece[i];
        const float *g = es_reducer_segment(r, q->segment).sum + q->in_segment;
        int64_t at = o->first[q->segment] + q->in_segment;
        struct es_adamw a = {.lr = es_optim_lr(&o->op, q->group, t, factor),
                             .beta1 = o->op.beta1,
                             .beta2 = o->op.beta2,
                             .eps = o->op.eps,
                             .weight_decay =
                                 q->flat && o->op.apart_1d ? o->op.weight_decay_1d : o->op.weight_decay,
                             .step = t + 1,
                             .decoupled = o->op.decoupled,
                             .grad_scale = grad_scale};
        es_k_adamw(q->n, values + q->offset, g, o->m + at, o->v + at, &a);
    }
}

int64_t es_optim_elements(const struct es_optim *o) {
    return o->n;
}
float *es_optim_m(struct es_optim *o, int segment) {
    return o->m + o->first[segment];
}
float *es_optim_v(struct es_optim *o, int segment) {
    return o->v + o->first[segment];
}

void es_ema_update(struct es_params *teacher, struct es_params *student, double alpha) {
    float *a = es_params_values(teacher), *b = es_params_values(student);
    es_k_ema(es_params_n_trainable(student), a, b, alpha);
    if (alpha > 0.0) return;
    for (int i = 0; i < es_params_count(student); i++) {
        const struct es_param *p = es_params_at(student, i);
        if (p->kind == ES_PARAM_WEIGHT && !p->trainable)
            memcpy(a + p->offset, b + p->offset, (size_t)p->n * sizeof(float));
    }
}
