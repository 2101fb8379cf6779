/* Pickle reader: the data of a pickle, protocols 0 to 5, as a tree of plain values. Nothing is ever executed.
 *
 * A pickle is a program for a small stack machine that builds Python objects and may call any function. This machine builds
 * numbers, strings, lists, tuples and dicts; of all callables it knows those that PyTorch's own files need (OrderedDict, the
 * rebuilding of tensors and parameters, torch.Size, set) by what they mean. Any other class, function, object or extension
 * becomes an inert ES_VALUE_OBJECT with a name: it costs nothing unless somebody wants to read it.
 *
 * Tensors are views of storages, which a persistent id names: ('storage', type, key, place, elements). Bytes of storages are not
 * part of the pickle; the file's reader (tensorfile.h) knows where they are.
 *
 * Memory: at most about 100 bytes per byte of the pickle, whatever it says. No recursion. Sets become lists; integers beyond 64
 * bits inert objects.
 *
 * Errors: ES_EDATA "name: pickle: byte 17: ..." for anything that Python's unpickler would refuse too, and for tensors that do
 * not lie in their storage. Collectivity: none.
 */
#ifndef EARSHOT_PICKLE_H
#define EARSHOT_PICKLE_H

#include "earshot/value.h"

struct es_pickle_storage {
    enum es_dtype dtype;
    int64_t n;       /* elements */
    const char *key; /* in the heap */
};

struct es_names;
struct es_pickle { /* plain; zero it, set heap and name; es_pickle_free at the end */
    struct es_values *heap;
    const char *name; /* of the file, for messages */
    struct es_pickle_storage *storage;
    int n_storages, cap;
    struct es_names *keys; /* key -> index */
};

/* Reads one pickle at bytes; *used: how many bytes it took. Storages are added to p. */
int es_pickle_read(struct es_pickle *p, const void *bytes, size_t n, size_t *used, struct es_value **root,
                   struct es_err *err);
void es_pickle_free(struct es_pickle *p);

#endif
