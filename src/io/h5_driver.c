/* A file driver for HDF5 as its own "sec2" (plain POSIX), but one to which a write never fails: the first error is kept in the
 * es_h5 and HDF5 goes on as if nothing had happened. Reason: in 1.10 a file whose metadata cannot be written cannot be closed
 * either, and the half-closed file takes the process down at its end (H5F__close_cb on freed memory, called by MPI_Finalize).
 * Used by one process for describing a file; no locks, no sieve buffer. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/mem.h"
#include "earshot/text.h"

#include "h5_impl.h"

struct driver_file {
    H5FD_t pub; /* first: HDF5's part */
    int fd;
    haddr_t eoa, eof;
    dev_t device;
    ino_t inode;
    struct es_h5 *owner;
};

struct driver_info {
    struct es_h5 *owner;
};

static void keep_error(struct driver_file *f, const char *what) {
    if (f->owner->first.code == 0)
        es_err_set(&f->owner->first, ES_EIO, "%s: cannot %s: %s", f->owner->now, what, strerror(errno));
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t fapl, haddr_t max) {
    (void)max;
    struct stat st;
    const struct driver_info *info = H5Pget_driver_info(fapl);
    struct driver_file *f = es_alloc(1, sizeof *f, NULL);
    if (!f) return NULL;
    f->owner = info->owner;
    f->fd = open(name,
                 (flags & H5F_ACC_RDWR ? O_RDWR : O_RDONLY) | (flags & H5F_ACC_CREAT ? O_CREAT : 0) |
                     (flags & H5F_ACC_TRUNC ? O_TRUNC : 0),
                 0666);
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        keep_error(f, "open");
        if (f->fd >= 0) close(f->fd);
        es_free(&f);
        return NULL;
    }
    f->eof = (haddr_t)st.st_size;
    f->device = st.st_dev;
    f->inode = st.st_ino;
    return &f->pub;
}

static herr_t driver_close(H5FD_t *file) {
    struct driver_file *f = (struct driver_file *)file;
    if (close(f->fd) != 0) keep_error(f, "write");
    es_free(&f);
    return 0;
}

static int driver_cmp(const H5FD_t *a, const H5FD_t *b) {
    const struct driver_file *x = (const struct driver_file *)a, *y = (const struct driver_file *)b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

static herr_t driver_query(const H5FD_t *file, unsigned long *flags) {
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA |
             H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const struct driver_file *)file)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t at) {
    (void)type;
    ((struct driver_file *)file)->eoa = at;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const struct driver_file *)file)->eof;
}

static herr_t driver_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t bytes, void *out) {
    (void)type;
    (void)dxpl;
    struct driver_file *f = (struct driver_file *)file;
    for (char *to = out; bytes > 0;) {
        ssize_t got = pread(f->fd, to, bytes, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            keep_error(f, "read");
            return -1;
        }
        if (got == 0) { /* beyond the end: zeros, as sec2 does */
            memset(to, 0, bytes);
            return 0;
        }
        to += got;
        at += (haddr_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

static herr_t driver_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t bytes,
                           const void *data) {
    (void)type;
    (void)dxpl;
    struct driver_file *f = (struct driver_file *)file;
    if (f->owner->first.code == 0 && es_pwrite(f->fd, data, bytes, (int64_t)at) != 0) keep_error(f, "write");
    if (at + bytes > f->eof) f->eof = at + bytes;
    return 0;
}

static herr_t driver_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing) {
    (void)dxpl;
    (void)closing;
    struct driver_file *f = (struct driver_file *)file;
    if (f->eof != f->eoa && f->owner->first.code == 0 && ftruncate(f->fd, (off_t)f->eoa) != 0)
        keep_error(f, "write");
    f->eof = f->eoa;
    return 0;
}

static const H5FD_class_t driver_class = {.name = "earshot",
                                          .maxaddr = INT64_MAX,
                                          .fc_degree = H5F_CLOSE_STRONG,
                                          .fapl_size = sizeof(struct driver_info),
                                          .open = driver_open,
                                          .close = driver_close,
                                          .cmp = driver_cmp,
                                          .query = driver_query,
                                          .get_eoa = driver_get_eoa,
                                          .set_eoa = driver_set_eoa,
                                          .get_eof = driver_get_eof,
                                          .read = driver_read,
                                          .write = driver_write,
                                          .truncate = driver_truncate,
                                          .fl_map = H5FD_FLMAP_DICHOTOMY};

void h5_use_driver(hid_t fapl, struct es_h5 *f) {
    struct driver_info info = {f};
    if (f->driver < 0) f->driver = H5FDregister(&driver_class);
    H5Pset_driver(fapl, f->driver, &info);
}

void h5_forget_driver(struct es_h5 *f) {
    if (f->driver >= 0) H5FDunregister(f->driver);
    f->driver = -1;
}
