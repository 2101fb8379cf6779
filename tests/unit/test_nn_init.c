/* Random start of ATST, wrappers, heads and CRNN: every entry has the distribution of spec/models.md 2.2, 2.4 and 3,
 * told from its name and shape: bounds, mean, standard deviation, share of the middle. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "earshot/nn.h"

enum kind { CONSTANT, NORMAL, UNIFORM };
struct expected {
    enum kind kind;
    double value; /* constant, standard deviation, bound */
};

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* 1/sqrt(fan_in) of the layer that `name` (a weight or bias) belongs to. */
static double default_bound(struct es_params *p, const char *name) {
    char weight[160];
    int64_t fan_in = 1;
    snprintf(weight, sizeof weight, "%.*sweight", (int)(strrchr(name, '.') + 1 - name), name);
    const struct es_param *w = es_params_at(p, es_params_find(p, weight));
    for (int d = 1; d < w->ndim; d++) fan_in *= w->shape[d];
    return 1.0 / sqrt((double)fan_in);
}

static struct expected expect(struct es_params *p, const struct es_param *e, int rnn_cells) {
    const char *name = e->name;
    bool bias = ends(name, ".bias");
    if (strstr(name, "rnn.weight_") || strstr(name, "rnn.bias_"))
        return (struct expected){UNIFORM, 1.0 / sqrt((double)rnn_cells)};
    if (ends(name, "running_var")) return (struct expected){CONSTANT, 1};
    if (ends(name, "running_mean") || ends(name, "num_batches_tracked"))
        return (struct expected){CONSTANT, 0};
    if (strstr(name, "norm")) return (struct expected){CONSTANT, bias ? 0 : 1};
    if (strstr(name, "atst.")) return bias ? (struct expected){CONSTANT, 0} : (struct expected){NORMAL, 0.02};
    return (struct expected){UNIFORM, default_bound(p, name)};
}

static void check(const struct es_param *e, const float *x, struct expected want) {
    double sum = 0, squares = 0, top = 0, n = (double)e->n;
    int64_t middle = 0; /* within one standard deviation, or half the bound */
    for (int64_t i = 0; i < e->n; i++) {
        double v = (double)x[i];
        sum += v;
        squares += v * v;
        top = fmax(top, fabs(v));
        middle += fabs(v) < want.value * (want.kind == NORMAL ? 1.0 : 0.5);
        if (want.kind == CONSTANT && v != want.value) fail_msg("%s: %g, want %g", e->name, v, want.value);
    }
    if (want.kind == CONSTANT) return;
    /* five standard errors of each estimate */
    bool normal = want.kind == NORMAL;
    double sd = normal ? want.value : want.value / sqrt(3.0), share = normal ? 0.682689 : 0.5;
    double sd_error = (normal ? sqrt(0.5) : sqrt(0.2)) * 5 / sqrt(n), got_sd = sqrt(squares / n);
    if (!normal && !(top <= want.value * (1 + 1e-6))) fail_msg("%s: %g exceeds %g", e->name, top, want.value);
    if (!normal && n > 2000 && !(top > 0.99 * want.value))
        fail_msg("%s: %g below %g", e->name, top, want.value);
    if (!(fabs(sum / n) <= 5 * sd / sqrt(n))) fail_msg("%s: mean %g", e->name, sum / n);
    if (n < 100) return;
    if (!(fabs(got_sd / sd - 1) <= sd_error))
        fail_msg("%s: standard deviation %g, want %g", e->name, got_sd, sd);
    if (!(fabs((double)middle / n - share) <= 5 * sqrt(share * (1 - share) / n)))
        fail_msg("%s: %g of it in the middle, want %g", e->name, (double)middle / n, share);
}

static int check_net(const struct es_net_config *c) {
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    struct es_err err = {0};
    assert_int_equal(es_params_new(&p, &err), 0);
    assert_int_equal(es_net_new(&net, c, p, &err), 0);
    assert_int_equal(es_params_layout(p, &err), 0);
    es_params_init(p, 7);
    uint64_t digest = es_params_digest(p);
    int cells = c->pretrain ? c->pretrain_rnn_cells : c->rnn_cells, n = es_params_count(p), random = 0;
    for (int i = 0; i < n; i++) {
        struct expected want = expect(p, es_params_at(p, i), cells);
        check(es_params_at(p, i), es_params_data(p, i), want);
        if (want.kind != CONSTANT && random++ > 0) /* every entry has a stream of its own */
            assert_memory_not_equal(es_params_data(p, i), es_params_data(p, 0), sizeof(float));
    }
    es_params_init(p, 8);
    assert_true(es_params_digest(p) != digest);
    es_net_free(&net);
    es_params_free(&p);
    return n;
}

static void stages(void **state) {
    (void)state;
    struct es_net_config c;
    es_net_config_default(&c);
    c.transformer.depth = 1;
    int crnn = 7 * 9 + 16 + 4, fusion = 2, atst = 2 + 2 + 11 + 2, map = 2;
    assert_int_equal(check_net(&c), crnn + fusion + atst + map);
    c.wrapper = false;
    c.glu = true;
    assert_int_equal(check_net(&c), crnn + fusion + atst);
    c.alone = true;
    c.rnn_cells = 128;
    assert_int_equal(check_net(&c), crnn);
}

static void heads(void **state) {
    (void)state;
    static const struct {
        enum es_head head;
        enum es_seq_model seq;
        bool wrapper;
        int entries;
    } cases[] = {{ES_HEAD_LINEAR, ES_SEQ_NONE, false, 4},    {ES_HEAD_LINEAR, ES_SEQ_GRU, false, 20},
                 {ES_HEAD_LINEAR, ES_SEQ_LSTM, false, 22},   {ES_HEAD_ATTENTION, ES_SEQ_NONE, false, 4},
                 {ES_HEAD_ATTENTION, ES_SEQ_GRU, false, 20}, {ES_HEAD_AUDIOSET, ES_SEQ_NONE, false, 4},
                 {ES_HEAD_TASK4RNN, ES_SEQ_GRU, false, 20},  {ES_HEAD_TASK4RNN, ES_SEQ_GRU, true, 22}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct es_net_config c;
        es_net_config_default(&c);
        c.pretrain = c.alone = true;
        c.pretrain_head = cases[i].head;
        c.pretrain_seq = cases[i].seq;
        c.wrapper = cases[i].wrapper;
        c.pretrain_rnn_cells = 40;
        c.pretrain_weak_classes = c.pretrain_classes;
        assert_int_equal(check_net(&c), cases[i].entries);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(stages), cmocka_unit_test(heads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
