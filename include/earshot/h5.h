/* HDF5 files, checked: the only door to HDF5 for everything above this layer.
 *
 * Reading. es_h5_open gives a read-only file of this process alone (serial driver, no lock, no message). Any rank may open and
 * read any file at any time, from one thread: the parallel HDF5 library is not thread-safe. A loader thread reads by pread at
 * es_h5_info.offset instead.
 *
 *     struct es_h5 *f = NULL;
 *     ES_GO(es_h5_open(&f, "x.h5", "store", 1, err));
 *     ES_GO(es_h5_read_rows(f, "/audio/pcm", ES_H5_I16, 0, 160000, pcm, err));
 * done:
 *     es_h5_close(&f);
 *
 * Writing. All ranks of a communicator (or one process: comm NULL) write a file together under a temporary name and commit
 * it: flush, close, fsync, rename, fsync of the folder. A reader never sees half a file. Rank 0 describes, all ranks write:
 *
 *     es_h5_create_all(&f, comm, "x.h5", "store", 1, err)   may fail: agreed on all ranks
 *     es_h5_make_all, es_h5_put_all, es_h5_attr_*_all       rank 0 works, the others only pass by
 *     es_h5_share_all(f, err)                               all ranks open the file by MPI-IO; nothing new can be described now
 *     es_h5_write_rows_all(f, ...)                          each rank its rows
 *     es_h5_seal_all(f, &digest, err)                       optional: all data are on disk; rank 0 adds last attributes
 *     es_h5_commit_all(&f, NULL, err)                       agreed result; on failure nothing is left behind
 *     es_h5_close_all(&f)                                   instead of commit: gives up, removes the temporary file
 *
 * Without es_h5_share_all rank 0 alone writes rows; or the ranks pwrite at es_h5_offset_all beside HDF5.
 * Calls that return nothing keep the first error of a rank in f; it comes out, agreed, at the next call that has err (early:
 * es_h5_status_all), and no rank leaves between a local failure and the next collective. A file never depends on the number of
 * ranks: contiguous data sets, superblock <= 2, fixed-length strings, no filters. With one rank no MPI-IO is used.
 *
 * Every file carries the root attributes earshot_kind, earshot_version (layout of that kind, an integer), commit, created.
 * Errors: ES_EIO when the system refuses (missing, permission, disk full), ES_EDATA when the content is not as wanted.
 * Messages name file and data set and fold HDF5's error stack into one line.
 * Fault points: h5open (open and create), h5write (each data write), rename (commit).
 */
#ifndef EARSHOT_H5_H
#define EARSHOT_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"

struct es_h5;

enum es_h5_type {
    ES_H5_I8,
    ES_H5_U8,
    ES_H5_I16,
    ES_H5_U16,
    ES_H5_I32,
    ES_H5_U32,
    ES_H5_I64,
    ES_H5_U64,
    ES_H5_F16, /* in memory: uint16_t with the bits; es_h5_read converts to wider types */
    ES_H5_F32,
    ES_H5_F64,
    ES_H5_STRING, /* fixed or variable length */
    ES_H5_OTHER,  /* anything this program neither writes nor reads */
};

#define ES_H5_MAX_DIMS 8

struct es_h5_info {
    enum es_h5_type type;
    int ndim; /* 0: a scalar */
    int64_t dim[ES_H5_MAX_DIMS];
    int64_t n;         /* elements */
    size_t item_bytes; /* of one element in the file; 0: variable length */
    /* byte offset when plain pread gives the native values (contiguous, allocated, no filter, this machine's
     * byte order, file long enough); else -1 */
    int64_t offset;
};

/* Names in one block of memory. */
struct es_h5_names {
    int64_t n;
    char **name;
    void *block;
};
void es_h5_names_free(struct es_h5_names *names);

const char *es_h5_type_name(enum es_h5_type type);
size_t es_h5_type_bytes(enum es_h5_type type); /* in memory; 0 for STRING and OTHER */

/* ---- reading; no collectivity */
/* kind NULL: any HDF5 file. Otherwise earshot_kind must be kind and earshot_version must be version (ES_EDATA). */
int es_h5_open(struct es_h5 **f, const char *path, const char *kind, int version, struct es_err *err);
void es_h5_close(struct es_h5 **f);
const char *es_h5_path(const struct es_h5 *f); /* as given to open or create */
bool es_h5_has(const struct es_h5 *f, const char *name);
int es_h5_info(const struct es_h5 *f, const char *name, struct es_h5_info *info, struct es_err *err);
/* Data sets below group. Recursive: whole tree, paths relative to group, in name order; else direct members in creation order
 * (name order where the file does not track it). groups: sub-groups instead of data sets (not recursive). */
int es_h5_list(const struct es_h5 *f, const char *group, bool recursive, struct es_h5_names *names,
               struct es_err *err);
int es_h5_list_groups(const struct es_h5 *f, const char *group, struct es_h5_names *names,
                      struct es_err *err);
/* The whole data set, n elements (another number: ES_EDATA), converted to type. */
int es_h5_read(const struct es_h5 *f, const char *name, enum es_h5_type type, int64_t n, void *out,
               struct es_err *err);
/* The same into a new block (*out, es_free); info may be NULL. */
int es_h5_read_new(const struct es_h5 *f, const char *name, enum es_h5_type type, void **out,
                   struct es_h5_info *info, struct es_err *err);
/* Rows row0 .. row0+n-1 of the first dimension. */
int es_h5_read_rows(const struct es_h5 *f, const char *name, enum es_h5_type type, int64_t row0, int64_t n,
                    void *out, struct es_err *err);
/* Row of a [N] data set of variable-length bytes (PaSST's mp3s), into a new block (*out, es_free). */
int es_h5_read_bytes(const struct es_h5 *f, const char *name, int64_t row, void **out, size_t *n,
                     struct es_err *err);
/* [N] strings (or one, of a scalar data set), fixed or variable length; padding removed. */
int es_h5_read_strings(const struct es_h5 *f, const char *name, struct es_h5_names *names,
                       struct es_err *err);
/* Attributes of an object ("/" for the file). Missing or of another type: ES_EDATA. */
bool es_h5_attr_has(const struct es_h5 *f, const char *object, const char *name);
int es_h5_attr_get_i64(const struct es_h5 *f, const char *object, const char *name, int64_t *v,
                       struct es_err *err);
int es_h5_attr_get_u64(const struct es_h5 *f, const char *object, const char *name, uint64_t *v,
                       struct es_err *err);
int es_h5_attr_get_f64(const struct es_h5 *f, const char *object, const char *name, double *v,
                       struct es_err *err);
int es_h5_attr_get_text(const struct es_h5 *f, const char *object, const char *name, char *out, size_t bytes,
                        struct es_err *err);
/* Names of an object's attributes, in name order. */
int es_h5_attr_list(const struct es_h5 *f, const char *object, struct es_h5_names *names, struct es_err *err);
int es_h5_attr_get_strings(const struct es_h5 *f, const char *object, const char *name,
                           struct es_h5_names *names, struct es_err *err);

/* ---- writing; collective over comm (NULL: this process alone). Arguments are the same on all ranks unless said otherwise. */
int es_h5_create_all(struct es_h5 **f, const struct es_comm *comm, const char *path, const char *kind,
                     int version, struct es_err *err);
/* A file that grows in `path`.part and survives a crash once es_h5_share_all was called: es_h5_close_all keeps it,
 * es_h5_commit_all renames it to path, es_h5_resume_part_all opens it again, shared. */
int es_h5_create_part_all(struct es_h5 **f, const struct es_comm *comm, const char *path, const char *kind,
                          int version, struct es_err *err);
int es_h5_resume_part_all(struct es_h5 **f, const struct es_comm *comm, const char *path, struct es_err *err);

/* Describing: a group whose members keep their order (other groups are made by es_h5_make_all itself); a data set without
 * content; a whole data set (data: rank 0's). */
void es_h5_group_all(struct es_h5 *f, const char *name);
void es_h5_make_all(struct es_h5 *f, const char *name, enum es_h5_type type, int ndim, const int64_t *dim);
void es_h5_put_all(struct es_h5 *f, const char *name, enum es_h5_type type, int ndim, const int64_t *dim,
                   const void *data);
/* [n] fixed-length strings, zero-padded to the longest (at least 1 byte). */
void es_h5_put_strings_all(struct es_h5 *f, const char *name, int64_t n, const char *const *strings);
/* One text as a scalar data set. */
void es_h5_put_text_all(struct es_h5 *f, const char *name, const char *text);
/* Create or replace an attribute; while describing, or after es_h5_seal_all. */
void es_h5_attr_i64_all(struct es_h5 *f, const char *object, const char *name, int64_t v);
void es_h5_attr_u64_all(struct es_h5 *f, const char *object, const char *name, uint64_t v);
void es_h5_attr_f64_all(struct es_h5 *f, const char *object, const char *name, double v);
void es_h5_attr_text_all(struct es_h5 *f, const char *object, const char *name, const char *text);
void es_h5_attr_strings_all(struct es_h5 *f, const char *object, const char *name, int64_t n,
                            const char *const *strings);
/* The name the file has now (temporary), and the byte offset of a data set for pwrite beside HDF5 (rank 0's answer to all; -1:
 * none). Before writing there: es_h5_flush_all. */
const char *es_h5_path_now(const struct es_h5 *f);
int64_t es_h5_offset_all(const struct es_h5 *f, const char *name);

int es_h5_share_all(struct es_h5 *f, struct es_err *err);
/* Each rank writes its own rows row0 .. row0+n-1 (per rank; n may be 0; no overlap), one contiguous slab, data per rank. Not
 * shared: rank 0 alone, n = 0 elsewhere. */
void es_h5_write_rows_all(struct es_h5 *f, const char *name, enum es_h5_type type, int64_t row0, int64_t n,
                          const void *data);
/* Records an error of the caller (a failed read, for example) so that it comes out at the next agreement. Not collective. */
void es_h5_fail(struct es_h5 *f, const struct es_err *why);
int es_h5_status_all(struct es_h5 *f, struct es_err *err);
/* Flushes to the disk (fsync) and agrees. */
int es_h5_flush_all(struct es_h5 *f, struct es_err *err);
/* Asks the system to write out what this node wrote so far, and does not wait. Local. */
void es_h5_start_sync(const struct es_h5 *f);
/* All data on disk; digest (may be NULL) of all data sets, computed by all ranks. */
int es_h5_seal_all(struct es_h5 *f, uint64_t *digest, struct es_err *err);
/* keep (may be NULL): the file that stood at path until now stays reachable under this name. */
int es_h5_commit_all(struct es_h5 **f, const char *keep, struct es_err *err);
void es_h5_close_all(struct es_h5 **f);

/* Digest of all data sets of a file: path, type, shape and content of each, in name order; attributes do not count. Content is
 * hashed in fixed blocks that the ranks share, so any number of ranks gives the same value. Collective (comm NULL: alone). */
int es_h5_digest_all(const struct es_comm *comm, const char *path, uint64_t *digest, struct es_err *err);
/* The same over the data sets below the given groups ("student" for /student/...). */
int es_h5_digest_groups_all(const struct es_comm *comm, const char *path, const char *const *groups,
                            int n_groups, uint64_t *digest, struct es_err *err);

/* ---- folders */
/* fsync of a path, file or folder. */
int es_h5_sync_path(const char *path, struct es_err *err);
/* Removes temporary files (`path`.tmp-*) a killed run left; rank 0 calls it. */
void es_h5_remove_stale(const char *path);

#endif
