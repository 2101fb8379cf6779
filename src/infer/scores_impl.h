#ifndef EARSHOT_INFER_SCORES_IMPL_H
#define EARSHOT_INFER_SCORES_IMPL_H

#include "earshot/text.h"

/* The file name up to its last dot, in t (used again by the next call). */
const char *scores_clip_id(struct es_text *t, const char *filename);

#endif
