/* The recordings of the sounds folder, which side of the split each is on, and which sound takes which. */
#include "demo_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "earshot/audio.h"
#include "earshot/hash.h"
#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/tsv.h"

enum { MIN_RECORDINGS = 3, PATH_BYTES = 2048 };

/* Recorded backgrounds: which label sets they hold nothing of. A kind that is not listed is not used. */
static const struct {
    const char *sound;
    int under;
} backgrounds[] = {
    {"bg_rain", UNDER_DESED | UNDER_MAESTRO | UNDER_AUDIOSET},
    {"bg_boat", UNDER_DESED | UNDER_MAESTRO | UNDER_AUDIOSET},
    {"bg_waves", UNDER_DESED | UNDER_MAESTRO | UNDER_AUDIOSET},
    {"bg_storm", UNDER_DESED},
    {"bg_wind", UNDER_DESED},
    {"bg_train", UNDER_DESED},
    {"bg_city", UNDER_DESED},
    {"bg_birds", UNDER_DESED},
    {"bg_summer_night", UNDER_DESED | UNDER_MAESTRO},
};

/* ---- manifest.tsv: one file a row; rows of a recording need not be adjacent */
enum { FILE_NAME, SOUND, PROXY_FOR, RECORDING, COLUMNS };

static bool same_recording(const struct es_tsv *t, int64_t a, int64_t b) {
    return strcmp(es_tsv_text(t, a, RECORDING), es_tsv_text(t, b, RECORDING)) == 0 &&
           strcmp(es_tsv_text(t, a, SOUND), es_tsv_text(t, b, SOUND)) == 0;
}

static int read_file(struct demo_file *f, const char *sounds, const char *name, struct es_err *err) {
    char path[PATH_BYTES];
    struct es_audio_info info = {0};
    int64_t n = 0;
    double energy = 0;
    snprintf(path, sizeof path, "%s/audio/%s", sounds, name);
    ES_TRY(es_audio_read(path, 0, -1, &f->pcm, &n, &info, err));
    if (info.rate_hz != DEMO_RATE)
        return es_err_set(err, ES_EDATA, "%s: sampling rate: got %d Hz, want %d", path, info.rate_hz,
                          DEMO_RATE);
    for (int64_t k = 0; k < n; k++) energy += (double)f->pcm[k] * (double)f->pcm[k];
    if (n < DEMO_RATE / 20 || n > 600 * DEMO_RATE || energy < 1e-6 * (double)n)
        return es_err_set(err, ES_EDATA, "%s: got %.2f s of level %.3g, want 0.05 to 600 s that can be heard",
                          path, (double)n / DEMO_RATE, n > 0 ? sqrt(energy / (double)n) : 0.0);
    f->n = (int)n;
    return 0;
}

static int under_of(const char *sound) {
    for (size_t i = 0; i < sizeof backgrounds / sizeof *backgrounds; i++)
        if (strcmp(backgrounds[i].sound, sound) == 0) return backgrounds[i].under;
    return 0;
}

/* Files in the order of their recording's first row. */
static int load(struct demo_library *lib, const char *sounds, const struct es_tsv *t, struct es_err *err) {
    const int64_t n = es_tsv_rows(t);
    if ((lib->file = es_alloc((size_t)n + 1, sizeof *lib->file, err)) == NULL) return -ES_EIO;
    if ((lib->recording = es_alloc((size_t)n + 1, sizeof *lib->recording, err)) == NULL) return -ES_EIO;
    for (int64_t i = 0; i < n; i++) {
        bool seen = false;
        for (int64_t j = 0; j < i && !seen; j++) seen = same_recording(t, i, j);
        if (seen) continue;
        struct demo_recording *r = &lib->recording[lib->n_recordings++];
        r->first_file = lib->n_files;
        r->under = under_of(es_tsv_text(t, i, SOUND));
        if ((r->name = es_strdup(es_tsv_text(t, i, RECORDING), err)) == NULL) return -ES_EIO;
        if ((r->sound = es_strdup(es_tsv_text(t, i, SOUND), err)) == NULL) return -ES_EIO;
        if ((r->proxy_for = es_strdup(es_tsv_text(t, i, PROXY_FOR), err)) == NULL) return -ES_EIO;
        for (int64_t j = i; j < n; j++) {
            if (!same_recording(t, i, j)) continue;
            ES_TRY(read_file(&lib->file[lib->n_files++], sounds, es_tsv_text(t, j, FILE_NAME), err));
            r->n_samples += lib->file[lib->n_files - 1].n;
            r->n_files++;
        }
    }
    return 0;
}

static int manifest_digest(const struct es_tsv *t, uint64_t *digest, struct es_err *err) {
    struct es_hash *h = NULL;
    ES_TRY(es_hash_new(&h, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++)
        for (int c = 0; c < COLUMNS; c++) es_hash_string(h, es_tsv_text(t, i, c));
    *digest = es_hash_value(h);
    es_hash_free(&h);
    return 0;
}

/* All backgrounds are one group, every other sound is its own: shuffled, then test_fraction of it (at least one, not all)
 * goes to the test side. A recording whose name occurs under several sounds stays on the side of its first. */
static void split(struct demo_library *lib, uint64_t seed, double test_fraction,
                  struct demo_recording **group) {
    for (int i = 0; i < lib->n_recordings; i++) {
        const struct demo_recording *head = &lib->recording[i];
        int n = 0;
        bool seen = false;
        for (int j = 0; j < lib->n_recordings; j++) {
            struct demo_recording *r = &lib->recording[j];
            if (head->under ? r->under == 0 : strcmp(r->sound, head->sound) != 0) continue;
            seen |= j < i;
            group[n++] = r;
        }
        if (seen || n < 2) continue;
        struct es_rng r = es_rng_make(seed, ES_RNG_DEMO, ES_DEMO_SETS, (uint32_t)i, OP_SPLIT);
        for (int k = n - 1; k > 0; k--) {
            const int j = (int)es_rng_below(&r, (uint64_t)k + 1);
            struct demo_recording *t = group[k];
            group[k] = group[j];
            group[j] = t;
        }
        int n_test = (int)lround(test_fraction * n);
        n_test = n_test < 1 ? 1 : n_test > n - 1 ? n - 1 : n_test;
        for (int k = 0; k < n_test; k++) group[k]->test = true;
    }
    for (int i = 1; i < lib->n_recordings; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(lib->recording[i].name, lib->recording[j].name) == 0)
                lib->recording[i].test = lib->recording[j].test;
}

static void take(struct demo_library *lib, struct demo_pool *p,
                 bool (*wanted)(const struct demo_recording *, const char *), const char *arg) {
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < lib->n_recordings; i++) {
            const struct demo_recording *r = &lib->recording[i];
            if (r->test != (side == 1) || !wanted(r, arg)) continue;
            p->recording[p->n_train + p->n_test] = i;
            if (side == 1)
                p->n_test++;
            else
                p->n_train++;
        }
}

static bool is_sound(const struct demo_recording *r, const char *arg) {
    return strcmp(r->sound, arg) == 0;
}
static bool is_own_or_proxy(const struct demo_recording *r, const char *arg) {
    return strcmp(r->sound, arg) == 0 || strcmp(r->proxy_for, arg) == 0;
}
static bool is_background(const struct demo_recording *r, const char *arg) {
    (void)arg;
    return r->under != 0;
}

static void name_proxies(const struct demo_library *lib, int sound, struct es_demo_source *s) {
    const struct demo_pool *p = &lib->pool[sound];
    for (int k = 0; k < p->n_train + p->n_test; k++) {
        const char *name = lib->recording[p->recording[k]].sound;
        const size_t used = strlen(s->proxies);
        if (strcmp(name, es_sound(sound)->folder) == 0 || strstr(s->proxies, name) != NULL) continue;
        snprintf(s->proxies + used, sizeof s->proxies - used, "%s%s", used ? ", " : "", name);
    }
}

/* Own recordings if there are 3; else with those the manifest or the table offers as stand-ins; else synthesis. */
static void choose(struct demo_library *lib, int sound) {
    const struct es_sound_info *info = es_sound(sound);
    struct demo_pool *p = &lib->pool[sound];
    struct es_demo_source *s = &lib->source[sound];
    if (info->folder != NULL) take(lib, p, is_sound, info->folder);
    s->kind = ES_DEMO_RECORDINGS;
    if (p->n_train + p->n_test < MIN_RECORDINGS) {
        p->n_train = p->n_test = 0;
        s->kind = ES_DEMO_PROXY;
        if (info->stand_in != NULL)
            take(lib, p, is_sound, info->stand_in);
        else if (info->folder != NULL)
            take(lib, p, is_own_or_proxy, info->folder);
    }
    if (p->n_train + p->n_test < MIN_RECORDINGS || p->n_train == 0 || p->n_test == 0) {
        p->n_train = p->n_test = 0;
        s->kind = ES_DEMO_SYNTHESISED;
    }
    if (s->kind == ES_DEMO_PROXY) name_proxies(lib, sound, s);
    s->n_train = p->n_train;
    s->n_test = p->n_test;
}

int demo_library_load(struct demo_library *lib, const char *sounds, uint64_t seed, double test_fraction,
                      struct es_err *err) {
    static const char *const columns[COLUMNS] = {"file", "sound", "proxy_for", "recording"};
    char path[PATH_BYTES];
    struct es_tsv *t = NULL;
    struct demo_recording **group = NULL;
    int rc = 0;
    if (sounds != NULL) {
        snprintf(path, sizeof path, "%s/manifest.tsv", sounds);
        ES_GO(es_tsv_open(&t, path, columns, COLUMNS, 0, err));
        ES_GO(manifest_digest(t, &lib->digest, err));
        ES_GO(load(lib, sounds, t, err));
        if ((group = es_alloc((size_t)lib->n_recordings + 1, sizeof *group, err)) == NULL) ES_GO(-ES_EIO);
        split(lib, seed, test_fraction, group);
    }
    for (int i = -1; i < ES_SOUND_COUNT; i++) {
        struct demo_pool *p = i < 0 ? &lib->background : &lib->pool[i];
        if ((p->recording = es_alloc((size_t)lib->n_recordings + 1, sizeof *p->recording, err)) == NULL)
            ES_GO(-ES_EIO);
    }
    take(lib, &lib->background, is_background, NULL);
    for (int i = 0; i < ES_SOUND_COUNT; i++) choose(lib, i);
done:
    es_free(&group);
    es_tsv_close(&t);
    return rc;
}

void demo_library_free(struct demo_library *lib) {
    for (int i = 0; i < ES_SOUND_COUNT; i++) es_free(&lib->pool[i].recording);
    es_free(&lib->background.recording);
    for (int i = 0; i < lib->n_recordings; i++) {
        es_free(&lib->recording[i].proxy_for);
        es_free(&lib->recording[i].sound);
        es_free(&lib->recording[i].name);
    }
    for (int i = 0; i < lib->n_files; i++) es_free(&lib->file[i].pcm);
    es_free(&lib->recording);
    es_free(&lib->file);
}
