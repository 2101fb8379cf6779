/* Truth of clips of a store, from its own events. */
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/scores.h"

static int add_clip(struct es_truth *t, const struct es_store *s, int64_t id, bool merge, double dur_s,
                    struct es_err *err) {
    int n;
    const struct es_event *stored = es_store_events(s, id, &n);
    const char *name = es_store_name(s, id);
    struct es_event *e = es_alloc((size_t)n, sizeof *e, err);
    if (!e) return -ES_EIO;
    if (n > 0) memcpy(e, stored, (size_t)n * sizeof *e);
    if (merge) n = es_labels_merge(e, n);
    int rc = es_truth_clip(t, name, err);
    if (rc == 0 && dur_s >= 0)
        rc = es_truth_duration(t, name, dur_s > 0 ? dur_s : es_store_duration(s, id), err);
    for (int k = 0; rc == 0 && k < n; k++)
        if (e[k].offset_s > e[k].onset_s)
            rc = es_truth_event(t, name, es_store_classes(s)[e[k].label], e[k].onset_s, e[k].offset_s,
                                (double)e[k].confidence, k, err);
    es_free(&e);
    return rc;
}

int es_truth_from_store(struct es_truth **t, const struct es_store *s, const int64_t *ids, int64_t n,
                        bool merge, double dur_s, struct es_err *err) {
    if (!*t) ES_TRY(es_truth_new(t, es_store_path(s), es_store_path(s), err));
    for (int64_t i = 0; i < n; i++) ES_TRY(add_clip(*t, s, ids[i], merge, dur_s, err));
    (*t)->has_confidence = true;
    return 0;
}
