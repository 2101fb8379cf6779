#include "earshot/model.h"

#include <stdio.h>
#include <string.h>

#include "earshot/ckpt.h"
#include "earshot/mem.h"
#include "earshot/weights.h"

#define SHOWN 5

/* Path of a parameter's entry in the file; false when there is none. */
static bool locate(const struct es_h5 *f, const char *group, const struct es_net *net, const char *name,
                   char *path, size_t size) {
    const char *slash = strcmp(group, "/") == 0 ? "" : "/";
    snprintf(path, size, "%s%s%s", group, slash, name);
    if (es_h5_has(f, path)) return true;
    enum es_param_part part = es_net_part(net, name);
    if (part == ES_PART_HEAD) { /* the AudioSet map, as pre-training with task4rnn or audioset left it */
        const char *bare = strstr(name, "head_linear_layer");
        snprintf(path, size, "%s%smodel.%s", group, slash, bare);
        if (es_h5_has(f, path)) return true;
        snprintf(path, size, "%s%s%s", group, slash, bare);
        return es_h5_has(f, path);
    }
    if (part != ES_PART_TRANSFORMER) return false;
    char other[160];
    for (int i = 0; es_net_other_name(net, name, i, other, sizeof other); i++) {
        snprintf(path, size, "%s%s%s", group, slash, other);
        if (es_h5_has(f, path)) return true;
    }
    return false;
}

int es_model_fill(const struct es_h5 *f, const char *group, const struct es_net *net,
                  struct es_params *params, bool all, struct es_err *err) {
    char list[640] = "";
    int wrong = 0;
    for (int i = 0; i < es_params_count(params); i++) {
        const struct es_param *p = es_params_at(params, i);
        char path[256], what[96] = "missing";
        struct es_h5_info info;
        enum es_param_part part = es_net_part(net, p->name);
        bool optional = !all && part == ES_PART_HEAD;
        if (!all && part != ES_PART_TRANSFORMER && !optional) continue;
        bool there = locate(f, group, net, p->name, path, sizeof path);
        if (!there && optional) continue;
        if (there) {
            ES_TRY(es_h5_info(f, path, &info, err));
            bool same = info.ndim == p->ndim;
            for (int d = 0; same && d < p->ndim; d++) same = info.dim[d] == p->shape[d];
            if (same) {
                ES_TRY(es_weights_read(f, path, p->n, es_params_data(params, i), err));
                continue;
            }
            snprintf(what, sizeof what, "%lld elements, want %lld", (long long)info.n, (long long)p->n);
        }
        size_t used = strlen(list);
        if (wrong++ < SHOWN)
            snprintf(list + used, sizeof list - used, "%s%s (%s)", wrong > 1 ? ", " : "", p->name, what);
    }
    if (wrong == 0) return 0;
    return es_err_set(err, ES_EDATA,
                      "%s: not a checkpoint of this model: %d entries below %s do not fit: %s%s",
                      es_h5_path(f), wrong, group, list, wrong > SHOWN ? ", ..." : "");
}

struct es_frontend_params es_model_frontend(const struct es_config *cfg) {
    int kind = es_frontend_kind_from_name(es_config_string(cfg, "model.arch"));
    if (kind < 0) kind = ES_FRONTEND_CRNN_MEL; /* model.arch none: not used */
    struct es_frontend_params p = es_frontend_params_default((enum es_frontend_kind)kind);
    p.floor_per_batch = es_config_is(cfg, "quirks.atst_floor", "batch");
    if (p.kind == ES_FRONTEND_FPASST_MEL) {
        struct es_band band = es_frontend_fpasst_band_eval(es_config_int(cfg, "frontend.fmax_range"));
        p.fmin_hz = band.fmin_hz;
        p.fmax_hz = band.fmax_hz;
    }
    return p;
}

/* Classes of a pre-training head, from the shape of its bias. */
static int pretrain_classes(const struct es_h5 *f, const char *group) {
    struct es_h5_info info;
    char path[128];
    for (int head = 0; head < ES_HEAD_NONE; head++) {
        snprintf(path, sizeof path, "/%s/%s.bias", group, es_head_strong_name((enum es_head)head));
        if (es_h5_has(f, path) && es_h5_info(f, path, &info, NULL) == 0) return (int)info.n;
    }
    return 1;
}

/* The configuration's text, and the group of the network's entries. */
static int read_source(struct es_model *m, const struct es_h5 *f, const char *which, char **text,
                       char group[32], struct es_err *err) {
    enum { MAX_TEXT = 65536 }; /* HDF5's limit for an attribute */
    struct es_ckpt_meta meta;
    char kind[32] = "", model[32] = "";
    if (es_h5_attr_has(f, "/", "earshot_kind"))
        ES_TRY(es_h5_attr_get_text(f, "/", "earshot_kind", kind, sizeof kind, err));
    if (strcmp(kind, "weights") != 0) {
        ES_TRY(es_ckpt_read_meta(m->path, &meta, text, err));
        m->step = meta.step;
        snprintf(group, 32, "/%s", which);
        return 0;
    }
    ES_TRY(es_h5_attr_get_text(f, "/", "model", model, sizeof model, err));
    if (strcmp(model, "sed") != 0)
        return es_err_set(err, ES_EDATA,
                          "%s: weights of %s alone, want a whole detector (sed) or a checkpoint", m->path,
                          model);
    if (strcmp(which, "teacher") == 0)
        return es_err_set(err, ES_EDATA, "%s: weights hold one network; leave out --which teacher", m->path);
    *text = es_alloc(MAX_TEXT, 1, err);
    snprintf(group, 32, "/");
    return *text ? es_h5_attr_get_text(f, "/", "config", *text, MAX_TEXT, err) : -ES_EIO;
}

static int open_local(struct es_model *m, const char *which, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_net_config nc;
    char *text = NULL, group[32];
    int rc = 0;
    ES_GO(es_h5_open(&f, m->path, NULL, 0, err));
    ES_GO(read_source(m, f, which, &text, group, err));
    ES_GO(es_config_new(&m->config, err));
    ES_GO(es_config_load_text(m->config, m->path, text, err));
    ES_GO(es_config_finish(m->config, err));
    if (strcmp(which, "teacher") == 0 && es_config_is(m->config, "phase", "pretrain")) {
        rc = es_err_set(err, ES_EDATA, "%s: a pre-training checkpoint has no teacher; want student", m->path);
        goto done;
    }
    es_net_config_from(&nc, m->config, pretrain_classes(f, group + 1));
    ES_GO(es_params_new(&m->params, err));
    ES_GO(es_net_new(&m->net, &nc, m->params, err));
    ES_GO(es_params_layout(m->params, err));
    ES_GO(es_model_fill(f, group, m->net, m->params, true, err));
    m->digest = es_params_digest(m->params);
    if (es_h5_has(f, "/classes")) ES_GO(es_h5_read_strings(f, "/classes", &m->classes, err));
done:
    es_h5_close(&f);
    es_free(&text);
    return rc;
}

int es_model_open_all(struct es_model **m, const struct es_comm *c, const char *path, const char *which,
                      struct es_err *err) {
    *m = es_alloc(1, sizeof **m, err);
    int rc = *m ? 0 : -ES_EIO;
    if (*m) snprintf((*m)->path, sizeof(*m)->path, "%s", path);
    if (rc == 0) rc = open_local(*m, which, err);
    rc = es_err_agree_all(c, rc, err);
    if (rc < 0) es_model_close(m);
    return rc;
}

void es_model_close(struct es_model **m) {
    if (!*m) return;
    es_h5_names_free(&(*m)->classes);
    es_net_free(&(*m)->net);
    es_params_free(&(*m)->params);
    es_config_free(&(*m)->config);
    es_free(m);
}
