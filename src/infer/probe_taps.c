/* Layers of networks as features on the label grid. */
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "probe_impl.h"

enum { MAX_TAPS = 512 };

static const struct { /* points of the forward code (tape.h) that are layers */
    const char *point, *layer;
} layers[] = {{"tokens_in", "tokens"}, {"encoder_layer_norm", "tokens"},
              {"block", "block"},      {"norm_frame", "norm"},
              {"norm", "norm"},        {"head_in", "head"}};

struct tap {
    int model, set;
    char name[32];
    int64_t d, column; /* first column in the set */
};

struct probe_taps {
    const struct es_probe_params *p;
    struct es_forward **forward; /* [models] */
    int frames;
    struct tap tap[MAX_TAPS];
    int n_taps, n_sets;
    struct probe_set *set;
    float *logits;
    /* while a model runs */
    int model, n_clips;
    bool looking; /* for the layers there are */
};

static bool layer_name(const char *point, int index, char name[32]) {
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        if (strcmp(layers[i].point, point) != 0) continue;
        if (index >= 0)
            snprintf(name, 32, "%s.%d", layers[i].layer, index);
        else
            snprintf(name, 32, "%s", layers[i].layer);
        return true;
    }
    return false;
}

/* name stands in the list a,b,c. */
static bool listed(const char *list, const char *name) {
    const size_t n = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, name, n) == 0 && (at[n] == ',' || at[n] == 0)) return true;
    return false;
}

/* Frames i of n_out: mean of tokens floor(i n_in / n_out) .. ceil((i+1) n_in / n_out) - 1, as PyTorch's adaptive pooling. */
static void pool(const float *in, int64_t n_in, int64_t d, float *out, int64_t n_out, int64_t stride) {
    for (int64_t i = 0; i < n_out; i++) {
        const int64_t first = i * n_in / n_out, end = ((i + 1) * n_in + n_out - 1) / n_out;
        const double scale = 1.0 / (double)(end - first);
        for (int64_t k = 0; k < d; k++) {
            double sum = 0;
            for (int64_t t = first; t < end; t++) sum += (double)in[t * d + k];
            out[i * stride + k] = (float)(sum * scale);
        }
    }
}

static void take(struct probe_taps *t, const struct tap *tap, const struct es_tensor *x) {
    const struct probe_set *s = &t->set[tap->set];
    const int64_t d = x->shape[2], T = x->shape[1];
    /* fPaSST's first rows are class tokens */
    const int64_t tokens = es_forward_tokens(t->forward[tap->model]), skip = T == tokens + 2 ? 2 : 0;
    for (int c = 0; c < t->n_clips; c++)
        pool(x->data + (c * T + skip) * d, T - skip, d, s->x + (int64_t)c * t->frames * s->d + tap->column,
             t->frames, s->d);
}

static void watch(void *ctx, const char *point, int index, const struct es_tensor *x) {
    struct probe_taps *t = ctx;
    char name[32];
    if (!layer_name(point, index, name) || x->ndim != 3) return;
    if (t->looking) {
        if ((t->p->layers && !listed(t->p->layers, name)) || t->n_taps == MAX_TAPS) return;
        struct tap *tap = &t->tap[t->n_taps++];
        *tap = (struct tap){.model = t->model, .d = x->shape[2]};
        snprintf(tap->name, sizeof tap->name, "%s", name);
        return;
    }
    for (int i = 0; i < t->n_taps; i++)
        if (t->tap[i].model == t->model && strcmp(t->tap[i].name, name) == 0) take(t, &t->tap[i], x);
}

static int run_models(struct probe_taps *t, int n, struct es_err *err) {
    t->n_clips = n;
    for (t->model = 0; t->model < t->p->n_models; t->model++) {
        float *waves = es_forward_waves(t->forward[t->model]), *first = es_forward_waves(t->forward[0]);
        if (waves != first) memcpy(waves, first, (size_t)n * ES_CLIP_SAMPLES * sizeof *waves);
        ES_TRY(es_forward_run(t->forward[t->model], n, t->logits, NULL, err));
    }
    return 0;
}

static int open_models(struct probe_taps *t, struct es_err *err) {
    const struct es_probe_params *p = t->p;
    int classes = 0;
    t->forward = es_alloc((size_t)p->n_models, sizeof *t->forward, err);
    if (!t->forward) return -ES_EIO;
    for (int i = 0; i < p->n_models; i++) {
        const struct es_model *m = p->model[i];
        struct es_frontend_params mel = es_model_frontend(m->config);
        ES_TRY(es_forward_new(&t->forward[i], m->net, m->params, p->block, &mel, err));
        if (i == 0) t->frames = es_forward_frames(t->forward[0]);
        if (es_forward_frames(t->forward[i]) != t->frames)
            return es_err_set(err, ES_EDATA, "%s: %d frames, %s has %d; want models of one phase", m->path,
                              es_forward_frames(t->forward[i]), p->model[0]->path, t->frames);
        if (es_forward_classes(t->forward[i]) > classes) classes = es_forward_classes(t->forward[i]);
        es_forward_watch(t->forward[i], watch, t);
    }
    t->logits = es_alloc((size_t)p->block * (size_t)t->frames * (size_t)classes, sizeof *t->logits, err);
    return t->logits ? 0 : -ES_EIO;
}

static int new_sets(struct probe_taps *t, struct es_err *err) {
    t->n_sets = t->p->joint ? 1 : t->n_taps;
    t->set = es_alloc((size_t)t->n_sets, sizeof *t->set, err);
    if (!t->set) return -ES_EIO;
    for (int i = 0; i < t->n_taps; i++) {
        t->tap[i].set = t->p->joint ? 0 : i;
        struct probe_set *s = &t->set[t->tap[i].set];
        t->tap[i].column = s->d;
        s->d += t->tap[i].d;
        s->model = t->tap[i].model;
        snprintf(s->name, sizeof s->name, "%s", t->p->joint ? "joint" : t->tap[i].name);
    }
    const int64_t rows = (int64_t)t->p->block * t->frames;
    for (int i = 0; i < t->n_sets; i++) {
        struct probe_set *s = &t->set[i];
        s->d++;
        s->x = es_alloc((size_t)(rows * s->d), sizeof *s->x, err);
        if (!s->x) return -ES_EIO;
        for (int64_t r = 0; r < rows; r++) s->x[(r + 1) * s->d - 1] = 1;
    }
    return 0;
}

int probe_taps_new(struct probe_taps **out, const struct es_probe_params *p, struct es_err *err) {
    struct probe_taps *t = *out = es_alloc(1, sizeof *t, err);
    if (!t) return -ES_EIO;
    t->p = p;
    ES_TRY(open_models(t, err));
    t->looking = true;
    ES_TRY(run_models(t, p->block, err));
    t->looking = false;
    if (t->n_taps == 0)
        return es_err_set(err, ES_EUSAGE,
                          "--layers: got %s, want some of tokens, block.N, norm, head that %s has",
                          p->layers ? p->layers : "all", p->model[0]->path);
    return new_sets(t, err);
}

void probe_taps_free(struct probe_taps **t) {
    if (!*t) return;
    for (int i = 0; (*t)->set && i < (*t)->n_sets; i++) es_free(&(*t)->set[i].x);
    for (int i = 0; (*t)->forward && i < (*t)->p->n_models; i++) es_forward_free(&(*t)->forward[i]);
    es_free(&(*t)->logits);
    es_free(&(*t)->set);
    es_free(&(*t)->forward);
    es_free(t);
}

int probe_taps_frames(const struct probe_taps *t) {
    return t->frames;
}
int probe_taps_count(const struct probe_taps *t) {
    return t->n_sets;
}
struct probe_set *probe_taps_set(const struct probe_taps *t, int i) {
    return &t->set[i];
}
float *probe_taps_waves(const struct probe_taps *t) {
    return es_forward_waves(t->forward[0]);
}
int probe_taps_run(struct probe_taps *t, int n, struct es_err *err) {
    return run_models(t, n, err);
}
