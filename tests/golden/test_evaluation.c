/* TIMEOUT 120
 * Evaluation against golden/evaluation (values of sed_scores_eval and the DCASE code; see its README): cases 07, 08 and 09
 * (median) from tests/data/evaluation, cases 01, 03, 05, 06 from the shared folder where that is there. Prints, per case and
 * quantity, how many values were compared and the largest deviation. Tolerances are those of the README. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "earshot/labels.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "evaluation_compare.h"

/* ---- inline cases */
struct inline_case {
    struct es_scores *scores;
    struct es_truth *truth;
    int n_classes;
    const char *classes[64];
};

static void inline_free(struct inline_case *c) {
    es_scores_free(&c->scores);
    es_truth_free(&c->truth);
}

static void inline_open(struct inline_case *c, struct js *input) {
    struct es_err err = {0};
    const char *ids[64];
    int n_clips = 0;
    struct js *clips = js_get(input, "clips");
    *c = (struct inline_case){0};
    for (struct js *v = js_get(input, "classes")->first; v; v = v->next) c->classes[c->n_classes++] = v->str;
    for (struct js *v = clips->first; v; v = v->next) ids[n_clips++] = v->key;
    must(es_scores_new(&c->scores, n_clips, ids, c->n_classes, c->classes, true, "scores", &err), &err);
    c->scores->own_clips = true;
    int i_clip = 0;
    for (struct js *v = clips->first; v; v = v->next, i_clip++) {
        struct es_scores_clip *clip = &c->scores->clips[i_clip];
        struct js *times = js_get(v, "timestamps"), *scores = js_get(v, "scores");
        clip->n_frames = (int)times->n - 1;
        double *edges = es_alloc((size_t)times->n, sizeof *edges, NULL);
        double *values = es_alloc((size_t)clip->n_frames * (size_t)c->n_classes, sizeof *values, NULL);
        clip->edges_s = edges;
        clip->values = values;
        int i = 0;
        for (struct js *x = times->first; x; x = x->next) edges[i++] = x->num;
        for (int k = 0; k < c->n_classes; k++) {
            i = 0;
            for (struct js *x = js_get(scores, c->classes[k])->first; x; x = x->next)
                values[c->n_classes * i++ + k] = x->num;
            assert_int_equal(i, clip->n_frames);
        }
    }
    must(es_truth_new(&c->truth, "ground truth", "durations", &err), &err);
    int64_t row = 2;
    for (struct js *v = js_get(input, "ground_truth")->first; v; v = v->next) {
        must(es_truth_clip(c->truth, v->key, &err), &err);
        for (struct js *e = v->first; e; e = e->next)
            must(es_truth_event(c->truth, v->key, e->first->next->next->str, e->first->num,
                                e->first->next->num, 1, row++, &err),
                 &err);
    }
    for (struct js *v = js_get(input, "audio_durations")->first; v; v = v->next)
        must(es_truth_duration(c->truth, v->key, v->num, &err), &err);
}

static int inline_set(struct es_evalset **set, struct inline_case *c, struct es_err *err) {
    struct es_evalset_params p = {.keep_empty = true, .n_classes = c->n_classes, .classes = c->classes};
    return es_evalset_new(set, c->scores, c->truth, &p, err);
}

static void compare_inline(const char *path, const char *name) {
    struct js_doc doc;
    struct tally t = {.name = name};
    struct js *root = js_open(&doc, path);
    assert_non_null(root);
    int64_t live = es_mem_live_blocks();
    for (struct js *v = js_get(root, "cases")->first; v; v = v->next) {
        struct inline_case c;
        struct es_evalset *set = NULL;
        struct es_err err = {0};
        struct tally mine = {.name = js_get(v, "name")->str};
        inline_open(&c, js_get(v, "input"));
        must(inline_set(&set, &c, &err), &err);
        assert_int_equal(compare_blocks(&mine, set, js_get(v, "expected")), js_get(v, "expected")->n);
        es_evalset_free(&set);
        inline_free(&c);
        t.bad += mine.bad;
        for (int q = 0; q < N_QUANTITIES; q++) {
            t.n[q] += mine.n[q];
            t.max_abs[q] = fmax(t.max_abs[q], mine.max_abs[q]);
        }
    }
    assert_int_equal(es_mem_live_blocks(), live);
    js_close(&doc);
    finish(&t);
}

static void micro_random_cases(void **state) {
    (void)state;
    compare_inline(ES_TEST_DATA "/evaluation/micro_random_cases.json.gz", "08");
}

static void edge_cases(void **state) {
    (void)state;
    compare_inline(ES_TEST_DATA "/evaluation/edge_cases.json.gz", "07");
}

static void refused_inputs(void **state) {
    (void)state;
    struct js_doc doc;
    struct js *root = js_open(&doc, ES_TEST_DATA "/evaluation/edge_cases.json.gz");
    assert_non_null(root);
    int n = 0;
    for (struct js *v = js_get(root, "refused_inputs")->first; v; v = v->next) {
        struct js *input = js_get(v, "input");
        if (input->type != JS_OBJECT) continue; /* described in words: see unit tests */
        struct inline_case c;
        struct es_evalset *set = NULL;
        struct es_err err = {0};
        inline_open(&c, input);
        assert_int_equal(inline_set(&set, &c, &err), -ES_EDATA);
        print_message("refused: %s\n", err.msg);
        assert_null(set);
        inline_free(&c);
        n++;
    }
    assert_int_equal(n, 7);
    js_close(&doc);
}

static void median_filter(void **state) {
    (void)state;
    struct js_doc doc;
    struct tally t = {.name = "09"};
    struct js *root = js_open(&doc, ES_TEST_DATA "/evaluation/median_filters.json.gz");
    assert_non_null(root);
    for (struct js *v = js_get(root, "discrete")->first; v; v = v->next) {
        struct js *w = js_get(v, "window_frames")->first, *out = js_get(v, "output")->first;
        for (struct js *in = js_get(v, "input")->first; in; in = in->next, w = w->next, out = out->next) {
            double x[1024], y[1024], ws[64];
            int n = 0;
            for (struct js *s = in->first; s; s = s->next) x[n++] = s->num;
            es_median_filter(n, (int)w->num, x, y, ws);
            compare_list(&t, FILTERED, js_get(v, "name")->str, "", out, y, n);
        }
    }
    js_close(&doc);
    finish(&t);
}

/* ---- cases with files */

static void real_tsv_folder(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct tally t = {.name = "01"};
    file_open(&c, "01_real_tsv_folder/scores", "01_real_tsv_folder/ground_truth.tsv",
              "01_real_tsv_folder/audio_durations.tsv", "01_real_tsv_folder/expected.json");
    struct es_evalset_params p = {.keep_empty = true};
    assert_int_equal(compare_set(&t, c.scores, c.truth, &p, c.expected), 8);
    file_close(&c);
    finish(&t);
}

static void with_and_without_empty(struct tally *t, struct file_case *c, int n_blocks) {
    struct es_evalset_params p = {0};
    assert_int_equal(
        compare_set(t, c->scores, c->truth, &p, js_get(c->expected, "clips_without_events_dropped")),
        n_blocks);
    p.keep_empty = true;
    assert_int_equal(compare_set(t, c->scores, c->truth, &p, js_get(c->expected, "all_clips")), n_blocks);
}

static void many_ties(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct tally t = {.name = "03"};
    file_open(&c, "03_real_scores_many_ties/scores.h5", "02_real_operating_points/ground_truth.tsv",
              "02_real_operating_points/audio_durations.tsv", "03_real_scores_many_ties/expected.json.gz");
    with_and_without_empty(&t, &c, 6);
    file_close(&c);
    finish(&t);
}

static void synthetic(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_scores *filtered = NULL;
    struct tally t = {.name = "05"};
    file_open(&c, "05_synthetic_10_classes/scores.h5", "05_synthetic_10_classes/ground_truth.tsv",
              "05_synthetic_10_classes/audio_durations.tsv", "05_synthetic_10_classes/expected.json.gz");
    with_and_without_empty(&t, &c, 12);
    struct js *dcase = js_get(c.expected, "dcase_median_filtered"),
              *w = js_get(dcase, "median_window_frames")->first;
    int window[10], k = 0;
    for (; w; w = w->next) window[k++] = (int)w->num;
    must(es_scores_median(&filtered, c.scores, window, &err), &err);
    assert_int_equal(
        compare_set(&t, filtered, c.truth, &(struct es_evalset_params){0}, js_get(dcase, "sed_scores_eval")),
        4);
    es_scores_free(&filtered);
    file_close(&c);
    finish(&t);
}

/* Filtered values of the clips that the file holds. */
static void compare_filtered(struct tally *t, const struct es_scores *got) {
    char path[1200];
    struct es_err err = {0};
    struct es_scores *want = NULL;
    must(es_scores_load(
             &want,
             golden_path(path, "06_dcase2024_pipeline_27_classes/expected_median_filtered_some_clips.h5"),
             &err),
         &err);
    for (int64_t i = 0; i < want->n_clips; i++) {
        int64_t j = 0;
        while (strcmp(got->clips[j].id, want->clips[i].id) != 0) j++;
        for (int k = 0; k < want->n_classes; k++) {
            double a[1024], b[1024];
            es_scores_column(got, j, k, a);
            es_scores_column(want, i, k, b);
            for (int q = 0; q < want->clips[i].n_frames; q++)
                compare(t, FILTERED, want->clips[i].id, want->classes[k], a[q], b[q]);
        }
    }
    es_scores_free(&want);
}

static void compare_maestro(struct tally *t, const struct es_scores *scores, const struct es_truth *soft,
                            struct js *maestro, const char *name, bool positive_only) {
    struct es_err err = {0};
    struct es_scores *joined = NULL;
    struct es_truth *truth = NULL;
    struct es_maestro_params p = {.positive_only = positive_only, .subset = true};
    must(es_maestro_join(&joined, &truth, scores, soft, &p, &err), &err);
    struct js *want = js_get(maestro, name), *tables = js_get(want, "segment_scores");
    for (struct js *r = tables ? tables->first : NULL; r; r = r->next) {
        int64_t i = es_names_find(truth->clips, r->key);
        const struct es_scores_clip *clip = &joined->clips[i];
        compare_list(t, VALUE, r->key, "timestamps", js_get(r, "timestamps"), clip->edges_s,
                     clip->n_frames + 1);
        for (struct js *c = js_get(r, "scores")->first; c; c = c->next) {
            double column[1024];
            es_scores_column(joined, i, es_scores_class(joined, c->key), column);
            compare_list(t, VALUE, r->key, c->key, c, column, clip->n_frames);
        }
    }
    for (struct js *r = js_get(maestro, "merged_file_ground_truth")->first; r; r = r->next) {
        int64_t clip = es_names_find(truth->clips, r->key), n = 0;
        for (int64_t i = 0; i < truth->n_events; i++) n += truth->events[i].clip == clip;
        compare(t, COUNT, r->key, "joined events", (double)n, (double)r->n);
        for (struct js *e = r->first; e; e = e->next) {
            int64_t i = 0;
            while (i < truth->n_events &&
                   (truth->events[i].clip != clip || truth->events[i].onset_s != e->first->num ||
                    truth->events[i].offset_s != e->first->next->num ||
                    strcmp(es_names_get(truth->labels, truth->events[i].label), e->first->next->next->str)))
                i++;
            compare(t, COUNT, r->key, "joined event", i < truth->n_events, 1);
        }
    }
    assert_int_equal(compare_set(t, joined, truth, &(struct es_evalset_params){0}, want), 2);
    es_truth_free(&truth);
    es_scores_free(&joined);
}

static void dcase2024_pipeline(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct es_err err = {0};
    struct es_scores *filtered = NULL;
    struct es_truth *soft = NULL, *clips = NULL;
    struct tally t = {.name = "06"};
    char path[1200], unpacked[200];
    file_open(&c, "06_dcase2024_pipeline_27_classes/scores_unprocessed.h5",
              "06_dcase2024_pipeline_27_classes/desed_ground_truth.tsv",
              "06_dcase2024_pipeline_27_classes/desed_audio_durations.tsv",
              "06_dcase2024_pipeline_27_classes/expected.json.gz");
    int window[27], k = 0;
    for (struct js *w = js_get(c.expected, "median_window_frames")->first; w; w = w->next, k++) {
        window[k] = (int)w->num;
        assert_int_equal(window[k], es_classes[k].median_frames);
    }
    must(es_scores_median(&filtered, c.scores, window, &err), &err);
    compare_filtered(&t, filtered);
    struct es_evalset_params p = {.subset = true};
    struct js *desed = js_get(c.expected, "desed"), *maestro = js_get(c.expected, "maestro");
    assert_int_equal(compare_set(&t, c.scores, c.truth, &p, js_get(desed, "unprocessed")), 4);
    assert_int_equal(compare_set(&t, filtered, c.truth, &p, js_get(desed, "class_wise_median_filtered")), 4);
    const char *labels = unpack(unpacked, "06_dcase2024_pipeline_27_classes/maestro_clip_soft_labels.tsv.gz",
                                "soft_labels.tsv");
    must(es_truth_load(&soft, labels,
                       golden_path(path, "06_dcase2024_pipeline_27_classes/maestro_file_durations.tsv"),
                       &err),
         &err);
    assert_true(soft->has_confidence);
    compare_maestro(&t, c.scores, soft, maestro, "unprocessed__clips_with_positive_label_only", true);
    compare_maestro(&t, c.scores, soft, maestro, "unprocessed__all_clips", false);
    compare_maestro(&t, filtered, soft, maestro, "class_wise_median_filtered__clips_with_positive_label_only",
                    true);
    compare_maestro(&t, filtered, soft, maestro, "class_wise_median_filtered__all_clips", false);
    must(es_maestro_clips(&clips, soft, &err), &err);
    assert_int_equal(compare_set(&t, filtered, clips, &p, js_get(maestro, "validation_step_style")), 2);
    es_truth_free(&clips);
    es_truth_free(&soft);
    es_scores_free(&filtered);
    remove(unpacked);
    file_close(&c);
    finish(&t);
}

static void all_27_classes(void **state) {
    (void)state;
    if (!have_shared()) skip();
    struct file_case c;
    struct tally t = {.name = "06 (27 classes)"};
    file_open(&c, "06_dcase2024_pipeline_27_classes/scores_unprocessed.h5",
              "06_dcase2024_pipeline_27_classes/ground_truth_27_classes.tsv",
              "06_dcase2024_pipeline_27_classes/audio_durations_27_classes.tsv",
              "06_dcase2024_pipeline_27_classes/expected_27_classes.json.gz");
    assert_int_equal(
        compare_set(&t, c.scores, c.truth, &(struct es_evalset_params){.keep_empty = true}, c.expected), 8);
    file_close(&c);
    finish(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(micro_random_cases), cmocka_unit_test(edge_cases),
        cmocka_unit_test(refused_inputs),     cmocka_unit_test(median_filter),
        cmocka_unit_test(real_tsv_folder),    cmocka_unit_test(many_ties),
        cmocka_unit_test(synthetic),          cmocka_unit_test(dcase2024_pipeline),
        cmocka_unit_test(all_27_classes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
