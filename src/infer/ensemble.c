#include "earshot/ensemble.h"

#include <string.h>

#include "earshot/h5.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"
#include "earshot/stack.h"

#define BLOCK_CLIPS 64
#define MAX_FILES 64

static int compare(const struct es_predictions *a, const char *name_a, const struct es_predictions *b,
                   const char *name_b, struct es_err *err) {
    if (es_predictions_n_clips(a) != es_predictions_n_clips(b))
        return es_err_set(
            err, ES_EDATA, "%s: /filenames: %lld clips, %s has %lld; predict the same store with both models",
            name_b, (long long)es_predictions_n_clips(b), name_a, (long long)es_predictions_n_clips(a));
    if (es_predictions_n_frames(a) != es_predictions_n_frames(b) ||
        es_predictions_n_classes(a) != es_predictions_n_classes(b))
        return es_err_set(err, ES_EDATA, "%s: /strong_logits: %d frames x %d classes, want %d x %d as in %s",
                          name_b, es_predictions_n_frames(b), es_predictions_n_classes(b),
                          es_predictions_n_frames(a), es_predictions_n_classes(a), name_a);
    for (int64_t i = 0; i < es_predictions_n_clips(a); i++)
        if (strcmp(es_predictions_name(a, i), es_predictions_name(b, i)) != 0)
            return es_err_set(err, ES_EDATA, "%s: /filenames row %lld: %s, want %s as in %s", name_b,
                              (long long)i, es_predictions_name(b, i), es_predictions_name(a, i), name_a);
    const char *const *ka = es_predictions_classes(a), *const *kb = es_predictions_classes(b);
    for (int k = 0; ka && kb && k < es_predictions_n_classes(a); k++)
        if (strcmp(ka[k], kb[k]) != 0)
            return es_err_set(err, ES_EDATA, "%s: /classes row %d: %s, want %s as in %s", name_b, k, kb[k],
                              ka[k], name_a);
    return 0;
}

struct job {
    const struct es_ensemble_params *p;
    struct es_predictions *q[MAX_FILES];
    double weight[MAX_FILES];
    float *logits, *one;
    double *sum;
    int64_t row_n;
    struct es_stack *stack; /* NULL: one weight a file */
    float *all, *row;       /* with a stack: [n_files, row_n] of a clip, features of a frame */
    uint64_t digest;        /* of the weights */
};

static int open_stack(struct job *j, struct es_err *err) {
    const int n = j->p->n_files;
    ES_TRY(es_stack_load(&j->stack, j->p->stack, n, es_predictions_n_classes(j->q[0]),
                         es_predictions_classes(j->q[0]), err));
    j->all = es_alloc((size_t)(n * j->row_n), sizeof *j->all, err);
    j->row = es_alloc((size_t)j->stack->n_features + 1, sizeof *j->row, err);
    return j->all && j->row ? es_h5_digest_all(NULL, j->p->stack, &j->digest, err) : -ES_EIO;
}

static int open_files(struct job *j, struct es_err *err) {
    double total = 0;
    for (int i = 0; i < j->p->n_files; i++) total += j->weight[i] = j->p->weight ? j->p->weight[i] : 1.0;
    if (!(total > 0)) return es_err_set(err, ES_EUSAGE, "--weights: their sum is %g, want > 0", total);
    for (int i = 0; i < j->p->n_files; i++) {
        j->weight[i] /= total;
        ES_TRY(es_predictions_open(&j->q[i], j->p->file[i], err));
        if (i > 0) ES_TRY(compare(j->q[0], j->p->file[0], j->q[i], j->p->file[i], err));
    }
    j->row_n = (int64_t)es_predictions_n_frames(j->q[0]) * es_predictions_n_classes(j->q[0]);
    j->logits = es_alloc((size_t)(BLOCK_CLIPS * j->row_n), sizeof(float), err);
    j->one = es_alloc((size_t)(BLOCK_CLIPS * j->row_n), sizeof(float), err);
    j->sum = es_alloc((size_t)(BLOCK_CLIPS * j->row_n), sizeof(double), err);
    j->digest = es_hash_bytes(j->weight, (size_t)j->p->n_files * sizeof(double));
    if (!j->logits || !j->one || !j->sum) return -ES_EIO;
    return j->p->stack ? open_stack(j, err) : 0;
}

static int stack_block(struct job *j, int64_t first, int64_t n, struct es_err *err) {
    const float *z[MAX_FILES];
    for (int64_t c = 0; c < n; c++) {
        for (int i = 0; i < j->p->n_files; i++) {
            z[i] = j->all + i * j->row_n;
            ES_TRY(es_predictions_read(j->q[i], first + c, 1, j->all + i * j->row_n, err));
        }
        es_stack_run(j->stack, es_predictions_n_frames(j->q[0]), z, j->logits + c * j->row_n, j->row);
    }
    return 0;
}

/* Mean in double, in the order of the files. */
static int mean_block(struct job *j, int64_t b, struct es_err *err) {
    int64_t first = b * BLOCK_CLIPS, n = es_predictions_n_clips(j->q[0]) - first;
    if (n > BLOCK_CLIPS) n = BLOCK_CLIPS;
    if (j->stack) return stack_block(j, first, n, err);
    memset(j->sum, 0, (size_t)(n * j->row_n) * sizeof(double));
    for (int i = 0; i < j->p->n_files; i++) {
        ES_TRY(es_predictions_read(j->q[i], first, n, j->one, err));
        for (int64_t k = 0; k < n * j->row_n; k++) j->sum[k] += j->weight[i] * (double)j->one[k];
    }
    for (int64_t k = 0; k < n * j->row_n; k++) j->logits[k] = (float)j->sum[k];
    return 0;
}

static void close_files(struct job *j) {
    for (int i = 0; i < j->p->n_files; i++) es_predictions_close(&j->q[i]);
    es_stack_free(&j->stack);
    es_free(&j->row);
    es_free(&j->all);
    es_free(&j->sum);
    es_free(&j->one);
    es_free(&j->logits);
}

int es_ensemble_all(const struct es_comm *c, const struct es_ensemble_params *p, int64_t *n_clips,
                    struct es_err *err) {
    struct job j = {.p = p};
    struct es_predictions_writer *w = NULL;
    int rc = 0, size = es_comm_size(c);
    if (p->n_files < 1 || p->n_files > MAX_FILES)
        return es_err_set(err, ES_EUSAGE, "ensemble: got %d files, want 1..%d", p->n_files, MAX_FILES);
    ES_GO(es_err_agree_all(c, open_files(&j, err), err));
    if (n_clips) *n_clips = es_predictions_n_clips(j.q[0]);
    if (p->check) goto done;
    struct es_predictions_desc desc = {.n_clips = es_predictions_n_clips(j.q[0]),
                                       .n_frames = es_predictions_n_frames(j.q[0]),
                                       .n_classes = es_predictions_n_classes(j.q[0]),
                                       .block_clips = BLOCK_CLIPS,
                                       .names = es_predictions_names(j.q[0]),
                                       .classes = es_predictions_classes(j.q[0]),
                                       .model_digest = j.digest,
                                       .store_digest = es_predictions_store_digest(j.q[0]),
                                       .which = "ensemble"};
    ES_GO(es_predictions_begin_all(&w, c, p->out, &desc, err));
    int64_t n_blocks = es_predictions_n_blocks(w);
    for (int64_t round = 0; round * size < n_blocks; round++) {
        int64_t b = round * size + es_comm_rank(c);
        if (b >= n_blocks || es_predictions_done(w, b)) b = -1;
        es_watchdog_kick("ensemble", round);
        if (b >= 0) rc = mean_block(&j, b, err);
        ES_GO(es_err_agree_all(c, rc, err));
        ES_GO(es_predictions_write_all(&w, b, j.logits, err));
    }
    ES_GO(es_predictions_finish_all(&w, err));
done:
    if (w) es_predictions_close_all(&w);
    close_files(&j);
    return rc;
}
