/* From the state_dict of a public checkpoint to the entries of one of our networks: which dictionary of the file is meant, how
 * its names map to ours, and whether it is all there. Rules: spec/models.md section 4.2, as tables in src/nn/import.c.
 *
 *   es_import_new(&im, ES_IMPORT_ATST, err);
 *   es_import_choose(im, root, "student", path, err);      finds the dictionary and its layout
 *   es_import_add_net(im, &config, err);                   the wanted entries (or es_import_add, one by one)
 *   es_import_match(im, err);                              fills entry[].view, notes every problem
 *   es_import_check(im, path, err);                        0, or ES_EDATA with the problems in one line
 *
 * Our names of a transformer alone are those of the public module: atst.X, X (fPaSST), model.X (BEATs); a sed net has those of
 * cpjku's Task4CRNNEmbeddingsWrapper. A trained head_linear_layer beside atst or fpasst is taken along.
 * Collectivity: none.
 */
#ifndef EARSHOT_IMPORT_H
#define EARSHOT_IMPORT_H

#include "earshot/json.h"
#include "earshot/nn.h"
#include "earshot/value.h"

enum es_import_model { ES_IMPORT_ATST, ES_IMPORT_FPASST, ES_IMPORT_BEATS, ES_IMPORT_SED, ES_N_IMPORT_MODELS };
const char *es_import_model_name(enum es_import_model model); /* "atst" */
int es_import_model_from_name(const char *name);              /* -1: none */

struct es_import_entry {
    char name[120];
    int ndim;
    int64_t shape[ES_MAX_DIM];
    bool counter, optional;     /* counter: num_batches_tracked, an integer */
    int alias_of;               /* index of the entry whose tensor it is; -1 */
    const struct es_view *view; /* where it is in the file; NULL: not there */
};

enum es_import_trouble {
    ES_IMPORT_MISSING,
    ES_IMPORT_EXTRA,
    ES_IMPORT_SHAPE,
    ES_IMPORT_DTYPE,
    ES_IMPORT_NOT_TENSOR,
    ES_IMPORT_TWICE,
    ES_IMPORT_NOT_FINITE,
    ES_N_IMPORT_TROUBLES,
};

struct es_import_problem {
    enum es_import_trouble trouble;
    char name[160], detail[160];
};

struct es_import { /* plain, to be read; filled by the calls */
    enum es_import_model model;
    enum es_arch arch; /* of the transformer; of a sed net: as the names say */
    bool wrapper;      /* sed: with the frozen linear map behind the transformer */
    bool alone;        /* sed: no entry of a transformer nor of the fusion with it (the DESED baseline) */
    struct es_import_entry *entry;
    int n, cap;
    struct es_import_problem *problem;
    int n_problems, cap_problems;
    int64_t n_dropped; /* entries that the rules leave out */
    const struct es_value *dict;
    const struct import_layout *layout;
    const char *outer, *which;
};

int es_import_new(struct es_import **im, enum es_import_model model, struct es_err *err);
void es_import_free(struct es_import **im);
/* which: student or teacher, where the file has both. */
int es_import_choose(struct es_import *im, const struct es_value *root, const char *which, const char *path,
                     struct es_err *err);
int es_import_add(struct es_import *im, const char *name, int ndim, const int64_t *shape, bool optional,
                  struct es_err *err);
int es_import_add_net(struct es_import *im, const struct es_net_config *c, struct es_err *err);
/* The dictionary of a distilled DeiT, fPaSST's start from images (deit.h); NULL: none. */
const struct es_value *es_import_find_deit(const struct es_value *root);
int es_import_match(struct es_import *im, struct es_err *err);
/* For what the caller finds (values that are not finite). */
int es_import_note(struct es_import *im, enum es_import_trouble trouble, const char *name, const char *detail,
                   struct es_err *err);
int es_import_check(const struct es_import *im, const char *path, struct es_err *err);
/* Keys "missing", "extra", ... with all problems, and "dropped"; inside an open object. */
void es_import_report(const struct es_import *im, struct es_json *j);

/* BEATs' `cfg` beside the state dict says what its shapes do not; values that differ from c: ES_EDATA. */
int es_import_check_cfg(const struct es_value *root, const struct es_transformer_config *c, const char *path,
                        struct es_err *err);
/* Its numbers as the key "cfg": dropouts, layerdrop, finetuned_model are the user's to set in a run's configuration. */
void es_import_report_cfg(const struct es_value *root, struct es_json *j);

/* Layers 1, 2, ... of BEATs share layer 0's table of relative positions, and the public state_dict holds it under all names: when
 * an alias follows the entry `name`, fills alias and of. */
bool es_import_alias_after(const char *name, char alias[120], char of[120]);
bool es_import_is_counter(const char *name); /* ...num_batches_tracked */

#endif
