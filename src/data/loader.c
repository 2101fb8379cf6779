/* The prefetch thread: two leaf buffers, one being computed, one being read. */
#include <pthread.h>
#include <string.h>

#include "earshot/dataset.h"
#include "earshot/mem.h"

struct buffer {
    struct es_leaf_plan plan;
    struct es_dataset_leaf leaf;
    struct es_err err;
    int rc;
    bool full;
};

struct es_loader {
    struct es_dataset *dataset;
    struct es_plan *plan; /* of the thread alone: it caches permutations */
    es_loader_next_fn next;
    void *ctx;
    struct buffer buffer[2];
    int64_t read, given; /* leaves read and handed out so far */
    bool ended, quit, threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void fill(struct es_loader *l, struct buffer *b, int64_t i) {
    int64_t step;
    int leaf;
    b->rc = 0;
    if (!l->next(l->ctx, i, &step, &leaf)) {
        b->rc = 1;
        return;
    }
    es_plan_leaf(l->plan, step, leaf, &b->plan);
    b->rc = es_dataset_read_leaf(l->dataset, step, &b->plan, &b->leaf, &b->err);
}

static void *run(void *arg) {
    struct es_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!l->quit && !l->ended) {
        struct buffer *b = &l->buffer[l->read % 2];
        if (b->full) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        int64_t i = l->read;
        pthread_mutex_unlock(&l->lock);
        fill(l, b, i);
        pthread_mutex_lock(&l->lock);
        l->ended = b->rc > 0;
        b->full = true;
        l->read++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int new_buffer(struct es_loader *l, struct buffer *b, const struct es_plan_params *pp,
                      struct es_err *err) {
    const struct es_dataset *d = l->dataset;
    size_t n = 0, K = (size_t)es_dataset_classes(d), row = K * (size_t)es_dataset_frames(d);
    for (int s = 0; s < pp->n_sets; s++) n += (size_t)pp->size[s];
    b->leaf.wave = es_alloc(n * ES_DATASET_SAMPLES, sizeof(float), err);
    b->leaf.labels = es_alloc(n * row, sizeof(float), err);
    b->leaf.weak = es_alloc(n * K, sizeof(float), err);
    b->leaf.mask = es_alloc(n * K, 1, err);
    b->leaf.scratch = es_alloc(ES_DATASET_SAMPLES + 3 * row, sizeof(float), err);
    b->leaf.pcm = es_alloc(ES_DATASET_SAMPLES, sizeof(int16_t), err);
    size_t convolve = es_dataset_convolve_floats(d);
    if (convolve > 0) b->leaf.convolve = es_alloc(convolve, sizeof(float), err);
    if (es_dataset_has_pseudo(d)) b->leaf.pseudo = es_alloc(n * row, sizeof(float), err);
    bool ok =
        b->leaf.wave && b->leaf.labels && b->leaf.weak && b->leaf.mask && b->leaf.scratch && b->leaf.pcm;
    ok = ok && (b->leaf.convolve || convolve == 0) && (b->leaf.pseudo || !es_dataset_has_pseudo(d));
    return ok ? 0 : -ES_EIO;
}

int es_loader_new(struct es_loader **l, struct es_dataset *d, const struct es_plan_params *pp,
                  es_loader_next_fn next, void *ctx, struct es_err *err) {
    int rc = 0;
    *l = es_alloc(1, sizeof **l, err);
    if (!*l) return -ES_EIO;
    (*l)->dataset = d;
    (*l)->next = next;
    (*l)->ctx = ctx;
    pthread_mutex_init(&(*l)->lock, NULL);
    pthread_cond_init(&(*l)->changed, NULL);
    ES_GO(es_plan_new(&(*l)->plan, pp, err));
    for (int i = 0; i < 2; i++) ES_GO(new_buffer(*l, &(*l)->buffer[i], pp, err));
    if (es_dataset_threaded(d)) {
        if (pthread_create(&(*l)->thread, NULL, run, *l) != 0) {
            rc = es_err_set(err, ES_EIO, "cannot start the loader thread");
            goto done;
        }
        (*l)->threaded = true;
    }
done:
    if (rc < 0) es_loader_free(l);
    return rc;
}

void es_loader_free(struct es_loader **l) {
    if (!*l) return;
    if ((*l)->threaded) {
        pthread_mutex_lock(&(*l)->lock);
        (*l)->quit = true;
        pthread_cond_broadcast(&(*l)->changed);
        pthread_mutex_unlock(&(*l)->lock);
        pthread_join((*l)->thread, NULL);
    }
    for (int i = 0; i < 2; i++) {
        struct es_dataset_leaf *x = &(*l)->buffer[i].leaf;
        es_free(&x->pseudo);
        es_free(&x->convolve);
        es_free(&x->pcm);
        es_free(&x->scratch);
        es_free(&x->mask);
        es_free(&x->weak);
        es_free(&x->labels);
        es_free(&x->wave);
    }
    es_plan_free(&(*l)->plan);
    pthread_cond_destroy(&(*l)->changed);
    pthread_mutex_destroy(&(*l)->lock);
    es_free(l);
}

int es_loader_get(struct es_loader *l, const struct es_leaf_plan **plan, struct es_dataset_leaf **leaf,
                  struct es_err *err) {
    struct buffer *b = &l->buffer[l->given % 2];
    if (l->threaded) {
        pthread_mutex_lock(&l->lock);
        if (l->given > 0) {
            l->buffer[(l->given - 1) % 2].full = false; /* the leaf handed out before is done */
            pthread_cond_broadcast(&l->changed);
        }
        while (!b->full) pthread_cond_wait(&l->changed, &l->lock);
        pthread_mutex_unlock(&l->lock);
    } else {
        fill(l, b, l->given);
    }
    l->given++;
    ES_ASSERT(b->rc <= 0); /* nobody asks beyond the end of the sequence */
    *plan = &b->plan;
    *leaf = &b->leaf;
    if (b->rc < 0 && err) *err = b->err;
    return b->rc;
}
