/* Import of an image network as fPaSST's start (deit.h). What it cannot give, the first convolutions, is random: of run.seed. */
#include <stdio.h>
#include <string.h>

#include "earshot/deit.h"
#include "earshot/mem.h"

#include "weights_impl.h"

#define MAX_ELEMENTS ((int64_t)1 << 24) /* of one tensor */

struct source {
    struct es_tensorfile *file;
    const struct es_value *dict;
    float *buffer;
    struct es_err err; /* why a tensor could not be read */
};

static const float *get(void *ctx, const char *name, int *ndim, int64_t shape[ES_MAX_DIM]) {
    struct source *s = ctx;
    const struct es_value *v = es_value_get(s->dict, name);
    if (!v || v->kind != ES_VALUE_TENSOR || v->view->dtype != ES_DTYPE_F32 || v->view->ndim > ES_MAX_DIM ||
        v->view->n > MAX_ELEMENTS)
        return NULL;
    *ndim = v->view->ndim;
    memcpy(shape, v->view->shape, (size_t)*ndim * sizeof *shape);
    es_free(&s->buffer);
    s->buffer = es_alloc((size_t)v->view->n, sizeof *s->buffer, &s->err);
    if (!s->buffer || es_tensorfile_read(s->file, v->view, s->buffer, &s->err) < 0) return NULL;
    int64_t at = weights_first_bad(ES_DTYPE_F32, s->buffer, v->view->n);
    if (at < 0) return s->buffer;
    es_err_set(&s->err, ES_EDATA, "%s: %s not finite (element %lld of %lld)", es_tensorfile_path(s->file),
               name, (long long)at, (long long)v->view->n);
    return NULL;
}

static int write_params(const struct es_weights_import_params *p, const struct es_net *net,
                        struct es_params *params, struct es_weights_summary *s, struct es_err *err) {
    struct es_h5 *out = NULL;
    int rc = p->check ? 0 : weights_create(&out, p, err);
    for (int i = 0; i < es_params_count(params) && rc == 0; i++) {
        const struct es_param *e = es_params_at(params, i);
        if (es_net_part(net, e->name) != ES_PART_TRANSFORMER) continue;
        s->entries++;
        s->parameters += e->n;
        if (out)
            es_h5_put_all(out, e->name + strlen("as_model."), ES_H5_F32, e->ndim, e->shape,
                          es_params_data(params, i));
    }
    if (rc == 0 && out) rc = es_h5_commit_all(&out, NULL, err);
    es_h5_close_all(&out);
    return rc;
}

int weights_import_deit(const struct es_weights_import_params *p, struct es_tensorfile *file,
                        const struct es_value *dict, const struct es_net_config *config,
                        struct es_weights_summary *s, struct es_err *err) {
    struct source src = {.file = file, .dict = dict};
    struct es_net_config c = *config;
    struct es_net *net = NULL;
    struct es_params *params = NULL;
    int rc = 0;
    c.pretrain = c.wrapper = false; /* names as in es_import_add_net */
    ES_GO(es_params_new(&params, err));
    ES_GO(es_net_new(&net, &c, params, err));
    ES_GO(es_params_layout(params, err));
    es_params_init(params, (uint64_t)es_config_i64(p->config, "run.seed"));
    rc = es_fpasst_from_deit(params, "as_model.", get, &src, err);
    if (rc < 0) {
        if (src.err.code)
            *err = src.err;
        else
            es_err_prefix(err, "%s", p->from);
        rc = -err->code;
        goto done;
    }
    rc = write_params(p, net, params, s, err);
done:
    es_free(&src.buffer);
    es_net_free(&net);
    es_params_free(&params);
    return rc;
}
