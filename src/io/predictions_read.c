/* Predictions: the read side. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"
#include "earshot/tsv.h"

struct es_predictions {
    struct es_h5 *h5;
    int fd; /* -1: through HDF5 */
    int64_t at;
    struct es_h5_info info;
    bool half; /* float16, class-major */
    int n_frames, n_classes;
    struct es_h5_names names, classes;
    struct es_names *row;
    int64_t *first; /* row of each distinct name */
    uint64_t store_digest;
};

void es_predictions_close(struct es_predictions **p) {
    if (!*p) return;
    if ((*p)->fd >= 0) close((*p)->fd);
    es_free(&(*p)->first);
    es_names_free(&(*p)->row);
    es_h5_names_free(&(*p)->classes);
    es_h5_names_free(&(*p)->names);
    es_h5_close(&(*p)->h5);
    es_free(p);
}

static int index_names(struct es_predictions *p, struct es_err *err) {
    p->first = es_alloc((size_t)p->names.n, sizeof *p->first, err);
    if (!p->first) return -ES_EIO;
    ES_TRY(es_names_new(&p->row, err));
    for (int64_t i = 0; i < p->names.n; i++) {
        int64_t before = es_names_count(p->row), at = es_names_add(p->row, p->names.name[i], err);
        if (at < 0) return -ES_EIO;
        if (es_names_count(p->row) > before) p->first[at] = i;
    }
    return 0;
}

/* A part file under a final name: a half-written file is never taken for a whole one. */
static int check_done(const struct es_h5 *f, struct es_err *err) {
    struct es_h5_info info;
    void *done = NULL;
    if (!es_h5_has(f, "/done")) return 0;
    ES_TRY(es_h5_read_new(f, "/done", ES_H5_U8, &done, &info, err));
    int rc = 0;
    if (info.n && memchr(done, 0, (size_t)info.n))
        rc = es_err_set(err, ES_EDATA,
                        "%s: unfinished predictions; run earshot predict again to complete them",
                        es_h5_path(f));
    es_free(&done);
    return rc;
}

int es_predictions_open(struct es_predictions **out, const char *path, struct es_err *err) {
    int rc;
    struct es_predictions *p = *out = es_alloc(1, sizeof *p, err);
    if (!p) return -ES_EIO;
    p->fd = -1;
    ES_GO(es_h5_open(&p->h5, path, NULL, 0, err));
    ES_GO(es_h5_info(p->h5, "/strong_logits", &p->info, err));
    ES_GO(es_h5_read_strings(p->h5, "/filenames", &p->names, err));
    p->half = p->info.type == ES_H5_F16;
    if (p->info.ndim != 3 || (!p->half && p->info.type != ES_H5_F32 && p->info.type != ES_H5_F64))
        ES_GO(es_err_set(err, ES_EDATA,
                         "%s:/strong_logits: %d dimensions of %s, want 3 of float32 or float16", path,
                         p->info.ndim, es_h5_type_name(p->info.type)));
    if (p->info.dim[0] != p->names.n)
        ES_GO(es_err_set(err, ES_EDATA, "%s:/strong_logits: %lld rows, but %lld filenames", path,
                         (long long)p->info.dim[0], (long long)p->names.n));
    if (p->info.dim[1] > 1 << 24 || p->info.dim[2] > 1 << 24)
        ES_GO(es_err_set(err, ES_EDATA, "%s:/strong_logits: %lld x %lld values a clip make no sense", path,
                         (long long)p->info.dim[1], (long long)p->info.dim[2]));
    ES_GO(check_done(p->h5, err));
    p->n_frames = es_int_from_i64(p->info.dim[p->half ? 2 : 1]);
    p->n_classes = es_int_from_i64(p->info.dim[p->half ? 1 : 2]);
    if (es_h5_has(p->h5, "/classes")) {
        ES_GO(es_h5_read_strings(p->h5, "/classes", &p->classes, err));
        if (p->classes.n != p->n_classes)
            ES_GO(es_err_set(err, ES_EDATA, "%s:/classes: %lld names, but %d classes in strong_logits", path,
                             (long long)p->classes.n, p->n_classes));
    }
    if (es_h5_attr_has(p->h5, "/", "store_digest"))
        ES_GO(es_h5_attr_get_u64(p->h5, "/", "store_digest", &p->store_digest, err));
    ES_GO(index_names(p, err));
    if (p->info.offset >= 0 && p->info.type != ES_H5_F64) {
        p->at = p->info.offset;
        p->fd = open(path, O_RDONLY);
        if (p->fd < 0) ES_GO(es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno)));
    }
done:
    if (rc < 0) es_predictions_close(out);
    return rc;
}

int64_t es_predictions_n_clips(const struct es_predictions *p) {
    return p->names.n;
}
int es_predictions_n_frames(const struct es_predictions *p) {
    return p->n_frames;
}
int es_predictions_n_classes(const struct es_predictions *p) {
    return p->n_classes;
}
const char *const *es_predictions_names(const struct es_predictions *p) {
    return (const char *const *)p->names.name;
}
const char *const *es_predictions_classes(const struct es_predictions *p) {
    return (const char *const *)p->classes.name;
}
uint64_t es_predictions_store_digest(const struct es_predictions *p) {
    return p->store_digest;
}
bool es_predictions_is_direct(const struct es_predictions *p) {
    return p->fd >= 0;
}

const char *es_predictions_name(const struct es_predictions *p, int64_t row) {
    ES_ASSERT(row >= 0 && row < p->names.n);
    return p->names.name[row];
}

int64_t es_predictions_find(const struct es_predictions *p, const char *name) {
    int64_t at = es_names_find(p->row, name);
    return at < 0 ? -1 : p->first[at];
}

static int read_at(const struct es_predictions *p, int64_t offset, size_t bytes, void *out,
                   struct es_err *err) {
    const char *path = es_h5_path(p->h5);
    if (es_fault_hit("read")) return es_err_set(err, ES_EIO, "%s: cannot read (injected fault)", path);
    for (char *to = out; bytes > 0;) {
        ssize_t got = pread(p->fd, to, bytes, (off_t)(p->at + offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return es_err_set(err, ES_EIO, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0) return es_err_set(err, ES_EDATA, "%s: cut short", path);
        to += got;
        offset += got;
        bytes -= (size_t)got;
    }
    return 0;
}

/* IEEE half to single, exact; subnormals, infinities and NaN too. */
static float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu, bits;
    float f;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | fraction << 13;
    } else if (exponent > 0) {
        bits = sign | (exponent + 112u) << 23 | fraction << 13;
    } else {
        f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    memcpy(&f, &bits, sizeof f);
    return f;
}

static int read_half_row(const struct es_predictions *p, int64_t row, float *logits, struct es_err *err) {
    int64_t T = p->n_frames, K = p->n_classes;
    uint16_t *raw = es_alloc((size_t)(T * K), sizeof *raw, err);
    if (!raw) return -ES_EIO;
    int rc = p->fd >= 0 ? read_at(p, row * T * K * 2, (size_t)(T * K) * 2, raw, err)
                        : es_h5_read_rows(p->h5, "/strong_logits", ES_H5_F16, row, 1, raw, err);
    for (int64_t k = 0; rc == 0 && k < K; k++)
        for (int64_t t = 0; t < T; t++) logits[t * K + k] = from_half(raw[k * T + t]);
    es_free(&raw);
    return rc;
}

int es_predictions_read(const struct es_predictions *p, int64_t row0, int64_t n, float *logits,
                        struct es_err *err) {
    ES_ASSERT(row0 >= 0 && n >= 0 && row0 + n <= p->names.n);
    int64_t row = (int64_t)p->n_frames * p->n_classes;
    if (p->half) {
        for (int64_t i = 0; i < n; i++) ES_TRY(read_half_row(p, row0 + i, logits + i * row, err));
        return 0;
    }
    if (p->fd < 0) return es_h5_read_rows(p->h5, "/strong_logits", ES_H5_F32, row0, n, logits, err);
    return read_at(p, row0 * row * 4, (size_t)(n * row) * 4, logits, err);
}
