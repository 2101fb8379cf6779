/* The metrics log: columns, flushes, resume, readers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/mem.h"
#include "earshot/metrics.h"

#include "io_help.h"

enum { L = 3, TERMS = 2 };
static char dir[256], path[512];
static const char *const terms[TERMS] = {"total", "weak"};
static const struct es_metrics_column columns[] = {
    {.path = "/leaf", .type = ES_H5_F64, .ndim = 2, .dim = {L, TERMS}, .label = {{"terms", TERMS, terms}}},
    {.path = "/step/lr", .type = ES_H5_F64},
    {.path = "/step/parameters_digest", .type = ES_H5_U64}};

static void add(struct es_metrics *m, int table, int64_t from, int64_t to) {
    for (int64_t step = from; step < to; step++) {
        double leaf[L * TERMS], lr = 0.5 * (double)step;
        uint64_t digest = UINT64_MAX - (uint64_t)step;
        for (int i = 0; i < L * TERMS; i++) leaf[i] = (double)(step * 100 + i);
        assert_int_equal(es_metrics_add(m, table, step, (const void *const[]){leaf, &lr, &digest}, NULL), 0);
    }
}

static int column_of(const struct es_metrics *m, const char *name, struct es_metrics_view *v) {
    for (int c = 0; c < es_metrics_n_columns(m); c++) {
        es_metrics_view(m, c, v);
        if (strcmp(v->column.path, name) == 0) return c;
    }
    return -1;
}

static int close_log(struct es_metrics **m, struct es_err *err) {
    int rc = es_metrics_flush(*m, err);
    es_metrics_free(m);
    return rc;
}

static void check(const struct es_metrics *m, int64_t n) {
    struct es_metrics_view v;
    assert_true(column_of(m, "/leaf", &v) >= 0);
    assert_int_equal(v.n_rows, n);
    assert_string_equal(v.index, "/step/step");
    assert_string_equal(v.column.label[0].name, "terms");
    assert_string_equal(v.column.label[0].text[1], "weak");
    assert_true(v.column.ndim == 2 && v.column.dim[0] == L && v.column.dim[1] == TERMS);
    for (int64_t r = 0; r < n; r++) {
        assert_int_equal(v.step[r], r);
        for (int i = 0; i < L * TERMS; i++)
            assert_true(((const double *)v.values)[r * L * TERMS + i] == (double)(r * 100 + i));
    }
    assert_true(column_of(m, "/step/parameters_digest", &v) >= 0);
    for (int64_t r = 0; r < n; r++) assert_true(((const uint64_t *)v.values)[r] == UINT64_MAX - (uint64_t)r);
}

static void writes_and_resumes(void **state) {
    (void)state;
    struct es_metrics *m = NULL;
    struct es_err err = {0};
    int table, times;
    help_path(path, dir, "m.h5");
    assert_int_equal(es_metrics_open(&m, path, 0, 1000, -1, &err), 0);
    assert_int_equal(es_metrics_table(m, "/step/step", columns, 3, &table, &err), 0);
    add(m, table, 0, 200);
    static const float time[4] = {1, 2, 3, 4};
    struct es_metrics_column rank_time = {
        .path = "/time_rank/0/seconds", .type = ES_H5_F32, .ndim = 1, .dim = {4}};
    assert_int_equal(es_metrics_table(m, "/time_rank/0/step", &rank_time, 1, &times, &err), 0);
    for (int64_t s = 0; s < 200; s += 50)
        assert_int_equal(es_metrics_add(m, times, s, (const void *const[]){time}, &err), 0);
    assert_int_equal(es_metrics_tick(m, &err), 0);
    assert_int_equal(help_bytes(path), -1); /* it is not time yet */
    assert_int_equal(es_metrics_flush(m, &err), 0);
    struct es_metrics *r = NULL; /* a reader while the run goes on */
    assert_int_equal(es_metrics_load(&r, path, &err), 0);
    check(r, 200);
    add(m, table, 200, 201);
    assert_int_equal(close_log(&m, &err), 0);
    check(r, 200);
    es_metrics_free(&r);
    assert_int_equal(es_metrics_load(&r, path, &err), 0);
    check(r, 201);
    es_metrics_free(&r);
    assert_int_equal(help_count_files(dir), 1);

    /* resume from the checkpoint of step 120: rows 0..119 stay, in every table; a new column; another segment of ranks */
    assert_int_equal(es_metrics_open(&m, path, 0, 0, 120, &err), 0);
    struct es_metrics_column more[4] = {
        columns[0], columns[1], columns[2], {.path = "/step/loss", .type = ES_H5_F64}};
    assert_int_equal(es_metrics_table(m, "/step/step", more, 4, &table, &err), 0);
    rank_time.path = "/time_rank/120/seconds";
    rank_time.dim[0] = 2;
    assert_int_equal(es_metrics_table(m, "/time_rank/120/step", &rank_time, 1, &times, &err), 0);
    check(m, 120);
    double leaf[L * TERMS] = {0}, lr = 1, loss = 7;
    uint64_t digest = 9;
    assert_int_equal(es_metrics_add(m, table, 120, (const void *const[]){leaf, &lr, &digest, &loss}, &err),
                     0);
    assert_int_equal(es_metrics_add(m, times, 120, (const void *const[]){time}, &err), 0);
    assert_int_equal(es_metrics_tick(m, &err), 0); /* flush_s 0: always */
    assert_int_equal(es_metrics_load(&r, path, &err), 0);
    struct es_metrics_view v;
    assert_true(column_of(r, "/step/loss", &v) >= 0);
    assert_int_equal(v.n_rows, 121);
    assert_true(isnan(((const double *)v.values)[119]) && ((const double *)v.values)[120] == 7);
    assert_true(column_of(r, "/time_rank/0/seconds", &v) >= 0);
    assert_int_equal(v.n_rows, 3); /* steps 0, 50, 100 */
    assert_true(((const float *)v.values)[2 * 4 + 3] == 4);
    assert_true(column_of(r, "/time_rank/120/seconds", &v) >= 0);
    assert_true(v.n_rows == 1 && v.column.dim[0] == 2);
    es_metrics_free(&r);
    assert_int_equal(close_log(&m, &err), 0);

    assert_int_equal(es_metrics_open(&m, path, 0, 1000, 121, &err), 0); /* the number of leaves has changed */
    more[0].dim[0] = 4;
    help_failed(es_metrics_table(m, "/step/step", more, 4, &table, &err), &err, ES_EDATA, "/leaf",
                "another type or shape");
    es_metrics_free(&m);
    assert_int_equal(es_metrics_open(&m, path, 0, 1000, -1, &err), 0); /* a new run: nothing is kept */
    assert_int_equal(es_metrics_n_columns(m), 0);
    es_metrics_free(&m);
}

static void other_ranks_and_errors(void **state) {
    (void)state;
    struct es_metrics *m = NULL;
    struct es_err err = {0};
    int table = -1;
    assert_int_equal(es_metrics_open(&m, "no/where.h5", 1, 0, 0, &err), 0); /* rank 1 does nothing */
    assert_null(m);
    assert_int_equal(es_metrics_table(m, "/step/step", columns, 3, &table, &err), 0);
    add(m, table, 0, 3);
    assert_int_equal(es_metrics_tick(m, &err), 0);
    assert_int_equal(close_log(&m, &err), 0);
    assert_int_equal(es_metrics_open(&m, "no/where.h5", 0, 0, 0, &err), 0);
    help_failed(close_log(&m, &err), &err, ES_EIO, "no/where.h5", "No such file");
    help_text(help_path(path, dir, "text.h5"), "no HDF5");
    help_failed(es_metrics_open(&m, path, 0, 0, 5, &err), &err, ES_EDATA, "text.h5",
                "cannot be read as HDF5");

    /* a flush that fails leaves the file of before */
    static const char *const faults[] = {"h5write:2", "h5open:1", "rename:1"};
    help_path(path, dir, "f.h5");
    assert_int_equal(es_metrics_open(&m, path, 0, 1000, -1, &err), 0);
    assert_int_equal(es_metrics_table(m, "/step/step", columns, 3, &table, &err), 0);
    add(m, table, 0, 10);
    assert_int_equal(es_metrics_flush(m, &err), 0);
    add(m, table, 10, 20);
    for (int i = 0; i < 3; i++) {
        es_fault_init(faults[i], 0);
        help_failed(es_metrics_flush(m, &err), &err, ES_EIO, "f.h5", "injected");
        es_fault_init(NULL, 0);
        struct es_metrics *r = NULL;
        assert_int_equal(es_metrics_load(&r, path, &err), 0);
        check(r, 10);
        es_metrics_free(&r);
    }
    assert_int_equal(close_log(&m, &err), 0);
    int64_t before = es_mem_live_blocks();
    int rc = -1;
    for (int k = 1; rc < 0; k++) { /* whichever allocation fails while the log is read */
        char spec[32];
        snprintf(spec, sizeof spec, "malloc:%d", k);
        es_fault_init(spec, 0);
        rc = es_metrics_open(&m, path, 0, 1000, 15, &err);
        es_fault_init(NULL, 0);
        if (rc < 0) {
            assert_int_equal(rc, -ES_EIO);
            assert_int_equal(es_mem_live_blocks(), before);
        }
    }
    check(m, 15);
    es_metrics_free(&m);
}

HELP_SCRATCH("metrics")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_and_resumes),
                                       cmocka_unit_test(other_ranks_and_errors)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
