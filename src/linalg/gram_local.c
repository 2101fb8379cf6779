/* Small systems. Columns of [G B] come in strips of STRIP: strip s belongs to rank s mod P, which computes it whole, so no sum
 * depends on P. Rank 0 collects them and solves. */
#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "linalg_impl.h"

enum { STRIP = 256 };

struct local {
    int64_t n_strips_g, n_strips;  /* of G; of G and B */
    double *x;                     /* [PANEL, d + k] in double */
    double *strip;                 /* own strips: [n_own][STRIP, d] */
    double *full, *factor, *b, *r; /* rank 0: [d,d], [d,d], [k,d], [k,d] */
    bool collected;
};

static int64_t strip_width(const struct es_gram *g, int64_t s) {
    const struct local *l = g->local;
    int64_t rest = s < l->n_strips_g ? g->p.d - s * STRIP : g->p.k - (s - l->n_strips_g) * STRIP;
    return rest < STRIP ? rest : STRIP;
}

static int64_t n_own(const struct es_gram *g) {
    int64_t rank = es_comm_rank(g->comm), size = es_comm_size(g->comm);
    return g->local->n_strips > rank ? (g->local->n_strips - rank - 1) / size + 1 : 0;
}

static double *own_strip(const struct es_gram *g, int64_t s) {
    return g->local->strip + s / es_comm_size(g->comm) * STRIP * g->p.d;
}

static int local_new(struct es_gram *g, struct es_err *err) {
    const int64_t d = g->p.d, k = g->p.k;
    struct local *l = g->local = es_alloc(1, sizeof *l, err);
    if (!l) return -ES_EIO;
    l->n_strips_g = (d + STRIP - 1) / STRIP;
    l->n_strips = l->n_strips_g + (k + STRIP - 1) / STRIP;
    const int64_t sizes[2] = {ES_GRAM_PANEL * (d + k), n_own(g) * STRIP * d};
    l->x = es_alloc((size_t)sizes[0], sizeof(double), err);
    l->strip = es_alloc((size_t)sizes[1], sizeof(double), err);
    g->bytes += (sizes[0] + sizes[1]) * (int64_t)sizeof(double);
    if (!l->x || !l->strip) return -ES_EIO;
    if (es_comm_rank(g->comm) > 0) return 0;
    l->full = es_alloc((size_t)(d * d), sizeof(double), err);
    l->factor = es_alloc((size_t)(d * d), sizeof(double), err);
    l->b = es_alloc((size_t)(d * k), sizeof(double), err);
    l->r = es_alloc((size_t)(d * k), sizeof(double), err);
    g->bytes += 2 * (d * d + d * k) * (int64_t)sizeof(double);
    return l->full && l->factor && l->b && l->r ? 0 : -ES_EIO;
}

static void local_free(struct es_gram *g) {
    if (!g->local) return;
    es_free(&g->local->r);
    es_free(&g->local->b);
    es_free(&g->local->factor);
    es_free(&g->local->full);
    es_free(&g->local->strip);
    es_free(&g->local->x);
    es_free(&g->local);
}

static void local_reset(struct es_gram *g) {
    memset(g->local->strip, 0, (size_t)(n_own(g) * STRIP * g->p.d) * sizeof(double));
    g->local->collected = false;
}

static void local_add(struct es_gram *g, int rows) {
    struct local *l = g->local;
    const int d = (int)g->p.d, k = g->p.k, size = es_comm_size(g->comm);
    const double one = 1;
    for (int64_t i = 0; i < (int64_t)rows * (d + k); i++) l->x[i] = (double)g->panel[i];
    const double *y = l->x + (int64_t)rows * d;
    for (int64_t s = es_comm_rank(g->comm); s < l->n_strips; s += size) {
        const int width = (int)strip_width(g, s);
        const bool of_g = s < l->n_strips_g;
        const double *right = of_g ? l->x + s * STRIP : y + (s - l->n_strips_g) * STRIP;
        dgemm_("N", "T", &d, &width, &rows, &one, l->x, &d, right, of_g ? &d : &k, &one, own_strip(g, s), &d);
    }
    l->collected = false;
}

/* All strips to rank 0. */
static void collect(struct es_gram *g) {
    struct local *l = g->local;
    const int rank = es_comm_rank(g->comm), size = es_comm_size(g->comm);
    if (l->collected) return;
    for (int64_t s = 0; s < l->n_strips; s++) {
        const int owner = (int)(s % size);
        const size_t bytes = (size_t)(strip_width(g, s) * g->p.d) * sizeof(double);
        if (rank == 0) {
            double *to = s < l->n_strips_g ? l->full + s * STRIP * g->p.d
                                           : l->b + (s - l->n_strips_g) * STRIP * g->p.d;
            if (owner == 0)
                memcpy(to, own_strip(g, s), bytes);
            else
                es_comm_recv(g->comm, to, bytes, owner, (int)(s % 32768));
        } else if (owner == rank) {
            es_comm_send(g->comm, own_strip(g, s), bytes, 0, (int)(s % 32768));
        }
    }
    l->collected = true;
}

static double local_trace(struct es_gram *g) {
    double sum = 0;
    collect(g);
    for (int64_t i = 0; g->local->full && i < g->p.d; i++) sum += g->local->full[i * g->p.d + i];
    return sum;
}

static double norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

/* factor = G + lambda D */
static void penalise(struct es_gram *g, double lambda, int64_t n_free) {
    struct local *l = g->local;
    const int64_t d = g->p.d;
    memcpy(l->factor, l->full, (size_t)(d * d) * sizeof(double));
    for (int64_t i = 0; i < d - n_free; i++) l->factor[i * d + i] += lambda;
}

static void solve_here(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                       int *info) {
    struct local *l = g->local;
    const int d = (int)g->p.d, k = g->p.k;
    const int64_t n = g->p.d * k;
    const double one = 1, minus = -1;
    int ignored;
    penalise(g, lambda, n_free);
    dpotrf_("L", &d, l->factor, &d, info);
    if (*info != 0) return;
    memcpy(w, l->b, (size_t)n * sizeof(double));
    dpotrs_("L", &d, &k, l->factor, &d, w, &d, &ignored);
    penalise(g, lambda, n_free);
    const double size_b = norm(l->b, n);
    memcpy(l->r, l->b, (size_t)n * sizeof(double));
    dsymm_("L", "L", &d, &k, &one, l->factor, &d, w, &d, &minus, l->r, &d);
    *residual = size_b > 0 ? norm(l->r, n) / size_b : 0;
}

static int local_solve(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                       int *info, struct es_err *err) {
    (void)err;
    collect(g);
    if (es_comm_rank(g->comm) == 0) solve_here(g, lambda, n_free, w, residual, info);
    es_comm_bcast_all(g->comm, info, sizeof *info, 0);
    es_comm_bcast_all(g->comm, residual, sizeof *residual, 0);
    if (*info == 0) es_comm_bcast_all(g->comm, w, (size_t)(g->p.d * g->p.k) * sizeof *w, 0);
    return 0;
}

const struct backend gram_local = {.new = local_new,
                                   .free = local_free,
                                   .reset = local_reset,
                                   .add = local_add,
                                   .trace = local_trace,
                                   .solve = local_solve};
