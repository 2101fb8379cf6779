/* err, mem, rng, hash, fault: known answers and properties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

static void philox_known_answers(void **state) {
    (void)state;
    /* Random123 tests/kat_vectors, philox 4x32-10 */
    static const uint32_t ctr[3][4] = {{0, 0, 0, 0},
                                       {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
                                       {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
    static const uint32_t key[3][2] = {{0, 0}, {0xffffffff, 0xffffffff}, {0xa4093822, 0x299f31d0}};
    static const uint32_t want[3][4] = {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        es_philox4x32(ctr[i], key[i], out);
        assert_memory_equal(out, want[i], sizeof out);
    }
}

static void rng_streams(void **state) {
    (void)state;
    struct es_rng a = es_rng_make(7, ES_RNG_MIX, 3, 5, 0), b = a;
    for (int i = 0; i < 9; i++) assert_int_equal(es_rng_u32(&a), es_rng_u32(&b));
    struct es_rng c = es_rng_make(7, ES_RNG_AUGMENT, 3, 5, 0), d = es_rng_make(7, ES_RNG_MIX, 3, 5, 0);
    assert_int_not_equal(es_rng_u32(&c), es_rng_u32(&d));
    double sum = 0, sum2 = 0, beta = 0, near_ends = 0;
    const int n = 20000;
    for (int i = 0; i < n; i++) {
        double x = es_rng_normal(&a), y = es_rng_beta(&b, 0.2, 0.2);
        assert_true(y >= 0 && y <= 1);
        sum += x;
        sum2 += x * x;
        beta += y;
        near_ends += y < 0.01 || y > 0.99;
    }
    assert_true(fabs(sum / n) < 0.03 && fabs(sum2 / n - 1) < 0.05 && fabs(beta / n - 0.5) < 0.02);
    assert_true(near_ends / n > 0.35); /* Beta(0.2,0.2) has 0.41 of its mass there */
    int64_t perm[100], seen[100] = {0};
    es_rng_permutation(&a, 100, perm);
    for (int i = 0; i < 100; i++) seen[perm[i]]++;
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
    for (int i = 0; i < 1000; i++) assert_true(es_rng_below(&a, 7) < 7);
}

static void arenas_and_pools(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks();
    struct es_arena *dry = NULL, *real = NULL;
    assert_int_equal(es_arena_new(&dry, "dry", 0, NULL), 0);
    es_arena_alloc(dry, 100);
    size_t mark = es_arena_mark(dry);
    es_arena_alloc(dry, 1000);
    es_arena_reset(dry, mark);
    es_arena_alloc(dry, 10);
    assert_int_equal(es_arena_peak(dry), 128 + 1024);
    assert_int_equal(es_arena_new(&real, "real", es_arena_peak(dry), NULL), 0);
    char *p = es_arena_alloc(real, 1152);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 1, 1152);
    es_arena_free(&dry);
    es_arena_free(&real);
    struct es_pool *pool = NULL;
    assert_int_equal(es_pool_new(&pool, "pool", 64 * 10, NULL), 0);
    void *a = es_pool_get(pool, 64 * 4), *b = es_pool_get(pool, 64 * 4);
    es_pool_put(pool, a);
    void *c = es_pool_get(pool, 64), *d = es_pool_get(pool, 64 * 3);
    assert_ptr_equal(a, c);
    es_pool_put(pool, b);
    es_pool_put(pool, c);
    es_pool_put(pool, d);
    assert_int_equal(es_pool_live(pool), 0);
    assert_non_null(es_pool_get(pool, 640));
    es_pool_free(&pool);
    assert_int_equal(es_mem_live_blocks(), before);
    struct es_err err = {0};
    assert_null(es_alloc((size_t)-1, 8, &err));
    assert_int_equal(err.code, ES_EIO);
}

static void faults_count_down(void **state) {
    (void)state;
    es_fault_init("malloc:2@rank1,read:1", 1);
    void *p = es_alloc(1, 1, NULL);
    struct es_err err = {0};
    void *q = es_alloc(1, 1, &err);
    assert_non_null(p);
    assert_null(q);
    assert_int_equal(err.code, ES_EIO);
    assert_true(es_fault_hit("read"));
    assert_false(es_fault_hit("read"));
    es_fault_init("malloc:1@rank1", 0);
    q = es_alloc(1, 1, &err);
    assert_non_null(q);
    es_free(&p);
    es_free(&q);
    es_fault_init(NULL, 0);
}

static void errors_and_hash(void **state) {
    (void)state;
    struct es_err err = {0};
    assert_int_equal(es_err_set(&err, ES_EDATA, "row %d: bad\nvalue", 3), -65);
    es_err_prefix(&err, "file.tsv");
    assert_string_equal(err.msg, "file.tsv: row 3: bad value");
    struct es_hash *h = NULL;
    assert_int_equal(es_hash_new(&h, NULL), 0);
    es_hash_update(h, "ab", 2);
    es_hash_update(h, "c", 1);
    assert_int_equal(es_hash_value(h), es_hash_bytes("abc", 3));
    es_hash_free(&h);
    char hex[17];
    es_hash_hex(0xabcull, hex);
    assert_string_equal(hex, "0000000000000abc");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(philox_known_answers), cmocka_unit_test(rng_streams),
                                       cmocka_unit_test(arenas_and_pools),
                                       cmocka_unit_test(faults_count_down),
                                       cmocka_unit_test(errors_and_hash)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
