/* earshot metrics: the logs of runs as a table, followed while they grow, merged into one CSV. */
#include "earshot/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "jobs.h"

/* Number at row `row` of a scalar column; NAN for other shapes. */
static double number(const struct es_metrics_view *v, int64_t row) {
    if (v->column.ndim != 0) return (double)NAN;
    switch (v->column.type) {
    case ES_H5_F64:
        return ((const double *)v->values)[row];
    case ES_H5_F32:
        return (double)((const float *)v->values)[row];
    case ES_H5_I64:
        return (double)((const int64_t *)v->values)[row];
    case ES_H5_I32:
        return (double)((const int32_t *)v->values)[row];
    default:
        return (double)NAN;
    }
}

static bool shown(const struct es_metrics_view *v) {
    return v->column.ndim == 0 && v->column.type != ES_H5_U64;
}

/* Long form: run, column, step, value: any number of runs and tables in one file. */
static int write_csv(const struct es_metrics *m, const char *run_name, FILE *out) {
    for (int i = 0; i < es_metrics_n_columns(m); i++) {
        struct es_metrics_view v;
        es_metrics_view(m, i, &v);
        for (int64_t r = 0; shown(&v) && r < v.n_rows; r++)
            fprintf(out, "%s,%s,%lld,%.17g\n", run_name, v.column.path + 1, (long long)v.step[r],
                    number(&v, r));
    }
    return ferror(out);
}

/* ---- a table of rows: all numbers of a step in one line */

static void print_head(struct es_run *run, const struct es_metrics *m, const char *index) {
    es_run_print(run, "%8s", "step");
    for (int k = 0; k < es_metrics_n_columns(m); k++) {
        struct es_metrics_view v;
        es_metrics_view(m, k, &v);
        if (shown(&v) && strcmp(v.index, index) == 0)
            es_run_print(run, " %14s", strrchr(v.column.path, '/') + 1);
    }
    es_run_print(run, "\n");
}

static void print_row(struct es_run *run, const struct es_metrics *m, const char *index, int64_t row,
                      int64_t step) {
    es_run_print(run, "%8lld", (long long)step);
    for (int k = 0; k < es_metrics_n_columns(m); k++) {
        struct es_metrics_view v;
        es_metrics_view(m, k, &v);
        if (shown(&v) && strcmp(v.index, index) == 0) es_run_print(run, " %14.6g", number(&v, row));
    }
    es_run_print(run, "\n");
}

/* What was shown of a log: the last step of each of its tables. */
#define MAX_TABLES 64
struct shown_rows {
    struct {
        char index[128];
        int64_t step;
    } table[MAX_TABLES];
    int n_tables;
    char head[128]; /* table whose head stands above the last line */
    char path[1024];
};

static int64_t *last_step(struct shown_rows *s, const char *index) {
    for (int i = 0; i < s->n_tables; i++)
        if (strcmp(s->table[i].index, index) == 0) return &s->table[i].step;
    ES_ASSERT(s->n_tables < MAX_TABLES);
    snprintf(s->table[s->n_tables].index, sizeof s->table[0].index, "%s", index);
    s->table[s->n_tables].step = -1;
    return &s->table[s->n_tables++].step;
}

/* The rows behind those already shown, at most n_last a table. A run that was resumed repeats steps: they are not shown again. */
static void print_rows(struct es_run *run, const struct es_metrics *m, const char *path, int64_t n_last,
                       struct shown_rows *s) {
    char index[128] = "";
    for (int i = 0; i < es_metrics_n_columns(m); i++) {
        struct es_metrics_view first;
        es_metrics_view(m, i, &first);
        if (strcmp(index, first.index) == 0) continue; /* this table is printed */
        snprintf(index, sizeof index, "%s", first.index);
        int64_t *last = last_step(s, index);
        for (int64_t r = first.n_rows > n_last ? first.n_rows - n_last : 0; r < first.n_rows; r++) {
            if (first.step[r] <= *last) continue;
            if (strcmp(s->path, path) != 0) es_run_print(run, "%s\n", path);
            if (strcmp(s->path, path) != 0 || strcmp(s->head, index) != 0) print_head(run, m, index);
            snprintf(s->path, sizeof s->path, "%s", path);
            snprintf(s->head, sizeof s->head, "%s", index);
            print_row(run, m, index, r, first.step[r]);
            *last = first.step[r];
        }
    }
}

/* Does the log hold the last step its run will have? */
static bool complete(const struct es_metrics *m) {
    for (int i = 0; i < es_metrics_n_columns(m); i++) {
        struct es_metrics_view v;
        es_metrics_view(m, i, &v);
        if (strcmp(v.index, "/step/step") == 0)
            return v.n_rows > 0 && es_metrics_steps(m) >= 0 &&
                   v.step[v.n_rows - 1] + 1 >= es_metrics_steps(m);
    }
    return false;
}

static int show(struct es_run *run, FILE *csv, int64_t n_last, struct es_err *err) {
    for (int i = 0; i < es_run_operands(run); i++) {
        struct es_metrics *m = NULL;
        struct shown_rows rows = {.n_tables = 0};
        ES_TRY(es_metrics_load(&m, es_run_operand(run, i), err));
        if (csv && write_csv(m, es_run_operand(run, i), csv)) {
            es_metrics_free(&m);
            return es_err_set(err, ES_EIO, "%s: cannot write: %s", es_run_option(run, "csv"),
                              strerror(errno));
        }
        if (!csv) print_rows(run, m, es_run_operand(run, i), n_last, &rows);
        es_metrics_free(&m);
    }
    return 0;
}

/* A run writes its first rows some time after it made its folder. */
static bool begins_later(const char *path) {
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash) return access(path, F_OK) != 0;
    *slash = 0;
    return access(path, F_OK) != 0 && access(dir, F_OK) == 0;
}

/* Appends new rows until the run is complete. */
static int follow(struct es_run *run, const char *path, int64_t n_last, struct es_err *err) {
    struct shown_rows rows = {.n_tables = 0};
    for (bool ended = false; !ended; n_last = INT64_MAX) {
        if (!begins_later(path)) {
            struct es_metrics *m = NULL;
            ES_TRY(es_metrics_load(&m, path, err));
            print_rows(run, m, path, n_last, &rows);
            ended = complete(m);
            es_metrics_free(&m);
            fflush(stdout);
        }
        struct timespec one = {1, 0};
        if (!ended) nanosleep(&one, NULL);
    }
    return 0;
}

int es_job_metrics(struct es_run *run, struct es_err *err) {
    const char *csv_path = es_run_option(run, "csv");
    int64_t last = 20;
    FILE *csv = NULL;
    ES_TRY(es_run_option_int(run, "last", 1, 1000000000, &last, err));
    if (es_run_flag(run, "follow") && (csv_path || es_run_operands(run) != 1))
        return es_err_set(err, ES_EUSAGE, "--follow: takes one metrics.h5 and no --csv");
    if (es_comm_rank(es_run_comm(run)) != 0) return 0;
    if (csv_path && !es_run_check(run)) {
        csv = fopen(csv_path, "w");
        if (!csv) return es_err_set(err, ES_EIO, "%s: cannot write: %s", csv_path, strerror(errno));
        fprintf(csv, "run,column,step,value\n");
    }
    bool following = es_run_flag(run, "follow") && !es_run_check(run);
    int rc = following ? follow(run, es_run_operand(run, 0), last, err) : show(run, csv, last, err);
    if (csv && fclose(csv) != 0 && rc == 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot write: %s", csv_path, strerror(errno));
    return rc;
}

static const struct es_job_option options[] = {
    {"csv", "FILE", "write all runs into one CSV: run, column, step, value", NULL, false},
    {"follow", NULL, "go on with new rows as the run writes them, until it is complete", NULL, false},
    {"last", "N", "rows to show; default 20", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_metrics_spec = {
    .name = "metrics",
    .purpose = "show the metrics log of runs, follow a live one, merge into CSV",
    .synopsis = "RUN/metrics.h5... [--follow] [--csv FILE] [--last N]",
    .options = options,
    .operands_min = 1,
    .operands_max = -1,
    .operands = "metrics.h5...",
    .example = "earshot metrics build/quickstart/runs/it1-stage1-atst/metrics.h5",
    .run = es_job_metrics};
