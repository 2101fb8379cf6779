/* Convolution by tiles (crnn_simd.h); forward and dx of 3x3 with many channels go to winograd_fast.c. Forward and dx are one
 * correlation: 16 output positions in a row make a panel; the input values that meet the taps there are gathered into
 * [channel*tap][16], then met by the packed weights. dx of a strided convolution is one correlation for each phase of the stride.
 * dw: the gradient's 16 channels make a panel [position][16], the gathered input gives the rows.
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
#define DW_ROWS 18 /* at most so many gathered rows at a time in dw, at least a channel: full tiles for 3x3 */
#define MAX_GROUPS 32 /* partial sums of dw; fixed, so that the thread count does not change sums */

/* A correlation whose padding may differ at the two ends: the output's size says where it stops. */
struct shape {
    int64_t B, C, H, W, O, kh, kw, pad_h, pad_w, step_h, step_w, oh, ow;
};

static struct shape shape_of(const struct es_k_conv2d *s) {
    return (struct shape){.B = s->B,
                          .C = s->C,
                          .H = s->H,
                          .W = s->W,
                          .O = s->O,
                          .kh = s->kh,
                          .kw = s->kw,
                          .pad_h = s->pad_h,
                          .pad_w = s->pad_w,
                          .step_h = s->stride_h,
                          .step_w = s->stride_w,
                          .oh = es_k_conv2d_out_h(s),
                          .ow = es_k_conv2d_out_w(s)};
}

static int64_t taps(const struct shape *s) {
    return s->kh * s->kw;
}
static int64_t block_channels(const struct shape *s, int64_t rows) {
    int64_t n = rows / taps(s);
    return n < 1 ? 1 : least(n, s->C);
}

/* Along one axis, the positions phase, phase + step, ... of dx are a correlation with step 1: of dy with every step-th tap of
 * w, turned around. */
struct axis {
    int64_t first, taps, pad, out; /* first tap of w, how many, padding before, positions */
};

static struct axis phase_axis(int64_t k, int64_t pad, int64_t step, int64_t in, int64_t phase) {
    struct axis a = {.first = (phase + pad) % step, .out = (in - phase + step - 1) / step};
    if (a.first < k) a.taps = (k - a.first + step - 1) / step;
    a.pad = a.taps - 1 - (phase + pad - a.first) / step;
    return a;
}

static struct shape phase_shape(const struct shape *s, const struct axis *h, const struct axis *w) {
    return (struct shape){.B = s->B,
                          .C = s->O,
                          .H = s->oh,
                          .W = s->ow,
                          .O = s->C,
                          .kh = h->taps,
                          .kw = w->taps,
                          .pad_h = h->pad,
                          .pad_w = w->pad,
                          .step_h = 1,
                          .step_w = 1,
                          .oh = h->out,
                          .ow = w->out};
}

/* Values of channels c0..c1-1 at output positions n0..n0+cols-1 (h*W'+w) of one clip, tap by tap:
 * dst[((c-c0)*taps + tap)*ld + column], zero outside the image and in columns cols..15. */
static void gather(const struct shape *s, const float *x, int64_t n0, int64_t cols, int64_t c0, int64_t c1,
                   float *dst, int64_t ld) {
    int32_t h[TILE_N], w[TILE_N];
    int64_t ow = s->ow, row = n0 / ow, column = n0 % ow, plane = s->H * s->W, n_taps = taps(s);
    int64_t top = row - s->pad_h, left = column - s->pad_w;
    bool in_rows =
        ow == s->W && s->step_h == 1 && s->step_w == 1; /* positions side by side have inputs side by side */
    if (in_rows && cols == TILE_N && column + TILE_N <= ow && top >= 0 && top + s->kh <= s->H && left >= 0 &&
        left + TILE_N - 1 + s->kw <= s->W) { /* no tap leaves the image */
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
        h[i] = i < cols ? (int32_t)(row * s->step_h) : INT32_MIN / 2;
        w[i] = (int32_t)(column * s->step_w);
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
            if (!in_rows) { /* addresses lane by lane */
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
static void correlate(const struct shape *s, const float *x, const float *a, const float *bias, float *y,
                      bool add, float *panels) {
    int64_t N = s->oh * s->ow, K = s->C * taps(s), cb = block_channels(s, K_BLOCK);
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

static size_t correlate_ws(const struct shape *s) { /* floats: weights packed, panels */
    return (size_t)(s->O * s->C * taps(s)) +
           (size_t)(es_kernel_threads() * GROUP * block_channels(s, K_BLOCK) * taps(s) * TILE_N) + 64;
}

static int64_t dw_groups(const struct shape *s) {
    return least(s->B, MAX_GROUPS);
}

static size_t dw_ws(const struct shape *s) {
    int64_t o = round_up(s->O, TILE_N), rows = block_channels(s, DW_ROWS) * taps(s);
    return (size_t)(dw_groups(s) * o * (s->C * taps(s) + 2) + es_kernel_threads() * CHUNK * (o + rows));
}

/* One phase of dx at a time: weights turned, packed, panels, and with a step the phase itself. */
static size_t dx_ws(const struct shape *s) {
    struct axis h = {.taps = (s->kh + s->step_h - 1) / s->step_h},
                w = {.taps = (s->kw + s->step_w - 1) / s->step_w};
    struct shape t = phase_shape(s, &h, &w);
    size_t phase =
        (size_t)(s->B * s->C * ((s->H + s->step_h - 1) / s->step_h) * ((s->W + s->step_w - 1) / s->step_w));
    return correlate_ws(&t) + (size_t)(s->O * s->C * taps(&t)) + (s->step_h * s->step_w > 1 ? phase + 16 : 0);
}

/* Where it fits, forward and dx go another way. */
static bool winograd_of(const struct es_k_conv2d *s, bool dx, bool add, struct es_winograd *out) {
    *out = (struct es_winograd){s->B, dx ? s->O : s->C, s->H, s->W, dx ? s->C : s->O, dx, add};
    return s->kh == 3 && s->kw == 3 && s->pad_h == 1 && s->pad_w == 1 && s->stride_h == 1 &&
           s->stride_w == 1 && es_winograd_fits(out);
}

size_t es_k_conv2d_ws(const struct es_k_conv2d *conv) {
    struct shape s = shape_of(conv);
    struct es_winograd wino;
    size_t n = correlate_ws(&s), m = dx_ws(&s), d = dw_ws(&s);
    n = n > m ? n : m;
    n = (n > d ? n : d) * sizeof(float);
    for (int dx = 0; dx < 2; dx++)
        if (winograd_of(conv, dx, false, &wino) && es_winograd_ws(&wino) > n) n = es_winograd_ws(&wino);
    return n;
}

void es_k_conv2d_fwd_fast(const struct es_k_conv2d *conv, const float *x, const float *w, const float *b,
                          float *y, void *ws) {
    struct shape s = shape_of(conv);
    struct es_winograd wino;
    if (winograd_of(conv, false, false, &wino)) {
        es_winograd(&wino, x, w, b, y, ws);
        return;
    }
    int64_t K = s.C * taps(&s);
    float *a = ws, *panels = a + round_up(s.O * K, 16);
    tile_pack_rows(s.O, K, w, K, 1, a);
    correlate(&s, x, a, b, y, false, panels);
}

/* dx [B*C,H,W] at phase (p,q) from the phase's own rows; from NULL: zeros. */
static void put_phase(const struct shape *s, const struct axis *h, const struct axis *w, int64_t p, int64_t q,
                      const float *from, float *dx, bool add) {
#pragma omp parallel for schedule(static) if (s->B * s->C * h->out * w->out > 1 << 16)
    for (int64_t r = 0; r < s->B * s->C * h->out; r++) {
        float *to = dx + (r / h->out * s->H + r % h->out * s->step_h + p) * s->W + q;
        for (int64_t v = 0; v < w->out; v++) {
            float g = from ? from[r * w->out + v] : 0.0f;
            to[v * s->step_w] = add ? to[v * s->step_w] + g : g;
        }
    }
}

static void dx_phase(const struct shape *s, int64_t p, int64_t q, const float *w, const float *dy, float *dx,
                     bool add, float *ws) {
    struct axis h = phase_axis(s->kh, s->pad_h, s->step_h, s->H, p),
                v = phase_axis(s->kw, s->pad_w, s->step_w, s->W, q);
    struct shape t = phase_shape(s, &h, &v);
    bool whole = s->step_h * s->step_w == 1;
    int64_t n = taps(&t), K = s->O * n;
    if (n == 0) {
        put_phase(s, &h, &v, p, q, NULL, dx, add);
        return;
    }
    float *turned = ws, *a = turned + round_up(s->C * K, 16), *rows = a + round_up(s->C * K, 16),
          *panels = rows + (whole ? 0 : round_up(s->B * s->C * h.out * v.out, 16));
    for (int64_t c = 0; c < s->C; c++)
        for (int64_t o = 0; o < s->O; o++)
            for (int64_t k = 0; k < n; k++) {
                int64_t i = h.first + (h.taps - 1 - k / v.taps) * s->step_h,
                        j = v.first + (v.taps - 1 - k % v.taps) * s->step_w;
                turned[(c * s->O + o) * n + k] = w[((o * s->C + c) * s->kh + i) * s->kw + j];
            }
    tile_pack_rows(s->C, K, turned, K, 1, a);
    correlate(&t, dy, a, NULL, whole ? dx : rows, whole && add, panels);
    if (!whole) put_phase(s, &h, &v, p, q, rows, dx, add);
}

void es_k_conv2d_dx_fast(const struct es_k_conv2d *conv, const float *w, const float *dy, float *dx,
                         bool add_dx, void *ws) {
    struct shape s = shape_of(conv);
    struct es_winograd wino;
    if (winograd_of(conv, true, add_dx, &wino)) {
        es_winograd(&wino, dy, w, NULL, dx, ws);
        return;
    }
    for (int64_t p = 0; p < least(s.step_h, s.H); p++)
        for (int64_t q = 0; q < least(s.step_w, s.W); q++) dx_phase(&s, p, q, w, dy, dx, add_dx, ws);
}

/* Sums of one group of clips: part [C*taps][o16], bias [o16] in double. buffer: CHUNK*(o16 + rows) floats. */
static void dw_group(const struct shape *s, const float *x, const float *dy, int64_t clip0, int64_t clip1,
                     int64_t c_from, int64_t c_to, float *part, double *bias, float *buffer) {
    int64_t N = s->oh * s->ow, o16 = round_up(s->O, TILE_N), n_taps = taps(s),
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

void es_k_conv2d_dw_fast(const struct es_k_conv2d *conv, const float *x, const float *dy, float *dw,
                         bool add_dw, float *db, bool add_db, void *ws) {
    struct shape shape = shape_of(conv), *s = &shape;
    int64_t n_taps = taps(s), K = s->C * n_taps, o16 = round_up(s->O, TILE_N), groups = dw_groups(s);
    int64_t cb = block_channels(s, DW_ROWS), per_thread = CHUNK * (o16 + cb * n_taps);
    float *buffers = ws, *part = buffers + es_kernel_threads() * per_thread;
    double *bias = (double *)(void *)(part + groups * K * o16);
    /* more threads than groups: cut channels as well, which changes no sum */
    int64_t cuts = least((es_kernel_threads() + groups - 1) / groups, (s->C + cb - 1) / cb);
    int64_t channels = dw ? s->C : 0, step = round_up((channels + cuts - 1) / cuts, cb);
#pragma omp parallel for schedule(static) if (s->B * s->oh * s->ow * K * s->O > 1 << 18)
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
