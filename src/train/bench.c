#include "earshot/bench.h"

#include <math.h>
#include <string.h>

#include "earshot/frontend.h"
#include "earshot/kernels.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/timer.h"
#include "bench_ops.h"
#include "train_impl.h"

#define SAMPLES 160000
#define SHORT_FRAMES 40

struct source { /* one leaf of random data, used for every step, or stores */
    const struct es_trainer_params *tp;
    struct es_frontend *mel, *crnn_mel; /* NULL in pre-training: features are given */
    float *wave, *features, *crnn, *labels, *weak;
    uint8_t *mask;
    void *scratch;
    double frontend_s;
    struct es_dataset *data; /* stores */
    struct es_plan *plan;
    struct train_input input;
};

static void source_free(struct source *s) {
    train_input_free(&s->input);
    es_plan_free(&s->plan);
    es_dataset_close(&s->data);
    es_free(&s->scratch);
    es_free(&s->mask);
    es_free(&s->weak);
    es_free(&s->labels);
    es_free(&s->crnn);
    es_free(&s->features);
    es_free(&s->wave);
    es_frontend_free(&s->crnn_mel);
    es_frontend_free(&s->mel);
}

static void fill(float *x, int64_t n, double lo, double hi, uint32_t op) {
    struct es_rng r = es_rng_make(1, ES_RNG_BENCH, 0, 0, op);
    for (int64_t i = 0; i < n; i++) x[i] = (float)es_rng_range(&r, lo, hi);
}

static int source_new(struct source *s, const struct es_trainer_params *tp, struct es_err *err) {
    int64_t n = tp->leaf_clips, F = tp->net.transformer.n_mels, K = tp->net.n_classes, T = tp->net.n_frames;
    bool pretrain = tp->phase == ES_PHASE_PRETRAIN;
    if (pretrain) {
        K = tp->net.pretrain_classes;
        T = tp->net.pretrain_frames;
    }
    *s = (struct source){.tp = tp};
    s->features = es_alloc((size_t)(n * F * tp->feature_frames), sizeof(float), err);
    s->labels = es_alloc((size_t)(n * K * T), sizeof(float), err);
    if (!s->features || !s->labels) return -ES_EIO;
    fill(s->features, n * F * tp->feature_frames, -1, 1, 1);
    fill(s->labels, n * K * T, 0, 1, 2);
    if (pretrain) return 0;
    s->wave = es_alloc((size_t)n * SAMPLES, sizeof(float), err);
    s->crnn = es_alloc((size_t)(n * tp->net.crnn_mels * tp->crnn_frames), sizeof(float), err);
    s->weak = es_alloc((size_t)(n * K), sizeof(float), err);
    s->mask = es_alloc((size_t)(n * K), 1, err);
    if (!s->wave || !s->crnn || !s->weak || !s->mask) return -ES_EIO;
    fill(s->wave, n * SAMPLES, -0.5, 0.5, 3);
    int kind = es_frontend_kind_from_name(es_arch_name(tp->net.transformer.arch));
    ES_TRY(es_frontend_new(&s->mel, es_frontend_params_default((enum es_frontend_kind)kind), err));
    ES_TRY(es_frontend_new(&s->crnn_mel, es_frontend_params_default(ES_FRONTEND_CRNN_MEL), err));
    size_t a = es_frontend_scratch(s->mel), b = es_frontend_scratch(s->crnn_mel);
    s->scratch = es_alloc(1, a > b ? a : b, err);
    return s->scratch ? 0 : -ES_EIO;
}

static int give_leaf(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err) {
    struct source *s = ctx;
    const struct es_trainer_params *tp = s->tp;
    double begin_s = es_now_s();
    (void)step;
    (void)leaf;
    if (s->mel) {
        ES_TRY(es_frontend_run(s->mel, tp->leaf_clips, SAMPLES, s->wave, s->features, s->scratch, err));
        ES_TRY(es_frontend_run(s->crnn_mel, tp->leaf_clips, SAMPLES, s->wave, s->crnn, s->scratch, err));
        memset(s->mask, 1, (size_t)tp->leaf_clips * (size_t)tp->net.n_classes);
    }
    s->frontend_s = es_now_s() - begin_s;
    *out = (struct es_leaf_input){.crnn = s->crnn, .features = s->features};
    out->targets = (struct es_targets){.n = tp->leaf_clips,
                                       .n_classes = tp->net.n_classes,
                                       .n_frames = tp->net.n_frames,
                                       .labels = s->labels,
                                       .weak = s->weak,
                                       .mask = s->mask};
    memcpy(out->targets.first, tp->first, sizeof tp->first);
    return 0;
}

void es_bench_sizes(enum es_phase phase, enum es_arch arch, int batch, int size[ES_N_SETS]) {
    static const int published[][3][ES_N_SETS] = {{{8, 0, 0, 0, 0}, {12, 10, 10, 20, 20}, {7, 5, 5, 9, 9}},
                                                  {{8, 0, 0, 0, 0}, {3, 3, 3, 5, 5}, {3, 2, 2, 3, 3}}};
    for (int s = 0; s < ES_N_SETS; s++) {
        size[s] = published[arch == ES_ARCH_BEATS][phase][s];
        if (batch > 0) size[s] = batch / ES_N_SETS + (s < batch % ES_N_SETS);
        if (batch > 0 && phase == ES_PHASE_PRETRAIN) size[s] = s == 0 ? batch : 0;
    }
}

static void settings(struct es_trainer_params *tp, const struct es_bench_step_params *p, int leaves) {
    *tp = (struct es_trainer_params){.phase = p->phase,
                                     .schedule = ES_SCHEDULE_CONSTANT,
                                     .ema_decay = 0.999,
                                     .bn_momentum = 0.99,
                                     .leaves = leaves,
                                     .frozen_block = 4,
                                     .crnn_frames = 626,
                                     .seed = 1};
    es_net_config_published(&tp->net, p->arch);
    tp->feature_frames = tp->net.transformer.n_mel_frames;
    tp->net.pretrain = p->phase == ES_PHASE_PRETRAIN;
    if (p->depth > 0) tp->net.transformer.depth = p->depth;
    tp->objective = (struct es_objective_params){.stage = p->phase == ES_PHASE_STAGE1 ? 1 : 2,
                                                 .lambda = {12, 3, 0.25, 1, 60, 0},
                                                 .ssl_warmup_steps = 1,
                                                 .ssl_scale_max = 1,
                                                 .ssl_type = ES_MEASURE_MSE,
                                                 .loss_scale = 1,
                                                 .leaves = leaves};
    tp->optim = (struct es_optim_params){.decoupled = true,
                                         .beta1 = 0.9,
                                         .beta2 = 0.999,
                                         .eps = 1e-8,
                                         .weight_decay = 1e-3,
                                         .n_groups = 2 + tp->net.transformer.depth + 2};
    for (int i = 0; i < tp->optim.n_groups; i++) tp->optim.lr[i] = 1e-5;
    int size[ES_N_SETS];
    es_bench_sizes(p->phase, p->arch, p->batch, size);
    for (int s = 0; s < ES_N_SETS; s++) tp->first[s + 1] = tp->first[s] + size[s];
    tp->leaf_clips = tp->first[ES_N_SETS];
}

/* From stores: the trainer's parameters follow data and configuration; reading starts when the trainer is there. */
static int open_stores_all(struct source *s, const struct es_comm *c, const struct es_config *cfg, int leaves,
                           struct es_trainer_params *tp, struct es_err *err) {
    struct es_plan_params pp;
    ES_TRY(train_open_dataset_all(&s->data, c, cfg, true, true, err));
    train_plan_params(&pp, cfg, es_dataset_counts(s->data));
    pp.leaves = leaves;
    ES_TRY(es_err_agree_all(c, es_plan_new(&s->plan, &pp, err), err));
    train_trainer_params(tp, cfg, s->plan, es_dataset_classes(s->data));
    tp->leaves = tp->objective.leaves = leaves;
    return es_err_agree_all(c, train_input_shapes(tp, err), err);
}

static int start_reading_all(struct source *s, const struct es_comm *c, const struct es_config *cfg,
                             const struct es_trainer_params *tp, struct es_trainer *t, int steps,
                             struct es_err *err) {
    s->tp = tp;
    ES_TRY(es_err_agree_all(c, train_input_new(&s->input, tp, cfg, err), err));
    return es_err_agree_all(c, train_input_start(&s->input, s->data, s->plan, t, 0, steps, err), err);
}

/* The network in full width and depth, and one short clip. */
struct short_clip {
    struct es_net_config c;
    struct es_params *p;
    struct es_net *net;
    float *x, *y; /* features, labels */
};

static int short_clip_new(struct short_clip *s, const struct es_trainer_params *tp, struct es_err *err) {
    s->c = tp->net;
    s->c.pretrain = true;
    s->c.pretrain_seq = ES_SEQ_NONE;
    s->c.pretrain_frames = es_net_tokens(&s->c, SHORT_FRAMES);
    ES_TRY(es_params_new(&s->p, err));
    ES_TRY(es_net_new(&s->net, &s->c, s->p, err));
    es_net_freeze(s->net, s->p, false);
    ES_TRY(es_params_layout(s->p, err));
    es_params_init(s->p, 1);
    int64_t n_x = (int64_t)s->c.transformer.n_mels * SHORT_FRAMES,
            n_y = (int64_t)s->c.pretrain_frames * s->c.pretrain_classes;
    s->x = es_alloc((size_t)n_x, sizeof(float), err);
    s->y = es_alloc((size_t)n_y, sizeof(float), err);
    if (!s->x || !s->y) return -ES_EIO;
    fill(s->x, n_x, -1, 1, 4);
    fill(s->y, n_y, 0, 1, 5);
    return 0;
}

static void short_clip_free(struct short_clip *s) {
    es_free(&s->y);
    es_free(&s->x);
    es_net_free(&s->net);
    es_params_free(&s->p);
}

/* bytes: of leaf arena, scratch and pool; 0: a dry run, which fills them in. */
static int gradients(const struct short_clip *s, struct es_bf16 *bf16, size_t bytes[3], float *grads,
                     struct es_err *err) {
    struct es_arena *leaf = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *t = NULL;
    int rc = 0;
    ES_GO(es_arena_new(&leaf, "leaf", bytes[0], err));
    ES_GO(es_arena_new(&scratch, "scratch", bytes[1], err));
    ES_GO(es_pool_new(&pool, "pool", bytes[2], err));
    struct es_tape_params q = {s->p, leaf, scratch, pool, true, true, 1, ES_RNG_STUDENT_DROPOUT, bf16};
    ES_GO(es_tape_new(&t, &q, err));
    es_tape_reset(t, 0, 0);
    struct es_tensor *in = es_tape_input(
        t, "features", 4, (int64_t[]){1, 1, s->c.transformer.n_mels, SHORT_FRAMES}, s->x, false);
    struct es_tensor *out = es_net_pretrain(s->net, t, in);
    struct es_loss_rows rows = {0, 1, 1.0, (double)out->n, NULL};
    es_tape_add_loss(t, es_op_bce_logits(t, out, s->y, &rows));
    es_tape_backward(t, grads, NULL);
    bytes[0] = es_arena_peak(leaf) + 64;
    bytes[1] = es_arena_peak(scratch) + 64;
    bytes[2] = es_pool_peak(pool) + 64;
done:
    es_tape_free(&t);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&leaf);
    return rc;
}

/* Largest error of a gradient over the largest gradient of its tensor. */
static double largest_error(struct es_params *p, const float *grads, const float *reference) {
    double largest = 0, worst = 0;
    for (int64_t k = 0; k < es_params_n_trainable(p); k++)
        if (fabs((double)reference[k]) > largest) largest = fabs((double)reference[k]);
    for (int i = 0; i < es_params_count(p); i++) {
        const struct es_param *e = es_params_at(p, i);
        double max = 0, d = 0;
        for (int64_t k = 0; e->trainable && k < e->n; k++) {
            double a = (double)grads[e->offset + k], b = (double)reference[e->offset + k];
            if (fabs(b) > max) max = fabs(b);
            if (fabs(a - b) > d) d = fabs(a - b);
        }
        /* zero in exact arithmetic (biases of keys): rounding noise, measured by the largest of all */
        if (max < 1e-5 * largest) max = largest;
        if (max > 0 && d / max > worst) worst = d / max;
    }
    return worst;
}

/* Gradients with fast and with reference kernels. */
static int verify(const struct es_trainer_params *tp, double *worst, struct es_err *err) {
    struct short_clip s = {0};
    struct es_bf16 *bf16 = NULL;
    float *grads[2] = {NULL, NULL};
    const enum es_kernel_mode mode[2] = {es_kernel_mode(), ES_KERNELS_REF};
    int rc = 0;
    ES_GO(short_clip_new(&s, tp, err));
    if (tp->bf16 != ES_BF16_NONE) {
        ES_GO(es_bf16_new(&bf16, tp->bf16, err));
        ES_GO(es_params_packed_new(s.p, bf16, err));
    }
    for (int i = 0; i < 2 && rc == 0; i++) {
        size_t bytes[3] = {0, 0, 0};
        grads[i] = es_alloc((size_t)es_params_n_trainable(s.p), sizeof(float), err);
        if (!grads[i]) ES_GO(-ES_EIO);
        es_kernel_set_mode(mode[i]);
        for (int dry = 1; dry >= 0 && rc == 0; dry--)
            rc = gradients(&s, i == 0 ? bf16 : NULL, bytes, grads[i], err);
        es_kernel_set_mode(mode[0]);
    }
    if (rc == 0) *worst = largest_error(s.p, grads[0], grads[1]);
done:
    es_free(&grads[1]);
    es_free(&grads[0]);
    short_clip_free(&s);
    es_bf16_free(&bf16);
    return rc;
}

static double peak_gflops(const struct es_bench_step_params *p, int threads) {
    return p->bf16 ? es_k_peak_bf16_gflops(threads, 0.3) : es_k_peak_gflops(threads, 0.3);
}

enum { WALL = ES_N_TIMES, FRONTEND, WAIT, EXPOSED, N_ROWS }; /* behind the phases of a step */

/* One warm-up, then p->steps steps; took [N_ROWS, steps] seconds of each. */
static int run_steps_all(const struct es_comm *c, const struct es_bench_step_params *p, struct es_trainer *t,
                         struct source *source, int leaves, struct bench_ops *ops, double *took,
                         struct es_err *err) {
    struct es_step_report report;
    for (int s = -1; s < p->steps; s++) {
        double one[N_ROWS];
        es_comm_barrier_all(c);
        if (ops) bench_ops_step(ops, s);
        double begin_s = es_now_s();
        ES_TRY(es_trainer_step_all(t, s + 1, leaves, p->config ? train_input_leaf : give_leaf,
                                   p->config ? (void *)&source->input : source, false, &report, err));
        es_comm_barrier_all(c);
        if (s < 0) continue;
        one[WALL] = es_now_s() - begin_s;
        one[FRONTEND] = p->config ? source->input.frontend_s : source->frontend_s;
        one[WAIT] = source->input.wait_s;
        one[EXPOSED] = es_comm_slowest_s_all(c, es_trainer_exposed_s(t));
        memcpy(one, report.time_mean, sizeof report.time_mean);
        for (int k = 0; k < N_ROWS; k++) took[k * p->steps + s] = one[k];
        es_log(ES_LOG_INFO, "step %d/%d seconds=%.3f", s + 1, p->steps, one[WALL]);
    }
    return 0;
}

int es_bench_step_all(const struct es_comm *c, const struct es_bench_step_params *p,
                      struct es_bench_step *out, struct es_err *err) {
    struct es_trainer_params tp;
    struct es_trainer *t = NULL;
    struct source source = {0};
    struct bench_ops *ops = NULL;
    double *took = NULL, median[N_ROWS];
    int rc = 0;
    const int leaves = p->leaves > 0 ? p->leaves : es_comm_size(c);
    settings(&tp, p, leaves);
    if (p->config) ES_GO(open_stores_all(&source, c, p->config, leaves, &tp, err));
    tp.bf16 = p->bf16 ? es_bf16_kind() : ES_BF16_NONE;
    if (es_comm_max_all(c, tp.bf16 == ES_BF16_NONE)) tp.bf16 = ES_BF16_NONE; /* a rank cannot */
    if (p->bf16 && tp.bf16 == ES_BF16_NONE) train_tell_no_bf16("--precision");
    *out = (struct es_bench_step){.ranks = es_comm_size(c),
                                  .leaves = leaves,
                                  .bf16 = tp.bf16,
                                  .threads = es_kernel_threads(),
                                  .batch = tp.leaf_clips,
                                  .input_exposed_s = (double)NAN,
                                  .verified = (double)NAN};
    ES_GO(es_trainer_new_all(&t, c, &tp, err));
    es_trainer_report(t);
    out->trainable = es_params_n_trainable(es_trainer_student(t));
    out->values = es_params_n_values(es_trainer_student(t));
    if (p->config) ES_GO(start_reading_all(&source, c, p->config, &tp, t, p->steps + 1, err));
    rc = p->config ? 0 : source_new(&source, &tp, err);
    took = rc == 0 ? es_alloc((size_t)(N_ROWS * p->steps), sizeof *took, err) : NULL;
    if (rc == 0 && !took) rc = -ES_EIO;
    if (rc == 0 && p->ops) rc = bench_ops_new(&ops, t, p->steps, err);
    ES_GO(es_err_agree_all(c, rc, err));
    double peak = peak_gflops(p, out->threads);
    ES_GO(run_steps_all(c, p, t, &source, tp.leaves, ops, took, err));
    es_trainer_settle_all(t);
    double peak_after = peak_gflops(p, out->threads);
    for (int k = 0; k < N_ROWS; k++) median[k] = es_median(took + k * p->steps, p->steps);
    memcpy(out->time, median, sizeof out->time);
    out->peak_gflops_per_s = (peak > peak_after ? peak : peak_after) * out->ranks;
    out->exposed_s = median[EXPOSED];
    out->sent_bytes = es_comm_max_all(c, es_trainer_sent_bytes(t));
    es_comm_bcast_all(c, &median[WALL], sizeof median[WALL], 0);
    es_comm_bcast_all(c, &out->peak_gflops_per_s, sizeof out->peak_gflops_per_s, 0);
    out->step_s = median[WALL];
    out->clips_per_s = (double)tp.leaf_clips * tp.leaves / out->step_s;
    out->gemm_gflops_per_s = es_trainer_leaf_flops(&tp, &(double){0}) * tp.leaves / out->step_s * 1e-9;
    out->mfu = out->gemm_gflops_per_s / out->peak_gflops_per_s;
    out->frontend_s = median[FRONTEND];
    if (p->config) out->input_exposed_s = median[WAIT];
    out->peak_rss_bytes = es_comm_max_all(c, es_mem_peak_rss());
    if (ops) {
        out->n_ops = bench_ops_rows(ops, &tp, out, p->ops);
        ES_GO(es_err_agree_all(c, bench_bandwidth(&out->bandwidth, 0.3, err), err));
    }
    if (p->verify) ES_GO(es_err_agree_all(c, verify(&tp, &out->verified, err), err));
done:
    bench_ops_free(&ops);
    es_free(&took);
    source_free(&source);
    es_trainer_free_all(&t);
    return rc;
}
