/* Voices: people, children, announcements, a baby, a cat, a dog, birds, crickets, whistling.
 * A throat is a glottal pulse train and breath noise through a cascade of moving formants (Klatt, Software
 * for a cascade/parallel formant synthesizer, JASA 1980), driven by random syllables. */
#include <math.h>
#include <string.h>

#include "synth_dsp.h"

struct voice {
    float f0_hz, swing;   /* pitch and its relative swing within a phrase */
    float tract;          /* formant scale: 1 man, 1.17 woman, 1.35 child */
    float rate_hz;        /* syllables a second */
    float breath, effort; /* noise in the source; open quotient falls and tilt rises with effort */
};

/* One stretch of sound: targets that the throat moves to. */
struct phone {
    int left;
    float voiced, hiss, hiss_hz, f[3];
};

static const float vowels[8][3] = {{270, 2290, 3010}, {530, 1840, 2480}, {660, 1720, 2410},
                                   {730, 1090, 2440}, {570, 840, 2410},  {300, 870, 2240},
                                   {490, 1350, 1690}, {640, 1190, 2390}};

/* The next stretch: consonants and vowels alternate; after 3 to 9 syllables comes a short pause. */
static struct phone next_phone(struct es_synth *s, const struct voice *v, int *syllable, bool *vowel,
                               int room) {
    struct phone p = {0};
    const float *f = vowels[es_rng_below(&s->ev, 8)];
    for (int i = 0; i < 3; i++) p.f[i] = f[i] * v->tract * sy_var(s, 0.94, 1.06);
    const float syllable_s = sy_var(s, 0.7, 1.3) / v->rate_hz;
    if (!*vowel && *syllable <= 0 && room > sy_samples(0.5f)) { /* pause */
        *syllable = 3 + (int)es_rng_below(&s->ev, 7);
        p.left = sy_samples(sy_var(s, 0.06, 0.2));
    } else if (!*vowel) {
        const int kind = (int)es_rng_below(&s->ev, 4);
        p.left = sy_samples(syllable_s * 0.33f);
        p.hiss_hz = sy_var(s, 2200, 6200) * (0.85f + 0.15f * v->tract);
        p.hiss = kind == 1 ? 0.35f : kind == 2 ? 0.6f : 0;
        p.voiced = kind == 0 ? 0.5f : kind == 3 ? 0.35f : 0;
        if (kind == 2) p.left /= 3;
        *vowel = true;
    } else {
        p.left = sy_samples(syllable_s * 0.67f);
        p.voiced = sy_var(s, 0.6, 1);
        *vowel = false;
        --*syllable;
    }
    if (p.left < 64) p.left = 64;
    return p;
}

static void speak(struct es_synth *s, const struct voice *v, float *x, int n, float gain) {
    enum { BLOCK = 64 };
    struct sy_formant tract[4] = {{0}};
    struct sy_band hiss = {0};
    struct phone p = {0};
    float f[3] = {500 * v->tract, 1500 * v->tract, 2500 * v->tract}, voiced = 0, hissing = 0, tilt = 0;
    const float open = 0.75f - 0.3f * v->effort, smooth = sy_pole(25),
                a_tilt = sy_pole(1200 + 3500 * v->effort);
    const float f4 = 3500 * v->tract;
    struct sy_drift tune = sy_drift_make(s, 1 - v->swing, 1 + v->swing, 0.25f);
    int syllable = 3 + (int)es_rng_below(&s->ev, 7);
    bool vowel = es_rng_below(&s->ev, 2) == 0;
    uint32_t phase = 0;
    for (int i0 = 0; i0 < n; i0 += BLOCK) {
        const int m = n - i0 < BLOCK ? n - i0 : BLOCK;
        if ((p.left -= BLOCK) <= 0) p = next_phone(s, v, &syllable, &vowel, n - i0);
        for (int k = 0; k < 3; k++) {
            f[k] += (p.f[k] - f[k]) * 0.13f;
            sy_formant_set(&tract[k], f[k], 60 + 0.05f * f[k] + 120 * v->breath);
        }
        sy_formant_set(&tract[3], f4, 250);
        sy_band_set(&hiss, p.hiss_hz + 1500, 1800);
        const float jitter = 1 + 0.015f * sy_noise(s);
        const uint32_t step = sy_step(v->f0_hz * jitter * tune.value);
        for (int i = 0; i < m; i++) {
            sy_drift_run(&tune, s);
            voiced += (p.voiced - voiced) * smooth;
            hissing += (p.hiss - hissing) * smooth;
            phase += step;
            const float q = (float)phase * (1.0f / 4294967296.0f) / open;
            const float pulse = q < 1 ? 2 * q - 3 * q * q : 0; /* derivative of the glottal flow */
            const float w = sy_noise(s);
            tilt += a_tilt * (voiced * (pulse + v->breath * w) - tilt);
            float y = tilt;
            for (int k = 0; k < 4; k++) y = sy_formant_run(&tract[k], y);
            x[i0 + i] += gain * (y + 1.2f * hissing * sy_band_run(&hiss, w));
        }
    }
}

static struct voice adult(struct es_synth *s) {
    const bool man = es_rng_below(&s->id, 2) == 0;
    struct voice v = {0};
    v.f0_hz = man ? sy_id(s, 85, 145) : sy_id(s, 165, 255);
    v.swing = sy_id(s, 0.05, 0.2);
    v.tract = man ? sy_id(s, 0.92, 1.06) : sy_id(s, 1.1, 1.22);
    v.rate_hz = sy_id(s, 3.5, 6);
    v.breath = sy_id(s, 0.02, 0.2);
    v.effort = sy_id(s, 0.2, 0.9);
    return v;
}

void sy_speech(struct es_synth *s, float *x, int n) {
    const struct voice v = adult(s);
    speak(s, &v, x, n, 1);
    sy_room(s, x, n);
}

/* Two to four people at once, in a room. */
void sy_talkers(struct es_synth *s, float *x, int n) {
    const int m = 2 + (int)es_rng_below(&s->id, 3);
    for (int i = 0; i < m; i++) {
        const struct voice v = adult(s);
        speak(s, &v, x, n, i == 0 ? 1 : sy_var(s, 0.3, 0.9));
    }
    sy_reverb(x, n, sy_id(s, 0.4, 1.0), 0.25f);
}

void sy_children(struct es_synth *s, float *x, int n) {
    const int m = 1 + (int)es_rng_below(&s->id, 3);
    for (int i = 0; i < m; i++) {
        struct voice v = {0};
        v.f0_hz = sy_id(s, 290, 460);
        v.swing = sy_id(s, 0.15, 0.4);
        v.tract = sy_id(s, 1.3, 1.5);
        v.rate_hz = sy_id(s, 2.5, 5);
        v.breath = sy_id(s, 0.05, 0.25);
        v.effort = sy_id(s, 0.6, 1);

        speak(s, &v, x, n, i == 0 ? 1 : sy_var(s, 0.3, 0.9));
    }
    sy_reverb(x, n, sy_id(s, 0.2, 0.7), 0.15f);
}

/* Chime of two to four tones, then a telephone-band voice in a large hall. */
void sy_announcement(struct es_synth *s, float *x, int n) {
    static const float steps[4] = {1, 1.26f, 1.5f, 0.75f};
    const float base_hz = sy_id(s, 440, 800), each_s = sy_id(s, 0.3, 0.6);
    const int tones = 2 + (int)es_rng_below(&s->id, 3), first = (int)es_rng_below(&s->id, 4);
    const struct voice v = adult(s);
    int at = 0;
    if (n > sy_samples(2.5f)) {
        for (int i = 0; i < tones; i++, at += sy_samples(each_s)) {
            sy_ring(x, n, at, base_hz * steps[(first + i) % 4], 0.35f, 0.35f);
            sy_ring(x, n, at, base_hz * steps[(first + i) % 4] * 2, 0.2f, 0.12f);
        }
    }
    speak(s, &v, x + at, n - at, 1);
    float low = 0, high = 0;
    const float a_low = sy_pole(sy_id(s, 250, 400)), a_high = sy_pole(sy_id(s, 2500, 3400));
    for (int i = 0; i < n; i++) {
        low += a_low * (x[i] - low);
        high += a_high * (x[i] - low - high);
        x[i] = high;
    }
    sy_reverb(x, n, sy_id(s, 1.0, 2.2), 0.45f);
}

/* A harsh or soft harmonic call: pitch and two formants follow arcs over its length. */
struct call {
    float f0_hz[3]; /* start, middle, end */
    float f1_hz[3], f2_hz[3], rough, tilt_hz;
};

static float arc(const float v[3], float t) { /* quadratic through the three points */
    return v[0] * (1 - t) * (1 - 2 * t) + 4 * v[1] * t * (1 - t) + v[2] * t * (2 * t - 1);
}

static void cry_out(struct es_synth *s, const struct call *c, float *x, int n, float gain) {
    struct sy_band f1 = {0}, f2 = {0};
    uint32_t phase = 0, step = 0;
    float low = 0;
    const float a = sy_pole(c->tilt_hz);
    for (int i = 0; i < n; i++) {
        const float t = (float)i / (float)n;
        if (i % 64 == 0) {
            step = sy_step(arc(c->f0_hz, t) * (1 + (0.01f + 0.1f * c->rough) * sy_noise(s)));
            sy_band_set(&f1, arc(c->f1_hz, t), 200 + 200 * c->rough);
            sy_band_set(&f2, arc(c->f2_hz, t), 350 + 300 * c->rough);
        }
        phase += step;
        const float saw = (float)(int32_t)phase * (1.0f / 2147483648.0f);
        const float env = fminf(1, 12 * t) * fminf(1, 4 * (1 - t));
        low += a * (env * (saw * (1 - 0.5f * c->rough) + c->rough * sy_noise(s)) - low);
        x[i] += gain * (0.25f * low + sy_band_run(&f1, low) + 0.7f * sy_band_run(&f2, low));
    }
}

/* Repeats a call with gaps until x is full; the last one is cut so that sound reaches the end. */
static void repeat_call(struct es_synth *s, const struct call *base, float len_s, float gap_s, float *x,
                        int n) {
    for (int at = 0; at < n;) {
        struct call c = *base;
        const float pitch = sy_var(s, 0.9, 1.12), gain = sy_var(s, 0.6, 1);
        for (int k = 0; k < 3; k++) c.f0_hz[k] *= pitch * sy_var(s, 0.96, 1.04);
        int len = sy_samples(len_s * sy_var(s, 0.7, 1.4)), gap = sy_samples(gap_s * sy_var(s, 0.4, 1.6));
        if (len + gap + sy_samples(0.12f) > n - at) gap = 0, len = n - at < 2 * len ? n - at : len;
        cry_out(s, &c, x + at, len, gain);
        at += len + gap;
    }
}

void sy_cat(struct es_synth *s, float *x, int n) {
    const float f0 = sy_id(s, 380, 720), f1 = sy_id(s, 800, 1300), rise = sy_id(s, 1.15, 1.5);
    struct call c = {0};
    c.f0_hz[0] = f0 * 0.9f;
    c.f0_hz[1] = f0 * rise;
    c.f0_hz[2] = f0 * 0.85f;
    c.f1_hz[0] = f1 * 0.7f;
    c.f1_hz[1] = f1 * 1.4f;
    c.f1_hz[2] = f1 * 0.8f;
    c.f2_hz[0] = f1 * 2.6f;
    c.f2_hz[1] = f1 * 2;
    c.f2_hz[2] = f1 * 1.7f;
    c.rough = sy_id(s, 0, 0.15);
    c.tilt_hz = 5000;

    const float len_s = sy_id(s, 0.45, 0.95), gap_s = sy_id(s, 0.08, 0.22);
    repeat_call(s, &c, len_s, gap_s, x, n);
}

void sy_dog(struct es_synth *s, float *x, int n) {
    const float f0 = sy_id(s, 220, 850), size = sy_id(s, 0.75, 1.4);
    struct call c = {0};
    c.f0_hz[0] = f0 * 0.8f;
    c.f0_hz[1] = f0 * 1.15f;
    c.f0_hz[2] = f0 * 0.55f;
    c.f1_hz[0] = 520 * size;
    c.f1_hz[1] = 900 * size;
    c.f1_hz[2] = 560 * size;
    c.f2_hz[0] = 1300 * size;
    c.f2_hz[1] = 1800 * size;
    c.f2_hz[2] = 1350 * size;
    c.rough = sy_id(s, 0.35, 0.8);
    c.tilt_hz = 4000;

    const float len_s = sy_id(s, 0.1, 0.22), gap_s = sy_id(s, 0.08, 0.24);
    repeat_call(s, &c, len_s, gap_s, x, n);
    sy_room(s, x, n);
}

void sy_baby(struct es_synth *s, float *x, int n) {
    const float f0 = sy_id(s, 380, 560);
    struct call c = {0};
    c.f0_hz[0] = f0;
    c.f0_hz[1] = f0 * 1.25f;
    c.f0_hz[2] = f0 * 0.9f;
    c.f1_hz[0] = 1000;
    c.f1_hz[1] = 1250;
    c.f1_hz[2] = 1050;
    c.f2_hz[0] = 2900;
    c.f2_hz[1] = 3300;
    c.f2_hz[2] = 3000;
    c.rough = sy_id(s, 0.05, 0.3);
    c.tilt_hz = 6000;

    const float len_s = sy_id(s, 0.7, 1.2), gap_s = sy_id(s, 0.12, 0.24);
    repeat_call(s, &c, len_s, gap_s, x, n);
}

/* A bird repeats its motif of FM syllables. */
void sy_birds(struct es_synth *s, float *x, int n) {
    const int birds = 1 + (int)es_rng_below(&s->id, 3);
    for (int b = 0; b < birds; b++) {
        struct {
            float from_hz, to_hz, len_s, trill_hz;
        } syllable[5] = {{0}};
        const int m = 1 + (int)es_rng_below(&s->id, 5);
        const float home_hz = sy_id(s, 2300, 5200), gap_s = sy_id(s, 0.02, 0.1), rest_s = sy_id(s, 0.1, 0.7);
        for (int i = 0; i < m; i++) {
            syllable[i].from_hz = home_hz * sy_id(s, 0.75, 1.35);
            syllable[i].to_hz = home_hz * sy_id(s, 0.75, 1.35);
            syllable[i].len_s = sy_id(s, 0.03, 0.18);
            syllable[i].trill_hz = es_rng_below(&s->id, 3) == 0 ? sy_id(s, 20, 60) : 0;
        }
        const float gain = b == 0 ? 1 : sy_var(s, 0.2, 0.8);
        for (int at = b == 0 ? 0 : sy_samples(sy_var(s, 0, 1)), i = 0; at < n; i = (i + 1) % m) {
            const int len = sy_samples(syllable[i].len_s), end = at + len < n ? at + len : n;
            uint32_t phase = 0, trill = 0;
            const float tune = sy_var(s, 0.97, 1.03);
            for (int j = at; j < end; j++) {
                const float t = (float)(j - at) / (float)len;
                trill += sy_step(syllable[i].trill_hz);
                const float hz = syllable[i].from_hz + (syllable[i].to_hz - syllable[i].from_hz) * t;
                phase += sy_step(hz * tune * (1 + 0.12f * sy_sin(trill)));
                x[j] += gain * 4 * t * (1 - t) * (sy_sin(phase) + 0.15f * sy_sin(2 * phase));
            }
            at += len + sy_samples((i == m - 1 ? rest_s : gap_s) * sy_var(s, 0.8, 1.2));
        }
    }
    sy_room(s, x, n);
}

void sy_cricket(struct es_synth *s, float *x, int n) {
    const float hz = sy_id(s, 3800, 5600), pulse_hz = sy_id(s, 25, 45), chirp_hz = sy_id(s, 1.5, 4.5);
    const float on = sy_id(s, 0.4, 0.9);
    uint32_t phase = 0, pulse = 0, chirp = 0;
    for (int i = 0; i < n; i++) {
        phase += sy_step(hz);
        pulse += sy_step(pulse_hz);
        chirp += sy_step(chirp_hz);
        const float gate = (float)chirp < on * 4294967296.0f ? 1 : 0.05f;
        x[i] += gate * fmaxf(0, sy_sin(pulse)) * sy_sin(phase);
    }
}

void sy_whistling(struct es_synth *s, float *x, int n) {
    static const float scale[6] = {1, 1.125f, 1.25f, 1.5f, 1.667f, 0.75f};
    const float base_hz = sy_id(s, 800, 1600), vibrato_hz = sy_id(s, 4, 7), depth = sy_id(s, 0.002, 0.02);
    const float breath = sy_id(s, 0.02, 0.15);
    struct sy_band air = {0};
    uint32_t phase = 0, vib = 0;
    float hz = base_hz, target = base_hz;
    for (int i = 0, left = 0; i < n; i++, left--) {
        if (left == 0) {
            left = sy_samples(sy_var(s, 0.12, 0.6));
            target = base_hz * scale[es_rng_below(&s->ev, 6)];
            sy_band_set(&air, target, 900);
        }
        hz += (target - hz) * 0.0015f;
        vib += sy_step(vibrato_hz);
        phase += sy_step(hz * (1 + depth * sy_sin(vib)));
        x[i] += sy_sin(phase) + 0.05f * sy_sin(2 * phase) + breath * sy_band_run(&air, 4 * sy_noise(s));
    }
}
