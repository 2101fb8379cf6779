#include "earshot/tape.h"

#include <string.h>

#include "earshot/kernels_bf16.h"
#include "earshot/timer.h"

#define NODE_BYTES ((size_t)1 << 20)
#define MAX_RECORDS 4096
#define MAX_STATS 64
#define MAX_LOSSES 32
#define MAX_IN 12
#define FEW 16 /* elements: an output that is not worth a place in the pool of a recording tape */

struct record {
    es_backward_fn backward;
    void *saved;
    struct es_tensor *out, *out2;
    int n_params, param[MAX_IN];
    int n_in;
    struct es_tensor *in[MAX_IN];
    bool timed; /* its forward pass was: not a view */
};

struct es_tape {
    struct es_tape_params tp;
    bool dry;
    uint32_t step, leaf, n_dropout;
    struct es_arena *nodes; /* tensors, records' structs: real memory even on a dry tape */
    struct record *record;
    int n_records;
    struct es_tensor **param; /* one tensor per parameter of this leaf, made on first use */
    int *uses;                /* records that will still write this parameter's gradient */
    float *grads;
    struct es_tape_stats stats[MAX_STATS];
    int n_stats;
    struct es_tensor *loss[MAX_LOSSES];
    int n_losses;
    float one;
    struct es_tensor **inputs; /* that need gradients */
    int n_inputs;
    es_watch_fn watch;
    void *watch_ctx;
    void (*on_param)(void *ctx, int param);
    void *on_param_ctx;
    es_profile_fn profile;
    void *profile_ctx;
    double begin_s;            /* of the operation that computes; 0: none */
    struct es_tensor *outputs; /* in the pool, of a recording bf16 tape */
};

int es_tape_new(struct es_tape **t, const struct es_tape_params *tp, struct es_err *err) {
    int n_params = tp->params ? es_params_count(tp->params) : 0;
    *t = es_alloc(1, sizeof **t, err);
    if (!*t) return -ES_EIO;
    (*t)->tp = *tp;
    (*t)->dry = es_arena_is_dry(tp->leaf);
    (*t)->one = 1.0f;
    if (es_arena_new(&(*t)->nodes, "nodes", NODE_BYTES, err) < 0) goto failed;
    (*t)->record = es_alloc(MAX_RECORDS, sizeof *(*t)->record, err);
    (*t)->param = es_alloc((size_t)n_params, sizeof *(*t)->param, err);
    (*t)->uses = es_alloc((size_t)n_params, sizeof *(*t)->uses, err);
    (*t)->inputs = es_alloc(MAX_LOSSES, sizeof *(*t)->inputs, err);
    if (!(*t)->record || !(*t)->param || !(*t)->uses || !(*t)->inputs) goto failed;
    return 0;
failed:
    es_tape_free(t);
    return -ES_EIO;
}

static void release_grad(struct es_tape *t, struct es_tensor *x) {
    if (x && x->grad && x->param < 0 && x->grad != &t->one) es_pool_put(t->tp.pool, x->grad);
    if (x) x->grad = NULL;
}

/* What a recording bf16 tape still has of the pool. */
static void release_outputs(struct es_tape *t) {
    for (struct es_tensor *x = t->outputs; x; x = x->next)
        if (x->owned) es_pool_put(t->tp.pool, x->data);
    t->outputs = NULL;
}

void es_tape_free(struct es_tape **t) {
    if (!*t) return;
    release_outputs(*t);
    for (int i = 0; i < (*t)->n_inputs; i++) release_grad(*t, (*t)->inputs[i]);
    es_free(&(*t)->inputs);
    es_free(&(*t)->uses);
    es_free(&(*t)->param);
    es_free(&(*t)->record);
    es_arena_free(&(*t)->nodes);
    es_free(t);
}

void es_tape_reset(struct es_tape *t, uint32_t step, uint32_t leaf) {
    for (int i = 0; i < t->n_inputs; i++) release_grad(t, t->inputs[i]);
    release_outputs(t);
    t->n_inputs = t->n_records = t->n_stats = t->n_losses = 0;
    t->n_dropout = 0;
    t->begin_s = 0;
    t->step = step;
    t->leaf = leaf;
    es_arena_reset(t->nodes, 0);
    if (t->tp.record) es_arena_reset(t->tp.leaf, 0);
    int n = t->tp.params ? es_params_count(t->tp.params) : 0;
    memset(t->param, 0, (size_t)n * sizeof *t->param);
    memset(t->uses, 0, (size_t)n * sizeof *t->uses);
}

bool es_tape_dry(const struct es_tape *t) {
    return t->dry;
}
bool es_tape_train(const struct es_tape *t) {
    return t->tp.train;
}
bool es_tape_record(const struct es_tape *t) {
    return t->tp.record;
}

struct es_bf16 *es_tape_bf16(const struct es_tape *t, const struct es_tensor *w) {
    return t->tp.bf16 && w->param >= 0 && es_params_at(t->tp.params, w->param)->bf16 ? t->tp.bf16 : NULL;
}

struct es_bf16 *es_tape_engine(const struct es_tape *t) {
    return t->tp.bf16;
}

void *es_tape_half(struct es_tape *t, struct es_tensor *x) {
    if (x->half) return x->half;
    size_t bytes = (size_t)x->n * es_bf16_size(t->tp.bf16);
    void *half = t->tp.record ? es_tape_keep(t, bytes) : es_tape_scratch(t, bytes);
    if (!t->dry) es_bf16_from(t->tp.bf16, x->n, x->data, half);
    if (t->tp.record) x->half = half;
    return half;
}

const struct es_bf16_weight *es_tape_packed(const struct es_tape *t, const struct es_tensor *w) {
    return es_params_packed(t->tp.params, w->param);
}

void es_tape_on_param(struct es_tape *t, void (*on_param)(void *ctx, int param), void *ctx) {
    t->on_param = on_param;
    t->on_param_ctx = ctx;
}

void es_tape_watch(struct es_tape *t, es_watch_fn watch, void *ctx) {
    t->watch = watch;
    t->watch_ctx = ctx;
}

void es_tape_profile(struct es_tape *t, es_profile_fn profile, void *ctx) {
    t->profile = profile;
    t->profile_ctx = ctx;
}

void es_tape_point(const struct es_tape *t, const char *point, int index, const struct es_tensor *x) {
    if (t->watch && !t->dry) t->watch(t->watch_ctx, point, index, x);
}

static struct es_tensor *new_tensor(struct es_tape *t, const char *name, int ndim, const int64_t *shape) {
    ES_ASSERT(ndim >= 0 && ndim <= ES_MAX_DIM);
    struct es_tensor *x = es_tape_node(t, sizeof *x);
    x->name = name;
    x->ndim = ndim;
    x->n = 1;
    x->param = -1;
    for (int d = 0; d < ndim; d++) {
        ES_ASSERT(shape[d] > 0);
        x->shape[d] = shape[d];
        x->n *= shape[d];
    }
    return x;
}

struct es_tensor *es_tape_input(struct es_tape *t, const char *name, int ndim, const int64_t *shape,
                                float *data, bool needs_grad) {
    struct es_tensor *x = new_tensor(t, name, ndim, shape);
    x->data = data;
    x->needs_grad = needs_grad;
    if (needs_grad) {
        ES_ASSERT(t->n_inputs < MAX_LOSSES);
        t->inputs[t->n_inputs++] = x;
    }
    return x;
}

struct es_tensor *es_tape_param(struct es_tape *t, int index) {
    if (t->param[index]) return t->param[index];
    if (t->on_param) t->on_param(t->on_param_ctx, index);
    struct es_param *p = es_params_at(t->tp.params, index);
    struct es_tensor *x = new_tensor(t, p->name, p->ndim, p->shape);
    x->data = es_params_data(t->tp.params, index);
    x->param = index;
    x->needs_grad = t->tp.record && p->trainable;
    return t->param[index] = x;
}

void es_tape_drop(struct es_tape *t, struct es_tensor *x) {
    if (!x->owned || x->kept) return;
    es_pool_put(t->tp.pool, x->data);
    x->owned = false;
}

static void note_output(struct es_tape *t, struct es_tensor *x) {
    if (!x->owned || !t->tp.record) return;
    x->next = t->outputs;
    t->outputs = x;
}

struct es_tensor *es_tape_output(struct es_tape *t, const char *name, int ndim, const int64_t *shape) {
    struct es_tensor *x = new_tensor(t, name, ndim, shape);
    size_t bytes = (size_t)x->n * sizeof(float);
    if (t->profile && !t->dry && t->begin_s == 0) t->begin_s = es_now_s();
    x->owned = !t->tp.record || (t->tp.bf16 && x->n > FEW); /* losses: their number varies with the data */
    x->data = x->owned ? es_pool_get(t->tp.pool, bytes) : es_arena_alloc(t->tp.leaf, bytes);
    note_output(t, x);
    return x;
}

struct es_tensor *es_tape_view(struct es_tape *t, struct es_tensor *x, int ndim, const int64_t *shape) {
    struct es_tensor *y = new_tensor(t, x->name, ndim, shape);
    ES_ASSERT(y->n == x->n);
    y->data = x->data;
    y->half = x->half;
    y->kept = x->kept;
    y->owned = x->owned;
    x->owned = false;
    note_output(t, y);
    return y;
}

void *es_tape_keep(struct es_tape *t, size_t bytes) {
    return t->tp.record ? es_arena_alloc(t->tp.leaf, bytes) : NULL;
}

void *es_tape_node(struct es_tape *t, size_t bytes) {
    void *p = es_arena_alloc(t->nodes, bytes);
    memset(p, 0, bytes);
    return p;
}

void *es_tape_scratch(struct es_tape *t, size_t bytes) {
    return es_arena_alloc(t->tp.scratch, bytes);
}
void es_tape_scratch_reset(struct es_tape *t) {
    es_arena_reset(t->tp.scratch, 0);
}

static void keep(int n, struct es_tensor *const *x) {
    for (int i = 0; i < n; i++)
        if (x[i]) x[i]->kept = true;
}

void es_tape_push(struct es_tape *t, es_backward_fn backward, void *saved, struct es_tensor *out,
                  struct es_tensor *out2, int n_in, struct es_tensor *const *in) {
    int before = t->n_records;
    es_tape_push_reading(t, backward, saved, out, out2, n_in, in, 0, NULL);
    if (t->n_records == before) return;
    keep(n_in, in);
    keep(2, (struct es_tensor *[]){out, out2});
}

void es_tape_push_reading(struct es_tape *t, es_backward_fn backward, void *saved, struct es_tensor *out,
                          struct es_tensor *out2, int n_in, struct es_tensor *const *in, int n_read,
                          struct es_tensor *const *read) {
    bool timed = t->begin_s > 0;
    if (timed) {
        struct es_tape_event e = {false, es_now_s() - t->begin_s, out, out2, n_in, in};
        t->profile(t->profile_ctx, &e);
        t->begin_s = 0;
    }
    es_tape_scratch_reset(t);
    if (!t->tp.record) return;
    bool needed = false;
    for (int i = 0; i < n_in; i++) needed |= in[i] && in[i]->needs_grad;
    if (!needed) return;
    ES_ASSERT(t->n_records < MAX_RECORDS && n_in <= MAX_IN);
    struct record *r = &t->record[t->n_records++];
    *r = (struct record){
        .backward = backward, .saved = saved, .out = out, .out2 = out2, .n_in = n_in, .timed = timed};
    for (int i = 0; i < n_in; i++) r->in[i] = in[i];
    keep(n_read, read);
    out->needs_grad = true;
    if (out2) out2->needs_grad = true;
    for (int i = 0; i < n_in; i++)
        if (in[i] && in[i]->param >= 0 && in[i]->needs_grad) {
            r->param[r->n_params++] = in[i]->param;
            t->uses[in[i]->param]++;
        }
}

float *es_tape_grad(struct es_tape *t, struct es_tensor *x, float *beta) {
    if (!x || !x->needs_grad) return NULL;
    *beta = x->grad ? 1.0f : 0.0f;
    if (!x->grad)
        x->grad = x->param >= 0 ? t->grads + es_params_at(t->tp.params, x->param)->offset
                                : es_pool_get(t->tp.pool, (size_t)x->n * sizeof(float));
    return x->grad;
}

const float *es_tape_grad_out(struct es_tape *t, const struct es_tensor *x) {
    (void)t;
    return x->grad;
}

struct es_rng es_tape_dropout_stream(struct es_tape *t) {
    return es_rng_make(t->tp.seed, t->tp.dropout_purpose, t->step, t->leaf, t->n_dropout++);
}

void es_tape_add_stats(struct es_tape *t, int mean_param, int var_param, int n, const float *mean,
                       const float *var) {
    ES_ASSERT(t->n_stats < MAX_STATS);
    t->stats[t->n_stats++] = (struct es_tape_stats){mean_param, var_param, n, mean, var};
}

int es_tape_n_stats(const struct es_tape *t) {
    return t->n_stats;
}
struct es_tape_stats es_tape_stats_at(const struct es_tape *t, int i) {
    return t->stats[i];
}

void es_tape_add_loss(struct es_tape *t, struct es_tensor *loss) {
    ES_ASSERT(t->n_losses < MAX_LOSSES && loss->n == 1);
    t->loss[t->n_losses++] = loss;
}

static void run_backward(struct es_tape *t, struct record *r) {
    double begin_s = r->timed ? es_now_s() : 0;
    r->backward(t, r->saved);
    if (!r->timed) return;
    struct es_tape_event e = {true, es_now_s() - begin_s, r->out, r->out2, r->n_in, r->in};
    t->profile(t->profile_ctx, &e);
}

void es_tape_backward(struct es_tape *t, float *grads, const struct es_tape_hooks *hooks) {
    t->grads = grads;
    int n = es_params_count(t->tp.params);
    for (int i = 0; i < n; i++) {
        const struct es_param *p = es_params_at(t->tp.params, i);
        if (p->trainable && t->uses[i] == 0 && !t->dry)
            memset(grads + p->offset, 0, (size_t)p->n * sizeof(float));
        if (p->trainable && t->uses[i] == 0 && hooks && hooks->on_grad) hooks->on_grad(hooks->ctx, i);
    }
    for (int i = 0; i < t->n_losses; i++)
        if (t->loss[i]->needs_grad) t->loss[i]->grad = &t->one;
    for (int k = t->n_records - 1; k >= 0; k--) {
        struct record *r = &t->record[k];
        bool flows = r->out->grad || (r->out2 && r->out2->grad);
        if (flows) run_backward(t, r);
        es_tape_scratch_reset(t);
        release_grad(t, r->out);
        release_grad(t, r->out2);
        for (int i = 0; i < r->n_params; i++) {
            int id = r->param[i];
            if (--t->uses[id] > 0) continue;
            const struct es_param *p = es_params_at(t->tp.params, id);
            if (!t->param[id]->grad && !t->dry) memset(grads + p->offset, 0, (size_t)p->n * sizeof(float));
            if (hooks && hooks->on_grad) hooks->on_grad(hooks->ctx, id);
        }
        if (hooks && hooks->between) hooks->between(hooks->ctx);
    }
}

const float *es_tape_input_grad(struct es_tape *t, const struct es_tensor *x) {
    (void)t;
    return x->grad;
}
