/* Import and export without starting a program for each file: commands on standard input, one a line, words separated by tabs:
 *
 *   import MODEL FROM OUT WHICH CHECK [key=value]...      export FROM TO WHICH      ("-": not given)
 *
 * Answer, one line: code, memory blocks left behind, peak of the process in MB, the message. tests/e2e/test_import.py drives it. */
#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/weights.h"

#define MAX_WORDS 32

static const char *given(const char *word) {
    return strcmp(word, "-") == 0 ? NULL : word;
}

static int do_import(const struct es_comm *c, int n, char **word, struct es_err *err) {
    struct es_config *config = NULL;
    struct es_weights_summary s;
    int rc = es_config_new(&config, err);
    for (int i = 6; i < n && rc == 0; i++) rc = es_config_set(config, word[i], err);
    if (rc == 0) rc = es_config_finish(config, err);
    struct es_weights_import_params p = {.model = (enum es_import_model)es_import_model_from_name(word[1]),
                                         .from = word[2],
                                         .out = word[3],
                                         .which = word[4],
                                         .check = strcmp(word[5], "check") == 0,
                                         .config = config};
    if (rc == 0) rc = es_weights_import_all(c, &p, &s, err);
    es_config_free(&config);
    return rc;
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL;
    struct es_err err = {0};
    char line[16384];
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return 1;
    while (fgets(line, sizeof line, stdin)) {
        char *word[MAX_WORDS];
        int n = 0, rc = -1;
        line[strcspn(line, "\n")] = '\0';
        for (char *at = line; at && n < MAX_WORDS; n++) {
            word[n] = at;
            at = strchr(at, '\t');
            if (at) *at++ = '\0';
        }
        int64_t before = es_mem_live_blocks();
        es_err_clear(&err);
        if (n >= 6 && strcmp(word[0], "import") == 0) rc = do_import(c, n, word, &err);
        if (n == 4 && strcmp(word[0], "export") == 0) {
            struct es_weights_summary s;
            rc = es_weights_export_all(c, word[1], word[2], given(word[3]), false, &s, &err);
        }
        printf("%d\t%lld\t%lld\t%s\n", -rc, (long long)(es_mem_live_blocks() - before),
               (long long)(es_mem_peak_rss() >> 20), err.msg);
        fflush(stdout);
    }
    es_comm_fini_all(&c);
    return 0;
}
