#include "earshot/tensorfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/mem.h"
#include "tensorfile_impl.h"

/* ---- input */
int input_read(const struct input *in, int64_t offset, int64_t n, void *out, struct es_err *err) {
    if (offset < 0 || n < 0 || offset > in->n || n > in->n - offset)
        return es_err_set(err, ES_EDATA, "%s: cut short: %lld bytes, want %lld at %lld", in->path,
                          (long long)in->n, (long long)n, (long long)offset);
    if (in->fd < 0) {
        if (n) memcpy(out, in->bytes + offset, (size_t)n);
        return 0;
    }
    for (int64_t done = 0; done < n;) {
        ssize_t got = pread(in->fd, (char *)out + done, (size_t)(n - done), (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return es_err_set(err, ES_EIO, "%s: cannot read: %s", in->path,
                              got < 0 ? strerror(errno) : "it has shrunk");
        done += got;
    }
    return 0;
}

uint64_t input_u(const void *at, int bytes) {
    const uint8_t *b = at;
    uint64_t u = 0;
    for (int i = 0; i < bytes; i++) u |= (uint64_t)b[i] << (8 * i);
    return u;
}

/* ---- open */
static int open_local(struct es_tensorfile *f, struct es_err *err) {
    uint8_t head[16] = {0};
    ES_TRY(es_values_new(&f->heap, err));
    f->pickle = (struct es_pickle){.heap = f->heap, .name = f->in.path};
    ES_TRY(input_read(&f->in, 0, f->in.n < 16 ? f->in.n : 16, head, err));
    if (memcmp(head, "PK\3\4", 4) == 0) return torch_zip_open(f, err);
    if (head[0] == 0x80 && head[1] <= 5) return torch_legacy_open(f, err);
    if (head[8] == '{') return safetensors_open(f, err);
    return es_err_set(err, ES_EDATA, "%s: neither a PyTorch file (.pt, .ckpt, .pth) nor .safetensors",
                      f->in.path);
}

static int finish_open(struct es_tensorfile **f, int rc) {
    if (rc < 0) es_tensorfile_close(f);
    return rc;
}

int es_tensorfile_open_bytes(struct es_tensorfile **f, const char *name, const void *bytes, size_t n,
                             struct es_err *err) {
    *f = es_alloc(1, sizeof **f, err);
    if (!*f) return -ES_EIO;
    (*f)->in = (struct input){.path = name, .fd = -1, .bytes = bytes, .n = (int64_t)n};
    return finish_open(f, open_local(*f, err));
}

int es_tensorfile_open(struct es_tensorfile **f, const char *path, struct es_err *err) {
    struct stat st;
    *f = es_alloc(1, sizeof **f, err);
    if (!*f) return -ES_EIO;
    (*f)->in.fd = open(path, O_RDONLY | O_CLOEXEC);
    (*f)->in.path = es_strdup(path, err);
    if (!(*f)->in.path) return finish_open(f, -ES_EIO);
    if ((*f)->in.fd < 0 || fstat((*f)->in.fd, &st) != 0)
        return finish_open(f, es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno)));
    if (!S_ISREG(st.st_mode)) return finish_open(f, es_err_set(err, ES_EIO, "%s: not a file", path));
    (*f)->in.n = st.st_size;
    return finish_open(f, open_local(*f, err));
}

void es_tensorfile_close(struct es_tensorfile **out) {
    struct es_tensorfile *f = *out;
    if (!f) return;
    zip_close(&f->zip);
    es_free(&f->place);
    es_pickle_free(&f->pickle);
    es_values_free(&f->heap);
    if (!f->in.bytes) { /* a file: the path is a copy */
        if (f->in.fd >= 0) close(f->in.fd);
        es_free(&f->in.path);
    }
    es_free(out);
}

const struct es_value *es_tensorfile_root(const struct es_tensorfile *f) {
    return f->root;
}
const char *es_tensorfile_path(const struct es_tensorfile *f) {
    return f->in.path;
}

/* ---- contents */
static int read_bytes(struct es_tensorfile *f, int storage, int64_t begin, int64_t n, void *out,
                      struct es_err *err) {
    const struct place *p = &f->place[storage];
    if (begin > p->bytes || n > p->bytes - begin)
        return es_err_set(err, ES_EDATA, "%s: storage %d: %lld bytes, want %lld", f->in.path, storage,
                          (long long)p->bytes, (long long)(begin + n));
    if (p->entry >= 0) return zip_read(f->zip, p->entry, begin, n, out, err);
    return input_read(&f->in, p->offset + begin, n, out, err);
}

static bool contiguous(const struct es_view *v) {
    int64_t step = 1;
    for (int d = v->ndim - 1; d >= 0; d--) {
        if (v->shape[d] != 1 && v->stride[d] != step) return false;
        step *= v->shape[d];
    }
    return true;
}

/* C order: the last index runs fastest. */
static void gather(const struct es_view *v, const char *from, char *to) {
    size_t size = es_dtype_bytes(v->dtype);
    int64_t index[ES_VIEW_MAX_DIM] = {0}, at = 0;
    for (int64_t i = 0; i < v->n; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)at * size, size);
        for (int d = v->ndim - 1; d >= 0; d--) {
            at += v->stride[d];
            if (++index[d] < v->shape[d]) break;
            at -= v->stride[d] * v->shape[d];
            index[d] = 0;
        }
    }
}

int es_tensorfile_read(struct es_tensorfile *f, const struct es_view *v, void *out, struct es_err *err) {
    int64_t size = (int64_t)es_dtype_bytes(v->dtype), begin = v->offset * size, span = v->span * size;
    if (v->n == 0) return 0;
    if (contiguous(v)) return read_bytes(f, v->storage, begin, span, out, err);
    if (span > f->in.n && span / 16 > v->n * size) /* deflated, and hardly any of it wanted */
        return es_err_set(err, ES_EDATA, "%s: a tensor of %lld elements is spread over %lld", f->in.path,
                          (long long)v->n, (long long)v->span);
    char *all = es_alloc((size_t)span, 1, err);
    if (!all) return -ES_EIO;
    int rc = read_bytes(f, v->storage, begin, span, all, err);
    if (rc == 0) gather(v, all, out);
    es_free(&all);
    return rc;
}
