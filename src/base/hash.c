#include "earshot/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "earshot/mem.h"

struct es_hash {
    XXH3_state_t *state;
};

int es_hash_new(struct es_hash **h, struct es_err *err) {
    *h = es_alloc(1, sizeof **h, err);
    if (!*h) return -ES_EIO;
    (*h)->state = XXH3_createState();
    if (!(*h)->state) {
        es_free(h);
        return es_err_set(err, ES_EIO, "out of memory: hash state");
    }
    es_hash_reset(*h);
    return 0;
}

void es_hash_free(struct es_hash **h) {
    if (!*h) return;
    XXH3_freeState((*h)->state);
    es_free(h);
}

void es_hash_reset(struct es_hash *h) {
    XXH3_64bits_reset(h->state);
}
void es_hash_update(struct es_hash *h, const void *data, size_t bytes) {
    XXH3_64bits_update(h->state, data, bytes);
}
void es_hash_string(struct es_hash *h, const char *s) {
    es_hash_update(h, s, strlen(s) + 1);
}
uint64_t es_hash_value(const struct es_hash *h) {
    return XXH3_64bits_digest(h->state);
}
uint64_t es_hash_bytes(const void *data, size_t bytes) {
    return XXH3_64bits(data, bytes);
}
void es_hash_hex(uint64_t v, char out[17]) {
    snprintf(out, 17, "%016llx", (unsigned long long)v);
}
