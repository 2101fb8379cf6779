#include "responses.h"

#include "earshot/audio.h"
#include "earshot/mem.h"
#include "earshot/resample.h"

#include "dataset_impl.h"

enum { DEPTH = 8 }; /* levels of folders */

static int read_one(struct response *h, const char *path, struct es_err *err) {
    struct es_audio_info info;
    ES_TRY(es_audio_read(path, 0, -1, &h->x, &h->n, &info, err));
    h->rate_hz = info.rate_hz;
    if (h->n < 1) return es_err_set(err, ES_EDATA, "%s: a response of no samples", path);
    if (h->n <= (int64_t)RESPONSE_MAX_S * h->rate_hz) return 0;
    return es_err_set(err, ES_EDATA, "%s: a response of %lld samples, want at most %lld (%d s)", path,
                      (long long)h->n, (long long)RESPONSE_MAX_S * h->rate_hz, RESPONSE_MAX_S);
}

int responses_read(struct response **out, int *n, const char *key, const char *const *path, int n_paths,
                   struct es_err *err) {
    static const char *const extensions[] = {".wav", ".flac", ".mp3", ".ogg", NULL};
    struct es_names *files = NULL;
    int rc = 0;
    *out = NULL;
    *n = 0;
    ES_GO(es_names_new(&files, err));
    for (int i = 0; i < n_paths; i++) ES_GO(dataset_files(files, path[i], extensions, DEPTH, err));
    const int64_t count = es_names_count(files);
    if (count == 0) ES_GO(es_err_set(err, ES_EDATA, "%s: no audio files (wav, flac, mp3, ogg)", path[0]));
    *out = es_alloc((size_t)count, sizeof **out, err);
    if (!*out) ES_GO(-ES_EIO);
    *n = es_int_from_i64(count);
    for (int64_t i = 0; i < count; i++) ES_GO(read_one(&(*out)[i], es_names_get(files, i), err));
done:
    es_names_free(&files);
    if (rc < 0) es_err_prefix(err, "%s", key);
    return rc;
}

void responses_free(struct response **r, int n) {
    for (int i = 0; *r && i < n; i++) es_free(&(*r)[i].x);
    es_free(r);
}

int response_resample(const struct response *in, int rate_hz, struct response *out, struct es_err *err) {
    *out = (struct response){.rate_hz = rate_hz};
    return es_resample_kaiser(in->x, in->n, in->rate_hz, rate_hz, &out->x, &out->n, err);
}
