/* Evaluation from files: what `earshot evaluate` does. Every rank reads the files; the metrics are shared out.
 *
 *     struct es_evaluate_input in = {.ground_truth = .., .durations = .., ...};
 *     es_evaluate_files_all(&result, comm, &in, err);
 *     es_evaluate_write(result, json), es_evaluate_print(result, text)
 *     es_evaluate_free(&result);
 *
 * A ground truth with a column `confidence` is MAESTRO: 11 classes, recordings joined (mpauc.h). Otherwise detections, scores and
 * logits are scored clip by clip.
 */
#ifndef EARSHOT_EVALUATE_FILES_H
#define EARSHOT_EVALUATE_FILES_H

#include "earshot/bootstrap.h"
#include "earshot/comm.h"
#include "earshot/evaluate.h"
#include "earshot/json.h"
#include "earshot/postprocess.h"

enum es_evaluate_source {
    ES_EVALUATE_GUESS, /* a folder: scores; *.tsv: detections; HDF5 with strong_logits: predictions, else scores */
    ES_EVALUATE_PREDICTIONS, /* HDF5 with logits (predictions.h); of its clips those that the truth lists are scored */
    ES_EVALUATE_SCORES, /* HDF5 or folder (scores.h) */
    /* TSV (filename, onset, offset, event_label, perhaps score): overlapping boxes of a class become one, without score they have
     * score 1 */
    ES_EVALUATE_DETECTIONS
};

struct es_evaluate_input {
    const char *path[2]; /* the second one: compared with the first */
    enum es_evaluate_source source[2];
    const char *ground_truth, *durations; /* TSV */
    const char *metrics; /* names; NULL: those of es_evaluation_new, for MAESTRO mpauc,segment_f1 */
    const char *classes; /* text file with the classes to evaluate, one a line; NULL: those with events */
    enum es_postprocess_kind postprocess; /* MEDIAN_FRAMES: the recipe's windows unless parameters say else */
    const char *parameters;               /* YAML (postprocess.h); its kind counts */
    const char *tune_on; /* "P.h5,G.tsv,D.tsv": parameters of csebb or a median in seconds are tuned there */
    enum es_tune_by tune_by;
    bool tune_globally;                     /* one setting for all classes */
    const struct es_csebb_grid *grid;       /* NULL: published */
    const char *save_parameters, *save_roc; /* files to write */
    bool keep_empty, allow_missing;         /* es_evalset_params */
    bool positive_only;                     /* es_maestro_params */
    int bootstrap;                          /* samples; 0: no intervals */
    bool check;                             /* read and compare everything, compute nothing: no rows */
};

struct es_evaluate_result {
    struct es_evaluation *system[2]; /* the second one: NULL without comparison */
    struct es_bootstrap *bootstrap[2], *difference;
    struct es_evalset_missing missing[2];
    bool counts_missing; /* allow_missing was on */
    const char *path[2]; /* borrowed */
};

int es_evaluate_files_all(struct es_evaluate_result **r, const struct es_comm *comm,
                          const struct es_evaluate_input *input, struct es_err *err);
void es_evaluate_free(struct es_evaluate_result **r);
/* Members of the current object: rows, as "psds1": {"value": v, "classes": {name: v}}, each with "interval" where there are samples;
 * "missing"; of two systems "a", "b" and "difference". */
void es_evaluate_write(const struct es_evaluate_result *r, struct es_json *json);
void es_evaluate_print(const struct es_evaluate_result *r, struct es_text *text);

#endif
