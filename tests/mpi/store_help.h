/* A small corpus made of formulas, and a store written from it. */
#ifndef EARSHOT_TESTS_STORE_HELP_H
#define EARSHOT_TESTS_STORE_HELP_H

#include "earshot/mem.h"
#include "earshot/store.h"

enum { HELP_MAX_CLIPS = 64, HELP_K = 5 };

struct corpus {
    struct es_store_desc desc;
    char text[2][HELP_MAX_CLIPS][24];
    const char *name[HELP_MAX_CLIPS], *recording[HELP_MAX_CLIPS];
    uint8_t subset[HELP_MAX_CLIPS], split[HELP_MAX_CLIPS], weak[HELP_MAX_CLIPS * HELP_K];
    int64_t reserved[HELP_MAX_CLIPS], index[HELP_MAX_CLIPS + 1];
    double duration_s[HELP_MAX_CLIPS];
    struct es_event event[3 * HELP_MAX_CLIPS];
};

static const char *const help_classes[HELP_K] = {"Dog", "door opens/closes", "Speech", "\xc3\xa9t\xc3\xa9",
                                                 "x"};

static inline int64_t help_length(int64_t clip) {
    return 1000 + 37 * clip;
}
static inline int16_t help_sample(int64_t clip, int64_t i) {
    return (int16_t)((clip * 1009 + i * 31) % 60000 - 30000);
}

static inline void corpus_make(struct corpus *c, int64_t n) {
    memset(c, 0, sizeof *c);
    for (int64_t i = 0; i < n; i++) {
        snprintf(c->text[0][i], sizeof c->text[0][i], "clip-%lld", (long long)(i * i));
        snprintf(c->text[1][i], sizeof c->text[1][i], "%s", i % 3 ? "" : "city_center_01");
        c->name[i] = c->text[0][i];
        c->recording[i] = c->text[1][i];
        c->subset[i] = (uint8_t)(i % 10); /* a number of its own: the digest is written down */
        c->split[i] = i % 7 == 6;
        c->weak[i * HELP_K + i % HELP_K] = 1;
        c->reserved[i] = help_length(i) + (i % 4 == 1 ? 11 : 0); /* some turn out shorter than reserved */
        c->duration_s[i] = (double)help_length(i) / 16000;
        c->index[i + 1] = c->index[i] + i % 4;
        for (int64_t e = c->index[i]; e < c->index[i + 1]; e++)
            c->event[e] =
                (struct es_event){0.125 * (double)e, 0.125 * (double)e + 1.1, (int32_t)(e % HELP_K), 0.3f};
    }
    c->desc = (struct es_store_desc){.n_clips = n,
                                     .n_classes = HELP_K,
                                     .class_name = help_classes,
                                     .clip_name = c->name,
                                     .recording = c->recording,
                                     .subset = c->subset,
                                     .split = c->split,
                                     .reserved = c->reserved,
                                     .duration_s = c->duration_s,
                                     .event_index = c->index,
                                     .event = c->event,
                                     .weak = c->weak};
}

/* Clip i is written by rank i mod P. */
static inline int corpus_write(const struct es_comm *comm, const char *path, struct corpus *c,
                               uint64_t *digest, struct es_err *err) {
    struct es_store_writer *w = NULL;
    int16_t pcm[HELP_MAX_CLIPS * 64];
    int rc = es_store_create_all(&w, comm, path, &c->desc, err);
    if (rc < 0) return rc;
    for (int64_t i = es_comm_rank(comm); i < c->desc.n_clips && rc == 0; i += es_comm_size(comm)) {
        for (int64_t s = 0; s < help_length(i); s++) pcm[s] = help_sample(i, s);
        rc = es_store_write_pcm(w, i, pcm, help_length(i), err);
    }
    return es_store_commit_all(&w, rc, digest, err);
}

#endif
