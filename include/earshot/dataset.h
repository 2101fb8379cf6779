/* Training data: clips of one or more stores sorted into the plan's sets, with everything a leaf needs: waveforms (mixed with
 * partners), labels, weak targets, class masks, pseudo-labels.
 *
 * Sets of the stages: M, R, S, W, U training clips. Pre-training: one set, AudioSet-strong training clips.
 * es_dataset_leaf reads by pread and may run in a loader thread; it allocates nothing.
 */
#ifndef EARSHOT_DATASET_H
#define EARSHOT_DATASET_H

#include "earshot/comm.h"
#include "earshot/labels.h"
#include "earshot/overlap.h"
#include "earshot/plan.h"

#define ES_DATASET_SAMPLES 160000

struct es_dataset;
struct es_dataset_params {
    bool pretrain;
    bool no_desed_alias; /* DESED clips keep their own labels and classes (training.md 1.4, 1.5) */
    int n_stores;
    const char *const *store;
    const char *stage_dir; /* read copies on node-local disk (stage.h); NULL or empty: no */
    int n_exclude;         /* TSV files whose column filename names clips to leave out */
    const char *const *exclude;
    int n_pseudo; /* prediction files, or folders of them */
    const char *const *pseudo;
    int n_dir; /* audio files with impulse responses, of at most 10 s, or folders of them */
    const char *const *dir;
    int n_frames; /* label frames of 10 s: 156, or 250 in pre-training */
    uint64_t seed;
};

/* Agreed on all ranks: same stores, same digests.
 *
 * Pseudo-labels (spec/training.md 7.1) are found by a clip's name in the first file that knows it and read when a leaf wants them; a
 * file named as upstream names its twelve ("synth_train.h5") serves the clips of that subset alone, so that synthetic clips
 * for training and validation with one name are not mistaken. Pre-training: names that lost their ends in upstream's lookup
 * (pitfall 20) are found, too. A clip without pseudo-labels is an error that lists the first missing names. */
int es_dataset_open_all(struct es_dataset **d, const struct es_comm *c, const struct es_dataset_params *p,
                        struct es_err *err);
void es_dataset_close(struct es_dataset **d);
const int64_t *es_dataset_counts(const struct es_dataset *d);                /* [ES_N_SETS] */
const char *es_dataset_name(const struct es_dataset *d, int set, int64_t i); /* of clip i of a set */
int es_dataset_classes(const struct es_dataset *d);
int es_dataset_responses(const struct es_dataset *d); /* impulse responses */
/* Weights of balanced drawing in pre-training (spec/training.md 2.2): e[c] active frames of class c in the clip, sum over c of
 * e[c] 1000 / (30 + those of all clips). *weight [clips] lives as long as d. Once. */
int es_dataset_balance(struct es_dataset *d, const double **weight, struct es_err *err);
const char *const *es_dataset_class_names(const struct es_dataset *d);
int es_dataset_frames(const struct es_dataset *d);
bool es_dataset_has_pseudo(const struct es_dataset *d);
/* Overlaps of the clips that train with those that are scored, of these stores and `more` (not changed, may be the same again). */
int es_dataset_overlaps(const struct es_dataset *d, struct es_store *const *more, int n_more,
                        struct es_overlaps *out, struct es_err *err);
uint64_t es_dataset_digest(const struct es_dataset *d);        /* of stores, exclusions and pseudo-labels */
size_t es_dataset_convolve_floats(const struct es_dataset *d); /* of es_dataset_leaf.convolve */
bool es_dataset_threaded(const struct es_dataset *d);          /* every store may be read from a thread */

struct es_dataset_leaf {
    float *wave;     /* [n, ES_DATASET_SAMPLES] */
    float *labels;   /* stages: [n,K,T]; pre-training: [n,T,K] */
    float *weak;     /* [n,K] clip-level targets (stages) */
    uint8_t *mask;   /* [n,K] (stages) */
    float *pseudo;   /* as labels, or NULL */
    float *scratch;  /* ES_DATASET_SAMPLES + 3 K T floats */
    int16_t *pcm;    /* ES_DATASET_SAMPLES */
    float *convolve; /* es_dataset_convolve_floats; NULL for 0 */
};
int es_dataset_read_leaf(struct es_dataset *d, int64_t step, const struct es_leaf_plan *plan,
                         struct es_dataset_leaf *out, struct es_err *err);

/* Reads ahead: one thread prepares the next leaf of a fixed sequence while the caller computes the last one. The thread calls
 * neither MPI nor HDF5. next(ctx, i, &step, &leaf) names the i-th leaf of this rank and returns false at the end. */
struct es_loader;
typedef bool (*es_loader_next_fn)(void *ctx, int64_t i, int64_t *step, int *leaf);
int es_loader_new(struct es_loader **l, struct es_dataset *d, const struct es_plan_params *pp,
                  es_loader_next_fn next, void *ctx, struct es_err *err);
void es_loader_free(struct es_loader **l);
/* The next leaf in sequence, with its plan; valid until the call after. Returns the error of reading it. */
int es_loader_get(struct es_loader *l, const struct es_leaf_plan **plan, struct es_dataset_leaf **leaf,
                  struct es_err *err);

#endif
