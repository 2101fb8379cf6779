/* Shared by probe*.c and ensemble_fit.c. */
#ifndef EARSHOT_PROBE_IMPL_H
#define EARSHOT_PROBE_IMPL_H

#include "earshot/labels.h"
#include "earshot/probe.h"

enum { DESED, MAESTRO, FAMILIES }; /* AudioSet: as DESED */

struct probe_ref { /* a clip */
    int store;
    int64_t id;
};
struct probe_list {
    struct probe_ref *ref;
    int64_t n;
};
struct probe_clips {
    int n_stores, K;
    struct es_store *const *store;
    bool audioset;
    struct probe_list part[ES_PROBE_PARTS][FAMILIES];
};
/* max_clips: of each list; 0: all. Free also after an error. */
int probe_clips_new(struct probe_clips *c, int n_stores, struct es_store *const *store, int64_t max_clips,
                    struct es_err *err);
void probe_clips_free(struct probe_clips *c);
/* The classes that training rows of a family are valid for; those that a family is judged by (its own, without aliases). */
bool probe_fits(const struct probe_clips *c, int family, int k);
bool probe_judges(const struct probe_clips *c, int family, int k);
/* y [frames, K] of a clip. */
int probe_labels(const struct probe_clips *c, const struct es_label_grid *grid, const struct probe_ref *r,
                 float *y, struct es_err *err);
/* mpauc of outputs [n, frames, K], larger = more likely. What cannot be scored (a class with no negative second, say) is a warning
 * that names `what`, and NAN. */
int probe_score(const struct probe_clips *c, const struct probe_list *l, int frames, const float *outputs,
                const char *what, double *value, struct es_err *err);

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
