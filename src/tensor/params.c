#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "earshot/kernels_bf16.h"
#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/tensor.h"

#define MAX_PARAMS 1024
#define MAX_ALIASES 64
#define PAD 16 /* floats: every entry starts on a cache line */

struct es_params {
    int n;
    int64_t n_values, n_trainable;
    float *values;
    struct es_hash *hash; /* for the digest, which a step takes without allocating */
    struct es_param entry[MAX_PARAMS];
    struct es_bf16_weight *packed[MAX_PARAMS];
    bool stale[MAX_PARAMS]; /* its packed copy is older than its values */
    int n_aliases;
    struct alias {
        char name[120];
        int entry;
    } alias[MAX_ALIASES];
};

int es_params_new(struct es_params **p, struct es_err *err) {
    *p = es_alloc(1, sizeof **p, err);
    if (!*p) return -ES_EIO;
    int rc = es_hash_new(&(*p)->hash, err);
    if (rc < 0) es_free(p);
    return rc;
}

void es_params_free(struct es_params **p) {
    if (!*p) return;
    for (int i = (*p)->n - 1; i >= 0; i--) es_bf16_weight_free(&(*p)->packed[i]);
    es_hash_free(&(*p)->hash);
    es_free(&(*p)->values);
    es_free(p);
}

int es_params_add(struct es_params *p, const char *name, enum es_param_kind kind, enum es_init init,
                  double init_scale, int ndim, const int64_t *shape) {
    ES_ASSERT(!p->values && p->n < MAX_PARAMS && ndim >= 0 && ndim <= ES_MAX_DIM);
    ES_ASSERT(strlen(name) < sizeof p->entry[0].name && es_params_find(p, name) < 0);
    struct es_param *e = &p->entry[p->n];
    *e = (struct es_param){.ndim = ndim, .n = 1, .kind = kind, .init = init, .init_scale = init_scale};
    e->trainable = kind == ES_PARAM_WEIGHT;
    snprintf(e->name, sizeof e->name, "%s", name);
    for (int d = 0; d < ndim; d++) {
        e->shape[d] = shape[d];
        e->n *= shape[d];
    }
    return p->n++;
}

struct es_param *es_params_at(struct es_params *p, int i) {
    ES_ASSERT(i >= 0 && i < p->n);
    return &p->entry[i];
}

int es_params_count(const struct es_params *p) {
    return p->n;
}

int es_params_find(const struct es_params *p, const char *name) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->entry[i].name, name) == 0) return i;
    for (int i = 0; i < p->n_aliases; i++)
        if (strcmp(p->alias[i].name, name) == 0) return p->alias[i].entry;
    return -1;
}

void es_params_alias(struct es_params *p, const char *name, int entry) {
    ES_ASSERT(!p->values && p->n_aliases < MAX_ALIASES && entry >= 0 && entry < p->n);
    struct alias *a = &p->alias[p->n_aliases];
    ES_ASSERT(strlen(name) < sizeof a->name && es_params_find(p, name) < 0);
    snprintf(a->name, sizeof a->name, "%s", name);
    a->entry = entry;
    p->n_aliases++;
}

int es_params_n_aliases(const struct es_params *p) {
    return p->n_aliases;
}

const char *es_params_alias_at(const struct es_params *p, int i, int *entry) {
    ES_ASSERT(i >= 0 && i < p->n_aliases);
    *entry = p->alias[i].entry;
    return p->alias[i].name;
}

static int64_t place(struct es_param *e, int64_t at) {
    e->offset = at;
    return at + (e->n + PAD - 1) / PAD * PAD;
}

int es_params_layout(struct es_params *p, struct es_err *err) {
    int64_t at = 0;
    for (int i = p->n - 1; i >= 0; i--)
        if (p->entry[i].trainable) at = place(&p->entry[i], at);
    p->n_trainable = at;
    for (int i = 0; i < p->n; i++)
        if (!p->entry[i].trainable) at = place(&p->entry[i], at);
    p->n_values = at;
    p->values = es_alloc((size_t)(at > 0 ? at : 1), sizeof(float), err);
    return p->values ? 0 : -ES_EIO;
}

int es_params_clone(struct es_params **out, const struct es_params *p, struct es_err *err) {
    ES_ASSERT(p->values);
    *out = es_alloc(1, sizeof **out, err);
    if (!*out) return -ES_EIO;
    **out = *p;
    (*out)->hash = NULL;
    memset((*out)->packed, 0, sizeof(*out)->packed);
    memset((*out)->stale, 0, sizeof(*out)->stale);
    (*out)->values = es_alloc((size_t)p->n_values, sizeof(float), err);
    if (!(*out)->values || es_hash_new(&(*out)->hash, err) < 0) {
        es_params_free(out);
        return -ES_EIO;
    }
    memcpy((*out)->values, p->values, (size_t)p->n_values * sizeof(float));
    return 0;
}

/* Norm of every column of the next entry. */
static void init_norms(struct es_params *p, int i) {
    const struct es_param *e = &p->entry[i], *next = e + 1;
    ES_ASSERT(i + 1 < p->n && next->n % e->n == 0 && next->shape[next->ndim - 1] == e->n);
    const float *v = p->values + next->offset;
    for (int64_t k = 0; k < e->n; k++) {
        double sum = 0;
        for (int64_t at = k; at < next->n; at += e->n) sum += (double)v[at] * (double)v[at];
        p->values[e->offset + k] = (float)sqrt(sum);
    }
}

void es_params_init(struct es_params *p, uint64_t seed) {
    for (int i = 0; i < p->n; i++) {
        struct es_param *e = &p->entry[i];
        float *x = p->values + e->offset;
        struct es_rng r = es_rng_make(seed, ES_RNG_INIT, 0, (uint32_t)i, 0);
        for (int64_t k = 0; k < e->n; k++) {
            double v = 0.0;
            switch (e->init) {
            case ES_INIT_ZERO:
            case ES_INIT_NORM_OF_NEXT: /* below */
                v = 0.0;
                break;
            case ES_INIT_ONE:
                v = 1.0;
                break;
            case ES_INIT_NORMAL:
                v = e->init_scale * es_rng_normal(&r);
                break;
            case ES_INIT_UNIFORM:
                v = e->init_scale * es_rng_range(&r, -1.0, 1.0);
                break;
            }
            x[k] = (float)v;
        }
    }
    for (int i = 0; i < p->n; i++)
        if (p->entry[i].init == ES_INIT_NORM_OF_NEXT) init_norms(p, i);
}

float *es_params_data(struct es_params *p, int i) {
    ES_ASSERT(p->values && i >= 0 && i < p->n);
    return p->values + p->entry[i].offset;
}

float *es_params_values(struct es_params *p) {
    return p->values;
}
int64_t es_params_n_values(const struct es_params *p) {
    return p->n_values;
}
int64_t es_params_n_trainable(const struct es_params *p) {
    return p->n_trainable;
}

int64_t es_params_elements(const struct es_params *p, bool trainable_only) {
    int64_t n = 0;
    for (int i = 0; i < p->n; i++)
        if (p->entry[i].kind == ES_PARAM_WEIGHT && (p->entry[i].trainable || !trainable_only))
            n += p->entry[i].n;
    return n;
}

uint64_t es_params_digest(struct es_params *p) {
    struct es_hash *h = p->hash;
    es_hash_reset(h);
    for (int i = 0; i < p->n; i++) {
        const struct es_param *e = &p->entry[i];
        es_hash_string(h, e->name);
        es_hash_update(h, e->shape, sizeof e->shape);
        es_hash_update(h, p->values + e->offset, (size_t)e->n * sizeof(float));
    }
    return es_hash_value(h);
}

/* ---- packed copies */

static int64_t inputs(const struct es_param *e) {
    return e->n / e->shape[0];
}

int es_params_packed_new(struct es_params *p, struct es_bf16 *e, struct es_err *err) {
    for (int i = 0; i < p->n; i++) {
        const struct es_param *q = &p->entry[i];
        if (q->bf16) ES_TRY(es_bf16_weight_new(&p->packed[i], e, inputs(q), q->shape[0], err));
        p->stale[i] = q->bf16;
    }
    return 0;
}

void es_params_changed(struct es_params *p) {
    for (int i = 0; i < p->n; i++)
        if (p->entry[i].trainable) p->stale[i] = p->packed[i] != NULL;
}

const struct es_bf16_weight *es_params_packed(struct es_params *p, int i) {
    if (p->stale[i]) es_bf16_weight_set(p->packed[i], p->values + p->entry[i].offset);
    p->stale[i] = false;
    return p->packed[i];
}

int64_t es_params_packed_bytes(const struct es_params *p, struct es_bf16 *e) {
    int64_t n = 0;
    for (int i = 0; i < p->n; i++) {
        const struct es_param *q = &p->entry[i];
        if (q->bf16) n += es_bf16_weight_bytes(e, inputs(q), q->shape[0]);
    }
    return n;
}
