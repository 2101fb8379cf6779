#include "earshot/version.h"

#include <hdf5.h>
#include <sndfile.h>
#include <stdio.h>

void es_io_version(char *out, size_t size) {
    unsigned major = 0, minor = 0, patch = 0;
    H5get_libversion(&major, &minor, &patch);
    snprintf(out, size, "HDF5: %u.%u.%u\nlibsndfile: %s", major, minor, patch, sf_version_string());
}
