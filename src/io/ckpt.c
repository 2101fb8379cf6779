/* Checkpoints: writing. Loading is in ckpt_load.c. */
#include "earshot/ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/mem.h"

#include "ckpt_impl.h"

int64_t ckpt_elements(const struct es_ckpt_array *a) {
    int64_t n = 1;
    for (int i = 0; i < a->ndim; i++) n *= a->dim[i];
    return n;
}

uint64_t ckpt_digest_array(const struct es_ckpt_array *a) {
    size_t bytes = (size_t)ckpt_elements(a) * es_h5_type_bytes(a->type);
    uint64_t sum = ckpt_digest_words(a->data, 0, (int64_t)(bytes / 4));
    if (bytes % 4) sum += es_hash_bytes((const char *)a->data + bytes / 4 * 4, bytes % 4);
    return sum;
}

/* ---- the plan: pieces of this rank's segments in the order of the file, cut into batches that are contiguous there */

static int by_file(const void *a, const void *b) {
    const struct ckpt_piece *x = a, *y = b;
    return (x->file > y->file) - (x->file < y->file);
}

int ckpt_plan_new(const struct es_ckpt_state *s, struct ckpt_plan *plan, struct es_err *err) {
    *plan = (struct ckpt_plan){0};
    for (int pass = 0; pass < 2; pass++) {
        int64_t n = 0, file = 0;
        for (int p = 0; p < s->n_params; p++) {
            int64_t begin = s->param[p].grad_offset, end = begin + s->param[p].n;
            for (int g = 0; g < s->n_segments; g++) {
                int64_t from = s->segment[g].grad_offset, to = from + s->segment[g].n;
                int64_t lo = from > begin ? from : begin, hi = to < end ? to : end;
                if (lo >= hi) continue;
                if (pass) plan->piece[n] = (struct ckpt_piece){file + lo - begin, hi - lo, g, lo - from};
                n++;
            }
            file += s->param[p].n;
        }
        plan->n_pieces = n;
        plan->n_total = file;
        if (pass == 0 && !(plan->piece = es_alloc((size_t)n, sizeof *plan->piece, err))) return -ES_EIO;
    }
    qsort(plan->piece, (size_t)plan->n_pieces, sizeof *plan->piece, by_file);
    int64_t most = 0;
    for (int64_t piece = 0, skip = 0; piece < plan->n_pieces; plan->n_batches++) {
        struct ckpt_batch b = ckpt_batch_at(plan, piece, skip);
        if (b.n > most) most = b.n;
        piece = b.next_piece;
        skip = b.next_skip;
    }
    plan->buffer = es_alloc((size_t)most, sizeof *plan->buffer, err);
    return plan->buffer ? 0 : -ES_EIO;
}

struct ckpt_batch ckpt_batch_at(const struct ckpt_plan *plan, int64_t piece, int64_t skip) {
    struct ckpt_batch b = {piece, skip, plan->piece[piece].file + skip, 0, piece, skip};
    while (b.next_piece < plan->n_pieces && b.n < CKPT_BATCH) {
        const struct ckpt_piece *p = &plan->piece[b.next_piece];
        if (p->file + b.next_skip != b.file + b.n) break;
        int64_t now = p->n - b.next_skip, room = CKPT_BATCH - b.n;
        if (now > room) {
            b.next_skip += room;
            b.n += room;
            break;
        }
        b.n += now;
        b.next_piece++;
        b.next_skip = 0;
    }
    return b;
}

void ckpt_plan_free(struct ckpt_plan *plan) {
    es_free(&plan->buffer);
    es_free(&plan->piece);
}

/* Moves a batch between the segments and the buffer. */
void ckpt_batch_copy(const struct es_ckpt_state *s, const struct ckpt_plan *plan, const struct ckpt_batch *b,
                     bool second, bool into_segments) {
    int64_t done = 0, skip = b->skip;
    for (int64_t i = b->piece; done < b->n; i++, skip = 0) {
        const struct ckpt_piece *p = &plan->piece[i];
        int64_t now = p->n - skip < b->n - done ? p->n - skip : b->n - done;
        float *values = (second ? s->segment[p->segment].v : s->segment[p->segment].m) + p->at + skip;
        if (into_segments)
            memcpy(values, plan->buffer + done, (size_t)now * sizeof *values);
        else
            memcpy(plan->buffer + done, values, (size_t)now * sizeof *values);
        done += now;
    }
}

uint64_t ckpt_sum_all(const struct es_comm *comm, uint64_t mine, uint64_t *all) {
    uint64_t sum = 0;
    es_comm_allgather_all(comm, &mine, sizeof mine, all);
    for (int r = 0; r < es_comm_size(comm); r++) sum += all[r];
    return sum;
}

/* ---- writing */

static uint64_t moment_digest_all(const struct es_comm *comm, const struct es_ckpt_state *s,
                                  const struct ckpt_plan *plan, bool second, uint64_t *scratch) {
    uint64_t digest = 0;
    for (int64_t piece = 0, skip = 0; piece < plan->n_pieces;) {
        struct ckpt_batch b = ckpt_batch_at(plan, piece, skip);
        ckpt_batch_copy(s, plan, &b, second, false);
        digest += ckpt_digest_words(plan->buffer, b.file, b.n);
        piece = b.next_piece;
        skip = b.next_skip;
    }
    return ckpt_sum_all(comm, digest, scratch);
}

static void write_moment(struct es_h5 *f, const struct es_comm *comm, const struct es_ckpt_state *s,
                         const struct ckpt_plan *plan, bool second) {
    const char *name = second ? "/adam/v" : "/adam/m";
    int64_t rounds = es_comm_max_all(comm, plan->n_batches), piece = 0, skip = 0;
    for (int64_t i = 0; i < rounds; i++) {
        struct ckpt_batch b = {0};
        if (piece < plan->n_pieces) {
            b = ckpt_batch_at(plan, piece, skip);
            ckpt_batch_copy(s, plan, &b, second, false);
            piece = b.next_piece;
            skip = b.next_skip;
        }
        es_h5_write_rows_all(f, name, ES_H5_F32, b.file, b.n, plan->buffer);
    }
}

static void write_index(struct es_h5 *f, const struct es_ckpt_state *s, const char **name, int64_t *offset,
                        int64_t *count) {
    int64_t n = s->n_params, at = 0;
    for (int p = 0; p < s->n_params; p++) {
        name[p] = s->param[p].name;
        offset[p] = at;
        at += count[p] = s->param[p].n;
    }
    es_h5_put_strings_all(f, "/adam/index/name", n, name);
    es_h5_put_all(f, "/adam/index/offset", ES_H5_I64, 1, &n, offset);
    es_h5_put_all(f, "/adam/index/n", ES_H5_I64, 1, &n, count);
}

/* The ranks share the work of hashing the replicas. digest: size * n values of scratch; the first n come back. */
static void array_digests(const struct es_comm *comm, const struct es_ckpt_array *a, int n,
                          uint64_t *digest) {
    int rank = es_comm_rank(comm), size = es_comm_size(comm);
    uint64_t *mine = digest + (size_t)rank * (size_t)n;
    for (int i = 0; i < n; i++) mine[i] = i % size == rank ? ckpt_digest_array(&a[i]) : 0;
    es_comm_allgather_all(comm, mine, (size_t)n * sizeof *mine, digest);
    for (int i = 0; i < n; i++) digest[i] = digest[(size_t)(i % size) * (size_t)n + (size_t)i];
}

static void make_arrays(struct es_h5 *f, const char *group, const struct es_ckpt_array *a, int n) {
    char path[512];
    es_h5_group_all(f, group);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", group, a[i].name);
        es_h5_make_all(f, path, a[i].type, a[i].ndim, a[i].dim);
    }
}

static void put_digests(struct es_h5 *f, const char *group, const struct es_ckpt_array *a, int n,
                        const uint64_t *digest) {
    char path[512];
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", group, a[i].name);
        es_h5_attr_u64_all(f, path, "digest", digest[i]);
    }
}

static void put_all_digests(struct es_h5 *f, const struct es_ckpt_state *s, const uint64_t *digest) {
    put_digests(f, "/student", s->student, s->n_student, digest);
    put_digests(f, "/teacher", s->teacher, s->n_teacher, digest + s->n_student);
    es_h5_attr_u64_all(f, "/adam/m", "digest", digest[s->n_student + s->n_teacher]);
    es_h5_attr_u64_all(f, "/adam/v", "digest", digest[s->n_student + s->n_teacher + 1]);
}

/* Every rank holds all arrays: they take turns. */
static void write_arrays(struct es_h5 *f, const struct es_comm *comm, const char *group,
                         const struct es_ckpt_array *a, int n) {
    char path[512];
    for (int i = 0; i < n; i++) {
        bool mine = i % es_comm_size(comm) == es_comm_rank(comm);
        snprintf(path, sizeof path, "%s/%s", group, a[i].name);
        es_h5_write_rows_all(f, path, a[i].type, 0, !mine ? 0 : a[i].ndim ? a[i].dim[0] : 1, a[i].data);
    }
}

static void write_meta(struct es_h5 *f, const struct es_ckpt_meta *m) {
    es_h5_group_all(f, "/meta");
    es_h5_attr_i64_all(f, "/meta", "complete", 0);
    es_h5_attr_i64_all(f, "/meta", "step", m->step);
    es_h5_attr_i64_all(f, "/meta", "epoch", m->epoch);
    es_h5_attr_u64_all(f, "/meta", "seed", m->seed);
    es_h5_attr_u64_all(f, "/meta", "config_digest", m->config_digest);
    es_h5_attr_u64_all(f, "/meta", "store_digest", m->store_digest);
    es_h5_attr_u64_all(f, "/meta", "parameters_digest", m->parameters_digest);
    es_h5_attr_f64_all(f, "/meta", "best_metric", m->best_metric);
}

int ckpt_describe_all(struct es_h5 **out, const struct es_comm *comm, const char *path,
                      const struct es_ckpt_state *s, const struct ckpt_plan *plan,
                      const struct es_ckpt_meta *meta, const char *config, struct es_err *err) {
    const char **name = es_alloc((size_t)s->n_params, sizeof *name, err);
    int64_t *index = es_alloc(2 * (size_t)s->n_params, sizeof *index, err);
    int rc = name && index ? 0 : -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    int64_t covered = 0;
    for (int64_t i = 0; i < plan->n_pieces; i++) covered += plan->piece[i].n;
    ES_ASSERT(es_comm_sum_all(comm, covered) == plan->n_total); /* the segments hold every parameter once */
    ES_GO(es_h5_create_all(out, comm, path, "checkpoint", ES_CKPT_VERSION, err));
    write_meta(*out, meta);
    es_h5_put_text_all(*out, "/config", config);
    if (meta->n_classes > 0) es_h5_put_strings_all(*out, "/classes", meta->n_classes, meta->class_name);
    make_arrays(*out, "/student", s->student, s->n_student);
    make_arrays(*out, "/teacher", s->teacher, s->n_teacher);
    write_index(*out, s, name, index, index + s->n_params);
    es_h5_make_all(*out, "/adam/m", ES_H5_F32, 1, &plan->n_total);
    es_h5_make_all(*out, "/adam/v", ES_H5_F32, 1, &plan->n_total);
done:
    es_free(&index);
    es_free(&name);
    return rc;
}

int ckpt_complete_all(struct es_h5 **f, const struct es_ckpt_state *s, const uint64_t *digest,
                      const char *keep, struct es_err *err) {
    ES_TRY(es_h5_seal_all(*f, NULL, err)); /* every rank has written, the disk has it */
    put_all_digests(*f, s, digest);
    es_h5_attr_i64_all(*f, "/meta", "complete", 1);
    return es_h5_commit_all(f, keep, err);
}

int es_ckpt_save_all(const struct es_comm *comm, const char *path, const char *keep,
                     const struct es_ckpt_state *s, const struct es_ckpt_meta *meta, const char *config,
                     struct es_err *err) {
    struct es_h5 *f = NULL;
    struct ckpt_plan plan = {0};
    struct es_err own = {0};
    if (!err) err = &own;
    int n_arrays = s->n_student + s->n_teacher;
    size_t n = (size_t)n_arrays + 2;
    uint64_t *digest = es_alloc(n, sizeof *digest, err);
    uint64_t *scratch = es_alloc(n * (size_t)es_comm_size(comm), sizeof *scratch, err);
    int rc = ckpt_plan_new(s, &plan, err);
    if (!digest || !scratch) rc = -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    ES_GO(ckpt_describe_all(&f, comm, path, s, &plan, meta, config, err));
    ES_GO(es_h5_share_all(f, err));
    write_arrays(f, comm, "/student", s->student, s->n_student);
    write_arrays(f, comm, "/teacher", s->teacher, s->n_teacher);
    write_moment(f, comm, s, &plan, false);
    write_moment(f, comm, s, &plan, true);
    es_h5_start_sync(f); /* the disk writes while the ranks digest */
    array_digests(comm, s->student, s->n_student, scratch);
    memcpy(digest, scratch, (size_t)s->n_student * sizeof *digest);
    array_digests(comm, s->teacher, s->n_teacher, scratch);
    memcpy(digest + s->n_student, scratch, (size_t)s->n_teacher * sizeof *digest);
    for (int second = 0; second < 2; second++)
        digest[n_arrays + second] = moment_digest_all(comm, s, &plan, second, scratch);
    es_fault_here("checkpoint");
    rc = ckpt_complete_all(&f, s, digest, keep, err);
done:
    es_h5_close_all(&f);
    ckpt_plan_free(&plan);
    es_free(&scratch);
    es_free(&digest);
    return rc;
}

int es_ckpt_digest_all(const struct es_comm *comm, const char *path, uint64_t *digest, struct es_err *err) {
    static const char *const groups[] = {"student", "teacher", "adam"};
    struct es_ckpt_meta meta;
    struct es_err own = {0};
    uint64_t part[2];
    if (!err) err = &own;
    int rc = es_ckpt_read_meta(path, &meta, NULL, err);
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc < 0) return rc;
    part[0] = (uint64_t)meta.step;
    ES_TRY(es_h5_digest_groups_all(comm, path, groups, 3, &part[1], err));
    *digest = es_hash_bytes(part, sizeof part);
    return 0;
}
