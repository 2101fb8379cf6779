/* How long PSDS takes, on seeded scores and events: behind `earshot bench evaluate`. Clips of 10 s, 156 frames, three events each;
 * every class occurs. Collectivity: none. */
#ifndef EARSHOT_EVALUATE_BENCH_H
#define EARSHOT_EVALUATE_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_bench_evaluate {
    int64_t n_clips;
    int n_classes, n_repeats;
    bool streamed; /* scores are made a class at a time when they are needed, and that time counts */
    double psds1_s, psds2_s; /* medians; matching of scores and truth not included */
    double match_s;          /* es_evalset_new */
    double psds1, psds2;
    int64_t peak_rss_bytes;
};
/* Tables above 2 GB are streamed. */
int es_bench_evaluate(struct es_bench_evaluate *b, int64_t n_clips, int n_classes, int n_repeats,
                      struct es_err *err);

/* Tunes cSEBBs over the published grid on such a set (spec 13.4): seconds. */
int es_bench_tune(double *seconds, int64_t n_clips, int n_classes, struct es_err *err);

#endif
