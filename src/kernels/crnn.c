/* The kernels of kernels_crnn.h as operations call them: mode, and in check mode the bound of the difference.
 * Bounds are SLACK float roundings of the largest value the sums could reach, from Hoelder's inequality on
 * the data at hand. */
#include <math.h>

#include "crnn_impl.h"
#include "earshot/err.h"

#define SLACK (16 * 0x1p-24)
#define F sizeof(float)

static double max_abs(int64_t n, const float *x) {
    double m = 0;
    for (int64_t i = 0; x && i < n; i++) m = fmax(m, fabs((double)x[i]));
    return m;
}

/* Largest over the middle index of the sum of magnitudes over the others. x [outer,n,inner] */
static double max_sum(int64_t outer, int64_t n, int64_t inner, const float *x) {
    double top = 0;
    for (int64_t k = 0; x && k < n; k++) {
        double sum = 0;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t i = 0; i < inner; i++) sum += fabs((double)x[(o * n + k) * inner + i]);
        top = fmax(top, sum);
    }
    return top;
}

static int64_t conv_out(const struct es_k_conv2d *s) {
    return es_k_conv2d_out_h(s) * es_k_conv2d_out_w(s);
}

void es_k_conv2d_fwd(const struct es_k_conv2d *s, const float *x, const float *w, const float *b, float *y,
                     void *ws) {
    int64_t n = conv_out(s), k = s->C * s->kh * s->kw;
    ES_K_RUN(
        conv2d_fwd,
        ES_K_OUTS(
            {y, s->B * s->O * n,
             SLACK * (max_abs(s->B * s->C * s->H * s->W, x) * max_sum(1, s->O, k, w) + max_abs(s->O, b)), F}),
        s, x, w, b, y, ws);
}

void es_k_conv2d_dx(const struct es_k_conv2d *s, const float *w, const float *dy, float *dx, bool add_dx,
                    void *ws) {
    int64_t n = s->B * s->C * s->H * s->W;
    ES_K_RUN(
        conv2d_dx,
        ES_K_OUTS({dx, n,
                   SLACK * (max_abs(s->B * s->O * conv_out(s), dy) * max_sum(s->O, s->C, s->kh * s->kw, w) +
                            max_abs(n, dx)),
                   F}),
        s, w, dy, dx, add_dx, ws);
}

void es_k_conv2d_dw(const struct es_k_conv2d *s, const float *x, const float *dy, float *dw, bool add_dw,
                    float *db, bool add_db, void *ws) {
    int64_t nw = s->O * s->C * s->kh * s->kw;
    ES_K_RUN(
        conv2d_dw,
        ES_K_OUTS({dw, nw,
                   SLACK * (max_abs(s->B * s->C * s->H * s->W, x) * max_sum(s->B, s->O, conv_out(s), dy) +
                            max_abs(nw, dw)),
                   F},
                  {db, s->O, SLACK * (max_sum(s->B, s->O, conv_out(s), dy) + max_abs(s->O, db)), F}),
        s, x, dy, dw, add_dw, db, add_db, ws);
}

/* Of (x - mean) rstd, largest over the channels. */
static double max_unit(const struct es_k_batchnorm *s, const float *x, const float *mean, const float *rstd) {
    double top = 0;
    for (int64_t k = 0; k < s->B * s->C; k++) {
        double m = fabs((double)mean[k % s->C]) + max_abs(s->N, x + k * s->N);
        top = fmax(top, m * (double)rstd[k % s->C]);
    }
    return top;
}

void es_k_dropout(int64_t n, const struct es_rng *rng, double p, const float *x, float *y, bool add_y) {
    ES_ASSERT(p >= 0 && p < 1 && rng->left == 0);
    ES_K_RUN(dropout, ES_K_OUTS({y, n, 0, F}), n, rng, p, x, y, add_y);
}

int64_t es_k_tail_ref_values(const struct es_k_tail *s) {
    return 3 * s->B * s->C * s->H * s->W;
}

/* Bounds of the steps, one on top of the other. */
struct tail_bounds {
    double unit, top; /* normalised x without and with weights */
    double linear;    /* error of the gate's linear part */
    double slope;     /* of the gate, at most */
    double scale;     /* what dropout scales by */
};
static struct tail_bounds tail_bounds(const struct es_k_tail *s, const float *x, const float *const w[4],
                                      const float *mean, const float *rstd, const float *keep) {
    struct es_k_batchnorm norm = {s->B, s->C, s->H * s->W, s->eps, s->train};
    struct tail_bounds t = {.unit = max_unit(&norm, x, mean, rstd), .scale = 1 / (1 - s->p)};
    t.top = t.unit * max_abs(s->C, w[0]) + max_abs(s->C, w[1]);
    t.linear = SLACK * (1 + 2 * t.top * max_sum(1, s->C, s->C, w[2]) + max_abs(s->C, w[3]));
    t.slope = 1 + t.top + max_abs(keep ? s->B * s->C * norm.N : 0, keep);
    return t;
}

void es_k_tail_fwd(const struct es_k_tail *s, const float *x, const float *const w[4],
                   const float *const running[2], float *mean, float *rstd, float *unbiased, float *y,
                   float *keep, void *ws) {
    int64_t n = s->B * s->C * s->H * s->W;
    struct tail_bounds t = {0};
    ES_ASSERT(s->p >= 0 && s->p < 1 && s->rng.left == 0);
    ES_K_RUN(tail_fwd,
             ES_K_OUTS({mean, s->C, SLACK * max_abs(n, x), F}, {rstd, s->C, SLACK * max_abs(s->C, rstd), F},
                       {unbiased, s->C, SLACK * max_abs(s->C, unbiased), F},
                       {y, s->B * s->C * (s->H / s->kh) * (s->W / s->kw),
                        (t = tail_bounds(s, x, w, mean, rstd, NULL), t.linear * (1 + t.top) * t.scale), F}),
             s, x, w, running, mean, rstd, unbiased, y, keep, ws);
}

void es_k_tail_bwd(const struct es_k_tail *s, const float *x, const float *const w[4], const float *mean,
                   const float *rstd, const float *keep, const float *dy, float *dx, float *const dw[4],
                   const bool add_dw[4], void *ws) {
    int64_t C = s->C, out = (s->H / s->kh) * (s->W / s->kw);
    ES_ASSERT(s->p >= 0 && s->p < 1 && s->rng.left == 0);
    struct tail_bounds t = {0};
    /* largest and summed gradient of the gate; what its weights make of it */
    double top = 0, sum = 0, columns = 0;
    if (es_kernel_mode() == ES_KERNELS_CHECK) {
        t = tail_bounds(s, x, w, mean, rstd, keep);
        top = max_abs(s->B * C * out, dy) * t.scale * t.slope;
        sum = max_sum(s->B, C, out, dy) * t.scale * t.slope;
        columns = 1 + max_sum(C, C, 1, w[2]);
    }
    ES_K_RUN(
        tail_bwd,
        ES_K_OUTS({dx, s->B * C * s->H * s->W,
                   SLACK * top * columns * (1 + t.unit * t.unit) * max_abs(C, w[0]) * max_abs(C, rstd), F},
                  {dw[0], C, SLACK * (sum * columns * t.unit + max_abs(C, dw[0])), F},
                  {dw[1], C, SLACK * (sum * columns + max_abs(C, dw[1])), F},
                  {dw[2], C * C, SLACK * (sum * t.top + max_abs(C * C, dw[2])), F},
                  {dw[3], C, SLACK * (sum + max_abs(C, dw[3])), F}),
        s, x, w, mean, rstd, keep, dy, dx, dw, add_dw, ws);
}

void es_k_transpose(int64_t B, int64_t rows, int64_t cols, const float *x, float *y, bool add_y) {
    ES_K_RUN(transpose, ES_K_OUTS({y, B * rows * cols, 0, F}), B, rows, cols, x, y, add_y);
}

struct es_time_window es_k_time_window(const struct es_k_time *s, int64_t i) {
    int64_t T = s->T, n = s->n;
    struct es_time_window w = {0, 1, 1.0, 0.0};
    switch (s->mode) {
    case ES_TIME_POOL:
        w.s0 = i * T / n;
        w.count = ((i + 1) * T + n - 1) / n - w.s0;
        w.first = w.rest = 1.0 / (double)w.count;
        break;
    case ES_TIME_NEAREST:
        w.s0 = i * T / n;
        break;
    case ES_TIME_NEAREST_EXACT:
        w.s0 = (2 * i + 1) * T / (2 * n);
        break;
    case ES_TIME_LINEAR: {
        double at = fmax(0.0, ((double)i + 0.5) * (double)T / (double)n - 0.5);
        w.s0 = (int64_t)at;
        if (w.s0 + 1 < T) {
            w.count = 2;
            w.rest = at - (double)w.s0;
            w.first = 1.0 - w.rest;
        }
        break;
    }
    }
    return w;
}

void es_k_time_fwd(const struct es_k_time *s, const float *x, float *y) {
    ES_K_RUN(time_fwd, ES_K_OUTS({y, s->B * s->n * s->D, SLACK * max_abs(s->B * s->T * s->D, x), F}), s, x,
             y);
}

void es_k_time_bwd(const struct es_k_time *s, const float *dy, float *dx, bool add_dx) {
    int64_t n = s->B * s->T * s->D;
    double spread = (double)(s->n / s->T + 2); /* output frames that one input frame feeds */
    ES_K_RUN(time_bwd,
             ES_K_OUTS({dx, n, SLACK * (spread * max_abs(s->B * s->n * s->D, dy) + max_abs(n, dx)), F}), s,
             dy, dx, add_dx);
}

void es_k_activations(int64_t n, const float *x, float *sigmoid, float *tanh_x) {
    ES_K_RUN(activations, ES_K_OUTS({sigmoid, n, 3e-7, F}, {tanh_x, n, 3e-7, F}), n, x, sigmoid, tanh_x);
}

int64_t es_k_birnn_rows(const struct es_k_birnn *s) {
    return (s->cell == ES_CELL_LSTM ? 4 : 3) * s->H;
}

int64_t es_k_birnn_kept(const struct es_k_birnn *s) {
    return 2 * s->B * s->T * (es_k_birnn_rows(s) + s->H);
}

/* Rounding of h feeds back through the recurrence, damped by the gates: T steps are granted. */
static double birnn_bound(const struct es_k_birnn *s, const float *x, const float *const w[8]) {
    double top = 1;
    int64_t rows = es_k_birnn_rows(s);
    for (int d = 0; d < 8; d += 4)
        top = fmax(top, max_abs(s->B * s->T * s->D, x) * max_sum(1, rows, s->D, w[d]) +
                            max_sum(1, rows, s->H, w[d + 1]) + max_abs(rows, w[d + 2]) +
                            max_abs(rows, w[d + 3]));
    return SLACK * top * (double)s->T;
}

void es_k_birnn_fwd(const struct es_k_birnn *s, const float *x, const float *const w[8], float *y,
                    float *gates, void *ws) {
    ES_K_RUN(birnn_fwd,
             ES_K_OUTS({y, s->B * s->T * 2 * s->H, birnn_bound(s, x, w), F},
                       {gates, es_k_birnn_kept(s), birnn_bound(s, x, w), F}),
             s, x, w, y, gates, ws);
}

/* After the call gates hold gradients: the scale of every sum. terms of them times values up to top. */
static double birnn_grad_bound(const struct es_k_birnn *s, const float *gates, double terms, double top) {
    return SLACK * (double)s->T * terms * top * max_abs(es_k_birnn_kept(s), gates);
}

void es_k_birnn_bwd(const struct es_k_birnn *s, const float *x, const float *const w[8], const float *y,
                    float *gates, const float *dy, float *dx, bool add_dx, float *const dw[8],
                    const bool add_dw[8], void *ws) {
    int64_t n = s->B * s->T, H = s->H, rows = es_k_birnn_rows(s);
    double bt = (double)n;
    ES_K_RUN(birnn_bwd,
             ES_K_OUTS(
                 {gates, es_k_birnn_kept(s), HUGE_VAL, F}, /* consumed */
                 {dx, n * s->D,
                  birnn_grad_bound(s, gates, 1, max_sum(rows, s->D, 1, w[0]) + max_sum(rows, s->D, 1, w[4])) +
                      SLACK * max_abs(n * s->D, dx),
                  F},
                 {dw[0], rows * s->D, birnn_grad_bound(s, gates, bt, max_abs(n * s->D, x)), F},
                 {dw[1], rows * H, birnn_grad_bound(s, gates, bt, 1), F},
                 {dw[2], rows, birnn_grad_bound(s, gates, bt, 1), F},
                 {dw[3], rows, birnn_grad_bound(s, gates, bt, 1), F},
                 {dw[4], rows * s->D, birnn_grad_bound(s, gates, bt, max_abs(n * s->D, x)), F},
                 {dw[5], rows * H, birnn_grad_bound(s, gates, bt, 1), F},
                 {dw[6], rows, birnn_grad_bound(s, gates, bt, 1), F},
                 {dw[7], rows, birnn_grad_bound(s, gates, bt, 1), F}),
             s, x, w, y, gates, dy, dx, add_dx, dw, add_dw, ws);
}

void es_k_class_pool_fwd(const struct es_k_class_pool *s, const float *z, const float *a, const uint8_t *mask,
                         float *strong, float *weak, float *soft, void *ws) {
    int64_t n = s->B * s->T * s->K;
    ES_K_RUN(class_pool_fwd,
             ES_K_OUTS({strong, n, 3e-7, F}, {weak, s->B * s->K, SLACK * (1 + max_abs(n, a)), F},
                       {soft, n, SLACK * (1 + max_abs(n, a)), F}),
             s, z, a, mask, strong, weak, soft, ws);
}

/* dweak is divided by the sum of weights over time, at least T times the smallest. */
static double class_pool_slope(const struct es_k_class_pool *s, const float *soft, const float *dstrong,
                               const float *dweak) {
    double least = 1;
    for (int64_t i = 0; i < s->B * s->T * s->K; i++) least = fmin(least, fmax((double)soft[i], 1e-7));
    return max_abs(s->B * s->T * s->K, dstrong) + max_abs(s->B * s->K, dweak) / (least * (double)s->T);
}

void es_k_class_pool_bwd(const struct es_k_class_pool *s, const uint8_t *mask, const float *strong,
                         const float *weak, const float *soft, const float *dstrong, const float *dweak,
                         float *dz, bool add_dz, float *da, bool add_da, void *ws) {
    int64_t n = s->B * s->T * s->K;
    ES_K_RUN(class_pool_bwd,
             ES_K_OUTS({dz, n, SLACK * (class_pool_slope(s, soft, dstrong, dweak) + max_abs(n, dz)), F},
                       {da, n, SLACK * (class_pool_slope(s, soft, dstrong, dweak) + max_abs(n, da)), F}),
             s, mask, strong, weak, soft, dstrong, dweak, dz, add_dz, da, add_da, ws);
}

void es_k_crnn_log(int64_t B, int64_t n_mels, int64_t T, const float *x, float *y) {
    ES_K_RUN(crnn_log, ES_K_OUTS({y, B * n_mels * T, 3e-5, F}), B, n_mels, T, x, y);
}

static double loss_bound(const struct es_k_loss *s, const float *p, const float *target) {
    int64_t n = s->rows * s->K * s->inner;
    double top = s->kind == ES_LOSS_BCE ? 100 : pow(1 + max_abs(n, p) + max_abs(n, target), 2);
    return SLACK * top * (double)(s->K * s->inner);
}

void es_k_loss_fwd(const struct es_k_loss *s, const float *p, const float *target, double *row_sum) {
    ES_K_RUN(loss_fwd, ES_K_OUTS({row_sum, s->rows, loss_bound(s, p, target), sizeof(double)}), s, p, target,
             row_sum);
}

void es_k_loss_bwd(const struct es_k_loss *s, const float *p, const float *target, double g, float *dp,
                   bool add_dp) {
    int64_t n = s->rows * s->K * s->inner;
    ES_K_RUN(loss_bwd, ES_K_OUTS({dp, n, SLACK * max_abs(n, dp), F}), s, p, target, g, dp, add_dp);
}
