/* Checkpoints of a training run, as one HDF5 file that any number of ranks can write and read. Layout 1:
 *
 *   /student/<name>, /teacher/<name>   weights and buffers, named and shaped as in the state_dict, in its order
 *   /adam/m, /adam/v                   f32 [n] moments of all trainable parameters, in the order of the parameter table, unpadded
 *   /adam/index/{name,offset,n}        where each parameter stands in them
 *   /config                            the resolved configuration, text
 *   /classes                           names of what the network tells apart; older files have none
 *   /meta                              attributes step, epoch, seed, config_digest, store_digest, parameters_digest,
 *                                      best_metric, commit and, written last, complete = 1
 *   every data set but /config, /classes and the index: attribute digest (u64, of its content), checked on loading
 *
 * This module knows no model: it gets lists of arrays. Student and teacher are full replicas on every rank; the moments are
 * sharded: each rank owns segments of the flat gradient vector, in which a parameter stands at an offset that has nothing to do
 * with the table's order.
 *
 * A run directory holds checkpoint-last.h5 and checkpoint-prev.h5: saving writes a temporary file, and only when every rank has
 * written and the disk has it all, the old last becomes prev and the new file last. At every moment one of them is whole.
 * Collectivity: functions with _all; others are local. Errors: ES_EDATA for another model's or a damaged file, ES_EIO else.
 */
#ifndef EARSHOT_CKPT_H
#define EARSHOT_CKPT_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"
#include "earshot/h5.h"

enum { ES_CKPT_VERSION = 1 };
#define ES_CKPT_LAST "checkpoint-last.h5"
#define ES_CKPT_PREV "checkpoint-prev.h5"
#define ES_CKPT_BEST "checkpoint-best.h5"

struct es_ckpt_array {
    const char *name;     /* without student. or teacher. */
    enum es_h5_type type; /* a numeric one */
    int ndim;
    int64_t dim[4];
    void *data; /* full replica; read by save, filled by load */
};

struct es_ckpt_param { /* a trainable parameter; the list is in table order */
    const char *name;
    int64_t n;
    int64_t grad_offset; /* where it begins in the flat gradient vector */
};

struct es_ckpt_segment { /* a piece of the gradient vector this rank owns; padding in it is skipped */
    int64_t grad_offset, n;
    float *m, *v; /* [n] */
};

struct es_ckpt_state {
    int n_student, n_teacher, n_params, n_segments;
    const struct es_ckpt_array *student, *teacher;
    const struct es_ckpt_param *param;
    const struct es_ckpt_segment *segment; /* per rank; together the segments cover every parameter once */
};

struct es_ckpt_meta {
    int64_t step, epoch;
    uint64_t seed, config_digest, store_digest, parameters_digest;
    double best_metric; /* NaN: none yet */
    int n_classes;      /* in, with their names; 0: none */
    const char *const *class_name;
    char commit[32]; /* out: of the program that wrote the file */
};

/* Writes path. keep (may be NULL): name under which the file that stood there stays. state: same on all ranks but segments. */
int es_ckpt_save_all(const struct es_comm *comm, const char *path, const char *keep,
                     const struct es_ckpt_state *state, const struct es_ckpt_meta *meta, const char *config,
                     struct es_err *err);

/* Saving while training goes on, path and keep as in es_ckpt_save_all: es_ckpt_begin_all describes the file and copies this rank's
 * share of the state, a thread (without MPI and HDF5) digests the copy, writes it at the data sets' places and waits for the disk;
 * once es_ckpt_written says so on all ranks (a vote in an exchange that is made anyway), es_ckpt_finish_all gives the file its
 * digests, complete = 1 and its name, or, after a failed write (a full disk), removes it: path is then the file before. The file is
 * the one that es_ckpt_save_all writes, but for where HDF5 puts its own data. One at a time: begin, then finish or cancel.
 * The copy is kept for the next time: a share of student, teacher and moments, allocated by the first begin. */
struct es_ckpt_writer;
int es_ckpt_writer_new(struct es_ckpt_writer **w, struct es_err *err);
void es_ckpt_writer_free(struct es_ckpt_writer **w); /* cancels */
/* After an error nothing is under way. */
int es_ckpt_begin_all(struct es_ckpt_writer *w, const struct es_comm *comm, const char *path,
                      const char *keep, const struct es_ckpt_state *state, const struct es_ckpt_meta *meta,
                      const char *config, struct es_err *err);
/* Begun, neither finished nor cancelled; the same on all ranks. */
bool es_ckpt_writing(const struct es_ckpt_writer *w);
bool es_ckpt_written(const struct es_ckpt_writer *w); /* this rank's thread is through, well or not */
/* Waits for the thread. write_s: how long it took, the slowest rank's. */
int es_ckpt_finish_all(struct es_ckpt_writer *w, double *write_s, struct es_err *err);
void es_ckpt_cancel(struct es_ckpt_writer *w); /* on every rank; does not wait for the others */

enum { ES_CKPT_STUDENT = 1, ES_CKPT_TEACHER = 2, ES_CKPT_ADAM = 4, ES_CKPT_ALL = 7 }; /* parts to load */

/* Fills the arrays and segments of state. Entries that are missing, too many or of another shape: ES_EDATA, the first five by
 * name. After an error the contents of state are undefined. meta may be NULL. */
int es_ckpt_load_all(const struct es_comm *comm, const char *path, int parts,
                     const struct es_ckpt_state *state, struct es_ckpt_meta *meta, struct es_err *err);

/* Loads dir/checkpoint-last.h5 or, if that is missing, unfinished or damaged, dir/checkpoint-prev.h5 with a warning (the damaged
 * file is renamed to *.bad, so that saving does not make it prev). Returns 1: loaded; 0: there is no checkpoint, state is
 * unchanged; < 0: error, also when the checkpoint is of another model. */
int es_ckpt_resume_all(const struct es_comm *comm, const char *dir, const struct es_ckpt_state *state,
                       struct es_ckpt_meta *meta, struct es_err *err);

/* Meta data, and the configuration's text as a new block (es_free; config may be NULL). An unfinished file: ES_EDATA. */
int es_ckpt_read_meta(const char *path, struct es_ckpt_meta *meta, char **config, struct es_err *err);

/* Digest of step, /student, /teacher and /adam: what `earshot inspect --digest` prints. comm NULL: alone. */
int es_ckpt_digest_all(const struct es_comm *comm, const char *path, uint64_t *digest, struct es_err *err);

#endif
