/* Audio of the corpora: finding and probing files, cutting, resampling, writing. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "earshot/audio.h"
#include "earshot/comm.h"
#include "earshot/h5.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/timer.h"

#include "prepare_impl.h"

enum { FULL_WINDOW_CS = 1000, CS = 100, ROUND_FILES = 16, PROBE_FILES = 256, MAX_ROUND = 1024 };
enum { RATE_MIN_HZ = 4000, RATE_MAX_HZ = 384000 }; /* beyond: a damaged header */
#define ROUND_S 0.5                                /* between two exchanges */
#define WAVE_BYTES ((int64_t)512 << 20)            /* of decoded files that a rank may hold at once */

/* Every folder, in it every stem, with every extension, in the folder itself and one below. */
bool prep_candidate(const struct prep_file *f, int i, char *path, int bytes) {
    static const char *const extensions[] = {".wav", ".flac", ".mp3", ".ogg"};
    int levels = f->sub ? 2 : 1, stems = 0;
    while (stems < PREP_STEMS && f->stem[stems]) stems++;
    if (stems == 0) return false;
    int level = i % levels, extension = i / levels % 4, stem = i / levels / 4 % stems,
        dir = i / levels / 4 / stems;
    if (dir >= PREP_PLACES || !f->dir[dir]) return false;
    snprintf(path, (size_t)bytes, "%s/%s%s%s%s", f->dir[dir], level ? f->sub : "", level ? "/" : "",
             f->stem[stem], extensions[extension]);
    return true;
}

static int place_of(const struct prep_file *f, int candidate) {
    int stems = 0;
    while (stems < PREP_STEMS && f->stem[stems]) stems++;
    return candidate / (f->sub ? 2 : 1) / 4 / stems;
}

/* The .hdf files of mp3s stay open from one row to the next. HDF5 takes one thread at a time. */
struct mp3s {
    struct es_h5 *h5[ES_PREPARE_MAX_SOURCES * PREP_PLACES];
    int n;
};

static int mp3_read_alone(struct mp3s *m, const struct prep_file *f, void **bytes, size_t *n,
                          struct es_err *err) {
    const char *path = f->dir[f->place];
    int k = 0;
    while (k < m->n && strcmp(es_h5_path(m->h5[k]), path) != 0) k++;
    if (k == m->n) {
        ES_TRY(es_h5_open(&m->h5[k], path, NULL, 0, err));
        m->n++;
    }
    return es_h5_read_bytes(m->h5[k], "/mp3", f->hdf_row, bytes, n, err);
}

static int mp3_read(struct mp3s *m, const struct prep_file *f, void **bytes, size_t *n, struct es_err *err) {
    int rc;
#pragma omp critical(es_prepare_hdf5)
    rc = mp3_read_alone(m, f, bytes, n, err);
    return rc;
}

static void mp3_close(struct mp3s *m) {
    for (int k = 0; k < m->n; k++) es_h5_close(&m->h5[k]);
}

/* The row that asks for a bad file. */
static int where(const struct prep_file *f, int rc, struct es_err *err) {
    if (rc == -ES_EDATA && f->line > 0) es_err_prefix(err, "%s:%lld", f->table, (long long)f->line);
    return rc;
}

/* Two runs that see one stamp may share their work. */
static uint64_t stamp_of(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return 0;
    const int64_t words[3] = {st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    return es_hash_bytes(words, sizeof words);
}

static int wrong_format(const struct es_prepare_source *s, const char *path, const struct es_audio_info *info,
                        struct es_err *err) {
    if (s->rate_hz > 0 && info->rate_hz != s->rate_hz)
        return es_err_set(err, ES_EDATA, "%s: sample rate: got %d Hz, want %d (prepare.rate_hz)", path,
                          info->rate_hz, s->rate_hz);
    if (info->rate_hz < RATE_MIN_HZ || info->rate_hz > RATE_MAX_HZ)
        return es_err_set(err, ES_EDATA, "%s: sample rate: got %d Hz, want %d..%d", path, info->rate_hz,
                          RATE_MIN_HZ, RATE_MAX_HZ);
    if (s->n_channels > 0 && info->n_channels != s->n_channels)
        return es_err_set(err, ES_EDATA, "%s: channels: got %d, want %d (prepare.channels)", path,
                          info->n_channels, s->n_channels);
    return 0;
}

static int probe_hdf(struct prep_file *f, struct mp3s *mp3s, const char *path, struct es_audio_info *info,
                     struct es_err *err) {
    void *bytes;
    size_t n;
    f->stamp = stamp_of(f->dir[f->place]);
    ES_TRY(mp3_read(mp3s, f, &bytes, &n, err));
    int rc = es_audio_info_memory(path, bytes, n, info, err);
    es_free(&bytes);
    return rc;
}

/* Fills what is known of the file; ES_EDATA when it is missing (and must not be), damaged or wrong. */
static int probe(const struct prep *x, struct prep_file *f, struct mp3s *mp3s, struct es_err *err) {
    const struct es_prepare_source *s = &x->p->source[f->source];
    struct es_audio_info info = {0};
    char path[PATH_MAX];
    int rc = 0;
    f->found = PREP_MISSING;
    f->stamp = 0;
    if (f->hdf_row >= 0) {
        snprintf(path, sizeof path, "%s:%s", f->dir[f->place], f->stem[0]);
        rc = probe_hdf(f, mp3s, path, &info, err);
        f->found = 0;
    }
    for (int i = 0; f->hdf_row < 0 && prep_candidate(f, i, path, PATH_MAX); i++) {
        if (access(path, F_OK) != 0) continue;
        f->found = i;
        f->place = place_of(f, i);
        f->stamp = stamp_of(path);
        rc = es_audio_info(path, &info, err);
        break;
    }
    if (f->found >= 0) {
        if (rc == 0) rc = wrong_format(s, path, &info, err);
        if (rc == -ES_EDATA) f->found = PREP_DAMAGED;
        f->n_samples = info.n_samples;
        f->rate_hz = info.rate_hz;
    } else if (!s->skip_missing) {
        rc = es_err_set(err, ES_EDATA, "%s: no audio file in %s (tried %s.wav, .flac, .mp3, .ogg)",
                        f->stem[0], f->dir[0], f->stem[0]);
    }
    return where(f, rc, err);
}

static int64_t block_begin(const struct prep *x, int rank) {
    return x->n_files * rank / es_comm_size(x->comm);
}

/* What went wrong with files of this rank, in their order: lines of text. */
static int note(struct prep *x, int rc, struct es_err *err, struct es_text *notes) {
    if (rc != -ES_EDATA || x->p->strict) return rc;
    es_text_add(notes, "%s\n", err->msg);
    es_err_clear(err);
    return 0;
}

/* The notes of all ranks become problems of all ranks. */
static int share_notes_all(struct prep *x, struct es_text *notes, struct es_err *err) {
    int size = es_comm_size(x->comm), rc = es_text_check(notes, err);
    size_t *bytes = es_alloc((size_t)size, sizeof *bytes, err), total = 0, mine = notes->n;
    char *all = NULL, *save = NULL;
    ES_GO(es_err_agree_all(x->comm, bytes ? rc : -ES_EIO, err));
    es_comm_allgather_all(x->comm, &mine, sizeof mine, bytes);
    for (int r = 0; r < size; r++) total += bytes[r];
    if (total == 0) goto done;
    all = es_alloc(total + 1, 1, err);
    ES_GO(es_err_agree_all(x->comm, all ? 0 : -ES_EIO, err));
    es_comm_allgatherv_all(x->comm, notes->s, bytes, all);
    for (char *line = strtok_r(all, "\n", &save); line && rc == 0; line = strtok_r(NULL, "\n", &save))
        if (es_names_add(x->problem, line, err) < 0) rc = -ES_EIO;
    rc = es_err_agree_all(x->comm, rc, err);
done:
    es_free(&all);
    es_free(&bytes);
    return rc;
}

struct probed {
    int64_t n_samples;
    uint64_t stamp;
    int32_t rate_hz, found, place;
};

static int share_files_all(struct prep *x, struct es_err *err) {
    int rank = es_comm_rank(x->comm), size = es_comm_size(x->comm);
    int64_t begin = block_begin(x, rank), end = block_begin(x, rank + 1);
    struct probed *all = es_alloc((size_t)x->n_files, sizeof *all, err),
                  *mine = es_alloc((size_t)(end - begin), sizeof *mine, err);
    size_t *bytes = es_alloc((size_t)size, sizeof *bytes, err);
    int rc;
    ES_GO(es_err_agree_all(x->comm, all && mine && bytes ? 0 : -ES_EIO, err));
    for (int64_t i = begin; i < end; i++) {
        const struct prep_file *f = &x->file[i];
        mine[i - begin] = (struct probed){f->n_samples, f->stamp, f->rate_hz, f->found, f->place};
    }
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)(block_begin(x, r + 1) - block_begin(x, r)) * sizeof *all;
    es_comm_allgatherv_all(x->comm, mine, bytes, all);
    for (int64_t i = 0; i < x->n_files; i++) {
        struct prep_file *f = &x->file[i];
        f->n_samples = all[i].n_samples;
        f->stamp = all[i].stamp;
        f->rate_hz = all[i].rate_hz;
        f->found = all[i].found;
        f->place = all[i].place;
    }
done:
    es_free(&bytes);
    es_free(&mine);
    es_free(&all);
    return rc;
}

/* Results of a round of files, each by one thread. */
struct round {
    int *rc;
    struct es_err *err;
};

static int round_new(struct round *r, int n, struct es_err *err) {
    r->rc = es_alloc((size_t)n, sizeof *r->rc, err);
    r->err = es_alloc((size_t)n, sizeof *r->err, err);
    return r->rc && r->err ? 0 : -ES_EIO;
}

static void round_free(struct round *r) {
    es_free(&r->err);
    es_free(&r->rc);
}

int prep_probe_all(struct prep *x, struct es_err *err) {
    int64_t begin = block_begin(x, es_comm_rank(x->comm)), end = block_begin(x, es_comm_rank(x->comm) + 1);
    struct mp3s mp3s = {0};
    struct round round = {0};
    struct es_text notes = {0};
    struct es_progress progress = {0};
    int rc = round_new(&round, PROBE_FILES, err);
    es_progress_begin(&progress, "prepare: probe");
    for (int64_t at = begin; rc == 0 && at < end; at += PROBE_FILES) {
        int n = end - at < PROBE_FILES ? (int)(end - at) : PROBE_FILES;
        memset(round.err, 0, (size_t)n * sizeof *round.err);
        es_watchdog_kick("prepare: probe", at);
#pragma omp parallel for num_threads(x->p->threads) schedule(dynamic)
        for (int i = 0; i < n; i++) round.rc[i] = probe(x, &x->file[at + i], &mp3s, &round.err[i]);
        for (int i = 0; i < n && rc == 0; i++)
            if ((rc = note(x, round.rc[i], &round.err[i], &notes)) < 0) *err = round.err[i];
        es_progress_update(&progress, at + n - begin, end - begin, "files of this rank", NULL);
    }
    es_progress_end(&progress);
    ES_GO(es_err_agree_all(x->comm, rc, err));
    ES_GO(share_files_all(x, err));
    rc = share_notes_all(x, &notes, err);
done:
    es_text_free(&notes);
    round_free(&round);
    mp3_close(&mp3s);
    return rc;
}

/* A full window is 10 s; the last one of a recording reaches to its end, which its name gives in whole 1/100 s. */
int prep_window(const struct prep *x, const struct prep_clip *c, int64_t *first, int64_t *n,
                struct es_err *err) {
    const struct prep_file *f = &x->file[c->file];
    *first = 0;
    *n = f->n_samples;
    if (c->end_cs < 0) return 0;
    *first = c->start_cs * f->rate_hz / CS;
    bool full = c->end_cs - c->start_cs == FULL_WINDOW_CS;
    *n = full ? (int64_t)FULL_WINDOW_CS / CS * f->rate_hz : f->n_samples - *first;
    if (*n > 0 && *first + *n <= f->n_samples && (full || f->n_samples * CS / f->rate_hz == c->end_cs))
        return 0;
    es_err_set(err, ES_EDATA, "window %s does not fit its recording of %.2f s", c->name,
               (double)f->n_samples / f->rate_hz);
    return where(f, -ES_EDATA, err);
}

/* ---- decoding */

static int decode(const struct prep_file *f, bool first_channel, struct mp3s *mp3s, float **x, int64_t *n,
                  struct es_err *err) {
    char path[PATH_MAX];
    if (f->hdf_row >= 0) {
        void *bytes;
        size_t n_bytes;
        ES_TRY(mp3_read(mp3s, f, &bytes, &n_bytes, err));
        snprintf(path, sizeof path, "%s:%s", f->dir[f->place], f->stem[0]);
        int rc = es_audio_read_first_memory(path, bytes, n_bytes, x, n, err);
        es_free(&bytes);
        return rc;
    }
    prep_candidate(f, f->found, path, PATH_MAX);
    return first_channel ? es_audio_read_first(path, x, n, err) : es_audio_read(path, 0, -1, x, n, NULL, err);
}

static int write_clip(struct prep *x, int64_t clip, struct es_store_writer *w, int64_t row, const float *wave,
                      int64_t n_wave, struct es_err *err) {
    const struct prep_clip *c = &x->clip[clip];
    int64_t first, n, n_out;
    float *y = NULL;
    int16_t *pcm = NULL;
    int rc, rate_hz = x->file[c->file].rate_hz;
    ES_GO(prep_window(x, c, &first, &n, err));
    if (first + n > n_wave)
        n = n_wave > first ? n_wave - first : 0; /* an MP3 may turn out shorter than its header says */
    ES_GO((prep_is_audioset((enum es_subset)c->subset) ? es_resample_kaiser : es_resample)(
        wave + first, n, rate_hz, ES_STORE_RATE_HZ, &y, &n_out, err));
    pcm = es_alloc((size_t)n_out, sizeof *pcm, err);
    if (!pcm) ES_GO(-ES_EIO);
    es_pcm_from_float(y, n_out, pcm);
#pragma omp critical(es_prepare_store)
    rc = es_store_write_pcm(w, row, pcm, n_out, err);
done:
    es_free(&pcm);
    es_free(&y);
    return rc;
}

/* An earlier run may have written the row. */
static bool lacks(const struct es_store_writer *w, int64_t row) {
    return row >= 0 && !es_store_done(w, row);
}

/* All clips of a file; order: clips sorted by file, from begin on. */
static int write_file(struct prep *x, int64_t file, struct es_store_writer *w, const int64_t *order,
                      int64_t begin, int64_t end, const int64_t *row, struct mp3s *mp3s, struct es_err *err) {
    float *wave = NULL;
    int64_t n_wave = 0;
    bool wanted = false, first = prep_is_audioset(x->p->source[x->file[file].source].subset);
    if (prep_is_long(x, &x->file[file])) return 0;
    for (int64_t i = begin; i < end; i++) wanted = wanted || lacks(w, row[order[i]]);
    int rc = wanted ? decode(&x->file[file], first, mp3s, &wave, &n_wave, err) : 0;
    if (rc == 0 && wanted && x->responses) rc = prep_respond(x, &x->file[file], &wave, n_wave, err);
    for (int64_t i = begin; rc == 0 && i < end; i++)
        if (lacks(w, row[order[i]])) rc = write_clip(x, order[i], w, row[order[i]], wave, n_wave, err);
    es_free(&wave);
    return where(&x->file[file], rc, err);
}

/* The clips sorted by file: those of file f are order[first[f]] .. order[first[f+1]-1]. */
struct by_file {
    int64_t *first, *order;
};

static int sort_by_file(const struct prep *x, struct by_file *s, struct es_err *err) {
    s->first = es_alloc((size_t)x->n_files + 2, sizeof *s->first, err);
    s->order = es_alloc((size_t)x->n_clips, sizeof *s->order, err);
    if (!s->first || !s->order) return -ES_EIO;
    int64_t *first = s->first; /* counting sort; first[f+1] moves on from the begin of f to its end */
    for (int64_t i = 0; i < x->n_clips; i++)
        if (x->clip[i].file >= 0) first[x->clip[i].file + 2]++;
    for (int64_t k = 1; k < x->n_files + 2; k++) first[k] += first[k - 1];
    for (int64_t i = 0; i < x->n_clips; i++)
        if (x->clip[i].file >= 0) s->order[first[x->clip[i].file + 1]++] = i;
    return 0;
}

/* Threads whose decoded files fit into memory together; long recordings are many samples. */
static int decoding_threads(const struct prep *x, int64_t begin, int64_t end) {
    int64_t longest = 1;
    for (int64_t f = begin; f < end; f++)
        if (!prep_is_long(x, &x->file[f]) && x->file[f].n_samples > longest) longest = x->file[f].n_samples;
    int64_t fit = WAVE_BYTES / (longest * (x->responses ? 2 : 1) * (int64_t)sizeof(float));
    return fit < 1 ? 1 : fit < x->p->threads ? (int)fit : x->p->threads;
}

/* The files of this rank from `at` on; those that are damaged are noted and counted. */
static int write_round(struct prep *x, struct es_store_writer *w, const int64_t *row, const struct by_file *s,
                       int64_t at, int n, int threads, struct round *round, struct mp3s *mp3s,
                       struct es_text *notes, int64_t *n_bad, struct es_err *err) {
    int rc = 0;
    memset(round->err, 0, (size_t)n * sizeof *round->err);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int i = 0; i < n; i++) {
        es_watchdog_kick("prepare: decode", at + i);
        round->rc[i] = write_file(x, at + i, w, s->order, s->first[at + i], s->first[at + i + 1], row, mp3s,
                                  &round->err[i]);
    }
    for (int i = 0; i < n && rc == 0; i++) {
        if (round->rc[i] == -ES_EDATA) {
            x->file[at + i].found = PREP_DAMAGED;
            ++*n_bad;
        }
        if ((rc = note(x, round->rc[i], &round->err[i], notes)) < 0) *err = round->err[i];
    }
    return rc;
}

int prep_write_all(struct prep *x, struct es_store_writer *w, const int64_t *row, struct es_err *err) {
    int64_t begin = block_begin(x, es_comm_rank(x->comm)), end = block_begin(x, es_comm_rank(x->comm) + 1);
    int threads = decoding_threads(x, begin, end),
        most = ROUND_FILES * threads < MAX_ROUND ? ROUND_FILES * threads : MAX_ROUND;
    int64_t done = 0, n_bad = 0;
    struct by_file sorted = {0};
    struct mp3s mp3s = {0};
    struct round round = {0};
    struct es_text notes = {0};
    struct es_progress progress = {0};
    double begin_s = es_now_s();
    int64_t files = 0;
    int rc = sort_by_file(x, &sorted, err);
    if (rc == 0) rc = round_new(&round, most, err);
    ES_GO(es_err_agree_all(x->comm, rc, err));
    ES_GO(prep_write_long_all(x, w, sorted.first, sorted.order, row, err));
    es_progress_begin(&progress, "prepare");
    do { /* short rounds: one rank's error ends the job soon */
        double round_s = es_now_s();
        do {
            int n = end - begin - done < most ? (int)(end - begin - done) : most;
            rc =
                write_round(x, w, row, &sorted, begin + done, n, threads, &round, &mp3s, &notes, &n_bad, err);
            done += n;
            if (rc == 0 && es_stop_requested()) rc = ES_STOPPED;
        } while (rc == 0 && begin + done < end && es_now_s() - round_s < ROUND_S);
        ES_GO(es_err_agree_all(x->comm, rc, err));
        files = es_comm_sum_all(x->comm, done);
        es_progress_update(&progress, files, x->n_files, "files", NULL);
        if (rc == ES_STOPPED && files < x->n_files) {
            es_log(ES_LOG_INFO, "stopped by a signal files=%lld; run again to resume", (long long)files);
            goto done;
        }
        rc = 0;
    } while (files < x->n_files);
    x->files_done = files;
    x->seconds += es_now_s() - begin_s;
    es_log(ES_LOG_INFO, "prepare files=%lld seconds=%.1f files_per_s=%.1f threads=%d", (long long)files,
           x->seconds, (double)files / (x->seconds > 0 ? x->seconds : 1), threads);
    if (es_comm_sum_all(x->comm, n_bad) > 0) {
        ES_GO(share_files_all(x, err));
        ES_GO(share_notes_all(x, &notes, err));
        rc = PREP_AGAIN;
    }
done:
    es_progress_end(&progress);
    mp3_close(&mp3s);
    es_text_free(&notes);
    round_free(&round);
    es_free(&sorted.order);
    es_free(&sorted.first);
    return rc;
}
