/* Score tables from files: HDF5, or a folder of TSV files (spec section 1.1). */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/scores.h"
#include "earshot/text.h"

/* ---- HDF5 */

/* The data set name as [rows, columns] doubles or floats, whatever the file holds; rows of a 1-d set: columns 0. */
static int read_clip(const struct es_h5 *f, struct es_scores *s, struct es_scores_clip *clip,
                     const double *shared, int64_t n_shared, struct es_err *err) {
    int rc = -ES_EIO;
    struct es_h5_info info;
    void *values = NULL, *edges = NULL;
    struct es_text name = {0};
    es_text_add(&name, "scores/%s", clip->id);
    ES_GO(es_text_check(&name, err));
    ES_GO(es_h5_read_new(f, name.s, s->is_double ? ES_H5_F64 : ES_H5_F32, &values, &info, err));
    clip->values = values;
    if (info.ndim != 2 || info.dim[1] != s->n_classes || info.dim[0] < 1) {
        rc =
            es_err_set(err, ES_EDATA, "%s: %s: got %d dimensions, %lld columns; want [frames, %d]", s->source,
                       name.s, info.ndim, (long long)(info.ndim == 2 ? info.dim[1] : 0), s->n_classes);
        goto done;
    }
    clip->n_frames = es_int_from_i64(info.dim[0]);
    name.n = 0;
    es_text_add(&name, "timestamps%s%s", shared ? "" : "/", shared ? "" : clip->id);
    ES_GO(es_text_check(&name, err));
    if (shared) {
        info.n = n_shared;
        edges = es_alloc((size_t)n_shared, sizeof(double), err);
        rc = edges ? 0 : -ES_EIO;
        if (edges) memcpy(edges, shared, (size_t)n_shared * sizeof(double));
    } else {
        rc = es_h5_read_new(f, name.s, ES_H5_F64, &edges, &info, err);
    }
    clip->edges_s = edges;
    if (rc < 0) goto done;
    if (info.n != (int64_t)clip->n_frames + 1)
        rc = es_err_set(err, ES_EDATA,
                        "%s: %s: got %lld times for the %d frames of clip '%s'; want one more than frames",
                        s->source, name.s, (long long)info.n, clip->n_frames, clip->id);
done:
    es_text_free(&name);
    return rc;
}

static int load_h5(struct es_scores **out, const char *path, struct es_err *err) {
    int rc = 0;
    struct es_h5 *f = NULL;
    struct es_h5_names classes = {0}, clips = {0};
    struct es_h5_info info;
    struct es_text first = {0};
    void *shared = NULL;
    ES_GO(es_h5_open(&f, path, NULL, 0, err));
    ES_GO(es_h5_read_strings(f, "classes", &classes, err));
    ES_GO(es_h5_list(f, "scores", false, &clips, err));
    if (clips.n < 1 || classes.n < 1) {
        rc = es_err_set(err, ES_EDATA, "%s: got %lld classes, %lld clips in group scores; want at least one",
                        path, (long long)classes.n, (long long)clips.n);
        goto done;
    }
    es_text_add(&first, "scores/%s", clips.name[0]);
    ES_GO(es_text_check(&first, err));
    ES_GO(es_h5_info(f, first.s, &info, err));
    ES_GO(es_scores_new(out, clips.n, (const char *const *)clips.name, es_int_from_i64(classes.n),
                        (const char *const *)classes.name, info.type == ES_H5_F64, path, err));
    (*out)->own_clips = true;
    first.n = 0;
    es_text_add(&first, "timestamps/%s", clips.name[0]);
    ES_GO(es_text_check(&first, err));
    if (!es_h5_has(f, first.s)) ES_GO(es_h5_read_new(f, "timestamps", ES_H5_F64, &shared, &info, err));
    for (int64_t i = 0; i < clips.n; i++)
        ES_GO(read_clip(f, *out, &(*out)->clips[i], shared, shared ? info.n : 0, err));
done:
    es_free(&shared);
    es_text_free(&first);
    es_h5_names_free(&clips);
    es_h5_names_free(&classes);
    es_h5_close(&f);
    return rc;
}

/* ---- TSV: read by hand, tables of hundreds of classes and thousands of clips take seconds otherwise */

struct table { /* one file */
    const char *path;
    struct es_text text;
    char *at;     /* next line */
    int64_t line; /* of the last one taken, from 1 */
};

static int table_open(struct table *t, const char *path, struct es_err *err) {
    *t = (struct table){.path = path};
    char buffer[1 << 16];
    FILE *f = fopen(path, "rb");
    if (!f) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;) es_text_add_bytes(&t->text, buffer, n);
    const bool failed = ferror(f);
    fclose(f);
    if (failed) return es_err_set(err, ES_EIO, "%s: cannot read", path);
    es_text_add_bytes(&t->text, "", 0); /* not NULL */
    t->at = t->text.s;
    return es_text_check(&t->text, err);
}

/* The next line, cut off in place; NULL at the end. */
static char *table_line(struct table *t) {
    if (!*t->at) return NULL;
    char *line = t->at, *end = line + strcspn(line, "\n");
    t->at = *end ? end + 1 : end;
    if (end > line && end[-1] == '\r') end--;
    *end = 0;
    t->line++;
    return line;
}

/* The next field of a line, cut off in place; *s becomes NULL after the last one. */
static char *next_field(char **s) {
    char *field = *s, *tab = strchr(field, '\t');
    if (tab) *tab = 0;
    *s = tab ? tab + 1 : NULL;
    return field;
}

/* Names of the classes, pointing into the table. */
static int table_header(struct table *t, struct es_names *classes, struct es_err *err) {
    char *line = table_line(t);
    int n = 0;
    for (char *s = line; s; n++) {
        const char *name = next_field(&s);
        if (n < 2 && strcmp(name, n == 0 ? "onset" : "offset") != 0) break;
        const int64_t i = n < 2 ? 0 : es_names_add(classes, name, err);
        if (i < 0) return (int)i;
        if (n >= 2 && i != n - 2)
            return es_err_set(err, ES_EDATA, "%s:1: got class '%s' twice", t->path, name);
    }
    if (n < 3)
        return es_err_set(err, ES_EDATA, "%s:1: want columns onset, offset and at least one class", t->path);
    return 0;
}

/* A decimal number or -inf. */
static int table_number(const struct table *t, const char *column, const char *text, double *v,
                        struct es_err *err) {
    char *end;
    *v = -HUGE_VAL;
    if (strcmp(text, "-inf") == 0) return 0;
    if (text[strspn(text, "+-.0123456789eE")] == 0) {
        *v = strtod(text, &end);
        if (*text && *end == 0 && isfinite(*v)) return 0;
    }
    return es_err_set(err, ES_EDATA, "%s:%lld: %s: got \"%.80s\", want a number", t->path, (long long)t->line,
                      column, text);
}

/* One frame: edges [2], values [n_classes]. */
static int table_row(const struct table *t, char *line, const struct es_scores *s, double *edges,
                     double *values, struct es_err *err) {
    int n = 0;
    const int K = s->n_classes;
    for (char *p = line; p; n++) {
        const char *text = next_field(&p);
        if (n >= K + 2) continue;
        ES_TRY(table_number(t,
                            n == 0   ? "onset"
                            : n == 1 ? "offset"
                                     : s->classes[n - 2],
                            text, n < 2 ? &edges[n] : &values[n - 2], err));
    }
    if (n != K + 2)
        return es_err_set(err, ES_EDATA, "%s:%lld: got %d fields, want %d", t->path, (long long)t->line, n,
                          K + 2);
    return 0;
}

static int read_table(struct table *t, struct es_scores *s, struct es_scores_clip *clip, struct es_err *err) {
    int64_t n_max = 0;
    for (const char *p = t->at; *p; p++) n_max += *p == '\n' || !p[1];
    double *edges = es_alloc((size_t)n_max + 2, sizeof *edges, err);
    clip->edges_s = edges;
    double *values = es_alloc((size_t)n_max * (size_t)s->n_classes, sizeof *values, err);
    clip->values = values;
    if (!edges || !values) return -ES_EIO;
    for (char *line; (line = table_line(t));) {
        if (!*line) continue;
        const int i = clip->n_frames;
        const double before_s = edges[i];
        ES_TRY(table_row(t, line, s, &edges[i], &values[(int64_t)i * s->n_classes], err));
        if (i > 0 && edges[i] != before_s)
            return es_err_set(err, ES_EDATA,
                              "%s:%lld: onset: got %.17g, want %.17g, the offset of the row before", t->path,
                              (long long)t->line, edges[i], before_s);
        clip->n_frames++;
    }
    return clip->n_frames > 0 ? 0 : es_err_set(err, ES_EDATA, "%s: got no frame", t->path);
}

static int compare_names(const void *x, const void *y) {
    char *a, *b;
    memcpy(&a, x, sizeof a);
    memcpy(&b, y, sizeof b);
    return strcmp(a, b);
}

/* Clip ids of a folder, sorted; nothing but TSV files may be there. */
static int list_folder(const char *path, char ***ids, int64_t *n, struct es_err *err) {
    int rc = 0;
    int64_t cap = 0;
    DIR *dir = opendir(path);
    if (!dir) return es_err_set(err, ES_EIO, "%s: cannot open folder: %s", path, strerror(errno));
    for (struct dirent *e; (e = readdir(dir));) {
        const size_t len = strlen(e->d_name);
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (len < 5 || strcmp(e->d_name + len - 4, ".tsv") != 0) {
            rc = es_err_set(err, ES_EDATA, "%s: got '%s' in a folder of scores; want <clip>.tsv files only",
                            path, e->d_name);
            goto done;
        }
        if (*n == cap) {
            cap = cap ? 2 * cap : 256;
            char **more = es_alloc((size_t)cap, sizeof *more, err);
            rc = more ? 0 : -ES_EIO;
            if (rc < 0) goto done;
            if (*n) memcpy(more, *ids, (size_t)*n * sizeof *more);
            es_free(ids);
            *ids = more;
        }
        char *id = es_strdup(e->d_name, err);
        rc = id ? 0 : -ES_EIO;
        if (rc < 0) goto done;
        id[len - 4] = 0;
        (*ids)[(*n)++] = id;
    }
    if (*n == 0) rc = es_err_set(err, ES_EDATA, "%s: got an empty folder, want <clip>.tsv files", path);
    if (*n) qsort(*ids, (size_t)*n, sizeof **ids, compare_names);
done:
    closedir(dir);
    return rc;
}

static int load_folder(struct es_scores **out, const char *path, struct es_err *err) {
    int rc = 0;
    char **ids = NULL;
    const char **names = NULL;
    int64_t n = 0;
    struct es_text file = {0};
    struct table t = {0};
    struct es_names *classes = NULL;
    ES_GO(list_folder(path, &ids, &n, err));
    for (int64_t i = 0; i < n; i++) {
        file.n = 0;
        es_text_add(&file, "%s/%s.tsv", path, ids[i]);
        ES_GO(es_text_check(&file, err));
        es_text_free(&t.text);
        es_names_free(&classes);
        ES_GO(table_open(&t, file.s, err));
        ES_GO(es_names_new(&classes, err));
        ES_GO(table_header(&t, classes, err));
        const int K = es_int_from_i64(es_names_count(classes));
        if (i == 0) {
            names = es_alloc((size_t)K, sizeof *names, err);
            rc = names ? 0 : -ES_EIO;
            if (rc < 0) goto done;
            for (int k = 0; k < K; k++) names[k] = es_names_get(classes, k);
            ES_GO(es_scores_new(out, n, (const char *const *)ids, K, names, true, path, err));
            (*out)->own_clips = true;
        }
        bool same = K == (*out)->n_classes;
        for (int k = 0; same && k < K; k++) same = strcmp(es_names_get(classes, k), (*out)->classes[k]) == 0;
        if (!same) {
            rc = es_err_set(err, ES_EDATA,
                            "%s:1: got other classes than %s/%s.tsv; want the same ones in the same order",
                            file.s, path, ids[0]);
            goto done;
        }
        ES_GO(read_table(&t, *out, &(*out)->clips[i], err));
    }
done:
    es_names_free(&classes);
    es_text_free(&t.text);
    es_text_free(&file);
    for (int64_t i = 0; i < n; i++) es_free(&ids[i]);
    es_free(&ids);
    es_free(&names);
    return rc;
}

int es_scores_load(struct es_scores **out, const char *path, struct es_err *err) {
    struct stat st;
    *out = NULL;
    if (stat(path, &st) != 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    int rc = S_ISDIR(st.st_mode) ? load_folder(out, path, err) : load_h5(out, path, err);
    if (rc < 0) es_scores_free(out);
    return rc;
}
