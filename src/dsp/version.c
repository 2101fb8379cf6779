#include "earshot/version.h"

#include <fftw3.h>
#include <soxr.h>
#include <stdio.h>

void es_dsp_version(char *out, size_t size) {
    snprintf(out, size, "FFTW: %s\nlibsoxr: %s", fftwf_version, soxr_version());
}
