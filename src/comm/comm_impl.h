/* What the files of src/comm share: the inside of a communicator and the check of every MPI call. Tests of
 * chunking may include it too; nobody else. */
#ifndef EARSHOT_COMM_IMPL_H
#define EARSHOT_COMM_IMPL_H

#include <mpi.h>

#include "earshot/comm.h"

struct es_comm {
    MPI_Comm mpi; /* ours: duplicated or split, errors return */
    int rank, size;
    size_t chunk_bytes;   /* largest count of one MPI call, far below INT_MAX; tests lower it */
    int *counts, *displs; /* [size] scratch of allgatherv */
};

/* A failing MPI call cannot be repaired here: says so in one line and ends all ranks with ES_EIO. */
void es_comm_check(const struct es_comm *c, int mpi_rc, const char *call);
#define ES_MPI(c, fn, ...) es_comm_check((c), fn(__VA_ARGS__), #fn)

/* The error of rank root, on all ranks; its message prefixed with the rank when size > 1. Returns -code.
 * Collective. */
int es_comm_share_error_all(const struct es_comm *c, int rc, struct es_err *err, int root);

#endif
