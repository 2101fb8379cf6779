/* Tables: accepted forms, and the message for everything that is refused; names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/mem.h"
#include "earshot/tsv.h"

#include "io_help.h"

static const char *const strong[] = {"filename", "onset", "offset", "event_label", "?confidence"};
static char dir[256], path[512];
/* A byte order mark, CRLF, a last line without an end. */
#define BOM                                                                                                  \
    "\xef\xbb\xbf"                                                                                           \
    "filename\tonset\toffset\tevent_label\r\na.wav\t0.5\t1.25\tDog\r\n\r\nb.wav\t\t\t"

static int open_text(struct es_tsv **t, const char *text, unsigned flags, struct es_err *err) {
    help_text(help_path(path, dir, "t.tsv"), text);
    return es_tsv_open(t, path, strong, 5, flags, err);
}

static void accepts(void **state) {
    (void)state;
    static const char *const forms[] = {
        "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.25\tDog\n\nb.wav\t\t\t\n", BOM,
        "event_label\textra\toffset\tonset\tfilename\nDog\tx\t1.25\t0.5\ta.wav\n\n\t\t\t\tb.wav\n"};
    for (int i = 0; i < 3; i++) {
        struct es_tsv *t = NULL;
        struct es_err err = {0};
        double on, off;
        assert_int_equal(open_text(&t, forms[i], 0, &err), 0);
        assert_int_equal(es_tsv_rows(t), 2);
        assert_string_equal(es_tsv_text(t, 0, 0), "a.wav");
        assert_string_equal(es_tsv_text(t, 0, 3), "Dog");
        assert_int_equal(es_tsv_times(t, 0, 1, 2, &on, &off, &err), 0);
        assert_true(on == 0.5 && off == 1.25);
        assert_int_equal(es_tsv_line(t, 1), 4);
        assert_string_equal(es_tsv_text(t, 1, 1), "");
        assert_false(es_tsv_has(t, 4));
        assert_null(es_tsv_text(t, 1, 4));
        es_tsv_close(&t);
    }
    struct es_tsv *t = NULL;
    assert_int_equal(open_text(&t, "0\t1\tcar\tx\n1\t2\tdog\ty\n", ES_TSV_NO_HEADER, NULL), 0);
    assert_int_equal(es_tsv_rows(t), 2);
    assert_string_equal(es_tsv_text(t, 1, 2), "dog");
    es_tsv_close(&t);
    assert_int_equal(open_text(&t, "", ES_TSV_NO_HEADER, NULL), 0);
    assert_int_equal(es_tsv_rows(t), 0);
    es_tsv_close(&t);
    assert_int_equal(open_text(&t, "filename\tonset\toffset\tevent_label\n", 0, NULL), 0);
    assert_int_equal(es_tsv_rows(t), 0);
    es_tsv_close(&t);
}

static void refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *where, *what;
    } bad[] = {{"filename\tonset\toffset\tlabel\n", "t.tsv:1: columns: got \"filename onset offset label\"",
                "\"event_label\""},
               {"", "t.tsv:1", "empty"},
               {"filename,onset,offset,event_label\n", "t.tsv:1", "\"filename\""},
               {"filename\tonset\tonset\toffset\tevent_label\n", "t.tsv:1", "twice"},
               {"filename\tonset\toffset\tevent_label\na\t1\t2\n", "t.tsv:2: row: got 3 fields", "want 4"},
               {"filename\tonset\toffset\tevent_label\r\na\t1\t2\tDog\tx\r\n", "t.tsv:2: row: got 5 fields",
                "want 4"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct es_tsv *t = NULL;
        struct es_err err = {0};
        help_failed(open_text(&t, bad[i].text, 0, &err), &err, ES_EDATA, bad[i].where, bad[i].what);
        assert_null(t);
    }
    static const struct {
        const char *onset, *offset, *where, *what;
    } times[] = {{"-0.5", "1", "t.tsv:2: onset: got \"-0.5\"", "0 or more"},
                 {"2", "1.5", "t.tsv:2: offset: got \"1.5\"", "not before the onset 2"},
                 {"x", "1", "t.tsv:2: onset: got \"x\"", "a number"},
                 {"1", "", "t.tsv:2: offset: got \"\"", "a number"},
                 {"1", "nan", "t.tsv:2: offset: got \"nan\"", "a number"},
                 {"0x1", "2", "t.tsv:2: onset", "a number"},
                 {"1,5", "2", "t.tsv:2: onset", "a number"},
                 {"1", "1e999", "t.tsv:2: offset", "a number"},
                 {" 1", "2", "t.tsv:2: onset", "a number"}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct es_tsv *t = NULL;
        struct es_err err = {0};
        char text[200];
        double on, off;
        snprintf(text, sizeof text, "filename\tonset\toffset\tevent_label\na\t%s\t%s\tDog\n", times[i].onset,
                 times[i].offset);
        assert_int_equal(open_text(&t, text, 0, &err), 0);
        help_failed(es_tsv_times(t, 0, 1, 2, &on, &off, &err), &err, ES_EDATA, times[i].where, times[i].what);
        es_tsv_close(&t);
    }
    struct es_tsv *t = NULL;
    struct es_err err = {0};
    help_failed(es_tsv_open(&t, "no/such.tsv", strong, 5, 0, &err), &err, ES_EIO, "no/such.tsv",
                "No such file");
    help_failed(es_tsv_open(&t, dir, strong, 5, 0, &err), &err, ES_EDATA, dir, "folder");
    help_write(help_path(path, dir, "z.tsv"), "file\0name", 9);
    help_failed(es_tsv_open(&t, path, strong, 5, 0, &err), &err, ES_EDATA, "z.tsv", "not text");
}

static void numbers(void **state) {
    (void)state;
    double v;
    assert_true(es_number_from_text("0.1", &v) && v == 0.1);
    assert_true(es_number_from_text("9007199254740993", &v) && v == 9007199254740992.0); /* halves to even */
    assert_true(es_number_from_text("1.7976931348623157e308", &v));
    assert_true(es_number_from_text("2.2250738585072011e-308", &v) && v == 2.2250738585072011e-308);
    static const char *const no[] = {"", "1 ", "infinity", "--1", "1e", "0x10", "1.2.3", "."};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(es_number_from_text(no[i], &v));
}

static void names(void **state) {
    (void)state;
    struct es_names *n = NULL;
    assert_int_equal(es_names_new(&n, NULL), 0);
    assert_int_equal(es_names_find(n, "x"), -1);
    char text[32];
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "clip %d", i * 7 % 5003);
        assert_int_equal(es_names_add(n, text, NULL), i);
        assert_int_equal(es_names_add(n, text, NULL), i);
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "clip %d", i * 7 % 5003);
        assert_int_equal(es_names_find(n, text), i);
        assert_string_equal(es_names_get(n, i), text);
    }
    assert_int_equal(es_names_count(n), 5000);
    es_names_free(&n);
}

/* Whichever allocation fails: an error, and nothing stays allocated. */
static void out_of_memory(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks();
    int rc = -1;
    for (int k = 1; rc < 0; k++) {
        char spec[32];
        struct es_tsv *t = NULL;
        struct es_err err = {0};
        snprintf(spec, sizeof spec, "malloc:%d", k);
        es_fault_init(spec, 0);
        rc = open_text(&t, "filename\tonset\toffset\tevent_label\na\t1\t2\tDog\n", 0, &err);
        es_fault_init(NULL, 0);
        if (rc < 0) assert_int_equal(rc, -ES_EIO);
        es_tsv_close(&t);
        assert_int_equal(es_mem_live_blocks(), before);
        assert_true(k < 20);
    }
}

static int setup(void **state) {
    (void)state;
    help_dir(NULL, "tsv", dir);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    help_dir_end(NULL, dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(accepts), cmocka_unit_test(refuses),
                                       cmocka_unit_test(numbers), cmocka_unit_test(names),
                                       cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
