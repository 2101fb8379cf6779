/* Shared by the files of src/config only. */
#ifndef EARSHOT_CONFIG_IMPL_H
#define EARSHOT_CONFIG_IMPL_H

#include "earshot/config.h"
#include "earshot/text.h"

/* Which step of defaults < extends < file < --set gave a value. */
enum es_config_layer { ES_LAYER_DEFAULT, ES_LAYER_BASE, ES_LAYER_OWN };

struct es_config_value {
    enum es_config_layer layer;
    int source;  /* the how-manieth text gave it: for duplicates */
    char *where; /* NULL: default */
    int64_t i;   /* bool and int */
    double d;
    char *s;
    int n; /* lists */
    int *ints;
    double *doubles;
    char **strings;
};

struct es_config {
    struct es_config_value *value; /* one a row of the table */
    int n_sources;
    bool finished;
    uint64_t digest;
};

/* A value as found in a text, before its type is known. */
struct es_config_raw {
    const char *where; /* "file:line" */
    bool list, null;
    int n;            /* items; 1 for a scalar */
    const char *item; /* n strings, one after the other, each with its zero */
};

/* table.c */
int es_config_find(const char *name);                            /* row, or -1 */
int es_config_require_row(const char *name, unsigned type_mask); /* a bug when absent or of another type */
bool es_config_is_section(const char *name);
bool es_config_is_list(const struct es_config_key *key);
const char *es_config_job(const char *name); /* whose --explain to name in messages */
int es_config_unknown(const char *where, const char *name, bool section, struct es_err *err);

/* value.c */
void es_config_value_clear(struct es_config_value *v);
int es_config_value_parse(const struct es_config_key *key, const struct es_config_raw *raw,
                          struct es_config_value *out, struct es_err *err);
void es_config_value_text(const struct es_config_key *key, const struct es_config_value *v,
                          struct es_text *t);
int es_config_expand(const char *where, const char *what, const char *s, struct es_text *out,
                     struct es_err *err);

/* yaml.c */
int es_config_yaml_load(struct es_config *cfg, const char *name, const char *text, size_t n,
                        enum es_config_layer layer, struct es_err *err);
/* The paths of the top-level key extends, each with its zero, or an empty text. */
int es_config_yaml_extends(const char *name, const char *text, size_t n, struct es_text *out,
                           struct es_err *err);

/* explain.c */
void es_config_want(const struct es_config_key *key, char *out, size_t size); /* "a number > 0" */

/* resolve.c: parses raw for the row and stores it. */
int es_config_assign(struct es_config *cfg, int row, const struct es_config_raw *raw,
                     enum es_config_layer layer, struct es_err *err);

#endif
