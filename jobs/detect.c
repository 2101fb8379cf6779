/* earshot detect: events in any audio files with a trained model. */
#include "earshot/detect.h"

#include <string.h>
#include <sys/stat.h>

#include "earshot/events.h"
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/model.h"
#include "earshot/store.h"
#include "jobs.h"

/* Of a file with one a line. */
static int classes_of_file(struct es_names *names, const char *path, struct es_err *err) {
    static const char *const columns[] = {"class"};
    struct es_tsv *t = NULL;
    int rc = es_tsv_open(&t, path, columns, 1, ES_TSV_NO_HEADER, err);
    for (int64_t i = 0; rc == 0 && i < es_tsv_rows(t); i++) {
        const int64_t at = es_names_add(names, es_tsv_text(t, i, 0), err);
        if (at < i) rc = at < 0 ? (int)at : es_tsv_wrong(t, i, 0, "every class once", err);
    }
    es_tsv_close(&t);
    return rc;
}

/* Of the first of the stores that the model was trained on, where it still is. */
static int classes_of_store(struct es_names *names, const struct es_model *m, struct es_err *err) {
    int n = 0, rc = 0;
    const char *const *stores = es_config_strings(m->config, "data.stores", &n);
    struct es_store *s = NULL;
    if (n == 0 || es_store_open(&s, stores[0], NULL) < 0) return 0;
    for (int k = 0; k < es_store_n_classes(s) && rc == 0; k++)
        if (es_names_add(names, es_store_classes(s)[k], err) < 0) rc = -ES_EIO;
    es_store_close(&s);
    return rc;
}

/* Names of the model's classes: those of --classes, else of the checkpoint, the recipe's 27, or those of its store. */
static int read_classes(struct es_names **names, const char *path, const struct es_model *m, int K,
                        struct es_err *err) {
    const int64_t n = path ? 0 : m->classes.n > 0 ? m->classes.n : K == ES_N_CLASSES ? K : 0;
    int rc = es_names_new(names, err);
    if (rc == 0 && path) rc = classes_of_file(*names, path, err);
    for (int64_t i = 0; rc == 0 && i < n; i++) {
        const char *name = m->classes.n > 0 ? m->classes.name[i] : es_classes[i].name;
        if (es_names_add(*names, name, err) < 0) rc = -ES_EIO;
    }
    if (rc == 0 && !path && n == 0) rc = classes_of_store(*names, m, err);
    if (rc == 0 && es_names_count(*names) != K)
        rc = es_err_set(err, path ? ES_EDATA : ES_EUSAGE,
                        "%s: got the names of %lld classes, the model has %d; want --classes with all of "
                        "them, one a line",
                        path ? path : m->path, (long long)es_names_count(*names), K);
    return rc;
}

static int read_postprocess(struct es_postprocess **p, struct es_run *run, const char *const *names, int K,
                            struct es_err *err) {
    const char *kind = es_run_option(run, "postprocess"), *file = es_run_option(run, "parameters"), *id = "";
    struct es_scores *like = NULL;
    if (file) return es_postprocess_load(p, file, err);
    if (!kind || strcmp(kind, "none") == 0) return 0;
    ES_TRY(es_scores_new(&like, 1, &id, K, names, false, "detect", err));
    const int rc = es_postprocess_default(
        p, strcmp(kind, "csebb") == 0 ? ES_POST_CSEBB : ES_POST_MEDIAN_FRAMES, like, err);
    es_scores_free(&like);
    return rc;
}

static void report(struct es_run *run, const struct es_truth *events) {
    struct es_json *j = es_run_json(run);
    es_json_begin_object(j);
    es_json_put_int(j, "files", es_names_count(events->clips));
    es_json_key(j, "events");
    es_json_begin_array(j);
    for (int64_t i = 0; i < events->n_events; i++) {
        const struct es_truth_event *e = &events->events[i];
        es_json_begin_object(j);
        es_json_put_string(j, "filename", es_names_get(events->clips, e->clip));
        es_json_put_number(j, "onset", e->onset_s);
        es_json_put_number(j, "offset", e->offset_s);
        es_json_put_string(j, "event_label", es_names_get(events->labels, e->label));
        es_json_put_number(j, "score", e->confidence);
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_end_object(j);
    if (es_run_option(run, "out")) {
        es_run_print(run, "%s: %lld events in %lld files\n", es_run_option(run, "out"),
                     (long long)events->n_events, (long long)es_names_count(events->clips));
        return;
    }
    for (int64_t i = 0; i < events->n_events; i++) {
        const struct es_truth_event *e = &events->events[i];
        es_run_print(run, "%s\t%.3f\t%.3f\t%s\t%.3f\n", es_names_get(events->clips, e->clip), e->onset_s,
                     e->offset_s, es_names_get(events->labels, e->label), e->confidence);
    }
}

int es_job_detect(struct es_run *run, struct es_err *err) {
    const struct es_comm *c = es_run_comm(run);
    const char *which = es_run_option(run, "which") ? es_run_option(run, "which") : "student",
               *out = es_run_option(run, "out"), *dir = es_run_option(run, "scores");
    struct es_detect_params p = {
        .hop_s = 5, .threshold = 0.5, .scores_dir = dir, .n_files = es_run_operands(run)};
    struct es_model *m = NULL;
    struct es_forward *f = NULL;
    struct es_names *names = NULL;
    struct es_postprocess *post = NULL;
    struct es_truth *events = NULL;
    const char **class_name = NULL, **file = NULL;
    int rc = 0, block = es_config_int(es_run_config(run), "predict.block");
    struct stat st;
    ES_GO(es_run_option_require(run, "checkpoint", err));
    ES_GO(es_run_option_double(run, "hop", 0.01, 10, &p.hop_s, err));
    ES_GO(es_run_option_double(run, "threshold", 0, 1, &p.threshold, err));
    ES_GO(es_model_open_all(&m, c, es_run_option(run, "checkpoint"), which, err));
    const struct es_frontend_params mel = es_model_frontend(m->config);
    rc = es_forward_new(&f, m->net, m->params, block, &mel, err);
    const int K = rc == 0 ? es_forward_classes(f) : 0;
    if (rc == 0) rc = read_classes(&names, es_run_option(run, "classes"), m, K, err);
    class_name = es_alloc((size_t)K, sizeof *class_name, rc == 0 ? err : NULL);
    file = es_alloc((size_t)p.n_files, sizeof *file, rc == 0 ? err : NULL);
    if (rc == 0 && (!class_name || !file)) rc = -ES_EIO;
    for (int k = 0; k < K && rc == 0; k++) class_name[k] = es_names_get(names, k);
    for (int i = 0; i < p.n_files && rc == 0; i++) file[i] = es_run_operand(run, i);
    if (rc == 0) rc = read_postprocess(&post, run, class_name, K, err);
    if (rc == 0 && dir && es_comm_rank(c) == 0 && mkdir(dir, 0777) != 0 &&
        (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)))
        rc = es_err_set(err, ES_EIO, "%s: cannot make this folder", dir);
    ES_GO(es_err_agree_all(c, rc, err));
    p.class_name = class_name;
    p.file = file;
    p.postprocess = post;
    if (es_run_check(run)) goto done;
    rc = es_detect_all(&events, c, f, &p, err);
    if (rc != 0 || es_comm_rank(c) != 0) goto done;
    if (out) ES_GO(es_events_save(events, "", out, err));
    report(run, events);
done:
    es_truth_free(&events);
    es_postprocess_free(&post);
    es_free(&file);
    es_free(&class_name);
    es_names_free(&names);
    es_forward_free(&f);
    es_model_close(&m);
    return rc;
}

static const struct es_job_option options[] = {
    {.name = "checkpoint", .arg = "FILE", .doc = "the trained model"},
    {.name = "out",
     .arg = "FILE",
     .doc = "events to write (TSV: filename, onset, offset, event_label, score)"},
    {.name = "scores",
     .arg = "DIR",
     .doc = "frame scores to write, a table per file, before post-processing"},
    {.name = "threshold", .arg = "X", .doc = "score above which something is an event (default 0.5)"},
    {.name = "postprocess",
     .arg = "NAME",
     .doc = "median: the recipe's filter; csebb: bounding boxes",
     .choices = "none|median|csebb"},
    {.name = "parameters",
     .arg = "FILE",
     .doc = "post-processing parameters and thresholds (YAML, from evaluate)"},
    {.name = "classes",
     .arg = "FILE",
     .doc = "names of the model's classes, one a line; default: those of the checkpoint"},
    {.name = "hop", .arg = "S", .doc = "seconds between windows of 10 s (default 5)"},
    {.name = "which", .arg = "WHO", .doc = "student (default) or teacher", .choices = "student|teacher"},
    {0}};

const struct es_job_spec es_job_detect_spec = {
    .name = "detect",
    .purpose = "finds events in audio files of any length and rate",
    .synopsis = "--checkpoint FILE AUDIO... [--out events.tsv] [--scores DIR] [options]",
    .options = options,
    .long_running = true,
    .operands_min = 1,
    .operands_max = -1,
    .operands = "AUDIO...",
    .sections = "predict threads_per_rank",
    .example =
        "cd build/quickstart && earshot detect --checkpoint runs/it1-stage1-atst/checkpoint-last.h5 \\\n"
        "    --out events.tsv demo/desed/audio/validation/validation/*.wav",
    .run = es_job_detect};
