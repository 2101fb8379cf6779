/* Arguments: parsing against the spec's table and the common one, and the getters. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/text.h"
#include "run_impl.h"

const struct es_job_option es_run_common[] = {
    {.name = "config", .arg = "FILE", .doc = "configuration, YAML"},
    {.name = "set",
     .arg = "KEY=VALUE",
     .doc = "one key of the configuration; may be repeated",
     .repeat = true},
    {.name = "explain", .arg = "KEY", .doc = "what a key or section means, and its value"},
    {.name = "check", .doc = "read and validate everything, run nothing"},
    {.name = "json", .arg = "FILE|-", .doc = "the result as JSON"},
    {.name = "quiet", .doc = "only warnings and errors on standard error"},
    {.name = "log-level",
     .arg = "LEVEL",
     .doc = "error, warn, info or debug",
     .choices = "error|warn|info|debug"},
    {.name = "help", .doc = "this text"},
    {0},
};

void es_run_title(const struct es_job_spec *spec, char out[64]) {
    snprintf(out, 64, "earshot%s%s", spec->name ? " " : "", spec->name ? spec->name : "");
}

bool es_run_wants_help(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0) return true;
    return false;
}

static const struct es_job_option *find(const struct es_job_spec *spec, const char *name, size_t len) {
    const struct es_job_option *tables[] = {spec->options, es_run_common};
    for (int k = 0; k < 2; k++)
        for (const struct es_job_option *o = tables[k]; o && o->name; o++)
            if (strncmp(o->name, name, len) == 0 && !o->name[len]) return o;
    return NULL;
}

static int unknown(const struct es_job_spec *spec, const char *name, int len, struct es_err *err) {
    char word[64], title[64];
    snprintf(word, sizeof word, "%.*s", len, name);
    es_run_title(spec, title);
    struct es_nearest near = {.word = word};
    const struct es_job_option *tables[] = {spec->options, es_run_common};
    for (int k = 0; k < 2; k++)
        for (const struct es_job_option *o = tables[k]; o && o->name; o++) es_nearest_add(&near, o->name);
    return es_err_set(err, ES_EUSAGE, "--%s: unknown option%s%s; see %s --help", word,
                      near.best ? ", nearest is --" : "", near.best ? near.best : "", title);
}

/* One option; text is what follows its dashes, next the argument behind it (or NULL). Returns 1 when it took
 * next. */
static int take(struct es_run *run, const char *text, const char *next, struct es_err *err) {
    size_t len = strcspn(text, "=");
    const struct es_job_option *o = find(run->spec, text, len);
    if (!o) return unknown(run->spec, text, (int)len, err);
    const char *value = text[len] ? text + len + 1 : NULL;
    if (!o->arg && value)
        return es_err_set(err, ES_EUSAGE, "--%s: got the value \"%.80s\", want none", o->name, value);
    bool took = o->arg && !value;
    if (took) value = next && strncmp(next, "--", 2) != 0 ? next : NULL;
    if (o->arg && !value) return es_err_set(err, ES_EUSAGE, "--%s: got no value, want %s", o->name, o->arg);
    if (o->choices && !es_text_has_word(o->choices, value))
        return es_err_set(err, ES_EUSAGE, "--%s: got \"%.80s\", want one of %s", o->name, value, o->choices);
    for (int i = 0; !o->repeat && i < run->n_given; i++)
        if (run->given[i].option == o) return es_err_set(err, ES_EUSAGE, "--%s: given twice", o->name);
    run->given[run->n_given++] = (struct es_run_given){o, value};
    return took;
}

int es_run_parse(struct es_run *run, int argc, char **argv, struct es_err *err) {
    const struct es_job_spec *spec = run->spec;
    char title[64];
    es_run_title(spec, title);
    run->given = es_alloc((size_t)argc, sizeof *run->given, err);
    run->operand = es_alloc((size_t)argc, sizeof *run->operand, err);
    if (!run->given || !run->operand) return -ES_EIO;
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && strncmp(argv[i], "--", 2) == 0) {
            int took = take(run, argv[i] + 2, i + 1 < argc ? argv[i + 1] : NULL, err);
            ES_TRY(took);
            i += took;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            return es_err_set(err, ES_EUSAGE, "%.80s: unknown option, all are long: --name; see %s --help",
                              argv[i], title);
        } else {
            run->operand[run->n_operands++] = argv[i];
        }
    }
    if (es_run_flag(run, "explain")) return 0;
    if (spec->needs_config && !es_run_option(run, "config"))
        return es_err_set(err, ES_EUSAGE, "--config FILE is missing; see %s --help", title);
    if (run->n_operands < spec->operands_min)
        return es_err_set(err, ES_EUSAGE, "got %d operands, want %s; see %s --help", run->n_operands,
                          spec->operands, title);
    if (spec->operands_max >= 0 && run->n_operands > spec->operands_max)
        return es_err_set(err, ES_EUSAGE, "%.80s: got an operand, want %s; see %s --help",
                          run->operand[spec->operands_max], spec->operands_max > 0 ? spec->operands : "none",
                          title);
    return 0;
}

static const struct es_job_option *require(const struct es_run *run, const char *name) {
    const struct es_job_option *o = find(run->spec, name, strlen(name));
    ES_ASSERT(o);
    return o;
}

int es_run_option_count(const struct es_run *run, const char *name) {
    const struct es_job_option *o = require(run, name);
    int n = 0;
    for (int i = 0; i < run->n_given; i++) n += run->given[i].option == o;
    return n;
}

const char *es_run_option_at(const struct es_run *run, const char *name, int at) {
    const struct es_job_option *o = require(run, name);
    for (int i = 0; i < run->n_given; i++)
        if (run->given[i].option == o && at-- == 0) return run->given[i].value;
    es_bug(__FILE__, __LINE__, "the option was given as often");
}

const char *es_run_option(const struct es_run *run, const char *name) {
    int n = es_run_option_count(run, name);
    return n > 0 ? es_run_option_at(run, name, n - 1) : NULL;
}

bool es_run_flag(const struct es_run *run, const char *name) {
    return es_run_option_count(run, name) > 0;
}

int es_run_option_int(const struct es_run *run, const char *name, int64_t lo, int64_t hi, int64_t *out,
                      struct es_err *err) {
    const char *s = es_run_option(run, name);
    if (!s) return 0;
    char *end = NULL;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || *end || errno || v < lo || v > hi)
        return es_err_set(err, ES_EUSAGE, "--%s: got \"%.80s\", want an integer from %lld to %lld", name, s,
                          (long long)lo, (long long)hi);
    *out = v;
    return 0;
}

int es_run_option_double(const struct es_run *run, const char *name, double lo, double hi, double *out,
                         struct es_err *err) {
    const char *s = es_run_option(run, name);
    if (!s) return 0;
    char *end = NULL;
    double v = strtod(s, &end);
    if (end == s || *end || !isfinite(v) || v < lo || v > hi)
        return es_err_set(err, ES_EUSAGE, "--%s: got \"%.80s\", want a number from %g to %g", name, s, lo,
                          hi);
    *out = v;
    return 0;
}

int es_run_option_require(const struct es_run *run, const char *name, struct es_err *err) {
    char title[64];
    es_run_title(run->spec, title);
    if (es_run_flag(run, name)) return 0;
    return es_err_set(err, ES_EUSAGE, "--%s %s is missing; see %s --help", name, require(run, name)->arg,
                      title);
}

int es_run_operands(const struct es_run *run) {
    return run->n_operands;
}

const char *es_run_operand(const struct es_run *run, int i) {
    ES_ASSERT(i >= 0 && i < run->n_operands);
    return run->operand[i];
}
