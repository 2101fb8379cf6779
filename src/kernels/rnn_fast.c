/* Bidirectional GRU and LSTM. Input projections, dx and weight gradients are products over all frames
 * (product_fast.inc); the recurrence runs by tiles (crnn_simd.h) against W_hh packed once per call, 16 hidden
 * units at a time with all their gates, so that a step's gates are finished while their sums are in cache. The
 * cells differ in forward_<cell> and backward_<cell> only.
 *
 * Threads own hidden units (two directions side by side). Up to two threads need no barrier: each owns a
 * direction. More threads meet once a step. A sum's order does not depend on who computes it. */
#include <string.h>

#include <omp.h>

#include "crnn_impl.h"
#include "crnn_simd.h"
#include "impl.h"

#define UNITS TILE_N
#define MAX_GATES 4

struct rnn { /* of one call; w, packed by direction */
    const struct es_k_birnn *s;
    int64_t H, H16, n; /* n = B*T */
    int64_t G, rows;   /* gates; rows = G*H */
    int64_t kept;      /* of a frame: rows + H */
    const float *y_read, *dy;
    float *y, *gates;
    float *packed[2];   /* forward [unit block][gate][H][16], backward [unit block][rows][16] */
    float *bias[2];     /* forward, each H16: b_ir + b_hr | b_iz + b_hz | b_in | b_hn; LSTM: b_ih + b_hh */
    float *state[2][2]; /* by parity of the step: forward h [B,H], backward gradients of W_hh h [B,rows] */
    float *carry[2];    /* backward [B,H16] */
    float *cell[2];     /* LSTM, backward [B,H16]: gradient of c */
    float *rest;        /* scratch of the products over all frames */
};

static struct rnn rnn_new(const struct es_k_birnn *s) {
    int64_t rows = es_k_birnn_rows(s);
    return (struct rnn){.s = s,
                        .H = s->H,
                        .H16 = round_up(s->H, UNITS),
                        .n = s->B * s->T,
                        .G = rows / s->H,
                        .rows = rows,
                        .kept = rows + s->H};
}

static float *take(float **ws, int64_t n) {
    float *p = *ws;
    *ws += round_up(n, 16);
    return p;
}

/* Hands out the scratch; with ws = NULL only counts: returns floats used. state_width: H or rows. */
static size_t layout(struct rnn *g, float *ws, int64_t state_width) {
    float *at = ws;
    int64_t need = 0;
    int64_t cell = g->s->cell == ES_CELL_LSTM ? g->s->B * g->H16 : 0;
    for (int dir = 0; dir < 2; dir++) {
        int64_t sizes[6] = {g->rows * g->H16,      4 * g->H16,       g->s->B * state_width,
                            g->s->B * state_width, g->s->B * g->H16, cell};
        float **to[6] = {&g->packed[dir],   &g->bias[dir],  &g->state[dir][0],
                         &g->state[dir][1], &g->carry[dir], &g->cell[dir]};
        for (int i = 0; i < 6; i++) {
            need += round_up(sizes[i], 16);
            if (ws) *to[i] = take(&at, sizes[i]);
        }
    }
    g->rest = at;
    return (size_t)need;
}

static size_t product_bytes(int64_t n, int64_t k) {
    return es_kernel_avx512() ? es_product_bytes_avx512(n, k) : es_product_bytes_avx2(n, k);
}

size_t es_k_birnn_fwd_ws(const struct es_k_birnn *s) {
    struct rnn g = rnn_new(s);
    return layout(&g, NULL, s->H) * sizeof(float) + product_bytes(g.rows, s->D);
}

size_t es_k_birnn_bwd_ws(const struct es_k_birnn *s) {
    struct rnn g = rnn_new(s);
    size_t dx = product_bytes(s->D, g.rows), dw = product_bytes(s->D, g.n), dh = product_bytes(s->H, g.n);
    size_t most = dx > dw ? dx : dw;
    return layout(&g, NULL, g.rows) * sizeof(float) + (most > dh ? most : dh);
}

static int64_t time_of(const struct rnn *g, int dir, int64_t step) {
    return dir == 0 ? step : g->s->T - 1 - step;
}

/* Row of gates and of y for clip b at a step. */
static int64_t row_of(const struct rnn *g, int dir, int64_t b, int64_t step) {
    return b * g->s->T + time_of(g, dir, step);
}

static float *gates_at(const struct rnn *g, int dir, int64_t row) {
    return g->gates + (dir * g->n + row) * g->kept;
}

/* ---- forward */
static void pack_forward(const struct rnn *g, const float *const w[8]) {
    int64_t H = g->H, blocks = g->H16 / UNITS;
    bool lstm = g->s->cell == ES_CELL_LSTM;
#pragma omp parallel for schedule(static) if (H > 64)
    for (int64_t item = 0; item < 2 * blocks; item++) {
        int dir = (int)(item / blocks);
        int64_t j = item % blocks * UNITS, units = least(UNITS, H - j);
        const float *w_hh = w[4 * dir + 1], *b_ih = w[4 * dir + 2], *b_hh = w[4 * dir + 3];
        for (int64_t q = 0; q < g->G; q++) {
            float *to = g->packed[dir] + (j * g->G + q * UNITS) * H;
            for (int64_t k = 0; k < H; k++)
                for (int64_t i = 0; i < UNITS; i++)
                    to[k * UNITS + i] = i < units ? w_hh[(q * H + j + i) * H + k] : 0.0f;
            for (int64_t i = 0; i < UNITS; i++) {
                int64_t at = q * H + j + i;
                float *bias = g->bias[dir] + q * g->H16 + j + i;
                *bias = i >= units ? 0.0f : lstm || q < 2 ? b_ih[at] + b_hh[at] : b_ih[at];
                if (!lstm && q == 2) bias[g->H16] = i < units ? b_hh[at] : 0.0f;
            }
        }
    }
}

/* Gates, kept, and new state of units i .. i+7 of clip b. in: W_ih x and bias, pre: W_hh h, by gate. */
static __m256 forward_gru(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t i, const __m256 *in,
                          const __m256 *pre, float *gate) {
    int64_t H = g->H, left = H - i;
    __m256 r = sigmoid8(_mm256_add_ps(in[0], pre[0])), z = sigmoid8(_mm256_add_ps(in[1], pre[1]));
    __m256 hn = _mm256_add_ps(pre[2], _mm256_loadu_ps(g->bias[dir] + 3 * g->H16 + i));
    __m256 n = tanh8(_mm256_fmadd_ps(r, hn, in[2]));
    __m256 h = step == 0 ? _mm256_setzero_ps() : load_upto(g->state[dir][(step + 1) & 1] + b * H + i, left);
    store_upto(gate + i, left, r);
    store_upto(gate + H + i, left, z);
    store_upto(gate + 2 * H + i, left, n);
    store_upto(gate + 3 * H + i, left, hn);
    return _mm256_fmadd_ps(z, _mm256_sub_ps(h, n), n);
}

static __m256 forward_lstm(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t i, const __m256 *in,
                           const __m256 *pre, float *gate) {
    int64_t H = g->H, left = H - i;
    __m256 a[4], c = _mm256_setzero_ps();
    for (int q = 0; q < 4; q++) {
        __m256 sum = _mm256_add_ps(in[q], pre[q]);
        a[q] = q == 2 ? tanh8(sum) : sigmoid8(sum);
        store_upto(gate + q * H + i, left, a[q]);
    }
    if (step > 0) c = load_upto(gates_at(g, dir, row_of(g, dir, b, step - 1)) + 4 * H + i, left);
    c = _mm256_fmadd_ps(a[1], c, _mm256_mul_ps(a[0], a[2]));
    store_upto(gate + 4 * H + i, left, c);
    return _mm256_mul_ps(a[3], tanh8(c));
}

/* Units j .. j+15 of clip b; sums [G][16]: W_hh h. */
static void forward_units(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t j,
                          const float *sums) {
    int64_t H = g->H, row = row_of(g, dir, b, step);
    float *gate = gates_at(g, dir, row), *out = g->y + row * 2 * H + dir * H,
          *next = g->state[dir][step & 1] + b * H;
    for (int64_t k = 0; k < UNITS && j + k < H; k += 8) {
        int64_t i = j + k, left = H - i;
        __m256 in[MAX_GATES], pre[MAX_GATES], h;
        for (int q = 0; q < g->G; q++) {
            in[q] = _mm256_add_ps(load_upto(gate + q * H + i, left),
                                  _mm256_loadu_ps(g->bias[dir] + q * g->H16 + i));
            pre[q] = _mm256_loadu_ps(sums + q * UNITS + k);
        }
        if (g->s->cell == ES_CELL_GRU)
            h = forward_gru(g, dir, step, b, i, in, pre, gate);
        else
            h = forward_lstm(g, dir, step, b, i, in, pre, gate);
        store_upto(out + i, left, h);
        store_upto(next + i, left, h);
    }
}

static void forward_step(const struct rnn *g, int dir, int64_t step, int64_t block0, int64_t block1) {
    const float *h = g->state[dir][(step + 1) & 1];
    float sums[TILE_M * MAX_GATES * UNITS];
    int64_t wide = g->G * UNITS;
    memset(sums, 0, sizeof sums);
    for (int64_t block = block0; block < block1; block++) {
        const float *w = g->packed[dir] + block * wide * g->H;
        for (int64_t b = 0, m; b < g->s->B; b += m) {
            m = tile_rows(g->s->B - b);
            for (int q = 0; q < g->G && step > 0; q++)
                tile_plain(m, g->H, h + b * g->H, g->H, w + q * g->H * UNITS, NULL, sums + q * UNITS, wide,
                           UNITS, false);
            for (int64_t i = 0; i < m; i++)
                forward_units(g, dir, step, b + i, block * UNITS, sums + i * wide);
        }
    }
}

/* ---- backward */
static void pack_backward(const struct rnn *g, const float *const w[8]) {
    int64_t H = g->H, blocks = g->H16 / UNITS;
#pragma omp parallel for schedule(static) if (H > 64)
    for (int64_t item = 0; item < 2 * blocks; item++) {
        int dir = (int)(item / blocks);
        int64_t j = item % blocks * UNITS;
        tile_copy(g->rows, least(UNITS, H - j), w[4 * dir + 1] + j, H, g->packed[dir] + j * g->rows);
    }
}

/* dh: gradient of the new state of units i .. i+7 of clip b. Leaves the gradients of the pre-activations over
 * the gates and, as W_hh h receives them, in da; returns what goes straight to the state before. */
static __m256 backward_gru(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t i, __m256 dh,
                           float *gate, float *da) {
    int64_t H = g->H, left = H - i;
    __m256 one = _mm256_set1_ps(1.0f), h = _mm256_setzero_ps();
    __m256 r = load_upto(gate + i, left), z = load_upto(gate + H + i, left);
    __m256 n = load_upto(gate + 2 * H + i, left), hn = load_upto(gate + 3 * H + i, left);
    if (step > 0) h = load_upto(g->y_read + row_of(g, dir, b, step - 1) * 2 * H + dir * H + i, left);
    __m256 dn = _mm256_mul_ps(_mm256_mul_ps(dh, _mm256_sub_ps(one, z)), _mm256_fnmadd_ps(n, n, one));
    __m256 dnr = _mm256_mul_ps(dn, r);
    __m256 dr = _mm256_mul_ps(_mm256_mul_ps(dnr, hn), _mm256_sub_ps(one, r));
    __m256 dz =
        _mm256_mul_ps(_mm256_mul_ps(dh, _mm256_sub_ps(h, n)), _mm256_mul_ps(z, _mm256_sub_ps(one, z)));
    store_upto(gate + i, left, dr);
    store_upto(gate + H + i, left, dz);
    store_upto(gate + 2 * H + i, left, dn);
    store_upto(gate + 3 * H + i, left, dnr);
    store_upto(da + i, left, dr);
    store_upto(da + H + i, left, dz);
    store_upto(da + 2 * H + i, left, dnr);
    return _mm256_mul_ps(dh, z);
}

static __m256 backward_lstm(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t i, __m256 dh,
                            float *gate, float *da) {
    int64_t H = g->H, left = H - i;
    float *carry = g->cell[dir] + b * g->H16 + i;
    __m256 one = _mm256_set1_ps(1.0f), before = _mm256_setzero_ps(), a[4], d[4];
    for (int q = 0; q < 4; q++) a[q] = load_upto(gate + q * H + i, left);
    __m256 t = tanh8(load_upto(gate + 4 * H + i, left));
    if (step > 0) before = load_upto(gates_at(g, dir, row_of(g, dir, b, step - 1)) + 4 * H + i, left);
    __m256 dc = _mm256_fmadd_ps(_mm256_mul_ps(dh, a[3]), _mm256_fnmadd_ps(t, t, one), _mm256_loadu_ps(carry));
    d[0] = _mm256_mul_ps(_mm256_mul_ps(dc, a[2]), _mm256_mul_ps(a[0], _mm256_sub_ps(one, a[0])));
    d[1] = _mm256_mul_ps(_mm256_mul_ps(dc, before), _mm256_mul_ps(a[1], _mm256_sub_ps(one, a[1])));
    d[2] = _mm256_mul_ps(_mm256_mul_ps(dc, a[0]), _mm256_fnmadd_ps(a[2], a[2], one));
    d[3] = _mm256_mul_ps(_mm256_mul_ps(dh, t), _mm256_mul_ps(a[3], _mm256_sub_ps(one, a[3])));
    for (int q = 0; q < 4; q++) {
        store_upto(gate + q * H + i, left, d[q]);
        store_upto(da + q * H + i, left, d[q]);
    }
    _mm256_storeu_ps(carry, _mm256_mul_ps(dc, a[1]));
    return _mm256_setzero_ps();
}

static void backward_units(const struct rnn *g, int dir, int64_t step, int64_t b, int64_t j) {
    int64_t H = g->H, row = row_of(g, dir, b, step);
    float *gate = gates_at(g, dir, row), *da = g->state[dir][step & 1] + b * g->rows,
          *carry = g->carry[dir] + b * g->H16;
    const float *dy = g->dy + row * 2 * H + dir * H;
    for (int64_t i = j; i < j + UNITS && i < H; i += 8) {
        __m256 dh = _mm256_add_ps(load_upto(dy + i, H - i), _mm256_loadu_ps(carry + i));
        if (g->s->cell == ES_CELL_GRU)
            dh = backward_gru(g, dir, step, b, i, dh, gate, da);
        else
            dh = backward_lstm(g, dir, step, b, i, dh, gate, da);
        _mm256_storeu_ps(carry + i, dh);
    }
}

static void backward_gates(const struct rnn *g, int dir, int64_t step, int64_t block0, int64_t block1) {
    for (int64_t b = 0; b < g->s->B; b++)
        for (int64_t block = block0; block < block1; block++) backward_units(g, dir, step, b, block * UNITS);
}

static void backward_state(const struct rnn *g, int dir, int64_t step, int64_t block0, int64_t block1) {
    for (int64_t block = block0; block < block1; block++)
        tile_plain(g->s->B, g->rows, g->state[dir][step & 1], g->rows,
                   g->packed[dir] + block * UNITS * g->rows, NULL, g->carry[dir] + block * UNITS, g->H16,
                   UNITS, true);
}

/* ---- all steps of both directions. Thread `me` of `team` owns a range of the 2*blocks unit blocks. */
struct range {
    int64_t from[2], to[2]; /* by direction */
};

static struct range range_of(const struct rnn *g, int me, int team) {
    int64_t blocks = g->H16 / UNITS, from = me * 2 * blocks / team, to = (me + 1) * 2 * blocks / team;
    struct range r;
    for (int dir = 0; dir < 2; dir++) {
        int64_t first = dir * blocks, last = first + blocks;
        r.from[dir] = (from < first ? first : least(from, last)) - first;
        r.to[dir] = (to < first ? first : least(to, last)) - first;
    }
    return r;
}

static int team_size(const struct rnn *g) {
    int64_t work = g->s->B * g->H * g->H, most = 2 * (g->H16 / UNITS);
    return work < 1 << 12 ? 1 : (int)least(es_kernel_threads(), most);
}

static void run_forward(const struct rnn *g) {
#pragma omp parallel num_threads(team_size(g))
    {
        int team = omp_get_num_threads();
        struct range r = range_of(g, omp_get_thread_num(), team);
        if (team <= 2) {
            for (int dir = 0; dir < 2; dir++)
                for (int64_t step = 0; step < g->s->T && r.from[dir] < r.to[dir]; step++)
                    forward_step(g, dir, step, r.from[dir], r.to[dir]);
        } else {
            for (int64_t step = 0; step < g->s->T; step++) {
                for (int dir = 0; dir < 2; dir++) forward_step(g, dir, step, r.from[dir], r.to[dir]);
#pragma omp barrier
            }
        }
    }
}

static void run_backward(const struct rnn *g) {
#pragma omp parallel num_threads(team_size(g))
    {
        int team = omp_get_num_threads();
        struct range r = range_of(g, omp_get_thread_num(), team);
        if (team <= 2) {
            for (int dir = 0; dir < 2; dir++)
                for (int64_t step = g->s->T - 1; step >= 0 && r.from[dir] < r.to[dir]; step--) {
                    backward_gates(g, dir, step, r.from[dir], r.to[dir]);
                    if (step > 0) backward_state(g, dir, step, r.from[dir], r.to[dir]);
                }
        } else {
            for (int64_t step = g->s->T - 1; step >= 0; step--) {
                for (int dir = 0; dir < 2; dir++) backward_gates(g, dir, step, r.from[dir], r.to[dir]);
#pragma omp barrier
                for (int dir = 0; dir < 2 && step > 0; dir++)
                    backward_state(g, dir, step, r.from[dir], r.to[dir]);
            }
        }
    }
}

/* ---- products over all frames: c [m,n] = a b (+ c), a [m,k] and b [k,n] by strides of rows and columns */
struct matrix {
    const float *p;
    int64_t rows, columns; /* distance of rows, of columns */
};

static void product(const struct rnn *g, int64_t m, int64_t n, int64_t k, struct matrix a, struct matrix b,
                    bool add, float *c, int64_t ldc) {
    struct es_product p = {.m = m,
                           .n = n,
                           .k = k,
                           .a = a.p,
                           .ars = a.rows,
                           .acs = a.columns,
                           .b = b.p,
                           .brs = b.rows,
                           .bcs = b.columns,
                           .beta = add ? 1.0f : 0.0f,
                           .c = c,
                           .ldc = ldc};
    (es_kernel_avx512() ? es_product_avx512 : es_product_avx2)(&p, g->rest);
}

void es_k_birnn_fwd_fast(const struct es_k_birnn *s, const float *x, const float *const w[8], float *y,
                         float *gates, void *ws) {
    struct rnn g = rnn_new(s);
    layout(&g, ws, s->H);
    g.y = y;
    g.gates = gates;
    pack_forward(&g, w);
    for (int dir = 0; dir < 2; dir++)
        product(&g, g.n, g.rows, s->D, (struct matrix){x, s->D, 1}, (struct matrix){w[4 * dir], 1, s->D},
                false, gates_at(&g, dir, 0), g.kept);
    run_forward(&g);
}

/* d[j] = (d[j] +) sum over rows of a[row*ld + j], j < n, in double. */
static void column_sums(int64_t rows, int64_t n, const float *a, int64_t ld, float *d, bool add) {
#pragma omp parallel for schedule(static) if (rows * n > 1 << 15)
    for (int64_t j = 0; j < n; j += 8) {
        __m256d lo = _mm256_setzero_pd(), hi = _mm256_setzero_pd();
        for (int64_t i = 0; i < rows; i++) {
            __m256 v = load_upto(a + i * ld + j, n - j);
            lo = _mm256_add_pd(lo, low4d(v));
            hi = _mm256_add_pd(hi, high4d(v));
        }
        __m256 sum = _mm256_set_m128(_mm256_cvtpd_ps(hi), _mm256_cvtpd_ps(lo));
        if (add) sum = _mm256_add_ps(sum, load_upto(d + j, n - j));
        store_upto(d + j, n - j, sum);
    }
}

/* dW_hh: the state before a frame is y's row next to it, so one product over all rows but one, after the
 * frames without a state before them have been cleared. Consumes the gates. head: see the caller. */
static void recurrent_gradient(const struct rnn *g, int dir, int64_t head, float *d, bool add) {
    int64_t H = g->H, K = g->kept;
    for (int64_t b = 0; b < g->s->B; b++)
        memset(gates_at(g, dir, row_of(g, dir, b, 0)), 0, (size_t)K * sizeof(float));
    const float *a = gates_at(g, dir, dir == 0 ? 1 : 0),
                *h = g->y_read + (dir == 0 ? 0 : 1) * 2 * H + dir * H;
    struct matrix before = {h, 2 * H, 1};
    product(g, head, H, g->n - 1, (struct matrix){a, 1, K}, before, add, d, H);
    if (head < g->rows)
        product(g, H, H, g->n - 1, (struct matrix){a + head + H, 1, K}, before, add, d + head * H, H);
}

void es_k_birnn_bwd_fast(const struct es_k_birnn *s, const float *x, const float *const w[8], const float *y,
                         float *gates, const float *dy, float *dx, bool add_dx, float *const dw[8],
                         const bool add_dw[8], void *ws) {
    struct rnn g = rnn_new(s);
    layout(&g, ws, g.rows);
    g.y_read = y;
    g.dy = dy;
    g.gates = gates;
    /* rows of W_hh h whose gradient is the gate's own; the GRU's n has another, behind it */
    int64_t K = g.kept, head = s->cell == ES_CELL_GRU ? 2 * g.H : g.rows;
    pack_backward(&g, w);
    for (int dir = 0; dir < 2; dir++) {
        size_t bytes = (size_t)(s->B * g.H16) * sizeof(float);
        memset(g.carry[dir], 0, bytes);
        if (s->cell == ES_CELL_LSTM) memset(g.cell[dir], 0, bytes);
    }
    run_backward(&g);
    for (int dir = 0; dir < 2; dir++) {
        const float *a = gates_at(&g, dir, 0);
        float *const *d = dw + 4 * dir;
        const bool *add = add_dw + 4 * dir;
        if (dx)
            product(&g, g.n, s->D, g.rows, (struct matrix){a, K, 1}, (struct matrix){w[4 * dir], s->D, 1},
                    add_dx || dir == 1, dx, s->D);
        if (d[0])
            product(&g, g.rows, s->D, g.n, (struct matrix){a, 1, K}, (struct matrix){x, s->D, 1}, add[0],
                    d[0], s->D);
        if (d[2]) column_sums(g.n, g.rows, a, K, d[2], add[2]);
        if (d[3]) column_sums(g.n, head, a, K, d[3], add[3]);
        if (d[3] && head < g.rows) column_sums(g.n, g.H, a + head + g.H, K, d[3] + head, add[3]);
        if (d[1]) recurrent_gradient(&g, dir, head, d[1], add[1]);
    }
}

void es_k_activations_fast(int64_t n, const float *x, float *sigmoid, float *tanh_x) {
    for (int64_t i = 0; i < n; i += 8) {
        __m256 v = load_upto(x + i, n - i);
        store_upto(sigmoid + i, n - i, sigmoid8(v));
        store_upto(tanh_x + i, n - i, tanh8(v));
    }
}
