/* earshot export: weights or a checkpoint for PyTorch. */
#include <string.h>

#include "earshot/weights.h"

#include "jobs.h"

int es_job_export(struct es_run *run, struct es_err *err) {
    struct es_weights_summary s;
    ES_TRY(es_run_option_require(run, "from", err));
    ES_TRY(es_run_option_require(run, "to", err));
    const char *from = es_run_option(run, "from"), *to = es_run_option(run, "to"), *dot = strrchr(to, '.');
    if (!dot || (strcmp(dot, ".pt") != 0 && strcmp(dot, ".safetensors") != 0))
        return es_err_set(err, ES_EUSAGE, "--to: got %s, want a name that ends in .pt or .safetensors", to);
    ES_TRY(es_weights_export_all(es_run_comm(run), from, to, es_run_option(run, "which"), es_run_check(run),
                                 &s, err));
    es_run_print(run, "%s: %d entries, %lld parameters\n", to, s.entries, (long long)s.parameters);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "to", to);
    es_json_put_int(j, "entries", s.entries);
    es_json_put_int(j, "parameters", s.parameters);
    es_json_end_object(j);
    return 0;
}

static const struct es_job_option options[] = {
    {"from", "FILE", "weights, or a checkpoint of a run", NULL, false},
    {"to", "FILE", "what to write: .pt (torch.load gives an OrderedDict of tensors) or .safetensors", NULL,
     false},
    {"which", "WHO", "of a checkpoint: student (default) or teacher", "student|teacher", false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_export_spec = {
    .name = "export",
    .purpose = "write weights that the public Python code loads, names and shapes as there",
    .synopsis = "--from FILE --to FILE.pt|FILE.safetensors [--which student|teacher]",
    .options = options,
    .example =
        "cd build/quickstart && earshot export --from runs/it1-stage2-atst/checkpoint-last.h5 --to sed.pt",
    .run = es_job_export};
