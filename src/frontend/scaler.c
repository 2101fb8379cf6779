#include <math.h>

#include "frontend_impl.h"

void es_frontend_crnn_log_ref(const float *mel, int n_clips, int64_t n, float *db, float *scaled) {
    for (int b = 0; b < n_clips; b++) {
        double low = HUGE_VAL, high = -HUGE_VAL;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t i = b * n; i < (b + 1) * n; i++) {
                double d = fmin(fmax(20 * log10(fmax((double)mel[i], 1e-5)), -50), 80);
                if (pass == 0) {
                    low = fmin(low, d);
                    high = fmax(high, d);
                    continue;
                }
                if (db) db[i] = (float)d;
                if (scaled) scaled[i] = (float)(2 * ((d - low) / (high - low + 1e-8)) - 1);
            }
    }
}
