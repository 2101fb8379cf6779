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

struct es_plan_params {
    uint64_t seed;
    int n_sets;
    int size[ES_N_SETS];        /* clips of each set in a leaf; 0: set not used */
    int64_t n_clips[ES_N_SETS]; /* clips of each set */
    int leaves;                 /* a step */
    int64_t epoch_steps;        /* 0: from the data; else the epoch is cut to this many steps */
    double wavmix_p, wavmix_alpha;
    bool wavmix_set[ES_N_SETS]; /* sets whose clips are mixed with another clip of the same set */
    double mixup_p, mixup_alpha;
    bool mixup_joint;           /* M, R and S in one call */
    int fmin_range, fmax_range; /* fPaSST's mel band: draws below these, one a leaf; 0 or 1: none */
};

/* One mixup call on clips first..first+n-1 of the leaf: v[i] <- c[i] v[i] + (1-c[i]) v[perm[i]], perm
 * relative to first. */
struct es_mix_call {
    int first, n;
    float c[ES_LEAF_CLIPS];
    int perm[ES_LEAF_CLIPS];
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
    int band_min, band_max; /* es_frontend_fpasst_band_train */
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
