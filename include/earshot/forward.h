/* Forward passes for prediction and validation: waveforms of 10 s in, logits out, in blocks of fixed size.
 *
 * A block always has `block` clips; missing ones at the end are silence whose results are dropped, so that the shapes of the
 * matrix products, and with them the bits of a clip's logits, do not depend on who computes it.
 * Collectivity: none. Memory is planned when the object is made; no allocation afterwards.
 */
#ifndef EARSHOT_FORWARD_H
#define EARSHOT_FORWARD_H

#include "earshot/frontend.h"
#include "earshot/nn.h"

#define ES_CLIP_SAMPLES 160000

struct es_forward;
/* params: values to use (borrowed). mel: the transformer's frontend (es_model_frontend). */
int es_forward_new(struct es_forward **f, const struct es_net *net, struct es_params *params, int block,
                   const struct es_frontend_params *mel, struct es_err *err);
void es_forward_free(struct es_forward **f);
int es_forward_block(const struct es_forward *f);
const struct es_net_config *es_forward_config(const struct es_forward *f);
int es_forward_frames(const struct es_forward *f);  /* T of the logits */
int es_forward_classes(const struct es_forward *f); /* K */
int es_forward_tokens(const struct es_forward *f);  /* T' of the transformer; 0 without one */
/* Calls watch at every named point of a forward pass (tape.h). */
void es_forward_watch(struct es_forward *f, es_watch_fn watch, void *ctx);
/* Buffer for the waves of the next block: [block, ES_CLIP_SAMPLES], to be filled by the caller. */
float *es_forward_waves(struct es_forward *f);
/* n <= block clips of the buffer. logits [n,T,K] out; attention [n,T,K] out or NULL (inputs of class pooling; not in
 * pre-training). */
int es_forward_run(struct es_forward *f, int n, float *logits, float *attention, struct es_err *err);

#endif
