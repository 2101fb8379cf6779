/* Copies of stores on node-local disk: made once, checked, used again, made again when damaged; a full disk, a damaged store.
 * RANKS 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/stage.h"

#include "io_help.h"
#include "store_help.h"

static struct es_comm *comm, *alone;
static char dir[256], store[512], folder[512];
static uint64_t digest;

static void damage(const char *path) { /* one bit of a sample */
    struct es_h5 *f = NULL;
    struct es_h5_info info;
    assert_int_equal(es_h5_open(&f, path, NULL, 0, NULL), 0);
    assert_int_equal(es_h5_info(f, "/audio/pcm", &info, NULL), 0);
    es_h5_close(&f);
    FILE *out = fopen(path, "r+b");
    assert_non_null(out);
    assert_int_equal(fseek(out, (long)info.offset + 100, SEEK_SET), 0);
    int byte = fgetc(out);
    assert_int_equal(fseek(out, -1, SEEK_CUR), 0);
    fputc(byte ^ 1, out);
    assert_int_equal(fclose(out), 0);
}

static void on_first(void (*what)(void)) {
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) what();
    es_comm_barrier_all(comm);
}

static char copy[512];
static void damage_copy(void) {
    damage(copy);
}
static void damage_store(void) {
    damage(store);
}
static void remove_copy(void) {
    unlink(copy);
}
static void cut_copy(void) {
    assert_int_equal(truncate(copy, 5000), 0);
}

static void stage(void) {
    struct es_err err = {0};
    struct es_store *s = NULL;
    char hex[17], want[600];
    int rc = es_stage_all(comm, store, folder, copy, sizeof copy, &err);
    if (rc < 0) print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    es_hash_hex(digest, hex);
    snprintf(want, sizeof want, "%s/store-%s.h5", folder, hex);
    assert_string_equal(copy, want);
    assert_int_equal(es_stage_open_all(&s, comm, store, folder, &err), 0);
    assert_string_equal(es_store_path(s), copy);
    assert_true(es_store_digest(s) == digest);
    int16_t pcm[HELP_MAX_CLIPS * 64];
    for (int64_t i = 0; i < es_store_n_clips(s); i++) {
        assert_int_equal(es_store_read_pcm(s, i, 0, es_store_length(s, i), pcm, &err), 0);
        for (int64_t k = 0; k < es_store_length(s, i); k++) assert_int_equal(pcm[k], help_sample(i, k));
    }
    es_store_close(&s);
    assert_int_equal(help_count_files(folder), 1);
    es_comm_barrier_all(comm);
}

static int64_t inode(void) {
    struct stat st;
    assert_int_equal(stat(copy, &st), 0);
    return (int64_t)st.st_ino + (int64_t)st.st_mtim.tv_nsec;
}

static void copies(void **state) {
    (void)state;
    int64_t live = es_mem_live_blocks();
    stage();
    int64_t first = inode();
    stage(); /* used again */
    assert_int_equal(inode(), first);
    on_first(damage_copy);
    stage(); /* damaged: made again */
    assert_int_not_equal(inode(), first);
    on_first(cut_copy);
    stage();
    on_first(remove_copy);
    stage();
    struct es_store *s = NULL;
    assert_int_equal(es_stage_open_all(&s, comm, store, "", NULL), 0);
    assert_string_equal(es_store_path(s), store);
    es_store_close(&s);
    assert_int_equal(es_mem_live_blocks(), live);
    es_comm_barrier_all(comm);
}

/* One folder a rank, as if each were a node; its communicator is the rank alone. */
static void many_nodes(void **state) {
    (void)state;
    char own[600], path[600];
    snprintf(own, sizeof own, "%s/node-%d", dir, es_comm_rank(comm));
    assert_int_equal(es_stage_all(alone, store, own, path, sizeof path, NULL), 0);
    assert_int_equal(help_count_files(own), 1);
    es_comm_barrier_all(comm);
}

static void refuses(const char *from, const char *to, int code, const char *word1, const char *word2) {
    struct es_err err = {0}, first;
    char path[512];
    int64_t live = es_mem_live_blocks();
    help_failed(es_stage_all(comm, from, to, path, sizeof path, &err), &err, code, word1, word2);
    first = err;
    es_comm_bcast_all(comm, &first, sizeof first, 0);
    assert_string_equal(first.msg, err.msg);
    assert_int_equal(es_mem_live_blocks(), live);
    es_comm_barrier_all(comm);
    assert_int_equal(help_count_files(folder), 0);
    es_comm_barrier_all(comm);
}

static void failures(void **state) {
    (void)state;
    char path[512];
    on_first(remove_copy);
    es_fault_init("stage:1@rank0", es_comm_rank(comm));
    refuses(store, folder, ES_EIO, "data.stage_dir: ", "No space left");
    for (int n = 1; n < 60; n++) { /* every allocation may fail, on any rank */
        char spec[64];
        struct es_err err = {0};
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, n % es_comm_size(comm));
        es_fault_init(spec, es_comm_rank(comm));
        int rc = es_stage_all(comm, store, folder, path, sizeof path, &err);
        es_fault_init(NULL, 0);
        assert_true(rc == 0 || rc == -ES_EIO);
        assert_int_equal(es_comm_max_all(comm, rc), es_comm_min_all(comm, rc));
        es_comm_barrier_all(comm);
        assert_int_equal(help_count_files(folder), rc == 0);
        on_first(remove_copy);
    }
    refuses(help_path(path, dir, "gone.h5"), folder, ES_EIO, "gone.h5", "No such file");
    refuses(store, help_path(path, dir, "no/where"), ES_EIO, "no/where", "No such file");
    on_first(damage_store);
    refuses(store, folder, ES_EDATA, "copy of ", "digest: got");
    on_first(damage_store); /* back again */
    stage();
    if (es_comm_rank(comm) == 0) help_text(help_path(path, dir, "text.h5"), "this is no store");
    es_comm_barrier_all(comm);
    on_first(remove_copy);
    refuses(help_path(path, dir, "text.h5"), folder, ES_EDATA, "text.h5", "HDF5");
}

int main(int argc, char **argv) {
    static struct corpus c;
    if (es_comm_init_all(&comm, &argc, &argv, NULL) < 0) return 1;
    if (es_comm_split_all(&alone, comm, es_comm_rank(comm), NULL) < 0) return 1;
    es_log_init(es_comm_rank(comm), es_comm_size(comm), ES_LOG_ERROR, true);
    help_dir(comm, "stage", dir);
    help_path(store, dir, "store.h5");
    help_path(folder, dir, "local");
    corpus_make(&c, 40);
    if (corpus_write(comm, store, &c, &digest, NULL) < 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(copies), cmocka_unit_test(many_nodes),
                                       cmocka_unit_test(failures)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(comm, dir);
    es_comm_free_all(&alone);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}
