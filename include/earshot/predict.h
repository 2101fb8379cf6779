/* Logits of the clips of a store, in fixed blocks shared by the ranks: block b (clips b*block .. of the list) belongs to rank
 * b mod P. The result does not depend on the number of ranks.
 */
#ifndef EARSHOT_PREDICT_H
#define EARSHOT_PREDICT_H

#include "earshot/comm.h"
#include "earshot/forward.h"
#include "earshot/store.h"

/* The first 10 s of a clip as float, silence behind. wave [ES_CLIP_SAMPLES] out, pcm [ES_CLIP_SAMPLES] scratch. */
int es_predict_read(const struct es_store *s, int64_t clip, float *wave, int16_t *pcm, struct es_err *err);

/* Clips of a store: all, or those of a subset (-1: any) and split (-1: any). *ids is new. */
int es_predict_list(const struct es_store *s, int subset, int split, int64_t **ids, int64_t *n,
                    struct es_err *err);

/* logits [n,T,K] out on every rank, attention likewise or NULL (es_forward_run). Collective; errors agreed. */
int es_predict_clips_all(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                         const int64_t *ids, int64_t n, float *logits, float *attention, struct es_err *err);

struct es_predict_file { /* what `earshot predict` writes */
    const char *out;
    uint64_t model_digest, config_digest;
    const char *const *class_name; /* [K] */
    const char *which;             /* "student", "teacher" */
};
/* The same to a predictions file, written by row blocks as they come, resumed when a part of it is there. */
int es_predict_file_all(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                        const int64_t *ids, int64_t n, const struct es_predict_file *file,
                        struct es_err *err);

#endif
