/* AVX2 building blocks of the *_fast.c files of the CRNN kernels: elementary functions, masks, transposition,
 * and a register-tile matrix product.
 *
 * The product: C (m <= 6 rows, 16 columns) from A (any strides, one value broadcast at a time) and a packed
 * panel B [k][16]. Every element of C is one chain of fused multiply-adds over k, whatever the tile around
 * it: results depend neither on threads nor on how rows and columns are cut. Sizes of the CRNN are too small
 * and too many for a BLAS call each (tried: a 3x3 convolution 1 -> 16 by im2col and OpenBLAS ran at 20
 * GFLOP/s, 128 -> 128 at 72, a tile at 75-85 of the core's 100). */
#ifndef EARSHOT_CRNN_SIMD_H
#define EARSHOT_CRNN_SIMD_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define ES_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define ES_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ES_UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- masks: lanes 0..n-1 of 8 */
ES_INLINE __m256i lanes_below(int64_t n) {
    __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > 8 ? 8 : (int)n), iota);
}

/* The first n of 8 values; a store of all 8 is never masked, which is slow on AMD. */
ES_INLINE __m256 load_upto(const float *p, int64_t n) {
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, lanes_below(n));
}
ES_INLINE void store_upto(float *p, int64_t n, __m256 v) {
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, lanes_below(n), v);
}

/* ---- elementary functions: Cephes' single precision polynomials (S. Moshier, netlib.org/cephes), NaN in,
 * NaN out */
ES_INLINE __m256 exp8(__m256 x) {
    __m256 v = _mm256_min_ps(_mm256_set1_ps(88.0f), _mm256_max_ps(_mm256_set1_ps(-87.33f), x));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(v, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), v);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    __m256 y = _mm256_mul_ps(p, _mm256_castsi256_ps(e));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-87.33f), _CMP_LT_OQ), y);
}

ES_INLINE __m256 sigmoid8(__m256 x) {
    __m256 one = _mm256_set1_ps(1.0f),
           minus = _mm256_xor_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN)));
    return _mm256_div_ps(one, _mm256_add_ps(one, exp8(minus)));
}

ES_INLINE __m256 tanh8(__m256 x) {
    __m256 sign = _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN)), one = _mm256_set1_ps(1.0f),
           a = _mm256_andnot_ps(sign, x), z = _mm256_mul_ps(x, x);
    __m256 p = _mm256_set1_ps(-5.70498872745e-3f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390887954e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397155531e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422036e-1f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819422e-1f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
    __m256 q = _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(exp8(_mm256_add_ps(a, a)), one));
    q = _mm256_or_ps(_mm256_sub_ps(one, q), _mm256_and_ps(sign, x));
    return _mm256_blendv_ps(q, p, _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ));
}

/* ln x; -inf at 0, denormals included, NaN below 0. */
ES_INLINE __m256 log8(__m256 x) {
    __m256 tiny = _mm256_cmp_ps(x, _mm256_set1_ps(1.17549435e-38f), _CMP_LT_OQ);
    __m256 v = _mm256_blendv_ps(x, _mm256_mul_ps(x, _mm256_set1_ps(8388608.0f)), tiny);
    __m256i bits = _mm256_castps_si256(v);
    __m256 e = _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(bits, 23), _mm256_set1_epi32(126)));
    e = _mm256_sub_ps(e, _mm256_and_ps(tiny, _mm256_set1_ps(23.0f)));
    __m256 m = _mm256_castsi256_ps(_mm256_or_si256(_mm256_and_si256(bits, _mm256_set1_epi32(0x007fffff)),
                                                   _mm256_set1_epi32(0x3f000000)));
    __m256 low = _mm256_cmp_ps(m, _mm256_set1_ps(0.707106781f), _CMP_LT_OQ), one = _mm256_set1_ps(1.0f);
    e = _mm256_sub_ps(e, _mm256_and_ps(low, one));
    m = _mm256_sub_ps(_mm256_add_ps(m, _mm256_and_ps(low, m)), one);
    __m256 z = _mm256_mul_ps(m, m), p = _mm256_set1_ps(7.0376836292e-2f);
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(-1.1514610310e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(1.1676998740e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(-1.2420140846e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(1.4249322787e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(-1.6668057665e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(2.0000714765e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(-2.4999993993e-1f));
    p = _mm256_fmadd_ps(p, m, _mm256_set1_ps(3.3333331174e-1f));
    p = _mm256_mul_ps(_mm256_mul_ps(p, m), z);
    p = _mm256_fmadd_ps(e, _mm256_set1_ps(-2.12194440e-4f), p);
    p = _mm256_fnmadd_ps(_mm256_set1_ps(0.5f), z, p);
    __m256 y = _mm256_fmadd_ps(e, _mm256_set1_ps(0.693359375f), _mm256_add_ps(m, p));
    __m256 zero = _mm256_setzero_ps(), inf = _mm256_set1_ps(HUGE_VALF);
    y = _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, inf, _CMP_EQ_OQ));
    y = _mm256_blendv_ps(y, _mm256_sub_ps(zero, inf), _mm256_cmp_ps(x, zero, _CMP_EQ_OQ));
    return _mm256_or_ps(y, _mm256_cmp_ps(x, zero, _CMP_NGE_UQ)); /* all ones is a NaN */
}

/* ---- sums */
ES_INLINE double sum4d(__m256d v) {
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
ES_INLINE __m256d low4d(__m256 v) {
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}
ES_INLINE __m256d high4d(__m256 v) {
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

/* ---- r[i] lane j <-> r[j] lane i */
ES_INLINE void transpose8(__m256 r[8]) {
    __m256 t[8], u[8];
    ES_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    ES_UNROLL
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    ES_UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

/* ---- register tiles */
#define TILE_N 16
#define TILE_M 6

/* Rows of the next tile when `left` are left: full tiles, and the last two evened out. */
ES_INLINE int tile_rows(int64_t left) {
    return left <= TILE_M ? (int)left : left >= 2 * TILE_M - 1 ? TILE_M : (int)(left + 1) / 2;
}

/* c[r][j] = sum_k a[r*rs + k*cs] b[k][j] + (init ? init[r]) + (add ? c[r][j]), r < m, j < cols <= 16. m is a
 * constant. */
ES_INLINE void tile_one(int m, int64_t k, const float *a, int64_t rs, int64_t cs, const float *b,
                        const float *init, float *c, int64_t ldc, int64_t cols, bool add) {
    __m256 acc[TILE_M][2];
    ES_UNROLL
    for (int r = 0; r < TILE_M; r++) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    for (int64_t p = 0; p < k; p++) {
        __m256 b0 = _mm256_loadu_ps(b + p * TILE_N), b1 = _mm256_loadu_ps(b + p * TILE_N + 8);
        ES_UNROLL
        for (int r = 0; r < TILE_M; r++)
            if (r < m) {
                __m256 v = _mm256_broadcast_ss(a + r * rs + p * cs);
                acc[r][0] = _mm256_fmadd_ps(v, b0, acc[r][0]);
                acc[r][1] = _mm256_fmadd_ps(v, b1, acc[r][1]);
            }
    }
    ES_UNROLL
    for (int r = 0; r < TILE_M; r++)
        if (r < m) {
            float *q = c + r * ldc;
            if (init) {
                __m256 v = _mm256_broadcast_ss(init + r);
                acc[r][0] = _mm256_add_ps(acc[r][0], v);
                acc[r][1] = _mm256_add_ps(acc[r][1], v);
            }
            if (add) {
                acc[r][0] = _mm256_add_ps(acc[r][0], load_upto(q, cols));
                acc[r][1] = _mm256_add_ps(acc[r][1], load_upto(q + 8, cols - 8));
            }
            store_upto(q, cols, acc[r][0]);
            store_upto(q + 8, cols - 8, acc[r][1]);
        }
}

/* All M rows of A (packed by tile_pack_rows, or plain rows) against one panel. */
#define TILE_CASES(RS, CS)                                                                                   \
    switch (m) {                                                                                             \
    case 6:                                                                                                  \
        tile_one(6, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    case 5:                                                                                                  \
        tile_one(5, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    case 4:                                                                                                  \
        tile_one(4, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    case 3:                                                                                                  \
        tile_one(3, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    case 2:                                                                                                  \
        tile_one(2, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    default:                                                                                                 \
        tile_one(1, k, p, RS, CS, b, init ? init + r : NULL, c + r * ldc, ldc, cols, add);                   \
        break;                                                                                               \
    }

/* a from tile_pack_rows with K columns, of which k0 .. k0 + k - 1 are used. */
static inline void tile_packed(int64_t M, int64_t K, int64_t k0, int64_t k, const float *a, const float *b,
                               const float *init, float *c, int64_t ldc, int64_t cols, bool add) {
    for (int64_t r = 0, m; r < M; r += m) {
        m = tile_rows(M - r);
        const float *p = a + r * K + k0 * m;
        TILE_CASES(1, m)
    }
}

static inline void tile_plain(int64_t M, int64_t k, const float *a, int64_t lda, const float *b,
                              const float *init, float *c, int64_t ldc, int64_t cols, bool add) {
    for (int64_t r = 0, m; r < M; r += m) {
        m = tile_rows(M - r);
        const float *p = a + r * lda;
        TILE_CASES(lda, 1)
    }
}

/* Tile by tile [k][rows of the tile]: M*K floats. Element (r,k) is src[r*rs + k*cs]. */
static inline void tile_pack_rows(int64_t M, int64_t K, const float *src, int64_t rs, int64_t cs,
                                  float *dst) {
    for (int64_t r = 0, m; r < M; r += m) {
        m = tile_rows(M - r);
        for (int64_t k = 0; k < K; k++)
            for (int64_t i = 0; i < m; i++) *dst++ = src[(r + i) * rs + k * cs];
    }
}

/* dst [k][16] <- rows src[j][k], j < rows <= 16 (others 0), stride ld. dst holds k rounded up to 8 rows. */
static inline void tile_transpose(int64_t rows, int64_t k, const float *src, int64_t ld, float *dst) {
    for (int64_t p = 0; p < k; p += 8) {
        for (int64_t half = 0; half < TILE_N; half += 8) {
            __m256 v[8];
            ES_UNROLL
            for (int i = 0; i < 8; i++)
                v[i] = half + i < rows ? load_upto(src + (half + i) * ld + p, k - p) : _mm256_setzero_ps();
            transpose8(v);
            ES_UNROLL
            for (int i = 0; i < 8; i++) _mm256_storeu_ps(dst + (p + i) * TILE_N + half, v[i]);
        }
    }
}

/* dst [k][16] <- src[k][j], j < cols <= 16 (others 0), stride ld. */
static inline void tile_copy(int64_t k, int64_t cols, const float *src, int64_t ld, float *dst) {
    for (int64_t p = 0; p < k; p++) {
        _mm256_storeu_ps(dst + p * TILE_N, load_upto(src + p * ld, cols));
        _mm256_storeu_ps(dst + p * TILE_N + 8, load_upto(src + p * ld + 8, cols - 8));
    }
}

ES_INLINE int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}
ES_INLINE int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#endif
