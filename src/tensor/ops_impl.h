/* Shared by the operations on the tape. */
#ifndef EARSHOT_TENSOR_OPS_IMPL_H
#define EARSHOT_TENSOR_OPS_IMPL_H

#include "earshot/ops.h"

/* A gradient that may be absent (p NULL) and is written or added to. */
struct grad {
    float *p;
    bool add;
};

static inline struct grad grad_of(struct es_tape *t, struct es_tensor *x) {
    float beta = 0;
    float *p = es_tape_grad(t, x, &beta);
    return (struct grad){p, beta != 0.0f};
}

#endif
