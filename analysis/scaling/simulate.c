/* One training step of P ranks in SimGrid: the program's own reducer.c, leafgather.c and comm.c, compiled by smpicc and run by
 * smpirun, with computation replaced by its measured time. scale.py compiles and starts it, once for every number of ranks.
 *
 * Why this and not a trace: the schedule (which bucket starts when, with whom, behind which message) depends on timing: a bucket
 * leaves when backward has filled it and somebody polls. A trace would fix what is to be found out.
 *
 * The step is es_trainer_step_all's (src/train/step.c), in its order: leaves (the last one hands gradients to the reducer
 * between operations), finish, the exchange of records, norm, AdamW on the shard; then the gather, which the next step's first
 * forward pass waits for, parameter by parameter.
 *
 * usage: simulate KEY=VALUE...   (keys: struct settings; rank 0 prints one JSON line)
 */
#include "smpi.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "earshot/leafgather.h"
#include "earshot/mem.h"
#include "earshot/reducer.h"
#include "earshot/rng.h"
#include "earshot/timer.h"

#define BUCKET                                                                                               \
    ((int64_t)1                                                                                              \
     << 22) /* reducer.c chooses a little less, for little padding; here 1/1,024 must be a multiple of 1,024 */

struct settings {
    double elements;     /* of the gradient vector */
    double leaves;       /* a step */
    double record;       /* doubles of a leaf's record */
    double header;       /* bytes of a rank's header */
    double steps;        /* simulated; means over them */
    double leaf_s;       /* a leaf without backward */
    double backward_s;   /* of a leaf */
    double polls;        /* operations of a backward pass */
    double merge_s;      /* adding one gradient vector to another on a rank */
    double sharded_s;    /* optimiser work that ranks share */
    double replicated_s; /* optimiser work that every rank does */
    double jitter;       /* standard deviation of the time of a leaf on a rank, share of it */
};

/* All ranks are threads of one process with the same settings. */
static struct settings settings = {.steps = 3, .polls = 150, .header = 64, .record = 8};
static const struct {
    const char *name;
    double *value;
} keys[] = {{"elements", &settings.elements},
            {"leaves", &settings.leaves},
            {"record", &settings.record},
            {"header", &settings.header},
            {"steps", &settings.steps},
            {"leaf_s", &settings.leaf_s},
            {"backward_s", &settings.backward_s},
            {"polls", &settings.polls},
            {"merge_s", &settings.merge_s},
            {"sharded_s", &settings.sharded_s},
            {"replicated_s", &settings.replicated_s},
            {"jitter", &settings.jitter}};

/* ---- what takes the place of src/base/mem.c: nothing is given back, the process ends after a few steps */
void *es_alloc(size_t n, size_t size, struct es_err *err) {
    void *p = calloc(1, n * size + 64);
    if (!p) es_err_set(err, ES_EIO, "out of memory");
    return p;
}
void es_free(void *p) {
    void *none = NULL;
    memcpy(p, &none, sizeof none);
}

/* ---- computation: sleep, for a host has one rank. (SimGrid 3.32 keeps every execution in a list of the rank for ever and searches it
 * for every message: three times the time on 64 ranks, for the same digits.) */
static void compute(double seconds) {
    double whole = floor(seconds);
    struct timespec t = {(time_t)whole, (long)((seconds - whole) * 1e9)};
    if (seconds > 0) smpi_nanosleep(&t, NULL);
}

int sim_init_thread(int *argc, char ***argv, int required, int *provided) {
    *provided = required;
    return MPI_Init(argc, argv);
}

/* Memory that all messages come from and go to: SimGrid does not copy between such blocks. */
static void *payload(void) {
    static void *block;
    if (!block) block = SMPI_SHARED_MALLOC((size_t)BUCKET * sizeof(float));
    return block;
}

int sim_isend(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request) {
    (void)data;
    return PMPI_Isend(payload(), n * SIM_SCALE, type, to, tag, comm, request);
}
int sim_irecv(void *data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request) {
    (void)data;
    return PMPI_Irecv(payload(), n * SIM_SCALE, type, from, tag, comm, request);
}

/* Of the reducer's requests the first half are of sums, the odd ones receives: what came in is added. */
static void charge_adding(const MPI_Status *status, const int *index, int n_done, int n_requests) {
    double n = 0;
    for (int i = 0; i < n_done; i++) {
        int count = 0;
        if (index[i] % 2 == 1 && index[i] < n_requests / 2) MPI_Get_count(&status[i], MPI_FLOAT, &count);
        n += count;
    }
    compute(n / settings.elements * settings.merge_s);
}

static int some(bool wait, int n, MPI_Request *request, int *n_done, int *index) {
    MPI_Status *status = calloc((size_t)n, sizeof *status);
    if (!status) return MPI_ERR_OTHER;
    int rc = wait ? PMPI_Waitsome(n, request, n_done, index, status)
                  : PMPI_Testsome(n, request, n_done, index, status);
    if (rc == MPI_SUCCESS && *n_done != MPI_UNDEFINED) charge_adding(status, index, *n_done, n);
    free(status);
    return rc;
}
int sim_testsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status) {
    (void)status;
    return some(false, n, request, n_done, index);
}
int sim_waitsome(int n, MPI_Request *request, int *n_done, int *index, MPI_Status *status) {
    (void)status;
    return some(true, n, request, n_done, index);
}

/* ---- the step */
struct rank {
    struct es_comm *c;
    struct es_reducer *r;
    struct es_leafgather *g;
    float *values;
    int64_t n_elements; /* settings.elements / SIM_SCALE */
};

struct times {
    double step_s, finish_s, exchange_s, gather_s;
};

static void leaf(struct rank *k, int step, int i) {
    int64_t n = k->n_elements, sent = 0;
    int n_mine = es_reducer_n_mine(k->r), polls = (int)settings.polls;
    struct es_rng rng =
        es_rng_make(1, ES_RNG_BENCH, (uint32_t)step, (uint32_t)es_comm_rank(k->c), (uint32_t)i);
    double slow = exp(settings.jitter * es_rng_normal(&rng));
    es_reducer_leaf_begin(k->r, i);
    for (int p = polls - 1; p >= 0; p--) { /* and parameters are read in the opposite order */
        int64_t begin = n / polls * p;
        es_reducer_gather_wait(k->r, begin, (p + 1 == polls ? n : n / polls * (p + 1)) - begin);
        compute(settings.leaf_s * slow / polls);
    }
    if (i > 0) compute(settings.merge_s); /* the binary counter: one addition of vectors less than leaves */
    if (i + 1 < n_mine) {
        compute(settings.backward_s * slow);
    } else {
        for (int p = 1; p <= polls; p++) { /* gradients become final in the order of the vector */
            compute(settings.backward_s * slow / polls);
            int64_t end = p == polls ? n : n / polls * p;
            es_reducer_ready(k->r, sent, end - sent);
            sent = end;
            es_reducer_poll(k->r);
        }
    }
    es_reducer_leaf_end(k->r, i);
}

static struct times step(struct rank *k, int number) {
    struct es_err err = {0};
    struct times t;
    double begin_s = es_now_s(), mark_s;
    es_reducer_begin(k->r, (int)settings.leaves);
    es_leafgather_begin(k->g, (int)settings.leaves);
    for (int i = 0; i < es_reducer_n_mine(k->r); i++) leaf(k, number, i);
    mark_s = es_now_s();
    es_reducer_finish_all(k->r, NULL);
    t.finish_s = es_now_s() - mark_s;
    t.gather_s =
        es_reducer_exposed_s(k->r) - t.finish_s; /* forward's waits for the parameters of the step before */
    mark_s = es_now_s();
    if (es_leafgather_all(k->g, 0, false, &err) < 0) MPI_Abort(MPI_COMM_WORLD, 1);
    (void)es_reducer_norm2_all(k->r);
    t.exchange_s = es_now_s() - mark_s;
    compute(settings.replicated_s + settings.sharded_s / es_comm_size(k->c));
    es_reducer_gather_begin(k->r, k->values);
    t.step_s = es_now_s() - begin_s;
    return t;
}

static int fail(const char *what, const struct es_err *err) {
    fprintf(stderr, "simulate: %s: %s\n", what, err->msg);
    return 1;
}

int main(int argc, char **argv) {
    struct rank k = {0};
    struct es_err err = {0};
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        size_t at = 0;
        for (; equals && at < sizeof keys / sizeof *keys; at++)
            if (strncmp(argv[i], keys[at].name, (size_t)(equals - argv[i])) == 0 &&
                keys[at].name[equals - argv[i]] == 0)
                break;
        if (!equals || at == sizeof keys / sizeof *keys) {
            snprintf(err.msg, sizeof err.msg, "unknown setting");
            return fail(argv[i], &err);
        }
        *keys[at].value = strtod(equals + 1, NULL);
    }
    int leaves = (int)settings.leaves;
    if (es_comm_init_all(&k.c, &argc, &argv, &err) < 0) return fail("ranks", &err);
    k.n_elements = ((int64_t)settings.elements + SIM_SCALE - 1) / SIM_SCALE;
    if (settings.elements < 8.0 * (double)BUCKET) {
        snprintf(err.msg, sizeof err.msg, "got %.0f, want %lld or more", settings.elements,
                 8 * (long long)BUCKET);
        return fail("elements", &err);
    }
    if (es_reducer_new_all(&k.r, k.c, k.n_elements, leaves, BUCKET / SIM_SCALE, &err) < 0 ||
        es_leafgather_new_all(&k.g, k.c, leaves, (int)settings.record, (size_t)settings.header, &err) < 0)
        return fail("set-up", &err);
    k.values = es_alloc((size_t)k.n_elements, sizeof(float), &err);
    struct times sum = {0};
    int n = (int)settings.steps;
    es_comm_barrier_all(k.c);
    step(&k, -1); /* so that every step that counts waits for the parameters of one before */
    double begin_s = es_now_s();
    for (int s = 0; s < n; s++) {
        es_comm_barrier_all(k.c);
        struct times t = step(&k, s);
        sum.finish_s += t.finish_s / n;
        sum.exchange_s += t.exchange_s / n;
        sum.gather_s += t.gather_s / n;
    }
    es_comm_barrier_all(k.c);
    double end_s = es_now_s();
    es_reducer_gather_wait(k.r, 0, k.n_elements);
    if (es_comm_rank(k.c) == 0)
        printf("{\"ranks\": %d, \"step_s\": %.9g, \"finish_s\": %.9g, \"exchange_s\": %.9g, \"gather_s\": "
               "%.9g}\n",
               es_comm_size(k.c), (end_s - begin_s) / n, sum.finish_s, sum.exchange_s, sum.gather_s);
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
