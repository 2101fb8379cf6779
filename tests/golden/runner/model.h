/* Networks of cases: table of parameters filled by the rule of names, a tape with exactly the memory it needs.
 *
 *   struct rn_model m;
 *   if (rn_model_new(c, &m, &config, train)) rn_model_run(&m, forward, ctx);
 *   ... compare ...
 *   rn_model_free(&m);
 *
 * forward is called twice: on a dry tape (to measure), then on the real one; it ends with rn_project for every output in the
 * loss. After rn_model_run gradients are in m.grads and at the inputs.
 */
#ifndef EARSHOT_GOLDEN_RUNNER_MODEL_H
#define EARSHOT_GOLDEN_RUNNER_MODEL_H

#include "earshot/nn.h"
#include "runner.h"

#include "../generate.h"

/* Names of a list (prefix `golden`) and of the table (prefix `own`): what follows is the same. */
struct rn_names {
    char golden[64], own[64];
};

struct rn_model {
    struct rn_case *c;
    struct es_params *p;
    struct es_net *net; /* NULL: operations only */
    struct es_arena *leaf, *scratch;
    struct es_pool *pool;
    struct es_tape *t;
    float *grads;
    double loss; /* of the projections */
    bool train, record;
    struct rn_names names;
};

/* The transformer of keys t.*; false: skipped. mel_frames 0: key t.mel_frames. */
bool rn_transformer_config(struct rn_case *c, struct es_transformer_config *t);
/* CRNN and wrapper of keys sed.*, with the transformer when the case has one, else one of the embeddings' width. */
bool rn_sed_config(struct rn_case *c, struct es_net_config *n);
/* A head on given embeddings (kinds audioset_wrapper, task4rnn_wrapper, predictions_wrapper; bigru: its sequence model). */
bool rn_head_config(struct rn_case *c, struct es_net_config *n);

/* A net from a configuration; parameters that key `params` lists are filled and trainable, others are not. false: skipped. */
bool rn_model_new(struct rn_case *c, struct rn_model *m, const struct es_net_config *n, bool train);
/* A table only, for operations: entries and shapes of key `params`, all trainable. */
bool rn_model_table(struct rn_case *c, struct rn_model *m);
void rn_model_free(struct rn_model *m);
typedef void (*rn_forward_fn)(struct rn_model *m, struct es_tape *t, void *ctx);
void rn_model_run(struct rn_model *m, rn_forward_fn forward, void *ctx);
/* loss += sum(x * R), R = <r_prefix>/<name>; compares out/<name> and R8/<name> when x is real. */
void rn_project(struct rn_model *m, struct es_tape *t, struct es_tensor *x, const char *name);
/* loss, grad/... of every trainable parameter. */
void rn_put_model(struct rn_model *m);
/* Fills the table's entries that a list names. false: skipped. */
bool rn_fill(struct rn_case *c, struct es_params *p, const char *tsv, uint64_t seed,
             const struct rn_names *names);
/* Under which prefixes the table holds all names of the list; false: some are missing. */
bool rn_find_names(struct es_params *p, const struct es_gen_param *list, int n, struct rn_names *names);
int rn_find_param(struct es_params *p, const struct rn_names *names, const char *name); /* -1: not there */
/* The golden name of an entry; false: it is outside of the prefix. */
bool rn_golden_name(const struct rn_names *names, const struct es_param *e, char *name, size_t size);
/* Offset and scale that reproduce an entry's listed values: the file's, or those of the rule of names. */
void rn_entry_rule(const struct es_gen_param *e, uint64_t seed, double *offset, double *scale);
/* A list of parameters; NULL: skipped. */
struct es_gen_param *rn_param_list(struct rn_case *c, const char *tsv, int *n, uint64_t *seed);

#endif
