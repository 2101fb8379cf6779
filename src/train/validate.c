#include "earshot/validate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/mpauc.h"
#include "earshot/psds.h"

#define AS_MEDIAN_FRAMES 9 /* PretrainedSED: one window for all classes */

struct part { /* one set of clips and what is measured on it */
    enum es_subset subset;
    int split;
    bool maestro;
};

static int score(const struct es_scores *scores, const struct es_truth *truth, bool maestro, bool macro,
                 double *value, struct es_err *err) {
    struct es_truth *clips = NULL;
    struct es_evalset *set = NULL;
    struct es_psds *psds = NULL;
    struct es_auroc *auroc = NULL;
    struct es_psds_params pp = es_psds1_params();
    struct es_auroc_params ap = es_mpauc_params();
    struct es_evalset_params ep = {0};
    int rc = 0;
    if (maestro) {
        ES_GO(es_maestro_clips(&clips, truth, err));
        ep.subset = true;
        ES_GO(es_evalset_new(&set, scores, clips, &ep, err));
        ES_GO(es_auroc_new(&auroc, set, &ap, err));
        *value = auroc->linear;
    } else {
        ES_GO(es_evalset_new(&set, scores, truth, &ep, err));
        ES_GO(es_psds_new(&psds, set, &pp, err));
        *value = macro ? psds->macro : psds->value;
    }
done:
    es_auroc_free(&auroc);
    es_psds_free(&psds);
    es_evalset_free(&set);
    es_truth_free(&clips);
    return rc;
}

/* On rank 0: filter, truth, metric. A set that cannot be scored (a class without positive segment, say) is a warning and NAN: a
 * small validation set must not end a run. */
static int measure(const struct es_store *s, const int64_t *ids, int64_t n, const struct part *p,
                   bool pretrain, int n_frames, float *logits, const int *median_frames, double *value,
                   struct es_err *err) {
    int K = es_store_n_classes(s), rc = 0, *window = es_alloc((size_t)K, sizeof(int), err);
    const char **names = es_alloc((size_t)n, sizeof *names, err);
    struct es_scores *scores = NULL, *filtered = NULL;
    struct es_truth *truth = NULL;
    double edges[512];
    const struct es_label_grid *g = pretrain ? &es_grid_audioset : &es_grid_task4;
    ES_ASSERT(n_frames < 511);
    if (!window || !names) {
        rc = -ES_EIO;
        goto done;
    }
    for (int k = 0; k < K; k++) window[k] = median_frames ? median_frames[k] : AS_MEDIAN_FRAMES;
    for (int64_t i = 0; i < n; i++) names[i] = es_store_name(s, ids[i]);
    if (!pretrain) es_sigmoid_f32(n * n_frames * K, logits); /* PretrainedSED evaluates logits */
    for (int i = 0; i <= n_frames; i++) edges[i] = es_labels_time(g, i);
    ES_GO(es_scores_from_array(&scores, n, names, n_frames, edges, K, es_store_classes(s), logits,
                               es_store_path(s), err));
    ES_GO(es_scores_median(&filtered, scores, window, err));
    ES_GO(es_truth_from_store(&truth, s, ids, n, !p->maestro, err)); /* es_maestro_clips merges itself */
    struct es_err why = {0};
    if (score(filtered, truth, p->maestro, pretrain, value, &why) < 0) {
        es_log(ES_LOG_WARN, "validation %s not scored: %s", es_subset_name(p->subset), why.msg);
        *value = (double)NAN;
    }
done:
    es_truth_free(&truth);
    es_scores_free(&filtered);
    es_scores_free(&scores);
    es_free(&names);
    es_free(&window);
    return rc;
}

static int run_part(const struct es_comm *c, struct es_forward *f, const struct es_store *s,
                    const struct part *p, bool pretrain, const int *median_frames, double *value,
                    int64_t *n_clips, struct es_err *err) {
    int64_t *ids = NULL, n = 0;
    float *logits = NULL;
    int rc = es_predict_list(s, (int)p->subset, p->split, &ids, &n, err);
    if (rc == 0 && n > 0) {
        logits = es_alloc((size_t)n * (size_t)es_forward_frames(f) * (size_t)es_forward_classes(f),
                          sizeof(float), err);
        if (!logits) rc = -ES_EIO;
    }
    ES_GO(es_err_agree_all(c, rc, err));
    if (n == 0) goto done;
    ES_GO(es_predict_clips_all(c, f, s, ids, n, logits, err));
    if (es_comm_rank(c) == 0)
        rc = measure(s, ids, n, p, pretrain, es_forward_frames(f), logits, median_frames, value, err);
    ES_GO(es_err_agree_all(c, rc, err));
    es_comm_bcast_all(c, value, sizeof *value, 0);
    *n_clips += n;
done:
    es_free(&logits);
    es_free(&ids);
    return rc;
}

int es_validate_all(const struct es_comm *c, struct es_forward *f, struct es_store *const *stores,
                    int n_stores, bool pretrain, const int *median_frames, struct es_validation *out,
                    struct es_err *err) {
    static const struct part stage_parts[2] = {{ES_SUBSET_SYNTH_VALIDATION, -1, false},
                                               {ES_SUBSET_MAESTRO, 1, true}};
    static const struct part pretrain_parts[1] = {{ES_SUBSET_AS_EVAL, -1, false}};
    const struct part *parts = pretrain ? pretrain_parts : stage_parts;
    *out = (struct es_validation){.psds1 = (double)NAN, .mpauc = (double)NAN, .objective = (double)NAN};
    for (int i = 0; i < (pretrain ? 1 : 2); i++)
        for (int s = 0; s < n_stores; s++) {
            double *value = parts[i].maestro ? &out->mpauc : &out->psds1;
            ES_TRY(run_part(c, f, stores[s], &parts[i], pretrain, median_frames, value, &out->n_clips, err));
        }
    double sum = 0;
    bool any = false;
    double part[2] = {out->psds1, out->mpauc};
    for (int i = 0; i < 2; i++)
        if (!isnan(part[i])) {
            sum += part[i];
            any = true;
        }
    if (any) out->objective = sum;
    return 0;
}
