/* Shared by src/io/ckpt*.c only. */
#ifndef EARSHOT_CKPT_IMPL_H
#define EARSHOT_CKPT_IMPL_H

#include "earshot/ckpt.h"

#define CKPT_BATCH ((int64_t)1 << 22) /* elements of a moment moved at a time */

struct ckpt_piece {  /* where a parameter and a segment of this rank meet */
    int64_t file, n; /* elements file .. file+n-1 of /adam/m */
    int segment;
    int64_t at; /* in the segment */
};

struct ckpt_plan {
    int64_t n_pieces, n_batches, n_total;
    struct ckpt_piece *piece; /* in the order of the file */
    float *buffer;            /* of the largest batch */
};

struct ckpt_batch { /* a contiguous range of the file: from `piece` on, its first skip elements left out */
    int64_t piece, skip, file, n, next_piece, next_skip;
};

int ckpt_plan_new(const struct es_ckpt_state *s, struct ckpt_plan *plan, struct es_err *err);
void ckpt_plan_free(struct ckpt_plan *plan);
struct ckpt_batch ckpt_batch_at(const struct ckpt_plan *plan, int64_t piece, int64_t skip);
void ckpt_batch_copy(const struct es_ckpt_state *s, const struct ckpt_plan *plan, const struct ckpt_batch *b,
                     bool second, bool into_segments);

/* Sum over 4-byte words of a hash of (position, word), modulo 2^64: ranks can add up their parts of an array in any order. */
uint64_t ckpt_digest_words(const void *data, int64_t first, int64_t n);
uint64_t ckpt_digest_array(const struct es_ckpt_array *a);
int64_t ckpt_elements(const struct es_ckpt_array *a);
/* all: scratch, one value a rank. */
uint64_t ckpt_sum_all(const struct es_comm *comm, uint64_t mine, uint64_t *all);

/* A new file at path, all data sets without content; then, when all is on the disk, the digests (students', teachers', m's, v's),
 * complete = 1 and the final name. After an error close *f. */
int ckpt_describe_all(struct es_h5 **f, const struct es_comm *comm, const char *path,
                      const struct es_ckpt_state *s, const struct ckpt_plan *plan,
                      const struct es_ckpt_meta *meta, const char *config, struct es_err *err);
int ckpt_complete_all(struct es_h5 **f, const struct es_ckpt_state *s, const uint64_t *digest,
                      const char *keep, struct es_err *err);

#endif
