#include "earshot/sedeval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

struct es_sedeval_params es_sedeval_params_default(void) {
    return (struct es_sedeval_params){
        .collar_s = 0.2, .length_rate = 0.2, .segment_s = 1, .zero_precision = true};
}

struct item { /* an event or a detection, its class as an index of both tables together */
    int64_t clip;
    int i_class;
    double onset_s, offset_s;
    int64_t row;
};

struct counts {
    int64_t n_ref, n_sys, tp, substitutions, deletions, insertions;
};

struct work {
    const struct es_sedeval_params *params;
    struct es_sedeval *result;
    struct es_names *classes, *clips;
    struct item *ref, *sys;
    int64_t n_ref, n_sys;
    struct counts *classes_n, all;
};

static int compare_items(const void *x, const void *y) {
    const struct item *a = x, *b = y;
    if (a->clip != b->clip) return a->clip < b->clip ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Items of the clips that w->clips has, by clip. */
static int take_items(struct item **out, int64_t *n, struct work *w, const struct es_truth *t,
                      struct es_err *err) {
    struct item *it = *out = es_alloc((size_t)t->n_events, sizeof *it, err);
    if (!it) return -ES_EIO;
    for (int64_t i = 0; i < t->n_events; i++) {
        const struct es_truth_event *e = &t->events[i];
        const int64_t k = es_names_add(w->classes, es_names_get(t->labels, e->label), err);
        const int64_t clip = es_names_find(w->clips, es_names_get(t->clips, e->clip));
        if (k < 0) return (int)k;
        if (clip < 0) continue;
        it[(*n)++] = (struct item){
            .clip = clip, .i_class = (int)k, .onset_s = e->onset_s, .offset_s = e->offset_s, .row = i};
    }
    qsort(it, (size_t)*n, sizeof *it, compare_items);
    return 0;
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : (double)NAN;
}

static struct es_sedeval_value value_of(const struct counts *c, bool zero_precision) {
    struct es_sedeval_value v = {.n_ref = c->n_ref, .n_sys = c->n_sys};
    const double n = (double)c->n_ref;
    v.precision = c->n_sys == 0 && zero_precision ? 0 : ratio((double)c->tp, (double)c->n_sys);
    v.recall = ratio((double)c->tp, n);
    v.f = v.precision + v.recall == 0 ? 0 : 2 * v.precision * v.recall / (v.precision + v.recall);
    v.substitution_rate = ratio((double)c->substitutions, n);
    v.deletion_rate = ratio((double)c->deletions, n);
    v.insertion_rate = ratio((double)c->insertions, n);
    v.error_rate = v.substitution_rate + v.deletion_rate + v.insertion_rate;
    return v;
}

/* Mean over classes of one quantity, without NAN. */
static double mean_of(const struct es_sedeval *r, size_t offset) {
    double sum = 0;
    int n = 0;
    for (int k = 0; k < r->n_classes; k++) {
        double v;
        memcpy(&v, (const char *)&r->classes[k] + offset, sizeof v);
        if (isnan(v)) continue;
        sum += v;
        n++;
    }
    return n > 0 ? sum / n : (double)NAN;
}

static int make_result(struct work *w, bool zero_precision, struct es_err *err) {
    struct es_sedeval *r = w->result;
    const int64_t K = es_names_count(w->classes);
    r->class_name = es_alloc((size_t)K, sizeof *r->class_name, err);
    r->classes = es_alloc((size_t)K, sizeof *r->classes, err);
    if (!r->class_name || !r->classes) return -ES_EIO;
    for (; r->n_classes < K; r->n_classes++) {
        if (!(r->class_name[r->n_classes] = es_strdup(es_names_get(w->classes, r->n_classes), err)))
            return -ES_EIO;
        r->classes[r->n_classes] = value_of(&w->classes_n[r->n_classes], zero_precision);
    }
    r->overall = value_of(&w->all, zero_precision);
    static const size_t fields[] = {
        offsetof(struct es_sedeval_value, f),
        offsetof(struct es_sedeval_value, precision),
        offsetof(struct es_sedeval_value, recall),
        offsetof(struct es_sedeval_value, error_rate),
        offsetof(struct es_sedeval_value, deletion_rate),
        offsetof(struct es_sedeval_value, insertion_rate),
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const double v = mean_of(r, fields[i]);
        memcpy((char *)&r->average + fields[i], &v, sizeof v);
    }
    r->average.substitution_rate = (double)NAN;
    r->average.n_ref = w->all.n_ref;
    r->average.n_sys = w->all.n_sys;
    return 0;
}

/* ---- events */

static bool times_match(const struct es_sedeval_params *p, const struct item *g, const struct item *s) {
    if (!(fabs(g->onset_s - s->onset_s) <= p->collar_s)) return false;
    const double collar_s = fmax(p->collar_s, p->length_rate * (g->offset_s - g->onset_s));
    return p->onset_only || fabs(g->offset_s - s->offset_s) <= collar_s;
}

struct matching {
    const struct es_sedeval_params *params;
    const struct item *ref, *sys;
    int n_ref, n_sys;
    int *sys_of, *ref_of; /* -1: free */
    bool *seen;           /* by sys */
};

/* Gives event r a detection, moving others where that helps (Kuhn). */
static bool augment(struct matching *m, int r) {
    for (int s = 0; s < m->n_sys; s++) {
        if (m->seen[s] || m->sys[s].i_class != m->ref[r].i_class ||
            !times_match(m->params, &m->ref[r], &m->sys[s]))
            continue;
        m->seen[s] = true;
        if (m->ref_of[s] >= 0 && !augment(m, m->ref_of[s])) continue;
        m->ref_of[s] = r;
        m->sys_of[r] = s;
        return true;
    }
    return false;
}

static int match_clip(struct work *w, const struct item *ref, int n_ref, const struct item *sys, int n_sys,
                      struct es_err *err) {
    struct matching m = {.params = w->params, .ref = ref, .sys = sys, .n_ref = n_ref, .n_sys = n_sys};
    int64_t tp = 0, substitutions = 0;
    m.sys_of = es_alloc((size_t)n_ref, sizeof *m.sys_of, err);
    m.ref_of = es_alloc((size_t)n_sys, sizeof *m.ref_of, err);
    m.seen = es_alloc((size_t)n_sys, sizeof *m.seen, err);
    const int rc = m.sys_of && m.ref_of && m.seen ? 0 : -ES_EIO;
    if (rc < 0) goto done;
    for (int r = 0; r < n_ref; r++) m.sys_of[r] = -1;
    for (int s = 0; s < n_sys; s++) m.ref_of[s] = -1;
    for (int r = 0; r < n_ref; r++) {
        memset(m.seen, 0, (size_t)n_sys * sizeof *m.seen);
        augment(&m, r);
    }
    for (int r = 0; r < n_ref; r++) {
        struct counts *c = &w->classes_n[ref[r].i_class];
        c->n_ref++;
        tp += m.sys_of[r] >= 0;
        c->tp += m.sys_of[r] >= 0;
        c->deletions += m.sys_of[r] < 0;
    }
    for (int s = 0; s < n_sys; s++) {
        struct counts *c = &w->classes_n[sys[s].i_class];
        c->n_sys++;
        c->insertions += m.ref_of[s] < 0;
    }
    for (int r = 0; r < n_ref; r++) {
        if (m.sys_of[r] >= 0) continue;
        int s = 0;
        while (s < n_sys && (m.ref_of[s] >= 0 || !times_match(w->params, &ref[r], &sys[s]))) s++;
        if (s == n_sys) continue;
        m.ref_of[s] = r; /* counted once */
        substitutions++;
    }
    w->all.n_ref += n_ref;
    w->all.n_sys += n_sys;
    w->all.tp += tp;
    w->all.substitutions += substitutions;
    w->all.deletions += n_ref - tp - substitutions;
    w->all.insertions += n_sys - tp - substitutions;
done:
    es_free(&m.seen);
    es_free(&m.ref_of);
    es_free(&m.sys_of);
    return rc;
}

/* ---- segments */

static void fill(uint8_t *active, int K, int n, double per_s, const struct item *it, int n_items,
                 uint8_t bit) {
    for (int i = 0; i < n_items; i++)
        for (int q = (int)floor(it[i].onset_s * per_s); q < (int)ceil(it[i].offset_s * per_s) && q < n; q++)
            active[(int64_t)q * K + it[i].i_class] |= bit;
}

static int segments_clip(struct work *w, const struct item *ref, int n_ref, const struct item *sys, int n_sys,
                         struct es_err *err) {
    const int K = (int)es_names_count(w->classes);
    const double per_s = 1 / w->params->segment_s;
    double end_s = 0;
    for (int i = 0; i < n_ref; i++) end_s = fmax(end_s, ref[i].offset_s);
    for (int i = 0; i < n_sys; i++) end_s = fmax(end_s, sys[i].offset_s);
    const int n = (int)ceil(end_s * per_s);
    uint8_t *active = es_alloc((size_t)n * (size_t)K, 1, err);
    if (!active) return -ES_EIO;
    fill(active, K, n, per_s, ref, n_ref, 1);
    fill(active, K, n, per_s, sys, n_sys, 2);
    for (int q = 0; q < n; q++) {
        int64_t here[4] = {0};
        for (int k = 0; k < K; k++) {
            const uint8_t a = active[(int64_t)q * K + k];
            struct counts *c = &w->classes_n[k];
            here[a]++;
            c->n_ref += a & 1;
            c->n_sys += a >> 1;
            c->tp += a == 3;
            c->deletions += a == 1;
            c->insertions += a == 2;
        }
        const int64_t both = here[1] < here[2] ? here[1] : here[2];
        w->all.n_ref += here[1] + here[3];
        w->all.n_sys += here[2] + here[3];
        w->all.tp += here[3];
        w->all.substitutions += both;
        w->all.deletions += here[1] - both;
        w->all.insertions += here[2] - both;
    }
    es_free(&active);
    return 0;
}

/* ---- both */

typedef int (*clip_fn)(struct work *w, const struct item *ref, int n_ref, const struct item *sys, int n_sys,
                       struct es_err *err);

static int run(struct es_sedeval **out, const struct es_truth *truth, const struct es_truth *detections,
               const struct es_sedeval_params *params, bool zero_precision, clip_fn fn, struct es_err *err) {
    struct work w = {.params = params, .clips = truth->clips};
    *out = NULL;
    if (!(params->collar_s >= 0 && params->length_rate >= 0 && params->segment_s > 0))
        return es_err_set(err, ES_EUSAGE,
                          "sed_eval: got collar %g s, rate %g, segments of %g s; want >= 0, >= 0, > 0",
                          params->collar_s, params->length_rate, params->segment_s);
    w.result = *out = es_alloc(1, sizeof **out, err);
    int rc = *out ? 0 : -ES_EIO;
    if (rc < 0) goto done;
    ES_GO(es_names_new(&w.classes, err));
    ES_GO(take_items(&w.ref, &w.n_ref, &w, truth, err));
    ES_GO(take_items(&w.sys, &w.n_sys, &w, detections, err));
    w.classes_n = es_alloc((size_t)es_names_count(w.classes), sizeof *w.classes_n, err);
    if (!w.classes_n) rc = -ES_EIO;
    for (int64_t c = 0, i = 0, j = 0; c < es_names_count(w.clips) && rc == 0; c++) {
        const int64_t i0 = i, j0 = j;
        while (i < w.n_ref && w.ref[i].clip == c) i++;
        while (j < w.n_sys && w.sys[j].clip == c) j++;
        ES_GO(fn(&w, w.ref + i0, es_int_from_i64(i - i0), w.sys + j0, es_int_from_i64(j - j0), err));
    }
    if (rc == 0) rc = make_result(&w, zero_precision, err);
done:
    es_free(&w.classes_n);
    es_free(&w.sys);
    es_free(&w.ref);
    es_names_free(&w.classes);
    if (rc < 0) es_sedeval_free(out);
    return rc;
}

int es_sedeval_events(struct es_sedeval **v, const struct es_truth *truth, const struct es_truth *detections,
                      const struct es_sedeval_params *params, struct es_err *err) {
    return run(v, truth, detections, params, params->zero_precision, match_clip, err);
}

int es_sedeval_segments(struct es_sedeval **v, const struct es_truth *truth,
                        const struct es_truth *detections, const struct es_sedeval_params *params,
                        struct es_err *err) {
    return run(v, truth, detections, params, false, segments_clip, err);
}

void es_sedeval_free(struct es_sedeval **v) {
    if (!*v) return;
    evalset_free_names(&(*v)->class_name, (*v)->n_classes);
    es_free(&(*v)->classes);
    es_free(v);
}
