/* Impulse responses in the manner of small recording devices, as the recipe convolves training clips with (spec/training.md
 * 3.2, DIR): direct sound, a few early reflections in the case, a short tail, through a band-pass. Made, not measured. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "demo_impl.h"
#include "earshot/audio.h"
#include "earshot/mem.h"

enum { RESPONSES = 8, PATH_BYTES = 2048, LONGEST = DEMO_RATE / 4, REFLECTIONS = 5 };

/* x through first-order low- and high-pass filters. */
static void band_pass(double *x, int n, double low_hz, double high_hz) {
    const double pi = 3.14159265358979323846;
    const double a = exp(-2 * pi * high_hz / DEMO_RATE), b = exp(-2 * pi * low_hz / DEMO_RATE);
    double smooth = 0, slow = 0;
    for (int i = 0; i < n; i++) {
        smooth += (1 - a) * (x[i] - smooth);
        slow += (1 - b) * (smooth - slow);
        x[i] = smooth - slow;
    }
}

/* Response k of energy 1, x [LONGEST]; its length in samples. */
static int response(const struct es_demo *d, int k, double *x) {
    struct es_rng r = es_rng_make(d->p.seed, ES_RNG_DEMO, ES_DEMO_SETS, (uint32_t)k, OP_RESPONSE);
    const int n = (int)es_rng_range(&r, 0.02 * DEMO_RATE, LONGEST);
    const double tail = es_rng_range(&r, 0.002, 0.03) * DEMO_RATE, level = es_rng_range(&r, 0.02, 0.15);
    memset(x, 0, LONGEST * sizeof *x);
    x[0] = 1;
    for (int i = 0; i < REFLECTIONS; i++) {
        const int at = 1 + (int)es_rng_below(&r, DEMO_RATE / 200); /* within 5 ms: 1.7 m */
        x[at] += es_rng_range(&r, -0.5, 0.5);
    }
    for (int i = 1; i < n; i++) x[i] += level * es_rng_normal(&r) * exp(-i / tail);
    const double low_hz = es_rng_range(&r, 40, 400);
    band_pass(x, n, low_hz, es_rng_range(&r, 2500, 7500));
    double energy = 0;
    for (int i = 0; i < n; i++) energy += x[i] * x[i];
    for (int i = 0; i < n; i++) x[i] /= sqrt(energy);
    return n;
}

int demo_write_responses(const struct es_demo *d, struct es_err *err) {
    int rc = 0;
    char path[PATH_BYTES];
    int16_t *pcm = NULL;
    double *x = es_alloc(LONGEST, sizeof *x, err);
    if (x == NULL) return -ES_EIO;
    if ((pcm = es_alloc(LONGEST, sizeof *pcm, err)) == NULL) ES_GO(-ES_EIO);
    for (int k = 0; k < RESPONSES; k++) {
        const int n = response(d, k, x);
        for (int i = 0; i < n; i++) pcm[i] = (int16_t)lrint(x[i] * 32767);
        snprintf(path, sizeof path, "%s/dirs/device_%d.wav", d->p.out, k);
        ES_GO(demo_make_path(path, err));
        ES_GO(es_audio_write(path, pcm, n, 1, DEMO_RATE, err));
    }
done:
    es_free(&pcm);
    es_free(&x);
    return rc;
}
