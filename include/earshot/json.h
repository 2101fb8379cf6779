/* JSON. Output: a writer without a tree; input: es_json_read, at the end. Values come in order; a misplaced call (a value without
 * key in an object, an end that does not match) is a bug.
 *
 *   struct es_json *j = NULL;
 *   es_json_new(&j, "out.json", err);            "-": standard output
 *   es_json_begin_object(j);
 *   es_json_key(j, "psds1"); es_json_number(j, 0.52);
 *   es_json_end_object(j);
 *   rc = es_json_close(&j, err);                 temporary name, fsync, rename; nothing is left behind by
 * es_json_free
 *
 * Every top-level value is one line, so several of them are JSON Lines; on standard output each is written
 * when it ends. Numbers are plain decimals that read back to the same double (an exponent only beyond
 * 1e+-30); infinities and NaN, which JSON lacks, become null. Strings that are not UTF-8 get U+FFFD in place
 * of bad bytes. A NULL writer is allowed in every call and does nothing: ranks other than 0 and jobs without
 * --json need no if.
 *
 * Collectivity: none; rank 0 writes.
 */
#ifndef EARSHOT_JSON_H
#define EARSHOT_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/text.h"
#include "earshot/value.h"

struct es_json;
int es_json_new(struct es_json **j, const char *path, struct es_err *err);
int es_json_close(struct es_json **j, struct es_err *err); /* ES_EIO when the text could not be written */
void es_json_free(struct es_json **j);                     /* drops what was not written */

void es_json_begin_object(struct es_json *j);
void es_json_end_object(struct es_json *j);
void es_json_begin_array(struct es_json *j);
void es_json_end_array(struct es_json *j);
void es_json_key(struct es_json *j, const char *key);
void es_json_number(struct es_json *j, double v);
void es_json_int(struct es_json *j, int64_t v);
void es_json_bool(struct es_json *j, bool v);
void es_json_string(struct es_json *j, const char *s); /* NULL writes null */
void es_json_null(struct es_json *j);

/* Key and value in one call. */
void es_json_put_number(struct es_json *j, const char *key, double v);
void es_json_put_int(struct es_json *j, const char *key, int64_t v);
void es_json_put_bool(struct es_json *j, const char *key, bool v);
void es_json_put_string(struct es_json *j, const char *key, const char *s);

/* Adds s as a JSON string. */
void es_json_quote(struct es_text *t, const char *s);

/* One JSON text (RFC 8259, UTF-8) as a tree in heap. name stands for the text in messages: "name: JSON: byte 17: ...".
 * Nesting beyond 32 and anything behind the value: ES_EDATA. A key given twice is kept twice (es_value_get gives the last).
 * Numbers without point and exponent that fit are INT. */
int es_json_read(struct es_values *heap, const char *text, size_t n, const char *name, struct es_value **root,
                 struct es_err *err);

#endif
