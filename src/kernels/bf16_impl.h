/* Shared by bf16.c, bf16_attention.c, onednn.c and the kernels that read or write bf16 numbers. */
#ifndef EARSHOT_KERNELS_BF16_IMPL_H
#define EARSHOT_KERNELS_BF16_IMPL_H

#include "earshot/kernels_bf16.h"

#include <string.h>

#include "impl.h"

/* bf16 numbers alone and two in a word, also where memory was made for floats. */
typedef uint16_t __attribute__((may_alias)) es_half;
typedef uint32_t __attribute__((may_alias)) es_word;

/* x rounded (es_k_bf16_round) in the upper half; the lower half is anything. */
static inline uint32_t es_bf16_bits(float x) {
    uint32_t u, nan;
    memcpy(&u, &x, sizeof u);
    nan = (u & 0x7fffffffu) > 0x7f800000u;
    return nan ? u | 0x400000u : u + 0x7fffu + (u >> 16 & 1u); /* the tie goes up from an odd number */
}
static inline float es_bf16_value(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Linear layers on oneDNN's primitives, operands fp32 or bf16 (onednn.c). Arguments as in kernels_bf16.h. */
struct es_onednn;
struct es_onednn_weight;
struct es_bf16 {
    enum es_bf16_kind kind;
    struct es_onednn *onednn; /* NULL: emulated */
};
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
