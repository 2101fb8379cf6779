/* The published splits: Mersenne Twister MT19937 as NumPy's legacy generator drives it (Matsumoto and Nishimura 1998;
 * init_genrand for seeding, masked rejection for intervals, Fisher-Yates from the end). */
#include <math.h>
#include <string.h>

#include "earshot/err.h"
#include "earshot/labels.h"

enum { N = 624, M = 397 };

void es_mt_seed(struct es_mt19937 *mt, uint32_t seed) {
    mt->state[0] = seed;
    for (uint32_t i = 1; i < N; i++)
        mt->state[i] = 1812433253u * (mt->state[i - 1] ^ (mt->state[i - 1] >> 30)) + i;
    mt->at = N;
}

static void refill(struct es_mt19937 *mt) {
    uint32_t *s = mt->state;
    for (int i = 0; i < N; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % N] & 0x7fffffffu);
        s[i] = s[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0u);
    }
    mt->at = 0;
}

uint32_t es_mt_u32(struct es_mt19937 *mt) {
    if (mt->at == N) refill(mt);
    uint32_t y = mt->state[mt->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* Uniform in 0..most. */
static uint32_t interval(struct es_mt19937 *mt, uint32_t most) {
    uint32_t mask = most, v;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    do v = es_mt_u32(mt) & mask;
    while (v > most);
    return v;
}

void es_mt_shuffle(struct es_mt19937 *mt, int64_t n, int64_t *a) {
    ES_ASSERT(n <= UINT32_MAX);
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t j = interval(mt, (uint32_t)i);
        int64_t t = a[i];
        a[i] = a[j];
        a[j] = t;
    }
}

void es_split_weak(int64_t n, double fraction, uint32_t seed, int64_t *perm, uint8_t *split) {
    struct es_mt19937 mt;
    es_mt_seed(&mt, seed);
    for (int64_t i = 0; i < n; i++) perm[i] = i;
    es_mt_shuffle(&mt, n, perm);
    int64_t n_train = (int64_t)rint(fraction * (double)n); /* Python's round: halves to even */
    memset(split, 1, (size_t)n);
    for (int64_t i = 0; i < n_train; i++) split[perm[i]] = 0;
}

static const char *const scenes[ES_N_SCENES] = {"cafe_restaurant", "city_center", "grocery_store",
                                                "metro_station", "residential_area"};

static size_t scene_length(const char *recording) {
    const char *underscore = strrchr(recording, '_');
    return underscore ? (size_t)(underscore - recording) : strlen(recording);
}

static bool same_scene(const char *recording, const char *scene, size_t length) {
    return scene_length(recording) == length && strncmp(recording, scene, length) == 0;
}

enum { NOT_YET = 255 };

static void split_scene(struct es_mt19937 *mt, int64_t n, const char *const *recording, const char *scene,
                        size_t length, double fraction, int64_t *perm, uint8_t *split) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (same_scene(recording[i], scene, length)) perm[m++] = i;
    es_mt_shuffle(mt, m, perm);
    int64_t n_train = (int64_t)(fraction * (double)m);
    for (int64_t i = 0; i < m; i++) split[perm[i]] = i >= n_train;
}

void es_split_recordings(int64_t n, const char *const *recording, double fraction, uint32_t seed,
                         int64_t *perm, uint8_t *split) {
    struct es_mt19937 mt;
    es_mt_seed(&mt, seed);
    memset(split, NOT_YET, (size_t)n);
    for (int s = 0; s < ES_N_SCENES; s++)
        split_scene(&mt, n, recording, scenes[s], strlen(scenes[s]), fraction, perm, split);
    for (int64_t i = 0; i < n; i++)
        if (split[i] == NOT_YET)
            split_scene(&mt, n, recording, recording[i], scene_length(recording[i]), fraction, perm, split);
}
