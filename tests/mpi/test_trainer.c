/* RANKS 1 2 4 8
 * TIMEOUT 240
 * A training step is the same on any number of ranks. The ranks of this job split into groups of 1, 2, 4 and (bf16 alone) 8;
 * every group trains the same tiny models (pre-training, stage 1, stage 2 with dropout and interpolation
 * consistency) and all groups must end with the same bits: student, teacher, moments, every leaf's losses.
 * ES_TEST_SEED changes the data. */
#include "earshot/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/mem.h"

#define B 8
#define K 27
#define FRAMES 8
#define MELS 16
#define CRNN_FRAMES 32 /* 8 label frames: pooled by 2 twice */
#define FEATURE_FRAMES 33
#define N_STEPS 4
#define MAX_LEAVES 8

static const int first[ES_N_SETS + 1] = {0, 2, 3, 4, 6, 8};

/* ---- leaves: random data that depends on (seed, step, leaf) alone */

struct source {
    struct es_trainer *trainer;
    uint64_t seed;
    bool pretrain, pseudo;
    int n_active, rank, size, leaves;
    int asked;                  /* leaves of this step so far */
    int64_t bad_step, nan_step; /* -1: never */
    int bad_leaf;               /* the leaf of that step which fails, or holds a NaN */
    float crnn[B * MELS * CRNN_FRAMES], features[B * MELS * FEATURE_FRAMES];
    float labels[B * K * FRAMES], weak[B * K], pseudo_label[B * K * FRAMES];
    uint8_t mask[B * K];
    struct es_mix_call mix[3];
    struct es_plan *plan; /* of the augmentations; NULL: none */
    struct es_leaf_plan leaf_plan;
};

static void draw_mix(struct es_rng *r, struct es_mix_call *m, int begin, int end) {
    int64_t perm[B];
    m->first = begin;
    m->n = end - begin;
    es_rng_permutation(r, m->n, perm);
    for (int i = 0; i < m->n; i++) {
        m->perm[i] = (int)perm[i];
        m->c[i] = (float)es_rng_range(r, 0.5, 1.0);
    }
}

/* Leaves of the tree: stage 1 may have more ranks than leaves. */
static int tree(int leaves, int size) {
    return leaves > size ? leaves : size;
}

static int give(void *ctx, int64_t step, int leaf, struct es_leaf_input *out, struct es_err *err) {
    struct source *s = ctx;
    struct es_rng r = es_rng_make(s->seed, ES_RNG_BENCH, (uint32_t)step, (uint32_t)leaf, 0);
    /* only its owner asks for a leaf, in the order that a loader was promised */
    ES_ASSERT(es_reducer_rank_of_leaf(tree(s->leaves, s->size), s->size, leaf) == s->rank);
    ES_ASSERT(es_trainer_my_leaf(s->trainer, s->n_active, s->asked++) == leaf);
    if (step == s->bad_step && leaf == s->bad_leaf)
        return es_err_set(err, ES_EDATA, "leaf %d cannot be read", leaf);
    for (int i = 0; i < B * MELS * CRNN_FRAMES; i++) s->crnn[i] = (float)es_rng_range(&r, 0, 3);
    for (int i = 0; i < B * MELS * FEATURE_FRAMES; i++) s->features[i] = (float)es_rng_range(&r, -1, 1);
    for (int i = 0; i < B * K * FRAMES; i++) {
        s->labels[i] = es_rng_uniform(&r) < 0.2;
        s->pseudo_label[i] = (float)es_rng_uniform(&r);
    }
    for (int i = 0; i < B * K; i++) {
        s->weak[i] = es_rng_uniform(&r) < 0.2;
        s->mask[i] = es_rng_uniform(&r) < 0.7;
    }
    bool mixup = leaf % 2 == 1;
    draw_mix(&r, &s->mix[0], first[ES_SET_W], first[ES_SET_U]);
    draw_mix(&r, &s->mix[1], first[ES_SET_M], first[ES_SET_W]);
    draw_mix(&r, &s->mix[2], first[ES_SET_U], B);
    if (s->pretrain) draw_mix(&r, &s->mix[0], 0, B);
    if (step == s->nan_step && leaf == s->bad_leaf) s->features[77] = (float)NAN;
    *out = (struct es_leaf_input){.crnn = s->pretrain ? NULL : s->crnn, .features = s->features};
    out->targets = (struct es_targets){.n = B,
                                       .n_classes = K,
                                       .n_frames = FRAMES,
                                       .labels = s->labels,
                                       .weak = s->weak,
                                       .mask = s->mask,
                                       .pseudo = s->pseudo ? s->pseudo_label : NULL,
                                       .mixup = mixup,
                                       .n_mix = mixup ? s->pretrain ? 1 : 3 : 0,
                                       .mix = s->mix};
    memcpy(out->targets.first, first, sizeof first);
    if (s->plan) {
        es_plan_leaf(s->plan, step, leaf, &s->leaf_plan);
        out->augment = &s->leaf_plan.augment;
    }
    return 0;
}

/* Draws of all augmentations of mels, often. */
static void open_plan(struct source *s, const struct es_trainer_params *tp) {
    bool pretrain = tp->phase == ES_PHASE_PRETRAIN;
    struct es_plan_params pp = {.seed = s->seed, .n_sets = pretrain ? 1 : ES_N_SETS, .leaves = tp->leaves};
    for (int i = 0; i < pp.n_sets; i++) {
        pp.size[i] = pretrain ? B : first[i + 1] - first[i];
        pp.n_clips[i] = pp.size[i] * tp->leaves * N_STEPS;
    }
    pp.augment = (struct es_augment_params){.shift = true,
                                            .mask = true,
                                            .mask_set = {pretrain, true, true},
                                            .mask_min = 0.1,
                                            .mask_max = 0.6,
                                            .style_p = 0.7,
                                            .style_alpha = 0.3,
                                            .style_joint = true,
                                            .warp_p = tp->phase == ES_PHASE_STAGE1 ? 0 : 0.7,
                                            .warp_min = 0.6,
                                            .filter_p = 0.7,
                                            .filter_db = 6,
                                            .bands_min = 3,
                                            .bands_max = 5,
                                            .band_width = 2,
                                            .teacher_filter = tp->phase == ES_PHASE_STAGE1,
                                            .feature_filter = tp->phase != ES_PHASE_STAGE1,
                                            .label_frames = FRAMES,
                                            .crnn_mels = pretrain ? 0 : MELS,
                                            .feature_mels = MELS};
    ES_ASSERT(es_plan_new(&s->plan, &pp, NULL) == 0);
}

/* ---- the model */

static struct es_trainer_params settings(enum es_arch arch, enum es_phase phase, int leaves, bool ict,
                                         double dropout) {
    static const double weight[6] = {1.2, 0.8, 0.5, 0.7, 2.0, 0.6};
    bool pretrain = phase == ES_PHASE_PRETRAIN;
    struct es_trainer_params tp = {.phase = phase,
                                   .pretrain_lambda = 0.4,
                                   .schedule = ES_SCHEDULE_COSINE,
                                   .warmup_steps = 1,
                                   .total_steps = 10,
                                   .ema_decay = 0.9,
                                   .bn_momentum = 0.99,
                                   .clip_norm = pretrain ? 0.5 : 0,
                                   .leaves = leaves,
                                   .leaf_clips = B,
                                   .crnn_frames = CRNN_FRAMES,
                                   .feature_frames = FEATURE_FRAMES,
                                   .frozen_block = 3,
                                   .pseudo = true,
                                   .shift_range = 0.2,
                                   .seed = 11};
    es_net_config_published(&tp.net, arch);
    struct es_transformer_config *tc = &tp.net.transformer;
    tc->dim = 24;
    tc->depth = 2;
    tc->heads = 3;
    tc->mlp = 48;
    tc->n_mels = MELS;
    tc->n_mel_frames = 40;
    tc->beats = (struct es_beats_config){.patch_embed = 10,
                                         .conv_taps = 6,
                                         .conv_groups = 3,
                                         .buckets = 8,
                                         .max_distance = 5,
                                         .dropout_input = dropout,
                                         .dropout = dropout,
                                         .attention_dropout = dropout,
                                         .activation_dropout = dropout,
                                         .layerdrop = 2 * dropout,
                                         .grad_decay = 0.7};
    tp.net.pretrain = pretrain;
    tp.net.pretrain_seq = ES_SEQ_GRU;
    tp.net.pretrain_rnn_cells = 8;
    tp.net.pretrain_frames = tp.net.n_frames = FRAMES;
    tp.net.pretrain_classes = K;
    tp.net.n_cnn = 2;
    for (int i = 0; i < 2; i++) {
        tp.net.filters[i] = 4 + 2 * i;
        tp.net.pool_time[i] = 2;
        tp.net.pool_freq[i] = 4;
    }
    tp.net.crnn_mels = MELS;
    tp.net.rnn_cells = 8;
    tp.net.wrapper_frames = 7;
    tp.net.audioset_classes = 9;
    tp.net.dropout = dropout;
    memcpy(tp.first, first, sizeof first);
    tp.objective = (struct es_objective_params){.stage = phase == ES_PHASE_STAGE1 ? 1 : 2,
                                                .ssl_warmup_steps = 2,
                                                .ssl_scale_max = 1,
                                                .ssl_type = ES_MEASURE_MSE,
                                                .ict = ict,
                                                .loss_scale = 1,
                                                .leaves = leaves};
    memcpy(tp.objective.lambda, weight, sizeof weight);
    tp.optim = (struct es_optim_params){.decoupled = phase != ES_PHASE_PRETRAIN,
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .weight_decay = 1e-2,
                                        .n_groups = phase == ES_PHASE_STAGE1 ? 1 : 6};
    for (int i = 0; i < tp.optim.n_groups; i++) tp.optim.lr[i] = 3e-3 / (1 + i);
    return tp;
}

/* ---- what a run leaves behind */

struct result {
    uint64_t student, teacher, moments, leaves;
    double loss[N_STEPS];
    int64_t bucket; /* elements of a bucket */
};

/* Digest of Adam's moments of all ranks, each at its place in the gradient vector. */
static uint64_t moments_digest(const struct es_comm *c, struct es_trainer *t) {
    int64_t n = es_params_n_trainable(es_trainer_student(t)), size = es_comm_size(c), mine = 0;
    float *own = es_alloc((size_t)(2 * n), sizeof *own, NULL),
          *all = es_alloc((size_t)(2 * n * size), sizeof *all, NULL);
    uint8_t *owned = es_alloc((size_t)n, 1, NULL), *owners = es_alloc((size_t)(n * size), 1, NULL);
    ES_ASSERT(own && all && owned && owners);
    for (int i = 0; i < es_reducer_n_segments(es_trainer_reducer(t)); i++) {
        struct es_segment s = es_reducer_segment(es_trainer_reducer(t), i);
        memcpy(own + s.offset, es_optim_m(es_trainer_optim(t), i), (size_t)s.n * sizeof *own);
        memcpy(own + n + s.offset, es_optim_v(es_trainer_optim(t), i), (size_t)s.n * sizeof *own);
        memset(owned + s.offset, 1, (size_t)s.n);
        mine += s.n;
    }
    ES_ASSERT(mine == es_optim_elements(es_trainer_optim(t)));
    es_comm_allgather_all(c, own, (size_t)(2 * n) * sizeof *own, all);
    es_comm_allgather_all(c, owned, (size_t)n, owners);
    for (int64_t i = 0; i < n; i++) {
        int64_t owner = -1;
        for (int64_t r = 0; r < size; r++) {
            if (!owners[r * n + i]) continue;
            ES_ASSERT(owner < 0); /* one rank holds an element's moments */
            owner = r;
        }
        ES_ASSERT(owner >= 0);
        own[i] = all[2 * n * owner + i];
        own[n + i] = all[2 * n * owner + n + i];
    }
    uint64_t digest = es_hash_bytes(own, (size_t)(2 * n) * sizeof *own);
    es_free(&owners);
    es_free(&owned);
    es_free(&all);
    es_free(&own);
    return digest;
}

/* Moments for 1/P of the parameters: of every whole bucket exactly its P-th part. bucket: known from P = 1. */
static void check_share(const struct es_comm *c, struct es_trainer *t, int64_t bucket) {
    struct es_reducer *r = es_trainer_reducer(t);
    int64_t n = es_params_n_trainable(es_trainer_student(t)), P = es_comm_size(c);
    int n_segments = es_reducer_n_segments(r);
    ES_ASSERT(n_segments == (n + bucket - 1) / bucket && bucket % P == 0);
    for (int i = 0; i < n_segments; i++) {
        int64_t held = es_reducer_segment(r, i).n;
        ES_ASSERT(i + 1 < n_segments ? held == bucket / P : held <= bucket / P);
    }
    int64_t most = es_comm_max_all(c, es_optim_elements(es_trainer_optim(t)));
    ES_ASSERT(most <= n_segments * bucket / P && most >= (n + P - 1) / P);
    ES_ASSERT(es_comm_sum_all(c, es_optim_elements(es_trainer_optim(t))) == n);
}

static int leaves_of(int leaves, int n_active, int rank, int size) {
    int n = 0;
    for (int j = 0; j < n_active; j++) n += es_reducer_rank_of_leaf(tree(leaves, size), size, j) == rank;
    return n;
}

static void same_losses(const struct es_comm *c, const struct es_step_report *rep, struct es_hash *h) {
    uint64_t before = es_hash_value(h);
    for (int j = 0; j < rep->n_active; j++)
        es_hash_update(h, rep->leaf + (int64_t)j * rep->leaf_stride,
                       (size_t)rep->leaf_stride * sizeof(double));
    es_hash_update(h, rep->mean, sizeof rep->mean);
    es_hash_update(h, &rep->gradient_norm, sizeof rep->gradient_norm);
    ES_ASSERT(es_hash_value(h) != before);
    es_comm_assert_same_all(c, es_hash_value(h));
}

/* N_STEPS steps on the ranks of c; the second and the last are short. */
static void train(const struct es_comm *c, const struct es_trainer_params *tp, struct source *s,
                  int64_t bucket, struct result *out) {
    static const int share[N_STEPS] = {100, 30, 100, 60}; /* per cent of the leaves that are there */
    struct es_trainer *t = NULL;
    struct es_err err = {0};
    struct es_hash *h = NULL;
    int64_t live = es_mem_live_blocks(), allocations = 0, done = 0;
    ES_ASSERT(es_trainer_new_all(&t, c, tp, &err) == 0 && es_hash_new(&h, &err) == 0);
    memset(out, 0, sizeof *out);
    s->trainer = t;
    s->rank = es_comm_rank(c);
    s->size = es_comm_size(c);
    s->leaves = tp->leaves;
    s->pretrain = tp->phase == ES_PHASE_PRETRAIN;
    s->pseudo = tp->pseudo;
    struct es_segment whole = es_reducer_segment(es_trainer_reducer(t), 0);
    int64_t n = es_params_n_trainable(es_trainer_student(t));
    out->bucket = bucket                                             ? bucket
                  : es_reducer_n_segments(es_trainer_reducer(t)) > 1 ? whole.n
                                                                     : (n + 1023) / 1024 * 1024;
    check_share(c, t, out->bucket);
    uint64_t start = es_params_digest(es_trainer_student(t)), now = start, before = 0;
    bool settled = true;
    for (int step = 0; step < N_STEPS; step++) {
        struct es_step_report rep;
        s->n_active = (tp->leaves * share[step] + 99) / 100;
        s->asked = 0;
        ES_ASSERT(es_trainer_step_all(t, step, s->n_active, give, s, true, &rep, &err) == 0);
        if (step == 0) allocations = es_mem_allocations();
        ES_ASSERT(es_mem_allocations() == allocations); /* none after the first step */
        int mine = leaves_of(tp->leaves, s->n_active, s->rank, s->size);
        done += s->n_active;
        ES_ASSERT(s->asked == mine && es_trainer_my_leaf(t, s->n_active, mine) == -1);
        ES_ASSERT(es_comm_sum_all(c, es_trainer_leaves_done(t)) == done);
        ES_ASSERT(rep.n_active == s->n_active && isfinite(rep.mean[ES_TERM_TOTAL]) && rep.gradient_norm > 0);
        ES_ASSERT(step < 2 || rep.digest != before); /* step 0 has rate 0: weights stay, statistics move */
        ES_ASSERT(!settled || rep.digest == now);    /* as the step found them */
        before = rep.digest;
        settled = step % 2 == 0;
        if (settled) { /* else the parameters travel through the next step */
            es_trainer_settle_all(t);
            now = es_params_digest(es_trainer_student(t));
        }
        out->loss[step] = rep.mean[ES_TERM_TOTAL];
        same_losses(c, &rep, h);
    }
    out->leaves = es_hash_value(h);
    es_trainer_settle_all(t);
    out->student = es_params_digest(es_trainer_student(t));
    out->teacher = es_trainer_teacher(t) ? es_params_digest(es_trainer_teacher(t)) : 0;
    ES_ASSERT(out->student != start && out->student != out->teacher);
    out->moments = moments_digest(c, t);
    es_hash_free(&h);
    es_trainer_free_all(&t);
    ES_ASSERT(es_mem_live_blocks() == live);
}

static bool same(const struct result *a, const struct result *b) {
    return a->student == b->student && a->teacher == b->teacher && a->moments == b->moments &&
           a->leaves == b->leaves && memcmp(a->loss, b->loss, sizeof a->loss) == 0;
}

static void show(const char *name, int ranks, const struct result *r) {
    printf("%-22s %d ranks: student %016llx teacher %016llx moments %016llx leaves %016llx loss %.9g\n", name,
           ranks, (unsigned long long)r->student, (unsigned long long)r->teacher,
           (unsigned long long)r->moments, (unsigned long long)r->leaves, r->loss[N_STEPS - 1]);
}

/* In groups of 1, 2, .. ranks, all side by side; every group must find what a rank alone finds. */
static void invariant(const struct es_comm *world, const char *name, const struct es_trainer_params *tp,
                      struct source *s, struct result *out) {
    struct result now, zero = {0};
    int64_t bucket = 0;
    bool stage1 = tp->phase == ES_PHASE_STAGE1;
    for (int size = 1; size <= es_comm_size(world) && (size <= tp->leaves || stage1); size *= 2) {
        struct es_comm *group = NULL;
        struct es_err err = {0};
        ES_ASSERT(es_comm_split_all(&group, world, es_comm_rank(world) / size, &err) == 0);
        ES_ASSERT(es_comm_size(group) == size);
        train(group, tp, s, bucket, &now);
        bucket = now.bucket;
        es_comm_free_all(&group);
        if (es_comm_rank(world) == 0) show(name, size, &now);
        if (size == 1) *out = now;
        ES_ASSERT(same(&now, out) && !same(&now, &zero));
        es_comm_assert_same_all(world, now.student ^ now.leaves);
    }
}

/* ---- errors: one rank's is everybody's, and a dropped step leaves no trace */

/* The step runs and changes nothing. */
static int step_without_trace(struct es_trainer *t, struct source *s, int step, struct es_step_report *rep,
                              struct es_err *err) {
    es_trainer_settle_all(t);
    uint64_t student = es_params_digest(es_trainer_student(t));
    uint64_t teacher = es_trainer_teacher(t) ? es_params_digest(es_trainer_teacher(t)) : 0;
    s->asked = 0;
    int rc = es_trainer_step_all(t, step, s->n_active, give, s, true, rep, err);
    ES_ASSERT(es_params_digest(es_trainer_student(t)) == student);
    ES_ASSERT(!es_trainer_teacher(t) || es_params_digest(es_trainer_teacher(t)) == teacher);
    return rc;
}

static void step_fails(struct es_trainer *t, struct source *s, int step, const char *text,
                       const struct es_comm *c) {
    struct es_step_report rep;
    struct es_err err = {0};
    int rc = step_without_trace(t, s, step, &rep, &err);
    if (rc != -ES_EDATA || !strstr(err.msg, text)) printf("rank %d: rc %d \"%s\"\n", s->rank, rc, err.msg);
    ES_ASSERT(rc == -ES_EDATA && err.code == ES_EDATA && strstr(err.msg, text));
    es_comm_assert_same_all(c, es_hash_bytes(err.msg, strlen(err.msg)));
}

/* A loss that is not finite, of this leaf, or (-1) a gradient: the caller decides. */
static void step_is_bad(struct es_trainer *t, struct source *s, int step, int leaf) {
    struct es_step_report rep;
    struct es_err err = {0};
    ES_ASSERT(step_without_trace(t, s, step, &rep, &err) == 0);
    ES_ASSERT(rep.bad && rep.bad_leaf == leaf &&
              !isfinite(leaf < 0 ? rep.gradient_norm : rep.mean[ES_TERM_TOTAL]));
}

static void failures(const struct es_comm *c, const struct es_trainer_params *tp, struct source *s,
                     const struct result *good) {
    struct es_trainer *t = NULL;
    struct es_err err = {0};
    char text[64];
    ES_ASSERT(es_trainer_new_all(&t, c, tp, &err) == 0);
    s->trainer = t;
    s->rank = es_comm_rank(c);
    s->size = es_comm_size(c);
    s->leaves = s->n_active = tp->leaves;
    s->pretrain = tp->phase == ES_PHASE_PRETRAIN;
    s->pseudo = tp->pseudo;
    struct es_step_report rep;
    s->asked = 0;
    ES_ASSERT(es_trainer_step_all(t, 0, s->n_active, give, s, true, &rep, &err) == 0 &&
              rep.mean[ES_TERM_TOTAL] == good->loss[0]);
    s->n_active = (tp->leaves * 30 + 99) / 100;
    for (s->bad_leaf = 0; s->bad_leaf < s->n_active;
         s->bad_leaf++) { /* any rank, its first leaf or its last */
        s->bad_step = 1;
        snprintf(text, sizeof text, "leaf %d cannot be read", s->bad_leaf);
        step_fails(t, s, 1, text, c);
        s->bad_step = -1;
        s->nan_step = 1;
        step_is_bad(t, s, 1, s->bad_leaf);
        s->nan_step = -1;
    }
    es_fault_init("nan:3@rank0",
                  s->rank); /* rank 0 owns leaf 0; its gradient goes wrong behind a good loss */
    step_is_bad(t, s, 1, -1);
    es_fault_init(NULL, s->rank);
    s->asked = 0; /* the same step again, without the fault: as if nothing had happened */
    ES_ASSERT(es_trainer_step_all(t, 1, s->n_active, give, s, true, &rep, &err) == 0);
    ES_ASSERT(rep.mean[ES_TERM_TOTAL] == good->loss[1]);
    s->n_active = tp->leaves;
    s->asked = 0;
    ES_ASSERT(es_trainer_step_all(t, 2, s->n_active, give, s, true, &rep, &err) == 0);
    ES_ASSERT(rep.mean[ES_TERM_TOTAL] == good->loss[2]);
    es_trainer_free_all(&t);
}

/* More ranks than leaves (but in stage 1), or a number of ranks that is no power of two: 64 on all ranks, and the numbers that
 * would do. */
static void refused(const struct es_comm *world, struct es_trainer_params tp) {
    struct es_trainer *t = NULL;
    struct es_err err = {0};
    int64_t live = es_mem_live_blocks();
    if (es_comm_size(world) < 2) return;
    tp.leaves = tp.objective.leaves = es_comm_size(world) / 2;
    if (tp.phase != ES_PHASE_STAGE1) {
        int rc = es_trainer_new_all(&t, world, &tp, &err);
        ES_ASSERT(rc == -ES_EUSAGE && !t && es_mem_live_blocks() == live);
        es_comm_assert_same_all(world, es_hash_bytes(err.msg, strlen(err.msg)));
    }
    if (es_comm_size(world) != 4) return;
    struct es_comm *three = NULL;
    ES_ASSERT(es_comm_split_all(&three, world, es_comm_rank(world) == 3, &err) == 0);
    for (int leaves = 1; leaves <= 8; leaves *= 8) { /* a rank alone always will do */
        tp.leaves = tp.objective.leaves = leaves;
        int rc = es_trainer_new_all(&t, three, &tp, &err);
        ES_ASSERT(rc == (es_comm_rank(world) == 3 ? 0 : -ES_EUSAGE));
        es_trainer_free_all(&t);
    }
    es_comm_free_all(&three);
}

/* Pre-training with every head: as many ranks as you like, the same bits; clip outputs without a loss stay. */
static void all_heads(const struct es_comm *world, struct source *s) {
    static const struct {
        const char *name;
        enum es_head head;
        enum es_seq_model seq;
        bool wrapper;
        double weak;
        enum es_arch arch;
    } cases[] = {{"linear", ES_HEAD_LINEAR, ES_SEQ_NONE, false, 0, ES_ARCH_ATST},
                 {"linear, clips", ES_HEAD_LINEAR, ES_SEQ_NONE, false, 0.5, ES_ARCH_ATST},
                 {"lstm", ES_HEAD_LINEAR, ES_SEQ_LSTM, false, 0, ES_ARCH_ATST},
                 {"attention", ES_HEAD_ATTENTION, ES_SEQ_NONE, false, 0.5, ES_ARCH_ATST},
                 {"attention, rnn", ES_HEAD_ATTENTION, ES_SEQ_GRU, false, 0.5, ES_ARCH_ATST},
                 {"attention, frames only", ES_HEAD_ATTENTION, ES_SEQ_LSTM, false, 0, ES_ARCH_ATST},
                 {"audioset", ES_HEAD_AUDIOSET, ES_SEQ_NONE, false, 0.5, ES_ARCH_ATST},
                 {"task4rnn", ES_HEAD_TASK4RNN, ES_SEQ_GRU, false, 0.5, ES_ARCH_ATST},
                 {"task4rnn, wrapper", ES_HEAD_TASK4RNN, ES_SEQ_GRU, true, 0.5, ES_ARCH_ATST},
                 {"audioset, fPaSST", ES_HEAD_AUDIOSET, ES_SEQ_NONE, false, 0.5, ES_ARCH_FPASST},
                 {"task4rnn, fPaSST", ES_HEAD_TASK4RNN, ES_SEQ_GRU, true, 0.5, ES_ARCH_FPASST}};
    struct result out, before = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct es_trainer_params tp = settings(cases[i].arch, ES_PHASE_PRETRAIN, 4, false, 0);
        tp.net.pretrain_head = cases[i].head;
        tp.net.pretrain_seq = cases[i].seq;
        tp.net.wrapper = cases[i].wrapper;
        tp.pretrain_weak = cases[i].weak;
        tp.net.pretrain_weak = cases[i].weak > 0;
        tp.net.pretrain_weak_classes = cases[i].weak > 0 || cases[i].head != ES_HEAD_LINEAR ? K : 0;
        invariant(world, cases[i].name, &tp, s, &out);
        ES_ASSERT(!same(&out, &before));
        before = out;
    }
}

/* The stages without a transformer. */
static void crnn_alone(const struct es_comm *world, struct source *s) {
    struct result out;
    for (enum es_phase phase = ES_PHASE_STAGE1; phase <= ES_PHASE_STAGE2; phase++) {
        struct es_trainer_params tp = settings(ES_ARCH_ATST, phase, 4, false, 0.2);
        tp.net.alone = true;
        tp.net.mask_fill = -1e4;
        invariant(world, phase == ES_PHASE_STAGE1 ? "stage1, alone" : "stage2, alone", &tp, s, &out);
    }
}

/* In bf16, emulated, and through oneDNN's code: all of the above, and other bits than in fp32. */
static void in_bf16(const struct es_comm *world, struct source *s) {
    static const struct {
        const char *name;
        enum es_arch arch;
        enum es_phase phase;
    } cases[] = {{"bf16 pretrain", ES_ARCH_ATST, ES_PHASE_PRETRAIN},
                 {"bf16 stage1", ES_ARCH_ATST, ES_PHASE_STAGE1},
                 {"bf16 stage2", ES_ARCH_ATST, ES_PHASE_STAGE2},
                 {"bf16 fpasst stage2", ES_ARCH_FPASST, ES_PHASE_STAGE2},
                 {"bf16 beats pretrain", ES_ARCH_BEATS, ES_PHASE_PRETRAIN},
                 {"bf16 beats stage2", ES_ARCH_BEATS, ES_PHASE_STAGE2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct es_trainer_params tp = settings(cases[i].arch, cases[i].phase, 8, true, 0.2);
        struct result fp32, emulated, onednn;
        tp.bf16 = ES_BF16_ONEDNN_FP32;
        invariant(world, cases[i].name, &tp, s, &onednn);
        tp.bf16 = ES_BF16_EMULATED;
        invariant(world, cases[i].name, &tp, s, &emulated);
        if (es_comm_size(world) <= 4) failures(world, &tp, s, &emulated);
        tp.bf16 = ES_BF16_NONE;
        train(world, &tp, s, emulated.bucket, &fp32);
        for (int step = 0; step < N_STEPS; step++) { /* near, and nearer without rounding */
            const double loss = fabs(fp32.loss[step]), off = fabs(emulated.loss[step] - fp32.loss[step]);
            ES_ASSERT(off > 0 && off < 2e-2 * loss &&
                      fabs(onednn.loss[step] - fp32.loss[step]) < 1e-4 * loss);
        }
        ES_ASSERT(emulated.student != fp32.student && emulated.moments != fp32.moments);
    }
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        enum es_arch arch;
        enum es_phase phase;
        int leaves;
        bool ict, augment;
    } cases[] = {
        {"pretrain, 8 leaves", ES_ARCH_ATST, ES_PHASE_PRETRAIN, 8, false, false},
        {"stage1, 8 leaves", ES_ARCH_ATST, ES_PHASE_STAGE1, 8, false, false},
        {"stage1, 5 leaves", ES_ARCH_ATST, ES_PHASE_STAGE1, 5, false, false},
        {"stage1, 2 leaves", ES_ARCH_ATST, ES_PHASE_STAGE1, 2, false, false},
        {"stage1, 1 leaf", ES_ARCH_ATST, ES_PHASE_STAGE1, 1, false, false},
        {"stage2, 8 leaves", ES_ARCH_ATST, ES_PHASE_STAGE2, 8, true, false},
        {"stage2, 5 leaves", ES_ARCH_ATST, ES_PHASE_STAGE2, 5, true, false},
        /* its table of positions is longer than the clips: every forward pass in training draws an offset */
        {"fpasst pretrain", ES_ARCH_FPASST, ES_PHASE_PRETRAIN, 4, false, false},
        {"fpasst stage1", ES_ARCH_FPASST, ES_PHASE_STAGE1, 4, false, false},
        {"fpasst stage2", ES_ARCH_FPASST, ES_PHASE_STAGE2, 4, true, false},
        /* every dropout of its own, and blocks left out that differ from leaf to leaf */
        {"beats pretrain", ES_ARCH_BEATS, ES_PHASE_PRETRAIN, 4, false, false},
        {"beats stage1", ES_ARCH_BEATS, ES_PHASE_STAGE1, 4, false, false},
        {"beats stage2", ES_ARCH_BEATS, ES_PHASE_STAGE2, 4, true, false},
        {"augmented pretrain", ES_ARCH_ATST, ES_PHASE_PRETRAIN, 4, false, true},
        {"augmented stage1", ES_ARCH_ATST, ES_PHASE_STAGE1, 4, false, true},
        {"augmented stage2", ES_ARCH_ATST, ES_PHASE_STAGE2, 4, true, true}};
    struct es_comm *world = NULL;
    struct es_err err = {0};
    if (es_comm_init_all(&world, &argc, &argv, &err) < 0) return err.code;
    const char *seed = getenv("ES_TEST_SEED");
    struct source *s = es_alloc(1, sizeof *s, &err);
    ES_ASSERT(s);
    *s = (struct source){.seed = seed ? strtoull(seed, NULL, 10) : 3, .bad_step = -1, .nan_step = -1};
    if (es_comm_rank(world) == 0) printf("seed %llu\n", (unsigned long long)s->seed);
    const bool all = es_comm_size(world) < 8;
    for (size_t i = 0; all && i < sizeof cases / sizeof *cases; i++) {
        struct es_trainer_params tp =
            settings(cases[i].arch, cases[i].phase, cases[i].leaves, cases[i].ict, 0.2);
        struct result good, other;
        if (cases[i].augment) open_plan(s, &tp);
        invariant(world, cases[i].name, &tp, s, &good);
        if (cases[i].augment) { /* without: other numbers */
            es_plan_free(&s->plan);
            train(world, &tp, s, good.bucket, &other);
            ES_ASSERT(other.leaves != good.leaves && other.student != good.student);
            continue;
        }
        if (es_comm_size(world) <= tp.leaves || tp.phase == ES_PHASE_STAGE1) failures(world, &tp, s, &good);
        refused(world, tp);
        /* none of this is a constant: another seed and no dropout give other numbers */
        s->seed++;
        train(world, &tp, s, good.bucket, &other);
        ES_ASSERT(!same(&good, &other) && other.leaves != good.leaves && other.student != good.student);
        s->seed--;
        if (cases[i].phase == ES_PHASE_PRETRAIN) continue;
        tp = settings(cases[i].arch, cases[i].phase, cases[i].leaves, cases[i].ict, 0.0);
        train(world, &tp, s, good.bucket, &other);
        ES_ASSERT(other.leaves != good.leaves && other.teacher != good.teacher);
        if (!cases[i].ict) continue;
        tp = settings(cases[i].arch, cases[i].phase, cases[i].leaves, false, 0.2);
        train(world, &tp, s, good.bucket, &other);
        ES_ASSERT(other.leaves != good.leaves && other.student != good.student);
    }
    if (all) all_heads(world, s);
    if (all) crnn_alone(world, s);
    in_bf16(world, s);
    es_free(&s);
    es_comm_fini_all(&world);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
