#include "earshot/gram_bench.h"

#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/timer.h"

static void fill(float *x, int64_t n, int64_t row, uint32_t op) {
    struct es_rng r = es_rng_make(1, ES_RNG_BENCH, 0, (uint32_t)row, op);
    for (int64_t i = 0; i < n; i++) x[i] = (float)es_rng_range(&r, -1, 1);
}

/* Panels go round the ranks: the rows and their order are the same on any number of ranks. */
static int add_rows(struct es_gram *g, const struct es_comm *c, const struct es_gram_params *p,
                    int64_t n_rows, float *x, float *y, struct es_err *err) {
    const int64_t round = (int64_t)es_comm_size(c) * ES_GRAM_PANEL;
    for (int64_t at = 0; at < n_rows; at += round) {
        const int64_t first = at + (int64_t)es_comm_rank(c) * ES_GRAM_PANEL, left = n_rows - first;
        const int64_t n = left < 0 ? 0 : left < ES_GRAM_PANEL ? left : ES_GRAM_PANEL;
        for (int64_t i = 0; i < n; i++) {
            fill(x + i * p->d, p->d, first + i, 1);
            fill(y + i * p->k, p->k, first + i, 2);
            x[(i + 1) * p->d - 1] = 1;
        }
        ES_TRY(es_gram_add_all(g, x, y, n, err));
    }
    return 0;
}

int es_gram_bench_all(const struct es_comm *c, const struct es_gram_params *p, int64_t n_rows,
                      struct es_gram_bench *out, struct es_err *err) {
    struct es_gram *g = NULL;
    struct es_err local = {0};
    *out = (struct es_gram_bench){0};
    float *x = es_alloc((size_t)(ES_GRAM_PANEL * p->d), sizeof *x, &local);
    float *y = es_alloc((size_t)(ES_GRAM_PANEL * (int64_t)p->k), sizeof *y, &local);
    double *w = es_alloc((size_t)(p->d * p->k), sizeof *w, &local);
    int rc = es_err_agree_all(c, x && y && w ? 0 : -ES_EIO, &local);
    if (rc < 0 && err) *err = local;
    ES_GO(rc);
    ES_GO(es_gram_new_all(&g, c, p, err));
    double begin_s = es_now_s();
    ES_GO(add_rows(g, c, p, n_rows, x, y, err));
    out->add_s = es_comm_slowest_s_all(c, es_now_s() - begin_s);
    begin_s = es_now_s();
    ES_GO(es_gram_solve_all(g, 1e-2 * es_gram_scale_all(g), 1, w, &out->residual, err));
    out->solve_s = es_comm_slowest_s_all(c, es_now_s() - begin_s);
    out->on_grid = es_gram_on_grid(g);
    out->gram_bytes = es_comm_max_all(c, es_gram_bytes(g));
    out->peak_rss_bytes = es_comm_max_all(c, es_mem_peak_rss());
done:
    es_gram_free_all(&g);
    es_free(&w);
    es_free(&y);
    es_free(&x);
    return rc;
}
