/* es_op_reshape: a view. It shares data; gradients pass through by copy or add. */
#include <string.h>

#include "earshot/ops.h"

struct reshape {
    struct es_tensor *x, *y;
};

static void reshape_backward(struct es_tape *t, void *saved) {
    struct reshape *s = saved;
    float beta;
    float *dx = es_tape_grad(t, s->x, &beta);
    const float *dy = es_tape_grad_out(t, s->y);
    if (!dx || !dy || es_tape_dry(t)) return;
    if (beta == 0.0f)
        memcpy(dx, dy, (size_t)s->x->n * sizeof(float));
    else
        for (int64_t i = 0; i < s->x->n; i++) dx[i] += dy[i];
}

struct es_tensor *es_op_reshape(struct es_tape *t, struct es_tensor *x, int ndim, const int64_t *shape) {
    struct es_tensor *y = es_tape_view(t, x, ndim, shape);
    struct reshape *s = es_tape_node(t, sizeof *s);
    *s = (struct reshape){x, y};
    es_tape_push(t, reshape_backward, s, y, NULL, 1, &x);
    return y;
}
