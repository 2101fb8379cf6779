/* A trained network from a file: configuration, net, values. For prediction, validation, detection and as a start for training.
 *
 * Files: a checkpoint (groups /student and /teacher, text /config) or a weights file (entries at the root).
 */
#ifndef EARSHOT_MODEL_H
#define EARSHOT_MODEL_H

#include "earshot/comm.h"
#include "earshot/config.h"
#include "earshot/frontend.h"
#include "earshot/h5.h"
#include "earshot/nn.h"

struct es_model { /* plain; filled by es_model_open_all */
    struct es_config *config;
    struct es_net *net;
    struct es_params *params;
    int64_t step;
    uint64_t digest;            /* of the values */
    struct es_h5_names classes; /* of the outputs; n 0: the file does not name them */
    char path[512];
};

/* which: "student" or "teacher". Collective; errors agreed, naming file and entry. */
int es_model_open_all(struct es_model **m, const struct es_comm *c, const char *path, const char *which,
                      struct es_err *err);
void es_model_close(struct es_model **m);

/* The frontend that a run's configuration asks for, in evaluation. */
struct es_frontend_params es_model_frontend(const struct es_config *cfg);

/* Fills the values of params from the entries below group ("/student", "/" for weights files). Entries of the transformer are
 * found under any of the prefixes that pre-training, stages and public files use. all: every entry must be there; else only the
 * transformer's are taken, and the AudioSet map's where it is there. Missing or mis-shaped entries: ES_EDATA, the first five by
 * name. */
int es_model_fill(const struct es_h5 *f, const char *group, const struct es_net *net,
                  struct es_params *params, bool all, struct es_err *err);

#endif
