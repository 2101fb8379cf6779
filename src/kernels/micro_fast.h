/* The register kernel under every matrix product of ours: C[MR x NR] (+)= sum over k of A[:,k] B[k,:].
 *
 * A is read as broadcast words with strides (rs, ks), so it may be a packed sliver (1, MR), rows (lda, 1) or columns (1, lda);
 * B as rows of NR words, ldb apart. The order of the sum over k is 0, 1, 2, ... in one fused multiply-add chain per element:
 * an element of C depends on its row of A and its column of B alone, not on where the tile lies.
 *
 * AVX2: 6 x 16 (12 of 16 registers are sums). AVX-512: 12 x 32 (24 of 32).
 * Set ES_VL to 8 or 16 before including. ES_PAIRS: words of A and B are two bf16 numbers, and a step adds both products (vdpbf16ps).
 * V_ACC is c += a b as one instruction on the same register: left to itself gcc 12 renames the sums from step to step and spills
 * (7 % slower). Measured, Zen 3, operands in L1: 0.97-1.0 of the register peak.
 */
#ifndef EARSHOT_MICRO_FAST_H
#define EARSHOT_MICRO_FAST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <immintrin.h>

#ifdef ES_PAIRS /* vdpbf16ps by AVX2: upper halves first, as the instruction; denormals count */
static inline __m256 es_pairs8(__m256 c, __m256 a, __m256 b) {
    const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000));
    __m256 a0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)),
           b0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(b), 16));
    c = _mm256_fmadd_ps(_mm256_and_ps(a, upper), _mm256_and_ps(b, upper), c);
    return _mm256_fmadd_ps(a0, b0, c);
}
#endif

#if ES_VL == 8
#define MR 6
typedef __m256 es_v;
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_SET1(x) _mm256_set1_ps(x)
#define V_ZERO() _mm256_setzero_ps()
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#ifdef ES_PAIRS
#define V_ACC(c, a, b) ((c) = es_pairs8(c, a, b))
#else
#define V_ACC(c, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b))
#endif
#else
#define MR 12
#if defined(__AVX512F__) && !defined(ES_EMULATE) && (!defined(ES_PAIRS) || defined(__AVX512BF16__))
typedef __m512 es_v;
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_SET1(x) _mm512_set1_ps(x)
#define V_ZERO() _mm512_setzero_ps()
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#ifdef ES_PAIRS
#define V_ACC(c, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#else
#define V_ACC(c, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#endif
#else /* two halves: the tests run the 16-lane code on CPUs without AVX-512 */
typedef struct {
    __m256 lo, hi;
} es_v;
#define V_LOAD(p) ((es_v){_mm256_loadu_ps(p), _mm256_loadu_ps((p) + 8)})
#define V_STORE(p, v) (_mm256_storeu_ps(p, (v).lo), _mm256_storeu_ps((p) + 8, (v).hi))
#define V_SET1(x) ((es_v){_mm256_set1_ps(x), _mm256_set1_ps(x)})
#define V_ZERO() ((es_v){_mm256_setzero_ps(), _mm256_setzero_ps()})
#define V_ADD(a, b) ((es_v){_mm256_add_ps((a).lo, (b).lo), _mm256_add_ps((a).hi, (b).hi)})
#define V_FMA(a, b, c)                                                                                       \
    ((es_v){_mm256_fmadd_ps((a).lo, (b).lo, (c).lo), _mm256_fmadd_ps((a).hi, (b).hi, (c).hi)})
#ifdef ES_PAIRS
#define V_ACC(c, a, b) ((c) = (es_v){es_pairs8((c).lo, (a).lo, (b).lo), es_pairs8((c).hi, (a).hi, (b).hi)})
#else
#define V_ACC(c, a, b) ((c) = V_FMA(a, b, c))
#endif
#endif
#endif
#define NR (2 * ES_VL)

#ifdef __clang__
#define ES_UNROLL_ _Pragma("clang loop unroll(full)")
#else
#define ES_UNROLL_ _Pragma("GCC unroll 16")
#endif
#define ES_INLINE static inline __attribute__((always_inline))

/* add: C += product, else C = product. next: brought into the cache meanwhile, 16 bytes every 4 steps of k. */
ES_INLINE void es_micro(int64_t k, const float *restrict a, int64_t rs, int64_t ks, const float *restrict b,
                        int64_t ldb, float *restrict c, int64_t ldc, bool add, const char *next) {
    es_v s[MR][2];
    ES_UNROLL_ for (int r = 0; r < MR; r++) s[r][0] = s[r][1] = V_ZERO();
    if (add) {
        ES_UNROLL_ for (int r = 0; r < MR; r++) {
            __builtin_prefetch(c + r * ldc, 1);
            __builtin_prefetch(c + r * ldc + NR - 1, 1);
        }
    }
#define STEP_                                                                                                \
    {                                                                                                        \
        es_v b0 = V_LOAD(b), b1 = V_LOAD(b + ES_VL);                                                         \
        ES_UNROLL_ for (int r = 0; r < MR; r++) {                                                            \
            es_v x = V_SET1(a[r * rs]);                                                                      \
            V_ACC(s[r][0], x, b0);                                                                           \
            V_ACC(s[r][1], x, b1);                                                                           \
        }                                                                                                    \
        a += ks;                                                                                             \
        b += ldb;                                                                                            \
    }
    int64_t i = 0;
    for (; i + 4 <= k; i += 4) {
        __builtin_prefetch(next);
        next += 16;
        STEP_ STEP_ STEP_ STEP_
    }
    for (; i < k; i++) STEP_
#undef STEP_
    if (add) {
        ES_UNROLL_ for (int r = 0; r < MR; r++) {
            V_STORE(c + r * ldc, V_ADD(V_LOAD(c + r * ldc), s[r][0]));
            V_STORE(c + r * ldc + ES_VL, V_ADD(V_LOAD(c + r * ldc + ES_VL), s[r][1]));
        }
    } else {
        ES_UNROLL_ for (int r = 0; r < MR; r++) {
            V_STORE(c + r * ldc, s[r][0]);
            V_STORE(c + r * ldc + ES_VL, s[r][1]);
        }
    }
}

/* Rows of src, ld apart, become columns of dst, width apart: 8 x 8 at a time. */
static inline void transpose8(const float *src, int64_t ld, float *dst, int64_t width) {
    __m256 r0 = _mm256_loadu_ps(src), r1 = _mm256_loadu_ps(src + ld), r2 = _mm256_loadu_ps(src + 2 * ld),
           r3 = _mm256_loadu_ps(src + 3 * ld), r4 = _mm256_loadu_ps(src + 4 * ld),
           r5 = _mm256_loadu_ps(src + 5 * ld), r6 = _mm256_loadu_ps(src + 6 * ld),
           r7 = _mm256_loadu_ps(src + 7 * ld);
    __m256 t0 = _mm256_unpacklo_ps(r0, r1), t1 = _mm256_unpackhi_ps(r0, r1), t2 = _mm256_unpacklo_ps(r2, r3),
           t3 = _mm256_unpackhi_ps(r2, r3), t4 = _mm256_unpacklo_ps(r4, r5), t5 = _mm256_unpackhi_ps(r4, r5),
           t6 = _mm256_unpacklo_ps(r6, r7), t7 = _mm256_unpackhi_ps(r6, r7);
    r0 = _mm256_shuffle_ps(t0, t2, 0x44), r1 = _mm256_shuffle_ps(t0, t2, 0xee);
    r2 = _mm256_shuffle_ps(t1, t3, 0x44), r3 = _mm256_shuffle_ps(t1, t3, 0xee);
    r4 = _mm256_shuffle_ps(t4, t6, 0x44), r5 = _mm256_shuffle_ps(t4, t6, 0xee);
    r6 = _mm256_shuffle_ps(t5, t7, 0x44), r7 = _mm256_shuffle_ps(t5, t7, 0xee);
    _mm256_storeu_ps(dst, _mm256_permute2f128_ps(r0, r4, 0x20));
    _mm256_storeu_ps(dst + width, _mm256_permute2f128_ps(r1, r5, 0x20));
    _mm256_storeu_ps(dst + 2 * width, _mm256_permute2f128_ps(r2, r6, 0x20));
    _mm256_storeu_ps(dst + 3 * width, _mm256_permute2f128_ps(r3, r7, 0x20));
    _mm256_storeu_ps(dst + 4 * width, _mm256_permute2f128_ps(r0, r4, 0x31));
    _mm256_storeu_ps(dst + 5 * width, _mm256_permute2f128_ps(r1, r5, 0x31));
    _mm256_storeu_ps(dst + 6 * width, _mm256_permute2f128_ps(r2, r6, 0x31));
    _mm256_storeu_ps(dst + 7 * width, _mm256_permute2f128_ps(r3, r7, 0x31));
}

/* dst[l*width + i] = src[i*is + l*ls], i < rows (0 up to width), l < k. */
ES_INLINE void pack(int64_t rows, int width, int64_t k, const float *src, int64_t is, int64_t ls,
                    float *dst) {
    int64_t l = 0;
    if (rows == width && is == 1) {
        for (; l < k; l++) memcpy(dst + l * width, src + l * ls, (size_t)width * sizeof(float));
    } else if (rows == width && ls == 1) {
        for (; l + 8 <= k; l += 8) {
            for (int i = 0; i + 8 <= width; i += 8)
                transpose8(src + i * is + l, is, dst + l * width + i, width);
            for (int i = width & ~7; i < width; i++)
                for (int q = 0; q < 8; q++) dst[(l + q) * width + i] = src[i * is + l + q];
        }
    }
    for (; l < k; l++)
        for (int i = 0; i < width; i++) dst[l * width + i] = i < rows ? src[i * is + l * ls] : 0.0f;
}

#endif
