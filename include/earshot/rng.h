/* Random numbers: Philox-4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3; SC 2011),
 * counter based.
 *
 * A stream is a pure function of (seed, purpose, step, item, op): nothing is seeded by rank and nothing is
 * saved in a checkpoint. key = (low 32 bits of seed ^ high 32 bits rotated, purpose); counter = (step, item,
 * op, block); each block gives four 32-bit words. The struct is a value: copy it to replay a stream.
 *
 * Known answers (Random123 kat_vectors, philox 4x32-10): counter 0, key 0 -> 6627e8d5 e169c58d bc57ac4c
 * 9b00dbd8.
 */
#ifndef EARSHOT_RNG_H
#define EARSHOT_RNG_H

#include <stdint.h>

enum es_rng_purpose {
    ES_RNG_SHUFFLE = 1,
    ES_RNG_COMPOSE,
    ES_RNG_MIX,
    ES_RNG_AUGMENT,
    ES_RNG_STUDENT_DROPOUT,
    ES_RNG_TEACHER_DROPOUT,
    ES_RNG_INIT,
    ES_RNG_DEMO,
    ES_RNG_BENCH,
    ES_RNG_BOOTSTRAP,
};

struct es_rng {
    uint32_t key[2];
    uint32_t ctr[4]; /* ctr[3] is the block number */
    uint32_t out[4];
    uint32_t left; /* unread words of out */
};

/* One block of the raw function. ctr [4] in, key [2] in, out [4] out. */
void es_philox4x32(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

struct es_rng es_rng_make(uint64_t seed, enum es_rng_purpose purpose, uint32_t step, uint32_t item,
                          uint32_t op);
uint32_t es_rng_u32(struct es_rng *r);
double es_rng_uniform(struct es_rng *r);                     /* [0, 1), 53 bits */
double es_rng_range(struct es_rng *r, double lo, double hi); /* [lo, hi) */
uint64_t es_rng_below(struct es_rng *r, uint64_t n);         /* 0..n-1, no modulo bias; n >= 1 */
double es_rng_normal(struct es_rng *r);                      /* N(0,1), Box-Muller, two uniforms a call */
double es_rng_beta(struct es_rng *r, double a, double b);    /* from two gammas; in log space, safe for 0.2 */
void es_rng_permutation(struct es_rng *r, int64_t n, int64_t *perm); /* Fisher-Yates from the end */

#endif
