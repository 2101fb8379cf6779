/* Transformers alone: small ones with gradients, full-size ones with statistics at points inside. */
#include "model.h"

#include "earshot/kernels_beats.h"
#include "earshot/ops.h"

struct run {
    float *features;
    int64_t shape[4];
    struct es_tensor *in, *y;
};

/* bias [H, 2T-1] by key - query: corners position_bias_q<from>_<to>_k<from>_<to>, [head, query, key]. */
static void put_bias(struct rn_case *c, const struct es_tensor *bias) {
    const int64_t H = bias->shape[0], span = bias->shape[1];
    for (int i = 0; i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        int q[2], k[2];
        if (d->c != c || sscanf(d->rel, "position_bias_q%d_%d_k%d_%d", &q[0], &q[1], &k[0], &k[1]) != 4)
            continue;
        double *x = rn_hold(c, (size_t)(H * (q[1] - q[0] + 1) * (k[1] - k[0] + 1)), sizeof *x);
        int64_t n = 0;
        for (int64_t h = 0; h < H; h++)
            for (int a = q[0]; a <= q[1]; a++)
                for (int b = k[0]; b <= k[1]; b++) x[n++] = (double)bias->data[h * span + span / 2 + b - a];
        rn_put(c, d->rel, x, n);
    }
}

/* Key point.<name> = "...; shape 512x62x8": how the point's tensor lies there. False: as it lies here. Ours is [B, tokens, D]
 * where theirs is [D, ...]. */
static bool channels_first(struct rn_case *c, const char *name, const struct es_tensor *x, double shape[4],
                           int *ndim) {
    char key[120];
    snprintf(key, sizeof key, "point.%s", name);
    const char *v = rn_get(c, key), *at = v ? strstr(v, "shape ") : NULL;
    if (!at || x->ndim != 3) return false;
    char *end;
    int64_t first = strtoll(at + 6, &end, 10), rest = 1;
    shape[0] = (double)first;
    *ndim = 1;
    while (*end == 'x' && *ndim < 4) {
        const int64_t n = strtoll(end + 1, &end, 10);
        shape[(*ndim)++] = (double)n;
        rest *= n;
    }
    return first == x->shape[2] && rest == x->shape[1] &&
           (first != x->shape[1] || *ndim > 2 || strstr(v, "[dim"));
}

/* Points inside: shape/<point> of a clip's tensor; stats/<point> per clip mean, population standard deviation, 8 values at
 * floor(k*(n-1)/7). */
static void watch(void *ctx, const char *point, int index, const struct es_tensor *x) {
    struct rn_case *c = ctx;
    char name[100], rel[120];
    double shape[4], *v = rn_hold(c, 10 * (size_t)x->shape[0], sizeof *v);
    if (strcmp(point, "position_bias") == 0) {
        put_bias(c, x);
        return;
    }
    if (index < 0)
        snprintf(name, sizeof name, "%s", point);
    else
        snprintf(name, sizeof name, "%s_%02d", point, index);
    const int64_t B = x->shape[0], n = x->n / B;
    int ndim = x->ndim - 1;
    const bool turned = channels_first(c, name, x, shape, &ndim);
    if (!turned) ndim = x->ndim - 1;
    for (int d = 1; d < x->ndim && !turned; d++) shape[d - 1] = (double)x->shape[d];
    for (int64_t b = 0; b < B; b++) {
        const float *y = x->data + b * n;
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n; i++) mean += (double)y[i] / (double)n;
        for (int64_t i = 0; i < n; i++) var += ((double)y[i] - mean) * ((double)y[i] - mean) / (double)n;
        v[10 * b] = mean;
        v[10 * b + 1] = sqrt(var);
        for (int64_t k = 0; k < 8; k++) {
            const int64_t i = k * (n - 1) / 7, T = turned ? x->shape[1] : 1, D = turned ? x->shape[2] : 1;
            v[10 * b + 2 + k] = (double)y[turned ? i % T * D + i / T : i];
        }
    }
    snprintf(rel, sizeof rel, "shape/%s", name);
    rn_put(c, rel, shape, ndim);
    snprintf(rel, sizeof rel, "stats/%s", name);
    rn_put(c, rel, v, 10 * B);
}

/* Buckets of relative positions -(n/2)..n/2. */
static void put_buckets(struct rn_case *c, const struct es_beats_config *b) {
    for (int i = 0; i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        int64_t shape[4];
        if (d->c != c || !rn_glob("rel_bucket*", d->rel) || !rn_read(c, d->path, shape)) continue;
        double *x = rn_hold(c, (size_t)shape[0], sizeof *x);
        for (int64_t k = 0; k < shape[0]; k++)
            x[k] = es_k_rel_bucket(k - shape[0] / 2, b->buckets, b->max_distance);
        rn_put(c, d->rel, x, shape[0]);
    }
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
        for (int64_t k = 0; k < rows; k++)
            memcpy(x + k * D, y->data + (clip * T + k * every) * D, (size_t)D * sizeof *x);
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
    if (!rn_transformer_config(c, &n.transformer) || !rn_model_new(c, &m, &n, rn_is(c, "mode", "train")))
        return;
    m.record = rn_has(c, "loss");
    if (n.transformer.arch == ES_ARCH_BEATS) put_buckets(c, &n.transformer.beats);
    rn_model_run(&m, forward, &r);
    if (m.record) {
        rn_put_model(&m);
        rn_put_f32(c, "gradin/features", es_tape_input_grad(m.t, r.in), r.in->n);
    } else {
        put_embeddings(c, r.y);
    }
    rn_model_free(&m);
}
