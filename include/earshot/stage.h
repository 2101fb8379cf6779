/* Stores on node-local disk (data.stage_dir): copied once a node, checked by digest, a whole copy used again.
 *
 * The copy is <dir>/<stem of path>-<digest>.h5. The lowest rank of each node copies under a temporary name; all ranks of the node
 * compute the digest of the copy's data sets, which must be that of the store; then it gets its name. A copy that is there
 * already is checked in the same way, and made again when it is damaged.
 * Errors, the same on all ranks, no temporary file left: ES_EIO when the disk is full or the folder cannot be written; ES_EDATA
 * when the digest differs. Collective over comm. Fault points: stage (the disk is full), short. */
#ifndef EARSHOT_STAGE_H
#define EARSHOT_STAGE_H

#include <stddef.h>

#include "earshot/store.h"

/* out: path of the copy on this node. */
int es_stage_all(const struct es_comm *comm, const char *path, const char *dir, char *out, size_t bytes,
                 struct es_err *err);

/* es_store_open_all of the copy; with dir NULL or empty of the store itself. */
int es_stage_open_all(struct es_store **s, const struct es_comm *comm, const char *path, const char *dir,
                      struct es_err *err);

#endif
