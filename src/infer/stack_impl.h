/* Shared by stack.c and stack_fit.c. */
#ifndef EARSHOT_STACK_IMPL_H
#define EARSHOT_STACK_IMPL_H

#include "earshot/stack.h"

#define STACK_SLOPE 8.0 /* a fit of -1/2 .. 1/2 becomes a logit of -4 .. 4 */
enum { STACK_MAX_CONTEXT = 32 };

/* Equal weights, nothing fitted. */
int stack_new(struct es_stack **s, int n_models, int n_classes, int context, struct es_err *err);
float stack_share(float logit); /* sigmoid - 1/2 */
/* Features of frame t: row [n_features]. */
void stack_row(const struct es_stack *s, int T, const float *const *z, int t, float *row);

#endif
