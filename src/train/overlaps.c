/* Clips that a run would train on and score, over all of its stores. */
#include "earshot/log.h"
#include "earshot/mem.h"
#include "run_files.h"
#include "train_impl.h"

int train_overlaps_all(const struct es_comm *c, const struct es_config *cfg, const struct es_dataset *d,
                       bool strict, struct es_overlaps *out, struct es_err *err) {
    int n;
    const char *const *path = es_config_strings(cfg, "data.validation_stores", &n);
    struct es_store **more = es_alloc((size_t)n, sizeof *more, err);
    int rc = es_err_agree_all(c, more ? 0 : -ES_EIO, err);
    for (int i = 0; rc == 0 && i < n; i++) rc = es_store_open_all(&more[i], c, path[i], err);
    if (rc == 0) rc = es_err_agree_all(c, es_dataset_overlaps(d, more, n, out, err), err);
    for (int i = 0; more && i < n; i++) es_store_close(&more[i]);
    es_free(&more);
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
