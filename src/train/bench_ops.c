#include "bench_ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/kernels.h"
#include "earshot/mem.h"
#include "earshot/opcost.h"
#include "earshot/timer.h"

#define N_PHASES 5 /* rows that are no operations */

struct watched { /* one tape */
    struct bench_ops *ops;
    enum es_tape_role role;
};

struct bench_ops {
    struct es_trainer *trainer;
    struct watched watched[3];
    int steps, step, n;
    struct es_bench_op row[ES_BENCH_OPS];
    double *seconds; /* [ES_BENCH_OPS, steps] */
};

static void put_shape(char *text, size_t size, const struct es_tape_event *e) {
    const struct es_tensor *side[2] = {e->in[0], e->out};
    size_t at = 0;
    text[0] = 0;
    for (int k = 0; k < 2; k++)
        for (int d = 0; d < side[k]->ndim && at < size; d++)
            at += (size_t)snprintf(text + at, size - at, "%s%lld",
                                   d > 0   ? "x"
                                   : k > 0 ? " > "
                                           : "",
                                   (long long)side[k]->shape[d]);
}

static void take(void *ctx, const struct es_tape_event *e) {
    const struct watched *w = ctx;
    struct bench_ops *o = w->ops;
    if (o->step < 0) return;
    struct es_bench_op key = {.pass = w->role == ES_TAPE_TEACHER  ? "teacher"
                                      : w->role == ES_TAPE_FROZEN ? "frozen"
                                      : e->backward               ? "backward"
                                                                  : "forward"};
    snprintf(key.name, sizeof key.name, "%s", e->out->name);
    put_shape(key.shape, sizeof key.shape, e);
    int i = 0;
    for (; i < o->n; i++)
        if (o->row[i].pass == key.pass && strcmp(o->row[i].name, key.name) == 0 &&
            strcmp(o->row[i].shape, key.shape) == 0)
            break;
    if (i == o->n) {
        ES_ASSERT(o->n < ES_BENCH_OPS - N_PHASES);
        o->row[o->n++] = key;
    }
    o->seconds[i * o->steps + o->step] += e->seconds;
    if (o->step > 0) return;
    struct es_op_cost c = es_op_cost(e);
    o->row[i].calls++;
    o->row[i].flops += c.flops;
    o->row[i].bytes += c.bytes;
}

int bench_ops_new(struct bench_ops **out, struct es_trainer *t, int steps, struct es_err *err) {
    struct bench_ops *o = *out = es_alloc(1, sizeof *o, err);
    if (!o) return -ES_EIO;
    o->steps = steps;
    o->step = -1;
    o->seconds = es_alloc((size_t)(ES_BENCH_OPS * steps), sizeof *o->seconds, err);
    if (!o->seconds) return -ES_EIO;
    o->trainer = t;
    for (int role = 0; role < 3; role++) {
        struct es_tape *tape = es_trainer_tape(t, (enum es_tape_role)role);
        o->watched[role] = (struct watched){o, (enum es_tape_role)role};
        if (tape) es_tape_profile(tape, take, &o->watched[role]);
    }
    return 0;
}

void bench_ops_free(struct bench_ops **out) {
    struct bench_ops *o = *out;
    if (!o) return;
    for (int role = 0; o->trainer && role < 3; role++) {
        struct es_tape *tape = es_trainer_tape(o->trainer, (enum es_tape_role)role);
        if (tape) es_tape_profile(tape, NULL, NULL);
    }
    es_free(&o->seconds);
    es_free(out);
}

void bench_ops_step(struct bench_ops *o, int step) {
    o->step = step;
}

static int by_time(const void *a, const void *b) {
    const struct es_bench_op *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void add_phase(struct es_bench_op *rows, int *n, const char *name, double seconds, double bytes) {
    if (seconds <= 0) return;
    struct es_bench_op *r = &rows[(*n)++];
    *r = (struct es_bench_op){.pass = "step", .calls = 1, .seconds = seconds, .bytes = bytes};
    snprintf(r->name, sizeof r->name, "%s", name);
}

int bench_ops_rows(struct bench_ops *o, const struct es_trainer_params *tp, const struct es_bench_step *b,
                   struct es_bench_op *rows) {
    int n = o->n;
    memcpy(rows, o->row, (size_t)n * sizeof *rows);
    for (int i = 0; i < n; i++) rows[i].seconds = es_median(o->seconds + i * o->steps, o->steps);
    qsort(rows, (size_t)n, sizeof *rows, by_time);
    /* Norm: reads gradients. AdamW: reads value, gradient and two moments, writes all but the gradient. Teacher's average: reads
     * both, writes one. */
    struct es_params *p = es_trainer_student(o->trainer);
    double shard = (double)es_params_n_trainable(p) / b->ranks;
    double bytes =
        4 * shard * (1 + 7) + (tp->phase == ES_PHASE_PRETRAIN ? 0.0 : 12.0 * (double)es_params_n_values(p));
    add_phase(rows, &n, "frontend", b->frontend_s, 0);
    add_phase(rows, &n, "augment", b->time[ES_TIME_AUGMENT], 0);
    add_phase(rows, &n, "reduce_exposed", b->time[ES_TIME_REDUCE], 0);
    add_phase(rows, &n, "optimizer", b->time[ES_TIME_OPTIMIZER], bytes);
    double rest = b->time[ES_TIME_STEP];
    for (int i = 0; i < n; i++) rest -= rows[i].seconds;
    add_phase(rows, &n, "rest", rest, 0);
    return n;
}

int bench_bandwidth(double *out, double wall_s, struct es_err *err) {
    const int64_t n = (int64_t)1 << 25;
    float *x[3] = {NULL, NULL, NULL};
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++)
        if (!(x[i] = es_alloc((size_t)n, sizeof(float), err))) rc = -ES_EIO;
    double begin_s = 0;
    int64_t rounds = -1; /* the first touches the pages */
    for (; rc == 0 && (rounds <= 0 || es_now_s() - begin_s < wall_s); rounds++) {
        if (rounds == 0) begin_s = es_now_s();
        es_k_add(n, x[0], x[1], x[2]);
    }
    if (rc == 0) *out = 12.0 * (double)n * (double)rounds / (es_now_s() - begin_s);
    for (int i = 2; i >= 0; i--) es_free(&x[i]);
    return rc;
}
