/* The JSON reader; what it reads and the writer writes again must be read again. */
#include <stdint.h>

#include "earshot/json.h"
#include "earshot/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct es_values *heap = NULL;
    struct es_value *root = NULL;
    struct es_err err = {0};
    if (es_values_new(&heap, &err) == 0 &&
        es_json_read(heap, (const char *)data, n, "fuzz", &root, &err) == 0) {
        const struct es_value *v = es_value_get(root, "a");
        double x;
        es_value_number(v, &x);
        if (root->kind == ES_VALUE_TEXT) {
            struct es_text t = {0};
            struct es_value *again;
            es_json_quote(&t, root->text);
            ES_ASSERT(es_json_read(heap, t.s, t.n, "fuzz", &again, &err) == 0 &&
                      again->kind == ES_VALUE_TEXT);
            es_text_free(&t);
        }
    }
    es_values_free(&heap);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
