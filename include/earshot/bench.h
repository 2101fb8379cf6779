/* Measurements behind `earshot bench step`: whole training steps on random data at full size. Collective. */
#ifndef EARSHOT_BENCH_H
#define EARSHOT_BENCH_H

#include "earshot/comm.h"
#include "earshot/trainer.h"

struct es_bench_step_params {
    enum es_arch arch;
    enum es_phase phase;
    int depth;   /* 0: full */
    int batch;   /* clips a leaf; 0: published composition (pretrain: 8) */
    int steps;   /* measured, after one warm-up */
    bool verify; /* compare the gradients of a short clip with the reference kernels */
};
struct es_bench_step { /* medians over steps; the same on all ranks */
    int ranks, threads, batch;
    double clips_per_s, gemm_gflops_per_s, peak_gflops_per_s, mfu;
    int64_t peak_rss_bytes;  /* of the largest rank */
    double time[ES_N_TIMES]; /* mean over ranks, seconds a step */
    double frontend_s;
    double
        verified; /* largest error of a gradient over the largest gradient of its tensor; NAN: not asked for */
};
int es_bench_step_all(const struct es_comm *c, const struct es_bench_step_params *p,
                      struct es_bench_step *out, struct es_err *err);

#endif
