/* Preparing stores: the same bytes from any number of ranks; what is in them; whatever is wrong with a corpus.
 * RANKS 1 2 4
 * TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>
#include <signal.h>
#include <sndfile.h>

#include "earshot/audio.h"
#include "earshot/fault.h"
#include "earshot/labels.h"
#include "earshot/mem.h"
#include "earshot/prepare.h"
#include "earshot/resample.h"

#include "prepare_help.h"

/* ---- DESED */

static struct es_prepare_source desed[6];

static struct es_prepare_params desed_params(const char *out) {
    struct es_prepare_params p;
    es_prepare_params_default(&p);
    p.out = out;
    p.source = desed;
    p.n_sources = 6;
    return p;
}

static void make_desed(void) {
    char name[64];
    make_dirs("strong");
    make_dirs("synth");
    make_dirs("weak");
    make_dirs("unlabeled");
    make_dirs("val");
    make_dirs("out");
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "strong/Ystrong%d_1.000_3.000.wav", i);
        put_audio(name, i, 1.0 + 0.3 * i, i % 2 ? 44100 : 16000, 1 + i % 2);
    }
    put_audio("synth/0.wav", 11, 1.5, 16000, 1);
    put_audio("synth/1.flac", 12, 1.25, 22050, 1);
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "weak/Yweak%d.wav", i);
        put_audio(name, 20 + i, 0.5, 16000, 1);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "unlabeled/Yfree%d.wav", 3 - i);
        put_audio(name, 40 + i, 0.4, 32000, 1);
    }
    put_audio("unlabeled/Ystrong2_1.000_3.000.wav", 2, 0.4, 16000, 1); /* also strongly labelled */
    put_text("unlabeled/notes.txt", "not audio\n");
    put_audio("val/a.wav", 50, 2.0, 16000, 1);
    put_audio("val/b.wav", 51, 1.0, 16000, 1);
    put_audio("val/Ystrong4_1.000_3.000.wav", 52, 1.0, 16000, 1); /* also in the training set */
    put_text("strong.tsv", "filename\tonset\toffset\tevent_label\n"
                           "Ystrong1_1.000_3.000.wav\t0.100\t0.500\tDog\n"
                           "Ystrong0_1.000_3.000.wav\t0.000\t1.000\tSpeech\n"
                           "Ystrong1_1.000_3.000.wav\t0.050\t0.200\tDishes\n"
                           "Ystrong2_1.000_3.000.wav\t0.2\t11.0\tFrying\n"
                           "Ystrong3_1.000_3.000.wav\t\t\t\n"
                           "Ystrong4_1.000_3.000.wav\t0.1\t0.2\tCat\n");
    put_text("synth.tsv",
             "filename\tonset\toffset\tevent_label\r\n0.wav\t0.5\t1.5\tBlender\r\n1.wav\t0.1\t0.2\tCat\r\n");
    put_text("weak.tsv", "filename\tevent_labels\nYweak0.wav\tSpeech,Dog\nYweak1.wav\tCat\nYweak2."
                         "wav\tDishes\nYweak3.wav\tCat\n"
                         "Yweak4.wav\tCat\nYweak5.wav\tCat\nYweak6.wav\tCat\nYweak7.wav\tCat\nYweak8."
                         "wav\tCat\nYweak9.wav\tCat\n");
    put_text("val.tsv", "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.0\tSpeech\nb.wav\t\t\t\n"
                        "Ystrong4_1.000_3.000.wav\t0.1\t0.2\tCat\n");
    put_text("strong_exclude.tsv", "filename\nYstrong4_1.000_3.000.wav\n");
    put_text("unlabeled_exclude.tsv", "filename\nYstrong2_1.000_3.000.wav\n");
    put_text("durations.tsv", "filename\tduration\na.wav\t2.125\nb.wav\t1\n");
}

static void set_desed(void) {
    static char paths[12][512];
    static const char *const names[12] = {"strong", "strong.tsv", "synth",         "synth.tsv",
                                          "weak",   "weak.tsv",   "unlabeled",     "",
                                          "val",    "val.tsv",    "durations.tsv", "synth"};
    for (int i = 0; i < 12; i++) help_path(paths[i], dir, names[i]);
    desed[0] =
        (struct es_prepare_source){.subset = ES_SUBSET_STRONG_REAL, .audio = paths[0], .labels = paths[1]};
    desed[1] = (struct es_prepare_source){.subset = ES_SUBSET_SYNTH, .audio = paths[2], .labels = paths[3]};
    desed[2] = (struct es_prepare_source){.subset = ES_SUBSET_WEAK, .audio = paths[4], .labels = paths[5]};
    desed[3] = (struct es_prepare_source){.subset = ES_SUBSET_UNLABELED, .audio = paths[6]};
    desed[4] = (struct es_prepare_source){
        .subset = ES_SUBSET_VALIDATION, .audio = paths[8], .labels = paths[9], .durations = paths[10]};
    desed[5] = (struct es_prepare_source){
        .subset = ES_SUBSET_SYNTH_VALIDATION, .audio = paths[2], .labels = paths[3]};
}

/* The clip's samples are those of the file (cut to a window), resampled as they should be. */
static void check_pcm(const struct es_store *s, int64_t clip, const char *file, double from_s, double to_s,
                      bool kaiser) {
    struct es_audio_info info;
    float *x = NULL, *y = NULL;
    char path[512];
    int64_t n, n_out;
    assert_true(clip >= 0);
    assert_int_equal(es_audio_info(help_path(path, dir, file), &info, NULL), 0);
    int64_t first = (int64_t)(from_s * info.rate_hz),
            want = to_s < 0 ? -1 : (int64_t)(to_s * info.rate_hz) - first;
    if (kaiser) /* AudioSet: the first channel */
        assert_int_equal(es_audio_read_first(path, &x, &n, NULL), 0);
    else
        assert_int_equal(es_audio_read(path, first, want, &x, &n, &info, NULL), 0);
    assert_int_equal((kaiser ? es_resample_kaiser : es_resample)(x, n, info.rate_hz, 16000, &y, &n_out, NULL),
                     0);
    assert_int_equal(es_store_length(s, clip), n_out);
    int16_t *a = es_alloc((size_t)n_out, 2, NULL), *b = es_alloc((size_t)n_out, 2, NULL);
    es_pcm_from_float(y, n_out, a);
    assert_int_equal(es_store_read_pcm(s, clip, 0, n_out, b, NULL), 0);
    assert_memory_equal(a, b, (size_t)n_out * 2);
    int loudest = 0;
    for (int64_t i = 0; i < n_out; i++) loudest = a[i] > loudest ? a[i] : loudest;
    assert_true(n_out > 100 && loudest > 2000);
    es_free(&a);
    es_free(&b);
    es_free(&x);
    es_free(&y);
}

static void desed_corpus(void **state) {
    (void)state;
    struct es_prepare_params p = desed_params(NULL);
    struct es_store *s = NULL;
    struct es_err err = {0};
    uint64_t digest;
    int n;
    prepare_twice(&p, "out/desed.h5", &digest);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_digest(s), digest);
    assert_int_equal(es_store_n_classes(s), 27);
    assert_int_equal(es_store_count(s, ES_SUBSET_STRONG_REAL, 0), 3); /* 3 is empty, 4 is in the test set */
    assert_int_equal(find(s, ES_SUBSET_STRONG_REAL, "Ystrong4_1.000_3.000"), -1);
    assert_int_equal(es_store_count(s, ES_SUBSET_SYNTH, 0), 2);
    assert_int_equal(es_store_count(s, ES_SUBSET_WEAK, 0), 9);
    assert_int_equal(es_store_count(s, ES_SUBSET_WEAK, 1), 1);
    assert_int_equal(es_store_count(s, ES_SUBSET_UNLABELED, 0), 4); /* strong 2 is left out */
    assert_int_equal(es_store_count(s, ES_SUBSET_VALIDATION, 1), 3);
    assert_int_equal(es_store_count(s, ES_SUBSET_SYNTH_VALIDATION, 1), 2);

    assert_string_equal(es_store_name(s, 0), "Ystrong1_1.000_3.000"); /* order of first appearance */
    const struct es_event *e = es_store_events(s, 0, &n);
    assert_int_equal(n, 2);
    assert_true(e[0].onset_s == 0.1 && e[0].offset_s == 0.5 && e[0].label == 4 && e[0].confidence == 1.0f);
    assert_true(e[1].onset_s == 0.05 && e[1].label == 3);
    e = es_store_events(s, find(s, ES_SUBSET_STRONG_REAL, "Ystrong2_1.000_3.000"), &n);
    assert_true(n == 1 && e[0].offset_s == 11.0); /* not cut */
    es_store_events(s, find(s, ES_SUBSET_VALIDATION, "b"), &n);
    assert_int_equal(n, 0); /* a test clip without events stays */
    int64_t a = find(s, ES_SUBSET_VALIDATION, "a"), w = find(s, ES_SUBSET_WEAK, "Yweak0");
    assert_true(es_store_duration(s, a) == 2.125);
    assert_true(es_store_duration(s, find(s, ES_SUBSET_SYNTH, "1")) == 27562.0 / 22050);
    assert_true(es_store_weak(s, w)[8] == 1 && es_store_weak(s, w)[4] == 1 && es_store_weak(s, w)[2] == 0);
    assert_string_equal(es_store_name(s, find(s, ES_SUBSET_UNLABELED, "Yfree0") + 1),
                        "Yfree1"); /* name order */
    assert_string_equal(es_store_recording(s, a), "");

    /* which weak clip validates: NumPy's permutation of 10 with seed 42 ends in ... */
    int64_t perm[10];
    uint8_t split[10];
    es_split_weak(10, 0.9, 42, perm, split);
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "Yweak%d", i);
        assert_int_equal(es_store_split(s, find(s, ES_SUBSET_WEAK, name)), split[i]);
    }
    check_pcm(s, 0, "strong/Ystrong1_1.000_3.000.wav", 0, -1, false); /* 44.1 kHz stereo */
    check_pcm(s, 1, "strong/Ystrong0_1.000_3.000.wav", 0, -1, false);
    check_pcm(s, find(s, ES_SUBSET_SYNTH, "1"), "synth/1.flac", 0, -1, false);
    check_pcm(s, find(s, ES_SUBSET_UNLABELED, "Yfree2"), "unlabeled/Yfree2.wav", 0, -1, false);
    es_store_close(&s);

    uint64_t other;
    p.overlap_exclude = false;
    p.weak_fraction = 1;
    prepare_twice(&p, "out/desed2.h5", &other);
    assert_int_not_equal(digest, other);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_count(s, ES_SUBSET_STRONG_REAL, 0), 4);
    assert_int_equal(es_store_count(s, ES_SUBSET_UNLABELED, 0), 5);
    assert_int_equal(es_store_count(s, ES_SUBSET_WEAK, 0), 10);
    es_store_close(&s);
    int64_t n_clips;
    assert_int_equal(es_prepare_check_all(comm, &p, NULL, &n_clips, &err), 0);
    assert_int_equal(n_clips, 4 + 2 + 10 + 5 + 3 + 2);
    es_comm_barrier_all(comm);
}

/* ---- MAESTRO: three recordings of 12.34, 11 and 9.5 s; annotations, and the table of windows made from them by hand */

static const struct {
    const char *scene, *name;
    double seconds;
    int rate_hz;
} recordings[3] = {{"cafe_restaurant", "cafe_restaurant_00", 12.34, 44100},
                   {"cafe_restaurant", "cafe_restaurant_07", 11.0, 16000},
                   {"city_center", "city_center_02", 9.5, 16000}};

static double soft(int r, int second, int k) {
    return (double)((7 * r + 3 * second + k) % 11) / 10;
}

static void make_maestro(void) {
    char path[512], name[128];
    make_dirs("audio/cafe_restaurant");
    make_dirs("audio/city_center");
    make_dirs("windows");
    make_dirs("soft/soft_labels_cafe_restaurant");
    make_dirs("soft/soft_labels_city_center");
    static const char *const labels[2] = {"car", "cutlery and dishes"};
    FILE *table = fopen(help_path(path, dir, "windows.tsv"), "w");
    fprintf(table, "filename\tonset\toffset\tevent_label\tconfidence\n");
    for (int r = 0; r < 3; r++) {
        snprintf(name, sizeof name, "audio/%s/%s.wav", recordings[r].scene, recordings[r].name);
        put_audio(name, 60 + r, recordings[r].seconds, recordings[r].rate_hz, 1 + (r == 0));
        snprintf(name, sizeof name, "soft/soft_labels_%s/%s.txt", recordings[r].scene, recordings[r].name);
        FILE *f = fopen(help_path(path, dir, name), "w");
        int seconds = (int)ceil(recordings[r].seconds);
        for (int s = 0; s < seconds; s++)
            for (int k = 0; k < 2; k++)
                fprintf(f, "%d\t%.10g\t%s\t%.10g\n", s, fmin(s + 1, recordings[r].seconds), labels[k],
                        soft(r, s, k));
        fclose(f);
        int full = recordings[r].seconds >= 10 ? (int)recordings[r].seconds - 9 : 0;
        for (int w = 0; w <= full; w++) {
            double end_s = w < full ? w + 10 : recordings[r].seconds;
            if (w >= end_s) continue;
            for (int s = w; s < end_s; s++)
                for (int k = 0; k < 2; k++)
                    fprintf(table, "%s-%06d-%06d.wav\t%d\t%.10g\t%s\t%.10g\n", recordings[r].name, 100 * w,
                            (int)(100 * end_s + 1e-9), s - w, fmin(s + 1, end_s) - w, labels[k],
                            soft(r, s, k));
            snprintf(name, sizeof name, "windows/%s-%06d-%06d.wav", recordings[r].name, 100 * w,
                     (int)(100 * end_s + 1e-9));
            float *x = NULL;
            int64_t n;
            char from[512], to[512];
            snprintf(path, sizeof path, "audio/%s/%s.wav", recordings[r].scene, recordings[r].name);
            assert_int_equal(es_audio_read(help_path(from, dir, path), (int64_t)w * recordings[r].rate_hz,
                                           w < full ? 10 * recordings[r].rate_hz : -1, &x, &n, NULL, NULL),
                             0);
            int16_t *pcm = es_alloc((size_t)n, 2, NULL);
            es_pcm_from_float(x, n, pcm);
            assert_int_equal(es_audio_write(help_path(to, dir, name), pcm, n, 1, recordings[r].rate_hz, NULL),
                             0);
            es_free(&pcm);
            es_free(&x);
        }
    }
    fclose(table);
    put_text("train_split.csv", "train\ncity_center_02\ncafe_restaurant_00\ncafe_restaurant_07\n");
}

static void maestro_corpus(void **state) {
    (void)state;
    struct es_prepare_params p;
    struct es_store *s = NULL;
    struct es_err err = {0};
    uint64_t cut, made, listed, files;
    struct es_prepare_source source = {
        .subset = ES_SUBSET_MAESTRO, .audio = at(2, "audio"), .labels = at(3, "windows.tsv")};
    es_prepare_params_default(&p);
    p.source = &source;
    p.n_sources = 1;
    prepare_twice(&p, "out/maestro.h5", &cut); /* windows of a table, cut from the recordings */
    source.labels = at(3, "soft");
    prepare_twice(&p, "out/maestro.h5", &made); /* windows made from the annotations */
    assert_int_equal(cut, made);
    source.recordings = at(4, "train_split.csv");
    prepare_twice(&p, "out/maestro.h5", &listed);
    assert_int_equal(cut, listed);

    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_clips(s), 4 + 3 + 1); /* windows at 0..3, 0..2, 0 */
    static const char *const names[8] = {
        "cafe_restaurant_00-000000-001000", "cafe_restaurant_00-000100-001100",
        "cafe_restaurant_00-000200-001200", "cafe_restaurant_00-000300-001234",
        "cafe_restaurant_07-000000-001000", "cafe_restaurant_07-000100-001100",
        "cafe_restaurant_07-000200-001100", "city_center_02-000000-000950"};
    static const double ends[8] = {10, 11, 12, -1, 10, 11, -1, -1};
    for (int i = 0; i < 8; i++) {
        char file[128];
        int r = i < 4 ? 0 : i < 7 ? 1 : 2;
        assert_string_equal(es_store_name(s, i), names[i]);
        assert_string_equal(es_store_recording(s, i), recordings[r].name);
        snprintf(file, sizeof file, "audio/%s/%s.wav", recordings[r].scene, recordings[r].name);
        check_pcm(s, i, file, i < 4 ? i : i < 7 ? i - 4 : 0, ends[i], false);
    }
    int n;
    const struct es_event *e = es_store_events(s, 3, &n); /* seconds 3..12 of recording 0, two labels */
    assert_int_equal(n, 20);
    assert_true(e[19].onset_s == 9 && fabs(e[19].offset_s - 9.34) < 1e-9 && e[19].label == 10);
    assert_true(e[19].confidence == (float)soft(0, 12, 1));
    assert_true(e[0].onset_s == 0 && e[0].offset_s == 1 && e[0].label == 17);
    es_store_close(&s);

    source.recordings = NULL;
    source.labels = at(3, "windows.tsv");
    source.audio = at(2, "windows"); /* windows that are files: the same audio here, as all rates are kept */
    prepare_twice(&p, "out/maestro.h5", &files);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_clips(s), 8);
    for (int i = 0; i < 8; i++) {
        char file[128];
        snprintf(file, sizeof file, "windows/%s.wav", names[i]);
        assert_string_equal(es_store_name(s, i), names[i]);
        check_pcm(s, i, file, 0, -1, false);
    }
    /* int(0.9 * 2) = 1 training recording of cafe_restaurant, none of city_center's one */
    int train[3] = {0};
    for (int i = 0; i < 8; i++) train[i < 4 ? 0 : i < 7 ? 1 : 2] += es_store_split(s, i) == 0;
    assert_true((train[0] == 4 && train[1] == 0) || (train[0] == 0 && train[1] == 3));
    assert_int_equal(train[2], 0);
    es_store_close(&s);
    source.subset = ES_SUBSET_MAESTRO_TEST; /* no split */
    prepare_twice(&p, "out/maestro.h5", &files);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_count(s, ES_SUBSET_MAESTRO_TEST, 1), 8);
    es_store_close(&s);
    es_comm_barrier_all(comm);
}

/* ---- AudioSet-strong */

static void put_hdf(void) { /* PaSST's layout: fixed 20-byte names, mp3s as variable-length bytes */
    char path[512], mp3[512];
    SF_INFO sf = {.samplerate = 32000, .channels = 1, .format = SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III};
    SNDFILE *out = sf_open(help_path(mp3, dir, "one.mp3"), SFM_WRITE, &sf);
    assert_non_null(out);
    for (int i = 0; i < 48000; i++) {
        float v = (float)sound(70, i, 32000);
        sf_writef_float(out, &v, 1);
    }
    sf_close(out);
    size_t n = (size_t)help_bytes(mp3);
    unsigned char *bytes = es_alloc(n, 1, NULL);
    FILE *in = fopen(mp3, "rb");
    assert_int_equal(fread(bytes, 1, n, in), n);
    fclose(in);
    char names[2][20] = {"03/Ynot_there_.mp3", "07/Yone-_two_3.mp3"};
    hvl_t rows[2] = {{10, bytes}, {n, bytes}};
    hsize_t two = 2;
    hid_t f = H5Fcreate(help_path(path, dir, "train_mp3.hdf"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t s = H5Screate_simple(1, &two, NULL), t = H5Tcopy(H5T_C_S1), v = H5Tvlen_create(H5T_STD_U8LE);
    H5Tset_size(t, 20);
    hid_t d = H5Dcreate2(f, "audio_name", t, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(d, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, names);
    H5Dclose(d);
    d = H5Dcreate2(f, "mp3", v, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(d, v, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows);
    H5Dclose(d);
    H5Tclose(v);
    H5Tclose(t);
    H5Sclose(s);
    H5Fclose(f);
    es_free(&bytes);
}

static void make_audioset(void) {
    make_dirs("as");
    put_audio("as/Yone-_two_3.wav", 70, 1.5, 32000, 1);
    put_audio("as/Yb_c_30000.flac", 71, 1.0, 44100, 2); /* by segment */
    put_text("mids.tsv",
             "/m/1\tSpeech\n/m/2\tDog\n/m/3\tAccelerating, revving, vroom\n/m/4\tZipper (clothing)\n");
    put_text("list.txt", "Dog\nSpeech\n");
    put_text("as.tsv", "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
                       "one-_two_3_0\t2.000\t3.000\t/m/1\n"
                       "b_c_30000\t0.1\t0.7\t/m/4\n"
                       "one-_two_3_0\t0.000\t1.000\t/m/1\n"
                       "one-_two_3_0\t1.000\t2.100\t/m/1\n"
                       "one-_two_3_0\t0.500\t0.600\t/m/2\n"
                       "one-_two_3_0\t5.000\t6.000\t/m/1\n");
    put_hdf();
}

static void audioset_corpus(void **state) {
    (void)state;
    struct es_prepare_params p;
    struct es_store *s = NULL;
    struct es_err err = {0};
    uint64_t digest;
    int n;
    struct es_prepare_source source = {
        .subset = ES_SUBSET_AS_TRAIN, .audio = at(2, "as"), .labels = at(3, "as.tsv")};
    es_prepare_params_default(&p);
    p.source = &source;
    p.n_sources = 1;
    p.mids = at(4, "mids.tsv");
    prepare_twice(&p, "out/as.h5", &digest);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_classes(s), 4);
    assert_string_equal(es_store_classes(s)[0], "Accelerating, revving, vroom");
    assert_string_equal(es_store_classes(s)[3], "Zipper (clothing)");
    assert_int_equal(es_store_n_clips(s), 2);
    assert_string_equal(es_store_name(s, 0), "Yone-_two_3");
    assert_string_equal(es_store_name(s, 1), "Yb_c");
    const struct es_event *e = es_store_events(s, 0, &n);
    assert_int_equal(n, 3); /* 0..3 merged, the dog, 5..6 */
    assert_true(e[0].label == 2 && e[0].onset_s == 0 && e[0].offset_s == 3);
    assert_true(e[1].label == 1 && e[1].onset_s == 0.5 && e[1].offset_s == (double)0.6f);
    assert_true(e[2].label == 2 && e[2].onset_s == 5);
    check_pcm(s, 0, "as/Yone-_two_3.wav", 0, -1, true);
    check_pcm(s, 1, "as/Yb_c_30000.flac", 0, -1, true);
    es_store_close(&s);

    p.classes = at(5, "list.txt");
    p.float32_times = false;
    prepare_twice(&p, "out/as.h5", &digest);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_classes(s), 2);
    assert_int_equal(es_store_n_clips(s), 2);
    e = es_store_events(s, 0, &n);
    assert_true(n == 3 && e[1].label == 0 && e[1].offset_s == 0.6);
    es_store_events(s, 1, &n);
    assert_int_equal(n, 0);
    es_store_close(&s);

    source.audio = at(2, "train_mp3.hdf");
    source.skip_missing = true; /* Yb_c is in another file */
    prepare_twice(&p, "out/as.h5", &digest);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_clips(s), 1);
    assert_string_equal(es_store_name(s, 0), "Yone-_two_3");
    check_pcm(s, 0, "one.mp3", 0, -1, true);
    es_store_close(&s);
    es_comm_barrier_all(comm);
}

/* ---- whatever is wrong */

struct spoiled {
    const char *file; /* gets this text, or is removed (NULL) */
    const char *text;
    const char *what1, *what2;
};

static void refuses(struct es_prepare_params *p, const struct spoiled *bad, int code) {
    char path[512], keep[512];
    struct es_err err = {0}, first;
    help_path(path, dir, bad->file);
    help_path(keep, dir, "kept");
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) {
        assert_int_equal(rename(path, keep), 0);
        if (bad->text) help_text(path, bad->text);
    }
    es_comm_barrier_all(comm);
    p->out = at(0, "out/bad.h5");
    help_failed(es_prepare_all(comm, p, NULL, NULL, &err), &err, code, bad->what1, bad->what2);
    first = err;
    es_comm_bcast_all(comm, &first, sizeof first, 0);
    assert_string_equal(first.msg, err.msg);
    assert_int_equal(es_mem_live_blocks(), es_comm_max_all(comm, es_mem_live_blocks()));
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) assert_int_equal(rename(keep, path), 0);
    es_comm_barrier_all(comm);
}

static void bad_corpora(void **state) {
    (void)state;
#define STRONG "filename\tonset\toffset\tevent_label\n"
    static const struct spoiled bad[] = {
        {"strong.tsv", "filename\tonset\toffset\tlabel\n", "strong.tsv:1: columns", "\"event_label\""},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\t0\t1\tHorse\n",
         "strong.tsv:2: event_label: got \"Horse\"", "27 classes"},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\t-1\t1\tDog\n", "strong.tsv:2: onset: got \"-1\"",
         "0 or more"},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\t1\t0.5\tDog\n", "strong.tsv:2: offset: got \"0.5\"",
         "not before"},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\tx\t0.5\tDog\n", "strong.tsv:2: onset: got \"x\"",
         "a number"},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\t0\t\tDog\n", "strong.tsv:2: offset: got \"\"",
         "a number"},
        {"strong.tsv", STRONG "Ystrong0_1.000_3.000.wav\t0\t1\n", "strong.tsv:2: row", "want 4"},
        {"strong.tsv", STRONG "Ynone.wav\t0\t1\tDog\n", "strong.tsv:2: Ynone: no audio file in", "Ynone.wav"},
        {"strong.tsv", NULL, "strong.tsv: cannot open", "No such file"},
        {"weak.tsv", "filename\tevent_labels\nYweak0.wav\tDog,Horse\n",
         "weak.tsv:2: event_labels: got \"Dog,Horse\"", "27 classes"},
        {"weak.tsv", "filename\tevent_labels\nYweak0.wav\t\n", "weak.tsv:2: event_labels", "at least one"},
        {"weak.tsv", "filename\tevent_labels\nYweak0.wav\tDog\nYweak0.wav\tDog\n", "weak.tsv:3: filename",
         "once"},
        {"durations.tsv", "filename\tduration\na.wav\t0\n", "durations.tsv:2: duration: got \"0\"",
         "above 0"},
        {"strong/Ystrong1_1.000_3.000.wav", NULL, "strong.tsv:2: Ystrong1_1.000_3.000: no audio file in",
         "strong"},
        {"weak/Yweak7.wav", "", "weak.tsv:9", "Yweak7.wav: is empty"},
        {"weak/Yweak7.wav", "RIFF is not enough to be audio", "weak.tsv:9", "Yweak7.wav: is not audio"},
        {"unlabeled/Yfree1.wav", "text", "unlabeled/Yfree1.wav", "is not audio"}};
    struct es_prepare_params p = desed_params(NULL);
    p.strict = true;
    int64_t live = es_mem_live_blocks();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuses(&p, &bad[i], strstr(bad[i].what2, "No such file") ? ES_EIO : ES_EDATA);
    static const struct spoiled bad_as[] = {
        {"as.tsv", "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\nx_0\t0\t1\t/m/9\n",
         "as.tsv:2: label: got \"/m/9\"", "machine id"},
        {"as.tsv", "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\nx\t0\t1\t/m/1\n",
         "as.tsv:2: segment_id", "start in ms"},
        {"as.tsv", "segment_id\tstart\tend_time_seconds\tlabel\n", "as.tsv:1: columns", "start_time_seconds"},
        {"mids.tsv", "/m/1\tSpeech\n/m/1\tDog\n", "mids.tsv:2: mid: got \"/m/1\"", "once"},
        {"list.txt", "Dog\nHorse\n", "list.txt:2: class: got \"Horse\"", "display name"}};
    struct es_prepare_source as = {
        .subset = ES_SUBSET_AS_TRAIN, .audio = at(2, "as"), .labels = at(3, "as.tsv")};
    p.source = &as;
    p.n_sources = 1;
    p.mids = at(4, "mids.tsv");
    p.classes = at(5, "list.txt");
    for (size_t i = 0; i < sizeof bad_as / sizeof *bad_as; i++) refuses(&p, &bad_as[i], ES_EDATA);
    static const struct spoiled bad_maestro[] = {
        {"soft/soft_labels_city_center/city_center_02.txt", NULL, "city_center_02: no file of annotations",
         "soft_labels_city_center"},
        {"soft/soft_labels_city_center/city_center_02.txt", "0\t1\tcar\t1.5\n",
         "city_center_02.txt:1: soft label: got \"1.5\"", "0..1"},
        {"soft/soft_labels_city_center/city_center_02.txt", "0\t1\tbus\t0.5\n",
         "city_center_02.txt:1: event label: got \"bus\"", "27"},
        {"soft/soft_labels_city_center/city_center_02.txt", "1\t0\tcar\t0.5\n",
         "city_center_02.txt:1: offset", "not before"},
        {"audio/city_center/city_center_02.wav", "x", "city_center_02.wav", "is not audio"}};
    struct es_prepare_source maestro = {
        .subset = ES_SUBSET_MAESTRO, .audio = at(2, "audio"), .labels = at(3, "soft")};
    p.source = &maestro;
    p.mids = p.classes = NULL;
    for (size_t i = 0; i < sizeof bad_maestro / sizeof *bad_maestro; i++)
        refuses(&p, &bad_maestro[i], ES_EDATA);
#define WINDOWS "filename\tonset\toffset\tevent_label\tconfidence\n"
    static const struct spoiled bad_windows[] = {
        {"windows.tsv", WINDOWS "city_center_02-000000-000900.wav\t0\t1\tcar\t0.5\n",
         "window city_center_02-000000-000900", "9.50 s"},
        {"windows.tsv", WINDOWS "city_center_02-000000-001000.wav\t0\t1\tcar\t0.5\n",
         "window city_center_02-000000-001000", "9.50 s"},
        {"windows.tsv", WINDOWS "city_center_02-000000-000950.wav\t0\t1\tcar\t2\n",
         "windows.tsv:2: confidence: got \"2\"", "0..1"},
        {"windows.tsv", WINDOWS "nowhere_02-000000-001000.wav\t0\t1\tcar\t0.5\n",
         "windows.tsv:2: nowhere_02: no audio file", "audio"}};
    maestro.labels = at(3, "windows.tsv");
    for (size_t i = 0; i < sizeof bad_windows / sizeof *bad_windows; i++)
        refuses(&p, &bad_windows[i], ES_EDATA);
    assert_int_equal(es_mem_live_blocks(), live);
    es_comm_barrier_all(comm);
    char out[512];
    assert_int_equal(help_bytes(at(0, "out/bad.h5")), -1);
    if (es_comm_rank(comm) == 0)
        assert_int_equal(help_count_files(help_path(out, dir, "out")), 4); /* the stores of before */
    es_comm_barrier_all(comm);
}

/* A rank fails in the middle: the same error on all, nothing left. Returns the result. */
static int with_fault(const char *point, int n, int rank, int code) {
    struct es_prepare_params p = desed_params(at(0, "out/bad.h5"));
    int64_t live = es_mem_live_blocks();
    struct es_prepare_source listed[6];
    memcpy(listed, desed, sizeof listed);
    listed[0].exclude = at(2, "strong_exclude.tsv"); /* strict wants clips in two sets named */
    listed[3].exclude = at(3, "unlabeled_exclude.tsv");
    p.source = listed;
    p.strict = code == ES_EDATA;
    char spec[32];
    struct es_err err = {0};
    snprintf(spec, sizeof spec, "%s:%d@rank%d", point, n, rank);
    es_fault_init(spec, es_comm_rank(comm));
    int rc = es_prepare_all(comm, &p, NULL, NULL, &err);
    es_fault_init(NULL, 0);
    assert_true(rc == 0 || rc == -code);
    assert_int_equal(es_comm_max_all(comm, rc), es_comm_min_all(comm, rc));
    assert_int_equal(es_mem_live_blocks(), live);
    assert_int_equal(help_bytes(p.out) > 0, rc == 0);
    es_comm_barrier_all(comm);
    char out[512];
    if (es_comm_rank(comm) == 0) {
        unlink(p.out);
        assert_int_equal(help_count_files(help_path(out, dir, "out")), 4);
    }
    es_comm_barrier_all(comm);
    return rc;
}

static void faults(void **state) {
    (void)state;
    int last = es_comm_size(comm) - 1;
    for (int rank = 0; rank <= last; rank += last > 0 ? last : 1) {
        assert_true(with_fault("decode", 2, rank, ES_EDATA) < 0); /* a header */
        assert_true(with_fault("decode", 9, rank, ES_EDATA) < 0); /* later: samples */
        assert_true(with_fault("write", 2, rank, ES_EIO) < 0);
        assert_true(with_fault("h5open", 1, rank, ES_EIO) < 0);
        int n = 1;
        while (with_fault("malloc", n, rank, ES_EIO) < 0) n += 7;
        assert_true(n > 80);
    }
    assert_true(with_fault("h5write", 3, 0, ES_EIO) < 0);
    assert_true(with_fault("rename", 1, 0, ES_EIO) < 0);
}

/* A signal, which arrives before the first round: with two rounds to go the part file stays; with one the store gets whole.
 * That another run goes on with the part is tested in fault/test_faults. The last test: the flag of a signal stays up. */
static void stopped(void **state) {
    (void)state;
    struct es_prepare_params p = desed_params(at(0, "out/stop.h5"));
    struct es_err err = {0};
    uint64_t digest = 0, want = 0;
    int64_t live = es_mem_live_blocks();
    char part[600];
    assert_int_equal(es_prepare_all(comm, &p, NULL, &want, &err), 0);
    p.out = at(1, "out/again.h5");
    snprintf(part, sizeof part, "%s.part", p.out);
    es_stop_install();
    if (es_comm_rank(comm) == es_comm_size(comm) - 1) raise(SIGTERM);
    int rc = es_prepare_all(comm, &p, NULL, &digest, &err);
    if (es_comm_size(comm) == 1) { /* 29 files, 16 a round */
        assert_int_equal(rc, ES_STOPPED);
        assert_int_equal(help_bytes(p.out), -1);
        assert_true(help_bytes(part) > 0);
    } else {
        assert_int_equal(rc, 0);
        assert_true(digest == want);
        assert_int_equal(help_bytes(part), -1);
    }
    assert_int_equal(es_mem_live_blocks(), live);
}

int main(int argc, char **argv) {
    static void (*const make[])(void) = {make_desed, make_maestro, make_audioset, NULL};
    if (!prepare_begin(&argc, &argv, "prepare", ES_LOG_WARN, make)) return 1;
    set_desed();
    const struct CMUnitTest tests[] = {cmocka_unit_test(desed_corpus),    cmocka_unit_test(maestro_corpus),
                                       cmocka_unit_test(audioset_corpus), cmocka_unit_test(bad_corpora),
                                       cmocka_unit_test(faults),          cmocka_unit_test(stopped)};
    return prepare_end(cmocka_run_group_tests(tests, NULL, NULL));
}
