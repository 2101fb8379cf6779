/* Labels: golden data of the public code (tests/data/golden_models/labels.h5 and alias_tables.txt, exact), masks, splits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/h5.h"
#include "earshot/labels.h"
#include "earshot/mem.h"

#include "io_help.h"

#define MAX_EVENTS 64

static struct es_h5 *golden;

/* [n,4] class, onset, offset, confidence -> events. */
static int read_events(const char *name, struct es_event *e) {
    double *v = NULL;
    struct es_h5_info info;
    void *block;
    assert_int_equal(es_h5_read_new(golden, name, ES_H5_F64, &block, &info, NULL), 0);
    v = block;
    for (int64_t i = 0; i < info.dim[0]; i++)
        e[i] = (struct es_event){v[4 * i + 1], v[4 * i + 2], (int32_t)v[4 * i], (float)v[4 * i + 3]};
    es_free(&v);
    return (int)info.dim[0];
}

static void compare(const char *name, const float *y, int64_t n) {
    float *want = es_alloc((size_t)n, sizeof *want, NULL);
    assert_int_equal(es_h5_read(golden, name, ES_H5_F32, n, want, NULL), 0);
    for (int64_t i = 0; i < n; i++) {
        if (y[i] != want[i])
            print_message("%s[%lld]: %g, want %g\n", name, (long long)i, (double)y[i], (double)want[i]);
        assert_true(y[i] == want[i]);
    }
    es_free(&want);
}

static void encode_golden(void **state) {
    (void)state;
    static const struct {
        const char *group;
        const struct es_label_grid *grid;
    } grids[] = {{"encode_hop256", &es_grid_task4}, {"encode_hop160", &es_grid_audioset}};
    int compared = 0;
    for (int g = 0; g < 2; g++) {
        struct es_h5_names cases;
        assert_int_equal(es_h5_list_groups(golden, grids[g].group, &cases, NULL), 0);
        for (int64_t c = 0; c < cases.n; c++) {
            char name[256];
            struct es_event e[MAX_EVENTS];
            const struct es_label_grid *grid = grids[g].grid;
            int64_t n_y = grid->n_frames * ES_N_CLASSES;
            float *y = es_alloc((size_t)n_y, sizeof *y, NULL), *t = es_alloc((size_t)n_y, sizeof *y, NULL);
            snprintf(name, sizeof name, "%s/%s/events", grids[g].group, cases.name[c]);
            int n = read_events(name, e);
            snprintf(name, sizeof name, "%s/%s/y_df", grids[g].group, cases.name[c]);
            if (!es_h5_has(golden, name)) { /* confidence ignored */
                for (int i = 0; i < n; i++) e[i].confidence = 1.0f;
                snprintf(name, sizeof name, "%s/%s/y_list", grids[g].group, cases.name[c]);
            }
            es_labels_encode(e, n, grid, ES_N_CLASSES, y, ES_N_CLASSES, 1);
            compare(name, y, n_y);
            es_labels_encode(e, n, grid, ES_N_CLASSES, t, 1, grid->n_frames); /* class-major */
            for (int64_t i = 0; i < n_y; i++)
                assert_true(t[i] == y[i % grid->n_frames * ES_N_CLASSES + i / grid->n_frames]);
            es_free(&t);
            es_free(&y);
            compared++;
        }
        es_h5_names_free(&cases);
    }
    assert_int_equal(compared, 18);
}

static void process_golden(void **state) {
    (void)state;
    for (int c = 0; c < 2; c++) {
        char name[64];
        double crop_s;
        struct es_event in[MAX_EVENTS], out[MAX_EVENTS], want[MAX_EVENTS];
        float y[156 * ES_N_CLASSES];
        snprintf(name, sizeof name, "process_labels_%d/crop_onset", c);
        assert_int_equal(es_h5_read(golden, name, ES_H5_F64, 1, &crop_s, NULL), 0);
        snprintf(name, sizeof name, "process_labels_%d/events", c);
        int n = read_events(name, in);
        n = es_labels_process(in, n, crop_s, 10.0, out);
        snprintf(name, sizeof name, "process_labels_%d/events_after", c);
        assert_int_equal(n, read_events(name, want));
        for (int i = 0; i < n; i++) {
            assert_true(out[i].onset_s == want[i].onset_s && out[i].offset_s == want[i].offset_s);
            assert_true(out[i].label == want[i].label && out[i].confidence == want[i].confidence);
        }
        es_labels_encode(out, n, &es_grid_task4, ES_N_CLASSES, y, ES_N_CLASSES, 1);
        snprintf(name, sizeof name, "process_labels_%d/y_df", c);
        compare(name, y, 156 * ES_N_CLASSES);
    }
}

static void decode_golden(void **state) {
    (void)state;
    double times[157], threshold[5];
    assert_int_equal(es_h5_read(golden, "decode/timestamps", ES_H5_F64, 157, times, NULL), 0);
    assert_int_equal(es_h5_read(golden, "decode/thresholds", ES_H5_F64, 5, threshold, NULL), 0);
    for (int i = 0; i <= 156; i++) assert_true(es_labels_time(&es_grid_task4, i) == times[i]);
    static const char *const kinds[] = {"nofilter", "median"};
    for (int kind = 0; kind < 2; kind++) {
        char name[64];
        void *scores, *events;
        struct es_h5_info info;
        snprintf(name, sizeof name, "decode/%s/scores", kinds[kind]);
        assert_int_equal(es_h5_read_new(golden, name, ES_H5_F32, &scores, NULL, NULL), 0);
        snprintf(name, sizeof name, "decode/%s/events_thr_clip_class_onset_offset", kinds[kind]);
        assert_int_equal(es_h5_read_new(golden, name, ES_H5_F64, &events, &info, NULL), 0);
        const double *want = events;
        int64_t at = 0;
        for (int t = 0; t < 5; t++)
            for (int clip = 0; clip < 2; clip++)
                for (int k = 0; k < ES_N_CLASSES; k++) {
                    struct es_event e[79];
                    int n = es_labels_decode((float *)scores + clip * 156 * ES_N_CLASSES + k, ES_N_CLASSES,
                                             (float)threshold[t], &es_grid_task4, k, e);
                    for (int i = 0; i < n; i++, at++) {
                        const double *w = want + 5 * at;
                        assert_true(at < info.dim[0]);
                        assert_true(w[0] == t && w[1] == clip && w[2] == k);
                        assert_true(w[3] == e[i].onset_s && w[4] == e[i].offset_s && e[i].label == k);
                    }
                }
        assert_int_equal(at, info.dim[0]);
        es_free(&scores);
        es_free(&events);
    }
}

/* "filename onset offset event_label" rows of one section of alias_tables.txt; labels as classes, clips as text. */
struct table {
    int n;
    char clip[32][16];
    struct es_event e[32];
    uint8_t weak[32][ES_N_CLASSES];
};

static void read_table(const char *section, struct table *t) {
    char line[256];
    bool inside = false;
    FILE *in = fopen(ES_TEST_DATA "/golden_models/alias_tables.txt", "r");
    assert_non_null(in);
    memset(t, 0, sizeof *t);
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "## ", 3) == 0) {
            inside = strcmp(line + 3, section) == 0;
        } else if (inside && strncmp(line, "filename", 8) != 0) {
            char *field[4] = {line, "", "", ""};
            for (int i = 1; i < 4; i++) {
                char *tab = strchr(field[i - 1], '\t');
                if (!tab) break;
                *tab = 0;
                field[i] = tab + 1;
            }
            snprintf(t->clip[t->n], sizeof t->clip[0], "%s", field[0]);
            if (field[3][0]) {
                int k = es_class_find(field[3]);
                assert_true(k >= 0);
                t->e[t->n] = (struct es_event){strtod(field[1], NULL), strtod(field[2], NULL), k, 1.0f};
            } else {
                for (char *s = field[1], *end; s; s = end) {
                    end = strchr(s, ',');
                    if (end) *end++ = 0;
                    assert_true(es_class_find(s) >= 0);
                    t->weak[t->n][es_class_find(s)] = 1;
                }
            }
            t->n++;
        }
    }
    fclose(in);
    assert_true(t->n > 0);
}

static int of_clip(const struct table *t, const char *clip, struct es_event *e) {
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->clip[i], clip) == 0) e[n++] = t->e[i];
    return n;
}

static void alias_tables(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
        enum es_subset subset;
    } cases[] = {{"desed_to_maestro input", "desed_to_maestro output", ES_SUBSET_STRONG_REAL},
                 {"maestro_to_desed input", "maestro_to_desed output", ES_SUBSET_MAESTRO}};
    for (int c = 0; c < 2; c++) {
        struct table in, out;
        read_table(cases[c].in, &in);
        read_table(cases[c].out, &out);
        for (int i = 0; i < in.n; i++) {
            struct es_event e[32], got[64], want[32];
            int n = es_labels_alias(cases[c].subset, 0, e, of_clip(&in, in.clip[i], e), got);
            assert_int_equal(n, of_clip(&out, in.clip[i], want));
            for (int j = 0; j < n; j++) {
                assert_int_equal(got[j].label, want[j].label);
                assert_true(got[j].onset_s == want[j].onset_s && got[j].offset_s == want[j].offset_s);
            }
            assert_int_equal(es_labels_alias(cases[c].subset, 1, e, 1, got), 1); /* validation: no aliases */
        }
    }
    struct table in, out;
    read_table("weak input", &in);
    read_table("weak output", &out);
    for (int i = 0; i < in.n; i++) {
        uint8_t same[ES_N_CLASSES];
        memcpy(same, in.weak[i], sizeof same);
        es_labels_alias_weak(ES_SUBSET_WEAK, 1, same);
        assert_memory_equal(same, in.weak[i], sizeof same);
        es_labels_alias_weak(ES_SUBSET_WEAK, 0, in.weak[i]);
        assert_memory_equal(in.weak[i], out.weak[i], sizeof same);
    }
}

static void masks_and_classes(void **state) {
    (void)state;
    static const char *const scored[11] = {"birds_singing",      "car",
                                           "people talking",     "footsteps",
                                           "children voices",    "wind_blowing",
                                           "brakes_squeaking",   "large_vehicle",
                                           "cutlery and dishes", "metro approaching",
                                           "metro leaving"};
    int32_t window[ES_N_CLASSES];
    int n = 0;
    assert_int_equal(es_h5_read(golden, "decode/median_window", ES_H5_I32, ES_N_CLASSES, window, NULL), 0);
    for (int k = 0; k < ES_N_CLASSES; k++) {
        assert_int_equal(es_classes[k].median_frames, window[k]);
        assert_int_equal(es_class_find(es_classes[k].name), k);
        n += es_classes[k].mpauc;
    }
    assert_int_equal(n, 11);
    for (int i = 0; i < 11; i++) assert_true(es_classes[es_class_find(scored[i])].mpauc);
    assert_int_equal(es_class_find("Speech "), -1);
    uint32_t desed = 0x3ff, train = desed | 1u << 10 | 1u << 12, maestro = 0x7fffc00u | 1u << 3 | 1u << 8;
    static const enum es_subset d[] = {ES_SUBSET_STRONG_REAL, ES_SUBSET_SYNTH, ES_SUBSET_WEAK,
                                       ES_SUBSET_UNLABELED};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(es_labels_mask(d[i], 0), train);
        assert_int_equal(es_labels_mask(d[i], 1), desed);
    }
    assert_int_equal(es_labels_mask(ES_SUBSET_VALIDATION, 0), desed);
    assert_int_equal(es_labels_mask(ES_SUBSET_SYNTH_VALIDATION, 0), desed);
    assert_int_equal(es_labels_mask(ES_SUBSET_PUBLIC, 1), desed);
    for (int split = 0; split < 2; split++)
        assert_int_equal(es_labels_mask(ES_SUBSET_MAESTRO, split), maestro);
    assert_int_equal(es_labels_mask(ES_SUBSET_MAESTRO_TEST, 0), maestro);
    assert_int_equal(__builtin_popcount(maestro), 19);
    assert_int_equal(__builtin_popcount(train), 12);
    for (int s = 0; s < ES_N_SUBSETS; s++)
        assert_int_equal(es_subset_from_name(es_subset_name((enum es_subset)s)), s);
}

/* training.md 1.10: frames of the ten 1-s segments of a MAESTRO window. */
static void maestro_segments(void **state) {
    (void)state;
    static const int want[10][2] = {{0, 16},  {15, 32},  {31, 47},   {46, 63},   {62, 79},
                                    {78, 94}, {93, 110}, {109, 125}, {125, 141}, {140, 156}};
    for (int s = 0; s < 10; s++) {
        float y[156 * ES_N_CLASSES];
        struct es_event e = {s, s + 1, 17, 0.25f};
        es_labels_encode(&e, 1, &es_grid_task4, ES_N_CLASSES, y, ES_N_CLASSES, 1);
        for (int t = 0; t < 156; t++)
            assert_true(y[t * ES_N_CLASSES + 17] == (t >= want[s][0] && t < want[s][1] ? 0.25f : 0.0f));
    }
}

static void merges(void **state) {
    (void)state;
    struct es_event e[] = {{5, 6, 1, 1}, {0, 1, 1, 1},   {0.5, 3, 2, 1},
                           {1, 2, 1, 1}, {2.5, 3, 1, 1}, {2.6, 2.7, 1, 1}};
    int n = es_labels_merge(e, 6);
    static const struct es_event want[] = {{0, 2, 1, 1}, {0.5, 3, 2, 1}, {2.5, 3, 1, 1}, {5, 6, 1, 1}};
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++)
        assert_true(e[i].onset_s == want[i].onset_s && e[i].offset_s == want[i].offset_s &&
                    e[i].label == want[i].label);
}

static void weak_split(void **state) {
    (void)state;
    static const int64_t first[10] = {1239, 813, 1174, 534, 514, 1526, 522, 274, 494, 65};
    static const int valid[10] = {13, 14, 20, 21, 34, 40, 64, 87, 91, 95};
    int64_t perm[1578];
    uint8_t split[1578];
    es_split_weak(1578, 0.9, 42, perm, split);
    for (int i = 0; i < 10; i++) assert_int_equal(perm[i], first[i]);
    int n_valid = 0;
    for (int i = 0; i < 1578; i++) {
        if (split[i] && n_valid < 10) assert_int_equal(i, valid[n_valid]);
        n_valid += split[i];
    }
    assert_int_equal(n_valid, 158);
    /* init_genrand(5489): the 1st and the 10000th output (C++ standard, [rand.predef]) */
    struct es_mt19937 mt;
    es_mt_seed(&mt, 5489);
    assert_int_equal(es_mt_u32(&mt), 3499211612u);
    for (int i = 2; i < 10000; i++) es_mt_u32(&mt);
    assert_int_equal(es_mt_u32(&mt), 4123659995u);
}

static void recording_split(void **state) {
    (void)state;
    static const char *const scene[] = {"cafe_restaurant", "city_center", "grocery_store", "metro_station",
                                        "residential_area"};
    static const int number[5][8] = {{0, 6, 7, 8, 11, 12, 14, -1},
                                     {2, 4, 6, 7, 11, 12, 14, -1},
                                     {0, 2, 3, 8, 9, 11, -1},
                                     {0, 2, 5, 7, 10, 12, -1},
                                     {0, 1, 4, 7, 8, 9, 14, -1}};
    static const char *const want[] = {"cafe_restaurant_14", "city_center_11", "grocery_store_03",
                                       "metro_station_10", "residential_area_01"};
    char text[40][32];
    const char *recording[40];
    int64_t n = 0, perm[40];
    uint8_t split[40];
    for (int s = 0; s < 5; s++)
        for (int i = 0; number[s][i] >= 0; i++, n++) {
            snprintf(text[n], sizeof text[n], "%s_%02d", scene[s], number[s][i]);
            recording[n] = text[n];
        }
    assert_int_equal(n, 33);
    es_split_recordings(n, recording, 0.9, 42, perm, split);
    int n_valid = 0;
    for (int i = 0; i < n; i++)
        if (split[i]) assert_string_equal(recording[i], want[n_valid++]);
    assert_int_equal(n_valid, 5);
    const char *const other[] = {"park_01", "metro_station_01", "park_02", "x"};
    es_split_recordings(4, other, 0.5, 42, perm, split);
    assert_int_equal(split[0] + split[2], 1); /* scenes of their own: one of two, none of one */
    assert_int_equal(split[1], 1);
    assert_int_equal(split[3], 1);
}

static int setup(void **state) {
    (void)state;
    struct es_err err = {0};
    if (es_h5_open(&golden, ES_TEST_DATA "/golden_models/labels.h5", NULL, 0, &err) == 0) return 0;
    print_message("%s\n", err.msg);
    return -1;
}

static int teardown(void **state) {
    (void)state;
    es_h5_close(&golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(encode_golden),
                                       cmocka_unit_test(process_golden),
                                       cmocka_unit_test(decode_golden),
                                       cmocka_unit_test(alias_tables),
                                       cmocka_unit_test(masks_and_classes),
                                       cmocka_unit_test(maestro_segments),
                                       cmocka_unit_test(merges),
                                       cmocka_unit_test(weak_split),
                                       cmocka_unit_test(recording_split)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
