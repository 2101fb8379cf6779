/* The optimiser's rates and decays by group and kind of parameter (spec/training.md 5.1, pitfall 37). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "earshot/comm.h"
#include "earshot/optim.h"

static struct es_comm *comm;

/* cpjku's pre-training: the head from 1e-3 to 1e-5 over 5,387 steps, the rest constant. */
static void line(void **state) {
    (void)state;
    struct es_optim_params op = {
        .n_groups = 3, .lr = {0, 1e-3, 1e-5}, .line_group = 1, .line_steps = 5387, .line_end_lr = 1e-5};
    static const struct {
        int64_t step;
        double lr;
    } cases[] = {{0, 1e-3}, {5387, 1e-5}, {100000, 1e-5}, {2000, 1e-3 - 2000.0 / 5387.0 * 9.9e-4}};
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(es_optim_lr(&op, 1, cases[i].step, 0.5) - cases[i].lr) < 1e-15);
        assert_true(es_optim_lr(&op, 2, cases[i].step, 0.5) == 0.5e-5);
    }
    op.line_steps = 0;
    assert_true(es_optim_lr(&op, 1, 7, 0.5) == 0.5e-3);
    assert_true(es_schedule_factor(ES_SCHEDULE_CONSTANT, 5, 10, 100) == 0.5);
    assert_true(es_schedule_factor(ES_SCHEDULE_CONSTANT, 50, 10, 100) == 1.0);
}

/* Without gradient a step is the decay alone. */
static void decay(void **state) {
    (void)state;
    for (int apart = 0; apart < 2; apart++) {
        struct es_optim_params op = {.decoupled = true,
                                     .beta1 = 0.9,
                                     .beta2 = 0.999,
                                     .eps = 1e-8,
                                     .weight_decay = 0.25,
                                     .apart_1d = apart,
                                     .weight_decay_1d = 0.5,
                                     .n_groups = 1,
                                     .lr = {0.5}};
        struct es_params *params = NULL;
        struct es_reducer *r = NULL;
        struct es_optim *o = NULL;
        struct es_err err = {0};
        assert_int_equal(es_params_new(&params, &err), 0);
        int matrix = es_params_add(params, "weight", ES_PARAM_WEIGHT, ES_INIT_ONE, 0, 2, (int64_t[]){3, 5});
        int vector = es_params_add(params, "bias", ES_PARAM_WEIGHT, ES_INIT_ONE, 0, 1, (int64_t[]){7});
        for (int i = 0; i < 2; i++) es_params_at(params, i)->trainable = true;
        assert_int_equal(es_params_layout(params, &err), 0);
        for (int i = 0; i < 3 * 5; i++) es_params_data(params, matrix)[i] = 1;
        for (int i = 0; i < 7; i++) es_params_data(params, vector)[i] = 1;
        assert_int_equal(es_reducer_new_all(&r, comm, es_params_n_trainable(params), 1, 0, &err), 0);
        assert_int_equal(es_optim_new(&o, &op, params, r, &err), 0);
        es_reducer_begin(r, 1);
        float *g = es_reducer_leaf_begin(r, 0);
        for (int64_t i = 0; i < es_params_n_trainable(params); i++) g[i] = 0;
        es_reducer_leaf_end(r, 0);
        assert_int_equal(es_reducer_finish_all(r, &err), 0);
        es_optim_step(o, params, r, 0, 1.0, 1.0);
        assert_true(fabs((double)es_params_data(params, matrix)[14] - 0.875) < 1e-7);
        assert_true(fabs((double)es_params_data(params, vector)[6] - (apart ? 0.75 : 0.875)) < 1e-7);
        es_optim_free(&o);
        es_reducer_free_all(&r);
        es_params_free(&params);
    }
}

int main(int argc, char **argv) {
    struct es_err err = {0};
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(line), cmocka_unit_test(decay)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    es_comm_fini_all(&comm);
    return failed;
}
