/* RANKS 1 2 4 8
 * TIMEOUT 120
 * The reducer's sums equal, bit for bit, a serial tree that every rank computes alone from all leaves: any
 * number of leaves, short windows, awkward lengths, any order of ready ranges, -0.0 and denormal numbers.
 * ES_TEST_SEED changes the values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/mem.h"
#include "earshot/reduce_bench.h"
#include "earshot/reducer.h"
#include "earshot/rng.h"

#define MAX_N 100003
#define MAX_SLOTS 64
#define MAX_DEPTH 7
#define N_BLOCKS 1024

struct buffers {
    uint64_t seed;
    float *tree[MAX_DEPTH + 1]; /* [MAX_N] each; the sum ends up in tree[0] */
    float *values;              /* [MAX_N] */
    double *blocks;             /* [N_BLOCKS] */
};

/* ---- the definition, serially */

/* Gradient element i of a leaf: 24 random bits at a random scale, some denormal; -0.0 in all leaves at once
 * now and then; and a gap between parameters, which no leaf ever writes. */
static bool in_gap(int64_t n, int64_t i) {
    return n > 10 && i >= n / 3 && i < n / 3 + 2;
}

static float element(uint64_t seed, int64_t n, int leaf, int64_t i) {
    uint64_t h = (seed + (uint64_t)i * 0x9E3779B97F4A7C15u) ^ ((uint64_t)(leaf + 1) * 0xC2B2AE3D27D4EB4Fu);
    h = (h ^ (h >> 31)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 29)) * 0x94D049BB133111EBu;
    h ^= h >> 32;
    if (in_gap(n, i)) return 0.0f;
    if (i % 11 == 5) return -0.0f;
    int exponent = i % 13 == 7 ? -148 + (int)(h >> 40 & 15) : (int)(h >> 40 & 15) - 12;
    return ldexpf((float)(int32_t)((uint32_t)h & 0xffffff) - 0x800000, exponent - (i % 13 == 7 ? 0 : 24));
}

static int reversed(int v, int n_slots) {
    int out = 0;
    for (int bit = 1; bit < n_slots; bit *= 2, v /= 2) out = 2 * out + v % 2;
    return out;
}

/* Sum of slots first..first+2^depth-1 of n_slots into out, deeper buffers as scratch; false: an empty node.
 */
static bool tree(struct buffers *b, int64_t n, int n_slots, int n_active, int first, int n_below, int level) {
    float *out = b->tree[level];
    if (n_below == 1) {
        int leaf = reversed(first, n_slots);
        for (int64_t i = 0; i < n && leaf < n_active; i++) out[i] = element(b->seed, n, leaf, i);
        return leaf < n_active;
    }
    bool right = tree(b, n, n_slots, n_active, first + n_below / 2, n_below / 2, level + 1);
    if (right) memcpy(out, b->tree[level + 1], (size_t)n * sizeof(float));
    bool left = tree(b, n, n_slots, n_active, first, n_below / 2, level + 1);
    for (int64_t i = 0; i < n && left; i++)
        out[i] = right ? b->tree[level + 1][i] + out[i] : b->tree[level + 1][i];
    return left || right;
}

static int slots_of(int n_leaves) {
    int n = 1;
    while (n < n_leaves) n *= 2;
    return n;
}

static double reference_norm2(struct buffers *b, int64_t n, int64_t bucket) {
    double sum = 0;
    int64_t n_block = bucket / N_BLOCKS;
    for (int64_t at = 0; at < n; at += bucket) {
        for (int64_t i = 0; i < N_BLOCKS; i++) {
            double chain[8] = {0};
            for (int64_t j = 0; j < n_block && at + i * n_block + j < n; j++) {
                double x = (double)b->tree[0][at + i * n_block + j];
                chain[j % 8] += x * x;
            }
            b->blocks[i] = ((chain[0] + chain[1]) + (chain[2] + chain[3])) +
                           ((chain[4] + chain[5]) + (chain[6] + chain[7]));
        }
        for (int step = 1; step < N_BLOCKS; step *= 2)
            for (int i = 0; i < N_BLOCKS; i += 2 * step) b->blocks[i] += b->blocks[i + step];
        sum += b->blocks[0];
    }
    return sum;
}

/* ---- one step of the reducer */

/* Writes a leaf's gradient in pieces of any length, in any order, telling of most of them. */
static void backward(struct buffers *b, struct es_reducer *r, float *g, int64_t n, int leaf,
                     struct es_rng *rng) {
    int64_t order[16], piece = (n + 15) / 16;
    es_rng_permutation(rng, 16, order);
    for (int j = 0; j < 16; j++) {
        int64_t lo = order[j] * piece, hi = lo + piece < n ? lo + piece : n;
        if (lo >= hi) continue;
        int64_t mid = lo + (int64_t)es_rng_below(rng, (uint64_t)(hi - lo));
        for (int64_t i = lo; i < hi; i++)
            if (!in_gap(n, i)) g[i] = element(b->seed, n, leaf, i);
        if (es_rng_below(rng, 10) == 0) continue; /* leaf_end will do */
        es_reducer_ready(r, mid, hi - mid);
        es_reducer_poll(r);
        es_reducer_ready(r, lo, mid - lo);
        es_reducer_poll(r);
    }
}

static void step(struct buffers *b, struct es_reducer *r, int rank, int64_t n, int n_active,
                 uint32_t i_step) {
    struct es_rng rng = es_rng_make(b->seed, ES_RNG_SHUFFLE, i_step, (uint32_t)rank, 0);
    es_reducer_begin(r, n_active);
    for (int i = 0; i < es_reducer_n_mine(r); i++) {
        es_reducer_poll(r);
        backward(b, r, es_reducer_leaf_begin(r, i), n, es_reducer_leaf(r, i), &rng);
        es_reducer_leaf_end(r, i);
    }
    ES_ASSERT(es_reducer_finish_all(r, NULL) == 0);
}

static void gather(struct es_reducer *r, float *values, int64_t n) {
    es_reducer_gather_begin(r, values);
    es_reducer_gather_wait(r, 0, n);
    ES_ASSERT(!es_reducer_gathering(r));
}

/* Sums, norm and gathered values against tree[0]. */
static void compare(struct buffers *b, const struct es_comm *c, struct es_reducer *r, int64_t n,
                    int64_t bucket) {
    int64_t covered = 0, previous = -1;
    for (int64_t i = 0; i < n; i++) b->values[i] = -1e30f;
    for (int i = 0; i < es_reducer_n_segments(r); i++) {
        struct es_segment s = es_reducer_segment(r, i);
        ES_ASSERT(s.n >= 0 && s.offset >= 0 && s.offset + s.n <= n && (s.n == 0 || s.offset > previous));
        bool sums_have_the_bits_of_the_tree =
            memcmp(s.sum, b->tree[0] + s.offset, (size_t)s.n * sizeof(float)) == 0;
        ES_ASSERT(sums_have_the_bits_of_the_tree);
        memcpy(b->values + s.offset, s.sum, (size_t)s.n * sizeof(float));
        covered += s.n;
        previous = s.offset;
    }
    ES_ASSERT(es_comm_sum_all(c, covered) == n);
    double norm2 = es_reducer_norm2_all(r), want = reference_norm2(b, n, bucket), plain = 0;
    for (int64_t i = 0; i < n; i++) plain += (double)b->tree[0][i] * (double)b->tree[0][i];
    ES_ASSERT(memcmp(&norm2, &want, sizeof want) == 0 && fabs(norm2 - plain) <= 1e-13 * plain);
    gather(r, b->values, n);
    ES_ASSERT(es_reducer_exposed_s(r) >= 0);
    bool gather_restores_the_vector = memcmp(b->values, b->tree[0], (size_t)n * sizeof(float)) == 0;
    ES_ASSERT(gather_restores_the_vector);
}

/* n_given: what the reducer is told instead of n_leaves, for more ranks than leaves. */
static void check_sums(struct buffers *b, const struct es_comm *c, int n_leaves, int n_given, int64_t n,
                       int64_t bucket, int window_stride) {
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    ES_ASSERT(es_reducer_new_all(&r, c, n, n_given, bucket, &err) == 0);
    int64_t allocations = es_mem_allocations();
    uint32_t i_step = 0;
    for (int n_active = n_leaves; n_active >= 1; n_active -= window_stride) {
        ES_ASSERT(tree(b, n, slots_of(n_leaves), n_active, 0, slots_of(n_leaves), 0));
        step(b, r, es_comm_rank(c), n, n_active, i_step++);
        compare(b, c, r, n, bucket);
    }
    ES_ASSERT(es_mem_allocations() == allocations);
    es_reducer_free_all(&r);
}

static const int leaves[] = {1, 2, 3, 5, 8, 12, 32, 36};

static void sums_equal_the_tree(struct buffers *b, const struct es_comm *c) {
    static const struct {
        int64_t n, bucket;
    } sizes[] = {{1, 1024}, {7, 1024}, {1000, 1024}, {5000, 1024}, {MAX_N, 7168}};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            bool large = sizes[j].n > 10000;
            if (es_comm_size(c) > slots_of(leaves[i])) continue;
            check_sums(b, c, leaves[i], leaves[i], sizes[j].n, sizes[j].bucket,
                       large            ? (leaves[i] + 1) / 2
                       : leaves[i] > 12 ? 5
                                        : 1);
        }
    for (int n_leaves = 1; n_leaves <= 3; n_leaves++) /* stage 1: one leaf, several ranks */
        if (es_comm_size(c) > n_leaves) check_sums(b, c, n_leaves, es_comm_size(c), 5000, 2048, 1);
}

/* The test would notice another tree: the farthest partner first, and the halves of one node swapped with its
 * neighbour's. */
static void another_tree_differs(struct buffers *b) {
    const int64_t n = 5000;
    const int n_leaves = 8;
    int differs = 0;
    tree(b, n, n_leaves, n_leaves, 0, n_leaves, 0);
    for (int64_t i = 0; i < n; i++) {
        float s[8];
        for (int slot = 0; slot < n_leaves; slot++)
            s[slot] = element(b->seed, n, reversed(slot, n_leaves), i);
        float node[4] = {s[0] + s[1], s[2] + s[3], s[4] + s[5], s[6] + s[7]}; /* 4 ranks of 2 slots */
        float far = (node[0] + node[2]) + (node[1] + node[3]);
        differs += memcmp(&far, &b->tree[0][i], sizeof far) != 0;
    }
    ES_ASSERT(differs > n / 10);
}

/* The bucket that the reducer chooses follows from n alone: the same bits of the norm on 1, 2, 4, .. ranks.
 */
static void norm_is_the_same_on_any_ranks(struct buffers *b, const struct es_comm *c) {
    const int64_t n = MAX_N;
    struct es_err err = {0};
    double first = 0;
    for (int size = 1; size <= es_comm_size(c); size *= 2) {
        struct es_comm *part = NULL;
        struct es_reducer *r = NULL;
        ES_ASSERT(es_comm_split_all(&part, c, es_comm_rank(c) / size, &err) == 0);
        ES_ASSERT(es_reducer_new_all(&r, part, n, 12, 0, &err) == 0);
        step(b, r, es_comm_rank(part), n, 12, 1);
        double norm2 = es_reducer_norm2_all(r);
        if (size == 1) first = norm2;
        ES_ASSERT(norm2 > 0 && memcmp(&norm2, &first, sizeof first) == 0);
        es_reducer_free_all(&r);
        es_comm_free_all(&part);
    }
}

static void every_leaf_has_one_rank(const struct es_comm *c) {
    int rank = es_comm_rank(c), size = es_comm_size(c);
    struct es_err err = {0};
    for (size_t k = 0; k < sizeof leaves / sizeof *leaves; k++) {
        int n_leaves = leaves[k], n_slots = slots_of(n_leaves);
        if (size > n_slots) continue;
        struct es_reducer *r = NULL;
        ES_ASSERT(es_reducer_new_all(&r, c, 10, n_leaves, 0, &err) == 0 && es_reducer_n_slots(r) == n_slots);
        for (int n_active = 1; n_active <= n_leaves; n_active++) {
            int owned[MAX_SLOTS] = {0}, last_slot = -1;
            es_reducer_begin(r, n_active);
            for (int i = 0; i < es_reducer_n_mine(r); i++) {
                int leaf = es_reducer_leaf(r, i), slot = es_reducer_slot_of_leaf(n_leaves, leaf);
                ES_ASSERT(leaf < n_active && slot == reversed(leaf, n_slots) && slot > last_slot);
                ES_ASSERT(slot / (n_slots / size) == rank &&
                          es_reducer_rank_of_leaf(n_leaves, size, leaf) == rank);
                owned[leaf]++;
                last_slot = slot;
                es_reducer_leaf_begin(r, i);
                es_reducer_leaf_end(r, i);
            }
            es_reducer_finish_all(r, NULL);
            for (int leaf = 0; leaf < n_active; leaf++) ES_ASSERT(es_comm_sum_all(c, owned[leaf]) == 1);
            if (n_leaves >= size && n_active == n_leaves) { /* spread evenly */
                int64_t most = es_comm_max_all(c, es_reducer_n_mine(r)),
                        least = es_comm_min_all(c, es_reducer_n_mine(r));
                ES_ASSERT(most - least <= 1 && least >= 1);
            }
        }
        es_reducer_free_all(&r);
    }
}

/* Gathered values arrive while the next step goes on, ranges waited for in another order on every rank, or not at all; on ranks
 * without a leaf, too. The last gather is under way when the reducer is freed. */
static void values_travel_through_the_next_step(struct buffers *b, const struct es_comm *c, int n_active) {
    const int64_t n = 5000;
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    ES_ASSERT(es_reducer_new_all(&r, c, n, 16, 1024, &err) == 0);
    ES_ASSERT(tree(b, n, 16, n_active, 0, 16, 0));
    for (int i_step = 0; i_step < 6; i_step++) {
        struct es_rng rng =
            es_rng_make(b->seed, ES_RNG_SHUFFLE, (uint32_t)i_step, (uint32_t)es_comm_rank(c), 1);
        es_reducer_begin(r, n_active);
        for (int i = 0; i < es_reducer_n_mine(r); i++) {
            for (int k = 0; k < 5 && i_step % 3 > 0; k++) {
                int64_t lo = (int64_t)es_rng_below(&rng, (uint64_t)n),
                        part = 1 + (int64_t)es_rng_below(&rng, (uint64_t)(n - lo));
                es_reducer_gather_wait(r, lo, part);
                ES_ASSERT(memcmp(b->values + lo, b->tree[0] + lo, (size_t)part * sizeof(float)) == 0);
            }
            backward(b, r, es_reducer_leaf_begin(r, i), n, es_reducer_leaf(r, i), &rng);
            es_reducer_leaf_end(r, i);
        }
        ES_ASSERT(es_reducer_finish_all(r, NULL) == 0 && !es_reducer_gathering(r));
        ES_ASSERT(i_step == 0 || memcmp(b->values, b->tree[0], (size_t)n * sizeof(float)) == 0);
        for (int64_t i = 0; i < n; i++) b->values[i] = -1e30f;
        for (int i = 0; i < es_reducer_n_segments(r); i++) {
            struct es_segment s = es_reducer_segment(r, i);
            memcpy(b->values + s.offset, s.sum, (size_t)s.n * sizeof(float));
        }
        es_reducer_gather_begin(r, b->values);
    }
    es_reducer_free_all(&r);
    ES_ASSERT(memcmp(b->values, b->tree[0], (size_t)n * sizeof(float)) == 0);
}

/* A rank gives up in the middle of its leaves: nobody hangs, and the next step is right again. All ranks
 * leave in mid-step. */
static void a_rank_gives_up(struct buffers *b, const struct es_comm *c) {
    const int64_t n = 5000, bucket = 1024;
    const int n_leaves = 16;
    int rank = es_comm_rank(c), size = es_comm_size(c);
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    ES_ASSERT(es_reducer_new_all(&r, c, n, n_leaves, bucket, &err) == 0);
    tree(b, n, n_leaves, n_leaves, 0, n_leaves, 0);
    for (int n_good = 0; n_good <= n_leaves / size; n_good++)
        for (int in_leaf = 0; in_leaf < 3; in_leaf++) {
            bool fails = rank == size - 1;
            es_reducer_begin(r, n_leaves);
            for (int i = 0; i < es_reducer_n_mine(r); i++) {
                if (fails && i >= n_good && in_leaf == 0) break;
                float *g = es_reducer_leaf_begin(r, i);
                for (int64_t j = 0; j < n; j++)
                    if (!in_gap(n, j)) g[j] = fails ? NAN : element(b->seed, n, es_reducer_leaf(r, i), j);
                if (in_leaf == 2) es_reducer_ready(r, 0, n / 2);
                if (fails && i >= n_good) break;
                es_reducer_leaf_end(r, i);
            }
            if (fails) es_reducer_abandon(r);
            es_reducer_finish_all(r, NULL);
            gather(r, b->values, n);
            step(b, r, rank, n, n_leaves, 9);
            compare(b, c, r, n, bucket);
        }
    es_reducer_begin(r, n_leaves);
    if (rank == 0) es_reducer_leaf_begin(r, 0);
    es_reducer_free_all(&r);
}

static void bad_arguments(const struct es_comm *c) {
    static const struct {
        int64_t n, bucket;
        int n_leaves;
    } bad[] = {{0, 0, 8},
               {10, 0, 0},
               {10, 1000, 8},
               {10, -1024, 8},
               {10, (int64_t)1 << 23, 8},
               {(int64_t)1 << 40, 1024, 8}};
    int size = es_comm_size(c);
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ES_ASSERT(es_reducer_new_all(&r, c, bad[i].n, bad[i].n_leaves, bad[i].bucket, &err) == -ES_EUSAGE &&
                  !r && err.msg[0]);
    static const struct {
        int n_leaves, most;
        const char *list;
    } ranks[] = {{1, 1, "up to 1 for 1 leaves a step; run with 1"},
                 {3, 4, "up to 4 for 3 leaves a step; run with 1, 2 or 4"},
                 {12, 16, "up to 16 for 12 leaves a step; run with 1, 2, 4, 8 or 16"}};
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
        bool fits = (size & (size - 1)) == 0 && size <= ranks[i].most;
        int rc = es_reducer_new_all(&r, c, 10, ranks[i].n_leaves, 0, &err);
        ES_ASSERT(fits ? rc == 0 : rc == -ES_EUSAGE && !r && strstr(err.msg, ranks[i].list));
        char got[32];
        snprintf(got, sizeof got, "got %d,", size);
        ES_ASSERT(fits || strstr(err.msg, got));
        es_reducer_free_all(&r);
    }
}

static void faults(const struct es_comm *c) {
    int rank = es_comm_rank(c), rc = -1;
    int64_t before = es_mem_live_blocks();
    struct es_reducer *r = NULL;
    struct es_err err = {0};
    for (int n = 1; rc < 0; n++) {
        char spec[64];
        snprintf(spec, sizeof spec, "malloc:%d@rank%d", n, es_comm_size(c) - 1);
        es_fault_init(spec, rank);
        rc = es_reducer_new_all(&r, c, 5000, 16, 0, &err);
        es_fault_init(NULL, rank);
        ES_ASSERT(es_comm_min_all(c, rc) == es_comm_max_all(c, rc) && n < 40);
        ES_ASSERT(rc == 0 || (rc == -ES_EIO && !r && es_mem_live_blocks() == before &&
                              strstr(err.msg, "out of memory")));
        ES_ASSERT(rc < 0 || n > 10);
    }
    ES_ASSERT(es_reducer_bytes(r) > 5000 * 4 && es_reducer_bytes(r) <= es_mem_live_bytes());
    es_reducer_free_all(&r);
    ES_ASSERT(es_mem_live_blocks() == before);
}

static void benchmarks_give_right_sums(const struct es_comm *c) {
    struct es_err err = {0};
    for (int i = 0; es_reducer_bench_algorithm(i); i++) {
        double seconds = -1;
        ES_ASSERT(es_reducer_bench_all(c, 400001, es_reducer_bench_algorithm(i), 3, &seconds, &err) == 0);
        ES_ASSERT(seconds > 0 && seconds < 60);
    }
    double seconds = 0;
    ES_ASSERT(es_reducer_bench_all(c, 100, "quantum", 1, &seconds, &err) == -ES_EUSAGE &&
              strstr(err.msg, "quantum"));
    ES_ASSERT(es_reducer_bench_all(c, 0, "earshot", 1, &seconds, &err) == -ES_EUSAGE);
}

int main(int argc, char **argv) {
    struct es_comm *c = NULL, *part = NULL;
    struct es_err err = {0};
    struct buffers b = {.seed = 20240612};
    if (es_comm_init_all(&c, &argc, &argv, &err) < 0) return err.code;
    if (getenv("ES_TEST_SEED")) b.seed = strtoull(getenv("ES_TEST_SEED"), NULL, 10);
    if (es_comm_rank(c) == 0) printf("ES_TEST_SEED=%llu\n", (unsigned long long)b.seed);
    for (int i = 0; i <= MAX_DEPTH; i++) ES_ASSERT((b.tree[i] = es_alloc(MAX_N, sizeof(float), &err)));
    ES_ASSERT((b.values = es_alloc(MAX_N, sizeof(float), &err)) &&
              (b.blocks = es_alloc(N_BLOCKS, sizeof(double), &err)));

    another_tree_differs(&b);
    every_leaf_has_one_rank(c);
    sums_equal_the_tree(&b, c);
    norm_is_the_same_on_any_ranks(&b, c);
    values_travel_through_the_next_step(&b, c, 16);
    values_travel_through_the_next_step(&b, c, 1);
    a_rank_gives_up(&b, c);
    bad_arguments(c);
    faults(c);
    benchmarks_give_right_sums(c);
    if (es_comm_size(c) == 8) { /* 3 and 5 ranks */
        ES_ASSERT(es_comm_split_all(&part, c, es_comm_rank(c) < 3, &err) == 0);
        bad_arguments(part);
        es_comm_free_all(&part);
    }

    es_free(&b.blocks);
    es_free(&b.values);
    for (int i = 0; i <= MAX_DEPTH; i++) es_free(&b.tree[i]);
    es_comm_fini_all(&c);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
