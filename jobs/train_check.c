/* earshot train --check: reads and validates what a run would read, and prints what the run will do. */
#include "train_check.h"

#include <stdio.h>

#include "earshot/train.h"
#include "overlap_rows.h"

static const char *duration(double s, char out[48]) {
    if (s < 120)
        snprintf(out, 48, "%.1f s", s);
    else if (s < 2 * 3600)
        snprintf(out, 48, "%.1f min", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, 48, "%.1f h", s / 3600);
    else
        snprintf(out, 48, "%.1f days", s / 86400);
    return out;
}

static void print_table(struct es_run *run, const struct es_train_forecast *f) {
    char text[48];
    for (int s = 0; s < f->n_sets; s++)
        es_run_print(run, "%-10s %8lld clips, %3d a leaf: %lld leaves an epoch\n", f->set_name[s],
                     (long long)f->n_clips[s], f->size[s],
                     f->size[s] > 0 ? (long long)(f->n_clips[s] / f->size[s]) : 0);
    if (f->n_validation >= 0)
        es_run_print(run, "validation %8lld clips\ntest       %8lld clips\n", (long long)f->n_validation,
                     (long long)f->n_test);
    es_run_print(run, "%lld micro-batches an epoch of %d clips, %d a step, %d in the last one of an epoch\n",
                 (long long)f->micro_batches, f->leaf_clips, f->leaves, f->last_leaves);
    es_run_print(run, "%lld steps an epoch, %lld epochs, %lld steps\n", (long long)f->epoch_steps,
                 (long long)f->epochs, (long long)f->total_steps);
    for (int i = 0; i < f->n_milestones; i++)
        es_run_print(run, "  step %8lld: %s\n", (long long)f->milestone[i].step, f->milestone[i].what);
    es_run_print(run, "%lld parameters, %lld trained\n", (long long)f->parameters, (long long)f->trainable);
    es_run_print(run, "%.3g flop a micro-batch, %.3g in all (matrix products; validation not counted)\n",
                 f->leaf_flops, f->total_flops);
    es_run_print(run, "at %g GFLOP/s a rank%s, without communication and validation:\n", f->gflops,
                 es_run_option(run, "gflops") ? "" : " (assumed; --gflops takes what bench step measures)");
    es_run_print(run, "  %5s %12s %14s\n", "ranks", "time", "GiB a rank");
    for (int i = 0; i < f->n_ranks; i++)
        es_run_print(run, "  %5d %12s %14.2f\n", f->rank[i].ranks, duration(f->rank[i].seconds, text),
                     (double)f->rank[i].bytes / 1073741824.0);
}

static void write_json(struct es_json *j, const struct es_train_forecast *f) {
    es_json_begin_object(j);
    es_json_key(j, "sets");
    es_json_begin_object(j);
    for (int s = 0; s < f->n_sets; s++) {
        es_json_key(j, f->set_name[s]);
        es_json_begin_object(j);
        es_json_put_int(j, "clips", f->n_clips[s]);
        es_json_put_int(j, "leaf_clips", f->size[s]);
        es_json_end_object(j);
    }
    es_json_end_object(j);
    if (f->n_validation >= 0) {
        es_json_put_int(j, "validation_clips", f->n_validation);
        es_json_put_int(j, "test_clips", f->n_test);
    }
    es_json_put_int(j, "leaf_clips", f->leaf_clips);
    es_json_put_int(j, "leaves", f->leaves);
    es_json_put_int(j, "last_leaves", f->last_leaves);
    es_json_put_int(j, "micro_batches_per_epoch", f->micro_batches);
    es_json_put_int(j, "steps_per_epoch", f->epoch_steps);
    es_json_put_int(j, "epochs", f->epochs);
    es_json_put_int(j, "total_steps", f->total_steps);
    if (f->n_validation >= 0) overlap_write(j, &f->overlaps);
    es_json_key(j, "milestones");
    es_json_begin_array(j);
    for (int i = 0; i < f->n_milestones; i++) {
        es_json_begin_object(j);
        es_json_put_int(j, "step", f->milestone[i].step);
        es_json_put_string(j, "what", f->milestone[i].what);
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_put_int(j, "parameters", f->parameters);
    es_json_put_int(j, "trainable", f->trainable);
    es_json_put_number(j, "flops_per_micro_batch", f->leaf_flops);
    es_json_put_number(j, "flops", f->total_flops);
    es_json_put_number(j, "gflops_per_rank", f->gflops);
    es_json_key(j, "at_ranks");
    es_json_begin_array(j);
    for (int i = 0; i < f->n_ranks; i++) {
        es_json_begin_object(j);
        es_json_put_int(j, "ranks", f->rank[i].ranks);
        es_json_put_number(j, "seconds", f->rank[i].seconds);
        es_json_put_int(j, "bytes_per_rank", f->rank[i].bytes);
        es_json_end_object(j);
    }
    es_json_end_array(j);
    es_json_end_object(j);
}

int train_check_all(struct es_run *run, struct es_err *err) {
    struct es_train_forecast f;
    double gflops = 0;
    ES_TRY(es_run_option_double(run, "gflops", 1e-3, 1e6, &gflops, err));
    ES_TRY(es_train_forecast_all(es_run_comm(run), es_run_config(run), es_run_option(run, "set-sizes"),
                                 gflops, es_run_flag(run, "strict"), &f, err));
    print_table(run, &f);
    overlap_print(run, &f.overlaps);
    write_json(es_run_json(run), &f);
    return 0;
}
