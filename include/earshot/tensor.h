/* Tensors and parameters.
 *
 * A tensor is a plain struct: contiguous, row-major, float32, at most 4 dimensions; its memory belongs to an
 * arena, a pool or a parameter table. Shape letters used everywhere: B clips, T frames, F mel bins, C
 * channels, D width, H heads, K classes, L leaves, P ranks.
 */
#ifndef EARSHOT_TENSOR_H
#define EARSHOT_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "earshot/err.h"

#define ES_MAX_DIM 4

struct es_tensor {
    const char *name; /* borrowed; printed in messages */
    int ndim;
    int64_t shape[ES_MAX_DIM];
    int64_t n;   /* elements */
    float *data; /* [n] */
    /* implementation, for the tape only */
    float *grad;            /* NULL until a backward function wrote it */
    int param;              /* index in the parameter table, or -1 */
    bool needs_grad;        /* a gradient will flow into it */
    bool owned;             /* data came from the tape's pool: es_tape_drop gives it back */
    bool kept;              /* a backward function will read data: not given back before es_tape_reset */
    void *half;             /* data in bf16 (kernels_bf16.h), or NULL */
    struct es_tensor *next; /* of the outputs in the pool of a recording tape */
};

/* Parameter table: names as in the public state_dict, in its order. Values of all entries lie in one aligned
 * vector: first the trainable ones in REVERSE table order (the order in which backward finishes them, and the
 * order of the gradient vector: same offsets), then frozen ones, buffers and no_grad ones. Every entry is
 * padded to 16 floats with zeros. */
enum es_param_kind { ES_PARAM_WEIGHT, ES_PARAM_BUFFER };

/* PyTorch's initialisations, spec/models.md sections 2.2 and 2.4. */
enum es_init {
    ES_INIT_ZERO,
    ES_INIT_ONE,
    ES_INIT_NORMAL,       /* N(0, scale^2) */
    ES_INIT_UNIFORM,      /* U(-scale, scale) */
    ES_INIT_NORM_OF_NEXT, /* norms of the next entry over all axes but its last (weight norm) */
};

struct es_param {
    char name[120];
    int ndim;
    int64_t shape[ES_MAX_DIM];
    int64_t n, offset; /* offset in the value vector; == offset in the gradient vector when trainable */
    enum es_param_kind kind;
    bool trainable; /* takes part in gradients and AdamW */
    bool no_grad;   /* never has a gradient (mask_embed, head_linear_layer): in EMA, not in AdamW */
    int group;      /* learning-rate group, set by train/groups */
    bool bf16;      /* weights of a transformer's linear layer: multiplied in bf16 on a bf16 tape */
    enum es_init init;
    double init_scale;
};

struct es_params;

int es_params_new(struct es_params **p, struct es_err *err);
void es_params_free(struct es_params **p);
/* Adds an entry; only before es_params_freeze. Returns its index. A name that is there already is a bug. */
int es_params_add(struct es_params *p, const char *name, enum es_param_kind kind, enum es_init init,
                  double init_scale, int ndim, const int64_t *shape);
struct es_param *es_params_at(struct es_params *p, int i); /* flags may be changed before es_params_layout */
int es_params_count(const struct es_params *p);
int es_params_find(const struct es_params *p, const char *name); /* -1 when absent; knows other names, too */
/* Another name of an entry (BEATs' blocks share one table): a state_dict lists both. It has no values of its own and is in no
 * vector, count or digest, so optimiser, average, reduction and checkpoint see the tensor once. Before es_params_layout. */
void es_params_alias(struct es_params *p, const char *name, int entry);
int es_params_n_aliases(const struct es_params *p);
/* Its name; which entry it is. */
const char *es_params_alias_at(const struct es_params *p, int i, int *entry);
/* Lays out and allocates the value vector (zeroed). trainable must be set before. */
int es_params_layout(struct es_params *p, struct es_err *err);
/* Same table, own values (the teacher). */
int es_params_clone(struct es_params **out, const struct es_params *p, struct es_err *err);
/* Fills every entry from its init; streams keyed by (seed, ES_RNG_INIT, 0, index of entry, 0): independent of
 * order of calls. */
void es_params_init(struct es_params *p, uint64_t seed);
float *es_params_data(struct es_params *p, int i);
float *es_params_values(struct es_params *p);          /* the whole vector */
int64_t es_params_n_values(const struct es_params *p); /* padded length of the whole vector */
/* Padded length of its trainable head = gradient vector. */
int64_t es_params_n_trainable(const struct es_params *p);
int64_t es_params_elements(const struct es_params *p, bool trainable_only); /* unpadded count, weights only */
/* Packed copies (kernels_bf16.h) of the entries marked bf16, for the tapes whose engine is e, which must outlive them. After
 * es_params_layout; a clone starts without. Each is made where it is first asked for, from the values of that moment, and again after
 * es_params_changed, which is due when trained values change; frozen values stay from then on. */
struct es_bf16;
struct es_bf16_weight;
int es_params_packed_new(struct es_params *p, struct es_bf16 *e, struct es_err *err);
void es_params_changed(struct es_params *p);
const struct es_bf16_weight *es_params_packed(struct es_params *p, int i);    /* NULL when it has none */
int64_t es_params_packed_bytes(const struct es_params *p, struct es_bf16 *e); /* with or without them */
uint64_t es_params_digest(struct es_params *p); /* names, shapes and values in table order */

#endif
