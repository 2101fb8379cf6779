#include "earshot/gram.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "linalg_impl.h"

struct es_gram_params es_gram_params_default(int64_t d, int k) {
    return (struct es_gram_params){.d = d, .k = k, .local_max = 4096, .name = "gram"};
}

/* The grid of all ranks that is nearest to a square, not higher than wide. */
static void choose_grid(struct es_gram_params *p, int size) {
    if (p->grid_rows > 0) return;
    p->grid_rows = 1;
    for (int r = 1; r * r <= size; r++)
        if (size % r == 0) p->grid_rows = r;
    p->grid_cols = size / p->grid_rows;
}

static int new_local(struct es_gram *g, struct es_err *err) {
    const size_t width = (size_t)(g->p.d + g->p.k);
    g->panel = es_alloc(ES_GRAM_PANEL * width, sizeof *g->panel, err);
    g->n_rows = es_alloc((size_t)es_comm_size(g->comm), sizeof *g->n_rows, err);
    if (!g->panel || !g->n_rows) return -ES_EIO;
    g->bytes += (int64_t)(ES_GRAM_PANEL * width * sizeof *g->panel);
    return 0;
}

int es_gram_new_all(struct es_gram **out, const struct es_comm *comm, const struct es_gram_params *p,
                    struct es_err *err) {
    ES_ASSERT(p->d >= 1 && p->d < 2000000 && p->k >= 1);
    struct es_err own = {0};
    if (!err) err = &own;
    struct es_gram *g = *out = es_alloc(1, sizeof *g, err);
    int rc = es_err_agree_all(comm, g ? 0 : -ES_EIO, err);
    if (rc < 0) {
        es_free(out);
        return rc;
    }
    g->p = *p;
    snprintf(g->name, sizeof g->name, "%s", p->name ? p->name : "gram");
    choose_grid(&g->p, es_comm_size(comm));
    g->backend = p->d <= p->local_max ? &gram_local : &gram_grid;
    if (g->p.grid_rows * g->p.grid_cols < 1 || g->p.grid_rows * g->p.grid_cols > es_comm_size(comm))
        rc = es_err_set(err, ES_EUSAGE, "linalg: a grid of %d x %d ranks, got %d ranks", g->p.grid_rows,
                        g->p.grid_cols, es_comm_size(comm));
    if (rc == 0) rc = es_comm_dup_all(&g->comm, comm, err);
    if (rc == 0) rc = es_err_agree_all(comm, new_local(g, err), err);
    if (rc == 0) rc = es_err_agree_all(comm, g->backend->new (g, err), err);
    if (rc < 0) es_gram_free_all(out);
    return rc;
}

void es_gram_free_all(struct es_gram **g) {
    if (!*g) return;
    if ((*g)->comm) (*g)->backend->free(*g);
    es_free(&(*g)->n_rows);
    es_free(&(*g)->panel);
    es_comm_free_all(&(*g)->comm);
    es_free(g);
}

void es_gram_reset(struct es_gram *g) {
    g->rows = 0;
    g->backend->reset(g);
}

static int check_finite(const struct es_gram *g, const char *what, const float *x, int64_t rows, int64_t d,
                        struct es_err *err) {
    for (int64_t i = 0; i < rows * d; i++)
        if (!isfinite(x[i]))
            return es_err_set(err, ES_EDATA, "%s: %s %lld of row %lld is %g, want a finite number", g->name,
                              what, (long long)(i % d), (long long)(i / d), (double)x[i]);
    return 0;
}

int es_gram_add_all(struct es_gram *g, const float *x, const float *y, int64_t rows, struct es_err *err) {
    const int64_t d = g->p.d, k = g->p.k;
    struct es_err own = {0};
    if (!err) err = &own;
    int rc = check_finite(g, "feature", x, rows, d, err);
    if (rc == 0) rc = check_finite(g, "target", y, rows, k, err);
    ES_TRY(es_err_agree_all(g->comm, rc, err));
    es_comm_allgather_all(g->comm, &rows, sizeof rows, g->n_rows);
    for (int r = 0; r < es_comm_size(g->comm); r++)
        for (int64_t first = 0; first < g->n_rows[r]; first += ES_GRAM_PANEL) {
            int64_t n = g->n_rows[r] - first < ES_GRAM_PANEL ? g->n_rows[r] - first : ES_GRAM_PANEL;
            if (r == es_comm_rank(g->comm)) {
                memcpy(g->panel, x + first * d, (size_t)(n * d) * sizeof *x);
                memcpy(g->panel + n * d, y + first * k, (size_t)(n * k) * sizeof *y);
            }
            es_comm_bcast_all(g->comm, g->panel, (size_t)(n * (d + k)) * sizeof *g->panel, r);
            g->backend->add(g, (int)n);
            g->rows += n;
        }
    return 0;
}

int64_t es_gram_rows(const struct es_gram *g) {
    return g->rows;
}
bool es_gram_on_grid(const struct es_gram *g) {
    return g->backend == &gram_grid;
}
int64_t es_gram_bytes(const struct es_gram *g) {
    return g->bytes;
}

double es_gram_scale_all(struct es_gram *g) {
    double trace = g->backend->trace(g);
    es_comm_bcast_all(g->comm, &trace, sizeof trace, 0);
    return trace / (double)g->p.d;
}

int es_gram_solve_all(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                      struct es_err *err) {
    struct es_err own = {0};
    double ignored;
    int info = 0;
    ES_ASSERT(lambda >= 0 && n_free >= 0 && n_free <= g->p.d);
    if (!err) err = &own;
    int rc = g->backend->solve(g, lambda, n_free, w, residual ? residual : &ignored, &info, err);
    if (rc == 0 && info > 0)
        rc = es_err_set(
            err, ES_EDATA,
            "%s: the matrix of %lld features (%lld rows) is not positive definite at feature %d with "
            "lambda %g; want a larger lambda",
            g->name, (long long)g->p.d, (long long)g->rows, info - 1, lambda);
    return es_err_agree_all(g->comm, rc, err);
}
