/* Transformers, CRNN, fusion and heads against PyTorch (golden/models: small_transformers, sed_small, sed_full_small, sed_real,
 * full_*), at the tolerances of tolerances.tsv. TIMEOUT 120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "earshot/kernels_beats.h"

#include "golden_net.h"

/* What the golden files hold of each transformer. */
static const struct arch {
    enum es_arch arch;
    const char *name, *prefix;     /* of the public wrapper's names */
    int small_frames, sed_frames;  /* mel frames that size the position table */
    int n_small, n_small_grads;    /* parameters of small_transformers, and those with a gradient */
    enum es_embed_pool embed_pool; /* of sed_full_small */
    int n_full, tokens;
    int64_t full_elements;
    int sed_mlp;
    struct es_beats_config small, sed;
} archs[] = {
    {ES_ARCH_ATST, "atst", "atst.", 1001, 1001, 28, 27, ES_POOL_AAP, 138, 250, 85419264, 192, {0}, {0}},
    {ES_ARCH_FPASST,
     "fpasst",
     "",
     160,
     100,
     39,
     39,
     ES_POOL_NEAREST_EXACT,
     159,
     250,
     88421632,
     192,
     {0},
     {0}},
    {ES_ARCH_BEATS,
     "beats",
     "model.",
     98,
     98,
     49,
     49,
     ES_POOL_NEAREST_EXACT,
     239,
     496,
     90311792,
     96,
     {.patch_embed = 64,
      .conv_taps = 128,
      .conv_groups = 8,
      .buckets = 32,
      .max_distance = 40,
      .grad_decay = 1},
     {.patch_embed = 32,
      .conv_taps = 16,
      .conv_groups = 4,
      .buckets = 32,
      .max_distance = 40,
      .grad_decay = 1}}};

static struct es_transformer_config transformer(enum es_arch arch, int dim, int depth, int heads, int mlp,
                                                int frames) {
    struct es_transformer_config c;
    es_transformer_config_default(&c, arch);
    c.dim = dim;
    c.depth = depth;
    c.heads = heads;
    c.mlp = mlp;
    c.n_mel_frames = frames;
    return c;
}

/* The transformer alone: a pre-training net whose head is unused and left out of the comparison. Its parameters get the golden
 * names and values. */
static struct es_net_config alone(const struct arch *a) {
    struct es_net_config c;
    es_net_config_published(&c, a->arch);
    c.pretrain = true;
    c.pretrain_classes = 2;
    return c;
}

static void golden_names(struct es_params *p, const struct arch *a, const char *params) {
    char own[32], path[700], rest[120];
    int n = snprintf(own, sizeof own, "model.%s.", a->name), used = 0;
    for (int i = 0; i < es_params_count(p); i++) {
        struct es_param *e = es_params_at(p, i);
        e->trainable &= strncmp(e->name, "strong_head", 11) != 0;
        if (strncmp(e->name, own, (size_t)n) != 0) continue;
        snprintf(rest, sizeof rest, "%s", e->name + n);
        snprintf(e->name, sizeof e->name, "%s%s", a->prefix, rest);
        used++;
    }
    snprintf(path, sizeof path, "%s/%s", dir, params);
    assert_int_equal(golden_fill(p, path, 0), used);
}

/* group: as stored, the architecture's name or its name and a variant */
static void small_transformer(const char *file, const struct arch *a, const char *group, double grad_decay) {
    struct es_net_config c = alone(a);
    struct model m;
    int64_t s[4];
    char params[64], r_prefix[32];
    if (!has(file, group, "out/y", true)) return;
    c.transformer = transformer(a->arch, 96, 2, 4, 384, a->small_frames);
    c.transformer.beats = a->small;
    c.transformer.beats.grad_decay = grad_decay;
    float *x = load(file, group, "in/features", s);
    assert_non_null(x);
    snprintf(params, sizeof params, "params_%s_small.tsv", a->name);
    snprintf(r_prefix, sizeof r_prefix, "R/%s", a->name);
    model_new(&m, &c, params, false);
    golden_names(m.p, a, params);
    assert_int_equal(es_params_count(m.p) - 2, a->n_small);
    struct es_tensor *in = es_tape_input(m.t, "features", 4, s, x, true);
    struct es_tensor *y = es_net_transformer(m.net, m.t, in);
    compare_out(file, group, "y", y->data, y->n, 0, 5e-6);
    float *r = es_alloc((size_t)y->n, sizeof(float), NULL);
    add_projection(m.t, y, r_prefix, "y", r);
    es_tape_backward(m.t, m.grads, NULL);
    assert_int_equal(compare_grads(&m, file, group, "", 4e-5, true), a->n_small_grads);
    float *gi = load(file, group, "gradin/features", s);
    assert_non_null(gi);
    double rel = golden_rel_l2(es_tape_input_grad(m.t, in), gi, in->n, NULL);
    print_message("gradin/features rel_l2 %.2e\n", rel);
    assert_true(rel <= 4e-5);
    es_free(&gi);
    es_free(&r);
    es_free(&x);
    model_free(&m);
}

static void small_transformers(void **state) {
    (void)state;
    const char *file = "small_transformers.h5";
    if (!exists(file)) skip();
    for (size_t k = 0; k < sizeof archs / sizeof *archs; k++)
        small_transformer(file, &archs[k], archs[k].name, 1);
    small_transformer(file, &archs[2], "beats_graddecay0.6", 0.6);
}

/* Buckets of relative positions, exactly; of the full size, corners of the bias that they give. */
static void positions(void **state) {
    (void)state;
    int64_t s[4];
    for (int full = 0; full < 2; full++) {
        const char *file = full ? "full_beats.h5" : "small_transformers.h5", *group = full ? "" : "beats",
                   *name = full ? "rel_bucket_from_minus495" : "rel_bucket";
        if ((full && !shared) || !exists(file) || !has(file, group, name, true)) continue;
        float *want = load(file, group, name, s);
        int64_t n = s[0] * s[1] * s[2] * s[3];
        assert_int_equal(n, full ? 991 : 95);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(es_k_rel_bucket(i - n / 2, full ? 320 : 32, full ? 800 : 40), (int)want[i]);
        es_free(&want);
    }
    if (!shared || !exists("full_beats.h5")) return;
    enum { T = 496, H = 12, N = 320 };
    float *table = es_alloc(N * H, sizeof(float), NULL),
          *bias = es_alloc(H * (2 * T - 1), sizeof(float), NULL);
    es_gen_fill("model.encoder.layers.0.self_attn.relative_attention_bias.weight", ES_GEN_SEED, 0, 0.5, N * H,
                table);
    es_k_rel_bias_fwd(T, H, N, 800, table, bias);
    for (int corner = 0; corner < 2; corner++) {
        float *want =
            load("full_beats.h5", "", corner ? "position_bias_q490_495_k0_3" : "position_bias_q0_3_k0_5", s);
        assert_non_null(want);
        assert_int_equal(s[0], H);
        for (int64_t h = 0; h < H; h++)
            for (int64_t q = 0; q < s[1]; q++)
                for (int64_t k = 0; k < s[2]; k++)
                    assert_true(want[(h * s[1] + q) * s[2] + k] ==
                                bias[h * (2 * T - 1) + T - 1 + k - q - (corner ? 490 : 0)]);
        es_free(&want);
    }
    es_free(&bias);
    es_free(&table);
}

static struct es_net_config sed_config(bool real, bool wrapper, enum es_embed_pool pool, bool glu,
                                       int width) {
    struct es_net_config c;
    es_net_config_default(&c);
    c.dropout = 0;
    c.wrapper = wrapper;
    c.embed_pool = pool;
    c.glu = glu;
    c.transformer = transformer(ES_ARCH_ATST, width, 1, 1, 8, 1001);
    if (real) return c;
    static const int filters[7] = {4, 6, 8, 8, 8, 8, 10};
    memcpy(c.filters, filters, sizeof filters);
    c.rnn_cells = 12;
    c.audioset_classes = 15;
    c.n_frames = 32;
    return c;
}

/* One forward and backward of the SED net; full: with its own transformer on in/pt_feats. */
struct sed_case {
    const char *file, *group, *params, *r_prefix, *bn_group;
    bool train, full, embeddings_generated, top_level;
    int tokens;
    double out_abs, grad_x, buf_rel;
};

static void run_sed(const struct sed_case *q, const struct es_net_config *c) {
    struct model m;
    int64_t sx[4], se[4] = {0}, sm[4];
    model_new(&m, c, q->params, q->train);
    /* its own transformer stays out of the comparison */
    for (int i = 0; !q->full && i < es_params_count(m.p); i++) {
        struct es_param *e = es_params_at(m.p, i);
        if (es_net_part(m.net, e->name) == ES_PART_TRANSFORMER) e->trainable = false;
    }
    if (!q->train)
        for (int i = 0; i < es_params_count(m.p); i++) {
            struct es_param *e = es_params_at(m.p, i);
            if (!strstr(e->name, "running_")) continue;
            char dataset[200];
            snprintf(dataset, sizeof dataset, "buf/%s", e->name);
            float *b = load(q->file, q->bn_group, dataset, NULL);
            assert_non_null(b);
            memcpy(es_params_data(m.p, i), b, (size_t)e->n * sizeof(float));
            es_free(&b);
        }
    float *x = load(q->file, q->top_level ? "" : q->group, q->full ? "in/x" : "x", sx);
    float *mask_f = load(q->file, q->top_level && !q->embeddings_generated ? "" : q->group,
                         q->top_level && !q->embeddings_generated ? "mask" : "in/mask", sm);
    assert_non_null(x);
    assert_non_null(mask_f);
    int64_t B = sx[0], F = sx[2], T = sx[3];
    float *xt = es_alloc((size_t)(B * F * T), sizeof(float), NULL), *e = NULL;
    uint8_t mask[16 * 27];
    for (int64_t i = 0; i < B * 27; i++) mask[i] = mask_f[i] != 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t f = 0; f < F; f++)
            for (int64_t t = 0; t < T; t++) xt[(b * T + t) * F + f] = x[(b * F + f) * T + t];
    if (q->full) {
        e = load(q->file, q->group, "in/pt_feats", se);
    } else if (q->embeddings_generated) {
        int64_t dims[4] = {B, q->tokens, c->transformer.dim, 1};
        memcpy(se, dims, sizeof dims);
        e = es_alloc((size_t)(B * se[1] * se[2]), sizeof(float), NULL);
        es_gen_fill("in/embeddings", ES_GEN_SEED, 0, sqrt(3.0), B * se[1] * se[2], e);
    } else {
        e = load(q->file, "", "embeddings", se);
    }
    assert_non_null(e);
    struct es_tensor *in = es_tape_input(m.t, "crnn", 4, (int64_t[]){B, 1, T, F}, xt, true);
    struct es_tensor *emb = es_tape_input(m.t, "embeddings", q->full ? 4 : 3, se, e, true);
    struct es_tensor *z = q->full ? es_net_embed(m.net, m.t, emb) : es_net_resample(m.net, m.t, emb), *logits,
                     *att;
    struct es_tensor *o[4];
    static const char *const names[4] = {"strong", "weak", "strong_all", "weak_all"};
    es_net_sed(m.net, m.t, in, z, &logits, &att);
    es_op_class_pool(m.t, logits, att, mask, -1e30, &o[0], &o[1]);
    es_op_class_pool(m.t, logits, att, NULL, -1e30, &o[2], &o[3]);
    float *r[4];
    for (int k = 0; k < 4; k++) {
        compare_out(q->file, q->group, names[k], o[k]->data, o[k]->n, q->out_abs, 0);
        r[k] = es_alloc((size_t)o[k]->n, sizeof(float), NULL);
        add_projection(m.t, o[k], q->r_prefix, names[k], r[k]);
    }
    for (int i = 0; q->train && i < es_tape_n_stats(m.t); i++) { /* the update rule: 0.01 old + 0.99 batch */
        struct es_tape_stats s = es_tape_stats_at(m.t, i);
        for (int v = 0; v < 2; v++) {
            const struct es_param *b = es_params_at(m.p, v ? s.var_param : s.mean_param);
            char dataset[200];
            float got[128];
            snprintf(dataset, sizeof dataset, "buf/%s", b->name);
            float *want = load(q->file, q->group, dataset, NULL);
            assert_non_null(want);
            for (int k = 0; k < s.n; k++)
                got[k] = (1.0f - 0.99f) * es_params_data(m.p, v ? s.var_param : s.mean_param)[k] +
                         0.99f * (v ? s.var : s.mean)[k];
            assert_true(golden_rel_l2(got, want, s.n, NULL) <= q->buf_rel);
            es_free(&want);
        }
    }
    if (q->train) assert_int_equal(es_tape_n_stats(m.t), 7);
    es_tape_backward(m.t, m.grads, NULL);
    int n = compare_grads(&m, q->file, q->group, "", q->grad_x, false);
    print_message("%s %s: %d gradients\n", q->file, q->group, n);
    int64_t sg[4];
    if (has(q->file, q->group, "gradin/x", true)) {
        float *gx = load(q->file, q->group, "gradin/x", sg);
        const float *a = es_tape_input_grad(m.t, in);
        double worst = 0, max = golden_max(gx, B * F * T);
        for (int64_t b = 0; b < B; b++)
            for (int64_t f = 0; f < F; f++)
                for (int64_t t = 0; t < T; t++)
                    worst =
                        fmax(worst, fabs((double)a[(b * T + t) * F + f] - (double)gx[(b * F + f) * T + t]));
        assert_true(worst <= q->grad_x * max + 1e-7);
        es_free(&gx);
    }
    const char *embeddings = q->full ? "gradin/pt_feats" : "gradin/embeddings";
    if (has(q->file, q->group, embeddings, true)) {
        float *ge = load(q->file, q->group, embeddings, sg);
        double max_abs;
        golden_rel_l2(es_tape_input_grad(m.t, emb), ge, emb->n, &max_abs);
        assert_true(max_abs <= q->grad_x * golden_max(ge, emb->n) + 1e-7);
        es_free(&ge);
    }
    for (int k = 0; k < 4; k++) es_free(&r[k]);
    es_free(&e);
    es_free(&xt);
    es_free(&mask_f);
    es_free(&x);
    model_free(&m);
}

static void sed_full_small(void **state) {
    (void)state;
    if (!exists("sed_full_small.h5")) skip();
    for (size_t k = 0; k < sizeof archs / sizeof *archs; k++) {
        const struct arch *a = &archs[k];
        char params[64];
        if (!has("sed_full_small.h5", a->name, "out/strong", true)) continue;
        struct es_net_config c = sed_config(false, a->arch != ES_ARCH_BEATS, a->embed_pool, false, 48);
        c.transformer = transformer(a->arch, 48, 2, 4, a->sed_mlp, a->sed_frames);
        c.transformer.beats = a->sed;
        snprintf(params, sizeof params, "params_sed_full_small_%s.tsv", a->name);
        struct sed_case q = {"sed_full_small.h5",
                             a->name,
                             params,
                             "R/sed_small",
                             NULL,
                             true,
                             true,
                             false,
                             false,
                             25,
                             5e-6,
                             5e-4,
                             1e-4};
        run_sed(&q, &c);
    }
}

static void sed_small(void **state) {
    (void)state;
    if (!exists("sed_small.h5")) skip();
    static const struct {
        const char *name;
        bool wrapper, glu;
        enum es_embed_pool pool;
    } v[4] = {{"aap_cg", true, false, ES_POOL_AAP},
              {"aap_glu", true, true, ES_POOL_AAP},
              {"nearest_cg_nowrapper", false, false, ES_POOL_NEAREST},
              {"nearest_exact_cg_nowrapper", false, false, ES_POOL_NEAREST_EXACT}};
    for (int i = 0; i < 8; i++) {
        char group[64], bn[64];
        snprintf(group, sizeof group, "%s/%s", v[i / 2].name, i % 2 ? "eval" : "train");
        snprintf(bn, sizeof bn, "%s/train", v[i / 2].name);
        if (!has("sed_small.h5", group, "out/strong", true)) continue;
        struct es_net_config c = sed_config(false, v[i / 2].wrapper, v[i / 2].pool, v[i / 2].glu, 20);
        struct sed_case q = {"sed_small.h5",
                             group,
                             v[i / 2].wrapper ? "params_sed_small_wrapper.tsv"
                                              : "params_sed_small_nowrapper.tsv",
                             "R/sed_small",
                             bn,
                             i % 2 == 0,
                             false,
                             false,
                             true,
                             50,
                             5e-6,
                             v[i / 2].glu ? 1e-3 : 5e-4,
                             1e-4};
        run_sed(&q, &c);
    }
}

static void sed_real(void **state) {
    (void)state;
    if (!shared || !exists("sed_real.h5")) skip();
    for (int i = 0; i < 2; i++) {
        struct es_net_config c = sed_config(true, true, ES_POOL_AAP, false, 768);
        struct sed_case q = {"sed_real.h5",
                             i ? "aap_wrapper_250/eval" : "aap_wrapper_250/train",
                             "params_sed_real_wrapper.tsv",
                             "R/sed",
                             "aap_wrapper_250/train",
                             i == 0,
                             false,
                             true,
                             true,
                             250,
                             5e-6,
                             5e-4,
                             1e-5};
        run_sed(&q, &c);
    }
}

static void full_size(const struct arch *a) {
    struct es_net_config c = alone(a);
    struct es_params *p = NULL;
    struct es_net *net = NULL;
    struct es_arena *leaf = NULL, *scratch = NULL;
    struct es_pool *pool = NULL;
    struct es_tape *t = NULL;
    char file[32], params[64];
    int64_t s[4], D = 768, T = a->tokens;
    snprintf(file, sizeof file, "full_%s.h5", a->name);
    if (!exists(file)) return;
    assert_int_equal(es_params_new(&p, NULL), 0);
    assert_int_equal(es_net_new(&net, &c, p, NULL), 0);
    assert_int_equal(es_params_layout(p, NULL), 0);
    snprintf(params, sizeof params, "params_%s_full.tsv", a->name);
    golden_names(p, a, params);
    assert_int_equal(es_params_count(p) - 2, a->n_full);
    assert_int_equal(es_arena_new(&leaf, "leaf", 4096, NULL), 0);
    assert_int_equal(es_arena_new(&scratch, "scratch", (size_t)1 << 27, NULL), 0);
    assert_int_equal(es_pool_new(&pool, "pool", (size_t)1 << 28, NULL), 0);
    struct es_tape_params tp = {p, leaf, scratch, pool, false, false, 1, ES_RNG_STUDENT_DROPOUT, NULL};
    assert_int_equal(es_tape_new(&t, &tp, NULL), 0);
    es_tape_reset(t, 0, 0);
    float *x = load(file, "", "features", s);
    assert_non_null(x);
    struct es_tensor *y = es_net_transformer(net, t, es_tape_input(t, "features", 4, s, x, false));
    assert_int_equal(y->shape[1], T);
    float *r0 = load(file, "", "embeddings_clip0_every8", s), *r1 = load(file, "", "embeddings_clip1", s);
    int64_t rows = (T + 7) / 8;
    float *every8 = es_alloc((size_t)(rows * D), sizeof(float), NULL);
    for (int64_t i = 0; i < rows; i++) memcpy(every8 + i * D, y->data + 8 * i * D, (size_t)D * sizeof(float));
    double max0, max1, l0 = golden_rel_l2(every8, r0, rows * D, &max0);
    double l1 = golden_rel_l2(y->data + T * D, r1, T * D, &max1);
    print_message("full %s: clip 0 max %.2e rel_l2 %.2e, clip 1 max %.2e rel_l2 %.2e\n", a->name, max0, l0,
                  max1, l1);
    assert_true(l0 <= 5e-6 && l1 <= 5e-6 && max0 <= 5e-5 && max1 <= 5e-5);
    assert_int_equal(es_params_elements(p, false) - 2 * 769, a->full_elements);
    es_tape_drop(t, y);
    assert_int_equal(es_pool_live(pool), 0); /* the forward pass gave everything back */
    es_free(&every8);
    es_free(&r1);
    es_free(&r0);
    es_free(&x);
    es_tape_free(&t);
    es_pool_free(&pool);
    es_arena_free(&scratch);
    es_arena_free(&leaf);
    es_net_free(&net);
    es_params_free(&p);
}

static void full(void **state) {
    (void)state;
    if (!shared) skip();
    for (size_t k = 0; k < sizeof archs / sizeof *archs; k++) full_size(&archs[k]);
}

int main(void) {
    golden_models(dir, sizeof dir, &shared);
    if (!shared)
        print_message("no shared data: the small copies of tests/data only, without sed_real and full_*\n");
    const struct CMUnitTest tests[] = {cmocka_unit_test(small_transformers), cmocka_unit_test(positions),
                                       cmocka_unit_test(sed_full_small),     cmocka_unit_test(sed_small),
                                       cmocka_unit_test(sed_real),           cmocka_unit_test(full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
