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
/* checkpoint-last.h5 in the background: es_ckpt_finish_all. */
int train_save_begin_all(const struct es_comm *c, struct es_ckpt_writer *w, struct es_trainer *t,
                         const struct train_state *s, const char *dir, struct es_err *err);
/* resume: auto, never, or a file. Sets step and best when a checkpoint was loaded; step stays 0 otherwise. Another configuration
 * is ES_EUSAGE and names the keys. */
int train_resume_all(const struct es_comm *c, struct es_trainer *t, struct train_state *s, const char *dir,
                     const char *resume, struct es_err *err);
/* Start values from a checkpoint or weights file. */
int train_init_all(const struct es_comm *c, struct es_trainer *t, const char *path, const char *from,
                   struct es_err *err);

/* runlog.c: metrics.h5 */
struct train_log;
int train_log_open_all(const struct es_comm *c, struct train_log **l, const struct es_config *cfg,
                       const char *dir, int64_t step, const struct es_trainer_params *tp, struct es_err *err);
void train_log_close(struct train_log **l);
void train_log_step(struct train_log *l, int64_t step, const struct es_step_report *r,
                    const struct es_trainer_params *tp);
void train_log_valid(struct train_log *l, int64_t step, const struct es_validation *v);
/* A checkpoint after `step` steps: how long training waited for it, how long it took to write. */
void train_log_checkpoint(struct train_log *l, int64_t step, double exposed_s, double write_s,
                          bool background);
/* Returns the largest `vote` (>= 0) of all ranks. */
int train_log_flush_all(const struct es_comm *c, struct train_log *l, bool now, int vote, struct es_err *err);

#endif
