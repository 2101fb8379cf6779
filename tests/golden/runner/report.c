/* Results: JSON Lines on stdout (or the file of --json), one object a compared quantity or skipped one, last the summary; what
 * failed and what was skipped also for people on stderr. */
#include "runner.h"

void rn_report(struct rn *run, const struct rn_result *r) {
    struct es_json *j = run->json;
    run->compared++;
    run->failed += !r->pass;
    es_json_begin_object(j);
    es_json_put_string(j, "file", r->file);
    es_json_put_string(j, "case", r->group);
    es_json_put_string(j, "quantity", r->quantity);
    es_json_put_int(j, "n", r->n);
    es_json_put_number(j, "max_abs", r->max_abs);
    es_json_put_number(j, "rel_l2", r->rel_l2);
    es_json_put_string(j, "tolerance", r->tolerance);
    es_json_put_bool(j, "pass", r->pass);
    es_json_end_object(j);
    if (!r->pass)
        fprintf(stderr, "FAILED %s %s %s: n %lld, max_abs %.3g, rel_l2 %.3g, want %s\n", r->file, r->group,
                r->quantity, (long long)r->n, r->max_abs, r->rel_l2, r->tolerance);
}

void rn_report_skip(struct rn *run, const char *file, const char *group, const char *quantity,
                    const char *why) {
    struct es_json *j = run->json;
    run->skipped++;
    es_json_begin_object(j);
    es_json_put_string(j, "file", file);
    es_json_put_string(j, "case", group);
    es_json_put_string(j, "quantity", quantity);
    es_json_put_string(j, "skipped", why);
    es_json_end_object(j);
}

int rn_report_end(struct rn *run, bool allow_skip) {
    struct es_json *j = run->json;
    es_json_begin_object(j);
    es_json_key(j, "summary");
    es_json_begin_object(j);
    es_json_put_int(j, "compared", run->compared);
    es_json_put_int(j, "failed", run->failed);
    es_json_put_int(j, "skipped", run->skipped);
    es_json_end_object(j);
    es_json_end_object(j);
    fprintf(stderr, "%lld compared, %lld failed, %lld skipped%s\n", (long long)run->compared,
            (long long)run->failed, (long long)run->skipped,
            run->skipped && !allow_skip ? " (a skip counts as a failure without --allow-skip)" : "");
    return run->compared > 0 && run->failed == 0 && (run->skipped == 0 || allow_skip) ? 0 : 1;
}
