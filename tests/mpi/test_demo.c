/* RANKS 1 2 4
 * TIMEOUT 120
 * The demo corpus on any number of ranks: the same files byte for byte; label files as the readers want them; a second run, an
 * unfinished one, a strange folder, folders and files that cannot be written. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../io_help.h"

#include "earshot/audio.h"
#include "earshot/demo.h"
#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/tsv.h"

static struct es_comm *world;

static struct es_demo_params tiny(const char *out) {
    struct es_demo_params p;
    es_demo_params_default(&p);
    p.out = out;
    p.clips_as = 5;
    p.clips_real = 7;
    p.clips_synth = 3;
    p.clips_weak = 6;
    p.clips_unlabeled = 2;
    p.clips_validation = 5;
    p.clips_synth_validation = 3;
    p.maestro_train = 6;
    p.maestro_validation = 5;
    p.maestro_seconds = 12;
    return p;
}

static int render(const struct es_comm *comm, const struct es_demo_params *p, struct es_err *err) {
    *err = (struct es_err){0};
    return es_demo_render_all(comm, p, err);
}

/* Digest of names and bytes of all files below dir; the sum does not depend on the order of entries. */
static uint64_t tree_digest(const char *dir, const char *below, int *n_files) {
    uint64_t sum = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[1024], name[1024];
        struct stat st;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        snprintf(name, sizeof name, "%s/%s", below, e->d_name);
        assert_int_equal(stat(path, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            sum += tree_digest(path, name, n_files);
            continue;
        }
        struct es_hash *h = NULL;
        char block[65536];
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        assert_int_equal(es_hash_new(&h, NULL), 0);
        es_hash_string(h, name);
        for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) es_hash_update(h, block, n);
        sum += es_hash_value(h);
        es_hash_free(&h);
        fclose(f);
        ++*n_files;
    }
    closedir(d);
    return sum;
}

/* All ranks: the digest as rank 0 sees it. */
static uint64_t shared_digest(const char *dir, int *n_files) {
    uint64_t v = 0;
    *n_files = 0;
    es_comm_barrier_all(world);
    if (es_comm_rank(world) == 0) v = tree_digest(dir, "", n_files);
    es_comm_bcast_all(world, &v, sizeof v, 0);
    es_comm_bcast_all(world, n_files, sizeof *n_files, 0);
    return v;
}

static void same_files_for_any_number_of_ranks(void **state) {
    (void)state;
    char dir[256], alone[512], together[512];
    struct es_err err;
    struct es_comm *solo = NULL;
    int n_alone = 0, n_together = 0;
    help_dir(world, "demo", dir);
    help_path(alone, dir, "alone");
    help_path(together, dir, "deep/er/together");
    assert_int_equal(es_comm_split_all(&solo, world, es_comm_rank(world), &err), 0);
    struct es_demo_params p = tiny(alone);
    if (es_comm_rank(world) == 0) assert_int_equal(render(solo, &p, &err), 0);
    es_comm_free_all(&solo);
    p.out = together;
    if (render(world, &p, &err) < 0) fail_msg("%s", err.msg);
    const uint64_t a = shared_digest(alone, &n_alone), b = shared_digest(together, &n_together);
    assert_true(n_alone == n_together && n_alone > 60);
    assert_true(a == b);
    p.seed = 2;
    p.out = help_path(alone, dir, "other seed");
    assert_int_equal(render(world, &p, &err), 0);
    assert_true(shared_digest(alone, &n_alone) != a && n_alone == n_together);
    help_dir_end(world, dir);
}

static void a_finished_demo_is_left_alone(void **state) {
    (void)state;
    char dir[256], path[512];
    struct es_err err;
    int n = 0, again = 0;
    help_dir(world, "demo", dir);
    struct es_demo_params p = tiny(dir);
    assert_int_equal(render(world, &p, &err), 0);
    const uint64_t before = shared_digest(dir, &n);
    if (es_comm_rank(world) == 0) help_text(help_path(path, dir, "desed/note"), "mine");
    assert_int_equal(render(world, &p, &err), 0);
    es_comm_barrier_all(world);
    if (es_comm_rank(world) == 0) {
        assert_int_equal(help_bytes(help_path(path, dir, "desed/note")), 4);
        remove(path);
    }
    assert_true(shared_digest(dir, &again) == before && again == n);
    p.snr_max_db = 11; /* other parameters: not touched either, and said so */
    help_failed(render(world, &p, &err), &err, ES_EUSAGE, dir, "other parameters");
    assert_true(shared_digest(dir, &again) == before);

    /* unfinished: written anew. A folder in the place of an audio file: the rank that meets it speaks for all. */
    p = tiny(dir);
    char text[4096] = {0}, wav[512];
    help_path(wav, dir, "desed/audio/train/strong_label_real_16k");
    help_path(path, dir, "demo.json");
    if (es_comm_rank(world) == 0) {
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_true(fread(text, 1, sizeof text - 1, f) > 100);
        fclose(f);
        char *at = strstr(text, "\"complete\": true");
        assert_non_null(at);
        memcpy(at, "\"complete\":false", 16);
        help_text(path, text);
        DIR *d = opendir(wav);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d)) != NULL;)
            if (strncmp(e->d_name, "YdemoR000003", 12) == 0) {
                const size_t used = strlen(wav);
                snprintf(wav + used, sizeof wav - used, "/%s", e->d_name);
                break;
            }
        closedir(d);
        assert_int_equal(remove(wav), 0);
        assert_int_equal(mkdir(wav, 0777), 0);
    }
    es_comm_barrier_all(world);
    help_failed(render(world, &p, &err), &err, ES_EIO, "YdemoR000003", "");
    es_comm_barrier_all(world);
    if (es_comm_rank(world) == 0) assert_int_equal(rmdir(wav), 0);
    es_comm_barrier_all(world);
    assert_int_equal(render(world, &p, &err), 0);
    assert_true(shared_digest(dir, &again) == before && again == n);
    help_dir_end(world, dir);
}

static void strange_folders_are_refused(void **state) {
    (void)state;
    char dir[256], path[512];
    struct es_err err;
    help_dir(world, "demo", dir);
    struct es_demo_params p = tiny(dir);
    if (es_comm_rank(world) == 0) help_text(help_path(path, dir, "thesis.txt"), "my only copy");
    es_comm_barrier_all(world);
    help_failed(render(world, &p, &err), &err, ES_EUSAGE, dir, "not a demo corpus");
    p.out = help_path(path, dir, "thesis.txt");
    help_failed(render(world, &p, &err), &err, ES_EUSAGE, "thesis.txt", "is a file");
    p.out = help_path(path, dir, "thesis.txt/below");
    help_failed(render(world, &p, &err), &err, ES_EIO, "thesis.txt", "");
    p.out = "/proc/earshot-demo";
    help_failed(render(world, &p, &err), &err, ES_EIO, "/proc/earshot-demo", "");
    p = tiny(dir);
    p.sounds = "no/such/folder";
    help_failed(render(world, &p, &err), &err, ES_EIO, "no/such/folder", "manifest.tsv");
    p.sounds = NULL;
    p.test_fraction = 0;
    help_failed(render(world, &p, &err), &err, ES_EUSAGE, "demo.test_fraction", "");
    p = tiny(help_path(path, dir, "memory"));
    es_fault_init("malloc:3@rank0", es_comm_rank(world));
    const int rc = render(world, &p, &err);
    es_fault_init(NULL, 0);
    help_failed(rc, &err, ES_EIO, "memory", "");
    assert_int_equal(help_bytes(path), -1);
    help_dir_end(world, dir);
}

/* ---- label files, by the strict reader */

static struct es_tsv *table(const char *dir, const char *name, const char *const *columns, int n,
                            unsigned flags) {
    char path[512];
    struct es_err err = {0};
    struct es_tsv *t = NULL;
    if (es_tsv_open(&t, help_path(path, dir, name), columns, n, flags, &err) < 0) fail_msg("%s", err.msg);
    return t;
}

static void check_strong(const char *dir, const char *name, const char *audio, int n_clips, double most_s) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
    struct es_tsv *t = table(dir, name, columns, 5, 0);
    struct es_names *seen = NULL;
    struct es_err err = {0};
    assert_int_equal(es_names_new(&seen, &err), 0);
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        double on = 0, off = 0;
        assert_true(es_names_add(seen, es_tsv_text(t, i, 0), &err) >= 0);
        if (*es_tsv_text(t, i, 3) == 0) continue;
        if (es_tsv_times(t, i, 1, 2, &on, &off, &err) < 0) fail_msg("%s", err.msg);
        assert_true(on < off && off <= most_s);
        int known = 0;
        for (int s = 0; s < ES_SOUND_TASK; s++) known += strcmp(es_sound(s)->name, es_tsv_text(t, i, 3)) == 0;
        assert_int_equal(known, 1);
        if (audio != NULL) {
            char path[512], file[512];
            struct es_audio_info info;
            snprintf(file, sizeof file, "%s/%s", audio, es_tsv_text(t, i, 0));
            assert_int_equal(es_audio_info(help_path(path, dir, file), &info, &err), 0);
            assert_true(info.n_samples == 160000 && info.rate_hz == 16000 && info.n_channels == 1);
        }
    }
    assert_int_equal(es_names_count(seen), n_clips);
    es_names_free(&seen);
    es_tsv_close(&t);
}

static void check_rows(const char *dir, const char *name, const char *first, const char *second, int n_rows) {
    const char *const columns[] = {first, second};
    struct es_tsv *t = table(dir, name, columns, 2, 0);
    assert_int_equal(es_tsv_rows(t), n_rows);
    es_tsv_close(&t);
}

static void check_audioset(const char *dir) {
    static const char *const columns[] = {"segment_id", "start_time_seconds", "end_time_seconds", "label"};
    static const char *const mid[] = {"mid", "name"};
    struct es_tsv *t = table(dir, "audioset/metadata/audioset_train_strong.tsv", columns, 4, 0);
    struct es_tsv *m = table(dir, "audioset/metadata/mid_to_display_name.tsv", mid, 2, ES_TSV_NO_HEADER);
    struct es_err err = {0};
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        char id[64], file[512], path[512];
        double on, off;
        int known = 0;
        assert_int_equal(es_tsv_times(t, i, 1, 2, &on, &off, &err), 0);
        for (int64_t k = 0; k < es_tsv_rows(m); k++)
            known += strcmp(es_tsv_text(m, k, 0), es_tsv_text(t, i, 3)) == 0;
        assert_int_equal(known, 1);
        snprintf(id, sizeof id, "%s", es_tsv_text(t, i, 0));
        assert_int_equal(strcspn(id, "_"), 11); /* a video id */
        id[11] = 0;
        snprintf(file, sizeof file, "audioset/audio/train/Y%s.wav", id);
        assert_true(help_bytes(help_path(path, dir, file)) > 320000);
    }
    es_tsv_close(&m);
    es_tsv_close(&t);
}

/* Windows repeat the recording's annotation, shifted and cut. */
static void check_maestro(const char *dir) {
    static const char *const soft[] = {"onset", "offset", "event", "soft_label"};
    static const char *const windows[] = {"filename", "onset", "offset", "event_label", "confidence"};
    struct es_tsv *t = table(dir, "maestro/development_annotation/soft_labels_city_center/city_center_00.txt",
                             soft, 4, ES_TSV_NO_HEADER);
    struct es_tsv *w = table(dir, "maestro/metadata/maestro_real_train.tsv", windows, 5, 0);
    struct es_err err = {0};
    char path[512];
    struct es_audio_info info;
    assert_int_equal(
        es_audio_info(help_path(path, dir, "maestro/development_audio/city_center/city_center_00.wav"), &info,
                      &err),
        0);
    assert_true(info.n_samples >= 12 * 16000 && info.n_samples < 13 * 16000);
    int found = 0, last_window = 0;
    assert_true(es_tsv_rows(t) > 0);
    for (int64_t i = 0; i < es_tsv_rows(w); i++) {
        const char *name = es_tsv_text(w, i, 0);
        if (strncmp(name, "city_center_00-", 15) != 0) continue;
        double on, off, v;
        const int begin_s = (int)strtol(name + 15, NULL, 10) / 100, end_cs = (int)strtol(name + 22, NULL, 10);
        assert_int_equal(es_tsv_times(w, i, 1, 2, &on, &off, &err), 0);
        assert_int_equal(es_tsv_number(w, i, 4, &v, &err), 0);
        assert_true(v > 0 && v <= 1 && off <= 10 && 100 * (begin_s + off) < end_cs + 1);
        if (begin_s > last_window) last_window = begin_s;
        for (int64_t k = 0; k < es_tsv_rows(t); k++) {
            double a, b, u;
            assert_int_equal(es_tsv_times(t, k, 0, 1, &a, &b, &err), 0);
            assert_int_equal(es_tsv_number(t, k, 3, &u, &err), 0);
            if (strcmp(es_tsv_text(t, k, 2), es_tsv_text(w, i, 3)) == 0 && fabs(a - begin_s - on) < 1e-6) {
                assert_true(fabs(u - v) < 1e-6);
                assert_true(fabs(fmin(b - begin_s, 10) - off) < 1e-3);
                found++;
            }
        }
        found--;
    }
    assert_int_equal(found, 0);       /* every row of a window is a row of the annotation */
    assert_int_equal(last_window, 3); /* 12.x s: windows at 0, 1, 2 and the short one at 3 */
    es_tsv_close(&w);
    es_tsv_close(&t);
}

/* Impulse responses keep the level: energy 1, no sample beyond full scale. */
static void check_responses(const char *dir) {
    for (int k = 0; k < 8; k++) {
        char path[512], name[64];
        struct es_err err;
        struct es_audio_info info;
        float *x = NULL;
        int64_t n = 0;
        double energy = 0;
        snprintf(name, sizeof name, "dirs/device_%d.wav", k);
        assert_int_equal(es_audio_read(help_path(path, dir, name), 0, -1, &x, &n, &info, &err), 0);
        assert_true(info.rate_hz == 16000 && info.n_channels == 1 && n > 300 && n <= 4000);
        for (int64_t i = 0; i < n; i++) energy += (double)x[i] * (double)x[i];
        assert_true(energy > 0.99 && energy < 1.01);
        es_free(&x);
    }
}

static void label_files_can_be_read(void **state) {
    (void)state;
    char dir[256];
    struct es_err err;
    help_dir(world, "demo", dir);
    const struct es_demo_params p = tiny(dir);
    assert_int_equal(render(world, &p, &err), 0);
    es_comm_barrier_all(world);
    if (es_comm_rank(world) == 0) {
        check_strong(dir, "desed/metadata/train/audioset_strong.tsv",
                     "desed/audio/train/strong_label_real_16k", 7, 10);
        check_strong(dir, "desed/metadata/validation/validation.tsv", "desed/audio/validation/validation_16k",
                     5, 10);
        check_strong(dir, "desed/dcase_synth/metadata/train/synthetic21_train/soundscapes.tsv",
                     "desed/dcase_synth/audio/train/synthetic21_train/soundscapes_16k", 3, 10);
        check_strong(dir, "desed/dcase_synth/metadata/validation/synthetic21_validation/soundscapes.tsv",
                     "desed/audio/validation/synthetic21_validation/soundscapes_16k", 3, 10);
        check_strong(dir, "maestro/metadata/maestro_real_validation.tsv", NULL, 5 * 4, 10);
        check_rows(dir, "desed/metadata/train/weak.tsv", "filename", "event_labels", 6);
        check_rows(dir, "desed/metadata/validation/validation_durations.tsv", "filename", "duration", 5);
        check_rows(dir, "maestro/metadata/maestro_real_durations.tsv", "filename", "duration", 11);
        check_rows(dir, "audioset/metadata/audioset_eval_durations.tsv", "filename", "duration", 1);
        check_responses(dir);
        check_audioset(dir);
        check_maestro(dir);
    }
    help_dir_end(world, dir);
}

int main(int argc, char **argv) {
    struct es_err err = {0};
    if (es_comm_init_all(&world, &argc, &argv, &err) < 0) return 1;
    es_log_init(es_comm_rank(world), es_comm_size(world), ES_LOG_WARN, true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_files_for_any_number_of_ranks),
        cmocka_unit_test(a_finished_demo_is_left_alone),
        cmocka_unit_test(strange_folders_are_refused),
        cmocka_unit_test(label_files_can_be_read),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    es_comm_fini_all(&world);
    return failed;
}
