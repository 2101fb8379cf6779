#include "runner.h"
int rn_run_evaluation(struct rn *run, struct es_err *err) {
    (void)run;
    return es_err_set(err, ES_EBUG, "TODO");
}
