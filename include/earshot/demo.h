/* The demo corpus: audio and label files in the layout of AudioSet-strong, DESED and MAESTRO Real, made on the spot.
 *
 * What is real and what is not. Durations, onsets, classes per clip, events per class and co-occurrence follow the label
 * files of the real corpora (src/data/event_stats.c). The sounds are isolated recordings where a sounds folder is given and
 * has at least 3 of a class, else recordings that stand in for it (named), else a procedural synthesiser (named). Table
 * and names go to OUT/README and OUT/demo.json. Training and test use disjoint recordings, disjoint backgrounds and disjoint
 * synthesiser settings; the test side is DESED validation, MAESTRO validation and the AudioSet-strong evaluation set.
 *
 * Layout under OUT (names as in the real corpora; times in seconds; audio 16 kHz mono WAV, 16 bit):
 *   desed/audio/train/{strong_label_real_16k,weak_16k,unlabel_in_domain_16k}/Y<id>_<start>_<end>.wav
 *   desed/audio/validation/validation_16k/...          desed/metadata/train/{audioset_strong,weak}.tsv
 *   desed/metadata/validation/{validation,validation_durations}.tsv
 *   desed/dcase_synth/audio/train/synthetic21_train/soundscapes_16k/<n>.wav
 *   desed/audio/validation/synthetic21_validation/soundscapes_16k/<n>.wav
 *   desed/dcase_synth/metadata/{train/synthetic21_train/soundscapes,validation/synthetic21_validation/{soundscapes,durations}}.tsv
 *   maestro/development_audio/<scene>/<scene>_NN.wav
 *   maestro/development_annotation/soft_labels_<scene>/<scene>_NN.txt     onset offset event soft_label, no header, 1-s segments
 *   maestro/{train,validation}_split.csv                                  header "train" or "val", one recording a line
 *   maestro/metadata/maestro_real_{train,validation}.tsv, maestro_real_durations.tsv    10-s windows, 1-s hop
 *   audioset/audio/{train,eval}/Y<id>.wav
 *   audioset/metadata/{audioset_train_strong,audioset_eval_strong,audioset_eval_durations,
 *     mid_to_display_name}.tsv
 *   README, demo.json, ATTRIBUTION.md (copied from the sounds folder)
 *
 * Every clip is a pure function of (parameters, set, index): clip i of a set is rendered by rank i mod P, and the bytes do
 * not depend on P. Order of calls: es_demo_params_default, change fields, es_demo_render_all. The middle layer (open, clip,
 * render, close) is for tests and for looking at single clips. */
#ifndef EARSHOT_DEMO_H
#define EARSHOT_DEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/comm.h"
#include "earshot/err.h"
#include "earshot/rng.h"

/* ---- sounds: the 27 classes in their fixed order, then extras that only the AudioSet-strong-like set uses */
enum { ES_SOUND_DESED = 10, ES_SOUND_TASK = 27, ES_SOUND_COUNT = 40, ES_SOUND_BACKGROUND = -1 };

struct es_sound_info {
    const char *name;             /* label of the task, or AudioSet name */
    const char *as_name, *as_mid; /* NULL: not in the AudioSet-strong-like set */
    const char *folder;           /* sound of the manifest, or NULL */
    const char *stand_in;         /* sound that may stand in, or NULL */
    bool burst;                   /* repeated bursts; else a sustained sound, looped */
    int like;                     /* DESED class whose durations it takes in the AudioSet-strong-like set */
};
const struct es_sound_info *es_sound(int sound);

/* Fills x[0..n) at 16 kHz with an instance of the sound (level arbitrary). id fixes the source, ev the event; test selects
 * source settings that training never uses. sound may be ES_SOUND_BACKGROUND. Pure; no errors. */
void es_sound_synth(int sound, bool test, struct es_rng id, struct es_rng ev, float *x, int n);

/* ---- parameters */
enum es_demo_set {
    ES_DEMO_AS_TRAIN,
    ES_DEMO_AS_EVAL,
    ES_DEMO_REAL,
    ES_DEMO_SYNTH,
    ES_DEMO_WEAK,
    ES_DEMO_UNLABELED,
    ES_DEMO_VALIDATION,
    ES_DEMO_SYNTH_VALIDATION,
    ES_DEMO_MAESTRO_TRAIN,
    ES_DEMO_MAESTRO_VALIDATION,
    ES_DEMO_SETS
};

struct es_demo_params {
    const char *out;    /* folder to write */
    const char *sounds; /* folder with manifest.tsv and audio/, or NULL: everything is synthesised */
    uint64_t seed;
    int clips; /* base size: strongly labelled real clips. A count below of -1 follows it */
    int clips_as, clips_as_eval, clips_real, clips_synth, clips_weak, clips_unlabeled, clips_validation,
        clips_synth_validation;            /* 10-s clips */
    int maestro_train, maestro_validation; /* recordings, dealt over 5 scenes */
    double maestro_seconds;                /* length of a recording (plus up to 1 s) */
    double snr_min_db, snr_max_db;         /* events over the background, over the event's support, uniform */
    double test_fraction;                  /* share of recordings, per sound, that only the test side uses */
    double pitch_semitones; /* recorded events: up to so much faster or slower, uniform, one draw a source */
};
void es_demo_params_default(struct es_demo_params *p);

/* Writes the corpus. An out that holds a finished demo of the same parameters is left as it is; an unfinished one of the
 * same parameters is written anew. Collective over comm; p is the same on all ranks, and so is the result.
 * Errors: ES_EUSAGE (a parameter out of range; out is something else), ES_EDATA (a broken sounds folder), ES_EIO. */
int es_demo_render_all(const struct es_comm *comm, const struct es_demo_params *p, struct es_err *err);

/* ---- the middle layer: no communication, no files written */
struct es_demo;

struct es_demo_event {
    int sound;
    int onset_ms, offset_ms; /* within the clip; whole milliseconds, as in the label files */
    float snr_db;
    uint32_t source; /* events of one source share recording or synthesiser identity */
};

struct es_demo_clip {
    char name[40]; /* stem: no folder, no extension */
    enum es_demo_set set;
    int index, n_samples, n_events;
    int scene;                         /* MAESTRO: 0..4; else -1 */
    const struct es_demo_event *event; /* by onset */
};

/* Loads the sounds, splits them and plans every clip. Errors as above. Copies p but not the strings. */
int es_demo_open(struct es_demo **d, const struct es_demo_params *p, struct es_err *err);
void es_demo_close(struct es_demo **d);
int es_demo_count(const struct es_demo *d, enum es_demo_set set);
const struct es_demo_clip *es_demo_clip(const struct es_demo *d, enum es_demo_set set, int index);
/* Digest of everything that decides the corpus: parameters and manifest. */
uint64_t es_demo_digest(const struct es_demo *d);

/* mix [n_samples], within +-1. background [n_samples] and stems [n_events, n_samples] may be NULL; they come with the
 * clip's final gain, so that mix = background + sum of stems. Errors: ES_EIO (no memory). */
int es_demo_render(struct es_demo *d, const struct es_demo_clip *c, float *mix, float *background,
                   float *stems, struct es_err *err);

/* Recordings that an event or a background takes its audio from; NULL: synthesised. */
const char *es_demo_event_recording(const struct es_demo *d, const struct es_demo_clip *c, int event);
const char *es_demo_background_recording(const struct es_demo *d, const struct es_demo_clip *c);

/* Where the audio of a sound comes from. */
struct es_demo_source {
    enum { ES_DEMO_RECORDINGS, ES_DEMO_PROXY, ES_DEMO_SYNTHESISED } kind;
    int n_train, n_test; /* recordings */
    char proxies[96];    /* names of the sounds that stand in */
};
void es_demo_source(const struct es_demo *d, int sound, struct es_demo_source *s);

/* Soft label of a MAESTRO segment: agreement of 5 simulated annotators, 0, 0.2 .. 1. */
double es_demo_soft_label(const struct es_demo *d, const struct es_demo_clip *c, int sound, int second);

#endif
