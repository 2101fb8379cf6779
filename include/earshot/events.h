/* Tables of events: detections as they are decoded from scores, read and written. A table is a struct es_truth (scores.h) whose
 * `confidence` is the score of a detection and whose durations stay empty.
 *
 *     es_events_decode(&events, scores, thresholds, false, err)   runs of frames above a threshold
 *     es_events_load(&events, "detections.tsv", err)              filename, onset, offset, event_label, perhaps score
 *     es_events_save(events, "events.tsv", err)
 *
 * Collectivity: none. Errors: ES_EDATA names file and row; ES_EIO.
 */
#ifndef EARSHOT_EVENTS_H
#define EARSHOT_EVENTS_H

#include "earshot/scores.h"

/* Maximal runs of frames with score > threshold (spec/evaluation.md section 3), clip by clip, class by class, in time order. All
 * clips of the scores are declared. threshold [n_classes]. as_float: thresholds are rounded to float32 first, as the challenge's
 * operating points do (6.4). confidence: mean of the scores over the run, weighted by time. */
int es_events_decode(struct es_truth **events, const struct es_scores *scores, const double *threshold,
                     bool as_float, struct es_err *err);

/* As the evaluation of DCASE 2016 task 2 (HEAR) decodes (14.3): one sequence of n frame scores of one class with the time of every
 * frame. Runs of score > threshold start at their first frame and end at the time of their LAST frame; kept when end - start >=
 * dur_min. onset, offset: room for (n + 1) / 2. Returns their number. Any unit of time. */
int es_events_decode_hear(int n, const double *time, const double *score, double threshold, double dur_min,
                          double *onset, double *offset);
/* Window in frames of that decoding's median filter (median.h): filter_ms / step_ms to the nearest, halves to even; at least 1. */
int es_events_hear_window(double filter_ms, double step_ms);

/* Detections of a TSV; clip ids are file names up to the last dot. Rows with an empty label declare a clip. */
int es_events_load(struct es_truth **events, const char *path, struct es_err *err);
/* filename (the clip id and suffix), onset, offset, event_label, score; in order of clip, onset, label. */
int es_events_save(const struct es_truth *events, const char *suffix, const char *path, struct es_err *err);

#endif
