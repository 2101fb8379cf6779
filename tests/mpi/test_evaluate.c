/* RANKS 1 2 3 4
 * TIMEOUT 120
 * Metrics, bootstrap and tuning shared out to ranks: the same bits as alone. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/bootstrap.h"
#include "earshot/comm.h"
#include "earshot/csebb.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

enum { N_CLIPS = 14, FRAMES = 60, K = 7 };
static struct es_comm *comm;

struct data {
    struct es_scores *scores;
    struct es_truth *truth;
    struct es_evalset *set;
    float values[N_CLIPS][FRAMES][K];
};

static void must(int rc, const struct es_err *err) {
    if (rc < 0) fail_msg("%d: %s", rc, err->msg);
}

static void open_data(struct data *d) {
    struct es_err err = {0};
    char id[N_CLIPS][8], name[K][8];
    const char *ids[N_CLIPS], *names[K];
    double edges[FRAMES + 1];
    for (int i = 0; i <= FRAMES; i++) edges[i] = i * 0.125;
    for (int k = 0; k < K; k++) {
        snprintf(name[k], sizeof name[k], "k%d", k);
        names[k] = name[k];
    }
    must(es_truth_new(&d->truth, "truth", "durations", &err), &err);
    for (int i = 0; i < N_CLIPS; i++) {
        struct es_rng r = es_rng_make(3, ES_RNG_BENCH, (uint32_t)i, 0, 0);
        snprintf(id[i], sizeof id[i], "c%d", i);
        ids[i] = id[i];
        must(es_truth_duration(d->truth, id[i], 7.5, &err), &err);
        for (int k = 0; k < K; k++) {
            double x = 0.3;
            const bool has = (i + k) % 3 != 0;
            const double onset_s = es_rng_range(&r, 0, 4);
            if (has) must(es_truth_event(d->truth, id[i], name[k], onset_s, onset_s + 2, 1, i, &err), &err);
            for (int j = 0; j < FRAMES; j++) {
                const bool in = has && edges[j] > onset_s && edges[j] < onset_s + 2;
                x += 0.4 * ((in ? 0.8 : 0.2) - x) + es_rng_range(&r, -0.2, 0.2);
                d->values[i][j][k] = (float)(x < 0 ? 0 : x > 1 ? 1 : x);
            }
        }
    }
    must(es_scores_from_array(&d->scores, N_CLIPS, ids, FRAMES, edges, K, names, &d->values[0][0][0],
                              "scores", &err),
         &err);
    must(es_evalset_new(&d->set, d->scores, d->truth, &(struct es_evalset_params){0}, &err), &err);
}

static void close_data(struct data *d) {
    es_evalset_free(&d->set);
    es_scores_free(&d->scores);
    es_truth_free(&d->truth);
}

static void same(const double *a, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("value %lld: alone %.17g, shared %.17g", (long long)i, a[i], b[i]);
}

static const char *const metrics =
    "psds1,psds2,psds2_op,mpauc,mauc,collar_f1,intersection_f1,segment_f1,clip_f1,event_error";

static void shared_metrics(void **state) {
    (void)state;
    struct data *d = es_alloc(1, sizeof *d, NULL);
    struct es_err err = {0};
    struct es_evaluation *alone = NULL, *shared = NULL;
    open_data(d);
    must(es_evaluation_new(&alone, d->set, metrics, &err), &err);
    es_evalset_share(d->set, comm);
    must(es_evaluation_new(&shared, d->set, metrics, &err), &err);
    assert_int_equal(alone->n_rows, shared->n_rows);
    for (int r = 0; r < alone->n_rows; r++) {
        same(&alone->rows[r].value, &shared->rows[r].value, 1);
        same(&alone->rows[r].extra, &shared->rows[r].extra, 1);
        same(alone->rows[r].class_value, shared->rows[r].class_value, K);
    }
    assert_true(alone->rows[0].value > 0 && alone->rows[0].value < 1);
    es_evaluation_free(&alone);
    es_evaluation_free(&shared);
    close_data(d);
    es_free(&d);
}

static void shared_bootstrap(void **state) {
    (void)state;
    struct data *d = es_alloc(1, sizeof *d, NULL);
    struct es_err err = {0};
    struct es_bootstrap *b[2] = {NULL, NULL};
    struct es_bootstrap_params p = es_bootstrap_params_default();
    open_data(d);
    for (p.n_samples = 2; p.n_samples <= 9; p.n_samples += 7) { /* 2: ranks without a sample */
        for (int i = 0; i < 2; i++)
            must(es_bootstrap_all(&b[i], d->set, i ? comm : NULL, metrics, &p, &err), &err);
        for (int r = 0; r < b[0]->n_rows; r++) {
            same(b[0]->rows[r].value, b[1]->rows[r].value, p.n_samples);
            same(b[0]->rows[r].class_value, b[1]->rows[r].class_value, (int64_t)p.n_samples * K);
            same(&b[0]->rows[r].interval.low, &b[1]->rows[r].interval.low, 1);
        }
        for (int i = 0; i < 2; i++) es_bootstrap_free(&b[i]);
    }
    close_data(d);
    es_free(&d);
}

static void shared_tuning(void **state) {
    (void)state;
    struct data *d = es_alloc(1, sizeof *d, NULL);
    struct es_err err = {0};
    struct es_tuning *t[2] = {NULL, NULL};
    const struct es_csebb_grid grid = es_csebb_grid_package();
    const double lengths[3] = {0, 0.25, 0.5};
    open_data(d);
    for (int what = 0; what < 4; what++) {
        const enum es_tune_by by = what % 2 ? ES_TUNE_COLLAR_F1 : ES_TUNE_PSDS;
        for (int i = 0; i < 2; i++) {
            const struct es_comm *c = i ? comm : NULL;
            must(what < 2 ? es_tune_csebb_all(&t[i], d->set, c, &grid, by, what == 0, &err)
                          : es_tune_median_all(&t[i], d->set, c, lengths, 3, by, true, &err),
                 &err);
        }
        same(t[0]->value, t[1]->value, (int64_t)t[0]->n_settings * K);
        same(t[0]->at, t[1]->at, (int64_t)t[0]->n_settings * K);
        same(t[0]->best_value, t[1]->best_value, K);
        for (int k = 0; k < K; k++) assert_int_equal(t[0]->best[k], t[1]->best[k]);
        for (int i = 0; i < 2; i++) es_tuning_free(&t[i]);
    }
    close_data(d);
    es_free(&d);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shared_metrics), cmocka_unit_test(shared_bootstrap),
                                       cmocka_unit_test(shared_tuning)};
    struct es_err err = {0};
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed = (int)es_comm_max_all(comm, failed);
    es_comm_fini_all(&comm);
    return failed;
}
