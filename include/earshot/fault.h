/* Fault injection for tests: ES_FAULT="point:n[@rankR][,point:n...]" makes the n-th pass of a point fail.
 *
 * Points (es_fault_hit):
 *   malloc, h5open, h5write, read, decode, rename
 *   write, stage, ckptwrite   no space left: files and stores; a staged copy; the thread of a background checkpoint
 *   short                     half of the bytes are written and the system says so, which is no error (es_pwrite)
 *   onednn-layout             a product refuses packed weights
 *   nan, nan-loss             training: gradients, by last leaves of a step; the loss, by leaves of this rank
 * Places (es_fault_here), each a point as kill-PLACE, stall-PLACE and slow-PLACE: step (leaves of this rank), store (clips),
 * predictions (blocks), checkpoint (files, before they are complete), metrics (files, before they are renamed), write (pieces of a
 * background checkpoint).
 *
 * Without ES_FAULT the call costs one load. Collectivity: none. */
#ifndef EARSHOT_FAULT_H
#define EARSHOT_FAULT_H

#include <stdbool.h>

void es_fault_init(const char *spec, int rank); /* spec NULL or empty: off */
bool es_fault_hit(const char *point);           /* true when this pass must fail */
/* Dies at kill-PLACE, hangs at stall-PLACE; slow-PLACE:n waits n milliseconds at every pass. */
void es_fault_here(const char *place);

#endif
