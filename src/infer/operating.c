#include "earshot/operating.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/events.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "evaluate_impl.h"
#include "scores_impl.h"

struct span { /* an event or a detection */
    int64_t clip;
    int i_class;
    double onset_s, offset_s;
    int64_t row;
};

struct es_operating_data {
    struct es_names *clips;   /* of truth and durations */
    struct es_names *classes; /* by index of class_name */
    double *dur_s;            /* by clip; NAN: not in the table */
    int64_t n_events;
    struct span *events; /* by clip, in order of the table */
    int64_t *first;      /* [clips + 1] */
};

static int compare_names(const void *x, const void *y) {
    const char *const *a = x, *const *b = y;
    return strcmp(*a, *b);
}

static int compare_spans(const void *x, const void *y) {
    const struct span *a = x, *b = y;
    if (a->clip != b->clip) return a->clip < b->clip ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

static int compare_onsets(const void *x, const void *y) {
    const struct span *a = x, *b = y;
    if (a->clip != b->clip) return a->clip < b->clip ? -1 : 1;
    if (a->i_class != b->i_class) return a->i_class < b->i_class ? -1 : 1;
    return a->onset_s < b->onset_s ? -1 : a->onset_s > b->onset_s;
}

static bool is_new(const struct es_operating *o) {
    return o->params.version == ES_OPERATING_05;
}

/* Events of the table as spans, by clip. With the newer version those of length 0 are gone. */
static int take_spans(struct span **out, int64_t *n, const struct es_operating *o, const struct es_truth *t,
                      struct es_err *err) {
    const struct es_operating_data *d = o->data;
    struct span *s = *out = es_alloc((size_t)t->n_events, sizeof *s, err);
    if (!s) return -ES_EIO;
    *n = 0;
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct es_truth_event *e = &t->events[i];
        const int64_t k = es_names_find(d->classes, es_names_get(t->labels, e->label));
        const int64_t clip = es_names_find(d->clips, es_names_get(t->clips, e->clip));
        if (k < 0 || clip < 0 || (is_new(o) && e->offset_s == e->onset_s)) continue;
        s[(*n)++] = (struct span){
            .clip = clip, .i_class = (int)k, .onset_s = e->onset_s, .offset_s = e->offset_s, .row = i};
    }
    if (is_new(o)) {
        qsort(s, (size_t)*n, sizeof *s, compare_onsets);
        double end_s = 0;
        for (int64_t i = 1; i < *n; i++) {
            const struct span *a = &s[i - 1], *b = &s[i];
            if (a->clip != b->clip || a->i_class != b->i_class) {
                end_s = 0;
                continue;
            }
            end_s = fmax(end_s, a->offset_s);
            if (b->onset_s < end_s && !(a->onset_s == b->onset_s && a->offset_s == b->offset_s))
                return es_err_set(
                    err, ES_EDATA,
                    "%s: clip '%s': got events of class '%s' that overlap at %g s; want none (join them)",
                    t->source, es_names_get(d->clips, b->clip), o->class_name[b->i_class], b->onset_s);
        }
    }
    qsort(s, (size_t)*n, sizeof *s, compare_spans);
    return 0;
}

static int find_classes(struct es_operating *o, const struct es_truth *t, struct es_err *err) {
    const int64_t n = es_names_count(t->labels);
    int rc = 0;
    const char **names = es_alloc((size_t)n, sizeof *names, err);
    o->class_name = es_alloc((size_t)n, sizeof *o->class_name, err);
    if (!names || !o->class_name) rc = -ES_EIO;
    for (int64_t i = 0; i < n && rc == 0; i++) names[i] = es_names_get(t->labels, i);
    if (rc == 0) qsort(names, (size_t)n, sizeof *names, compare_names);
    if (rc == 0 && n == 0) rc = es_err_set(err, ES_EDATA, "%s: got no event, want at least one", t->source);
    for (; o->n_classes < n && rc == 0; o->n_classes++) {
        if (!(o->class_name[o->n_classes] = es_strdup(names[o->n_classes], err))) rc = -ES_EIO;
        if (rc == 0 && es_names_add(o->data->classes, names[o->n_classes], err) < 0) rc = -ES_EIO;
    }
    es_free(&names);
    return rc;
}

static int find_clips(struct es_operating_data *d, const struct es_truth *t, struct es_err *err) {
    for (int64_t i = 0; i < es_names_count(t->dur_clips); i++)
        if (es_names_add(d->clips, es_names_get(t->dur_clips, i), err) < 0) return -ES_EIO;
    for (int64_t i = 0; i < es_names_count(t->clips); i++)
        if (es_names_add(d->clips, es_names_get(t->clips, i), err) < 0) return -ES_EIO;
    const int64_t n = es_names_count(d->clips);
    d->dur_s = es_alloc((size_t)n, sizeof *d->dur_s, err);
    d->first = es_alloc((size_t)n + 1, sizeof *d->first, err);
    if (!d->dur_s || !d->first) return -ES_EIO;
    for (int64_t i = 0; i < n; i++) d->dur_s[i] = es_truth_duration_of(t, es_names_get(d->clips, i));
    return 0;
}

int es_operating_new(struct es_operating **out, const struct es_truth *truth,
                     const struct es_operating_params *params, struct es_err *err) {
    int rc = -ES_EIO;
    struct es_operating *o = *out = es_alloc(1, sizeof *o, err);
    if (!o) return rc;
    o->params = *params;
    struct es_operating_data *d = o->data = es_alloc(1, sizeof *d, err);
    if (!d) goto done;
    ES_GO(es_names_new(&d->clips, err));
    ES_GO(es_names_new(&d->classes, err));
    ES_GO(find_classes(o, truth, err));
    ES_GO(find_clips(d, truth, err));
    ES_GO(take_spans(&d->events, &d->n_events, o, truth, err));
    rc = -ES_EIO;
    o->n_ref = es_alloc((size_t)o->n_classes, sizeof *o->n_ref, err);
    o->t_ref_s = es_alloc((size_t)o->n_classes, sizeof *o->t_ref_s, err);
    if (!o->n_ref || !o->t_ref_s) goto done;
    for (int64_t i = 0; i < d->n_events; i++) {
        const struct span *e = &d->events[i];
        o->n_ref[e->i_class]++;
        o->t_ref_s[e->i_class] += e->offset_s - e->onset_s;
        d->first[e->clip + 1]++;
    }
    for (int64_t i = 0; i < es_names_count(d->clips); i++) {
        d->first[i + 1] += d->first[i];
        if (!isnan(d->dur_s[i])) o->dur_s += d->dur_s[i];
    }
    rc = 0;
    if (!(o->dur_s > 0))
        rc = es_err_set(err, ES_EDATA, "%s: got durations of %g s in all, want more than 0",
                        truth->dur_source, o->dur_s);
done:
    if (rc < 0) es_operating_free(out);
    return rc;
}

static void free_point(struct es_operating_point *p) {
    es_free(&p->fp_rate);
    es_free(&p->tp_ratio);
    es_free(&p->counts);
}

void es_operating_free(struct es_operating **out) {
    struct es_operating *o = *out;
    if (!o) return;
    for (int i = 0; i < o->n_points; i++) free_point(&o->points[i]);
    es_free(&o->points);
    evalset_free_names(&o->class_name, o->n_classes);
    es_free(&o->n_ref);
    es_free(&o->t_ref_s);
    if (o->data) {
        es_names_free(&o->data->clips);
        es_names_free(&o->data->classes);
        es_free(&o->data->dur_s);
        es_free(&o->data->events);
        es_free(&o->data->first);
        es_free(&o->data);
    }
    es_free(out);
}

/* ---- one operating point */

static bool meets(const struct es_operating *o, const struct span *a, double onset_s, double offset_s) {
    return is_new(o) ? a->onset_s < offset_s && onset_s < a->offset_s
                     : a->onset_s <= offset_s && onset_s <= a->offset_s;
}

static double common_s(const struct span *a, const struct span *b) {
    return fmin(a->offset_s, b->offset_s) - fmax(a->onset_s, b->onset_s);
}

/* Share of detection s that lies in events of a class; negative when it meets none. */
static double share(const struct es_operating *o, const struct span *s, int i_class) {
    const struct es_operating_data *d = o->data;
    double sum = -1;
    for (int64_t e = d->first[s->clip]; e < d->first[s->clip + 1]; e++) {
        const struct span *g = &d->events[e];
        if (g->i_class != i_class || !meets(o, s, g->onset_s, g->offset_s)) continue;
        const double part = common_s(s, g) / (s->offset_s - s->onset_s);
        sum = fmax(sum, 0) + (isnan(part) ? 0 : part);
    }
    return sum;
}

static void count(struct es_operating_point *p, const struct es_operating *o, const struct span *s, int64_t n,
                  double *found) {
    const struct es_operating_data *d = o->data;
    const int K = o->n_classes;
    for (int64_t i = 0; i < n; i++, s++) {
        int64_t *row = p->counts + (int64_t)s->i_class * (K + 1);
        const double own = share(o, s, s->i_class);
        if (own >= 0 && own >= o->params.dtc) {
            for (int64_t e = d->first[s->clip]; e < d->first[s->clip + 1]; e++) {
                const struct span *g = &d->events[e];
                if (g->i_class != s->i_class || !meets(o, s, g->onset_s, g->offset_s)) continue;
                const double part = common_s(s, g) / (g->offset_s - g->onset_s);
                if (!isnan(part)) found[e] += part;
            }
            continue;
        }
        row[K] += !isnan(d->dur_s[s->clip]) && meets(o, s, 0, d->dur_s[s->clip]);
        for (int k = 0; k < K; k++) {
            if (k == s->i_class) continue;
            const double other = share(o, s, k);
            row[k] += other >= 0 && other >= o->params.cttc;
        }
    }
    for (int64_t e = 0; e < d->n_events; e++)
        p->counts[(int64_t)d->events[e].i_class * (K + 2)] += found[e] > 0 && found[e] >= o->params.gtc;
    for (int k = 0; k < K; k++) {
        const int64_t *row = p->counts + (int64_t)k * (K + 1);
        p->tp_ratio[k] = (double)row[k] / (double)o->n_ref[k];
        p->fp_rate[k] = (double)row[K] * 3600 / o->dur_s;
    }
}

static int digest(uint64_t *v, const struct es_truth *t, struct es_err *err) {
    struct es_hash *h = NULL;
    ES_TRY(es_hash_new(&h, err));
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct es_truth_event *e = &t->events[i];
        const double times[2] = {e->onset_s, e->offset_s};
        es_hash_string(h, es_names_get(t->clips, e->clip));
        es_hash_string(h, es_names_get(t->labels, e->label));
        es_hash_update(h, times, sizeof times);
    }
    *v = es_hash_value(h);
    es_hash_free(&h);
    return 0;
}

static int reserve(struct es_operating *o, struct es_err *err) {
    if (o->n_points < o->cap_points) return 0;
    const int cap = o->cap_points ? 2 * o->cap_points : 64;
    struct es_operating_point *more = es_alloc((size_t)cap, sizeof *more, err);
    if (!more) return -ES_EIO;
    if (o->n_points) memcpy(more, o->points, (size_t)o->n_points * sizeof *more);
    es_free(&o->points);
    o->points = more;
    o->cap_points = cap;
    return 0;
}

int es_operating_add(struct es_operating *o, const struct es_truth *detections, double threshold,
                     struct es_err *err) {
    struct es_operating_point p = {.threshold = threshold};
    struct span *s = NULL;
    int64_t n = 0;
    const size_t K = (size_t)o->n_classes;
    double *found = es_alloc((size_t)o->data->n_events, sizeof *found, err);
    int rc = found ? digest(&p.digest, detections, err) : -ES_EIO;
    if (rc < 0) goto done;
    for (int i = 0; i < o->n_points; i++)
        if (o->points[i].digest == p.digest) rc = 1;
    if (rc == 1) goto done;
    ES_GO(reserve(o, err));
    ES_GO(take_spans(&s, &n, o, detections, err));
    p.counts = es_alloc((K + 1) * (K + 1), sizeof *p.counts, err);
    p.tp_ratio = es_alloc(K, sizeof *p.tp_ratio, err);
    p.fp_rate = es_alloc(K, sizeof *p.fp_rate, err);
    if (!p.counts || !p.tp_ratio || !p.fp_rate) {
        free_point(&p);
        rc = -ES_EIO;
        goto done;
    }
    count(&p, o, s, n, found);
    o->points[o->n_points++] = p;
done:
    es_free(&s);
    es_free(&found);
    return rc;
}

struct line {
    double threshold;
    int64_t row;
};

static int compare_lines(const void *x, const void *y) {
    const struct line *a = x, *b = y;
    if (a->threshold != b->threshold) return a->threshold < b->threshold ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

int es_operating_load(struct es_operating *o, const char *path, struct es_err *err) {
    static const char *const columns[] = {"threshold", "filename", "onset", "offset", "event_label"};
    struct es_tsv *t = NULL;
    struct es_truth *events = NULL;
    struct es_text id = {0};
    struct line *line = NULL;
    int rc = es_tsv_open(&t, path, columns, 5, 0, err);
    if (rc < 0) goto done;
    const int64_t n = es_tsv_rows(t);
    line = es_alloc((size_t)n, sizeof *line, err);
    rc = line ? 0 : -ES_EIO;
    for (int64_t row = 0; row < n && rc == 0; row++) {
        line[row].row = row;
        rc = es_tsv_number(t, row, 0, &line[row].threshold, err);
    }
    if (rc < 0) goto done;
    qsort(line, (size_t)n, sizeof *line, compare_lines);
    for (int64_t i = 0; i < n;) {
        const double threshold = line[i].threshold;
        ES_GO(es_truth_new(&events, path, "", err));
        for (; i < n && line[i].threshold == threshold; i++) {
            const int64_t row = line[i].row;
            double onset_s, offset_s;
            const char *clip = scores_clip_id(&id, es_tsv_text(t, row, 1));
            ES_GO(es_text_check(&id, err));
            ES_GO(es_tsv_times(t, row, 2, 3, &onset_s, &offset_s, err));
            ES_GO(es_truth_event(events, clip, es_tsv_text(t, row, 4), onset_s, offset_s, 1,
                                 es_tsv_line(t, row), err));
        }
        ES_GO(es_operating_add(o, events, threshold, err));
        es_truth_free(&events);
    }
done:
    es_truth_free(&events);
    es_free(&line);
    es_text_free(&id);
    es_tsv_close(&t);
    return rc < 0 ? rc : 0;
}

int es_operating_add_scores(struct es_operating *o, const struct es_scores *scores, const double *thresholds,
                            int n, struct es_err *err) {
    struct es_truth *events = NULL;
    int rc = 0;
    double *th = es_alloc((size_t)scores->n_classes, sizeof *th, err);
    if (!th) return -ES_EIO;
    if (!thresholds) n = 50;
    for (int i = 0; i < n; i++) {
        const double v = thresholds ? thresholds[i] : (2 * i + 1) / 100.0;
        for (int k = 0; k < scores->n_classes; k++) th[k] = v;
        ES_GO(es_events_decode(&events, scores, th, !scores->is_double, err));
        if (events->n_events > 0)
            ES_GO(es_operating_add(o, events, v, err)); /* the challenge drops empty ones */
        es_truth_free(&events);
    }
    rc = 0;
done:
    es_truth_free(&events);
    es_free(&th);
    return rc;
}

/* ---- score */

static int compare_x(const void *x, const void *y) {
    const double *a = x, *b = y;
    if (a[0] != b[0]) return a[0] < b[0] ? -1 : 1;
    return a[1] < b[1] ? -1 : a[1] > b[1];
}

/* Staircase of a class: the largest ratio of all points up to an efpr. */
static int class_curve(struct es_roc *roc, const struct es_operating *o, int k, double alpha_ct,
                       double efpr_max, struct es_err *err) {
    const int K = o->n_classes, others = is_new(o) ? K - 1 : K;
    double(*point)[2] = es_alloc((size_t)o->n_points + 1, sizeof *point, err);
    roc->x = es_alloc((size_t)o->n_points + 1, sizeof *roc->x, err);
    roc->y = es_alloc((size_t)o->n_points + 1, sizeof *roc->y, err);
    const bool ok = point && roc->x && roc->y;
    for (int i = 0; i < o->n_points && ok; i++) {
        const struct es_operating_point *p = &o->points[i];
        double ct_rate = 0;
        for (int j = 0; j < K; j++)
            if (j != k) ct_rate += (double)p->counts[(int64_t)k * (K + 1) + j] * 3600 / o->t_ref_s[j];
        point[i + 1][0] = p->fp_rate[k] + (alpha_ct > 0 && others > 0 ? alpha_ct * (ct_rate / others) : 0);
        point[i + 1][1] = p->tp_ratio[k];
    }
    if (ok) qsort(point, (size_t)o->n_points + 1, sizeof *point, compare_x);
    for (int i = 0; i <= o->n_points && ok; i++) {
        if (point[i][0] > efpr_max || (roc->n > 0 && point[i][1] <= roc->y[roc->n - 1])) continue;
        if (roc->n > 0 && roc->x[roc->n - 1] == point[i][0]) roc->n--;
        roc->x[roc->n] = point[i][0];
        roc->y[roc->n++] = point[i][1];
    }
    es_free(&point);
    return ok ? 0 : -ES_EIO;
}

int es_operating_psds(struct es_psds **out, const struct es_operating *o, double alpha_ct, double alpha_st,
                      double efpr_max, struct es_err *err) {
    *out = NULL;
    if (!(alpha_ct >= 0 && alpha_st >= 0 && efpr_max > 0 && isfinite(efpr_max)))
        return es_err_set(err, ES_EUSAGE,
                          "PSDS: got alpha_ct %g, alpha_st %g, limit %g; want weights >= 0, a limit > 0",
                          alpha_ct, alpha_st, efpr_max);
    int rc = -ES_EIO;
    const int K = o->n_classes;
    struct es_psds *psds = *out = es_alloc(1, sizeof *psds, err);
    if (!psds) return rc;
    psds->class_value = es_alloc((size_t)K, sizeof *psds->class_value, err);
    psds->class_roc = es_alloc((size_t)K, sizeof *psds->class_roc, err);
    psds->class_name = es_alloc((size_t)K, sizeof *psds->class_name, err);
    if (!psds->class_value || !psds->class_roc || !psds->class_name) goto done;
    psds->n_classes = K;
    for (int k = 0; k < K; k++) {
        if (!(psds->class_name[k] = es_strdup(o->class_name[k], err))) goto done;
        ES_GO(class_curve(&psds->class_roc[k], o, k, alpha_ct, efpr_max, err));
        rc = -ES_EIO;
    }
    ES_GO(psds_finish(psds, alpha_st, efpr_max, err));
done:
    if (rc < 0) es_psds_free(out);
    return rc;
}

void es_operating_f1(const struct es_operating *o, int i, double *class_f, double *macro) {
    const int K = o->n_classes;
    int n = 0;
    *macro = 0;
    for (int k = 0; k < K; k++) {
        const int64_t *row = o->points[i].counts + (int64_t)k * (K + 1);
        const double tp = (double)row[k], fp = (double)row[K], fn = (double)o->n_ref[k] - tp;
        class_f[k] = tp > 0 ? 2 * tp / (2 * tp + fn + fp) : (double)NAN;
        if (tp > 0) *macro += class_f[k];
        n += tp > 0;
    }
    if (n > 0) *macro /= n;
}
