/* Whole files in memory: zip, plain PyTorch and safetensors; every tensor found in the usual places is read. */
#include <stdint.h>

#include "earshot/mem.h"
#include "earshot/import.h"
#include "earshot/tensorfile.h"

#include "fuzz_file.h"

#define MOST_BYTES (1 << 20) /* of one tensor: as a model's table would limit it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_some(struct es_tensorfile *f, const struct es_value *dict) {
    struct es_err err = {0};
    if (!dict || dict->kind != ES_VALUE_DICT) return;
    for (uint32_t i = 1; i < dict->n && i < 64; i += 2) {
        const struct es_value *v = dict->item[i];
        char what[64];
        es_value_describe(v, what, sizeof what);
        if (v->kind != ES_VALUE_TENSOR || v->view->n > MOST_BYTES / (int64_t)es_dtype_bytes(v->view->dtype))
            continue;
        void *out = es_alloc((size_t)v->view->n, es_dtype_bytes(v->view->dtype), &err);
        if (out) es_tensorfile_read(f, v->view, out, &err);
        es_free(&out);
    }
}

static void match(struct es_tensorfile *f, enum es_import_model model) {
    struct es_err err = {0};
    struct es_import *im = NULL;
    const struct es_value *root = es_tensorfile_root(f);
    const struct es_transformer_config c = {.depth = 12, .dim = 768, .mlp = 3072, .heads = 12};
    if (es_import_new(&im, model, &err) == 0 && es_import_choose(im, root, "student", "fuzz", &err) == 0 &&
        es_import_add(im, "atst.pos_embed", 2, (int64_t[]){2, 3}, false, &err) == 0 &&
        es_import_match(im, &err) == 0)
        es_import_check(im, "fuzz", &err);
    es_import_check_cfg(root, &c, "fuzz", &err);
    es_import_free(&im);
}

/* Some inputs come as a file, so that this way is exercised, too. */
static int open_input(struct es_tensorfile **f, const uint8_t *data, size_t n, struct es_err *err) {
    char path[512];
    if (n > 2048 || n % 4 != 0) return es_tensorfile_open_bytes(f, "fuzz", data, n, err);
    if (!fuzz_file(path, data, n)) return -ES_EIO;
    int rc = es_tensorfile_open(f, path, err);
    unlink(path);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct es_tensorfile *f = NULL;
    struct es_err err = {0};
    if (open_input(&f, data, n, &err) == 0) {
        const struct es_value *root = es_tensorfile_root(f);
        read_some(f, root);
        read_some(f, es_value_get(root, "state_dict"));
        for (int m = 0; m < ES_N_IMPORT_MODELS; m++) match(f, (enum es_import_model)m);
    }
    es_tensorfile_close(&f);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
