/* earshot ensemble: mean of the logits of several prediction files. */
#include "earshot/ensemble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs.h"

#define MAX_FILES 64

/* "a,b,c": one number a file. */
static int read_weights(const char *text, int n_files, double *weight, struct es_err *err) {
    for (int i = 0; i < n_files; i++) {
        char *end;
        weight[i] = strtod(text, &end);
        bool last = i + 1 == n_files;
        if (end == text || !(weight[i] >= 0) || *end != (last ? 0 : ','))
            return es_err_set(err, ES_EUSAGE,
                              "--weights: got \"%s\", want %d numbers >= 0 separated by commas", text,
                              n_files);
        text = end + 1;
    }
    return 0;
}

int es_job_ensemble(struct es_run *run, struct es_err *err) {
    const char *file[MAX_FILES];
    double weight[MAX_FILES];
    struct es_ensemble_params p = {.file = file, .n_files = es_run_operands(run), .check = es_run_check(run)};
    int64_t n = 0;
    ES_TRY(es_run_option_require(run, "out", err));
    p.out = es_run_option(run, "out");
    if (p.n_files > MAX_FILES)
        return es_err_set(err, ES_EUSAGE, "ensemble: got %d files, want at most %d", p.n_files, MAX_FILES);
    for (int i = 0; i < p.n_files; i++) file[i] = es_run_operand(run, i);
    if (es_run_option(run, "weights")) {
        ES_TRY(read_weights(es_run_option(run, "weights"), p.n_files, weight, err));
        p.weight = weight;
    }
    ES_TRY(es_ensemble_all(es_run_comm(run), &p, &n, err));
    es_run_print(run, "%s: mean of %d files, %lld clips\n", p.out, p.n_files, (long long)n);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "out", p.out);
    es_json_put_int(j, "files", p.n_files);
    es_json_put_int(j, "clips", n);
    es_json_end_object(j);
    return 0;
}

static const struct es_job_option options[] = {
    {"out", "FILE", "predictions to write", NULL, false},
    {"weights", "A,B,...", "weights instead of a plain mean", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_ensemble_spec = {
    .name = "ensemble",
    .purpose = "average the logits of several models: pseudo-labels",
    .synopsis = "--out E.h5 [--weights A,B,...] P1.h5 P2.h5 ...",
    .options = options,
    .long_running = true,
    .operands_min = 1,
    .operands_max = -1,
    .operands = "P.h5...",
    .example = "cd build/quickstart/pred && earshot ensemble --out E.h5 it1-stage2-atst-desed.h5 "
               "it1-stage2-atst.seed43-desed.h5",
    .run = es_job_ensemble};
