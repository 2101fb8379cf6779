/* Shared by golden tests of models: generated tensors (golden/models/README.md), parameter lists, comparison. Include after
 * h5.h. */
#ifndef EARSHOT_TEST_GOLDEN_MODEL_H
#define EARSHOT_TEST_GOLDEN_MODEL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/tensor.h"
#include "generate.h"

/* Folder of golden/models: the shared one when it is there, else the small copies of tests/data. */
static inline const char *golden_models(char *path, size_t size, bool *shared) {
    const char *dir = getenv("EARSHOT_SHARED");
    if (dir && *dir)
        snprintf(path, size, "%s/golden/models", dir);
    else
        snprintf(path, size, "%s/../shared/golden/models", ES_TEST_SOURCE);
    *shared = access(path, R_OK) == 0;
    if (!*shared) snprintf(path, size, "%s/golden_models", ES_TEST_DATA);
    return path;
}

/* Fills a parameter table by the rule of names, and checks it against params_<model>.tsv (whose seed is taken unless seed != 0).
 * num_batches_tracked stays 0. Returns the number of entries the list names, -1 on a value that is not the listed one. */
static inline int golden_fill(struct es_params *p, const char *tsv, uint64_t seed) {
    struct es_gen_param *list = NULL;
    uint64_t own;
    int n = es_gen_read(tsv, &list, &own), filled = n < 0 ? -1 : 0;
    /* a list may be of a variant: cg and glu share one */
    for (int i = 0; n >= 0 && i < es_params_count(p); i++) {
        const struct es_param *e = es_params_at(p, i);
        double offset, scale;
        if (es_gen_rule(e->name, e->ndim, e->shape, &offset, &scale))
            es_gen_fill(e->name, seed ? seed : own, offset, scale, e->n, es_params_data(p, i));
    }
    for (int k = 0; k < n; k++) {
        int i = es_params_find(p, list[k].name);
        if (i < 0) continue;
        const struct es_param *e = es_params_at(p, i);
        float *x = es_params_data(p, i);
        es_gen_fill(list[k].name, own, list[k].offset, list[k].scale, e->n, x);
        for (int v = 0; v < 8; v++) {
            double want = (double)list[k].value[v], got = (double)x[v * (e->n - 1) / 7];
            if (fabs(got - want) <= 1e-6 * fabs(want) + 1e-8) continue;
            fprintf(stderr, "%s: generated value %d is %.9g, want %.9g\n", e->name, v, got, want);
            filled = -1;
            goto done;
        }
        if (seed != 0 && seed != own) es_gen_fill(list[k].name, seed, list[k].offset, list[k].scale, e->n, x);
        filled++;
    }
done:
    es_free(&list);
    return filled;
}

/* ||a-r|| / ||r||, and the largest |a-r|, in double. */
static inline double golden_rel_l2(const float *a, const float *r, int64_t n, double *max_abs) {
    double d2 = 0, r2 = 0, m = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)r[i];
        d2 += d * d;
        r2 += (double)r[i] * (double)r[i];
        if (fabs(d) > m) m = fabs(d);
    }
    if (max_abs) *max_abs = m;
    return sqrt(d2 / (r2 > 0 ? r2 : 1));
}

static inline double golden_max(const float *r, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++) m = fmax(m, fabs((double)r[i]));
    return m;
}

#endif
