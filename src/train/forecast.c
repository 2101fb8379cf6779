/* earshot train --check: what a run will do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/train.h"
#include "earshot/yamlrows.h"
#include "run_files.h"
#include "train_impl.h"

#define ASSUMED_GFLOPS 100.0 /* fp32 of one Zen 4 core; bench step measures */

/* ---- numbers of clips */

static const char *const as_train[1] = {"as_train"};

static int parse_count(const char *path, const struct es_yaml_row *r, int64_t *n, struct es_err *err) {
    char *end;
    long long v = strtoll(r->value, &end, 10);
    if (end == r->value || *end || v < 0)
        return es_err_set(err, ES_EDATA, "%s:%d: %s.%s: got \"%.40s\", want a number of clips", path, r->line,
                          r->key[0], r->key[1], r->value);
    *n = v;
    return 0;
}

/* Whether this phase scores such clips. */
static bool scored(const char *key, bool pretrain) {
    return (strcmp(key, "as_eval") == 0) == pretrain;
}

static int take_row(struct es_train_forecast *f, const char *path, const struct es_yaml_row *r, bool pretrain,
                    struct es_err *err) {
    int64_t n = 0;
    if (r->depth == 2) ES_TRY(parse_count(path, r, &n, err));
    if (r->depth == 2 && strcmp(r->key[0], "train") == 0) {
        for (int s = 0; s < f->n_sets; s++)
            if (strcmp(r->key[1], f->set_name[s]) == 0) f->n_clips[s] = n;
        for (int s = 0; s < ES_N_SETS; s++)
            if (strcmp(r->key[1], es_set_names[s]) == 0) return 0;
        if (strcmp(r->key[1], as_train[0]) == 0) return 0;
    } else if (r->depth == 2 && strcmp(r->key[0], "validation") == 0) {
        if (scored(r->key[1], pretrain)) f->n_validation += n;
        return 0;
    } else if (r->depth == 2 && strcmp(r->key[0], "test") == 0) {
        if (scored(r->key[1], pretrain)) f->n_test += n;
        return 0;
    }
    return es_err_set(
        err, ES_EDATA,
        "%s:%d: got %s.%s, want train: with maestro, strong, synth, weak, unlabeled and as_train, "
        "validation: or test:",
        path, r->line, r->key[0], r->depth > 1 ? r->key[1] : "");
}

static int read_sizes(struct es_train_forecast *f, const char *path, bool pretrain, struct es_err *err) {
    struct es_yaml_rows rows = {0};
    int rc = es_yaml_rows_load(&rows, path, err);
    f->n_validation = f->n_test = 0;
    for (int i = 0; rc == 0 && i < rows.n; i++) rc = take_row(f, path, &rows.row[i], pretrain, err);
    for (int s = 0; rc == 0 && s < f->n_sets; s++)
        if (f->n_clips[s] < 0)
            rc =
                es_err_set(err, ES_EDATA, "%s: train.%s is missing: a number of clips", path, f->set_name[s]);
    es_yaml_rows_free(&rows);
    return rc;
}

/* ---- schedule */

static void milestone(struct es_train_forecast *f, int64_t step, const char *what) {
    if (step < 0 || step > f->total_steps || f->n_milestones == ES_FORECAST_MILESTONES) return;
    int at = f->n_milestones++;
    for (; at > 0 && f->milestone[at - 1].step > step; at--) f->milestone[at] = f->milestone[at - 1];
    f->milestone[at].step = step;
    snprintf(f->milestone[at].what, sizeof f->milestone[at].what, "%s", what);
}

static void milestones(struct es_train_forecast *f, const struct es_config *cfg,
                       const struct es_trainer_params *tp) {
    const struct es_objective_params *o = &tp->objective;
    bool stages = tp->phase != ES_PHASE_PRETRAIN, cosine = tp->schedule == ES_SCHEDULE_COSINE;
    char text[96];
    if (tp->warmup_steps > 0)
        milestone(f, tp->warmup_steps,
                  cosine ? "learning rates at their peak, cosine from here" : "learning rates at their peak");
    if (tp->optim.line_steps > 0) milestone(f, tp->optim.line_steps, "the head's learning rate at its end");
    if (stages && o->lambda[4] > 0) {
        double cap = o->ssl_warmup_steps * o->ssl_scale_max;
        snprintf(text, sizeof text, "agreement at its full weight %g", o->lambda[4] * o->ssl_scale_max);
        milestone(f, (int64_t)cap, text);
    }
    int64_t every = es_config_i64(cfg, "train.validate_every") * f->epoch_steps;
    if (every > 0) {
        snprintf(text, sizeof text, "first validation, then every %lld steps", (long long)every);
        milestone(f, every < f->total_steps ? every : f->total_steps, text);
    }
    double at_end = es_schedule_factor(tp->schedule, f->total_steps, tp->warmup_steps, f->total_steps);
    double weight = stages ? es_objective_ssl_weight(o, f->total_steps) : 0;
    if (stages)
        snprintf(text, sizeof text, "end: learning rate factor %.3g, agreement weight %.4g", at_end, weight);
    else
        snprintf(text, sizeof text, "end: learning rate factor %.3g", at_end);
    milestone(f, f->total_steps, text);
}

/* ---- cost */

/* The largest number of leaves that a rank computes in a step. */
static int most_leaves(int leaves, int ranks, int n_active) {
    int count[1024] = {0}, most = 0;
    for (int j = 0; j < n_active; j++) {
        int *n = &count[es_reducer_rank_of_leaf(leaves, ranks, j)];
        if (++*n > most) most = *n;
    }
    return most;
}

static double step_flops(const struct es_train_forecast *f, const struct es_trainer_params *tp, int ranks,
                         int n_active) {
    double frozen, leaf = es_trainer_leaf_flops(tp, &frozen);
    int slots = 1;
    while (slots < tp->leaves) slots *= 2;
    if (frozen > 0 && ranks > n_active) { /* every leaf has helpers for its frozen part, in whole blocks */
        double blocks = (double)((f->leaf_clips + tp->frozen_block - 1) / tp->frozen_block);
        double helpers = (double)(ranks / n_active);
        if (helpers > blocks) helpers = blocks;
        return leaf - frozen + frozen * (double)(int64_t)((blocks + helpers - 1) / helpers) / blocks;
    }
    return leaf * most_leaves(tp->leaves, ranks < slots ? ranks : slots, n_active);
}

static void costs(struct es_train_forecast *f, const struct es_trainer_params *tp,
                  const struct es_trainer_size *size) {
    double frozen;
    int slots = 1, most;
    while (slots < tp->leaves) slots *= 2;
    most = tp->phase == ES_PHASE_STAGE1 ? 8 * slots
                                        : slots; /* beyond, ranks of stage 1 have next to nothing to do */
    f->leaf_flops = es_trainer_leaf_flops(tp, &frozen);
    f->total_flops = f->leaf_flops * (double)f->micro_batches * (double)f->epochs;
    /* waveforms being read and used, both mels and their copies, targets */
    int64_t clip = 2 * ES_DATASET_SAMPLES + 3 * (int64_t)tp->net.crnn_mels * tp->crnn_frames +
                   2 * (int64_t)tp->net.transformer.n_mels * tp->feature_frames;
    for (int i = 0; i < ES_FORECAST_RANKS && 1 << i <= most; i++) {
        int ranks = 1 << i;
        double full = step_flops(f, tp, ranks, tp->leaves), last = step_flops(f, tp, ranks, f->last_leaves);
        f->rank[i].ranks = ranks;
        f->rank[i].seconds =
            (double)f->epochs * ((double)(f->epoch_steps - 1) * full + last) / (f->gflops * 1e9);
        f->rank[i].bytes = size->fixed_bytes + size->leaf_bytes + size->gradient_bytes[i] +
                           size->moment_bytes[i] + 4 * clip * tp->leaf_clips;
        f->n_ranks++;
    }
}

/* ---- all */

static int forecast(struct es_train_forecast *f, const struct es_config *cfg, const struct es_plan *plan,
                    int classes, struct es_err *err) {
    struct es_trainer_params tp;
    struct es_trainer_size size;
    train_trainer_params(&tp, cfg, plan, classes);
    ES_TRY(train_input_shapes(&tp, err));
    const struct es_plan_params *pp = es_plan_get_params(plan);
    memcpy(f->size, pp->size, sizeof f->size);
    f->leaves = tp.leaves;
    f->leaf_clips = tp.leaf_clips;
    f->micro_batches = es_plan_epoch_micro_batches(plan);
    f->epoch_steps = es_plan_epoch_steps(plan);
    f->epochs = es_config_i64(cfg, "train.epochs");
    f->total_steps = tp.total_steps;
    f->last_leaves = es_plan_n_active(plan, f->epoch_steps - 1);
    milestones(f, cfg, &tp);
    ES_TRY(es_trainer_size(&tp, &size, err));
    f->parameters = size.parameters;
    f->trainable = size.trainable;
    costs(f, &tp, &size);
    return 0;
}

static int from_sizes(struct es_train_forecast *f, const struct es_config *cfg, const char *path,
                      struct es_err *err) {
    bool pretrain = train_phase(cfg) == ES_PHASE_PRETRAIN;
    struct es_plan_params pp;
    struct es_plan *plan = NULL;
    int classes = pretrain ? es_config_int(cfg, "pretrain.classes") : 0;
    if (pretrain && classes == 0)
        return es_err_set(err, ES_EUSAGE, "%s: pretrain.classes: got 0, want their number: no store is read",
                          es_config_where(cfg, "pretrain.classes"));
    ES_TRY(read_sizes(f, path, pretrain, err));
    train_plan_params(&pp, cfg, f->n_clips);
    ES_TRY(es_plan_new(&plan, &pp, err));
    int rc = forecast(f, cfg, plan, classes, err);
    es_plan_free(&plan);
    return rc;
}

/* Clips of the stores to validate on. */
static int count_validation_all(struct es_train_forecast *f, const struct es_comm *c,
                                const struct es_config *cfg, struct es_err *err) {
    int n;
    const char *const *path = train_validation_stores(cfg, &n);
    f->n_validation = f->n_test = 0;
    for (int i = 0; i < n; i++) {
        struct es_store *s = NULL;
        ES_TRY(es_store_open_all(&s, c, path[i], err));
        f->n_validation += es_validation_clips(s, train_validation_kind(cfg));
        if (train_phase(cfg) != ES_PHASE_PRETRAIN) f->n_test += es_validation_clips(s, ES_VALID_TEST);
        es_store_close(&s);
    }
    return 0;
}

static int from_stores_all(struct es_train_forecast *f, const struct es_comm *c, const struct es_config *cfg,
                           bool strict, struct es_err *err) {
    struct es_dataset *d = NULL;
    struct es_plan *plan = NULL;
    ES_TRY(train_open_dataset_all(&d, c, cfg, true, false, err));
    memcpy(f->n_clips, es_dataset_counts(d), sizeof f->n_clips);
    int rc = train_plan_new(&plan, cfg, d, err);
    if (rc == 0) rc = forecast(f, cfg, plan, es_dataset_classes(d), err);
    es_plan_free(&plan);
    rc = es_err_agree_all(c, rc, err);
    if (rc == 0) rc = train_overlaps_all(c, cfg, d, strict, &f->overlaps, err);
    es_dataset_close(&d);
    ES_TRY(rc);
    return count_validation_all(f, c, cfg, err);
}

int es_train_forecast_all(const struct es_comm *c, const struct es_config *cfg, const char *set_sizes,
                          double gflops, bool strict, struct es_train_forecast *f, struct es_err *err) {
    bool pretrain = train_phase(cfg) == ES_PHASE_PRETRAIN;
    *f = (struct es_train_forecast){.n_sets = pretrain ? 1 : ES_N_SETS,
                                    .n_validation = -1,
                                    .n_test = -1,
                                    .gflops = gflops > 0 ? gflops : ASSUMED_GFLOPS};
    for (int s = 0; s < f->n_sets; s++) {
        f->set_name[s] = pretrain ? as_train[0] : es_set_names[s];
        f->n_clips[s] = -1;
    }
    if (set_sizes) return es_err_agree_all(c, from_sizes(f, cfg, set_sizes, err), err);
    return from_stores_all(f, c, cfg, strict, err);
}
