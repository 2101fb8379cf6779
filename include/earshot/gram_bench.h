/* `earshot bench probe`: ridge regression on generated features, the linear algebra of `earshot probe` and no network.
 *
 * Collective over c; arguments and result same on all ranks. */
#ifndef EARSHOT_GRAM_BENCH_H
#define EARSHOT_GRAM_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/gram.h"

struct es_gram_bench { /* seconds of the slowest rank, bytes of the largest */
    bool on_grid;
    double add_s;   /* making the rows and summing them */
    double solve_s; /* factor, solution, residual, sums as they were */
    double residual;
    int64_t gram_bytes; /* what the system holds */
    int64_t peak_rss_bytes;
};

/* n_rows rows of p->d features and p->k targets in -1..1, the last feature 1; one solution, lambda 1e-2 of the scale. */
int es_gram_bench_all(const struct es_comm *c, const struct es_gram_params *p, int64_t n_rows,
                      struct es_gram_bench *out, struct es_err *err);

#endif
