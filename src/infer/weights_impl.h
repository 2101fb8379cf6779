/* Shared by weights.c, weights_deit.c and weights_export.c. */
#ifndef EARSHOT_WEIGHTS_IMPL_H
#define EARSHOT_WEIGHTS_IMPL_H

#include "earshot/tensorfile.h"
#include "earshot/weights.h"

enum es_h5_type weights_h5_type(enum es_dtype t);
/* The element type of an entry, or -1. */
int weights_dtype(const struct es_h5 *f, const char *path, const struct es_h5_info *info);
/* Index of the first element that is infinite or NaN; -1: none. */
int64_t weights_first_bad(enum es_dtype t, const void *data, int64_t n);
/* p->out with its attributes, ready for entries. */
int weights_create(struct es_h5 **out, const struct es_weights_import_params *p, struct es_err *err);

/* dict: of a distilled DeiT, which becomes fPaSST. */
int weights_import_deit(const struct es_weights_import_params *p, struct es_tensorfile *file,
                        const struct es_value *dict, const struct es_net_config *config,
                        struct es_weights_summary *s, struct es_err *err);

#endif
