/* earshot metrics: the logs of runs as a table, followed while they grow, merged into one CSV. */
#include "earshot/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

/* The last rows of every table: one line a step. */
static void print_table(struct es_run *run, const struct es_metrics *m, const char *path, int64_t n_last) {
    char index[128] = "";
    es_run_print(run, "%s\n", path);
    for (int i = 0; i < es_metrics_n_columns(m); i++) {
        struct es_metrics_view first;
        es_metrics_view(m, i, &first);
        if (strcmp(index, first.index) == 0) continue; /* this table is printed */
        snprintf(index, sizeof index, "%s", first.index);
        es_run_print(run, "%8s", "step");
        for (int k = 0; k < es_metrics_n_columns(m); k++) {
            struct es_metrics_view v;
            es_metrics_view(m, k, &v);
            if (shown(&v) && strcmp(v.index, index) == 0)
                es_run_print(run, " %14s", strrchr(v.column.path, '/') + 1);
        }
        es_run_print(run, "\n");
        for (int64_t r = first.n_rows > n_last ? first.n_rows - n_last : 0; r < first.n_rows; r++) {
            es_run_print(run, "%8lld", (long long)first.step[r]);
            for (int k = 0; k < es_metrics_n_columns(m); k++) {
                struct es_metrics_view v;
                es_metrics_view(m, k, &v);
                if (shown(&v) && strcmp(v.index, index) == 0) es_run_print(run, " %14.6g", number(&v, r));
            }
            es_run_print(run, "\n");
        }
    }
}

static int show(struct es_run *run, FILE *csv, int64_t n_last, struct es_err *err) {
    for (int i = 0; i < es_run_operands(run); i++) {
        struct es_metrics *m = NULL;
        ES_TRY(es_metrics_load(&m, es_run_operand(run, i), err));
        if (csv && write_csv(m, es_run_operand(run, i), csv)) {
            es_metrics_abandon(&m);
            return es_err_set(err, ES_EIO, "%s: cannot write: %s", es_run_option(run, "csv"),
                              strerror(errno));
        }
        if (!csv) print_table(run, m, es_run_operand(run, i), n_last);
        es_metrics_abandon(&m);
    }
    return 0;
}

int es_job_metrics(struct es_run *run, struct es_err *err) {
    const char *csv_path = es_run_option(run, "csv");
    int64_t last = 20;
    FILE *csv = NULL;
    ES_TRY(es_run_option_int(run, "last", 1, 1000000000, &last, err));
    if (es_comm_rank(es_run_comm(run)) != 0) return 0;
    if (csv_path && !es_run_check(run)) {
        csv = fopen(csv_path, "w");
        if (!csv) return es_err_set(err, ES_EIO, "%s: cannot write: %s", csv_path, strerror(errno));
        fprintf(csv, "run,column,step,value\n");
    }
    int rc = show(run, csv, last, err);
    while (rc == 0 && es_run_flag(run, "follow") && !csv) {
        struct timespec two = {2, 0};
        nanosleep(&two, NULL);
        rc = show(run, NULL, 1, err);
    }
    if (csv && fclose(csv) != 0 && rc == 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot write: %s", csv_path, strerror(errno));
    return rc;
}

static const struct es_job_option options[] = {
    {"csv", "FILE", "write all runs into one CSV: run, column, step, value", NULL, false},
    {"follow", NULL, "print the newest rows every two seconds until interrupted", NULL, false},
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
