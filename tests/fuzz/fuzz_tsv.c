/* Label tables. The reader wants a path: the bytes go through a file. */
#include <stdint.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"

#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_table(const char *path, unsigned flags) {
    static const char *const columns[] = {"filename", "onset", "offset", "event_label", "?confidence"};
    struct es_tsv *t = NULL;
    struct es_err err = {0};
    if (es_tsv_open(&t, path, columns, 5, flags, &err) < 0) return;
    for (int64_t row = 0; row < es_tsv_rows(t); row++) {
        double on, off, c;
        if (es_tsv_times(t, row, 1, 2, &on, &off, &err) == 0) ES_ASSERT(on >= 0 && off >= on);
        if (es_tsv_has(t, 4)) es_tsv_number(t, row, 4, &c, &err);
        ES_ASSERT(es_tsv_text(t, row, 0) && es_tsv_line(t, row) > 0);
    }
    es_tsv_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char path[512];
    if (!fuzz_file(path, data, n)) return 0;
    read_table(path, 0);
    read_table(path, ES_TSV_NO_HEADER);
    unlink(path);
    ES_ASSERT(es_mem_live_blocks() == 0);
    return 0;
}
