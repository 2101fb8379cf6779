/* earshot probe: what a linear map reads from each layer of a trained network. */
#include "earshot/probe.h"

#include <math.h>
#include <stdio.h>

#include "earshot/mem.h"
#include "earshot/timer.h"
#include "gram_keys.h"
#include "jobs.h"

enum { MAX_INPUTS = 16 };

struct inputs {
    struct es_model *model[MAX_INPUTS];
    struct es_store *store[MAX_INPUTS];
};

static int open_inputs(struct es_run *run, struct inputs *in, struct es_probe_params *p, struct es_err *err) {
    const char *which = es_run_option(run, "which") ? es_run_option(run, "which") : "student";
    ES_TRY(es_run_option_require(run, "checkpoint", err));
    ES_TRY(es_run_option_require(run, "store", err));
    p->n_models = es_run_option_count(run, "checkpoint");
    p->n_stores = es_run_option_count(run, "store");
    if (p->n_models > MAX_INPUTS || p->n_stores > MAX_INPUTS)
        return es_err_set(err, ES_EUSAGE, "probe: got %d checkpoints and %d stores, want at most %d",
                          p->n_models, p->n_stores, MAX_INPUTS);
    for (int i = 0; i < p->n_models; i++)
        ES_TRY(es_model_open_all(&in->model[i], es_run_comm(run), es_run_option_at(run, "checkpoint", i),
                                 which, err));
    for (int i = 0; i < p->n_stores; i++)
        ES_TRY(es_store_open_all(&in->store[i], es_run_comm(run), es_run_option_at(run, "store", i), err));
    return 0;
}

static const char *number(double v, char text[16]) {
    if (isnan(v))
        snprintf(text, 16, "-");
    else
        snprintf(text, 16, "%.4f", v);
    return text;
}

static void print(struct es_run *run, const struct es_probe *p, const struct es_probe_params *pp) {
    char a[16], b[16], c[16], d[16];
    es_run_print(run, "%-10s %9s %9s %10s %11s %11s %11s %11s\n", "layer", "features", "lambda", "error",
                 "mpauc valid", "maestro", "mpauc test", "maestro");
    for (int i = 0; i < p->n_layers; i++) {
        const struct es_probe_layer *y = &p->layer[i];
        if (i == 0 || y->model != p->layer[i - 1].model) es_run_print(run, "%s\n", pp->model[y->model]->path);
        es_run_print(run, "%-10s %9lld %9.1e %10.6f %11s %11s %11s %11s\n", y->name,
                     (long long)y->n_features - 1, y->lambda, y->error,
                     number(y->score[ES_PROBE_VALIDATION][0], a), number(y->score[ES_PROBE_VALIDATION][1], b),
                     number(y->score[ES_PROBE_TEST][0], c), number(y->score[ES_PROBE_TEST][1], d));
    }
}

static void write_json(struct es_json *j, const struct es_probe *p, const struct es_probe_params *pp,
                       double seconds) {
    static const char *const part[] = {"fit", "validation", "test"};
    es_json_begin_object(j);
    es_json_put_string(j, "metric", "mpauc");
    es_json_put_int(j, "classes", p->n_classes);
    es_json_put_int(j, "rows", p->n_rows);
    es_json_put_string(j, "solver", p->on_grid ? "scalapack" : "lapack");
    es_json_put_int(j, "gram_bytes", p->gram_bytes);
    es_json_put_int(j, "peak_rss_bytes", es_mem_peak_rss());
    es_json_put_number(j, "seconds", seconds);
    es_json_key(j, "clips");
    es_json_begin_object(j);
    for (int i = 0; i < ES_PROBE_PARTS; i++) es_json_put_int(j, part[i], p->n_clips[i]);
    es_json_end_object(j);
    es_json_key(j, "layers");
    es_json_begin_array(j);
    for (int i = 0; i < p->n_layers; i++) {
        const struct es_probe_layer *y = &p->layer[i];
        es_json_begin_object(j);
        es_json_put_string(j, "model", pp->joint ? NULL : pp->model[y->model]->path);
        es_json_put_string(j, "layer", y->name);
        es_json_put_int(j, "features", y->n_features - 1);
        es_json_put_number(j, "lambda", y->lambda);
        es_json_put_number(j, "error", y->error);
        for (int k = ES_PROBE_VALIDATION; k < ES_PROBE_PARTS; k++) {
            es_json_key(j, part[k]);
            es_json_begin_object(j);
            es_json_put_number(j, "mpauc", y->score[k][0]);
            es_json_put_number(j, "mpauc_maestro", y->score[k][1]);
            es_json_end_object(j);
        }
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_end_object(j);
}

int es_job_probe(struct es_run *run, struct es_err *err) {
    const struct es_config *cfg = es_run_config(run);
    struct inputs in = {0};
    struct es_probe *probe = NULL;
    int rc = 0;
    const double begin_s = es_now_s();
    struct es_probe_params p = {.model = in.model,
                                .store = in.store,
                                .block = (int)es_config_int(cfg, "predict.block"),
                                .gram = gram_keys(cfg),
                                .layers = es_run_option(run, "layers"),
                                .joint = es_run_flag(run, "joint"),
                                .check = es_run_check(run)};
    p.lambda = es_config_doubles(cfg, "probe.lambdas", &p.n_lambdas);
    ES_GO(es_run_option_int(run, "clips", 1, 100000000, &p.max_clips, err));
    ES_GO(open_inputs(run, &in, &p, err));
    const char *head = es_run_option(run, "init-head");
    if (head && (p.n_models != 1 || p.joint))
        ES_GO(es_err_set(err, ES_EUSAGE, "--init-head: got %d checkpoints%s, want one and no --joint",
                         p.n_models, p.joint ? " and --joint" : ""));
    rc = es_probe_all(&probe, es_run_comm(run), &p, err);
    if (rc != 0 || p.check) goto done;
    if (head) ES_GO(es_probe_save_head_all(probe, es_run_comm(run), in.model[0], head, err));
    print(run, probe, &p);
    write_json(es_run_json(run), probe, &p, es_now_s() - begin_s);
done:
    es_probe_free(&probe);
    for (int i = 0; i < MAX_INPUTS; i++) {
        es_store_close(&in.store[i]);
        es_model_close(&in.model[i]);
    }
    return rc;
}

static const struct es_job_option options[] = {
    {"checkpoint", "FILE", "a trained model; more than once: compared, or joined with --joint", NULL, true},
    {"store", "FILE", "corpus store; more than once: DESED and MAESTRO together", NULL, true},
    {"which", "WHO", "student (default) or teacher", "student|teacher", false},
    {"layers", "A,B,...", "tokens, block.N, norm, head; all if not given", NULL, false},
    {"joint", NULL, "all layers of all models as one set of features", NULL, false},
    {"clips", "N", "at most so many clips of a set, evenly taken", NULL, false},
    {"init-head", "FILE", "write the fit of layer head as weights for model.init_head", NULL, false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_probe_spec = {
    .name = "probe",
    .purpose = "ridge probe of a network's frozen frames: a score for each layer, and a head to start from",
    .synopsis = "--checkpoint C --store S [--store S2] [--layers A,B] [--joint] [--init-head FILE]",
    .options = options,
    .long_running = true,
    .sections = "probe linalg predict threads_per_rank",
    .example = "cd build/quickstart && earshot probe --checkpoint runs/it1-stage1-atst/checkpoint-last.h5 "
               "--store stores/desed.h5",
    .run = es_job_probe};
