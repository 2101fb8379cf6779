/* Sampler plan: which clips, partners and mixing coefficients a training step uses. A pure function of (seed,
 * step, sizes): every rank computes it for any leaf without a message.
 *
 * Composite batches (cpjku_dcase24 data_util/samplers.py): a leaf is the concatenation of fixed-size blocks,
 * one per set, in the order M (MAESTRO), R (real strong), S (synthetic), W (weak), U (unlabelled). Every set
 * has its own uniform permutation, new in every epoch. Micro-batches per epoch: min over sets of floor(clips
 * / size). A step takes `leaves` of them; the last step of an epoch may be short (es_step_plan.n_active <
 * leaves) and still counts.
 *
 * Pre-training uses one set.
 */
#ifndef EARSHOT_PLAN_H
#define EARSHOT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/err.h"

enum { ES_SET_M, ES_SET_R, ES_SET_S, ES_SET_W, ES_SET_U, ES_N_SETS };
#define ES_LEAF_CLIPS 256
extern const char *const es_set_names[ES_N_SETS]; /* "maestro", "strong", "synth", "weak", "unlabeled" */

/* Which augmentations are drawn, and from what (spec/training.md section 3; augment.h computes them). A probability of 0: never. */
struct es_augment_params {
    int n_dir; /* impulse responses */
    double dir_p;
    int gain_db;                 /* each clip's gain is uniform in -gain_db .. gain_db - 1; 0: none */
    bool shift;                  /* along time */
    bool mask;                   /* a span of time: of the clips of mask_set */
    bool mask_set[ES_N_SETS];    /* sets whose clips lose that span, next to each other */
    double mask_min, mask_max;   /* its length: share of the label frames */
    double style_p, style_alpha; /* mixstyle */
    bool style_joint;            /* M, R and S in one call */
    double warp_p, warp_min;     /* frequency warp: least share of the mel bins */
    bool warp_maestro;           /* M, too */
    double filter_p, filter_db;  /* filter augment: gains uniform in -filter_db .. filter_db */
    int bands_min, bands_max;    /* 1..ES_AUGMENT_BANDS */
    int band_width;              /* bins of a band, at least */
    bool teacher_filter;         /* another filter of the CRNN's mel for the teacher (stage 1) */
    bool feature_filter;         /* a filter of the transformer's features (stage 2, pre-training) */
    int label_frames;            /* of a clip */
    int crnn_mels, feature_mels; /* bins of the two mels; crnn_mels 0: there is none (pre-training) */
};

struct es_plan_params {
    uint64_t seed;
    int n_sets;
    int size[ES_N_SETS];        /* clips of each set in a leaf; 0: set not used */
    int64_t n_clips[ES_N_SETS]; /* clips of each set */
    int leaves;                 /* a step */
    int64_t epoch_steps;        /* 0: from the data; else the epoch is cut to this many steps */
    int64_t epoch_leaves;       /* the same in leaves */
    /* [n_clips] of the only set: its clips are drawn by weight, without replacement; NULL: uniformly. Borrowed */
    const double *weight;
    double wavmix_p, wavmix_alpha;
    bool wavmix_set[ES_N_SETS]; /* sets whose clips are mixed with another clip of the same set */
    double mixup_p, mixup_alpha;
    bool mixup_joint;           /* M, R and S in one call */
    int fmin_range, fmax_range; /* fPaSST's mel band: draws below these, one a leaf; 0 or 1: none */
    struct es_augment_params augment;
};

/* One mixup call on clips first..first+n-1 of the leaf: v[i] <- c[i] v[i] + (1-c[i]) v[perm[i]], perm
 * relative to first. */
struct es_mix_call {
    int first, n;
    float c[ES_LEAF_CLIPS];
    int perm[ES_LEAF_CLIPS];
};

enum {
    ES_MEL_CRNN,
    ES_MEL_FEATURES,
    ES_N_MELS
}; /* what mixstyle draws for: the CRNN's mel, the transformer's */

/* Frequency warp of clips first..first+n-1: mel bins low..low+height-1 are stretched over all. */
struct es_warp_call {
    int first, n, low, height;
};

/* Filter of clips 0..n-1: band b holds bins edge[b]..edge[b+1]-1; over it the gain of clip i goes from gain_db[i][b] to
 * gain_db[i][b+1]. n 0: no filter. */
#define ES_AUGMENT_BANDS 8
struct es_filter_call {
    int n, n_bands, edge[ES_AUGMENT_BANDS + 1];
    float gain_db[ES_LEAF_CLIPS][ES_AUGMENT_BANDS + 1];
};
enum { ES_FILTER_CRNN, ES_FILTER_TEACHER, ES_FILTER_FEATURES, ES_N_FILTERS };

/* What happens to a leaf's mels and targets beside mixup. */
struct es_augment_plan {
    bool shift;
    double shift_sigma[ES_LEAF_CLIPS]; /* standard normal: es_augment_shift */
    /* clips mask_first.. lose label frames mask_low..; mask_n 0: none */
    int mask_first, mask_n, mask_low, mask_width;
    int n_style;
    struct es_mix_call style[ES_N_MELS][4]; /* n_style of each */
    int n_warp;
    struct es_warp_call warp[4];
    struct es_filter_call filter[ES_N_FILTERS];
};

struct es_leaf_plan {
    int leaf;                       /* 0 .. leaves-1 */
    int64_t micro_batch;            /* in the epoch */
    int n;                          /* clips */
    int first[ES_N_SETS + 1];       /* set s holds clips first[s] .. first[s+1]-1 */
    int64_t clip[ES_LEAF_CLIPS];    /* index in the set's list */
    int64_t partner[ES_LEAF_CLIPS]; /* wavmix: index in the same set's list, or -1 */
    float weight[ES_LEAF_CLIPS];    /* wavmix: share of the clip itself, >= 0.5 */
    bool mixup;
    int n_mix;
    struct es_mix_call mix[4];
    int band_min, band_max;     /* es_frontend_fpasst_band_train */
    int dir[ES_LEAF_CLIPS];     /* impulse response, or -1 */
    int gain_db[ES_LEAF_CLIPS]; /* 0: as it is */
    struct es_augment_plan augment;
};

struct es_plan;
int es_plan_new(struct es_plan **p, const struct es_plan_params *pp, struct es_err *err);
void es_plan_free(struct es_plan **p);
const struct es_plan_params *es_plan_get_params(const struct es_plan *p);
int64_t es_plan_epoch_micro_batches(const struct es_plan *p);
int64_t es_plan_epoch_steps(const struct es_plan *p);
int es_plan_n_active(const struct es_plan *p, int64_t step); /* leaves of this step that are there */
/* Fills *out for one leaf (leaf < n_active). Permutations of the epoch are cached in p. */
void es_plan_leaf(struct es_plan *p, int64_t step, int leaf, struct es_leaf_plan *out);

#endif
