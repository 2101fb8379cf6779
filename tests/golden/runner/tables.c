/* cases.tsv (file, group, key, value) and tolerances.tsv (file, group, dataset, criterion, criterion_bf16). */
#include <fnmatch.h>

#include "runner.h"

#include "read_file.h"

enum { FILE_COL, GROUP, KEY, VALUE, DATASET = 2, CRITERION = 3, CRITERION_BF16 = 4 };

static int table_open(struct rn_table *t, const char *dir, const char *name, int n_columns,
                      struct es_err *err) {
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) return es_err_set(err, ES_EIO, "%s: cannot be read", path);
    size_t n;
    t->text = test_read_all(f, &n);
    fclose(f);
    int lines = 1;
    for (size_t i = 0; i < n; i++) lines += t->text[i] == '\n';
    t->row = es_alloc((size_t)lines, sizeof *t->row, NULL);
    ES_ASSERT(t->row);
    int line_no = 0;
    for (char *line = t->text, *next; line && *line; line = next) {
        line_no++;
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        line[strcspn(line, "\r")] = 0;
        if (*line == '#' || !*line) continue;
        struct rn_row *r = &t->row[t->n];
        for (int i = 0; i < n_columns; i++) {
            r->col[i] = line;
            char *tab = i + 1 < n_columns ? strchr(line, '\t') : NULL;
            if (i + 1 < n_columns && !tab)
                return es_err_set(err, ES_EDATA, "%s:%d: got %d columns, want %d", path, line_no, i + 1,
                                  n_columns);
            if (tab) *tab = 0;
            line = tab ? tab + 1 : line;
        }
        t->n++;
    }
    return 0;
}

int rn_tables_open(struct rn *run, struct es_err *err) {
    ES_TRY(table_open(&run->cases, run->dir, "cases.tsv", 4, err));
    ES_TRY(table_open(&run->tolerances, run->dir, "tolerances.tsv", 5, err));
    run->c = es_alloc((size_t)run->cases.n + 1, sizeof *run->c, NULL);
    ES_ASSERT(run->c);
    for (int i = 0; i < run->cases.n; i++) {
        struct rn_row *r = &run->cases.row[i];
        int k = run->n_cases - 1;
        while (k >= 0 && (strcmp(run->c[k].file_name, r->col[FILE_COL]) != 0 ||
                          strcmp(run->c[k].group, r->col[GROUP]) != 0))
            k--;
        if (k < 0) {
            k = run->n_cases++;
            run->c[k] = (struct rn_case){.run = run,
                                         .file_name = r->col[FILE_COL],
                                         .group = r->col[GROUP],
                                         .index = k,
                                         .group_max = -1};
        }
        r->i_case = k;
    }
    return 0;
}

void rn_tables_close(struct rn *run) {
    es_free(&run->c);
    es_free(&run->cases.row);
    es_free(&run->cases.text);
    es_free(&run->tolerances.row);
    es_free(&run->tolerances.text);
}

const char *rn_get(const struct rn_case *c, const char *key) {
    const struct rn_table *t = &c->run->cases;
    for (int i = 0; i < t->n; i++)
        if (t->row[i].i_case == c->index && strcmp(t->row[i].col[KEY], key) == 0) return t->row[i].col[VALUE];
    return NULL;
}

bool rn_is(const struct rn_case *c, const char *key, const char *value) {
    const char *v = rn_get(c, key);
    return v && strcmp(v, value) == 0;
}

double rn_num(const struct rn_case *c, const char *key, double missing) {
    const char *v = rn_get(c, key);
    char *end = NULL;
    double x = v ? strtod(v, &end) : missing;
    return v && end > v ? x : missing;
}

int rn_int(const struct rn_case *c, const char *key, int missing) {
    return (int)rn_num(c, key, missing);
}

bool rn_item(const char *list, int i, char *out, size_t size) {
    if (!list || strcmp(list, "-") == 0) return false;
    for (; i > 0; i--) {
        list = strchr(list, ',');
        if (!list) return false;
        list++;
    }
    while (*list == ' ') list++;
    snprintf(out, size, "%.*s", (int)strcspn(list, ","), list);
    return *out != 0;
}

int rn_list(const struct rn_case *c, const char *key, double *out, int max) {
    char item[64];
    int n = 0;
    while (n < max && rn_item(rn_get(c, key), n, item, sizeof item)) out[n++] = strtod(item, NULL);
    return n;
}

bool rn_glob(const char *pattern, const char *s) {
    return fnmatch(pattern, s, FNM_NOESCAPE) == 0;
}

/* Alternatives separated by "|"; patterns[0..n) of s. */
static bool any_glob(const char *patterns, const char *s) {
    char p[300];
    for (const char *at = patterns; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        snprintf(p, sizeof p, "%.*s", (int)strcspn(at, "|"), at);
        if (rn_glob(p, s)) return true;
    }
    return false;
}

/* "pattern[a:b]" -> pattern, a, b; false: no range. */
static bool take_range(char *pattern, int64_t *a, int64_t *b) {
    char *open = strrchr(pattern, '[');
    if (!open || pattern[strlen(pattern) - 1] != ']') return false;
    char *end;
    *a = strtoll(open + 1, &end, 10);
    if (*end != ':') return false;
    *b = strtoll(end + 1, NULL, 10);
    *open = 0;
    return true;
}

/* Group column: alternatives, each perhaps with {key=value}. */
static bool group_matches(const struct rn_case *c, const char *column) {
    char p[300];
    snprintf(p, sizeof p, "%s", column);
    char *open = strchr(p, '{');
    if (open) {
        char *eq = strchr(open, '='), *close = strchr(open, '}');
        if (!eq || !close) return false;
        *open = *eq = *close = 0;
        if (!rn_is(c, open + 1, eq + 1)) return false;
    }
    return any_glob(p, c->group);
}

static bool row_applies(const struct rn_case *c, const struct rn_row *r) {
    return any_glob(r->col[FILE_COL], c->file_name) && group_matches(c, r->col[GROUP]);
}

/* The patterns of "grad/{zero_grad}". */
static const char *braced(const struct rn_case *c, const char *column, char prefix[100]) {
    const char *open = strchr(column, '{');
    char key[100];
    if (!open) return NULL;
    snprintf(prefix, 100, "%.*s", (int)(open - column), column);
    snprintf(key, sizeof key, "%.*s", (int)strcspn(open + 1, "}"), open + 1);
    const char *v = rn_get(c, key);
    return v ? v : "-";
}

int rn_rule(const struct rn_case *c, const char *file, const char *rel) {
    const struct rn_table *t = &c->run->tolerances;
    for (int i = 0; i < t->n; i++) {
        const struct rn_row *r = &t->row[i];
        if (strpbrk(r->col[DATASET], "#{")) continue;
        if (any_glob(r->col[FILE_COL], file) && group_matches(c, r->col[GROUP]) &&
            any_glob(r->col[DATASET], rel))
            return i;
    }
    return -1;
}

static void take(int *rule, int64_t from, int64_t to, int which) {
    for (int64_t i = from; i < to; i++)
        if (rule[i] < 0) rule[i] = which;
}

/* Line k of a names file (row, name, shape): the name. */
static bool read_name(FILE *f, char *name, size_t size) {
    char line[600];
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#') continue;
        char *at = strchr(line, '\t');
        if (!at) continue;
        snprintf(name, size, "%.*s", (int)strcspn(at + 1, "\t\n"), at + 1);
        return true;
    }
    return false;
}

/* X#names: rows (second dimension) whose name matches; [a:b]: their columns. */
static void take_rows(const struct rn_case *c, const char *patterns, int ndim, const int64_t *dim, int *rule,
                      int which) {
    char path[1200], name[200];
    const char *names = rn_get(c, "names");
    if (ndim < 2 || !names) return;
    snprintf(path, sizeof path, "%s/%s", c->run->dir, names);
    FILE *f = fopen(path, "r");
    if (!f) return;
    const int64_t rows = dim[1], width = ndim > 2 ? dim[2] : 1;
    for (int64_t row = 0; row < rows && read_name(f, name, sizeof name); row++) {
        for (const char *at = patterns; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
            char p[200];
            int64_t a = 0, b = width;
            snprintf(p, sizeof p, "%.*s", (int)strcspn(at, "|"), at);
            take_range(p, &a, &b);
            if (!rn_glob(p, name)) continue;
            for (int64_t s = 0; s < dim[0]; s++)
                take(rule, (s * rows + row) * width + a, (s * rows + row) * width + (b < width ? b : width),
                     which);
        }
    }
    fclose(f);
}

void rn_rules(const struct rn_case *c, const char *rel, int64_t n, int ndim, const int64_t *dim, int *rule) {
    const struct rn_table *t = &c->run->tolerances;
    for (int64_t i = 0; i < n; i++) rule[i] = -1;
    for (int i = 0; i < t->n; i++) {
        const struct rn_row *r = &t->row[i];
        const char *hash = strchr(r->col[DATASET], '#');
        char p[300], prefix[100];
        if (!row_applies(c, r)) continue;
        const char *keyed = braced(c, r->col[DATASET], prefix);
        if (keyed) {
            for (int k = 0; rn_item(keyed, k, p, sizeof p); k++) {
                char full[400];
                int64_t a = 0, b = n;
                take_range(p, &a, &b);
                snprintf(full, sizeof full, "%s%s", prefix, p);
                if (rn_glob(full, rel)) take(rule, a, b < n ? b : n, i);
            }
        } else if (hash) {
            snprintf(p, sizeof p, "%.*s", (int)(hash - r->col[DATASET]), r->col[DATASET]);
            if (any_glob(p, rel)) take_rows(c, hash + 1, ndim, dim, rule, i);
        } else if (any_glob(r->col[DATASET], rel)) {
            take(rule, 0, n, i);
            return;
        }
    }
}

const char *rn_rule_part(const struct rn_case *c, int rule, const char *rel) {
    static char part[200]; /* of the last call */
    const char *column = c->run->tolerances.row[rule].col[DATASET], *hash = strchr(column, '#');
    char prefix[100], p[300];
    const char *keyed = braced(c, column, prefix);
    snprintf(part, sizeof part, "%s", hash ? hash : "");
    for (int k = 0; keyed && rn_item(keyed, k, p, sizeof p); k++) {
        char full[400];
        int64_t a, b;
        if (!take_range(p, &a, &b)) continue;
        snprintf(full, sizeof full, "%s%s", prefix, p);
        if (rn_glob(full, rel)) snprintf(part, sizeof part, "[%lld:%lld]", (long long)a, (long long)b);
    }
    return part;
}

const char *rn_criterion(const struct rn *run, int rule) {
    if (rule < 0) return NULL;
    char *const *col = run->tolerances.row[rule].col;
    return run->bf16 && !rn_not_output(col[CRITERION]) ? col[CRITERION_BF16] : col[CRITERION];
}

bool rn_in_bf16(const struct rn *run, const char *file) {
    for (int i = 0; i < run->tolerances.n; i++)
        if (strcmp(run->tolerances.row[i].col[CRITERION_BF16], "-") != 0 &&
            any_glob(run->tolerances.row[i].col[FILE_COL], file))
            return true;
    return false;
}

bool rn_not_output(const char *criterion) {
    return strcmp(criterion, "input") == 0 || strcmp(criterion, "config") == 0 ||
           strcmp(criterion, "info") == 0 || strcmp(criterion, "-") == 0;
}
