/* Register-only vdpbf16ps, as peak_fast.inc; compiled with the flags of AVX512-BF16 and run only where the processor has it. */
#include <math.h>
#include <omp.h>

#include "bf16_impl.h"
#define ES_VL 16
#include "micro_fast.h"

#ifdef __AVX512BF16__
#define CHAINS 12
#define ROUNDS 50000

/* Sums grow by 2 a 1e-6 each round: finite for a long time. */
static float spin(float x) {
    const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(1e-3f));
    __m512 s[CHAINS];
    ES_UNROLL_ for (int c = 0; c < CHAINS; c++) s[c] = _mm512_set1_ps(x + 0.01f * (float)c);
    for (int i = 0; i < ROUNDS; i++) {
        __asm__ volatile("");
        ES_UNROLL_ for (int c = 0; c < CHAINS; c++) s[c] = _mm512_dpbf16_ps(s[c], a, a);
    }
    ES_UNROLL_ for (int c = 1; c < CHAINS; c++) s[0] = _mm512_add_ps(s[0], s[c]);
    float lanes[16];
    _mm512_storeu_ps(lanes, s[0]);
    return lanes[0];
}

double es_peak_run_bf16(double wall_s) {
    double start = omp_get_wtime(), now = start, n = 0;
    float x = 0.5f;
    while (now - start < wall_s) {
        x = spin(x * 0.01f);
        n += 2.0 * 32 * CHAINS * ROUNDS; /* 16 lanes of two products */
        now = omp_get_wtime();
    }
    return x < 0 ? 0 : n / (now - start) * 1e-9;
}
#else /* a compiler without it */
double es_peak_run_bf16(double wall_s) {
    (void)wall_s;
    return (double)NAN;
}
#endif
