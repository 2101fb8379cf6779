/* Batch normalisation, gate, dropout and average pooling in one walk over x: a strip of rows of all channels is brought into
 * cache, and of the maps between the steps only what backward reads (keep) goes to memory. The statistics need a walk of their
 * own before it, and the normalisation's gradient one behind.
 *
 * One Zen 3 core, 14 clips [8,626,128], forward + backward of the four operations one by one: 18 passes over memory, 130 ms; this
 * file: 9 passes. Sums of a plane are doubles, added strip by strip, then clip by clip; gradients of the gate's weights are
 * summed in a fixed number of groups of clips: nothing depends on the number of threads. */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"
#include "impl.h"

#define MAX_GROUPS 32      /* partial sums of dw */
#define STRIP_VALUES 16384 /* about so many values of a strip, all channels together */

/* How planes are cut: strips of `rows` rows, `width` values apart in buffers. Rows that no window holds are in no strip. */
struct strips {
    int64_t rows, width, n, used; /* used: rows inside windows */
};

static struct strips strips_of(const struct es_k_tail *s) {
    int64_t values = STRIP_VALUES / s->C, used = s->H / s->kh * s->kh, rows;
    if (values < 64) values = 64;
    rows = values / (s->W * s->kh) * s->kh;
    if (rows < s->kh) rows = s->kh;
    rows = least(rows, used);
    return (struct strips){rows, round_up(rows * s->W, TILE_N), (used + rows - 1) / rows, used};
}

static int64_t groups_of(const struct es_k_tail *s) {
    return least(s->B, MAX_GROUPS);
}

/* Floats a thread needs: three strips of all channels, a row and its factors, panels. */
static int64_t per_thread(const struct es_k_tail *s) {
    int64_t width = strips_of(s).width, c16 = round_up(s->C, TILE_N);
    return 3 * c16 * width + 2 * (width + 48) + TILE_N * (c16 + width);
}

size_t es_k_tail_ws(const struct es_k_tail *s) {
    int64_t c16 = round_up(s->C, TILE_N);
    return (size_t)(2 * s->B * s->C + groups_of(s) * c16) * sizeof(double) +
           (size_t)(c16 * c16 + groups_of(s) * s->C * c16 + es_kernel_threads() * per_thread(s)) *
               sizeof(float);
}

/* sums[0] = sum of x, sums[1] = sum of squares: exact products, in double. */
static void plane_sums(int64_t n, const float *x, double sums[2]) {
    __m256d s[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()},
            q[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = load_upto(x + i, n - i);
        __m256d a = low4d(v), b = high4d(v);
        s[0] = _mm256_add_pd(s[0], a);
        s[1] = _mm256_add_pd(s[1], b);
        q[0] = _mm256_fmadd_pd(a, a, q[0]);
        q[1] = _mm256_fmadd_pd(b, b, q[1]);
    }
    sums[0] = sum4d(_mm256_add_pd(s[0], s[1]));
    sums[1] = sum4d(_mm256_add_pd(q[0], q[1]));
}

/* total[2] of channel c, clips in order */
static void channel_sums(const struct es_k_tail *s, const double *sums, int64_t c, double total[2]) {
    total[0] = total[1] = 0;
    for (int64_t b = 0; b < s->B; b++)
        for (int k = 0; k < 2; k++) total[k] += sums[2 * (b * s->C + c) + k];
}

/* One pass for mean and variance: sums of floats and of their squares in double lose nothing that matters while mean/deviation
 * stays below 1e6. */
static void statistics(const struct es_k_tail *s, const float *x, float *mean, float *rstd, float *unbiased,
                       double *sums) {
    int64_t N = s->H * s->W;
    double n = (double)(s->B * N);
#pragma omp parallel for schedule(static) if (s->B * s->C * N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++) plane_sums(N, x + plane * N, sums + 2 * plane);
    for (int64_t c = 0; c < s->C; c++) {
        double total[2];
        channel_sums(s, sums, c, total);
        double m = total[0] / n, sq = total[1] - total[0] * m;
        if (sq < 0) sq = 0;
        mean[c] = (float)m;
        rstd[c] = (float)(1.0 / sqrt(sq / n + s->eps));
        unbiased[c] = (float)(sq / (n - 1.0));
    }
}

/* What a strip of one clip needs, forward and backward. */
struct strip {
    const struct es_k_tail *s;
    int64_t width, cols, rows, at; /* at: index of its first value in channel 0 */
    int64_t out_at;                /* the same of y */
    float *a, *b, *c;              /* [C][width] each */
    float *row, *factors, *panel, *turned;
};

static struct strip strip_at(const struct es_k_tail *s, const struct strips *g, int64_t clip, int64_t index,
                             float *buffer) {
    int64_t c16 = round_up(s->C, TILE_N), row0 = index * g->rows, rows = least(g->rows, g->used - row0);
    struct strip t = {.s = s, .width = g->width, .cols = rows * s->W, .rows = rows};
    t.at = clip * s->C * s->H * s->W + row0 * s->W;
    t.out_at = clip * s->C * (s->H / s->kh) * (s->W / s->kw) + row0 / s->kh * (s->W / s->kw);
    t.a = buffer;
    t.b = t.a + c16 * g->width;
    t.c = t.b + c16 * g->width;
    t.panel = t.c + c16 * g->width;
    t.turned = t.panel + TILE_N * c16;
    t.row = t.turned + TILE_N * g->width;
    t.factors = t.row + g->width + 48;
    return t;
}

/* Dropout of channel c's row, in place. */
static void drop(const struct strip *t, int64_t c, float *row) {
    if (t->s->p == 0) return;
    int64_t first = t->at + c * t->s->H * t->s->W, skip = first % 4;
    es_dropout_factors(&t->s->rng, first - skip, t->cols + skip, t->s->p, t->factors);
    const float *f = t->factors + skip;
    for (int64_t i = 0; i < t->cols; i += 8) /* buffers are padded */
        _mm256_storeu_ps(row + i, _mm256_mul_ps(_mm256_loadu_ps(row + i), _mm256_loadu_ps(f + i)));
}

/* out[i] = (in[2i] + in[2i+1]) scale, or of two rows; n of them, in padded. */
ES_INLINE void pool_pairs(bool two, int64_t n, float scale, const float *in, const float *below, float *out) {
    __m256 by = _mm256_set1_ps(scale);
    for (int64_t i = 0; i < n; i += 8) {
        __m256 p = _mm256_loadu_ps(in + 2 * i), q = _mm256_loadu_ps(in + 2 * i + 8);
        if (two) {
            p = _mm256_add_ps(p, _mm256_loadu_ps(below + 2 * i));
            q = _mm256_add_ps(q, _mm256_loadu_ps(below + 2 * i + 8));
        }
        __m256 sum = _mm256_castpd_ps(
            _mm256_permute4x64_pd(_mm256_castps_pd(_mm256_hadd_ps(p, q)), _MM_SHUFFLE(3, 1, 2, 0)));
        store_upto(out + i, n - i, _mm256_mul_ps(sum, by));
    }
}

static void pool(const struct strip *t, const float *v, float *y) {
    const struct es_k_tail *s = t->s;
    int64_t W = s->W, ow = W / s->kw;
    float scale = 1.0f / (float)(s->kh * s->kw);
    if (s->kw == 2 && s->kh == 1 && W % 2 == 0) { /* rows follow each other without a gap */
        pool_pairs(false, t->rows * ow, scale, v, NULL, y);
        return;
    }
    for (int64_t r = 0; r < t->rows; r += s->kh, v += s->kh * W, y += ow) {
        if (s->kw == 2 && s->kh == 2) {
            pool_pairs(true, ow, scale, v, v + W, y);
            continue;
        }
        for (int64_t j = 0; j < ow; j++) {
            float sum = 0.0f;
            for (int64_t i = 0; i < s->kh; i++)
                for (int64_t k = 0; k < s->kw; k++) sum += v[i * W + j * s->kw + k];
            y[j] = sum * scale;
        }
    }
}

/* v [cols] <- the gradient of every value of the windows. */
static void unpool(const struct strip *t, const float *dy, float *v) {
    const struct es_k_tail *s = t->s;
    int64_t W = s->W, ow = W / s->kw;
    float scale = 1.0f / (float)(s->kh * s->kw);
    for (int64_t r = 0; r < t->rows; r += s->kh, v += s->kh * W, dy += ow) {
        if (s->kw == 2) {
#pragma omp simd
            for (int64_t j = 0; j < ow; j++) v[2 * j] = v[2 * j + 1] = dy[j] * scale;
        } else {
            for (int64_t j = 0; j < ow; j++)
                for (int64_t k = 0; k < s->kw; k++) v[j * s->kw + k] = dy[j] * scale;
        }
        for (int64_t j = ow * s->kw; j < W; j++) v[j] = 0.0f;
        for (int64_t i = 1; i < s->kh; i++) memcpy(v + i * W, v, (size_t)W * sizeof *v);
    }
}

struct normal { /* of a channel: (x - mean) scale + shift */
    __m256 mean, scale, shift;
};
ES_INLINE struct normal normal_of(const float *const w[4], const float *mean, const float *rstd, int64_t c) {
    return (struct normal){_mm256_set1_ps(mean[c]), _mm256_set1_ps(rstd[c] * w[0][c]),
                           _mm256_set1_ps(w[1][c])};
}
ES_INLINE __m256 normal8(const struct normal *n, __m256 x) {
    return _mm256_add_ps(_mm256_mul_ps(_mm256_sub_ps(x, n->mean), n->scale), n->shift);
}

/* The next strip of a plane lies behind this one: it is asked for while this one is computed. */
ES_INLINE void ask_ahead(const float *p, int64_t i, int64_t cols) {
    if (i % TILE_N == 0) _mm_prefetch((const char *)(p + i + cols), _MM_HINT_T0);
}

/* a: panels of normalised values [column block][C][16]; b: panels of the linear part. */
static void forward_strip(const struct strip *t, const float *packed, const float *x, const float *const w[4],
                          const float *mean, const float *rstd, float *y, float *keep) {
    const struct es_k_tail *s = t->s;
    int64_t C = s->C, N = s->H * s->W, out = (s->H / s->kh) * (s->W / s->kw), block = C * TILE_N;
    for (int64_t c = 0; c < C; c++) {
        struct normal n = normal_of(w, mean, rstd, c);
        const float *from = x + t->at + c * N;
        float *to = t->a + c * TILE_N;
        for (int64_t i = 0; i < t->cols; i += TILE_N, to += block) {
            ask_ahead(from, i, t->cols);
            _mm256_storeu_ps(to, normal8(&n, load_upto(from + i, t->cols - i)));
            _mm256_storeu_ps(to + 8, normal8(&n, load_upto(from + i + 8, t->cols - i - 8)));
        }
    }
    for (int64_t i = 0; i < t->cols; i += TILE_N)
        tile_packed(C, C, 0, C, packed, t->a + i / TILE_N * block, w[3], t->b + i / TILE_N * block, TILE_N,
                    TILE_N, false);
    for (int64_t c = 0; c < C; c++) {
        float *kept = keep ? keep + t->at + c * N : NULL;
        const float *a = t->a + c * TILE_N, *b = t->b + c * TILE_N;
        for (int64_t i = 0; i < t->cols; i += TILE_N, a += block, b += block) {
            __m256 v[2], l[2], g[2];
            ES_UNROLL
            for (int k = 0; k < 2; k++) { /* two at a time: the division takes long */
                v[k] = _mm256_loadu_ps(a + 8 * k);
                l[k] = _mm256_loadu_ps(b + 8 * k);
                g[k] = sigmoid8(s->glu ? v[k] : l[k]);
            }
            ES_UNROLL
            for (int k = 0; k < 2; k++) {
                _mm256_storeu_ps(t->row + i + 8 * k, _mm256_mul_ps(s->glu ? l[k] : v[k], g[k]));
                if (kept) store_upto(kept + i + 8 * k, t->cols - i - 8 * k, s->glu ? l[k] : g[k]);
            }
        }
        drop(t, c, t->row);
        pool(t, t->row, y + t->out_at + c * out);
    }
}

void es_k_tail_fwd_fast(const struct es_k_tail *s, const float *x, const float *const w[4],
                        const float *const running[2], float *mean, float *rstd, float *unbiased, float *y,
                        float *keep, void *ws) {
    int64_t C = s->C, c16 = round_up(C, TILE_N);
    struct strips g = strips_of(s);
    double *sums = ws;
    float *packed = (float *)(void *)(sums + 2 * s->B * C), *buffers = packed + c16 * c16;
    if (s->train)
        statistics(s, x, mean, rstd, unbiased, sums);
    else
        for (int64_t c = 0; c < C; c++) {
            mean[c] = running[0][c];
            rstd[c] = (float)(1.0 / sqrt((double)running[1][c] + s->eps));
        }
    tile_pack_rows(C, C, w[2], C, 1, packed);
#pragma omp parallel for schedule(static) if (s->B * C * s->H * s->W > 1 << 14)
    for (int64_t item = 0; item < s->B * g.n; item++) {
        struct strip t =
            strip_at(s, &g, item / g.n, item % g.n, buffers + omp_get_thread_num() * per_thread(s));
        forward_strip(&t, packed, x, w, mean, rstd, y, keep);
    }
}

struct sums {     /* of a group of clips */
    float *dw;    /* [C][c16] */
    double *db;   /* [C] */
    double *norm; /* [2] a plane: sum of d, sum of d (x - mean) */
};

/* a: normalised values, b: gradient of the linear part, c: gradient of the normalised values; all by rows. */
static void backward_strip(const struct strip *t, const float *packed, const float *x,
                           const float *const w[4], const float *mean, const float *rstd, const float *keep,
                           const float *dy, float *dx, int64_t clip, const struct sums *sums) {
    const struct es_k_tail *s = t->s;
    int64_t C = s->C, N = s->H * s->W, out = (s->H / s->kh) * (s->W / s->kw), c16 = round_up(C, TILE_N);
    __m256 one = _mm256_set1_ps(1.0f);
    for (int64_t c = 0; c < C; c++) {
        struct normal n = normal_of(w, mean, rstd, c);
        const float *from = x + t->at + c * N, *kept = keep + t->at + c * N;
        float *a = t->a + c * t->width, *b = t->b + c * t->width, *d = t->c + c * t->width;
        unpool(t, dy + t->out_at + c * out, t->row);
        drop(t, c, t->row);
        for (int64_t i = t->cols; i < t->width; i++) t->row[i] = 0.0f;
        __m256 sum = _mm256_setzero_ps();
        for (int64_t i = 0; i < t->cols; i += 8) {
            ask_ahead(from, i, t->cols);
            ask_ahead(kept, i, t->cols);
            __m256 v = normal8(&n, load_upto(from + i, t->cols - i)), k = load_upto(kept + i, t->cols - i);
            __m256 up = _mm256_loadu_ps(t->row + i), g = s->glu ? sigmoid8(v) : k;
            __m256 slope = _mm256_mul_ps(g, _mm256_sub_ps(one, g)), other = s->glu ? k : v;
            __m256 through_gate = _mm256_mul_ps(_mm256_mul_ps(up, other), slope),
                   through_value = _mm256_mul_ps(up, g);
            __m256 linear = s->glu ? through_value : through_gate;
            _mm256_storeu_ps(a + i, v);
            _mm256_storeu_ps(b + i, linear);
            _mm256_storeu_ps(d + i, s->glu ? through_gate : through_value);
            sum = _mm256_add_ps(sum, linear);
        }
        sums->db[c] += sum4d(_mm256_add_pd(low4d(sum), high4d(sum)));
    }
    for (int64_t i = 0; i < t->cols; i += TILE_N) {
        tile_copy(C, least(TILE_N, t->cols - i), t->b + i, t->width, t->panel);
        tile_packed(C, C, 0, C, packed, t->panel, NULL, t->c + i, t->width, TILE_N, true);
    }
    for (int64_t k = 0; k < C; k += TILE_N) {
        tile_transpose(least(TILE_N, C - k), t->cols, t->a + k * t->width, t->width, t->turned);
        tile_plain(C, t->cols, t->b, t->width, t->turned, NULL, sums->dw + k, c16, TILE_N, true);
    }
    for (int64_t c = 0; c < C; c++) {
        const float *from = x + t->at + c * N, *d = t->c + c * t->width;
        float *to = dx + t->at + c * N;
        double *norm = sums->norm + 2 * (clip * C + c);
        __m256d m = _mm256_set1_pd((double)mean[c]), one_sum = _mm256_setzero_pd(), dot = _mm256_setzero_pd();
        for (int64_t i = 0; i < t->cols; i += 8) {
            int64_t left = t->cols - i;
            __m256 v = load_upto(from + i, left), u = load_upto(d + i, left);
            __m256d lo = low4d(u), hi = high4d(u);
            one_sum = _mm256_add_pd(one_sum, _mm256_add_pd(lo, hi));
            dot = _mm256_fmadd_pd(lo, _mm256_sub_pd(low4d(v), m), dot);
            dot = _mm256_fmadd_pd(hi, _mm256_sub_pd(high4d(v), m), dot);
            store_upto(to + i, left, u);
        }
        norm[0] += sum4d(one_sum);
        norm[1] += sum4d(dot);
    }
}

/* Sum over groups of parts, each n apart. */
static float over_groups(int64_t groups, const float *part, int64_t apart, float before) {
    double sum = (double)before;
    for (int64_t g = 0; g < groups; g++) sum += (double)part[g * apart];
    return (float)sum;
}

/* dx holds gradients of the normalised values; the sums are complete. */
static void through_normalisation(const struct es_k_tail *s, const float *x, const float *weight,
                                  const float *mean, const float *rstd, const double *sums, float *dx) {
    int64_t N = s->H * s->W;
#pragma omp parallel for schedule(static) if (s->B * s->C * N > 1 << 15)
    for (int64_t plane = 0; plane < s->B * s->C; plane++) {
        int64_t c = plane % s->C;
        float m = mean[c], scale = rstd[c] * weight[c], level = (float)sums[2 * c],
              slope = (float)sums[2 * c + 1];
        const float *v = x + plane * N;
        float *d = dx + plane * N;
#pragma omp simd
        for (int64_t i = 0; i < N; i++) d[i] = (d[i] - level - (v[i] - m) * slope) * scale;
    }
}

void es_k_tail_bwd_fast(const struct es_k_tail *s, const float *x, const float *const w[4], const float *mean,
                        const float *rstd, const float *keep, const float *dy, float *dx, float *const dw[4],
                        const bool add_dw[4], void *ws) {
    int64_t C = s->C, N = s->H * s->W, c16 = round_up(C, TILE_N), groups = groups_of(s);
    struct strips cut = strips_of(s);
    double *norm = ws, *bias = norm + 2 * s->B * C, n = (double)(s->B * N);
    float *packed = (float *)(void *)(bias + groups * c16), *part = packed + c16 * c16,
          *buffers = part + groups * C * c16;
    tile_pack_rows(C, C, w[2], 1, C, packed); /* W' */
    memset(norm, 0, (size_t)(2 * s->B * C) * sizeof *norm);
    memset(bias, 0, (size_t)(groups * c16) * sizeof *bias);
    memset(part, 0, (size_t)(groups * C * c16) * sizeof *part);
#pragma omp parallel for schedule(static) if (s->B * C * N > 1 << 14)
    for (int64_t g = 0; g < groups; g++) {
        struct sums sums = {part + g * C * c16, bias + g * c16, norm};
        float *buffer = buffers + omp_get_thread_num() * per_thread(s);
        for (int64_t b = g * s->B / groups; b < (g + 1) * s->B / groups; b++) {
            for (int64_t i = 0; i < cut.n; i++) {
                struct strip t = strip_at(s, &cut, b, i, buffer);
                backward_strip(&t, packed, x, w, mean, rstd, keep, dy, dx, b, &sums);
            }
            for (int64_t c = 0; c < C; c++) /* rows that no window holds */
                memset(dx + (b * C + c) * N + cut.used * s->W, 0,
                       (size_t)((s->H - cut.used) * s->W) * sizeof *dx);
        }
    }
    for (int64_t c = 0; c < C; c++) {
        for (int64_t k = 0; dw[2] && k < C; k++)
            dw[2][c * C + k] =
                over_groups(groups, part + c * c16 + k, C * c16, add_dw[2] ? dw[2][c * C + k] : 0.0f);
        double sum = dw[3] && add_dw[3] ? (double)dw[3][c] : 0.0;
        for (int64_t g = 0; g < groups; g++) sum += bias[g * c16 + c];
        if (dw[3]) dw[3][c] = (float)sum;
    }
    for (int64_t c = 0; c < C; c++) { /* a channel's totals replace those of its plane of clip 0 */
        double total[2], r = (double)rstd[c];
        channel_sums(s, norm, c, total);
        if (dw[1]) dw[1][c] = (float)(total[0] + (add_dw[1] ? (double)dw[1][c] : 0.0));
        if (dw[0]) dw[0][c] = (float)(total[1] * r + (add_dw[0] ? (double)dw[0][c] : 0.0));
        norm[2 * c] = s->train ? total[0] / n : 0.0;
        norm[2 * c + 1] = s->train ? total[1] * r * r / n : 0.0;
    }
    through_normalisation(s, x, w[0], mean, rstd, norm, dx);
}
