/* How a job's linear systems are solved. */
#ifndef EARSHOT_GRAM_KEYS_H
#define EARSHOT_GRAM_KEYS_H

#include "earshot/config.h"
#include "earshot/gram.h"

/* The section linalg of a configuration; size and name of the system are the caller's. */
struct es_gram_params gram_keys(const struct es_config *cfg);

#endif
