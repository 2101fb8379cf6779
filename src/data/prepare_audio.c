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

enum { FULL_WINDOW_CS = 1000, CS = 100, ROUND_FILES = 16 };

bool prep_candidate(const struct prep_file *f, int i, char *path, int bytes) {
    static const char *const extensions[] = {".wav", ".flac", ".mp3", ".ogg"};
    int places = f->sub ? 2 : 1, extension = i / places % 4, stem = i / places / 4;
    if (stem >= PREP_STEMS || !f->stem[stem]) return false;
    bool below = i % places == 1;
    snprintf(path, (size_t)bytes, "%s/%s%s%s%s", f->dir, below ? f->sub : "", below ? "/" : "", f->stem[stem],
             extensions[extension]);
    return true;
}

/* The mp3s of an .hdf; the file stays open from one row to the next. */
struct mp3s {
    struct es_h5 *h5;
    const char *path;
};

static int mp3_read(struct mp3s *m, const struct prep_file *f, void **bytes, size_t *n, struct es_err *err) {
    if (!m->h5 || strcmp(m->path, f->dir) != 0) {
        es_h5_close(&m->h5);
        ES_TRY(es_h5_open(&m->h5, f->dir, NULL, 0, err));
        m->path = f->dir;
    }
    return es_h5_read_bytes(m->h5, "/mp3", f->hdf_row, bytes, n, err);
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

static int probe(struct prep_file *f, struct mp3s *mp3s, struct es_err *err) {
    struct es_audio_info info;
    char path[PATH_MAX];
    f->found = -1;
    f->stamp = 0;
    if (f->hdf_row >= 0) {
        void *bytes;
        size_t n;
        char name[PATH_MAX];
        ES_TRY(where(f, mp3_read(mp3s, f, &bytes, &n, err), err));
        snprintf(name, sizeof name, "%s:%s", f->dir, f->stem[0]);
        int rc = es_audio_info_memory(name, bytes, n, &info, err);
        es_free(&bytes);
        ES_TRY(where(f, rc, err));
        f->found = 0;
        f->stamp = stamp_of(f->dir);
    }
    for (int i = 0; f->hdf_row < 0 && prep_candidate(f, i, path, PATH_MAX); i++) {
        if (access(path, F_OK) != 0) continue;
        ES_TRY(where(f, es_audio_info(path, &info, err), err));
        f->found = i;
        f->stamp = stamp_of(path);
        break;
    }
    if (f->found >= 0) {
        f->n_samples = info.n_samples;
        f->rate_hz = info.rate_hz;
        return 0;
    }
    if (f->skip_missing) return 0;
    es_err_set(err, ES_EDATA, "%s: no audio file in %s (tried %s.wav, .flac, .mp3, .ogg)", f->stem[0], f->dir,
               f->stem[0]);
    return where(f, -ES_EDATA, err);
}

static int64_t block_begin(const struct prep *x, int rank) {
    return x->n_files * rank / es_comm_size(x->comm);
}

struct probed {
    int64_t n_samples;
    uint64_t stamp;
    int32_t rate_hz, found;
};

int prep_probe_all(struct prep *x, struct es_err *err) {
    int rank = es_comm_rank(x->comm), size = es_comm_size(x->comm);
    int64_t begin = block_begin(x, rank), end = block_begin(x, rank + 1);
    struct probed *mine = es_alloc((size_t)(end - begin), sizeof *mine, err), *all = NULL;
    size_t *bytes = es_alloc((size_t)size, sizeof *bytes, err);
    struct mp3s mp3s = {0};
    int rc = mine && bytes ? 0 : -ES_EIO;
    for (int64_t i = begin; rc == 0 && i < end; i++) {
        es_watchdog_kick("prepare: probe", i);
        rc = probe(&x->file[i], &mp3s, err);
        mine[i - begin] =
            (struct probed){x->file[i].n_samples, x->file[i].stamp, x->file[i].rate_hz, x->file[i].found};
    }
    if (rc == 0 && !(all = es_alloc((size_t)x->n_files, sizeof *all, err))) rc = -ES_EIO;
    ES_GO(es_err_agree_all(x->comm, rc, err));
    for (int r = 0; r < size; r++)
        bytes[r] = (size_t)(block_begin(x, r + 1) - block_begin(x, r)) * sizeof *all;
    es_comm_allgatherv_all(x->comm, mine, bytes, all);
    for (int64_t i = 0; i < x->n_files; i++) {
        x->file[i].n_samples = all[i].n_samples;
        x->file[i].stamp = all[i].stamp;
        x->file[i].rate_hz = all[i].rate_hz;
        x->file[i].found = all[i].found;
    }
done:
    es_h5_close(&mp3s.h5);
    es_free(&bytes);
    es_free(&all);
    es_free(&mine);
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

static int decode(const struct prep_file *f, struct mp3s *mp3s, float **x, int64_t *n, struct es_err *err) {
    char path[PATH_MAX];
    if (f->hdf_row >= 0) {
        void *bytes;
        size_t n_bytes;
        ES_TRY(mp3_read(mp3s, f, &bytes, &n_bytes, err));
        snprintf(path, sizeof path, "%s:%s", f->dir, f->stem[0]);
        int rc = es_audio_read_memory(path, bytes, n_bytes, x, n, err);
        es_free(&bytes);
        return rc;
    }
    prep_candidate(f, f->found, path, PATH_MAX);
    return es_audio_read(path, 0, -1, x, n, NULL, err);
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
    ES_GO(es_store_write_pcm(w, row, pcm, n_out, err));
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
    bool wanted = false;
    for (int64_t i = begin; i < end; i++) wanted = wanted || lacks(w, row[order[i]]);
    int rc = wanted ? decode(&x->file[file], mp3s, &wave, &n_wave, err) : 0;
    for (int64_t i = begin; rc == 0 && i < end; i++)
        if (lacks(w, row[order[i]])) rc = write_clip(x, order[i], w, row[order[i]], wave, n_wave, err);
    es_free(&wave);
    return where(&x->file[file], rc, err);
}

int prep_write_all(struct prep *x, struct es_store_writer *w, const int64_t *row, struct es_err *err) {
    int64_t begin = block_begin(x, es_comm_rank(x->comm)), end = block_begin(x, es_comm_rank(x->comm) + 1);
    int64_t rounds = es_comm_max_all(x->comm, (end - begin + ROUND_FILES - 1) / ROUND_FILES), done = 0;
    int64_t *first = es_alloc((size_t)x->n_files + 1, sizeof *first, err);
    int64_t *order = es_alloc((size_t)x->n_clips, sizeof *order, err);
    struct mp3s mp3s = {0};
    struct es_progress progress = {0};
    double begin_s = es_now_s();
    int64_t files = 0;
    int rc = first && order ? 0 : -ES_EIO;
    if (rc == 0) { /* counting sort of the clips by file */
        for (int64_t i = 0; i < x->n_clips; i++) first[x->clip[i].file + 1]++;
        for (int64_t f = 0; f < x->n_files; f++) first[f + 1] += first[f];
        for (int64_t i = 0; i < x->n_clips; i++) order[first[x->clip[i].file]++] = i;
        for (int64_t f = x->n_files; f > 0; f--) first[f] = first[f - 1];
        first[0] = 0;
    }
    ES_GO(es_err_agree_all(x->comm, rc, err));
    es_progress_begin(&progress, "prepare");
    for (int64_t round = 0; round < rounds;
         round++) { /* short rounds: one rank's bad file ends the job soon */
        for (int i = 0; rc == 0 && i < ROUND_FILES && begin + done < end; i++, done++) {
            int64_t f = begin + done;
            es_watchdog_kick("prepare: decode", f);
            rc = write_file(x, f, w, order, first[f], first[f + 1], row, &mp3s, err);
        }
        if (rc == 0 && es_stop_requested()) rc = ES_STOPPED;
        ES_GO(es_err_agree_all(x->comm, rc, err));
        files = es_comm_sum_all(x->comm, done);
        es_progress_update(&progress, files, x->n_files, "files", NULL);
        if (rc == ES_STOPPED && round + 1 < rounds) {
            es_log(ES_LOG_INFO, "stopped by a signal files=%lld; run again to resume", (long long)files);
            goto done;
        }
        rc = 0;
    }
    double seconds = es_now_s() - begin_s;
    es_log(ES_LOG_INFO, "prepare files=%lld seconds=%.1f files_per_s=%.1f", (long long)files, seconds,
           (double)files / (seconds > 0 ? seconds : 1));
done:
    es_progress_end(&progress);
    es_h5_close(&mp3s.h5);
    es_free(&order);
    es_free(&first);
    return rc;
}
