/* Shared by bf16.c and onednn.c. */
#ifndef EARSHOT_KERNELS_BF16_IMPL_H
#define EARSHOT_KERNELS_BF16_IMPL_H

#include "earshot/kernels_bf16.h"

#include "impl.h"

/* Linear layers on oneDNN's primitives, operands fp32 or bf16 (onednn.c). Arguments as in kernels_bf16.h. */
struct es_onednn;
struct es_onednn_weight;
bool es_onednn_has_bf16(void);
int es_onednn_new(struct es_onednn **d, bool bf16, struct es_err *err);
void es_onednn_free(struct es_onednn **d);
int es_onednn_weight_new(struct es_onednn_weight **w, struct es_onednn *d, int64_t in, int64_t out,
                         struct es_err *err);
void es_onednn_weight_free(struct es_onednn_weight **w);
void es_onednn_weight_set(struct es_onednn_weight *w, const float *master);
size_t es_onednn_weight_bytes(struct es_onednn *d, int64_t in, int64_t out);
size_t es_onednn_workspace(struct es_onednn *d, int64_t rows, int64_t in, int64_t out);
/* y = x w' + b + beta y; turned: y = x w + beta y, for dx. */
void es_onednn_product(const struct es_onednn_weight *w, bool turned, int64_t rows, const void *x,
                       const float *b, float beta, float *y, void *ws);
void es_onednn_dw(struct es_onednn *d, int64_t rows, int64_t in, int64_t out, const void *dy, const void *x,
                  float beta, float *dw);

double es_peak_run_bf16(double wall_s);

#endif
