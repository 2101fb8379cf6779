/* Bidirectional GRUs. */
#include "model.h"

#include "earshot/ops.h"

struct run {
    float *x;
    int64_t shape[4];
    int layers;
    struct es_tensor *in;
};

static void forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    static const char *const part[4] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    struct run *r = ctx;
    struct es_tensor *y = r->in = es_tape_input(t, "x", 3, r->shape, r->x, true);
    for (int l = 0; l < r->layers; l++) {
        struct es_tensor *w[8];
        for (int i = 0; i < 8; i++) {
            char end[64];
            snprintf(end, sizeof end, "%s_l%d%s", part[i % 4], l, i < 4 ? "" : "_reverse");
            w[i] = NULL;
            for (int k = 0; k < es_params_count(m->p) && !w[i]; k++)
                if (es_gen_ends(es_params_at(m->p, k)->name, end)) w[i] = es_tape_param(t, k);
            ES_ASSERT(w[i]);
        }
        y = es_op_bigru(t, y, w);
    }
    rn_project(m, t, y, "y");
}

void rn_case_bigru(struct rn_case *c) {
    struct rn_model m;
    struct run r = {.x = rn_input(c, "x", 0, r.shape), .layers = rn_int(c, "n_layers", 1)};
    if (!r.x) {
        rn_skip(c, "no dataset in.x");
        return;
    }
    if (!rn_model_table(c, &m)) return;
    rn_model_run(&m, forward, &r);
    rn_put_model(&m);
    rn_put_f32(c, "gradin/x", es_tape_input_grad(m.t, r.in), r.in->n);
    rn_model_free(&m);
}
