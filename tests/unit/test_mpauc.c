/* Segments, areas under the ROC and the MAESTRO metric: against pairs of segments, by hand, by properties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/labels.h"
#include "earshot/mpauc.h"
#include "evaluate_help.h"

static double r6(double x) {
    return rint(x * 1e6) / 1e6;
}

/* Score and label of every segment of a class (spec 9.1), segment by segment. Returns their number. */
static int segments(const struct eh_set *s, int k, double h, double *score, bool *label) {
    int n = 0;
    for (int c = 0; c < s->n_clips; c++)
        for (int i = 0; i < (int)ceil(s->dur_s[c] / h); i++, n++) {
            const double begin = r6(i * h), end = r6((i + 1) * h);
            label[n] = false;
            for (int e = 0; e < s->n_events[c]; e++)
                label[n] |= s->events[c][e].i_class == k && s->events[c][e].onset_s < end &&
                            s->events[c][e].offset_s > begin;
            score[n] = -HUGE_VAL;
            bool any = false;
            for (int j = 0; j < s->n_frames[c]; j++) {
                if (!(r6(s->edges_s[c][j]) < end && r6(s->edges_s[c][j + 1]) > begin)) continue;
                any = true;
                score[n] = fmax(score[n], s->v[c][j][k]);
            }
            if (!any) score[n] = 0;
        }
    return n;
}

/* The full area is the chance that a positive is above a negative, ties count half (linear) or nothing
 * (staircase). */
static void full_area_is_pairs(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    struct es_rng r = es_rng_make(eh_seed(), ES_RNG_MIX, 0, 0, 0);
    struct es_err err = {0};
    int compared = 0;
    for (int trial = 0; trial < 300; trial++) {
        static struct eh_set s;
        static double score[4096];
        static bool label[4096];
        eh_random(&s, &r);
        if (eh_build(&s, trial % 2, &err) < 0) fail_msg("%s", err.msg);
        const struct es_auroc_params p = {.segment_s = 0.05 + 0.5 * eh_uniform(&r), .fpr_max = 1};
        struct es_auroc *a = NULL;
        const int rc = es_auroc_new(&a, s.set, &p, &err);
        for (int k = 0; k < s.n_classes; k++) {
            const int n = segments(&s, k, p.segment_s, score, label);
            int64_t above = 0, ties = 0, positives = 0;
            for (int i = 0; i < n; i++) positives += label[i];
            if (positives == 0 || positives == n) {
                assert_int_equal(rc, -ES_EDATA);
                continue;
            }
            if (rc < 0) continue; /* another class is undefined */
            for (int i = 0; i < n; i++)
                for (int j = 0; j < n && label[i]; j++) {
                    if (label[j]) continue;
                    above += score[i] > score[j];
                    ties += score[i] == score[j];
                }
            const double pairs = (double)(positives * (n - positives));
            assert_int_equal(a->classes[k].n_segments, n);
            assert_int_equal(a->classes[k].n_positive, positives);
            assert_true(fabs(a->classes[k].linear - ((double)above + 0.5 * (double)ties) / pairs) < 1e-12);
            assert_true(fabs(a->classes[k].staircase - (double)above / pairs) < 1e-12);
            compared++;
        }
        es_auroc_free(&a);
        eh_free(&s);
    }
    assert_true(compared > 100);
    assert_int_equal(es_mem_live_blocks(), live);
}

/* One clip, frames = segments of 1 s, given scores and labels of class a. */
static void one_class(struct eh_set *s, int n, const double *score, const int *label) {
    struct es_err err = {0};
    *s = (struct eh_set){.n_clips = 1, .n_classes = 1, .n_frames = {n}, .dur_s = {n}};
    for (int i = 0; i < n; i++) {
        s->edges_s[0][i + 1] = i + 1;
        s->v[0][i][0] = score[i];
        if (label[i]) s->events[0][s->n_events[0]++] = (struct eh_event){0, i + 0.1, i + 0.9};
    }
    assert_int_equal(eh_build(s, false, &err), 0);
}

static double linear(const struct eh_set *s, double fpr_max, double *staircase) {
    struct es_err err = {0};
    struct es_auroc *a = NULL;
    const struct es_auroc_params p = {.segment_s = 1, .fpr_max = fpr_max};
    assert_int_equal(es_auroc_new(&a, s->set, &p, &err), 0);
    const double v = a->linear;
    if (staircase) *staircase = a->staircase;
    es_auroc_free(&a);
    return v;
}

static void partial_by_hand(void **state) {
    (void)state;
    static struct eh_set s;
    double stairs;
    /* positives at 6, 4; negatives at 5, 3, 2, 1: points (0, 1/2), (1/4, 1/2), (1/4, 1), (1, 1) */
    one_class(&s, 6, (const double[]){6, 5, 4, 3, 2, 1}, (const int[]){1, 0, 1, 0, 0, 0});
    assert_true(fabs(linear(&s, 1, &stairs) - (0.25 * 0.5 + 0.75)) < 1e-15 &&
                fabs(stairs - (0.25 * 0.5 + 0.75)) < 1e-15);
    assert_true(fabs(linear(&s, 0.1, NULL) - 0.5) < 1e-15);
    assert_true(fabs(linear(&s, 0.5, NULL) - (0.25 * 0.5 + 0.25 * 1) / 0.5) < 1e-15);
    eh_free(&s);
    /* a tie of one positive and one negative of two each: (0, 0), (1/2, 1/2), (1/2, 1), (1, 1) */
    one_class(&s, 4, (const double[]){4, 4, 3, 2}, (const int[]){1, 0, 1, 0});
    assert_true(fabs(linear(&s, 1, &stairs) - (0.125 + 0.5)) < 1e-15 && fabs(stairs - 0.5) < 1e-15);
    assert_true(fabs(linear(&s, 0.1, &stairs) - 0.05) < 1e-15 && stairs == 0); /* chance: half of fpr_max */
    eh_free(&s);
    one_class(&s, 4, (const double[]){4, 3, 2, 1}, (const int[]){1, 1, 0, 0});
    assert_true(linear(&s, 0.1, &stairs) == 1 && stairs == 1);
    eh_free(&s);
    one_class(&s, 4, (const double[]){1, 2, 3, 4}, (const int[]){1, 1, 0, 0});
    assert_true(linear(&s, 0.1, &stairs) == 0 && stairs == 0);
    eh_free(&s);
}

static void refusals(void **state) {
    (void)state;
    static struct eh_set s;
    struct es_err err = {0};
    struct es_auroc *a = NULL;
    const struct es_auroc_params good = {.segment_s = 1, .fpr_max = 0.1},
                                 bad = {.segment_s = 1, .fpr_max = 1.1};
    one_class(&s, 2, (const double[]){1, 2}, (const int[]){1, 1});
    assert_int_equal(es_auroc_new(&a, s.set, &good, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "class 'a': got 2 positive of 2 segments"));
    assert_int_equal(es_auroc_new(&a, s.set, &bad, &err), -ES_EUSAGE);
    assert_null(a);
    eh_free(&s);
}

/* ---- MAESTRO: a recording "r_1" of 13.5 s, clips at 0, 5 and 10 s; "car" and "footsteps" of the 11 classes
 * get labels. */
enum { N_CLIPS = 4, CLIP_FRAMES = 20 };
static const char *const clip_ids[N_CLIPS] = {"r_1-000000-001000", "r_1-000500-001350", "r_1-001000-001350",
                                              "q-000000-000400"};

struct maestro {
    struct es_scores *scores;
    struct es_truth *soft;
    float v[N_CLIPS * CLIP_FRAMES * ES_N_CLASSES];
};

static void maestro_open(struct maestro *m) {
    struct es_err err = {0};
    const char *names[ES_N_CLASSES];
    double edges[CLIP_FRAMES + 1];
    for (int k = 0; k < ES_N_CLASSES; k++) names[k] = es_classes[k].name;
    for (int i = 0; i <= CLIP_FRAMES; i++)
        edges[i] = i < CLIP_FRAMES ? 0.5 * i : 9.9; /* frames end before the clip */
    for (int c = 0; c < N_CLIPS; c++)
        for (int i = 0; i < CLIP_FRAMES; i++)
            for (int k = 0; k < ES_N_CLASSES; k++)
                m->v[(c * CLIP_FRAMES + i) * ES_N_CLASSES + k] =
                    (float)(c + 1) + (float)(i % 2) * 0.25f + (float)i * 0.01f;
    assert_int_equal(es_scores_from_array(&m->scores, N_CLIPS, clip_ids, CLIP_FRAMES, edges, ES_N_CLASSES,
                                          names, m->v, "scores", &err),
                     0);
    assert_int_equal(es_truth_new(&m->soft, "soft", "durations", &err), 0);
    m->soft->has_confidence = true;
    static const struct {
        int clip;
        const char *label;
        double on, off, confidence;
    } rows[] = {{0, "car", 0, 1, 0.6},       {0, "car", 1, 2, 0.9},          {0, "car", 2, 3, 0.5},
                {0, "footsteps", 7, 8, 0.7}, {1, "footsteps", 3, 4, 0.8},    {1, "car", 0, 1, 0.51},
                {2, "car", 0, 1, 0.4},       {2, "announcement", 1, 2, 0.9}, {3, "car", 0, 1, 0.3},
                {3, "Speech", 0, 1, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(es_truth_event(m->soft, clip_ids[rows[i].clip], rows[i].label, rows[i].on,
                                        rows[i].off, rows[i].confidence, (int64_t)i + 2, &err),
                         0);
    assert_int_equal(es_truth_duration(m->soft, "r_1", 13.5, &err), 0);
    assert_int_equal(es_truth_duration(m->soft, "q", 4, &err), 0);
}

static void maestro_close(struct maestro *m) {
    es_scores_free(&m->scores);
    es_truth_free(&m->soft);
}

static double frame(const struct maestro *m, int clip, int i) {
    return (double)m->v[(clip * CLIP_FRAMES + i) * ES_N_CLASSES];
}

/* Mean of second k of a clip: two frames of half a second, the last one 0.4 s. */
static double second(const struct maestro *m, int clip, int k) {
    const double w = k == 9 ? 0.4 : 0.5;
    return (0.5 * frame(m, clip, 2 * k) + w * frame(m, clip, 2 * k + 1)) / (0.5 + w);
}

/* Of the recordings, or of each clip by itself. */
static int evaluate(struct es_auroc **auroc, const struct maestro *m, bool clips, struct es_err *err) {
    struct es_scores *joined = NULL;
    struct es_truth *truth = NULL;
    struct es_evalset *set = NULL;
    const struct es_auroc_params mpauc = es_mpauc_params();
    const struct es_evalset_params subset = {.subset = clips};
    const struct es_maestro_params recordings = {.subset = true};
    int rc = clips ? es_maestro_clips(&truth, m->soft, err)
                   : es_maestro_join(&joined, &truth, m->scores, m->soft, &recordings, err);
    if (rc == 0) rc = es_evalset_new(&set, clips ? m->scores : joined, truth, &subset, err);
    if (rc == 0) rc = es_auroc_new(auroc, set, &mpauc, err);
    es_evalset_free(&set);
    es_truth_free(&truth);
    es_scores_free(&joined);
    return rc;
}

static void maestro_joins(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    static struct maestro m;
    struct es_err err = {0};
    maestro_open(&m);
    for (int positive_only = 0; positive_only < 2; positive_only++) {
        struct es_scores *joined = NULL;
        struct es_truth *truth = NULL;
        const struct es_maestro_params p = {.positive_only = positive_only};
        assert_int_equal(es_maestro_join(&joined, &truth, m.scores, m.soft, &p, &err), 0);
        assert_int_equal(joined->n_clips, 1); /* q has no hard label of an evaluated class */
        assert_string_equal(joined->clips[0].id, "r_1");
        assert_int_equal(joined->n_classes, 11);
        assert_int_equal(joined->clips[0].n_frames, 14);
        assert_true(joined->clips[0].edges_s[13] == 13 && joined->clips[0].edges_s[14] == 13.5);
        double got[14];
        es_scores_column(joined, 0, es_scores_class(joined, "car"), got);
        for (int i = 0; i < 14; i++) {
            double sum = 0;
            int n = 0;
            if (i < 10) sum += second(&m, 0, i), n++;
            if (i >= 5) sum += second(&m, 1, i - 5), n++;                     /* 8.5 s long: 9 seconds */
            if (i >= 10 && !positive_only) sum += second(&m, 2, i - 10), n++; /* no hard label */
            assert_true(fabs(got[i] - sum / n) < 1e-12);
        }
        /* car 0..2 joined, car 5..6; footsteps 7..8 and 8..9 touch across clips */
        assert_int_equal(truth->n_events, 3);
        static const double want[3][2] = {{0, 2}, {5, 6}, {7, 9}};
        for (int i = 0; i < 3; i++)
            assert_true(truth->events[i].onset_s == want[i][0] && truth->events[i].offset_s == want[i][1]);
        es_scores_free(&joined);
        es_truth_free(&truth);
    }
    struct es_auroc *a = NULL;
    assert_int_equal(evaluate(&a, &m, false, &err), 0);
    assert_int_equal(a->n_classes, 2);
    assert_int_equal(a->classes[0].n_segments, 14);
    es_auroc_free(&a);
    assert_int_equal(evaluate(&a, &m, true, &err), 0);
    assert_int_equal(a->classes[0].n_segments, 8 + 4); /* each clip to the end of its last hard event */
    es_auroc_free(&a);
    maestro_close(&m);
    assert_int_equal(es_mem_live_blocks(), live);
}

static void maestro_refuses(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    static struct maestro m;
    struct es_err err = {0};
    struct es_scores *joined = NULL;
    struct es_truth *truth = NULL;
    struct es_maestro_params p = {0};
    maestro_open(&m);
    assert_int_equal(es_truth_event(m.soft, "r_1-000500-001500x", "car", 0, 1, 0.9, 30, &err), 0);
    assert_int_equal(es_maestro_join(&joined, &truth, m.scores, m.soft, &p, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "soft: clip 'r_1-000500-001500x': want <recording>-<start>-<end>"));
    maestro_close(&m);
    maestro_open(&m);
    assert_int_equal(es_truth_event(m.soft, "s-000000-001000", "car", 0, 1, 0.9, 30, &err), 0);
    assert_int_equal(es_maestro_join(&joined, &truth, m.scores, m.soft, &p, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "recording 's': got no duration"));
    assert_int_equal(es_truth_duration(m.soft, "s", 10, &err), 0);
    assert_int_equal(es_maestro_join(&joined, &truth, m.scores, m.soft, &p, &err), -ES_EDATA);
    assert_non_null(strstr(err.msg, "clip 's-000000-001000': got no scores"));
    maestro_close(&m);
    maestro_open(&m);
    m.scores->clips[3].id[0] = 'z'; /* scores of a recording nobody knows */
    assert_int_equal(es_maestro_join(&joined, &truth, m.scores, m.soft, &p, &err), -ES_EDATA);
    maestro_close(&m);
    assert_int_equal(es_mem_live_blocks(), live);
    for (int n = 1, rc = -1; rc < 0; n++) { /* every allocation fails once */
        char spec[32];
        struct es_auroc *a = NULL;
        maestro_open(&m);
        snprintf(spec, sizeof spec, "malloc:%d", n);
        es_fault_init(spec, 0);
        rc = evaluate(&a, &m, false, &err);
        es_fault_init(NULL, 0);
        assert_true(rc == 0 || rc == -ES_EIO);
        es_auroc_free(&a);
        maestro_close(&m);
        assert_int_equal(es_mem_live_blocks(), live);
        assert_true(n < 1000 && (rc < 0 || n > 50));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_area_is_pairs),
                                       cmocka_unit_test(partial_by_hand), cmocka_unit_test(refusals),
                                       cmocka_unit_test(maestro_joins), cmocka_unit_test(maestro_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
