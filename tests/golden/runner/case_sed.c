/* The CRNN with a transformer's embeddings, given or its own: outputs, running statistics, gradients of everything. */
#include "model.h"

#include "earshot/kernels_crnn.h"
#include "earshot/ops.h"

struct run {
    float *x, *given, *mel; /* x turned to [B,1,T,F] */
    uint8_t *mask;
    int64_t shape_x[4], shape_given[4];
    bool own;   /* the transformer takes part, given are its features */
    bool alone; /* no embeddings at all */
    struct es_tensor *in, *emb, *logits;
};

static void forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    static const char *const names[4] = {"strong", "weak", "strong_all", "weak_all"};
    struct run *r = ctx;
    const int64_t *s = r->shape_x;
    const double fill = es_net_config(m->net)->mask_fill;
    r->in = es_tape_input(t, "crnn", 4, (int64_t[]){s[0], 1, s[3], s[2]}, r->mel, true);
    struct es_tensor *z = NULL, *att, *o[4];
    if (!r->alone) {
        r->emb = es_tape_input(t, "embeddings", r->own ? 4 : 3, r->shape_given, r->given, true);
        z = r->own ? es_net_embed(m->net, t, r->emb) : es_net_resample(m->net, t, r->emb);
    }
    es_net_sed(m->net, t, r->in, z, &r->logits, &att);
    for (int masked = 1; masked >= 0; masked--) {
        const int k = masked ? 0 : 2;
        es_op_class_pool(t, r->logits, att, masked ? r->mask : NULL, fill, &o[k], &o[k + 1]);
    }
    for (int k = 0; k < 4; k++) {
        char key[40];
        snprintf(key, sizeof key, "out.%s", names[k]);
        if (rn_get(m->c, key)) rn_project(m, t, o[k], names[k]);
    }
}

/* running <- (1 - momentum) running + momentum batch: from the generated start. */
static void put_statistics(struct rn_model *m) {
    const double momentum = rn_num(m->c, "sed.bn_momentum", 0.99);
    for (int i = 0; i < es_tape_n_stats(m->t); i++) {
        struct es_tape_stats s = es_tape_stats_at(m->t, i);
        for (int v = 0; v < 2; v++) {
            const int param = v ? s.var_param : s.mean_param;
            char rel[200];
            float *b = es_params_data(m->p, param);
            for (int k = 0; k < s.n; k++)
                b[k] = (1.0f - (float)momentum) * b[k] + (float)momentum * (v ? s.var : s.mean)[k];
            snprintf(rel, sizeof rel, "buf/%s", es_params_at(m->p, param)->name);
            rn_put_f32(m->c, rel, b, s.n);
        }
    }
}

/* bn_start: "generated", or the buf/ of another group. */
static bool load_statistics(struct rn_model *m) {
    const char *from = rn_get(m->c, "bn_start");
    if (!from || strcmp(from, "generated") == 0 || strcmp(from, "-") == 0) return true;
    for (int i = 0; i < es_params_count(m->p); i++) {
        const struct es_param *e = es_params_at(m->p, i);
        char path[400];
        int64_t shape[4];
        if (e->kind != ES_PARAM_BUFFER || !strstr(e->name, "running_")) continue;
        snprintf(path, sizeof path, "%s/%s", from, e->name);
        const float *b = rn_read_checked(m->c, path, shape);
        if (!b || rn_size(shape) != e->n) {
            rn_skip(m->c, "no dataset %s of the right size", path);
            return false;
        }
        memcpy(es_params_data(m->p, i), b, (size_t)e->n * sizeof *b);
    }
    return true;
}

static void turn(int64_t B, int64_t rows, int64_t cols, const float *x, float *y) {
    es_k_transpose(B, rows, cols, x, y, false);
}

/* extra_out.strong_logits = "<path> = what it is": logits [B,T,K] before the sigmoid. */
static void put_logits(struct rn_case *c, const struct es_tensor *logits) {
    const char *v = rn_get(c, "extra_out.strong_logits"), *rel = v ? strstr(v, "out/") : NULL;
    char name[200];
    if (!rel) return;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(rel, " "), rel);
    rn_put_f32(c, name, logits->data, logits->n);
}

void rn_case_sed(struct rn_case *c) {
    struct es_net_config n;
    struct rn_model m;
    struct run r = {.own = rn_get(c, "in.pt_feats") != NULL};
    int64_t shape_mask[4];
    const bool train = rn_is(c, "mode", "train");
    r.x = rn_input(c, "x", 0, r.shape_x);
    r.given = rn_input(c, r.own ? "pt_feats" : "embeddings", 0, r.shape_given);
    const float *mask = rn_input(c, "mask", 0, shape_mask);
    if (!rn_sed_config(c, &n)) return;
    r.alone = n.alone;
    if (!r.x || (!r.given && !r.alone) || !mask) {
        rn_skip(c, "an input of the case is not there");
        return;
    }
    if (!rn_model_new(c, &m, &n, train)) return;
    const int64_t *s = r.shape_x;
    r.mel = rn_hold(c, (size_t)rn_size(s), sizeof *r.mel);
    turn(s[0], s[2], s[3], r.x, r.mel);
    r.mask = rn_hold(c, (size_t)rn_size(shape_mask), 1);
    for (int64_t i = 0; i < rn_size(shape_mask); i++) r.mask[i] = mask[i] != 0;
    if (load_statistics(&m)) {
        rn_model_run(&m, forward, &r);
        put_logits(c, r.logits);
        rn_put_model(&m);
        const float *gx = es_tape_input_grad(m.t, r.in);
        if (gx) turn(s[0], s[3], s[2], gx, r.mel);
        if (gx) rn_put_f32(c, "gradin/x", r.mel, r.in->n);
        if (!r.alone)
            rn_put_f32(c, r.own ? "gradin/pt_feats" : "gradin/embeddings", es_tape_input_grad(m.t, r.emb),
                       r.emb->n);
        if (train) put_statistics(&m);
    }
    rn_model_free(&m);
}

/* sed_real.h5 interp_index: which source frame each of the frames takes. */
void rn_case_interp_index(struct rn_case *c) {
    for (int i = 0; i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        char key[200], mode[40];
        int in = 0, out = 0;
        if (d->c != c) continue;
        snprintf(key, sizeof key, "out.%s", d->rel);
        const char *v = rn_get(c, key);
        if (!v || sscanf(v, "mode=%39s in=%d out=%d", mode, &in, &out) != 3) continue;
        bool exact = strcmp(mode, "nearest-exact") == 0;
        struct es_k_time s = {.T = in, .n = out, .mode = exact ? ES_TIME_NEAREST_EXACT : ES_TIME_NEAREST};
        double *index = rn_hold(c, (size_t)out, sizeof *index);
        for (int k = 0; k < out; k++) index[k] = (double)es_k_time_window(&s, k).s0;
        if (exact || strcmp(mode, "nearest") == 0) rn_put(c, d->rel, index, out);
    }
}

void rn_case_generated_input(struct rn_case *c) {
    int64_t shape[4];
    const float *x = rn_input(c, "embeddings", 0, shape);
    double v[8];
    if (!x) return;
    for (int k = 0; k < 8; k++) v[k] = (double)x[k * (rn_size(shape) - 1) / 7];
    rn_put(c, "embeddings_samples", v, 8);
}
