#include "earshot/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/text.h"
#include "earshot/timer.h"

enum { CHUNK_BYTES = 32 << 20 };

struct stage {
    const char *path, *dir, *out; /* store, folder, copy */
    char part[PATH_MAX];          /* while it is copied */
    int in, to;
    struct {
        uint64_t digest;
        int64_t bytes;
    } want;
    void *buffer;
};

/* Rank 0: what the copy must be. */
static int look(struct stage *s, struct es_err *err) {
    struct es_h5 *f = NULL;
    struct stat st;
    int rc = es_h5_open(&f, s->path, "store", ES_STORE_VERSION, err);
    if (rc == 0) rc = es_h5_attr_get_u64(f, "/", "digest", &s->want.digest, err);
    es_h5_close(&f);
    if (rc == 0 && stat(s->path, &st) != 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot open: %s", s->path, strerror(errno));
    if (rc == 0) s->want.bytes = (int64_t)st.st_size;
    return rc;
}

static int name_copy(const struct stage *s, char *out, size_t bytes, struct es_err *err) {
    const char *slash = strrchr(s->path, '/'), *stem = slash ? slash + 1 : s->path, *dot = strrchr(stem, '.');
    char hex[17];
    es_hash_hex(s->want.digest, hex);
    int n =
        snprintf(out, bytes, "%s/%.*s-%s.h5", s->dir, dot ? (int)(dot - stem) : (int)strlen(stem), stem, hex);
    return n > 0 && (size_t)n < bytes ? 0
                                      : es_err_set(err, ES_EUSAGE, "data.stage_dir: %s: too long", s->dir);
}

static bool is_whole(const struct stage *s) {
    struct stat st;
    return stat(s->out, &st) == 0 && (int64_t)st.st_size == s->want.bytes;
}

/* Is the file at path what the store says it is? Collective over the node. 0, or ES_EDATA. */
static int check_all(const struct stage *s, const struct es_comm *node, const char *path,
                     struct es_err *err) {
    uint64_t got = 0;
    char is[17], want[17];
    ES_TRY(es_h5_digest_all(node, path, &got, err));
    if (got == s->want.digest) return 0;
    es_hash_hex(got, is);
    es_hash_hex(s->want.digest, want);
    return es_err_set(err, ES_EDATA,
                      "%s: copy of %s: digest: got %s, want %s; the store or the disk is damaged", path,
                      s->path, is, want);
}

static int cannot_write(const struct stage *s, struct es_err *err) {
    return es_err_set(err, ES_EIO, "data.stage_dir: %s: cannot write a copy of %s (%.3g GB): %s", s->part,
                      s->path, (double)s->want.bytes / 1e9, strerror(errno));
}

static int begin_copy(struct stage *s, struct es_err *err) {
    snprintf(s->part, sizeof s->part, "%s.tmp-%ld", s->out, (long)getpid());
    if (mkdir(s->dir, 0777) != 0 && errno != EEXIST) return cannot_write(s, err);
    s->in = open(s->path, O_RDONLY);
    if (s->in < 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", s->path, strerror(errno));
    s->to = open(s->part, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (s->to < 0) return cannot_write(s, err);
    s->buffer = es_alloc(CHUNK_BYTES, 1, err);
    return s->buffer ? 0 : -ES_EIO;
}

static int copy_chunk(struct stage *s, int64_t at, struct es_err *err) {
    int64_t n = s->want.bytes - at < CHUNK_BYTES ? s->want.bytes - at : CHUNK_BYTES;
    for (int64_t have = 0; have < n;) {
        ssize_t got = pread(s->in, (char *)s->buffer + have, (size_t)(n - have), (off_t)(at + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return es_err_set(err, ES_EIO, "%s: cannot read: %s", s->path,
                              got < 0 ? strerror(errno) : "it became shorter");
        have += got;
    }
    if (es_fault_hit("stage")) {
        errno = ENOSPC;
        return cannot_write(s, err);
    }
    if (es_pwrite(s->to, s->buffer, (size_t)n, at) != 0) return cannot_write(s, err);
    return at + n == s->want.bytes && fsync(s->to) != 0 ? cannot_write(s, err) : 0;
}

static void end_copy(struct stage *s, bool failed) {
    es_free(&s->buffer);
    if (s->to >= 0 && close(s->to) == 0 && failed) unlink(s->part);
    if (s->in >= 0) close(s->in);
    s->to = s->in = -1;
}

/* mine: this rank copies. All ranks take part, so that an error ends them all and the watchdog sees progress. */
static int copy_all(struct stage *s, const struct es_comm *comm, bool mine, struct es_err *err) {
    struct es_progress progress = {0};
    int rc;
    ES_GO(es_err_agree_all(comm, mine ? begin_copy(s, err) : 0, err));
    es_progress_begin(&progress, "stage");
    for (int64_t at = 0; at < s->want.bytes; at += CHUNK_BYTES) {
        es_watchdog_kick("stage", at / CHUNK_BYTES);
        ES_GO(es_err_agree_all(comm, mine ? copy_chunk(s, at, err) : 0, err));
        es_progress_update(&progress, (at + CHUNK_BYTES) >> 20, s->want.bytes >> 20, "MB", NULL);
    }
done:
    es_progress_end(&progress);
    return rc;
}

static int rename_copy(const struct stage *s, struct es_err *err) {
    if (rename(s->part, s->out) != 0) return cannot_write(s, err);
    return es_h5_sync_path(s->dir, err);
}

static int stage_node_all(struct stage *s, const struct es_comm *comm, const struct es_comm *node,
                          struct es_err *err) {
    bool first = es_comm_rank(node) == 0;
    int64_t have = first && is_whole(s);
    int rc;
    es_comm_bcast_all(node, &have, sizeof have, 0);
    if (have) {
        struct es_err why = {0};
        if (check_all(s, node, s->out, &why) < 0) {
            if (first) es_log_rank(ES_LOG_WARN, "%s; copied again", why.msg);
            have = 0;
        }
    }
    if (es_comm_min_all(comm, have)) return 0;
    bool mine = first && !have;
    double begin_s = es_now_s();
    ES_GO(copy_all(s, comm, mine, err));
    es_comm_bcast_all(node, s->part, sizeof s->part, 0);
    es_watchdog_kick("stage: check", 0);
    ES_GO(es_err_agree_all(comm, have ? 0 : check_all(s, node, s->part, err), err));
    rc = es_err_agree_all(comm, mine ? rename_copy(s, err) : 0, err);
    es_log(ES_LOG_INFO, "stage %s: copied to %s, %.3g GB in %.1f s", s->path, s->dir,
           (double)s->want.bytes / 1e9, es_now_s() - begin_s);
done:
    if (mine) end_copy(s, rc < 0);
    return rc;
}

int es_stage_all(const struct es_comm *comm, const char *path, const char *dir, char *out, size_t bytes,
                 struct es_err *err) {
    struct es_err own = {0};
    struct stage s = {.path = path, .dir = dir, .out = out, .in = -1, .to = -1};
    struct es_comm *node = NULL;
    if (!err) err = &own;
    int rc = es_comm_rank(comm) == 0 ? look(&s, err) : 0;
    ES_GO(es_err_agree_all(comm, rc, err));
    es_comm_bcast_all(comm, &s.want, sizeof s.want, 0);
    ES_GO(name_copy(&s, out, bytes, err)); /* the same on all ranks */
    ES_GO(es_comm_split_node_all(&node, comm, err));
    rc = stage_node_all(&s, comm, node, err);
done:
    es_comm_free_all(&node);
    return rc;
}

int es_stage_open_all(struct es_store **s, const struct es_comm *comm, const char *path, const char *dir,
                      struct es_err *err) {
    char local[PATH_MAX];
    if (dir && dir[0]) {
        ES_TRY(es_stage_all(comm, path, dir, local, sizeof local, err));
        path = local;
    }
    return es_store_open_all(s, comm, path, err);
}
