/* Clips in two sets: counted by file name and YouTube id; left out where training must not see them (spec/training.md 1.6; overlap.h
 * says what counts as the same). */
#include <stdio.h>
#include <string.h>

#include "earshot/comm.h"
#include "earshot/mem.h"
#include "earshot/overlap.h"

#include "prepare_impl.h"

/* Training clips of `of` must not be in `from`. */
static bool must_not_share(const struct es_prepare_source *of, const struct es_prepare_source *from) {
    bool test = from->subset == ES_SUBSET_VALIDATION || from->subset == ES_SUBSET_PUBLIC ||
                (from->subset == ES_SUBSET_STRONG_REAL && from->split == 1);
    switch (of->subset) {
    case ES_SUBSET_STRONG_REAL:
        return test;
    case ES_SUBSET_WEAK:
    case ES_SUBSET_UNLABELED:
        return test || from->subset == ES_SUBSET_STRONG_REAL;
    case ES_SUBSET_MAESTRO:
        return from->subset == ES_SUBSET_MAESTRO_TEST;
    case ES_SUBSET_AS_TRAIN:
        return from->subset == ES_SUBSET_AS_EVAL;
    default:
        return false;
    }
}

/* Keys with the set of sources (bits) that have them. */
struct keys {
    struct es_names *names;
    uint32_t *sources;
};

static const char *key_of(const struct prep_clip *c, bool by_id, char id[ES_YOUTUBE_ID + 1]) {
    return es_overlap_key((enum es_subset)c->subset, c->name, c->recording, by_id, id);
}

static int collect(const struct prep *x, bool by_id, struct keys *k, struct es_err *err) {
    char id[ES_YOUTUBE_ID + 1];
    ES_TRY(es_names_new(&k->names, err));
    k->sources = es_alloc((size_t)x->n_clips, sizeof *k->sources, err);
    if (!k->sources) return -ES_EIO;
    for (int64_t i = 0; i < x->n_clips; i++) {
        const char *key = key_of(&x->clip[i], by_id, id);
        int64_t at = key ? es_names_add(k->names, key, err) : 0;
        if (at < 0) return -ES_EIO;
        if (key) k->sources[at] |= 1u << x->clip[i].source;
    }
    return 0;
}

static int64_t in_both(const struct keys *k, int a, int b) {
    uint32_t both = 1u << a | 1u << b;
    int64_t n = 0;
    for (int64_t i = 0; i < es_names_count(k->names); i++) n += (k->sources[i] & both) == both;
    return n;
}

static void count(const struct prep *x, const struct keys k[2], struct es_prepare_report *r) {
    r->n_overlaps = 0;
    for (int a = 0; a < x->p->n_sources; a++)
        for (int b = a + 1; b < x->p->n_sources; b++) {
            struct es_prepare_overlap o = {a, b, in_both(&k[0], a, b), in_both(&k[1], a, b)};
            if (o.names > 0 || o.ids > 0) r->overlap[r->n_overlaps++] = o;
        }
}

/* Where a set is described. */
static const char *table_of(const struct prep *x, int source) {
    const struct es_prepare_source *s = &x->p->source[source];
    return s->labels && s->labels[0] ? s->labels : s->audio;
}

static int bad_overlap(struct prep *x, const struct prep_clip *c, struct es_err *err) {
    char line[32] = "";
    if (c->line > 0) snprintf(line, sizeof line, ":%lld", (long long)c->line);
    es_err_set(err, ES_EDATA, "%s%s: filename: %s of %s is also in %s (%s); name it in an exclusion list",
               table_of(x, c->source), line, c->name, prep_name(x, c->source), prep_name(x, c->other),
               table_of(x, c->other));
    return prep_problem(x, -ES_EDATA, err);
}

static int leave_out(struct prep *x, const struct keys k[2], struct es_err *err) {
    uint32_t forbidden[ES_PREPARE_MAX_SOURCES] = {0};
    char id[ES_YOUTUBE_ID + 1];
    for (int a = 0; a < x->p->n_sources; a++)
        for (int b = 0; b < x->p->n_sources; b++)
            if (a != b && must_not_share(&x->p->source[a], &x->p->source[b])) forbidden[a] |= 1u << b;
    for (int64_t i = 0; i < x->n_clips; i++) {
        struct prep_clip *c = &x->clip[i];
        uint32_t also = 0;
        if (c->split != 0 || c->out != ES_PREPARE_STAYS) continue;
        for (int by_id = 0; by_id < 2; by_id++) {
            const char *key = key_of(c, by_id, id);
            if (key) also |= k[by_id].sources[es_names_find(k[by_id].names, key)] & forbidden[c->source];
        }
        if (!also) continue;
        while (!(also & 1u << c->other)) c->other++;
        if (x->p->strict || !x->p->overlap_exclude) ES_TRY(bad_overlap(x, c, err));
        if (x->p->overlap_exclude) c->out = ES_PREPARE_OVERLAP;
    }
    return 0;
}

/* Clips that an exclusion list names: training clips of its set. */
static int read_list(struct prep *x, int source, struct es_err *err) {
    static const char *const columns[] = {"filename"};
    const char *path = x->p->source[source].exclude;
    struct es_names *listed = NULL;
    struct es_tsv *t = NULL;
    int rc;
    if (!path || !path[0]) return 0;
    ES_GO(es_names_new(&listed, err));
    ES_GO(es_tsv_open(&t, path, columns, 1, 0, err));
    for (int64_t i = 0; i < es_tsv_rows(t); i++) {
        const char *stem = prep_stem(x, es_tsv_text(t, i, 0), err);
        if (!stem || es_names_add(listed, stem, err) < 0) ES_GO(-ES_EIO);
    }
    for (int64_t i = 0; i < x->n_clips; i++) {
        struct prep_clip *c = &x->clip[i];
        if (c->source == source && c->split == 0 && c->out == ES_PREPARE_STAYS &&
            es_names_find(listed, c->name) >= 0)
            c->out = ES_PREPARE_LISTED;
    }
done:
    es_tsv_close(&t);
    es_names_free(&listed);
    return rc;
}

int prep_exclude(struct prep *x, struct es_prepare_report *r, struct es_err *err) {
    struct keys k[2] = {{NULL, NULL}};
    int rc = 0;
    for (int s = 0; s < x->p->n_sources; s++) ES_GO(read_list(x, s, err));
    for (int by_id = 0; by_id < 2; by_id++) ES_GO(collect(x, by_id, &k[by_id], err));
    count(x, k, r);
    rc = leave_out(x, k, err);
done:
    for (int by_id = 0; by_id < 2; by_id++) {
        es_free(&k[by_id].sources);
        es_names_free(&k[by_id].names);
    }
    return rc;
}

/* Rank 0: the lists that would have left out the same clips. */
int prep_write_exclude(const struct prep *x, struct es_err *err) {
    if (!x->p->exclude_out || es_comm_rank(x->comm) != 0) return 0;
    for (int s = 0; s < x->p->n_sources; s++) {
        struct es_text t = {0};
        int64_t n = 0;
        char path[1024];
        es_text_add(&t, "filename\n");
        for (int64_t i = 0; i < x->n_clips; i++) {
            const struct prep_clip *c = &x->clip[i];
            if (c->source != s || c->out != ES_PREPARE_OVERLAP) continue;
            es_text_add(&t, "%s.wav\n", c->name);
            n++;
        }
        snprintf(path, sizeof path, "%s/%s_exclude.tsv", x->p->exclude_out, prep_name(x, s));
        int rc = es_text_check(&t, err);
        if (rc == 0 && n > 0) rc = es_text_save(path, t.s, t.n, err);
        es_text_free(&t);
        if (rc < 0) return rc;
    }
    return 0;
}
