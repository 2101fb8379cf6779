/* The stack machine. One table gives for every operation code its argument and its function. */
#include "earshot/pickle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"
#include "pickle_impl.h"

#define MAX_PROTOCOL 5
#define MAX_LINE 400 /* of a number in text */

int pickle_bad(struct machine *m, const char *fmt, ...) {
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return es_err_set(m->err, ES_EDATA, "%s: pickle: byte %zu: %s", m->p->name, m->op_at, what);
}

/* ---- stack, marks, memo */
static int reserve(struct machine *m, void *array, size_t item, size_t n, size_t *cap) {
    void *old, *grown;
    if (n <= *cap) return 0;
    size_t want = n > 2 * *cap ? n : 2 * *cap;
    memcpy(&old, array, sizeof old);
    grown = es_alloc(want, item, m->err);
    if (!grown) return -ES_EIO;
    if (old) memcpy(grown, old, *cap * item);
    es_free(array);
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return 0;
}

static int push(struct machine *m, struct es_value *v) {
    if (!v) return -ES_EIO; /* a constructor has set the error */
    ES_TRY(reserve(m, &m->stack, sizeof *m->stack, m->n_stack + 1, &m->cap_stack));
    m->stack[m->n_stack++] = v;
    return 0;
}

/* The top count values, not reaching below the last mark. */
static int top(struct machine *m, size_t count, struct es_value ***v) {
    size_t floor = m->n_marks ? m->mark[m->n_marks - 1] : 0;
    *v = NULL;
    if (m->n_stack - floor < count) return pickle_bad(m, "the stack is empty");
    *v = m->stack + m->n_stack - count;
    return 0;
}

static int pop(struct machine *m, struct es_value **v) {
    struct es_value **at;
    *v = NULL;
    ES_TRY(top(m, 1, &at));
    *v = *at;
    m->n_stack--;
    return 0;
}

/* Everything above the last mark; the mark goes away, the values stay in place until the next push. */
static int pop_mark(struct machine *m, struct es_value ***v, size_t *n) {
    *v = NULL;
    *n = 0;
    if (m->n_marks == 0) return pickle_bad(m, "no mark");
    size_t floor = m->mark[--m->n_marks];
    *v = m->stack + floor;
    *n = m->n_stack - floor;
    m->n_stack = floor;
    return 0;
}

static int memo_put(struct machine *m, uint64_t index) {
    struct es_value **v;
    ES_TRY(top(m, 1, &v));
    /* picklers count from 0: an index beyond the pickle's length is an attack on memory */
    if (index >= m->n) return pickle_bad(m, "memo index %llu", (unsigned long long)index);
    ES_TRY(reserve(m, &m->memo, sizeof *m->memo, (size_t)index + 1, &m->cap_memo));
    m->memo[index] = *v;
    if (index >= m->n_memo) m->n_memo = (size_t)index + 1;
    return 0;
}

static int memo_get(struct machine *m, uint64_t index) {
    if (index >= m->n_memo || !m->memo[index])
        return pickle_bad(m, "memo %llu was never set", (unsigned long long)index);
    return push(m, m->memo[index]);
}

/* ---- operations */
struct arg {
    uint8_t code;
    uint64_t u;
    const char *s, *s2; /* text or bytes */
    size_t n, n2;
};

static struct es_value *new_value(struct machine *m, enum es_value_kind kind) {
    return es_value_new(m->p->heap, kind, m->err);
}

/* what: a constant, or in the heap */
static struct es_value *new_object(struct machine *m, const char *what) {
    struct es_value *v = new_value(m, ES_VALUE_OBJECT);
    if (v) v->text = what;
    return v;
}

static int push_int(struct machine *m, int64_t i) {
    struct es_value *v = new_value(m, ES_VALUE_INT);
    if (v) v->i = i;
    return push(m, v);
}

static int push_real(struct machine *m, double x) {
    struct es_value *v = new_value(m, ES_VALUE_REAL);
    if (v) v->real = x;
    return push(m, v);
}

static int do_nothing(struct machine *m, const struct arg *a) {
    (void)m;
    (void)a;
    return 0;
}

static int do_proto(struct machine *m, const struct arg *a) {
    return a->u <= MAX_PROTOCOL ? 0 : pickle_bad(m, "protocol %d, want 0..%d", (int)a->u, MAX_PROTOCOL);
}

static int do_stop(struct machine *m, const struct arg *a) {
    (void)a;
    m->stopped = true;
    return 0;
}

static int do_mark(struct machine *m, const struct arg *a) {
    (void)a;
    ES_TRY(reserve(m, &m->mark, sizeof *m->mark, m->n_marks + 1 > 16 ? m->n_marks + 1 : 16, &m->cap_marks));
    m->mark[m->n_marks++] = m->n_stack;
    return 0;
}

static int do_pop(struct machine *m, const struct arg *a) {
    struct es_value **v;
    size_t n;
    if (a->code == '1' || (m->n_marks && m->mark[m->n_marks - 1] == m->n_stack)) return pop_mark(m, &v, &n);
    return pop(m, &(struct es_value *){NULL});
}

static int do_dup(struct machine *m, const struct arg *a) {
    struct es_value **v;
    (void)a;
    ES_TRY(top(m, 1, &v));
    return push(m, *v);
}

static int do_constant(struct machine *m, const struct arg *a) {
    return push(m, a->code == 'N' ? m->none : a->code == 0x88 ? m->yes : m->no);
}

static int do_int(struct machine *m, const struct arg *a) {
    return push_int(m, a->code == 'J' ? (int32_t)(uint32_t)a->u : (int64_t)a->u);
}

/* A number in text: INT (with 00 and 01 as bools), LONG (with an L behind), FLOAT. */
static int do_text_number(struct machine *m, const struct arg *a) {
    char text[MAX_LINE + 1], *end;
    if (a->n > MAX_LINE)
        return a->code == 'L' ? push(m, new_object(m, "int")) : pickle_bad(m, "not a number");
    memcpy(text, a->s, a->n);
    text[a->n] = '\0';
    if (a->code == 'I' && strcmp(text, "00") == 0) return push(m, m->no);
    if (a->code == 'I' && strcmp(text, "01") == 0) return push(m, m->yes);
    if (a->code == 'F') {
        double x = strtod(text, &end);
        return *end == '\0' && end > text ? push_real(m, x) : pickle_bad(m, "not a number");
    }
    errno = 0;
    int64_t i = strtoll(text, &end, 10);
    if (end == text || (*end != '\0' && strcmp(end, "L") != 0)) return pickle_bad(m, "not a number");
    return errno == ERANGE ? push(m, new_object(m, "int")) : push_int(m, i);
}

/* Two's complement, little-endian, any length. */
static int do_long(struct machine *m, const struct arg *a) {
    if (a->n > 8) return push(m, new_object(m, "int"));
    bool negative = a->n > 0 && ((uint8_t)a->s[a->n - 1] & 0x80);
    uint64_t u = negative ? ~(uint64_t)0 : 0;
    for (size_t i = a->n; i-- > 0;) u = u << 8 | (uint8_t)a->s[i];
    int64_t v;
    memcpy(&v, &u, sizeof v);
    return push_int(m, v);
}

static int do_float(struct machine *m, const struct arg *a) {
    double x;
    uint64_t big = __builtin_bswap64(a->u);
    memcpy(&x, &big, sizeof x);
    return push_real(m, x);
}

static int do_text(struct machine *m, const struct arg *a) {
    const char *s = a->s;
    size_t n = a->n;
    if (a->code == 'S') { /* quoted; escapes are left as they are */
        if (n < 2 || (s[0] != '\'' && s[0] != '"') || s[n - 1] != s[0])
            return pickle_bad(m, "string without quotes");
        s++;
        n -= 2;
    }
    return push(m, es_value_text(m->p->heap, ES_VALUE_TEXT, s, n, m->err));
}

static int do_empty(struct machine *m, const struct arg *a) {
    return push(m, new_value(m, a->code == '}'   ? ES_VALUE_DICT
                                : a->code == ')' ? ES_VALUE_TUPLE
                                                 : ES_VALUE_LIST)); /* a set is a list */
}

/* n values into a new container on the stack */
static int collect(struct machine *m, enum es_value_kind kind, struct es_value **v, size_t n) {
    struct es_value *c = new_value(m, kind);
    if (kind == ES_VALUE_DICT && n % 2 != 0) return pickle_bad(m, "a key without value");
    for (size_t i = 0; c && i < n; i++)
        if (!es_value_append(m->p->heap, c, v[i], m->err)) return -ES_EIO;
    return push(m, c);
}

static int do_marked(struct machine *m, const struct arg *a) {
    struct es_value **v;
    size_t n;
    ES_TRY(pop_mark(m, &v, &n));
    return collect(m, a->code == 't' ? ES_VALUE_TUPLE : a->code == 'd' ? ES_VALUE_DICT : ES_VALUE_LIST, v, n);
}

static int do_tuple(struct machine *m, const struct arg *a) {
    struct es_value **v;
    size_t n = (size_t)a->code - 0x84;
    ES_TRY(top(m, n, &v));
    m->n_stack -= n;
    return collect(m, ES_VALUE_TUPLE, v, n);
}

/* Adds to the list or dict below; objects swallow what they are given. */
static int do_add(struct machine *m, const struct arg *a) {
    struct es_value **v, **to;
    bool pairs = a->code == 's' || a->code == 'u';
    size_t n = pairs ? 2 : 1;
    if (a->code == 'a' || a->code == 's') {
        ES_TRY(top(m, n, &v));
        m->n_stack -= n;
    } else
        ES_TRY(pop_mark(m, &v, &n));
    ES_TRY(top(m, 1, &to));
    if ((*to)->kind == ES_VALUE_OBJECT) return 0;
    if ((*to)->kind != (pairs ? ES_VALUE_DICT : ES_VALUE_LIST))
        return pickle_bad(m, "items for what cannot hold them");
    if (pairs && n % 2 != 0) return pickle_bad(m, "a key without value");
    for (size_t i = 0; i < n; i++)
        if (!es_value_append(m->p->heap, *to, v[i], m->err)) return -ES_EIO;
    return 0;
}

static int push_callable(struct machine *m, const char *module, size_t n, const char *name, size_t n2) {
    char text[400];
    if (n + n2 + 2 > sizeof text) return pickle_bad(m, "name of a class or function of %zu bytes", n + n2);
    memcpy(text, module, n);
    text[n] = '.';
    memcpy(text + n + 1, name, n2);
    return push(m, es_value_text(m->p->heap, ES_VALUE_CALLABLE, text, n + 1 + n2, m->err));
}

static int do_global(struct machine *m, const struct arg *a) {
    struct es_value **v;
    if (a->code == 'c') return push_callable(m, a->s, a->n, a->s2, a->n2);
    ES_TRY(top(m, 2, &v));
    if (v[0]->kind != ES_VALUE_TEXT || v[1]->kind != ES_VALUE_TEXT)
        return pickle_bad(m, "a class without name");
    m->n_stack -= 2;
    return push_callable(m, v[0]->text, v[0]->n, v[1]->text, v[1]->n);
}

/* REDUCE and NEWOBJ: callable, tuple. NEWOBJ_EX: callable, tuple, dict (inert). */
static int do_call(struct machine *m, const struct arg *a) {
    struct es_value **v, *out;
    size_t n = a->code == 0x92 ? 3 : 2;
    ES_TRY(top(m, n, &v));
    if (v[1]->kind != ES_VALUE_TUPLE) return pickle_bad(m, "a call without a tuple of arguments");
    if (n == 3)
        out = new_object(m, v[0]->kind == ES_VALUE_CALLABLE ? v[0]->text : "?");
    else
        ES_TRY(pickle_call(m, v[0], v[1], &out));
    m->n_stack -= n;
    return push(m, out);
}

/* INST and OBJ of protocols 0 and 1: inert. */
static int do_instance(struct machine *m, const struct arg *a) {
    struct es_value **v;
    size_t n;
    ES_TRY(pop_mark(m, &v, &n));
    if (a->code == 'o') {
        if (n == 0) return pickle_bad(m, "an object without class");
        return push(m, new_object(m, v[0]->kind == ES_VALUE_CALLABLE ? v[0]->text : "?"));
    }
    ES_TRY(push_callable(m, a->s, a->n, a->s2, a->n2));
    m->stack[m->n_stack - 1]->kind = ES_VALUE_OBJECT;
    return 0;
}

/* State of an object, or attributes of an OrderedDict (_metadata): dropped. */
static int do_build(struct machine *m, const struct arg *a) {
    struct es_value **v;
    (void)a;
    ES_TRY(top(m, 2, &v));
    m->n_stack--;
    return 0;
}

static int do_memo(struct machine *m, const struct arg *a) {
    uint64_t index = a->u;
    if (a->code == 0x94) return memo_put(m, m->n_memo);
    if (a->code == 'g' || a->code == 'p') {
        index = 0;
        if (a->n == 0 || a->n > 18) return pickle_bad(m, "not a memo index");
        for (size_t i = 0; i < a->n; i++) {
            if (a->s[i] < '0' || a->s[i] > '9') return pickle_bad(m, "not a memo index");
            index = 10 * index + (uint64_t)(a->s[i] - '0');
        }
    }
    bool put = a->code == 'p' || a->code == 'q' || a->code == 'r';
    return put ? memo_put(m, index) : memo_get(m, index);
}

static int do_persistent(struct machine *m, const struct arg *a) {
    struct es_value *id, *out;
    if (a->code == 'P') return push(m, new_object(m, "a persistent id in text"));
    ES_TRY(pop(m, &id));
    ES_TRY(pickle_storage(m, id, &out));
    return push(m, out);
}

static int do_extension(struct machine *m, const struct arg *a) {
    (void)a;
    return push(m, new_object(m, "a copyreg extension"));
}

/* ---- decoding */
enum shape { NO_ARG, U1, U2, U4, U8, LINE, LINE2, BYTES1, BYTES4, BYTES8 };
static const struct op {
    enum shape shape;
    int (*run)(struct machine *m, const struct arg *a);
} ops[256] = {
    [0x80] = {U1, do_proto},        [0x95] = {U8, do_nothing},      ['.'] = {NO_ARG, do_stop},
    ['('] = {NO_ARG, do_mark},      ['0'] = {NO_ARG, do_pop},       ['1'] = {NO_ARG, do_pop},
    ['2'] = {NO_ARG, do_dup},       ['N'] = {NO_ARG, do_constant},  [0x88] = {NO_ARG, do_constant},
    [0x89] = {NO_ARG, do_constant}, ['I'] = {LINE, do_text_number}, ['L'] = {LINE, do_text_number},
    ['F'] = {LINE, do_text_number}, ['J'] = {U4, do_int},           ['K'] = {U1, do_int},
    ['M'] = {U2, do_int},           [0x8a] = {BYTES1, do_long},     [0x8b] = {BYTES4, do_long},
    ['G'] = {U8, do_float},         ['S'] = {LINE, do_text},        ['T'] = {BYTES4, do_text},
    ['U'] = {BYTES1, do_text},      ['V'] = {LINE, do_text},        ['X'] = {BYTES4, do_text},
    [0x8c] = {BYTES1, do_text},     [0x8d] = {BYTES8, do_text},     ['B'] = {BYTES4, do_text},
    ['C'] = {BYTES1, do_text},      [0x8e] = {BYTES8, do_text},     [0x96] = {BYTES8, do_text},
    [']'] = {NO_ARG, do_empty},     [')'] = {NO_ARG, do_empty},     ['}'] = {NO_ARG, do_empty},
    [0x8f] = {NO_ARG, do_empty},    ['l'] = {NO_ARG, do_marked},    ['t'] = {NO_ARG, do_marked},
    ['d'] = {NO_ARG, do_marked},    [0x91] = {NO_ARG, do_marked},   [0x85] = {NO_ARG, do_tuple},
    [0x86] = {NO_ARG, do_tuple},    [0x87] = {NO_ARG, do_tuple},    ['a'] = {NO_ARG, do_add},
    ['e'] = {NO_ARG, do_add},       ['s'] = {NO_ARG, do_add},       ['u'] = {NO_ARG, do_add},
    [0x90] = {NO_ARG, do_add},      ['c'] = {LINE2, do_global},     [0x93] = {NO_ARG, do_global},
    ['R'] = {NO_ARG, do_call},      [0x81] = {NO_ARG, do_call},     [0x92] = {NO_ARG, do_call},
    ['o'] = {NO_ARG, do_instance},  ['i'] = {LINE2, do_instance},   ['b'] = {NO_ARG, do_build},
    ['g'] = {LINE, do_memo},        ['h'] = {U1, do_memo},          ['j'] = {U4, do_memo},
    ['p'] = {LINE, do_memo},        ['q'] = {U1, do_memo},          ['r'] = {U4, do_memo},
    [0x94] = {NO_ARG, do_memo},     ['P'] = {LINE, do_persistent},  ['Q'] = {NO_ARG, do_persistent},
    [0x82] = {U1, do_extension},    [0x83] = {U2, do_extension},    [0x84] = {U4, do_extension},
};

static int take_number(struct machine *m, size_t bytes, uint64_t *u) {
    if (m->n - m->at < bytes) return pickle_bad(m, "the pickle ends here");
    *u = 0;
    for (size_t i = 0; i < bytes; i++) *u |= (uint64_t)m->bytes[m->at + i] << (8 * i);
    m->at += bytes;
    return 0;
}

static int take_line(struct machine *m, const char **s, size_t *n) {
    const uint8_t *from = m->bytes + m->at, *end = m->at < m->n ? memchr(from, '\n', m->n - m->at) : NULL;
    if (!end) return pickle_bad(m, "a line without end");
    *s = (const char *)from;
    *n = (size_t)(end - from);
    m->at += *n + 1;
    return 0;
}

static int take_argument(struct machine *m, enum shape shape, struct arg *a) {
    static const size_t width[] = {
        [U1] = 1, [U2] = 2, [U4] = 4, [U8] = 8, [BYTES1] = 1, [BYTES4] = 4, [BYTES8] = 8};
    if (shape == NO_ARG) return 0;
    if (shape == LINE || shape == LINE2) {
        ES_TRY(take_line(m, &a->s, &a->n));
        return shape == LINE2 ? take_line(m, &a->s2, &a->n2) : 0;
    }
    ES_TRY(take_number(m, width[shape], &a->u));
    if (shape < BYTES1) return 0;
    if (a->u > m->n - m->at)
        return pickle_bad(m, "%llu bytes, %zu are left", (unsigned long long)a->u, m->n - m->at);
    a->s = (const char *)m->bytes + m->at;
    a->n = (size_t)a->u;
    m->at += a->n;
    return 0;
}

static int run(struct machine *m) {
    while (!m->stopped) {
        m->op_at = m->at;
        if (m->at >= m->n) return pickle_bad(m, "the pickle ends here");
        struct arg a = {.code = m->bytes[m->at++]};
        const struct op *op = &ops[a.code];
        if (!op->run) return pickle_bad(m, "unknown operation 0x%02x", a.code);
        ES_TRY(take_argument(m, op->shape, &a));
        ES_TRY(op->run(m, &a));
    }
    return m->n_stack == 1 && m->n_marks == 0 ? 0
                                              : pickle_bad(m, "%zu values at the end, want 1", m->n_stack);
}

int es_pickle_read(struct es_pickle *p, const void *bytes, size_t n, size_t *used, struct es_value **root,
                   struct es_err *err) {
    struct machine m = {.p = p, .bytes = bytes, .n = n, .err = err};
    m.none = es_value_new(p->heap, ES_VALUE_NONE, err);
    m.yes = es_value_new(p->heap, ES_VALUE_BOOL, err);
    m.no = es_value_new(p->heap, ES_VALUE_BOOL, err);
    if (!m.none || !m.yes || !m.no) return -ES_EIO;
    m.yes->i = 1;
    int rc = p->keys ? 0 : es_names_new(&p->keys, err);
    if (rc == 0) rc = reserve(&m, &m.stack, sizeof *m.stack, 64, &m.cap_stack);
    if (rc == 0) rc = run(&m);
    if (rc == 0) {
        *root = m.stack[0];
        *used = m.at;
    }
    es_free(&m.mark);
    es_free(&m.memo);
    es_free(&m.stack);
    return rc;
}

void es_pickle_free(struct es_pickle *p) {
    es_free(&p->storage);
    es_names_free(&p->keys);
}
