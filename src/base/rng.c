#include "earshot/rng.h"

#include <math.h>
#include <string.h>

#include "earshot/err.h"

void es_philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

struct es_rng es_rng_make(uint64_t seed, enum es_rng_purpose purpose, uint32_t step, uint32_t item,
                          uint32_t op) {
    uint32_t hi = (uint32_t)(seed >> 32);
    struct es_rng r = {.key = {(uint32_t)seed ^ ((hi << 16) | (hi >> 16)), (uint32_t)purpose},
                       .ctr = {step, item, op, 0}};
    return r;
}

uint32_t es_rng_u32(struct es_rng *r) {
    if (r->left == 0) {
        es_philox4x32(r->ctr, r->key, r->out);
        r->ctr[3]++;
        r->left = 4;
    }
    return r->out[4 - r->left--];
}

double es_rng_uniform(struct es_rng *r) {
    uint64_t hi = es_rng_u32(r), lo = es_rng_u32(r);
    return (double)((hi << 21) ^ (lo >> 11)) * 0x1p-53;
}

double es_rng_range(struct es_rng *r, double lo, double hi) {
    return lo + (hi - lo) * es_rng_uniform(r);
}

uint64_t es_rng_below(struct es_rng *r, uint64_t n) {
    ES_ASSERT(n >= 1);
    uint64_t limit = UINT64_MAX - UINT64_MAX % n;
    for (;;) {
        uint64_t hi = es_rng_u32(r), v = (hi << 32) | es_rng_u32(r);
        if (v < limit) return v % n;
    }
}

double es_rng_normal(struct es_rng *r) {
    double u = 1.0 - es_rng_uniform(r), v = es_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

/* log of a Gamma(shape, 1) draw, any shape > 0 (Marsaglia and Tsang 2000): log space keeps small shapes from underflowing to 0. */
static double log_gamma_draw(struct es_rng *r, double shape) {
    if (shape < 1.0) return log_gamma_draw(r, shape + 1.0) + log(1.0 - es_rng_uniform(r)) / shape;
    double d = shape - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = es_rng_normal(r), v = 1.0 + c * x;
        if (v <= 0.0) continue;
        v = v * v * v;
        double u = 1.0 - es_rng_uniform(r);
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return log(d * v);
    }
}

double es_rng_beta(struct es_rng *r, double a, double b) {
    double la = log_gamma_draw(r, a), lb = log_gamma_draw(r, b);
    return 1.0 / (1.0 + exp(lb - la));
}

void es_rng_permutation(struct es_rng *r, int64_t n, int64_t *perm) {
    for (int64_t i = 0; i < n; i++) perm[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)es_rng_below(r, (uint64_t)i + 1), t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
}
