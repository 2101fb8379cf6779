/* The published configurations against the tables of spec/training.md 3.1, 3.3 and 5.1: the values wanted here are set over a second
 * copy of a file, which must change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/bench.h"
#include "earshot/config.h"

#define MAX 24
typedef const char *const *words;

/* ---- by phase */
static const char *const stage1[] = {"phase=stage1",
                                     "train.epochs=200",
                                     "train.validate_every=10",
                                     "train.clip_norm=0",
                                     "optimizer.kind=adamw",
                                     "optimizer.weight_decay=1e-2",
                                     "optimizer.warmup_steps=4000",
                                     "schedule.kind=cosine",
                                     "loss.ssl_warmup_steps=14000",
                                     "loss.ssl_scale_max=2",
                                     "loss.scale=0",
                                     "ema.decay=0.999",
                                     "crnn.dropout=0.3",
                                     "augment.wavmix=0.5",
                                     "augment.wavmix_alpha=0.2",
                                     "augment.mixup=0.5",
                                     "augment.mixup_joint=true",
                                     "augment.dir=0",
                                     "augment.time_mask=false",
                                     "augment.filter=0",
                                     "augment.frame_shift=0",
                                     "augment.gain_db=0",
                                     NULL};
static const char *const stage2[] = {"phase=stage2",
                                     "train.epochs=250",
                                     "train.validate_every=10",
                                     "optimizer.warmup_steps=270",
                                     "optimizer.transformer_lr=1e-4",
                                     "schedule.kind=cosine",
                                     "loss.ssl_warmup_steps=270",
                                     "loss.ssl_scale_max=1",
                                     "loss.ict=true",
                                     "loss.pseudo=0",
                                     "loss.ssl_no_class_mask=false",
                                     "crnn.dropout=0.5",
                                     "augment.wavmix=0.5",
                                     "augment.mixup=0.5",
                                     "augment.dir=0.5",
                                     "augment.time_mask=true",
                                     "augment.time_mask_min=0.05",
                                     "augment.time_mask_max=0.3",
                                     "augment.mixstyle=0.5",
                                     "augment.mixstyle_alpha=0.3",
                                     "augment.filter=0.8",
                                     "augment.frame_shift=0",
                                     NULL};
static const char *const teacher[] = {"phase=pretrain",
                                      "pretrain.head=rnn",
                                      "pretrain.rnn_cells=2048",
                                      "pretrain.rnn_layers=2",
                                      "pretrain.classes=447",
                                      "pretrain.lambda=0",
                                      "train.epochs=30",
                                      "train.clip_norm=0",
                                      "optimizer.kind=adam",
                                      "optimizer.transformer_lr=7e-5",
                                      "optimizer.head_lr=7e-5",
                                      "optimizer.warmup_steps=5000",
                                      "schedule.kind=cosine",
                                      "schedule.head_steps=0",
                                      "augment.wavmix=1",
                                      "augment.wavmix_alpha=2",
                                      "augment.frame_shift=0.125",
                                      "augment.mixup=0.3",
                                      "augment.mixstyle=0.3",
                                      "augment.mixstyle_alpha=0.4",
                                      "augment.filter=0.8",
                                      "augment.freq_warp=0.8",
                                      "augment.time_mask=false",
                                      NULL};
static const char *const student[] = {"phase=pretrain",
                                      "pretrain.head=linear",
                                      "pretrain.classes=447",
                                      "pretrain.lambda=0.9",
                                      "train.epochs=120",
                                      "train.clip_norm=0",
                                      "optimizer.kind=adam",
                                      "optimizer.transformer_lr=1e-4",
                                      "optimizer.head_lr=1e-4",
                                      "optimizer.warmup_steps=5000",
                                      "schedule.kind=cosine",
                                      "augment.wavmix=0.5",
                                      "augment.wavmix_alpha=2",
                                      "augment.frame_shift=0.125",
                                      "augment.mixup=0.3",
                                      "augment.mixstyle=0",
                                      "augment.filter=0",
                                      "augment.freq_warp=0",
                                      NULL};
static const char *const cpjku[] = {"phase=pretrain",
                                    "pretrain.head=task4rnn",
                                    "pretrain.rnn_cells=1024",
                                    "model.wrapper=false",
                                    "pretrain.classes=456",
                                    "pretrain.lambda=0",
                                    "pretrain.validation=cpjku",
                                    "pretrain.median_frames=12",
                                    "train.epochs=10",
                                    "train.validate_every=1",
                                    "train.clip_norm=0.5",
                                    "optimizer.kind=adam",
                                    "optimizer.transformer_lr=1e-5",
                                    "optimizer.head_lr=1e-3",
                                    "optimizer.warmup_steps=0",
                                    "schedule.kind=constant",
                                    "schedule.head_steps=5387",
                                    "schedule.head_end_lr=1e-5",
                                    "augment.mixup=0.3",
                                    "augment.wavmix=0",
                                    "augment.frame_shift=0",
                                    "augment.mixstyle=0",
                                    "augment.filter=0",
                                    NULL};

/* ---- by model */
static const char *const atst[] = {"model.arch=atst", "model.dim=768", "model.depth=12", NULL};
static const char *const fpasst[] = {"model.arch=fpasst", "frontend.fmax_range=2000", NULL};
static const char *const beats[] = {"model.arch=beats", "model.wrapper=false", NULL};

/* ---- by both, and by iteration (5.1) */
#define ONE "train.leaves=1"
#define LAMBDA(m, r, s, w, ssl)                                                                              \
    "loss.maestro=" m, "loss.real=" r, "loss.synthetic=" s, "loss.weak=" w, "loss.ssl=" ssl
#define I1S1                                                                                                 \
    LAMBDA("0.08", "0.05", "0.08", "0.21", "0.58"), "loss.pseudo=0", "optimizer.crnn_lr=1e-3", ONE,          \
        "data.subset_sizes=12,10,10,20,20"
#define I2S1(s)                                                                                              \
    LAMBDA("0.5", "0.25", s, "0.1", "0.1"), "loss.pseudo=1.5", "loss.pseudo_type=bce",                       \
        "optimizer.crnn_lr=5e-4"
#define I1S2                                                                                                 \
    LAMBDA("2", "1", "1", "1", "70"), "optimizer.kind=adam", "optimizer.cnn_lr=1e-4",                        \
        "optimizer.rnn_lr=1e-3", "optimizer.layer_decay=1", ONE, "data.subset_sizes=7,5,5,9,9"
#define I2S2(cnn, rnn, decay)                                                                                \
    LAMBDA("12", "3", "0.25", "1", "60"), "optimizer.kind=adamw", "optimizer.weight_decay=1e-3",             \
        "optimizer.cnn_lr=" cnn, "optimizer.rnn_lr=" rnn, "optimizer.layer_decay=" decay
#define SSL(no_mask, no_maestro)                                                                             \
    "loss.ssl_no_class_mask=" no_mask, "loss.exclude_maestro_weak_ssl=" no_maestro
#define S1_ATST "crnn.embed_pool=aap", "model.wrapper=true", SSL("true", "false"), "augment.mixstyle=0"
#define S1_FPASST                                                                                            \
    "crnn.embed_pool=nearest-exact", "model.wrapper=true", "frontend.fmin_range=1", SSL("false", "true"),    \
        "augment.mixstyle=0"
#define S1_BEATS                                                                                             \
    "crnn.embed_pool=nearest-exact", SSL("true", "false"), "augment.mixstyle=0.5",                           \
        "augment.mixstyle_alpha=0.3"
#define S2_ATST                                                                                              \
    "crnn.embed_pool=aap", "model.wrapper=true", SSL("false", "false"), "augment.freq_warp=0.5",             \
        "augment.freq_warp_maestro=true"
#define S2_FPASST                                                                                            \
    "crnn.embed_pool=nearest-exact", "model.wrapper=true", "frontend.fmin_range=1", SSL("false", "true"),    \
        "augment.freq_warp=0"
#define S2_BEATS                                                                                             \
    "crnn.embed_pool=nearest-exact", SSL("false", "true"), "augment.freq_warp=0.5",                          \
        "augment.freq_warp_maestro=true"

static const struct {
    const char *file;
    words phase, model;
    const char *own[MAX];
} runs[] = {
    {"it1/stage1-atst", stage1, atst, {I1S1, S1_ATST}},
    {"it1/stage1-fpasst", stage1, fpasst, {I1S1, S1_FPASST}},
    {"it1/stage1-beats", stage1, beats, {I1S1, S1_BEATS}},
    {"it2/stage1-atst", stage1, atst, {I2S1("0.12"), S1_ATST, ONE, "data.subset_sizes=12,10,10,20,20"}},
    {"it2/stage1-fpasst", stage1, fpasst, {I2S1("0.12"), S1_FPASST, ONE, "data.subset_sizes=12,10,10,20,20"}},
    {"it2/stage1-beats",
     stage1,
     beats,
     {I2S1("0.08"), S1_BEATS, "train.leaves=4", "data.subset_sizes=3,3,3,5,5"}},
    {"it1/stage2-atst", stage2, atst, {I1S2, S2_ATST}},
    {"it1/stage2-fpasst", stage2, fpasst, {I1S2, S2_FPASST}},
    {"it1/stage2-beats", stage2, beats, {I1S2, S2_BEATS}},
    {"it2/stage2-atst",
     stage2,
     atst,
     {I2S2("1e-5", "1e-4", "0.5"), S2_ATST, "train.leaves=8", "data.subset_sizes=7,5,5,9,9"}},
    {"it2/stage2-fpasst",
     stage2,
     fpasst,
     {I2S2("5e-5", "5e-4", "1"), S2_FPASST, "train.leaves=8", "data.subset_sizes=7,5,5,9,9"}},
    {"it2/stage2-beats",
     stage2,
     beats,
     {I2S2("5e-5", "5e-4", "1"), S2_BEATS, "train.leaves=36", "data.subset_sizes=3,2,2,3,3"}},
    {"pretrain/atst", teacher, atst, {"pretrain.batch=32", "train.leaves=8"}},
    {"pretrain/fpasst", teacher, fpasst, {"frontend.fmin_range=10"}},
    {"pretrain/beats", teacher, beats, {NULL}},
    {"pretrain/student-atst", student, atst, {"pretrain.batch=32", "train.leaves=8"}},
    {"pretrain/student-fpasst", student, fpasst, {"frontend.fmin_range=10"}},
    {"pretrain/student-beats", student, beats, {NULL}},
    {"pretrain/cpjku-atst", cpjku, atst, {"pretrain.batch=8", "train.leaves=8"}},
    {"pretrain/cpjku-fpasst", cpjku, fpasst, {"frontend.fmin_range=10"}},
};

static struct es_config *load(const char *file) {
    struct es_config *cfg = NULL;
    struct es_err err = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/configs/%s.yaml", ES_TEST_SOURCE, file);
    assert_int_equal(es_config_new(&cfg, &err), 0);
    if (es_config_load(cfg, path, &err) < 0) fail_msg("%s", err.msg);
    return cfg;
}

static void set_all(struct es_config *cfg, const char *const *list, int most) {
    struct es_err err = {0};
    for (int i = 0; i < most && list[i]; i++)
        if (es_config_set(cfg, list[i], &err) < 0) fail_msg("%s: %s", list[i], err.msg);
}

static void values(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        struct es_config *cfg = load(runs[r].file), *want = load(runs[r].file);
        struct es_err err = {0};
        char names[1024];
        set_all(want, runs[r].phase, 1 << 10);
        set_all(want, runs[r].model, 1 << 10);
        set_all(want, runs[r].own, MAX);
        if (es_config_finish(cfg, &err) < 0 || es_config_finish(want, &err) < 0)
            fail_msg("%s: %s", runs[r].file, err.msg);
        if (es_config_diff(cfg, want, names, sizeof names) > 0) {
            print_error("%s: not as in the table: %s\n", runs[r].file, names);
            wrong++;
        }
        es_config_free(&want);
        es_config_free(&cfg);
    }
    assert_int_equal(wrong, 0);
}

/* Every run in a folder of its own; a phase starts from the folder of the one before. */
static void chain(void **state) {
    (void)state;
    static const char *const models[] = {"atst", "fpasst", "beats"};
    unsetenv("EARSHOT_WORK");
    unsetenv("EARSHOT_PRETRAIN");
    for (int m = 0; m < 3; m++)
        for (int iteration = 1; iteration <= 2; iteration++) {
            char file[64], want[128];
            snprintf(file, sizeof file, "it%d/stage1-%s", iteration, models[m]);
            struct es_config *first = load(file);
            snprintf(file, sizeof file, "it%d/stage2-%s", iteration, models[m]);
            struct es_config *second = load(file);
            snprintf(file, sizeof file, "pretrain/%s", models[m]);
            struct es_config *before = load(file);
            snprintf(want, sizeof want, "%s/checkpoint-best.h5", es_config_string(first, "run.dir"));
            assert_string_equal(es_config_string(second, "model.init"), want);
            snprintf(want, sizeof want, "build/published/runs/it%d-stage1-%s", iteration, models[m]);
            assert_string_equal(es_config_string(first, "run.dir"), want);
            snprintf(want, sizeof want, "%s/checkpoint-last.h5", es_config_string(before, "run.dir"));
            if (m == 2) snprintf(want, sizeof want, "build/published/weights/beats_as.h5");
            assert_string_equal(es_config_string(first, "model.init"), want);
            es_config_free(&before);
            es_config_free(&second);
            es_config_free(&first);
        }
}

/* `earshot bench step` measures the leaves of these files. */
static void bench_leaves(void **state) {
    (void)state;
    for (enum es_arch a = ES_ARCH_ATST; a < ES_N_ARCHS; a++)
        for (int stage = 1; stage <= 2; stage++) {
            char file[64];
            int size[5], n;
            snprintf(file, sizeof file, "it2/stage%d-%s", stage, es_arch_name(a));
            struct es_config *cfg = load(file);
            es_bench_sizes(stage == 1 ? ES_PHASE_STAGE1 : ES_PHASE_STAGE2, a, 0, size);
            const int *want = es_config_ints(cfg, "data.subset_sizes", &n);
            for (int s = 0; s < 5; s++) assert_int_equal(size[s], want[s]);
            es_config_free(&cfg);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(chain),
                                       cmocka_unit_test(bench_leaves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
