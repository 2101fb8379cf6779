/* Fourier transforms, windows, short-time spectra, mel banks: against textbook sums, by property, and spec/models.md
 * section 6. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/fft.h"
#include "earshot/mel.h"
#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/stft.h"

static const double pi = 3.14159265358979323846;

static float *floats(int64_t n) {
    float *x = es_alloc((size_t)n, sizeof *x, NULL);
    assert_non_null(x);
    return x;
}

static double *doubles(int64_t n) {
    double *x = es_alloc((size_t)n, sizeof *x, NULL);
    assert_non_null(x);
    return x;
}

static struct es_rng test_rng(void) {
    const char *text = getenv("ES_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 20241122;
    print_message("ES_TEST_SEED=%llu\n", (unsigned long long)seed);
    return es_rng_make(seed, ES_RNG_BENCH, 0, 0, 0);
}

/* Largest |a - b| over the 2-norm of b */
static double distance(const float *a, const double *b, int n) {
    double max = 0, norm = 0;
    for (int i = 0; i < n; i++) {
        max = fmax(max, fabs((double)a[i] - b[i]));
        norm += b[i] * b[i];
    }
    return norm > 0 ? max / sqrt(norm) : max;
}

static void fft_is_the_textbook_sum(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 3, 7, 31, 156, 250, 400, 512, 527, 1024, 2048};
    struct es_rng rng = test_rng();
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int n_rows = 1; n_rows <= 9; n_rows += 4) {
            const int n = sizes[s], n_out = 2 * (n / 2 + 1);
            struct es_fft *fft = NULL;
            assert_int_equal(es_fft_new(&fft, n, n_rows, NULL), 0);
            const int row = es_fft_row(fft), spec_row = es_fft_spec_row(fft);
            assert_true(row >= n && row % 16 == 0 && spec_row >= n_out && spec_row % 16 == 0);
            float *x = floats(n_rows * row), *copy = floats(n_rows * row), *spec = floats(n_rows * spec_row);
            double *row_d = doubles(n), *want = doubles(n_out);
            for (int i = 0; i < n_rows * row; i++) x[i] = (float)es_rng_normal(&rng);
            for (int i = 0; i < n_rows * spec_row; i++) spec[i] = 12345;
            memcpy(copy, x, (size_t)(n_rows * row) * sizeof *x);
            es_fft_forward(fft, x, spec);
            assert_memory_equal(copy, x, (size_t)(n_rows * row) * sizeof *x);
            for (int r = n > 600 ? n_rows - 1 : 0; r < n_rows; r++) { /* the sum is O(n^2) */
                for (int i = 0; i < n; i++) row_d[i] = (double)x[r * row + i];
                es_dft_ref(n, row_d, want);
                assert_true(distance(spec + r * spec_row, want, n_out) < 2e-7);
                for (int i = n_out; i < spec_row; i++) assert_true(spec[r * spec_row + i] == 12345);
            }
            es_free(&want);
            es_free(&row_d);
            es_free(&spec);
            es_free(&copy);
            es_free(&x);
            es_fft_free(&fft);
            assert_null(fft);
        }
}

/* The reference itself: an impulse at i gives exp(-2 pi i k / n), a cosine gives n / 2 in its bin and nothing elsewhere. */
static void textbook_sum_is_right(void **state) {
    (void)state;
    enum { N = 30 };
    double x[N] = {0}, spec[N + 2];
    x[4] = 1;
    es_dft_ref(N, x, spec);
    for (int k = 0; k <= N / 2; k++) {
        assert_true(fabs(spec[2 * k] - cos(2 * pi * 4 * k / N)) < 1e-14);
        assert_true(fabs(spec[2 * k + 1] + sin(2 * pi * 4 * k / N)) < 1e-14);
    }
    for (int i = 0; i < N; i++) x[i] = cos(2 * pi * 7 * i / N + 0.5);
    es_dft_ref(N, x, spec);
    for (int k = 0; k <= N / 2; k++) {
        double re = k == 7 ? N / 2.0 * cos(0.5) : 0, im = k == 7 ? N / 2.0 * sin(0.5) : 0;
        assert_true(fabs(spec[2 * k] - re) < 1e-12 && fabs(spec[2 * k + 1] - im) < 1e-12);
    }
}

/* Parseval, linearity, impulse, circular shift, for one frame of the length the CRNN uses. */
static void fft_properties(void **state) {
    (void)state;
    enum { N = 2048, ROWS = 5, SHIFT = 317 };
    struct es_rng rng = test_rng();
    struct es_fft *fft = NULL;
    assert_int_equal(es_fft_new(&fft, N, ROWS, NULL), 0);
    const int row = es_fft_row(fft), spec_row = es_fft_spec_row(fft);
    float *x = floats(ROWS * row), *spec = floats(ROWS * spec_row);
    float *a = x, *b = x + row, *sum = x + 2 * row, *impulse = x + 3 * row, *shifted = x + 4 * row;
    double energy = 0;
    for (int i = 0; i < N; i++) {
        a[i] = (float)es_rng_normal(&rng);
        b[i] = (float)es_rng_normal(&rng);
        sum[i] = 2 * a[i] - 3 * b[i];
        energy += (double)a[i] * (double)a[i];
    }
    impulse[SHIFT] = 1;
    for (int i = 0; i < N; i++) shifted[(i + SHIFT) % N] = a[i];
    es_fft_forward(fft, x, spec);
    const float *fa = spec, *fb = spec + spec_row, *fsum = fb + spec_row, *fi = fsum + spec_row,
                *fs = fi + spec_row;
    double parseval = 0;
    for (int k = 0; k <= N / 2; k++) {
        double re = (double)fa[2 * k], im = (double)fa[2 * k + 1], turn = -2 * pi * k * SHIFT / N;
        parseval += (k == 0 || k == N / 2 ? 1 : 2) * (re * re + im * im) / N;
        assert_true(fabs((double)fi[2 * k] - cos(turn)) < 1e-6 &&
                    fabs((double)fi[2 * k + 1] - sin(turn)) < 1e-6);
        assert_true(fabs((double)fs[2 * k] - (re * cos(turn) - im * sin(turn))) < 2e-4);
        assert_true(fabs((double)fs[2 * k + 1] - (re * sin(turn) + im * cos(turn))) < 2e-4);
        for (int c = 0; c < 2; c++)
            assert_true(fabs((double)(fsum[2 * k + c] - (2 * fa[2 * k + c] - 3 * fb[2 * k + c]))) < 5e-4);
    }
    assert_true(fabs(parseval / energy - 1) < 1e-6);
    es_free(&spec);
    es_free(&x);
    es_fft_free(&fft);
}

static void windows(void **state) {
    (void)state;
    float w[401];
    double sum = 0;
    es_window_fill(ES_WINDOW_HANN_PERIODIC, 400, w);
    for (int i = 0; i < 400; i++) sum += (double)w[i];
    assert_true(w[0] == 0 && w[200] == 1 && fabs(sum - 200) < 1e-4 && w[1] == w[399]);
    es_window_fill(ES_WINDOW_HANN, 401, w); /* symmetric over 401 = periodic over 400, and one more */
    assert_true(w[0] == 0 && w[200] == 1 && w[400] == 0 && fabs((double)w[100] - 0.5) < 1e-7);
    es_window_fill(ES_WINDOW_HAMMING, 401, w);
    assert_true(fabs((double)w[0] - 0.08) < 1e-7 && w[200] == 1 && fabs((double)w[400] - 0.08) < 1e-7);
    assert_true(fabs((double)w[100] - 0.54) < 1e-7);
    es_window_fill(ES_WINDOW_POVEY, 401, w);
    assert_true(w[0] == 0 && w[200] == 1 && w[400] == 0 && fabs((double)w[100] - pow(0.5, 0.85)) < 1e-7);
}

/* Tiles against the definition for every frame: odd hops, short windows, edges, a last tile that is not full. */
static void stft_is_its_definition(void **state) {
    (void)state;
    static const struct {
        struct es_stft_params p;
        int n_samples, n_frames;
    } cases[] = {
        {{.n_fft = 64,
          .win_samples = 64,
          .hop_samples = 16,
          .window = ES_WINDOW_HANN_PERIODIC,
          .centred = true,
          .power = 2},
         33,
         3},
        {{.n_fft = 64,
          .win_samples = 50,
          .hop_samples = 7,
          .window = ES_WINDOW_HAMMING,
          .centred = true,
          .power = 1},
         131,
         19},
        {{.n_fft = 64, .win_samples = 50, .hop_samples = 7, .window = ES_WINDOW_POVEY, .power = 2}, 50, 1},
        {{.n_fft = 64, .win_samples = 50, .hop_samples = 7, .window = ES_WINDOW_POVEY, .power = 2}, 155, 16},
        {{.n_fft = 6,
          .win_samples = 3,
          .hop_samples = 1,
          .window = ES_WINDOW_HANN,
          .centred = true,
          .power = 2},
         4,
         5},
        {{.n_fft = 400,
          .win_samples = 399,
          .hop_samples = 160,
          .window = ES_WINDOW_HANN,
          .centred = true,
          .power = 1},
         1999,
         13},
    };
    struct es_rng rng = test_rng();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const int n = cases[c].n_samples;
        struct es_stft *stft = NULL;
        assert_int_equal(es_stft_new(&stft, &cases[c].p, NULL), 0);
        int64_t n_frames;
        assert_int_equal(es_stft_frames(stft, n, &n_frames, NULL), 0);
        assert_int_equal(n_frames, cases[c].n_frames);
        const int n_bins = es_stft_bins(stft);
        float *x = floats(n), *tile = floats(n_bins * ES_STFT_ROWS + 1);
        size_t scratch_floats = es_stft_scratch(stft) / sizeof(float);
        float *scratch = floats((int64_t)scratch_floats + 1), one[1000];
        double *want = doubles(n_bins), *work = doubles(3 * cases[c].p.n_fft + 2);
        for (int i = 0; i < n; i++) x[i] = (float)es_rng_normal(&rng);
        for (int64_t t = 0; t < n_frames; t++) {
            if (t % ES_STFT_ROWS == 0) {
                tile[n_bins * ES_STFT_ROWS] = scratch[scratch_floats] = 12345;
                es_stft_tile(stft, x, n, t, tile, scratch);
                assert_true(tile[n_bins * ES_STFT_ROWS] == 12345 && scratch[scratch_floats] == 12345);
            }
            es_stft_frame_ref(stft, x, n, t, want, work);
            for (int k = 0; k < n_bins; k++) one[k] = tile[k * ES_STFT_ROWS + t % ES_STFT_ROWS];
            assert_true(distance(one, want, n_bins) < 5e-7);
        }
        for (int64_t t = n_frames; t % ES_STFT_ROWS != 0; t++)
            for (int k = 0; k < n_bins; k++) assert_true(tile[k * ES_STFT_ROWS + t % ES_STFT_ROWS] == 0);
        es_free(&work);
        es_free(&want);
        es_free(&scratch);
        es_free(&tile);
        es_free(&x);
        es_stft_free(&stft);
    }
}

/* What a frame sees at the edges, from the reflection's definition; and at the end of the signal when not centred. */
static void frames_reflect(void **state) {
    (void)state;
    const float x[] = {1, 2, 3, 4, 5}, ones[] = {1, 1, 1, 1, 1, 1}, head[] = {4, 3, 2, 1, 2, 3},
                tail[] = {4, 5, 4, 3, 2, 1};
    float out[6];
    es_frame_reflect(x, 5, -3, ones, 6, out);
    assert_memory_equal(out, head, sizeof out);
    es_frame_reflect(x, 5, 3, ones, 6, out);
    assert_memory_equal(out, tail, sizeof out);
}

static void stft_properties(void **state) {
    (void)state;
    enum { N = 16000, HOP = 160, N_FFT = 1024, BINS = N_FFT / 2 + 1 };
    const struct es_stft_params p = {.n_fft = N_FFT,
                                     .win_samples = N_FFT,
                                     .hop_samples = HOP,
                                     .window = ES_WINDOW_HANN_PERIODIC,
                                     .centred = true,
                                     .power = 2};
    struct es_rng rng = test_rng();
    struct es_stft *stft = NULL;
    assert_int_equal(es_stft_new(&stft, &p, NULL), 0);
    float *x = floats(N + HOP), *a = floats(BINS * ES_STFT_ROWS), *b = floats(BINS * ES_STFT_ROWS);
    float *scratch = floats((int64_t)(es_stft_scratch(stft) / sizeof(float))), w[N_FFT];
    for (int i = 0; i < N + HOP; i++) x[i] = (float)es_rng_normal(&rng);
    /* Shift by one hop: frame t of the shifted signal is frame t + 1, to the bit, away from the edges. */
    es_stft_tile(stft, x, N, 8, a, scratch);
    es_stft_tile(stft, x + HOP, N, 8, b, scratch);
    for (int k = 0; k < BINS; k++)
        assert_memory_equal(a + k * ES_STFT_ROWS + 1, b + k * ES_STFT_ROWS, (ES_STFT_ROWS - 1) * sizeof *a);
    /* Impulse: every bin of a frame holds the squared window at the impulse's place. */
    es_window_fill(p.window, N_FFT, w);
    memset(x, 0, N * sizeof *x);
    x[5000] = 1;
    es_stft_tile(stft, x, N, 28, a, scratch);
    for (int r = 0; r < ES_STFT_ROWS; r++) {
        int at = 5000 - (28 + r) * HOP + N_FFT / 2;
        double want = at >= 0 && at < N_FFT ? (double)w[at] * (double)w[at] : 0;
        for (int k = 0; k < BINS; k++) assert_true(fabs((double)a[k * ES_STFT_ROWS + r] - want) < 1e-6);
    }
    /* Power is quadratic, exactly so for a power of two. */
    for (int i = 0; i < N; i++) x[i] = (float)es_rng_normal(&rng);
    es_stft_tile(stft, x, N, 0, a, scratch);
    for (int i = 0; i < N; i++) x[i] *= 4;
    es_stft_tile(stft, x, N, 0, b, scratch);
    for (int i = 0; i < BINS * ES_STFT_ROWS; i++) assert_true(b[i] == 16 * a[i]);
    es_free(&scratch);
    es_free(&b);
    es_free(&a);
    es_free(&x);
    es_stft_free(&stft);
}

static void stft_frame_counts_and_errors(void **state) {
    (void)state;
    static const struct {
        int n_fft, win, hop;
        bool centred;
        int64_t n, frames; /* 0: refused */
    } cases[] = {{1024, 1024, 160, true, 160000, 1001}, {2048, 2048, 256, true, 160000, 626},
                 {512, 400, 160, true, 159999, 1000},   {512, 400, 160, false, 160000, 998},
                 {1024, 1024, 160, true, 20777, 130},   {2048, 2048, 256, true, 20777, 82},
                 {512, 400, 160, false, 20777, 128},    {1024, 1024, 160, true, 513, 4},
                 {1024, 1024, 160, true, 512, 0},       {512, 400, 160, false, 400, 1},
                 {512, 400, 160, false, 399, 0},        {512, 400, 160, true, 0, 0},
                 {512, 400, 160, true, -1, 0}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct es_stft_params p = {.n_fft = cases[c].n_fft,
                                   .win_samples = cases[c].win,
                                   .hop_samples = cases[c].hop,
                                   .centred = cases[c].centred,
                                   .power = 1};
        struct es_stft *stft = NULL;
        struct es_err err = {0};
        int64_t frames = -1;
        assert_int_equal(es_stft_new(&stft, &p, &err), 0);
        int rc = es_stft_frames(stft, cases[c].n, &frames, &err);
        assert_int_equal(rc, cases[c].frames > 0 ? 0 : -ES_EDATA);
        assert_int_equal(frames, cases[c].frames);
        if (cases[c].n == 512)
            assert_string_equal(err.msg,
                                "stft: got a signal of 512 samples, want at least 513; pad the clip");
        es_stft_free(&stft);
    }
}

static void mel_banks(void **state) {
    (void)state;
    static const struct { /* spec/models.md, section 6 */
        enum es_mel_kind kind;
        int n_mels, n_fft;
        double fmin_hz, fmax_hz, sum;
        int row, first, count;
        double weight[4];
    } cases[] = {
        {ES_MEL_KALDI, 128, 512, 0, 8000, 252.776484, 40, 27, 2, {0.486040, 0.488064}},
        {ES_MEL_KALDI, 128, 512, 20, 8000, 252.610507, 40, 28, 2, {0.522856, 0.460032}},
        {ES_MEL_HTK, 64, 1024, 60, 7800, 484.496933, 0, 4, 4, {0.086919, 0.630170, 0.832902, 0.309460}},
        {ES_MEL_HTK, 128, 2048, 0, 8000, 1012.288412, 0, 1, 3, {0.565762, 0.871021, 0.316206}},
    };
    struct es_rng rng = test_rng();
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct es_mel *m = NULL;
        assert_int_equal(es_mel_new(&m, cases[c].n_mels, cases[c].n_fft, 16000, NULL), 0);
        int64_t allocations = es_mem_allocations();
        assert_int_equal(es_mel_fill(m, cases[c].kind, 100, 4000, NULL), 0);
        assert_int_equal(es_mel_fill(m, cases[c].kind, cases[c].fmin_hz, cases[c].fmax_hz, NULL), 0);
        assert_int_equal(es_mem_allocations(), allocations);
        double sum = 0;
        for (int j = 0; j < m->n_mels; j++) {
            const struct es_mel_band *b = &m->band[j];
            assert_true(b->first >= 0 && b->count >= 0 && b->first + b->count <= m->n_bins);
            for (int i = 0; i < b->count; i++) {
                float w = m->weight[b->at + i];
                assert_true(w > 0 && w <= 1);
                sum += (double)w;
            }
        }
        print_message("bank %zu: sum %.6f\n", c, sum);
        assert_true(fabs(sum - cases[c].sum) < 2e-4); /* printed: of weights in float arithmetic */
        const struct es_mel_band *b = &m->band[cases[c].row];
        assert_int_equal(b->first, cases[c].first);
        assert_int_equal(b->count, cases[c].count);
        for (int i = 0; i < b->count; i++)
            assert_true(fabs((double)m->weight[b->at + i] - cases[c].weight[i]) < 2e-5);
        if (cases[c].kind == ES_MEL_KALDI) { /* QUIRK: empty filters, and nothing from the last bin */
            assert_int_equal(m->band[cases[c].fmin_hz > 0 ? 3 : 0].count, 0);
            assert_int_equal(m->band[127].first + m->band[127].count, 256);
        }
        /* Fast sums against the definition */
        float *spec = floats(m->n_bins * ES_STFT_ROWS), *out = floats(m->n_mels * ES_STFT_ROWS + 1), one[128];
        double *spec_d = doubles(m->n_bins), *want = doubles(m->n_mels);
        for (int i = 0; i < m->n_bins * ES_STFT_ROWS; i++) spec[i] = (float)es_rng_uniform(&rng);
        out[m->n_mels * ES_STFT_ROWS] = 12345;
        es_mel_apply(m, spec, out);
        assert_true(out[m->n_mels * ES_STFT_ROWS] == 12345);
        for (int r = 0; r < ES_STFT_ROWS; r++) {
            for (int k = 0; k < m->n_bins; k++) spec_d[k] = (double)spec[k * ES_STFT_ROWS + r];
            es_mel_apply_ref(m, spec_d, want);
            for (int j = 0; j < m->n_mels; j++) {
                one[j] = out[j * ES_STFT_ROWS + r];
                assert_true(fabs((double)one[j] - want[j]) <=
                            2e-6 * want[j]); /* positive terms: a relative bound */
            }
        }
        es_free(&want);
        es_free(&spec_d);
        es_free(&out);
        es_free(&spec);
        es_mel_free(&m);
    }
}

static void mel_errors(void **state) {
    (void)state;
    static const double bands[][2] = {{-1, 8000},   {0, 8001},        {4000, 4000},
                                      {5000, 4000}, {0, (double)NAN}, {(double)NAN, 8000}};
    struct es_mel *m = NULL;
    assert_int_equal(es_mel_new(&m, 128, 512, 16000, NULL), 0);
    for (size_t i = 0; i < sizeof bands / sizeof *bands; i++) {
        struct es_err err = {0};
        assert_int_equal(es_mel_fill(m, ES_MEL_KALDI, bands[i][0], bands[i][1], &err), -ES_EUSAGE);
        assert_non_null(strstr(err.msg, "want 0 <= fmin < fmax <= 8000 Hz"));
    }
    es_mel_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fft_is_the_textbook_sum),
        cmocka_unit_test(textbook_sum_is_right),
        cmocka_unit_test(fft_properties),
        cmocka_unit_test(windows),
        cmocka_unit_test(stft_is_its_definition),
        cmocka_unit_test(frames_reflect),
        cmocka_unit_test(stft_properties),
        cmocka_unit_test(stft_frame_counts_and_errors),
        cmocka_unit_test(mel_banks),
        cmocka_unit_test(mel_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
