/* param_groups.tsv: what a run's settings make of every parameter: optimiser group, rate, weight decay, trainable or not. The
 * program's own way: configuration -> settings -> trainer. */
#include "../../../src/train/train_impl.h"
#include "earshot/tsv.h"

#include "model.h"

enum {
    STAGE,
    ARCH,
    NO_WRAPPER,
    LAYERS,
    LR_SCALE,
    LR,
    ADAMW,
    PARAMETER,
    GROUP,
    GROUP_LR,
    DECAY,
    TRAINABLE,
    N_COLUMNS
};

/* Compared columns, under the names of tolerances.tsv. */
static const struct {
    int column;
    const char *name;
} compared[4] = {{GROUP, "optimizer_group"},
                 {GROUP_LR, "group_lr"},
                 {DECAY, "group_weight_decay"},
                 {TRAINABLE, "requires_grad_after_get_optimizer"}};

struct run_of {
    const char *key[ADAMW + 1]; /* the columns that name a run */
    struct es_trainer *trainer;
    struct es_trainer_params tp;
};

static int configure(struct es_config *cfg, struct rn_case *c, const struct run_of *r, struct es_err *err) {
    const bool stage2 = strcmp(r->key[STAGE], "2") == 0, adamw = strcmp(r->key[ADAMW], "1") == 0;
    char line[200];
#define SET(...)                                                                                             \
    do {                                                                                                     \
        snprintf(line, sizeof line, __VA_ARGS__);                                                            \
        ES_TRY(es_config_set(cfg, line, err));                                                               \
    } while (0)
    SET("phase=%s", stage2 ? "stage2" : "stage1");
    SET("model.arch=%s", rn_get(c, "t.arch"));
    SET("model.dim=%s", rn_get(c, "t.embed_dim"));
    SET("model.depth=%s", rn_get(c, "t.depth"));
    SET("model.heads=%s", rn_get(c, "t.heads"));
    SET("model.mlp=%s", rn_get(c, "t.mlp_hidden"));
    if (rn_is(c, "t.arch", "beats")) {
        SET("beats.patch_embed=%s", rn_get(c, "t.patch_embed_dim"));
        SET("beats.conv_taps=%s", rn_get(c, "t.conv_pos"));
        SET("beats.conv_groups=%s", rn_get(c, "t.conv_pos_groups"));
        SET("beats.buckets=%s", rn_get(c, "t.num_buckets"));
        SET("beats.max_distance=%s", rn_get(c, "t.max_distance"));
    }
    SET("model.wrapper=%s", strcmp(r->key[NO_WRAPPER], "1") == 0 ? "false" : "true");
    SET("model.audioset_classes=%s", rn_get(c, "sed.audioset_classes"));
    SET("crnn.filters=%s", rn_get(c, "sed.nb_filters"));
    SET("crnn.rnn_cells=%s", rn_get(c, "sed.n_RNN_cell"));
    SET("optimizer.kind=%s", adamw ? "adamw" : "adam");
    if (stage2) {
        SET("optimizer.cnn_lr=%s", rn_get(c, "stage2.cnn_lr"));
        SET("optimizer.rnn_lr=%s", rn_get(c, "stage2.rnn_lr"));
        SET("optimizer.transformer_lr=%s", r->key[LR]);
        SET("optimizer.layer_decay=%s", r->key[LR_SCALE]);
    } else {
        SET("optimizer.crnn_lr=%s", rn_get(c, "stage1.crnn_lr"));
    }
    if (adamw)
        SET("optimizer.weight_decay=%s", rn_get(c, stage2 ? "stage2.weight_decay" : "stage1.weight_decay"));
#undef SET
    return es_config_finish(cfg, err);
}

static int open_run(struct rn_case *c, struct run_of *r, struct es_err *err) {
    struct es_config *cfg = NULL;
    struct es_plan *plan = NULL;
    struct es_plan_params pp;
    int64_t n_clips[ES_N_SETS];
    int rc = 0;
    ES_GO(es_config_new(&cfg, err));
    ES_GO(configure(cfg, c, r, err));
    for (int s = 0; s < ES_N_SETS; s++) n_clips[s] = 100;
    train_plan_params(&pp, cfg, n_clips);
    ES_GO(es_plan_new(&plan, &pp, err));
    train_trainer_params(&r->tp, cfg, plan, 0);
    r->tp.crnn_frames = 4 * r->tp.net.n_frames; /* short clips: only the table of parameters is looked at */
    r->tp.feature_frames = r->tp.net.transformer.n_mel_frames;
    r->tp.leaf_clips = 1;
    for (int s = 0; s <= ES_N_SETS; s++) r->tp.first[s] = s > 0;
    if (!c->run->comm) ES_GO(es_comm_init_all(&c->run->comm, &(int){0}, &(char **){NULL}, err));
    ES_GO(es_trainer_new_all(&r->trainer, c->run->comm, &r->tp, err));
done:
    es_plan_free(&plan);
    es_config_free(&cfg);
    return rc;
}

/* What the program does with a parameter, as the file tells it. Parameters that never get a gradient have no group in the
 * program: they have the group of their part, and stay trainable unless they are the frozen head. */
static void found(const struct run_of *r, int i, double out[4]) {
    struct es_params *p = es_trainer_student(r->trainer);
    const struct es_net *net = es_trainer_net(r->trainer);
    const struct es_param *e = es_params_at(p, i);
    const bool stage1 = r->tp.phase == ES_PHASE_STAGE1;
    const enum es_param_part part = es_net_part(net, e->name);
    const bool none = stage1 && part == ES_PART_TRANSFORMER;
    int group = e->group;
    if (e->no_grad && !stage1) group = part == ES_PART_TRANSFORMER ? 2 + es_net_depth_index(net, e->name) : 1;
    out[0] = none ? -1 : group;
    out[1] = none ? 0 : r->tp.optim.lr[group];
    out[2] = none ? 0 : r->tp.optim.weight_decay;
    out[3] = e->trainable || (e->no_grad && part == ES_PART_TRANSFORMER && !stage1);
}

static void compare_run(struct rn_case *c, const struct es_tsv *t, const struct run_of *r) {
    char label[300];
    int64_t n = 0, unknown = 0, missing = 0;
    double max_abs[4] = {0}, d2[4] = {0}, r2[4] = {0};
    bool pass[4] = {true, true, true, true};
    struct es_params *p = es_trainer_student(r->trainer);
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        bool mine = true;
        double got[4], want[4];
        for (int k = 0; k <= ADAMW && mine; k++) mine = strcmp(es_tsv_text(t, row, k), r->key[k]) == 0;
        if (!mine) continue;
        n++;
        const int i = es_params_find(p, es_tsv_text(t, row, PARAMETER));
        unknown += i < 0;
        if (i < 0) continue;
        found(r, i, got);
        for (int k = 0; k < 4; k++) {
            want[k] = strtod(es_tsv_text(t, row, compared[k].column), NULL);
            const struct rn_context x = {.c = c};
            double a, l2;
            pass[k] &= rn_judge(rn_criterion(c->run, rn_rule(c, c->file_name, compared[k].name)), &x, &got[k],
                                &want[k], 1, &a, &l2);
            max_abs[k] = fmax(max_abs[k], a);
            d2[k] += a * a;
            r2[k] += want[k] * want[k];
        }
    }
    for (int i = 0; i < es_params_count(p); i++) missing += es_params_at(p, i)->kind == ES_PARAM_WEIGHT;
    missing = llabs(missing - n);
    snprintf(label, sizeof label, "%s/no_wrapper=%s,layers=%s,scale=%s,lr=%s,adamw=%s", r->key[STAGE],
             r->key[NO_WRAPPER], r->key[LAYERS], r->key[LR_SCALE], r->key[LR], r->key[ADAMW]);
    for (int k = 0; k < 4; k++) {
        char quantity[400];
        snprintf(quantity, sizeof quantity, "%s/%s", label, compared[k].name);
        rn_report(c->run,
                  &(struct rn_result){
                      c->file_name, c->group, quantity, n, max_abs[k], d2[k] > 0 ? sqrt(d2[k] / r2[k]) : 0,
                      rn_criterion(c->run, rn_rule(c, c->file_name, compared[k].name)), pass[k]});
    }
    char quantity[400];
    const double wrong = (double)(unknown + missing);
    snprintf(quantity, sizeof quantity, "%s/parameter", label);
    rn_report(c->run,
              &(struct rn_result){c->file_name, c->group, quantity, n, wrong, wrong > 0 ? HUGE_VAL : 0,
                                  rn_criterion(c->run, rn_rule(c, c->file_name, "parameter")), wrong == 0});
}

static bool same_run(const struct es_tsv *t, int64_t a, int64_t b) {
    for (int k = 0; k <= ADAMW; k++)
        if (strcmp(es_tsv_text(t, a, k), es_tsv_text(t, b, k)) != 0) return false;
    return true;
}

void rn_param_groups(struct rn *run) {
    static const char *const columns[N_COLUMNS] = {"#stage",
                                                   "arch",
                                                   "no_wrapper",
                                                   "pt_trainable_layers",
                                                   "pt_lr_scale",
                                                   "pt_lr",
                                                   "adamw",
                                                   "parameter",
                                                   "optimizer_group(-1=in none)",
                                                   "group_lr",
                                                   "group_weight_decay",
                                                   "requires_grad_after_get_optimizer"};
    char path[1200];
    struct es_tsv *t = NULL;
    struct es_err err = {0};
    snprintf(path, sizeof path, "%s/param_groups.tsv", run->dir);
    if (es_tsv_open(&t, path, columns, N_COLUMNS, 0, &err) < 0) {
        rn_report_skip(run, "param_groups.tsv", "-", "*", err.msg);
        return;
    }
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        struct run_of r = {0};
        struct rn_case *c = NULL;
        bool first = true;
        for (int64_t b = 0; b < row && first; b++) first = !same_run(t, b, row);
        if (!first) continue;
        for (int k = 0; k <= ADAMW; k++) r.key[k] = es_tsv_text(t, row, k);
        for (int k = 0; k < run->n_cases; k++)
            if (strcmp(run->c[k].file_name, "param_groups.tsv") == 0 &&
                strcmp(run->c[k].group, r.key[ARCH]) == 0)
                c = &run->c[k];
        char label[200];
        snprintf(label, sizeof label, "%s/no_wrapper=%s,layers=%s,scale=%s,lr=%s,adamw=%s", r.key[STAGE],
                 r.key[NO_WRAPPER], r.key[LAYERS], r.key[LR_SCALE], r.key[LR], r.key[ADAMW]);
        if (!c)
            rn_report_skip(run, "param_groups.tsv", r.key[ARCH], label, "no case of cases.tsv describes it");
        else if (open_run(c, &r, &err) < 0)
            rn_report_skip(run, c->file_name, c->group, label, err.msg);
        else
            compare_run(c, t, &r);
        es_trainer_free_all(&r.trainer);
    }
    es_tsv_close(&t);
}
