/* earshot demo: writes a demo corpus in the layout of the real ones. */
#include "earshot/demo.h"

#include <stdlib.h>
#include <unistd.h>

#include "jobs.h"

/* --sounds, $EARSHOT_SOUNDS, ../shared/data beside the checkout; NULL: everything is synthesised */
static const char *sounds_folder(const struct es_run *run) {
    const char *given = es_run_option(run, "sounds"), *env = getenv("EARSHOT_SOUNDS");
    if (given) return *given ? given : NULL;
    if (env && *env) return env;
    return access("../shared/data/manifest.tsv", R_OK) == 0 ? "../shared/data" : NULL;
}

int es_job_demo(struct es_run *run, struct es_err *err) {
    const struct es_config *cfg = es_run_config(run);
    struct es_demo_params p;
    es_demo_params_default(&p);
    struct {
        const char *key;
        int *value;
    } counts[] = {{"demo.clips_as", &p.clips_as},
                  {"demo.clips_as_eval", &p.clips_as_eval},
                  {"demo.clips_real", &p.clips_real},
                  {"demo.clips_synth", &p.clips_synth},
                  {"demo.clips_weak", &p.clips_weak},
                  {"demo.clips_unlabeled", &p.clips_unlabeled},
                  {"demo.clips_validation", &p.clips_validation},
                  {"demo.clips_synth_validation", &p.clips_synth_validation},
                  {"demo.maestro_train", &p.maestro_train},
                  {"demo.maestro_validation", &p.maestro_validation}};
    int64_t seed = es_config_i64(cfg, "run.seed"), clips = es_config_i64(cfg, "demo.clips");
    ES_TRY(es_run_option_require(run, "out", err));
    ES_TRY(es_run_option_int(run, "seed", 0, INT64_MAX, &seed, err));
    ES_TRY(es_run_option_int(run, "clips", 1, 100000, &clips, err));
    p.out = es_run_option(run, "out");
    p.sounds = sounds_folder(run);
    p.seed = (uint64_t)seed;
    p.clips = (int)clips;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        *counts[i].value = es_config_int(cfg, counts[i].key);
    p.maestro_seconds = es_config_double(cfg, "demo.maestro_seconds");
    p.snr_min_db = es_config_double(cfg, "demo.snr_min_db");
    p.snr_max_db = es_config_double(cfg, "demo.snr_max_db");
    p.test_fraction = es_config_double(cfg, "demo.test_fraction");
    p.pitch_semitones = es_config_double(cfg, "demo.pitch_semitones");
    if (es_run_check(run)) return 0;
    ES_TRY(es_demo_render_all(es_run_comm(run), &p, err));
    es_run_print(run, "demo corpus in %s, sounds from %s\n", p.out, p.sounds ? p.sounds : "the synthesiser");
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "out", p.out);
    es_json_put_string(j, "sounds", p.sounds);
    es_json_put_int(j, "seed", seed);
    es_json_end_object(j);
    return 0;
}

static const struct es_job_option options[] = {
    {"out", "DIR", "folder to write", NULL, false},
    {"sounds", "DIR",
     "folder with manifest.tsv and audio/; default $EARSHOT_SOUNDS, ../shared/data, else synthesis", NULL,
     false},
    {"seed", "N", "another corpus; default run.seed", NULL, false},
    {"clips", "N", "base size: strongly labelled clips; the other sets follow", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_demo_spec = {
    .name = "demo",
    .purpose = "write a demo corpus: AudioSet-strong-, DESED- and MAESTRO-like sets",
    .synopsis = "--out DIR [--sounds DIR] [--seed N] [--clips N]",
    .options = options,
    .long_running = true,
    .sections = "demo run",
    .example = "mpiexec -n 2 earshot demo --out build/quickstart/demo",
    .run = es_job_demo};
