/* earshot-golden: runs every case of a directory laid out as golden/models or golden/evaluation (interfaces.md section 5; the
 * tables cases.tsv and tolerances.tsv: golden/models/README.md, "Machine-readable tables").
 *
 *   main.c      options; models or evaluation
 *   report.c    results as JSON Lines on stdout, failures and skips for people on stderr
 *   tables.c    cases.tsv and tolerances.tsv: keys of a case, the rule of every element of a dataset
 *   criteria.c  what the rules mean
 *   files.c     the files of a models directory: datasets by case, comparison, what was left over
 *   model.c     networks and tapes from the keys of a case
 *   case_*.c    one kind of case each: they read inputs with rn_read and rn_input, and give what they computed to rn_put_*
 *   eval_*.c    the evaluation directory
 *
 * A dataset that no rule calls an input and that no case function puts is reported as skipped, with the reason the case gave. A
 * case function leaves early with rn_skip(c, reason) when the program cannot run a case. Memory: everything that rn_read and
 * rn_hold give lives until the case is done.
 */
#ifndef EARSHOT_GOLDEN_RUNNER_H
#define EARSHOT_GOLDEN_RUNNER_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/comm.h"
#include "earshot/err.h"
#include "earshot/h5.h"
#include "earshot/json.h"
#include "earshot/kernels_bf16.h"
#include "earshot/mem.h"

struct rn_row { /* of cases.tsv or tolerances.tsv: columns */
    char *col[5];
    int i_case; /* cases.tsv */
};

struct rn_table {
    char *text;
    struct rn_row *row;
    int n;
};

struct rn;
struct rn_file;

struct rn_case {
    struct rn *run;
    struct rn_file *file; /* while its file is open */
    const char *file_name, *group;
    int index;
    char why[300];    /* why datasets that were not compared were not */
    double group_max; /* of stored gradients; -1: not known yet */
    double *median;   /* rel_l2 of the datasets under a median_rel_l2 criterion */
    int n_median, cap_median;
    const char *median_rule;
    bool done;
};

struct rn_data {            /* one dataset of an open file */
    const char *path, *rel; /* from the root, from the group */
    struct rn_case *c;      /* NULL: belongs to no case */
    bool settled;           /* compared, or named as skipped */
    double *computed;       /* what was computed, when the stored values were found wrong */
};

struct rn_file {
    struct rn *run;
    const char *name;
    struct es_h5 *h;
    struct es_h5_names names;
    struct rn_data *data;
    int n;
};

struct rn {
    const char *dir, *only; /* only: --file */
    struct es_json *json;
    struct es_bf16 *bf16; /* --precision bf16: criterion_bf16 for what has one, nothing for the rest */
    bool quiet;
    int64_t compared, failed, skipped;
    struct rn_table cases, tolerances;
    struct rn_case *c;
    int n_cases;
    struct es_comm *comm; /* made when a case trains */
    void **held;          /* blocks of the case that runs */
    int n_held, cap_held;
};

/* ---- report.c */
struct rn_result {
    const char *file, *group, *quantity;
    int64_t n;
    double max_abs, rel_l2;
    const char *tolerance;
    bool pass;
};
void rn_report(struct rn *run, const struct rn_result *r);
void rn_report_skip(struct rn *run, const char *file, const char *group, const char *quantity,
                    const char *why);
int rn_report_end(struct rn *run, bool allow_skip); /* the summary; the exit code */

/* ---- tables.c */
int rn_tables_open(struct rn *run, struct es_err *err);
void rn_tables_close(struct rn *run);
/* NULL when the case has no such key. */
const char *rn_get(const struct rn_case *c, const char *key);
bool rn_is(const struct rn_case *c, const char *key, const char *value);
double rn_num(const struct rn_case *c, const char *key, double missing); /* also for "-" and "absent" */
int rn_int(const struct rn_case *c, const char *key, int missing);
int rn_list(const struct rn_case *c, const char *key, double *out,
            int max); /* comma separated; their number */
/* i-th item of a comma separated list. */
bool rn_item(const char *list, int i, char *out, size_t size);
bool rn_glob(const char *pattern, const char *s);
/* Row of tolerances.tsv for the whole dataset; -1: none. Ignores rows that take elements only. */
int rn_rule(const struct rn_case *c, const char *file, const char *rel);
/* rule[i] = row of tolerances.tsv for element i, -1: none. label (of the last part taken) is for messages. */
void rn_rules(const struct rn_case *c, const char *rel, int64_t n, int ndim, const int64_t *dim, int *rule);
/* The part of a rule's dataset column that took elements only ("[96:192]", "#..."); "" for whole datasets. */
const char *rn_rule_part(const struct rn_case *c, int rule, const char *rel);
const char *rn_criterion(const struct rn *run, int rule);
bool rn_not_output(const char *criterion);               /* input, config, info; "-": not measured in bf16 */
bool rn_in_bf16(const struct rn *run, const char *file); /* some of its datasets have a criterion_bf16 */

/* ---- criteria.c */
struct rn_context {
    const struct rn_case *c;
    double group_max, out_norms;
    int64_t full_n;       /* summary: elements of the tensor */
    const int64_t *index; /* drift: place of each value in the dataset */
    int64_t step_n;       /* drift: elements a step */
    const double *lr_sum; /* drift: per step */
};
bool rn_judge(const char *criterion, const struct rn_context *x, const double *a, const double *r, int64_t n,
              double *max_abs, double *rel_l2);

/* ---- files.c */
int rn_run_models(struct rn *run, struct es_err *err);
struct rn_data *rn_find(const struct rn_case *c, const char *rel);
bool rn_has(const struct rn_case *c, const char *rel);
/* Memory until the case is done. */
void *rn_hold(const struct rn_case *c, size_t n, size_t size);
/* Whole dataset, path from the file's root; NULL when it is not there. shape (4 entries, 1 beyond ndim) may be NULL. */
float *rn_read(const struct rn_case *c, const char *path, int64_t shape[4]);
double *rn_read64(const struct rn_case *c, const char *path, int64_t shape[4]);
/* Below the group. */
float *rn_own(const struct rn_case *c, const char *rel, int64_t shape[4]);
double *rn_own64(const struct rn_case *c, const char *rel, int64_t shape[4]);
/* The input named by key "in.<name>": a path, or "generated name=... ..."; "<s>" in it is replaced by step. */
float *rn_input(const struct rn_case *c, const char *name, int step, int64_t shape[4]);
int64_t rn_size(const int64_t shape[4]);
/* Compares with the dataset below the group and settles it; no such dataset: nothing. */
void rn_put(struct rn_case *c, const char *rel, const double *a, int64_t n);
void rn_put_f32(struct rn_case *c, const char *rel, const float *a, int64_t n);
/* In full, or samples and summary. */
void rn_put_grad(struct rn_case *c, const char *name, const float *g, int64_t n);
void rn_put_full(struct rn_case *c, const char *rel, const double *a, int64_t n, int64_t full_n);
/* rn_read of an output of another case that serves as an input here: values found wrong there are replaced by the computed
 * ones, so that what is wrong is told once. */
float *rn_read_checked(const struct rn_case *c, const char *path, int64_t shape[4]);
void rn_skip(struct rn_case *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Names a dataset as skipped for a reason of its own. */
void rn_skip_one(struct rn_case *c, const char *rel, const char *why);

/* ---- case_*.c: one function a kind */
typedef void (*rn_kind_fn)(struct rn_case *c);
void rn_case_frontend(struct rn_case *c);
void rn_case_frontends(struct rn_case *c);
void rn_case_frontend_tables(struct rn_case *c);
void rn_case_transformer(struct rn_case *c);
void rn_case_bigru(struct rn_case *c);
void rn_case_sed(struct rn_case *c);
void rn_case_interp_index(struct rn_case *c);
void rn_case_generated_input(struct rn_case *c);
void rn_case_heads(struct rn_case *c);
void rn_case_as_strong_loss(struct rn_case *c);
void rn_case_losses(struct rn_case *c);
void rn_case_bce_edge(struct rn_case *c);
void rn_case_schedule(struct rn_case *c);
void rn_case_optimiser(struct rn_case *c);
void rn_case_clip(struct rn_case *c);
void rn_case_ema(struct rn_case *c);
void rn_case_labels(struct rn_case *c);
void rn_case_alias_tables(struct rn_case *c);
void rn_case_augment(struct rn_case *c);
void rn_case_trajectory(struct rn_case *c);
/* Text files: every column. */
void rn_params_file(struct rn *run, const char *file);
void rn_param_groups(struct rn *run);

/* ---- evaluation */
int rn_run_evaluation(struct rn *run, struct es_err *err);

#endif
