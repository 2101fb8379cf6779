/* Small YAML files that are no configuration: nested mappings of scalars, as a flat list in order. Lists, anchors, tags are refused.
 * Errors: ES_EDATA with "file:line: ..."; ES_EIO. Collectivity: none. */
#ifndef EARSHOT_YAMLROWS_H
#define EARSHOT_YAMLROWS_H

#include "earshot/err.h"

enum { ES_YAML_DEPTH = 3 };
struct es_yaml_row {
    int depth; /* number of keys */
    char *key[ES_YAML_DEPTH];
    char *value;
    int line;
};
struct es_yaml_rows {
    int n, cap;
    struct es_yaml_row *row;
};
int es_yaml_rows_load(struct es_yaml_rows *rows, const char *path, struct es_err *err);
void es_yaml_rows_free(struct es_yaml_rows *rows);

#endif
