/* MAESTRO-real: clips with soft labels to recordings with hard ones (spec section 10). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"

enum { N_CLASSES = 11 }; /* evaluated */

/* "<recording>-<start>-<end>" in 1/100 s, six digits each. */
struct clip_id {
    char recording[256];
    int start_s; /* whole seconds, as the public code cuts it */
    double dur_s;
};

static int digits(const char *s, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return -1;
        v = 10 * v + (s[i] - '0');
    }
    return v;
}

static bool parse_id(const char *id, struct clip_id *out) {
    const size_t n = strlen(id), tail = 14; /* -ssssss-eeeeee */
    if (n <= tail || n - tail >= sizeof out->recording || id[n - 14] != '-' || id[n - 7] != '-') return false;
    const int start = digits(id + n - 13, 6), end = digits(id + n - 6, 6);
    if (start < 0 || end <= start) return false;
    memcpy(out->recording, id, n - tail);
    out->recording[n - tail] = 0;
    out->start_s = start / 100;
    out->dur_s = (end - start) / 100.0;
    return true;
}

static int bad_id(const char *source, const char *id, struct es_err *err) {
    return es_err_set(err, ES_EDATA,
                      "%s: clip '%s': want <recording>-<start>-<end> with six digits each (1/100 s)", source,
                      id);
}

static bool is_hard(const struct es_truth *soft, const struct es_truth_event *e) {
    const int k = es_class_find(es_names_get(soft->labels, e->label));
    return e->confidence > 0.5 && k >= 0 && es_classes[k].mpauc;
}

struct hard {         /* a hard event in its recording */
    const char *item; /* interned: compare by index first */
    int64_t i_item, i_label;
    double onset_s, offset_s;
    int64_t row;
};

static int compare_hard(const void *x, const void *y) {
    const struct hard *a = x, *b = y;
    if (a->i_item != b->i_item) return a->i_item < b->i_item ? -1 : 1;
    if (a->i_label != b->i_label) return a->i_label < b->i_label ? -1 : 1;
    if (a->onset_s != b->onset_s) return a->onset_s < b->onset_s ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Adds the events to truth, those of one item and class that overlap or touch as one. */
static int join_events(struct es_truth *truth, const struct es_truth *soft, struct hard *h, int64_t n,
                       struct es_err *err) {
    qsort(h, (size_t)n, sizeof *h, compare_hard);
    for (int64_t i = 0, j; i < n; i = j) {
        double offset_s = h[i].offset_s;
        for (j = i + 1;
             j < n && h[j].i_item == h[i].i_item && h[j].i_label == h[i].i_label && h[j].onset_s <= offset_s;
             j++)
            if (h[j].offset_s > offset_s) offset_s = h[j].offset_s;
        ES_TRY(es_truth_event(truth, h[i].item, es_names_get(soft->labels, h[i].i_label), h[i].onset_s,
                              offset_s, 1, h[i].row, err));
    }
    return 0;
}

/* Hard events of soft, by clip or, shifted, by recording. names: items by index. */
static int hard_events(struct hard *h, int64_t *n, struct es_names *names, const struct es_truth *soft,
                       bool by_recording, struct es_err *err) {
    *n = 0;
    for (int64_t i = 0; i < soft->n_events; i++) {
        const struct es_truth_event *e = &soft->events[i];
        if (!is_hard(soft, e)) continue;
        if (!(e->onset_s >= 0 && e->offset_s > e->onset_s && isfinite(e->offset_s)))
            return es_err_set(err, ES_EDATA,
                              "%s: row %lld: got an event from %g to %g s; want 0 <= onset < offset",
                              soft->source, (long long)e->row, e->onset_s, e->offset_s);
        const char *clip = es_names_get(soft->clips, e->clip);
        struct clip_id id = {0};
        if (by_recording && !parse_id(clip, &id)) return bad_id(soft->source, clip, err);
        int64_t item = es_names_add(names, by_recording ? id.recording : clip, err);
        if (item < 0) return (int)item;
        h[(*n)++] = (struct hard){.item = es_names_get(names, item),
                                  .i_item = item,
                                  .i_label = e->label,
                                  .onset_s = e->onset_s + id.start_s,
                                  .offset_s = e->offset_s + id.start_s,
                                  .row = e->row};
    }
    if (*n == 0)
        return es_err_set(err, ES_EDATA, "%s: got no label of an evaluated class above 0.5", soft->source);
    return 0;
}

/* Truth of the hard labels: by recording with its duration, or by clip with the end of its last event. */
static int hard_truth(struct es_truth **out, const struct es_truth *soft, bool by_recording,
                      struct es_err *err) {
    int rc = -ES_EIO;
    int64_t n = 0;
    struct es_names *items = NULL;
    double *end_s = NULL;
    struct es_truth *truth = NULL;
    struct hard *h = es_alloc((size_t)soft->n_events, sizeof *h, err);
    if (!h) goto done;
    ES_GO(es_names_new(&items, err));
    ES_GO(es_truth_new(&truth, soft->source, by_recording ? soft->dur_source : soft->source, err));
    ES_GO(hard_events(h, &n, items, soft, by_recording, err));
    const int64_t n_items = es_names_count(items);
    rc = -ES_EIO;
    end_s = es_alloc((size_t)n_items, sizeof *end_s, err);
    if (!end_s) goto done;
    for (int64_t i = 0; i < n; i++) end_s[h[i].i_item] = fmax(end_s[h[i].i_item], h[i].offset_s);
    for (int64_t i = 0; i < n_items; i++) {
        const char *item = es_names_get(items, i);
        double dur_s = by_recording ? es_truth_duration_of(soft, item) : end_s[i];
        if (isnan(dur_s)) {
            rc = es_err_set(err, ES_EDATA, "%s: recording '%s': got no duration for it", soft->dur_source,
                            item);
            goto done;
        }
        ES_GO(es_truth_duration(truth, item, dur_s, err));
    }
    ES_GO(join_events(truth, soft, h, n, err));
    *out = truth;
    truth = NULL;
done:
    es_free(&end_s);
    es_truth_free(&truth);
    es_names_free(&items);
    es_free(&h);
    return rc;
}

int es_maestro_clips(struct es_truth **truth, const struct es_truth *soft, struct es_err *err) {
    return hard_truth(truth, soft, false, err);
}

/* Mean score of each second of a clip, weighted by the time of the frames in it, added to the seconds of its
 * recording. */
static void add_clip(const struct es_scores *scores, int64_t i_clip, const int column[N_CLASSES],
                     const struct clip_id *id, double *sum, int *count, int n_seconds) {
    const struct es_scores_clip *c = &scores->clips[i_clip];
    for (int k = 0; k < id->dur_s; k++) { /* k < length of the clip, which may have a fraction */
        const int at = id->start_s + k;
        if (at >= n_seconds) break;
        double mean[N_CLASSES] = {0}, weight = 0;
        for (int i = 0; i < c->n_frames && c->edges_s[i] < k + 1; i++) {
            const double w = fmin(c->edges_s[i + 1], k + 1) - fmax(c->edges_s[i], k);
            if (w <= 0) continue;
            weight += w;
            for (int q = 0; q < N_CLASSES; q++) {
                const int64_t v = i * scores->frame_stride + column[q] * scores->class_stride;
                mean[q] += w * (scores->is_double ? ((const double *)c->values)[v]
                                                  : (double)((const float *)c->values)[v]);
            }
        }
        count[at]++;
        for (int q = 0; q < N_CLASSES && weight > 0; q++)
            sum[(int64_t)at * N_CLASSES + q] += mean[q] / weight;
    }
}

struct joining {
    const struct es_scores *scores;
    const struct es_truth *soft, *truth;
    const struct es_maestro_params *params;
    struct es_scores *joined; /* clip = recording, in order of truth */
    int column[N_CLASSES];
    int **count;    /* by recording, by second */
    bool *positive; /* by clip of soft: has a hard label */
};

/* Every clip of scores goes to its recording. */
static int add_clips(struct joining *j, struct es_err *err) {
    const struct es_scores *sc = j->scores;
    for (int64_t i = 0; i < sc->n_clips; i++) {
        const char *name = sc->clips[i].id;
        struct clip_id id;
        const bool known = parse_id(name, &id);
        const bool listed = known && !isnan(es_truth_duration_of(j->soft, id.recording));
        if (!listed && j->params->subset) continue;
        if (!known) return bad_id(sc->source, name, err);
        if (!listed)
            return es_err_set(err, ES_EDATA, "%s: clip '%s': got no duration of recording '%s' in %s",
                              sc->source, name, id.recording, j->soft->dur_source);
        const int64_t in_soft = es_names_find(j->soft->clips, name);
        if (j->params->positive_only && (in_soft < 0 || !j->positive[in_soft])) continue;
        const int64_t r = es_names_find(j->truth->clips, id.recording);
        if (r < 0) continue; /* no hard label in the whole recording */
        struct es_scores_clip *rec = &j->joined->clips[r];
        double *sum;
        memcpy(&sum, &rec->values, sizeof sum);
        add_clip(sc, i, j->column, &id, sum, j->count[r], rec->n_frames);
    }
    return 0;
}

/* One frame a second for every recording of truth, no clip added yet. */
static int open_recordings(struct joining *j, struct es_err *err) {
    j->joined->own_clips = true;
    for (int64_t r = 0; r < j->joined->n_clips; r++) {
        struct es_scores_clip *rec = &j->joined->clips[r];
        const double dur_s = es_truth_duration_of(j->truth, rec->id);
        if (!(dur_s > 0 && dur_s < 1e6))
            return es_err_set(err, ES_EDATA, "%s: recording '%s': got a duration of %g s",
                              j->soft->dur_source, rec->id, dur_s);
        const int n = rec->n_frames = (int)ceil(dur_s);
        double *edges = es_alloc((size_t)n + 1, sizeof *edges, err);
        rec->edges_s = edges;
        rec->values = es_alloc((size_t)n * N_CLASSES, sizeof(double), err);
        j->count[r] = es_alloc((size_t)n, sizeof **j->count, err);
        if (!edges || !rec->values || !j->count[r]) return -ES_EIO;
        for (int i = 0; i < n; i++) edges[i] = i;
        edges[n] = dur_s;
    }
    return 0;
}

int es_maestro_join(struct es_scores **joined, struct es_truth **truth, const struct es_scores *scores,
                    const struct es_truth *soft, const struct es_maestro_params *params, struct es_err *err) {
    int rc = -ES_EIO;
    struct es_truth *hard = NULL;
    struct joining j = {.scores = scores, .soft = soft, .params = params};
    struct es_names *ids = NULL;
    const char **recording = NULL;
    int64_t n = 0;
    *joined = NULL;
    *truth = NULL;
    const char *classes[N_CLASSES];
    for (int k = 0, n_found = 0; k < ES_N_CLASSES; k++) {
        if (!es_classes[k].mpauc) continue;
        ES_ASSERT(n_found < N_CLASSES);
        classes[n_found] = es_classes[k].name;
        j.column[n_found] = es_scores_class(scores, es_classes[k].name);
        if (j.column[n_found++] < 0)
            return es_err_set(err, ES_EDATA, "%s: class '%s': got no column of that name", scores->source,
                              es_classes[k].name);
    }
    ES_GO(hard_truth(&hard, soft, true, err));
    j.truth = hard;
    n = es_names_count(hard->clips);
    rc = -ES_EIO;
    recording = es_alloc((size_t)n, sizeof *recording, err);
    j.count = es_alloc((size_t)n, sizeof *j.count, err);
    j.positive = es_alloc((size_t)es_names_count(soft->clips), sizeof *j.positive, err);
    if (!recording || !j.count || !j.positive) goto done;
    for (int64_t r = 0; r < n; r++) recording[r] = es_names_get(hard->clips, r);
    for (int64_t i = 0; i < soft->n_events; i++)
        if (is_hard(soft, &soft->events[i])) j.positive[soft->events[i].clip] = true;
    ES_GO(es_names_new(&ids, err));
    for (int64_t i = 0; i < scores->n_clips; i++)
        if ((rc = (int)es_names_add(ids, scores->clips[i].id, err)) < 0) goto done;
    for (int64_t i = 0; i < es_names_count(soft->clips); i++)
        if (es_names_find(ids, es_names_get(soft->clips, i)) < 0) {
            if (params->n_missing) {
                ++*params->n_missing;
                continue;
            }
            rc = es_err_set(err, ES_EDATA, "%s: clip '%s': got no scores for it in %s", soft->source,
                            es_names_get(soft->clips, i), scores->source);
            goto done;
        }
    ES_GO(es_scores_new(&j.joined, n, recording, N_CLASSES, classes, true, scores->source, err));
    ES_GO(open_recordings(&j, err));
    ES_GO(add_clips(&j, err));
    for (int64_t r = 0; r < n; r++) {
        double *sum;
        memcpy(&sum, &j.joined->clips[r].values, sizeof sum);
        for (int64_t i = 0; i < (int64_t)j.joined->clips[r].n_frames * N_CLASSES; i++)
            if (j.count[r][i / N_CLASSES] > 1) sum[i] /= j.count[r][i / N_CLASSES];
    }
    rc = 0;
    *joined = j.joined;
    *truth = hard;
    j.joined = NULL;
    hard = NULL;
done:
    for (int64_t r = 0; r < n && j.count; r++) es_free(&j.count[r]);
    es_free(&j.count);
    es_free(&j.positive);
    es_free(&recording);
    es_names_free(&ids);
    es_scores_free(&j.joined);
    es_truth_free(&hard);
    return rc;
}
