/* One step: this rank's leaves, the exchanges, the optimiser (ARCHITECTURE.md section 4). */
#include <math.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/timer.h"
#include "trainer_impl.h"

void trainer_lap(struct es_trainer *t, enum es_step_phase phase) {
    double now = es_now_s();
    t->time[phase] += now - t->mark_s;
    t->mark_s = now;
}

/* The student's forward pass is about to read a parameter: what other ranks changed of it must be there. */
void trainer_on_param(void *ctx, int param) {
    struct es_trainer *t = ctx;
    const struct es_param *p = es_params_at(t->student, param);
    if (p->trainable) es_reducer_gather_wait(t->reducer, p->offset, p->n);
}

static void on_grad(void *ctx, int param) {
    struct es_trainer *t = ctx;
    const struct es_param *p = es_params_at(t->student, param);
    int64_t padded = (p->n + 15) / 16 * 16;
    for (int64_t k = p->n; k < padded; k++) t->grads[p->offset + k] = 0.0f; /* padding counts in the norm */
    if (es_fault_hit("nan")) t->grads[p->offset] = (float)NAN;
    es_reducer_ready(t->reducer, p->offset, padded);
}

static void between(void *ctx) {
    es_reducer_poll(((struct es_trainer *)ctx)->reducer);
}

/* Batch statistics of both models behind the loss terms of a leaf's record. */
static void write_stats(const struct es_tape *tape, double **at) {
    for (int i = 0; i < es_tape_n_stats(tape); i++) {
        struct es_tape_stats s = es_tape_stats_at(tape, i);
        for (int k = 0; k < s.n; k++) *(*at)++ = (double)s.mean[k];
        for (int k = 0; k < s.n; k++) *(*at)++ = (double)s.var[k];
    }
}

static const double *replay_stats(struct es_params *params, const double *at, double momentum) {
    for (int i = 0; i < es_params_count(params); i++) {
        const struct es_param *p = es_params_at(params, i);
        float *x = es_params_data(params, i), m = (float)momentum;
        if (strstr(p->name, ".running_"))
            for (int64_t k = 0; k < p->n; k++) x[k] = (1.0f - m) * x[k] + m * (float)*at++;
        else if (strstr(p->name, "num_batches_tracked"))
            x[0] += 1.0f;
    }
    return at;
}

static int my_leaves(struct es_trainer *t, int64_t step, int n_active, es_leaf_fn get, void *ctx,
                     struct es_err *err) {
    int rc = 0, n_mine = es_reducer_n_mine(t->reducer);
    for (int i = 0; i < n_mine; i++) {
        int leaf = es_reducer_leaf(t->reducer, i);
        double *record = es_leafgather_record(t->gather, leaf);
        struct es_leaf_input in = {0};
        memset(record, 0, (size_t)t->record_n * sizeof *record);
        if (rc == 0) rc = get(ctx, step, leaf, &in, err);
        trainer_lap(t, ES_TIME_INPUT);
        t->grads = es_reducer_leaf_begin(t->reducer, i);
        if (t->frozen) train_frozen_round(t->frozen, n_active, i);
        if (rc < 0 && t->frozen) train_frozen_run(t->frozen, t->ws.frozen, NULL);
        if (rc == 0) {
            struct es_objective_terms terms;
            struct es_tape_hooks hooks = {i == n_mine - 1 ? on_grad : NULL, i == n_mine - 1 ? between : NULL,
                                          t};
            trainer_run_leaf(t, &t->ws, &in, step, leaf, &terms);
            es_objective_read(&t->tp.objective, &terms, record);
            double *at = record + ES_N_TERMS;
            if (t->teacher) write_stats(t->ws.student, &at);
            if (t->teacher) write_stats(t->ws.teacher, &at);
            if (es_fault_hit("nan-loss")) record[ES_TERM_TOTAL] = (double)NAN;
            es_fault_here("step");
            es_tape_backward(t->ws.student, t->grads, &hooks);
            trainer_lap(t, ES_TIME_BACKWARD);
            t->leaves_done++;
        }
        es_reducer_leaf_end(t->reducer, i);
    }
    /* rounds of ranks with more leaves than this one */
    for (int i = n_mine; t->frozen && train_frozen_round(t->frozen, n_active, i); i++) trainer_help_frozen(t);
    return rc;
}

bool es_trainer_bad_loss(const struct es_trainer_params *tp, double loss) {
    return !isfinite(loss) || (tp->loss_limit > 0.0 && loss > tp->loss_limit);
}

static void read_headers(const struct es_trainer *t, struct es_step_report *report) {
    int size = es_comm_size(t->comm);
    for (int r = 0; r < size; r++) {
        const struct rank_header *h = es_leafgather_rank_header(t->gather, r);
        for (int k = 0; k < ES_N_TIMES; k++) {
            if (r == 0 || h->time[k] < report->time_min[k]) report->time_min[k] = h->time[k];
            if (r == 0 || h->time[k] > report->time_max[k]) {
                report->time_max[k] = h->time[k];
                report->time_slowest[k] = r;
            }
            report->time_mean[k] += h->time[k] / size;
        }
    }
}

int64_t es_trainer_sent_bytes(const struct es_trainer *t) {
    return es_reducer_sent_bytes(t->reducer);
}
double es_trainer_exposed_s(const struct es_trainer *t) {
    return es_reducer_exposed_s(t->reducer);
}

void es_trainer_settle_all(struct es_trainer *t) {
    es_reducer_gather_wait(t->reducer, 0, es_params_n_trainable(t->student));
    t->settled = true;
}

int es_trainer_step_all(struct es_trainer *t, int64_t step, int n_active, es_leaf_fn leaf, void *ctx,
                        bool digest, struct es_step_report *report, struct es_err *err) {
    const struct es_trainer_params *tp = &t->tp;
    double begin_s = es_now_s();
    memset(report, 0, sizeof *report);
    memset(t->time, 0, sizeof t->time);
    t->mark_s = begin_s;
    es_reducer_begin(t->reducer, n_active);
    es_leafgather_begin(t->gather, n_active);
    es_params_changed(t->student);
    if (t->teacher) es_params_changed(t->teacher);
    int rc = my_leaves(t, step, n_active, leaf, ctx, err);
    int finished = es_reducer_finish_all(t->reducer, rc == 0 ? err : NULL);
    if (rc == 0) rc = finished;
    t->settled = true;
    trainer_lap(t, ES_TIME_REDUCE);
    if (digest) report->digest = es_params_digest(t->student);

    struct rank_header *h = es_leafgather_header(t->gather);
    memcpy(h->time, t->time, sizeof h->time);
    h->time[ES_TIME_OPTIMIZER] = t->optimizer_s;
    h->time[ES_TIME_STEP] = es_now_s() - begin_s + t->optimizer_s;
    ES_TRY(es_leafgather_all(t->gather, rc, es_stop_requested(), err));
    report->stop = es_leafgather_stop(t->gather);
    read_headers(t, report);

    report->gradient_norm = sqrt(es_reducer_norm2_all(t->reducer)); /* the same on all ranks */
    report->n_active = n_active;
    report->leaf = es_leafgather_leaf(t->gather, 0);
    report->leaf_stride = t->record_n;
    report->bad_leaf = -1;
    for (int j = 0; j < n_active; j++) {
        const double *record = es_leafgather_leaf(t->gather, j);
        for (int k = 0; k < ES_N_TERMS; k++) report->mean[k] += record[k] / n_active;
        if (report->bad_leaf < 0 && es_trainer_bad_loss(tp, record[ES_TERM_TOTAL])) report->bad_leaf = j;
    }
    report->bad = report->bad_leaf >= 0 || !isfinite(report->gradient_norm);
    if (report->bad) return 0; /* before anything changes */
    for (int j = 0; j < n_active; j++) {
        const double *record = es_leafgather_leaf(t->gather, j);
        const double *at = record + ES_N_TERMS;
        if (t->teacher) at = replay_stats(t->student, at, tp->bn_momentum);
        if (t->teacher) replay_stats(t->teacher, at, tp->bn_momentum);
    }
    double scale = 1.0;
    if (tp->clip_norm > 0.0 && report->gradient_norm > tp->clip_norm)
        scale = tp->clip_norm / (report->gradient_norm + 1e-6);
    report->lr_factor = es_schedule_factor(tp->schedule, step, tp->warmup_steps, tp->total_steps);
    if (t->teacher) es_ema_update(t->teacher, t->student, es_ema_alpha(step, tp->ema_decay));
    es_optim_step(t->optim, t->student, t->reducer, step, report->lr_factor, scale);
    es_reducer_gather_begin(t->reducer, es_params_values(t->student));
    t->settled = false;
    if (t->frozen)
        es_trainer_settle_all(t); /* its exchanges would hold up other ranks' waits; the CRNN is small */
    trainer_lap(t, ES_TIME_OPTIMIZER);
    t->optimizer_s = t->time[ES_TIME_OPTIMIZER];
    return 0;
}
