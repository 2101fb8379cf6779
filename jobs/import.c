/* earshot import: a public checkpoint becomes a weights file. */
#include "earshot/weights.h"

#include "jobs.h"

int es_job_import(struct es_run *run, struct es_err *err) {
    struct es_weights_import_params p = {
        .config = es_run_config(run), .check = es_run_check(run), .json = es_run_json(run)};
    struct es_weights_summary s;
    static const char *const required[] = {"model", "from", "out"};
    for (int i = 0; i < 3; i++) ES_TRY(es_run_option_require(run, required[i], err));
    p.model = (enum es_import_model)es_import_model_from_name(es_run_option(run, "model"));
    p.from = es_run_option(run, "from");
    p.out = es_run_option(run, "out");
    p.which = es_run_option(run, "which") ? es_run_option(run, "which") : "student";
    int rc = es_weights_import_all(es_run_comm(run), &p, &s, err);
    if (s.reported) es_run_keep_json(run); /* the list of what does not fit */
    if (rc < 0) return rc;
    es_run_print(run, "%s: %s, %d entries, %lld parameters", p.out, es_run_option(run, "model"), s.entries,
                 (long long)s.parameters);
    if (s.dropped) es_run_print(run, " (%lld other entries of %s left out)", (long long)s.dropped, p.from);
    es_run_print(run, "\n");
    return 0;
}

static const struct es_job_option options[] = {
    {"model", "MODEL", "what the file holds: a transformer, or the whole detector (sed)",
     "atst|fpasst|beats|sed", false},
    {"from", "FILE", ".pt, .ckpt, .pth or .safetensors; nothing in it is executed", NULL, false},
    {"out", "FILE", "weights to write (HDF5): for model.init, predict, export", NULL, false},
    {"which", "WHO", "student (default) or teacher, where the file has both", "student|teacher", false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_import_spec = {
    .name = "import",
    .purpose = "turn a public checkpoint into weights; every entry must fit the model",
    .synopsis = "--model atst|fpasst|beats|sed --from FILE --out weights.h5 [--which student|teacher]",
    .options = options,
    .sections = "model crnn",
    .example = "earshot import --model atst --from atst_as.ckpt --out atst.h5",
    .run = es_job_import};
