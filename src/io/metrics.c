#include "earshot/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"

enum { MAX_TABLES = 64, MAX_COLUMNS = 512, MAX_DECLARED = 64 };

struct column {
    struct es_metrics_column c; /* with own copies of all texts */
    struct es_h5_names label[2];
    char *path, *label_name[2];
    int table;
    size_t row_bytes;
    char *rows;
};

struct table {
    char *index;
    int64_t n, cap;
    int64_t *step;
    int n_declared, declared[MAX_DECLARED];
};

struct es_metrics {
    char *path;
    double flush_s, flushed_s;
    int64_t steps;
    int n_tables, n_columns;
    struct table table[MAX_TABLES];
    struct column column[MAX_COLUMNS];
};

void es_metrics_free(struct es_metrics **mp) {
    struct es_metrics *m = *mp;
    if (!m) return;
    for (int c = 0; c < m->n_columns; c++) {
        for (int l = 0; l < 2; l++) {
            es_h5_names_free(&m->column[c].label[l]);
            es_free(&m->column[c].label_name[l]);
        }
        es_free(&m->column[c].path);
        es_free(&m->column[c].rows);
    }
    for (int t = 0; t < m->n_tables; t++) {
        es_free(&m->table[t].index);
        es_free(&m->table[t].step);
    }
    es_free(&m->path);
    es_free(mp);
}

/* ---- the log in memory */

static size_t bytes_of_row(const struct es_metrics_column *c) {
    size_t n = es_h5_type_bytes(c->type);
    for (int i = 0; i < c->ndim; i++) n *= (size_t)c->dim[i];
    return n;
}

static int grow(void **block, size_t old_bytes, size_t new_bytes, struct es_err *err) {
    void *bigger = es_alloc(new_bytes, 1, err);
    if (!bigger) return -ES_EIO;
    if (old_bytes) memcpy(bigger, *block, old_bytes);
    es_free(block);
    *block = bigger;
    return 0;
}

/* "Nothing was measured": NaN, or 0 for integers. */
static void fill_row(const struct column *c, int64_t row) {
    char *at = c->rows + (size_t)row * c->row_bytes;
    size_t item = es_h5_type_bytes(c->c.type);
    for (size_t i = 0; i < c->row_bytes; i += item) {
        double wide = (double)NAN;
        float narrow = NAN;
        if (c->c.type == ES_H5_F64)
            memcpy(at + i, &wide, item);
        else if (c->c.type == ES_H5_F32)
            memcpy(at + i, &narrow, item);
        else
            memset(at + i, 0, item);
    }
}

static int reserve(struct es_metrics *m, int t, int64_t n, struct es_err *err) {
    struct table *table = &m->table[t];
    if (n <= table->cap) return 0;
    int64_t cap = table->cap ? table->cap : 64;
    while (cap < n) cap *= 2;
    void *block = table->step;
    ES_TRY(grow(&block, (size_t)table->n * sizeof *table->step, (size_t)cap * sizeof *table->step, err));
    table->step = block;
    for (int c = 0; c < m->n_columns; c++) {
        struct column *column = &m->column[c];
        if (column->table != t) continue;
        block = column->rows;
        ES_TRY(grow(&block, (size_t)table->n * column->row_bytes, (size_t)cap * column->row_bytes, err));
        column->rows = block;
    }
    table->cap = cap; /* last: after a failure the next call starts over, larger blocks do no harm */
    return 0;
}

static int find_table(const struct es_metrics *m, const char *index) {
    for (int t = 0; t < m->n_tables; t++)
        if (strcmp(m->table[t].index, index) == 0) return t;
    return -1;
}

static int find_column(const struct es_metrics *m, const char *path) {
    for (int c = 0; c < m->n_columns; c++)
        if (strcmp(m->column[c].path, path) == 0) return c;
    return -1;
}

static int new_table(struct es_metrics *m, const char *index, struct es_err *err) {
    ES_ASSERT(m->n_tables < MAX_TABLES);
    struct table *t = &m->table[m->n_tables];
    *t = (struct table){.index = es_strdup(index, err)};
    if (!t->index) return -ES_EIO;
    return m->n_tables++;
}

static int copy_label(struct column *c, int l, const struct es_metrics_label *label, struct es_err *err) {
    size_t bytes = 0;
    for (int64_t i = 0; i < label->n; i++) bytes += strlen(label->text[i]) + 1;
    c->label_name[l] = es_strdup(label->name, err);
    c->label[l].name = es_alloc((size_t)label->n, sizeof(char *), err);
    c->label[l].block = es_alloc(bytes, 1, err);
    if (!c->label_name[l] || !c->label[l].name || !c->label[l].block) return -ES_EIO;
    c->label[l].n = label->n;
    char *at = c->label[l].block;
    for (int64_t i = 0; i < label->n; i++) {
        size_t n = strlen(label->text[i]) + 1;
        memcpy(at, label->text[i], n);
        c->label[l].name[i] = at;
        at += n;
    }
    c->c.label[l] =
        (struct es_metrics_label){c->label_name[l], label->n, (const char *const *)c->label[l].name};
    return 0;
}

/* A column with room for the rows its table has, filled with nothing. Returns its number. */
static int new_column(struct es_metrics *m, int t, const struct es_metrics_column *from, struct es_err *err) {
    ES_ASSERT(m->n_columns < MAX_COLUMNS && from->ndim >= 0 && from->ndim <= 2);
    struct column *c = &m->column[m->n_columns++]; /* counted at once, so that abandon frees what there is */
    *c = (struct column){.c = *from, .table = t, .row_bytes = bytes_of_row(from)};
    c->path = es_strdup(from->path, err);
    c->rows = es_alloc((size_t)m->table[t].cap, c->row_bytes, err);
    if (!c->path || !c->rows) return -ES_EIO;
    c->c.path = c->path;
    for (int l = 0; l < 2; l++) {
        c->c.label[l] = (struct es_metrics_label){0};
        if (from->label[l].name) ES_TRY(copy_label(c, l, &from->label[l], err));
    }
    for (int64_t row = 0; row < m->table[t].n; row++) fill_row(c, row);
    return m->n_columns - 1;
}

int es_metrics_table(struct es_metrics *m, const char *index, const struct es_metrics_column *columns,
                     int n_columns, int *table, struct es_err *err) {
    *table = 0;
    if (!m) return 0;
    ES_ASSERT(n_columns <= MAX_DECLARED);
    int t = find_table(m, index);
    if (t < 0) ES_TRY(t = new_table(m, index, err));
    m->table[t].n_declared = 0;
    for (int i = 0; i < n_columns; i++) {
        int c = find_column(m, columns[i].path);
        if (c < 0) {
            ES_TRY(c = new_column(m, t, &columns[i], err));
        } else {
            const struct es_metrics_column *have = &m->column[c].c;
            bool same =
                m->column[c].table == t && have->type == columns[i].type && have->ndim == columns[i].ndim;
            for (int d = 0; same && d < have->ndim; d++) same = have->dim[d] == columns[i].dim[d];
            if (!same)
                return es_err_set(err, ES_EDATA, "%s:%s: the log has another type or shape than this run",
                                  m->path, columns[i].path);
        }
        m->table[t].declared[m->table[t].n_declared++] = c;
    }
    *table = t;
    return 0;
}

void es_metrics_set_steps(struct es_metrics *m, int64_t steps) {
    if (m) m->steps = steps;
}

int64_t es_metrics_steps(const struct es_metrics *m) {
    return m->steps;
}

int es_metrics_add(struct es_metrics *m, int table, int64_t step, const void *const *values,
                   struct es_err *err) {
    if (!m) return 0;
    ES_ASSERT(table >= 0 && table < m->n_tables);
    struct table *t = &m->table[table];
    ES_TRY(reserve(m, table, t->n + 1, err));
    for (int c = 0; c < m->n_columns; c++)
        if (m->column[c].table == table) fill_row(&m->column[c], t->n);
    for (int i = 0; i < t->n_declared; i++) {
        const struct column *c = &m->column[t->declared[i]];
        memcpy(c->rows + (size_t)t->n * c->row_bytes, values[i], c->row_bytes);
    }
    t->step[t->n++] = step;
    return 0;
}

void es_metrics_amend(struct es_metrics *m, int table, int64_t step, int i, const void *value) {
    if (!m) return;
    ES_ASSERT(table >= 0 && table < m->n_tables);
    const struct table *t = &m->table[table];
    ES_ASSERT(i >= 0 && i < t->n_declared);
    const struct column *c = &m->column[t->declared[i]];
    if (t->n > 0 && t->step[t->n - 1] == step)
        memcpy(c->rows + (size_t)(t->n - 1) * c->row_bytes, value, c->row_bytes);
}

/* ---- the file */

int es_metrics_flush(struct es_metrics *m, struct es_err *err) {
    if (!m) return 0;
    struct es_h5 *f = NULL;
    m->flushed_s = es_now_s(); /* after an error, too: the next try comes in its time */
    ES_TRY(es_h5_create_all(&f, NULL, m->path, "metrics", ES_METRICS_VERSION, err));
    if (m->steps >= 0) es_h5_attr_i64_all(f, "/", "steps", m->steps);
    for (int t = 0; t < m->n_tables; t++)
        es_h5_put_all(f, m->table[t].index, ES_H5_I64, 1, &m->table[t].n, m->table[t].step);
    for (int i = 0; i < m->n_columns; i++) {
        const struct column *c = &m->column[i];
        int64_t dim[3] = {m->table[c->table].n, c->c.dim[0], c->c.dim[1]};
        es_h5_put_all(f, c->path, c->c.type, 1 + c->c.ndim, dim, c->rows);
        es_h5_attr_text_all(f, c->path, "index", m->table[c->table].index);
        for (int l = 0; l < 2; l++)
            if (c->label_name[l])
                es_h5_attr_strings_all(f, c->path, c->label_name[l], c->label[l].n,
                                       (const char *const *)c->label[l].name);
    }
    es_fault_here("metrics");
    return es_h5_commit_all(&f, NULL, err);
}

int es_metrics_tick(struct es_metrics *m, struct es_err *err) {
    return m && es_now_s() - m->flushed_s >= m->flush_s ? es_metrics_flush(m, err) : 0;
}

static int load_labels(const struct es_h5 *f, struct column *c, struct es_err *err) {
    struct es_h5_names names;
    int n = 0, rc = 0;
    ES_TRY(es_h5_attr_list(f, c->path, &names, err));
    for (int64_t i = 0; rc == 0 && i < names.n && n < 2; i++) {
        if (strcmp(names.name[i], "index") == 0) continue;
        rc = es_h5_attr_get_strings(f, c->path, names.name[i], &c->label[n], err);
        if (rc == -ES_EDATA) rc = 0; /* an attribute that is not names */
        if (rc < 0 || !c->label[n].name) continue;
        c->label_name[n] = es_strdup(names.name[i], err);
        if (!c->label_name[n]) rc = -ES_EIO;
        c->c.label[n] =
            (struct es_metrics_label){c->label_name[n], c->label[n].n, (const char *const *)c->label[n].name};
        n++;
    }
    es_h5_names_free(&names);
    return rc;
}

static int load_table(struct es_metrics *m, const struct es_h5 *f, const char *index, struct es_err *err) {
    struct es_h5_info info;
    int t;
    ES_TRY(t = new_table(m, index, err));
    ES_TRY(es_h5_info(f, index, &info, err));
    ES_TRY(reserve(m, t, info.n, err));
    m->table[t].n = info.n;
    ES_TRY(es_h5_read(f, index, ES_H5_I64, info.n, m->table[t].step, err));
    return t;
}

static int load_column(struct es_metrics *m, const struct es_h5 *f, const char *path, struct es_err *err) {
    struct es_h5_info info;
    char index[256];
    ES_TRY(es_h5_attr_get_text(f, path, "index", index, sizeof index, err));
    int t = find_table(m, index);
    if (t < 0) ES_TRY(t = load_table(m, f, index, err));
    ES_TRY(es_h5_info(f, path, &info, err));
    if (info.ndim < 1 || info.ndim > 3 || info.dim[0] != m->table[t].n || !es_h5_type_bytes(info.type))
        return es_err_set(err, ES_EDATA, "%s:%s: does not fit the steps in %s", m->path, path, index);
    struct es_metrics_column c = {
        .path = path, .type = info.type, .ndim = info.ndim - 1, .dim = {info.dim[1], info.dim[2]}};
    int i;
    ES_TRY(i = new_column(m, t, &c, err));
    ES_TRY(load_labels(f, &m->column[i], err));
    return es_h5_read(f, path, info.type, info.n, m->column[i].rows, err);
}

static int load(struct es_metrics *m, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_h5_names names = {0};
    char path[512];
    int rc;
    ES_GO(es_h5_open(&f, m->path, "metrics", ES_METRICS_VERSION, err));
    if (es_h5_attr_has(f, "/", "steps")) ES_GO(es_h5_attr_get_i64(f, "/", "steps", &m->steps, err));
    ES_GO(es_h5_list(f, "/", true, &names, err));
    for (int64_t i = 0; i < names.n; i++) {
        snprintf(path, sizeof path, "/%s", names.name[i]);
        if (es_h5_attr_has(f, path, "index")) ES_GO(load_column(m, f, path, err));
    }
done:
    es_h5_names_free(&names);
    es_h5_close(&f);
    return rc;
}

/* Keeps the rows before `step`, in their order. */
static void drop_rows(struct es_metrics *m, int64_t step) {
    for (int i = 0; i < m->n_columns; i++) {
        const struct column *c = &m->column[i];
        const struct table *t = &m->table[c->table];
        int64_t kept = 0;
        for (int64_t row = 0; row < t->n; row++)
            if (t->step[row] < step)
                memmove(c->rows + (size_t)kept++ * c->row_bytes, c->rows + (size_t)row * c->row_bytes,
                        c->row_bytes);
    }
    for (int i = 0; i < m->n_tables; i++) {
        struct table *t = &m->table[i];
        int64_t kept = 0;
        for (int64_t row = 0; row < t->n; row++)
            if (t->step[row] < step) t->step[kept++] = t->step[row];
        t->n = kept;
    }
}

static int metrics_new(struct es_metrics **m, const char *path, double flush_s, struct es_err *err) {
    *m = es_alloc(1, sizeof **m, err);
    if (!*m) return -ES_EIO;
    (*m)->path = es_strdup(path, err);
    (*m)->flush_s = flush_s;
    (*m)->steps = -1;
    (*m)->flushed_s = es_now_s();
    return (*m)->path ? 0 : -ES_EIO;
}

int es_metrics_open(struct es_metrics **m, const char *path, int rank, double flush_s, int64_t resume_step,
                    struct es_err *err) {
    *m = NULL;
    if (rank != 0) return 0;
    int rc;
    ES_GO(metrics_new(m, path, flush_s, err));
    if (resume_step >= 0 && access(path, F_OK) == 0) {
        ES_GO(load(*m, err));
        drop_rows(*m, resume_step);
    }
done:
    if (rc < 0) es_metrics_free(m);
    return rc;
}

int es_metrics_load(struct es_metrics **m, const char *path, struct es_err *err) {
    int rc;
    ES_GO(metrics_new(m, path, 0, err));
    ES_GO(load(*m, err));
done:
    if (rc < 0) es_metrics_free(m);
    return rc;
}

int es_metrics_n_columns(const struct es_metrics *m) {
    return m->n_columns;
}

void es_metrics_view(const struct es_metrics *m, int column, struct es_metrics_view *view) {
    ES_ASSERT(column >= 0 && column < m->n_columns);
    const struct column *c = &m->column[column];
    const struct table *t = &m->table[c->table];
    *view = (struct es_metrics_view){c->c, t->index, t->n, t->step, c->rows};
}
