#include "earshot/version.h"

#include <mpi.h>
#include <stdio.h>
#include <string.h>

void es_comm_version(char *out, size_t size) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;
    MPI_Get_library_version(text, &n);
    text[strcspn(text, ",\n")] = 0;
    snprintf(out, size, "MPI: %s", text);
}
