#include "gram_keys.h"

struct es_gram_params gram_keys(const struct es_config *cfg) {
    int n;
    const int *grid = es_config_ints(cfg, "linalg.grid", &n);
    return (struct es_gram_params){
        .local_max = es_config_int(cfg, "linalg.local_max"), .grid_rows = grid[0], .grid_cols = grid[1]};
}
