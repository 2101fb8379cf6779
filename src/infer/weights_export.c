/* Export of weights and checkpoints for PyTorch. */
#include <stdio.h>
#include <string.h>

#include "earshot/ckpt.h"
#include "earshot/mem.h"
#include "earshot/tensorfile.h"
#include "weights_impl.h"

struct export {
    struct es_h5 *f;
    char group[16];
    struct es_h5_names names;
    struct es_tensor_entry *entry;
    char(*alias)[120]; /* names of aliases that the file does not hold itself */
    int n, n_aliases;
};

static void entry_path(const struct export *x, const char *name, char path[256]) {
    snprintf(path, 256, "%s%s", x->group, name);
}

static int find(const struct export *x, const char *name) {
    for (int i = 0; i < x->n; i++)
        if (strcmp(x->entry[i].name, name) == 0) return i;
    return -1;
}

static int add_entry(struct export *x, const char *name, struct es_err *err) {
    char path[256], of[160] = "";
    struct es_h5_info info;
    entry_path(x, name, path);
    ES_TRY(es_h5_info(x->f, path, &info, err));
    int type = weights_dtype(x->f, path, &info);
    if (type < 0 || info.ndim > ES_VIEW_MAX_DIM)
        return es_err_set(err, ES_EDATA, "%s:%s: type %s of %d dimensions is not of a weight",
                          es_h5_path(x->f), path, es_h5_type_name(info.type), info.ndim);
    struct es_tensor_entry *e = &x->entry[x->n];
    *e = (struct es_tensor_entry){
        .name = name, .dtype = (enum es_dtype)type, .ndim = info.ndim, .alias_of = -1};
    memcpy(e->shape, info.dim, (size_t)info.ndim * sizeof *e->shape);
    if (es_import_is_counter(name)) e->dtype = ES_DTYPE_I64; /* float32 in checkpoints */
    if (es_h5_attr_has(x->f, path, "alias_of")) {
        ES_TRY(es_h5_attr_get_text(x->f, path, "alias_of", of, sizeof of, err));
        e->alias_of = find(x, of);
        const struct es_tensor_entry *first = e->alias_of >= 0 ? &x->entry[e->alias_of] : NULL;
        if (!first || first->alias_of >= 0 || first->dtype != e->dtype || first->ndim != e->ndim ||
            memcmp(first->shape, e->shape, sizeof e->shape) != 0)
            return es_err_set(err, ES_EDATA, "%s:%s: alias_of %s, which is not an entry like it before it",
                              es_h5_path(x->f), path, of);
    }
    x->n++;
    return 0;
}

/* The names under which public code knows a shared tensor, where the file has it once. */
static void add_alias(struct export *x, const char *behind) {
    char alias[120], of[120], path[256];
    if (!es_import_alias_after(behind, alias, of)) return;
    int first = find(x, of);
    entry_path(x, alias, path);
    if (first < 0 || es_h5_has(x->f, path)) return;
    char *name = x->alias[x->n_aliases++];
    snprintf(name, 120, "%s", alias);
    x->entry[x->n] = x->entry[first];
    x->entry[x->n].name = name;
    x->entry[x->n++].alias_of = first;
}

static int fill(void *arg, int i, void *out, struct es_err *err) {
    struct export *x = arg;
    const struct es_tensor_entry *e = &x->entry[i];
    char path[256];
    int64_t n = 1;
    for (int d = 0; d < e->ndim; d++) n *= e->shape[d];
    const struct es_tensor_entry *from = e->alias_of >= 0 ? &x->entry[e->alias_of] : e;
    entry_path(x, from->name, path);
    return es_h5_read(x->f, path, weights_h5_type(e->dtype), n, out, err);
}

static int open_source(struct export *x, const char *from, const char *which, struct es_err *err) {
    char kind[32] = "";
    struct es_ckpt_meta meta;
    ES_TRY(es_h5_open(&x->f, from, NULL, 0, err));
    if (es_h5_attr_has(x->f, "/", "earshot_kind"))
        ES_TRY(es_h5_attr_get_text(x->f, "/", "earshot_kind", kind, sizeof kind, err));
    if (strcmp(kind, "weights") == 0) {
        if (which)
            return es_err_set(err, ES_EUSAGE, "--which %s: %s holds one network; leave the option out", which,
                              from);
        snprintf(x->group, sizeof x->group, "/");
        return 0;
    }
    if (strcmp(kind, "checkpoint") != 0)
        return es_err_set(err, ES_EDATA, "%s: got %s, want weights or a checkpoint", from,
                          kind[0] ? kind : "an HDF5 file of another program");
    ES_TRY(es_ckpt_read_meta(from, &meta, NULL, err)); /* whole? */
    snprintf(x->group, sizeof x->group, "/%s/", which ? which : "student");
    if (es_h5_has(x->f, which ? which : "student")) return 0;
    return es_err_set(err, ES_EDATA, "%s: has no %s", from, which ? which : "student");
}

static int export_local(const char *from, const char *to, const char *which, bool check,
                        struct es_weights_summary *s, struct es_err *err) {
    struct export x = {0};
    int rc = 0;
    ES_GO(open_source(&x, from, which, err));
    ES_GO(es_h5_list(x.f, x.group, false, &x.names, err));
    x.entry = es_alloc(2 * (size_t)x.names.n, sizeof *x.entry, err);
    x.alias = es_alloc((size_t)x.names.n, sizeof *x.alias, err);
    if (!x.entry || !x.alias) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < x.names.n; i++) {
        ES_GO(add_entry(&x, x.names.name[i], err));
        add_alias(&x, x.names.name[i]);
    }
    if (x.n == 0) ES_GO(es_err_set(err, ES_EDATA, "%s: no entries", from));
    if (!check) ES_GO(es_tensorfile_write(to, x.n, x.entry, fill, &x, err));
    s->entries = x.n;
    for (int i = 0; i < x.n; i++) {
        int64_t n = x.entry[i].alias_of >= 0 || es_import_is_counter(x.entry[i].name) ? 0 : 1;
        for (int d = 0; d < x.entry[i].ndim; d++) n *= x.entry[i].shape[d];
        s->parameters += n;
    }
done:
    es_free(&x.alias);
    es_free(&x.entry);
    es_h5_names_free(&x.names);
    es_h5_close(&x.f);
    return rc;
}

int es_weights_export_all(const struct es_comm *c, const char *from, const char *to, const char *which,
                          bool check, struct es_weights_summary *s, struct es_err *err) {
    *s = (struct es_weights_summary){0};
    int rc = es_comm_rank(c) == 0 ? export_local(from, to, which, check, s, err) : 0;
    return es_err_agree_all(c, rc, err);
}
