/* Audio: round trips, ranges, channels, and the message for everything that is not audio. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sndfile.h>

#include "earshot/audio.h"
#include "earshot/mem.h"

#include "io_help.h"

static char dir[256], path[512];

static int16_t sample(int64_t i, int c) {
    return (int16_t)((i * 7919 + c * 104729) % 65536 - 32768);
}

static void write_noise(const char *name, int64_t n, int channels, int rate_hz) {
    int16_t *pcm = es_alloc((size_t)(n * channels), sizeof *pcm, NULL);
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < channels; c++) pcm[i * channels + c] = sample(i, c);
    struct es_err err = {0};
    assert_int_equal(es_audio_write(help_path(path, dir, name), pcm, n, channels, rate_hz, &err), 0);
    es_free(&pcm);
}

static void round_trips(void **state) {
    (void)state;
    static const char *const names[] = {"a.wav", "a.flac"};
    for (int f = 0; f < 2; f++)
        for (int channels = 1; channels <= 2; channels++) {
            struct es_audio_info info;
            float *x = NULL;
            int64_t n;
            write_noise(names[f], 40001, channels, 44100);
            assert_int_equal(es_audio_info(path, &info, NULL), 0);
            assert_true(info.n_samples == 40001 && info.rate_hz == 44100 && info.n_channels == channels);
            static const int64_t ranges[][3] = {
                {0, -1, 40001}, {0, 10, 10}, {39000, 5000, 1001}, {17000, 20000, 20000}, {50000, 5, 0}};
            for (int r = 0; r < 5; r++) {
                assert_int_equal(es_audio_read(path, ranges[r][0], ranges[r][1], &x, &n, &info, NULL), 0);
                assert_int_equal(n, ranges[r][2]);
                for (int64_t i = 0; i < n; i++) {
                    int64_t at = ranges[r][0] + i;
                    double want =
                        (channels == 1 ? sample(at, 0) : (sample(at, 0) + sample(at, 1)) / 2.0) / 32768;
                    assert_true((double)x[i] == want);
                }
                es_free(&x);
            }
        }
}

static void pcm(void **state) {
    (void)state;
    static const float x[] = {0, 1, -1, 2, -2, 0.5f / 32768, 1.5f / 32768, -0.5f / 32768, 0.25f};
    static const int16_t want[] = {0, 32767, -32768, 32767, -32768, 0, 2, 0, 8192};
    int16_t got[9];
    es_pcm_from_float(x, 9, got);
    assert_memory_equal(got, want, sizeof want);
    for (int v = -32768; v < 32768; v++) { /* every value comes back */
        int16_t in = (int16_t)v, out;
        float f;
        es_pcm_to_float(&in, 1, &f);
        es_pcm_from_float(&f, 1, &out);
        assert_int_equal(in, out);
    }
}

/* Lossy formats, by libsndfile's own encoders: length and the sound itself. */
static void lossy(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int format;
    } kinds[] = {{"a.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
                 {"a.mp3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}};
    enum { N = 64000 };
    float *tone = es_alloc(N, sizeof *tone, NULL);
    for (int i = 0; i < N; i++) tone[i] = 0.5f * sinf(0.1f * (float)i);
    for (int k = 0; k < 2; k++) {
        SF_INFO sf = {.samplerate = 32000, .channels = 1, .format = kinds[k].format};
        SNDFILE *s = sf_open(help_path(path, dir, kinds[k].name), SFM_WRITE, &sf);
        assert_non_null(s);
        assert_int_equal(sf_writef_float(s, tone, N), N);
        sf_close(s);
        struct es_audio_info info;
        float *x = NULL;
        int64_t n;
        assert_int_equal(es_audio_info(path, &info, NULL), 0);
        assert_true(info.rate_hz == 32000 && info.n_samples >= N && info.n_samples < N + 3000);
        assert_int_equal(es_audio_read(path, 0, -1, &x, &n, NULL, NULL), 0);
        assert_true(n <= info.n_samples && n >= N);
        double power = 0;
        for (int i = 2000; i < N - 2000; i++) power += (double)x[i] * (double)x[i];
        assert_true(fabs(power / (N - 4000) - 0.125) < 0.002);
        es_free(&x);
        assert_int_equal(es_audio_read(path, 30000, 1000, &x, &n, NULL, NULL), 0);
        assert_int_equal(n, 1000);
        es_free(&x);
    }
    es_free(&tone);
}

static void u32(unsigned char *b, uint32_t v) {
    for (int i = 0; i < 4; i++) b[i] = (unsigned char)(v >> (8 * i));
}

static void write_float_wav(const char *name, const float *x, int n) {
    unsigned char b[44 + 4 * 64] = "RIFF....WAVEfmt ";
    u32(b + 4, 36 + 4 * (uint32_t)n);
    u32(b + 16, 16);
    b[20] = 3; /* IEEE float */
    b[22] = 1;
    u32(b + 24, 16000);
    u32(b + 28, 64000);
    b[32] = 4;
    b[34] = 32;
    memcpy(b + 36, "data", 4);
    u32(b + 40, 4 * (uint32_t)n);
    memcpy(b + 44, x, 4 * (size_t)n);
    help_write(help_path(path, dir, name), b, 44 + 4 * (size_t)n);
}

static void expect(const char *name, int code, const char *what) {
    struct es_err err = {0};
    float *x = NULL;
    int64_t n;
    help_failed(es_audio_read(help_path(path, dir, name), 0, -1, &x, &n, NULL, &err), &err, code, path, what);
    assert_null(x);
}

static void cut(const char *name, const char *to, int64_t bytes) {
    char from[512];
    char *data = es_alloc((size_t)bytes, 1, NULL);
    FILE *in = fopen(help_path(from, dir, name), "rb");
    assert_non_null(in);
    assert_int_equal(fread(data, 1, (size_t)bytes, in), bytes);
    fclose(in);
    help_write(help_path(path, dir, to), data, (size_t)bytes);
    es_free(&data);
}

static void refuses(void **state) {
    (void)state;
    static const float fine[] = {0.5f, -1.25f}, bad[] = {0.1f, NAN, 0.2f}, infinite[] = {INFINITY};
    float *x = NULL;
    int64_t n;
    write_float_wav("float.wav", fine, 2);
    assert_int_equal(es_audio_read(path, 0, -1, &x, &n, NULL, NULL), 0);
    assert_true(n == 2 && x[0] == 0.5f && x[1] == -1.25f);
    es_free(&x);
    write_float_wav("nan.wav", bad, 3);
    expect("nan.wav", ES_EDATA, "sample 1 is not a finite number");
    write_float_wav("inf.wav", infinite, 1);
    expect("inf.wav", ES_EDATA, "sample 0 is not");
    write_float_wav("none.wav", fine, 0);
    expect("none.wav", ES_EDATA, "no samples");
    expect("missing.wav", ES_EIO, "No such file");
    help_text(help_path(path, dir, "empty.wav"), "");
    expect("empty.wav", ES_EDATA, "empty");
    help_text(help_path(path, dir, "text.wav"), "filename\tonset\toffset\n");
    expect("text.wav", ES_EDATA, "not audio");
    assert_int_equal(mkdir(help_path(path, dir, "folder.wav"), 0777), 0);
    expect("folder.wav", ES_EDATA, "folder");
    write_noise("whole.wav", 20000, 1, 16000);
    cut("whole.wav", "short.wav", 30000);
    expect("short.wav", ES_EDATA, "cut short: 29956 bytes of samples, the header says 40000");
    cut("whole.wav", "head.wav", 20);
    expect("head.wav", ES_EDATA, "not audio");
    write_noise("whole.flac", 50000, 1, 16000);
    cut("whole.flac", "short.flac", help_bytes(path) / 2);
    expect("short.flac", ES_EDATA, "cut short or damaged");
    struct es_err err = {0};
    int16_t pcm1 = 0;
    help_failed(es_audio_write(help_path(path, dir, "x.aiff"), &pcm1, 1, 1, 16000, &err), &err, ES_EUSAGE,
                "x.aiff", ".wav or .flac");
    help_failed(es_audio_write(help_path(path, dir, "no/x.wav"), &pcm1, 1, 1, 16000, &err), &err, ES_EIO,
                "no/x.wav", "cannot create");
}

HELP_SCRATCH("audio")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(pcm),
                                       cmocka_unit_test(lossy), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
