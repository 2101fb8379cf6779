#include "runner.h"
void rn_case_trajectory(struct rn_case *c) {
    rn_skip(c, "TODO");
}
int rn_run_evaluation(struct rn *run, struct es_err *err) {
    (void)run;
    return es_err_set(err, ES_EBUG, "TODO");
}
