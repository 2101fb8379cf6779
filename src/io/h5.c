/* Files: open, create, agree, commit. Data sets and attributes are in h5_data.c, the digest in h5_digest.c. */
#include "earshot/h5.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <mpi.h>

#include "earshot/fault.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"
#include "earshot/version.h"

#include "h5_impl.h"

static herr_t deepest(unsigned n, const H5E_error2_t *e, void *out) {
    if (n == 0) snprintf(out, 512, "%s", e->desc ? e->desc : "");
    return 0;
}

int h5_error(struct es_err *err, enum es_code code, const char *path, const char *name, const char *what) {
    char desc[512] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, deepest, desc);
    char *reason = strstr(desc, "error message = '"); /* of a driver: keep only what the system said */
    if (reason) {
        reason += strlen("error message = '");
        reason[strcspn(reason, "'")] = 0;
    } else {
        reason = desc;
    }
    return es_err_set(err, code, "%s%s%s: %s%s%s", path, name[0] ? ":" : "", name, what,
                      reason[0] ? ": " : "", reason);
}

/* MPI-IO does not say why a write failed. */
static bool disk_is_full(const char *path) {
    struct statvfs v;
    return statvfs(path, &v) == 0 && v.f_bavail < 65536 / v.f_frsize;
}

void h5_stick(struct es_h5 *f, const char *name, const char *what) {
    if (f->first.code) return;
    h5_error(&f->first, ES_EIO, f->now, name, what);
    if (strcmp(what, "cannot write") == 0 && !strstr(f->first.msg, strerror(ENOSPC)) && disk_is_full(f->now))
        es_err_set(&f->first, ES_EIO, "%s:%s: cannot write: %s", f->now, name, strerror(ENOSPC));
}

void es_h5_fail(struct es_h5 *f, const struct es_err *why) {
    if (f->first.code == 0) f->first = *why;
}

const char *es_h5_path(const struct es_h5 *f) {
    return f->path;
}
const char *es_h5_path_now(const struct es_h5 *f) {
    return f->now;
}

static int file_new(struct es_h5 **f, const char *path, const char *suffix, struct es_err *err) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* errors come back as our message, HDF5 prints nothing */
    *f = es_alloc(1, sizeof **f, err);
    if (!*f) return -ES_EIO;
    size_t n = strlen(path) + strlen(suffix) + 1;
    (*f)->path = es_strdup(path, err);
    (*f)->now = es_alloc(n, 1, err);
    (*f)->file = (*f)->driver = -1;
    (*f)->dxpl = H5P_DEFAULT;
    (*f)->size = 1;
    if (!(*f)->path || !(*f)->now) return -ES_EIO;
    snprintf((*f)->now, n, "%s%s", path, suffix);
    return 0;
}

static void file_free(struct es_h5 **f) {
    if (!*f) return;
    if ((*f)->dxpl != H5P_DEFAULT) H5Pclose((*f)->dxpl);
    h5_forget_driver(*f);
    es_free(&(*f)->path);
    es_free(&(*f)->now);
    es_free(f);
}

/* Superblock <= 2: a kill leaves no status flag. No lock: a reader never blocks a run. Large data sets begin at pages: to odd places
 * the kernel copies at a third of its speed. */
static hid_t access_new(struct es_h5 *f) {
    enum { LARGE = 1 << 16, PAGE = 4096 };
    hid_t p = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_alignment(p, LARGE, PAGE);
    H5Pset_libver_bounds(p, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18);
    H5Pset_file_locking(p, false, true);
    H5Pset_fclose_degree(p, H5F_CLOSE_STRONG);
    if (f->phase == H5_SHARED && f->size > 1) {
        const MPI_Comm *mpi = es_comm_mpi(f->comm);
        H5Pset_fapl_mpio(p, *mpi, MPI_INFO_NULL);
        H5Pset_coll_metadata_write(p, true);
        H5Pset_all_coll_metadata_ops(p, true);
    } else if (f->phase != H5_READING) {
        h5_use_driver(p, f);
    }
    return p;
}

/* ---- reading */

static int check_readable(const char *path, struct es_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return es_err_set(err, ES_EDATA, "%s: is a folder, want an HDF5 file", path);
    if (access(path, R_OK) != 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (st.st_size == 0) return es_err_set(err, ES_EDATA, "%s: is empty, want an HDF5 file", path);
    return 0;
}

static int check_kind(const struct es_h5 *f, const char *kind, int version, struct es_err *err) {
    char got[64];
    if (!es_h5_attr_has(f, "/", "earshot_kind"))
        return es_err_set(err, ES_EDATA, "%s: earshot_kind: no such attribute, want a %s file of earshot",
                          f->path, kind);
    ES_TRY(es_h5_attr_get_text(f, "/", "earshot_kind", got, sizeof got, err));
    if (strcmp(got, kind) != 0)
        return es_err_set(err, ES_EDATA, "%s: earshot_kind: got \"%s\", want \"%s\"", f->path, got, kind);
    int64_t v = -1;
    if (es_h5_attr_get_i64(f, "/", "earshot_version", &v, NULL) < 0 || v != version)
        return es_err_set(
            err, ES_EDATA,
            "%s: earshot_version: layout %lld of a %s file, this program reads %d; write the file again "
            "with this program or use the program that wrote it",
            f->path, (long long)v, kind, version);
    return 0;
}

int es_h5_open(struct es_h5 **f, const char *path, const char *kind, int version, struct es_err *err) {
    int rc;
    ES_GO(file_new(f, path, "", err));
    ES_GO(check_readable(path, err));
    if (es_fault_hit("h5open")) ES_GO(es_err_set(err, ES_EIO, "%s: cannot open (injected fault)", path));
    hid_t fapl = access_new(*f);
    H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST,
                         H5F_LIBVER_LATEST); /* what others wrote may be newer than what we write */
    (*f)->file = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    H5Pclose(fapl);
    if ((*f)->file < 0)
        ES_GO(h5_error(err, ES_EDATA, path, "", "cannot be read as HDF5 (damaged or cut short?)"));
    if (kind) ES_GO(check_kind(*f, kind, version, err));
done:
    if (rc < 0) es_h5_close(f);
    return rc;
}

void es_h5_close(struct es_h5 **f) {
    if (!*f) return;
    ES_ASSERT((*f)->phase == H5_READING);
    if ((*f)->file >= 0) H5Fclose((*f)->file);
    file_free(f);
}

/* ---- writing */

static int agree(const struct es_h5 *f, int rc, struct es_err *err) {
    return f->comm ? es_err_agree_all(f->comm, rc, err) : rc;
}

static int agree_sticky(struct es_h5 *f, struct es_err *err) {
    struct es_err e = f->first, *out = err ? err : &e;
    if (f->first.code != 0) *out = f->first;
    int rc = agree(f, -f->first.code, out);
    if (rc < 0) f->skip = true;
    return rc;
}

int es_h5_status_all(struct es_h5 *f, struct es_err *err) {
    return agree_sticky(f, err);
}

/* The job's name in a temporary file's: a cut-off node may still run the old incarnation of a requeued job. */
static void job_tag(const struct es_comm *comm, char tag[64]) {
    const char *job = getenv("SLURM_JOB_ID"), *restart = getenv("SLURM_RESTART_COUNT");
    memset(tag, 0, 64);
    if (job)
        snprintf(tag, 64, ".tmp-%.24s.%.8s-%ld", job, restart ? restart : "0", (long)getpid());
    else
        snprintf(tag, 64, ".tmp-%ld", (long)getpid());
    if (comm) es_comm_bcast_all(comm, tag, 64, 0);
}

static void split_path(const char *path, char *dir, size_t bytes, const char **base) {
    const char *slash = strrchr(path, '/');
    *base = slash ? slash + 1 : path;
    if (!slash)
        snprintf(dir, bytes, ".");
    else if (slash == path)
        snprintf(dir, bytes, "/");
    else
        snprintf(dir, bytes, "%.*s", (int)(slash - path), path);
}

void es_h5_remove_stale(const char *path) {
    char dir[PATH_MAX], prefix[NAME_MAX + 8];
    const char *base;
    split_path(path, dir, sizeof dir, &base);
    int n = snprintf(prefix, sizeof prefix, "%s.tmp-", base);
    DIR *d = opendir(dir);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, prefix, (size_t)n) == 0) unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
}

int es_h5_sync_path(const char *path, struct es_err *err) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    int rc = 0;
    if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS)
        rc = es_err_set(err, ES_EIO, "%s: cannot reach the disk: %s", path, strerror(errno));
    close(fd);
    return rc;
}

/* Rank 0 makes the empty file itself: the system's own words for a missing folder or permission. */
static int make_empty(const struct es_h5 *f, struct es_err *err) {
    es_h5_remove_stale(f->path);
    struct stat st;
    if (stat(f->path, &st) == 0 && S_ISDIR(st.st_mode))
        return es_err_set(err, ES_EIO, "%s: cannot create: is a folder", f->path);
    int fd = open(f->now, O_CREAT | O_TRUNC | O_RDWR, 0666);
    if (fd < 0) return es_err_set(err, ES_EIO, "%s: cannot create: %s", f->path, strerror(errno));
    close(fd);
    return 0;
}

/* The struct, on all ranks or none. */
static int writer_new(struct es_h5 **fp, const struct es_comm *comm, const char *path, bool part,
                      enum h5_phase phase, struct es_err *err) {
    char tag[64] = ".part";
    if (!part) job_tag(comm, tag);
    int rc = file_new(fp, path, tag, err);
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc < 0) {
        file_free(fp);
        return rc;
    }
    struct es_h5 *f = *fp;
    f->comm = comm;
    f->rank = comm ? es_comm_rank(comm) : 0;
    f->size = comm ? es_comm_size(comm) : 1;
    f->keep_part = part;
    f->phase = phase;
    return 0;
}

static void open_again(struct es_h5 *f) {
    hid_t fapl = access_new(f);
    f->file = H5Fopen(f->now, H5F_ACC_RDWR, fapl);
    H5Pclose(fapl);
    if (f->file < 0) h5_stick(f, "", "cannot open again");
}

static void common_attributes(struct es_h5 *f, const char *kind, int version) {
    char now[32];
    es_time_iso(now);
    es_h5_attr_text_all(f, "/", "earshot_kind", kind);
    es_h5_attr_i64_all(f, "/", "earshot_version", version);
    es_h5_attr_text_all(f, "/", "commit", es_version_commit());
    es_h5_attr_text_all(f, "/", "created", now);
}

static int create_file(struct es_h5 *f, struct es_err *err) {
    ES_TRY(make_empty(f, err));
    hid_t fapl = access_new(f), fcpl = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_link_creation_order(fcpl, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    f->file = H5Fcreate(f->now, H5F_ACC_TRUNC, fcpl, fapl);
    H5Pclose(fcpl);
    H5Pclose(fapl);
    return f->file < 0 ? h5_error(err, ES_EIO, f->now, "", "cannot create") : 0;
}

static int create_all(struct es_h5 **fp, const struct es_comm *comm, const char *path, const char *kind,
                      int version, bool part, struct es_err *err) {
    struct es_err own = {0};
    if (!err) err = &own;
    ES_TRY(writer_new(fp, comm, path, part, H5_DESCRIBING, err));
    struct es_h5 *f = *fp;
    int rc = es_fault_hit("h5open") ? es_err_set(err, ES_EIO, "%s: cannot create (injected fault)", path) : 0;
    if (f->rank == 0 && rc == 0) rc = create_file(f, err);
    rc = agree(f, rc, err);
    if (rc < 0)
        es_h5_close_all(fp);
    else
        common_attributes(f, kind, version);
    return rc;
}

int es_h5_create_all(struct es_h5 **f, const struct es_comm *comm, const char *path, const char *kind,
                     int version, struct es_err *err) {
    return create_all(f, comm, path, kind, version, false, err);
}

int es_h5_create_part_all(struct es_h5 **f, const struct es_comm *comm, const char *path, const char *kind,
                          int version, struct es_err *err) {
    return create_all(f, comm, path, kind, version, true, err);
}

static void close_file(struct es_h5 *f) {
    if (f->file >= 0 && H5Fclose(f->file) < 0) h5_stick(f, "", "cannot write");
    f->file = -1;
}

/* All ranks open the file that rank 0 closed. */
static int open_shared(struct es_h5 *f, struct es_err *err) {
    f->phase = H5_SHARED;
    if (es_fault_hit("h5open")) es_err_set(&f->first, ES_EIO, "%s: cannot open (injected fault)", f->now);
    ES_TRY(agree_sticky(f, err));
    open_again(f);
    if (f->file >= 0 && f->size > 1) {
        f->dxpl = H5Pcreate(H5P_DATASET_XFER);
        H5Pset_dxpl_mpio(f->dxpl, H5FD_MPIO_COLLECTIVE);
        /* slabs are large and apart: who has one writes it, none is sent to an aggregator first */
        H5Pset_dxpl_mpio_collective_opt(f->dxpl, H5FD_MPIO_INDIVIDUAL_IO);
    }
    return agree_sticky(f, err);
}

int es_h5_share_all(struct es_h5 *f, struct es_err *err) {
    ES_ASSERT(f->phase == H5_DESCRIBING);
    close_file(f);
    ES_TRY(agree_sticky(f, err));
    return open_shared(f, err);
}

int es_h5_resume_part_all(struct es_h5 **fp, const struct es_comm *comm, const char *path,
                          struct es_err *err) {
    struct es_err own = {0};
    if (!err) err = &own;
    ES_TRY(writer_new(fp, comm, path, true, H5_SHARED, err));
    int rc = open_shared(*fp, err);
    if (rc < 0) es_h5_close_all(fp);
    return rc;
}

static void flush(struct es_h5 *f) {
    struct es_err e;
    if (f->skip) return;
    if (f->file >= 0 && H5Fflush(f->file, H5F_SCOPE_GLOBAL) < 0) h5_stick(f, "", "cannot write");
    if (f->rank == 0 && es_h5_sync_path(f->now, &e) < 0) es_h5_fail(f, &e);
}

void es_h5_start_sync(const struct es_h5 *f) {
    int fd = open(f->now, O_RDONLY);
    if (fd < 0) return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* on Linux: begins to write dirty pages */
    close(fd);
}

int es_h5_flush_all(struct es_h5 *f, struct es_err *err) {
    flush(f);
    return agree_sticky(f, err);
}

int es_h5_seal_all(struct es_h5 *f, uint64_t *digest, struct es_err *err) {
    ES_ASSERT(f->phase == H5_DESCRIBING || f->phase == H5_SHARED);
    flush(f);
    close_file(f);
    f->phase = H5_SEALED;
    ES_TRY(agree_sticky(f, err));
    if (digest) {
        struct es_err e = {0};
        if (es_h5_digest_all(f->comm, f->now, digest, &e) < 0) es_h5_fail(f, &e);
        ES_TRY(agree_sticky(f, err));
    }
    if (f->rank == 0) open_again(f);
    return agree_sticky(f, err);
}

/* link + rename: at every moment there is a whole file at path, if there was one before. */
static int keep_as(const char *path, const char *keep, struct es_err *err) {
    char tmp[PATH_MAX];
    snprintf(tmp, sizeof tmp, "%s.tmp-link", keep);
    unlink(tmp);
    if (link(path, tmp) != 0) {
        if (errno == ENOENT) return 0;         /* nothing there yet */
        if (rename(path, keep) == 0) return 0; /* a file system without hard links */
        return es_err_set(err, ES_EIO, "%s: cannot keep as %s: %s", path, keep, strerror(errno));
    }
    int rc = 0;
    if (rename(tmp, keep) != 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot rename to %s: %s", tmp, keep, strerror(errno));
    unlink(tmp); /* rename does nothing when both names are the same file */
    return rc;
}

static int put_in_place(const struct es_h5 *f, const char *keep, struct es_err *err) {
    char dir[PATH_MAX];
    const char *base;
    ES_TRY(es_h5_sync_path(f->now, err));
    if (keep) ES_TRY(keep_as(f->path, keep, err));
    if (es_fault_hit("rename"))
        return es_err_set(err, ES_EIO, "%s: cannot rename to %s (injected fault)", f->now, f->path);
    if (rename(f->now, f->path) != 0)
        return es_err_set(err, ES_EIO, "%s: cannot rename to %s: %s", f->now, f->path, strerror(errno));
    split_path(f->path, dir, sizeof dir, &base);
    return es_h5_sync_path(dir, err);
}

int es_h5_commit_all(struct es_h5 **fp, const char *keep, struct es_err *err) {
    struct es_h5 *f = *fp;
    ES_ASSERT(f->phase != H5_READING);
    struct es_err own = {0};
    if (!err) err = &own;
    int rc = 0;
    flush(f);
    close_file(f);
    ES_GO(agree_sticky(f, err));
    if (f->rank == 0) rc = put_in_place(f, keep, err);
    ES_GO(agree(f, rc, err));
    file_free(fp);
    return 0;
done:
    es_h5_close_all(fp);
    return rc;
}

void es_h5_close_all(struct es_h5 **fp) {
    struct es_h5 *f = *fp;
    if (!f) return;
    close_file(f);
    if (f->rank == 0 && !f->keep_part) unlink(f->now);
    file_free(fp);
}
