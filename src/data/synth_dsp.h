/* Small signal blocks of the procedural synthesiser (synth_*.c only). Everything runs at 16 kHz, in float,
 * and is a pure function of the state given; no libm call per sample. */
#ifndef ES_DATA_SYNTH_DSP_H
#define ES_DATA_SYNTH_DSP_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "earshot/rng.h"

#define SY_RATE 16000.0f
#define SY_PI 3.14159265358979f

/* id draws what belongs to the source (a throat, a motor, a plate); ev draws what changes from event to
 * event. */
struct es_synth {
    struct es_rng id, ev;
    uint32_t noise; /* xorshift32 state, not 0 */
    bool test;
};

/* A parameter of the source. The range is cut into ten stripes; test sources use stripes 2, 5 and 8 only,
 * training sources the other seven: what is tested was never heard, yet lies between things that were. */
static inline float sy_id(struct es_synth *s, double lo, double hi) {
    static const int stripe[2][7] = {{0, 1, 3, 4, 6, 7, 9}, {2, 5, 8, 2, 5, 8, 5}};
    const int n = s->test ? 3 : 7;
    const double u = es_rng_uniform(&s->id) * n;
    const int k = (int)u;
    return (float)(lo + (hi - lo) * (stripe[s->test ? 1 : 0][k] + (u - k)) / 10);
}

static inline float sy_var(struct es_synth *s, double lo, double hi) {
    return (float)es_rng_range(&s->ev, lo, hi);
}

static inline int sy_samples(float seconds) {
    return (int)(seconds * SY_RATE);
}

static inline float sy_noise(struct es_synth *s) { /* white, uniform in [-1, 1) */
    uint32_t w = s->noise;
    w ^= w << 13;
    w ^= w >> 17;
    w ^= w << 5;
    s->noise = w;
    return (float)(int32_t)w * (1.0f / 2147483648.0f);
}

/* sin(2 pi phase / 2^32), error 1e-3; phases wrap by themselves and harmonic k is phase * k. */
static inline float sy_sin(uint32_t phase) {
    const float p = (float)(int32_t)phase * (1.0f / 2147483648.0f); /* -1..1 is -pi..pi */
    const float y = 4 * p * (1 - fabsf(p));
    return y + 0.225f * y * (fabsf(y) - 1);
}

static inline uint32_t sy_step(float hz) {
    return (uint32_t)(int64_t)(hz * (4294967296.0f / SY_RATE));
}

static inline float sy_pole(float hz) {
    return 1 - expf(-2 * SY_PI * hz / SY_RATE);
} /* one-pole smoothing factor */

/* Two-pole band pass with zeros at 0 and half the rate: gain about 1 at the centre. */
struct sy_band {
    float a1, a2, b, x1, x2, y1, y2;
};
static inline void sy_band_set(struct sy_band *r, float hz, float width_hz) {
    const float e = expf(-SY_PI * width_hz / SY_RATE);
    r->a1 = 2 * e * cosf(2 * SY_PI * fminf(hz, 0.47f * SY_RATE) / SY_RATE);
    r->a2 = -e * e;
    r->b = (1 - e * e) / 2;
}
static inline float sy_band_run(struct sy_band *r, float x) {
    const float y = r->b * (x - r->x2) + r->a1 * r->y1 + r->a2 * r->y2;
    r->x2 = r->x1;
    r->x1 = x;
    r->y2 = r->y1;
    r->y1 = y;
    return y;
}

/* Formant: two poles, gain 1 at 0 Hz (Klatt 1980), for a cascade. */
struct sy_formant {
    float a, b, c, y1, y2;
};
static inline void sy_formant_set(struct sy_formant *r, float hz, float width_hz) {
    const float e = expf(-SY_PI * width_hz / SY_RATE);
    r->c = -e * e;
    r->b = 2 * e * cosf(2 * SY_PI * fminf(hz, 0.47f * SY_RATE) / SY_RATE);
    r->a = 1 - r->b - r->c;
}
static inline float sy_formant_run(struct sy_formant *r, float x) {
    const float y = r->a * x + r->b * r->y1 + r->c * r->y2;
    r->y2 = r->y1;
    r->y1 = y;
    return y;
}

/* A value that walks linearly between random targets of [lo, hi], a new one every period samples. */
struct sy_drift {
    float value, step, lo, hi;
    int period, left;
};
static inline struct sy_drift sy_drift_make(struct es_synth *s, float lo, float hi, float period_s) {
    return (struct sy_drift){sy_var(s, (double)lo, (double)hi), 0, lo, hi, sy_samples(period_s) + 1, 0};
}
static inline float sy_drift_run(struct sy_drift *d, struct es_synth *s) {
    if (d->left-- == 0) {
        d->left = d->period - 1;
        d->step = (sy_var(s, (double)d->lo, (double)d->hi) - d->value) / (float)d->period;
    }
    return d->value += d->step;
}

/* One period of a harmonic sound, read with linear interpolation. */
enum { SY_WAVE = 1024 };
struct sy_wave {
    float y[SY_WAVE + 1];
};
static inline void sy_wave_make(struct sy_wave *w, const float *amp, int harmonics) {
    for (int i = 0; i <= SY_WAVE; i++) {
        w->y[i] = 0;
        for (int k = 0; k < harmonics; k++)
            w->y[i] += amp[k] * sy_sin((uint32_t)i * (uint32_t)(k + 1) * (4294967295u / SY_WAVE + 1) +
                                       (uint32_t)k * (uint32_t)k * 0x1d872b41u);
    }
}
static inline float sy_wave_at(const struct sy_wave *w, uint32_t phase) {
    const uint32_t i = phase >> 22;
    const float f = (float)(phase & 0x3fffff) * (1.0f / 4194304.0f);
    return w->y[i] + f * (w->y[i + 1] - w->y[i]);
}

/* Shared by the generators (synth_sounds.c). */
/* Adds a decaying sine until -60 dB. */
void sy_ring(float *x, int n, int at, float hz, float tau_s, float amp);
void sy_burst(struct es_synth *s, float *x, int n, int at, float hz, float width_hz, float tau_s,
              float amp); /* adds decaying band noise */
void sy_reverb(float *x, int n, float t60_s, float wet);
void sy_room(struct es_synth *s, float *x, int n); /* a few early reflections, drawn by id */

/* Generators: add a sound that fills x[0..n). One function a class; the table is in synth_sounds.c. */
void sy_speech(struct es_synth *s, float *x, int n);
void sy_talkers(struct es_synth *s, float *x, int n);
void sy_children(struct es_synth *s, float *x, int n);
void sy_announcement(struct es_synth *s, float *x, int n);
void sy_baby(struct es_synth *s, float *x, int n);
void sy_cat(struct es_synth *s, float *x, int n);
void sy_dog(struct es_synth *s, float *x, int n);
void sy_birds(struct es_synth *s, float *x, int n);
void sy_cricket(struct es_synth *s, float *x, int n);
void sy_whistling(struct es_synth *s, float *x, int n);
void sy_alarm(struct es_synth *s, float *x, int n);
void sy_blender(struct es_synth *s, float *x, int n);
void sy_shaver(struct es_synth *s, float *x, int n);
void sy_vacuum(struct es_synth *s, float *x, int n);
void sy_coffee(struct es_synth *s, float *x, int n);
void sy_large_vehicle(struct es_synth *s, float *x, int n);
void sy_car(struct es_synth *s, float *x, int n);
void sy_brakes(struct es_synth *s, float *x, int n);
void sy_register(struct es_synth *s, float *x, int n);
void sy_metro_leaving(struct es_synth *s, float *x, int n);
void sy_metro_approaching(struct es_synth *s, float *x, int n);
void sy_chainsaw(struct es_synth *s, float *x, int n);
void sy_fan(struct es_synth *s, float *x, int n);
void sy_siren(struct es_synth *s, float *x, int n);
void sy_helicopter(struct es_synth *s, float *x, int n);
void sy_horn(struct es_synth *s, float *x, int n);
void sy_dishes(struct es_synth *s, float *x, int n);
void sy_cutlery(struct es_synth *s, float *x, int n);
void sy_frying(struct es_synth *s, float *x, int n);
void sy_crackle(struct es_synth *s, float *x, int n);
void sy_water(struct es_synth *s, float *x, int n);
void sy_furniture(struct es_synth *s, float *x, int n);
void sy_footsteps(struct es_synth *s, float *x, int n);
void sy_cart(struct es_synth *s, float *x, int n);
void sy_door(struct es_synth *s, float *x, int n);
void sy_wind(struct es_synth *s, float *x, int n);
void sy_clock(struct es_synth *s, float *x, int n);
void sy_keyboard(struct es_synth *s, float *x, int n);
void sy_applause(struct es_synth *s, float *x, int n);
void sy_hammer(struct es_synth *s, float *x, int n);
void sy_background(struct es_synth *s, float *x, int n);

#endif
