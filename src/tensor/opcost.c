#include "earshot/opcost.h"

#include <string.h>

/* Of an input with: in[1]; weights of two dimensions; one another; in[1] before pooling. */
enum product { WEIGHT, RECURRENT, SCORES, GATE };

/* Operations that multiply matrices, by the name of their output. All others count as element-wise: 0 flops. */
static const struct {
    const char *name;
    enum product product;
} products[] = {{"linear", WEIGHT},   {"conv2d", WEIGHT},   {"conv1d", WEIGHT},    {"cnn_tail", GATE},
                {"rel_gate", WEIGHT}, {"bigru", RECURRENT}, {"bilstm", RECURRENT}, {"attention", SCORES}};

static double tensor_bytes(const struct es_tensor *x) {
    return x ? (double)x->n * sizeof(float) : 0;
}

/* One product for the forward pass; backward one for the input's gradient and one for the weights'. */
static double passes(const struct es_tape_event *e, const struct es_tensor *x, const struct es_tensor *w) {
    return e->backward ? (double)(x->needs_grad + w->needs_grad) : 1.0;
}

static double flops(const struct es_tape_event *e, enum product product) {
    const struct es_tensor *x = e->in[0], *y = e->out;
    double n = 0;
    switch (product) {
    case WEIGHT: { /* every output element: a row of the weights. rel_gate: all rows, several outputs a row of x */
        const struct es_tensor *w = e->in[1];
        double row = strcmp(y->name, "rel_gate") == 0 ? (double)w->n : (double)(w->n / w->shape[0]);
        return 2.0 * (double)y->n * row * passes(e, x, w);
    }
    case RECURRENT:
        for (int i = 1; i < e->n_in; i++)
            if (e->in[i]->ndim == 2)
                n += 2.0 * (double)(x->n / x->shape[2]) * (double)e->in[i]->n * passes(e, x, e->in[i]);
        return n;
    case SCORES: /* q k' and p v; backward twice as much, without computing p again */
        return 4.0 * (double)y->n * (double)y->shape[1] * (e->backward ? 2.0 : 1.0);
    case GATE:
        return 2.0 * (double)x->n * (double)x->shape[1] * passes(e, x, e->in[1]);
    }
    return 0;
}

struct es_op_cost es_op_cost(const struct es_tape_event *e) {
    struct es_op_cost c = {0, tensor_bytes(e->out) + tensor_bytes(e->out2)};
    for (int i = 0; i < e->n_in; i++) {
        c.bytes += tensor_bytes(e->in[i]);
        if (e->backward && e->in[i] && e->in[i]->needs_grad) c.bytes += tensor_bytes(e->in[i]);
    }
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (strcmp(e->out->name, products[i].name) == 0) c.flops = flops(e, products[i].product);
    return c;
}
