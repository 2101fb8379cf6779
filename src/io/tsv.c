#include "earshot/tsv.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/mem.h"

#define MAX_COLUMNS 16

struct es_tsv {
    char *path, *text;
    const char *const *names; /* wanted columns; the caller's array must outlive t (string literals do) */
    int n_columns, n_fields;  /* n_fields: of the first line */
    bool present[MAX_COLUMNS];
    int64_t n_rows;
    const char **field; /* [n_rows, n_columns] */
    int64_t *line;      /* [n_rows] */
    int *row_fields;    /* [n_rows] */
};

bool es_number_from_text(const char *text, double *v) {
    if (!text[0] || text[strspn(text, "+-.0123456789eE")] != 0) return false;
    locale_t c = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0), before = c ? uselocale(c) : (locale_t)0;
    char *end;
    *v = strtod(text, &end);
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    return *end == 0 && end != text && isfinite(*v);
}

static int read_text(const char *path, char **text, size_t *bytes, struct es_err *err) {
    int rc = 0;
    struct stat st;
    FILE *in = fopen(path, "rb");
    *text = NULL;
    if (!in) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fileno(in), &st) != 0)
        ES_GO(es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno)));
    if (S_ISDIR(st.st_mode)) ES_GO(es_err_set(err, ES_EDATA, "%s: is a folder, want a table", path));
    *bytes = (size_t)st.st_size;
    *text = es_alloc(*bytes + 1, 1, err);
    if (!*text) ES_GO(-ES_EIO);
    if (fread(*text, 1, *bytes, in) != *bytes) ES_GO(es_err_set(err, ES_EIO, "%s: cannot read", path));
    if (memchr(*text, 0, *bytes))
        ES_GO(es_err_set(err, ES_EDATA, "%s: is not text (it holds zero bytes)", path));
done:
    fclose(in);
    if (rc < 0) es_free(text);
    return rc;
}

/* Ends the line at *s with a zero and moves *s behind it; returns its begin. */
static char *next_line(char **s) {
    char *begin = *s, *end = begin + strcspn(begin, "\n");
    *s = *end ? end + 1 : end;
    if (end > begin && end[-1] == '\r') end[-1] = 0;
    *end = 0;
    return begin;
}

static char *next_field(char **s) {
    char *begin = *s, *end = begin + strcspn(begin, "\t");
    *s = *end ? end + 1 : NULL;
    *end = 0;
    return begin;
}

static int count_fields(const char *line) {
    int n = 1;
    for (; *line; line++) n += *line == '\t';
    return n;
}

/* where[c] = field of wanted column c, or -1. */
static int read_header(struct es_tsv *t, char *line, int64_t number, int *where, struct es_err *err) {
    char shown[200];
    snprintf(shown, sizeof shown, "%s", line);
    for (char *c = shown; *c; c++)
        if (*c == '\t') *c = ' ';
    for (int c = 0; c < t->n_columns; c++) where[c] = -1;
    int i = 0;
    for (char *s = line; s; i++) {
        const char *name = next_field(&s);
        for (int c = 0; c < t->n_columns; c++) {
            if (strcmp(name, t->names[c] + (t->names[c][0] == '?')) != 0) continue;
            if (where[c] >= 0)
                return es_err_set(err, ES_EDATA, "%s:%lld: column %s stands there twice", t->path,
                                  (long long)number, name);
            where[c] = i;
        }
    }
    for (int c = 0; c < t->n_columns; c++)
        if (where[c] < 0 && t->names[c][0] != '?')
            return es_err_set(err, ES_EDATA, "%s:%lld: columns: got \"%s\", want one called \"%s\"", t->path,
                              (long long)number, shown, t->names[c]);
    return 0;
}

/* ES_EDATA: a row with another number of fields. */
static int wrong_fields(const struct es_tsv *t, int64_t line, int n, struct es_err *err) {
    return es_err_set(err, ES_EDATA, "%s:%lld: row: got %d fields, want %d as in the first line", t->path,
                      (long long)line, n, t->n_fields);
}

static int parse(struct es_tsv *t, char *s, unsigned flags, struct es_err *err) {
    int where[MAX_COLUMNS];
    bool header = !(flags & ES_TSV_NO_HEADER);
    int64_t lines = 1, number = 0;
    for (const char *c = s; *c; c++) lines += *c == '\n';
    t->field = es_alloc((size_t)(lines * t->n_columns), sizeof *t->field, err);
    t->line = es_alloc((size_t)lines, sizeof *t->line, err);
    t->row_fields = es_alloc((size_t)lines, sizeof *t->row_fields, err);
    if (!t->field || !t->line || !t->row_fields) return -ES_EIO;
    if (strncmp(s, "\xef\xbb\xbf", 3) == 0) s += 3;
    while (*s) {
        char *line = next_line(&s);
        number++;
        if (!line[0]) continue;
        int n = count_fields(line);
        if (t->n_fields == 0) { /* the first line that is not empty */
            t->n_fields = n;
            if (header) {
                ES_TRY(read_header(t, line, number, where, err));
            } else {
                for (int c = 0; c < t->n_columns; c++) {
                    where[c] = c < n ? c : -1;
                    if (c >= n && t->names[c][0] != '?')
                        return es_err_set(err, ES_EDATA, "%s:%lld: row: got %d fields, want %s in field %d",
                                          t->path, (long long)number, n, t->names[c], c + 1);
                }
            }
            for (int c = 0; c < t->n_columns; c++) t->present[c] = where[c] >= 0;
            if (header) continue;
        }
        if (n != t->n_fields && !(flags & ES_TSV_KEEP_ROWS)) return wrong_fields(t, number, n, err);
        const char **row = t->field + t->n_rows * t->n_columns;
        for (int c = 0; c < t->n_columns; c++)
            if (where[c] >= n) row[c] = "";
        t->row_fields[t->n_rows] = n;
        t->line[t->n_rows++] = number;
        int i = 0;
        for (char *f = line; f; i++) {
            const char *text = next_field(&f);
            for (int c = 0; c < t->n_columns; c++)
                if (where[c] == i) row[c] = text;
        }
    }
    if (t->n_fields == 0 && header)
        return es_err_set(err, ES_EDATA, "%s:1: columns: the file is empty, want a line that names them",
                          t->path);
    return 0;
}

int es_tsv_open(struct es_tsv **t, const char *path, const char *const *columns, int n_columns,
                unsigned flags, struct es_err *err) {
    ES_ASSERT(n_columns >= 1 && n_columns <= MAX_COLUMNS);
    size_t bytes = 0;
    int rc = 0;
    *t = es_alloc(1, sizeof **t, err);
    if (!*t) return -ES_EIO;
    (*t)->names = columns;
    (*t)->n_columns = n_columns;
    (*t)->path = es_strdup(path, err);
    if (!(*t)->path) ES_GO(-ES_EIO);
    ES_GO(read_text(path, &(*t)->text, &bytes, err));
    ES_GO(parse(*t, (*t)->text, flags, err));
done:
    if (rc < 0) es_tsv_close(t);
    return rc;
}

void es_tsv_close(struct es_tsv **t) {
    if (!*t) return;
    es_free(&(*t)->row_fields);
    es_free(&(*t)->line);
    es_free(&(*t)->field);
    es_free(&(*t)->text);
    es_free(&(*t)->path);
    es_free(t);
}

int64_t es_tsv_rows(const struct es_tsv *t) {
    return t->n_rows;
}
bool es_tsv_has(const struct es_tsv *t, int column) {
    return t->present[column];
}
int64_t es_tsv_line(const struct es_tsv *t, int64_t row) {
    return t->line[row];
}

int es_tsv_row_check(const struct es_tsv *t, int64_t row, struct es_err *err) {
    int n = t->row_fields[row];
    return n == t->n_fields ? 0 : wrong_fields(t, t->line[row], n, err);
}

const char *es_tsv_text(const struct es_tsv *t, int64_t row, int column) {
    ES_ASSERT(row >= 0 && row < t->n_rows && column >= 0 && column < t->n_columns);
    return t->field[row * t->n_columns + column];
}

int es_tsv_wrong(const struct es_tsv *t, int64_t row, int column, const char *want, struct es_err *err) {
    const char *text = es_tsv_text(t, row, column), *name = t->names[column];
    return es_err_set(err, ES_EDATA, "%s:%lld: %s: got \"%.80s\", want %s", t->path, (long long)t->line[row],
                      name + (name[0] == '?'), text ? text : "", want);
}

int es_tsv_number(const struct es_tsv *t, int64_t row, int column, double *v, struct es_err *err) {
    const char *text = es_tsv_text(t, row, column);
    return text && es_number_from_text(text, v) ? 0 : es_tsv_wrong(t, row, column, "a number", err);
}

int es_tsv_times(const struct es_tsv *t, int64_t row, int onset_column, int offset_column, double *onset_s,
                 double *offset_s, struct es_err *err) {
    ES_TRY(es_tsv_number(t, row, onset_column, onset_s, err));
    ES_TRY(es_tsv_number(t, row, offset_column, offset_s, err));
    if (*onset_s < 0) return es_tsv_wrong(t, row, onset_column, "a time of 0 or more seconds", err);
    if (*offset_s < *onset_s) {
        char want[80];
        snprintf(want, sizeof want, "a time not before the %s %s", t->names[onset_column],
                 es_tsv_text(t, row, onset_column));
        return es_tsv_wrong(t, row, offset_column, want, err);
    }
    return 0;
}
