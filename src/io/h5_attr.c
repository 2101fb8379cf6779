/* Attributes. */
#include "earshot/h5.h"

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"

#include "h5_impl.h"

static void attr_put(struct es_h5 *f, const char *object, const char *name, hid_t type, hid_t space,
                     const void *v) {
    if (!f->skip && f->file >= 0) {
        H5O_info_t o;
        if (H5Aexists_by_name(f->file, object, name, H5P_DEFAULT) > 0)
            H5Adelete_by_name(f->file, object, name, H5P_DEFAULT);
        hid_t a = H5Oget_info_by_name(f->file, object, &o, H5P_DEFAULT) < 0
                      ? -1
                      : H5Acreate_by_name(f->file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT,
                                          H5P_DEFAULT);
        if (a < 0 || H5Awrite(a, type, v) < 0) h5_stick(f, object, "cannot write an attribute");
        if (a >= 0) H5Aclose(a);
    }
    H5Sclose(space);
    H5Tclose(type);
}

static void attr_scalar(struct es_h5 *f, const char *object, const char *name, enum es_h5_type type,
                        const void *v) {
    attr_put(f, object, name, h5_type_new(type, 0, true), H5Screate(H5S_SCALAR), v);
}

void es_h5_attr_i64_all(struct es_h5 *f, const char *object, const char *name, int64_t v) {
    attr_scalar(f, object, name, ES_H5_I64, &v);
}
void es_h5_attr_u64_all(struct es_h5 *f, const char *object, const char *name, uint64_t v) {
    attr_scalar(f, object, name, ES_H5_U64, &v);
}
void es_h5_attr_f64_all(struct es_h5 *f, const char *object, const char *name, double v) {
    attr_scalar(f, object, name, ES_H5_F64, &v);
}
void es_h5_attr_text_all(struct es_h5 *f, const char *object, const char *name, const char *text) {
    size_t n = strlen(text);
    attr_put(f, object, name, h5_type_new(ES_H5_STRING, n ? n : 1, true), H5Screate(H5S_SCALAR), text);
}
void es_h5_attr_strings_all(struct es_h5 *f, const char *object, const char *name, int64_t n,
                            const char *const *strings) {
    size_t width;
    hsize_t dim = (hsize_t)n;
    if (f->file < 0) return;
    char *packed = h5_pack_strings(f, n, strings, &width);
    if (packed)
        attr_put(f, object, name, h5_type_new(ES_H5_STRING, width, true), H5Screate_simple(1, &dim, NULL),
                 packed);
    es_free(&packed);
}

bool es_h5_attr_has(const struct es_h5 *f, const char *object, const char *name) {
    return es_h5_has(f, object) && H5Aexists_by_name(f->file, object, name, H5P_DEFAULT) > 0;
}

static int attr_open(const struct es_h5 *f, const char *object, const char *name, hid_t *a,
                     struct es_err *err) {
    *a = es_h5_attr_has(f, object, name) ? H5Aopen_by_name(f->file, object, name, H5P_DEFAULT, H5P_DEFAULT)
                                         : -1;
    return *a < 0 ? es_err_set(err, ES_EDATA, "%s:%s: no attribute %s", f->path, object, name) : 0;
}

static int attr_get(const struct es_h5 *f, const char *object, const char *name, enum es_h5_type type,
                    void *v, struct es_err *err) {
    hid_t a;
    ES_TRY(attr_open(f, object, name, &a, err));
    hid_t got = H5Aget_type(a), space = H5Aget_space(a), mem = h5_type_new(type, 0, false);
    int rc = 0;
    if (!es_h5_type_bytes(h5_classify(got)) || H5Sget_simple_extent_npoints(space) != 1 ||
        H5Aread(a, mem, v) < 0)
        rc = es_err_set(err, ES_EDATA, "%s:%s: attribute %s: not one number", f->path, object, name);
    H5Tclose(mem);
    H5Sclose(space);
    H5Tclose(got);
    H5Aclose(a);
    return rc;
}

int es_h5_attr_get_i64(const struct es_h5 *f, const char *object, const char *name, int64_t *v,
                       struct es_err *err) {
    return attr_get(f, object, name, ES_H5_I64, v, err);
}
int es_h5_attr_get_u64(const struct es_h5 *f, const char *object, const char *name, uint64_t *v,
                       struct es_err *err) {
    return attr_get(f, object, name, ES_H5_U64, v, err);
}
int es_h5_attr_get_f64(const struct es_h5 *f, const char *object, const char *name, double *v,
                       struct es_err *err) {
    return attr_get(f, object, name, ES_H5_F64, v, err);
}

static herr_t read_attr(hid_t a, hid_t type, void *out) {
    return H5Aread(a, type, out);
}

int es_h5_attr_get_strings(const struct es_h5 *f, const char *object, const char *name,
                           struct es_h5_names *names, struct es_err *err) {
    hid_t a;
    *names = (struct es_h5_names){0};
    ES_TRY(attr_open(f, object, name, &a, err));
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    int rc = h5_read_strings(f, a, space, type, read_attr, object, names, err);
    if (rc < 0) es_err_prefix(err, "attribute %s", name);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(a);
    return rc;
}

int es_h5_attr_get_text(const struct es_h5 *f, const char *object, const char *name, char *out, size_t bytes,
                        struct es_err *err) {
    struct es_h5_names names;
    out[0] = 0;
    ES_TRY(es_h5_attr_get_strings(f, object, name, &names, err));
    if (names.n == 1) snprintf(out, bytes, "%s", names.name[0]);
    int rc = names.n == 1
                 ? 0
                 : es_err_set(err, ES_EDATA, "%s:%s: attribute %s: not one text", f->path, object, name);
    es_h5_names_free(&names);
    return rc;
}
