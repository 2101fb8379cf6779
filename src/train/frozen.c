/* Stage 1: the frozen transformer of a leaf, shared by the ranks. A leaf's owner reads, mixes and computes the mels; ranks
 * without a leaf of their own in the same round compute some of its blocks of clips. */
#include <string.h>

#include "earshot/mem.h"
#include "earshot/reducer.h"
#include "train_impl.h"

/* Who computes the blocks in round i, the i-th leaf of every rank. Ranks that own a leaf in this round stand first in
 * `order`; the rank at position p serves owner order[p % n_owners] as its member p / n_owners (0: the owner itself), and
 * computes every block whose number is its member's modulo the members there are. */
struct train_frozen {
    const struct es_trainer_params *tp;
    const struct es_comm *comm;
    const struct es_net *net;
    int tree_leaves;        /* of the reducer */
    int *order, *leaves_of; /* [P] */
    int n_owners, position;
    float *z;        /* embeddings of the leaf */
    float *features; /* of blocks that were sent here, at their places in the leaf; NULL with one rank */
};

struct block { /* of clips; where its features and embeddings lie in those of the leaf, and their lengths */
    int n;
    int64_t features, n_features, z, n_z;
};

static int64_t feature_row(const struct es_trainer_params *tp) {
    return (int64_t)tp->net.transformer.n_mels * tp->feature_frames;
}

static int64_t z_row(const struct train_frozen *f) {
    return (int64_t)f->tp->net.n_frames * es_net_embed_width(f->net);
}

int train_frozen_new(struct train_frozen **out, const struct es_trainer_params *tp, const struct es_comm *c,
                     const struct es_net *net, int tree_leaves, struct es_err *err) {
    struct train_frozen *f = *out = es_alloc(1, sizeof *f, err);
    if (!f) return -ES_EIO;
    *f = (struct train_frozen){.tp = tp, .comm = c, .net = net, .tree_leaves = tree_leaves};
    size_t size = (size_t)es_comm_size(c), n = (size_t)tp->leaf_clips;
    f->z = es_alloc(n * (size_t)z_row(f), sizeof *f->z, err);
    f->order = es_alloc(size, sizeof *f->order, err);
    f->leaves_of = es_alloc(size, sizeof *f->leaves_of, err);
    if (size > 1) f->features = es_alloc(n * (size_t)feature_row(tp), sizeof *f->features, err);
    if (f->z && f->order && f->leaves_of && (size == 1 || f->features)) return 0;
    train_frozen_free(out);
    return -ES_EIO;
}

void train_frozen_free(struct train_frozen **f) {
    if (!*f) return;
    es_free(&(*f)->features);
    es_free(&(*f)->leaves_of);
    es_free(&(*f)->order);
    es_free(&(*f)->z);
    es_free(f);
}

bool train_frozen_round(struct train_frozen *f, int n_active, int round) {
    int size = es_comm_size(f->comm), n = 0;
    memset(f->leaves_of, 0, (size_t)size * sizeof *f->leaves_of);
    for (int j = 0; j < n_active; j++) f->leaves_of[es_reducer_rank_of_leaf(f->tree_leaves, size, j)]++;
    for (int r = 0; r < size; r++)
        if (f->leaves_of[r] > round) f->order[n++] = r;
    f->n_owners = n;
    for (int r = 0; r < size; r++)
        if (f->leaves_of[r] <= round) f->order[n++] = r;
    for (int p = 0; p < size; p++)
        if (f->order[p] == es_comm_rank(f->comm)) f->position = p;
    return f->n_owners > 0;
}

static int n_members(const struct train_frozen *f) {
    return (es_comm_size(f->comm) - 1 - f->position % f->n_owners) / f->n_owners + 1;
}

static int rank_of_member(const struct train_frozen *f, int member) {
    return f->order[f->position % f->n_owners + member * f->n_owners];
}

static int n_blocks(const struct train_frozen *f) {
    return (f->tp->leaf_clips + f->tp->frozen_block - 1) / f->tp->frozen_block;
}

static struct block block_at(const struct train_frozen *f, int b) {
    int first = b * f->tp->frozen_block, rest = f->tp->leaf_clips - first;
    int n = rest < f->tp->frozen_block ? rest : f->tp->frozen_block;
    int64_t in_row = feature_row(f->tp), out_row = z_row(f);
    return (struct block){n, first * in_row, n * in_row, first * out_row, n * out_row};
}

static void compute(struct train_frozen *f, struct es_tape *tape, const struct block *k, float *features) {
    bool dry = es_tape_dry(tape);
    es_tape_reset(tape, 0, 0);
    struct es_tensor *x = train_feature_input(f->tp, tape, dry ? NULL : features + k->features, k->n);
    struct es_tensor *z = es_net_embed(f->net, tape, x);
    if (!dry) memcpy(f->z + k->z, z->data, (size_t)k->n_z * sizeof(float));
    es_tape_drop(tape, z);
}

void train_frozen_run(struct train_frozen *f, struct es_tape *tape, float *features) {
    bool dry = es_tape_dry(tape);
    int members = dry ? 1 : n_members(f);
    float *given = features ? features : f->features;
    for (int b = 0; b < n_blocks(f); b++) {
        struct block k = block_at(f, b);
        if (b % members > 0)
            es_comm_send(f->comm, given + k.features, (size_t)k.n_features * sizeof(float),
                         rank_of_member(f, b % members), b);
    }
    for (int b = 0; b < n_blocks(f); b += members) {
        struct block k = block_at(f, b);
        if (features || dry) compute(f, tape, &k, features);
    }
    for (int b = 0; b < n_blocks(f); b++) {
        struct block k = block_at(f, b);
        if (b % members > 0)
            es_comm_recv(f->comm, f->z + k.z, (size_t)k.n_z * sizeof(float), rank_of_member(f, b % members),
                         b);
    }
}

/* Everything is received before anything is computed, and computed before anything is sent, because the owner's sends and
 * receives wait. */
void train_frozen_receive(struct train_frozen *f) {
    int members = n_members(f), member = f->position / f->n_owners;
    for (int b = member; b < n_blocks(f); b += members) {
        struct block k = block_at(f, b);
        es_comm_recv(f->comm, f->features + k.features, (size_t)k.n_features * sizeof(float),
                     rank_of_member(f, 0), b);
    }
}

void train_frozen_help(struct train_frozen *f, struct es_tape *tape, struct es_reducer *reducer) {
    int members = n_members(f), member = f->position / f->n_owners;
    for (int b = member; b < n_blocks(f); b += members) {
        struct block k = block_at(f, b);
        compute(f, tape, &k, f->features);
        es_reducer_poll(reducer);
    }
    for (int b = member; b < n_blocks(f); b += members) {
        struct block k = block_at(f, b);
        es_comm_send(f->comm, f->z + k.z, (size_t)k.n_z * sizeof(float), rank_of_member(f, 0), b);
    }
}

struct es_tensor *train_frozen_input(const struct train_frozen *f, struct es_tape *tape) {
    int64_t shape[3] = {f->tp->leaf_clips, f->tp->net.n_frames, es_net_embed_width(f->net)};
    return es_tape_input(tape, "embeddings", 3, shape, f->z, false);
}
