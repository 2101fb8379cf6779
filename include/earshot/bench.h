/* Measurements behind `earshot bench step`: whole training steps on random data at full size. Collective. */
#ifndef EARSHOT_BENCH_H
#define EARSHOT_BENCH_H

#include "earshot/comm.h"
#include "earshot/config.h"
#include "earshot/trainer.h"

struct es_bench_step_params {
    enum es_arch arch;
    enum es_phase phase;
    int depth;   /* 0: full */
    int batch;   /* clips a leaf; 0: published composition (pretrain: 8) */
    int leaves;  /* a step; 0: one a rank */
    int steps;   /* measured, after one warm-up */
    bool verify; /* gradients of a short clip against the reference kernels (fp32 ones, also of bf16) */
    bool bf16;   /* precision asked for */
    /* With stores (data.stores): leaves are read, mixed and augmented as in training, and everything but arch, phase, depth and batch
     * follows the configuration, in which phase and model.arch are set already. NULL: random features in pre-training, random waves. */
    const struct es_config *config;
    struct es_bench_op *ops; /* [ES_BENCH_OPS] out: what the operations of a step cost; NULL: not asked for */
};

/* Roofline: one row for each operation, shape and pass, the costliest first; then what is no operation on a tape. Of this rank. */
#define ES_BENCH_OPS 256
struct es_bench_op {
    char name[24], shape[64]; /* "linear", "8x250x768 > 8x250x3072" */
    const char *pass;         /* "forward", "backward", "teacher", "frozen", "step" */
    int calls;                /* a step */
    double seconds;           /* a step, median */
    double flops, bytes;      /* a step, as in opcost.h */
};

struct es_bench_step { /* medians over steps; the same on all ranks but for ops */
    int ranks, threads, batch, leaves;
    enum es_bf16_kind bf16; /* what computed in bf16; none: all fp32 */
    double step_s;          /* wall time */
    double clips_per_s, gemm_gflops_per_s;
    double peak_gflops_per_s, mfu;      /* NAN where bf16 has no instructions */
    int64_t peak_rss_bytes;             /* of the largest rank */
    double time[ES_N_TIMES];            /* mean over ranks, seconds a step */
    double frontend_s, input_exposed_s; /* input_exposed: waiting for the loader; NAN without stores */
    int64_t sent_bytes;                 /* a step, gradients and parameters, of the rank that sends most */
    double exposed_s;                   /* waiting for them that nothing hid, of the rank that waits most */
    int64_t trainable, values;          /* parameters that AdamW sees, and all of them */
    int n_ops;
    /* bytes a second of this rank: two vectors added into a third, beyond the caches; 0: not asked for */
    double bandwidth;
    /* largest error of a gradient over the largest gradient of its tensor; NAN: not asked for */
    double verified;
};
/* Clips of each set in a leaf of `batch` clips; 0: as published (spec/training.md 2.1; pre-training: 8). */
void es_bench_sizes(enum es_phase phase, enum es_arch arch, int batch, int size[ES_N_SETS]);
int es_bench_step_all(const struct es_comm *c, const struct es_bench_step_params *p,
                      struct es_bench_step *out, struct es_err *err);

#endif
