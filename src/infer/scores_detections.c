/* Detections as a score table (spec section 13.3, fill -inf). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/scores.h"
#include "earshot/text.h"
#include "scores_impl.h"

struct box {
    int64_t clip;
    int i_class;
    double onset_s, offset_s, score;
};

static int compare_boxes(const void *x, const void *y) {
    const struct box *a = x, *b = y;
    if (a->clip != b->clip) return a->clip < b->clip ? -1 : 1;
    return a->onset_s < b->onset_s ? -1 : a->onset_s > b->onset_s;
}

static int compare_times(const void *x, const void *y) {
    const double *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* Boxes of the file, in order of clip and onset; labels the file adds go to labels. */
static int read_boxes(struct box **out, int64_t *n, const char *path, const struct es_truth *truth,
                      struct es_names *labels, struct es_err *err) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?score"};
    struct es_tsv *t = NULL;
    struct es_text id = {0};
    int rc = 0;
    ES_GO(es_tsv_open(&t, path, columns, 5, 0, err));
    struct box *box = *out = es_alloc((size_t)es_tsv_rows(t), sizeof *box, err);
    rc = box ? 0 : -ES_EIO;
    for (int64_t row = 0; row < es_tsv_rows(t) && rc == 0; row++) {
        const char *label = es_tsv_text(t, row, 3), *clip = scores_clip_id(&id, es_tsv_text(t, row, 0));
        if (*label == 0) continue; /* a clip without detections */
        struct box b = {.score = 1};
        ES_GO(es_text_check(&id, err));
        ES_GO(es_tsv_times(t, row, 1, 2, &b.onset_s, &b.offset_s, err));
        if (es_tsv_has(t, 4)) ES_GO(es_tsv_number(t, row, 4, &b.score, err));
        if (b.offset_s == b.onset_s) ES_GO(es_tsv_wrong(t, row, 2, "an offset after the onset", err));
        b.clip = es_names_find(truth->clips, clip);
        if (b.clip < 0) ES_GO(es_tsv_wrong(t, row, 0, "a clip that the ground truth lists", err));
        const int64_t k = es_names_add(labels, label, err);
        if (k < 0) ES_GO((int)k);
        b.i_class = (int)k;
        box[(*n)++] = b;
    }
    if (rc == 0) qsort(box, (size_t)*n, sizeof *box, compare_boxes);
done:
    es_text_free(&id);
    es_tsv_close(&t);
    return rc;
}

/* Frames of one clip from its boxes [0..n). */
static int fill_clip(struct es_scores_clip *clip, int n_classes, const struct box *box, int64_t n,
                     double dur_s, struct es_err *err) {
    double *edges = es_alloc(2 * (size_t)n + 2, sizeof *edges, err);
    clip->edges_s = edges;
    if (!edges) return -ES_EIO;
    int64_t n_edges = 0;
    edges[n_edges++] = 0;
    edges[n_edges++] = dur_s;
    for (int64_t i = 0; i < n; i++) {
        edges[n_edges++] = box[i].onset_s;
        edges[n_edges++] = box[i].offset_s;
    }
    qsort(edges, (size_t)n_edges, sizeof *edges, compare_times);
    int frames = 0;
    for (int64_t i = 1; i < n_edges; i++)
        if (edges[i] != edges[frames]) edges[++frames] = edges[i];
    double *values = es_alloc((size_t)frames * (size_t)n_classes, sizeof *values, err);
    clip->values = values;
    if (!values) return -ES_EIO;
    clip->n_frames = frames;
    for (int64_t i = 0; i < (int64_t)frames * n_classes; i++) values[i] = -HUGE_VAL;
    for (int64_t b = 0; b < n; b++)
        for (int i = 0; i < frames; i++) {
            double *v = &values[(int64_t)i * n_classes + box[b].i_class];
            if (edges[i] >= box[b].onset_s && edges[i + 1] <= box[b].offset_s && box[b].score > *v)
                *v = box[b].score;
        }
    return 0;
}

int es_scores_load_detections(struct es_scores **out, const char *path, const struct es_truth *truth,
                              struct es_err *err) {
    const int64_t n_clips = es_names_count(truth->clips);
    struct es_names *labels = NULL;
    struct box *box = NULL;
    int64_t n = 0;
    const char **names = NULL, **ids = NULL;
    *out = NULL;
    int rc = es_names_new(&labels, err);
    if (rc < 0) goto done;
    for (int64_t i = 0; i < es_names_count(truth->labels); i++)
        if ((rc = (int)es_names_add(labels, es_names_get(truth->labels, i), err)) < 0) goto done;
    ES_GO(read_boxes(&box, &n, path, truth, labels, err));
    const int n_classes = es_int_from_i64(es_names_count(labels));
    rc = -ES_EIO;
    names = es_alloc((size_t)n_classes, sizeof *names, err);
    ids = es_alloc((size_t)n_clips, sizeof *ids, err);
    if (!names || !ids) goto done;
    for (int k = 0; k < n_classes; k++) names[k] = es_names_get(labels, k);
    for (int64_t i = 0; i < n_clips; i++) ids[i] = es_names_get(truth->clips, i);
    ES_GO(es_scores_new(out, n_clips, ids, n_classes, names, true, path, err));
    (*out)->own_clips = true;
    for (int64_t i = 0, b = 0, end; i < n_clips; i++, b = end) {
        for (end = b; end < n && box[end].clip == i; end++) {
        }
        const double dur_s = es_truth_duration_of(truth, ids[i]);
        if (!(dur_s > 0)) {
            rc = es_err_set(err, ES_EDATA, "%s: clip '%s': got no duration for it, or one of 0",
                            truth->dur_source, ids[i]);
            goto done;
        }
        ES_GO(fill_clip(&(*out)->clips[i], n_classes, box + b, end - b, dur_s, err));
    }
done:
    es_free(&ids);
    es_free(&names);
    es_free(&box);
    es_names_free(&labels);
    if (rc < 0) es_scores_free(out);
    return rc;
}
