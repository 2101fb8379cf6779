/* HDF5 files of one process: types, strings, attributes, lists, digests; foreign files of predictions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>

#include "earshot/h5.h"
#include "earshot/mem.h"
#include "earshot/predictions.h"

#include "io_help.h"

static char dir[256], path[512];

static void round_trips(void **state) {
    (void)state;
    struct es_h5 *f = NULL;
    struct es_err err = {0};
    int64_t dim[3] = {3, 1, 2}, none[2] = {0, 5}, six = 6;
    static const float x[6] = {0, 1.5f, -2, 3e-30f, INFINITY, 6};
    static const uint16_t half[6] = {0x3c00, 0xc000, 0x7c00,
                                     0x0001, 0x8400, 0x7bff}; /* 1 -2 inf 2^-24 -2^-14 65504 */
    static const int64_t big = INT64_MIN;
    static const char *const strings[] = {"", "door opens/closes", "\xc3\xa9t\xc3\xa9"};
    assert_int_equal(es_h5_create_all(&f, NULL, help_path(path, dir, "a.h5"), "test", 3, &err), 0);
    es_h5_group_all(f, "/g");
    es_h5_put_all(f, "/g/z.weight", ES_H5_F32, 3, dim, x);
    es_h5_put_all(f, "/g/a.bias", ES_H5_F16, 1, &six, half);
    es_h5_put_all(f, "/g/scalar", ES_H5_I64, 0, NULL, &big);
    es_h5_put_all(f, "/deep/er/none", ES_H5_U8, 2, none, NULL);
    es_h5_put_strings_all(f, "/names", 3, strings);
    es_h5_put_text_all(f, "/text", "one\ntwo");
    es_h5_attr_f64_all(f, "/g", "pi", 3.25);
    es_h5_attr_u64_all(f, "/g/a.bias", "digest", UINT64_MAX);
    es_h5_attr_strings_all(f, "/names", "terms", 3, strings);
    es_h5_attr_text_all(f, "/names", "empty", "");
    assert_int_equal(help_bytes(path), -1); /* not there before commit */
    assert_int_equal(es_h5_commit_all(&f, NULL, &err), 0);
    assert_int_equal(help_count_files(dir), 1);

    assert_int_equal(es_h5_open(&f, path, "test", 3, &err), 0);
    struct es_h5_info info;
    float y[6];
    int64_t v = 0;
    uint64_t u = 0;
    double d = 0;
    char line[64];
    assert_int_equal(es_h5_info(f, "/g/z.weight", &info, &err), 0);
    assert_true(info.type == ES_H5_F32 && info.ndim == 3 && info.dim[0] == 3 && info.dim[2] == 2 &&
                info.n == 6 && info.offset > 0);
    assert_int_equal(es_h5_read(f, "/g/z.weight", ES_H5_F32, 6, y, &err), 0);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(es_h5_read_rows(f, "/g/z.weight", ES_H5_F32, 1, 2, y, &err), 0);
    assert_memory_equal(x + 2, y, 16);
    assert_int_equal(es_h5_read(f, "/g/a.bias", ES_H5_F32, 6, y, &err), 0);
    assert_true(y[0] == 1 && y[1] == -2 && isinf(y[2]) && y[3] == 0x1p-24f && y[4] == -0x1p-14f &&
                y[5] == 65504);
    assert_int_equal(es_h5_info(f, "/g/scalar", &info, &err), 0);
    assert_true(info.ndim == 0 && info.n == 1 && info.type == ES_H5_I64);
    assert_int_equal(es_h5_read(f, "/g/scalar", ES_H5_I64, 1, &v, &err), 0);
    assert_true(v == INT64_MIN);
    assert_int_equal(es_h5_read(f, "/deep/er/none", ES_H5_U8, 0, NULL, &err), 0);
    assert_int_equal(es_h5_attr_get_f64(f, "/g", "pi", &d, &err), 0);
    assert_true(d == 3.25);
    assert_int_equal(es_h5_attr_get_u64(f, "/g/a.bias", "digest", &u, &err), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(es_h5_attr_get_text(f, "/names", "empty", line, sizeof line, &err), 0);
    assert_string_equal(line, "");
    struct es_h5_names names;
    assert_int_equal(es_h5_read_strings(f, "/names", &names, &err), 0);
    for (int i = 0; i < 3; i++) assert_string_equal(names.name[i], strings[i]);
    es_h5_names_free(&names);
    assert_int_equal(es_h5_attr_get_strings(f, "/names", "terms", &names, &err), 0);
    for (int i = 0; i < 3; i++) assert_string_equal(names.name[i], strings[i]);
    es_h5_names_free(&names);
    assert_int_equal(es_h5_read_strings(f, "/text", &names, &err), 0);
    assert_string_equal(names.name[0], "one\ntwo");
    es_h5_names_free(&names);
    assert_int_equal(es_h5_list(f, "/g", false, &names, &err), 0); /* order of creation */
    assert_int_equal(names.n, 3);
    assert_string_equal(names.name[0], "z.weight");
    assert_string_equal(names.name[2], "scalar");
    es_h5_names_free(&names);
    assert_int_equal(es_h5_list(f, "/", true, &names, &err), 0); /* order of names */
    assert_int_equal(names.n, 6);
    assert_string_equal(names.name[0], "deep/er/none");
    assert_string_equal(names.name[1], "g/a.bias");
    es_h5_names_free(&names);
    assert_int_equal(es_h5_list_groups(f, "/", &names, &err), 0);
    assert_int_equal(names.n, 2);
    es_h5_names_free(&names);

    help_failed(es_h5_read(f, "/g/q", ES_H5_F32, 6, y, &err), &err, ES_EDATA, "a.h5:/g/q",
                "no such data set");
    help_failed(es_h5_read(f, "/x/q", ES_H5_F32, 6, y, &err), &err, ES_EDATA, "a.h5:/x/q",
                "no such data set");
    help_failed(es_h5_read(f, "/g", ES_H5_F32, 6, y, &err), &err, ES_EDATA, "a.h5:/g", "data set");
    help_failed(es_h5_read(f, "/g/z.weight", ES_H5_F32, 7, y, &err), &err, ES_EDATA, "a.h5:/g/z.weight",
                "6 elements, want 7");
    help_failed(es_h5_read(f, "/names", ES_H5_F32, 3, y, &err), &err, ES_EDATA, "a.h5:/names", "string");
    help_failed(es_h5_read_rows(f, "/g/z.weight", ES_H5_F32, 2, 2, y, &err), &err, ES_EDATA, "/g/z.weight",
                "it has 3");
    help_failed(es_h5_read_strings(f, "/g/z.weight", &names, &err), &err, ES_EDATA, "/g/z.weight",
                "want strings");
    help_failed(es_h5_attr_get_i64(f, "/names", "terms", &v, &err), &err, ES_EDATA, "terms",
                "not one number");
    help_failed(es_h5_attr_get_i64(f, "/g", "nope", &v, &err), &err, ES_EDATA, "a.h5:/g",
                "no attribute nope");
    es_h5_close(&f);
    help_failed(es_h5_open(&f, path, "test", 4, &err), &err, ES_EDATA, "layout 3", "reads 4");
}

/* What counts in a digest, and what does not. */
static uint64_t digest_of(const char *name, int change) {
    struct es_h5 *f = NULL;
    float x[4] = {1, 2, 3, 4};
    const char *s[2] = {"a", "b"};
    int64_t four[2] = {4, 1}, two = 2;
    uint64_t digest = 0;
    if (change == 1) x[3] = 5;
    if (change == 2) s[1] = "c";
    assert_int_equal(
        es_h5_create_all(&f, NULL, help_path(path, dir, name), change == 3 ? "other" : "test", 1, NULL), 0);
    es_h5_put_all(f, change == 4 ? "/y" : "/x", ES_H5_F32, change == 5 ? 2 : 1, four, x);
    es_h5_put_strings_all(f, "/s", 2, s);
    if (change == 6) es_h5_put_all(f, "/more", ES_H5_F32, 1, &two, x);
    es_h5_attr_i64_all(f, "/x", "note", change);
    if (change != 4) assert_int_equal(es_h5_status_all(f, NULL), 0);
    if (change == 4) { /* the attribute of a data set that is not there: an error that sticks */
        struct es_err err = {0};
        help_failed(es_h5_commit_all(&f, NULL, &err), &err, ES_EIO, "/x", "attribute");
        return 4;
    }
    assert_int_equal(es_h5_commit_all(&f, NULL, NULL), 0);
    assert_int_equal(es_h5_digest_all(NULL, path, &digest, NULL), 0);
    return digest;
}

static void digests(void **state) {
    (void)state;
    uint64_t base = digest_of("d.h5", 0);
    assert_int_equal(base, digest_of("e.h5", 0));
    assert_int_equal(base, digest_of("d.h5", 3)); /* attributes do not count */
    for (int change = 1; change <= 6; change++)
        if (change != 3) assert_int_not_equal(base, digest_of("d.h5", change));
}

/* Files as h5py writes them: variable-length names, chunks and compression, big-endian, float16 class-major. */
static hid_t foreign(const char *name, hid_t type, hid_t mem, int ndim, const hsize_t *dim, bool chunked,
                     const void *data, const char **filenames) {
    hid_t f = H5Fcreate(help_path(path, dir, name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t s = H5Screate_simple(ndim, dim, NULL), p = H5Pcreate(H5P_DATASET_CREATE);
    if (chunked) {
        H5Pset_chunk(p, ndim, dim);
        H5Pset_deflate(p, 4);
    }
    hid_t d = H5Dcreate2(f, "strong_logits", type, s, H5P_DEFAULT, p, H5P_DEFAULT);
    assert_true(H5Dwrite(d, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(d);
    H5Sclose(s);
    H5Pclose(p);
    hid_t v = H5Tcopy(H5T_C_S1);
    H5Tset_size(v, H5T_VARIABLE);
    H5Tset_cset(v, H5T_CSET_UTF8);
    s = H5Screate_simple(1, dim, NULL);
    d = H5Dcreate2(f, "filenames", v, s, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Dwrite(d, v, H5S_ALL, H5S_ALL, H5P_DEFAULT, filenames) >= 0);
    H5Dclose(d);
    H5Sclose(s);
    H5Tclose(v);
    return f;
}

static void foreign_predictions(void **state) {
    (void)state;
    static const hsize_t dim[3] = {2, 3, 4};
    const char *filenames[2] = {"Yabc_1.000_11.000", "b"};
    float x[24], y[24];
    for (int i = 0; i < 24; i++) x[i] = (float)i / 4 - 3;
    for (int kind = 0; kind < 3; kind++) {
        struct es_predictions *p = NULL;
        struct es_err err = {0};
        hid_t type = kind == 1 ? H5T_IEEE_F32BE : kind == 2 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
        H5Fclose(foreign("f.h5", type, H5T_NATIVE_FLOAT, 3, dim, kind == 0, x, filenames));
        assert_int_equal(es_predictions_open(&p, path, &err), 0);
        assert_false(es_predictions_is_direct(p));
        assert_null(es_predictions_classes(p));
        assert_true(es_predictions_n_frames(p) == 3 && es_predictions_n_classes(p) == 4);
        assert_int_equal(es_predictions_find(p, "b"), 1);
        assert_int_equal(es_predictions_read(p, 0, 2, y, &err), 0);
        assert_memory_equal(x, y, sizeof x);
        es_predictions_close(&p);
    }
    hid_t half = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    for (int chunked = 0; chunked < 2; chunked++) { /* [N, K = 3, T = 4] */
        struct es_predictions *p = NULL;
        struct es_err err = {0};
        H5Fclose(foreign("h.h5", half, H5T_NATIVE_FLOAT, 3, dim, chunked, x, filenames));
        assert_int_equal(es_predictions_open(&p, path, &err), 0);
        assert_true(es_predictions_n_frames(p) == 4 && es_predictions_n_classes(p) == 3);
        assert_int_equal(es_predictions_is_direct(p), !chunked);
        assert_int_equal(es_predictions_read(p, 1, 1, y, &err), 0);
        for (int t = 0; t < 4; t++)
            for (int k = 0; k < 3; k++) assert_true(y[t * 3 + k] == x[12 + k * 4 + t]);
        es_predictions_close(&p);
    }
    H5Tclose(half);
    struct es_predictions *p = NULL;
    struct es_err err = {0};
    static const hsize_t flat[2] = {2, 12};
    H5Fclose(foreign("f.h5", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 2, flat, false, x, filenames));
    help_failed(es_predictions_open(&p, path, &err), &err, ES_EDATA, "/strong_logits",
                "2 dimensions of float32, want 3");
    H5Fclose(foreign("f.h5", H5T_STD_I32LE, H5T_NATIVE_FLOAT, 3, dim, false, x, filenames));
    help_failed(es_predictions_open(&p, path, &err), &err, ES_EDATA, "/strong_logits", "int32");
}

HELP_SCRATCH("h5")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(digests),
                                       cmocka_unit_test(foreign_predictions)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
