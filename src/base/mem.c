#define _DEFAULT_SOURCE /* madvise */
#include "earshot/mem.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "earshot/fault.h"

#define ALIGN 64u
#define HUGE_PAGE ((size_t)2 << 20)

/* A 64-byte header in front of every block keeps its size for the counters. */
struct header {
    size_t bytes;
    char pad[ALIGN - sizeof(size_t)];
};

static atomic_llong live_blocks, live_bytes, n_allocations;

static size_t round_up(size_t bytes) {
    return (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

/* Big blocks on big pages, where the system has them: the kernels walk through many of them at a time, and a miss of the
 * address cache costs more than one of the data's. Without them nothing is lost. */
static void *get_block(size_t bytes) {
    bool big = bytes >= 2 * HUGE_PAGE;
    void *p;
    if (posix_memalign(&p, big ? HUGE_PAGE : ALIGN, bytes) != 0) return NULL;
    if (big) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

void *es_alloc(size_t n, size_t size, struct es_err *err) {
    atomic_fetch_add(&n_allocations, 1);
    size_t limit = (size_t)-1 - 2 * sizeof(struct header);
    if (size != 0 && n > limit / size) {
        es_err_set(err, ES_EIO, "out of memory: %zu elements of %zu bytes asked for", n, size);
        return NULL;
    }
    size_t bytes = n * size;
    struct header *h = es_fault_hit("malloc") ? NULL : get_block(sizeof *h + round_up(bytes));
    if (!h) {
        es_err_set(err, ES_EIO, "out of memory: %zu bytes asked for, %lld in use", bytes,
                   (long long)live_bytes);
        return NULL;
    }
    h->bytes = bytes;
    atomic_fetch_add(&live_blocks, 1);
    atomic_fetch_add(&live_bytes, (long long)bytes);
    memset(h + 1, 0, round_up(bytes));
    return h + 1;
}

void es_free(void *p) {
    void *block;
    memcpy(&block, p, sizeof block);
    if (!block) return;
    struct header *h = (struct header *)block - 1;
    atomic_fetch_sub(&live_blocks, 1);
    atomic_fetch_sub(&live_bytes, (long long)h->bytes);
    free(h);
    block = NULL;
    memcpy(p, &block, sizeof block);
}

char *es_strdup(const char *s, struct es_err *err) {
    size_t n = strlen(s) + 1;
    char *d = es_alloc(n, 1, err);
    if (d) memcpy(d, s, n);
    return d;
}

int64_t es_mem_live_blocks(void) {
    return live_blocks;
}
int64_t es_mem_live_bytes(void) {
    return live_bytes;
}
int64_t es_mem_allocations(void) {
    return n_allocations;
}

int64_t es_mem_peak_rss(void) {
    struct rusage ru;
    return getrusage(RUSAGE_SELF, &ru) == 0 ? (int64_t)ru.ru_maxrss * 1024 : 0;
}

int es_int_from_i64(int64_t v) {
    ES_ASSERT(v >= INT_MIN && v <= INT_MAX);
    return (int)v;
}

/* A dry arena hands out addresses from here up; nothing is mapped there. */
#define DRY_BASE ((char *)0x100000)

struct es_arena {
    char *base;
    void *block; /* NULL when dry */
    size_t bytes, used, peak;
};

int es_arena_new(struct es_arena **a, const char *tag, size_t bytes, struct es_err *err) {
    *a = es_alloc(1, sizeof **a, err);
    if (!*a) return -ES_EIO;
    (*a)->base = DRY_BASE;
    if (bytes > 0) {
        (*a)->block = es_alloc(1, round_up(bytes), err);
        if (!(*a)->block) {
            es_err_prefix(err, "arena %s", tag);
            es_free(a);
            return -ES_EIO;
        }
        (*a)->base = (*a)->block;
        (*a)->bytes = round_up(bytes);
    }
    return 0;
}

void es_arena_free(struct es_arena **a) {
    if (!*a) return;
    es_free(&(*a)->block);
    es_free(a);
}

void *es_arena_alloc(struct es_arena *a, size_t bytes) {
    size_t at = a->used;
    a->used += round_up(bytes);
    ES_ASSERT(!a->block || a->used <= a->bytes);
    if (a->used > a->peak) a->peak = a->used;
    return a->base + at;
}

size_t es_arena_mark(const struct es_arena *a) {
    return a->used;
}
void es_arena_reset(struct es_arena *a, size_t mark) {
    ES_ASSERT(mark <= a->used);
    a->used = mark;
}
size_t es_arena_peak(const struct es_arena *a) {
    return a->peak;
}
bool es_arena_is_dry(const struct es_arena *a) {
    return !a->block;
}
/* Pool: spans sorted by offset; neighbours that are free are one span. */
#define MAX_SPANS 4096
struct span {
    size_t at, bytes;
    bool used;
};

struct es_pool {
    char *base;
    void *block;
    size_t bytes, peak;
    int n_spans, live;
    struct span span[MAX_SPANS];
};

int es_pool_new(struct es_pool **p, const char *tag, size_t bytes, struct es_err *err) {
    *p = es_alloc(1, sizeof **p, err);
    if (!*p) return -ES_EIO;
    (*p)->base = DRY_BASE;
    (*p)->bytes = (size_t)1 << 60;
    if (bytes > 0) {
        (*p)->block = es_alloc(1, round_up(bytes), err);
        if (!(*p)->block) {
            es_err_prefix(err, "pool %s", tag);
            es_free(p);
            return -ES_EIO;
        }
        (*p)->base = (*p)->block;
        (*p)->bytes = round_up(bytes);
    }
    (*p)->n_spans = 1;
    (*p)->span[0] = (struct span){0, (*p)->bytes, false};
    return 0;
}

void es_pool_free(struct es_pool **p) {
    if (!*p) return;
    es_free(&(*p)->block);
    es_free(p);
}

void *es_pool_get(struct es_pool *p, size_t bytes) {
    bytes = round_up(bytes > 0 ? bytes : 1);
    for (int i = 0; i < p->n_spans; i++) {
        struct span *s = &p->span[i];
        if (s->used || s->bytes < bytes) continue;
        if (s->bytes > bytes) {
            ES_ASSERT(p->n_spans < MAX_SPANS);
            memmove(s + 2, s + 1, (size_t)(p->n_spans - i - 1) * sizeof *s);
            s[1] = (struct span){s->at + bytes, s->bytes - bytes, false};
            s->bytes = bytes;
            p->n_spans++;
        }
        s->used = true;
        p->live++;
        if (s->at + bytes > p->peak) p->peak = s->at + bytes;
        return p->base + s->at;
    }
    es_bug(__FILE__, __LINE__, "a block fits into the planned pool");
}

void es_pool_put(struct es_pool *p, void *block) {
    size_t at = (size_t)((char *)block - p->base);
    for (int i = 0; i < p->n_spans; i++) {
        struct span *s = &p->span[i];
        if (s->at != at) continue;
        ES_ASSERT(s->used);
        s->used = false;
        p->live--;
        int first = i, last = i;
        if (i > 0 && !p->span[i - 1].used) first = i - 1;
        if (i + 1 < p->n_spans && !p->span[i + 1].used) last = i + 1;
        if (last > first) {
            p->span[first].bytes = p->span[last].at + p->span[last].bytes - p->span[first].at;
            memmove(&p->span[first + 1], &p->span[last + 1], (size_t)(p->n_spans - last - 1) * sizeof *s);
            p->n_spans -= last - first;
        }
        return;
    }
    es_bug(__FILE__, __LINE__, "the block belongs to this pool");
}

size_t es_pool_peak(const struct es_pool *p) {
    return p->peak;
}
int es_pool_live(const struct es_pool *p) {
    return p->live;
}
