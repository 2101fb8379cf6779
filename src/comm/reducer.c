#include "earshot/reducer.h"

#include <stdio.h>

#include "comm_impl.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/timer.h"

#define MAX_RANKS 1024 /* a bucket is a multiple of this, so that halving comes out even */
#define MAX_BUCKET ((int64_t)1 << 22)
#define MIN_BUCKET ((int64_t)1 << 16)
#define MAX_BUCKETS 16383 /* two tags each of those that every MPI has */
#define MAX_LEAVES (1 << 20)
#define MAX_DEPTH 21
#define N_BLOCKS MAX_RANKS /* of a bucket, in the norm */
#define GATHER_WINDOW 2    /* buckets of values under way at once */
#define FILLING (-1)
#define EMPTY (-1)

/* A bucket is filling, then at level k: its messages with rank XOR 2^k are under way; at n_levels my segment
 * is summed. */
struct bucket {
    int level;
    int waiting; /* messages under way */
    bool add;    /* what comes is to be added to my half; else it lands there */
    int64_t lo;  /* my current segment begins here, relative to the bucket */
    int64_t n_ready, index_sum;
};

/* The values of a bucket on their way to all ranks: at this level, downwards; EMPTY: all there. */
struct flight {
    int level, waiting; /* messages under way */
};

struct es_reducer {
    struct es_comm *comm;
    int rank, size, n_levels;          /* size = 2^n_levels */
    int n_leaves, n_slots, n_mine_max; /* my slots, a power of two: 2^depth */
    int depth;
    int64_t n_elements, bucket_elements, n_buckets;
    int64_t bytes;

    float *vector[MAX_DEPTH + 1]; /* [n_buckets * bucket_elements] each, depth + 1 of them */
    float *half;                  /* [n_buckets * bucket_elements / 2] when depth = 0 and size > 1 */
    struct bucket *bucket;
    struct flight *flight;
    MPI_Request *request; /* [4 n_buckets]: of each bucket's sums send, receive; behind them of its values */
    int *completed;       /* [4 n_buckets] */
    double *norm_mine;    /* [n_buckets] */
    double *norm_all;     /* [size, n_buckets] */
    double block[N_BLOCKS];

    /* this step */
    int *leaf; /* [n_mine_max] */
    int n_active, n_mine, n_ended, n_flying;
    bool in_leaf, active;
    int64_t n_done;             /* buckets */
    int n_pushed;               /* slots that went into the binary counter */
    int pending[MAX_DEPTH + 1]; /* level -> vector that waits for its right sibling, or EMPTY */
    bool used[MAX_DEPTH + 1];   /* vectors in use */
    int current;                /* vector of the leaf that is computed; in the end, of the sums */
    bool mine_empty[MAX_DEPTH]; /* level -> no active leaf below my node, my partner's node */
    bool other_empty[MAX_DEPTH];
    double exposed_s;
    int64_t sent_bytes;

    float *values;                /* [n_elements] of the gather under way */
    int64_t n_begun, n_gathering; /* buckets: set out; not yet there */
};

/* ---- pure functions of the layout */

static int bit_reverse(int v, int n_bits) {
    int out = 0;
    for (int i = 0; i < n_bits; i++) out |= (v >> i & 1) << (n_bits - 1 - i);
    return out;
}

static int log2_up(int v) {
    int n = 0;
    while (((int64_t)1 << n) < v) n++;
    return n;
}

static int64_t round_up(int64_t v, int64_t to) {
    return (v + to - 1) / to * to;
}

int es_reducer_slot_of_leaf(int n_leaves, int leaf) {
    ES_ASSERT(leaf >= 0 && leaf < n_leaves && n_leaves <= MAX_LEAVES);
    return bit_reverse(leaf, log2_up(n_leaves));
}

int es_reducer_rank_of_leaf(int n_leaves, int n_ranks, int leaf) {
    return (int)((int64_t)es_reducer_slot_of_leaf(n_leaves, leaf) * n_ranks >> log2_up(n_leaves));
}

/* At least eight buckets, so that most of the exchange can hide behind backward, unless they would get tiny; of one size, so that
 * little of the last one is padding. */
static int64_t choose_bucket(int64_t n_elements) {
    int64_t most = (n_elements + 7) / 8;
    if (most < MIN_BUCKET) most = MIN_BUCKET;
    if (most > MAX_BUCKET) most = MAX_BUCKET;
    int64_t n_buckets = (n_elements + most - 1) / most;
    return round_up((n_elements + n_buckets - 1) / n_buckets, MAX_RANKS);
}

/* Where the segment of a rank begins in a bucket after the exchanges of levels 0..level-1; its length is B >>
 * level. */
static int64_t segment_lo(const struct es_reducer *r, int rank, int level) {
    int64_t lo = 0;
    for (int k = 0; k < level; k++)
        if (rank >> k & 1) lo += r->bucket_elements >> (k + 1);
    return lo;
}

/* ---- new and free */

static int check_arguments(const struct es_comm *c, int64_t n_elements, int n_leaves, int64_t bucket_elements,
                           struct es_err *err) {
    if (n_elements < 1 || n_leaves < 1 || n_leaves > MAX_LEAVES)
        return es_err_set(
            err, ES_EUSAGE,
            "reducer: got %lld elements and %d leaves a step, want 1 or more, and at most %d leaves",
            (long long)n_elements, n_leaves, MAX_LEAVES);
    if (bucket_elements < 0 || bucket_elements > MAX_BUCKET || bucket_elements % MAX_RANKS != 0)
        return es_err_set(err, ES_EUSAGE,
                          "reducer: buckets of %lld elements, want a multiple of %d up to %lld, or 0",
                          (long long)bucket_elements, MAX_RANKS, (long long)MAX_BUCKET);
    if (bucket_elements > 0 && n_elements > MAX_BUCKETS * bucket_elements)
        return es_err_set(err, ES_EUSAGE,
                          "reducer: %lld elements make more than %d buckets of %lld; use larger buckets",
                          (long long)n_elements, MAX_BUCKETS, (long long)bucket_elements);
    int size = es_comm_size(c), n_slots = 1 << log2_up(n_leaves),
        most = n_slots < MAX_RANKS ? n_slots : MAX_RANKS;
    if ((size & (size - 1)) == 0 && size <= most) return 0;
    char list[128] = "1";
    for (int p = 2, at = 1; p <= most; p *= 2)
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%d", p == most ? " or " : ", ", p);
    return es_err_set(err, ES_EUSAGE,
                      "ranks: got %d, want a power of two up to %d for %d leaves a step; run with %s", size,
                      most, n_leaves, list);
}

static void *count_alloc(struct es_reducer *r, int64_t n, size_t size, struct es_err *err) {
    if (err->code) return NULL;
    r->bytes += n * (int64_t)size;
    return es_alloc((size_t)n, size, err);
}

static int reducer_alloc(struct es_reducer *r, struct es_err *err) {
    int64_t nb = r->n_buckets, n = nb * r->bucket_elements;
    for (int i = 0; i <= r->depth; i++) r->vector[i] = count_alloc(r, n, sizeof(float), err);
    if (r->depth == 0 && r->size > 1) r->half = count_alloc(r, n / 2, sizeof(float), err);
    r->bucket = count_alloc(r, nb, sizeof *r->bucket, err);
    r->flight = count_alloc(r, nb, sizeof *r->flight, err);
    r->request = count_alloc(r, 4 * nb, sizeof(MPI_Request), err);
    r->completed = count_alloc(r, 4 * nb, sizeof(int), err);
    r->norm_mine = count_alloc(r, nb, sizeof(double), err);
    r->norm_all = count_alloc(r, nb * r->size, sizeof(double), err);
    r->leaf = count_alloc(r, r->n_mine_max, sizeof(int), err);
    if (err->code) return es_err_prefix(err, "reducer of %lld elements", (long long)r->n_elements);
    for (int64_t i = 0; i < 4 * nb; i++) r->request[i] = MPI_REQUEST_NULL;
    for (int64_t b = 0; b < nb; b++) r->flight[b].level = EMPTY;
    return 0;
}

int es_reducer_new_all(struct es_reducer **out, const struct es_comm *c, int64_t n_elements, int n_leaves,
                       int64_t bucket_elements, struct es_err *err) {
    *out = NULL;
    const int64_t same[] = {n_elements, n_leaves, bucket_elements};
    es_comm_assert_same_all(c, es_hash_bytes(same, sizeof same));
    ES_TRY(check_arguments(c, n_elements, n_leaves, bucket_elements, err));
    struct es_err local = {0};
    int rc = 0;
    struct es_reducer *r = es_alloc(1, sizeof *r, &local);
    if (r) {
        r->bytes = sizeof *r;
        r->rank = es_comm_rank(c);
        r->size = es_comm_size(c);
        r->n_levels = log2_up(r->size);
        r->n_leaves = n_leaves;
        r->n_slots = 1 << log2_up(n_leaves);
        r->n_mine_max = r->n_slots / r->size;
        r->depth = log2_up(r->n_mine_max);
        r->n_elements = n_elements;
        r->bucket_elements = bucket_elements > 0 ? bucket_elements : choose_bucket(n_elements);
        r->n_buckets = (n_elements + r->bucket_elements - 1) / r->bucket_elements;
        reducer_alloc(r, &local);
    }
    rc = es_err_agree_all(c, -local.code, &local);
    if (rc == 0) rc = es_comm_dup_all(&r->comm, c, &local);
    if (rc < 0) {
        es_reducer_free_all(&r);
        if (err) *err = local;
    }
    *out = r;
    return rc;
}

void es_reducer_free_all(struct es_reducer **out) {
    struct es_reducer *r = *out;
    if (!r) return;
    if (r->active) { /* all ranks leave in the middle of a step: messages must not outlive their memory */
        es_reducer_abandon(r);
        es_reducer_finish_all(r, NULL);
    }
    if (r->n_gathering > 0) es_reducer_gather_wait(r, 0, r->n_elements);
    es_comm_free_all(&r->comm);
    es_free(&r->leaf);
    es_free(&r->norm_all);
    es_free(&r->norm_mine);
    es_free(&r->completed);
    es_free(&r->request);
    es_free(&r->flight);
    es_free(&r->bucket);
    es_free(&r->half);
    for (int i = MAX_DEPTH; i >= 0; i--) es_free(&r->vector[i]);
    es_free(out);
}

int es_reducer_n_slots(const struct es_reducer *r) {
    return r->n_slots;
}
int es_reducer_n_mine(const struct es_reducer *r) {
    return r->n_mine;
}
double es_reducer_exposed_s(const struct es_reducer *r) {
    return r->exposed_s;
}
int64_t es_reducer_sent_bytes(const struct es_reducer *r) {
    return r->sent_bytes;
}
int64_t es_reducer_bytes(const struct es_reducer *r) {
    return r->bytes;
}

int es_reducer_leaf(const struct es_reducer *r, int i) {
    ES_ASSERT(i >= 0 && i < r->n_mine);
    return r->leaf[i];
}

/* ---- sums. The order of two operands does not matter: addition of two numbers commutes bit for bit. */

static void add_into(float *acc, const float *other, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n >= 1 << 18)
    for (int64_t i = 0; i < n; i++) acc[i] += other[i];
}

/* ---- across ranks: one bucket */

static float *at_bucket(struct es_reducer *r, int vector, int64_t b) {
    return r->vector[vector] + b * r->bucket_elements;
}

/* Where the half that comes in waits for its addition. By now this bucket of any vector but the current one is free; the half
 * keeps its place there, so that gaps and padding, which no leaf writes, are zero for ever. */
static float *receive_space(struct es_reducer *r, int64_t b) {
    if (r->depth == 0) return r->half + b * (r->bucket_elements / 2);
    return at_bucket(r, r->current == 0 ? 1 : 0, b) + r->bucket[b].lo;
}

/* Posts the messages of the bucket's level; goes on where there are none. */
static void bucket_exchange(struct es_reducer *r, int64_t b) {
    struct bucket *k = &r->bucket[b];
    for (; k->level < r->n_levels; k->level++) {
        bool upper = r->rank >> k->level & 1, send = !r->mine_empty[k->level],
             receive = !r->other_empty[k->level];
        int64_t n = r->bucket_elements >> (k->level + 1), give = k->lo + (upper ? 0 : n);
        int partner = r->rank ^ 1 << k->level;
        float *sums = at_bucket(r, r->current, b);
        k->lo += upper ? n : 0;
        k->add = send && receive;
        k->waiting = send + receive;
        r->n_flying += k->waiting;
        if (receive)
            ES_MPI(r->comm, MPI_Irecv, send ? receive_space(r, b) : sums + k->lo, (int)n, MPI_FLOAT, partner,
                   (int)b, r->comm->mpi, &r->request[2 * b + 1]);
        if (send) r->sent_bytes += n * (int64_t)sizeof(float);
        if (send)
            ES_MPI(r->comm, MPI_Isend, sums + give, (int)n, MPI_FLOAT, partner, (int)b, r->comm->mpi,
                   &r->request[2 * b]);
        if (k->waiting > 0) return;
    }
    r->n_done++;
}

static void sum_message_done(struct es_reducer *r, int64_t b) {
    struct bucket *k = &r->bucket[b];
    if (--k->waiting > 0) return;
    if (k->add)
        add_into(at_bucket(r, r->current, b) + k->lo, receive_space(r, b),
                 r->bucket_elements >> (k->level + 1));
    k->level++;
    bucket_exchange(r, b);
}

/* The part of bucket b that a rank holds at a level, cut to the vector; n = 0: all padding. */
static struct es_segment part_of(const struct es_reducer *r, int64_t b, int rank, int level) {
    int64_t offset = b * r->bucket_elements + segment_lo(r, rank, level), n = r->bucket_elements >> level;
    if (offset > r->n_elements) offset = r->n_elements;
    if (n > r->n_elements - offset) n = r->n_elements - offset;
    return (struct es_segment){.offset = offset, .n = n};
}

/* The exchange of sums run backwards: at level k a rank gives the values that it has and gets the other half of the next larger
 * segment. */
static void gather_exchange(struct es_reducer *r, int64_t b) {
    struct flight *f = &r->flight[b];
    MPI_Request *request = &r->request[2 * (r->n_buckets + b)];
    int tag = (int)(r->n_buckets + b);
    for (; f->level >= 0; f->level--) {
        int partner = r->rank ^ 1 << f->level;
        struct es_segment mine = part_of(r, b, r->rank, f->level + 1),
                          other = part_of(r, b, partner, f->level + 1);
        f->waiting = (mine.n > 0) + (other.n > 0);
        r->n_flying += f->waiting;
        if (other.n > 0)
            ES_MPI(r->comm, MPI_Irecv, r->values + other.offset, (int)other.n, MPI_FLOAT, partner, tag,
                   r->comm->mpi, &request[1]);
        if (mine.n > 0)
            ES_MPI(r->comm, MPI_Isend, r->values + mine.offset, (int)mine.n, MPI_FLOAT, partner, tag,
                   r->comm->mpi, &request[0]);
        if (f->waiting > 0) return;
    }
    r->n_gathering--;
}

/* The last bucket first: backward fills the first one first, so forward reads the last one first. Few at a time: buckets that share
 * a link would all arrive late. */
static void gather_more(struct es_reducer *r) {
    int64_t ended = r->n_buckets - r->n_gathering;
    while (r->n_begun < r->n_buckets && r->n_begun - ended < GATHER_WINDOW) {
        gather_exchange(r, r->n_buckets - ++r->n_begun);
        ended = r->n_buckets - r->n_gathering;
    }
}

static void message_done(struct es_reducer *r, int i_request) {
    int64_t b = i_request / 2;
    r->n_flying--;
    if (b < r->n_buckets) {
        sum_message_done(r, b);
    } else if (--r->flight[b -= r->n_buckets].waiting == 0) {
        r->flight[b].level--;
        gather_exchange(r, b);
        gather_more(r);
    }
}

/* Some messages, of sums or of values, at least one when wait. */
static void progress(struct es_reducer *r, bool wait) {
    int n = 0, n_requests = (int)(4 * r->n_buckets);
    if (wait)
        ES_MPI(r->comm, MPI_Waitsome, n_requests, r->request, &n, r->completed, MPI_STATUSES_IGNORE);
    else
        ES_MPI(r->comm, MPI_Testsome, n_requests, r->request, &n, r->completed, MPI_STATUSES_IGNORE);
    ES_ASSERT(n > 0 || !wait);
    for (int i = 0; i < n; i++) message_done(r, r->completed[i]);
}

/* The last leaf's part of this bucket is final: the rest of the binary counter, for this bucket alone, then
 * the ranks. */
static void bucket_release(struct es_reducer *r, int64_t b, bool merge) {
    for (int level = 0; level < r->depth && merge; level++)
        if (r->pending[level] != EMPTY)
            add_into(at_bucket(r, r->current, b), at_bucket(r, r->pending[level], b), r->bucket_elements);
    r->bucket[b].level = 0;
    bucket_exchange(r, b);
}

static void release_all(struct es_reducer *r, bool merge) {
    for (int64_t b = 0; b < r->n_buckets; b++)
        if (r->bucket[b].level == FILLING) bucket_release(r, b, merge);
}

void es_reducer_poll(struct es_reducer *r) {
    if (r->n_flying > 0) progress(r, false);
}

/* ---- inside a rank: the binary counter */

static int merge(struct es_reducer *r, int left, int right) {
    if (left == EMPTY) return right;
    if (right == EMPTY) return left;
    add_into(r->vector[left], r->vector[right], r->n_buckets * r->bucket_elements);
    r->used[right] = false;
    return left;
}

/* The node of my next slot. Never the last leaf's: that one goes bucket by bucket. */
static void push(struct es_reducer *r, int node) {
    int level = 0, slot = r->n_pushed++;
    for (; slot >> level & 1; level++) {
        node = merge(r, r->pending[level], node);
        r->pending[level] = EMPTY;
    }
    ES_ASSERT(level < r->depth);
    r->pending[level] = node;
}

static int take_vector(struct es_reducer *r) {
    int i = 0;
    while (r->used[i]) i++;
    ES_ASSERT(i <= r->depth);
    r->used[i] = true;
    return i;
}

static bool any_leaf(const struct es_reducer *r, int first_rank, int n_ranks) {
    int n_bits = log2_up(r->n_slots), lo = first_rank * r->n_mine_max, hi = lo + n_ranks * r->n_mine_max;
    for (int slot = lo; slot < hi; slot++)
        if (bit_reverse(slot, n_bits) < r->n_active) return true;
    return false;
}

void es_reducer_begin(struct es_reducer *r, int n_active) {
    ES_ASSERT(!r->active && n_active >= 1 && n_active <= r->n_leaves);
    r->active = true;
    r->exposed_s = 0;
    r->sent_bytes = 0;
    r->n_active = n_active;
    r->n_mine = r->n_ended = r->n_pushed = 0;
    r->in_leaf = false;
    r->n_done = 0;
    r->current = 0;
    int n_bits = log2_up(r->n_slots);
    for (int i = 0; i < r->n_mine_max; i++) {
        int leaf = bit_reverse(r->rank * r->n_mine_max + i, n_bits);
        if (leaf < n_active) r->leaf[r->n_mine++] = leaf;
    }
    for (int k = 0; k < r->n_levels; k++) {
        int mine = r->rank >> k << k, other = mine ^ 1 << k;
        r->mine_empty[k] = !any_leaf(r, mine, 1 << k);
        r->other_empty[k] = !any_leaf(r, other, 1 << k);
    }
    for (int i = 0; i <= r->depth; i++) {
        r->pending[i] = EMPTY;
        r->used[i] = false;
    }
    for (int64_t b = 0; b < r->n_buckets; b++) r->bucket[b] = (struct bucket){.level = FILLING};
    if (r->n_mine == 0) release_all(r, false);
}

float *es_reducer_leaf_begin(struct es_reducer *r, int i) {
    ES_ASSERT(r->active && !r->in_leaf && i == r->n_ended && i < r->n_mine);
    int slot = es_reducer_slot_of_leaf(r->n_leaves, r->leaf[i]) - r->rank * r->n_mine_max;
    while (r->n_pushed < slot) push(r, EMPTY);
    r->in_leaf = true;
    r->current = take_vector(r);
    return r->vector[r->current];
}

void es_reducer_ready(struct es_reducer *r, int64_t offset, int64_t n) {
    ES_ASSERT(r->in_leaf && offset >= 0 && n >= 0 && n <= r->n_elements - offset);
    if (r->n_ended + 1 < r->n_mine) return;
    const int64_t size = r->bucket_elements;
    for (int64_t end = offset + n; offset < end;) {
        int64_t b = offset / size, at = offset % size, room = r->n_elements - b * size;
        int64_t in_bucket = room < size ? room : size,
                part = end - offset < size - at ? end - offset : size - at;
        struct bucket *k = &r->bucket[b];
        ES_ASSERT(k->level == FILLING);
        k->n_ready += part;
        k->index_sum += part * (2 * at + part - 1) / 2;
        if (k->n_ready >= in_bucket) {
            bool ranges_do_not_overlap =
                k->n_ready == in_bucket && k->index_sum == in_bucket * (in_bucket - 1) / 2;
            ES_ASSERT(ranges_do_not_overlap);
            bucket_release(r, b, true);
        }
        offset += part;
    }
}

void es_reducer_leaf_end(struct es_reducer *r, int i) {
    ES_ASSERT(r->in_leaf && i == r->n_ended);
    r->in_leaf = false;
    if (++r->n_ended < r->n_mine)
        push(r, r->current);
    else
        release_all(r, true);
}

void es_reducer_abandon(struct es_reducer *r) {
    ES_ASSERT(r->active);
    r->in_leaf = false;
    r->n_ended = r->n_mine;
    release_all(r, false);
}

int es_reducer_finish_all(struct es_reducer *r, struct es_err *err) {
    (void)err; /* a lost rank ends the job; kept so that a later MPI may do better */
    ES_ASSERT(r->active && r->n_ended == r->n_mine);
    double begin_s = es_now_s();
    while (r->n_done < r->n_buckets || r->n_gathering > 0) progress(r, true);
    r->active = false;
    r->exposed_s += es_now_s() - begin_s;
    return 0;
}

/* ---- after the sum */

int es_reducer_n_segments(const struct es_reducer *r) {
    return (int)r->n_buckets;
}

struct es_segment es_reducer_segment(struct es_reducer *r, int i) {
    ES_ASSERT(i >= 0 && i < r->n_buckets);
    struct es_segment s = part_of(r, i, r->rank, r->n_levels);
    s.sum = r->vector[r->current] + s.offset;
    return s;
}

void es_reducer_gather_begin(struct es_reducer *r, float *values) {
    ES_ASSERT(!r->active && r->n_gathering == 0);
    r->values = values;
    r->n_gathering = r->n_buckets;
    for (int64_t b = 0; b < r->n_buckets; b++) {
        r->flight[b] = (struct flight){.level = r->n_levels - 1};
        for (int k = 1; k <= r->n_levels; k++)
            r->sent_bytes += part_of(r, b, r->rank, k).n * (int64_t)sizeof(float);
    }
    r->n_begun = 0;
    gather_more(r);
}

void es_reducer_gather_wait(struct es_reducer *r, int64_t offset, int64_t n) {
    ES_ASSERT(offset >= 0 && n >= 0 && n <= r->n_elements - offset);
    if (r->n_gathering == 0) return;
    double begin_s = es_now_s();
    es_reducer_poll(r);
    for (int64_t b = offset / r->bucket_elements; b * r->bucket_elements < offset + n; b++)
        while (r->flight[b].level != EMPTY) progress(r, true);
    r->exposed_s += es_now_s() - begin_s;
}

bool es_reducer_gathering(const struct es_reducer *r) {
    return r->n_gathering > 0;
}

/* Eight chains, so that the sum is the same whether the compiler uses vectors or not. Squares of floats are
 * exact. */
static double block_norm2(const float *x, int64_t n) {
    double chain[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < n; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    return ((chain[0] + chain[1]) + (chain[2] + chain[3])) + ((chain[4] + chain[5]) + (chain[6] + chain[7]));
}

static double tree_sum(double *x, int n) {
    for (; n > 1; n /= 2)
        for (int i = 0; i < n / 2; i++) x[i] = x[2 * i] + x[2 * i + 1];
    return x[0];
}

double es_reducer_norm2_all(struct es_reducer *r) {
    ES_ASSERT(!r->active);
    const int64_t n_block = r->bucket_elements / N_BLOCKS, lo = segment_lo(r, r->rank, r->n_levels);
    const int n_mine = N_BLOCKS / r->size;
    for (int64_t b = 0; b < r->n_buckets; b++) {
        const float *x = at_bucket(r, r->current, b) + lo;
#pragma omp parallel for schedule(static) if (r->bucket_elements >= 1 << 18)
        for (int i = 0; i < n_mine; i++) r->block[i] = block_norm2(x + i * n_block, n_block);
        r->norm_mine[b] = tree_sum(r->block, n_mine);
    }
    es_comm_allgather_all(r->comm, r->norm_mine, (size_t)r->n_buckets * sizeof(double), r->norm_all);
    double sum = 0;
    for (int64_t b = 0; b < r->n_buckets; b++) {
        for (int rank = 0; rank < r->size; rank++) /* segments of ranks stand bit-reversed */
            r->block[bit_reverse(rank, r->n_levels)] = r->norm_all[rank * r->n_buckets + b];
        sum += tree_sum(r->block, r->size);
    }
    return sum;
}
