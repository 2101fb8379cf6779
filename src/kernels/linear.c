/* Matrix products: choice, check, BLAS. */
#include <math.h>

#include <cblas.h>

#include "impl.h"

static int blas_int(int64_t v) {
    ES_ASSERT(v >= 0 && v <= 0x7fffffff);
    return (int)v;
}

/* C = alpha op(A) op(B) + beta C + bias: reference and error bound, taken before the fast kernel runs. */
struct check {
    float *want, *bound;
    int64_t n;
    double tol;
};

static struct check check_begin(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                                const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                                const float *c, int64_t ldc, const float *bias) {
    struct check s = {.n = m > 0 && n > 0 ? (m - 1) * ldc + n : 0};
    s.want = es_check_begin(s.n, c);
    if (!s.want) return s;
    s.bound = es_check_abs(s.n, c);
    s.tol = 1.1 * ((double)k + 8) * ES_EPS; /* one rounding a term, a few for scaling, bias and the sum */
    int64_t na = trans_a ? (k - 1) * lda + m : (m - 1) * lda + k,
            nb = trans_b ? (n - 1) * ldb + k : (k - 1) * ldb + n;
    float *aa = k > 0 ? es_check_abs(na, a) : NULL, *bb = k > 0 ? es_check_abs(nb, b) : NULL;
    es_k_gemm_ref_f32(trans_a, trans_b, m, n, k, (double)alpha, a, lda, b, ldb, (double)beta, s.want, ldc);
    es_k_gemm_ref_f32(trans_a, trans_b, m, n, k, fabs((double)alpha), aa, lda, bb, ldb, fabs((double)beta),
                      s.bound, ldc);
    for (int64_t i = 0; bias && i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            s.want[i * ldc + j] += bias[j];
            s.bound[i * ldc + j] += fabsf(bias[j]);
        }
    es_check_free(&aa);
    es_check_free(&bb);
    return s;
}

static void check_end(const char *what, struct check *s, const float *c) {
    es_check_end(what, s->n, c, &s->want, s->tol, s->bound);
    es_check_free(&s->bound);
}

void es_k_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
               int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m == 0 || n == 0) return;
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_gemm_ref_f32(trans_a, trans_b, m, n, k, (double)alpha, a, lda, b, ldb, (double)beta, c, ldc);
        return;
    }
    struct check s = check_begin(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, NULL);
    cblas_sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans, trans_b ? CblasTrans : CblasNoTrans,
                blas_int(m), blas_int(n), blas_int(k), alpha, a, blas_int(lda), b, blas_int(ldb), beta, c,
                blas_int(ldc));
    check_end("gemm", &s, c);
}

static size_t product_bytes(int64_t n, int64_t k) {
    return es_kernel_avx512() ? es_product_bytes_avx512(n, k) : es_product_bytes_avx2(n, k);
}

static void product(const struct es_product *p, void *ws) {
    (es_kernel_avx512() ? es_product_avx512 : es_product_avx2)(p, ws);
}

size_t es_k_linear_workspace(int64_t rows, int64_t in, int64_t out) {
    size_t fwd = product_bytes(out, in), dx = product_bytes(in, out), dw = product_bytes(in, rows);
    size_t most = fwd > dx ? fwd : dx;
    return most > dw ? most : dw;
}

void es_k_linear_fwd(int64_t rows, int64_t in, int64_t out, const float *x, const float *w, const float *b,
                     float *y, void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_linear_fwd_ref_f32(rows, in, out, x, w, b, y);
        return;
    }
    struct check s = check_begin(false, true, rows, out, in, 1.0f, x, in, w, in, 0.0f, y, out, b);
    product(&(struct es_product){.m = rows,
                                 .n = out,
                                 .k = in,
                                 .a = x,
                                 .ars = in,
                                 .acs = 1,
                                 .b = w,
                                 .brs = 1,
                                 .bcs = in,
                                 .bias = b,
                                 .c = y,
                                 .ldc = out},
            ws);
    check_end("linear_fwd", &s, y);
}

void es_k_linear_dx(int64_t rows, int64_t in, int64_t out, const float *dy, const float *w, float beta,
                    float *dx, void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_linear_dx_ref_f32(rows, in, out, dy, w, (double)beta, dx);
        return;
    }
    struct check s = check_begin(false, false, rows, in, out, 1.0f, dy, out, w, in, beta, dx, in, NULL);
    product(&(struct es_product){.m = rows,
                                 .n = in,
                                 .k = out,
                                 .a = dy,
                                 .ars = out,
                                 .acs = 1,
                                 .b = w,
                                 .brs = in,
                                 .bcs = 1,
                                 .beta = beta,
                                 .c = dx,
                                 .ldc = in},
            ws);
    check_end("linear_dx", &s, dx);
}

void es_k_linear_dw(int64_t rows, int64_t in, int64_t out, const float *dy, const float *x, float beta,
                    float *dw, void *ws) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_linear_dw_ref_f32(rows, in, out, dy, x, (double)beta, dw);
        return;
    }
    struct check s = check_begin(true, false, out, in, rows, 1.0f, dy, out, x, in, beta, dw, in, NULL);
    product(&(struct es_product){.m = out,
                                 .n = in,
                                 .k = rows,
                                 .a = dy,
                                 .ars = 1,
                                 .acs = out,
                                 .b = x,
                                 .brs = in,
                                 .bcs = 1,
                                 .beta = beta,
                                 .c = dw,
                                 .ldc = in},
            ws);
    check_end("linear_dw", &s, dw);
}

void es_k_colsum(int64_t rows, int64_t cols, const float *x, float beta, float *sum) {
    if (es_kernel_mode() == ES_KERNELS_REF) {
        es_k_colsum_ref_f32(rows, cols, x, (double)beta, sum);
        return;
    }
    float *want = es_check_begin(cols, sum), *bound = es_check_abs(cols, sum),
          *ax = es_check_abs(rows * cols, x);
    if (want) {
        es_k_colsum_ref_f32(rows, cols, x, (double)beta, want);
        es_k_colsum_ref_f32(rows, cols, ax, fabs((double)beta), bound);
    }
    es_k_colsum_fast(rows, cols, x, beta, sum);
    es_check_end("colsum", cols, sum, &want, 66 * ES_EPS, bound);
    es_check_free(&bound);
    es_check_free(&ax);
}
