/* Losses on the tape: scale * sum / denominator over a range of rows, summed in double, row by row. */
#include <string.h>

#include "earshot/kernels_crnn.h"
#include "earshot/ops.h"

struct loss {
    struct es_k_loss s;
    int64_t row0, row_n; /* elements of a row */
    double factor;       /* scale / denominator */
    struct es_tensor *p, *y;
    const float *target;
};

static void loss_backward(struct es_tape *t, void *saved) {
    struct loss *o = saved;
    const float *dy = es_tape_grad_out(t, o->y);
    float beta = 0, *dp = es_tape_grad(t, o->p, &beta);
    if (!dp || es_tape_dry(t)) return;
    int64_t first = o->row0 * o->row_n, last = first + o->s.rows * o->row_n;
    bool add = beta != 0.0f;
    if (!add) { /* rows outside the range */
        memset(dp, 0, (size_t)first * sizeof *dp);
        memset(dp + last, 0, (size_t)(o->p->n - last) * sizeof *dp);
    }
    es_k_loss_bwd(&o->s, o->p->data + first, o->target + first, o->factor * (double)*dy, dp + first, add);
}

static struct es_tensor *loss(struct es_tape *t, enum es_loss_kind kind, const char *name,
                              struct es_tensor *p, const float *target, const struct es_loss_rows *rows) {
    ES_ASSERT(p->ndim >= 1 && rows->row0 >= 0 && rows->n_rows > 0 &&
              rows->row0 + rows->n_rows <= p->shape[0]);
    ES_ASSERT(rows->denominator > 0 && (!rows->columns || p->ndim >= 2));
    struct loss *o = es_tape_node(t, sizeof *o);
    *o = (struct loss){.row0 = rows->row0,
                       .row_n = p->n / p->shape[0],
                       .factor = rows->scale / rows->denominator,
                       .p = p,
                       .target = target};
    int64_t K = p->ndim >= 2 ? p->shape[1] : 1;
    o->s = (struct es_k_loss){kind, rows->n_rows, K, o->row_n / K, NULL};
    if (rows->columns) { /* a copy: the caller's may change before backward */
        uint8_t *columns = es_tape_node(t, (size_t)K);
        memcpy(columns, rows->columns, (size_t)K);
        o->s.columns = columns;
    }
    o->y = es_tape_output(t, name, 1, (int64_t[]){1});
    double *row_sum = es_tape_scratch(t, (size_t)rows->n_rows * sizeof *row_sum);
    if (!es_tape_dry(t)) {
        double sum = 0;
        es_k_loss_fwd(&o->s, p->data + o->row0 * o->row_n, target + o->row0 * o->row_n, row_sum);
        for (int64_t r = 0; r < rows->n_rows; r++) sum += row_sum[r];
        o->y->data[0] = (float)(o->factor * sum);
    }
    es_tape_push(t, loss_backward, o, o->y, NULL, 1, &p);
    return o->y;
}

struct es_tensor *es_op_bce(struct es_tape *t, struct es_tensor *p, const float *target,
                            const struct es_loss_rows *rows) {
    return loss(t, ES_LOSS_BCE, "bce", p, target, rows);
}
struct es_tensor *es_op_bce_logits(struct es_tape *t, struct es_tensor *x, const float *target,
                                   const struct es_loss_rows *rows) {
    return loss(t, ES_LOSS_BCE_LOGITS, "bce_logits", x, target, rows);
}
struct es_tensor *es_op_mse(struct es_tape *t, struct es_tensor *p, const float *target,
                            const struct es_loss_rows *rows) {
    return loss(t, ES_LOSS_MSE, "mse", p, target, rows);
}
