/* The random choices of the augmentations beside wavmix and the mel band (plan.c). */
#include "earshot/augment.h"
#include "earshot/rng.h"

/* Streams (ES_RNG_AUGMENT, step, leaf, .): below ES_LEAF_CLIPS they belong to the clips (dataset.c), the next to the mel band
 * (plan.c). */
enum {
    DIR_STREAM = ES_LEAF_CLIPS + 1,
    GAIN_STREAM,
    SHIFT_STREAM,
    MASK_STREAM,
    STYLE_STREAM,
    WARP_STREAM,
    FILTER_STREAM
};

struct draw {
    const struct es_plan_params *pp;
    const struct es_augment_params *ap;
    int64_t step;
    struct es_leaf_plan *out;
};

static struct es_rng stream(const struct draw *d, uint32_t op) {
    return es_rng_make(d->pp->seed, ES_RNG_AUGMENT, (uint32_t)d->step, (uint32_t)d->out->leaf, op);
}

static void draw_waves(const struct draw *d) {
    struct es_rng dir = stream(d, DIR_STREAM), gain = stream(d, GAIN_STREAM);
    for (int i = 0; i < d->out->n; i++) {
        d->out->dir[i] = -1;
        if (d->ap->n_dir > 0 && es_rng_uniform(&dir) < d->ap->dir_p)
            d->out->dir[i] = (int)es_rng_below(&dir, (uint64_t)d->ap->n_dir);
        if (d->ap->gain_db > 0)
            d->out->gain_db[i] = (int)es_rng_below(&gain, 2 * (uint64_t)d->ap->gain_db) - d->ap->gain_db;
    }
}

static void draw_time(const struct draw *d) {
    struct es_augment_plan *a = &d->out->augment;
    struct es_rng shift = stream(d, SHIFT_STREAM), mask = stream(d, MASK_STREAM);
    a->shift = d->ap->shift;
    for (int i = 0; a->shift && i < d->out->n; i++) a->shift_sigma[i] = es_rng_normal(&shift);
    if (!d->ap->mask) return;
    for (int s = 0; s < d->pp->n_sets; s++) {
        if (!d->ap->mask_set[s]) continue;
        if (a->mask_n == 0) a->mask_first = d->out->first[s];
        a->mask_n += d->pp->size[s];
    }
    int T = d->ap->label_frames, least = (int)(T * d->ap->mask_min), most = (int)(T * d->ap->mask_max) - 1;
    if (least > T - 1) least = T - 1;
    if (most < least) most = least;
    if (most > T - 1) most = T - 1;
    a->mask_width = least + (int)es_rng_below(&mask, (uint64_t)(most - least + 1));
    a->mask_low = (int)es_rng_below(&mask, (uint64_t)(T - a->mask_width));
}

/* The calls of mixup, mixstyle and warp: the weak clips, the strong ones (all in one, or DESED's and MAESTRO's), the unlabelled. */
struct calls {
    int n;
    struct {
        int first, n;
    } at[4];
};

static void add_call(struct calls *c, int first, int end) {
    if (end <= first) return;
    c->at[c->n].first = first;
    c->at[c->n++].n = end - first;
}

static struct calls calls_of(const struct draw *d, bool joint, bool maestro) {
    const int *f = d->out->first;
    struct calls c = {0};
    if (d->pp->n_sets == 1) {
        add_call(&c, f[0], f[1]);
        return c;
    }
    add_call(&c, f[ES_SET_W], f[ES_SET_W + 1]);
    if (joint) {
        add_call(&c, f[ES_SET_M], f[ES_SET_S + 1]);
    } else {
        add_call(&c, f[ES_SET_R], f[ES_SET_S + 1]);
        if (maestro) add_call(&c, f[ES_SET_M], f[ES_SET_M + 1]);
    }
    add_call(&c, f[ES_SET_U], f[ES_SET_U + 1]);
    return c;
}

static void draw_mix(struct es_rng *r, double alpha, int first, int n, struct es_mix_call *m) {
    int64_t perm[ES_LEAF_CLIPS];
    m->first = first;
    m->n = n;
    for (int i = 0; i < n; i++) {
        double c = es_rng_beta(r, alpha, alpha);
        m->c[i] = (float)(c > 1.0 - c ? c : 1.0 - c);
    }
    es_rng_permutation(r, n, perm);
    for (int i = 0; i < n; i++) m->perm[i] = (int)perm[i];
}

/* One gate a leaf, as for all that follow. */
static void draw_mixup(const struct draw *d) {
    struct es_leaf_plan *out = d->out;
    struct es_rng r = es_rng_make(d->pp->seed, ES_RNG_MIX, (uint32_t)d->step, (uint32_t)out->leaf, 1);
    out->mixup = es_rng_uniform(&r) < d->pp->mixup_p;
    if (!out->mixup) return;
    struct calls calls = calls_of(d, d->pp->mixup_joint, true);
    out->n_mix = calls.n;
    for (int k = 0; k < calls.n; k++)
        draw_mix(&r, d->pp->mixup_alpha, calls.at[k].first, calls.at[k].n, &out->mix[k]);
}

static void draw_style(const struct draw *d) {
    struct es_augment_plan *a = &d->out->augment;
    struct es_rng r = stream(d, STYLE_STREAM);
    if (es_rng_uniform(&r) >= d->ap->style_p) return;
    struct calls calls = calls_of(d, d->ap->style_joint, true);
    a->n_style = calls.n;
    for (int mel = 0; mel < ES_N_MELS; mel++)
        for (int k = 0; k < calls.n; k++)
            draw_mix(&r, d->ap->style_alpha, calls.at[k].first, calls.at[k].n, &a->style[mel][k]);
}

static void draw_warp(const struct draw *d) {
    struct es_augment_plan *a = &d->out->augment;
    struct es_rng r = stream(d, WARP_STREAM);
    if (es_rng_uniform(&r) >= d->ap->warp_p) return;
    struct calls calls = calls_of(d, false, d->ap->warp_maestro);
    a->n_warp = calls.n;
    for (int k = 0; k < calls.n; k++) {
        int F = d->ap->feature_mels;
        int height = es_augment_warp_height(es_rng_range(&r, d->ap->warp_min, 1.0), F);
        a->warp[k] = (struct es_warp_call){.first = calls.at[k].first, .n = calls.at[k].n, .height = height};
        a->warp[k].low = (int)es_rng_below(&r, (uint64_t)(F - height + 1));
    }
}

static void draw_filter_call(const struct draw *d, struct es_rng *r, int F, struct es_filter_call *f) {
    const struct es_augment_params *ap = d->ap;
    int draw[ES_AUGMENT_BANDS];
    f->n = d->out->n;
    f->n_bands = ap->bands_min + (int)es_rng_below(r, (uint64_t)(ap->bands_max - ap->bands_min + 1));
    int room = F - f->n_bands * es_augment_band_width(F, f->n_bands, ap->band_width);
    for (int b = 0; b < f->n_bands - 1; b++) draw[b] = (int)es_rng_below(r, (uint64_t)(room + 1));
    es_augment_band_edges(F, f->n_bands, ap->band_width, draw, f->edge);
    for (int i = 0; i < f->n; i++)
        for (int b = 0; b <= f->n_bands; b++)
            f->gain_db[i][b] = (float)es_rng_range(r, -ap->filter_db, ap->filter_db);
}

static void draw_filter(const struct draw *d) {
    struct es_filter_call *f = d->out->augment.filter;
    struct es_rng r = stream(d, FILTER_STREAM);
    if (es_rng_uniform(&r) >= d->ap->filter_p) return;
    if (d->ap->crnn_mels > 0) draw_filter_call(d, &r, d->ap->crnn_mels, &f[ES_FILTER_CRNN]);
    if (d->ap->teacher_filter) draw_filter_call(d, &r, d->ap->crnn_mels, &f[ES_FILTER_TEACHER]);
    if (d->ap->feature_filter) draw_filter_call(d, &r, d->ap->feature_mels, &f[ES_FILTER_FEATURES]);
}

void es_augment_draw(const struct es_plan_params *pp, int64_t step, struct es_leaf_plan *out) {
    struct draw d = {pp, &pp->augment, step, out};
    draw_waves(&d);
    draw_time(&d);
    draw_mixup(&d);
    draw_style(&d);
    draw_warp(&d);
    draw_filter(&d);
}
