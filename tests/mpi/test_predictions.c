/* Predictions: the same file from any number of ranks; a run that was stopped goes on; published layouts load.
 * RANKS 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <time.h>

#include "earshot/h5.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"

#include "io_help.h"

enum { N = 29, T = 6, K = 3, BLOCK = 4 };
static struct es_comm *comm, *alone;
static char dir[256], path[512], text[N][16];
static const char *names[N];
static const char *const classes[K] = {"a", "b c", "d"};

static float logit(int64_t clip, int i) {
    return (float)(clip * 100 + i) / 8.0f - 20.0f;
}

static struct es_predictions_desc describe(void) {
    return (struct es_predictions_desc){.n_clips = N,
                                        .n_frames = T,
                                        .n_classes = K,
                                        .block_clips = BLOCK,
                                        .names = names,
                                        .classes = classes,
                                        .model_digest = 0xfffffffffffffff1u,
                                        .store_digest = 2,
                                        .config_digest = 3,
                                        .which = "student"};
}

/* Up to `most` blocks that are not done: the i-th goes to rank i mod P. Returns how many were written. */
static int64_t write_some(struct es_predictions_writer **w, const struct es_comm *c, int64_t most) {
    int64_t todo[16], n = 0;
    int rank = es_comm_rank(c), size = es_comm_size(c);
    for (int64_t b = 0; b < es_predictions_n_blocks(*w) && n < most; b++)
        if (!es_predictions_done(*w, b)) todo[n++] = b;
    for (int64_t i = 0; i < n; i += size) {
        float block[BLOCK * T * K];
        int64_t b = i + rank < n ? todo[i + rank] : -1;
        for (int k = 0; k < BLOCK * T * K; k++) block[k] = logit(b * BLOCK + k / (T * K), k % (T * K));
        assert_int_equal(es_predictions_write_all(w, b, block, NULL), 0);
    }
    return n;
}

static void check_file(const char *file) {
    struct es_predictions *p = NULL;
    struct es_err err = {0};
    float all[N * T * K];
    assert_int_equal(es_predictions_open(&p, file, &err), 0);
    assert_true(es_predictions_n_clips(p) == N && es_predictions_n_frames(p) == T &&
                es_predictions_n_classes(p) == K);
    assert_true(es_predictions_is_direct(p));
    assert_int_equal(es_predictions_store_digest(p), 2);
    assert_string_equal(es_predictions_classes(p)[1], "b c");
    for (int i = 0; i < N; i++) {
        assert_string_equal(es_predictions_name(p, i), names[i]);
        assert_int_equal(es_predictions_find(p, names[i]), i);
    }
    assert_int_equal(es_predictions_find(p, "no such clip"), -1);
    assert_int_equal(es_predictions_read(p, 0, N, all, &err), 0);
    for (int i = 0; i < N * T * K; i++) assert_true(all[i] == logit(i / (T * K), i % (T * K)));
    assert_int_equal(es_predictions_read(p, 17, 1, all, &err), 0);
    assert_true(all[5] == logit(17, 5));
    es_predictions_close(&p);
}

static void any_ranks_and_resume(void **state) {
    (void)state;
    struct es_predictions_writer *w = NULL;
    struct es_predictions_desc d = describe();
    struct es_err err = {0};
    uint64_t digest[3];
    char own[512], name[32], part[512];
    assert_int_equal(es_predictions_begin_all(&w, comm, help_path(path, dir, "p.h5"), &d, &err), 0);
    assert_int_equal(es_predictions_n_blocks(w), 8);
    assert_int_equal(write_some(&w, comm, 100), 8);
    assert_int_equal(es_predictions_finish_all(&w, &err), 0);
    assert_null(w);
    check_file(path);
    assert_int_equal(es_h5_digest_all(comm, path, &digest[0], &err), 0);

    snprintf(name, sizeof name, "alone-%d.h5", es_comm_rank(comm));
    help_path(own, dir, name);
    snprintf(part, sizeof part, "%s.part", own);
    for (int run = 0; run < 4; run++) { /* alone, in runs of 3 blocks */
        assert_int_equal(es_predictions_begin_all(&w, alone, own, &d, &err), 0);
        assert_int_equal(es_predictions_n_done(w), run * 3 < 8 ? run * 3 : 8);
        if (write_some(&w, alone, 3) == 0) break;
        struct es_predictions *p = NULL;
        help_failed(es_predictions_open(&p, own, &err), &err, ES_EIO, own, "No such file");
        es_predictions_close_all(&w);
        if (run < 2)
            help_failed(es_predictions_open(&p, part, &err), &err, ES_EDATA, "unfinished predictions", part);
    }
    assert_int_equal(es_predictions_finish_all(&w, &err), 0);
    assert_int_equal(help_bytes(part), -1);
    assert_int_equal(es_h5_digest_all(NULL, own, &digest[1], &err), 0);
    assert_int_equal(digest[0], digest[1]);
    es_comm_barrier_all(comm);

    /* begun by all, continued by rank 0 alone, ended by all */
    help_path(own, dir, "mixed.h5");
    assert_int_equal(es_predictions_begin_all(&w, comm, own, &d, &err), 0);
    write_some(&w, comm, 3);
    es_predictions_close_all(&w);
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) {
        assert_int_equal(es_predictions_begin_all(&w, alone, own, &d, &err), 0);
        assert_int_equal(es_predictions_n_done(w), 3);
        write_some(&w, alone, 2);
        es_predictions_close_all(&w);
    }
    es_comm_barrier_all(comm);
    assert_int_equal(es_predictions_begin_all(&w, comm, own, &d, &err), 0);
    assert_int_equal(es_predictions_n_done(w), 5);
    write_some(&w, comm, 100);
    assert_int_equal(es_predictions_finish_all(&w, &err), 0);
    assert_int_equal(es_h5_digest_all(comm, own, &digest[2], &err), 0);
    assert_int_equal(digest[0], digest[2]);
    assert_int_equal(digest[0], 0x1f85da98cac97122u); /* also on another day and machine */
}

/* A part file of other predictions, or a damaged one, is not continued. */
static void starts_anew(void **state) {
    (void)state;
    struct es_predictions_writer *w = NULL;
    char own[512], part[512];
    help_path(own, dir, "anew.h5");
    snprintf(part, sizeof part, "%s.part", own);
    for (int change = 0; change < 7; change++) {
        struct es_predictions_desc d = describe();
        const char *other[N];
        memcpy(other, names, sizeof other);
        other[7] = "renamed";
        assert_int_equal(es_predictions_begin_all(&w, comm, own, &d, NULL), 0);
        write_some(&w, comm, 5);
        es_predictions_close_all(&w);
        if (change == 0) d.model_digest++;
        if (change == 1) d.store_digest++;
        if (change == 2) d.config_digest++;
        if (change == 3) d.which = "teacher";
        if (change == 4) d.names = other;
        if (change == 5) d.block_clips = 5;
        es_comm_barrier_all(comm);
        if (change == 6 && es_comm_rank(comm) == 0) assert_int_equal(truncate(part, 3000), 0);
        es_comm_barrier_all(comm);
        assert_int_equal(es_predictions_begin_all(&w, comm, own, &d, NULL), 0);
        assert_int_equal(es_predictions_n_done(w), 0);
        es_predictions_close_all(&w);
        es_comm_barrier_all(comm);
        if (es_comm_rank(comm) == 0) unlink(part);
        es_comm_barrier_all(comm);
    }
}

/* For tests/fault/test_io_kill.py: a slow run ("slow": one block in 100 ms) or a quick one, which ends the file. */
static int serve(const char *mode, const char *file) {
    enum { BLOCKS = 300 };
    struct es_predictions_desc d = describe();
    struct es_predictions_writer *w = NULL;
    struct es_err err = {0};
    struct timespec nap = {0, 100000000};
    char many[BLOCKS][16];
    const char *many_names[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        snprintf(many[i], sizeof many[i], "clip %d", i);
        many_names[i] = many[i];
    }
    d.n_clips = BLOCKS;
    d.names = many_names;
    d.block_clips = 1;
    int rc = es_predictions_begin_all(&w, comm, file, &d, &err);
    if (rc == 0 && es_comm_rank(comm) == 0) {
        printf("done %lld\n", (long long)es_predictions_n_done(w));
        fflush(stdout);
    }
    for (int64_t b = es_comm_rank(comm); rc == 0 && b / es_comm_size(comm) * es_comm_size(comm) < BLOCKS;
         b += es_comm_size(comm)) {
        float block[T * K];
        for (int k = 0; k < T * K; k++) block[k] = logit(b, k);
        if (strcmp(mode, "slow") == 0) nanosleep(&nap, NULL);
        rc = es_predictions_write_all(&w, b < BLOCKS && !es_predictions_done(w, b) ? b : -1, block, &err);
    }
    if (rc == 0) rc = es_predictions_finish_all(&w, &err);
    struct es_predictions *p = NULL;
    if (rc == 0) rc = es_predictions_open(&p, file, &err);
    int wrong = 0;
    for (int64_t b = 0; rc == 0 && b < BLOCKS; b++) {
        float block[T * K];
        rc = es_predictions_read(p, b, 1, block, &err);
        for (int k = 0; k < T * K; k++) wrong += block[k] != logit(b, k);
    }
    es_predictions_close(&p);
    if (es_comm_rank(comm) == 0) printf("rc %d wrong %d %s\n", rc, wrong, err.msg);
    return rc < 0 || wrong > 0;
}

int main(int argc, char **argv) {
    if (es_comm_init_all(&comm, &argc, &argv, NULL) < 0) return 1;
    if (es_comm_split_all(&alone, comm, es_comm_rank(comm), NULL) < 0) return 1;
    es_log_init(es_comm_rank(comm), es_comm_size(comm), ES_LOG_ERROR, true);
    if (argc == 3) {
        int rc = serve(argv[1], argv[2]);
        es_comm_free_all(&alone);
        es_comm_fini_all(&comm);
        return rc;
    }
    help_dir(comm, "pred", dir);
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof text[i], "Y%x_%d.000", i * 7919, i);
        names[i] = text[i];
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_ranks_and_resume), cmocka_unit_test(starts_anew)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(comm, dir);
    es_comm_free_all(&alone);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}
