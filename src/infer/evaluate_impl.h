/* Shared by the evaluation sources of src/infer. */
#ifndef EARSHOT_INFER_EVALUATE_IMPL_H
#define EARSHOT_INFER_EVALUATE_IMPL_H

#include <math.h>

#include "earshot/evaluate.h"

struct eval_event {
    int i_class;
    double onset_s, offset_s;
    int64_t row; /* for messages */
};

struct eval_clip {
    int64_t source; /* index in scores */
    int n_frames;
    const double *edges_s;
    double dur_s, frame_min_s;
    int64_t ev_begin, ev_end; /* its events, by class, then onset */
};

struct es_evalset {
    const struct es_scores *scores;
    int n_classes;
    const char **class_name;             /* borrowed from scores */
    int *column;                         /* in scores */
    int64_t n_clips, n_events, n_frames; /* n_frames: of all clips */
    int n_frames_max, n_clip_events_max;
    struct eval_clip *clips;
    struct eval_event *events;
    int64_t *n_ref;
    double *t_ref_s;
    double dur_s; /* of all clips */
    struct es_evalset_missing missing;
    bool is_sample;             /* class_name, column and events belong to another set */
    const struct es_comm *comm; /* ranks that share the classes out; NULL: none */
};

/* rint(x * 1e6), half to even, without a call: adding 1.5 * 2^52 leaves no fraction (|x| < 2e9 s). Comparing
 * two such values is comparing R6 of the spec. */
static inline double eval_micro(double x) {
    const double big = 0x1.8p52;
    return (x * 1e6 + big) - big;
}

/* Copies of the class names, for results that outlive the set. */
int evalset_copy_names(char ***names, const struct es_evalset *set, struct es_err *err);
void evalset_free_names(char ***names, int n);

/* ---- from scores to counts at every level (statistics.c) */

struct stat_item {  /* one frame or segment */
    uint64_t key;   /* ascending key = descending score */
    uint32_t owner; /* clip; STAT_TALLY: value is a change of fp */
    int32_t value;  /* frame */
};
#define STAT_TALLY UINT32_MAX

struct stat_frame {
    uint32_t level;
    int32_t frame;
};

struct stat_change { /* at a level, over all clips */
    int32_t tp;
    int32_t fp_kept; /* twice the change of fp; the lowest bit: some count of some clip changes */
};
enum { STAT_DIGIT_BITS = 11, STAT_BINS = 1 << STAT_DIGIT_BITS, STAT_DIGITS = 6 }; /* of 64-bit keys */

/* Memory of one thread, sized once, used for one class after the other. */
struct stat_ws {
    int64_t cap;                    /* frames or segments of a class */
    struct stat_item *item, *spare; /* [cap + 1] */
    struct stat_frame *frames;      /* [cap] of the clips that are swept: by clip, level, frame */
    int64_t *clip_at;               /* [n_clips] where a clip's part of frames starts; -1: not swept */
    double *column;                 /* [n_frames_max] */
    int *other_end; /* [n_frames_max] the other end of the run that starts or ends here; -1: inactive */
    struct stat_change *change;  /* [cap] by level */
    uint32_t (*bins)[STAT_BINS]; /* [STAT_DIGITS] */
    /* result: levels, highest first */
    int64_t n_levels;
    double *score;    /* [cap] */
    int32_t *tp, *fp; /* [cap] */
    struct es_curve_ct *ct, *ct_spare;
    int64_t n_ct, cap_ct;
    uint32_t *ct_at; /* [cap] */
};
int stat_ws_init(struct stat_ws *ws, const struct es_evalset *set, int64_t cap, struct es_err *err);
void stat_ws_fini(struct stat_ws *ws);

/* A sweep goes down the levels of one class in one clip. statistics.c keeps the runs of active frames and
 * tells a counter which appear and disappear; the counter keeps tp and fp. */
struct stat_sweep {
    const struct es_evalset *set;
    const struct es_f1_params *params;
    struct stat_ws *ws;
    int i_class;
    const struct eval_clip *clip;
    const struct eval_event *own; /* events of the class in the clip */
    int n_own;
    int32_t tp, fp;
    bool ct_changed;
    void *state; /* the counter's own */
};

/* What a counter does when runs change; static const, so that stat_sweep_clip is compiled once for each with
 * its calls inline. */
struct stat_runs {
    void (*begin)(struct stat_sweep *s);                    /* a clip; nothing active */
    void (*add)(struct stat_sweep *s, int first, int last); /* frames first..last are now one run */
    void (*remove)(struct stat_sweep *s, int first, int last);
    /* all runs of a level made: bring tp, fp up to date */
    int (*level)(struct stat_sweep *s, uint32_t level, struct es_err *err);
};

struct stat_counter {
    int (*open)(struct stat_sweep *s, struct es_err *err); /* once per class: state */
    void (*close)(struct stat_sweep *s);
    bool (*only_runs)(
        const struct stat_sweep *s); /* fp is the number of runs, nothing else counts: no sweep */
    int (*sweep)(struct stat_sweep *s, const struct stat_frame *frames,
                 struct es_err *err); /* stat_sweep_clip */
};
extern const struct stat_counter stat_intersection, stat_collar;

/* One clip, frames [n_frames] in order of level. */
static inline int stat_sweep_clip(struct stat_sweep *s, const struct stat_runs *on,
                                  const struct stat_frame *frames, struct es_err *err) {
    struct stat_ws *ws = s->ws;
    enum { AHEAD = 12 }; /* levels of a clip lie all over the class: fetch them early */
    const int N = s->clip->n_frames;
    const int64_t lowest = ws->n_levels - 1, off_level = ws->score[lowest] == -HUGE_VAL ? lowest : -1;
    int *other = ws->other_end;
    for (int i = 0; i < N; i++) other[i] = -1;
    s->tp = s->fp = 0;
    on->begin(s);
    for (int q = 0; q < N;) {
        const uint32_t level = frames[q].level;
        const int32_t tp = s->tp, fp = s->fp;
        s->ct_changed = false;
        if (q + AHEAD < N) __builtin_prefetch(&ws->change[frames[q + AHEAD].level], 1);
        const bool off = level == off_level; /* switches everything off again */
        if (off) {
            for (int i = 0; i < N; i++)
                if (other[i] >= 0) {
                    on->remove(s, i, other[i]);
                    i = other[i];
                }
            q = N;
        }
        while (q < N && frames[q].level == level) { /* frames of one level come in ascending order */
            int first = frames[q].frame, last = first;
            q++;
            if (first > 0 && other[first - 1] >= 0) {
                first = other[first - 1];
                on->remove(s, first, last - 1);
            }
            for (;;) {
                if (last + 1 < N && other[last + 1] >= 0) {
                    int end = other[last + 1];
                    on->remove(s, last + 1, end);
                    last = end;
                } else if (q < N && frames[q].level == level && frames[q].frame == last + 1) {
                    last++;
                    q++;
                } else {
                    break;
                }
            }
            other[first] = last;
            other[last] = first;
            on->add(s, first, last);
        }
        ES_TRY(on->level(s, level, err));
        if (off) s->tp = s->fp = 0;
        if (s->tp == tp && s->fp == fp && !s->ct_changed) continue;
        ws->change[level].tp += s->tp - tp;
        ws->change[level].fp_kept = (ws->change[level].fp_kept + 2 * (s->fp - fp)) | 1;
    }
    return 0;
}

/* Fills the result part of ws. */
int stat_class(struct stat_ws *ws, const struct es_evalset *set, int i_class,
               const struct stat_counter *counter, const struct es_f1_params *params, struct es_err *err);
/* Sorts n items of ws->item; the sorted ones are in the returned array (item or spare). Stable. narrow: keys
 * of floats. */
struct stat_item *stat_sort(struct stat_ws *ws, int64_t n, bool narrow);
uint64_t stat_key(double v, bool narrow);
double stat_score(uint64_t key, bool narrow);
/* Room for n more changes of cross triggers. */
int stat_reserve_ct(struct stat_ws *ws, int64_t n, struct es_err *err);

/* Calls fn for every class of this rank, in parallel, each thread with a workspace for cap items. The error of the first class that
 * failed, agreed on. */
typedef int (*stat_class_fn)(struct stat_ws *ws, const struct es_evalset *set, int i_class, void *ctx,
                             struct es_err *err);
int stat_each_class(const struct es_evalset *set, int64_t cap, stat_class_fn fn, void *ctx,
                    struct es_err *err);

/* One result of all ranks that share the set; before anything collective that a rank might not reach. */
static inline int stat_agree(const struct es_evalset *set, int rc, struct es_err *err) {
    return set->comm ? es_err_agree_all(set->comm, rc, err) : rc;
}
/* Afterwards: the items of all classes, array [n_classes] of so many bytes each, to all ranks. */
int stat_gather(const struct es_evalset *set, void *array, size_t item_bytes, struct es_err *err);
/* The rank that computed a class. */
int stat_owner(const struct es_evalset *set, int i_class);

/* ---- segments (segments.c): labels and scores of all segments of a class */
int64_t segments_count(const struct es_evalset *set, double segment_s);
int segments_class(struct stat_ws *ws, const struct es_evalset *set, int i_class, double segment_s,
                   struct es_err *err);

/* From the class curves of psds to its values and its effective curve. */
struct es_psds;
int psds_finish(struct es_psds *psds, double alpha_st, double efpr_max, struct es_err *err);

/* PSDS of one class, and its best F1, with the caller's workspace. */
struct es_psds_params;
int psds_class_value(struct stat_ws *ws, const struct es_evalset *set, int i_class,
                     const struct es_psds_params *p, double *value, struct es_err *err);
int f1_class_best(struct stat_ws *ws, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
                  const struct es_f1_params *params, struct es_f1_value *best, struct es_err *err);

/* The curve of a class in ws, whatever the kind. */
int stat_curve(struct stat_ws *ws, const struct es_evalset *set, int i_class, enum es_f1_kind kind,
               const struct es_f1_params *params, struct es_err *err);
int64_t stat_capacity(const struct es_evalset *set, enum es_f1_kind kind, const struct es_f1_params *params);

#endif
