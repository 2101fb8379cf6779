#include "eval.h"
void ev_case_filters(struct rn *run, const char *folder) { (void)run; (void)folder; }
void ev_case_bootstrap(struct rn *run, const char *folder) { (void)run; (void)folder; }
void ev_real_boxes(struct rn *run, const char *folder) { (void)run; (void)folder; }
void ev_pipeline_boxes(struct rn *run, const char *folder) { (void)run; (void)folder; }
