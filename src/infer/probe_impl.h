/* Shared by probe.c and probe_taps.c. */
#ifndef EARSHOT_PROBE_IMPL_H
#define EARSHOT_PROBE_IMPL_H

#include "earshot/probe.h"

struct probe_set { /* features that are fitted together: one layer, or all with joint */
    int model;
    char name[64];
    int64_t d; /* with the constant, which is the last */
    float *x;  /* [block * frames, d] */
};

struct probe_taps;
/* Runs one block of silence through every model to see its layers. */
int probe_taps_new(struct probe_taps **t, const struct es_probe_params *p, struct es_err *err);
void probe_taps_free(struct probe_taps **t);
int probe_taps_frames(const struct probe_taps *t);
int probe_taps_count(const struct probe_taps *t);
struct probe_set *probe_taps_set(const struct probe_taps *t, int i);
float *probe_taps_waves(const struct probe_taps *t);
/* n <= block clips of the waves: fills x of all sets. */
int probe_taps_run(struct probe_taps *t, int n, struct es_err *err);

#endif
