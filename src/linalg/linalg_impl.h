/* Shared by the files of this folder: the Gram object, its two backends, and the Fortran names they call (no header comes with
 * them; all arguments by pointer, lengths of strings left out). Matrices are column-major. */
#ifndef EARSHOT_LINALG_IMPL_H
#define EARSHOT_LINALG_IMPL_H

#include "earshot/gram.h"

struct backend;
struct grid;  /* gram_grid.c */
struct local; /* gram_local.c */

struct es_gram {
    struct es_comm *comm;
    struct es_gram_params p;
    char name[64];
    float *panel;    /* [PANEL, d + k]: rows of x, then rows of y */
    int64_t *n_rows; /* [ranks] of this round */
    int64_t rows;    /* so far */
    int64_t bytes;
    const struct backend *backend;
    struct local *local;
    struct grid *grid;
};

/* new: local, errors not agreed; free may find half of it. add: the panel is on all ranks. solve: info > 0: not positive definite,
 * the same on all ranks. */
struct backend {
    int (*new)(struct es_gram *g, struct es_err *err);
    void (*free)(struct es_gram *g);
    void (*reset)(struct es_gram *g);
    void (*add)(struct es_gram *g, int rows);
    double (*trace)(struct es_gram *g);
    int (*solve)(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual, int *info,
                 struct es_err *err);
};
extern const struct backend gram_local, gram_grid;

void dgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha,
            const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
            const int *ldc);
void dsymm_(const char *side, const char *uplo, const int *m, const int *n, const double *alpha,
            const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c,
            const int *ldc);
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dpotrs_(const char *uplo, const int *n, const int *k, const double *a, const int *lda, double *b,
             const int *ldb, int *info);

#endif
