/* Small systems. Columns of [G B] come in strips of STRIP: strip s belongs to rank s mod P, which computes it whole (of G what is on
 * and below the diagonal), so no sum depends on P. Rank 0 collects them and solves; alone it solves where they are.
 *
 * The factor takes the lower triangle; before it, the sums are mirrored into the upper one and the diagonal copied beside, and from
 * there the lower triangle is restored for the next lambda, or for more rows: one matrix is all there is. */
#include <math.h>
#include <string.h>

#include "earshot/mem.h"
#include "linalg_impl.h"

enum { STRIP = 256 };

struct local {
    int64_t n_strips_g, n_strips; /* of G; of G and B */
    double *x;                    /* [PANEL, d + k] in double */
    double *strip;                /* own strips: [n_own][STRIP, d] */
    double *full, *b;             /* rank 0: G [d,d], B [k,d]; of a single rank: its strips */
    double *diagonal, *r;         /* rank 0: [d], [k,d] */
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
    const bool alone = es_comm_size(g->comm) == 1;
    l->full = alone ? l->strip : es_alloc((size_t)(d * d), sizeof(double), err);
    l->b = alone ? own_strip(g, l->n_strips_g) : es_alloc((size_t)(d * k), sizeof(double), err);
    l->r = es_alloc((size_t)(d * k), sizeof(double), err);
    l->diagonal = es_alloc((size_t)d, sizeof(double), err);
    g->bytes += ((alone ? 0 : d * d + d * k) + d * k + d) * (int64_t)sizeof(double);
    return l->full && l->b && l->r && l->diagonal ? 0 : -ES_EIO;
}

static void local_free(struct es_gram *g) {
    struct local *l = g->local;
    if (!l) return;
    es_free(&l->diagonal);
    es_free(&l->r);
    if (es_comm_size(g->comm) > 1) es_free(&l->b);
    if (es_comm_size(g->comm) > 1) es_free(&l->full);
    es_free(&l->strip);
    es_free(&l->x);
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
        const int first = of_g ? (int)s * STRIP : 0, below = d - first;
        const double *right = of_g ? l->x + first : y + (s - l->n_strips_g) * STRIP;
        dgemm_("N", "T", &below, &width, &rows, &one, l->x + first, &d, right, of_g ? &d : &k, &one,
               own_strip(g, s) + first, &d);
    }
    l->collected = false;
}

/* What is below the diagonal to the right of it, or back. */
static void mirror(struct es_gram *g, bool back) {
    enum { SIDE = 64 }; /* squares that stay in the cache */
    const int64_t d = g->p.d;
    double *a = g->local->full;
#pragma omp parallel for schedule(dynamic)
    for (int64_t j0 = 0; j0 < d; j0 += SIDE)
        for (int64_t i0 = j0; i0 < d; i0 += SIDE)
            for (int64_t j = j0; j < j0 + SIDE && j < d; j++)
                for (int64_t i = i0 > j ? i0 : j + 1; i < i0 + SIDE && i < d; i++) {
                    if (back)
                        a[j * d + i] = a[i * d + j];
                    else
                        a[i * d + j] = a[j * d + i];
                }
}

/* All strips to rank 0. */
static void collect(struct es_gram *g) {
    struct local *l = g->local;
    const int rank = es_comm_rank(g->comm), size = es_comm_size(g->comm);
    if (l->collected) return;
    for (int64_t s = 0; s < l->n_strips && size > 1; s++) {
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
    if (rank == 0) mirror(g, false);
    for (int64_t i = 0; rank == 0 && i < g->p.d; i++) l->diagonal[i] = l->full[i * g->p.d + i];
    l->collected = true;
}

static double local_trace(struct es_gram *g) {
    double sum = 0;
    collect(g);
    for (int64_t i = 0; g->local->diagonal && i < g->p.d; i++) sum += g->local->diagonal[i];
    return sum;
}

static double norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

static void set_diagonal(struct es_gram *g, double lambda, int64_t n_free) {
    const int64_t d = g->p.d;
    for (int64_t i = 0; i < d; i++)
        g->local->full[i * d + i] = g->local->diagonal[i] + (i < d - n_free ? lambda : 0);
}

static void solve_here(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                       int *info) {
    struct local *l = g->local;
    const int d = (int)g->p.d, k = g->p.k;
    const int64_t n = g->p.d * k;
    const double one = 1, minus = -1;
    int ignored;
    set_diagonal(g, lambda, n_free);
    dpotrf_("L", &d, l->full, &d, info);
    if (*info == 0) {
        memcpy(w, l->b, (size_t)n * sizeof(double));
        dpotrs_("L", &d, &k, l->full, &d, w, &d, &ignored);
        set_diagonal(g, lambda, n_free);
        memcpy(l->r, l->b, (size_t)n * sizeof(double));
        dsymm_("L", "U", &d, &k, &one, l->full, &d, w, &d, &minus, l->r, &d);
        const double size_b = norm(l->b, n);
        *residual = size_b > 0 ? norm(l->r, n) / size_b : 0;
    }
    set_diagonal(g, 0, 0); /* also after a failure: G as it was */
    mirror(g, true);
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
