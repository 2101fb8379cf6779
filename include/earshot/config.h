/* Configuration: one table of keys, YAML files over it, and the resolved values.
 *
 * The table (src/config/table.c) holds every key: type, default, range or choices, unit, doc. Defaults live
 * there only. Parser, --explain, the resolved file of a run and configs/reference.yaml all come from it.
 *
 *   struct es_config *cfg = NULL;
 *   es_config_new(&cfg, err);                       defaults
 *   es_config_load(cfg, "run.yaml", err);           base files (extends:), then the file itself
 *   es_config_set(cfg, "train.epochs=3", err);      --set, any number, the last one wins
 *   es_config_finish(cfg, err);                     rules between keys, keys that phase or architecture ignore, the digest
 *   es_config_int(cfg, "train.epochs")
 *
 * With several ranks (src/run does it): rank 0 calls es_config_read and broadcasts the bytes, every rank
 * calls es_config_parse.
 *
 * A file is a mapping of at most one level of sections: `train:` with `epochs:` below is the key train.epochs
 * (`train.epochs:` at the top is the same). Values are scalars or lists of scalars. Not allowed: unknown
 * keys, a key or section twice, anchors, aliases, tags, tabs as indentation, more than 1 MB, bytes that are
 * not UTF-8. `extends: other.yaml` (relative to the file that says so) loads another file first, up to 16
 * levels; a list of files is loaded in its order, the later ones win (a file that two of them extend is loaded
 * twice). In paths ${VAR} and ${VAR:-default} are expanded ($${ is a plain ${); they are relative to the
 * working directory.
 *
 * A key that the chosen phase or model.arch ignores is an error when the file itself or --set gives it
 * another value than its default; inherited from a base file it falls back to its default. The digest covers
 * all keys but those marked outside_digest, so that it says "same experiment".
 *
 * Errors: ES_EUSAGE with "file:line: key: got X, want Y; see earshot train --explain key"; ES_EIO when memory
 * runs out. A getter called with a name or type that the table does not hold is a bug. Collectivity: none.
 */
#ifndef EARSHOT_CONFIG_H
#define EARSHOT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "earshot/err.h"

enum es_config_type {
    ES_CONFIG_BOOL,
    ES_CONFIG_INT,
    ES_CONFIG_DOUBLE,
    ES_CONFIG_STRING,
    ES_CONFIG_CHOICE,
    ES_CONFIG_PATH,
    ES_CONFIG_INTS, /* from here on: lists */
    ES_CONFIG_DOUBLES,
    ES_CONFIG_STRINGS,
    ES_CONFIG_PATHS,
};

struct es_config_key {
    const char *name; /* "section.key" */
    enum es_config_type type;
    const char *preset; /* the default, as YAML text */
    const char *range; /* numbers: ">0", ">=1", "0..1", "0..<1" (upper end excluded); for each item of a list;
                          NULL: any */
    const char *choices; /* "a|b|c" for ES_CONFIG_CHOICE */
    const char *unit;    /* NULL: none */
    int count;           /* lists: exact length; 0: any */
    const char *only;    /* who uses it: "phase=stage1|stage2" or "model.arch=atst"; NULL: everyone */
    const char *doc;     /* one line */
    const char *since;
    bool outside_digest;
};

const struct es_config_key *es_config_keys(int *n);

struct es_config;
int es_config_new(struct es_config **cfg, struct es_err *err);
void es_config_free(struct es_config **cfg);
/* The file and all it extends, packed with their names into one block of bytes (es_free it). */
int es_config_read(const char *path, char **bytes, size_t *n, struct es_err *err);
int es_config_parse(struct es_config *cfg, const char *bytes, size_t n, struct es_err *err);
/* es_config_read and es_config_parse. */
int es_config_load(struct es_config *cfg, const char *path, struct es_err *err);
/* One text without extends, for example the /config text of a checkpoint; name stands for the file in
 * messages. */
int es_config_load_text(struct es_config *cfg, const char *name, const char *text, struct es_err *err);
/* "key=value"; a list as [a, b] or a,b. */
int es_config_set(struct es_config *cfg, const char *assignment, struct es_err *err);
int es_config_finish(struct es_config *cfg, struct es_err *err);

bool es_config_bool(const struct es_config *cfg, const char *key);
/* A value beyond int is a bug: use es_config_i64. */
int es_config_int(const struct es_config *cfg, const char *key);
int64_t es_config_i64(const struct es_config *cfg, const char *key);
double es_config_double(const struct es_config *cfg, const char *key);
/* Strings, choices and paths; lives as long as cfg and until the key is set again. */
const char *es_config_string(const struct es_config *cfg, const char *key);
/* Is the choice this one? A word that is not among the choices is a bug. */
bool es_config_is(const struct es_config *cfg, const char *key, const char *choice);
/* Lists (strings: paths, too); n out. Lifetime as es_config_string. */
const int *es_config_ints(const struct es_config *cfg, const char *key, int *n);
const double *es_config_doubles(const struct es_config *cfg, const char *key, int *n);
const char *const *es_config_strings(const struct es_config *cfg, const char *key, int *n);

/* Where the value comes from: "configs/x.yaml:41", "--set" or "default". */
const char *es_config_where(const struct es_config *cfg, const char *key);
/* An error (ES_EUSAGE) when a string, path or list is empty that the job cannot do without. */
int es_config_require(const struct es_config *cfg, const char *key, struct es_err *err);
/* 64 bits over all keys inside the digest; after es_config_finish. */
uint64_t es_config_digest(const struct es_config *cfg);
/* How many keys inside the digest differ; names (may be NULL) gets them, separated by ", ", cut to size. */
int es_config_diff(const struct es_config *a, const struct es_config *b, char *names, size_t size);
/* All keys with their values in table order; text is es_free'd by the caller. Loading it gives the same
 * digest. */
int es_config_to_yaml(const struct es_config *cfg, char **text, struct es_err *err);
int es_config_write_yaml(const struct es_config *cfg, const char *path, struct es_err *err);

/* The text of --explain for a key or a section; with cfg also the value and where it was set. ES_EUSAGE: no
 * such key. */
int es_config_explain(const char *key, const struct es_config *cfg, FILE *out, struct es_err *err);
/* configs/reference.yaml: every key, default and doc. */
int es_config_write_reference(FILE *out, struct es_err *err);

#endif
