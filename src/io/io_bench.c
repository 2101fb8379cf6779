#include "earshot/io_bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "earshot/ckpt.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"
#include "earshot/rng.h"
#include "earshot/store.h"
#include "earshot/timer.h"

#define MAX_REPEATS 1000
#define PIECE ((int64_t)8 << 20)
#define CLIP_SAMPLES 160000
#define N_FRAMES 250 /* of predictions: AudioSet-strong's */
#define N_CLASSES 447
#define BLOCK_CLIPS 8
#define N_ARRAYS 16 /* of a checkpoint */

enum { PLAIN, STORE, CKPT, PREDICTIONS, N_FILES };
static const char *const suffix[N_FILES] = {"plain", "store.h5", "checkpoint.h5", "predictions.h5"};

struct bench {
    const struct es_comm *c;
    int rank, size;
    char path[N_FILES][600];
    int64_t plain_bytes, n_clips, n_rows, array_n;
    char *noise; /* [PIECE] and more: what is written */
    float *values, *m, *v;
    char (*name)[16]; /* [max(n_clips, n_rows, N_CLASSES)] */
    const char **names, **empty;
    uint8_t *zeros;
    int64_t *samples, *index;
    double *duration_s;
    struct es_ckpt_writer *writer;
    double away_s; /* of the operation, not to be counted */
};

static int64_t share_lo(const struct bench *b, int64_t n, int rank) {
    return n / b->size * rank + (rank < n % b->size ? rank : n % b->size);
}

static int64_t floats_of_checkpoint(const struct bench *b) {
    return N_ARRAYS * b->array_n;
}

static int64_t part_max(const struct bench *b) {
    return floats_of_checkpoint(b) / b->size + 1;
}

static void fill(const struct bench *b, float *x, int64_t n, size_t room) {
    const int64_t step = (int64_t)(room / sizeof(float));
    for (int64_t i = 0; i < n; i += step)
        memcpy(x + i, b->noise, (size_t)(n - i < step ? n - i : step) * sizeof(float));
}

static int bench_alloc(struct bench *b, struct es_err *err) {
    int64_t n = b->n_clips > b->n_rows ? b->n_clips : b->n_rows,
            block = (int64_t)BLOCK_CLIPS * N_FRAMES * N_CLASSES * 4;
    if (n < N_CLASSES) n = N_CLASSES; /* names of clips serve as names of classes */
    size_t room = (size_t)(block > PIECE ? block : PIECE);
    b->noise = es_alloc(1, room, err);
    b->values = es_alloc((size_t)floats_of_checkpoint(b), sizeof(float), err);
    b->m = es_alloc((size_t)part_max(b), sizeof(float), err);
    b->v = es_alloc((size_t)part_max(b), sizeof(float), err);
    b->name = es_alloc((size_t)n, sizeof *b->name, err);
    b->names = es_alloc((size_t)n, sizeof *b->names, err);
    b->empty = es_alloc((size_t)n, sizeof *b->empty, err);
    b->zeros = es_alloc((size_t)n, 1, err);
    b->samples = es_alloc((size_t)n, sizeof *b->samples, err);
    b->index = es_alloc((size_t)n + 1, sizeof *b->index, err);
    b->duration_s = es_alloc((size_t)n, sizeof *b->duration_s, err);
    es_ckpt_writer_new(&b->writer, err);
    if (err->code) return es_err_prefix(err, "bench io");
    struct es_rng r = es_rng_make(1, ES_RNG_BENCH, 0, (uint32_t)b->rank, 0);
    for (size_t i = 0; i + 4 <= room; i += 4) {
        uint32_t bits = es_rng_u32(&r) & 0xBFFFFFFFu; /* below 2: finite as a float */
        memcpy(b->noise + i, &bits, 4);
    }
    fill(b, b->values, floats_of_checkpoint(b), room);
    fill(b, b->m, part_max(b), room);
    fill(b, b->v, part_max(b), room);
    for (int64_t i = 0; i < n; i++) {
        snprintf(b->name[i], sizeof b->name[i], "clip%08lld", (long long)i);
        b->names[i] = b->name[i];
        b->empty[i] = "";
        b->samples[i] = CLIP_SAMPLES;
        b->duration_s[i] = 10;
    }
    return 0;
}

static void bench_free(struct bench *b) {
    es_ckpt_writer_free(&b->writer);
    es_free(&b->duration_s);
    es_free(&b->index);
    es_free(&b->samples);
    es_free(&b->zeros);
    es_free(&b->empty);
    es_free(&b->names);
    es_free(&b->name);
    es_free(&b->v);
    es_free(&b->m);
    es_free(&b->values);
    es_free(&b->noise);
}

static int failed(const char *path, const char *what, struct es_err *err) {
    return es_err_set(err, ES_EIO, "bench io: %s: %s: %s", path, what, strerror(errno));
}

/* ---- a plain file: every rank its part, in large pieces; what is written comes from memory as far as that of a checkpoint does */
static int plain(struct bench *b, bool write, struct es_err *err) {
    const char *path = b->path[PLAIN];
    int fd = open(path, write ? O_WRONLY | O_CREAT : O_RDONLY, 0666), rc = 0;
    if (fd < 0) return failed(path, "cannot open", err);
    int64_t at = share_lo(b, b->plain_bytes, b->rank), end = share_lo(b, b->plain_bytes, b->rank + 1);
    const int64_t n_pieces = floats_of_checkpoint(b) * (int64_t)sizeof(float) / PIECE;
    while (at < end && rc == 0) {
        size_t want = (size_t)(end - at < PIECE ? end - at : PIECE);
        const char *from = n_pieces < 1 ? b->noise : (const char *)b->values + at / PIECE % n_pieces * PIECE;
        ssize_t n = write ? pwrite(fd, from, want, (off_t)at) : pread(fd, b->noise, want, (off_t)at);
        if (n <= 0) rc = failed(path, write ? "cannot write" : "cannot read", err);
        at += n;
    }
    if (rc == 0 && write && fsync(fd) != 0) rc = failed(path, "fsync", err);
    close(fd);
    return rc;
}

static int plain_write(struct bench *b, struct es_err *err) {
    return es_err_agree_all(b->c, plain(b, true, err), err);
}
static int plain_read(struct bench *b, struct es_err *err) {
    return es_err_agree_all(b->c, plain(b, false, err), err);
}

/* ---- corpus store: rank r writes clips r, r + P, ... and reads its share of them in random order, as training does */
static int store_write(struct bench *b, struct es_err *err) {
    static const char *const classes[1] = {"noise"};
    struct es_store_writer *w = NULL;
    struct es_store_desc d = {.n_clips = b->n_clips,
                              .n_classes = 1,
                              .class_name = classes,
                              .clip_name = b->names,
                              .recording = b->empty,
                              .subset = b->zeros,
                              .split = b->zeros,
                              .reserved = b->samples,
                              .duration_s = b->duration_s,
                              .event_index = b->index,
                              .weak = b->zeros,
                              .inputs = 1};
    ES_TRY(es_store_create_all(&w, b->c, b->path[STORE], &d, err));
    int rc = 0;
    const void *pcm = b->noise;
    for (int64_t i = b->rank; i < b->n_clips && rc == 0; i += b->size)
        rc = es_store_write_pcm(w, i, pcm, CLIP_SAMPLES, err);
    return es_store_commit_all(&w, rc, NULL, err);
}

static int store_read(struct bench *b, struct es_err *err) {
    struct es_store *s = NULL;
    int64_t *order = NULL;
    int rc = 0;
    ES_TRY(es_store_open_all(&s, b->c, b->path[STORE], err));
    order = es_alloc((size_t)b->n_clips, sizeof *order, err);
    if (!order) rc = -ES_EIO;
    struct es_rng r = es_rng_make(2, ES_RNG_BENCH, 0, 0, 0);
    if (order) es_rng_permutation(&r, b->n_clips, order);
    int64_t end = share_lo(b, b->n_clips, b->rank + 1);
    void *pcm = b->noise;
    for (int64_t i = share_lo(b, b->n_clips, b->rank); i < end && rc == 0; i++)
        rc = es_store_read_pcm(s, order[i], 0, CLIP_SAMPLES, pcm, err);
    es_free(&order);
    es_store_close(&s);
    return es_err_agree_all(b->c, rc, err);
}

/* ---- checkpoint: weights as full replicas, moments in one segment a rank */
struct lists {
    struct es_ckpt_array array[N_ARRAYS];
    struct es_ckpt_param param[N_ARRAYS];
    struct es_ckpt_segment segment;
    char name[N_ARRAYS][16];
    struct es_ckpt_state state;
};

static void checkpoint_lists(struct bench *b, struct lists *l) {
    const int64_t n = b->array_n, all = floats_of_checkpoint(b), lo = share_lo(b, all, b->rank);
    for (int i = 0; i < N_ARRAYS; i++) {
        snprintf(l->name[i], sizeof l->name[i], "weight%d", i);
        l->array[i] = (struct es_ckpt_array){
            .name = l->name[i], .type = ES_H5_F32, .ndim = 1, .dim = {n}, .data = b->values + i * n};
        l->param[i] = (struct es_ckpt_param){l->name[i], n, i * n};
    }
    l->segment = (struct es_ckpt_segment){lo, share_lo(b, all, b->rank + 1) - lo, b->m, b->v};
    l->state = (struct es_ckpt_state){.n_student = N_ARRAYS,
                                      .n_params = N_ARRAYS,
                                      .n_segments = 1,
                                      .student = l->array,
                                      .param = l->param,
                                      .segment = &l->segment};
}

static int checkpoint_write(struct bench *b, struct es_err *err) {
    struct lists l;
    struct es_ckpt_meta meta = {.step = 1, .seed = 1};
    checkpoint_lists(b, &l);
    return es_ckpt_save_all(b->c, b->path[CKPT], NULL, &l.state, &meta, "", err);
}

static int checkpoint_held(struct bench *b, struct es_err *err) {
    struct lists l;
    struct es_ckpt_meta meta = {.step = 1, .seed = 1};
    checkpoint_lists(b, &l);
    ES_TRY(es_ckpt_begin_all(b->writer, b->c, b->path[CKPT], NULL, &l.state, &meta, "", err));
    const double begin_s = es_now_s();
    while (es_comm_max_all(b->c, !es_ckpt_written(b->writer)))
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    b->away_s = es_now_s() - begin_s;
    return es_ckpt_finish_all(b->writer, NULL, err);
}

static int checkpoint_read(struct bench *b, struct es_err *err) {
    struct lists l;
    checkpoint_lists(b, &l);
    return es_ckpt_load_all(b->c, b->path[CKPT], ES_CKPT_STUDENT | ES_CKPT_ADAM, &l.state, NULL, err);
}

/* ---- predictions: block by block */
static int predictions_write(struct bench *b, struct es_err *err) {
    struct es_predictions_writer *w = NULL;
    struct es_predictions_desc d = {.n_clips = b->n_rows,
                                    .n_frames = N_FRAMES,
                                    .n_classes = N_CLASSES,
                                    .block_clips = BLOCK_CLIPS,
                                    .names = b->names,
                                    .classes = b->names,
                                    .which = "student"};
    ES_TRY(es_predictions_begin_all(&w, b->c, b->path[PREDICTIONS], &d, err));
    const void *logits = b->noise;
    for (int64_t first = 0; first < es_predictions_n_blocks(w); first += b->size) {
        int64_t mine = first + b->rank < es_predictions_n_blocks(w) ? first + b->rank : -1;
        ES_TRY(es_predictions_write_all(&w, mine, logits, err));
    }
    return es_predictions_finish_all(&w, err);
}

static int predictions_read(struct bench *b, struct es_err *err) {
    struct es_predictions *p = NULL;
    int rc = es_predictions_open(&p, b->path[PREDICTIONS], err);
    int64_t end = share_lo(b, b->n_rows, b->rank + 1);
    void *logits = b->noise;
    for (int64_t row = share_lo(b, b->n_rows, b->rank); row < end && rc == 0; row += BLOCK_CLIPS)
        rc = es_predictions_read(p, row, end - row < BLOCK_CLIPS ? end - row : BLOCK_CLIPS, logits, err);
    es_predictions_close(&p);
    return es_err_agree_all(b->c, rc, err);
}

/* ---- all of them */
static const struct operation {
    const char *name;
    bool write;
    int file;
    int (*run)(struct bench *b, struct es_err *err); /* collective, agrees on errors */
} operations[ES_IO_BENCH_ROWS] = {
    {"plain_write", true, PLAIN, plain_write},
    {"plain_read", false, PLAIN, plain_read},
    {"store_write", true, STORE, store_write},
    {"store_read", false, STORE, store_read},
    {"checkpoint_held", true, CKPT, checkpoint_held},
    {"checkpoint_write", true, CKPT, checkpoint_write},
    {"checkpoint_read", false, CKPT, checkpoint_read},
    {"predictions_write", true, PREDICTIONS, predictions_write},
    {"predictions_read", false, PREDICTIONS, predictions_read},
};

static void remove_all(const struct bench *b, int file) {
    char part[620];
    es_comm_barrier_all(b->c);
    snprintf(part, sizeof part, "%s.part", b->path[file]);
    if (b->rank == 0) unlink(part);
    if (b->rank == 0) unlink(b->path[file]);
    es_comm_barrier_all(b->c);
}

static void leave_cache(const struct bench *b, int file) {
    int fd = open(b->path[file], O_RDONLY);
    if (fd < 0) return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* A write begins without any other file, in the memory that those had: all find the same, which on virtual machines that give free
 * memory back to their host makes a difference of three. So a read follows its write. */
static int run_timed(struct bench *b, const struct operation *o, double *seconds, struct es_err *err) {
    for (int file = 0; o->write && file < N_FILES; file++) remove_all(b, file);
    if (!o->write) leave_cache(b, o->file);
    es_comm_barrier_all(b->c);
    double begin_s = es_now_s();
    b->away_s = 0;
    ES_TRY(o->run(b, err));
    *seconds = es_comm_slowest_s_all(b->c, es_now_s() - begin_s - b->away_s);
    return 0;
}

static bool wanted(const struct operation *o, const char *only) {
    return o->file == PLAIN || !only || strncmp(o->name, only, strlen(only)) == 0;
}

int es_io_bench_all(const struct es_comm *c, const char *dir, int64_t bytes, int n_repeats, const char *only,
                    struct es_io_bench_row rows[ES_IO_BENCH_ROWS], struct es_err *err) {
    const int64_t clip_bytes = 2 * CLIP_SAMPLES, row_bytes = (int64_t)N_FRAMES * N_CLASSES * 4;
    struct bench b = {.c = c, .rank = es_comm_rank(c), .size = es_comm_size(c), .plain_bytes = bytes};
    struct es_err local = {0};
    double *seconds = NULL; /* [rows, repeats]; then [repeats] shares of the plain file */
    int rc = 0;
    if (bytes < 1 || n_repeats < 1 || n_repeats > MAX_REPEATS)
        return es_err_set(err, ES_EUSAGE, "bench io: got %lld bytes, %d repeats, want 1 or more and 1..%d",
                          (long long)bytes, n_repeats, MAX_REPEATS);
    b.n_clips = bytes / clip_bytes + 1;
    b.n_rows = bytes / row_bytes + 1;
    b.array_n = bytes / 12 / N_ARRAYS + 1;
    for (int i = 0; i < N_FILES; i++)
        snprintf(b.path[i], sizeof b.path[i], "%s/earshot-bench-%s", dir, suffix[i]);
    rc = bench_alloc(&b, &local);
    seconds =
        rc == 0 ? es_alloc((size_t)((ES_IO_BENCH_ROWS + 1) * n_repeats), sizeof *seconds, &local) : NULL;
    rc = es_err_agree_all(c, local.code ? -local.code : 0, &local);
    const int64_t weights = 12 * floats_of_checkpoint(&b),
                  moved[N_FILES] = {bytes, b.n_clips * clip_bytes, weights, b.n_rows * row_bytes};
    for (int i = -1; i < n_repeats && rc == 0; i++)
        for (int k = 0; k < ES_IO_BENCH_ROWS && rc == 0; k++) {
            double s = 0;
            if (!wanted(&operations[k], only)) continue;
            rc = run_timed(&b, &operations[k], &s, &local);
            if (i >= 0) seconds[k * n_repeats + i] = s;
        }
    /* backwards: the plain file's rounds come first and are sorted last */
    for (int k = ES_IO_BENCH_ROWS - 1; k >= 0 && rc == 0; k--) {
        const struct operation *o = &operations[k];
        rows[k] = (struct es_io_bench_row){.op = o->name, .write = o->write};
        if (!wanted(o, only)) continue;
        double *s = seconds + k * n_repeats, *plain_s = seconds + (o->write ? 0 : n_repeats),
               *share = seconds + ES_IO_BENCH_ROWS * n_repeats;
        const double bytes_of = (double)moved[o->file];
        for (int i = 0; i < n_repeats; i++) share[i] = bytes_of / (double)bytes * (plain_s[i] / s[i]);
        rows[k].bytes = moved[o->file];
        rows[k].of_plain = es_median(share, n_repeats);
        rows[k].seconds = es_median(s, n_repeats);
    }
    for (int i = 0; i < N_FILES; i++) remove_all(&b, i);
    es_free(&seconds);
    bench_free(&b);
    if (rc < 0 && err) *err = local;
    return rc;
}
