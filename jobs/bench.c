/* earshot bench: every number a user may quote. One warm-up, then medians; a table, or JSON Lines with --json -. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/evaluate_bench.h"
#include "earshot/frontend.h"
#include "earshot/kernels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/reduce_bench.h"
#include "earshot/rng.h"
#include "earshot/timer.h"
#include "bench_kinds.h"
#include "jobs.h"

enum { RATE_HZ = 16000 }; /* of every frontend */

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* ---- gemm: the linear layers of an ATST block, 2000 rows, as the networks compute them */
static int bench_gemm(struct es_run *run, struct es_err *err) {
    static const struct {
        const char *layer;
        int64_t out, in;
    } shape[] = {{"qkv", 2304, 768}, {"proj", 768, 768}, {"fc1", 3072, 768}, {"fc2", 768, 3072}};
    static const char *const pass[3] = {"forward", "dx", "dw"};
    int64_t rows = 2000, n = 3072 * rows, repeats = 7;
    ES_TRY(es_run_option_int(run, "repeats", 1, 1000, &repeats, err));
    float *x = es_alloc((size_t)n, 4, err), *w = es_alloc((size_t)n, 4, err),
          *y = es_alloc((size_t)n, 4, err);
    void *ws = es_alloc(1, es_k_linear_workspace(rows, 3072, 3072), err);
    double *s = es_alloc((size_t)repeats, sizeof *s, err), peak = es_k_peak_gflops(es_run_threads(run), 0.3);
    int rc = x && w && y && ws && s ? 0 : -ES_EIO;
    struct es_rng r = es_rng_make(1, ES_RNG_BENCH, 0, 0, 0);
    for (int64_t i = 0; rc == 0 && i < n; i++) x[i] = w[i] = y[i] = (float)es_rng_range(&r, -1, 1);
    es_run_print(run, "%-14s %6s %6s %6s %10s %8s\n", "product", "m", "n", "k", "GFLOP/s", "of peak");
    for (size_t i = 0; rc == 0 && i < 3 * sizeof shape / sizeof *shape; i++) {
        int64_t out = shape[i / 3].out, in = shape[i / 3].in;
        for (int64_t q = -1; q < repeats; q++) {
            double begin_s = es_now_s();
            if (i % 3 == 0) es_k_linear_fwd(rows, in, out, x, w, NULL, y, ws);
            if (i % 3 == 1) es_k_linear_dx(rows, in, out, y, w, 0, x, ws);
            if (i % 3 == 2) es_k_linear_dw(rows, in, out, y, x, 0, w, ws);
            if (q >= 0) s[q] = es_now_s() - begin_s;
        }
        qsort(s, (size_t)repeats, sizeof *s, compare);
        int64_t M = i % 3 == 2 ? out : rows, N = i % 3 == 0 ? out : in,
                K = i % 3 == 0   ? in
                    : i % 3 == 1 ? out
                                 : rows;
        double gflops = 2e-9 * (double)M * (double)N * (double)K / s[repeats / 2];
        char op[32];
        snprintf(op, sizeof op, "%s %s", shape[i / 3].layer, pass[i % 3]);
        es_run_print(run, "%-14s %6lld %6lld %6lld %10.1f %8.3f\n", op, (long long)M, (long long)N,
                     (long long)K, gflops, gflops / peak);
        struct es_json *j = es_run_json(run);
        es_json_begin_object(j);
        es_json_put_string(j, "op", op);
        es_json_put_string(j, "precision", "fp32");
        es_json_put_int(j, "threads", es_run_threads(run));
        es_json_put_int(j, "m", M);
        es_json_put_int(j, "n", N);
        es_json_put_int(j, "k", K);
        es_json_put_number(j, "gflops", gflops);
        es_json_put_number(j, "peak_gflops", peak);
        es_json_end_object(j);
    }
    es_free(&s);
    es_free(&ws);
    es_free(&y);
    es_free(&w);
    es_free(&x);
    return rc;
}

static int bench_frontend(struct es_run *run, struct es_err *err) {
    const char *model = es_run_option(run, "model") ? es_run_option(run, "model") : "atst";
    const char *audio = es_run_option(run, "audio");
    int kind = es_frontend_kind_from_name(model), rc = 0;
    struct es_audio_info info = {0};
    double clips = 0, clip_s = 10;
    int64_t n = 0;
    float *wave = NULL;
    if (kind < 0)
        return es_err_set(err, ES_EUSAGE, "--model: got %s, want crnn, atst, fpasst or beats", model);
    if (audio) {
        ES_GO(es_audio_read(audio, 0, 60 * RATE_HZ, &wave, &n, &info, err));
        if (info.rate_hz != RATE_HZ) {
            rc = es_err_set(err, ES_EDATA, "%s: %d Hz, want %d Hz", audio, info.rate_hz, RATE_HZ);
            goto done;
        }
        clip_s = (double)n / RATE_HZ;
    }
    ES_GO(es_frontend_bench((enum es_frontend_kind)kind, wave, (int)n, 2.0, &clips, err));
    es_run_print(run, "%s: %.1f clips/s, %.0f times real time\n", model, clips, clip_s * clips);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "model", model);
    es_json_put_number(j, "clips_per_s", clips);
    es_json_put_number(j, "realtime_factor", clip_s * clips);
    es_json_end_object(j);
done:
    es_free(&wave);
    return rc;
}

static int bench_reduce(struct es_run *run, struct es_err *err) {
    int64_t bytes = (int64_t)350 << 20, repeats = 5;
    ES_TRY(es_run_option_int(run, "bytes", 4, (int64_t)1 << 36, &bytes, err));
    ES_TRY(es_run_option_int(run, "repeats", 1, 1000, &repeats, err));
    es_run_print(run, "%-30s %10s %12s\n", "algorithm", "seconds", "GiB/s");
    for (int i = 0; es_reducer_bench_algorithm(i); i++) {
        double s = 0;
        ES_TRY(es_reducer_bench_all(es_run_comm(run), bytes, es_reducer_bench_algorithm(i), (int)repeats, &s,
                                    err));
        es_run_print(run, "%-30s %10.4f %12.3f\n", es_reducer_bench_algorithm(i), s,
                     (double)bytes / s / 1073741824.0);
        struct es_json *j = es_run_json(run);
        es_json_begin_object(j);
        es_json_put_int(j, "ranks", es_comm_size(es_run_comm(run)));
        es_json_put_string(j, "algorithm", es_reducer_bench_algorithm(i));
        es_json_put_int(j, "bytes", bytes);
        es_json_put_number(j, "seconds", s);
        es_json_put_number(j, "bytes_per_s", (double)bytes / s);
        es_json_end_object(j);
    }
    return 0;
}

static int bench_evaluate_row(struct es_run *run, int64_t clips, int classes, int repeats,
                              struct es_err *err) {
    struct es_bench_evaluate b;
    ES_TRY(es_bench_evaluate(&b, clips, classes, repeats, err));
    const double seconds = b.psds1_s + b.psds2_s;
    es_run_print(run, "%8lld %7d %9.3f %9.3f %9.3f %9.3f %12.1f %8.2f%s\n", (long long)clips, classes,
                 seconds, b.psds1_s, b.psds2_s, b.match_s, 1e9 * seconds / ((double)clips * classes * 156),
                 (double)b.peak_rss_bytes / 1073741824.0, b.streamed ? "  a class at a time" : "");
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_int(j, "clips", clips);
    es_json_put_int(j, "classes", classes);
    es_json_put_int(j, "threads", es_run_threads(run));
    es_json_put_number(j, "seconds", seconds);
    es_json_put_number(j, "psds1_seconds", b.psds1_s);
    es_json_put_number(j, "psds2_seconds", b.psds2_s);
    es_json_put_number(j, "match_seconds", b.match_s);
    es_json_put_number(j, "psds1", b.psds1);
    es_json_put_number(j, "psds2", b.psds2);
    es_json_put_bool(j, "streamed", b.streamed);
    es_json_put_int(j, "peak_rss_bytes", b.peak_rss_bytes);
    es_json_end_object(j);
    return 0;
}

/* PSDS1 and PSDS2 with per-class values on generated scores; with --clips and --classes of one size. */
static int bench_evaluate(struct es_run *run, struct es_err *err) {
    static const struct {
        int64_t clips;
        int classes;
    } sizes[] = {{1000, 10}, {10000, 10}, {100000, 10}, {1000, 407}};
    int64_t clips = 0, classes = 10, repeats = 3;
    ES_TRY(es_run_option_int(run, "clips", 10, 10000000, &clips, err));
    ES_TRY(es_run_option_int(run, "classes", 3, 10000, &classes, err));
    ES_TRY(es_run_option_int(run, "repeats", 1, 1000, &repeats, err));
    if (es_comm_rank(es_run_comm(run)) != 0) return 0;
    if (es_run_flag(run, "tune")) {
        double seconds = 0;
        if (clips == 0) clips = 1168;
        ES_TRY(es_bench_tune(&seconds, clips, (int)classes, err));
        es_run_print(run, "cSEBB tuning, 128 settings, %lld clips x %lld classes: %.2f s\n", (long long)clips,
                     (long long)classes, seconds);
        struct es_json *j = es_run_json(run);
        es_json_begin_object(j);
        es_json_put_int(j, "clips", clips);
        es_json_put_int(j, "classes", classes);
        es_json_put_int(j, "threads", es_run_threads(run));
        es_json_put_number(j, "tune_seconds", seconds);
        es_json_end_object(j);
        return 0;
    }
    es_run_print(run, "%8s %7s %9s %9s %9s %9s %12s %8s\n", "clips", "classes", "seconds", "psds1", "psds2",
                 "match", "ns a frame", "peak GiB");
    if (clips > 0) return bench_evaluate_row(run, clips, (int)classes, (int)repeats, err);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        ES_TRY(bench_evaluate_row(run, sizes[i].clips, sizes[i].classes, (int)repeats, err));
    return 0;
}

int es_job_bench(struct es_run *run, struct es_err *err) {
    static const struct {
        const char *name;
        int (*run)(struct es_run *, struct es_err *);
    } kinds[] = {
        {"gemm", bench_gemm}, {"frontend", bench_frontend}, {"step", bench_step},  {"reduce", bench_reduce},
        {"io", bench_io},     {"evaluate", bench_evaluate}, {"probe", bench_probe}};
    const char *kind = es_run_operand(run, 0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kind, kinds[i].name) == 0) return es_run_check(run) ? 0 : kinds[i].run(run, err);
    return es_err_set(err, ES_EUSAGE,
                      "bench: got %s, want gemm, frontend, step, reduce, io, evaluate or probe", kind);
}

static const struct es_job_option options[] = {
    {"model", "NAME", "transformer (or crnn, for frontend); default atst", NULL, false},
    {"audio", "FILE", "frontend: a clip at 16 kHz; default: 10 s of noise", NULL, false},
    {"phase", "PHASE", "step: what is trained", "pretrain|stage1|stage2", false},
    {"precision", "P", "step: fp32 (default) or bf16", NULL, false},
    {"batch", "B", "step: clips a leaf; default: the published composition (pretrain: 8)", NULL, false},
    {"leaves", "L", "step: leaves a step; default: one a rank", NULL, false},
    {"steps", "N", "step: measured steps behind one warm-up; default 3", NULL, false},
    {"depth", "D", "step: fewer transformer blocks", NULL, false},
    {"store", "FILE", "step: leaves from this store instead of random ones; adds the phase input_exposed",
     NULL, true},
    {"roofline", NULL, "step: what every operation costs: time, flops, bytes, share of the peak", NULL,
     false},
    {"no-verify", NULL, "step: leave out the comparison with the reference kernels", NULL, false},
    {"bytes", "N", "reduce: length of the vector, default 350 MiB; io: of every file, default 256 MiB", NULL,
     false},
    {"dir", "DIR", "io: where the files are written, and removed; default .", NULL, false},
    {"only", "NAME", "io: operations whose names begin so (checkpoint), beside the plain file", NULL, false},
    {"repeats", "N", "gemm, reduce, io, evaluate: measured repeats", NULL, false},
    {"clips", "N", "evaluate: one size only; default: 1k, 10k, 100k x 10 and 1k x 407", NULL, false},
    {"classes", "K", "evaluate: with --clips; probe; default 10", NULL, false},
    {"features", "N", "probe: default 4000; above linalg.local_max on a grid of ranks", NULL, false},
    {"frames", "M", "probe: rows of the sums; default 1560", NULL, false},
    {"tune", NULL, "evaluate: cSEBB tuning over the published grid instead of PSDS", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_bench_spec = {
    .name = "bench",
    .purpose = "measure matrix products, frontends, training steps, gradient sums, files, evaluation, probes",
    .synopsis = "gemm|frontend|step|reduce|io|evaluate|probe [options]",
    .options = options,
    .sections = "linalg threads_per_rank",
    .operands_min = 1,
    .operands_max = 1,
    .operands = "gemm|frontend|step|reduce|io|evaluate|probe",
    .example = "earshot bench step --model atst --phase pretrain --batch 8 --depth 2 --json -",
    .run = es_job_bench};
