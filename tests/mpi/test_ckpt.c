/* Checkpoints: the same file from any number of ranks, saved on one and loaded on another; previous file, damage, other models.
 * RANKS 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/log.h"

#include "io_help.h"
#include "mpi/ckpt_help.h"

static struct es_comm *comm, *alone, *pair;
static char dir[256], path[512];
static const char config[] = "run:\n  dir: x\n";

static void any_ranks(void **state) {
    (void)state;
    struct es_comm *comms[] = {comm, pair, alone};
    uint64_t digest[3];
    struct es_err err = {0};
    for (int c = 0; c < 3; c++) { /* everybody saves: together, in pairs, alone */
        char name[64], own[512];
        struct model x;
        struct es_ckpt_meta meta = help_meta(5);
        int first = es_comm_rank(comm) - es_comm_rank(comms[c]);
        snprintf(name, sizeof name, "c%d-%d.h5", c, first);
        help_path(own, dir, name);
        model_new(&x, comms[c]);
        model_fill(&x, 5);
        assert_int_equal(es_ckpt_save_all(comms[c], own, NULL, &x.state, &meta, config, &err), 0);
        assert_int_equal(es_ckpt_digest_all(comms[c], own, &digest[c], &err), 0);
        assert_int_equal(digest[c], digest[0]);
        model_free(&x);
        es_comm_barrier_all(comm);
        for (int d = 0; d < 3; d++) { /* and loads: the file of all, on every kind of communicator */
            help_path(own, dir, "c0-0.h5");
            struct es_ckpt_meta got;
            model_new(&x, comms[d]);
            model_clear(&x);
            assert_int_equal(es_ckpt_load_all(comms[d], own, ES_CKPT_ALL, &x.state, &got, &err), 0);
            assert_true(model_equals(&x, 5, comms[d]));
            assert_true(got.step == 5 && got.epoch == 1 && got.seed == meta.seed && got.config_digest == 11 &&
                        got.store_digest == 12 && got.parameters_digest == meta.parameters_digest &&
                        got.best_metric == 0.25 && strlen(got.commit) > 0);
            model_free(&x);
        }
        es_comm_barrier_all(comm);
    }
    char *text = NULL;
    struct es_ckpt_meta got;
    assert_int_equal(es_ckpt_read_meta(help_path(path, dir, "c0-0.h5"), &got, &text, &err), 0);
    assert_string_equal(text, config);
    es_free(&text);
    assert_int_equal(digest[0], 0x23818fe33927631fu); /* also on another day and machine */
}

/* A parameter larger than the pieces in which moments travel. */
static void large_parameter(void **state) {
    (void)state;
    enum { N = (5 << 20) + 3, SMALL = 1000 };
    int size = es_comm_size(comm), rank = es_comm_rank(comm);
    int64_t begin = (int64_t)(N + SMALL) * rank / size, end = (int64_t)(N + SMALL) * (rank + 1) / size,
            n = end - begin;
    float *m = es_alloc((size_t)n, 4, NULL), *v = es_alloc((size_t)n, 4, NULL);
    struct es_ckpt_param param[] = {{"small", SMALL, N}, {"large", N, 0}};
    struct es_ckpt_segment segment = {begin, n, m, v};
    struct es_ckpt_state s = {.n_params = 2, .param = param, .n_segments = 1, .segment = &segment};
    struct es_ckpt_meta meta = help_meta(1);
    struct es_err err = {0};
    for (int64_t i = 0; i < n; i++) {
        m[i] = (float)(begin + i);
        v[i] = (float)(begin + i) + 0.5f;
    }
    assert_int_equal(es_ckpt_save_all(comm, help_path(path, dir, "large.h5"), NULL, &s, &meta, "", &err), 0);
    memset(m, 0, (size_t)n * 4);
    memset(v, 0, (size_t)n * 4);
    assert_int_equal(es_ckpt_load_all(comm, path, ES_CKPT_ALL, &s, NULL, &err), 0);
    for (int64_t i = 0; i < n; i++)
        assert_true(m[i] == (float)(begin + i) && v[i] == (float)(begin + i) + 0.5f);
    struct es_h5 *f = NULL; /* table order: small first */
    float edge[2];
    assert_int_equal(es_h5_open(&f, path, "checkpoint", ES_CKPT_VERSION, &err), 0);
    assert_int_equal(es_h5_read_rows(f, "/adam/m", ES_H5_F32, SMALL - 1, 2, edge, &err), 0);
    assert_true(edge[0] == (float)(N + SMALL - 1) && edge[1] == 0.0f);
    es_h5_close(&f);
    es_free(&v);
    es_free(&m);
    es_comm_barrier_all(comm);
}

/* The next checkpoint of the run in this folder. */
static int save_last(struct model *x, const char *where, int64_t step, struct es_err *err) {
    struct es_ckpt_meta meta = help_meta(step);
    char last[512], prev[512];
    model_fill(x, step);
    return es_ckpt_save_all(comm, help_path(last, where, ES_CKPT_LAST), help_path(prev, where, ES_CKPT_PREV),
                            &x->state, &meta, config, err);
}

static void save(struct model *x, const char *where, int64_t step) {
    struct es_err err = {0};
    assert_int_equal(save_last(x, where, step, &err), 0);
}

/* The step that resuming gives; the state must be that step's. */
static int64_t resume(struct model *x, const char *where) {
    struct es_ckpt_meta meta = {0};
    struct es_err err = {0};
    model_clear(x);
    int rc = es_ckpt_resume_all(comm, where, &x->state, &meta, &err);
    if (rc <= 0) return rc;
    assert_true(model_equals(x, meta.step, comm));
    return meta.step;
}

static void flip(const char *file, int64_t at) {
    int fd = open(file, O_RDWR);
    unsigned char b;
    assert_true(fd >= 0 && at >= 0);
    assert_int_equal(pread(fd, &b, 1, at), 1);
    b ^= 16;
    assert_int_equal(pwrite(fd, &b, 1, at), 1);
    close(fd);
}

/* Rank 0 does something to a file; all wait. */
enum spoil { CUT, FLIP_WEIGHT, FLIP_MOMENT, INCOMPLETE, REMOVE };
static void spoil(enum spoil how, const char *where) {
    char last[512];
    help_path(last, where, ES_CKPT_LAST);
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) {
        struct es_h5 *f = NULL;
        struct es_h5_info info;
        if (how == CUT) assert_int_equal(truncate(last, help_bytes(last) - 700), 0);
        if (how == REMOVE) assert_int_equal(unlink(last), 0);
        if (how == FLIP_WEIGHT || how == FLIP_MOMENT) {
            assert_int_equal(es_h5_open(&f, last, NULL, 0, NULL), 0);
            assert_int_equal(
                es_h5_info(f, how == FLIP_WEIGHT ? "/teacher/dense.bias" : "/adam/v", &info, NULL), 0);
            es_h5_close(&f);
            flip(last, info.offset + 70);
        }
        if (how == INCOMPLETE) { /* as a crash before the last write would leave it, under the final name */
            int64_t one = 1;
            assert_int_equal(es_h5_create_all(&f, NULL, last, "checkpoint", ES_CKPT_VERSION, NULL), 0);
            es_h5_group_all(f, "/meta");
            es_h5_attr_i64_all(f, "/meta", "complete", 0);
            es_h5_put_all(f, "/student/x", ES_H5_I64, 1, &one, &one);
            assert_int_equal(es_h5_commit_all(&f, NULL, NULL), 0);
        }
    }
    es_comm_barrier_all(comm);
}

static void goes_back(void **state) {
    (void)state;
    struct model x;
    char run[512], file[512];
    model_new(&x, comm);
    static const enum spoil kinds[] = {CUT, FLIP_WEIGHT, FLIP_MOMENT, INCOMPLETE, REMOVE};
    for (int k = 0; k < 5; k++) {
        char name[16];
        snprintf(name, sizeof name, "run%d", k);
        help_path(run, dir, name);
        if (es_comm_rank(comm) == 0) assert_int_equal(mkdir(run, 0777), 0);
        es_comm_barrier_all(comm);
        assert_int_equal(resume(&x, run), 0); /* nothing there */
        save(&x, run, 10);
        assert_int_equal(resume(&x, run), 10);
        assert_int_equal(help_count_files(run), 1);
        es_comm_barrier_all(comm);
        save(&x, run, 20);
        save(&x, run, 30);
        assert_int_equal(resume(&x, run), 30);
        assert_int_equal(help_count_files(run), 2);
        spoil(kinds[k], run);
        assert_int_equal(resume(&x, run), 20);
        save(&x, run, 40);
        assert_int_equal(resume(&x, run), 40);
        es_comm_barrier_all(comm);
        if (es_comm_rank(comm) == 0) { /* prev is the good one of before, not the damaged one */
            assert_int_equal(unlink(help_path(file, run, ES_CKPT_LAST)), 0);
        }
        es_comm_barrier_all(comm);
        assert_int_equal(resume(&x, run), 20);
    }
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) assert_int_equal(truncate(help_path(file, run, ES_CKPT_PREV), 1000), 0);
    es_comm_barrier_all(comm);
    assert_int_equal(resume(&x, run), -ES_EDATA); /* no way back */
    model_free(&x);
}

static void other_models(void **state) {
    (void)state;
    struct model x;
    struct es_err err = {0};
    char run[512];
    help_path(run, dir, "other");
    if (es_comm_rank(comm) == 0) assert_int_equal(mkdir(run, 0777), 0);
    es_comm_barrier_all(comm);
    model_new(&x, comm);
    save(&x, run, 1);
    save(&x, run, 2);
    x.student[3].dim[0] = 13; /* smaller than allocated */
    x.teacher[0].name = "conv.weight";
    help_failed(es_ckpt_resume_all(comm, run, &x.state, NULL, &err), &err, ES_EDATA,
                "checkpoint of another model: shape of /student/dense.bias (float32[27], model has "
                "float32[13]); missing "
                "/teacher/conv.weight; unknown /teacher/cnn.cnn.conv0.weight",
                ES_CKPT_LAST);
    x.student[3].dim[0] = 27;
    x.teacher[0].name = help_arrays[0].name;
    x.param[1].name = "something.else";
    help_failed(es_ckpt_resume_all(comm, run, &x.state, NULL, &err), &err, ES_EDATA,
                "moments of /adam/as_model", "something.else");
    char file[512];
    help_path(file, run, ES_CKPT_LAST);
    assert_int_equal(es_ckpt_load_all(comm, file, ES_CKPT_STUDENT | ES_CKPT_TEACHER, &x.state, NULL, &err),
                     0);
    x.state.n_student = 1;
    help_failed(es_ckpt_load_all(comm, file, ES_CKPT_STUDENT, &x.state, NULL, &err), &err, ES_EDATA,
                "unknown /student/alpha", "");
    help_failed(es_ckpt_load_all(comm, help_path(path, dir, "none.h5"), ES_CKPT_ALL, &x.state, NULL, &err),
                &err, ES_EIO, "none.h5", "No such file");
    assert_int_equal(help_count_files(run), 2); /* nothing was set aside */
    model_free(&x);
    es_comm_barrier_all(comm);
}

/* For tests/fault/test_io_kill.py: saves for ever / tells what is there and that it is whole. */
static int serve(const char *mode, const char *where) {
    struct model x;
    struct es_ckpt_meta meta = {0};
    struct es_err err = {0};
    model_new(&x, comm);
    model_clear(&x);
    int rc = es_ckpt_resume_all(comm, where, &x.state, &meta, &err);
    bool whole = rc <= 0 || model_equals(&x, meta.step, comm);
    while (rc >= 0 && strcmp(mode, "loop") == 0) rc = save_last(&x, where, ++meta.step, &err);
    if (es_comm_rank(comm) == 0)
        printf("rc %d step %lld whole %d %s\n", rc, (long long)meta.step, whole, err.msg);
    model_free(&x);
    return rc < 0 || !whole;
}

/* Written by threads while the state moves on: the file of a collective write, and it goes where that goes. */
static void background(void **state) {
    (void)state;
    char where[512], last[600], prev[600], sync[512];
    struct es_ckpt_writer *w = NULL;
    struct es_err err = {0};
    struct model x;
    uint64_t want, got;
    double write_s = -1.0;
    help_path(where, dir, "background");
    if (es_comm_rank(comm) == 0) assert_int_equal(mkdir(where, 0777), 0);
    snprintf(last, sizeof last, "%s/" ES_CKPT_LAST, where);
    snprintf(prev, sizeof prev, "%s/" ES_CKPT_PREV, where);
    es_comm_barrier_all(comm);
    model_new(&x, comm);
    assert_int_equal(es_ckpt_writer_new(&w, &err), 0);
    for (int64_t step = 7; step < 10; step++) {
        struct es_ckpt_meta meta = help_meta(step);
        model_fill(&x, step);
        assert_int_equal(
            es_ckpt_save_all(comm, help_path(sync, dir, "sync.h5"), NULL, &x.state, &meta, config, &err), 0);
        assert_false(es_ckpt_writing(w));
        assert_int_equal(es_ckpt_begin_all(w, comm, last, prev, &x.state, &meta, config, &err), 0);
        assert_true(es_ckpt_writing(w));
        model_fill(&x, 99); /* training goes on */
        assert_int_equal(es_ckpt_finish_all(w, &write_s, &err), 0);
        assert_true(!es_ckpt_writing(w) && es_ckpt_written(w) && write_s >= 0.0);
        assert_int_equal(es_ckpt_digest_all(comm, sync, &want, &err), 0);
        assert_int_equal(es_ckpt_digest_all(comm, last, &got, &err), 0);
        assert_int_equal(got, want);
        assert_int_equal(resume(&x, where), step); /* loading checks every data set's digest */
    }
    struct es_ckpt_meta meta;
    assert_int_equal(es_ckpt_read_meta(prev, &meta, NULL, &err), 0);
    assert_int_equal(meta.step, 8);
    /* a write that fails on one rank: the same error everywhere, the last one stays, nothing is left behind */
    meta = help_meta(10);
    es_fault_init("ckptwrite:2@rank0", es_comm_rank(comm));
    assert_int_equal(es_ckpt_begin_all(w, comm, last, prev, &x.state, &meta, config, &err), 0);
    assert_int_equal(es_ckpt_finish_all(w, NULL, &err), -ES_EIO);
    assert_non_null(strstr(err.msg, "No space left"));
    es_fault_init(NULL, 0);
    es_err_clear(&err);
    assert_int_equal(resume(&x, where), 9);
    /* cancelled */
    assert_int_equal(es_ckpt_begin_all(w, comm, last, prev, &x.state, &meta, config, &err), 0);
    es_ckpt_cancel(w);
    assert_false(es_ckpt_writing(w));
    es_comm_barrier_all(comm);
    assert_int_equal(resume(&x, where), 9);
    if (es_comm_rank(comm) == 0) assert_int_equal(help_count_files(where), 2);
    /* and freed in the middle */
    es_comm_barrier_all(comm);
    assert_int_equal(es_ckpt_begin_all(w, comm, last, prev, &x.state, &meta, config, &err), 0);
    es_ckpt_writer_free(&w);
    model_free(&x);
    es_comm_barrier_all(comm);
}

int main(int argc, char **argv) {
    if (es_comm_init_all(&comm, &argc, &argv, NULL) < 0) return 1;
    if (es_comm_split_all(&alone, comm, es_comm_rank(comm), NULL) < 0) return 1;
    if (es_comm_split_all(&pair, comm, es_comm_rank(comm) / 2, NULL) < 0) return 1;
    es_log_init(es_comm_rank(comm), es_comm_size(comm), ES_LOG_ERROR, true);
    if (argc == 3) {
        int rc = serve(argv[1], argv[2]);
        es_comm_free_all(&pair);
        es_comm_free_all(&alone);
        es_comm_fini_all(&comm);
        return rc;
    }
    help_dir(comm, "ckpt", dir);
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_ranks), cmocka_unit_test(large_parameter),
                                       cmocka_unit_test(goes_back), cmocka_unit_test(other_models),
                                       cmocka_unit_test(background)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(comm, dir);
    es_comm_free_all(&pair);
    es_comm_free_all(&alone);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}
