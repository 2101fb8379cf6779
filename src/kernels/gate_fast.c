/* Gates by tiles (crnn_simd.h). A strip of columns of all channels is brought into cache, multiplied, gated
 * and written; backward sums the weight gradient clip by clip in a fixed number of groups. */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"

#define STRIP 64      /* columns at a time, four panels */
#define MAX_GROUPS 32 /* partial sums of dw; fixed, so that the thread count does not change sums */

static int64_t groups_of(const struct es_k_gate *s) {
    return least(s->B, MAX_GROUPS);
}

/* Floats a thread needs: forward C*32, backward the gradient of l (rows), its panel, x transposed. */
static int64_t per_thread(const struct es_k_gate *s) {
    int64_t c16 = round_up(s->C, TILE_N);
    return c16 * (STRIP + TILE_N + STRIP);
}

size_t es_k_gate_ws(const struct es_k_gate *s) {
    int64_t c16 = round_up(s->C, TILE_N);
    return (size_t)(c16 * c16 + es_kernel_threads() * per_thread(s) + groups_of(s) * c16 * (s->C + 2)) *
           sizeof(float);
}

void es_k_gate_fwd_fast(const struct es_k_gate *s, const float *x, const float *w, const float *b, float *y,
                        float *keep, void *ws) {
    int64_t C = s->C, N = s->N, c16 = round_up(C, TILE_N), strips = (N + STRIP - 1) / STRIP;
    float *a = ws, *buffers = a + c16 * c16;
    tile_pack_rows(C, C, w, C, 1, a);
#pragma omp parallel for schedule(static) if (s->B * N * C > 1 << 14)
    for (int64_t item = 0; item < s->B * strips; item++) {
        float *panel = buffers + omp_get_thread_num() * per_thread(s), *l = panel + C * TILE_N;
        int64_t base = item / strips * C * N, first = item % strips * STRIP, last = least(first + STRIP, N);
        for (int64_t n = first; n < last; n += TILE_N) {
            int64_t cols = least(TILE_N, last - n);
            tile_copy(C, cols, x + base + n, N, panel);
            tile_packed(C, C, 0, C, a, panel, b, l, TILE_N, TILE_N, false);
            for (int64_t c = 0; c < C; c++)
                for (int64_t half = 0; half < TILE_N && half < cols; half += 8) {
                    __m256 v = _mm256_loadu_ps(panel + c * TILE_N + half),
                           lv = _mm256_loadu_ps(l + c * TILE_N + half);
                    __m256 g = sigmoid8(s->glu ? v : lv);
                    int64_t at = base + c * N + n + half;
                    store_upto(y + at, cols - half, _mm256_mul_ps(s->glu ? lv : v, g));
                    if (keep) store_upto(keep + at, cols - half, s->glu ? lv : g);
                }
        }
    }
}

/* One strip of one clip: dl [C][STRIP] <- gradient of l, dx <- (dx +) its direct part, db += row sums. */
static void strip_gradients(const struct es_k_gate *s, const float *x, const float *keep, const float *dy,
                            float *dx, bool add_dx, int64_t cols, float *dl, double *db) {
    __m256 one = _mm256_set1_ps(1.0f);
    for (int64_t c = 0; c < s->C; c++) {
        __m256 sum = _mm256_setzero_ps();
        for (int64_t i = 0; i < cols; i += 8) {
            int64_t at = c * s->N + i;
            __m256 v = load_upto(x + at, cols - i), k = load_upto(keep + at, cols - i);
            __m256 d = load_upto(dy + at, cols - i), g = s->glu ? sigmoid8(v) : k;
            __m256 slope = _mm256_mul_ps(g, _mm256_sub_ps(one, g)), other = s->glu ? k : v;
            __m256 through_gate = _mm256_mul_ps(_mm256_mul_ps(d, other), slope),
                   through_value = _mm256_mul_ps(d, g);
            __m256 linear = s->glu ? through_value : through_gate,
                   direct = s->glu ? through_gate : through_value;
            _mm256_storeu_ps(dl + c * STRIP + i, linear);
            sum = _mm256_add_ps(sum, linear);
            if (!dx) continue;
            if (add_dx) direct = _mm256_add_ps(direct, load_upto(dx + at, cols - i));
            store_upto(dx + at, cols - i, direct);
        }
        db[c] += sum4d(_mm256_add_pd(low4d(sum), high4d(sum)));
    }
}

void es_k_gate_bwd_fast(const struct es_k_gate *s, const float *x, const float *w, const float *keep,
                        const float *dy, float *dx, bool add_dx, float *dw, bool add_dw, float *db,
                        bool add_db, void *ws) {
    int64_t C = s->C, N = s->N, c16 = round_up(C, TILE_N), groups = groups_of(s);
    float *a = ws, *buffers = a + c16 * c16, *part = buffers + es_kernel_threads() * per_thread(s);
    double *bias = (double *)(void *)(part + groups * C * c16);
    tile_pack_rows(C, C, w, 1, C, a); /* W' */
#pragma omp parallel for schedule(static) if (s->B * N * C > 1 << 14)
    for (int64_t g = 0; g < groups; g++) {
        float *dl = buffers + omp_get_thread_num() * per_thread(s), *panel = dl + C * STRIP,
              *xt = panel + C * TILE_N;
        memset(part + g * C * c16, 0, (size_t)(C * c16) * sizeof *part);
        memset(bias + g * c16, 0, (size_t)c16 * sizeof *bias);
        for (int64_t b = g * s->B / groups; b < (g + 1) * s->B / groups; b++)
            for (int64_t n = 0; n < N; n += STRIP) {
                int64_t cols = least(STRIP, N - n), at = b * C * N + n;
                strip_gradients(s, x + at, keep + at, dy + at, dx ? dx + at : NULL, add_dx, cols, dl,
                                bias + g * c16);
                for (int64_t i = 0; dx && i < cols; i += TILE_N) {
                    tile_copy(C, least(TILE_N, cols - i), dl + i, STRIP, panel);
                    tile_packed(C, C, 0, C, a, panel, NULL, dx + at + i, N, least(TILE_N, cols - i), true);
                }
                for (int64_t k = 0; dw && k < C; k += TILE_N) {
                    tile_transpose(least(TILE_N, C - k), cols, x + at + k * N, N, xt);
                    tile_plain(C, cols, dl, STRIP, xt, NULL, part + g * C * c16 + k, c16, TILE_N, true);
                }
            }
    }
    for (int64_t c = 0; c < C; c++) {
        double sum = db && add_db ? (double)db[c] : 0.0;
        for (int64_t g = 0; g < groups; g++) sum += bias[g * c16 + c];
        if (db) db[c] = (float)sum;
        for (int64_t k = 0; dw && k < C; k++) {
            sum = add_dw ? (double)dw[c * C + k] : 0.0;
            for (int64_t g = 0; g < groups; g++) sum += (double)part[(g * C + c) * c16 + k];
            dw[c * C + k] = (float)sum;
        }
    }
}
