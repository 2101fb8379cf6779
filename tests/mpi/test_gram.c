/* RANKS 1 2 3 4
 * TIMEOUT 180
 * Ridge solutions: LAPACK's have the same bits on any number of ranks, ScaLAPACK's agree with them on every grid; failures are
 * everybody's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/gram.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

enum { D = 200, K = 5, BLOCK = 50, N_BLOCKS = 21 };

static void fill(float *x, int64_t n, uint32_t stream) {
    struct es_rng r = es_rng_make(7, ES_RNG_INIT, stream, 0, 0);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(2 * es_rng_uniform(&r) - 1);
}

/* Rows of block b; column 17 is zero where asked for. */
static void rows_of(int b, float *x, float *y, bool hole) {
    fill(x, BLOCK * D, (uint32_t)(2 * b));
    fill(y, BLOCK * K, (uint32_t)(2 * b + 1));
    for (int i = 0; i < BLOCK; i++) {
        x[i * D + D - 1] = 1;
        if (hole) x[i * D + 17] = 0;
    }
}

/* Blocks from..to-1 go round the ranks. */
static int add_blocks(struct es_gram *g, const struct es_comm *c, int from, int to, bool hole,
                      struct es_err *err) {
    static float x[BLOCK * D], y[BLOCK * K];
    int size = es_comm_size(c);
    for (int round = from; round < to; round += size) {
        int b = round + es_comm_rank(c);
        if (b < to) rows_of(b, x, y, hole);
        ES_TRY(es_gram_add_all(g, x, y, b < to ? BLOCK : 0, err));
    }
    return 0;
}

static void solve(const struct es_comm *c, const struct es_gram_params *p, double lambda, double *w) {
    struct es_gram *g = NULL;
    struct es_err err = {0};
    double residual = 1;
    ES_ASSERT(es_gram_new_all(&g, c, p, &err) == 0);
    ES_ASSERT(add_blocks(g, c, 0, N_BLOCKS, false, &err) == 0);
    ES_ASSERT(es_gram_rows(g) == N_BLOCKS * BLOCK);
    ES_ASSERT(es_gram_on_grid(g) == (p->local_max < D));
    ES_ASSERT(es_gram_solve_all(g, lambda, 1, w, &residual, &err) == 0);
    ES_ASSERT(residual > 0 && residual < 1e-12);
    es_gram_free_all(&g);
}

/* Relative residual of w in the system itself, summed here from the rows. */
static double residual_of(const double *w, double lambda) {
    static double G[D][D], B[K][D];
    static float x[BLOCK * D], y[BLOCK * K];
    double above = 0, below = 0;
    memset(G, 0, sizeof G);
    memset(B, 0, sizeof B);
    for (int b = 0; b < N_BLOCKS; b++) {
        rows_of(b, x, y, false);
        for (int r = 0; r < BLOCK; r++)
            for (int i = 0; i < D; i++) {
                for (int j = 0; j < D; j++) G[i][j] += (double)x[r * D + i] * (double)x[r * D + j];
                for (int k = 0; k < K; k++) B[k][i] += (double)x[r * D + i] * (double)y[r * K + k];
            }
    }
    for (int i = 0; i < D - 1; i++) G[i][i] += lambda;
    for (int k = 0; k < K; k++)
        for (int i = 0; i < D; i++) {
            double r = -B[k][i];
            for (int j = 0; j < D; j++) r += G[i][j] * w[k * D + j];
            above += r * r;
            below += B[k][i] * B[k][i];
        }
    return sqrt(above / below);
}

static double distance(const double *a, const double *b) {
    double above = 0, below = 0;
    for (int i = 0; i < K * D; i++) {
        above += (a[i] - b[i]) * (a[i] - b[i]);
        below += b[i] * b[i];
    }
    return sqrt(above / below);
}

static void path(const struct es_comm *c, struct es_gram_params p) {
    static double first[K * D], again[K * D], other[K * D], late[K * D];
    struct es_gram *g = NULL;
    struct es_err err = {0};
    ES_ASSERT(es_gram_new_all(&g, c, &p, &err) == 0);
    ES_ASSERT(add_blocks(g, c, 0, N_BLOCKS, false, &err) == 0);
    double scale = es_gram_scale_all(g);
    ES_ASSERT(scale > N_BLOCKS * BLOCK * 0.3 && scale < N_BLOCKS * BLOCK * 0.36); /* E x^2 = 1/3 */
    ES_ASSERT(es_gram_solve_all(g, 10, 1, first, NULL, &err) == 0);
    ES_ASSERT(es_gram_solve_all(g, 300, 1, other, NULL, &err) == 0);
    ES_ASSERT(es_gram_solve_all(g, 10, 1, again, NULL, &err) == 0);
    ES_ASSERT(memcmp(first, again, sizeof first) == 0); /* a factor leaves the sums as they were */
    ES_ASSERT(distance(first, other) > 1e-3);
    es_gram_reset(g); /* rows after a solution */
    ES_ASSERT(add_blocks(g, c, 0, 8, false, &err) == 0);
    ES_ASSERT(es_gram_solve_all(g, 10, 1, late, NULL, &err) == 0);
    ES_ASSERT(add_blocks(g, c, 8, N_BLOCKS, false, &err) == 0 && es_gram_rows(g) == N_BLOCKS * BLOCK);
    ES_ASSERT(es_gram_solve_all(g, 10, 1, late, NULL, &err) == 0);
    ES_ASSERT(distance(late, first) < 1e-13);
    es_gram_free_all(&g);
}

static void failures(const struct es_comm *c, struct es_gram_params p) {
    static double w[K * D];
    static float x[BLOCK * D], y[BLOCK * K];
    struct es_gram *g = NULL;
    struct es_err err = {0};
    p.name = "layer 3";
    ES_ASSERT(es_gram_new_all(&g, c, &p, &err) == 0);
    ES_ASSERT(add_blocks(g, c, 0, N_BLOCKS, true, &err) == 0);
    ES_ASSERT(es_gram_solve_all(g, 0, 1, w, NULL, &err) == -ES_EDATA);
    ES_ASSERT(strstr(
        err.msg, "layer 3: the matrix of 200 features (1050 rows) is not positive definite at feature 17"));
    es_err_clear(&err);
    ES_ASSERT(es_gram_solve_all(g, 1, 1, w, NULL, &err) == 0);
    for (int k = 0; k < K; k++) ES_ASSERT(w[k * D + 17] == 0);
    rows_of(0, x, y, false);
    bool last = es_comm_rank(c) + 1 == es_comm_size(c);
    if (last) x[3 * D + 5] = NAN;
    ES_ASSERT(es_gram_add_all(g, x, y, BLOCK, &err) == -ES_EDATA);
    ES_ASSERT(strstr(err.msg, "layer 3: feature 5 of row 3 is nan"));
    es_err_clear(&err);
    if (last) {
        x[3 * D + 5] = 0;
        y[1] = INFINITY;
    }
    ES_ASSERT(es_gram_add_all(g, x, y, BLOCK, &err) == -ES_EDATA &&
              strstr(err.msg, "target 1 of row 0 is inf"));
    es_gram_free_all(&g);
    es_err_clear(&err);
    p.grid_rows = p.grid_cols = 7;
    ES_ASSERT(es_gram_new_all(&g, c, &p, &err) == -ES_EUSAGE && !g);
}

static void faults(const struct es_comm *c, const struct es_gram_params *p) {
    struct es_err err = {0};
    struct es_gram *g = NULL;
    int64_t before = es_mem_live_blocks();
    int rc = -1, rank = es_comm_rank(c);
    for (int n = 1; rc < 0; n++) {
        char spec[64];
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, es_comm_size(c) / 2);
        es_fault_init(spec, rank);
        rc = es_gram_new_all(&g, c, p, &err);
        es_fault_init(NULL, rank);
        ES_ASSERT(es_comm_min_all(c, rc) == es_comm_max_all(c, rc) && n < 30);
        ES_ASSERT(rc == 0 || (rc == -ES_EIO && !g && es_mem_live_blocks() == before));
        ES_ASSERT(rc < 0 || n > 6);
    }
    es_gram_free_all(&g);
    ES_ASSERT(es_mem_live_blocks() == before);
}

/* The conditions of Kuhn and Tucker. */
static void nnls(void) {
    enum { N = 6, ROWS = 40 };
    for (uint32_t round = 0; round < 50; round++) {
        float x[ROWS * N], y[ROWS];
        double G[N * N] = {0}, b[N] = {0}, w[N];
        fill(x, ROWS * N, 1000 + round);
        fill(y, ROWS, 2000 + round);
        if (round % 5 == 0)
            for (int r = 0; r < ROWS; r++) x[r * N + 4] = x[r * N + 1]; /* twice the same model */
        for (int r = 0; r < ROWS; r++) y[r] = y[r] + x[r * N] - x[r * N + 2];
        for (int r = 0; r < ROWS; r++)
            for (int i = 0; i < N; i++) {
                for (int j = 0; j < N; j++) G[i * N + j] += (double)x[r * N + i] * (double)x[r * N + j];
                b[i] += (double)x[r * N + i] * (double)y[r];
            }
        ES_ASSERT(es_nnls(N, G, b, w, NULL) == 0);
        int positive = 0;
        for (int i = 0; i < N; i++) {
            double gradient = b[i];
            for (int j = 0; j < N; j++) gradient -= G[i * N + j] * w[j];
            ES_ASSERT(w[i] >= 0);
            ES_ASSERT(w[i] > 0 ? fabs(gradient) < 1e-10 : gradient < 1e-10);
            positive += w[i] > 0;
        }
        ES_ASSERT(positive > 0 && positive < N && w[0] > 0.3 && w[2] == 0);
    }
}

int main(int argc, char **argv) {
    static const int grids[3][2] = {{1, 1}, {1, 2}, {2, 2}};
    static double want[K * D], got[K * D];
    struct es_comm *c = NULL, *alone = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return err.code;
    struct es_gram_params p = es_gram_params_default(D, K);
    ES_ASSERT(es_comm_split_all(&alone, c, es_comm_rank(c), &err) == 0);
    solve(alone, &p, 10, want);
    ES_ASSERT(residual_of(want, 10) < 1e-12);
    solve(c, &p, 10, got);
    ES_ASSERT(memcmp(want, got, sizeof want) == 0); /* LAPACK: any number of ranks */
    path(c, p);
    failures(c, p);
    faults(c, &p);
    p.local_max = D - 1;
    for (int i = 0; i < 3; i++) {
        p.grid_rows = grids[i][0];
        p.grid_cols = grids[i][1];
        if (p.grid_rows * p.grid_cols > es_comm_size(c)) continue;
        solve(c, &p, 10, got);
        double far = distance(got, want), r = residual_of(got, 10);
        if (es_comm_rank(c) == 0)
            printf("grid %d x %d: %.1e from LAPACK, residual %.1e\n", p.grid_rows, p.grid_cols, far, r);
        ES_ASSERT(far < 1e-12 && r < 1e-12);
        path(c, p);
        failures(c, p);
        faults(c, &p);
    }
    nnls();
    es_comm_free_all(&alone);
    es_comm_fini_all(&c);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
