/* What cases of losses and of whole steps share: the objective and its mixup from the keys of a case. */
#ifndef EARSHOT_GOLDEN_RUNNER_LOSSES_H
#define EARSHOT_GOLDEN_RUNNER_LOSSES_H

#include "earshot/objective.h"
#include "runner.h"

/* Why the program cannot be set to this case; NULL: it can. */
const char *rn_loss_unsupported(struct rn_case *c);
/* Objective and begins of the sets; false: keys are missing or another order of sets. */
bool rn_objective(struct rn_case *c, struct es_objective_params *op, int first[ES_N_SETS + 1]);
/* The calls of mixup from <group>/<prefix>draw/...; false: a draw is missing. */
bool rn_mix_calls(struct rn_case *c, const char *prefix, const int *first, struct es_mix_call mix[4], int *n);

#endif
