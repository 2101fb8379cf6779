#include "earshot/value.h"

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [ES_DTYPE_F32] = {"float32", 4},
    [ES_DTYPE_F64] = {"float64", 8},
    [ES_DTYPE_F16] = {"float16", 2},
    [ES_DTYPE_BF16] = {"bfloat16", 2},
    [ES_DTYPE_I64] = {"int64", 8},
    [ES_DTYPE_I32] = {"int32", 4},
    [ES_DTYPE_I16] = {"int16", 2},
    [ES_DTYPE_I8] = {"int8", 1},
    [ES_DTYPE_U8] = {"uint8", 1},
    [ES_DTYPE_BOOL] = {"bool", 1},
    [ES_DTYPE_OTHER16] = {"complex128", 16},
    [ES_DTYPE_OTHER8] = {"complex64", 8},
};
_Static_assert(sizeof dtypes / sizeof *dtypes == ES_N_DTYPES, "one row per type");

const char *es_dtype_name(enum es_dtype t) {
    return dtypes[t].name;
}
size_t es_dtype_bytes(enum es_dtype t) {
    return dtypes[t].bytes;
}
bool es_dtype_is_float(enum es_dtype t) {
    return t == ES_DTYPE_F32 || t == ES_DTYPE_F64 || t == ES_DTYPE_F16 || t == ES_DTYPE_BF16;
}

bool es_view_same(const struct es_view *a, const struct es_view *b) {
    size_t dims = (size_t)a->ndim * sizeof *a->shape;
    return a->storage == b->storage && a->offset == b->offset && a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, dims) == 0 && memcmp(a->stride, b->stride, dims) == 0;
}

/* ---- the heap: chunks that never move, each twice as large as the last */
struct chunk {
    struct chunk *next;
    size_t used, bytes;
};
#define CHUNK_MIN ((size_t)1 << 12)
#define CHUNK_MAX ((size_t)1 << 20)

struct es_values {
    struct chunk *first;
    size_t next_bytes, total;
};

int es_values_new(struct es_values **heap, struct es_err *err) {
    *heap = es_alloc(1, sizeof **heap, err);
    if (!*heap) return -ES_EIO;
    (*heap)->next_bytes = CHUNK_MIN;
    return 0;
}

void es_values_free(struct es_values **heap) {
    if (!*heap) return;
    for (struct chunk *c = (*heap)->first, *next; c; c = next) {
        next = c->next;
        es_free(&c);
    }
    es_free(heap);
}

size_t es_values_bytes(const struct es_values *heap) {
    return heap->total;
}

void *es_values_alloc(struct es_values *heap, size_t bytes, struct es_err *err) {
    bytes = (bytes + 7) & ~(size_t)7;
    struct chunk *c = heap->first;
    if (!c || c->bytes - c->used < bytes) {
        size_t size = bytes > heap->next_bytes ? bytes : heap->next_bytes;
        c = es_alloc(1, sizeof *c + size, err);
        if (!c) return NULL;
        c->bytes = size;
        c->next = heap->first;
        heap->first = c;
        if (heap->next_bytes < CHUNK_MAX) heap->next_bytes *= 2;
        heap->total += size;
    }
    char *at = (char *)(c + 1) + c->used;
    c->used += bytes;
    return at;
}

/* ---- values */
struct es_value *es_value_new(struct es_values *heap, enum es_value_kind kind, struct es_err *err) {
    struct es_value *v = es_values_alloc(heap, sizeof *v, err);
    if (v) v->kind = kind;
    return v;
}

struct es_value *es_value_text(struct es_values *heap, enum es_value_kind kind, const void *bytes, size_t n,
                               struct es_err *err) {
    struct es_value *v = es_value_new(heap, kind, err);
    char *text = v ? es_values_alloc(heap, n + 1, err) : NULL;
    if (!text) return NULL;
    memcpy(text, bytes, n);
    v->text = text;
    v->n = (uint32_t)n;
    return v;
}

bool es_value_append(struct es_values *heap, struct es_value *to, struct es_value *item, struct es_err *err) {
    if (to->n == to->cap) {
        uint32_t cap = to->cap ? 2 * to->cap : 4;
        struct es_value **grown = es_values_alloc(heap, cap * sizeof *grown, err);
        if (!grown) return false;
        if (to->n) memcpy(grown, to->item, to->n * sizeof *grown);
        to->item = grown;
        to->cap = cap;
    }
    to->item[to->n++] = item;
    return true;
}

const struct es_value *es_value_get(const struct es_value *v, const char *key) {
    if (!v || v->kind != ES_VALUE_DICT) return NULL;
    for (uint32_t i = v->n; i >= 2; i -= 2)
        if (es_value_is_text(v->item[i - 2], key)) return v->item[i - 1];
    return NULL;
}

bool es_value_is_text(const struct es_value *v, const char *text) {
    return v && v->kind == ES_VALUE_TEXT && strlen(text) == v->n && memcmp(v->text, text, v->n) == 0;
}

bool es_value_number(const struct es_value *v, double *out) {
    if (v && (v->kind == ES_VALUE_INT || v->kind == ES_VALUE_BOOL))
        *out = (double)v->i;
    else if (v && v->kind == ES_VALUE_REAL)
        *out = v->real;
    else
        return false;
    return true;
}

void es_value_describe(const struct es_value *v, char *out, size_t size) {
    static const char *const plain[] = {
        [ES_VALUE_NONE] = "None",         [ES_VALUE_BOOL] = "a bool",   [ES_VALUE_INT] = "a number",
        [ES_VALUE_REAL] = "a number",     [ES_VALUE_TEXT] = "a string", [ES_VALUE_LIST] = "a list",
        [ES_VALUE_TUPLE] = "a tuple",     [ES_VALUE_DICT] = "a dict",   [ES_VALUE_TENSOR] = "a tensor",
        [ES_VALUE_STORAGE] = "a storage", [ES_VALUE_CALLABLE] = NULL,   [ES_VALUE_OBJECT] = NULL,
    };
    if (plain[v->kind])
        snprintf(out, size, "%s", plain[v->kind]);
    else
        snprintf(out, size, "%s %.80s", v->kind == ES_VALUE_OBJECT ? "an object of" : "the class or function",
                 v->text);
}
