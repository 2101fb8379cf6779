/* TIMEOUT 120
 * Counts and curves against the definitions, applied level by level without any bookkeeping; PSDS by hand and by its
 * properties; refusals; every failed allocation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <omp.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"
#include "evaluate_help.h"

/* ---- the definitions (spec sections 3, 4, 7.1) */
struct counts {
    int tp, fp, ct[EH_CLASSES];
};

static double r6(double x) {
    return rint(x * 1e6) / 1e6;
}

static double inter(const struct eh_event *e, double on, double off) {
    return fmax(0, fmin(e->offset_s, off) - fmax(e->onset_s, on));
}

/* Most hits that can be matched: tries everything. */
static int matching(int n_det, int n_ev, bool hit[EH_FRAMES][64], int det, bool used[64]) {
    if (det == n_det) return 0;
    int best = matching(n_det, n_ev, hit, det + 1, used);
    for (int g = 0; g < n_ev; g++)
        if (hit[det][g] && !used[g]) {
            used[g] = true;
            int n = 1 + matching(n_det, n_ev, hit, det + 1, used);
            used[g] = false;
            if (n > best) best = n;
        }
    return best;
}

/* One clip, active: score > threshold. */
static struct counts count(const struct eh_set *s, int c, int k, double threshold, enum es_f1_kind kind,
                           const struct es_f1_params *p) {
    struct counts out = {0};
    double on[EH_FRAMES], off[EH_FRAMES];
    bool relevant[EH_FRAMES], hit[EH_FRAMES][64] = {{false}}, used[64] = {false};
    int n_det = 0, n_own = 0;
    struct eh_event own[64];
    for (int i = 0; i < s->n_events[c]; i++)
        if (s->events[c][i].i_class == k) own[n_own++] = s->events[c][i];
    for (int i = 0; i < s->n_frames[c]; i++) {
        if (!(s->v[c][i][k] > threshold)) continue;
        if (i == 0 || !(s->v[c][i - 1][k] > threshold)) on[n_det++] = s->edges_s[c][i];
        off[n_det - 1] = s->edges_s[c][i + 1];
    }
    for (int d = 0; d < n_det; d++) {
        double sum = 0;
        for (int g = 0; g < n_own; g++) sum += inter(&own[g], on[d], off[d]);
        relevant[d] = r6(sum) >= r6(p->dtc * (off[d] - on[d]));
        for (int g = 0; g < n_own; g++)
            hit[d][g] =
                r6(fabs(on[d] - own[g].onset_s) - p->onset_collar_s) <= 0 &&
                r6(fabs(off[d] - own[g].offset_s) -
                   fmax(p->offset_collar_s, p->offset_collar_rate * (own[g].offset_s - own[g].onset_s))) <= 0;
    }
    if (kind == ES_F1_COLLAR) {
        out.tp = matching(n_det, n_own, hit, 0, used);
        out.fp = n_det - out.tp;
        return out;
    }
    for (int g = 0; g < n_own; g++) {
        double sum = 0;
        for (int d = 0; d < n_det; d++) sum += relevant[d] ? inter(&own[g], on[d], off[d]) : 0;
        out.tp += r6(sum) >= r6(p->gtc * (own[g].offset_s - own[g].onset_s));
    }
    for (int d = 0; d < n_det; d++) {
        if (relevant[d]) continue;
        out.fp++;
        for (int o = 0; o < s->n_classes && !isnan(p->cttc); o++) {
            double sum = 0;
            int n_o = 0;
            for (int i = 0; i < s->n_events[c]; i++)
                if (o != k && s->events[c][i].i_class == o) {
                    n_o++;
                    sum += inter(&s->events[c][i], on[d], off[d]);
                }
            out.ct[o] += n_o > 0 && r6(sum) >= r6(p->cttc * (off[d] - on[d]));
        }
    }
    return out;
}

/* At every score that occurs, and just below and above all of them. */
static void compare_curve(const struct eh_set *s, int k, enum es_f1_kind kind, const struct es_f1_params *p) {
    struct es_err err = {0};
    struct es_curve *curve = NULL;
    assert_int_equal(es_curve_new(&curve, s->set, k, kind, p, &err), 0);
    for (int64_t i = 1; i < curve->n; i++) assert_true(curve->score[i] < curve->score[i - 1]);
    for (int c0 = 0; c0 < s->n_clips; c0++)
        for (int i = -1; i < s->n_frames[c0]; i++) {
            const double v = i < 0 ? -1 : s->v[c0][i][k];
            if (v == -HUGE_VAL) continue;
            struct counts want = {0};
            for (int c = 0; c < s->n_clips; c++) {
                const struct counts one = count(s, c, k, v, kind, p);
                want.tp += one.tp;
                want.fp += one.fp;
                for (int o = 0; o < s->n_classes; o++) want.ct[o] += one.ct[o];
            }
            const int64_t at = es_curve_at(curve, v);
            int ct[EH_CLASSES] = {0};
            for (int64_t q = 0; q < curve->n_ct && (int64_t)curve->ct[q].level <= at; q++)
                ct[curve->ct[q].i_class] += curve->ct[q].delta;
            assert_int_equal(at < 0 ? 0 : curve->tp[at], want.tp);
            assert_int_equal(at < 0 ? 0 : curve->fp[at], want.fp);
            assert_memory_equal(ct, want.ct, sizeof ct);
        }
    es_curve_free(&curve);
}

static void counts_equal_definition(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    struct es_rng r = es_rng_make(eh_seed(), ES_RNG_MIX, 0, 0, 0);
    struct es_err err = {0};
    for (int trial = 0; trial < 150; trial++) {
        static struct eh_set s;
        eh_random(&s, &r);
        if (eh_build(&s, trial % 2, &err) < 0) fail_msg("%s", err.msg);
        struct es_f1_params p = {.dtc = (double)es_rng_below(&r, 11) / 10 + (trial % 3 ? 0.05 : 0),
                                 .gtc = 0.05 + 0.95 * eh_uniform(&r),
                                 .cttc = trial % 3 ? 0.05 + 0.95 * eh_uniform(&r) : (double)NAN,
                                 .onset_collar_s = 0.3 * eh_uniform(&r),
                                 .offset_collar_s = 0.3 * eh_uniform(&r),
                                 .offset_collar_rate = 0.5 * eh_uniform(&r),
                                 .segment_s = 1};
        if (p.dtc > 1) p.dtc = 1;
        for (int k = 0; k < s.n_classes; k++) {
            compare_curve(&s, k, ES_F1_INTERSECTION, &p);
            compare_curve(&s, k, ES_F1_COLLAR, &p);
        }
        eh_free(&s);
    }
    assert_int_equal(es_mem_live_blocks(), live);
}

/* ---- PSDS */
static struct es_psds *psds_of(const struct eh_set *s, const struct es_psds_params *p) {
    struct es_err err = {0};
    struct es_psds *psds = NULL;
    if (es_psds_new(&psds, s->set, p, &err) < 0) fail_msg("%s", err.msg);
    return psds;
}

static void assert_same_roc(const struct es_roc *a, const struct es_roc *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->x, b->x, (size_t)a->n * sizeof *a->x);
    assert_memory_equal(a->y, b->y, (size_t)a->n * sizeof *a->y);
}

/* Same bits for any number of threads, for floats and doubles, and under a monotone map of the scores. */
static void same_bits(void **state) {
    (void)state;
    struct es_rng r = es_rng_make(eh_seed(), ES_RNG_MIX, 1, 0, 0);
    struct es_err err = {0};
    const struct es_psds_params params[2] = {es_psds1_params(), es_psds2_params()};
    const int threads = omp_get_max_threads();
    for (int trial = 0; trial < 20; trial++) {
        static struct eh_set s, t;
        eh_random(&s, &r);
        t = s;
        assert_int_equal(eh_build(&s, true, &err), 0);
        for (int c = 0; c < t.n_clips; c++)
            for (int i = 0; i < t.n_frames[c]; i++)
                for (int k = 0; k < t.n_classes; k++) t.v[c][i][k] = 3 * t.v[c][i][k] - 7;
        assert_int_equal(eh_build(&t, false, &err), 0);
        for (int q = 0; q < 2; q++) {
            omp_set_num_threads(1);
            struct es_psds *one = psds_of(&s, &params[q]), *mapped = psds_of(&t, &params[q]);
            omp_set_num_threads(3);
            struct es_psds *three = psds_of(&s, &params[q]);
            assert_memory_equal(&one->value, &three->value, sizeof one->value);
            assert_memory_equal(&one->value, &mapped->value, sizeof one->value);
            assert_memory_equal(one->class_value, three->class_value, (size_t)s.n_classes * sizeof(double));
            assert_same_roc(&one->roc, &three->roc);
            assert_same_roc(&one->roc, &mapped->roc);
            es_psds_free(&one);
            es_psds_free(&three);
            es_psds_free(&mapped);
        }
        omp_set_num_threads(threads);
        eh_free(&s);
        eh_free(&t);
    }
}

/* Two clips of 18 s, so that one false positive is 100 an hour. Class a: found at 0.9, false at 0.8, found at 0.7. */
static void by_hand(void **state) {
    (void)state;
    static struct eh_set s;
    struct es_err err = {0};
    s = (struct eh_set){
        .n_clips = 2, .n_classes = 2, .n_frames = {4, 4}, .dur_s = {18, 18}, .n_events = {2, 1}};
    for (int c = 0; c < 2; c++)
        for (int i = 0; i <= 4; i++) s.edges_s[c][i] = i * 4.5;
    s.events[0][0] = (struct eh_event){0, 0, 4.5};
    s.events[0][1] = (struct eh_event){1, 4.5, 9};
    s.events[1][0] = (struct eh_event){0, 9, 13.5};
    s.v[0][0][0] = 0.9;
    s.v[0][2][0] = 0.8;
    s.v[1][2][0] = 0.7;
    s.v[0][1][1] = 0.5;
    assert_int_equal(eh_build(&s, true, &err), 0);
    struct es_psds_params p = es_psds1_params();
    p.efpr_max = 200;
    struct es_psds *psds = psds_of(&s, &p);
    /* a: 1/2 up to 100, then 1. b: 1 throughout. Mean 3/4 then 1, deviation 1/4 then 0 */
    assert_true(fabs(psds->class_value[0] - 0.75) < 1e-15 && psds->class_value[1] == 1);
    assert_int_equal(psds->class_roc[0].n, 2);
    assert_true(psds->class_roc[0].x[1] == 100 && psds->class_roc[0].y[0] == 0.5 &&
                psds->class_roc[0].y[1] == 1);
    assert_true(psds->class_roc[0].score[0] == (double)0.9f && psds->class_roc[0].score[1] == (double)0.7f);
    assert_true(fabs(psds->value - (0.5 * 100 + 1 * 100) / 200) < 1e-15);
    assert_true(fabs(psds->macro - 0.875) < 1e-15);
    assert_int_equal(psds->roc.n, 3);
    es_psds_free(&psds);
    p.alpha_st = 0;
    psds = psds_of(&s, &p);
    assert_true(fabs(psds->value - psds->macro) < 1e-15);
    es_psds_free(&psds);
    eh_free(&s);
}

/* ---- refusals */
static void expect(int rc, const struct es_err *err, int code, const char *part) {
    if (rc != -code || !strstr(err->msg, part))
        fail_msg("%d '%s', want %d with '%s'", rc, err->msg, -code, part);
}

static void refusals(void **state) {
    (void)state;
    const int64_t live = es_mem_live_blocks();
    static struct eh_set base, s;
    struct es_err err = {0};
    base = (struct eh_set){.n_clips = 1,
                           .n_classes = 2,
                           .n_frames = {3},
                           .edges_s = {{0, 1, 2, 3}},
                           .dur_s = {3},
                           .n_events = {2}};
    base.events[0][0] = (struct eh_event){0, 0, 1};
    base.events[0][1] = (struct eh_event){1, 1, 2};
#define REFUSE(change, part)                                                                                 \
    do {                                                                                                     \
        s = base;                                                                                            \
        change;                                                                                              \
        expect(eh_build(&s, true, &err), &err, ES_EDATA, part);                                              \
        assert_null(s.set);                                                                                  \
        eh_free(&s);                                                                                         \
    } while (0)
    REFUSE(s.v[0][1][1] = (double)NAN, "clip 'c0': frame 1, class 'b/c'");
    REFUSE(s.v[0][2][0] = HUGE_VAL, "got inf; want a number or -inf");
    REFUSE(s.edges_s[0][2] = 1, "frame 1: got times 1 to 1 s; want ascending");
    REFUSE(s.edges_s[0][2] = 0.5, "ascending");
    REFUSE(s.events[0][1].offset_s = 1, "truth: row 3: got an event from 1 to 1 s");
    REFUSE(s.events[0][1].offset_s = 0.5, "truth: row 3");
    REFUSE(s.events[0][1].onset_s = -0.5, "truth: row 3");
    REFUSE(s.events[0][1].i_class = 0, "class 'b/c': got no event");
    REFUSE(s.n_events[0] = 3; s.events[0][2] = ((struct eh_event){0, 0.9, 2}), "rows 2 and 4");
    REFUSE(s.n_events[0] = 3; s.events[0][2] = ((struct eh_event){0, 1, 2}), "overlap or touch");
    REFUSE(s.dur_s[0] = 0, "durations: clip 'c0': got a duration of 0 s");
    s = base;
    assert_int_equal(eh_build(&s, true, &err), 0);
    struct es_psds *psds = NULL;
    struct es_psds_params p = es_psds1_params();
    p.cttc = 0.3;
    expect(es_psds_new(&psds, s.set, &p, &err), &err, ES_EUSAGE, "alpha_ct 0 with cttc");
    p = es_psds2_params();
    p.cttc = (double)NAN;
    expect(es_psds_new(&psds, s.set, &p, &err), &err, ES_EUSAGE, "without cttc");
    p = es_psds1_params();
    p.dtc = 1.5;
    expect(es_psds_new(&psds, s.set, &p, &err), &err, ES_EUSAGE, "dtc 1.5");
    p = es_psds1_params();
    p.efpr_max = HUGE_VAL;
    expect(es_psds_new(&psds, s.set, &p, &err), &err, ES_EUSAGE, "limit inf");
    es_evalset_free(&s.set);
    const struct es_evalset_params one = {.n_classes = 1, .classes = eh_class_name};
    assert_int_equal(es_evalset_new(&s.set, s.scores, s.truth, &one, &err), 0);
    p = es_psds2_params();
    expect(es_psds_new(&psds, s.set, &p, &err), &err, ES_EUSAGE, "one class");
    struct es_evaluation *e = NULL;
    expect(es_evaluation_new(&e, s.set, "psds1,psds3", &err), &err, ES_EUSAGE, "got 'psds3'");
    assert_null(e);
    eh_free(&s);
    assert_int_equal(es_mem_live_blocks(), live);
}

/* Clips without events go, with their duration; so do events of classes that are not asked for. */
static void selection(void **state) {
    (void)state;
    static struct eh_set s;
    struct es_err err = {0};
    s = (struct eh_set){
        .n_clips = 3, .n_classes = 3, .n_frames = {2, 2, 2}, .dur_s = {2, 3, 4}, .n_events = {2, 0, 1}};
    for (int c = 0; c < 3; c++) s.edges_s[c][1] = 1, s.edges_s[c][2] = 2;
    s.events[0][0] = (struct eh_event){0, 0, 1};
    s.events[0][1] = (struct eh_event){1, 0, 1};
    s.events[2][0] = (struct eh_event){1, 0.5, 2};
    expect(eh_build(&s, true, &err), &err, ES_EDATA, "class 'd e': got no event");
    struct es_evalset_params p = {0};
    assert_int_equal(es_evalset_new(&s.set, s.scores, s.truth, &p, &err), 0);
    assert_int_equal(es_evalset_classes(s.set), 2);
    assert_int_equal(es_evalset_clips(s.set), 2);
    assert_true(es_evalset_dur_s(s.set) == 6 && es_evalset_events(s.set, 1) == 2 &&
                es_evalset_events_dur_s(s.set, 1) == 2.5);
    es_evalset_free(&s.set);
    p = (struct es_evalset_params){.n_classes = 1, .classes = &eh_class_name[0]};
    assert_int_equal(es_evalset_new(&s.set, s.scores, s.truth, &p, &err), 0);
    assert_true(es_evalset_clips(s.set) == 1 && es_evalset_dur_s(s.set) == 2);
    es_evalset_free(&s.set);
    assert_int_equal(es_truth_event(s.truth, "c9", "a", 0, 1, 1, 9, &err), 0);
    expect(es_evalset_new(&s.set, s.scores, s.truth, &p, &err), &err, ES_EDATA, "clip 'c9': got no scores");
    p.subset = true;
    expect(es_evalset_new(&s.set, s.scores, s.truth, &p, &err), &err, ES_EDATA, "clip 'c9': got no scores");
    eh_free(&s);
}

/* ---- every allocation fails once: the error comes out and nothing stays behind */
static int everything(struct eh_set *s, struct es_err *err) {
    struct es_evaluation *e = NULL;
    struct es_scores *filtered = NULL;
    const int window[EH_CLASSES] = {3, 1, 5, 2};
    int rc = 0;
    ES_GO(eh_build(s, true, err));
    ES_GO(es_scores_median(&filtered, s->scores, window, err));
    ES_GO(es_evaluation_new(&e, s->set, "psds1,psds2,collar_f1,segment_f1", err));
done:
    es_evaluation_free(&e);
    es_scores_free(&filtered);
    eh_free(s);
    return rc;
}

static void failed_allocations(void **state) {
    (void)state;
    static struct eh_set s, work;
    struct es_rng r = es_rng_make(5, ES_RNG_MIX, 0, 0, 0);
    const int threads = omp_get_max_threads();
    const int64_t live = es_mem_live_blocks();
    omp_set_num_threads(1);
    eh_random(&s, &r);
    int n = 1;
    for (int rc = -1; rc < 0 && n < 3000; n++) {
        char spec[32];
        struct es_err err = {0};
        snprintf(spec, sizeof spec, "malloc:%d", n);
        es_fault_init(spec, 0);
        work = s;
        rc = everything(&work, &err);
        assert_true(rc == 0 || (rc == -ES_EIO && err.code == ES_EIO && err.msg[0]));
        assert_int_equal(es_mem_live_blocks(), live);
    }
    es_fault_init(NULL, 0);
    omp_set_num_threads(threads);
    assert_true(n > 100 && n < 3000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_equal_definition),
                                       cmocka_unit_test(same_bits),
                                       cmocka_unit_test(by_hand),
                                       cmocka_unit_test(refusals),
                                       cmocka_unit_test(selection),
                                       cmocka_unit_test(failed_allocations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
