/* What every job starts and ends with: MPI, arguments, configuration, log, signals, watchdog, threads, JSON,
 * the exit code.
 *
 *   int main(int argc, char **argv) {
 *       struct es_err err = {0};
 *       struct es_run *run = NULL;
 *       int rc = es_run_open_all(&run, argc, argv, &spec, &err);
 *       if (rc == 0) rc = spec.run(run, &err);
 *       return es_run_close_all(&run, rc, &err);
 *   }
 *
 * A job is a spec (its argument table and texts) and a function; jobs/main.c holds the main above for all of
 * them. Arguments: long options only, `--name value` or `--name=value`, anywhere; `--` ends them; the rest
 * are operands. Every job knows --help,
 * --explain KEY, --check, --json FILE|-, --quiet, --log-level LEVEL, --config FILE and --set key=value.
 *
 * Configuration: rank 0 reads the files, all ranks parse the same bytes, the digests are compared. Without
 * --config the configuration holds the defaults (and --set).
 *
 * The job's function returns 0, a negative error, or ES_STOPPED. Where ranks may fail apart it agrees
 * (es_err_agree_all) before its next collective call; at the end es_run_close_all agrees once more. Only rank
 * 0 prints: es_run_print to standard output, the log and the one error line `earshot train: ...` to standard
 * error.
 *
 * Collectivity: open and close are collective over all ranks; the getters are local. A getter with an option
 * that the spec does not hold is a bug.
 */
#ifndef EARSHOT_RUN_H
#define EARSHOT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/config.h"
#include "earshot/err.h"
#include "earshot/json.h"

struct es_run;

struct es_job_option {
    const char *name;    /* without the dashes */
    const char *arg;     /* what the help calls its value, for example "FILE"; NULL: a flag */
    const char *doc;     /* one line */
    const char *choices; /* "a|b|c": the values allowed; NULL: any */
    bool repeat;         /* may be given more than once */
};

struct es_job_spec {
    const char *name;                    /* "train"; NULL: the program itself */
    const char *purpose;                 /* one line */
    const char *synopsis;                /* what follows the name */
    const struct es_job_option *options; /* ends with a row without name; NULL: none of its own */
    bool needs_config;                   /* --config must be given */
    bool long_running; /* it calls es_watchdog_kick and obeys es_stop_requested: watchdog and signal flag are
                          on */
    int operands_min, operands_max; /* -1: any number */
    const char *operands;           /* what they are, for example "FILE..."; NULL: none */
    const char *sections; /* sections of the configuration it uses, separated by blanks; NULL: none */
    const char *example;  /* one command on the demo data */
    int (*run)(struct es_run *run, struct es_err *err);
};

/* Nothing is left to do (after --help or --explain): es_run_open_all returns it instead of 0,
 * es_run_close_all makes it 0. */
#define ES_RUN_DONE 1

/* argv[0] is the job's name (or the program's). Initialises MPI: once in a process. On error *run is still to
 * be closed. */
int es_run_open_all(struct es_run **run, int argc, char **argv, const struct es_job_spec *spec,
                    struct es_err *err);
/* Completes or drops the JSON file, agrees on rc, prints an error once, frees, finalises MPI; returns the
 * exit code. */
int es_run_close_all(struct es_run **run, int rc, struct es_err *err);

const struct es_comm *es_run_comm(const struct es_run *run);
/* Not const: a job may es_config_set what its own options say, and es_config_finish. */
struct es_config *es_run_config(struct es_run *run);
int es_run_threads(const struct es_run *run); /* OpenMP threads of this rank, already set */
bool es_run_check(const struct es_run *run);  /* --check: validate the inputs, then return */
bool es_run_quiet(const struct es_run *run);
struct es_json *es_run_json(const struct es_run *run); /* NULL without --json and on ranks other than 0 */
/* What stands in --json is a whole document, to be written even though the job fails. */
void es_run_keep_json(struct es_run *run);
/* Rank 0 prints to standard output, unless --json - has it. */
void es_run_print(const struct es_run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The option's value, its last one when repeated; NULL when it was not given. Lives as long as argv. */
const char *es_run_option(const struct es_run *run, const char *name);
bool es_run_flag(const struct es_run *run, const char *name);
int es_run_option_count(const struct es_run *run, const char *name);
const char *es_run_option_at(const struct es_run *run, const char *name, int i); /* 0..count-1, in order */
/* The option's value as a number in lo..hi; *out keeps its value when the option was not given. ES_EUSAGE
 * otherwise. */
int es_run_option_int(const struct es_run *run, const char *name, int64_t lo, int64_t hi, int64_t *out,
                      struct es_err *err);
int es_run_option_double(const struct es_run *run, const char *name, double lo, double hi, double *out,
                         struct es_err *err);
/* An error (ES_EUSAGE) when the option was not given. */
int es_run_option_require(const struct es_run *run, const char *name, struct es_err *err);
int es_run_operands(const struct es_run *run);
const char *es_run_operand(const struct es_run *run, int i);

#endif
