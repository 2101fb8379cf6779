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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths), cmocka_unit_test(tones),
                                       cmocka_unit_test(copies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
