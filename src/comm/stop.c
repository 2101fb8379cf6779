#include "earshot/comm.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t stop_flag; /* a signal handler has nowhere else to write */

static void on_signal(int sig) {
    (void)sig;
    stop_flag = 1;
}

void es_stop_install(void) {
    static const int signals[] = {SIGUSR1, SIGUSR2, SIGTERM, SIGINT};
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_signal;
    act.sa_flags = SA_RESTART;
    sigemptyset(&act.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &act, NULL);
}

bool es_stop_requested(void) {
    return stop_flag != 0;
}
