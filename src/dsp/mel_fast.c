#include "earshot/mel.h"
#include "earshot/stft.h"

void es_mel_apply(const struct es_mel *m, const float *spec, float *out) {
    for (int j = 0; j < m->n_mels; j++) {
        const float *w = m->weight + m->band[j].at, *s = spec + m->band[j].first * ES_STFT_ROWS;
        float sum[ES_STFT_ROWS] = {0};
        for (int i = 0; i < m->band[j].count; i++)
#pragma omp simd
            for (int r = 0; r < ES_STFT_ROWS; r++) sum[r] += w[i] * s[i * ES_STFT_ROWS + r];
        for (int r = 0; r < ES_STFT_ROWS; r++) out[j * ES_STFT_ROWS + r] = sum[r];
    }
}
