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
};
/* log.txt and config.yaml; rank 0 only. */
int train_open_log(const char *dir, struct es_err *err);
int train_write_config(const char *dir, const struct es_config *cfg, struct es_err *err);
int train_save_all(const struct es_comm *c, struct es_trainer *t, const struct train_state *s,
                   const char *dir, const char *name, struct es_err *err);
/* resume: auto, never, or a file. Sets step and best when a checkpoint was loaded; step stays 0 otherwise. Another configuration
 * is ES_EUSAGE and names the keys. */
int train_resume_all(const struct es_comm *c, struct es_trainer *t, struct train_state *s, const char *dir,
                     const char *resume, struct es_err *err);
/* Start values from a checkpoint or weights file. */
int train_init_all(const struct es_comm *c, struct es_trainer *t, const char *path, const char *from,
                   struct es_err *err);
/* The layer of frame logits from a head of earshot probe: student and teacher. */
int train_init_head_all(const struct es_comm *c, struct es_trainer *t, const char *path, struct es_err *err);

/* runlog.c: metrics.h5 */
struct train_log;
int train_log_open_all(const struct es_comm *c, struct train_log **l, const struct es_config *cfg,
                       const char *dir, int64_t step, const struct es_trainer_params *tp, struct es_err *err);
void train_log_close(struct train_log **l);
void train_log_step(struct train_log *l, int64_t step, const struct es_step_report *r,
                    const struct es_trainer_params *tp);
void train_log_valid(struct train_log *l, int64_t step, const struct es_validation *v);
int train_log_flush_all(const struct es_comm *c, struct train_log *l, bool now, struct es_err *err);

#endif
