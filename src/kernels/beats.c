/* The kernels of kernels_beats.h as operations call them: mode, and in check mode the bound of the difference. Bounds: float
 * roundings of the largest value the sums could reach. */
#include <math.h>

#include "crnn_impl.h"
#include "earshot/err.h"
#include "earshot/kernels_beats.h"
#include "impl.h"

#define F sizeof(float)

static double most(int64_t n, const float *x) {
    return es_check_max(n, x);
}

/* Largest |column| of rows of d, rows ld apart. */
static double longest(int64_t rows, int64_t H, int64_t d, int64_t ld, const float *x) {
    double top = 0;
    for (int64_t r = 0; r < rows * H; r++) {
        const float *v = x + r / H * ld + r % H * d;
        double s = 0;
        for (int64_t c = 0; c < d; c++) s += (double)v[c] * (double)v[c];
        top = fmax(top, sqrt(s));
    }
    return top;
}

/* ---- attention: as in attention.c, with the position's term in the score and the mask's factor in the values */
struct bounds {
    double score, lse, value, out, ds, gate, bias;
};

static struct bounds bounds(const struct es_k_attention *s, const float *q, const float *k, const float *v,
                            const float *gate, const float *bias, const float *lse, const float *dout) {
    int64_t rows = s->B * s->T;
    double d = (double)s->d, T = (double)s->T, m = 1 / (1 - s->drop);
    double gmax = dout ? longest(rows, s->H, s->d, s->H * s->d, dout) : 0;
    struct bounds b = {.gate = gate ? most(rows * s->H, gate) : 0,
                       .bias = bias ? most(s->H * (2 * s->T - 1), bias) : 0,
                       .value = m * longest(rows, s->H, s->d, s->ld, v)};
    b.score = (d + 8) * ES_EPS * longest(rows, s->H, s->d, s->ld, q) * longest(rows, s->H, s->d, s->ld, k) /
                  sqrt(d) +
              4 * ES_EPS * b.gate * b.bias + 1e-6 + 2 * ES_EPS * (lse ? most(s->H * rows, lse) : 0);
    b.lse = b.score + (T + 8) * ES_EPS * (1 + (lse ? most(s->H * rows, lse) : 0));
    b.out = (2 * b.score + 2 * (T + 8) * ES_EPS) * b.value;
    b.ds = 2 * gmax * b.value * (b.score + (d + 4) * ES_EPS); /* error of p (dp - r), p at most 1 */
    return b;
}

void es_k_attention_rel_fwd(const struct es_k_attention *s, const float *q, const float *k, const float *v,
                            const float *gate, const float *bias, float *out, float *lse, void *ws) {
    int64_t rows = s->B * s->T;
    struct bounds b = {0};
    if (es_kernel_mode() == ES_KERNELS_CHECK) b = bounds(s, q, k, v, gate, bias, NULL, NULL);
    ES_K_RUN(attention_rel_fwd,
             ES_K_OUTS({out, rows * s->H * s->d, b.out, F},
                       {lse, rows * s->H, b.lse * (1 + (lse ? most(rows * s->H, lse) : 0)), F}),
             s, q, k, v, gate, bias, out, lse, ws);
}

void es_k_attention_rel_bwd(const struct es_k_attention *s, const float *q, const float *k, const float *v,
                            const float *gate, const float *bias, const float *out, const float *lse,
                            const float *dout, float *dq, bool add_dq, float *dk, bool add_dk, float *dv,
                            bool add_dv, float *dgate, bool add_dgate, float *dbias, bool add_dbias,
                            void *ws) {
    int64_t D = s->H * s->d, rows = s->B * s->T, n = rows > 0 ? (rows - 1) * s->ld + D : 0,
            n_bias = s->H * (2 * s->T - 1);
    double T = (double)s->T, B = (double)s->B, tol[5] = {0};
    struct bounds b = {0};
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        b = bounds(s, q, k, v, gate, bias, lse, dout);
        double m = 1 / (1 - s->drop), dp = 2 * b.value * most(rows * D, dout) * sqrt((double)s->d);
        double ds = b.ds + (T + 8) * ES_EPS * dp, scale = 1 / sqrt((double)s->d);
        tol[0] = T * ds * most(n, k) * scale; /* sums of T scores' gradients */
        tol[1] = T * ds * most(n, q) * scale;
        tol[2] = T * m * (b.score + (T + 8) * ES_EPS) * most(rows * D, dout);
        tol[3] = T * ds * b.bias;
        tol[4] = B * T * ds * b.gate;
    }
    ES_K_RUN(attention_rel_bwd,
             ES_K_OUTS({dq, n, tol[0] + 4 * ES_EPS * most(n, dq), F},
                       {dk, n, tol[1] + 4 * ES_EPS * most(n, dk), F},
                       {dv, n, tol[2] + 4 * ES_EPS * most(n, dv), F},
                       {dgate, rows * s->H, tol[3] + 4 * ES_EPS * most(rows * s->H, dgate), F},
                       {dbias, n_bias, tol[4] + 4 * ES_EPS * most(n_bias, dbias), F}),
             s, q, k, v, gate, bias, out, lse, dout, dq, add_dq, dk, add_dk, dv, add_dv, dgate, add_dgate,
             dbias, add_dbias, ws);
}

/* ---- gate: both halves are 1e-6 off, and what the score's roundings give */
static double gate_error(const struct es_k_rel_gate *s, const float *q, const float *w) {
    double sum = 0;
    for (int o = 0; o < 8; o++) sum += longest(1, 1, s->d, s->d, w + o * s->d);
    return 1e-6 + (double)(s->d + 8) * ES_EPS * sum * longest(s->rows, 1, s->d, s->d, q);
}

void es_k_rel_gate_fwd(const struct es_k_rel_gate *s, const float *q, const float *w, const float *b,
                       const float *a, float *gate, void *ws) {
    ES_K_RUN(rel_gate_fwd, ES_K_OUTS({gate, s->rows, 4 * gate_error(s, q, w) * (1 + most(s->H, a)), F}), s, q,
             w, b, a, gate, ws);
}

void es_k_rel_gate_bwd(const struct es_k_rel_gate *s, const float *q, const float *w, const float *b,
                       const float *a, const float *dgate, float *dq, bool add_dq, float *dw, bool add_dw,
                       float *db, bool add_db, float *da, bool add_da, void *ws) {
    double dp = 0, wide = 0;
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        dp = 4 * gate_error(s, q, w) * (1 + most(s->H, a)) * most(s->rows, dgate);
        wide = most(s->rows * s->d, q);
    }
    double R = (double)s->rows;
    ES_K_RUN(
        rel_gate_bwd,
        ES_K_OUTS({dq, s->rows * s->d, 8 * dp * most(8 * s->d, w) + 4 * ES_EPS * most(s->rows * s->d, dq), F},
                  {dw, 8 * s->d, R * dp * wide + 4 * ES_EPS * most(8 * s->d, dw), F},
                  {db, 8, R * dp + 4 * ES_EPS * most(8, db), F},
                  {da, s->H, R * dp + 4 * ES_EPS * most(s->H, da), F}),
        s, q, w, b, a, dgate, dq, add_dq, dw, add_dw, db, add_db, da, add_da, ws);
}

/* ---- convolution: chains of some hundred products */
static double roundings(double n, double a, double b) {
    return 32 * ES_EPS * n * a * b;
}

void es_k_conv1d_fwd(const struct es_k_conv1d *s, const float *x, const float *w, const float *bias, float *y,
                     void *ws) {
    int64_t n = s->B * s->T * s->D, c = s->D / s->groups, nw = s->D * c * s->taps;
    ES_K_RUN(
        conv1d_fwd,
        ES_K_OUTS(
            {y, n, roundings((double)(c * s->taps), most(n, x), most(nw, w)) + ES_EPS * most(s->D, bias), F}),
        s, x, w, bias, y, ws);
}

void es_k_conv1d_dx(const struct es_k_conv1d *s, const float *w, const float *dy, float *dx, bool add_dx,
                    void *ws) {
    int64_t n = s->B * s->T * s->D, c = s->D / s->groups, nw = s->D * c * s->taps;
    ES_K_RUN(
        conv1d_dx,
        ES_K_OUTS({dx, n,
                   roundings((double)(c * s->taps), most(n, dy), most(nw, w)) + 2 * ES_EPS * most(n, dx), F}),
        s, w, dy, dx, add_dx, ws);
}

void es_k_conv1d_dw(const struct es_k_conv1d *s, const float *x, const float *dy, float *dw, bool add_dw,
                    void *ws) {
    int64_t n = s->B * s->T * s->D, nw = s->D * (s->D / s->groups) * s->taps;
    ES_K_RUN(
        conv1d_dw,
        ES_K_OUTS({dw, nw,
                   roundings((double)(s->B * s->T), most(n, x), most(n, dy)) + 2 * ES_EPS * most(nw, dw), F}),
        s, x, dy, dw, add_dw, ws);
}

/* ---- weight norm */
void es_k_weight_norm_fwd(int64_t rows, int64_t cols, const float *v, const float *g, float *w) {
    ES_K_RUN(weight_norm_fwd, ES_K_OUTS({w, rows * cols, 4 * ES_EPS * most(cols, g), F}), rows, cols, v, g,
             w);
}

/* Smallest norm of a column. */
static double shortest(int64_t rows, int64_t cols, const float *v) {
    double least = HUGE_VAL;
    for (int64_t k = 0; k < cols; k++) {
        double s = 0;
        for (int64_t r = 0; r < rows; r++) s += (double)v[r * cols + k] * (double)v[r * cols + k];
        least = fmin(least, sqrt(s));
    }
    return least;
}

void es_k_weight_norm_bwd(int64_t rows, int64_t cols, const float *v, const float *g, const float *dw,
                          float *dv, bool add_dv, float *dg, bool add_dg) {
    int64_t n = rows * cols;
    double norm = 1, top = 0;
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        norm = shortest(rows, cols, v);
        top = most(n, dw) * (1 + sqrt((double)rows));
    }
    ES_K_RUN(weight_norm_bwd,
             ES_K_OUTS({dv, n, 8 * ES_EPS * (top * most(cols, g) / norm + most(n, dv)), F},
                       {dg, cols, 4 * ES_EPS * (top + most(cols, dg)), F}),
             rows, cols, v, g, dw, dv, add_dv, dg, add_dg);
}

/* ---- the table of positions: data movement */
int es_k_rel_bucket(int64_t r, int n_buckets, int max_distance) {
    ES_ASSERT(n_buckets >= 4 && n_buckets % 4 == 0 && max_distance > n_buckets / 4);
    int half = n_buckets / 2, exact = half / 2, first = r > 0 ? half : 0;
    int64_t distance = r < 0 ? -r : r;
    if (distance < exact) return first + (int)distance;
    float octave = (float)log((double)max_distance / exact);
    float at = logf((float)distance / (float)exact) / octave * (float)(half - exact);
    int64_t bucket = exact + (int64_t)at;
    return first + (int)es_min64(bucket, half - 1);
}

void es_k_rel_bias_fwd(int64_t T, int64_t H, int n_buckets, int max_distance, const float *table,
                       float *bias) {
    for (int64_t i = 0; i < 2 * T - 1; i++) {
        int bucket = es_k_rel_bucket(i - (T - 1), n_buckets, max_distance);
        for (int64_t h = 0; h < H; h++) bias[h * (2 * T - 1) + i] = table[bucket * H + h];
    }
}

void es_k_rel_bias_bwd(int64_t T, int64_t H, int n_buckets, int max_distance, const float *dbias,
                       float *dtable, bool add_dtable) {
    /* the buckets of one sign rise with the distance: each is one run of positions */
    for (int bucket = 0; !add_dtable && bucket < n_buckets; bucket++)
        for (int64_t h = 0; h < H; h++) dtable[bucket * H + h] = 0.0f;
    for (int64_t lo = -(T - 1), hi; lo <= T - 1; lo = hi) {
        int bucket = es_k_rel_bucket(lo, n_buckets, max_distance);
        for (hi = lo + 1; hi <= T - 1 && es_k_rel_bucket(hi, n_buckets, max_distance) == bucket; hi++) {
        }
        for (int64_t h = 0; h < H; h++) {
            double sum = (double)dtable[bucket * H + h];
            for (int64_t r = lo; r < hi; r++) sum += (double)dbias[h * (2 * T - 1) + T - 1 + r];
            dtable[bucket * H + h] = (float)sum;
        }
    }
}
