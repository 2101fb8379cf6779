/* Operations around fPaSST's patch embedding: taps side by side, tokens with their positions, tokens dropped. Data movement and
 * element-wise sums; a dry tape asks for the same memory. */
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/ops.h"

/* ---- taps */
struct taps {
    struct es_tensor *x, *y;
    int64_t k;
};

static void taps_backward(struct es_tape *t, void *saved) {
    struct taps *s = saved;
    const int64_t *d = s->x->shape;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_taps_bwd(d[0], d[1], d[2], s->k, es_tape_grad_out(t, s->y), beta, dx);
}

struct es_tensor *es_op_taps(struct es_tape *t, struct es_tensor *x, int k) {
    ES_ASSERT(x->ndim == 3 && k > 0);
    struct taps *s = es_tape_node(t, sizeof *s);
    const int64_t *d = x->shape, shape[3] = {d[0], d[2], d[1] * k};
    *s = (struct taps){x, es_tape_output(t, "taps", 3, shape), k};
    if (!es_tape_dry(t)) es_k_taps_fwd(d[0], d[1], d[2], k, x->data, s->y->data);
    es_tape_push_reading(t, taps_backward, s, s->y, NULL, 1, &x, 0, NULL);
    return s->y;
}

/* ---- tokens */
struct tokens {
    struct es_tensor *x, *y;
    struct es_token_params p;
    int64_t offset;
};

static void copy_grad(struct es_tape *t, struct es_tensor *x, const float *from) {
    float beta, *dx = es_tape_grad(t, x, &beta);
    if (dx && !es_tape_dry(t)) es_k_copy2d(1, x->n, from, x->n, beta, dx, x->n);
}

static void tokens_backward(struct es_tape *t, void *saved) {
    struct tokens *s = saved;
    const float *dy = es_tape_grad_out(t, s->y);
    int64_t B = s->x->shape[0], T = s->x->shape[1], D = s->x->shape[2], row = (T + 2) * D,
            N = s->p.time->n / D;
    float beta, *sum = es_tape_scratch(t, (size_t)row * sizeof *sum); /* over clips */
    if (!es_tape_dry(t)) es_k_colsum(B, row, dy, 0.0f, sum);
    copy_grad(t, s->p.cls, sum);
    copy_grad(t, s->p.dist, sum + D);
    copy_grad(t, s->p.prefix, sum);
    float *freq = es_tape_grad(t, s->p.freq, &beta);
    if (freq && !es_tape_dry(t)) es_k_colsum(T, D, sum + 2 * D, beta, freq);
    float *time = es_tape_grad(t, s->p.time, &beta);
    if (time && !es_tape_dry(t)) {
        if (beta == 0.0f) memset(time, 0, (size_t)s->p.time->n * sizeof *time);
        for (int64_t j = 0; j < D; j++)
            for (int64_t i = 0; i < T; i++) time[j * N + s->offset + i] += sum[(2 + i) * D + j];
    }
    float *dx = es_tape_grad(t, s->x, &beta);
    if (dx && !es_tape_dry(t)) es_k_copy2d(B, T * D, dy + 2 * D, row, beta, dx, T * D);
}

struct es_tensor *es_op_tokens(struct es_tape *t, struct es_tensor *x, const struct es_token_params *p,
                               int64_t offset) {
    ES_ASSERT(x->ndim == 3);
    int64_t B = x->shape[0], T = x->shape[1], D = x->shape[2], row = (T + 2) * D, N = p->time->n / D;
    ES_ASSERT(p->cls->n == D && p->dist->n == D && p->prefix->n == 2 * D && p->freq->n == D &&
              p->time->n == N * D);
    ES_ASSERT(offset >= 0 && offset + T <= N);
    struct tokens *s = es_tape_node(t, sizeof *s);
    *s = (struct tokens){x, es_tape_output(t, "tokens", 3, (int64_t[]){B, T + 2, D}), *p, offset};
    float *table = es_tape_scratch(t, (size_t)row * sizeof *table); /* what is added to every clip */
    for (int64_t j = 0; !es_tape_dry(t) && j < D; j++) {
        table[j] = p->cls->data[j] + p->prefix->data[j];
        table[D + j] = p->dist->data[j] + p->prefix->data[D + j];
        for (int64_t i = 0; i < T; i++)
            table[(2 + i) * D + j] = p->time->data[j * N + offset + i] + p->freq->data[j];
    }
    for (int64_t b = 0; !es_tape_dry(t) && b < B; b++) {
        float *y = s->y->data + b * row;
        memcpy(y, table, (size_t)(2 * D) * sizeof *y);
        es_k_add(T * D, x->data + b * T * D, table + 2 * D, y + 2 * D);
    }
    es_tape_push_reading(t, tokens_backward, s, s->y, NULL, 6,
                         (struct es_tensor *[]){x, p->cls, p->dist, p->prefix, p->freq, p->time}, 0, NULL);
    return s->y;
}

/* ---- skip_rows */
struct skip_rows {
    struct es_tensor *x, *y;
    int64_t n;
};

static void skip_rows_backward(struct es_tape *t, void *saved) {
    struct skip_rows *s = saved;
    int64_t B = s->x->shape[0], D = s->x->shape[2], row = s->x->shape[1] * D, skipped = s->n * D;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (!dx || es_tape_dry(t)) return;
    for (int64_t b = 0; beta == 0.0f && b < B; b++) memset(dx + b * row, 0, (size_t)skipped * sizeof *dx);
    es_k_copy2d(B, row - skipped, es_tape_grad_out(t, s->y), row - skipped, beta, dx + skipped, row);
}

struct es_tensor *es_op_skip_rows(struct es_tape *t, struct es_tensor *x, int64_t n) {
    ES_ASSERT(x->ndim == 3 && n >= 0 && n < x->shape[1]);
    struct skip_rows *s = es_tape_node(t, sizeof *s);
    int64_t B = x->shape[0], T = x->shape[1], D = x->shape[2];
    *s = (struct skip_rows){x, es_tape_output(t, "skip_rows", 3, (int64_t[]){B, T - n, D}), n};
    if (!es_tape_dry(t)) es_k_copy2d(B, (T - n) * D, x->data + n * D, T * D, 0.0f, s->y->data, (T - n) * D);
    es_tape_push_reading(t, skip_rows_backward, s, s->y, NULL, 1, &x, 0, NULL);
    return s->y;
}
