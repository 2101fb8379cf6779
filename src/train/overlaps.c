/* Clips that a run would train on and score, over all of its stores. */
#include "earshot/log.h"
#include "run_files.h"
#include "train_impl.h"

enum { MAX_STORES = 16 };

static int open_more_all(struct es_store **more, int *n_more, const struct es_comm *c,
                         const struct es_config *cfg, struct es_err *err) {
    int n;
    const char *const *path = es_config_strings(cfg, "data.validation_stores", &n);
    for (*n_more = 0; *n_more < n && *n_more < MAX_STORES; ++*n_more)
        ES_TRY(es_store_open_all(&more[*n_more], c, path[*n_more], err));
    return 0;
}

int train_overlaps_all(const struct es_comm *c, const struct es_config *cfg, const struct es_dataset *d,
                       bool strict, struct es_overlaps *out, struct es_err *err) {
    struct es_store *more[MAX_STORES];
    int n_more, rc = open_more_all(more, &n_more, c, cfg, err);
    if (rc == 0) rc = es_err_agree_all(c, es_dataset_overlaps(d, more, n_more, out, err), err);
    for (int i = 0; i < n_more; i++) es_store_close(&more[i]);
    for (int i = 0; rc == 0 && i < out->n; i++) {
        char text[400];
        es_overlap_describe(&out->row[i], text, sizeof text);
        if (out->row[i].leak && strict)
            return es_err_set(err, ES_EDATA,
                              "data.stores: %s; prepare with an exclusion list or name one in data.exclude",
                              text);
        es_log(out->row[i].leak ? ES_LOG_WARN : ES_LOG_INFO, "overlap: %s", text);
    }
    return rc;
}
