#include "comm_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"

#define CHUNK_BYTES ((size_t)1 << 30)
#define FAILED ((int64_t)1 << 40) /* above every result code, so that one maximum tells both */

/* Ends all ranks. Another thread than the main one may not call MPI: its process ends alone and the launcher,
 * which sees a code other than 0 and no MPI_Finalize, ends the rest. */
static void end_all_ranks(int code) {
    int begun = 0, over = 0, is_main = 0;
    fflush(NULL);
    MPI_Initialized(&begun);
    MPI_Finalized(&over);
    if (begun && !over) {
        MPI_Is_thread_main(&is_main);
        if (is_main) MPI_Abort(MPI_COMM_WORLD, code);
    }
    _Exit(code);
}

void es_comm_check(const struct es_comm *c, int mpi_rc, const char *call) {
    if (mpi_rc == MPI_SUCCESS) return;
    char what[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(mpi_rc, what, &n);
    for (char *p = what; *p; p++)
        if (*p == '\n') *p = ' ';
    fprintf(stderr, "earshot: rank %d of %d: %s: %s; a rank or its node may be lost: run again to resume\n",
            c ? c->rank : 0, c ? c->size : 1, call, what);
    end_all_ranks(ES_EIO);
}

static void comm_free(struct es_comm **c) {
    if (!*c) return;
    es_free(&(*c)->displs);
    es_free(&(*c)->counts);
    es_free(c);
}

/* Memory for a communicator among ranks of parent, which agree whether all of them got it. */
static int comm_new(struct es_comm **c, const struct es_comm *parent, struct es_err *err) {
    struct es_err local = {0};
    *c = es_alloc(1, sizeof **c, &local);
    if (*c) (*c)->counts = es_alloc((size_t)parent->size, sizeof *(*c)->counts, &local);
    if (*c) (*c)->displs = es_alloc((size_t)parent->size, sizeof *(*c)->displs, &local);
    int rc = local.code ? es_err_prefix(&local, "communicator") : 0;
    rc = es_err_agree_all(parent, rc, &local);
    if (rc < 0) {
        comm_free(c);
        if (err) *err = local;
    }
    return rc;
}

static void comm_describe_all(struct es_comm *c) {
    ES_MPI(c, MPI_Comm_set_errhandler, c->mpi, MPI_ERRORS_RETURN);
    ES_MPI(c, MPI_Comm_rank, c->mpi, &c->rank);
    ES_MPI(c, MPI_Comm_size, c->mpi, &c->size);
    c->chunk_bytes = CHUNK_BYTES;
}

int es_comm_init_all(struct es_comm **c, int *argc, char ***argv, struct es_err *err) {
    *c = NULL;
    int provided = 0;
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0); /* alone, Open MPI starts a daemon that nobody needs */
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return es_err_set(err, ES_EIO, "MPI_Init_thread failed; check the launcher and its MPI library");
    es_fatal_handler(end_all_ranks);
    ES_MPI(NULL, MPI_Comm_set_errhandler, MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (provided < MPI_THREAD_FUNNELED)
        return es_err_set(err, ES_EIO,
                          "MPI: thread level %d, want %d (MPI_THREAD_FUNNELED); use another MPI build",
                          provided, MPI_THREAD_FUNNELED);
    struct es_comm world = {.mpi = MPI_COMM_WORLD, .chunk_bytes = CHUNK_BYTES};
    ES_MPI(NULL, MPI_Comm_rank, MPI_COMM_WORLD, &world.rank);
    ES_MPI(NULL, MPI_Comm_size, MPI_COMM_WORLD, &world.size);
    ES_TRY(comm_new(c, &world, err));
    ES_MPI(*c, MPI_Comm_dup, MPI_COMM_WORLD, &(*c)->mpi);
    comm_describe_all(*c);
    return 0;
}

void es_comm_fini_all(struct es_comm **c) {
    int begun = 0, over = 0;
    es_comm_free_all(c);
    MPI_Initialized(&begun);
    MPI_Finalized(&over);
    if (begun && !over) MPI_Finalize();
}

int es_comm_dup_all(struct es_comm **out, const struct es_comm *c, struct es_err *err) {
    ES_TRY(comm_new(out, c, err));
    ES_MPI(c, MPI_Comm_dup, c->mpi, &(*out)->mpi);
    ES_MPI(c, MPI_Comm_set_errhandler, (*out)->mpi, MPI_ERRORS_RETURN);
    (*out)->rank = c->rank;
    (*out)->size = c->size;
    (*out)->chunk_bytes = c->chunk_bytes;
    return 0;
}

int es_comm_split_all(struct es_comm **out, const struct es_comm *c, int color, struct es_err *err) {
    ES_ASSERT(color >= 0);
    ES_TRY(comm_new(out, c, err));
    ES_MPI(c, MPI_Comm_split, c->mpi, color, c->rank, &(*out)->mpi);
    comm_describe_all(*out);
    return 0;
}

int es_comm_split_node_all(struct es_comm **out, const struct es_comm *c, struct es_err *err) {
    ES_TRY(comm_new(out, c, err));
    ES_MPI(c, MPI_Comm_split_type, c->mpi, MPI_COMM_TYPE_SHARED, c->rank, MPI_INFO_NULL, &(*out)->mpi);
    comm_describe_all(*out);
    return 0;
}

void es_comm_free_all(struct es_comm **c) {
    if (!*c) return;
    ES_MPI(*c, MPI_Comm_free, &(*c)->mpi);
    comm_free(c);
}

int es_comm_rank(const struct es_comm *c) {
    return c->rank;
}
int es_comm_size(const struct es_comm *c) {
    return c->size;
}
const void *es_comm_mpi(const struct es_comm *c) {
    return &c->mpi;
}

int es_comm_share_error_all(const struct es_comm *c, int rc, struct es_err *err, int root) {
    struct es_err shared;
    memset(&shared, 0, sizeof shared);
    if (c->rank == root) {
        if (err->code == 0) es_err_set(err, (enum es_code) - rc, "failed without a message");
        shared = *err;
        shared.code = -rc;
        int origin, end = 0; /* an error that was agreed on before names the rank it comes from */
        if (c->size > 1 && (sscanf(err->msg, "rank %d:%n", &origin, &end) != 1 || end == 0))
            es_err_prefix(&shared, "rank %d", root);
    }
    es_comm_bcast_all(c, &shared, sizeof shared, root);
    *err = shared;
    return -err->code;
}

int es_err_agree_all(const struct es_comm *c, int rc, struct es_err *err) {
    ES_ASSERT(err);
    int64_t worst = es_comm_max_all(c, rc < 0 ? FAILED + c->size - c->rank : rc);
    if (worst < FAILED) return (int)worst;
    return es_comm_share_error_all(c, rc, err, c->size - (int)(worst - FAILED));
}

void es_comm_barrier_all(const struct es_comm *c) {
    ES_MPI(c, MPI_Barrier, c->mpi);
}

static int piece(const struct es_comm *c, size_t rest) {
    return (int)(rest < c->chunk_bytes ? rest : c->chunk_bytes);
}

void es_comm_bcast_all(const struct es_comm *c, void *data, size_t bytes, int root) {
    char *p = data;
    for (size_t at = 0; at < bytes; at += c->chunk_bytes)
        ES_MPI(c, MPI_Bcast, p + at, piece(c, bytes - at), MPI_BYTE, root, c->mpi);
}

/* Too much for the int counts of one call: each rank's part travels alone, in chunks. bytes: one count a
 * rank, or NULL and every part has `each` bytes. */
static void allgather_parts(const struct es_comm *c, const char *in, const size_t *bytes, size_t each,
                            char *out) {
    for (int root = 0; root < c->size; root++) {
        size_t n = bytes ? bytes[root] : each;
        if (root == c->rank && n > 0 && in != out) memcpy(out, in, n);
        es_comm_bcast_all(c, out, n, root);
        out += n;
    }
}

void es_comm_allgather_all(const struct es_comm *c, const void *in, size_t bytes, void *out) {
    if (bytes > c->chunk_bytes / (size_t)c->size) {
        allgather_parts(c, in, NULL, bytes, out);
        return;
    }
    const char *mine = (char *)out + bytes * (size_t)c->rank;
    ES_MPI(c, MPI_Allgather, in == mine ? MPI_IN_PLACE : in, (int)bytes, MPI_BYTE, out, (int)bytes, MPI_BYTE,
           c->mpi);
}

void es_comm_allgatherv_all(const struct es_comm *c, const void *in, const size_t *bytes, void *out) {
    size_t total = 0;
    for (int i = 0; i < c->size; i++) {
        size_t room = c->chunk_bytes - total;
        if (bytes[i] > room) {
            allgather_parts(c, in, bytes, 0, out);
            return;
        }
        c->counts[i] = (int)bytes[i];
        c->displs[i] = (int)total;
        total += bytes[i];
    }
    const char *mine = (char *)out + c->displs[c->rank];
    ES_MPI(c, MPI_Allgatherv, in == mine ? MPI_IN_PLACE : in, c->counts[c->rank], MPI_BYTE, out, c->counts,
           c->displs, MPI_BYTE, c->mpi);
}

static int64_t reduce_one(const struct es_comm *c, int64_t v, MPI_Op op) {
    int64_t out = 0;
    ES_MPI(c, MPI_Allreduce, &v, &out, 1, MPI_INT64_T, op, c->mpi);
    return out;
}

int64_t es_comm_max_all(const struct es_comm *c, int64_t v) {
    return reduce_one(c, v, MPI_MAX);
}
int64_t es_comm_min_all(const struct es_comm *c, int64_t v) {
    return reduce_one(c, v, MPI_MIN);
}
int64_t es_comm_sum_all(const struct es_comm *c, int64_t v) {
    return reduce_one(c, v, MPI_SUM);
}
double es_comm_slowest_s_all(const struct es_comm *c, double seconds) {
    return 1e-9 * (double)es_comm_max_all(c, (int64_t)(1e9 * seconds));
}

void es_comm_assert_same_all(const struct es_comm *c, uint64_t v) {
    uint64_t in[2] = {v, ~v}, out[2] = {0, 0};
    ES_MPI(c, MPI_Allreduce, in, out, 2, MPI_UINT64_T, MPI_MAX, c->mpi);
    bool same_on_all_ranks = out[0] == ~out[1];
    ES_ASSERT(same_on_all_ranks);
}

void es_comm_send(const struct es_comm *c, const void *data, size_t bytes, int to, int tag) {
    const char *p = data;
    for (size_t at = 0; at < bytes; at += c->chunk_bytes)
        ES_MPI(c, MPI_Send, p + at, piece(c, bytes - at), MPI_BYTE, to, tag, c->mpi);
}

void es_comm_recv(const struct es_comm *c, void *data, size_t bytes, int from, int tag) {
    char *p = data;
    for (size_t at = 0; at < bytes; at += c->chunk_bytes) {
        int want = piece(c, bytes - at), got = 0;
        MPI_Status status;
        ES_MPI(c, MPI_Recv, p + at, want, MPI_BYTE, from, tag, c->mpi, &status);
        ES_MPI(c, MPI_Get_count, &status, MPI_BYTE, &got);
        ES_ASSERT(got == want);
    }
}

void es_comm_exchange(const struct es_comm *c, const void *out, size_t out_bytes, int to, void *in,
                      size_t in_bytes, int from, int tag) {
    const char *p = out;
    char *q = in;
    for (size_t at = 0; at < out_bytes || at < in_bytes; at += c->chunk_bytes) {
        const bool send = at < out_bytes, recv = at < in_bytes;
        const int n_in = recv ? piece(c, in_bytes - at) : 0;
        int got = 0;
        MPI_Status status;
        ES_MPI(c, MPI_Sendrecv, send ? p + at : NULL, send ? piece(c, out_bytes - at) : 0, MPI_BYTE,
               send ? to : MPI_PROC_NULL, tag, recv ? q + at : NULL, n_in, MPI_BYTE,
               recv ? from : MPI_PROC_NULL, tag, c->mpi, &status);
        ES_MPI(c, MPI_Get_count, &status, MPI_BYTE, &got);
        ES_ASSERT(got == n_in);
    }
}
