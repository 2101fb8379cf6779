/* Names of the subsets, and the write side of a store. */
#include "earshot/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/text.h"
#include "earshot/timer.h"

#define MARK_S 5.0 /* work that a crash may cost */

static const char *const subset_names[] = {
    "maestro",          "strong_real",  "synth",    "weak",    "unlabeled", "validation",
    "synth_validation", "maestro_test", "as_train", "as_eval", "public"};
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
    int64_t *length; /* [N] samples written by this rank or an earlier run, -1: not yet by either */
    int64_t *unmarked, n_unmarked; /* clips written by this rank whose length is not in the file yet */
    int64_t pcm_at, length_at;     /* bytes */
    double marked_s;
    char *part;
    int fd;
};

static void writer_free(struct es_store_writer **w) {
    if (!*w) return;
    if ((*w)->fd >= 0) close((*w)->fd);
    es_h5_close_all(&(*w)->h5);
    es_free(&(*w)->part);
    es_free(&(*w)->unmarked);
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

static void put_all(struct es_store_writer *w, uint64_t inputs) {
    const struct es_store_desc *d = w->desc;
    struct es_h5 *f = w->h5;
    int64_t n = d->n_clips, rows = n + 1, weak[2] = {n, d->n_classes};
    es_h5_attr_i64_all(f, "/", "sample_rate", ES_STORE_RATE_HZ);
    es_h5_attr_u64_all(f, "/", "digest", 0);
    es_h5_attr_u64_all(f, "/", "inputs", inputs);
    es_h5_make_all(f, "/audio/pcm", ES_H5_I16, 1, &w->offset[n]);
    es_h5_put_all(f, "/audio/offset", ES_H5_I64, 1, &rows, w->offset);
    es_h5_put_strings_all(f, "/clip/name", n, d->clip_name);
    es_h5_put_all(f, "/clip/subset", ES_H5_U8, 1, &n, d->subset);
    es_h5_put_all(f, "/clip/split", ES_H5_U8, 1, &n, d->split);
    es_h5_put_all(f, "/clip/length", ES_H5_I64, 1, &n, w->length);
    es_h5_put_all(f, "/clip/duration", ES_H5_F64, 1, &n, d->duration_s);
    es_h5_put_strings_all(f, "/clip/recording", n, d->recording);
    put_events(f, d);
    es_h5_put_all(f, "/weak", ES_H5_U8, 2, weak, d->weak);
    es_h5_put_strings_all(f, "/classes", d->n_classes, d->class_name);
}

/* Digest of what the store is made from: a part file goes on only with the same. */
static int inputs_digest(const struct es_store_desc *d, uint64_t *out, struct es_err *err) {
    struct es_hash *h = NULL;
    size_t n = (size_t)d->n_clips, K = (size_t)d->n_classes;
    ES_TRY(es_hash_new(&h, err));
    es_hash_update(h, &d->inputs, sizeof d->inputs);
    for (size_t k = 0; k < K; k++) es_hash_string(h, d->class_name[k]);
    for (size_t i = 0; i < n; i++) {
        es_hash_string(h, d->clip_name[i]);
        es_hash_string(h, d->recording[i]);
    }
    es_hash_update(h, d->subset, n);
    es_hash_update(h, d->split, n);
    es_hash_update(h, d->reserved, n * sizeof *d->reserved);
    es_hash_update(h, d->duration_s, n * sizeof *d->duration_s);
    es_hash_update(h, d->event_index, (n + 1) * sizeof *d->event_index);
    for (int64_t e = 0; e < d->event_index[n]; e++) { /* members one by one: padding has no value */
        es_hash_update(h, &d->event[e].onset_s, 2 * sizeof(double));
        es_hash_update(h, &d->event[e].label, sizeof d->event[e].label);
        es_hash_update(h, &d->event[e].confidence, sizeof d->event[e].confidence);
    }
    es_hash_update(h, d->weak, n * K);
    *out = es_hash_value(h);
    es_hash_free(&h);
    return 0;
}

/* Is the part file what inputs describe? Then its lengths are read. Called by one rank, on a file opened for reading. */
static bool continues(struct es_store_writer *w, uint64_t inputs) {
    struct es_h5 *f = NULL;
    uint64_t got = 0;
    bool same = es_h5_open(&f, w->part, "store", ES_STORE_VERSION, NULL) == 0 &&
                es_h5_attr_get_u64(f, "/", "inputs", &got, NULL) == 0 && got == inputs &&
                es_h5_read(f, "/clip/length", ES_H5_I64, w->desc->n_clips, w->length, NULL) == 0;
    es_h5_close(&f);
    for (int64_t i = 0; same && i < w->desc->n_clips; i++)
        same = w->length[i] >= -1 && w->length[i] <= w->desc->reserved[i];
    return same;
}

static int writer_new(struct es_store_writer **out, const struct es_comm *comm, const char *path,
                      const struct es_store_desc *desc, struct es_err *err) {
    struct es_store_writer *w = *out = es_alloc(1, sizeof *w, err);
    size_t n = (size_t)desc->n_clips, n_part = strlen(path) + 6;
    if (!w) return -ES_EIO;
    w->fd = -1;
    w->comm = comm;
    w->desc = desc;
    w->offset = es_alloc(n + 1, sizeof *w->offset, err);
    w->length = es_alloc(n, sizeof *w->length, err);
    w->unmarked = es_alloc(n, sizeof *w->unmarked, err);
    w->part = es_alloc(n_part, 1, err);
    if (!w->offset || !w->length || !w->unmarked || !w->part) return -ES_EIO;
    snprintf(w->part, n_part, "%s.part", path);
    for (size_t i = 0; i < n; i++) {
        w->offset[i + 1] = w->offset[i] + desc->reserved[i];
        w->length[i] = -1;
    }
    return 0;
}

/* After a failure nothing stays behind. */
static void give_up(struct es_store_writer **w) {
    if (!*w) return;
    if ((*w)->part && es_comm_rank((*w)->comm) == 0) unlink((*w)->part);
    writer_free(w);
}

int es_store_create_all(struct es_store_writer **out, const struct es_comm *comm, const char *path,
                        const struct es_store_desc *desc, struct es_err *err) {
    struct es_err own = {0};
    uint64_t inputs = 0;
    int64_t resume = 0, n = desc->n_clips, n_done = 0;
    if (!err) err = &own;
    int rc = writer_new(out, comm, path, desc, err);
    struct es_store_writer *w = *out;
    if (rc == 0) rc = inputs_digest(desc, &inputs, err);
    ES_GO(es_err_agree_all(comm, rc, err));
    if (es_comm_rank(comm) == 0 && access(w->part, F_OK) == 0) {
        resume = continues(w, inputs);
        if (!resume) {
            es_log(ES_LOG_WARN, "%s: damaged or of other inputs: starting anew", w->part);
            for (int64_t i = 0; i < n; i++) w->length[i] = -1;
        }
    }
    es_comm_bcast_all(comm, &resume, sizeof resume, 0);
    if (resume) {
        es_comm_bcast_all(comm, w->length, (size_t)n * sizeof *w->length, 0);
        for (int64_t i = 0; i < n; i++) n_done += w->length[i] >= 0;
        es_log(ES_LOG_INFO, "%s: continued, %lld of %lld clips are there", w->part, (long long)n_done,
               (long long)n);
        ES_GO(es_h5_resume_part_all(&w->h5, comm, path, err));
    } else {
        ES_GO(es_h5_create_part_all(&w->h5, comm, path, "store", ES_STORE_VERSION, err));
        put_all(w, inputs);
        ES_GO(
            es_h5_flush_all(w->h5, err)); /* the layout is on disk: from now on a kill leaves a sound file */
    }
    w->pcm_at = es_h5_offset_all(w->h5, "/audio/pcm");
    w->length_at = es_h5_offset_all(w->h5, "/clip/length");
    w->marked_s = es_now_s();
    w->fd = open(es_h5_path_now(w->h5), O_WRONLY);
    if (w->fd < 0)
        rc = es_err_set(err, ES_EIO, "%s: cannot open: %s", es_h5_path_now(w->h5), strerror(errno));
    if ((w->pcm_at < 0 && w->offset[n] > 0) || (w->length_at < 0 && n > 0))
        rc = es_err_set(err, ES_EBUG, "%s: data sets without an offset", path);
    ES_GO(es_err_agree_all(comm, rc, err));
done:
    if (rc < 0) give_up(out);
    return rc;
}

bool es_store_done(const struct es_store_writer *w, int64_t clip) {
    return w->length[clip] >= 0;
}

static int cannot_write(const struct es_store_writer *w, struct es_err *err) {
    return es_err_set(err, ES_EIO, "%s: cannot write: %s", es_h5_path(w->h5), strerror(errno));
}

/* First the samples reach the disk, then the lengths, which say that they are there. */
static int mark(struct es_store_writer *w, struct es_err *err) {
    if (w->n_unmarked > 0 && fsync(w->fd) != 0) return cannot_write(w, err);
    for (int64_t i = 0; i < w->n_unmarked; i++) {
        int64_t clip = w->unmarked[i], at = w->length_at + clip * (int64_t)sizeof *w->length;
        if (es_pwrite(w->fd, &w->length[clip], sizeof *w->length, at) != 0) return cannot_write(w, err);
    }
    w->n_unmarked = 0;
    w->marked_s = es_now_s();
    return 0;
}

int es_store_write_pcm(struct es_store_writer *w, int64_t clip, const int16_t *pcm, int64_t n,
                       struct es_err *err) {
    ES_ASSERT(clip >= 0 && clip < w->desc->n_clips && n >= 0 && w->length[clip] < 0);
    if (n > w->desc->reserved[clip])
        return es_err_set(err, ES_EDATA, "clip %s: %lld samples, its header promised %lld",
                          w->desc->clip_name[clip], (long long)n, (long long)w->desc->reserved[clip]);
    int64_t at = w->pcm_at + w->offset[clip] * (int64_t)sizeof *pcm;
    es_fault_here("store");
    if (es_fault_hit("write"))
        return es_err_set(err, ES_EIO, "%s: cannot write (injected fault)", es_h5_path(w->h5));
    if (es_pwrite(w->fd, pcm, (size_t)n * sizeof *pcm, at) != 0) return cannot_write(w, err);
    w->length[clip] = n;
    w->unmarked[w->n_unmarked++] = clip;
    return es_now_s() - w->marked_s > MARK_S ? mark(w, err) : 0;
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
    if (rc >= 0) { /* marks also when the job was stopped */
        int marked = mark(w, err);
        if (marked < 0) rc = marked;
    }
    ES_GO(es_err_agree_all(w->comm, rc, err));
    if (rc > 0) {
        writer_free(out);
        return rc;
    }
    ES_GO(gather_lengths(w, err)); /* the same result on all ranks */
    es_h5_write_rows_all(w->h5, "/clip/length", ES_H5_I64, 0,
                         es_comm_rank(w->comm) == 0 ? w->desc->n_clips : 0, w->length);
    ES_GO(es_h5_seal_all(w->h5, &value, err));
    es_h5_attr_u64_all(w->h5, "/", "digest", value);
    ES_GO(es_h5_commit_all(&w->h5, NULL, err));
    if (digest) *digest = value;
    writer_free(out);
    return 0;
done:
    give_up(out);
    return rc;
}
