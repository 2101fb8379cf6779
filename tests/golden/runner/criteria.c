/* The criteria of tolerances.tsv (golden/models/README.md): a computed, r stored, d = a - r, all in double; ";" = all must hold.
 * A value that is not a number never passes, except where both are (exact). */
#include "runner.h"

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double norm2(const double *x, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += x[i] * x[i];
    return sqrt(s);
}

static double largest(const double *x, int64_t n) {
    double m = 0;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(x[i]) <= m)) m = fabs(x[i]);
    return m;
}

static double percentile999(const double *a, const double *r, int64_t n) {
    double *d = es_alloc((size_t)n, sizeof *d, NULL), v;
    ES_ASSERT(d);
    for (int64_t i = 0; i < n; i++) {
        d[i] = fabs(a[i] - r[i]);
        if (!(d[i] >= 0)) d[i] = HUGE_VAL;
    }
    qsort(d, (size_t)n, sizeof *d, ascending);
    int64_t at = (int64_t)floor(0.999 * (double)n);
    v = d[at < n ? at : n - 1];
    es_free(&d);
    return v;
}

/* "X*max+Y*group_max", "X+Y*group_max", "X+Y", "X": the two numbers. */
static void numbers(const char *text, double *x, double *y) {
    char *end;
    *x = strtod(text, &end);
    const char *plus = strchr(end, '+');
    *y = plus ? strtod(plus + 1, NULL) : 0;
}

static bool one(const char *rule, const struct rn_context *c, const double *a, const double *r, int64_t n,
                double max_abs, double rel_l2) {
    const char *at = strstr(rule, "<=");
    const size_t len = at ? (size_t)(at - rule) : strlen(rule);
    double x = 0, y = 0;
    bool ok = true;
    if (at) numbers(at + 2, &x, &y);
#define IS(name) (len == strlen(name) && strncmp(rule, name, len) == 0)
    if (IS("exact")) {
        for (int64_t i = 0; i < n; i++) ok &= a[i] == r[i] || (isnan(a[i]) && isnan(r[i]));
        return ok;
    }
    if (IS("abs")) return max_abs <= x;
    if (IS("rel_l2")) return norm2(r, n) > 0 ? rel_l2 <= x : largest(a, n) == 0;
    if (IS("p99.9")) return n == 0 || percentile999(a, r, n) <= x;
    if (IS("rel")) {
        for (int64_t i = 0; i < n; i++) ok &= fabs(a[i] - r[i]) <= x * fabs(r[i]) + y;
        return ok;
    }
    if (IS("grad")) return max_abs <= x * largest(r, n) + y * c->group_max;
    if (IS("small")) return largest(a, n) <= x * c->group_max;
    if (IS("loss")) return max_abs <= 4 * x * c->out_norms;
    if (IS("summary")) { /* sum, sum of magnitudes, 2-norm, inner product */
        double root = sqrt((double)c->full_n), e = x * (n > 2 ? r[2] : 0) + y * root * c->group_max;
        for (int64_t i = 0; i < n; i++) ok &= fabs(a[i] - r[i]) <= (i == 2 ? e : root * e);
        return ok && n == 4;
    }
    if (IS("drift")) {
        for (int64_t i = 0; i < n && c->lr_sum; i++)
            ok &= fabs(a[i] - r[i]) <= x * c->lr_sum[c->index[i] / c->step_n] + y;
        return ok && c->lr_sum;
    }
#undef IS
    return false; /* a criterion this program does not know never passes */
}

bool rn_judge(const char *criterion, const struct rn_context *c, const double *a, const double *r, int64_t n,
              double *max_abs, double *rel_l2) {
    double d2 = 0, worst = 0;
    bool ok = true;
    for (int64_t i = 0; i < n; i++) {
        double d = a[i] == r[i] ? 0 : a[i] - r[i];
        d2 += d * d;
        if (!(fabs(d) <= worst)) worst = fabs(d);
    }
    double r2 = norm2(r, n);
    *max_abs = worst;
    *rel_l2 = d2 == 0 ? 0 : r2 > 0 ? sqrt(d2) / r2 : HUGE_VAL;
    char rule[120];
    for (const char *at = criterion; at; at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL) {
        snprintf(rule, sizeof rule, "%.*s", (int)strcspn(at, ";"), at);
        ok &= one(rule, c, a, r, n, *max_abs, *rel_l2);
    }
    return ok;
}
