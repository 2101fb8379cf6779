#include "earshot/stft.h"

#include <math.h>
#include <string.h>

#include "dsp_impl.h"
#include "earshot/fft.h"
#include "earshot/mem.h"

static const double two_pi = 6.283185307179586476925286766559;

void es_window_fill(enum es_window kind, int n, float *w) {
    static const struct {
        double a, b;  /* a - b cos */
        int periodic; /* 1: divide by n, 0: by n - 1 */
        double exponent;
    } table[] = {{0.5, 0.5, 1, 1}, {0.5, 0.5, 0, 1}, {0.54, 0.46, 0, 1}, {0.5, 0.5, 0, 0.85}};
    _Static_assert(sizeof table / sizeof *table == ES_WINDOW_POVEY + 1, "one row per window");
    ES_ASSERT(n >= 2);
    for (int i = 0; i < n; i++) {
        double hann = table[kind].a - table[kind].b * cos(two_pi * i / (n - 1 + table[kind].periodic));
        w[i] = (float)pow(fmax(hann, 0), table[kind].exponent);
    }
}

struct es_stft {
    struct es_stft_params p;
    struct es_fft *fft;
    float *window; /* [win] */
};

int es_stft_new(struct es_stft **stft, const struct es_stft_params *p, struct es_err *err) {
    ES_ASSERT(p->win_samples >= 2 && p->win_samples <= p->n_fft && p->n_fft % 2 == 0 && p->hop_samples >= 1);
    ES_ASSERT(p->power == 1 || p->power == 2);
    int rc = -ES_EIO;
    struct es_stft *s = *stft = es_alloc(1, sizeof *s, err);
    if (!s) return rc;
    s->p = *p;
    if (!s->p.frame) s->p.frame = es_frame_reflect;
    s->window = es_alloc((size_t)p->win_samples, sizeof *s->window, err);
    if (!s->window) goto done;
    es_window_fill(p->window, p->win_samples, s->window);
    ES_GO(es_fft_new(&s->fft, p->n_fft, ES_STFT_ROWS, err));
done:
    if (rc < 0) es_stft_free(stft);
    return rc;
}

void es_stft_free(struct es_stft **stft) {
    if (!*stft) return;
    es_fft_free(&(*stft)->fft);
    es_free(&(*stft)->window);
    es_free(stft);
}

int es_stft_bins(const struct es_stft *s) {
    return s->p.n_fft / 2 + 1;
}

int es_stft_frames(const struct es_stft *s, int64_t n_samples, int64_t *n_frames, struct es_err *err) {
    int64_t least = s->p.centred ? s->p.n_fft / 2 + 1 : s->p.win_samples;
    *n_frames = 0;
    if (n_samples < least)
        return es_err_set(err, ES_EDATA,
                          "stft: got a signal of %lld samples, want at least %lld; pad the clip",
                          (long long)n_samples, (long long)least);
    *n_frames = 1 + (s->p.centred ? n_samples : n_samples - s->p.win_samples) / s->p.hop_samples;
    return 0;
}

static size_t rows_bytes(const struct es_stft *s) {
    return ES_STFT_ROWS * (size_t)es_fft_row(s->fft) * sizeof(float);
}

size_t es_stft_scratch(const struct es_stft *s) {
    return rows_bytes(s) + ES_STFT_ROWS * (size_t)es_fft_spec_row(s->fft) * sizeof(float);
}

/* One windowed frame in n_fft samples. */
static void make_frame(const struct es_stft *s, const float *x, int64_t n_samples, int64_t t, float *row) {
    int margin = s->p.n_fft - s->p.win_samples, left = s->p.centred ? margin / 2 : 0;
    int64_t start = t * s->p.hop_samples + left - (s->p.centred ? s->p.n_fft / 2 : 0);
    memset(row, 0, (size_t)left * sizeof *row);
    memset(row + left + s->p.win_samples, 0, (size_t)(margin - left) * sizeof *row);
    s->p.frame(x, n_samples, start, s->window, s->p.win_samples, row + left);
}

void es_stft_tile(const struct es_stft *s, const float *x, int64_t n_samples, int64_t t0, float *tile,
                  void *scratch) {
    float *rows = scratch, *spec = (float *)((char *)scratch + rows_bytes(s));
    int64_t n_frames;
    int rc = es_stft_frames(s, n_samples, &n_frames, NULL);
    ES_ASSERT(rc == 0 && t0 >= 0 && t0 < n_frames);
    for (int r = 0; r < ES_STFT_ROWS; r++) {
        float *row = rows + (ptrdiff_t)r * es_fft_row(s->fft);
        if (t0 + r < n_frames)
            make_frame(s, x, n_samples, t0 + r, row);
        else
            memset(row, 0, (size_t)s->p.n_fft * sizeof *row);
    }
    es_fft_forward(s->fft, rows, spec);
    es_spec_tile(spec, es_fft_spec_row(s->fft), es_stft_bins(s), s->p.power, tile);
}

void es_dft_ref(int n, const double *x, double *spec) {
    for (int k = 0; k <= n / 2; k++) {
        double re = 0, im = 0;
        for (int i = 0; i < n; i++) { /* the angle is reduced as an integer: exact */
            double phase = two_pi * (double)((int64_t)k * i % n) / n;
            re += x[i] * cos(phase);
            im -= x[i] * sin(phase);
        }
        spec[2 * k] = re;
        spec[2 * k + 1] = im;
    }
}

void es_stft_frame_ref(const struct es_stft *s, const float *x, int64_t n_samples, int64_t t, double *spec,
                       double *work) {
    int n = s->p.n_fft;
    double *frame = work, *pairs = work + n;
    float *row = (float *)(work + 2 * n + 2);
    make_frame(s, x, n_samples, t, row);
    for (int i = 0; i < n; i++) frame[i] = (double)row[i];
    es_dft_ref(n, frame, pairs);
    for (int k = 0; k <= n / 2; k++) {
        double power = pairs[2 * k] * pairs[2 * k] + pairs[2 * k + 1] * pairs[2 * k + 1];
        spec[k] = s->p.power == 2 ? power : sqrt(power);
    }
}
