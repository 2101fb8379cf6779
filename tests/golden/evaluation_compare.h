/* Comparing results of the evaluation with the blocks of golden/evaluation (its README, "Result blocks"). */
#ifndef EARSHOT_TESTS_EVALUATION_COMPARE_H
#define EARSHOT_TESTS_EVALUATION_COMPARE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "earshot/evaluate.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"
#include "golden_json.h"

static inline const char *golden_dir(void) {
    static char dir[1000];
    const char *shared = getenv("EARSHOT_SHARED");
    snprintf(dir, sizeof dir, "%s/golden/evaluation", shared ? shared : ES_TEST_SOURCE "/../shared");
    return dir;
}

static inline bool have_shared(void) {
    struct stat st;
    return stat(golden_dir(), &st) == 0;
}

static inline const char *golden_path(char path[1200], const char *file) {
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

static inline void compare(struct tally *t, enum quantity q, const char *where, const char *what, double got,
                           double want) {
    double tol = q == FILTERED ? t->filtered_tol : quantity_tol[q];
    double d = got == want || (isnan(got) && isnan(want)) ? 0 : fabs(got - want);
    t->n[q]++;
    if (isnan(d) || d > t->max_abs[q]) t->max_abs[q] = isnan(d) ? HUGE_VAL : d;
    if (d <= tol) return;
    if (t->bad++ < 20) print_error("%s: %s %s: got %.17g, want %.17g\n", t->name, where, what, got, want);
}

static inline void finish(struct tally *t) {
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
static inline void all_used(struct tally *t, struct js *o, const char *where) {
    for (struct js *v = o->first; v; v = v->next)
        if (!v->used && t->bad++ < 20) print_error("%s: %s: '%s' is not compared\n", t->name, where, v->key);
}

static inline void must(int rc, const struct es_err *err) {
    if (rc < 0) fail_msg("%d: %s", rc, err->msg);
}

static inline int class_index(const struct es_evalset *set, const char *name) {
    for (int k = 0; k < es_evalset_classes(set); k++)
        if (strcmp(es_evalset_class_name(set, k), name) == 0) return k;
    fail_msg("no class %s", name);
    return -1;
}

/* ---- result blocks */
static inline double staircase(const struct es_roc *roc, double x) {
    double y = 0;
    for (int64_t i = 0; i < roc->n && roc->x[i] <= x; i++) y = roc->y[i];
    return y;
}

static inline void compare_list(struct tally *t, enum quantity q, const char *where, const char *what,
                                struct js *want, const double *got, int64_t n) {
    if (!want) return;
    compare(t, COUNT, where, what, (double)n, (double)want->n);
    int64_t i = 0;
    for (struct js *v = want->first; v && i < n; v = v->next, i++) compare(t, q, where, what, got[i], v->num);
}

static inline void compare_statistics(struct tally *t, const struct es_evalset *set, struct js *stats,
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

static inline void compare_psds(struct tally *t, const struct es_evalset *set, struct js *block) {
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

static inline void compare_f1_value(struct tally *t, const char *where, const struct es_f1_value *v,
                                    struct js *side, const char *key) {
    compare(t, VALUE, where, key, v->f, js_number(js_get(side, "f"), key, (double)NAN));
    compare(t, VALUE, where, key, v->precision, js_number(js_get(side, "precision"), key, (double)NAN));
    compare(t, VALUE, where, key, v->recall, js_number(js_get(side, "recall"), key, (double)NAN));
}

static inline void compare_f1(struct tally *t, const struct es_evalset *set, struct js *block,
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

static inline void compare_auroc(struct tally *t, const struct es_evalset *set, struct js *block) {
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
static inline int compare_blocks(struct tally *t, const struct es_evalset *set, struct js *blocks) {
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

/* ---- cases with files */

/* Unpacks a .gz beside the test; returns its new path. */
static inline const char *unpack(char out[200], const char *file, const char *name) {
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

static inline void file_open(struct file_case *c, const char *scores, const char *truth,
                             const char *durations, const char *expected) {
    char p[3][1200];
    struct es_err err = {0};
    *c = (struct file_case){.live = es_mem_live_blocks()};
    must(es_scores_load(&c->scores, golden_path(p[0], scores), &err), &err);
    must(es_truth_load(&c->truth, golden_path(p[0], truth), golden_path(p[1], durations), &err), &err);
    c->expected = js_open(&c->doc, golden_path(p[2], expected));
    assert_non_null(c->expected);
}

static inline void file_close(struct file_case *c) {
    es_scores_free(&c->scores);
    es_truth_free(&c->truth);
    js_close(&c->doc);
    assert_int_equal(es_mem_live_blocks(), c->live);
}

/* All blocks of an object on one set. Returns how many there were. */
static inline int compare_set(struct tally *t, const struct es_scores *scores, const struct es_truth *truth,
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

#endif
