#include "model.h"

#include "earshot/ops.h"

/* ---- configurations */
bool rn_transformer_config(struct rn_case *c, struct es_transformer_config *t) {
    const char *arch = rn_get(c, "t.arch");
    int a = es_arch_from_name(arch ? arch : "");
    if (a < 0) {
        rn_skip(c, "the program has no transformer %s", arch ? arch : "(no key t.arch)");
        return false;
    }
    es_transformer_config_default(t, (enum es_arch)a);
    t->dim = rn_int(c, "t.embed_dim", t->dim);
    t->depth = rn_int(c, "t.depth", t->depth);
    t->heads = rn_int(c, "t.heads", t->heads);
    t->mlp = rn_int(c, "t.mlp_hidden", t->mlp);
    t->n_mels = rn_int(c, "t.mel_bins", t->n_mels);
    t->ln_eps = rn_num(c, "t.layer_norm_eps", t->ln_eps);
    t->beats.patch_embed = rn_int(c, "t.patch_embed_dim", t->beats.patch_embed);
    t->beats.conv_taps = rn_int(c, "t.conv_pos", t->beats.conv_taps);
    t->beats.conv_groups = rn_int(c, "t.conv_pos_groups", t->beats.conv_groups);
    t->beats.buckets = rn_int(c, "t.num_buckets", t->beats.buckets);
    t->beats.max_distance = rn_int(c, "t.max_distance", t->beats.max_distance);
    t->beats.grad_decay = rn_num(c, "t.gradient_decay", t->beats.grad_decay);
    int table = rn_int(c, "t.pos_embed_length", 0); /* one position for 4 frames */
    if (table > 0) t->n_mel_frames = 4 * table + (t->n_mel_frames & 1);
    return true;
}

/* "avg:2x2,2x2,1x2" (time x mel) -> per layer. */
static bool pooling(struct rn_case *c, struct es_net_config *n) {
    const char *v = rn_get(c, "sed.pooling");
    char item[32];
    if (!v || strncmp(v, "avg:", 4) != 0) return false;
    for (int i = 0; i < n->n_cnn; i++) {
        if (!rn_item(v + 4, i, item, sizeof item)) return false;
        char *x;
        n->pool_time[i] = (int)strtol(item, &x, 10);
        n->pool_freq[i] = (int)strtol(x + (*x == 'x'), NULL, 10);
    }
    return true;
}

static bool only(struct rn_case *c, const char *key, const char *value) {
    const char *v = rn_get(c, key);
    if (!v || strcmp(v, value) == 0) return true;
    rn_skip(c, "the program has %s = %s only, not %s", key, value, v);
    return false;
}

bool rn_sed_config(struct rn_case *c, struct es_net_config *n) {
    double filter[ES_MAX_CNN];
    es_net_config_default(n);
    if (!only(c, "sed.n_in_channel", "1") || !only(c, "sed.kernel", "3x3") || !only(c, "sed.stride", "1x1") ||
        !only(c, "sed.padding", "1x1") || !only(c, "sed.pooling_axes", "time x mel") ||
        !only(c, "sed.attention", "1") || !only(c, "sed.attention_softmax_axis", "class") ||
        !only(c, "sed.attention_clamp", "1e-7,1"))
        return false;
    if (rn_num(c, "sed.wrapper_attention_head", 0) != 0) {
        rn_skip(c, "the network inside the CRNN has no wrapper with an attention head");
        return false;
    }
    n->alone = rn_num(c, "sed.use_embeddings", 1) == 0;
    n->mask_fill = rn_num(c, "sed.attention_mask_fill", n->mask_fill);
    n->n_cnn = rn_list(c, "sed.nb_filters", filter, ES_MAX_CNN);
    for (int i = 0; i < n->n_cnn; i++) n->filters[i] = (int)filter[i];
    if (!pooling(c, n)) {
        rn_skip(c, "the program has average pooling of a size a layer only");
        return false;
    }
    n->glu = rn_is(c, "sed.activation", "glu");
    n->n_classes = rn_int(c, "sed.nclass", n->n_classes);
    n->rnn_cells = rn_int(c, "sed.n_RNN_cell", n->rnn_cells);
    n->rnn_layers = rn_int(c, "sed.n_layers_RNN", n->rnn_layers);
    n->dropout = rn_num(c, "sed.dropout", 0);
    n->bn_eps = rn_num(c, "sed.bn_eps", n->bn_eps);
    n->crnn_mels = rn_int(c, "sed.mel_bins", n->crnn_mels);
    n->n_frames = rn_int(c, "sed.out_frames", n->n_frames);
    n->wrapper = rn_num(c, "sed.no_wrapper", 0) == 0;
    n->wrapper_frames = rn_int(c, "sed.wrapper_seq_len", n->wrapper_frames);
    n->audioset_classes = rn_int(c, "sed.audioset_classes", n->audioset_classes);
    n->embed_pool = rn_is(c, "sed.embed_pool", "aap")               ? ES_POOL_AAP
                    : rn_is(c, "sed.interpolation_mode", "nearest") ? ES_POOL_NEAREST
                                                                    : ES_POOL_NEAREST_EXACT;
    if (rn_get(c, "t.arch")) return rn_transformer_config(c, &n->transformer);
    if (n->alone) return true;
    es_transformer_config_default(&n->transformer, ES_ARCH_ATST); /* stays unused */
    n->transformer.dim = rn_int(c, "sed.embedding_size", n->transformer.dim);
    n->transformer.depth = n->transformer.heads = 1;
    n->transformer.mlp = 8;
    return true;
}

bool rn_head_config(struct rn_case *c, struct es_net_config *n) {
    static const struct {
        const char *kind, *type;
        enum es_head head;
    } heads[] = {{"audioset_wrapper", NULL, ES_HEAD_AUDIOSET},
                 {"task4rnn_wrapper", NULL, ES_HEAD_TASK4RNN},
                 {"predictions_wrapper", "linear", ES_HEAD_LINEAR},
                 {"predictions_wrapper", "attention", ES_HEAD_ATTENTION},
                 {"predictions_wrapper", "none", ES_HEAD_NONE}};
    static const struct {
        const char *name;
        enum es_seq_model seq;
    } models[] = {{"-", ES_SEQ_NONE},
                  {"none", ES_SEQ_NONE},
                  {"BGRU", ES_SEQ_GRU},
                  {"BiGRU", ES_SEQ_GRU},
                  {"BiLSTM", ES_SEQ_LSTM}};
    const char *seq = rn_get(c, "seq_model");
    size_t h = 0, m = 0;
    es_net_config_default(n);
    n->pretrain = n->alone = true;
    if (!seq) seq = rn_get(c, "rnn");
    if (rn_is(c, "kind", "bigru")) { /* a head around it */
        n->pretrain_head = ES_HEAD_TASK4RNN;
        n->wrapper = false;
        n->pretrain_seq = ES_SEQ_GRU;
        n->transformer.dim = rn_int(c, "n_in", 0);
        n->pretrain_rnn_cells = rn_int(c, "n_hidden", 0);
        n->pretrain_rnn_layers = rn_int(c, "n_layers", 1);
        n->pretrain_classes = n->pretrain_weak_classes = 1;
        return true;
    }
    if (!seq) seq = "-";
    while (h < 5 &&
           !(rn_is(c, "kind", heads[h].kind) && (!heads[h].type || rn_is(c, "head_type", heads[h].type))))
        h++;
    while (m < 5 && strcmp(models[m].name, seq) != 0) m++;
    if (h == 5 || m == 5) {
        rn_skip(c, "the program has no such head or sequence model");
        return false;
    }
    n->pretrain_head = heads[h].head;
    n->pretrain_seq = models[m].seq;
    n->transformer.dim = rn_int(c, "embed_dim", 0);
    n->audioset_classes = rn_int(c, "audioset_classes", n->audioset_classes);
    n->pretrain_frames = rn_int(c, "seq_len", n->pretrain_frames);
    n->pretrain_rnn_cells = rn_int(c, "rnn_dim", n->pretrain_rnn_cells);
    n->pretrain_rnn_layers = rn_int(c, "rnn_layers", n->pretrain_rnn_layers);
    n->pretrain_classes = rn_int(c, "n_classes_strong", rn_int(c, "n_classes", n->audioset_classes));
    bool weak = rn_get(c, "out.weak") || n->pretrain_head == ES_HEAD_AUDIOSET;
    n->pretrain_weak_classes = weak ? rn_int(c, "n_classes_weak", n->pretrain_classes) : 0;
    return true;
}

/* ---- parameters */
struct es_gen_param *rn_param_list(struct rn_case *c, const char *tsv, int *n, uint64_t *seed) {
    char path[1200];
    struct es_gen_param *list = NULL;
    snprintf(path, sizeof path, "%s/%s", c->run->dir, tsv ? tsv : "(no key params)");
    *n = es_gen_read(path, &list, seed);
    if (*n < 0) rn_skip(c, "%s cannot be read", path);
    return *n < 0 ? NULL : list;
}

static int agreeing(const struct es_gen_param *e, uint64_t seed, double offset, double scale) {
    const uint64_t h = es_gen_hash(e->name);
    int n = 0;
    for (int k = 0; k < 8; k++) {
        double got = (double)(float)(offset + scale * es_gen_u(h, seed, k * (e->n - 1) / 7));
        n += fabs(got - (double)e->value[k]) <= 1e-7 * fabs(got);
    }
    return n;
}

void rn_entry_rule(const struct es_gen_param *e, uint64_t seed, double *offset, double *scale) {
    double o, s;
    *offset = e->offset;
    *scale = e->scale;
    if (!es_gen_rule(e->name, e->ndim, e->shape, &o, &s)) return;
    if (agreeing(e, seed, o, s) > agreeing(e, seed, e->offset, e->scale)) {
        *offset = o;
        *scale = s;
    }
}

/* Lists are shared by the two gates of the CNN: where one has cg, the other has glu. */
int rn_find_param(struct es_params *p, const struct rn_names *names, const char *name) {
    static const char *const gate[2] = {"cnn.cnn.cg", "cnn.cnn.glu"};
    char full[300];
    const size_t strip = strlen(names->golden);
    if (strncmp(name, names->golden, strip) != 0) return -1;
    name += strip;
    snprintf(full, sizeof full, "%s%s", names->own, name);
    int i = es_params_find(p, full);
    for (int g = 0; g < 2 && i < 0; g++) {
        const size_t n = strlen(gate[g]);
        if (strncmp(name, gate[g], n) != 0) continue;
        snprintf(full, sizeof full, "%s%s%s", names->own, gate[1 - g], name + n);
        i = es_params_find(p, full);
    }
    return i;
}

bool rn_golden_name(const struct rn_names *names, const struct es_param *e, char *name, size_t size) {
    const size_t own = strlen(names->own);
    snprintf(name, size, "%s%s", names->golden, strncmp(e->name, names->own, own) == 0 ? e->name + own : "");
    return strncmp(e->name, names->own, own) == 0;
}

bool rn_find_names(struct es_params *p, const struct es_gen_param *list, int n, struct rn_names *names) {
    /* the first name without 0, 1, .. of its leading parts, at the end of any entry */
    for (const char *rest = n > 0 ? list[0].name : NULL; rest;
         rest = strchr(rest, '.') ? strchr(rest, '.') + 1 : NULL)
        for (int i = 0; i < es_params_count(p); i++) {
            const char *name = es_params_at(p, i)->name;
            int k = 0;
            if (!es_gen_ends(name, rest)) continue;
            snprintf(names->golden, sizeof names->golden, "%.*s", (int)(rest - list[0].name), list[0].name);
            snprintf(names->own, sizeof names->own, "%.*s", (int)(strlen(name) - strlen(rest)), name);
            while (k < n && rn_find_param(p, names, list[k].name) >= 0) k++;
            if (k == n) return true;
        }
    return false;
}

bool rn_fill(struct rn_case *c, struct es_params *p, const char *tsv, uint64_t seed,
             const struct rn_names *names) {
    int n;
    uint64_t own;
    bool ok = true;
    struct es_gen_param *list = rn_param_list(c, tsv, &n, &own);
    for (int k = 0; list && k < n && ok; k++) {
        double offset, scale;
        int i = rn_find_param(p, names, list[k].name);
        const struct es_param *e = i < 0 ? NULL : es_params_at(p, i);
        ok = e && e->n == list[k].n;
        if (!ok) {
            rn_skip(c, "parameter %s of %s is not in the network, or of another size", list[k].name, tsv);
        } else if (strcmp(list[k].kind, "counter") != 0) {
            rn_entry_rule(&list[k], own, &offset, &scale);
            char name[300];
            rn_golden_name(names, e, name, sizeof name);
            es_gen_fill(name, seed ? seed : own, offset, scale, e->n, es_params_data(p, i));
        }
    }
    ok = ok && list;
    es_free(&list);
    return ok;
}

static uint64_t case_seed(const struct rn_case *c) {
    const char *v = rn_get(c, "seed");
    return v ? strtoull(v, NULL, 10) : 0;
}

static bool set_up(struct rn_model *m, const char *tsv) {
    struct es_err err = {0};
    if (es_params_layout(m->p, &err) < 0) {
        rn_skip(m->c, "%s", err.msg);
        return false;
    }
    if (tsv && strcmp(tsv, "-") != 0 && !rn_fill(m->c, m->p, tsv, case_seed(m->c), &m->names)) return false;
    if (m->c->run->bf16) {
        ES_ASSERT(es_params_packed_new(m->p, m->c->run->bf16, NULL) == 0);
    }
    m->grads = es_alloc((size_t)es_params_n_trainable(m->p) + 1, sizeof(float), NULL);
    ES_ASSERT(m->grads);
    return true;
}

bool rn_model_new(struct rn_case *c, struct rn_model *m, const struct es_net_config *n, bool train) {
    struct es_err err = {0};
    const char *tsv = rn_get(c, "params");
    int n_list = 0;
    uint64_t own;
    *m = (struct rn_model){.c = c, .train = train, .record = true};
    ES_ASSERT(es_params_new(&m->p, NULL) == 0);
    if (es_net_new(&m->net, n, m->p, &err) < 0) {
        rn_skip(c, "%s", err.msg);
        rn_model_free(m);
        return false;
    }
    const bool none = !tsv || strcmp(tsv, "-") == 0; /* a case without parameters */
    struct es_gen_param *list = none ? NULL : rn_param_list(c, tsv, &n_list, &own);
    bool ok = none || (list && rn_find_names(m->p, list, n_list, &m->names));
    if (list && !ok) rn_skip(c, "the network does not have all the parameters of %s", tsv);
    for (int i = 0; ok && i < es_params_count(m->p); i++) { /* what the list does not name is not looked at */
        struct es_param *e = es_params_at(m->p, i);
        bool listed = false;
        for (int k = 0; k < n_list && !listed; k++)
            listed = rn_find_param(m->p, &m->names, list[k].name) == i;
        if (e->kind == ES_PARAM_WEIGHT) e->trainable = listed;
    }
    es_free(&list);
    ok = ok && set_up(m, tsv);
    if (!ok) rn_model_free(m);
    return ok;
}

bool rn_model_table(struct rn_case *c, struct rn_model *m) {
    const char *tsv = rn_get(c, "params");
    int n;
    uint64_t own;
    *m = (struct rn_model){.c = c, .record = true};
    struct es_gen_param *list = rn_param_list(c, tsv, &n, &own);
    ES_ASSERT(es_params_new(&m->p, NULL) == 0);
    for (int k = 0; list && k < n; k++) {
        int i =
            es_params_add(m->p, list[k].name, ES_PARAM_WEIGHT, ES_INIT_ZERO, 0, list[k].ndim, list[k].shape);
        es_params_at(m->p, i)->trainable = true;
    }
    bool ok = list && set_up(m, tsv);
    es_free(&list);
    if (!ok) rn_model_free(m);
    return ok;
}

void rn_model_free(struct rn_model *m) {
    es_free(&m->grads);
    es_tape_free(&m->t);
    es_pool_free(&m->pool);
    es_arena_free(&m->scratch);
    es_arena_free(&m->leaf);
    es_net_free(&m->net);
    es_params_free(&m->p);
}

/* ---- running */
static void pass(struct rn_model *m, const size_t bytes[3], rn_forward_fn forward, void *ctx) {
    ES_ASSERT(es_arena_new(&m->leaf, "leaf", bytes[0], NULL) == 0);
    ES_ASSERT(es_arena_new(&m->scratch, "scratch", bytes[1], NULL) == 0);
    ES_ASSERT(es_pool_new(&m->pool, "pool", bytes[2], NULL) == 0);
    struct es_tape_params tp = {
        m->p, m->leaf, m->scratch, m->pool, m->record, m->train, 1, ES_RNG_STUDENT_DROPOUT, m->c->run->bf16};
    ES_ASSERT(es_tape_new(&m->t, &tp, NULL) == 0);
    es_tape_reset(m->t, 0, 0);
    m->loss = 0;
    forward(m, m->t, ctx);
    if (m->record) es_tape_backward(m->t, m->grads, NULL);
}

void rn_model_run(struct rn_model *m, rn_forward_fn forward, void *ctx) {
    size_t bytes[3] = {0};
    pass(m, bytes, forward, ctx);
    bytes[0] = es_arena_peak(m->leaf) + 64; /* never 0: that would be dry again */
    bytes[1] = es_arena_peak(m->scratch) + 64;
    bytes[2] = es_pool_peak(m->pool) + 4096;
    es_tape_free(&m->t);
    es_pool_free(&m->pool);
    es_arena_free(&m->scratch);
    es_arena_free(&m->leaf);
    pass(m, bytes, forward, ctx);
}

struct projection {
    struct es_tensor *x, *y;
    const float *r;
};

static void projection_backward(struct es_tape *t, void *saved) {
    struct projection *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    if (!dx || es_tape_dry(t)) return;
    float g = es_tape_grad_out(t, s->y)[0];
    for (int64_t i = 0; i < s->x->n; i++) dx[i] = (beta == 0 ? 0 : dx[i]) + g * s->r[i];
}

void rn_project(struct rn_model *m, struct es_tape *t, struct es_tensor *x, const char *name) {
    char full[300];
    const char *prefix = rn_get(m->c, "r_prefix");
    const bool dry = es_tape_dry(t);
    float *r = NULL;
    if (!dry) {
        snprintf(full, sizeof full, "out/%s", name);
        rn_put_f32(m->c, full, x->data, x->n);
        r = rn_hold(m->c, (size_t)x->n, sizeof *r);
        snprintf(full, sizeof full, "%s/%s", prefix ? prefix : "R", name);
        es_gen_fill(full, case_seed(m->c), 0, 1, x->n, r);
        snprintf(full, sizeof full, "R8/%s", name);
        if (x->n >= 8) rn_put_f32(m->c, full, r, 8);
        for (int64_t i = 0; i < x->n; i++) m->loss += (double)x->data[i] * (double)r[i];
    }
    if (!es_tape_record(t)) return;
    struct projection *s = es_tape_node(t, sizeof *s);
    *s = (struct projection){x, es_tape_output(t, "projection", 1, (int64_t[]){1}), r};
    if (!dry) s->y->data[0] = (float)m->loss;
    es_tape_push(t, projection_backward, s, s->y, NULL, 1, &x);
    es_tape_add_loss(t, s->y);
}

void rn_put_model(struct rn_model *m) {
    rn_put(m->c, "loss", &m->loss, 1);
    for (int i = 0; i < es_params_count(m->p); i++) {
        const struct es_param *e = es_params_at(m->p, i);
        char name[300];
        if (e->trainable && rn_golden_name(&m->names, e, name, sizeof name))
            rn_put_grad(m->c, name, m->grads + e->offset, e->n);
    }
}
