/* Shared by golden tests of networks: a net with memory and tape filled by the rule of names, projections, comparison with
 * the file's outputs and gradients. Include after <cmocka.h>. */
#ifndef EARSHOT_TEST_GOLDEN_NET_H
#define EARSHOT_TEST_GOLDEN_NET_H

#include "earshot/nn.h"

#include "h5.h"

#include "golden_model.h"

static char dir[512]; /* main: golden_models(dir, sizeof dir, &shared) */
static bool shared;

/* loss = sum_k sum(out_k * R_k): a test-only operation */
struct dot {
    struct es_tensor *x, *y;
    const float *r;
};

static inline void dot_backward(struct es_tape *t, void *saved) {
    struct dot *s = saved;
    float beta, *dx = es_tape_grad(t, s->x, &beta);
    float g = es_tape_grad_out(t, s->y)[0];
    for (int64_t i = 0; i < s->x->n; i++) dx[i] = beta * dx[i] + g * s->r[i];
}

static inline void add_projection(struct es_tape *t, struct es_tensor *x, const char *prefix,
                                  const char *name, float *r) {
    char full[128];
    snprintf(full, sizeof full, "%s/%s", prefix, name);
    es_gen_fill(full, ES_GEN_SEED, 0, 1, x->n, r);
    struct dot *s = es_tape_node(t, sizeof *s);
    *s = (struct dot){x, es_tape_output(t, "dot", 1, (int64_t[]){1}), r};
    double sum = 0;
    for (int64_t i = 0; i < x->n; i++) sum += (double)x->data[i] * (double)r[i];
    s->y->data[0] = (float)sum;
    es_tape_push(t, dot_backward, s, s->y, NULL, 1, &x);
    es_tape_add_loss(t, s->y);
}

struct model { /* a net with its table, memory and tape */
    struct es_params *p;
    struct es_net *net;
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *t;
    float *grads;
};

/* bytes: of the activations; workspace and gradients get half of it each. tsv may be NULL: no parameters. */
static inline void model_new_sized(struct model *m, const struct es_net_config *c, const char *tsv,
                                   bool train, size_t bytes) {
    struct es_err err = {0};
    char path[700];
    memset(m, 0, sizeof *m);
    assert_int_equal(es_params_new(&m->p, &err), 0);
    assert_int_equal(es_net_new(&m->net, c, m->p, &err), 0);
    assert_int_equal(es_params_layout(m->p, &err), 0);
    snprintf(path, sizeof path, "%s/%s", dir, tsv ? tsv : "");
    assert_true(!tsv || golden_fill(m->p, path, 0) >= 0);
    assert_int_equal(es_arena_new(&m->leaf, "leaf", bytes, &err), 0);
    assert_int_equal(es_arena_new(&m->scratch, "scratch", bytes / 2, &err), 0);
    assert_int_equal(es_pool_new(&m->pool, "pool", bytes / 2, &err), 0);
    struct es_tape_params tp = {m->p, m->leaf, m->scratch, m->pool, true, train, 1, ES_RNG_STUDENT_DROPOUT,
                                NULL};
    assert_int_equal(es_tape_new(&m->t, &tp, &err), 0);
    es_tape_reset(m->t, 0, 0);
    m->grads =
        es_alloc((size_t)es_params_n_trainable(m->p) + 1, sizeof(float), &err); /* a net may have none */
    assert_non_null(m->grads);
}

static inline void model_new(struct model *m, const struct es_net_config *c, const char *tsv, bool train) {
    model_new_sized(m, c, tsv, train, (size_t)1 << 29);
}

static inline void model_free(struct model *m) {
    es_free(&m->grads);
    es_tape_free(&m->t);
    es_pool_free(&m->pool);
    es_arena_free(&m->scratch);
    es_arena_free(&m->leaf);
    es_net_free(&m->net);
    es_params_free(&m->p);
}

static inline float *load(const char *file, const char *group, const char *name, int64_t shape[4]) {
    char path[700], dataset[300];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    snprintf(dataset, sizeof dataset, "%s%s%s", group, *group ? "/" : "", name);
    return es_test_h5_read_f32(path, dataset, shape, NULL);
}

/* Is the dataset in the file? The small copies leave some out: these are named. */
static inline bool has(const char *file, const char *group, const char *name, bool say) {
    char path[700], dataset[300];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    snprintf(dataset, sizeof dataset, "%s%s%s", group, *group ? "/" : "", name);
    bool there = es_test_h5_has(path, dataset);
    if (!there && say) print_message("skipped: %s:%s is not there\n", path, dataset);
    return there;
}

static inline bool exists(const char *file) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (access(path, R_OK) == 0) return true;
    print_message("skipped: %s is not there\n", path);
    return false;
}

/* Outputs within abs, or rel_l2 when abs = 0. */
static inline void compare_out(const char *file, const char *group, const char *name, const float *a,
                               int64_t n, double abs, double rel) {
    char dataset[300];
    int64_t s[4];
    snprintf(dataset, sizeof dataset, "out/%s", name);
    float *r = load(file, group, dataset, s);
    assert_non_null(r);
    assert_int_equal(n, s[0] * s[1] * s[2] * s[3]);
    double max_abs, l2 = golden_rel_l2(a, r, n, &max_abs);
    print_message("%s %s %s: max %.2e rel_l2 %.2e\n", file, group, name, max_abs, l2);
    assert_true(abs > 0 ? max_abs <= abs : l2 <= rel);
    es_free(&r);
}

/* Every gradient of the table that the group stores: abs(d) <= X max|r| + Y group_max, or rel_l2 <= X when l2. */
static inline int compare_grads_within(struct model *m, const char *file, const char *group,
                                       const char *prefix, double X, double Y, bool l2) {
    double group_max = 0;
    int n_compared = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < es_params_count(m->p); i++) {
            const struct es_param *e = es_params_at(m->p, i);
            char dataset[300];
            int64_t s[4];
            if (!e->trainable || strstr(e->name, "mask_embed")) continue;
            snprintf(dataset, sizeof dataset, "grad/%s%s", prefix, e->name);
            float *r = has(file, group, dataset, false) ? load(file, group, dataset, s) : NULL;
            const float *a = m->grads + e->offset;
            float samples[256];
            int64_t n = e->n;
            if (!r) { /* large tensors: 256 samples */
                snprintf(dataset, sizeof dataset, "grad/%s%s.samples", prefix, e->name);
                r = load(file, group, dataset, s);
                assert_non_null(r);
                for (int64_t k = 0; k < 256; k++) samples[k] = a[k * (e->n - 1) / 255];
                a = samples;
                n = 256;
            }
            double max = golden_max(r, n), max_abs, rel = golden_rel_l2(a, r, n, &max_abs);
            bool conv = strstr(e->name, "cnn.conv") && strstr(e->name, "bias") && es_tape_train(m->t),
                 zero = conv || strstr(e->name, "k_proj.bias"); /* in exact arithmetic */
            if (pass == 0) group_max = fmax(group_max, max);
            if (pass == 1) {
                double limit = zero ? (conv ? 2e-4 : 1e-6) * group_max : l2 ? 0 : X * max + Y * group_max;
                bool ok = zero ? golden_max(a, n) <= limit : l2 ? rel <= X : max_abs <= limit;
                if (!ok)
                    print_message("%s %s %s: max %.3e (of %.3e) rel %.3e\n", file, group, e->name, max_abs,
                                  max, rel);
                assert_true(ok);
                n_compared++;
            }
            es_free(&r);
        }
    return n_compared;
}

static inline int compare_grads(struct model *m, const char *file, const char *group, const char *prefix,
                                double X, bool l2) {
    return compare_grads_within(m, file, group, prefix, X, 1e-6, l2);
}

#endif
