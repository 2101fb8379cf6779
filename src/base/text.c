#include "earshot/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/mem.h"

static bool reserve(struct es_text *t, size_t more) {
    if (t->failed) return false;
    if (t->n + more + 1 <= t->cap) return true;
    size_t cap = t->cap ? t->cap : 256;
    while (cap < t->n + more + 1) cap *= 2;
    char *s = es_alloc(cap, 1, NULL);
    if (!s) {
        t->failed = true;
        return false;
    }
    if (t->n > 0) memcpy(s, t->s, t->n);
    es_free(&t->s);
    t->s = s;
    t->cap = cap;
    return true;
}

void es_text_add_bytes(struct es_text *t, const void *bytes, size_t n) {
    if (!reserve(t, n)) return;
    if (n > 0) memcpy(t->s + t->n, bytes, n);
    t->n += n;
    t->s[t->n] = 0;
}

void es_text_add(struct es_text *t, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    ES_ASSERT(n >= 0);
    if (reserve(t, (size_t)n)) {
        vsnprintf(t->s + t->n, (size_t)n + 1, fmt, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

int es_text_check(const struct es_text *t, struct es_err *err) {
    return t->failed ? es_err_set(err, ES_EIO, "out of memory: text of more than %zu bytes", t->n) : 0;
}

void es_text_free(struct es_text *t) {
    es_free(&t->s);
    *t = (struct es_text){0};
}

int es_pwrite(int fd, const void *bytes, size_t n, int64_t at) {
    for (const char *from = bytes; n > 0;) {
        size_t now = n > 1 && es_fault_hit("short") ? n / 2 : n;
        ssize_t k = pwrite(fd, from, now, (off_t)at);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = ENOSPC;
        if (k <= 0) return -1;
        from += k;
        at += k;
        n -= (size_t)k;
    }
    return 0;
}

int es_text_save(const char *path, const void *bytes, size_t n, struct es_err *err) {
    char tmp[4096];
    int len = snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid());
    if (len >= (int)sizeof tmp) return es_err_set(err, ES_EIO, "%.200s...: the path is too long", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return es_err_set(err, ES_EIO, "%s: cannot create: %s", tmp, strerror(errno));
    bool fault = es_fault_hit("write");
    if (fault) errno = ENOSPC;
    bool ok = !fault && es_pwrite(fd, bytes, n, 0) == 0 && fsync(fd) == 0;
    int why = errno;
    if (close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && (es_fault_hit("rename") ? (errno = EIO, -1) : rename(tmp, path)) != 0) {
        ok = false;
        why = errno;
    }
    if (ok) return 0;
    unlink(tmp);
    return es_err_set(err, ES_EIO, "%s: cannot write: %s", path, strerror(why));
}

#define MAX_WORD 96

static int edit_distance(const char *a, const char *b) {
    int row[MAX_WORD + 1], na = 0, nb = 0;
    while (na < MAX_WORD && a[na]) na++;
    while (nb < MAX_WORD && b[nb]) nb++;
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = corner + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}

void es_nearest_add(struct es_nearest *n, const char *candidate) {
    const char *tail = strrchr(n->word, '.'), *candidate_tail = strrchr(candidate, '.');
    int dist = edit_distance(n->word, candidate);
    if (candidate_tail) {
        int d = 1 + edit_distance(tail ? tail + 1 : n->word, candidate_tail + 1);
        if (d < dist) dist = d;
    }
    size_t len = strlen(n->word), limit = len < 3 ? 3 : (3 * len + 3) / 4; /* more edits: nothing in common */
    if ((size_t)dist >= limit || (n->best && dist >= n->dist)) return;
    n->best = candidate;
    n->dist = dist;
}

bool es_text_has_word(const char *words, const char *word) {
    size_t len = strcspn(word, "|");
    if (len == 0 || word[len]) return false;
    for (const char *w = words; w; w = strchr(w, '|'), w = w ? w + 1 : NULL)
        if (strncmp(w, word, len) == 0 && (w[len] == '|' || w[len] == 0)) return true;
    return false;
}

void es_text_from_double(double v, char out[32]) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, v);
        double back = strtod(out, NULL);
        if (memcmp(&back, &v, sizeof v) == 0) return;
    }
}

size_t es_utf8_check(const char *s, size_t n) {
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0; i < n;) {
        uint32_t c = u[i];
        size_t more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0;
        if (c == 0 || (c >= 0x80 && c < 0xC2) || c > 0xF4 || more >= n - i) return i;
        uint32_t v = more == 3 ? c & 0x07 : more == 2 ? c & 0x0F : more == 1 ? c & 0x1F : c;
        for (size_t k = 1; k <= more; k++) {
            if ((u[i + k] & 0xC0) != 0x80) return i;
            v = (v << 6) | (u[i + k] & 0x3Fu);
        }
        if ((more == 2 && v < 0x800) || (more == 3 && v < 0x10000) || v > 0x10FFFF ||
            (v >= 0xD800 && v < 0xE000))
            return i;
        i += more + 1;
    }
    return n;
}
