/* The metrics log of a run: named columns of numbers over steps, one HDF5 file.
 *
 * A table is a list of columns that get their rows together; the step of each row stands in the table's index data set. A column
 * is one data set [rows, dim...] under the path its declaration gives, with the attribute `index` (path of the steps) and, where
 * given, names along a dimension (for example attribute `terms`).
 *
 *     struct es_metrics_column columns[] = {
 *         {.path = "/leaf", .type = ES_H5_F64, .ndim = 2, .dim = {L, 7}, .label = {{"terms", 7, terms}}},
 *         {.path = "/step/lr", .type = ES_H5_F64}, {.path = "/step/parameters_digest", .type = ES_H5_U64}};
 *     ES_GO(es_metrics_open(&m, "run/metrics.h5", rank, 30.0, resume_step, err));
 *     ES_GO(es_metrics_table(m, "/step/step", columns, 3, &table, err));
 *     each step: es_metrics_add(m, table, step, (const void *[]){leaf, &lr, &digest}, err); es_metrics_tick(m, err);
 *     ES_GO(es_metrics_flush(m, err)); es_metrics_free(&m);
 *
 * Rank 0 alone holds and writes the log; on other ranks every call does nothing. Every flush_s seconds the whole log goes to a
 * temporary file that is renamed: readers open it whenever they like, and after a crash too. On resume the rows from
 * resume_step on are dropped, whatever table they are in. Only /time_rank/<segment> may depend on the number of ranks.
 * Collectivity: none. Errors: ES_EIO, ES_EDATA (the file there is no metrics log, or a table has another shape now).
 */
#ifndef EARSHOT_METRICS_H
#define EARSHOT_METRICS_H

#include <stdint.h>

#include "earshot/err.h"
#include "earshot/h5.h"

enum { ES_METRICS_VERSION = 1 };

struct es_metrics_label { /* names along a dimension, as attribute `name` */
    const char *name;
    int64_t n;
    const char *const *text;
};

struct es_metrics_column {
    const char *path;
    enum es_h5_type type; /* I32, I64, U64, F32 or F64 */
    int ndim;             /* of one row: 0 (a number) .. 2 */
    int64_t dim[2];
    struct es_metrics_label label[2];
};

struct es_metrics;

/* resume_step < 0: a new log, an old file is replaced. Otherwise the rows of path before that step are kept (none if there is
 * no file). */
int es_metrics_open(struct es_metrics **m, const char *path, int rank, double flush_s, int64_t resume_step,
                    struct es_err *err);
/* Declares a table; index is the path of its steps. A table that the resumed file holds goes on: shapes must agree; columns it
 * has not yet had are filled with NaN (0 for integers); columns that are no longer declared get the same in new rows. */
int es_metrics_table(struct es_metrics *m, const char *index, const struct es_metrics_column *columns,
                     int n_columns, int *table, struct es_err *err);
/* The steps the run will have when it is complete (attribute `steps`), so that who follows it knows when to end. */
void es_metrics_set_steps(struct es_metrics *m, int64_t steps);
/* One row: values[i] points at the numbers of column i of the declaration. */
int es_metrics_add(struct es_metrics *m, int table, int64_t step, const void *const *values,
                   struct es_err *err);
/* Another value of column i of the declaration in the last row, if that is of this step. */
void es_metrics_amend(struct es_metrics *m, int table, int64_t step, int i, const void *value);
int es_metrics_tick(struct es_metrics *m, struct es_err *err);  /* flush if it is time */
int es_metrics_flush(struct es_metrics *m, struct es_err *err); /* now */
void es_metrics_free(struct es_metrics **m);                    /* writes nothing */

/* Reading a log (es_metrics_load, then es_metrics_free). */
int es_metrics_load(struct es_metrics **m, const char *path, struct es_err *err);
int64_t es_metrics_steps(const struct es_metrics *m); /* -1: the log does not say */
int es_metrics_n_columns(const struct es_metrics *m);
struct es_metrics_view {
    struct es_metrics_column column; /* borrowed */
    const char *index;
    int64_t n_rows;
    const int64_t *step; /* [n_rows] */
    const void *values;  /* [n_rows, dim...] of column.type */
};
void es_metrics_view(const struct es_metrics *m, int column, struct es_metrics_view *view);

#endif
