#include <math.h>

#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/timer.h"
#include "frontend_impl.h"

enum { MAX_RUNS = 1000, NOISE_SAMPLES = 10 * ES_FRONTEND_RATE_HZ };

int es_frontend_bench(enum es_frontend_kind kind, const float *wave, int n_samples, double budget_s,
                      double *clips_per_s, struct es_err *err) {
    struct es_frontend *f = NULL;
    struct es_frontend_params p = es_frontend_params_default(kind);
    struct es_rng rng = es_rng_make(1, ES_RNG_BENCH, 0, 0, 0);
    float *noise = NULL, *out = NULL;
    double *run_s = NULL;
    void *scratch = NULL;
    int rc, n_mels, n_frames, n_runs = 0;
    p.n_threads = 1;
    ES_GO(es_frontend_new(&f, p, err));
    if (!wave) n_samples = NOISE_SAMPLES;
    ES_GO(es_frontend_shape(f, n_samples, &n_mels, &n_frames, err));
    rc = -ES_EIO;
    if (!wave && !(noise = es_alloc(NOISE_SAMPLES, sizeof *noise, err))) goto done;
    if (!(out = es_alloc((size_t)n_mels * (size_t)n_frames, sizeof *out, err))) goto done;
    if (!(run_s = es_alloc(MAX_RUNS, sizeof *run_s, err))) goto done;
    if (!(scratch = es_alloc(1, es_frontend_scratch(f), err))) goto done;
    for (int i = 0; noise && i < NOISE_SAMPLES; i++) noise[i] = (float)(0.1 * es_rng_normal(&rng));
    if (!wave) wave = noise;
    ES_GO(es_frontend_run(f, 1, n_samples, wave, out, scratch, err));
    for (double begin_s = es_now_s(); n_runs == 0 || (n_runs < MAX_RUNS && es_now_s() - begin_s < budget_s);
         n_runs++) {
        double run_begin_s = es_now_s();
        ES_GO(es_frontend_run(f, 1, n_samples, wave, out, scratch, err));
        run_s[n_runs] = es_now_s() - run_begin_s;
    }
    *clips_per_s = 1 / es_median(run_s, n_runs);
done:
    es_free(&scratch);
    es_free(&run_s);
    es_free(&out);
    es_free(&noise);
    es_frontend_free(&f);
    return rc;
}
