/* Events as score tables (spec section 13.3). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/csebb.h"
#include "earshot/events.h"
#include "earshot/mem.h"
#include "earshot/scores.h"

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

/* Frames of one clip from its boxes [0..n), in order of onset. dur_s: NAN when it has none. */
static int fill_clip(struct es_scores_clip *clip, int n_classes, const struct box *box, int64_t n,
                     double dur_s, double fill, struct es_err *err) {
    double *edges = es_alloc(2 * (size_t)n + 2, sizeof *edges, err);
    clip->edges_s = edges;
    if (!edges) return -ES_EIO;
    int64_t n_edges = 0;
    edges[n_edges++] = 0;
    for (int64_t i = 0; i < n; i++) {
        edges[n_edges++] = box[i].onset_s;
        edges[n_edges++] = box[i].offset_s;
    }
    if (!isnan(dur_s))
        edges[n_edges++] = dur_s;
    else if (n == 0)
        edges[n_edges++] = 0.001;
    qsort(edges, (size_t)n_edges, sizeof *edges, compare_times);
    int frames = 0;
    for (int64_t i = 1; i < n_edges; i++)
        if (edges[i] != edges[frames]) edges[++frames] = edges[i];
    double *values = es_alloc((size_t)frames * (size_t)n_classes, sizeof *values, err);
    clip->values = values;
    if (!values) return -ES_EIO;
    clip->n_frames = frames;
    for (int64_t i = 0; i < (int64_t)frames * n_classes; i++) values[i] = fill;
    for (int64_t b = 0; b < n; b++) {
        int i = 0, hi = frames; /* the frame that starts with the box */
        while (i < hi) {
            const int mid = i + (hi - i) / 2;
            if (edges[mid] < box[b].onset_s)
                i = mid + 1;
            else
                hi = mid;
        }
        for (; i < frames && edges[i + 1] <= box[b].offset_s; i++) {
            double *v = &values[(int64_t)i * n_classes + box[b].i_class];
            if (box[b].score > *v || *v == fill) *v = box[b].score;
        }
    }
    return 0;
}

int es_scores_from_events(struct es_scores **out, const struct es_truth *boxes, const struct es_scores *like,
                          const struct es_truth *durations, double fill, struct es_err *err) {
    struct es_names *ids = NULL;
    const char **id = NULL;
    struct box *box = NULL;
    int64_t n = 0;
    *out = NULL;
    int rc = es_names_new(&ids, err);
    if (rc < 0) goto done;
    rc = -ES_EIO;
    id = es_alloc((size_t)like->n_clips, sizeof *id, err);
    box = es_alloc((size_t)boxes->n_events, sizeof *box, err);
    if (!id || !box) goto done;
    for (int64_t i = 0; i < like->n_clips; i++) {
        id[i] = like->clips[i].id;
        if (es_names_add(ids, id[i], err) < 0) goto done;
    }
    rc = 0;
    for (int64_t i = 0; i < boxes->n_events && rc == 0; i++) {
        const struct es_truth_event *e = &boxes->events[i];
        const char *clip = es_names_get(boxes->clips, e->clip),
                   *label = es_names_get(boxes->labels, e->label);
        struct box b = {.clip = es_names_find(ids, clip),
                        .i_class = es_scores_class(like, label),
                        .onset_s = e->onset_s,
                        .offset_s = e->offset_s,
                        .score = e->confidence};
        if (b.clip < 0 || b.i_class < 0)
            rc = es_err_set(err, ES_EDATA, "%s: row %lld: got %s '%s', which %s does not have", boxes->source,
                            (long long)e->row, b.clip < 0 ? "clip" : "class", b.clip < 0 ? clip : label,
                            like->source);
        if (rc == 0 && !(b.offset_s > b.onset_s))
            rc = es_err_set(err, ES_EDATA,
                            "%s: row %lld: got an event from %g to %g s; want an offset after the onset",
                            boxes->source, (long long)e->row, b.onset_s, b.offset_s);
        box[n++] = b;
    }
    if (rc < 0) goto done;
    qsort(box, (size_t)n, sizeof *box, compare_boxes);
    ES_GO(es_scores_new(out, like->n_clips, id, like->n_classes, (const char *const *)like->classes, true,
                        boxes->source, err));
    (*out)->own_clips = true;
    for (int64_t i = 0, b = 0, end; i < like->n_clips; i++, b = end) {
        for (end = b; end < n && box[end].clip == i; end++) {
        }
        const double dur_s = durations ? es_truth_duration_of(durations, id[i]) : (double)NAN;
        if (durations && !(dur_s > 0)) {
            rc = es_err_set(err, ES_EDATA, "%s: clip '%s': got no duration for it, or one of 0",
                            durations->dur_source, id[i]);
            goto done;
        }
        ES_GO(fill_clip(&(*out)->clips[i], like->n_classes, box + b, end - b, dur_s, fill, err));
    }
done:
    es_free(&box);
    es_free(&id);
    es_names_free(&ids);
    if (rc < 0) es_scores_free(out);
    return rc;
}

int es_scores_load_detections(struct es_scores **out, const char *path, const struct es_truth *truth,
                              struct es_err *err) {
    struct es_truth *events = NULL;
    struct es_names *labels = NULL;
    struct es_scores *like = NULL;
    const char **names = NULL, **ids = NULL;
    *out = NULL;
    int rc = es_events_load(&events, path, err);
    if (rc < 0) goto done;
    ES_GO(es_names_new(&labels, err));
    for (int side = 0; side < 2; side++) {
        const struct es_names *from = side ? events->labels : truth->labels;
        for (int64_t i = 0; i < es_names_count(from); i++)
            if ((rc = (int)es_names_add(labels, es_names_get(from, i), err)) < 0) goto done;
    }
    const int64_t n_clips = es_names_count(truth->clips), n_classes = es_names_count(labels);
    rc = -ES_EIO;
    names = es_alloc((size_t)n_classes, sizeof *names, err);
    ids = es_alloc((size_t)n_clips, sizeof *ids, err);
    if (!names || !ids) goto done;
    for (int64_t k = 0; k < n_classes; k++) names[k] = es_names_get(labels, k);
    for (int64_t i = 0; i < n_clips; i++) ids[i] = es_names_get(truth->clips, i);
    ES_GO(es_scores_new(&like, n_clips, ids, (int)n_classes, names, true, truth->source, err));
    ES_GO(es_scores_from_events(out, events, like, truth, -HUGE_VAL, err));
done:
    es_scores_free(&like);
    es_free(&ids);
    es_free(&names);
    es_names_free(&labels);
    es_truth_free(&events);
    return rc;
}

/* ---- boxes of scores */

static int check_scores(const struct es_scores *s, int64_t i, int k, const double *column,
                        struct es_err *err) {
    const struct es_scores_clip *c = &s->clips[i];
    if (c->n_frames < 1 || c->edges_s[0] != 0)
        return es_err_set(err, ES_EDATA,
                          "%s: clip '%s': got %d frames from %g s on; want frames from 0 on for cSEBBs",
                          s->source, c->id, c->n_frames, c->n_frames ? c->edges_s[0] : 0);
    for (int j = 0; j < c->n_frames; j++)
        if (!isfinite(column[j]) || !(c->edges_s[j + 1] > c->edges_s[j]))
            return es_err_set(
                err, ES_EDATA,
                "%s: clip '%s': frame %d, class '%s': got a score of %g from %g to %g s; want finite "
                "scores and ascending times",
                s->source, c->id, j, s->classes[k], column[j], c->edges_s[j], c->edges_s[j + 1]);
    return 0;
}

int es_csebb_boxes(struct es_truth **out, const struct es_scores *s, const struct es_csebb_params *p,
                   struct es_err *err) {
    struct es_csebb_segments g = {0};
    struct es_csebb_box *box = NULL;
    double *column = NULL;
    int frames_max = 1;
    int rc = es_truth_new(out, s->source, "", err);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < s->n_clips; i++)
        if (s->clips[i].n_frames > frames_max) frames_max = s->clips[i].n_frames;
    ES_GO(es_csebb_segments_init(&g, frames_max, err));
    column = es_alloc((size_t)frames_max, sizeof *column, err);
    box = es_alloc(3 * (size_t)frames_max + 6, sizeof *box, err);
    rc = column && box ? 0 : -ES_EIO;
    for (int64_t i = 0; i < s->n_clips && rc == 0; i++) {
        ES_GO(es_truth_clip(*out, s->clips[i].id, err));
        for (int k = 0; k < s->n_classes; k++) {
            if (p[k].step_filter_s == 0) continue;
            es_scores_column(s, i, k, column);
            ES_GO(check_scores(s, i, k, column, err));
            es_csebb_detect(&g, s->clips[i].n_frames, s->clips[i].edges_s, column, p[k].step_filter_s);
            const int n = es_csebb_merge(&g, p[k].merge_abs, p[k].merge_rel, box);
            for (int b = 0; b < n; b++)
                ES_GO(es_truth_event(*out, s->clips[i].id, s->classes[k], box[b].onset_s, box[b].offset_s,
                                     box[b].confidence, b, err));
        }
    }
done:
    es_free(&box);
    es_free(&column);
    es_csebb_segments_fini(&g);
    if (rc < 0) es_truth_free(out);
    return rc;
}

int es_boxes_add_seconds(struct es_truth *boxes, const struct es_scores *s, const int *column, int n,
                         struct es_err *err) {
    for (int64_t c = 0; c < s->n_clips; c++) {
        const struct es_scores_clip *clip = &s->clips[c];
        const double end_s = clip->n_frames > 0 ? clip->edges_s[clip->n_frames] : 0;
        int first = 0; /* of the second */
        for (int k = 0; k < end_s; k++) {
            while (first < clip->n_frames && clip->edges_s[first + 1] <= k) first++;
            for (int q = 0; q < n; q++) {
                double sum = 0, weight = 0;
                for (int i = first; i < clip->n_frames && clip->edges_s[i] < k + 1; i++) {
                    const double w = fmin(clip->edges_s[i + 1], k + 1) - fmax(clip->edges_s[i], k);
                    const int64_t v = i * s->frame_stride + column[q] * s->class_stride;
                    sum += w * (s->is_double ? ((const double *)clip->values)[v]
                                             : (double)((const float *)clip->values)[v]);
                    weight += w;
                }
                ES_TRY(es_truth_event(boxes, clip->id, s->classes[column[q]], k, fmin(k + 1, end_s),
                                      weight > 0 ? sum / weight : 0, k, err));
            }
        }
    }
    return 0;
}
