/* Audio files by libsndfile: WAV, FLAC, OGG and MP3 in; WAV (16-bit PCM) and FLAC (16 bit) out.
 *
 * Samples come back as mono float32 in [-1, 1]: the mean over the channels, or the first one. Files that are missing or
 * unreadable: ES_EIO; a folder, an empty, cut short or non-audio file, no samples, samples that are not finite: ES_EDATA. Each
 * message is one line that begins with the file's name. Fault point: decode. Collectivity: none; thread-safe.
 */
#ifndef EARSHOT_AUDIO_H
#define EARSHOT_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_audio_info {
    int64_t n_samples; /* per channel; from the header where the format has it there */
    int rate_hz, n_channels;
};

/* Checks the header (and, for WAV, that the file is as long as it says). Decodes nothing but an MP3's frame headers. */
int es_audio_info(const char *path, struct es_audio_info *info, struct es_err *err);

/* Samples start .. start+n-1 (n < 0: to the end) into a new block (*x, es_free); *n_read of them. A range beyond the end is
 * cut; a file that ends before its header says is an error. info may be NULL. */
int es_audio_read(const char *path, int64_t start, int64_t n, float **x, int64_t *n_read,
                  struct es_audio_info *info, struct es_err *err);

/* The first channel instead of the mean: a whole file, as PretrainedSED reads AudioSet (spec/training.md 1.11). */
int es_audio_read_first(const char *path, float **x, int64_t *n_read, struct es_err *err);

/* A file in memory, its first channel; name is for messages. */
int es_audio_info_memory(const char *name, const void *bytes, size_t n_bytes, struct es_audio_info *info,
                         struct es_err *err);
int es_audio_read_first_memory(const char *name, const void *bytes, size_t n_bytes, float **x,
                               int64_t *n_read, struct es_err *err);

/* Writes n samples per channel (interleaved) as WAV or FLAC by the name's extension. On failure the file is removed. */
int es_audio_write(const char *path, const int16_t *pcm, int64_t n, int n_channels, int rate_hz,
                   struct es_err *err);

/* round(32768 x), halves to even, cut to -32768..32767; the inverse of pcm / 32768. x, pcm: n values. */
void es_pcm_from_float(const float *x, int64_t n, int16_t *pcm);
void es_pcm_to_float(const int16_t *pcm, int64_t n, float *x);

#endif
