/* DeiT to fPaSST against PyTorch's interpolate (tests/data/deit.h5, written by make_deit.py), by hand where the formula is short,
 * and sources that do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/deit.h"
#include "earshot/nn.h"

#include "h5.h"

#include "golden_model.h"

#define FILE_PATH ES_TEST_DATA "/deit.h5"
#define MAX_READ 64

struct reader {
    const char *hidden, *wrong; /* an entry that is not there, or one dimension longer than it is */
    float *kept[MAX_READ];
    int n;
};

static const float *get(void *ctx, const char *name, int *ndim, int64_t shape[ES_MAX_DIM]) {
    struct reader *r = ctx;
    char dataset[200];
    snprintf(dataset, sizeof dataset, "deit/%s", name);
    if ((r->hidden && strcmp(r->hidden, name) == 0) || !es_test_h5_has(FILE_PATH, dataset)) return NULL;
    float *x = es_test_h5_read_f32(FILE_PATH, dataset, shape, NULL);
    assert_true(x && r->n < MAX_READ);
    *ndim = ES_MAX_DIM; /* the reader pads shapes with 1: public names have these dimensions */
    if (strstr(name, "_token") || strstr(name, "pos_embed"))
        *ndim = 3;
    else if (strstr(name, "bias") || strstr(name, "norm"))
        *ndim = 1;
    else if (!strstr(name, "proj.weight") || strstr(name, "attn"))
        *ndim = 2;
    if (r->wrong && strcmp(r->wrong, name) == 0) shape[*ndim - 1]++;
    return r->kept[r->n++] = x;
}

static void reader_end(struct reader *r) {
    while (r->n > 0) es_free(&r->kept[--r->n]);
}

static void new_table(struct es_params **p, struct es_net **net, enum es_arch arch) {
    struct es_net_config c;
    es_net_config_published(&c, arch);
    c.pretrain = true;
    c.transformer.dim = c.transformer.heads = 4;
    c.transformer.mlp = 8;
    c.transformer.depth = 1;
    c.transformer.n_mel_frames = 44; /* 11 tokens */
    assert_int_equal(es_params_new(p, NULL), 0);
    assert_int_equal(es_net_new(net, &c, *p, NULL), 0);
    assert_int_equal(es_params_layout(*p, NULL), 0);
    es_params_init(*p, 3);
}

static void like_pytorch(void **state) {
    (void)state;
    struct es_params *p = NULL, *before = NULL;
    struct es_net *net = NULL;
    struct reader r = {0};
    struct es_err err = {0};
    int copied = 0, computed = 0, kept = 0;
    new_table(&p, &net, ES_ARCH_FPASST);
    assert_int_equal(es_params_clone(&before, p, NULL), 0);
    assert_int_equal(es_fpasst_from_deit(p, "model.fpasst.", get, &r, &err), 0);
    for (int i = 0; i < es_params_count(p); i++) {
        const struct es_param *e = es_params_at(p, i);
        const float *a = es_params_data(p, i);
        char dataset[200];
        const char *rest = strncmp(e->name, "model.fpasst.", 13) == 0 ? e->name + 13 : e->name;
        snprintf(dataset, sizeof dataset, "fpasst/%s", rest);
        bool exact = !es_test_h5_has(FILE_PATH, dataset);
        if (exact) snprintf(dataset, sizeof dataset, "deit/%s", rest);
        if (!es_test_h5_has(FILE_PATH, dataset)) { /* the stem and the head: as they were */
            assert_true(strstr(rest, "conv_in_") || strstr(rest, "strong_head"));
            assert_memory_equal(a, es_params_data(before, i), (size_t)e->n * sizeof *a);
            kept++;
            continue;
        }
        int64_t s[4];
        float *want = es_test_h5_read_f32(FILE_PATH, dataset, s, NULL);
        assert_int_equal(s[0] * s[1] * s[2] * s[3], e->n);
        for (int64_t k = 0; k < e->n; k++)
            assert_true(exact ? a[k] == want[k] : fabs((double)a[k] - (double)want[k]) < 1e-6);
        exact ? copied++ : computed++;
        es_free(&want);
    }
    assert_int_equal(copied, 17);
    assert_int_equal(computed, 4);
    assert_int_equal(kept, 8);
    reader_end(&r);
    es_net_free(&net);
    es_params_free(&before);
    es_params_free(&p);
}

static void refused(const char *prefix, struct reader r, enum es_arch arch, int code, const char *text) {
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    struct es_err err = {0};
    new_table(&p, &net, arch);
    assert_int_equal(es_fpasst_from_deit(p, prefix, get, &r, &err), -code);
    if (!strstr(err.msg, text)) print_message("%s\n", err.msg);
    assert_non_null(strstr(err.msg, text));
    reader_end(&r);
    es_net_free(&net);
    es_params_free(&p);
}

static void sources_that_do_not_fit(void **state) {
    (void)state;
    const char *mine = "model.fpasst.";
    refused(mine, (struct reader){.hidden = "blocks.0.mlp.fc1.bias"}, ES_ARCH_FPASST, ES_EDATA,
            "blocks.0.mlp.fc1.bias:");
    refused(mine, (struct reader){.hidden = "dist_token"}, ES_ARCH_FPASST, ES_EDATA, "dist_token:");
    refused(mine, (struct reader){.hidden = "pos_embed"}, ES_ARCH_FPASST, ES_EDATA, "pos_embed:");
    refused(mine, (struct reader){.wrong = "pos_embed"}, ES_ARCH_FPASST, ES_EDATA, "pos_embed:");
    refused(mine, (struct reader){.wrong = "norm.bias"}, ES_ARCH_FPASST, ES_EDATA, "norm.bias:");
    refused(mine, (struct reader){.wrong = "patch_embed.proj.weight"}, ES_ARCH_FPASST, ES_EDATA,
            "proj.weight:");
    refused("model.atst.", (struct reader){0}, ES_ARCH_ATST, ES_EUSAGE, "fpasst");
}

/* The published size: one row from rows 10 to 13 of 24, and columns at their half-pixel places (spec/models.md section 2.1). */
static const float *ramp(void *ctx, const char *name, int *ndim, int64_t shape[ES_MAX_DIM]) {
    static float pos[(2 + 24 * 24) * 4], other[16 * 4 * 3 * 256];
    (void)ctx;
    memset(other, 0, sizeof other);
    *ndim = strstr(name, "_token") ? 3 : strstr(name, "bias") || strstr(name, "norm") ? 1 : 2;
    for (int d = 0; d < ES_MAX_DIM; d++) shape[d] = 1;
    if (strcmp(name, "pos_embed") == 0) {
        for (int r = 0; r < 24; r++)
            for (int c = 0; c < 24; c++) {
                float *at = pos + (2 + 24 * r + c) * 4;
                at[0] = (float)c; /* a ramp over columns */
                at[1] = r == 10;  /* single rows show their weights */
                at[2] = r == 11;
                at[3] = r == 13 ? 2.0f : r == 9 || r == 14 ? 7.0f : 0.0f;
            }
        *ndim = 3;
        shape[1] = 2 + 24 * 24;
        shape[2] = 4;
        return pos;
    }
    if (strcmp(name, "patch_embed.proj.weight") == 0) {
        *ndim = 4;
        shape[0] = 4;
        shape[1] = 3;
        shape[2] = shape[3] = 16;
    } else if (strstr(name, "qkv")) {
        shape[0] = 12;
        shape[1] = 4;
    } else if (strstr(name, "fc1")) {
        shape[0] = 8;
        shape[1] = 4;
    } else if (strstr(name, "_token")) {
        shape[2] = 4;
    } else {
        shape[0] = 4;
        shape[1] = strstr(name, "fc2") ? 8 : 4;
    }
    for (int d = *ndim; d < ES_MAX_DIM; d++) shape[d] = 1;
    return other;
}

static void published_weights(void **state) {
    (void)state;
    struct es_net_config c;
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    es_net_config_published(&c, ES_ARCH_FPASST);
    c.pretrain = true;
    c.transformer.dim = c.transformer.heads = 4;
    c.transformer.mlp = 8;
    c.transformer.depth = 1;
    assert_int_equal(es_params_new(&p, NULL), 0);
    assert_int_equal(es_net_new(&net, &c, p, NULL), 0);
    assert_int_equal(es_params_layout(p, NULL), 0);
    struct es_err err = {0};
    int rc = es_fpasst_from_deit(p, "model.fpasst.", ramp, NULL, &err);
    if (rc < 0) print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    const float *time = es_params_data(p, es_params_find(p, "model.fpasst.time_new_pos_embed")),
                *freq = es_params_data(p, es_params_find(p, "model.fpasst.freq_new_pos_embed"));
    for (int j = 0; j < 250; j++) {
        double place = (j + 0.5) * 24 / 250 - 0.5;
        if (place >= 1 && place < 22)
            assert_true(fabs((double)time[j] - place) < 0.1); /* a = -0.75 bends lines */
        assert_true(fabs((double)time[j] + (double)time[249 - j] - 23) < 1e-5);
        assert_true(fabs((double)time[250 + j] + 0.09375) < 1e-7 &&
                    fabs((double)time[500 + j] - 0.59375) < 1e-7);
        assert_true(fabs((double)time[750 + j] + 2 * 0.09375) < 1e-7);
    }
    assert_true(fabs((double)time[0] + 0.101803) <
                1e-6); /* place -0.452: column 1 weighs so much, the others are column 0 */
    assert_true(fabs((double)freq[0] - 11.5) < 1e-4 && fabs((double)freq[1] + 0.09375) < 1e-7);
    es_net_free(&net);
    es_params_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(like_pytorch),
                                       cmocka_unit_test(sources_that_do_not_fit),
                                       cmocka_unit_test(published_weights)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
