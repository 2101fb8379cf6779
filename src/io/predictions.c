/* Predictions: the write side. */
#include "earshot/predictions.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "earshot/fault.h"
#include "earshot/h5.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"

#define FLUSH_S 5.0 /* work that a crash may cost */

struct es_predictions_writer {
    struct es_h5 *h5;
    const struct es_comm *comm;
    int64_t n_clips, n_blocks, n_done;
    int n_frames, n_classes, block_clips;
    uint8_t *done; /* [n_blocks], the same on all ranks; ahead of the file by what is not flushed */
    int64_t *gathered;
    double flushed_s;
};

static void writer_free(struct es_predictions_writer **w) {
    if (!*w) return;
    es_h5_close_all(&(*w)->h5);
    es_free(&(*w)->gathered);
    es_free(&(*w)->done);
    es_free(w);
}

static void describe(struct es_predictions_writer *w, const struct es_predictions_desc *d) {
    struct es_h5 *f = w->h5;
    int64_t dim[3] = {d->n_clips, d->n_frames, d->n_classes};
    es_h5_attr_u64_all(f, "/", "model_digest", d->model_digest);
    es_h5_attr_u64_all(f, "/", "store_digest", d->store_digest);
    es_h5_attr_u64_all(f, "/", "config_digest", d->config_digest);
    es_h5_attr_text_all(f, "/", "which", d->which);
    es_h5_attr_i64_all(f, "/", "block_clips", d->block_clips);
    es_h5_put_strings_all(f, "/filenames", d->n_clips, d->names);
    es_h5_put_strings_all(f, "/classes", d->n_classes, d->classes);
    es_h5_make_all(f, "/strong_logits", ES_H5_F32, 3, dim);
    es_h5_put_all(f, "/done", ES_H5_U8, 1, &w->n_blocks, w->done);
}

static bool same_strings(const struct es_h5 *f, const char *name, int64_t n, const char *const *want) {
    struct es_h5_names have;
    if (es_h5_read_strings(f, name, &have, NULL) < 0) return false;
    bool same = have.n == n;
    for (int64_t i = 0; same && i < n; i++) same = strcmp(have.name[i], want[i]) == 0;
    es_h5_names_free(&have);
    return same;
}

static bool same_u64(const struct es_h5 *f, const char *name, uint64_t want) {
    uint64_t got;
    return es_h5_attr_get_u64(f, "/", name, &got, NULL) == 0 && got == want;
}

/* Is the part file what d describes? Then its marks are read. Called by one rank, on a file opened for reading. */
static bool continues(struct es_predictions_writer *w, const char *part,
                      const struct es_predictions_desc *d) {
    struct es_h5 *f = NULL;
    struct es_h5_info info;
    char which[32];
    bool same =
        es_h5_open(&f, part, "predictions", ES_PREDICTIONS_VERSION, NULL) == 0 &&
        same_u64(f, "model_digest", d->model_digest) && same_u64(f, "store_digest", d->store_digest) &&
        same_u64(f, "config_digest", d->config_digest) &&
        same_u64(f, "block_clips", (uint64_t)d->block_clips) &&
        es_h5_attr_get_text(f, "/", "which", which, sizeof which, NULL) == 0 &&
        strcmp(which, d->which) == 0 && same_strings(f, "/filenames", d->n_clips, d->names) &&
        same_strings(f, "/classes", d->n_classes, d->classes) &&
        es_h5_info(f, "/strong_logits", &info, NULL) == 0 && info.type == ES_H5_F32 && info.ndim == 3 &&
        info.dim[0] == d->n_clips && info.dim[1] == d->n_frames && info.dim[2] == d->n_classes &&
        es_h5_read(f, "/done", ES_H5_U8, w->n_blocks, w->done, NULL) == 0;
    es_h5_close(&f);
    return same;
}

int es_predictions_begin_all(struct es_predictions_writer **out, const struct es_comm *comm, const char *path,
                             const struct es_predictions_desc *d, struct es_err *err) {
    char part[PATH_MAX];
    struct es_err own = {0};
    int64_t resume = 0;
    int rc = 0;
    if (!err) err = &own;
    ES_ASSERT(d->block_clips > 0);
    struct es_predictions_writer *w = *out = es_alloc(1, sizeof *w, err);
    if (w) {
        *w = (struct es_predictions_writer){.comm = comm,
                                            .n_clips = d->n_clips,
                                            .n_frames = d->n_frames,
                                            .n_classes = d->n_classes,
                                            .block_clips = d->block_clips,
                                            .n_blocks = (d->n_clips + d->block_clips - 1) / d->block_clips};
        w->done = es_alloc((size_t)w->n_blocks, 1, err);
        w->gathered = es_alloc((size_t)es_comm_size(comm), sizeof *w->gathered, err);
    }
    if (!w || !w->done || !w->gathered) rc = -ES_EIO;
    ES_GO(es_err_agree_all(comm, rc, err));
    snprintf(part, sizeof part, "%s.part", path);
    if (es_comm_rank(comm) == 0 && access(part, F_OK) == 0) {
        resume = continues(w, part, d);
        if (!resume) {
            es_log(ES_LOG_WARN, "%s: damaged or of other predictions: starting anew", part);
            memset(w->done, 0, (size_t)w->n_blocks);
        }
    }
    es_comm_bcast_all(comm, &resume, sizeof resume, 0);
    if (resume) {
        es_comm_bcast_all(comm, w->done, (size_t)w->n_blocks, 0);
        ES_GO(es_h5_resume_part_all(&w->h5, comm, path, err));
    } else {
        ES_GO(es_h5_create_part_all(&w->h5, comm, path, "predictions", ES_PREDICTIONS_VERSION, err));
        describe(w, d);
        ES_GO(es_h5_share_all(w->h5, err)); /* from now on only raw data change: a kill leaves a sound file */
    }
    for (int64_t b = 0; b < w->n_blocks; b++) w->n_done += w->done[b] != 0;
    if (w->n_done)
        es_log(ES_LOG_INFO, "%s: continued, %lld of %lld blocks are there", part, (long long)w->n_done,
               (long long)w->n_blocks);
    w->flushed_s = es_now_s();
done:
    if (rc < 0) writer_free(out);
    return rc;
}

int64_t es_predictions_n_blocks(const struct es_predictions_writer *w) {
    return w->n_blocks;
}
int64_t es_predictions_n_done(const struct es_predictions_writer *w) {
    return w->n_done;
}
bool es_predictions_done(const struct es_predictions_writer *w, int64_t block) {
    return w->done[block] != 0;
}

/* First the logits reach the disk, then the marks. */
static int mark_done_all(struct es_predictions_writer *w, struct es_err *err) {
    ES_TRY(es_h5_flush_all(w->h5, err));
    es_h5_write_rows_all(w->h5, "/done", ES_H5_U8, 0, es_comm_rank(w->comm) == 0 ? w->n_blocks : 0, w->done);
    w->flushed_s = es_now_s();
    return es_h5_flush_all(w->h5, err);
}

int es_predictions_write_all(struct es_predictions_writer **out, int64_t block, const float *logits,
                             struct es_err *err) {
    struct es_predictions_writer *w = *out;
    int64_t row0 = 0, n = 0;
    int rc = 0;
    if (block >= 0) {
        ES_ASSERT(block < w->n_blocks && !w->done[block]);
        row0 = block * w->block_clips;
        n = w->n_clips - row0 < w->block_clips ? w->n_clips - row0 : w->block_clips;
    }
    es_h5_write_rows_all(w->h5, "/strong_logits", ES_H5_F32, row0, n, logits);
    es_fault_here("predictions");
    ES_GO(es_h5_status_all(w->h5, err));
    es_comm_allgather_all(w->comm, &block, sizeof block, w->gathered);
    for (int r = 0; r < es_comm_size(w->comm); r++)
        if (w->gathered[r] >= 0) {
            ES_ASSERT(!w->done[w->gathered[r]]);
            w->done[w->gathered[r]] = 1;
            w->n_done++;
        }
    if (es_comm_max_all(w->comm, es_now_s() - w->flushed_s > FLUSH_S)) ES_GO(mark_done_all(w, err));
done:
    if (rc < 0) writer_free(out);
    return rc;
}

int es_predictions_finish_all(struct es_predictions_writer **out, struct es_err *err) {
    struct es_predictions_writer *w = *out;
    int rc;
    ES_ASSERT(w->n_done == w->n_blocks);
    ES_GO(mark_done_all(w, err));
    rc = es_h5_commit_all(&w->h5, NULL, err);
done:
    writer_free(out);
    return rc;
}

void es_predictions_close_all(struct es_predictions_writer **w) {
    if (*w) mark_done_all(*w, NULL);
    writer_free(w);
}
