/* RANKS 1 2 4 8
 * TIMEOUT 60
 * Records of leaves arrive everywhere in leaf order, on any number of ranks; votes and errors are
 * everybody's. */
#include <stdio.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/leafgather.h"
#include "earshot/mem.h"
#include "earshot/reducer.h"

static double value(int step, int leaf, int i) {
    return step * 1000.0 + leaf + i / 1024.0;
}

static void check_step(const struct es_comm *c, struct es_leafgather *g, int step, int n_leaves, int n_active,
                       int n_doubles, size_t header_bytes) {
    int rank = es_comm_rank(c), size = es_comm_size(c);
    int stopper = step % (size + 1), failer = step % 3 == 2 ? (step / 3) % size : size; /* size: nobody */
    struct es_err err = {0};
    es_leafgather_begin(g, n_active);
    for (int leaf = 0; leaf < n_active; leaf++) {
        if (es_reducer_rank_of_leaf(n_leaves, size, leaf) != rank) continue;
        double *record = es_leafgather_record(g, leaf);
        for (int i = 0; i < n_doubles; i++) {
            ES_ASSERT(record[i] == 0);
            record[i] = value(step, leaf, i);
        }
    }
    memset(es_leafgather_header(g), rank + step % 100, header_bytes);
    int rc = rank >= failer ? es_err_set(&err, ES_EDATA, "clip%d.wav: cannot read", rank) : 0;
    rc = es_leafgather_all(g, rc, rank == stopper, &err);
    char who[32] = "", msg[64];
    if (size > 1) snprintf(who, sizeof who, "rank %d: ", failer);
    snprintf(msg, sizeof msg, "%sclip%d.wav: cannot read", who, failer);
    ES_ASSERT(failer == size ? rc == 0 && err.code == 0 : rc == -ES_EDATA && strcmp(err.msg, msg) == 0);
    ES_ASSERT(es_leafgather_stop(g) == (stopper < size));
    for (int leaf = 0; leaf < n_active; leaf++)
        for (int i = 0; i < n_doubles; i++) {
            ES_ASSERT(es_leafgather_leaf(g, leaf)[i] == value(step, leaf, i));
            ES_ASSERT(es_leafgather_leaf(g, 0)[leaf * n_doubles + i] == value(step, leaf, i));
        }
    for (int r = 0; r < size; r++) {
        const unsigned char *header = es_leafgather_rank_header(g, r);
        for (size_t i = 0; i < header_bytes; i++) ES_ASSERT(header[i] == r + step % 100);
    }
}

static void check_sizes(const struct es_comm *c) {
    static const int leaves[] = {1, 2, 3, 5, 8, 12, 36}, doubles[] = {0, 1, 5, 300};
    struct es_err err = {0};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        for (size_t j = 0; j < sizeof doubles / sizeof *doubles; j++) {
            struct es_leafgather *g = NULL;
            size_t header_bytes = 13 * j;
            ES_ASSERT(es_leafgather_new_all(&g, c, leaves[i], doubles[j], header_bytes, &err) == 0);
            int64_t allocations = es_mem_allocations();
            for (int n_active = 1; n_active <= leaves[i]; n_active += n_active < 3 ? 1 : 5)
                check_step(c, g, n_active + (int)j, leaves[i], n_active, doubles[j], header_bytes);
            ES_ASSERT(es_mem_allocations() == allocations);
            es_leafgather_free_all(&g);
        }
}

static void faults(const struct es_comm *c) {
    struct es_err err = {0};
    struct es_leafgather *g = NULL;
    int rank = es_comm_rank(c), rc = -1;
    int64_t before = es_mem_live_blocks();
    for (int n = 1; rc < 0; n++) {
        char spec[64];
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, es_comm_size(c) / 2);
        es_fault_init(spec, rank);
        rc = es_leafgather_new_all(&g, c, 8, 3, 5, &err);
        es_fault_init(NULL, rank);
        ES_ASSERT(es_comm_min_all(c, rc) == es_comm_max_all(c, rc) && n < 20);
        ES_ASSERT(rc == 0 || (rc == -ES_EIO && !g && es_mem_live_blocks() == before));
        ES_ASSERT(rc < 0 || n > 6);
    }
    es_leafgather_free_all(&g);
    ES_ASSERT(es_mem_live_blocks() == before);
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL, *part = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return err.code;
    check_sizes(c);
    faults(c);
    if (es_comm_size(c) == 8) { /* 3 and 5 ranks */
        ES_ASSERT(es_comm_split_all(&part, c, es_comm_rank(c) < 3, &err) == 0);
        check_sizes(part);
        es_comm_free_all(&part);
    }
    es_comm_fini_all(&c);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
