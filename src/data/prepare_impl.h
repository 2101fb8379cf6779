/* Shared by src/data/prepare*.c only. */
#ifndef EARSHOT_PREPARE_IMPL_H
#define EARSHOT_PREPARE_IMPL_H

#include "earshot/labels.h"
#include "earshot/prepare.h"
#include "earshot/text.h"

enum { PREP_STEMS = 4, PREP_PLACES = 2 };
enum { PREP_MISSING = -1, PREP_DAMAGED = -2 };
#define PREP_AGAIN 1 /* files turned out to be damaged: once more without them */

struct prep_file { /* an audio file to be found under one of a few names */
    const char *dir[PREP_PLACES], *sub, *stem[PREP_STEMS];
    const char *table; /* who asks for it, for messages */
    int64_t line;
    int source;
    int64_t hdf_row; /* >= 0: row of dir[place], an .hdf of mp3s */
    int place;
    bool annotated; /* windows of this recording are made from annotations */
    /* after probing */
    int found; /* candidate, PREP_MISSING or PREP_DAMAGED */
    int rate_hz;
    int64_t n_samples;
    uint64_t stamp; /* of size and time of change */
};

struct prep_clip {
    const char *name, *recording;
    int64_t file;             /* -1: none */
    int64_t line;             /* of its table, 0: unknown */
    int64_t start_cs, end_cs; /* window of the recording in 1/100 s; end_cs < 0: the whole file */
    int64_t segment_ms;       /* AudioSet: where the clip begins in its video */
    double duration_s;        /* of the durations table, < 0: none */
    uint8_t source, subset, split;
    uint8_t out;   /* enum es_prepare_why */
    uint8_t other; /* ES_PREPARE_OVERLAP: the source that has it too */
};

struct prep_event {
    int64_t clip;
    struct es_event e;
};

struct prep_mark { /* weak label */
    int64_t clip;
    int label;
};

struct prep_responses;

struct prep {
    const struct es_comm *comm;
    const struct es_prepare_params *p;
    struct es_names *text;    /* owner of all names */
    struct es_names *classes; /* label = index */
    struct es_names *mids;    /* AudioSet; mid_label[i]: label, -1: dropped */
    int *mid_label;
    struct es_names *file_key; /* folder and name of each file */
    struct es_names *problem;
    int64_t n_clips, cap_clips, n_events, cap_events, n_marks, cap_marks, n_files, cap_files;
    int64_t events_dropped[ES_PREPARE_MAX_SOURCES];
    int64_t files_done;
    double seconds;
    struct prep_clip *clip;
    struct prep_event *event;
    struct prep_mark *mark;
    struct prep_file *file;
    struct prep_responses *responses; /* NULL: none wanted */
};

const char *prep_name(const struct prep *x, int source);
/* rc < 0 with ES_EDATA, not strict: the message is listed, err cleared, 1 comes back. Otherwise rc, 0 for a positive one. */
int prep_problem(struct prep *x, int rc, struct es_err *err);

/* prepare_classes.c: the classes of the store. */
int prep_read_classes(struct prep *x, struct es_err *err);
int prep_class(const struct prep *x, const struct es_tsv *t, int64_t row, int column, int32_t *label,
               struct es_err *err);

/* prepare_tables.c: the clips, events and files of every source. */
int prep_read_tables(struct prep *x, struct es_err *err);
bool prep_is_test(enum es_subset s);
bool prep_is_maestro(enum es_subset s);
bool prep_is_audioset(enum es_subset s);
int64_t prep_add_clip(struct prep *x, const struct prep_clip *c, struct es_err *err);
int prep_add_event(struct prep *x, int64_t clip, const struct es_event *e, struct es_err *err);
/* A copy that lives as long as x; and the same without the extension of an audio file. */
const char *prep_own(struct prep *x, const char *text, struct es_err *err);
const char *prep_stem(struct prep *x, const char *filename, struct es_err *err);

/* prepare_response.c: after probing. _open: rank-local. */
struct es_hash;
int prep_responses_open(struct prep *x, struct es_err *err);
void prep_responses_close(struct prep *x);
void prep_responses_digest(const struct prep *x, struct es_hash *h);
/* A file's response at 16 kHz, and its time 0. */
const float *prep_response_of(const struct prep *x, const struct prep_file *f, int64_t *n, int64_t *offset);
/* A decoded file [n] through it, at the file's rate; *wave becomes another block. Thread-safe. */
int prep_respond(const struct prep *x, const struct prep_file *f, float **wave, int64_t n,
                 struct es_err *err);

/* prepare_maestro.c: after probing, the windows and events of annotated recordings; splits by recording. */
int prep_read_annotations(struct prep *x, struct es_err *err);
int prep_split_recordings(struct prep *x, struct es_err *err);
bool prep_window_name(const char *stem, int64_t *start_cs, int64_t *end_cs);

/* prepare_overlap.c: exclusion lists; clips in two sets: counted into r, left out if they must not be. */
int prep_exclude(struct prep *x, struct es_prepare_report *r, struct es_err *err);
int prep_write_exclude(const struct prep *x, struct es_err *err);

/* prepare_report.c: counts, the log, the table of clips left out. event_index: by row of the store. */
void prep_count(const struct prep *x, const int64_t *row, const int64_t *event_index,
                const double *duration_s, struct es_prepare_report *r);
void prep_log(const struct prep *x, const struct es_prepare_report *r);
void prep_log_problems(const struct prep *x, int64_t first); /* from this one on */
int prep_write_left_out(const struct prep *x, struct es_err *err);

/* prepare_audio.c: the candidates of a file, probing, windows, decoding. */
bool prep_candidate(const struct prep_file *f, int i, char *path, int bytes); /* false: no more */
int prep_probe_all(struct prep *x, struct es_err *err);
int prep_window(const struct prep *x, const struct prep_clip *c, int64_t *first, int64_t *n,
                struct es_err *err);
int prep_write_all(struct prep *x, struct es_store_writer *w, const int64_t *row, struct es_err *err);

/* prepare_long.c: recordings for all ranks together. The clips of file f: order[first[f]] .. order[first[f+1]-1]. */
bool prep_is_long(const struct prep *x, const struct prep_file *f);
int prep_write_long_all(struct prep *x, struct es_store_writer *w, const int64_t *first, const int64_t *order,
                        const int64_t *row, struct es_err *err);

#endif
