/* Dropout: Philox-4x32-10 (rng.h) for eight blocks at a time, so 32 elements; an element's mask depends on
 * its index only. */
#include "crnn_impl.h"
#include "crnn_simd.h"
#include "impl.h"

/* Low and high halves of the products of each lane with m. */
ES_INLINE void multiply(__m256i v, __m256i m, __m256i *low, __m256i *high) {
    __m256i even = _mm256_mul_epu32(v, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(v, 32), m);
    *low = _mm256_mullo_epi32(v, m);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
}

/* c[4]: counters of eight blocks, word by word; out: their words. */
ES_INLINE void philox8(const uint32_t key[2], __m256i c[4]) {
    __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u), m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        __m256i low0, high0, low1, high1;
        multiply(c[0], m0, &low0, &high0);
        multiply(c[2], m1, &low1, &high1);
        c[0] = _mm256_xor_si256(_mm256_xor_si256(high1, c[1]), _mm256_set1_epi32((int)k0));
        c[2] = _mm256_xor_si256(_mm256_xor_si256(high0, c[3]), _mm256_set1_epi32((int)k1));
        c[1] = low1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* keep[q] lane l: all ones where element 8q + l of the 32 elements of blocks block .. block+7 is kept. */
ES_INLINE void masks32(const struct es_rng *rng, uint32_t block, __m256i threshold, __m256i keep[4]) {
    __m256i c[4];
    for (int i = 0; i < 3; i++) c[i] = _mm256_set1_epi32((int)rng->ctr[i]);
    c[3] = _mm256_add_epi32(_mm256_set1_epi32((int)(rng->ctr[3] + block)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    philox8(rng->key, c);
    ES_UNROLL
    for (int i = 0; i < 4; i++) c[i] = _mm256_cmpgt_epi32(_mm256_srli_epi32(c[i], 8), threshold);
    /* [word][block] -> [block][word] */
    __m256i a = _mm256_unpacklo_epi32(c[0], c[1]), b = _mm256_unpackhi_epi32(c[0], c[1]);
    __m256i d = _mm256_unpacklo_epi32(c[2], c[3]), e = _mm256_unpackhi_epi32(c[2], c[3]);
    __m256i p = _mm256_unpacklo_epi64(a, d), q = _mm256_unpackhi_epi64(a, d); /* blocks 0|4, 1|5 */
    __m256i r = _mm256_unpacklo_epi64(b, e), s = _mm256_unpackhi_epi64(b, e); /* blocks 2|6, 3|7 */
    keep[0] = _mm256_permute2x128_si256(p, q, 0x20);
    keep[1] = _mm256_permute2x128_si256(r, s, 0x20);
    keep[2] = _mm256_permute2x128_si256(p, q, 0x31);
    keep[3] = _mm256_permute2x128_si256(r, s, 0x31);
}

void es_k_dropout_fast(int64_t n, const struct es_rng *rng, double p, const float *x, float *y, bool add_y) {
    /* kept when (word >> 8) >= p 2^24: greater than the integer just below */
    __m256i threshold = _mm256_set1_epi32((int)ceil(p * 0x1p24) - 1);
    __m256 scale = _mm256_set1_ps((float)(1.0 / (1.0 - p)));
#pragma omp parallel for schedule(static) if (n > 1 << 15)
    for (int64_t at = 0; at < n; at += 32) {
        __m256i keep[4];
        masks32(rng, (uint32_t)(at / 4), threshold, keep);
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
    __m256i threshold = _mm256_set1_epi32((int)ceil(p * 0x1p24) - 1);
    __m256 scale = _mm256_set1_ps((float)(1.0 / (1.0 - p)));
    for (int64_t at = 0; at < n; at += 32) {
        __m256i keep[4];
        masks32(rng, (uint32_t)((first + at) / 4), threshold, keep);
        for (int64_t i = 0; i < 4 && at + 8 * i < n; i++)
            store_upto(factor + at + 8 * i, n - at - 8 * i,
                       _mm256_and_ps(scale, _mm256_castsi256_ps(keep[i])));
    }
}
