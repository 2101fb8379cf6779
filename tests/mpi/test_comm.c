/* RANKS 1 2 4 8
 * TIMEOUT 60
 * Agreement on errors, exchanges in pieces, communicators and their faults, the stop flag. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../../src/comm/comm_impl.h" /* chunk_bytes: the path for huge counts, on small data */
#include "earshot/fault.h"
#include "earshot/mem.h"

/* Ranks first..last fail with codes that differ; everybody must hear of the first. */
static void check_agree(const struct es_comm *c, int first, int last) {
    int rank = es_comm_rank(c), size = es_comm_size(c), rc = 0;
    struct es_err err = {0};
    if (rank >= first && rank <= last) {
        rc = es_err_set(&err, rank % 2 ? ES_EDATA : ES_EIO, "file%d.h5: got %d, want 0", rank, rank);
        es_err_hint(&err, "look at rank %d", rank);
    }
    rc = es_err_agree_all(c, rc, &err);
    char msg[128], hint[64];
    if (size > 1)
        snprintf(msg, sizeof msg, "rank %d: file%d.h5: got %d, want 0", first, first, first);
    else
        snprintf(msg, sizeof msg, "file%d.h5: got %d, want 0", first, first);
    snprintf(hint, sizeof hint, "look at rank %d", first);
    for (int again = 0; again < 2; again++) { /* a caller that agrees once more changes nothing */
        ES_ASSERT(rc == -(first % 2 ? ES_EDATA : ES_EIO) && err.code == -rc);
        ES_ASSERT(strcmp(err.msg, msg) == 0 && strcmp(err.hint, hint) == 0);
        rc = es_err_agree_all(c, rc, &err);
    }
}

static void errors_are_agreed_on(const struct es_comm *c) {
    int rank = es_comm_rank(c), size = es_comm_size(c);
    for (int first = 0; first < size; first++)
        for (int last = first; last < size; last++) check_agree(c, first, last);
    struct es_err err = {0};
    ES_ASSERT(es_err_agree_all(c, 0, &err) == 0 && err.code == 0);
    ES_ASSERT(es_err_agree_all(c, rank, &err) == size - 1); /* information: the largest */
    ES_ASSERT(es_err_agree_all(c, rank == size - 1 ? -ES_EDATA : 7, &err) == -ES_EDATA &&
              strstr(err.msg, "without"));
    err = (struct es_err){0};
    if (rank == 0)
        es_err_set(&err, ES_EDATA,
                   "rank of the tensor is 5, want 4"); /* no prefix, though it looks like one */
    es_err_agree_all(c, rank == 0 ? -ES_EDATA : 0, &err);
    ES_ASSERT(strcmp(err.msg, size > 1 ? "rank 0: rank of the tensor is 5, want 4"
                                       : "rank of the tensor is 5, want 4") == 0);
}

static unsigned char byte_of(int rank, size_t i) {
    return (unsigned char)(rank * 37 + (int)(i * 11 % 251));
}

static void fill(unsigned char *p, int rank, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = byte_of(rank, i);
}

static bool holds(const unsigned char *p, int rank, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_of(rank, i)) return false;
    return true;
}

#define MAX_BYTES 1000
#define MAX_SIZE 8

static void exchanges_in_pieces(struct es_comm *c) {
    static const size_t chunks[] = {(size_t)1 << 30, 1000, 64, 7, 1}, lengths[] = {0, 1, 7, 8, 99, MAX_BYTES};
    int rank = es_comm_rank(c), size = es_comm_size(c);
    unsigned char in[MAX_BYTES + MAX_SIZE], out[(MAX_BYTES + MAX_SIZE) * MAX_SIZE];
    for (size_t i_chunk = 0; i_chunk < sizeof chunks / sizeof *chunks; i_chunk++)
        for (size_t i_len = 0; i_len < sizeof lengths / sizeof *lengths; i_len++) {
            size_t n = lengths[i_len], counts[MAX_SIZE], at = 0;
            c->chunk_bytes = chunks[i_chunk];
            for (int root = 0; root < size; root++) {
                fill(in, rank, n);
                es_comm_bcast_all(c, in, n, root);
                ES_ASSERT(holds(in, root, n));
            }
            for (int in_place = 0; in_place < 2; in_place++) {
                memset(out, 0xee, sizeof out);
                unsigned char *mine = in_place ? out + n * (size_t)rank : in;
                fill(mine, rank, n);
                es_comm_allgather_all(c, mine, n, out);
                for (int i = 0; i < size; i++) ES_ASSERT(holds(out + n * (size_t)i, i, n));
                ES_ASSERT(out[n * (size_t)size] == 0xee);
            }
            for (int i = 0; i < size; i++)
                counts[i] = i % 3 == 1 ? 0 : n + (size_t)i; /* ranks without data */
            fill(in, rank, counts[rank]);
            memset(out, 0xee, sizeof out);
            es_comm_allgatherv_all(c, in, counts, out);
            for (int i = 0; i < size; at += counts[i++]) ES_ASSERT(holds(out + at, i, counts[i]));
            ES_ASSERT(at == sizeof out || out[at] == 0xee);
            for (int from = 0; from + 1 < size; from++) { /* a block down the line of ranks */
                if (rank == from) fill(in, 5, n), es_comm_send(c, in, n, from + 1, 3);
                if (rank == from + 1) es_comm_recv(c, out, n, from, 3);
                ES_ASSERT(rank != from + 1 || holds(out, 5, n));
            }
        }
    c->chunk_bytes = (size_t)1 << 30;
    ES_ASSERT(es_comm_max_all(c, -5 + rank) == size - 6 &&
              es_comm_min_all(c, ((int64_t)1 << 40) - rank) == ((int64_t)1 << 40) - size + 1);
    ES_ASSERT(es_comm_sum_all(c, rank) == size * (size - 1) / 2);
    es_comm_assert_same_all(c, 0x8000000000000001u);
    es_comm_barrier_all(c);
}

static void communicators(const struct es_comm *c) {
    int rank = es_comm_rank(c), size = es_comm_size(c);
    struct es_comm *copy = NULL, *part = NULL;
    struct es_err err = {0};
    int64_t before = es_mem_live_blocks();
    ES_ASSERT(es_comm_dup_all(&copy, c, &err) == 0 && es_comm_split_all(&part, copy, rank % 2, &err) == 0);
    ES_ASSERT(es_comm_rank(copy) == rank && es_comm_size(copy) == size);
    ES_ASSERT(es_comm_rank(part) == rank / 2 && es_comm_size(part) == (size + 1 - rank % 2) / 2);
    ES_ASSERT(es_comm_sum_all(part, 1) == es_comm_size(part));
    const MPI_Comm *inside = es_comm_mpi(part);
    int part_size = 0;
    ES_ASSERT(MPI_Comm_size(*inside, &part_size) == MPI_SUCCESS && part_size == es_comm_size(part));
    es_comm_free_all(&part);
    es_comm_free_all(&copy);
    ES_ASSERT(!part && !copy && es_mem_live_blocks() == before);
    for (int n = 1, rc = -1; rc < 0; n++) { /* the last rank fails at its n-th allocation, then at the next */
        char spec[64];
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, size - 1);
        es_fault_init(spec, rank);
        rc = es_comm_dup_all(&copy, c, &err);
        es_fault_init(NULL, rank);
        ES_ASSERT(es_comm_min_all(c, rc) == es_comm_max_all(c, rc) && n < 10);
        ES_ASSERT(rc == 0 || (rc == -ES_EIO && !copy && strstr(err.msg, "out of memory") &&
                              es_mem_live_blocks() == before));
        ES_ASSERT(rc < 0 || n > 3);
    }
    es_comm_free_all(&copy);
}

static void signals_set_a_flag(const struct es_comm *c) {
    es_stop_install();
    ES_ASSERT(!es_stop_requested());
    struct sigaction usr1, term, intr;
    sigaction(SIGUSR1, NULL, &usr1);
    sigaction(SIGTERM, NULL, &term);
    sigaction(SIGINT, NULL, &intr);
    ES_ASSERT(usr1.sa_handler == term.sa_handler && usr1.sa_handler == intr.sa_handler);
    if (es_comm_rank(c) == es_comm_size(c) - 1) raise(SIGTERM);
    ES_ASSERT(es_stop_requested() == (es_comm_rank(c) == es_comm_size(c) - 1));
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        es_comm_fini_all(&c);
        return err.code;
    }
    ES_ASSERT(es_comm_size(c) <= MAX_SIZE);
    errors_are_agreed_on(c);
    exchanges_in_pieces(c);
    communicators(c);
    signals_set_a_flag(c);
    es_comm_fini_all(&c);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
