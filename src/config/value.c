/* One value: from text to its type, and back. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config_impl.h"
#include "earshot/mem.h"

bool es_config_is_list(const struct es_config_key *key) {
    return key->type >= ES_CONFIG_INTS;
}

void es_config_value_clear(struct es_config_value *v) {
    if (v->strings)
        for (int i = 0; i < v->n; i++) es_free(&v->strings[i]);
    es_free(&v->strings);
    es_free(&v->doubles);
    es_free(&v->ints);
    es_free(&v->s);
    es_free(&v->where);
    *v = (struct es_config_value){0};
}

/* ${VAR} and ${VAR:-default}; $${ stands for a plain ${. A variable that is not set and has no default is an
 * error. */
int es_config_expand(const char *where, const char *what, const char *s, struct es_text *out,
                     struct es_err *err) {
    es_text_add(out, "%s", "");
    while (*s) {
        if (strncmp(s, "$${", 3) == 0) {
            es_text_add(out, "${");
            s += 3;
            continue;
        }
        if (strncmp(s, "${", 2) != 0) {
            es_text_add_bytes(out, s++, 1);
            continue;
        }
        const char *end = strchr(s, '}');
        size_t len = strspn(s + 2, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
        const char *rest = s + 2 + len;
        char name[128];
        if (!end || len == 0 || len >= sizeof name || (rest != end && strncmp(rest, ":-", 2) != 0))
            return es_err_set(err, ES_EUSAGE, "%s: %s: got \"%.80s\", want ${VAR} or ${VAR:-default}", where,
                              what, s);
        memcpy(name, s + 2, len);
        name[len] = 0;
        const char *value = getenv(name);
        if (value && (*value || rest == end))
            es_text_add(out, "%s", value);
        else if (rest != end)
            es_text_add_bytes(out, rest + 2, (size_t)(end - rest - 2));
        else
            return es_err_set(
                err, ES_EUSAGE,
                "%s: %s: the environment variable %s is not set; set it, or write ${%s:-default}", where,
                what, name, name);
        s = end + 1;
    }
    return es_text_check(out, err);
}

static bool in_range(const char *range, double v) {
    if (!range) return true;
    if (range[0] == '>') {
        bool closed = range[1] == '=';
        double lo = strtod(range + 1 + closed, NULL);
        return closed ? v >= lo : v > lo;
    }
    const char *dots = strstr(range, "..");
    ES_ASSERT(dots);
    bool open = dots[2] == '<';
    double lo = strtod(range, NULL), hi = strtod(dots + 2 + open, NULL); /* "1." of "1..64" is 1 */
    return v >= lo && (open ? v < hi : v <= hi);
}

static bool parse_int(const char *s, int64_t *v) {
    const char *digits = s + (*s == '-' || *s == '+');
    if (!*digits || digits[strspn(digits, "0123456789")]) return false;
    errno = 0;
    long long x = strtoll(s, NULL, 10);
    *v = x;
    return errno == 0;
}

static bool parse_double(const char *s, double *v) {
    if (!*s || s[strspn(s, "0123456789+-.eE")]) return false; /* neither hexadecimal nor inf nor nan */
    char *end = NULL;
    *v = strtod(s, &end);
    return *end == 0 && isfinite(*v);
}

static int refuse(const struct es_config_key *key, const struct es_config_raw *raw, const char *got,
                  struct es_err *err) {
    char want[256], shown[88];
    es_config_want(key, want, sizeof want);
    if (raw->null)
        snprintf(shown, sizeof shown, "nothing");
    else if (strlen(got) > 70)
        snprintf(shown, sizeof shown, "\"%.67s...\"", got);
    else
        snprintf(shown, sizeof shown, "\"%s\"", got);
    return es_err_set(err, ES_EUSAGE, "%s: %s: got %s, want %s; see earshot %s --explain %s", raw->where,
                      key->name, shown, want, es_config_job(key->name), key->name);
}

static int parse_string(const struct es_config_key *key, const struct es_config_raw *raw, const char *item,
                        char **out, struct es_err *err) {
    bool path = key->type == ES_CONFIG_PATH || key->type == ES_CONFIG_PATHS;
    struct es_text t = {0};
    int rc = path ? es_config_expand(raw->where, key->name, item, &t, err) : 0;
    if (rc == 0) *out = es_strdup(path ? t.s : item, err);
    if (rc == 0 && !*out) rc = -ES_EIO;
    es_text_free(&t);
    return rc;
}

/* One item of any type; at is its place in a list. */
static int parse_item(const struct es_config_key *key, const struct es_config_raw *raw, const char *item,
                      int at, struct es_config_value *v, struct es_err *err) {
    int64_t i = 0;
    double d = 0;
    switch (key->type) {
    case ES_CONFIG_BOOL:
        v->i = strcmp(item, "true") == 0;
        return v->i || strcmp(item, "false") == 0 ? 0 : refuse(key, raw, item, err);
    case ES_CONFIG_INT:
        return parse_int(item, &v->i) && in_range(key->range, (double)v->i) ? 0 : refuse(key, raw, item, err);
    case ES_CONFIG_INTS:
        if (!parse_int(item, &i) || !in_range(key->range, (double)i) || i < INT_MIN || i > INT_MAX)
            return refuse(key, raw, item, err);
        v->ints[at] = (int)i;
        return 0;
    case ES_CONFIG_DOUBLE:
        return parse_double(item, &v->d) && in_range(key->range, v->d) ? 0 : refuse(key, raw, item, err);
    case ES_CONFIG_DOUBLES:
        if (!parse_double(item, &d) || !in_range(key->range, d)) return refuse(key, raw, item, err);
        v->doubles[at] = d;
        return 0;
    case ES_CONFIG_CHOICE:
        if (!es_text_has_word(key->choices, item)) return refuse(key, raw, item, err);
        return parse_string(key, raw, item, &v->s, err);
    case ES_CONFIG_STRING:
    case ES_CONFIG_PATH:
        return parse_string(key, raw, item, &v->s, err);
    case ES_CONFIG_STRINGS:
    case ES_CONFIG_PATHS:
        return parse_string(key, raw, item, &v->strings[at], err);
    }
    es_bug(__FILE__, __LINE__, "a type of the table");
}

int es_config_value_parse(const struct es_config_key *key, const struct es_config_raw *raw,
                          struct es_config_value *out, struct es_err *err) {
    struct es_config_value v = {0};
    int rc = 0;
    bool list = es_config_is_list(key);
    if (raw->null) return refuse(key, raw, "", err);
    if (raw->list && !list) return refuse(key, raw, "a list", err);
    if (!raw->list && list) return refuse(key, raw, raw->item, err);
    if (list) {
        char length[32];
        snprintf(length, sizeof length, "%d items", raw->n);
        if (key->count && raw->n != key->count) return refuse(key, raw, length, err);
        size_t n = (size_t)raw->n;
        v.n = raw->n;
        if (key->type == ES_CONFIG_INTS)
            v.ints = es_alloc(n, sizeof *v.ints, err);
        else if (key->type == ES_CONFIG_DOUBLES)
            v.doubles = es_alloc(n, sizeof *v.doubles, err);
        else
            v.strings = es_alloc(n, sizeof *v.strings, err);
        if (!v.ints && !v.doubles && !v.strings) return -ES_EIO;
    }
    const char *item = raw->item;
    for (int i = 0; rc == 0 && i < raw->n; i++) {
        rc = parse_item(key, raw, item, i, &v, err);
        item += strlen(item) + 1;
    }
    if (rc < 0)
        es_config_value_clear(&v);
    else
        *out = v;
    return rc;
}

static void quote(struct es_text *t, const char *s, bool path) {
    es_text_add(t, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (path && strncmp(s, "${", 2) == 0)
            es_text_add(t, "$$");
        else if (c == '"' || c == '\\')
            es_text_add(t, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            es_text_add(t, "\\x%02X", c);
        else
            es_text_add_bytes(t, s, 1);
    }
    es_text_add(t, "\"");
}

void es_config_value_text(const struct es_config_key *key, const struct es_config_value *v,
                          struct es_text *t) {
    char number[32];
    bool path = key->type == ES_CONFIG_PATH || key->type == ES_CONFIG_PATHS;
    switch (key->type) {
    case ES_CONFIG_BOOL:
        es_text_add(t, "%s", v->i ? "true" : "false");
        return;
    case ES_CONFIG_INT:
        es_text_add(t, "%lld", (long long)v->i);
        return;
    case ES_CONFIG_DOUBLE:
        es_text_from_double(v->d, number);
        es_text_add(t, "%s", number);
        return;
    case ES_CONFIG_CHOICE:
        es_text_add(t, "%s", v->s);
        return;
    case ES_CONFIG_STRING:
    case ES_CONFIG_PATH:
        quote(t, v->s, path);
        return;
    default:
        break;
    }
    es_text_add(t, "[");
    for (int i = 0; i < v->n; i++) {
        if (i > 0) es_text_add(t, ", ");
        if (v->ints) {
            es_text_add(t, "%d", v->ints[i]);
        } else if (v->doubles) {
            es_text_from_double(v->doubles[i], number);
            es_text_add(t, "%s", number);
        } else {
            quote(t, v->strings[i], path);
        }
    }
    es_text_add(t, "]");
}
