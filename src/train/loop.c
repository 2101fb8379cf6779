/* The life of a run: data, trainer, resume, steps, validation, checkpoints. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/ckpt.h"
#include "earshot/hash.h"
#include "earshot/kernels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"
#include "earshot/train.h"
#include "run_files.h"
#include "train_impl.h"

#define MAX_BAD 10 /* bad steps in a row */

struct run {
    const struct es_comm *comm;
    struct es_config *cfg;
    const struct es_train_options *options;
    enum es_phase phase;
    char dir[512];
    struct es_dataset *data;
    struct es_plan *plan;
    struct es_trainer_params tp;
    struct es_trainer *trainer;
    struct train_input input;
    struct train_scoring *scoring; /* NULL: no validation */
    struct train_log *log;
    int64_t step, end_step; /* completed; last to do (max_steps or all) */
    double best, begin_s, saved_s;
    int64_t clips_done;
    struct es_ckpt_writer *writer; /* NULL: checkpoints are written while training waits */
    const char *begun;             /* the file that is being written */
    int64_t begun_step;            /* of it */
    double exposed_s;              /* it has held up training so far */
    double best_before;            /* the objective of the checkpoint-best.h5 that it replaces */
    bool due;                      /* a periodic checkpoint */
    int n_bad;                     /* bad steps in a row */
};

static int make_trainer(struct run *r, struct es_err *err) {
    int rc = train_plan_new(&r->plan, r->cfg, r->data, err);
    if (rc == 0) {
        train_trainer_params(&r->tp, r->cfg, r->plan, es_dataset_classes(r->data));
        rc = train_input_shapes(&r->tp, err);
    }
    ES_TRY(es_err_agree_all(r->comm, rc, err));
    if (es_comm_max_all(r->comm, r->tp.bf16 == ES_BF16_NONE)) r->tp.bf16 = ES_BF16_NONE; /* a rank cannot */
    const int64_t *n = es_dataset_counts(r->data);
    es_log(ES_LOG_INFO,
           "data clips=%lld+%lld+%lld+%lld+%lld leaf_clips=%d leaves=%d epoch_steps=%lld total_steps=%lld",
           (long long)n[0], (long long)n[1], (long long)n[2], (long long)n[3], (long long)n[4],
           r->tp.leaf_clips, r->tp.leaves, (long long)es_plan_epoch_steps(r->plan),
           (long long)r->tp.total_steps);
    ES_TRY(es_trainer_new_all(&r->trainer, r->comm, &r->tp, err));
    es_trainer_report(r->trainer);
    return 0;
}

/* To the log, too, which is open now. */
static void tell_precision(const struct run *r) {
    if (!es_config_is(r->cfg, "train.precision", "bf16")) return;
    if (r->tp.bf16 == ES_BF16_NONE)
        train_tell_no_bf16("train.precision");
    else
        es_log(ES_LOG_INFO, "precision=bf16 by=%s", es_bf16_kind_name(r->tp.bf16));
}

static int make_dir(const char *dir, struct es_err *err) {
    char path[512];
    snprintf(path, sizeof path, "%s", dir);
    for (char *c = path + 1;; c++) {
        if (*c != '/' && *c != 0) continue;
        char kept = *c;
        *c = 0;
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return es_err_set(err, ES_EIO, "run.dir: %s: cannot create: %s", path, strerror(errno));
        *c = kept;
        if (kept == 0) return 0;
    }
}

static struct train_state state_of(struct run *r) {
    return (struct train_state){.step = r->step,
                                .best = r->best,
                                .seed = r->tp.seed,
                                .config = r->cfg,
                                .store_digest = es_dataset_digest(r->data),
                                .n_classes = es_dataset_classes(r->data),
                                .class_name = es_dataset_class_names(r->data)};
}

static int save(struct run *r, const char *name, struct es_err *err) {
    struct train_state s = state_of(r);
    double begin_s = es_now_s();
    ES_TRY(train_save_all(r->comm, r->trainer, &s, r->dir, name, err));
    const double end_s = es_now_s();
    if (strcmp(name, ES_CKPT_LAST) == 0) r->saved_s = end_s;
    if (r->log) train_log_checkpoint(r->log, r->step, end_s - begin_s, end_s - begin_s, false);
    return 0;
}

/* A file that could not be written in mid-run (a full disk) costs nothing but itself: the one before stays, the next may find
 * room. Only what is written at the end must succeed. */
static int forgive(struct run *r, int rc, struct es_err *err) {
    if (rc != -ES_EIO) return rc;
    es_log(ES_LOG_WARN, "%s; training goes on with the files before", err->msg);
    es_err_clear(err);
    r->saved_s = es_now_s();
    return 0;
}

static bool writing(const struct run *r, const char *name) {
    return r->writer && es_ckpt_writing(r->writer) && strcmp(r->begun, name) == 0;
}

/* The file is as it was: the next validation may do better than that. */
static int forgive_begun(struct run *r, int rc, struct es_err *err) {
    if (rc < 0 && strcmp(r->begun, ES_CKPT_BEST) == 0) r->best = r->best_before;
    return rc < 0 ? forgive(r, rc, err) : 0;
}

/* The end of a background checkpoint, if there is one; waits for it. */
static int finish_checkpoint(struct run *r, struct es_err *err) {
    if (!r->writer || !es_ckpt_writing(r->writer)) return 0;
    double begin_s = es_now_s(), write_s = 0.0;
    int rc = es_ckpt_finish_all(r->writer, &write_s, err);
    if (rc < 0) return forgive_begun(r, rc, err);
    const double end_s = es_now_s();
    if (strcmp(r->begun, ES_CKPT_LAST) == 0) r->saved_s = end_s;
    r->exposed_s += end_s - begin_s;
    if (r->log) train_log_checkpoint(r->log, r->begun_step, r->exposed_s, write_s, true);
    es_log(ES_LOG_INFO, "checkpoint %s step=%lld exposed_s=%.3f write_s=%.3f", r->begun,
           (long long)r->begun_step, r->exposed_s, write_s);
    return 0;
}

/* None is under way. */
static int begin_checkpoint(struct run *r, const char *name, struct es_err *err) {
    struct train_state s = state_of(r);
    double begin_s = es_now_s();
    r->begun = name;
    r->begun_step = r->step;
    ES_TRY(
        forgive_begun(r, train_save_begin_all(r->comm, r->writer, r->trainer, &s, r->dir, name, err), err));
    const double end_s = es_now_s();
    if (strcmp(name, ES_CKPT_LAST) == 0) r->saved_s = end_s;
    r->exposed_s = end_s - begin_s;
    return 0;
}

/* checkpoint-last. last: the run ends here; one in the background that not all ranks have written is dropped for it. */
static int checkpoint(struct run *r, bool last, bool written, struct es_err *err) {
    es_watchdog_kick("checkpoint", r->step);
    r->due = false;
    if (last && !written && writing(r, ES_CKPT_LAST)) es_ckpt_cancel(r->writer);
    ES_TRY(finish_checkpoint(r, err));
    return r->writer && !last ? begin_checkpoint(r, ES_CKPT_LAST, err) : save(r, ES_CKPT_LAST, err);
}

/* Fresh start or resume. Returns 0. */
static int load(struct run *r, struct es_err *err) {
    struct train_state s = state_of(r);
    const char *resume = r->options->resume ? r->options->resume : "auto";
    ES_TRY(train_resume_all(r->comm, r->trainer, &s, r->dir, resume, err));
    if (s.step > 0) {
        r->step = s.step;
        r->best = s.best;
        es_log(ES_LOG_INFO, "resume step=%lld", (long long)r->step);
        return 0;
    }
    const char *init = es_config_string(r->cfg, "model.init");
    if (*init)
        ES_TRY(train_init_all(r->comm, r->trainer, init, es_config_string(r->cfg, "model.init_from"), err));
    const char *head = es_config_string(r->cfg, "model.init_head");
    return *head ? train_init_head_all(r->comm, r->trainer, head, err) : 0;
}

/* All parameters to all ranks, before somebody reads them, and their digest to the log. */
static void settle(struct run *r, struct es_train_summary *summary) {
    es_trainer_settle_all(r->trainer);
    summary->digest = es_params_digest(es_trainer_student(r->trainer));
    train_log_digest(r->log, r->step - 1, summary->digest);
}

/* The student's scores decide which checkpoint is the best. */
static int validate(struct run *r, struct es_train_summary *summary, struct es_err *err) {
    struct es_validation v[2];
    es_watchdog_kick("validate", r->step);
    ES_TRY(train_scoring_validate_all(r->scoring, r->step, v, err));
    train_log_valid(r->log, r->step - 1, v); /* beside the losses of the step it follows */
    summary->psds1 = es_validation_get(&v[0], "psds1");
    summary->mpauc = es_validation_get(&v[0], "mpauc");
    summary->objective = v[0].objective;
    if (!isnan(v[0].objective) && (isnan(r->best) || v[0].objective > r->best)) {
        ES_TRY(finish_checkpoint(r, err)); /* may set back r->best */
        r->best_before = r->best;
        r->best = v[0].objective;
        ES_TRY(r->writer ? begin_checkpoint(r, ES_CKPT_BEST, err) : save(r, ES_CKPT_BEST, err));
    }
    return 0;
}

/* Rank 0's clock decides for all. */
static bool time_to_save(struct run *r) {
    double every_s = es_config_double(r->cfg, "checkpoint.every_seconds");
    int64_t every = es_config_i64(r->cfg, "checkpoint.every_steps");
    uint8_t now = every_s > 0 && es_now_s() - r->saved_s >= every_s;
    if (every_s > 0) es_comm_bcast_all(r->comm, &now, 1, 0);
    return now || (every > 0 && r->step % every == 0);
}

/* Names the clips of the leaves that made a step bad, all of them when only the gradient tells. Rank 0's log has them. */
static void tell_bad_step(struct run *r, const struct es_step_report *report, const char *what) {
    es_log(ES_LOG_WARN, "%s", what);
    for (int j = 0; j < report->n_active; j++) {
        double loss = report->leaf[(int64_t)j * report->leaf_stride + ES_TERM_TOTAL];
        if (report->bad_leaf >= 0 && !es_trainer_bad_loss(&r->tp, loss)) continue;
        struct es_leaf_plan leaf;
        es_plan_leaf(r->plan, r->step, j, &leaf);
        for (int i = 0, set = 0; i < leaf.n; i++) {
            while (i >= leaf.first[set + 1]) set++;
            es_log(ES_LOG_WARN, "bad_step=%lld leaf=%d loss=%g clip=%s", (long long)r->step, j, loss,
                   es_dataset_name(r->data, set, leaf.clip[i]));
        }
    }
}

/* Nothing was changed by this step. Returns 0 to go on with the next. */
static int bad_step(struct run *r, const struct es_step_report *report, struct es_err *err) {
    struct es_err bad = {0};
    if (report->bad_leaf >= 0)
        es_err_set(&bad, ES_EDATA,
                   "step %lld leaf %d: the loss is %g, want a finite number%s; lower the learning rates",
                   (long long)r->step, report->bad_leaf,
                   report->leaf[(int64_t)report->bad_leaf * report->leaf_stride + ES_TERM_TOTAL],
                   r->tp.loss_limit > 0.0 ? " up to train.loss_limit" : "");
    else
        es_err_set(
            &bad, ES_EDATA,
            "step %lld: the norm of the gradient is %g, want a finite number; lower the learning rates",
            (long long)r->step, report->gradient_norm);
    bool rewind = es_config_is(r->cfg, "train.on_bad_step", "rewind"),
         stop = es_config_is(r->cfg, "train.on_bad_step", "stop");
    char what[sizeof bad.msg + 80];
    snprintf(what, sizeof what, "%s%s", bad.msg,
             stop     ? ""
             : rewind ? "; going back to the last checkpoint, without the steps since"
                      : "; this step is left out");
    tell_bad_step(r, report, what);
    if (stop || ++r->n_bad > MAX_BAD) {
        *err = bad;
        return -ES_EDATA;
    }
    if (!rewind) return 0;
    ES_TRY(finish_checkpoint(r, err));
    struct train_state s = state_of(r);
    ES_TRY(train_resume_all(r->comm, r->trainer, &s, r->dir, "auto", err));
    if (s.step == 0) {
        *err = bad;
        es_err_hint(err, "train.on_bad_step: there is no checkpoint to go back to");
        return -ES_EDATA;
    }
    r->best = s.best;
    es_log(ES_LOG_WARN, "rewound to step=%lld, next step=%lld", (long long)s.step, (long long)r->step + 1);
    return 0;
}

/* Behind a step: rows to the disk, and a checkpoint where one is due or the run ends; saved: its step. One that falls due while the
 * best one is being written follows it. Rows come before the checkpoint: a run that goes on from it after a crash finds all of them. */
static int keep(struct run *r, bool ending, int64_t *saved, struct es_err *err) {
    const bool saving = ending || (r->due && !writing(r, ES_CKPT_BEST));
    if (ending && writing(r, ES_CKPT_BEST)) ES_TRY(finish_checkpoint(r, err)); /* its row, too, is flushed */
    /* the vote: the background checkpoint is not yet written */
    const bool wait = r->writer && es_ckpt_writing(r->writer) && !es_ckpt_written(r->writer);
    const int busy = train_log_flush_all(r->comm, r->log, saving, wait, err);
    if (busy < 0) return ending ? busy : forgive(r, busy, err);
    if (!saving) return busy ? 0 : finish_checkpoint(r, err);
    ES_TRY(checkpoint(r, ending, !busy, err));
    *saved = r->step;
    return 0;
}

static int steps(struct run *r, struct es_train_summary *summary, struct es_err *err) {
    int64_t epoch_steps = es_plan_epoch_steps(r->plan),
            every = es_config_i64(r->cfg, "train.validate_every") * epoch_steps;
    struct es_progress progress;
    es_progress_begin(&progress, es_phase_names[r->phase]);
    int64_t saved = r->step, allocations = 0, first = r->step;
    while (r->step < r->end_step) {
        struct es_step_report report;
        es_watchdog_kick("step", r->step);
        ES_TRY(es_trainer_step_all(r->trainer, r->step, es_plan_n_active(r->plan, r->step), train_input_leaf,
                                   &r->input, true, &report, err));
        if (report.bad)
            ES_TRY(bad_step(r, &report, err));
        else
            r->n_bad = 0;
        r->clips_done += (int64_t)report.n_active * r->tp.leaf_clips;
        train_log_digest(r->log, r->step - 1, report.digest);
        train_log_step(r->log, r->step, &report, &r->tp);
        r->step++;
        summary->loss = report.mean[ES_TERM_TOTAL];
        char extra[160];
        snprintf(extra, sizeof extra, "loss=%.4f grad_norm=%.3g lr_factor=%.3g", report.mean[ES_TERM_TOTAL],
                 report.gradient_norm, report.lr_factor);
        es_progress_update(&progress, r->step, r->tp.total_steps, "steps", extra);
        if (r->step == first + 1) allocations = es_mem_allocations();
        bool last = r->step == r->tp.total_steps, ending = report.stop || r->step == r->end_step;
        bool validating = r->scoring && (r->step % every == 0 || last);
        if (time_to_save(r)) r->due = true;
        if (validating || ending || r->due) settle(r, summary);
        if (validating) ES_TRY(validate(r, summary, err));
        ES_TRY(keep(r, ending, &saved, err));
        if (report.stop && r->step < r->end_step) {
            es_progress_end(&progress);
            es_log(ES_LOG_INFO, "stopped by a signal step=%lld; run again to resume", (long long)r->step);
            return ES_STOPPED;
        }
    }
    es_progress_end(&progress);
    es_log(ES_LOG_DEBUG, "allocations after the first step: %lld",
           (long long)(es_mem_allocations() - allocations));
    ES_ASSERT(saved == r->step);
    return 0;
}

static void close_run(struct run *r) {
    es_ckpt_writer_free(&r->writer);
    train_input_free(&r->input);
    train_log_close(&r->log);
    train_scoring_close(&r->scoring);
    es_trainer_free_all(&r->trainer);
    es_plan_free(&r->plan);
    es_dataset_close(&r->data);
    es_log_close();
}

/* What only a run that has steps to do needs: validation, loader, metrics file, background checkpoints. */
static int open_rest(struct run *r, struct es_err *err) {
    if (es_config_i64(r->cfg, "train.validate_every") > 0)
        ES_TRY(train_scoring_open_all(&r->scoring, r->comm, r->cfg, r->trainer, err));
    ES_TRY(es_err_agree_all(r->comm, train_input_new(&r->input, &r->tp, r->cfg, err), err));
    ES_TRY(es_err_agree_all(
        r->comm, train_input_start(&r->input, r->data, r->plan, r->trainer, r->step, r->end_step, err), err));
    ES_TRY(train_log_open_all(r->comm, &r->log, r->cfg, r->dir, r->step, &r->tp, err));
    if (!es_config_bool(r->cfg, "checkpoint.background")) return 0;
    return es_err_agree_all(r->comm, es_ckpt_writer_new(&r->writer, err), err);
}

int es_train_all(const struct es_comm *c, struct es_config *cfg, const struct es_train_options *options,
                 struct es_train_summary *summary, struct es_err *err) {
    struct run r = {
        .comm = c, .cfg = cfg, .options = options, .phase = train_phase(cfg), .best = (double)NAN};
    struct es_overlaps overlaps;
    int rc = 0;
    *summary = (struct es_train_summary){
        .psds1 = (double)NAN, .mpauc = (double)NAN, .objective = (double)NAN, .loss = (double)NAN};
    es_validation_init(&summary->test[0], ES_VALID_TEST);
    es_validation_init(&summary->test[1], ES_VALID_TEST);
    ES_GO(es_config_require(cfg, "run.dir", err));
    snprintf(r.dir, sizeof r.dir, "%s", es_config_string(cfg, "run.dir"));
    bool dry = es_config_bool(cfg, "train.memory_plan_only");
    ES_GO(train_open_dataset_all(&r.data, c, cfg, true, !dry, err));
    if (!dry) ES_GO(train_overlaps_all(c, cfg, r.data, options->strict, &overlaps, err));
    ES_GO(make_trainer(&r, err));
    summary->total_steps = r.tp.total_steps;
    summary->parameters = es_params_elements(es_trainer_student(r.trainer), false);
    if (dry) goto done;
    ES_GO(es_err_agree_all(c, es_comm_rank(c) == 0 ? make_dir(r.dir, err) : 0, err));
    ES_GO(es_err_agree_all(c, es_comm_rank(c) == 0 ? train_open_log(r.dir, err) : 0, err));
    tell_precision(&r);
    ES_GO(load(&r, err)); /* may refuse this configuration: only then it replaces the one in the folder */
    ES_GO(es_err_agree_all(c, es_comm_rank(c) == 0 ? train_write_config(r.dir, cfg, err) : 0, err));
    r.begin_s = r.saved_s = es_now_s();
    summary->digest = es_params_digest(es_trainer_student(r.trainer));
    summary->step = r.step;
    if (options->init_only) {
        rc = r.step > 0 ? es_err_set(err, ES_EUSAGE, "--init-only: %s holds a run at step %lld", r.dir,
                                     (long long)r.step)
                        : save(&r, ES_CKPT_LAST, err);
        goto done;
    }
    int64_t limit = es_config_i64(cfg, "train.max_steps");
    r.end_step = limit > 0 && limit < r.tp.total_steps ? limit : r.tp.total_steps;
    if (r.step >= r.end_step) {
        es_log(ES_LOG_INFO, "nothing to do: step %lld of %lld is done", (long long)r.step,
               (long long)r.end_step);
        goto done;
    }
    ES_GO(open_rest(&r, err));
    rc = steps(&r, summary, err);
    if (rc < 0) { /* all ranks have agreed: what was begun need not be lost */
        struct es_err second = {0};
        es_watchdog_kick("checkpoint", r.step);
        finish_checkpoint(&r, &second);
    }
    if (rc >= 0) {
        int flushed = train_log_flush_all(c, r.log, true, 0, err);
        if (flushed < 0) rc = flushed;
    }
    if (rc == 0 && r.scoring && r.step == r.tp.total_steps && es_config_bool(cfg, "train.test")) {
        es_watchdog_kick("test", r.step);
        rc = train_scoring_test_all(r.scoring, r.dir, summary->test, err);
    }
    summary->step = r.step;
    summary->wall_s = es_now_s() - r.begin_s;
    summary->clips_per_s = (double)r.clips_done / summary->wall_s;
    es_log(ES_LOG_INFO, "steps=%lld seconds=%.1f clips_per_s=%.2f peak_rss_gib=%.3f", (long long)r.step,
           summary->wall_s, summary->clips_per_s, (double)es_mem_peak_rss() / 1073741824.0);
done:
    summary->best_objective = r.best;
    close_run(&r);
    return rc;
}
