/* A probe of the layer "head" as start values of the layer of frame logits. */
#include <stdio.h>
#include <string.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/probe.h"
#include "earshot/weights.h"

#define SLOPE 8.0f /* shares 0 and 1 become logits of -4 and 4: 0.018 and 0.982 */

static const struct es_probe_layer *find_head(const struct es_probe *p) {
    for (int i = 0; i < p->n_layers; i++)
        if (strcmp(p->layer[i].name, "head") == 0) return &p->layer[i];
    return NULL;
}

static int save(const struct es_probe_layer *y, int K, const char *name, const char *source, const char *path,
                struct es_err *err) {
    const int64_t d = y->n_features - 1, shape[2] = {K, d};
    struct es_h5 *f = NULL;
    char entry[96];
    int rc = -ES_EIO;
    float *w = es_alloc((size_t)(K * d), sizeof *w, err), *b = es_alloc((size_t)K, sizeof *b, err);
    if (!w || !b) goto done;
    for (int k = 0; k < K; k++) {
        for (int64_t m = 0; m < d; m++) w[k * d + m] = SLOPE * y->w[k * (d + 1) + m];
        b[k] = SLOPE * (y->w[k * (d + 1) + d] - 0.5f);
    }
    ES_GO(es_h5_create_all(&f, NULL, path, "weights", ES_WEIGHTS_VERSION, err));
    es_h5_attr_text_all(f, "/", "model", "head");
    es_h5_attr_text_all(f, "/", "source", source);
    snprintf(entry, sizeof entry, "%s.weight", name);
    es_h5_put_all(f, entry, ES_H5_F32, 2, shape, w);
    snprintf(entry, sizeof entry, "%s.bias", name);
    es_h5_put_all(f, entry, ES_H5_F32, 1, shape, b);
    rc = es_h5_commit_all(&f, NULL, err);
done:
    es_h5_close_all(&f);
    es_free(&b);
    es_free(&w);
    return rc;
}

int es_probe_save_head_all(const struct es_probe *p, const struct es_comm *c, const struct es_model *m,
                           const char *path, struct es_err *err) {
    const struct es_net_config *nc = es_net_config(m->net);
    const char *name = nc->pretrain ? es_head_strong_name(nc->pretrain_head) : "dense";
    const struct es_probe_layer *y = find_head(p);
    char entry[96];
    int rc = 0;
    snprintf(entry, sizeof entry, "%s.weight", name ? name : "");
    const int at = name ? es_params_find(m->params, entry) : -1;
    const struct es_param *want = at >= 0 ? es_params_at(m->params, at) : NULL;
    if (!y || !want)
        rc = es_err_set(err, ES_EUSAGE,
                        "--init-head: %s: the layer head was not fitted; leave out --joint, and --layers or "
                        "add head to it",
                        m->path);
    else if (want->shape[0] != p->n_classes || want->shape[1] != y->n_features - 1)
        rc = es_err_set(err, ES_EDATA, "--init-head: %s has %lld classes, the stores have %d", m->path,
                        (long long)want->shape[0], p->n_classes);
    if (rc == 0 && es_comm_rank(c) == 0) rc = save(y, p->n_classes, name, m->path, path, err);
    return es_err_agree_all(c, rc, err);
}
