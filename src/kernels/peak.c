/* Peak probe: the sum over threads that run at the same time. */
#include "impl.h"

double es_k_peak_gflops(int threads, double wall_s) {
    double sum = 0;
    bool wide = __builtin_cpu_supports("avx512f");
#pragma omp parallel num_threads(threads)
    {
        double mine = wide ? es_peak_run_avx512(wall_s) : es_peak_run_avx2(wall_s);
#pragma omp critical
        sum += mine;
    }
    return sum;
}
