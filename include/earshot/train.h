/* `earshot train`: one training phase from a configuration, with validation, checkpoints, metrics and resume.
 *
 * The run directory (run.dir) holds checkpoint-last.h5, checkpoint-prev.h5, checkpoint-best.h5 (after the first validation),
 * metrics.h5, config.yaml (resolved) and log.txt. Collective over c.
 */
#ifndef EARSHOT_TRAIN_H
#define EARSHOT_TRAIN_H

#include "earshot/comm.h"
#include "earshot/config.h"
#include "earshot/dataset.h"
#include "earshot/plan.h"

struct es_train_options {
    const char *resume; /* "auto" (default when NULL), "never", or a checkpoint */
    bool init_only;     /* write the initial checkpoint (step 0) and stop */
    bool check;         /* read and validate everything, run nothing */
};
struct es_train_summary {
    int64_t step, total_steps, parameters; /* step: completed */
    double loss, psds1, mpauc, objective, best_objective, wall_s, clips_per_s;
    uint64_t digest; /* parameters_digest */
};
/* 0: finished or --check; ES_STOPPED: stopped by a signal, resume me; negative: error. */
int es_train_all(const struct es_comm *c, struct es_config *cfg, const struct es_train_options *options,
                 struct es_train_summary *summary, struct es_err *err);

/* The plan of a run, without its networks: what `earshot inspect --plan` shows. The stores of the configuration are opened,
 * pseudo-labels are not. Order: open, es_plan_leaf for any step < total_steps, close. */
struct es_train_plan {
    struct es_dataset *data;
    struct es_plan *plan;
    int leaves;
    int64_t total_steps;
};
int es_train_plan_open_all(struct es_train_plan *p, const struct es_comm *c, const struct es_config *cfg,
                           struct es_err *err);
void es_train_plan_close(struct es_train_plan *p);

#endif
