/* Scores and ground truth, matched and checked. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "evaluate_impl.h"

enum { NO_COLUMN = -2 }; /* in class_of_label */

struct building { /* what is known while the set is made */
    struct es_evalset *set;
    const struct es_scores *scores;
    const struct es_truth *truth;
    const struct es_evalset_params *params;
    struct es_names *ids;   /* clips of scores */
    int *class_of_label;    /* -1: not evaluated */
    int64_t *clip_of_truth; /* by truth clip: index in scores */
    int64_t *clip_at; /* [clips of scores + 1] at i + 1: number, then first place of the events of clip i */
    bool *listed;     /* by score clip: truth names it */
};

static int find_classes(struct building *b, struct es_err *err) {
    const struct es_scores *sc = b->scores;
    struct es_evalset *set = b->set;
    const int64_t n_labels = es_names_count(b->truth->labels);
    const int n_max = b->params->classes ? b->params->n_classes : sc->n_classes;
    set->class_name = es_alloc((size_t)n_max, sizeof *set->class_name, err);
    set->column = es_alloc((size_t)n_max, sizeof *set->column, err);
    set->n_ref = es_alloc((size_t)n_max, sizeof *set->n_ref, err);
    set->t_ref_s = es_alloc((size_t)n_max, sizeof *set->t_ref_s, err);
    b->class_of_label = es_alloc((size_t)n_labels, sizeof *b->class_of_label, err);
    if (!set->class_name || !set->column || !set->n_ref || !set->t_ref_s || !b->class_of_label)
        return -ES_EIO;
    for (int64_t i = 0; i < n_labels; i++) {
        b->class_of_label[i] = -1;
        if (es_scores_class(sc, es_names_get(b->truth->labels, i)) >= 0) continue;
        if (!b->params->allow_missing)
            return es_err_set(
                err, ES_EDATA,
                "%s: label '%s': got no column of that name in %s; want a score for every label",
                b->truth->source, es_names_get(b->truth->labels, i), sc->source);
        set->missing.labels++;
        b->class_of_label[i] = NO_COLUMN;
    }
    for (int k = 0; k < n_max; k++) {
        const char *name = b->params->classes ? b->params->classes[k] : sc->classes[k];
        const int column = es_scores_class(sc, name);
        const int64_t label = es_names_find(b->truth->labels, name);
        if ((column < 0 || label < 0) && b->params->classes && b->params->allow_missing) {
            set->missing.classes++;
            continue;
        }
        if (column < 0)
            return es_err_set(err, ES_EDATA, "%s: class '%s': got no column of that name", sc->source, name);
        if (label < 0 && !b->params->classes) continue;
        if (label < 0 || b->class_of_label[label] >= 0)
            return es_err_set(err, ES_EDATA, "%s: class '%s': got %s; leave it out", b->truth->source, name,
                              label < 0 ? "no event, want at least one" : "it twice in the list of classes");
        b->class_of_label[label] = set->n_classes;
        set->column[set->n_classes] = column;
        set->class_name[set->n_classes++] = sc->classes[column];
    }
    if (set->n_classes == 0)
        return es_err_set(err, ES_EDATA, "%s: got no event of any class, want at least one",
                          b->truth->source);
    return 0;
}

static int match_clips(struct building *b, struct es_err *err) {
    const struct es_scores *sc = b->scores;
    const struct es_truth *tr = b->truth;
    const int64_t n_truth = es_names_count(tr->clips);
    ES_TRY(es_names_new(&b->ids, err));
    b->clip_of_truth = es_alloc((size_t)n_truth, sizeof *b->clip_of_truth, err);
    b->clip_at = es_alloc((size_t)sc->n_clips + 1, sizeof *b->clip_at, err);
    b->listed = es_alloc((size_t)sc->n_clips, sizeof *b->listed, err);
    if (!b->clip_of_truth || !b->clip_at || !b->listed) return -ES_EIO;
    for (int64_t i = 0; i < sc->n_clips; i++) {
        int64_t at = es_names_add(b->ids, sc->clips[i].id, err);
        if (at < 0) return (int)at;
        if (at != i)
            return es_err_set(err, ES_EDATA, "%s: clip '%s': got it twice", sc->source, sc->clips[i].id);
    }
    for (int64_t i = 0; i < n_truth; i++) {
        const char *id = es_names_get(tr->clips, i);
        const bool has_duration = !isnan(es_truth_duration_of(tr, id));
        b->clip_of_truth[i] = es_names_find(b->ids, id);
        if (b->params->allow_missing && (b->clip_of_truth[i] < 0 || !has_duration)) {
            b->set->missing.clips_without_scores += b->clip_of_truth[i] < 0;
            b->set->missing.clips_without_duration += !has_duration;
            b->clip_of_truth[i] = -1;
            continue;
        }
        if (b->clip_of_truth[i] < 0)
            return es_err_set(err, ES_EDATA,
                              "%s: clip '%s': got no scores for it in %s; want the same clips in both",
                              tr->source, id, sc->source);
        b->listed[b->clip_of_truth[i]] = true;
        if (!has_duration)
            return es_err_set(err, ES_EDATA, "%s: clip '%s': got no duration for it", tr->dur_source, id);
    }
    for (int64_t i = 0; i < sc->n_clips; i++) b->set->missing.clips_without_truth += !b->listed[i];
    if (b->params->subset || b->params->allow_missing) return 0;
    for (int64_t i = 0; i < sc->n_clips; i++)
        if (!b->listed[i])
            return es_err_set(
                err, ES_EDATA,
                "%s: clip '%s': got scores for a clip that %s does not list; want the same clips in "
                "both",
                sc->source, sc->clips[i].id, tr->source);
    for (int64_t i = 0; i < es_names_count(tr->dur_clips); i++)
        if (es_names_find(b->ids, es_names_get(tr->dur_clips, i)) < 0)
            return es_err_set(err, ES_EDATA,
                              "%s: clip '%s': got no scores for it in %s; want the same clips in both",
                              tr->dur_source, es_names_get(tr->dur_clips, i), sc->source);
    return 0;
}

/* Is the event left out? */
static bool left_out(const struct building *b, const struct es_truth_event *e) {
    return b->class_of_label[e->label] < 0 || b->clip_of_truth[e->clip] < 0 ||
           (b->params->allow_missing && e->offset_s == e->onset_s);
}

/* Events of evaluated classes, by clip of scores. */
static int place_events(struct building *b, struct es_err *err) {
    struct es_evalset *set = b->set;
    const struct es_truth *tr = b->truth;
    int64_t *at = b->clip_at;
    for (int64_t i = 0; i < tr->n_events; i++) {
        const struct es_truth_event *e = &tr->events[i];
        const bool empty = b->params->allow_missing && e->offset_s == e->onset_s;
        set->missing.empty_events += empty;
        set->missing.label_events += b->class_of_label[e->label] == NO_COLUMN;
        if (!(e->onset_s >= 0 && (e->offset_s > e->onset_s || empty) && isfinite(e->offset_s)))
            return es_err_set(err, ES_EDATA,
                              "%s: row %lld: got an event from %g to %g s; want 0 <= onset < offset",
                              tr->source, (long long)e->row, e->onset_s, e->offset_s);
        if (left_out(b, e)) continue;
        const int k = b->class_of_label[e->label];
        set->n_ref[k]++;
        set->t_ref_s[k] += e->offset_s - e->onset_s;
        at[b->clip_of_truth[e->clip] + 1]++;
        set->n_events++;
    }
    set->events = es_alloc((size_t)set->n_events, sizeof *set->events, err);
    if (!set->events) return -ES_EIO;
    for (int64_t i = 0; i < b->scores->n_clips; i++) at[i + 1] += at[i];
    for (int64_t i = tr->n_events - 1; i >= 0;
         i--) { /* backwards: at[c + 1] ends as the first place of clip c */
        const struct es_truth_event *e = &tr->events[i];
        if (left_out(b, e)) continue;
        const int k = b->class_of_label[e->label];
        set->events[--at[b->clip_of_truth[e->clip] + 1]] =
            (struct eval_event){.i_class = k, .onset_s = e->onset_s, .offset_s = e->offset_s, .row = e->row};
    }
    return 0;
}

static int compare_events(const void *x, const void *y) {
    const struct eval_event *a = x, *b = y;
    if (a->i_class != b->i_class) return a->i_class < b->i_class ? -1 : 1;
    if (a->onset_s != b->onset_s) return a->onset_s < b->onset_s ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

/* Orders the events of a clip and refuses overlaps, or joins them; *n of them are left. */
static int order_events(const struct building *b, struct eval_event *ev, int *n, struct es_err *err) {
    const int given = *n;
    qsort(ev, (size_t)given, sizeof *ev, compare_events);
    if (b->params->allow_missing && given > 0) {
        int last = 0;
        for (int i = 1; i < given; i++) {
            if (ev[i].i_class != ev[last].i_class || ev[i].onset_s > ev[last].offset_s)
                ev[++last] = ev[i];
            else if (ev[i].offset_s > ev[last].offset_s)
                ev[last].offset_s = ev[i].offset_s;
        }
        *n = last + 1;
        b->set->missing.joined_events += given - *n;
    }
    for (int i = 1; i < *n; i++)
        if (ev[i].i_class == ev[i - 1].i_class && ev[i].onset_s <= ev[i - 1].offset_s)
            return es_err_set(
                err, ES_EDATA,
                "%s: rows %lld and %lld: got events of class '%s' that overlap or touch; join them first",
                b->truth->source, (long long)ev[i - 1].row, (long long)ev[i].row,
                b->set->class_name[ev[i].i_class]);
    return 0;
}

static int check_clip(const struct building *b, struct eval_clip *clip, struct es_err *err) {
    const struct es_scores *sc = b->scores;
    const struct es_scores_clip *c = &sc->clips[clip->source];
    if (c->n_frames < 1) return es_err_set(err, ES_EDATA, "%s: clip '%s': got no frame", sc->source, c->id);
    clip->frame_min_s = HUGE_VAL;
    for (int i = 0; i < c->n_frames; i++) {
        double length_s = c->edges_s[i + 1] - c->edges_s[i];
        if (!(length_s > 0 && isfinite(length_s)))
            return es_err_set(err, ES_EDATA,
                              "%s: clip '%s': frame %d: got times %g to %g s; want ascending times",
                              sc->source, c->id, i, c->edges_s[i], c->edges_s[i + 1]);
        if (length_s < clip->frame_min_s) clip->frame_min_s = length_s;
    }
    for (int i = 0; i < c->n_frames && !sc->generate; i++)
        for (int k = 0; k < b->set->n_classes; k++) {
            const int64_t at = i * sc->frame_stride + b->set->column[k] * sc->class_stride;
            double v =
                sc->is_double ? ((const double *)c->values)[at] : (double)((const float *)c->values)[at];
            if (!(v < HUGE_VAL))
                return es_err_set(err, ES_EDATA,
                                  "%s: clip '%s': frame %d, class '%s': got %g; want a number or -inf",
                                  sc->source, c->id, i, b->set->class_name[k], v);
        }
    if (!(clip->dur_s > 0 && isfinite(clip->dur_s)))
        return es_err_set(err, ES_EDATA, "%s: clip '%s': got a duration of %g s; want more than 0",
                          b->truth->dur_source, c->id, clip->dur_s);
    return 0;
}

static int make_clips(struct building *b, struct es_err *err) {
    struct es_evalset *set = b->set;
    const struct es_scores *sc = b->scores;
    set->clips = es_alloc((size_t)sc->n_clips, sizeof *set->clips, err);
    if (!set->clips) return -ES_EIO;
    for (int64_t i = 0; i < sc->n_clips; i++) {
        const struct es_scores_clip *c = &sc->clips[i];
        const int64_t begin = b->clip_at[i + 1],
                      end = i + 1 < sc->n_clips ? b->clip_at[i + 2] : set->n_events;
        if (!b->listed[i] || (begin == end && !b->params->keep_empty)) continue;
        struct eval_clip *clip = &set->clips[set->n_clips++];
        *clip = (struct eval_clip){
            .source = i, .n_frames = c->n_frames, .edges_s = c->edges_s, .ev_begin = begin, .ev_end = end};
        clip->dur_s = es_truth_duration_of(b->truth, c->id);
        int n = es_int_from_i64(end - begin);
        ES_TRY(check_clip(b, clip, err));
        ES_TRY(order_events(b, set->events + begin, &n, err));
        clip->ev_end = begin + n;
        set->dur_s += clip->dur_s;
        set->n_frames += clip->n_frames;
        if (clip->n_frames > set->n_frames_max) set->n_frames_max = clip->n_frames;
        if (n > set->n_clip_events_max) set->n_clip_events_max = n;
    }
    return 0;
}

/* Numbers and lengths of events from the clips. */
static void count_events(struct es_evalset *set) {
    for (int k = 0; k < set->n_classes; k++) set->n_ref[k] = 0, set->t_ref_s[k] = 0;
    for (int64_t i = 0; i < set->n_clips; i++)
        for (int64_t e = set->clips[i].ev_begin; e < set->clips[i].ev_end; e++) {
            const struct eval_event *ev = &set->events[e];
            set->n_ref[ev->i_class]++;
            set->t_ref_s[ev->i_class] += ev->offset_s - ev->onset_s;
        }
}

/* Classes whose every event was left out have gone, too. */
static void drop_empty_classes(struct es_evalset *set) {
    int n = 0;
    int *now = set->column; /* compacted in step with the events' classes: few classes, few events */
    for (int k = 0; k < set->n_classes; k++) {
        if (set->n_ref[k] == 0) {
            set->missing.classes++;
            continue;
        }
        for (int64_t e = 0; n < k && e < set->n_events; e++)
            if (set->events[e].i_class == k) set->events[e].i_class = n;
        set->class_name[n] = set->class_name[k];
        now[n] = set->column[k];
        set->n_ref[n] = set->n_ref[k];
        set->t_ref_s[n++] = set->t_ref_s[k];
    }
    set->n_classes = n;
}

int es_evalset_new(struct es_evalset **out, const struct es_scores *scores, const struct es_truth *truth,
                   const struct es_evalset_params *params, struct es_err *err) {
    int rc = -ES_EIO;
    struct building b = {.scores = scores, .truth = truth, .params = params};
    *out = b.set = es_alloc(1, sizeof *b.set, err);
    if (!b.set) goto done;
    b.set->scores = scores;
    ES_GO(find_classes(&b, err));
    ES_GO(match_clips(&b, err));
    ES_GO(place_events(&b, err));
    if (params->allow_missing) drop_empty_classes(b.set);
    if (b.set->n_classes == 0) {
        rc = es_err_set(err, ES_EDATA, "%s: got no event with scores, want at least one", truth->source);
        goto done;
    }
    ES_GO(make_clips(&b, err));
    if (b.set->missing.joined_events > 0) count_events(b.set);
done:
    es_free(&b.listed);
    es_free(&b.clip_at);
    es_free(&b.clip_of_truth);
    es_names_free(&b.ids);
    es_free(&b.class_of_label);
    if (rc < 0) es_evalset_free(out);
    return rc;
}

void es_evalset_free(struct es_evalset **set) {
    if (!*set) return;
    es_free(&(*set)->clips);
    es_free(&(*set)->t_ref_s);
    es_free(&(*set)->n_ref);
    if (!(*set)->is_sample) {
        es_free(&(*set)->events);
        es_free(&(*set)->column);
        es_free(&(*set)->class_name);
    }
    es_free(set);
}

int es_evalset_resample(struct es_evalset **out, const struct es_evalset *set, const int64_t *index,
                        int64_t n, struct es_err *err) {
    struct es_evalset *s = *out = es_alloc(1, sizeof *s, err);
    if (!s) return -ES_EIO;
    *s = *set;
    s->is_sample = true;
    s->comm = NULL;
    s->n_clips = n;
    s->n_frames = 0;
    s->dur_s = 0;
    s->clips = es_alloc((size_t)n, sizeof *s->clips, err);
    s->n_ref = es_alloc((size_t)set->n_classes, sizeof *s->n_ref, err);
    s->t_ref_s = es_alloc((size_t)set->n_classes, sizeof *s->t_ref_s, err);
    if (!s->clips || !s->n_ref || !s->t_ref_s) {
        es_evalset_free(out);
        return -ES_EIO;
    }
    for (int64_t i = 0; i < n; i++) {
        ES_ASSERT(index[i] >= 0 && index[i] < set->n_clips);
        s->clips[i] = set->clips[index[i]];
        s->n_frames += s->clips[i].n_frames;
        s->dur_s += s->clips[i].dur_s;
    }
    count_events(s);
    return 0;
}

void es_evalset_share(struct es_evalset *set, const struct es_comm *comm) {
    set->comm = comm;
}

struct es_evalset_missing es_evalset_missing(const struct es_evalset *set) {
    return set->missing;
}
const char *es_evalset_clip_id(const struct es_evalset *set, int64_t i) {
    return set->scores->clips[set->clips[i].source].id;
}

int es_evalset_classes(const struct es_evalset *set) {
    return set->n_classes;
}
const char *es_evalset_class_name(const struct es_evalset *set, int i_class) {
    return set->class_name[i_class];
}
int64_t es_evalset_clips(const struct es_evalset *set) {
    return set->n_clips;
}
double es_evalset_dur_s(const struct es_evalset *set) {
    return set->dur_s;
}
int64_t es_evalset_events(const struct es_evalset *set, int i_class) {
    return set->n_ref[i_class];
}
double es_evalset_events_dur_s(const struct es_evalset *set, int i_class) {
    return set->t_ref_s[i_class];
}

int evalset_copy_names(char ***names, const struct es_evalset *set, struct es_err *err) {
    *names = es_alloc((size_t)set->n_classes, sizeof **names, err);
    if (!*names) return -ES_EIO;
    for (int k = 0; k < set->n_classes; k++)
        if (!((*names)[k] = es_strdup(set->class_name[k], err))) return -ES_EIO;
    return 0;
}

void evalset_free_names(char ***names, int n) {
    for (int k = 0; k < n && *names; k++) es_free(&(*names)[k]);
    es_free(names);
}
