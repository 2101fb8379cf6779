/* Labels of DCASE 2024 task 4: the 27 classes, aliases, masks, encoding, decoding and the published splits.
 *
 * Sources: spec/models.md 4.3 and spec/training.md 1.4 to 1.11, that is CPJKU/cpjku_dcase24 (helpers/encoder.py,
 * data_util/classes_dict.py) and, for the splits, NumPy's legacy generator. Stores keep labels as they stand in the tables;
 * what training sees comes from here: es_labels_alias, es_labels_process, es_labels_encode, es_labels_mask.
 * Collectivity: none. No allocation; thread-safe.
 */
#ifndef EARSHOT_LABELS_H
#define EARSHOT_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/store.h"

enum { ES_N_CLASSES = 27, ES_N_DESED_CLASSES = 10, ES_N_SCENES = 5 };

struct es_class {
    const char *name;  /* literal, with its spaces and underscores */
    int median_frames; /* window of the class-wise median filter, frames of 64 ms */
    bool mpauc;        /* one of the 11 MAESTRO classes that are scored */
};
extern const struct es_class es_classes[ES_N_CLASSES]; /* 0..9 DESED, 10..26 MAESTRO */

int es_class_find(const char *name); /* -1: unknown */

/* Bit k set: class k is valid for a clip of this set (training.md 1.5). split as in the store: 0 training, 1 validation. */
uint32_t es_labels_mask(enum es_subset subset, int split);

/* Frame grid of labels and scores: frame i spans [i, i+1) * hop * pooling / rate seconds. */
struct es_label_grid {
    int rate_hz, hop_samples, pooling, n_frames;
    double clip_s;
};
extern const struct es_label_grid es_grid_task4;    /* 156 frames of 64 ms */
extern const struct es_label_grid es_grid_audioset; /* 250 frames of 40 ms */

/* Adds the duplicates training wants (training.md 1.4) behind the rows, source by source. Training clips only: other sets come
 * back as they are. out has room for 2n; returns the number of rows. */
int es_labels_alias(enum es_subset subset, int split, const struct es_event *in, int n, struct es_event *out);
/* The same for clip labels, in place. weak [27] 0 or 1. */
void es_labels_alias_weak(enum es_subset subset, int split, uint8_t *weak);

/* The part of a clip that training takes (training.md 1.9): of a longer one want_samples from `drawn` on, which is uniform in
 * 0 .. length - want_samples; else all of it, silence follows. onset_s: its begin for es_labels_process, to the millisecond. */
struct es_label_window {
    int64_t start, n; /* samples */
    double onset_s;
};
struct es_label_window es_labels_window(int64_t length_samples, int64_t want_samples, int rate_hz,
                                        int64_t drawn);

/* Moves events to a clip cut at crop_s, cuts them at 0 and clip_s, drops those with onset >= offset and exact repetitions.
 * out [n] may be in; returns the number of rows. */
int es_labels_process(const struct es_event *in, int n, double crop_s, double clip_s, struct es_event *out);

/* y[t * stride_t + k * stride_k] = confidence for the frames an event touches; later rows overwrite (training.md 1.10). y is set to
 * zero first: n_frames x n_classes. Labels outside 0..n_classes-1 are skipped. */
void es_labels_encode(const struct es_event *e, int n, const struct es_label_grid *g, int n_classes, float *y,
                      int64_t stride_t, int64_t stride_k);

/* Clip labels: y[k] = 1 for the classes named, else 0. n < 0: nobody labelled the clip, -1 everywhere (upstream's mark). */
void es_labels_encode_weak(const int32_t *label, int n, int n_classes, float *y);

/* Begin of frame i (0..n_frames) in seconds, cut to the clip. */
double es_labels_time(const struct es_label_grid *g, int i);

/* Runs of scores above threshold (compared as float32) of one class. score[t * stride], t < n_frames. events: room for
 * (n_frames + 1) / 2; label and confidence 1 are filled in. Returns their number. */
int es_labels_decode(const float *score, int64_t stride, float threshold, const struct es_label_grid *g,
                     int label, struct es_event *events);

/* Merges events of one class that overlap or touch; sorts by onset first (AudioSet-strong, training.md 1.11). In place; returns the
 * number of rows. The order of different classes is by onset, then as given. */
int es_labels_merge(struct es_event *e, int n);

/* ---- splits (training.md 1.7) */
/* NumPy's legacy generator, np.random.RandomState(seed). */
struct es_mt19937 {
    uint32_t state[624];
    int at;
};
void es_mt_seed(struct es_mt19937 *mt, uint32_t seed);
uint32_t es_mt_u32(struct es_mt19937 *mt);
/* RandomState.shuffle of a list or permutation; a [n] in place. */
void es_mt_shuffle(struct es_mt19937 *mt, int64_t n, int64_t *a);

/* pandas sample(frac, random_state=seed): split[row] = 0 for training rows, 1 for the others. perm [n] is scratch and comes back
 * as the permutation. */
void es_split_weak(int64_t n, double fraction, uint32_t seed, int64_t *perm, uint8_t *split);

/* Splits recordings scene by scene: the five MAESTRO scenes in their fixed order, then other scenes as they appear. A scene is the
 * name up to the last underscore. Of each scene's n recordings (order of appearance, shuffled) the first int(fraction n) are
 * training. perm [n] is scratch. */
void es_split_recordings(int64_t n, const char *const *recording, double fraction, uint32_t seed,
                         int64_t *perm, uint8_t *split);

#endif
