/* Reading golden data in tests: whole datasets as plain arrays, whatever number type the file holds.
 *
 *   char file[512];
 *   if (!es_test_shared("golden/models/optim.h5", file, sizeof file)) return 77;    (skip: no shared data
 * here) int64_t shape[4]; int ndim; float *x = es_test_h5_read_f32(file, "adam/step0_p0", shape, &ndim);
 *   ...
 *   es_free(&x);
 *
 * shape and ndim may be NULL. ndim is 0 for a scalar, at most 4; shape[ndim..3] are set to 1, so that the
 * product of all four is the number of elements. The caller frees with es_free. On any failure NULL, and a
 * line on stderr that names file and dataset. Include it after <cmocka.h>. Used without MPI_Init (default,
 * serial file driver).
 */
#ifndef EARSHOT_TEST_H5_H
#define EARSHOT_TEST_H5_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <hdf5.h>

#include "earshot/mem.h"

/* Path of a file of the shared data: EARSHOT_SHARED, else ../shared beside the checkout. False when it is not
 * there. */
static inline bool es_test_shared(const char *name, char *path, size_t size) {
    const char *dir = getenv("EARSHOT_SHARED");
    if (dir && *dir)
        snprintf(path, size, "%s/%s", dir, name);
    else
        snprintf(path, size, "%s/../shared/%s", ES_TEST_SOURCE, name);
    if (access(path, R_OK) == 0) return true;
    fprintf(stderr, "skipped: %s is not there; set EARSHOT_SHARED\n", path);
    return false;
}

static inline void *es_test_h5_read_(const char *file, const char *path, int64_t shape[4], int *ndim,
                                     hid_t type, size_t size) {
    hid_t f = -1, d = -1, s = -1;
    hsize_t dims[4] = {1, 1, 1, 1};
    void *data = NULL;
    const char *what = "cannot open file";
    int nd = -1;
    int64_t n = 1;
    H5E_BEGIN_TRY {
        f = H5Fopen(file, H5F_ACC_RDONLY, H5P_DEFAULT);
        if (f < 0) goto done;
        what = "no such dataset";
        d = H5Dopen2(f, path, H5P_DEFAULT);
        if (d < 0) goto done;
        what = "want a dataset of at most 4 dimensions";
        s = H5Dget_space(d);
        nd = H5Sget_simple_extent_ndims(s);
        if (nd < 0 || nd > 4 || H5Sget_simple_extent_dims(s, dims, NULL) < 0) goto done;
        for (int i = 0; i < 4; i++) n *= (int64_t)dims[i];
        what = "cannot read as numbers";
        data = es_alloc((size_t)n, size, NULL);
        if (data && H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) es_free(&data);
    done:
        if (s >= 0) H5Sclose(s);
        if (d >= 0) H5Dclose(d);
        if (f >= 0) H5Fclose(f);
    }
    H5E_END_TRY
    if (!data) {
        fprintf(stderr, "%s:%s: %s\n", file, path, what);
        return NULL;
    }
    for (int i = 0; shape && i < 4; i++) shape[i] = (int64_t)dims[i];
    if (ndim) *ndim = nd;
    return data;
}

static inline float *es_test_h5_read_f32(const char *file, const char *path, int64_t shape[4], int *ndim) {
    return es_test_h5_read_(file, path, shape, ndim, H5T_NATIVE_FLOAT, sizeof(float));
}

static inline double *es_test_h5_read_f64(const char *file, const char *path, int64_t shape[4], int *ndim) {
    return es_test_h5_read_(file, path, shape, ndim, H5T_NATIVE_DOUBLE, sizeof(double));
}

static inline int32_t *es_test_h5_read_i32(const char *file, const char *path, int64_t shape[4], int *ndim) {
    return es_test_h5_read_(file, path, shape, ndim, H5T_NATIVE_INT32, sizeof(int32_t));
}

static inline uint8_t *es_test_h5_read_u8(const char *file, const char *path, int64_t shape[4], int *ndim) {
    return es_test_h5_read_(file, path, shape, ndim, H5T_NATIVE_UINT8, sizeof(uint8_t));
}

static inline bool es_test_h5_has(const char *file, const char *path) {
    htri_t there = 0;
    H5E_BEGIN_TRY {
        hid_t f = H5Fopen(file, H5F_ACC_RDONLY, H5P_DEFAULT);
        hid_t d = f >= 0 ? H5Dopen2(f, path, H5P_DEFAULT) : -1;
        there = d >= 0;
        if (d >= 0) H5Dclose(d);
        if (f >= 0) H5Fclose(f);
    }
    H5E_END_TRY
    return there > 0;
}

#endif
