/* earshot prepare: one corpus into one store. */
#include "earshot/prepare.h"

#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "jobs.h"

#define MAX_PATH 600
enum { AUDIO, MORE, TSV, DURATIONS, EXCLUDE, N_PATHS };
static const char *const path_keys[N_PATHS] = {"audio", "more_audio", "tsv", "durations", "exclude"};

/* name: of prepare.subsets and of the keys prepare.<name>_audio, _tsv, _durations; may have more_audio. split 0: a training set,
 * which may have an exclusion list */
static const struct source {
    const char *corpus, *name;
    enum es_subset subset;
    int split;
    bool more, optional; /* optional: only when prepare.subsets names it */
} sources[] = {{"desed", "strong", ES_SUBSET_STRONG_REAL, .split = 0},
               {"desed", "external_train", ES_SUBSET_STRONG_REAL, .split = 0, .optional = true},
               {"desed", "synth", ES_SUBSET_SYNTH, .split = 0},
               {"desed", "weak", ES_SUBSET_WEAK, .split = 0},
               {"desed", "unlabeled", ES_SUBSET_UNLABELED, .split = 0},
               {"desed", "validation", ES_SUBSET_VALIDATION, .split = 1},
               {"desed", "synth_validation", ES_SUBSET_SYNTH_VALIDATION, .split = 1},
               {"desed", "external_validation", ES_SUBSET_STRONG_REAL, .split = 1, .optional = true},
               {"desed", "public", ES_SUBSET_PUBLIC, .split = 1, .optional = true},
               {"maestro", "maestro_train", ES_SUBSET_MAESTRO, .split = 0},
               {"maestro", "maestro_validation", ES_SUBSET_MAESTRO_TEST, .split = 1},
               {"as-strong", "as_train", ES_SUBSET_AS_TRAIN, .split = 0, .more = true},
               {"as-strong", "as_eval", ES_SUBSET_AS_EVAL, .split = 1}};
enum { N_SOURCES = sizeof sources / sizeof *sources };
_Static_assert((int)N_SOURCES <= (int)ES_PREPARE_MAX_SOURCES, "room for every source");

/* prepare.<name>_<what> below prepare.root; NULL when empty */
static const char *path_of(const struct es_config *cfg, const char *name, const char *what,
                           char out[MAX_PATH]) {
    char key[64];
    snprintf(key, sizeof key, "prepare.%s%s%s", name, *name ? "_" : "", what);
    const char *value = es_config_string(cfg, key), *root = es_config_string(cfg, "prepare.root");
    if (!*value) return NULL;
    snprintf(out, MAX_PATH, "%s%s%s", value[0] == '/' ? "" : root, value[0] == '/' || !*root ? "" : "/",
             value);
    return out;
}

static bool wanted(const struct es_config *cfg, const struct source *s) {
    int n;
    const char *const *list = es_config_strings(cfg, "prepare.subsets", &n);
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], s->name) == 0) return true;
    return n == 0 && !s->optional;
}

static int check_subsets(const struct es_config *cfg, const char *corpus, struct es_err *err) {
    int n;
    const char *const *list = es_config_strings(cfg, "prepare.subsets", &n);
    for (int i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < N_SOURCES; k++)
            known |= strcmp(sources[k].corpus, corpus) == 0 && strcmp(sources[k].name, list[i]) == 0;
        if (!known)
            return es_err_set(err, ES_EUSAGE, "%s: prepare.subsets: got \"%s\", which is no subset of %s",
                              es_config_where(cfg, "prepare.subsets"), list[i], corpus);
    }
    return 0;
}

/* Folders called ..._16k hold 16 kHz (spec/training.md 1.1). */
static int rate_of(const struct es_config *cfg, const char *audio) {
    int rate_hz = es_config_int(cfg, "prepare.rate_hz");
    size_t n = audio ? strlen(audio) : 0;
    return rate_hz > 0 ? rate_hz : n > 4 && strcmp(audio + n - 4, "_16k") == 0 ? ES_STORE_RATE_HZ : 0;
}

static void write_json(struct es_json *j, const struct es_prepare_report *r) {
    es_json_key(j, "sets");
    es_json_begin_array(j);
    for (int s = 0; s < r->n_sets; s++) {
        const struct es_prepare_set *set = &r->set[s];
        es_json_begin_object(j);
        es_json_put_string(j, "name", set->name);
        es_json_put_int(j, "clips", set->clips);
        for (int w = 0; w < ES_PREPARE_N_WHY; w++)
            es_json_put_int(j, es_prepare_why_name((enum es_prepare_why)w), set->out[w]);
        es_json_put_int(j, "training", set->training);
        es_json_put_int(j, "validation", set->validation);
        es_json_put_int(j, "events", set->events);
        es_json_put_int(j, "events_dropped", set->events_dropped);
        es_json_put_number(j, "hours", set->hours);
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_key(j, "overlaps");
    es_json_begin_array(j);
    for (int k = 0; k < r->n_overlaps; k++) {
        es_json_begin_object(j);
        es_json_put_string(j, "a", r->set[r->overlap[k].a].name);
        es_json_put_string(j, "b", r->set[r->overlap[k].b].name);
        es_json_put_int(j, "names", r->overlap[k].names);
        es_json_put_int(j, "youtube_ids", r->overlap[k].ids);
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_key(j, "problems");
    es_json_begin_array(j);
    for (int64_t i = 0; r->problem && i < es_names_count(r->problem); i++)
        es_json_string(j, es_names_get(r->problem, i));
    es_json_end_array(j);
    es_json_put_int(j, "files", r->files);
    es_json_put_number(j, "seconds", r->seconds);
    es_json_put_int(j, "peak_rss_bytes", r->peak_rss_bytes);
}

/* Everything that the configuration says but the sources. */
static void fill(struct es_prepare_params *p, const struct es_run *run, const struct es_config *cfg,
                 char path[4][MAX_PATH]) {
    static const char *const class_sets[] = {"all", "train", "eval", "common"};
    es_prepare_params_default(p);
    p->out = es_run_option(run, "out");
    p->left_out = es_run_option(run, "left-out");
    p->exclude_out = es_run_option(run, "exclude-out");
    p->strict = es_run_flag(run, "strict");
    p->weak_fraction = es_config_double(cfg, "prepare.weak_split");
    p->maestro_fraction = es_config_double(cfg, "prepare.maestro_split");
    p->split_seed = (uint32_t)es_config_i64(cfg, "prepare.split_seed");
    p->overlap_exclude = es_config_bool(cfg, "prepare.overlap_exclude");
    p->min_share = es_config_double(cfg, "prepare.min_share");
    p->threads = es_run_threads(run);
    p->max_local_samples = es_config_i64(cfg, "dsp.max_local_samples");
    p->response = es_config_string(cfg, "prepare.response");
    if (!es_config_is(cfg, "prepare.corpus", "as-strong")) return;
    p->mids = path_of(cfg, "", "mids", path[0]);
    p->classes = path_of(cfg, "", "classes", path[1]);
    p->class_table[0] = path_of(cfg, "as_train", "tsv", path[2]);
    p->class_table[1] = path_of(cfg, "as_eval", "tsv", path[3]);
    while (!es_config_is(cfg, "prepare.class_set", class_sets[p->class_set])) p->class_set++;
}

int es_job_prepare(struct es_run *run, struct es_err *err) {
    const struct es_config *cfg = es_run_config(run);
    const char *corpus = es_config_string(cfg, "prepare.corpus");
    struct es_prepare_source source[N_SOURCES];
    char path[N_SOURCES][N_PATHS][MAX_PATH], more[4][MAX_PATH];
    struct es_prepare_params p;
    struct es_prepare_report report = {0};
    uint64_t digest = 0;
    ES_TRY(es_run_option_require(run, "out", err));
    ES_TRY(es_config_require(cfg, "prepare.root", err));
    ES_TRY(check_subsets(cfg, corpus, err));
    fill(&p, run, cfg, more);
    p.source = source;
    for (int i = 0; i < N_SOURCES; i++) {
        const struct source *s = &sources[i];
        if (strcmp(s->corpus, corpus) != 0 || !wanted(cfg, s)) continue;
        const char *value[N_PATHS] = {NULL};
        for (int k = 0; k < N_PATHS; k++)
            if ((k != MORE || s->more) && (k != EXCLUDE || s->split == 0))
                value[k] = path_of(cfg, s->name, path_keys[k], path[p.n_sources][k]);
        char key[64];
        snprintf(key, sizeof key, "prepare.%s_recordings", s->name);
        bool maestro = strcmp(corpus, "maestro") == 0;
        source[p.n_sources++] =
            (struct es_prepare_source){.name = s->name,
                                       .subset = s->subset,
                                       .split = s->split,
                                       .audio = value[AUDIO],
                                       .more_audio = value[MORE],
                                       .labels = value[TSV],
                                       .durations = value[DURATIONS],
                                       .exclude = value[EXCLUDE],
                                       .recordings = maestro ? es_config_string(cfg, key) : NULL,
                                       .rate_hz = rate_of(cfg, value[AUDIO]),
                                       .n_channels = es_config_int(cfg, "prepare.channels"),
                                       .skip_missing = es_config_bool(cfg, "prepare.skip_missing")};
    }
    bool check = es_run_check(run);
    int rc = check ? es_prepare_check_all(es_run_comm(run), &p, &report, NULL, err)
                   : es_prepare_all(es_run_comm(run), &p, &report, &digest, err);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "out", p.out);
    if (rc == 0 && !check) {
        char hex[17];
        es_hash_hex(digest, hex);
        es_run_print(run, "%s: digest %s\n", p.out, hex);
        es_json_put_string(j, "digest", hex);
    }
    write_json(j, &report);
    es_json_end_object(j);
    if (rc == -ES_EDATA) es_run_keep_json(run); /* what is wrong with the corpus */
    es_prepare_report_free(&report);
    return rc;
}

static const struct es_job_option options[] = {
    {"out", "FILE", "store to write", NULL, false},
    {"left-out", "FILE", "table to write: the clips that are not in the store, and why", NULL, false},
    {"exclude-out", "DIR", "folder for <set>_exclude.tsv: what prepare.overlap_exclude left out", NULL,
     false},
    {"strict", NULL, "stop at the first problem (default: list all, leave those clips out)", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_prepare_spec = {
    .name = "prepare",
    .purpose = "pack the audio and labels of a corpus into one store",
    .synopsis = "--config data.yaml --out store.h5 [--strict] [--left-out FILE] [--exclude-out DIR]",
    .options = options,
    .needs_config = true,
    .long_running = true,
    .sections = "prepare dsp threads_per_rank",
    .example = "mpiexec -n 2 earshot prepare --config configs/toy/data-desed.yaml "
               "--out build/quickstart/stores/desed.h5",
    .run = es_job_prepare};
