/* Shared by src/data/prepare*.c only. */
#ifndef EARSHOT_PREPARE_IMPL_H
#define EARSHOT_PREPARE_IMPL_H

#include "earshot/labels.h"
#include "earshot/prepare.h"
#include "earshot/tsv.h"

enum { PREP_STEMS = 4 };

struct prep_file { /* an audio file to be found under one of a few names */
    const char *dir, *sub, *stem[PREP_STEMS];
    const char *table; /* who asks for it, for messages */
    int64_t line;
    bool skip_missing;
    int64_t hdf_row;                           /* >= 0: row of dir, an .hdf of mp3s */
    const struct es_prepare_source *annotated; /* windows of this recording are made from annotations */
    /* after probing */
    int found; /* candidate, -1: missing */
    int rate_hz;
    int64_t n_samples;
    uint64_t stamp; /* of size and time of change */
};

struct prep_clip {
    const char *name, *recording;
    int64_t file;
    int64_t start_cs, end_cs; /* window of the recording in 1/100 s; end_cs < 0: the whole file */
    double duration_s;        /* of the durations table, < 0: none */
    uint8_t subset, split;
    uint8_t drop; /* 1 + subset that holds it too; 0: stays */
};

struct prep_event {
    int64_t clip;
    struct es_event e;
};

struct prep_mark { /* weak label */
    int64_t clip;
    int label;
};

struct prep {
    const struct es_comm *comm;
    const struct es_prepare_params *p;
    struct es_names *text;    /* owner of all names */
    struct es_names *classes; /* label = index */
    struct es_names *mids;    /* AudioSet; mid_label[i]: label, -1: dropped */
    int *mid_label;
    struct es_names *file_key; /* folder and name of each file */
    int64_t n_clips, cap_clips, n_events, cap_events, n_marks, cap_marks, n_files, cap_files;
    struct prep_clip *clip;
    struct prep_event *event;
    struct prep_mark *mark;
    struct prep_file *file;
};

/* prepare_tables.c: classes, and the clips, events and files of every source. */
int prep_read_tables(struct prep *x, struct es_err *err);
bool prep_is_test(enum es_subset s);
bool prep_is_maestro(enum es_subset s);
bool prep_is_audioset(enum es_subset s);
int64_t prep_add_clip(struct prep *x, const struct prep_clip *c, struct es_err *err);
int prep_add_event(struct prep *x, int64_t clip, const struct es_event *e, struct es_err *err);
int prep_class(const struct prep *x, const struct es_tsv *t, int64_t row, int column, int32_t *label,
               struct es_err *err);
const char *prep_own(struct prep *x, const char *text,
                     struct es_err *err); /* a copy that lives as long as x */

/* prepare_maestro.c: after probing, the windows and events of annotated recordings; splits by recording. */
int prep_read_annotations(struct prep *x, struct es_err *err);
int prep_split_recordings(struct prep *x, struct es_err *err);
bool prep_window_name(const char *stem, int64_t *start_cs, int64_t *end_cs);

/* prepare_audio.c: the candidates of a file, probing, windows, decoding. */
bool prep_candidate(const struct prep_file *f, int i, char *path, int bytes); /* false: no more */
int prep_probe_all(struct prep *x, struct es_err *err);
int prep_window(const struct prep *x, const struct prep_clip *c, int64_t *first, int64_t *n,
                struct es_err *err);
int prep_write_all(struct prep *x, struct es_store_writer *w, const int64_t *row, struct es_err *err);

#endif
