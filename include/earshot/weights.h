/* Weights files: one data set per entry of a state_dict at the root, in its own type and in its order, named as in public code.
 *
 *   attributes of the file     model (atst, fpasst, beats, sed), source (what was imported), config (the resolved
 *                              configuration the sizes came from; a sed net is built from it)
 *   attributes of a data set   alias_of (name of the entry whose tensor it is, repeated here), torch_dtype = "bfloat16" (HDF5
 *                              has no such type: the bits as uint16)
 *
 * Import takes a public checkpoint (tensorfile.h, import.h); export writes weights, or the student or teacher of a training
 * checkpoint, for PyTorch. Rank 0 does the work; errors are agreed. Everything else of a checkpoint is left behind.
 *
 * Errors: ES_EDATA for what does not fit or is not finite, naming entries; nothing is written then. ES_EIO else.
 */
#ifndef EARSHOT_WEIGHTS_H
#define EARSHOT_WEIGHTS_H

#include "earshot/comm.h"
#include "earshot/config.h"
#include "earshot/h5.h"
#include "earshot/import.h"

enum { ES_WEIGHTS_VERSION = 1 };

struct es_weights_import_params {
    enum es_import_model model;
    const char *from, *out, *which; /* which: student or teacher, where a file has both */
    struct es_config *config;       /* sizes; model.arch and what hangs on it is set from the file */
    bool check;                     /* read and compare everything, write nothing */
    struct es_json *json;           /* the report, also when entries do not fit; NULL: none */
};
struct es_weights_summary {
    int entries;
    int64_t parameters, dropped; /* dropped: entries of the source that belong to something else */
    bool reported;               /* the JSON report is whole */
};
int es_weights_import_all(const struct es_comm *c, const struct es_weights_import_params *p,
                          struct es_weights_summary *s, struct es_err *err);

/* to: *.safetensors or *.pt. */
int es_weights_export_all(const struct es_comm *c, const char *from, const char *to, const char *which,
                          bool check, struct es_weights_summary *s, struct es_err *err);

/* Reads an entry as float32, whatever its type. */
int es_weights_read(const struct es_h5 *f, const char *path, int64_t n, float *out, struct es_err *err);

#endif
