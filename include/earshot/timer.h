/* Wall clock for durations, and what measurements make of them. Monotonic seconds. */
#ifndef EARSHOT_TIMER_H
#define EARSHOT_TIMER_H

double es_now_s(void);
/* Of n >= 1 values, which it sorts; of an even number the mean of the middle two. */
double es_median(double *x, int n);

/* Seconds since 1970 as "2026-11-22T14:30:00Z"; for the attribute `created` only, never part of a digest. */
void es_time_iso(char out[32]);

#endif
