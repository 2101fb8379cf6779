/* YAML text to assignments, over libyaml's events: a mapping of sections of scalars and lists of scalars. */
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "config_impl.h"
#include "earshot/mem.h"

#define MAX_DEPTH 8

struct loader {
    struct es_config *cfg; /* NULL: only look for extends */
    const char *name;
    enum es_config_layer layer;
    struct es_text *extends;
    yaml_parser_t parser;
    int depth;
    size_t cut[MAX_DEPTH]; /* length of path without the innermost sections */
    char path[256], where[512];
    int n_sections;
    struct {
        char path[64];
        int line;
    } section[64]; /* seen so far, for duplicates */
};

static int complain(struct loader *l, const yaml_mark_t *at, const char *what, struct es_err *err) {
    return es_err_set(err, ES_EUSAGE, "%s:%zu: %s", l->name, at->line + 1, what);
}

static int next_event(struct loader *l, yaml_event_t *e, struct es_err *err) {
    if (yaml_parser_parse(&l->parser, e)) return 0;
    if (l->parser.error == YAML_MEMORY_ERROR) return es_err_set(err, ES_EIO, "%s: out of memory", l->name);
    return es_err_set(err, ES_EUSAGE, "%s:%zu: not valid YAML: %s%s%s", l->name,
                      l->parser.problem_mark.line + 1,
                      l->parser.problem ? l->parser.problem : "unknown problem",
                      l->parser.context ? ", " : "", l->parser.context ? l->parser.context : "");
}

/* Refuses what a configuration has no use for: anchors, aliases, tags. */
static int check_plain(struct loader *l, const yaml_event_t *e, struct es_err *err) {
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (e->type == YAML_ALIAS_EVENT) anchor = e->data.alias.anchor;
    if (e->type == YAML_SCALAR_EVENT) anchor = e->data.scalar.anchor, tag = e->data.scalar.tag;
    if (e->type == YAML_SEQUENCE_START_EVENT)
        anchor = e->data.sequence_start.anchor, tag = e->data.sequence_start.tag;
    if (e->type == YAML_MAPPING_START_EVENT)
        anchor = e->data.mapping_start.anchor, tag = e->data.mapping_start.tag;
    if (anchor)
        return complain(l, &e->start_mark,
                        "anchors and aliases (& and *) are not supported; write the value out", err);
    if (tag) return complain(l, &e->start_mark, "tags (!) are not supported; write the plain value", err);
    return 0;
}

static int add_scalar(struct loader *l, const yaml_event_t *e, struct es_text *items, bool *null,
                      struct es_err *err) {
    const char *s = (const char *)e->data.scalar.value;
    if (strlen(s) != e->data.scalar.length)
        return complain(l, &e->start_mark, "a zero character in a value", err);
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (null) *null = plain && (!*s || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
    es_text_add_bytes(items, s, strlen(s) + 1);
    return es_text_check(items, err);
}

/* Appends ".key" to the path. */
static int enter(struct loader *l, const yaml_event_t *e, struct es_err *err) {
    const char *key = (const char *)e->data.scalar.value;
    size_t at = strlen(l->path), len = e->data.scalar.length;
    if (len == 0 || strlen(key) != len || at + len + 2 > sizeof l->path)
        return complain(l, &e->start_mark, "an empty or overlong key", err);
    snprintf(l->path + at, sizeof l->path - at, "%s%s", at > 0 ? "." : "", key);
    snprintf(l->where, sizeof l->where, "%s:%zu", l->name, e->start_mark.line + 1);
    if (l->layer == ES_LAYER_OWN && strncmp(l->name, "--set", 5) == 0)
        snprintf(l->where, sizeof l->where, "%s", l->name);
    return 0;
}

static int begin_section(struct loader *l, const yaml_event_t *e, size_t cut, struct es_err *err) {
    if (l->depth >= MAX_DEPTH) return complain(l, &e->start_mark, "sections nested too deeply", err);
    l->cut[l->depth++] = cut;
    if (!l->cfg || l->depth == 1) return 0;
    int row = es_config_find(l->path);
    if (row >= 0)
        return es_err_set(err, ES_EUSAGE, "%s: %s: got a section, want a value; see earshot %s --explain %s",
                          l->where, l->path, es_config_job(l->path), l->path);
    if (!es_config_is_section(l->path)) return es_config_unknown(l->where, l->path, true, err);
    for (int i = 0; i < l->n_sections; i++)
        if (strcmp(l->section[i].path, l->path) == 0)
            return es_err_set(err, ES_EUSAGE, "%s: %s: this section is already at line %d; join the two",
                              l->where, l->path, l->section[i].line);
    ES_ASSERT(l->n_sections <
              (int)(sizeof l->section / sizeof *l->section)); /* the table has fewer sections */
    snprintf(l->section[l->n_sections].path, sizeof l->section->path, "%s", l->path);
    l->section[l->n_sections++].line = (int)e->start_mark.line + 1;
    return 0;
}

static int give(struct loader *l, struct es_config_raw *raw, struct es_err *err) {
    raw->where = l->where;
    if (strcmp(l->path, "extends") == 0) {
        if (l->extends && l->extends->n > 0)
            return es_err_set(err, ES_EUSAGE, "%s: extends: given twice", l->where);
        const char *item = raw->item;
        for (int i = 0; i < raw->n || i == 0; i++, item += strlen(item) + 1) {
            if (raw->n == 0 || raw->null || !*item)
                return es_err_set(err, ES_EUSAGE, "%s: extends: want the path of a file, or a list of them",
                                  l->where);
            if (!l->extends) continue;
            ES_TRY(es_config_expand(l->where, "extends", item, l->extends, err));
            es_text_add_bytes(l->extends, "", 1);
        }
        return 0;
    }
    if (!l->cfg) return 0;
    int row = es_config_find(l->path);
    if (row >= 0) return es_config_assign(l->cfg, row, raw, l->layer, err);
    if (es_config_is_section(l->path))
        return es_err_set(err, ES_EUSAGE,
                          "%s: %s: is a section, want keys below it; see earshot %s --explain %s", l->where,
                          l->path, es_config_job(l->path), l->path);
    return es_config_unknown(l->where, l->path, false, err);
}

/* A value that is not a section, its first event already read. */
static int read_value(struct loader *l, const yaml_event_t *first, struct es_err *err) {
    struct es_text items = {0};
    struct es_config_raw raw = {.list = first->type == YAML_SEQUENCE_START_EVENT};
    int rc = 0;
    if (!raw.list) {
        raw.n = 1;
        ES_GO(add_scalar(l, first, &items, &raw.null, err));
    }
    while (raw.list) {
        yaml_event_t e;
        ES_GO(next_event(l, &e, err));
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        if (!end) rc = check_plain(l, &e, err);
        if (!end && rc == 0 && e.type != YAML_SCALAR_EVENT)
            rc = complain(l, &e.start_mark, "got a list or section inside a list, want plain values", err);
        if (!end && rc == 0) rc = add_scalar(l, &e, &items, NULL, err);
        yaml_event_delete(&e);
        if (rc < 0) goto done;
        if (end) break;
        raw.n++;
    }
    raw.item = items.s ? items.s : "";
    rc = give(l, &raw, err);
done:
    es_text_free(&items);
    return rc;
}

/* A key (or the end of a section) and what follows it. */
static int read_entry(struct loader *l, const yaml_event_t *key, struct es_err *err) {
    size_t cut = strlen(l->path);
    if (key->type != YAML_SCALAR_EVENT) return complain(l, &key->start_mark, "want a key, a plain word", err);
    ES_TRY(enter(l, key, err));
    yaml_event_t e;
    ES_TRY(next_event(l, &e, err));
    int rc = check_plain(l, &e, err);
    if (rc == 0 && e.type == YAML_MAPPING_START_EVENT) {
        rc = begin_section(l, &e, cut, err);
    } else if (rc == 0) {
        rc = read_value(l, &e, err);
        l->path[cut] = 0;
    }
    yaml_event_delete(&e);
    return rc;
}

static int read_document(struct loader *l, struct es_err *err) {
    int documents = 0;
    for (bool more = true; more;) {
        yaml_event_t e;
        ES_TRY(next_event(l, &e, err));
        int rc = check_plain(l, &e, err);
        if (rc < 0 || e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_END_EVENT) {
        } else if (e.type == YAML_STREAM_END_EVENT) {
            more = false;
        } else if (e.type == YAML_DOCUMENT_START_EVENT) {
            if (documents++ > 0) rc = complain(l, &e.start_mark, "a second document (---), want one", err);
        } else if (e.type == YAML_MAPPING_END_EVENT) {
            l->path[l->cut[--l->depth]] = 0;
        } else if (l->depth > 0) {
            rc = read_entry(l, &e, err);
        } else if (e.type == YAML_MAPPING_START_EVENT) {
            rc = begin_section(l, &e, 0, err);
        } else {
            rc = complain(l, &e.start_mark, "got a list or a word, want sections and keys: key: value", err);
        }
        yaml_event_delete(&e);
        ES_TRY(rc);
    }
    return 0;
}

/* What libyaml would report unclearly. */
static int check_bytes(const char *name, const char *text, size_t n, struct es_err *err) {
    size_t line = 1, bad = es_utf8_check(text, n);
    bool indent = true;
    for (size_t i = 0; i < bad; i++) {
        if (indent && text[i] == '\t')
            return es_err_set(err, ES_EUSAGE, "%s:%zu: a tab as indentation, want spaces", name, line);
        indent = text[i] == '\n' || (indent && text[i] == ' ');
        line += text[i] == '\n';
    }
    return bad == n ? 0
                    : es_err_set(err, ES_EUSAGE, "%s:%zu: byte 0x%02x: not UTF-8 text", name, line,
                                 (unsigned char)text[bad]);
}

static int run_loader(struct loader *l, const char *text, size_t n, struct es_err *err) {
    ES_TRY(check_bytes(l->name, text, n, err));
    if (!yaml_parser_initialize(&l->parser)) return es_err_set(err, ES_EIO, "%s: out of memory", l->name);
    yaml_parser_set_input_string(&l->parser, (const unsigned char *)text, n);
    int rc = read_document(l, err);
    yaml_parser_delete(&l->parser);
    return rc;
}

int es_config_yaml_load(struct es_config *cfg, const char *name, const char *text, size_t n,
                        enum es_config_layer layer, struct es_err *err) {
    struct loader l = {.cfg = cfg, .name = name, .layer = layer};
    cfg->n_sources++;
    cfg->finished = false;
    return run_loader(&l, text, n, err);
}

int es_config_yaml_extends(const char *name, const char *text, size_t n, struct es_text *out,
                           struct es_err *err) {
    struct loader l = {.name = name, .extends = out};
    return run_loader(&l, text, n, err);
}
