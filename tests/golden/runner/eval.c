/* Accounting of JSON values, and the folders of an evaluation directory. */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval.h"

static const struct {
    const char *text, *suffix;
    double tol;
} kinds[EV_N_KINDS] = {{"abs<=1e-9", "#values", 1e-9},
                       {"exact", "#counts", 0},
                       {"abs<=1e-7", "#efpr", 1e-7},
                       {"abs<=1e-9", "#levels", 1e-9},
                       {"abs<=1e-6", "#times", 1e-6},
                       {"abs<=2e-6", "#times", 2e-6},
                       {"exact", "", 0},
                       {"abs<=1e-12", "", 1e-12}};

/* ---- values */
static bool plain(const struct js *v) {
    return v->type != JS_ARRAY && v->type != JS_OBJECT;
}

/* What a value is counted with: the list or object that holds nothing but plain values, and lists of such lists. */
static struct js *container(struct js *v) {
    struct js *p = v->parent;
    for (const struct js *x = p ? p->first : NULL; x; x = x->next)
        if (!plain(x)) return v;
    if (!p || !p->parent) return v; /* values of the document itself */
    while (p->type == JS_ARRAY && p->parent && p->parent->type == JS_ARRAY) p = p->parent;
    return p;
}

static struct ev_quantity *quantity(struct ev *e, struct js *where, enum ev_kind kind) {
    for (int i = e->n - 1; i >= 0; i--)
        if (e->q[i].where == where && e->q[i].kind == kind) return &e->q[i];
    if (e->n == e->cap) {
        int cap = e->cap ? 2 * e->cap : 256;
        struct ev_quantity *more = es_alloc((size_t)cap, sizeof *more, NULL);
        ES_ASSERT(more);
        if (e->n) memcpy(more, e->q, (size_t)e->n * sizeof *more);
        es_free(&e->q);
        e->q = more;
        e->cap = cap;
    }
    e->q[e->n] = (struct ev_quantity){.where = where, .kind = kind, .pass = true};
    return &e->q[e->n++];
}

static void count(struct ev_quantity *q, double got, double want) {
    double d = got == want || (isnan(got) && isnan(want)) ? 0 : fabs(got - want);
    if (isnan(d)) d = HUGE_VAL;
    q->n++;
    q->max_abs = fmax(q->max_abs, d);
    q->d2 += d * d;
    q->r2 += isfinite(want) ? want * want : 0;
    q->pass &= d <= kinds[q->kind].tol;
}

void ev_put(struct ev *e, struct js *v, enum ev_kind kind, double got) {
    if (!v) return;
    v->settled = 1;
    count(quantity(e, container(v), kind), got, v->type == JS_NULL ? (double)NAN : v->num);
}

void ev_put_list(struct ev *e, struct js *list, enum ev_kind kind, const double *got, int64_t n) {
    if (!list) return;
    int64_t i = 0;
    for (struct js *v = list->first; v; v = v->next, i++) ev_put(e, v, kind, i < n ? got[i] : (double)NAN);
    if (n != i) { /* too many, or nothing at all to put */
        struct js *where = list->first ? container(list->first) : list;
        count(quantity(e, where, kind), (double)n, HUGE_VAL);
    } else if (n == 0) {
        list->settled = 1;
        count(quantity(e, list, EV_COUNT), 0, 0);
    }
}

static void settle(struct js *v) {
    v->settled = 1;
    for (struct js *x = v->first; x; x = x->next) settle(x);
}

void ev_input(struct js *v) {
    if (v) settle(v);
}

void ev_put_same(struct ev *e, struct js *v, bool same) {
    struct js *where = plain(v) ? container(v) : v;
    settle(v);
    count(quantity(e, where, EV_COUNT), same, 1);
}

/* ---- names: the path from the root; elements of lists by their member "name", or their number */
static void path_of(const struct js *v, char *out, size_t size) {
    char up[600] = "";
    if (!v->parent) return;
    path_of(v->parent, up, sizeof up);
    if (v->key) {
        snprintf(out, size, "%s%s%s", up, *up ? "/" : "", v->key);
        return;
    }
    const struct js *name = NULL;
    int64_t i = 0;
    for (const struct js *x = v->first; x && v->type == JS_OBJECT && !name; x = x->next)
        if (x->key && strcmp(x->key, "name") == 0 && x->type == JS_STRING) name = x;
    for (const struct js *x = v->parent->first; x && x != v; x = x->next) i++;
    if (name)
        snprintf(out, size, "%s%s%s", up, *up ? "/" : "", name->str);
    else
        snprintf(out, size, "%s[%lld]", up, (long long)i);
}

/* Splits a path: the case is its first part, or the first two where the first is a list of cases. */
static void split(const struct js *v, char group[600], char rest[600]) {
    char path[600] = "";
    path_of(v, path, sizeof path);
    char *cut = strncmp(path, "cases/", 6) == 0 ? strchr(path + 6, '/') : strchr(path, '/');
    snprintf(group, 600, "%.*s", cut ? (int)(cut - path) : 1, cut ? path : ".");
    snprintf(rest, 600, "%s", cut ? cut + 1 : path);
}

static int64_t open_values(const struct js *v) {
    int64_t n = plain(v) && !v->settled;
    for (const struct js *x = v->first; x; x = x->next) n += open_values(x);
    return n;
}

static void skip_open(struct ev *e, struct js *v, const char *why) {
    if (open_values(v) == 0) return;
    bool leaves = plain(v);
    for (const struct js *x = v->first; x; x = x->next) leaves |= plain(x) && !x->settled;
    if (leaves) {
        char group[600], rest[600], text[200];
        split(v, group, rest);
        snprintf(text, sizeof text, "%s", why);
        rn_report_skip(e->run, e->file, group, *rest ? rest : ".", text);
        settle(v);
        return;
    }
    for (struct js *x = v->first; x; x = x->next) skip_open(e, x, why);
}

void ev_skip(struct ev *e, struct js *v, const char *why) {
    if (v) skip_open(e, v, why);
}

bool ev_error(struct ev *e, struct js *v, int rc, const struct es_err *err) {
    if (rc >= 0) return false;
    char text[1200];
    snprintf(text, sizeof text, "the program refused it: %s", err->msg);
    ev_skip(e, v, text);
    e->run->failed++; /* what is refused here is wrong, not left out */
    fprintf(stderr, "FAILED %s: %s\n", e->file, err->msg);
    return true;
}

/* ---- files */
static void note_opened(const char *file);

bool ev_open(struct ev *e, struct rn *run, const char *folder, const char *file) {
    char path[1200];
    *e = (struct ev){.run = run};
    snprintf(e->folder, sizeof e->folder, "%s", folder);
    snprintf(e->file, sizeof e->file, "%s/%s", folder, file);
    snprintf(path, sizeof path, "%s/%s", run->dir, e->file);
    note_opened(e->file);
    e->root = access(path, R_OK) == 0 ? js_open(&e->doc, path) : NULL;
    if (e->root) return true;
    rn_report_skip(run, e->file, "-", "*", "the file is not there");
    return false;
}

void ev_close(struct ev *e) {
    for (int i = 0; i < e->n; i++) {
        const struct ev_quantity *q = &e->q[i];
        char group[600], rest[600];
        bool twice = false; /* values of two kinds in one place: the second gets a suffix */
        split(q->where, group, rest);
        for (int k = 0; k < i && !twice; k++) twice = e->q[k].where == q->where;
        if (twice) snprintf(rest + strlen(rest), sizeof rest - strlen(rest), "%s", kinds[q->kind].suffix);
        rn_report(e->run, &(struct rn_result){e->file, group, rest, q->n, q->max_abs,
                                              q->d2 == 0  ? 0
                                              : q->r2 > 0 ? sqrt(q->d2 / q->r2)
                                                          : HUGE_VAL,
                                              kinds[q->kind].text, q->pass});
    }
    skip_open(e, e->root, "not computed by this case");
    es_free(&e->q);
    js_close(&e->doc);
}

void ev_report(struct rn *run, const char *file, const char *group, const char *name, enum ev_kind kind,
               const double *got, const double *want, int64_t n) {
    struct ev_quantity q = {.kind = kind, .pass = true};
    for (int64_t i = 0; i < n; i++) count(&q, got[i], want[i]);
    rn_report(run, &(struct rn_result){file, group, name, n, q.max_abs,
                                       q.d2 == 0  ? 0
                                       : q.r2 > 0 ? sqrt(q.d2 / q.r2)
                                                  : HUGE_VAL,
                                       kinds[kind].text, q.pass});
}

static char opened[128][300]; /* files read, and temporary ones, of this run */
static int n_opened, n_temporary;
static char temporary[32][64];

static void note_opened(const char *file) {
    if (n_opened < 128) snprintf(opened[n_opened++], sizeof opened[0], "%s", file);
}

const char *ev_path(struct rn *run, const char *folder, const char *file, char path[1200]) {
    const size_t n = strlen(file);
    snprintf(path, 1200, "%s/%s/%s", run->dir, folder, file);
    if (n < 4 || strcmp(file + n - 3, ".gz") != 0 || n_temporary == 32) return path;
    char *out = temporary[n_temporary++], command[2600];
    snprintf(out, sizeof temporary[0], "/tmp/earshot-golden-%d-%d", (int)getpid(), n_temporary);
    snprintf(command, sizeof command, "gzip -dc '%s' > '%s'", path, out);
    FILE *f = popen(command, "r");
    if (f) pclose(f);
    snprintf(path, 1200, "%s", out);
    return path;
}

/* ---- folders */
static const struct {
    const char *pattern;
    void (*run)(struct rn *run, const char *folder);
} folders[] = {{"*real_tsv_folder*", ev_case_real_folder},
               {"*operating_points*", ev_case_operating_points},
               {"*many_ties*", ev_case_many_ties},
               {"*psds_eval_data*", ev_case_psds_eval_data},
               {"*synthetic*", ev_case_synthetic},
               {"*pipeline*", ev_case_pipeline},
               {"*edge_cases*", ev_case_inline},
               {"*micro*cases*", ev_case_inline},
               {"*filters*", ev_case_filters},
               {"*bootstrap*", ev_case_bootstrap},
               {"*hear*", ev_case_hear}};

static int folder_names(struct rn *run, char name[64][200]) {
    int n = 0;
    DIR *d = opendir(run->dir);
    for (struct dirent *e; d && (e = readdir(d)) && n < 64;) {
        char path[1300];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", run->dir, e->d_name);
        if (e->d_name[0] != '.' && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            snprintf(name[n++], 200, "%s", e->d_name);
    }
    if (d) closedir(d);
    qsort(name, (size_t)n, 200, (int (*)(const void *, const void *))strcmp);
    return n;
}

const char *ev_folder(struct rn *run, const char *pattern) {
    static char found[200];
    char name[64][200];
    const int n = folder_names(run, name);
    for (int i = 0; i < n; i++)
        if (rn_glob(pattern, name[i])) {
            snprintf(found, sizeof found, "%s", name[i]);
            return found;
        }
    return NULL;
}

/* JSON files of a folder that no case opened. */
static void unread(struct rn *run, const char *folder) {
    char path[1300];
    snprintf(path, sizeof path, "%s/%s", run->dir, folder);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        bool seen = !strstr(e->d_name, ".json");
        char file[600];
        snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
        for (int i = 0; i < n_opened && !seen; i++) seen = strcmp(opened[i], file) == 0;
        if (!seen) rn_report_skip(run, file, "-", "*", "no case reads it");
    }
    if (d) closedir(d);
}

int rn_run_evaluation(struct rn *run, struct es_err *err) {
    char name[64][200];
    int known = 0;
    const int n = folder_names(run, name);
    for (int i = 0; i < n; i++) {
        const size_t len = strlen(name[i]);
        if (run->only && strcmp(run->only, name[i]) != 0 &&
            !(strncmp(run->only, name[i], len) == 0 && (run->only[len] == '/' || !run->only[len])))
            continue;
        size_t k = 0;
        while (k < sizeof folders / sizeof *folders && !rn_glob(folders[k].pattern, name[i])) k++;
        if (k == sizeof folders / sizeof *folders) {
            rn_report_skip(run, name[i], "-", "*", "no case has this name");
            continue;
        }
        known++;
        folders[k].run(run, name[i]);
        unread(run, name[i]);
    }
    for (int i = 0; i < n_temporary; i++) remove(temporary[i]);
    if (known == 0 && run->skipped == 0)
        return es_err_set(err, ES_EDATA, "%s: neither cases.tsv nor a folder of evaluation cases", run->dir);
    return 0;
}
