/* Frame median filter: the definition, sorted out window by window; properties; class-wise on score tables. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/scores.h"

enum { MAX_N = 70, MAX_W = 150 };

static int compare_doubles(const void *x, const void *y) {
    const double *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* Mirror by walking: d c b a | a b c d | d c b a. */
static double mirrored(const double *in, int n, int i) {
    while (i < 0 || i >= n) i = i < 0 ? -1 - i : 2 * n - 1 - i;
    return in[i];
}

static void by_definition(int n, int w, const double *in, double *out) {
    for (int i = 0; i < n; i++) {
        double window[MAX_W];
        for (int j = 0; j < w; j++) window[j] = mirrored(in, n, i - w / 2 + j);
        qsort(window, (size_t)w, sizeof *window, compare_doubles);
        out[i] = window[w / 2];
    }
}

static void equals_definition(void **state) {
    (void)state;
    struct es_rng rng = es_rng_make(11, ES_RNG_MIX, 0, 0, 0);
    double in[MAX_N], got[MAX_N + 2], want[MAX_N], ws[MAX_W + 1];
    for (int trial = 0; trial < 3000; trial++) {
        const int n = 1 + (int)es_rng_below(&rng, MAX_N), w = 1 + (int)es_rng_below(&rng, MAX_W);
        const uint64_t kinds = 1 + es_rng_below(&rng, 100); /* few kinds: ties */
        for (int i = 0; i < n; i++) {
            in[i] = (double)es_rng_below(&rng, kinds) / 8 - 3;
            if (es_rng_below(&rng, 10) == 0) in[i] = -HUGE_VAL;
        }
        got[0] = got[n + 1] = ws[w] = 1234;
        es_median_filter(n, w, in, got + 1, ws);
        by_definition(n, w, in, want);
        for (int i = 0; i < n; i++) assert_true(got[i + 1] == want[i]);
        assert_true(got[0] == 1234 && got[n + 1] == 1234 && ws[w] == 1234);
    }
}

static void known_answers(void **state) {
    (void)state;
    const double in[5] = {5, 1, 4, 2, 3};
    double out[5], ws[8];
    es_median_filter(5, 1, in, out, ws);
    assert_memory_equal(out, in, sizeof in);
    es_median_filter(5, 3, in, out, ws); /* 5 5 1 | 5 1 4 | 1 4 2 | 4 2 3 | 2 3 3 */
    assert_memory_equal(out, ((double[]){5, 4, 2, 3, 3}), sizeof out);
    es_median_filter(5, 2, in, out, ws); /* upper of 5 5 | 5 1 | 1 4 | 4 2 | 2 3 */
    assert_memory_equal(out, ((double[]){5, 5, 4, 4, 3}), sizeof out);
}

static void on_score_tables(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    struct es_err err = {0};
    struct es_scores *s = NULL, *f = NULL;
    const char *ids[2] = {"a", "b"}, *classes[2] = {"x", "y"};
    const double edges[6] = {0, 1, 2, 3, 4, 5};
    float v[2 * 5 * 2]; /* clip, frame, class */
    struct es_rng rng = es_rng_make(3, ES_RNG_MIX, 0, 0, 0);
    for (int i = 0; i < 20; i++) v[i] = (float)es_rng_normal(&rng);
    assert_int_equal(es_scores_from_array(&s, 2, ids, 5, edges, 2, classes, v, "array", &err), 0);
    const int window[2] = {1, 3};
    assert_int_equal(es_scores_median(&f, s, window, &err), 0);
    for (int c = 0; c < 2; c++) {
        double in[5], want[5], got[5], ws[3];
        es_scores_column(f, c, 0, got);
        es_scores_column(s, c, 0, in);
        assert_memory_equal(got, in, sizeof in);
        es_scores_column(f, c, 1, got);
        es_scores_column(s, c, 1, in);
        es_median_filter(5, 3, in, want, ws);
        assert_memory_equal(got, want, sizeof want);
        assert_memory_equal(f->clips[c].edges_s, edges, sizeof edges);
    }
    es_scores_free(&f);
    v[7] = (float)NAN; /* clip a, frame 3, class y */
    assert_int_equal(es_scores_median(&f, s, window, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "clip a, frame 3, class y"));
    assert_null(f);
    es_scores_free(&s);
    assert_int_equal(es_mem_live_blocks(), live);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_definition), cmocka_unit_test(known_answers),
                                       cmocka_unit_test(on_score_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
