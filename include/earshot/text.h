/* Text: a growing buffer, whole-file save, nearest word, numbers that round trip, UTF-8.
 *
 * A struct es_text starts as {0}. Appending never returns an error: a failed allocation is remembered,
 * es_text_check tells it. Collectivity: none.
 */
#ifndef EARSHOT_TEXT_H
#define EARSHOT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_text {
    char *s; /* zero-terminated; NULL while empty */
    size_t n, cap;
    bool failed;
};
void es_text_add(struct es_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void es_text_add_bytes(struct es_text *t, const void *bytes, size_t n);
int es_text_check(const struct es_text *t, struct es_err *err); /* ES_EIO when an append failed */
void es_text_free(struct es_text *t);

/* Writes bytes to path through a temporary name in the same folder, fsync and rename: path is whole or
 * untouched. ES_EIO. */
int es_text_save(const char *path, const void *bytes, size_t n, struct es_err *err);

/* All n bytes at an offset, however many calls that takes; -1 with errno set when the system refuses. Any thread. Fault point:
 * short. */
int es_pwrite(int fd, const void *bytes, size_t n, int64_t at);

/* Finds the candidate closest to word by edit distance; a shared last part ("cnn_lr" in "optimizer.cnn_lr")
 * counts too. Starts as {.word = w}; then es_nearest_add for every candidate; best is NULL when nothing is
 * near. */
struct es_nearest {
    const char *word, *best;
    int dist;
};
void es_nearest_add(struct es_nearest *n, const char *candidate);

/* Is word one of "a|b|c"? */
bool es_text_has_word(const char *words, const char *word);

/* The shortest of %.15g, %.16g, %.17g that reads back as v. */
void es_text_from_double(double v, char out[32]);

/* Offset of the first byte that is not UTF-8 (or is a zero byte); n when there is none. */
size_t es_utf8_check(const char *s, size_t n);

#endif
