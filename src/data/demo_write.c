/* Label files, README and demo.json of the demo corpus; rank 0 only. Formats: spec of the data sets, sections 1.1 to 1.11. */
#include "demo_impl.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/hash.h"
#include "earshot/json.h"
#include "earshot/mem.h"
#include "earshot/text.h"

enum { PATH_BYTES = 2048 };

#define SYNTH "desed/dcase_synth/"

static const char *const audio_folder[ES_DEMO_SETS] = {
    [ES_DEMO_AS_TRAIN] = "audioset/audio/train",
    [ES_DEMO_AS_EVAL] = "audioset/audio/eval",
    [ES_DEMO_REAL] = "desed/audio/train/strong_label_real_16k",
    [ES_DEMO_SYNTH] = SYNTH "audio/train/synthetic21_train/soundscapes_16k",
    [ES_DEMO_WEAK] = "desed/audio/train/weak_16k",
    [ES_DEMO_UNLABELED] = "desed/audio/train/unlabel_in_domain_16k",
    [ES_DEMO_VALIDATION] = "desed/audio/validation/validation_16k",
    [ES_DEMO_SYNTH_VALIDATION] = "desed/audio/validation/synthetic21_validation/soundscapes_16k",
    [ES_DEMO_MAESTRO_TRAIN] = "maestro/development_audio",
    [ES_DEMO_MAESTRO_VALIDATION] = "maestro/development_audio",
};

void demo_audio_path(const struct es_demo_clip *c, char *path, int size) {
    if (c->scene >= 0)
        snprintf(path, (size_t)size, "%s/%s/%s.wav", audio_folder[c->set], demo_scenes[c->scene], c->name);
    else
        snprintf(path, (size_t)size, "%s/%s.wav", audio_folder[c->set], c->name);
}

/* All folders of audio; label folders are made by save(). */
int demo_make_folders(const struct es_demo *d, struct es_err *err) {
    char path[PATH_BYTES];
    for (int set = 0; set < ES_DEMO_SETS; set++)
        for (int scene = 0; scene < (set >= ES_DEMO_MAESTRO_TRAIN ? DEMO_SCENES : 1); scene++) {
            snprintf(path, sizeof path, "%s/%s%s%s/", d->p.out, audio_folder[set],
                     set >= ES_DEMO_MAESTRO_TRAIN ? "/" : "",
                     set >= ES_DEMO_MAESTRO_TRAIN ? demo_scenes[scene] : "");
            ES_TRY(demo_make_path(path, err));
        }
    return 0;
}

static int save(const struct es_demo *d, const char *name, struct es_text *t, struct es_err *err) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", d->p.out, name);
    int rc = demo_make_path(path, err);
    if (rc == 0) rc = es_text_check(t, err);
    if (rc == 0) rc = es_text_save(path, t->s == NULL ? "" : t->s, t->n, err);
    es_text_free(t);
    return rc;
}

static double ms(int v) {
    return v / 1000.0;
}

/* filename onset offset event_label; a clip without events is one row with three empty fields */
static int write_strong(const struct es_demo *d, enum es_demo_set set, const char *name, struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "filename\tonset\toffset\tevent_label\n");
    for (int i = 0; i < d->count[set]; i++) {
        const struct es_demo_clip *c = es_demo_clip(d, set, i);
        if (c->n_events == 0) es_text_add(&t, "%s.wav\t\t\t\n", c->name);
        for (int k = 0; k < c->n_events; k++)
            es_text_add(&t, "%s.wav\t%.3f\t%.3f\t%s\n", c->name, ms(c->event[k].onset_ms),
                        ms(c->event[k].offset_ms), es_sound(c->event[k].sound)->name);
    }
    return save(d, name, &t, err);
}

static int write_weak(const struct es_demo *d, const char *name, struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "filename\tevent_labels\n");
    for (int i = 0; i < d->count[ES_DEMO_WEAK]; i++) {
        const struct es_demo_clip *c = es_demo_clip(d, ES_DEMO_WEAK, i);
        const char *comma = "";
        es_text_add(&t, "%s.wav\t", c->name);
        for (int s = 0; s < ES_SOUND_DESED; s++)
            for (int k = 0; k < c->n_events; k++) {
                if (c->event[k].sound != s) continue;
                es_text_add(&t, "%s%s", comma, es_sound(s)->name);
                comma = ",";
                break;
            }
        es_text_add(&t, "\n");
    }
    return save(d, name, &t, err);
}

static int write_durations(const struct es_demo *d, enum es_demo_set first, enum es_demo_set last,
                           const char *suffix, const char *name, struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "filename\tduration\n");
    for (int set = (int)first; set <= (int)last; set++)
        for (int i = 0; i < d->count[set]; i++) {
            const struct es_demo_clip *c = es_demo_clip(d, (enum es_demo_set)set, i);
            es_text_add(&t, "%s%s\t%.3f\n", c->name, suffix, (double)c->n_samples / DEMO_RATE);
        }
    return save(d, name, &t, err);
}

/* segment_id start_time_seconds end_time_seconds label, as in audioset_{train,eval}_strong.tsv */
static int write_audioset(const struct es_demo *d, enum es_demo_set set, const char *name,
                          struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n");
    for (int i = 0; i < d->count[set]; i++) {
        const struct es_demo_clip *c = es_demo_clip(d, set, i);
        for (int k = 0; k < c->n_events; k++) /* name + 1: without the Y of the file name */
            es_text_add(&t, "%s_30000\t%.3f\t%.3f\t%s\n", c->name + 1, ms(c->event[k].onset_ms),
                        ms(c->event[k].offset_ms), es_sound(c->event[k].sound)->as_mid);
    }
    return save(d, name, &t, err);
}

/* ---- MAESTRO */

/* Rows of a recording's annotation: 1-s segments with a label above 0; the last segment ends with the recording. */
static int n_seconds(const struct es_demo_clip *c) {
    return (c->n_samples + DEMO_RATE - 1) / DEMO_RATE;
}

static double end_of(const struct es_demo_clip *c, int second) {
    return fmin(second + 1, (double)c->n_samples / DEMO_RATE);
}

static int write_annotation(const struct es_demo *d, const struct es_demo_clip *c, struct es_err *err) {
    char name[256];
    struct es_text t = {0};
    for (int s = 0; s < n_seconds(c); s++)
        for (int k = ES_SOUND_DESED; k < ES_SOUND_TASK; k++) {
            const double soft = es_demo_soft_label(d, c, k, s);
            if (soft > 0) es_text_add(&t, "%d\t%.10g\t%s\t%.10g\n", s, end_of(c, s), es_sound(k)->name, soft);
        }
    snprintf(name, sizeof name, "maestro/development_annotation/soft_labels_%s/%s.txt", demo_scenes[c->scene],
             c->name);
    return save(d, name, &t, err);
}

static int by_name(const void *a, const void *b) {
    const struct es_demo_clip *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* The windows that the recipe cuts: 10 s, hop 1 s, and one shorter window at the end (spec, MAESTRO Real preparation). */
static int write_windows(const struct es_demo *d, enum es_demo_set set, const char *name,
                         struct es_err *err) {
    enum { WINDOW_S = 10 };
    const int n = d->count[set];
    struct es_text t = {0};
    const struct es_demo_clip **clip = es_alloc((size_t)n + 1, sizeof *clip, err);
    if (clip == NULL) return -ES_EIO;
    for (int i = 0; i < n; i++) clip[i] = es_demo_clip(d, set, i);
    qsort(clip, (size_t)n, sizeof *clip, by_name);
    es_text_add(&t, "filename\tonset\toffset\tevent_label\tconfidence\n");
    for (int i = 0; i < n; i++) {
        const struct es_demo_clip *c = clip[i];
        const int full = (c->n_samples - (WINDOW_S - 1) * DEMO_RATE) / DEMO_RATE;
        for (int w = 0; w <= full; w++) {
            if (w == full && w * DEMO_RATE >= c->n_samples) break;
            const double end_s = fmin(w + WINDOW_S, (double)c->n_samples / DEMO_RATE);
            for (int s = w; s < end_s; s++)
                for (int k = ES_SOUND_DESED; k < ES_SOUND_TASK; k++) {
                    const double soft = es_demo_soft_label(d, c, k, s);
                    if (soft <= 0) continue;
                    es_text_add(&t, "%s-%06d-%06d.wav\t%.10g\t%.10g\t%s\t%.10g\n", c->name, 100 * w,
                                (int)(100 * end_s), (double)(s - w), end_of(c, s) - w, es_sound(k)->name,
                                soft);
                }
        }
    }
    es_free(&clip);
    return save(d, name, &t, err);
}

static int write_split(const struct es_demo *d, enum es_demo_set set, const char *column, const char *name,
                       struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t, "%s\n", column);
    for (int i = 0; i < d->count[set]; i++) es_text_add(&t, "%s\n", es_demo_clip(d, set, i)->name);
    return save(d, name, &t, err);
}

int demo_write_labels(const struct es_demo *d, struct es_err *err) {
    struct es_text mids = {0};
    ES_TRY(write_strong(d, ES_DEMO_REAL, "desed/metadata/train/audioset_strong.tsv", err));
    ES_TRY(write_weak(d, "desed/metadata/train/weak.tsv", err));
    ES_TRY(write_strong(d, ES_DEMO_VALIDATION, "desed/metadata/validation/validation.tsv", err));
    ES_TRY(write_durations(d, ES_DEMO_VALIDATION, ES_DEMO_VALIDATION, ".wav",
                           "desed/metadata/validation/validation_durations.tsv", err));
    ES_TRY(write_strong(d, ES_DEMO_SYNTH, SYNTH "metadata/train/synthetic21_train/soundscapes.tsv", err));
    ES_TRY(write_strong(d, ES_DEMO_SYNTH_VALIDATION,
                        SYNTH "metadata/validation/synthetic21_validation/soundscapes.tsv", err));
    ES_TRY(write_durations(d, ES_DEMO_SYNTH_VALIDATION, ES_DEMO_SYNTH_VALIDATION, ".wav",
                           SYNTH "metadata/validation/synthetic21_validation/durations.tsv", err));
    for (int set = ES_DEMO_MAESTRO_TRAIN; set <= ES_DEMO_MAESTRO_VALIDATION; set++)
        for (int i = 0; i < d->count[set]; i++)
            ES_TRY(write_annotation(d, es_demo_clip(d, (enum es_demo_set)set, i), err));
    ES_TRY(write_windows(d, ES_DEMO_MAESTRO_TRAIN, "maestro/metadata/maestro_real_train.tsv", err));
    ES_TRY(write_windows(d, ES_DEMO_MAESTRO_VALIDATION, "maestro/metadata/maestro_real_validation.tsv", err));
    ES_TRY(write_durations(d, ES_DEMO_MAESTRO_TRAIN, ES_DEMO_MAESTRO_VALIDATION, "",
                           "maestro/metadata/maestro_real_durations.tsv", err));
    ES_TRY(write_split(d, ES_DEMO_MAESTRO_TRAIN, "train", "maestro/train_split.csv", err));
    ES_TRY(write_split(d, ES_DEMO_MAESTRO_VALIDATION, "val", "maestro/validation_split.csv", err));
    ES_TRY(write_audioset(d, ES_DEMO_AS_TRAIN, "audioset/metadata/audioset_train_strong.tsv", err));
    ES_TRY(write_audioset(d, ES_DEMO_AS_EVAL, "audioset/metadata/audioset_eval_strong.tsv", err));
    ES_TRY(write_durations(d, ES_DEMO_AS_EVAL, ES_DEMO_AS_EVAL, ".wav",
                           "audioset/metadata/audioset_eval_durations.tsv", err));
    for (int s = 0; s < ES_SOUND_COUNT; s++)
        if (es_sound(s)->as_mid != NULL)
            es_text_add(&mids, "%s\t%s\n", es_sound(s)->as_mid, es_sound(s)->as_name);
    return save(d, "audioset/metadata/mid_to_display_name.tsv", &mids, err);
}

/* ---- about the corpus */

static const char *const kind_names[] = {"recordings", "proxy", "synthesised"};

static int write_readme(const struct es_demo *d, struct es_err *err) {
    struct es_text t = {0};
    es_text_add(&t,
                "Demo corpus written by `earshot demo`: AudioSet-strong-, DESED- and MAESTRO-like sets in "
                "the layout of the real\n"
                "corpora. Statistics of events are those of the real label files; the mixtures are made. "
                "Scores on it say nothing\n"
                "about scores on the real corpora.\n\n"
                "Training sets and the test side (DESED validation, MAESTRO validation, AudioSet-strong "
                "eval) share no recording, no\n"
                "background and no synthesiser setting; the synthetic validation set uses the training "
                "side's sounds in new mixtures.\n\n"
                "Events are %g to %g dB over the background (energy over the event's support, uniform). "
                "Recorded ones are played\n"
                "faster or slower by up to %g semitones.\n\n",
                d->p.snr_min_db, d->p.snr_max_db, d->p.pitch_semitones);
    es_text_add(&t, "Where the sounds come from (a proxy is NOT the class it stands in for; see below):\n\n");
    es_text_add(&t, "%-28s %-12s %6s %5s  %s\n", "sound", "source", "train", "test", "stand-ins");
    for (int s = 0; s < ES_SOUND_COUNT; s++) {
        const struct es_demo_source *src = &d->lib.source[s];
        if (src->kind == ES_DEMO_SYNTHESISED)
            es_text_add(&t, "%-28s %-12s %6s %5s\n", es_sound(s)->name, kind_names[src->kind], "-", "-");
        else
            es_text_add(&t, "%-28s %-12s %6d %5d  %s\n", es_sound(s)->name, kind_names[src->kind],
                        src->n_train, src->n_test, src->proxies);
    }
    es_text_add(&t, "%-28s %-12s %6d %5d  and synthesised ones\n", "backgrounds",
                d->lib.background.n_train + d->lib.background.n_test > 0 ? kind_names[0] : kind_names[2],
                d->lib.background.n_train, d->lib.background.n_test);
    es_text_add(&t, "\nAssumed, not measured (MAESTRO Real has no hard labels of them): how often coffee "
                    "machine, furniture dragging, door\n"
                    "opens/closes, cash register beeping, shopping cart and announcement occur.\n");
    if (d->p.sounds != NULL)
        es_text_add(&t, "\nRecordings come from a folder of freely licensed sounds. Its ATTRIBUTION.md is "
                        "copied here and goes with the corpus;\n"
                        "CC-BY-SA, GPL and LGPL sounds in it set the terms of the mixtures.\n");
    return save(d, "README", &t, err);
}

static int copy_attribution(const struct es_demo *d, struct es_err *err) {
    char path[PATH_BYTES], block[4096];
    struct es_text t = {0};
    if (d->p.sounds == NULL) return 0;
    snprintf(path, sizeof path, "%s/ATTRIBUTION.md", d->p.sounds);
    FILE *f = fopen(path, "r");
    if (f == NULL) return 0; /* a folder of one's own needs none */
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) es_text_add_bytes(&t, block, n);
    const int bad = ferror(f);
    fclose(f);
    if (bad) {
        es_text_free(&t);
        return es_err_set(err, ES_EIO, "%s: read error: %s", path, strerror(errno));
    }
    return save(d, "ATTRIBUTION.md", &t, err);
}

int demo_write_about(const struct es_demo *d, uint64_t audio_digest, bool complete, struct es_err *err) {
    static const char *const set_names[ES_DEMO_SETS] = {
        "clips_as",      "clips_as_eval",     "clips_real",       "clips_synth",
        "clips_weak",    "clips_unlabeled",   "clips_validation", "clips_synth_validation",
        "maestro_train", "maestro_validation"};
    char path[PATH_BYTES], hex[17];
    struct es_json *j = NULL;
    ES_TRY(write_readme(d, err));
    ES_TRY(copy_attribution(d, err));
    snprintf(path, sizeof path, "%s/demo.json", d->p.out);
    ES_TRY(es_json_new(&j, path, err));
    es_json_begin_object(j);
    es_hash_hex(es_demo_digest(d), hex);
    es_json_put_string(j, "parameters_digest", hex);
    es_json_put_bool(j, "complete", complete);
    es_hash_hex(audio_digest, hex);
    if (complete) es_json_put_string(j, "audio_digest", hex);
    es_json_put_int(j, "seed", (int64_t)d->p.seed);
    for (int i = 0; i < ES_DEMO_SETS; i++) es_json_put_int(j, set_names[i], d->count[i]);
    es_json_put_number(j, "maestro_seconds", d->p.maestro_seconds);
    es_json_put_number(j, "snr_min_db", d->p.snr_min_db);
    es_json_put_number(j, "snr_max_db", d->p.snr_max_db);
    es_json_put_number(j, "test_fraction", d->p.test_fraction);
    es_json_put_number(j, "pitch_semitones", d->p.pitch_semitones);
    es_json_key(j, "sounds");
    es_json_begin_object(j);
    for (int s = 0; s < ES_SOUND_COUNT; s++) {
        const struct es_demo_source *src = &d->lib.source[s];
        es_json_key(j, es_sound(s)->name);
        es_json_begin_object(j);
        es_json_put_string(j, "source", kind_names[src->kind]);
        if (src->kind != ES_DEMO_SYNTHESISED) {
            es_json_put_int(j, "recordings_train", src->n_train);
            es_json_put_int(j, "recordings_test", src->n_test);
        }
        if (src->kind == ES_DEMO_PROXY) es_json_put_string(j, "proxies", src->proxies);
        es_json_end_object(j);
    }
    es_json_end_object(j);
    es_json_end_object(j);
    return es_json_close(&j, err);
}
