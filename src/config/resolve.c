/* From texts to resolved values: defaults < extends < file < --set; then the getters, the digest, the
 * resolved file. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_impl.h"
#include "earshot/fault.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/version.h"

#define MAX_BYTES (1u << 20)
#define MAX_LEVELS 16

int es_config_assign(struct es_config *cfg, int row, const struct es_config_raw *raw,
                     enum es_config_layer layer, struct es_err *err) {
    const struct es_config_key *key = &es_config_keys(NULL)[row];
    struct es_config_value *old = &cfg->value[row], new = {0};
    if (old->where && old->source == cfg->n_sources)
        return es_err_set(err, ES_EUSAGE, "%s: %s: given twice, first at %s", raw->where, key->name,
                          old->where);
    ES_TRY(es_config_value_parse(key, raw, &new, err));
    new.layer = layer;
    new.source = cfg->n_sources;
    new.where = es_strdup(raw->where, err);
    if (!new.where) {
        es_config_value_clear(&new);
        return -ES_EIO;
    }
    es_config_value_clear(old);
    *old = new;
    return 0;
}

/* text as in the table or behind --set: scalars as they are, lists as YAML with or without brackets. */
static int assign_text(struct es_config *cfg, int row, const char *where, const char *text,
                       enum es_config_layer layer, struct es_err *err) {
    const struct es_config_key *key = &es_config_keys(NULL)[row];
    if (!es_config_is_list(key)) {
        struct es_config_raw raw = {.where = where, .n = 1, .item = text};
        cfg->n_sources++;
        cfg->finished = false;
        return es_config_assign(cfg, row, &raw, layer, err);
    }
    struct es_text yaml = {0};
    bool open = text[0] != '[';
    es_text_add(&yaml, "%s: %s%s%s\n", key->name, open ? "[" : "", text, open ? "]" : "");
    int rc = es_text_check(&yaml, err);
    if (rc == 0) rc = es_config_yaml_load(cfg, where, yaml.s, yaml.n, layer, err);
    es_text_free(&yaml);
    return rc;
}

static int assign_default(struct es_config *cfg, int row, struct es_err *err) {
    struct es_err own = {0};
    int rc = assign_text(cfg, row, "default", es_config_keys(NULL)[row].preset, ES_LAYER_DEFAULT, &own);
    if (rc == -ES_EUSAGE) es_bug(__FILE__, __LINE__, own.msg);
    if (rc == 0) es_free(&cfg->value[row].where);
    return rc < 0 ? es_err_set(err, ES_EIO, "%s", own.msg) : 0;
}

int es_config_new(struct es_config **cfg, struct es_err *err) {
    int n = 0;
    es_config_keys(&n);
    *cfg = es_alloc(1, sizeof **cfg, err);
    if (!*cfg) return -ES_EIO;
    (*cfg)->value = es_alloc((size_t)n, sizeof *(*cfg)->value, err);
    int rc = (*cfg)->value ? 0 : -ES_EIO;
    for (int row = 0; rc == 0 && row < n; row++) rc = assign_default(*cfg, row, err);
    if (rc < 0) es_config_free(cfg);
    return rc;
}

void es_config_free(struct es_config **cfg) {
    if (!*cfg) return;
    int n = 0;
    es_config_keys(&n);
    for (int i = 0; (*cfg)->value && i < n; i++) es_config_value_clear(&(*cfg)->value[i]);
    es_free(&(*cfg)->value);
    es_free(cfg);
}

/* ---- files: a pack is, base first, for each file: its name, a zero, the length as 8 bytes, the text */

/* from: the file that extends this one, or NULL. */
static int read_file(const char *path, const char *from, struct es_text *out, struct es_err *err) {
    char block[4096];
    FILE *f = fopen(path, "rb");
    if (!f)
        return es_err_set(err, ES_EUSAGE, "%s: cannot open the configuration%s%s: %s", path,
                          from ? " extended by " : "", from ? from : "", strerror(errno));
    int rc = 0;
    for (size_t k; rc == 0 && (k = fread(block, 1, sizeof block, f)) > 0;) {
        es_text_add_bytes(out, block, k);
        if (out->n > MAX_BYTES)
            rc = es_err_set(err, ES_EUSAGE, "%s: more than 1 MB: not a configuration", path);
    }
    if (rc == 0 && (es_fault_hit("read") ? (errno = EIO) : ferror(f)))
        rc = es_err_set(err, ES_EUSAGE, "%s: cannot read the configuration: %s", path, strerror(errno));
    fclose(f);
    return rc < 0 ? rc : es_text_check(out, err);
}

/* file relative to the folder of base. */
static int beside(const char *base, const char *file, char out[PATH_MAX], struct es_err *err) {
    const char *slash = strrchr(base, '/');
    int folder = file[0] == '/' || !slash ? 0 : (int)(slash - base) + 1;
    if (snprintf(out, PATH_MAX, "%.*s%s", folder, base, file) >= PATH_MAX)
        return es_err_set(err, ES_EUSAGE, "%s: extends: the path is too long", base);
    return 0;
}

static void pack(struct es_text *out, const char *path, const struct es_text *text) {
    uint64_t n = text->n;
    es_text_add_bytes(out, path, strlen(path) + 1);
    es_text_add_bytes(out, &n, sizeof n);
    es_text_add_bytes(out, text->s ? text->s : "", text->n);
}

static int read_level(const char *path, const char *from, struct stat seen[MAX_LEVELS], int level,
                      struct es_text *out, struct es_err *err) {
    struct es_text text = {0}, extends = {0};
    char base[PATH_MAX];
    int rc = 0;
    if (level == MAX_LEVELS)
        return es_err_set(err, ES_EUSAGE, "%s: extends: more than %d levels", path, MAX_LEVELS);
    ES_GO(read_file(path, from, &text, err));
    if (stat(path, &seen[level]) != 0) ES_GO(es_err_set(err, ES_EUSAGE, "%s: %s", path, strerror(errno)));
    for (int i = 0; i < level; i++)
        if (seen[i].st_ino == seen[level].st_ino && seen[i].st_dev == seen[level].st_dev)
            ES_GO(es_err_set(err, ES_EUSAGE,
                             "%s: extends: a circle: this file extends itself through %d files", path,
                             level - i));
    ES_GO(es_config_yaml_extends(path, text.s ? text.s : "", text.n, &extends, err));
    for (size_t at = 0; at < extends.n; at += strlen(extends.s + at) + 1) {
        ES_GO(beside(path, extends.s + at, base, err));
        ES_GO(read_level(base, path, seen, level + 1, out, err));
    }
    pack(out, path, &text);
    if (out->n > 4 * MAX_BYTES) /* lists may name files many times */
        ES_GO(es_err_set(err, ES_EUSAGE, "%s: extends: more than 4 MB in all", path));
    rc = es_text_check(out, err);
done:
    es_text_free(&extends);
    es_text_free(&text);
    return rc;
}

int es_config_read(const char *path, char **bytes, size_t *n, struct es_err *err) {
    struct stat seen[MAX_LEVELS];
    struct es_text out = {0};
    int rc = read_level(path, NULL, seen, 0, &out, err);
    if (rc < 0) {
        es_text_free(&out);
        return rc;
    }
    *bytes = out.s;
    *n = out.n;
    return 0;
}

int es_config_parse(struct es_config *cfg, const char *bytes, size_t n, struct es_err *err) {
    for (size_t at = 0; at < n;) {
        const char *name = bytes + at;
        uint64_t len = 0;
        at += strlen(name) + 1;
        memcpy(&len, bytes + at, sizeof len);
        at += sizeof len;
        ES_ASSERT(at <= n && len <= n - at);
        bool own = at + len == n;
        ES_TRY(es_config_yaml_load(cfg, name, bytes + at, len, own ? ES_LAYER_OWN : ES_LAYER_BASE, err));
        at += len;
    }
    return 0;
}

int es_config_load(struct es_config *cfg, const char *path, struct es_err *err) {
    char *bytes = NULL;
    size_t n = 0;
    ES_TRY(es_config_read(path, &bytes, &n, err));
    int rc = es_config_parse(cfg, bytes, n, err);
    es_free(&bytes);
    return rc;
}

int es_config_load_text(struct es_config *cfg, const char *name, const char *text, struct es_err *err) {
    struct es_text extends = {0};
    int rc = es_config_yaml_extends(name, text, strlen(text), &extends, err);
    if (rc == 0 && extends.n > 0)
        rc = es_err_set(err, ES_EUSAGE, "%s: extends: not possible in this text", name);
    if (rc == 0) rc = es_config_yaml_load(cfg, name, text, strlen(text), ES_LAYER_OWN, err);
    es_text_free(&extends);
    return rc;
}

int es_config_set(struct es_config *cfg, const char *assignment, struct es_err *err) {
    const char *eq = strchr(assignment, '=');
    char name[128];
    size_t len = eq ? (size_t)(eq - assignment) : 0;
    if (len == 0 || len >= sizeof name || strchr(assignment, '\n'))
        return es_err_set(err, ES_EUSAGE, "--set: got \"%.80s\", want key=value", assignment);
    if (es_utf8_check(assignment, strlen(assignment)) < strlen(assignment))
        return es_err_set(err, ES_EUSAGE, "--set: %.*s: not UTF-8 text", (int)len, assignment);
    memcpy(name, assignment, len);
    name[len] = 0;
    int row = es_config_find(name);
    if (row < 0) return es_config_unknown("--set", name, es_config_is_section(name), err);
    return assign_text(cfg, row, "--set", eq + 1, ES_LAYER_OWN, err);
}

/* ---- after the last value */

static bool same_value(int row, const struct es_config_value *a, const struct es_config_value *b) {
    const struct es_config_key *key = &es_config_keys(NULL)[row];
    if (a->i != b->i || memcmp(&a->d, &b->d, sizeof a->d) != 0 || a->n != b->n ||
        (a->s && strcmp(a->s, b->s) != 0))
        return false;
    for (int i = 0; i < a->n; i++) {
        if (key->type == ES_CONFIG_INTS && a->ints[i] != b->ints[i]) return false;
        if (key->type == ES_CONFIG_DOUBLES && memcmp(&a->doubles[i], &b->doubles[i], sizeof(double)) != 0)
            return false;
        if (a->strings && strcmp(a->strings[i], b->strings[i]) != 0) return false;
    }
    return true;
}

/* Does the choice that key->only names match? True also when that choice was left at its default: then
 * nothing is known. */
static bool is_used(const struct es_config *cfg, const struct es_config_key *key, char selector[32]) {
    if (!key->only) return true;
    const char *words = strchr(key->only, '=') + 1;
    snprintf(selector, 32, "%.*s", (int)(words - 1 - key->only), key->only);
    const struct es_config_value *v = &cfg->value[es_config_require_row(selector, 1u << ES_CONFIG_CHOICE)];
    if (v->layer == ES_LAYER_DEFAULT) return true;
    return es_text_has_word(words, v->s);
}

static int settle_unused(struct es_config *cfg, struct es_config *defaults, struct es_err *err) {
    int n = 0;
    const struct es_config_key *table = es_config_keys(&n);
    for (int row = 0; row < n; row++) {
        char selector[32];
        struct es_config_value *v = &cfg->value[row], *d = &defaults->value[row], t = *v;
        if (v->layer == ES_LAYER_DEFAULT || is_used(cfg, &table[row], selector) || same_value(row, v, d))
            continue;
        if (v->layer == ES_LAYER_OWN)
            return es_err_set(err, ES_EUSAGE,
                              "%s: %s: not used with %s %s; remove it; see earshot %s --explain %s", v->where,
                              table[row].name, selector, es_config_string(cfg, selector),
                              es_config_job(table[row].name), table[row].name);
        *v = *d;
        *d = t;
    }
    return 0;
}

/* Rules between keys. */
static int check_together(const struct es_config *cfg, struct es_err *err) {
    int n = 0, n_time = 0, n_freq = 0;
    es_config_ints(cfg, "crnn.filters", &n);
    es_config_ints(cfg, "crnn.pool_time", &n_time);
    es_config_ints(cfg, "crnn.pool_freq", &n_freq);
    if (n < 1 || n != n_time || n != n_freq)
        return es_err_set(
            err, ES_EUSAGE,
            "%s: crnn.filters: got %d blocks with %d crnn.pool_time and %d crnn.pool_freq, want as many",
            es_config_where(cfg, "crnn.filters"), n, n_time, n_freq);
    int dim = es_config_int(cfg, "model.dim"), heads = es_config_int(cfg, "model.heads");
    if (dim % heads != 0)
        return es_err_set(err, ES_EUSAGE, "%s: model.heads: got %d, want a divisor of model.dim %d",
                          es_config_where(cfg, "model.heads"), heads, dim);
    const int *bands = es_config_ints(cfg, "augment.filter_bands", &n);
    if (bands[0] > bands[1])
        return es_err_set(err, ES_EUSAGE, "%s: augment.filter_bands: got [%d, %d], want the fewer first",
                          es_config_where(cfg, "augment.filter_bands"), bands[0], bands[1]);
    double lo = es_config_double(cfg, "augment.time_mask_min"),
           hi = es_config_double(cfg, "augment.time_mask_max");
    if (lo > hi)
        return es_err_set(err, ES_EUSAGE,
                          "%s: augment.time_mask_min: got %g, want at most augment.time_mask_max %g",
                          es_config_where(cfg, "augment.time_mask_min"), lo, hi);
    lo = es_config_double(cfg, "demo.snr_min_db");
    hi = es_config_double(cfg, "demo.snr_max_db");
    if (lo > hi)
        return es_err_set(err, ES_EUSAGE, "%s: demo.snr_min_db: got %g, want at most demo.snr_max_db %g",
                          es_config_where(cfg, "demo.snr_min_db"), lo, hi);
    return 0;
}

int es_config_finish(struct es_config *cfg, struct es_err *err) {
    struct es_config *defaults = NULL;
    struct es_text t = {0};
    int n = 0, rc = 0;
    const struct es_config_key *table = es_config_keys(&n);
    ES_GO(es_config_new(&defaults, err));
    ES_GO(settle_unused(cfg, defaults, err));
    ES_GO(check_together(cfg, err));
    for (int row = 0; row < n; row++) {
        if (table[row].outside_digest) continue;
        es_text_add(&t, "%s: ", table[row].name);
        es_config_value_text(&table[row], &cfg->value[row], &t);
        es_text_add(&t, "\n");
    }
    ES_GO(es_text_check(&t, err));
    cfg->digest = es_hash_bytes(t.s, t.n);
    cfg->finished = true;
done:
    es_text_free(&t);
    es_config_free(&defaults);
    return rc;
}

uint64_t es_config_digest(const struct es_config *cfg) {
    ES_ASSERT(cfg->finished);
    return cfg->digest;
}

int es_config_diff(const struct es_config *a, const struct es_config *b, char *names, size_t size) {
    int n = 0, differ = 0;
    const struct es_config_key *table = es_config_keys(&n);
    size_t at = 0;
    if (names && size > 0) names[0] = 0;
    for (int row = 0; row < n; row++) {
        if (table[row].outside_digest || same_value(row, &a->value[row], &b->value[row])) continue;
        if (names && at < size)
            at += (size_t)snprintf(names + at, size - at, "%s%s", differ > 0 ? ", " : "", table[row].name);
        differ++;
    }
    return differ;
}

/* The default of a choice that nobody made is not written when a key for another choice is set: read again, it would rule that
 * key out. */
static bool is_left_out(const struct es_config *cfg, const struct es_config *defaults, int selector) {
    int n = 0;
    const struct es_config_key *table = es_config_keys(&n);
    const struct es_config_value *v = &cfg->value[selector];
    size_t len = strlen(table[selector].name);
    if (v->layer != ES_LAYER_DEFAULT) return false;
    for (int row = 0; row < n; row++) {
        const char *only = table[row].only;
        if (only && strncmp(only, table[selector].name, len) == 0 && only[len] == '=' &&
            !es_text_has_word(only + len + 1, v->s) &&
            !same_value(row, &cfg->value[row], &defaults->value[row]))
            return true;
    }
    return false;
}

static void add_yaml(const struct es_config *cfg, const struct es_config *defaults, struct es_text *t) {
    int n = 0;
    const struct es_config_key *table = es_config_keys(&n);
    const char *section = "";
    size_t len = 0;
    es_text_add(t, "# Resolved by earshot %s: every key\n", ES_VERSION);
    for (int row = 0; row < n; row++) {
        const char *name = table[row].name, *dot = strchr(name, '.');
        if (dot && ((size_t)(dot - name) != len || strncmp(name, section, len) != 0)) {
            section = name;
            len = (size_t)(dot - name);
            es_text_add(t, "%.*s:\n", (int)len, section);
        }
        es_text_add(t, "%s%s%s: ", dot ? "  " : "", is_left_out(cfg, defaults, row) ? "# not chosen: " : "",
                    dot ? dot + 1 : name);
        es_config_value_text(&table[row], &cfg->value[row], t);
        es_text_add(t, "\n");
    }
}

int es_config_to_yaml(const struct es_config *cfg, char **text, struct es_err *err) {
    struct es_config *defaults = NULL;
    struct es_text t = {0};
    ES_TRY(es_config_new(&defaults, err));
    add_yaml(cfg, defaults, &t);
    es_config_free(&defaults);
    int rc = es_text_check(&t, err);
    if (rc == 0)
        *text = t.s;
    else
        es_text_free(&t);
    return rc;
}

int es_config_write_yaml(const struct es_config *cfg, const char *path, struct es_err *err) {
    char *text = NULL;
    ES_TRY(es_config_to_yaml(cfg, &text, err));
    int rc = es_text_save(path, text, strlen(text), err);
    es_free(&text);
    return rc;
}

/* ---- getters */

static const struct es_config_value *get(const struct es_config *cfg, const char *key, unsigned type_mask) {
    return &cfg->value[es_config_require_row(key, type_mask)];
}

#define TYPE(t) (1u << ES_CONFIG_##t)

bool es_config_bool(const struct es_config *cfg, const char *key) {
    return get(cfg, key, TYPE(BOOL))->i != 0;
}
int es_config_int(const struct es_config *cfg, const char *key) {
    return es_int_from_i64(es_config_i64(cfg, key));
}
int64_t es_config_i64(const struct es_config *cfg, const char *key) {
    return get(cfg, key, TYPE(INT))->i;
}
double es_config_double(const struct es_config *cfg, const char *key) {
    return get(cfg, key, TYPE(DOUBLE))->d;
}

const char *es_config_string(const struct es_config *cfg, const char *key) {
    return get(cfg, key, TYPE(STRING) | TYPE(CHOICE) | TYPE(PATH))->s;
}

bool es_config_is(const struct es_config *cfg, const char *key, const char *choice) {
    const struct es_config_value *v = get(cfg, key, TYPE(CHOICE));
    ES_ASSERT(es_text_has_word(es_config_keys(NULL)[v - cfg->value].choices, choice));
    return strcmp(v->s, choice) == 0;
}

const int *es_config_ints(const struct es_config *cfg, const char *key, int *n) {
    const struct es_config_value *v = get(cfg, key, TYPE(INTS));
    *n = v->n;
    return v->ints;
}

const double *es_config_doubles(const struct es_config *cfg, const char *key, int *n) {
    const struct es_config_value *v = get(cfg, key, TYPE(DOUBLES));
    *n = v->n;
    return v->doubles;
}

const char *const *es_config_strings(const struct es_config *cfg, const char *key, int *n) {
    const struct es_config_value *v = get(cfg, key, TYPE(STRINGS) | TYPE(PATHS));
    *n = v->n;
    return (const char *const *)v->strings;
}

const char *es_config_where(const struct es_config *cfg, const char *key) {
    const struct es_config_value *v = get(cfg, key, ~0u);
    return v->where ? v->where : "default";
}

int es_config_require(const struct es_config *cfg, const char *key, struct es_err *err) {
    const struct es_config_value *v = get(cfg, key, ~0u);
    const struct es_config_key *row = &es_config_keys(NULL)[v - cfg->value];
    char want[256];
    if (es_config_is_list(row) ? v->n > 0 : !v->s || *v->s) return 0;
    es_config_want(row, want, sizeof want);
    return es_err_set(err, ES_EUSAGE, "%s: %s: empty, want %s; see earshot %s --explain %s",
                      es_config_where(cfg, key), key, want, es_config_job(key), key);
}
