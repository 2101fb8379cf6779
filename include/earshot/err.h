/* Errors: a code, one line for people, at most one hint.
 *
 * Three kinds (ARCHITECTURE.md section 3):
 *   a bug               ES_ASSERT(condition): prints rank, file, line, condition, ends the whole job with 70;
 *   the world is wrong  return es_err_set(err, ES_EDATA, "..."): a negative code, the message in `err`;
 *   one rank failed before a collective: es_err_agree_all() of comm.h, after which all ranks hold the same
 * error.
 *
 * Functions return 0 (done), a positive value where documented (information), or a negative error -ES_E*. The
 * struct es_err is the last argument and may be NULL. A program's exit code is the absolute value.
 *
 * A message reads "where: what: got X, want Y; what to do". Collectivity: none of these calls communicates.
 */
#ifndef EARSHOT_ERR_H
#define EARSHOT_ERR_H

enum es_code {
    ES_OK = 0,
    ES_EUSAGE = 64,  /* bad usage or configuration */
    ES_EDATA = 65,   /* bad data */
    ES_EBUG = 70,    /* a bug */
    ES_EIO = 74,     /* input/output, memory, or a lost rank */
    ES_STOPPED = 75, /* stopped early in good order: run again to resume (not an error: returned positive) */
};

struct es_err {
    int code;       /* 0 or one of enum es_code */
    char msg[1024]; /* one line, no newline */
    char hint[256]; /* empty or one line */
};

/* Fills err (if not NULL) and returns -code. */
int es_err_set(struct es_err *err, enum es_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a hint to an error already set; returns -err->code. */
int es_err_hint(struct es_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "where: " before the message of an error already set; returns -err->code. */
int es_err_prefix(struct es_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void es_err_clear(struct es_err *err);

/* Returns from the caller when the call failed; for functions whose own result is an es_ code. */
#define ES_TRY(call)                                                                                         \
    do {                                                                                                     \
        int es_try_rc_ = (call);                                                                             \
        if (es_try_rc_ < 0) return es_try_rc_;                                                               \
    } while (0)

/* Sets rc and goes to done: on failure; for functions with one exit path. */
#define ES_GO(call)                                                                                          \
    do {                                                                                                     \
        rc = (call);                                                                                         \
        if (rc < 0) goto done;                                                                               \
    } while (0)

/* The end of everything after a bug; the comm module installs one that ends all ranks. Never returns. */
typedef void (*es_fatal_fn)(int code);
void es_fatal_handler(es_fatal_fn fn);
void es_bug(const char *file, int line, const char *what) __attribute__((noreturn));

#define ES_ASSERT(c) ((c) ? (void)0 : es_bug(__FILE__, __LINE__, #c))
#ifdef NDEBUG
#define ES_DASSERT(c) ((void)0)
#else
#define ES_DASSERT(c) ES_ASSERT(c)
#endif

#endif
