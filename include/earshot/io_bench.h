/* `earshot bench io`: how fast corpus stores, checkpoints and predictions come and go, beside a plain file of the same bytes on the
 * same disk in the same run.
 *
 * Writing ends when the data are on the disk (fsync). "checkpoint_held" is what a training run waits for while it writes behind its
 * back: es_ckpt_begin_all and es_ckpt_finish_all, without the thread's time between them. Files are told to leave the page cache
 * before they are read, which the system may ignore; random content, so that nothing compresses. All files lie in `dir` and go away.
 */
#ifndef EARSHOT_IO_BENCH_H
#define EARSHOT_IO_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"

struct es_io_bench_row {
    const char *op; /* "plain_write", "store_read", ... */
    bool write;     /* to be compared with plain_write, otherwise with plain_read */
    int64_t bytes;  /* of data, all ranks together; 0: not asked for */
    double seconds; /* of the slowest rank; median over the repeats */
    /* bytes a second over those of the plain file in the same round; median over the repeats */
    double of_plain;
};
enum { ES_IO_BENCH_ROWS = 9 };

/* One warm-up, then n_repeats >= 1 rounds of all operations, in turn. bytes: about so many for each operation. only (NULL: all): the
 * operations whose names begin so, beside the plain file. Collective; arguments and rows same on all ranks. */
int es_io_bench_all(const struct es_comm *c, const char *dir, int64_t bytes, int n_repeats, const char *only,
                    struct es_io_bench_row rows[ES_IO_BENCH_ROWS], struct es_err *err);

#endif
