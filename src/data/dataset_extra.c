/* What a dataset needs besides clips: lists of files, weights of balanced drawing. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "earshot/mem.h"

#include "dataset_impl.h"

/* ---- files */

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool has_extension(const char *name, const char *const *extensions) {
    const char *dot = strrchr(name, '.');
    for (int i = 0; dot && extensions[i]; i++)
        if (strcasecmp(dot, extensions[i]) == 0) return true;
    return false;
}

static int walk(struct es_names *found, const char *folder, const char *const *extensions, int depth,
                struct es_err *err) {
    DIR *dir = opendir(folder);
    if (!dir) return es_err_set(err, ES_EIO, "%s: cannot open: %s", folder, strerror(errno));
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(dir));) {
        char path[PATH_MAX];
        struct stat st;
        if (e->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path ||
            stat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth > 0) rc = walk(found, path, extensions, depth - 1, err);
        if (S_ISREG(st.st_mode) && has_extension(e->d_name, extensions))
            rc = es_names_add(found, path, err) < 0 ? -ES_EIO : 0;
    }
    closedir(dir);
    return rc;
}

int dataset_files(struct es_names *list, const char *path, const char *const *extensions, int depth,
                  struct es_err *err) {
    struct stat st;
    struct es_names *found = NULL;
    const char **name = NULL;
    int rc = 0;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) /* whoever opens it finds out */
        return es_names_add(list, path, err) < 0 ? -ES_EIO : 0;
    ES_GO(es_names_new(&found, err));
    ES_GO(walk(found, path, extensions, depth, err));
    const int64_t n = es_names_count(found);
    if (n == 0) goto done;
    name = es_alloc((size_t)n, sizeof *name, err);
    if (!name) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < n; i++) name[i] = es_names_get(found, i);
    qsort(name, (size_t)n, sizeof *name, compare_text);
    for (int64_t i = 0; i < n; i++)
        if (es_names_add(list, name[i], err) < 0) ES_GO(-ES_EIO);
done:
    es_free(&name);
    es_names_free(&found);
    return rc;
}

/* ---- balance */

/* Active frames of each class among a clip's events: out[i] of class e[i].label at the first event of that class, else 0. */
static int active_frames(const struct es_dataset *d, const struct es_event *e, int n, double *out,
                         struct es_err *err) {
    float y[1024];
    struct es_event *same = es_alloc((size_t)n + 1, sizeof *same, err);
    if (!same) return -ES_EIO;
    ES_ASSERT(d->grid.n_frames <= 1024);
    for (int i = 0; i < n; i++) {
        int m = 0;
        bool first = true;
        for (int k = 0; k < n; k++) {
            if (e[k].label != e[i].label) continue;
            if (k < i) first = false;
            same[m] = e[k];
            same[m++].label = 0;
        }
        out[i] = 0;
        if (!first) continue;
        m = es_labels_process(same, m, 0, d->grid.clip_s, same);
        es_labels_encode(same, m, &d->grid, 1, y, 1, 1);
        for (int t = 0; t < d->grid.n_frames; t++) out[i] += (double)y[t];
    }
    es_free(&same);
    return 0;
}

int es_dataset_balance(struct es_dataset *d, const double **weight, struct es_err *err) {
    ES_ASSERT(d->p.pretrain && !d->weight); /* once */
    int64_t n = d->count[0];
    double *total = es_alloc((size_t)d->n_classes, sizeof *total, err);
    int rc = total ? 0 : -ES_EIO, most = 1;
    for (int64_t i = 0; i < n; i++) {
        int m;
        es_store_events(d->store[d->clip[0][i].store], d->clip[0][i].id, &m);
        if (m > most) most = m;
    }
    double *frames = rc == 0 ? es_alloc((size_t)most, sizeof *frames, err) : NULL;
    if (frames) d->weight = es_alloc((size_t)n, sizeof *d->weight, err);
    if (!frames || !d->weight) rc = -ES_EIO;
    for (int pass = 0; pass < 2; pass++) /* totals, then weights */
        for (int64_t i = 0; rc == 0 && i < n; i++) {
            int m;
            const struct clip *c = &d->clip[0][i];
            const struct es_event *e = es_store_events(d->store[c->store], c->id, &m);
            rc = active_frames(d, e, m, frames, err);
            for (int k = 0; rc == 0 && k < m; k++) {
                if (pass == 0)
                    total[e[k].label] += frames[k];
                else
                    d->weight[i] += frames[k] * 1000.0 / (30.0 + total[e[k].label]);
            }
        }
    *weight = d->weight;
    es_free(&frames);
    es_free(&total);
    return rc;
}

/* ---- overlaps */

static int add_scored(struct es_overlap_finder *f, int source, const struct es_store *s, struct es_err *err) {
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < es_store_n_clips(s); i++)
        if (!es_overlap_trains(es_store_subset(s, i), es_store_split(s, i)))
            rc = es_overlap_add(f, source, s, i, err);
    return rc;
}

int es_dataset_overlaps(const struct es_dataset *d, struct es_store *const *more, int n_more,
                        struct es_overlaps *out, struct es_err *err) {
    struct es_overlap_finder *f = NULL;
    int rc = es_overlap_new(&f, err);
    for (int s = 0; rc == 0 && s < d->n_stores; s++) {
        for (int set = 0; set < ES_N_SETS; set++)
            for (int64_t i = 0; rc == 0 && i < d->count[set]; i++)
                if (d->clip[set][i].store == s)
                    rc = es_overlap_add(f, s, d->store[s], d->clip[set][i].id, err);
        if (rc == 0) rc = add_scored(f, s, d->store[s], err);
    }
    for (int m = 0; rc == 0 && m < n_more; m++)
        if (!es_overlap_seen(d->store, d->n_stores, more[m]) && !es_overlap_seen(more, m, more[m]))
            rc = add_scored(f, d->n_stores + m, more[m], err);
    if (rc == 0) es_overlap_count(f, out);
    es_overlap_free(&f);
    return rc;
}
