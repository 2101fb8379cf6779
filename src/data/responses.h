/* Impulse responses of devices from audio files: of the dataset's augmentation and of prepare. */
#ifndef EARSHOT_RESPONSES_H
#define EARSHOT_RESPONSES_H

#include <stdint.h>

#include "earshot/err.h"

enum { RESPONSE_MAX_S = 10 };

struct response {
    float *x; /* [n] */
    int64_t n;
    int rate_hz;
};

/* Mono, as they were recorded; files, and folders of WAV, FLAC, MP3 and OGG (sorted). key: whose files, for messages.
 * *out has *n of them, also after an error. */
int responses_read(struct response **out, int *n, const char *key, const char *const *path, int n_paths,
                   struct es_err *err);
void responses_free(struct response **r, int n);
/* As the public code resamples them; *out is new. */
int response_resample(const struct response *in, int rate_hz, struct response *out, struct es_err *err);

#endif
