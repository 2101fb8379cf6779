#include "earshot/objective.h"

#include <math.h>
#include <string.h>

#include "earshot/labels.h"

const char *const es_term_names[ES_N_TERMS] = {"total", "maestro", "real",       "synthetic",
                                               "weak",  "ssl",     "ssl_weight", "pseudo"};

void es_mix_rows(const struct es_mix_call *call, float *x, int64_t row_n, float *scratch) {
    float *rows = x + call->first * row_n;
    memcpy(scratch, rows, (size_t)call->n * (size_t)row_n * sizeof(float));
    for (int i = 0; i < call->n; i++) {
        const float *own = scratch + i * row_n, *other = scratch + call->perm[i] * row_n;
        float c = call->c[i], d = 1.0f - c, *out = rows + i * row_n;
        for (int64_t k = 0; k < row_n; k++) out[k] = c * own[k] + d * other[k];
    }
}

/* The same with every share 1: labels of both clips, not yet at most 1. */
static void add_rows(const struct es_mix_call *call, float *x, int64_t row_n, float *scratch) {
    float *rows = x + call->first * row_n;
    memcpy(scratch, rows, (size_t)call->n * (size_t)row_n * sizeof(float));
    for (int i = 0; i < call->n; i++)
        for (int64_t k = 0; k < row_n; k++) rows[i * row_n + k] += scratch[call->perm[i] * row_n + k];
}

static void clamp01(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = x[i] < 0.0f ? 0.0f : x[i] > 1.0f ? 1.0f : x[i];
}

/* mask[i] |= classes with a non-zero label in the unmixed partner */
static void merge_masks(const struct es_mix_call *call, const struct es_targets *x) {
    uint8_t own[ES_LEAF_CLIPS][32];
    int K = x->n_classes;
    ES_ASSERT(K <= 32);
    for (int i = 0; i < call->n; i++) {
        int partner = call->first + call->perm[i];
        for (int k = 0; k < K; k++) {
            const float *y = x->labels + ((int64_t)partner * K + k) * x->n_frames;
            bool active = false;
            for (int f = 0; f < x->n_frames; f++) active |= y[f] != 0.0f;
            own[i][k] = x->mask[(call->first + i) * K + k] | active;
        }
    }
    for (int i = 0; i < call->n; i++) memcpy(x->mask + (call->first + i) * K, own[i], (size_t)K);
}

static bool pseudo_masked(const struct es_objective_params *op) {
    return op->pseudo_classes == ES_PSEUDO_PUBLISHED ? op->stage == 1
                                                     : op->pseudo_classes == ES_PSEUDO_MASKED;
}

bool es_objective_all_classes(const struct es_objective_params *op) {
    return op->ssl_no_class_mask || (op->stage == 1 && op->lambda[5] != 0.0 && !pseudo_masked(op));
}

void es_objective_mix_targets(const struct es_objective_params *op, struct es_targets *x, float *scratch) {
    int64_t K = x->n_classes, row = K * x->n_frames;
    for (int m = 0; x->mixup && m < x->n_mix; m++) {
        const struct es_mix_call *call = &x->mix[m];
        bool joint = call->first == x->first[ES_SET_M] && call->first + call->n == x->first[ES_SET_W] &&
                     x->first[ES_SET_R] > x->first[ES_SET_M];
        if (joint) merge_masks(call, x);
        /* strong labels of the strong sets, weak ones of the weak set: nothing else is a target */
        float *labels = call->first < x->first[ES_SET_W] ? x->labels : x->weak;
        int64_t n = labels == x->weak ? K : row;
        (op->mixup_hard ? add_rows : es_mix_rows)(call, labels, n, scratch);
        clamp01(labels + call->first * n, call->n * n);
        if (x->pseudo) es_mix_rows(call, x->pseudo, row, scratch);
    }
    for (int i = 0; i < x->n; i++)
        for (int64_t k = 0; k < K; k++) {
            if (x->mask[i * K + k]) continue;
            memset(x->labels + (i * K + k) * x->n_frames, 0, (size_t)x->n_frames * sizeof(float));
            x->weak[i * K + k] = 0.0f;
            if (x->pseudo && pseudo_masked(op))
                memset(x->pseudo + (i * K + k) * x->n_frames, 0, (size_t)x->n_frames * sizeof(float));
        }
}

double es_objective_ssl_weight(const struct es_objective_params *op, int64_t step) {
    double scale = op->ssl_warmup_steps > 0 ? (double)step / op->ssl_warmup_steps : op->ssl_scale_max;
    if (scale > op->ssl_scale_max) scale = op->ssl_scale_max;
    return scale * op->lambda[4];
}

struct builder { /* what every term needs */
    const struct es_objective_params *op;
    struct es_tape *t;
    const struct es_targets *x;
    struct es_objective_terms *out;
};

typedef struct es_tensor *(*loss_fn)(struct es_tape *, struct es_tensor *, const float *,
                                     const struct es_loss_rows *);

/* Rows first..end-1 of p against target, times weight, mean over `columns`. */
static void add(struct builder *b, int term, enum es_measure measure, struct es_tensor *p,
                const float *target, int first, int end, double weight, const uint8_t *columns) {
    static const loss_fn loss[2] = {es_op_bce, es_op_mse};
    static const double share[ES_N_MEASURES][2] = {{1, 0}, {0, 1}, {0.5, 2}};
    if (end <= first || weight == 0.0) return;
    int64_t row = p->n / p->shape[0], n_columns = p->shape[1];
    if (columns) {
        n_columns = 0;
        for (int64_t k = 0; k < p->shape[1]; k++) n_columns += columns[k];
    }
    double denominator = (double)(end - first) * (double)(row / p->shape[1]) * (double)n_columns;
    double scale = weight * b->op->loss_scale / b->op->leaves;
    for (int i = 0; i < 2; i++) {
        if (share[measure][i] == 0.0) continue;
        struct es_loss_rows rows = {first, end - first, share[measure][i] * scale, denominator, columns};
        struct es_tensor *value = loss[i](b->t, p, target, &rows);
        es_tape_add_loss(b->t, value);
        ES_ASSERT(b->out->n < 32);
        b->out->part[b->out->n] = value;
        b->out->term[b->out->n] = term;
        b->out->scale[b->out->n] =
            term == ES_TERM_SSL || term == ES_TERM_PSEUDO ? b->op->loss_scale / b->op->leaves : scale;
        b->out->n++;
    }
}

static void add_supervised(struct builder *b, const struct es_predictions_tape *s, const double weight[4]) {
    static const int term[4] = {ES_TERM_MAESTRO, ES_TERM_REAL, ES_TERM_SYNTHETIC, ES_TERM_WEAK};
    for (int set = ES_SET_M; set <= ES_SET_W; set++)
        add(b, term[set], set == ES_SET_M ? b->op->maestro_type : ES_MEASURE_BCE,
            set == ES_SET_W ? s->weak : s->strong, set == ES_SET_W ? b->x->weak : b->x->labels,
            b->x->first[set], b->x->first[set + 1], weight[set], NULL);
}

/* Mean teacher: over ssl_clips; the weak term without MAESTRO when excluded. */
static void add_mean_teacher(struct builder *b, struct es_tensor *strong, struct es_tensor *weak,
                             const struct es_predictions_data *q, double w, double weak_share) {
    enum es_measure how = b->op->ssl_type;
    int desed = b->x->first[ES_SET_R], first = b->op->ssl_clips == ES_SSL_DESED ? desed : 0,
        end = b->op->ssl_clips == ES_SSL_MAESTRO ? desed : b->x->n;
    add(b, ES_TERM_SSL, how, strong, q->strong, first, end, w, NULL);
    if (b->op->exclude_maestro_weak_ssl) first = desed;
    add(b, ES_TERM_SSL, how, weak, q->weak, first, end, w * weak_share, NULL);
}

/* Interpolation consistency: the student sees mixed clips, its targets are the teacher's outputs mixed in the
 * same way. */
static void add_ict(struct builder *b, struct es_tensor *strong, struct es_tensor *weak,
                    const struct es_predictions_data *q, double w) {
    const struct es_targets *x = b->x;
    int64_t K = x->n_classes, row = K * x->n_frames;
    float *qs = es_tape_keep(b->t, (size_t)(x->n * row) * sizeof(float));
    float *qw = es_tape_keep(b->t, (size_t)(x->n * K) * sizeof(float));
    float *scratch = es_tape_scratch(b->t, (size_t)(x->n * row) * sizeof(float));
    if (!es_tape_dry(b->t)) {
        memcpy(qs, q->strong, (size_t)(x->n * row) * sizeof(float));
        memcpy(qw, q->weak, (size_t)(x->n * K) * sizeof(float));
        for (int m = 0; m < x->n_mix; m++) {
            es_mix_rows(&x->mix[m], qs, row, scratch);
            es_mix_rows(&x->mix[m], qw, K, scratch);
        }
        clamp01(qs, x->n * row);
        clamp01(qw, x->n * K);
    }
    es_tape_scratch_reset(b->t);
    uint8_t desed[32]; /* columns that DESED clips may have */
    uint32_t valid = es_labels_mask(ES_SUBSET_WEAK, b->op->no_desed_alias);
    for (int k = 0; k < 32; k++) desed[k] = (valid >> k) & 1;
    for (int m = 0; m < x->n_mix; m++) {
        int first = x->mix[m].first, end = first + x->mix[m].n;
        bool maestro = first == x->first[ES_SET_M] && x->first[ES_SET_R] > first,
             joint = maestro && end > x->first[ES_SET_R];
        double share =
            w / 32.0 * (joint ? 2.0 : 1.0); /* the joint call is counted as strong and as MAESTRO */
        add(b, ES_TERM_SSL, b->op->ssl_type, strong, qs, first, end, share, NULL);
        bool exclude = b->op->exclude_maestro_weak_ssl && maestro;
        if (exclude && !joint) continue;
        add(b, ES_TERM_SSL, b->op->ssl_type, weak, qw, first, end, 0.5 * share, exclude ? desed : NULL);
    }
}

static void add_pseudo(struct builder *b, struct es_tensor *strong) {
    const double *l = b->op->lambda;
    const int *f = b->x->first;
    if (!b->x->pseudo) return;
    enum es_measure how = b->op->pseudo_type;
    add(b, ES_TERM_PSEUDO, how, strong, b->x->pseudo, f[ES_SET_R], b->x->n, l[5] * (l[1] + l[2] + l[3]),
        NULL);
    add(b, ES_TERM_PSEUDO, how, strong, b->x->pseudo, f[ES_SET_M], f[ES_SET_R], l[5] * l[0], NULL);
}

void es_objective_build(const struct es_objective_params *op, struct es_tape *t, const struct es_targets *x,
                        int64_t step, const struct es_predictions_tape *s,
                        const struct es_predictions_data *teacher, struct es_objective_terms *out) {
    const double *l = op->lambda;
    double w = es_objective_ssl_weight(op, step);
    *out = (struct es_objective_terms){.ssl_weight = w};
    struct builder b = {op, t, x, out};
    struct es_tensor *strong = op->ssl_no_class_mask ? s->strong_all : s->strong;
    struct es_tensor *weak = op->ssl_no_class_mask ? s->weak_all : s->weak;
    if (op->stage == 1) {
        add_supervised(&b, s, l);
        add_mean_teacher(&b, strong, weak, teacher, w, 1.0);
        add_pseudo(&b, pseudo_masked(op) ? s->strong : s->strong_all);
        return;
    }
    add_supervised(&b, s, (double[]){l[0] / 3, l[1] / 3, l[2] / 3, l[3] / 2});
    if (op->ict && x->mixup)
        add_ict(&b, strong, weak, teacher, w);
    else
        add_mean_teacher(&b, strong, weak, teacher, w, 0.5);
    add_pseudo(&b, strong);
}

void es_objective_read(const struct es_objective_params *op, const struct es_objective_terms *x,
                       double *terms) {
    memset(terms, 0, ES_N_TERMS * sizeof *terms);
    for (int i = 0; i < x->n; i++) {
        double v = (double)x->part[i]->data[0];
        terms[ES_TERM_TOTAL] += v * op->leaves;
        terms[x->term[i]] += v / x->scale[i];
    }
    terms[ES_TERM_SSL_WEIGHT] = x->ssl_weight;
}
