/* earshot-golden DIR [--file F] [--allow-skip] [--json -|FILE]: interfaces.md section 5. */
#include <sys/stat.h>

#include "runner.h"

static const char usage[] =
    "Usage: earshot-golden DIR [--file F] [--allow-skip] [--precision P] [--json -|FILE]\n"
    "Runs every case of DIR, laid out as golden/models (cases.tsv, tolerances.tsv, HDF5) or "
    "golden/evaluation.\n"
    "Writes JSON Lines: an object a compared quantity (file, case, quantity, n, max_abs, rel_l2, tolerance, "
    "pass), an\n"
    "object with \"skipped\": reason for what could not be compared, last {\"summary\": ...}.\n"
    "  --file F       only this file (models) or folder (evaluation)\n"
    "  --precision P  fp32, or bf16: the models' bf16 criteria alone; emulated where the processor has no "
    "bf16\n"
    "                 instructions\n"
    "  --allow-skip   skips do not make the run fail\n"
    "  --json -|FILE  where the lines go; default and -: stdout\n"
    "Exit codes: 0 something was compared, nothing failed; 1 otherwise; 64 bad usage; 65, 74 bad or missing "
    "files.\n";

static bool exists(const char *dir, const char *name) {
    char path[1200];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &st) == 0;
}

int main(int argc, char **argv) {
    struct rn run = {0};
    struct es_err err = {0};
    const char *json = "-", *precision = "fp32";
    bool allow_skip = false, bad = false;
    int rc = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--allow-skip") == 0)
            allow_skip = true;
        else if (strcmp(argv[i], "--file") == 0 && i + 1 < argc)
            run.only = argv[++i];
        else if (strcmp(argv[i], "--precision") == 0 && i + 1 < argc)
            precision = argv[++i];
        else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
            json = argv[++i];
        else if (argv[i][0] != '-' && !run.dir)
            run.dir = argv[i];
        else
            bad = true;
    }
    const bool bf16 = strcmp(precision, "bf16") == 0;
    if (bad || !run.dir || (!bf16 && strcmp(precision, "fp32") != 0)) {
        fputs(usage, stderr);
        return ES_EUSAGE;
    }
    ES_GO(es_json_new(&run.json, json, &err));
    if (bf16) {
        const enum es_bf16_kind kind = es_bf16_kind() == ES_BF16_NONE ? ES_BF16_EMULATED : es_bf16_kind();
        fprintf(stderr, "earshot-golden: bf16 by %s\n", es_bf16_kind_name(kind));
        ES_GO(es_bf16_new(&run.bf16, kind, &err));
    }
    if (exists(run.dir, "cases.tsv")) {
        ES_GO(rn_tables_open(&run, &err));
        ES_GO(rn_run_models(&run, &err));
    } else {
        ES_GO(rn_run_evaluation(&run, &err));
    }
    rc = rn_report_end(&run, allow_skip);
    if (es_json_close(&run.json, &err) < 0) rc = -err.code;
done:
    if (rc < 0) fprintf(stderr, "earshot-golden: %s\n", err.msg);
    es_json_free(&run.json);
    rn_tables_close(&run);
    es_bf16_free(&run.bf16);
    es_free(&run.held);
    if (run.comm) es_comm_fini_all(&run.comm);
    return rc < 0 ? -rc : rc;
}
