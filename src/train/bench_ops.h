/* Part of bench.c: the operations of a step, timed on the tapes. */
#ifndef EARSHOT_BENCH_OPS_H
#define EARSHOT_BENCH_OPS_H

#include "earshot/bench.h"

struct bench_ops;

int bench_ops_new(struct bench_ops **o, struct es_trainer *t, int steps, struct es_err *err);
void bench_ops_free(struct bench_ops **o);
/* What follows belongs to measured step `step`; negative: to none. */
void bench_ops_step(struct bench_ops *o, int step);
/* Fills rows[ES_BENCH_OPS], sorted by time, behind them the phases that are no operations and the rest of the step. */
int bench_ops_rows(struct bench_ops *o, const struct es_trainer_params *tp, const struct es_bench_step *b,
                   struct es_bench_op *rows);
/* Bytes a second of this rank's threads. */
int bench_bandwidth(double *out, double wall_s, struct es_err *err);

#endif
