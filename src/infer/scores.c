#include "earshot/scores.h"

#include <math.h>
#include <string.h>

#include "earshot/median.h"
#include "earshot/mem.h"
#include "earshot/text.h"

int es_scores_new(struct es_scores **out, int64_t n_clips, const char *const *ids, int n_classes,
                  const char *const *classes, bool is_double, const char *source, struct es_err *err) {
    int rc = -ES_EIO;
    struct es_scores *s = *out = es_alloc(1, sizeof *s, err);
    if (!s) return rc;
    s->is_double = is_double;
    s->frame_stride = n_classes;
    s->class_stride = 1;
    s->clips = es_alloc((size_t)n_clips, sizeof *s->clips, err);
    s->classes = es_alloc((size_t)n_classes, sizeof *s->classes, err);
    s->source = es_strdup(source, err);
    if (!s->clips || !s->classes || !s->source) goto done;
    for (; s->n_clips < n_clips; s->n_clips++)
        if (!(s->clips[s->n_clips].id = es_strdup(ids[s->n_clips], err))) goto done;
    for (; s->n_classes < n_classes; s->n_classes++)
        if (!(s->classes[s->n_classes] = es_strdup(classes[s->n_classes], err))) goto done;
    rc = 0;
done:
    if (rc < 0) es_scores_free(out);
    return rc;
}

/* es_free for a block that is read-only for everybody else. */
static void free_const(const void **p) {
    void *block;
    memcpy(&block, p, sizeof block);
    es_free(&block);
    *p = NULL;
}

void es_scores_free(struct es_scores **out) {
    struct es_scores *s = *out;
    if (!s) return;
    for (int64_t i = 0; i < s->n_clips; i++) {
        es_free(&s->clips[i].id);
        if (!s->own_clips) continue;
        const void *edges = s->clips[i].edges_s;
        free_const(&edges);
        free_const(&s->clips[i].values);
    }
    for (int k = 0; k < s->n_classes; k++) es_free(&s->classes[k]);
    es_free(&s->clips);
    es_free(&s->classes);
    es_free(&s->source);
    es_free(&s->own_edges);
    es_free(&s->own_values);
    es_free(out);
}

int es_scores_from_array(struct es_scores **out, int64_t n_clips, const char *const *ids, int n_frames,
                         const double *edges_s, int n_classes, const char *const *classes,
                         const float *values, const char *source, struct es_err *err) {
    ES_TRY(es_scores_new(out, n_clips, ids, n_classes, classes, false, source, err));
    struct es_scores *s = *out;
    s->own_edges = es_alloc((size_t)n_frames + 1, sizeof *s->own_edges, err);
    if (!s->own_edges) {
        es_scores_free(out);
        return -ES_EIO;
    }
    memcpy(s->own_edges, edges_s, ((size_t)n_frames + 1) * sizeof *edges_s);
    for (int64_t i = 0; i < n_clips; i++) {
        s->clips[i].n_frames = n_frames;
        s->clips[i].edges_s = s->own_edges;
        s->clips[i].values = values + i * n_frames * n_classes;
    }
    return 0;
}

int es_scores_class(const struct es_scores *s, const char *name) {
    for (int k = 0; k < s->n_classes; k++)
        if (strcmp(s->classes[k], name) == 0) return k;
    return -1;
}

void es_scores_column(const struct es_scores *s, int64_t i_clip, int column, double *out) {
    const struct es_scores_clip *c = &s->clips[i_clip];
    const int64_t stride = s->frame_stride, first = column * s->class_stride;
    if (s->generate) {
        s->generate(s->generate_ctx, i_clip, column, out);
    } else if (s->is_double) {
        const double *v = (const double *)c->values + first;
        for (int i = 0; i < c->n_frames; i++) out[i] = v[i * stride];
    } else {
        const float *v = (const float *)c->values + first;
        for (int i = 0; i < c->n_frames; i++) out[i] = (double)v[i * stride];
    }
}

/* Clip i of in, filtered, into a clip of out that has nothing yet. ws: window_max + 2 * frames_max doubles. */
static int filter_clip(struct es_scores *out, const struct es_scores *in, int64_t i, const int *window_frames,
                       int frames_max, double *ws, struct es_err *err) {
    const int K = in->n_classes, n = in->clips[i].n_frames;
    struct es_scores_clip *c = &out->clips[i];
    double *column = ws, *filtered = ws + frames_max, *window = ws + 2 * (size_t)frames_max;
    double *edges = es_alloc((size_t)n + 1, sizeof *edges, err);
    void *values = es_alloc((size_t)n * (size_t)K, in->is_double ? sizeof(double) : sizeof(float), err);
    c->n_frames = n;
    c->edges_s = edges;
    c->values = values;
    if (!edges || !values) return -ES_EIO;
    memcpy(edges, in->clips[i].edges_s, ((size_t)n + 1) * sizeof *edges);
    for (int k = 0; k < K; k++) {
        es_scores_column(in, i, k, column);
        for (int j = 0; j < n; j++)
            if (isnan(column[j]))
                return es_err_set(err, ES_EDATA,
                                  "%s: clip %s, frame %d, class %s: got not a number; want scores",
                                  in->source, c->id, j, in->classes[k]);
        es_median_filter(n, window_frames[k], column, filtered, window);
        if (in->is_double)
            for (int j = 0; j < n; j++) ((double *)values)[(int64_t)j * K + k] = filtered[j];
        else
            for (int j = 0; j < n; j++) ((float *)values)[(int64_t)j * K + k] = (float)filtered[j];
    }
    return 0;
}

int es_scores_median(struct es_scores **out, const struct es_scores *in, const int *window_frames,
                     struct es_err *err) {
    int rc = -ES_EIO, window_max = 1, frames_max = 1;
    int64_t failed = in->n_clips; /* the clip rc belongs to */
    *out = NULL;
    const char **ids = es_alloc((size_t)in->n_clips, sizeof *ids, err);
    if (!ids) return rc;
    for (int64_t i = 0; i < in->n_clips; i++) {
        ids[i] = in->clips[i].id;
        if (in->clips[i].n_frames > frames_max) frames_max = in->clips[i].n_frames;
    }
    for (int k = 0; k < in->n_classes; k++)
        if (window_frames[k] > window_max) window_max = window_frames[k];
    ES_GO(es_scores_new(out, in->n_clips, ids, in->n_classes, (const char *const *)in->classes, in->is_double,
                        in->source, err));
    struct es_scores *s = *out;
    s->own_clips = true;
#pragma omp parallel
    {
        struct es_err mine = {0};
        double *ws = es_alloc((size_t)window_max + 2 * (size_t)frames_max, sizeof *ws, &mine);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < in->n_clips; i++) {
            const int my_rc = ws ? filter_clip(s, in, i, window_frames, frames_max, ws, &mine) : -ES_EIO;
            if (my_rc >= 0) continue;
#pragma omp critical(es_scores_median)
            if (i < failed) {
                failed = i;
                rc = es_err_set(err, (enum es_code) - my_rc, "%s", mine.msg);
            }
        }
        es_free(&ws);
    }
done:
    if (rc < 0) es_scores_free(out);
    es_free(&ids);
    return rc;
}

int es_scores_save_tsv(const struct es_scores *s, int64_t i_clip, const char *path, struct es_err *err) {
    const struct es_scores_clip *c = &s->clips[i_clip];
    struct es_text t = {0};
    char digits[32];
    es_text_add(&t, "onset\toffset");
    for (int k = 0; k < s->n_classes; k++) es_text_add(&t, "\t%s", s->classes[k]);
    for (int i = 0; i < c->n_frames; i++) {
        for (int k = -2; k < s->n_classes; k++) {
            const int64_t at = i * s->frame_stride + k * s->class_stride;
            const double v = k < 0          ? c->edges_s[i + 2 + k]
                             : s->is_double ? ((const double *)c->values)[at]
                                            : (double)((const float *)c->values)[at];
            es_text_from_double(v, digits);
            es_text_add(&t, "%c%s", k == -2 ? '\n' : '\t', digits);
        }
    }
    es_text_add(&t, "\n");
    int rc = es_text_check(&t, err);
    if (rc == 0) rc = es_text_save(path, t.s, t.n, err);
    es_text_free(&t);
    return rc;
}

void es_sigmoid_f32(int64_t n, float *x) {
    for (int64_t i = 0; i < n; i++) x[i] = 1.0f / (1.0f + expf(-x[i]));
}
