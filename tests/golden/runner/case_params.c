/* Text files about parameters. params_*.tsv: names and shapes against the network's own table, kinds and scales against the rule
 * of names, values against the generator. param_groups.tsv: groups, rates, decay of every parameter of every architecture. */
#include "earshot/text.h"

#include "model.h"

enum { COLUMNS = 13, FIRST_VALUE = 5 };
static const char *const column_name[COLUMNS] = {"name", "shape", "kind", "offset", "scale", "v0", "v1",
                                                 "v2",   "v3",    "v4",   "v5",     "v6",    "v7"};

/* The kind column, by the order of the rule of names (generate.h). */
static const char *kind_of(const struct es_gen_param *e) {
    static const char *const end[][2] = {{"num_batches_tracked", "counter"},
                                         {"relative_attention_bias.weight", "relbias"},
                                         {"grep_a", "grep_a"},
                                         {"parametrizations.weight.original0", "wn_g"},
                                         {"running_mean", "bn_mean"},
                                         {"running_var", "bn_var"}};
    static const char *const embed[] = {"pos_embed",         "mask_embed",    "cls_token",
                                        "dist_token",        "new_pos_embed", "freq_new_pos_embed",
                                        "time_new_pos_embed"};
    char module[64];
    const char *last = es_gen_parts(e->name, module);
    for (size_t i = 0; i < sizeof end / sizeof *end; i++)
        if (es_gen_ends(e->name, end[i][0])) return end[i][1];
    if (strstr(module, "norm") && strcmp(last, "weight") == 0) return "norm_w";
    if (strstr(module, "norm") && strcmp(last, "bias") == 0) return "norm_b";
    if (es_gen_among(last, embed, 7)) return "embed";
    return e->ndim >= 2 ? "weight" : "bias";
}

/* A net of some case that uses the list; NULL: none can be built, why says why. */
static struct es_params *own_table(struct rn *run, const char *file, char why[300], struct rn_case **user) {
    snprintf(why, 300, "no case uses the list");
    for (int k = 0; k < run->n_cases; k++) {
        struct rn_case *c = &run->c[k];
        struct es_net_config n;
        struct es_params *p = NULL;
        struct es_net *net = NULL;
        struct es_err err = {0};
        char old[300];
        if (!rn_is(c, "params", file)) continue;
        *user = c;
        snprintf(old, sizeof old, "%s", c->why);
        es_net_config_default(&n);
        n.pretrain = true;
        n.pretrain_classes = 2;
        bool ok = rn_get(c, "sed.nclass") ? rn_sed_config(c, &n)
                  : rn_get(c, "t.arch")   ? rn_transformer_config(c, &n.transformer)
                                          : rn_head_config(c, &n);
        if (!ok) {
            snprintf(why, 300, "%s",
                     c->why[0] ? c->why : "the program has no network of its own for these parameters");
            snprintf(c->why, sizeof c->why, "%s", old);
            continue;
        }
        ES_ASSERT(es_params_new(&p, NULL) == 0);
        if (es_net_new(&net, &n, p, &err) == 0) {
            es_net_free(&net);
            return p;
        }
        snprintf(why, 300, "%s", err.msg);
        es_params_free(&p);
    }
    return NULL;
}

static void report(struct rn *run, const char *file, int column, int64_t n, double wrong, double max_abs,
                   const char *criterion) {
    rn_report(run, &(struct rn_result){file, ".", column_name[column], n, max_abs, wrong > 0 ? HUGE_VAL : 0,
                                       criterion, wrong == 0});
}

/* Names: all those of the list are in the network, in the same order, and the network's others are not of the parts that the list
 * is about (a transformer that stays unused, a head). */
static void check_table(struct rn *run, const char *file, const struct es_gen_param *list, int n,
                        const char *criterion) {
    char why[300];
    struct rn_names names_of = {"", ""};
    struct rn_case *user = NULL;
    struct es_params *p = own_table(run, file, why, &user);
    if (!p) {
        rn_report_skip(run, file, ".", "name", why);
        rn_report_skip(run, file, ".", "shape", why);
        return;
    }
    double names = 0, shapes = 0;
    int last[2] = {-1, -1}; /* lists hold weights first, then buffers */
    if (!rn_find_names(p, list, n, &names_of)) names_of = (struct rn_names){"", ""};
    for (int k = 0; k < n; k++) {
        const int i = rn_find_param(p, &names_of, list[k].name);
        const struct es_param *e = i < 0 ? NULL : es_params_at(p, i);
        names += !e || i < last[e->kind == ES_PARAM_BUFFER];
        if (!e) continue;
        last[e->kind == ES_PARAM_BUFFER] = i;
        bool same = e->ndim == list[k].ndim;
        for (int d = 0; same && d < e->ndim; d++) same = e->shape[d] == list[k].shape[d];
        shapes += !same;
    }
    for (int i = 0; i < es_params_count(p); i++) { /* entries of the network that the list should name */
        const char *name = es_params_at(p, i)->name;
        const bool counter = es_gen_ends(name, "num_batches_tracked"); /* lists leave them out */
        bool inside = strncmp(name, names_of.own, strlen(names_of.own)) == 0, listed = false;
        bool unused = !rn_get(user, "t.arch") && strncmp(name, "as_model.", 9) == 0;
        for (int k = 0; k < n && !listed; k++) listed = rn_find_param(p, &names_of, list[k].name) == i;
        names += inside && !listed && !unused && !counter &&
                 (!rn_get(user, "t.arch") || strncmp(name, "strong_head", 11) != 0);
    }
    report(run, file, 0, n, names, names, criterion);
    report(run, file, 1, n, shapes, shapes, criterion);
    es_params_free(&p);
}

void rn_params_file(struct rn *run, const char *file) {
    char path[1200];
    struct es_gen_param *list = NULL;
    uint64_t seed;
    struct rn_case any = {.run = run, .file_name = file, .group = ".", .index = -1};
    const char *criterion = rn_criterion(run, rn_rule(&any, file, "name"));
    snprintf(path, sizeof path, "%s/%s", run->dir, file);
    const int n = es_gen_read(path, &list, &seed);
    if (n < 0 || !criterion) {
        rn_report_skip(run, file, ".", "*", n < 0 ? "it cannot be read" : "no row of tolerances.tsv fits");
        es_free(&list);
        return;
    }
    double wrong[COLUMNS] = {0}, most[COLUMNS] = {0};
    int64_t listed = 0;
    for (int k = 0; k < n; k++) {
        const struct es_gen_param *e = &list[k];
        double offset, scale, rule_offset, rule_scale;
        wrong[2] += strcmp(e->kind, kind_of(e)) != 0;
        if (!es_gen_rule(e->name, e->ndim, e->shape, &rule_offset, &rule_scale))
            continue; /* counters: nothing more */
        listed++;
        const double d[2] = {fabs(e->offset - rule_offset), fabs(e->scale - rule_scale)};
        for (int i = 0; i < 2; i++) {
            wrong[3 + i] += d[i] > 1e-15 * fabs(i ? rule_scale : rule_offset);
            most[3 + i] = fmax(most[3 + i], d[i]);
        }
        rn_entry_rule(e, seed, &offset, &scale);
        const uint64_t h = es_gen_hash(e->name);
        for (int v = 0; v < 8; v++) { /* nine digits name a float */
            float got = (float)(offset + scale * es_gen_u(h, seed, v * (e->n - 1) / 7));
            wrong[FIRST_VALUE + v] += got != e->value[v];
            most[FIRST_VALUE + v] = fmax(most[FIRST_VALUE + v], fabs((double)got - (double)e->value[v]));
        }
    }
    check_table(run, file, list, n, criterion);
    for (int i = 2; i < COLUMNS; i++) report(run, file, i, i == 2 ? n : listed, wrong[i], most[i], criterion);
    es_free(&list);
}
