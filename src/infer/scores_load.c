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
                     bool timestamps_each, struct es_err *err) {
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
    if (timestamps_each)
        es_text_add(&name, "timestamps/%s", clip->id);
    else
        es_text_add(&name, "timestamps");
    ES_GO(es_text_check(&name, err));
    ES_GO(es_h5_read_new(f, name.s, ES_H5_F64, &edges, &info, err));
    clip->edges_s = edges;
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
    const bool timestamps_each = es_h5_has(f, first.s);
    for (int64_t i = 0; i < clips.n; i++) ES_GO(read_clip(f, *out, &(*out)->clips[i], timestamps_each, err));
done:
    es_text_free(&first);
    es_h5_names_free(&clips);
    es_h5_names_free(&classes);
    es_h5_close(&f);
    return rc;
}

/* ---- TSV */
enum { MAX_COLUMNS = 4096 };

/* Names of the columns of a TSV file: line is cut up, columns point into it. Returns their number. */
static int read_header(const char *path, char **line, const char **columns, struct es_err *err) {
    *line = NULL;
    FILE *f = fopen(path, "r");
    if (!f) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    struct es_text text = {0};
    for (int c; (c = fgetc(f)) != EOF && c != '\n';)
        if (c != '\r') es_text_add_bytes(&text, &(char){(char)c}, 1);
    fclose(f);
    es_text_add_bytes(&text, "", 0); /* not NULL */
    *line = text.s;
    ES_TRY(es_text_check(&text, err));
    int n = 0;
    for (char *p = *line, *tab; p; p = tab ? tab + 1 : NULL) {
        tab = strchr(p, '\t');
        if (tab) *tab = 0;
        if (n == MAX_COLUMNS)
            return es_err_set(err, ES_EDATA, "%s: got more than %d columns", path, MAX_COLUMNS);
        columns[n++] = p;
    }
    if (n < 3 || strcmp(columns[0], "onset") != 0 || strcmp(columns[1], "offset") != 0)
        return es_err_set(err, ES_EDATA,
                          "%s:1: got %d columns, the first '%s'; want onset, offset and the classes", path, n,
                          columns[0]);
    return n;
}

static int score_of(const struct es_tsv *t, int64_t row, int column, double *v, struct es_err *err) {
    if (strcmp(es_tsv_text(t, row, column), "-inf") != 0) return es_tsv_number(t, row, column, v, err);
    *v = -HUGE_VAL;
    return 0;
}

static int read_table(struct es_scores *s, struct es_scores_clip *clip, const char *path,
                      const char *const *columns, struct es_err *err) {
    int rc = 0;
    const int K = s->n_classes;
    struct es_tsv *t = NULL;
    ES_GO(es_tsv_open(&t, path, columns, K + 2, 0, err));
    const int n = clip->n_frames = es_int_from_i64(es_tsv_rows(t));
    if (n < 1) {
        rc = es_err_set(err, ES_EDATA, "%s: got no frame", path);
        goto done;
    }
    double *edges = es_alloc((size_t)n + 1, sizeof *edges, err),
           *values = es_alloc((size_t)n * (size_t)K, sizeof *values, err);
    clip->edges_s = edges;
    clip->values = values;
    rc = edges && values ? 0 : -ES_EIO;
    if (rc < 0) goto done;
    for (int i = 0; i < n; i++) {
        double onset_s;
        ES_GO(es_tsv_number(t, i, 0, &onset_s, err));
        ES_GO(es_tsv_number(t, i, 1, &edges[i + 1], err));
        if (i > 0 && onset_s != edges[i]) {
            rc = es_tsv_wrong(t, i, 0, "the offset of the row before", err);
            goto done;
        }
        edges[i] = onset_s;
        for (int k = 0; k < K; k++) ES_GO(score_of(t, i, k + 2, &values[(int64_t)i * K + k], err));
    }
done:
    es_tsv_close(&t);
    return rc;
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
    char **ids = NULL, *line = NULL, *first_line = NULL;
    int64_t n = 0;
    struct es_text file = {0};
    const char **columns = es_alloc(2 * MAX_COLUMNS, sizeof *columns, err), **first = columns + MAX_COLUMNS;
    if (!columns) return -ES_EIO;
    ES_GO(list_folder(path, &ids, &n, err));
    for (int64_t i = 0; i < n; i++) {
        file.n = 0;
        es_text_add(&file, "%s/%s.tsv", path, ids[i]);
        ES_GO(es_text_check(&file, err));
        es_free(&line);
        rc = read_header(file.s, i == 0 ? &first_line : &line, i == 0 ? first : columns, err);
        if (rc < 0) goto done;
        if (i == 0) {
            ES_GO(es_scores_new(out, n, (const char *const *)ids, rc - 2, first + 2, true, path, err));
            (*out)->own_clips = true;
        } else {
            bool same = rc == (*out)->n_classes + 2;
            for (int k = 2; same && k < rc; k++) same = strcmp(columns[k], first[k]) == 0;
            if (!same) {
                rc =
                    es_err_set(err, ES_EDATA,
                               "%s:1: got other classes than %s/%s.tsv; want the same ones in the same order",
                               file.s, path, ids[0]);
                goto done;
            }
        }
        ES_GO(read_table(*out, &(*out)->clips[i], file.s, first, err));
    }
done:
    es_text_free(&file);
    es_free(&line);
    es_free(&first_line);
    for (int64_t i = 0; i < n; i++) es_free(&ids[i]);
    es_free(&ids);
    es_free(&columns);
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
