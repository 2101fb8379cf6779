/* Stored predictions and pseudo-labels: frame logits of every clip of a store, in the public layout (spec/training.md 7.1).
 *
 *   filenames      text [N]          stem of the clip's file
 *   strong_logits  f32 [N,T,K]       before the sigmoid; time-major
 *   classes        text [K]          ours
 *   done           u8 [blocks]       ours: block of clips is written; all 1 in a finished file
 *   attributes     model_digest, store_digest, config_digest (u64), which (text), block_clips
 *
 * Writing grows P.h5.part and ends in P.h5. A killed run continues: es_predictions_begin_all finds the part file of the same
 * predictions and es_predictions_done tells what is there. Logits of a block reach the disk before its mark does.
 *
 *     ES_GO(es_predictions_begin_all(&w, comm, "P.h5", &desc, err));
 *     for each round: pick a block that is not done for every rank (or -1)
 *         ES_GO(es_predictions_write_all(w, block, logits, err));
 *     ES_GO(es_predictions_finish_all(&w, err));
 *
 * Reading needs no other rank. The published files load as they are: variable-length names, other data sets ignored; float16
 * files are class-major [N,K,T] (PretrainedSED's AudioSet ensemble) and come back time-major like all others.
 */
#ifndef EARSHOT_PREDICTIONS_H
#define EARSHOT_PREDICTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"

enum { ES_PREDICTIONS_VERSION = 1 };

struct es_predictions_desc { /* the same on all ranks; borrowed during begin only */
    int64_t n_clips;
    int n_frames, n_classes, block_clips;
    const char *const *names;   /* [N] */
    const char *const *classes; /* [K] */
    uint64_t model_digest, store_digest, config_digest;
    const char *which; /* "student", "teacher", "ensemble" */
};

struct es_predictions_writer;
/* Creates or continues path.part. Collective. */
int es_predictions_begin_all(struct es_predictions_writer **w, const struct es_comm *comm, const char *path,
                             const struct es_predictions_desc *desc, struct es_err *err);
int64_t es_predictions_n_blocks(const struct es_predictions_writer *w); /* ceil(n_clips / block_clips) */
int64_t es_predictions_n_done(const struct es_predictions_writer *w);
bool es_predictions_done(const struct es_predictions_writer *w, int64_t block);
/* Each rank its block (per rank, -1: none; no two the same): clips block*block_clips .. of it, logits [clips,T,K]. Collective. */
int es_predictions_write_all(struct es_predictions_writer **w, int64_t block, const float *logits,
                             struct es_err *err);
/* All blocks must be done. */
int es_predictions_finish_all(struct es_predictions_writer **w, struct es_err *err);
/* Stops early; the part file stays for the next run. After an error of write_all w is NULL already. */
void es_predictions_close_all(struct es_predictions_writer **w);

struct es_predictions;
int es_predictions_open(struct es_predictions **p, const char *path, struct es_err *err);
void es_predictions_close(struct es_predictions **p);
int64_t es_predictions_n_clips(const struct es_predictions *p);
int es_predictions_n_frames(const struct es_predictions *p);
int es_predictions_n_classes(const struct es_predictions *p);
const char *es_predictions_name(const struct es_predictions *p, int64_t row);
const char *const *es_predictions_names(const struct es_predictions *p);
const char *const *es_predictions_classes(const struct es_predictions *p); /* NULL: the file does not say */
/* First row of that name; -1: none. */
int64_t es_predictions_find(const struct es_predictions *p, const char *name);
uint64_t es_predictions_store_digest(const struct es_predictions *p); /* 0: the file does not say */
/* Rows row0 .. row0+n-1, [n,T,K] float32. From any thread if es_predictions_is_direct (else only from the one that uses HDF5). */
int es_predictions_read(const struct es_predictions *p, int64_t row0, int64_t n, float *logits,
                        struct es_err *err);
bool es_predictions_is_direct(const struct es_predictions *p);

#endif
