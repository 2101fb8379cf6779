/* Part of earshot train: --check. */
#ifndef EARSHOT_TRAIN_CHECK_H
#define EARSHOT_TRAIN_CHECK_H

#include "jobs.h"

int train_check_all(struct es_run *run, struct es_err *err);

#endif
