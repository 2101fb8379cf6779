/* Shared by src/io/h5*.c only. */
#ifndef EARSHOT_H5_IMPL_H
#define EARSHOT_H5_IMPL_H

#include <hdf5.h>

#include "earshot/h5.h"

struct es_h5 {
    hid_t file;                 /* < 0: not open on this rank */
    hid_t dxpl;                 /* collective transfer, or H5P_DEFAULT */
    char *path;                 /* final name */
    char *now;                  /* name on disk while writing; same text as path for a file that is read */
    const struct es_comm *comm; /* NULL: alone */
    int rank, size;
    bool writing, keep_part, sealed;
    bool skip; /* some rank failed and all know it: no more collective calls but close */
    int64_t n_put;
    struct es_err first; /* first error of this rank; code 0: none */
};

/* One line from the error stack of HDF5 (deepest cause) behind "path:name: what: ". */
int h5_error(struct es_err *err, enum es_code code, const char *path, const char *name, const char *what);
/* The same, kept in f. */
void h5_stick(struct es_h5 *f, const char *name, const char *what);
bool h5_failed(const struct es_h5 *f);

/* A copy of the file type (little-endian) or memory type (native) of an element; close with H5Tclose. */
hid_t h5_type_new(enum es_h5_type type, size_t string_bytes, bool in_file);
enum es_h5_type h5_classify(hid_t type);
/* Largest transfer in one call (ROMIO fails beyond 2 GiB, hpc-notes.md section 3). */
#define H5_MAX_TRANSFER ((int64_t)1 << 30)

#endif
