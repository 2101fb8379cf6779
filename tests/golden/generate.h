/* Generated tensors of the golden data (../shared/golden/models/README.md, "Generated tensors"): weights and
 * projections are not stored but follow from their name.
 *
 *   double offset, scale;
 *   es_gen_rule("rnn.bias_ih_l0", 1, shape, &offset, &scale);            the table of kinds, first match wins
 *   es_gen_fill("rnn.bias_ih_l0", ES_GEN_SEED, offset, scale, n, data);  n floats
 *   es_gen_fill("R/bigru/y", ES_GEN_SEED, 0, 1, n, r);                   a projection
 *
 *   struct es_gen_param *list = NULL; int n = es_gen_read(path, &list, &seed); ... es_free(&list);
 * reads a params_<model>.tsv: -1 and a line on stderr on failure.
 */
#ifndef EARSHOT_TEST_GENERATE_H
#define EARSHOT_TEST_GENERATE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"

#define ES_GEN_SEED 20240601u

static inline uint64_t es_gen_hash(const char *name) { /* FNV-1a, 64 bits */
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h;
}

/* In [-1, 1): splitmix64 of hash + i * golden ratio + seed. */
static inline double es_gen_u(uint64_t hash, uint64_t seed, int64_t i) {
    uint64_t z = hash + (uint64_t)i * 0x9E3779B97F4A7C15u + seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53 * 2.0 - 1.0;
}

static inline void es_gen_fill(const char *name, uint64_t seed, double offset, double scale, int64_t n,
                               float *out) {
    uint64_t h = es_gen_hash(name);
    for (int64_t i = 0; i < n; i++) out[i] = (float)(offset + scale * es_gen_u(h, seed, i));
}

static inline bool es_gen_ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Last component of a dotted name, and the one before it (the module's own name). */
static inline const char *es_gen_parts(const char *name, char module[64]) {
    const char *last = strrchr(name, '.'), *from = name;
    module[0] = 0;
    if (!last) return name;
    for (const char *p = name; p < last; p++)
        if (*p == '.') from = p + 1;
    snprintf(module, 64, "%.*s", (int)(last - from), from);
    return last + 1;
}

static inline bool es_gen_among(const char *word, const char *const *list, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(word, list[i]) == 0) return true;
    return false;
}

/* False for counters, which are not generated. */
static inline bool es_gen_rule(const char *name, int ndim, const int64_t *shape, double *offset,
                               double *scale) {
    static const struct {
        const char *end;
        double offset, scale;
    } special[] = {{"relative_attention_bias.weight", 0, 0.5},
                   {"grep_a", 1, 0.1},
                   {"parametrizations.weight.original0", 1, 0.1},
                   {"running_mean", 0, 0.2},
                   {"running_var", 1, 0.5}};
    static const char *const embed[] = {"pos_embed",         "mask_embed",    "cls_token",
                                        "dist_token",        "new_pos_embed", "freq_new_pos_embed",
                                        "time_new_pos_embed"};
    static const char *const wide[] = {"dense",         "dense_softmax", "sigmoid_dense",
                                       "softmax_dense", "strong_head",   "weak_head"};
    char module[64];
    const char *last = es_gen_parts(name, module);
    *offset = *scale = 0;
    if (es_gen_ends(name, "num_batches_tracked")) return false;
    for (int i = 0; i < 5; i++)
        if (es_gen_ends(name, special[i].end)) {
            *offset = special[i].offset;
            *scale = special[i].scale;
            return true;
        }
    bool weight = strcmp(last, "weight") == 0, bias = strcmp(last, "bias") == 0;
    if (strstr(module, "norm") && (weight || bias)) {
        *offset = weight ? 1 : 0;
        *scale = 0.1;
    } else if (es_gen_among(last, embed, 7)) {
        *scale = 1;
    } else if (ndim >= 2) {
        int64_t fan_in = 1;
        for (int d = 1; d < ndim; d++) fan_in *= shape[d];
        *scale = sqrt(3.0 / (double)fan_in) * (es_gen_among(module, wide, 6) ? 2.0 : 1.0);
    } else {
        *scale = 0.05;
    }
    return true;
}

/* ---- params_<model>.tsv */
struct es_gen_param {
    char name[120], kind[16];
    int ndim;
    int64_t shape[4], n;
    double offset, scale;
    float value[8]; /* at floor(k*(n-1)/7) */
};

static inline bool es_gen_parse(char *line, struct es_gen_param *p) {
    char *field[13], *save = NULL;
    int n = 0;
    for (char *f = strtok_r(line, "\t\n", &save); f && n < 13; f = strtok_r(NULL, "\t\n", &save))
        field[n++] = f;
    if (n < 5) return false;
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", field[0]);
    snprintf(p->kind, sizeof p->kind, "%s", field[2]);
    p->n = 1;
    char *at = field[1];
    for (bool more = *at >= '0' && *at <= '9'; more && p->ndim < 4; p->ndim++) {
        p->shape[p->ndim] = strtoll(at, &at, 10);
        p->n *= p->shape[p->ndim];
        more = *at++ == 'x';
    }
    p->offset = strtod(field[3], NULL);
    p->scale = strtod(field[4], NULL);
    for (int i = 5; i < n; i++) p->value[i - 5] = strtof(field[i], NULL);
    return true;
}

static inline int es_gen_read(const char *path, struct es_gen_param **list, uint64_t *seed) {
    FILE *f = fopen(path, "r");
    char line[1024];
    int n = 0;
    *list = f ? es_alloc(1024, sizeof **list, NULL) : NULL;
    *seed = ES_GEN_SEED;
    while (*list && fgets(line, sizeof line, f)) {
        if (strncmp(line, "#seed\t", 6) == 0) *seed = strtoull(line + 6, NULL, 10);
        if (line[0] == '#' || line[0] == '\n') continue;
        if (n == 1024 || !es_gen_parse(line, &(*list)[n])) {
            es_free(list);
            break;
        }
        n++;
    }
    if (f) fclose(f);
    if (!*list) fprintf(stderr, "%s: cannot read as a table of parameters\n", path);
    return *list ? n : -1;
}

#endif
