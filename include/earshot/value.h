/* A tree of plain values: what a JSON text or a pickle holds.
 *
 *   struct es_values *heap = NULL;
 *   es_values_new(&heap, err);                           owns every node; freed as a whole
 *   es_json_read(heap, bytes, n, "x.json", &root, err);  or es_pickle_read (pickle.h)
 *   v = es_value_get(root, "state_dict");
 *   es_values_free(&heap);
 *
 * A pickle may hold the same node in many places and even a node inside itself: walk down to what you want, never over
 * everything. Tensors and the inert kinds come from pickles and tensor files only (tensorfile.h).
 *
 * Collectivity: none. Errors: only memory (ES_EIO); the builders return NULL or false then.
 */
#ifndef EARSHOT_VALUE_H
#define EARSHOT_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

/* Element types of tensors in public files. */
enum es_dtype {
    ES_DTYPE_F32,
    ES_DTYPE_F64,
    ES_DTYPE_F16,
    ES_DTYPE_BF16,
    ES_DTYPE_I64,
    ES_DTYPE_I32,
    ES_DTYPE_I16,
    ES_DTYPE_I8,
    ES_DTYPE_U8,
    ES_DTYPE_BOOL,
    ES_DTYPE_OTHER16, /* complex double: known only to step over it */
    ES_DTYPE_OTHER8,
    ES_N_DTYPES,
};
const char *es_dtype_name(enum es_dtype t); /* as PyTorch: "float32" */
size_t es_dtype_bytes(enum es_dtype t);
bool es_dtype_is_float(enum es_dtype t);

#define ES_VIEW_MAX_DIM 8
struct es_view { /* a tensor: a strided view of a storage */
    enum es_dtype dtype;
    int ndim, storage;                                /* storage: index in its file */
    int64_t shape[ES_VIEW_MAX_DIM];                   /* each >= 0 */
    int64_t stride[ES_VIEW_MAX_DIM], offset, n, span; /* in elements; span: first to last element touched */
};
bool es_view_same(const struct es_view *a, const struct es_view *b); /* the same elements */

enum es_value_kind {
    ES_VALUE_NONE,
    ES_VALUE_BOOL,
    ES_VALUE_INT,
    ES_VALUE_REAL,
    ES_VALUE_TEXT, /* n bytes and a zero behind them */
    ES_VALUE_LIST,
    ES_VALUE_TUPLE,
    ES_VALUE_DICT,   /* n items: key, value, key, value, ... */
    ES_VALUE_TENSOR, /* view */
    /* inert: never executed, never looked into */
    ES_VALUE_STORAGE,  /* i: index */
    ES_VALUE_CALLABLE, /* text: "module.name" of a function or class */
    ES_VALUE_OBJECT,   /* text: what made it */
};

struct es_value {
    enum es_value_kind kind;
    uint32_t n, cap;
    union {
        int64_t i;
        double real;
        const char *text;
        struct es_value **item;
        const struct es_view *view;
    };
};

struct es_values;
int es_values_new(struct es_values **heap, struct es_err *err);
void es_values_free(struct es_values **heap);
size_t es_values_bytes(const struct es_values *heap); /* taken so far */
/* Zeroed, 8-byte aligned. */
void *es_values_alloc(struct es_values *heap, size_t bytes, struct es_err *err);

struct es_value *es_value_new(struct es_values *heap, enum es_value_kind kind, struct es_err *err);
struct es_value *es_value_text(struct es_values *heap, enum es_value_kind kind, const void *bytes, size_t n,
                               struct es_err *err);
/* Adds to a list, tuple or dict (a dict: key, then value). */
bool es_value_append(struct es_values *heap, struct es_value *to, struct es_value *item, struct es_err *err);

/* NULL when v is NULL, not a dict, or has no such key; the last one of a key given twice, as in Python. */
const struct es_value *es_value_get(const struct es_value *v, const char *key);
bool es_value_is_text(const struct es_value *v, const char *text);
bool es_value_number(const struct es_value *v, double *out); /* bool, int or real */
/* "a list", "an object of torch.nn.Linear", for messages. */
void es_value_describe(const struct es_value *v, char *out, size_t size);

#endif
