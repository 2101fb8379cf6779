/* Tape: runs operations forward, remembers them, runs them backward.
 *
 * An operation (ops.h) computes its output at once and, on a recording tape, leaves a record: its output
 * tensor, what it saved, and a backward function. es_tape_backward walks the records in reverse; the gradient
 * of an activation lives in the pool from its first write to the backward step of its producer, gradients of
 * parameters go into the vector given. As soon as the last record that uses a parameter has run,
 * on_grad(parameter index) is called: the reducer may send it.
 *
 * Recording tape: outputs live in the leaf arena until es_tape_reset. Not recording (teacher, prediction):
 * outputs live in the pool and es_tape_drop gives them back; on a recording tape es_tape_drop does nothing,
 * so model code calls it always (bf16 tapes: below).
 *
 * bf16 tape (an engine in its parameters): linear layers whose weights are marked multiply in bf16 and keep their inputs in
 * bf16; outputs live in the pool, and on a recording tape, too, es_tape_drop gives back what no backward function reads.
 *
 * Dry tape (its arenas are dry): operations check shapes and ask for memory but compute nothing; the peaks of
 * arenas and pool are the memory plan.
 *
 * The tape knows no MPI. One thread calls; kernels use OpenMP inside.
 */
#ifndef EARSHOT_TAPE_H
#define EARSHOT_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "earshot/mem.h"
#include "earshot/rng.h"
#include "earshot/tensor.h"

struct es_tape;

struct es_tape_params { /* all borrowed */
    struct es_params *params;
    struct es_arena *leaf;    /* activations of a recording tape */
    struct es_arena *scratch; /* kernel workspace, reset by every operation */
    struct es_pool *pool;     /* gradients of activations; outputs when not recording */
    bool record;
    bool train; /* BatchNorm batch statistics and dropout */
    uint64_t seed;
    enum es_rng_purpose dropout_purpose;
    struct es_bf16 *bf16; /* NULL: an fp32 tape; else params has packed copies (not on a dry tape) */
};

int es_tape_new(struct es_tape **t, const struct es_tape_params *tp, struct es_err *err);
void es_tape_free(struct es_tape **t);
/* Forgets everything; the next leaf starts. step and leaf name the dropout streams. */
void es_tape_reset(struct es_tape *t, uint32_t step, uint32_t leaf);

bool es_tape_dry(const struct es_tape *t);
bool es_tape_train(const struct es_tape *t);
bool es_tape_record(const struct es_tape *t);

/* A tensor over memory of the caller; no gradient flows into it unless needs_grad (golden tests ask for input
 * gradients). */
struct es_tensor *es_tape_input(struct es_tape *t, const char *name, int ndim, const int64_t *shape,
                                float *data, bool needs_grad);
struct es_tensor *es_tape_param(struct es_tape *t, int index);
void es_tape_drop(struct es_tape *t, struct es_tensor *x);

/* grads [es_params_n_trainable] receives parameter gradients: every trainable entry is written (not added
 * to); entries that no record uses are zeroed. on_grad and between may be NULL; between runs after every
 * record (the reducer polls there). */
struct es_tape_hooks {
    void (*on_grad)(void *ctx, int param);
    void (*between)(void *ctx);
    void *ctx;
};
void es_tape_backward(struct es_tape *t, float *grads, const struct es_tape_hooks *hooks);
/* Gradient of an input after backward (NULL when none); valid until es_tape_reset. */
const float *es_tape_input_grad(struct es_tape *t, const struct es_tensor *x);

/* BatchNorm statistics of this leaf, in order of the layers: replayed by the training step in leaf order. */
struct es_tape_stats {
    int mean_param, var_param; /* buffers of the parameter table */
    int n;                     /* channels */
    const float *mean, *var;   /* [n], var unbiased */
};
int es_tape_n_stats(const struct es_tape *t);
struct es_tape_stats es_tape_stats_at(const struct es_tape *t, int i);

/* Points inside a network (a block's output, a projection): forward code names them with es_tape_point, and somebody may watch.
 * index: of a block, -1 elsewhere. Nothing happens on a dry tape, or when nobody watches; x must not be kept. */
typedef void (*es_watch_fn)(void *ctx, const char *point, int index, const struct es_tensor *x);
void es_tape_watch(struct es_tape *t, es_watch_fn watch, void *ctx);
void es_tape_point(const struct es_tape *t, const char *point, int index, const struct es_tensor *x);

/* Somebody may hold up a parameter: called before the forward pass since es_tape_reset reads it for the first time. */
void es_tape_on_param(struct es_tape *t, void (*on_param)(void *ctx, int param), void *ctx);

/* Somebody may time the operations: called behind each that ran (not on a dry tape, not for views), and behind its backward
 * function. Its name is that of its output. The tensors must not be kept. */
struct es_tape_event {
    bool backward;
    double seconds;
    const struct es_tensor *out, *out2; /* out2: NULL unless it has two outputs */
    int n_in;
    struct es_tensor *const *in; /* [n_in], some may be NULL */
};
typedef void (*es_profile_fn)(void *ctx, const struct es_tape_event *e);
void es_tape_profile(struct es_tape *t, es_profile_fn profile, void *ctx);

/* ---- for implementations of operations (src/tensor/ops_*.c) */
typedef void (*es_backward_fn)(struct es_tape *t, void *saved);
/* New output tensor; uninitialised. Its needs_grad is set by es_tape_push. An operation computes between the two: that is what a
 * profile times. */
struct es_tensor *es_tape_output(struct es_tape *t, const char *name, int ndim, const int64_t *shape);
/* Memory that backward reads (arena; dry when the tape is dry). NULL when not recording and keep is false. */
void *es_tape_keep(struct es_tape *t, size_t bytes);
/* A zeroed struct for the record, always real memory. */
void *es_tape_node(struct es_tape *t, size_t bytes);
/* Kernel workspace until the operation returns: reset by es_tape_scratch_reset. */
void *es_tape_scratch(struct es_tape *t, size_t bytes);
void es_tape_scratch_reset(struct es_tape *t);
/* Leaves a record when the tape records and an input needs a gradient; sets out->needs_grad. out2 may be
 * NULL. */
void es_tape_push(struct es_tape *t, es_backward_fn backward, void *saved, struct es_tensor *out,
                  struct es_tensor *out2, int n_in, struct es_tensor *const *in);
/* The same for a backward function that reads no values of inputs and outputs but those of read: a bf16 tape may give the others
 * back. es_tape_push is for one that may read all of them. */
void es_tape_push_reading(struct es_tape *t, es_backward_fn backward, void *saved, struct es_tensor *out,
                          struct es_tensor *out2, int n_in, struct es_tensor *const *in, int n_read,
                          struct es_tensor *const *read);
/* A tensor over the data of x, which it takes over: dropping the view drops the data. */
struct es_tensor *es_tape_view(struct es_tape *t, struct es_tensor *x, int ndim, const int64_t *shape);
/* The engine when w is a parameter that this tape multiplies by in bf16, else NULL. */
struct es_bf16;
struct es_bf16 *es_tape_bf16(const struct es_tape *t, const struct es_tensor *w);
/* The tape's engine, NULL on an fp32 tape. */
struct es_bf16 *es_tape_engine(const struct es_tape *t);
const struct es_bf16_weight *es_tape_packed(const struct es_tape *t, const struct es_tensor *w);
/* data of x in bf16, made on first use: kept for backward on a recording tape, else in scratch. Not on an fp32 tape. */
void *es_tape_half(struct es_tape *t, struct es_tensor *x);
/* Gradient buffer of x for writing; *beta = 0: overwrite, 1: add. NULL when x needs none. */
float *es_tape_grad(struct es_tape *t, struct es_tensor *x, float *beta);
/* Gradient of an output for reading in backward; NULL when nothing flowed into it (then there is nothing to
 * do). */
const float *es_tape_grad_out(struct es_tape *t, const struct es_tensor *x);
struct es_rng es_tape_dropout_stream(struct es_tape *t); /* one per call, in order of calls */
void es_tape_add_stats(struct es_tape *t, int mean_param, int var_param, int n, const float *mean,
                       const float *var);

/* A scalar loss value of this leaf; backward starts from all of them with gradient 1. */
void es_tape_add_loss(struct es_tape *t, struct es_tensor *loss);

#endif
