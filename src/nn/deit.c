#include "earshot/deit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct source {
    struct es_params *params;
    const char *prefix;
    es_deit_fn get;
    void *ctx;
};

static int missing(const char *name, const char *want, struct es_err *err) {
    return es_err_set(err, ES_EDATA, "%s: missing or of another shape, want %s of a distilled DeiT", name,
                      want);
}

/* The parameter <prefix><name>; NULL: not there. */
static const struct es_param *target(const struct source *s, const char *name, float **data) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", s->prefix, name);
    int i = es_params_find(s->params, full);
    if (i < 0) return NULL;
    *data = es_params_data(s->params, i);
    return es_params_at(s->params, i);
}

/* An entry that both have alike. */
static int copy(const struct source *s, const struct es_param *p, const char *name, float *to,
                struct es_err *err) {
    int ndim = 0;
    int64_t shape[ES_MAX_DIM];
    const float *from = s->get(s->ctx, name, &ndim, shape);
    bool same = from && ndim == p->ndim;
    for (int d = 0; same && d < ndim; d++) same = shape[d] == p->shape[d];
    if (!same) return missing(name, "the shape it has in fPaSST", err);
    memcpy(to, from, (size_t)p->n * sizeof *to);
    return 0;
}

static int fill_patch(const struct source *s, const struct es_param *p, const char *name, float *to,
                      struct es_err *err) {
    int ndim = 0;
    int64_t shape[ES_MAX_DIM], D = p->shape[0], C = p->shape[1], n = p->n / (D * C); /* [D,C,n_mels,2] */
    const float *from = s->get(s->ctx, name, &ndim, shape);
    if (!from || ndim != 4 || shape[0] != D || shape[2] * shape[3] != n)
        return missing(name, "[dim,channels,h,w] with h w = 2 n_mels", err);
    float scale = (float)shape[1] / (float)C;
    for (int64_t d = 0; d < D; d++)
        for (int64_t c = 0; c < C; c++)
            for (int64_t q = 0; q < n; q++)
                to[(d * C + c) * n + q] = scale * from[(d * shape[1] + c % shape[1]) * n + q];
    return 0;
}

/* Keys' cubic kernel with a = -0.75: weights of the four samples around a place `t` behind the second of them. */
static void cubic(double t, double w[4]) {
    const double a = -0.75;
    double x[4] = {1 + t, t, 1 - t, 2 - t};
    for (int i = 0; i < 4; i++) {
        double v = x[i];
        w[i] = v <= 1 ? ((a + 2) * v - (a + 3)) * v * v + 1 : ((a * v - 5 * a) * v + 8 * a) * v - 4 * a;
    }
}

/* Four indices, clamped to the border, and weights for place j of n when `from` samples are resized to n. */
static void taps(int64_t from, int64_t n, int64_t j, int64_t index[4], double w[4]) {
    double place = ((double)j + 0.5) * (double)from / (double)n - 0.5;
    int64_t at = (int64_t)floor(place);
    cubic(place - (double)at, w);
    for (int i = 0; i < 4; i++) {
        int64_t k = at - 1 + i;
        index[i] = k < 0 ? 0 : k >= from ? from - 1 : k;
    }
}

/* grid [side,side,D] -> time [D,T], freq [D] */
static void resize(const float *grid, int64_t side, int64_t D, int64_t T, float *time, float *freq) {
    int64_t row[4], column[4];
    double wr[4], wc[4];
    taps(side, 1, 0, row, wr);
    for (int64_t d = 0; d < D; d++) {
        double mean = 0;
        for (int64_t t = 0; t < T; t++) {
            double sum = 0;
            taps(side, T, t, column, wc);
            for (int i = 0; i < 4; i++)
                for (int k = 0; k < 4; k++)
                    sum += wr[i] * wc[k] * (double)grid[(row[i] * side + column[k]) * D + d];
            time[d * T + t] = (float)sum;
            mean += sum;
        }
        freq[d] = (float)(mean / (double)T);
    }
}

static int fill_positions(const struct source *s, struct es_err *err) {
    int ndim = 0;
    int64_t shape[ES_MAX_DIM];
    float *two, *time, *freq;
    const struct es_param *p = target(s, "new_pos_embed", &two), *q = target(s, "time_new_pos_embed", &time),
                          *r = target(s, "freq_new_pos_embed", &freq);
    ES_ASSERT(p && q && r);
    const float *from = s->get(s->ctx, "pos_embed", &ndim, shape);
    int64_t D = r->n, side = from && ndim == 3 ? (int64_t)floor(sqrt((double)(shape[1] - 2)) + 0.5) : 0;
    if (side < 1 || shape[0] != 1 || shape[2] != D || shape[1] != 2 + side * side)
        return missing("pos_embed", "[1, 2 + a square, dim]", err);
    memcpy(two, from, (size_t)(2 * D) * sizeof *two);
    resize(from + 2 * D, side, D, q->n / D, time, freq);
    return 0;
}

int es_fpasst_from_deit(struct es_params *params, const char *prefix, es_deit_fn get, void *ctx,
                        struct es_err *err) {
    struct source s = {params, prefix, get, ctx};
    size_t skip = strlen(prefix);
    float *patch;
    if (!target(&s, "patch_embed.proj.weight", &patch) || !target(&s, "time_new_pos_embed", &patch))
        return es_err_set(err, ES_EUSAGE, "a DeiT starts fPaSST only; set model.arch: fpasst");
    for (int i = 0; i < es_params_count(params); i++) {
        const struct es_param *p = es_params_at(params, i);
        if (strncmp(p->name, prefix, skip) != 0) continue;
        const char *name = p->name + skip;
        if (strcmp(name, "patch_embed.proj.weight") == 0)
            ES_TRY(fill_patch(&s, p, name, es_params_data(params, i), err));
        else if (strncmp(name, "blocks.", 7) == 0 || strncmp(name, "norm.", 5) == 0 ||
                 strcmp(name, "cls_token") == 0 || strcmp(name, "dist_token") == 0 ||
                 strcmp(name, "patch_embed.proj.bias") == 0)
            ES_TRY(copy(&s, p, name, es_params_data(params, i), err));
    }
    return fill_positions(&s, err);
}
