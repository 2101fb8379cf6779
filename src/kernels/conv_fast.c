/* Convolution by tiles (crnn_simd.h). Forward and dx are one correlation: 16 output positions in a row make a
 * panel; the input values that meet the taps there are gathered into [channel*tap][16], then met by the
 * packed weights. dw: the gradient's 16 channels make a panel [position][16], the gathered input gives the
 * rows.
 *
 * Attempts, GFLOP/s of one Zen 3 core in a noisy hour, 3x3:
 *   im2col and OpenBLAS sgemm, product alone: 1 -> 16 channels 20, 16 -> 32 61-75, 128 -> 128 72-73
 *   tiles, every tap masked: 1 -> 16 20, 16 -> 32 68, 128 -> 128 88
 *   and unmasked inside the image: 1 -> 16 28-45, 16 -> 32 72-79, 128 -> 128 66-90 (this file)
 *   dw with 9 gathered rows at a time: 37-69; with 18: 50-80 (this file); CHUNK 128 or 320: slower */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"

#define GROUP 4     /* panels that share a pass over the weights */
#define K_BLOCK 288 /* rows of a panel at a time: 18 KiB */
#define CHUNK 192   /* positions of a panel in dw */
#define DW_ROWS                                                                                              \
    18 /* at most so many gathered rows at a time in dw (one channel at least): full tiles for 3x3 */
#define MAX_GROUPS 32 /* partial sums of dw; fixed, so that the thread count does not change sums */

static int64_t out_h(const struct es_k_conv2d *s) {
    return s->H + 2 * s->pad_h - s->kh + 1;
}
static int64_t out_w(const struct es_k_conv2d *s) {
    return s->W + 2 * s->pad_w - s->kw + 1;
}
static int64_t taps(const struct es_k_conv2d *s) {
    return s->kh * s->kw;
}
static int64_t block_channels(const struct es_k_conv2d *s, int64_t rows) {
    int64_t n = rows / taps(s);
    return n < 1 ? 1 : least(n, s->C);
}

/* The convolution that gives dx from dy. */
static struct es_k_conv2d turned(const struct es_k_conv2d *s) {
    return (struct es_k_conv2d){.B = s->B,
                                .C = s->O,
                                .H = out_h(s),
                                .W = out_w(s),
                                .O = s->C,
                                .kh = s->kh,
                                .kw = s->kw,
                                .pad_h = s->kh - 1 - s->pad_h,
                                .pad_w = s->kw - 1 - s->pad_w};
}

/* Values of channels c0..c1-1 at output positions n0..n0+cols-1 (h*W'+w) of one clip, tap by tap:
 * dst[((c-c0)*taps + tap)*ld + column], zero outside the image and in columns cols..15. */
static void gather(const struct es_k_conv2d *s, const float *x, int64_t n0, int64_t cols, int64_t c0,
                   int64_t c1, float *dst, int64_t ld) {
    int32_t h[TILE_N], w[TILE_N];
    int64_t ow = out_w(s), row = n0 / ow, column = n0 % ow, plane = s->H * s->W, n_taps = taps(s);
    int64_t top = row - s->pad_h, left = column - s->pad_w;
    if (ow == s->W && cols == TILE_N && column + TILE_N <= ow && top >= 0 && top + s->kh <= s->H &&
        left >= 0 && left + TILE_N - 1 + s->kw <= s->W) { /* no tap leaves the image */
        for (int64_t c = c0; c < c1; c++)
            for (int64_t i = 0; i < s->kh; i++) {
                const float *from = x + c * plane + (top + i) * s->W + left;
                for (int64_t j = 0; j < s->kw; j++, dst += ld) {
                    _mm256_storeu_ps(dst, _mm256_loadu_ps(from + j));
                    _mm256_storeu_ps(dst + 8, _mm256_loadu_ps(from + j + 8));
                }
            }
        return;
    }
    for (int i = 0; i < TILE_N; i++) {
        h[i] = i < cols ? (int32_t)row : INT32_MIN / 2;
        w[i] = (int32_t)column;
        if (++column == ow) {
            column = 0;
            row++;
        }
    }
    __m256i vh[2], vw[2], minus = _mm256_set1_epi32(-1);
    for (int half = 0; half < 2; half++) {
        vh[half] = _mm256_loadu_si256((const __m256i *)(const void *)(h + 8 * half));
        vw[half] = _mm256_loadu_si256((const __m256i *)(const void *)(w + 8 * half));
    }
    __m256i nh = _mm256_set1_epi32((int)s->H), nw = _mm256_set1_epi32((int)s->W);
    for (int64_t i = 0; i < s->kh; i++)
        for (int64_t j = 0; j < s->kw; j++) {
            __m256i mask[2], at[2];
            for (int half = 0; half < 2; half++) {
                __m256i p = _mm256_add_epi32(vh[half], _mm256_set1_epi32((int)(i - s->pad_h)));
                __m256i q = _mm256_add_epi32(vw[half], _mm256_set1_epi32((int)(j - s->pad_w)));
                mask[half] = _mm256_and_si256(
                    _mm256_and_si256(_mm256_cmpgt_epi32(nh, p), _mm256_cmpgt_epi32(p, minus)),
                    _mm256_and_si256(_mm256_cmpgt_epi32(nw, q), _mm256_cmpgt_epi32(q, minus)));
                at[half] = _mm256_add_epi32(_mm256_mullo_epi32(p, nw), q);
            }
            float *to = dst + (i * s->kw + j) * ld;
            if (ow != s->W) { /* rows of input and output differ in length: addresses lane by lane */
                for (int64_t c = c0; c < c1; c++, to += n_taps * ld)
                    for (int half = 0; half < 2; half++)
                        _mm256_storeu_ps(to + 8 * half, _mm256_mask_i32gather_ps(
                                                            _mm256_setzero_ps(), x + c * plane, at[half],
                                                            _mm256_castsi256_ps(mask[half]), 4));
                continue;
            }
            const float *from = x + c0 * plane + (n0 + (i - s->pad_h) * s->W + j - s->pad_w);
            if (_mm256_movemask_epi8(_mm256_and_si256(mask[0], mask[1])) == -1) {
                for (int64_t c = c0; c < c1; c++, from += plane, to += n_taps * ld) {
                    _mm256_storeu_ps(to, _mm256_loadu_ps(from));
                    _mm256_storeu_ps(to + 8, _mm256_loadu_ps(from + 8));
                }
            } else {
                for (int64_t c = c0; c < c1; c++, from += plane, to += n_taps * ld) {
                    _mm256_storeu_ps(to, _mm256_maskload_ps(from, mask[0]));
                    _mm256_storeu_ps(to + 8, _mm256_maskload_ps(from + 8, mask[1]));
                }
            }
        }
}

/* y (+)= bias + packed weights a [O, C*taps] over x. panels: per thread GROUP*K rows of 16. */
static void correlate(const struct es_k_conv2d *s, const float *x, const float *a, const float *bias,
                      float *y, bool add, float *panels) {
    int64_t N = out_h(s) * out_w(s), K = s->C * taps(s), cb = block_channels(s, K_BLOCK);
    int64_t per_clip = (N + GROUP * TILE_N - 1) / (GROUP * TILE_N);
#pragma omp parallel for schedule(static) if (s->B * N * K * s->O > 1 << 18)
    for (int64_t item = 0; item < s->B * per_clip; item++) {
        const float *clip = x + item / per_clip * s->C * s->H * s->W;
        float *out = y + item / per_clip * s->O * N,
              *mine = panels + omp_get_thread_num() * GROUP * cb * taps(s) * TILE_N;
        int64_t first = item % per_clip * GROUP * TILE_N, last = least(first + GROUP * TILE_N, N);
        for (int64_t c0 = 0; c0 < s->C; c0 += cb) {
            int64_t c1 = least(c0 + cb, s->C), k = (c1 - c0) * taps(s);
            for (int64_t n = first; n < last; n += TILE_N) {
                int64_t cols = least(TILE_N, last - n);
                gather(s, clip, n, cols, c0, c1, mine, TILE_N);
                tile_packed(s->O, K, c0 * taps(s), k, a, mine, c0 == 0 ? bias : NULL, out + n, N, cols,
                            add || c0 > 0);
            }
        }
    }
}

static size_t correlate_ws(const struct es_k_conv2d *s) { /* floats: weights packed, panels */
    return (size_t)(s->O * s->C * taps(s)) +
           (size_t)(es_kernel_threads() * GROUP * block_channels(s, K_BLOCK) * taps(s) * TILE_N) + 64;
}

static int64_t dw_groups(const struct es_k_conv2d *s) {
    return least(s->B, MAX_GROUPS);
}

static size_t dw_ws(const struct es_k_conv2d *s) {
    int64_t o = round_up(s->O, TILE_N), rows = block_channels(s, DW_ROWS) * taps(s);
    return (size_t)(dw_groups(s) * o * (s->C * taps(s) + 2) + es_kernel_threads() * CHUNK * (o + rows));
}

size_t es_k_conv2d_ws(const struct es_k_conv2d *s) {
    struct es_k_conv2d t = turned(s);
    size_t n = correlate_ws(s), m = correlate_ws(&t) + (size_t)(s->O * s->C * taps(s)), d = dw_ws(s);
    n = n > m ? n : m;
    return (n > d ? n : d) * sizeof(float);
}

void es_k_conv2d_fwd_fast(const struct es_k_conv2d *s, const float *x, const float *w, const float *b,
                          float *y, void *ws) {
    int64_t K = s->C * taps(s);
    float *a = ws, *panels = a + round_up(s->O * K, 16);
    tile_pack_rows(s->O, K, w, K, 1, a);
    correlate(s, x, a, b, y, false, panels);
}

void es_k_conv2d_dx_fast(const struct es_k_conv2d *s, const float *w, const float *dy, float *dx, bool add_dx,
                         void *ws) {
    struct es_k_conv2d t = turned(s);
    int64_t n = taps(s), K = s->O * n;
    float *v = ws, *a = v + round_up(s->C * K, 16), *panels = a + round_up(s->C * K, 16);
    for (int64_t c = 0; c < s->C; c++)
        for (int64_t o = 0; o < s->O; o++)
            for (int64_t i = 0; i < n; i++) v[(c * s->O + o) * n + i] = w[(o * s->C + c) * n + n - 1 - i];
    tile_pack_rows(s->C, K, v, K, 1, a);
    correlate(&t, dy, a, NULL, dx, add_dx, panels);
}

/* Sums of one group of clips: part [C*taps][o16], bias [o16] in double. buffer: CHUNK*(o16 + rows) floats. */
static void dw_group(const struct es_k_conv2d *s, const float *x, const float *dy, int64_t clip0,
                     int64_t clip1, int64_t c_from, int64_t c_to, float *part, double *bias, float *buffer) {
    int64_t N = out_h(s) * out_w(s), o16 = round_up(s->O, TILE_N), n_taps = taps(s),
            cb = block_channels(s, DW_ROWS);
    float *panel = buffer, *rows = buffer + CHUNK * o16;
    memset(part + c_from * n_taps * o16, 0, (size_t)((c_to - c_from) * n_taps * o16) * sizeof *part);
    if (bias) memset(bias, 0, (size_t)o16 * sizeof *bias);
    for (int64_t b = clip0; b < clip1; b++)
        for (int64_t n0 = 0; n0 < N; n0 += CHUNK) {
            int64_t n = least(CHUNK, N - n0);
            for (int64_t o = 0; o < s->O; o += TILE_N) {
                float *p = panel + o * CHUNK;
                tile_transpose(least(TILE_N, s->O - o), n, dy + (b * s->O + o) * N + n0, N, p);
                if (!bias) continue;
                __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
                for (int64_t i = 0; i < n; i++) {
                    sum[0] = _mm256_add_ps(sum[0], _mm256_loadu_ps(p + i * TILE_N));
                    sum[1] = _mm256_add_ps(sum[1], _mm256_loadu_ps(p + i * TILE_N + 8));
                }
                for (int half = 0; half < 2; half++) {
                    double *to = bias + o + 8 * half;
                    _mm256_storeu_pd(to, _mm256_add_pd(_mm256_loadu_pd(to), low4d(sum[half])));
                    _mm256_storeu_pd(to + 4, _mm256_add_pd(_mm256_loadu_pd(to + 4), high4d(sum[half])));
                }
            }
            for (int64_t c0 = c_from; c0 < c_to; c0 += cb) {
                int64_t c1 = least(c0 + cb, c_to);
                for (int64_t i = 0; i < n; i += TILE_N)
                    gather(s, x + b * s->C * s->H * s->W, n0 + i, least(TILE_N, n - i), c0, c1, rows + i,
                           CHUNK);
                for (int64_t o = 0; o < s->O; o += TILE_N)
                    tile_plain((c1 - c0) * n_taps, n, rows, CHUNK, panel + o * CHUNK, NULL,
                               part + c0 * n_taps * o16 + o, o16, TILE_N, true);
            }
        }
}

void es_k_conv2d_dw_fast(const struct es_k_conv2d *s, const float *x, const float *dy, float *dw, bool add_dw,
                         float *db, bool add_db, void *ws) {
    int64_t n_taps = taps(s), K = s->C * n_taps, o16 = round_up(s->O, TILE_N), groups = dw_groups(s);
    int64_t cb = block_channels(s, DW_ROWS), per_thread = CHUNK * (o16 + cb * n_taps);
    float *buffers = ws, *part = buffers + es_kernel_threads() * per_thread;
    double *bias = (double *)(void *)(part + groups * K * o16);
    /* more threads than groups: cut channels as well, which changes no sum */
    int64_t cuts = least((es_kernel_threads() + groups - 1) / groups, (s->C + cb - 1) / cb);
    int64_t channels = dw ? s->C : 0, step = round_up((channels + cuts - 1) / cuts, cb);
#pragma omp parallel for schedule(static) if (s->B * out_h(s) * out_w(s) * K * s->O > 1 << 18)
    for (int64_t item = 0; item < groups * cuts; item++) {
        int64_t g = item / cuts, cut = item % cuts;
        dw_group(s, x, dy, g * s->B / groups, (g + 1) * s->B / groups, least(cut * step, channels),
                 least((cut + 1) * step, channels), part + g * K * o16,
                 db && cut == 0 ? bias + g * o16 : NULL, buffers + omp_get_thread_num() * per_thread);
    }
    for (int64_t o = 0; db && o < s->O; o++) {
        double sum = add_db ? (double)db[o] : 0.0;
        for (int64_t g = 0; g < groups; g++) sum += bias[g * o16 + o];
        db[o] = (float)sum;
    }
    if (!dw) return;
#pragma omp parallel for schedule(static) if (groups * K * s->O > 1 << 16)
    for (int64_t o = 0; o < s->O; o++)
        for (int64_t k = 0; k < K; k++) {
            double sum = add_dw ? (double)dw[o * K + k] : 0.0;
            for (int64_t g = 0; g < groups; g++) sum += (double)part[(g * K + k) * o16 + o];
            dw[o * K + k] = (float)sum;
        }
}
