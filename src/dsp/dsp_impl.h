/* Shared by the files of src/dsp only. */
#ifndef EARSHOT_DSP_IMPL_H
#define EARSHOT_DSP_IMPL_H

#include "earshot/stft.h"

/* tile[k][r] = |spec[r][k]|^power for r < ES_STFT_ROWS; spec rows are spec_row floats apart. */
void es_spec_tile(const float *spec, int spec_row, int n_bins, int power, float *tile);

#endif
