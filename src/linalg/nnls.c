/* Non-negative least squares by active sets, on the normal equations. */
#include <math.h>

#include "earshot/mem.h"
#include "linalg_impl.h"

struct nnls {
    int n;
    const double *G, *b;
    double *w, *z, *part, *right; /* [n], [n], [n,n], [n] */
    int *free_set, n_free;        /* indices of the weights that may be positive, in order of entry */
};

/* z on the free set: the solution without a bound there. false: not positive definite. */
static bool solve_free(struct nnls *s) {
    const int n = s->n_free, one = 1;
    int info = 0;
    for (int i = 0; i < n; i++) {
        s->right[i] = s->b[s->free_set[i]];
        for (int j = 0; j < n; j++) s->part[i * n + j] = s->G[s->free_set[i] * s->n + s->free_set[j]];
    }
    dpotrf_("L", &n, s->part, &n, &info);
    if (info != 0) return false;
    dpotrs_("L", &n, &one, s->part, &n, s->right, &n, &info);
    for (int i = 0; i < n; i++) s->z[i] = s->right[i];
    return true;
}

static void drop(struct nnls *s, int at) {
    s->w[s->free_set[at]] = 0;
    for (int i = at + 1; i < s->n_free; i++) s->free_set[i - 1] = s->free_set[i];
    s->n_free--;
}

/* Moves w towards z as far as no weight becomes negative; those that reach 0 leave. true: z was reached. */
static bool step(struct nnls *s) {
    double alpha = 1;
    int stop = -1;
    for (int i = 0; i < s->n_free; i++) {
        const double w = s->w[s->free_set[i]];
        if (s->z[i] <= 0 && w / (w - s->z[i]) <= alpha) {
            alpha = w / (w - s->z[i]);
            stop = i;
        }
    }
    for (int i = 0; i < s->n_free; i++) s->w[s->free_set[i]] += alpha * (s->z[i] - s->w[s->free_set[i]]);
    if (stop >= 0) drop(s, stop);
    for (int i = s->n_free - 1; i >= 0; i--)
        if (s->w[s->free_set[i]] <= 0) drop(s, i);
    return stop < 0;
}

/* The bound weight whose growth helps most; -1: none. */
static int steepest(const struct nnls *s) {
    double best = 0;
    int at = -1;
    for (int i = 0; i < s->n; i++) {
        double gradient = s->b[i], size = fabs(s->b[i]);
        bool is_free = false;
        for (int j = 0; j < s->n_free; j++) is_free = is_free || s->free_set[j] == i;
        for (int j = 0; j < s->n; j++) {
            gradient -= s->G[i * s->n + j] * s->w[j];
            size += fabs(s->G[i * s->n + j] * s->w[j]);
        }
        if (!is_free && gradient > 1e-12 * size && gradient > best) {
            best = gradient;
            at = i;
        }
    }
    return at;
}

int es_nnls(int n, const double *G, const double *b, double *w, struct es_err *err) {
    const size_t size = (size_t)n;
    struct nnls s = {.n = n, .G = G, .b = b, .w = w};
    double *block = es_alloc(size * (size + 2), sizeof *block, err);
    s.free_set = es_alloc(size, sizeof *s.free_set, err);
    int rc = block && s.free_set ? 0 : -ES_EIO;
    if (rc == 0) {
        s.z = block;
        s.right = s.z + n;
        s.part = s.right + n;
    }
    for (int i = 0; i < n; i++) w[i] = 0;
    for (int round = 0; rc == 0 && round < 3 * n; round++) {
        const int enter = steepest(&s);
        if (enter < 0) break;
        s.free_set[s.n_free++] = enter;
        if (!solve_free(&s)) { /* it repeats the others: leave it at 0 */
            s.n_free--;
            break;
        }
        while (!step(&s) && s.n_free > 0)
            if (!solve_free(&s)) break;
    }
    es_free(&s.free_set);
    es_free(&block);
    return rc;
}
