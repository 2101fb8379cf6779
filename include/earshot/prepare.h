/* Corpora to one store: audio of any format and rate plus label tables -> 16 kHz, 16 bit, one HDF5 file (store.h).
 *
 * Layouts are those of the public corpora (spec/training.md 1.1, 1.2, 1.8, 1.11); which tables belong to which subset:
 *   WEAK                      filename event_labels (comma-separated)
 *   UNLABELED                 no table: every audio file of the folder, in name order
 *   MAESTRO, MAESTRO_TEST     filename onset offset event_label confidence of 10-s windows <recording>-<start>-<end>; the windows are
 *                             files of the folder or are cut from the recordings there; or: a folder of annotations
 *                             (onset offset label soft_label, no header, one file a recording) and the windows are made here
 *   AS_TRAIN, AS_EVAL         segment_id start_time_seconds end_time_seconds label (machine id)
 *   the others                filename onset offset event_label
 * Training sets leave out clips without events, as the public code does; test sets keep them.
 *
 * All ranks read the tables, share the audio files in blocks, decode, resample and write. The store does not depend on the
 * number of ranks. Killed or stopped (SIGTERM: ES_STOPPED), the part file of the store stays and the same call goes on with it,
 * unless a table or an audio file has changed since. Whatever is wrong with the corpus (a missing, cut short or non-audio file, an unknown class, bad times, a bad
 * table) ends in ES_EDATA naming file and row, the same on all ranks, and leaves nothing behind.
 */
#ifndef EARSHOT_PREPARE_H
#define EARSHOT_PREPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/store.h"

struct es_prepare_source {
    enum es_subset subset;
    const char *
        audio; /* folder (MAESTRO recordings also one folder below, by scene); AudioSet: or PaSST's .hdf of mp3s */
    const char *labels;    /* table, or folder of annotations; NULL or empty for UNLABELED */
    const char *durations; /* filename duration; NULL or empty: from the audio */
    const char *
        recordings; /* MAESTRO with annotations: list of recordings, one a line below a header; NULL or empty: all */
    int split;         /* as in the store: 0 training, 1 validation; test subsets are always 1 */
    bool skip_missing; /* leave out clips without audio (counted in the log) instead of an error */
};

struct es_prepare_params {
    const char *out;
    const struct es_prepare_source *source;
    int n_sources;
    const char *
        mids; /* AudioSet: mid <tab> display name, no header; the classes, sorted by name. NULL: the 27 classes */
    const char *
        classes; /* AudioSet: list of display names, one a line; events of other classes are dropped. NULL: all */
    double weak_fraction,
        maestro_fraction; /* of WEAK and MAESTRO with split 0 that stays training; 1: no split */
    uint32_t split_seed;
    bool
        overlap_exclude; /* leave out training clips whose name is in a test set, weak and unlabelled ones also if strong */
    const char *left_out; /* table to write: clips that are not in the store, and why; NULL: none */
    bool float32_times;   /* QUIRK: AudioSet times pass through float32, as in PretrainedSED's data set */
};
void es_prepare_params_default(struct es_prepare_params *p); /* 0.9, 0.9, 42, true, true */

/* Collective. p: same on all ranks. digest may be NULL. */
int es_prepare_all(const struct es_comm *comm, const struct es_prepare_params *p, uint64_t *digest,
                   struct es_err *err);

/* Reads and checks the tables only (--check). Collective. n_clips may be NULL; it does not count windows made from annotations. */
int es_prepare_check_all(const struct es_comm *comm, const struct es_prepare_params *p, int64_t *n_clips,
                         struct es_err *err);

#endif
