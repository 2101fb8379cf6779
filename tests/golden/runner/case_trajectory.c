/* Whole training steps of small models: loss terms, student and teacher after every step, rates, predictions at the end. */
#include "earshot/kernels_crnn.h"
#include "earshot/ops.h"
#include "earshot/trainer.h"

#include "losses.h"
#include "model.h"

struct trajectory {
    struct rn_case *c;
    struct es_trainer_params tp;
    struct es_trainer *trainer;
    int B, K, T;
    bool mixup;
    struct es_mix_call mix[4];
    uint8_t *mask;
};

/* ---- settings */

/* Index of the golden group that holds a parameter; -1: none. */
static int golden_group(struct rn_case *c, const char *name) {
    char key[40];
    for (int g = 0; g < rn_int(c, "n_groups", 0); g++) {
        snprintf(key, sizeof key, "group.%d", g);
        const char *list = rn_get(c, key);
        const size_t n = strlen(name);
        for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
            if (strncmp(at, name, n) == 0 && (at[n] == ',' || !at[n])) return g;
    }
    return -1;
}

/* Rates of the program's groups: golden groups are numbered for 12 blocks. A scratch network tells which parameter is where. */
static bool rates(struct trajectory *q) {
    struct rn_case *c = q->c;
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    struct es_err err = {0};
    double lr[ES_MAX_GROUPS];
    bool ok = true, stage1 = q->tp.phase == ES_PHASE_STAGE1;
    const int n = rn_list(c, "group_lr", lr, ES_MAX_GROUPS);
    ES_ASSERT(es_params_new(&p, NULL) == 0);
    if (es_net_new(&net, &q->tp.net, p, &err) < 0) {
        rn_skip(c, "%s", err.msg);
        es_params_free(&p);
        return false;
    }
    es_net_freeze(net, p, stage1);
    q->tp.optim.n_groups = stage1 ? 1 : 2 + q->tp.net.transformer.depth + 2;
    for (int g = 0; g < q->tp.optim.n_groups; g++) q->tp.optim.lr[g] = -1;
    for (int i = 0; i < es_params_count(p) && ok; i++) {
        const struct es_param *e = es_params_at(p, i);
        if (e->kind != ES_PARAM_WEIGHT || !e->trainable) continue;
        const enum es_param_part part = es_net_part(net, e->name);
        const int mine = stage1                        ? 0
                         : part == ES_PART_CNN         ? 0
                         : part == ES_PART_TRANSFORMER ? 2 + es_net_depth_index(net, e->name)
                                                       : 1;
        const int golden = golden_group(c, e->name);
        ok = golden >= 0 && golden < n && (q->tp.optim.lr[mine] < 0 || q->tp.optim.lr[mine] == lr[golden]);
        if (!ok)
            rn_skip(c, "%s: the program's group %d is not one group of the case (%d)", e->name, mine, golden);
        else
            q->tp.optim.lr[mine] = lr[golden];
    }
    for (int g = 0; g < q->tp.optim.n_groups; g++) q->tp.optim.lr[g] = fmax(q->tp.optim.lr[g], 0);
    es_net_free(&net);
    es_params_free(&p);
    return ok;
}

static bool settings(struct trajectory *q) {
    struct rn_case *c = q->c;
    double betas[2];
    struct es_trainer_params *tp = &q->tp;
    const char *why = rn_loss_unsupported(c);
    if (!why && !rn_is(c, "schedule", "cosine_with_warmup")) why = "the schedule is cosine_with_warmup only";
    if (!why && !rn_is(c, "clip_grad", "none")) why = "the case clips gradients";
    if (why) {
        rn_skip(c, "%s", why);
        return false;
    }
    const int stage = rn_int(c, "stage", 0);
    *tp = (struct es_trainer_params){.phase = stage == 1 ? ES_PHASE_STAGE1 : ES_PHASE_STAGE2,
                                     .warmup_steps = rn_int(c, "warmup_steps", 0),
                                     .total_steps = rn_int(c, "total_steps", 0),
                                     .ema_decay = rn_num(c, "ema_factor", 0.999),
                                     .bn_momentum = rn_num(c, "sed.bn_momentum", 0.99),
                                     .leaves = 1,
                                     .crnn_frames = rn_int(c, "sed.mel_frames", 0),
                                     .feature_frames = rn_int(c, "t.mel_frames", 0),
                                     .frozen_block = 3,
                                     .seed = 1};
    if (!rn_sed_config(c, &tp->net)) return false;
    if (!rn_objective(c, &tp->objective, tp->first) || rn_list(c, "betas", betas, 2) != 2) {
        rn_skip(c, "keys of the case are missing");
        return false;
    }
    tp->leaf_clips = q->B = tp->first[ES_N_SETS];
    tp->pseudo = tp->objective.lambda[5] > 0;
    tp->optim = (struct es_optim_params){.decoupled = rn_num(c, "decoupled", 0) != 0,
                                         .beta1 = betas[0],
                                         .beta2 = betas[1],
                                         .eps = rn_num(c, "eps", 1e-8),
                                         .weight_decay = rn_num(c, "weight_decay", 0)};
    q->K = tp->net.n_classes;
    q->T = tp->net.n_frames;
    q->mixup = rn_num(c, "mixup", 0) != 0;
    return rates(q);
}

/* ---- leaves */
static int give(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err) {
    struct trajectory *q = ctx;
    struct rn_case *c = q->c;
    const int s = (int)step, K = q->K, T = q->T, B = q->B;
    int64_t shape[4];
    int n_mix = 0;
    (void)leaf;
    *out = (struct es_leaf_input){.crnn = rn_input(c, "sed_mel", s, shape),
                                  .features = rn_input(c, "pt_feats", s, shape)};
    float *labels = rn_input(c, "labels", s, shape), *pseudo = NULL;
    const float *mask = rn_input(c, "valid_class_mask", s, shape),
                *btk = rn_input(c, "pseudo_strong_btc", s, shape);
    if (!out->crnn || !out->features || !labels || !mask || !btk)
        return es_err_set(err, ES_EDATA, "step %d: an input is not there", s);
    float *weak = rn_hold(c, (size_t)(B * K), sizeof *weak);
    q->mask = rn_hold(c, (size_t)(B * K), 1);
    for (int i = 0; i < B * K; i++) {
        q->mask[i] = mask[i] != 0;
        for (int t = 0; t < T; t++) weak[i] = labels[i * T + t] > 0 ? 1 : weak[i];
    }
    if (q->tp.pseudo) {
        pseudo = rn_hold(c, (size_t)(B * K * T), sizeof *pseudo);
        es_k_transpose(B, T, K, btk, pseudo, false);
    }
    if (q->mixup) {
        char prefix[40];
        snprintf(prefix, sizeof prefix, "step%d/", s);
        if (!rn_mix_calls(c, prefix, q->tp.first, q->mix, &n_mix))
            return es_err_set(err, ES_EDATA, "step %d: no draws", s);
    }
    out->targets = (struct es_targets){.n = B,
                                       .n_classes = K,
                                       .n_frames = T,
                                       .labels = labels,
                                       .weak = weak,
                                       .mask = q->mask,
                                       .pseudo = pseudo,
                                       .mixup = q->mixup,
                                       .n_mix = n_mix,
                                       .mix = q->mix};
    memcpy(out->targets.first, q->tp.first, sizeof q->tp.first);
    return 0;
}

/* ---- comparison */

/* The rows of samples: indices of parameters. */
static int read_rows(struct trajectory *q, int *row, int max) {
    char path[1200], line[512];
    int n = 0;
    snprintf(path, sizeof path, "%s/%s", q->c->run->dir, rn_get(q->c, "names") ? rn_get(q->c, "names") : "");
    FILE *f = fopen(path, "r");
    while (f && n < max && fgets(line, sizeof line, f)) {
        char *name = strchr(line, '\t');
        if (line[0] == '#' || !name) continue;
        name++;
        name[strcspn(name, "\t\r\n")] = 0;
        row[n++] = rn_find_param(es_trainer_student(q->trainer), &(struct rn_names){"", ""}, name);
    }
    if (f) fclose(f);
    return n;
}

static void take_samples(struct es_params *p, const int *row, int n_rows, double *out) {
    for (int r = 0; r < n_rows; r++) {
        const struct es_param *e = row[r] < 0 ? NULL : es_params_at(p, row[r]);
        for (int64_t k = 0; k < 8; k++)
            out[r * 8 + k] = e ? (double)es_params_data(p, row[r])[k * (e->n - 1) / 7] : (double)NAN;
    }
}

/* One model on the features of step 0. In training mode BatchNorm's running statistics take part, as in PyTorch. */
struct final {
    struct trajectory *q;
    struct es_leaf_input leaf;
    float *log_mel;
    const char *who;
};

static void final_forward(struct rn_model *m, struct es_tape *t, void *ctx) {
    struct final *f = ctx;
    const struct trajectory *q = f->q;
    const int64_t B = q->B, F = q->tp.net.crnn_mels, T = q->tp.crnn_frames;
    const struct es_transformer_config *tc = &q->tp.net.transformer;
    struct es_tensor *x = es_tape_input(t, "crnn", 4, (int64_t[]){B, 1, T, F}, f->log_mel, false), *logits,
                     *att, *strong, *weak;
    struct es_tensor *z =
        es_net_embed(m->net, t,
                     es_tape_input(t, "features", 4, (int64_t[]){B, 1, tc->n_mels, q->tp.feature_frames},
                                   f->leaf.features, false));
    es_net_sed(m->net, t, x, z, &logits, &att);
    es_op_class_pool(t, logits, att, q->mask, q->tp.net.mask_fill, &strong, &weak);
    if (es_tape_dry(t)) return;
    char rel[100];
    snprintf(rel, sizeof rel, "final_%s_mode/%s_strong", m->train ? "train" : "eval", f->who);
    rn_put_f32(q->c, rel, strong->data, strong->n);
    snprintf(rel, sizeof rel, "final_%s_mode/%s_weak", m->train ? "train" : "eval", f->who);
    rn_put_f32(q->c, rel, weak->data, weak->n);
}

static void finals(struct trajectory *q, bool train) {
    struct final f = {.q = q};
    const bool mixup = q->mixup;
    q->mixup = false;
    if (give(q, 0, 0, &f.leaf, NULL) < 0) return;
    q->mixup = mixup;
    f.log_mel = rn_hold(q->c, (size_t)(q->B * q->tp.net.crnn_mels * q->tp.crnn_frames), sizeof *f.log_mel);
    es_k_crnn_log(q->B, q->tp.net.crnn_mels, q->tp.crnn_frames, f.leaf.crnn, f.log_mel);
    for (int teacher = 0; teacher < 2; teacher++) {
        struct es_params *p = teacher ? es_trainer_teacher(q->trainer) : es_trainer_student(q->trainer);
        struct es_net *net = NULL;
        struct es_params *own = NULL; /* the trainer lends its network read-only */
        ES_ASSERT(es_params_new(&own, NULL) == 0 && es_net_new(&net, &q->tp.net, own, NULL) == 0);
        struct rn_model m = {.c = q->c, .p = p, .net = net, .train = train};
        f.who = teacher ? "teacher" : "student";
        rn_model_run(&m, final_forward, &f);
        const float a = (float)q->tp.bn_momentum;
        for (int i = 0; i < es_tape_n_stats(m.t); i++) {
            struct es_tape_stats s = es_tape_stats_at(m.t, i);
            float *mean = es_params_data(p, s.mean_param), *var = es_params_data(p, s.var_param);
            for (int k = 0; k < s.n; k++) {
                mean[k] = (1.0f - a) * mean[k] + a * s.mean[k];
                var[k] = (1.0f - a) * var[k] + a * s.var[k];
            }
        }
        m.p = NULL; /* the trainer's */
        rn_model_free(&m);
        es_params_free(&own);
    }
}

static int term_of(const char *name) {
    static const struct {
        const char *name;
        int term;
    } terms[] = {{"tot_loss", ES_TERM_TOTAL},
                 {"loss_maestro", ES_TERM_MAESTRO},
                 {"loss_desed_real_strong", ES_TERM_REAL},
                 {"loss_desed_synth", ES_TERM_SYNTHETIC},
                 {"loss_weak", ES_TERM_WEAK},
                 {"tot_self_loss", ES_TERM_SSL},
                 {"ssl_weight", ES_TERM_SSL_WEIGHT}};
    for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
        if (strcmp(terms[i].name, name) == 0) return terms[i].term;
    return -1;
}

static void steps(struct trajectory *q) {
    enum { MAX_ROWS = 1024, MAX_TERMS = 16 };
    struct rn_case *c = q->c;
    struct es_err err = {0};
    char name[80];
    double lr[ES_MAX_GROUPS];
    int row[MAX_ROWS], term[MAX_TERMS], n_terms = 0;
    const int n_steps = rn_int(c, "n_steps", 0), n_rows = read_rows(q, row, MAX_ROWS),
              n_lr = rn_list(c, "group_lr", lr, ES_MAX_GROUPS);
    while (n_terms < MAX_TERMS && rn_item(rn_get(c, "terms"), n_terms, name, sizeof name))
        term[n_terms++] = term_of(name);
    double *terms = rn_hold(c, (size_t)(n_steps * n_terms) + 1, sizeof *terms);
    double *used = rn_hold(c, (size_t)(n_steps * n_lr) + 1, sizeof *used);
    double *student = rn_hold(c, (size_t)(n_steps * n_rows) * 8 + 1, sizeof *student);
    double *teacher = rn_hold(c, (size_t)(n_steps * n_rows) * 8 + 1, sizeof *teacher);
    for (int s = 0; s < n_steps; s++) {
        struct es_step_report r;
        if (es_trainer_step_all(q->trainer, s, 1, give, q, false, &r, &err) < 0) {
            rn_skip(c, "%s", err.msg);
            return;
        }
        es_trainer_settle_all(q->trainer);
        for (int k = 0; k < n_terms; k++)
            terms[s * n_terms + k] = term[k] < 0 ? (double)NAN : r.mean[term[k]];
        for (int g = 0; g < n_lr; g++) used[s * n_lr + g] = lr[g] * r.lr_factor;
        take_samples(es_trainer_student(q->trainer), row, n_rows, student + (int64_t)s * n_rows * 8);
        take_samples(es_trainer_teacher(q->trainer), row, n_rows, teacher + (int64_t)s * n_rows * 8);
    }
    rn_put(c, "terms_fp64", terms, (int64_t)n_steps * n_terms);
    rn_put(c, "lr_used", used, (int64_t)n_steps * n_lr);
    rn_put(c, "student_samples_fp64", student, (int64_t)n_steps * n_rows * 8);
    rn_put(c, "teacher_samples_fp64", teacher, (int64_t)n_steps * n_rows * 8);
    finals(q, true);
    finals(q, false);
}

void rn_case_trajectory(struct rn_case *c) {
    struct trajectory q = {.c = c};
    struct es_err err = {0};
    if (!settings(&q)) return;
    const char *tsv = rn_get(c, "params");
    const struct rn_names same = {"", ""};
    if (!c->run->comm && es_comm_init_all(&c->run->comm, &(int){0}, &(char **){NULL}, &err) < 0) {
        rn_skip(c, "%s", err.msg);
        return;
    }
    if (es_trainer_new_all(&q.trainer, c->run->comm, &q.tp, &err) < 0) {
        rn_skip(c, "%s", err.msg);
        return;
    }
    if (rn_fill(c, es_trainer_student(q.trainer), tsv, (uint64_t)rn_num(c, "seed", 0), &same) &&
        rn_fill(c, es_trainer_teacher(q.trainer), tsv, (uint64_t)rn_num(c, "teacher_seed", 0), &same))
        steps(&q);
    es_trainer_free_all(&q.trainer);
}
