/* Shared by the files of src/run only. */
#ifndef EARSHOT_RUN_IMPL_H
#define EARSHOT_RUN_IMPL_H

#include <stdio.h>

#include "earshot/run.h"

struct es_run {
    const struct es_job_spec *spec;
    struct es_comm *comm;
    struct es_config *config;
    struct es_json *json;
    int threads;
    bool json_stdout, keep_json;
    int n_given, n_operands;
    struct es_run_given {
        const struct es_job_option *option;
        const char *value; /* NULL: a flag */
    } * given;
    const char **operand;
};

/* options.c */
extern const struct es_job_option es_run_common[]; /* what every job has; ends with a row without name */
int es_run_parse(struct es_run *run, int argc, char **argv, struct es_err *err);
bool es_run_wants_help(int argc, char **argv);
void es_run_title(const struct es_job_spec *spec, char out[64]); /* "earshot train" */

/* help.c */
void es_run_help(const struct es_job_spec *spec, FILE *out);

#endif
