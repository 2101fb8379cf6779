/* Version and commit of this build; written into every file and log. */
#ifndef EARSHOT_VERSION_H
#define EARSHOT_VERSION_H

#define ES_VERSION "0.1.0"
const char *es_version_commit(void); /* 12 hex digits, "+" behind them when the tree was dirty */

#endif
