/* Shared by src/io/h5*.c only. */
#ifndef EARSHOT_H5_IMPL_H
#define EARSHOT_H5_IMPL_H

#include <hdf5.h>

#include "earshot/h5.h"

enum h5_phase {
    H5_READING,    /* this process alone, read-only */
    H5_DESCRIBING, /* rank 0 alone creates everything, through the driver of h5_driver.c */
    H5_SHARED,     /* all ranks write rows: MPI-IO, or as before when there is one rank */
    H5_SEALED,     /* rank 0 alone, attributes */
};

struct es_h5 {
    enum h5_phase phase;
    hid_t file;                 /* < 0: not open on this rank */
    hid_t driver;               /* of h5_driver.c; < 0: not registered */
    hid_t dxpl;                 /* collective transfer, or H5P_DEFAULT */
    char *path;                 /* final name */
    char *now;                  /* name on disk while writing; same text as path for a file that is read */
    const struct es_comm *comm; /* NULL: alone */
    int rank, size;
    bool keep_part;
    bool skip;           /* some rank failed and all know it: nothing is written any more */
    struct es_err first; /* first error of this rank; code 0: none */
};

/* File access through the driver that keeps errors in f. */
void h5_use_driver(hid_t fapl, struct es_h5 *f);
/* After the last file is closed: H5FD_close of 1.10 gives up its own hold on a driver before it calls it. */
void h5_forget_driver(struct es_h5 *f);
/* One line from the error stack of HDF5 (deepest cause) behind "path:name: what: ". */
int h5_error(struct es_err *err, enum es_code code, const char *path, const char *name, const char *what);
/* The same, kept in f. */
void h5_stick(struct es_h5 *f, const char *name, const char *what);

/* A copy of the file type (little-endian) or memory type (native) of an element; close with H5Tclose. */
hid_t h5_type_new(enum es_h5_type type, size_t string_bytes, bool in_file);
enum es_h5_type h5_classify(hid_t type);
/* Strings of a data set or attribute, read by `read` into a buffer of the file's own form, into one block of C strings. */
typedef herr_t (*h5_read_fn)(hid_t object, hid_t type, void *out);
int h5_read_strings(const struct es_h5 *f, hid_t object, hid_t space, hid_t type, h5_read_fn read,
                    const char *name, struct es_h5_names *names, struct es_err *err);
/* n strings as n * width bytes, zero-padded. NULL when out of memory (kept in f). */
char *h5_pack_strings(struct es_h5 *f, int64_t n, const char *const *strings, size_t *width);
/* Largest transfer in one call (ROMIO fails beyond 2 GiB, hpc-notes.md section 3). */
#define H5_MAX_TRANSFER ((int64_t)1 << 30)

#endif
