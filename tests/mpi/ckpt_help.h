/* A small training state made of formulas: arrays, and moments sharded in buckets as the reducer does. */
#ifndef EARSHOT_TESTS_CKPT_HELP_H
#define EARSHOT_TESTS_CKPT_HELP_H

#include "earshot/ckpt.h"
#include "earshot/mem.h"

enum { HELP_ARRAYS = 5, HELP_PARAMS = 4, HELP_BUCKET = 64, HELP_MAX_SEGMENTS = 64 };

struct model {
    struct es_ckpt_state state;
    struct es_ckpt_array student[HELP_ARRAYS], teacher[HELP_ARRAYS];
    struct es_ckpt_param param[HELP_PARAMS];
    struct es_ckpt_segment segment[HELP_MAX_SEGMENTS];
    float *m, *v; /* of all segments of this rank */
    int64_t n_owned, n_grad;
};

static const struct es_ckpt_array help_arrays[HELP_ARRAYS] = {
    {"cnn.cnn.conv0.weight", ES_H5_F32, 4, {4, 1, 3, 3}, NULL},
    {"cnn.cnn.batchnorm0.num_batches_tracked", ES_H5_I64, 0, {0}, NULL},
    {"as_model.model.blocks.0.attn.qkv.weight", ES_H5_F32, 2, {31, 7}, NULL},
    {"dense.bias", ES_H5_F32, 1, {27}, NULL},
    {"alpha", ES_H5_F32, 0, {0}, NULL},
};
/* Trainable: 36 + 217 + 27 + 1 elements; in the gradient vector in reverse order, padded to whole buckets. */
static const int help_trainable[HELP_PARAMS] = {0, 2, 3, 4};

static inline int64_t help_elements(const struct es_ckpt_array *a) {
    int64_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->dim[i];
    return n;
}

static inline float help_value(int which, int64_t table, int64_t step) {
    return (float)((table * 37 + which * 1001 + step * 7) % 997) / 64.0f - 3.0f;
}

/* Table position of an element of the gradient vector, -1: padding. */
static inline int64_t help_table(const struct model *x, int64_t grad) {
    int64_t at = 0;
    for (int p = 0; p < HELP_PARAMS; p++) {
        int64_t i = grad - x->param[p].grad_offset;
        if (i >= 0 && i < x->param[p].n) return at + i;
        at += x->param[p].n;
    }
    return -1;
}

static inline void model_fill(struct model *x, int64_t step) {
    for (int i = 0; i < HELP_ARRAYS; i++)
        for (int who = 0; who < 2; who++) {
            const struct es_ckpt_array *a = who ? &x->teacher[i] : &x->student[i];
            for (int64_t k = 0; k < help_elements(a); k++)
                if (a->type == ES_H5_I64)
                    ((int64_t *)a->data)[k] = 1000 * step + who;
                else
                    ((float *)a->data)[k] = help_value(2 + who, 300 * i + k, step);
        }
    for (int g = 0; g < x->state.n_segments; g++)
        for (int64_t k = 0; k < x->segment[g].n; k++) {
            int64_t at = help_table(x, x->segment[g].grad_offset + k);
            x->segment[g].m[k] = at < 0 ? 0.0f : help_value(0, at, step);
            x->segment[g].v[k] = at < 0 ? 0.0f : help_value(1, at, step);
        }
}

static inline void model_clear(struct model *x) {
    for (int i = 0; i < HELP_ARRAYS; i++) {
        memset(x->student[i].data, 0xee,
               (size_t)help_elements(&x->student[i]) * es_h5_type_bytes(x->student[i].type));
        memset(x->teacher[i].data, 0xee,
               (size_t)help_elements(&x->teacher[i]) * es_h5_type_bytes(x->teacher[i].type));
    }
    memset(x->m, 0, (size_t)x->n_owned * 4); /* padding must stay 0 */
    memset(x->v, 0, (size_t)x->n_owned * 4);
}

static inline void model_new(struct model *x, const struct es_comm *comm) {
    int rank = es_comm_rank(comm), size = es_comm_size(comm), reversed = 0;
    memset(x, 0, sizeof *x);
    for (int i = 0; i < HELP_ARRAYS; i++) {
        x->student[i] = x->teacher[i] = help_arrays[i];
        size_t n = (size_t)help_elements(&help_arrays[i]), item = es_h5_type_bytes(help_arrays[i].type);
        x->student[i].data = es_alloc(n, item, NULL);
        x->teacher[i].data = es_alloc(n, item, NULL);
    }
    int64_t at = 0;
    for (int p = HELP_PARAMS - 1; p >= 0; p--) {
        const struct es_ckpt_array *a = &help_arrays[help_trainable[p]];
        x->param[p] = (struct es_ckpt_param){a->name, help_elements(a), at};
        at += help_elements(a);
    }
    x->n_grad = (at + HELP_BUCKET - 1) / HELP_BUCKET * HELP_BUCKET;
    for (int bit = 1; bit < size; bit *= 2) reversed = reversed * 2 + (rank & bit ? 1 : 0);
    int64_t share = HELP_BUCKET / size;
    int n_segments = (int)(x->n_grad / HELP_BUCKET);
    x->n_owned = n_segments * share;
    x->m = es_alloc((size_t)x->n_owned, 4, NULL);
    x->v = es_alloc((size_t)x->n_owned, 4, NULL);
    for (int g = 0; g < n_segments; g++)
        x->segment[g] = (struct es_ckpt_segment){g * HELP_BUCKET + reversed * share, share, x->m + g * share,
                                                 x->v + g * share};
    x->state = (struct es_ckpt_state){HELP_ARRAYS, HELP_ARRAYS, HELP_PARAMS, n_segments,
                                      x->student,  x->teacher,  x->param,    x->segment};
}

static inline void model_free(struct model *x) {
    for (int i = 0; i < HELP_ARRAYS; i++) {
        es_free(&x->student[i].data);
        es_free(&x->teacher[i].data);
    }
    es_free(&x->m);
    es_free(&x->v);
}

static inline bool model_equals(const struct model *x, int64_t step, const struct es_comm *comm) {
    struct model want;
    bool same = true;
    model_new(&want, comm);
    model_fill(&want, step);
    for (int i = 0; i < HELP_ARRAYS; i++) {
        size_t bytes = (size_t)help_elements(&help_arrays[i]) * es_h5_type_bytes(help_arrays[i].type);
        same = same && memcmp(x->student[i].data, want.student[i].data, bytes) == 0;
        same = same && memcmp(x->teacher[i].data, want.teacher[i].data, bytes) == 0;
    }
    same = same && memcmp(x->m, want.m, (size_t)x->n_owned * 4) == 0 &&
           memcmp(x->v, want.v, (size_t)x->n_owned * 4) == 0;
    model_free(&want);
    return same;
}

static inline struct es_ckpt_meta help_meta(int64_t step) {
    return (struct es_ckpt_meta){.step = step,
                                 .epoch = step / 3,
                                 .seed = 0xfedcba9876543210u,
                                 .config_digest = 11,
                                 .store_digest = 12,
                                 .parameters_digest = (uint64_t)step * 0x9E3779B97F4A7C15u,
                                 .best_metric = 0.25};
}

#endif
