#include "earshot/augment.h"

#include <math.h>
#include <string.h>

/* ---- waveforms */

static void remove_mean(float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    float mean = (float)(sum / (double)n);
    for (int64_t i = 0; i < n; i++) x[i] -= mean;
}

void es_augment_blend(float *x, const float *y, int64_t n, float c) {
    float rest = 1.0f - c;
    for (int64_t i = 0; i < n; i++) x[i] = c * x[i] + rest * y[i];
}

void es_augment_wavmix(float *x, float *y, int64_t n, float c) {
    remove_mean(x, n);
    remove_mean(y, n);
    es_augment_blend(x, y, n, c);
    remove_mean(x, n);
}

void es_augment_gain(float *x, int64_t n, int gain_db) {
    float factor = (float)pow(10.0, gain_db / 20.0);
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

int64_t es_augment_dir_offset(int64_t response_n) {
    return response_n - 1 - response_n / 2;
}

/* ---- along time */

struct es_shift es_augment_shift(double gauss, int pooling, int mel_frames, int feature_frames) {
    struct es_shift s = {.mel = (int)trunc(gauss)};
    s.labels = (int)rint((double)s.mel / pooling);
    if (feature_frames > 0) s.features = (int)rint(s.mel / ((double)mel_frames / feature_frames));
    return s;
}

void es_augment_roll(float *x, int64_t n_rows, int n_frames, int64_t width, int shift, float *scratch) {
    int to = ((shift % n_frames) + n_frames) % n_frames; /* where frame 0 goes */
    if (to == 0) return;
    size_t head = (size_t)(n_frames - to) * (size_t)width, tail = (size_t)to * (size_t)width;
    for (int64_t r = 0; r < n_rows; r++) {
        float *row = x + r * n_frames * width;
        memcpy(scratch, row, (head + tail) * sizeof(float));
        memcpy(row + tail, scratch, head * sizeof(float));
        memcpy(row, scratch + head, tail * sizeof(float));
    }
}

static struct es_span cut(struct es_span s, int n_frames) {
    if (s.end > n_frames) s.end = n_frames;
    if (s.first > s.end) s.first = s.end;
    return s;
}

struct es_span es_augment_mask_mel(int low, int width, int pooling, int mel_frames) {
    return cut((struct es_span){low * pooling, (low + width) * pooling}, mel_frames);
}

struct es_span es_augment_mask_features(int low, int width, int label_frames, int feature_frames) {
    float ratio = (float)((double)feature_frames / label_frames);
    return cut((struct es_span){(int)rintf((float)low * ratio), (int)rintf((float)(low + width) * ratio)},
               feature_frames);
}

void es_augment_silence(float *x, int64_t n_rows, int n_frames, int64_t width, struct es_span span) {
    size_t bytes = (size_t)(span.end - span.first) * (size_t)width * sizeof(float);
    for (int64_t r = 0; r < n_rows; r++) memset(x + (r * n_frames + span.first) * width, 0, bytes);
}

/* ---- mels */

static void style(const float *x, int n, float *mean, float *deviation) {
    double sum = 0, squares = 0;
    for (int t = 0; t < n; t++) sum += (double)x[t];
    double mu = sum / n;
    for (int t = 0; t < n; t++) squares += ((double)x[t] - mu) * ((double)x[t] - mu);
    *mean = (float)mu;
    *deviation = (float)sqrt(squares / (n - 1) + 1e-6);
}

void es_augment_mixstyle(const struct es_mix_call *call, float *x, int F, int T, float *scratch) {
    int64_t rows = (int64_t)call->n * F;
    float *first = x + (int64_t)call->first * F * T, *mean = scratch, *deviation = scratch + rows;
    for (int64_t r = 0; r < rows; r++) style(first + r * T, T, &mean[r], &deviation[r]);
    for (int64_t r = 0; r < rows; r++) {
        int64_t clip = r / F, other = (int64_t)call->perm[clip] * F + r % F;
        float c = call->c[clip], rest = 1.0f - c, mu = mean[r], s = deviation[r], *row = first + r * T;
        float new_mean = c * mu + rest * mean[other], new_deviation = c * s + rest * deviation[other];
        for (int t = 0; t < T; t++) row[t] = (row[t] - mu) / s * new_deviation + new_mean;
    }
}

/* Weights of the four bins around a point that lies d behind the second one. */
static void cubic(double d, float w[4]) {
    const double a = -0.75;
    for (int k = 0; k < 4; k++) {
        double t = fabs(d + 1 - k);
        w[k] =
            (float)(t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : ((a * t - 5 * a) * t + 8 * a) * t - 4 * a);
    }
}

void es_augment_warp(const struct es_warp_call *call, float *x, int F, int T, float *scratch) {
    int last = call->height - 1;
    double step = F > 1 ? (double)last / (F - 1) : 0;
    for (int i = call->first; i < call->first + call->n; i++) {
        float *clip = x + (int64_t)i * F * T, w[4];
        memcpy(scratch, clip, (size_t)F * (size_t)T * sizeof(float));
        const float *crop = scratch + (int64_t)call->low * T, *tap[4];
        for (int f = 0; f < F; f++) {
            int at = (int)(f * step);
            cubic(f * step - at, w);
            for (int k = 0; k < 4; k++) {
                int bin = at - 1 + k;
                tap[k] = crop + (int64_t)(bin < 0 ? 0 : bin > last ? last : bin) * T;
            }
            for (int t = 0; t < T; t++)
                clip[(int64_t)f * T + t] =
                    w[0] * tap[0][t] + w[1] * tap[1][t] + w[2] * tap[2][t] + w[3] * tap[3][t];
        }
    }
}

int es_augment_warp_height(double scale, int F) {
    int height = (int)(scale * F);
    return height < 1 ? 1 : height > F ? F : height;
}

void es_augment_filter(const struct es_filter_call *call, const float *x, float *y, int F, int T) {
    for (int i = 0; i < call->n; i++)
        for (int b = 0; b < call->n_bands; b++) {
            int first = call->edge[b], n = call->edge[b + 1] - first;
            double low = (double)call->gain_db[i][b], high = (double)call->gain_db[i][b + 1];
            for (int k = 0; k < n; k++) {
                double db = n > 1 ? low + (high - low) * k / (n - 1) : low;
                float factor = (float)pow(10.0, db / 20.0);
                int64_t at = ((int64_t)i * F + first + k) * T;
                for (int t = 0; t < T; t++) y[at + t] = x[at + t] * factor;
            }
        }
}

int es_augment_band_width(int F, int n_bands, int band_width) {
    while (band_width > 0 && F - n_bands * band_width < 0) band_width--;
    return band_width;
}

void es_augment_band_edges(int F, int n_bands, int band_width, int *draw, int *edge) {
    int width = es_augment_band_width(F, n_bands, band_width);
    for (int i = 1; i < n_bands - 1; i++) /* insertion: a handful of numbers */
        for (int k = i; k > 0 && draw[k] < draw[k - 1]; k--) {
            int kept = draw[k];
            draw[k] = draw[k - 1];
            draw[k - 1] = kept;
        }
    edge[0] = 0;
    for (int b = 1; b < n_bands; b++) edge[b] = draw[b - 1] + b * width;
    edge[n_bands] = F;
}
