/* Augmentations with the public draws: mixup and wavmix through what training and the dataset call. */
#include "earshot/augment.h"

#include "earshot/convolve.h"
#include "earshot/labels.h"
#include "earshot/objective.h"
#include "earshot/resample.h"

#include "runner.h"

/* The dataset that the case's key names, below its group when there is no such key. */
static float *given(const struct rn_case *c, const char *key, int64_t shape[4]) {
    char rel[200];
    const char *path = rn_get(c, key);
    if (path) return rn_read(c, path, shape);
    snprintf(rel, sizeof rel, "%s", key);
    rel[strcspn(rel, ".")] = '/';
    return rn_own(c, rel, shape);
}

static double *draws(const struct rn_case *c, const char *name, int64_t *n) {
    char rel[200];
    int64_t shape[4];
    snprintf(rel, sizeof rel, "draw/%s", name);
    double *x = rn_own64(c, rel, shape);
    if (n) *n = x ? rn_size(shape) : 0;
    return x;
}

static float *floats(const struct rn_case *c, int64_t n) {
    return rn_hold(c, (size_t)n + 1, sizeof(float));
}

static void missing(struct rn_case *c) {
    if (!c->why[0]) rn_skip(c, "inputs or draws of this kind are not there");
}

/* ---- along time */
static void frame_shift(struct rn_case *c) {
    static const char *const names[] = {"features", "embeddings", "labels", "pseudo_labels"};
    int64_t n, shape[4][4];
    const double *gauss = draws(c, "gauss", &n);
    float *x[4];
    for (int k = 0; k < 4; k++) {
        char key[40];
        snprintf(key, sizeof key, "in.%s", names[k]);
        x[k] = given(c, key, shape[k]);
        if (x[k] && shape[k][0] != n) gauss = NULL;
    }
    if (!gauss || !x[0]) {
        missing(c);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const struct es_shift s = es_augment_shift(gauss[i], rn_int(c, "net_pooling", 4), (int)shape[0][3],
                                                   x[1] ? (int)shape[1][3] : 0);
        const int by[4] = {s.mel, s.features, s.labels, s.labels};
        for (int k = 0; k < 4; k++) {
            if (!x[k]) continue;
            const int64_t T = shape[k][k < 2 ? 3 : 2], rows = rn_size(shape[k]) / n / T;
            es_augment_roll(x[k] + i * rows * T, rows, (int)T, 1, by[k], floats(c, T));
        }
    }
    for (int k = 0; k < 4; k++) {
        char rel[40];
        snprintf(rel, sizeof rel, "out/%s", names[k]);
        if (x[k]) rn_put_f32(c, rel, x[k], rn_size(shape[k]));
    }
}

static void time_mask(struct rn_case *c) {
    int64_t shape[4];
    const double *low = draws(c, "t_low", NULL), *width = draws(c, "t_width", NULL);
    float *labels = given(c, "in.labels", shape);
    if (!low || !width || !labels) {
        missing(c);
        return;
    }
    const int first = (int)low[0], n = (int)width[0], frames = (int)shape[2];
    es_augment_silence(labels, shape[0] * shape[1], frames, 1, (struct es_span){first, first + n});
    rn_put_f32(c, "out/labels", labels, rn_size(shape));
    for (int k = 0; k < 2; k++) {
        float *x = given(c, k ? "in.embeddings" : "in.features", shape);
        if (!x) continue;
        const int T = (int)shape[3];
        const struct es_span span = k ? es_augment_mask_features(first, n, frames, T)
                                      : es_augment_mask_mel(first, n, rn_int(c, "net_pooling", 4), T);
        es_augment_silence(x, rn_size(shape) / T, T, 1, span);
        rn_put_f32(c, k ? "out/embeddings" : "out/features", x, rn_size(shape));
    }
    float *pseudo = given(c, "in.pseudo_labels", shape); /* QUIRK: as they were */
    if (pseudo) rn_put_f32(c, "out/pseudo_labels", pseudo, rn_size(shape));
}

/* ---- mels */

/* draw/beta and draw/perm; largest: the clip itself has the larger share. */
static bool read_mix(struct rn_case *c, bool largest, struct es_mix_call *call) {
    int64_t n, n_perm;
    const double *beta = draws(c, "beta", &n), *perm = draws(c, "perm", &n_perm);
    if (!beta || !perm || n != n_perm || n > ES_LEAF_CLIPS) {
        rn_skip(c, "want draw/beta and draw/perm of at most %d clips", ES_LEAF_CLIPS);
        return false;
    }
    *call = (struct es_mix_call){.n = (int)n};
    for (int i = 0; i < call->n; i++) {
        call->c[i] = (float)(largest ? fmax(beta[i], 1 - beta[i]) : beta[i]);
        call->perm[i] = (int)perm[i];
        if (call->perm[i] < 0 || call->perm[i] >= call->n) return false;
    }
    return true;
}

static void mixstyle(struct rn_case *c) {
    int64_t shape[4];
    struct es_mix_call *call = rn_hold(c, 1, sizeof *call);
    float *x = given(c, "in.x", shape);
    if (!read_mix(c, true, call) || !x || shape[0] != call->n) {
        missing(c);
        return;
    }
    es_augment_mixstyle(call, x, (int)shape[2], (int)shape[3], floats(c, 2 * call->n * shape[2]));
    rn_put_f32(c, "out/x", x, rn_size(shape));
}

static void filter(struct rn_case *c) {
    int64_t shape[4], n_u[4], n_raw;
    struct es_filter_call *call = rn_hold(c, 1, sizeof *call);
    const double *bands = draws(c, "n_band", NULL), *raw = draws(c, "boundaries_raw", &n_raw);
    const float *u = given(c, "draw.factors_u01", n_u), *x = given(c, "in.x", shape);
    double db[2] = {-6, 6};
    rn_list(c, "db_range", db, 2);
    if (!bands || !raw || !u || !x || shape[0] > ES_LEAF_CLIPS || bands[0] > ES_AUGMENT_BANDS ||
        n_raw != (int64_t)bands[0] - 1 || n_u[0] != shape[0] || n_u[1] != (int64_t)bands[0] + 1) {
        rn_skip(c, "want draws of at most %d bands for at most %d clips", ES_AUGMENT_BANDS, ES_LEAF_CLIPS);
        return;
    }
    const int F = (int)shape[2], T = (int)shape[3];
    int draw[ES_AUGMENT_BANDS];
    call->n = (int)shape[0];
    call->n_bands = (int)bands[0];
    for (int b = 0; b < call->n_bands - 1; b++) draw[b] = (int)raw[b];
    es_augment_band_edges(F, call->n_bands, rn_int(c, "min_bw", 6), draw, call->edge);
    for (int i = 0; i < call->n; i++)
        for (int b = 0; b <= call->n_bands; b++)
            call->gain_db[i][b] = u[i * n_u[1] + b] * (float)(db[1] - db[0]) + (float)db[0];
    float *y = floats(c, rn_size(shape));
    es_augment_filter(call, x, y, F, T);
    rn_put_f32(c, "out/x", y, rn_size(shape));
}

static void freq_warp(struct rn_case *c) {
    int64_t shape[4];
    const double *u = draws(c, "u_freq", NULL), *low = draws(c, "i", NULL);
    float *x = given(c, "in.x", shape);
    if (!u || !low || !x) {
        missing(c);
        return;
    }
    const int F = (int)shape[1], height = es_augment_warp_height(u[0], F);
    const struct es_warp_call call = {.n = (int)shape[0], .low = (int)low[0], .height = height};
    es_augment_warp(&call, x, F, (int)shape[2], floats(c, rn_size(shape)));
    rn_put_f32(c, "out/x", x, rn_size(shape));
}

/* ---- mixup: features by es_mix_rows, targets and masks by es_objective_mix_targets */
static void mix_features(struct rn_case *c, const struct es_mix_call *call, const char *name) {
    char rel[100];
    int64_t shape[4];
    snprintf(rel, sizeof rel, "in.%s", name);
    float *x = given(c, rel, shape);
    if (!x || shape[0] != call->n) return;
    es_mix_rows(call, x, rn_size(shape) / call->n, floats(c, rn_size(shape)));
    snprintf(rel, sizeof rel, "out/%s", name);
    rn_put_f32(c, rel, x, rn_size(shape));
}

/* One call: of strong clips when targets are [n,K,T], of weak ones when they are [n,K]. The public function leaves the labels of
 * invalid classes to its caller, training sets them to 0: so labels are mixed with every class valid, and masks apart. */
static void mix_targets(struct rn_case *c, const struct es_mix_call *call) {
    int64_t shape[4], mask_shape[4], pseudo_shape[4];
    float *targets = given(c, "in.targets", shape), *mask = given(c, "in.valid_class_mask", mask_shape),
          *pseudo = given(c, "in.pseudo_strong", pseudo_shape);
    if (!targets || shape[0] != call->n || shape[1] > 32) {
        rn_skip(c, "want targets of the clips of draw/beta, of at most 32 classes");
        return;
    }
    const bool strong = !pseudo || shape[2] == pseudo_shape[2];
    const int n = call->n, K = (int)shape[1];
    const int64_t T = strong ? shape[2] : pseudo_shape[2], all = n * K * T;
    const struct es_objective_params op = {.stage = 2, .mixup_hard = rn_is(c, "label_type", "hard")};
    uint8_t *valid = rn_hold(c, (size_t)(n * K), 1);
    float *scratch = floats(c, all);
    memset(valid, 1, (size_t)(n * K));
    struct es_targets x = {.n = n,
                           .first = {0, strong, strong, strong ? n : 0, n, n},
                           .n_classes = K,
                           .n_frames = (int)T,
                           .labels = strong ? targets : floats(c, all),
                           .weak = strong ? floats(c, n * K) : targets,
                           .mask = valid,
                           .pseudo = pseudo,
                           .mixup = true,
                           .n_mix = 1,
                           .mix = call};
    float *before = floats(c, all);
    memcpy(before, x.labels, (size_t)all * sizeof *before);
    es_objective_mix_targets(&op, &x, scratch);
    rn_put_f32(c, "out/targets", targets, strong ? all : n * K);
    if (pseudo) rn_put_f32(c, "out/pseudo_strong", pseudo, all);
    if (!mask || !strong || mask_shape[0] != n || mask_shape[1] != K) return;
    for (int i = 0; i < n * K; i++) valid[i] = mask[i] != 0;
    x.labels = before;
    x.pseudo = NULL;
    es_objective_mix_targets(&op, &x, scratch);
    for (int i = 0; i < n * K; i++) mask[i] = valid[i];
    rn_put_f32(c, "out/valid_class_mask", mask, n * K);
}

static void mixup(struct rn_case *c) {
    struct es_mix_call *call = rn_hold(c, 1, sizeof *call);
    if (!read_mix(c, rn_num(c, "max_coef", 1) != 0, call)) return;
    mix_features(c, call, "features");
    mix_features(c, call, "embeddings");
    mix_targets(c, call);
}

/* ---- waveforms */
static void wavmix(struct rn_case *c) {
    static const char *const names[] = {"labels", "pseudo", "mask"};
    int64_t shape[4], other[4];
    const double *beta = draws(c, "beta", NULL);
    float *x = given(c, "in.wave1", shape), *y = given(c, "in.wave2", other);
    if (!beta || !x || !y || rn_size(shape) != rn_size(other)) {
        missing(c);
        return;
    }
    const float share = (float)fmax(beta[0], 1 - beta[0]);
    es_augment_wavmix(x, y, rn_size(shape), share);
    rn_put_f32(c, "out/wave", x, rn_size(shape));
    for (int k = 0; k < 3; k++) {
        char rel[40];
        snprintf(rel, sizeof rel, "in.%s1", names[k]);
        x = given(c, rel, shape);
        snprintf(rel, sizeof rel, "in.%s2", names[k]);
        y = given(c, rel, other);
        if (!x || !y || rn_size(shape) != rn_size(other)) continue;
        es_augment_blend(x, y, rn_size(shape), share);
        snprintf(rel, sizeof rel, "out/%s", names[k]);
        rn_put_f32(c, rel, x, rn_size(shape));
    }
}

static void gain(struct rn_case *c) {
    int64_t shape[4], n;
    const double *draw = draws(c, "randint14", &n);
    float *x = given(c, "in.x", shape);
    if (!draw || !x || shape[0] != n) {
        missing(c);
        return;
    }
    const int64_t row = rn_size(shape) / n;
    for (int64_t i = 0; i < n; i++) es_augment_gain(x + i * row, row, (int)draw[i] - rn_int(c, "gain", 7));
    rn_put_f32(c, "out/x", x, rn_size(shape));
}

static void dir(struct rn_case *c) {
    int64_t n_h[4], n[4];
    struct es_convolve *conv = NULL;
    const float *h = given(c, "in.ir", n_h), *x = given(c, "in.wave", n);
    if (!h || !x || es_convolve_new(&conv, rn_size(n), rn_size(n_h), NULL) < 0) {
        missing(c);
        return;
    }
    float *y = floats(c, rn_size(n));
    es_convolve_run(conv, x, h, rn_size(n_h), es_augment_dir_offset(rn_size(n_h)), y,
                    floats(c, (int64_t)es_convolve_scratch(conv)));
    rn_put_f32(c, "out/wave", y, rn_size(n));
    es_convolve_free(&conv);
}

static void dir_load(struct rn_case *c) {
    int64_t shape[4], n_out;
    const float *rate_hz = given(c, "in.sample_rate", NULL), *x = given(c, "in.signal", shape);
    struct es_err err = {0};
    float *y = NULL;
    if (!rate_hz || !x) {
        missing(c);
        return;
    }
    const int64_t n = shape[1];
    float *mono = floats(c, n);
    for (int64_t i = 0; i < n; i++) { /* as es_audio_read mixes */
        for (int64_t k = 0; k < shape[0]; k++) mono[i] += x[k * n + i];
        mono[i] /= (float)shape[0];
    }
    if (es_resample_kaiser(mono, n, (int)rate_hz[0], rn_int(c, "target_rate", 16000), &y, &n_out, &err) < 0)
        rn_skip(c, "%s", err.msg);
    else
        rn_put_f32(c, "out/ir", y, n_out);
    es_free(&y);
}

void rn_case_augment(struct rn_case *c) {
    static const struct {
        const char *kind;
        rn_kind_fn run;
    } kinds[] = {{"frame_shift", frame_shift}, {"time_mask", time_mask}, {"mixstyle", mixstyle},
                 {"filt_aug", filter},         {"freq_warp", freq_warp}, {"mixup", mixup},
                 {"wavmix", wavmix},           {"gain", gain},           {"dir", dir},
                 {"dir_load", dir_load}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (rn_is(c, "kind", kinds[i].kind)) kinds[i].run(c);
}
