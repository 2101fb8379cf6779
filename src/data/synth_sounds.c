/* The table of sounds, and what the generators share. */
#include "earshot/demo.h"

#include <math.h>
#include <string.h>

#include "synth_dsp.h"

struct sound {
    struct es_sound_info info;
    void (*synth)(struct es_synth *s, float *x, int n);
};

/* name, AudioSet display name and machine id, folder of recordings, folder that may stand in, burst, like
 * (whose durations it takes in the AudioSet-strong-like set). AudioSet names as in
 * class_labels_indices_strong.csv. Proxies named by the sounds folder itself (column proxy_for) come on top
 * of the folder column. */
static const struct sound sounds[ES_SOUND_COUNT] = {
    {{"Alarm_bell_ringing", "Alarm", "/m/07pp_mv", "Alarm_bell_ringing", NULL, true, 0}, sy_alarm},
    {{"Blender", "Blender, food processor", "/m/02pjr4", "Blender", NULL, false, 1}, sy_blender},
    {{"Cat", "Cat", "/m/01yrx", "Cat", NULL, true, 2}, sy_cat},
    {{"Dishes", "Dishes, pots, and pans", "/m/04brg2", "Dishes", NULL, true, 3}, sy_dishes},
    {{"Dog", "Dog", "/m/0bt9lr", "Dog", NULL, true, 4}, sy_dog},
    {{"Electric_shaver_toothbrush", "Electric shaver, electric razor", "/m/02g901",
      "Electric_shaver_toothbrush", NULL, false, 5},
     sy_shaver},
    {{"Frying", "Frying (food)", "/m/0dxrf", "Frying", NULL, false, 6}, sy_frying},
    {{"Running_water", "Water tap, faucet", "/m/02jz0l", "Running_water", NULL, false, 7}, sy_water},
    {{"Speech", "Speech", "/m/09x0r", "Speech", NULL, true, 8}, sy_speech},
    {{"Vacuum_cleaner", "Vacuum cleaner", "/m/0d31p", "Vacuum_cleaner", NULL, false, 9}, sy_vacuum},
    {{"cutlery and dishes", NULL, NULL, "cutlery and dishes", "Dishes", true, 3}, sy_cutlery},
    {{"furniture dragging", "Scrape", "/m/07qv4k0", "furniture dragging", NULL, false, 2}, sy_furniture},
    {{"people talking", NULL, NULL, "people talking", "Speech", true, 8}, sy_talkers},
    {{"children voices", "Child speech, kid speaking", "/m/0ytgt", "children voices", NULL, true, 8},
     sy_children},
    {{"coffee machine", "Steam", "/m/06wzb", "coffee machine", NULL, false, 1}, sy_coffee},
    {{"footsteps", "Walk, footsteps", "/m/07pbtc8", "footsteps", NULL, true, 7}, sy_footsteps},
    {{"large_vehicle", "Truck", "/m/07r04", "large_vehicle", NULL, false, 7}, sy_large_vehicle},
    {{"car", "Car passing by", "/t/dd00134", "car", NULL, false, 1}, sy_car},
    {{"brakes_squeaking", "Squeak", "/m/07q6cd_", "brakes_squeaking", NULL, false, 2}, sy_brakes},
    {{"cash register beeping", "Beep, bleep", "/m/02fs_r", "cash register beeping", NULL, true, 0},
     sy_register},
    {{"announcement", NULL, NULL, "announcement", NULL, true, 8}, sy_announcement},
    {{"shopping cart", "Cart", "/m/018p4k", "shopping cart", NULL, false, 1}, sy_cart},
    {{"metro leaving", NULL, NULL, "metro leaving", NULL, false, 7}, sy_metro_leaving},
    {{"metro approaching", "Subway, metro, underground", "/m/0195fx", "metro approaching", NULL, false, 7},
     sy_metro_approaching},
    {{"door opens/closes", "Door", "/m/02dgv", "door opens/closes", NULL, true, 2}, sy_door},
    {{"wind_blowing", "Wind", "/m/03m9d0z", "wind_blowing", NULL, false, 7}, sy_wind},
    {{"birds_singing", "Bird vocalization, bird call, bird song", "/m/020bb7", "birds_singing", NULL, true,
      7},
     sy_birds},
    {{"Chainsaw", "Chainsaw", "/m/01j4z9", NULL, NULL, false, 7}, sy_chainsaw},
    {{"Mechanical fan", "Mechanical fan", "/m/02x984l", NULL, NULL, false, 5}, sy_fan},
    {{"Crackle", "Crackle", "/m/07pzfmf", NULL, NULL, false, 7}, sy_crackle},
    {{"Siren", "Siren", "/m/03kmc9", NULL, NULL, false, 1}, sy_siren},
    {{"Clock", "Clock", "/m/01x3z", NULL, NULL, true, 1}, sy_clock},
    {{"Computer keyboard", "Computer keyboard", "/m/01m2v", NULL, NULL, true, 1}, sy_keyboard},
    {{"Applause", "Applause", "/m/028ght", NULL, NULL, false, 1}, sy_applause},
    {{"Whistling", "Whistling", "/m/01w250", NULL, NULL, true, 1}, sy_whistling},
    {{"Baby cry, infant cry", "Baby cry, infant cry", "/t/dd00002", NULL, NULL, true, 2}, sy_baby},
    {{"Helicopter", "Helicopter", "/m/09ct_", NULL, NULL, false, 5}, sy_helicopter},
    {{"Cricket", "Cricket", "/m/09xqv", NULL, NULL, true, 7}, sy_cricket},
    {{"Vehicle horn", "Vehicle horn, car horn, honking, toot", "/m/0912c9", NULL, NULL, true, 2}, sy_horn},
    {{"Hammer", "Hammer", "/m/03l9g", NULL, NULL, true, 1}, sy_hammer},
};

const struct es_sound_info *es_sound(int sound) {
    ES_ASSERT(sound >= 0 && sound < ES_SOUND_COUNT);
    return &sounds[sound].info;
}

void es_sound_synth(int sound, bool test, struct es_rng id, struct es_rng ev, float *x, int n) {
    struct es_synth s = {id, ev, 0, test};
    s.noise = es_rng_u32(&s.ev) | 1;
    memset(x, 0, (size_t)n * sizeof *x);
    if (sound == ES_SOUND_BACKGROUND) {
        sy_background(&s, x, n);
    } else {
        ES_ASSERT(sound >= 0 && sound < ES_SOUND_COUNT);
        sounds[sound].synth(&s, x, n);
    }
}

/* y[k] = amp r^k sin(w k), by its recursion. */
void sy_ring(float *x, int n, int at, float hz, float tau_s, float amp) {
    if (at >= n || hz > 0.48f * SY_RATE) return;
    const float w = 2 * SY_PI * hz / SY_RATE, r = expf(-1 / (tau_s * SY_RATE));
    const float a1 = 2 * r * cosf(w), a2 = -r * r;
    float y1 = amp * r * sinf(w), y2 = 0;
    const int len = sy_samples(7 * tau_s), end = len < n - at ? at + len : n;
    for (int i = at + 1; i < end; i++) {
        x[i] += y1;
        const float y = a1 * y1 + a2 * y2;
        y2 = y1;
        y1 = y;
    }
}

void sy_burst(struct es_synth *s, float *x, int n, int at, float hz, float width_hz, float tau_s, float amp) {
    if (at >= n) return;
    struct sy_band band = {0};
    sy_band_set(&band, hz, width_hz);
    const float r = expf(-1 / (tau_s * SY_RATE));
    const int len = sy_samples(7 * tau_s), end = len < n - at ? at + len : n;
    for (int i = at; i < end; i++, amp *= r) x[i] += amp * sy_band_run(&band, sy_noise(s));
}

/* Four combs and one all-pass (Schroeder, Natural sounding artificial reverberation, JAES 1962). */
void sy_reverb(float *x, int n, float t60_s, float wet) {
    enum { LONGEST = 1277 };
    static const int delay[4] = {743, 877, 1033, LONGEST};
    float line[4][LONGEST] = {{0}}, gain[4], damp[4] = {0}, pass[229] = {0};
    int at[4] = {0}, at_pass = 0;
    for (int k = 0; k < 4; k++) gain[k] = powf(10, -3 * (float)delay[k] / (SY_RATE * t60_s));
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            const float y = line[k][at[k]];
            damp[k] += 0.6f * (y - damp[k]);
            line[k][at[k]] = x[i] + gain[k] * damp[k];
            if (++at[k] == delay[k]) at[k] = 0;
            sum += y;
        }
        const float y = pass[at_pass] - 0.6f * sum;
        pass[at_pass] = sum + 0.6f * y;
        if (++at_pass == 229) at_pass = 0;
        x[i] += wet * y;
    }
}

/* Six reflections within 40 ms, backwards through x so that no copy is needed. */
void sy_room(struct es_synth *s, float *x, int n) {
    int delay[6];
    float gain[6];
    for (int k = 0; k < 6; k++) {
        delay[k] = sy_samples(sy_id(s, 0.002, 0.04));
        gain[k] = 0.35f * sy_id(s, -1, 1);
    }
    for (int i = n - 1; i > 0; i--)
        for (int k = 0; k < 6; k++)
            if (i >= delay[k]) x[i] += gain[k] * x[i - delay[k]];
}
