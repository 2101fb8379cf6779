/* Whatever fails on whichever rank: the same error on all ranks, no hang, no leak, nothing left behind, the old file intact.
 * RANKS 1 2 4
 * TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/log.h"
#include "earshot/predictions.h"

#include "io_help.h"
#include "mpi/ckpt_help.h"
#include "mpi/store_help.h"

static struct es_comm *comm;
static char dir[256];
static struct corpus corpus;
static struct model model;

/* ---- what is tried: each returns 0 or an error that all ranks must share */

static int save_store(const char *path, struct es_err *err) {
    return corpus_write(comm, path, &corpus, NULL, err);
}

static int read_store(const char *path, struct es_err *err) {
    struct es_store *s = NULL;
    int16_t pcm[4096];
    int rc = es_store_open_all(&s, comm, path, err);
    if (rc < 0) return rc;
    for (int64_t i = es_comm_rank(comm); i < es_store_n_clips(s) && rc == 0; i += es_comm_size(comm))
        rc = es_store_read_pcm(s, i, 0, es_store_length(s, i), pcm, err);
    es_store_close(&s);
    return es_err_agree_all(comm, rc, err);
}

static int save_ckpt(const char *path, struct es_err *err) {
    struct es_ckpt_meta meta = help_meta(3);
    return es_ckpt_save_all(comm, path, NULL, &model.state, &meta, "text", err);
}

static int load_ckpt(const char *path, struct es_err *err) {
    return es_ckpt_load_all(comm, path, ES_CKPT_ALL, &model.state, NULL, err);
}

static int save_predictions(const char *path, struct es_err *err) {
    enum { N = 11, T = 3, K = 2, BLOCK = 2 };
    static const char *const names[N] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"};
    struct es_predictions_desc d = {.n_clips = N,
                                    .n_frames = T,
                                    .n_classes = K,
                                    .block_clips = BLOCK,
                                    .names = names,
                                    .classes = names,
                                    .which = "student"};
    struct es_predictions_writer *w = NULL;
    float block[BLOCK * T * K] = {1};
    int rc = es_predictions_begin_all(&w, comm, path, &d, err);
    if (rc < 0) return rc;
    int64_t n = es_predictions_n_blocks(w);
    for (int64_t b = 0; b < n; b += es_comm_size(comm)) {
        int64_t mine = b + es_comm_rank(comm);
        bool mine_too = mine < n && !es_predictions_done(w, mine);
        rc = es_predictions_write_all(&w, mine_too ? mine : -1, block, err);
        if (rc < 0) return rc;
    }
    return es_predictions_finish_all(&w, err);
}

static int open_predictions(const char *path, struct es_err *err) {
    struct es_predictions *p = NULL;
    float row[6];
    int rc = es_predictions_open(&p, path, err);
    if (rc == 0) rc = es_predictions_read(p, es_comm_rank(comm), 1, row, err);
    es_predictions_close(&p);
    return es_err_agree_all(comm, rc, err);
}

static int digest(const char *path, struct es_err *err) {
    uint64_t value;
    return es_h5_digest_all(comm, path, &value, err);
}

static const struct {
    const char *name, *file, *points, *points0; /* fault points of every rank; of rank 0 only */
    int (*fn)(const char *path, struct es_err *err);
} ops[] = {{"save store", "s.h5", "malloc h5open write", "h5write rename", save_store},
           {"read store", "s.h5", "malloc h5open read", "", read_store},
           {"save checkpoint", "c.h5", "malloc h5open h5write", "rename", save_ckpt},
           {"load checkpoint", "c.h5", "malloc h5open read", "", load_ckpt},
           {"save predictions", "p.h5", "malloc h5open h5write", "rename", save_predictions},
           {"open predictions", "p.h5", "malloc h5open read", "", open_predictions},
           {"digest", "s.h5", "malloc h5open", "", digest}};

static void same_everywhere(int rc, const struct es_err *err) {
    struct es_err first = *err;
    assert_int_equal(es_comm_max_all(comm, rc), es_comm_min_all(comm, rc));
    es_comm_bcast_all(comm, &first, sizeof first, 0);
    if (rc < 0) assert_string_equal(first.msg, err->msg);
}

/* One try with the n-th pass of a point failing on one rank. Returns the result. */
static int with_fault(int op, const char *point, int n, int rank, int files) {
    char path[512], spec[64];
    struct es_err err = {0};
    uint64_t before = 0, after = 1;
    help_path(path, dir, ops[op].file);
    assert_int_equal(es_h5_digest_all(NULL, path, &before, NULL), 0);
    es_comm_barrier_all(comm);
    int64_t blocks = es_mem_live_blocks();
    snprintf(spec, sizeof spec, "%s:%d@rank%d", point, n, rank);
    es_fault_init(spec, es_comm_rank(comm));
    int rc = ops[op].fn(path, &err);
    es_fault_init(NULL, 0);
    if ((rc < 0 && rc != -ES_EIO) || es_mem_live_blocks() != blocks)
        print_message("%s, %s: %d %s\n", ops[op].name, spec, rc, err.msg);
    assert_true(rc == 0 || rc == -ES_EIO);
    same_everywhere(rc, &err);
    assert_int_equal(es_mem_live_blocks(), blocks);
    assert_int_equal(es_h5_digest_all(NULL, path, &after, NULL),
                     0); /* the old file, or the same content anew */
    assert_int_equal(before, after);
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) {
        char part[600];
        snprintf(part, sizeof part, "%s.part", path);
        unlink(part); /* predictions keep what they have */
        assert_int_equal(help_count_files(dir), files);
    }
    es_comm_barrier_all(comm);
    return rc;
}

static void try_points(int op, const char *list, int rank) {
    char points[64], *save = NULL;
    snprintf(points, sizeof points, "%s", list);
    for (char *point = strtok_r(points, " ", &save); point; point = strtok_r(NULL, " ", &save)) {
        int n = 1;
        while (with_fault(op, point, n, rank, 3) < 0) { /* until the n-th pass is beyond the last */
            n++;
            assert_true(n < 400);
        }
        if (n == 1) print_message("%s: %s never fails on rank %d\n", ops[op].name, point, rank);
        assert_true(n > 1);
    }
}

static void every_point_on_every_rank(void **state) {
    (void)state;
    int last = es_comm_size(comm) - 1;
    for (int op = 0; op < (int)(sizeof ops / sizeof *ops); op++) {
        try_points(op, ops[op].points, 0);
        try_points(op, ops[op].points0, 0);
        if (last > 0) try_points(op, ops[op].points, last);
    }
}

/* ---- the system says no */

static void expect_failure(int op, const char *path, int code, const char *what) {
    struct es_err err = {0};
    int rc = ops[op].fn(path, &err);
    help_failed(rc, &err, code, path, what);
    same_everywhere(rc, &err);
}

static void no_place(void **state) {
    (void)state;
    char path[512], sub[512];
    help_path(sub, dir, "closed");
    if (es_comm_rank(comm) == 0) assert_int_equal(mkdir(sub, 0555), 0);
    es_comm_barrier_all(comm);
    bool root = geteuid() == 0;
    if (root) assert_int_equal(seteuid(65534), 0);
    for (int op = 0; op < 5; op += 2) {
        help_path(path, sub, "x.h5");
        expect_failure(op, path, ES_EIO, "cannot create: Permission denied");
        help_path(path, dir, "nowhere/x.h5");
        expect_failure(op, path, ES_EIO, "cannot create: No such file or directory");
    }
    if (root) assert_int_equal(seteuid(0), 0);
    for (int op = 0; op < 3; op += 2) expect_failure(op, sub, ES_EIO, "is a folder");
}

/* A disk that is full: no file may grow beyond `bytes`. */
static void full_disk(void **state) {
    (void)state;
    char path[512];
    signal(SIGXFSZ, SIG_IGN);
    static const rlim_t sizes[] = {0, 100, 2000, 5000, 20000, 60000};
    for (int op = 0; op < 5; op += 2)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct rlimit old, tight;
            struct es_err err = {0};
            help_path(path, dir, "full.h5");
            es_comm_barrier_all(comm);
            assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
            tight = old;
            tight.rlim_cur = sizes[i];
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
            int rc = ops[op].fn(path, &err);
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
            same_everywhere(rc, &err);
            es_comm_barrier_all(comm);
            if (i < 3) assert_int_equal(rc, -ES_EIO); /* all of these files are larger */
            if (rc < 0) {
                assert_int_equal(rc, -ES_EIO);
                assert_non_null(strstr(err.msg, "full.h5"));
                assert_int_equal(help_bytes(path), -1);
            }
            es_comm_barrier_all(comm);
            if (es_comm_rank(comm) == 0) {
                char part[600];
                snprintf(part, sizeof part, "%s.part", path);
                unlink(part);
                unlink(path);
                assert_int_equal(help_count_files(dir), 4);
            }
            es_comm_barrier_all(comm);
        }
}

int main(int argc, char **argv) {
    if (es_comm_init_all(&comm, &argc, &argv, NULL) < 0) return 1;
    es_log_init(es_comm_rank(comm), es_comm_size(comm), ES_LOG_ERROR, true);
    help_dir(comm, "faults", dir);
    if (es_comm_rank(comm) == 0) chmod(dir, 0777);
    corpus_make(&corpus, 9);
    model_new(&model, comm);
    model_fill(&model, 3);
    for (int op = 0; op < 5; op += 2) {
        char path[512];
        struct es_err err = {0};
        if (ops[op].fn(help_path(path, dir, ops[op].file), &err) < 0) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_point_on_every_rank),
                                       cmocka_unit_test(no_place), cmocka_unit_test(full_disk)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_free(&model);
    help_dir_end(comm, dir);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}
