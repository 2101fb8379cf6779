/* Cases whose input are scores: real and synthetic sets, the DCASE 2024 pipeline, small inline cases. */
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/events.h"
#include "earshot/labels.h"
#include "earshot/mpauc.h"

#include "eval.h"

enum { MAX_CLASSES = 256 };

static void describe(struct ev *e) {
    static const char *const notes[] = {"case", "about", "note", "system"};
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) ev_input(js_get(e->root, notes[i]));
}

/* Names in a list against those of a table. */
static void put_names(struct ev *e, struct js *list, char *const *name, int n) {
    int i = 0;
    for (struct js *v = list ? list->first : NULL; v; v = v->next, i++)
        ev_put_same(e, v, i < n && strcmp(v->str, name[i]) == 0);
}

/* ---- real folder */
void ev_case_real_folder(struct rn *run, const char *folder) {
    struct ev e;
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL, *events = NULL;
    struct es_err err = {0};
    if (!ev_open(&e, run, folder, "expected.json")) return;
    describe(&e);
    if (ev_load(&e, "scores", "ground_truth.tsv", "audio_durations.tsv", &scores, &truth)) {
        double half[MAX_CLASSES];
        put_names(&e, js_get(e.root, "classes"), scores->classes, scores->n_classes);
        ev_set(&e, scores, truth, &(struct es_evalset_params){.keep_empty = true}, e.root);
        for (struct js *b = e.root->first; b;
             b = b->next) { /* events_at_threshold_<x>: sorted by onset, offset, class */
            if (strncmp(b->key, "events_at_threshold_", 20) != 0 || scores->n_classes > MAX_CLASSES) continue;
            for (int k = 0; k < scores->n_classes; k++) half[k] = strtod(b->key + 20, NULL);
            if (ev_error(&e, b, es_events_decode(&events, scores, half, false, &err), &err)) continue;
            for (int64_t i = 1; i < events->n_events; i++) /* insertion sort: tens of events a clip */
                for (int64_t k = i; k > 0; k--) {
                    struct es_truth_event *x = &events->events[k - 1], *y = &events->events[k], swap = *x;
                    const char *lx = es_names_get(events->labels, x->label),
                               *ly = es_names_get(events->labels, y->label);
                    if (x->clip != y->clip || x->onset_s < y->onset_s ||
                        (x->onset_s == y->onset_s &&
                         (x->offset_s < y->offset_s || (x->offset_s == y->offset_s && strcmp(lx, ly) <= 0))))
                        break;
                    *x = *y;
                    *y = swap;
                }
            ev_events(&e, events, b, EV_VALUE);
            es_truth_free(&events);
        }
    }
    es_truth_free(&truth);
    es_scores_free(&scores);
    ev_close(&e);
    ev_real_boxes(run, folder);
}

/* ---- with and without the clips that have no event */
static void with_and_without_empty(struct ev *e, const struct es_scores *scores,
                                   const struct es_truth *truth) {
    ev_set(e, scores, truth, &(struct es_evalset_params){0}, js_get(e->root, "clips_without_events_dropped"));
    ev_set(e, scores, truth, &(struct es_evalset_params){.keep_empty = true}, js_get(e->root, "all_clips"));
}

static void put_clips(struct ev *e, const struct es_scores *scores, const struct es_truth *truth, bool all,
                      const char *key) {
    struct es_evalset *set = NULL;
    struct es_err err = {0};
    struct js *v = js_get(e->root, key);
    if (!v ||
        ev_error(e, v,
                 es_evalset_new(&set, scores, truth, &(struct es_evalset_params){.keep_empty = all}, &err),
                 &err))
        return;
    ev_put(e, v, EV_COUNT, (double)es_evalset_clips(set));
    es_evalset_free(&set);
}

void ev_case_many_ties(struct rn *run, const char *folder) {
    struct ev e;
    char p[3][1200];
    struct es_err err = {0};
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    const char *other =
        ev_folder(run, "*operating_points*"); /* ground truth and durations are those of case 02 */
    if (!ev_open(&e, run, folder, "expected.json.gz")) return;
    describe(&e);
    if (!other) {
        ev_skip(&e, e.root, "the ground truth is in the folder of the operating points, which is not there");
    } else {
        int rc = es_scores_load(&scores, ev_path(run, folder, "scores.h5", p[0]), &err);
        if (rc == 0)
            rc = es_truth_load(&truth, ev_path(run, other, "ground_truth.tsv", p[1]),
                               ev_path(run, other, "audio_durations.tsv", p[2]), &err);
        if (!ev_error(&e, e.root, rc, &err)) {
            put_names(&e, js_get(e.root, "classes"), scores->classes, scores->n_classes);
            put_clips(&e, scores, truth, true, "num_clips_all");
            put_clips(&e, scores, truth, false, "num_clips_with_events");
            with_and_without_empty(&e, scores, truth);
        }
    }
    es_truth_free(&truth);
    es_scores_free(&scores);
    ev_close(&e);
}

void ev_case_synthetic(struct rn *run, const char *folder) {
    struct ev e;
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    if (!ev_open(&e, run, folder, "expected.json.gz")) return;
    describe(&e);
    if (ev_load(&e, "scores.h5", "ground_truth.tsv", "audio_durations.tsv", &scores, &truth)) {
        put_names(&e, js_get(e.root, "classes"), scores->classes, scores->n_classes);
        with_and_without_empty(&e, scores, truth);
        struct js *want = js_get(e.root, "dcase_median_filtered");
        if (want) ev_dcase_filtered(&e, want, scores, truth);
    }
    es_truth_free(&truth);
    es_scores_free(&scores);
    ev_close(&e);
}

/* ---- the pipeline of 27 classes */
static void compare_filtered(struct rn *run, const char *folder, const struct es_scores *got) {
    char path[1200], file[300], name[300];
    struct es_err err = {0};
    struct es_scores *want = NULL;
    snprintf(file, sizeof file, "%s/expected_median_filtered_some_clips.h5", folder);
    if (es_scores_load(&want, ev_path(run, folder, "expected_median_filtered_some_clips.h5", path), &err) <
        0) {
        rn_report_skip(run, file, "-", "*", err.msg);
        return;
    }
    for (int64_t i = 0; i < want->n_clips; i++) {
        const struct es_scores_clip *w = &want->clips[i];
        int64_t j = 0;
        while (j < got->n_clips && strcmp(got->clips[j].id, w->id) != 0) j++;
        const bool there =
            j < got->n_clips && got->clips[j].n_frames == w->n_frames && got->n_classes == want->n_classes;
        const int64_t n = (int64_t)w->n_frames * want->n_classes;
        double *a = es_alloc((size_t)n, sizeof *a, NULL), *b = es_alloc((size_t)n, sizeof *b, NULL);
        ES_ASSERT(a && b);
        for (int k = 0; k < want->n_classes; k++) {
            if (there) es_scores_column(got, j, k, a + (int64_t)k * w->n_frames);
            es_scores_column(want, i, k, b + (int64_t)k * w->n_frames);
        }
        for (int64_t k = 0; !there && k < n; k++) a[k] = (double)NAN;
        snprintf(name, sizeof name, "scores/%s", w->id);
        ev_report(run, file, ".", name, EV_EXACT, a, b, n);
        snprintf(name, sizeof name, "timestamps/%s", w->id);
        if (there)
            ev_report(run, file, ".", name, EV_EXACT, got->clips[j].edges_s, w->edges_s, w->n_frames + 1);
        es_free(&a);
        es_free(&b);
    }
    es_scores_free(&want);
}

static void joined_truth(struct ev *e, const struct es_truth *truth, struct js *files) {
    for (struct js *r = files ? files->first : NULL; r; r = r->next) {
        const int64_t clip = es_names_find(truth->clips, r->key);
        int64_t n = 0;
        for (int64_t i = 0; i < truth->n_events; i++) n += truth->events[i].clip == clip;
        for (struct js *v = r->first; v; v = v->next) {
            if (v->settled) continue;
            int64_t i = 0;
            while (
                i < truth->n_events &&
                (truth->events[i].clip != clip || fabs(truth->events[i].onset_s - v->first->num) > 1e-9 ||
                 fabs(truth->events[i].offset_s - v->first->next->num) > 1e-9 ||
                 strcmp(es_names_get(truth->labels, truth->events[i].label), v->first->next->next->str) != 0))
                i++;
            ev_put(e, v->first, EV_VALUE, i < truth->n_events ? truth->events[i].onset_s : (double)NAN);
            ev_put(e, v->first->next, EV_VALUE,
                   i < truth->n_events ? truth->events[i].offset_s : (double)NAN);
            ev_put_same(e, v->first->next->next, i < truth->n_events && n == r->n);
        }
    }
}

static void maestro(struct ev *e, const struct es_scores *scores, const struct es_truth *soft, struct js *all,
                    const char *name, bool positive_only) {
    struct es_err err = {0};
    struct es_scores *joined = NULL;
    struct es_truth *truth = NULL;
    struct es_maestro_params p = {.positive_only = positive_only, .subset = true};
    struct js *want = js_get(all, name), *tables = js_get(want, "segment_scores");
    if (!want || ev_error(e, want, es_maestro_join(&joined, &truth, scores, soft, &p, &err), &err)) return;
    for (struct js *r = tables ? tables->first : NULL; r; r = r->next) {
        const int64_t i = es_names_find(truth->clips, r->key);
        if (i < 0) continue;
        const struct es_scores_clip *clip = &joined->clips[i];
        double *column = es_alloc((size_t)clip->n_frames + 1, sizeof *column, NULL);
        ES_ASSERT(column);
        ev_put_list(e, js_get(r, "timestamps"), EV_VALUE, clip->edges_s, clip->n_frames + 1);
        struct js *table = js_get(r, "scores");
        for (struct js *c = table ? table->first : NULL; c; c = c->next) {
            if (es_scores_class(joined, c->key) < 0) continue;
            es_scores_column(joined, i, es_scores_class(joined, c->key), column);
            ev_put_list(e, c, EV_VALUE, column, clip->n_frames);
        }
        es_free(&column);
    }
    joined_truth(e, truth, js_get(all, "merged_file_ground_truth"));
    ev_set(e, joined, truth, &(struct es_evalset_params){0}, want);
    es_truth_free(&truth);
    es_scores_free(&joined);
}

/* Clips of the label file, and those with a hard label (confidence > 0.5) of a scored class. */
static void maestro_clips(struct ev *e, const struct es_truth *soft, struct js *want) {
    const int64_t n = es_names_count(soft->clips);
    bool *positive = es_alloc((size_t)n + 1, sizeof *positive, NULL);
    ES_ASSERT(positive);
    int64_t n_positive = 0;
    for (int64_t i = 0; i < soft->n_events; i++) {
        const int k = es_class_find(es_names_get(soft->labels, soft->events[i].label));
        if (soft->events[i].confidence > 0.5 && k >= 0 && es_classes[k].mpauc)
            positive[soft->events[i].clip] = true;
    }
    for (int64_t i = 0; i < n; i++) n_positive += positive[i];
    ev_put(e, js_get(want, "num_clips_all"), EV_COUNT, (double)n);
    ev_put(e, js_get(want, "num_clips_in_label_file"), EV_COUNT, (double)n);
    ev_put(e, js_get(want, "num_clips_with_positive_eval_label"), EV_COUNT, (double)n_positive);
    struct js *ids = js_get(want, "clip_ids_all"), *without = js_get(want, "clips_without_positive");
    for (struct js *v = ids ? ids->first : NULL; v; v = v->next)
        ev_put_same(e, v, es_names_find(soft->clips, v->str) >= 0);
    for (struct js *v = without ? without->first : NULL; v; v = v->next) {
        const int64_t i = es_names_find(soft->clips, v->str);
        ev_put_same(e, v, i >= 0 && !positive[i] && without->n == n - n_positive);
    }
    es_free(&positive);
}

static void put_class_list(struct ev *e, struct js *list, bool (*is)(int k)) {
    int n = 0;
    for (int k = 0; k < ES_N_CLASSES; k++) n += is(k);
    for (struct js *v = list ? list->first : NULL; v; v = v->next) {
        const int k = es_class_find(v->str);
        ev_put_same(e, v, k >= 0 && is(k) && list->n == n);
    }
}
static bool is_desed(int k) {
    return k < ES_N_DESED_CLASSES;
}
static bool is_maestro(int k) {
    return k >= ES_N_DESED_CLASSES;
}
static bool is_scored(int k) {
    return es_classes[k].mpauc;
}

static void all_classes(struct rn *run, const char *folder) {
    struct ev e;
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    if (!ev_open(&e, run, folder, "expected_27_classes.json.gz")) return;
    describe(&e);
    if (ev_load(&e, "scores_unprocessed.h5", "ground_truth_27_classes.tsv", "audio_durations_27_classes.tsv",
                &scores, &truth)) {
        put_names(&e, js_get(e.root, "classes"), scores->classes, scores->n_classes);
        ev_set(&e, scores, truth, &(struct es_evalset_params){.keep_empty = true}, e.root);
    }
    es_truth_free(&truth);
    es_scores_free(&scores);
    ev_close(&e);
}

void ev_case_pipeline(struct rn *run, const char *folder) {
    struct ev e;
    struct es_err err = {0};
    struct es_scores *scores = NULL, *filtered = NULL;
    struct es_truth *truth = NULL, *soft = NULL, *clips = NULL;
    char p[2][1200];
    int window[MAX_CLASSES];
    if (!ev_open(&e, run, folder, "expected.json.gz")) return;
    describe(&e);
    bool ok = ev_load(&e, "scores_unprocessed.h5", "desed_ground_truth.tsv", "desed_audio_durations.tsv",
                      &scores, &truth);
    if (ok) {
        struct js *w = js_get(e.root, "median_window_frames");
        int k = 0;
        for (struct js *v = w ? w->first : NULL; v; v = v->next, k++) /* the program's own windows */
            ev_put(&e, v, EV_COUNT, k < ES_N_CLASSES ? es_classes[k].median_frames : (double)NAN);
        put_names(&e, js_get(e.root, "classes"), scores->classes, scores->n_classes);
        put_class_list(&e, js_get(e.root, "desed_classes"), is_desed);
        put_class_list(&e, js_get(e.root, "maestro_classes"), is_maestro);
        put_class_list(&e, js_get(e.root, "maestro_eval_classes"), is_scored);
        for (int c = 0; c < scores->n_classes && c < MAX_CLASSES; c++) {
            const int known = es_class_find(scores->classes[c]);
            window[c] = known >= 0 ? es_classes[known].median_frames : 1;
        }
        ok = !ev_error(&e, e.root, es_scores_median(&filtered, scores, window, &err), &err);
    }
    if (ok) {
        const struct es_evalset_params subset = {.subset = true};
        struct js *desed = js_get(e.root, "desed"), *m = js_get(e.root, "maestro");
        compare_filtered(run, folder, filtered);
        ev_set(&e, scores, truth, &subset, js_get(desed, "unprocessed"));
        ev_set(&e, filtered, truth, &subset, js_get(desed, "class_wise_median_filtered"));
        int rc = es_truth_load(&soft, ev_path(run, folder, "maestro_clip_soft_labels.tsv.gz", p[0]),
                               ev_path(run, folder, "maestro_file_durations.tsv", p[1]), &err);
        if (!ev_error(&e, m, rc, &err)) {
            maestro_clips(&e, soft, m);
            maestro(&e, scores, soft, m, "unprocessed__clips_with_positive_label_only", true);
            maestro(&e, scores, soft, m, "unprocessed__all_clips", false);
            maestro(&e, filtered, soft, m, "class_wise_median_filtered__clips_with_positive_label_only",
                    true);
            maestro(&e, filtered, soft, m, "class_wise_median_filtered__all_clips", false);
            struct js *v = js_get(m, "validation_step_style");
            if (!ev_error(&e, v, es_maestro_clips(&clips, soft, &err), &err))
                ev_set(&e, filtered, clips, &subset, v);
        }
    }
    es_truth_free(&clips);
    es_truth_free(&soft);
    es_truth_free(&truth);
    es_scores_free(&filtered);
    es_scores_free(&scores);
    ev_close(&e);
    all_classes(run, folder);
    ev_pipeline_boxes(run, folder);
}

/* ---- inline cases */
struct inline_case {
    struct es_scores *scores;
    struct es_truth *truth;
    int n_classes;
    const char *classes[MAX_CLASSES];
};

static int inline_scores(struct inline_case *c, struct js *input, struct es_err *err) {
    const char *ids[1024];
    int n_clips = 0, i_clip = 0;
    struct js *clips = js_get(input, "clips"), *classes = js_get(input, "classes");
    for (struct js *v = classes ? classes->first : NULL; v && c->n_classes < MAX_CLASSES; v = v->next)
        c->classes[c->n_classes++] = v->str;
    for (struct js *v = clips->first; v && n_clips < 1024; v = v->next) ids[n_clips++] = v->key;
    ES_TRY(es_scores_new(&c->scores, n_clips, ids, c->n_classes, c->classes, true, "scores", err));
    c->scores->own_clips = true;
    for (struct js *v = clips->first; v && i_clip < n_clips; v = v->next, i_clip++) {
        struct es_scores_clip *clip = &c->scores->clips[i_clip];
        struct js *times = js_get(v, "timestamps"), *scores = js_get(v, "scores");
        clip->n_frames = (int)times->n - 1;
        double *edges = es_alloc((size_t)times->n, sizeof *edges, NULL);
        double *values = es_alloc((size_t)clip->n_frames * (size_t)c->n_classes, sizeof *values, NULL);
        ES_ASSERT(edges && values);
        clip->edges_s = edges;
        clip->values = values;
        ev_numbers(times, edges, (int)times->n);
        for (int k = 0; k < c->n_classes; k++) {
            struct js *column = js_get(scores, c->classes[k]);
            int i = 0;
            for (struct js *x = column ? column->first : NULL; x && i < clip->n_frames; x = x->next)
                values[c->n_classes * i++ + k] = x->num;
        }
    }
    return 0;
}

static int inline_open(struct inline_case *c, struct js *input, struct es_err *err) {
    *c = (struct inline_case){0};
    int64_t row = 2;
    ES_TRY(inline_scores(c, input, err));
    ES_TRY(es_truth_new(&c->truth, "ground truth", "durations", err));
    for (struct js *v = js_get(input, "ground_truth")->first; v; v = v->next) {
        ES_TRY(es_truth_clip(c->truth, v->key, err));
        for (struct js *x = v->first; x; x = x->next)
            ES_TRY(es_truth_event(c->truth, v->key, x->first->next->next->str, x->first->num,
                                  x->first->next->num, 1, row++, err));
    }
    for (struct js *v = js_get(input, "audio_durations")->first; v; v = v->next)
        ES_TRY(es_truth_duration(c->truth, v->key, v->num, err));
    return 0;
}

static int inline_set(struct es_evalset **set, struct inline_case *c, struct es_err *err) {
    struct es_evalset_params p = {.keep_empty = true, .n_classes = c->n_classes, .classes = c->classes};
    return es_evalset_new(set, c->scores, c->truth, &p, err);
}

static void inline_close(struct inline_case *c, struct es_evalset **set) {
    es_evalset_free(set);
    es_scores_free(&c->scores);
    es_truth_free(&c->truth);
}

/* Inputs told in words: a small good set (set non-NULL on success), spoiled as the name says. True: the program refused it. */
static bool spoiled(const char *name, bool *known) {
    static const double good[4] = {0, 5, 6, 10}, empty[4] = {0, 5, 5, 10};
    const char *id = "a", *label = "x";
    static const float values[3] = {0.1f, 0.9f, 0.2f};
    struct es_scores *s = NULL;
    struct es_truth *t = NULL;
    struct es_evalset *set = NULL;
    struct es_psds *psds = NULL;
    struct es_psds_params p = es_psds1_params();
    struct es_err err = {0};
    *known = true;
    if (strcmp(name, "gap_between_frames") ==
        0) { /* a folder of scores whose second frame does not begin where the first ends */
        char dir[64], file[128];
        snprintf(dir, sizeof dir, "/tmp/earshot-golden-gap-%d", (int)getpid());
        snprintf(file, sizeof file, "%s/a.tsv", dir);
        mkdir(dir, 0700);
        FILE *f = fopen(file, "w");
        if (f) fputs("onset\toffset\tx\n0.0\t1.0\t0.5\n1.5\t2.0\t0.5\n", f);
        if (f) fclose(f);
        const bool refused = es_scores_load(&s, dir, &err) == -ES_EDATA;
        remove(file);
        remove(dir);
        es_scores_free(&s);
        return refused;
    }
    const bool zero = strcmp(name, "zero_length_frame") == 0;
    if (strcmp(name, "cttc_without_alpha_ct") == 0) {
        p.cttc = 0.3;
    } else if (strcmp(name, "alpha_ct_without_cttc") == 0) {
        p.alpha_ct = 0.5;
    } else if (!zero) {
        *known = false;
        return false;
    }
    int rc = es_scores_from_array(&s, 1, &id, 3, zero ? empty : good, 1, &label, values, "scores", &err);
    if (rc == 0) rc = es_truth_new(&t, "truth", "durations", &err);
    if (rc == 0) rc = es_truth_event(t, id, label, 1, 4, 1, 2, &err);
    if (rc == 0) rc = es_truth_duration(t, id, 10, &err);
    if (rc == 0) rc = es_evalset_new(&set, s, t, &(struct es_evalset_params){.keep_empty = true}, &err);
    if (rc == 0) rc = es_psds_new(&psds, set, &p, &err);
    es_psds_free(&psds);
    es_evalset_free(&set);
    es_truth_free(&t);
    es_scores_free(&s);
    return rc == -ES_EDATA || rc == -ES_EUSAGE;
}

static void inputs_of(struct js *v) {
    static const char *const keys[] = {"name",    "about",       "input",
                                       "options", "psds_params", "reference_exception"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) ev_input(js_get(v, keys[i]));
}

void ev_case_inline(struct rn *run, const char *folder) {
    struct ev e;
    if (!ev_open(&e, run, folder, "cases.json.gz")) return;
    struct js *cases = js_get(e.root, "cases"), *refused = js_get(e.root, "refused_inputs");
    for (struct js *v = cases ? cases->first : NULL; v; v = v->next) {
        struct inline_case c;
        struct es_evalset *set = NULL;
        struct es_err err = {0};
        int rc = inline_open(&c, js_get(v, "input"), &err);
        if (rc == 0) rc = inline_set(&set, &c, &err);
        inputs_of(v);
        if (!ev_error(&e, js_get(v, "expected"), rc, &err)) ev_blocks(&e, set, js_get(v, "expected"));
        inline_close(&c, &set);
    }
    for (struct js *v = refused ? refused->first : NULL; v; v = v->next) {
        struct js *input = js_get(v, "input"), *expect = js_get(v, "expect_error"), *name = js_get(v, "name");
        bool known = true, no = false;
        if (input && input->type == JS_OBJECT) {
            struct inline_case c;
            struct es_evalset *set = NULL;
            struct es_err err = {0};
            int rc = inline_open(&c, input, &err);
            if (rc == 0) rc = inline_set(&set, &c, &err);
            no = rc == -ES_EDATA;
            inline_close(&c, &set);
        } else {
            no = spoiled(name ? name->str : "", &known);
        }
        inputs_of(v);
        if (expect && known)
            ev_put(&e, expect, EV_COUNT, no);
        else
            ev_skip(&e, v, "the input is told in words this program does not know");
    }
    ev_close(&e);
}
