/* bf16: kinds, operands, and linear layers with their emulation by fp32 kernels. */
#include <math.h>
#include <string.h>

#include "bf16_impl.h"

#include "earshot/mem.h"

struct es_bf16_weight {
    struct es_bf16 *e;
    int64_t in, out;
    uint16_t *rounded; /* [out,in], emulated */
    struct es_onednn_weight *packed;
};

static const char *const kind_name[] = {[ES_BF16_NONE] = "none",
                                        [ES_BF16_ONEDNN] = "onednn",
                                        [ES_BF16_EMULATED] = "emulate",
                                        [ES_BF16_ONEDNN_FP32] = "onednn-fp32"};

const char *es_bf16_kind_name(enum es_bf16_kind kind) {
    return kind_name[kind];
}

bool es_bf16_instructions(void) {
    return es_kernel_avx512() && __builtin_cpu_supports("avx512bf16") && es_onednn_has_bf16();
}

int es_bf16_new(struct es_bf16 **e, enum es_bf16_kind kind, struct es_err *err) {
    ES_ASSERT(kind != ES_BF16_NONE);
    *e = es_alloc(1, sizeof **e, err);
    if (!*e) return -ES_EIO;
    (*e)->kind = kind;
    if (kind == ES_BF16_EMULATED) return 0;
    int rc = es_onednn_new(&(*e)->onednn, kind == ES_BF16_ONEDNN, err);
    if (rc < 0) es_bf16_free(e);
    return rc;
}

void es_bf16_free(struct es_bf16 **e) {
    if (!*e) return;
    es_onednn_free(&(*e)->onednn);
    es_free(e);
}

size_t es_bf16_size(const struct es_bf16 *e) {
    return e->kind == ES_BF16_ONEDNN_FP32 ? sizeof(float) : sizeof(uint16_t);
}

void es_bf16_from(const struct es_bf16 *e, int64_t n, const float *x, void *y) {
    if (e->kind == ES_BF16_ONEDNN_FP32)
        memcpy(y, x, (size_t)n * sizeof *x);
    else
        es_k_bf16_round(n, x, y);
}

void es_bf16_to(const struct es_bf16 *e, int64_t n, const void *x, float *y) {
    if (e->kind == ES_BF16_ONEDNN_FP32)
        memcpy(y, x, (size_t)n * sizeof *y);
    else
        es_k_bf16_widen(n, x, y);
}

/* ---- weights */

int es_bf16_weight_new(struct es_bf16_weight **w, struct es_bf16 *e, int64_t in, int64_t out,
                       struct es_err *err) {
    *w = es_alloc(1, sizeof **w, err);
    if (!*w) return -ES_EIO;
    **w = (struct es_bf16_weight){.e = e, .in = in, .out = out};
    int rc = 0;
    if (e->onednn)
        rc = es_onednn_weight_new(&(*w)->packed, e->onednn, in, out, err);
    else if (!((*w)->rounded = es_alloc((size_t)(in * out), sizeof(uint16_t), err)))
        rc = -ES_EIO;
    if (rc < 0) es_bf16_weight_free(w);
    return rc;
}

void es_bf16_weight_free(struct es_bf16_weight **w) {
    if (!*w) return;
    es_onednn_weight_free(&(*w)->packed);
    es_free(&(*w)->rounded);
    es_free(w);
}

void es_bf16_weight_set(struct es_bf16_weight *w, const float *master) {
    if (w->packed)
        es_onednn_weight_set(w->packed, master);
    else
        es_k_bf16_round(w->in * w->out, master, w->rounded);
}

int64_t es_bf16_weight_bytes(struct es_bf16 *e, int64_t in, int64_t out) {
    return e->onednn ? (int64_t)es_onednn_weight_bytes(e->onednn, in, out)
                     : in * out * (int64_t)sizeof(uint16_t);
}

/* ---- products; the emulation widens both operands into its workspace: a | b | what the fp32 kernel needs */

static int64_t padded(int64_t n) {
    return (n + 15) / 16 * 16;
}

size_t es_bf16_linear_workspace(struct es_bf16 *e, int64_t rows, int64_t in, int64_t out) {
    if (e->onednn) return es_onednn_workspace(e->onednn, rows, in, out);
    int64_t x = padded(rows * in), y = padded(rows * out), w = padded(in * out);
    int64_t most = x + w > y + w ? x + w : y + w;
    if (x + y > most) most = x + y;
    return (size_t)most * sizeof(float) + es_k_linear_workspace(rows, in, out);
}

struct operands {
    float *a, *b;
    void *ws;
};

static struct operands widen(int64_t n_a, const uint16_t *a, int64_t n_b, const uint16_t *b, void *ws) {
    struct operands o = {.a = ws};
    o.b = o.a + padded(n_a);
    o.ws = o.b + padded(n_b);
    es_k_bf16_widen(n_a, a, o.a);
    es_k_bf16_widen(n_b, b, o.b);
    return o;
}

void es_bf16_linear_fwd(const struct es_bf16_weight *w, int64_t rows, const void *x, const float *b, float *y,
                        void *ws) {
    if (w->packed) {
        es_onednn_product(w->packed, false, rows, x, b, 0.0f, y, ws);
        return;
    }
    struct operands o = widen(rows * w->in, x, w->in * w->out, w->rounded, ws);
    es_k_linear_fwd(rows, w->in, w->out, o.a, o.b, b, y, o.ws);
}

void es_bf16_linear_dx(const struct es_bf16_weight *w, int64_t rows, const void *dy, float beta, float *dx,
                       void *ws) {
    if (w->packed) {
        es_onednn_product(w->packed, true, rows, dy, NULL, beta, dx, ws);
        return;
    }
    struct operands o = widen(rows * w->out, dy, w->in * w->out, w->rounded, ws);
    es_k_linear_dx(rows, w->in, w->out, o.a, o.b, beta, dx, o.ws);
}

void es_bf16_linear_dw(struct es_bf16 *e, int64_t rows, int64_t in, int64_t out, const void *dy,
                       const void *x, float beta, float *dw, void *ws) {
    if (e->onednn) {
        es_onednn_dw(e->onednn, rows, in, out, dy, x, beta, dw);
        return;
    }
    struct operands o = widen(rows * out, dy, rows * in, x, ws);
    es_k_linear_dw(rows, in, out, o.a, o.b, beta, dw, o.ws);
}

double es_k_peak_bf16_gflops(int threads, double wall_s) {
    double sum = 0;
    if (!es_bf16_instructions()) return (double)NAN;
#pragma omp parallel num_threads(threads)
    {
        double mine = es_peak_run_bf16(wall_s);
#pragma omp critical
        sum += mine;
    }
    return sum;
}
