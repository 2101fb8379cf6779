/* earshot ensemble: mean of the logits of several prediction files; --fit learns its weights. */
#include "earshot/ensemble.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/stack.h"
#include "gram_keys.h"
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

enum { MAX_STORES = 8 };

static void print_scores(struct es_run *run, const struct es_stack_report *r) {
    struct es_json *j = es_run_json(run);
    es_json_key(j, "test");
    es_json_begin_object(j);
    es_run_print(run, "%-40s %10s %10s\n", "mpauc of test clips", "", "maestro");
    for (int i = 0; i < r->n; i++) {
        char text[2][16];
        for (int f = 0; f < 2; f++)
            if (isnan(r->score[i][f]))
                snprintf(text[f], sizeof text[f], "-");
            else
                snprintf(text[f], sizeof text[f], "%.4f", r->score[i][f]);
        es_run_print(run, "%-40s %10s %10s\n", r->name[i], text[0], text[1]);
        es_json_key(j, r->name[i]);
        es_json_begin_object(j);
        es_json_put_number(j, "mpauc", r->score[i][0]);
        es_json_put_number(j, "mpauc_maestro", r->score[i][1]);
        es_json_end_object(j);
    }
    es_json_end_object(j);
}

/* Learns weights: --out is a file of them. */
static int fit(struct es_run *run, const char *const *file, int n_files, const char *out,
               struct es_err *err) {
    struct es_store *store[MAX_STORES] = {0};
    struct es_stack *stack = NULL;
    struct es_stack_report report;
    int64_t context = -1;
    int rc = 0;
    struct es_stack_params p = {.n_files = n_files,
                                .file = file,
                                .n_stores = es_run_option_count(run, "fit"),
                                .store = store,
                                .gram = gram_keys(es_run_config(run)),
                                .check = es_run_check(run)};
    if (es_run_option(run, "weights") || p.n_stores > MAX_STORES)
        ES_GO(es_err_set(err, ES_EUSAGE, "--fit: want up to %d stores and no --weights", MAX_STORES));
    ES_GO(es_run_option_int(run, "context", 0, 32, &context, err));
    p.context = (int)context;
    for (int i = 0; i < p.n_stores; i++)
        ES_GO(es_store_open_all(&store[i], es_run_comm(run), es_run_option_at(run, "fit", i), err));
    ES_GO(es_stack_fit_all(&stack, &report, es_run_comm(run), &p, err));
    if (p.check) goto done;
    ES_GO(es_stack_save_all(stack, es_run_comm(run), out, file, es_store_classes(store[0]), err));
    es_run_print(run, "%s: weights of %d files from %lld clips\n", out, n_files, (long long)report.n_fit);
    es_json_begin_object(es_run_json(run));
    es_json_put_string(es_run_json(run), "out", out);
    es_json_put_int(es_run_json(run), "files", n_files);
    es_json_put_int(es_run_json(run), "fit_clips", report.n_fit);
    es_json_put_int(es_run_json(run), "test_clips", report.n_test);
    print_scores(run, &report);
    es_json_end_object(es_run_json(run));
done:
    es_stack_free(&stack);
    for (int i = 0; i < MAX_STORES; i++) es_store_close(&store[i]);
    return rc;
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
    if (es_run_option(run, "fit")) return fit(run, file, p.n_files, p.out, err);
    const char *weights = es_run_option(run, "weights");
    if (weights && strspn(weights, "0123456789.,eE+-") < strlen(weights)) {
        p.stack = weights;
    } else if (weights) {
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
    {"weights", "A,B,...", "weights instead of a plain mean; or a file that --fit wrote", NULL, false},
    {"fit", "STORE", "learn weights of each class on this store's validation clips; --out is their file",
     NULL, true},
    {"context", "N", "with --fit: also a ridge fit over all classes in N frames on either side", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_ensemble_spec = {
    .name = "ensemble",
    .purpose = "average the logits of several models: pseudo-labels",
    .synopsis = "--out E.h5 [--weights A,B,...|W.h5] P1.h5 P2.h5 ...; --fit STORE --out W.h5 P1.h5 P2.h5 ...",
    .options = options,
    .long_running = true,
    .sections = "linalg",
    .operands_min = 1,
    .operands_max = -1,
    .operands = "P.h5...",
    .example = "cd build/quickstart/pred && earshot ensemble --out E.h5 it1-stage2-atst-desed.h5 "
               "it1-stage2-atst.seed43-desed.h5",
    .run = es_job_ensemble};
