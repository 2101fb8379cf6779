#include "earshot/stack.h"

#include <math.h>
#include <string.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "stack_impl.h"

void es_stack_free(struct es_stack **s) {
    if (!*s) return;
    es_free(&(*s)->w);
    es_free(&(*s)->weight);
    es_free(&(*s)->fitted);
    es_free(s);
}

int stack_new(struct es_stack **out, int n_models, int n_classes, int context, struct es_err *err) {
    struct es_stack *s = *out = es_alloc(1, sizeof *s, err);
    if (!s) return -ES_EIO;
    const size_t K = (size_t)n_classes, M = (size_t)n_models;
    s->n_models = n_models;
    s->n_classes = n_classes;
    s->context = context;
    s->n_features = context < 0 ? 0 : (int64_t)M * n_classes * (2 * context + 1) + 1;
    s->fitted = es_alloc(K, 1, err);
    s->weight = es_alloc(K * M, sizeof *s->weight, err);
    if (context >= 0) s->w = es_alloc(K * (size_t)s->n_features, sizeof *s->w, err);
    if (!s->fitted || !s->weight || (context >= 0 && !s->w)) {
        es_stack_free(out);
        return -ES_EIO;
    }
    for (size_t i = 0; i < K * M; i++) s->weight[i] = 1.0 / (double)M;
    return 0;
}

float stack_share(float logit) {
    return 1.0f / (1.0f + expf(-logit)) - 0.5f;
}

void stack_row(const struct es_stack *s, int T, const float *const *z, int t, float *row) {
    for (int m = 0; m < s->n_models; m++)
        for (int k = 0; k < s->n_classes; k++)
            for (int i = -s->context; i <= s->context; i++) {
                const int at = t + i < 0 ? 0 : t + i >= T ? T - 1 : t + i;
                *row++ = stack_share(z[m][(int64_t)at * s->n_classes + k]);
            }
    *row = 1;
}

static float weighted(const struct es_stack *s, const float *const *z, int64_t at, int k) {
    double sum = 0;
    for (int m = 0; m < s->n_models; m++) sum += s->weight[k * s->n_models + m] * (double)z[m][at];
    return (float)sum;
}

void es_stack_run(const struct es_stack *s, int T, const float *const *z, float *out, float *row) {
    const int K = s->n_classes;
    for (int t = 0; t < T; t++) {
        if (s->w) stack_row(s, T, z, t, row);
        for (int k = 0; k < K; k++) {
            const int64_t at = (int64_t)t * K + k;
            if (!s->w || !s->fitted[k]) {
                out[at] = weighted(s, z, at, k);
                continue;
            }
            double sum = 0;
            for (int64_t i = 0; i < s->n_features; i++)
                sum += (double)s->w[k * s->n_features + i] * (double)row[i];
            out[at] = (float)(STACK_SLOPE * sum);
        }
    }
}

static int read_file(struct es_stack **s, const struct es_h5 *f, int n_models, int n_classes,
                     const char *const *class_name, struct es_err *err) {
    struct es_h5_info info;
    struct es_h5_names names = {0};
    int64_t context = -1;
    int rc = 0;
    ES_GO(es_h5_attr_get_i64(f, "/", "context_frames", &context, err));
    ES_GO(es_h5_info(f, "/weights", &info, err));
    ES_GO(es_h5_read_strings(f, "/classes", &names, err));
    if (info.ndim != 2 || info.dim[0] != n_classes || info.dim[1] != n_models || names.n != n_classes ||
        context < -1 || context > STACK_MAX_CONTEXT)
        ES_GO(es_err_set(err, ES_EDATA, "%s:/weights: %lld numbers, want %d classes x %d files",
                         es_h5_path(f), (long long)info.n, n_classes, n_models));
    for (int k = 0; class_name && k < n_classes; k++)
        if (strcmp(names.name[k], class_name[k]) != 0)
            ES_GO(es_err_set(err, ES_EDATA, "%s:/classes row %d: %s, want %s as in the predictions",
                             es_h5_path(f), k, names.name[k], class_name[k]));
    ES_GO(stack_new(s, n_models, n_classes, (int)context, err));
    ES_GO(es_h5_read(f, "/fitted", ES_H5_U8, n_classes, (*s)->fitted, err));
    ES_GO(es_h5_read(f, "/weights", ES_H5_F64, (int64_t)n_classes * n_models, (*s)->weight, err));
    if (context >= 0) ES_GO(es_h5_read(f, "/context", ES_H5_F32, n_classes * (*s)->n_features, (*s)->w, err));
    for (int64_t i = 0; i < (int64_t)n_classes * n_models; i++)
        if (!((*s)->weight[i] >= 0 && (*s)->weight[i] <= 1))
            ES_GO(
                es_err_set(err, ES_EDATA, "%s:/weights: got %g, want 0..1", es_h5_path(f), (*s)->weight[i]));
done:
    es_h5_names_free(&names);
    return rc;
}

int es_stack_load(struct es_stack **s, const char *path, int n_models, int n_classes,
                  const char *const *class_name, struct es_err *err) {
    struct es_h5 *f = NULL;
    *s = NULL;
    int rc = es_h5_open(&f, path, "stack", ES_STACK_VERSION, err);
    if (rc == 0) rc = read_file(s, f, n_models, n_classes, class_name, err);
    es_h5_close(&f);
    if (rc < 0) es_stack_free(s);
    return rc;
}

static int save(const struct es_stack *s, const char *path, const char *const *file,
                const char *const *class_name, struct es_err *err) {
    const int64_t K = s->n_classes;
    struct es_h5 *f = NULL;
    int rc = es_h5_create_all(&f, NULL, path, "stack", ES_STACK_VERSION, err);
    if (rc < 0) goto done;
    es_h5_attr_i64_all(f, "/", "context_frames", s->context);
    es_h5_put_strings_all(f, "classes", K, class_name);
    es_h5_put_strings_all(f, "files", s->n_models, file);
    es_h5_put_all(f, "fitted", ES_H5_U8, 1, &K, s->fitted);
    es_h5_put_all(f, "weights", ES_H5_F64, 2, (int64_t[]){K, s->n_models}, s->weight);
    if (s->w) es_h5_put_all(f, "context", ES_H5_F32, 2, (int64_t[]){K, s->n_features}, s->w);
    rc = es_h5_commit_all(&f, NULL, err);
done:
    es_h5_close_all(&f);
    return rc;
}

int es_stack_save_all(const struct es_stack *s, const struct es_comm *c, const char *path,
                      const char *const *file, const char *const *class_name, struct es_err *err) {
    return es_err_agree_all(c, es_comm_rank(c) == 0 ? save(s, path, file, class_name, err) : 0, err);
}
