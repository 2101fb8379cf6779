/* Ensembles of predictions: the mean of logits, a weighted one, or one learned class by class, block of rows by block of rows.
 * The result does not depend on the number of ranks. Files must agree in clip names (and their order), frames and classes. */
#ifndef EARSHOT_ENSEMBLE_H
#define EARSHOT_ENSEMBLE_H

#include "earshot/comm.h"
#include "earshot/err.h"

struct es_ensemble_params {
    const char *out;
    int n_files;
    const char *const *file;
    const double *weight; /* [n_files], or NULL: equal. Divided by their sum */
    const char *stack;    /* a file of learned weights (stack.h) instead; or NULL */
    bool check;           /* compare the files, write nothing */
};
/* *n_clips (may be NULL): clips written. Collective. ES_EDATA names the file and what differs. */
int es_ensemble_all(const struct es_comm *c, const struct es_ensemble_params *p, int64_t *n_clips,
                    struct es_err *err);

#endif
