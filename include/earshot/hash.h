/* 64-bit digests (XXH3 of libxxhash): files, parameters, configurations. Not cryptographic.
 * A digest does not depend on how the bytes are cut into updates. */
#ifndef EARSHOT_HASH_H
#define EARSHOT_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_hash;
int es_hash_new(struct es_hash **h, struct es_err *err);
void es_hash_free(struct es_hash **h);
void es_hash_reset(struct es_hash *h);
void es_hash_update(struct es_hash *h, const void *data, size_t bytes);
void es_hash_string(struct es_hash *h, const char *s); /* the text and its terminating zero */
uint64_t es_hash_value(const struct es_hash *h);

uint64_t es_hash_bytes(const void *data, size_t bytes);
/* 16 lower-case hex digits and a zero. */
void es_hash_hex(uint64_t v, char out[17]);

#endif
