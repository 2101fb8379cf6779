/* The read side of a store. */
#include "earshot/store.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/mem.h"

struct es_store {
    struct es_h5 *h5; /* kept open for layouts that pread cannot serve */
    int fd;           /* -1: read through HDF5 */
    int64_t pcm_at;   /* bytes */
    int64_t n_clips, n_events;
    int n_classes;
    uint64_t digest;
    struct es_h5_names classes, names, recordings;
    uint8_t *subset, *split, *weak;
    int64_t *offset, *length, *index;
    double *duration_s;
    struct es_event *event;
};

void es_store_close(struct es_store **s) {
    if (!*s) return;
    if ((*s)->fd >= 0) close((*s)->fd);
    es_h5_close(&(*s)->h5);
    es_h5_names_free(&(*s)->classes);
    es_h5_names_free(&(*s)->names);
    es_h5_names_free(&(*s)->recordings);
    es_free(&(*s)->subset);
    es_free(&(*s)->split);
    es_free(&(*s)->weak);
    es_free(&(*s)->offset);
    es_free(&(*s)->length);
    es_free(&(*s)->index);
    es_free(&(*s)->duration_s);
    es_free(&(*s)->event);
    es_free(s);
}

/* A column of n values into a new block. */
static int column(const struct es_store *s, const char *name, enum es_h5_type type, int64_t n, void *out,
                  struct es_err *err) {
    struct es_h5_info info;
    void *block = NULL;
    ES_TRY(es_h5_read_new(s->h5, name, type, &block, &info, err));
    memcpy(out, &block, sizeof block);
    return info.n == n ? 0
                       : es_err_set(err, ES_EDATA, "%s:%s: %lld values, want %lld", es_h5_path(s->h5), name,
                                    (long long)info.n, (long long)n);
}

static int read_events(struct es_store *s, struct es_err *err) {
    double *onset = NULL, *offset = NULL;
    int32_t *label = NULL;
    float *confidence = NULL;
    int rc;
    s->n_events = s->index[s->n_clips];
    ES_GO(column(s, "/events/onset", ES_H5_F64, s->n_events, &onset, err));
    ES_GO(column(s, "/events/offset", ES_H5_F64, s->n_events, &offset, err));
    ES_GO(column(s, "/events/label", ES_H5_I32, s->n_events, &label, err));
    ES_GO(column(s, "/events/confidence", ES_H5_F32, s->n_events, &confidence, err));
    s->event = es_alloc((size_t)s->n_events, sizeof *s->event, err);
    if (!s->event) ES_GO(-ES_EIO);
    for (int64_t i = 0; i < s->n_events; i++) {
        s->event[i] = (struct es_event){onset[i], offset[i], label[i], confidence[i]};
        if (!isfinite(onset[i]) || !isfinite(offset[i]) || label[i] < 0 || label[i] >= s->n_classes)
            ES_GO(es_err_set(
                err, ES_EDATA,
                "%s:/events: row %lld: onset %g, offset %g, label %d, want finite times and a label below %d",
                es_h5_path(s->h5), (long long)i, onset[i], offset[i], label[i], s->n_classes));
    }
done:
    es_free(&confidence);
    es_free(&label);
    es_free(&offset);
    es_free(&onset);
    return rc;
}

static int check(const struct es_store *s, int64_t n_samples, struct es_err *err) {
    const char *path = es_h5_path(s->h5);
    int64_t n = s->n_clips;
    if (s->offset[0] != 0 || s->offset[n] != n_samples || s->index[0] != 0)
        return es_err_set(err, ES_EDATA, "%s: /audio/offset or /events/index does not fit the data", path);
    for (int64_t i = 0; i < n; i++) {
        if (s->offset[i] > s->offset[i + 1] || s->index[i] > s->index[i + 1] || s->length[i] < 0 ||
            s->length[i] > s->offset[i + 1] - s->offset[i] || s->subset[i] >= ES_N_SUBSETS || s->split[i] > 1)
            return es_err_set(err, ES_EDATA,
                              "%s: clip %lld (%s): offset, length, events or subset make no sense", path,
                              (long long)i, s->names.name[i]);
    }
    return 0;
}

/* Where the samples are, for pread; through HDF5 if the layout is not the plain one. */
static int open_pcm(struct es_store *s, int64_t *n_samples, struct es_err *err) {
    struct es_h5_info info;
    ES_TRY(es_h5_info(s->h5, "/audio/pcm", &info, err));
    *n_samples = info.n;
    s->fd = -1;
    s->pcm_at = info.offset;
    if (info.n == 0 || info.offset < 0 || info.type != ES_H5_I16) return 0;
    s->fd = open(es_h5_path(s->h5), O_RDONLY);
    return s->fd < 0 ? es_err_set(err, ES_EIO, "%s: cannot open: %s", es_h5_path(s->h5), strerror(errno)) : 0;
}

int es_store_open(struct es_store **out, const char *path, struct es_err *err) {
    int rc = 0;
    int64_t n_samples = 0;
    struct es_store *s = *out = es_alloc(1, sizeof *s, err);
    if (!s) return -ES_EIO;
    s->fd = -1;
    ES_GO(es_h5_open(&s->h5, path, "store", ES_STORE_VERSION, err));
    ES_GO(es_h5_attr_get_u64(s->h5, "/", "digest", &s->digest, err));
    ES_GO(es_h5_read_strings(s->h5, "/classes", &s->classes, err));
    ES_GO(es_h5_read_strings(s->h5, "/clip/name", &s->names, err));
    ES_GO(es_h5_read_strings(s->h5, "/clip/recording", &s->recordings, err));
    int64_t n = s->n_clips = s->names.n;
    s->n_classes = es_int_from_i64(s->classes.n);
    if (s->recordings.n != n)
        ES_GO(es_err_set(err, ES_EDATA, "%s:/clip/recording: %lld rows, want %lld", path,
                         (long long)s->recordings.n, (long long)n));
    ES_GO(column(s, "/clip/subset", ES_H5_U8, n, &s->subset, err));
    ES_GO(column(s, "/clip/split", ES_H5_U8, n, &s->split, err));
    ES_GO(column(s, "/clip/length", ES_H5_I64, n, &s->length, err));
    ES_GO(column(s, "/clip/duration", ES_H5_F64, n, &s->duration_s, err));
    ES_GO(column(s, "/audio/offset", ES_H5_I64, n + 1, &s->offset, err));
    ES_GO(column(s, "/events/index", ES_H5_I64, n + 1, &s->index, err));
    ES_GO(column(s, "/weak", ES_H5_U8, n * s->n_classes, &s->weak, err));
    ES_GO(open_pcm(s, &n_samples, err));
    ES_GO(check(s, n_samples, err));
    ES_GO(read_events(s, err));
done:
    if (rc < 0) es_store_close(out);
    return rc;
}

int es_store_open_all(struct es_store **s, const struct es_comm *comm, const char *path, struct es_err *err) {
    struct es_err own = {0};
    if (!err) err = &own;
    int rc = es_err_agree_all(comm, es_store_open(s, path, err), err);
    if (rc == 0) {
        uint64_t first = es_store_digest(*s);
        es_comm_bcast_all(comm, &first, sizeof first, 0);
        if (first != es_store_digest(*s))
            rc = es_err_set(err, ES_EDATA, "%s: not the same file on all nodes (another digest than rank 0)",
                            path);
        rc = es_err_agree_all(comm, rc, err);
    }
    if (rc < 0) es_store_close(s);
    return rc;
}

const char *es_store_path(const struct es_store *s) {
    return es_h5_path(s->h5);
}
uint64_t es_store_digest(const struct es_store *s) {
    return s->digest;
}
int64_t es_store_n_clips(const struct es_store *s) {
    return s->n_clips;
}
int es_store_n_classes(const struct es_store *s) {
    return s->n_classes;
}
const char *const *es_store_classes(const struct es_store *s) {
    return (const char *const *)s->classes.name;
}

int64_t es_store_count(const struct es_store *s, enum es_subset subset, int split) {
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_clips; i++)
        n += s->subset[i] == subset && (split < 0 || s->split[i] == split);
    return n;
}

static int64_t row(const struct es_store *s, int64_t clip) {
    ES_ASSERT(clip >= 0 && clip < s->n_clips);
    return clip;
}

const char *es_store_name(const struct es_store *s, int64_t clip) {
    return s->names.name[row(s, clip)];
}
const char *es_store_recording(const struct es_store *s, int64_t clip) {
    return s->recordings.name[row(s, clip)];
}
enum es_subset es_store_subset(const struct es_store *s, int64_t clip) {
    return (enum es_subset)s->subset[row(s, clip)];
}
int es_store_split(const struct es_store *s, int64_t clip) {
    return s->split[row(s, clip)];
}
int64_t es_store_length(const struct es_store *s, int64_t clip) {
    return s->length[row(s, clip)];
}
double es_store_duration(const struct es_store *s, int64_t clip) {
    return s->duration_s[row(s, clip)];
}
const uint8_t *es_store_weak(const struct es_store *s, int64_t clip) {
    return s->weak + row(s, clip) * s->n_classes;
}

const struct es_event *es_store_events(const struct es_store *s, int64_t clip, int *n) {
    *n = es_int_from_i64(s->index[row(s, clip) + 1] - s->index[clip]);
    return s->event + s->index[clip];
}

bool es_store_is_direct(const struct es_store *s) {
    return s->fd >= 0;
}

int es_store_read_pcm(const struct es_store *s, int64_t clip, int64_t start, int64_t n, int16_t *pcm,
                      struct es_err *err) {
    ES_ASSERT(start >= 0 && n >= 0 && start + n <= s->length[row(s, clip)]);
    int64_t first = s->offset[clip] + start;
    if (s->fd < 0) return n ? es_h5_read_rows(s->h5, "/audio/pcm", ES_H5_I16, first, n, pcm, err) : 0;
    if (es_fault_hit("read"))
        return es_err_set(err, ES_EIO, "%s: cannot read (injected fault)", es_store_path(s));
    char *to = (char *)pcm;
    size_t left = (size_t)n * sizeof *pcm;
    off_t at = (off_t)(s->pcm_at + first * (int64_t)sizeof *pcm);
    while (left > 0) {
        ssize_t got = pread(s->fd, to, left, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return es_err_set(err, ES_EIO, "%s: cannot read clip %s: %s", es_store_path(s),
                              es_store_name(s, clip), strerror(errno));
        if (got == 0)
            return es_err_set(err, ES_EDATA, "%s: cut short in clip %s", es_store_path(s),
                              es_store_name(s, clip));
        to += got;
        at += got;
        left -= (size_t)got;
    }
    return 0;
}
