/* earshot <job> ...: finds the job and runs it. Without one: what there is. */
#include <stdio.h>
#include <string.h>

#include "earshot/text.h"
#include "earshot/version.h"
#include "jobs.h"

#define ES_JOB_ROW(name) &es_job_##name##_spec,
static const struct es_job_spec *const jobs[] = {ES_JOBS(ES_JOB_ROW) NULL};

static const struct es_job_spec *find_job(const char *name) {
    for (int i = 0; jobs[i]; i++)
        if (strcmp(jobs[i]->name, name) == 0) return jobs[i];
    return NULL;
}

static int unknown_job(const char *name, struct es_err *err) {
    struct es_nearest near = {.word = name};
    for (int i = 0; jobs[i]; i++) es_nearest_add(&near, jobs[i]->name);
    return es_err_set(err, ES_EUSAGE, "%.80s: unknown job%s%s; see earshot --help", name,
                      near.best ? ", nearest is " : "", near.best ? near.best : "");
}

static void print_version(const struct es_run *run) {
    char comm[512], kernels[512], io[512], dsp[512];
    es_comm_version(comm, sizeof comm);
    es_kernels_version(kernels, sizeof kernels);
    es_io_version(io, sizeof io);
    es_dsp_version(dsp, sizeof dsp);
    es_run_print(run, "earshot %s (commit %s)\n%s\n%s\n%s\n%s\n", ES_VERSION, es_version_commit(), comm,
                 kernels, io, dsp);
}

static void print_jobs(const struct es_run *run) {
    es_run_print(run, "earshot %s: trains sound event detectors on any number of ranks\n\n", ES_VERSION);
    es_run_print(run, "usage: earshot <job> [--config FILE] [--set key=value]... [options] [operands]\n"
                      "       the same under mpiexec -n P or srun\n\njobs\n");
    for (int i = 0; jobs[i]; i++) es_run_print(run, "  %-10s %s\n", jobs[i]->name, jobs[i]->purpose);
    es_run_print(run, "\n  earshot <job> --help     options and an example\n"
                      "  earshot <job> --explain KEY\n"
                      "  earshot --version        version, commit, libraries\n");
}

static int run_program(struct es_run *run, struct es_err *err) {
    if (es_run_operands(run) > 0) return unknown_job(es_run_operand(run, 0), err);
    if (es_run_flag(run, "reference"))
        return es_comm_rank(es_run_comm(run)) == 0 ? es_config_write_reference(stdout, err) : 0;
    if (es_run_flag(run, "version"))
        print_version(run);
    else
        print_jobs(run);
    return 0;
}

static const struct es_job_option program_options[] = {
    {.name = "version", .doc = "version, commit, libraries"},
    {.name = "reference", .doc = "configs/reference.yaml, from the table of keys"},
    {0},
};

static const struct es_job_spec program = {
    .options = program_options, .operands_max = -1, .run = run_program};

/* The job of the command line, its name taken off; the program itself when there is none. */
static const struct es_job_spec *choose(int *argc, char ***argv) {
    const char *word = *argc > 1 ? (*argv)[1] : "";
    const struct es_job_spec *spec = find_job(word);
    if (spec) {
        (*argc)--;
        (*argv)++;
        return spec;
    }
    if (strcmp(word, "--help") == 0)
        *argc = 1; /* the list of jobs, not of options */
    else if (*word && *word != '-')
        *argc = 2; /* of an unknown job only the name matters */
    return &program;
}

int main(int argc, char **argv) {
    struct es_err err = {0};
    struct es_run *run = NULL;
    const struct es_job_spec *spec = choose(&argc, &argv);
    int rc = es_run_open_all(&run, argc, argv, spec, &err);
    if (rc == 0) rc = spec->run(run, &err);
    return es_run_close_all(&run, rc, &err);
}
