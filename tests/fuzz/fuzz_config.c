/* Configurations: YAML, the table of keys, the rules between them. What is accepted and written is read again to the same digest.
 * And the other YAML there is: rows of post-processing parameters. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "earshot/config.h"
#include "earshot/mem.h"
#include "earshot/yamlrows.h"

#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void again(const struct es_config *first, struct es_err *err) {
    struct es_config *cfg = NULL;
    char *yaml = NULL;
    if (es_config_to_yaml(first, &yaml, err) == 0 && es_config_new(&cfg, err) == 0) {
        if (es_config_load_text(cfg, "again", yaml, err) < 0 || es_config_finish(cfg, err) < 0) {
            fprintf(stderr, "%s\n", err->msg);
            __builtin_trap(); /* libFuzzer keeps the input */
        }
        ES_ASSERT(es_config_digest(cfg) == es_config_digest(first));
    }
    es_config_free(&cfg);
    es_free(&yaml);
}

static void read_rows(const uint8_t *data, size_t n, struct es_err *err) {
    struct es_yaml_rows rows = {0};
    char path[512];
    if (!fuzz_file(path, data, n)) return;
    es_yaml_rows_load(&rows, path, err);
    es_yaml_rows_free(&rows);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct es_config *cfg = NULL;
    struct es_err err = {0};
    char *text = es_alloc(n + 1, 1, &err);
    memcpy(text, data, n);
    if (es_config_new(&cfg, &err) == 0 && es_config_load_text(cfg, "fuzz", text, &err) == 0 &&
        es_config_finish(cfg, &err) == 0)
        again(cfg, &err);
    es_config_free(&cfg);
    es_free(&text);
    if (n % 4 == 0 || n < 256) read_rows(data, n, &err);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
