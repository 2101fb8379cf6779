/* Attention in bf16: choice and check. The kind that leaves operands in fp32 runs the fp32 kernels, with their check. */
#include <math.h>

#include "bf16_impl.h"

#include "earshot/err.h"
#include "earshot/mem.h"

static size_t kernel_bytes(const struct es_bf16 *e, const struct es_k_attention *s) {
    return e->kind == ES_BF16_ONEDNN ? es_attention_bytes_bf16(s->T, s->d)
                                     : es_attention_bytes_pairs(s->T, s->d);
}

size_t es_bf16_attention_workspace(const struct es_bf16 *e, const struct es_k_attention *s) {
    return e->kind == ES_BF16_ONEDNN_FP32 ? es_k_attention_rel_ws(s) : es_attention_ws(s, kernel_bytes(e, s));
}

/* What the reference needs: the operands in fp32. */
struct wide {
    int64_t n, n_out;
    float *q, *k, *v, *out;
};

static float *widen(int64_t n, const void *x) {
    float *y = es_alloc((size_t)n, sizeof *y, NULL);
    ES_ASSERT(y);
    es_k_bf16_widen(n, x, y);
    return y;
}

static struct wide wide_new(const struct es_k_attention *s, const void *q, const void *k, const void *v,
                            const void *out) {
    const int64_t rows = s->B * s->T, D = s->H * s->d;
    struct wide w = {.n = (rows - 1) * s->ld + D, .n_out = rows * D};
    if (es_kernel_mode() == ES_KERNELS_FAST) return w;
    w.q = widen(w.n, q);
    w.k = widen(w.n, k);
    w.v = widen(w.n, v);
    if (out) w.out = widen(w.n_out, out);
    return w;
}

static void wide_free(struct wide *w) {
    es_free(&w->out);
    es_free(&w->v);
    es_free(&w->k);
    es_free(&w->q);
}

/* Largest errors, check mode only. Roundings: of a score its operand q / sqrt d, of a sum over keys or queries the probability or
 * gradient, once; of dout's products dout. */
struct bounds {
    double score, value, dout, ds; /* of a score; values and dout times the mask; of a score's gradient */
};

static struct bounds bounds(const struct es_k_attention *s, const struct wide *w, const float *gate,
                            const float *bias, const float *lse, const float *dout) {
    const double u = 1.0 / 512, d = (double)s->d, m = 1 / (1 - s->drop);
    const int64_t rows = s->B * s->T;
    struct bounds b = {.value = m * es_check_max(w->n, w->v), .dout = m * es_check_max(w->n_out, dout)};
    double score = sqrt(d) * es_check_max(w->n, w->q) * es_check_max(w->n, w->k);
    double position = gate ? es_check_max(rows * s->H, gate) * es_check_max(s->H * (2 * s->T - 1), bias) : 0;
    b.score = (u + (d + 8) * ES_EPS) * score + 4 * ES_EPS * position + 1e-6 +
              2 * ES_EPS * es_check_max(rows * s->H, lse);
    b.ds = 2 * d * b.dout * es_check_max(w->n, w->v) * (b.score + 3 * u + (double)(s->T + 8) * ES_EPS);
    return b;
}

void es_bf16_attention_fwd(const struct es_bf16 *e, const struct es_k_attention *s, const void *q,
                           const void *k, const void *v, const float *gate, const float *bias, float *y,
                           float *lse, void *ws) {
    if (e->kind == ES_BF16_ONEDNN_FP32) {
        es_k_attention_rel_fwd(s, q, k, v, gate, bias, y, lse, ws);
        return;
    }
    struct wide w = wide_new(s, q, k, v, NULL);
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_attention_rel_fwd_ref_f32(s, w.q, w.k, w.v, gate, bias, y, lse, NULL);
        wide_free(&w);
        return;
    }
    struct es_attention a = es_attention_of(s, q, k, v, gate, bias);
    const int64_t n_lse = s->B * s->H * s->T;
    a.y = y;
    a.y_lse = lse;
    (e->kind == ES_BF16_ONEDNN ? es_attention_fwd_bf16 : es_attention_fwd_pairs)(&a, ws);
    float *want = es_check_begin(w.n_out, y), *want_lse = es_check_begin(n_lse, lse);
    if (!want) return;
    es_k_attention_rel_fwd_ref_f32(s, w.q, w.k, w.v, gate, bias, want, want_lse, NULL);
    struct bounds b = bounds(s, &w, gate, bias, want_lse, NULL);
    const double sums = (double)(s->T + 8) * ES_EPS;
    es_check_end("bf16_attention_fwd out", w.n_out, y, &want, (2 * b.score + 1.0 / 512 + 2 * sums) * b.value,
                 NULL);
    es_check_end("bf16_attention_fwd lse", n_lse, lse, &want_lse,
                 b.score + sums * (1 + es_check_max(n_lse, want_lse)), NULL);
    wide_free(&w);
}

void es_bf16_attention_bwd(const struct es_bf16 *e, const struct es_k_attention *s, const void *q,
                           const void *k, const void *v, const float *gate, const float *bias,
                           const void *out, const float *lse, const float *dout, float *const grad[5],
                           const bool add[5], void *ws) {
    if (e->kind == ES_BF16_ONEDNN_FP32) {
        es_k_attention_rel_bwd(s, q, k, v, gate, bias, out, lse, dout, grad[0], add[0], grad[1], add[1],
                               grad[2], add[2], grad[3], add[3], grad[4], add[4], ws);
        return;
    }
    static const char *const name[5] = {"bf16_attention_bwd dq", "bf16_attention_bwd dk",
                                        "bf16_attention_bwd dv", "bf16_attention_bwd dgate",
                                        "bf16_attention_bwd dbias"};
    struct wide w = wide_new(s, q, k, v, out);
    const int64_t rows = s->B * s->T, n[5] = {w.n, w.n, w.n, rows * s->H, s->H * (2 * s->T - 1)};
    const bool check = es_kernel_mode() == ES_KERNELS_CHECK;
    float *want[5];
    for (int i = 0; i < 5; i++) want[i] = es_check_begin(n[i], grad[i]);
    if (es_kernel_mode() != ES_KERNELS_REF) {
        struct es_attention a = es_attention_of(s, q, k, v, gate, bias);
        a.out = out;
        a.lse = lse;
        a.dout = dout;
        es_attention_gradients(&a, kernel_bytes(e, s),
                               e->kind == ES_BF16_ONEDNN ? es_attention_bwd_bf16 : es_attention_bwd_pairs,
                               grad, add, ws);
        if (!check) return;
    }
    float *const *ref = check ? want : grad;
    es_k_attention_rel_bwd_ref_f32(s, w.q, w.k, w.v, gate, bias, w.out, lse, dout, ref[0], add[0], ref[1],
                                   add[1], ref[2], add[2], ref[3], add[3], ref[4], add[4], NULL);
    struct bounds b = {0};
    if (check) b = bounds(s, &w, gate, bias, lse, dout);
    const double T = (double)s->T, scale = T / sqrt((double)s->d), ds = b.ds;
    const double tol[5] = {scale * ds * es_check_max(w.n, w.k), scale * ds * es_check_max(w.n, w.q),
                           T * b.dout * (b.score + 3.0 / 512 + (T + 8) * ES_EPS),
                           gate ? T * ds * es_check_max(n[4], bias) : 0,
                           gate ? (double)s->B * T * ds * es_check_max(n[3], gate) : 0};
    for (int i = 0; i < 5; i++)
        es_check_end(name[i], n[i], grad[i], &want[i], tol[i] + 4 * ES_EPS * es_check_max(n[i], want[i]),
                     NULL);
    wide_free(&w);
}
