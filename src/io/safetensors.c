/* .safetensors: 8 bytes length of the header, the header (a JSON object: name -> dtype, shape, data_offsets; __metadata__ is
 * text), the data. The data are covered exactly once, without gaps: this is the format's own rule. */
#include <stdlib.h>
#include <string.h>

#include "earshot/json.h"
#include "earshot/mem.h"
#include "earshot/tsv.h"
#include "tensorfile_impl.h"

#define MAX_HEADER ((int64_t)100 << 20) /* as in the official reader */

static const struct {
    const char *name;
    enum es_dtype dtype;
} types[] = {
    {"F32", ES_DTYPE_F32}, {"F64", ES_DTYPE_F64},   {"F16", ES_DTYPE_F16}, {"BF16", ES_DTYPE_BF16},
    {"I64", ES_DTYPE_I64}, {"I32", ES_DTYPE_I32},   {"I16", ES_DTYPE_I16}, {"I8", ES_DTYPE_I8},
    {"U8", ES_DTYPE_U8},   {"BOOL", ES_DTYPE_BOOL},
};

const char *safetensors_type(enum es_dtype t) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].dtype == t) return types[i].name;
    return NULL;
}

static int bad(const struct es_tensorfile *f, const char *name, const char *what, struct es_err *err) {
    return es_err_set(err, ES_EDATA, "%s: safetensors header: %.100s: %s", f->in.path, name, what);
}

/* Numbers 0..2^53 of a list of at most n. */
static int list(const struct es_value *v, int64_t *out, int n) {
    if (!v || v->kind != ES_VALUE_LIST || v->n > (uint32_t)n) return -1;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->item[i]->kind != ES_VALUE_INT || v->item[i]->i < 0 || v->item[i]->i > (int64_t)1 << 53)
            return -1;
        out[i] = v->item[i]->i;
    }
    return (int)v->n;
}

/* One entry; its data become the storage with this index. */
static int read_entry(struct es_tensorfile *f, const struct es_value *name, struct es_value *v, int index,
                      int64_t data, struct es_err *err) {
    int64_t range[2], bytes;
    int type = -1;
    const struct es_value *dtype = es_value_get(v, "dtype");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (es_value_is_text(dtype, types[i].name)) type = (int)types[i].dtype;
    if (v->kind != ES_VALUE_DICT || !dtype)
        return bad(f, name->text, "want dtype, shape and data_offsets", err);
    if (type < 0) return bad(f, name->text, "unknown dtype", err);
    struct es_view *view = es_values_alloc(f->heap, sizeof *view, err);
    if (!view) return -ES_EIO;
    *view = (struct es_view){.dtype = (enum es_dtype)type, .storage = index, .n = 1};
    view->ndim = list(es_value_get(v, "shape"), view->shape, ES_VIEW_MAX_DIM);
    if (view->ndim < 0) return bad(f, name->text, "bad shape", err);
    if (list(es_value_get(v, "data_offsets"), range, 2) != 2 || range[0] > range[1] ||
        range[1] > f->in.n - data)
        return bad(f, name->text, "data_offsets beyond the file", err);
    for (int d = view->ndim - 1; d >= 0; d--) {
        view->stride[d] = view->n;
        if (__builtin_mul_overflow(view->n, view->shape[d], &view->n))
            return bad(f, name->text, "bad shape", err);
    }
    view->span = view->n;
    if (__builtin_mul_overflow(view->n, (int64_t)es_dtype_bytes(view->dtype), &bytes) ||
        bytes != range[1] - range[0])
        return bad(f, name->text, "data_offsets do not fit dtype and shape", err);
    f->place[index] = (struct place){.entry = -1, .offset = data + range[0], .bytes = bytes};
    v->kind = ES_VALUE_TENSOR; /* the node of the tree becomes the tensor */
    v->view = view;
    return 0;
}

static int by_offset(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Data one behind the other, from the first byte to the last. */
static int check_cover(const struct es_tensorfile *f, int64_t data, struct es_err *err) {
    struct place *p = es_alloc((size_t)f->n_places, sizeof *p, err);
    if (!p) return -ES_EIO;
    memcpy(p, f->place, (size_t)f->n_places * sizeof *p);
    qsort(p, (size_t)f->n_places, sizeof *p, by_offset);
    int rc = 0;
    for (int i = 0; i < f->n_places && rc == 0; i++) {
        if (p[i].offset != data) rc = bad(f, "data_offsets", "tensors that overlap or leave gaps", err);
        data += p[i].bytes;
    }
    if (rc == 0 && data != f->in.n) rc = bad(f, "data_offsets", "more data than tensors, or too little", err);
    es_free(&p);
    return rc;
}

int safetensors_open(struct es_tensorfile *f, struct es_err *err) {
    uint8_t length[8];
    struct es_value *header;
    struct es_names *names = NULL;
    char *text = NULL;
    ES_TRY(input_read(&f->in, 0, 8, length, err));
    uint64_t n = input_u(length, 8);
    if (n > (uint64_t)(f->in.n - 8) || n > (uint64_t)MAX_HEADER)
        return es_err_set(err, ES_EDATA, "%s: safetensors header of %llu bytes in a file of %lld", f->in.path,
                          (unsigned long long)n, (long long)f->in.n);
    int64_t data = 8 + (int64_t)n;
    int rc = es_names_new(&names, err);
    text = es_alloc((size_t)n, 1, err);
    if (!text) rc = -ES_EIO;
    if (rc == 0) rc = input_read(&f->in, 8, (int64_t)n, text, err);
    if (rc == 0) rc = es_json_read(f->heap, text, (size_t)n, f->in.path, &header, err);
    if (rc < 0) goto done;
    f->root = es_value_new(f->heap, ES_VALUE_DICT, err);
    f->place = es_alloc(header->n / 2, sizeof *f->place, err); /* the header is a dict: it begins with { */
    if (!f->root || !f->place) ES_GO(-ES_EIO);
    for (uint32_t i = 0; i < header->n; i += 2) {
        const struct es_value *name = header->item[i];
        if (strlen(name->text) != name->n || es_names_find(names, name->text) >= 0)
            ES_GO(bad(f, name->text, "given twice, or not a name", err));
        if (es_names_add(names, name->text, err) < 0) ES_GO(-ES_EIO);
        if (es_value_is_text(name, "__metadata__")) continue;
        ES_GO(read_entry(f, name, header->item[i + 1], f->n_places++, data, err));
        for (int k = 0; k < 2; k++)
            if (!es_value_append(f->heap, f->root, header->item[i + (uint32_t)k], err)) ES_GO(-ES_EIO);
    }
    rc = check_cover(f, data, err);
done:
    es_free(&text);
    es_names_free(&names);
    return rc;
}
