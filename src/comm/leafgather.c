#include "earshot/leafgather.h"

#include <string.h>

#include "comm_impl.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/reducer.h"

struct vote { /* begins a rank's block; the header and the records of its leaves follow */
    int32_t rc, stop;
    double pad; /* keeps the header at 16 bytes */
};

struct es_leafgather {
    struct es_comm *comm;
    int n_leaves, n_active, record_doubles, n_places; /* places: most leaves of a rank */
    size_t records_at, block_bytes;
    int *rank_of, *place_of; /* [n_leaves] */
    char *mine;              /* [block_bytes] */
    char *all;               /* [size, block_bytes] */
    double *leaf;            /* [n_leaves, record_doubles] */
    bool stop;
};

static int leafgather_alloc(struct es_leafgather *g, int n_leaves, int record_doubles, size_t header_bytes,
                            int size, struct es_err *err) {
    g->n_leaves = n_leaves;
    g->record_doubles = record_doubles;
    g->rank_of = es_alloc((size_t)n_leaves, sizeof(int), err);
    g->place_of = es_alloc((size_t)n_leaves, sizeof(int), err);
    int *count = es_alloc((size_t)size, sizeof(int), err); /* leaves of a rank so far */
    if (!err->code) {
        for (int j = 0; j < n_leaves; j++) {
            g->rank_of[j] = es_reducer_rank_of_leaf(n_leaves, size, j);
            g->place_of[j] = count[g->rank_of[j]]++;
            if (g->place_of[j] >= g->n_places) g->n_places = g->place_of[j] + 1;
        }
        size_t record_bytes = (size_t)record_doubles * sizeof(double);
        g->records_at = sizeof(struct vote) + (header_bytes + 15) / 16 * 16;
        g->block_bytes = (g->records_at + (size_t)g->n_places * record_bytes + 15) / 16 * 16;
        g->mine = es_alloc(1, g->block_bytes, err);
        g->all = es_alloc((size_t)size, g->block_bytes, err);
        g->leaf = es_alloc((size_t)n_leaves, record_bytes, err);
    }
    es_free(&count);
    return err->code ? es_err_prefix(err, "records of %d leaves", n_leaves) : 0;
}

int es_leafgather_new_all(struct es_leafgather **out, const struct es_comm *c, int n_leaves,
                          int record_doubles, size_t header_bytes, struct es_err *err) {
    *out = NULL;
    ES_ASSERT(n_leaves >= 1 && record_doubles >= 0);
    const int64_t same[] = {n_leaves, record_doubles, (int64_t)header_bytes};
    es_comm_assert_same_all(c, es_hash_bytes(same, sizeof same));
    struct es_err local = {0};
    struct es_leafgather *g = es_alloc(1, sizeof *g, &local);
    if (g) leafgather_alloc(g, n_leaves, record_doubles, header_bytes, es_comm_size(c), &local);
    int rc = es_err_agree_all(c, -local.code, &local);
    if (rc == 0) rc = es_comm_dup_all(&g->comm, c, &local);
    if (rc < 0) {
        es_leafgather_free_all(&g);
        if (err) *err = local;
    }
    *out = g;
    return rc;
}

void es_leafgather_free_all(struct es_leafgather **out) {
    struct es_leafgather *g = *out;
    if (!g) return;
    es_comm_free_all(&g->comm);
    es_free(&g->leaf);
    es_free(&g->all);
    es_free(&g->mine);
    es_free(&g->place_of);
    es_free(&g->rank_of);
    es_free(out);
}

void es_leafgather_begin(struct es_leafgather *g, int n_active) {
    ES_ASSERT(n_active >= 1 && n_active <= g->n_leaves);
    g->n_active = n_active;
    g->stop = false;
    memset(g->mine, 0, g->block_bytes);
}

/* The record of a leaf in the block of its rank. */
static double *record_in(const struct es_leafgather *g, char *block, int leaf) {
    void *records = block + g->records_at;
    return (double *)records + (size_t)g->place_of[leaf] * (size_t)g->record_doubles;
}

double *es_leafgather_record(struct es_leafgather *g, int leaf) {
    ES_ASSERT(leaf >= 0 && leaf < g->n_active && g->rank_of[leaf] == es_comm_rank(g->comm));
    return record_in(g, g->mine, leaf);
}

void *es_leafgather_header(struct es_leafgather *g) {
    return g->mine + sizeof(struct vote);
}

int es_leafgather_all(struct es_leafgather *g, int rc, bool stop, struct es_err *err) {
    ES_ASSERT(err && g->n_active > 0);
    struct vote vote = {.rc = rc, .stop = stop};
    memcpy(g->mine, &vote, sizeof vote);
    es_comm_allgather_all(g->comm, g->mine, g->block_bytes, g->all);
    for (int j = 0; j < g->n_active; j++)
        memcpy(g->leaf + (size_t)j * (size_t)g->record_doubles,
               record_in(g, g->all + (size_t)g->rank_of[j] * g->block_bytes, j),
               (size_t)g->record_doubles * sizeof(double));
    int failed = -1, largest = 0;
    for (int rank = es_comm_size(g->comm) - 1; rank >= 0; rank--) {
        memcpy(&vote, g->all + (size_t)rank * g->block_bytes, sizeof vote);
        g->stop = g->stop || vote.stop;
        if (vote.rc < 0) failed = rank;
        if (vote.rc > largest) largest = vote.rc;
    }
    return failed < 0 ? largest : es_comm_share_error_all(g->comm, rc, err, failed);
}

bool es_leafgather_stop(const struct es_leafgather *g) {
    return g->stop;
}

const double *es_leafgather_leaf(const struct es_leafgather *g, int leaf) {
    ES_ASSERT(leaf >= 0 && leaf < g->n_active);
    return g->leaf + (size_t)leaf * (size_t)g->record_doubles;
}

const void *es_leafgather_rank_header(const struct es_leafgather *g, int rank) {
    ES_ASSERT(rank >= 0 && rank < es_comm_size(g->comm));
    return g->all + (size_t)rank * g->block_bytes + sizeof(struct vote);
}
