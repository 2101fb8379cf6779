#include "earshot/probe.h"

#include <math.h>
#include <string.h>

#include "earshot/gram.h"
#include "earshot/kernels.h"
#include "earshot/labels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/predict.h"
#include "probe_impl.h"

struct job {
    const struct es_comm *c;
    const struct es_probe_params *p;
    struct es_probe *out;
    struct probe_taps *taps;
    struct probe_clips clips;
    int K, frames, n_sets;
    const struct es_label_grid *grid;
    struct es_gram **gram; /* [sets] */
    float *path;           /* of one set after the other: [lambdas, K, d] */
    int64_t *path_at;      /* [sets] where it begins */
    float *y, *z;          /* [block * frames, K] labels; [block * frames, lambdas * K] outputs */
    int16_t *pcm;
    double *error, *errors; /* of a block: [sets, lambdas, K], [K] frames; the same from all ranks */
    float *scores;          /* rank 0: [sets, n, frames, K] of the part in work */
    int64_t n_scores;
};

/* ---- a pass over clips: the features of a block on each rank, then everybody's visit; n = 0: no block for this rank */
typedef int (*visit_fn)(struct job *j, const struct probe_list *l, int64_t first, int n, struct es_err *err);

static int load(struct job *j, const struct probe_ref *ref, int n, struct es_err *err) {
    for (int i = 0; i < n; i++) {
        float *wave = probe_taps_waves(j->taps) + (int64_t)i * ES_CLIP_SAMPLES;
        ES_TRY(es_predict_read(j->p->store[ref[i].store], ref[i].id, wave, j->pcm, err));
        ES_TRY(probe_labels(&j->clips, j->grid, &ref[i], j->y + (int64_t)i * j->frames * j->K, err));
    }
    return probe_taps_run(j->taps, n, err);
}

static int pass(struct job *j, const char *what, const struct probe_list *l, visit_fn visit,
                struct es_err *err) {
    const int64_t block = j->p->block, n_blocks = (l->n + block - 1) / block;
    const int size = es_comm_size(j->c);
    struct es_progress progress = {0};
    int rc = 0;
    es_progress_begin(&progress, what);
    for (int64_t round = 0; rc == 0 && round * size < n_blocks; round++) {
        const int64_t first = (round * size + es_comm_rank(j->c)) * block, left = l->n - first;
        const int n = (int)(left < 0 ? 0 : left < block ? left : block);
        es_watchdog_kick("probe", round);
        if (n > 0) rc = load(j, l->ref + first, n, err);
        if (rc == 0 && es_stop_requested()) rc = ES_STOPPED;
        rc = es_err_agree_all(j->c, rc, err);
        if (rc == 0) rc = visit(j, l, first, n, err);
        const int64_t done = (round + 1) * size * block;
        es_progress_update(&progress, done < l->n ? done : l->n, l->n, "clips", NULL);
    }
    es_progress_end(&progress);
    return rc;
}

/* ---- fit */

static int add_rows(struct job *j, const struct probe_list *l, int64_t first, int n, struct es_err *err) {
    (void)l;
    (void)first;
    for (int i = 0; i < j->n_sets; i++)
        ES_TRY(es_gram_add_all(j->gram[i], probe_taps_set(j->taps, i)->x, j->y, (int64_t)n * j->frames, err));
    return 0;
}

static float *path_of(const struct job *j, int set, int i_lambda) {
    return j->path + j->path_at[set] + (int64_t)i_lambda * j->K * probe_taps_set(j->taps, set)->d;
}

/* Takes the columns of the classes whose rows are in the sums now. */
static int solve(struct job *j, const bool with[FAMILIES], struct es_err *err) {
    for (int i = 0; i < j->n_sets; i++) {
        const int64_t d = probe_taps_set(j->taps, i)->d;
        if (es_gram_rows(j->gram[i]) == 0) continue;
        double *w = es_alloc((size_t)(j->K * d), sizeof *w, err);
        int rc = es_err_agree_all(j->c, w ? 0 : -ES_EIO, err);
        const double scale = rc == 0 ? es_gram_scale_all(j->gram[i]) : 0;
        for (int l = 0; rc == 0 && l < j->p->n_lambdas; l++) {
            es_watchdog_kick("probe: solve", i);
            rc = es_gram_solve_all(j->gram[i], j->p->lambda[l] * scale, 1, w, NULL, err);
            for (int k = 0; rc == 0 && k < j->K; k++)
                if (probe_fits(&j->clips, DESED, k) == with[DESED] &&
                    probe_fits(&j->clips, MAESTRO, k) == with[MAESTRO])
                    for (int64_t m = 0; m < d; m++) path_of(j, i, l)[k * d + m] = (float)w[k * d + m];
        }
        es_free(&w);
        if (rc < 0) return rc;
    }
    return 0;
}

/* The systems of probe.h, one after the other in the same sums. */
static int fit(struct job *j, struct es_err *err) {
    static const struct {
        bool reset;
        int add;
        bool with[FAMILIES];
    } steps[] = {
        {false, DESED, {true, false}}, {false, MAESTRO, {true, true}}, {true, MAESTRO, {false, true}}};
    for (int s = 0; s < (j->clips.audioset ? 1 : 3); s++) {
        for (int i = 0; steps[s].reset && i < j->n_sets; i++) es_gram_reset(j->gram[i]);
        int rc = pass(j, "probe: fit", &j->clips.part[ES_PROBE_FIT][steps[s].add], add_rows, err);
        if (rc != 0) return rc;
        ES_TRY(solve(j, steps[s].with, err));
    }
    return 0;
}

/* ---- validation: squared errors of the whole path */

static int add_errors(struct job *j, const struct probe_list *l, int64_t first, int n, struct es_err *err) {
    (void)err;
    const int L = j->p->n_lambdas, K = j->K, size = es_comm_size(j->c);
    const int64_t rows = (int64_t)n * j->frames, most = (int64_t)j->p->block * j->frames,
                  n_errors = (int64_t)j->n_sets * L * K + K;
    const int family = l == &j->clips.part[ES_PROBE_VALIDATION][MAESTRO] ? MAESTRO : DESED;
    (void)first;
    memset(j->error, 0, (size_t)n_errors * sizeof *j->error);
    for (int i = 0; n > 0 && i < j->n_sets; i++) { /* whole blocks: shapes of products never depend on n */
        const struct probe_set *s = probe_taps_set(j->taps, i);
        es_k_gemm(false, true, most, (int64_t)L * K, s->d, 1, s->x, s->d, path_of(j, i, 0), s->d, 0, j->z,
                  (int64_t)L * K);
        for (int64_t r = 0; r < rows; r++)
            for (int m = 0; m < L * K; m++) {
                const double e = (double)j->z[r * L * K + m] - (double)j->y[r * K + m % K];
                j->error[(int64_t)i * L * K + m] += e * e;
            }
    }
    for (int k = 0; k < K; k++) j->error[n_errors - K + k] = (double)rows;
    es_comm_allgather_all(j->c, j->error, (size_t)n_errors * sizeof *j->error, j->errors);
    double *sum = j->errors + (int64_t)size * n_errors; /* in order of blocks */
    for (int r = 0; r < size; r++)
        for (int64_t m = 0; m < n_errors; m++)
            if (probe_judges(&j->clips, family, (int)(m % K))) sum[m] += j->errors[r * n_errors + m];
    return 0;
}

static void choose(struct job *j) {
    const int L = j->p->n_lambdas, K = j->K;
    const double *sum = j->errors + (int64_t)es_comm_size(j->c) * ((int64_t)j->n_sets * L * K + K),
                 *rows = sum + (int64_t)j->n_sets * L * K;
    for (int i = 0; i < j->n_sets; i++) {
        struct es_probe_layer *y = &j->out->layer[i];
        y->error = (double)INFINITY;
        for (int l = 0; l < L; l++) {
            double mean = 0;
            int n = 0;
            for (int k = 0; k < K; k++) {
                if (rows[k] == 0) continue;
                mean += sum[((int64_t)i * L + l) * K + k] / rows[k];
                n++;
            }
            mean /= n;
            if (!(mean < y->error)) continue;
            y->error = mean;
            y->lambda = j->p->lambda[l];
            memcpy(y->w, path_of(j, i, l), (size_t)(K * y->n_features) * sizeof *y->w);
        }
    }
}

/* ---- scores */

static int keep_outputs(struct job *j, const struct probe_list *l, int64_t first, int n, struct es_err *err) {
    (void)err;
    const int rank = es_comm_rank(j->c), size = es_comm_size(j->c);
    const int64_t row = (int64_t)j->frames * j->K, most = (int64_t)j->p->block * j->frames;
    const int64_t first_0 = first - (int64_t)rank * j->p->block;
    for (int i = 0; i < j->n_sets; i++) {
        const struct probe_set *s = probe_taps_set(j->taps, i);
        if (n > 0)
            es_k_gemm(false, true, most, j->K, s->d, 1, s->x, s->d, j->out->layer[i].w, s->d, 0, j->z, j->K);
        if (rank > 0 && n > 0) es_comm_send(j->c, j->z, (size_t)(n * row) * sizeof *j->z, 0, i);
        for (int r = 0; rank == 0 && r < size; r++) {
            const int64_t at = first_0 + (int64_t)r * j->p->block, left = l->n - at,
                          here = left < 0             ? 0
                                 : left < j->p->block ? left
                                                      : j->p->block;
            float *to = j->scores + (i * l->n + at) * row;
            if (here == 0) continue;
            if (r == 0)
                memcpy(to, j->z, (size_t)(here * row) * sizeof *to);
            else
                es_comm_recv(j->c, to, (size_t)(here * row) * sizeof *to, r, i);
        }
    }
    return 0;
}

/* On rank 0. */
static int measure(struct job *j, int part, int family, struct es_err *err) {
    const struct probe_list *l = &j->clips.part[part][family];
    for (int i = 0; i < j->n_sets; i++)
        ES_TRY(probe_score(&j->clips, l, j->frames, j->scores + i * l->n * j->frames * j->K,
                           j->out->layer[i].name, &j->out->layer[i].score[part][family], err));
    return 0;
}

static int score(struct job *j, int part, int family, struct es_err *err) {
    const struct probe_list *l = &j->clips.part[part][family];
    if (l->n == 0) return 0;
    int rc = 0;
    if (es_comm_rank(j->c) == 0) {
        j->scores = es_alloc((size_t)(j->n_sets * l->n * j->frames * j->K), sizeof *j->scores, err);
        if (!j->scores) rc = -ES_EIO;
    }
    rc = es_err_agree_all(j->c, rc, err);
    if (rc == 0) rc = pass(j, "probe: score", l, keep_outputs, err);
    if (rc == 0 && es_comm_rank(j->c) == 0) rc = measure(j, part, family, err);
    es_free(&j->scores);
    return es_err_agree_all(j->c, rc, err);
}

/* ---- all of it */

static int set_up(struct job *j, struct es_err *err) {
    const struct es_probe_params *p = j->p;
    ES_TRY(probe_clips_new(&j->clips, p->n_stores, p->store, p->max_clips, err));
    j->K = j->out->n_classes = j->clips.K;
    for (int part = 0; part < ES_PROBE_PARTS; part++) {
        for (int f = 0; f < FAMILIES; f++) j->out->n_clips[part] += j->clips.part[part][f].n;
        if (part < ES_PROBE_TEST && j->out->n_clips[part] == 0)
            return es_err_set(err, ES_EDATA, "%s: no clips %s", es_store_path(p->store[0]),
                              part == ES_PROBE_FIT
                                  ? "with frame labels to fit on (strong_real, synth, maestro, as_train)"
                                  : "to choose lambda on (synth_validation, maestro, as_train)");
    }
    ES_TRY(probe_taps_new(&j->taps, p, err));
    j->frames = probe_taps_frames(j->taps);
    j->out->n_rows = j->out->n_clips[ES_PROBE_FIT] * j->frames;
    j->n_sets = j->out->n_layers = probe_taps_count(j->taps);
    j->grid = j->frames == es_grid_audioset.n_frames ? &es_grid_audioset : &es_grid_task4;
    if (j->frames != j->grid->n_frames)
        return es_err_set(err, ES_EDATA, "%s: %d frames, want %d or %d", p->model[0]->path, j->frames,
                          es_grid_task4.n_frames, es_grid_audioset.n_frames);
    const int64_t rows = (int64_t)p->block * j->frames,
                  n_errors = (int64_t)j->n_sets * p->n_lambdas * j->K + j->K;
    int64_t n_path = 0;
    j->gram = es_alloc((size_t)j->n_sets, sizeof(struct es_gram *), err);
    j->path_at = es_alloc((size_t)j->n_sets, sizeof *j->path_at, err);
    j->out->layer = es_alloc((size_t)j->n_sets, sizeof *j->out->layer, err);
    if (!j->gram || !j->path_at || !j->out->layer) return -ES_EIO;
    for (int i = 0; i < j->n_sets; i++) {
        const struct probe_set *s = probe_taps_set(j->taps, i);
        struct es_probe_layer *y = &j->out->layer[i];
        j->path_at[i] = n_path;
        n_path += p->n_lambdas * j->K * s->d;
        y->model = s->model;
        y->n_features = s->d;
        memcpy(y->name, s->name, sizeof y->name);
        for (int part = 0; part < ES_PROBE_PARTS; part++)
            for (int f = 0; f < FAMILIES; f++) y->score[part][f] = (double)NAN;
        y->w = es_alloc((size_t)(j->K * s->d), sizeof *y->w, err);
        if (!y->w) return -ES_EIO;
    }
    j->path = es_alloc((size_t)n_path, sizeof *j->path, err);
    j->pcm = es_alloc(ES_CLIP_SAMPLES, sizeof *j->pcm, err);
    j->y = es_alloc((size_t)(rows * j->K), sizeof *j->y, err);
    j->z = es_alloc((size_t)(rows * j->K * p->n_lambdas), sizeof *j->z, err);
    j->error = es_alloc((size_t)n_errors, sizeof *j->error, err);
    j->errors = es_alloc((size_t)(n_errors * (es_comm_size(j->c) + 1)), sizeof *j->errors, err);
    return j->path && j->pcm && j->y && j->z && j->error && j->errors ? 0 : -ES_EIO;
}

static int new_grams(struct job *j, struct es_err *err) {
    for (int i = 0; i < j->n_sets; i++) {
        struct es_gram_params gp = j->p->gram;
        gp.d = j->out->layer[i].n_features;
        gp.k = j->K;
        gp.name = j->out->layer[i].name;
        ES_TRY(es_gram_new_all(&j->gram[i], j->c, &gp, err));
        j->out->on_grid = j->out->on_grid || es_gram_on_grid(j->gram[i]);
        j->out->gram_bytes += es_gram_bytes(j->gram[i]);
    }
    return 0;
}

static int run(struct job *j, struct es_err *err) {
    int rc = fit(j, err);
    for (int i = 0; i < j->n_sets; i++) es_gram_free_all(&j->gram[i]);
    for (int f = 0; rc == 0 && f < FAMILIES; f++)
        rc = pass(j, "probe: validation", &j->clips.part[ES_PROBE_VALIDATION][f], add_errors, err);
    if (rc != 0) return rc;
    choose(j);
    for (int part = ES_PROBE_VALIDATION; rc == 0 && part < ES_PROBE_PARTS; part++)
        for (int f = 0; rc == 0 && f < FAMILIES; f++) rc = score(j, part, f, err);
    for (int i = 0; i < j->n_sets; i++)
        es_comm_bcast_all(j->c, j->out->layer[i].score, sizeof j->out->layer[i].score, 0);
    return rc;
}

int es_probe_all(struct es_probe **out, const struct es_comm *c, const struct es_probe_params *p,
                 struct es_err *err) {
    struct job j = {.c = c, .p = p};
    j.out = *out = es_alloc(1, sizeof **out, err);
    int rc = *out ? set_up(&j, err) : -ES_EIO;
    rc = es_err_agree_all(c, rc, err);
    if (rc == 0 && !p->check) rc = new_grams(&j, err);
    if (rc == 0 && !p->check) rc = run(&j, err);
    for (int i = 0; j.gram && i < j.n_sets; i++) es_gram_free_all(&j.gram[i]);
    probe_clips_free(&j.clips);
    es_free(&j.errors);
    es_free(&j.error);
    es_free(&j.z);
    es_free(&j.y);
    es_free(&j.pcm);
    es_free(&j.path);
    es_free(&j.path_at);
    es_free(&j.gram);
    probe_taps_free(&j.taps);
    if (rc != 0) es_probe_free(out);
    return rc;
}

void es_probe_free(struct es_probe **p) {
    if (!*p) return;
    for (int i = 0; (*p)->layer && i < (*p)->n_layers; i++) es_free(&(*p)->layer[i].w);
    es_free(&(*p)->layer);
    es_free(p);
}
