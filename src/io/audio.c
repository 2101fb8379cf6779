#include "earshot/audio.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

#include "earshot/fault.h"
#include "earshot/mem.h"

#define BLOCK_FRAMES 16384
#define MAX_CHANNELS 64

static uint32_t u32_le(const unsigned char *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* libsndfile reads a WAV that was cut short as a shorter one without a word. Walks the chunks: the data must be there. */
static int check_wav(const char *path, int64_t file_bytes, struct es_err *err) {
    unsigned char head[12], chunk[8];
    FILE *in = fopen(path, "rb");
    if (!in) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    int rc = 0;
    int64_t at = 12;
    if (fread(head, 1, 12, in) == 12 && memcmp(head, "RIFF", 4) == 0 && memcmp(head + 8, "WAVE", 4) == 0) {
        while (fseeko(in, at, SEEK_SET) == 0 && fread(chunk, 1, 8, in) == 8) {
            int64_t bytes = u32_le(chunk + 4), have = file_bytes - at - 8;
            bool data = memcmp(chunk, "data", 4) == 0, streamed = bytes == 0xffffffff || bytes == 0;
            if (data && bytes > have && !streamed)
                rc = es_err_set(err, ES_EDATA, "%s: cut short: %lld bytes of samples, the header says %lld",
                                path, (long long)have, (long long)bytes);
            if (data) break;
            at += 8 + bytes + (bytes & 1);
        }
    }
    fclose(in);
    return rc;
}

/* A file in memory, for libsndfile. */
struct memory {
    const char *bytes;
    sf_count_t n, at;
};

static sf_count_t memory_length(void *m) {
    return ((const struct memory *)m)->n;
}
static sf_count_t memory_tell(void *m) {
    return ((const struct memory *)m)->at;
}
static sf_count_t memory_seek(sf_count_t offset, int whence, void *data) {
    struct memory *m = data;
    sf_count_t to = offset + (whence == SEEK_CUR ? m->at : whence == SEEK_END ? m->n : 0);
    return m->at = to < 0 ? 0 : to > m->n ? m->n : to;
}
static sf_count_t memory_read(void *out, sf_count_t n, void *data) {
    struct memory *m = data;
    if (n > m->n - m->at) n = m->n - m->at;
    memcpy(out, m->bytes + m->at, (size_t)n);
    m->at += n;
    return n;
}
static sf_count_t memory_write(const void *from, sf_count_t n,
                               void *m) { /* never called: opened for reading */
    (void)from;
    (void)n;
    (void)m;
    return 0;
}
static SF_VIRTUAL_IO memory_io = {memory_length, memory_seek, memory_read, memory_write, memory_tell};

static int check_file(const char *path, struct es_err *err) {
    struct stat st;
    if (stat(path, &st) != 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return es_err_set(err, ES_EDATA, "%s: is a folder, want an audio file", path);
    if (access(path, R_OK) != 0) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (st.st_size == 0) return es_err_set(err, ES_EDATA, "%s: is empty, want an audio file", path);
    return check_wav(path, st.st_size, err);
}

/* path: a file; or, with memory, only a name. */
static int audio_open(const char *path, struct memory *memory, SNDFILE **s, SF_INFO *info,
                      struct es_err *err) {
    *s = NULL;
    *info = (SF_INFO){0};
    if (!memory) ES_TRY(check_file(path, err));
    if (es_fault_hit("decode"))
        return es_err_set(err, ES_EDATA, "%s: cannot be decoded (injected fault)", path);
    *s = memory ? sf_open_virtual(&memory_io, SFM_READ, info, memory) : sf_open(path, SFM_READ, info);
    if (!*s)
        return es_err_set(err, ES_EDATA, "%s: is not audio that can be read: %s", path, sf_strerror(NULL));
    int rc = 0;
    if (info->frames <= 0 || info->frames == SF_COUNT_MAX)
        rc = es_err_set(err, ES_EDATA, "%s: holds no samples (or does not say how many)", path);
    else if (info->samplerate <= 0 || info->channels <= 0 || info->channels > MAX_CHANNELS)
        rc = es_err_set(err, ES_EDATA, "%s: %d channels at %d Hz, want 1..%d channels and a rate above 0",
                        path, info->channels, info->samplerate, MAX_CHANNELS);
    if (rc < 0) sf_close(*s);
    return rc;
}

static struct es_audio_info info_from(const SF_INFO *info) {
    return (struct es_audio_info){
        .n_samples = info->frames, .rate_hz = info->samplerate, .n_channels = info->channels};
}

static int read_info(const char *path, struct memory *memory, struct es_audio_info *info,
                     struct es_err *err) {
    SNDFILE *s;
    SF_INFO sf;
    ES_TRY(audio_open(path, memory, &s, &sf, err));
    *info = info_from(&sf);
    sf_close(s);
    return 0;
}

int es_audio_info(const char *path, struct es_audio_info *info, struct es_err *err) {
    return read_info(path, NULL, info, err);
}

int es_audio_info_memory(const char *name, const void *bytes, size_t n_bytes, struct es_audio_info *info,
                         struct es_err *err) {
    struct memory m = {bytes, (sf_count_t)n_bytes, 0};
    return read_info(name, &m, info, err);
}

/* n frames from the current position into x: the mean of the first n_mixed channels. Returns the frames that came. */
static int64_t read_mono(SNDFILE *s, int n_channels, int n_mixed, int64_t n, float *x, float *block) {
    int64_t done = 0;
    while (done < n) {
        int64_t want = n - done < BLOCK_FRAMES ? n - done : BLOCK_FRAMES;
        int64_t got = sf_readf_float(s, n_channels == 1 ? x + done : block, want);
        if (got <= 0) break;
        for (int64_t i = 0; n_channels > 1 && i < got; i++) {
            float sum = 0.0f;
            for (int c = 0; c < n_mixed; c++) sum += block[i * n_channels + c];
            x[done + i] = sum / (float)n_mixed;
        }
        done += got;
    }
    return done;
}

static int read_samples(const char *path, struct memory *memory, bool first, int64_t start, int64_t n,
                        float **x, int64_t *n_read, struct es_audio_info *info, struct es_err *err) {
    SNDFILE *s;
    SF_INFO sf;
    float *block = NULL;
    int rc = 0;
    *x = NULL;
    *n_read = 0;
    ES_TRY(audio_open(path, memory, &s, &sf, err));
    int64_t left = sf.frames > start ? sf.frames - start : 0;
    if (n < 0 || n > left) n = left;
    *x = es_alloc((size_t)n, sizeof **x, err);
    block = es_alloc((size_t)BLOCK_FRAMES * (size_t)sf.channels, sizeof *block, err);
    if (!*x || !block) ES_GO(-ES_EIO);
    if (start > 0 && n > 0 && sf_seek(s, start, SEEK_SET) != start)
        ES_GO(es_err_set(err, ES_EDATA, "%s: cannot go to sample %lld: %s", path, (long long)start,
                         sf_strerror(s)));
    int64_t got = read_mono(s, sf.channels, first ? 1 : sf.channels, n, *x, block);
    bool estimated =
        (sf.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_MPEG; /* an MP3 tells only about how long it is */
    if (estimated && got > 0 && sf_error(s) == SF_ERR_NO_ERROR) n = got;
    if (got != n)
        ES_GO(es_err_set(err, ES_EDATA, "%s: cut short or damaged: %lld samples, the header says %lld%s%s",
                         path, (long long)(start + got), (long long)sf.frames, sf_error(s) ? ": " : "",
                         sf_error(s) ? sf_strerror(s) : ""));
    for (int64_t i = 0; i < n; i++)
        if (!isfinite((*x)[i]))
            ES_GO(es_err_set(err, ES_EDATA, "%s: sample %lld is not a finite number", path,
                             (long long)(start + i)));
    *n_read = n;
    if (info) *info = info_from(&sf);
done:
    es_free(&block);
    sf_close(s);
    if (rc < 0) es_free(x);
    return rc;
}

int es_audio_read(const char *path, int64_t start, int64_t n, float **x, int64_t *n_read,
                  struct es_audio_info *info, struct es_err *err) {
    return read_samples(path, NULL, false, start, n, x, n_read, info, err);
}

int es_audio_read_first(const char *path, float **x, int64_t *n_read, struct es_err *err) {
    return read_samples(path, NULL, true, 0, -1, x, n_read, NULL, err);
}

int es_audio_read_first_memory(const char *name, const void *bytes, size_t n_bytes, float **x,
                               int64_t *n_read, struct es_err *err) {
    struct memory m = {bytes, (sf_count_t)n_bytes, 0};
    return read_samples(name, &m, true, 0, -1, x, n_read, NULL, err);
}

int es_audio_write(const char *path, const int16_t *pcm, int64_t n, int n_channels, int rate_hz,
                   struct es_err *err) {
    const char *dot = strrchr(path, '.');
    SF_INFO sf = {.samplerate = rate_hz, .channels = n_channels};
    if (dot && strcasecmp(dot, ".wav") == 0)
        sf.format = SF_FORMAT_WAV | SF_FORMAT_PCM_16;
    else if (dot && strcasecmp(dot, ".flac") == 0)
        sf.format = SF_FORMAT_FLAC | SF_FORMAT_PCM_16;
    else
        return es_err_set(err, ES_EUSAGE, "%s: extension: want .wav or .flac", path);
    SNDFILE *s = sf_open(path, SFM_WRITE, &sf);
    if (!s) return es_err_set(err, ES_EIO, "%s: cannot create: %s", path, sf_strerror(NULL));
    int64_t done = sf_writef_short(s, pcm, n);
    int rc = 0;
    if (done != n) rc = es_err_set(err, ES_EIO, "%s: cannot write: %s", path, sf_strerror(s));
    if (sf_close(s) != 0 && rc == 0) rc = es_err_set(err, ES_EIO, "%s: cannot write", path);
    if (rc < 0) unlink(path);
    return rc;
}

void es_pcm_from_float(const float *x, int64_t n, int16_t *pcm) {
    for (int64_t i = 0; i < n; i++) {
        float v = rintf(x[i] * 32768.0f);
        pcm[i] = (int16_t)(v < -32768.0f ? -32768.0f : v > 32767.0f ? 32767.0f : v);
    }
}

void es_pcm_to_float(const int16_t *pcm, int64_t n, float *x) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)pcm[i] * (1.0f / 32768.0f);
}
