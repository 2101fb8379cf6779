/* The classes of a store: the 27 of DCASE 2024 task 4, or those of AudioSet's tables (spec/training.md 1.11). */
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"

#include "prepare_impl.h"

enum { IN_TRAIN = 1, IN_EVAL = 2 };
static const uint8_t table_bit[2] = {IN_TRAIN, IN_EVAL};
static const uint8_t needs[] = {0, IN_TRAIN, IN_EVAL, IN_TRAIN | IN_EVAL}; /* by enum es_prepare_classes */

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Display names of the events of a table get its bit. Machine ids that are unknown are a problem of whoever reads the clips. */
static int mark_used(const char *path, const struct es_tsv *mids, const struct prep *x,
                     const struct es_names *display, uint8_t *used, uint8_t bit, struct es_err *err) {
    static const char *const columns[] = {"label"};
    struct es_tsv *t = NULL;
    ES_TRY(es_tsv_open(&t, path, columns, 1, ES_TSV_KEEP_ROWS, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        int64_t mid = es_names_find(x->mids, es_tsv_text(t, i, 0));
        if (mid >= 0) used[es_names_find(display, es_tsv_text(mids, mid, 1))] |= bit;
    }
    es_tsv_close(&t);
    return 0;
}

/* Names of a file, each of which must be a display name. */
static int read_list(const char *path, const struct es_names *display, struct es_names *wanted,
                     struct es_err *err) {
    static const char *const columns[] = {"class"};
    struct es_tsv *t = NULL;
    int rc;
    ES_GO(es_tsv_open(&t, path, columns, 1, ES_TSV_NO_HEADER, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        if (es_names_find(display, es_tsv_text(t, i, 0)) < 0)
            ES_GO(es_tsv_wrong(t, i, 0, "a display name of the table of machine ids", err));
        if (es_names_add(wanted, es_tsv_text(t, i, 0), err) < 0) ES_GO(-ES_EIO);
    }
done:
    es_tsv_close(&t);
    return rc;
}

/* Display names of the table of machine ids, restricted to the list and the set that are asked for, sorted by code point. */
static int audioset_classes(struct prep *x, struct es_err *err) {
    static const char *const columns[] = {"mid", "display name"};
    const struct es_prepare_params *p = x->p;
    struct es_tsv *mids = NULL;
    struct es_names *wanted = NULL, *display = NULL;
    const char **name = NULL;
    uint8_t *used = NULL;
    bool listed = p->classes && p->classes[0];
    int64_t n = 0;
    int rc;
    ES_GO(es_tsv_open(&mids, p->mids, columns, 2, ES_TSV_NO_HEADER, err));
    ES_GO(es_names_new(&wanted, err));
    ES_GO(es_names_new(&display, err));
    for (int64_t i = 0; i < es_tsv_rows(mids); i++) {
        if (es_names_find(x->mids, es_tsv_text(mids, i, 0)) >= 0)
            ES_GO(es_tsv_wrong(mids, i, 0, "every machine id once", err));
        if (es_names_add(x->mids, es_tsv_text(mids, i, 0), err) < 0 ||
            es_names_add(display, es_tsv_text(mids, i, 1), err) < 0)
            ES_GO(-ES_EIO);
    }
    int64_t n_display = es_names_count(display);
    name = es_alloc((size_t)n_display, sizeof *name, err);
    used = es_alloc((size_t)n_display, 1, err);
    x->mid_label = es_alloc((size_t)es_tsv_rows(mids), sizeof *x->mid_label, err);
    if (!name || !used || !x->mid_label) ES_GO(-ES_EIO);
    if (listed) ES_GO(read_list(p->classes, display, wanted, err));
    for (int k = 0; k < 2; k++)
        if (needs[p->class_set] & table_bit[k])
            ES_GO(mark_used(p->class_table[k], mids, x, display, used, table_bit[k], err));
    for (int64_t i = 0; i < n_display; i++) {
        const char *text = es_names_get(display, i);
        bool in_set = (used[i] & needs[p->class_set]) == needs[p->class_set];
        if (in_set && (!listed || es_names_find(wanted, text) >= 0)) name[n++] = text;
    }
    if (n == 0) ES_GO(es_err_set(err, ES_EDATA, "%s: prepare.class_set leaves no class", p->mids));
    qsort(name, (size_t)n, sizeof *name, compare_text);
    for (int64_t i = 0; i < n; i++)
        if (es_names_add(x->classes, name[i], err) < 0) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < es_tsv_rows(mids); i++)
        x->mid_label[i] = (int)es_names_find(x->classes, es_tsv_text(mids, i, 1));
done:
    es_free(&used);
    es_free(&name);
    es_names_free(&display);
    es_names_free(&wanted);
    es_tsv_close(&mids);
    return rc;
}

int prep_read_classes(struct prep *x, struct es_err *err) {
    if (x->p->mids && x->p->mids[0]) return audioset_classes(x, err);
    for (int k = 0; k < ES_N_CLASSES; k++)
        if (es_names_add(x->classes, es_classes[k].name, err) < 0) return -ES_EIO;
    return 0;
}

int prep_class(const struct prep *x, const struct es_tsv *t, int64_t row, int column, int32_t *label,
               struct es_err *err) {
    *label = (int32_t)es_names_find(x->classes, es_tsv_text(t, row, column));
    return *label >= 0
               ? 0
               : es_tsv_wrong(t, row, column, "one of the 27 classes, spelt as in the class list", err);
}
