/* For the tests of files: a scratch folder that all ranks share, small files, and checks of messages. */
#ifndef EARSHOT_TESTS_IO_HELP_H
#define EARSHOT_TESTS_IO_HELP_H

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/comm.h"
#include "earshot/err.h"

/* Folder under the test's working directory; comm may be NULL. */
static inline void help_dir(const struct es_comm *comm, const char *name, char dir[256]) {
    memset(dir, 0, 256);
    snprintf(dir, 256, "tmp-%s-XXXXXX", name);
    if (!comm || es_comm_rank(comm) == 0) assert_non_null(mkdtemp(dir));
    if (comm) es_comm_bcast_all(comm, dir, 256, 0);
}

static inline void help_remove(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        char sub[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        help_remove(sub);
    }
    if (d) closedir(d);
    remove(path);
}

/* All ranks are done with dir. */
static inline void help_dir_end(const struct es_comm *comm, const char *dir) {
    if (comm) es_comm_barrier_all(comm);
    if (!comm || es_comm_rank(comm) == 0) help_remove(dir);
}

static inline int help_count_files(const char *path) {
    int n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static inline const char *help_path(char out[512], const char *dir, const char *name) {
    snprintf(out, 512, "%s/%s", dir, name);
    return out;
}

static inline void help_write(const char *path, const void *data, size_t bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static inline void help_text(const char *path, const char *text) {
    help_write(path, text, strlen(text));
}

static inline int64_t help_bytes(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

/* The call failed with this code, and its one line holds each of the words. */
static inline void help_failed(int rc, const struct es_err *err, int code, const char *word1,
                               const char *word2) {
    if (rc != -code || !strstr(err->msg, word1) || !strstr(err->msg, word2))
        print_message("got %d \"%s\", want %d with \"%s\" and \"%s\"\n", rc, err->msg, -code, word1, word2);
    assert_int_equal(rc, -code);
    assert_int_equal(err->code, code);
    assert_non_null(strstr(err->msg, word1));
    assert_non_null(strstr(err->msg, word2));
    assert_null(strchr(err->msg, '\n'));
}

/* setup and teardown of a program on one rank with a scratch folder `dir`; nothing may stay allocated. */
#define HELP_SCRATCH(name)                                                                                   \
    static int setup(void **state) {                                                                         \
        (void)state;                                                                                         \
        help_dir(NULL, name, dir);                                                                           \
        return 0;                                                                                            \
    }                                                                                                        \
    static int teardown(void **state) {                                                                      \
        (void)state;                                                                                         \
        help_dir_end(NULL, dir);                                                                             \
        return es_mem_live_blocks() == 0 ? 0 : -1;                                                           \
    }

#endif
