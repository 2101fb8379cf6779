/* The pickle machine alone. Memory must stay linear in the input. */
#include <stdint.h>

#include "earshot/mem.h"
#include "earshot/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct es_values *heap = NULL;
    struct es_value *root = NULL;
    struct es_err err = {0};
    size_t used = 0;
    if (es_values_new(&heap, &err) == 0) {
        struct es_pickle p = {.heap = heap, .name = "fuzz"};
        char what[64];
        if (es_pickle_read(&p, data, n, &used, &root, &err) == 0) {
            ES_ASSERT(used <= n);
            es_value_describe(root, what, sizeof what);
            es_value_get(root, "state_dict");
        }
        ES_ASSERT(es_values_bytes(heap) <= 16384 + 100 * n);
        es_pickle_free(&p);
    }
    es_values_free(&heap);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
