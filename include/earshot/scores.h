/* What evaluation starts from: score tables and ground truth tables in memory.
 *
 * Scores. A clip has N frames; frame i covers [edges_s[i], edges_s[i+1]) and holds one score per class, float
 * or double. -inf means "never active". Three ways to get a struct es_scores:
 *
 *     es_scores_load        a file or folder of scores (layouts below)
 *     es_scores_from_array  one array [clips, frames, classes] in memory, borrowed: a trainer's validation
 *     es_scores_new         empty clips for the caller to fill
 *
 * HDF5 layout: `classes` [K] strings, group `scores` with one data set [frames, K] float32 (or float64) per
 * clip id, `timestamps` one float64 data set [frames+1] for all clips, or a group with one per clip.
 *
 * TSV layout (sed_scores_eval): a folder with `<clip id>.tsv` per clip and nothing else; columns onset, offset,
 * then the classes; one row per frame; every onset is exactly the previous offset.
 *
 * Ground truth. A struct es_truth is a table of events (clip, label, onset, offset, and for soft labels a
 * confidence) together with the clips it declares and a table of durations. It keeps the row of each event
 * for messages. Built by es_truth_load from TSV files, or by hand: es_truth_new, then es_truth_clip /
 * es_truth_event / es_truth_duration in any order.
 *
 * Clip ids are file names up to the last dot. Nothing is checked here beyond the files' own layout;
 * es_evalset_new (evaluate.h) compares scores with truth.
 *
 * Errors: ES_EDATA names file and row; ES_EIO when a file cannot be read. Collectivity: none.
 */
#ifndef EARSHOT_SCORES_H
#define EARSHOT_SCORES_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/err.h"
#include "earshot/tsv.h" /* es_names */

/* ---- scores */
struct es_scores_clip {
    char *id;
    int n_frames;
    const double *edges_s; /* [n_frames + 1] */
    const void *values;    /* frame i, class c at i * frame_stride + c * class_stride, float or double */
};

struct es_truth; /* below */

struct es_scores {
    int n_classes;
    char **classes;
    int64_t n_clips;
    struct es_scores_clip *clips;
    bool is_double;
    int64_t frame_stride, class_stride; /* in elements */
    char *source;                       /* for messages */
    /* values made when they are asked for, from several threads: frames of (clip, class) to out; then values are NULL, and nobody
     * checks them. NULL: a table as above */
    void (*generate)(const void *ctx, int64_t i_clip, int column, double *out);
    const void *generate_ctx;
    /* private: what es_scores_free gives back */
    double *own_edges;
    void *own_values;
    bool own_clips; /* edges and values of every clip are blocks of their own */
};

/* A table without values: ids and classes are copied, n_frames 0, pointers NULL, row-major strides. */
int es_scores_new(struct es_scores **s, int64_t n_clips, const char *const *ids, int n_classes,
                  const char *const *classes, bool is_double, const char *source, struct es_err *err);
void es_scores_free(struct es_scores **s);

/* Row-major values [n_clips, n_frames, n_classes], borrowed until es_scores_free; edges_s [n_frames+1] is
 * copied. */
int es_scores_from_array(struct es_scores **s, int64_t n_clips, const char *const *ids, int n_frames,
                         const double *edges_s, int n_classes, const char *const *classes,
                         const float *values, const char *source, struct es_err *err);
/* File (HDF5) or folder (TSV) of scores. */
int es_scores_load(struct es_scores **s, const char *path, struct es_err *err);
/* Predictions (predictions.h): logits through a float32 sigmoid, frames of the recipe (156 of 64 ms or 250 of
 * 40 ms). */
int es_scores_load_predictions(struct es_scores **s, const char *path, struct es_err *err);
/* Detections as boxes: TSV with filename, onset, offset, event_label and perhaps score (else 1). Frames of a
 * clip lie between consecutive onsets and offsets; the score in a box is its score, the largest where boxes
 * of a class overlap, -inf elsewhere. A clip of truth without boxes is one frame of -inf. Classes: those of
 * truth and of the file. */
int es_scores_load_detections(struct es_scores **s, const char *path, const struct es_truth *truth,
                              struct es_err *err);
/* One clip in the TSV layout above, shortest numbers that read back as they are. */
int es_scores_save_tsv(const struct es_scores *s, int64_t i_clip, const char *path, struct es_err *err);
/* Column of a class; -1 when there is none. */
int es_scores_class(const struct es_scores *s, const char *name);
/* Scores of one class in one clip, widened to double: out [n_frames]. */
void es_scores_column(const struct es_scores *s, int64_t i_clip, int column, double *out);
/* A copy filtered with the class-wise frame median (median.h): window_frames [n_classes], >= 1. */
int es_scores_median(struct es_scores **out, const struct es_scores *in, const int *window_frames,
                     struct es_err *err);

/* x <- 1 / (1 + exp(-x)) in float32, n values: logits to probabilities. */
void es_sigmoid_f32(int64_t n, float *x);

/* ---- ground truth */
struct es_truth_event {
    int64_t clip;  /* index into clips */
    int64_t label; /* index into labels */
    double onset_s, offset_s;
    double confidence; /* 1 for hard labels */
    int64_t row;       /* line of the file (the header is 1), or position */
};

struct es_truth {
    struct es_names *clips, *labels, *dur_clips;
    double *dur_s; /* by index of dur_clips */
    int64_t n_events, cap_events, cap_dur;
    struct es_truth_event *events;
    bool has_confidence;
    char *source, *dur_source; /* for messages */
};

int es_truth_new(struct es_truth **t, const char *source, const char *dur_source, struct es_err *err);
void es_truth_free(struct es_truth **t);
/* Declares a clip (events optional). */
int es_truth_clip(struct es_truth *t, const char *clip, struct es_err *err);
/* Adds an event of an existing or new clip. */
int es_truth_event(struct es_truth *t, const char *clip, const char *label, double onset_s, double offset_s,
                   double confidence, int64_t row, struct es_err *err);
int es_truth_duration(struct es_truth *t, const char *clip, double dur_s, struct es_err *err);
/* Seconds; NAN when the table has no such clip. */
double es_truth_duration_of(const struct es_truth *t, const char *clip);
/* TSV files: events (filename, onset, offset, event_label, perhaps confidence) and durations (filename,
 * duration). */
int es_truth_load(struct es_truth **t, const char *events_path, const char *durations_path,
                  struct es_err *err);
/* Clips of a store with their events, added to *t (NULL: a new one). merge: events of one class that touch become one (AudioSet-strong
 * has such). dur_s: their duration; 0: as stored; below 0: the caller adds durations. */
struct es_store;
int es_truth_from_store(struct es_truth **t, const struct es_store *s, const int64_t *ids, int64_t n,
                        bool merge, double dur_s, struct es_err *err);

#endif
