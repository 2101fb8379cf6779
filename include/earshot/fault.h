/* Fault injection for tests: ES_FAULT="point:n[@rankR][,point:n...]" makes the n-th pass of a point fail.
 *
 * Points in use: malloc, onednn-layout (a product refuses packed weights), h5write, h5open, read, write, rename, decode; in training kill (SIGKILL to itself) and stall
 * (waits for ever), by leaves of this rank, nan, by gradients of the last leaf of a step, and nan-loss, by leaves of this rank.
 * The writers have points of their own, by what they write: stage (no space left), kill-store, stall-store (clips), kill-predictions,
 * stall-predictions (blocks), kill-checkpoint, stall-checkpoint (files; before they are complete), kill-metrics (files, before
 * they are renamed). kill-, stall- and slow-step: leaves of this rank; slow-write: pieces of a background checkpoint.
 * write: no space left; short: half of the bytes are
 * written and the system says so, which is no error (es_pwrite).
 * Without ES_FAULT the call costs one load. Collectivity: none. */
#ifndef EARSHOT_FAULT_H
#define EARSHOT_FAULT_H

#include <stdbool.h>

void es_fault_init(const char *spec, int rank); /* spec NULL or empty: off */
bool es_fault_hit(const char *point);           /* true when this pass must fail */
/* Dies at kill-PLACE, hangs at stall-PLACE; slow-PLACE:n waits n milliseconds at every pass. */
void es_fault_here(const char *place);

#endif
