/* Validation during training and the test behind it (spec/training.md section 8): scores of one network on the clips of the stores.
 *
 * Stages, validation: PSDS1, intersection and collar F1 on synthetic validation clips and on external evaluation clips
 * (*_external); clip F1 at 0.5 on weak validation clips; partial and whole segment AUROC and the best segment F1 on MAESTRO
 * validation clips, each clip for itself; of each set the mean BCE, as in training (loss_strong: synthetic clips, loss_external,
 * loss_weak, loss_maestro; upstream's loss_strong is the mean of all synthetic and MAESTRO clips). Their objective: psds1 +
 * psds1_external + mpauc. Stages, test: the same on DESED's validation set, with PSDS2 and the values of 50 operating points (*_op),
 * on external evaluation clips, and on MAESTRO's development test set, whole recordings joined from the clips that have an event.
 * Its objective is the rank score psds1 + mpauc. Scores are class-wise median filtered.
 * Pre-training, AudioSet-strong evaluation clips: PretrainedSED's PSDS1 (logits, mean over classes; the objective) or cpjku's
 * (probabilities, clips of 10 s; with mpauc the objective), partial AUROC, mean BCE (loss).
 *
 * Sets that are not in the stores, or cannot be scored (a class without positive segment, say: a warning), are NAN and not in the
 * objective.
 */
#ifndef EARSHOT_VALIDATE_H
#define EARSHOT_VALIDATE_H

#include "earshot/json.h"
#include "earshot/predict.h"

enum es_validation_kind { ES_VALID_STAGES, ES_VALID_TEST, ES_VALID_PRETRAINEDSED, ES_VALID_CPJKU };
#define ES_VALID_MAX 20

struct es_validation {
    int n;
    const char *name[ES_VALID_MAX]; /* literals: the same for every result of a kind */
    double value[ES_VALID_MAX];     /* NAN: not scored */
    enum es_validation_kind kind;
    double objective; /* NAN: nothing scored that counts */
    int64_t n_clips;
};
/* Names alone, values NAN: what a kind will score. */
void es_validation_init(struct es_validation *v, enum es_validation_kind kind);
double es_validation_get(const struct es_validation *v, const char *name); /* NAN when there is none */
/* A member for each value, and "objective" or, for a test, "rank_score". */
void es_validation_write(const struct es_validation *v, struct es_json *json);
/* Clips that a kind scores in a store. */
int64_t es_validation_clips(const struct es_store *s, enum es_validation_kind kind);

/* Collective; the same result on all ranks. median_frames [classes]. */
int es_validate_all(const struct es_comm *c, struct es_forward *f, struct es_store *const *stores,
                    int n_stores, enum es_validation_kind kind, const int *median_frames,
                    struct es_validation *out, struct es_err *err);

#endif
