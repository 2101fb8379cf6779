/* Linear layers on oneDNN, operands fp32 or bf16, sums and outputs fp32.
 *
 * Forward: the inner product primitive with weights in the layout it likes best. dx: the same with the transposed weights as a second
 * packed copy (its backward primitive transposes inside, slower). dw: the gemm interface, the one with a beta. oneDNN's own threads
 * are not used: rows (forward, dx: blocks of at most ROWS) or tiles of dw are shared by ours, cut by shapes alone, and inside a
 * parallel region oneDNN runs on the thread that calls. So bits do not depend on the number of threads, whatever oneDNN makes of
 * shapes. Measured in a prototype with oneDNN 2.6.3 on Zen 4: 250 rows a call are as fast as 2000 in bf16 (0.97 of the register peak).
 *
 * A primitive is one for all threads: its scratchpad is the caller's, each thread has a stream and memory objects of its own.
 */
#include <string.h>

#include <dnnl.h>
#include <omp.h>

#include "bf16_impl.h"

#include "earshot/fault.h"
#include "earshot/mem.h"

#define ROWS 256
#define TILE_OUT 384 /* of dw */
#define TILE_IN 768
#define MAX_SHAPES 64
#define MAX_PRODUCTS 512
#define CACHE_LINE 64

/* In the library, in no header of 2.6. Row-major, as dnnl_sgemm. */
dnnl_status_t dnnl_gemm_bf16bf16f32(char trans_a, char trans_b, dnnl_dim_t m, dnnl_dim_t n, dnnl_dim_t k,
                                    float alpha, const uint16_t *a, dnnl_dim_t lda, const uint16_t *b,
                                    dnnl_dim_t ldb, float beta, float *c, dnnl_dim_t ldc);

struct thread { /* memory objects of a primitive, for one thread */
    dnnl_memory_t x, bias, y, scratchpad;
};

struct product { /* y [m,n] = x [m,k] w' (+ bias, + y) */
    int64_t m, k, n;
    bool bias, add;
    dnnl_primitive_t primitive;
    size_t scratchpad;
    struct thread *thread;
    /* NULL, or: so few rows want weights in another layout, made anew for each call */
    dnnl_primitive_t repack;
    dnnl_memory_t weights;
    void *data;
};

struct shape { /* of a layer; index 1: turned */
    int64_t in, out;
    dnnl_memory_desc_t packed[2];
    dnnl_primitive_t reorder[2];
    dnnl_memory_t master[2];
};

struct es_onednn {
    dnnl_data_type_t type;
    dnnl_engine_t engine;
    int threads;
    dnnl_stream_t *stream; /* [threads] */
    struct shape shape[MAX_SHAPES];
    struct product product[MAX_PRODUCTS];
    int n_shapes, n_products;
};

struct es_onednn_weight {
    struct es_onednn *d;
    int shape;
    void *data[2];
    dnnl_memory_t packed[2];
};

static void must(dnnl_status_t status) {
    ES_ASSERT(status == dnnl_success);
}

bool es_onednn_has_bf16(void) {
    const unsigned isa = (unsigned)dnnl_get_effective_cpu_isa(), want = dnnl_cpu_isa_avx512_core_bf16;
    return (isa & want) == want;
}

/* ---- primitives. Made with one thread: that is how they run. */

static dnnl_memory_desc_t matrix(int64_t rows, int64_t cols, dnnl_data_type_t type, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md;
    must(dnnl_memory_desc_init_by_tag(&md, 2, (dnnl_dims_t){rows, cols}, type, tag));
    return md;
}

static dnnl_primitive_attr_t attributes(bool add) {
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t ops;
    must(dnnl_primitive_attr_create(&attr));
    must(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    if (!add) return attr;
    must(dnnl_post_ops_create(&ops));
    must(dnnl_post_ops_append_sum(ops, 1.0f));
    must(dnnl_primitive_attr_set_post_ops(attr, ops));
    must(dnnl_post_ops_destroy(ops));
    return attr;
}

/* NULL: no implementation takes weights in this layout. */
static dnnl_primitive_desc_t describe(const struct es_onednn *d, int64_t m, int64_t k, int64_t n, bool bias,
                                      bool add, const dnnl_memory_desc_t *weights) {
    const dnnl_memory_desc_t x = matrix(m, k, d->type, dnnl_ab), y = matrix(m, n, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t b;
    dnnl_inner_product_desc_t desc;
    dnnl_primitive_desc_t pd = NULL;
    must(dnnl_memory_desc_init_by_tag(&b, 1, (dnnl_dims_t){n}, dnnl_f32, dnnl_a));
    must(dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_inference, &x, weights, bias ? &b : NULL,
                                              &y));
    dnnl_primitive_attr_t attr = attributes(add);
    const dnnl_status_t status = dnnl_primitive_desc_create(&pd, &desc, attr, d->engine, NULL);
    ES_ASSERT(status == dnnl_success || status == dnnl_unimplemented);
    must(dnnl_primitive_attr_destroy(attr));
    return status == dnnl_success ? pd : NULL;
}

static dnnl_primitive_t reorder(const struct es_onednn *d, const dnnl_memory_desc_t *from,
                                const dnnl_memory_desc_t *to) {
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t p;
    must(dnnl_reorder_primitive_desc_create(&pd, from, d->engine, to, d->engine, NULL));
    must(dnnl_primitive_create(&p, pd));
    must(dnnl_primitive_desc_destroy(pd));
    return p;
}

static struct shape *shape_of(struct es_onednn *d, int64_t in, int64_t out) {
    for (int i = 0; i < d->n_shapes; i++)
        if (d->shape[i].in == in && d->shape[i].out == out) return &d->shape[i];
    ES_ASSERT(d->n_shapes < MAX_SHAPES);
    struct shape *s = &d->shape[d->n_shapes++];
    const int threads = omp_get_max_threads();
    s->in = in;
    s->out = out;
    for (int turned = 0; turned < 2; turned++) {
        const int64_t k = turned ? out : in, n = turned ? in : out;
        const dnnl_memory_desc_t any = matrix(n, k, d->type, dnnl_format_tag_any),
                                 master = matrix(n, k, dnnl_f32, turned ? dnnl_ba : dnnl_ab);
        omp_set_num_threads(1);
        dnnl_primitive_desc_t pd = describe(d, ROWS, k, n, false, false, &any);
        omp_set_num_threads(threads);
        ES_ASSERT(pd);
        s->packed[turned] = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        must(dnnl_primitive_desc_destroy(pd));
        s->reorder[turned] = reorder(d, &master, &s->packed[turned]);
        must(dnnl_memory_create(&s->master[turned], &master, d->engine, DNNL_MEMORY_NONE));
    }
    return s;
}

static void make(struct es_onednn *d, struct product *p, const dnnl_memory_desc_t *weights) {
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_primitive_desc_t pd =
        es_fault_hit("onednn-layout") ? NULL : describe(d, p->m, p->k, p->n, p->bias, p->add, weights);
    if (!pd) {
        const dnnl_memory_desc_t any = matrix(p->n, p->k, d->type, dnnl_format_tag_any);
        pd = describe(d, p->m, p->k, p->n, p->bias, p->add, &any);
        ES_ASSERT(pd);
        const dnnl_memory_desc_t *own = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
        p->data = es_alloc(1, dnnl_memory_desc_get_size(own), NULL);
        ES_ASSERT(p->data);
        must(dnnl_memory_create(&p->weights, own, d->engine, p->data));
        p->repack = reorder(d, weights, own);
    }
    must(dnnl_primitive_create(&p->primitive, pd));
    omp_set_num_threads(threads);
    const dnnl_memory_desc_t *scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    const dnnl_memory_desc_t *b = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 1);
    p->scratchpad = dnnl_memory_desc_get_size(scratchpad);
    p->thread = es_alloc((size_t)d->threads, sizeof *p->thread, NULL);
    ES_ASSERT(p->thread);
    for (int i = 0; i < d->threads; i++) {
        struct thread *t = &p->thread[i];
        const dnnl_memory_desc_t *x = dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0),
                                 *y = dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0);
        must(dnnl_memory_create(&t->x, x, d->engine, DNNL_MEMORY_NONE));
        must(dnnl_memory_create(&t->y, y, d->engine, DNNL_MEMORY_NONE));
        if (p->bias) must(dnnl_memory_create(&t->bias, b, d->engine, DNNL_MEMORY_NONE));
        if (p->scratchpad > 0)
            must(dnnl_memory_create(&t->scratchpad, scratchpad, d->engine, DNNL_MEMORY_NONE));
    }
    must(dnnl_primitive_desc_destroy(pd));
}

static struct product *product_of(struct es_onednn *d, int64_t m, int64_t k, int64_t n, bool bias, bool add,
                                  const dnnl_memory_desc_t *weights) {
    for (int i = 0; i < d->n_products; i++) {
        struct product *p = &d->product[i];
        if (p->m == m && p->k == k && p->n == n && p->bias == bias && p->add == add) return p;
    }
    ES_ASSERT(d->n_products < MAX_PRODUCTS);
    struct product *p = &d->product[d->n_products++];
    *p = (struct product){.m = m, .k = k, .n = n, .bias = bias, .add = add};
    make(d, p, weights);
    return p;
}

/* ---- life */

int es_onednn_new(struct es_onednn **out, bool bf16, struct es_err *err) {
    struct es_onednn *d = *out = es_alloc(1, sizeof *d, err);
    if (!d) return -ES_EIO;
    d->type = bf16 ? dnnl_bf16 : dnnl_f32;
    d->threads = es_kernel_threads();
    d->stream = es_alloc((size_t)d->threads, sizeof *d->stream, err);
    if (!d->stream) {
        es_free(out);
        return -ES_EIO;
    }
    must(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    for (int i = 0; i < d->threads; i++)
        must(dnnl_stream_create(&d->stream[i], d->engine, dnnl_stream_default_flags));
    return 0;
}

static void memory_free(dnnl_memory_t m) {
    if (m) must(dnnl_memory_destroy(m));
}

void es_onednn_free(struct es_onednn **out) {
    struct es_onednn *d = *out;
    if (!d) return;
    for (int i = d->n_products - 1; i >= 0; i--) {
        struct product *p = &d->product[i];
        for (int k = 0; k < d->threads; k++) {
            memory_free(p->thread[k].scratchpad);
            memory_free(p->thread[k].bias);
            memory_free(p->thread[k].y);
            memory_free(p->thread[k].x);
        }
        es_free(&p->thread);
        must(dnnl_primitive_destroy(p->primitive));
        memory_free(p->weights);
        es_free(&p->data);
        if (p->repack) must(dnnl_primitive_destroy(p->repack));
    }
    for (int i = d->n_shapes - 1; i >= 0; i--)
        for (int turned = 0; turned < 2; turned++) {
            memory_free(d->shape[i].master[turned]);
            must(dnnl_primitive_destroy(d->shape[i].reorder[turned]));
        }
    for (int i = 0; i < d->threads; i++) must(dnnl_stream_destroy(d->stream[i]));
    must(dnnl_engine_destroy(d->engine));
    es_free(&d->stream);
    es_free(out);
}

int es_onednn_weight_new(struct es_onednn_weight **w, struct es_onednn *d, int64_t in, int64_t out,
                         struct es_err *err) {
    struct es_onednn_weight *p = *w = es_alloc(1, sizeof *p, err);
    if (!p) return -ES_EIO;
    const struct shape *s = shape_of(d, in, out);
    p->d = d;
    p->shape = (int)(s - d->shape);
    for (int turned = 0; turned < 2; turned++) {
        p->data[turned] = es_alloc(1, dnnl_memory_desc_get_size(&s->packed[turned]), err);
        if (!p->data[turned]) {
            es_onednn_weight_free(w);
            return -ES_EIO;
        }
        must(dnnl_memory_create(&p->packed[turned], &s->packed[turned], d->engine, p->data[turned]));
    }
    return 0;
}

void es_onednn_weight_free(struct es_onednn_weight **w) {
    if (!*w) return;
    for (int turned = 1; turned >= 0; turned--) {
        memory_free((*w)->packed[turned]);
        es_free(&(*w)->data[turned]);
    }
    es_free(w);
}

size_t es_onednn_weight_bytes(struct es_onednn *d, int64_t in, int64_t out) {
    const struct shape *s = shape_of(d, in, out);
    return dnnl_memory_desc_get_size(&s->packed[0]) + dnnl_memory_desc_get_size(&s->packed[1]);
}

/* oneDNN's handles are not const; what is handed in as a source is only read. */
static void *unconst(const void *p) {
    return (void *)(uintptr_t)p;
}

void es_onednn_weight_set(struct es_onednn_weight *w, const float *master) {
    const struct shape *s = &w->d->shape[w->shape];
    for (int turned = 0; turned < 2; turned++) {
        must(dnnl_memory_set_data_handle(s->master[turned], unconst(master)));
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, s->master[turned]},
                                         {DNNL_ARG_TO, w->packed[turned]}};
        must(dnnl_primitive_execute(s->reorder[turned], w->d->stream[0], 2, args));
    }
}

/* ---- products */

static int64_t n_blocks(int64_t rows) {
    return (rows + ROWS - 1) / ROWS;
}

/* Blocks have equally many rows but for the last. */
static int64_t block_rows(int64_t rows) {
    return (rows + n_blocks(rows) - 1) / n_blocks(rows);
}

static size_t line(size_t bytes) {
    return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

size_t es_onednn_workspace(struct es_onednn *d, int64_t rows, int64_t in, int64_t out) {
    const struct shape *s = shape_of(d, in, out);
    const int64_t m = block_rows(rows), last = rows - (n_blocks(rows) - 1) * m;
    size_t most = 0;
    for (int which = 0; which < 8; which++) { /* forward without and with bias; dx written and added */
        const bool turned = which & 1, other = which & 2;
        const struct product *p = product_of(d, which & 4 ? last : m, turned ? out : in, turned ? in : out,
                                             !turned && other, turned && other, &s->packed[turned]);
        if (p->scratchpad > most) most = p->scratchpad;
    }
    return (size_t)d->threads * line(most) + CACHE_LINE;
}

void es_onednn_product(const struct es_onednn_weight *w, bool turned, int64_t rows, const void *x,
                       const float *b, float beta, float *y, void *ws) {
    struct es_onednn *d = w->d;
    const struct shape *s = &d->shape[w->shape];
    const int64_t k = turned ? s->out : s->in, n = turned ? s->in : s->out;
    const int64_t blocks = n_blocks(rows), m = block_rows(rows), last = rows - (blocks - 1) * m;
    const size_t row = (size_t)k * dnnl_data_type_size(d->type);
    const struct product *p[2] = {product_of(d, m, k, n, b, beta != 0.0f, &s->packed[turned]),
                                  product_of(d, last, k, n, b, beta != 0.0f, &s->packed[turned])};
    const size_t scratch = line(p[0]->scratchpad > p[1]->scratchpad ? p[0]->scratchpad : p[1]->scratchpad);
    ES_ASSERT((beta == 0.0f || beta == 1.0f) && es_kernel_threads() <= d->threads);
    for (int i = 0; i < 2; i++) {
        const dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, w->packed[turned]}, {DNNL_ARG_TO, p[i]->weights}};
        if (p[i]->repack && (i == 0 || p[1] != p[0]))
            must(dnnl_primitive_execute(p[i]->repack, d->stream[0], 2, args));
    }
#pragma omp parallel for schedule(static) num_threads(es_kernel_threads())
    for (int64_t i = 0; i < blocks; i++) {
        const int me = omp_get_thread_num();
        const struct product *q = p[i == blocks - 1];
        const struct thread *t = &q->thread[me];
        dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, t->x},
                                   {DNNL_ARG_WEIGHTS, q->repack ? q->weights : w->packed[turned]},
                                   {DNNL_ARG_DST, t->y}};
        int n_args = 3;
        must(dnnl_memory_set_data_handle(t->x, unconst((const char *)x + (size_t)(i * m) * row)));
        must(dnnl_memory_set_data_handle(t->y, y + i * m * n));
        if (b) {
            must(dnnl_memory_set_data_handle(t->bias, unconst(b)));
            args[n_args++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, t->bias};
        }
        if (q->scratchpad > 0) {
            must(dnnl_memory_set_data_handle(t->scratchpad, (char *)ws + (size_t)me * scratch));
            args[n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, t->scratchpad};
        }
        must(dnnl_primitive_execute(q->primitive, d->stream[me], n_args, args));
    }
}

void es_onednn_dw(struct es_onednn *d, int64_t rows, int64_t in, int64_t out, const void *dy, const void *x,
                  float beta, float *dw) {
    const int64_t down = (out + TILE_OUT - 1) / TILE_OUT, across = (in + TILE_IN - 1) / TILE_IN;
#pragma omp parallel for schedule(static) num_threads(es_kernel_threads())
    for (int64_t i = 0; i < down * across; i++) {
        const int64_t o = i / across * TILE_OUT, j = i % across * TILE_IN, m = es_min64(TILE_OUT, out - o),
                      n = es_min64(TILE_IN, in - j);
        float *c = dw + o * in + j;
        if (d->type == dnnl_bf16)
            must(dnnl_gemm_bf16bf16f32('T', 'N', m, n, rows, 1.0f, (const uint16_t *)dy + o, out,
                                       (const uint16_t *)x + j, in, beta, c, in));
        else
            must(dnnl_sgemm('T', 'N', m, n, rows, 1.0f, (const float *)dy + o, out, (const float *)x + j, in,
                            beta, c, in));
    }
}
