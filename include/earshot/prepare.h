/* Corpora to one store: audio of any format and rate plus label tables -> 16 kHz, 16 bit, one HDF5 file (store.h).
 *
 * Layouts are those of the public corpora (spec/training.md 1.1, 1.2, 1.8, 1.11); which tables belong to which subset:
 *   WEAK                      filename event_labels (comma-separated)
 *   UNLABELED                 no table: every audio file of the folder, in name order
 *   MAESTRO, MAESTRO_TEST     filename onset offset event_label confidence of 10-s windows <recording>-<start>-<end>; the windows are
 *                             files of the folder or are cut from the recordings there; or: a folder of annotations
 *                             (onset offset label soft_label, no header, one file a recording) and the windows are made here
 *   AS_TRAIN, AS_EVAL         segment_id start_time_seconds end_time_seconds label (machine id); audio: folders, or PaSST's .hdf
 *                             of mp3s; clips in two places (balanced, unbalanced) stand in the order of the places
 *   the others                filename onset offset event_label
 * Training sets leave out clips without events, as the public code does; test sets keep them. Channels are averaged; of
 * AudioSet's the first is taken. libsoxr HQ resamples, torchaudio's Kaiser sinc AudioSet.
 *
 * All ranks read the tables, share the audio files in blocks, decode and resample with all their threads and write. The store does
 * not depend on the number of ranks or threads. Killed or stopped (SIGTERM: ES_STOPPED), the part file of the store stays and the
 * same call goes on with it, unless a table or an audio file has changed since.
 *
 * What is wrong with a row, a clip or an audio file (a malformed row, an unknown class, a missing, damaged or wrong file, a clip
 * twice) is a problem: a line that names file and row. strict: the first one ends the job with ES_EDATA, the same on all ranks.
 * Otherwise problems are collected, the clips they concern are left out and counted, each with its reason; ES_EDATA comes when
 * a set is left empty or has lost more than 1 - min_share of its clips. A table that cannot be read at all is an error in any case.
 * After an error nothing is left behind. A file that turns out to be damaged only while it is decoded makes the store be written
 * anew, without it.
 */
#ifndef EARSHOT_PREPARE_H
#define EARSHOT_PREPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/store.h"
#include "earshot/tsv.h"

enum { ES_PREPARE_MAX_SOURCES = 16 };

struct es_prepare_source {
    const char *name; /* for people; NULL: the subset's */
    enum es_subset subset;
    /* folder (MAESTRO recordings also one folder below, by scene); AudioSet: or PaSST's .hdf of mp3s */
    const char *audio;
    const char *more_audio; /* AudioSet: a second place, searched after the first; NULL or empty: none */
    const char *labels;     /* table, or folder of annotations; NULL or empty for UNLABELED */
    const char *durations;  /* filename duration; NULL or empty: from the audio */
    const char *recordings; /* MAESTRO with annotations: a list, below a header line; NULL or empty: all */
    const char *exclude; /* table with a column filename: training clips to leave out; NULL or empty: none */
    int split;           /* as in the store: 0 training, 1 validation; test subsets are always 1 */
    int rate_hz, n_channels; /* what every file must have; 0: any */
    bool skip_missing;       /* that clips have no audio is expected: left out and counted, but no problem */
};

/* AudioSet: which display names are classes. */
enum es_prepare_classes {
    ES_PREPARE_CLASSES_ALL,    /* every one of mids */
    ES_PREPARE_CLASSES_TRAIN,  /* those in class_table[0] (447 of the official tables) */
    ES_PREPARE_CLASSES_EVAL,   /* those in class_table[1] (416) */
    ES_PREPARE_CLASSES_COMMON, /* those in both (407) */
};

struct es_prepare_params {
    const char *out;
    const struct es_prepare_source *source;
    int n_sources;
    /* AudioSet: mid <tab> display name, no header; the classes, sorted by name. NULL: the 27 classes */
    const char *mids;
    /* AudioSet: list of display names, one a line; events of other classes are dropped. NULL: all */
    const char *classes;
    enum es_prepare_classes class_set;
    const char *class_table[2]; /* AudioSet: label tables of training and evaluation, for class_set */
    /* of WEAK and MAESTRO with split 0 that stays training; 1: no split */
    double weak_fraction, maestro_fraction;
    uint32_t split_seed;
    /* leave out training clips that are in a test set, weak and unlabelled ones also if strong: by file name or
     * YouTube id, MAESTRO by recording. strict: such clips must be in `exclude` */
    bool overlap_exclude;
    bool strict;          /* the first problem is an error */
    double min_share;     /* of a set's clips that must have sound audio */
    const char *left_out; /* table to write: clips that are not in the store, and why; NULL: none */
    /* folder that exists: <set>_exclude.tsv of what overlap_exclude left out; NULL: none */
    const char *exclude_out;
    bool float32_times; /* QUIRK: AudioSet times pass through float32, as in PretrainedSED's data set */
    int threads;        /* that decode, of each rank */
    /* longer recordings are resampled and convolved by all ranks together (fftmpi.h) */
    int64_t max_local_samples;
    const char *response; /* impulse response that all audio goes through, or a folder; NULL or empty: none */
};
/* 0.9, 0.9, 42, true, not strict, 0.5, true, 1 thread. */
void es_prepare_params_default(struct es_prepare_params *p);

/* Why a clip of the tables is not in the store. */
enum es_prepare_why {
    ES_PREPARE_STAYS,
    ES_PREPARE_NO_AUDIO,
    ES_PREPARE_BAD_AUDIO, /* cannot be decoded, or another rate or number of channels than wanted */
    ES_PREPARE_BAD_ROW,   /* a row of its table makes no sense */
    ES_PREPARE_EMPTY,     /* a training clip without events */
    ES_PREPARE_LISTED,    /* in an exclusion list */
    ES_PREPARE_OVERLAP,   /* in a set with which it must not share clips */
    ES_PREPARE_N_WHY
};
const char *es_prepare_why_name(enum es_prepare_why why); /* "no_audio", ... */

struct es_prepare_set {
    const char *name; /* of the source; borrowed */
    int64_t clips;    /* of its table or folder */
    int64_t out[ES_PREPARE_N_WHY];
    int64_t training, validation, events;
    int64_t events_dropped; /* AudioSet: of classes that are not in the list */
    double hours;
};

/* Two sets, and how many file names (MAESTRO: recordings) and YouTube ids are in both. */
struct es_prepare_overlap {
    int a, b;
    int64_t names, ids;
};

struct es_prepare_report { /* the same on all ranks */
    int n_sets, n_overlaps;
    struct es_prepare_set set[ES_PREPARE_MAX_SOURCES];
    struct es_prepare_overlap overlap[ES_PREPARE_MAX_SOURCES * ES_PREPARE_MAX_SOURCES / 2];
    struct es_names *problem;
    int64_t files, peak_rss_bytes; /* files: decoded by this call; peak: of the largest rank */
    double seconds;                /* of decoding */
};
void es_prepare_report_free(struct es_prepare_report *r);

/* Collective. p: same on all ranks. digest may be NULL; so may report, which is filled as far as the call came, to be freed. */
int es_prepare_all(const struct es_comm *comm, const struct es_prepare_params *p,
                   struct es_prepare_report *report, uint64_t *digest, struct es_err *err);

/* Reads and checks the tables only (--check). Collective. report and n_clips may be NULL; windows made from annotations do
 * not count. */
int es_prepare_check_all(const struct es_comm *comm, const struct es_prepare_params *p,
                         struct es_prepare_report *report, int64_t *n_clips, struct es_err *err);

#endif
