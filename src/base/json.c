#include "earshot/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/text.h"

#define MAX_DEPTH 32

struct es_json {
    char *path; /* NULL: standard output */
    struct es_text text;
    int depth;
    bool after_key, write_failed;
    struct {
        bool object, some;
    } level[MAX_DEPTH];
};

int es_json_new(struct es_json **j, const char *path, struct es_err *err) {
    *j = es_alloc(1, sizeof **j, err);
    if (!*j) return -ES_EIO;
    if (strcmp(path, "-") == 0) return 0;
    (*j)->path = es_strdup(path, err);
    if (!(*j)->path) {
        es_free(j);
        return -ES_EIO;
    }
    return 0;
}

void es_json_free(struct es_json **j) {
    if (!*j) return;
    es_text_free(&(*j)->text);
    es_free(&(*j)->path);
    es_free(j);
}

int es_json_close(struct es_json **j, struct es_err *err) {
    if (!*j) return 0;
    ES_ASSERT((*j)->depth == 0 && !(*j)->after_key);
    int rc = es_text_check(&(*j)->text, err);
    if (rc == 0 && (*j)->path)
        rc = es_text_save((*j)->path, (*j)->text.s ? (*j)->text.s : "", (*j)->text.n, err);
    if (rc == 0 && (*j)->write_failed)
        rc = es_err_set(err, ES_EIO, "standard output: cannot write: %s", strerror(EIO));
    es_json_free(j);
    return rc;
}

/* Before a value or a key: the comma, and the check that it may stand here. */
static void begin_item(struct es_json *j, bool is_key) {
    if (j->after_key) {
        ES_ASSERT(!is_key);
        j->after_key = false;
        return;
    }
    if (j->depth == 0) {
        ES_ASSERT(!is_key);
        return;
    }
    ES_ASSERT(j->level[j->depth - 1].object == is_key);
    if (j->level[j->depth - 1].some) es_text_add(&j->text, ", ");
    j->level[j->depth - 1].some = true;
}

static void end_item(struct es_json *j) {
    if (j->depth > 0) return;
    es_text_add(&j->text, "\n");
    if (j->path || j->text.failed) return;
    if (fwrite(j->text.s, 1, j->text.n, stdout) != j->text.n || fflush(stdout) != 0) j->write_failed = true;
    j->text.n = 0;
}

static void open_level(struct es_json *j, bool object) {
    if (!j) return;
    begin_item(j, false);
    ES_ASSERT(j->depth < MAX_DEPTH);
    j->level[j->depth].object = object;
    j->level[j->depth].some = false;
    j->depth++;
    es_text_add(&j->text, object ? "{" : "[");
}

static void close_level(struct es_json *j, bool object) {
    if (!j) return;
    ES_ASSERT(j->depth > 0 && !j->after_key && j->level[j->depth - 1].object == object);
    j->depth--;
    es_text_add(&j->text, object ? "}" : "]");
    end_item(j);
}

void es_json_begin_object(struct es_json *j) {
    open_level(j, true);
}
void es_json_end_object(struct es_json *j) {
    close_level(j, true);
}
void es_json_begin_array(struct es_json *j) {
    open_level(j, false);
}
void es_json_end_array(struct es_json *j) {
    close_level(j, false);
}

void es_json_quote(struct es_text *t, const char *s) {
    size_t left = strlen(s);
    es_text_add(t, "\"");
    while (left > 0) {
        size_t good = es_utf8_check(s, left);
        for (size_t i = 0; i < good; i++) {
            unsigned char c = (unsigned char)s[i];
            if (c == '"' || c == '\\')
                es_text_add(t, "\\%c", c);
            else if (c == '\n')
                es_text_add(t, "\\n");
            else if (c == '\t')
                es_text_add(t, "\\t");
            else if (c < 0x20 || c == 0x7F)
                es_text_add(t, "\\u%04x", c);
            else
                es_text_add_bytes(t, &s[i], 1);
        }
        if (good < left) {
            es_text_add(t, "\\ufffd");
            good++;
        }
        s += good;
        left -= good;
    }
    es_text_add(t, "\"");
}

void es_json_key(struct es_json *j, const char *key) {
    if (!j) return;
    begin_item(j, true);
    es_json_quote(&j->text, key);
    es_text_add(&j->text, ": ");
    j->after_key = true;
}

static void add_plain(struct es_json *j, const char *s) {
    if (!j) return;
    begin_item(j, false);
    es_text_add(&j->text, "%s", s);
    end_item(j);
}

/* "-2.5e-09" to "-0.0000000025": the same digits, the point moved by hand, so that it reads back to the same
 * double. */
static void add_without_exponent(struct es_text *t, const char *s) {
    char digits[32];
    int n = 0;
    if (*s == '-') es_text_add(t, "-");
    for (; *s != 'e'; s++)
        if (*s >= '0' && *s <= '9') digits[n++] = *s;
    int point = 1 + (int)strtol(s + 1, NULL, 10); /* digits before the point */
    if (point <= 0) es_text_add(t, "0.");
    for (int i = point; i < 0; i++) es_text_add(t, "0");
    for (int i = 0; i < n || i < point; i++)
        es_text_add(t, "%s%c", i == point && i > 0 ? "." : "", i < n ? digits[i] : '0');
}

void es_json_number(struct es_json *j, double v) {
    char s[32];
    if (!j || !isfinite(v)) {
        es_json_null(j);
        return;
    }
    es_text_from_double(v, s);
    begin_item(j, false);
    if (strchr(s, 'e') && fabs(v) < 1e30 && fabs(v) > 1e-30)
        add_without_exponent(&j->text, s);
    else
        es_text_add(&j->text, "%s", s);
    end_item(j);
}

void es_json_int(struct es_json *j, int64_t v) {
    char s[32];
    snprintf(s, sizeof s, "%lld", (long long)v);
    add_plain(j, s);
}

void es_json_bool(struct es_json *j, bool v) {
    add_plain(j, v ? "true" : "false");
}
void es_json_null(struct es_json *j) {
    add_plain(j, "null");
}

void es_json_string(struct es_json *j, const char *s) {
    if (!j || !s) {
        es_json_null(j);
        return;
    }
    begin_item(j, false);
    es_json_quote(&j->text, s);
    end_item(j);
}

void es_json_put_number(struct es_json *j, const char *key, double v) {
    es_json_key(j, key);
    es_json_number(j, v);
}

void es_json_put_int(struct es_json *j, const char *key, int64_t v) {
    es_json_key(j, key);
    es_json_int(j, v);
}

void es_json_put_bool(struct es_json *j, const char *key, bool v) {
    es_json_key(j, key);
    es_json_bool(j, v);
}

void es_json_put_string(struct es_json *j, const char *key, const char *s) {
    es_json_key(j, key);
    es_json_string(j, s);
}
