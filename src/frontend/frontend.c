#include "earshot/frontend.h"

#include <math.h>
#include <string.h>

#include <omp.h>

#include "earshot/mem.h"
#include "frontend_impl.h"

static const struct es_frontend_spec *const specs[] = {
    [ES_FRONTEND_CRNN_MEL] = &es_frontend_crnn_mel,
    [ES_FRONTEND_ATST_MEL] = &es_frontend_atst_mel,
    [ES_FRONTEND_FPASST_MEL] = &es_frontend_fpasst_mel,
    [ES_FRONTEND_BEATS_FBANK] = &es_frontend_beats_fbank,
};
_Static_assert(sizeof specs / sizeof *specs == ES_FRONTEND_N_KINDS, "one description per kind");

struct es_frontend {
    struct es_frontend_params p;
    const struct es_frontend_spec *spec;
    struct es_stft *stft;
    struct es_mel *mel;
};

const char *es_frontend_name(enum es_frontend_kind kind) {
    return specs[kind]->name;
}

int es_frontend_kind_from_name(const char *name) {
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++)
        if (strcmp(specs[k]->name, name) == 0) return k;
    return -1;
}

struct es_frontend_params es_frontend_params_default(enum es_frontend_kind kind) {
    return (struct es_frontend_params){
        .kind = kind, .fmin_hz = specs[kind]->fmin_hz, .fmax_hz = specs[kind]->fmax_hz};
}

int es_frontend_new(struct es_frontend **frontend, struct es_frontend_params p, struct es_err *err) {
    ES_ASSERT((int)p.kind >= 0 && p.kind < ES_FRONTEND_N_KINDS && p.n_threads >= 0);
    int rc = -ES_EIO;
    struct es_frontend *f = *frontend = es_alloc(1, sizeof *f, err);
    if (!f) return rc;
    f->p = p;
    if (f->p.n_threads == 0) f->p.n_threads = omp_get_max_threads();
    f->spec = specs[p.kind];
    ES_GO(es_stft_new(&f->stft, &f->spec->stft, err));
    ES_GO(es_mel_new(&f->mel, f->spec->n_mels, f->spec->stft.n_fft, ES_FRONTEND_RATE_HZ, err));
    ES_GO(es_mel_fill(f->mel, f->spec->mel, p.fmin_hz, p.fmax_hz, err));
done:
    if (rc < 0) {
        es_err_prefix(err, "frontend %s", specs[p.kind]->name);
        es_frontend_free(frontend);
    }
    return rc;
}

void es_frontend_free(struct es_frontend **f) {
    if (!*f) return;
    es_mel_free(&(*f)->mel);
    es_stft_free(&(*f)->stft);
    es_free(f);
}

int es_frontend_set_band(struct es_frontend *f, double fmin_hz, double fmax_hz, struct es_err *err) {
    int rc = es_mel_fill(f->mel, f->spec->mel, fmin_hz, fmax_hz, err);
    if (rc < 0) return es_err_prefix(err, "frontend %s", f->spec->name);
    f->p.fmin_hz = fmin_hz;
    f->p.fmax_hz = fmax_hz;
    return 0;
}

int es_frontend_shape(const struct es_frontend *f, int64_t n_samples, int *n_mels, int *n_frames,
                      struct es_err *err) {
    int64_t n = 0;
    int rc = es_stft_frames(f->stft, n_samples - f->spec->n_lost, &n, err);
    *n_mels = f->spec->n_mels;
    *n_frames = es_int_from_i64(n);
    return rc < 0 ? es_err_prefix(err, "frontend %s", f->spec->name) : 0;
}

/* Scratch of one thread: a tile of spectrum, a tile of mel, what the transform needs. */
static size_t tile_bytes(int n_rows) {
    size_t bytes = (size_t)n_rows * ES_STFT_ROWS * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}
static size_t spec_bytes(const struct es_frontend *f) {
    return tile_bytes(es_stft_bins(f->stft));
}
static size_t mel_bytes(const struct es_frontend *f) {
    return tile_bytes(f->spec->n_mels);
}
static size_t thread_bytes(const struct es_frontend *f) {
    return spec_bytes(f) + mel_bytes(f) + es_stft_scratch(f->stft);
}

size_t es_frontend_scratch(const struct es_frontend *f) {
    return (size_t)f->p.n_threads * thread_bytes(f);
}

/* All tiles of one clip: out [F, T]. */
static void run_clip(const struct es_frontend *f, int64_t n_samples, int n_frames, const float *wave,
                     float *out, char *scratch) {
    const int n_mels = f->spec->n_mels;
    float *spec = (float *)scratch, *mel = (float *)(scratch + spec_bytes(f));
    void *rest = scratch + spec_bytes(f) + mel_bytes(f);
    for (int t = 0; t < n_frames; t += ES_STFT_ROWS) {
        int n = n_frames - t < ES_STFT_ROWS ? n_frames - t : ES_STFT_ROWS;
        es_stft_tile(f->stft, wave, n_samples - f->spec->n_lost, t, spec, rest);
        es_mel_apply(f->mel, spec, mel);
        if (f->spec->tile) f->spec->tile(mel, n_mels * ES_STFT_ROWS);
        for (int j = 0; j < n_mels; j++)
            memcpy(out + (int64_t)j * n_frames + t, mel + j * ES_STFT_ROWS, (size_t)n * sizeof *out);
    }
}

int es_frontend_run(const struct es_frontend *f, int n_clips, int64_t n_samples, const float *wave,
                    float *out, void *scratch, struct es_err *err) {
    int n_mels, n_frames;
    ES_ASSERT(n_clips >= 0);
    ES_TRY(es_frontend_shape(f, n_samples, &n_mels, &n_frames, err));
    const int64_t n_out = (int64_t)n_mels * n_frames;
    const int n_threads = n_clips < f->p.n_threads ? n_clips : f->p.n_threads;
    if (n_clips == 0) return 0;
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int b = 0; b < n_clips; b++)
        run_clip(f, n_samples, n_frames, wave + b * n_samples, out + b * n_out,
                 (char *)scratch + (size_t)omp_get_thread_num() * thread_bytes(f));
    if (!f->spec->clip) return 0;
    const float all = f->p.floor_per_batch ? es_clip_largest(out, n_clips * n_out) : 0;
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int b = 0; b < n_clips; b++) {
        float *clip = out + b * n_out;
        f->spec->clip(clip, n_out, f->p.floor_per_batch ? all : es_clip_largest(clip, n_out));
    }
    return 0;
}
