#include "earshot/events.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/text.h"
#include "scores_impl.h"

int es_events_decode(struct es_truth **out, const struct es_scores *s, const double *threshold, bool as_float,
                     struct es_err *err) {
    double *column = NULL;
    int frames_max = 0;
    int rc = es_truth_new(out, s->source, "", err);
    if (rc < 0) return rc;
    for (int64_t i = 0; i < s->n_clips; i++)
        if (s->clips[i].n_frames > frames_max) frames_max = s->clips[i].n_frames;
    column = es_alloc((size_t)frames_max, sizeof *column, err);
    rc = column ? 0 : -ES_EIO;
    for (int64_t i = 0; i < s->n_clips && rc == 0; i++) {
        const struct es_scores_clip *c = &s->clips[i];
        const double *t = c->edges_s;
        ES_GO(es_truth_clip(*out, c->id, err));
        for (int k = 0; k < s->n_classes; k++) {
            const double th = as_float ? (double)(float)threshold[k] : threshold[k];
            es_scores_column(s, i, k, column);
            for (int a = 0, b; a < c->n_frames; a = b + 1) {
                double sum = 0;
                for (b = a; b < c->n_frames && column[b] > th; b++) sum += column[b] * (t[b + 1] - t[b]);
                if (b > a)
                    ES_GO(
                        es_truth_event(*out, c->id, s->classes[k], t[a], t[b], sum / (t[b] - t[a]), 0, err));
            }
        }
    }
done:
    es_free(&column);
    if (rc < 0) es_truth_free(out);
    return rc;
}

int es_events_decode_hear(int n, const double *time, const double *score, double threshold, double dur_min,
                          double *onset, double *offset) {
    int n_events = 0;
    for (int a = 0, b; a < n; a = b + 1) {
        for (b = a; b < n && score[b] > threshold; b++) {
        }
        if (b == a || !(time[b - 1] - time[a] >= dur_min)) continue;
        onset[n_events] = time[a];
        offset[n_events++] = time[b - 1];
    }
    return n_events;
}

int es_events_hear_window(double filter_ms, double step_ms) {
    const int w = (int)rint(filter_ms / step_ms);
    return w > 1 ? w : 1;
}

int es_events_load(struct es_truth **out, const char *path, struct es_err *err) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?score"};
    struct es_tsv *t = NULL;
    struct es_text id = {0};
    int rc = es_truth_new(out, path, "", err);
    if (rc < 0) return rc;
    ES_GO(es_tsv_open(&t, path, columns, 5, 0, err));
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        double onset_s, offset_s, score = 1;
        const char *clip = scores_clip_id(&id, es_tsv_text(t, row, 0)), *label = es_tsv_text(t, row, 3);
        ES_GO(es_text_check(&id, err));
        if (*label == 0) {
            ES_GO(es_truth_clip(*out, clip, err));
            continue;
        }
        ES_GO(es_tsv_times(t, row, 1, 2, &onset_s, &offset_s, err));
        if (es_tsv_has(t, 4)) ES_GO(es_tsv_number(t, row, 4, &score, err));
        ES_GO(es_truth_event(*out, clip, label, onset_s, offset_s, score, es_tsv_line(t, row), err));
    }
done:
    es_text_free(&id);
    es_tsv_close(&t);
    if (rc < 0) es_truth_free(out);
    return rc;
}

/* ---- saving */
static int compare_events(const void *x, const void *y) {
    const struct es_truth_event *a = x, *b = y;
    if (a->clip != b->clip) return a->clip < b->clip ? -1 : 1;
    if (a->onset_s != b->onset_s) return a->onset_s < b->onset_s ? -1 : 1;
    return a->label < b->label ? -1 : a->label > b->label;
}

static void add_number(struct es_text *t, double v, char end) {
    char digits[32];
    es_text_from_double(v, digits);
    es_text_add(t, "%s%c", digits, end);
}

int es_events_save(const struct es_truth *events, const char *suffix, const char *path, struct es_err *err) {
    struct es_text t = {0};
    int rc = 0;
    struct es_truth_event *e = es_alloc((size_t)events->n_events, sizeof *e, err);
    if (!e) return -ES_EIO;
    if (events->n_events) memcpy(e, events->events, (size_t)events->n_events * sizeof *e);
    qsort(e, (size_t)events->n_events, sizeof *e, compare_events);
    es_text_add(&t, "filename\tonset\toffset\tevent_label\tscore\n");
    for (int64_t i = 0; i < events->n_events; i++) {
        es_text_add(&t, "%s%s\t", es_names_get(events->clips, e[i].clip), suffix);
        add_number(&t, e[i].onset_s, '\t');
        add_number(&t, e[i].offset_s, '\t');
        es_text_add(&t, "%s\t", es_names_get(events->labels, e[i].label));
        add_number(&t, e[i].confidence, '\n');
    }
    ES_GO(es_text_check(&t, err));
    ES_GO(es_text_save(path, t.s, t.n, err));
done:
    es_text_free(&t);
    es_free(&e);
    return rc;
}
