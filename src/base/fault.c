#include "earshot/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_POINTS 8

static struct {
    int n;
    struct {
        char name[24];
        long at;
        atomic_long passes;
    } point[MAX_POINTS];
} faults;

void es_fault_init(const char *spec, int rank) {
    faults.n = 0;
    if (!spec) return;
    char text[256];
    snprintf(text, sizeof text, "%s", spec);
    char *save = NULL;
    for (char *item = strtok_r(text, ",", &save); item && faults.n < MAX_POINTS;
         item = strtok_r(NULL, ",", &save)) {
        char *colon = strchr(item, ':'), *at = strstr(item, "@rank");
        if (!colon) continue;
        if (at && strtol(at + 5, NULL, 10) != rank) continue;
        *colon = 0;
        snprintf(faults.point[faults.n].name, sizeof faults.point[0].name, "%.23s", item);
        faults.point[faults.n].at = strtol(colon + 1, NULL, 10);
        atomic_store(&faults.point[faults.n].passes, 0);
        faults.n++;
    }
}

bool es_fault_hit(const char *point) {
    for (int i = 0; i < faults.n; i++)
        if (strcmp(faults.point[i].name, point) == 0)
            return atomic_fetch_add(&faults.point[i].passes, 1) + 1 == faults.point[i].at;
    return false;
}

void es_fault_here(const char *place) {
    char point[48];
    if (faults.n == 0) return;
    snprintf(point, sizeof point, "kill-%s", place);
    if (es_fault_hit(point)) raise(SIGKILL);
    snprintf(point, sizeof point, "stall-%s", place);
    if (es_fault_hit(point))
        for (;;) pause();
    snprintf(point, sizeof point, "slow-%s", place);
    for (int i = 0; i < faults.n; i++)
        if (strcmp(faults.point[i].name, point) == 0) {
            struct timespec t = {faults.point[i].at / 1000, faults.point[i].at % 1000 * 1000000};
            nanosleep(&t, NULL);
        }
}
