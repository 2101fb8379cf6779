/* Resampling: length, tones, symmetry in amplitude, silence, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/mem.h"
#include "earshot/resample.h"

#include "io_help.h"

#define PI 3.14159265358979323846

static float *tone(double f_hz, int rate_hz, int64_t n) {
    float *x = es_alloc((size_t)n, sizeof *x, NULL);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(0.5 * sin(2 * PI * f_hz * (double)i / rate_hz));
    return x;
}

static void lengths(void **state) {
    (void)state;
    static const int rates[] = {8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000};
    static const int64_t counts[] = {0, 1, 2, 3, 7, 441, 4411, 44100, 100003};
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            int64_t n = counts[c], want = (int64_t)ceil((double)n * 16000 / rates[r] - 1e-9), got;
            float *x = tone(440, rates[r], n), *y = NULL;
            assert_int_equal(es_resample(x, n, rates[r], 16000, &y, &got, NULL), 0);
            assert_int_equal(got, want);
            for (int64_t i = 0; i < got; i++) assert_true(isfinite(y[i]));
            es_free(&y);
            es_free(&x);
        }
}

/* A tone below both Nyquist frequencies comes out as the same tone; one above the new Nyquist frequency vanishes. 5.8e-4 is the
 * 0.01 dB by which soxr's HQ recipe may fall towards the end of its pass band (7.3 kHz), at amplitude 0.5. */
static void tones(void **state) {
    (void)state;
    static const struct {
        int rate_hz;
        double f_hz, most;
    } cases[] = {{44100, 1000, 1e-5},
                 {44100, 6500, 5.8e-4},
                 {48000, 3000, 1e-5},
                 {8000, 1000, 1e-5},
                 {22050, 5000, 5.8e-4}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t n = cases[c].rate_hz * 2, got;
        float *x = tone(cases[c].f_hz, cases[c].rate_hz, n), *y = NULL;
        assert_int_equal(es_resample(x, n, cases[c].rate_hz, 16000, &y, &got, NULL), 0);
        double worst = 0;
        for (int64_t i = 2000; i < got - 2000; i++)
            worst = fmax(worst, fabs((double)y[i] - 0.5 * sin(2 * PI * cases[c].f_hz * (double)i / 16000)));
        if (worst > cases[c].most)
            print_message("%d Hz, tone %g Hz: error %g\n", cases[c].rate_hz, cases[c].f_hz, worst);
        assert_true(worst <= cases[c].most);
        es_free(&y);
        es_free(&x);
    }
    int64_t got;
    float *x = tone(9000, 44100, 88200), *y = NULL;
    assert_int_equal(es_resample(x, 88200, 44100, 16000, &y, &got, NULL), 0);
    for (int64_t i = 2000; i < got - 2000; i++) assert_true(fabsf(y[i]) < 1e-5f);
    es_free(&y);
    es_free(&x);
}

static void copies(void **state) {
    (void)state;
    int64_t got;
    float *x = tone(440, 16000, 1000), *y = NULL;
    assert_int_equal(es_resample(x, 1000, 16000, 16000, &y, &got, NULL), 0);
    assert_int_equal(got, 1000);
    assert_memory_equal(x, y, 4000);
    es_free(&y);
    for (int i = 0; i < 1000; i++) x[i] = 0;
    assert_int_equal(es_resample(x, 1000, 44100, 16000, &y, &got, NULL), 0);
    for (int64_t i = 0; i < got; i++) assert_true(y[i] == 0.0f);
    es_free(&y);
    es_free(&x);
}

/* NumPy, the formula of torchaudio.functional.resample written anew:
 *   idx = arange(-width, width + in) / in; t = clip((-arange(out)[:, None] / out + idx) * cut, -6, 6)
 *   kernel = sinc(t) * i0(beta * sqrt(1 - (t / 6)**2)) / i0(beta) * cut / in */
static void kaiser(void **state) {
    (void)state;
    static const struct {
        int rate_hz, n;
        double y[5]; /* samples 0, 1, 7, the middle one, the last */
    } cases[] = {{32000, 25, {-0.254356251, -0.0690220252, -0.0506066229, -0.00996179547, 0.101933125}},
                 {44100, 19, {-0.188524093, -0.0736937213, 0.126131125, -0.0116165035, 0.142901477}},
                 {8000, 100, {-0.497749035, -0.42974503, -0.353308915, -0.338131187, 0.249276491}},
                 {22050, 37, {-0.422143339, 0.0652900206, -0.0270519295, -0.160805754, 0.228957178}}};
    float x[50];
    for (int i = 0; i < 50; i++) x[i] = (float)((double)(i * 37 % 101) / 101 - 0.5);
    for (int c = 0; c < 4; c++) {
        int64_t n;
        float *y = NULL;
        assert_int_equal(es_resample_kaiser(x, 50, cases[c].rate_hz, 16000, &y, &n, NULL), 0);
        assert_int_equal(n, cases[c].n);
        const int64_t at[5] = {0, 1, 7, n / 2, n - 1};
        for (int i = 0; i < 5; i++)
            assert_true(fabs((double)y[at[i]] - cases[c].y[i]) < 3e-8); /* half a bit of float32 at 0.5 */
        es_free(&y);
    }
    int64_t n;
    float *y = NULL;
    assert_int_equal(es_resample_kaiser(x, 50, 16000, 16000, &y, &n, NULL), 0);
    assert_memory_equal(x, y, sizeof x);
    es_free(&y);
    assert_int_equal(es_resample_kaiser(x, 0, 32000, 16000, &y, &n, NULL), 0);
    assert_int_equal(n, 0);
    es_free(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths), cmocka_unit_test(tones),
                                       cmocka_unit_test(copies), cmocka_unit_test(kaiser)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
