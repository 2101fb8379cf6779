/* Shared by tensorfile.c, torch.c, safetensors.c, zip.c. */
#ifndef EARSHOT_TENSORFILE_IMPL_H
#define EARSHOT_TENSORFILE_IMPL_H

#include "earshot/pickle.h"
#include "earshot/tensorfile.h"

/* A file or a block of memory, read at offsets. */
struct input {
    const char *path;
    int fd; /* -1: memory */
    const uint8_t *bytes;
    int64_t n;
};
/* n bytes at offset; beyond the end: ES_EDATA "truncated". */
int input_read(const struct input *in, int64_t offset, int64_t n, void *out, struct es_err *err);
uint64_t input_u(const void *at, int bytes); /* little-endian number */

/* ---- zip.c: archives with stored and deflated entries */
struct zip;
int zip_open(struct zip **z, const struct input *in, struct es_err *err);
void zip_close(struct zip **z);
int zip_count(const struct zip *z);
const char *zip_name(const struct zip *z, int i);
int zip_find(const struct zip *z, const char *name); /* -1: not there */
int64_t zip_bytes(const struct zip *z, int i);       /* uncompressed */
/* n bytes from begin of entry i. The first reading of an entry goes through all of it and checks length and checksum. */
int zip_read(struct zip *z, int i, int64_t begin, int64_t n, void *out, struct es_err *err);

/* ---- where storages are */
struct place {
    int64_t offset, bytes;
    int entry; /* of the zip, or -1: at offset of the file */
};

struct es_tensorfile {
    struct input in;
    struct es_values *heap;
    struct es_value *root;
    struct zip *zip;
    struct es_pickle pickle;
    struct place *place;
    int n_places;
};

int torch_zip_open(struct es_tensorfile *f, struct es_err *err);
int torch_legacy_open(struct es_tensorfile *f, struct es_err *err);
int safetensors_open(struct es_tensorfile *f, struct es_err *err);
const char *safetensors_type(enum es_dtype t); /* "F32"; NULL: it has none */

#endif
