/* Five training steps of a small model, stage 1 and stage 2 (mean teacher and ICT), against PyTorch (golden/models/trajectory.h5):
 * losses, every parameter of student and teacher after each step, outputs at the end. TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/comm.h"
#include "earshot/kernels_crnn.h"
#include "earshot/trainer.h"

#include "h5.h"

#include "golden_model.h"

#define N_STEPS 5
#define B 8
#define FRAMES 16

static char dir[512];
static struct es_comm *comm;

static const struct arch {
    enum es_arch arch;
    const char *name;
    int mels, frames; /* of its features */
    int table_frames; /* that size the position table */
    enum es_embed_pool embed_pool;
    int mlp;
    bool wrapper;
} atst = {ES_ARCH_ATST, "atst", 64, 65, 1001, ES_POOL_AAP, 128, true},
  fpasst = {ES_ARCH_FPASST, "fpasst", 128, 64, 64, ES_POOL_NEAREST_EXACT, 128, true},
  beats = {ES_ARCH_BEATS, "beats", 128, 66, 66, ES_POOL_NEAREST_EXACT, 64, false};

struct inputs {
    char file[700];
    const struct arch *arch;
    const char *run;
    bool mixup;
    float *mel, *features, *labels, *pseudo, *weak; /* pseudo: stage 1 only */
    bool stage1;
    uint8_t mask[B * 27];
    struct es_mix_call mix[3];
};

static float *load(const char *file, const char *name, int step) {
    char path[200];
    snprintf(path, sizeof path, "in/step%d/%s", step, name);
    return es_test_h5_read_f32(file, path, NULL, NULL);
}

static void read_mix(const struct inputs *in, int step, const char *name, int first, int n,
                     struct es_mix_call *m) {
    char path[200];
    snprintf(path, sizeof path, "%s/step%d/draw/%s_beta", in->run, step, name);
    double *beta = es_test_h5_read_f64(in->file, path, NULL, NULL);
    snprintf(path, sizeof path, "%s/step%d/draw/%s_perm", in->run, step, name);
    double *perm = es_test_h5_read_f64(in->file, path, NULL, NULL);
    assert_non_null(beta);
    assert_non_null(perm);
    m->first = first;
    m->n = n;
    for (int i = 0; i < n; i++) {
        m->c[i] = (float)fmax(beta[i], 1 - beta[i]);
        m->perm[i] = (int)perm[i];
    }
    es_free(&perm);
    es_free(&beta);
}

static void free_step(struct inputs *in) {
    es_free(&in->mel);
    es_free(&in->features);
    es_free(&in->labels);
    es_free(&in->weak);
    es_free(&in->pseudo);
}

/* batch (2,1,1,2,2): MAESTRO, real strong, synthetic, weak, unlabelled */
static int give(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err) {
    struct inputs *in = ctx;
    (void)leaf;
    (void)err;
    free_step(in);
    in->mel = load(in->file, "sed_mel", (int)step);
    char features[32];
    snprintf(features, sizeof features, "pt_feats_%s", in->arch->name);
    in->features = load(in->file, features, (int)step);
    in->labels = load(in->file, "labels", (int)step);
    float *mask = load(in->file, "valid_class_mask", (int)step);
    assert_true(in->mel && in->features && in->labels && mask);
    in->weak = es_alloc(B * 27, sizeof(float), NULL);
    for (int i = 0; i < B * 27; i++) {
        in->mask[i] = mask[i] != 0;
        float sum = 0; /* weak targets: classes with any label, before mixup */
        for (int f = 0; f < FRAMES; f++) sum += in->labels[i * FRAMES + f];
        in->weak[i] = sum > 0;
    }
    es_free(&mask);
    if (in->stage1) { /* logits' probabilities, [B,T,K] in the file */
        float *btk = load(in->file, "pseudo_strong_btc", (int)step);
        in->pseudo = es_alloc(B * 27 * FRAMES, sizeof(float), NULL);
        assert_true(btk && in->pseudo);
        for (int b = 0; b < B; b++)
            for (int f = 0; f < FRAMES; f++)
                for (int k = 0; k < 27; k++)
                    in->pseudo[(b * 27 + k) * FRAMES + f] = btk[(b * FRAMES + f) * 27 + k];
        es_free(&btk);
    }
    *out = (struct es_leaf_input){.crnn = in->mel, .features = in->features};
    out->targets = (struct es_targets){.n = B,
                                       .first = {0, 2, 3, 4, 6, 8},
                                       .n_classes = 27,
                                       .n_frames = FRAMES,

                                       .labels = in->labels,
                                       .weak = in->weak,
                                       .mask = in->mask,
                                       .pseudo = in->pseudo,
                                       .mixup = in->mixup,
                                       .n_mix = in->mixup ? 3 : 0,
                                       .mix = in->mix};
    if (in->mixup) {
        read_mix(in, (int)step, "weak", 4, 2, &in->mix[0]);
        read_mix(in, (int)step, "strong_all", 0, 4, &in->mix[1]);
        read_mix(in, (int)step, "unlabeled", 6, 2, &in->mix[2]);
    }
    return 0;
}

static struct es_trainer_params settings(const struct arch *a, bool stage1, bool adam) {
    static const int filters[7] = {4, 6, 8, 8, 8, 8, 10}, first[6] = {0, 2, 3, 4, 6, 8};
    struct es_trainer_params tp = {.phase = stage1 ? ES_PHASE_STAGE1 : ES_PHASE_STAGE2,
                                   .warmup_steps = 2,
                                   .total_steps = 10,
                                   .ema_decay = 0.999,
                                   .bn_momentum = 0.99,
                                   .leaves = 1,
                                   .leaf_clips = B,
                                   .crnn_frames = 64,
                                   .feature_frames = a->frames,
                                   .frozen_block = 3,
                                   .seed = 1};
    es_net_config_default(&tp.net);
    struct es_transformer_config *tc = &tp.net.transformer;
    es_transformer_config_default(tc, a->arch);
    tc->dim = 32;
    tc->depth = 2;
    tc->heads = 4;
    tc->mlp = a->mlp;
    tc->beats = (struct es_beats_config){.patch_embed = 24,
                                         .conv_taps = 16,
                                         .conv_groups = 4,
                                         .buckets = 32,
                                         .max_distance = 40,
                                         .grad_decay = 1};
    tc->n_mel_frames = a->table_frames;
    tp.net.embed_pool = a->embed_pool;
    tp.net.wrapper = a->wrapper;
    memcpy(tp.net.filters, filters, sizeof filters);
    memcpy(tp.first, first, sizeof first);
    tp.net.rnn_cells = 12;
    tp.net.audioset_classes = 15;
    tp.net.n_frames = FRAMES;
    tp.net.dropout = 0;
    tp.objective = (struct es_objective_params){.stage = stage1 ? 1 : 2,
                                                .ssl_warmup_steps = 3,
                                                .ssl_scale_max = stage1 ? 2 : 1,
                                                .ict = true,
                                                .loss_scale = stage1 ? 5 : 1,
                                                .leaves = 1};
    static const double w1[6] = {0.5, 0.25, 0.12, 0.1, 0.1, 1.5}, w2[6] = {12, 3, 0.25, 1, 60, 0};
    memcpy(tp.objective.lambda, stage1 ? w1 : w2, sizeof w1);
    tp.optim = (struct es_optim_params){.decoupled = !adam,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .weight_decay = adam     ? 0
                                                        : stage1 ? 1e-2
                                                                 : 1e-3,
                                        .n_groups = 6};
    tp.optim.lr[0] = stage1 ? 2e-3 : 5e-4;
    tp.optim.lr[1] = 2e-3;
    for (int i = 2; i < 6; i++) tp.optim.lr[i] = 4e-4 * pow(0.9, i - 2);
    return tp;
}

/* The published model has 12 blocks: a model of 2 puts block 1 into group 2 + 11 - 1 of 14 (exponents count from a 12-block stack). */
static void published_rates(struct es_trainer_params *tp, double base, double decay) {
    double block1 = 0, block0 = 0, rest = 0, norm = base;
    for (int i = 0; i < 14; i++) {
        double lr = base * pow(decay, i);
        if (i == 11) block1 = lr;
        if (i == 12) block0 = lr;
        if (i == 13) rest = lr;
    }
    tp->optim.lr[2] = norm;
    tp->optim.lr[3] = block1;
    tp->optim.lr[4] = block0;
    tp->optim.lr[5] = rest;
}

/* Is sample k of this tensor's 8 rounding noise? Gradients that are zero in exact arithmetic. */
static bool is_noise(const struct es_param *e, int k) {
    if (strstr(e->name, "attn.qkv.bias")) return k >= 3 && k < 5; /* keys */
    if (strstr(e->name, "k_proj.bias")) return true;
    return (strstr(e->name, "cnn.conv") && strstr(e->name, "bias")) || strstr(e->name, "running_mean");
}

static int compare_samples(struct es_params *p, const struct inputs *in, const char *who, int step,
                           double lr_sum) {
    const char *file = in->file, *run = in->run;
    char path[300], line[512], names[700];
    int64_t s[4];
    snprintf(path, sizeof path, "%s/%s_samples_fp64", run, who);
    float *want = es_test_h5_read_f32(file, path, s, NULL);
    assert_non_null(want);
    snprintf(names, sizeof names, "%s/trajectory_names_%s.tsv", dir, in->arch->name);
    FILE *f = fopen(names, "r");
    assert_non_null(f);
    int row = 0, compared = 0;
    double worst = 0;
    while (fgets(line, sizeof line, f)) {
        char *save = NULL, *index = strtok_r(line, "\t\n", &save), *name = strtok_r(NULL, "\t\n", &save);
        if (!index || index[0] == '#') continue;
        if (!name) name = index;
        int i = es_params_find(p, name);
        if (i < 0) i = es_params_find(p, index);
        assert_true(i >= 0 && row < s[1]);
        const struct es_param *e = es_params_at(p, i);
        for (int k = 0; k < 8; k++) {
            double a = (double)es_params_data(p, i)[k * (e->n - 1) / 7],
                   r = (double)want[(step * s[1] + row) * 8 + k];
            bool noise = is_noise(e, k);
            double limit = noise ? 2 * lr_sum + 2e-5 : 2e-5;
            if (!noise) worst = fmax(worst, fabs(a - r));
            if (fabs(a - r) > limit)
                print_message("%s %s step %d %s[%d]: %.8g, want %.8g\n", run, who, step, e->name, k, a, r);
            assert_true(fabs(a - r) <= limit);
            compared++;
        }
        row++;
    }
    fclose(f);
    assert_int_equal(row, s[1]);
    print_message("%s %s step %d: %d values, largest error %.2e\n", run, who, step, compared, worst);
    es_free(&want);
    return compared;
}

/* One model on the features of step 0. In training mode BatchNorm's running statistics take part, as in PyTorch. */
static void forward(struct es_trainer *t, const struct arch *a, bool teacher, bool train_mode,
                    const struct es_leaf_input *leaf, const uint8_t *mask, float *strong_out) {
    struct es_params *p = teacher ? es_trainer_teacher(t) : es_trainer_student(t);
    const struct es_net *net = es_trainer_net(t);
    struct es_arena *arena = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *tape = NULL;
    float *log_mel = es_alloc(B * 128 * 64, sizeof(float), NULL);
    assert_int_equal(es_arena_new(&arena, "leaf", 64, NULL), 0);
    assert_int_equal(es_arena_new(&scratch, "scratch", (size_t)1 << 24, NULL), 0);
    assert_int_equal(es_pool_new(&pool, "pool", (size_t)1 << 26, NULL), 0);
    struct es_tape_params tp = {p, arena, scratch, pool, false, train_mode, 1, ES_RNG_STUDENT_DROPOUT};
    assert_int_equal(es_tape_new(&tape, &tp, NULL), 0);
    es_tape_reset(tape, 0, 0);
    es_k_crnn_log(B, 128, 64, leaf->crnn, log_mel);
    struct es_tensor *x = es_tape_input(tape, "crnn", 4, (int64_t[]){B, 1, 64, 128}, log_mel, false), *logits,
                     *att, *strong, *weak;
    struct es_tensor *z = es_net_embed(
        net, tape,
        es_tape_input(tape, "features", 4, (int64_t[]){B, 1, a->mels, a->frames}, leaf->features, false));
    es_net_sed(net, tape, x, z, &logits, &att);
    es_op_class_pool(tape, logits, att, mask, -1e30, &strong, &weak);
    memcpy(strong_out, strong->data, (size_t)strong->n * sizeof(float));
    for (int i = 0; i < es_tape_n_stats(tape); i++) {
        struct es_tape_stats s = es_tape_stats_at(tape, i);
        float *mean = es_params_data(p, s.mean_param), *var = es_params_data(p, s.var_param);
        for (int k = 0; k < s.n; k++) {
            mean[k] = (1.0f - 0.99f) * mean[k] + 0.99f * s.mean[k];
            var[k] = (1.0f - 0.99f) * var[k] + 0.99f * s.var[k];
        }
    }
    es_tape_free(&tape);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&arena);
    es_free(&log_mel);
}

static void compare_final(struct es_trainer *t, struct inputs *in, bool train_mode) {
    float strong[B * 27 * FRAMES];
    struct es_leaf_input leaf;
    bool mixup = in->mixup;
    in->mixup = false;
    give(in, 0, 0, &leaf, NULL);
    in->mixup = mixup;
    for (int teacher = 0; teacher < 2; teacher++) {
        char path[200];
        forward(t, in->arch, teacher, train_mode, &leaf, in->mask, strong);
        snprintf(path, sizeof path, "%s/final_%s_mode/%s_strong", in->run, train_mode ? "train" : "eval",
                 teacher ? "teacher" : "student");
        float *want = es_test_h5_read_f32(in->file, path, NULL, NULL);
        double max;
        assert_non_null(want);
        golden_rel_l2(strong, want, B * 27 * FRAMES, &max);
        print_message("%s: max %.2e\n", path, max);
        assert_true(max <= (train_mode ? 2e-5 : 1e-3));
        es_free(&want);
    }
}

static void run(const struct arch *arch, const char *name, bool stage1, bool mixup, bool adam) {
    struct inputs in = {.arch = arch, .run = name, .mixup = mixup, .stage1 = stage1};
    struct es_trainer_params tp = settings(arch, stage1, adam);
    struct es_trainer *t = NULL;
    struct es_err err = {0};
    char tsv[700], path[200];
    int64_t s[4];
    tp.pseudo = stage1;
    if (!stage1) published_rates(&tp, 4e-4, 0.9);
    snprintf(in.file, sizeof in.file, "%s/trajectory.h5", dir);
    assert_int_equal(es_trainer_new_all(&t, comm, &tp, &err), 0);
    snprintf(tsv, sizeof tsv, "%s/params_trajectory_%s.tsv", dir, arch->name);
    assert_true(golden_fill(es_trainer_student(t), tsv, 0) > 100);
    assert_true(golden_fill(es_trainer_teacher(t), tsv, 20240609) > 100);
    snprintf(path, sizeof path, "%s/terms_fp64", name);
    double *terms = es_test_h5_read_f64(in.file, path, s, NULL), lr_sum = 0;
    assert_non_null(terms);
    for (int step = 0; step < N_STEPS; step++) {
        struct es_step_report r;
        static const int order[7] = {ES_TERM_TOTAL, ES_TERM_MAESTRO, ES_TERM_REAL,      ES_TERM_SYNTHETIC,
                                     ES_TERM_WEAK,  ES_TERM_SSL,     ES_TERM_SSL_WEIGHT};
        assert_int_equal(es_trainer_step_all(t, step, 1, give, &in, true, &r, &err), 0);
        for (int k = 0; k < 7; k++) {
            double a = r.mean[order[k]], want = terms[step * 7 + k];
            if (fabs(a - want) > 1e-5 * fabs(want) + 1e-9)
                print_message("%s step %d term %d: %.9g want %.9g\n", name, step, k, a, want);
            assert_true(fabs(a - want) <= 1e-5 * fabs(want) + 1e-9);
        }
        lr_sum += 2e-3 * r.lr_factor;
        compare_samples(es_trainer_student(t), &in, "student", step, lr_sum);
        compare_samples(es_trainer_teacher(t), &in, "teacher", step, lr_sum);
    }
    compare_final(t, &in, true);
    compare_final(t, &in, false);
    es_free(&terms);
    free_step(&in);
    es_trainer_free_all(&t);
}

static void stage2_mean_teacher(void **state) {
    (void)state;
    run(&atst, "atst_mt", false, false, false);
}
static void stage2_ict(void **state) {
    (void)state;
    run(&atst, "atst_ict", false, true, false);
}
static void stage1(void **state) {
    (void)state;
    run(&atst, "atst_stage1", true, true, false);
}
static void fpasst_mean_teacher(void **state) {
    (void)state;
    run(&fpasst, "fpasst_mt", false, false, true);
}
static void fpasst_ict(void **state) {
    (void)state;
    run(&fpasst, "fpasst_ict", false, true, false);
}
static void beats_mean_teacher(void **state) {
    (void)state;
    run(&beats, "beats_mt", false, false, false);
}
static void beats_ict(void **state) {
    (void)state;
    run(&beats, "beats_ict", false, true, false);
}

int main(int argc, char **argv) {
    bool shared;
    char file[700];
    struct es_err err = {0};
    golden_models(dir, sizeof dir, &shared);
    snprintf(file, sizeof file, "%s/trajectory.h5", dir);
    if (access(file, R_OK) != 0) {
        printf("skipped: %s is not there\n", file);
        return 77;
    }
    if (es_comm_init_all(&comm, &argc, &argv, &err) < 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(stage2_mean_teacher),
                                       cmocka_unit_test(stage2_ict),
                                       cmocka_unit_test(stage1),
                                       cmocka_unit_test(fpasst_mean_teacher),
                                       cmocka_unit_test(fpasst_ict),
                                       cmocka_unit_test(beats_mean_teacher),
                                       cmocka_unit_test(beats_ict)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    es_comm_fini_all(&comm);
    return failed;
}
