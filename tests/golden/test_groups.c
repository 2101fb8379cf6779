/* Optimiser group, rate and freezing of every parameter of 12-block models against the public get_optimizer
 * (golden/models/param_groups.tsv), the published quirk of fPaSST's groups included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/comm.h"
#include "earshot/trainer.h"

#include "h5.h"

#include "golden_model.h"

#define MAX_GROUPS 16

static char dir[512];
static struct es_comm *comm;

struct row {
    char kase[64]; /* the first seven columns */
    int stage, no_wrapper, group, trainable;
    char arch[16], name[120];
    double scale, pt_lr, lr;
};

/* false: not a row */
static bool parse(char *line, struct row *r) {
    char *save = NULL, *cell[12], *end;
    int n = 0;
    for (char *c = strtok_r(line, "\t\n", &save); c && n < 12; c = strtok_r(NULL, "\t\n", &save))
        cell[n++] = c;
    if (n == 0 || cell[0][0] == '#') return false;
    assert_int_equal(n, 12);
    snprintf(r->kase, sizeof r->kase, "%s %s %s %s %s %s %s", cell[0], cell[1], cell[2], cell[3], cell[4],
             cell[5], cell[6]);
    snprintf(r->arch, sizeof r->arch, "%s", strcmp(cell[1], "atst_frame") == 0 ? "atst" : cell[1]);
    snprintf(r->name, sizeof r->name, "%s", cell[7]);
    r->stage = (int)strtol(cell[0], &end, 10);
    r->no_wrapper = (int)strtol(cell[2], &end, 10);
    r->scale = strtod(cell[4], &end);
    r->pt_lr = strtod(cell[5], &end);
    r->group = (int)strtol(cell[8], &end, 10);
    r->lr = strtod(cell[9], &end);
    r->trainable = (int)strtol(cell[11], &end, 10);
    return true;
}

static struct es_trainer *new_trainer(const struct row *r, struct es_trainer_params *tp) {
    struct es_trainer *t = NULL;
    struct es_err err = {0};
    int arch = es_arch_from_name(r->arch);
    assert_true(arch >= 0);
    *tp = (struct es_trainer_params){.phase = r->stage == 1 ? ES_PHASE_STAGE1 : ES_PHASE_STAGE2,
                                     .leaves = 1,
                                     .leaf_clips = 5,
                                     .first = {0, 1, 2, 3, 4, 5},
                                     .crnn_frames = 64,
                                     .frozen_block = 1,
                                     .seed = 1};
    es_net_config_published(&tp->net, (enum es_arch)arch);
    struct es_transformer_config *tc = &tp->net.transformer;
    tc->beats.conv_groups = 4;
    tc->dim = tc->mlp = 12; /* names and groups depend on the depth alone */
    tc->n_mel_frames = tp->feature_frames = 64;
    tp->net.wrapper = !r->no_wrapper;
    tp->net.rnn_cells = 4;
    tp->net.n_frames = 16;
    tp->objective = (struct es_objective_params){.stage = r->stage,
                                                 .lambda = {1, 1, 1, 1, 1, 0},
                                                 .ssl_warmup_steps = 1,
                                                 .ssl_type = ES_MEASURE_MSE,
                                                 .loss_scale = 1,
                                                 .leaves = 1};
    tp->optim = (struct es_optim_params){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .n_groups = MAX_GROUPS};
    tp->optim.lr[0] = 1e-5;
    tp->optim.lr[1] = 1e-4;
    double lr = r->pt_lr;
    for (int i = 2; i < MAX_GROUPS; i++, lr *= r->scale) tp->optim.lr[i] = lr;
    int rc = es_trainer_new_all(&t, comm, tp, &err);
    if (rc < 0) print_message("%s: %s\n", r->kase, err.msg);
    assert_int_equal(rc, 0);
    return t;
}

/* Weights of the table; every one must have had its row. */
static void end_case(const char *kase, struct es_trainer **t, int rows) {
    int n = 0;
    if (!*t) return;
    for (int i = 0; i < es_params_count(es_trainer_student(*t)); i++)
        n += es_params_at(es_trainer_student(*t), i)->kind == ES_PARAM_WEIGHT;
    print_message("%s: %d parameters\n", kase, rows);
    assert_int_equal(rows, n);
    es_trainer_free_all(t);
}

static void published_groups(void **state) {
    (void)state;
    char path[700], line[512], kase[64] = "";
    struct es_trainer *t = NULL;
    struct es_trainer_params tp;
    int rows = 0, cases = 0;
    snprintf(path, sizeof path, "%s/param_groups.tsv", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        struct row r;
        if (!parse(line, &r)) continue;
        if (strcmp(r.kase, kase) != 0) {
            end_case(kase, &t, rows);
            t = new_trainer(&r, &tp);
            memcpy(kase, r.kase, sizeof kase);
            rows = 0;
            cases++;
        }
        int i = es_params_find(es_trainer_student(t), r.name);
        if (i < 0) print_message("%s: %s is not there\n", r.kase, r.name);
        assert_true(i >= 0);
        const struct es_param *p = es_params_at(es_trainer_student(t), i);
        bool never =
            strstr(r.name, "mask_embed"); /* theirs asks for a gradient that never comes (spec P20) */
        if (!never && p->trainable != (r.trainable == 1))
            print_message("%s: %s: trainable\n", r.kase, r.name);
        assert_true(never || p->trainable == (r.trainable == 1));
        if (p->trainable) {
            if (p->group != r.group)
                print_message("%s: %s: group %d, want %d\n", r.kase, r.name, p->group, r.group);
            assert_int_equal(p->group, r.group);
            if (r.stage == 2) assert_true(fabs(tp.optim.lr[p->group] - r.lr) <= 1e-8 * r.lr);
        }
        rows++;
    }
    fclose(f);
    end_case(kase, &t, rows);
    assert_true(cases >= 2);
}

/* quirks.fpasst_groups: fixed gives every block its own. */
static void fixed_groups(void **state) {
    (void)state;
    struct es_net_config c;
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    for (int fixed = 0; fixed < 2; fixed++) {
        es_net_config_published(&c, ES_ARCH_FPASST);
        c.transformer.dim = c.transformer.mlp = 12;
        c.transformer.fpasst_groups_fixed = fixed;
        assert_int_equal(es_params_new(&p, NULL), 0);
        assert_int_equal(es_net_new(&net, &c, p, NULL), 0);
        for (int b = 0; b < 12; b++) {
            char name[64];
            snprintf(name, sizeof name, "as_model.model.blocks.%d.mlp.fc1.weight", b);
            assert_int_equal(es_net_depth_index(net, name), !fixed && b >= 10 ? 11 : 12 - b);
        }
        assert_int_equal(es_net_depth_index(net, "as_model.model.norm.bias"), 0);
        assert_int_equal(es_net_depth_index(net, "as_model.model.new_pos_embed"), 13);
        es_net_free(&net);
        es_params_free(&p);
    }
}

int main(int argc, char **argv) {
    bool shared;
    struct es_err err = {0};
    golden_models(dir, sizeof dir, &shared);
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(published_groups), cmocka_unit_test(fixed_groups)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    es_comm_fini_all(&comm);
    return failed;
}
