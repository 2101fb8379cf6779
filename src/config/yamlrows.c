#include "earshot/yamlrows.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "earshot/mem.h"

struct reader {
    struct es_yaml_rows *rows;
    const char *path;
    char *key[ES_YAML_DEPTH + 1]; /* of the mappings we are in; the last one waits for its value */
    int depth;                    /* mappings open */
    bool has_key;
};

static int wrong(const struct reader *r, const yaml_event_t *e, const char *what, struct es_err *err) {
    return es_err_set(err, ES_EDATA, "%s:%zu: got %s; want nested mappings of scalars", r->path,
                      e->start_mark.line + 1, what);
}

static int add_row(struct reader *r, const yaml_event_t *e, struct es_err *err) {
    struct es_yaml_rows *rows = r->rows;
    if (rows->n == rows->cap) {
        const int cap = rows->cap ? 2 * rows->cap : 64;
        struct es_yaml_row *more = es_alloc((size_t)cap, sizeof *more, err);
        if (!more) return -ES_EIO;
        if (rows->n) memcpy(more, rows->row, (size_t)rows->n * sizeof *more);
        es_free(&rows->row);
        rows->row = more;
        rows->cap = cap;
    }
    struct es_yaml_row *row = &rows->row[rows->n++];
    row->depth = r->depth;
    row->line = (int)e->start_mark.line + 1;
    for (int d = 0; d < r->depth; d++)
        if (!(row->key[d] = es_strdup(r->key[d], err))) return -ES_EIO;
    row->value = es_strdup((const char *)e->data.scalar.value, err);
    return row->value ? 0 : -ES_EIO;
}

static int take(struct reader *r, const yaml_event_t *e, struct es_err *err) {
    switch (e->type) {
    case YAML_SEQUENCE_START_EVENT:
        return wrong(r, e, "a list", err);
    case YAML_ALIAS_EVENT:
        return wrong(r, e, "an alias", err);
    case YAML_MAPPING_START_EVENT:
        if (r->depth == ES_YAML_DEPTH || (r->depth > 0 && !r->has_key))
            return wrong(r, e, "a mapping too deep", err);
        r->depth++;
        r->has_key = false;
        return 0;
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        es_free(&r->key[r->depth]);
        r->has_key = false;
        return 0;
    case YAML_SCALAR_EVENT:
        if (r->depth == 0) return wrong(r, e, "a single value", err);
        if (r->has_key) {
            r->has_key = false;
            return add_row(r, e, err);
        }
        es_free(&r->key[r->depth - 1]);
        r->key[r->depth - 1] = es_strdup((const char *)e->data.scalar.value, err);
        r->has_key = r->key[r->depth - 1] != NULL;
        return r->has_key ? 0 : -ES_EIO;
    default:
        return 0;
    }
}

int es_yaml_rows_load(struct es_yaml_rows *rows, const char *path, struct es_err *err) {
    struct reader r = {.rows = rows, .path = path};
    yaml_parser_t parser;
    int rc = 0;
    *rows = (struct es_yaml_rows){0};
    FILE *f = fopen(path, "rb");
    if (!f) return es_err_set(err, ES_EIO, "%s: cannot open: %s", path, strerror(errno));
    if (!yaml_parser_initialize(&parser)) {
        fclose(f);
        return es_err_set(err, ES_EIO, "%s: out of memory", path);
    }
    yaml_parser_set_input_file(&parser, f);
    for (bool end = false; rc == 0 && !end;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            rc = es_err_set(err, ES_EDATA, "%s:%zu: not valid YAML: %s", path, parser.problem_mark.line + 1,
                            parser.problem ? parser.problem : "unknown problem");
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        rc = take(&r, &e, err);
        yaml_event_delete(&e);
    }
    for (int d = 0; d <= ES_YAML_DEPTH; d++) es_free(&r.key[d]);
    yaml_parser_delete(&parser);
    fclose(f);
    if (rc < 0) es_yaml_rows_free(rows);
    return rc;
}

void es_yaml_rows_free(struct es_yaml_rows *rows) {
    for (int i = 0; i < rows->n; i++) {
        for (int d = 0; d < ES_YAML_DEPTH; d++) es_free(&rows->row[i].key[d]);
        es_free(&rows->row[i].value);
    }
    es_free(&rows->row);
    rows->n = rows->cap = 0;
}
