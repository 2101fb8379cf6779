/* earshot evaluate: scores predictions, score tables or detections against a ground truth, one system or two. */
#include <math.h>
#include <string.h>

#include "earshot/evaluate_files.h"
#include "jobs.h"

static const struct es_job_option options[] = {
    {.name = "predictions", .arg = "FILE", .doc = "frame logits (HDF5, from predict or ensemble)"},
    {.name = "scores", .arg = "FILE|DIR", .doc = "frame scores: HDF5, or a folder of sed_scores_eval tables"},
    {.name = "detections",
     .arg = "FILE",
     .doc = "events: filename, onset, offset, event_label, perhaps score (TSV)"},
    {.name = "ground-truth", .arg = "FILE", .doc = "events (TSV); a column confidence makes it MAESTRO"},
    {.name = "durations", .arg = "FILE", .doc = "filename, duration (TSV); for MAESTRO of the recordings"},
    {.name = "metrics",
     .arg = "LIST",
     .doc = "psds1,psds2,psds1_op,psds2_op,mpauc,mauc,{collar,intersection,segment,clip}_f1,{event,segment}_"
            "error"},
    {.name = "postprocess",
     .arg = "NAME",
     .doc = "median: the class-wise filter of the recipe, or tuned in seconds; csebb: bounding boxes",
     .choices = "none|median|csebb"},
    {.name = "parameters", .arg = "FILE", .doc = "post-processing parameters (YAML)"},
    {.name = "tune-on", .arg = "P,G,D", .doc = "tune them on scores P, truth G, durations D"},
    {.name = "tune-by", .arg = "WHAT", .doc = "psds (default) or collar_f1", .choices = "psds|collar_f1"},
    {.name = "tune-grid",
     .arg = "NAME",
     .doc = "cSEBB settings to try: published (128) or package (18)",
     .choices = "published|package"},
    {.name = "tune-globally", .doc = "one setting for all classes"},
    {.name = "save-parameters", .arg = "FILE", .doc = "writes the tuned parameters (YAML)"},
    {.name = "roc", .arg = "FILE", .doc = "writes the PSD-ROC curves (TSV)"},
    {.name = "bootstrap", .arg = "N", .doc = "90% confidence intervals from N resampled sets of clips"},
    {.name = "compare", .doc = "two operands A B (any of the three kinds) side by side, paired bootstrap"},
    {.name = "classes", .arg = "FILE", .doc = "classes to score, one a line; default: those with an event"},
    {.name = "keep-empty",
     .doc = "keep clips without events; ground truth and scores must then list the same clips"},
    {.name = "allow-missing",
     .doc = "leave out and count what scores, truth or durations lack; join overlapping events"},
    {.name = "positive-only", .doc = "MAESTRO: only clips with a positive label, as the recipe's test step"},
    {0},
};

/* What to score: one of three options, or two operands. */
static int find_systems(struct es_evaluate_input *in, struct es_run *run, struct es_err *err) {
    static const char *const name[3] = {"predictions", "scores", "detections"};
    int n = 0;
    for (int i = 0; i < 3; i++) {
        if (!es_run_option(run, name[i])) continue;
        in->path[0] = es_run_option(run, name[i]);
        in->source[0] = (enum es_evaluate_source)(ES_EVALUATE_PREDICTIONS + i);
        n++;
    }
    if (es_run_flag(run, "compare")) {
        if (n > 0 || es_run_operands(run) != 2)
            return es_err_set(err, ES_EUSAGE,
                              "--compare: got %d operands%s, want two systems A B and nothing else",
                              es_run_operands(run), n > 0 ? " and an option that names scores" : "");
        for (int i = 0; i < 2; i++) in->path[i] = es_run_operand(run, i);
        return 0;
    }
    if (es_run_operands(run) > 0)
        return es_err_set(err, ES_EUSAGE, "evaluate: got '%s', want operands only with --compare",
                          es_run_operand(run, 0));
    if (n != 1)
        return es_err_set(err, ES_EUSAGE, "evaluate: want one of --predictions, --scores, --detections");
    return 0;
}

static bool is(struct es_run *run, const char *option, const char *value) {
    const char *v = es_run_option(run, option);
    return v && strcmp(v, value) == 0;
}

int es_job_evaluate(struct es_run *run, struct es_err *err) {
    struct es_evaluate_result *result = NULL;
    struct es_text table = {0};
    struct es_json *json = es_run_json(run);
    const struct es_csebb_grid package = es_csebb_grid_package();
    int64_t bootstrap = 0;
    int rc = 0;
    struct es_evaluate_input in = {.ground_truth = es_run_option(run, "ground-truth"),
                                   .durations = es_run_option(run, "durations"),
                                   .metrics = es_run_option(run, "metrics"),
                                   .classes = es_run_option(run, "classes"),
                                   .parameters = es_run_option(run, "parameters"),
                                   .tune_on = es_run_option(run, "tune-on"),
                                   .tune_by =
                                       is(run, "tune-by", "collar_f1") ? ES_TUNE_COLLAR_F1 : ES_TUNE_PSDS,
                                   .tune_globally = es_run_flag(run, "tune-globally"),
                                   .grid = is(run, "tune-grid", "package") ? &package : NULL,
                                   .save_parameters = es_run_option(run, "save-parameters"),
                                   .save_roc = es_run_option(run, "roc"),
                                   .keep_empty = es_run_flag(run, "keep-empty"),
                                   .allow_missing = es_run_flag(run, "allow-missing"),
                                   .positive_only = es_run_flag(run, "positive-only"),
                                   .check = es_run_check(run)};
    if (is(run, "postprocess", "csebb")) in.postprocess = ES_POST_CSEBB;
    if (is(run, "postprocess", "median"))
        in.postprocess = in.tune_on ? ES_POST_MEDIAN_SECONDS : ES_POST_MEDIAN_FRAMES;
    ES_GO(es_run_option_require(run, "ground-truth", err));
    ES_GO(es_run_option_require(run, "durations", err));
    ES_GO(es_run_option_int(run, "bootstrap", 1, 1000000, &bootstrap, err));
    in.bootstrap = (int)bootstrap;
    ES_GO(find_systems(&in, run, err));
    ES_GO(es_evaluate_files_all(&result, es_run_comm(run), &in, err));
    if (in.check || es_comm_rank(es_run_comm(run)) != 0) goto done;
    es_evaluate_print(result, &table);
    ES_GO(es_text_check(&table, err));
    if (!es_run_quiet(run)) es_run_print(run, "%s", table.s);
    es_json_begin_object(json);
    es_evaluate_write(result, json);
    es_json_end_object(json);
done:
    es_text_free(&table);
    es_evaluate_free(&result);
    return rc;
}

const struct es_job_spec es_job_evaluate_spec = {
    .name = "evaluate",
    .purpose = "scores predictions against a ground truth: PSDS, mpAUC, F1, error rates",
    .synopsis = "(--predictions FILE | --scores FILE|DIR | --detections FILE | --compare A B)\n"
                "           --ground-truth FILE --durations FILE [options]",
    .options = options,
    .operands_max = 2,
    .operands = "A B",
    .example = "earshot evaluate --predictions build/quickstart/pred/desed.h5 \\\n"
               "    --ground-truth build/quickstart/demo/desed/metadata/validation/validation.tsv \\\n"
               "    --durations build/quickstart/demo/desed/metadata/validation/validation_durations.tsv",
    .run = es_job_evaluate};
