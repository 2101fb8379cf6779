/* An input as a file, for readers that want one. In $TMPDIR (default /tmp): memory is faster than a disk. */
#ifndef EARSHOT_TESTS_FUZZ_FILE_H
#define EARSHOT_TESTS_FUZZ_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* false: no such file could be written. The caller unlinks path. */
static inline bool fuzz_file(char path[512], const uint8_t *data, size_t n) {
    const char *dir = getenv("TMPDIR");
    snprintf(path, 512, "%s/earshot-fuzz-XXXXXX", dir && *dir ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) return false;
    bool whole = write(fd, data, n) == (ssize_t)n;
    close(fd);
    if (!whole) unlink(path);
    return whole;
}

#endif
