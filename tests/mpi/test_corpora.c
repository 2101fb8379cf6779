/* Preparing real corpora: whatever is wrong is listed and counted and the rest is packed; overlaps; AudioSet's places and classes.
 * RANKS 1 2 4
 * TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>

#include "earshot/resample.h"

#include "prepare_help.h"

#define STRONG "filename\tonset\toffset\tevent_label\n"

static bool listed(const struct es_prepare_report *r, const char *word1, const char *word2) {
    for (int64_t i = 0; i < es_names_count(r->problem); i++) {
        const char *line = es_names_get(r->problem, i);
        if (strstr(line, word1) && strstr(line, word2)) return true;
    }
    for (int64_t i = 0; i < es_names_count(r->problem); i++)
        print_message("listed: %s\n", es_names_get(r->problem, i));
    print_message("not listed: %s ... %s\n", word1, word2);
    return false;
}

static char *text_of(const char *path) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    int64_t n = help_bytes(path);
    char *s = es_alloc((size_t)n + 1, 1, NULL);
    assert_int_equal(fread(s, 1, (size_t)n, f), n);
    fclose(f);
    return s;
}

static bool holds(const char *path, const char *word) {
    char *s = text_of(path);
    bool found = strstr(s, word) != NULL;
    if (!found) print_message("%s lacks \"%s\":\n%s\n", path, word, s);
    es_free(&s);
    return found;
}

/* A FLAC whose header is sound and whose later frames are not. */
static void spoil_flac(const char *name) {
    char path[512];
    FILE *f = fopen(help_path(path, dir, name), "r+b");
    int64_t n = help_bytes(path);
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)(n / 2), SEEK_SET), 0);
    for (int64_t i = n / 2; i < n; i++) fputc(0x55, f);
    fclose(f);
}

/* ---- DESED with one flaw of each kind */

enum { S_STRONG, S_WEAK, S_UNLABELED, S_VALIDATION, N_DESED };
static struct es_prepare_source desed[N_DESED];

static void make_desed(void) {
    char name[64];
    make_dirs("strong");
    make_dirs("weak");
    make_dirs("unlabeled");
    make_dirs("val");
    make_dirs("out");
    for (int i = 0; i < 14; i++) {
        snprintf(name, sizeof name, "strong/s%d.%s", i, i == 10 ? "flac" : "wav");
        if (i == 9) continue;
        put_audio(name, i, 0.5 + 0.05 * i, i == 11 ? 22050 : 16000, 1 + (i == 12));
    }
    put_audio("strong/s10.flac", 10, 4, 16000, 1);
    spoil_flac("strong/s10.flac");
    put_text("strong/s13.wav", "RIFFnonsense");
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "weak/w%d.wav", i);
        put_audio(name, 20 + i, 0.5, 16000, 1);
        snprintf(name, sizeof name, "val/v%d.wav", i);
        put_audio(name, 30 + i, 0.5, 16000, 1);
    }
    put_audio("unlabeled/u0.wav", 40, 0.3, 16000, 1);
    put_audio("unlabeled/u0.flac", 40, 0.3, 16000, 1);
    put_audio("unlabeled/u1.wav", 41, 0.3, 16000, 1);
    put_text("strong.tsv", STRONG "s0.wav\t0.1\t0.2\tDog\n"
                                  "s1.wav\t0.1\t0.2\tCat\n"
                                  "s2.wav\t0.1\t0.2\tSpeech\n"
                                  "s3.wav\t\t\t\n"
                                  "s4.wav\t0.1\t0.2\tHorse\n"
                                  "s5.wav\t0.1\t0.2\n"
                                  "s6.wav\t-1\t0.2\tDog\n"
                                  "s7.wav\t0.3\t0.2\tDog\n"
                                  "s8.wav\tsoon\t0.2\tDog\n"
                                  "s9.wav\t0.1\t0.2\tDog\n"
                                  "s10.flac\t0.1\t0.2\tDog\n"
                                  "s11.wav\t0.1\t0.2\tDog\n"
                                  "s12.wav\t0.1\t0.2\tDog\n"
                                  "s13.wav\t0.1\t0.2\tDog\n"
                                  "\t0.1\t0.2\tDog\n"
                                  "s4.wav\t0.3\t0.4\tDog\n");
    put_text("weak.tsv",
             "filename\tevent_labels\nw0.wav\tDog\nw1.wav\tCat,Trumpet\nw2.wav\tCat\nw2.wav\tDog\n"
             "w3.wav\t\nw4.wav\tCat\nw5.wav\n");
    put_text("val.tsv", STRONG
             "v0.wav\t0.1\t0.2\tDog\nv1.wav\t\t\t\nv2.wav\t0\t0.5\tCat\nv3.wav\t0\t\tCat\nv4.wav\t\t\t\n");
    put_text("dur.tsv", "filename\tduration\nv0.wav\t0.75\nv1.wav\t-2\n");
}

static struct es_prepare_params desed_params(void) {
    static char path[8][512];
    static const char *const names[8] = {"strong", "strong.tsv", "weak",    "weak.tsv",
                                         "val",    "val.tsv",    "dur.tsv", "unlabeled"};
    for (int i = 0; i < 8; i++) help_path(path[i], dir, names[i]);
    desed[S_STRONG] = (struct es_prepare_source){.name = "strong",
                                                 .subset = ES_SUBSET_STRONG_REAL,
                                                 .audio = path[0],
                                                 .labels = path[1],
                                                 .rate_hz = 16000,
                                                 .n_channels = 1};
    desed[S_WEAK] = (struct es_prepare_source){.subset = ES_SUBSET_WEAK, .audio = path[2], .labels = path[3]};
    desed[S_UNLABELED] = (struct es_prepare_source){.subset = ES_SUBSET_UNLABELED, .audio = path[7]};
    desed[S_VALIDATION] = (struct es_prepare_source){
        .subset = ES_SUBSET_VALIDATION, .audio = path[4], .labels = path[5], .durations = path[6]};
    struct es_prepare_params p;
    es_prepare_params_default(&p);
    p.source = desed;
    p.n_sources = N_DESED;
    p.weak_fraction = 1;
    p.min_share = 0.2;
    return p;
}

static void lists_all(void **state) {
    (void)state;
    struct es_prepare_params p = desed_params();
    struct es_prepare_report r;
    struct es_err err = {0};
    struct es_store *s = NULL;
    uint64_t digest = 0, threaded = 0;
    int64_t live = es_mem_live_blocks();
    p.out = at(0, "out/desed.h5");
    p.left_out = at(1, "out/left.tsv");
    int rc = es_prepare_all(comm, &p, &r, &digest, &err);
    if (rc < 0) print_message("%s\n", err.msg);
    assert_int_equal(rc, 0);
    const struct es_prepare_set *strong = &r.set[S_STRONG], *weak = &r.set[S_WEAK];
    assert_int_equal(strong->clips, 14);
    assert_int_equal(strong->out[ES_PREPARE_STAYS], 3);
    assert_int_equal(strong->out[ES_PREPARE_EMPTY], 1);
    assert_int_equal(strong->out[ES_PREPARE_BAD_ROW], 5);
    assert_int_equal(strong->out[ES_PREPARE_NO_AUDIO], 1);
    assert_int_equal(strong->out[ES_PREPARE_BAD_AUDIO], 4);
    assert_int_equal(strong->events, 3);
    assert_int_equal(weak->clips, 6);
    assert_int_equal(weak->out[ES_PREPARE_STAYS], 3);
    assert_int_equal(weak->out[ES_PREPARE_BAD_ROW], 3);
    assert_int_equal(r.set[S_UNLABELED].out[ES_PREPARE_STAYS], 2);
    assert_int_equal(r.set[S_VALIDATION].out[ES_PREPARE_STAYS], 4);
    assert_true(listed(&r, "strong.tsv:6: event_label: got \"Horse\"", "27 classes"));
    assert_true(listed(&r, "strong.tsv:7: row: got 3 fields", "want 4"));
    assert_true(listed(&r, "strong.tsv:8: onset: got \"-1\"", "0 or more"));
    assert_true(listed(&r, "strong.tsv:9: offset: got \"0.2\"", "0.3"));
    assert_true(listed(&r, "strong.tsv:10: onset: got \"soon\"", "a number"));
    assert_true(listed(&r, "strong.tsv:11: s9: no audio file in", "strong"));
    assert_true(listed(&r, "strong.tsv:12", "s10.flac"));
    assert_true(listed(&r, "strong.tsv:13", "s11.wav: sample rate: got 22050 Hz, want 16000"));
    assert_true(listed(&r, "strong.tsv:14", "s12.wav: channels: got 2, want 1"));
    assert_true(listed(&r, "strong.tsv:15", "s13.wav: is not audio"));
    assert_true(listed(&r, "strong.tsv:16: filename: got \"\"", "audio file"));
    assert_true(listed(&r, "weak.tsv:3: event_labels: got \"Cat,Trumpet\"", "27 classes"));
    assert_true(listed(&r, "weak.tsv:5: filename: got \"w2.wav\"", "once"));
    assert_true(listed(&r, "weak.tsv:6: event_labels: got \"\"", "at least one"));
    assert_true(listed(&r, "weak.tsv:8: row: got 1 fields", "want 2"));
    assert_true(listed(&r, "val.tsv:5: offset: got \"\"", "a number"));
    assert_true(listed(&r, "dur.tsv:3: duration: got \"-2\"", "above 0"));
    assert_true(listed(&r, "unlabeled/u0.", "twice"));
    assert_int_equal(es_names_count(r.problem), 18);
    es_prepare_report_free(&r);
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_n_clips(s), 3 + 3 + 2 + 4);
    assert_string_equal(es_store_name(s, 2), "s2");
    assert_true(es_store_duration(s, find(s, ES_SUBSET_VALIDATION, "v0")) == 0.75);
    assert_true(es_store_duration(s, find(s, ES_SUBSET_VALIDATION, "v1")) == 0.5);
    es_store_close(&s);
    es_comm_barrier_all(comm);
    assert_true(holds(p.left_out, "s4\tstrong\tbad_row\t"));
    assert_true(holds(p.left_out, "strong.tsv:11"));
    assert_true(holds(p.left_out, "s10\tstrong\tbad_audio"));
    assert_true(holds(p.left_out, "s3\tstrong\tempty"));
    p.threads = 3;
    p.left_out = NULL;
    prepare_twice(&p, "out/threads.h5", &threaded);
    assert_true(threaded == digest);
    assert_int_equal(es_mem_live_blocks(), live);
    es_comm_barrier_all(comm);
}

/* Only the first of each; and sets that are too small or empty. */
static void stops(void **state) {
    (void)state;
    struct es_prepare_params p = desed_params();
    struct es_prepare_report r;
    struct es_err err = {0};
    p.out = at(0, "out/bad.h5");
    p.strict = true;
    help_failed(es_prepare_all(comm, &p, NULL, NULL, &err), &err, ES_EDATA, "strong.tsv:6", "Horse");
    err = (struct es_err){0};
    p.source = &desed[S_UNLABELED];
    p.n_sources = 1;
    help_failed(es_prepare_all(comm, &p, NULL, NULL, &err), &err, ES_EDATA, "unlabeled/u0.", "twice");
    struct es_prepare_source late = desed[S_STRONG]; /* the flaw comes to light when samples are decoded */
    es_comm_barrier_all(comm);
    if (es_comm_rank(comm) == 0) put_text("late.tsv", STRONG "s0.wav\t0\t1\tDog\ns10.flac\t0\t1\tDog\n");
    es_comm_barrier_all(comm);
    late.labels = at(2, "late.tsv");
    p.source = &late;
    err = (struct es_err){0};
    help_failed(es_prepare_all(comm, &p, NULL, NULL, &err), &err, ES_EDATA, "late.tsv:3", "s10.flac");

    p = desed_params();
    p.out = at(0, "out/bad.h5");
    p.min_share = 0.5;
    err = (struct es_err){0};
    int rc = es_prepare_all(comm, &p, &r, NULL, &err);
    help_failed(rc, &err, ES_EDATA, "strong.tsv: set strong: 4 of 13 clips have sound audio and rows",
                "a download that failed?");
    assert_non_null(strstr(err.msg, "strong.tsv:6"));
    assert_int_equal(r.set[S_STRONG].out[ES_PREPARE_BAD_ROW], 5); /* the report is there all the same */
    assert_int_equal(es_names_count(r.problem), 17);              /* all but that of a file not decoded yet */
    es_prepare_report_free(&r);

    static const char *const empty[][2] = {{STRONG, "no clip is left of 0"},
                                           {STRONG "s0.wav\t0\t1\tHorse\n", "no clip is left of 1"},
                                           {STRONG "gone.wav\t0\t1\tDog\n", "1 without audio"}};
    for (int i = 0; i < 3; i++) {
        es_comm_barrier_all(comm);
        if (es_comm_rank(comm) == 0) put_text("late.tsv", empty[i][0]);
        es_comm_barrier_all(comm);
        p.source = &late;
        p.n_sources = 1;
        err = (struct es_err){0};
        help_failed(es_prepare_all(comm, &p, NULL, NULL, &err), &err, ES_EDATA, "late.tsv: set strong",
                    empty[i][1]);
    }
    err = (struct es_err){0}; /* --check sees it in the tables already */
    if (es_comm_rank(comm) == 0) put_text("late.tsv", empty[1][0]);
    es_comm_barrier_all(comm);
    rc = es_prepare_check_all(comm, &p, &r, NULL, &err);
    help_failed(rc, &err, ES_EDATA, "late.tsv: set strong", "first problem: ");
    assert_true(listed(&r, "late.tsv:2: event_label", "Horse"));
    es_prepare_report_free(&r);
    assert_int_equal(help_bytes(p.out), -1);
    es_comm_barrier_all(comm);
}

/* ---- overlaps */

static void make_overlaps(void) {
    static const char *const files[] = {"o/Yaaaaaaaaaaa_1.000_2.000.wav",
                                        "o/Ybbbbbbbbbbb_1.000_2.000.wav",
                                        "o/Yccccccccccc_1.000_2.000.wav",
                                        "o/Yd_dddd_1ddd_1.000_2.000.wav",
                                        "o/Yeeeeeeeeeee_1.000_2.000.wav",
                                        "o/Yfffffffffff_1.000_2.000.wav",
                                        "o/ddd.wav",
                                        "p/d_dddd_1ddd_5.000_6.000.wav",
                                        "p/ggggggggggg_1.000_2.000.wav"};
    make_dirs("o");
    make_dirs("p");
    for (int i = 0; i < 9; i++) put_audio(files[i], i, 0.2, 16000, 1);
#define ROW(id) "Y" id "_1.000_2.000.wav\t0\t1\tDog\n"
    put_text("o_strong.tsv",
             STRONG ROW("aaaaaaaaaaa") ROW("bbbbbbbbbbb") ROW("d_dddd_1ddd") "ddd.wav\t0\t1\tDog\n");
    put_text("o_ext.tsv", STRONG ROW("ccccccccccc") ROW("eeeeeeeeeee"));
    put_text("o_val.tsv", STRONG ROW("bbbbbbbbbbb") ROW("fffffffffff"));
    put_text("o_public.tsv",
             STRONG "d_dddd_1ddd_5.000_6.000.wav\t0\t1\tDog\nggggggggggg_1.000_2.000.wav\t0\t1\tDog\n");
    put_text("o_weak.tsv", "filename\tevent_labels\nYaaaaaaaaaaa_1.000_2.000.wav\tDog\n"
                           "Yeeeeeeeeeee_1.000_2.000.wav\tDog\nYfffffffffff_1.000_2.000.wav\tDog\n");
    put_text("o_list.tsv", "filename\tother\nYaaaaaaaaaaa_1.000_2.000.wav\tx\n");
}

static void overlaps(void **state) {
    (void)state;
    enum { N = 5 };
    static char path[N][512], list[512], public_audio[512];
    static const char *const tables[N] = {"o_strong.tsv", "o_ext.tsv", "o_val.tsv", "o_public.tsv",
                                          "o_weak.tsv"};
    static const enum es_subset subset[N] = {ES_SUBSET_STRONG_REAL, ES_SUBSET_STRONG_REAL,
                                             ES_SUBSET_VALIDATION, ES_SUBSET_PUBLIC, ES_SUBSET_WEAK};
    static const char *const names[N] = {"strong", "external_train", "validation", "public", "weak"};
    struct es_prepare_source source[N];
    struct es_prepare_params p;
    struct es_prepare_report r;
    struct es_store *s = NULL;
    struct es_err err = {0};
    help_path(public_audio, dir, "p");
    for (int i = 0; i < N; i++)
        source[i] = (struct es_prepare_source){.name = names[i],
                                               .subset = subset[i],
                                               .audio = i == 3 ? public_audio : at(0, "o"),
                                               .labels = help_path(path[i], dir, tables[i])};
    es_prepare_params_default(&p);
    p.out = at(1, "out/overlaps.h5");
    p.left_out = at(2, "out/o_left.tsv");
    p.exclude_out = at(3, "out");
    p.source = source;
    p.n_sources = N;
    p.weak_fraction = 1;
    int rc = es_prepare_all(comm, &p, &r, NULL, &err);
    assert_int_equal(rc, -ES_EDATA); /* every weak clip is in another set */
    assert_non_null(strstr(err.msg, "o_weak.tsv: set weak: no clip is left of 3"));
    assert_non_null(strstr(err.msg, "3 excluded"));
    static const struct es_prepare_overlap want[] = {
        {0, 2, 1, 1}, {0, 3, 0, 1}, {0, 4, 1, 1}, {1, 4, 1, 1}, {2, 4, 1, 1}};
    assert_int_equal(r.n_overlaps, 5);
    for (int i = 0; i < 5; i++) assert_memory_equal(&r.overlap[i], &want[i], sizeof want[i]);
    es_prepare_report_free(&r);

    p.n_sources = 4;
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_int_equal(r.set[0].out[ES_PREPARE_OVERLAP], 2);
    assert_int_equal(r.set[1].out[ES_PREPARE_OVERLAP], 0);
    assert_int_equal(es_names_count(r.problem), 0); /* resolved, and counted */
    es_prepare_report_free(&r);
    es_comm_barrier_all(comm);
    assert_true(holds(p.left_out, "Ybbbbbbbbbbb_1.000_2.000\tstrong\toverlap: also in validation\t"));
    assert_true(holds(p.left_out, "Yd_dddd_1ddd_1.000_2.000\tstrong\toverlap: also in public\t"));
    assert_true(holds(at(4, "out/strong_exclude.tsv"),
                      "filename\nYbbbbbbbbbbb_1.000_2.000.wav\nYd_dddd_1ddd_1.000_2.000.wav\n"));
    assert_int_equal(es_store_open(&s, p.out, &err), 0);
    assert_int_equal(es_store_count(s, ES_SUBSET_STRONG_REAL, 0), 2 + 2);
    assert_int_equal(es_store_count(s, ES_SUBSET_PUBLIC, 1), 2);
    es_store_close(&s);

    p.strict = true; /* the lists must name them */
    help_failed(es_prepare_all(comm, &p, NULL, NULL, &err), &err, ES_EDATA,
                "o_strong.tsv:3: filename: Ybbbbbbbbbbb_1.000_2.000 of strong is also in validation",
                "o_val.tsv");
    source[0].exclude = at(4, "out/strong_exclude.tsv");
    err = (struct es_err){0};
    p.left_out = p.exclude_out = NULL;
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_int_equal(r.set[0].out[ES_PREPARE_LISTED], 2);
    es_prepare_report_free(&r);

    p.strict = false; /* nothing is left out but what a list names; the others are listed */
    p.overlap_exclude = false;
    p.n_sources = N;
    source[0].exclude = help_path(list, dir, "o_list.tsv");
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_int_equal(r.set[0].out[ES_PREPARE_LISTED], 1);
    assert_int_equal(r.set[4].out[ES_PREPARE_STAYS], 3);
    assert_true(listed(&r, "o_strong.tsv:3: filename: Ybbbbbbbbbbb", "is also in validation"));
    assert_true(listed(&r, "o_weak.tsv:3: filename: Yeeeeeeeeeee", "is also in external_train"));
    es_prepare_report_free(&r);
    es_comm_barrier_all(comm);
    assert_int_equal(help_bytes(help_path(path[0], dir, "out/public_exclude.tsv")), -1);
    es_comm_barrier_all(comm);
}

/* ---- AudioSet-strong: two places, class sets */

static void put_hdf(const char *name, const char *stem, const char *mp3) {
    char path[512];
    size_t n = (size_t)help_bytes(mp3);
    char *bytes = text_of(mp3), row[20] = "";
    snprintf(row, sizeof row, "%s", stem);
    hvl_t value = {n, bytes};
    hsize_t one = 1;
    hid_t f = H5Fcreate(help_path(path, dir, name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t s = H5Screate_simple(1, &one, NULL), t = H5Tcopy(H5T_C_S1), v = H5Tvlen_create(H5T_STD_U8LE);
    H5Tset_size(t, 20);
    hid_t d = H5Dcreate2(f, "audio_name", t, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(d, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, row);
    H5Dclose(d);
    d = H5Dcreate2(f, "mp3", v, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(d, v, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value);
    H5Dclose(d);
    H5Tclose(v);
    H5Tclose(t);
    H5Sclose(s);
    H5Fclose(f);
    es_free(&bytes);
}

#define SEGMENTS "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"

static void make_audioset(void) {
    char path[512];
    make_dirs("unbalanced");
    put_audio("unbalanced/Yu1.wav", 70, 1.5, 32000, 2);
    put_audio("unbalanced/Yu2.wav", 71, 1.0, 32000, 1);
    put_audio("unbalanced/Ye1.wav", 72, 1.0, 32000, 1);
    put_hdf("balanced.hdf", "Yb1.mp3",
            help_path(path, dir, "unbalanced/Yu2.wav")); /* bytes of any audio file */
    put_text("mids.tsv", "/m/1\tSpeech\n/m/2\tDog\n/m/3\tAccelerating\n/m/4\tZipper\n/m/5\tOwl\n");
    put_text("as_train.tsv", SEGMENTS "u1_0\t0\t1\t/m/1\nb1_30000\t0\t1\t/m/2\nu2_0\t0\t1\t/m/4\n"
                                      "b1_30000\t2\t3\t/m/1\ngone_0\t0\t1\t/m/1\nu1_0\t2\t3\t/m/4\n");
    put_text("as_eval.tsv", SEGMENTS "e1_0\t0\t1\t/m/1\ne1_0\t1\t2\t/m/2\ne1_0\t3\t4\t/m/3\n");
    put_text("as_bad.tsv",
             SEGMENTS "u1_0\t0\t1\t/m/1\nu1_10000\t0\t1\t/m/1\nu2_0\t0\t1\t/m/99\nu2_x\t0\t1\t/m/1\n"
                      "e1_0\t0\t1\t/m/1\n");
}

static void audioset(void **state) {
    (void)state;
    static const char *const want[4] = {"Accelerating Dog Owl Speech Zipper", "Dog Speech Zipper",
                                        "Accelerating Dog Speech", "Dog Speech"};
    static const int64_t dropped[4][2] = {{0, 0}, {0, 1}, {2, 0}, {2, 1}};
    struct es_prepare_source source[2] = {
        {.subset = ES_SUBSET_AS_TRAIN,
         .audio = at(2, "balanced.hdf"),
         .more_audio = at(3, "unbalanced"),
         .labels = at(4, "as_train.tsv"),
         .skip_missing = true},
        {.subset = ES_SUBSET_AS_EVAL, .audio = at(3, "unbalanced"), .labels = at(5, "as_eval.tsv")}};
    struct es_prepare_params p;
    struct es_prepare_report r;
    struct es_store *s = NULL;
    struct es_err err = {0};
    es_prepare_params_default(&p);
    p.source = source;
    p.n_sources = 2;
    p.mids = at(6, "mids.tsv");
    p.class_table[0] = source[0].labels;
    p.class_table[1] = source[1].labels;
    p.strict = true; /* missing audio is expected here */
    for (int k = 0; k < 4; k++) {
        char got[200] = "";
        p.class_set = (enum es_prepare_classes)k;
        p.out = at(0, "out/as.h5");
        int rc = es_prepare_all(comm, &p, &r, NULL, &err);
        if (rc < 0) print_message("%s\n", err.msg);
        assert_int_equal(rc, 0);
        assert_int_equal(r.set[0].out[ES_PREPARE_NO_AUDIO], 1);
        assert_int_equal(r.set[0].events_dropped, dropped[k][0]);
        assert_int_equal(r.set[1].events_dropped, dropped[k][1]);
        es_prepare_report_free(&r);
        assert_int_equal(es_store_open(&s, p.out, &err), 0);
        for (int c = 0; c < es_store_n_classes(s); c++) {
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s%s", c ? " " : "", es_store_classes(s)[c]);
        }
        assert_string_equal(got, want[k]);
        assert_int_equal(es_store_n_clips(s), 4);
        assert_string_equal(es_store_name(s, 0), "Yb1"); /* the first place, then the second */
        assert_string_equal(es_store_name(s, 1), "Yu1");
        assert_string_equal(es_store_name(s, 2), "Yu2");
        int n;
        es_store_events(s, 0, &n);
        assert_int_equal(n, 2);
        float *x = NULL, *y = NULL; /* the first channel */
        int64_t n_x, n_y;
        char path[512];
        assert_int_equal(es_audio_read_first(help_path(path, dir, "unbalanced/Yu1.wav"), &x, &n_x, NULL), 0);
        assert_int_equal(es_resample_kaiser(x, n_x, 32000, 16000, &y, &n_y, NULL), 0);
        assert_int_equal(es_store_length(s, 1), n_y);
        int16_t *a = es_alloc((size_t)n_y, 2, NULL), *b = es_alloc((size_t)n_y, 2, NULL);
        es_pcm_from_float(y, n_y, a);
        assert_int_equal(es_store_read_pcm(s, 1, 0, n_y, b, NULL), 0);
        assert_memory_equal(a, b, (size_t)n_y * 2);
        es_free(&b);
        es_free(&a);
        es_free(&y);
        es_free(&x);
        es_store_close(&s);
        es_comm_barrier_all(comm);
    }
    p.strict = false;
    p.class_set = ES_PREPARE_CLASSES_ALL;
    p.n_sources = 1;
    p.min_share = 0.2;
    source[0].labels = at(5, "as_bad.tsv");
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_true(listed(&r, "as_bad.tsv:3: segment_id: got \"u1_10000\"", "from 0 ms on"));
    assert_true(listed(&r, "as_bad.tsv:4: label: got \"/m/99\"", "machine id"));
    assert_true(listed(&r, "as_bad.tsv:5: segment_id: got \"u2_x\"", "start in ms"));
    assert_int_equal(r.set[0].out[ES_PREPARE_STAYS], 1);
    es_prepare_report_free(&r);
    es_comm_barrier_all(comm);
}

/* ---- MAESTRO: soft labels, annotations, recordings */

static void make_maestro(void) {
    char name[64];
    make_dirs("rec");
    make_dirs("soft");
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "rec/city_center_%02d.wav", i);
        put_audio(name, 60 + i, 11.5, 16000, 1);
        snprintf(name, sizeof name, "soft/city_center_%02d.txt", i);
        put_text(name, i == 1   ? "0\t1\tcar\t0.5\n1\t2\tcar\t1.5\n"
                       : i == 3 ? "0\t1\tbus\t0.5\n"
                                : "0\t1\tcar\t0\n");
    }
    put_audio("rec/metro_station_07.wav", 64, 10.5, 16000, 1);
    put_text("rec/metro_station_09.wav", "x");
    put_text("windows.tsv", "filename\tonset\toffset\tevent_label\tconfidence\n"
                            "city_center_00-000000-001000.wav\t0\t1\tcar\t0.5\n"
                            "city_center_00-000100-001100.wav\t0\t1\tcar\t-0.1\n"
                            "city_center_00-000100-009900.wav\t0\t1\tcar\t0.1\n"
                            "city_center_00.wav\t0\t1\tcar\t0.1\n"
                            "city_center_02-000100-001100.wav\t0\t1\tcar\t0.1\n");
}

static void maestro(void **state) {
    (void)state;
    struct es_prepare_source source = {
        .subset = ES_SUBSET_MAESTRO, .audio = at(2, "rec"), .labels = at(3, "soft")};
    struct es_prepare_params p;
    struct es_prepare_report r;
    struct es_err err = {0};
    es_prepare_params_default(&p);
    p.source = &source;
    p.n_sources = 1;
    p.min_share = 0.1;
    p.out = at(0, "out/maestro.h5");
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_true(listed(&r, "city_center_01.txt:2: soft label: got \"1.5\"", "0..1"));
    assert_true(listed(&r, "city_center_03.txt:1: event label: got \"bus\"", "27"));
    assert_true(listed(&r, "metro_station_07: no file of annotations", "soft_labels_metro_station"));
    assert_true(listed(&r, "metro_station_09.wav", "is not audio"));
    assert_int_equal(r.set[0].clips, 4 * 3 + 2 + 1); /* windows, and a recording that cannot be read */
    assert_int_equal(r.set[0].out[ES_PREPARE_STAYS], 2 * 3);
    assert_int_equal(r.set[0].out[ES_PREPARE_BAD_ROW], 2 * 3 + 2);
    assert_int_equal(r.set[0].out[ES_PREPARE_BAD_AUDIO], 1);
    es_prepare_report_free(&r);
    source.labels = at(3, "windows.tsv");
    assert_int_equal(es_prepare_all(comm, &p, &r, NULL, &err), 0);
    assert_true(listed(&r, "windows.tsv:3: confidence: got \"-0.1\"", "0..1"));
    assert_true(listed(&r, "window city_center_00-000100-009900 does not fit", "11.50 s"));
    assert_true(listed(&r, "windows.tsv:5: filename: got \"city_center_00\"", "1/100 s"));
    assert_int_equal(r.set[0].out[ES_PREPARE_STAYS], 2);
    assert_int_equal(r.set[0].out[ES_PREPARE_BAD_ROW], 3);
    es_prepare_report_free(&r);
    es_comm_barrier_all(comm);
}

int main(int argc, char **argv) {
    static void (*const make[])(void) = {make_desed, make_overlaps, make_audioset, make_maestro, NULL};
    if (!prepare_begin(&argc, &argv, "corpora", ES_LOG_ERROR, make)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists_all), cmocka_unit_test(stops),
                                       cmocka_unit_test(overlaps), cmocka_unit_test(audioset),
                                       cmocka_unit_test(maestro)};
    return prepare_end(cmocka_run_group_tests(tests, NULL, NULL));
}
