/* Log lines for people: "level phase step key=value ...". Numbers for analysis go to the metrics file
 * instead.
 *
 * es_log: once for the job (rank 0 prints, other ranks are silent). es_log_rank: every rank prints, with its
 * rank. Lines go to stderr and, once es_log_open was called, to a file too. A progress line is a terminal's
 * bar or, elsewhere, one plain line at a bounded rate (10 s).
 *
 * Collectivity: none. The logger is one of the two mutable globals of the program.
 */
#ifndef EARSHOT_LOG_H
#define EARSHOT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/err.h"

enum es_log_level { ES_LOG_ERROR, ES_LOG_WARN, ES_LOG_INFO, ES_LOG_DEBUG };

void es_log_init(int rank, int size, enum es_log_level level, bool quiet);
int es_log_open(const char *path, struct es_err *err); /* rank 0 appends to path; others ignore it */
void es_log_close(void);
void es_log(enum es_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void es_log_rank(enum es_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int es_log_level_from_name(const char *name); /* -1 when unknown */

struct es_progress { /* plain; starts as {0} */
    const char *what;
    double begin_s, last_s;
    bool open_line;
};
void es_progress_begin(struct es_progress *p, const char *what);
/* done of total units; extra (may be NULL) is appended, for example "loss=0.31". Rank 0 prints. */
void es_progress_update(struct es_progress *p, int64_t done, int64_t total, const char *unit,
                        const char *extra);
void es_progress_end(struct es_progress *p);

#endif
