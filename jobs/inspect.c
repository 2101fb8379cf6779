/* earshot inspect: what a file of ours holds; its digest; the plan of a training step. */
#include <stdio.h>
#include <string.h>

#include "earshot/ckpt.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/store.h"
#include "inspect_plan.h"
#include "overlap_rows.h"
#include "jobs.h"

static int print_digest(struct es_run *run, const char *path, const char *kind, struct es_err *err) {
    uint64_t v = 0;
    char hex[17];
    if (strcmp(kind, "checkpoint") == 0)
        ES_TRY(es_ckpt_digest_all(es_run_comm(run), path, &v, err));
    else
        ES_TRY(es_h5_digest_all(es_run_comm(run), path, &v, err));
    es_hash_hex(v, hex);
    es_run_print(run, "%s\n", hex);
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_string(j, "digest", hex);
    es_json_end_object(j);
    return 0;
}

static int print_checkpoint(struct es_run *run, const char *path, struct es_err *err) {
    struct es_ckpt_meta m;
    ES_TRY(es_ckpt_read_meta(path, &m, NULL, err));
    es_run_print(run,
                 "step %lld, seed %llu, best objective %g, commit %s\nparameters_digest "
                 "%016llx\nconfig_digest %016llx\nstore_digest %016llx\n",
                 (long long)m.step, (unsigned long long)m.seed, m.best_metric, m.commit,
                 (unsigned long long)m.parameters_digest, (unsigned long long)m.config_digest,
                 (unsigned long long)m.store_digest);
    return 0;
}

static int print_store(struct es_run *run, const char *path, struct es_err *err) {
    struct es_store *s = NULL;
    ES_TRY(es_store_open(&s, path, err));
    es_run_print(run, "%lld clips, %d classes, digest %016llx\n", (long long)es_store_n_clips(s),
                 es_store_n_classes(s), (unsigned long long)es_store_digest(s));
    for (int k = 0; k < ES_N_SUBSETS; k++)
        if (es_store_count(s, (enum es_subset)k, -1) > 0)
            es_run_print(run, "  %-18s %8lld clips for training, %lld for validation\n",
                         es_subset_name((enum es_subset)k),
                         (long long)es_store_count(s, (enum es_subset)k, 0),
                         (long long)es_store_count(s, (enum es_subset)k, 1));
    es_store_close(&s);
    return 0;
}

static int print_datasets(struct es_run *run, const struct es_h5 *f, struct es_err *err) {
    struct es_h5_names names = {0};
    int rc = es_h5_list(f, "/", true, &names, err);
    for (int64_t i = 0; rc == 0 && i < names.n; i++) {
        struct es_h5_info info;
        char shape[128] = "";
        rc = es_h5_info(f, names.name[i], &info, err);
        for (int d = 0; rc == 0 && d < info.ndim; d++) {
            size_t used = strlen(shape);
            snprintf(shape + used, sizeof shape - used, "%s%lld", d ? "," : "", (long long)info.dim[d]);
        }
        if (rc == 0)
            es_run_print(run, "  /%-70s %-6s [%s]\n", names.name[i], es_h5_type_name(info.type), shape);
    }
    es_h5_names_free(&names);
    return rc;
}

/* Sets of the stores that share clips. Every rank looks. */
static int print_overlaps(struct es_run *run, struct es_err *err) {
    int n = es_run_operands(run), rc = 0;
    struct es_overlaps o;
    struct es_store **s = es_alloc((size_t)n, sizeof *s, err);
    ES_GO(s ? 0 : -ES_EIO);
    for (int i = 0; i < n; i++) ES_GO(es_store_open(&s[i], es_run_operand(run, i), err));
    if (es_run_check(run)) goto done;
    ES_GO(es_overlap_of_stores(&o, s, n, err));
    overlap_print(run, &o);
    if (o.n == 0) es_run_print(run, "no overlap\n");
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    overlap_write(j, &o);
    es_json_end_object(j);
done:
    for (int i = n - 1; s && i >= 0; i--) es_store_close(&s[i]);
    es_free(&s);
    return es_err_agree_all(es_run_comm(run), rc, err);
}

int es_job_inspect(struct es_run *run, struct es_err *err) {
    struct es_h5 *f = NULL;
    char kind[64] = "HDF5";
    int64_t step = -1;
    ES_TRY(es_run_option_int(run, "plan", 0, INT32_MAX, &step, err));
    if (es_run_flag(run, "overlap") && step < 0 && es_run_operands(run) > 0) return print_overlaps(run, err);
    if (es_run_operands(run) > 1)
        return es_err_set(err, ES_EUSAGE, "%.80s: got an operand, want one FILE; several go with --overlap",
                          es_run_operand(run, 1));
    if (es_run_operands(run) != (step < 0))
        return es_err_set(err, ES_EUSAGE, step < 0 ? "no file given" : "--plan: takes no file, but --config");
    if (step >= 0) return inspect_plan_all(run, step, err);
    const char *path = es_run_operand(run, 0);
    int rc = es_h5_open(&f, path, NULL, 0, err);
    if (rc == 0 && es_h5_attr_has(f, "/", "earshot_kind"))
        rc = es_h5_attr_get_text(f, "/", "earshot_kind", kind, sizeof kind, err);
    ES_GO(es_err_agree_all(es_run_comm(run), rc, err));
    if (es_run_check(run)) goto done;
    if (es_run_flag(run, "digest")) {
        es_h5_close(&f);
        rc = print_digest(run, path, kind, err);
        goto done;
    }
    if (es_comm_rank(es_run_comm(run)) == 0) {
        es_run_print(run, "%s: %s\n", path, kind);
        if (strcmp(kind, "checkpoint") == 0) rc = print_checkpoint(run, path, err);
        if (strcmp(kind, "store") == 0) rc = print_store(run, path, err);
        if (rc == 0) rc = print_datasets(run, f, err);
    }
done:
    es_h5_close(&f);
    return rc;
}

static const struct es_job_option options[] = {
    {"digest", NULL, "print 16 hex digits of the content and nothing else", NULL, false},
    {"overlap", NULL, "clips that several sets of these stores hold, by file name and YouTube id", NULL,
     false},
    {"plan", "STEP", "what this step of the training run of --config takes: clips, partners, shares", NULL,
     false},
    {NULL, NULL, NULL, NULL, false}};

const struct es_job_spec es_job_inspect_spec = {
    .name = "inspect",
    .purpose =
        "show what a store, checkpoint, predictions or metrics file holds, or the plan of a training step",
    .synopsis = "FILE [--digest] | --overlap STORE... | --plan STEP --config run.yaml",
    .options = options,
    .operands_min = 0,
    .operands_max = -1,
    .operands = "FILE...",
    .sections = "data train augment pretrain",
    .example = "earshot inspect --digest build/quickstart/stores/desed.h5",
    .run = es_job_inspect};
