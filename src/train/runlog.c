/* metrics.h5 of a run: losses of every leaf, learning rate, gradient norm, digest, times, validation. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/metrics.h"
#include "run_files.h"

enum { TABLE_STEP, TABLE_VALID, TABLE_CHECKPOINT, N_TABLES };
enum { COLUMN_DIGEST = 5 }; /* of TABLE_STEP */

struct train_log {
    struct es_metrics *m;
    int table[N_TABLES];
    int leaves, n_valid;
    double *leaf;      /* [leaves, ES_N_TERMS], NAN where a short window has no leaf */
    struct es_err err; /* of a row that could not be added */
};

static int declare(struct train_log *l, int leaves, enum es_validation_kind kind, struct es_err *err) {
    struct es_metrics_column step[] = {
        {"/leaf",
         ES_H5_F64,
         2,
         {leaves, ES_N_TERMS},
         {{NULL, 0, NULL}, {"terms", ES_N_TERMS, es_term_names}}},
        {"/step/loss", ES_H5_F64, 0, {0}, {{0}}},
        {"/step/lr_factor", ES_H5_F64, 0, {0}, {{0}}},
        {"/step/lr", ES_H5_F64, 0, {0}, {{0}}},
        {"/step/gradient_norm", ES_H5_F64, 0, {0}, {{0}}},
        {"/step/parameters_digest", ES_H5_U64, 0, {0}, {{0}}},
        {"/time/min", ES_H5_F64, 1, {ES_N_TIMES}, {{"phases", ES_N_TIMES, es_time_names}}},
        {"/time/mean", ES_H5_F64, 1, {ES_N_TIMES}, {{"phases", ES_N_TIMES, es_time_names}}},
        {"/time/max", ES_H5_F64, 1, {ES_N_TIMES}, {{"phases", ES_N_TIMES, es_time_names}}},
        {"/time/slowest_rank", ES_H5_I32, 1, {ES_N_TIMES}, {{"phases", ES_N_TIMES, es_time_names}}},
    };
    struct es_metrics_column valid[2 * ES_VALID_MAX + 1];
    char name[2 * ES_VALID_MAX + 1][64];
    struct es_validation v;
    int n = 0;
    es_validation_init(&v, kind);
    for (int who = 0; who < (kind == ES_VALID_STAGES ? 2 : 1); who++)
        for (int i = 0; i < v.n; i++)
            snprintf(name[n++], sizeof *name, "/valid/%s%s", who ? "teacher_" : "", v.name[i]);
    snprintf(name[n++], sizeof *name, "/valid/objective");
    for (int i = 0; i < n; i++) valid[i] = (struct es_metrics_column){name[i], ES_H5_F64, 0, {0}, {{0}}};
    l->n_valid = n;
    ES_TRY(
        es_metrics_table(l->m, "/step/step", step, sizeof step / sizeof *step, &l->table[TABLE_STEP], err));
    struct es_metrics_column checkpoint[] = {{"/checkpoint/exposed_s", ES_H5_F64, 0, {0}, {{0}}},
                                             {"/checkpoint/write_s", ES_H5_F64, 0, {0}, {{0}}},
                                             {"/checkpoint/background", ES_H5_I32, 0, {0}, {{0}}}};
    ES_TRY(es_metrics_table(l->m, "/valid/step", valid, n, &l->table[TABLE_VALID], err));
    return es_metrics_table(l->m, "/checkpoint/step", checkpoint, sizeof checkpoint / sizeof *checkpoint,
                            &l->table[TABLE_CHECKPOINT], err);
}

int train_log_open_all(const struct es_comm *c, struct train_log **l, const struct es_config *cfg,
                       const char *dir, int64_t step, const struct es_trainer_params *tp,
                       struct es_err *err) {
    char path[700];
    snprintf(path, sizeof path, "%s/metrics.h5", dir);
    *l = es_alloc(1, sizeof **l, err);
    int rc = *l ? 0 : -ES_EIO;
    if (rc == 0) {
        (*l)->leaves = tp->leaves;
        (*l)->leaf = es_alloc((size_t)tp->leaves * ES_N_TERMS, sizeof(double), err);
        if (!(*l)->leaf) rc = -ES_EIO;
    }
    if (rc == 0)
        rc = es_metrics_open(&(*l)->m, path, es_comm_rank(c), es_config_double(cfg, "metrics.flush_seconds"),
                             step > 0 ? step : -1, err);
    int64_t limit = es_config_i64(cfg, "train.max_steps");
    if (rc == 0) {
        es_metrics_set_steps((*l)->m, limit > 0 && limit < tp->total_steps ? limit : tp->total_steps);
        rc = declare(*l, tp->leaves, train_validation_kind(cfg), err);
    }
    return es_err_agree_all(c, rc, err);
}

void train_log_close(struct train_log **l) {
    if (!*l) return;
    es_metrics_free(&(*l)->m);
    es_free(&(*l)->leaf);
    es_free(l);
}

static void keep(struct train_log *l, int rc, const struct es_err *e) {
    if (rc < 0 && l->err.code == 0) l->err = *e;
}

void train_log_step(struct train_log *l, int64_t step, const struct es_step_report *r,
                    const struct es_trainer_params *tp) {
    struct es_err e = {0};
    double lr = 0;
    const uint64_t not_yet_known = 0;
    for (int i = 0; i < tp->optim.n_groups; i++)
        lr = fmax(lr, es_optim_lr(&tp->optim, i, step, r->lr_factor));
    for (int j = 0; j < l->leaves; j++)
        for (int k = 0; k < ES_N_TERMS; k++)
            l->leaf[j * ES_N_TERMS + k] =
                j < r->n_active ? r->leaf[(int64_t)j * r->leaf_stride + k] : (double)NAN;
    const void *row[] = {l->leaf,           &r->mean[ES_TERM_TOTAL], &r->lr_factor, &lr,
                         &r->gradient_norm, &not_yet_known,          r->time_min,   r->time_mean,
                         r->time_max,       r->time_slowest};
    keep(l, es_metrics_add(l->m, l->table[TABLE_STEP], step, row, &e), &e);
}

void train_log_digest(struct train_log *l, int64_t step, uint64_t digest) {
    es_metrics_amend(l->m, l->table[TABLE_STEP], step, COLUMN_DIGEST, &digest);
}

void train_log_valid(struct train_log *l, int64_t step, const struct es_validation v[2]) {
    struct es_err e = {0};
    const void *row[2 * ES_VALID_MAX + 1];
    int n = 0;
    for (int who = 0; who < 2; who++)
        for (int i = 0; i < v[who].n && n < l->n_valid - 1; i++) row[n++] = &v[who].value[i];
    row[n] = &v[0].objective;
    keep(l, es_metrics_add(l->m, l->table[TABLE_VALID], step, row, &e), &e);
}

void train_log_checkpoint(struct train_log *l, int64_t step, double exposed_s, double write_s,
                          bool background) {
    struct es_err e = {0};
    int32_t flag = background;
    const void *row[] = {&exposed_s, &write_s, &flag};
    keep(l, es_metrics_add(l->m, l->table[TABLE_CHECKPOINT], step - 1, row, &e), &e);
}

/* Rank 0 writes; a full disk ends the run on all ranks. Agreement is one small reduction a step. */
int train_log_flush_all(const struct es_comm *c, struct train_log *l, bool now, int vote,
                        struct es_err *err) {
    int rc = 0;
    if (l->err.code) {
        if (err) *err = l->err;
        rc = -l->err.code;
    }
    if (rc == 0) rc = now ? es_metrics_flush(l->m, err) : es_metrics_tick(l->m, err);
    return es_err_agree_all(c, rc < 0 ? rc : vote, err);
}
