/* MAESTRO Real: 10-s windows with a hop of 1 s from long recordings, and the split by recording (training.md 1.7, 1.8). */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "earshot/mem.h"

#include "prepare_impl.h"

enum { WINDOW_S = 10, CS = 100 };

/* <recording>-<6 digits>-<6 digits>: 1/100 s. */
bool prep_window_name(const char *stem, int64_t *start_cs, int64_t *end_cs) {
    const char *dash = strchr(stem, '-');
    if (!dash || strlen(dash) != 14 || dash[7] != '-' || strspn(dash + 1, "0123456789") != 6 ||
        strspn(dash + 8, "0123456789") != 6)
        return false;
    *start_cs = strtol(dash + 1, NULL, 10);
    *end_cs = strtol(dash + 8, NULL, 10);
    return *end_cs > *start_cs;
}

/* <labels>/soft_labels_<scene>/<recording>.txt, or without the folder of the scene. */
static int annotation_path(const struct prep_file *f, const char *labels, char path[PATH_MAX],
                           struct es_err *err) {
    snprintf(path, PATH_MAX, "%s/soft_labels_%s/%s.txt", labels, f->sub, f->stem[0]);
    if (access(path, F_OK) == 0) return 0;
    snprintf(path, PATH_MAX, "%s/%s.txt", labels, f->stem[0]);
    if (access(path, F_OK) == 0) return 0;
    return es_err_set(err, ES_EDATA, "%s: recording %s: no file of annotations, want soft_labels_%s/%s.txt",
                      labels, f->stem[0], f->sub, f->stem[0]);
}

struct row {
    double onset_s, offset_s;
    int32_t label;
    float confidence;
};

static int read_row(const struct prep *x, const struct es_tsv *t, int64_t i, struct row *r,
                    struct es_err *err) {
    double confidence;
    ES_TRY(es_tsv_row_check(t, i, err));
    ES_TRY(es_tsv_times(t, i, 0, 1, &r->onset_s, &r->offset_s, err));
    ES_TRY(prep_class(x, t, i, 2, &r->label, err));
    ES_TRY(es_tsv_number(t, i, 3, &confidence, err));
    if (confidence < 0 || confidence > 1) return es_tsv_wrong(t, i, 3, "a number in 0..1", err);
    r->confidence = (float)confidence;
    return 0;
}

/* *n < 0: a row makes no sense. */
static int read_rows(struct prep *x, const char *path, struct row **row, int64_t *n, struct es_err *err) {
    static const char *const columns[] = {"onset", "offset", "event label", "soft label"};
    struct es_tsv *t = NULL;
    int rc;
    *row = NULL;
    ES_GO(es_tsv_open(&t, path, columns, 4, ES_TSV_NO_HEADER | ES_TSV_KEEP_ROWS, err));
    *n = es_tsv_rows(t);
    *row = es_alloc((size_t)*n, sizeof **row, err);
    if (!*row) ES_GO(-ES_EIO);
    bool wrong = false;
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        ES_GO(prep_problem(x, read_row(x, t, i, &(*row)[i], err), err));
        wrong |= rc > 0;
    }
    if (wrong) *n = -1;
    rc = 0;
done:
    es_tsv_close(&t);
    if (rc < 0) es_free(row);
    return rc;
}

/* One window: the clip and every row that overlaps it, cut to it. n < 0: its annotations make no sense. */
static int add_window(struct prep *x, int64_t file, int64_t start_s, bool last, const struct row *row,
                      int64_t n, struct es_err *err) {
    const struct prep_file *f = &x->file[file];
    double end_s = last ? (double)f->n_samples / f->rate_hz : (double)(start_s + WINDOW_S),
           from_s = (double)start_s;
    const struct es_prepare_source *source = &x->p->source[f->source];
    struct prep_clip c = {.recording = f->stem[0],
                          .file = file,
                          .start_cs = CS * start_s,
                          .duration_s = -1,
                          .source = (uint8_t)f->source,
                          .out = n < 0 ? ES_PREPARE_BAD_ROW : ES_PREPARE_STAYS};
    char name[PATH_MAX];
    c.end_cs = last ? f->n_samples * CS / f->rate_hz : CS * (start_s + WINDOW_S);
    c.subset = (uint8_t)source->subset;
    c.split = prep_is_test(source->subset) ? 1 : (uint8_t)source->split;
    snprintf(name, sizeof name, "%s-%06lld-%06lld", f->stem[0], (long long)c.start_cs, (long long)c.end_cs);
    if (!(c.name = prep_own(x, name, err))) return -ES_EIO;
    int64_t clip = prep_add_clip(x, &c, err);
    if (clip < 0) return (int)clip;
    for (int64_t i = 0; i < n; i++) {
        if (row[i].onset_s >= end_s || row[i].offset_s <= from_s) continue;
        struct es_event e = {fmax(row[i].onset_s - from_s, 0.0), fmin(row[i].offset_s, end_s) - from_s,
                             row[i].label, row[i].confidence};
        ES_TRY(prep_add_event(x, clip, &e, err));
    }
    return 0;
}

static int add_windows(struct prep *x, int64_t file, struct es_err *err) {
    char path[PATH_MAX];
    struct row *row = NULL;
    int64_t n_rows = 0, n = x->file[file].n_samples, rate = x->file[file].rate_hz;
    int rc;
    ES_GO(prep_problem(
        x, annotation_path(&x->file[file], x->p->source[x->file[file].source].labels, path, err), err));
    if (rc > 0) n_rows = -1;
    if (rc == 0) ES_GO(read_rows(x, path, &row, &n_rows, err));
    int64_t full = n >= WINDOW_S * rate ? (n - (WINDOW_S - 1) * rate) / rate : 0;
    for (int64_t w = 0; w < full; w++) ES_GO(add_window(x, file, w, false, row, n_rows, err));
    rc = 0;
    if (full * rate < n) ES_GO(add_window(x, file, full, true, row, n_rows, err));
done:
    es_free(&row);
    return rc;
}

/* A recording without sound audio: how many windows it would have nobody knows; it stands for them. */
static int add_lost(struct prep *x, int64_t file, struct es_err *err) {
    const struct prep_file *f = &x->file[file];
    struct prep_clip c = {.name = f->stem[0],
                          .recording = f->stem[0],
                          .file = file,
                          .end_cs = -1,
                          .source = (uint8_t)f->source,
                          .subset = (uint8_t)x->p->source[f->source].subset};
    return prep_add_clip(x, &c, err) < 0 ? -ES_EIO : 0;
}

int prep_read_annotations(struct prep *x, struct es_err *err) {
    for (int64_t f = 0; f < x->n_files; f++)
        if (x->file[f].annotated)
            ES_TRY(x->file[f].found >= 0 ? add_windows(x, f, err) : add_lost(x, f, err));
    return 0;
}

static bool in_split(const struct prep_clip *c) {
    return c->subset == ES_SUBSET_MAESTRO && c->split == 0;
}

int prep_split_recordings(struct prep *x, struct es_err *err) {
    struct es_names *names = NULL;
    const char **recording = NULL;
    int64_t *perm = NULL;
    uint8_t *split = NULL;
    int rc;
    ES_GO(es_names_new(&names, err));
    for (int64_t i = 0; i < x->n_clips; i++)
        if (in_split(&x->clip[i]) && es_names_add(names, x->clip[i].recording, err) < 0) ES_GO(-ES_EIO);
    int64_t n = es_names_count(names);
    recording = es_alloc((size_t)n, sizeof *recording, err);
    perm = es_alloc((size_t)n, sizeof *perm, err);
    split = es_alloc((size_t)n, sizeof *split, err);
    if (!recording || !perm || !split) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < n; i++) recording[i] = es_names_get(names, i);
    es_split_recordings(n, recording, x->p->maestro_fraction, x->p->split_seed, perm, split);
    for (int64_t i = 0; i < x->n_clips; i++)
        if (in_split(&x->clip[i])) x->clip[i].split = split[es_names_find(names, x->clip[i].recording)];
done:
    es_free(&split);
    es_free(&perm);
    es_free(&recording);
    es_names_free(&names);
    return rc;
}
