/* Frontends against the public code's numbers: tests/data/frontends_small.h5 (always) and the shared golden
 * files frontends.h5 and frontend_tables.h5 (when there). Tolerances: golden/models/tolerances.tsv of the
 * shared data. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/frontend.h"
#include "earshot/mel.h"
#include "earshot/stft.h"
#include "golden/h5.h"

/* Steps after the frontend itself */
enum step { AS_IS, CRNN_DB, CRNN_SCALED, ONE_BY_ONE };

/* Band 0, 0: the kind's default. Two tolerances: group "real", others; each p99.9 and maximum of the
 * difference. */
static const struct {
    const char *dataset;
    enum es_frontend_kind kind;
    double fmin_hz, fmax_hz;
    enum step step;
    struct {
        double p999, max;
    } real, other;
} cases[] = {
    {"crnn_mel", ES_FRONTEND_CRNN_MEL, 0, 0, AS_IS, {2e-3, 2e-3}, {1e-2, 5e-2}},
    {"crnn_log", ES_FRONTEND_CRNN_MEL, 0, 0, CRNN_DB, {1e-3, 1e-3}, {1e-2, 5e-2}},
    {"crnn_scaled", ES_FRONTEND_CRNN_MEL, 0, 0, CRNN_SCALED, {3e-5, 3e-5}, {2e-4, 1e-3}},
    {"atst_mel", ES_FRONTEND_ATST_MEL, 0, 0, AS_IS, {3e-5, 3e-5}, {2e-5, 6e-5}},
    {"atst_mel_one_by_one", ES_FRONTEND_ATST_MEL, 0, 0, ONE_BY_ONE, {3e-5, 3e-5}, {2e-5, 6e-5}},
    {"fpasst_mel", ES_FRONTEND_FPASST_MEL, 0, 8000, AS_IS, {3e-4, 3e-4}, {2e-3, 1e-2}},
    {"fpasst_mel_fmaxaug2000", ES_FRONTEND_FPASST_MEL, 0, 7000, AS_IS, {3e-4, 3e-4}, {2e-3, 1e-2}},
    {"fpasst_mel_stage2default", ES_FRONTEND_FPASST_MEL, 0, 7500, AS_IS, {3e-4, 3e-4}, {2e-3, 1e-2}},
    {"fpasst_mel_train_draws", ES_FRONTEND_FPASST_MEL, 0, 7569, AS_IS, {3e-4, 3e-4}, {2e-3, 1e-2}},
    {"beats_fbank", ES_FRONTEND_BEATS_FBANK, 0, 0, AS_IS, {3e-4, 3e-4}, {3e-2, 0.6}},
};
#define N_CASES (sizeof cases / sizeof *cases)

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorted |a - r|; NaN counts as infinite. */
static double *differences(const float *a, const float *r, int64_t n) {
    double *d = es_alloc((size_t)n, sizeof *d, NULL);
    assert_non_null(d);
    for (int64_t i = 0; i < n; i++) {
        d[i] = fabs((double)a[i] - (double)r[i]);
        if (!(d[i] >= 0)) d[i] = HUGE_VAL;
    }
    qsort(d, (size_t)n, sizeof *d, by_value);
    return d;
}

static int64_t volume(const int64_t shape[4]) {
    return shape[0] * shape[1] * shape[2] * shape[3];
}

static void check_case(const char *file, const char *group, size_t c) {
    char path[128];
    int64_t wave_shape[4], shape[4];
    snprintf(path, sizeof path, "%s/wave", group);
    float *wave = es_test_h5_read_f32(file, path, wave_shape, NULL);
    snprintf(path, sizeof path, "%s/%s", group, cases[c].dataset);
    float *want = es_test_h5_read_f32(file, path, shape, NULL);
    assert_true(wave && want);
    struct es_frontend_params p = es_frontend_params_default(cases[c].kind);
    p.floor_per_batch = cases[c].step != ONE_BY_ONE;
    if (cases[c].fmax_hz > 0) {
        p.fmin_hz = cases[c].fmin_hz;
        p.fmax_hz = cases[c].fmax_hz;
    }
    struct es_frontend *f = NULL;
    struct es_err err = {0};
    if (es_frontend_new(&f, p, &err) < 0) fail_msg("%s", err.msg);
    int n_mels, n_frames, n_clips = (int)wave_shape[0];
    assert_int_equal(es_frontend_shape(f, wave_shape[1], &n_mels, &n_frames, &err), 0);
    assert_true(shape[0] == n_clips && shape[1] == 1 && shape[2] == n_mels && shape[3] == n_frames);
    int64_t n = volume(shape);
    float *got = es_alloc((size_t)n, sizeof *got, NULL);
    void *scratch = es_alloc(1, es_frontend_scratch(f), NULL);
    assert_true(got && scratch);
    assert_int_equal(es_frontend_run(f, n_clips, wave_shape[1], wave, got, scratch, &err), 0);
    if (cases[c].step == CRNN_DB) es_frontend_crnn_log_ref(got, n_clips, n / n_clips, got, NULL);
    if (cases[c].step == CRNN_SCALED) es_frontend_crnn_log_ref(got, n_clips, n / n_clips, NULL, got);
    double *d = differences(got, want, n), p999 = d[(int64_t)floor(0.999 * (double)n)], max = d[n - 1];
    int real = strcmp(group, "real") == 0;
    double p999_most = real ? cases[c].real.p999 : cases[c].other.p999,
           max_most = real ? cases[c].real.max : cases[c].other.max;
    print_message("%s/%s: p99.9 %.2g of %.2g, max %.2g of %.2g\n", group, cases[c].dataset, p999, p999_most,
                  max, max_most);
    assert_true(p999 <= p999_most && max <= max_most);
    es_free(&d);
    es_free(&scratch);
    es_free(&got);
    es_frontend_free(&f);
    es_free(&want);
    es_free(&wave);
}

/* Every case the file has, in every group; returns their number. */
static int check_file(const char *file) {
    static const char *const groups[] = {"short", "synth", "real", "batch"};
    int done = 0;
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        for (size_t c = 0; c < N_CASES; c++) {
            char path[128];
            snprintf(path, sizeof path, "%s/%s", groups[g], cases[c].dataset);
            if (!es_test_h5_has(file, path)) continue;
            check_case(file, groups[g], c);
            done++;
        }
    return done;
}

static void small_file(void **state) {
    (void)state;
    int64_t before = es_mem_live_blocks();
    assert_int_equal(check_file(ES_TEST_DATA "/frontends_small.h5"), 13);
    assert_int_equal(es_mem_live_blocks(), before);
}

static void shared_file(void **state) {
    (void)state;
    char file[512];
    if (!es_test_shared("golden/models/frontends.h5", file, sizeof file)) skip();
    assert_int_equal(check_file(file), 28);
    int32_t *draws = es_test_h5_read_i32(file, "aug_draws", NULL, NULL);
    double *band = es_test_h5_read_f64(file, "aug_fmin_fmax", NULL, NULL);
    assert_true(draws && band);
    struct es_band b = es_frontend_fpasst_band_train(2000, draws[0], draws[1]);
    assert_true(b.fmin_hz == band[0] && b.fmax_hz == band[1]);
    es_free(&band);
    es_free(&draws);
}

static void check_table(const char *path, const float *got, const float *want, int64_t n) {
    double *d = differences(got, want, n);
    print_message("%s: max %.2g of 3e-05\n", path, d[n - 1]);
    assert_true(d[n - 1] <= 3e-5);
    es_free(&d);
}

static void shared_tables(void **state) {
    (void)state;
    static const struct {
        const char *path;
        enum es_window kind;
        int n;
    } windows[] = {{"atst/window", ES_WINDOW_HANN_PERIODIC, 1024},
                   {"crnn/window", ES_WINDOW_HAMMING, 2048},
                   {"fpasst/window", ES_WINDOW_HANN_PERIODIC, 400},
                   {"beats/window", ES_WINDOW_POVEY, 400}};
    static const struct {
        const char *path;
        enum es_mel_kind kind;
        int n_mels, n_fft;
        double fmin_hz, fmax_hz;
        int bin_first; /* stored as [bin, mel] */
    } banks[] = {{"atst/mel_fb", ES_MEL_HTK, 64, 1024, 60, 7800, 1},
                 {"crnn/mel_fb", ES_MEL_HTK, 128, 2048, 0, 8000, 1},
                 {"fpasst/mel_banks_0_7000", ES_MEL_KALDI, 128, 512, 0, 7000, 0},
                 {"fpasst/mel_banks_0_7500", ES_MEL_KALDI, 128, 512, 0, 7500, 0},
                 {"fpasst/mel_banks_0_8000", ES_MEL_KALDI, 128, 512, 0, 8000, 0},
                 {"fpasst/mel_banks_train_draws", ES_MEL_KALDI, 128, 512, 0, 7569, 0},
                 {"beats/mel_banks", ES_MEL_KALDI, 128, 512, 20, 8000, 0}};
    char file[512];
    if (!es_test_shared("golden/models/frontend_tables.h5", file, sizeof file)) skip();
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        int64_t shape[4];
        float *want = es_test_h5_read_f32(file, windows[i].path, shape, NULL);
        float *got = es_alloc((size_t)windows[i].n, sizeof *got, NULL);
        assert_true(want && got && shape[0] == windows[i].n);
        es_window_fill(windows[i].kind, windows[i].n, got);
        check_table(windows[i].path, got, want, windows[i].n);
        es_free(&got);
        es_free(&want);
    }
    for (size_t i = 0; i < sizeof banks / sizeof *banks; i++) {
        int64_t shape[4];
        float *want = es_test_h5_read_f32(file, banks[i].path, shape, NULL);
        struct es_mel *m = NULL;
        assert_int_equal(es_mel_new(&m, banks[i].n_mels, banks[i].n_fft, 16000, NULL), 0);
        assert_int_equal(es_mel_fill(m, banks[i].kind, banks[i].fmin_hz, banks[i].fmax_hz, NULL), 0);
        int mel_stride = banks[i].bin_first ? 1 : m->n_bins, bin_stride = banks[i].bin_first ? m->n_mels : 1;
        assert_true(want && volume(shape) == (int64_t)m->n_mels * m->n_bins);
        float *got = es_alloc((size_t)m->n_mels * (size_t)m->n_bins, sizeof *got, NULL);
        assert_non_null(got);
        for (int j = 0; j < m->n_mels; j++)
            for (int k = 0; k < m->band[j].count; k++)
                got[j * mel_stride + (m->band[j].first + k) * bin_stride] = m->weight[m->band[j].at + k];
        check_table(banks[i].path, got, want, volume(shape));
        es_free(&got);
        es_mel_free(&m);
        es_free(&want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_file), cmocka_unit_test(shared_file),
                                       cmocka_unit_test(shared_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
