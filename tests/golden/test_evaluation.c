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

#include "earshot/evaluate.h"
#include "earshot/labels.h"
#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"
#include "golden_json.h"

static const char *golden_dir(void) {
    static char dir[1000];
    const char *shared = getenv("EARSHOT_SHARED");
    snprintf(dir, sizeof dir, "%s/golden/evaluation", shared ? shared : ES_TEST_SOURCE "/../shared");
    return dir;
}

static bool have_shared(void) {
    struct stat st;
    return stat(golden_dir(), &st) == 0;
}

static const char *golden_path(char path[1200], const char *file) {
    snprintf(path, 1200, "%s/%s", golden_dir(), file);
    return path;
}

/* ---- comparing */
enum quantity { VALUE, COUNT, EFPR, LEVEL, FILTERED, N_QUANTITIES };
static const char *const quantity_name[N_QUANTITIES] = {"values", "counts", "efpr", "levels", "filtered"};
static const double quantity_tol[N_QUANTITIES] = {1e-9, 0, 1e-7, 1e-9, 0};

struct tally {
    const char *name;
    long n[N_QUANTITIES], bad;
    double max_abs[N_QUANTITIES];
    double filtered_tol;
};

static void compare(struct tally *t, enum quantity q, const char *where, const char *what, double got,
                    double want) {
    double tol = q == FILTERED ? t->filtered_tol : quantity_tol[q];
    double d = got == want || (isnan(got) && isnan(want)) ? 0 : fabs(got - want);
    t->n[q]++;
    if (isnan(d) || d > t->max_abs[q]) t->max_abs[q] = isnan(d) ? HUGE_VAL : d;
    if (d <= tol) return;
    if (t->bad++ < 20) print_error("%s: %s %s: got %.17g, want %.17g\n", t->name, where, what, got, want);
}

static void finish(struct tally *t) {
    print_message("%s:", t->name);
    for (int q = 0; q < N_QUANTITIES; q++)
        if (t->n[q]) print_message(" %ld %s (max %.2g)", t->n[q], quantity_name[q], t->max_abs[q]);
    print_message("\n");
    assert_int_equal(t->bad, 0);
    long n = 0;
    for (int q = 0; q < N_QUANTITIES; q++) n += t->n[q];
    assert_true(n > 0);
}

/* Everything in an object must have been looked at. */
static void all_used(struct tally *t, struct js *o, const char *where) {
    for (struct js *v = o->first; v; v = v->next)
        if (!v->used && t->bad++ < 20) print_error("%s: %s: '%s' is not compared\n", t->name, where, v->key);
}

static void must(int rc, const struct es_err *err) {
    if (rc < 0) fail_msg("%d: %s", rc, err->msg);
}

static int class_index(const struct es_evalset *set, const char *name) {
    for (int k = 0; k < es_evalset_classes(set); k++)
        if (strcmp(es_evalset_class_name(set, k), name) == 0) return k;
    fail_msg("no class %s", name);
    return -1;
}

/* ---- result blocks */
static double staircase(const struct es_roc *roc, double x) {
    double y = 0;
    for (int64_t i = 0; i < roc->n && roc->x[i] <= x; i++) y = roc->y[i];
    return y;
}

static void compare_list(struct tally *t, enum quantity q, const char *where, const char *what,
                         struct js *want, const double *got, int64_t n) {
    if (!want) return;
    compare(t, COUNT, where, what, (double)n, (double)want->n);
    int64_t i = 0;
    for (struct js *v = want->first; v && i < n; v = v->next, i++) compare(t, q, where, what, got[i], v->num);
}

static void compare_statistics(struct tally *t, const struct es_evalset *set, struct js *stats,
                               const struct es_f1_params *p) {
    struct es_err err = {0};
    struct js *thresholds = js_get(stats, "thresholds");
    for (struct js *c = js_get(stats, "per_class")->first; c; c = c->next) {
        const int k = class_index(set, c->key);
        struct es_curve *curve = NULL;
        must(es_curve_new(&curve, set, k, ES_F1_INTERSECTION, p, &err), &err);
        compare(t, COUNT, c->key, "n_ref", (double)curve->n_ref, js_number(c, "n_ref", (double)NAN));
        compare(t, VALUE, c->key, "t_ref", es_evalset_events_dur_s(set, k),
                js_number(c, "t_ref", (double)NAN));
        struct js *tp = js_get(c, "tps")->first, *fp = js_get(c, "fps")->first, *cts = js_get(c, "cts");
        int64_t i = 0;
        for (struct js *th = thresholds->first; th; th = th->next, tp = tp->next, fp = fp->next, i++) {
            const int64_t at = es_curve_at(curve, th->num);
            compare(t, COUNT, c->key, "tps", at < 0 ? 0 : curve->tp[at], tp->num);
            compare(t, COUNT, c->key, "fps", at < 0 ? 0 : curve->fp[at], fp->num);
            for (struct js *o = cts ? cts->first : NULL; o; o = o->next) {
                const int other = class_index(set, o->key);
                double sum = 0;
                for (int64_t q = 0; q < curve->n_ct && (int64_t)curve->ct[q].level <= at; q++)
                    if (curve->ct[q].i_class == other) sum += curve->ct[q].delta;
                struct js *want = o->first;
                for (int64_t q = 0; q < i; q++) want = want->next;
                compare(t, COUNT, c->key, o->key, sum, want->num);
            }
        }
        all_used(t, c, "intermediate_statistics");
        es_curve_free(&curve);
    }
}

static void compare_psds(struct tally *t, const struct es_evalset *set, struct js *block) {
    struct es_err err = {0};
    struct js *jp = js_get(block, "params");
    const char *unit = js_get(jp, "unit_of_time")->str;
    struct es_psds_params p = {.dtc = js_number(jp, "dtc_threshold", (double)NAN),
                               .gtc = js_number(jp, "gtc_threshold", (double)NAN),
                               .cttc = js_number(jp, "cttc_threshold", (double)NAN),
                               .alpha_ct = js_number(jp, "alpha_ct", (double)NAN),
                               .alpha_st = js_number(jp, "alpha_st", (double)NAN),
                               .efpr_max = js_number(jp, "max_efpr", (double)NAN),
                               .unit_s = strcmp(unit, "hour") == 0     ? 3600
                                         : strcmp(unit, "minute") == 0 ? 60
                                                                       : 1,
                               .non_oracle = js_number(jp, "non_oracle", 0) != 0};
    struct es_psds *psds = NULL;
    must(es_psds_new(&psds, set, &p, &err), &err);
    compare(t, VALUE, "psds", "", psds->value, js_number(block, "psds", (double)NAN));
    compare(t, VALUE, "macro", "", psds->macro,
            js_number(block, "macro_average_of_single_class", (double)NAN));
    for (struct js *v = js_get(block, "single_class_psds")->first; v; v = v->next)
        compare(t, VALUE, "class psds", v->key, psds->class_value[class_index(set, v->key)], v->num);
    struct js *at = js_get(block, "effective_roc_at");
    for (struct js *x = js_get(at, "efpr")->first, *y = js_get(at, "etpr")->first; x;
         x = x->next, y = y->next)
        compare(t, VALUE, "effective_roc_at", "", staircase(&psds->roc, x->num), y->num);
    struct js *n_points = js_get(block, "effective_roc_num_points");
    if (n_points) compare(t, COUNT, "effective_roc_num_points", "", (double)psds->roc.n, n_points->num);
    for (struct js *c = js_get(block, "single_class_roc_at")->first; c; c = c->next) {
        const struct es_roc *roc = &psds->class_roc[class_index(set, c->key)];
        compare(t, COUNT, "num_points", c->key, (double)roc->n, js_number(c, "num_points", (double)NAN));
        for (struct js *x = js_get(at, "efpr")->first, *y = js_get(c, "tpr")->first; x;
             x = x->next, y = y->next)
            compare(t, VALUE, "single_class_roc_at", c->key, staircase(roc, x->num), y->num);
    }
    struct js *roc = js_get(block, "effective_roc");
    compare_list(t, EFPR, "effective_roc", "efpr", js_get(roc, "efpr"), psds->roc.x, psds->roc.n);
    compare_list(t, VALUE, "effective_roc", "etpr", js_get(roc, "etpr"), psds->roc.y, psds->roc.n);
    struct js *rocs = js_get(block, "single_class_roc");
    for (struct js *c = rocs ? rocs->first : NULL; c; c = c->next) {
        const struct es_roc *r = &psds->class_roc[class_index(set, c->key)];
        compare_list(t, EFPR, c->key, "efpr", js_get(c, "efpr"), r->x, r->n);
        compare_list(t, VALUE, c->key, "tpr", js_get(c, "tpr"), r->y, r->n);
        compare_list(t, LEVEL, c->key, "score", js_get(c, "score"), r->score, r->n);
    }
    struct js *stats = js_get(block, "intermediate_statistics");
    struct es_f1_params counting = es_f1_params_default();
    counting.dtc = p.dtc;
    counting.gtc = p.gtc;
    counting.cttc = p.cttc;
    if (stats) compare_statistics(t, set, stats, &counting);
    all_used(t, jp, "psds params");
    all_used(t, block, "psds");
    es_psds_free(&psds);
}

static void compare_f1_value(struct tally *t, const char *where, const struct es_f1_value *v, struct js *side,
                             const char *key) {
    compare(t, VALUE, where, key, v->f, js_number(js_get(side, "f"), key, (double)NAN));
    compare(t, VALUE, where, key, v->precision, js_number(js_get(side, "precision"), key, (double)NAN));
    compare(t, VALUE, where, key, v->recall, js_number(js_get(side, "recall"), key, (double)NAN));
}

static void compare_f1(struct tally *t, const struct es_evalset *set, struct js *block,
                       enum es_f1_kind kind) {
    struct es_err err = {0};
    static const char *const side_name[2] = {"fixed", "best"};
    struct js *jp = js_get(js_get(block, "fixed"), "params");
    struct es_f1_params p = es_f1_params_default();
    p.dtc = js_number(jp, "dtc_threshold", p.dtc);
    p.gtc = js_number(jp, "gtc_threshold", p.gtc);
    p.onset_collar_s = js_number(jp, "onset_collar", p.onset_collar_s);
    p.offset_collar_s = js_number(jp, "offset_collar", p.offset_collar_s);
    p.offset_collar_rate = js_number(jp, "offset_collar_rate", p.offset_collar_rate);
    p.segment_s = js_number(jp, "segment_length", p.segment_s);
    struct es_f1 *f1 = NULL;
    must(es_f1_new(&f1, set, kind, &p, js_number(jp, "threshold", (double)NAN), &err), &err);
    all_used(t, jp, "f1 params");
    for (int s = 0; s < 2; s++) {
        struct js *side = js_get(block, side_name[s]);
        const struct es_f1_value *v = s == 0 ? f1->fixed : f1->best;
        js_get(side, "params");
        for (struct js *c = js_get(side, "counts")->first; c; c = c->next) {
            const struct es_f1_value *x = &v[class_index(set, c->key)];
            compare_f1_value(t, side_name[s], x, side, c->key);
            compare(t, COUNT, side_name[s], c->key, (double)x->tp, js_number(c, "tps", (double)NAN));
            compare(t, COUNT, side_name[s], c->key, (double)x->fp, js_number(c, "fps", (double)NAN));
            compare(t, COUNT, side_name[s], c->key, (double)x->n_ref, js_number(c, "n_ref", (double)NAN));
            if (kind == ES_F1_SEGMENT) {
                compare(t, COUNT, side_name[s], c->key, (double)(x->tp + x->fp),
                        js_number(c, "n_sys", (double)NAN));
                compare(t, COUNT, side_name[s], c->key, (double)(x->n_all - x->n_ref - x->fp),
                        js_number(c, "tns", (double)NAN));
            }
            if (s == 1)
                compare(t, LEVEL, "best threshold", c->key, x->threshold,
                        js_number(js_get(side, "threshold"), c->key, (double)NAN));
            all_used(t, c, "f1 counts");
        }
        compare_f1_value(t, side_name[s], s == 0 ? &f1->fixed_macro : &f1->best_macro, side, "macro_average");
        compare_f1_value(t, side_name[s], s == 0 ? &f1->fixed_micro : &f1->best_micro, side, "micro_average");
        for (struct js *part = side->first; part; part = part->next)
            if (part->type == JS_OBJECT && strcmp(part->key, "params") != 0 &&
                strcmp(part->key, "counts") != 0)
                all_used(t, part, part->key);
        all_used(t, side, side_name[s]);
    }
    es_f1_free(&f1);
}

static void compare_auroc(struct tally *t, const struct es_evalset *set, struct js *block) {
    struct es_err err = {0};
    struct js *jp = js_get(block, "params");
    struct es_auroc_params p = {.segment_s = js_number(jp, "segment_length", (double)NAN),
                                .fpr_max = js_number(jp, "max_fpr", (double)NAN)};
    struct es_auroc *part = NULL, *full = NULL;
    if (js_get(block, "expect_error")) {
        assert_int_equal(
            es_auroc_new(&part, set, &(struct es_auroc_params){.segment_s = 1, .fpr_max = 0.1}, &err),
            -ES_EDATA);
        compare(t, COUNT, "refused", "", 1, 1);
        return;
    }
    must(es_auroc_new(&part, set, &p, &err), &err);
    p.fpr_max = 1;
    must(es_auroc_new(&full, set, &p, &err), &err);
    struct js *want = js_get(block, "expected");
    static const char *const kind[4] = {"linear", "staircase", "full_linear", "full_staircase"};
    for (int i = 0; i < 4; i++) {
        const struct es_auroc *a = i < 2 ? part : full;
        for (struct js *v = js_get(want, kind[i])->first; v; v = v->next) {
            const struct es_auroc_class *c =
                strcmp(v->key, "mean") == 0 ? NULL : &a->classes[class_index(set, v->key)];
            double got = c ? (i % 2 ? c->staircase : c->linear) : (i % 2 ? a->staircase : a->linear);
            compare(t, VALUE, kind[i], v->key, got, v->num);
        }
    }
    for (struct js *c = js_get(block, "num_segments")->first; c; c = c->next) {
        const struct es_auroc_class *a = &part->classes[class_index(set, c->key)];
        compare(t, COUNT, "segments", c->key, (double)a->n_segments, js_number(c, "total", (double)NAN));
        compare(t, COUNT, "segments", c->key, (double)a->n_positive, js_number(c, "positive", (double)NAN));
    }
    es_auroc_free(&part);
    es_auroc_free(&full);
}

/* Every block of an object of results, by its name. Returns the number of blocks. */
static int compare_blocks(struct tally *t, const struct es_evalset *set, struct js *blocks) {
    int n = 0;
    for (struct js *b = blocks->first; b; b = b->next, n++) {
        if (b->type != JS_OBJECT) {
            n--;
            continue;
        }
        if (js_get(b, "psds"))
            compare_psds(t, set, b);
        else if (strncmp(b->key, "collar_f1", 9) == 0)
            compare_f1(t, set, b, ES_F1_COLLAR);
        else if (strncmp(b->key, "intersection_f1", 15) == 0)
            compare_f1(t, set, b, ES_F1_INTERSECTION);
        else if (strncmp(b->key, "segment_f1", 10) == 0)
            compare_f1(t, set, b, ES_F1_SEGMENT);
        else if (strstr(b->key, "auroc"))
            compare_auroc(t, set, b);
        else
            n--;
    }
    return n;
}

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

/* Unpacks a .gz beside the test; returns its new path. */
static const char *unpack(char out[200], const char *file, const char *name) {
    char path[1200], command[2600];
    snprintf(out, 200, "golden_%s", name);
    snprintf(command, sizeof command, "gzip -dc '%s' > '%s'", golden_path(path, file), out);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(pclose(f), 0);
    return out;
}

struct file_case {
    struct es_scores *scores;
    struct es_truth *truth;
    struct js_doc doc;
    struct js *expected;
    int64_t live;
};

static void file_open(struct file_case *c, const char *scores, const char *truth, const char *durations,
                      const char *expected) {
    char p[3][1200];
    struct es_err err = {0};
    *c = (struct file_case){.live = es_mem_live_blocks()};
    must(es_scores_load(&c->scores, golden_path(p[0], scores), &err), &err);
    must(es_truth_load(&c->truth, golden_path(p[0], truth), golden_path(p[1], durations), &err), &err);
    c->expected = js_open(&c->doc, golden_path(p[2], expected));
    assert_non_null(c->expected);
}

static void file_close(struct file_case *c) {
    es_scores_free(&c->scores);
    es_truth_free(&c->truth);
    js_close(&c->doc);
    assert_int_equal(es_mem_live_blocks(), c->live);
}

/* All blocks of an object on one set. Returns how many there were. */
static int compare_set(struct tally *t, const struct es_scores *scores, const struct es_truth *truth,
                       const struct es_evalset_params *p, struct js *blocks) {
    struct es_err err = {0};
    struct es_evalset *set = NULL;
    must(es_evalset_new(&set, scores, truth, p, &err), &err);
    struct js *n = js_get(blocks, "num_clips"), *dur = js_get(blocks, "dataset_duration");
    if (n) compare(t, COUNT, "num_clips", "", (double)es_evalset_clips(set), n->num);
    if (dur) compare(t, VALUE, "dataset_duration", "", es_evalset_dur_s(set), dur->num);
    int done = compare_blocks(t, set, blocks);
    es_evalset_free(&set);
    return done;
}

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
