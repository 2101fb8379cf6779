/* Clips that several sets of a run's stores hold: counted by file name and by YouTube id, so that separately prepared corpora do not
 * leak into each other (spec/training.md 1.6; prepare looks within one corpus).
 *
 * The same by file name means the same stem (MAESTRO: the same recording); by YouTube id the same video. Synthetic sets take no
 * part: their names are numbers in every set. A set is a subset and its split; the clips of a set may come from several stores.
 * Collectivity: none.
 */
#ifndef EARSHOT_OVERLAP_H
#define EARSHOT_OVERLAP_H

#include "earshot/err.h"
#include "earshot/store.h"

enum { ES_YOUTUBE_ID = 11, ES_OVERLAP_EXAMPLES = 3, ES_OVERLAP_MAX = ES_N_SUBSETS * (2 * ES_N_SUBSETS + 1) };

/* What a clip is known by in other sets: name, recording, or id (filled in, then returned); NULL: nothing. */
const char *es_overlap_key(enum es_subset subset, const char *name, const char *recording, bool by_id,
                           char id[ES_YOUTUBE_ID + 1]);
/* Training clips of this set must not be scored. */
bool es_overlap_trains(enum es_subset subset, int split);

struct es_overlap { /* two sets, or one that two stores share */
    enum es_subset subset[2];
    bool trains[2];
    int64_t names, ids; /* in both: file names (MAESTRO: recordings), YouTube ids */
    bool leak;          /* one trains, the other is scored */
    int n_examples;
    char example[ES_OVERLAP_EXAMPLES][64];
};
struct es_overlaps {
    int n, n_leaks; /* rows, of which leaks */
    struct es_overlap row[ES_OVERLAP_MAX];
};
/* "3 file names and 4 YouTube ids are in weak (training) and validation (scored): a, b, c, ..." */
void es_overlap_describe(const struct es_overlap *o, char *text, size_t size);

/* Order: new, add the clips of each store (or some of them), count, free. source: which store, in ascending order. */
struct es_overlap_finder;
int es_overlap_new(struct es_overlap_finder **f, struct es_err *err);
int es_overlap_add(struct es_overlap_finder *f, int source, const struct es_store *s, int64_t clip,
                   struct es_err *err);
void es_overlap_count(const struct es_overlap_finder *f, struct es_overlaps *out);
void es_overlap_free(struct es_overlap_finder **f);
/* Is this one, by its digest, among the first n? */
bool es_overlap_seen(struct es_store *const *store, int n, const struct es_store *s);
/* All clips of some stores; a store that comes twice counts once. */
int es_overlap_of_stores(struct es_overlaps *out, struct es_store *const *store, int n, struct es_err *err);

#endif
