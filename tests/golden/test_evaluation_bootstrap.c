/* TIMEOUT 120
 * Bootstrap against golden/evaluation, case 10. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/bootstrap.h"
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "evaluation_compare.h"

#define DIR05 "05_synthetic_10_classes/"

static void compare_interval(struct tally *t, const char *what, struct es_interval got, struct js *want) {
    compare(t, VALUE, what, "mean", got.mean, want->first->num);
    compare(t, VALUE, what, "low", got.low, want->first->next->num);
    compare(t, VALUE, what, "high", got.high, want->first->next->next->num);
}

static const struct es_bootstrap_row *row_of(const struct es_bootstrap *b, const char *name) {
    for (int r = 0; r < b->n_rows; r++)
        if (strcmp(b->rows[r].name, name) == 0) return &b->rows[r];
    fail_msg("no row %s", name);
    return NULL;
}

/* An object by class, with an average under one of several names. */
static void compare_sample(struct tally *t, const struct es_bootstrap *b, const struct es_bootstrap_row *row,
                           int s, struct js *want) {
    for (struct js *v = want->first; v; v = v->next) {
        int k = 0;
        while (k < b->n_classes && strcmp(b->class_name[k], v->key) != 0) k++;
        if (k < b->n_classes)
            compare(t, VALUE, row->name, v->key, row->class_value[s * b->n_classes + k], v->num);
        else if (strcmp(v->key, "micro_average") != 0)
            compare(t, VALUE, row->name, v->key, row->value[s], v->num);
    }
}

static void compare_row(struct tally *t, const struct es_bootstrap *b, const char *name, struct js *want) {
    const struct es_bootstrap_row *row = row_of(b, name);
    struct js *single = js_get(want, "single_class_values"), *ci = js_get(want, "confidence_interval_90"),
              *single_ci = js_get(want, "single_class_confidence_interval_90");
    int s = 0;
    for (struct js *v = js_get(want, "values")->first; v; v = v->next, s++) {
        if (v->type == JS_OBJECT)
            compare_sample(t, b, row, s, v);
        else
            compare(t, VALUE, name, "value", row->value[s], v->num);
    }
    compare(t, COUNT, name, "samples", s, b->n_samples);
    s = 0;
    for (struct js *v = single ? single->first : NULL; v; v = v->next) {
        if (v->type == JS_OBJECT) {
            compare_sample(t, b, row, s++, v);
            continue;
        }
        int k = 0, i = 0; /* by class: a value a sample */
        while (strcmp(b->class_name[k], v->key) != 0) k++;
        for (struct js *x = v->first; x; x = x->next, i++)
            compare(t, VALUE, name, v->key, row->class_value[i * b->n_classes + k], x->num);
    }
    if (ci->type == JS_ARRAY) compare_interval(t, name, row->interval, ci);
    struct js *by_class = ci->type == JS_OBJECT ? ci : single_ci;
    for (struct js *v = by_class ? by_class->first : NULL; v; v = v->next) {
        int k = 0;
        while (k < b->n_classes && strcmp(b->class_name[k], v->key) != 0) k++;
        if (k < b->n_classes)
            compare_interval(t, v->key, row->class_interval[k], v);
        else if (strcmp(v->key, "micro_average") != 0)
            compare_interval(t, v->key, row->interval, v);
    }
    js_get(want, "thresholds"); /* best-F1 thresholds: below */
    all_used(t, want, name);
}

static void micro_and_thresholds(struct tally *t, const struct es_evalset *set, const int64_t *index,
                                 int n_samples, struct js *fixed, struct js *best) {
    struct js *v[2] = {js_get(fixed, "values")->first, js_get(best, "values")->first},
              *th = js_get(best, "thresholds") ? js_get(best, "thresholds")->first : NULL;
    const int64_t n = es_evalset_clips(set);
    for (int s = 0; s < n_samples; s++) {
        struct es_err err = {0};
        struct es_evalset *sample = NULL;
        struct es_f1 *f1 = NULL;
        const struct es_f1_params p = es_f1_params_default();
        must(es_evalset_resample(&sample, set, index + s * n, n, &err), &err);
        must(es_f1_new(&f1, sample, ES_F1_COLLAR, &p, 0.5, &err), &err);
        compare(t, VALUE, "fixed", "micro", f1->fixed_micro.f, js_number(v[0], "micro_average", (double)NAN));
        compare(t, VALUE, "best", "micro", f1->best_micro.f, js_number(v[1], "micro_average", (double)NAN));
        for (struct js *x = th ? th->first : NULL; x; x = x->next)
            compare(t, LEVEL, "threshold", x->key, f1->best[class_index(sample, x->key)].threshold, x->num);
        es_f1_free(&f1);
        es_evalset_free(&sample);
        v[0] = v[0]->next;
        v[1] = v[1]->next;
        if (th) th = th->next;
    }
}

static void bootstrap(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    struct es_bootstrap *b = NULL;
    struct tally t = {.name = "10"};
    int64_t numbers[300];
    file_open(&c, DIR05 "scores.h5", DIR05 "ground_truth.tsv", DIR05 "audio_durations.tsv",
              "10_bootstrap/expected.json.gz");
    struct js *want = c.expected;
    must(es_evalset_new(&set, c.scores, c.truth, &(struct es_evalset_params){0}, &err), &err);
    struct es_bootstrap_params p = es_bootstrap_params_default();
    p.n_samples = (int)js_number(want, "n_bootstrap_samples", 0);
    const int64_t n = es_evalset_clips(set);
    int64_t i = 0, *index = es_alloc((size_t)(n * p.n_samples), sizeof *index, NULL);
    es_bootstrap_indices(index, n, p.n_samples, 0);
    for (struct js *s = js_get(want, "sample_clip_indices")->first; s; s = s->next)
        for (struct js *v = s->first; v; v = v->next)
            compare(&t, COUNT, "index", "", (double)index[i++], v->num);
    must(es_bootstrap_all(&b, set, NULL, "psds1,psds2,collar_f1,mpauc", &p, &err), &err);
    static const char *const row[][2] = {{"psds1", "psds1"},
                                         {"psds2", "psds2"},
                                         {"collar_f1_at_0.5", "collar_f1"},
                                         {"collar_best_f1", "collar_f1_best"},
                                         {"mpauc_fpr0.1_linear_stable", "mpauc"}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++)
        compare_row(&t, b, row[r][1], js_get(want, row[r][0]));
    /* clips of the set are in order of their names in this file */
    i = 0;
    for (struct js *v = js_get(want, "clip_ids_sorted")->first; v; v = v->next)
        assert_string_equal(v->str, es_evalset_clip_id(set, i++));
    micro_and_thresholds(&t, set, index, p.n_samples, js_get(want, "collar_f1_at_0.5"),
                         js_get(want, "collar_best_f1"));
    struct es_mt19937 mt;
    es_mt_seed(&mt, 0);
    for (struct js *v = js_get(want, "mt19937_seed0_first_uint32")->first; v; v = v->next)
        compare(&t, COUNT, "mt19937", "", (double)es_mt_u32(&mt), v->num);
    for (int k = 0; k < 2; k++) {
        struct js *list = js_get(want, k ? "shuffle_seed0_of_0_to_299" : "shuffle_seed0_of_0_to_9");
        for (int64_t q = 0; q < list->n; q++) numbers[q] = q;
        es_mt_seed(&mt, 0);
        es_mt_shuffle(&mt, list->n, numbers);
        int64_t q = 0;
        for (struct js *v = list->first; v; v = v->next)
            compare(&t, COUNT, "shuffle", "", (double)numbers[q++], v->num);
    }
    js_get(want, "case"), js_get(want, "about"), js_get(want, "percentile_definition");
    all_used(&t, want, "10");
    es_bootstrap_free(&b);
    /* a system against itself */
    must(es_bootstrap_compare_all(&b, set, set, NULL, "psds1", &p, &err), &err);
    assert_true(b->rows[0].interval.low == 0 && b->rows[0].interval.high == 0 && b->rows[0].better == 0.5);
    es_bootstrap_free(&b);
    es_free(&index);
    es_evalset_free(&set);
    file_close(&c);
    finish(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bootstrap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
