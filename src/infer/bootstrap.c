#include "earshot/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/labels.h"
#include "earshot/mem.h"
#include "evaluate_impl.h"

struct es_bootstrap_params es_bootstrap_params_default(void) {
    return (struct es_bootstrap_params){.n_samples = 100, .confidence = 0.9};
}

void es_bootstrap_indices(int64_t *index, int64_t n_clips, int n_samples, uint32_t seed) {
    struct es_mt19937 mt;
    for (int64_t i = 0; i < n_clips * n_samples; i++) index[i] = i % n_clips;
    es_mt_seed(&mt, seed);
    es_mt_shuffle(&mt, n_clips * n_samples, index);
}

static int compare_doubles(const void *x, const void *y) {
    const double *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

/* Linear between order statistics. */
static double percentile(const double *sorted, int n, double share) {
    const double at = share * (n - 1);
    const int i = (int)at < n - 1 ? (int)at : n - 1, j = i < n - 1 ? i + 1 : i;
    return sorted[i] + (sorted[j] - sorted[i]) * (at - i);
}

struct es_interval es_interval_of(double *values, int n, double confidence) {
    int m = 0;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        if (isnan(values[i])) continue;
        sum += values[i];
        values[m++] = values[i];
    }
    if (m == 0) return (struct es_interval){(double)NAN, (double)NAN, (double)NAN};
    qsort(values, (size_t)m, sizeof *values, compare_doubles);
    return (struct es_interval){.mean = sum / m,
                                .low = percentile(values, m, (1 - confidence) / 2),
                                .high = percentile(values, m, (1 + confidence) / 2)};
}

/* ---- samples */

struct named {
    const char *id;
    int64_t clip;
};

static int compare_names(const void *x, const void *y) {
    const struct named *a = x, *b = y;
    return strcmp(a->id, b->id);
}

/* Clips of the set in order of their names. */
static int order_clips(int64_t **out, const struct es_evalset *set, struct es_err *err) {
    *out = es_alloc((size_t)set->n_clips, sizeof **out, err);
    struct named *name = es_alloc((size_t)set->n_clips, sizeof *name, err);
    if (*out && name) {
        for (int64_t i = 0; i < set->n_clips; i++) name[i] = (struct named){es_evalset_clip_id(set, i), i};
        qsort(name, (size_t)set->n_clips, sizeof *name, compare_names);
        for (int64_t i = 0; i < set->n_clips; i++) (*out)[i] = name[i].clip;
    }
    const int rc = *out && name ? 0 : -ES_EIO;
    es_free(&name);
    return rc;
}

/* One sample's values into its place of the rows. The first one makes the rows. */
static int take(struct es_bootstrap *b, int sample, const struct es_evaluation *e, struct es_err *err) {
    const size_t n = (size_t)b->n_samples, K = (size_t)b->n_classes;
    if (!b->rows) {
        b->rows = es_alloc((size_t)e->n_rows, sizeof *b->rows, err);
        if (!b->rows) return -ES_EIO;
        for (; b->n_rows < e->n_rows; b->n_rows++) {
            struct es_bootstrap_row *row = &b->rows[b->n_rows];
            row->name = es_strdup(e->rows[b->n_rows].name, err);
            row->value = es_alloc(n, sizeof(double), err);
            row->class_value = es_alloc(n * K, sizeof(double), err);
            row->class_interval = es_alloc(K, sizeof *row->class_interval, err);
            if (!row->name || !row->value || !row->class_value || !row->class_interval) {
                b->n_rows++;
                return -ES_EIO;
            }
        }
    }
    for (int r = 0; r < b->n_rows; r++) {
        b->rows[r].value[sample] = e->rows[r].value;
        memcpy(b->rows[r].class_value + (size_t)sample * K, e->rows[r].class_value, K * sizeof(double));
    }
    return 0;
}

static int one_sample(struct es_bootstrap *b, const struct es_evalset *set, const int64_t *order,
                      const int64_t *index, int64_t *clips, int sample, const char *names,
                      struct es_err *err) {
    struct es_evalset *drawn = NULL;
    struct es_evaluation *e = NULL;
    for (int64_t i = 0; i < set->n_clips; i++) clips[i] = order[index[(int64_t)sample * set->n_clips + i]];
    int rc = es_evalset_resample(&drawn, set, clips, set->n_clips, err);
    if (rc == 0) rc = es_evaluation_new(&e, drawn, names, err);
    if (rc == 0) rc = take(b, sample, e, err);
    es_evaluation_free(&e);
    es_evalset_free(&drawn);
    return rc;
}

/* Every rank's samples (s mod size) to all of them. */
static int share(struct es_bootstrap *b, const struct es_comm *comm, double *array, size_t width,
                 struct es_err *err) {
    const int size = es_comm_size(comm);
    const size_t n = (size_t)b->n_samples * width;
    double *all = es_alloc(n * (size_t)size, sizeof *all, err);
    ES_TRY(es_err_agree_all(comm, all ? 0 : -ES_EIO, err));
    es_comm_allgather_all(comm, array, n * sizeof *all, all);
    for (int s = 0; s < b->n_samples; s++)
        memcpy(array + (size_t)s * width, all + (size_t)(s % size) * n + (size_t)s * width,
               width * sizeof *all);
    es_free(&all);
    return 0;
}

static int run_samples(struct es_bootstrap *b, const struct es_evalset *set, const struct es_comm *comm,
                       const char *names, const struct es_bootstrap_params *p, struct es_err *err) {
    int rc = -ES_EIO;
    const int size = comm ? es_comm_size(comm) : 1, rank = comm ? es_comm_rank(comm) : 0;
    int64_t *order = NULL, *clips = es_alloc((size_t)set->n_clips, sizeof *clips, err),
            *index = es_alloc((size_t)set->n_clips * (size_t)p->n_samples, sizeof *index, err);
    if (clips && index) rc = order_clips(&order, set, err);
    if (rc == 0) es_bootstrap_indices(index, set->n_clips, p->n_samples, p->seed);
    if (rc == 0 && rank >= p->n_samples) /* nothing of its own, but it needs the rows */
        rc = one_sample(b, set, order, index, clips, 0, names, err);
    for (int s = rank; s < p->n_samples && rc == 0; s += size)
        rc = one_sample(b, set, order, index, clips, s, names, err);
    if (comm) rc = es_err_agree_all(comm, rc, err);
    for (int r = 0; rc == 0 && size > 1 && r < b->n_rows; r++) {
        rc = share(b, comm, b->rows[r].value, 1, err);
        if (rc == 0) rc = share(b, comm, b->rows[r].class_value, (size_t)b->n_classes, err);
    }
    es_free(&index);
    es_free(&clips);
    es_free(&order);
    return rc;
}

static int make_intervals(struct es_bootstrap *b, struct es_err *err) {
    const int n = b->n_samples, K = b->n_classes;
    double *v = es_alloc((size_t)n, sizeof *v, err);
    if (!v) return -ES_EIO;
    for (int r = 0; r < b->n_rows; r++) {
        struct es_bootstrap_row *row = &b->rows[r];
        memcpy(v, row->value, (size_t)n * sizeof *v);
        row->interval = es_interval_of(v, n, b->confidence);
        for (int k = 0; k < K; k++) {
            for (int s = 0; s < n; s++) v[s] = row->class_value[(int64_t)s * K + k];
            row->class_interval[k] = es_interval_of(v, n, b->confidence);
        }
    }
    es_free(&v);
    return 0;
}

static int make(struct es_bootstrap **out, const struct es_evalset *set, const struct es_comm *comm,
                const char *names, const struct es_bootstrap_params *p, struct es_err *err) {
    *out = NULL;
    if (p->n_samples < 1 || !(p->confidence > 0 && p->confidence < 1))
        return es_err_set(err, ES_EUSAGE,
                          "bootstrap: got %d samples, confidence %g; want at least 1, and 0..1", p->n_samples,
                          p->confidence);
    struct es_bootstrap *b = *out = es_alloc(1, sizeof *b, err);
    int rc = b ? 0 : -ES_EIO;
    if (b) {
        *b = (struct es_bootstrap){
            .n_samples = p->n_samples, .n_classes = set->n_classes, .confidence = p->confidence};
        rc = evalset_copy_names(&b->class_name, set, err);
    }
    if (comm) rc = es_err_agree_all(comm, rc, err);
    if (rc == 0) rc = run_samples(b, set, comm, names, p, err);
    if (rc < 0) es_bootstrap_free(out);
    return rc;
}

int es_bootstrap_all(struct es_bootstrap **b, const struct es_evalset *set, const struct es_comm *comm,
                     const char *names, const struct es_bootstrap_params *params, struct es_err *err) {
    ES_TRY(make(b, set, comm, names, params, err));
    const int rc = make_intervals(*b, err);
    if (rc < 0) es_bootstrap_free(b);
    return rc;
}

static int same_sets(const struct es_evalset *a, const struct es_evalset *b, struct es_err *err) {
    int64_t *order[2] = {NULL, NULL};
    int rc = 0;
    if (a->n_classes != b->n_classes || a->n_clips != b->n_clips)
        return es_err_set(err, ES_EDATA,
                          "compare: got %lld clips, %d classes in %s and %lld, %d in %s; want the same",
                          (long long)a->n_clips, a->n_classes, a->scores->source, (long long)b->n_clips,
                          b->n_classes, b->scores->source);
    for (int k = 0; k < a->n_classes; k++)
        if (strcmp(a->class_name[k], b->class_name[k]) != 0)
            return es_err_set(err, ES_EDATA, "compare: got class '%s' in %s, '%s' in %s; want the same order",
                              a->class_name[k], a->scores->source, b->class_name[k], b->scores->source);
    ES_GO(order_clips(&order[0], a, err));
    ES_GO(order_clips(&order[1], b, err));
    for (int64_t i = 0; i < a->n_clips; i++) {
        const char *x = es_evalset_clip_id(a, order[0][i]), *y = es_evalset_clip_id(b, order[1][i]);
        if (strcmp(x, y) == 0) continue;
        rc = es_err_set(err, ES_EDATA, "compare: got clip '%s' in %s, '%s' in %s; want the same clips", x,
                        a->scores->source, y, b->scores->source);
        break;
    }
done:
    es_free(&order[0]);
    es_free(&order[1]);
    return rc;
}

int es_bootstrap_compare_all(struct es_bootstrap **out, const struct es_evalset *set_a,
                             const struct es_evalset *set_b, const struct es_comm *comm, const char *names,
                             const struct es_bootstrap_params *params, struct es_err *err) {
    struct es_bootstrap *a = NULL;
    *out = NULL;
    ES_TRY(same_sets(set_a, set_b, err)); /* the same on all ranks */
    int rc = make(&a, set_a, comm, names, params, err);
    if (rc == 0) rc = make(out, set_b, comm, names, params, err);
    if (rc < 0) goto done;
    for (int r = 0; r < (*out)->n_rows; r++) {
        struct es_bootstrap_row *row = &(*out)->rows[r];
        double better = 0;
        for (int s = 0; s < a->n_samples; s++) {
            const double d = row->value[s] -= a->rows[r].value[s];
            better += d > 0 ? 1 : d == 0 ? 0.5 : 0;
        }
        row->better = better / a->n_samples;
        for (int64_t i = 0; i < (int64_t)a->n_samples * a->n_classes; i++)
            row->class_value[i] -= a->rows[r].class_value[i];
    }
    rc = make_intervals(*out, err);
done:
    es_bootstrap_free(&a);
    if (rc < 0) es_bootstrap_free(out);
    return rc;
}

void es_bootstrap_free(struct es_bootstrap **b) {
    if (!*b) return;
    for (int r = 0; r < (*b)->n_rows; r++) {
        es_free(&(*b)->rows[r].name);
        es_free(&(*b)->rows[r].value);
        es_free(&(*b)->rows[r].class_value);
        es_free(&(*b)->rows[r].class_interval);
    }
    es_free(&(*b)->rows);
    evalset_free_names(&(*b)->class_name, (*b)->n_classes);
    es_free(b);
}
