/* earshot predict: frame logits of the clips of a store, written collectively, resumed when interrupted. */
#include "earshot/predict.h"

#include <string.h>

#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/model.h"
#include "earshot/stage.h"
#include "jobs.h"

int es_job_predict(struct es_run *run, struct es_err *err) {
    const struct es_comm *c = es_run_comm(run);
    struct es_model *m = NULL;
    struct es_store *s = NULL;
    struct es_forward *f = NULL;
    int64_t *ids = NULL, n = 0;
    int rc = 0, subset = -1;
    const char *which = es_run_option(run, "which") ? es_run_option(run, "which") : "student",
               *name = es_run_option(run, "subset");
    ES_GO(es_run_option_require(run, "checkpoint", err));
    ES_GO(es_run_option_require(run, "store", err));
    ES_GO(es_run_option_require(run, "out", err));
    if (name && (subset = es_subset_from_name(name)) < 0) {
        rc = es_err_set(
            err, ES_EUSAGE,
            "--subset: got %s, want a subset of a store: maestro, strong_real, synth, weak, unlabeled, "
            "validation, synth_validation, maestro_test, as_train, as_eval or public",
            name);
        goto done;
    }
    ES_GO(es_model_open_all(&m, c, es_run_option(run, "checkpoint"), which, err));
    const char *stage_dir = es_run_check(run) ? NULL : es_config_string(es_run_config(run), "data.stage_dir");
    ES_GO(es_stage_open_all(&s, c, es_run_option(run, "store"), stage_dir, err));
    rc = es_predict_list(s, subset, -1, &ids, &n, err);
    if (rc == 0 && n == 0)
        rc = es_err_set(err, ES_EDATA, "%s: no clips%s%s", es_store_path(s), name ? " of subset " : "",
                        name ? name : "");
    struct es_frontend_params mel = es_model_frontend(m->config);
    if (rc == 0)
        rc = es_forward_new(&f, m->net, m->params, es_config_int(es_run_config(run), "predict.block"), &mel,
                            err);
    if (rc == 0 && es_forward_classes(f) != es_store_n_classes(s))
        rc = es_err_set(err, ES_EDATA,
                        "%s: %d classes, the model has %d; use a store of the corpus it was trained on",
                        es_store_path(s), es_store_n_classes(s), es_forward_classes(f));
    ES_GO(es_err_agree_all(c, rc, err));
    if (es_run_check(run)) goto done;
    struct es_predict_file file = {.out = es_run_option(run, "out"),
                                   .model_digest = m->digest,
                                   .config_digest = es_config_digest(m->config),
                                   .class_name = es_store_classes(s),
                                   .which = which};
    rc = es_predict_file_all(c, f, s, ids, n, &file, err);
    if (rc != 0) goto done;
    es_run_print(run, "%s: %lld clips, %d frames, %d classes\n", file.out, (long long)n, es_forward_frames(f),
                 es_forward_classes(f));
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "out", file.out);
    es_json_put_int(j, "clips", n);
    es_json_put_int(j, "frames", es_forward_frames(f));
    es_json_put_int(j, "classes", es_forward_classes(f));
    es_json_end_object(j);
done:
    es_free(&ids);
    es_forward_free(&f);
    es_store_close(&s);
    es_model_close(&m);
    return rc;
}

static const struct es_job_option options[] = {
    {"checkpoint", "FILE", "the trained model", NULL, false},
    {"store", "FILE", "corpus store", NULL, false},
    {"out", "FILE", "predictions to write", NULL, false},
    {"which", "WHO", "student (default) or teacher", "student|teacher", false},
    {"subset", "NAME", "only clips of this subset of the store", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_predict_spec = {
    .name = "predict",
    .purpose = "write frame logits (predictions, pseudo-labels) for the clips of a store",
    .synopsis = "--checkpoint C --store S --out P.h5 [--which student|teacher] [--subset NAME]",
    .options = options,
    .long_running = true,
    .sections = "predict data.stage_dir threads_per_rank",
    .example = "cd build/quickstart && earshot predict --checkpoint runs/it1-stage1-atst/checkpoint-last.h5 "
               "--store stores/desed.h5 --out P.h5",
    .run = es_job_predict};
