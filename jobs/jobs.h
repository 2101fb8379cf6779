/* The jobs of the program. jobs/<name>.c defines es_job_<name>_spec and, for its spec, es_job_<name>; CMake
 * lists the files (those with an underscore in their name are parts of a job) in the generated header, so
 * that a new job needs no edit here. */
#ifndef EARSHOT_JOBS_H
#define EARSHOT_JOBS_H

#include "earshot/run.h"

#include "earshot_jobs.h" /* generated: ES_JOBS(X) is X(demo) X(prepare) ... */

#define ES_JOB_DECLARE(name)                                                                                 \
    extern const struct es_job_spec es_job_##name##_spec;                                                    \
    int es_job_##name(struct es_run *run, struct es_err *err);
/* cppcheck-suppress unknownMacro ; its header is generated */
ES_JOBS(ES_JOB_DECLARE)

#endif
