/* earshot bench probe: the ridge system of a probe on generated features: time, memory a rank, residual. */
#include "bench_kinds.h"
#include "earshot/gram_bench.h"
#include "gram_keys.h"

int bench_probe(struct es_run *run, struct es_err *err) {
    int64_t features = 4000, rows = 1560, classes = 10;
    struct es_gram_bench b;
    ES_TRY(es_run_option_int(run, "features", 1, 1000000, &features, err));
    ES_TRY(es_run_option_int(run, "frames", 1, 1000000000, &rows, err));
    ES_TRY(es_run_option_int(run, "classes", 1, 10000, &classes, err));
    const int ranks = es_comm_size(es_run_comm(run));
    struct es_gram_params p = gram_keys(es_run_config(run));
    p.d = features;
    p.k = (int)classes;
    p.name = "bench probe";
    ES_TRY(es_gram_bench_all(es_run_comm(run), &p, rows, &b, err));
    const char *solver = b.on_grid ? "scalapack" : "lapack";
    const double whole = 8 * (double)features * (double)features;
    es_run_print(run, "%s, %d ranks x %d threads: %lld features, %lld frames, %lld classes\n", solver, ranks,
                 es_run_threads(run), (long long)features, (long long)rows, (long long)classes);
    es_run_print(run, "sums %.2f s, solution %.2f s; residual %.1e\n", b.add_s, b.solve_s, b.residual);
    es_run_print(run, "largest rank: %.0f MB, of which the system %.0f MB; G / ranks is %.0f MB\n",
                 (double)b.peak_rss_bytes * 1e-6, (double)b.gram_bytes * 1e-6, whole / ranks * 1e-6);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "solver", solver);
    es_json_put_int(j, "ranks", ranks);
    es_json_put_int(j, "threads", es_run_threads(run));
    es_json_put_int(j, "features", features);
    es_json_put_int(j, "frames", rows);
    es_json_put_int(j, "classes", classes);
    es_json_put_number(j, "sums_seconds", b.add_s);
    es_json_put_number(j, "solve_seconds", b.solve_s);
    es_json_put_number(j, "residual", b.residual);
    es_json_put_int(j, "gram_bytes", b.gram_bytes);
    es_json_put_int(j, "peak_rss_bytes", b.peak_rss_bytes);
    es_json_put_number(j, "gram_share_bytes", whole / ranks);
    es_json_end_object(j);
    return 0;
}
