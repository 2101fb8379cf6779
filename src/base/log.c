#include "earshot/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

#include "earshot/timer.h"

static const char *const level_names[] = {"error", "warn", "info", "debug"};
_Static_assert(sizeof level_names / sizeof *level_names == ES_LOG_DEBUG + 1, "a name for every level");

static struct {
    int rank, size;
    enum es_log_level level;
    bool quiet, terminal;
    FILE *file;
} log_state = {.size = 1, .level = ES_LOG_INFO};

void es_log_init(int rank, int size, enum es_log_level level, bool quiet) {
    log_state.rank = rank;
    log_state.size = size;
    log_state.level = quiet && level > ES_LOG_WARN ? ES_LOG_WARN : level;
    log_state.quiet = quiet;
    log_state.terminal = isatty(STDERR_FILENO) == 1;
}

int es_log_open(const char *path, struct es_err *err) {
    if (log_state.rank != 0) return 0;
    es_log_close();
    log_state.file = fopen(path, "a");
    if (!log_state.file) return es_err_set(err, ES_EIO, "%s: cannot open the log: %s", path, strerror(errno));
    return 0;
}

void es_log_close(void) {
    if (log_state.file) fclose(log_state.file);
    log_state.file = NULL;
}

int es_log_level_from_name(const char *name) {
    for (int i = 0; i <= ES_LOG_DEBUG; i++)
        if (strcmp(name, level_names[i]) == 0) return i;
    return -1;
}

static void __attribute__((format(printf, 3, 0)))
emit(enum es_log_level level, const char *who, const char *fmt, va_list ap) {
    char line[1400];
    vsnprintf(line, sizeof line, fmt, ap);
    const char *tag = level == ES_LOG_INFO    ? ""
                      : level == ES_LOG_WARN  ? "warning: "
                      : level == ES_LOG_ERROR ? "error: "
                                              : "debug: ";
    fprintf(stderr, "earshot: %s%s%s\n", who, tag, line);
    if (log_state.file) {
        char now[32];
        es_time_iso(now);
        fprintf(log_state.file, "%s %s%s%s\n", now, who, tag, line);
        fflush(log_state.file);
    }
}

void es_log(enum es_log_level level, const char *fmt, ...) {
    if (log_state.rank != 0 || level > log_state.level) return;
    va_list ap;
    va_start(ap, fmt);
    emit(level, "", fmt, ap);
    va_end(ap);
}

void es_log_rank(enum es_log_level level, const char *fmt, ...) {
    if (level > log_state.level) return;
    char who[32] = "";
    if (log_state.size > 1) snprintf(who, sizeof who, "[rank %d] ", log_state.rank);
    va_list ap;
    va_start(ap, fmt);
    emit(level, who, fmt, ap);
    va_end(ap);
}

void es_progress_begin(struct es_progress *p, const char *what) {
    *p = (struct es_progress){.what = what, .begin_s = es_now_s()};
}

void es_progress_update(struct es_progress *p, int64_t done, int64_t total, const char *unit,
                        const char *extra) {
    if (log_state.rank != 0 || log_state.quiet || log_state.level < ES_LOG_INFO) return;
    double now = es_now_s(), passed = now - p->begin_s;
    double interval = log_state.terminal ? 0.2 : 10.0;
    if (done < total && now - p->last_s < interval && p->last_s > 0) return;
    if (done < total && p->last_s == 0 && passed < interval) return;
    p->last_s = now;
    double rate = passed > 0 ? (double)done / passed : 0.0,
           rest = rate > 0 ? (double)(total - done) / rate : 0.0;
    const char *more = extra ? extra : "";
    if (log_state.terminal) {
        char bar[31];
        int fill = total > 0 ? (int)(30.0 * (double)done / (double)total) : 30;
        for (int i = 0; i < 30; i++) bar[i] = i < fill ? '=' : ' ';
        bar[30] = 0;
        fprintf(stderr, "\r%s [%s] %lld/%lld %s %.3g/s left %.0f s %s\033[K", p->what, bar, (long long)done,
                (long long)total, unit, rate, rest, more);
        p->open_line = true;
        fflush(stderr);
    } else {
        es_log(ES_LOG_INFO, "%s %lld/%lld %s rate=%.3g/s left_s=%.0f %s", p->what, (long long)done,
               (long long)total, unit, rate, rest, more);
    }
}

void es_progress_end(struct es_progress *p) {
    if (p->open_line && log_state.rank == 0) fputc('\n', stderr);
    p->open_line = false;
}
