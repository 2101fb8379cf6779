/* earshot inspect --plan: what a training step will compute, leaf by leaf. Nothing is computed: a plan is a pure function of
 * configuration, stores and step. */
#include "inspect_plan.h"

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

static void print_leaf(struct es_run *run, const struct es_train_plan *p, const struct es_leaf_plan *l) {
    es_run_print(run, "leaf %d: micro_batch %lld, slot %d\n", l->leaf, (long long)l->micro_batch,
                 es_reducer_slot_of_leaf(p->leaves, l->leaf));
    for (int i = 0; i < l->n; i++) {
        es_run_print(run, "  %3d %-9s %s", i, set_name(p->plan, set_of(l, i)), clip_name(p, l, i));
        if (l->partner[i] >= 0)
            es_run_print(run, "  + wavmix %s, share %.6f", partner_name(p, l, i), (double)l->weight[i]);
        es_run_print(run, "\n");
    }
    for (int m = 0; m < l->n_mix; m++) {
        const struct es_mix_call *call = &l->mix[m];
        es_run_print(run, "  mixup of clips %d..%d (clip: with, share):", call->first,
                     call->first + call->n - 1);
        for (int i = 0; i < call->n; i++)
            es_run_print(run, " %d: %d, %.6f;", call->first + i, call->first + call->perm[i],
                         (double)call->c[i]);
        es_run_print(run, "\n");
    }
}

static void write_leaf(struct es_json *j, const struct es_train_plan *p, const struct es_leaf_plan *l) {
    es_json_begin_object(j);
    es_json_put_int(j, "leaf", l->leaf);
    es_json_put_int(j, "slot", es_reducer_slot_of_leaf(p->leaves, l->leaf));
    es_json_put_int(j, "micro_batch", l->micro_batch);
    es_json_key(j, "clips");
    es_json_begin_array(j);
    for (int i = 0; i < l->n; i++) {
        es_json_begin_object(j);
        es_json_put_string(j, "set", set_name(p->plan, set_of(l, i)));
        es_json_put_string(j, "name", clip_name(p, l, i));
        if (l->partner[i] >= 0) {
            es_json_put_string(j, "wavmix", partner_name(p, l, i));
            es_json_put_number(j, "share", (double)l->weight[i]);
        }
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_key(j, "mixup");
    es_json_begin_array(j);
    for (int m = 0; m < l->n_mix; m++)
        for (int i = 0; i < l->mix[m].n; i++) {
            es_json_begin_object(j);
            es_json_put_int(j, "clip", l->mix[m].first + i);
            es_json_put_int(j, "with", l->mix[m].first + l->mix[m].perm[i]);
            es_json_put_number(j, "share", (double)l->mix[m].c[i]);
            es_json_end_object(j);
        }
    es_json_end_array(j);
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
