#include "earshot/version.h"

#include "earshot_commit.h"

const char *es_version_commit(void) {
    return EARSHOT_COMMIT;
}
