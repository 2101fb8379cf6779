/* Memory: counted heap blocks, and arenas for everything whose lifetime is a run, a leaf or a kernel call.
 *
 * es_alloc is the only malloc of the program; it counts live blocks and bytes (zero at exit) and obeys fault
 * injection (ES_FAULT=malloc:N). All blocks are 64-byte aligned and zeroed.
 *
 * An arena is one block with a stack pointer. In a dry arena (es_arena_new with bytes = 0) nothing is backed
 * by memory: es_arena_alloc returns an address that must not be touched, and the peak tells how much a real
 * arena needs. This is the memory plan: run the graph dry, read the peak, make the real arena.
 *
 * A pool is an arena with free: gradients of activations live there during backward, each from its first
 * write to the backward step of its producer. First fit over 64-byte blocks; deterministic, so that a dry
 * pool plans a real one.
 *
 * Collectivity: none. Not thread-safe except es_alloc and es_free.
 */
#ifndef EARSHOT_MEM_H
#define EARSHOT_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

/* n * size bytes, zeroed, 64-byte aligned. NULL with err set (ES_EIO, "out of memory") on failure or overflow
 * of n * size. n * size = 0 gives a valid pointer. */
void *es_alloc(size_t n, size_t size, struct es_err *err);
/* Frees *p and sets it NULL; accepts NULL in *p. Call as es_free(&pointer). */
void es_free(void *p);
char *es_strdup(const char *s, struct es_err *err);

int64_t es_mem_live_blocks(void);
int64_t es_mem_live_bytes(void);
int64_t es_mem_allocations(void); /* calls of es_alloc so far; a step must not raise it after the first */
int64_t es_mem_peak_rss(void);    /* bytes, from the kernel */

struct es_arena;
int es_arena_new(struct es_arena **a, const char *tag, size_t bytes, struct es_err *err);
void es_arena_free(struct es_arena **a);
/* Uninitialised, 64-byte aligned. Overflow of a real arena is a bug: plans are exact. */
void *es_arena_alloc(struct es_arena *a, size_t bytes);
size_t es_arena_mark(const struct es_arena *a);
void es_arena_reset(struct es_arena *a, size_t mark);
size_t es_arena_peak(const struct es_arena *a); /* largest bytes in use so far */
bool es_arena_is_dry(const struct es_arena *a);

struct es_pool;
int es_pool_new(struct es_pool **p, const char *tag, size_t bytes, struct es_err *err); /* bytes = 0: dry */
void es_pool_free(struct es_pool **p);
void *es_pool_get(struct es_pool *p, size_t bytes);
void es_pool_put(struct es_pool *p, void *block);
size_t es_pool_peak(const struct es_pool *p);
int es_pool_live(const struct es_pool *p); /* blocks out; 0 at the end of a leaf */

/* Checked narrowing: a value that does not fit is a bug. */
int es_int_from_i64(int64_t v);

#endif
