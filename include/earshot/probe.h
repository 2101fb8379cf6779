/* Ridge probes: how much of the labels a linear map can read from a network's frozen frames, layer by layer.
 *
 * Features of a layer: its tokens, brought to the label grid (156 or 250 frames) by adaptive average pooling, and a constant. Layers:
 * tokens (before the first block), block.0 .. block.N, norm (the final norm), head (what the layer of frame logits sees: the GRU's
 * output in stages 1 and 2). Targets are the labels of training clips in 0..1. W = (X'X + lambda s D)^-1 X'Y, s the mean of the
 * diagonal of X'X, the constant not penalised (gram.h). lambda: the one with the least squared error on validation clips, mean over
 * classes, one per layer; score: mpauc (segments of 1 s, false positives up to 0.1) of W's output, mean over classes with events.
 *
 * Rows count for the classes that are valid for their clip (labels.h). DESED and MAESTRO have two masks, so three systems: classes of
 * DESED alone, of both, of MAESTRO alone. One G serves them in turn: sums over DESED, solved; MAESTRO's rows added, solved; begun
 * again with MAESTRO's rows, solved. MAESTRO's clips are computed twice for that, and never is there more than one G a layer.
 *
 *             fit                             lambda, first score                second score
 *   stages    strong_real, synth, maestro     synth_validation, maestro (split)  validation, maestro_test
 *   AudioSet  as_train but every tenth clip   every tenth clip of as_train       as_eval
 *
 * Blocks of clips go round the ranks; with LAPACK (gram.h) the result does not depend on their number.
 */
#ifndef EARSHOT_PROBE_H
#define EARSHOT_PROBE_H

#include "earshot/comm.h"
#include "earshot/forward.h"
#include "earshot/gram.h"
#include "earshot/model.h"
#include "earshot/store.h"

enum es_probe_part { ES_PROBE_FIT, ES_PROBE_VALIDATION, ES_PROBE_TEST, ES_PROBE_PARTS };

struct es_probe_params {
    int n_models, n_stores;
    struct es_model *const *model;
    struct es_store *const *store; /* all with the classes of the first */
    int block;                     /* clips of a forward pass */
    struct es_gram_params gram;    /* where systems are solved; their size and name do not count */
    int n_lambdas;
    const double *lambda;
    const char *layers; /* names, separated by commas; NULL: all */
    bool joint;         /* the layers of all models as one set of features */
    int64_t max_clips;  /* of each set and part, evenly taken; 0: all */
    bool check;         /* look at everything, compute nothing */
};

struct es_probe_layer {
    int model;
    char name[64];
    int64_t n_features; /* with the constant */
    double lambda;      /* relative, as given */
    double error;       /* mean squared error on validation, mean over classes */
    /* of VALIDATION and TEST: DESED or AudioSet, MAESTRO. NAN: no clips, or no score */
    double score[ES_PROBE_PARTS][2];
    float *w; /* [K, n_features]; classes without rows: 0 */
};
struct es_probe {
    int n_layers, n_classes;
    struct es_probe_layer *layer;
    int64_t n_clips[ES_PROBE_PARTS], n_rows; /* n_rows: fitted on */
    int64_t gram_bytes;                      /* of all layers' sums on this rank */
    bool on_grid;
};

/* Collective; errors agreed. ES_STOPPED after a signal (nothing is kept). */
int es_probe_all(struct es_probe **out, const struct es_comm *c, const struct es_probe_params *p,
                 struct es_err *err);
void es_probe_free(struct es_probe **p);

/* The layer "head" as the model's layer of frame logits (dense, strong_head, ...): a weights file for model.init_head. Regression to 0
 * and 1 gives shares, not logits: logit = 8 (share - 1/2). Rank 0 writes; collective. */
int es_probe_save_head_all(const struct es_probe *p, const struct es_comm *c, const struct es_model *m,
                           const char *path, struct es_err *err);

#endif
