/* What happens to frame scores before they are scored or thresholded: nothing, a median filter in frames or seconds, or cSEBBs; one set
 * of parameters a class, chosen by tuning, from the recipe, or from a YAML file:
 *
 *     postprocess: csebb                      # or median_frames, median_seconds
 *     classes:
 *       Speech: {step_filter_s: 0.38, merge_abs: 0.15, merge_rel: .inf, threshold: 0.42}
 *       Dog: {frames: 7}                      # median_frames
 *       Cat: {length_s: 0.4}                  # median_seconds; threshold everywhere optional
 *
 * Collectivity: none.
 */
#ifndef EARSHOT_POSTPROCESS_H
#define EARSHOT_POSTPROCESS_H

#include "earshot/csebb.h"
#include "earshot/scores.h"

enum es_postprocess_kind { ES_POST_NONE, ES_POST_MEDIAN_FRAMES, ES_POST_MEDIAN_SECONDS, ES_POST_CSEBB };
extern const char *const es_postprocess_names[4];

struct es_postprocess_class {
    char *name;
    int frames;
    double length_s;
    struct es_csebb_params csebb;
    double threshold; /* for detections; NAN: not chosen */
};
struct es_postprocess {
    enum es_postprocess_kind kind;
    int n_classes;
    struct es_postprocess_class *classes;
};

/* The recipe's windows for the 27 classes (labels.h), or cSEBBs with their default for the classes of scores. */
int es_postprocess_default(struct es_postprocess **p, enum es_postprocess_kind kind,
                           const struct es_scores *scores, struct es_err *err);
int es_postprocess_from_tuning(struct es_postprocess **p, const struct es_tuning *t, struct es_err *err);
/* ES_EDATA names file and line. */
int es_postprocess_load(struct es_postprocess **p, const char *path, struct es_err *err);
int es_postprocess_save(const struct es_postprocess *p, const char *path, struct es_err *err);
void es_postprocess_free(struct es_postprocess **p);
/* Index of a class; -1: it has no parameters. */
int es_postprocess_find(const struct es_postprocess *p, const char *name);

/* A processed copy. wanted [n_classes]: columns that matter, NULL: all; the others come out unfiltered, or without boxes. ES_EUSAGE: a
 * wanted class has no parameters. */
int es_postprocess_apply(struct es_scores **out, const struct es_scores *in, const struct es_postprocess *p,
                         const bool *wanted, struct es_err *err);
/* cSEBBs: the boxes themselves. */
int es_postprocess_boxes(struct es_truth **boxes, const struct es_scores *in, const struct es_postprocess *p,
                         const bool *wanted, struct es_err *err);

#endif
