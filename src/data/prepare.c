/* Preparing a store: tables -> files -> lengths -> splits and exclusions -> description -> samples. */
#include "earshot/prepare.h"

#include <stdio.h>
#include <string.h>

#include "earshot/hash.h"
#include "earshot/log.h"
#include "earshot/mem.h"
#include "earshot/resample.h"
#include "earshot/text.h"

#include "prepare_impl.h"

void es_prepare_params_default(struct es_prepare_params *p) {
    *p = (struct es_prepare_params){.weak_fraction = 0.9,
                                    .maestro_fraction = 0.9,
                                    .split_seed = 42,
                                    .overlap_exclude = true,
                                    .float32_times = true};
}

static void prep_fini(struct prep *x) {
    es_free(&x->file);
    es_free(&x->mark);
    es_free(&x->event);
    es_free(&x->clip);
    es_free(&x->mid_label);
    es_names_free(&x->file_key);
    es_names_free(&x->mids);
    es_names_free(&x->classes);
    es_names_free(&x->text);
}

static int prep_init(struct prep *x, const struct es_comm *comm, const struct es_prepare_params *p,
                     struct es_err *err) {
    *x = (struct prep){.comm = comm, .p = p};
    ES_TRY(es_names_new(&x->text, err));
    ES_TRY(es_names_new(&x->classes, err));
    ES_TRY(es_names_new(&x->mids, err));
    return es_names_new(&x->file_key, err);
}

/* ---- splits and exclusions */

static int split_weak(struct prep *x, struct es_err *err) {
    int64_t n = 0, at = 0;
    for (int64_t i = 0; i < x->n_clips; i++)
        n += x->clip[i].subset == ES_SUBSET_WEAK && x->clip[i].split == 0;
    int64_t *perm = es_alloc((size_t)n, sizeof *perm, err);
    uint8_t *split = es_alloc((size_t)n, sizeof *split, err);
    int rc = perm && split ? 0 : -ES_EIO;
    if (rc == 0) es_split_weak(n, x->p->weak_fraction, x->p->split_seed, perm, split);
    for (int64_t i = 0; rc == 0 && i < x->n_clips; i++)
        if (x->clip[i].subset == ES_SUBSET_WEAK && x->clip[i].split == 0) x->clip[i].split = split[at++];
    es_free(&split);
    es_free(&perm);
    return rc;
}

/* Names of `from` are left out of the training clips of `of`. */
static const struct {
    enum es_subset of, from;
} overlaps[] = {{ES_SUBSET_STRONG_REAL, ES_SUBSET_VALIDATION}, {ES_SUBSET_WEAK, ES_SUBSET_VALIDATION},
                {ES_SUBSET_WEAK, ES_SUBSET_STRONG_REAL},       {ES_SUBSET_UNLABELED, ES_SUBSET_VALIDATION},
                {ES_SUBSET_UNLABELED, ES_SUBSET_STRONG_REAL},  {ES_SUBSET_MAESTRO, ES_SUBSET_MAESTRO_TEST},
                {ES_SUBSET_AS_TRAIN, ES_SUBSET_AS_EVAL}}; /* not SYNTH: its names are numbers in every set */

static int exclude_overlaps(struct prep *x, struct es_err *err) {
    struct es_names *names[ES_N_SUBSETS] = {NULL};
    int rc = 0;
    for (int s = 0; rc == 0 && s < ES_N_SUBSETS; s++) rc = es_names_new(&names[s], err);
    for (int64_t i = 0; rc == 0 && i < x->n_clips; i++)
        if (es_names_add(names[x->clip[i].subset], x->clip[i].name, err) < 0) rc = -ES_EIO;
    for (int64_t i = 0; rc == 0 && i < x->n_clips; i++)
        for (size_t k = 0; k < sizeof overlaps / sizeof *overlaps; k++) {
            struct prep_clip *c = &x->clip[i];
            if (c->subset == overlaps[k].of && c->split == 0 &&
                es_names_find(names[overlaps[k].from], c->name) >= 0)
                c->drop = (uint8_t)(1 + overlaps[k].from);
        }
    for (int s = 0; s < ES_N_SUBSETS; s++) es_names_free(&names[s]);
    return rc;
}

/* ---- the description of the store */

struct built {
    struct es_store_desc desc;
    int64_t n;    /* clips kept */
    int64_t *row; /* of each clip in the store, -1: left out */
    const char **class_name, **clip_name, **recording;
    uint8_t *subset, *split, *weak;
    int64_t *reserved, *index;
    double *duration_s;
    struct es_event *event;
};

static void built_free(struct built *b) {
    es_free(&b->row);
    es_free(&b->class_name);
    es_free(&b->clip_name);
    es_free(&b->recording);
    es_free(&b->subset);
    es_free(&b->split);
    es_free(&b->weak);
    es_free(&b->reserved);
    es_free(&b->index);
    es_free(&b->duration_s);
    es_free(&b->event);
}

static int built_alloc(struct built *b, const struct prep *x, struct es_err *err) {
    size_t n = (size_t)b->n, k = (size_t)es_names_count(x->classes);
    bool ok = (b->class_name = es_alloc(k, sizeof *b->class_name, err)) != NULL;
    ok = ok && (b->clip_name = es_alloc(n, sizeof *b->clip_name, err)) != NULL;
    ok = ok && (b->recording = es_alloc(n, sizeof *b->recording, err)) != NULL;
    ok = ok && (b->subset = es_alloc(n, 1, err)) != NULL && (b->split = es_alloc(n, 1, err)) != NULL;
    ok = ok && (b->weak = es_alloc(n * k, 1, err)) != NULL;
    ok = ok && (b->reserved = es_alloc(n, sizeof *b->reserved, err)) != NULL;
    ok = ok && (b->duration_s = es_alloc(n, sizeof *b->duration_s, err)) != NULL;
    ok = ok && (b->index = es_alloc(n + 1, sizeof *b->index, err)) != NULL;
    ok = ok && (b->event = es_alloc((size_t)x->n_events, sizeof *b->event, err)) != NULL;
    return ok ? 0 : -ES_EIO;
}

/* Events of the clips that stay, clip by clip, in the order of the tables; AudioSet's are merged. */
static void build_events(struct built *b, const struct prep *x) {
    for (int64_t i = 0; i < x->n_events; i++)
        if (b->row[x->event[i].clip] >= 0) b->index[b->row[x->event[i].clip] + 1]++;
    for (int64_t r = 0; r < b->n; r++) b->index[r + 1] += b->index[r];
    for (int64_t i = 0; i < x->n_events; i++)
        if (b->row[x->event[i].clip] >= 0) b->event[b->index[b->row[x->event[i].clip]]++] = x->event[i].e;
    for (int64_t r = b->n; r > 0; r--) b->index[r] = b->index[r - 1];
    b->index[0] = 0;
    int64_t to = 0;
    for (int64_t r = 0; r < b->n; r++) {
        int64_t from = b->index[r], n = b->index[r + 1] - from;
        if (prep_is_audioset((enum es_subset)b->subset[r]))
            n = es_labels_merge(b->event + from, es_int_from_i64(n));
        memmove(b->event + to, b->event + from, (size_t)n * sizeof *b->event);
        b->index[r] = to;
        to += n;
    }
    b->index[b->n] = to;
}

/* Files that changed since an interrupted run are read again, all of them. */
static int inputs(const struct prep *x, uint64_t *digest, struct es_err *err) {
    struct es_hash *h = NULL;
    ES_TRY(es_hash_new(&h, err));
    for (int64_t i = 0; i < x->n_files; i++) es_hash_update(h, &x->file[i].stamp, sizeof x->file[i].stamp);
    *digest = es_hash_value(h);
    es_hash_free(&h);
    return 0;
}

static int build(struct built *b, const struct prep *x, struct es_err *err) {
    *b = (struct built){.row = es_alloc((size_t)x->n_clips, sizeof *b->row, err)};
    if (!b->row) return -ES_EIO;
    for (int64_t i = 0; i < x->n_clips; i++)
        b->row[i] = x->clip[i].drop || x->file[x->clip[i].file].found < 0 ? -1 : b->n++;
    ES_TRY(built_alloc(b, x, err));
    for (int64_t k = 0; k < es_names_count(x->classes); k++) b->class_name[k] = es_names_get(x->classes, k);
    for (int64_t i = 0; i < x->n_clips; i++) {
        const struct prep_clip *c = &x->clip[i];
        int64_t r = b->row[i], first, n;
        if (r < 0) continue;
        ES_TRY(prep_window(x, c, &first, &n, err));
        b->clip_name[r] = c->name;
        b->recording[r] = c->recording;
        b->subset[r] = c->subset;
        b->split[r] = c->split;
        b->reserved[r] = es_resample_length(n, x->file[c->file].rate_hz, ES_STORE_RATE_HZ);
        b->duration_s[r] = c->duration_s >= 0 ? c->duration_s : (double)n / x->file[c->file].rate_hz;
    }
    int64_t K = es_names_count(x->classes);
    for (int64_t i = 0; i < x->n_marks; i++)
        if (b->row[x->mark[i].clip] >= 0) b->weak[b->row[x->mark[i].clip] * K + x->mark[i].label] = 1;
    build_events(b, x);
    b->desc = (struct es_store_desc){.n_clips = b->n,
                                     .n_classes = es_int_from_i64(K),
                                     .class_name = b->class_name,
                                     .clip_name = b->clip_name,
                                     .recording = b->recording,
                                     .subset = b->subset,
                                     .split = b->split,
                                     .reserved = b->reserved,
                                     .duration_s = b->duration_s,
                                     .event_index = b->index,
                                     .event = b->event,
                                     .weak = b->weak};
    return inputs(x, &b->desc.inputs, err);
}

/* All ranks have read the same tables and folders? */
static int same_all(const struct es_comm *comm, const struct built *b, const struct es_prepare_params *p,
                    struct es_err *err) {
    struct es_hash *h = NULL;
    uint64_t mine = 0, first;
    int rc = es_hash_new(&h, err);
    if (rc == 0) {
        for (int64_t r = 0; r < b->n; r++) es_hash_string(h, b->clip_name[r]);
        es_hash_update(h, b->reserved, (size_t)b->n * sizeof *b->reserved);
        es_hash_update(h, b->split, (size_t)b->n);
        es_hash_update(h, b->event, (size_t)b->index[b->n] * sizeof *b->event);
        mine = es_hash_value(h);
    }
    es_hash_free(&h);
    first = mine;
    es_comm_bcast_all(comm, &first, sizeof first, 0);
    if (rc == 0 && first != mine)
        rc =
            es_err_set(err, ES_EDATA, "%s: the nodes do not see the same tables or folders of audio", p->out);
    return es_err_agree_all(comm, rc, err);
}

static bool missing(const struct prep *x, const struct prep_clip *c) {
    return !c->drop && x->file[c->file].found < 0;
}

/* One line a subset, and the first names of those whose audio is missing. */
static void report(const struct prep *x, const struct built *b) {
    for (int s = 0; s < ES_N_SUBSETS; s++) {
        int64_t n[2] = {0}, events = 0, n_excluded = 0, n_missing = 0;
        double hours = 0;
        char names[400] = "";
        for (int64_t i = 0; i < x->n_clips; i++) {
            const struct prep_clip *c = &x->clip[i];
            int64_t r = b->row[i];
            if (c->subset != s) continue;
            n_excluded += c->drop > 0;
            if (missing(x, c) && n_missing++ < 5) {
                size_t used = strlen(names);
                snprintf(names + used, sizeof names - used, " %.75s", c->name);
            }
            if (r < 0) continue;
            n[c->split]++;
            events += b->index[r + 1] - b->index[r];
            hours += b->duration_s[r] / 3600;
        }
        if (n[0] + n[1] + n_excluded + n_missing > 0)
            es_log(ES_LOG_INFO,
                   "prepare subset=%s training=%lld validation=%lld events=%lld hours=%.3g excluded=%lld "
                   "missing=%lld",
                   es_subset_name((enum es_subset)s), (long long)n[0], (long long)n[1], (long long)events,
                   hours, (long long)n_excluded, (long long)n_missing);
        if (n_missing > 0)
            es_log(ES_LOG_WARN, "prepare: %s: %lld clips without audio were left out:%s%s",
                   es_subset_name((enum es_subset)s), (long long)n_missing, names,
                   n_missing > 5 ? " ... (all: --left-out FILE)" : "");
    }
}

/* The table of clips that are not in the store, and why. Rank 0 writes. */
static int write_left_out(const struct prep *x, struct es_err *err) {
    struct es_text t = {0};
    if (!x->p->left_out || es_comm_rank(x->comm) != 0) return 0;
    es_text_add(&t, "filename\tsubset\treason\n");
    for (int64_t i = 0; i < x->n_clips; i++) {
        const struct prep_clip *c = &x->clip[i];
        if (c->drop)
            es_text_add(&t, "%s\t%s\talso in %s\n", c->name, es_subset_name((enum es_subset)c->subset),
                        es_subset_name((enum es_subset)(c->drop - 1)));
        else if (missing(x, c))
            es_text_add(&t, "%s\t%s\tno audio in %s\n", c->name, es_subset_name((enum es_subset)c->subset),
                        x->file[c->file].dir);
    }
    int rc = es_text_check(&t, err);
    if (rc == 0) rc = es_text_save(x->p->left_out, t.s, t.n, err);
    es_text_free(&t);
    return rc;
}

static int read_tables_all(struct prep *x, const struct es_comm *comm, const struct es_prepare_params *p,
                           struct es_err *err) {
    int rc = prep_init(x, comm, p, err);
    if (rc == 0) rc = prep_read_tables(x, err);
    return es_err_agree_all(comm, rc, err);
}

int es_prepare_all(const struct es_comm *comm, const struct es_prepare_params *p, uint64_t *digest,
                   struct es_err *err) {
    struct es_err own = {0};
    struct prep x;
    struct built b = {0};
    struct es_store_writer *w = NULL;
    int rc;
    if (!err) err = &own;
    ES_GO(read_tables_all(&x, comm, p, err));
    ES_GO(prep_probe_all(&x, err));
    rc = prep_read_annotations(&x, err);
    if (rc == 0) rc = split_weak(&x, err);
    if (rc == 0) rc = prep_split_recordings(&x, err);
    if (rc == 0 && p->overlap_exclude) rc = exclude_overlaps(&x, err);
    if (rc == 0) rc = build(&b, &x, err);
    ES_GO(es_err_agree_all(comm, rc, err));
    ES_GO(same_all(comm, &b, p, err));
    report(&x, &b);
    ES_GO(es_err_agree_all(comm, write_left_out(&x, err), err));
    ES_GO(es_store_create_all(&w, comm, p->out, &b.desc, err));
    rc = prep_write_all(&x, w, b.row, err);
    rc = es_store_commit_all(&w, rc, digest, err);
done:
    built_free(&b);
    prep_fini(&x);
    return rc;
}

int es_prepare_check_all(const struct es_comm *comm, const struct es_prepare_params *p, int64_t *n_clips,
                         struct es_err *err) {
    struct es_err own = {0};
    struct prep x;
    int rc = read_tables_all(&x, comm, p, err ? err : &own);
    if (rc == 0 && n_clips) *n_clips = x.n_clips;
    prep_fini(&x);
    return rc;
}
