/* Validation during training (spec/training.md section 8.1): scores of the student on the validation clips of the stores.
 *
 * Stages: PSDS1 on synthetic validation clips, segment mpAUC on MAESTRO validation clips, class-wise median filter; the objective
 * is their sum. Pre-training: PSDS1, macro average over classes, on the AudioSet-strong evaluation clips. Parts whose clips are
 * not in the stores are left out of the objective and are NAN.
 */
#ifndef EARSHOT_VALIDATE_H
#define EARSHOT_VALIDATE_H

#include "earshot/predict.h"

struct es_validation {
    double psds1, mpauc, objective; /* NAN: no clips */
    int64_t n_clips;
};
/* Collective; the same result on all ranks. median_frames [27] in the stages, NULL: 9 frames for every class. */
int es_validate_all(const struct es_comm *c, struct es_forward *f, struct es_store *const *stores,
                    int n_stores, bool pretrain, const int *median_frames, struct es_validation *out,
                    struct es_err *err);

#endif
