/* config, text, json: precedence, digest, every kind of error, round trips, the reference file. */
#include <glob.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "earshot/config.h"
#include "earshot/fault.h"
#include "earshot/json.h"
#include "earshot/mem.h"
#include "earshot/text.h"

static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static char *slurp(const char *path) {
    struct es_text t = {0};
    char block[4096];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t k; (k = fread(block, 1, sizeof block, f)) > 0;) es_text_add_bytes(&t, block, k);
    fclose(f);
    return t.s;
}

/* Each test works in a folder of its own. */
static char start_folder[1024], folder[64];
static int enter(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/earshot-config-%ld", (long)getpid());
    return getcwd(start_folder, sizeof start_folder) && mkdir(folder, 0777) == 0 && chdir(folder) == 0 ? 0
                                                                                                       : -1;
}

static int leave(void **state) {
    (void)state;
    char command[128];
    if (chdir(start_folder) != 0) return -1;
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct es_config *defaults(void) {
    struct es_config *cfg = NULL;
    struct es_err err = {0};
    assert_int_equal(es_config_new(&cfg, &err), 0);
    return cfg;
}

static void text_helpers(void **state) {
    (void)state;
    const double numbers[] = {
        0, -0.0, 1, 0.1, 1e-3, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456789.123456789, 2e22};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char s[32];
        es_text_from_double(numbers[i], s);
        double back = strtod(s, NULL);
        assert_memory_equal(&back, &numbers[i], sizeof back);
    }
    char s[32];
    es_text_from_double(1e-3, s);
    assert_string_equal(s, "0.001");
    const char *good[] = {"", "plain", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x8e\xa4"};
    for (size_t i = 0; i < 5; i++) assert_int_equal(es_utf8_check(good[i], strlen(good[i])), strlen(good[i]));
    const char *bad[] = {"ab\xff", "ab\xc3",        "ab\xc0\x80", "ab\xed\xa0\x80", "ab\xf4\x90\x80\x80",
                         "ab\x80", "ab\xe0\x80\xaf"};
    for (size_t i = 0; i < 7; i++) assert_int_equal(es_utf8_check(bad[i], strlen(bad[i])), 2);
    assert_int_equal(es_utf8_check("a\0b", 3), 1);

    struct es_nearest n = {.word = "train.leafs"};
    es_nearest_add(&n, "train.epochs");
    es_nearest_add(&n, "train.leaves");
    assert_string_equal(n.best, "train.leaves");
    struct es_nearest tail = {.word = "cnn_lr"};
    es_nearest_add(&tail, "crnn.bn");
    es_nearest_add(&tail, "optimizer.cnn_lr");
    assert_string_equal(tail.best, "optimizer.cnn_lr");
    struct es_nearest none = {.word = "qqqq"};
    es_nearest_add(&none, "train");
    assert_null(none.best);
}

static void json_writes(void **state) {
    (void)state;
    struct es_json *j = NULL;
    struct es_err err = {0};
    assert_int_equal(es_json_new(&j, "out.json", &err), 0);
    es_json_begin_object(j);
    es_json_put_string(j, "a\"b", "x\ny\\\x01\xff");
    es_json_key(j, "list");
    es_json_begin_array(j);
    const double v[] = {0.1, 1e-5, 1e20, -2.5e-9, 1e22, 3, (double)NAN, (double)INFINITY, 5e-324};
    for (int i = 0; i < 9; i++) es_json_number(j, v[i]);
    es_json_end_array(j);
    es_json_put_int(j, "i", INT64_MIN);
    es_json_put_bool(j, "t", true);
    es_json_put_string(j, "none", NULL);
    es_json_key(j, "o");
    es_json_begin_object(j);
    es_json_end_object(j);
    es_json_end_object(j);
    es_json_int(j, 2); /* a second line */
    assert_int_equal(access("out.json", F_OK), -1);
    assert_int_equal(es_json_close(&j, &err), 0);
    assert_null(j);
    char *text = slurp("out.json");
    assert_string_equal(text, "{\"a\\\"b\": \"x\\ny\\\\\\u0001\\ufffd\", \"list\": [0.1, 0.00001, "
                              "100000000000000000000, -0.0000000025, "
                              "10000000000000000000000, 3, null, null, 4.94065645841247e-324], \"i\": "
                              "-9223372036854775808, \"t\": true, "
                              "\"none\": null, \"o\": {}}\n2\n");
    es_free(&text);
    /* plain decimals read back to the same bits */
    assert_int_equal(es_json_new(&j, "numbers.json", &err), 0);
    double x = 1e-29;
    for (int i = 0; i < 100; i++, x *= 3.7) es_json_number(j, x);
    assert_int_equal(es_json_close(&j, &err), 0);
    text = slurp("numbers.json");
    assert_null(strchr(text, 'e'));
    char *at = text;
    x = 1e-29;
    for (int i = 0; i < 100; i++, x *= 3.7) {
        double back = strtod(at, &at);
        assert_memory_equal(&back, &x, sizeof x);
    }
    es_free(&text);
    es_json_begin_object(NULL); /* no writer: nothing happens */
    es_json_put_number(NULL, "x", 1);
    assert_int_equal(es_json_close(&j, &err), 0);

    assert_int_equal(es_json_new(&j, "no/such/folder/out.json", &err), 0);
    es_json_int(j, 1);
    assert_int_equal(es_json_close(&j, &err), -ES_EIO);
    es_fault_init("rename:1", 0);
    assert_int_equal(es_json_new(&j, "out.json", &err), 0);
    es_json_int(j, 1);
    assert_int_equal(es_json_close(&j, &err), -ES_EIO);
    es_fault_init(NULL, 0);
    text = slurp("out.json"); /* the old file is whole, nothing else is left */
    assert_int_equal(text[0], '{');
    es_free(&text);
    assert_int_equal(system("test \"$(ls | wc -l)\" = 2"), 0);
}

static void table_is_sound(void **state) {
    (void)state;
    int n = 0;
    const struct es_config_key *key = es_config_keys(&n);
    assert_true(n > 120);
    for (int i = 0; i < n; i++) {
        assert_non_null(key[i].doc);
        assert_non_null(key[i].preset);
        assert_int_equal(key[i].type == ES_CONFIG_CHOICE, key[i].choices != NULL);
        for (int k = 0; k < i; k++) assert_string_not_equal(key[i].name, key[k].name);
        if (i == 0) continue; /* sections stand together */
        size_t len = strcspn(key[i].name, ".");
        for (int k = 0; k < i - 1; k++)
            if (strncmp(key[k].name, key[i].name, len + 1) == 0)
                assert_int_equal(strncmp(key[i - 1].name, key[i].name, len + 1), 0);
    }
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    assert_int_equal(es_config_finish(cfg, &err), 0);
    assert_true(es_config_is(cfg, "phase", "stage1"));
    assert_int_equal(es_config_int(cfg, "train.epochs"), 200);
    assert_true(es_config_double(cfg, "loss.weak") == 0.21);
    assert_true(es_config_bool(cfg, "model.wrapper"));
    assert_string_equal(es_config_string(cfg, "prepare.weak_tsv"), "metadata/train/weak.tsv");
    int count = 0, sum = 0;
    const int *sizes = es_config_ints(cfg, "data.subset_sizes", &count);
    for (int i = 0; i < count; i++) sum += sizes[i];
    assert_int_equal(count, 5);
    assert_int_equal(sum, 72);
    assert_non_null(es_config_strings(cfg, "data.stores", &count));
    assert_int_equal(count, 0);
    assert_string_equal(es_config_where(cfg, "train.epochs"), "default");
    assert_int_equal(es_config_require(cfg, "data.stores", &err), -ES_EUSAGE);
    assert_string_equal(
        err.msg,
        "default: data.stores: empty, want a list of paths; see earshot train --explain data.stores");
    assert_int_equal(es_config_require(cfg, "phase", &err), 0);
    es_config_free(&cfg);
    assert_null(cfg);
}

static void precedence(void **state) {
    (void)state;
    mkdir("sub", 0777);
    put("bottom.yaml", "train: {epochs: 1, leaves: 2, validate_every: 3}\nrun:\n  seed: 7\n");
    put("sub/middle.yaml", "extends: ../bottom.yaml\ntrain:\n  leaves: 4\n  validate_every: 5\n");
    put("top.yaml", "train.validate_every: 6\nextends: sub/middle.yaml\ndata:\n  stores: [a.h5, 'b c.h5']\n");
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    assert_int_equal(es_config_load(cfg, "top.yaml", &err), 0);
    assert_int_equal(es_config_set(cfg, "run.seed=8", &err), 0);
    assert_int_equal(es_config_set(cfg, "run.seed=9", &err), 0);
    assert_int_equal(es_config_set(cfg, "data.subset_sizes=1,2,3,4,5", &err), 0);
    assert_int_equal(es_config_set(cfg, "crnn.pool_time=[2,1, 2,1,1,1,1]", &err), 0);
    assert_int_equal(es_config_set(cfg, "run.dir=a: b # c", &err), 0);
    assert_int_equal(es_config_finish(cfg, &err), 0);
    assert_int_equal(es_config_int(cfg, "train.epochs"), 1);
    assert_int_equal(es_config_int(cfg, "train.leaves"), 4);
    assert_int_equal(es_config_int(cfg, "train.validate_every"), 6);
    assert_int_equal(es_config_i64(cfg, "run.seed"), 9);
    assert_int_equal(es_config_int(cfg, "model.depth"), 12);
    assert_string_equal(es_config_string(cfg, "run.dir"), "a: b # c");
    assert_string_equal(es_config_where(cfg, "train.epochs"), "sub/../bottom.yaml:1");
    assert_string_equal(es_config_where(cfg, "train.leaves"), "sub/middle.yaml:3");
    assert_string_equal(es_config_where(cfg, "train.validate_every"), "top.yaml:1");
    assert_string_equal(es_config_where(cfg, "run.seed"), "--set");
    assert_string_equal(es_config_where(cfg, "data.subset_sizes"), "--set");
    int n = 0;
    const char *const *stores = es_config_strings(cfg, "data.stores", &n);
    assert_int_equal(n, 2);
    assert_string_equal(stores[1], "b c.h5");
    assert_int_equal(es_config_ints(cfg, "data.subset_sizes", &n)[4], 5);
    assert_int_equal(es_config_ints(cfg, "crnn.pool_time", &n)[2], 2);
    es_config_free(&cfg);
}

/* A list: in its order, each with what it extends itself; the file's own values come last. */
static void extends_list(void **state) {
    (void)state;
    mkdir("sub", 0777);
    put("deep.yaml", "train: {epochs: 1, leaves: 1, validate_every: 1}\n");
    put("sub/first.yaml", "extends: ../deep.yaml\ntrain: {leaves: 2, validate_every: 2}\n");
    put("second.yaml", "train: {validate_every: 3}\nrun: {seed: 3}\n");
    put("x.yaml", "extends: [sub/first.yaml, \"${ES_TEST_NONE:-second}.yaml\"]\nrun: {seed: 4}\n");
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    assert_int_equal(es_config_load(cfg, "x.yaml", &err), 0);
    assert_int_equal(es_config_int(cfg, "train.epochs"), 1);
    assert_int_equal(es_config_int(cfg, "train.leaves"), 2);
    assert_int_equal(es_config_int(cfg, "train.validate_every"), 3);
    assert_int_equal(es_config_i64(cfg, "run.seed"), 4);
    assert_string_equal(es_config_where(cfg, "train.validate_every"), "second.yaml:1");
    es_config_free(&cfg);
}

static void paths_expand(void **state) {
    (void)state;
    setenv("ES_TEST_A", "/data", 1);
    setenv("ES_TEST_EMPTY", "", 1);
    unsetenv("ES_TEST_NONE");
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    const char *cases[][2] = {{"${ES_TEST_A}/x", "/data/x"},
                              {"${ES_TEST_NONE:-here}/x", "here/x"},
                              {"${ES_TEST_EMPTY:-here}", "here"},
                              {"a$b$${c}", "a$b${c}"},
                              {"${ES_TEST_NONE:-}", ""}};
    for (size_t i = 0; i < 5; i++) {
        char text[128];
        snprintf(text, sizeof text, "run.dir=%s", cases[i][0]);
        assert_int_equal(es_config_set(cfg, text, &err), 0);
        assert_string_equal(es_config_string(cfg, "run.dir"), cases[i][1]);
    }
    assert_int_equal(es_config_set(cfg, "run.dir=${ES_TEST_NONE}", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "--set: run.dir: the environment variable ES_TEST_NONE is not set; set it, "
                                 "or write ${ES_TEST_NONE:-default}");
    assert_int_equal(es_config_set(cfg, "run.dir=${bad", &err), -ES_EUSAGE);
    assert_int_equal(es_config_set(cfg, "run.dir=${a+b}", &err), -ES_EUSAGE);
    put("base.yaml", "train: {leaves: 3}\n");
    put("x.yaml", "extends: ${ES_TEST_NONE:-base}.yaml\n");
    assert_int_equal(es_config_load(cfg, "x.yaml", &err), 0);
    assert_int_equal(es_config_int(cfg, "train.leaves"), 3);
    es_config_free(&cfg);
}

static uint64_t digest_of(const char *text, const char *set) {
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    assert_int_equal(es_config_load_text(cfg, "t", text, &err), 0);
    if ((set && es_config_set(cfg, set, &err) < 0) || es_config_finish(cfg, &err) < 0)
        fail_msg("%s", err.msg);
    uint64_t d = es_config_digest(cfg);
    es_config_free(&cfg);
    return d;
}

static void digest_says_same_experiment(void **state) {
    (void)state;
    uint64_t base = digest_of("train: {epochs: 3, leaves: 2}\nrun: {seed: 5}\n", NULL);
    assert_true(base == digest_of("run:\n  seed: 5\ntrain:\n  leaves: 2\n  epochs: 3\n", NULL));
    assert_true(base == digest_of("run:\n  seed: 4\ntrain:\n  leaves: 2\n  epochs: 3\n", "run.seed=5"));
    assert_true(base != digest_of("train: {epochs: 3, leaves: 2}\nrun: {seed: 6}\n", NULL));
    const char *outside[] = {"run.dir=/x",
                             "train.max_steps=9",
                             "run.log_level=debug",
                             "metrics.flush_seconds=1",
                             "checkpoint.every_seconds=5",
                             "checkpoint.every_steps=7",
                             "watchdog.timeout_s=5"};
    for (size_t i = 0; i < 7; i++)
        assert_true(base == digest_of("train: {epochs: 3, leaves: 2}\nrun: {seed: 5}\n", outside[i]));
    assert_true(base != digest_of("train: {epochs: 3, leaves: 2}\nrun: {seed: 5}\n", "threads_per_rank=1"));
    /* every key but those outside changes it */
    int n = 0;
    const struct es_config_key *key = es_config_keys(&n);
    for (int i = 0; i < n; i++) {
        char set[256];
        const char *other =
            key[i].type == ES_CONFIG_BOOL ? (strcmp(key[i].preset, "true") ? "true" : "false") : "1";
        if (key[i].type == ES_CONFIG_DOUBLE || key[i].type == ES_CONFIG_INT)
            other = strcmp(key[i].preset, "1.0") ? "1" : "0.5";
        if (strcmp(other, key[i].preset) == 0) other = "2";
        if (key[i].range && strcmp(key[i].range, "0..<1") == 0) other = "0.25";
        if (strncmp(key[i].name, "demo.maestro_s", 14) == 0) other = "11";
        if (strcmp(key[i].name, "dsp.max_local_samples") == 0) other = "2000";
        if (strncmp(key[i].name, "crnn.", 5) == 0 && key[i].type == ES_CONFIG_INTS) other = "3,3,3,3,3,3,3";
        if (key[i].count == 2) other = "2,4";
        if (key[i].count == 5) other = "1,2,3,4,5";
        if (key[i].count == 27) other = "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1";
        if (key[i].choices) other = strchr(key[i].choices, '|') + 1; /* the last of them, or the first */
        char last[64];
        if (key[i].choices) {
            snprintf(last, sizeof last, "%s", strrchr(key[i].choices, '|') + 1);
            if (strcmp(last, key[i].preset) == 0)
                snprintf(last, sizeof last, "%.*s", (int)strcspn(key[i].choices, "|"), key[i].choices);
            other = last;
        }
        if (strcmp(key[i].name, "model.dim") == 0) other = "24";
        snprintf(set, sizeof set, "%s=%s", key[i].name, other);
        bool same = digest_of("", NULL) == digest_of("", set);
        if (same != key[i].outside_digest)
            fail_msg("%s: digest %s", set, same ? "did not change" : "changed");
    }
}

static void diff_names_keys(void **state) {
    (void)state;
    struct es_config *a = defaults(), *b = defaults();
    struct es_err err = {0};
    char names[64];
    assert_int_equal(es_config_diff(a, b, names, sizeof names), 0);
    assert_string_equal(names, "");
    const char *sets[] = {"run.dir=/y", "crnn.dropout=0.5", "data.stores=[a]",
                          "crnn.filters=[1,2,3,4,5,6,7]"};
    for (int i = 0; i < 4; i++) assert_int_equal(es_config_set(b, sets[i], &err), 0);
    assert_int_equal(es_config_diff(a, b, names, sizeof names), 3);
    assert_string_equal(names, "crnn.filters, crnn.dropout, data.stores");
    char small[12];
    assert_int_equal(es_config_diff(a, b, small, sizeof small), 3);
    assert_string_equal(small, "crnn.filter");
    assert_int_equal(es_config_diff(a, b, NULL, 0), 3);
    es_config_free(&a);
    es_config_free(&b);
}

static void written_file_loads_the_same(void **state) {
    (void)state;
    struct es_config *a = defaults(), *b = defaults();
    struct es_err err = {0};
    put("base.yaml",
        "pretrain: {frames: 100}\nquirks: {fpasst_groups: fixed}\n"); /* ignored: fall back to the default */
    put("x.yaml", "extends: base.yaml\nphase: stage2\nmodel: {arch: beats, wrapper: false, init: \"a "
                  "\\\"b\\\" \\\\ # $${c} \\u20ac\"}\n"
                  "data: {stores: [\"x: y\", '[z]', \"\"]}\noptimizer: {cnn_lr: 1e-5, eps: 3.0e-9}\nprepare: "
                  "{subsets: [a, b]}\n");
    assert_int_equal(es_config_load(a, "x.yaml", &err), 0);
    assert_int_equal(es_config_finish(a, &err), 0);
    assert_int_equal(es_config_int(a, "pretrain.frames"), 250);
    assert_string_equal(es_config_string(a, "model.init"), "a \"b\" \\ # ${c} \xe2\x82\xac");
    assert_int_equal(es_config_write_yaml(a, "y.yaml", &err), 0);
    assert_int_equal(es_config_load(b, "y.yaml", &err), 0);
    assert_int_equal(es_config_finish(b, &err), 0);
    char names[256];
    assert_int_equal(es_config_diff(a, b, names, sizeof names), 0);
    assert_true(es_config_digest(a) == es_config_digest(b));
    char *one = NULL, *two = NULL;
    assert_int_equal(es_config_to_yaml(a, &one, &err), 0);
    assert_int_equal(es_config_to_yaml(b, &two, &err), 0);
    assert_string_equal(one, two);
    int n = 0, lines = 0;
    es_config_keys(&n);
    for (const char *c = one; *c; c++) lines += *c == ':' && c[1] == ' ';
    assert_true(lines >= n); /* complete */
    es_free(&one);
    es_free(&two);
    assert_int_equal(es_config_write_yaml(a, "no/folder/y.yaml", &err), -ES_EIO);
    es_config_free(&a);
    es_config_free(&b);
}

/* What is accepted, written and read again is the same experiment. */
static void assert_same_when_read_again(struct es_config *a, const char *what) {
    struct es_config *b = defaults();
    struct es_err err = {0};
    char *text = NULL, names[256];
    assert_int_equal(es_config_to_yaml(a, &text, &err), 0);
    if (es_config_load_text(b, what, text, &err) < 0 || es_config_finish(b, &err) < 0)
        fail_msg("%s: read again: %s\n%s", what, err.msg, text);
    if (es_config_diff(a, b, names, sizeof names) != 0) fail_msg("%s: other values of %s", what, names);
    assert_true(es_config_digest(a) == es_config_digest(b));
    es_free(&text);
    es_config_free(&b);
}

/* Every configuration here, and what the fuzzer found: a key for another choice than the one that nobody made. */
static void every_config_survives_writing(void **state) {
    (void)state;
    static const char *const texts[] = {
        "optimizer: {transformer_lr: 3e-4}\n", "optimizer: {transformer_lr: 3e-4}\nphase: stage2\n",
        "quirks: {fpasst_groups: fixed}\npretrain: {lambda: 0.5}\nrun: {seed: 3}\n",
        "beats: {layerdrop: 0.5}\nmodel: {arch: beats}\noptimizer: {head_lr: 1}\n"};
    static const char *const folders[] = {"", "/*", "/*/*"};
    glob_t found = {0};
    struct es_err err = {0};
    for (int i = 0; i < 3; i++) {
        char pattern[600];
        snprintf(pattern, sizeof pattern, "%s/configs%s/*.yaml", ES_TEST_SOURCE, folders[i]);
        glob(pattern, i > 0 ? GLOB_APPEND : 0, NULL, &found);
    }
    assert_true(found.gl_pathc > 20);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        if (strstr(found.gl_pathv[i], "/published-sizes.yaml"))
            continue; /* of --set-sizes, no configuration */
        struct es_config *cfg = defaults();
        if (es_config_load(cfg, found.gl_pathv[i], &err) < 0 || es_config_finish(cfg, &err) < 0)
            fail_msg("%s", err.msg);
        assert_same_when_read_again(cfg, found.gl_pathv[i]);
        es_config_free(&cfg);
    }
    globfree(&found);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct es_config *cfg = defaults();
        if (es_config_load_text(cfg, "text", texts[i], &err) < 0 || es_config_finish(cfg, &err) < 0)
            fail_msg("%s", err.msg);
        assert_same_when_read_again(cfg, texts[i]);
        es_config_free(&cfg);
    }
}

static void every_error(void **state) {
    (void)state;
    static const struct {
        const char *text, *msg;
    } cases[] = {
        {"\n\noptimizer:\n  cnn_lr: fast\n", "x.yaml:4: optimizer.cnn_lr: got \"fast\", want a number > 0; "
                                             "see earshot train --explain optimizer.cnn_lr"},
        {"optimizer: {cnn_lr: 0}\n", "x.yaml:1: optimizer.cnn_lr: got \"0\", want a number > 0; see"},
        {"optimizer: {cnn_lr: nan}\n", "x.yaml:1: optimizer.cnn_lr: got \"nan\", want a number > 0; see"},
        {"optimizer: {cnn_lr: 0x1p3}\n", "got \"0x1p3\", want a number > 0; see"},
        {"optimizer: {cnn_lr: }\n", "x.yaml:1: optimizer.cnn_lr: got nothing, want a number > 0; see"},
        {"optimizer: {cnn_lr: ~}\n", "got nothing, want"},
        {"optimizer: {beta1: 1}\n",
         "x.yaml:1: optimizer.beta1: got \"1\", want a number from 0 to below 1; see"},
        {"train: {leaves: 65}\n", "x.yaml:1: train.leaves: got \"65\", want an integer from 1 to 64; see"},
        {"train: {leaves: 1.5}\n", "x.yaml:1: train.leaves: got \"1.5\", want an integer from 1 to 64; see"},
        {"train: {leaves: 99999999999999999999}\n",
         "train.leaves: got \"99999999999999999999\", want an integer"},
        {"model: {wrapper: yes}\n", "x.yaml:1: model.wrapper: got \"yes\", want true or false; see"},
        {"model: {arch: ats}\n",
         "x.yaml:1: model.arch: got \"ats\", want one of atst, fpasst, beats, none; see"},
        {"model: {arch: \"atst|fpasst\"}\n", "want one of atst, fpasst, beats, none; see"},
        {"data: {subset_sizes: [1, 2]}\n",
         "x.yaml:1: data.subset_sizes: got \"2 items\", want a list of 5 integers from 0 to 1024; see"},
        {"data: {subset_sizes: [1, 2, 3, 4, x]}\n",
         "x.yaml:1: data.subset_sizes: got \"x\", want a list of 5 integers"},
        {"data: {stores: a.h5}\n", "x.yaml:1: data.stores: got \"a.h5\", want a list of paths; see"},
        {"run: {dir: [a]}\n", "x.yaml:1: run.dir: got \"a list\", want a path; see"},
        {"prepare: {weak_split: 2}\n", "see earshot prepare --explain prepare.weak_split"},
        {"optimizer: {cnn_rl: 1}\n", "x.yaml:1: optimizer.cnn_rl: unknown key, nearest is optimizer.cnn_lr; "
                                     "see earshot train --explain optimizer.cnn_lr"},
        {"\noptimiser:\n  cnn_lr: 1\n",
         "x.yaml:2: optimiser: unknown section, nearest is optimizer; see earshot train --explain optimizer"},
        {"zzzzzzzzzzzzz: 1\n", "x.yaml:1: zzzzzzzzzzzzz: unknown key; see configs/reference.yaml"},
        {"cnn_lr: 1\n", "x.yaml:1: cnn_lr: unknown key, nearest is optimizer.cnn_lr; see"},
        {"optimizer: 1\n",
         "x.yaml:1: optimizer: is a section, want keys below it; see earshot train --explain optimizer"},
        {"phase: {a: 1}\n",
         "x.yaml:1: phase: got a section, want a value; see earshot train --explain phase"},
        {"train: {epochs: 1, epochs: 2}\n", "x.yaml:1: train.epochs: given twice, first at x.yaml:1"},
        {"train.epochs: 1\ntrain: {epochs: 2}\n", "x.yaml:2: train.epochs: given twice, first at x.yaml:1"},
        {"train:\n  epochs: 1\ntrain:\n  leaves: 2\n",
         "x.yaml:3: train: this section is already at line 2; join the two"},
        {"train:\n\tepochs: 1\n", "x.yaml:2: a tab as indentation, want spaces"},
        {"train:\n epochs: 1\n  leaves: 2\n",
         "x.yaml:3: not valid YAML: mapping values are not allowed in this context"},
        {"a: [1\n", "not valid YAML: "},
        {"a: \"x\n", "not valid YAML: "},
        {"- a\n- b\n", "x.yaml:1: got a list or a word, want sections and keys: key: value"},
        {"hello\n", "x.yaml:1: got a list or a word, want sections and keys: key: value"},
        {"data: {stores: [[a]]}\n", "x.yaml:1: got a list or section inside a list, want plain values"},
        {"data: {stores: [{a: b}]}\n", "x.yaml:1: got a list or section inside a list, want plain values"},
        {"run: {dir: &a x}\n",
         "x.yaml:1: anchors and aliases (& and *) are not supported; write the value out"},
        {"run: &a {dir: x}\n", "x.yaml:1: anchors and aliases"},
        {"run: {dir: *a}\n", "x.yaml:1: anchors and aliases"},
        {"run: {dir: !!str x}\n", "x.yaml:1: tags (!) are not supported; write the plain value"},
        {"? [a, b]\n: 1\n", "x.yaml:1: want a key, a plain word"},
        {"run: {dir: \"a\\0b\"}\n", "x.yaml:1: a zero character in a value"},
        {"phase: stage1\n---\nphase: stage2\n", "x.yaml:2: a second document (---), want one"},
        {"run:\n  dir: \"\xff\"\n", "x.yaml:2: byte 0xff: not UTF-8 text"},
        {"extends: []\n", "x.yaml:1: extends: want the path of a file, or a list of them"},
        {"extends: [base.yaml, '']\n", "x.yaml:1: extends: want the path of a file, or a list of them"},
        {"extends: [broken.yaml, gone.yaml]\n",
         "gone.yaml: cannot open the configuration extended by x.yaml: No such file or directory"},
        {"extends: a\nextends: b\n", "x.yaml:2: extends: given twice"},
        {"extends: gone.yaml\n",
         "gone.yaml: cannot open the configuration extended by x.yaml: No such file or directory"},
        {"extends: x.yaml\n", "x.yaml: extends: a circle: this file extends itself through 1 files"},
        {"extends: loop.yaml\n", "x.yaml: extends: a circle: this file extends itself through 2 files"},
        {"extends: broken.yaml\n",
         "broken.yaml:2: train.leaves: got \"many\", want an integer from 1 to 64; see"},
        {"train: {extends: y}\n", "x.yaml:1: train.extends: unknown key, nearest is "},
        {"crnn: {filters: [1, 2]}\n",
         "x.yaml:1: crnn.filters: got 2 blocks with 7 crnn.pool_time and 7 crnn.pool_freq, want as many"},
        {"model: {heads: 7}\n", "x.yaml:1: model.heads: got 7, want a divisor of model.dim 768"},
        {"augment: {filter_bands: [5, 3]}\n",
         "x.yaml:1: augment.filter_bands: got [5, 3], want the fewer first"},
        {"augment: {time_mask_min: 0.5}\n",
         "x.yaml:1: augment.time_mask_min: got 0.5, want at most augment.time_mask_max 0.3"},
        {"demo: {snr_min_db: 20}\n", "x.yaml:1: demo.snr_min_db: got 20, want at most demo.snr_max_db 12"},
        {"phase: pretrain\nloss: {weak: 3}\n", "x.yaml:2: loss.weak: not used with phase pretrain; remove "
                                               "it; see earshot train --explain loss.weak"},
        {"model: {arch: beats}\nquirks: {atst_floor: batch}\n",
         "x.yaml:2: quirks.atst_floor: not used with model.arch beats; remove it"},
    };
    put("loop.yaml", "extends: x.yaml\n");
    put("broken.yaml", "\ntrain: {leaves: many}\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct es_config *cfg = defaults();
        struct es_err err = {0};
        put("x.yaml", cases[i].text);
        int rc = es_config_load(cfg, "x.yaml", &err);
        if (rc == 0) rc = es_config_finish(cfg, &err);
        if (rc != -ES_EUSAGE || !strstr(err.msg, cases[i].msg))
            fail_msg("case %zu: rc %d, got: %s\nwant: %s", i, rc, err.msg, cases[i].msg);
        assert_null(strchr(err.msg, '\n'));
        assert_true(strlen(err.msg) < 300);
        es_config_free(&cfg);
    }
}

static void bad_files(void **state) {
    (void)state;
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    assert_int_equal(es_config_load(cfg, "nothing.yaml", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "nothing.yaml: cannot open the configuration: No such file or directory");
    assert_int_equal(es_config_load(cfg, ".", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, ".: cannot read the configuration: Is a directory");
    FILE *f = fopen("big.yaml", "wb");
    for (int i = 0; i < 110000; i++) fputs("# a line\n", f);
    fclose(f);
    assert_int_equal(es_config_load(cfg, "big.yaml", &err), 0); /* 990,000 bytes */
    f = fopen("big.yaml", "ab");
    for (int i = 0; i < 10000; i++) fputs("# a line\n", f);
    fclose(f);
    assert_int_equal(es_config_load(cfg, "big.yaml", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "big.yaml: more than 1 MB: not a configuration");
    put("empty.yaml", "");
    put("comment.yaml", "\xef\xbb\xbf# nothing\r\n");
    put("crlf.yaml", "train:\r\n  leaves: 3\r\n");
    assert_int_equal(es_config_load(cfg, "empty.yaml", &err), 0);
    assert_int_equal(es_config_load(cfg, "comment.yaml", &err), 0);
    assert_int_equal(es_config_load(cfg, "crlf.yaml", &err), 0);
    assert_int_equal(es_config_int(cfg, "train.leaves"), 3);
    char name[32], text[64];
    for (int i = 0; i < 17; i++) {
        snprintf(name, sizeof name, "deep%d.yaml", i);
        snprintf(text, sizeof text, "extends: deep%d.yaml\n", i + 1);
        put(name, i == 16 ? "run: {seed: 1}\n" : text);
    }
    assert_int_equal(es_config_load(cfg, "deep1.yaml", &err), 0);
    assert_int_equal(es_config_load(cfg, "deep0.yaml", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "deep16.yaml: extends: more than 16 levels");
    es_fault_init("read:1", 0);
    assert_int_equal(es_config_load(cfg, "crlf.yaml", &err), -ES_EUSAGE);
    es_fault_init(NULL, 0);
    const char *sets[][2] = {
        {"train.leaves", "--set: got \"train.leaves\", want key=value"},
        {"=3", "--set: got \"=3\", want key=value"},
        {"train.leaves=x", "--set: train.leaves: got \"x\", want an integer from 1 to 64; see"},
        {"train.leafs=1", "--set: train.leafs: unknown key, nearest is train.leaves; see"},
        {"run.dir=\xff", "--set: run.dir: not UTF-8 text"},
        {"data.stores=[a", "--set:"},
        {"data.stores=[a]\nrun.seed: 3", "want key=value"}};
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(es_config_set(cfg, sets[i][0], &err), -ES_EUSAGE);
        if (!strstr(err.msg, sets[i][1])) fail_msg("got %s, want %s", err.msg, sets[i][1]);
    }
    es_config_free(&cfg);
}

static int whole_life(struct es_err *err) {
    struct es_config *cfg = NULL;
    char *text = NULL;
    int rc = es_config_new(&cfg, err);
    if (rc == 0) rc = es_config_load(cfg, "x.yaml", err);
    if (rc == 0) rc = es_config_set(cfg, "data.stores=a,b", err);
    if (rc == 0) rc = es_config_finish(cfg, err);
    if (rc == 0) rc = es_config_to_yaml(cfg, &text, err);
    es_free(&text);
    es_config_free(&cfg);
    return rc;
}

/* Fails the 1st, 2nd, ... allocation until all succeed: an error each time, never a leak. */
static void out_of_memory(void **state) {
    (void)state;
    put("base.yaml", "train: {leaves: 2}\npretrain: {frames: 3}\n");
    put("x.yaml", "extends: base.yaml\nphase: stage2\nrun: {dir: \"${HOME:-x}/y\"}\ncrnn: {filters: [1, 2, "
                  "3, 4, 5, 6, 7]}\n");
    int64_t live = es_mem_live_blocks();
    int failures = 0, rc = -1;
    for (int n = 1; rc != 0 && n < 20000; n++) {
        char fault[32];
        struct es_err err = {0};
        snprintf(fault, sizeof fault, "malloc:%d", n);
        es_fault_init(fault, 0);
        rc = whole_life(&err);
        es_fault_init(NULL, 0);
        assert_int_equal(es_mem_live_blocks(), live);
        if (rc == 0) break;
        if (rc != -ES_EIO || !strstr(err.msg, "out of memory"))
            fail_msg("allocation %d: rc %d, %s", n, rc, err.msg);
        failures++;
    }
    assert_int_equal(rc, 0);
    assert_true(failures > 50);
}

static void explains(void **state) {
    (void)state;
    struct es_config *cfg = defaults();
    struct es_err err = {0};
    put("x.yaml", "\noptimizer: {cnn_lr: 5e-5}\n");
    assert_int_equal(es_config_load(cfg, "x.yaml", &err), 0);
    FILE *f = fopen("out.txt", "wb");
    assert_int_equal(es_config_explain("optimizer.cnn_lr", cfg, f, &err), 0);
    assert_int_equal(es_config_explain("loss", NULL, f, &err), 0);
    fclose(f);
    char *text = slurp("out.txt");
    const char *want[] = {"optimizer.cnn_lr: peak learning rate of the convolutions\n",
                          "a number > 0",
                          "only with phase stage2",
                          "default: 1e-4\n",
                          "since:   0.1.0",
                          "here:    5e-05, from x.yaml:2\n",
                          "loss.pseudo = 0\n"};
    for (size_t i = 0; i < 7; i++)
        if (!strstr(text, want[i])) fail_msg("no \"%s\" in: %s", want[i], text);
    es_free(&text);
    assert_int_equal(es_config_explain("optimizer.cnn_rl", NULL, stdout, &err), -ES_EUSAGE);
    assert_non_null(strstr(err.msg, "nearest is optimizer.cnn_lr"));
    es_config_free(&cfg);
}

/* configs/reference.yaml is what the table says, and loading it changes nothing. */
static void reference_is_up_to_date(void **state) {
    (void)state;
    struct es_err err = {0};
    FILE *f = fopen("reference.yaml", "wb");
    assert_int_equal(es_config_write_reference(f, &err), 0);
    fclose(f);
    char *now = slurp("reference.yaml"), *committed = slurp(ES_TEST_SOURCE "/configs/reference.yaml");
    if (strcmp(now, committed) != 0) fail_msg("run: earshot --reference > configs/reference.yaml");
    es_free(&now);
    es_free(&committed);
    struct es_config *a = defaults(), *b = defaults();
    assert_int_equal(es_config_load(a, "reference.yaml", &err), 0);
    assert_int_equal(es_config_finish(a, &err), 0);
    assert_int_equal(es_config_finish(b, &err), 0);
    assert_int_equal(es_config_diff(a, b, NULL, 0), 0);
    int n = 0;
    const struct es_config_key *key = es_config_keys(&n);
    for (int i = 0; i < n; i++)
        assert_int_equal(strncmp(es_config_where(a, key[i].name), "reference.yaml:", 15), 0);
    assert_int_equal(es_config_load(b, ES_TEST_SOURCE "/configs/base.yaml", &err), 0);
    assert_int_equal(es_config_finish(b, &err), 0);
    es_config_free(&a);
    es_config_free(&b);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, enter, leave)
    const struct CMUnitTest tests[] = {
        TEST(text_helpers),
        TEST(json_writes),
        TEST(table_is_sound),
        TEST(precedence),
        TEST(extends_list),
        TEST(paths_expand),
        TEST(digest_says_same_experiment),
        TEST(diff_names_keys),
        TEST(written_file_loads_the_same),
        TEST(every_config_survives_writing),
        TEST(every_error),
        TEST(bad_files),
        TEST(out_of_memory),
        TEST(explains),
        TEST(reference_is_up_to_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
