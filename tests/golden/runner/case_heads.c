/* Heads of pre-training on given embeddings, and the loss of pre-training. */
#include "model.h"

#include "earshot/ops.h"

struct run {
    float *x;
    int64_t shape[4];
    bool clip;
    struct es_tensor *in;
};

/* [B,T,K] -> [B,K,T] */
static struct es_tensor *frames_last(struct es_tape *t, struct es_tensor *x) {
    return es_op_channels_last(t,
                               es_op_reshape(t, x, 4, (int64_t[]){x->shape[0], x->shape[1], x->shape[2], 1}));
}

/* Upstream gives strong as [B,K,T] (probabilities with attention, else logits), logits and frames as [B,T,K]. */
static void forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    struct run *r = ctx;
    struct es_head_out o;
    r->in = es_tape_input(t, "x", 3, r->shape, r->x, true);
    es_net_head(m->net, t, r->in, r->clip, &o);
    if (rn_get(m->c, "out.strong"))
        rn_project(m, t, o.strong ? o.strong : frames_last(t, o.logits), "strong");
    if (rn_get(m->c, "out.logits")) rn_project(m, t, o.logits, "logits");
    if (rn_get(m->c, "out.seq")) rn_project(m, t, o.logits, "seq");
    if (rn_get(m->c, "out.weak")) rn_project(m, t, o.weak, "weak");
}

void rn_case_heads(struct rn_case *c) {
    struct es_net_config n;
    struct rn_model m;
    struct run r = {.x = rn_input(c, "x", 0, r.shape), .clip = rn_get(c, "out.weak") != NULL};
    if (!r.x) {
        rn_skip(c, "no dataset in.x");
        return;
    }
    if (!rn_head_config(c, &n) || !rn_model_new(c, &m, &n, rn_is(c, "mode", "train"))) return;
    rn_model_run(&m, forward, &r);
    rn_put_model(&m);
    rn_put_f32(c, "gradin/x", es_tape_input_grad(m.t, r.in), r.in->n);
    rn_model_free(&m);
}

/* (1-lambda) BCE(logits, labels) + lambda BCE(logits, pseudo), as the trainer builds it. */
struct loss {
    float *x, *y[2];
    int64_t shape[4];
    double lambda, out[3];
    struct es_tensor *in;
};

static void loss_forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    struct loss *l = ctx;
    (void)m;
    l->in = es_tape_input(t, "logits", 3, l->shape, l->x, true);
    l->out[2] = 0;
    for (int k = 0; k < 2; k++) {
        struct es_loss_rows plain = {0, l->shape[0], 1, (double)l->in->n, NULL}, part = plain;
        part.scale = k ? l->lambda : 1 - l->lambda;
        struct es_tensor *value = es_op_bce_logits(t, l->in, l->y[k], &plain);
        struct es_tensor *loss = es_op_bce_logits(t, l->in, l->y[k], &part);
        es_tape_add_loss(t, loss);
        if (es_tape_dry(t)) continue;
        l->out[k] = (double)value->data[0];
        l->out[2] += (double)loss->data[0];
    }
}

void rn_case_as_strong_loss(struct rn_case *c) {
    struct rn_model m = {.c = c, .record = true};
    int64_t same[4];
    struct loss l = {.x = rn_input(c, "logits", 0, l.shape), .lambda = rn_num(c, "lambda", 0)};
    l.y[0] = rn_input(c, "labels", 0, same);
    l.y[1] = rn_input(c, "pseudo", 0, same);
    if (!l.x || !l.y[0] || !l.y[1]) {
        rn_skip(c, "an input of the case is not there");
        return;
    }
    ES_ASSERT(es_params_new(&m.p, NULL) == 0 && es_params_layout(m.p, NULL) == 0);
    m.grads = es_alloc(16, sizeof *m.grads, NULL);
    rn_model_run(&m, loss_forward, &l);
    rn_put(c, "out/supervised_distill_total", l.out, 3);
    rn_put_f32(c, "gradin/logits", es_tape_input_grad(m.t, l.in), l.in->n);
    rn_model_free(&m);
}
