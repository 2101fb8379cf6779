/* Overlaps of sets as text and JSON, for the jobs train and inspect. */
#ifndef EARSHOT_OVERLAP_ROWS_H
#define EARSHOT_OVERLAP_ROWS_H

#include "earshot/overlap.h"
#include "earshot/run.h"

void overlap_print(struct es_run *run, const struct es_overlaps *o);
/* A member "overlaps", an array. */
void overlap_write(struct es_json *j, const struct es_overlaps *o);

#endif
