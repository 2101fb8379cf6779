/* Wall clock for durations, and accumulating phase timers. Monotonic seconds. */
#ifndef EARSHOT_TIMER_H
#define EARSHOT_TIMER_H

double es_now_s(void);

/* Seconds since 1970 as "2026-11-22T14:30:00Z"; for the attribute `created` only, never part of a digest. */
void es_time_iso(char out[32]);

#endif
