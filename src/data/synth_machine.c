/* Machines: motors, vehicles, bells and beepers. A motor is one wave table (its harmonics) and one band of
 * noise under a common speed curve; a vehicle is that behind a distance. */
#include <math.h>
#include <string.h>

#include "synth_dsp.h"

enum { HARMONICS = 48 };

struct motor {
    float f0_hz, spin_s;          /* final speed; time constant of spin-up (0: already running) */
    float amp[HARMONICS];         /* harmonics */
    float noise, low_hz, high_hz; /* band noise and its corners */
    float load, load_s;           /* relative speed changes under load, one each load_s */
    float whine, whine_hz;        /* a narrow resonance of the housing, in the noise */
};

static void run_motor(struct es_synth *s, const struct motor *m, float *x, int n) {
    struct sy_wave wave;
    sy_wave_make(&wave, m->amp, HARMONICS);
    struct sy_drift load = sy_drift_make(s, 1 - m->load, 1 + m->load, m->load_s);
    struct sy_band whine = {0};
    sy_band_set(&whine, m->whine_hz, 0.12f * m->whine_hz);
    const bool spin = m->spin_s > 0 && es_rng_below(&s->ev, 3) > 0;
    const float a_spin = spin ? 1 / (m->spin_s * SY_RATE) : 1, a_low = sy_pole(m->low_hz),
                a_high = sy_pole(m->high_hz);
    const int stop = spin && n > sy_samples(2) ? n - sy_samples(0.6f * m->spin_s + 0.1f) : n;
    float speed = spin ? 0.25f : 1, low = 0, high = 0;
    uint32_t phase = 0;
    for (int i = 0; i < n; i++) {
        speed += a_spin * ((i < stop ? 1 : 0.3f) - speed);
        const float v = speed * sy_drift_run(&load, s), w = sy_noise(s);
        phase += sy_step(m->f0_hz * v);
        low += a_low * (w - low);
        high += a_high * (w - low - high);
        x[i] += v * v * (sy_wave_at(&wave, phase) + m->noise * high + m->whine * sy_band_run(&whine, w));
    }
}

/* Harmonic amplitudes 1/k^slope with random weights. */
static void harmonics(struct es_synth *s, struct motor *m, int count, float slope, double spread) {
    for (int k = 0; k < count; k++)
        m->amp[k] = powf((float)(k + 1), -slope) * sy_id(s, 1 - spread, 1 + spread);
}

void sy_blender(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 140, 330);
    m.spin_s = sy_id(s, 0.1, 0.35);
    m.noise = sy_id(s, 1.2, 3);
    m.low_hz = sy_id(s, 500, 1200);
    m.high_hz = sy_id(s, 2500, 6000);
    m.load = sy_id(s, 0.02, 0.12);
    m.load_s = 0.12f;
    m.whine = sy_id(s, 0.5, 2.5);
    m.whine_hz = sy_id(s, 1500, 3500);

    harmonics(s, &m, 16, sy_id(s, 0.4, 0.9), 0.8);
    run_motor(s, &m, x, n);
}

void sy_shaver(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 90, 150);
    m.spin_s = sy_id(s, 0.02, 0.06);
    m.noise = sy_id(s, 0.3, 0.9);
    m.low_hz = 2500;
    m.high_hz = 7000;
    m.load = sy_id(s, 0.005, 0.03);
    m.load_s = 0.3f;
    m.whine = sy_id(s, 0.5, 2);
    m.whine_hz = sy_id(s, 3500, 6000);

    const int formant = 8 + (int)es_rng_below(&s->id, 24); /* the housing lifts a few harmonics */
    harmonics(s, &m, HARMONICS, sy_id(s, 0.2, 0.6), 0.6);
    for (int k = 0; k < 6; k++) m.amp[formant + k] *= 3;
    run_motor(s, &m, x, n);
}

void sy_vacuum(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 350, 750);
    m.spin_s = sy_id(s, 0.4, 1.0);
    m.noise = sy_id(s, 2, 4);
    m.low_hz = sy_id(s, 120, 400);
    m.high_hz = sy_id(s, 1500, 4000);
    m.load = sy_id(s, 0.005, 0.04);
    m.load_s = 0.8f;
    m.whine = sy_id(s, 0.5, 2);
    m.whine_hz = sy_id(s, 700, 1600);

    harmonics(s, &m, 6, sy_id(s, 0.9, 1.6), 0.5);
    run_motor(s, &m, x, n);
}

void sy_fan(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 50, 140);
    m.spin_s = 0;
    m.noise = sy_id(s, 3, 5);
    m.low_hz = sy_id(s, 40, 120);
    m.high_hz = sy_id(s, 400, 1200);
    m.load = 0.005f;
    m.load_s = 1;
    m.whine_hz = 300;

    harmonics(s, &m, 5, 1.2f, 0.5);
    run_motor(s, &m, x, n);
}

void sy_chainsaw(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 70, 130);
    m.spin_s = sy_id(s, 0.2, 0.4);
    m.noise = sy_id(s, 0.5, 1.2);
    m.low_hz = 300;
    m.high_hz = 3500;
    m.load = sy_id(s, 0.1, 0.3);
    m.load_s = sy_id(s, 0.3, 0.8);
    m.whine = 1;
    m.whine_hz = sy_id(s, 1800, 3000);

    harmonics(s, &m, HARMONICS, 0.45f, 0.7);
    run_motor(s, &m, x, n);
}

void sy_helicopter(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 60, 110);
    m.noise = 1.5f;
    m.low_hz = 60;
    m.high_hz = 700;
    m.load = 0.01f;
    m.load_s = 1;
    m.whine_hz = 400;

    harmonics(s, &m, 8, 0.9f, 0.5);
    run_motor(s, &m, x, n);
    const float blade_hz = sy_id(s, 9, 20);
    uint32_t blade = 0;
    for (int i = 0; i < n; i++) {
        blade += sy_step(blade_hz);
        const float c = 0.5f + 0.5f * sy_sin(blade);
        x[i] *= 0.15f + c * c * c;
    }
}

/* Pump, then steam; pushes of the pump through the group head. */
void sy_coffee(struct es_synth *s, float *x, int n) {
    const float pump_hz = sy_id(s, 45, 62), steam_hz = sy_id(s, 3500, 6000), grind = sy_id(s, 0, 1);
    struct motor m = {.f0_hz = pump_hz,
                      .noise = 0.4f,
                      .low_hz = 300,
                      .high_hz = 2000,
                      .load = 0.02f,
                      .load_s = 0.4f,
                      .whine = grind,
                      .whine_hz = 900};
    harmonics(s, &m, 16, 0.6f, 0.6);
    run_motor(s, &m, x, n);
    struct sy_band steam = {0};
    struct sy_drift gate = sy_drift_make(s, -0.6f, 1.6f, 0.7f), tune = sy_drift_make(s, 0.8f, 1.2f, 0.3f);
    float g = 0;
    for (int i = 0; i < n; i++) {
        if (i % 64 == 0) sy_band_set(&steam, steam_hz * tune.value, 2200);
        sy_drift_run(&tune, s);
        g = fminf(1, fmaxf(0, sy_drift_run(&gate, s)));
        x[i] = (1.1f - g) * x[i] + 3 * g * sy_band_run(&steam, sy_noise(s));
    }
}

/* ---- vehicles */

struct pass {
    float loud_s, near; /* half width of the passage, share of the level that stays far away */
    float peak;         /* where in 0..1 it is closest */
};

static float nearness(const struct pass *p, float t_s, float whole_s) {
    const float d = (t_s - p->peak * whole_s) / p->loud_s;
    return p->near + (1 - p->near) / (1 + d * d);
}

static void drive(struct es_synth *s, const struct motor *m, const struct pass *p, float tyre, float *x,
                  int n) {
    struct sy_wave wave;
    sy_wave_make(&wave, m->amp, HARMONICS);
    struct sy_drift load = sy_drift_make(s, 1 - m->load, 1 + m->load, m->load_s);
    const float whole_s = (float)n / SY_RATE, a_low = sy_pole(m->low_hz);
    float low = 0, bright = 0, a = 0, gain = 0;
    uint32_t phase = 0, step = 0;
    for (int i = 0; i < n; i++) {
        if (i % 64 == 0) {
            gain = nearness(p, (float)i / SY_RATE, whole_s);
            a = sy_pole(m->high_hz * (0.25f + 0.75f * gain)); /* air and houses dull what is far */
            const float doppler = 1 - 0.04f * tanhf(((float)i / SY_RATE - p->peak * whole_s) / p->loud_s);
            step = sy_step(m->f0_hz * doppler * load.value);
        }
        sy_drift_run(&load, s);
        const float w = sy_noise(s);
        phase += step;
        low += a_low * (w - low);
        bright += a * (w - low - bright);
        x[i] += gain * (sy_wave_at(&wave, phase) + tyre * bright);
    }
}

/* One car after another: a passage each 3 to 7 seconds. */
void sy_car(struct es_synth *s, float *x, int n) {
    for (int at = 0; at < n;) {
        int len = sy_samples(sy_var(s, 3, 7));
        if (at + 2 * len > n) len = n - at;
        struct motor m = {0};
        m.f0_hz = sy_id(s, 55, 120);
        m.low_hz = sy_id(s, 150, 350);
        m.high_hz = sy_id(s, 1500, 3500);
        m.load = 0.02f;
        m.load_s = 0.5f;

        harmonics(s, &m, 8, sy_id(s, 0.7, 1.2), 0.5);
        for (int k = 0; k < 8; k++) m.amp[k] *= 0.5f;
        const float loud_s = sy_var(s, 0.7, 2), peak = sy_var(s, 0.3, 0.7);
        const struct pass p = {loud_s, 0.12f, peak};
        drive(s, &m, &p, sy_id(s, 3, 6), x + at, len);
        at += len;
    }
}

void sy_large_vehicle(struct es_synth *s, float *x, int n) {
    struct motor m = {0};
    m.f0_hz = sy_id(s, 22, 42);
    m.low_hz = 60;
    m.high_hz = sy_id(s, 500, 1100);
    m.load = sy_id(s, 0.03, 0.15);
    m.load_s = 0.7f;

    harmonics(s, &m, 16, sy_id(s, 0.25, 0.6), 0.7);
    const float loud_s = sy_var(s, 1.5, 5), peak = sy_var(s, 0.2, 0.8);
    const struct pass p = {loud_s, 0.25f, peak};
    drive(s, &m, &p, sy_id(s, 2, 4), x, n);
    if (es_rng_below(&s->id, 2) == 0) /* air brake */
        sy_burst(s, x, n, (int)(sy_var(s, 0.5, 0.8) * (float)n), sy_id(s, 3500, 5000), 2500, 0.15f, 2);
}

void sy_brakes(struct es_synth *s, float *x, int n) {
    const float hz = sy_id(s, 2200, 5200), drop = sy_id(s, 0.7, 0.95), rough_hz = sy_id(s, 30, 90);
    const float second = sy_id(s, 0.1, 0.6), ratio = sy_id(s, 1.3, 1.9);
    struct sy_drift level = sy_drift_make(s, 0.25f, 1, 0.15f), tune = sy_drift_make(s, 0.985f, 1.015f, 0.08f);
    uint32_t phase = 0, phase2 = 0, rough = 0;
    for (int i = 0; i < n; i++) {
        const float t = (float)i / (float)n, f = hz * (1 - (1 - drop) * t) * sy_drift_run(&tune, s);
        phase += sy_step(f);
        phase2 += sy_step(f * ratio);
        rough += sy_step(rough_hz);
        x[i] += sy_drift_run(&level, s) * (1 + 0.3f * sy_sin(rough)) *
                (sy_sin(phase) + 0.3f * sy_sin(2 * phase) + second * sy_sin(phase2) + 0.08f * sy_noise(s));
    }
}

/* Rumble and wheels of a train, level from a curve; motor: inverter whine proportional to speed. */
static void metro(struct es_synth *s, float *x, int n, bool leaving) {
    const float rumble_hz = sy_id(s, 90, 220), top_hz = sy_id(s, 500, 1300), joint_hz = sy_id(s, 1.5, 3);
    const float squeal_hz = sy_id(s, 1900, 3600), hiss = sy_id(s, 0.4, 1);
    struct sy_drift bump = sy_drift_make(s, 0.7f, 1.2f, 0.12f);
    struct sy_band squeal = {0};
    sy_band_set(&squeal, squeal_hz, 60);
    const float a_rumble = sy_pole(rumble_hz), whole_s = fmaxf(4, (float)n / SY_RATE);
    float low = 0, mid = 0, a_mid = 0.1f, speed = 0;
    uint32_t motor = 0, joint = 0;
    for (int i = 0; i < n; i++) {
        const float t = (float)i / (SY_RATE * whole_s);
        if (i % 64 == 0) {
            speed = leaving ? 0.1f + 0.9f * t : 1 - 0.85f * t;
            a_mid = sy_pole(300 + 2200 * (leaving ? 1 - 0.6f * t : 0.2f + 0.8f * t));
        }
        const float near = leaving ? 1 - 0.75f * t * t : 0.15f + 0.85f * t, w = sy_noise(s);
        low += a_rumble * (w - low);
        mid += a_mid * (w - low - mid);
        joint += sy_step(joint_hz * speed);
        motor += sy_step(top_hz * speed);
        const float clack = fmaxf(0, sy_sin(joint) - 0.9f) * 8;
        const float tone =
            leaving ? 0.35f * (sy_sin(motor) + 0.5f * sy_sin(3 * motor) + 0.3f * sy_sin(5 * motor)) : 0;
        const float brake = leaving || t < 0.5f ? 0 : (t - 0.5f) * 6 * sy_band_run(&squeal, 6 * w);
        x[i] += near * sy_drift_run(&bump, s) * (4 * low + hiss * (1 + clack) * mid + tone + brake);
    }
}

void sy_metro_leaving(struct es_synth *s, float *x, int n) {
    metro(s, x, n, true);
}
void sy_metro_approaching(struct es_synth *s, float *x, int n) {
    metro(s, x, n, false);
}

/* ---- signals */

static void beeps(float *x, int n, const float hz[2], float on_s, float off_s, int group, float rest_s,
                  float square) {
    const int on = sy_samples(on_s), off = sy_samples(off_s), rest = sy_samples(rest_s);
    for (int at = 0, k = 0; at < n; k++, at += on + (k % group == 0 ? rest : off)) {
        const uint32_t step = sy_step(hz[k % 2]);
        uint32_t phase = 0;
        for (int i = 0; i < on && at + i < n; i++) {
            phase += step;
            const float edge = fminf(1, fminf((float)i, (float)(on - 1 - i)) / 60);
            x[at + i] +=
                edge * (sy_sin(phase) + square * (0.33f * sy_sin(3 * phase) + 0.15f * sy_sin(5 * phase)));
        }
    }
}

/* Electronic beeps, a struck bell, a telephone's two tones, or a sweeping siren. */
void sy_alarm(struct es_synth *s, float *x, int n) {
    const int kind = (int)es_rng_below(&s->id, 4);
    const float hz = sy_id(s, 900, 3100);
    if (kind == 0) {
        const float two = es_rng_below(&s->id, 2) == 0 ? 1 : sy_id(s, 0.75, 1.3), f[2] = {hz, hz * two};
        const float on_s = sy_id(s, 0.05, 0.2), off_s = sy_id(s, 0.04, 0.15), rest_s = sy_id(s, 0.1, 0.24);
        const int group = 1 + (int)es_rng_below(&s->id, 4);
        beeps(x, n, f, on_s, off_s, group, rest_s, sy_id(s, 0, 1));
    } else if (kind == 1) {
        const float rate_hz = sy_id(s, 10, 24), second = sy_id(s, 1.5, 2.1), third = sy_id(s, 2.5, 3);
        const float ratio[4] = {1, second, third, sy_id(s, 3.8, 4.5)};
        for (float t = 0; t * SY_RATE < (float)n; t += sy_var(s, 0.95, 1.05) / rate_hz)
            for (int k = 0; k < 4; k++)
                sy_ring(x, n, sy_samples(t), 0.6f * hz * ratio[k], 0.12f / (float)(k + 1), 1);
    } else if (kind == 2) {
        const float a_hz = sy_id(s, 400, 900), b_hz = a_hz * sy_id(s, 1.15, 1.4),
                    each_s = sy_id(s, 0.025, 0.06);
        const float f[2] = {a_hz, b_hz};
        beeps(x, n, f, each_s, 0, 1, 0, sy_id(s, 0.3, 1));
    } else {
        const float depth = sy_id(s, 0.1, 0.3), sweep_hz = sy_id(s, 1.5, 6), square = sy_id(s, 0, 1);
        uint32_t phase = 0, sweep = 0;
        for (int i = 0; i < n; i++) {
            sweep += sy_step(sweep_hz);
            phase += sy_step(0.7f * hz * (1 + depth * sy_sin(sweep)));
            x[i] += sy_sin(phase) + square * 0.33f * sy_sin(3 * phase);
        }
    }
    sy_room(s, x, n);
}

void sy_register(struct es_synth *s, float *x, int n) {
    const float hz = sy_id(s, 1100, 2900), f[2] = {hz, hz};
    const float on_s = sy_id(s, 0.07, 0.16), rest_s = sy_id(s, 0.35, 1.1);
    beeps(x, n, f, on_s, rest_s, 1, rest_s, sy_id(s, 0, 0.6));
    sy_reverb(x, n, sy_id(s, 0.4, 0.9), 0.2f);
}

void sy_siren(struct es_synth *s, float *x, int n) {
    const float low_hz = sy_id(s, 450, 750), high_hz = sy_id(s, 1100, 1700), sweep_hz = sy_id(s, 0.2, 3);
    uint32_t phase = 0, sweep = 0;
    for (int i = 0; i < n; i++) {
        sweep += sy_step(sweep_hz);
        phase += sy_step(low_hz + (high_hz - low_hz) * (0.5f + 0.5f * sy_sin(sweep)));
        x[i] += sy_sin(phase) + 0.4f * sy_sin(2 * phase) + 0.25f * sy_sin(3 * phase);
    }
    sy_reverb(x, n, 1, 0.2f);
}

void sy_horn(struct es_synth *s, float *x, int n) {
    float amp[16];
    for (int k = 0; k < 16; k++) amp[k] = sy_id(s, 0.3, 1) / sqrtf((float)(k + 1));
    struct sy_wave wave;
    sy_wave_make(&wave, amp, 16);
    const float hz = sy_id(s, 300, 480), other = sy_id(s, 1.18, 1.28);
    uint32_t a = 0, b = 0;
    for (int i = 0; i < n; i++) {
        a += sy_step(hz);
        b += sy_step(hz * other);
        x[i] += sy_wave_at(&wave, a) + sy_wave_at(&wave, b);
    }
    sy_room(s, x, n);
}
