/* Tab-separated tables, read strictly; and a list of names with lookup.
 *
 *     static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
 *     ES_GO(es_tsv_open(&t, path, columns, 5, 0, err));
 *     for (int64_t row = 0; row < es_tsv_rows(t); row++) ... es_tsv_text(t, row, 3) ...
 *
 * The first line names the columns (any order, further columns are ignored); "?" marks a column that may be missing. With
 * ES_TSV_NO_HEADER the columns stand in the given order. Accepted: CRLF, a byte order mark, empty lines, a last line without an
 * end. Refused with ES_EDATA and "file:line: what: got X, want Y": a wanted column that is missing, a column twice, a row with
 * another number of fields, something that is not a finite decimal number, negative or reversed times. Lines count from 1.
 * Numbers are rounded correctly (strtod in the C locale). Collectivity: none.
 */
#ifndef EARSHOT_TSV_H
#define EARSHOT_TSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/err.h"

struct es_tsv;

/* KEEP_ROWS: a row with another number of fields is kept (fields that are not there: ""); es_tsv_row_check tells. */
enum { ES_TSV_NO_HEADER = 1, ES_TSV_KEEP_ROWS = 2 };

int es_tsv_open(struct es_tsv **t, const char *path, const char *const *columns, int n_columns,
                unsigned flags, struct es_err *err);
void es_tsv_close(struct es_tsv **t);
int64_t es_tsv_rows(const struct es_tsv *t);
bool es_tsv_has(const struct es_tsv *t, int column); /* false for an optional column that is not there */
/* Text of a field, borrowed from t; NULL when the column is not there. */
const char *es_tsv_text(const struct es_tsv *t, int64_t row, int column);
int64_t es_tsv_line(const struct es_tsv *t, int64_t row);
/* ES_EDATA when the row has another number of fields than the first line. */
int es_tsv_row_check(const struct es_tsv *t, int64_t row, struct es_err *err);
int es_tsv_number(const struct es_tsv *t, int64_t row, int column, double *v, struct es_err *err);
/* onset and offset: 0 <= onset <= offset. */
int es_tsv_times(const struct es_tsv *t, int64_t row, int onset_column, int offset_column, double *onset_s,
                 double *offset_s, struct es_err *err);
/* ES_EDATA "file:line: column: got "...", want ..." for what the caller finds wrong in a field. */
int es_tsv_wrong(const struct es_tsv *t, int64_t row, int column, const char *want, struct es_err *err);
/* The whole text is one finite decimal number (no hex, no inf, no blanks). */
bool es_number_from_text(const char *text, double *v);

/* Names in order of first appearance, each with its index. */
struct es_names;
int es_names_new(struct es_names **names, struct es_err *err);
void es_names_free(struct es_names **names);
int64_t es_names_count(const struct es_names *names);
const char *es_names_get(const struct es_names *names, int64_t i);
int64_t es_names_find(const struct es_names *names, const char *name); /* -1: not there */
/* Index of name, added (copied) when new; negative error when out of memory. */
int64_t es_names_add(struct es_names *names, const char *name, struct es_err *err);

#endif
