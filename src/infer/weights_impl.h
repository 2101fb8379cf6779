/* Shared by weights.c and weights_export.c. */
#ifndef EARSHOT_WEIGHTS_IMPL_H
#define EARSHOT_WEIGHTS_IMPL_H

#include "earshot/weights.h"

enum es_h5_type weights_h5_type(enum es_dtype t);
/* The element type of an entry, or -1. */
int weights_dtype(const struct es_h5 *f, const char *path, const struct es_h5_info *info);

#endif
