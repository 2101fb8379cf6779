/* earshot bench step: whole training steps, and with --roofline every operation of them. */
#include "earshot/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_kinds.h"

/* An operation cannot take less than its flops at the peak, nor less than its bytes from memory; it may when caches hold them. */
static void roofline(struct es_run *run, const struct es_bench_step *b, const struct es_bench_op *ops) {
    const double peak = b->peak_gflops_per_s / b->ranks * 1e9, step_s = b->time[ES_TIME_STEP];
    double flops = 0, bound_s = 0;
    es_run_print(run, "\nrank 0: %.1f GFLOP/s, %.1f GB/s; rows under 0.1 %% of the step are in --json only\n",
                 peak * 1e-9, b->bandwidth * 1e-9);
    es_run_print(run, "%-14s %-9s %-34s %5s %9s %6s %9s %8s %8s %7s %7s %7s\n", "operation", "pass", "shape",
                 "calls", "seconds", "share", "GFLOP", "GB", "GFLOP/s", "of peak", "GB/s", "of roof");
    for (int i = 0; i < b->n_ops; i++) {
        const struct es_bench_op *o = &ops[i];
        double roof_s = o->flops / peak > o->bytes / b->bandwidth ? o->flops / peak : o->bytes / b->bandwidth;
        flops += o->flops;
        bound_s += roof_s;
        if (o->seconds >= 1e-3 * step_s)
            es_run_print(run, "%-14s %-9s %-34s %5d %9.4f %5.1f%% %9.2f %8.3f %8.1f %7.3f %7.1f %7.3f\n",
                         o->name, o->pass, o->shape, o->calls, o->seconds, 100 * o->seconds / step_s,
                         o->flops * 1e-9, o->bytes * 1e-9, o->flops / o->seconds * 1e-9,
                         o->flops / o->seconds / peak, o->bytes / o->seconds * 1e-9, roof_s / o->seconds);
        struct es_json *j = es_run_json(run);
        es_json_begin_object(j);
        es_json_put_string(j, "op", o->name);
        es_json_put_string(j, "pass", o->pass);
        es_json_put_string(j, "shape", o->shape);
        es_json_put_int(j, "calls", o->calls);
        es_json_put_number(j, "seconds", o->seconds);
        es_json_put_number(j, "share", o->seconds / step_s);
        es_json_put_number(j, "flops", o->flops);
        es_json_put_number(j, "bytes", o->bytes);
        es_json_put_number(j, "share_of_peak", o->flops / o->seconds / peak);
        es_json_put_number(j, "bytes_per_s", o->bytes / o->seconds);
        es_json_put_number(j, "share_of_roof", roof_s / o->seconds);
        es_json_end_object(j);
    }
    es_run_print(run, "%-64s %9.4f %6s %9.2f; at the roof everywhere: %.4f s\n", "step", step_s, "",
                 flops * 1e-9, bound_s);
}

/* What the options say, in the configuration: stores, phase, architecture, depth, clips a leaf; and the head of every pre-training
 * step that is measured. */
static int configure(struct es_run *run, const struct es_bench_step_params *p, struct es_err *err) {
    struct es_config *cfg = es_run_config(run);
    const int n = es_run_option_count(run, "store");
    char text[4096];
    size_t at = (size_t)snprintf(text, sizeof text, "data.stores=[");
    for (int i = 0; i < n && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s\"%s\"", i ? ", " : "",
                               es_run_option_at(run, "store", i));
    if (at + 2 > sizeof text)
        return es_err_set(err, ES_EUSAGE, "--store: names longer than %zu bytes together", sizeof text);
    snprintf(text + at, sizeof text - at, "]");
    ES_TRY(es_config_set(cfg, text, err));
    snprintf(text, sizeof text, "phase=%s", es_phase_names[p->phase]);
    ES_TRY(es_config_set(cfg, text, err));
    snprintf(text, sizeof text, "model.arch=%s", es_arch_name(p->arch));
    ES_TRY(es_config_set(cfg, text, err));
    if (p->depth > 0) {
        snprintf(text, sizeof text, "model.depth=%d", p->depth);
        ES_TRY(es_config_set(cfg, text, err));
    }
    if (p->batch > 0 && p->phase == ES_PHASE_PRETRAIN) {
        snprintf(text, sizeof text, "pretrain.batch=%d", p->batch);
        ES_TRY(es_config_set(cfg, text, err));
    }
    bool published = strcmp(es_config_where(cfg, "data.subset_sizes"), "default") == 0;
    if (p->phase != ES_PHASE_PRETRAIN && (p->batch > 0 || published)) {
        int size[5];
        es_bench_sizes(p->phase, p->arch, p->batch, size);
        snprintf(text, sizeof text, "data.subset_sizes=[%d, %d, %d, %d, %d]", size[0], size[1], size[2],
                 size[3], size[4]);
        ES_TRY(es_config_set(cfg, text, err));
    }
    if (p->phase == ES_PHASE_PRETRAIN) ES_TRY(es_config_set(cfg, "pretrain.head=linear", err));
    return es_config_finish(cfg, err);
}

static const char *precision_text(const struct es_bench_step_params *p, const struct es_bench_step *b) {
    static const char *const text[] = {[ES_BF16_NONE] = "bf16 (not on this processor: fp32)",
                                       [ES_BF16_ONEDNN] = "bf16",
                                       [ES_BF16_EMULATED] = "bf16 (emulated)",
                                       [ES_BF16_ONEDNN_FP32] = "bf16's code in fp32"};
    return p->bf16 ? text[b->bf16] : "fp32";
}

static int read_options(struct es_run *run, struct es_bench_step_params *p, struct es_err *err) {
    const char *phase = es_run_option(run, "phase"), *precision = es_run_option(run, "precision"),
               *model = es_run_option(run, "model");
    const int arch = es_arch_from_name(model ? model : "atst");
    int64_t batch = 0, steps = 3, depth = 0, leaves = 0;
    if (precision && strcmp(precision, "fp32") != 0 && strcmp(precision, "bf16") != 0)
        return es_err_set(err, ES_EUSAGE, "--precision: got %s, want fp32 or bf16", precision);
    if (arch < 0) return es_err_set(err, ES_EUSAGE, "--model: got %s, want atst, fpasst or beats", model);
    ES_TRY(es_run_option_int(run, "batch", 1, ES_LEAF_CLIPS, &batch, err));
    ES_TRY(es_run_option_int(run, "steps", 1, 1000, &steps, err));
    ES_TRY(es_run_option_int(run, "depth", 1, 32, &depth, err));
    ES_TRY(es_run_option_int(run, "leaves", 1, 1 << 20, &leaves, err));
    *p = (struct es_bench_step_params){.arch = (enum es_arch)arch,
                                       .phase = ES_PHASE_PRETRAIN,
                                       .depth = (int)depth,
                                       .batch = (int)batch,
                                       .leaves = (int)leaves,
                                       .steps = (int)steps,
                                       .verify = !es_run_flag(run, "no-verify"),
                                       .bf16 = precision && strcmp(precision, "bf16") == 0};
    for (int i = 0; phase && i < 3; i++)
        if (strcmp(phase, es_phase_names[i]) == 0) p->phase = (enum es_phase)i;
    if (es_run_option_count(run, "store") == 0) return 0;
    p->config = es_run_config(run);
    return configure(run, p, err);
}

static void print(struct es_run *run, const struct es_bench_step_params *p, const struct es_bench_step *b) {
    es_run_print(run, "%s %s %s: %d ranks x %d threads, %d leaves of %d clips\n", es_arch_name(p->arch),
                 es_phase_names[p->phase], precision_text(p, b), b->ranks, b->threads, b->leaves, b->batch);
    es_run_print(run, "%.3f clips/s, %.1f GFLOP/s of matrix products, ", b->clips_per_s,
                 b->gemm_gflops_per_s);
    if (isnan(b->peak_gflops_per_s))
        es_run_print(run, "no bf16 peak on this processor");
    else
        es_run_print(run, "%.3f of the peak %.1f", b->mfu, b->peak_gflops_per_s);
    es_run_print(run, ", %.2f GiB a rank\n", (double)b->peak_rss_bytes / 1073741824.0);
    if (b->ranks > 1)
        es_run_print(run,
                     "%.1f MB sent a rank, 2 x 4 x parameters x (1 - 1/P) = %.1f MB; exposed %.4f s, %.2f %% "
                     "of the step\n",
                     (double)b->sent_bytes * 1e-6, 8e-6 * (double)b->trainable * (1 - 1.0 / b->ranks),
                     b->exposed_s, 100 * b->exposed_s / b->step_s);
    if (p->verify)
        es_run_print(run,
                     "largest gradient error against the reference kernels: %.2e of the largest gradient\n",
                     b->verified);
    if (p->config) es_run_print(run, "  %-15s %8.3f s a step\n", "input_exposed", b->input_exposed_s);
    es_run_print(run, "  %-15s %8.3f s a step\n", "frontend", b->frontend_s);
    for (int k = 0; k < ES_N_TIMES; k++)
        es_run_print(run, "  %-15s %8.3f s a step\n", es_time_names[k], b->time[k]);
}

static void write_json(struct es_json *j, const struct es_bench_step_params *p,
                       const struct es_bench_step *b) {
    es_json_begin_object(j);
    es_json_put_string(j, "model", es_arch_name(p->arch));
    es_json_put_string(j, "phase", es_phase_names[p->phase]);
    es_json_put_string(j, "precision", p->bf16 ? "bf16" : "fp32");
    if (p->bf16) es_json_put_string(j, "bf16", es_bf16_kind_name(b->bf16));
    es_json_put_int(j, "batch", b->batch);
    es_json_put_int(j, "ranks", b->ranks);
    es_json_put_int(j, "threads", b->threads);
    es_json_put_int(j, "leaves", b->leaves);
    es_json_put_number(j, "clips_per_s", b->clips_per_s);
    es_json_put_number(j, "gemm_gflops_per_s", b->gemm_gflops_per_s);
    es_json_put_number(j, "peak_gflops_per_s", b->peak_gflops_per_s);
    es_json_put_number(j, "mfu", b->mfu);
    es_json_put_int(j, "peak_rss_bytes", b->peak_rss_bytes);
    es_json_put_number(j, "verified", b->verified);
    es_json_put_int(j, "sent_bytes", b->sent_bytes);
    es_json_put_number(j, "exposed_s", b->exposed_s);
    es_json_put_int(j, "trainable", b->trainable);
    es_json_put_int(j, "values", b->values);
    if (p->ops) es_json_put_number(j, "bandwidth_bytes_per_s", b->bandwidth);
    es_json_key(j, "phases");
    es_json_begin_object(j);
    if (p->config) es_json_put_number(j, "input_exposed", b->input_exposed_s);
    es_json_put_number(j, "frontend", b->frontend_s);
    for (int k = ES_TIME_AUGMENT; k <= ES_TIME_OPTIMIZER; k++)
        es_json_put_number(j, es_time_names[k], b->time[k]);
    es_json_end_object(j);
    es_json_end_object(j);
}

int bench_step(struct es_run *run, struct es_err *err) {
    struct es_bench_step_params p;
    struct es_bench_step b;
    struct es_bench_op ops[ES_BENCH_OPS];
    ES_TRY(read_options(run, &p, err));
    if (es_run_flag(run, "roofline")) p.ops = ops;
    ES_TRY(es_bench_step_all(es_run_comm(run), &p, &b, err));
    print(run, &p, &b);
    write_json(es_run_json(run), &p, &b);
    if (p.ops) roofline(run, &b, ops);
    return 0;
}
