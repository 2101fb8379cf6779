/* prepare.response: recordings as a device with this impulse response would have heard them.
 *
 * Each file is convolved at its own sample rate before it is cut and resampled; recordings beyond dsp.max_local_samples by all ranks
 * together, at 16 kHz (prepare_long.c). The largest sample of a response is its time 0, so that labels stay where they are, and
 * its gain is kept at every rate. Of several responses a file gets the one that its name hashes to. */
#include <math.h>
#include <string.h>

#include "earshot/convolve.h"
#include "earshot/hash.h"
#include "earshot/mem.h"

#include "prepare_impl.h"
#include "responses.h"

enum { BLOCK = 1 << 16, MAX_RATES = 32 };

struct at_rate { /* all responses at one sample rate */
    int rate_hz;
    struct response *h; /* [n] */
    int64_t *offset;    /* [n] of the largest sample */
    struct es_convolve *plan;
};

struct prep_responses {
    int n, n_rates;
    struct response *raw;
    struct at_rate rate[MAX_RATES];
};

static int64_t peak_of(const struct response *h) {
    int64_t at = 0;
    for (int64_t i = 1; i < h->n; i++)
        if (fabsf(h->x[i]) > fabsf(h->x[at])) at = i;
    return at;
}

static int add_rate(struct prep_responses *r, int rate_hz, struct es_err *err) {
    for (int i = 0; i < r->n_rates; i++)
        if (r->rate[i].rate_hz == rate_hz) return 0;
    if (r->n_rates == MAX_RATES)
        return es_err_set(err, ES_EDATA, "prepare.response: recordings of more than %d sample rates",
                          MAX_RATES);
    struct at_rate *a = &r->rate[r->n_rates++];
    int64_t longest = 1;
    a->rate_hz = rate_hz;
    a->h = es_alloc((size_t)r->n, sizeof *a->h, err);
    a->offset = es_alloc((size_t)r->n, sizeof *a->offset, err);
    if (!a->h || !a->offset) return -ES_EIO;
    for (int i = 0; i < r->n; i++) {
        const float gain = (float)r->raw[i].rate_hz / (float)rate_hz;
        ES_TRY(response_resample(&r->raw[i], rate_hz, &a->h[i], err));
        for (int64_t k = 0; k < a->h[i].n; k++) a->h[i].x[k] *= gain;
        a->offset[i] = peak_of(&a->h[i]);
        if (a->h[i].n > longest) longest = a->h[i].n;
    }
    return es_convolve_new(&a->plan, BLOCK + longest - 1, longest, err);
}

int prep_responses_open(struct prep *x, struct es_err *err) {
    const char *path = x->p->response;
    if (!path || !*path || x->responses) return 0;
    struct prep_responses *r = x->responses = es_alloc(1, sizeof *r, err);
    if (!r) return -ES_EIO;
    ES_TRY(responses_read(&r->raw, &r->n, "prepare.response", &path, 1, err));
    ES_TRY(add_rate(r, ES_STORE_RATE_HZ, err));
    for (int64_t f = 0; f < x->n_files; f++)
        if (x->file[f].found >= 0 && x->file[f].rate_hz > 0) ES_TRY(add_rate(r, x->file[f].rate_hz, err));
    return 0;
}

void prep_responses_close(struct prep *x) {
    struct prep_responses *r = x->responses;
    if (!r) return;
    for (int i = r->n_rates - 1; i >= 0; i--) {
        es_convolve_free(&r->rate[i].plan);
        es_free(&r->rate[i].offset);
        responses_free(&r->rate[i].h, r->n);
    }
    responses_free(&r->raw, r->n);
    es_free(&x->responses);
}

void prep_responses_digest(const struct prep *x, struct es_hash *h) {
    for (int i = 0; x->responses && i < x->responses->n; i++)
        es_hash_update(h, x->responses->raw[i].x, (size_t)x->responses->raw[i].n * sizeof(float));
}

static const struct at_rate *find(const struct prep *x, const struct prep_file *f, int rate_hz, int *i) {
    const struct prep_responses *r = x->responses;
    int k = 0;
    while (r->rate[k].rate_hz != rate_hz) k++;
    *i = (int)(es_hash_bytes(f->stem[0], strlen(f->stem[0])) % (uint64_t)r->n);
    return &r->rate[k];
}

const float *prep_response_of(const struct prep *x, const struct prep_file *f, int64_t *n, int64_t *offset) {
    int i;
    const struct at_rate *a = find(x, f, ES_STORE_RATE_HZ, &i);
    *n = a->h[i].n;
    *offset = a->offset[i];
    return a->h[i].x;
}

/* By blocks of one length, so that one plan serves all files: outputs at .. at + BLOCK - 1 from the inputs that reach them. */
int prep_respond(const struct prep *x, const struct prep_file *f, float **wave, int64_t n,
                 struct es_err *err) {
    int i;
    const struct at_rate *a = find(x, f, f->rate_hz, &i);
    const struct response *h = &a->h[i];
    const int64_t before = h->n - 1 - a->offset[i], n_part = BLOCK + h->n - 1;
    const int64_t room = es_convolve_signal(a->plan);
    float *y = es_alloc((size_t)n, sizeof *y, err), *part = es_alloc((size_t)room, sizeof *part, err),
          *scratch = es_alloc(es_convolve_scratch(a->plan), sizeof *scratch, err);
    int rc = y && part && scratch ? 0 : -ES_EIO;
    for (int64_t at = 0; rc == 0 && at < n; at += BLOCK) {
        const int64_t from = at - before, begin = from > 0 ? from : 0,
                      end = from + n_part < n ? from + n_part : n;
        memset(part, 0, (size_t)room * sizeof *part);
        if (end > begin) memcpy(part + (begin - from), *wave + begin, (size_t)(end - begin) * sizeof *part);
        es_convolve_run(a->plan, part, h->x, h->n, h->n - 1, part, scratch);
        memcpy(y + at, part, (size_t)(n - at < BLOCK ? n - at : BLOCK) * sizeof *y);
    }
    es_free(&scratch);
    es_free(&part);
    if (rc == 0) {
        es_free(wave);
        *wave = y;
    } else {
        es_free(&y);
    }
    return rc;
}
