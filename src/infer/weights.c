/* Import of public checkpoints into weights files. */
#include "earshot/weights.h"

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/tensorfile.h"

#include "weights_impl.h"

/* ---- types */
static const struct {
    enum es_dtype dtype;
    enum es_h5_type h5;
    uint64_t exponent; /* its bits: all of them set is infinite or NaN */
} types[] = {
    {ES_DTYPE_F32, ES_H5_F32, 0x7F800000}, {ES_DTYPE_F64, ES_H5_F64, 0x7FF0000000000000},
    {ES_DTYPE_F16, ES_H5_F16, 0x7C00},     {ES_DTYPE_BF16, ES_H5_U16, 0x7F80},
    {ES_DTYPE_I64, ES_H5_I64, 0},
};
#define N_TYPES (sizeof types / sizeof *types)

enum es_h5_type weights_h5_type(enum es_dtype t) {
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].dtype == t) return types[i].h5;
    return ES_H5_OTHER;
}

int weights_dtype(const struct es_h5 *f, const char *path, const struct es_h5_info *info) {
    if (es_h5_attr_has(f, path, "torch_dtype")) return info->type == ES_H5_U16 ? (int)ES_DTYPE_BF16 : -1;
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].h5 == info->type && types[i].dtype != ES_DTYPE_BF16) return (int)types[i].dtype;
    return -1;
}

int es_weights_read(const struct es_h5 *f, const char *path, int64_t n, float *out, struct es_err *err) {
    if (!es_h5_attr_has(f, path, "torch_dtype")) return es_h5_read(f, path, ES_H5_F32, n, out, err);
    uint16_t *bits = es_alloc((size_t)n, sizeof *bits, err);
    if (!bits) return -ES_EIO;
    int rc = es_h5_read(f, path, ES_H5_U16, n, bits, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        uint32_t wide = (uint32_t)bits[i] << 16;
        memcpy(&out[i], &wide, sizeof wide);
    }
    es_free(&bits);
    return rc;
}

int64_t weights_first_bad(enum es_dtype t, const void *data, int64_t n) {
    size_t size = es_dtype_bytes(t);
    uint64_t exponent = 0;
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].dtype == t) exponent = types[i].exponent;
    for (int64_t i = 0; exponent && i < n; i++) {
        uint64_t bits = 0;
        memcpy(&bits, (const char *)data + (size_t)i * size, size); /* little-endian */
        if ((bits & exponent) == exponent) return i;
    }
    return -1;
}

/* ---- import */
struct import {
    const struct es_weights_import_params *p;
    struct es_tensorfile *file;
    struct es_import *im;
    struct es_h5 *out;
    void *buffer, *other;
};

/* model.arch as the file has it and, where nobody set them, what the published recipe pairs with it. */
static int settle_config(const struct import *w, struct es_err *err) {
    struct es_config *cfg = w->p->config;
    char set[64];
    snprintf(set, sizeof set, "model.arch=%s",
             w->im->alone ? "none" : es_import_model_name((enum es_import_model)w->im->arch));
    ES_TRY(es_config_set(cfg, set, err));
    if (w->im->model == ES_IMPORT_SED) {
        ES_TRY(es_config_set(cfg, w->im->wrapper ? "model.wrapper=true" : "model.wrapper=false", err));
        if (es_config_is(cfg, "phase", "pretrain")) ES_TRY(es_config_set(cfg, "phase=stage2", err));
        if (w->im->arch != ES_ARCH_ATST && strcmp(es_config_where(cfg, "crnn.embed_pool"), "default") == 0)
            ES_TRY(es_config_set(cfg, "crnn.embed_pool=nearest-exact", err));
    }
    return es_config_finish(cfg, err);
}

static int read_entry(struct import *w, const struct es_import_entry *e, void *buffer, struct es_err *err) {
    char detail[80];
    ES_TRY(es_tensorfile_read(w->file, e->view, buffer, err));
    int64_t at = weights_first_bad(e->view->dtype, buffer, e->view->n);
    if (at < 0) return 0;
    snprintf(detail, sizeof detail, "element %lld of %lld", (long long)at, (long long)e->view->n);
    return es_import_note(w->im, ES_IMPORT_NOT_FINITE, e->name, detail, err);
}

/* An alias has its own data in the file only if the source was saved without sharing: then they must be equal. */
static int check_alias(struct import *w, const struct es_import_entry *e, const struct es_import_entry *of,
                       struct es_err *err) {
    if (es_view_same(e->view, of->view)) return 0;
    if (e->view->dtype != of->view->dtype)
        return es_import_note(w->im, ES_IMPORT_DTYPE, e->name, "shared, but of another type", err);
    ES_TRY(es_tensorfile_read(w->file, e->view, w->other, err));
    ES_TRY(es_tensorfile_read(w->file, of->view, w->buffer, err));
    if (memcmp(w->other, w->buffer, (size_t)of->view->n * es_dtype_bytes(of->view->dtype)) == 0) return 0;
    return es_import_note(w->im, ES_IMPORT_SHAPE, e->name, "differs from the first layer's, which it shares",
                          err);
}

static int new_buffers(struct import *w, struct es_err *err) {
    size_t most = 1;
    for (int i = 0; i < w->im->n; i++) {
        const struct es_view *v = w->im->entry[i].view;
        size_t bytes = v ? (size_t)v->n * es_dtype_bytes(v->dtype) : 0;
        most = bytes > most ? bytes : most;
    }
    w->buffer = es_alloc(most, 1, err);
    w->other = es_alloc(most, 1, err);
    return w->buffer && w->other ? 0 : -ES_EIO;
}

static int read_all(struct import *w, struct es_weights_summary *s, struct es_err *err) {
    ES_TRY(new_buffers(w, err));
    for (int i = 0; i < w->im->n; i++) {
        const struct es_import_entry *e = &w->im->entry[i];
        if (!e->view) continue;
        if (e->alias_of >= 0) {
            ES_TRY(check_alias(w, e, &w->im->entry[e->alias_of], err));
        } else {
            ES_TRY(read_entry(w, e, w->buffer, err));
            if (!e->counter) s->parameters += e->view->n;
        }
        s->entries++;
    }
    s->dropped = w->im->n_dropped;
    return 0;
}

int weights_create(struct es_h5 **out, const struct es_weights_import_params *p, struct es_err *err) {
    char *text = NULL;
    ES_TRY(es_config_to_yaml(p->config, &text, err));
    int rc = es_h5_create_all(out, NULL, p->out, "weights", ES_WEIGHTS_VERSION, err);
    if (rc == 0) {
        es_h5_attr_text_all(*out, "/", "model", es_import_model_name(p->model));
        es_h5_attr_text_all(*out, "/", "source", p->from);
        es_h5_attr_text_all(*out, "/", "config", text);
    }
    es_free(&text);
    return rc;
}

static int write_all(struct import *w, struct es_err *err) {
    int rc = 0;
    ES_GO(weights_create(&w->out, w->p, err));
    for (int i = 0; i < w->im->n; i++) {
        const struct es_import_entry *e = &w->im->entry[i];
        const struct es_view *v = e->view;
        if (!v) continue;
        ES_GO(es_tensorfile_read(w->file, v, w->buffer, err));
        es_h5_put_all(w->out, e->name, weights_h5_type(v->dtype), v->ndim, v->shape, w->buffer);
        if (v->dtype == ES_DTYPE_BF16) es_h5_attr_text_all(w->out, e->name, "torch_dtype", "bfloat16");
        if (e->alias_of >= 0)
            es_h5_attr_text_all(w->out, e->name, "alias_of", w->im->entry[e->alias_of].name);
    }
    rc = es_h5_commit_all(&w->out, NULL, err);
done:
    es_h5_close_all(&w->out);
    return rc;
}

static void report(const struct import *w, const struct es_weights_summary *s) {
    struct es_json *j = w->p->json;
    es_json_begin_object(j);
    es_json_put_string(j, "model", es_import_model_name(w->im->model));
    es_json_put_string(j, "from", w->p->from);
    es_json_put_string(j, "out", w->im->n_problems || w->p->check ? NULL : w->p->out);
    es_json_put_int(j, "entries", s->entries);
    es_json_put_int(j, "parameters", s->parameters);
    es_import_report(w->im, j);
    if (w->im->model == ES_IMPORT_BEATS) es_import_report_cfg(es_tensorfile_root(w->file), j);
    es_json_end_object(j);
}

static int import_local(const struct es_weights_import_params *p, struct es_weights_summary *s,
                        struct es_err *err) {
    struct import w = {.p = p};
    struct es_net_config nc;
    int rc = 0;
    ES_GO(es_tensorfile_open(&w.file, p->from, err));
    const struct es_value *root = es_tensorfile_root(w.file);
    ES_GO(es_import_new(&w.im, p->model, err));
    const struct es_value *deit = p->model == ES_IMPORT_FPASST ? es_import_find_deit(root) : NULL;
    if (!deit) ES_GO(es_import_choose(w.im, root, p->which, p->from, err));
    ES_GO(settle_config(&w, err));
    es_net_config_from(&nc, p->config, 1);
    if (deit) {
        ES_GO(weights_import_deit(p, w.file, deit, &nc, s, err));
        report(&w, s);
        s->reported = true;
        goto done;
    }
    if (p->model == ES_IMPORT_BEATS) ES_GO(es_import_check_cfg(root, &nc.transformer, p->from, err));
    ES_GO(es_import_add_net(w.im, &nc, err));
    ES_GO(es_import_match(w.im, err));
    if (w.im->n_problems == 0) ES_GO(read_all(&w, s, err));
    rc = es_import_check(w.im, p->from, err);
    if (rc == 0 && !p->check) ES_GO(write_all(&w, err));
    report(&w, s);
    s->reported = true;
done:
    es_free(&w.other);
    es_free(&w.buffer);
    es_import_free(&w.im);
    es_tensorfile_close(&w.file);
    return rc;
}

int es_weights_import_all(const struct es_comm *c, const struct es_weights_import_params *p,
                          struct es_weights_summary *s, struct es_err *err) {
    *s = (struct es_weights_summary){0};
    int rc = es_comm_rank(c) == 0 ? import_local(p, s, err) : 0;
    return es_err_agree_all(c, rc, err);
}
