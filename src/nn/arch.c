/* The table of transformers and what is asked of it by name. */
#include <stdio.h>
#include <string.h>

#include "nn_impl.h"

static const char *const names[] = {
    [ES_ARCH_ATST] = "atst", [ES_ARCH_FPASST] = "fpasst", [ES_ARCH_BEATS] = "beats"};
static const struct nn_arch *const archs[ES_N_ARCHS] = {
    [ES_ARCH_ATST] = &nn_arch_atst, [ES_ARCH_FPASST] = &nn_arch_fpasst};
_Static_assert(sizeof names / sizeof *names == ES_N_ARCHS, "one name per architecture");

const struct nn_arch *nn_arch(enum es_arch arch) {
    return archs[arch];
}

const char *es_arch_name(enum es_arch arch) {
    return names[arch];
}

int es_arch_from_name(const char *name) {
    for (int a = 0; a < ES_N_ARCHS; a++)
        if (strcmp(names[a], name) == 0) return a;
    return -1;
}

void es_transformer_config_default(struct es_transformer_config *c, enum es_arch arch) {
    const struct nn_arch *a = nn_arch(arch);
    *c = (struct es_transformer_config){.arch = arch, .dim = 768, .depth = 12, .heads = 12, .mlp = 3072};
    if (!a) return; /* es_net_new refuses it */
    c->n_mels = a->n_mels;
    c->n_mel_frames = a->n_mel_frames;
    c->ln_eps = a->ln_eps;
}

void es_net_config_published(struct es_net_config *c, enum es_arch arch) {
    const struct nn_arch *a = nn_arch(arch);
    es_net_config_default(c);
    es_transformer_config_default(&c->transformer, arch);
    if (!a) return;
    c->wrapper = a->wrapper;
    c->embed_pool = a->embed_pool;
}

int es_net_tokens(const struct es_net_config *c, int n_mel_frames) {
    return nn_arch(c->transformer.arch)->tokens(&c->transformer, n_mel_frames);
}

bool es_net_other_name(const struct es_net *net, const char *name, int i, char *other, size_t size) {
    static const char *const outer[] = {"as_model.model.", "as_model.", "model.", ""};
    const char *inner[] = {net->arch->stage_prefix, net->arch->pretrain_prefix, ""};
    char own[64];
    if (i >= (int)(sizeof outer / sizeof *outer * (sizeof inner / sizeof *inner))) return false;
    nn_transformer_prefix(net, own, sizeof own);
    snprintf(other, size, "%s%s%s", outer[i / 3], inner[i % 3], name + strlen(own));
    return true;
}
