/* earshot train: one training phase; what it does stands in the configuration. */
#include "earshot/train.h"

#include <math.h>

#include "earshot/hash.h"
#include "train_check.h"

static void put_test(struct es_run *run, const struct es_validation test[2]) {
    static const char *const who[2] = {"student", "teacher"};
    struct es_json *j = es_run_json(run);
    es_json_key(j, "test");
    es_json_begin_object(j);
    for (int w = 0; w < 2; w++) {
        if (test[w].n_clips == 0) continue;
        es_run_print(run, "test %s: psds1 %.4f, mpauc %.4f, rank score %.4f\n", who[w],
                     es_validation_get(&test[w], "psds1"), es_validation_get(&test[w], "mpauc"),
                     test[w].objective);
        es_json_key(j, who[w]);
        es_json_begin_object(j);
        es_validation_write(&test[w], j);
        es_json_end_object(j);
    }
    es_json_end_object(j);
}

int es_job_train(struct es_run *run, struct es_err *err) {
    struct es_train_options o = {.resume = es_run_option(run, "resume"),
                                 .init_only = es_run_flag(run, "init-only"),
                                 .strict = es_run_flag(run, "strict")};
    struct es_train_summary s = {0};
    if (es_run_check(run)) return train_check_all(run, err);
    if (es_run_flag(run, "set-sizes") || es_run_flag(run, "gflops"))
        return es_err_set(err, ES_EUSAGE, "--set-sizes, --gflops: want --check with them");
    int rc = es_train_all(es_run_comm(run), es_run_config(run), &o, &s, err);
    if (rc < 0) return rc;
    char digest[17];
    es_hash_hex(s.digest, digest);
    es_run_print(run, "step %lld of %lld, ", (long long)s.step, (long long)s.total_steps);
    if (!isnan(s.loss)) es_run_print(run, "loss %.6g, ", s.loss); /* no step was left to do */
    es_run_print(run, "parameters_digest %s\n", digest);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_int(j, "step", s.step);
    es_json_put_int(j, "total_steps", s.total_steps);
    es_json_put_bool(j, "stopped", rc == ES_STOPPED);
    es_json_put_int(j, "parameters", s.parameters);
    es_json_put_number(j, "loss", s.loss);
    es_json_put_number(j, "psds1", s.psds1);
    es_json_put_number(j, "mpauc", s.mpauc);
    es_json_put_number(j, "objective", s.objective);
    es_json_put_number(j, "best_objective", s.best_objective);
    es_json_put_number(j, "wall_s", s.wall_s);
    es_json_put_number(j, "clips_per_s", s.clips_per_s);
    es_json_put_string(j, "parameters_digest", digest);
    if (s.test[0].n_clips > 0) put_test(run, s.test);
    es_json_end_object(j);
    return rc;
}

static const struct es_job_option options[] = {
    {"resume", "WHAT",
     "auto (default): from run.dir's last checkpoint when there is one; never; or a checkpoint", NULL, false},
    {"init-only", NULL, "write the initial checkpoint (step 0) and stop: an untrained model", NULL, false},
    {"strict", NULL,
     "a clip that trains and is scored (two sets of the stores hold it) is an error, not a warning", NULL,
     false},
    {"set-sizes", "FILE",
     "with --check: clips of each set, YAML (configs/data/published-sizes.yaml); no store is read", NULL,
     false},
    {"gflops", "G", "with --check: GFLOP/s of matrix products a rank sustains (bench step); default 100",
     NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_train_spec = {
    .name = "train",
    .purpose = "train one phase: pre-training, stage 1 or stage 2",
    .synopsis = "--config run.yaml [--resume auto|never|FILE] [--strict] [--set key=value]... [--check "
                "[--set-sizes FILE]]",
    .options = options,
    .needs_config = true,
    .long_running = true,
    .sections =
        "phase threads_per_rank run model frontend crnn pretrain data train optimizer schedule loss ema "
        "augment quirks metrics checkpoint watchdog",
    .example = "mpiexec -n 2 earshot train --config configs/toy/pretrain-atst.yaml",
    .run = es_job_train};
