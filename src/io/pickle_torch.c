/* What the callables and persistent ids of PyTorch's files mean. */
#include <string.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"
#include "pickle_impl.h"

static int inert(struct machine *m, const char *what, struct es_value **out) {
    *out = es_value_new(m->p->heap, ES_VALUE_OBJECT, m->err);
    if (!*out) return -ES_EIO;
    (*out)->text = what;
    return 0;
}

/* OrderedDict(), OrderedDict([(k, v), ...]) */
static int make_dict(struct machine *m, const struct es_value *args, struct es_value **out) {
    const struct es_value *pairs =
        args->n == 1 && args->item[0]->kind == ES_VALUE_LIST ? args->item[0] : NULL;
    if (args->n > (pairs ? 1u : 0u)) return inert(m, "collections.OrderedDict", out);
    *out = es_value_new(m->p->heap, ES_VALUE_DICT, m->err);
    for (uint32_t i = 0; *out && pairs && i < pairs->n; i++) {
        const struct es_value *pair = pairs->item[i];
        if ((pair->kind != ES_VALUE_TUPLE && pair->kind != ES_VALUE_LIST) || pair->n != 2)
            return pickle_bad(m, "OrderedDict of what is not a pair");
        for (int k = 0; k < 2; k++)
            if (!es_value_append(m->p->heap, *out, pair->item[k], m->err)) return -ES_EIO;
    }
    return *out ? 0 : -ES_EIO;
}

/* torch.Size((1, 2)), set([1, 2]): the argument itself */
static int make_same(struct machine *m, const struct es_value *args, struct es_value **out) {
    if (args->n == 1 && (args->item[0]->kind == ES_VALUE_TUPLE || args->item[0]->kind == ES_VALUE_LIST)) {
        *out = args->item[0];
        return 0;
    }
    return inert(m, "a collection", out);
}

/* Non-negative numbers of a tuple. */
static bool numbers(const struct es_value *tuple, int64_t out[ES_VIEW_MAX_DIM]) {
    for (uint32_t i = 0; i < tuple->n; i++) {
        if (tuple->item[i]->kind != ES_VALUE_INT || tuple->item[i]->i < 0) return false;
        out[i] = tuple->item[i]->i;
    }
    return true;
}

/* Elements and span; false on overflow. */
static bool measure(struct es_view *v) {
    int64_t last = 0, step;
    v->n = 1;
    for (int d = 0; d < v->ndim; d++)
        if (v->shape[d] == 0) {
            v->n = v->span = 0;
            return true;
        }
    for (int d = 0; d < v->ndim; d++)
        if (__builtin_mul_overflow(v->n, v->shape[d], &v->n) ||
            __builtin_mul_overflow(v->shape[d] - 1, v->stride[d], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    return !__builtin_add_overflow(last, 1, &v->span);
}

/* _rebuild_tensor(storage, offset, size, stride), _v2 with requires_grad, hooks and more behind */
static int make_tensor(struct machine *m, const struct es_value *args, struct es_value **out) {
    if (args->n < 4 || args->item[1]->kind != ES_VALUE_INT || args->item[2]->kind != ES_VALUE_TUPLE ||
        args->item[3]->kind != ES_VALUE_TUPLE || args->item[2]->n != args->item[3]->n)
        return pickle_bad(m, "a tensor that does not say storage, offset, size and stride");
    if (args->item[0]->kind == ES_VALUE_OBJECT) return inert(m, "a tensor in an unknown storage", out);
    if (args->item[2]->n > ES_VIEW_MAX_DIM) return inert(m, "a tensor of more than 8 dimensions", out);
    if (args->item[0]->kind != ES_VALUE_STORAGE) return pickle_bad(m, "a tensor without storage");
    struct es_view *v = es_values_alloc(m->p->heap, sizeof *v, m->err);
    *out = es_value_new(m->p->heap, ES_VALUE_TENSOR, m->err);
    if (!v || !*out) return -ES_EIO;
    (*out)->view = v;
    v->storage = (int)args->item[0]->i;
    v->offset = args->item[1]->i;
    v->ndim = (int)args->item[2]->n;
    const struct es_pickle_storage *s = &m->p->storage[v->storage];
    v->dtype = s->dtype;
    if (v->offset < 0 || !numbers(args->item[2], v->shape) || !numbers(args->item[3], v->stride) ||
        !measure(v))
        return pickle_bad(m, "a tensor with a size, stride or offset that makes no sense");
    if (v->offset > s->n || v->span > s->n - v->offset)
        return pickle_bad(m, "a tensor reaches to element %lld of a storage of %lld",
                          (long long)v->offset + (long long)(v->span > s->n ? s->n : v->span),
                          (long long)s->n);
    return 0;
}

/* _rebuild_parameter(tensor, requires_grad, hooks) */
static int make_parameter(struct machine *m, const struct es_value *args, struct es_value **out) {
    if (args->n == 0) return pickle_bad(m, "a parameter without tensor");
    if (args->item[0]->kind != ES_VALUE_TENSOR) return inert(m, "a parameter that is no plain tensor", out);
    *out = args->item[0];
    return 0;
}

static const struct {
    const char *name;
    int (*make)(struct machine *m, const struct es_value *args, struct es_value **out);
} known[] = {
    {"collections.OrderedDict", make_dict},
    {"torch._utils._rebuild_tensor_v2", make_tensor},
    {"torch._utils._rebuild_tensor", make_tensor},
    {"torch._utils._rebuild_parameter", make_parameter},
    {"torch._utils._rebuild_parameter_with_state", make_parameter},
    {"torch.Size", make_same},
    {"builtins.set", make_same},
    {"__builtin__.set", make_same},
};

int pickle_call(struct machine *m, struct es_value *callable, struct es_value *args, struct es_value **out) {
    /* _rebuild_from_type_v2(function, type, arguments, state): a tensor that carries attributes */
    while (callable->kind == ES_VALUE_CALLABLE && args->n == 4 && args->item[2]->kind == ES_VALUE_TUPLE &&
           strcmp(callable->text, "torch._tensor._rebuild_from_type_v2") == 0) {
        callable = args->item[0];
        args = args->item[2];
    }
    if (callable->kind != ES_VALUE_CALLABLE) return inert(m, "an unknown call", out);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(callable->text, known[i].name) == 0) return known[i].make(m, args, out);
    return inert(m, callable->text, out);
}

/* ---- storages */
static const struct {
    const char *name;
    enum es_dtype dtype;
} types[] = {
    {"torch.FloatStorage", ES_DTYPE_F32},
    {"torch.DoubleStorage", ES_DTYPE_F64},
    {"torch.HalfStorage", ES_DTYPE_F16},
    {"torch.BFloat16Storage", ES_DTYPE_BF16},
    {"torch.LongStorage", ES_DTYPE_I64},
    {"torch.IntStorage", ES_DTYPE_I32},
    {"torch.ShortStorage", ES_DTYPE_I16},
    {"torch.CharStorage", ES_DTYPE_I8},
    {"torch.ByteStorage", ES_DTYPE_U8},
    {"torch.BoolStorage", ES_DTYPE_BOOL},
    {"torch.ComplexDoubleStorage", ES_DTYPE_OTHER16},
    {"torch.ComplexFloatStorage", ES_DTYPE_OTHER8},
    {"torch.QInt8Storage", ES_DTYPE_I8},
    {"torch.QUInt8Storage", ES_DTYPE_U8},
    {"torch.QInt32Storage", ES_DTYPE_I32},
    {"torch.UntypedStorage", ES_DTYPE_U8},
    {"torch.storage.UntypedStorage", ES_DTYPE_U8},
};

static int storage_type(const struct es_value *v) {
    for (size_t i = 0; v->kind == ES_VALUE_CALLABLE && i < sizeof types / sizeof *types; i++)
        if (strcmp(v->text, types[i].name) == 0) return (int)types[i].dtype;
    return -1;
}

/* Index of the storage with this key, added when new. */
static int storage_index(struct machine *m, const struct es_value *key, enum es_dtype dtype, int64_t n) {
    struct es_pickle *p = m->p;
    int64_t i = es_names_find(p->keys, key->text);
    if (i >= 0) {
        if (p->storage[i].dtype != dtype || p->storage[i].n != n)
            return pickle_bad(m, "storage %.40s is said to be two different things", key->text);
        return (int)i;
    }
    if (p->n_storages == p->cap) {
        int cap = p->cap ? 2 * p->cap : 64;
        struct es_pickle_storage *grown = es_alloc((size_t)cap, sizeof *grown, m->err);
        if (!grown) return -ES_EIO;
        if (p->storage) memcpy(grown, p->storage, (size_t)p->cap * sizeof *grown);
        es_free(&p->storage);
        p->storage = grown;
        p->cap = cap;
    }
    if (es_names_add(p->keys, key->text, m->err) < 0) return -ES_EIO;
    p->storage[p->n_storages] = (struct es_pickle_storage){dtype, n, key->text};
    return p->n_storages++;
}

/* ('storage', type, key, place, elements[, view]): view is None in every file written since 2017 */
int pickle_storage(struct machine *m, const struct es_value *id, struct es_value **out) {
    if (id->kind != ES_VALUE_TUPLE || id->n < 5 || !es_value_is_text(id->item[0], "storage"))
        return inert(m, "an unknown persistent id", out);
    const struct es_value *key = id->item[2], *n = id->item[4];
    int type = storage_type(id->item[1]);
    if (type < 0) return inert(m, "a storage of an unknown type", out);
    if (key->kind != ES_VALUE_TEXT || strlen(key->text) != key->n || n->kind != ES_VALUE_INT || n->i < 0 ||
        n->i > INT64_MAX / 16)
        return pickle_bad(m, "a storage without key or size");
    if (id->n > 5 && id->item[5]->kind != ES_VALUE_NONE)
        return inert(m, "a storage that is a view of another", out);
    int index = storage_index(m, key, (enum es_dtype)type, n->i);
    if (index < 0) return index;
    *out = es_value_new(m->p->heap, ES_VALUE_STORAGE, m->err);
    if (!*out) return -ES_EIO;
    (*out)->i = index;
    return 0;
}
