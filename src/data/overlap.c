#include "earshot/overlap.h"

#include <stdio.h>
#include <string.h>

#include "earshot/mem.h"
#include "earshot/tsv.h"

enum { N_SETS = 2 * ES_N_SUBSETS };

/* ---- what a clip is known by */

/* [Y]<id>[_<start>_<end>] */
static bool youtube_id(const char *name, char id[ES_YOUTUBE_ID + 1]) {
    size_t n = strlen(name), cut = n;
    for (int k = 0; k < 2; k++) { /* times hold no underscore, ids may */
        size_t at = cut;
        while (at > 0 && strchr("0123456789.", name[at - 1])) at--;
        if (at == cut || at == 0 || name[at - 1] != '_') {
            cut = n;
            break;
        }
        cut = at - 1;
    }
    const char *begin = name + (cut == ES_YOUTUBE_ID + 1 && name[0] == 'Y');
    if ((size_t)(name + cut - begin) != ES_YOUTUBE_ID) return false;
    memcpy(id, begin, ES_YOUTUBE_ID);
    id[ES_YOUTUBE_ID] = 0;
    return true;
}

const char *es_overlap_key(enum es_subset subset, const char *name, const char *recording, bool by_id,
                           char id[ES_YOUTUBE_ID + 1]) {
    switch (subset) {
    case ES_SUBSET_SYNTH:
    case ES_SUBSET_SYNTH_VALIDATION:
        return NULL;
    case ES_SUBSET_MAESTRO:
    case ES_SUBSET_MAESTRO_TEST:
        return by_id ? NULL : recording;
    default:
        return !by_id ? name : youtube_id(name, id) ? id : NULL;
    }
}

bool es_overlap_trains(enum es_subset subset, int split) {
    switch (subset) {
    case ES_SUBSET_MAESTRO:
    case ES_SUBSET_STRONG_REAL:
    case ES_SUBSET_SYNTH:
    case ES_SUBSET_WEAK:
    case ES_SUBSET_UNLABELED:
    case ES_SUBSET_AS_TRAIN:
        return split == 0;
    default:
        return false;
    }
}

/* ---- which sets hold a key */

struct holders {
    int source; /* the store that `here` is about */
    uint32_t before, here, twice;
};

struct keys {
    struct es_names *names;
    struct holders *of;
    int64_t room;
};

struct es_overlap_finder {
    struct keys by[2]; /* name, YouTube id */
};

int es_overlap_new(struct es_overlap_finder **f, struct es_err *err) {
    *f = es_alloc(1, sizeof **f, err);
    int rc = *f ? 0 : -ES_EIO;
    for (int k = 0; rc == 0 && k < 2; k++) rc = es_names_new(&(*f)->by[k].names, err);
    if (rc < 0) es_overlap_free(f);
    return rc;
}

void es_overlap_free(struct es_overlap_finder **f) {
    if (!*f) return;
    for (int k = 0; k < 2; k++) {
        es_free(&(*f)->by[k].of);
        es_names_free(&(*f)->by[k].names);
    }
    es_free(f);
}

static int make_room(struct keys *k, int64_t n, struct es_err *err) {
    if (n <= k->room) return 0;
    struct holders *more = es_alloc((size_t)(2 * n), sizeof *more, err);
    if (!more) return -ES_EIO;
    if (k->room > 0) memcpy(more, k->of, (size_t)k->room * sizeof *more);
    es_free(&k->of);
    k->of = more;
    k->room = 2 * n;
    return 0;
}

int es_overlap_add(struct es_overlap_finder *f, int source, const struct es_store *s, int64_t clip,
                   struct es_err *err) {
    enum es_subset subset = es_store_subset(s, clip);
    bool scored = !es_overlap_trains(subset, es_store_split(s, clip));
    char id[ES_YOUTUBE_ID + 1];
    for (int by_id = 0; by_id < 2; by_id++) {
        struct keys *k = &f->by[by_id];
        const char *key =
            es_overlap_key(subset, es_store_name(s, clip), es_store_recording(s, clip), by_id, id);
        if (!key) continue;
        int64_t at = es_names_add(k->names, key, err);
        if (at < 0) return -ES_EIO;
        ES_TRY(make_room(k, at + 1, err));
        struct holders *h = &k->of[at];
        uint32_t bit = 1u << (2 * (int)subset + scored);
        if (h->source != source) {
            h->before |= h->here;
            h->here = 0;
            h->source = source;
        }
        h->twice |= h->before & bit;
        h->here |= bit;
    }
    return 0;
}

static void note(struct es_overlap *o, const char *name) {
    if (o->n_examples == ES_OVERLAP_EXAMPLES) return;
    snprintf(o->example[o->n_examples++], sizeof o->example[0], "%s", name);
}

static struct es_overlap of_sets(const struct es_overlap_finder *f, int a, int b) {
    struct es_overlap o = {.subset = {(enum es_subset)(a / 2), (enum es_subset)(b / 2)},
                           .trains = {a % 2 == 0, b % 2 == 0},
                           .leak = a % 2 != b % 2};
    uint32_t both = 1u << a | 1u << b;
    /* the published split of the weak set is one of clips, not of videos */
    bool halves = o.subset[0] == ES_SUBSET_WEAK && o.subset[1] == ES_SUBSET_WEAK;
    for (int by_id = !halves; by_id >= 0; by_id--) {
        const struct keys *k = &f->by[by_id];
        for (int64_t i = 0; i < es_names_count(k->names); i++) {
            const struct holders *h = &k->of[i];
            uint32_t in = a == b ? h->twice : h->before | h->here;
            if ((in & both) != both) continue;
            ++*(by_id ? &o.ids : &o.names);
            if (by_id || o.ids == 0) note(&o, es_names_get(k->names, i));
        }
    }
    return o;
}

void es_overlap_count(const struct es_overlap_finder *f, struct es_overlaps *out) {
    *out = (struct es_overlaps){0};
    for (int a = 0; a < N_SETS; a++)
        for (int b = a; b < N_SETS; b++) {
            struct es_overlap o = of_sets(f, a, b);
            if (o.names == 0 && o.ids == 0) continue;
            out->n_leaks += o.leak;
            out->row[out->n++] = o;
        }
}

bool es_overlap_seen(struct es_store *const *store, int n, const struct es_store *s) {
    for (int i = 0; i < n; i++)
        if (es_store_digest(store[i]) == es_store_digest(s)) return true;
    return false;
}

int es_overlap_of_stores(struct es_overlaps *out, struct es_store *const *store, int n, struct es_err *err) {
    struct es_overlap_finder *f = NULL;
    int rc = es_overlap_new(&f, err);
    for (int s = 0; s < n; s++) {
        const bool again = es_overlap_seen(store, s, store[s]);
        for (int64_t i = 0; rc == 0 && !again && i < es_store_n_clips(store[s]); i++)
            rc = es_overlap_add(f, s, store[s], i, err);
    }
    if (rc == 0) es_overlap_count(f, out);
    es_overlap_free(&f);
    return rc;
}

void es_overlap_describe(const struct es_overlap *o, char *text, size_t size) {
    static const char *const use[2] = {"scored", "training"};
    bool maestro = o->subset[0] == ES_SUBSET_MAESTRO || o->subset[0] == ES_SUBSET_MAESTRO_TEST;
    int at = snprintf(text, size, "%lld %s", (long long)o->names, maestro ? "recordings" : "file names");
    if (!maestro) at += snprintf(text + at, size - (size_t)at, " and %lld YouTube ids", (long long)o->ids);
    at +=
        snprintf(text + at, size - (size_t)at, " are in %s (%s) and %s (%s%s):", es_subset_name(o->subset[0]),
                 use[o->trains[0]], es_subset_name(o->subset[1]), use[o->trains[1]],
                 o->subset[0] == o->subset[1] && o->trains[0] == o->trains[1] ? ", of another store" : "");
    for (int i = 0; i < o->n_examples && (size_t)at < size; i++)
        at += snprintf(text + at, size - (size_t)at, "%s %s", i ? "," : "", o->example[i]);
    if (o->ids + o->names > o->n_examples && (size_t)at < size &&
        (o->ids > o->n_examples || o->names > o->n_examples))
        snprintf(text + at, size - (size_t)at, ", ...");
}
