/* Names of the subsets, and the write side of a store. */
#include "earshot/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/mem.h"

static const char *const subset_names[] = {
    "maestro",    "strong_real",      "synth",        "weak",     "unlabeled",
    "validation", "synth_validation", "maestro_test", "as_train", "as_eval"};
_Static_assert(sizeof subset_names / sizeof *subset_names == ES_N_SUBSETS, "a name for every subset");

const char *es_subset_name(enum es_subset subset) {
    return subset_names[subset];
}
int es_subset_from_name(const char *name) {
    for (int i = 0; i < ES_N_SUBSETS; i++)
        if (strcmp(name, subset_names[i]) == 0) return i;
    return -1;
}

struct es_store_writer {
    struct es_h5 *h5;
    const struct es_comm *comm;
    const struct es_store_desc *desc;
    int64_t *offset; /* [N+1] samples */
    int64_t *length; /* [N] samples written by this rank, -1: not by this rank */
    int64_t pcm_at;  /* bytes */
    int fd;
};

static void writer_free(struct es_store_writer **w) {
    if (!*w) return;
    if ((*w)->fd >= 0) close((*w)->fd);
    es_h5_close_all(&(*w)->h5);
    es_free(&(*w)->length);
    es_free(&(*w)->offset);
    es_free(w);
}

/* Events as columns. */
static void put_events(struct es_h5 *f, const struct es_store_desc *d) {
    int64_t n = d->event_index[d->n_clips], rows = d->n_clips + 1;
    struct es_err e = {0};
    double *onset = es_alloc((size_t)n, sizeof *onset, &e), *offset = es_alloc((size_t)n, sizeof *offset, &e);
    int32_t *label = es_alloc((size_t)n, sizeof *label, &e);
    float *confidence = es_alloc((size_t)n, sizeof *confidence, &e);
    if (!onset || !offset || !label || !confidence) {
        es_h5_fail(f, &e);
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        onset[i] = d->event[i].onset_s;
        offset[i] = d->event[i].offset_s;
        label[i] = d->event[i].label;
        confidence[i] = d->event[i].confidence;
    }
    es_h5_put_all(f, "/events/onset", ES_H5_F64, 1, &n, onset);
    es_h5_put_all(f, "/events/offset", ES_H5_F64, 1, &n, offset);
    es_h5_put_all(f, "/events/label", ES_H5_I32, 1, &n, label);
    es_h5_put_all(f, "/events/confidence", ES_H5_F32, 1, &n, confidence);
    es_h5_put_all(f, "/events/index", ES_H5_I64, 1, &rows, d->event_index);
done:
    es_free(&confidence);
    es_free(&label);
    es_free(&offset);
    es_free(&onset);
}

static void put_all(struct es_store_writer *w) {
    const struct es_store_desc *d = w->desc;
    struct es_h5 *f = w->h5;
    int64_t n = d->n_clips, rows = n + 1, weak[2] = {n, d->n_classes};
    es_h5_attr_i64_all(f, "/", "sample_rate", ES_STORE_RATE_HZ);
    es_h5_attr_u64_all(f, "/", "digest", 0);
    es_h5_make_all(f, "/audio/pcm", ES_H5_I16, 1, &w->offset[n]);
    es_h5_put_all(f, "/audio/offset", ES_H5_I64, 1, &rows, w->offset);
    es_h5_put_strings_all(f, "/clip/name", n, d->clip_name);
    es_h5_put_all(f, "/clip/subset", ES_H5_U8, 1, &n, d->subset);
    es_h5_put_all(f, "/clip/split", ES_H5_U8, 1, &n, d->split);
    es_h5_make_all(f, "/clip/length", ES_H5_I64, 1, &n);
    es_h5_put_all(f, "/clip/duration", ES_H5_F64, 1, &n, d->duration_s);
    es_h5_put_strings_all(f, "/clip/recording", n, d->recording);
    put_events(f, d);
    es_h5_put_all(f, "/weak", ES_H5_U8, 2, weak, d->weak);
    es_h5_put_strings_all(f, "/classes", d->n_classes, d->class_name);
}

int es_store_create_all(struct es_store_writer **out, const struct es_comm *comm, const char *path,
                        const struct es_store_desc *desc, struct es_err *err) {
    struct es_err own = {0};
    if (!err) err = &own;
    int rc = 0;
    struct es_store_writer *w = *out = es_alloc(1, sizeof *w, err);
    if (w) {
        w->fd = -1;
        w->comm = comm;
        w->desc = desc;
        w->offset = es_alloc((size_t)desc->n_clips + 1, sizeof *w->offset, err);
        w->length = es_alloc((size_t)desc->n_clips, sizeof *w->length, err);
    }
    if (!w || !w->offset || !w->length) rc = -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    for (int64_t i = 0; i < desc->n_clips; i++) {
        w->offset[i + 1] = w->offset[i] + desc->reserved[i];
        w->length[i] = -1;
    }
    ES_GO(es_h5_create_all(&w->h5, comm, path, "store", ES_STORE_VERSION, err));
    put_all(w);
    ES_GO(es_h5_flush_all(w->h5, err)); /* the file on disk has its layout before anyone writes beside HDF5 */
    w->pcm_at = es_h5_offset_all(w->h5, "/audio/pcm");
    w->fd = open(es_h5_path_now(w->h5), O_WRONLY);
    if (w->fd < 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot open: %s", es_h5_path_now(w->h5), strerror(errno));
    if (w->pcm_at < 0 && w->offset[desc->n_clips] > 0)
        rc = es_err_set(err, ES_EBUG, "%s:/audio/pcm: no offset", path);
    ES_GO(es_err_agree_all(comm, rc, err));
done:
    if (rc < 0) writer_free(out);
    return rc;
}

int es_store_write_pcm(struct es_store_writer *w, int64_t clip, const int16_t *pcm, int64_t n,
                       struct es_err *err) {
    ES_ASSERT(clip >= 0 && clip < w->desc->n_clips && n >= 0 && w->length[clip] < 0);
    if (n > w->desc->reserved[clip])
        return es_err_set(err, ES_EDATA, "clip %s: %lld samples, its header promised %lld",
                          w->desc->clip_name[clip], (long long)n, (long long)w->desc->reserved[clip]);
    const char *from = (const char *)pcm;
    size_t left = (size_t)n * sizeof *pcm;
    off_t at = (off_t)(w->pcm_at + w->offset[clip] * (int64_t)sizeof *pcm);
    if (es_fault_hit("write"))
        return es_err_set(err, ES_EIO, "%s: cannot write (injected fault)", es_h5_path(w->h5));
    while (left > 0) {
        ssize_t done = pwrite(w->fd, from, left, at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return es_err_set(err, ES_EIO, "%s: cannot write: %s", es_h5_path(w->h5), strerror(errno));
        from += done;
        at += done;
        left -= (size_t)done;
    }
    w->length[clip] = n;
    return 0;
}

/* Every rank learns all lengths; a clip that nobody wrote is a bug of the caller. */
static int gather_lengths(struct es_store_writer *w, struct es_err *err) {
    int size = es_comm_size(w->comm);
    enum { CHUNK = 16384 };
    int64_t *all = es_alloc((size_t)size * CHUNK, sizeof *all, err);
    int rc = es_err_agree_all(w->comm, all ? 0 : -ES_EIO, err);
    if (rc < 0) goto done;
    for (int64_t at = 0; at < w->desc->n_clips; at += CHUNK) {
        int64_t n = w->desc->n_clips - at < CHUNK ? w->desc->n_clips - at : CHUNK;
        es_comm_allgather_all(w->comm, w->length + at, (size_t)n * sizeof *all, all);
        for (int64_t i = 0; i < n; i++) {
            int64_t *length = &w->length[at + i];
            for (int r = 0; r < size; r++)
                if (all[r * n + i] > *length) *length = all[r * n + i];
            if (*length < 0 && rc == 0)
                rc = es_err_set(err, ES_EBUG, "clip %s: its samples were not written",
                                w->desc->clip_name[at + i]);
        }
    }
done:
    es_free(&all);
    return rc;
}

int es_store_commit_all(struct es_store_writer **out, int rc, uint64_t *digest, struct es_err *err) {
    struct es_store_writer *w = *out;
    struct es_err own = {0};
    uint64_t value = 0;
    if (!err) err = &own;
    ES_GO(es_err_agree_all(w->comm, rc, err));
    rc = fsync(w->fd) != 0
             ? es_err_set(err, ES_EIO, "%s: cannot write: %s", es_h5_path(w->h5), strerror(errno))
             : 0;
    ES_GO(es_err_agree_all(w->comm, rc, err));
    ES_GO(gather_lengths(w, err)); /* the same result on all ranks */
    es_h5_write_rows_all(w->h5, "/clip/length", ES_H5_I64, 0,
                         es_comm_rank(w->comm) == 0 ? w->desc->n_clips : 0, w->length);
    ES_GO(es_h5_seal_all(w->h5, &value, err));
    es_h5_attr_u64_all(w->h5, "/", "digest", value);
    ES_GO(es_h5_commit_all(&w->h5, NULL, err));
    if (digest) *digest = value;
done:
    writer_free(out);
    return rc;
}
