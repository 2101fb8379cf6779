/* Column sums. Each thread owns columns, so the order over rows is fixed: 64 rows in float, these sums in double. */
#include "impl.h"

#define WIDE 64 /* columns at a time */
#define DEEP 64

static void sum_columns(int64_t rows, int64_t cols, int64_t ld, const float *x, float beta, float *sum) {
    double total[WIDE] = {0};
    float part[WIDE];
    for (int64_t i0 = 0; i0 < rows; i0 += DEEP) {
        int64_t i1 = es_min64(rows, i0 + DEEP);
        for (int j = 0; j < WIDE; j++) part[j] = 0.0f;
        for (int64_t i = i0; i < i1; i++)
            for (int64_t j = 0; j < cols; j++) part[j] += x[i * ld + j];
        for (int64_t j = 0; j < cols; j++) total[j] += (double)part[j];
    }
    for (int64_t j = 0; j < cols; j++)
        sum[j] = (float)(total[j] + (beta == 0.0f ? 0.0 : (double)beta * (double)sum[j]));
}

void es_k_colsum_fast(int64_t rows, int64_t cols, const float *x, float beta, float *sum) {
#pragma omp parallel for schedule(static) num_threads(es_kernel_team(rows *cols))
    for (int64_t j = 0; j < cols; j += WIDE) {
        if (cols - j >= WIDE) /* a constant width vectorises */
            sum_columns(rows, WIDE, cols, x + j, beta, sum + j);
        else
            sum_columns(rows, cols - j, cols, x + j, beta, sum + j);
    }
}
