/* Transformers alone: small ones with gradients, full-size ones with statistics at points inside. */
#include "model.h"

#include "earshot/ops.h"

struct run {
    float *features;
    int64_t shape[4];
    struct es_tensor *in, *y;
};

/* Points inside: shape/<point> of a clip's tensor; stats/<point> per clip mean, population standard deviation, 8 values at
 * floor(k*(n-1)/7). */
static void watch(void *ctx, const char *point, int index, const struct es_tensor *x) {
    struct rn_case *c = ctx;
    char name[100], rel[120];
    double shape[4], *v = rn_hold(c, 10 * (size_t)x->shape[0], sizeof *v);
    snprintf(name, sizeof name, index < 0 ? "%s" : "%s_%02d", point, index);
    const int64_t B = x->shape[0], n = x->n / B;
    for (int d = 1; d < x->ndim; d++) shape[d - 1] = (double)x->shape[d];
    for (int64_t b = 0; b < B; b++) {
        const float *y = x->data + b * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) mean += (double)y[i] / (double)n;
        for (int64_t i = 0; i < n; i++) var += ((double)y[i] - mean) * ((double)y[i] - mean) / (double)n;
        v[10 * b] = mean;
        v[10 * b + 1] = sqrt(var);
        for (int64_t k = 0; k < 8; k++) v[10 * b + 2 + k] = (double)y[k * (n - 1) / 7];
    }
    snprintf(rel, sizeof rel, "shape/%s", name);
    rn_put(c, rel, shape, x->ndim - 1);
    snprintf(rel, sizeof rel, "stats/%s", name);
    rn_put(c, rel, v, 10 * B);
}

static void forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    struct run *r = ctx;
    es_tape_watch(t, watch, m->c);
    r->in = es_tape_input(t, "features", 4, r->shape, r->features, m->record);
    r->y = es_net_transformer(m->net, t, r->in);
    if (m->record) rn_project(m, t, r->y, "y");
}

/* Outputs of full-size cases: embeddings_clip<b> and embeddings_clip<b>_every<k>. */
static void put_embeddings(struct rn_case *c, const struct es_tensor *y) {
    const int64_t B = y->shape[0], T = y->shape[1], D = y->shape[2];
    for (int i = 0; i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        int clip = 0, every = 1;
        if (d->c != c || sscanf(d->rel, "embeddings_clip%d_every%d", &clip, &every) < 1) continue;
        if (clip >= B || every < 1) continue;
        const int64_t rows = (T + every - 1) / every;
        float *x = rn_hold(c, (size_t)(rows * D), sizeof *x);
        for (int64_t k = 0; k < rows; k++) memcpy(x + k * D, y->data + (clip * T + k * every) * D, (size_t)D * sizeof *x);
        rn_put_f32(c, d->rel, x, rows * D);
    }
}

void rn_case_transformer(struct rn_case *c) {
    struct es_net_config n;
    struct rn_model m;
    struct run r = {.features = rn_input(c, "features", 0, r.shape)};
    es_net_config_default(&n);
    n.pretrain = true; /* the transformer alone: the head stays unused */
    n.pretrain_classes = 2;
    if (!r.features) {
        rn_skip(c, "no dataset in.features");
        return;
    }
    if (rn_num(c, "t.gradient_decay", 1) != 1) {
        rn_skip(c, "the program has no gradient decay between layers (off in the published model)");
        return;
    }
    if (!rn_transformer_config(c, &n.transformer) || !rn_model_new(c, &m, &n, rn_is(c, "mode", "train"))) return;
    m.record = rn_has(c, "loss");
    rn_model_run(&m, forward, &r);
    if (m.record) {
        rn_put_model(&m);
        rn_put_f32(c, "gradin/features", es_tape_input_grad(m.t, r.in), r.in->n);
    } else {
        put_embeddings(c, r.y);
    }
    rn_model_free(&m);
}
