/* Parts of the job bench. */
#ifndef EARSHOT_BENCH_KINDS_H
#define EARSHOT_BENCH_KINDS_H

#include "earshot/run.h"

int bench_step(struct es_run *run, struct es_err *err);
int bench_probe(struct es_run *run, struct es_err *err);
int bench_io(struct es_run *run, struct es_err *err);

#endif
