/* A store of the 27 classes from rows of clips. Include io_help.h first. */
#ifndef EARSHOT_TESTS_ROW_STORE_H
#define EARSHOT_TESTS_ROW_STORE_H

#include "earshot/labels.h"
#include "earshot/mem.h"

enum { ROW_MAX = 32 };

struct row {
    const char *name;
    enum es_subset subset;
    int split;
    int64_t samples;
    struct es_event event[2];
    int n_events;
    uint32_t weak; /* bit k: class k */
};

/* sample(i, s): sample s of clip i. The recording of a MAESTRO clip is its name up to the first '-'. */
static inline void write_rows(const struct es_comm *comm, const char *path, const struct row *rows, int n,
                              int16_t (*sample)(int64_t, int64_t)) {
    const char *class_name[ES_N_CLASSES], *name[ROW_MAX], *recording[ROW_MAX];
    char text[ROW_MAX][64] = {{0}};
    uint8_t subset[ROW_MAX], split[ROW_MAX], weak[ROW_MAX * ES_N_CLASSES] = {0};
    int64_t reserved[ROW_MAX], index[ROW_MAX + 1] = {0}, n_events = 0;
    double duration_s[ROW_MAX];
    struct es_event event[2 * ROW_MAX];
    struct es_store_writer *w = NULL;
    struct es_err err = {0};
    assert_true(n <= ROW_MAX);
    for (int k = 0; k < ES_N_CLASSES; k++) class_name[k] = es_classes[k].name;
    for (int i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        if (r->subset == ES_SUBSET_MAESTRO)
            snprintf(text[i], sizeof text[i], "%.*s", (int)strcspn(r->name, "-"), r->name);
        name[i] = r->name;
        recording[i] = text[i];
        subset[i] = (uint8_t)r->subset;
        split[i] = (uint8_t)r->split;
        reserved[i] = r->samples;
        duration_s[i] = (double)r->samples / 16000;
        for (int k = 0; k < ES_N_CLASSES; k++) weak[i * ES_N_CLASSES + k] = r->weak >> k & 1;
        for (int e = 0; e < r->n_events; e++) event[n_events++] = r->event[e];
        index[i + 1] = n_events;
    }
    struct es_store_desc desc = {n,        ES_N_CLASSES, class_name, name,  recording, subset, split,
                                 reserved, duration_s,   index,      event, weak,      0};
    assert_int_equal(es_store_create_all(&w, comm, path, &desc, &err), 0);
    for (int64_t i = 0; i < n; i++) {
        int16_t *pcm = es_alloc((size_t)rows[i].samples, sizeof *pcm, NULL);
        assert_non_null(pcm);
        for (int64_t s = 0; s < rows[i].samples; s++) pcm[s] = sample(i, s);
        assert_int_equal(es_store_write_pcm(w, i, pcm, rows[i].samples, &err), 0);
        es_free(&pcm);
    }
    assert_int_equal(es_store_commit_all(&w, 0, NULL, &err), 0);
}

#endif
