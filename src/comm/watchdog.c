#include "earshot/comm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "earshot/timer.h"

/* State of the one watchdog of a process. The main thread writes kicks, phase and step; the watchdog thread
 * reads them. */
static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* only to end early */
    bool running, end;   /* end: under lock */
    double timeout_s, tick_s;
    int rank;
    _Atomic(const char *) phase;
    atomic_llong step, kicks;
} dog = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* One line by write(2): the stuck thread may hold the lock of stderr. */
static void report(double idle_s) {
    char line[256];
    const char *phase = atomic_load(&dog.phase);
    int n = snprintf(line, sizeof line, "earshot: rank %d: no progress for %.0f s in phase %s, step %lld\n",
                     dog.rank, idle_s, phase, (long long)atomic_load(&dog.step));
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        return;
}

static struct timespec after(double s) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    long long ns = t.tv_nsec + (long long)(s * 1e9);
    t.tv_sec += (time_t)(ns / 1000000000);
    t.tv_nsec = (long)(ns % 1000000000);
    return t;
}

/* Idle time is counted in ticks of this thread, none of them longer than two: a job that was suspended
 * (SIGSTOP, a paused machine) and goes on has not been idle meanwhile. */
static void *watch(void *arg) {
    (void)arg;
    double idle_s = 0, last_s = es_now_s();
    long long seen = atomic_load(&dog.kicks);
    pthread_mutex_lock(&dog.lock);
    while (!dog.end && idle_s < dog.timeout_s) {
        struct timespec until = after(dog.tick_s);
        pthread_cond_timedwait(&dog.wake, &dog.lock, &until);
        double now_s = es_now_s(), passed_s = now_s - last_s;
        idle_s += passed_s < 2 * dog.tick_s ? passed_s : 2 * dog.tick_s;
        last_s = now_s;
        long long kicks = atomic_load(&dog.kicks);
        if (kicks != seen) idle_s = 0;
        seen = kicks;
    }
    bool stuck = !dog.end;
    pthread_mutex_unlock(&dog.lock);
    if (stuck) {
        report(idle_s);
        struct timespec grace = {.tv_sec = (time_t)(4 * dog.tick_s),
                                 .tv_nsec = 500000000}; /* the others report too */
        while (nanosleep(&grace, &grace) != 0 && errno == EINTR) continue;
        _exit(ES_EIO);
    }
    return NULL;
}

int es_watchdog_begin(double timeout_s, int rank, struct es_err *err) {
    if (!(timeout_s > 0)) return 0;
    ES_ASSERT(!dog.running);
    dog.timeout_s = timeout_s;
    dog.tick_s = timeout_s < 4 ? timeout_s / 8 : 0.5;
    dog.rank = rank;
    dog.end = false;
    if (!atomic_load(&dog.phase)) es_watchdog_kick("start", 0);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dog.wake, &attr);
    pthread_condattr_destroy(&attr);
    sigset_t all, old; /* signals are for the main thread: it is the one to be interrupted */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&dog.thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        pthread_cond_destroy(&dog.wake);
        return es_err_set(err, ES_EIO, "watchdog: cannot start its thread: %s", strerror(rc));
    }
    dog.running = true;
    return 0;
}

void es_watchdog_kick(const char *phase, int64_t step) {
    atomic_store(&dog.phase, phase);
    atomic_store(&dog.step, step);
    atomic_fetch_add(&dog.kicks, 1);
}

void es_watchdog_end(void) {
    if (!dog.running) return;
    pthread_mutex_lock(&dog.lock);
    dog.end = true;
    pthread_cond_signal(&dog.wake);
    pthread_mutex_unlock(&dog.lock);
    pthread_join(dog.thread, NULL);
    pthread_cond_destroy(&dog.wake);
    dog.running = false;
}
