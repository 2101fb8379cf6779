#include "earshot/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/text.h"

static es_fatal_fn fatal_fn; /* the second mutable global of the program */

/* Text out of files may hold anything: one line of UTF-8 without control characters is left. */
static void clean(char *s) {
    for (char *c = s; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = *c == '\n' ? ' ' : '?';
    for (size_t n = strlen(s), at = es_utf8_check(s, n); at < n; at += es_utf8_check(s + at, n - at))
        s[at] = '?';
}

int es_err_set(struct es_err *err, enum es_code code, const char *fmt, ...) {
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        va_end(ap);
        clean(err->msg);
        err->code = (int)code;
        err->hint[0] = 0;
    }
    return -(int)code;
}

int es_err_hint(struct es_err *err, const char *fmt, ...) {
    if (!err) return -ES_EBUG;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
    return -err->code;
}

int es_err_prefix(struct es_err *err, const char *fmt, ...) {
    if (!err) return -ES_EBUG;
    char head[512], whole[sizeof err->msg + sizeof head];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    snprintf(whole, sizeof whole, "%s: %s", head, err->msg);
    memcpy(err->msg, whole, sizeof err->msg);
    err->msg[sizeof err->msg - 1] = 0;
    return -err->code;
}

void es_err_clear(struct es_err *err) {
    if (err) memset(err, 0, sizeof *err);
}

void es_fatal_handler(es_fatal_fn fn) {
    fatal_fn = fn;
}

void es_bug(const char *file, int line, const char *what) {
    fprintf(stderr, "earshot: %s:%d: this is a bug, please report it: %s does not hold\n", file, line, what);
    fflush(stderr);
    if (fatal_fn) fatal_fn(ES_EBUG);
    _Exit(ES_EBUG);
}
