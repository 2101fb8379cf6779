/* Which kernels run, on how many threads, with which instructions. The three words below are read once from the environment
 * and then stay: they are the choice itself, not state. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>
#include <omp.h>

#include "bf16_impl.h"

static const char *const mode_name[] = {
    [ES_KERNELS_FAST] = "fast", [ES_KERNELS_REF] = "ref", [ES_KERNELS_CHECK] = "check"};
enum { N_MODES = sizeof mode_name / sizeof mode_name[0] };
_Static_assert(N_MODES == ES_KERNELS_CHECK + 1, "a name per mode");

enum { UNKNOWN = -1, BAD = -2 };
static _Atomic int the_mode = UNKNOWN;
static _Atomic int use_avx512 = UNKNOWN;
static _Atomic int the_bf16 = UNKNOWN;

static int mode_from(const char *word) {
    if (!word || !*word) return ES_KERNELS_FAST;
    for (int i = 0; i < N_MODES; i++)
        if (strcmp(word, mode_name[i]) == 0) return i;
    return BAD;
}

/* ES_BF16; without it what the processor has. */
static int bf16_from(const char *word) {
    if (!word || !*word) return es_bf16_instructions() ? ES_BF16_ONEDNN : ES_BF16_NONE;
    if (strcmp(word, "off") == 0) return ES_BF16_NONE;
    for (int kind = ES_BF16_EMULATED; kind <= ES_BF16_ONEDNN_FP32; kind++)
        if (strcmp(word, es_bf16_kind_name((enum es_bf16_kind)kind)) == 0) return kind;
    return BAD;
}

int es_kernel_init(struct es_err *err) {
    const char *word = getenv("ES_KERNELS"), *isa = getenv("ES_ISA"), *bf16 = getenv("ES_BF16");
    if (mode_from(word) == BAD)
        return es_err_set(err, ES_EUSAGE, "environment: ES_KERNELS: got \"%s\", want fast, ref or check",
                          word);
    if (isa && *isa && strcmp(isa, "avx2") != 0 && strcmp(isa, "avx512") != 0)
        return es_err_set(err, ES_EUSAGE, "environment: ES_ISA: got \"%s\", want avx2 or avx512", isa);
    if (bf16_from(bf16) == BAD)
        return es_err_set(err, ES_EUSAGE,
                          "environment: ES_BF16: got \"%s\", want emulate, onednn-fp32 or off", bf16);
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return es_err_set(err, ES_EUSAGE,
                          "this CPU: no AVX2 and FMA; run on an x86-64-v3 machine (2013 or later)");
    return 0;
}

enum es_kernel_mode es_kernel_mode(void) {
    int m = atomic_load_explicit(&the_mode, memory_order_relaxed);
    if (m == UNKNOWN) {
        m = mode_from(getenv("ES_KERNELS"));
        ES_ASSERT(m != BAD); /* es_kernel_init said so politely */
        atomic_store_explicit(&the_mode, m, memory_order_relaxed);
    }
    return (enum es_kernel_mode)m;
}

void es_kernel_set_mode(enum es_kernel_mode mode) {
    atomic_store_explicit(&the_mode, (int)mode, memory_order_relaxed);
}

int es_kernel_threads(void) {
    return omp_get_max_threads();
}

void es_kernel_set_threads(int n) {
    ES_ASSERT(n > 0);
    omp_set_num_threads(n);
    openblas_set_num_threads(n);
}

int es_kernel_team(int64_t n) {
    return n < 65536 ? 1 : es_kernel_threads();
}

bool es_kernel_avx512(void) {
    int u = atomic_load_explicit(&use_avx512, memory_order_relaxed);
    if (u == UNKNOWN) {
        const char *isa = getenv("ES_ISA");
        u = __builtin_cpu_supports("avx512f") && !(isa && strcmp(isa, "avx2") == 0);
        atomic_store_explicit(&use_avx512, u, memory_order_relaxed);
    }
    return u != 0;
}

const char *es_kernel_isa(void) {
    return es_kernel_avx512() ? "avx512" : "avx2";
}

enum es_bf16_kind es_bf16_kind(void) {
    int kind = atomic_load_explicit(&the_bf16, memory_order_relaxed);
    if (kind == UNKNOWN) {
        kind = bf16_from(getenv("ES_BF16"));
        ES_ASSERT(kind != BAD);
        atomic_store_explicit(&the_bf16, kind, memory_order_relaxed);
    }
    return (enum es_bf16_kind)kind;
}
