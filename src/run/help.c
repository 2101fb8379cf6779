/* The text of --help, from the spec. */
#include <string.h>

#include "run_impl.h"

static void print_options(const struct es_job_option *o, FILE *out) {
    for (; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
        fprintf(out, "  %-24s %s\n", left, o->doc);
    }
}

void es_run_help(const struct es_job_spec *spec, FILE *out) {
    char title[64];
    es_run_title(spec, title);
    fprintf(out, "%s: %s\n\nusage: %s %s\n", title, spec->purpose, title, spec->synopsis);
    if (spec->options && spec->options->name) fprintf(out, "\noptions\n");
    print_options(spec->options, out);
    fprintf(out, "\noptions of every job\n");
    print_options(es_run_common, out);
    if (spec->sections)
        fprintf(out,
                "\nconfiguration sections (%s --explain SECTION; all keys: configs/reference.yaml)\n  %s\n",
                title, spec->sections);
    fprintf(out, "\nexit codes: 0 done; 64 bad usage or configuration; 65 bad data; 70 a bug; 74 input, "
                 "output or a lost rank;\n"
                 "  75 stopped early in good order, run again to resume\n");
    if (spec->example) fprintf(out, "\nexample\n  %s\n", spec->example);
}
