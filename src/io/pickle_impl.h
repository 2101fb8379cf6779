/* Shared by pickle.c (the stack machine) and pickle_torch.c (what PyTorch's callables mean). */
#ifndef EARSHOT_PICKLE_IMPL_H
#define EARSHOT_PICKLE_IMPL_H

#include "earshot/pickle.h"

struct machine {
    struct es_pickle *p;
    const uint8_t *bytes;
    size_t n, at, op_at; /* op_at: of the current operation */
    struct es_err *err;
    struct es_value **stack, **memo;
    size_t n_stack, cap_stack, n_memo, cap_memo;
    size_t *mark; /* heights of the stack */
    size_t n_marks, cap_marks;
    struct es_value *none, *yes, *no; /* shared */
    bool stopped;
};

int pickle_bad(struct machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* callable(*args) -> *out; args is a tuple. */
int pickle_call(struct machine *m, struct es_value *callable, struct es_value *args, struct es_value **out);
/* A persistent id -> storage, or an inert object. */
int pickle_storage(struct machine *m, const struct es_value *id, struct es_value **out);

#endif
