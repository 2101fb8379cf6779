/* Names of public checkpoints, as tables. */
#include "earshot/import.h"

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"

#define SHOWN 5 /* problems in the error line */

/* One way in which files hold a network. */
struct import_layout {
    const char *prefix; /* in front of the module's own names; keys without it are extra, unless ... */
    const char *head;   /* ... they are the head of AudiosetWrapper, */
    bool drop_rest;     /* or everything else belongs to something else, */
    bool drop_heads;    /* or they are heads and mel buffers of known wrappers */
};

static const struct import_layout atst_layouts[] = {
    {"model.teacher.encoder.", NULL, true, false},
    {"encoder.encoder.frame_encoder.", NULL, true, false},
    {"encoder.encoder.", NULL, true, false},
    {"net_strong.model.model.atst.", "net_strong.model.head_linear_layer.", true, false},
    {"net_strong.model.atst.", NULL, true, false},
    {"net.model.atst.", "net.head_linear_layer.", true, false},
    {"as_model.model.atst.", "as_model.head_linear_layer.", true, false},
    {"as_model.atst.", NULL, true, false},
    {"model.atst.", "head_linear_layer.", false, true},
    {"atst.", "head_linear_layer.", false, false},
    {"", "head_linear_layer.", false, false},
    {0},
};

static const struct import_layout fpasst_layouts[] = {
    {"net_strong.model.model.", "net_strong.model.head_linear_layer.", true, false},
    {"net_strong.model.", NULL, true, false},
    {"net.model.", "net.head_linear_layer.", true, false},
    {"as_model.model.", "as_model.head_linear_layer.", true, false},
    {"as_model.", NULL, true, false},
    {"model.fpasst.", "head_linear_layer.", false, true},
    {"model.", "head_linear_layer.", false, true},
    {"fpasst.", NULL, false, true},
    {"", "head_linear_layer.", false, false},
    {0},
};

static const struct import_layout beats_layouts[] = {
    {"net_strong.model.model.", NULL, true, false},
    {"net_strong.model.", NULL, true, false},
    {"net.model.", NULL, true, false},
    {"as_model.model.", NULL, true, false},
    {"model.beats.", NULL, false, true},
    {"model.model.", NULL, false, true},
    {"model.", NULL, false, true},
    {"beats.", NULL, false, true},
    {"", NULL, false, false},
    {0},
};

static const struct import_layout sed_layouts[] = {{"", NULL, false, false}, {0}};

/* anchors: entries by which a layout is recognised; two, so that a file that lacks one is told so. */
static const struct {
    const char *name, *anchor[2], *to;
    const struct import_layout *layouts;
} models[] = {
    [ES_IMPORT_ATST] = {"atst", {"pos_embed", "patch_embed.patch_embed.weight"}, "atst.", atst_layouts},
    [ES_IMPORT_FPASST] = {"fpasst", {"time_new_pos_embed", "patch_embed.proj.weight"}, "", fpasst_layouts},
    [ES_IMPORT_BEATS] = {"beats",
                         {"post_extract_proj.weight", "patch_embedding.weight"},
                         "model.",
                         beats_layouts},
    [ES_IMPORT_SED] = {"sed", {"cat_tf.weight", "dense.weight"}, "", sed_layouts},
};
_Static_assert(sizeof models / sizeof *models == ES_N_IMPORT_MODELS, "one row per model");

/* Where a layout has drop_heads: PretrainedSED's and AudiosetWrapper's own parts. */
static const char *const heads[] = {"strong_head.",      "weak_head.", "seq_model.", "model.atst_mel.",
                                    "att_linear_layer.", "atst_mel.",  NULL};
/* Entries of the module itself (our names) that nobody uses. */
static const char *const unused[] = {"atst.cls_token",
                                     "atst.teacher_module.",
                                     "model.predictor.",
                                     "predictor.",
                                     "as_model.att_linear_layer.",
                                     "as_model.model.predictor.",
                                     NULL};
/* old -> new names of weight norm */
static const char *const renamed[][2] = {
    {"pos_conv.0.weight_g", "pos_conv.0.parametrizations.weight.original0"},
    {"pos_conv.0.weight_v", "pos_conv.0.parametrizations.weight.original1"}};

static const char *const troubles[][2] = {
    [ES_IMPORT_MISSING] = {"missing", "missing"},
    [ES_IMPORT_EXTRA] = {"extra", "not of this model"},
    [ES_IMPORT_SHAPE] = {"shape", "of another shape"},
    [ES_IMPORT_DTYPE] = {"dtype", "of another type"},
    [ES_IMPORT_NOT_TENSOR] = {"not_tensor", "not a tensor"},
    [ES_IMPORT_TWICE] = {"twice", "given twice"},
    [ES_IMPORT_NOT_FINITE] = {"not_finite", "not finite"},
};
_Static_assert(sizeof troubles / sizeof *troubles == ES_N_IMPORT_TROUBLES, "one row per trouble");

const char *es_import_model_name(enum es_import_model model) {
    return models[model].name;
}

int es_import_model_from_name(const char *name) {
    for (int i = 0; i < ES_N_IMPORT_MODELS; i++)
        if (strcmp(models[i].name, name) == 0) return i;
    return -1;
}

static const char *behind(const char *s, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static bool begins_with_any(const char *s, const char *const *list) {
    for (; *list; list++)
        if (behind(s, *list)) return true;
    return false;
}

bool es_import_is_counter(const char *name) {
    static const char tail[] = ".num_batches_tracked";
    size_t n = strlen(name);
    return n >= sizeof tail && strcmp(name + n - (sizeof tail - 1), tail) == 0;
}

bool es_import_alias_after(const char *name, char alias[120], char of[120]) {
    static const char middle[] = ".encoder.layers.";
    char dotted[122];
    int layer = 0, used = 0;
    snprintf(dotted, sizeof dotted, ".%.119s", name); /* the name may begin with "encoder." */
    const char *at = strstr(dotted, middle);
    if (!at || sscanf(at + sizeof middle - 1, "%d.self_attn.grep_linear.bias%n", &layer, &used) != 1 ||
        used == 0 || at[sizeof middle - 1 + (size_t)used] != '\0' || layer < 1)
        return false;
    int head = (int)(at - dotted) + (int)sizeof middle - 1 - 1;
    snprintf(alias, 120, "%.*s%d.self_attn.relative_attention_bias.weight", head, name, layer);
    snprintf(of, 120, "%.*s0.self_attn.relative_attention_bias.weight", head, name);
    return true;
}

/* ---- the object */
int es_import_new(struct es_import **im, enum es_import_model model, struct es_err *err) {
    *im = es_alloc(1, sizeof **im, err);
    if (!*im) return -ES_EIO;
    (*im)->model = model;
    (*im)->arch = model == ES_IMPORT_FPASST  ? ES_ARCH_FPASST
                  : model == ES_IMPORT_BEATS ? ES_ARCH_BEATS
                                             : ES_ARCH_ATST;
    return 0;
}

void es_import_free(struct es_import **im) {
    if (!*im) return;
    es_free(&(*im)->problem);
    es_free(&(*im)->entry);
    es_free(im);
}

/* Makes room for one more in an array of n items. */
static int grow(void *array, size_t item, int n, int *cap, struct es_err *err) {
    void *old, *grown;
    if (n < *cap) return 0;
    memcpy(&old, array, sizeof old);
    int want = *cap ? 2 * *cap : 64;
    grown = es_alloc((size_t)want, item, err);
    if (!grown) return -ES_EIO;
    if (old) memcpy(grown, old, (size_t)n * item);
    es_free(array);
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return 0;
}

int es_import_note(struct es_import *im, enum es_import_trouble trouble, const char *name, const char *detail,
                   struct es_err *err) {
    ES_TRY(grow(&im->problem, sizeof *im->problem, im->n_problems, &im->cap_problems, err));
    struct es_import_problem *p = &im->problem[im->n_problems++];
    p->trouble = trouble;
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->detail, sizeof p->detail, "%s", detail);
    return 0;
}

static int find(const struct es_import *im, const char *name) {
    for (int i = 0; i < im->n; i++)
        if (strcmp(im->entry[i].name, name) == 0) return i;
    return -1;
}

static int add(struct es_import *im, const char *name, int ndim, const int64_t *shape, struct es_err *err) {
    ES_TRY(grow(&im->entry, sizeof *im->entry, im->n, &im->cap, err));
    struct es_import_entry *e = &im->entry[im->n++];
    *e = (struct es_import_entry){.ndim = ndim, .alias_of = -1, .counter = es_import_is_counter(name)};
    snprintf(e->name, sizeof e->name, "%s", name);
    for (int d = 0; d < ndim; d++) e->shape[d] = shape[d];
    return 0;
}

int es_import_add(struct es_import *im, const char *name, int ndim, const int64_t *shape, bool optional,
                  struct es_err *err) {
    char alias[120], of[120];
    ES_TRY(add(im, name, ndim, shape, err));
    im->entry[im->n - 1].optional = optional;
    int shared = es_import_alias_after(name, alias, of) ? find(im, of) : -1;
    if (shared < 0) return 0;
    ES_TRY(add(im, alias, im->entry[shared].ndim, im->entry[shared].shape, err));
    im->entry[im->n - 1].alias_of = shared;
    return 0;
}

int es_import_add_net(struct es_import *im, const struct es_net_config *config, struct es_err *err) {
    struct es_net_config c = *config;
    struct es_net *net = NULL;
    struct es_params *p = NULL;
    bool sed = im->model == ES_IMPORT_SED;
    int rc = 0;
    c.pretrain = false;
    if (!sed) c.wrapper = false; /* names then begin with as_model. and go on as the public module's */
    ES_GO(es_params_new(&p, err));
    ES_GO(es_net_new(&net, &c, p, err));
    for (int i = 0; i < es_params_count(p); i++) {
        const struct es_param *e = es_params_at(p, i);
        if (!sed && es_net_part(net, e->name) != ES_PART_TRANSFORMER) continue;
        ES_GO(es_import_add(im, e->name + (sed ? 0 : strlen("as_model.")), e->ndim, e->shape, false, err));
    }
    if (im->model == ES_IMPORT_ATST || im->model == ES_IMPORT_FPASST) {
        int64_t shape[] = {config->audioset_classes, config->transformer.dim};
        ES_GO(es_import_add(im, "head_linear_layer.weight", 2, shape, true, err));
        ES_GO(es_import_add(im, "head_linear_layer.bias", 1, shape, true, err));
    }
done:
    es_net_free(&net);
    es_params_free(&p);
    return rc;
}

/* ---- which dictionary, which layout */
static bool has_key(const struct es_value *dict, const char *outer, const char *prefix, const char *name) {
    char key[256];
    snprintf(key, sizeof key, "%s%s%s", outer, prefix, name);
    return es_value_get(dict, key) != NULL;
}

/* The first layout whose anchor is there, also below what DistributedDataParallel, torch.compile and Lightning put in front. */
static bool recognise(struct es_import *im, const struct es_value *dict, int anchor) {
    const char *outer[] = {"", "module.", "_orig_mod.",
                           strcmp(im->which, "teacher") == 0 ? "teacher." : "student."};
    if (!dict || dict->kind != ES_VALUE_DICT) return false;
    for (size_t o = 0; o < sizeof outer / sizeof *outer; o++)
        for (const struct import_layout *l = models[im->model].layouts; l->prefix; l++)
            if (has_key(dict, outer[o], l->prefix, models[im->model].anchor[anchor])) {
                im->dict = dict;
                im->layout = l;
                im->outer = outer[o];
                return true;
            }
    return false;
}

/* A sed net's transformer. */
static void recognise_arch(struct es_import *im) {
    static const char *const beside_crnn[] = {"as_model.", "cat_tf.", NULL};
    im->alone = true;
    for (uint32_t k = 0; k < im->dict->n; k += 2) {
        const struct es_value *key = im->dict->item[k];
        const char *inner = key->kind == ES_VALUE_TEXT ? behind(key->text, im->outer) : NULL;
        if (inner && begins_with_any(inner, beside_crnn)) im->alone = false;
    }
    for (int m = ES_IMPORT_FPASST; m <= ES_IMPORT_BEATS; m++)
        for (int a = 0; a < 2; a++)
            if (has_key(im->dict, im->outer, "as_model.model.", models[m].anchor[a]))
                im->arch = m == ES_IMPORT_FPASST ? ES_ARCH_FPASST : ES_ARCH_BEATS;
    im->wrapper = has_key(im->dict, im->outer, "as_model.", "head_linear_layer.weight") ||
                  has_key(im->dict, im->outer, "as_model.", "head_linear_layer.bias");
}

int es_import_choose(struct es_import *im, const struct es_value *root, const char *which, const char *path,
                     struct es_err *err) {
    const char *const nested[] = {which, "state_dict", "model", "model_state_dict"};
    const int n = sizeof nested / sizeof *nested;
    char what[120];
    im->which = which;
    for (int anchor = 0; anchor < 2; anchor++)
        for (int i = 0; i <= n; i++)
            if (recognise(im, i < n ? es_value_get(root, nested[i]) : root, anchor)) {
                if (im->model == ES_IMPORT_SED) recognise_arch(im);
                return 0;
            }
    if (root->kind != ES_VALUE_DICT) {
        es_value_describe(root, what, sizeof what);
        return es_err_set(err, ES_EDATA, "%s: holds %s, want a dictionary of tensors (a state_dict)", path,
                          what);
    }
    for (int i = 0; i < n; i++) {
        const struct es_value *v = es_value_get(root, nested[i]);
        if (!v || v->kind != ES_VALUE_OBJECT) continue;
        es_value_describe(v, what, sizeof what);
        return es_err_set(err, ES_EDATA, "%s: %s is %s, want a dictionary of tensors", path, nested[i], what);
    }
    return es_err_set(err, ES_EDATA, "%s: no %s in it: want an entry %s%s, as such or behind a known prefix",
                      path, models[im->model].name, models[im->model].to, models[im->model].anchor[0]);
}

const struct es_value *es_import_find_deit(const struct es_value *root) {
    const struct es_value *dict[] = {es_value_get(root, "model"), root};
    for (int i = 0; i < 2; i++)
        if (es_value_get(dict[i], "pos_embed") && es_value_get(dict[i], "dist_token") &&
            es_value_get(dict[i], "patch_embed.proj.weight") && !es_value_get(dict[i], "time_new_pos_embed"))
            return dict[i];
    return NULL;
}

/* ---- names */
/* Our name of a key of the chosen dictionary. false: left out on purpose. */
static bool our_name(const struct es_import *im, const char *key, char *out, size_t size) {
    const struct import_layout *l = im->layout;
    const char *inner = behind(key, im->outer), *rest;
    bool lightning = strcmp(im->outer, "student.") == 0 || strcmp(im->outer, "teacher.") == 0;
    if (!inner) {
        snprintf(out, size, "%s", key);
        return !lightning && !l->drop_rest; /* beside student.*: the other network, mel buffers */
    }
    if (l->head && (rest = behind(inner, l->head))) {
        snprintf(out, size, "head_linear_layer.%s", rest);
        return true;
    }
    rest = behind(inner, l->prefix);
    if (!rest || (l->drop_heads && begins_with_any(inner, heads))) {
        snprintf(out, size, "%s", inner);
        return !l->drop_rest && !(l->drop_heads && begins_with_any(inner, heads));
    }
    snprintf(out, size, "%s%s", models[im->model].to, rest);
    if (strcmp(l->prefix, "model.teacher.encoder.") == 0 && (rest = behind(rest, "norm.")))
        snprintf(out, size, "atst.norm_frame.%s", rest);
    return !begins_with_any(out, unused);
}

static void rename_weight_norm(char *name, size_t size) {
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++) {
        char *at = strstr(name, renamed[i][0]);
        if (at && at[strlen(renamed[i][0])] == '\0')
            snprintf(at, size - (size_t)(at - name), "%s", renamed[i][1]);
    }
}

/* ---- comparing */
static void shape_text(int ndim, const int64_t *shape, char out[100]) {
    int at = snprintf(out, 100, "[");
    for (int d = 0; d < ndim && at < 80; d++)
        at += snprintf(out + at, (size_t)(100 - at), "%s%lld", d ? "," : "", (long long)shape[d]);
    snprintf(out + at, (size_t)(100 - at), "]");
}

static int match_one(struct es_import *im, const char *name, const struct es_value *v, struct es_err *err) {
    char detail[260], got[100], want[100];
    int i = find(im, name);
    if (i < 0) return es_import_note(im, ES_IMPORT_EXTRA, name, "", err);
    struct es_import_entry *e = &im->entry[i];
    if (e->view) return es_import_note(im, ES_IMPORT_TWICE, name, "", err);
    if (v->kind != ES_VALUE_TENSOR) {
        es_value_describe(v, detail, sizeof detail);
        return es_import_note(im, ES_IMPORT_NOT_TENSOR, name, detail, err);
    }
    e->view = v->view;
    if (v->view->ndim != e->ndim ||
        memcmp(v->view->shape, e->shape, (size_t)e->ndim * sizeof *e->shape) != 0) {
        shape_text(v->view->ndim, v->view->shape, got);
        shape_text(e->ndim, e->shape, want);
        snprintf(detail, sizeof detail, "%s, want %s", got, want);
        return es_import_note(im, ES_IMPORT_SHAPE, name, detail, err);
    }
    if (e->counter ? v->view->dtype != ES_DTYPE_I64 : !es_dtype_is_float(v->view->dtype)) {
        snprintf(detail, sizeof detail, "%s, want %s", es_dtype_name(v->view->dtype),
                 e->counter ? "int64" : "float32, float16, bfloat16 or float64");
        return es_import_note(im, ES_IMPORT_DTYPE, name, detail, err);
    }
    return 0;
}

int es_import_match(struct es_import *im, struct es_err *err) {
    char name[256];
    for (uint32_t k = 0; k < im->dict->n; k += 2) {
        const struct es_value *key = im->dict->item[k];
        if (key->kind != ES_VALUE_TEXT || strlen(key->text) != key->n || key->n >= sizeof name - 100) {
            ES_TRY(es_import_note(im, ES_IMPORT_EXTRA, key->kind == ES_VALUE_TEXT ? key->text : "?",
                                  "not a name", err));
            continue;
        }
        if (!our_name(im, key->text, name, sizeof name)) {
            im->n_dropped++;
            continue;
        }
        rename_weight_norm(name, sizeof name);
        ES_TRY(match_one(im, name, im->dict->item[k + 1], err));
    }
    for (int i = 0; i < im->n; i++) {
        struct es_import_entry *e = &im->entry[i];
        if (e->alias_of >= 0 && !e->view) e->view = im->entry[e->alias_of].view;
        if (!e->view && !e->optional && e->alias_of < 0)
            ES_TRY(es_import_note(im, ES_IMPORT_MISSING, e->name, "", err));
    }
    return 0;
}

int es_import_check(const struct es_import *im, const char *path, struct es_err *err) {
    char list[800] = "";
    if (im->n_problems == 0) return 0;
    for (int i = 0; i < im->n_problems && i < SHOWN; i++) {
        const struct es_import_problem *p = &im->problem[i];
        size_t at = strlen(list);
        snprintf(list + at, sizeof list - at, "%s%s %s%s%s%s", i ? ", " : "", p->name,
                 troubles[p->trouble][1], p->detail[0] ? " (" : "", p->detail, p->detail[0] ? ")" : "");
    }
    return es_err_set(err, ES_EDATA, "%s: not the weights of this %s: %d entries do not fit: %s%s", path,
                      models[im->model].name, im->n_problems, list, im->n_problems > SHOWN ? ", ..." : "");
}

void es_import_report(const struct es_import *im, struct es_json *j) {
    for (int t = 0; t < ES_N_IMPORT_TROUBLES; t++) {
        es_json_key(j, troubles[t][0]);
        es_json_begin_array(j);
        for (int i = 0; i < im->n_problems; i++) {
            const struct es_import_problem *p = &im->problem[i];
            if ((int)p->trouble != t) continue;
            es_json_begin_object(j);
            es_json_put_string(j, "name", p->name);
            if (p->detail[0]) es_json_put_string(j, "detail", p->detail);
            es_json_end_object(j);
        }
        es_json_end_array(j);
    }
    es_json_put_int(j, "dropped", im->n_dropped);
}

/* ---- BEATs' cfg */
int es_import_check_cfg(const struct es_value *root, const struct es_transformer_config *c, const char *path,
                        struct es_err *err) {
    const struct es_beats_config *b = &c->beats;
    const struct {
        const char *key;
        double want;
    } rows[] = {
        {"encoder_layers", c->depth},
        {"encoder_embed_dim", c->dim},
        {"encoder_ffn_embed_dim", c->mlp},
        {"encoder_attention_heads", c->heads},
        {"input_patch_size", 16},
        {"embed_dim", b->patch_embed},
        {"conv_bias", 0},
        {"conv_pos", b->conv_taps},
        {"conv_pos_groups", b->conv_groups},
        {"num_buckets", b->buckets},
        {"max_distance", b->max_distance},
        {"layer_norm_first", 0},
        {"deep_norm", 1},
        {"relative_position_embedding", 1},
        {"gru_rel_pos", 1},
    };
    const struct es_value *cfg = es_value_get(root, "cfg");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double got;
        if (es_value_number(es_value_get(cfg, rows[i].key), &got) && !(got == rows[i].want))
            return es_err_set(err, ES_EDATA, "%s: cfg.%s: got %g, want %g", path, rows[i].key, got,
                              rows[i].want);
    }
    return 0;
}

void es_import_report_cfg(const struct es_value *root, struct es_json *j) {
    const struct es_value *cfg = es_value_get(root, "cfg");
    if (!cfg || cfg->kind != ES_VALUE_DICT) return;
    es_json_key(j, "cfg");
    es_json_begin_object(j);
    for (uint32_t i = 0; i < cfg->n; i += 2) {
        double x;
        if (cfg->item[i]->kind == ES_VALUE_TEXT && es_value_number(cfg->item[i + 1], &x))
            es_json_put_number(j, cfg->item[i]->text, x);
    }
    es_json_end_object(j);
}
