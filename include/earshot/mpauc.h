/* Area under the ROC over segments, partial or full (spec/evaluation.md section 9.3), and the MAESTRO metric
 * of DCASE 2024 (section 10).
 *
 * Area: segments sorted stably by score; equal scores are one step. `linear` joins the points (current
 * sed_scores_eval), `staircase` does not (releases up to 0.0.4, which published numbers used). Cut at fpr_max
 * and divided by it; not McClish.
 *
 * MAESTRO: recordings of minutes, cut into overlapping 10 s clips `<recording>-<start>-<end>` (1/100 s), with
 * soft labels. Hard labels: confidence > 0.5 of the 11 classes marked mpauc in labels.h. es_maestro_join
 * makes one score table and one truth per recording: mean of the frame scores in each second of a clip, mean
 * over the clips that cover a second, events of the clips joined. Then segments of 1 s, fpr_max 0.1.
 *     es_truth_load(&soft, "labels.tsv", "recording_durations.tsv", err)
 *     es_maestro_join(&joined, &truth, scores, soft, &params, err)
 *     es_evalset_new(&set, joined, truth, ...), es_auroc_new(&auroc, set, &mpauc, err)    mpauc = es_mpauc_params()
 *
 * Collectivity: none.
 */
#ifndef EARSHOT_MPAUC_H
#define EARSHOT_MPAUC_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/evaluate.h"

struct es_auroc_params {
    double segment_s;
    double fpr_max; /* 0 < fpr_max <= 1; 1: the full area */
};
struct es_auroc_params es_mpauc_params(void); /* 1 s, 0.1 */

struct es_auroc_class {
    double linear, staircase;
    int64_t n_segments, n_positive;
};
struct es_auroc {
    int n_classes;
    char **class_name;
    struct es_auroc_class *classes;
    double linear, staircase; /* means over classes */
};
/* ES_EDATA: a class whose segments are all negative, or all positive. */
int es_auroc_new(struct es_auroc **auroc, const struct es_evalset *set, const struct es_auroc_params *params,
                 struct es_err *err);
void es_auroc_free(struct es_auroc **auroc);

struct es_maestro_params { /* {0}: as eval_predictions of the public code and the challenge's baseline */
    bool positive_only;    /* only clips with a hard label enter; seconds they leave uncovered have score 0 */
    /* not NULL: clips of the labels without scores are counted here instead of refused; their seconds have
     * score 0 unless another clip covers them */
    int64_t *n_missing;
    bool subset; /* leave out scores of recordings the durations do not list, instead of refusing them */
};
/* Both results are new; truth holds the recordings that have a hard label somewhere, their joined events and
 * durations. The scores hold those recordings and the 11 classes. ES_EDATA: a clip id of another form, a clip
 * of the labels without scores, a recording without duration or scores, a class without column. */
int es_maestro_join(struct es_scores **joined, struct es_truth **truth, const struct es_scores *scores,
                    const struct es_truth *soft, const struct es_maestro_params *params, struct es_err *err);
/* The monitor of a training run (spec section 10, validation step): every clip is an item of its own, as long
 * as its last hard event; clips without one are not in truth. Evaluate with params.subset. */
int es_maestro_clips(struct es_truth **truth, const struct es_truth *soft, struct es_err *err);

#endif
