/* earshot prepare: one corpus into one store. */
#include "earshot/prepare.h"

#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "jobs.h"

#define MAX_SOURCES 8
#define MAX_PATH 600

static const struct {
    const char *corpus,
        *name; /* name: of prepare.subsets and of the keys prepare.<name>_audio, _tsv, _durations */
    enum es_subset subset;
} sources[] = {{"desed", "strong", ES_SUBSET_STRONG_REAL},
               {"desed", "synth", ES_SUBSET_SYNTH},
               {"desed", "weak", ES_SUBSET_WEAK},
               {"desed", "unlabeled", ES_SUBSET_UNLABELED},
               {"desed", "validation", ES_SUBSET_VALIDATION},
               {"desed", "synth_validation", ES_SUBSET_SYNTH_VALIDATION},
               {"maestro", "maestro_train", ES_SUBSET_MAESTRO},
               {"maestro", "maestro_validation", ES_SUBSET_MAESTRO_TEST},
               {"as-strong", "as_train", ES_SUBSET_AS_TRAIN},
               {"as-strong", "as_eval", ES_SUBSET_AS_EVAL}};

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

static bool wanted(const struct es_config *cfg, const char *name) {
    int n;
    const char *const *list = es_config_strings(cfg, "prepare.subsets", &n);
    for (int i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0) return true;
    return n == 0;
}

static int check_subsets(const struct es_config *cfg, const char *corpus, struct es_err *err) {
    int n;
    const char *const *list = es_config_strings(cfg, "prepare.subsets", &n);
    for (int i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof sources / sizeof *sources; k++)
            known |= strcmp(sources[k].corpus, corpus) == 0 && strcmp(sources[k].name, list[i]) == 0;
        if (!known)
            return es_err_set(err, ES_EUSAGE, "%s: prepare.subsets: got \"%s\", which is no subset of %s",
                              es_config_where(cfg, "prepare.subsets"), list[i], corpus);
    }
    return 0;
}

int es_job_prepare(struct es_run *run, struct es_err *err) {
    const struct es_config *cfg = es_run_config(run);
    const char *corpus = es_config_string(cfg, "prepare.corpus");
    struct es_prepare_source source[MAX_SOURCES];
    char path[MAX_SOURCES][3][MAX_PATH], mids[MAX_PATH], classes[MAX_PATH];
    struct es_prepare_params p;
    uint64_t digest = 0;
    es_prepare_params_default(&p);
    ES_TRY(es_run_option_require(run, "out", err));
    ES_TRY(es_config_require(cfg, "prepare.root", err));
    ES_TRY(check_subsets(cfg, corpus, err));
    p.out = es_run_option(run, "out");
    p.source = source;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (strcmp(sources[i].corpus, corpus) != 0 || !wanted(cfg, sources[i].name)) continue;
        int k = p.n_sources++;
        source[k] =
            (struct es_prepare_source){.subset = sources[i].subset,
                                       .audio = path_of(cfg, sources[i].name, "audio", path[k][0]),
                                       .labels = path_of(cfg, sources[i].name, "tsv", path[k][1]),
                                       .durations = path_of(cfg, sources[i].name, "durations", path[k][2]),
                                       .skip_missing = es_config_bool(cfg, "prepare.skip_missing")};
    }
    if (strcmp(corpus, "as-strong") == 0) {
        p.mids = path_of(cfg, "", "mids", mids);
        p.classes = path_of(cfg, "", "classes", classes);
    }
    p.weak_fraction = es_config_double(cfg, "prepare.weak_split");
    p.maestro_fraction = es_config_double(cfg, "prepare.maestro_split");
    p.split_seed = (uint32_t)es_config_i64(cfg, "prepare.split_seed");
    p.overlap_exclude = es_config_bool(cfg, "prepare.overlap_exclude");
    if (es_run_check(run)) return es_prepare_check_all(es_run_comm(run), &p, NULL, err);
    p.left_out = es_run_option(run, "left-out");
    int rc = es_prepare_all(es_run_comm(run), &p, &digest, err);
    if (rc != 0) return rc;
    char hex[17];
    es_hash_hex(digest, hex);
    es_run_print(run, "%s: digest %s\n", p.out, hex);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "out", p.out);
    es_json_put_string(j, "digest", hex);
    es_json_end_object(j);
    return 0;
}

static const struct es_job_option options[] = {
    {"out", "FILE", "store to write", NULL, false},
    {"left-out", "FILE", "table to write: the clips that are not in the store, and why", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_prepare_spec = {
    .name = "prepare",
    .purpose = "pack the audio and labels of a corpus into one store",
    .synopsis = "--config data.yaml --out store.h5",
    .options = options,
    .needs_config = true,
    .long_running = true,
    .sections = "prepare",
    .example = "mpiexec -n 2 earshot prepare --config configs/toy/data-desed.yaml "
               "--out build/quickstart/stores/desed.h5",
    .run = es_job_prepare};
