/* The dataset: which clips train, what a leaf holds (waveforms, crops, labels, masks, weak labels, pseudo-labels, waveform
 * mixing), what its digest sees; and the loader thread, which must give what direct reading gives, errors included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/convolve.h"
#include "earshot/dataset.h"
#include "earshot/fault.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/predictions.h"

#include "io_help.h"

#include "row_store.h"

#define K ES_N_CLASSES
#define T 156
#define N 15
#define SAMPLES ES_DATASET_SAMPLES
enum { DISHES = 3, DOG = 4, SPEECH = 8, CUTLERY = 10, PEOPLE = 12, FOOTSTEPS = 15 };

static struct es_comm *comm;
static char dir[256];

/* ---- a store: sets of 2 to 4 clips, validation and test clips between them, one short and one long clip */

static const struct row rows[N] = {
    {"m-0", ES_SUBSET_MAESTRO, 0, SAMPLES, {{0, 1, PEOPLE, 0.6f}, {2, 3, FOOTSTEPS, 0.25f}}, 2, 0},
    {"m-1", ES_SUBSET_MAESTRO, 0, 40000, {{1, 2, FOOTSTEPS, 1}}, 1, 0},
    {"m-valid", ES_SUBSET_MAESTRO, 1, SAMPLES, {{0, 0, 0, 0}}, 0, 0},
    {"Yr_10.000_20.000",
     ES_SUBSET_STRONG_REAL,
     0,
     SAMPLES,
     {{0.65, 1.29, DOG, 1}, {5, 5.1, SPEECH, 1}},
     2,
     0},
    {"r-1", ES_SUBSET_STRONG_REAL, 0, 200000, {{4, 8, DOG, 1}}, 1, 0},
    {"r-2", ES_SUBSET_STRONG_REAL, 0, SAMPLES, {{9.5, 10, DISHES, 1}}, 1, 0},
    {"s-0", ES_SUBSET_SYNTH, 0, SAMPLES, {{3, 4, DOG, 1}}, 1, 0},
    {"s-1", ES_SUBSET_SYNTH, 0, SAMPLES, {{6, 7, SPEECH, 1}}, 1, 0},
    {"w-0", ES_SUBSET_WEAK, 0, SAMPLES, {{0, 0, 0, 0}}, 0, 1u << SPEECH},
    {"w-1", ES_SUBSET_WEAK, 0, SAMPLES, {{0, 0, 0, 0}}, 0, 1u << DOG},
    {"w-valid", ES_SUBSET_WEAK, 1, SAMPLES, {{0, 0, 0, 0}}, 0, 1u << DOG},
    {"u-0", ES_SUBSET_UNLABELED, 0, SAMPLES, {{0, 0, 0, 0}}, 0, 0},
    {"u-1", ES_SUBSET_UNLABELED, 0, SAMPLES, {{0, 0, 0, 0}}, 0, 0},
    {"test", ES_SUBSET_VALIDATION, 1, SAMPLES, {{1, 2, DOG, 1}}, 1, 0},
    {"as-3", ES_SUBSET_AS_TRAIN, 0, SAMPLES, {{0.05, 0.13, 2, 1}}, 1, 0},
};

static int16_t sample(int64_t clip, int64_t i) {
    return (int16_t)(((uint32_t)clip * 7919u + (uint32_t)i * 2654435761u) >> 16);
}

static float logit(int64_t clip, int64_t t, int64_t k) {
    return (float)((clip * 31 + t * 7 + k * 3) % 41 - 20) * 0.25f;
}

/* Predictions of rows `from` to n - 1, shifted: of other content. rename: of the last row, NULL: its own; first: of class 0 */
static void write_pseudo_of(const char *path, int from, int n, int frames, float shift, const char *rename,
                            const char *first) {
    const char *class_name[K], *name[N];
    struct es_predictions_writer *w = NULL;
    struct es_err err = {0};
    float *x = es_alloc((size_t)(n * frames * K), sizeof *x, NULL);
    assert_non_null(x);
    for (int k = 0; k < K; k++) class_name[k] = es_classes[k].name;
    class_name[0] = first;
    for (int i = 0; i < n - from; i++) {
        name[i] = rename && i == n - from - 1 ? rename : rows[from + i].name;
        for (int t = 0; t < frames; t++)
            for (int k = 0; k < K; k++) x[(i * frames + t) * K + k] = logit(from + i, t, k) + shift;
    }
    n -= from;
    struct es_predictions_desc desc = {.n_clips = n,
                                       .n_frames = frames,
                                       .n_classes = K,
                                       .block_clips = n,
                                       .names = name,
                                       .classes = class_name,
                                       .which = "student"};
    assert_int_equal(es_predictions_begin_all(&w, comm, path, &desc, &err), 0);
    assert_int_equal(es_predictions_write_all(&w, 0, x, &err), 0);
    assert_int_equal(es_predictions_finish_all(&w, &err), 0);
    es_free(&x);
}

static void write_pseudo(const char *path, int n, int frames, float shift) {
    write_pseudo_of(path, 0, n, frames, shift, NULL, es_classes[0].name);
}

/* ---- one dataset at a time */

struct open {
    struct es_dataset *d;
    char store[512], pseudo[512], exclude[512];
    const char *store_list[2], *pseudo_list[1], *exclude_list[1];
    struct es_dataset_params p;
    struct es_dataset_leaf leaf;
};

static void prepare_open(struct open *o) {
    memset(o, 0, sizeof *o);
    o->store_list[0] = o->store_list[1] = help_path(o->store, dir, "a.h5");
    o->pseudo_list[0] = help_path(o->pseudo, dir, "p.h5");
    o->exclude_list[0] = help_path(o->exclude, dir, "exclude.tsv");
    o->p = (struct es_dataset_params){.n_stores = 1,
                                      .store = o->store_list,
                                      .pseudo = o->pseudo_list,
                                      .exclude = o->exclude_list,
                                      .n_frames = T,
                                      .seed = 5};
}

static int try_open(struct open *o, struct es_err *err) {
    return es_dataset_open_all(&o->d, comm, &o->p, err);
}

static void open_now(struct open *o) {
    struct es_err err = {0};
    int rc = try_open(o, &err);
    if (rc < 0) fail_msg("%s", err.msg);
    size_t n = 8, row = (size_t)es_dataset_classes(o->d) * 250;
    o->leaf =
        (struct es_dataset_leaf){.wave = es_alloc(n * SAMPLES, sizeof(float), NULL),
                                 .labels = es_alloc(n * row, sizeof(float), NULL),
                                 .weak = es_alloc(n * K, sizeof(float), NULL),
                                 .mask = es_alloc(n * K, 1, NULL),
                                 .pseudo = o->p.n_pseudo ? es_alloc(n * row, sizeof(float), NULL) : NULL,
                                 .scratch = es_alloc(SAMPLES + 3 * row, sizeof(float), NULL),
                                 .pcm = es_alloc(SAMPLES, sizeof(int16_t), NULL)};
}

static void close_now(struct open *o) {
    es_free(&o->leaf.pcm);
    es_free(&o->leaf.scratch);
    es_free(&o->leaf.pseudo);
    es_free(&o->leaf.mask);
    es_free(&o->leaf.weak);
    es_free(&o->leaf.labels);
    es_free(&o->leaf.wave);
    es_dataset_close(&o->d);
}

/* A leaf of one clip: the i-th of a set, mixed with `partner` when that is >= 0. */
static struct es_leaf_plan one(int set, int64_t i, int64_t partner, float weight) {
    struct es_leaf_plan p = {.n = 1, .clip = {i}, .partner = {partner}, .weight = {weight}};
    for (int s = set; s < ES_N_SETS; s++) p.first[s + 1] = 1;
    return p;
}

static void read_one(struct open *o, int set, int64_t i, int64_t partner, float weight) {
    struct es_leaf_plan p = one(set, i, partner, weight);
    struct es_err err = {0};
    memset(o->leaf.labels, 0xff, sizeof(float) * K * T); /* NaN: everything must be written */
    memset(o->leaf.weak, 0xff, sizeof(float) * K);
    memset(o->leaf.mask, 0xff, K);
    memset(o->leaf.wave, 0xff, sizeof(float) * SAMPLES);
    assert_int_equal(es_dataset_read_leaf(o->d, 3, &p, &o->leaf, &err), 0);
}

static uint64_t digest(struct open *o) {
    open_now(o);
    uint64_t v = es_dataset_digest(o->d);
    close_now(o);
    return v;
}

/* labels [K,T]: exactly the frames first..last-1 of the classes listed hold the value */
struct span {
    int k, first, end;
    float value;
};
static void check_labels(const float *y, const struct span *s, int n) {
    for (int k = 0; k < K; k++)
        for (int t = 0; t < T; t++) {
            float want = 0;
            for (int i = 0; i < n; i++)
                if (s[i].k == k && t >= s[i].first && t < s[i].end) want = s[i].value;
            if (y[k * T + t] != want)
                fail_msg("class %d frame %d: %g, want %g", k, t, (double)y[k * T + t], (double)want);
        }
}

/* ---- tests */

static void sets(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    open_now(&o);
    static const int64_t want[ES_N_SETS] = {2, 3, 2, 2, 2};
    assert_memory_equal(es_dataset_counts(o.d), want, sizeof want);
    assert_int_equal(es_dataset_classes(o.d), K);
    assert_int_equal(es_dataset_frames(o.d), T);
    assert_true(es_dataset_threaded(o.d) && !es_dataset_has_pseudo(o.d));
    close_now(&o);
    o.p.pretrain = true; /* one set, the other grid */
    o.p.n_frames = 250;
    open_now(&o);
    assert_int_equal(es_dataset_counts(o.d)[0], 1);
    assert_int_equal(es_dataset_counts(o.d)[1], 0);
    read_one(&o, 0, 0, -1, 1);
    for (int t = 0; t < 250; t++) /* [T,K]; 0.05 to 0.13 s in frames of 40 ms */
        for (int k = 0; k < K; k++)
            assert_true(o.leaf.labels[t * K + k] == (float)(k == 2 && t >= 1 && t < 4));
    close_now(&o);
    o.p.n_frames = T;
    struct es_err err = {0};
    help_failed(try_open(&o, &err), &err, ES_EUSAGE, "pretrain.frames", "250");
}

static void exclusion(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    uint64_t all = digest(&o);
    help_text(o.exclude, "filename\tonset\ns-1.wav\t0\nYr_10.000_20.000\t0\nw-0.flac\t1\nnot-here.wav\t1\n");
    o.p.n_exclude = 1;
    open_now(&o);
    static const int64_t want[ES_N_SETS] = {2, 2, 1, 1, 2};
    assert_memory_equal(es_dataset_counts(o.d), want, sizeof want);
    read_one(&o, ES_SET_R, 1, -1, 1); /* the rest moves up, in the store's order */
    assert_true(o.leaf.wave[1] * 32768 == (float)sample(5, 1));
    read_one(&o, ES_SET_W, 0, -1, 1);
    assert_true(o.leaf.wave[1] * 32768 == (float)sample(9, 1));
    close_now(&o);
    assert_true(digest(&o) != all);
    help_text(o.exclude, "file\tonset\ns-1.wav\t0\n");
    struct es_err err = {0};
    help_failed(try_open(&o, &err), &err, ES_EDATA, "exclude.tsv:1", "filename");
}

/* Waveform of clip id at `start`, silence behind it. */
static void check_wave(const float *x, int64_t id, int64_t start) {
    int64_t n = rows[id].samples - start < SAMPLES ? rows[id].samples - start : SAMPLES;
    for (int64_t i = 0; i < SAMPLES; i++)
        if (x[i] != (i < n ? (float)sample(id, start + i) / 32768 : 0.0f))
            fail_msg("clip %d sample %d", (int)id, (int)i);
}

static void clips(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    open_now(&o);
    /* MAESTRO: soft, people talking is Speech too; its mask */
    read_one(&o, ES_SET_M, 0, -1, 1);
    check_wave(o.leaf.wave, 0, 0);
    check_labels(o.leaf.labels,
                 (struct span[]){{PEOPLE, 0, 16, 0.6f}, {SPEECH, 0, 16, 0.6f}, {FOOTSTEPS, 31, 47, 0.25f}},
                 3);
    for (int k = 0; k < K; k++) assert_int_equal(o.leaf.mask[k], k == DISHES || k == SPEECH || k >= 10);
    /* shorter than 10 s */
    read_one(&o, ES_SET_M, 1, -1, 1);
    check_wave(o.leaf.wave, 1, 0);
    check_labels(o.leaf.labels, (struct span[]){{FOOTSTEPS, 15, 32, 1}}, 1);
    /* real strong: onset down, offset up; Speech is people talking too */
    read_one(&o, ES_SET_R, 0, -1, 1);
    check_wave(o.leaf.wave, 3, 0);
    check_labels(o.leaf.labels, (struct span[]){{DOG, 10, 21, 1}, {SPEECH, 78, 80, 1}, {PEOPLE, 78, 80, 1}},
                 3);
    for (int k = 0; k < K; k++) assert_int_equal(o.leaf.mask[k], k <= CUTLERY || k == PEOPLE);
    read_one(&o, ES_SET_R, 2, -1, 1);
    check_labels(o.leaf.labels, (struct span[]){{DISHES, 148, T, 1}, {CUTLERY, 148, T, 1}}, 2);
    read_one(&o, ES_SET_S, 1, -1, 1);
    check_wave(o.leaf.wave, 7, 0);
    /* weak: no frames, clip labels with their alias; only this set has them */
    read_one(&o, ES_SET_W, 0, -1, 1);
    check_labels(o.leaf.labels, NULL, 0);
    for (int k = 0; k < K; k++) assert_true(o.leaf.weak[k] == (float)(k == SPEECH || k == PEOPLE));
    read_one(&o, ES_SET_U, 1, -1, 1);
    check_wave(o.leaf.wave, 12, 0);
    for (int k = 0; k < K; k++)
        assert_true(o.leaf.weak[k] == 0 && o.leaf.mask[k] == (k <= CUTLERY || k == PEOPLE));
    close_now(&o);
}

/* Without aliases of DESED: its clips keep their labels and classes, those of MAESTRO are as ever. */
static void no_desed_alias(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    o.p.no_desed_alias = true;
    open_now(&o);
    read_one(&o, ES_SET_M, 0, -1, 1);
    check_labels(o.leaf.labels,
                 (struct span[]){{PEOPLE, 0, 16, 0.6f}, {SPEECH, 0, 16, 0.6f}, {FOOTSTEPS, 31, 47, 0.25f}},
                 3);
    for (int k = 0; k < K; k++) assert_int_equal(o.leaf.mask[k], k == DISHES || k == SPEECH || k >= 10);
    read_one(&o, ES_SET_R, 0, -1, 1);
    check_labels(o.leaf.labels, (struct span[]){{DOG, 10, 21, 1}, {SPEECH, 78, 80, 1}}, 2);
    for (int k = 0; k < K; k++) assert_int_equal(o.leaf.mask[k], k < CUTLERY);
    read_one(&o, ES_SET_W, 0, -1, 1);
    for (int k = 0; k < K; k++)
        assert_true(o.leaf.weak[k] == (float)(k == SPEECH) && o.leaf.mask[k] == (k < CUTLERY));
    close_now(&o);
}

/* Longer than 10 s: cut somewhere, events with it; another place in another step or leaf, the same in the same. */
static void crop(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    open_now(&o);
    int64_t at[6];
    for (int i = 0; i < 6; i++) {
        struct es_leaf_plan p = one(ES_SET_R, 1, -1, 1);
        p.leaf = i / 2;
        assert_int_equal(es_dataset_read_leaf(o.d, 3, &p, &o.leaf, NULL), 0);
        for (at[i] = 0; at[i] <= 40000; at[i]++) {
            bool here = true;
            for (int64_t s = 0; here && s < 8; s++)
                here = o.leaf.wave[s] * 32768 == (float)sample(4, at[i] + s);
            if (here) break;
        }
        assert_true(at[i] <= 40000);
        check_wave(o.leaf.wave, 4, at[i]);
        double crop_s = round((double)at[i] / 16) / 1000;
        int begin = (int)floor((4 - crop_s) / 0.064), end = (int)ceil((8 - crop_s) / 0.064);
        check_labels(o.leaf.labels, (struct span[]){{DOG, begin, end, 1}}, 1);
    }
    assert_true(at[0] == at[1] && at[2] == at[3] && at[4] == at[5] && (at[0] != at[2] || at[2] != at[4]));
    close_now(&o);
}

static void mixing(void **state) {
    (void)state;
    struct open o;
    prepare_open(&o);
    write_pseudo(o.pseudo, N, T, 0);
    o.p.n_pseudo = 1;
    open_now(&o);
    assert_true(es_dataset_has_pseudo(o.d));
    const float c = 0.7f;
    read_one(&o, ES_SET_R, 0, 2, c);
    double mean[2] = {0}, after = 0, worst = 0;
    for (int64_t i = 0; i < SAMPLES; i++) {
        mean[0] += (double)sample(3, i) / 32768 / SAMPLES;
        mean[1] += (double)sample(5, i) / 32768 / SAMPLES;
        after += (double)o.leaf.wave[i] / SAMPLES;
    }
    for (int64_t i = 0; i < SAMPLES; i++) {
        double want = (double)c * ((double)sample(3, i) / 32768 - mean[0]) +
                      (1 - (double)c) * ((double)sample(5, i) / 32768 - mean[1]);
        worst = fmax(worst, fabs((double)o.leaf.wave[i] - want));
    }
    assert_true(worst < 2e-6 && fabs(after) < 1e-7 && fabs(mean[0] - mean[1]) > 0);
    float rest = 1 - c;
    check_labels(o.leaf.labels,
                 (struct span[]){{DOG, 10, 21, c},
                                 {SPEECH, 78, 80, c},
                                 {PEOPLE, 78, 80, c},
                                 {DISHES, 148, T, rest},
                                 {CUTLERY, 148, T, rest}},
                 5);
    for (int t = 0; t < T; t++) /* probabilities, [K,T], mixed as the labels are */
        for (int k = 0; k < K; k++) {
            double a = 1 / (1 + exp(-(double)logit(3, t, k))), b = 1 / (1 + exp(-(double)logit(5, t, k)));
            assert_true(fabs((double)o.leaf.pseudo[k * T + t] - ((double)c * a + (1 - (double)c) * b)) <
                        1e-6);
        }
    read_one(&o, ES_SET_U, 1, -1, 1); /* unlabelled clips have pseudo-labels as well */
    assert_true(fabs((double)o.leaf.pseudo[5 * T + 9] - 1 / (1 + exp(-(double)logit(12, 9, 5)))) < 1e-6);
    close_now(&o);
}

/* Impulse response, then gain: files in any rate and number of channels, the wave convolved with them as defined. */
static void device(void **state) {
    (void)state;
    struct open o;
    struct es_err err = {0};
    char path[3][512];
    int16_t pcm[2 * 901];
    uint64_t none;
    prepare_open(&o);
    none = digest(&o);
    for (int i = 0; i < 2 * 901; i++) pcm[i] = (int16_t)((i * 7919 % 2001 - 1000) * exp(-i / 200.0) * 20);
    assert_int_equal(es_audio_write(help_path(path[0], dir, "mono.wav"), pcm, 300, 1, 16000, NULL), 0);
    assert_int_equal(es_audio_write(help_path(path[1], dir, "stereo.wav"), pcm, 901, 2, 44100, NULL), 0);
    help_path(path[2], dir, "none.wav");
    const char *const files[3] = {path[0], path[1], path[2]};
    o.p.dir = files;
    o.p.n_dir = 2;
    assert_true(digest(&o) != none);
    open_now(&o);
    o.leaf.convolve = es_alloc(es_dataset_convolve_floats(o.d), sizeof(float), NULL);
    assert_non_null(o.leaf.convolve);
    static double want[SAMPLES];
    static float x[SAMPLES];
    for (int k = 0; k < 2; k++) {
        float *h = NULL, *mono = NULL;
        int64_t n, n_h;
        struct es_audio_info info;
        assert_int_equal(es_audio_read(files[k], 0, -1, &mono, &n, &info, NULL), 0);
        assert_int_equal(es_resample_kaiser(mono, n, info.rate_hz, 16000, &h, &n_h, NULL), 0);
        for (int64_t i = 0; i < SAMPLES; i++) x[i] = (float)sample(3, i) / 32768;
        es_convolve_ref(x, SAMPLES, h, n_h, n_h - 1 - n_h / 2, want);
        struct es_leaf_plan p = one(ES_SET_R, 0, -1, 1);
        p.dir[0] = k;
        p.gain_db[0] = -6;
        assert_int_equal(es_dataset_read_leaf(o.d, 3, &p, &o.leaf, &err), 0);
        double worst = 0, max = 0, factor = pow(10, -0.3);
        for (int64_t i = 0; i < SAMPLES; i++) {
            worst = fmax(worst, fabs((double)o.leaf.wave[i] - factor * want[i]));
            max = fmax(max, fabs(want[i]));
        }
        if (!(max > 0.01 && worst < 2e-6 * max)) fail_msg("%d: error %g of %g", k, worst, max);
        es_free(&h);
        es_free(&mono);
    }
    struct es_leaf_plan p = one(ES_SET_R, 0, -1, 1); /* -1: as it is */
    p.dir[0] = -1;
    assert_int_equal(es_dataset_read_leaf(o.d, 3, &p, &o.leaf, &err), 0);
    assert_memory_equal(o.leaf.wave, x, sizeof x);
    es_free(&o.leaf.convolve);
    close_now(&o);
    o.p.n_dir = 3;
    help_failed(try_open(&o, &err), &err, ES_EIO, "augment.dir_files", "none.wav");
    const char *folder[1] = {dir}; /* all audio below it */
    o.p.dir = folder;
    o.p.n_dir = 1;
    open_now(&o);
    assert_int_equal(es_dataset_responses(o.d), 2);
    close_now(&o);
}

static void pseudo_files(void **state) {
    (void)state;
    struct open o;
    struct es_err err = {0};
    prepare_open(&o);
    write_pseudo(o.pseudo, N, T, 0);
    uint64_t none = digest(&o);
    o.p.n_pseudo = 1;
    uint64_t first = digest(&o), again = digest(&o);
    assert_true(first == again && first != none);
    remove(o.pseudo);
    write_pseudo(o.pseudo, N, T, 0.5f); /* the same names with other numbers: another dataset */
    assert_true(digest(&o) != first);
    remove(o.pseudo);
    write_pseudo(o.pseudo, 6, T, 0);
    help_failed(try_open(&o, &err), &err, ES_EDATA, "data.pseudo: 6 of 11 clips", "s-0 s-1 w-0 w-1 u-0 ...");
    remove(o.pseudo);
    write_pseudo(o.pseudo, N, 100, 0);
    help_failed(try_open(&o, &err), &err, ES_EDATA, "p.h5", "100 frames");
    o.p.n_pseudo = 0;
    o.p.n_stores = 2; /* twice the clips: another digest */
    open_now(&o);
    assert_int_equal(es_dataset_counts(o.d)[ES_SET_R], 6);
    assert_true(es_dataset_digest(o.d) != none);
    close_now(&o);
    o.p.n_stores = 0;
    help_failed(try_open(&o, &err), &err, ES_EUSAGE, "data.stores", "0");
}

/* The twelve files as published: a clip is served by the file of its subset, whatever the others know. */
static void published_files(void **state) {
    (void)state;
    static const struct {
        const char *file;
        int set, row;
    } files[] = {{"devtest.h5", -1, 0},
                 {"eval_public.h5", -1, 0},
                 {"external_strong_train.h5", ES_SET_R, 3},
                 {"maestro_real_dev.h5", -1, 0},
                 {"maestro_real_train.h5", ES_SET_M, 0},
                 {"strong_train.h5", -1, 0}, /* by now all of them have theirs */
                 {"synth_train.h5", ES_SET_S, 6},
                 {"synth_val.h5", -1, 0},
                 {"unlabeled_train.h5", ES_SET_U, 11},
                 {"weak_train.h5", ES_SET_W, 8},
                 {"weak_val.h5", -1, 0}};
    enum { FILES = sizeof files / sizeof *files };
    struct open o;
    struct es_err err = {0};
    char folder[512], path[600], path_synth[600];
    mkdir(help_path(folder, dir, "pseudo"), 0777);
    for (int f = 0; f < FILES; f++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[f].file);
        write_pseudo(path, N, T, (float)f);
    }
    snprintf(path, sizeof path, "%s/README", folder); /* no prediction file */
    help_text(path, "ours");
    prepare_open(&o);
    o.pseudo_list[0] = folder;
    o.p.n_pseudo = 1;
    open_now(&o);
    for (int f = 0; f < FILES; f++) {
        if (files[f].set < 0) continue;
        read_one(&o, files[f].set, 0, -1, 1);
        for (int k = 0; k < K; k += 5)
            for (int t = 0; t < T; t += 31) {
                double want = 1 / (1 + exp(-(double)(logit(files[f].row, t, k) + (float)f)));
                double got = (double)o.leaf.pseudo[k * T + t];
                if (fabs(got - want) > 1e-6) fail_msg("%s: %g, want %g", files[f].file, got, want);
            }
    }
    close_now(&o);
    snprintf(path_synth, sizeof path_synth, "%s/synth_train.h5", folder);
    remove(path_synth);
    help_failed(try_open(&o, &err), &err, ES_EDATA, "data.pseudo: 2 of 11 clips", "s-0 s-1;");
    write_pseudo_of(path_synth, 0, N, T, 0, NULL, "Bell");
    help_failed(try_open(&o, &err), &err, ES_EDATA, "synth_train.h5:/classes: class 0 is Bell",
                es_classes[0].name);
    mkdir(help_path(folder, dir, "empty"), 0777); /* folder is what o names */
    help_failed(try_open(&o, &err), &err, ES_EDATA, "empty", "no prediction files");
}

/* Pre-training: names as upstream's lookup left them, and the weights of balanced drawing. */
static void pretraining(void **state) {
    (void)state;
    static const char *const names[] = {"as-3", "as-", "as-3.mp3"};
    struct open o;
    struct es_err err = {0};
    for (int i = 0; i < 3; i++) {
        prepare_open(&o);
        o.p.pretrain = true;
        o.p.n_frames = 250;
        o.p.n_pseudo = 1;
        remove(o.pseudo);
        write_pseudo_of(o.pseudo, 13, N, 250, 0.5f, names[i], es_classes[0].name);
        open_now(&o);
        struct es_leaf_plan p = one(0, 0, -1, 1);
        assert_int_equal(es_dataset_read_leaf(o.d, 3, &p, &o.leaf, &err), 0);
        for (int t = 0; t < 250; t += 9)
            for (int k = 0; k < K; k += 4) {
                double want = 1 / (1 + exp(-(double)(logit(14, t, k) + 0.5f)));
                assert_true(fabs((double)o.leaf.pseudo[t * K + k] - want) < 1e-6);
            }
        const double *w;
        assert_int_equal(es_dataset_balance(o.d, &w, &err), 0);
        assert_true(fabs(w[0] - 3 * 1000.0 / (30 + 3)) < 1e-12); /* frames 1, 2 and 3 */
        close_now(&o);
    }
    remove(o.pseudo);
    write_pseudo_of(o.pseudo, 13, N, 250, 0.5f, "as", es_classes[0].name);
    help_failed(try_open(&o, &err), &err, ES_EDATA, "pretrain.pseudo: 1 of 1 clips", "as-3");
}

/* ---- the loader */

static struct es_plan_params plan_params(void) {
    return (struct es_plan_params){.seed = 5,
                                   .n_sets = ES_N_SETS,
                                   .size = {1, 2, 1, 1, 1},
                                   .n_clips = {2, 3, 2, 2, 2},
                                   .leaves = 1,
                                   .wavmix_p = 0.5,
                                   .wavmix_alpha = 0.2,
                                   .wavmix_set = {true, true, true},
                                   .mixup_p = 0.5,
                                   .mixup_alpha = 0.2,
                                   .mixup_joint = true};
}

static bool next(void *ctx, int64_t i, int64_t *step, int *leaf) {
    *step = i;
    *leaf = 0;
    return i < *(int *)ctx;
}

static void same_leaf(struct open *o, const struct es_leaf_plan *plan, const struct es_dataset_leaf *got,
                      int64_t step) {
    struct es_plan_params pp = plan_params();
    struct es_plan *p = NULL;
    struct es_leaf_plan want;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    es_plan_leaf(p, step, 0, &want);
    assert_memory_equal(plan, &want, sizeof want);
    assert_int_equal(es_dataset_read_leaf(o->d, step, &want, &o->leaf, NULL), 0);
    assert_memory_equal(got->wave, o->leaf.wave, (size_t)want.n * SAMPLES * sizeof(float));
    assert_memory_equal(got->labels, o->leaf.labels, (size_t)want.n * K * T * sizeof(float));
    assert_memory_equal(got->weak, o->leaf.weak, (size_t)want.n * K * sizeof(float));
    assert_memory_equal(got->mask, o->leaf.mask, (size_t)want.n * K);
    es_plan_free(&p);
}

static void loader(void **state) {
    (void)state;
    struct open o;
    struct es_plan_params pp = plan_params();
    int n = 6;
    prepare_open(&o);
    open_now(&o);
    for (int taken = 0; taken <= n; taken += 3) { /* to the end, or left in the middle */
        struct es_loader *l = NULL;
        const struct es_leaf_plan *plan;
        struct es_dataset_leaf *leaf;
        int64_t live = es_mem_live_blocks();
        assert_int_equal(es_loader_new(&l, o.d, &pp, next, &n, NULL), 0);
        for (int i = 0; i < taken; i++) {
            assert_int_equal(es_loader_get(l, &plan, &leaf, NULL), 0);
            same_leaf(&o, plan, leaf, i);
        }
        es_loader_free(&l);
        assert_int_equal(es_mem_live_blocks(), live);
    }
    close_now(&o);
}

/* The third leaf cannot be read: the two before it come, then the error, with the third get. */
static void loader_error(void **state) {
    (void)state;
    struct open o;
    struct es_plan_params pp = plan_params();
    int n = 4, reads = 0;
    prepare_open(&o);
    open_now(&o);
    struct es_plan *p = NULL;
    assert_int_equal(es_plan_new(&p, &pp, NULL), 0);
    for (int step = 0; step < 2; step++) { /* how often the first two leaves read */
        struct es_leaf_plan plan;
        es_plan_leaf(p, step, 0, &plan);
        for (int i = 0; i < plan.n; i++) reads += plan.partner[i] >= 0 ? 2 : 1;
    }
    es_plan_free(&p);
    char spec[32];
    struct es_loader *l = NULL;
    const struct es_leaf_plan *plan;
    struct es_dataset_leaf *leaf;
    struct es_err err = {0};
    snprintf(spec, sizeof spec, "read:%d", reads + 1);
    es_fault_init(spec, 0);
    assert_int_equal(es_loader_new(&l, o.d, &pp, next, &n, &err), 0);
    for (int i = 0; i < 2; i++) assert_int_equal(es_loader_get(l, &plan, &leaf, &err), 0);
    help_failed(es_loader_get(l, &plan, &leaf, &err), &err, ES_EIO, "a.h5", "injected fault");
    es_loader_free(&l);
    es_fault_init(NULL, 0);
    close_now(&o);
}

int main(int argc, char **argv) {
    struct es_err err = {0};
    char path[512];
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    help_dir(NULL, "dataset", dir);
    write_rows(comm, help_path(path, dir, "a.h5"), rows, N, sample);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets),           cmocka_unit_test(exclusion),       cmocka_unit_test(clips),
        cmocka_unit_test(crop),           cmocka_unit_test(mixing),          cmocka_unit_test(device),
        cmocka_unit_test(pseudo_files),   cmocka_unit_test(published_files), cmocka_unit_test(pretraining),
        cmocka_unit_test(no_desed_alias), cmocka_unit_test(loader),          cmocka_unit_test(loader_error)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    help_dir_end(NULL, dir);
    es_comm_fini_all(&comm);
    return failed;
}
