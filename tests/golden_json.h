/* Reads JSON (plain or .gz) for golden tests: a tree in memory. Numbers may be the strings "inf", "-inf", "nan". */
#ifndef EARSHOT_TESTS_GOLDEN_JSON_H
#define EARSHOT_TESTS_GOLDEN_JSON_H

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"

#include "read_file.h"

enum js_type { JS_NULL, JS_BOOL, JS_NUMBER, JS_STRING, JS_ARRAY, JS_OBJECT };

struct js {
    enum js_type type;
    double num; /* numbers; 1 or 0 for true or false */
    char *str;  /* strings; points into the document */
    char *key;  /* in an object */
    int64_t n;  /* members */
    struct js *first, *next, *parent;
    bool used;   /* for a check that everything was looked at */
    int settled; /* the same, value by value (tests/golden/runner) */
};

struct js_block {
    struct js_block *next;
    int n;
    struct js node[1024];
};

struct js_doc {
    char *text, *at;
    struct js_block *blocks;
    struct js *root;
};

static inline struct js *js_node(struct js_doc *d) {
    if (!d->blocks || d->blocks->n == 1024) {
        struct js_block *b = es_alloc(1, sizeof *b, NULL);
        ES_ASSERT(b);
        b->next = d->blocks;
        d->blocks = b;
    }
    return &d->blocks->node[d->blocks->n++];
}

static inline char *js_space(char *p) {
    while (isspace((unsigned char)*p)) p++;
    return p;
}

/* A string, unescaped in place; \u escapes only below 0x80. */
static inline char *js_take_string(struct js_doc *d) {
    char *from = ++d->at, *start = from, *to = from;
    for (; *from != '"'; from++, to++) {
        ES_ASSERT(*from);
        *to = *from;
        if (*from != '\\') continue;
        from++;
        const char *plain = "\"\\/bfnrt", *means = "\"\\/\b\f\n\r\t", *hit = strchr(plain, *from);
        if (*from == 'u') {
            char hex[5] = {from[1], from[2], from[3], from[4], 0};
            long code = strtol(hex, NULL, 16);
            ES_ASSERT(code > 0 && code < 0x80);
            *to = (char)code;
            from += 4;
        } else {
            ES_ASSERT(hit);
            *to = means[hit - plain];
        }
    }
    d->at = from + 1;
    *to = 0;
    return start;
}

static inline struct js *js_parse(struct js_doc *d) {
    struct js *v = js_node(d), **tail = &v->first;
    d->at = js_space(d->at);
    const char c = *d->at;
    if (c == '{' || c == '[') {
        v->type = c == '{' ? JS_OBJECT : JS_ARRAY;
        for (d->at = js_space(d->at + 1); *d->at != '}' && *d->at != ']'; v->n++) {
            char *key = NULL;
            if (c == '{') {
                ES_ASSERT(*d->at == '"');
                key = js_take_string(d);
                d->at = js_space(d->at);
                ES_ASSERT(*d->at == ':');
                d->at++;
            }
            *tail = js_parse(d);
            (*tail)->key = key;
            (*tail)->parent = v;
            tail = &(*tail)->next;
            d->at = js_space(d->at);
            if (*d->at == ',') d->at = js_space(d->at + 1);
        }
        d->at++;
    } else if (c == '"') {
        v->type = JS_STRING;
        v->str = js_take_string(d);
        v->num = strtod(v->str, NULL); /* inf, -inf, nan */
    } else if (c == 't' || c == 'f' || c == 'n') {
        v->type = c == 'n' ? JS_NULL : JS_BOOL;
        v->num = c == 't';
        d->at += c == 'f' ? 5 : 4;
    } else {
        v->type = JS_NUMBER;
        char *end = d->at;
        v->num = strtod(d->at, &end);
        ES_ASSERT(end > d->at);
        d->at = end;
    }
    return v;
}

static inline void js_close(struct js_doc *d) {
    while (d->blocks) {
        struct js_block *b = d->blocks;
        d->blocks = b->next;
        es_free(&b);
    }
    es_free(&d->text);
}

/* NULL when the file is not there. */
static inline struct js *js_open(struct js_doc *d, const char *path) {
    *d = (struct js_doc){0};
    const size_t len = strlen(path);
    char command[1200];
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    if (len > 3 && strcmp(path + len - 3, ".gz") == 0) {
        fclose(f);
        snprintf(command, sizeof command, "gzip -dc '%s'", path);
        f = popen(command, "r");
        ES_ASSERT(f);
    }
    d->text = test_read_all(f, NULL);
    if (len > 3 && strcmp(path + len - 3, ".gz") == 0)
        ES_ASSERT(pclose(f) == 0);
    else
        fclose(f);
    d->at = d->text;
    d->root = js_parse(d);
    ES_ASSERT(*js_space(d->at) == 0);
    return d->root;
}

/* Member of an object; NULL when missing (or o is NULL). */
static inline struct js *js_get(struct js *o, const char *key) {
    for (struct js *v = o ? o->first : NULL; v; v = v->next)
        if (v->key && strcmp(v->key, key) == 0) {
            v->used = true;
            return v;
        }
    return NULL;
}

static inline double js_number(struct js *o, const char *key, double missing) {
    struct js *v = js_get(o, key);
    return v && v->type != JS_NULL ? v->num : missing;
}

#endif
