/* The files of a models directory: every dataset of an HDF5 file belongs to the case with the longest group that is a prefix of
 * its path; cases run in the order of cases.tsv; what is left over is named. */
#include <dirent.h>
#include <stdarg.h>
#include <unistd.h>

#include "earshot/timer.h"

#include "../generate.h"
#include "runner.h"

static const struct {
    const char *kind;
    rn_kind_fn run; /* NULL: holds inputs only */
} kinds[] = {
    {"frontend", rn_case_frontend},
    {"frontends", rn_case_frontends},
    {"frontend_tables", rn_case_frontend_tables},
    {"atst", rn_case_transformer},
    {"fpasst", rn_case_transformer},
    {"beats", rn_case_transformer},
    {"bigru", rn_case_bigru},
    {"crnn", rn_case_sed},
    {"sed", rn_case_sed},
    {"sed_given_embeddings", rn_case_sed},
    {"interp_index", rn_case_interp_index},
    {"generated_input", rn_case_generated_input},
    {"audioset_wrapper", rn_case_heads},
    {"task4rnn_wrapper", rn_case_heads},
    {"predictions_wrapper", rn_case_heads},
    {"as_strong_loss", rn_case_as_strong_loss},
    {"stage1_loss", rn_case_losses},
    {"stage2_loss", rn_case_losses},
    {"bce_edge", rn_case_bce_edge},
    {"lr_schedule", rn_case_schedule},
    {"optimiser", rn_case_optimiser},
    {"clip_grad_norm", rn_case_clip},
    {"ema", rn_case_ema},
    {"label_encoder", rn_case_labels},
    {"encode_strong", rn_case_labels},
    {"process_labels", rn_case_labels},
    {"encode_weak", rn_case_labels},
    {"encode_weak_empty", rn_case_labels},
    {"pad_audio", rn_case_labels},
    {"decode", rn_case_labels},
    {"median_filter", rn_case_labels},
    {"alias_tables", rn_case_alias_tables},
    {"trajectory", rn_case_trajectory},
    {"frame_shift", rn_case_augment},
    {"time_mask", rn_case_augment},
    {"mixstyle", rn_case_augment},
    {"filt_aug", rn_case_augment},
    {"freq_warp", rn_case_augment},
    {"mixup", rn_case_augment},
    {"wavmix", rn_case_augment},
    {"gain", rn_case_augment},
    {"dir", rn_case_augment},
    {"dir_load", rn_case_augment},
    {"config", NULL},
    {"shared_inputs", rn_case_labels}, /* of labels.h5; others hold inputs only */
};

/* ---- memory and reading */
void *rn_hold(const struct rn_case *c, size_t n, size_t size) {
    struct rn *run = c->run;
    if (run->n_held == run->cap_held) {
        int cap = run->cap_held ? 2 * run->cap_held : 64;
        void **more = es_alloc((size_t)cap, sizeof *more, NULL);
        ES_ASSERT(more);
        for (int i = 0; i < run->n_held; i++) more[i] = run->held[i];
        es_free(&run->held);
        run->held = more;
        run->cap_held = cap;
    }
    void *block = es_alloc(n, size, NULL);
    ES_ASSERT(block);
    run->held[run->n_held++] = block;
    return block;
}

static void let_go(struct rn *run) {
    while (run->n_held > 0) es_free(&run->held[--run->n_held]);
}

int64_t rn_size(const int64_t shape[4]) {
    return shape[0] * shape[1] * shape[2] * shape[3];
}

static void *read_as(const struct rn_case *c, const char *path, enum es_h5_type type, int64_t shape[4]) {
    struct es_err err = {0};
    struct es_h5_info info;
    void *x = NULL;
    if (!c->file || !c->file->h || !es_h5_has(c->file->h, path)) return NULL;
    if (es_h5_info(c->file->h, path, &info, &err) < 0) return NULL;
    x = rn_hold(c, (size_t)info.n, es_h5_type_bytes(type));
    if (es_h5_read(c->file->h, path, type, info.n, x, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return NULL;
    }
    for (int i = 0; shape && i < 4; i++) shape[i] = i < info.ndim ? info.dim[i] : 1;
    return x;
}

float *rn_read(const struct rn_case *c, const char *path, int64_t shape[4]) {
    return read_as(c, path, ES_H5_F32, shape);
}

double *rn_read64(const struct rn_case *c, const char *path, int64_t shape[4]) {
    return read_as(c, path, ES_H5_F64, shape);
}

static void below(const struct rn_case *c, const char *rel, char path[400]) {
    const bool top = strcmp(c->group, ".") == 0;
    snprintf(path, 400, "%s%s%s", top ? "" : c->group, top ? "" : "/", rel);
}

float *rn_own(const struct rn_case *c, const char *rel, int64_t shape[4]) {
    char path[400];
    below(c, rel, path);
    return rn_read(c, path, shape);
}

double *rn_own64(const struct rn_case *c, const char *rel, int64_t shape[4]) {
    char path[400];
    below(c, rel, path);
    return rn_read64(c, path, shape);
}

/* "generated name=in/embeddings offset=0 scale=1.7 seed=20240601 shape=2x250x768" */
static float *generated(const struct rn_case *c, const char *text, int64_t shape[4]) {
    char name[200] = "", word[200];
    double offset = 0, scale = 1;
    uint64_t seed = 0;
    for (int i = 0; i < 4; i++) shape[i] = 1;
    for (const char *at = text; *at; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        snprintf(word, sizeof word, "%.*s", (int)len, at);
        at += len;
        char *eq = strchr(word, '=');
        if (!eq) continue;
        *eq++ = 0;
        if (strcmp(word, "name") == 0) snprintf(name, sizeof name, "%s", eq);
        if (strcmp(word, "offset") == 0) offset = strtod(eq, NULL);
        if (strcmp(word, "scale") == 0) scale = strtod(eq, NULL);
        if (strcmp(word, "seed") == 0) seed = strtoull(eq, NULL, 10);
        for (int d = 0; strcmp(word, "shape") == 0 && d < 4 && *eq; d++) {
            shape[d] = strtoll(eq, &eq, 10);
            eq += *eq == 'x';
        }
    }
    float *x = rn_hold(c, (size_t)rn_size(shape), sizeof *x);
    es_gen_fill(name, seed, offset, scale, rn_size(shape), x);
    return x;
}

float *rn_input(const struct rn_case *c, const char *name, int step, int64_t shape[4]) {
    char key[100], path[400];
    snprintf(key, sizeof key, "in.%s", name);
    const char *v = rn_get(c, key);
    if (!v) return NULL;
    if (strncmp(v, "generated ", 10) == 0) return generated(c, v, shape);
    const char *s = strstr(v, "<s>");
    if (s)
        snprintf(path, sizeof path, "%.*s%d%s", (int)(s - v), v, step, s + 3);
    else
        snprintf(path, sizeof path, "%s", v);
    return rn_read(c, path, shape);
}

/* ---- datasets */
struct rn_data *rn_find(const struct rn_case *c, const char *rel) {
    for (int i = 0; c->file && i < c->file->n; i++)
        if (c->file->data[i].c == c && strcmp(c->file->data[i].rel, rel) == 0) return &c->file->data[i];
    return NULL;
}

bool rn_has(const struct rn_case *c, const char *rel) {
    return rn_find(c, rel) != NULL;
}

void rn_skip(struct rn_case *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof c->why, fmt, ap);
    va_end(ap);
}

static void skip_data(struct rn_data *d, const char *why) {
    struct rn_case *c = d->c;
    d->settled = true;
    rn_report_skip(c->run, c->file_name, c->group, d->rel, why);
}

void rn_skip_one(struct rn_case *c, const char *rel, const char *why) {
    struct rn_data *d = rn_find(c, rel);
    if (d && !d->settled) skip_data(d, why);
}

static double group_max(struct rn_case *c) {
    if (c->group_max >= 0) return c->group_max;
    c->group_max = 0;
    for (int i = 0; i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        int64_t shape[4];
        if (d->c != c || !rn_glob("grad/*", d->rel) || rn_glob("*.summary", d->rel)) continue;
        const float *r = rn_read(c, d->path, shape);
        for (int64_t k = 0; r && k < rn_size(shape); k++)
            c->group_max = fmax(c->group_max, fabs((double)r[k]));
    }
    return c->group_max;
}

/* Sum over the stored outputs in the loss of their 2-norm. */
static double out_norms(struct rn_case *c) {
    const struct rn_table *t = &c->run->cases;
    double sum = 0;
    for (int i = 0; i < t->n; i++) {
        int64_t shape[4];
        if (t->row[i].i_case != c->index || strncmp(t->row[i].col[2], "out.", 4) != 0) continue;
        const float *r = rn_read(c, t->row[i].col[3], shape);
        double s = 0;
        for (int64_t k = 0; r && k < rn_size(shape); k++) s += (double)r[k] * (double)r[k];
        sum += sqrt(s);
    }
    return sum;
}

/* Sums over steps 0..s of the largest rate used. */
static double *lr_sums(struct rn_case *c) {
    int64_t shape[4];
    double *lr = rn_own64(c, "lr_used", shape), *sum = lr ? rn_hold(c, (size_t)shape[0], sizeof *sum) : NULL,
           all = 0;
    for (int64_t s = 0; lr && s < shape[0]; s++) {
        double m = 0;
        for (int64_t g = 0; g < shape[1]; g++) m = fmax(m, lr[s * shape[1] + g]);
        sum[s] = all += m;
    }
    return sum;
}

static void result(struct rn_case *c, const char *quantity, int64_t n, double max_abs, double rel_l2,
                   const char *tolerance, bool pass) {
    rn_report(c->run,
              &(struct rn_result){c->file_name, c->group, quantity, n, max_abs, rel_l2, tolerance, pass});
}

#define MEDIAN "median_rel_l2<="

static void add_to_median(struct rn_case *c, const char *rule, double rel_l2) {
    ES_ASSERT(!c->median_rule || strcmp(c->median_rule, rule) == 0);
    c->median_rule = rule;
    if (c->n_median == c->cap_median) {
        const int cap = c->cap_median ? 2 * c->cap_median : 64;
        double *more = es_alloc((size_t)cap, sizeof *more, NULL);
        ES_ASSERT(more);
        for (int i = 0; i < c->n_median; i++) more[i] = c->median[i];
        es_free(&c->median);
        c->median = more;
        c->cap_median = cap;
    }
    c->median[c->n_median++] = rel_l2;
}

static void report_median(struct rn_case *c) {
    const int n = c->n_median;
    if (n > 0) {
        const double v = es_median(c->median, n);
        result(c, "median of the gradients", n, 0, v, c->median_rule,
               v <= strtod(c->median_rule + strlen(MEDIAN), NULL));
    }
    es_free(&c->median);
    c->n_median = c->cap_median = 0;
}

void rn_put_full(struct rn_case *c, const char *rel, const double *a, int64_t n, int64_t full_n) {
    struct rn_data *d = rn_find(c, rel);
    struct es_h5_info info;
    if (!d || d->settled) return;
    d->settled = true;
    const int held = c->run->n_held;
    double *r = rn_read64(c, d->path, NULL);
    if (!r || es_h5_info(c->file->h, d->path, &info, NULL) < 0 || info.n != n) {
        char want[80];
        snprintf(want, sizeof want, "%lld elements, got %lld", r ? (long long)info.n : -1LL, (long long)n);
        result(c, rel, n, HUGE_VAL, HUGE_VAL, want, false);
        return;
    }
    int *rule = rn_hold(c, (size_t)n + 1, sizeof *rule);
    bool *seen = rn_hold(c, (size_t)n + 1, sizeof *seen);
    double *pa = rn_hold(c, (size_t)n + 1, sizeof *pa), *pr = rn_hold(c, (size_t)n + 1, sizeof *pr);
    int64_t *index = rn_hold(c, (size_t)n + 1, sizeof *index);
    rn_rules(c, rel, n, info.ndim, info.dim, rule);
    if (n == 0) { /* nothing to compare but the size */
        result(c, rel, 0, 0, 0, "exact", true);
    }
    for (int64_t i = 0; i < n; i++) {
        if (seen[i]) continue;
        int64_t m = 0;
        for (int64_t k = i; k < n; k++) {
            if (rule[k] != rule[i]) continue;
            seen[k] = true;
            pa[m] = a[k];
            pr[m] = r[k];
            index[m++] = k;
        }
        const char *criterion = rn_criterion(c->run, rule[i]);
        char quantity[600];
        snprintf(quantity, sizeof quantity, "%s%s", rel, rule[i] >= 0 ? rn_rule_part(c, rule[i], rel) : "");
        if (!criterion) {
            rn_report_skip(c->run, c->file_name, c->group, quantity, "no row of tolerances.tsv fits");
            continue;
        }
        if (rn_not_output(criterion)) continue; /* given to be put although it is an input: nothing to say */
        struct rn_context x = {.c = c, .full_n = full_n, .index = index};
        if (strstr(criterion, "group_max")) x.group_max = group_max(c);
        if (strstr(criterion, "loss")) x.out_norms = out_norms(c);
        if (strstr(criterion, "drift")) {
            x.lr_sum = lr_sums(c);
            x.step_n = info.n / info.dim[0];
        }
        double max_abs, rel_l2;
        bool pass = rn_judge(criterion, &x, pa, pr, m, &max_abs, &rel_l2);
        if (strncmp(criterion, MEDIAN, strlen(MEDIAN)) == 0) {
            add_to_median(c, criterion, rel_l2);
            continue;
        }
        result(c, quantity, m, max_abs, rel_l2, criterion, pass);
        if (pass || d->computed) continue;
        d->computed = es_alloc((size_t)n, sizeof *a, NULL);
        ES_ASSERT(d->computed);
        memcpy(d->computed, a, (size_t)n * sizeof *a);
    }
    while (c->run->n_held > held) es_free(&c->run->held[--c->run->n_held]); /* what this comparison needed */
}

void rn_put(struct rn_case *c, const char *rel, const double *a, int64_t n) {
    rn_put_full(c, rel, a, n, n);
}

void rn_put_f32(struct rn_case *c, const char *rel, const float *a, int64_t n) {
    if (!rn_has(c, rel)) return;
    double *wide = es_alloc((size_t)n, sizeof *wide, NULL);
    ES_ASSERT(wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)a[i];
    rn_put(c, rel, wide, n);
    es_free(&wide);
}

float *rn_read_checked(const struct rn_case *c, const char *path, int64_t shape[4]) {
    float *x = rn_read(c, path, shape);
    for (int i = 0; x && i < c->file->n; i++) {
        const struct rn_data *d = &c->file->data[i];
        if (!d->computed || strcmp(d->path, path) != 0) continue;
        for (int64_t k = 0; k < rn_size(shape); k++) x[k] = (float)d->computed[k];
    }
    return x;
}

void rn_put_grad(struct rn_case *c, const char *name, const float *g, int64_t n) {
    char rel[400];
    struct es_h5_info info;
    snprintf(rel, sizeof rel, "grad/%s", name);
    rn_put_f32(c, rel, g, n);
    snprintf(rel, sizeof rel, "grad/%s.samples", name);
    const struct rn_data *d = rn_find(c, rel);
    if (d && es_h5_info(c->file->h, d->path, &info, NULL) == 0 && info.n > 1) {
        double *s = es_alloc((size_t)info.n, sizeof *s, NULL);
        ES_ASSERT(s);
        for (int64_t k = 0; k < info.n; k++) s[k] = (double)g[k * (n - 1) / (info.n - 1)];
        rn_put(c, rel, s, info.n);
        es_free(&s);
    }
    snprintf(rel, sizeof rel, "grad/%s.summary", name);
    if (rn_has(c, rel)) { /* sum, sum of magnitudes, 2-norm, inner product with P */
        char p[400];
        double v[4] = {0};
        snprintf(p, sizeof p, "P/%s", name);
        const uint64_t h = es_gen_hash(p);
        for (int64_t i = 0; i < n; i++) {
            v[0] += (double)g[i];
            v[1] += fabs((double)g[i]);
            v[2] += (double)g[i] * (double)g[i];
            v[3] += (double)g[i] * es_gen_u(h, 0, i);
        }
        v[2] = sqrt(v[2]);
        rn_put_full(c, rel, v, 4, n);
    }
}

/* ---- running */
static bool group_prefix(const char *group, const char *path) {
    const size_t n = strlen(group);
    return strcmp(group, ".") == 0 || (strncmp(group, path, n) == 0 && path[n] == '/');
}

static void attach(struct rn *run, struct rn_file *f) {
    for (int i = 0; i < f->n; i++) {
        struct rn_data *d = &f->data[i];
        size_t best = 0;
        d->path = d->rel = f->names.name[i];
        for (int k = 0; k < run->n_cases; k++) {
            struct rn_case *c = &run->c[k];
            const size_t len = strcmp(c->group, ".") == 0 ? 0 : strlen(c->group) + 1;
            if (strcmp(c->file_name, f->name) != 0 || !group_prefix(c->group, d->path) ||
                (d->c && len <= best))
                continue;
            d->c = c;
            d->rel = d->path + len;
            best = len;
        }
    }
}

static void run_case(struct rn_case *c, const char *kind) {
    size_t k = 0;
    while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].kind, kind) != 0) k++;
    if (k == sizeof kinds / sizeof *kinds)
        rn_skip(c, "no case of kind %s is implemented", kind);
    else if (kinds[k].run)
        kinds[k].run(c);
    report_median(c);
    let_go(c->run);
}

static void leftovers(struct rn_file *f) {
    for (int i = 0; i < f->n; i++) {
        struct rn_data *d = &f->data[i];
        if (d->settled) continue;
        if (!d->c) {
            rn_report_skip(f->run, f->name, "-", d->path, "it belongs to no case of cases.tsv");
            continue;
        }
        struct es_h5_info info;
        if (es_h5_info(f->h, d->path, &info, NULL) < 0) info.n = 0;
        int *rule = rn_hold(d->c, (size_t)info.n + 1, sizeof *rule);
        rn_rules(d->c, d->rel, info.n, info.ndim, info.dim, rule);
        bool given = true;
        if (info.n == 0) rule[0] = rn_rule(d->c, d->c->file_name, d->rel);
        for (int64_t k = 0; (k < info.n || k == 0) && given; k++)
            given = rule[k] >= 0 && rn_not_output(rn_criterion(f->run, rule[k]));
        if (!given)
            skip_data(d, rule[0] < 0    ? "no row of tolerances.tsv fits"
                         : d->c->why[0] ? d->c->why
                                        : "not computed by this case");
        let_go(f->run);
    }
}

static int run_h5(struct rn *run, const char *name, struct es_err *err) {
    char path[1200];
    struct rn_file f = {.run = run, .name = name};
    int rc = 0;
    snprintf(path, sizeof path, "%s/%s", run->dir, name);
    ES_GO(es_h5_open(&f.h, path, NULL, 0, err));
    ES_GO(es_h5_list(f.h, "/", true, &f.names, err));
    f.n = (int)f.names.n;
    f.data = es_alloc((size_t)f.n + 1, sizeof *f.data, err);
    ES_ASSERT(f.data);
    attach(run, &f);
    for (int k = 0; k < run->n_cases; k++) {
        struct rn_case *c = &run->c[k];
        const char *kind = rn_get(c, "kind");
        if (strcmp(c->file_name, name) != 0) continue;
        c->file = &f;
        run_case(c, kind ? kind : "-");
    }
    leftovers(&f);
    for (int k = 0; k < run->n_cases; k++)
        if (run->c[k].file == &f) run->c[k].file = NULL;
done:
    for (int i = 0; f.data && i < f.n; i++) es_free(&f.data[i].computed);
    es_h5_names_free(&f.names);
    es_free(&f.data);
    es_h5_close(&f.h);
    return rc;
}

static bool wanted(const struct rn *run, const char *name) {
    if (run->bf16 && !rn_in_bf16(run, name)) return false;
    return !run->only || strcmp(run->only, name) == 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Files of the directory that a row of tolerances.tsv names, in name order. */
int rn_run_models(struct rn *run, struct es_err *err) {
    char *name[1024];
    int n = 0, rc = 0;
    DIR *d = opendir(run->dir);
    if (!d) return es_err_set(err, ES_EIO, "%s: cannot be read", run->dir);
    for (struct dirent *e; (e = readdir(d)) && n < 1024;)
        if (wanted(run, e->d_name)) name[n++] = es_strdup(e->d_name, NULL);
    closedir(d);
    qsort(name, (size_t)n, sizeof *name, by_name);
    for (int k = 0; k < run->n_cases; k++) { /* cases whose file is not there */
        bool there = !wanted(run, run->c[k].file_name);
        for (int i = 0; i < n && !there; i++) there = strcmp(name[i], run->c[k].file_name) == 0;
        if (!there) rn_report_skip(run, run->c[k].file_name, run->c[k].group, "*", "the file is not there");
    }
    for (int i = 0; i < n && rc == 0; i++) {
        const size_t len = strlen(name[i]);
        struct rn_case *c = NULL;
        for (int k = 0; k < run->n_cases && !c; k++)
            if (strcmp(run->c[k].file_name, name[i]) == 0) c = &run->c[k];
        if (len > 3 && strcmp(name[i] + len - 3, ".h5") == 0) {
            rc = run_h5(run, name[i], err);
        } else if (rn_glob("params_*.tsv", name[i])) {
            rn_params_file(run, name[i]);
        } else if (c && rn_is(c, "kind", "param_groups")) {
            rn_param_groups(run);
        } else if (c && rn_is(c, "kind", "alias_tables")) {
            rn_case_alias_tables(c);
        } /* other texts: tables, names and documentation */
        let_go(run);
    }
    for (int i = 0; i < n; i++) es_free(&name[i]);
    return rc;
}
