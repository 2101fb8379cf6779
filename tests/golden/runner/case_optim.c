/* Schedules, Adam and AdamW, gradient clipping, the teacher's average. */
#include "earshot/kernels.h"
#include "earshot/optim.h"

#include "runner.h"

static bool cosine(struct rn_case *c) {
    if (rn_is(c, "schedule", "cosine_with_warmup") && rn_num(c, "num_cycles", 0.5) == 0.5) return true;
    rn_skip(c, "the program has cosine_with_warmup of half a cycle only");
    return false;
}

static double factor(struct rn_case *c, int64_t step) {
    return es_schedule_factor(ES_SCHEDULE_COSINE, step, (int64_t)rn_num(c, "warmup_steps", 0),
                              (int64_t)rn_num(c, "total_steps", 1));
}

void rn_case_schedule(struct rn_case *c) {
    int64_t shape[4];
    double *f = rn_own64(c, "factor", shape);
    if (!f || !cosine(c)) return;
    for (int64_t i = 0; i < shape[0]; i++) f[i] = factor(c, i);
    rn_put(c, "factor", f, shape[0]);
}

/* "adam_in/p<i>" with counters put in. */
static float *numbered(struct rn_case *c, const char *key, int t, int i, int64_t shape[4]) {
    const char *v = rn_get(c, key);
    char path[300];
    size_t n = 0;
    for (; v && *v && n + 16 < sizeof path; v++) {
        const bool step = strncmp(v, "<t>", 3) == 0, index = strncmp(v, "<i>", 3) == 0;
        if (step || index) {
            n += (size_t)snprintf(path + n, sizeof path - n, "%d", step ? t : i);
            v += 2;
        } else {
            path[n++] = *v;
        }
    }
    path[n] = 0;
    return rn_read(c, path, shape);
}

void rn_case_optimiser(struct rn_case *c) {
    enum { MAX_GROUPS = 64 };
    double lr[MAX_GROUPS], betas[2];
    const int n_params = rn_int(c, "n_params", 0), n_steps = rn_int(c, "n_steps", 0);
    const int n_groups = rn_list(c, "group_lr", lr, MAX_GROUPS);
    if (!cosine(c)) return;
    if (rn_list(c, "betas", betas, 2) != 2 || n_groups < n_params ||
        !rn_is(c, "groups", "one per parameter")) {
        rn_skip(c, "keys betas, group_lr, groups are not as wanted");
        return;
    }
    double *used = rn_hold(c, (size_t)(n_steps * n_groups) + 1, sizeof *used);
    for (int t = 0; t < n_steps; t++)
        for (int g = 0; g < n_groups; g++) used[t * n_groups + g] = lr[g] * factor(c, t);
    rn_put(c, "lr_used", used, (int64_t)n_steps * n_groups);
    for (int i = 0; i < n_params; i++) {
        int64_t shape[4], same[4];
        char rel[64];
        float *p = numbered(c, "in.params", 0, i, shape);
        const int64_t n = p ? rn_size(shape) : 0;
        float *m = rn_hold(c, (size_t)n + 1, sizeof *m), *v = rn_hold(c, (size_t)n + 1, sizeof *v);
        for (int t = 0; p && t < n_steps; t++) {
            float *g = numbered(c, "in.grads", t, i, same);
            if (!g || rn_size(same) != n) break;
            struct es_adamw a = {.lr = used[t * n_groups + i],
                                 .beta1 = betas[0],
                                 .beta2 = betas[1],
                                 .eps = rn_num(c, "eps", 1e-8),
                                 .weight_decay = rn_num(c, "weight_decay", 0),
                                 .step = t + 1,
                                 .decoupled = rn_num(c, "decoupled", 0) != 0,
                                 .grad_scale = 1};
            es_k_adamw(n, p, g, m, v, &a);
            snprintf(rel, sizeof rel, "step%d_p%d", t, i);
            rn_put_f32(c, rel, p, n);
        }
        snprintf(rel, sizeof rel, "exp_avg_p%d", i);
        rn_put_f32(c, rel, m, n);
        snprintf(rel, sizeof rel, "exp_avg_sq_p%d", i);
        rn_put_f32(c, rel, v, n);
    }
}

/* Factor max_norm / (norm + eps), at most 1: the optimiser multiplies by it (grad_scale); with beta1 = 0 Adam's first moment is
 * the gradient it saw. */
void rn_case_clip(struct rn_case *c) {
    const int n_params = rn_int(c, "n_params", 0);
    double sum = 0, norm;
    int64_t shape[4];
    char rel[64];
    for (int i = 0; i < n_params; i++) {
        snprintf(rel, sizeof rel, "in_g%d", i);
        const float *g = rn_own(c, rel, shape);
        if (g) sum += es_k_sumsq(rn_size(shape), g);
    }
    norm = sqrt(sum);
    rn_put(c, "total_norm", &norm, 1);
    for (int i = 0; i < n_params; i++) {
        snprintf(rel, sizeof rel, "in_g%d", i);
        const float *g = rn_own(c, rel, shape);
        if (!g) continue;
        const size_t n = (size_t)rn_size(shape);
        float *p = rn_hold(c, n, sizeof *p), *m = rn_hold(c, n, sizeof *m), *v = rn_hold(c, n, sizeof *v);
        struct es_adamw a = {.lr = 1,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .step = 1,
                             .grad_scale =
                                 fmin(1, rn_num(c, "max_norm", 0) / (norm + rn_num(c, "eps", 1e-6)))};
        es_k_adamw((int64_t)n, p, g, m, v, &a);
        snprintf(rel, sizeof rel, "out_g%d", i);
        rn_put_f32(c, rel, m, (int64_t)n);
    }
}

void rn_case_ema(struct rn_case *c) {
    enum { MAX_STEPS = 256 };
    double step[MAX_STEPS], alpha[MAX_STEPS];
    const int n_steps = rn_list(c, "global_steps", step, MAX_STEPS), n_params = rn_int(c, "n_params", 0);
    for (int k = 0; k < n_steps; k++)
        alpha[k] = es_ema_alpha((int64_t)step[k], rn_num(c, "ema_factor", 0.999));
    rn_put(c, "alpha", alpha, n_steps);
    rn_put(c, "global_step", step, n_steps);
    for (int i = 0; i < n_params; i++) {
        char rel[64];
        int64_t shape[4], same[4];
        snprintf(rel, sizeof rel, "teacher0_p%d", i);
        float *teacher = rn_own(c, rel, shape);
        for (int k = 0; teacher && k < n_steps; k++) {
            snprintf(rel, sizeof rel, "student_%d_p%d", k, i);
            const float *student = rn_own(c, rel, same);
            if (!student || rn_size(same) != rn_size(shape)) break;
            es_k_ema(rn_size(shape), teacher, student, alpha[k]);
            snprintf(rel, sizeof rel, "teacher_%d_p%d", k, i);
            rn_put_f32(c, rel, teacher, rn_size(shape));
        }
    }
}
