/* F-measure and error rates of detections, event based and segment based, as sed_eval computes them (spec/evaluation.md section 11).
 * Plain comparisons, no rounding. Files are those that the ground truth lists; classes those of either table.
 * Collectivity: none. */
#ifndef EARSHOT_SEDEVAL_H
#define EARSHOT_SEDEVAL_H

#include "earshot/scores.h"

struct es_sedeval_params {
    double collar_s;     /* of onsets, and at least of offsets */
    double length_rate;  /* of offsets: times the event's length */
    bool onset_only;     /* offsets are not compared */
    double segment_s;    /* segment based */
    bool zero_precision; /* precision without detections: 0, not NAN (event based in the challenge) */
};
/* 0.2 s, 0.2, offsets compared, 1 s, zero_precision. */
struct es_sedeval_params es_sedeval_params_default(void);

struct es_sedeval_value { /* NAN where undefined */
    double f, precision, recall;
    /* over n_ref; substitutions only overall */
    double error_rate, substitution_rate, deletion_rate, insertion_rate;
    int64_t n_ref, n_sys; /* events, or active segments */
};
struct es_sedeval {
    int n_classes;
    char **class_name;
    /* overall: from summed counts; average: over classes, without NAN */
    struct es_sedeval_value *classes, overall, average;
};
int es_sedeval_events(struct es_sedeval **v, const struct es_truth *truth, const struct es_truth *detections,
                      const struct es_sedeval_params *params, struct es_err *err);
int es_sedeval_segments(struct es_sedeval **v, const struct es_truth *truth,
                        const struct es_truth *detections, const struct es_sedeval_params *params,
                        struct es_err *err);
void es_sedeval_free(struct es_sedeval **v);

#endif
