#include "earshot/evaluate_files.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/tsv.h"

/* One name a line. */
static int read_classes(struct es_names **names, const char *path, struct es_err *err) {
    static const char *const columns[] = {"class"};
    struct es_tsv *t = NULL;
    int rc = es_names_new(names, err);
    if (rc < 0) goto done;
    ES_GO(es_tsv_open(&t, path, columns, 1, ES_TSV_NO_HEADER, err));
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        const int64_t i = es_names_add(*names, es_tsv_text(t, row, 0), err);
        rc = i < 0 ? (int)i : i < row ? es_tsv_wrong(t, row, 0, "every class once", err) : 0;
        if (rc < 0) goto done;
    }
    if (es_tsv_rows(t) == 0) rc = es_err_set(err, ES_EDATA, "%s: got no class", path);
done:
    es_tsv_close(&t);
    return rc;
}

static int guess(enum es_evaluate_source *source, const char *path, struct es_err *err) {
    struct stat st;
    struct es_h5 *f = NULL;
    const size_t len = strlen(path);
    if (*source != ES_EVALUATE_GUESS) return 0;
    *source = ES_EVALUATE_SCORES;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return 0;
    if (len > 4 && strcmp(path + len - 4, ".tsv") == 0) {
        *source = ES_EVALUATE_DETECTIONS;
        return 0;
    }
    ES_TRY(es_h5_open(&f, path, NULL, 0, err));
    if (es_h5_has(f, "strong_logits")) *source = ES_EVALUATE_PREDICTIONS;
    es_h5_close(&f);
    return 0;
}

static int load_scores(struct es_scores **scores, const char *path, enum es_evaluate_source source,
                       const struct es_truth *truth, struct es_err *err) {
    ES_TRY(guess(&source, path, err));
    if (source == ES_EVALUATE_DETECTIONS) return es_scores_load_detections(scores, path, truth, err);
    return source == ES_EVALUATE_SCORES ? es_scores_load(scores, path, err)
                                        : es_scores_load_predictions(scores, path, err);
}

/* ---- post-processing */

/* Parameters tuned on "P.h5,G.tsv,D.tsv". */
static int tune(struct es_postprocess **p, const struct es_comm *comm, const struct es_evaluate_input *in,
                struct es_err *err) {
    static const double lengths[] = {0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0};
    char *list = es_strdup(in->tune_on, err), *part[3] = {list, NULL, NULL};
    struct es_scores *scores = NULL;
    struct es_truth *truth = NULL;
    struct es_evalset *set = NULL;
    struct es_tuning *t = NULL;
    const struct es_csebb_grid published = es_csebb_grid_published(),
                               *grid = in->grid ? in->grid : &published;
    int rc = list ? 0 : -ES_EIO;
    for (int i = 1; i < 3 && rc == 0; i++) {
        part[i] = strchr(part[i - 1], ',');
        if (!part[i])
            rc = es_err_set(err, ES_EUSAGE, "--tune-on: got '%s', want SCORES,TRUTH.tsv,DURATIONS.tsv",
                            in->tune_on);
        if (rc == 0) *part[i]++ = 0;
    }
    if (rc == 0) rc = es_truth_load(&truth, part[1], part[2], err);
    if (rc == 0) rc = load_scores(&scores, part[0], ES_EVALUATE_GUESS, truth, err);
    if (rc == 0) {
        const struct es_evalset_params params = {.subset = true, .allow_missing = in->allow_missing};
        rc = es_evalset_new(&set, scores, truth, &params, err);
    }
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc == 0 && in->postprocess == ES_POST_CSEBB)
        rc = es_tune_csebb_all(&t, set, comm, grid, in->tune_by, !in->tune_globally, err);
    else if (rc == 0)
        rc = es_tune_median_all(&t, set, comm, lengths, 11, in->tune_by, !in->tune_globally, err);
    if (rc == 0) rc = es_postprocess_from_tuning(p, t, err);
    es_tuning_free(&t);
    es_evalset_free(&set);
    es_scores_free(&scores);
    es_truth_free(&truth);
    es_free(&list);
    return rc;
}

/* Columns that have events, or are listed: the others need no parameters. */
static int columns_wanted(bool **out, const struct es_scores *s, const struct es_truth *truth,
                          const struct es_evalset_params *params, struct es_err *err) {
    bool *w = *out = es_alloc((size_t)s->n_classes, sizeof *w, err);
    if (!w) return -ES_EIO;
    for (int c = 0; c < s->n_classes; c++) {
        w[c] = !params->classes && es_names_find(truth->labels, s->classes[c]) >= 0;
        for (int k = 0; k < params->n_classes && params->classes; k++)
            w[c] = w[c] || strcmp(params->classes[k], s->classes[c]) == 0;
    }
    return 0;
}

static int process(struct es_scores **scores, const struct es_truth *truth,
                   const struct es_evalset_params *params, const struct es_evaluate_input *in,
                   const struct es_postprocess *given, struct es_err *err) {
    struct es_postprocess *p = NULL;
    struct es_scores *out = NULL;
    bool *wanted = NULL;
    const bool maestro = truth->has_confidence;
    int rc = 0;
    if (!given && in->postprocess == ES_POST_NONE) return 0;
    if (maestro && (given ? given->kind : in->postprocess) == ES_POST_CSEBB)
        return 0; /* boxes of a second with its mean score: the same number (spec 13.6) */
    if (!given) ES_GO(es_postprocess_default(&p, in->postprocess, *scores, err));
    if (!maestro) ES_GO(columns_wanted(&wanted, *scores, truth, params, err));
    ES_GO(es_postprocess_apply(&out, *scores, given ? given : p, wanted, err));
    es_scores_free(scores);
    *scores = out;
done:
    es_free(&wanted);
    es_postprocess_free(&p);
    return rc;
}

/* ---- one system */

struct system {
    struct es_scores *scores;
    struct es_truth *truth;
    struct es_evalset *set;
    int64_t n_missing; /* MAESTRO clips without scores */
};

static void system_free(struct system *s) {
    es_evalset_free(&s->set);
    es_truth_free(&s->truth);
    es_scores_free(&s->scores);
}

/* MAESTRO: recordings take the place of clips. */
static int join(struct system *s, const struct es_evaluate_input *in, struct es_err *err) {
    struct es_scores *joined = NULL;
    struct es_truth *hard = NULL;
    const struct es_maestro_params p = {.positive_only = in->positive_only,
                                        .n_missing = in->allow_missing ? &s->n_missing : NULL,
                                        .subset = true};
    ES_TRY(es_maestro_join(&joined, &hard, s->scores, s->truth, &p, err));
    es_scores_free(&s->scores);
    es_truth_free(&s->truth);
    s->scores = joined;
    s->truth = hard;
    return 0;
}

static int open_system(struct system *s, const struct es_evaluate_input *in, int i,
                       const struct es_postprocess *post, const struct es_names *names, bool *maestro,
                       struct es_err *err) {
    enum es_evaluate_source source = in->source[i];
    const char **list = NULL;
    struct es_evalset_params p = {.keep_empty = in->keep_empty, .allow_missing = in->allow_missing};
    int rc = guess(&source, in->path[i], err);
    if (rc < 0) goto done;
    p.subset = source == ES_EVALUATE_PREDICTIONS || !in->keep_empty;
    if (names) {
        p.n_classes = (int)es_names_count(names);
        p.classes = list = es_alloc((size_t)p.n_classes, sizeof *list, err);
        rc = list ? 0 : -ES_EIO;
        for (int k = 0; k < p.n_classes && rc == 0; k++) list[k] = es_names_get(names, k);
        if (rc < 0) goto done;
    }
    ES_GO(es_truth_load(&s->truth, in->ground_truth, in->durations, err));
    *maestro = s->truth->has_confidence;
    if (source == ES_EVALUATE_DETECTIONS && (post || in->postprocess != ES_POST_NONE || *maestro)) {
        rc = es_err_set(err, ES_EUSAGE, "evaluate: --detections: got %s; want scores for that",
                        *maestro ? "soft labels (a column confidence)" : "--postprocess");
        goto done;
    }
    ES_GO(load_scores(&s->scores, in->path[i], source, s->truth, err));
    ES_GO(process(&s->scores, s->truth, &p, in, post, err));
    if (*maestro) {
        ES_GO(join(s, in, err));
        p.subset = false;
    }
    ES_GO(es_evalset_new(&s->set, s->scores, s->truth, &p, err));
done:
    es_free(&list);
    return rc;
}

/* ---- all of it */

static int prepare(struct es_postprocess **post, struct es_names **names, const struct es_evaluate_input *in,
                   struct es_err *err) {
    if (in->metrics) ES_TRY(es_evaluation_check_names(in->metrics, err)); /* before the long part */
    if (in->parameters && in->tune_on)
        return es_err_set(err, ES_EUSAGE, "evaluate: got --parameters and --tune-on, want one of them");
    if (in->tune_on && in->postprocess != ES_POST_CSEBB && in->postprocess != ES_POST_MEDIAN_SECONDS)
        return es_err_set(err, ES_EUSAGE, "--tune-on: want --postprocess csebb or median to tune");
    if (in->save_parameters && !in->tune_on && !in->parameters)
        return es_err_set(err, ES_EUSAGE, "--save-parameters: want --tune-on to have some");
    if (in->parameters) ES_TRY(es_postprocess_load(post, in->parameters, err));
    return in->classes ? read_classes(names, in->classes, err) : 0;
}

int es_evaluate_files_all(struct es_evaluate_result **out, const struct es_comm *comm,
                          const struct es_evaluate_input *in, struct es_err *err) {
    struct es_postprocess *post = NULL;
    struct es_names *names = NULL;
    struct system system[2] = {{0}, {0}};
    struct es_bootstrap_params bp = es_bootstrap_params_default();
    const int n = in->path[1] ? 2 : 1;
    bool maestro = false;
    struct es_evaluate_result *r = *out = es_alloc(1, sizeof *r, err);
    int rc = r ? prepare(&post, &names, in, err) : -ES_EIO;
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc == 0 && in->tune_on) rc = tune(&post, comm, in, err);
    if (rc == 0 && in->save_parameters && !in->check && (!comm || es_comm_rank(comm) == 0))
        rc = es_postprocess_save(post, in->save_parameters, err);
    for (int i = 0; i < n && rc == 0; i++) rc = open_system(&system[i], in, i, post, names, &maestro, err);
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc < 0 || in->check) goto done;
    const char *metrics = in->metrics ? in->metrics : maestro ? "mpauc,segment_f1" : NULL;
    if (in->bootstrap > 0) bp.n_samples = in->bootstrap;
    r->counts_missing = in->allow_missing;
    for (int i = 0; i < n; i++) {
        r->path[i] = in->path[i];
        r->missing[i] = es_evalset_missing(system[i].set);
        r->missing[i].clips_without_scores += system[i].n_missing;
        es_evalset_share(system[i].set, comm);
        ES_GO(es_evaluation_new(&r->system[i], system[i].set, metrics, err));
        if (in->bootstrap > 0)
            ES_GO(es_bootstrap_all(&r->bootstrap[i], system[i].set, comm, metrics, &bp, err));
    }
    if (n == 2)
        ES_GO(
            es_bootstrap_compare_all(&r->difference, system[0].set, system[1].set, comm, metrics, &bp, err));
    if (in->save_roc) {
        if (!comm || es_comm_rank(comm) == 0) rc = es_evaluation_save_roc(r->system[0], in->save_roc, err);
        if (comm) rc = es_err_agree_all(comm, rc, err);
    }
done:
    for (int i = 0; i < 2; i++) system_free(&system[i]);
    es_names_free(&names);
    es_postprocess_free(&post);
    if (rc < 0) es_evaluate_free(out);
    return rc;
}

void es_evaluate_free(struct es_evaluate_result **r) {
    if (!*r) return;
    for (int i = 0; i < 2; i++) {
        es_evaluation_free(&(*r)->system[i]);
        es_bootstrap_free(&(*r)->bootstrap[i]);
    }
    es_bootstrap_free(&(*r)->difference);
    es_free(r);
}
