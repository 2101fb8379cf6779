/* Frontends: the deterministic clip of spec/models.md section 6, silence, batches, threads, errors. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/fault.h"
#include "earshot/frontend.h"
#include "earshot/mel.h"
#include "earshot/mem.h"
#include "earshot/stft.h"

enum { N = 160000 };

/* The generator of section 6. */
static double u(uint32_t i, uint32_t t) {
    uint32_t h = 2654435761u * i + 97787u * t + 12345u;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    h ^= h >> 16;
    return h / 4294967296.0 - 0.5;
}

static float *signal_6(void) {
    float *x = es_alloc(N, sizeof *x, NULL);
    assert_non_null(x);
    const double turn = 2 * 3.14159265358979323846 / 16000;
    for (int n = 0; n < N; n++) {
        double env = n >= 32000 && n < 96000 ? 1 : 0.01;
        x[n] = (float)(env * (0.3 * sin(turn * 440 * n) + 0.2 * sin(turn * 3000 * n)) +
                       0.002 * u((uint32_t)n, 0));
    }
    return x;
}

static bool near(double got, double want, double tolerance) {
    bool ok = fabs(got - want) <= tolerance;
    if (!ok) print_message("got %.8f, want %.8f within %g\n", got, want, tolerance);
    return ok;
}

static void generator(void **state) {
    (void)state;
    assert_true(near(u(0, 0), -0.264544853, 5e-10) && near(u(1, 0), -0.196727102, 5e-10));
    assert_true(near(u(5, 7), 0.076161413, 5e-10) && near(u(1000000, 139), 0.419022232, 5e-10));
    float *x = signal_6();
    double sum = 0;
    for (int n = 0; n < N; n++) sum += (double)x[n];
    assert_true(near((double)x[0], -0.00052909, 5e-9) && near((double)x[1], 0.00197009, 5e-9));
    assert_true(near((double)x[40000], -0.00078266, 5e-9) && near((double)x[159999], -0.00263912, 5e-9));
    assert_true(near(sum, -0.2045865, 5e-7));
    es_free(&x);
}

/* Runs params on a batch; the caller frees. */
static float *run(struct es_frontend_params p, int n_clips, int64_t n_samples, const float *wave, int *n_mels,
                  int *n_frames) {
    struct es_frontend *f = NULL;
    struct es_err err = {0};
    assert_int_equal(es_frontend_new(&f, p, &err), 0);
    assert_int_equal(es_frontend_shape(f, n_samples, n_mels, n_frames, &err), 0);
    size_t n = (size_t)(n_clips * *n_mels * *n_frames), bytes = es_frontend_scratch(f);
    float *out = es_alloc(n + 1, sizeof *out, NULL);
    char *scratch = es_alloc(1, bytes + 1, NULL);
    assert_true(out && scratch);
    out[n] = 12345;
    memset(scratch, 0xff, bytes); /* NaN: whoever reads what nobody wrote shows it */
    scratch[bytes] = 7;
    int64_t allocations = es_mem_allocations();
    if (es_frontend_run(f, n_clips, n_samples, wave, out, scratch, &err) < 0) fail_msg("%s", err.msg);
    assert_int_equal(es_mem_allocations(), allocations);
    assert_true(out[n] == 12345 && scratch[bytes] == 7);
    es_free(&scratch);
    es_frontend_free(&f);
    return out;
}

struct point {
    int mel, frame;
    double value;
};
struct golden { /* a row of section 6's table; digits as printed there */
    double mean, std, min, max;
    struct point point[4];
    double tolerance;
};

static void check_golden(const float *y, int n_mels, int n_frames, const struct golden *g) {
    const int n = n_mels * n_frames;
    double sum = 0, square = 0, min = HUGE_VAL, max = -HUGE_VAL;
    for (int i = 0; i < n; i++) {
        sum += (double)y[i];
        min = fmin(min, (double)y[i]);
        max = fmax(max, (double)y[i]);
    }
    for (int i = 0; i < n; i++) square += ((double)y[i] - sum / n) * ((double)y[i] - sum / n);
    const double digit = 1e-6 * fmax(1, g->max / 10), point_digit = 6e-6;
    assert_true(near(sum / n, g->mean, digit + 0.1 * g->tolerance));
    assert_true(near(sqrt(square / n), g->std, 2 * digit + 0.1 * g->tolerance));
    assert_true(near(min, g->min, digit + g->tolerance) && near(max, g->max, digit + g->tolerance));
    for (int i = 0; i < 4; i++)
        assert_true(near((double)y[g->point[i].mel * n_frames + g->point[i].frame], g->point[i].value,
                         point_digit + g->tolerance));
}

static void golden_clip(void **state) {
    (void)state;
    static const struct {
        enum es_frontend_kind kind;
        double fmax_hz;
        int n_mels, n_frames;
        struct golden golden;
    } rows[] = {
        {ES_FRONTEND_ATST_MEL,
         7800,
         64,
         1001,
         {-0.201935,
          0.197608,
          -0.414749,
          0.812882,
          {{0, 0, -0.20918}, {10, 500, 0.81282}, {63, 1000, -0.15666}, {20, 300, -0.21020}},
          3e-5}},
        {ES_FRONTEND_FPASST_MEL,
         8000,
         128,
         1000,
         {-1.048824,
          0.739608,
          -2.323619,
          2.183235,
          {{0, 0, -2.32362}, {10, 500, -1.99264}, {127, 999, -0.40776}, {60, 300, -1.03178}},
          5e-4}},
        {ES_FRONTEND_FPASST_MEL,
         7500,
         128,
         1000,
         {-1.069583,
          0.740535,
          -2.323619,
          2.173813,
          {{0, 0, -2.32362}, {10, 500, -1.87618}, {127, 999, -0.43949}, {60, 300, -1.26063}},
          5e-4}},
        {ES_FRONTEND_FPASST_MEL,
         7000,
         128,
         1000,
         {-1.091295,
          0.740819,
          -2.323619,
          2.147013,
          {{0, 0, -2.32362}, {10, 500, -1.79602}, {127, 999, -0.46242}, {60, 300, -1.31273}},
          5e-4}},
        {ES_FRONTEND_BEATS_FBANK,
         8000,
         128,
         998,
         {-0.335322,
          0.341721,
          -2.391693,
          0.903588,
          {{0, 0, -0.94337}, {10, 500, -0.29165}, {127, 997, -0.18029}, {60, 300, -0.41900}},
          2e-4}},
        {ES_FRONTEND_CRNN_MEL,
         8000,
         128,
         626,
         {1.972488,
          16.58246,
          0.006090,
          245.6158,
          {{0, 0, 0.11206}, {10, 300, 0.23300}, {127, 625, 0.28750}, {60, 200, 0.41365}},
          2e-3}},
    };
    static const struct golden db = {
        -14.418899,
        11.454873,
        -44.307743,
        47.805130,
        {{0, 0, -19.01088}, {10, 300, -12.65305}, {127, 625, -10.82737}, {60, 200, -7.66734}},
        3e-3};
    static const struct golden scaled = {
        -0.351039,
        0.248714,
        -1,
        1,
        {{0, 0, -0.45074}, {10, 300, -0.31270}, {127, 625, -0.27306}, {60, 200, -0.20445}},
        2e-5};
    float *x = signal_6();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int n_mels, n_frames;
        struct es_frontend_params p = es_frontend_params_default(rows[i].kind);
        print_message("%s to %g Hz\n", es_frontend_name(p.kind), rows[i].fmax_hz);
        p.fmax_hz = rows[i].fmax_hz;
        float *y = run(p, 1, N, x, &n_mels, &n_frames);
        assert_true(n_mels == rows[i].n_mels && n_frames == rows[i].n_frames);
        check_golden(y, n_mels, n_frames, &rows[i].golden);
        if (p.kind == ES_FRONTEND_CRNN_MEL) {
            float *z = es_alloc((size_t)(n_mels * n_frames), sizeof *z, NULL);
            assert_non_null(z);
            es_frontend_crnn_log_ref(y, 1, n_mels * n_frames, z, y);
            check_golden(z, n_mels, n_frames, &db);
            check_golden(y, n_mels, n_frames, &scaled);
            es_free(&z);
        }
        es_free(&y);
    }
    es_free(&x);
}

/* ATST: the floor of a batch moves a quiet clip; the floor of a clip does not. */
static void atst_floor(void **state) {
    (void)state;
    static const struct golden alone = {
        -0.201935,
        0.197608,
        -0.414749,
        0.812882,
        {{0, 0, -0.20918}, {10, 500, 0.81282}, {63, 1000, -0.15666}, {20, 300, -0.21020}},
        3e-5};
    static const struct golden beside = {
        -0.190148,
        0.190025,
        -0.284894,
        0.812882,
        {{0, 0, -0.20918}, {10, 500, 0.81282}, {63, 1000, -0.15666}, {20, 300, -0.21020}},
        3e-5};
    float *x = signal_6(), *pair = es_alloc(2 * N, sizeof *pair, NULL);
    assert_non_null(pair);
    for (int n = 0; n < N; n++) {
        pair[n] = x[n];
        pair[N + n] = fminf(fmaxf(3 * x[n], -1), 1);
    }
    struct es_frontend_params p = es_frontend_params_default(ES_FRONTEND_ATST_MEL);
    int n_mels, n_frames;
    assert_false(p.floor_per_batch);
    float *per_clip = run(p, 2, N, pair, &n_mels, &n_frames), *single = run(p, 1, N, x, &n_mels, &n_frames);
    p.floor_per_batch = true;
    float *per_batch = run(p, 2, N, pair, &n_mels, &n_frames),
          *batch_of_1 = run(p, 1, N, x, &n_mels, &n_frames);
    size_t bytes = (size_t)(n_mels * n_frames) * sizeof(float);
    check_golden(per_clip, n_mels, n_frames, &alone);
    check_golden(per_batch, n_mels, n_frames, &beside);
    assert_memory_equal(per_clip, single, bytes);
    assert_memory_equal(batch_of_1, single, bytes);
    assert_memory_equal(per_clip + n_mels * n_frames, per_batch + n_mels * n_frames,
                        bytes); /* the loud one */
    es_free(&batch_of_1);
    es_free(&per_batch);
    es_free(&single);
    es_free(&per_clip);
    es_free(&pair);
    es_free(&x);
}

static void silence(void **state) {
    (void)state;
    static const double want[] = {[ES_FRONTEND_CRNN_MEL] = 0,
                                  [ES_FRONTEND_ATST_MEL] = -0.545037,
                                  [ES_FRONTEND_FPASST_MEL] = -2.323619,
                                  [ES_FRONTEND_BEATS_FBANK] = -2.391693};
    float *x = es_alloc(N, sizeof *x, NULL);
    assert_non_null(x);
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++) {
        int n_mels, n_frames;
        float *y = run(es_frontend_params_default((enum es_frontend_kind)k), 1, N, x, &n_mels, &n_frames);
        for (int i = 0; i < n_mels * n_frames; i++) assert_true(fabs((double)y[i] - want[k]) < 6e-7);
        if (k == ES_FRONTEND_CRNN_MEL) {
            es_frontend_crnn_log_ref(y, 1, n_mels * n_frames, NULL, y);
            for (int i = 0; i < n_mels * n_frames; i++) assert_true(y[i] == -1);
        }
        es_free(&y);
    }
    es_free(&x);
}

/* Logarithms over the whole range, by loudness: tiles against double arithmetic on the same definition. */
static void log_range(void **state) {
    (void)state;
    enum { SAMPLES = 4100, BINS = 513, MELS = 64 };
    const struct es_stft_params sp = {.n_fft = 1024,
                                      .win_samples = 1024,
                                      .hop_samples = 160,
                                      .window = ES_WINDOW_HANN_PERIODIC,
                                      .centred = true,
                                      .power = 2};
    struct es_stft *stft = NULL;
    struct es_mel *mel = NULL;
    assert_int_equal(es_stft_new(&stft, &sp, NULL), 0);
    assert_int_equal(es_mel_new(&mel, MELS, 1024, 16000, NULL), 0);
    assert_int_equal(es_mel_fill(mel, ES_MEL_HTK, 60, 7800, NULL), 0);
    float x[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) /* from below the floor to full scale */
        x[i] = (float)(2 * u((uint32_t)i, 1) * pow(10, -7 + 7.0 * i / SAMPLES));
    int n_mels, n_frames;
    float *y = run(es_frontend_params_default(ES_FRONTEND_ATST_MEL), 1, SAMPLES, x, &n_mels, &n_frames);
    double *spec = es_alloc(BINS, sizeof *spec, NULL), *work = es_alloc(3 * 1024 + 2, sizeof *work, NULL),
           *db = es_alloc((size_t)(MELS * n_frames), sizeof *db, NULL), top = -HUGE_VAL;
    assert_true(spec && work && db);
    for (int t = 0; t < n_frames; t++) {
        double power[MELS];
        es_stft_frame_ref(stft, x, SAMPLES, t, spec, work);
        es_mel_apply_ref(mel, spec, power);
        for (int j = 0; j < MELS; j++) {
            db[j * n_frames + t] = 10 * log10(fmax(power[j], 1e-10));
            top = fmax(top, db[j * n_frames + t]);
        }
    }
    for (int i = 0; i < MELS * n_frames; i++) {
        double d = fmin(fmax(fmax(db[i], top - 80), -50), 80),
               want = (d + 79.6482) / (50.6842 + 79.6482) * 2 - 1;
        assert_true(near((double)y[i], want, 1e-6));
    }
    es_free(&db);
    es_free(&work);
    es_free(&spec);
    es_free(&y);
    es_mel_free(&mel);
    es_stft_free(&stft);
}

/* A clip has the same bits alone, anywhere in a batch (odd length: at any alignment), and with any number of threads. */
static void same_bits_anywhere(void **state) {
    (void)state;
    enum { B = 5, SAMPLES = 20777 };
    float *x = es_alloc(B * SAMPLES, sizeof *x, NULL);
    assert_non_null(x);
    for (int i = 0; i < B * SAMPLES; i++) x[i] = (float)u((uint32_t)i, 3);
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++) {
        struct es_frontend_params p = es_frontend_params_default((enum es_frontend_kind)k);
        int n_mels, n_frames;
        p.n_threads = 1;
        float *want = run(p, B, SAMPLES, x, &n_mels, &n_frames);
        int n = n_mels * n_frames;
        for (p.n_threads = 2; p.n_threads <= 3; p.n_threads++) {
            float *y = run(p, B, SAMPLES, x, &n_mels, &n_frames);
            assert_memory_equal(y, want, (size_t)(B * n) * sizeof *y);
            es_free(&y);
        }
        for (int b = 0; b < B; b++) {
            float *y = run(p, 1, SAMPLES, x + b * SAMPLES, &n_mels, &n_frames);
            assert_memory_equal(y, want + b * n, (size_t)n * sizeof *y);
            es_free(&y);
        }
        es_free(&want);
    }
    es_free(&x);
}

/* One hop later, one frame earlier (fPaSST and BEATs: to the bit; all kinds, away from the edges). */
static void shift_by_a_hop(void **state) {
    (void)state;
    enum { SAMPLES = 24000 };
    static const int hop[] = {[ES_FRONTEND_CRNN_MEL] = 256,
                              [ES_FRONTEND_ATST_MEL] = 160,
                              [ES_FRONTEND_FPASST_MEL] = 160,
                              [ES_FRONTEND_BEATS_FBANK] = 160};
    float *x = es_alloc(SAMPLES + 256, sizeof *x, NULL);
    assert_non_null(x);
    for (int i = 0; i < SAMPLES + 256; i++) x[i] = (float)u((uint32_t)i, 4);
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++) {
        struct es_frontend_params p = es_frontend_params_default((enum es_frontend_kind)k);
        int n_mels, n_frames;
        float *a = run(p, 1, SAMPLES, x, &n_mels, &n_frames),
              *b = run(p, 1, SAMPLES, x + hop[k], &n_mels, &n_frames);
        for (int j = 0; j < n_mels; j++)
            assert_memory_equal(a + j * n_frames + 9, b + j * n_frames + 8,
                                (size_t)(n_frames - 18) * sizeof *a);
        es_free(&b);
        es_free(&a);
    }
    es_free(&x);
}

static void fpasst_bands(void **state) {
    (void)state;
    assert_true(es_frontend_fpasst_band_eval(1).fmax_hz == 8000 &&
                es_frontend_fpasst_band_eval(1000).fmax_hz == 7500);
    struct es_band b = es_frontend_fpasst_band_eval(2000);
    assert_true(b.fmin_hz == 0 && b.fmax_hz == 7000);
    b = es_frontend_fpasst_band_train(2000, 0, 0);
    assert_true(b.fmin_hz == 0 && b.fmax_hz == 8000);
    b = es_frontend_fpasst_band_train(2000, 9, 1999);
    assert_true(b.fmin_hz == 9 && b.fmax_hz == 6001);
    /* set_band equals an object made with that band, allocates nothing, and refuses what new refuses */
    struct es_frontend_params p = es_frontend_params_default(ES_FRONTEND_FPASST_MEL);
    struct es_frontend *f = NULL;
    float x[4000];
    int n_mels, n_frames;
    for (int i = 0; i < 4000; i++) x[i] = (float)u((uint32_t)i, 5);
    assert_int_equal(es_frontend_new(&f, p, NULL), 0);
    p.fmin_hz = 9;
    p.fmax_hz = 6001;
    float *want = run(p, 1, 4000, x, &n_mels, &n_frames),
          *y = es_alloc((size_t)(n_mels * n_frames), sizeof *y, NULL);
    void *scratch = es_alloc(1, es_frontend_scratch(f), NULL);
    assert_true(y && scratch);
    int64_t allocations = es_mem_allocations();
    assert_int_equal(es_frontend_set_band(f, 9, 6001, NULL), 0);
    for (int pass = 0; pass < 2; pass++) {
        struct es_err err = {0};
        assert_int_equal(es_frontend_run(f, 1, 4000, x, y, scratch, NULL), 0);
        assert_memory_equal(y, want, (size_t)(n_mels * n_frames) * sizeof *y);
        assert_int_equal(es_frontend_set_band(f, 9, 8001, &err),
                         -ES_EUSAGE); /* leaves the object as it was */
        assert_non_null(strstr(err.msg, "frontend fpasst: mel: got 9 to 8001 Hz"));
    }
    assert_int_equal(es_mem_allocations(), allocations);
    es_free(&scratch);
    es_free(&y);
    es_free(&want);
    es_frontend_free(&f);
}

static void errors(void **state) {
    (void)state;
    static const int64_t least[] = {[ES_FRONTEND_CRNN_MEL] = 1025,
                                    [ES_FRONTEND_ATST_MEL] = 513,
                                    [ES_FRONTEND_FPASST_MEL] = 258,
                                    [ES_FRONTEND_BEATS_FBANK] = 400};
    float x[1100] = {0};
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++) {
        struct es_frontend *f = NULL;
        struct es_err err = {0};
        int n_mels, n_frames;
        assert_int_equal(es_frontend_kind_from_name(es_frontend_name((enum es_frontend_kind)k)), k);
        float *y =
            run(es_frontend_params_default((enum es_frontend_kind)k), 1, least[k], x, &n_mels, &n_frames);
        es_free(&y);
        assert_int_equal(es_frontend_new(&f, es_frontend_params_default((enum es_frontend_kind)k), NULL), 0);
        assert_int_equal(es_frontend_shape(f, least[k] - 1, &n_mels, &n_frames, &err), -ES_EDATA);
        assert_non_null(strstr(err.msg, "frontend "));
        assert_int_equal(es_frontend_run(f, 1, least[k] - 1, x, NULL, NULL, &err), -ES_EDATA);
        assert_int_equal(es_frontend_run(f, 0, least[k], NULL, NULL, NULL, &err), 0);
        es_frontend_free(&f);
        es_frontend_free(&f);
        /* The n-th allocation fails, for every n until none does. */
        int64_t live = es_mem_live_blocks();
        int rc = -1;
        for (int n = 1; rc < 0 && n < 50; n++) {
            char plan[32];
            snprintf(plan, sizeof plan, "malloc:%d", n);
            es_fault_init(plan, 0);
            rc = es_frontend_new(&f, es_frontend_params_default((enum es_frontend_kind)k), &err);
            assert_true(rc == 0 || (rc == -ES_EIO && !f && es_mem_live_blocks() == live && n < 20));
        }
        assert_int_equal(rc, 0);
        es_fault_init(NULL, 0);
        es_frontend_free(&f);
        struct es_frontend_params p = es_frontend_params_default((enum es_frontend_kind)k);
        p.fmin_hz = 9000;
        assert_int_equal(es_frontend_new(&f, p, &err), -ES_EUSAGE);
        assert_null(f);
        assert_int_equal(es_mem_live_blocks(), live);
    }
    assert_int_equal(es_frontend_kind_from_name("whisper"), -1);
}

static void bench(void **state) {
    (void)state;
    for (int k = 0; k < ES_FRONTEND_N_KINDS; k++) {
        double clips_per_s = 0;
        assert_int_equal(es_frontend_bench((enum es_frontend_kind)k, NULL, 0, 0.02, &clips_per_s, NULL), 0);
        print_message("%s: %.0f clips/s\n", es_frontend_name((enum es_frontend_kind)k), clips_per_s);
        assert_true(clips_per_s > 1 && isfinite(clips_per_s));
    }
}

static int all_freed(void **state) {
    (void)state;
    return es_mem_live_blocks() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generator),      cmocka_unit_test(golden_clip),
        cmocka_unit_test(atst_floor),     cmocka_unit_test(silence),
        cmocka_unit_test(log_range),      cmocka_unit_test(same_bits_anywhere),
        cmocka_unit_test(shift_by_a_hop), cmocka_unit_test(fpasst_bands),
        cmocka_unit_test(errors),         cmocka_unit_test(bench),
    };
    return cmocka_run_group_tests(tests, NULL, all_freed);
}
