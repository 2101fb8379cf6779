/* TIMEOUT 60
 * The demo corpus without ranks: sounds, statistics, levels, splits, labels, bad input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../io_help.h"

#include "../../src/data/event_stats.h"
#include "../../src/data/synth_dsp.h"
#include "earshot/audio.h"
#include "earshot/demo.h"
#include "earshot/fault.h"
#include "earshot/mem.h"

static const char *shared_sounds(void) {
    static const char fallback[] = ES_TEST_SOURCE "/../shared/data";
    const char *given = getenv("EARSHOT_SOUNDS");
    if (given != NULL && *given != 0) return given;
    return access(ES_TEST_SOURCE "/../shared/data/manifest.tsv", R_OK) == 0 ? fallback : NULL;
}

static struct es_demo *open_params(struct es_demo_params p) {
    struct es_err err = {0};
    struct es_demo *d = NULL;
    p.out = "unused";
    if (es_demo_open(&d, &p, &err) < 0) fail_msg("%s", err.msg);
    return d;
}

static struct es_demo *open_demo(const char *sounds, int clips) {
    struct es_demo_params p;
    es_demo_params_default(&p);
    p.sounds = sounds;
    p.clips = clips;
    return open_params(p);
}

static double rms(const float *x, int n) {
    double e = 0;
    for (int i = 0; i < n; i++) e += (double)x[i] * (double)x[i];
    return sqrt(e / n);
}

/* ---- the synthesiser */

static void every_sound_sounds(void **state) {
    (void)state;
    enum { N = 3 * 10667 };
    float *x = es_alloc(N, sizeof *x, NULL), *y = es_alloc(N, sizeof *y, NULL);
    for (int s = ES_SOUND_BACKGROUND; s < ES_SOUND_COUNT; s++)
        for (int k = 0; k < 4; k++) {
            const struct es_rng id = es_rng_make(5, ES_RNG_DEMO, 1, (uint32_t)(s + 1), (uint32_t)k);
            const struct es_rng ev = es_rng_make(5, ES_RNG_DEMO, 2, (uint32_t)(s + 1), (uint32_t)k);
            es_sound_synth(s, k % 2 == 1, id, ev, x, N);
            es_sound_synth(s, k % 2 == 1, id, ev, y, N);
            assert_memory_equal(x, y, N * sizeof *x); /* pure */
            bool sane = true;
            for (int i = 0; i < N; i++) sane &= isfinite(x[i]) && fabsf(x[i]) < 100;
            assert_true(sane);
            const double whole = rms(x, N);
            assert_true(whole > 1e-3);
            if (s != 24) /* a door has shut by then */
                for (int q = 0; q < 3; q++)
                    if (rms(x + q * N / 3, N / 3) < 0.02 * whole)
                        fail_msg("sound %d is silent in third %d", s, q);
            es_sound_synth(s, k % 2 == 0, id, ev, y, N); /* the other side of the split */
            assert_memory_not_equal(x, y, N * sizeof *x);
        }
    for (int n = 1; n < 2000; n = n * 5 + 1) /* short events stay inside: the sanitizer sees the rest */
        for (int s = 0; s < ES_SOUND_COUNT; s++) {
            x[n] = 7;
            es_sound_synth(s, false, es_rng_make(1, ES_RNG_DEMO, 0, 0, 0),
                           es_rng_make(1, ES_RNG_DEMO, 0, 0, 1), x, n);
            assert_true(x[n] == 7.0f);
        }
    es_free(&x);
    es_free(&y);
}

static void test_settings_are_apart(void **state) {
    (void)state;
    bool used[2][10] = {{false}};
    for (uint32_t k = 0; k < 4000; k++) {
        const bool test = k % 2 == 1;
        struct es_synth s = {es_rng_make(1, ES_RNG_DEMO, 0, k, 0), es_rng_make(1, ES_RNG_DEMO, 0, k, 1), 1,
                             test};
        const float v = sy_id(&s, 0, 10);
        assert_true(v >= 0 && v <= 10);
        used[test][v < 10 ? (int)v : 9] = true;
    }
    for (int i = 0; i < 10; i++) assert_int_equal(used[0][i] + used[1][i], 1);
}

/* Classes must differ more than instances: nearest class mean of 24 log band energies, trained on training settings, tried on
 * test settings. Chance is 1 in 27. */
static void bands(const float *x, int n, double *f) {
    for (int b = 0; b < 24; b++) {
        struct sy_band band = {0};
        double e = 1e-12, peak = 1e-12;
        const float hz = 60 * powf(2, 0.285f * (float)b);
        sy_band_set(&band, hz, 0.25f * hz);
        for (int at = 0; at + 800 <= n; at += 800) {
            double part = 0;
            for (int i = at; i < at + 800; i++) {
                const double y = (double)sy_band_run(&band, x[i]);
                part += y * y;
            }
            e += part;
            peak = fmax(peak, part);
        }
        f[b] = log(e);
        f[24 + b] = log(peak * n / 800 / e); /* how bursty */
    }
    double mean = 0;
    for (int b = 0; b < 24; b++) mean += f[b] / 24;
    for (int b = 0; b < 24; b++) f[b] -= mean;
}

static void classes_can_be_told_apart(void **state) {
    (void)state;
    enum { N = 16000, TRAIN = 16, TEST = 6, F = 48 };
    float *x = es_alloc(N, sizeof *x, NULL);
    static double mean[ES_SOUND_TASK][F];
    memset(mean, 0, sizeof mean);
    int right = 0;
    for (int side = 0; side < 2; side++)
        for (int s = 0; s < ES_SOUND_TASK; s++)
            for (int k = 0; k < (side ? TEST : TRAIN); k++) {
                double f[F], best = 1e30;
                int nearest = -1;
                const uint32_t item = (uint32_t)(s * 100 + k);
                es_sound_synth(s, side == 1, es_rng_make(3, ES_RNG_DEMO, (uint32_t)side, item, 0),
                               es_rng_make(3, ES_RNG_DEMO, (uint32_t)side, item, 1), x, N);
                bands(x, N, f);
                for (int i = 0; side == 0 && i < F; i++) mean[s][i] += f[i] / TRAIN;
                for (int c = 0; side == 1 && c < ES_SOUND_TASK; c++) {
                    double d = 0;
                    for (int i = 0; i < F; i++) d += (f[i] - mean[c][i]) * (f[i] - mean[c][i]);
                    if (d < best) best = d, nearest = c;
                }
                right += side == 1 && nearest == s;
            }
    print_message("nearest mean: %d of %d right\n", right, TEST * ES_SOUND_TASK);
    assert_true(right > TEST * ES_SOUND_TASK * 6 / 10);
    es_free(&x);
}

/* ---- the plan */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check_durations(struct es_demo *d, enum es_demo_set set, const struct es_event_stats *st,
                            int least) {
    double *len = es_alloc((size_t)es_demo_count(d, set) * 32, sizeof *len, NULL);
    for (int s = 0; s < ES_SOUND_DESED; s++) {
        int n = 0;
        for (int i = 0; i < es_demo_count(d, set); i++) {
            const struct es_demo_clip *c = es_demo_clip(d, set, i);
            for (int k = 0; k < c->n_events; k++)
                if (c->event[k].sound == s)
                    len[n++] = (c->event[k].offset_ms - c->event[k].onset_ms) / 1000.0;
        }
        qsort(len, (size_t)n, sizeof *len, by_value);
        if (n < least) fail_msg("%s: only %d events", es_sound(s)->name, n);
        const double got = len[n / 2], want = st->duration_s[s][3];
        if (fabs(got - want) > 0.25 * want)
            fail_msg("%s: median %g s, want %g", es_sound(s)->name, got, want);
    }
    es_free(&len);
}

static void statistics_are_the_real_ones(void **state) {
    (void)state;
    struct es_demo_params p;
    es_demo_params_default(&p);
    p.clips_real = p.clips_validation = 5600; /* 300 events of the rarest class */
    struct es_demo *d = open_params(p);
    check_durations(d, ES_DEMO_VALIDATION, &es_stats_desed_validation, 300);
    check_durations(d, ES_DEMO_REAL, &es_stats_audioset_desed, 100);
    const struct es_event_stats *st = &es_stats_desed_validation;
    const int n = es_demo_count(d, ES_DEMO_VALIDATION);
    int with[5] = {0}, files[ES_SOUND_DESED] = {0}, events = 0, speech_with[ES_SOUND_DESED] = {0};
    for (int i = 0; i < n; i++) {
        const struct es_demo_clip *c = es_demo_clip(d, ES_DEMO_VALIDATION, i);
        bool has[ES_SOUND_DESED] = {false};
        int classes = 0;
        events += c->n_events;
        for (int k = 0; k < c->n_events; k++) has[c->event[k].sound] = true;
        for (int s = 0; s < ES_SOUND_DESED; s++) {
            classes += has[s];
            files[s] += has[s];
            speech_with[s] += has[s] && has[8];
        }
        with[classes]++;
    }
    const double scale = (double)n / st->files;
    print_message("events a file %.2f (real %.2f)\n", (double)events / n, (double)st->events / st->files);
    assert_true(fabs(events / (scale * st->events) - 1) < 0.1);
    for (int k = 1; k <= 2; k++)
        assert_true(fabs(with[k] / (scale * st->files_with_classes[k - 1]) - 1) < 0.15);
    assert_in_range(with[0], 20, 160); /* 15 of 1168 files hold nothing */
    for (int s = 0; s < ES_SOUND_DESED; s++) {
        const double share = files[s] / (scale * st->class_files[s]);
        if (share < 0.85 || share > 1.2)
            fail_msg("%s: in %.2f times as many files", es_sound(s)->name, share);
        if (s != 8 &&
            fabs((double)speech_with[s] / files[s] - (double)st->both[s][8] / st->class_files[s]) > 0.12)
            fail_msg("%s: with speech in %.2f of its files, want %.2f", es_sound(s)->name,
                     (double)speech_with[s] / files[s], (double)st->both[s][8] / st->class_files[s]);
    }
    es_demo_close(&d);
}

static void events_are_inside_and_apart(void **state) {
    (void)state;
    struct es_demo *d = open_demo(NULL, 200);
    for (int set = 0; set < ES_DEMO_SETS; set++)
        for (int i = 0; i < es_demo_count(d, (enum es_demo_set)set); i++) {
            const struct es_demo_clip *c = es_demo_clip(d, (enum es_demo_set)set, i);
            const bool audioset = set == ES_DEMO_AS_TRAIN || set == ES_DEMO_AS_EVAL;
            for (int k = 0; k < c->n_events; k++) {
                const struct es_demo_event *e = &c->event[k];
                assert_true(e->onset_ms >= 0 && e->offset_ms - e->onset_ms >= 250 &&
                            e->offset_ms <= c->n_samples / 16);
                assert_true(e->snr_db >= -6 && e->snr_db <= 12);
                assert_true(k == 0 || e[-1].onset_ms <= e->onset_ms);
                if (audioset) assert_non_null(es_sound(e->sound)->as_mid);
                if (!audioset)
                    assert_true(c->scene < 0 ? e->sound < ES_SOUND_DESED : e->sound >= ES_SOUND_DESED);
                for (int j = 0; j < k; j++)
                    if (c->event[j].sound == e->sound) assert_true(c->event[j].offset_ms < e->onset_ms + 1);
            }
        }
    es_demo_close(&d);
}

/* Share of time of each class and scene, and agreement of the soft labels with what was planned. */
static void maestro_shares_and_agreement(void **state) {
    (void)state;
    struct es_demo_params p;
    es_demo_params_default(&p);
    p.maestro_train = 50;
    struct es_demo *d = open_params(p);
    const enum es_demo_set set = ES_DEMO_MAESTRO_TRAIN;
    static double active[5][ES_SOUND_TASK], whole[5];
    double inside = 0, outside = 0, weak = 0;
    int n_inside = 0, n_outside = 0, n_weak = 0;
    memset(active, 0, sizeof active);
    memset(whole, 0, sizeof whole);
    for (int i = 0; i < es_demo_count(d, set); i++) {
        const struct es_demo_clip *c = es_demo_clip(d, set, i);
        assert_int_equal(c->scene, i % 5);
        whole[c->scene] += c->n_samples / 16000.0;
        for (int k = 0; k < c->n_events; k++)
            active[c->scene][c->event[k].sound] += (c->event[k].offset_ms - c->event[k].onset_ms) / 1000.0;
        for (int s = ES_SOUND_DESED; s < ES_SOUND_TASK; s++)
            for (int t = 1; t < c->n_samples / 16000 - 1; t++) {
                const double soft = es_demo_soft_label(d, c, s, t);
                assert_true(fabs(5 * soft - round(5 * soft)) < 1e-9 && soft >= 0 && soft <= 1);
                double covered_ms = 0; /* of the segment and its neighbours */
                for (int k = 0; k < c->n_events; k++) {
                    const struct es_demo_event *e = &c->event[k];
                    if (e->sound != s) continue;
                    covered_ms +=
                        fmax(0, fmin(1000 * (t + 2), e->offset_ms) - fmax(1000 * (t - 1), e->onset_ms));
                }
                const bool all = covered_ms > 2999, any = covered_ms > 0;
                const bool known = es_stats_maestro.run_s[s - ES_SOUND_DESED][0] > 0;
                if (all && known) inside += soft, n_inside++;
                if (all && !known) weak += soft, n_weak++;
                if (!any) outside += soft, n_outside++;
            }
    }
    for (int scene = 0; scene < 5; scene++)
        for (int s = ES_SOUND_DESED; s < ES_SOUND_TASK; s++) {
            const double want = (double)es_stats_maestro.active_s[scene][s - ES_SOUND_DESED] /
                                es_stats_maestro.scene_s[scene];
            const double got = active[scene][s] / whole[scene];
            if (want > 0.01 && fabs(got - want) > 0.1 * want)
                fail_msg("scene %d, %s: %.3f of the time, want %.3f", scene, es_sound(s)->name, got, want);
        }
    assert_true(n_inside > 1000 && inside / n_inside > 0.85);
    assert_true(n_weak > 100 && weak / n_weak > 0.2 && weak / n_weak < 0.5);
    assert_true(n_outside > 1000 && outside / n_outside < 0.02);
    es_demo_close(&d);
}

/* ---- audio */

static void check_clip(struct es_demo *d, const struct es_demo_clip *c) {
    const size_t n = (size_t)c->n_samples;
    float *mix = es_alloc(n, sizeof *mix, NULL), *bg = es_alloc(n, sizeof *bg, NULL),
          *again = es_alloc(n, sizeof *again, NULL);
    float *stem = es_alloc(n * (size_t)c->n_events, sizeof *stem, NULL);
    assert_int_equal(es_demo_render(d, c, mix, bg, stem, NULL), 0);
    assert_int_equal(es_demo_render(d, c, again, NULL, NULL, NULL), 0);
    assert_memory_equal(mix, again, n * sizeof *mix);
    bool inside = true, adds_up = true, outside_silent = true;
    for (size_t i = 0; i < n; i++) {
        double sum = (double)bg[i];
        for (int k = 0; k < c->n_events; k++) sum += (double)stem[(size_t)k * n + i];
        inside &= isfinite(mix[i]) && fabsf(mix[i]) <= 0.951f;
        adds_up &= fabs(sum - (double)mix[i]) < 1e-5;
    }
    assert_true(rms(bg, c->n_samples) > 1e-5);
    for (int k = 0; k < c->n_events; k++) {
        const struct es_demo_event *e = &c->event[k];
        const float *x = stem + (size_t)k * n;
        const int at = 16 * e->onset_ms, len = 16 * (e->offset_ms - e->onset_ms);
        const double snr_db = 20 * log10(rms(x + at, len) / rms(bg + at, len));
        if (!(fabs(snr_db - (double)e->snr_db) < 0.5))
            fail_msg("%s: %g dB, want %g", es_sound(e->sound)->name, snr_db, (double)e->snr_db);
        for (int i = 0; i < c->n_samples; i++) outside_silent &= (i >= at && i < at + len) || x[i] == 0.0f;
        if (e->sound != 24 && len > 8000) /* sound to the end of its label */
            assert_true(rms(x + at + len - len / 3, len / 3) > 1e-3 * rms(x + at, len));
    }
    assert_true(inside && adds_up && outside_silent);
    es_free(&stem);
    es_free(&again);
    es_free(&bg);
    es_free(&mix);
}

static void levels_are_as_drawn(void **state) {
    (void)state;
    const char *folders[2] = {NULL, shared_sounds()};
    for (int f = 0; f < 2; f++) {
        if (f == 1 && folders[f] == NULL) continue; /* recordings_stay_apart says so */
        struct es_demo *d = open_demo(folders[f], 20);
        for (int set = 0; set < ES_DEMO_SETS; set++)
            for (int i = 0;
                 i < es_demo_count(d, (enum es_demo_set)set) && i < (set < ES_DEMO_MAESTRO_TRAIN ? 4 : 1);
                 i++)
                check_clip(d, es_demo_clip(d, (enum es_demo_set)set, i));
        es_demo_close(&d);
    }
}

/* ---- recordings */

static void note(char seen[2][512][64], int n_seen[2], bool test, const char *name) {
    if (name == NULL) return;
    for (int i = 0; i < n_seen[test]; i++)
        if (strcmp(seen[test][i], name) == 0) return;
    assert_true(n_seen[test] < 512);
    snprintf(seen[test][n_seen[test]++], 64, "%s", name);
}

static void recordings_stay_apart(void **state) {
    (void)state;
    if (shared_sounds() == NULL) {
        print_message("no sounds folder: set EARSHOT_SOUNDS or place shared/data beside the checkout\n");
        skip();
    }
    static char event[2][512][64], background[2][512][64];
    int n_event[2] = {0}, n_background[2] = {0};
    struct es_demo *d = open_demo(shared_sounds(), 300);
    for (int set = 0; set < ES_DEMO_SETS; set++)
        for (int i = 0; i < es_demo_count(d, (enum es_demo_set)set); i++) {
            const struct es_demo_clip *c = es_demo_clip(d, (enum es_demo_set)set, i);
            const bool test =
                set == ES_DEMO_AS_EVAL || set == ES_DEMO_VALIDATION || set == ES_DEMO_MAESTRO_VALIDATION;
            note(background, n_background, test, es_demo_background_recording(d, c));
            for (int k = 0; k < c->n_events; k++)
                note(event, n_event, test, es_demo_event_recording(d, c, k));
        }
    assert_true(n_event[0] > 50 && n_event[1] > 20 && n_background[0] >= 4 && n_background[1] >= 2);
    for (int i = 0; i < n_event[0]; i++)
        for (int j = 0; j < n_event[1]; j++) assert_string_not_equal(event[0][i], event[1][j]);
    for (int i = 0; i < n_background[0]; i++)
        for (int j = 0; j < n_background[1]; j++) assert_string_not_equal(background[0][i], background[1][j]);
    struct es_demo_source s;
    es_demo_source(d, 8, &s);
    assert_true(s.kind == ES_DEMO_RECORDINGS && s.n_train >= 10 && s.n_test >= 10);
    es_demo_source(d, 5, &s); /* no recording of a shaver: stand-ins, named */
    assert_int_equal(s.kind, ES_DEMO_PROXY);
    assert_non_null(strstr(s.proxies, "citrus_juicer"));
    es_demo_source(d, 1, &s); /* two recordings of a blender are too few, and nothing stands in */
    assert_int_equal(s.kind, ES_DEMO_SYNTHESISED);
    es_demo_close(&d);
}

static void without_a_folder_all_is_synthesised(void **state) {
    (void)state;
    struct es_demo *d = open_demo(NULL, 20);
    for (int s = 0; s < ES_SOUND_COUNT; s++) {
        struct es_demo_source src;
        es_demo_source(d, s, &src);
        assert_int_equal(src.kind, ES_DEMO_SYNTHESISED);
    }
    for (int i = 0; i < es_demo_count(d, ES_DEMO_REAL); i++) {
        const struct es_demo_clip *c = es_demo_clip(d, ES_DEMO_REAL, i);
        assert_null(es_demo_background_recording(d, c));
        for (int k = 0; k < c->n_events; k++) assert_null(es_demo_event_recording(d, c, k));
    }
    es_demo_close(&d);
}

/* Zero crossings of the event that is longest, as a frequency. */
static double tone_hz(struct es_demo *d, const struct es_demo_clip *c) {
    const size_t n = (size_t)c->n_samples;
    float *mix = es_alloc(n, sizeof *mix, NULL),
          *stem = es_alloc(n * (size_t)c->n_events, sizeof *stem, NULL);
    int longest = -1, crossings = 0;
    assert_int_equal(es_demo_render(d, c, mix, NULL, stem, NULL), 0);
    for (int k = 0; k < c->n_events; k++) {
        const struct es_demo_event *e = &c->event[k];
        if (es_demo_event_recording(d, c, k) != NULL &&
            (longest < 0 ||
             e->offset_ms - e->onset_ms > c->event[longest].offset_ms - c->event[longest].onset_ms))
            longest = k;
    }
    const float *x = stem + (size_t)(longest < 0 ? 0 : longest) * n;
    const int at = longest < 0 ? 0 : 16 * c->event[longest].onset_ms + 1600;
    for (int i = at; longest >= 0 && i < at + 1600; i++) crossings += (x[i] < 0) != (x[i + 1] < 0);
    const bool enough = longest >= 0 && c->event[longest].offset_ms - c->event[longest].onset_ms > 400;
    es_free(&stem);
    es_free(&mix);
    return enough ? crossings / 2.0 / 0.1 : 0;
}

static void recorded_events_vary_in_pitch(void **state) {
    (void)state;
    char dir[256], path[512];
    static int16_t pcm[80000];
    struct es_err err = {0};
    help_dir(NULL, "tones", dir);
    assert_int_equal(mkdir(help_path(path, dir, "audio"), 0777), 0);
    for (int i = 0; i < 80000; i++) pcm[i] = (int16_t)(9000 * sin(2 * 3.14159265358979 * 1000 / 16000 * i));
    for (int k = 0; k < 4; k++) {
        char name[32];
        snprintf(name, sizeof name, "audio/%d.wav", k);
        assert_int_equal(es_audio_write(help_path(path, dir, name), pcm, 80000, 1, 16000, &err), 0);
    }
    help_text(help_path(path, dir, "manifest.tsv"),
              "file\tsound\tproxy_for\trecording\n0.wav\tRunning_water\t\ta\n1.wav\tRunning_water\t\tb\n"
              "2.wav\tRunning_water\t\tc\n3.wav\tRunning_water\t\td\n");
    for (int most = 0; most <= 3; most += 3) {
        struct es_demo_params p;
        es_demo_params_default(&p);
        assert_float_equal(p.pitch_semitones, 3, 0);
        p.sounds = dir;
        p.clips = 60;
        p.pitch_semitones = most;
        struct es_demo *d = open_params(p);
        double low = 1e9, high = 0;
        int heard = 0;
        for (int i = 0; i < es_demo_count(d, ES_DEMO_REAL); i++) {
            const double hz = tone_hz(d, es_demo_clip(d, ES_DEMO_REAL, i));
            if (hz == 0) continue;
            heard++;
            low = fmin(low, hz);
            high = fmax(high, hz);
        }
        assert_true(heard >= 5);
        if (most == 0) assert_true(low >= 980 && high <= 1020); /* a join of two pieces may cost a crossing */
        if (most == 3) assert_true(low >= 1000 / 1.19 - 20 && low < 950 && high > 1050 && high <= 1190 + 20);
        es_demo_close(&d);
    }
    help_dir_end(NULL, dir);
}

/* ---- bad input */

static void expect(const struct es_demo_params *p, int code, const char *word1, const char *word2) {
    struct es_err err = {0};
    struct es_demo *d = NULL;
    const int64_t live = es_mem_live_blocks();
    help_failed(es_demo_open(&d, p, &err), &err, code, word1, word2);
    assert_null(d);
    assert_int_equal(es_mem_live_blocks(), live);
}

static void broken_sounds_folders_are_refused(void **state) {
    (void)state;
    char dir[256], path[512];
    int16_t pcm[8000], none[8000] = {0};
    struct es_demo_params p;
    struct es_err err = {0};
    for (int i = 0; i < 8000; i++) pcm[i] = (int16_t)(3000 * sin(0.2 * i));
    help_dir(NULL, "sounds", dir);
    es_demo_params_default(&p);
    p.out = "unused";
    p.sounds = "no/such/folder";
    expect(&p, ES_EIO, "no/such/folder/manifest.tsv", "");
    p.sounds = dir;
    help_text(help_path(path, dir, "manifest.tsv"), "file\tsound\trecording\na.wav\tDog\tr\n");
    expect(&p, ES_EDATA, "manifest.tsv", "proxy_for");
    help_text(path, "file\tsound\tproxy_for\trecording\na.wav\tDog\t\tr\n");
    expect(&p, ES_EIO, "audio/a.wav", "");
    assert_int_equal(mkdir(help_path(path, dir, "audio"), 0777), 0);
    help_text(help_path(path, dir, "audio/a.wav"), "this is not audio");
    expect(&p, ES_EDATA, "audio/a.wav", "");
    assert_int_equal(es_audio_write(path, pcm, 8000, 1, 44100, &err), 0);
    expect(&p, ES_EDATA, "audio/a.wav", "44100");
    assert_int_equal(es_audio_write(path, none, 8000, 1, 16000, &err), 0);
    expect(&p, ES_EDATA, "audio/a.wav", "heard");
    assert_int_equal(es_audio_write(path, pcm, 300, 1, 16000, &err), 0);
    expect(&p, ES_EDATA, "audio/a.wav", "0.02 s");
    assert_int_equal(es_audio_write(path, pcm, 8000, 1, 16000, &err), 0);
    struct es_demo *d = NULL;
    assert_int_equal(es_demo_open(&d, &p, &err), 0); /* one dog is too few: synthesised */
    es_demo_close(&d);
    help_dir_end(NULL, dir);
}

static void parameters_out_of_range_are_refused(void **state) {
    (void)state;
    struct es_demo_params p;
    es_demo_params_default(&p);
    expect(&p, ES_EUSAGE, "--out", "");
    p.out = "x";
    p.clips = 0;
    expect(&p, ES_EUSAGE, "--clips", "0");
    p.clips = 24;
    p.clips_weak = -2;
    expect(&p, ES_EUSAGE, "demo.clips_weak", "-2");
    p.clips_weak = 0;
    p.snr_min_db = 20;
    expect(&p, ES_EUSAGE, "demo.snr_min_db", "20");
    p.snr_min_db = (double)NAN;
    expect(&p, ES_EUSAGE, "demo.snr_min_db", "");
    p.snr_min_db = -6;
    p.maestro_seconds = 5;
    expect(&p, ES_EUSAGE, "demo.maestro_seconds", "5");
    p.maestro_seconds = 60;
    p.test_fraction = 1;
    expect(&p, ES_EUSAGE, "demo.test_fraction", "");
    p.test_fraction = 0.34;
    p.pitch_semitones = 13;
    expect(&p, ES_EUSAGE, "demo.pitch_semitones", "13");
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct es_demo_params p;
    es_demo_params_default(&p);
    p.out = "x";
    int rc = -1;
    for (int n = 1; rc != 0; n++) {
        char spec[32];
        struct es_err err = {0};
        struct es_demo *d = NULL;
        const int64_t live = es_mem_live_blocks();
        assert_true(n < 200);
        snprintf(spec, sizeof spec, "malloc:%d", n);
        es_fault_init(spec, 0);
        rc = es_demo_open(&d, &p, &err);
        es_fault_init(NULL, 0);
        if (rc != 0) assert_int_equal(rc, -ES_EIO);
        es_demo_close(&d);
        assert_int_equal(es_mem_live_blocks(), live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sound_sounds),
        cmocka_unit_test(test_settings_are_apart),
        cmocka_unit_test(classes_can_be_told_apart),
        cmocka_unit_test(statistics_are_the_real_ones),
        cmocka_unit_test(events_are_inside_and_apart),
        cmocka_unit_test(maestro_shares_and_agreement),
        cmocka_unit_test(levels_are_as_drawn),
        cmocka_unit_test(recordings_stay_apart),
        cmocka_unit_test(without_a_folder_all_is_synthesised),
        cmocka_unit_test(recorded_events_vary_in_pitch),
        cmocka_unit_test(broken_sounds_folders_are_refused),
        cmocka_unit_test(parameters_out_of_range_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
