/* Files of a run directory: checkpoints, metrics log, resolved configuration. Of src/train only. */
#ifndef EARSHOT_RUN_FILES_H
#define EARSHOT_RUN_FILES_H

#include "earshot/config.h"
#include "earshot/trainer.h"
#include "earshot/validate.h"

/* checkpoint.c */
struct train_state {
    int64_t step; /* completed steps */
    double best;  /* best validation objective so far, NAN: none */
    uint64_t seed, store_digest;
    const struct es_config *config;
    int n_classes;
    const char *const *class_name;
};
/* log.txt and config.yaml; rank 0 only. */
int train_open_log(const char *dir, struct es_err *err);
int train_write_config(const char *dir, const struct es_config *cfg, struct es_err *err);
struct es_ckpt_writer;
int train_save_all(const struct es_comm *c, struct es_trainer *t, const struct train_state *s,
                   const char *dir, const char *name, struct es_err *err);
/* The same in the background: es_ckpt_finish_all. */
int train_save_begin_all(const struct es_comm *c, struct es_ckpt_writer *w, struct es_trainer *t,
                         const struct train_state *s, const char *dir, const char *name, struct es_err *err);
/* resume: auto, never, or a file. Sets step and best when a checkpoint was loaded; step stays 0 otherwise. Another configuration
 * is ES_EUSAGE and names the keys. */
int train_resume_all(const struct es_comm *c, struct es_trainer *t, struct train_state *s, const char *dir,
                     const char *resume, struct es_err *err);
/* Start values from a checkpoint or weights file. */
int train_init_all(const struct es_comm *c, struct es_trainer *t, const char *path, const char *from,
                   struct es_err *err);
/* The layer of frame logits from a head of earshot probe: student and teacher. */
int train_init_head_all(const struct es_comm *c, struct es_trainer *t, const char *path, struct es_err *err);

/* scoring.c: [2] is student and teacher; what is not scored (no teacher, no clips) is NAN */
struct train_scoring;
enum es_validation_kind train_validation_kind(const struct es_config *cfg);
/* Paths of the stores to validate on: data.validation_stores, or data.stores. */
const char *const *train_validation_stores(const struct es_config *cfg, int *n);
int train_scoring_open_all(struct train_scoring **s, const struct es_comm *c, const struct es_config *cfg,
                           struct es_trainer *t, struct es_err *err);
void train_scoring_close(struct train_scoring **s);
int train_scoring_validate_all(struct train_scoring *s, int64_t step, struct es_validation out[2],
                               struct es_err *err);
/* The best checkpoint of a run's folder on the test sets; test.json beside it. */
int train_scoring_test_all(struct train_scoring *s, const char *dir, struct es_validation out[2],
                           struct es_err *err);

/* runlog.c: metrics.h5 */
struct train_log;
int train_log_open_all(const struct es_comm *c, struct train_log **l, const struct es_config *cfg,
                       const char *dir, int64_t step, const struct es_trainer_params *tp, struct es_err *err);
void train_log_close(struct train_log **l);
void train_log_step(struct train_log *l, int64_t step, const struct es_step_report *r,
                    const struct es_trainer_params *tp);
/* Of the parameters behind that step, if it has the last row: known when they are on all ranks. */
void train_log_digest(struct train_log *l, int64_t step, uint64_t digest);
void train_log_valid(struct train_log *l, int64_t step, const struct es_validation v[2]);
/* A checkpoint after `step` steps: how long training waited for it, how long it took to write. */
void train_log_checkpoint(struct train_log *l, int64_t step, double exposed_s, double write_s,
                          bool background);
/* Returns the largest `vote` (>= 0) of all ranks. */
int train_log_flush_all(const struct es_comm *c, struct train_log *l, bool now, int vote, struct es_err *err);

#endif
