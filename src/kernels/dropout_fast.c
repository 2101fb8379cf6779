/* Dropout: Philox-4x32-10 (rng.h) for eight blocks at a time, so 32 elements; an element's mask depends on
 * its index only. */
#include "crnn_impl.h"
#include "crnn_simd.h"
#include "impl.h"

#define ROUNDS 10

/* Ten rounds for eight blocks in two halves: a word in the low half of 64 bits (what stands in the high half is never read), so
 * that a product leaves both its halves where the next round wants them, but for one shift. keys[round][2]. */
ES_INLINE void philox8(const __m256i keys[ROUNDS][2], __m256i c[2][4]) {
    __m256i m0 = _mm256_set1_epi64x(0xD2511F53), m1 = _mm256_set1_epi64x(0xCD9E8D57);
    ES_UNROLL
    for (int round = 0; round < ROUNDS; round++) {
        ES_UNROLL
        for (int h = 0; h < 2; h++) {
            __m256i p = _mm256_mul_epu32(c[h][0], m0), q = _mm256_mul_epu32(c[h][2], m1);
            c[h][0] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(q, 32), c[h][1]), keys[round][0]);
            c[h][2] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p, 32), c[h][3]), keys[round][1]);
            c[h][1] = q;
            c[h][3] = p;
        }
    }
}

struct masks { /* of a stream, made once */
    __m256i keys[ROUNDS][2], word[3], threshold;
    uint32_t block;
};

static struct masks masks_of(const struct es_rng *rng, double p) {
    struct masks m = {.block = rng->ctr[3]};
    uint32_t k[2] = {rng->key[0], rng->key[1]};
    for (int round = 0; round < ROUNDS; round++) {
        m.keys[round][0] = _mm256_set1_epi32((int)k[0]);
        m.keys[round][1] = _mm256_set1_epi32((int)k[1]);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 3; i++) m.word[i] = _mm256_set1_epi32((int)rng->ctr[i]);
    /* kept when (word >> 8) >= p 2^24: greater than the integer just below */
    m.threshold = _mm256_set1_epi32((int)ceil(p * 0x1p24) - 1);
    return m;
}

/* keep[q] lane l: all ones where element 8q + l of the 32 elements of blocks block .. block+7 is kept. */
ES_INLINE void masks32(const struct masks *m, uint32_t block, __m256i keep[4]) {
    __m256i c[2][4], at = _mm256_set1_epi32((int)(m->block + block));
    ES_UNROLL
    for (int h = 0; h < 2; h++) { /* blocks 0 2 1 3: each half of the words' pairs then holds neighbours */
        for (int i = 0; i < 3; i++) c[h][i] = m->word[i];
        c[h][3] = _mm256_add_epi32(at, _mm256_setr_epi32(4 * h, 0, 4 * h + 2, 0, 4 * h + 1, 0, 4 * h + 3, 0));
    }
    philox8(m->keys, c);
    ES_UNROLL
    for (int h = 0; h < 2; h++) {
        __m256i a = _mm256_blend_epi32(c[h][0], _mm256_slli_epi64(c[h][1], 32), 0xaa),
                b = _mm256_blend_epi32(c[h][2], _mm256_slli_epi64(c[h][3], 32), 0xaa);
        __m256i low = _mm256_unpacklo_epi64(a, b), high = _mm256_unpackhi_epi64(a, b);
        keep[2 * h] = _mm256_cmpgt_epi32(_mm256_srli_epi32(low, 8), m->threshold);
        keep[2 * h + 1] = _mm256_cmpgt_epi32(_mm256_srli_epi32(high, 8), m->threshold);
    }
}

void es_k_dropout_fast(int64_t n, const struct es_rng *rng, double p, const float *x, float *y, bool add_y) {
    const struct masks masks = masks_of(rng, p);
    __m256 scale = _mm256_set1_ps((float)(1.0 / (1.0 - p)));
#pragma omp parallel for schedule(static) if (n > 1 << 15)
    for (int64_t at = 0; at < n; at += 32) {
        __m256i keep[4];
        masks32(&masks, (uint32_t)(at / 4), keep);
        for (int64_t i = 0; i < 4 && at + 8 * i < n; i++) {
            int64_t from = at + 8 * i;
            __m256 v = _mm256_mul_ps(load_upto(x + from, n - from), scale);
            v = _mm256_and_ps(v, _mm256_castsi256_ps(keep[i]));
            if (add_y) v = _mm256_add_ps(v, load_upto(y + from, n - from));
            store_upto(y + from, n - from, v);
        }
    }
}

void es_dropout_factors(const struct es_rng *rng, int64_t first, int64_t n, double p, float *factor) {
    const struct masks masks = masks_of(rng, p);
    __m256 scale = _mm256_set1_ps((float)(1.0 / (1.0 - p)));
    for (int64_t at = 0; at < n; at += 32) {
        __m256i keep[4];
        masks32(&masks, (uint32_t)((first + at) / 4), keep);
        for (int64_t i = 0; i < 4 && at + 8 * i < n; i++)
            store_upto(factor + at + 8 * i, n - at - 8 * i,
                       _mm256_and_ps(scale, _mm256_castsi256_ps(keep[i])));
    }
}
