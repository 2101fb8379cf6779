#include "earshot/predict.h"

#include <string.h>

#include "earshot/audio.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"

int es_predict_read(const struct es_store *s, int64_t clip, float *wave, int16_t *pcm, struct es_err *err) {
    int64_t n = es_store_length(s, clip);
    if (n > ES_CLIP_SAMPLES)
        n = ES_CLIP_SAMPLES; /* upstream crops at random even here; we at 0 (ARCHITECTURE.md section 4) */
    ES_TRY(es_store_read_pcm(s, clip, 0, n, pcm, err));
    es_pcm_to_float(pcm, n, wave);
    memset(wave + n, 0, (size_t)(ES_CLIP_SAMPLES - n) * sizeof(float));
    return 0;
}

int es_predict_list(const struct es_store *s, int subset, int split, int64_t **ids, int64_t *n,
                    struct es_err *err) {
    *n = 0;
    *ids = es_alloc((size_t)es_store_n_clips(s), sizeof **ids, err);
    if (!*ids) return -ES_EIO;
    for (int64_t i = 0; i < es_store_n_clips(s); i++)
        if ((subset < 0 || (int)es_store_subset(s, i) == subset) &&
            (split < 0 || es_store_split(s, i) == split))
            (*ids)[(*n)++] = i;
    return 0;
}

/* Reads and computes one block. */
static int compute(struct es_forward *f, const struct es_store *s, const int64_t *ids, int n, int16_t *pcm,
                   float *logits, float *attention, struct es_err *err) {
    for (int i = 0; i < n; i++)
        ES_TRY(es_predict_read(s, ids[i], es_forward_waves(f) + (int64_t)i * ES_CLIP_SAMPLES, pcm, err));
    return es_forward_run(f, n, logits, attention, err);
}

static int block_size(const struct es_forward *f, int64_t n, int64_t b) {
    int64_t first = b * es_forward_block(f), rest = n - first;
    return rest < es_forward_block(f) ? (int)rest : es_forward_block(f);
}

int es_predict_clips_all(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                         const int64_t *ids, int64_t n, float *logits, float *attention, struct es_err *err) {
    int64_t block = es_forward_block(f), n_blocks = (n + block - 1) / block;
    int64_t row = (int64_t)es_forward_frames(f) * es_forward_classes(f);
    int16_t *pcm = es_alloc(ES_CLIP_SAMPLES, sizeof *pcm, err);
    int rc = pcm ? 0 : -ES_EIO, size = es_comm_size(c), rank = es_comm_rank(c);
    for (int64_t b = rank; rc == 0 && b < n_blocks; b += size) {
        rc = compute(f, s, ids + b * block, block_size(f, n, b), pcm, logits + b * block * row,
                     attention ? attention + b * block * row : NULL, err);
        es_watchdog_kick("predict", b);
    }
    es_free(&pcm);
    ES_TRY(es_err_agree_all(c, rc, err));
    float *out[] = {logits, attention};
    for (int64_t b = 0; b < n_blocks; b++)
        for (int i = 0; i < 2; i++)
            if (out[i])
                es_comm_bcast_all(c, out[i] + b * block * row,
                                  (size_t)(block_size(f, n, b) * row) * sizeof(float), (int)(b % size));
    return 0;
}

/* Round i: rank r takes the block i * size + r when it is there and not done; every rank makes every collective write. */
int es_predict_file_all(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                        const int64_t *ids, int64_t n, const struct es_predict_file *file,
                        struct es_err *err) {
    struct es_predictions_writer *w = NULL;
    int T = es_forward_frames(f), K = es_forward_classes(f), block = es_forward_block(f),
        size = es_comm_size(c);
    const char **names = es_alloc((size_t)n, sizeof *names, err);
    int16_t *pcm = es_alloc(ES_CLIP_SAMPLES, sizeof *pcm, err);
    float *logits = es_alloc((size_t)block * (size_t)T * (size_t)K, sizeof *logits, err);
    struct es_progress progress = {0};
    int rc = names && pcm && logits ? 0 : -ES_EIO;
    ES_GO(es_err_agree_all(c, rc, err));
    for (int64_t i = 0; i < n; i++) names[i] = es_store_name(s, ids[i]);
    struct es_predictions_desc desc = {.n_clips = n,
                                       .n_frames = T,
                                       .n_classes = K,
                                       .block_clips = block,
                                       .names = names,
                                       .classes = file->class_name,
                                       .model_digest = file->model_digest,
                                       .store_digest = es_store_digest(s),
                                       .config_digest = file->config_digest,
                                       .which = file->which};
    ES_GO(es_predictions_begin_all(&w, c, file->out, &desc, err));
    int64_t n_blocks = es_predictions_n_blocks(w);
    es_progress_begin(&progress, "predict");
    for (int64_t round = 0; round * size < n_blocks; round++) {
        int64_t b = round * size + es_comm_rank(c);
        if (b >= n_blocks || es_predictions_done(w, b)) b = -1;
        es_watchdog_kick("predict", round);
        if (b >= 0) rc = compute(f, s, ids + b * block, block_size(f, n, b), pcm, logits, NULL, err);
        ES_GO(es_err_agree_all(c, rc, err));
        ES_GO(es_predictions_write_all(&w, b, logits, err));
        int64_t done = (round + 1) * size * block;
        es_progress_update(&progress, done < n ? done : n, n, "clips", NULL);
        if (es_comm_max_all(c, es_stop_requested()) > 0 && (round + 1) * size < n_blocks) {
            rc = ES_STOPPED;
            goto done;
        }
    }
    ES_GO(es_predictions_finish_all(&w, err));
done:
    es_progress_end(&progress);
    if (w) es_predictions_close_all(&w);
    es_free(&logits);
    es_free(&pcm);
    es_free(&names);
    return rc;
}
