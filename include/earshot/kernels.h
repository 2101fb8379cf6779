/* Kernels: one function per computation, pointers, sizes and scratch only; no allocation, MPI, files, log or
 * configuration.
 *
 * Every kernel es_k_<op>(...) has a reference es_k_<op>_ref_f32 / _ref_f64 (plain loops, double accumulators:
 * the definition; the double one for gradient checks) and a fast version; ES_KERNELS=fast|ref|check picks at
 * start-up (check runs both and is a bug when they differ by more than a bound computed from the data).
 *
 * Determinism: the same shapes, thread count and instruction set give the same bits. OpenMP schedules are
 * static, no atomics, no reduction(+) on floats; a sum over threads' parts has a fixed order that does not
 * depend on the number of threads where cheaply possible.
 */
#ifndef EARSHOT_KERNELS_H
#define EARSHOT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum es_kernel_mode { ES_KERNELS_FAST, ES_KERNELS_REF, ES_KERNELS_CHECK };
enum es_kernel_mode es_kernel_mode(void); /* from ES_KERNELS, read once */
int es_kernel_threads(void);              /* OpenMP threads in use */
void es_kernel_set_threads(int n);        /* OpenMP and BLAS */

#endif
