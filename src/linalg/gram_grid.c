/* Large systems: G, B and panels in 64 x 64 blocks over a grid of ranks (BLACS), sums, factors and solutions by ScaLAPACK.
 *
 * pdsyrk and pdpotrf use the lower triangle alone. Before the first factor the sums are mirrored into the upper triangle and the
 * blocks of the diagonal copied beside; from there the lower triangle is restored for the next lambda, or for more rows. */
#include <string.h>

#include <mpi.h>

#include "earshot/mem.h"
#include "linalg_impl.h"

enum { NB = ES_GRAM_BLOCK };

/* BLACS, PBLAS, ScaLAPACK */
int Csys2blacs_handle(MPI_Comm comm);
void Cfree_blacs_system_handle(int handle);
void Cblacs_gridinit(int *context, const char *order, int rows, int cols);
void Cblacs_gridinfo(int context, int *rows, int *cols, int *row, int *col);
void Cblacs_gridexit(int context);
int numroc_(const int *n, const int *nb, const int *me, const int *src, const int *procs);
void descinit_(int *desc, const int *m, const int *n, const int *mb, const int *nb, const int *row_src,
               const int *col_src, const int *context, const int *lld, int *info);
void pdsyrk_(const char *uplo, const char *trans, const int *n, const int *k, const double *alpha,
             const double *a, const int *ia, const int *ja, const int *desca, const double *beta, double *c,
             const int *ic, const int *jc, const int *descc);
void pdgemm_(const char *ta, const char *tb, const int *m, const int *n, const int *k, const double *alpha,
             const double *a, const int *ia, const int *ja, const int *desca, const double *b, const int *ib,
             const int *jb, const int *descb, const double *beta, double *c, const int *ic, const int *jc,
             const int *descc);
void pdsymm_(const char *side, const char *uplo, const int *m, const int *n, const double *alpha,
             const double *a, const int *ia, const int *ja, const int *desca, const double *b, const int *ib,
             const int *jb, const int *descb, const double *beta, double *c, const int *ic, const int *jc,
             const int *descc);
void pdtran_(const int *m, const int *n, const double *alpha, const double *a, const int *ia, const int *ja,
             const int *desca, const double *beta, double *c, const int *ic, const int *jc, const int *descc);
void pdpotrf_(const char *uplo, const int *n, double *a, const int *ia, const int *ja, const int *desca,
              int *info);
void pdpotrs_(const char *uplo, const int *n, const int *k, const double *a, const int *ia, const int *ja,
              const int *desca, double *b, const int *ib, const int *jb, const int *descb, int *info);
double pdlange_(const char *norm, const int *m, const int *n, const double *a, const int *ia, const int *ja,
                const int *desca, double *work);

struct matrix {
    int rows, cols;             /* global */
    int local_rows, local_cols; /* of this rank */
    int desc[9];
    double *data; /* [local_cols][local_rows] */
};

struct grid {
    int handle, context; /* context -1: this rank is not in the grid */
    int row, col;
    struct matrix g, b, w, r, x, y;
    double *diagonal; /* own blocks of the diagonal, [n_diagonal][NB,NB] */
    int n_diagonal;
    bool mirrored;
};

static const int ONE = 1, ZERO = 0, WIDTH = NB;

static int local_count(int n, int me, int procs) {
    return numroc_(&n, &WIDTH, &me, &ZERO, &procs);
}
/* Global index of local index i on process `me` of a row or column of the grid. */
static int64_t global_index(int64_t i, int me, int procs) {
    return (i / NB * procs + me) * NB + i % NB;
}

static int matrix_new(struct es_gram *g, struct matrix *m, int64_t rows, int64_t cols, struct es_err *err) {
    const struct grid *q = g->grid;
    m->rows = (int)rows;
    m->cols = (int)cols;
    if (q->context < 0) return 0;
    m->local_rows = local_count(m->rows, q->row, g->p.grid_rows);
    m->local_cols = local_count(m->cols, q->col, g->p.grid_cols);
    const int lead = m->local_rows > 1 ? m->local_rows : 1;
    const int64_t n = (int64_t)lead * m->local_cols;
    int info = 0;
    if (n >= INT32_MAX)
        return es_err_set(
            err, ES_EUSAGE,
            "%s: a rank would hold %lld elements of a matrix, ScaLAPACK counts to 2^31; want more ranks",
            g->name, (long long)n);
    descinit_(m->desc, &m->rows, &m->cols, &WIDTH, &WIDTH, &ZERO, &ZERO, &q->context, &lead, &info);
    ES_ASSERT(info == 0);
    m->data = es_alloc((size_t)n, sizeof(double), err);
    g->bytes += n * (int64_t)sizeof(double);
    return m->data ? 0 : -ES_EIO;
}

static int grid_new(struct es_gram *g, struct es_err *err) {
    struct grid *q = g->grid = es_alloc(1, sizeof *q, err);
    int rows, cols;
    const int64_t d = g->p.d;
    if (q) q->handle = q->context = -1;
    ES_TRY(es_err_agree_all(g->comm, q ? 0 : -ES_EIO, err)); /* BLACS is collective */
    q->handle = Csys2blacs_handle(*(const MPI_Comm *)es_comm_mpi(g->comm));
    q->context = q->handle;
    Cblacs_gridinit(&q->context, "Row", g->p.grid_rows, g->p.grid_cols);
    if (q->context >= 0) Cblacs_gridinfo(q->context, &rows, &cols, &q->row, &q->col);
    ES_TRY(matrix_new(g, &q->g, d, d, err));
    ES_TRY(matrix_new(g, &q->b, d, g->p.k, err));
    ES_TRY(matrix_new(g, &q->w, d, g->p.k, err));
    ES_TRY(matrix_new(g, &q->r, d, g->p.k, err));
    ES_TRY(matrix_new(g, &q->x, ES_GRAM_PANEL, d, err));
    ES_TRY(matrix_new(g, &q->y, ES_GRAM_PANEL, g->p.k, err));
    const int64_t n_blocks = (d + NB - 1) / NB;
    for (int64_t i = 0; q->context >= 0 && i < n_blocks; i++)
        q->n_diagonal += i % g->p.grid_rows == q->row && i % g->p.grid_cols == q->col;
    q->diagonal = es_alloc((size_t)q->n_diagonal * NB * NB, sizeof(double), err);
    g->bytes += (int64_t)q->n_diagonal * NB * NB * (int64_t)sizeof(double);
    return q->diagonal ? 0 : -ES_EIO;
}

static void grid_free(struct es_gram *g) {
    struct grid *q = g->grid;
    if (!q) return;
    es_free(&q->diagonal);
    struct matrix *m[] = {&q->y, &q->x, &q->r, &q->w, &q->b, &q->g};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++) es_free(&m[i]->data);
    if (q->context >= 0) Cblacs_gridexit(q->context);
    if (q->handle >= 0) Cfree_blacs_system_handle(q->handle);
    es_free(&g->grid);
}

static size_t bytes_of(const struct matrix *m) {
    return (size_t)m->local_rows * (size_t)m->local_cols * sizeof(double);
}

static void grid_reset(struct es_gram *g) {
    struct grid *q = g->grid;
    if (q->context < 0) return;
    memset(q->g.data, 0, bytes_of(&q->g));
    memset(q->b.data, 0, bytes_of(&q->b));
    q->mirrored = false;
}

/* The blocks of the diagonal beside G, or back. */
static void copy_diagonal(struct es_gram *g, bool back) {
    struct grid *q = g->grid;
    const int64_t n_blocks = (g->p.d + NB - 1) / NB;
    double *beside = q->diagonal;
    for (int64_t i = 0; i < n_blocks; i++) {
        if (i % g->p.grid_rows != q->row || i % g->p.grid_cols != q->col) continue;
        const int64_t row = i / g->p.grid_rows * NB, col = i / g->p.grid_cols * NB,
                      n = g->p.d - i * NB < NB ? g->p.d - i * NB : NB;
        for (int64_t j = 0; j < n; j++) {
            double *here = q->g.data + (col + j) * q->g.local_rows + row;
            memcpy(back ? here : beside + j * NB, back ? beside + j * NB : here, (size_t)n * sizeof(double));
        }
        beside += NB * NB;
    }
}

/* Block column by block column: what is below the diagonal to the right of it, or back. */
static void mirror(struct es_gram *g, bool back) {
    struct matrix *m = &g->grid->g;
    const double one = 1, zero = 0;
    copy_diagonal(g, back);
    for (int j = 1; j + NB <= m->cols; j += NB) {
        const int below = j + NB, rest = m->rows - below + 1, n = NB;
        if (rest < 1) break;
        if (back)
            pdtran_(&rest, &n, &one, m->data, &j, &below, m->desc, &zero, m->data, &below, &j, m->desc);
        else
            pdtran_(&n, &rest, &one, m->data, &below, &j, m->desc, &zero, m->data, &j, &below, m->desc);
    }
}

/* This rank's blocks of a row-major panel; missing rows are zero. */
static void take_blocks(struct es_gram *g, const float *panel, int rows, struct matrix *m) {
    const struct grid *q = g->grid;
    for (int64_t c = 0; c < m->local_cols; c++) {
        const int64_t col = global_index(c, q->col, g->p.grid_cols);
        for (int64_t r = 0; r < m->local_rows; r++) {
            const int64_t row = global_index(r, q->row, g->p.grid_rows);
            m->data[c * m->local_rows + r] = row < rows ? (double)panel[row * m->cols + col] : 0;
        }
    }
}

static void grid_add(struct es_gram *g, int rows) {
    struct grid *q = g->grid;
    const double one = 1;
    const int n_panel = ES_GRAM_PANEL;
    if (q->context < 0) return;
    if (q->mirrored) mirror(g, true);
    q->mirrored = false;
    take_blocks(g, g->panel, rows, &q->x);
    take_blocks(g, g->panel + (int64_t)rows * g->p.d, rows, &q->y);
    pdsyrk_("L", "T", &q->g.rows, &n_panel, &one, q->x.data, &ONE, &ONE, q->x.desc, &one, q->g.data, &ONE,
            &ONE, q->g.desc);
    pdgemm_("T", "N", &q->b.rows, &q->b.cols, &n_panel, &one, q->x.data, &ONE, &ONE, q->x.desc, q->y.data,
            &ONE, &ONE, q->y.desc, &one, q->b.data, &ONE, &ONE, q->b.desc);
}

static void prepare(struct es_gram *g) {
    struct grid *q = g->grid;
    if (q->mirrored) return;
    mirror(g, false);
    q->mirrored = true;
}

static void add_to_diagonal(struct es_gram *g, double lambda, int64_t n) {
    struct grid *q = g->grid;
    for (int64_t c = 0; c < q->g.local_cols; c++) {
        const int64_t i = global_index(c, q->col, g->p.grid_cols);
        if (i < n && i / NB % g->p.grid_rows == q->row)
            q->g.data[c * q->g.local_rows + i / NB / g->p.grid_rows * NB + i % NB] += lambda;
    }
}

static double grid_trace(struct es_gram *g) {
    /* in order of features on rank 0, whatever the grid: each rank's share of the diagonal comes to all */
    struct grid *q = g->grid;
    double sum = 0;
    for (int64_t block = 0; block * NB < g->p.d; block++) {
        const int64_t n = g->p.d - block * NB < NB ? g->p.d - block * NB : NB;
        const int owner = (int)(block % g->p.grid_rows) * g->p.grid_cols + (int)(block % g->p.grid_cols);
        double part[NB] = {0};
        if (owner == es_comm_rank(g->comm)) {
            const int64_t row = block / g->p.grid_rows * NB, col = block / g->p.grid_cols * NB;
            for (int64_t i = 0; i < n; i++) part[i] = q->g.data[(col + i) * q->g.local_rows + row + i];
        }
        es_comm_bcast_all(g->comm, part, sizeof part, owner);
        for (int64_t i = 0; i < n; i++) sum += part[i];
    }
    return sum;
}

/* W to all ranks: the blocks of one after the other. */
static int spread(struct es_gram *g, double *w, struct es_err *err) {
    struct grid *q = g->grid;
    double *part = NULL;
    const int n_in_grid = g->p.grid_rows * g->p.grid_cols;
    int64_t most = es_comm_max_all(g->comm, (int64_t)q->w.local_rows * q->w.local_cols);
    part = es_alloc((size_t)most, sizeof *part, err);
    int rc = es_err_agree_all(g->comm, part ? 0 : -ES_EIO, err);
    for (int r = 0; rc == 0 && r < n_in_grid; r++) { /* rank r of the communicator, row by row in the grid */
        const int row = r / g->p.grid_cols, col = r % g->p.grid_cols;
        const int64_t rows = local_count(q->w.rows, row, g->p.grid_rows),
                      cols = local_count(q->w.cols, col, g->p.grid_cols);
        if (r == es_comm_rank(g->comm)) memcpy(part, q->w.data, (size_t)(rows * cols) * sizeof *part);
        es_comm_bcast_all(g->comm, part, (size_t)(rows * cols) * sizeof *part, r);
        for (int64_t c = 0; c < cols; c++)
            for (int64_t i = 0; i < rows; i++)
                w[global_index(c, col, g->p.grid_cols) * g->p.d + global_index(i, row, g->p.grid_rows)] =
                    part[c * rows + i];
    }
    es_free(&part);
    return rc;
}

/* On the ranks of the grid. */
static int solve_on_grid(struct es_gram *g, double lambda, int64_t n_free, double *residual) {
    struct grid *q = g->grid;
    struct matrix *G = &q->g, *B = &q->b, *W = &q->w, *R = &q->r;
    const double one = 1, minus = -1;
    int info = 0, ignored = 0;
    prepare(g);
    add_to_diagonal(g, lambda, g->p.d - n_free);
    pdpotrf_("L", &G->rows, G->data, &ONE, &ONE, G->desc, &info);
    if (info == 0) {
        memcpy(W->data, B->data, bytes_of(B));
        pdpotrs_("L", &G->rows, &B->cols, G->data, &ONE, &ONE, G->desc, W->data, &ONE, &ONE, W->desc,
                 &ignored);
    }
    mirror(g, true); /* also after a failure: G as it was */
    if (info != 0) return info;
    add_to_diagonal(g, lambda, g->p.d - n_free);
    memcpy(R->data, B->data, bytes_of(B));
    pdsymm_("L", "L", &G->rows, &B->cols, &one, G->data, &ONE, &ONE, G->desc, W->data, &ONE, &ONE, W->desc,
            &minus, R->data, &ONE, &ONE, R->desc);
    copy_diagonal(g, true);
    const double size_b = pdlange_("F", &B->rows, &B->cols, B->data, &ONE, &ONE, B->desc, NULL),
                 size_r = pdlange_("F", &R->rows, &R->cols, R->data, &ONE, &ONE, R->desc, NULL);
    *residual = size_b > 0 ? size_r / size_b : 0;
    return 0;
}

static int grid_solve(struct es_gram *g, double lambda, int64_t n_free, double *w, double *residual,
                      int *info, struct es_err *err) {
    if (g->grid->context >= 0) *info = solve_on_grid(g, lambda, n_free, residual);
    es_comm_bcast_all(g->comm, info, sizeof *info, 0);
    es_comm_bcast_all(g->comm, residual, sizeof *residual, 0);
    return *info == 0 ? spread(g, w, err) : 0;
}

const struct backend gram_grid = {.new = grid_new,
                                  .free = grid_free,
                                  .reset = grid_reset,
                                  .add = grid_add,
                                  .trace = grid_trace,
                                  .solve = grid_solve};
