/* Shared by the CRNN kernels of this folder only: choosing between fast and reference, and comparing them. */
#ifndef EARSHOT_CRNN_IMPL_H
#define EARSHOT_CRNN_IMPL_H

#include "earshot/kernels.h"
#include "earshot/kernels_crnn.h"

/* An array a kernel writes (or updates), and how far fast and reference may be apart in any element. */
struct es_k_out {
    void *p; /* float, or double when size says so; NULL: not asked for */
    int64_t n;
    double bound;
    size_t size;
};
#define ES_K_MAX_OUT 12

struct es_k_check {
    int n;
    struct es_k_out out[ES_K_MAX_OUT];
    char *saved[ES_K_MAX_OUT]; /* before: contents before the call; after swap: results of the fast version */
};
void es_k_check_begin(struct es_k_check *c, int n, const struct es_k_out *out);
void es_k_check_swap(struct es_k_check *c); /* between fast and reference */
/* Compares; leaves fast results. */
void es_k_check_end(struct es_k_check *c, const struct es_k_out *out, const char *kernel);

/* A 3x3 correlation of stride 1 and padding 1, [B,C,H,W] -> [B,O,H,W]; turned: w is [C,O,3,3], turned around (gradients). */
struct es_winograd {
    int64_t B, C, H, W, O;
    bool turned, add;
};
bool es_winograd_fits(const struct es_winograd *s);
size_t es_winograd_ws(const struct es_winograd *s);
void es_winograd(const struct es_winograd *s, const float *x, const float *w, const float *bias, float *y,
                 float *ws);

/* Runs es_k_<op> in the mode of ES_KERNELS. outs: ES_K_OUTS({pointer, n, bound, size}, ...), evaluated in
 * check mode only, before the call (pointers) and after it (bounds). */
#define ES_K_OUTS(...)                                                                                       \
    { __VA_ARGS__ }
#define ES_K_RUN(op, outs, ...)                                                                              \
    do {                                                                                                     \
        enum es_kernel_mode mode_ = es_kernel_mode();                                                        \
        if (mode_ == ES_KERNELS_REF) {                                                                       \
            es_k_##op##_ref_f32(__VA_ARGS__);                                                                \
        } else if (mode_ == ES_KERNELS_FAST) {                                                               \
            es_k_##op##_fast(__VA_ARGS__);                                                                   \
        } else {                                                                                             \
            struct es_k_check check_;                                                                        \
            struct es_k_out before_[] = outs;                                                                \
            es_k_check_begin(&check_, (int)(sizeof before_ / sizeof *before_), before_);                     \
            es_k_##op##_fast(__VA_ARGS__);                                                                   \
            es_k_check_swap(&check_);                                                                        \
            es_k_##op##_ref_f32(__VA_ARGS__);                                                                \
            struct es_k_out after_[] = outs;                                                                 \
            es_k_check_end(&check_, after_, #op);                                                            \
        }                                                                                                    \
    } while (0)

#endif
