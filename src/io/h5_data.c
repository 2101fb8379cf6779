/* Data sets, strings, attributes, lists. */
#include "earshot/h5.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/fault.h"
#include "earshot/mem.h"

#include "h5_impl.h"

static const struct {
    const char *name;
    size_t bytes;
} types[] = {{"int8", 1},    {"uint8", 1},  {"int16", 2},  {"uint16", 2},  {"int32", 4},
             {"uint32", 4},  {"int64", 8},  {"uint64", 8}, {"float16", 2}, {"float32", 4},
             {"float64", 8}, {"string", 0}, {"other", 0}};
_Static_assert(sizeof types / sizeof *types == ES_H5_OTHER + 1, "a row for every type");

const char *es_h5_type_name(enum es_h5_type type) {
    return types[type].name;
}
size_t es_h5_type_bytes(enum es_h5_type type) {
    return types[type].bytes;
}

/* IEEE half precision, which HDF5 1.10 does not predefine. */
static hid_t half_new(void) {
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 15, 10, 5, 0, 10);
    H5Tset_size(t, 2);
    H5Tset_ebias(t, 15);
    return t;
}

hid_t h5_type_new(enum es_h5_type type, size_t string_bytes, bool in_file) {
    hid_t t;
    switch (type) {
    case ES_H5_I8:
        return H5Tcopy(in_file ? H5T_STD_I8LE : H5T_NATIVE_INT8);
    case ES_H5_U8:
        return H5Tcopy(in_file ? H5T_STD_U8LE : H5T_NATIVE_UINT8);
    case ES_H5_I16:
        return H5Tcopy(in_file ? H5T_STD_I16LE : H5T_NATIVE_INT16);
    case ES_H5_U16:
        return H5Tcopy(in_file ? H5T_STD_U16LE : H5T_NATIVE_UINT16);
    case ES_H5_I32:
        return H5Tcopy(in_file ? H5T_STD_I32LE : H5T_NATIVE_INT32);
    case ES_H5_U32:
        return H5Tcopy(in_file ? H5T_STD_U32LE : H5T_NATIVE_UINT32);
    case ES_H5_I64:
        return H5Tcopy(in_file ? H5T_STD_I64LE : H5T_NATIVE_INT64);
    case ES_H5_U64:
        return H5Tcopy(in_file ? H5T_STD_U64LE : H5T_NATIVE_UINT64);
    case ES_H5_F16:
        return half_new();
    case ES_H5_F32:
        return H5Tcopy(in_file ? H5T_IEEE_F32LE : H5T_NATIVE_FLOAT);
    case ES_H5_F64:
        return H5Tcopy(in_file ? H5T_IEEE_F64LE : H5T_NATIVE_DOUBLE);
    case ES_H5_STRING:
        t = H5Tcopy(H5T_C_S1);
        H5Tset_size(t, string_bytes ? string_bytes : H5T_VARIABLE);
        H5Tset_cset(t, H5T_CSET_UTF8);
        if (string_bytes) H5Tset_strpad(t, H5T_STR_NULLPAD);
        return t;
    default:
        return -1;
    }
}

enum es_h5_type h5_classify(hid_t type) {
    H5T_class_t class = H5Tget_class(type);
    if (class == H5T_STRING) return ES_H5_STRING;
    size_t bytes = H5Tget_size(type);
    bool is_signed = class == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_2;
    for (int t = 0; t < ES_H5_STRING; t++) {
        bool real = t == ES_H5_F16 || t == ES_H5_F32 || t == ES_H5_F64;
        bool i = t == ES_H5_I8 || t == ES_H5_I16 || t == ES_H5_I32 || t == ES_H5_I64;
        if (types[t].bytes != bytes) continue;
        if (real ? class == H5T_FLOAT : class == H5T_INTEGER && i == is_signed) return (enum es_h5_type)t;
    }
    return ES_H5_OTHER;
}

/* ---- looking */

bool es_h5_has(const struct es_h5 *f, const char *name) {
    if (strcmp(name, "/") == 0) return true;
    char part[1024]; /* H5Lexists wants every group on the way to exist */
    for (const char *c = name + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        snprintf(part, sizeof part, "%.*s", (int)(c - name), name);
        if (H5Lexists(f->file, part, H5P_DEFAULT) <= 0) return false;
        if (*c == 0) return true;
    }
}

static int data_open(const struct es_h5 *f, const char *name, hid_t *d, struct es_err *err) {
    *d = H5Dopen2(f->file, name, H5P_DEFAULT);
    if (*d >= 0) return 0;
    if (!es_h5_has(f, name)) return es_err_set(err, ES_EDATA, "%s:%s: no such data set", f->path, name);
    *d = H5Dopen2(f->file, name, H5P_DEFAULT); /* again: for its reason */
    if (*d >= 0) return 0;
    return h5_error(err, ES_EDATA, f->path, name, "cannot be opened as a data set");
}

static int64_t direct_offset(const struct es_h5 *f, hid_t d, hid_t type, int64_t bytes) {
    hid_t dcpl = H5Dget_create_plist(d);
    bool contiguous = H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_nfilters(dcpl) == 0 &&
                      H5Pget_external_count(dcpl) == 0;
    H5Pclose(dcpl);
    H5T_order_t order = H5Tget_order(type), native = H5Tget_order(H5T_NATIVE_INT);
    haddr_t at = contiguous ? H5Dget_offset(d) : HADDR_UNDEF;
    struct stat st;
    if (at == HADDR_UNDEF || (order != native && order != H5T_ORDER_NONE)) return -1;
    if (stat(f->now, &st) != 0 || st.st_size < (int64_t)at + bytes) return -1;
    return (int64_t)at;
}

/* All but the offset. */
static int data_info(const struct es_h5 *f, hid_t d, const char *name, struct es_h5_info *info,
                     struct es_err *err) {
    hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    hsize_t dim[H5S_MAX_RANK];
    int rc = 0, ndim = H5Sget_simple_extent_dims(space, dim, NULL);
    *info = (struct es_h5_info){.type = h5_classify(type), .ndim = ndim, .n = 1, .offset = -1};
    if (ndim < 0 || ndim > ES_H5_MAX_DIMS) {
        rc = es_err_set(err, ES_EDATA, "%s:%s: %d dimensions, want at most %d", f->path, name, ndim,
                        ES_H5_MAX_DIMS);
    } else {
        for (int i = 0; i < ndim; i++) info->n *= info->dim[i] = (int64_t)dim[i];
        if (H5Sget_simple_extent_type(space) == H5S_NULL) info->n = 0;
        info->item_bytes =
            H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0 ? 0 : H5Tget_size(type);
    }
    H5Sclose(space);
    H5Tclose(type);
    return rc;
}

int es_h5_info(const struct es_h5 *f, const char *name, struct es_h5_info *info, struct es_err *err) {
    hid_t d;
    ES_TRY(data_open(f, name, &d, err));
    int rc = data_info(f, d, name, info, err);
    if (rc == 0 && info->item_bytes && info->n) {
        hid_t type = H5Dget_type(d);
        info->offset = direct_offset(f, d, type, info->n * (int64_t)info->item_bytes);
        H5Tclose(type);
    }
    H5Dclose(d);
    return rc;
}

int64_t es_h5_offset_all(const struct es_h5 *f, const char *name) {
    hid_t d = f->file >= 0 ? H5Dopen2(f->file, name, H5P_DEFAULT) : -1;
    haddr_t at = d >= 0 ? H5Dget_offset(d) : HADDR_UNDEF;
    int64_t offset = at == HADDR_UNDEF ? -1 : (int64_t)at;
    if (d >= 0) H5Dclose(d);
    if (f->comm) es_comm_bcast_all(f->comm, &offset, sizeof offset, 0);
    return offset;
}

/* ---- names */

void es_h5_names_free(struct es_h5_names *names) {
    es_free(&names->name);
    es_free(&names->block);
    names->n = 0;
}

/* Two passes over anything that yields names: count, then fill. */
struct collector {
    hid_t group;
    H5O_type_t want;
    int64_t n;
    size_t bytes;
    struct es_h5_names *out; /* NULL in the first pass */
};

static void collect(struct collector *c, const char *name) {
    size_t n = strlen(name) + 1;
    if (c->out) {
        c->out->name[c->n] = (char *)c->out->block + c->bytes;
        memcpy(c->out->name[c->n], name, n);
    }
    c->n++;
    c->bytes += n;
}

static int names_new(struct es_h5_names *names, const struct collector *counted, struct es_err *err) {
    names->n = counted->n;
    names->name = es_alloc((size_t)counted->n, sizeof *names->name, err);
    names->block = es_alloc(counted->bytes, 1, err);
    return names->name && names->block ? 0 : -ES_EIO;
}

static herr_t on_link(hid_t group, const char *name, const H5L_info_t *info, void *data) {
    struct collector *c = data;
    H5O_info_t o;
    (void)info;
    if (H5Oget_info_by_name(group, name, &o, H5P_DEFAULT) >= 0 && o.type == c->want) collect(c, name);
    return 0;
}

static herr_t on_object(hid_t group, const char *name, const H5O_info_t *info, void *data) {
    (void)group;
    struct collector *c = data;
    if (info->type == c->want) collect(c, name);
    return 0;
}

static int list(const struct es_h5 *f, const char *group, bool recursive, H5O_type_t want,
                struct es_h5_names *names, struct es_err *err) {
    *names = (struct es_h5_names){0};
    hid_t g = es_h5_has(f, group) ? H5Gopen2(f->file, group, H5P_DEFAULT) : -1;
    if (g < 0) return es_err_set(err, ES_EDATA, "%s:%s: no such group", f->path, group);
    int rc = 0;
    hid_t gcpl = H5Gget_create_plist(g);
    unsigned order = 0;
    H5Pget_link_creation_order(gcpl, &order);
    H5Pclose(gcpl);
    for (int pass = 0; pass < 2 && rc == 0; pass++) {
        struct collector c = {.group = g, .want = want, .out = pass ? names : NULL};
        herr_t ok = recursive
                        ? H5Ovisit(g, H5_INDEX_NAME, H5_ITER_INC, on_object, &c)
                        : H5Literate(g, order & H5P_CRT_ORDER_INDEXED ? H5_INDEX_CRT_ORDER : H5_INDEX_NAME,
                                     H5_ITER_INC, NULL, on_link, &c);
        if (ok < 0) {
            rc = h5_error(err, ES_EDATA, f->path, group, "cannot be listed");
        } else if (pass == 0) {
            rc = names_new(names, &c, err);
        }
    }
    H5Gclose(g);
    if (rc < 0) es_h5_names_free(names);
    return rc;
}

int es_h5_list(const struct es_h5 *f, const char *group, bool recursive, struct es_h5_names *names,
               struct es_err *err) {
    return list(f, group, recursive, H5O_TYPE_DATASET, names, err);
}

int es_h5_list_groups(const struct es_h5 *f, const char *group, struct es_h5_names *names,
                      struct es_err *err) {
    return list(f, group, false, H5O_TYPE_GROUP, names, err);
}

static herr_t on_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
    (void)object;
    (void)info;
    collect(data, name);
    return 0;
}

int es_h5_attr_list(const struct es_h5 *f, const char *object, struct es_h5_names *names,
                    struct es_err *err) {
    *names = (struct es_h5_names){0};
    if (!es_h5_has(f, object)) return es_err_set(err, ES_EDATA, "%s:%s: no such object", f->path, object);
    int rc = 0;
    for (int pass = 0; pass < 2 && rc == 0; pass++) {
        struct collector c = {.out = pass ? names : NULL};
        if (H5Aiterate_by_name(f->file, object, H5_INDEX_NAME, H5_ITER_INC, NULL, on_attribute, &c,
                               H5P_DEFAULT) < 0)
            rc = h5_error(err, ES_EDATA, f->path, object, "cannot list the attributes");
        else if (pass == 0)
            rc = names_new(names, &c, err);
    }
    if (rc < 0) es_h5_names_free(names);
    return rc;
}

/* ---- reading */

/* Selects rows row0.. of the file space; a scalar has one row. */
static hid_t select_rows(hid_t space, int64_t row0, int64_t n) {
    hsize_t dim[H5S_MAX_RANK], start[H5S_MAX_RANK] = {0};
    int ndim = H5Sget_simple_extent_dims(space, dim, NULL);
    if (n == 0) {
        H5Sselect_none(space);
        return H5Scopy(space);
    }
    if (ndim == 0) return H5Scopy(space);
    start[0] = (hsize_t)row0;
    dim[0] = (hsize_t)n;
    H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dim, NULL);
    return H5Screate_simple(ndim, dim, NULL);
}

static int64_t n_rows(const struct es_h5_info *info) {
    return info->ndim ? info->dim[0] : 1;
}

static int64_t rows_per_call(int64_t rows, int64_t elements, size_t item_bytes) {
    int64_t row_bytes = rows > 0 ? elements / rows * (int64_t)item_bytes : 1;
    int64_t per = H5_MAX_TRANSFER / (row_bytes > 0 ? row_bytes : 1);
    return per > 0 ? per : 1;
}

static int read_rows(const struct es_h5 *f, hid_t d, const char *name, const struct es_h5_info *info,
                     enum es_h5_type type, int64_t row0, int64_t n, void *out, struct es_err *err) {
    if (info->type == ES_H5_STRING || info->type == ES_H5_OTHER || !types[type].bytes)
        return es_err_set(err, ES_EDATA, "%s:%s: type %s, want %s", f->path, name, types[info->type].name,
                          types[type].name);
    if (row0 < 0 || n < 0 || row0 + n > n_rows(info))
        return es_err_set(err, ES_EDATA, "%s:%s: rows %lld..%lld asked for, it has %lld", f->path, name,
                          (long long)row0, (long long)(row0 + n), (long long)n_rows(info));
    int64_t per = rows_per_call(n_rows(info), info->n, types[type].bytes);
    size_t row_bytes = n_rows(info) ? (size_t)(info->n / n_rows(info)) * types[type].bytes : 0;
    hid_t mem_type = h5_type_new(type, 0, false);
    int rc = 0;
    for (int64_t at = 0; at < n && rc == 0; at += per) {
        int64_t now = n - at < per ? n - at : per;
        hid_t space = H5Dget_space(d), mem = select_rows(space, row0 + at, now);
        bool fault = es_fault_hit("read");
        if (fault || H5Dread(d, mem_type, mem, space, H5P_DEFAULT, (char *)out + (size_t)at * row_bytes) < 0)
            rc = h5_error(err, ES_EIO, f->path, name, fault ? "cannot read (injected fault)" : "cannot read");
        H5Sclose(mem);
        H5Sclose(space);
    }
    H5Tclose(mem_type);
    return rc;
}

int es_h5_read_rows(const struct es_h5 *f, const char *name, enum es_h5_type type, int64_t row0, int64_t n,
                    void *out, struct es_err *err) {
    hid_t d;
    struct es_h5_info info;
    ES_TRY(data_open(f, name, &d, err));
    int rc = data_info(f, d, name, &info, err);
    if (rc == 0) rc = read_rows(f, d, name, &info, type, row0, n, out, err);
    H5Dclose(d);
    return rc;
}

int es_h5_read(const struct es_h5 *f, const char *name, enum es_h5_type type, int64_t n, void *out,
               struct es_err *err) {
    hid_t d;
    struct es_h5_info info;
    ES_TRY(data_open(f, name, &d, err));
    int rc = data_info(f, d, name, &info, err);
    if (rc == 0 && info.n != n)
        rc = es_err_set(err, ES_EDATA, "%s:%s: %lld elements, want %lld", f->path, name, (long long)info.n,
                        (long long)n);
    if (rc == 0 && n > 0) rc = read_rows(f, d, name, &info, type, 0, n_rows(&info), out, err);
    H5Dclose(d);
    return rc;
}

int es_h5_read_new(const struct es_h5 *f, const char *name, enum es_h5_type type, void **out,
                   struct es_h5_info *info, struct es_err *err) {
    hid_t d;
    struct es_h5_info own;
    if (!info) info = &own;
    *out = NULL;
    ES_TRY(data_open(f, name, &d, err));
    int rc = data_info(f, d, name, info, err);
    if (rc == 0 && !(*out = es_alloc((size_t)info->n, types[type].bytes, err))) rc = -ES_EIO;
    if (rc == 0 && info->n > 0) rc = read_rows(f, d, name, info, type, 0, n_rows(info), *out, err);
    if (rc < 0) es_free(out);
    H5Dclose(d);
    return rc;
}

static herr_t read_data(hid_t d, hid_t type, void *out) {
    return H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out);
}

int h5_read_strings(const struct es_h5 *f, hid_t object, hid_t space, hid_t type, h5_read_fn read,
                    const char *name, struct es_h5_names *names, struct es_err *err) {
    *names = (struct es_h5_names){0};
    if (H5Tget_class(type) != H5T_STRING)
        return es_err_set(err, ES_EDATA, "%s:%s: type %s, want strings", f->path, name,
                          types[h5_classify(type)].name);
    int rc = 0;
    hssize_t n = H5Sget_simple_extent_npoints(space);
    bool variable = H5Tis_variable_str(type) > 0;
    size_t width = variable ? sizeof(char *) : H5Tget_size(type);
    hid_t mem = H5Tcopy(type);
    if (!variable)
        H5Tset_strpad(mem, H5T_STR_NULLPAD); /* blanks at the end are padding where the file says so */
    void *raw = es_alloc((size_t)n, width, err);
    char **pointers = raw, *text = raw;
    size_t bytes = 0;
    if (!raw) ES_GO(-ES_EIO);
    if (n > 0 && read(object, mem, raw) < 0) ES_GO(h5_error(err, ES_EDATA, f->path, name, "cannot read"));
    for (hssize_t i = 0; i < n; i++)
        bytes +=
            (variable ? pointers[i] ? strlen(pointers[i]) : 0 : strnlen(text + (size_t)i * width, width)) + 1;
    names->name = es_alloc((size_t)n, sizeof *names->name, err);
    names->block = es_alloc(bytes, 1, err);
    if (!names->name || !names->block) ES_GO(-ES_EIO);
    names->n = n;
    char *at = names->block;
    for (hssize_t i = 0; i < n; i++) {
        const char *s = variable ? pointers[i] ? pointers[i] : "" : text + (size_t)i * width;
        size_t len = variable ? strlen(s) : strnlen(s, width);
        memcpy(at, s, len);
        names->name[i] = at;
        at += len + 1;
    }
done:
    if (raw && variable && n > 0) H5Dvlen_reclaim(mem, space, H5P_DEFAULT, raw);
    es_free(&raw);
    H5Tclose(mem);
    if (rc < 0) es_h5_names_free(names);
    return rc;
}

int es_h5_read_strings(const struct es_h5 *f, const char *name, struct es_h5_names *names,
                       struct es_err *err) {
    hid_t d;
    *names = (struct es_h5_names){0};
    ES_TRY(data_open(f, name, &d, err));
    hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    int rc = h5_read_strings(f, d, space, type, read_data, name, names, err);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
    return rc;
}

int es_h5_read_bytes(const struct es_h5 *f, const char *name, int64_t row, void **out, size_t *n,
                     struct es_err *err) {
    hid_t d, mem = -1, type = -1;
    struct es_h5_info info;
    hvl_t bytes = {0};
    *out = NULL;
    *n = 0;
    ES_TRY(data_open(f, name, &d, err));
    int rc = data_info(f, d, name, &info, err);
    hid_t space = H5Dget_space(d), file_type = H5Dget_type(d);
    if (rc < 0) goto done;
    if (H5Tget_class(file_type) != H5T_VLEN || info.ndim != 1)
        ES_GO(es_err_set(err, ES_EDATA, "%s:%s: want a list of variable-length bytes", f->path, name));
    if (row < 0 || row >= info.dim[0])
        ES_GO(es_err_set(err, ES_EDATA, "%s:%s: row %lld asked for, it has %lld", f->path, name,
                         (long long)row, (long long)info.dim[0]));
    type = H5Tvlen_create(H5T_NATIVE_UINT8);
    mem = select_rows(space, row, 1);
    if (H5Dread(d, type, mem, space, H5P_DEFAULT, &bytes) < 0)
        ES_GO(h5_error(err, ES_EIO, f->path, name, "cannot read"));
    *n = bytes.len;
    *out = es_alloc(bytes.len, 1, err);
    if (!*out)
        rc = -ES_EIO;
    else if (bytes.len)
        memcpy(*out, bytes.p, bytes.len);
    H5Dvlen_reclaim(type, mem, H5P_DEFAULT, &bytes);
done:
    if (mem >= 0) H5Sclose(mem);
    if (type >= 0) H5Tclose(type);
    H5Tclose(file_type);
    H5Sclose(space);
    H5Dclose(d);
    return rc;
}

/* ---- writing */

/* Only rank 0 describes; false on the others, and after a failure. */
static bool describing(const struct es_h5 *f) {
    ES_ASSERT(f->phase == H5_DESCRIBING);
    return f->file >= 0 && !f->skip;
}

void es_h5_group_all(struct es_h5 *f, const char *name) {
    if (!describing(f)) return;
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), gcpl = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_create_intermediate_group(lcpl, 1);
    H5Pset_link_creation_order(gcpl, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    hid_t g = H5Gcreate2(f->file, name, lcpl, gcpl, H5P_DEFAULT);
    if (g < 0)
        h5_stick(f, name, "cannot create the group");
    else
        H5Gclose(g);
    H5Pclose(gcpl);
    H5Pclose(lcpl);
}

static hid_t make(struct es_h5 *f, const char *name, enum es_h5_type type, size_t string_bytes, int ndim,
                  const int64_t *dim) {
    ES_ASSERT(ndim >= 0 && ndim <= ES_H5_MAX_DIMS);
    if (!describing(f)) return -1;
    hsize_t size[ES_H5_MAX_DIMS];
    for (int i = 0; i < ndim; i++) size[i] = (hsize_t)dim[i];
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), dcpl = H5Pcreate(H5P_DATASET_CREATE),
          t = h5_type_new(type, string_bytes, true);
    hid_t space = ndim ? H5Screate_simple(ndim, size, NULL) : H5Screate(H5S_SCALAR);
    H5Pset_create_intermediate_group(lcpl, 1);
    H5Pset_layout(dcpl, H5D_CONTIGUOUS);
    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    hid_t d = H5Dcreate2(f->file, name, t, space, lcpl, dcpl, H5P_DEFAULT);
    if (d < 0) h5_stick(f, name, "cannot create the data set");
    H5Sclose(space);
    H5Tclose(t);
    H5Pclose(dcpl);
    H5Pclose(lcpl);
    return d;
}

void es_h5_make_all(struct es_h5 *f, const char *name, enum es_h5_type type, int ndim, const int64_t *dim) {
    hid_t d = make(f, name, type, 0, ndim, dim);
    if (d >= 0) H5Dclose(d);
}

/* One call of at most H5_MAX_TRANSFER bytes; n = 0 takes part with an empty selection. */
static void write_slab(struct es_h5 *f, hid_t d, const char *name, hid_t mem_type, int64_t row0, int64_t n,
                       const void *data, hid_t dxpl) {
    bool fault = n > 0 && es_fault_hit("h5write");
    if (fault) {
        struct es_err e;
        es_err_set(&e, ES_EIO, "%s:%s: cannot write (injected fault)", f->now, name);
        es_h5_fail(f, &e);
        n = 0;
    }
    hid_t space = H5Dget_space(d), mem = select_rows(space, row0, n);
    static const char nothing = 0;
    if (H5Dwrite(d, mem_type, mem, space, dxpl, data ? data : &nothing) < 0)
        h5_stick(f, name, "cannot write");
    H5Sclose(mem);
    H5Sclose(space);
}

void es_h5_write_rows_all(struct es_h5 *f, const char *name, enum es_h5_type type, int64_t row0, int64_t n,
                          const void *data) {
    ES_ASSERT(f->phase == H5_SHARED || (f->phase == H5_DESCRIBING && (f->rank == 0 || n == 0)));
    if (f->skip || (f->phase == H5_DESCRIBING && f->rank > 0)) return;
    hid_t d = f->file >= 0 ? H5Dopen2(f->file, name, H5P_DEFAULT) : -1;
    struct es_h5_info info = {0};
    struct es_err e;
    int64_t per = 1, vote = INT64_MAX;
    if (d < 0) {
        h5_stick(f, name, "cannot be opened as a data set");
    } else if (data_info(f, d, name, &info, &e) < 0) {
        es_h5_fail(f, &e);
    } else {
        ES_ASSERT(n >= 0 && (n == 0 || (row0 >= 0 && row0 + n <= n_rows(&info))));
        per = rows_per_call(n_rows(&info), info.n, types[type].bytes);
    }
    if (f->first.code == 0) vote = (n + per - 1) / per;
    bool shared = f->phase == H5_SHARED && f->comm;
    if (shared) vote = es_comm_max_all(f->comm, vote); /* calls all ranks take part in, or: somebody failed */
    if (vote == INT64_MAX) {
        f->skip = shared; /* all ranks know; else they learn it at the next agreement */
    } else {
        size_t row_bytes = n_rows(&info) ? (size_t)(info.n / n_rows(&info)) * types[type].bytes : 0;
        hid_t mem_type = h5_type_new(type, 0, false);
        for (int64_t call = 0; call < vote; call++) {
            int64_t at = call * per < n ? call * per : n, now = n - at < per ? n - at : per;
            write_slab(f, d, name, mem_type, row0 + at, now,
                       data ? (const char *)data + (size_t)at * row_bytes : NULL, f->dxpl);
        }
        H5Tclose(mem_type);
    }
    if (d >= 0) H5Dclose(d);
}

static void put(struct es_h5 *f, const char *name, enum es_h5_type type, size_t string_bytes, int ndim,
                const int64_t *dim, const void *data) {
    hid_t d = make(f, name, type, string_bytes, ndim, dim);
    int64_t rows = ndim ? dim[0] : 1, n = 1;
    for (int i = 0; i < ndim; i++) n *= dim[i];
    size_t item = string_bytes ? string_bytes : types[type].bytes;
    if (d >= 0 && n > 0) {
        hid_t mem_type = h5_type_new(type, string_bytes, false);
        int64_t per = rows_per_call(rows, n, item);
        for (int64_t at = 0; at < rows; at += per)
            write_slab(f, d, name, mem_type, at, rows - at < per ? rows - at : per,
                       (const char *)data + (size_t)(at * (n / rows)) * item, H5P_DEFAULT);
        H5Tclose(mem_type);
    }
    if (d >= 0) H5Dclose(d);
}

void es_h5_put_all(struct es_h5 *f, const char *name, enum es_h5_type type, int ndim, const int64_t *dim,
                   const void *data) {
    put(f, name, type, 0, ndim, dim, data);
}

char *h5_pack_strings(struct es_h5 *f, int64_t n, const char *const *strings, size_t *width) {
    *width = 1;
    for (int64_t i = 0; i < n; i++)
        if (strlen(strings[i]) > *width) *width = strlen(strings[i]);
    struct es_err e = {0};
    char *packed = es_alloc((size_t)n, *width, &e);
    if (!packed) es_h5_fail(f, &e);
    for (int64_t i = 0; packed && i < n; i++)
        memcpy(packed + (size_t)i * *width, strings[i], strlen(strings[i]));
    return packed;
}

void es_h5_put_strings_all(struct es_h5 *f, const char *name, int64_t n, const char *const *strings) {
    size_t width;
    if (!describing(f)) return;
    char *packed = h5_pack_strings(f, n, strings, &width);
    if (packed) put(f, name, ES_H5_STRING, width, 1, &n, packed);
    es_free(&packed);
}

void es_h5_put_text_all(struct es_h5 *f, const char *name, const char *text) {
    size_t n = strlen(text);
    put(f, name, ES_H5_STRING, n ? n : 1, 0, NULL, text);
}
