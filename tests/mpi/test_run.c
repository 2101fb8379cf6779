/* RANKS 1 2
 * TIMEOUT 60
 *
 * es_run: without arguments one open, getters and close in this process; with arguments a job of its own,
 * which test_run_cli.sh starts in every right and wrong way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/mem.h"
#include "earshot/run.h"

static int job(struct es_run *run, struct es_err *err) {
    const struct es_comm *comm = es_run_comm(run);
    struct es_config *cfg = es_run_config(run);
    int64_t fail = -1, steps = 7;
    ES_TRY(es_run_option_int(run, "fail", 0, 63, &fail, err));
    ES_TRY(es_run_option_int(run, "steps", 1, 100, &steps, err));
    struct es_json *j = es_run_json(run);
    char digest[32];
    snprintf(digest, sizeof digest, "%016llx", (unsigned long long)es_config_digest(cfg));
    es_json_begin_object(j);
    es_json_put_int(j, "ranks", es_comm_size(comm));
    es_json_put_int(j, "threads", es_run_threads(run));
    es_json_put_int(j, "steps", steps);
    es_json_put_string(j, "digest", digest);
    es_json_put_string(j, "out", es_run_option(run, "out"));
    es_json_put_int(j, "leaves", es_config_int(cfg, "train.leaves"));
    es_json_end_object(j);
    es_run_print(run, "leaves %d from %s\n", es_config_int(cfg, "train.leaves"),
                 es_config_where(cfg, "train.leaves"));
    for (int i = 0; i < es_run_operands(run); i++) es_run_print(run, "operand %s\n", es_run_operand(run, i));
    if (fail == es_comm_rank(comm)) {
        es_err_set(err, ES_EDATA, "a.h5:/x: got 1, want 2");
        return es_err_hint(err, "write it again");
    }
    ES_ASSERT(!es_run_flag(run, "bug"));
    while (es_run_flag(run, "stall") && !es_stop_requested()) continue;
    if (es_run_flag(run, "stall")) return ES_STOPPED;
    return es_run_flag(run, "stop") ? ES_STOPPED : 0;
}

static const struct es_job_option options[] = {
    {.name = "out", .arg = "FILE", .doc = "where to write"},
    {.name = "which", .arg = "NAME", .doc = "student or teacher", .choices = "student|teacher"},
    {.name = "add", .arg = "X", .doc = "one more", .repeat = true},
    {.name = "steps", .arg = "N", .doc = "how many"},
    {.name = "rate", .arg = "X", .doc = "how fast"},
    {.name = "fail", .arg = "RANK", .doc = "the rank to fail"},
    {.name = "stop", .doc = "stop early"},
    {.name = "stall", .doc = "never return"},
    {.name = "bug", .doc = "run into an assertion"},
    {0},
};

static const struct es_job_spec spec = {.name = "train",
                                        .purpose = "a job of the tests",
                                        .synopsis = "[options] [FILE FILE]",
                                        .options = options,
                                        .long_running = true,
                                        .operands_max = 2,
                                        .operands = "at most two files",
                                        .sections = "train optimizer",
                                        .example = "earshot train",
                                        .run = job};

static void open_and_close(void **state) {
    (void)state;
    char *argv[] = {(char[]){"train"},
                    (char[]){"--out=x=y"},
                    (char[]){"one"},
                    (char[]){"--add"},
                    (char[]){"-1"},
                    (char[]){"--stop"},
                    (char[]){"--add=b"},
                    (char[]){"--set"},
                    (char[]){"train.leaves=2"},
                    (char[]){"--set=train.epochs=3"},
                    (char[]){"--config"},
                    (char[]){ES_TEST_SOURCE "/configs/base.yaml"},
                    (char[]){"--rate"},
                    (char[]){"2.5"},
                    (char[]){"--quiet"},
                    (char[]){"--"},
                    (char[]){"--two"},
                    NULL};
    struct es_err err = {0};
    struct es_run *run = NULL;
    int rc = es_run_open_all(&run, 17, argv, &spec, &err);
    if (rc != 0) fail_msg("%s", err.msg);
    assert_string_equal(es_run_option(run, "out"), "x=y");
    assert_null(es_run_option(run, "which"));
    assert_true(es_run_flag(run, "stop") && !es_run_flag(run, "stall"));
    assert_int_equal(es_run_option_count(run, "add"), 2);
    assert_string_equal(es_run_option_at(run, "add", 0), "-1");
    assert_string_equal(es_run_option(run, "add"), "b");
    assert_int_equal(es_run_operands(run), 2);
    assert_string_equal(es_run_operand(run, 0), "one");
    assert_string_equal(es_run_operand(run, 1), "--two");
    assert_string_equal(es_run_option(run, "config"), ES_TEST_SOURCE "/configs/base.yaml");
    assert_true(es_run_quiet(run) && !es_run_check(run));
    assert_null(es_run_json(run));
    assert_true(es_run_threads(run) >= 1);
    int n = 0;
    es_config_strings(es_run_config(run), "data.stores", &n);
    assert_int_equal(n, 2);
    assert_int_equal(es_config_int(es_run_config(run), "train.leaves"), 2);
    int64_t i = 5;
    double d = 5;
    assert_int_equal(es_run_option_int(run, "steps", 0, 9, &i, &err), 0);
    assert_int_equal(i, 5);
    assert_int_equal(es_run_option_int(run, "out", 0, 9, &i, &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "--out: got \"x=y\", want an integer from 0 to 9");
    assert_int_equal(es_run_option_double(run, "rate", 0, 9, &d, &err), 0);
    assert_true(d == 2.5);
    assert_int_equal(es_run_option_double(run, "rate", 3, 9, &d, &err), -ES_EUSAGE);
    assert_int_equal(es_run_option_require(run, "rate", &err), 0);
    assert_int_equal(es_run_option_require(run, "which", &err), -ES_EUSAGE);
    assert_string_equal(err.msg, "--which NAME is missing; see earshot train --help");
    uint64_t digest = es_config_digest(es_run_config(run));
    es_comm_assert_same_all(es_run_comm(run), digest);
    assert_int_equal(es_run_close_all(&run, 0, &err), 0);
    assert_null(run);
    assert_int_equal(es_mem_live_blocks(), 0);
}

int main(int argc, char **argv) {
    if (argc == 1) {
        const struct CMUnitTest tests[] = {cmocka_unit_test(open_and_close)};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    struct es_err err = {0};
    struct es_run *run = NULL;
    int rc = es_run_open_all(&run, argc, argv, &spec, &err);
    if (rc == 0) rc = spec.run(run, &err);
    return es_run_close_all(&run, rc, &err);
}
