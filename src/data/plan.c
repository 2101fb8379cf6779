#include "earshot/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "earshot/augment.h"
#include "earshot/mem.h"
#include "earshot/rng.h"

struct es_plan {
    struct es_plan_params pp;
    int64_t micro_batches, epoch_steps, epoch;
    int64_t *order[ES_N_SETS]; /* permutation of the cached epoch */
    struct key *key;           /* of weighted drawing */
};

struct key {
    double time;
    int64_t clip;
};

const char *const es_set_names[ES_N_SETS] = {"maestro", "strong", "synth", "weak", "unlabeled"};

int es_plan_new(struct es_plan **p, const struct es_plan_params *pp, struct es_err *err) {
    *p = es_alloc(1, sizeof **p, err);
    if (!*p) return -ES_EIO;
    (*p)->pp = *pp;
    (*p)->epoch = -1;
    int64_t least = INT64_MAX;
    int total = 0;
    for (int s = 0; s < pp->n_sets; s++) {
        if (pp->size[s] == 0) continue;
        total += pp->size[s];
        int64_t batches = pp->n_clips[s] / pp->size[s];
        if (batches < 1) {
            es_plan_free(p);
            if (pp->n_sets == 1)
                return es_err_set(
                    err, ES_EDATA,
                    "data.stores: %lld AudioSet-strong training clips, a leaf takes %d (pretrain.batch)",
                    (long long)pp->n_clips[s], pp->size[s]);
            return es_err_set(err, ES_EDATA,
                              "data.stores: %lld %s training clips, a leaf takes %d (data.subset_sizes)",
                              (long long)pp->n_clips[s], es_set_names[s], pp->size[s]);
        }
        if (batches < least) least = batches;
        (*p)->order[s] = es_alloc((size_t)pp->n_clips[s], sizeof(int64_t), err);
        if (!(*p)->order[s]) {
            es_plan_free(p);
            return -ES_EIO;
        }
    }
    if (total < 1 || total > ES_LEAF_CLIPS) {
        es_plan_free(p);
        return es_err_set(err, ES_EUSAGE, "data.subset_sizes: %d clips a leaf, want 1..%d", total,
                          ES_LEAF_CLIPS);
    }
    if (pp->epoch_leaves > 0 && pp->epoch_leaves < least) least = pp->epoch_leaves;
    if (pp->weight && !((*p)->key = es_alloc((size_t)pp->n_clips[0], sizeof *(*p)->key, err))) {
        es_plan_free(p);
        return -ES_EIO;
    }
    (*p)->micro_batches = least;
    (*p)->epoch_steps = (least + pp->leaves - 1) / pp->leaves;
    if (pp->epoch_steps > 0 && pp->epoch_steps < (*p)->epoch_steps) {
        (*p)->epoch_steps = pp->epoch_steps;
        (*p)->micro_batches = pp->epoch_steps * pp->leaves;
    }
    return 0;
}

void es_plan_free(struct es_plan **p) {
    if (!*p) return;
    for (int s = 0; s < ES_N_SETS; s++) es_free(&(*p)->order[s]);
    es_free(&(*p)->key);
    es_free(p);
}

const struct es_plan_params *es_plan_get_params(const struct es_plan *p) {
    return &p->pp;
}
int64_t es_plan_epoch_micro_batches(const struct es_plan *p) {
    return p->micro_batches;
}
int64_t es_plan_epoch_steps(const struct es_plan *p) {
    return p->epoch_steps;
}

int es_plan_n_active(const struct es_plan *p, int64_t step) {
    int64_t rest = p->micro_batches - step % p->epoch_steps * p->pp.leaves;
    return rest < p->pp.leaves ? (int)rest : p->pp.leaves;
}

static int compare_keys(const void *a, const void *b) {
    const struct key *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    return (x->clip > y->clip) - (x->clip < y->clip);
}

/* Drawing one after the other by weight without replacement, as torch.multinomial does, is the order of the arrival times of
 * independent exponential clocks with the weights as rates (Efraimidis and Spirakis 2006). Clips of weight 0 come last. */
static void draw_order(const struct es_plan *p, struct es_rng *r, int set) {
    int64_t n = p->pp.n_clips[set];
    if (!p->key) {
        es_rng_permutation(r, n, p->order[set]);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double w = p->pp.weight[i], u = 1.0 - es_rng_uniform(r); /* in (0, 1] */
        p->key[i] = (struct key){w > 0 ? -log(u) / w : HUGE_VAL, i};
    }
    qsort(p->key, (size_t)n, sizeof *p->key, compare_keys);
    for (int64_t i = 0; i < n; i++) p->order[set][i] = p->key[i].clip;
}

/* Of the streams (AUGMENT, step, leaf, .), those below belong to the clips (dataset.c), those above to augment_draw.c. */
#define BAND_STREAM ES_LEAF_CLIPS

void es_plan_leaf(struct es_plan *p, int64_t step, int leaf, struct es_leaf_plan *out) {
    ES_ASSERT(leaf < es_plan_n_active(p, step));
    int64_t epoch = step / p->epoch_steps;
    if (epoch != p->epoch) {
        for (int s = 0; s < p->pp.n_sets; s++) {
            if (p->pp.size[s] == 0) continue;
            struct es_rng r = es_rng_make(p->pp.seed, ES_RNG_SHUFFLE, (uint32_t)epoch, (uint32_t)s, 0);
            draw_order(p, &r, s);
        }
        p->epoch = epoch;
    }
    memset(out, 0, sizeof *out);
    out->leaf = leaf;
    out->micro_batch = step % p->epoch_steps * p->pp.leaves + leaf;
    for (int s = 0; s < p->pp.n_sets; s++) {
        out->first[s] = out->n;
        for (int i = 0; i < p->pp.size[s]; i++) {
            int k = out->n++;
            out->clip[k] = p->order[s][out->micro_batch * p->pp.size[s] + i];
            out->partner[k] = -1;
            struct es_rng r =
                es_rng_make(p->pp.seed, ES_RNG_MIX, (uint32_t)step, (uint32_t)leaf, 2 + (uint32_t)k);
            if (!p->pp.wavmix_set[s] || es_rng_uniform(&r) >= p->pp.wavmix_p) continue;
            double w = es_rng_beta(&r, p->pp.wavmix_alpha, p->pp.wavmix_alpha);
            out->weight[k] = (float)(w > 1.0 - w ? w : 1.0 - w);
            out->partner[k] = (int64_t)es_rng_below(&r, (uint64_t)p->pp.n_clips[s]);
        }
    }
    for (int s = p->pp.n_sets; s <= ES_N_SETS; s++) out->first[s] = out->n;
    es_augment_draw(&p->pp, step, out);
    struct es_rng r = es_rng_make(p->pp.seed, ES_RNG_AUGMENT, (uint32_t)step, (uint32_t)leaf, BAND_STREAM);
    if (p->pp.fmin_range > 1) out->band_min = (int)es_rng_below(&r, (uint64_t)p->pp.fmin_range);
    if (p->pp.fmax_range > 1) out->band_max = (int)es_rng_below(&r, (uint64_t)p->pp.fmax_range);
}
