/* Things struck, rubbed, poured and blown: dishes, steps, doors, furniture, frying, water, wind. An impact is
 * a handful of decaying inharmonic modes and a click; a texture is a random train of small impacts over
 * filtered noise. */
#include <math.h>

#include "synth_dsp.h"

struct body { /* what is struck */
    int modes;
    float hz[8], tau_s[8], amp[8], click, click_hz;
};

static struct body make_body(struct es_synth *s, int modes, double low_hz, double high_hz, double tau_s,
                             double click) {
    struct body b = {.modes = modes, .click = (float)click, .click_hz = sy_id(s, 2000, 5000)};
    float hz = sy_id(s, low_hz, low_hz * 1.5);
    for (int k = 0; k < modes; k++) {
        b.hz[k] = hz;
        b.tau_s[k] = sy_id(s, 0.4, 1.6) * (float)tau_s * (float)low_hz / hz;
        b.amp[k] = sy_id(s, 0.3, 1);
        hz = fminf(hz * sy_id(s, 1.15, 1.75), (float)high_hz);
    }
    return b;
}

static void strike(struct es_synth *s, const struct body *b, float *x, int n, int at, float force) {
    for (int k = 0; k < b->modes; k++)
        sy_ring(x, n, at, b->hz[k], b->tau_s[k], force * b->amp[k] * sy_var(s, 0.3, 1));
    if (b->click > 0) sy_burst(s, x, n, at, b->click_hz, 2500, 0.003f, force * b->click);
}

/* Strikes at random times, on average each gap_s, from time 0 to the end. */
static void clatter(struct es_synth *s, const struct body *b, int bodies, float gap_s, float *x, int n) {
    for (float t = 0; t * SY_RATE < (float)n; t += gap_s * sy_var(s, 0.25, 1.75)) {
        const float force = sy_var(s, 0.2, 1);
        strike(s, &b[es_rng_below(&s->ev, (uint64_t)bodies)], x, n, sy_samples(t), force * force);
    }
}

void sy_dishes(struct es_synth *s, float *x, int n) {
    struct body b[3];
    for (int i = 0; i < 3; i++) b[i] = make_body(s, 7, 900, 7200, 0.06, 0.8);
    clatter(s, b, 3, sy_id(s, 0.09, 0.2), x, n);
    sy_room(s, x, n);
}

void sy_cutlery(struct es_synth *s, float *x, int n) {
    struct body b[3];
    for (int i = 0; i < 3; i++) b[i] = make_body(s, 6, i == 0 ? 900 : 2300, 7500, i == 0 ? 0.06 : 0.09, 0.5);
    clatter(s, b, 3, sy_id(s, 0.08, 0.25), x, n);
    sy_reverb(x, n, 0.5f, 0.15f);
}

void sy_hammer(struct es_synth *s, float *x, int n) {
    const struct body b = make_body(s, 6, 300, 3500, 0.05, 1.5);
    const float rate_hz = sy_id(s, 1.6, 4);
    for (float t = 0; t * SY_RATE < (float)n; t += sy_var(s, 0.92, 1.08) / rate_hz)
        strike(s, &b, x, n, sy_samples(t), sy_var(s, 0.6, 1));
    sy_room(s, x, n);
}

void sy_clock(struct es_synth *s, float *x, int n) {
    const struct body tick = make_body(s, 5, 1800, 7000, 0.012, 0.6),
                      tock = make_body(s, 5, 1500, 6000, 0.014, 0.6);
    const float rate_hz = sy_id(s, 2, 5);
    for (int k = 0; (float)k / rate_hz * SY_RATE < (float)n; k++)
        strike(s, k % 2 ? &tock : &tick, x, n, sy_samples((float)k / rate_hz), 1);
}

void sy_keyboard(struct es_synth *s, float *x, int n) {
    struct body b[4];
    for (int i = 0; i < 4; i++) b[i] = make_body(s, 4, 700, 5000, 0.008, 1.2);
    clatter(s, b, 4, sy_id(s, 0.1, 0.17), x, n);
}

void sy_applause(struct es_synth *s, float *x, int n) {
    const float gap_s = 1 / sy_id(s, 40, 150), hz = sy_id(s, 900, 1700);
    for (float t = 0; t * SY_RATE < (float)n; t += gap_s * sy_var(s, 0.1, 1.9)) {
        const float clap_hz = hz * sy_var(s, 0.6, 1.6), force = sy_var(s, 0.2, 1);
        sy_burst(s, x, n, sy_samples(t), clap_hz, 900, 0.006f, force);
    }
    sy_reverb(x, n, 0.8f, 0.2f);
}

void sy_footsteps(struct es_synth *s, float *x, int n) {
    const struct body heel = make_body(s, 5, 110, 1500, 0.03, 0.8),
                      toe = make_body(s, 4, 200, 2500, 0.015, 0.5);
    const float rate_hz = sy_id(s, 1.5, 2.4), roll_s = sy_id(s, 0.05, 0.11), grit = sy_id(s, 0, 0.6);
    for (float t = 0; t * SY_RATE < (float)n; t += sy_var(s, 0.93, 1.07) / rate_hz) {
        const float force = sy_var(s, 0.6, 1);
        strike(s, &heel, x, n, sy_samples(t), force);
        strike(s, &toe, x, n, sy_samples(t + roll_s), 0.5f * force);
        sy_burst(s, x, n, sy_samples(t + 0.02f), 3500, 3000, 0.03f, grit * force);
    }
    sy_room(s, x, n);
}

void sy_cart(struct es_synth *s, float *x, int n) {
    struct body b[4];
    for (int i = 0; i < 4; i++) b[i] = make_body(s, 5, 700, 6000, 0.015, 0.6);
    const float squeak_hz = sy_id(s, 1800, 3200), wheel_hz = sy_id(s, 1.5, 3.5),
                a = sy_pole(sy_id(s, 150, 400));
    struct sy_drift speed = sy_drift_make(s, 0.3f, 1, 0.6f);
    uint32_t wheel = 0, squeak = 0;
    float low = 0;
    clatter(s, b, 4, sy_id(s, 0.018, 0.045), x, n);
    for (int i = 0; i < n; i++) {
        const float v = sy_drift_run(&speed, s);
        low += a * (sy_noise(s) - low);
        wheel += sy_step(wheel_hz);
        squeak += sy_step(squeak_hz * (1 + 0.05f * sy_sin(wheel)));
        x[i] = v * (x[i] + 3 * low + 0.25f * fmaxf(0, sy_sin(wheel) - 0.5f) * sy_sin(squeak));
    }
}

/* Latch, creak, thump and latch, spread over the length. */
void sy_door(struct es_synth *s, float *x, int n) {
    const struct body panel = make_body(s, 6, 70, 900, 0.06, 0.6),
                      latch = make_body(s, 5, 900, 5000, 0.012, 1.5);
    const float creak_hz = sy_id(s, 60, 180),
                creak = es_rng_below(&s->id, 2) == 0 ? sy_id(s, 0.05, 0.4) : 0.03f;
    struct sy_band wood[2] = {{.b = 0}, {.b = 0}};
    sy_band_set(&wood[0], sy_id(s, 500, 1100), 150);
    sy_band_set(&wood[1], sy_id(s, 1300, 2600), 250);
    struct sy_drift tune = sy_drift_make(s, 0.6f, 1.8f, 0.2f);
    const int thump = (int)(sy_var(s, 0.45, 0.75) * (float)n);
    strike(s, &latch, x, n, 0, 0.5f);
    uint32_t phase = 0;
    for (int i = 0; i < thump; i++) { /* stick-slip: pulses at a wandering rate through two resonances */
        const uint32_t before = phase;
        phase += sy_step(creak_hz * sy_drift_run(&tune, s));
        const float pulse = phase < before ? 12 : 0.15f * sy_noise(s);
        x[i] += creak * (sy_band_run(&wood[0], pulse) + 0.6f * sy_band_run(&wood[1], pulse));
    }
    strike(s, &panel, x, n, thump, 1);
    strike(s, &latch, x, n, thump + sy_samples(0.04f), 0.6f);
    sy_reverb(x, n, sy_id(s, 0.4, 0.9), 0.25f);
}

void sy_furniture(struct es_synth *s, float *x, int n) {
    struct sy_band wood[3] = {{.b = 0}, {.b = 0}, {.b = 0}};
    const float hz = sy_id(s, 250, 600), slip_hz = sy_id(s, 50, 160), push_hz = sy_id(s, 0.8, 1.8),
                grit = sy_id(s, 0.2, 0.6);
    for (int k = 0; k < 3; k++)
        sy_band_set(&wood[k], hz * sy_id(s, 1 + k, 1.8 + 1.4 * k), 90 + 60 * (float)k);
    struct sy_drift tune = sy_drift_make(s, 0.6f, 1.6f, 0.1f);
    uint32_t phase = 0, push = 0;
    for (int i = 0; i < n; i++) {
        const uint32_t before = phase;
        push += sy_step(push_hz);
        phase += sy_step(slip_hz * sy_drift_run(&tune, s));
        const float force = 0.25f + fmaxf(0, 0.75f * sy_sin(push + 0x20000000u));
        const float e = (phase < before ? 10 : 0) + grit * sy_noise(s);
        x[i] += force * (sy_band_run(&wood[0], e) + 0.8f * sy_band_run(&wood[1], e) +
                         0.6f * sy_band_run(&wood[2], e));
    }
    sy_room(s, x, n);
}

void sy_frying(struct es_synth *s, float *x, int n) {
    const float gap_s = 1 / sy_id(s, 150, 600), low_hz = sy_id(s, 1800, 3000), high_hz = sy_id(s, 5000, 7500);
    const float hiss = sy_id(s, 0.15, 0.5), a = sy_pole(sy_id(s, 2000, 4000));
    for (float t = 0; t * SY_RATE < (float)n; t += gap_s * sy_var(s, 0.02, 1.98)) {
        const float force = sy_var(s, 0.1, 1), hz = sy_var(s, (double)low_hz, (double)high_hz),
                    tau_s = sy_var(s, 0.0004, 0.0015);
        sy_ring(x, n, sy_samples(t), hz, tau_s, force * force * force);
    }
    struct sy_drift heat = sy_drift_make(s, 0.5f, 1, 0.4f);
    float low = 0;
    for (int i = 0; i < n; i++) {
        const float w = sy_noise(s);
        low += a * (w - low);
        x[i] = sy_drift_run(&heat, s) * (x[i] + hiss * (w - low));
    }
}

void sy_crackle(struct es_synth *s, float *x, int n) {
    const float gap_s = 1 / sy_id(s, 8, 40), a = sy_pole(sy_id(s, 120, 400)), roar = sy_id(s, 0.3, 1);
    for (float t = 0; t * SY_RATE < (float)n; t += gap_s * sy_var(s, 0.02, 1.98)) {
        const float force = sy_var(s, 0.1, 1), hz = sy_var(s, 900, 5500), tau_s = sy_var(s, 0.001, 0.005);
        sy_burst(s, x, n, sy_samples(t), hz, 2500, tau_s, 2 * force * force);
    }
    float low = 0;
    struct sy_drift draft = sy_drift_make(s, 0.3f, 1, 0.3f);
    for (int i = 0; i < n; i++) {
        low += a * (sy_noise(s) - low);
        x[i] += roar * sy_drift_run(&draft, s) * low;
    }
}

/* Jet noise in two bands and bubbles: sines that rise a little while they decay (Minnaert). */
void sy_water(struct es_synth *s, float *x, int n) {
    struct sy_band jet = {0}, sink = {0};
    const float jet_hz = sy_id(s, 1800, 4500), sink_hz = sy_id(s, 350, 1000);
    sy_band_set(&jet, jet_hz, sy_id(s, 1800, 3500));
    sy_band_set(&sink, sink_hz, sy_id(s, 200, 600));
    const float jet_gain = sy_id(s, 0.6, 1.5), sink_gain = sy_id(s, 0.4, 1.2), bubble = sy_id(s, 0.1, 0.4);
    const float gap_s = 1 / sy_id(s, 15, 80);
    struct sy_drift flow = sy_drift_make(s, 0.75f, 1.1f, 0.15f);
    for (int i = 0; i < n; i++) {
        const float w = sy_noise(s);
        x[i] +=
            sy_drift_run(&flow, s) * (jet_gain * sy_band_run(&jet, w) + sink_gain * sy_band_run(&sink, w));
    }
    for (float t = 0; t * SY_RATE < (float)n; t += gap_s * sy_var(s, 0.02, 1.98)) {
        const int at = sy_samples(t), len = sy_samples(sy_var(s, 0.01, 0.04));
        const float hz = sy_var(s, 400, 1700), amp = bubble * sy_var(s, 0.3, 1);
        uint32_t phase = 0;
        for (int i = 0; i < len && at + i < n; i++) {
            const float u = (float)i / (float)len;
            phase += sy_step(hz * (1 + 0.4f * u));
            x[at + i] += amp * (1 - u) * (1 - u) * sy_sin(phase);
        }
    }
    sy_room(s, x, n);
}

void sy_wind(struct es_synth *s, float *x, int n) {
    struct sy_band howl = {0};
    const float hz = sy_id(s, 200, 650), width = sy_id(s, 100, 350), a = sy_pole(sy_id(s, 40, 110)),
                rumble = sy_id(s, 1, 4);
    struct sy_drift gust = sy_drift_make(s, 0.05f, 1, sy_id(s, 0.5, 1.2));
    float low = 0;
    for (int i = 0; i < n; i++) {
        const float g = sy_drift_run(&gust, s), w = sy_noise(s);
        if (i % 64 == 0) sy_band_set(&howl, hz * (0.6f + 0.9f * g), width);
        low += a * (w - low);
        x[i] += g * (3 * sy_band_run(&howl, w) + rumble * g * low);
    }
}

/* What is there when nothing happens: coloured noise that breathes, sometimes mains hum, drizzle, a room's
 * murmur. */
void sy_background(struct es_synth *s, float *x, int n) {
    const float a1 = sy_pole(sy_id(s, 60, 900)), a2 = sy_pole(sy_id(s, 1500, 6000)),
                white = sy_id(s, 0.01, 0.12);
    const float hum = es_rng_below(&s->id, 3) == 0 ? sy_id(s, 0.05, 0.4) : 0,
                hum_hz = es_rng_below(&s->id, 2) ? 50 : 60;
    const float murmur = es_rng_below(&s->id, 3) == 0 ? sy_id(s, 0.3, 1) : 0;
    const float drops = es_rng_below(&s->id, 3) == 0 ? sy_id(s, 10, 80) : 0;
    struct sy_drift breath = sy_drift_make(s, 0.7f, 1.2f, sy_id(s, 0.5, 3)),
                    talk = sy_drift_make(s, 0, 1, 0.13f);
    struct sy_band voice = {0};
    sy_band_set(&voice, sy_id(s, 300, 600), 500);
    uint32_t phase = 0;
    float low = 0, mid = 0;
    for (int i = 0; i < n; i++) {
        const float w = sy_noise(s);
        low += a1 * (w - low);
        mid += a2 * (low - mid);
        phase += sy_step(hum_hz);
        const float m = murmur * sy_drift_run(&talk, s);
        x[i] += sy_drift_run(&breath, s) * (mid + white * w) +
                hum * 0.05f * (sy_sin(phase) + 0.5f * sy_sin(2 * phase) + 0.3f * sy_sin(3 * phase)) +
                0.3f * m * sy_band_run(&voice, w);
    }
    if (drops > 0)
        for (float t = 0; t * SY_RATE < (float)n; t += sy_var(s, 0.02, 1.98) / drops) {
            const float hz = sy_var(s, 1500, 6000), force = sy_var(s, 0.1, 1);
            sy_burst(s, x, n, sy_samples(t), hz, 3000, 0.002f, 0.1f * force);
        }
}
