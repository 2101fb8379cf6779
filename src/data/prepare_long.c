/* Recordings longer than dsp.max_local_samples: all ranks read, resample, convolve (fftmpi.h) and keep a share each; clips are
 * collected piece by piece by the rank that writes them. */
#include <limits.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/comm.h"
#include "earshot/fftmpi.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/resample.h"

#include "prepare_impl.h"

enum { PIECE = 1 << 20 };

/* AudioSet's clips are short and resampled in another way. */
bool prep_is_long(const struct prep *x, const struct prep_file *f) {
    return f->found >= 0 && f->hdf_row < 0 && f->n_samples > x->p->max_local_samples &&
           (f->rate_hz != ES_STORE_RATE_HZ || x->responses) &&
           !prep_is_audioset(x->p->source[f->source].subset);
}

static int read_part(void *ctx, int64_t first, int64_t n, double *out, struct es_err *err) {
    const char *path = ctx;
    float *wave = NULL;
    int64_t n_read = 0;
    int rc = es_audio_read(path, first, n, &wave, &n_read, NULL, err);
    for (int64_t i = 0; rc == 0 && i < n; i++)
        out[i] = i < n_read ? (double)wave[i] : 0; /* an MP3 may end early */
    es_free(&wave);
    return rc;
}

/* Samples of a clip from the spread recording to its writer: pcm there, NULL elsewhere. */
static void collect_all(const struct prep *x, const struct es_spread *s, int64_t first, int64_t n, int writer,
                        double *piece, int16_t *pcm) {
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t count = n - at < PIECE ? n - at : PIECE;
        es_watchdog_kick("prepare: collect", at);
        es_spread_collect_all(s, x->comm, first + at, count, writer, piece);
        for (int64_t i = 0; pcm && i < count; i++) {
            const float v = (float)piece[i];
            es_pcm_from_float(&v, 1, &pcm[at + i]);
        }
    }
}

static int write_clip_all(struct prep *x, const struct prep_clip *c, struct es_store_writer *w, int64_t row,
                          const struct es_spread *s, int writer, double *piece, struct es_err *err) {
    int64_t first, n;
    const int rate_hz = x->file[c->file].rate_hz, rank = es_comm_rank(x->comm);
    int16_t *pcm = NULL;
    int rc = 0;
    ES_GO(es_err_agree_all(x->comm, prep_window(x, c, &first, &n, err), err));
    const int64_t begin = first * ES_STORE_RATE_HZ / rate_hz;
    int64_t count = es_resample_length(n, rate_hz, ES_STORE_RATE_HZ);
    if (begin + count > s->total) count = s->total > begin ? s->total - begin : 0;
    if (rank == writer && !(pcm = es_alloc((size_t)count, sizeof *pcm, err))) rc = -ES_EIO;
    ES_GO(es_err_agree_all(x->comm, rc, err));
    collect_all(x, s, begin, count, writer, piece, pcm);
    if (rank == writer) rc = es_store_write_pcm(w, row, pcm, count, err);
    ES_GO(es_err_agree_all(x->comm, rc, err));
done:
    es_free(&pcm);
    return rc;
}

/* Resampled and, if wanted, through the device; spread over the ranks. */
static int read_file_all(const struct prep *x, const struct prep_file *f, char *path, struct es_spread *s,
                         struct es_err *err) {
    if (f->rate_hz == ES_STORE_RATE_HZ)
        ES_TRY(es_spread_read_all(s, x->comm, f->n_samples, read_part, path, err));
    else
        ES_TRY(es_fftmpi_resample_all(s, x->comm, f->n_samples, f->rate_hz, ES_STORE_RATE_HZ, read_part, path,
                                      err));
    if (!x->responses) return 0;
    int64_t n, offset;
    const float *h = prep_response_of(x, f, &n, &offset);
    double *response = es_alloc((size_t)n, sizeof *response, err);
    for (int64_t i = 0; response && i < n; i++) response[i] = (double)h[i];
    int rc = es_err_agree_all(x->comm, response ? 0 : -ES_EIO, err);
    if (rc == 0) rc = es_fftmpi_convolve_all(s, x->comm, response, n, offset, err);
    es_free(&response);
    return rc;
}

static int write_file_all(struct prep *x, int64_t file, struct es_store_writer *w, const int64_t *clip,
                          int64_t n_clips, const int64_t *row, struct es_err *err) {
    const struct prep_file *f = &x->file[file];
    const int writer = (int)(file % es_comm_size(x->comm));
    struct es_spread s = {0};
    char path[PATH_MAX];
    double *piece = NULL;
    int rc = 0;
    bool read = false;
    prep_candidate(f, f->found, path, PATH_MAX);
    for (int64_t i = 0; i < n_clips; i++) {
        const int64_t r = row[clip[i]];
        const bool mine = es_comm_rank(x->comm) == writer; /* who else wrote it in this run does not know */
        if (es_comm_max_all(x->comm, mine && r >= 0 && !es_store_done(w, r)) == 0) continue;
        if (!read) {
            piece = es_alloc(PIECE, sizeof *piece, err);
            ES_GO(es_err_agree_all(x->comm, piece ? 0 : -ES_EIO, err));
            es_log(ES_LOG_INFO, "prepare long=%s samples=%lld ranks=%d", path, (long long)f->n_samples,
                   es_comm_size(x->comm));
            ES_GO(read_file_all(x, f, path, &s, err));
            read = true;
        }
        ES_GO(write_clip_all(x, &x->clip[clip[i]], w, r, &s, writer, piece, err));
    }
done:
    es_free(&piece);
    es_spread_free(&s);
    return rc;
}

int prep_write_long_all(struct prep *x, struct es_store_writer *w, const int64_t *first, const int64_t *order,
                        const int64_t *row, struct es_err *err) {
    for (int64_t f = 0; f < x->n_files; f++)
        if (prep_is_long(x, &x->file[f]))
            ES_TRY(write_file_all(x, f, w, order + first[f], first[f + 1] - first[f], row, err));
    return 0;
}
