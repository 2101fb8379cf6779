/* fPaSST's start from an image network: a distilled DeiT (deit_base_distilled_patch16_384, top key `model`) becomes the values of a
 * table of fPaSST parameters (spec/models.md sections 2.1 and P29).
 *
 *   es_params_new; es_net_new (fPaSST); es_params_layout; es_params_init(params, seed);   the stem keeps its random start
 *   ES_TRY(es_fpasst_from_deit(params, "model.fpasst.", deit_tensor, file, err));
 *
 * Blocks, norm and the two tokens are copied; heads are ignored. The patch kernel [D,3,h,w] takes 16 channels by repeating its
 * three in turn, times 3/16, and is then viewed as [D,16,n_mels,2]: the same memory. Positions: the first two rows stand for the
 * tokens; the square of the rest is resized to one row of all time frames (bicubic, as torch's interpolate with align_corners
 * off), which becomes time_new_pos_embed, and its mean over time freq_new_pos_embed (QUIRK: so the mean is added twice).
 *
 * Collectivity: none. Errors: ES_EDATA naming the entry that is missing or has another shape.
 */
#ifndef EARSHOT_DEIT_H
#define EARSHOT_DEIT_H

#include "earshot/tensor.h"

/* The source's tensor of that name, row-major float32: its shape, and its values (borrowed until the next call); NULL: not there. */
typedef const float *(*es_deit_fn)(void *ctx, const char *name, int *ndim, int64_t shape[ES_MAX_DIM]);

/* Fills the entries of params whose names begin with prefix ("" for a table of the transformer alone). */
int es_fpasst_from_deit(struct es_params *params, const char *prefix, es_deit_fn get, void *ctx,
                        struct es_err *err);

#endif
