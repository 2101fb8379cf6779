/* earshot bench io: stores, checkpoints and predictions beside a plain file of the same bytes. */
#include "bench_kinds.h"
#include "earshot/io_bench.h"

int bench_io(struct es_run *run, struct es_err *err) {
    const char *dir = es_run_option(run, "dir") ? es_run_option(run, "dir") : ".";
    struct es_io_bench_row rows[ES_IO_BENCH_ROWS];
    int64_t bytes = (int64_t)256 << 20, repeats = 3;
    ES_TRY(es_run_option_int(run, "bytes", 1, (int64_t)1 << 40, &bytes, err));
    ES_TRY(es_run_option_int(run, "repeats", 1, 1000, &repeats, err));
    ES_TRY(
        es_io_bench_all(es_run_comm(run), dir, bytes, (int)repeats, es_run_option(run, "only"), rows, err));
    es_run_print(run, "%-18s %14s %9s %10s %9s\n", "operation", "bytes", "seconds", "MB/s", "of plain");
    for (int i = 0; i < ES_IO_BENCH_ROWS; i++) {
        const struct es_io_bench_row *r = &rows[i];
        if (r->bytes == 0) continue;
        double rate = (double)r->bytes / r->seconds;
        es_run_print(run, "%-18s %14lld %9.4f %10.1f %9.3f\n", r->op, (long long)r->bytes, r->seconds,
                     rate * 1e-6, r->of_plain);
        struct es_json *j = es_run_json(run);
        es_json_begin_object(j);
        es_json_put_string(j, "op", r->op);
        es_json_put_int(j, "ranks", es_comm_size(es_run_comm(run)));
        es_json_put_int(j, "bytes", r->bytes);
        es_json_put_number(j, "seconds", r->seconds);
        es_json_put_number(j, "bytes_per_s", rate);
        es_json_put_number(j, "of_plain", r->of_plain);
        es_json_end_object(j);
    }
    return 0;
}
