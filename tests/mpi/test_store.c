/* The corpus store: the same digest for every number of ranks, also with ranks that write nothing; reading, by threads too; files
 * that are not what they should be.
 * RANKS 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/store.h"

#include "io_help.h"
#include "mpi/store_help.h"

static struct es_comm *comm, *alone;
static char dir[256], path[512];
static struct corpus corpus;

static void check_contents(const struct es_store *s, int64_t n) {
    assert_int_equal(es_store_n_clips(s), n);
    assert_int_equal(es_store_n_classes(s), HELP_K);
    for (int k = 0; k < HELP_K; k++) assert_string_equal(es_store_classes(s)[k], help_classes[k]);
    int64_t counted = 0;
    for (int subset = 0; subset < ES_N_SUBSETS; subset++) {
        assert_int_equal(es_store_count(s, (enum es_subset)subset, -1),
                         es_store_count(s, (enum es_subset)subset, 0) +
                             es_store_count(s, (enum es_subset)subset, 1));
        counted += es_store_count(s, (enum es_subset)subset, -1);
    }
    assert_int_equal(counted, n);
    for (int64_t i = 0; i < n; i++) {
        int n_events;
        int16_t pcm[4096];
        const struct es_event *e = es_store_events(s, i, &n_events);
        assert_string_equal(es_store_name(s, i), corpus.name[i]);
        assert_string_equal(es_store_recording(s, i), corpus.recording[i]);
        assert_int_equal(es_store_subset(s, i), corpus.subset[i]);
        assert_int_equal(es_store_split(s, i), corpus.split[i]);
        assert_int_equal(es_store_length(s, i), help_length(i));
        assert_true(es_store_duration(s, i) == corpus.duration_s[i]);
        assert_memory_equal(es_store_weak(s, i), corpus.weak + i * HELP_K, HELP_K);
        assert_int_equal(n_events, i % 4);
        assert_memory_equal(e, corpus.event + corpus.index[i], (size_t)n_events * sizeof *e);
        assert_int_equal(es_store_read_pcm(s, i, 0, help_length(i), pcm, NULL), 0);
        for (int64_t t = 0; t < help_length(i); t++) assert_int_equal(pcm[t], help_sample(i, t));
        assert_int_equal(es_store_read_pcm(s, i, 777, 3, pcm, NULL), 0);
        assert_int_equal(pcm[1], help_sample(i, 778));
    }
}

static void same_for_any_ranks(void **state) {
    (void)state;
    static const int64_t counts[] = {0, 1, 3, 40};
    for (int c = 0; c < 4; c++) {
        uint64_t digest = 0, serial = 1, again = 2;
        char own[512], name[64];
        struct es_err err = {0};
        struct es_store *s = NULL;
        corpus_make(&corpus, counts[c]);
        assert_int_equal(corpus_write(comm, help_path(path, dir, "s.h5"), &corpus, &digest, &err), 0);
        snprintf(name, sizeof name, "alone-%d.h5", es_comm_rank(comm));
        assert_int_equal(corpus_write(alone, help_path(own, dir, name), &corpus, &serial, &err), 0);
        assert_int_equal(digest, serial);
        assert_int_equal(es_h5_digest_all(comm, path, &again, &err), 0); /* what is on disk */
        assert_int_equal(digest, again);
        assert_int_equal(es_h5_digest_all(NULL, path, &again, &err), 0);
        assert_int_equal(digest, again);
        if (counts[c] == 40)
            assert_int_equal(digest, 0x0bd16bbe0904ed2eu); /* also on another day and machine */
        assert_int_equal(es_store_open_all(&s, comm, path, &err), 0);
        assert_int_equal(es_store_digest(s), digest);
        check_contents(s, counts[c]);
        assert_true(counts[c] == 0 || es_store_is_direct(s));
        es_store_close(&s);
        es_comm_barrier_all(comm);
        assert_int_equal(help_count_files(dir), 1 + es_comm_size(comm)); /* no temporary file is left */
        es_comm_barrier_all(comm);
    }
}

static void *reader(void *arg) {
    const struct es_store *s = arg;
    for (int round = 0; round < 50; round++)
        for (int64_t i = 0; i < es_store_n_clips(s); i++) {
            int16_t pcm[4096];
            if (es_store_read_pcm(s, i, round, 500, pcm, NULL) < 0) return NULL;
            for (int t = 0; t < 500; t++)
                if (pcm[t] != help_sample(i, round + t)) return NULL;
        }
    return arg;
}

static void threads_read(void **state) {
    (void)state;
    struct es_store *s = NULL;
    pthread_t thread[3];
    assert_int_equal(es_store_open_all(&s, comm, help_path(path, dir, "s.h5"), NULL), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&thread[i], NULL, reader, s), 0);
    for (int i = 0; i < 3; i++) {
        void *ok;
        pthread_join(thread[i], &ok);
        assert_ptr_equal(ok, s);
    }
    es_store_close(&s);
}

static void spoil(const char *name, void (*how)(struct es_h5 *f)) {
    struct es_h5 *f = NULL;
    struct es_err err = {0};
    assert_int_equal(es_h5_create_all(&f, NULL, help_path(path, dir, name), "store", ES_STORE_VERSION, &err),
                     0);
    how(f);
    assert_int_equal(es_h5_commit_all(&f, NULL, &err), 0);
}

static void later_version(struct es_h5 *f) {
    es_h5_attr_i64_all(f, "/", "earshot_version", ES_STORE_VERSION + 1);
}
static void text_version(struct es_h5 *f) {
    es_h5_attr_text_all(f, "/", "earshot_version", "0.9");
}
static void other_kind(struct es_h5 *f) {
    es_h5_attr_text_all(f, "/", "earshot_kind", "checkpoint");
}
static void no_data(struct es_h5 *f) {
    es_h5_attr_u64_all(f, "/", "digest", 1);
}

static void refuse(const char *name, int code, const char *what) {
    struct es_store *s = NULL;
    struct es_err err = {0};
    help_failed(es_store_open(&s, help_path(path, dir, name), &err), &err, code, path, what);
    assert_null(s);
    help_failed(es_store_open_all(&s, alone, path, &err), &err, code, path, what);
    assert_null(s);
}

static void cut(const char *from, const char *to, int64_t bytes) {
    char *data = es_alloc((size_t)bytes, 1, NULL);
    FILE *in = fopen(help_path(path, dir, from), "rb");
    assert_int_equal(fread(data, 1, (size_t)bytes, in), bytes);
    fclose(in);
    help_write(help_path(path, dir, to), data, (size_t)bytes);
    es_free(&data);
}

/* One rank looks at bad files while the others wait: opening needs no other rank. */
static void bad_files(void **state) {
    (void)state;
    if (es_comm_rank(comm) == 0) {
        spoil("version.h5", later_version);
        refuse("version.h5", ES_EDATA,
               "earshot_version: layout 2 of a store file, this program reads 1; write the file again");
        spoil("version2.h5", text_version);
        refuse("version2.h5", ES_EDATA, "earshot_version");
        spoil("kind.h5", other_kind);
        refuse("kind.h5", ES_EDATA, "got \"checkpoint\", want \"store\"");
        spoil("nodata.h5", no_data);
        refuse("nodata.h5", ES_EDATA, ":/classes: no such data set");
        refuse("missing.h5", ES_EIO, "No such file");
        help_text(help_path(path, dir, "text.h5"), "this is no HDF5 file at all");
        refuse("text.h5", ES_EDATA, "cannot be read as HDF5");
        help_text(help_path(path, dir, "empty.h5"), "");
        refuse("empty.h5", ES_EDATA, "empty");
        assert_int_equal(mkdir(help_path(path, dir, "folder.h5"), 0777), 0);
        refuse("folder.h5", ES_EDATA, "folder");
        int64_t whole = help_bytes(help_path(path, dir, "s.h5"));
        cut("s.h5", "short.h5", whole - 1000);
        refuse("short.h5", ES_EDATA, "cut short");
        cut("s.h5", "head.h5", 500);
        refuse("head.h5", ES_EDATA, "cut short");
    }
    es_comm_barrier_all(comm);
}

/* The samples are not plain 16-bit little-endian: read by HDF5 instead. */
static void other_layout(void **state) {
    (void)state;
    if (es_comm_rank(comm) == 0) {
        struct es_h5 *f = NULL;
        struct es_err err = {0};
        int64_t n = 3000, one = 1, two = 2, none = 0, weak[2] = {1, 1}, offset[2] = {0, 3000}, length = 2500,
                index[2] = {0, 0};
        int32_t pcm[3000];
        uint8_t zero = 0;
        double duration_s = 1;
        const char *text = "a";
        for (int i = 0; i < n; i++) pcm[i] = help_sample(3, i);
        assert_int_equal(
            es_h5_create_all(&f, NULL, help_path(path, dir, "i32.h5"), "store", ES_STORE_VERSION, &err), 0);
        es_h5_attr_u64_all(f, "/", "digest", 5);
        es_h5_put_all(f, "/audio/pcm", ES_H5_I32, 1, &n, pcm);
        es_h5_put_all(f, "/audio/offset", ES_H5_I64, 1, &two, offset);
        es_h5_put_strings_all(f, "/clip/name", 1, &text);
        es_h5_put_strings_all(f, "/clip/recording", 1, &text);
        es_h5_put_strings_all(f, "/classes", 1, &text);
        es_h5_put_all(f, "/clip/subset", ES_H5_U8, 1, &one, &zero);
        es_h5_put_all(f, "/clip/split", ES_H5_U8, 1, &one, &zero);
        es_h5_put_all(f, "/clip/length", ES_H5_I64, 1, &one, &length);
        es_h5_put_all(f, "/clip/duration", ES_H5_F64, 1, &one, &duration_s);
        es_h5_put_all(f, "/events/index", ES_H5_I64, 1, &two, index);
        es_h5_put_all(f, "/events/onset", ES_H5_F64, 1, &none, NULL);
        es_h5_put_all(f, "/events/offset", ES_H5_F64, 1, &none, NULL);
        es_h5_put_all(f, "/events/label", ES_H5_I32, 1, &none, NULL);
        es_h5_put_all(f, "/events/confidence", ES_H5_F32, 1, &none, NULL);
        es_h5_put_all(f, "/weak", ES_H5_U8, 2, weak, &zero);
        assert_int_equal(es_h5_commit_all(&f, NULL, &err), 0);
        struct es_store *s = NULL;
        int16_t got[2500];
        assert_int_equal(es_store_open(&s, path, &err), 0);
        assert_false(es_store_is_direct(s));
        assert_int_equal(es_store_read_pcm(s, 0, 0, 2500, got, &err), 0);
        for (int i = 0; i < 2500; i++) assert_int_equal(got[i], pcm[i]);
        es_store_close(&s);
    }
    es_comm_barrier_all(comm);
}

int main(int argc, char **argv) {
    if (es_comm_init_all(&comm, &argc, &argv, NULL) < 0) return 1;
    if (es_comm_split_all(&alone, comm, es_comm_rank(comm), NULL) < 0) return 1;
    help_dir(comm, "store", dir);
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_for_any_ranks), cmocka_unit_test(threads_read),
                                       cmocka_unit_test(bad_files), cmocka_unit_test(other_layout)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(comm, dir);
    es_comm_free_all(&alone);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}
