#include "earshot/version.h"

#include <cblas.h>
#include <dnnl.h>
#include <stdio.h>

void es_kernels_version(char *out, size_t size) {
    const dnnl_version_t *v = dnnl_version();
    snprintf(out, size, "BLAS: %s\noneDNN: %d.%d.%d", openblas_get_config(), v->major, v->minor, v->patch);
}
