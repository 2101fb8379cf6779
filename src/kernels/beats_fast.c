/* Kernels of BEATs but attention and the convolution, which have register kernels of their own: calls of those, gate, weight norm. */
#include <math.h>
#include <string.h>

#include "earshot/kernels_beats.h"
#include "impl.h"
#include "vmath_fast.h"

#define LANES 16
#define MAX_CHUNKS                                                                                           \
    64 /* partial sums of the gate's weights; from the rows alone, so that threads do not change sums */

/* ---- attention */
static size_t attention_bytes(int64_t T, int64_t d) {
    return es_kernel_avx512() ? es_attention_bytes_avx512(T, d) : es_attention_bytes_avx2(T, d);
}

size_t es_attention_ws(const struct es_k_attention *s, size_t bytes) {
    return bytes + (size_t)(s->B * s->H * (2 * s->T - 1)) * sizeof(float);
}

size_t es_k_attention_rel_ws(const struct es_k_attention *s) {
    return es_attention_ws(s, attention_bytes(s->T, s->d));
}

struct es_attention es_attention_of(const struct es_k_attention *s, const void *q, const void *k,
                                    const void *v, const float *gate, const float *bias) {
    return (struct es_attention){.B = s->B,
                                 .T = s->T,
                                 .H = s->H,
                                 .d = s->d,
                                 .ld = s->ld,
                                 .q = q,
                                 .k = k,
                                 .v = v,
                                 .gate = gate,
                                 .bias = bias,
                                 .drop = s->drop,
                                 .rng = &s->rng};
}

void es_k_attention_rel_fwd_fast(const struct es_k_attention *s, const float *q, const float *k,
                                 const float *v, const float *gate, const float *bias, float *out, float *lse,
                                 void *ws) {
    struct es_attention a = es_attention_of(s, q, k, v, gate, bias);
    a.y = out;
    a.y_lse = lse;
    (es_kernel_avx512() ? es_attention_fwd_avx512 : es_attention_fwd_avx2)(&a, ws);
}

void es_attention_gradients(const struct es_attention *given, size_t bytes,
                            void (*run)(const struct es_attention *a, float *ws), float *const grad[5],
                            const bool add[5], float *ws) {
    struct es_attention a = *given;
    const int64_t n = a.H * (2 * a.T - 1);
    float *part = ws + bytes / sizeof(float), *dbias = grad[4];
    a.dq = grad[0];
    a.dk = grad[1];
    a.dv = grad[2];
    a.dgate = grad[3];
    for (int i = 0; i < 4; i++) a.beta[i] = add[i];
    a.dbias = dbias ? part : NULL;
    run(&a, ws);
    for (int64_t i = 0; dbias && i < n; i++) {
        double sum = add[4] ? (double)dbias[i] : 0.0;
        for (int64_t b = 0; b < a.B; b++) sum += (double)part[b * n + i];
        dbias[i] = (float)sum;
    }
}

void es_k_attention_rel_bwd_fast(const struct es_k_attention *s, const float *q, const float *k,
                                 const float *v, const float *gate, const float *bias, const float *out,
                                 const float *lse, const float *dout, float *dq, bool add_dq, float *dk,
                                 bool add_dk, float *dv, bool add_dv, float *dgate, bool add_dgate,
                                 float *dbias, bool add_dbias, void *ws) {
    struct es_attention a = es_attention_of(s, q, k, v, gate, bias);
    a.out = out;
    a.lse = lse;
    a.dout = dout;
    es_attention_gradients(&a, attention_bytes(s->T, s->d),
                           es_kernel_avx512() ? es_attention_bwd_avx512 : es_attention_bwd_avx2,
                           (float *const[]){dq, dk, dv, dgate, dbias},
                           (const bool[]){add_dq, add_dk, add_dv, add_dgate, add_dbias}, ws);
}

/* ---- gate */
static int64_t chunks(int64_t rows) {
    return es_min64(MAX_CHUNKS, (rows + 63) / 64);
}

/* The groups of four rows of w are summed before the product: [2][d], then both sums of b. */
static void sum_weights(const struct es_k_rel_gate *s, const float *w, const float *b, float *sum) {
    for (int z = 0; z < 2; z++) {
        const float *rows = w + 4 * z * s->d;
        for (int64_t c = 0; c < s->d; c++)
            sum[z * s->d + c] = (rows[c] + rows[s->d + c]) + (rows[2 * s->d + c] + rows[3 * s->d + c]);
        sum[2 * s->d + z] = (b[4 * z] + b[4 * z + 1]) + (b[4 * z + 2] + b[4 * z + 3]);
    }
}

static float dot(int64_t d, const float *a, const float *b) {
    float s[LANES] = {0};
    int64_t c = 0;
    for (; c + LANES <= d; c += LANES)
        for (int l = 0; l < LANES; l++) s[l] = __builtin_fmaf(a[c + l], b[c + l], s[l]);
    for (; c < d; c++) s[c % LANES] = __builtin_fmaf(a[c], b[c], s[c % LANES]);
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++) s[l] += s[l + n];
    return s[0];
}

static void halves(const struct es_k_rel_gate *s, const float *u, const float *sum, float half[2]) {
    for (int z = 0; z < 2; z++) half[z] = es_vsigmoid(dot(s->d, u, sum + z * s->d) + sum[2 * s->d + z]);
}

/* float: sums of weights, padded; double: per chunk sums for w [2][d], b [2], a [H]. */
static int64_t head_floats(const struct es_k_rel_gate *s) {
    return (2 * s->d + 2 + 15) / 16 * 16;
}
static int64_t chunk_doubles(const struct es_k_rel_gate *s) {
    return 2 * s->d + 2 + s->H;
}

size_t es_k_rel_gate_ws(const struct es_k_rel_gate *s) {
    return (size_t)head_floats(s) * sizeof(float) +
           (size_t)(chunks(s->rows) * chunk_doubles(s)) * sizeof(double);
}

void es_k_rel_gate_fwd_fast(const struct es_k_rel_gate *s, const float *q, const float *w, const float *b,
                            const float *a, float *gate, void *ws) {
    float *sum = ws;
    sum_weights(s, w, b, sum);
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(s->rows * s->d))
    for (int64_t r = 0; r < s->rows; r++) {
        float half[2];
        halves(s, q + r * s->d, sum, half);
        gate[r] = half[0] * (half[1] * a[r % s->H] - 1.0f) + 2.0f;
    }
}

static void gate_chunk(const struct es_k_rel_gate *s, int64_t r0, int64_t r1, const float *q,
                       const float *sum, const float *a, const float *dgate, float *dq, bool add_dq,
                       double *part) {
    double *bias = part + 2 * s->d, *head = bias + 2;
    for (int64_t i = 0; i < chunk_doubles(s); i++) part[i] = 0;
    for (int64_t r = r0; r < r1; r++) {
        const float *u = q + r * s->d, f = a[r % s->H], g = dgate[r];
        float half[2];
        halves(s, u, sum, half);
        const float dp[2] = {g * (half[1] * f - 1.0f) * half[0] * (1.0f - half[0]),
                             g * half[0] * f * half[1] * (1.0f - half[1])};
        head[r % s->H] += (double)(g * half[0] * half[1]);
        for (int z = 0; z < 2; z++) {
            bias[z] += (double)dp[z];
            for (int64_t c = 0; c < s->d; c++) part[z * s->d + c] += (double)dp[z] * (double)u[c];
        }
        float *y = dq ? dq + r * s->d : NULL;
        for (int64_t c = 0; y && c < s->d; c++) {
            float v = __builtin_fmaf(dp[0], sum[c], dp[1] * sum[s->d + c]);
            y[c] = add_dq ? y[c] + v : v;
        }
    }
}

static void put(float *p, bool add, double v) {
    if (p) *p = (float)(v + (add ? (double)*p : 0.0));
}

void es_k_rel_gate_bwd_fast(const struct es_k_rel_gate *s, const float *q, const float *w, const float *b,
                            const float *a, const float *dgate, float *dq, bool add_dq, float *dw,
                            bool add_dw, float *db, bool add_db, float *da, bool add_da, void *ws) {
    float *sum = ws;
    double *part = (double *)(void *)(sum + head_floats(s));
    const int64_t n = chunks(s->rows), each = chunk_doubles(s);
    sum_weights(s, w, b, sum);
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(s->rows * s->d))
    for (int64_t k = 0; k < n; k++)
        gate_chunk(s, s->rows * k / n, s->rows * (k + 1) / n, q, sum, a, dgate, dq, add_dq, part + k * each);
    for (int64_t k = 1; k < n; k++)
        for (int64_t i = 0; i < each; i++) part[i] += part[k * each + i];
    for (int o = 0; o < 8; o++) {
        for (int64_t c = 0; dw && c < s->d; c++) put(dw + o * s->d + c, add_dw, part[o / 4 * s->d + c]);
        if (db) put(db + o, add_db, part[2 * s->d + o / 4]);
    }
    for (int64_t h = 0; da && h < s->H; h++) put(da + h, add_da, part[2 * s->d + 2 + h]);
}

/* ---- convolution */
static struct es_conv1d conv1d(const struct es_k_conv1d *s) {
    return (struct es_conv1d){.B = s->B, .T = s->T, .D = s->D, .groups = s->groups, .taps = s->taps};
}

size_t es_k_conv1d_ws(const struct es_k_conv1d *s) {
    struct es_conv1d a = conv1d(s);
    return es_kernel_avx512() ? es_conv1d_bytes_avx512(&a) : es_conv1d_bytes_avx2(&a);
}

void es_k_conv1d_fwd_fast(const struct es_k_conv1d *s, const float *x, const float *w, const float *bias,
                          float *y, void *ws) {
    struct es_conv1d a = conv1d(s);
    a.x = x;
    a.w = w;
    a.bias = bias;
    a.y = y;
    (es_kernel_avx512() ? es_conv1d_rows_avx512 : es_conv1d_rows_avx2)(&a, ws);
}

void es_k_conv1d_dx_fast(const struct es_k_conv1d *s, const float *w, const float *dy, float *dx, bool add_dx,
                         void *ws) {
    struct es_conv1d a = conv1d(s);
    a.x = dy;
    a.w = w;
    a.y = dx;
    a.turned = true;
    a.add = add_dx;
    (es_kernel_avx512() ? es_conv1d_rows_avx512 : es_conv1d_rows_avx2)(&a, ws);
}

void es_k_conv1d_dw_fast(const struct es_k_conv1d *s, const float *x, const float *dy, float *dw, bool add_dw,
                         void *ws) {
    struct es_conv1d a = conv1d(s);
    a.x = x;
    a.dy = dy;
    a.y = dw;
    a.add = add_dw;
    (es_kernel_avx512() ? es_conv1d_dw_avx512 : es_conv1d_dw_avx2)(&a, ws);
}

/* ---- weight norm: each thread owns columns, LANES at a time; rows are added in order */
void es_k_weight_norm_fwd_fast(int64_t rows, int64_t cols, const float *v, const float *g, float *w) {
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(rows *cols))
    for (int64_t k0 = 0; k0 < cols; k0 += LANES) {
        int64_t n = es_min64(LANES, cols - k0);
        double vv[LANES] = {0};
        float f[LANES];
        for (int64_t r = 0; r < rows; r++)
            for (int64_t l = 0; l < n; l++) {
                double x = (double)v[r * cols + k0 + l];
                vv[l] += x * x;
            }
        for (int64_t l = 0; l < n; l++) f[l] = (float)((double)g[k0 + l] / sqrt(vv[l]));
        for (int64_t r = 0; r < rows; r++)
            for (int64_t l = 0; l < n; l++) w[r * cols + k0 + l] = f[l] * v[r * cols + k0 + l];
    }
}

void es_k_weight_norm_bwd_fast(int64_t rows, int64_t cols, const float *v, const float *g, const float *dw,
                               float *dv, bool add_dv, float *dg, bool add_dg) {
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(rows *cols))
    for (int64_t k0 = 0; k0 < cols; k0 += LANES) {
        int64_t n = es_min64(LANES, cols - k0);
        double vv[LANES] = {0}, along[LANES] = {0};
        for (int64_t r = 0; r < rows; r++)
            for (int64_t l = 0; l < n; l++) {
                double x = (double)v[r * cols + k0 + l];
                vv[l] += x * x;
                along[l] += x * (double)dw[r * cols + k0 + l];
            }
        float f[LANES], back[LANES];
        for (int64_t l = 0; l < n; l++) {
            f[l] = (float)((double)g[k0 + l] / sqrt(vv[l]));
            back[l] = (float)(along[l] / vv[l]);
            if (dg) put(dg + k0 + l, add_dg, along[l] / sqrt(vv[l]));
        }
        for (int64_t r = 0; dv && r < rows; r++)
            for (int64_t l = 0; l < n; l++) {
                int64_t at = r * cols + k0 + l;
                float d = f[l] * (dw[at] - v[at] * back[l]);
                dv[at] = add_dv ? dv[at] + d : d;
            }
    }
}
