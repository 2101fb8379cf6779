/* Zip archives (APPNOTE 6.3: stored and deflated entries, ZIP64; no encryption, one part), read at offsets. Everything in the file
 * is suspect. */
#include <string.h>
#include <zlib.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"
#include "tensorfile_impl.h"

#define BUFFER 65536
#define GROWTH 16                       /* an entry may become so many times as large as the file, */
#define GROWTH_FREE ((int64_t)64 << 20) /* and so many bytes on top */
enum {
    SIG_LOCAL = 0x04034b50,
    SIG_ENTRY = 0x02014b50,
    SIG_END = 0x06054b50,
    SIG_END64 = 0x06064b50,
    SIG_WHERE64 = 0x07064b50,
};
enum { END_BYTES = 22, END64_BYTES = 56, WHERE64_BYTES = 20, ENTRY_BYTES = 46, LOCAL_BYTES = 30 };

struct entry {
    int64_t header, data; /* data: 0 until the local header has been read */
    int64_t packed, bytes;
    uint32_t crc;
    uint16_t method, flags;
    bool checked;
};

struct zip {
    struct input in;
    int n;
    int64_t directory; /* where it begins: all data end before */
    struct es_names *names;
    struct entry *entry;
};

static int broken(const struct zip *z, struct es_err *err, const char *what) {
    return es_err_set(err, ES_EDATA, "%s: zip archive: %s: the file is damaged or cut short", z->in.path,
                      what);
}

/* ---- directory */
struct end {
    int64_t n, bytes, offset;
};

/* The end record is the last thing in the file but for a comment of at most 64 KiB. */
static int find_end(const struct zip *z, struct end *e, struct es_err *err) {
    uint8_t tail[END_BYTES + 65535];
    int64_t n = z->in.n < (int64_t)sizeof tail ? z->in.n : (int64_t)sizeof tail, at = n - END_BYTES;
    ES_TRY(input_read(&z->in, z->in.n - n, n, tail, err));
    while (at >= 0 &&
           (input_u(tail + at, 4) != SIG_END || (int64_t)input_u(tail + at + 20, 2) != n - at - END_BYTES))
        at--;
    if (at < 0) return broken(z, err, "no directory");
    *e = (struct end){(int64_t)input_u(tail + at + 10, 2), (int64_t)input_u(tail + at + 12, 4),
                      (int64_t)input_u(tail + at + 16, 4)};
    int64_t end = z->in.n - n + at;
    uint8_t big[END64_BYTES];
    if (at >= WHERE64_BYTES && input_u(tail + at - WHERE64_BYTES, 4) == SIG_WHERE64) {
        uint64_t where = input_u(tail + at - WHERE64_BYTES + 8, 8);
        if (where > (uint64_t)end) return broken(z, err, "no 64-bit directory");
        ES_TRY(input_read(&z->in, (int64_t)where, END64_BYTES, big, err));
        if (input_u(big, 4) != SIG_END64) return broken(z, err, "no 64-bit directory");
        *e = (struct end){(int64_t)input_u(big + 32, 8), (int64_t)input_u(big + 40, 8),
                          (int64_t)input_u(big + 48, 8)};
        end = (int64_t)where;
    }
    if (e->offset < 0 || e->bytes < 0 || e->offset > end || e->bytes > end - e->offset || e->n < 0 ||
        e->n > e->bytes / ENTRY_BYTES || e->n > INT32_MAX)
        return broken(z, err, "its directory does not fit into the file");
    return 0;
}

/* Sizes and offset that did not fit into 32 bits stand in extra field 1, in this order. */
static bool read_zip64(struct entry *e, const uint8_t *extra, size_t n) {
    int64_t *wide[] = {&e->bytes, &e->packed, &e->header};
    for (size_t at = 0; at + 4 <= n;) {
        size_t id = (size_t)input_u(extra + at, 2), size = (size_t)input_u(extra + at + 2, 2), used = at + 4;
        if (size > n - at - 4) return false;
        at += 4 + size;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (used + 8 > at) return false;
            *wide[i] = (int64_t)input_u(extra + used, 8);
            used += 8;
        }
    }
    return true;
}

static int read_entry(struct zip *z, const uint8_t *d, size_t left, size_t *used, struct es_err *err) {
    if (left < ENTRY_BYTES || input_u(d, 4) != SIG_ENTRY)
        return broken(z, err, "its directory makes no sense");
    size_t n = (size_t)input_u(d + 28, 2), extra = (size_t)input_u(d + 30, 2),
           comment = (size_t)input_u(d + 32, 2);
    char name[65536];
    *used = ENTRY_BYTES + n + extra + comment;
    if (*used > left) return broken(z, err, "its directory makes no sense");
    memcpy(name, d + ENTRY_BYTES, n);
    name[n] = '\0';
    if (strlen(name) != n || es_names_find(z->names, name) >= 0) return broken(z, err, "an entry twice");
    struct entry e = {.flags = (uint16_t)input_u(d + 8, 2),
                      .method = (uint16_t)input_u(d + 10, 2),
                      .crc = (uint32_t)input_u(d + 16, 4),
                      .packed = (int64_t)input_u(d + 20, 4),
                      .bytes = (int64_t)input_u(d + 24, 4),
                      .header = (int64_t)input_u(d + 42, 4)};
    if (!read_zip64(&e, d + ENTRY_BYTES + n, extra) || e.header < 0 || e.header > z->directory ||
        e.packed < 0 || e.packed > z->directory - e.header || e.bytes < 0)
        return broken(z, err, "an entry that does not fit into the file");
    int64_t i = es_names_add(z->names, name, err);
    if (i < 0) return (int)i;
    z->entry[i] = e;
    z->n++;
    return 0;
}

int zip_open(struct zip **out, const struct input *in, struct es_err *err) {
    struct end end = {0};
    uint8_t *d = NULL;
    struct zip *z = *out = es_alloc(1, sizeof *z, err);
    if (!z) return -ES_EIO;
    z->in = *in;
    int rc = find_end(z, &end, err);
    if (rc < 0) goto done;
    z->directory = end.offset;
    ES_GO(es_names_new(&z->names, err));
    z->entry = es_alloc((size_t)end.n, sizeof *z->entry, err);
    d = es_alloc((size_t)end.bytes, 1, err);
    if (!z->entry || !d) ES_GO(-ES_EIO);
    ES_GO(input_read(in, end.offset, end.bytes, d, err));
    for (size_t at = 0, used = 0; z->n < end.n; at += used)
        ES_GO(read_entry(z, d + at, (size_t)end.bytes - at, &used, err));
done:
    es_free(&d);
    if (rc < 0) zip_close(out);
    return rc;
}

void zip_close(struct zip **z) {
    if (!*z) return;
    es_free(&(*z)->entry);
    es_names_free(&(*z)->names);
    es_free(z);
}

int zip_count(const struct zip *z) {
    return z->n;
}
const char *zip_name(const struct zip *z, int i) {
    return es_names_get(z->names, i);
}
int zip_find(const struct zip *z, const char *name) {
    return (int)es_names_find(z->names, name);
}
int64_t zip_bytes(const struct zip *z, int i) {
    return z->entry[i].bytes;
}

/* ---- contents */
static int entry_error(const struct zip *z, int i, struct es_err *err, const char *what) {
    return es_err_set(err, ES_EDATA, "%s: zip archive: entry %.200s: %s", z->in.path, zip_name(z, i), what);
}

static int locate(struct zip *z, int i, struct es_err *err) {
    struct entry *e = &z->entry[i];
    uint8_t local[LOCAL_BYTES];
    if (e->flags & 1) return entry_error(z, i, err, "encrypted; want a plain archive");
    if (e->method != 0 && e->method != 8) return entry_error(z, i, err, "neither stored nor deflated");
    if (e->method == 0 && e->packed != e->bytes) return entry_error(z, i, err, "stored with two lengths");
    if (e->bytes > GROWTH_FREE && (e->bytes - GROWTH_FREE) / GROWTH > z->in.n)
        return entry_error(z, i, err, "would grow too much when inflated");
    ES_TRY(input_read(&z->in, e->header, LOCAL_BYTES, local, err));
    if (input_u(local, 4) != SIG_LOCAL) return entry_error(z, i, err, "no header; the file is damaged");
    int64_t data =
        e->header + LOCAL_BYTES + (int64_t)input_u(local + 26, 2) + (int64_t)input_u(local + 28, 2);
    if (data > z->directory || e->packed > z->directory - data)
        return entry_error(z, i, err, "reaches into the directory; the file is damaged");
    e->data = data;
    return 0;
}

/* Bytes [begin, end) of an entry on their way past: copies what the reader wants of the piece at position at. */
struct wanted {
    int64_t begin, end;
    uint8_t *out;
};

static void copy_part(const struct wanted *w, int64_t at, const uint8_t *piece, int64_t n) {
    int64_t from = at > w->begin ? at : w->begin, to = at + n < w->end ? at + n : w->end;
    if (from < to) memcpy(w->out + (from - w->begin), piece + (from - at), (size_t)(to - from));
}

/* The whole entry through a buffer, checked. */
static int stream(struct zip *z, int i, const struct wanted *w, struct es_err *err) {
    struct entry *e = &z->entry[i];
    uint8_t in[BUFFER], out[BUFFER];
    int64_t taken = 0, at = 0;
    uLong crc = crc32(0, NULL, 0);
    bool deflated = e->method == 8, ended = false;
    z_stream s = {0};
    int rc = 0;
    if (deflated && inflateInit2(&s, -MAX_WBITS) != Z_OK)
        return es_err_set(err, ES_EIO, "zlib: out of memory");
    while (!ended && at <= e->bytes) {
        if (s.avail_in == 0 && taken < e->packed) {
            int64_t n = e->packed - taken < BUFFER ? e->packed - taken : BUFFER;
            ES_GO(input_read(&z->in, e->data + taken, n, in, err));
            taken += n;
            s.next_in = in;
            s.avail_in = (uInt)n;
        }
        const uint8_t *piece = in;
        int64_t n = s.avail_in;
        if (deflated) {
            s.next_out = out;
            s.avail_out = BUFFER;
            int zrc = inflate(&s, Z_NO_FLUSH);
            if (zrc != Z_OK && zrc != Z_STREAM_END) break;
            ended = zrc == Z_STREAM_END;
            piece = out;
            n = BUFFER - (int64_t)s.avail_out;
        } else {
            s.avail_in = 0;
            ended = taken == e->packed;
        }
        crc = crc32(crc, piece, (uInt)n);
        copy_part(w, at, piece, n);
        at += n;
    }
    if (!ended || at != e->bytes || taken != e->packed || s.avail_in != 0 || crc != e->crc)
        rc = entry_error(z, i, err, "wrong checksum or length; the file is damaged");
    e->checked = rc == 0;
done:
    if (deflated) inflateEnd(&s);
    return rc;
}

int zip_read(struct zip *z, int i, int64_t begin, int64_t n, void *out, struct es_err *err) {
    struct entry *e = &z->entry[i];
    if (!e->data) ES_TRY(locate(z, i, err));
    if (begin < 0 || n < 0 || begin > e->bytes || n > e->bytes - begin)
        return entry_error(z, i, err, "shorter than it should be");
    if (e->checked && e->method == 0) return input_read(&z->in, e->data + begin, n, out, err);
    return stream(z, i, &(struct wanted){begin, begin + n, out}, err);
}
