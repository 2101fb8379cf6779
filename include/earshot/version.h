/* Version and commit of this build; written into every file and log. Each layer tells what it was linked
 * with. */
#ifndef EARSHOT_VERSION_H
#define EARSHOT_VERSION_H

#include <stddef.h>

#define ES_VERSION "0.1.0"
const char *es_version_commit(void); /* 12 hex digits, "+" behind them when the tree was dirty */

/* One line "name: version" for each library of the layer, without a newline behind the last; cut to size. */
void es_comm_version(char *out, size_t size);    /* MPI */
void es_kernels_version(char *out, size_t size); /* BLAS, oneDNN */
void es_io_version(char *out, size_t size);      /* HDF5, libsndfile */
void es_dsp_version(char *out, size_t size);     /* FFTW, libsoxr */

#endif
