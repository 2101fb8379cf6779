/* earshot evaluate: scores one set of predictions, score tables or detections against a ground truth. */
#include "earshot/evaluate.h"
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
     .doc = "of psds1,psds2,mpauc,mauc,collar_f1,intersection_f1,segment_f1"},
    {.name = "postprocess",
     .arg = "NAME",
     .doc = "median: the class-wise filter of the recipe",
     .choices = "none|median"},
    {.name = "classes", .arg = "FILE", .doc = "classes to score, one a line; default: those with an event"},
    {.name = "keep-empty",
     .doc = "keep clips without events; ground truth and scores must then list the same clips"},
    {.name = "positive-only", .doc = "MAESTRO: only clips with a positive label, as the recipe's test step"},
    {0},
};

int es_job_evaluate(struct es_run *run, struct es_err *err) {
    const char *postprocess = es_run_option(run, "postprocess");
    struct es_evaluation *result = NULL;
    struct es_text table = {0};
    struct es_json *json = es_run_json(run);
    ES_TRY(es_run_option_require(run, "ground-truth", err));
    ES_TRY(es_run_option_require(run, "durations", err));
    if (es_comm_rank(es_run_comm(run)) != 0) return 0; /* the others wait in es_run_close_all */
    const struct es_evaluate_input input = {.predictions = es_run_option(run, "predictions"),
                                            .scores = es_run_option(run, "scores"),
                                            .detections = es_run_option(run, "detections"),
                                            .ground_truth = es_run_option(run, "ground-truth"),
                                            .durations = es_run_option(run, "durations"),
                                            .metrics = es_run_option(run, "metrics"),
                                            .classes = es_run_option(run, "classes"),
                                            .median = postprocess && postprocess[0] == 'm',
                                            .keep_empty = es_run_flag(run, "keep-empty"),
                                            .positive_only = es_run_flag(run, "positive-only"),
                                            .check = es_run_check(run)};
    int rc = es_evaluate_files(&result, &input, err);
    if (rc < 0 || input.check) goto done;
    es_evaluation_print(result, &table);
    ES_GO(es_text_check(&table, err));
    if (!es_run_quiet(run)) es_run_print(run, "%s", table.s);
    es_json_begin_object(json);
    es_evaluation_write(result, json);
    es_json_end_object(json);
done:
    es_text_free(&table);
    es_evaluation_free(&result);
    return rc;
}

const struct es_job_spec es_job_evaluate_spec = {
    .name = "evaluate",
    .purpose = "scores predictions against a ground truth: PSDS, mpAUC, F1",
    .synopsis = "(--predictions FILE | --scores FILE|DIR | --detections FILE) --ground-truth FILE "
                "--durations FILE [options]",
    .options = options,
    .example = "earshot evaluate --predictions build/quickstart/pred/desed.h5 \\\n"
               "    --ground-truth build/quickstart/demo/desed/metadata/validation/validation.tsv \\\n"
               "    --durations build/quickstart/demo/desed/metadata/validation/validation_durations.tsv",
    .run = es_job_evaluate};
