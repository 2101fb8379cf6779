/* earshot inspect --plan: what a training step will compute, leaf by leaf. Nothing is computed: a plan is a pure function of
 * configuration, stores and step. */
#include "inspect_plan.h"

#include <stdio.h>

#include "earshot/reducer.h"
#include "earshot/train.h"

static const char *set_name(const struct es_plan *p, int set) {
    return es_plan_get_params(p)->n_sets == 1 ? "as_train" : es_set_names[set];
}

static int set_of(const struct es_leaf_plan *l, int i) {
    int set = 0;
    while (i >= l->first[set + 1]) set++;
    return set;
}

static const char *clip_name(const struct es_train_plan *p, const struct es_leaf_plan *l, int i) {
    return es_dataset_name(p->data, set_of(l, i), l->clip[i]);
}

static const char *partner_name(const struct es_train_plan *p, const struct es_leaf_plan *l, int i) {
    return es_dataset_name(p->data, set_of(l, i), l->partner[i]);
}

/* Is fPaSST's mel band drawn? */
static bool has_band(const struct es_plan *p) {
    return es_plan_get_params(p)->fmin_range > 1 || es_plan_get_params(p)->fmax_range > 1;
}

static const char *const mel_names[ES_N_MELS] = {"crnn", "features"};
static const char *const filter_names[ES_N_FILTERS] = {"crnn", "teacher", "features"};

static void print_mix(struct es_run *run, const char *what, const struct es_mix_call *call) {
    es_run_print(run, "  %s of clips %d..%d (clip: with, share):", what, call->first,
                 call->first + call->n - 1);
    for (int i = 0; i < call->n; i++)
        es_run_print(run, " %d: %d, %.6f;", call->first + i, call->first + call->perm[i], (double)call->c[i]);
    es_run_print(run, "\n");
}

static void print_filter(struct es_run *run, const char *mel, const struct es_filter_call *f) {
    es_run_print(run, "  filter of %s, edges of bands", mel);
    for (int b = 0; b <= f->n_bands; b++) es_run_print(run, " %d", f->edge[b]);
    es_run_print(run, " (clip: dB at each):");
    for (int i = 0; i < f->n; i++) {
        es_run_print(run, " %d:", i);
        for (int b = 0; b <= f->n_bands; b++) es_run_print(run, " %.3f", (double)f->gain_db[i][b]);
        es_run_print(run, ";");
    }
    es_run_print(run, "\n");
}

static void print_augment(struct es_run *run, const struct es_augment_plan *a) {
    if (a->mask_n > 0)
        es_run_print(run, "  time mask of clips %d..%d: label frames %d..%d\n", a->mask_first,
                     a->mask_first + a->mask_n - 1, a->mask_low, a->mask_low + a->mask_width - 1);
    for (int mel = 0; mel < ES_N_MELS; mel++)
        for (int m = 0; m < a->n_style; m++) {
            char what[40];
            snprintf(what, sizeof what, "mixstyle of %s", mel_names[mel]);
            print_mix(run, what, &a->style[mel][m]);
        }
    for (int k = 0; k < a->n_warp; k++)
        es_run_print(run, "  frequency warp of clips %d..%d: mel bins %d..%d\n", a->warp[k].first,
                     a->warp[k].first + a->warp[k].n - 1, a->warp[k].low,
                     a->warp[k].low + a->warp[k].height - 1);
    for (int k = 0; k < ES_N_FILTERS; k++)
        if (a->filter[k].n > 0) print_filter(run, filter_names[k], &a->filter[k]);
}

static void print_leaf(struct es_run *run, const struct es_train_plan *p, const struct es_leaf_plan *l) {
    es_run_print(run, "leaf %d: micro_batch %lld, slot %d", l->leaf, (long long)l->micro_batch,
                 es_reducer_slot_of_leaf(p->leaves, l->leaf));
    if (has_band(p->plan)) es_run_print(run, ", mel band %d %d", l->band_min, l->band_max);
    es_run_print(run, "\n");
    for (int i = 0; i < l->n; i++) {
        es_run_print(run, "  %3d %-9s %s", i, set_name(p->plan, set_of(l, i)), clip_name(p, l, i));
        if (l->partner[i] >= 0)
            es_run_print(run, "  + wavmix %s, share %.6f", partner_name(p, l, i), (double)l->weight[i]);
        if (l->dir[i] >= 0) es_run_print(run, ", impulse response %d", l->dir[i]);
        if (l->gain_db[i] != 0) es_run_print(run, ", gain %d dB", l->gain_db[i]);
        if (l->augment.shift) es_run_print(run, ", shift %.6f sd", l->augment.shift_sigma[i]);
        es_run_print(run, "\n");
    }
    for (int m = 0; m < l->n_mix; m++) print_mix(run, "mixup", &l->mix[m]);
    print_augment(run, &l->augment);
}

/* One object a clip of a call; mel NULL: of all. */
static void write_mix(struct es_json *j, const struct es_mix_call *call, const char *mel) {
    for (int i = 0; i < call->n; i++) {
        es_json_begin_object(j);
        if (mel) es_json_put_string(j, "mel", mel);
        es_json_put_int(j, "clip", call->first + i);
        es_json_put_int(j, "with", call->first + call->perm[i]);
        es_json_put_number(j, "share", (double)call->c[i]);
        es_json_end_object(j);
    }
}

static void write_span(struct es_json *j, int first_clip, int n_clips, int low, int n) {
    es_json_begin_object(j);
    es_json_put_int(j, "first_clip", first_clip);
    es_json_put_int(j, "clips", n_clips);
    es_json_put_int(j, "low", low);
    es_json_put_int(j, "n", n);
    es_json_end_object(j);
}

static void write_filter(struct es_json *j, const char *mel, const struct es_filter_call *f) {
    es_json_begin_object(j);
    es_json_put_string(j, "mel", mel);
    es_json_key(j, "edges");
    es_json_begin_array(j);
    for (int b = 0; b <= f->n_bands; b++) es_json_int(j, f->edge[b]);
    es_json_end_array(j);
    es_json_key(j, "gain_db");
    es_json_begin_array(j);
    for (int i = 0; i < f->n; i++) {
        es_json_begin_array(j);
        for (int b = 0; b <= f->n_bands; b++) es_json_number(j, (double)f->gain_db[i][b]);
        es_json_end_array(j);
    }
    es_json_end_array(j);
    es_json_end_object(j);
}

static void begin_list(struct es_json *j, const char *name) {
    es_json_key(j, name);
    es_json_begin_array(j);
}

static void write_augment(struct es_json *j, const struct es_leaf_plan *l) {
    const struct es_augment_plan *a = &l->augment;
    begin_list(j, "mixup");
    for (int m = 0; m < l->n_mix; m++) write_mix(j, &l->mix[m], NULL);
    es_json_end_array(j);
    begin_list(j, "time_mask");
    if (a->mask_n > 0) write_span(j, a->mask_first, a->mask_n, a->mask_low, a->mask_width);
    es_json_end_array(j);
    begin_list(j, "mixstyle");
    for (int mel = 0; mel < ES_N_MELS; mel++)
        for (int m = 0; m < a->n_style; m++) write_mix(j, &a->style[mel][m], mel_names[mel]);
    es_json_end_array(j);
    begin_list(j, "freq_warp");
    for (int k = 0; k < a->n_warp; k++)
        write_span(j, a->warp[k].first, a->warp[k].n, a->warp[k].low, a->warp[k].height);
    es_json_end_array(j);
    begin_list(j, "filter");
    for (int k = 0; k < ES_N_FILTERS; k++)
        if (a->filter[k].n > 0) write_filter(j, filter_names[k], &a->filter[k]);
    es_json_end_array(j);
}

static void write_clip(struct es_json *j, const struct es_train_plan *p, const struct es_leaf_plan *l,
                       int i) {
    es_json_begin_object(j);
    es_json_put_string(j, "set", set_name(p->plan, set_of(l, i)));
    es_json_put_string(j, "name", clip_name(p, l, i));
    if (l->partner[i] >= 0) {
        es_json_put_string(j, "wavmix", partner_name(p, l, i));
        es_json_put_number(j, "share", (double)l->weight[i]);
    }
    if (l->dir[i] >= 0) es_json_put_int(j, "impulse_response", l->dir[i]);
    if (l->gain_db[i] != 0) es_json_put_int(j, "gain_db", l->gain_db[i]);
    if (l->augment.shift) es_json_put_number(j, "shift_sigma", l->augment.shift_sigma[i]);
    es_json_end_object(j);
}

static void write_leaf(struct es_json *j, const struct es_train_plan *p, const struct es_leaf_plan *l) {
    es_json_begin_object(j);
    es_json_put_int(j, "leaf", l->leaf);
    es_json_put_int(j, "slot", es_reducer_slot_of_leaf(p->leaves, l->leaf));
    es_json_put_int(j, "micro_batch", l->micro_batch);
    if (has_band(p->plan)) {
        es_json_put_int(j, "band_min", l->band_min);
        es_json_put_int(j, "band_max", l->band_max);
    }
    begin_list(j, "clips");
    for (int i = 0; i < l->n; i++) write_clip(j, p, l, i);
    es_json_end_array(j);
    write_augment(j, l);
    es_json_end_object(j);
}

int inspect_plan_all(struct es_run *run, int64_t step, struct es_err *err) {
    struct es_train_plan p;
    struct es_leaf_plan leaf;
    struct es_json *j = es_run_json(run);
    int rc;
    ES_TRY(es_train_plan_open_all(&p, es_run_comm(run), es_run_config(run), err));
    if (step >= p.total_steps)
        ES_GO(es_err_set(err, ES_EUSAGE, "--plan: got %lld, want a step 0..%lld: so many this run has",
                         (long long)step, (long long)p.total_steps - 1));
    rc = 0;
    if (es_run_check(run)) goto done;
    int n = es_plan_n_active(p.plan, step);
    int64_t epoch_steps = es_plan_epoch_steps(p.plan);
    es_run_print(run, "step %lld of %lld, epoch %lld: %d of %d leaves\n", (long long)step,
                 (long long)p.total_steps, (long long)(step / epoch_steps), n, p.leaves);
    es_json_begin_object(j);
    es_json_put_int(j, "step", step);
    es_json_put_int(j, "total_steps", p.total_steps);
    es_json_put_int(j, "epoch", step / epoch_steps);
    es_json_put_int(j, "leaves_of_a_step", p.leaves);
    es_json_key(j, "leaves");
    es_json_begin_array(j);
    for (int i = 0; i < n; i++) {
        es_plan_leaf(p.plan, step, i, &leaf);
        print_leaf(run, &p, &leaf);
        write_leaf(j, &p, &leaf);
    }
    es_json_end_array(j);
    es_json_end_object(j);
done:
    es_train_plan_close(&p);
    return rc;
}
