/* Frontends on waves, and their windows and filter banks. */
#include "earshot/frontend.h"
#include "earshot/kernels_crnn.h"
#include "earshot/mel.h"
#include "earshot/stft.h"

#include "runner.h"

/* Outputs by the beginning of their name, the first that fits. */
static const struct {
    const char *prefix;
    enum es_frontend_kind kind;
    enum { AS_IS, DB, SCALED } step;
} outputs[] = {{"atst_mel", ES_FRONTEND_ATST_MEL, AS_IS},       {"fpasst_mel", ES_FRONTEND_FPASST_MEL, AS_IS},
               {"beats_fbank", ES_FRONTEND_BEATS_FBANK, AS_IS}, {"crnn_log", ES_FRONTEND_CRNN_MEL, DB},
               {"crnn_scaled", ES_FRONTEND_CRNN_MEL, SCALED},   {"crnn_mel", ES_FRONTEND_CRNN_MEL, AS_IS}};

static double numbers(const struct rn_case *c, const char *name, const char *key, double *out, int max) {
    char full[120];
    snprintf(full, sizeof full, "%s.%s", name, key);
    return rn_list(c, full, out, max);
}

/* The band of fPaSST: from its settings, and in training from the draws. */
static void band(const struct rn_case *c, const char *name, struct es_frontend_params *p) {
    double range = 1, draw[2] = {0};
    char mode[120];
    numbers(c, name, "fmax_aug_range", &range, 1);
    snprintf(mode, sizeof mode, "%s.mode", name);
    struct es_band b = es_frontend_fpasst_band_eval((int)range);
    if (rn_is(c, mode, "train") && numbers(c, name, "draw", draw, 2) >= 2)
        b = es_frontend_fpasst_band_train((int)range, (int)draw[0], (int)draw[1]);
    p->fmin_hz = b.fmin_hz;
    p->fmax_hz = b.fmax_hz;
}

static void put_output(struct rn_case *c, const char *name, const float *wave, const int64_t shape[4]) {
    size_t k = 0;
    char key[120];
    struct es_err err = {0};
    struct es_frontend *f = NULL;
    int n_mels, n_frames;
    while (k < sizeof outputs / sizeof *outputs &&
           strncmp(name, outputs[k].prefix, strlen(outputs[k].prefix)) != 0)
        k++;
    if (k == sizeof outputs / sizeof *outputs) return;
    struct es_frontend_params p = es_frontend_params_default(outputs[k].kind);
    snprintf(key, sizeof key, "%s.batching", name);
    p.floor_per_batch = !rn_is(c, key, "one clip per call");
    if (p.kind == ES_FRONTEND_FPASST_MEL) band(c, name, &p);
    const int B = (int)shape[0];
    if (es_frontend_new(&f, p, &err) < 0 || es_frontend_shape(f, shape[1], &n_mels, &n_frames, &err) < 0) {
        rn_skip_one(c, name, err.msg);
        es_frontend_free(&f);
        return;
    }
    const int64_t n = (int64_t)B * n_mels * n_frames;
    float *out = rn_hold(c, (size_t)n, sizeof *out), *turned = NULL;
    void *scratch = rn_hold(c, 1, es_frontend_scratch(f));
    ES_ASSERT(es_frontend_run(f, B, shape[1], wave, out, scratch, &err) == 0);
    if (outputs[k].step == DB) es_frontend_crnn_log_ref(out, B, n / B, out, NULL);
    if (outputs[k].step == SCALED) { /* as the network's own kernel does it */
        turned = rn_hold(c, (size_t)n, sizeof *turned);
        es_k_crnn_log(B, n_mels, n_frames, out, turned);
        es_k_transpose(B, n_frames, n_mels, turned, out, false);
    }
    rn_put_f32(c, name, out, n);
    es_frontend_free(&f);
}

void rn_case_frontend(struct rn_case *c) {
    int64_t shape[4];
    const float *wave = rn_input(c, "wave", 0, shape);
    if (!wave) {
        rn_skip(c, "no dataset in.wave");
        return;
    }
    for (int i = 0; i < c->file->n; i++)
        if (c->file->data[i].c == c) put_output(c, c->file->data[i].rel, wave, shape);
}

/* The band that two draws give; the range is in the keys of the outputs that were made with it. */
void rn_case_frontends(struct rn_case *c) {
    const char *draws = rn_get(c, "draws");
    const double *d = draws ? rn_read64(c, draws, NULL) : NULL;
    const struct rn_table *t = &c->run->cases;
    for (int i = 0; d && i < t->n; i++) {
        const struct rn_row *r = &t->row[i];
        char name[120];
        double range = 0;
        if (strcmp(r->col[0], c->file_name) != 0 || !rn_glob("*.mode", r->col[2]) ||
            strcmp(r->col[3], "train") != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(r->col[2], "."), r->col[2]);
        if (numbers(&c->run->c[r->i_case], name, "fmax_aug_range", &range, 1) < 1) continue;
        struct es_band b = es_frontend_fpasst_band_train((int)range, (int)d[0], (int)d[1]);
        rn_put(c, "aug_fmin_fmax", (double[]){b.fmin_hz, b.fmax_hz}, 2);
        return;
    }
    rn_skip(c, "no output of the file was made in train mode");
}

static void put_window(struct rn_case *c) {
    static const struct {
        const char *name;
        enum es_window kind;
    } windows[] = {{"hann_periodic", ES_WINDOW_HANN_PERIODIC},
                   {"hann_symmetric", ES_WINDOW_HANN},
                   {"hamming_symmetric", ES_WINDOW_HAMMING},
                   {"povey", ES_WINDOW_POVEY}};
    const char *v = rn_get(c, "window");
    const size_t len = v ? strcspn(v, ":") : 0;
    for (size_t i = 0; v && v[len] && i < sizeof windows / sizeof *windows; i++) {
        if (strlen(windows[i].name) != len || strncmp(windows[i].name, v, len) != 0) continue;
        const int n = (int)strtol(v + len + 1, NULL, 10);
        float *w = rn_hold(c, (size_t)n, sizeof *w);
        es_window_fill(windows[i].kind, n, w);
        rn_put_f32(c, "window", w, n);
    }
}

static void put_bank(struct rn_case *c, const char *rel) {
    char key[200];
    double f[2];
    int64_t shape[4];
    struct es_mel *m = NULL;
    const bool bin_first = rn_is(c, "layout", "bin,mel");
    snprintf(key, sizeof key, "%s.fmin_fmax", rel);
    if (rn_list(c, key, f, 2) != 2 && rn_list(c, "fmin_fmax", f, 2) != 2) return;
    if (!rn_own(c, rel, shape)) return;
    const int n_mels = rn_int(c, "n_mels", 0), n_fft = 2 * ((int)shape[bin_first ? 0 : 1] - 1);
    const enum es_mel_kind kind = rn_is(c, "mel", "kaldi") ? ES_MEL_KALDI : ES_MEL_HTK;
    struct es_err err = {0};
    if (es_mel_new(&m, n_mels, n_fft, 16000, &err) < 0 || es_mel_fill(m, kind, f[0], f[1], &err) < 0) {
        rn_skip_one(c, rel, err.msg);
        es_mel_free(&m);
        return;
    }
    const int mel_stride = bin_first ? 1 : m->n_bins, bin_stride = bin_first ? m->n_mels : 1;
    float *x = rn_hold(c, (size_t)m->n_mels * (size_t)m->n_bins, sizeof *x);
    for (int j = 0; j < m->n_mels; j++)
        for (int k = 0; k < m->band[j].count; k++)
            x[j * mel_stride + (m->band[j].first + k) * bin_stride] = m->weight[m->band[j].at + k];
    rn_put_f32(c, rel, x, (int64_t)m->n_mels * m->n_bins);
    es_mel_free(&m);
}

void rn_case_frontend_tables(struct rn_case *c) {
    put_window(c);
    for (int i = 0; i < c->file->n; i++)
        if (c->file->data[i].c == c && rn_glob("mel*", c->file->data[i].rel))
            put_bank(c, c->file->data[i].rel);
}
