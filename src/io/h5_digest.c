/* The digest of a file's data sets. */
#include "earshot/h5.h"

#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "earshot/mem.h"

#include "h5_impl.h"

#define BLOCK_BYTES ((int64_t)4 << 20)

/* Rows in a block; a function of the shape alone. */
static int64_t block_rows(const struct es_h5_info *info) {
    int64_t row_bytes = info->n / info->dim[0] * (int64_t)info->item_bytes;
    return row_bytes >= BLOCK_BYTES ? 1 : BLOCK_BYTES / row_bytes;
}

static bool has_content(const struct es_h5_info *info) {
    return info->type != ES_H5_OTHER && info->n > 0;
}

/* Digest of one block of a numeric data set or of fixed-length strings. */
static int hash_block(const struct es_h5 *f, const char *name, const struct es_h5_info *info, int64_t row0,
                      int64_t rows, void *buffer, uint64_t *h, struct es_err *err) {
    hid_t d = H5Dopen2(f->file, name, H5P_DEFAULT);
    if (d < 0) return h5_error(err, ES_EDATA, f->path, name, "cannot be opened as a data set");
    hid_t type = info->type == ES_H5_STRING ? H5Dget_type(d) : h5_type_new(info->type, 0, false),
          space = H5Dget_space(d);
    hsize_t dim[ES_H5_MAX_DIMS], start[ES_H5_MAX_DIMS] = {(hsize_t)row0};
    for (int i = 0; i < info->ndim; i++) dim[i] = (hsize_t)info->dim[i];
    dim[0] = (hsize_t)rows;
    hid_t mem = info->ndim ? H5Screate_simple(info->ndim, dim, NULL) : H5Screate(H5S_SCALAR);
    if (info->ndim) H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, dim, NULL);
    int rc = H5Dread(d, type, mem, space, H5P_DEFAULT, buffer) < 0
                 ? h5_error(err, ES_EIO, f->path, name, "cannot read")
                 : 0;
    if (rc == 0)
        *h = es_hash_bytes(buffer,
                           (size_t)(info->ndim ? info->n / info->dim[0] * rows : 1) * info->item_bytes);
    H5Sclose(mem);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(d);
    return rc;
}

static int hash_strings(const struct es_h5 *f, const char *name, uint64_t *h, struct es_err *err) {
    struct es_h5_names names;
    struct es_hash *hash = NULL;
    ES_TRY(es_h5_read_strings(f, name, &names, err));
    int rc = es_hash_new(&hash, err);
    for (int64_t i = 0; rc == 0 && i < names.n; i++) es_hash_string(hash, names.name[i]);
    if (rc == 0) *h = es_hash_value(hash);
    es_hash_free(&hash);
    es_h5_names_free(&names);
    return rc;
}

/* Walks all blocks in order; hashes those of this rank into block[] when it is given. Returns the number of blocks. */
static int64_t walk(const struct es_h5 *f, const struct es_h5_names *names, const struct es_h5_info *info,
                    int rank, int size, void *buffer, uint64_t *block, struct es_err *err) {
    int64_t n = 0;
    int rc = 0;
    for (int64_t i = 0; i < names->n; i++) {
        if (!has_content(&info[i])) continue;
        bool whole = info[i].item_bytes == 0 || info[i].ndim == 0; /* variable-length strings, scalars */
        int64_t rows = whole ? 1 : info[i].dim[0], step = whole ? 1 : block_rows(&info[i]);
        for (int64_t row = 0; row < rows; row += step, n++) {
            if (!block || n % size != rank) continue;
            rc = info[i].item_bytes == 0
                     ? hash_strings(f, names->name[i], &block[n], err)
                     : hash_block(f, names->name[i], &info[i], row, rows - row < step ? rows - row : step,
                                  buffer, &block[n], err);
            if (rc < 0) return rc;
        }
    }
    return n;
}

/* Largest block in bytes over all data sets (one row may be longer than BLOCK_BYTES). */
static size_t buffer_bytes(const struct es_h5_names *names, const struct es_h5_info *info) {
    int64_t most = BLOCK_BYTES;
    for (int64_t i = 0; i < names->n; i++) {
        if (!has_content(&info[i]) || info[i].ndim == 0) continue;
        int64_t row = info[i].n / info[i].dim[0] * (int64_t)info[i].item_bytes;
        if (row > most) most = row;
    }
    return (size_t)most;
}

static uint64_t fold(const struct es_h5_names *names, const struct es_h5_info *info, struct es_hash *hash,
                     const uint64_t *block) {
    int64_t at = 0;
    for (int64_t i = 0; i < names->n; i++) {
        es_hash_string(hash, names->name[i]);
        es_hash_string(hash, es_h5_type_name(info[i].type));
        es_hash_update(hash, &info[i].ndim, sizeof info[i].ndim);
        es_hash_update(hash, info[i].dim, (size_t)info[i].ndim * sizeof *info[i].dim);
        if (!has_content(&info[i])) continue;
        bool whole = info[i].item_bytes == 0 || info[i].ndim == 0;
        int64_t step = whole ? 1 : block_rows(&info[i]), n = whole ? 1 : (info[i].dim[0] + step - 1) / step;
        es_hash_update(hash, block + at, (size_t)n * sizeof *block);
        at += n;
    }
    return es_hash_value(hash);
}

/* Keeps the names below one of the groups. */
static void keep_groups(struct es_h5_names *names, const char *const *groups, int n_groups) {
    int64_t kept = 0;
    for (int64_t i = 0; i < names->n; i++)
        for (int g = 0; g < n_groups; g++) {
            size_t n = strlen(groups[g]);
            if (strncmp(names->name[i], groups[g], n) != 0 || names->name[i][n] != '/') continue;
            names->name[kept++] = names->name[i];
            break;
        }
    names->n = kept;
}

int es_h5_digest_all(const struct es_comm *comm, const char *path, uint64_t *digest, struct es_err *err) {
    return es_h5_digest_groups_all(comm, path, NULL, 0, digest, err);
}

int es_h5_digest_groups_all(const struct es_comm *comm, const char *path, const char *const *groups,
                            int n_groups, uint64_t *digest, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct es_h5_names names = {0};
    struct es_h5_info *info = NULL;
    struct es_hash *hash = NULL;
    uint64_t *mine = NULL, *all = NULL;
    void *buffer = NULL;
    struct es_err own = {0};
    if (!err) err = &own;
    int rank = comm ? es_comm_rank(comm) : 0, size = comm ? es_comm_size(comm) : 1;
    int64_t n_blocks = 0;
    int rc = es_h5_open(&f, path, NULL, 0, err);
    if (rc == 0) rc = es_h5_list(f, "/", true, &names, err);
    if (rc == 0 && groups) keep_groups(&names, groups, n_groups);
    if (rc == 0 && !(info = es_alloc((size_t)names.n, sizeof *info, err))) rc = -ES_EIO;
    for (int64_t i = 0; rc == 0 && i < names.n; i++) rc = es_h5_info(f, names.name[i], &info[i], err);
    if (rc == 0) {
        n_blocks = walk(f, &names, info, rank, size, NULL, NULL, err);
        mine = es_alloc((size_t)n_blocks, sizeof *mine, err);
        all = es_alloc((size_t)(n_blocks * size), sizeof *all, err);
        buffer = es_alloc(buffer_bytes(&names, info), 1, err);
        if (!mine || !all || !buffer) rc = -ES_EIO;
    }
    if (rc == 0) rc = es_hash_new(&hash, err);
    if (rc == 0 && walk(f, &names, info, rank, size, buffer, mine, err) < 0) rc = -err->code;
    if (comm) {
        ES_GO(es_err_agree_all(comm, rc, err));
        es_comm_allgather_all(comm, mine, (size_t)n_blocks * sizeof *mine, all);
        for (int64_t b = 0; b < n_blocks; b++) mine[b] = all[(b % size) * n_blocks + b];
    }
    if (rc == 0) *digest = fold(&names, info, hash, mine);
done:
    es_free(&buffer);
    es_free(&all);
    es_free(&mine);
    es_hash_free(&hash);
    es_free(&info);
    es_h5_names_free(&names);
    es_h5_close(&f);
    return rc;
}
