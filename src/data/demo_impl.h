/* Shared by src/data/demo*.c only: the open demo, its library of recordings, its plan. */
#ifndef ES_DATA_DEMO_IMPL_H
#define ES_DATA_DEMO_IMPL_H

#include "earshot/demo.h"

enum {
    DEMO_RATE = 16000,
    DEMO_CLIP_MS = 10000,
    DEMO_SCENES = 5,
    DEMO_FADE_MIN_MS = 5,
    DEMO_FADE_MAX_MS = 20
};

/* Random streams of a clip: the rng's op. Events use OP_EVENT + number, sources OP_SOURCE + number. */
enum {
    OP_NAME,
    OP_PLAN,
    OP_BACKGROUND,
    OP_BACKGROUND_ID,
    OP_LEVEL,
    OP_SPLIT,
    OP_LABEL,
    OP_RESPONSE,
    OP_EVENT = 1 << 12,
    OP_SOURCE = 1 << 20,
    OP_RUNS = 1 << 24,
    OP_ANNOTATOR = 1 << 28
};

/* What a recorded background may be mixed under without hiding a labelled sound. */
enum { UNDER_DESED = 1, UNDER_MAESTRO = 2, UNDER_AUDIOSET = 4 };

struct demo_recording {
    char *name, *sound, *proxy_for; /* proxy_for may be "" */
    int first_file, n_files;
    int64_t n_samples; /* of all its files */
    int under;         /* backgrounds only, else 0 */
    bool test;
};

struct demo_file {
    float *pcm;
    int n;
};

struct demo_pool { /* recordings of one sound: train, then test */
    int *recording;
    int n_train, n_test;
};

struct demo_library {
    struct demo_file *file;
    struct demo_recording *recording;
    int n_files, n_recordings;
    uint64_t digest; /* of the manifest; 0 without one */
    struct demo_pool pool[ES_SOUND_COUNT], background;
    struct es_demo_source source[ES_SOUND_COUNT];
};

struct es_demo {
    struct es_demo_params p; /* counts resolved */
    struct demo_library lib;
    int count[ES_DEMO_SETS], first[ES_DEMO_SETS];
    struct es_demo_clip *clip;
    struct es_demo_event *event;
    int n_clips, n_events;
    int longest;
    float *work; /* [2, longest] samples */
    float *raw;  /* an event before its pitch is changed */
};

extern const char *const demo_scenes[DEMO_SCENES];

static inline bool demo_set_is_test(enum es_demo_set set) {
    return set == ES_DEMO_VALIDATION || set == ES_DEMO_MAESTRO_VALIDATION || set == ES_DEMO_AS_EVAL;
}

static inline struct es_rng demo_rng(const struct es_demo *d, enum es_demo_set set, int index, uint32_t op) {
    return es_rng_make(d->p.seed, ES_RNG_DEMO, (uint32_t)set, (uint32_t)index, op);
}

/* demo_library.c: recordings, their split, and which sound takes which. sounds == NULL: empty pools. */
int demo_library_load(struct demo_library *lib, const char *sounds, uint64_t seed, double test_fraction,
                      struct es_err *err);
void demo_library_free(struct demo_library *lib);

/* demo_plan.c: names, lengths and events of all clips. */
int demo_plan(struct es_demo *d, struct es_err *err);

/* demo_write.c: label files, README and demo.json; rank 0 only. */
int demo_write_labels(const struct es_demo *d, struct es_err *err);
int demo_write_about(const struct es_demo *d, uint64_t audio_digest, bool complete, struct es_err *err);
/* demo_responses.c: OUT/dirs, impulse responses of devices; rank 0 only. */
int demo_write_responses(const struct es_demo *d, struct es_err *err);
/* OUT-relative path of a clip's audio. */
void demo_audio_path(const struct es_demo_clip *c, char *path, int size);
/* Folders of all audio. */
int demo_make_folders(const struct es_demo *d, struct es_err *err);
/* All folders up to the last slash of path. */
int demo_make_path(const char *path, struct es_err *err);

#endif
