/* Shared by the files of the dataset only. */
#ifndef EARSHOT_DATASET_IMPL_H
#define EARSHOT_DATASET_IMPL_H

#include "earshot/convolve.h"
#include "earshot/dataset.h"
#include "earshot/hash.h"
#include "earshot/predictions.h"
#include "earshot/store.h"
#include "earshot/tsv.h"
#include "responses.h"

#define MAX_STORES 16
#define ES_DATASET_PSEUDO 64 /* files */

struct clip {
    int store;
    int64_t id;
    int file; /* of pseudo-labels, -1: none */
    int64_t row;
};

struct es_dataset {
    struct es_dataset_params p;
    int n_stores, n_classes;
    struct es_store *store[MAX_STORES];
    struct clip *clip[ES_N_SETS];
    int64_t count[ES_N_SETS];
    struct es_predictions *pseudo[ES_DATASET_PSEUDO];
    int n_pseudo;
    double *weight; /* of balanced drawing, or NULL */
    struct es_names *excluded;
    struct response *response; /* at 16 kHz */
    int n_responses;
    struct es_convolve *convolve; /* NULL: no responses */
    uint64_t digest;
    struct es_label_grid grid;
};

/* Files that `path` names: itself, or those below the folder (depth levels down) with one of the extensions (".wav"; ends with
 * NULL), sorted by path. Adds to `list`. */
int dataset_files(struct es_names *list, const char *path, const char *const *extensions, int depth,
                  struct es_err *err);

/* Opens the files of pseudo-labels, checks them against the stores, finds every clip's row; a clip without is an error. */
int dataset_pseudo_open(struct es_dataset *d, struct es_err *err);
void dataset_pseudo_close(struct es_dataset *d);
/* Probabilities of a clip [T,K]. */
int dataset_pseudo_read(const struct es_dataset *d, const struct clip *c, float *q, struct es_err *err);
/* What training reads of them. */
int dataset_pseudo_digest(const struct es_dataset *d, struct es_hash *h, struct es_err *err);

#endif
