/* Fit and judgement of ensemble weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/ensemble.h"
#include "earshot/gram.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"
#include "probe_impl.h"
#include "stack_impl.h"

#define RIDGE 0.01 /* of the mean of the diagonal */

struct job {
    const struct es_comm *c;
    const struct es_stack_params *p;
    struct es_stack *s;
    struct probe_clips clips;
    struct es_predictions *q[ES_STACK_MAX_SCORES];
    const struct es_label_grid *grid;
    int K, M, T;
    float *logits;                       /* [M, T, K] of a clip */
    const float *z[ES_STACK_MAX_SCORES]; /* [M] into it */
    float *y, *x;                        /* [T, K]; [T, F] */
    double *G, *b;                       /* [K, M, M], [K, M] */
    float *out, *row;                    /* rank 0: [n, T, K] of a list of test clips; [F] */
};

static int read_clip(struct job *j, const struct probe_ref *r, struct es_err *err) {
    const char *name = es_store_name(j->p->store[r->store], r->id);
    for (int m = 0; m < j->M; m++) {
        const int64_t at = es_predictions_find(j->q[m], name);
        if (at < 0)
            return es_err_set(err, ES_EDATA, "%s: no clip %s of %s; predict the whole store", j->p->file[m],
                              name, es_store_path(j->p->store[r->store]));
        ES_TRY(es_predictions_read(j->q[m], at, 1, j->logits + (int64_t)m * j->T * j->K, err));
    }
    return 0;
}

/* ---- weights: on rank 0 */

static void add_frame(struct job *j, int family, int t) {
    for (int k = 0; k < j->K; k++) {
        if (!probe_judges(&j->clips, family, k)) continue;
        double *G = j->G + (int64_t)k * j->M * j->M, *b = j->b + (int64_t)k * j->M;
        const int64_t at = (int64_t)t * j->K + k;
        for (int m = 0; m < j->M; m++) {
            const double share = (double)stack_share(j->z[m][at]);
            for (int l = 0; l < j->M; l++) G[m * j->M + l] += share * (double)stack_share(j->z[l][at]);
            b[m] += share * ((double)j->y[at] - 0.5);
        }
    }
}

static int fit_weights(struct job *j, struct es_err *err) {
    for (int f = 0; f < FAMILIES; f++) {
        const struct probe_list *l = &j->clips.part[ES_PROBE_VALIDATION][f];
        for (int64_t i = 0; i < l->n; i++) {
            es_watchdog_kick("ensemble: fit", i);
            ES_TRY(read_clip(j, &l->ref[i], err));
            ES_TRY(probe_labels(&j->clips, j->grid, &l->ref[i], j->y, err));
            for (int t = 0; t < j->T; t++) add_frame(j, f, t);
        }
        for (int k = 0; l->n > 0 && k < j->K; k++)
            if (probe_judges(&j->clips, f, k)) j->s->fitted[k] = 1;
    }
    for (int k = 0; k < j->K; k++) {
        double *w = j->s->weight + (int64_t)k * j->M, sum = 0;
        if (!j->s->fitted[k]) continue;
        ES_TRY(es_nnls(j->M, j->G + (int64_t)k * j->M * j->M, j->b + (int64_t)k * j->M, w, err));
        for (int m = 0; m < j->M; m++) sum += w[m];
        for (int m = 0; m < j->M; m++) w[m] = sum > 0 ? w[m] / sum : 1.0 / j->M;
    }
    return 0;
}

/* ---- context: clips go round the ranks */

static int add_clips(struct job *j, struct es_gram *g, const struct probe_list *l, struct es_err *err) {
    const int size = es_comm_size(j->c);
    int rc = 0;
    for (int64_t round = 0; round * size < l->n; round++) {
        const int64_t i = round * size + es_comm_rank(j->c);
        es_watchdog_kick("ensemble: context", round);
        if (i < l->n) {
            rc = read_clip(j, &l->ref[i], err);
            if (rc == 0) rc = probe_labels(&j->clips, j->grid, &l->ref[i], j->y, err);
            for (int64_t n = 0; n < (int64_t)j->T * j->K; n++) j->y[n] -= 0.5f;
            for (int t = 0; rc == 0 && t < j->T; t++)
                stack_row(j->s, j->T, j->z, t, j->x + t * j->s->n_features);
        }
        ES_TRY(es_err_agree_all(j->c, rc, err));
        ES_TRY(es_gram_add_all(g, j->x, j->y, i < l->n ? j->T : 0, err));
    }
    return 0;
}

static int fit_context(struct job *j, struct es_err *err) {
    const int64_t F = j->s->n_features;
    struct es_gram_params gp = j->p->gram;
    struct es_gram *g = NULL;
    gp.d = F;
    gp.k = j->K;
    gp.name = "ensemble";
    double *w = es_alloc((size_t)(F * j->K), sizeof *w, err);
    int rc = es_err_agree_all(j->c, w ? 0 : -ES_EIO, err);
    if (rc == 0) rc = es_gram_new_all(&g, j->c, &gp, err);
    for (int f = 0; rc == 0 && f < FAMILIES; f++) {
        const struct probe_list *l = &j->clips.part[ES_PROBE_VALIDATION][f];
        if (l->n == 0) continue;
        es_gram_reset(g);
        ES_GO(add_clips(j, g, l, err));
        ES_GO(es_gram_solve_all(g, RIDGE * es_gram_scale_all(g), 1, w, NULL, err));
        for (int k = 0; k < j->K; k++)
            for (int64_t i = 0; probe_judges(&j->clips, f, k) && i < F; i++)
                j->s->w[k * F + i] = (float)w[k * F + i];
    }
done:
    es_gram_free_all(&g);
    es_free(&w);
    return rc;
}

/* ---- judgement: on rank 0 */

/* One row of the report: model m alone, the mean (m = M), the weights (M+1), the context (M+2). */
static int judge(struct job *j, struct es_stack_report *r, int method, const struct probe_list *l, int family,
                 struct es_err *err) {
    struct es_stack plain = *j->s, mean = *j->s;
    double *equal = NULL;
    int rc = 0;
    plain.w = mean.w = NULL;
    if (method <= j->M) {
        equal = es_alloc((size_t)(j->K * j->M), sizeof *equal, err);
        if (!equal) return -ES_EIO;
        for (int k = 0; k < j->K; k++)
            for (int m = 0; m < j->M; m++)
                equal[k * j->M + m] = method == j->M ? 1.0 / j->M : method == m ? 1 : 0;
        mean.weight = equal;
    }
    const struct es_stack *s = method <= j->M ? &mean : method == j->M + 1 ? &plain : j->s;
    for (int64_t i = 0; i < l->n; i++) {
        es_watchdog_kick("ensemble: test", i);
        ES_GO(read_clip(j, &l->ref[i], err));
        es_stack_run(s, j->T, j->z, j->out + i * j->T * j->K, j->row);
    }
    ES_GO(probe_score(&j->clips, l, j->T, j->out, r->name[method], &r->score[method][family], err));
done:
    es_free(&equal);
    return rc;
}

static int judge_all(struct job *j, struct es_stack_report *r, struct es_err *err) {
    int rc = 0;
    r->n = j->M + 2 + (j->s->w != NULL);
    for (int i = 0; i < r->n; i++) {
        const char *const name[] = {"mean", "weights", "context"};
        snprintf(r->name[i], sizeof r->name[i], "%s", i < j->M ? j->p->file[i] : name[i - j->M]);
        for (int f = 0; f < FAMILIES; f++) r->score[i][f] = (double)NAN;
    }
    for (int f = 0; rc == 0 && f < FAMILIES; f++) {
        const struct probe_list *l = &j->clips.part[ES_PROBE_TEST][f];
        r->n_fit += j->clips.part[ES_PROBE_VALIDATION][f].n;
        r->n_test += l->n;
        if (l->n == 0) continue;
        j->out = es_alloc((size_t)(l->n * j->T * j->K), sizeof *j->out, err);
        j->row = es_alloc((size_t)j->s->n_features + 1, sizeof *j->row, err);
        rc = j->out && j->row ? 0 : -ES_EIO;
        for (int i = 0; rc == 0 && i < r->n; i++) rc = judge(j, r, i, l, f, err);
        es_free(&j->row);
        es_free(&j->out);
    }
    return rc;
}

/* ---- all of it */

static int set_up(struct job *j, struct es_err *err) {
    const struct es_stack_params *p = j->p;
    if (p->n_files < 2 || p->n_files > ES_STACK_MAX_SCORES - 3)
        return es_err_set(err, ES_EUSAGE, "ensemble: got %d files to weigh, want 2..%d", p->n_files,
                          ES_STACK_MAX_SCORES - 3);
    ES_TRY(probe_clips_new(&j->clips, p->n_stores, p->store, 0, err));
    if (j->clips.part[ES_PROBE_VALIDATION][DESED].n + j->clips.part[ES_PROBE_VALIDATION][MAESTRO].n == 0)
        return es_err_set(err, ES_EDATA,
                          "%s: no validation clips (synth_validation, maestro, as_train) to fit on",
                          es_store_path(p->store[0]));
    j->M = p->n_files;
    j->K = j->clips.K;
    for (int m = 0; m < j->M; m++) {
        ES_TRY(es_predictions_open(&j->q[m], p->file[m], err));
        if (m == 0) j->T = es_predictions_n_frames(j->q[0]);
        if (es_predictions_n_classes(j->q[m]) != j->K || es_predictions_n_frames(j->q[m]) != j->T)
            return es_err_set(err, ES_EDATA, "%s: /strong_logits: %d frames x %d classes, want %d x %d",
                              p->file[m], es_predictions_n_frames(j->q[m]), es_predictions_n_classes(j->q[m]),
                              j->T, j->K);
    }
    j->grid = j->clips.audioset ? &es_grid_audioset : &es_grid_task4;
    if (j->T != j->grid->n_frames)
        return es_err_set(err, ES_EDATA, "%s: %d frames, want %d", p->file[0], j->T, j->grid->n_frames);
    ES_TRY(stack_new(&j->s, j->M, j->K, p->context, err));
    const size_t K = (size_t)j->K, M = (size_t)j->M, T = (size_t)j->T;
    j->logits = es_alloc(M * T * K, sizeof *j->logits, err);
    j->y = es_alloc(T * K, sizeof *j->y, err);
    j->x = es_alloc(T * (size_t)j->s->n_features, sizeof *j->x, err);
    j->G = es_alloc(K * M * M, sizeof *j->G, err);
    j->b = es_alloc(K * M, sizeof *j->b, err);
    for (size_t m = 0; j->logits && m < M; m++) j->z[m] = j->logits + m * T * K;
    return j->logits && j->y && j->x && j->G && j->b ? 0 : -ES_EIO;
}

int es_stack_fit_all(struct es_stack **s, struct es_stack_report *report, const struct es_comm *c,
                     const struct es_stack_params *p, struct es_err *err) {
    struct job j = {.c = c, .p = p};
    *s = NULL;
    *report = (struct es_stack_report){0};
    int rc = es_err_agree_all(c, set_up(&j, err), err);
    if (rc < 0 || p->check) goto done;
    if (es_comm_rank(c) == 0) rc = fit_weights(&j, err);
    ES_GO(es_err_agree_all(c, rc, err));
    es_comm_bcast_all(c, j.s->fitted, (size_t)j.K, 0);
    es_comm_bcast_all(c, j.s->weight, (size_t)(j.K * j.M) * sizeof *j.s->weight, 0);
    if (p->context >= 0) ES_GO(fit_context(&j, err));
    if (es_comm_rank(c) == 0) rc = judge_all(&j, report, err);
    ES_GO(es_err_agree_all(c, rc, err));
    *s = j.s;
    j.s = NULL;
done:
    es_stack_free(&j.s);
    for (int m = 0; m < ES_STACK_MAX_SCORES; m++) es_predictions_close(&j.q[m]);
    es_free(&j.b);
    es_free(&j.G);
    es_free(&j.x);
    es_free(&j.y);
    es_free(&j.logits);
    probe_clips_free(&j.clips);
    return rc;
}
