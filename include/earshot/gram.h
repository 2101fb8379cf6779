/* Ridge regression over ranks: G = X'X [d,d] and B = X'Y [d,k] of rows that stay where they were computed, then
 * W = (G + lambda D)^-1 B for any number of lambdas.
 *
 *     struct es_gram_params p = es_gram_params_default(d, k);
 *     ES_GO(es_gram_new_all(&g, comm, &p, err));
 *     for each round: ES_GO(es_gram_add_all(g, x, y, rows, err));          every rank its rows, or none
 *     for each lambda: ES_GO(es_gram_solve_all(g, lambda, 1, w, NULL, err));
 *     es_gram_free_all(&g);
 *
 * Rows travel in panels of ES_GRAM_PANEL, rank after rank; sums and factors are double. Up to local_max features: column strips of
 * G go round the ranks and rank 0 solves with LAPACK; the result does not depend on the number of ranks as long as the rows of the
 * rounds, read rank by rank, come in the same order. Above: G is block-cyclic (64 x 64) over a grid of ranks and ScaLAPACK sums
 * (pdsyrk), factors (pdpotrf) and solves (pdpotrs); each rank holds G / ranks of the grid, in place, and the last bits depend on
 * the grid. The upper triangle keeps G while the lower one holds the factor, so that a path of lambdas takes no second G.
 *
 * Collective over comm (duplicated), errors agreed. ES_EDATA: a row that is not finite, a matrix that is not positive definite.
 */
#ifndef EARSHOT_GRAM_H
#define EARSHOT_GRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"

enum { ES_GRAM_PANEL = 256, ES_GRAM_BLOCK = 64 };

struct es_gram;
struct es_gram_params {       /* same on all ranks */
    int64_t d;                /* features */
    int k;                    /* right-hand sides */
    int64_t local_max;        /* linalg.local_max */
    int grid_rows, grid_cols; /* at most all ranks; 0: as square as their number allows */
    const char *name;         /* for messages */
};
struct es_gram_params es_gram_params_default(int64_t d, int k);

int es_gram_new_all(struct es_gram **g, const struct es_comm *comm, const struct es_gram_params *p,
                    struct es_err *err);
void es_gram_free_all(struct es_gram **g);
/* Begins again with no rows. Local. */
void es_gram_reset(struct es_gram *g);
/* Adds rows x [rows,d], y [rows,k] (per rank; rows may be 0). Also after a solution: the sums go on. */
int es_gram_add_all(struct es_gram *g, const float *x, const float *y, int64_t rows, struct es_err *err);
int64_t es_gram_rows(const struct es_gram *g); /* added so far, on all ranks */
/* Mean of the diagonal of G: the scale of lambda. */
double es_gram_scale_all(struct es_gram *g);
/* w [k,d] out on every rank (a row is a class, as a PyTorch weight). The last n_free features (a constant) are not penalised:
 * D has zeros there. residual (may be NULL): |(G + lambda D) W - B| / |B|, Frobenius. */
int es_gram_solve_all(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                      struct es_err *err);
bool es_gram_on_grid(const struct es_gram *g);
int64_t es_gram_bytes(const struct es_gram *g); /* of this rank's part, with panels and buffers */

/* Least squares with w >= 0: minimises w'Gw - 2 w'b, G [n,n] symmetric positive semi-definite, n small (Lawson and Hanson, Solving
 * Least Squares Problems, chapter 23). Local, deterministic. */
int es_nnls(int n, const double *G, const double *b, double *w, struct es_err *err);

#endif
