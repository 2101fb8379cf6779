/* JSON input: recursive descent, strict, depth limited. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/json.h"
#include "earshot/text.h"

#define MAX_DEPTH 32
#define MAX_NUMBER 64 /* characters */

struct reader {
    struct es_values *heap;
    const char *s, *name;
    size_t n, at;
    struct es_err *err;
};

static int bad(struct reader *r, const char *what) {
    return es_err_set(r->err, ES_EDATA, "%s: JSON: byte %zu: %s", r->name, r->at, what);
}

static char peek(struct reader *r) {
    while (r->at < r->n && strchr(" \t\r\n", r->s[r->at]) && r->s[r->at]) r->at++;
    return r->at < r->n ? r->s[r->at] : '\0';
}

static bool take(struct reader *r, char c) {
    if (peek(r) != c || r->at >= r->n) return false;
    r->at++;
    return true;
}

static int hex4(struct reader *r, unsigned *out) {
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->at < r->n ? r->s[r->at++] : '\0';
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return bad(r, "bad \\u escape");
        *out = 16 * *out + (unsigned)digit;
    }
    return 0;
}

/* Behind "\u": one code point, from a surrogate pair if need be, as UTF-8. */
static int code_point(struct reader *r, char *out, size_t *n) {
    unsigned u, low;
    ES_TRY(hex4(r, &u));
    if (u >= 0xD800 && u < 0xDC00) {
        if (r->n - r->at < 6 || r->s[r->at] != '\\' || r->s[r->at + 1] != 'u')
            return bad(r, "half a surrogate pair");
        r->at += 2;
        ES_TRY(hex4(r, &low));
        if (low < 0xDC00 || low > 0xDFFF) return bad(r, "half a surrogate pair");
        u = 0x10000 + ((u - 0xD800) << 10) + (low - 0xDC00);
    } else if (u >= 0xDC00 && u < 0xE000)
        return bad(r, "half a surrogate pair");
    int more = u < 0x80 ? 0 : u < 0x800 ? 1 : u < 0x10000 ? 2 : 3;
    static const unsigned lead[] = {0, 0xC0, 0xE0, 0xF0};
    out[(*n)++] = (char)(lead[more] | (u >> (6 * more)));
    for (int i = more - 1; i >= 0; i--) out[(*n)++] = (char)(0x80 | ((u >> (6 * i)) & 0x3F));
    return 0;
}

/* Behind the opening quote. */
static int read_string(struct reader *r, struct es_value **out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *end = r->s + r->at;
    for (; end < r->s + r->n && *end != '"'; end++)
        if (*end == '\\') end++;
    if (end >= r->s + r->n) return bad(r, "string without end");
    size_t raw = (size_t)(end - r->s) - r->at, n = 0;
    struct es_value *v = es_value_new(r->heap, ES_VALUE_TEXT, r->err);
    char *text = v ? es_values_alloc(r->heap, raw + 1, r->err) : NULL; /* no escape grows */
    if (!text) return -ES_EIO;
    while (r->s[r->at] != '"') {
        char c = r->s[r->at++];
        if ((unsigned char)c < 0x20) return bad(r, "control character in a string");
        if (c != '\\') {
            text[n++] = c;
            continue;
        }
        c = r->s[r->at++];
        const char *e = c ? strchr(from, c) : NULL;
        if (c == 'u')
            ES_TRY(code_point(r, text, &n));
        else if (e)
            text[n++] = to[e - from];
        else
            return bad(r, "unknown escape");
    }
    r->at++;
    v->text = text;
    v->n = (uint32_t)n;
    *out = v;
    return 0;
}

static size_t digits(const char *s) {
    size_t n = 0;
    while (s[n] >= '0' && s[n] <= '9') n++;
    return n;
}

static int read_number(struct reader *r, struct es_value **out) {
    char text[MAX_NUMBER + 1] = "";
    size_t n = 0;
    while (n < MAX_NUMBER && r->at + n < r->n && r->s[r->at + n] &&
           strchr("+-.eE0123456789", r->s[r->at + n])) {
        text[n] = r->s[r->at + n];
        n++;
    }
    const char *p = text + (text[0] == '-');
    size_t whole = digits(p);
    if (whole == 0 || (whole > 1 && p[0] == '0')) return bad(r, "want a value");
    p += whole;
    bool integer = *p == '\0';
    if (*p == '.') {
        if (digits(++p) == 0) return bad(r, "number without digits behind the point");
        p += digits(p);
    }
    if (*p == 'e' || *p == 'E') {
        p += p[1] == '+' || p[1] == '-' ? 2 : 1;
        if (digits(p) == 0) return bad(r, "number without digits in the exponent");
        p += digits(p);
    }
    if (*p != '\0' || n == MAX_NUMBER) return bad(r, "not a number");
    struct es_value *v = es_value_new(r->heap, integer ? ES_VALUE_INT : ES_VALUE_REAL, r->err);
    if (!v) return -ES_EIO;
    errno = 0;
    if (integer) v->i = strtoll(text, NULL, 10);
    if (!integer || errno == ERANGE) {
        v->kind = ES_VALUE_REAL;
        v->real = strtod(text, NULL);
    }
    r->at += n;
    *out = v;
    return 0;
}

static int read_value(struct reader *r, int depth, struct es_value **out);

static int read_items(struct reader *r, int depth, bool object, struct es_value *v) {
    char close = object ? '}' : ']';
    if (take(r, close)) return 0;
    do {
        struct es_value *key = NULL, *item = NULL;
        if (object) {
            if (!take(r, '"')) return bad(r, "want a key");
            ES_TRY(read_string(r, &key));
            if (!take(r, ':')) return bad(r, "want a colon");
        }
        ES_TRY(read_value(r, depth + 1, &item));
        if (key && !es_value_append(r->heap, v, key, r->err)) return -ES_EIO;
        if (!es_value_append(r->heap, v, item, r->err)) return -ES_EIO;
    } while (take(r, ','));
    return take(r, close) ? 0 : bad(r, object ? "want a comma or }" : "want a comma or ]");
}

static int read_value(struct reader *r, int depth, struct es_value **out) {
    static const struct {
        const char *word;
        enum es_value_kind kind;
        int64_t i;
    } words[] = {{"null", ES_VALUE_NONE, 0}, {"true", ES_VALUE_BOOL, 1}, {"false", ES_VALUE_BOOL, 0}};
    if (depth > MAX_DEPTH) return bad(r, "nested too deeply");
    char c = peek(r);
    if (take(r, '"')) return read_string(r, out);
    if (c == '{' || c == '[') {
        r->at++;
        *out = es_value_new(r->heap, c == '{' ? ES_VALUE_DICT : ES_VALUE_LIST, r->err);
        return *out ? read_items(r, depth, c == '{', *out) : -ES_EIO;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].word);
        if (r->n - r->at < n || memcmp(r->s + r->at, words[i].word, n) != 0) continue;
        *out = es_value_new(r->heap, words[i].kind, r->err);
        if (!*out) return -ES_EIO;
        (*out)->i = words[i].i;
        r->at += n;
        return 0;
    }
    return read_number(r, out);
}

int es_json_read(struct es_values *heap, const char *text, size_t n, const char *name, struct es_value **root,
                 struct es_err *err) {
    struct reader r = {.heap = heap, .s = text, .name = name, .n = n, .err = err};
    size_t good = es_utf8_check(text, n);
    if (good < n) {
        r.at = good;
        return bad(&r, "not UTF-8");
    }
    ES_TRY(read_value(&r, 0, root));
    peek(&r);
    return r.at == n ? 0 : bad(&r, "something behind the value");
}
