/* The table in words: messages, --explain, configs/reference.yaml. */
#include <errno.h>
#include <string.h>

#include "config_impl.h"
#include "earshot/version.h"

static void add_range(const struct es_config_key *key, struct es_text *t) {
    const char *r = key->range, *dots = r ? strstr(r, "..") : NULL;
    if (dots && dots[2] == '<')
        es_text_add(t, " from %.*s to below %s", (int)(dots - r), r, dots + 3);
    else if (dots)
        es_text_add(t, " from %.*s to %s", (int)(dots - r), r, dots + 2);
    else if (r)
        es_text_add(t, r[1] == '=' ? " >= %s" : " > %s", r + (r[1] == '=' ? 2 : 1));
}

static void add_words(const char *words, const char *between, struct es_text *t) {
    for (const char *w = words; *w;) {
        size_t len = strcspn(w, "|");
        es_text_add(t, "%s%.*s", w == words ? "" : between, (int)len, w);
        w += len + (w[len] == '|');
    }
}

/* "an integer from 1 to 64", "a list of 5 numbers >= 0", "one of a, b" */
static void add_want(const struct es_config_key *key, struct es_text *t) {
    static const char *const one[] = {"true or false", "an integer", "a number",
                                      "a text",        "one of ",    "a path"};
    static const char *const many[] = {"integers", "numbers", "texts", "paths"};
    if (es_config_is_list(key)) {
        es_text_add(t, "a list of ");
        if (key->count) es_text_add(t, "%d ", key->count);
        es_text_add(t, "%s", many[key->type - ES_CONFIG_INTS]);
    } else {
        es_text_add(t, "%s", one[key->type]);
    }
    if (key->choices) add_words(key->choices, ", ", t);
    add_range(key, t);
}

void es_config_want(const struct es_config_key *key, char *out, size_t size) {
    struct es_text t = {0};
    add_want(key, &t);
    snprintf(out, size, "%s", t.s ? t.s : "a valid value");
    es_text_free(&t);
}

/* "an integer from 0 to 64, in steps; only with phase stage1, stage2" */
static void add_facts(const struct es_config_key *key, struct es_text *t) {
    add_want(key, t);
    if (key->unit) es_text_add(t, ", in %s", key->unit);
    if (key->only) {
        const char *eq = strchr(key->only, '=');
        es_text_add(t, "; only with %.*s ", (int)(eq - key->only), key->only);
        add_words(eq + 1, ", ", t);
    }
}

static void explain_key(const struct es_config_key *key, const struct es_config *cfg, struct es_text *t) {
    es_text_add(t, "%s: %s\n  value:   ", key->name, key->doc);
    add_facts(key, t);
    es_text_add(t, "\n  default: %s\n", *key->preset ? key->preset : "\"\"");
    es_text_add(t, "  since:   %s; a resumed run %s\n", key->since,
                key->outside_digest ? "may change it" : "must keep it (part of the digest)");
    if (!cfg) return;
    es_text_add(t, "  here:    ");
    es_config_value_text(key, &cfg->value[es_config_find(key->name)], t);
    es_text_add(t, ", from %s\n", es_config_where(cfg, key->name));
}

static void explain_section(const char *name, const struct es_config *cfg, struct es_text *t) {
    int n = 0;
    const struct es_config_key *table = es_config_keys(&n);
    size_t len = strlen(name);
    for (int i = 0; i < n; i++) {
        if (strncmp(table[i].name, name, len) != 0 || table[i].name[len] != '.') continue;
        es_text_add(t, "%s = ", table[i].name);
        if (cfg)
            es_config_value_text(&table[i], &cfg->value[i], t);
        else
            es_text_add(t, "%s", *table[i].preset ? table[i].preset : "\"\"");
        es_text_add(t, "\n    %s; ", table[i].doc);
        add_facts(&table[i], t);
        es_text_add(t, "\n");
    }
}

static int put(struct es_text *t, FILE *out, struct es_err *err) {
    int rc = es_text_check(t, err);
    if (rc == 0 && out && fwrite(t->s, 1, t->n, out) != t->n)
        rc = es_err_set(err, ES_EIO, "cannot write: %s", strerror(errno));
    es_text_free(t);
    return rc;
}

int es_config_explain(const char *key, const struct es_config *cfg, FILE *out, struct es_err *err) {
    struct es_text t = {0};
    int row = es_config_find(key);
    if (row >= 0)
        explain_key(&es_config_keys(NULL)[row], cfg, &t);
    else if (es_config_is_section(key))
        explain_section(key, cfg, &t);
    else
        return es_config_unknown("--explain", key, false, err);
    return put(&t, out, err);
}

int es_config_write_reference(FILE *out, struct es_err *err) {
    int n = 0;
    const struct es_config_key *table = es_config_keys(&n);
    struct es_text t = {0};
    const char *section = "";
    size_t section_len = 0;
    es_text_add(&t,
                "# Every key of earshot %s with its default. Generated: earshot --reference > "
                "configs/reference.yaml\n"
                "# The key `cnn_lr` of section `optimizer` is optimizer.cnn_lr in --set and --explain.\n\n",
                ES_VERSION);
    for (int i = 0; i < n; i++) {
        const char *name = table[i].name, *dot = strchr(name, '.'), *indent = dot ? "  " : "";
        size_t len = dot ? (size_t)(dot - name) : 0;
        if (len != section_len || strncmp(name, section, len) != 0) {
            section = name;
            section_len = len;
            es_text_add(&t, "\n%.*s%s", (int)len, name, dot ? ":\n" : "");
        }
        es_text_add(&t, "%s# %s\n%s#   ", indent, table[i].doc, indent);
        add_facts(&table[i], &t);
        es_text_add(&t, "%s\n%s%s: %s\n", table[i].outside_digest ? "; may change on resume" : "", indent,
                    dot ? dot + 1 : name, *table[i].preset ? table[i].preset : "\"\"");
    }
    return put(&t, out, err);
}
