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
#include "earshot/validate.h"

struct es_train_options {
    const char *resume; /* "auto" (default when NULL), "never", or a checkpoint */
    bool init_only;     /* write the initial checkpoint (step 0) and stop */
    bool strict;        /* a clip that trains and is scored is an error, not a warning */
};
struct es_train_summary {
    int64_t step, total_steps, parameters; /* step: completed */
    double loss, psds1, mpauc, objective, best_objective, wall_s, clips_per_s;
    uint64_t digest;              /* parameters_digest */
    struct es_validation test[2]; /* of the best checkpoint: student, teacher; n_clips 0: no test */
};
/* 0: finished; ES_STOPPED: stopped by a signal, resume me; negative: error. */
int es_train_all(const struct es_comm *c, struct es_config *cfg, const struct es_train_options *options,
                 struct es_train_summary *summary, struct es_err *err);

/* What a run will do, from its configuration and the numbers of clips: `earshot train --check`. */
enum { ES_FORECAST_RANKS = 12, ES_FORECAST_MILESTONES = 8 };
struct es_train_forecast {
    int n_sets, size[ES_N_SETS];
    const char *set_name[ES_N_SETS];
    int64_t n_clips[ES_N_SETS], n_validation, n_test; /* -1: not told */
    int leaves, leaf_clips, last_leaves;              /* last_leaves: of the last step of an epoch */
    int64_t micro_batches, epoch_steps, epochs, total_steps;
    int n_milestones;
    struct {
        int64_t step;
        char what[96];
    } milestone[ES_FORECAST_MILESTONES];
    int64_t parameters, trainable;
    double leaf_flops, total_flops; /* of matrix products; validation not counted */
    double gflops;                  /* a rank's, given or assumed */
    struct es_overlaps overlaps;    /* of the stores */
    int n_ranks;
    struct {
        int ranks;
        double seconds; /* of computing: no communication, no validation */
        int64_t bytes;  /* of a rank */
    } rank[ES_FORECAST_RANKS];
};
/* set_sizes: a YAML file with the number of clips of each set (configs/data/published-sizes.yaml), and no store is read; NULL: the
 * stores are opened, with all else that training reads. gflops: what a rank sustains (bench step); 0: 100 assumed. strict: as in
 * es_train_options. Collective. */
int es_train_forecast_all(const struct es_comm *c, const struct es_config *cfg, const char *set_sizes,
                          double gflops, bool strict, struct es_train_forecast *f, struct es_err *err);

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
