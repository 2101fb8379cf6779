/* A list of names and an open hash table over it. */
#include <string.h>

#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/tsv.h"

#define CHUNK_BYTES ((size_t)1 << 20)

struct chunk { /* names are copied into chunks that never move */
    struct chunk *next;
    size_t used, bytes;
    char text[];
};

struct es_names {
    int64_t n, cap, n_slots; /* n_slots: a power of two, at least twice n */
    const char **name;
    int64_t *slot; /* index + 1; 0: free */
    struct chunk *chunks;
};

int es_names_new(struct es_names **names, struct es_err *err) {
    *names = es_alloc(1, sizeof **names, err);
    return *names ? 0 : -ES_EIO;
}

void es_names_free(struct es_names **names) {
    if (!*names) return;
    for (struct chunk *c = (*names)->chunks, *next; c; c = next) {
        next = c->next;
        es_free(&c);
    }
    es_free(&(*names)->slot);
    es_free(&(*names)->name);
    es_free(names);
}

int64_t es_names_count(const struct es_names *names) {
    return names->n;
}
const char *es_names_get(const struct es_names *names, int64_t i) {
    ES_ASSERT(i >= 0 && i < names->n);
    return names->name[i];
}

/* Slot where name is or would go. */
static int64_t probe(const struct es_names *names, const char *name) {
    int64_t mask = names->n_slots - 1, at = (int64_t)(es_hash_bytes(name, strlen(name)) & (uint64_t)mask);
    while (names->slot[at] && strcmp(names->name[names->slot[at] - 1], name) != 0) at = (at + 1) & mask;
    return at;
}

int64_t es_names_find(const struct es_names *names, const char *name) {
    return names->n ? names->slot[probe(names, name)] - 1 : -1;
}

static int grow(struct es_names *names, struct es_err *err) {
    int64_t cap = names->cap ? 2 * names->cap : 64;
    const char **name = es_alloc((size_t)cap, sizeof *name, err);
    int64_t *slot = es_alloc((size_t)(2 * cap), sizeof *slot, err);
    if (!name || !slot) {
        es_free(&name);
        es_free(&slot);
        return -ES_EIO;
    }
    if (names->n) memcpy(name, names->name, (size_t)names->n * sizeof *name);
    es_free(&names->name);
    es_free(&names->slot);
    names->name = name;
    names->slot = slot;
    names->cap = cap;
    names->n_slots = 2 * cap;
    for (int64_t i = 0; i < names->n; i++) slot[probe(names, name[i])] = i + 1;
    return 0;
}

static const char *copy(struct es_names *names, const char *name, struct es_err *err) {
    size_t bytes = strlen(name) + 1;
    if (!names->chunks || names->chunks->bytes - names->chunks->used < bytes) {
        size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        struct chunk *c = es_alloc(1, sizeof *c + room, err);
        if (!c) return NULL;
        c->bytes = room;
        c->next = names->chunks;
        names->chunks = c;
    }
    char *at = names->chunks->text + names->chunks->used;
    memcpy(at, name, bytes);
    names->chunks->used += bytes;
    return at;
}

int64_t es_names_add(struct es_names *names, const char *name, struct es_err *err) {
    int64_t i = es_names_find(names, name);
    if (i >= 0) return i;
    if (names->n == names->cap) ES_TRY(grow(names, err));
    const char *own = copy(names, name, err);
    if (!own) return -ES_EIO;
    int64_t at = probe(names, name);
    names->name[names->n] = own;
    names->slot[at] = ++names->n;
    return names->n - 1;
}
