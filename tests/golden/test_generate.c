/* The generator of golden weights against every params_*.tsv: kinds, scales and sample values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>

#include "golden/generate.h"
#include "golden/h5.h"

static char folder[512];

static void check_table(const char *path) {
    struct es_gen_param *list = NULL;
    uint64_t seed;
    int n = es_gen_read(path, &list, &seed);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        const struct es_gen_param *p = &list[i];
        double offset, scale;
        if (strcmp(p->kind, "counter") == 0) {
            assert_false(es_gen_rule(p->name, p->ndim, p->shape, &offset, &scale));
            continue;
        }
        assert_true(es_gen_rule(p->name, p->ndim, p->shape, &offset, &scale));
        if (offset != p->offset || scale != p->scale)
            fail_msg("%s: %s: offset %g scale %g, want %g %g", path, p->name, offset, scale, p->offset,
                     p->scale);
        uint64_t h = es_gen_hash(p->name);
        for (int k = 0; k < 8; k++) {
            float got = (float)(offset + scale * es_gen_u(h, seed, k * (p->n - 1) / 7));
            if (fabsf(got - p->value[k]) > 1e-8f * fabsf(p->value[k])) /* nine digits are stored */
                fail_msg("%s: %s: value %d is %.9g, want %.9g", path, p->name, k, (double)got,
                         (double)p->value[k]);
        }
    }
    es_free(&list);
}

static void all_tables(void **state) {
    (void)state;
    DIR *d = opendir(folder);
    assert_non_null(d);
    int tables = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "params_", 7) != 0 || !es_gen_ends(e->d_name, ".tsv")) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        check_table(path);
        tables++;
    }
    closedir(d);
    assert_true(tables >= 20);
}

int main(void) {
    if (!es_test_shared("golden/models", folder, sizeof folder)) return 77;
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
