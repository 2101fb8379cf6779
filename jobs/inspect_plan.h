/* Part of the job inspect. */
#ifndef EARSHOT_INSPECT_PLAN_H
#define EARSHOT_INSPECT_PLAN_H

#include "earshot/run.h"

/* Opens the stores of the run's configuration and prints the plan of a step. Collective. */
int inspect_plan_all(struct es_run *run, int64_t step, struct es_err *err);

#endif
