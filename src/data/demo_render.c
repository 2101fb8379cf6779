/* Audio of a clip: a background, and events over it at their levels. */
#include "demo_impl.h"

#include "earshot/mem.h"
#include "earshot/resample.h"

#include <math.h>
#include <string.h>

enum {
    PIECE_MIN = DEMO_RATE / 12, /* shorter pieces of a burst are not started */
    LOOP_FADE = DEMO_RATE / 20,
    BACKGROUND_FADE = DEMO_RATE / 2,
    TALKING = 12,   /* several layers of speech: */
    MOST_LAYERS = 3 /* so many at most */
};
static const double recorded_share = 0.6; /* of backgrounds, where there are any */

static double energy(const float *x, int n) {
    double e = 0;
    for (int i = 0; i < n; i++) e += (double)x[i] * (double)x[i];
    return e;
}

/* Fades over the first and last samples, equal power. */
static float edge_gain(int i, int n, int fade) {
    const int edge = i < n - 1 - i ? i : n - 1 - i;
    return edge < fade ? sqrtf(((float)edge + 0.5f) / (float)fade) : 1;
}

static void add_piece(float *x, int room, const float *from, int len, int fade) {
    for (int i = 0; i < len && i < room; i++) x[i] += from[i] * edge_gain(i, len, fade);
}

/* A sustained sound: cut from a longer file, or a shorter one looped with cross-fades, from a random place on. */
static void fill_loop(float *x, int n, const struct demo_file *f, struct es_rng *r, int fade) {
    if (f->n >= n) {
        add_piece(x, n, f->pcm + es_rng_below(r, (uint64_t)(f->n - n + 1)), n, 1);
        return;
    }
    if (fade > f->n / 4) fade = f->n / 4;
    int from = (int)es_rng_below(r, (uint64_t)(f->n / 2 + 1));
    for (int at = 0; at < n; from = 0) {
        add_piece(x + at, n - at, f->pcm + from, f->n - from, fade);
        at += f->n - from - fade;
    }
}

/* A burst sound: whole files of the recording one after another with short gaps, the last one cut so that there is sound
 * to the end. A file that is too long gives its loudest of four random windows. */
static void fill_bursts(float *x, int n, const struct demo_library *lib, const struct demo_recording *rec,
                        struct es_rng *r) {
    for (int at = 0; at < n;) {
        const struct demo_file *f =
            &lib->file[rec->first_file + (int)es_rng_below(r, (uint64_t)rec->n_files)];
        const int room = n - at;
        int len = f->n < room ? f->n : room, best = 0;
        double loudest = -1;
        if (room - len > 0 && room - len < PIECE_MIN && len > 2 * PIECE_MIN) len -= PIECE_MIN;
        for (int k = 0; k < 4; k++) {
            const int from = (int)es_rng_below(r, (uint64_t)(f->n - len + 1));
            const double e = energy(f->pcm + from, len);
            if (e > loudest) loudest = e, best = from;
        }
        add_piece(x + at, room, f->pcm + best, len, DEMO_RATE * 8 / 1000);
        const int gap = (int)es_rng_range(r, 0.02 * DEMO_RATE, 0.15 * DEMO_RATE);
        at += len + (room - len - gap >= PIECE_MIN ? gap : 0);
    }
}

/* The recording of a layer of an event, or NULL: synthesised. A source draws up to six and takes the first that covers half of
 * the event, so that little is repeated, else the longest. */
static const struct demo_recording *recording_of(const struct es_demo *d, const struct es_demo_clip *c,
                                                 const struct es_demo_event *e, uint32_t layer) {
    const struct demo_pool *p = &d->lib.pool[e->sound];
    const bool test = demo_set_is_test(c->set);
    const int n = test ? p->n_test : p->n_train, want = (e->offset_ms - e->onset_ms) * (DEMO_RATE / 1000) / 2;
    struct es_rng id = demo_rng(d, c->set, c->index, OP_SOURCE + 4 * e->source + layer);
    const struct demo_recording *best = NULL;
    for (int k = 0; k < 6 && n > 0 && (best == NULL || best->n_samples < want); k++) {
        const int i = p->recording[(test ? p->n_train : 0) + (int)es_rng_below(&id, (uint64_t)n)];
        const struct demo_recording *rec = &d->lib.recording[i];
        if (best == NULL || rec->n_samples > best->n_samples) best = rec;
    }
    return best;
}

/* Recordings of the event's layers, as they are, in raw; then faster or slower so that the source's pitch is another. */
static int render_recorded(const struct es_demo *d, const struct es_demo_clip *c,
                           const struct es_demo_event *e, struct es_rng *r, float *x, int n,
                           struct es_err *err) {
    const uint32_t layers = e->sound == TALKING ? 2 + (e->source & 1) : 1;
    struct es_rng pitch = demo_rng(d, c->set, c->index, OP_SOURCE + 4 * e->source + MOST_LAYERS);
    const double semitones = es_rng_range(&pitch, -d->p.pitch_semitones, d->p.pitch_semitones);
    const int rate = (int)lround(DEMO_RATE * exp2(semitones / 12));
    const int n_raw = (int)es_resample_length(n, DEMO_RATE, rate);
    float *raw = d->raw, *y = NULL;
    int64_t n_y = 0;
    memset(raw, 0, (size_t)n_raw * sizeof *raw);
    for (uint32_t k = 0; k < layers; k++) {
        const struct demo_recording *rec = recording_of(d, c, e, k);
        const struct demo_file *f =
            &d->lib.file[rec->first_file + (int)es_rng_below(r, (uint64_t)rec->n_files)];
        if (es_sound(e->sound)->burst)
            fill_bursts(raw, n_raw, &d->lib, rec, r);
        else
            fill_loop(raw, n_raw, f, r, LOOP_FADE);
    }
    ES_TRY(es_resample(raw, n_raw, rate, DEMO_RATE, &y, &n_y, err));
    ES_ASSERT(n_y >= n);
    memcpy(x, y, (size_t)n * sizeof *x);
    es_free(&y);
    return 0;
}

static int render_event(const struct es_demo *d, const struct es_demo_clip *c, int i_event, float *x, int n,
                        struct es_err *err) {
    const struct es_demo_event *e = &c->event[i_event];
    struct es_rng r = demo_rng(d, c->set, c->index, OP_EVENT + (uint32_t)i_event);
    if (recording_of(d, c, e, 0) == NULL) {
        const struct es_rng id = demo_rng(d, c->set, c->index, OP_SOURCE + 4 * e->source);
        es_sound_synth(e->sound, demo_set_is_test(c->set), id, r, x, n);
    } else {
        ES_TRY(render_recorded(d, c, e, &r, x, n, err));
    }
    const int fade = (int)es_rng_range(&r, DEMO_FADE_MIN_MS, DEMO_FADE_MAX_MS) * (DEMO_RATE / 1000);
    for (int i = 0; i < n; i++) {
        if (i == fade && n > 2 * fade) i = n - fade;
        x[i] *= edge_gain(i, n, fade);
    }
    return 0;
}

static const struct demo_recording *background_of(const struct es_demo *d, const struct es_demo_clip *c,
                                                  struct es_rng *r) {
    const struct demo_pool *p = &d->lib.background;
    const bool test = demo_set_is_test(c->set);
    const int under = c->scene >= 0                                             ? UNDER_MAESTRO
                      : c->set == ES_DEMO_AS_TRAIN || c->set == ES_DEMO_AS_EVAL ? UNDER_AUDIOSET
                                                                                : UNDER_DESED;
    const int *at = p->recording + (test ? p->n_train : 0), n = test ? p->n_test : p->n_train;
    const bool recorded = es_rng_uniform(r) < recorded_share;
    const struct demo_recording *chosen = NULL;
    double most =
        0; /* kinds are equally likely, then recordings: exponential race with rate 1 / recordings of the kind */
    for (int i = 0; recorded && i < n; i++) {
        const struct demo_recording *rec = &d->lib.recording[at[i]];
        int same = 0;
        for (int k = 0; k < n; k++) same += strcmp(d->lib.recording[at[k]].sound, rec->sound) == 0;
        const double key = 1 / (1e-9 - same * log(1 - es_rng_uniform(r)));
        if ((rec->under & under) == 0 || key <= most) continue;
        most = key;
        chosen = rec;
    }
    return chosen;
}

static void render_background(const struct es_demo *d, const struct es_demo_clip *c, float *x) {
    struct es_rng r = demo_rng(d, c->set, c->index, OP_BACKGROUND);
    const struct es_rng id = demo_rng(d, c->set, c->index, OP_BACKGROUND_ID);
    const struct demo_recording *rec = background_of(d, c, &r);
    const int n = c->n_samples;
    es_sound_synth(ES_SOUND_BACKGROUND, demo_set_is_test(c->set), id, r, x, n);
    if (rec != NULL) { /* a little of the synthesised one stays below it: no silence, no two loops alike */
        const struct demo_file *f =
            &d->lib.file[rec->first_file + (int)es_rng_below(&r, (uint64_t)rec->n_files)];
        const float keep = (float)(0.1 * sqrt(energy(f->pcm, f->n) / f->n / (energy(x, n) / n + 1e-12)));
        for (int i = 0; i < n; i++) x[i] *= keep;
        fill_loop(x, n, f, &r, BACKGROUND_FADE);
    }
    struct es_rng level = demo_rng(d, c->set, c->index, OP_LEVEL);
    const double rms = pow(10, es_rng_range(&level, -46, -34) / 20);
    const float gain = (float)(rms / sqrt(energy(x, n) / n + 1e-20));
    for (int i = 0; i < n; i++) x[i] *= gain;
}

int es_demo_render(struct es_demo *d, const struct es_demo_clip *c, float *mix, float *background,
                   float *stems, struct es_err *err) {
    const int n = c->n_samples;
    float *bg = d->work, *x = d->work + d->longest;
    render_background(d, c, bg);
    memcpy(mix, bg, (size_t)n * sizeof *mix);
    if (stems != NULL) memset(stems, 0, (size_t)c->n_events * (size_t)n * sizeof *stems);
    for (int k = 0; k < c->n_events; k++) {
        const struct es_demo_event *e = &c->event[k];
        const int at = e->onset_ms * (DEMO_RATE / 1000),
                  len = (e->offset_ms - e->onset_ms) * (DEMO_RATE / 1000);
        ES_TRY(render_event(d, c, k, x, len, err));
        const double ratio = pow(10, (double)e->snr_db / 10);
        const float gain = (float)sqrt(ratio * energy(bg + at, len) / (energy(x, len) + 1e-20));
        for (int i = 0; i < len; i++) x[i] *= gain;
        for (int i = 0; i < len; i++) mix[at + i] += x[i];
        if (stems != NULL) memcpy(stems + (size_t)k * (size_t)n + at, x, (size_t)len * sizeof *x);
    }
    float peak = 0;
    for (int i = 0; i < n; i++) peak = fmaxf(peak, fabsf(mix[i]));
    const float gain = peak > 0.95f ? 0.95f / peak : 1; /* levels keep their ratios */
    for (int i = 0; i < n; i++) mix[i] *= gain;
    for (size_t i = 0; stems != NULL && i < (size_t)c->n_events * (size_t)n; i++) stems[i] *= gain;
    for (int i = 0; background != NULL && i < n; i++) background[i] = bg[i] * gain;
    return 0;
}

const char *es_demo_event_recording(const struct es_demo *d, const struct es_demo_clip *c, int event) {
    const struct demo_recording *rec = recording_of(d, c, &c->event[event], 0);
    return rec == NULL ? NULL : rec->name;
}

const char *es_demo_background_recording(const struct es_demo *d, const struct es_demo_clip *c) {
    struct es_rng r = demo_rng(d, c->set, c->index, OP_BACKGROUND);
    const struct demo_recording *rec = background_of(d, c, &r);
    return rec == NULL ? NULL : rec->name;
}
