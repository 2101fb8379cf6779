#include "earshot/mel.h"

#include <math.h>
#include <stddef.h>

#include "earshot/mem.h"

int es_mel_new(struct es_mel **mel, int n_mels, int n_fft, int rate_hz, struct es_err *err) {
    ES_ASSERT(n_mels >= 1 && n_fft >= 2 && n_fft % 2 == 0 && rate_hz > 0);
    struct es_mel *m = *mel = es_alloc(1, sizeof *m, err);
    if (!m) return -ES_EIO;
    *m = (struct es_mel){.n_mels = n_mels, .n_fft = n_fft, .rate_hz = rate_hz, .n_bins = n_fft / 2 + 1};
    m->band = es_alloc((size_t)n_mels, sizeof *m->band, err);
    if (m->band) m->weight = es_alloc(2 * (size_t)m->n_bins, sizeof *m->weight, err);
    if (!m->weight) {
        es_mel_free(mel);
        return -ES_EIO;
    }
    return 0;
}

void es_mel_free(struct es_mel **mel) {
    if (!*mel) return;
    es_free(&(*mel)->weight);
    es_free(&(*mel)->band);
    es_free(mel);
}

static double htk_mel(double hz) {
    return 2595 * log10(1 + hz / 700);
}
static double htk_hz(double mel) {
    return 700 * (pow(10, mel / 2595) - 1);
}
static double kaldi_mel(double hz) {
    return 1127 * log(1 + hz / 700);
}
static double same(double x) {
    return x;
}

static const struct {
    double (*mel)(double hz);   /* corners are equally spaced in it */
    double (*axis)(double mel); /* a corner, on the axis on which triangles are straight */
    double (*bin)(double hz);   /* a bin's frequency, on that axis */
    int n_dead_bins;            /* at the upper end: weight 0 */
} scale[] = {[ES_MEL_HTK] = {htk_mel, htk_hz, same, 0}, [ES_MEL_KALDI] = {kaldi_mel, same, kaldi_mel, 1}};

int es_mel_fill(struct es_mel *m, enum es_mel_kind kind, double fmin_hz, double fmax_hz, struct es_err *err) {
    if (!(fmin_hz >= 0 && fmin_hz < fmax_hz && fmax_hz <= 0.5 * m->rate_hz))
        return es_err_set(err, ES_EUSAGE, "mel: got %g to %g Hz, want 0 <= fmin < fmax <= %g Hz", fmin_hz,
                          fmax_hz, 0.5 * m->rate_hz);
    double low = scale[kind].mel(fmin_hz), step = (scale[kind].mel(fmax_hz) - low) / (m->n_mels + 1);
    int n_bins = m->n_bins - scale[kind].n_dead_bins, used = 0;
    for (int j = 0; j < m->n_mels; j++) {
        struct es_mel_band *band = &m->band[j];
        *band = (struct es_mel_band){.at = used};
        double l = scale[kind].axis(low + j * step), c = scale[kind].axis(low + (j + 1) * step),
               r = scale[kind].axis(low + (j + 2) * step);
        for (int k = 0; k < n_bins; k++) {
            double f = scale[kind].bin((double)k * m->rate_hz / m->n_fft);
            float w = (float)fmin((f - l) / (c - l), (r - f) / (r - c));
            if (!(w > 0)) continue;
            if (band->count == 0) band->first = k;
            ES_ASSERT(k == band->first + band->count && used < 2 * m->n_bins);
            m->weight[used++] = w;
            band->count++;
        }
    }
    return 0;
}

void es_mel_apply_ref(const struct es_mel *m, const double *spec, double *out) {
    for (int j = 0; j < m->n_mels; j++) {
        const struct es_mel_band *b = &m->band[j];
        out[j] = 0;
        for (int i = 0; i < b->count; i++) out[j] += (double)m->weight[b->at + i] * spec[b->first + i];
    }
}
