/* RANKS 1 2 4
 * TIMEOUT 60
 * Ends of a job. Without argument: a watchdog that is kicked lets the job live. With one (tests/fault/test_watchdog.sh): the
 * last rank gets into trouble of that kind while the others wait for it; the script checks how the job ends. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "earshot/comm.h"
#include "earshot/reducer.h"
#include "earshot/timer.h"

static void sleep_for(double s) {
    struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)(1e9 * (s - (double)(time_t)s))};
    nanosleep(&t, NULL);
}

static void trouble_stall(const struct es_comm *c) {
    (void)c;
    es_watchdog_kick("forward", 3);
    sleep_for(1000);
}

static void trouble_stop(const struct es_comm *c) {
    (void)c;
    raise(SIGSTOP);
}

static void trouble_kill(const struct es_comm *c) {
    (void)c;
    raise(SIGKILL);
}

static void trouble_bug(const struct es_comm *c) {
    ES_ASSERT(es_comm_size(c) < 0);
}

static void *buggy_thread(void *arg) {
    trouble_bug(arg);
    return NULL;
}

static void trouble_thread(const struct es_comm *c) {
    pthread_t t;
    if (pthread_create(&t, NULL, buggy_thread, (void *)(uintptr_t)c) == 0) pthread_join(t, NULL);
}

static void trouble_mpi(const struct es_comm *c) {
    char data[8] = {0};
    es_comm_bcast_all(c, data, sizeof data, es_comm_size(c));
}

static void trouble_overlap(const struct es_comm *c) {
    struct es_comm *alone = NULL;
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    es_comm_split_all(&alone, c, es_comm_rank(c), &err); /* the others are here too */
    es_reducer_new_all(&r, alone, 1000, 1, 0, &err);
    es_reducer_begin(r, 1);
    es_reducer_leaf_begin(r, 0);
    es_reducer_ready(r, 0, 600);
    if (es_comm_rank(c) == es_comm_size(c) - 1)
        es_reducer_ready(r, 500, 400); /* as many as there are, 100 of them twice */
    es_reducer_free_all(&r);
    es_comm_free_all(&alone);
}

static void trouble_differ(const struct es_comm *c) {
    es_comm_assert_same_all(c, es_comm_rank(c) == es_comm_size(c) - 1 ? 5 : 7);
}

static const struct trouble {
    const char *name;
    void (*fn)(const struct es_comm *c);
    bool all;         /* the trouble is collective */
    double timeout_s; /* of the watchdog: out of the way when something else ends the job */
} troubles[] = {
    {"stall", trouble_stall, false, 1},     {"stop", trouble_stop, false, 1},
    {"kill", trouble_kill, false, 40},      {"bug", trouble_bug, false, 40},
    {"thread", trouble_thread, false, 40},  {"mpi", trouble_mpi, false, 40},
    {"overlap", trouble_overlap, true, 40}, {"differ", trouble_differ, true, 40},
};

/* Kicks for longer than the watchdog's patience; returns the number of kicks. */
static int live(double dur_s, double timeout_s, int rank) {
    struct es_err err = {0};
    int n = 0;
    ES_ASSERT(es_watchdog_begin(timeout_s, rank, &err) == 0);
    for (double begin_s = es_now_s(); es_now_s() - begin_s < dur_s; n++) {
        es_watchdog_kick("work", n);
        sleep_for(0.05);
    }
    es_watchdog_end();
    return n;
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return err.code;
    int rank = es_comm_rank(c), last = es_comm_size(c) - 1;
    if (argc > 1 &&
        strcmp(argv[1], "suspend") == 0) { /* the script suspends the process for longer than a second */
        printf("ready\n");
        fflush(stdout);
        live(4, 1, rank);
    } else if (argc > 1) {
        const struct trouble *t = NULL;
        for (size_t i = 0; i < sizeof troubles / sizeof *troubles; i++)
            if (strcmp(argv[1], troubles[i].name) == 0) t = &troubles[i];
        ES_ASSERT(t);
        es_stop_install();
        ES_ASSERT(es_watchdog_begin(t->timeout_s, rank, &err) == 0);
        es_comm_barrier_all(c);
        es_watchdog_kick("exchange", 4);
        if (t->all || rank == last) t->fn(c);
        es_comm_barrier_all(c);
        es_watchdog_end();
    } else {
        ES_ASSERT(live(1.2, 0.4, rank) > 3);
        ES_ASSERT(live(0.1, 0.0, rank) > 0); /* off */
        ES_ASSERT(live(0.1, 100, rank) > 0); /* begins again, ends early */
    }
    es_comm_fini_all(&c);
    return 0;
}
