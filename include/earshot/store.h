/* The corpus store: one HDF5 file with the audio (16 kHz, mono, 16 bit) and the labels of a corpus. Layout 1:
 *
 *   /audio/pcm       i16 [samples]   all clips one behind the other, contiguous
 *   /audio/offset    i64 [N+1]       first sample reserved for clip i
 *   /clip/name       text [N]        file stem; clip id = row
 *   /clip/subset     u8 [N]          enum es_subset
 *   /clip/split      u8 [N]          0 training, 1 validation
 *   /clip/length     i64 [N]         samples, <= what is reserved
 *   /clip/duration   f64 [N]         seconds of the original
 *   /clip/recording  text [N]        MAESTRO: the recording a window was cut from; else empty
 *   /events/onset, offset   f64 [E]  seconds from the begin of the clip
 *   /events/label    i32 [E]         row of /classes
 *   /events/confidence      f32 [E]
 *   /events/index    i64 [N+1]       events of clip i: index[i] .. index[i+1]-1, in the order of the table; no aliases added
 *   /weak            u8 [N,K]        clip labels of the weak set, 0 elsewhere
 *   /classes         text [K]
 *   attributes: kind "store", inputs (what it was made from), digest (u64: content of all data sets; no time, commit or rank
 *   count in it), sample_rate
 *
 * Writing (es_store_create_all .. es_store_commit_all) is collective; between them each rank writes the samples of its own
 * clips by pwrite. Reading needs no other rank: es_store_open loads all but the samples; es_store_read_pcm is a pread and may
 * run in a loader thread.
 */
#ifndef EARSHOT_STORE_H
#define EARSHOT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"

enum { ES_STORE_VERSION = 1, ES_STORE_RATE_HZ = 16000 };

enum es_subset {
    ES_SUBSET_MAESTRO,
    ES_SUBSET_STRONG_REAL, /* AudioSet clips with strong labels, external ones too; split 1: external eval */
    ES_SUBSET_SYNTH,
    ES_SUBSET_WEAK,
    ES_SUBSET_UNLABELED,
    ES_SUBSET_VALIDATION, /* DESED test set ("devtest") */
    ES_SUBSET_SYNTH_VALIDATION,
    ES_SUBSET_MAESTRO_TEST,
    ES_SUBSET_AS_TRAIN,
    ES_SUBSET_AS_EVAL,
    ES_SUBSET_PUBLIC, /* DESED public evaluation set */
    ES_N_SUBSETS
};
const char *es_subset_name(enum es_subset subset); /* "maestro", "strong_real", ... */
int es_subset_from_name(const char *name);         /* -1: unknown */

struct es_event {
    double onset_s, offset_s;
    int32_t label;
    float confidence;
};

/* What a store will hold; the same on all ranks, borrowed until commit. */
struct es_store_desc {
    int64_t n_clips;
    int n_classes;
    const char *const *class_name; /* [K] */
    const char *const *clip_name;  /* [N] */
    const char *const *recording;  /* [N] */
    const uint8_t *subset, *split; /* [N] */
    const int64_t *reserved;       /* [N] samples at 16 kHz; a clip may turn out shorter, not longer */
    const double *duration_s;      /* [N] */
    const int64_t *event_index;    /* [N+1] */
    const struct es_event *event;
    const uint8_t *weak; /* [N,K] */
    uint64_t inputs;     /* digest of whatever else the samples come from (sizes and times of audio files) */
};

/* The store grows in `path`.part, where /clip/length is -1 until a clip's samples are on disk. Killed or stopped, it stays;
 * es_store_create_all with the same description goes on with it. After an error nothing stays behind. */
struct es_store_writer;
int es_store_create_all(struct es_store_writer **w, const struct es_comm *comm, const char *path,
                        const struct es_store_desc *desc, struct es_err *err);
/* The clip was written by an earlier run, or by this rank. */
bool es_store_done(const struct es_store_writer *w, int64_t clip);
/* Rank-local: all samples of a clip that is not done, by one rank, one thread at a time. n <= reserved. Every few seconds they
 * are made durable and marked. Fault points: write, short, kill-store, stall-store. */
int es_store_write_pcm(struct es_store_writer *w, int64_t clip, const int16_t *pcm, int64_t n,
                       struct es_err *err);
/* rc < 0 with err: this rank failed; all ranks leave together, nothing stays behind. rc > 0 (stopped): the part file stays, rc
 * comes back. Otherwise the digest is computed, the file gets its name. digest may be NULL. */
int es_store_commit_all(struct es_store_writer **w, int rc, uint64_t *digest, struct es_err *err);

struct es_store;
int es_store_open(struct es_store **s, const char *path, struct es_err *err);
/* The same on all ranks, agreed, and with one digest. */
int es_store_open_all(struct es_store **s, const struct es_comm *comm, const char *path, struct es_err *err);
void es_store_close(struct es_store **s);

const char *es_store_path(const struct es_store *s);
uint64_t es_store_digest(const struct es_store *s);
int64_t es_store_n_clips(const struct es_store *s);
int64_t es_store_count(const struct es_store *s, enum es_subset subset, int split); /* split -1: both */
int es_store_n_classes(const struct es_store *s);
const char *const *es_store_classes(const struct es_store *s);
const char *es_store_name(const struct es_store *s, int64_t clip);
const char *es_store_recording(const struct es_store *s, int64_t clip);
enum es_subset es_store_subset(const struct es_store *s, int64_t clip);
int es_store_split(const struct es_store *s, int64_t clip);
int64_t es_store_length(const struct es_store *s, int64_t clip);
double es_store_duration(const struct es_store *s, int64_t clip);
const struct es_event *es_store_events(const struct es_store *s, int64_t clip, int *n);
const uint8_t *es_store_weak(const struct es_store *s, int64_t clip); /* [K] */

/* true: es_store_read_pcm may be called from any thread. false (an unusual layout): only from the thread that uses HDF5. */
bool es_store_is_direct(const struct es_store *s);
/* Samples start .. start+n-1 of a clip; the range must lie inside the clip. Fault point: read. */
int es_store_read_pcm(const struct es_store *s, int64_t clip, int64_t start, int64_t n, int16_t *pcm,
                      struct es_err *err);

#endif
