/* Evaluation: values of a JSON file against what the program computes, value by value.
 *
 *   struct ev e;
 *   if (ev_open(&e, run, "01_real_tsv_folder", "expected.json")) {
 *       ev_blocks(&e, set, e.root);
 *       ev_put(&e, js_get(e.root, "num_clips"), EV_COUNT, n);
 *       ev_close(&e);
 *   }
 *
 * A quantity is a list or an object of plain values: one line of output. ev_close reports every quantity, and as skipped whatever
 * was neither put nor called an input (ev_input), with the reason of the nearest ev_skip above it.
 */
#ifndef EARSHOT_GOLDEN_RUNNER_EVAL_H
#define EARSHOT_GOLDEN_RUNNER_EVAL_H

#include "earshot/evaluate.h"
#include "earshot/psds.h"
#include "golden_json.h"
#include "runner.h"

/* Tolerances: golden/evaluation/README.md. */
enum ev_kind {
    EV_VALUE,       /* ratios, areas, confidences */
    EV_COUNT,       /* numbers of things, choices */
    EV_EFPR,        /* rates of curves */
    EV_LEVEL,       /* thresholds */
    EV_TIME,        /* of boxes */
    EV_FILTER_TIME, /* of the continuous median filter */
    EV_EXACT,       /* filtered scores */
    EV_NEAR,        /* filtered scores that came through text */
    EV_N_KINDS
};

struct ev_quantity {
    struct js *where; /* the list or object, or a value of its own */
    enum ev_kind kind;
    int64_t n;
    double max_abs, d2, r2;
    bool pass;
};

struct ev {
    struct rn *run;
    char file[300], folder[1000]; /* file: relative to the run's directory */
    struct js_doc doc;
    struct js *root;
    struct ev_quantity *q;
    int n, cap;
};

/* folder: inside the run's directory. False (and one skip) when the file is not there. */
bool ev_open(struct ev *e, struct rn *run, const char *folder, const char *file);
void ev_close(struct ev *e);
/* Path of another file of the folder; unpacked into a temporary file when it ends in .gz (removed at the end of the run). */
const char *ev_path(struct rn *run, const char *folder, const char *file, char path[1200]);
void ev_put(struct ev *e, struct js *v, enum ev_kind kind, double got); /* v NULL: nothing */
/* A list of numbers, and their number. */
void ev_put_list(struct ev *e, struct js *list, enum ev_kind kind, const double *got, int64_t n);
void ev_put_same(struct ev *e, struct js *v, bool same); /* everything below v as one comparison */
void ev_input(struct js *v);                             /* everything below; NULL allowed */
void ev_skip(struct ev *e, struct js *v, const char *why);
/* A value that is not in a JSON file. */
void ev_report(struct rn *run, const char *file, const char *group, const char *quantity, enum ev_kind kind,
               const double *got, const double *want, int64_t n);
/* An error where none belongs: everything of v that is open is skipped with its message. True when rc is one. */
bool ev_error(struct ev *e, struct js *v, int rc, const struct es_err *err);

/* ---- eval_blocks.c */
int ev_class(const struct es_evalset *set, const char *name); /* -1 when there is none */
void ev_psds(struct ev *e, const struct es_evalset *set, struct js *block);
void ev_f1(struct ev *e, const struct es_evalset *set, struct js *block, enum es_f1_kind kind);
void ev_auroc(struct ev *e, const struct es_evalset *set, struct js *block);
/* Every block of an object, by its name. */
void ev_blocks(struct ev *e, const struct es_evalset *set, struct js *blocks);
/* The same on scores and truth, with num_clips and dataset_duration. */
void ev_set(struct ev *e, const struct es_scores *scores, const struct es_truth *truth,
            const struct es_evalset_params *p, struct js *blocks);
double ev_staircase(const struct es_roc *roc, double x);
int ev_numbers(struct js *list, double *out, int max);
/* Scores, truth and durations of a folder. */
bool ev_load(struct ev *e, const char *scores, const char *truth, const char *durations, struct es_scores **s,
             struct es_truth **t);
/* Events of clips, {clip: [[onset, offset, label(, confidence)], ..]}, in this order for every clip. */
void ev_events(struct ev *e, const struct es_truth *events, struct js *clips, enum ev_kind times);

/* ---- cases, by the folder's name */
void ev_case_real_folder(struct rn *run, const char *folder);
void ev_case_many_ties(struct rn *run, const char *folder);
void ev_case_synthetic(struct rn *run, const char *folder);
void ev_case_pipeline(struct rn *run, const char *folder);
void ev_case_inline(struct rn *run, const char *folder);
void ev_case_operating_points(struct rn *run, const char *folder);
void ev_case_psds_eval_data(struct rn *run, const char *folder);
void ev_case_hear(struct rn *run, const char *folder);
void ev_case_filters(struct rn *run, const char *folder);
void ev_case_bootstrap(struct rn *run, const char *folder);
void ev_real_boxes(struct rn *run, const char *folder);     /* the boxes and filters of the real folder */
void ev_pipeline_boxes(struct rn *run, const char *folder); /* the boxes of the pipeline */
void ev_dcase_filtered(struct ev *e, struct js *want, const struct es_scores *scores,
                       const struct es_truth *truth);
/* The folder of the run whose name fits; NULL when none does. */
const char *ev_folder(struct rn *run, const char *pattern);

#endif
