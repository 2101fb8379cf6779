/* For the tests of prepare: small corpora in a scratch folder, one store from all ranks and from each alone. */
#ifndef EARSHOT_TESTS_PREPARE_HELP_H
#define EARSHOT_TESTS_PREPARE_HELP_H

#include "earshot/audio.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/prepare.h"

#include "io_help.h"

static struct es_comm *comm, *alone;
static char dir[256], buffer[8][512];

static inline const char *at(int slot, const char *name) {
    return help_path(buffer[slot], dir, name);
}

static inline void make_dirs(const char *path) {
    char part[512];
    snprintf(part, sizeof part, "%s/%s/", dir, path);
    for (char *c = part + strlen(dir) + 1; *c; c++)
        if (*c == '/') {
            *c = 0;
            mkdir(part, 0777);
            *c = '/';
        }
}

static inline void put_text(const char *name, const char *text) {
    char path[512];
    help_text(help_path(path, dir, name), text);
}

/* Sample i of sound `id`: a tone with a slow beat, so that every cut is told from every other. */
static inline double sound(int id, int64_t i, int rate_hz) {
    double t = (double)i / rate_hz;
    return 0.4 * sin(2 * 3.14159265358979 * (200 + 37 * id) * t) * (0.6 + 0.4 * sin(0.9 * t + id));
}

static inline void put_audio(const char *name, int id, double seconds, int rate_hz, int channels) {
    char path[512];
    int64_t n = (int64_t)(seconds * rate_hz);
    int16_t *pcm = es_alloc((size_t)(n * channels), sizeof *pcm, NULL);
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < channels; c++)
            pcm[i * channels + c] = (int16_t)(32767 * sound(id, i, rate_hz) * (c ? 0.5 : 1));
    struct es_err err = {0};
    assert_int_equal(es_audio_write(help_path(path, dir, name), pcm, n, channels, rate_hz, &err), 0);
    es_free(&pcm);
}

/* Builds the store with all ranks and with every rank alone; one digest. */
static inline void prepare_twice(struct es_prepare_params *p, const char *out, uint64_t *digest) {
    char name[64];
    uint64_t own = 0;
    struct es_err err = {0};
    p->out = at(0, out);
    if (es_prepare_all(comm, p, NULL, digest, &err) < 0) print_message("%s\n", err.msg);
    assert_int_equal(err.code, 0);
    snprintf(name, sizeof name, "out/alone-%d.h5", es_comm_rank(comm));
    p->out = at(1, name);
    assert_int_equal(es_prepare_all(alone, p, NULL, &own, &err), 0);
    assert_int_equal(*digest, own);
    unlink(p->out);
    p->out = at(0, out);
    es_comm_barrier_all(comm);
}

static inline int64_t find(const struct es_store *s, enum es_subset subset, const char *name) {
    for (int64_t i = 0; i < es_store_n_clips(s); i++)
        if (es_store_subset(s, i) == subset && strcmp(es_store_name(s, i), name) == 0) return i;
    return -1;
}

/* Communicators, log and scratch folder; rank 0 makes the corpora. make: ends with NULL. false: no MPI. */
static inline bool prepare_begin(int *argc, char ***argv, const char *name, enum es_log_level level,
                                 void (*const *make)(void)) {
    if (es_comm_init_all(&comm, argc, argv, NULL) < 0) return false;
    if (es_comm_split_all(&alone, comm, es_comm_rank(comm), NULL) < 0) return false;
    es_log_init(es_comm_rank(comm), es_comm_size(comm), level, true);
    help_dir(comm, name, dir);
    for (int i = 0; es_comm_rank(comm) == 0 && make[i]; i++) make[i]();
    es_comm_barrier_all(comm);
    return true;
}

/* The program's exit code. */
static inline int prepare_end(int failed) {
    help_dir_end(comm, dir);
    es_comm_free_all(&alone);
    es_comm_fini_all(&comm);
    return failed != 0 || es_mem_live_blocks() != 0;
}

#endif
