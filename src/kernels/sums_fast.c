/* Sum of squares over blocks, blocks in a perfect binary tree. */
#include "impl.h"

#define LANES 16
#define GROUP 1024 /* blocks of a subtree that threads share */

static double block(int64_t n, const float *x) {
    double s[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            double v = (double)x[i + l];
            s[l] += v * v;
        }
    }
    for (; i < n; i++) s[i % LANES] += (double)x[i] * (double)x[i];
    for (int w = LANES / 2; w > 0; w /= 2)
        for (int l = 0; l < w; l++) s[l] += s[l + w];
    return s[0];
}

/* Subtree over GROUP blocks; those past the end are 0, which adds nothing. */
static double group(int64_t n, const float *x) {
    double part[GROUP] = {0};
    int64_t blocks = es_min64(GROUP, (n + ES_SUMSQ_BLOCK - 1) / ES_SUMSQ_BLOCK);
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(n))
    for (int64_t b = 0; b < blocks; b++)
        part[b] = block(es_min64(ES_SUMSQ_BLOCK, n - b * ES_SUMSQ_BLOCK), x + b * ES_SUMSQ_BLOCK);
    for (int w = 1; w < GROUP; w *= 2)
        for (int b = 0; b < GROUP; b += 2 * w) part[b] += part[b + w];
    return part[0];
}

double es_k_sumsq_fast(int64_t n, const float *x) {
    const int64_t step = (int64_t)GROUP * ES_SUMSQ_BLOCK;
    double level[48] = {0}; /* binary counter over groups: full subtrees of 2^l groups */
    int64_t count = 0;
    for (int64_t i = 0; i < n; i += step, count++) {
        double s = group(n - i, x + i);
        int l = 0;
        for (int64_t c = count; c & 1; c >>= 1, l++) s = level[l] + s;
        level[l] = s;
    }
    double total = 0;
    for (int l = 0; l < 48; l++) /* what is left: the missing right neighbours are 0 */
        if (count >> l & 1) total = level[l] + total;
    return total;
}
