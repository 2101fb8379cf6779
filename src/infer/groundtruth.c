#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/scores.h"
#include "earshot/text.h"
#include "scores_impl.h"

int es_truth_new(struct es_truth **out, const char *source, const char *dur_source, struct es_err *err) {
    int rc = -ES_EIO;
    struct es_truth *t = *out = es_alloc(1, sizeof *t, err);
    if (!t) return rc;
    t->source = es_strdup(source, err);
    t->dur_source = es_strdup(dur_source, err);
    if (!t->source || !t->dur_source) goto done;
    ES_GO(es_names_new(&t->clips, err));
    ES_GO(es_names_new(&t->labels, err));
    ES_GO(es_names_new(&t->dur_clips, err));
done:
    if (rc < 0) es_truth_free(out);
    return rc;
}

void es_truth_free(struct es_truth **t) {
    if (!*t) return;
    es_names_free(&(*t)->clips);
    es_names_free(&(*t)->labels);
    es_names_free(&(*t)->dur_clips);
    es_free(&(*t)->dur_s);
    es_free(&(*t)->events);
    es_free(&(*t)->source);
    es_free(&(*t)->dur_source);
    es_free(t);
}

/* Makes room for one more item of a growing array. */
static int reserve(void *array, int64_t n, int64_t *cap, size_t item_bytes, struct es_err *err) {
    if (n < *cap) return 0;
    void *old;
    memcpy(&old, array, sizeof old);
    int64_t more = *cap ? 2 * *cap : 64;
    void *p = es_alloc((size_t)more, item_bytes, err);
    if (!p) return -ES_EIO;
    if (n) memcpy(p, old, (size_t)n * item_bytes);
    es_free(&old);
    memcpy(array, &p, sizeof p);
    *cap = more;
    return 0;
}

int es_truth_clip(struct es_truth *t, const char *clip, struct es_err *err) {
    int64_t i = es_names_add(t->clips, clip, err);
    return i < 0 ? (int)i : 0;
}

int es_truth_event(struct es_truth *t, const char *clip, const char *label, double onset_s, double offset_s,
                   double confidence, int64_t row, struct es_err *err) {
    int64_t c = es_names_add(t->clips, clip, err);
    if (c < 0) return (int)c;
    int64_t l = es_names_add(t->labels, label, err);
    if (l < 0) return (int)l;
    ES_TRY(reserve(&t->events, t->n_events, &t->cap_events, sizeof *t->events, err));
    t->events[t->n_events++] = (struct es_truth_event){.clip = c,
                                                       .label = l,
                                                       .onset_s = onset_s,
                                                       .offset_s = offset_s,
                                                       .confidence = confidence,
                                                       .row = row};
    return 0;
}

int es_truth_duration(struct es_truth *t, const char *clip, double dur_s, struct es_err *err) {
    const int64_t n = es_names_count(t->dur_clips);
    ES_TRY(reserve(&t->dur_s, n, &t->cap_dur, sizeof *t->dur_s, err));
    int64_t i = es_names_add(t->dur_clips, clip, err);
    if (i < 0) return (int)i;
    if (i < n && t->dur_s[i] != dur_s)
        return es_err_set(err, ES_EDATA, "%s: clip '%s': got two durations, %g and %g s", t->dur_source, clip,
                          t->dur_s[i], dur_s);
    t->dur_s[i] = dur_s;
    return 0;
}

double es_truth_duration_of(const struct es_truth *t, const char *clip) {
    int64_t i = es_names_find(t->dur_clips, clip);
    return i < 0 ? (double)NAN : t->dur_s[i];
}

/* ---- files */

const char *scores_clip_id(struct es_text *t, const char *filename) {
    const char *dot = strrchr(filename, '.');
    t->n = 0;
    es_text_add_bytes(t, filename, dot ? (size_t)(dot - filename) : strlen(filename));
    return t->s;
}

static int load_events(struct es_truth *t, struct es_text *id, struct es_err *err) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
    struct es_tsv *tsv = NULL;
    int rc = 0;
    ES_GO(es_tsv_open(&tsv, t->source, columns, 5, 0, err));
    t->has_confidence = es_tsv_has(tsv, 4);
    for (int64_t row = 0; row < es_tsv_rows(tsv); row++) {
        double onset_s, offset_s, confidence = 1;
        const char *clip = scores_clip_id(id, es_tsv_text(tsv, row, 0)), *label = es_tsv_text(tsv, row, 3);
        ES_GO(es_text_check(id, err));
        if (*label == 0) { /* a clip without events */
            ES_GO(es_truth_clip(t, clip, err));
            continue;
        }
        ES_GO(es_tsv_times(tsv, row, 1, 2, &onset_s, &offset_s, err));
        if (t->has_confidence) ES_GO(es_tsv_number(tsv, row, 4, &confidence, err));
        if (!(confidence >= 0 && confidence <= 1)) ES_GO(es_tsv_wrong(tsv, row, 4, "0..1", err));
        ES_GO(es_truth_event(t, clip, label, onset_s, offset_s, confidence, es_tsv_line(tsv, row), err));
    }
done:
    es_tsv_close(&tsv);
    return rc;
}

static int load_durations(struct es_truth *t, struct es_text *id, struct es_err *err) {
    static const char *const columns[] = {"filename", "duration"};
    struct es_tsv *tsv = NULL;
    int rc = 0;
    ES_GO(es_tsv_open(&tsv, t->dur_source, columns, 2, 0, err));
    for (int64_t row = 0; row < es_tsv_rows(tsv); row++) {
        double dur_s;
        const char *clip = scores_clip_id(id, es_tsv_text(tsv, row, 0));
        ES_GO(es_text_check(id, err));
        ES_GO(es_tsv_number(tsv, row, 1, &dur_s, err));
        ES_GO(es_truth_duration(t, clip, dur_s, err));
    }
done:
    es_tsv_close(&tsv);
    return rc;
}

int es_truth_load(struct es_truth **t, const char *events_path, const char *durations_path,
                  struct es_err *err) {
    struct es_text id = {0};
    int rc = es_truth_new(t, events_path, durations_path, err);
    if (rc < 0) return rc;
    ES_GO(load_events(*t, &id, err));
    ES_GO(load_durations(*t, &id, err));
done:
    es_text_free(&id);
    if (rc < 0) es_truth_free(t);
    return rc;
}
