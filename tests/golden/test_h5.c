/* The reader of golden data itself: shapes, types, failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "golden/h5.h"

static char optim[512];

static void shapes_and_types(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks(), shape[4] = {0};
    int ndim = -1;
    float *p = es_test_h5_read_f32(optim, "/adam_in/p2", shape, &ndim);
    assert_non_null(p);
    assert_int_equal(ndim, 3);
    assert_int_equal(shape[0] * 100 + shape[1] * 10 + shape[2], 322);
    assert_int_equal(shape[3], 1);
    double *d = es_test_h5_read_f64(optim, "adam_in/p2", NULL, NULL);
    assert_non_null(d);
    for (int i = 0; i < 12; i++) assert_true((float)d[i] == p[i]);
    int32_t *w = es_test_h5_read_i32(optim, "adam_in/warmup_total", shape, NULL);
    assert_non_null(w);
    assert_int_equal(shape[0], 2);
    assert_true(es_test_h5_has(optim, "ema/alpha"));
    assert_false(es_test_h5_has(optim, "ema/beta"));
    assert_null(es_test_h5_read_f32(optim, "ema/beta", shape, &ndim));
    assert_null(es_test_h5_read_f32("/nowhere.h5", "x", shape, &ndim));
    assert_null(es_test_h5_read_f32(optim, "ema", shape, &ndim));
    es_free(&p);
    es_free(&d);
    es_free(&w);
    assert_int_equal(es_mem_live_blocks(), before);
}

int main(void) {
    if (!es_test_shared("golden/models/optim.h5", optim, sizeof optim)) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes_and_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
