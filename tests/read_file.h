/* A whole stream as one string. */
#ifndef EARSHOT_TESTS_READ_FILE_H
#define EARSHOT_TESTS_READ_FILE_H

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"

/* From here to the end; a 0 behind it. The caller frees it with es_free; *n: bytes, or NULL. */
static inline char *test_read_all(FILE *f, size_t *n) {
    size_t cap = 1 << 16, have = 0;
    char *text = es_alloc(cap, 1, NULL);
    ES_ASSERT(text);
    for (size_t got; (got = fread(text + have, 1, cap - have - 1, f)) > 0;) {
        have += got;
        if (have + 1 < cap) continue;
        char *more = es_alloc(2 * cap, 1, NULL);
        ES_ASSERT(more);
        memcpy(more, text, have);
        es_free(&text);
        text = more;
        cap *= 2;
    }
    text[have] = 0;
    if (n) *n = have;
    return text;
}

#endif
