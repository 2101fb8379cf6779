#include "earshot/reduce_bench.h"

#include <string.h>

#include "comm_impl.h"
#include "earshot/mem.h"
#include "earshot/reducer.h"
#include "earshot/timer.h"

#define MAX_REPEATS 1000

struct bench {
    const struct es_comm *c;
    int64_t n;                  /* floats, a multiple of size */
    struct es_reducer *reducer; /* earshot only */
    float *values, *part;       /* [n] in and out; [n / size] */
};

/* Small whole numbers: sums are exact in any order, so that every algorithm can be checked. */
static float element(int64_t i, int rank) {
    return (float)(((uint64_t)i * 2654435761u >> 7) % 31 + (unsigned)rank);
}

static void fill(const struct bench *b, float *x) {
    for (int64_t i = 0; i < b->n; i++) x[i] = element(i, b->c->rank);
}

static void verify(const struct bench *b) {
    const float size = (float)b->c->size, ranks = size * (size - 1) / 2;
    bool sums_are_right = true;
    for (int64_t i = 0; i < b->n; i++)
        if (b->values[i] != size * element(i, 0) + ranks) sums_are_right = false;
    ES_ASSERT(sums_are_right);
}

/* One leaf a rank, whose backward ends just now; AdamW would come between finish and gather. */
static double run_earshot(struct bench *b) {
    es_reducer_begin(b->reducer, b->c->size);
    fill(b, es_reducer_leaf_begin(b->reducer, 0));
    es_comm_barrier_all(b->c);
    double begin_s = es_now_s();
    es_reducer_leaf_end(b->reducer, 0);
    es_reducer_finish_all(b->reducer, NULL);
    for (int i = 0; i < es_reducer_n_segments(b->reducer); i++) {
        struct es_segment s = es_reducer_segment(b->reducer, i);
        memcpy(b->values + s.offset, s.sum, (size_t)s.n * sizeof(float));
    }
    es_reducer_gather_begin(b->reducer, b->values);
    es_reducer_gather_wait(b->reducer, 0, b->n);
    return es_now_s() - begin_s;
}

static double run_allreduce(struct bench *b) {
    fill(b, b->values);
    es_comm_barrier_all(b->c);
    double begin_s = es_now_s();
    ES_MPI(b->c, MPI_Allreduce, MPI_IN_PLACE, b->values, (int)b->n, MPI_FLOAT, MPI_SUM, b->c->mpi);
    return es_now_s() - begin_s;
}

static double run_reduce_scatter(struct bench *b) {
    int part = (int)(b->n / b->c->size);
    fill(b, b->values);
    es_comm_barrier_all(b->c);
    double begin_s = es_now_s();
    ES_MPI(b->c, MPI_Reduce_scatter_block, b->values, b->part, part, MPI_FLOAT, MPI_SUM, b->c->mpi);
    ES_MPI(b->c, MPI_Allgather, b->part, part, MPI_FLOAT, b->values, part, MPI_FLOAT, b->c->mpi);
    return es_now_s() - begin_s;
}

static const struct algorithm {
    const char *name;
    double (*run)(struct bench *b);
} algorithms[] = {
    {"earshot", run_earshot},
    {"mpi_allreduce", run_allreduce},
    {"mpi_reduce_scatter_allgather", run_reduce_scatter},
};
#define N_ALGORITHMS ((int)(sizeof algorithms / sizeof *algorithms))

const char *es_reducer_bench_algorithm(int i) {
    return i >= 0 && i < N_ALGORITHMS ? algorithms[i].name : NULL;
}

static int bench_alloc(struct bench *b, struct es_err *err) {
    if (!(b->values = es_alloc((size_t)b->n, sizeof(float), err))) return -ES_EIO;
    return (b->part = es_alloc((size_t)(b->n / b->c->size), sizeof(float), err)) ? 0 : -ES_EIO;
}

int es_reducer_bench_all(const struct es_comm *c, int64_t bytes, const char *algorithm, int n_repeats,
                         double *seconds, struct es_err *err) {
    const struct algorithm *a = NULL;
    for (int i = 0; i < N_ALGORITHMS; i++)
        if (strcmp(algorithm, algorithms[i].name) == 0) a = &algorithms[i];
    if (!a) return es_err_set(err, ES_EUSAGE, "bench reduce: unknown algorithm \"%s\"", algorithm);
    const int64_t limit = (int64_t)1 << 32; /* the int counts of MPI's own */
    if (bytes < 1 || bytes > limit || n_repeats < 1 || n_repeats > MAX_REPEATS)
        return es_err_set(err, ES_EUSAGE,
                          "bench reduce: got %lld bytes, %d repeats, want 1..%lld bytes, 1..%d repeats",
                          (long long)bytes, n_repeats, (long long)limit, MAX_REPEATS);
    struct es_err local = {0};
    double time_s[MAX_REPEATS];
    int64_t unit = (int64_t)sizeof(float) * c->size;
    struct bench b = {.c = c, .n = (bytes + unit - 1) / unit * c->size};
    int rc = es_err_agree_all(c, bench_alloc(&b, &local), &local);
    if (rc == 0 && a->run == run_earshot) rc = es_reducer_new_all(&b.reducer, c, b.n, c->size, 0, &local);
    if (rc < 0) goto done;
    for (int i = -1; i < n_repeats; i++) {
        double mine_s = a->run(&b);
        verify(&b);
        double slowest_s = es_comm_slowest_s_all(c, mine_s);
        if (i >= 0) time_s[i] = slowest_s;
    }
    *seconds = es_median(time_s, n_repeats);
done:
    es_reducer_free_all(&b.reducer);
    es_free(&b.part);
    es_free(&b.values);
    if (rc < 0 && err) *err = local;
    return rc;
}
