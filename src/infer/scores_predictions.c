/* Predictions as a score table. */
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"
#include "earshot/scores.h"

int es_scores_load_predictions(struct es_scores **out, const char *path, struct es_err *err) {
    struct es_predictions *p = NULL;
    double *edges_s = NULL;
    float *values = NULL;
    const char *recipe[ES_N_CLASSES];
    *out = NULL;
    int rc = es_predictions_open(&p, path, err);
    if (rc < 0) goto done;
    const int64_t n_clips = es_predictions_n_clips(p);
    const int T = es_predictions_n_frames(p), K = es_predictions_n_classes(p);
    const struct es_label_grid *grid = T == es_grid_task4.n_frames      ? &es_grid_task4
                                       : T == es_grid_audioset.n_frames ? &es_grid_audioset
                                                                        : NULL;
    const char *const *classes = es_predictions_classes(p);
    if (!classes && K == ES_N_CLASSES) { /* the public files say no names */
        for (int k = 0; k < K; k++) recipe[k] = es_classes[k].name;
        classes = recipe;
    }
    if (!grid || !classes) {
        rc = es_err_set(
            err, ES_EDATA,
            "%s: got %d frames and %d classes %s; want %d or %d frames, and classes or the %d of the recipe",
            path, T, K, classes ? "with names" : "without names", es_grid_task4.n_frames,
            es_grid_audioset.n_frames, ES_N_CLASSES);
        goto done;
    }
    rc = -ES_EIO;
    edges_s = es_alloc((size_t)T + 1, sizeof *edges_s, err);
    values = es_alloc((size_t)n_clips, (size_t)T * (size_t)K * sizeof *values, err);
    if (!edges_s || !values) goto done;
    for (int i = 0; i <= T; i++) edges_s[i] = es_labels_time(grid, i);
    ES_GO(es_predictions_read(p, 0, n_clips, values, err));
    es_sigmoid_f32(n_clips * T * K, values);
    ES_GO(es_scores_from_array(out, n_clips, es_predictions_names(p), T, edges_s, K, classes, values, path,
                               err));
    (*out)->own_values = values;
    values = NULL;
done:
    es_free(&values);
    es_free(&edges_s);
    es_predictions_close(&p);
    return rc;
}
