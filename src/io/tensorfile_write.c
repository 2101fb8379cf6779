/* Writing .pt (a stored zip archive as torch.save makes it) and .safetensors. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "earshot/fault.h"
#include "earshot/json.h"
#include "earshot/mem.h"
#include "earshot/text.h"
#include "tensorfile_impl.h"

#define ALIGN 64
#define MOST ((int64_t)UINT32_MAX) /* beyond it zip needs 64-bit fields */

struct out {
    const char *path;
    FILE *f;
    int64_t at;
    bool failed;
};

static void put(struct out *o, const void *bytes, size_t n) {
    if (!o->failed && n > 0 && (es_fault_hit("write") || fwrite(bytes, 1, n, o->f) != n)) o->failed = true;
    o->at += (int64_t)n;
}

static void add_u(struct es_text *t, uint64_t u, int bytes) {
    uint8_t b[8];
    for (int i = 0; i < bytes; i++) b[i] = (uint8_t)(u >> (8 * i));
    es_text_add_bytes(t, b, (size_t)bytes);
}

static int64_t entry_bytes(const struct es_tensor_entry *e) {
    int64_t n = (int64_t)es_dtype_bytes(e->dtype);
    for (int d = 0; d < e->ndim; d++) n *= e->shape[d];
    return n;
}

/* ---- zip */
struct archive {
    struct out *out;
    struct es_text directory;
    int n;
};

static void zip_put(struct archive *z, const char *name, const void *data, size_t n) {
    struct es_text local = {0};
    size_t name_n = strlen(name);
    int64_t begin = z->out->at, plain = begin + 30 + (int64_t)name_n + 4,
            pad = (ALIGN - plain % ALIGN) % ALIGN;
    struct es_text both = {0};   /* what local header and directory have in common */
    add_u(&both, 20, 2);         /* version 2.0 */
    add_u(&both, 0x800, 2);      /* names are UTF-8 */
    add_u(&both, 0, 2);          /* stored */
    add_u(&both, 0x00210000, 4); /* 1980-01-01 */
    add_u(&both, crc32(crc32(0, NULL, 0), data, (uInt)n), 4);
    add_u(&both, n, 4);
    add_u(&both, n, 4);
    add_u(&both, name_n, 2);

    add_u(&local, 0x04034b50, 4);
    if (both.s) es_text_add_bytes(&local, both.s, both.n);
    add_u(&local, 4 + (uint64_t)pad, 2);
    es_text_add_bytes(&local, name, name_n);
    add_u(&local, 0x4246, 2); /* PyTorch's padding field "FB" */
    add_u(&local, (uint64_t)pad, 2);
    for (int64_t i = 0; i < pad; i++) es_text_add_bytes(&local, "Z", 1);

    add_u(&z->directory, 0x02014b50, 4);
    add_u(&z->directory, 20, 2);
    if (both.s) es_text_add_bytes(&z->directory, both.s, both.n);
    add_u(&z->directory, 0, 8); /* no extra field, no comment, part 0, binary */
    add_u(&z->directory, 0, 4);
    add_u(&z->directory, (uint64_t)begin, 4);
    es_text_add_bytes(&z->directory, name, name_n);

    if (local.failed || both.failed) z->directory.failed = true;
    if (local.s) put(z->out, local.s, local.n);
    put(z->out, data, n);
    z->n++;
    es_text_free(&both);
    es_text_free(&local);
}

static void zip_end(struct archive *z) {
    int64_t begin = z->out->at;
    size_t n = z->directory.n;
    add_u(&z->directory, 0x06054b50, 4);
    add_u(&z->directory, 0, 4);
    add_u(&z->directory, (uint64_t)z->n, 2);
    add_u(&z->directory, (uint64_t)z->n, 2);
    add_u(&z->directory, n, 4);
    add_u(&z->directory, (uint64_t)begin, 4);
    add_u(&z->directory, 0, 2);
    if (z->directory.s) put(z->out, z->directory.s, z->directory.n);
}

/* ---- pickle, protocol 2, without memo */
static void pickle_int(struct es_text *t, int64_t i) {
    if (i <= INT32_MAX) {
        es_text_add(t, "J");
        add_u(t, (uint64_t)i, 4);
    } else {
        es_text_add_bytes(t, "\x8a\x08", 2);
        add_u(t, (uint64_t)i, 8);
    }
}

static void pickle_text(struct es_text *t, const char *s) {
    es_text_add(t, "X");
    add_u(t, strlen(s), 4);
    es_text_add(t, "%s", s);
}

/* _rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()) */
static void pickle_tensor(struct es_text *t, const struct es_tensor_entry *e, int storage) {
    static const char *const type[ES_N_DTYPES] = {
        [ES_DTYPE_F32] = "Float",     [ES_DTYPE_F64] = "Double", [ES_DTYPE_F16] = "Half",
        [ES_DTYPE_BF16] = "BFloat16", [ES_DTYPE_I64] = "Long",   [ES_DTYPE_I32] = "Int",
        [ES_DTYPE_I16] = "Short",     [ES_DTYPE_I8] = "Char",    [ES_DTYPE_U8] = "Byte",
        [ES_DTYPE_BOOL] = "Bool"};
    char key[16];
    int64_t stride[ES_VIEW_MAX_DIM], n = 1;
    for (int d = e->ndim - 1; d >= 0; d--) {
        stride[d] = n;
        n *= e->shape[d];
    }
    snprintf(key, sizeof key, "%d", storage);
    es_text_add(t, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(t, "storage");
    es_text_add(t, "ctorch\n%sStorage\n", type[e->dtype]);
    pickle_text(t, key);
    pickle_text(t, "cpu");
    pickle_int(t, n);
    es_text_add(t, "tQ");
    pickle_int(t, 0);
    es_text_add(t, "(");
    for (int d = 0; d < e->ndim; d++) pickle_int(t, e->shape[d]);
    es_text_add(t, "t(");
    for (int d = 0; d < e->ndim; d++) pickle_int(t, stride[d]);
    es_text_add(t, "t");
    es_text_add_bytes(t, "\x89", 1);
    es_text_add(t, "ccollections\nOrderedDict\n)RtR");
}

static void write_zip(struct out *o, int n, const struct es_tensor_entry *e, es_tensor_fill_fn fill,
                      void *arg, void *buffer, int *rc, struct es_err *err) {
    struct archive z = {.out = o};
    struct es_text t = {0};
    char name[40];
    es_text_add_bytes(&t, "\x80\x02", 2);
    es_text_add(&t, "ccollections\nOrderedDict\n)R(");
    for (int i = 0; i < n; i++) {
        pickle_text(&t, e[i].name);
        pickle_tensor(&t, &e[i], e[i].alias_of >= 0 ? e[i].alias_of : i);
    }
    es_text_add(&t, "u.");
    *rc = es_text_check(&t, err);
    if (*rc == 0) {
        zip_put(&z, "archive/data.pkl", t.s, t.n);
        zip_put(&z, "archive/byteorder", "little", 6);
    }
    for (int i = 0; i < n && *rc == 0; i++) {
        if (e[i].alias_of >= 0) continue;
        *rc = fill(arg, i, buffer, err);
        snprintf(name, sizeof name, "archive/data/%d", i);
        if (*rc == 0) zip_put(&z, name, buffer, (size_t)entry_bytes(&e[i]));
    }
    zip_put(&z, "archive/version", "3\n", 2);
    zip_end(&z);
    if (*rc == 0) *rc = es_text_check(&z.directory, err);
    es_text_free(&z.directory);
    es_text_free(&t);
}

/* ---- safetensors */
static void write_safetensors(struct out *o, int n, const struct es_tensor_entry *e, es_tensor_fill_fn fill,
                              void *arg, void *buffer, int *rc, struct es_err *err) {
    struct es_text t = {0}, length = {0};
    int64_t at = 0;
    es_text_add(&t, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < n; i++) {
        es_text_add(&t, ",");
        es_json_quote(&t, e[i].name);
        es_text_add(&t, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_type(e[i].dtype));
        for (int d = 0; d < e[i].ndim; d++) es_text_add(&t, "%s%lld", d ? "," : "", (long long)e[i].shape[d]);
        es_text_add(&t, "],\"data_offsets\":[%lld,%lld]}", (long long)at,
                    (long long)(at + entry_bytes(&e[i])));
        at += entry_bytes(&e[i]);
    }
    es_text_add(&t, "}");
    while (t.n % 8 != 0 && !t.failed) es_text_add(&t, " "); /* data aligned, as the official writer does */
    add_u(&length, t.n, 8);
    *rc = es_text_check(&t, err);
    if (*rc == 0) *rc = es_text_check(&length, err);
    if (*rc == 0) {
        put(o, length.s, length.n);
        put(o, t.s, t.n);
    }
    for (int i = 0; i < n && *rc == 0; i++) {
        *rc = fill(arg, i, buffer, err);
        put(o, buffer, (size_t)entry_bytes(&e[i]));
    }
    es_text_free(&length);
    es_text_free(&t);
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

int es_tensorfile_write(const char *path, int n, const struct es_tensor_entry *entry, es_tensor_fill_fn fill,
                        void *arg, struct es_err *err) {
    int64_t total = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        ES_ASSERT(entry[i].alias_of < i && safetensors_type(entry[i].dtype));
        int64_t bytes = entry_bytes(&entry[i]);
        total += bytes + 1024;
        largest = bytes > largest ? bytes : largest;
    }
    if (total > MOST || n > UINT16_MAX - 8)
        return es_err_set(err, ES_EDATA, "%s: %lld bytes in %d tensors, want less than 4 GiB and 65535", path,
                          (long long)total, n);
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid());
    void *buffer = es_alloc((size_t)largest, 1, err);
    if (!buffer) return -ES_EIO;
    struct out o = {.path = path, .f = fopen(temporary, "wb")};
    int rc = 0;
    if (!o.f) {
        rc = es_err_set(err, ES_EIO, "%s: cannot write: %s", temporary, strerror(errno));
    } else {
        if (ends_with(path, ".safetensors"))
            write_safetensors(&o, n, entry, fill, arg, buffer, &rc, err);
        else
            write_zip(&o, n, entry, fill, arg, buffer, &rc, err);
        bool failed = o.failed || fflush(o.f) != 0 || fsync(fileno(o.f)) != 0;
        failed |= fclose(o.f) != 0;
        if (rc == 0 && (failed || es_fault_hit("rename") || rename(temporary, path) != 0))
            rc = es_err_set(err, ES_EIO, "%s: cannot write: %s", path, strerror(errno));
        if (rc < 0) unlink(temporary);
    }
    es_free(&buffer);
    return rc;
}
