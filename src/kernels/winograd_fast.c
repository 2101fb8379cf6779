/* 3x3 convolutions of stride 1 and padding 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, Fast algorithms for convolutional neural
 * networks, CVPR 2016): 16 products over channels a tile of 2x2 outputs instead of 36. Sixteen tiles that follow each other in
 * time (H) are the lanes, whatever the width: a block of 32 rows is turned around on its way in and out, even and odd rows apart.
 * Every output is one chain of sums of its own, so results do not depend on threads.
 *
 * In fp32 the error stays that of the direct sum (inputs are added in pairs, weights halved); F(4x4) would lose a digit.
 *
 * One Zen 3 core of a crowded machine, forward, GFLOP/s counted as of the direct sum (conv_fast.c -> this file): 64 -> 64 channels
 * 156 x 8 79 -> 120, 156 x 4 62 -> 105, 156 x 2 64 -> 75; 32 -> 64 156 x 16 76 -> 95; 16 -> 32 156 x 32 63 -> 70; 128 -> 128 156 x 8
 * 105-139 (not paired); 8 -> 16 313 x 64 52 -> 50, so direct. */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"

#define LANES TILE_N
#define XS 24 /* rows of one parity of a block and one behind, padded */

bool es_winograd_fits(const struct es_winograd *s) {
    return s->C >= 16 && s->O >= 16 && s->W % 2 == 0 && s->W <= 128 && s->H >= 16;
}

static int64_t blocks_of(const struct es_winograd *s) {
    return ((s->H + 1) / 2 + LANES - 1) / LANES;
}

struct buffers {
    float *x; /* [C][W+2][parity][XS] */
    float *v; /* [16][C][16] */
    float *m; /* [16][O][16] */
    float *y; /* [O][W][parity][16] */
};

static int64_t per_thread(const struct es_winograd *s) {
    return s->C * (s->W + 2) * 2 * XS + 16 * LANES * (s->C + s->O) + s->O * s->W * 2 * LANES;
}

size_t es_winograd_ws(const struct es_winograd *s) {
    return (size_t)(2 * 16 * s->O * s->C + es_kernel_threads() * per_thread(s)) * sizeof(float);
}

static struct buffers buffers_at(const struct es_winograd *s, float *p) {
    struct buffers b = {.x = p};
    b.v = b.x + s->C * (s->W + 2) * 2 * XS;
    b.m = b.v + 16 * LANES * s->C;
    b.y = b.m + 16 * LANES * s->O;
    return b;
}

/* u[4i+j]: [O][C] as tile_packed wants it, of G g G'. plain: scratch of the same size. */
static void transform_weights(const struct es_winograd *s, const float *w, float *u, float *plain) {
    int64_t OC = s->O * s->C;
    for (int64_t o = 0; o < s->O; o++)
        for (int64_t c = 0; c < s->C; c++) {
            double half[4][3], g[3][3];
            for (int i = 0; i < 3; i++)
                for (int j = 0; j < 3; j++)
                    g[i][j] = (double)(s->turned ? w[(c * s->O + o) * 9 + 8 - 3 * i - j]
                                                 : w[(o * s->C + c) * 9 + 3 * i + j]);
            for (int j = 0; j < 3; j++) {
                half[0][j] = g[0][j];
                half[1][j] = 0.5 * (g[0][j] + g[1][j] + g[2][j]);
                half[2][j] = 0.5 * (g[0][j] - g[1][j] + g[2][j]);
                half[3][j] = g[2][j];
            }
            for (int i = 0; i < 4; i++) {
                const double *h = half[i];
                float *to = plain + 4 * i * OC + o * s->C + c;
                to[0] = (float)h[0];
                to[OC] = (float)(0.5 * (h[0] + h[1] + h[2]));
                to[2 * OC] = (float)(0.5 * (h[0] - h[1] + h[2]));
                to[3 * OC] = (float)h[2];
            }
        }
    for (int k = 0; k < 16; k++) tile_pack_rows(s->O, s->C, plain + k * OC, s->C, 1, u + k * OC);
}

/* Rows 2 (first + k) + parity - 1, k = 0..16, of one plane, columns turned into rows; to: the plane's place behind the zero column. */
static void turn_in(const struct es_winograd *s, const float *x, int64_t first, float *to) {
    for (int64_t parity = 0; parity < 2; parity++, to += XS)
        for (int64_t k = 0; k <= LANES; k += 8) {
            int64_t n = least(8, LANES + 1 - k);
            for (int64_t w0 = 0; n == 8 && w0 + 8 <= s->W; w0 += 8) {
                __m256 r[8];
                ES_UNROLL
                for (int q = 0; q < 8; q++) {
                    int64_t t = 2 * (first + k + q) + parity - 1;
                    r[q] = t >= 0 && t < s->H ? _mm256_loadu_ps(x + t * s->W + w0) : _mm256_setzero_ps();
                }
                transpose8(r);
                ES_UNROLL
                for (int q = 0; q < 8; q++) _mm256_storeu_ps(to + (w0 + q) * 2 * XS + k, r[q]);
            }
            for (int64_t q = 0; q < n; q++) {
                int64_t t = 2 * (first + k + q) + parity - 1;
                bool inside = t >= 0 && t < s->H;
                for (int64_t w = n == 8 ? s->W / 8 * 8 : 0; w < s->W; w++)
                    to[w * 2 * XS + k + q] = inside ? x[t * s->W + w] : 0.0f;
            }
        }
}

/* v <- B' d B of the tiles in columns 2j .. 2j+3 of the padded planes */
static void transform_in(const struct es_winograd *s, const struct buffers *b, int64_t j) {
    for (int64_t c = 0; c < s->C; c++)
        for (int half = 0; half < LANES; half += 8) {
            const float *x = b->x + (c * (s->W + 2) + 2 * j) * 2 * XS + half;
            float *v = b->v + c * LANES + half;
            __m256 t[4][4];
            ES_UNROLL
            for (int q = 0; q < 4; q++, x += 2 * XS) {
                __m256 d0 = _mm256_loadu_ps(x), d1 = _mm256_loadu_ps(x + XS), d2 = _mm256_loadu_ps(x + 1),
                       d3 = _mm256_loadu_ps(x + XS + 1);
                t[0][q] = _mm256_sub_ps(d0, d2);
                t[1][q] = _mm256_add_ps(d1, d2);
                t[2][q] = _mm256_sub_ps(d2, d1);
                t[3][q] = _mm256_sub_ps(d1, d3);
            }
            ES_UNROLL
            for (int i = 0; i < 4; i++, v += 4 * s->C * LANES) {
                _mm256_storeu_ps(v, _mm256_sub_ps(t[i][0], t[i][2]));
                _mm256_storeu_ps(v + s->C * LANES, _mm256_add_ps(t[i][1], t[i][2]));
                _mm256_storeu_ps(v + 2 * s->C * LANES, _mm256_sub_ps(t[i][2], t[i][1]));
                _mm256_storeu_ps(v + 3 * s->C * LANES, _mm256_sub_ps(t[i][1], t[i][3]));
            }
        }
}

/* y <- A' m A + bias */
static void transform_out(const struct es_winograd *s, const struct buffers *b, int64_t j,
                          const float *bias) {
    for (int64_t o = 0; o < s->O; o++)
        for (int half = 0; half < LANES; half += 8) {
            const float *m = b->m + o * LANES + half;
            float *y = b->y + (o * s->W + 2 * j) * 2 * LANES + half;
            __m256 t[2][4], more = _mm256_set1_ps(bias ? bias[o] : 0.0f);
            ES_UNROLL
            for (int q = 0; q < 4; q++, m += s->O * LANES) {
                __m256 m0 = _mm256_loadu_ps(m), m1 = _mm256_loadu_ps(m + 4 * s->O * LANES),
                       m2 = _mm256_loadu_ps(m + 8 * s->O * LANES),
                       m3 = _mm256_loadu_ps(m + 12 * s->O * LANES);
                t[0][q] = _mm256_add_ps(m0, _mm256_add_ps(m1, m2));
                t[1][q] = _mm256_sub_ps(_mm256_sub_ps(m1, m2), m3);
            }
            ES_UNROLL
            for (int a = 0; a < 2; a++) {
                __m256 sum = _mm256_add_ps(t[a][0], _mm256_add_ps(t[a][1], t[a][2]));
                __m256 dif = _mm256_sub_ps(_mm256_sub_ps(t[a][1], t[a][2]), t[a][3]);
                _mm256_storeu_ps(y + a * LANES, _mm256_add_ps(sum, more));
                _mm256_storeu_ps(y + (2 + a) * LANES, _mm256_add_ps(dif, more));
            }
        }
}

/* One plane of y back into rows 2 (first + k) + parity. */
static void turn_out(const struct es_winograd *s, const float *from, int64_t first, float *y) {
    for (int64_t parity = 0; parity < 2; parity++, from += LANES)
        for (int64_t k = 0; k < LANES; k += 8) {
            for (int64_t w0 = 0; w0 + 8 <= s->W; w0 += 8) {
                __m256 r[8];
                ES_UNROLL
                for (int q = 0; q < 8; q++) r[q] = _mm256_loadu_ps(from + (w0 + q) * 2 * LANES + k);
                transpose8(r);
                for (int64_t q = 0; q < 8; q++) {
                    int64_t t = 2 * (first + k + q) + parity;
                    if (t >= s->H) break;
                    float *to = y + t * s->W + w0;
                    _mm256_storeu_ps(to, s->add ? _mm256_add_ps(r[q], _mm256_loadu_ps(to)) : r[q]);
                }
            }
            for (int64_t q = 0; q < 8; q++) {
                int64_t t = 2 * (first + k + q) + parity;
                for (int64_t w = s->W / 8 * 8; w < s->W && t < s->H; w++) {
                    float v = from[w * 2 * LANES + k + q], *to = y + t * s->W + w;
                    *to = s->add ? *to + v : v;
                }
            }
        }
}

void es_winograd(const struct es_winograd *s, const float *x, const float *w, const float *bias, float *y,
                 float *ws) {
    int64_t OC = s->O * s->C, N = s->H * s->W, blocks = blocks_of(s), plane = (s->W + 2) * 2 * XS;
    float *u = ws, *plain = u + 16 * OC, *each = plain + 16 * OC;
    transform_weights(s, w, u, plain);
#pragma omp parallel for schedule(dynamic) if (s->B * N * OC > 1 << 16)
    for (int64_t item = 0; item < s->B * blocks; item++) {
        struct buffers b = buffers_at(s, each + omp_get_thread_num() * per_thread(s));
        int64_t clip = item / blocks, first = item % blocks * LANES;
        for (int64_t c = 0; c < s->C; c++) {
            float *to = b.x + c * plane;
            memset(to, 0, 2 * XS * sizeof *to);
            turn_in(s, x + (clip * s->C + c) * N, first, to + 2 * XS);
            memset(to + (s->W + 1) * 2 * XS, 0, 2 * XS * sizeof *to);
        }
        for (int64_t j = 0; j < s->W / 2; j++) {
            transform_in(s, &b, j);
            for (int k = 0; k < 16; k++)
                tile_packed(s->O, s->C, 0, s->C, u + k * OC, b.v + k * s->C * LANES, NULL,
                            b.m + k * s->O * LANES, LANES, LANES, false);
            transform_out(s, &b, j, bias);
        }
        for (int64_t o = 0; o < s->O; o++)
            turn_out(s, b.y + o * s->W * 2 * LANES, first, y + (clip * s->O + o) * N);
    }
}
